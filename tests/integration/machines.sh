# Machines for stories about several nodes: each has a network and a host name of its own and an address on one bridge. Sourced after lib.sh, whose
# node_start puts a node onto the machine of its name:
#
#     machine m1; machine m2
#     node_start m1; node_start m2
#     sever m1 m2; heal
#
# All of it lives in the test's own namespaces: a machine is two namespace files below $work, the bridge is in the test's network namespace, and what
# is mounted is in its mount namespace. The machines are 10.77.0.1, .2... in the order they were made, the test itself is 10.77.0.254.
#
# What breaks: sever and heal (nftables at the receiver, so one direction or a percentage of the packets can be lost), link_down and link_up (the cable),
# node_kill NODE STOP and CONT (a process that hangs), machine_off (everything at once, and nobody is told), disk_small (a data directory of a size),
# clock_step (the wall clock of its shoald).

machines=()
read -r subnet preload < <(echo 10.77.0 "$build/tests/integration/tools/clock_preload.so")

machines_need() { # what is missing for them, one a line
    command -v nft >/dev/null || echo nftables
    command -v jq >/dev/null || echo jq
    ip link add shoal-probe type bridge 2>/dev/null && ip link add shoal-pr0 type veth peer name shoal-pr1 2>/dev/null || echo "bridges and veth"
    ip link del shoal-pr0 2>/dev/null
    ip link del shoal-probe 2>/dev/null
    nft 'add table inet probe; delete table inet probe' 2>/dev/null || echo "nf_tables in the kernel"
}
[ -z "$(machines_need)" ] || skip_all "missing: $(machines_need | tr '\n' ' ')"

ip link add machines type bridge && ip addr add "$subnet.254/24" dev machines && ip link set machines up || skip_all "no bridge can be made"

