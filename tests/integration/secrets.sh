# What may be readable nowhere on a node. Sourced after lib.sh by stories that have secrets:
#
#     secret_text "a join token" "$token"
#     secret_pem "the root's key" own.key
#     check "nothing of it can be read" nothing_leaks m1 m2 w1
#
# Searched are all files below a node's data and run directories, its log, and those of its containers' launches. A secret is looked for as the text it is
# and as the bytes that text stands for; of a PEM text each line counts.

secrets=$work/secrets
mkdir -p "$secrets"

secret_text() { # NAME TEXT
    printf '%s' "$2" >"$secrets/$(ls "$secrets" | wc -l).$1"
}
secret_base64() { # NAME TEXT: what it stands for besides
    secret_text "$1" "$2"
    printf '%s==' "$2" | base64 -di 2>/dev/null | head -c 24 >"$secrets/$(ls "$secrets" | wc -l).$1, decoded"
}
secret_pem() { # NAME FILE
    local line
    while read -r line; do
        [[ $line == -----* || ${#line} -lt 32 ]] || secret_text "$1" "$line"
    done < <(tail -n +3 "$2") # the first line of a key names its kind
}

pattern_of() { od -An -v -tx1 "$1" | tr -d '\n' | sed 's/ /\\x/g'; } # FILE
readable_in() { # PATTERN NODE...: files, one a line
    local pattern=$1 node
    for node in "${@:2}"; do
        LC_ALL=C find "$work/$node/data" "$work/$node/run" "$work/$node/log" -xdev -type f ! -path '*/image/*' -exec grep -laP -- "$pattern" {} +
    done
}
leaks() { # NODE...: "secret: file", one a line
    local file all=
    for file in "$secrets"/*; do
        all+="${all:+|}$(pattern_of "$file")"
    done
    [ -n "$(readable_in "$all" "$@")" ] || return 0
    for file in "$secrets"/*; do
        readable_in "$(pattern_of "$file")" "$@" | sed "s|^|$(basename "$file" | sed 's/^[0-9]*\.//'): |"
    done
}
nothing_leaks() { # NODE...
    local found
    [ "$(ls "$secrets" | wc -l)" -gt 0 ] || { echo "there is nothing to look for"; return 1; }
    found=$(leaks "$@")
    [ -z "$found" ] || { echo "$found"; return 1; }
}
