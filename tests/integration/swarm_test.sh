#!/bin/bash
# A swarm of one through our own client: its life, and what services promise about tasks.
. "$(dirname "$0")/lib.sh"
. "$here/images.sh"

node_start a || exit 1
node_image a busy:1 || exit 1
node_image a busy:2 '{"Cmd":["/bin/sh"],"Env":["PATH=/bin","VERSION=2"]}' || exit 1

shoal_() { sh_ a "$@"; }
# Ends at once at the stop signal, and with the status in /tmp/exit when there is one.
serve='trap "exit 0" TERM; echo "up $VERSION"; while :; do sleep 0.1 & wait $!; done'

create() { shoal_ service create --detach --no-resolve-image "$@"; } # prints the id
replicas() { shoal_ service ls -f "name=$1" --format '{{.Replicas}}'; }
settled() { eventually 30 eval "equals \"\$(replicas $1)\" $2"; } # SERVICE RUNNING/WANTED
tasks() { # SERVICE JQ-FILTER: of its tasks, oldest first
    api a GET "/tasks?filters=$(jq -nr --arg s "$1" '{service: [$s]} | tojson | @uri')" | jq -r "sort_by(.CreatedAt, .Slot) | $2"
}
count_is() { equals "$(tasks "$1" "map(select($2)) | length")" "$3"; } # SERVICE JQ-CONDITION NUMBER
containers_of() { shoal_ ps -q --no-trunc "${@:2}" -f "label=com.docker.swarm.service.name=$1" | sort; }

# --- the swarm's life --------------------------------------------------------------------------------------------------

check "there is none at first" fails_with 1 "This node is not a swarm manager." shoal_ service ls
check "an address that is not ours is refused" fails_with 1 "256.1.1.1" shoal_ swarm init --advertise-addr 256.1.1.1
check "init" says "is now a manager." shoal_ swarm init --advertise-addr 127.0.0.1
check "a second init is refused" fails_with 1 "already part of a swarm" shoal_ swarm init --advertise-addr 127.0.0.1
node=$(shoal_ info --format '{{.Swarm.NodeID}}')
check "info knows the node" eval '[[ $node =~ ^[0-9a-z]{25}$ ]]'
check "inspect of the swarm" eval 'api a GET /swarm | jq -e ".Spec.Name == \"default\" and .Spec.Orchestration.TaskHistoryRetentionLimit == 5 and (.JoinTokens.Worker | startswith(\"SWMTKN-1-\"))"'
worker=$(shoal_ swarm join-token -q worker) manager=$(shoal_ swarm join-token -q manager)
check "two tokens with one root" eval '[ "$worker" != "$manager" ] && equals "${worker%-*}" "${manager%-*}" && [[ $worker =~ ^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$ ]]'
check "join-token tells the command" says "shoal swarm join --token $worker 127.0.0.1:2377" shoal_ swarm join-token worker
check "a token is rotated" eval 'new=$(shoal_ swarm join-token -q --rotate worker) && [ "$new" != "$worker" ] && equals "$(shoal_ swarm join-token -q worker)" "$new" && equals "$(shoal_ swarm join-token -q manager)" "$manager"'
check "node ls" eventually 10 eval 'equals "$(shoal_ node ls --format "{{.ID}} {{.Status}} {{.Availability}} {{.ManagerStatus}}")" "$node Ready Active Leader"'
check "node inspect" eval 'shoal_ node inspect self | jq -e ".[0].ID == \"$node\" and .[0].Spec.Role == \"manager\" and .[0].Status.State == \"ready\" and .[0].Description.Resources.NanoCPUs > 0 and .[0].ManagerStatus.Leader"'
check "a node's labels" eval 'shoal_ node update --label-add zone=a $node && equals "$(shoal_ node inspect -f "{{.Spec.Labels.zone}}" self)" a'

# --- create: every field reaches the container -----------------------------------------------------------------------

