#!/bin/bash
# Networks of one machine: bridges, addresses, what a container sees of them, and what is left afterwards.
. "$(dirname "$0")/lib.sh"
. "$here/images.sh"

for tool in ip nft busybox curl; do command -v $tool >/dev/null || skip_all "missing: $tool"; done
# A way out: a peer in a namespace of its own, which only knows this machine's address.
unshare --net="$work/outside.net" true 2>/dev/null || { touch "$work/outside.net" && unshare --net="$work/outside.net" true; } || skip_all "no namespaces"
ip link add out0 type veth peer name eth0 netns "$work/outside.net" 2>/dev/null || {
    ip link add out0 type veth peer name peer0
    nsenter --net="$work/outside.net" sleep 300 &
    outside_pid=$!
    pause 0.2
    ip link set peer0 netns $outside_pid name eth0
}
ip addr add 198.51.100.1/24 dev out0 && ip link set out0 up
nsenter --net="$work/outside.net" sh -c 'ip addr add 198.51.100.2/24 dev eth0; ip link set eth0 up; ip link set lo up'

node_start a || exit 1
node_image a busy:1 || exit 1

shoal_() { sh_ a "$@"; }
ping() { busybox ping "$@"; }
at() { shoal_ inspect --format "$2" "$1"; } # CONTAINER TEMPLATE
run_() { shoal_ run --rm "$@"; }
links() { ip -o link show type bridge | grep -c ' br-'; }
holds() { shoal_ run -d "$@" busy:1 sleep 1000 >/dev/null; } # OPTIONS: a container that stays

# --- the default network ---------------------------------------------------------------------------------------------

check "the predefined networks are there" equals "$(shoal_ network ls --format '{{.Name}} {{.Driver}} {{.Scope}}' | sort | tr '\n' ',')" "bridge bridge local,host host local,none null local,"
check "nothing is made before it is needed" equals "$(links)" 0
check "a container has eth0 with an address" says "172.17.0.2/16" run_ busy:1 ip -4 -o addr show eth0
check "and its way out" says "default via 172.17.0.1 dev eth0" run_ busy:1 ip route
check "it is routed by the machine" equals "$(cat /proc/sys/net/ipv4/ip_forward)" 1
check "the switch is in the log" grep -q "net.ipv4.ip_forward" "$work/a/log"
check "it reaches the machine" run_ busy:1 ping -c 1 -W 2 172.17.0.1
check "it reaches the outside, as the machine" run_ busy:1 ping -c 1 -W 2 198.51.100.2
check "its name is in its hosts" eval 'run_ --hostname web --domainname example.org busy:1 cat /etc/hosts | grep -q "^172.17.0.[0-9]*[[:space:]]web.example.org web$"'
check "hostname is its name" says web run_ --hostname web busy:1 cat /etc/hostname
check "no network is no network" eval 'equals "$(run_ --network none busy:1 ls /sys/class/net)" lo'

check "two containers" eval 'holds --name one && holds --name two'
one=$(at one '{{.NetworkSettings.IPAddress}}')
two=$(at two '{{.NetworkSettings.Networks.bridge.IPAddress}}')
check "have two addresses" eval '[ -n "$one" ] && [ -n "$two" ] && [ "$one" != "$two" ]'
check "inspect shows gateway and prefix" equals "$(at one '{{.NetworkSettings.Gateway}} {{.NetworkSettings.IPPrefixLen}} {{.NetworkSettings.Networks.bridge.Gateway}}')" "172.17.0.1 16 172.17.0.1"
check "the network names its containers" eval 'contains "$(shoal_ network inspect bridge --format "{{range .Containers}}{{.Name}}={{.IPv4Address}} {{end}}")" "one=$one/16"'
check "they reach each other" run_ busy:1 ping -c 1 -W 2 "$two"
check "and the machine reaches them" ping -c 1 -W 2 "$one"
check "the outside does not" eval 'nsenter --net="$work/outside.net" ip route replace 172.17.0.0/16 via 198.51.100.1; ! nsenter --net="$work/outside.net" busybox ping -c 1 -W 1 "$one"'

# --- networks of the user -------------------------------------------------------------------------------------------

