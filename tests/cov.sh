#!/bin/sh
# Print line coverage by file, lowest first, after `make cov` has run the tests of a build with --coverage.
#
# usage: tests/cov.sh BUILD
set -eu
cd "$(dirname "$0")/.."
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# gcov prints, for each source, "File 'x'" and "Lines executed:P% of N". Headers and tests are not asked about.
find "$build" -name '*.gcda' ! -name '*_test.gcda' ! -path '*/gen/*' ! -path '*/faults/*' |
    while read -r data; do gcov -n -o "$(dirname "$data")" "$data" 2>/dev/null; done |
    awk -F"'" '/^File / { file = $2 } /^Lines executed:/ && file ~ /^(proto|manager|agent|engine|cli)\/.*\.c$/ {
            split($0, part, /[:% ]+/); lines[file] = part[5]; hit[file] = part[3] * part[5] / 100; file = "" }
        END { for (f in lines) { printf "%6.1f%% of %5d  %s\n", 100 * hit[f] / lines[f], lines[f], f
                                 all += lines[f]; done += hit[f] }
              if (all) printf "%6.1f%% of %5d  all together\n", 100 * done / all, all }' |
    sort -n
