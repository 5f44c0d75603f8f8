#!/bin/bash
# Containers through our own client: their life, their output, what isolates and limits them.
. "$(dirname "$0")/lib.sh"
. "$here/images.sh"

node_start a || exit 1
node_image a busy:1 || exit 1
node_image a shaped:1 '{"Entrypoint":["/bin/echo","entry"],"Cmd":["command"],"Env":["PATH=/bin","FROM=image"],"WorkingDir":"/var","StopSignal":"SIGUSR1","Labels":{"made":"here"}}' || exit 1

shoal_() { sh_ a "$@" 2> >(grep -v "^WARNING: No network" >&2); }

# Run COMMAND in a container that is removed afterwards: prints its output, returns its status.
box() { # [OPTIONS of create]... -- COMMAND...
    local options=(--network none) id rc
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    id=$(shoal_ create "${options[@]}" "${box_image:-busy:1}" "$@") || return 125
    shoal_ start "$id" >/dev/null || { shoal_ rm "$id" >/dev/null; return 126; }
    rc=$(shoal_ wait "$id")
    shoal_ logs "$id" 2>&1
    shoal_ rm --volumes "$id" >/dev/null
    return "$rc"
}

prints() { # TEXT BOX...: the command in the box succeeds and prints exactly this
    local text=$1 said rc
    shift
    said=$("$@" 2>&1)
    rc=$?
    [ $rc -eq 0 ] || { echo "status $rc: $said"; return 1; }
    equals "$said" "$text"
}

state() { shoal_ inspect --format '{{.State.Status}} {{.State.ExitCode}}' "$1"; }
state_is() { equals "$(state "$1")" "$2"; }

# --- life ------------------------------------------------------------------------------------------------------------

id=$(shoal_ create --name one busy:1 sh -c 'trap "exit 7" TERM; trap "echo usr1" USR1; echo ready; while :; do sleep 0.1; done')
check "create prints the id" equals "${#id}" 64
check "a created container is not running" state_is one "created 0"
check "its name is taken" fails_with 1 'Conflict. The container name "/one" is already in use by container "'"$id"'"' shoal_ create --name one busy:1
check "an unknown image is refused" fails_with 1 "nosuch:1" shoal_ create --pull never nosuch:1
check "start prints the name" equals "$(shoal_ start one)" one
check "start of what runs changes nothing" equals "$(shoal_ start one)" one
check "it runs" state_is one "running 0"
check "its output is there" eventually 10 eval 'equals "$(shoal_ logs one)" ready'
check "kill with a signal reaches it" eval 'shoal_ kill -s USR1 one && eventually 10 eval "equals \"\$(shoal_ logs one | tail -n 1)\" usr1" && state_is one "running 0"'
check "an unknown signal is refused" fails_with 1 "Invalid signal: NOSUCH" shoal_ kill -s NOSUCH one
check "rm of what runs is refused" fails_with 1 "container is running" shoal_ rm one
check "wait ends with it" eval '(shoal_ wait one >"$work/waited") & waiter=$!; shoal_ stop -t 10 one && wait $waiter && equals "$(cat "$work/waited")" 7'
check "stop is the stop signal, so its own status counts" state_is one "exited 7"
check "stop of what is stopped changes nothing" equals "$(shoal_ stop one)" one
check "kill of what is stopped is refused" fails_with 1 "is not running" shoal_ kill one
check "it starts again" eval 'shoal_ start one && state_is one "running 0"'
check "its output goes on" eventually 10 eval 'equals "$(shoal_ logs one | grep -c ready)" 2'
check "kill" eval 'shoal_ kill one && equals "$(shoal_ wait one)" 137'
check "rm" equals "$(shoal_ rm one)" one
check "what is removed is not found" fails_with 1 "No such container: one" shoal_ start one
check "the grace of a stop is kept" eval 'shoal_ create --name deaf busy:1 sh -c "trap : TERM; echo ready; while :; do sleep 0.1; done" && shoal_ start deaf && eventually 10 says ready shoal_ logs deaf &&
    began=$(date +%s%N) && shoal_ stop -t 1 deaf && took=$((($(date +%s%N) - began) / 1000000)) && [ $took -ge 1000 ] && state_is deaf "exited 137" && shoal_ rm deaf'
