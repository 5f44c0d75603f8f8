#!/bin/bash
# Images through the real programs: pulled from Debian's registry in every form it can hold, loaded, imported, tagged, listed, inspected and removed;
# what is damaged or hostile is refused with the reason and leaves nothing; accidents in the middle leave nothing either.
. "$(dirname "$0")/lib.sh"
. "$here/images.sh"

missing=$(images_need | tr '\n' ' ')
[ -z "$missing" ] || skip_all "missing: $missing"
layout=$work/layout outside=$work/outside store=$work/a/data/images
mkdir "$outside"

shoal_() { sh_ a "$@"; }

id_of() { shoal_ image inspect --format '{{.Id}}' "$1"; }
is_image() { equals "$(id_of "$1")" "$2"; } # REFERENCE ID
in_box() { shoal_ run --rm --network none --entrypoint /bin/sh "$1" -c "$2"; } # IMAGE SCRIPT
prints() { # TEXT COMMAND...: it succeeds and prints exactly this
    local text=$1 said
    shift
    said=$("$@" 2>&1) || { echo "failed: $said"; return 1; }
    equals "$said" "$text"
}

stored() { # all images, layers and blobs that the store holds, one a line; a record's predecessor (".NAME.old") goes in its own time
    (cd "$store" && find blobs/sha256 layers records/images records/layers -mindepth 1 -maxdepth 1 -not -name '.*' | sort)
}
holds() { # what `stored` printed before, and nothing besides, nor anything begun or on its way out
    local now
    now=$(stored; cd "$store" && find tmp -mindepth 1 -maxdepth 1)
    [ "$now" = "$1" ] || { diff <(echo "$1") <(echo "$now"); return 1; }
}
refused() { # TEXT COMMAND...: it fails with this in its words, and nothing of it stays
    local text=$1 before said
    shift
    before=$(stored)
    said=$("$@" 2>&1) && { echo "it succeeded: $said"; return 1; }
    contains "$said" "$text" && eventually 10 holds "$before"
}

# --- images that are pulled ------------------------------------------------------------------------------------------

image_busybox "$layout" web:1 && image_layers "$layout" web:2 && image_busybox "$layout" web:3 '{"Cmd":["/bin/sh"],"Env":["FORM=schema2"]}' &&
    IMAGE_ARCH=s390x image_busybox "$layout" web:other || exit 1
one=$(oci_id "$layout" web:1) two=$(oci_id "$layout" web:2)
registry_start "$work/registry" || skip_all "the registry does not start"
registry=$REGISTRY pids=$REGISTRY_PIDS blobs=$work/registry/data/docker/registry/v2/blobs/sha256
registry_push "$layout" web:1 "$registry/web:1" && registry_push "$layout" web:2 "$registry/web:2" && registry_push "$layout" web:3 "$registry/web:schema2" v2s2 &&
    registry_push "$layout" web:other "$registry/web:other" && registry_push "$layout" web:other "$registry/web:other2" v2s2 &&
    registry_push_index "http://$registry/v2/web" index oci s390x=other amd64=2 &&
    registry_push_index "http://$registry/v2/web" list docker amd64=schema2 s390x=other2 &&
    registry_push_index "http://$registry/v2/web" elsewhere oci s390x=other || exit 1
node_start a || exit 1

check "pull prints the layers and what became of them" eval 'shoal_ pull "$registry/web:1" >"$work/pulled" && contains "$(cat "$work/pulled")" "1: Pulling from web" &&
    contains "$(cat "$work/pulled")" "Pull complete" && contains "$(cat "$work/pulled")" "Status: Downloaded newer image for $registry/web:1" &&
    equals "$(tail -n 1 "$work/pulled")" "$registry/web:1"'
check "the image has the id of its config" is_image "$registry/web:1" "$one"
check "the digest of its manifest is its name too" eval 'digest=$(sed -n "s/^Digest: //p" "$work/pulled") && is_image "$registry/web@$digest" "$one" &&
    equals "$(shoal_ image inspect --format "{{index .RepoDigests 0}}" "$registry/web:1")" "$registry/web@$digest"'
