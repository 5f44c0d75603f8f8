#!/bin/bash
# Managers and workers break at random while clients write and services scale. When everything works again nothing that was acknowledged is lost,
# nothing that was refused or removed is there, what runs on every machine is what is wanted, and nobody ever read an older value after a newer one.
#
# The short form runs in `make test`: three managers, two workers, a few faults. The long one, `make chaos MINUTES=n SEED=k`, goes on with clusters of
# 3 and 5 managers and 2 to 5 workers until the time is over. The seed decides the sizes, which faults come when, what they hit and how long they
# last; the output tells the schedule with its times, so that a run can be repeated as far as real processes repeat.
. "$(dirname "$0")/lib.sh"
. "$here/images.sh"
. "$here/machines.sh"

seconds=${CHAOS_SECONDS:-25} # of faults, over all rounds
round_seconds=${CHAOS_ROUND:-12}
seed=${SEED:-$RANDOM$RANDOM}
only=${CHAOS_FAULTS:-} # names of faults: no others
patience=$((90 * slow)) # seconds until everything must be right again
began=$(date +%s%N)
exec 3>&1 # the schedule goes to the output whatever is captured
say "SEED=$seed"

RANDOM=$((seed & 32767))
draw() { drawn=$(((RANDOM << 15 | RANDOM) % $1)); }        # NUMBER: `drawn` is below it; never in a subshell, which would not move the seed
pick() { draw $#; drawn=${*:drawn+1:1}; }                    # WORD...: `drawn` is one of them
chaos_log() { printf '# %8.3f %s\n' "$(((($(date +%s%N) - began) / 1000000)))e-3" "$*" >&3; }
check_here() { # NAME COMMAND...: as check, but in this shell: what the command sets stays set
    local what=$1
    shift
    "$@" >"$work/check.out" 2>&1 && echo "ok $what" && return
    failures=$((failures + 1))
    tail -n 40 "$work/check.out" | sed 's/^/#   /'
    echo "not ok $what"
}

# --- clients -----------------------------------------------------------------------------------------------------------------------

# Each has a register (the label "value" of a service of its own) and makes and removes services. What it was told is in files:
#   acked.N    "create NAME", "remove NAME", as acknowledged; unknown.N the same for what nobody knows
#   wrong.N    what no client must ever see, in words
request() { # NODE METHOD PATH [BODY]: `code` is the status, 000 when the connection broke; the answer is in answer.N
    code=$(curl -s --max-time 25 --unix-socket "$work/$1/api.sock" -X "$2" -o "$work/answer.$client" -w '%{http_code}' \
        ${4:+-H 'Content-Type: application/json' -d "$4"} "http://x$3" 2>/dev/null)
    case $?-$code in
    7-*) outcome=refused ;; # nobody listens
    0-2*) outcome=done ;;
    [1-9]*) outcome=unknown ;;
    *) if grep -q 'outcome unknown' "$work/answer.$client"; then outcome=unknown; else outcome=refused; fi ;;
    esac
    echo "$outcome $2" >>"$work/requests.$client"
}
service_json() { # NAME REPLICAS VALUE
    printf '{"Name":"%s","Labels":{"value":"%s"},"TaskTemplate":{"ContainerSpec":{"Image":"busy:1","Command":["sleep","100000"],"StopSignal":"KILL"},"RestartPolicy":{"Delay":100000000}},"Mode":{"Replicated":{"Replicas":%s}}}' "$1" "$3" "$2"
}
wrong() { echo "$(date +%T.%3N) client $client: $*" >>"$work/wrong.$client"; }
any_manager() { set -- $managers; node=${*:RANDOM % $# + 1:1}; }

client_read() { # the register must be between the last value acknowledged and the last one tried, and never go back
    any_manager
    request "$node" GET "/services/register$client"
    [ "$outcome" = done ] || return 0
    local got
    got=$(jq -r '.Spec.Labels.value' "$work/answer.$client") || return 0
    [ "$got" -ge "$least" ] || wrong "read $got from $node after $least"
    [ "$got" -le "$tried" ] || wrong "read $got from $node, but only $tried was written"
    [ "$got" -le "$least" ] || least=$got
}
client_write() { # the next value into the register, under the version that was read
    local version
    any_manager
    request "$node" GET "/services/register$client"
    [ "$outcome" = done ] || return 0
    version=$(jq .Version.Index "$work/answer.$client")
    tried=$((tried + 1))
    any_manager
    request "$node" POST "/services/register$client/update?version=$version" "$(service_json "register$client" 0 $tried)"
    [ "$outcome" != done ] || least=$tried
}
client_create() {
    serial=$((serial + 1))
    local name=client$client-$serial
    any_manager
    request "$node" POST /services/create "$(service_json "$name" 0 0)"
    case $outcome in
    done) echo "create $name" >>"$work/acked.$client" && mine+=("$name") ;;
    unknown) echo "create $name" >>"$work/unknown.$client" ;;
    refused)
        [ "$code" != 409 ] || wrong "$name was never made before, but $node says: $(cat "$work/answer.$client")"
        ;;
    esac
}
client_remove() {
    [ ${#mine[@]} -gt 2 ] || return 0
    local name=${mine[0]}
    mine=("${mine[@]:1}")
    any_manager
    request "$node" DELETE "/services/$name"
    case $outcome in
    done) echo "remove $name" >>"$work/acked.$client" ;;
    unknown) echo "remove $name" >>"$work/unknown.$client" ;;
    refused) [ "$code" != 404 ] || wrong "$name was acknowledged, but $node does not know it" ;;
    esac
}
run_client() { # NUMBER: until $work/stop is there
    client=$1 least=0 tried=0 serial=${2:-0} mine=()
    RANDOM=$(((seed + 7919 * client) & 32767))
    [ ! -f "$work/state.$client" ] || . "$work/state.$client"
    while [ ! -e "$work/stop" ]; do
        case $((RANDOM % 6)) in
        0 | 1) client_write ;;
        2 | 3) client_read ;;
        4) client_create ;;
        5) client_remove ;;
        esac
        pause 0.0$((RANDOM % 8 + 1))
    done
    declare -p least tried serial mine | sed 's/^declare -\(a\|-\) //' >"$work/state.$client"
}
run_scaler() { # services grow and shrink; the last acknowledged number of each is in scale.NAME, or "unknown"
    client=scaler
    RANDOM=$(((seed + 31) & 32767))
    local name replicas version
    while [ ! -e "$work/stop" ]; do
        name=web$((RANDOM % 2)) replicas=$((RANDOM % 5 + 1))
        any_manager
        request "$node" GET "/services/$name"
        if [ "$outcome" = done ]; then
            version=$(jq .Version.Index "$work/answer.$client")
            request "$node" POST "/services/$name/update?version=$version" "$(service_json "$name" $replicas 0)"
            case $outcome in
            done) echo "$replicas" >"$work/scale.$name" ;;
            unknown) echo unknown >"$work/scale.$name" ;;
            esac
        fi
        pause 0.$((RANDOM % 6 + 3))
    done
}