check "a stop signal of its own" eval 'shoal_ create --name sig --stop-signal INT busy:1 sh -c "trap \"exit 9\" INT; echo ready; while :; do sleep 0.1; done" && shoal_ start sig && eventually 10 says ready shoal_ logs sig && shoal_ stop sig && state_is sig "exited 9" && shoal_ rm sig'
check "restart is another life" eval 'shoal_ create --name again busy:1 sleep 1000 && shoal_ start again && p=$(shoal_ inspect -f "{{.State.Pid}}" again) && shoal_ restart -t 0 again && [ "$(shoal_ inspect -f "{{.State.Pid}}" again)" != "$p" ] && shoal_ rm -f again'
check "a command that is not there says so" eval 'shoal_ create --name bad busy:1 /no/such/program && fails_with 1 "/no/such/program" shoal_ start bad && state_is bad "created 127" && shoal_ rm bad'
check "a command that is no program says so" eval 'shoal_ create --name bad busy:1 /etc/passwd && fails_with 1 "permission denied" shoal_ start bad && state_is bad "created 126" && shoal_ rm bad'
check "exit statuses come through" eval 'for s in 0 1 42 255; do box -- sh -c "exit $s"; equals $? $s || exit 1; done'
check "a short life of many, none lost" eval 'for i in $(seq 20); do equals "$(box -- echo "$i")" "$i" || exit 1; done'

# --- lists -----------------------------------------------------------------------------------------------------------

shoal_ create --name run1 --label tier=front --label app=x busy:1 sleep 1000 >/dev/null
shoal_ create --name run2 --label tier=back busy:1 sleep 1000 >/dev/null
shoal_ create --name idle shaped:1 >/dev/null
shoal_ create --name over busy:1 sh -c 'exit 3' >/dev/null
shoal_ start run1 run2 over >/dev/null
shoal_ wait over >/dev/null
listed() { equals "$(shoal_ ps --format '{{.Names}}' "${@:2}" | sort | tr '\n' ' ')" "$1"; }
check "ps shows what runs" listed "run1 run2 "
check "ps -a shows all" listed "idle over run1 run2 " -a
check "ps -n" listed "over " -n 1
check "filter name" listed "run1 run2 " -f name=run
check "filter label" listed "run1 " -f label=tier=front
check "filter label without a value" listed "run1 run2 " -f label=tier
check "filter status" listed "over " -a -f status=exited
check "filter exited" listed "over " -a -f exited=3
check "filter ancestor" listed "idle " -a -f ancestor=shaped:1
check "filter before and since" eval 'listed "run1 " -a -f before=run2 && listed "over " -a -f since=idle'
check "an unknown filter is refused" fails_with 1 "invalid filter 'colour'" shoal_ ps -f colour=red
check "ps --size" says "0B (virtual" shoal_ ps -s -f name=run1
check "status column" eval 'contains "$(shoal_ ps -a -f name=over --format "{{.Status}}")" "Exited (3) " && contains "$(shoal_ ps -f name=run1 --format "{{.Status}}")" "Up "'
check "inspect is JSON" eval 'shoal_ inspect run1 | jq -e ".[0].Name == \"/run1\" and .[0].Config.Labels.tier == \"front\" and .[0].State.Running"'
check "inspect by a short id" eval 'i=$(shoal_ ps -q -f name=run1) && equals "$(shoal_ inspect -f "{{.Name}}" "${i:0:6}")" /run1'
check "rename" eval 'shoal_ rename idle lazy && listed "lazy " -a -f status=created'
check "rm -f" eval 'shoal_ rm -f run1 run2 lazy over && listed "" -a'

# --- output ----------------------------------------------------------------------------------------------------------

shoal_ create --name talk busy:1 sh -c 'for i in 1 2 3; do echo "out $i"; echo "err $i" >&2; sleep 0.2; done; sleep 1; echo late; exec sleep 1000' >/dev/null
shoal_ start talk >/dev/null
check "the streams are apart" eventually 20 eval 'equals "$(shoal_ logs talk 2>/dev/null | head -n 3)" $'"'out 1\nout 2\nout 3'"' && equals "$(shoal_ logs talk 2>&1 >/dev/null)" $'"'err 1\nerr 2\nerr 3'"
check "logs of everything so far" eventually 20 eval 'equals "$(shoal_ logs talk 2>/dev/null | tail -n 1)" late'
check "--tail" equals "$(shoal_ logs --tail 1 talk)" late
check "--tail 0" equals "$(shoal_ logs --tail 0 talk)" ""
stamped=$(shoal_ logs --timestamps talk 2>&1)
check "--timestamps" equals "$(grep -cE '^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{9}Z (out|err|late)' <<<"$stamped")" 7
late=$(grep late <<<"$stamped" | cut -d' ' -f1)
check "--since" equals "$(shoal_ logs --since "$late" talk 2>&1)" late
check "--until" eval 'u=$(shoal_ logs --until "$(grep "out 3" <<<"$stamped" | cut -d" " -f1)" talk 2>&1) && contains "$u" "out 2" && ! contains "$u" late'
check "--follow shows what comes and ends with the container" eval '
    shoal_ create --name stream busy:1 sh -c "echo first; sleep 1; echo second; sleep 0.3; echo third" && shoal_ start stream &&
    equals "$(timeout 20 shoal --host "unix://$work/a/api.sock" logs -f stream)" $'"'first\nsecond\nthird'"' && shoal_ rm stream'
