#!/bin/bash
# shoald as a daemon: its command line, its signals, and sockets by systemd's rules.
. "$(dirname "$0")/lib.sh"

refused() { # TEXT shoald's options...: it does not start, with status 2 and this text
    local text=$1 out rc
    shift
    out=$(timeout 10 shoald --data-dir "$work/never" --run-dir "$work/never-run" "$@" 2>&1)
    rc=$?
    equals "$rc" 2 && contains "$out" "$text" && equals "$(ls "$work" | grep -c never)" 0
}

check "an API without TLS is for this machine alone" refused 'tcp://0.0.0.0:2375' --host tcp://0.0.0.0:2375
check "an unknown option is refused by name" refused 'unknown option "--bogus"' --bogus
check "a bad value is refused with its option" refused 'invalid --warm "many"' --warm many
check "it says its version" contains "$(shoald --version)" "shoald version "
check "it explains itself" contains "$(shoald --help)" "--data-dir DIR"

node_begin() { # COMMAND...: start a daemon of node a whose end is the shell's news
    mkdir -p "$work/a"
    "$@" --data-dir "$work/a/data" --run-dir "$work/a/run" --cgroup-parent "$cgroup/a" >>"$work/a/log" 2>&1 &
    pid=$!
}

node_begin shoald --host "unix://$work/a/api.sock"
check "it serves" eventually 20 api a GET /_ping
kill -HUP "$pid"
check "a hang-up does not end it" eventually 10 grep -q 'asked to reload' "$work/a/log"
check "and it serves on" api a GET /_ping
kill -TERM "$pid"
wait "$pid"
check "it ends by a signal with status 0" equals "$?" 0
check "its socket is gone" refuses test -e "$work/a/api.sock"

if command -v systemd-socket-activate >/dev/null; then
    node_begin systemd-socket-activate -l "$work/a/api.sock" shoald
    check "it serves on a socket that it was passed" eventually 20 api a GET /_ping
    kill -TERM "$pid"
    wait "$pid"
    check "and ends with status 0" equals "$?" 0
else
    skip "it serves on a socket that it was passed" "systemd-socket-activate is not installed"
fi
finish
