#!/bin/bash
# The stock docker client, unmodified, against a node: every command of the engine and of a swarm of one, with what it prints and its exit status.
. "$(dirname "$0")/lib.sh"
. "$here/images.sh"

have_docker || skip_all "no docker client on this machine"
missing=$(images_need | tr '\n' ' ')
[ -z "$missing" ] || skip_all "missing: $missing"
image_busybox "$work/layout" web:1
image_busybox "$work/layout" web:2 '{"Cmd":["/bin/sh"],"Env":["VERSION=2"]}'
docker_archive "$work/layout" web:1 "$work/saved.tar" saved:1
registry_start "$work/registry" || skip_all "the registry does not start"
registry_push "$work/layout" web:1 "$REGISTRY/web:1"
registry_push "$work/layout" web:2 "$REGISTRY/web:2"
node_start a || exit 1
image=$REGISTRY/web:1

dock() { docker_ a "$@"; }

# --- the node --------------------------------------------------------------------------------------------------------

check "version shows both sides" says "Server: " dock version
check "version agrees on an API version" equals "$(dock version --format '{{.Server.APIVersion}}')" 1.45
check "info shows the node" says "Server Version" dock info
check "info says that no swarm is there" equals "$(dock info --format '{{.Swarm.LocalNodeState}}')" inactive

# --- images ----------------------------------------------------------------------------------------------------------

check "pull from a registry" says "Downloaded newer image for $image" dock pull "$image"
check "pull again finds it up to date" says "Image is up to date for $image" dock pull "$image"
check "quiet pull prints the reference" equals "$(dock pull -q "$image")" "$image"
check "pull of what the registry has not fails" fails_with 1 "manifest unknown" dock pull "$REGISTRY/web:nine"
check "load from an archive" says "Loaded image: saved:1" dock load -i "$work/saved.tar"
check "load from standard input" says "Loaded image: saved:1" dock load <"$work/saved.tar"
check "images lists them" says "saved" dock images
check "images by reference" equals "$(dock images -q --no-trunc saved:1)" "$(oci_id "$work/layout" web:1)"
check "image inspect" equals "$(dock image inspect --format '{{.Os}}/{{.Architecture}}' saved:1)" linux/amd64
check "tag" says "" dock tag saved:1 other:2
check "rmi takes the name away" says "Untagged: other:2" dock rmi other:2
check "rmi of what is not there fails" fails_with 1 "No such image: other:2" dock rmi other:2

# --- containers ------------------------------------------------------------------------------------------------------

id=$(dock create --name one -e WHO=world "$image" sh -c 'echo "hello $WHO"; echo oops >&2; exec sleep 1000')
check "create prints the id" equals "${#id}" 64
check "ps -a shows what was created" equals "$(dock ps -a --format '{{.Names}} {{.Image}} {{.State}}')" "one $image created"
check "start prints the name" equals "$(dock start one)" one
check "ps shows what runs" says "Up " dock ps --filter name=one
check "logs shows both streams" eval 'eventually 10 says hello dock logs one && equals "$(dock logs one 2>/dev/null)" "hello world" && equals "$(dock logs one 2>&1 >/dev/null)" oops'
check "logs --tail" equals "$(dock logs --tail 1 --timestamps one 2>&1 | grep -cE '^[0-9T:.-]+Z (hello world|oops)$')" 1
check "inspect" equals "$(dock inspect --format '{{.Name}} {{.State.Status}} {{.Config.Image}}' one)" "/one running $image"
check "rm of what runs is refused" fails_with 1 "container is running" dock rm one
check "stop" equals "$(dock stop -t 0 one)" one
check "its exit status is that of the signal" equals "$(dock inspect --format '{{.State.Status}} {{.State.ExitCode}}' one)" "exited 137"
check "wait prints the exit status" equals "$(dock wait one)" 137
check "start again" says one dock start one
check "kill with a signal" says one dock kill -s KILL one
check "rm" equals "$(dock wait one >/dev/null; dock rm one)" one
check "inspect of what is gone fails" fails_with 1 "No such container: one" dock inspect --type container one
check "rm -f of what runs" eval 'dock create --name two "$image" sleep 1000 >/dev/null && dock start two >/dev/null && dock rm -f two >/dev/null && [ -z "$(dock ps -aq)" ]'
check "run --detach" eval 'dock run -d --name three --network none "$image" sleep 1000 && dock rm -f three'

# --- volumes ---------------------------------------------------------------------------------------------------------

check "volume create" equals "$(dock volume create --label tier=test data)" data
check "volume ls" equals "$(dock volume ls --format '{{.Name}} {{.Driver}}')" "data local"
check "volume inspect" equals "$(dock volume inspect --format '{{.Name}} {{.Labels.tier}}' data)" "data test"
check "a volume keeps what is written" eval 'dock run -d --name writer --network none -v data:/data "$image" sh -c "echo kept >/data/file" && equals "$(dock wait writer)" 0 &&
    dock run -d --name reader --network none -v data:/data "$image" cat /data/file && dock wait reader && equals "$(dock logs reader)" kept'
