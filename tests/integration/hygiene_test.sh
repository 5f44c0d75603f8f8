#!/bin/bash
# Cycles of create, start, stop and remove, and kills of the daemon in the middle of them, leave the machine as it was: processes, mounts, cgroups,
# namespaces, files, descriptors, and the daemon's memory. HYGIENE_CYCLES and HYGIENE_KILLS say how many; `make hygiene` runs 1,000 and 100.
. "$(dirname "$0")/lib.sh"
. "$here/images.sh"

cycles=${HYGIENE_CYCLES:-30}
kills=${HYGIENE_KILLS:-5}
seed=${SEED:-$RANDOM}
RANDOM=$seed
say "SEED=$seed cycles=$cycles kills=$kills"

shoal_() { sh_ a "$@"; }

# --- what is looked at -----------------------------------------------------------------------------------------------

ours() { # the node's processes: all in this pid namespace but the test's
    local p
    for p in /proc/[0-9]*; do
        case $(readlink "$p/exe" 2>/dev/null) in
        '' | */bash | */curl | "$build/shoal" | /usr/bin/*) ;;
        *) echo "${p#/proc/}" ;;
        esac
    done
}

descriptors() { # PID: what kinds and how many; a number in a name differs from life to life
    find "/proc/$1/fd" -mindepth 1 -printf '%l\n' 2>/dev/null | sed -E 's/:\[[0-9]+\]//; s/[0-9a-f]{12,}/ID/g' | sort | uniq -c | sed "s/^/  $2 /"
}

look() {
    local pids p
    pids=$(ours)
    echo "processes:"
    for p in $pids; do cat "/proc/$p/comm" 2>/dev/null; done | sort | uniq -c
    echo "descriptors:"
    descriptors "$(node_pid a)" shoald
    descriptors "$(keeper_pid a)" keeper
    echo "namespaces:"
    for p in $pids; do find "/proc/$p/ns" "/proc/$p/fd" -mindepth 1 -printf '%l\n' 2>/dev/null | grep -E '^(cgroup|ipc|mnt|net|pid|time|user|uts):'; done | sort -u | cut -d: -f1 | uniq -c
    echo "mounts: $(wc -l </proc/self/mountinfo)"
    echo "links: $(ip -o link | wc -l)"
    echo "cgroups:"
    find /sys/fs/cgroup -type d -path "*/$cgroup*" | sed -E 's/[0-9a-f]{12,}/ID/g' | sort | uniq -c
    echo "files:"
    # Each life of a manager begins a segment of Raft's log; those go with the next snapshot, so they are counted in bytes, below.
    find "$work/a/data" "$work/a/run" -not -path '*/raft/log/*' 2>/dev/null | sed -E 's/[0-9a-f]{12,}/ID/g' | sort | uniq -c
}

settle() { # until nothing changes any more: two looks are the same
    local one two i
    one=$(look)
    for ((i = 0; i < 100 * slow; i++)); do
        pause 0.3
        two=$(look)
        [ "$one" != "$two" ] || break
        one=$two
    done
    printf '%s\n' "$two"
}

as_before() { # FILE: the machine is as it was when FILE was written
    local i
    for ((i = 0; i < 10 * slow; i++)); do
        look >"$work/after"
        cmp -s "$1" "$work/after" && return 0
        pause 1
    done
    diff -U 1 "$1" "$work/after"
}

pss() { awk -v kind="$1:" '$1 == kind { print $2 }' "/proc/$(node_pid a)/smaps_rollup"; } # KIND: KiB of shoald

# --- what is done ------------------------------------------------------------------------------------------------------

cycle() { # NUMBER: a container's whole life, of four kinds
    local c
    case $(($1 % 4)) in
    0)
        c=$(shoal_ create --network none --stop-signal KILL busy:1 sh -c 'echo hello; exec sleep 1000') && shoal_ start "$c" && shoal_ stop "$c" && shoal_ rm "$c"
        ;;
    1)
        c=$(shoal_ create --network none -v "anonymous$1:/data" -v /more --tmpfs /scratch -m 32m --pids-limit 20 busy:1 sh -c 'echo x >/data/x; exec sleep 1000') &&
            shoal_ start "$c" && shoal_ kill "$c" && shoal_ wait "$c" && shoal_ rm -v "$c" && shoal_ volume rm "anonymous$1"
        ;;
    2)
        c=$(shoal_ create --network none -t busy:1 sh -c 'tty; exit 3') && shoal_ start "$c" && [ "$(shoal_ wait "$c")" = 3 ] && shoal_ logs "$c" && shoal_ rm "$c"
        ;;
    3)
        c=$(shoal_ create --network host --read-only -u 1000 busy:1 sleep 1000) && shoal_ start "$c" && shoal_ rm -f "$c"
        ;;
    esac
}

