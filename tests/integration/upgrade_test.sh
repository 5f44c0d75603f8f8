#!/bin/bash
# shoal is upgraded under containers that run: shoald is replaced, and its keeper takes the new program in its place. Nothing of the containers changes.
. "$(dirname "$0")/lib.sh"
. "$here/images.sh"

shoal_() { sh_ a "$@"; }
replicas() { shoal_ service ls -f name=web --format '{{.Replicas}}'; }
containers() { # what must stay as it is
    local id
    for id in $(shoal_ ps -q --no-trunc | sort); do
        shoal_ inspect -f '{{.Id}} {{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}}' "$id"
    done
}
runs_program() { cmp -s "/proc/$(keeper_pid a)/exe" "$1"; }

# The programs of "the next version": the same ones with another tail, which the loader does not look at.
old=$work/old new=$work/new broken=$work/broken
mkdir -p "$old" "$new" "$broken"
cp "$build"/shoald "$build"/shoal-keeper "$build"/shoal-job "$old"
cp "$old"/* "$new"
printf 'the next version' >>"$new/shoal-keeper"
cp "$new"/* "$broken"
printf '#!/bin/false\n' >"$broken/shoal-keeper"

PATH=$old:$PATH node_start a || exit 1
node_image a busy:1 || exit 1
shoal_ swarm init --advertise-addr 127.0.0.1 >/dev/null
shoal_ service create -d --no-resolve-image --name web --replicas 3 --stop-signal KILL busy:1 sh -c 'i=0; while :; do echo "line $i"; i=$((i + 1)); usleep 20000; done' >/dev/null
shoal_ run -d --network none -t --name screen busy:1 sh -c 'while :; do echo on a terminal; sleep 0.1; done' >/dev/null
check "a service runs" eventually 20 eval 'equals "$(replicas)" 3/3'
check "the keeper runs the old program" runs_program "$old/shoal-keeper"
before=$(containers) keeper=$(keeper_pid a)

node_stop a
PATH=$new:$PATH node_start a || exit 1
check "the keeper takes the new program" eventually 20 runs_program "$new/shoal-keeper"
check "in its own place" equals "$(keeper_pid a)" "$keeper"
check "the containers are the same" eval 'equals "$(containers)" "$before"'
check "containers are started by it" eval 'equals "$(shoal_ run --rm --network none busy:1 echo hello)" hello'
check "scaling works" eval 'shoal_ service scale -d web=5 >/dev/null && eventually 20 eval "equals \"\$(replicas)\" 5/5"'
check "back to the old one" eval 'node_kill a && PATH=$old:$PATH node_start a && eventually 20 runs_program "$old/shoal-keeper"'
before=$(containers)

node_stop a
PATH=$broken:$PATH node_start a || exit 1
check "a program that is none leaves the keeper as it was" eventually 20 grep -q "goes on with its old program" "$work/a/log"
check "it runs the old program" runs_program "$old/shoal-keeper"
check "and the containers run on" eval 'equals "$(containers)" "$before"'
check "and new ones start" eval 'equals "$(shoal_ run --rm --network none busy:1 echo hello)" hello'
node_stop a
PATH=$old:$PATH node_start a || exit 1

complete() { # of each task: every line once, in order
    local id
    for id in $(shoal_ ps -q --no-trunc -f label=com.docker.swarm.service.name=web); do
        shoal_ logs "$id" | awk '$2 != NR - 1 { print "line " NR - 1 " is " $0; exit 1 }' || return 1
    done
}
check "no line of output was lost" complete
shoal_ service rm web >/dev/null
shoal_ rm -f screen >/dev/null
check "all of it can be removed" eventually 30 eval 'equals "$(shoal_ ps -aq)" ""'
node_stop a
finish
