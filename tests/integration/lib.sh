# Machines from namespaces, nodes from the real programs, and stories told about them. Sourced by the tests:
#
#     . "$(dirname "$0")/lib.sh"
#     node_start a
#     check "it answers" api a GET /_ping
#     finish
#
# Sourcing runs the test again inside network, mount and pid namespaces of its own, so whatever it leaves dies with it: when the test's shell ends,
# for whatever reason, the kernel ends every process in its pid namespace. What can outlive that (cgroups, files) is removed by the outer shell,
# which then looks whether anything of the test is left on the machine. That a node itself cleans up is told in hygiene_test.sh.
#
# check NAME COMMAND...    one test: prints "ok NAME" or "not ok NAME" with what the command said
# eventually SECONDS COMMAND...   tries again until it succeeds; deadlines are for correctness, and SHOAL_SLOW multiplies them

set -u
here=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
build=$(cd "${1:?usage: $0 BUILD}" && pwd)
name=$(basename "$0" .sh)
slow=${SHOAL_SLOW:-1}

skip_all() { # REASON: nothing here can be tested on this machine
    echo "skip $name: $1"
    exit 0
}

pause() { read -r -t "$1" <> <(:) || :; } # SECONDS; only between two looks at something

[ "$(id -u)" -eq 0 ] || skip_all "needs root"

# --- the outer shell: make the namespaces, clean up after them -------------------------------------------------------

outer_leftovers() { # what of this test is on the machine, one a line
    local pids
    [ ! -e "$outer_dir" ] || echo "files: $outer_dir"
    find /sys/fs/cgroup -maxdepth 2 -name "$outer_cgroup*" 2>/dev/null
    grep -F "$outer_dir" /proc/self/mountinfo
    pids=$(find /proc -maxdepth 3 -path '/proc/[0-9]*/ns/pid' -lname "${outer_pid_ns:-none}" 2>/dev/null)
    [ -z "$pids" ] || echo "processes: $pids"
}

outer_clean() { # the test has ended: the kernel has killed or is killing what it started
    local tries
    outer_pid_ns=$(cat "$outer_dir/pid-namespace" 2>/dev/null)
    for ((tries = 0; tries < 50; tries++)); do
        find /sys/fs/cgroup -depth -type d -path "*/$outer_cgroup*" -exec rmdir {} + 2>/dev/null
        rm -rf --one-file-system "$outer_dir" 2>/dev/null
        [ -n "$(outer_leftovers)" ] || return
        pause 0.1
    done
}

if [ -z "${SHOAL_TEST_DIR:-}" ]; then
    outer_dir=$(mktemp -d "/tmp/shoal-$name.XXXXXX") outer_cgroup=shoaltest-$name-$$
    trap 'outer_clean' EXIT
    trap 'exit 1' HUP INT TERM
    SHOAL_TEST_DIR=$outer_dir SHOAL_TEST_CGROUP=$outer_cgroup setpriv --pdeathsig KILL \
        unshare --net --mount --propagation private --pid --fork --kill-child --mount-proc bash "$0" "$@"
    rc=$?
    outer_clean
    left=$(outer_leftovers)
    if [ -z "$left" ]; then
        echo "ok $name leaves nothing behind"
    else
        printf '%s\n' "$left" | sed 's/^/# /'
        echo "not ok $name leaves nothing behind"
        rc=1
    fi
    exit $rc
fi

# --- inside ----------------------------------------------------------------------------------------------------------

work=$SHOAL_TEST_DIR
cgroup=$SHOAL_TEST_CGROUP
failures=0
readlink /proc/self/ns/pid >"$work/pid-namespace"
ip link set lo up
export PATH=$build:$PATH

say() { printf '# %s\n' "$*"; }

check() { # NAME COMMAND...
    local what=$1 out
    shift
    if out=$("$@" 2>&1); then
        echo "ok $what"
    else
        failures=$((failures + 1))
        printf '%s\n' "$out" | tail -n 15 | sed 's/^/#   /'
        echo "not ok $what ($*)" | tr '\n' ' '
        echo
    fi
}

skip() { echo "skip $1: $2"; } # NAME REASON

eventually() { # SECONDS COMMAND...
    local until=$(($(date +%s%N) + $1 * slow * 1000000000))
    shift
    while :; do
        "$@" >"$work/eventually.out" 2>&1 && return 0
        [ "$(date +%s%N)" -lt "$until" ] || break
        pause 0.05
    done
    cat "$work/eventually.out"
    echo "not within the time: $*"
    return 1
}

