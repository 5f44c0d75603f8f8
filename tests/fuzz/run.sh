#!/bin/bash
# Run every fuzz target of a build for some seconds each. Prints "ok NAME: ..." or "not ok NAME" with what it said.
#
# usage: tests/fuzz/run.sh BUILD [SECONDS]
# What a target learned is kept in BUILD/corpus/NAME and used the next time; an input that breaks it is kept in
# BUILD/crashes and shown. tests/fuzz/NAME.dict holds words of its language, tests/fuzz/seeds/NAME inputs to begin
# with, where there are any. ONLY=text runs the targets whose name contains it.
set -u
cd "$(dirname "$0")/../.."
build=$1 seconds=${2:-60}
failed=0 passed=0
mkdir -p "$build/crashes"
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1} UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

for source in tests/fuzz/*_fuzz.c; do
    name=$(basename "$source" .c)
    [[ -z ${ONLY:-} || $name == *"$ONLY"* ]] || continue
    program=$build/tests/fuzz/$name out=$build/crashes/$name.out
    [[ -x $program ]] || { echo "not ok $name: it was not built"; failed=$((failed + 1)); continue; }
    mkdir -p "$build/corpus/$name"
    options=(-max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1
        -artifact_prefix="$build/crashes/$name-")
    [[ -f tests/fuzz/$name.dict ]] && options+=(-dict="tests/fuzz/$name.dict")
    corpora=("$build/corpus/$name")
    [[ -d tests/fuzz/seeds/$name ]] && corpora+=("tests/fuzz/seeds/$name")
    if "$program" "${options[@]}" "${corpora[@]}" >"$out" 2>&1; then
        echo "ok $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$out") runs," \
            "$(find "$build/corpus/$name" -type f | wc -l) inputs kept"
        passed=$((passed + 1))
        rm -f "$out"
    else
        echo "not ok $name"
        tail -n 60 "$out" | sed 's/^/    /'
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed, 0 skipped"
[[ $failed -eq 0 ]]
