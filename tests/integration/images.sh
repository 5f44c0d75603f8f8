#!/bin/bash
# Test images and registries, from what Debian packages have put on this machine; no network but the loopback.
#
# Sourced by stories, or run with one of its functions as a command:
#
#     tests/integration/images.sh image_busybox /tmp/x/layout web:1      an OCI layout with one image
#     tests/integration/images.sh registry_serve /tmp/x/registry basic   a registry, until it is ended
#
# Images are built as OCI layouts: oci_begin DIR; oci_layer DIR ROOT [gzip|zstd|plain]...; oci_end DIR NAME [CONFIG-JSON].
# skopeo pushes them to a registry and turns them into archives as docker save writes them.

images_need() { # the programs that are missing, one a line; nothing when all are there
    local program
    for program in docker-registry skopeo jq openssl busybox htpasswd; do
        command -v "$program" >/dev/null || echo "$program"
    done
}

# --- OCI layouts ---------------------------------------------------------------------------------

oci_blob() { # DIR FILE: move it among the blobs; prints digest and size
    local hex
    hex=$(sha256sum <"$2") && hex=${hex%% *}
    echo "sha256:$hex" "$(stat -c %s "$2")"
    mv "$2" "$1/blobs/sha256/$hex"
}

oci_begin() { # DIR: begin an image in this layout, made when it is missing
    mkdir -p "$1/blobs/sha256" || return 1
    [ -f "$1/oci-layout" ] || echo '{"imageLayoutVersion":"1.0.0"}' >"$1/oci-layout"
    [ -f "$1/index.json" ] || echo '{"schemaVersion":2,"manifests":[]}' >"$1/index.json"
    echo '[]' >"$1/.layers"
    echo '[]' >"$1/.diff_ids"
}

oci_layer_tar() { # DIR TAR [gzip|zstd|plain]: add a layer; the file is moved
    local dir=$1 tar=$2 how=${3:-gzip} diff suffix digest size
    diff=$(sha256sum <"$tar") && diff=sha256:${diff%% *}
    case $how in
    gzip) gzip -n "$tar" && mv "$tar.gz" "$tar" && suffix=+gzip ;;
    zstd) zstd -q --rm "$tar" -o "$tar.zst" && mv "$tar.zst" "$tar" && suffix=+zstd ;;
    plain) suffix= ;;
    *) echo "oci_layer: unknown compression $how" >&2 && return 1 ;;
    esac || return 1
    read -r digest size < <(oci_blob "$dir" "$tar")
    jq -c --arg d "$digest" --argjson s "$size" --arg t "application/vnd.oci.image.layer.v1.tar$suffix" \
        '. + [{mediaType: $t, digest: $d, size: $s}]' "$dir/.layers" >"$dir/.new" && mv "$dir/.new" "$dir/.layers" &&
        jq -c --arg d "$diff" '. + [$d]' "$dir/.diff_ids" >"$dir/.new" && mv "$dir/.new" "$dir/.diff_ids"
}

oci_layer() { # DIR ROOT [gzip|zstd|plain]: add a layer of what is below ROOT, owned by root
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$2" -cf "$1/.tar" . &&
        oci_layer_tar "$1" "$1/.tar" "${3:-gzip}"
}

