#!/bin/bash
# Five machines become a swarm: joining, roles, availability, leaving. Any manager serves any client, whoever leads.
. "$(dirname "$0")/lib.sh"
. "$here/images.sh"
. "$here/machines.sh"

nodes="m1 m2 m3 w1 w2"
for n in $nodes; do
    machine "$n" && node_start "$n" --warm 0 || exit 1
done
node_image m1 busy:1 || exit 1
for n in m2 m3 w1 w2; do
    sh_ "$n" load -q -i "$work/images.tar" >/dev/null || exit 1
done

create() { sh_ "$1" service create --detach --no-resolve-image --stop-signal KILL "${@:2}"; } # NODE...: prints the id
replicas() { sh_ "$1" service ls -f "name=$2" --format '{{.Replicas}}'; }                       # NODE SERVICE
settled() { eventually 30 eval "equals \"\$(replicas $1 $2)\" $3"; }                            # NODE SERVICE RUNNING/WANTED
containers_on() { sh_ "$1" ps -q --no-trunc -f "label=com.docker.swarm.service.name=$2" | sort; }
count_on() { containers_on "$@" | wc -l; }
reaches() { timeout 2 nsenter "--net=$work/$1/net" bash -c "echo >/dev/tcp/$(address "$2")/2377" 2>/dev/null; } # FROM TO
member() { members "$1" | grep "^$2 " | cut -d' ' -f2-; } # NODE HOST: "Ready Active Reachable"

# --- joining -------------------------------------------------------------------------------------------------------------

check "there is no swarm at first" fails_with 1 "not a swarm manager" sh_ w1 node ls
check "m1 founds one" swarm_init m1
check "the machines reach each other" reaches w1 m1
check "and do not when that is severed" eval 'sever w1 m1 && refuses reaches w1 m1 && reaches w2 m1 && heal && reaches w1 m1'
worker=$(sh_ m1 swarm join-token -q worker) manager=$(sh_ m1 swarm join-token -q manager)
check "a token with a wrong secret" fails_with 1 "A valid join token is necessary to join this cluster" sh_ w1 swarm join --token "${worker%-*}-0123456789abcdefghijklmno" "$(address m1):2377"
check "a token of another swarm" fails_with 1 "remote CA does not match fingerprint" sh_ w1 swarm join --token "SWMTKN-1-$(printf '%050d' 7)-${worker##*-}" "$(address m1):2377"
check "no token at all" fails_with 1 "invalid join token" sh_ w1 swarm join --token nonsense "$(address m1):2377"
check "a machine where nobody listens" fails_with 1 "connect" sh_ w1 swarm join --token "$worker" "$(address w2):2377"
check "after all that w1 is in no swarm" equals "$(swarm_state w1)" inactive
check "w1 joins as a worker" says "This node joined a swarm as a worker." swarm_join w1 worker m1
check "it knows that it is one" equals "$(swarm_state w1) $(controls w1)" "active false"
check "joining twice is refused" fails_with 1 "This node is already part of a swarm" sh_ w1 swarm join --token "$worker" "$(address m1):2377"
check "a worker does not administrate" fails_with 1 "Worker nodes can't be used to view or modify cluster state" sh_ w1 node ls
check "m2 joins as a manager" says "This node joined a swarm as a manager." swarm_join m2 manager m1
check "m3 joins, asking one that does not lead" says "This node joined a swarm as a manager." swarm_join m3 manager m2 --availability drain
check "w2 joins with the stock client's words" eval 'if have_docker; then says "This node joined a swarm as a worker." docker_ w2 swarm join --token "$worker" --advertise-addr eth0 "$(address m3):2377"; else swarm_join w2 worker m3; fi'
check "all are ready" all_ready m1 5
check "and are what they joined as" eventually 20 eval 'equals "$(members m1)" "m1 Ready Active Leader
m2 Ready Active Reachable
m3 Ready Drain Reachable
w1 Ready Active
w2 Ready Active"'
check "every manager says the same" eval 'equals "$(members m2)" "$(members m1)" && equals "$(members m3)" "$(members m1)"'
have_docker && check "to the stock client too" eval 'equals "$(docker_ m3 node ls --format "{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}" | sed "s/ *\$//" | sort)" "$(members m1)"'
check "self is the node that is asked" eval 'for n in m1 m2 m3; do equals "$(sh_ $n node inspect -f "{{.Description.Hostname}}" self)" $n || exit 1; done'
check "addresses are those of the machines" equals "$(for n in $nodes; do sh_ m2 node inspect -f '{{.Status.Addr}}' $n; done | tr '\n' ' ')" "$(for n in $nodes; do address $n; done | tr '\n' ' ')"
check "filters" eval 'equals "$(sh_ m2 node ls -f role=worker --format "{{.Hostname}}" | sort | tr "\n" " ")" "w1 w2 " && equals "$(sh_ m3 node ls -f name=w1 -q | wc -l)" 1'
check "a rotated token lets nobody in" eval 'new=$(sh_ m2 swarm join-token -q --rotate worker) && [ "$new" != "$worker" ] && equals "$(sh_ m3 swarm join-token -q worker)" "$new" && equals "$(sh_ m3 swarm join-token -q manager)" "$manager"'
all_good # what follows builds on it

# --- services, by any manager ------------------------------------------------------------------------------------------------

