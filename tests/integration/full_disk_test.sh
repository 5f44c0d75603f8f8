#!/bin/bash
# The node's disk fills up: what needs space is refused and says so, what runs runs on, and when there is space again all goes on, without a restart.
. "$(dirname "$0")/lib.sh"
. "$here/images.sh"

shoal_() { sh_ a "$@"; }
replicas() { shoal_ service ls -f name=web --format '{{.Replicas}}'; }
settled() { eventually 40 eval "equals \"\$(replicas)\" $1"; }
fill() { dd if=/dev/zero of="$work/a/data/filler" bs=64k oflag=append conv=notrunc 2>/dev/null; head -c 4096 /dev/zero >>"$work/a/data/filler" 2>/dev/null; }
is_full() { ! head -c 8192 /dev/zero >"$work/a/data/probe" 2>/dev/null; local r=$?; rm -f "$work/a/data/probe"; return $r; }
free() { rm "$work/a/data/filler"; }
within() { # SECONDS COMMAND...: it ends in time, well or with an error that names the cause; nothing hangs
    local seconds=$(($1 * slow)) said rc
    shift
    said=$(timeout "$seconds" shoal --host "unix://$work/a/api.sock" "$@" 2>&1)
    rc=$?
    [ $rc -ne 124 ] || { echo "hangs: $*"; return 1; }
    [ $rc -eq 0 ] || grep -qiE 'no space left|disk is full|disk full' <<<"$said" || { echo "does not say why: $said"; return 1; }
    echo "status $rc: $said"
}

mkdir -p "$work/a/data"
mount -t tmpfs -o size=80m shoal-full "$work/a/data" || skip_all "no tmpfs can be mounted"
node_start a || exit 1
node_image a busy:1 || exit 1
shoal_ swarm init --advertise-addr 127.0.0.1 >/dev/null
shoal_ service create -d --no-resolve-image --name web --replicas 2 --stop-signal KILL busy:1 sleep 100000 >/dev/null
shoal_ create --network none --name talk busy:1 sh -c 'while :; do echo "a line of output"; usleep 20000; done' >/dev/null
shoal_ start talk >/dev/null
settled 2/2 >/dev/null || { echo "not ok a service runs"; failures=1; finish; }
image_busybox "$work/images" busy:2 '{"Env":["A=2"]}' plain
rm -f "$work/images.tar"
oci_archive "$work/images" "$work/images.tar"
daemon=$(node_pid a) keeper=$(keeper_pid a)
pids() { for c in $(shoal_ ps -q | sort); do shoal_ inspect -f '{{.State.Pid}}' "$c"; done; }
before=$(pids)
steady=$(for c in $(shoal_ ps -q -f label=com.docker.swarm.service.name=web); do shoal_ inspect -f '{{.State.Pid}}' "$c"; done)
images=$(shoal_ images -q | sort)

fill
check "the disk is full" is_full
check "loading an image is refused and says why" fails_with 1 "No space left on device" shoal_ load -i "$work/images.tar"
check "nothing of it is there" equals "$(shoal_ images -q | sort)" "$images"
check "creating a container says why, if it cannot be" within 20 create --network none --name full busy:1 true
check "creating a volume says why, if it cannot be" within 20 volume create full
check "scaling ends in time" within 30 service scale -d web=3
check "a service is created, or it is said why not" within 30 service create -d --no-resolve-image --name second busy:1 sleep 1000
check "what is read is answered" eval 'shoal_ ps -q && shoal_ service ls && shoal_ info >/dev/null'
check "what ran runs on" eval '[ -n "$before" ] && for p in $(echo "$before"); do [ -d "/proc/$p" ] || exit 1; done'
check "the daemon and the keeper are the same" eval 'equals "$(node_pid a) $(keeper_pid a)" "$daemon $keeper" && [ -d "/proc/$daemon" ]'
check "stopping and removing needs no space" within 30 rm -f talk
free
check "space again: the service has what was asked for" eval 'w=$(api a GET /services/web | jq .Spec.Mode.Replicated.Replicas) && settled "$w/$w"'
check "scaling works" eval 'eventually 40 shoal_ service scale -d web=4 && settled 4/4'
check "images are loaded" eventually 20 shoal_ load -q -i "$work/images.tar"
check "containers run" eval 'shoal_ rm -f full >/dev/null 2>&1; shoal_ create --network none --name after busy:1 echo works && shoal_ start after && equals "$(shoal_ wait after)" 0 && equals "$(shoal_ logs after)" works && shoal_ rm after'
check "the daemon was never restarted" eval '[ -d "/proc/$daemon" ] && equals "$(node_pid a)" "$daemon"'

# Killed while the disk is full, and started on it.
fill
node_kill a
shoald --data-dir "$work/a/data" --run-dir "$work/a/run" --host "unix://$work/a/api.sock" --cgroup-parent "$cgroup/a" >>"$work/a/log" 2>&1 &
second=$!
disown $second
pause 3
check "started on a full disk it serves, or has ended saying why" eval 'if process_ended $second; then tail -n 3 "$work/a/log" | grep -iE "no space left"; else eventually 20 api a GET /_ping; fi'
free
process_ended $second && { node_start a || exit 1; } || echo $second >"$work/a/pid"
check "then all is as it was" eval 'settled 4/4 && [ -n "$steady" ] && for p in $(echo "$steady"); do [ -d "/proc/$p" ] || exit 1; done'
shoal_ service rm web second >/dev/null 2>&1
check "all of it can be removed" eventually 30 eval 'equals "$(shoal_ ps -aq)" ""'
node_stop a
finish