oci_end() { # DIR NAME [CONFIG]: CONFIG is the JSON of "config", {"Cmd":["/bin/sh"]} when absent
    local dir=$1 name=$2 config=${3:-'{"Cmd":["/bin/sh"]}'} arch=${IMAGE_ARCH:-amd64} cd cs md ms
    jq -nc --argjson c "$config" --arg a "$arch" --slurpfile d "$dir/.diff_ids" \
        '{architecture: $a, os: "linux", created: "2024-01-02T03:04:05Z", config: $c,
          rootfs: {type: "layers", diff_ids: $d[0]}, history: [$d[0][] | {created: "2024-01-02T03:04:05Z", created_by: "images.sh"}]}' \
        >"$dir/.config" || return 1
    read -r cd cs < <(oci_blob "$dir" "$dir/.config")
    jq -nc --arg d "$cd" --argjson s "$cs" --slurpfile l "$dir/.layers" \
        '{schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json",
          config: {mediaType: "application/vnd.oci.image.config.v1+json", digest: $d, size: $s}, layers: $l[0]}' >"$dir/.manifest"
    read -r md ms < <(oci_blob "$dir" "$dir/.manifest")
    jq -c --arg d "$md" --argjson s "$ms" --arg n "$name" --arg a "$arch" \
        '.manifests |= map(select(.annotations["org.opencontainers.image.ref.name"] != $n)) |
         .manifests += [{mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $d, size: $s,
                         platform: {architecture: $a, os: "linux"}, annotations: {"org.opencontainers.image.ref.name": $n}}]' \
        "$dir/index.json" >"$dir/.new" && mv "$dir/.new" "$dir/index.json" && rm -f "$dir/.layers" "$dir/.diff_ids"
}

oci_id() { # DIR NAME: the image's id
    local digest
    digest=$(jq -r --arg n "$2" '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == $n).digest' "$1/index.json")
    jq -r .config.digest "$1/blobs/sha256/${digest#sha256:}"
}

oci_archive() { # DIR FILE: the layout as one tar
    tar -C "$1" -cf "$2" oci-layout index.json blobs
}

docker_archive() { # DIR NAME FILE [TAG]: as docker save writes it
    skopeo --insecure-policy copy -q "oci:$1:$2" "docker-archive:$3:${4:-$2}"
}

# --- images --------------------------------------------------------------------------------------