mkdir "$work/shared"
id=$(create --name full --replicas 2 --env A=1 --env B=two --label tier=front --container-label inner=yes --limit-cpu 0.5 --limit-memory 64m \
    --limit-pids 50 --reserve-memory 8m --constraint node.role==manager --constraint node.labels.zone==a --hostname boxed --user 65534 \
    --workdir /tmp --read-only --mount "type=bind,source=$work/shared,target=/in,readonly" --mount type=volume,source=data,target=/data \
    --mount type=tmpfs,target=/scratch,tmpfs-size=1m --stop-grace-period 3s --stop-signal INT --ulimit nofile=100:200 --cap-drop CHOWN \
    --restart-condition on-failure --restart-delay 1s --restart-max-attempts 3 --restart-window 10s --entrypoint "sh -c" busy:1 \
    'echo "$A $B $(hostname) $(id -u) $(pwd)"; exec sleep 1000')
check "create prints the id" eval '[[ $id =~ ^[0-9a-z]{25}$ ]]'
check "it runs" settled full 2/2
check "the spec is what was asked for" eval 'shoal_ service inspect full | jq -e ".[0] | .ID == \"$id\" and (.Spec | .Name == \"full\" and .Labels.tier == \"front\" and .Mode.Replicated.Replicas == 2 and
    (.TaskTemplate | .ContainerSpec.Env == [\"A=1\", \"B=two\"] and .ContainerSpec.Command == [\"sh\", \"-c\"] and .ContainerSpec.Labels.inner == \"yes\" and (.ContainerSpec.Mounts | length) == 3 and
     .ContainerSpec.StopGracePeriod == 3000000000 and .Resources.Limits.NanoCPUs == 500000000 and .Resources.Limits.MemoryBytes == 67108864 and .Resources.Limits.Pids == 50 and
     .Resources.Reservations.MemoryBytes == 8388608 and .Placement.Constraints == [\"node.role==manager\", \"node.labels.zone==a\"] and .RestartPolicy.Condition == \"on-failure\" and .RestartPolicy.MaxAttempts == 3))"'
c=$(containers_of full | head -n 1)
check "the container is what was asked for" eval 'shoal_ inspect "$c" | jq -e ".[0] | .HostConfig.Memory == 67108864 and .HostConfig.NanoCpus == 500000000 and .HostConfig.PidsLimit == 50 and
    .HostConfig.ReadonlyRootfs and .Config.User == \"65534\" and .Config.Hostname == \"boxed\" and .Config.StopSignal == \"INT\" and .Config.Labels.inner == \"yes\" and
    .Config.Labels[\"com.docker.swarm.service.name\"] == \"full\" and (.Mounts | map(.Destination) | sort) == [\"/data\", \"/in\", \"/scratch\"]"'
check "and says so itself" eventually 10 eval 'equals "$(shoal_ logs "$c")" "1 two boxed 65534 /tmp"'
check "its name is service, slot and task" eval 'for n in $(shoal_ ps -f label=com.docker.swarm.service.name=full --format "{{.Names}}"); do [[ $n =~ ^full\.[12]\.[0-9a-z]{25}$ ]] || exit 1; done'
check "service ls" equals "$(shoal_ service ls --format '{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}}')" "full replicated 2/2 busy:1"
check "service ls by label" equals "$(shoal_ service ls -q -f label=tier=front)" "${id:0:12}"
check "service ps" equals "$(shoal_ service ps full --format '{{.Name}} {{.Image}} {{.DesiredState}}' | sort)" $'full.1 busy:1 Running\nfull.2 busy:1 Running'
check "service inspect --pretty" says "PIDs:		50" shoal_ service inspect --pretty full
check "rm prints the name" equals "$(shoal_ service rm full)" full
check "its containers go" eventually 20 eval 'equals "$(containers_of full -a)" ""'
check "its volume stays" equals "$(shoal_ volume ls -q)" data
shoal_ volume rm data >/dev/null

# --- global -------------------------------------------------------------------------------------------------------------

create --name everywhere --mode global busy:1 sh -c "$serve" >/dev/null
check "a global service runs once on the node" settled everywhere 1/1
check "its task is named after the node" equals "$(shoal_ service ps --no-trunc --format '{{.Name}}' everywhere | cut -d. -f2)" "$node"
check "a drained node runs nothing" eval 'shoal_ node update --availability drain $node && eventually 20 eval "equals \"\$(containers_of everywhere)\" \"\""'
check "an active one again" eval 'shoal_ node update --availability active $node && settled everywhere 1/1'
check "global services are not scaled" fails_with 1 "scale can only be used with replicated" shoal_ service scale -d everywhere=2
shoal_ service rm everywhere >/dev/null

# --- scale ----------------------------------------------------------------------------------------------------------------

create --name web --replicas 2 --update-monitor 500ms busy:1 sh -c "$serve" >/dev/null
settled web 2/2 >/dev/null
before=$(containers_of web)
check "scale up leaves what runs alone" eval 'shoal_ service scale -d web=5 && settled web 5/5 && equals "$(comm -12 <(echo "$before") <(containers_of web) | wc -l)" 2'
check "slots are 1 to 5" equals "$(tasks web 'map(.Slot) | sort | join(" ")')" "1 2 3 4 5"
check "scale down takes the highest slots" eval 'shoal_ service scale -d web=2 && settled web 2/2 && eventually 20 count_is web true 2 && equals "$(containers_of web)" "$before"'
check "scale to nothing" eval 'shoal_ service scale -d web=0 && eventually 20 eval "equals \"\$(containers_of web -a)\" \"\"" && equals "$(replicas web)" 0/0'
check "and back" eval 'shoal_ service scale -d web=3 && settled web 3/3'
check "several at once" eval 'create --name other --replicas 0 busy:1 sh -c "$serve" && shoal_ service scale -d web=4 other=2 && settled web 4/4 && settled other 2/2 && shoal_ service rm other'
check "scale waits when asked to" says "Service web converged" shoal_ service scale web=3
check "scale of what is not there" fails_with 1 "nosuch" shoal_ service scale -d nosuch=1

# --- update: stop-first, one at a time ----------------------------------------------------------------------------------

olds=$(tasks web 'map(.ID)|join(" ")')
check "update converges" eval 'shoal_ service update -q --image busy:2 --no-resolve-image web && equals "$(shoal_ service inspect -f "{{.UpdateStatus.State}}" web)" completed'
# When each slot's old task ended and its new one ran, in the order of the slots' turns: no turn begins before the last one ended.
check "one slot at a time, the old task stops first" eval '
    turns=$(tasks web "group_by(.Slot) | map({ended: (map(select(.DesiredState == \"shutdown\"))[-1].Status.Timestamp), ran: (map(select(.DesiredState == \"running\"))[0].Status.Timestamp)}) | sort_by(.ended)")
    echo "$turns"; jq -e "length == 3 and all(.ended <= .ran) and (. as \$t | [range(1; length) | \$t[. - 1].ran <= \$t[.].ended] | all)" <<<"$turns"'
check "history is kept" count_is web '.DesiredState == "shutdown"' 3
check "the history shows in service ps" says '\_ web.1' shoal_ service ps web
check "args, env, labels, limits and constraints" eval 'shoal_ service update -q --args "sh -c \"$(sed "s/[\\\\\"\$]/\\\\&/g" <<<"$serve")\"" --env-add VERSION=3 --label-add a=b --limit-memory 32m --constraint-add node.role==manager web &&
    shoal_ service inspect web | jq -e ".[0].Spec | .Labels.a == \"b\" and .TaskTemplate.Resources.Limits.MemoryBytes == 33554432 and .TaskTemplate.ContainerSpec.Env == [\"VERSION=3\"] and .TaskTemplate.Placement.Constraints == [\"node.role==manager\"]"'
check "the new tasks say so" eventually 10 eval 'contains "$(shoal_ service logs --raw web 2>&1)" "up 3"'
before=$(containers_of web)
check "a change of labels or replicas restarts nothing" eval 'shoal_ service update -q -d --label-add c=d --replicas 4 web && settled web 4/4 && equals "$(comm -12 <(echo "$before") <(containers_of web))" "$before"'
check "mounts" eval 'shoal_ service update -q --mount-add type=tmpfs,target=/scratch web && c=$(containers_of web | head -n 1) && equals "$(shoal_ inspect -f "{{(index .Mounts 0).Destination}}" $c)" /scratch'
check "rollback goes to the spec before" eval 'shoal_ service update -q --rollback web && equals "$(shoal_ service inspect web | jq ".[0].Spec.TaskTemplate.ContainerSpec.Mounts | length")" 0'
check "--force replaces all" eval 'before=$(containers_of web) && shoal_ service update -q --force web && equals "$(comm -12 <(echo "$before") <(containers_of web))" ""'
check "the version must be the present one" eval 'v=$(api a GET /services/web | jq .Version.Index) && s=$(api a GET /services/web | jq -c .Spec) && ! o=$(api a POST "/services/web/update?version=$((v - 1))" "$s") && ! contains "$(status_of a POST "/services/web/update?version=$((v - 1))" "$s")" 200'
check "a failing update pauses and stops at the first slot" eval 'shoal_ service update -d --args /no/such/program web && eventually 20 eval "equals \"\$(shoal_ service inspect -f \"{{.UpdateStatus.State}}\" web)\" paused" && equals "$(containers_of web | wc -l)" 3'
check "and says why" eval 'contains "$(shoal_ service inspect -f "{{.UpdateStatus.Message}}" web)" "update paused due to failure or early termination of task"'
check "a good spec goes on" eval 'shoal_ service update -q --rollback web && settled web 4/4'

# --- logs --------------------------------------------------------------------------------------------------------------------

create --name talk --replicas 2 busy:1 sh -c 'echo "slot says hello"; sleep 2; echo later; exec sleep 1000' >/dev/null
settled talk 2/2 >/dev/null
timeout 60 shoal --host "unix://$work/a/api.sock" service logs -f talk >"$work/follow" 2>&1 &
follower=$!
check "service logs -f shows what comes of every task" eventually 20 eval 'equals "$(grep -c later "$work/follow")" 2 && equals "$(grep -c hello "$work/follow")" 2'
check "a new task is followed too" eval 'shoal_ service scale -d talk=3 && eventually 20 eval "equals \"\$(grep -c hello \"$work/follow\")\" 3"'
kill $follower
check "lines name task and node" eval '[[ $(head -n 1 "$work/follow") =~ ^talk\.[12]\.[0-9a-z]{12}@[^\ ]+\ +\|\ slot\ says\ hello$ ]]'
check "--raw" eventually 20 eval 'equals "$(shoal_ service logs --raw --tail 1 talk | sort -u)" later'
check "logs of one task" eval 't=$(tasks talk ".[0].ID") && equals "$(shoal_ service logs --raw "$t" | head -n 1)" "slot says hello"'
shoal_ service rm talk web >/dev/null

# --- restart policy ------------------------------------------------------------------------------------------------------------

state_of() { tasks "$1" 'map(.Status.State) | join(" ")'; }
create --name none --restart-condition none busy:1 sh -c 'exit 1' >/dev/null
create --name fine --restart-condition on-failure --restart-delay 100ms busy:1 sh -c 'exit 0' >/dev/null
create --name fails --restart-condition on-failure --restart-delay 100ms --restart-max-attempts 2 busy:1 sh -c 'exit 4' >/dev/null
create --name any --restart-condition any --restart-delay 100ms --restart-max-attempts 1 busy:1 sh -c 'exit 0' >/dev/null
create --name slow --restart-delay 2s --restart-max-attempts 1 busy:1 sh -c 'exit 1' >/dev/null
create --name loop --restart-delay 50ms busy:1 sh -c 'exit 1' >/dev/null
create --name window --restart-delay 600ms --restart-max-attempts 1 --restart-window 300ms busy:1 sh -c 'exit 1' >/dev/null

is() { equals "$(state_of "$1")" "$2"; }
check "none: what failed stays so" eventually 20 is none failed
check "on-failure: what ended well stays so" eventually 20 is fine complete
check "on-failure: two attempts after the first" eventually 20 is fails "failed failed failed"
check "any: what ended well starts again" eventually 20 is any "complete complete"
check "the delay passes between the end and the next start" eval 'eventually 20 is slow "failed failed" &&
    tasks slow "map(.Status.Timestamp | .[0:19] + \"Z\" | fromdate) | .[1] - .[0]" | { read -r s; echo "$s s"; [ "$s" -ge 1 ] && [ "$s" -le $((4 * slow)) ]; }'
check "the status tells the exit code" equals "$(tasks fails '.[0].Status | "\(.ContainerStatus.ExitCode) \(.Err)"')" "4 task: non-zero exit (4)"
check "a window forgets old attempts" eval 'first=$(tasks window ".[0].ID") && eventually 30 eval "[ \"\$(tasks window .[0].ID)\" != $first ]" && eventually 30 eval "! tasks window \"map(.ID) | join(\\\" \\\")\" | grep -q $first"'
check "no more than five tasks of a slot are kept" eval 'seen=$(tasks loop ".[0].ID"); eventually 30 eval "[ \"\$(tasks loop .[0].ID)\" != $seen ]" && for i in 1 2 3 4 5 6 7 8 9 10; do n=$(tasks loop length); [ "$n" -le 6 ] || exit 1; pause 0.1; done; shoal_ service scale -d loop=0; echo "$n"; [ "$n" -ge 4 ]'
check "the containers of what is kept are kept, others not" eventually 20 eval 'equals "$(containers_of fails -a | wc -l)" 3'
check "still: none and fine were left alone" eval 'is none failed && is fine complete && is fails "failed failed failed"'
check "a new spec starts what had ended" eval 'shoal_ service update -d --restart-condition none --args "sleep 1000" none && settled none 1/1'
shoal_ service rm none fine fails any slow loop window >/dev/null

# --- what does not work says why ---------------------------------------------------------------------------------------------

check "a bad name" fails_with 1 "bad_name_" create --name bad_name_ busy:1
check "a bad image reference" fails_with 1 "must be lowercase" create --name bad Not/An/Image
check "a bad constraint" fails_with 1 "node.role=manager" create --name bad --constraint node.role=manager busy:1
check "a negative delay" fails_with 1 "RestartPolicy.Delay: -1000000000" create --name bad --restart-delay=-1s busy:1
check "too little memory" fails_with 1 "1024" create --name bad --limit-memory 1024b busy:1
check "nothing of it was made" equals "$(shoal_ service ls -q)" ""
create --name lost --restart-condition none 127.0.0.1:9/no/such:1 >/dev/null
check "an image that cannot be had: the task is rejected and says why" eventually 30 eval 'equals "$(tasks lost ".[0].Status.State")" rejected && contains "$(shoal_ service ps --no-trunc --format "{{.Error}}" lost)" "127.0.0.1:9"'
create --name nowhere --constraint node.labels.zone==nowhere busy:1 sh -c "$serve" >/dev/null
check "no suitable node: the task waits and says why" eventually 20 eval 'contains "$(shoal_ service ps --no-trunc --format "{{.CurrentState}} {{.Error}}" nowhere)" "Pending" && contains "$(shoal_ service ps --no-trunc --format "{{.Error}}" nowhere)" "no suitable node (scheduling constraints not satisfied on 1 node)"'
check "it runs when the node fits" eval 'shoal_ node update --label-add zone=nowhere $node && settled nowhere 1/1'
create --name huge --reserve-memory 100000g busy:1 sh -c "$serve" >/dev/null
check "no room: the task waits and says why" eventually 20 eval 'contains "$(shoal_ service ps --no-trunc --format "{{.Error}}" huge)" "no suitable node (insufficient resources on 1 node)"'
create --name gone --restart-condition none busy:1 /no/such/program >/dev/null
check "a program that is not there: the task fails and says why" eventually 20 eval 'contains "$(shoal_ service ps --no-trunc --format "{{.Error}}" gone)" "/no/such/program"'
check "rm of what is not there" fails_with 1 "nosuch" shoal_ service rm nosuch
shoal_ service rm lost nowhere huge gone >/dev/null

# --- leaving ---------------------------------------------------------------------------------------------------------------------

check "services leave no container" eventually 20 eval 'equals "$(shoal_ ps -aq)" ""'
create --name last busy:1 sh -c "$serve" >/dev/null
settled last 1/1 >/dev/null
check "leave asks for force" fails_with 1 "--force" shoal_ swarm leave
check "leave" equals "$(shoal_ swarm leave --force)" "Node left the swarm."
check "its tasks go with it" eventually 20 eval 'equals "$(shoal_ ps -aq)" ""'
check "no swarm is left" equals "$(shoal_ info --format '{{.Swarm.LocalNodeState}}')" inactive
check "another one can be founded" eval 'shoal_ swarm init --advertise-addr 127.0.0.1 && [ "$(shoal_ info --format "{{.Swarm.NodeID}}")" != "$node" ] && equals "$(shoal_ service ls -q)" "" && shoal_ swarm leave --force'
node_stop a
finish