cycles_of() { # COUNT
    local i
    for ((i = 0; i < $1; i++)); do
        cycle "$i" >"$work/cycle" 2>&1 || { echo "cycle $i:"; cat "$work/cycle"; return 1; }
    done
}

services_of() { # COUNT: services come, are scaled and go
    local i
    for ((i = 0; i < $1; i++)); do
        shoal_ service create -d --no-resolve-image --name "s$i" --replicas 2 --stop-signal KILL busy:1 sleep 1000 >/dev/null || return 1
        eventually 20 eval "equals \"\$(shoal_ service ls -f name=s$i --format '{{.Replicas}}')\" 2/2" || return 1
        shoal_ service scale -d "s$i=1" >/dev/null || return 1
        shoal_ service rm "s$i" >/dev/null || return 1
    done
    eventually 30 eval 'equals "$(shoal_ ps -aq | wc -l)" 2'
}

tidy() { # what a kill left half done is there to be removed
    shoal_ ps -aq | while read -r c; do
        case $(shoal_ inspect -f '{{.Name}}' "$c") in /bystander | /steady.*) ;; *) shoal_ rm -fv "$c" ;; esac
    done >/dev/null
    shoal_ volume ls -q | while read -r v; do shoal_ volume rm "$v"; done >/dev/null
}

kills_of() { # COUNT: the daemon is killed at some moment of a cycle, every tenth time the keeper too
    local i
    for ((i = 0; i < $1; i++)); do
        (cycle "$i" >/dev/null 2>&1) &
        pause "0.0$((RANDOM % 90 + 10))"
        node_kill a
        [ $((i % 10)) -ne 9 ] || kill -KILL "$(keeper_pid a)"
        wait $!
        node_start a --warm 2:2 || return 1
        tidy || return 1
    done
}

# --- told ----------------------------------------------------------------------------------------------------------------

node_start a --warm 2:2 || exit 1 # a pool of one size
node_image a busy:1 || exit 1
shoal_ swarm init --advertise-addr 127.0.0.1 >/dev/null
shoal_ service create -d --no-resolve-image --name steady busy:1 sleep 100000 >/dev/null
shoal_ create --network none --name bystander busy:1 sleep 100000 >/dev/null
shoal_ start bystander >/dev/null
eventually 20 eval 'equals "$(shoal_ ps -q | wc -l)" 2' >/dev/null
bystander=$(shoal_ inspect -f '{{.State.Pid}} {{.State.StartedAt}}' bystander)

# Once of everything first: what is made once and kept (compiled filters, the pool's full size) is not what is looked for.
cycles_of 24 >/dev/null
services_of 2 >/dev/null
settle >"$work/before"
memory=$(pss Pss) own=$(pss Pss_Anon)
# Freed memory goes back to the kernel when the daemon has a quiet moment.
memory_as_before() { # KIND KIB
    local now
    now=$(pss "$1")
    echo "$1 $2 KiB before, $now KiB now"
    [ $((now - $2)) -le 1024 ]
}
check_memory() { # NAME KIND KIB
    case $build in
    */asan | */tsan) skip "$1" "sanitizers keep freed memory" ;;
    *) check "$1" eventually 60 memory_as_before "$2" "$3" ;;
    esac
}
check "$cycles cycles" cycles_of "$cycles"
check_memory "the daemon's memory is as it was, to 1 MiB" Pss "$memory"
say "shoald PSS $memory KiB before, $(pss Pss) KiB after $cycles cycles"
check "services come and go" services_of $((cycles / 10))
check "the machine is as it was" as_before "$work/before"
# The database is a cache of the log in pages of its file; what the daemon allocates is what could leak.
check_memory "what it allocates too, to 1 MiB" Pss_Anon "$own"
say "shoald's own memory $own KiB before, $(pss Pss_Anon) KiB after $((cycles / 10)) services"
check "$kills kills of the daemon" kills_of "$kills"
check "the machine is as it was after the kills" as_before "$work/before"
check "Raft's log is within its bounds" [ "$(du -sk "$work/a/data/swarm/manager/raft/log" | cut -f1)" -le 131072 ]
check "the bystander never noticed" equals "$(shoal_ inspect -f '{{.State.Pid}} {{.State.StartedAt}}' bystander)" "$bystander"
check "the service runs on" equals "$(shoal_ service ls --format '{{.Replicas}}')" 1/1
shoal_ service rm steady >/dev/null
shoal_ rm -f bystander >/dev/null
eventually 20 eval 'equals "$(shoal_ ps -aq)" ""' >/dev/null
shoal_ swarm leave --force >/dev/null
node_stop a
check "a stopped node without containers leaves the keeper alone" eventually 10 eval '[ -z "$(ours | while read -r p; do readlink /proc/$p/exe; done | grep -v shoal-keeper)" ]'
finish
