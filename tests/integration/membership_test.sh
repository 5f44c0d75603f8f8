#!/bin/bash
# The daemon is killed in the middle of swarm init and of swarm leave, and the swarm is left while services are created. Whenever it was, the node
# is afterwards in the swarm with all that was acknowledged, or in none and with nothing of one left.
. "$(dirname "$0")/lib.sh"
command -v jq >/dev/null || skip_all "missing: jq"

rounds=${MEMBERSHIP_ROUNDS:-14}
seed=${SEED:-$RANDOM}
RANDOM=$seed
say "SEED=$seed"

init='{"ListenAddr":"127.0.0.1","AdvertiseAddr":"127.0.0.1"}'
state() { api a GET /info | jq -r .Swarm.LocalNodeState; }
node_id() { api a GET /info | jq -r .Swarm.NodeID; }
service() { echo "{\"Name\":\"$1\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"nosuch:1\"}},\"Mode\":{\"Replicated\":{\"Replicas\":0}}}"; }
names() { api a GET /services | jq -r '.[].Spec.Name' | sort | tr '\n' ' '; }

nothing_left() {
    equals "$(state)" inactive && equals "$(node_id)" "" || return 1
    [ ! -e "$work/a/data/swarm" ] && [ ! -e "$work/a/data/.swarm.left" ] || { ls -A "$work/a/data"; return 1; }
    contains "$(api a GET /services)" "This node is not a swarm manager"
}
in_swarm() { # it works: the manager answers, and takes a write
    equals "$(state)" active && api a GET "/nodes/$(node_id)" >/dev/null && api a POST /services/create "$(service "$1")"
}
forget() { [ "$(state)" = inactive ] || api a POST "/swarm/leave?force=1"; }

# REQUEST MS: send it, and kill the daemon so much later; what was answered is in $work/answer, its status in the last line.
interrupted() {
    curl -sS --unix-socket "$work/a/api.sock" -X POST -H 'Content-Type: application/json' ${3:+-d "$3"} -w '\n%{http_code}' "http://node$1" \
        >"$work/answer" 2>/dev/null &
    local client=$!
    pause "$2"
    kill -KILL "$(node_pid a)"
    wait $client
    eventually 20 process_ended "$(node_pid a)" >/dev/null
}
acknowledged() { [ "$(tail -n 1 "$work/answer")" = 200 ]; }
milliseconds() { printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); }
took() { # COMMAND...: how many milliseconds
    local began
    began=$(date +%s%N)
    "$@" >/dev/null && echo $((($(date +%s%N) - began) / 1000000))
}

init_round() {
    local after
    after=$(milliseconds $((RANDOM % (init_ms * 3 / 2))))
    interrupted /swarm/init "$after" "$init"
    node_start a || return 1
    eventually 10 eval '[[ $(state) =~ ^(active|inactive)$ ]]' || return 1
    if acknowledged; then
        contains "$(head -n 1 "$work/answer")" "$(node_id)" && in_swarm first || return 1
    elif [ "$(state)" = active ]; then
        in_swarm first || return 1
    else
        nothing_left && api a POST /swarm/init "$init" >/dev/null && in_swarm second || return 1
    fi
    echo "$after $(acknowledged && echo acknowledged) $(names)" >>"$work/rounds"
    forget
}

leave_round() {
    local after
    after=$(milliseconds $((RANDOM % (leave_ms * 3 / 2))))
    api a POST /swarm/init "$init" >/dev/null && in_swarm kept >/dev/null || return 1
    interrupted "/swarm/leave?force=1" "$after"
    node_start a || return 1
    eventually 10 eval '[[ $(state) =~ ^(active|inactive)$ ]]' || return 1
    if acknowledged || [ "$(state)" = inactive ]; then
        nothing_left || return 1
    else
        equals "$(names)" "kept " && in_swarm more || return 1
    fi
    echo "$after $(acknowledged && echo acknowledged) $(state)" >>"$work/rounds"
    forget
}

leave_while_creating() {
    local i pids=
    api a POST /swarm/init "$init" >/dev/null || return 1
    for i in 1 2 3 4; do
        (for k in $(seq 30); do echo "$(status_of a POST /services/create "$(service "s$i-$k")")"; done >"$work/codes.$i") &
        pids="$pids $!"
    done
    pause 0.05
    api a POST "/swarm/leave?force=1" || return 1
    wait $pids
    refuses grep -vE '^(201|503)$' "$work"/codes.* || return 1
    nothing_left && api a POST /swarm/init "$init" >/dev/null && equals "$(names)" "" && forget
}

node_start a || exit 1
check "in no swarm to begin with" nothing_left
init_ms=$(took api a POST /swarm/init "$init") leave_ms=$(took api a POST "/swarm/leave?force=1")
say "init takes $init_ms ms, leave $leave_ms ms"
check "and again, after init and leave" nothing_left
many_rounds() { # KIND
    for ((i = 0; i < rounds; i++)); do
        "$1" >"$work/why" 2>&1 || { echo "round $i:"; cat "$work/why"; return 1; }
    done
}
check "killed in the middle of init: in the swarm, or in none" many_rounds init_round
say "seconds until it was killed, and what was then: $(sort "$work/rounds" | tr '\n' ';')"
rm -f "$work/rounds"
check "afterwards in none" nothing_left
check "killed in the middle of leave: in the swarm, or in none" many_rounds leave_round
say "seconds until it was killed, and what was then: $(sort "$work/rounds" | tr '\n' ';')"
check "left while services are created: each is made or refused" leave_while_creating
finish
