#!/bin/sh
# The rules of DESIGN.md section 2 and STYLE.md that a program can check. Prints what breaks them and exits 1; long files and functions are
# questions: printed, never fatal.
set -u
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git ls-files --cached --others --exclude-standard '*.c' '*.h' | grep -v '^build/' | while read -r f; do
    [ -f "$f" ] && echo "$f"
done >"$work/files"
bad=0
fail() {
    bad=1
    sed 's/^/  /' "$1"
}

# --- format
if command -v clang-format >/dev/null; then
    xargs -r clang-format --dry-run -Werror <"$work/files" >"$work/format" 2>&1 || {
        echo "lint: not in the project's format (make format):"
        grep -oE '^[^ ]+:[0-9]+:[0-9]+: error' "$work/format" | cut -d: -f1 | sort | uniq -c >"$work/out"
        fail "$work/out"
    }
else
    echo "lint: clang-format is not installed: format not checked"
fi

# --- includes: who may know whom
xargs -r grep -nE '^ *# *include' <"$work/files" | awk -F: '
    function refuse(why) { print $1 ":" $2 ": " inc " " why; }
    {
        file = $1; inc = $3; sub(/^ *# *include *["<]/, "", inc); sub(/[">].*/, "", inc)
        n = split(file, part, "/"); area = part[1]; to = inc; sub(/\/.*/, "", to)
        test = file ~ /_test\.c$/ || area == "tests"
        if (!test) {
            if (area == "proto" && to ~ /^(manager|agent|engine|cli|tests)$/) refuse("proto/ knows nobody")
            if (area == "engine" && to ~ /^(manager|agent|cli|tests)$/) refuse("engine/ knows proto/ alone")
            if (area == "manager" && to ~ /^(agent|engine|cli|tests)$/) refuse("manager/ meets the others in messages")
            if (area == "cli" && to ~ /^(manager|agent|engine|tests)$/) refuse("cli/ speaks the API")
            if (area == "agent" && to ~ /^(cli|tests)$/) refuse("agent/ meets the others in messages")
            if (area == "agent" && to == "manager" && inc != "manager/manager.h") refuse("only through manager/manager.h")
            if (area == "agent" && to == "engine" && inc != "engine/engine.h") refuse("only through engine/engine.h")
        }
        if (inc == "raft.h" && file !~ /^manager\/raft\// && !test) refuse("only in manager/raft")
        if (inc == "lmdb.h" && file !~ /^(manager\/store\/|agent\/ledger)/ && !test) refuse("only in manager/store and agent/ledger")
        if (inc ~ /^openssl\// && file !~ /^(proto\/wire\/|proto\/base\/hash|manager\/ca\/|manager\/store\/seal|agent\/identity)/ && !test)
            refuse("only in proto/wire, proto/base/hash, manager/ca, manager/store/seal, agent/identity")
        if (inc ~ /^(curl\/|archive|seccomp\.h|zstd|zlib)/ && file !~ /^engine\/job\// && !test) refuse("only in engine/job")
        if (inc ~ /^http_parser|llhttp/ && file !~ /^proto\/wire\/http/ && !test) refuse("only in proto/wire/http*")
        if (inc ~ /^libmnl\// && file !~ /^engine\/net\// && file !~ /^agent\/network\// && !test) refuse("only in the net thread")
    }' >"$work/out"
[ ! -s "$work/out" ] || { echo "lint: includes (DESIGN.md section 2):"; fail "$work/out"; }

# --- pure files include nothing impure
sed 's/#.*//' tests/lint/pure.list | while read -r pattern; do
    [ -z "$pattern" ] || ls $pattern 2>/dev/null | grep -v _test.c
done >"$work/pure"
xargs -r grep -nE '# *include *<(uv|lmdb|raft|openssl/.*|time|sys/time|sys/random|sys/socket|fcntl|unistd|signal|pthread|jansson)\.h>|# *include *"proto/base/(clock|entropy|log|file|hash|jread)\.h"' \
    /dev/null <"$work/pure" | grep -vE '^proto/base/(mem|crc)\.' >"$work/out"
[ ! -s "$work/out" ] || { echo "lint: pure files (tests/lint/pure.list) may not include:"; fail "$work/out"; }

# --- banned calls
xargs -r grep -nwE '(strcpy|strcat|sprintf|vsprintf|atoi|atol|atof|usleep|sleep|gets|strtok|system|popen|alloca|tmpnam|mktemp) ?\(' <"$work/files" |
    grep -vE '^[^:]*:[0-9]*: *(/?\*|//)' >"$work/out"
[ ! -s "$work/out" ] || { echo "lint: banned calls:"; fail "$work/out"; }

# --- arenas that clean themselves up must be initialised before anything can return
xargs -r awk '
    /^\{/ { auto = 0 }
    /AUTO_ARENA/ { auto = FNR; where = FILENAME }
    /arena_init\(/ { auto = 0 }
    auto && where == FILENAME && /[ ;(]return[ ;(]/ { print FILENAME ":" FNR ": returns before arena_init, which AUTO_ARENA relies on"; auto = 0 }
' <"$work/files" >"$work/out"
[ ! -s "$work/out" ] || { echo "lint: arenas:"; fail "$work/out"; }

# --- promises without an issue, names of mirrors
xargs -r grep -nE '\b(TODO|FIXME|XXX)\b' <"$work/files" | grep -vE 'TODO\(#[0-9]+\)' >"$work/out"
[ ! -s "$work/out" ] || { echo "lint: TODO without an issue number (write TODO(#N)):"; fail "$work/out"; }
git ls-files | grep -v '^tests/lint/' | xargs -r grep -nE '(deb|ftp|snapshot|security)\.debian\.org' >"$work/out" 2>/dev/null
[ ! -s "$work/out" ] || { echo "lint: the name of a mirror:"; fail "$work/out"; }

# --- questions
xargs -r wc -l <"$work/files" | awk '$1 > 700 && $2 != "total" { print "  " $2 " has " $1 " lines" }' >"$work/out"
xargs -r awk 'FNR == 1 { start = 0 } /^\{/ { start = FNR } /^\}/ { if (start && FNR - start > 90) print "  " FILENAME ":" start ": a function of " FNR - start " lines"; start = 0 }' <"$work/files" >>"$work/out"
[ ! -s "$work/out" ] || { echo "lint: is each of these one thing?"; cat "$work/out"; }

exit $bad
