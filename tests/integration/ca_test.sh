#!/bin/bash
# The swarm's root is replaced while services run: by a new one, by the user's own, with a manager that is off and a leader that dies in the middle.
. "$(dirname "$0")/lib.sh"
. "$here/images.sh"
. "$here/machines.sh"
. "$here/secrets.sh"

nodes="m1 m2 m3 w1 w2"
for n in $nodes; do
    machine "$n" && node_start "$n" --warm 0 || exit 1
done
node_image m1 busy:1 || exit 1
for n in m2 m3 w1 w2; do
    sh_ "$n" load -q -i "$work/images.tar" >/dev/null || exit 1
done
swarm_init m1 --dispatcher-heartbeat 1s && swarm_join m2 manager m1 && swarm_join m3 manager m1 && swarm_join w1 worker m1 && swarm_join w2 worker m2 || exit 1
all_ready m1 5 || exit 1

statuses() { sh_ "$1" node ls --format '{{.Hostname}} {{.TLSStatus}}' | sort | tr '\n' ' '; } # NODE
trust() { grep -caF -- "$(sed -n 2p <<<"$2")" "$work/$1/data/swarm/identity"; }                # NODE PEM: whether the node's file holds that root
root() { sh_ "$1" swarm ca; }                                                                  # NODE
rotates() { api "$1" GET /swarm | jq -r .RootRotationInProgress; }                             # NODE
containers() { for n in $nodes; do sh_ "$n" ps -q --no-trunc; done | sort; }
alive() { for n in $nodes; do equals "$n $(swarm_state "$n")" "$n active" || return 1; done; }
serve() { for n in "$@"; do equals "$n $(controls "$n")" "$n true" || return 1; done; } # NODE...: they are managers
others() { for n in m1 m2 m3; do [ "$n" = "$1" ] || echo "$n"; done; }

sh_ m1 service create -d --no-resolve-image --name web --replicas 10 --stop-signal KILL busy:1 sleep 100000 >/dev/null
check "a service runs" eventually 30 eval 'equals "$(sh_ m1 service ls --format "{{.Replicas}}")" 10/10'
before=$(containers)
ready="m1 Ready m2 Ready m3 Ready w1 Ready w2 Ready "
check "everybody's certificate is as it should be" eventually 20 eval 'equals "$(statuses m2)" "$ready"'

# --- a new root --------------------------------------------------------------------------------------------------------------

first=$(root m1) token=$(sh_ m1 swarm join-token -q worker)
check "the root is replaced" eval 'sh_ m2 swarm ca --rotate -q && [ "$(root m1)" != "$first" ] && equals "$(root m1)" "$(root m3)"'
second=$(root m1)
check "everybody has renewed" equals "$(statuses m3)" "$ready"
check "and trusts the new root alone" eventually 20 eval 'for n in $nodes; do equals "$(trust $n "$second")" 1 && equals "$(trust $n "$first")" 0 || exit 1; done'
check "no container was touched" equals "$(containers)" "$before"
check "tokens are others" eval '[ "$(sh_ m1 swarm join-token -q worker)" != "$token" ]'
machine w3 && node_start w3 --warm 0 && sh_ w3 load -q -i "$work/images.tar" >/dev/null || exit 1
check "one from before is no good" fails_with 1 "" sh_ w3 swarm join --token "$token" "$(address m1):2377"
check "the present one is" swarm_join w3 worker m2
nodes="$nodes w3" ready+="w3 Ready "
check "all are there" all_ready m1 6
for n in w1 m3; do node_stop "$n" && node_start "$n" --warm 0 || exit 1; done
check "who starts again comes back" eval 'all_ready m1 6 && eventually 30 alive && eventually 30 serve m1 m2 m3'

# --- who is down ----------------------------------------------------------------------------------------------------------------

node_stop w2 || exit 1
check "w2 is down" eventually 30 eval 'says "w2 Down" sh_ m1 node ls --format "{{.Hostname}} {{.Status}}"'
check "a rotation begins all the same" says "" sh_ m1 swarm ca --rotate -d
check "the others renew" eventually 30 eval 'equals "$(api m1 GET /nodes | jq -r "[.[].Description.TLSInfo.CertIssuerPublicKey] | unique | length")" 2'
lead=$(leader m1)
check "it is not over" equals "$(rotates m1)" true
node_kill "$lead" KILL 2>/dev/null || node_kill "$lead"
rest=($(others "$lead"))
check "another manager leads" eventually 20 eval 'l=$(leader ${rest[0]}) && [ -n "$l" ] && [ "$l" != "$lead" ]'
check "and knows of it" eval 'equals "$(rotates ${rest[1]})" true'
node_start "$lead" --warm 0 || exit 1
check "who was away renews" eventually 30 eval 'says "$lead Ready" sh_ ${rest[0]} node ls --format "{{.Hostname}} {{.Status}}"'
check "it still waits for w2" equals "$(rotates "${rest[0]}")" true
node_start w2 --warm 0 || exit 1
check "which ends it" eventually 40 eval 'equals "$(rotates ${rest[0]})" false && equals "$(statuses ${rest[0]})" "$ready"'
third=$(root m1)
check "the root of before is gone everywhere" eventually 20 eval 'for n in $nodes; do equals "$(trust $n "$third")" 1 && equals "$(trust $n "$second")" 0 || exit 1; done'