check "a follower creates a service" create m2 --name web --replicas 4 busy:1 sleep 100000
check "it runs, every manager says" eval 'settled m2 web 4/4 && settled m1 web 4/4 && settled m3 web 4/4'
check "one task on each active node" eventually 20 eval 'for n in m1 m2 w1 w2; do equals "$(count_on $n web)" 1 || exit 1; done; equals "$(count_on m3 web)" 0'
check "node ps through a follower" equals "$(sh_ m3 node ps w1 --format '{{.Image}} {{.Node}} {{.DesiredState}}')" "busy:1 w1 Running"
check "logs of a task on another machine, through a follower" eval 'create m2 --name talk --constraint node.hostname==w2 busy:1 sh -c "echo hello from \$(hostname); sleep 100000" && settled m2 talk 1/1 && eventually 20 says "hello from" sh_ m3 service logs --raw talk && sh_ m2 service rm talk'
check "pause: what runs stays, nothing new comes" eval 'sh_ m2 node update --availability pause w1 && sh_ m2 service scale -d web=8 && settled m2 web 8/8 && equals "$(count_on w1 web)" 1'
check "drain: it gives its tasks up" eval 'sh_ m3 node update --availability drain w1 && eventually 20 eval "equals \"\$(count_on w1 web)\" 0" && settled m3 web 8/8'
check "active: it takes tasks again" eval 'sh_ m2 node update --availability active w1 && sh_ m2 service scale -d web=12 && settled m2 web 12/12 && eventually 20 eval "[ \"\$(count_on w1 web)\" -ge 2 ]"'
check "labels decide where tasks go" eval 'sh_ m2 node update --label-add disk=fast w2 && create m3 --name fast --replicas 2 --constraint node.labels.disk==fast busy:1 sleep 100000 && settled m3 fast 2/2 && equals "$(count_on w2 fast)" 2 && sh_ m3 service rm fast'
sh_ m2 service scale -d web=5 >/dev/null
all_good # what follows builds on it

# --- roles ---------------------------------------------------------------------------------------------------------------------

create m3 --name stays --constraint node.hostname==w1 busy:1 sleep 100000 >/dev/null
settled m3 stays 1/1 >/dev/null
stays=$(containers_on w1 stays)
check "w1 is promoted" equals "$(sh_ m2 node promote w1)" "Node w1 promoted to a manager in the swarm."
check "it becomes one, without a restart" eval 'pid=$(node_pid w1); eventually 20 eval "equals \"\$(member m1 w1)\" \"Ready Active Reachable\"" && eventually 20 eval "equals \"\$(controls w1)\" true" && equals "$(node_pid w1)" "$pid" && ! process_ended "$pid"'
check "and serves" eval 'eventually 10 eval "equals \"\$(members w1)\" \"\$(members m1)\"" && sh_ w1 service scale -d web=6 && settled w1 web 6/6'
check "w1 is demoted" equals "$(sh_ w1 node demote w1)" "Manager w1 demoted in the swarm."
check "it is a worker again, and its tasks run on" eval 'eventually 20 eval "equals \"\$(member m1 w1)\" \"Ready Active\"" && eventually 20 eval "equals \"\$(controls w1)\" false" && [ -n "$stays" ] && equals "$(containers_on w1 stays)" "$stays"'
old=$(leader m2)
check "the leader demotes itself" says "Manager $old demoted in the swarm." sh_ "$old" node demote "$old"
other=$([ "$old" = m2 ] && echo m3 || echo m2)
check "another one leads" eventually 20 eval 'l=$(leader $other) && [ -n "$l" ] && [ "$l" != "$old" ]'
check "the old one is a worker" eval 'eventually 20 eval "equals \"\$(controls $old)\" false" && eventually 20 eval "equals \"\$(member $other $old)\" \"Ready Active\""'
check "it is promoted again" eval 'sh_ $other node promote $old && eventually 20 eval "equals \"\$(member $other $old)\" \"Ready Active Reachable\"" && eventually 20 eval "equals \"\$(controls $old)\" true"'
check "the service noticed nothing" settled m2 web 6/6
all_good # what follows builds on it

# --- leaving ---------------------------------------------------------------------------------------------------------------------

check "a node that lives is not removed" fails_with 1 "is not down and can't be removed" sh_ m2 node rm w2
check "a manager is not removed" fails_with 1 "must be demoted to worker before removal" sh_ m2 node rm --force m3
before=$(node_id w2)
check "w2 leaves" equals "$(sh_ w2 swarm leave)" "Node left the swarm."
check "its containers go" eventually 20 eval 'equals "$(sh_ w2 ps -aq)" ""'
check "it is down, and its tasks are elsewhere" eval 'eventually 20 eval "equals \"\$(member m2 w2)\" \"Down Active\"" && settled m2 web 6/6'
check "it is removed" eval 'equals "$(sh_ m2 node rm w2)" w2 && equals "$(members m3 | grep -c ^w2)" 0'
check "it joins again, as another node" eval 'swarm_join w2 worker m2 && all_ready m2 5 && [ "$(node_id w2)" != "$before" ]'
check "a node that lives is removed by force" eval 'sh_ m2 node rm --force w2 && equals "$(members m3 | grep -c ^w2)" 0'
check "it is not let in any more, and its tasks move" eval 'settled m2 web 6/6 && eventually 20 eval "equals \"\$(ready m2)\" 4"'
check "a manager leaves only by force" fails_with 1 "--force" sh_ m3 swarm leave
check "it is demoted, leaves and is removed" eval 'sh_ m2 node demote m3 && eventually 20 eval "equals \"\$(controls m3)\" false" && sh_ m3 swarm leave && eventually 20 eval "equals \"\$(member m2 m3)\" \"Down Drain\"" && sh_ m2 node rm m3'
check "two managers remain" eval 'equals "$(members m1 | grep -cE "Leader|Reachable")" 2 && settled m1 web 6/6'
finish
