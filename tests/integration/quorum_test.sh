#!/bin/bash
# Managers die: one of three, then two, then all but one for good. What was acknowledged stays, what runs runs on, and what is refused is refused in
# time, by name of who is missing.
. "$(dirname "$0")/lib.sh"
. "$here/images.sh"
. "$here/machines.sh"

nodes="m1 m2 m3 w1"
for n in $nodes; do
    machine "$n" && node_start "$n" --warm 0 || exit 1
done
node_image w1 busy:1 || exit 1
{ swarm_init m1 --availability drain && swarm_join m2 manager m1 --availability drain && swarm_join w1 worker m1; } >/dev/null || exit 1
# m3 is told an interface instead of an address: it will have another address later.
sh_ m3 swarm join --token "$(sh_ m1 swarm join-token -q manager)" --advertise-addr eth0 --availability drain "$(address m1):2377" >/dev/null || exit 1
all_ready m1 4 || exit 1

replicas() { sh_ "$1" service ls -f name=web --format '{{.Replicas}}'; }     # NODE
settled() { eventually 30 eval "equals \"\$(replicas $1)\" $2"; }             # NODE RUNNING/WANTED
scale() { timeout $((25 * slow)) shoal -H "unix://$work/$1/api.sock" service scale -d "web=$2"; } # NODE NUMBER
others() { local n; for n in m1 m2 m3; do [ "$n" = "$1" ] || echo "$n"; done; } # NODE
status_of_member() { members "$1" | grep "^$2 " | cut -d' ' -f2-; }           # NODE HOST
pids() { for c in $(sh_ w1 ps -q | sort); do sh_ w1 inspect -f '{{.State.Pid}}' "$c"; done; }
within() { # SECONDS COMMAND...: it succeeds, in time
    local from=$(date +%s%N) most=$(($1 * slow)) rc
    shift
    "$@"
    rc=$?
    echo "took $((($(date +%s%N) - from) / 1000000)) ms"
    [ $rc -eq 0 ] && [ $((($(date +%s%N) - from) / 1000000000)) -le $most ]
}

sh_ m2 service create -d --no-resolve-image --name web --replicas 3 --stop-signal KILL busy:1 sleep 100000 >/dev/null
check "a service runs on the worker" settled m1 3/3
before=$(pids)
unchanged() { equals "$(pids)" "$before"; }

# --- one dies ------------------------------------------------------------------------------------------------------------------

old=$(leader m1)
read -r one two < <(others "$old" | tr '\n' ' ')
kill -STOP "$(node_pid "$old")"
check "the leader hangs: the next write is taken by another" eval 'within 10 eventually 10 scale $one 3 && l=$(leader $two) && [ -n "$l" ] && [ "$l" != "$old" ]'
check "it is seen to be missing" eventually 10 eval 'contains "$(status_of_member $one $old)" Unreachable'
kill -CONT "$(node_pid "$old")"
check "it comes back as a follower" eventually 20 eval 'equals "$(status_of_member $old $old)" "Ready Drain Reachable"'

old=$(leader m1)
read -r one two < <(others "$old" | tr '\n' ' ')
node_kill "$old" >/dev/null
check "the leader is killed: the next write is taken by another" eval 'within 10 eventually 10 scale $one 3 && l=$(leader $two) && [ -n "$l" ] && [ "$l" != "$old" ]'
node_start "$old" --warm 0 || exit 1
check "it comes back" eval 'all_ready $one 4 && eventually 10 eval "equals \"\$(members $old)\" \"\$(members $one)\""'

old=$(leader m1)
read -r one two < <(others "$old" | tr '\n' ' ')
machine_off "$old" >/dev/null
check "the leader's machine loses its power: the next write is taken by another" eval 'within 10 eventually 10 scale $two 3 && l=$(leader $one) && [ -n "$l" ] && [ "$l" != "$old" ]'
machine_on "$old" --warm 0 || exit 1
check "it comes back, too" all_ready "$one" 4
check "the tasks noticed nothing" unchanged
all_good # what follows builds on it

# --- the address of one changes -----------------------------------------------------------------------------------------------------

node_stop m3 >/dev/null && move m3 33
node_start m3 --warm 0 || exit 1
check "a manager comes back at another address" eval 'all_ready m1 4 && eventually 20 eval "equals \"\$(sh_ m1 node inspect -f \"{{.ManagerStatus.Addr}} {{.ManagerStatus.Reachability}}\" m3)\" \"10.77.0.33:2377 reachable\""'
check "and counts: with another one gone there is a majority" eval 'node_kill m2 && within 15 eventually 15 scale m3 3 && node_start m2 --warm 0 && all_ready m3 4 && eventually 20 eval "equals \"\$(controls m2)\" true"'
all_good # what follows builds on it

# --- the majority dies -----------------------------------------------------------------------------------------------------------------

survivor=$(others "$(leader m1)" | head -n 1)
read -r one two < <(others "$survivor" | tr '\n' ' ')
node_kill "$one" >/dev/null && node_kill "$two" >/dev/null
said=$(within 12 scale "$survivor" 5 2>&1)
check "without a majority a write is refused in time" eval 'contains "$said" "The swarm does not have a leader" && contains "$said" "took " && [ "$(grep -o "took [0-9]*" <<<"$said" | cut -c6-)" -lt $((12000 * slow)) ]'
check "and says who is missing" eval 'contains "$said" "$one" && contains "$said" "$two"'
have_docker && check "also to the stock client" fails_with 1 "The swarm does not have a leader" docker_ "$survivor" service scale -d web=5
check "what can be read without the others is" eval 'equals "$(swarm_state $survivor)" active && says "$survivor" sh_ $survivor info --format "{{.Name}}"'
check "the tasks run on" unchanged
node_start "$one" --warm 0 || exit 1
check "with one of them back all goes on" eval 'within 15 eventually 15 scale $survivor 3 && eventually 20 eval "equals \"\$(ready $survivor)\" 3"'
check "the tasks noticed nothing of it" eval 'settled $one 3/3 && unchanged'
all_good # what follows builds on it

# --- and does not come back ---------------------------------------------------------------------------------------------------------------

node_kill "$one" >/dev/null
check "all but one are gone: that one starts a cluster of its own" says "Swarm initialized: current node ($(node_id "$survivor")) is now a manager." timeout $((60 * slow)) shoal -H "unix://$work/$survivor/api.sock" swarm init --force-new-cluster --advertise-addr "$(address "$survivor")"
check "it has everything" eval 'settled $survivor 3/3 && equals "$(sh_ $survivor node ls --format "{{.Hostname}} {{.ManagerStatus}}" | sed "s/ *\$//" | sort | tr "\n" ,)" "$(for n in m1 m2 m3 w1; do if [ $n = $survivor ]; then echo "$n Leader"; else echo $n; fi; done | tr "\n" ,)"'
check "the worker comes to it with its tasks" eval 'eventually 30 eval "contains \"\$(status_of_member $survivor w1)\" Ready" && unchanged'
check "it takes writes" eval 'scale $survivor 4 && settled $survivor 4/4'
check "those who come back from the old cluster do not disturb it" eval 'node_start $one --warm 0 && pause 3 && scale $survivor 3 && settled $survivor 3/3 && equals "$(leader $survivor)" "$survivor"'
check "they leave and join anew" eval 'id=$(node_id $one); sh_ $one swarm leave --force && { sh_ $survivor node demote $one; sh_ $survivor node rm --force $one; swarm_join $one manager $survivor; } && eventually 20 eval "equals \"\$(controls $one)\" true" && scale $one 2 && settled $one 2/2'
finish
