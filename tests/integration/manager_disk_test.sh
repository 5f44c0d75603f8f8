#!/bin/bash
# A manager whose disk is full: changes are refused with the reason, what is there goes on, and everything comes back by
# itself once there is room: after a while of refusing, after a kill, and after the store's file was lost meanwhile.
. "$(dirname "$0")/lib.sh"

data=$work/a/data
patience=30 # seconds; what is refused is answered after ten
# Files, since checks run in shells of their own: what was acknowledged, and what was proposed but not decided in time.
acked=$work/acked
unknown=$work/unknown
: >"$unknown"
big=$(head -c 120000 /dev/zero | tr '\0' x)

mkdir -p "$data"
mount -t tmpfs -o size=64m tmpfs "$data"

create() { # NAME [LABEL]: remembered when it was acknowledged
    local status
    printf '{"Name":"%s","Labels":{"x":"%s"},"TaskTemplate":{"ContainerSpec":{"Image":"none:1"}},"Mode":{"Replicated":{"Replicas":0}}}' \
        "$1" "${2:-}" >"$work/body"
    status=$(curl -sS --max-time "$patience" --unix-socket "$work/a/api.sock" -X POST -H 'Content-Type: application/json' \
        -d "@$work/body" -o "$work/answer" -w '%{http_code}' http://a/services/create)
    [ "$status" != 201 ] || echo "\"Name\":\"$1\"" >>"$acked"
    ! grep -q 'outcome unknown' "$work/answer" || echo "\"Name\":\"$1\"" >>"$unknown"
    cat "$work/answer"
    [ "$status" = 201 ]
}

fill() { cat /dev/zero >"$data/filler" 2>/dev/null; [ "$(df --output=avail "$data" | tail -n 1)" -eq 0 ]; }
make_room() { rm -f "$data/filler"; }

create_until_refused() {
    local i
    for i in $(seq 200); do
        create "$1$i" "$big" >/dev/null || grep -q 'outcome unknown' "$work/answer" || { equals "$(status_of a GET /_ping)" 200 && contains "$(cat "$work/answer")" full; return; }
    done
    echo "nothing was refused"
    return 1
}

all_there() { # every service that was acknowledged, and none that was refused
    local have want
    have=$(api a GET /services | grep -o '"Name":"[^"][^"]*"' | sort -u | grep -vxFf "$unknown") || return 1
    want=$(sort -u "$acked")
    [ "$have" = "$want" ] || { diff <(echo "$want") <(echo "$have") | cut -c 1-100; return 1; }
}

reason() { contains "$(api a GET /services)" "No space left"; }
alive() { kill -0 "$(node_pid a)"; }

init() { api a POST /swarm/init '{"ListenAddr":"127.0.0.1:2377","AdvertiseAddr":"127.0.0.1:2377"}'; }
init_is_refused() { ! init >"$work/answer" && contains "$(cat "$work/answer")" "No space left"; }

node_start a || finish
fill
check "a swarm cannot be founded on a full disk" init_is_refused
make_room
check "with room it can" init
check "a service is created while there is room" create first

fill
check "a full disk refuses changes and says why" create_until_refused before
check "it goes on serving what is there" all_there
make_room
check "with room it takes changes again by itself" eventually 10 create second
check "nothing acknowledged is lost" all_there
check "it was never restarted" alive

fill
patience=1 # the one that is refused dies with the node
create_until_refused while >/dev/null 2>&1
patience=30
node_kill a
node_start a
check "killed on a full disk it comes back with everything" eventually 10 all_there

node_kill a
rm -f "$data/swarm/manager/store/"*
cat /dev/zero >>"$data/filler" 2>/dev/null
node_start a
check "without its store's file it says what it waits for" eventually 10 reason
check "and does not end" alive
make_room
check "with room it rebuilds the store from the log" eventually 10 all_there
check "and takes changes" eventually 10 create third
check "without a restart" alive
finish