root_busybox() { # ROOT: a root directory with busybox and its commands
    local root=$1 applet
    mkdir -p "$root"/{bin,dev,etc,proc,sys,tmp,root,run,var/log} && chmod 1777 "$root/tmp" &&
        cp "$(command -v busybox)" "$root/bin/busybox" || return 1
    for applet in $(busybox --list); do
        [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
    done
    echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
    echo 'nobody:x:65534:65534:nobody:/:/bin/false' >>"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
}

image_busybox() { # DIR NAME [CONFIG] [gzip|zstd|plain]
    local root
    root=$(mktemp -d) && oci_begin "$1" && root_busybox "$root" && oci_layer "$1" "$root" "${4:-gzip}" && oci_end "$1" "$2" "${3:-}"
    local rc=$?
    rm -rf "$root"
    return $rc
}

# Three layers, gzip, zstd (or SECOND: docker's own formats know none) and plain: the second hides a file and a directory's contents of the first
# and brings a capability, a hard link and owners, the third removes what the second brought.
image_layers() { # DIR NAME [SECOND]
    local root
    root=$(mktemp -d) || return 1
    (
        set -e
        oci_begin "$1"
        root_busybox "$root/1"
        mkdir -p "$root/1/data/deep" "$root/1/opaque"
        echo one >"$root/1/data/gone"
        echo one >"$root/1/data/deep/kept"
        echo one >"$root/1/opaque/hidden"
        oci_layer "$1" "$root/1" gzip
        mkdir -p "$root/2/data" "$root/2/opaque" "$root/2/owned"
        : >"$root/2/data/.wh.gone"
        : >"$root/2/opaque/.wh..wh..opq"
        echo two >"$root/2/opaque/seen"
        echo two >"$root/2/owned/file"
        ln "$root/2/owned/file" "$root/2/owned/link"
        cp "$(command -v busybox)" "$root/2/owned/capable"
        chown -R 1000:1001 "$root/2/owned"
        chmod 4755 "$root/2/owned/file"
        setcap cap_net_raw=ep "$root/2/owned/capable"
        setfattr -n user.note -v kept "$root/2/owned/file"
        tar --sort=name --mtime=@1000 --numeric-owner --xattrs --xattrs-include='*' -C "$root/2" -cf "$1/.tar" .
        oci_layer_tar "$1" "$1/.tar" "${3:-zstd}"
        mkdir -p "$root/3/owned"
        : >"$root/3/owned/.wh.link"
        echo three >"$root/3/last"
        oci_layer "$1" "$root/3" plain
        oci_end "$1" "$2" '{"Entrypoint":["/bin/sh","-c"],"Cmd":["echo hi"],"Env":["PATH=/bin","LAYERS=3"],"WorkingDir":"/data"}'
    )
    local rc=$?
    rm -rf "$root"
    return $rc
}

# A program with the libraries it is linked to, from the package that owns it.
root_program() { # ROOT PROGRAM...
    local root=$1 file
    shift
    for file in "$@" $(ldd "$@" 2>/dev/null | grep -oE '/[^ :()]+' | sort -u); do
        [ -f "$file" ] && mkdir -p "$root$(dirname "$file")" && cp -L "$file" "$root$file"
    done
}

image_nginx() { # DIR NAME: 1 when the package nginx is not on this machine
    local root nginx
    nginx=$(command -v nginx || ls /usr/sbin/nginx 2>/dev/null) || return 1
    root=$(mktemp -d) || return 1
    root_busybox "$root" && root_program "$root" "$nginx" && mkdir -p "$root/var/lib/nginx" "$root/var/log/nginx" "$root/srv" &&
        echo 'hello from nginx' >"$root/srv/index.html" &&
        printf '%s\n' 'daemon off; user root; error_log stderr; pid /run/nginx.pid; events {}' \
            'http { access_log off; server { listen 80; root /srv; } }' >"$root/etc/nginx.conf" &&
        oci_begin "$1" && oci_layer "$1" "$root" gzip &&
        oci_end "$1" "$2" "{\"Cmd\":[\"$nginx\",\"-c\",\"/etc/nginx.conf\"],\"ExposedPorts\":{\"80/tcp\":{}},\"StopSignal\":\"SIGQUIT\"}"
    local rc=$?
    rm -rf "$root"
    return $rc
}

# --- registries ----------------------------------------------------------------------------------

images_user=joe images_password=s3cret # who may use a registry that asks

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

registry_auth_header() { # the value of X-Registry-Auth for that user
    printf '{"username":"%s","password":"%s"}' "$images_user" "$images_password" | base64url
}

registry_certificate() { # DIR: key.pem and cert.pem for the loopback and the name registry.test, signed by itself
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=shoal test" -addext "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:registry.test" \
        -keyout "$1/key.pem" -out "$1/cert.pem" 2>/dev/null
}

registry_token() { # DIR: a token that lets its bearer pull and push "web", signed by DIR/key.pem
    local head body now x5c
    now=$(date +%s)
    x5c=$(openssl x509 -in "$1/cert.pem" -outform DER | openssl base64 -A)
    head=$(printf '{"typ":"JWT","alg":"RS256","x5c":["%s"]}' "$x5c" | base64url)
    body=$(printf '{"iss":"shoal-test","aud":"test-registry","sub":"%s","exp":%d,"nbf":%d,"iat":%d,"jti":"1","access":[{"type":"repository","name":"web","actions":["pull","push"]}]}' \
        "$images_user" $((now + 3600)) $((now - 60)) "$now" | base64url)
    printf '%s.%s.%s\n' "$head" "$body" "$(printf '%s.%s' "$head" "$body" | openssl dgst -sha256 -sign "$1/key.pem" -binary | base64url)"
}

registry_config() { # DIR KIND TOKEN-PORT
    printf 'version: 0.1\nlog: {level: info, formatter: text}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\n' "$1/data"
    printf 'http:\n  addr: 127.0.0.1:0\n'
    [ "$2" != tls ] || printf '  tls: {certificate: %s, key: %s}\n' "$1/cert.pem" "$1/key.pem"
    [ "$2" != basic ] || printf 'auth: {htpasswd: {realm: shoal-test, path: %s}}\n' "$1/htpasswd"
    [ "$2" != token ] || printf 'auth: {token: {realm: "http://127.0.0.1:%s/token", service: test-registry, issuer: shoal-test, rootcertbundle: %s}}\n' \
        "$3" "$1/cert.pem"
}

# Start a registry with its data below DIR on a free loopback port; REGISTRY is "127.0.0.1:PORT" then, REGISTRY_PIDS what registry_stop ends.
# KIND: open, basic, token or tls. For token the tools must have been built: in $build, or where IMAGES_TOOLS says.
registry_start() { # DIR [KIND]
    local dir=$1 kind=${2:-open} port= i
    REGISTRY= REGISTRY_PIDS=
    mkdir -p "$dir/data" || return 1
    case $kind in
    open) ;;
    tls | token) registry_certificate "$dir" || return 1 ;;&
    token)
        registry_token "$dir" >"$dir/token" || return 1
        "${IMAGES_TOOLS:-$build/tests/integration/tools}/token_server" "$dir/token" "Basic $(printf '%s:%s' "$images_user" "$images_password" | openssl base64 -A)" "$dir/token.log" >"$dir/token.port" &
        REGISTRY_PIDS=$!
        for ((i = 0; i < 400; i++)); do
            [ -s "$dir/token.port" ] && read -r port <"$dir/token.port" && break
            read -r -t 0.05 <> <(:)
        done
        [ -n "$port" ] || return 1
        ;;
    basic) htpasswd -Bbn "$images_user" "$images_password" >"$dir/htpasswd" || return 1 ;;
    esac
    registry_config "$dir" "$kind" "$port" >"$dir/config.yml"
    : >"$dir/log"
    setpriv --pdeathsig KILL docker-registry serve "$dir/config.yml" >>"$dir/log" 2>&1 &
    REGISTRY_PIDS="$REGISTRY_PIDS $!"
    for ((i = 0; i < 600; i++)); do
        REGISTRY=$(grep -m 1 -oE 'listening on 127\.0\.0\.1:[0-9]+' "$dir/log") && REGISTRY=${REGISTRY##* } && return 0
        read -r -t 0.05 <> <(:)
    done
    tail -n 5 "$dir/log" >&2
    return 1
}