check "--follow --tail" eval 'timeout 20 shoal --host "unix://$work/a/api.sock" logs -f --tail 1 talk >"$work/follow" & p=$!; eventually 10 grep -q late "$work/follow"; kill $p; equals "$(cat "$work/follow")" late'
check "a megabyte in long lines comes through whole" eval 'equals "$(box -- sh -c "dd if=/dev/zero bs=100000 count=10 2>/dev/null | tr \"\\0\" x; echo" | tr -d "\n" | wc -c)" 1000000'
check "lines without an end come through" eval 'equals "$(box -- printf "no end")" "no end"'
check "a terminal's output is one raw stream" eval 'equals "$(box -t -- sh -c "tty; test -t 1 && echo yes" | tr -d "\r")" $'"'/dev/pts/0\nyes'"
check "logs of what is not there" fails_with 1 "No such container: nobody" shoal_ logs nobody
shoal_ rm -f talk >/dev/null

# --- what runs: command, environment, user -----------------------------------------------------------------------------

box_image=shaped:1
check "the image's entrypoint and command" prints "entry command" box --
check "a command replaces the image's" prints "entry mine" box -- mine
check "an entrypoint replaces both" prints "alone" box --entrypoint echo -- alone
check "the image's environment and ours" prints "image given" box --entrypoint sh -e MINE=given -- -c 'echo $FROM $MINE'
check "ours replaces the image's" prints "me" box --entrypoint sh -e FROM=me -- -c 'echo $FROM'
check "the image's working directory" prints "/var" box --entrypoint pwd --
check "a working directory of ours" prints "/tmp" box --entrypoint pwd -w /tmp --
check "the image's labels and stop signal" eval 'c=$(shoal_ create shaped:1) && equals "$(shoal_ inspect -f "{{.Config.Labels.made}} {{.Config.StopSignal}}" $c)" "here SIGUSR1" && shoal_ rm $c'
box_image=busy:1
check "a working directory that is not there is made" prints "/made/up" box -w /made/up -- pwd
check "the host name" prints "web.example" box -h web.example -- hostname
check "the host name is the id when none is given" eval '[[ $(box -- hostname) =~ ^[0-9a-f]{12}$ ]]'
check "the host name stands in /etc/hosts" says "127.0.0.1" box -h boxed --add-host other:10.1.2.3 -- cat /etc/hosts
check "names of --add-host" says "10.1.2.3" box --add-host other:10.1.2.3 -- grep other /etc/hosts
check "resolv.conf" says "nameserver 192.0.2.1" box --dns 192.0.2.1 -- cat /etc/resolv.conf
check "root by default" prints "0:0" box -- sh -c 'echo $(id -u):$(id -g)'
check "a user by name" prints "65534:65534" box -u nobody -- sh -c 'echo $(id -u):$(id -g)'
check "a user by number with groups" prints "1000:1001 1001 7" box -u 1000:1001 --group-add 7 -- sh -c 'echo $(id -u):$(id -g) $(id -G)'
check "an unknown user is refused" eval 'c=$(shoal_ create -u ghost busy:1 true) && fails_with 1 "ghost" shoal_ start $c && shoal_ rm $c'
check "ulimits" prints "100 200" box --ulimit nofile=100:200 -- sh -c 'echo $(ulimit -Sn) $(ulimit -Hn)'
check "sysctls" prints "77" box --sysctl net.core.somaxconn=77 -- cat /proc/sys/net/core/somaxconn
check "an init is refused by name until it comes" fails_with 1 "HostConfig.Init" shoal_ create --init busy:1

