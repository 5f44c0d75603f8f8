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

run() { # NAME SECONDS ARGUMENTS...: a benchmark, ended when it takes longer
    local name=$1 seconds=$2 started=$SECONDS
    shift 2
    [[ $name == *"$only"* ]] || return 0
    echo "# $name $*"
    timeout "$seconds" "$build/tests/bench/$name" "$@" &
    running=$!
    wait "$running" || { failed="$failed $name" && echo "# $name failed"; }
    running=
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
run node_bench 150
run keeper_bench 60
run raft_bench 30 "$TMPDIR"
run restart_bench 60 "$TMPDIR"
run wire_bench 30
run control_bench 60
run list_bench 60 100000
run store_bench 60 100000
run scheduler_bench 60 1000 10000
echo "# everything took $SECONDS s, load $(cut -d' ' -f1-3 /proc/loadavg)"
[ -z "$failed" ] || { echo "# failed:$failed" && exit 1; }