registry_stop() {
    local pid
    for pid in $REGISTRY_PIDS; do
        kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    REGISTRY_PIDS=
}

# As a command: serve until ended. Prints the address once it answers.
registry_serve() { # DIR [KIND]
    registry_start "$@" || return 1
    trap 'registry_stop; exit 0' TERM INT
    echo "$REGISTRY"
    wait
}

registry_push() { # LAYOUT NAME DESTINATION [v2s2|oci]: DESTINATION is "127.0.0.1:PORT/web:1"
    skopeo --insecure-policy copy -q --dest-tls-verify=false --dest-creds "$images_user:$images_password" --format "${4:-oci}" \
        "oci:$1:$2" "docker://$3"
}

# A manifest list (or index) of the manifests that lie under these tags of one repository.
registry_push_index() { # REPOSITORY TAG [docker|oci] ARCH=TAG...: REPOSITORY is "http://127.0.0.1:PORT/v2/web"
    local repository=$1 tag=$2 kind=$3 list=application/vnd.oci.image.index.v1+json item=application/vnd.oci.image.manifest.v1+json entries='[]' pair bytes digest
    shift 3
    [ "$kind" = oci ] || list=application/vnd.docker.distribution.manifest.list.v2+json item=application/vnd.docker.distribution.manifest.v2+json
    for pair in "$@"; do
        bytes=$(mktemp)
        curl -sSf -H "Accept: $item" -o "$bytes" "$repository/manifests/${pair#*=}" || return 1
        digest=$(sha256sum <"$bytes") && digest=sha256:${digest%% *}
        entries=$(jq -c --arg t "$item" --arg d "$digest" --argjson s "$(stat -c %s "$bytes")" --arg a "${pair%%=*}" \
            '. + [{mediaType: $t, digest: $d, size: $s, platform: {os: "linux", architecture: $a}}]' <<<"$entries")
        rm -f "$bytes"
    done
    jq -nc --arg t "$list" --argjson m "$entries" '{schemaVersion: 2, mediaType: $t, manifests: $m}' |
        curl -sSf -X PUT -H "Content-Type: $list" --data-binary @- "$repository/manifests/$tag"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    "$@"
fi
