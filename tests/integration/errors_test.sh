#!/bin/bash
# What the API refuses: unknown, missing and malformed input gets Docker's status code and a message that names the field and the value, and nothing
# changes by it.
. "$(dirname "$0")/lib.sh"
. "$here/images.sh"

node_start a || exit 1
node_image a busy:1 || exit 1

state() { # everything a client can see, but for what changes by itself
    api a GET '/containers/json?all=1' | jq -c 'map([.Id, .State])'
    api a GET /images/json | jq -c 'map([.Id, .RepoTags])'
    api a GET /volumes | jq -c '.Volumes'
    api a GET /services | jq -c 'arrays | map([.ID, .Version.Index])'
    api a GET /nodes | jq -c 'arrays | map([.ID, .Spec])'
    api a GET /swarm | jq -c '.Spec'
}

# One request a line: status, words that must stand in the message (separated by |), method, path, body.
refused() { # STATUS WORDS METHOD PATH [BODY]
    local status=$1 words=$2 method=$3 path=$4 body=${5-} answer code word
    answer=$(curl -sS -g --max-time 60 --unix-socket "$work/a/api.sock" -X "$method" -w '\n%{http_code}' ${5+-H "Content-Type: ${type:-application/json}"} ${5+--data-binary "$body"} "http://node$path") || return 1
    code=${answer##*$'\n'} answer=${answer%$'\n'*}
    equals "$code" "$status" || { echo "$answer"; return 1; }
    [ "$method" = HEAD ] || jq -e 'keys == ["message"] and (.message | type == "string" and length > 0)' <<<"$answer" >/dev/null || { echo "no message: $answer"; return 1; }
    while [ -n "$words" ]; do
        word=${words%%|*}
        contains "$answer" "$word" || return 1
        [ "$word" != "$words" ] || break
        words=${words#*|}
    done
}

table() { # NAME: the lines on standard input, of which none may change anything
    local status words method path body before after bad=0 count=0
    before=$(state)
    while IFS=$'\x1f' read -r status words method path body; do
        case $status in '' | \#*) continue ;; esac
        count=$((count + 1))
        if [ -n "$body" ]; then refused "$status" "$words" "$method" "$path" "$body"; else refused "$status" "$words" "$method" "$path"; fi || {
            echo "^ $method $path $body"
            bad=$((bad + 1))
        }
    done
    after=$(state)
    equals "$after" "$before" || bad=$((bad + 1))
    echo "$bad of $count"
    [ $bad -eq 0 ] && [ $count -gt 0 ]
}

columns() { sed 's/ *¦ */\x1f/g'; } # divided by a broken bar, which no request has

sh_ a create --network none --name taken busy:1 sleep 1000 >/dev/null
sh_ a create --network none --name idle busy:1 true >/dev/null
sh_ a start taken >/dev/null

columns <<'EOT' >"$work/general"
404 ¦ page not found ¦ GET ¦ /nosuch
404 ¦ page not found ¦ POST ¦ /containers/taken/nosuch
404 ¦ No such container: json ¦ DELETE ¦ /containers/json
400 ¦ 1.99|1.45 ¦ GET ¦ /v1.99/containers/json
400 ¦ 1.2|1.24 ¦ GET ¦ /v1.2/containers/json
EOT
columns <<'EOT' >"$work/containers"
404 ¦ No such container: nobody ¦ GET ¦ /containers/nobody/json
404 ¦ No such container: nobody ¦ POST ¦ /containers/nobody/start
404 ¦ No such container: nobody ¦ POST ¦ /containers/nobody/stop
404 ¦ No such container: nobody ¦ POST ¦ /containers/nobody/kill
404 ¦ No such container: nobody ¦ POST ¦ /containers/nobody/wait
404 ¦ No such container: nobody ¦ DELETE ¦ /containers/nobody
404 ¦ No such container: nobody ¦ GET ¦ /containers/nobody/logs?stdout=1
409 ¦ taken|already in use ¦ POST ¦ /containers/create?name=taken ¦ {"Image":"busy:1"}
400 ¦ sl/ash ¦ POST ¦ /containers/create?name=sl/ash ¦ {"Image":"busy:1"}
404 ¦ No such image: nosuch:latest ¦ POST ¦ /containers/create ¦ {"Image":"nosuch"}
400 ¦ Not/Valid ¦ POST ¦ /containers/create ¦ {"Image":"x/Not/Valid"}
400 ¦ ¦ POST ¦ /containers/create ¦ {}
400 ¦ ¦ POST ¦ /containers/create ¦ {"Image":"busy:1"
400 ¦ ¦ POST ¦ /containers/create ¦ []
400 ¦ Image|5 ¦ POST ¦ /containers/create ¦ {"Image":5}
400 ¦ Env|7 ¦ POST ¦ /containers/create ¦ {"Image":"busy:1","Env":[7]}
400 ¦ Cmd ¦ POST ¦ /containers/create ¦ {"Image":"busy:1","Cmd":{"a":1}}
400 ¦ Tty|yes ¦ POST ¦ /containers/create ¦ {"Image":"busy:1","Tty":"yes"}
400 ¦ Memory|lots ¦ POST ¦ /containers/create ¦ {"Image":"busy:1","HostConfig":{"Memory":"lots"}}
400 ¦ 6MB ¦ POST ¦ /containers/create ¦ {"Image":"busy:1","HostConfig":{"Memory":1000}}
400 ¦ range of CPUs ¦ POST ¦ /containers/create ¦ {"Image":"busy:1","HostConfig":{"NanoCpus":-5}}
400 ¦ PidsLimit|many ¦ POST ¦ /containers/create ¦ {"Image":"busy:1","HostConfig":{"PidsLimit":"many"}}
400 ¦ CAP_FLY ¦ POST ¦ /containers/create ¦ {"Image":"busy:1","HostConfig":{"CapAdd":["CAP_FLY"]}}
400 ¦ colour ¦ POST ¦ /containers/create ¦ {"Image":"busy:1","HostConfig":{"Ulimits":[{"Name":"colour","Soft":1,"Hard":1}]}}
501 ¦ container:x ¦ POST ¦ /containers/create ¦ {"Image":"busy:1","HostConfig":{"NetworkMode":"container:x"}}
400 ¦ sometimes ¦ POST ¦ /containers/create ¦ {"Image":"busy:1","HostConfig":{"RestartPolicy":{"Name":"sometimes"}}}
400 ¦ rel/ative ¦ POST ¦ /containers/create ¦ {"Image":"busy:1","HostConfig":{"Binds":["/a:rel/ative"]}}
400 ¦ pipe ¦ POST ¦ /containers/create ¦ {"Image":"busy:1","HostConfig":{"Mounts":[{"Type":"pipe","Target":"/a"}]}}
400 ¦ /no/such/dir ¦ POST ¦ /containers/create ¦ {"Image":"busy:1","HostConfig":{"Mounts":[{"Type":"bind","Source":"/no/such/dir","Target":"/a"}]}}
400 ¦ SIGNONE ¦ POST ¦ /containers/create ¦ {"Image":"busy:1","StopSignal":"SIGNONE"}
400 ¦ StopTimeout|soon ¦ POST ¦ /containers/create ¦ {"Image":"busy:1","StopTimeout":"soon"}
400 ¦ NOSIG ¦ POST ¦ /containers/taken/kill?signal=NOSIG
409 ¦ is not running ¦ POST ¦ /containers/idle/kill
400 ¦ t|abc ¦ POST ¦ /containers/taken/stop?t=abc
409 ¦ running ¦ DELETE ¦ /containers/taken
400 ¦ condition|tomorrow ¦ POST ¦ /containers/taken/wait?condition=tomorrow
400 ¦ at least one stream ¦ GET ¦ /containers/taken/logs
400 ¦ since|yesterday ¦ GET ¦ /containers/taken/logs?stdout=1&since=yesterday
400 ¦ colour ¦ GET ¦ /containers/json?filters={"colour":["red"]}
400 ¦ filters ¦ GET ¦ /containers/json?filters=nonsense
400 ¦ limit|x ¦ GET ¦ /containers/json?limit=x
409 ¦ taken ¦ POST ¦ /containers/idle/rename?name=taken
400 ¦ ¦ POST ¦ /containers/idle/rename?name=
EOT
columns <<'EOT' >"$work/images.table"
404 ¦ No such image: nosuch:latest ¦ GET ¦ /images/nosuch/json
404 ¦ No such image: nosuch:latest ¦ DELETE ¦ /images/nosuch
404 ¦ No such image: nosuch:latest ¦ POST ¦ /images/nosuch/tag?repo=x
400 ¦ UP ¦ POST ¦ /images/busy:1/tag?repo=x/UP
400 ¦ ¦ POST ¦ /images/busy:1/tag
409 ¦ is using its referenced image ¦ DELETE ¦ /images/busy:1?x=1
400 ¦ fromImage ¦ POST ¦ /images/create
400 ¦ UP ¦ POST ¦ /images/create?fromImage=x/UP&tag=1
400 ¦ colour ¦ GET ¦ /images/json?filters={"colour":["red"]}
EOT
columns <<'EOT' >"$work/volumes"
404 ¦ nosuch ¦ GET ¦ /volumes/nosuch
404 ¦ nosuch ¦ DELETE ¦ /volumes/nosuch
400 ¦ a/b ¦ POST ¦ /volumes/create ¦ {"Name":"a/b"}
400 ¦ Name|5 ¦ POST ¦ /volumes/create ¦ {"Name":5}
400 ¦ Labels ¦ POST ¦ /volumes/create ¦ {"Name":"vv","Labels":["a"]}
404 ¦ nfs4 ¦ POST ¦ /volumes/create ¦ {"Name":"vv","Driver":"nfs4"}
400 ¦ ¦ POST ¦ /volumes/create ¦ {"Name":
400 ¦ colour ¦ GET ¦ /volumes?filters={"colour":["red"]}
EOT
columns <<'EOT' >"$work/noswarm"
503 ¦ This node is not a swarm manager ¦ GET ¦ /services
503 ¦ This node is not a swarm manager ¦ GET ¦ /nodes
503 ¦ This node is not a swarm manager ¦ GET ¦ /tasks
503 ¦ This node is not a swarm manager ¦ GET ¦ /swarm
503 ¦ This node is not a swarm manager ¦ POST ¦ /services/create ¦ {"Name":"x"}
503 ¦ not part of a swarm ¦ POST ¦ /swarm/leave
400 ¦ 999.1.1.1 ¦ POST ¦ /swarm/init ¦ {"ListenAddr":"0.0.0.0:2377","AdvertiseAddr":"999.1.1.1"}
400 ¦ ListenAddr|5 ¦ POST ¦ /swarm/init ¦ {"ListenAddr":5}
400 ¦ ¦ POST ¦ /swarm/init ¦ {"ListenAddr"
EOT
columns <<'EOT' >"$work/swarm"
503 ¦ already part of a swarm ¦ POST ¦ /swarm/init ¦ {"ListenAddr":"0.0.0.0:2377"}
503 ¦ force ¦ POST ¦ /swarm/leave
404 ¦ service nosuch not found ¦ GET ¦ /services/nosuch
404 ¦ service nosuch not found ¦ DELETE ¦ /services/nosuch
404 ¦ service nosuch not found ¦ POST ¦ /services/nosuch/update?version=1 ¦ {"Name":"nosuch","TaskTemplate":{"ContainerSpec":{"Image":"busy:1"}}}
404 ¦ nosuch ¦ GET ¦ /services/nosuch/logs?stdout=1
409 ¦ web|conflicts ¦ POST ¦ /services/create ¦ {"Name":"web","TaskTemplate":{"ContainerSpec":{"Image":"busy:1"}}}
400 ¦ web_ ¦ POST ¦ /services/create ¦ {"Name":"web_","TaskTemplate":{"ContainerSpec":{"Image":"busy:1"}}}
400 ¦ Name|5 ¦ POST ¦ /services/create ¦ {"Name":5,"TaskTemplate":{"ContainerSpec":{"Image":"busy:1"}}}
400 ¦ ¦ POST ¦ /services/create ¦ {"Name":"x"}
400 ¦ image reference must be provided ¦ POST ¦ /services/create ¦ {"Name":"x","TaskTemplate":{"ContainerSpec":{}}}
400 ¦ ¦ POST ¦ /services/create ¦ {"Name":"x",
400 ¦ ¦ POST ¦ /services/create ¦ "text"
400 ¦ Replicas|-1 ¦ POST ¦ /services/create ¦ {"Name":"x","TaskTemplate":{"ContainerSpec":{"Image":"busy:1"}},"Mode":{"Replicated":{"Replicas":-1}}}
400 ¦ Mode ¦ POST ¦ /services/create ¦ {"Name":"x","TaskTemplate":{"ContainerSpec":{"Image":"busy:1"}},"Mode":{"Replicated":{},"Global":{}}}
400 ¦ Condition|often ¦ POST ¦ /services/create ¦ {"Name":"x","TaskTemplate":{"ContainerSpec":{"Image":"busy:1"},"RestartPolicy":{"Condition":"often"}}}
400 ¦ Delay|-5 ¦ POST ¦ /services/create ¦ {"Name":"x","TaskTemplate":{"ContainerSpec":{"Image":"busy:1"},"RestartPolicy":{"Delay":-5}}}
400 ¦ memory value 100 ¦ POST ¦ /services/create ¦ {"Name":"x","TaskTemplate":{"ContainerSpec":{"Image":"busy:1"},"Resources":{"Limits":{"MemoryBytes":100}}}}
400 ¦ cpu value 3e-09 ¦ POST ¦ /services/create ¦ {"Name":"x","TaskTemplate":{"ContainerSpec":{"Image":"busy:1"},"Resources":{"Limits":{"NanoCPUs":3}}}}
400 ¦ node.colour=red ¦ POST ¦ /services/create ¦ {"Name":"x","TaskTemplate":{"ContainerSpec":{"Image":"busy:1"},"Placement":{"Constraints":["node.colour=red"]}}}
400 ¦ /data ¦ POST ¦ /services/create ¦ {"Name":"x","TaskTemplate":{"ContainerSpec":{"Image":"busy:1","Mounts":[{"Type":"tmpfs","Target":"/data"},{"Type":"tmpfs","Target":"/data"}]}}}
400 ¦ Type|npipe ¦ POST ¦ /services/create ¦ {"Name":"x","TaskTemplate":{"ContainerSpec":{"Image":"busy:1","Mounts":[{"Type":"npipe","Target":"/data"}]}}}
400 ¦ Env|1 ¦ POST ¦ /services/create ¦ {"Name":"x","TaskTemplate":{"ContainerSpec":{"Image":"busy:1","Env":[1]}}}
400 ¦ MaxFailureRatio|7 ¦ POST ¦ /services/create ¦ {"Name":"x","TaskTemplate":{"ContainerSpec":{"Image":"busy:1"}},"UpdateConfig":{"MaxFailureRatio":7}}
400 ¦ version ¦ POST ¦ /services/web/update ¦ {"Name":"web","TaskTemplate":{"ContainerSpec":{"Image":"busy:1"}}}
400 ¦ version|x ¦ POST ¦ /services/web/update?version=x ¦ {"Name":"web","TaskTemplate":{"ContainerSpec":{"Image":"busy:1"}}}
500 ¦ update out of sequence ¦ POST ¦ /services/web/update?version=1 ¦ {"Name":"web","TaskTemplate":{"ContainerSpec":{"Image":"busy:1"}}}
400 ¦ colour ¦ GET ¦ /services?filters={"colour":["red"]}
400 ¦ colour ¦ GET ¦ /tasks?filters={"colour":["red"]}
400 ¦ colour ¦ GET ¦ /nodes?filters={"colour":["red"]}
404 ¦ node nosuch not found ¦ GET ¦ /nodes/nosuch
404 ¦ task nosuch not found ¦ GET ¦ /tasks/nosuch
404 ¦ node nosuch not found ¦ POST ¦ /nodes/nosuch/update?version=1 ¦ {"Role":"manager","Availability":"active"}
400 ¦ Availability|sleepy ¦ POST ¦ /nodes/self/update?version=1 ¦ {"Role":"manager","Availability":"sleepy"}
400 ¦ Role|king ¦ POST ¦ /nodes/self/update?version=1 ¦ {"Role":"king","Availability":"active"}
EOT

check "unknown paths and versions" table <"$work/general"
check "containers" table <"$work/containers"
check "images" table <"$work/images.table"
check "volumes" table <"$work/volumes"
check "swarm calls without a swarm" table <"$work/noswarm"
check "a body of another type than JSON" eval 'type=text/plain refused 400 "text/plain" POST /containers/create "{\"Image\":\"busy:1\"}"'
check "a body of 20 MB" eval 'c=$(head -c 20000000 /dev/zero | tr "\0" " " | curl -sS -o "$work/answer" -w "%{http_code}" --unix-socket "$work/a/api.sock" -H "Content-Type: application/json" --data-binary @- http://node/containers/create); [[ $c =~ ^(400|413)$ ]] && jq -e .message "$work/answer"'
check "nesting without end" eval 'b=$(printf "[%.0s" $(seq 5000)) && refused 400 "" POST /containers/create "$b"'
check "what is no HTTP" eval 'equals "$(curl -sS -o /dev/null -w "%{http_code}" --unix-socket "$work/a/api.sock" -X "NO SUCH THING" http://node/info)" 400'

sh_ a swarm init --advertise-addr 127.0.0.1 >/dev/null
sh_ a service create -d --no-resolve-image --name web --restart-condition none busy:1 sleep 1000 >/dev/null
eventually 20 eval 'equals "$(sh_ a service ls --format {{.Replicas}})" 1/1' >/dev/null
eventually 10 eval 'equals "$(sh_ a node ls --format {{.Status}})" Ready' >/dev/null
check "the swarm" table <"$work/swarm"
check "the node serves as before" equals "$(sh_ a service ls --format '{{.Name}} {{.Replicas}}') $(sh_ a ps -q | wc -l)" "web 1/1 2"
node_stop a
finish