check "pulled again it is up to date" says "Status: Image is up to date for $registry/web:1" shoal_ pull "$registry/web:1"
check "quiet pull prints the reference alone" prints "$registry/web:1" shoal_ pull -q "$registry/web:1"
check "gzip, zstd and plain layers are pulled" eval 'shoal_ pull -q "$registry/web:2" && is_image "$registry/web:2" "$two"'
check "docker's manifest of schema 2 is pulled" eval 'shoal_ pull -q "$registry/web:schema2" && prints schema2 in_box "$registry/web:schema2" "echo \$FORM"'
check "an index is followed to this machine's image" eval 'shoal_ pull -q "$registry/web:index" && is_image "$registry/web:index" "$two"'
check "docker's manifest list too" eval 'shoal_ pull -q "$registry/web:list" && is_image "$registry/web:list" "$(id_of "$registry/web:schema2")"'
check "--platform chooses another" eval 'shoal_ pull -q --platform linux/s390x "$registry/web:index" &&
    equals "$(shoal_ image inspect --format "{{.Os}}/{{.Architecture}}" "$registry/web:index")" linux/s390x'
check "an index without this machine's platform is refused" refused "no matching manifest for linux/amd64" shoal_ pull "$registry/web:elsewhere"
check "a tag that is not there is refused" refused "manifest unknown" shoal_ pull "$registry/web:absent"
check "a repository that is not there is refused" refused "not found" shoal_ pull "$registry/nothing:1"

# What the layers hold, seen from a container: whiteouts, an opaque directory, owners, modes, links, a capability.
check "a whiteout hides a file" prints "" in_box "$registry/web:2" 'ls /data/gone 2>/dev/null; ls /owned/link 2>/dev/null; :'
check "what is beside it stays" prints one in_box "$registry/web:2" 'cat /data/deep/kept'
check "an opaque directory hides what was below" prints seen in_box "$registry/web:2" 'ls /opaque'
check "owner and mode are kept" prints "4755 1000:1001" in_box "$registry/web:2" 'stat -c "%a %u:%g" /owned/file'
check "the last layer is on top" prints three in_box "$registry/web:2" 'cat /last'
check "a file capability is kept" eval 'layer=$(ls -d "$store"/layers/*/owned/capable 2>/dev/null || find "$store/layers" -name capable) && contains "$(getcap $layer)" cap_net_raw'
check "a hard link is one file" eval 'file=$(find "$store/layers" -path "*owned/file") && equals "$(stat -c %h "$file")" 2'
check "an extended attribute is kept" eval 'contains "$(getfattr -n user.note --only-values "$(find "$store/layers" -path "*owned/file")")" kept'

# --- several at once -------------------------------------------------------------------------------------------------

mkdir "$work/big" && for i in 1 2 3 4; do head -c 24M /dev/urandom >"$work/big/$i"; done
oci_begin "$layout"
for i in 1 2 3 4; do
    tar -C "$work/big" -cf "$work/big.tar" "$i" && oci_layer_tar "$layout" "$work/big.tar" plain
done
oci_end "$layout" big:1 && registry_push "$layout" big:1 "$registry/big:1" || exit 1
rm -rf "$work/big"

fetched() { grep -c "response completed.*http.request.method=GET.*/v2/$1/blobs/" "$work/registry/log"; } # REPOSITORY: blobs that were read
pull_at_once() {
    local waiting=() i
    for i in 1 2 3 4; do
        shoal_ pull -q "$registry/big:1" >"$work/pull.$i" 2>&1 &
        waiting+=($!)
    done
    for i in "${waiting[@]}"; do
        wait "$i" || { cat "$work"/pull.*; return 1; }
    done
}
before=$(fetched big)
check "four clients pull one image at once" pull_at_once
check "each of its blobs was read once" equals $(($(fetched big) - before)) 5
check "it is there, once" is_image "$registry/big:1" "$(oci_id "$layout" big:1)"
shoal_ rmi "$registry/big:1" >/dev/null