check "volume rm of what is in use is refused" fails_with 1 "volume is in use" dock volume rm data
dock rm reader writer >/dev/null
check "volume rm" equals "$(dock volume rm data)" data
check "volume inspect of what is gone fails" fails_with 1 "get data: no such volume" dock volume inspect data

# --- the swarm -------------------------------------------------------------------------------------------------------

check "node ls without a swarm says what to do" fails_with 1 "This node is not a swarm manager." dock node ls
check "swarm init" says "is now a manager." dock swarm init --advertise-addr 127.0.0.1
check "swarm init again is refused" fails_with 1 "This node is already part of a swarm" dock swarm init --advertise-addr 127.0.0.1
check "swarm join-token" eval 'case $(dock swarm join-token -q worker) in SWMTKN-1-*) ;; *) false ;; esac'
check "info shows the swarm" equals "$(dock info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{.Swarm.Managers}} {{.Swarm.Nodes}}')" "active true 1 1"
check "node ls" eventually 10 eval 'equals "$(dock node ls --format "{{.Status}} {{.Availability}} {{.ManagerStatus}}")" "Ready Active Leader"'
check "node inspect" equals "$(dock node inspect --format '{{.Spec.Role}}' self)" manager

# --- services --------------------------------------------------------------------------------------------------------

serve='trap "exit 0" TERM; echo "up $VERSION"; while :; do sleep 1 & wait $!; done'
said=$(dock service create --name web --replicas 2 "$image" sh -c "$serve" 2>&1)
rc=$?
service=${said%%$'\n'*}
check "service create waits until it has converged" eval 'equals $rc 0 && contains "$said" "verify: Service $service converged"'
check "service create shows the tasks on the way" contains "$said" "overall progress: 2 out of 2 tasks"
check "service create --quiet prints the id alone" eval 'q=$(dock service create -q --update-monitor 1s --name quiet "$image" sh -c "$serve") && equals ${#q} 25 && dock service rm quiet'
check "service create of a taken name is refused" fails_with 1 "name conflicts with an existing object" dock service create -d --name web "$image"
check "service ls" equals "$(dock service ls --format '{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}}')" "web replicated 2/2 $image"
check "service ps" equals "$(dock service ps --format '{{.Name}} {{.DesiredState}} {{.Error}}' web | sort)" $'web.1 Running \nweb.2 Running '
check "service inspect --pretty" says "Replicas:	2" dock service inspect --pretty web
check "service inspect" equals "$(dock service inspect --format '{{.Spec.Name}} {{.Spec.Mode.Replicated.Replicas}}' web)" "web 2"
check "service logs" eval 'said=$(dock service logs web 2>&1) && equals "$(grep -c "up" <<<"$said")" 2'
before=$(dock ps -q --filter label=com.docker.swarm.service.name=web | sort)
said=$(dock service scale web=4 2>&1)
rc=$?
check "service scale waits until it has converged" eval 'equals $rc 0 && contains "$said" "web scaled to 4" && contains "$said" "verify: Service web converged"'
check "service scale leaves the running tasks alone" eval 'now=$(dock ps -q --filter label=com.docker.swarm.service.name=web | sort) && equals "$(comm -12 <(echo "$before") <(echo "$now"))" "$before" && equals "$(wc -l <<<"$now")" 4'
check "service scale down" eval 'dock service scale -d web=2 && eventually 20 eval "equals \"\$(dock service ls --format {{.Replicas}})\" 2/2"'
said=$(dock service update --image "$REGISTRY/web:2" --update-monitor 1s web 2>&1)
rc=$?
check "service update waits until it has converged" eval 'equals $rc 0 && contains "$said" "verify: Service web converged"'
check "service update replaced the tasks" equals "$(dock service ps --filter desired-state=running --format '{{.Image}}' web | sort -u)" "$REGISTRY/web:2"
check "service update completed" equals "$(dock service inspect --format '{{.UpdateStatus.State}}' web)" completed
check "service ps shows the history" says '\_ web.1' dock service ps web
check "service logs of the new tasks" eval 'eventually 10 says "up 2" dock service logs web'
check "service update --env-add" eval 'dock service update -q --env-add A=b web && equals "$(dock service inspect --format "{{index .Spec.TaskTemplate.ContainerSpec.Env 0}}" web)" A=b'
check "service rollback" eval 'dock service rollback -q web && equals "$(dock service inspect --format "{{.Spec.TaskTemplate.ContainerSpec.Env}}" web)" "[]"'
check "a global service" eval 'said=$(dock service create --mode global --name everywhere --update-monitor 1s "$image" sh -c "$serve" 2>&1) && contains "$said" converged && equals "$(dock service ls --filter name=everywhere --format "{{.Mode}} {{.Replicas}}")" "global 1/1"'
check "service rm" equals "$(dock service rm web everywhere)" $'web\neverywhere'
check "removed services leave no container" eventually 20 eval '[ -z "$(dock ps -aq)" ]'
check "service inspect of what is gone fails" fails_with 1 "no such service: web" dock service inspect web
check "swarm leave of a manager asks for force" fails_with 1 "--force" dock swarm leave
check "swarm leave" says "Node left the swarm." dock swarm leave --force
check "info after leaving" equals "$(dock info --format '{{.Swarm.LocalNodeState}}')" inactive
registry_stop
node_stop a
finish