# --- faults ------------------------------------------------------------------------------------------------------------------------

# fault_KIND begin TARGET [PARAMETER] and fault_KIND end TARGET. What hits is drawn when it begins and kept by name.
fault_kill() { if [ "$1" = begin ]; then node_kill "$2"; else node_start "$2" --warm 0; fi; }
fault_term() { if [ "$1" = begin ]; then node_stop "$2"; else node_start "$2" --warm 0; fi; }
fault_off() { if [ "$1" = begin ]; then machine_off "$2"; else machine_on "$2" --warm 0; fi; }
fault_hang() { kill "-$([ "$1" = begin ] && echo STOP || echo CONT)" "$(node_pid "$2")"; }
fault_link() { if [ "$1" = begin ]; then link_down "$2"; else link_up "$2"; fi; }
fault_sever() { if [ "$1" = begin ]; then sever_all "$2"; else heal_all "$2"; fi; }
fault_lossy() { if [ "$1" = begin ]; then sever_all "$2" "$3"; else heal_all "$2"; fi; }
fault_deaf() { one_way "$1" to "$2"; } # hears nothing, is heard
fault_mute() { one_way "$1" from "$2"; }
fault_disk() { if [ "$1" = begin ]; then disk_fill "$2"; else disk_free "$2"; fi; }
fault_keeper() { [ "$1" = end ] || kill -KILL "$(keeper_pid "$2")"; } # another one takes its containers over
fault_role() { # a worker becomes a manager for a while; without a majority that is refused, so it may take until all else is over
    local n
    for n in $managers; do
        change_role "$n" "$1" "$2" && return
    done
    [ "$1" = begin ] || echo "$2" >>"$work/late-roles"
}
change_role() { # MANAGER begin|end WORKER
    timeout 12 shoal -H "unix://$work/$1/api.sock" node "$([ "$2" = begin ] && echo promote || echo demote)" "$3"
}
end_late_roles() {
    local n
    for n in $(cat "$work/late-roles" 2>/dev/null); do
        eventually 60 change_role "$(first_manager)" end "$n" || return 1
    done
    rm -f "$work/late-roles"
}
fault_clock() { clock_step "$2" "$([ "$1" = begin ] && echo "$3" || echo 0)"; }
one_way() { # begin|end to|from MACHINE
    local other
    for other in "${machines[@]}"; do
        [ "$other" != "$3" ] || continue
        case $1-$2 in
        begin-to) sever_from "$other" "$3" ;;
        begin-from) sever_from "$3" "$other" ;;
        end-to) heal_from "$other" "$3" ;;
        end-from) heal_from "$3" "$other" ;;
        esac
    done
}
heal_all() { one_way end to "$1" && one_way end from "$1"; }
kinds="kill kill term off off hang hang link sever sever lossy deaf mute disk clock keeper role"
[ -z "$only" ] || kinds=$only

