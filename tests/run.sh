#!/bin/bash
# Run the suites named and close with "N passed, M failed, K skipped" over everything that ran.
#
# usage: tests/run.sh BUILD unit|sim|integration|hygiene|chaos...
# Every test program prints lines "ok NAME", "not ok NAME" or "skip NAME: reason" (cmocka's are TAP); what it prints besides is shown only when
# something failed, and lines "# ..." when FIGURES is set. ONLY=text runs the programs whose name contains it. SEEDS and SEED go to the simulations. JOBS programs run at once (as many as
# processors, at most 4), but those that must have the machine to themselves. One that does not end in time is killed and has failed. SHOAL_SLOW=n
# gives all of them n times as long.
set -u
cd "$(dirname "$0")/.."
build=$1
shift
slow=${SHOAL_SLOW:-1}
jobs=${JOBS:-$(nproc)}
[ "$jobs" -le 4 ] || jobs=4
passed=0 failed=0 skipped=0 running=0 number=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=0} UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

# They kill what must answer within a time, or measure the whole machine.
alone='^(engine/engine_crash_test|engine/keeper/.*|tests/integration/(survival|hygiene|full_disk)_test)$'

execute() { # RESULT NAME SECONDS COMMAND...: run a test program and count its lines into RESULT, with what is to be shown
    local result=$1 name=$2 seconds=$(($3 * slow)) out=$1.out rc ok bad skip started=$SECONDS
    shift 3
    timeout -k 20 "$seconds" "$@" >"$out" 2>&1 </dev/null
    rc=$?
    # cmocka's TAP marks a skipped test "ok N - name # SKIP" or "not ok N # SKIP name".
    skip=$(grep -cE '^(skip |(not )?ok [0-9]+ .*# SKIP)' "$out")
    ok=$(grep -vE '# SKIP' "$out" | grep -cE '^ok ')
    bad=$(grep -vE '# SKIP' "$out" | grep -cE '^not ok ')
    if [[ $rc -eq 124 || $rc -eq 137 ]]; then
        bad=$((bad + 1))
        echo "not ok $name: did not end within $seconds seconds" >>"$out"
    elif [[ $rc -ne 0 && $bad -eq 0 ]] || [[ $rc -eq 0 && $ok -eq 0 && $bad -eq 0 && $skip -eq 0 ]]; then
        bad=$((bad + 1))
        echo "not ok $name: ended with status $rc$([[ $ok -gt 0 ]] || echo ' and reported no test')" >>"$out"
    fi
    {
        printf '%-44s %4d passed%s%s  %ds\n' "$name" "$ok" "$([[ $bad -eq 0 ]] || echo ", $bad FAILED")" \
            "$([[ $skip -eq 0 ]] || echo ", $skip skipped")" $((SECONDS - started))
        grep -E "^skip ${FIGURES:+|^# }" "$out" | sed 's/^/    /'
        [[ $bad -eq 0 ]] || { echo "---- $name"; grep -nE '^not ok ' "$out" | grep -v '# SKIP' | head -n 20; echo "--"; tail -n 120 "$out"; echo "----"; }
    } >"$result.shown"
    echo "$ok $bad $skip $((SECONDS - started)) $name" >"$result"
}

collect() { # the results that are there: show and add them
    local result ok bad skip seconds name
    for result in "$work"/*.result; do
        [ -f "$result" ] || continue
        read -r ok bad skip seconds name <"$result"
        passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
        cat "$result.shown"
        echo "$seconds $name" >>"$work/times"
        mv "$result" "$result.done"
    done
}

await() { # MOST: until at most so many still run
    while [ "$running" -gt "$1" ]; do
        wait -n
        running=$((running - 1))
        collect
    done
}

start() { # NAME SECONDS COMMAND...
    [[ -z ${ONLY:-} || $1 == *"$ONLY"* ]] || return 0
    number=$((number + 1))
    if [[ $1 =~ $alone ]]; then
        printf '%s\0' "$work/$number.result" "$@" >"$work/$number.alone"
        return
    fi
    await $((jobs - 1))
    running=$((running + 1))
    execute "$work/$number.result" "$@" &
}

end_suite() { # what must run alone comes last
    local waiting arguments
    await 0
    for waiting in "$work"/*.alone; do
        [ -f "$waiting" ] || continue
        mapfile -d '' arguments <"$waiting"
        rm "$waiting"
        execute "${arguments[@]}"
        collect
    done
}

unit() {
    local t
    export CMOCKA_MESSAGE_OUTPUT=TAP
    while read -r t; do
        start "${t#"$build"/}" 120 "$t"
    done < <(find "$build" -name '*_test' -type f -perm -u+x | sort)
    end_suite
    unset CMOCKA_MESSAGE_OUTPUT
}

sim() { # SEEDS worlds, from SEED on; by default few
    local t few seeds
    for t in "$build"/tests/simulation/*_sim; do
        few=40
        [[ $t != */manager_sim ]] || few=6 # each takes a second
        seeds=${SEEDS:-$few}
        [[ -x $t ]] && start "${t#"$build"/}" $((120 + 4 * seeds)) "$t" "$seeds" ${SEED:+"$SEED"}
    done
    end_suite
}

integration() {
    local t
    for t in tests/integration/*_test.sh; do
        [[ -f $t ]] && start "${t%.sh}" 300 bash "$t" "$build"
    done
    end_suite
}

hygiene() { # the long form
    start tests/integration/hygiene_test 3600 env HYGIENE_CYCLES=1000 HYGIENE_KILLS=100 bash tests/integration/hygiene_test.sh "$build"
    end_suite
}

chaos() { # the long form: MINUTES of faults, SEED; shows the schedule and the counts
    local seconds=$((${MINUTES:-10} * 60)) FIGURES=1
    start tests/integration/chaos_test $((seconds * 6 + 1200)) env CHAOS_SECONDS=$seconds CHAOS_ROUND=20 bash tests/integration/chaos_test.sh "$build"
    end_suite
}

for suite in "$@"; do
    echo "== $suite"
    $suite
done
[ "$number" -le 5 ] || { echo "slowest:"; sort -rn "$work/times" | head -n 5 | awk '{ printf "    %-44s %ds\n", $2, $1 }'; }
echo "$passed passed, $failed failed, $skipped skipped  (${SECONDS}s)"
[[ $failed -eq 0 ]]