api a POST "/images/create?fromImage=$registry/big&tag=1" | tr -d '\r' >"$work/stream"
check "the API's stream has a line for each step, as docker's" jq -es --arg image "$registry/big:1" '
    (.[0] == {status: "Pulling from big", id: "1"}) and .[-1].status == "Status: Downloaded newer image for " + $image and
    ([.[] | select(.status == "Pulling fs layer")] | length) == 4 and ([.[] | select(.status == "Pull complete")] | length) == 4 and
    all(.[] | select(.status == "Downloading"); .progressDetail.current <= .progressDetail.total and .progressDetail.total > 24000000)' "$work/stream"
overlapping() { # two layers were on their way at the same time
    jq -rs '
        [.[] | select(.status == "Downloading" or .status == "Download complete")] |
        reduce .[] as $line ({open: [], most: 0};
            if $line.status == "Downloading" then .open = (.open + [$line.id] | unique) else .open -= [$line.id] end | .most = ([.most, (.open | length)] | max)) | .most' "$work/stream" >"$work/most"
    [ "$(cat "$work/most")" -ge 2 ] || { echo "at most $(cat "$work/most") layers at once"; return 1; }
}
check "layers are fetched in parallel" overlapping
shoal_ rmi "$registry/big:1" >/dev/null

# --- accidents -------------------------------------------------------------------------------------------------------

before=$(stored)
kill_during() { # FILES: kill the node's daemon while such files are there, in the middle of a pull
    local pid
    shoal_ pull -q "$registry/big:1" >/dev/null 2>&1 &
    pid=$!
    eventually 20 eval "ls $store/tmp/$1 >/dev/null 2>&1" && node_kill a && ! wait "$pid" && node_start a && eventually 20 holds "$before"
}
check "killed while it fetches, the node leaves nothing" kill_during '*'
check "killed while it unpacks, too" kill_during 'layer*'
check "and the image can be pulled then" eval 'shoal_ pull -q "$registry/big:1" && is_image "$registry/big:1" "$(oci_id "$layout" big:1)"'
shoal_ rmi "$registry/big:1" >/dev/null

interrupted() {
    local pid
    shoal --host "unix://$work/a/api.sock" pull -q "$registry/big:1" >/dev/null 2>&1 &
    pid=$!
    eventually 20 eval 'ls "$store"/tmp/* >/dev/null 2>&1' && kill "$pid" && ! wait "$pid" && eventually 10 holds "$before"
}
check "a client that leaves ends its pull, of which nothing stays" interrupted

# --- what is not taken -----------------------------------------------------------------------------------------------