equals() { [ "$1" = "$2" ] || { echo "expected \"$2\", got \"$1\""; return 1; }; }
contains() { case $1 in *"$2"*) ;; *) echo "\"$2\" is not in \"$1\""; return 1 ;; esac; }
refuses() { ! "$@"; }

says() { # TEXT COMMAND...: it succeeds and its output has this in it
    local text=$1 said rc
    shift
    said=$("$@" 2>&1)
    rc=$?
    [ $rc -eq 0 ] || { echo "status $rc: $said"; return 1; }
    contains "$said" "$text"
}
fails_with() { # STATUS TEXT COMMAND...
    local status=$1 text=$2 said rc
    shift 2
    said=$("$@" 2>&1)
    rc=$?
    equals "$rc" "$status" && contains "$said" "$text"
}

# --- nodes -----------------------------------------------------------------------------------------------------------

enter=() # how a command gets onto a node's machine: nothing where there are no machines (machines.sh sets it)
enter_machine() { :; }

# A node's process id is in a file, since checks run in shells of their own.
node_pid() { cat "$work/$1/pid"; }

node_start() { # NODE [shoald's options...]: start it and wait until it serves
    local node=$1
    shift
    mkdir -p "$work/$node"
    enter_machine "$node"
    ${enter[@]+"${enter[@]}"} shoald --data-dir "$work/$node/data" --run-dir "$work/$node/run" --host "unix://$work/$node/api.sock" \
        --cgroup-parent "$cgroup/$node" "$@" >>"$work/$node/log" 2>&1 &
    echo $! >"$work/$node/pid"
    disown $! # its end is no news of the shell's
    eventually 20 api "$node" GET /_ping >/dev/null || {
        echo "node $node does not serve:"
        tail -n 20 "$work/$node/log"
        return 1
    }
}

node_kill() { # NODE [SIGNAL]: end shoald alone; keeper and containers go on
    local pid
    pid=$(node_pid "$1")
    kill "-${2:-KILL}" "$pid" 2>/dev/null
    eventually 20 process_ended "$pid"
}

process_ended() { ! grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$1/status"; }

node_stop() { node_kill "$1" TERM; }

keeper_pid() { # NODE: who holds the lock of its keeper
    awk -v inode="$(stat -c %i "$work/$1/run/keeper/lock")" '$6 ~ ":" inode "$" { print $5; exit }' /proc/locks
}

api() { # NODE METHOD PATH [BODY]: the answer's body; fails on 4xx and 5xx, printing it
    local node=$1 method=$2 path=$3 out code
    shift 3
    out=$(curl -sS --max-time $((60 * slow)) --unix-socket "$work/$node/api.sock" -X "$method" -w '\n%{http_code}' \
        ${1:+-H 'Content-Type: application/json' -d "$1"} "http://node$path") || return 1
    code=${out##*$'\n'}
    printf '%s' "${out%$'\n'*}"
    [ "$code" -lt 400 ]
}

status_of() { # NODE METHOD PATH [BODY]: the HTTP status alone
    local node=$1 method=$2 path=$3
    shift 3
    curl -sS --max-time $((60 * slow)) --unix-socket "$work/$node/api.sock" -X "$method" -o /dev/null -w '%{http_code}' \
        ${1:+-H 'Content-Type: application/json' -d "$1"} "http://node$path"
}

sh_() { # NODE shoal's arguments...
    local node=$1
    shift
    shoal --host "unix://$work/$node/api.sock" "$@"
}

docker_() { # NODE docker's arguments...
    local node=$1
    shift
    DOCKER_CONFIG=$work/docker docker -H "unix://$work/$node/api.sock" "$@"
}

node_image() { # NODE [NAME [CONFIG]]: give it an image of busybox, "busy:1" when no name is given
    local node=$1 reference=${2:-busy:1}
    [ -n "$(images_need | grep -E 'jq|busybox')" ] && skip_all "missing: jq or busybox"
    image_busybox "$work/images" "$reference" "${3:-}" && rm -f "$work/images.tar" && oci_archive "$work/images" "$work/images.tar" &&
        sh_ "$node" load -q -i "$work/images.tar" >/dev/null
}

have_docker() { command -v docker >/dev/null; }

# --- the end -----------------------------------------------------------------------------------------------------------

all_good() { [ $failures -eq 0 ] || finish; } # what follows builds on what came before, and would only wait in vain

finish() {
    local node
    if [ $failures -gt 0 ]; then
        for node in "$work"/*/log; do
            [ -d "${node%/*}/run" ] && { echo "# --- last lines of $node"; tail -n 30 "$node" | sed 's/^/#   /'; }
        done
    fi
    exit $((failures > 0))
}
