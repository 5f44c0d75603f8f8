#!/bin/bash
# The main job on this machine, as a newcomer would do it: a node, a swarm, an image from a registry, a service that is scaled, updated, looked at
# and removed. Everything is the real thing but the registry, which is started here on the loopback. `make demo` runs it; it stops at the first
# command that fails.
[ "$(id -u)" -eq 0 ] || { echo "demo: containers need root: sudo make demo"; exit 1; }
. "$(dirname "$0")/lib.sh"
. "$here/images.sh"

bold= dim= plain= quiet=--quiet
[ ! -t 1 ] || bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m' quiet=

missing=$(images_need | tr '\n' ' ')
[ -z "$missing" ] || { echo "demo: these programs are missing, make deps installs them: $missing"; exit 1; }

chapter() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

give_up() {
    echo "demo: the last command failed; the node's last lines:"
    tail -n 20 "$work/a/log"
    exit 1
}

milliseconds() { echo $(($(date +%s%N) / 1000000)); }

shown() { # COMMAND...: as one would type it
    local word out=
    for word; do
        [[ $word =~ ^[A-Za-z0-9_./:=@,+-]+$ ]] || word=${word@Q}
        out+=" $word"
    done
    echo "${out# }"
}

run() { # COMMAND...: show it, run it, say how long it took
    local began
    printf '%s$ %s%s\n' "$bold" "$(shown "$@")" "$plain"
    began=$(milliseconds)
    "$@" || give_up
    printf '%s(%d ms)%s\n' "$dim" $(($(milliseconds) - began)) "$plain"
}

running() { shoal service ls --filter name=web --format '{{.Replicas}}'; }

await() { # RUNNING/WANTED: until the service is that far, from the last command on
    local began=$1
    eventually 20 eval "equals \"\$(running)\" $2" || give_up
    printf '%s%s replicas run %d ms after the command began%s\n' "$dim" "${2%/*}" $(($(milliseconds) - began)) "$plain"
}

chapter "A registry on the loopback, and an image of busybox that skopeo pushes to it"
registry_start "$work/registry" || exit 1
image_busybox "$work/layout" web:1 && registry_push "$work/layout" web:1 "$REGISTRY/web:1" || exit 1
echo "$REGISTRY/web:1"

chapter "A node"
printf '%s$ shoald --data-dir %s --run-dir %s --host unix://%s &%s\n' "$bold" "$work/a/data" "$work/a/run" "$work/a/api.sock" "$plain"
began=$(milliseconds)
node_start a || exit 1
printf '%sit serves after %d ms%s\n' "$dim" $(($(milliseconds) - began)) "$plain"
export SHOAL_HOST=unix://$work/a/api.sock
run shoal pull "$REGISTRY/web:1"
run shoal images

chapter "A swarm of one"
run shoal swarm init --advertise-addr 127.0.0.1
run shoal node ls

chapter "A service"
# A loop that ends at the stop signal, as a good program does; as process 1 it has to ask for that.
serve='trap "exit 0" TERM; echo "$GREETING from $(hostname)"; while :; do sleep 1 & wait $!; done'
began=$(milliseconds)
run shoal service create --detach --name web --replicas 3 --env GREETING=hello --limit-memory 32m --update-parallelism 2 --update-monitor 1s \
    "$REGISTRY/web:1" sh -c "$serve"
await "$began" 3/3
run shoal service ls
run shoal service ps web
run shoal service logs web

chapter "Scaled: the tasks that run are left alone"
began=$(milliseconds)
run shoal service scale --detach web=10
await "$began" 10/10

chapter "Updated, two tasks at a time"
run shoal service update $quiet --env-add GREETING=welcome web
run shoal service ps --filter desired-state=running web
run shoal service logs --tail 1 web

chapter "What the node says about a task's container"
container=$(shoal ps --quiet | head -n 1)
run shoal ps --filter "id=$container"
run shoal inspect --format 'memory={{.HostConfig.Memory}} pid={{.State.Pid}} started={{.State.StartedAt}}' "$container"

chapter "Killed with SIGKILL and started again: the containers never notice"
before=$(shoal ps --quiet --no-trunc | sort)
printf '%s$ kill -9 %s; shoald ... &%s\n' "$bold" "$(node_pid a)" "$plain"
node_kill a
began=$(milliseconds)
node_start a || exit 1
printf '%sit serves again after %d ms%s\n' "$dim" $(($(milliseconds) - began)) "$plain"
run shoal service ls
equals "$(shoal ps --quiet --no-trunc | sort)" "$before" || give_up
echo "the same $(wc -l <<<"$before") containers run on"

chapter "Removed"
run shoal service rm web
eventually 20 eval '[ -z "$(shoal ps --all --quiet)" ]' || give_up
run shoal ps --all
run shoal swarm leave --force
node_stop a
registry_stop
chapter "That is the main job. README.md goes on from here."