check "network create prints the id" eval 'id=$(shoal_ network create blue --label a=b) && equals "${#id}" 64'
check "it has the next subnet" equals "$(shoal_ network inspect blue --format '{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}}{{end}}')" "172.18.0.0/16 172.18.0.1"
check "a name is taken once" fails_with 1 "network with name blue already exists" shoal_ network create blue
check "predefined names are taken" fails_with 1 "operation is not permitted on predefined bridge network" shoal_ network create bridge
check "with a subnet, a range, a gateway" shoal_ network create --subnet 10.77.0.0/24 --ip-range 10.77.0.128/25 --gateway 10.77.0.9 --internal green
check "a subnet that overlaps is refused" fails_with 1 "Pool overlaps with other one on this address space" shoal_ network create --subnet 10.77.0.0/16 red
check "one of the machine's routes too" fails_with 1 "Pool overlaps with other one on this address space" shoal_ network create --subnet 198.51.100.0/28 red
check "what is no subnet is refused" fails_with 1 "invalid" shoal_ network create --subnet 10.77.0.0/33 red
check "a range outside is refused" fails_with 1 "ip-range" shoal_ network create --subnet 10.78.0.0/24 --ip-range 10.79.0.0/25 red
check "an unknown driver is refused" fails_with 1 "could not find plugin nosuch" shoal_ network create -d nosuch red
check "filters" eval 'equals "$(shoal_ network ls --filter label=a=b --format "{{.Name}}")" blue && equals "$(shoal_ network ls --filter type=custom --format "{{.Name}}" | sort | tr "\n" " ")" "blue green "'
check "a container in it" says "172.18.0.2/16" run_ --network blue busy:1 ip -4 -o addr show eth0
check "a fixed address" says "172.18.7.7/16" run_ --network name=blue,ip=172.18.7.7 busy:1 ip -4 -o addr show eth0
check "a fixed MAC" says "02:00:00:00:00:07" run_ --network name=blue,mac-address=02:00:00:00:00:07 busy:1 ip link show eth0
check "a fixed address outside is refused" fails_with 125 "is not one of subnet 172.18.0.0/16" run_ --network name=blue,ip=10.9.9.9 busy:1 true
check "fixed on the default network is refused" fails_with 125 "user specified IP address is supported on user defined networks only" run_ --ip 172.17.0.9 busy:1 true
check "given once" eval 'holds --name fixed --network name=blue,ip=172.18.9.9 && fails_with 125 "Address already in use" run_ --network name=blue,ip=172.18.9.9 busy:1 true'
check "and free again after the end" eval 'shoal_ rm -f fixed && says 172.18.9.9 run_ --network name=blue,ip=172.18.9.9 busy:1 ip -4 addr show eth0'
check "bridges do not reach each other" eval '! run_ --network blue busy:1 ping -c 1 -W 1 "$one"'
check "an internal network gives from its range and leads nowhere" eval 'out=$(run_ --network green busy:1 sh -c "ip -4 -o addr show eth0; ip route") && contains "$out" 10.77.0.128/24 && ! contains "$out" default'
check "also not to the outside" eval '! run_ --network green busy:1 ping -c 1 -W 1 198.51.100.2'
check "two networks are two interfaces" eval 'out=$(run_ --network name=blue --network name=green busy:1 sh -c "ip -4 -o addr; ip route | grep default") && contains "$out" 172.18 && contains "$out" 10.77 && contains "$out" "via 172.18.0.1"'
check "a network that is not there" fails_with 125 "network nosuch not found" run_ --network nosuch busy:1 true
check "icc can be switched off" eval 'shoal_ network create -o com.docker.network.bridge.enable_icc=false shy && holds --name shy1 --network shy && ip=$(at shy1 "{{.NetworkSettings.Networks.shy.IPAddress}}") && ! run_ --network shy busy:1 ping -c 1 -W 1 "$ip"'
check "what is in use stays" fails_with 1 "has active endpoints" shoal_ network rm shy
check "what is not goes, with its bridge" eval 'shoal_ rm -f shy1 && before=$(links) && shoal_ network rm shy && eventually 5 eval "equals \$(links) $((before - 1))"'
check "predefined ones stay" fails_with 1 "bridge is a pre-defined network and cannot be removed" shoal_ network rm bridge

# --- crashes and ends -------------------------------------------------------------------------------------------------

check "a restart gives an address again" eval 'shoal_ restart -t 0 two && [ -n "$(at two "{{.NetworkSettings.IPAddress}}")" ]'
one=$(at one '{{.NetworkSettings.IPAddress}}')
check "shoald dies and comes back" eval 'node_kill a && node_start a'
check "its container keeps its address" eval 'equals "$(at one "{{.NetworkSettings.IPAddress}}")" "$one" && ping -c 1 -W 2 "$one"'
check "which is nobody else's" eval '! run_ busy:1 ip -4 -o addr show eth0 | grep -q "$one/"'
check "ten at once have ten addresses" eval 'for i in 1 2 3 4 5 6 7 8 9 10; do shoal_ create --name ten$i --network blue busy:1 sleep 1000; done; shoal_ start ten1 ten2 ten3 ten4 ten5 ten6 ten7 ten8 ten9 ten10 && equals "$(for i in 1 2 3 4 5 6 7 8 9 10; do at ten$i "{{.NetworkSettings.Networks.blue.IPAddress}}"; done | sort -u | grep -c 172.18)" 10'
check "and leave no interface" eval 'shoal_ rm -f ten1 ten2 ten3 ten4 ten5 ten6 ten7 ten8 ten9 ten10 && eventually 5 eval "equals \$(ip -o link show type veth | grep -c \" master br-\") 2"'
check "prune takes what nobody uses" eval 'out=$(shoal_ network prune -f) && contains "$out" blue && contains "$out" green'
check "when the last container is gone nothing is left" eval 'shoal_ rm -f one two && node_stop a && equals "$(links)" 0 && ! nft list tables | grep shoal'

finish