# --- isolation ---------------------------------------------------------------------------------------------------------

check "it sees its own processes alone" prints "/proc/1" box -- sh -c 'echo /proc/[0-9]*'
check "namespaces are its own" eval 'for n in mnt pid ipc uts net cgroup; do own=$(box -- readlink /proc/self/ns/$n); [[ $own == "$n:["*"]" && $own != "$(readlink /proc/self/ns/$n)" ]] || { echo "$n: $own"; exit 1; }; done'
check "the host's root is out of sight" fails_with 1 "No such file" box -- ls "$work"
check "nothing of it is in the host's mount table" eval 'shoal_ create --name mounted -v data:/data --tmpfs /t busy:1 sleep 1000 && shoal_ start mounted && ! grep -E "overlay|$work/a" /proc/self/mountinfo; r=$?; shoal_ rm -fv mounted; shoal_ volume rm data; [ $r -eq 0 ]'
check "few capabilities" prints "00000000a80425fb" box -- sh -c 'grep CapEff /proc/self/status | cut -f2'
check "a capability dropped and one added" prints "00000000aa0425fa" box --cap-drop CHOWN --cap-add SYS_TIME -- sh -c 'grep CapEff /proc/self/status | cut -f2'
check "no capability at all" prints "0000000000000000" box --cap-drop ALL -- sh -c 'grep CapEff /proc/self/status | cut -f2'
check "a user that is not root has none in effect" prints "0000000000000000" box -u 1000 -- sh -c 'grep CapEff /proc/self/status | cut -f2'
check "an unknown capability is refused" fails_with 1 "NOSUCH" shoal_ create --cap-add NOSUCH busy:1
check "system calls are filtered" prints "2" box -- sh -c 'grep "^Seccomp:" /proc/self/status | cut -f2'
check "no filter when asked for" prints "0" box --security-opt seccomp=unconfined -- sh -c 'grep "^Seccomp:" /proc/self/status | cut -f2'
check "no new privileges when asked for" prints "1" box --security-opt no-new-privileges -- sh -c 'grep NoNewPrivs /proc/self/status | cut -f2'
check "mounting is refused" fails_with 1 "permission denied" box -- mount -t tmpfs none /tmp
check "making devices is limited" fails_with 1 "Operation not permitted" box -- sh -c "mknod /tmp/sda b 8 0 && cat /tmp/sda"
check "kernel files are masked" prints "0" box -- sh -c 'cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c'
check "kernel settings are read-only" eval 'for f in sys/kernel/panic sysrq-trigger; do [ ! -e "/proc/$f" ] || fails_with 1 "Read-only file system" box -- sh -c "echo b >/proc/$f" || exit 1; done'
check "devices are the usual ones" prints "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero " box -- sh -c 'ls /dev | tr "\n" " "'
check "nothing but 0, 1 and 2 is inherited" eval 'equals "$(box -v "$build/tests/integration/tools/inside:/inside:ro" -- /inside fds | cut -d" " -f1 | tr "\n" " ")" "0 1 2 "'
check "the keeper is out of reach" fails_with 1 "No such file" box -- ls -d "$work/a/run"

# --- file systems --------------------------------------------------------------------------------------------------------

check "its root can be written, and the image is not" eval 'box -- sh -c "echo x >/written && rm -r /var" && prints "" box -- sh -c "ls /written 2>/dev/null; test -d /var"'
check "a read-only root" fails_with 1 "Read-only file system" box --read-only -- sh -c 'echo x >/written'
check "a tmpfs with a size" prints "tmpfs 1024" box --tmpfs /scratch:size=1m -- sh -c 'df -k /scratch | awk "NR == 2 { print \$1, \$2 }"'
check "/dev/shm has the size asked for" prints "2048" box --shm-size 2m -- sh -c 'df -k /dev/shm | awk "NR == 2 { print \$2 }"'
mkdir -p "$work/shared"
echo host >"$work/shared/file"
check "a bind mount" eval 'prints host box -v "$work/shared:/in" -- cat /in/file && box -v "$work/shared:/in" -- sh -c "echo back >/in/out" && equals "$(cat "$work/shared/out")" back'
check "a read-only bind mount" fails_with 1 "Read-only file system" box -v "$work/shared:/in:ro" -- sh -c 'echo x >/in/file'
check "a bind mount of a file" prints host box -v "$work/shared/file:/etc/one:ro" -- cat /etc/one
check "a bind mount of what is not there is refused" fails_with 1 "$work/nosuch" shoal_ create --mount "type=bind,source=$work/nosuch,target=/in" busy:1
check "a bind mount that does not exist is made with -v" eval 'box -v "$work/made:/in" -- true && [ -d "$work/made" ]'
check "a relative source is refused" fails_with 1 "rel/ative" shoal_ create --mount type=bind,source=rel/ative,target=/in busy:1
check "a named volume keeps what is written" eval 'box -v data:/data -- sh -c "echo kept >/data/file" && prints kept box -v data:/data:ro -- cat /data/file && shoal_ volume rm data'
check "a new volume begins with what the image has there" prints "root:x:0:0:root:/root:/bin/sh" box -v seeded:/etc -- head -n 1 /etc/passwd
check "an anonymous volume goes with its container" eval 'shoal_ volume rm seeded; box -v /anonymous -- true && equals "$(shoal_ volume ls -q)" ""'
check "volumes of another container" eval 'shoal_ create --name holder -v common:/common busy:1 true && box --volumes-from holder -- sh -c "echo x >/common/file" && prints x box --volumes-from holder -- cat /common/file && shoal_ rm holder && shoal_ volume rm common'

