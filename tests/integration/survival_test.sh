#!/bin/bash
# The daemon is stopped, killed in the middle of anything, robbed of its database; the keeper is killed; the machine goes down. Services come back
# from the log, and containers that run are adopted, not restarted.
. "$(dirname "$0")/lib.sh"
. "$here/images.sh"

rounds=${SURVIVAL_ROUNDS:-12}
seed=${SEED:-$RANDOM}
RANDOM=$seed
say "SEED=$seed"

shoal_() { sh_ a "$@"; }
create() { shoal_ service create --detach --no-resolve-image "$@" >/dev/null; }
replicas() { shoal_ service ls -f "name=$1" --format '{{.Replicas}}'; }
settled() { eventually 30 eval "equals \"\$(replicas $1)\" $2"; }
serve='trap "exit 0" TERM; echo "up $$"; while :; do sleep 0.2 & wait $!; done'

containers() { shoal_ ps -q --no-trunc "$@" | sort; }
picture() { # what must stay the same: containers, their processes and starts, and the tasks
    local id
    for id in $(containers); do
        shoal_ inspect -f '{{.Id}} {{.State.Status}} {{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}}' "$id"
    done
    api a GET /tasks | jq -r 'map(select(.DesiredState == "running")) | sort_by(.ID) | .[] | "\(.ID) \(.Slot) \(.Status.State)"'
}
alive() { # that the processes of the picture are there
    local pid
    for pid in $(awk '$2 == "running" { print $3 }' <<<"$1"); do [ -d "/proc/$pid" ] || { echo "process $pid is gone"; return 1; }; done
}
same_as() { local now; now=$(picture); equals "$now" "$1" && alive "$1"; }

node_start a || exit 1
node_image a busy:1 || exit 1
shoal_ swarm init --advertise-addr 127.0.0.1 >/dev/null
create --name web --replicas 3 --restart-delay 100ms busy:1 sh -c "$serve"
settled web 3/3 >/dev/null || { echo "not ok a service runs"; finish; }
shoal_ create --network none --name lone busy:1 sleep 1000 >/dev/null
shoal_ start lone >/dev/null

# --- stopped, killed -------------------------------------------------------------------------------------------------

before=$(picture)
node_stop a
check "stopped: the containers run on" alive "$before"
check "started: it serves and all are adopted, none restarted" eval 'node_start a && eventually 10 same_as "$before"'
node_kill a
check "killed: the containers run on" alive "$before"
check "started again: all are adopted" eval 'node_start a && eventually 10 same_as "$before"'
check "what they write meanwhile is not lost" eval 'shoal_ create --network none --name count busy:1 sh -c "i=0; while [ \$i -lt 300 ]; do echo \$i; i=\$((i + 1)); usleep 10000; done" && shoal_ start count && node_kill a && pause 1 && node_start a &&
    equals "$(shoal_ wait count)" 0 && equals "$(shoal_ logs count | sha1sum)" "$(seq 0 299 | sha1sum)" && shoal_ rm count'
shoal_ create --network none --name ends busy:1 sh -c 'sleep 1; exit 9' >/dev/null
shoal_ start ends >/dev/null
pid=$(shoal_ inspect -f '{{.State.Pid}}' ends)
node_kill a
eventually 20 eval '! [ -d /proc/$pid ]' >/dev/null
ended=$(date +%s)
pause 2
node_start a
check "what ended meanwhile is known with its exit code" equals "$(shoal_ inspect -f '{{.State.Status}} {{.State.ExitCode}}' ends)" "exited 9"
check "and with its time" eval 'f=$(date -d "$(shoal_ inspect -f "{{.State.FinishedAt}}" ends)" +%s); echo "$f, ended $ended"; [ $((ended - f)) -le 1 ] && [ $f -le $ended ]'
shoal_ rm ends >/dev/null
create --name once --restart-condition none busy:1 sh -c 'sleep 1; exit 5'
settled once 1/1 >/dev/null
node_kill a
pause 1.5
node_start a
check "a task that ended meanwhile is reported with its exit code" eventually 20 eval 'equals "$(api a GET /tasks | jq -r "map(select(.Status.ContainerStatus.ExitCode == 5)) | .[].Status.State")" failed'
shoal_ service rm once >/dev/null