spoil() { # NAME: the last layer's blob of this image in the registry, to be damaged
    local digest manifest
    digest=$(jq -r --arg n "$1" '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == $n).digest' "$layout/index.json")
    manifest=$layout/blobs/sha256/${digest#sha256:}
    digest=$(jq -r '.layers[-1].digest' "$manifest") && digest=${digest#sha256:}
    echo "$blobs/${digest:0:2}/$digest/data"
}
one_file() { # NAME CONTENT: an image of one layer with one file
    mkdir -p "$work/root" && printf '%s' "$2" >"$work/root/file" && oci_begin "$layout" && oci_layer "$layout" "$work/root" "${3:-gzip}" && oci_end "$layout" "$1" &&
        registry_push "$layout" "$1" "$registry/$1"
    local rc=$?
    rm -rf "$work/root"
    return $rc
}
of_tar() { # NAME TAR [gzip|zstd|plain]: an image of this layer
    oci_begin "$layout" && oci_layer_tar "$layout" "$2" "${3:-gzip}" && oci_end "$layout" "$1" && registry_push "$layout" "$1" "$registry/$1"
}

one_file bad:flipped flipped && printf 'X' | dd of="$(spoil bad:flipped)" bs=1 seek=40 conv=notrunc status=none
check "a blob with a wrong byte is refused" refused "was asked for" shoal_ pull "$registry/bad:flipped"
one_file bad:short short && truncate -s -20 "$(spoil bad:short)"
check "a blob that is too short is refused" refused "bytes" shoal_ pull "$registry/bad:short"
one_file bad:gone gone && rm "$(spoil bad:gone)"
check "a blob that is not there is refused" refused "blob" shoal_ pull "$registry/bad:gone"

mkdir "$work/evil" && echo evil >"$work/evil/file"
tar -P -C "$work/evil" --transform 's,^file,../../../../../../..'"$outside"/up, -cf "$work/up.tar" file && of_tar evil:up "$work/up.tar"
check "a path that leads upwards is refused" refused '".."' shoal_ pull "$registry/evil:up"
ln -s "$outside" "$work/evil/link" && tar -C "$work/evil" -cf "$work/link.tar" link && rm "$work/evil/link" && mkdir "$work/evil/link" && echo evil >"$work/evil/link/file" &&
    tar -C "$work/evil" -rf "$work/link.tar" link/file && of_tar evil:link "$work/link.tar"
check "a path through a link that leads out is refused or stays inside" eval 'shoal_ pull -q "$registry/evil:link" || :; [ -z "$(ls "$outside")" ]'
echo kept >"$work/target" && tar -P -C "$work/evil" -cf "$work/hard.tar" file && ln "$work/target" "$work/evil/hard" && ln "$work/evil/hard" "$work/evil/hard2" &&
    tar -P -C "$work/evil" --transform "s,^hard\$,$work/target,r" --transform "s,^hard\$,$work/target,h" -cf "$work/hard.tar" --exclude link hard hard2 && of_tar evil:hard "$work/hard.tar"
check "a hard link to a file outside is refused or stays inside" eval 'shoal_ pull -q "$registry/evil:hard" || :; equals "$(stat -c %h "$work/target")" 3'
head -c 3000 /dev/urandom >"$work/noise" && of_tar evil:noise "$work/noise" gzip
check "a layer that is no archive is refused" refused "archive" shoal_ pull "$registry/evil:noise"
tar -C "$layout" -cf "$work/cut.tar" blobs && truncate -s 20000 "$work/cut.tar" && of_tar evil:cut "$work/cut.tar" zstd
check "a layer that ends early is refused" refused "damaged" shoal_ pull "$registry/evil:cut"
echo lie >"$work/root" && tar -C "$work" -cf "$work/lie.tar" root && oci_begin "$layout" && oci_layer_tar "$layout" "$work/lie.tar" &&
    sed -i 's/sha256:./sha256:0/' "$layout/.diff_ids" && sed -i 's/sha256:0\(.\)/sha256:\10/' "$layout/.diff_ids" && oci_end "$layout" evil:lie && registry_push "$layout" evil:lie "$registry/evil:lie"
rm -rf "$work/root"
check "a layer that is not the one its config names is refused" refused "where the image's config says" shoal_ pull "$registry/evil:lie"

# --- passwords, tokens -----------------------------------------------------------------------------------------------

registry_pids=$pids
for kind in basic token; do
    registry_start "$work/$kind" $kind || { check "the registry with $kind starts" false; continue; }
    pids="$pids $REGISTRY_PIDS"
    registry_push "$layout" web:1 "$REGISTRY/web:1" || exit 1
    mkdir -p "$work/login-$kind" "$work/wrong-$kind"
    printf '{"auths":{"%s":{"auth":"%s"}}}' "$REGISTRY" "$(printf '%s:%s' "$images_user" "$images_password" | base64 -w 0)" >"$work/login-$kind/config.json"
    printf '{"auths":{"%s":{"auth":"%s"}}}' "$REGISTRY" "$(printf '%s:wrong' "$images_user" | base64 -w 0)" >"$work/wrong-$kind/config.json"
    check "$kind: without credentials docker's words say what to do" refused "pull access denied for $REGISTRY/web, repository does not exist or may require 'docker login'" shoal_ pull "$REGISTRY/web:1"
    check "$kind: wrong ones are refused" refused "docker login" shoal_ --config "$work/wrong-$kind" pull "$REGISTRY/web:1"
    check "$kind: the right ones are let in" eval 'shoal_ --config "$work/login-$kind" pull -q "$REGISTRY/web:1" && is_image "$REGISTRY/web:1" "$one"'
    check "$kind: what a registry says of a name" eval 'says "\"architecture\":\"amd64\"" curl -sS --unix-socket "$work/a/api.sock" -H "X-Registry-Auth: $(registry_auth_header)" "http://a/distribution/$REGISTRY/web:1/json"'
done
REGISTRY_PIDS=$pids

# --- archives --------------------------------------------------------------------------------------------------------

image_layers "$layout" saved:1 gzip && docker_archive "$layout" saved:1 "$work/docker.tar" saved:1 || exit 1
rm -rf "$work/small" && image_busybox "$work/small" oci:1 '{"Cmd":["/bin/sh"],"Env":["FORM=oci"]}' && oci_archive "$work/small" "$work/oci.tar" || exit 1
gzip -k "$work/docker.tar" && zstd -q "$work/oci.tar" -o "$work/oci.tar.zst"
for archive in docker.tar docker.tar.gz oci.tar oci.tar.zst; do
    image=saved:1
    case $archive in oci*) image=oci:1 ;; esac
    check "load of $archive" prints "Loaded image: $image" shoal_ load -i "$work/$archive"
    check "what $archive brought runs" prints ok in_box "$image" 'echo ok'
    shoal_ rmi "$image" >/dev/null
done
check "load from standard input" says "Loaded image: oci:1" shoal_ load <"$work/oci.tar"
head -c 30000 "$work/docker.tar" >"$work/half.tar"
check "half an archive is refused" refused "damaged" shoal_ load -i "$work/half.tar"
echo 'no archive' >"$work/text"
check "what is no archive is refused" refused "archive" shoal_ load -i "$work/text"
tar -C "$work" -cf "$work/other.tar" text
check "an archive without images is refused" refused "manifest.json" shoal_ load -i "$work/other.tar"

root_busybox "$work/flat" && tar -C "$work/flat" -cf "$work/flat.tar" . || exit 1
check "import prints the id" eval 'id=$(shoal_ import -c "CMD [\"sh\"]" -c "ENV FROM=import" -m "a note" "$work/flat.tar" flat:1) && is_image flat:1 "$id"'
check "its changes count" prints import in_box flat:1 'echo $FROM'
check "import from standard input" says sha256: shoal_ import - flat:2 <"$work/flat.tar"
check "a bad change is refused" refused "FRUM" shoal_ import -c "FRUM x" "$work/flat.tar" flat:3

# --- names -----------------------------------------------------------------------------------------------------------

check "tag" eval 'shoal_ tag oci:1 other.example/team/app:v1 && is_image other.example/team/app:v1 "$(id_of oci:1)"'
check "tag without one means latest" eval 'shoal_ tag oci:1 fresh && is_image fresh:latest "$(id_of oci:1)"'
check "a bad name is refused" fails_with 1 "must be lowercase" shoal_ tag oci:1 Bad:1
check "an id is no name" fails_with 1 "cannot specify 64-byte hexadecimal strings" shoal_ tag oci:1 "$(id_of oci:1 | cut -c 8-)"
check "tag of what is not there is refused" fails_with 1 "No such image: absent:1" shoal_ tag absent:1 x:1
check "ls shows name and tag" eval 'contains "$(shoal_ images --format "{{.Repository}}:{{.Tag}}")" other.example/team/app:v1'
check "ls by reference" equals "$(shoal_ images -q --no-trunc fresh)" "$(id_of oci:1)"
check "inspect by the beginning of an id" eval 'id=$(id_of oci:1) && is_image "${id:7:12}" "$id"'
check "inspect shows the config" prints '[/bin/sh]' shoal_ image inspect --format '{{.Config.Cmd}}' oci:1
check "inspect of what is not there" fails_with 1 "No such image: absent:1" shoal_ image inspect absent:1
check "history shows the layers" equals "$(shoal_ history -q oci:1 | wc -l)" 1
check "rm takes a name away" prints "Untagged: fresh:latest" shoal_ rmi fresh
check "rm by id with several names is refused" fails_with 1 "must be forced" shoal_ rmi "$(id_of oci:1)"
shoal_ create --name user --network none oci:1 true >/dev/null
check "rm of what a container uses is refused" eval 'shoal_ rmi other.example/team/app:v1 && fails_with 1 "container" shoal_ rmi oci:1'
shoal_ rm user >/dev/null
check "rm of the last name deletes" says "Deleted: sha256:" shoal_ rmi oci:1
check "rm of what is not there" fails_with 1 "No such image: oci:1" shoal_ rmi oci:1

# --- the stock client ------------------------------------------------------------------------------------------------

if have_docker; then
    dock() { docker_ a "$@"; }
    check "docker pull" says "up to date" dock pull "$registry/web:2"
    check "docker pull of what is damaged" refused "was asked for" dock pull "$registry/bad:flipped"
    check "docker load" says "Loaded image: oci:1" dock load -i "$work/oci.tar.zst"
    check "docker import" says sha256: dock import "$work/flat.tar" flat:4
    check "docker images" says oci dock images
    check "docker history" says images.sh dock history oci:1
    check "docker image rm" says "Deleted: sha256:" dock image rm oci:1
    check "docker image prune" says "reclaimed" dock image prune -f -a
else
    skip "docker's client" "not on this machine"
    shoal_ image prune -f -a >/dev/null
fi
check "with the last image gone the store is empty" eventually 10 holds ""

# --- a registry that is not there ------------------------------------------------------------------------------------

# Behind "hole" nobody answers, neither registries nor name servers. 127.0.0.1:1 refuses.
ip link add hole type veth peer name bottom && ip addr add 192.0.2.1/24 dev hole && ip link set hole up arp off && ip link set bottom up
echo 'nameserver 192.0.2.53' >"$work/resolv.conf" && mount --bind "$work/resolv.conf" /etc/resolv.conf
within() { # SECONDS COMMAND...
    local limit=$1
    shift
    timeout $((limit * slow)) "$@"
}
export -f sh_ docker_
export work
check "the node becomes a manager" says "" shoal_ swarm init --advertise-addr 127.0.0.1
within 60 bash -c "sh_ a pull 192.0.2.2:5000/web:1" >"$work/hung" 2>&1 & # all at once: each takes as long as it takes
pulling=$!
resolve() { curl -sS --max-time $((25 * slow)) --unix-socket "$work/a/api.sock" "http://a/distribution/$1/web:1/json"; }
resolve registry.invalid >"$work/unnamed" &
resolving=$!
check "resolving where nobody listens fails and says why" eval 'contains "$(resolve 127.0.0.1:1)" "127.0.0.1:1"'
for host in 127.0.0.1:1 192.0.2.2:5000; do
    check "$host: a service is created with a warning" says "image $host/web:1 could not be accessed on a registry to record" \
        within 30 bash -c "sh_ a service create -d --name web-${host##*:} --replicas 0 $host/web:1"
done
wait $resolving
check "resolving without a name server fails soon and says why" contains "$(cat "$work/unnamed")" "registry.invalid"
wait $pulling
check "a pull from where nobody answers fails" equals $? 1
check "it says why" contains "$(cat "$work/hung")" "192.0.2.2:5000"
check "a service whose image is no reference is refused" eval 'said=$(api a POST /services/create "{\"Name\":\"x\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"Bad:1\"}}}"); contains "$said" "ContainerSpec: \\\"Bad:1\\\" is not a valid repository/tag"'

# --- a disk that is too small ----------------------------------------------------------------------------------------

node_stop a
mkdir -p "$work/b/data" && mount -t tmpfs -o size=64m tmpfs "$work/b/data" && store=$work/b/data/images
shoal_() { sh_ b "$@"; }
mkdir "$work/zero" && truncate -s 200M "$work/zero/bomb" && tar -C "$work/zero" -cf "$work/bomb.tar" bomb && rm -rf "$work/zero"
of_tar evil:bomb "$work/bomb.tar" zstd && [ -f "$(spoil evil:bomb)" ] && [ "$(stat -c %s "$(spoil evil:bomb)")" -lt 1000000 ] || exit 1
skopeo --insecure-policy copy -q "oci:$layout:big:1" "docker-archive:$work/bomb.archive:big:1" || exit 1
node_start b || exit 1
check "a layer that unpacks to more than the disk holds is refused" refused "No space left on device" shoal_ pull "$registry/evil:bomb"
check "a layer that is larger than the disk too" refused "No space left on device" shoal_ pull "$registry/big:1"
check "an upload that is larger than the disk too" refused "No space left on device" shoal_ load -i "$work/bomb.archive"
check "what fits is still taken" eval 'shoal_ pull -q "$registry/web:1" && is_image "$registry/web:1" "$one" && prints ok in_box "$registry/web:1" "echo ok"'
finish
