#!/bin/bash
# Joining when it is not easy: clocks that differ, daemons killed in the middle, managers that come back at other addresses, certificates that ran out
# while everything was off. Whenever a node was killed, it is afterwards in the swarm and of use, or in none and joins at the next attempt.
. "$(dirname "$0")/lib.sh"
. "$here/machines.sh"

rounds=${JOINING_ROUNDS:-4}
seed=${SEED:-$RANDOM}
RANDOM=$seed
say "SEED=$seed"
for n in m1 m2 m3 w1; do
    machine "$n" && node_start "$n" --warm 0 || exit 1
done
swarm_init m1 || exit 1
worker=$(sh_ m1 swarm join-token -q worker) manager=$(sh_ m1 swarm join-token -q manager)

join() { # NODE TOKEN: by the API, which finds the address to advertise itself
    api "$1" POST /swarm/join "{\"RemoteAddrs\":[\"$(address m1)\"],\"JoinToken\":\"$2\"}"
}
settled() { [[ $(swarm_state "$1") =~ ^(active|inactive)$ ]]; } # NODE
row() { members m1 | grep "^$1 " | cut -d' ' -f2-; }           # NODE: as m1 says
forget() { # NODE
    [ "$(swarm_state "$1")" = inactive ] || sh_ "$1" swarm leave --force >/dev/null
    eventually 20 eval "equals \"\$(swarm_state $1)\" inactive"
}
remove_rows() { # of nodes that are gone: they differ in the id alone
    local id
    for id in $(sh_ m1 node ls -q | grep -v "$(node_id m1)"); do
        sh_ m1 node rm --force "$id" >/dev/null 2>&1
    done
    equals "$(sh_ m1 node ls -q | wc -l)" 1
}

# --- clocks --------------------------------------------------------------------------------------------------------------

refused_for_clock() { # SECONDS
    clock_step w1 "$1" && fails_with 1 "clocks differ" join w1 "$worker" && equals "$(swarm_state w1)" inactive
}
check "a clock that is five hours slow is told so" refused_for_clock -18000
check "one that is five hours fast" refused_for_clock 18000
check "one that is a year slow" refused_for_clock -31536000
check "some minutes are borne" eval 'clock_step w1 -240 && join w1 "$worker" && forget w1'
clock_step w1 0

# --- killed in the middle ------------------------------------------------------------------------------------------------

interrupted() { # NODE TOKEN MS: join, and kill the daemon so much later
    join "$1" "$2" >/dev/null 2>&1 &
    local client=$!
    pause "$(printf '0.%03d' "$3")"
    node_kill "$1"
    wait $client
    node_start "$1" --warm 0 && eventually 20 settled "$1" || return 1
    say "$1 killed after $3 ms: $(swarm_state "$1")"
    if [ "$(swarm_state "$1")" = inactive ]; then
        [ ! -e "$work/$1/data/swarm" ] && join "$1" "$2" || return 1
    fi
    eventually 20 eval "row $1 | grep -q '^Ready'" || return 1
    [ "$2" = "$worker" ] || { eventually 20 eval "equals \"\$(controls $1)\" true" && eventually 20 eval "row $1 | grep -q Reachable"; } || return 1
    forget "$1" && eventually 20 members m1 >/dev/null && eventually 20 remove_rows
}
interruptions() { # NODE TOKEN MOST
    local i
    for ((i = 0; i < rounds; i++)); do
        interrupted "$1" "$2" $((RANDOM % $3)) || return 1
    done
}
check "a worker killed while it joins is in the swarm or joins again" interruptions w1 "$worker" 100
check "a manager killed while it joins is one or becomes one" interruptions m3 "$manager" 250

# --- other addresses -----------------------------------------------------------------------------------------------------

check "two managers and a worker join" eval 'join m2 "$manager" && join m3 "$manager" && join w1 "$worker" && all_ready m1 4'
all_serve() { # each manager, by the words of each other
    local n
    for n in m1 m2 m3; do
        equals "$(sh_ "$n" node ls --format '{{.ManagerStatus}}' 2>&1 | grep -cE '^(Leader|Reachable)$')" 3 || return 1
    done
}
check "all serve" eventually 20 all_serve
check "a manager that moved while it was off is followed" eval 'node_stop m3 && move m3 33 && node_start m3 --warm 0 && eventually 20 all_serve'
check "workers hear of it" eventually 20 says "$(address m3):2377" eval 'api w1 GET /info | jq -r ".Swarm.RemoteManagers[].Addr"'
check "all managers stop" eval 'for n in m1 m2 m3; do node_stop $n || exit 1; done'
move m1 91 && move m2 92 && move m3 93 && move m1 2 && move m2 33 && move m3 1 # each at the address of another one
check "they come back at each other's addresses" eval 'for n in m1 m2 m3; do node_start $n --warm 0 || exit 1; done; eventually 30 all_serve'
check "the worker finds them" eventually 40 eval 'row w1 | grep -q "^Ready"'

# --- certificates that ran out ---------------------------------------------------------------------------------------------

for n in m1 m2 m3 w1; do
    node_stop "$n" && clock_step "$n" 8640000 || exit 1
done
check "everything was off for 100 days" eval 'for n in m1 w1; do node_start $n --warm 0 || exit 1; done'
check "the worker says what to do" says "Swarm certificates have expired. To replace them, leave the swarm and join again." eval 'api w1 GET /info | jq -r .Swarm.Error'
check "so does the manager" says "init --force-new-cluster" eval 'api m1 GET /info | jq -r .Swarm.Error'
check "only a manager goes on alone" fails_with 1 "This node is a worker" sh_ w1 swarm init --force-new-cluster
check "it does, at another port" says "Swarm initialized" sh_ m1 swarm init --force-new-cluster --advertise-addr eth0:2400 --listen-addr 0.0.0.0:2400
check "with a new certificate" eventually 20 eval 'equals "$(row m1 | head -n 1)" "Ready Active Leader" && equals "$(api m1 GET /info | jq -r .Swarm.Error)" ""'
check "the worker leaves and joins again" eval 'sh_ w1 swarm leave && sh_ w1 swarm join --token "$worker" "$(address m1):2400" && eventually 20 eval "row w1 | grep -q ^Ready"'
finish