# --- the user's own --------------------------------------------------------------------------------------------------------------

openssl req -x509 -newkey rsa:2048 -nodes -keyout "$work/own.key" -out "$work/own.pem" -days 3650 -subj /CN=ours -addext keyUsage=critical,keyCertSign 2>/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$work/other.key" -out "$work/other.pem" -days 3650 -subj /CN=other 2>/dev/null
check "a key that does not belong" fails_with 1 "CAConfig.SigningCAKey: the key does not belong to CAConfig.SigningCACert" sh_ m1 swarm ca --rotate --ca-cert "$work/own.pem" --ca-key "$work/other.key"
check "our own root" eval 'sh_ m1 swarm ca --rotate -q --ca-cert "$work/own.pem" --ca-key "$work/own.key" >/dev/null && equals "$(root m2)" "$(cat "$work/own.pem")"'
check "everybody is of it" equals "$(statuses m2)" "$ready"
for n in m1 w1; do node_stop "$n" && node_start "$n" --warm 0 || exit 1; done
check "and comes back with it" eval 'all_ready m2 6 && eventually 30 alive && eventually 30 serve m1 m2 m3'
check "tasks run, the same ones on the machines that stayed" eventually 30 eval 'equals "$(sh_ m2 service ls --format "{{.Replicas}}")" 10/10'

# --- secrets ------------------------------------------------------------------------------------------------------------------------

locks() { for n in "$@"; do refuses grep -qa "PRIVATE KEY" "$work/$n/data/swarm/identity" || return 1; done; } # NODE...: no key is in its file
auth=$(printf '{"username":"canary","password":"in-the-mine"}' | base64 -w0)
check "autolock is turned on" eval 'sh_ m2 swarm update --autolock=true >/dev/null && eventually 20 locks m1 m2 m3'
check "a service with credentials for its registry" eval 'curl -sSf --unix-socket "$work/m1/api.sock" -H "X-Registry-Auth: $auth" -H "Content-Type: application/json" -d "{\"Name\":\"private\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"busy:1\",\"Command\":[\"sleep\",\"100000\"],\"StopSignal\":\"KILL\"}},\"Mode\":{\"Replicated\":{\"Replicas\":6}}}" http://x/services/create && eventually 30 eval "equals \"\$(sh_ m2 service ls -f name=private --format {{.Replicas}})\" 6/6"'
key=$(sh_ m1 swarm unlock-key -q)
secret_pem "our own root's key" "$work/own.key"
for n in m1 m2 m3; do secret_base64 "the unlock key" "$(sh_ $n swarm unlock-key -q | cut -c10-)"; done
for role in worker manager; do secret_text "the join secret of a $role" "$(sh_ m1 swarm join-token -q $role | cut -d- -f4)"; done
secret_text "credentials for a registry" "$auth"
secret_text "credentials for a registry" '"password":"in-the-mine"'
check "nothing of them can be read on any machine" nothing_leaks $nodes
printf '%s' "$auth" >"$work/w1/data/left-open"
check "what lies about is found" eval 'says "credentials for a registry: $work/w1/data/left-open" leaks w1; rm "$work/w1/data/left-open"'
check "nor the managers' own keys" locks m1 m2 m3
for n in m1 m2 m3; do node_stop $n; done
check "nor when they are stopped" nothing_leaks $nodes
for n in m1 m2 m3; do node_start $n --warm 0 || exit 1; done
check "all three are locked, none leads, tasks run on" eval 'for n in m1 m2 m3; do equals "$(swarm_state $n)" locked || exit 1; done; [ "$(containers | wc -l)" -eq 16 ]'
check "one key opens them all" eval 'for n in m1 m2 m3; do sh_ $n swarm unlock <<<"$key" || exit 1; done; eventually 30 serve m1 m2 m3 && all_ready m3 6'
check "who is promoted locks its keys" eval 'sh_ m2 node promote w1 >/dev/null && eventually 30 serve w1 && eventually 10 locks w1'
check "who is demoted does not any more" eval 'sh_ m2 node demote w1 >/dev/null && eventually 30 refuses locks w1'

# --- certificates that live shorter ------------------------------------------------------------------------------------------------

certificate() { tr -c '[:print:]\n' '\n' <"$work/$1/data/swarm/identity" | sed -n '/-----BEGIN CERT/,/-----END CERT/p' | sed 's/^.*-----BEGIN/-----BEGIN/'; } # NODE
left() { echo $(($(date -d "$(certificate "$1" | openssl x509 -noout -enddate | cut -d= -f2)" +%s) - $(date +%s))); }                                  # NODE: seconds until its certificate ends
check "certificates live long" eval '[ "$(left w2)" -gt 7000000 ]'
check "shorter lives do not end what is there" eval 'sh_ m1 swarm update --cert-expiry 2h0m0s >/dev/null && equals "$(api m1 GET /swarm | jq .Spec.CAConfig.NodeCertExpiry)" 7200000000000 && [ "$(left w2)" -gt 7000000 ]'
check "they are for those to come" eval 'sh_ m1 swarm ca --rotate -q && [ "$(left w2)" -lt 7300 ] && [ "$(left m2)" -lt 7300 ]'
finish
