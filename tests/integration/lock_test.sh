#!/bin/bash
# Autolock: a manager that starts again has its keys locked until somebody gives the unlock key; what runs on its machine runs on meanwhile.
. "$(dirname "$0")/lib.sh"
. "$here/images.sh"
. "$here/machines.sh"

for n in m1 m2 m3; do
    machine "$n" && node_start "$n" --warm 0 || exit 1
done
node_image m1 busy:1 || exit 1

pids() { for c in $(sh_ "$1" ps -q | sort); do sh_ "$1" inspect -f '{{.State.Pid}}' "$c"; done; }
restart() { node_stop "$1" >/dev/null && node_start "$1" --warm 0; }
is_locked() { eventually 10 eval "equals \"\$(swarm_state $1)\" locked"; }
is_active() { eventually 20 eval "equals \"\$(swarm_state $1)\" active && sh_ $1 node ls >/dev/null"; }
unlock() { sh_ "$1" swarm unlock <<<"$2"; } # NODE KEY
# A key on the disk that anybody could use: none may be there while the swarm locks.
plain_keys() { grep -rlaE 'BEGIN (EC )?PRIVATE KEY' "$work/$1/data/swarm"; }
private_der() { # the DER of an EC key on P-256 as this project's keys are: its curve's number between the key and the public part
    grep -rlaP '\x30\x77\x02\x01\x01\x04\x20' "$work/$1/data/swarm"
}
readable() { plain_keys "$1" || private_der "$1"; }
nothing_readable() { refuses readable "$1"; }
types() { # NODE KEY: at a terminal, once it is asked for; what the terminal shows is in $work/screen
    local terminal
    rm -f "$work/keyboard" && mkfifo "$work/keyboard"
    script -qfec "shoal --host unix://$work/$1/api.sock swarm unlock" "$work/screen" <"$work/keyboard" >/dev/null &
    terminal=$!
    exec 9>"$work/keyboard"
    eventually 10 grep -q 'Enter unlock key: ' "$work/screen" && pause 0.2 && printf '%s\n' "$2" >&9
    wait $terminal
    exec 9>&-
}
locked_again() { grep -c "keys are locked on the disk from now on" "$work/$1/log"; } # NODE: how often another key came to its disk

# --- one manager -----------------------------------------------------------------------------------------------------------

words=$(sh_ m1 swarm init --autolock --advertise-addr "$(address m1)")
key=$(grep -o 'SWMKEY-1-[A-Za-z0-9+/]*' <<<"$words")
check "init shows the key" eval '[[ $key =~ ^SWMKEY-1-[A-Za-z0-9+/]{43}$ ]] && contains "$words" "shoal swarm unlock"'
check "unlock-key is that key" equals "$(sh_ m1 swarm unlock-key -q)" "$key"
check "no private key can be read on the disk" nothing_readable m1
sh_ m1 service create -d --no-resolve-image --name web --replicas 2 --stop-signal KILL busy:1 sleep 100000 >/dev/null
check "a service runs" eventually 20 eval 'equals "$(sh_ m1 service ls --format "{{.Replicas}}")" 2/2'
before=$(pids m1)
check "a manager that is not locked is not unlocked" fails_with 1 "Error: swarm is not locked" unlock m1 "$key"
restart m1 || exit 1
check "started again it is locked" is_locked m1
check "it refuses and says why" fails_with 1 "Swarm is encrypted and needs to be unlocked before it can be used" sh_ m1 service ls
check "its containers run on" eval '[ -n "$before" ] && equals "$(pids m1)" "$before"'
check "a wrong key" fails_with 1 "swarm could not be unlocked: invalid key provided" unlock m1 "SWMKEY-1-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
check "nonsense for a key" fails_with 1 "invalid unlock key" unlock m1 nonsense
check "it is locked still" is_locked m1
check "leaving asks for force" fails_with 1 "--force" sh_ m1 swarm leave
check "the key unlocks it" eval 'unlock m1 "$key" && is_active m1'
check "everything is there" eventually 20 eval 'equals "$(sh_ m1 service ls --format "{{.Replicas}}")" 2/2 && equals "$(pids m1)" "$before"'
check "no private key can be read now" nothing_readable m1
all_good # what follows builds on it

# --- another key ---------------------------------------------------------------------------------------------------------------

new=$(sh_ m1 swarm unlock-key -q --rotate)
check "rotation gives another key" eval '[ "$new" != "$key" ] && equals "$(sh_ m1 swarm unlock-key -q)" "$new"'
restart m1 || exit 1
check "the old key is no good" eval 'is_locked m1 && fails_with 1 "invalid key provided" unlock m1 "$key"'
check "typed at a terminal it is asked for" eval 'types m1 "$new"; contains "$(cat "$work/screen")" "Enter unlock key: "'
check "and not shown" refuses contains "$(cat "$work/screen")" "$new"
check "it unlocks" is_active m1

# --- more managers -----------------------------------------------------------------------------------------------------------------

check "two more managers join" eval 'swarm_join m2 manager m1 --availability drain && swarm_join m3 manager m1 --availability drain && all_ready m1 3'
check "no private key can be read on theirs" eventually 10 eval 'nothing_readable m2 && nothing_readable m3'
restart m2 || exit 1
check "one of them is locked when it starts again" is_locked m2
check "the others work on" eval 'sh_ m3 service scale -d web=3 && eventually 20 eval "equals \"\$(sh_ m3 service ls --format {{.Replicas}})\" 3/3"'
check "the same key unlocks it" eval 'unlock m2 "$new" && is_active m2 && all_ready m3 3'
seen=$(locked_again m2) newest=$(sh_ m3 swarm unlock-key -q --rotate)
check "a rotation reaches all" eval 'eventually 10 eval "[ \$(locked_again m2) -gt $seen ]" && restart m2 && is_locked m2 && unlock m2 "$newest" && is_active m2'
check "without autolock nobody is locked" eval 'equals "$(sh_ m2 swarm update --autolock=false)" "Swarm updated." && fails_with 1 "no unlock key is set" sh_ m2 swarm unlock-key'
check "the keys are as everywhere then" eventually 10 eval 'readable m1 && readable m2 && readable m3'
check "also after a restart" eval 'restart m1 && is_active m1 && restart m3 && is_active m3'
again=$(sh_ m3 swarm update --autolock=true | grep -o "SWMKEY-1-.*")
check "and with it again they are" eval '[ "$again" != "$newest" ] && eventually 10 nothing_readable m1 && restart m1 && is_locked m1 && unlock m1 "$again" && is_active m1'
check "a locked manager leaves by force" eval 'restart m3 && is_locked m3 && sh_ m3 swarm leave --force && equals "$(swarm_state m3)" inactive'
finish