# --- in the middle of anything ---------------------------------------------------------------------------------------

# Nothing acknowledged is lost, nothing is there twice: after each kill the service has the replicas that the cluster says it wants, which are those of
# the last scale that was acknowledged, or of one that was not.
wanted=3
check_round() {
    local want
    # Just after the start the manager may say that it is still starting.
    eventually 20 eval 'api a GET /services/web >"$work/web"' || { echo "the service is not to be had: $(cat "$work/web")"; return 1; }
    want=$(jq <"$work/web" .Spec.Mode.Replicated.Replicas)
    [ "$want" = "$wanted" ] || [ "$want" = "$asked" ] || { echo "wanted $wanted or $asked, found $want"; return 1; }
    settled web "$want/$want" || return 1
    eventually 20 eval 'equals "$(containers -f label=com.docker.swarm.service.name=web | wc -l)" '"$want" || return 1
    equals "$(api a GET /tasks | jq '[.[] | select(.DesiredState == "running") | .Slot] | (length) - (unique | length)')" 0 || return 1
    wanted=$want
}
middle() {
    local i asked
    for ((i = 0; i < rounds; i++)); do
        asked=$((RANDOM % 8 + 1))
        shoal_ service scale -d "web=$asked" >"$work/scaled" 2>&1 &
        pause "0.0$((RANDOM % 90 + 10))"
        node_kill a
        wait $! && wanted=$asked
        node_start a || return 1
        check_round || { echo "in round $i, seed $seed, after web=$asked"; shoal_ service ps web; return 1; }
    done
}
check "killed $rounds times while scaling: every acknowledged change holds" middle
check "the other container never noticed" eval 'alive "$(picture | grep "$(shoal_ ps -q --no-trunc -f name=lone)")"'
updating() {
    local i
    for ((i = 0; i < 4; i++)); do
        shoal_ service update -d --env-add "ROUND=$i" web >/dev/null
        pause "0.$((RANDOM % 6))"
        node_kill a
        node_start a || return 1
        eventually 60 eval 'equals "$(shoal_ service inspect -f "{{.UpdateStatus.State}}" web)" completed' || { echo "in round $i"; shoal_ service ps web; return 1; }
        for c in $(containers -f label=com.docker.swarm.service.name=web); do
            shoal_ inspect -f '{{.Config.Env}}' "$c" | grep -q "ROUND=$i" || { echo "$c is of an old round"; return 1; }
        done
    done
}
shoal_ service scale -d web=3 >/dev/null
settled web 3/3 >/dev/null
shoal_ service update -d --update-monitor 200ms web >/dev/null
check "killed while updating: the update goes on" updating

# --- the database is deleted -------------------------------------------------------------------------------------------

before=$(picture)
node_stop a
rm "$work/a/data/swarm/manager/store/"store.mdb*
check "without its database: all comes back from the log" eval 'node_start a && eventually 10 same_as "$before"'
node_kill a
rm "$work/a/data/swarm/manager/store/"store.mdb*
check "also after a kill" eval 'node_start a && eventually 10 same_as "$before"'
node_kill a
head -c 5000 /dev/urandom >"$work/a/data/swarm/manager/store/store.mdb"
check "a database that is garbage is made anew" eval 'node_start a && eventually 10 same_as "$before"'
check "and the cluster still works" eval 'shoal_ service scale -d web=4 && settled web 4/4 && shoal_ service scale -d web=3 && settled web 3/3'

# --- the keeper ----------------------------------------------------------------------------------------------------------

