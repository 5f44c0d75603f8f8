#!/bin/bash
# Run the suites named and close with "N passed, M failed, K skipped" over everything that ran.
#
# usage: tests/run.sh BUILD unit|sim|integration...
# Every test program prints lines "ok NAME", "not ok NAME" or "skip NAME: reason" (cmocka's are TAP); what it prints besides is shown only when
# something failed. ONLY=text runs the programs whose name contains it. SEEDS and SEED go to the simulations.
set -u
cd "$(dirname "$0")/.."
build=$1
shift
passed=0 failed=0 skipped=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=0} UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

run_one() { # NAME COMMAND...: run a test program and count its lines
    local name=$1 out=$work/out rc ok bad skip started=$SECONDS
    shift
    [[ -z ${ONLY:-} || $name == *"$ONLY"* ]] || return 0
    "$@" >"$out" 2>&1
    rc=$?
    # cmocka's TAP marks a skipped test "ok N - name # SKIP" or "not ok N # SKIP name".
    skip=$(grep -cE '^(skip |(not )?ok [0-9]+ .*# SKIP)' "$out")
    ok=$(grep -vE '# SKIP' "$out" | grep -cE '^ok ')
    bad=$(grep -vE '# SKIP' "$out" | grep -cE '^not ok ')
    if [[ $rc -ne 0 && $bad -eq 0 ]] || [[ $rc -eq 0 && $ok -eq 0 && $bad -eq 0 && $skip -eq 0 ]]; then
        bad=$((bad + 1))
        echo "not ok $name: ended with status $rc$([[ $ok -gt 0 ]] || echo ' and reported no test')" >>"$out"
    fi
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
    printf '%-44s %4d passed%s%s  %ds\n' "$name" "$ok" "$([[ $bad -eq 0 ]] || echo ", $bad FAILED")" \
        "$([[ $skip -eq 0 ]] || echo ", $skip skipped")" $((SECONDS - started))
    grep -E '^skip ' "$out" | sed 's/^/    /'
    [[ $bad -eq 0 ]] || { echo "---- $name"; tail -n 120 "$out"; echo "----"; }
}

unit() {
    local t
    while read -r t; do
        CMOCKA_MESSAGE_OUTPUT=TAP run_one "${t#"$build"/}" "$t"
    done < <(find "$build" -name '*_test' -type f -perm -u+x | sort)
}

sim() {
    local t
    for t in "$build"/tests/simulation/*_sim; do
        [[ -x $t ]] && run_one "${t#"$build"/}" "$t" "${SEEDS:-40}" ${SEED:+"$SEED"}
    done
}

integration() {
    local t
    for t in tests/integration/*_test.sh; do
        [[ -f $t ]] && run_one "${t%.sh}" bash "$t" "$build"
    done
}

for suite in "$@"; do
    echo "== $suite"
    $suite
done
echo "$passed passed, $failed failed, $skipped skipped"
[[ $failed -eq 0 ]]