# --- limits ----------------------------------------------------------------------------------------------------------------

group_of() { # CONTAINER CONTROLLER: its cgroup's directory
    local pid path
    pid=$(shoal_ inspect -f '{{.State.Pid}}' "$1")
    path=$(awk -F: -v c="$2" '$2 == c || (c == "" && $1 == 0) { print $3 }' "/proc/$pid/cgroup")
    if [ -n "$path" ] && [ -d "/sys/fs/cgroup/$2" ]; then echo "/sys/fs/cgroup/$2$path"; else echo "/sys/fs/cgroup$(awk -F: '$1 == 0 { print $3 }' "/proc/$pid/cgroup")"; fi
}
value_of() { cat "$1/$2" 2>/dev/null || cat "$1/$3"; }
shoal_ create --name limited -m 32m --cpus 0.5 --pids-limit 20 --cpu-shares 512 busy:1 sleep 1000 >/dev/null
shoal_ start limited >/dev/null
check "the memory limit is the kernel's" equals "$(value_of "$(group_of limited memory)" memory.limit_in_bytes memory.max)" 33554432
check "the CPU limit is the kernel's" eval 'g=$(group_of limited cpu); q=$(cat "$g/cpu.cfs_quota_us" "$g/cpu.cfs_period_us" 2>/dev/null || cat "$g/cpu.max"); equals "$(echo $q)" "50000 100000"'
check "the process limit is the kernel's" equals "$(cat "$(group_of limited pids)/pids.max")" 20
check "the CPU shares are the kernel's" eval 'g=$(group_of limited cpu); [ ! -f "$g/cpu.shares" ] || equals "$(cat "$g/cpu.shares")" 512'
shoal_ rm -f limited >/dev/null
check "too many processes are refused" fails_with 2 "can't fork" box --pids-limit 5 -- sh -c "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done"
check "too much memory is killed and said to be" eval 'shoal_ create --name hog -m 16m busy:1 sh -c "x=\$(dd if=/dev/zero bs=1M count=64 2>/dev/null | tr \"\\0\" x); echo survived" && shoal_ start hog && shoal_ wait hog &&
    equals "$(shoal_ inspect -f "{{.State.OOMKilled}} {{.State.ExitCode}}" hog)" "true 137" && shoal_ rm hog'
check "a memory limit that is too small is refused" fails_with 1 "6MB" shoal_ create -m 1m busy:1

# --- networks ----------------------------------------------------------------------------------------------------------------

check "network none has the loopback alone" prints "lo" box -- sh -c 'ls /sys/class/net'
check "its loopback is up" says "127.0.0.1" box -- sh -c 'ip addr show lo'
check "network host is the node's" eval 'c=$(shoal_ create --network host busy:1 readlink /proc/self/ns/net) && shoal_ start $c && shoal_ wait $c && equals "$(shoal_ logs $c)" "$(readlink /proc/self/ns/net)" && shoal_ rm $c'
check "an unknown network is refused" eval 'c=$(shoal_ create --network nosuch busy:1) && fails_with 1 "network nosuch not found" shoal_ start $c && shoal_ rm $c'

check "nothing is left" eval 'equals "$(shoal_ ps -aq)$(shoal_ volume ls -q)" ""'
node_stop a
finish