# Containers that write and hold a terminal, not only sleep.
shoal_ create --network none --name writer busy:1 sh -c 'i=0; while :; do i=$((i + 1)); printf "%07d %0992d\n" $i 0; [ $((i % 10)) -ne 0 ] || usleep 10000; done' >/dev/null
shoal_ create --network none --name terminal -t busy:1 sh -c 'tty; while :; do echo tick; sleep 0.1; done' >/dev/null
shoal_ start writer terminal >/dev/null
eventually 20 eval '[ "$(shoal_ logs --tail 1 writer | cut -c1-7)" -ge 100 ]' >/dev/null 2>&1
lines() { shoal_ logs "$1" | wc -l; }
before=$(picture)
old=$(keeper_pid a)
kill -KILL "$old"
check "killed: it is replaced" eventually 20 eval 'n=$(keeper_pid a) && [ -n "$n" ] && [ "$n" != "$old" ]'
check "the containers run on" eventually 10 same_as "$before"
check "what writes goes on to be read" eval 'n=$(lines writer) && eventually 20 eval "[ \$(lines writer) -gt $((n + 200)) ]"'
check "not a line is lost or torn" eval 'shoal_ logs writer | awk "{ if (length(\$0) != 1000 || \$1 + 0 != NR) { print \"line \" NR \": \" substr(\$0, 1, 40); bad = 1; exit } } END { exit bad || NR < 300 }"'
check "the terminal goes on" eval 'n=$(lines terminal) && eventually 20 eval "[ \$(lines terminal) -gt $((n + 5)) ]"'
check "new containers start" eval 'shoal_ create --network none --name fresh busy:1 true && shoal_ start fresh && equals "$(shoal_ wait fresh)" 0 && shoal_ rm fresh'
check "orphans are stopped and removed" eval 'shoal_ stop -t 1 terminal && shoal_ rm terminal'
check "services are scaled" eval 'shoal_ service scale -d web=5 && settled web 5/5 && shoal_ service scale -d web=1 && settled web 1/1'
kill -KILL "$(keeper_pid a)"
node_kill a
check "killed together with the daemon: all come back" eval 'node_start a && settled web 1/1 && equals "$(shoal_ inspect -f "{{.State.Status}}" lone)" running && equals "$(shoal_ inspect -f "{{.State.Status}}" writer)" running'
check "an orphan's exit is known, or said to be unknown, never 0" eval 'shoal_ create --network none --name orphan busy:1 sh -c "sleep 2; exit 6" && shoal_ start orphan && kill -KILL "$(keeper_pid a)" && s=$(shoal_ wait orphan) && echo "status $s" && [ "$s" -ne 0 ]; r=$?; shoal_ rm orphan; exit $r'
shoal_ rm -f writer >/dev/null

# --- two daemons, two nodes ------------------------------------------------------------------------------------------------

mkdir -p "$work/second"
second() { timeout 20 shoald --data-dir "$1" --run-dir "$2" --host "unix://$work/second/api.sock" --cgroup-parent "$cgroup/second"; }
check "a second daemon on the same data is refused by name" fails_with 1 "$work/a/data" second "$work/a/data" "$work/second/run"
check "on the same run directory too" fails_with 1 "$work/a/run" second "$work/second/data" "$work/a/run"
check "the first one did not notice" settled web 1/1
node_start b || exit 1
sh_ b load -q -i "$work/images.tar" >/dev/null
check "another node beside it has nothing of it" equals "$(sh_ b ps -aq)$(sh_ b volume ls -q)" ""
check "it founds a swarm of its own" eval 'sh_ b swarm init --listen-addr 127.0.0.1:2378 --advertise-addr 127.0.0.1:2378 && sh_ b service create -d --no-resolve-image --name web --replicas 2 busy:1 sleep 1000 && eventually 20 eval "equals \"\$(sh_ b service ls --format {{.Replicas}})\" 2/2"'
before=$(picture)
check "its end is no matter for the first" eval 'sh_ b service rm web && eventually 30 eval "equals \"\$(sh_ b ps -aq)\" \"\"" && sh_ b swarm leave --force && node_kill b && kill -KILL "$(keeper_pid b)" && same_as "$before"'

# --- the machine goes down -------------------------------------------------------------------------------------------------

node_kill a
kill -KILL "$(keeper_pid a)"
ps -eo pid= -o comm= | awk '$2 != "bash" && $2 != "ps" && $2 != "awk" && $1 != 1 { print $1 }' | while read -r p; do kill -KILL "$p" 2>/dev/null; done
rm -rf "$work/a/run"
check "after a reboot the services run again" eval 'node_start a && settled web 1/1'
check "what ran alone is known to have ended" eval 'contains "$(shoal_ inspect -f "{{.State.Status}} {{.State.ExitCode}}" lone)" exited && ! equals "$(shoal_ inspect -f "{{.State.ExitCode}}" lone)" 0'
check "all of it can be removed" eval 'shoal_ rm lone && shoal_ service rm web && eventually 30 eval "equals \"\$(containers -a)\" \"\""'
node_stop a
finish