declare -A broken=() # MACHINE: "KIND until-ms"
now_ms() { echo $((($(date +%s%N) - began) / 1000000)); }
begin_fault() {
    local kind target parameter=
    pick $kinds
    kind=$drawn
    draw 10
    if [ "$drawn" -lt 7 ] || [ -z "$workers" ]; then pick $managers; else pick $workers; fi # managers are more interesting
    target=$drawn
    if [ "$kind" = role ]; then
        [ -n "$workers" ] || return 0
        pick $workers
        target=$drawn
    fi
    [ -z "${broken[$target]:-}" ] || return 0
    case $kind in
    lossy) draw 50 && parameter=$((drawn + 15)) ;;
    clock) draw 14400 && parameter=$((drawn - 7200)) ;;
    esac
    draw 4000
    chaos_log "$kind $target $parameter for $((drawn + 500)) ms"
    echo "$kind" >>"$work/faults"
    "fault_$kind" begin "$target" $parameter >"$work/fault.out" 2>&1 || { chaos_log "$kind $target failed: $(cat "$work/fault.out")"; return 1; }
    broken[$target]="$kind $(($(now_ms) + drawn + 500))"
}
end_fault() { # MACHINE
    local kind=${broken[$1]%% *}
    unset "broken[$1]"
    chaos_log "end of $kind $1"
    "fault_$kind" end "$1" >"$work/fault.out" 2>&1 || { chaos_log "end of $kind $1 failed: $(cat "$work/fault.out")"; return 1; }
}
end_faults() { # [all]: those whose time is over
    local target
    for target in "${!broken[@]}"; do
        [ "${1:-}" != all ] && [ "${broken[$target]##* }" -gt "$(now_ms)" ] || end_fault "$target" || return 1
    done
}
faults_for() { # SECONDS
    local until=$(($(now_ms) + $1 * 1000)) rc=0
    while [ "$(now_ms)" -lt "$until" ] && [ $rc -eq 0 ]; do
        end_faults || rc=1
        draw 3
        [ "$drawn" -ne 0 ] || [ ${#broken[@]} -ge 3 ] || begin_fault || rc=1
        pause 0.3
    done
    end_faults all && end_late_roles && return $rc
}

# --- what must hold ------------------------------------------------------------------------------------------------------------------

first_manager() { set -- $managers; echo "$1"; }
tasks_wanted() { # "node service slot task": the running tasks of the cluster, as it says
    api "$(first_manager)" GET /tasks | jq -r '.[] | select(.DesiredState == "running" and .Status.State == "running") | "\(.NodeID) \(.ServiceID) \(.Slot) \(.ID)"' | sort
}
tasks_actual() { # the same from the engines' containers
    local n
    for n in $managers $workers; do
        api "$n" GET /containers/json | jq -r '.[].Labels | select(.["com.docker.swarm.task.id"]) | "\(.["com.docker.swarm.node.id"]) \(.["com.docker.swarm.service.id"]) \(.["com.docker.swarm.task.name"] | split(".") | .[1]) \(.["com.docker.swarm.task.id"])"'
    done | sort
}
desired_is_actual() {
    local want have n
    for n in $managers; do
        equals "$(ready "$n")" "$(set -- $managers $workers; echo $#)" || { echo "nodes ready as $n says:"; members "$n"; return 1; }
    done
    equals "$(sh_ "$(first_manager)" node ls --format '{{.Hostname}} {{.ManagerStatus}}' | sed 's/Leader/Reachable/; s/ *$//' | sort)" \
        "$({ printf '%s Reachable\n' $managers; [ -z "$workers" ] || printf '%s\n' $workers; } | sort)" || return 1
    want=$(tasks_wanted) && have=$(tasks_actual) || return 1
    [ "$want" = "$have" ] || { echo "wanted (<) and actual (>):"; diff <(echo "$want") <(echo "$have"); return 1; }
    # each service has as many as it asks for, one in each slot
    api "$(first_manager)" GET '/services?status=true' | jq -r '.[] | select(.ServiceStatus.RunningTasks != .Spec.Mode.Replicated.Replicas) | "\(.Spec.Name): \(.ServiceStatus.RunningTasks) of \(.Spec.Mode.Replicated.Replicas) run"' | { ! grep .; } || return 1
    cut -d' ' -f2,3 <<<"$want" | sort | uniq -d | { ! grep .; } || { echo "a slot runs twice"; return 1; }
}
services_are_right() { # what every manager lists, against what the clients were told
    local n have expected
    sort "$work"/acked.* 2>/dev/null | awk '{ last[$2] = (last[$2] == "remove") ? "remove" : $1 } END { for (s in last) if (last[s] == "create") print s }' | sort >"$work/expected"
    sort "$work"/unknown.* 2>/dev/null | awk '{ print $2 }' | sort -u >"$work/perhaps"
    for n in $managers; do
        api "$n" GET /services | jq -r '.[].Spec.Name' | grep ^client | sort >"$work/have.$n"
        have=$(comm -23 "$work/expected" "$work/have.$n" | comm -23 - "$work/perhaps")
        [ -z "$have" ] || { echo "acknowledged, but lost, as $n says: $have"; return 1; }
        have=$(comm -13 "$work/expected" "$work/have.$n" | comm -23 - "$work/perhaps")
        [ -z "$have" ] || { echo "refused or removed, but there, as $n says: $have"; return 1; }
    done
    for n in web0 web1; do
        [ "$(cat "$work/scale.$n")" != unknown ] || continue
        expected=$(api "$(first_manager)" GET "/services/$n" | jq .Spec.Mode.Replicated.Replicas)
        equals "$expected" "$(cat "$work/scale.$n")" || { echo "replicas of $n"; return 1; }
    done
}
registers_are_right() {
    local k got
    for ((k = 1; k <= clients; k++)); do
        client=$k least=0 tried=0
        . "$work/state.$k"
        got=$(api "$(first_manager)" GET "/services/register$k" | jq -r .Spec.Labels.value)
        [ "$got" -ge "$least" ] && [ "$got" -le "$tried" ] || { echo "register$k is $got, acknowledged $least, tried $tried"; return 1; }
    done
}
histories_are_right() { ! cat "$work"/wrong.* 2>/dev/null; }
nobody_crashed() { # a program that ended by itself, or says what must never happen
    local n
    for n in $managers $workers; do
        ! process_ended "$(node_pid "$n")" || { echo "$n has ended by itself:"; tail -n 5 "$work/$n/log"; return 1; }
        ! grep -aE 'Assertion|AddressSanitizer|runtime error|digest differs|stack smashing|core dumped' "$work/$n/log" || { echo "says $n"; return 1; }
    done
}

# --- a cluster and its rounds ----------------------------------------------------------------------------------------------------------

make_cluster() { # MANAGERS WORKERS
    local k n
    managers=$(seq -f 'm%g' "$1" | tr '\n' ' ') workers=$(seq -f 'w%g' "$2" | tr '\n' ' ')
    for n in $managers $workers; do
        [ -e "$work/$n/net" ] || machine "$n" || return 1
        disk_small "$n" 256m && node_start "$n" --warm 0 || return 1
        if [ -e "$work/images.tar" ]; then sh_ "$n" load -q -i "$work/images.tar" >/dev/null; else node_image "$n" busy:1; fi || return 1
    done
    swarm_init m1 || return 1
    for n in $managers; do
        [ "$n" = m1 ] || swarm_join "$n" manager m1 || return 1
    done
    for n in $workers; do
        swarm_join "$n" worker m1 || return 1
    done
    all_ready m1 $(($1 + $2)) || return 1
    for ((k = 1; k <= clients; k++)); do
        api m1 POST /services/create "$(service_json "register$k" 0 0)" || return 1
    done
    for n in web0 web1; do
        api m1 POST /services/create "$(service_json "$n" 2 0)" && echo 2 >"$work/scale.$n" || return 1
    done
}
end_cluster() {
    local n
    for n in $managers $workers; do
        machine_off "$n" && link_up "$n" && umount "$work/$n/data" || return 1
    done
    rm -f "$work"/{acked,unknown,wrong,state,scale}.*
}

round() { # SECONDS: of faults; prints how long it took until everything was right
    local k rc pids=
    rm -f "$work/stop"
    for ((k = 1; k <= clients; k++)); do
        run_client "$k" &
        pids="$pids $!"
    done
    run_scaler &
    pids="$pids $!"
    faults_for "$1"
    rc=$?
    touch "$work/stop"
    wait $pids
    [ $rc -eq 0 ] || return 1
    local healed
    healed=$(now_ms)
    eventually $((patience / slow)) desired_is_actual || return 1
    chaos_log "everything wanted runs, and nothing else, $(($(now_ms) - healed)) ms after the last fault"
}

clients=${CHAOS_CLIENTS:-3} round=0 campaign=0
all=$((seconds * 1000))
spent=0 ended=0
while [ $spent -lt $all ]; do
    campaign=$((campaign + 1))
    size=${CHAOS_SIZE:-}
    [ -n "$size" ] || [ $campaign -gt 1 ] || size="3 2"
    [ -n "$size" ] || { pick "3 2" "5 3" "3 5" "5 2" "3 4"; size=$drawn; }
    chaos_log "a cluster of $size (managers, workers)"
    check_here "cluster $campaign: ${size% *} managers and ${size#* } workers" make_cluster $size
    [ $failures -eq 0 ] || break
    for ((rounds = 0; rounds < 6 && spent < all; rounds++)); do
        round=$((round + 1)) length=$round_seconds
        [ $((spent + length * 1000)) -le $all ] || length=$(((all - spent + 999) / 1000))
        spent=$((spent + length * 1000))
        check_here "round $round: desired is actual on every machine" round "$length"
        check "round $round: what was acknowledged is there, what was refused is not" services_are_right
        check "round $round: the registers hold what was written last" registers_are_right
        check "round $round: nobody read an older value after a newer one" histories_are_right
        check "round $round: no program ended by itself" nobody_crashed
        [ $failures -eq 0 ] || break 2
        ended=$spent
    done
    cat "$work"/requests.* | awk '$2 != "GET" { n[$1]++ } END { printf "# writes so far: %d acknowledged, %d refused, %d unknown\n", n["done"], n["refused"], n["unknown"] }'
    [ $spent -lt $all ] || break
    check_here "cluster $campaign: all of it ends" end_cluster
done
check "all rounds came to their end" eval '[ $failures -gt 0 ] || { [ -s "$work/faults" ] && [ $ended -ge $all ]; }'
say "faults: $(sort "$work/faults" 2>/dev/null | uniq -c | awk '{ printf "%s %s, ", $1, $2 }')$round rounds, $campaign clusters, SEED=$seed"
finish
