#!/bin/sh
# Install what shoal needs to build and test on Debian 12, and nothing when it is all there.
#
# Everything comes from the machine's own Debian source. libraft is the exception: bookworm carries 0.15, which loses
# data, so 0.22.1 is taken from bookworm-backports of the same mirror. That suite is read through a private apt
# configuration, so the machine's own sources stay as they are and no other package is ever taken from backports.
#
# usage: deploy/deps.sh [build|test|fuzz]...    groups of packages; build and test when none is named
set -eu

BUILD="gcc make libc6-dev pkg-config libuv1-dev libssl-dev liblmdb-dev libprotobuf-c-dev protobuf-c-compiler
 libseccomp-dev libcap-dev libcmocka-dev libmnl-dev libcurl4-openssl-dev libarchive-dev zlib1g-dev libzstd-dev
 libjansson-dev libfyaml-dev libhttp-parser-dev"
TEST="iproute2 nftables util-linux procps curl jq openssl busybox-static docker-registry skopeo apache2-utils zstd xz-utils
 python3-minimal clang-format attr libcap2-bin"
FUZZ="clang libclang-rt-14-dev"
RAFT_VERSION="0.22.1-1~bpo12+1"

# RUNLEVEL=1 tells the packages' scripts not to start the services they bring: the tests start their own on loopback.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1

missing_of() { # the packages of the list that are not installed
    dpkg-query -W -f='${Package} ${Status}\n' "$@" 2>/dev/null |
        awk -v want="$*" '$2 $3 $4 == "installokinstalled" { have[$1] = 1 }
            END { n = split(want, name, " "); for (i = 1; i <= n; i++) if (!(name[i] in have)) printf " %s", name[i] }'
}

need_root() {
    [ "$(id -u)" -eq 0 ] || { echo "deps: installing$1 needs root: run sudo make deps" >&2; exit 1; }
}

install_debian() {
    missing=$(missing_of "$@")
    [ -n "$missing" ] || return 0
    need_root "$missing"
    echo "deps: installing$missing"
    apt-get install -qq -y --no-install-recommends $missing >/dev/null 2>&1 || {
        apt-get update -qq
        apt-get install -qq -y --no-install-recommends $missing >/dev/null
    }
}

# The mirror the machine takes bookworm's own packages from.
debian_mirror() {
    apt-get indextargets --format '$(CREATED_BY)|$(REPO_URI)|$(RELEASE)' |
        awk -F'|' '$1 == "Packages" && $3 == "bookworm" && $2 !~ /security/ { print $2; exit }'
}

install_raft() {
    have=$(dpkg-query -W -f='${Version}' libraft-dev 2>/dev/null || true)
    [ "$have" != "$RAFT_VERSION" ] || return 0
    need_root " libraft-dev"
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || { echo "deps: no apt source for Debian bookworm found on this machine" >&2; exit 1; }
    echo "deps: installing libraft-dev $RAFT_VERSION from bookworm-backports"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/lists/partial" "$work/parts" "$work/debs"
    printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports\nComponents: main\nSigned-By: %s\n' \
        "$mirror" /usr/share/keyrings/debian-archive-keyring.gpg >"$work/parts/backports.sources"
    private="-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=$work/parts -o Dir::State::lists=$work/lists
 -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root"
    apt-get $private -qq update
    (cd "$work/debs" && apt-get $private -qq download "libraft-dev=$RAFT_VERSION" "libraft0=$RAFT_VERSION")
    apt-get install -qq -y --no-install-recommends --allow-downgrades "$work"/debs/*.deb >/dev/null 2>&1 || {
        apt-get update -qq
        apt-get install -qq -y --no-install-recommends --allow-downgrades "$work"/debs/*.deb >/dev/null
    }
}

[ $# -gt 0 ] || set -- build test
for group in "$@"; do
    case $group in
    build)
        install_debian $BUILD
        install_raft
        ;;
    test) install_debian $TEST ;;
    fuzz) install_debian $FUZZ ;;
    *) echo "deps: unknown group $group" >&2; exit 2 ;;
    esac
done
