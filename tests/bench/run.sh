#!/bin/bash
# The short form of all benchmarks, in under five minutes (make bench).
#
# usage: tests/bench/run.sh BUILD [TEXT]     TEXT: only the benchmarks whose name contains it
#
# Prints the lines of GOALS.md, "BENCH <id> <what> <value> <unit> n=<runs> floor=<value> ratio=<value>", beside what the
# parts cost that they are made of. docs/performance.md says how each is measured. Everything a benchmark writes lies
# below one directory of $TMPDIR (default /tmp), which should be on the disk that a node would use; it is removed at the
# end, as is whatever was started. Ends with 1 when a benchmark failed.
set -u
build=$(cd "${1:?usage: $0 BUILD [TEXT]}" && pwd)
only=${2:-}
cd "$(dirname "$0")/../.."
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/shoal-bench.XXXXXX") || exit 1
export TMPDIR
running= failed=
cleanup() {
    [ -z "$running" ] || { kill "$running" && wait "$running"; } 2>/dev/null
    rm -rf --one-file-system "$TMPDIR"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

budget=285 # seconds for all: on a busy machine the last ones are cut short or left out

run() { # NAME ARGUMENTS...: a benchmark
    local name=$1 started=$SECONDS rc
    shift
    [[ $name == *"$only"* ]] || return 0
    if [ $((budget - SECONDS)) -lt 5 ]; then
        echo "# $name left out: the five minutes are over"
        return
    fi
    echo "# $name $*"
    timeout $((budget - SECONDS)) "$build/tests/bench/$name" "$@" &
    running=$!
    wait "$running"
    rc=$?
    running=
    case $rc in
    0) ;;
    124) echo "# $name cut short: the five minutes are over" ;;
    *) failed="$failed $name" && echo "# $name failed" ;;
    esac
    echo "# $name took $((SECONDS - started)) s"
}

size() { # P13: all programs together, stripped as they are installed
    local program total=0
    for program in shoald shoal shoal-keeper shoal-job; do
        strip -o "$TMPDIR/$program" "$build/$program" || { failed="$failed size" && return; }
        total=$((total + $(stat -c %s "$TMPDIR/$program")))
    done
    awk -v b=$total 'BEGIN { printf "BENCH P13 size %.2f MiB n=4\n", b / 1048576 }'
}

echo "# $(date -u +%Y-%m-%dT%H:%MZ), $(nproc) processors, load $(cut -d' ' -f1-3 /proc/loadavg), kernel $(uname -r)"
[[ size == *"$only"* ]] && size
run node_bench
run keeper_bench
run raft_bench "$TMPDIR"
run group_bench "$TMPDIR"
run scheduler_bench 1000 10000
run control_bench
run list_bench 30000
run swarm_bench agents=300 tasks=10000
run restart_bench "$TMPDIR"
run wire_bench
run store_bench 100000
echo "# everything took $SECONDS s, load $(cut -d' ' -f1-3 /proc/loadavg)"
[ -z "$failed" ] || { echo "# failed:$failed" && exit 1; }