machine() { # NAME
    local number=$((${#machines[@]} + 1))
    machines+=("$1")
    mkdir -p "$work/$1" && touch "$work/$1/net" "$work/$1/uts" && truncate -s 8 "$work/$1/clock" || return 1
    unshare --net="$work/$1/net" --uts="$work/$1/uts" hostname "$1" || return 1
    ip link add "port-$1" type veth peer name "end-$1" && ip link set "port-$1" master machines up &&
        ip link set "end-$1" netns "$work/$1/net" name eth0 &&
        on "$1" ip addr add "$subnet.$number/24" dev eth0 && on "$1" ip link set lo up && on "$1" ip link set eth0 up &&
        on "$1" nft 'add table inet sever' && echo "$subnet.$number" >"$work/$1/address"
}

enter_machine() { # NODE: set `enter`
    enter=()
    [ -e "$work/$1/net" ] || return 0
    enter=(nsenter "--net=$work/$1/net" "--uts=$work/$1/uts" env "LD_PRELOAD=$preload" "SHOAL_TEST_CLOCK=$work/$1/clock"
        "ASAN_OPTIONS=${ASAN_OPTIONS:-}:verify_asan_link_order=0")
}

on() { # MACHINE COMMAND...
    nsenter "--net=$work/$1/net" "--uts=$work/$1/uts" "${@:2}"
}

address() { cat "$work/$1/address"; } # MACHINE

# --- the network -----------------------------------------------------------------------------------------------------

# Packets from one machine are dropped where they arrive, by a chain named after the sender.
sever_from() { # FROM TO [PERCENT]: what FROM sends to TO is lost, all of it or so many packets of a hundred
    heal_from "$1" "$2"
    on "$2" nft "add chain inet sever $1 { type filter hook input priority -300; }; add rule inet sever $1 ip saddr $(address "$1") ${3:+numgen random mod 100 < $3} drop"
}
sever() { sever_from "$@" && sever_from "$2" "$1" ${3:+"$3"}; } # A B [PERCENT]: both ways

sever_all() { # MACHINE [PERCENT]: from all others, both ways
    local other
    for other in "${machines[@]}"; do
        [ "$other" = "$1" ] || sever "$1" "$other" ${2:+"$2"} || return 1
    done
}

heal_from() { # FROM TO
    on "$2" nft "delete chain inet sever $1" 2>/dev/null || :
}

heal() { # everything that was severed
    local one
    for one in "${machines[@]}"; do
        on "$one" nft 'flush table inet sever; delete table inet sever; add table inet sever' || return 1
    done
}

link_down() { ip link set "port-$1" down; } # MACHINE: the cable is out
link_up() { ip link set "port-$1" up; }

move() { # MACHINE NUMBER: it has another address from now on, and says so, as those who set addresses do
    local old other
    old=$(address "$1")
    on "$1" ip addr del "$old/24" dev eth0 && on "$1" ip addr add "$subnet.$2/24" dev eth0 && echo "$subnet.$2" >"$work/$1/address" || return 1
    for other in "${machines[@]}"; do
        on "$other" ip neigh flush dev eth0
    done
}

# --- processes, disks, clocks ----------------------------------------------------------------------------------------

node_processes() { # NODE: all of it that lives: shoald, the keeper's two processes, the containers'
    local pid
    for pid in $({ grep -lF -- "$work/$1/run" /proc/[0-9]*/cmdline; grep -lF -- "/$cgroup/$1/" /proc/[0-9]*/cgroup; } 2>/dev/null | cut -d/ -f3 | sort -u); do
        process_ended "$pid" || echo "$pid"
    done
}

machine_off() { # MACHINE: the plug is pulled; nobody on the network hears of it
    link_down "$1"
    eventually 20 node_destroyed "$1" && rm -rf "$work/$1/run" # which a machine has on a tmpfs
}
node_destroyed() { # NODE: kill all of it; what a killed process was just making is found the next time
    local pids
    pids=$(node_processes "$1")
    [ -n "$pids" ] || return 0
    kill -KILL $pids 2>/dev/null
    return 1
}

machine_on() { # MACHINE [shoald's options...]
    link_up "$1"
    node_start "$@"
}

disk_small() { # MACHINE SIZE: before its node starts: its data directory holds no more
    mkdir -p "$work/$1/data" && mount -t tmpfs -o "size=$2" "shoal-$1" "$work/$1/data"
}
disk_fill() { # MACHINE: what is left of it
    dd if=/dev/zero of="$work/$1/data/filler" bs=64k oflag=append conv=notrunc 2>/dev/null
    head -c 4096 /dev/zero >>"$work/$1/data/filler" 2>/dev/null || :
}
disk_free() { rm -f "$work/$1/data/filler"; } # MACHINE

clock_step() { # MACHINE SECONDS: its wall clock differs by so much from the true one; may be negative
    local ms=$(($2 * 1000)) i bytes=
    for ((i = 0; i < 8; i++)); do
        bytes+=$(printf '\\x%02x' $(((ms >> (8 * i)) & 255)))
    done
    printf '%b' "$bytes" | dd of="$work/$1/clock" conv=notrunc 2>/dev/null
}

# --- the cluster -----------------------------------------------------------------------------------------------------

members() { # NODE: "host status availability manager-status" of each node, as this manager says, sorted
    sh_ "$1" node ls --format '{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}' | sed 's/ *$//' | sort
}
ready() { sh_ "$1" node ls --format '{{.Status}}' 2>/dev/null | grep -c '^Ready$'; } # NODE: how many nodes are ready, as this manager says
leader() { sh_ "$1" node ls --format '{{.Hostname}} {{.ManagerStatus}}' | awk '$2 == "Leader" { print $1 }'; } # NODE: which machine leads
node_id() { api "$1" GET /info | jq -r .Swarm.NodeID; } # NODE: its own id, as it says
swarm_state() { api "$1" GET /info | jq -r .Swarm.LocalNodeState; } # NODE
controls() { api "$1" GET /info | jq -r .Swarm.ControlAvailable; } # NODE: whether it is a manager

all_ready() { # NODE NUMBER: wait until that manager sees so many nodes ready
    eventually 40 eval "equals \"\$(ready $1)\" $2"
}

swarm_init() { # NODE [options of swarm init...]
    sh_ "$1" swarm init --advertise-addr "$(address "$1")" "${@:2}" >/dev/null
}
swarm_join() { # NODE ROLE VIA [options of swarm join...]: with the token of a manager
    local token
    token=$(sh_ "$3" swarm join-token -q "$2") && sh_ "$1" swarm join --token "$token" --advertise-addr "$(address "$1")" "${@:4}" "$(address "$3"):2377"
}
