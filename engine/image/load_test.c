/* Loading archives and importing file systems, good ones and hostile ones, with the real helper program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/support/images.h"
#include "tests/support/job.h"
#include "tests/support/store.h"
#include "tests/support/tarball.h"

/* --- load ---------------------------------------------------------------------------------------- */

static void docker_archive_is_loaded(void **state)
{
    struct world *w = *state;
    struct made one, two;
    const struct made *const both[] = {&one, &two};
    const char *const tags[] = {"[\"one:1\"]", "[\"two:1\",\"reg.example:5000/two:2\"]"};
    struct buf tar = {0};
    struct outcome o;

    make_two(&one, &two);
    archive_docker(&tar, both, tags, 2);
    world_load(w, &tar, &o);
    assert_well(&o);
    assert_string_equal(o.id, ""); /* two were loaded */
    assert_non_null(strstr(buf_str(&o.lines), "{\"status\":\"Loading layer\",\"progressDetail\":{\"current\":"));
    assert_non_null(strstr(buf_str(&o.lines), "{\"stream\":\"Loaded image: one:1\\n\"}\n"
                                              "{\"stream\":\"Loaded image: two:1\\n\"}\n"
                                              "{\"stream\":\"Loaded image: reg.example:5000/two:2\\n\"}\n"));
    assert_string_equal(buf_str(&w->events), "load one:1\nload two:1\n");
    world_settle(w);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(images_count(w->images), 2);
        assert_found(w, "one:1", one.id);
        assert_found(w, "docker.io/library/one:1", one.id);
        assert_found(w, "two:1", two.id);
        assert_found(w, "reg.example:5000/two:2", two.id);
        assert_found(w, two.id, two.id);
        assert_found(w, two.id + 7, two.id);
        char prefix[20];
        snprintf(prefix, sizeof(prefix), "%.12s", two.id + 7);
        assert_found(w, prefix, two.id);
        snprintf(prefix, sizeof(prefix), "%.15s", two.id);
        assert_found(w, prefix, two.id);
        assert_absent(w, "one", ERR_NOT_FOUND, "No such image: one:latest");
        assert_absent(w, "two:2", ERR_NOT_FOUND, "No such image: two:2");
        assert_int_equal(world_found(w, "one:1")->size_bytes, 2);
        assert_int_equal(world_found(w, "two:1")->size_bytes, 5);
        assert_layers(w, two.id, 2,
                      ". dir 0755 0:0\nb file 0644 0:0 3\n"
                      ". dir 0755 0:0\na file 0644 0:0 2\n");
        /* Two configs and two layers; the shared one is there once. */
        assert_string_equal(world_disk(w), "blobs 4 layers 2 tmp 0 records 2+2");
        world_reopen(w);
    }
    outcome_fini(&o);
    buf_fini(&tar);
    made_fini(&one);
    made_fini(&two);
}

static void oci_layout_is_loaded_compressed_and_by_platform(void **state)
{
    struct world *w = *state;
    struct made one = {0}, other = {0};
    struct buf tar = {0}, packed = {0}, index = {0}, inner = {0};
    struct outcome o;
    char digest[72];

    made_layer(&one, "a", "aa", "gzip");
    made_layer(&one, "b", "bb", "zstd");
    made_finish(&one, NULL, NULL);
    made_layer(&other, "a", "other", "gzip");
    made_finish(&other, "s390x", NULL);
    archive_oci(&tar, (const struct made *const[]){&one}, (const char *const[]){"quay.io/one:1"}, 1);
    tar_compress(&tar, "gzip", &packed);
    world_load(w, &packed, &o);
    assert_well(&o);
    assert_string_equal(o.id, one.id);
    assert_found(w, "quay.io/one:1", one.id);
    assert_string_equal(world_found(w, one.id)->manifest_digest, one.manifest_digest);
    world_settle(w);
    assert_string_equal(world_disk(w), "blobs 4 layers 2 tmp 0 records 1+2");
    outcome_fini(&o);
    /* An index within index.json: the platform of this machine is chosen, the blobs of the other need not be there.
     */
    buf_fini(&tar);
    buf_printf(&inner,
               "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"%s\",\"size\":%zu,\"platform\":{\"os\":\"linux\","
               "\"architecture\":\"s390x\"}},{\"digest\":\"%s\",\"size\":%zu,\"platform\":{\"os\":\"linux\","
               "\"architecture\":\"amd64\"}}]}",
               other.manifest_digest, other.manifest.length, one.manifest_digest, one.manifest.length);
    tar_digest(&inner, digest);
    buf_printf(
        &index,
        "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.index.v1+json\","
        "\"digest\":\"%s\",\"size\":%zu,\"annotations\":{\"io.containerd.image.name\":\"docker.io/library/many:1\","
        "\"org.opencontainers.image.ref.name\":\"1\"}}]}",
        digest, inner.length);
    char name[100];
    snprintf(name, sizeof(name), "blobs/sha256/%s", digest + 7);
    TAR(&tar, .name = name, .data = buf_bytes(&inner), .size = inner.length);
    const struct {
        const char *digest;
        const struct buf *bytes;
    } blobs[] = {{one.manifest_digest, &one.manifest},
                 {one.id, &one.config},
                 {one.digests[0], &one.layers[0]},
                 {one.digests[1], &one.layers[1]}};
    for (size_t i = 0; i < ARRAY_SIZE(blobs); i++) {
        snprintf(name, sizeof(name), "blobs/sha256/%s", blobs[i].digest + 7);
        TAR(&tar, .name = name, .data = buf_bytes(blobs[i].bytes), .size = blobs[i].bytes->length);
    }
    TAR(&tar, .name = "index.json", .data = buf_bytes(&index), .size = index.length);
    tar_close(&tar);
    world_load(w, &tar, &o);
    assert_well(&o);
    assert_found(w, "many:1", one.id);
    outcome_fini(&o);
    buf_fini(&tar);
    buf_fini(&packed);
    buf_fini(&index);
    buf_fini(&inner);
    made_fini(&one);
    made_fini(&other);
}

static void image_without_a_name_and_one_that_takes_a_name_are_loaded(void **state)
{
    struct world *w = *state;
    struct made one, two;
    struct buf tar = {0};
    struct outcome o;
    char line[300];

    make_two(&one, &two);
    archive_docker(&tar, (const struct made *const[]){&one}, (const char *const[]){"null"}, 1);
    world_load(w, &tar, &o);
    assert_well(&o);
    snprintf(line, sizeof(line), "{\"stream\":\"Loaded image ID: %s\\n\"}\n", one.id);
    assert_non_null(strstr(buf_str(&o.lines), line));
    assert_int_equal(world_found(w, one.id)->n_tags, 0);
    outcome_fini(&o);
    buf_fini(&tar);
    assert_int_equal(image_tag(w->images, one.id, "web:1", NULL), 0);
    archive_oci(&tar, (const struct made *const[]){&two}, (const char *const[]){"web:1"}, 1);
    world_load(w, &tar, &o);
    assert_well(&o);
    snprintf(line, sizeof(line), "The image web:1 already exists, renaming the old one with ID %s to empty string",
             one.id);
    assert_non_null(strstr(buf_str(&o.lines), line));
    assert_found(w, "web:1", two.id);
    assert_int_equal(world_found(w, one.id)->n_tags, 0);
    world_reopen(w);
    assert_found(w, "web:1", two.id);
    assert_int_equal(images_count(w->images), 2);
    outcome_fini(&o);
    buf_fini(&tar);
    made_fini(&one);
    made_fini(&two);
}

static void newest_image_comes_first(void **state)
{
    struct world *w = *state;
    struct buf tar = {0};
    const char *const extra[] = {"\"x\":1,", "\"x\":2,", "\"x\":3,"};
    struct made m[3] = {0};
    const struct made *const all[] = {&m[0], &m[1], &m[2]};
    const char *const none[] = {"null", "null", "null"};
    struct outcome o;
    struct image image;
    size_t at = 0;

    for (int i = 0; i < 3; i++) {
        made_layer(&m[i], "a", "a", NULL);
        made_finish(&m[i], NULL, extra[i]);
        char *year = strstr(buf_str(&m[i].config), "2024-");
        year[3] = (char)('1' + (i + 1) % 3); /* 2022, 2023, 2021 */
        tar_digest(&m[i].config, m[i].id);
    }
    archive_docker(&tar, all, none, 3);
    world_load(w, &tar, &o);
    assert_well(&o);
    assert_true(images_next(w->images, &at, &image));
    assert_string_equal(image.record->id, m[1].id);
    assert_string_equal(image.config->architecture, "amd64");
    assert_true(images_next(w->images, &at, &image));
    assert_string_equal(image.record->id, m[0].id);
    assert_true(images_next(w->images, &at, &image));
    assert_false(images_next(w->images, &at, &image));
    outcome_fini(&o);
    buf_fini(&tar);
    for (int i = 0; i < 3; i++)
        made_fini(&m[i]);
}

/* --- hostile archives ---------------------------------------------------------------------------- */

struct hostile {
    struct made one;
    struct buf tar;
    char name[100];
};

static void put_member(struct hostile *h, const char *name, const char *text)
{
    TAR(&h->tar, .name = name, .data = text);
}

static void put_buf(struct hostile *h, const char *name, const struct buf *b)
{
    TAR(&h->tar, .name = name, .data = buf_bytes(b), .size = b->length);
}

/* config, layer, and a manifest.json of this form, where %s is the config's member. */
static void put_docker(struct hostile *h, const char *manifest)
{
    put_buf(h, "config.json", &h->one.config);
    put_buf(h, "layer.tar", &h->one.layers[0]);
    put_member(h, "manifest.json", manifest);
}

#define GOOD "[{\"Config\":\"config.json\",\"RepoTags\":[\"web:1\"],\"Layers\":[\"layer.tar\"]}]"

static void no_manifest(struct hostile *h)
{
    put_member(h, "etc/passwd", "root");
}

static void manifest_is_no_json(struct hostile *h)
{
    put_docker(h, "garbage");
}

static void manifest_is_empty(struct hostile *h)
{
    put_docker(h, "[]");
}

static void config_is_missing(struct hostile *h)
{
    put_docker(h, "[{\"Config\":\"other.json\",\"Layers\":[\"layer.tar\"]}]");
}

static void config_outside(struct hostile *h)
{
    put_docker(h, "[{\"Config\":\"../../../../etc/passwd\",\"Layers\":[\"layer.tar\"]}]");
}

static void config_absolute(struct hostile *h)
{
    put_docker(h, "[{\"Config\":\"/etc/passwd\",\"Layers\":[\"layer.tar\"]}]");
}

static void config_is_the_layer(struct hostile *h)
{
    put_docker(h, "[{\"Config\":\"layer.tar\",\"Layers\":[\"layer.tar\"]}]");
}

static void layer_is_missing(struct hostile *h)
{
    put_docker(h, "[{\"Config\":\"config.json\",\"Layers\":[\"other.tar\"]}]");
}

static void layers_are_too_few(struct hostile *h)
{
    put_docker(h, "[{\"Config\":\"config.json\",\"Layers\":[]}]");
}

static void layers_are_too_many(struct hostile *h)
{
    put_docker(h, "[{\"Config\":\"config.json\",\"Layers\":[\"layer.tar\",\"layer.tar\"]}]");
}

static void layer_is_no_archive(struct hostile *h)
{
    put_docker(h, "[{\"Config\":\"config.json\",\"Layers\":[\"config.json\"]}]");
}

static void layer_is_another(struct hostile *h)
{
    struct made other = {0};

    made_layer(&other, "evil", "evil", NULL);
    put_buf(h, "config.json", &h->one.config);
    put_buf(h, "layer.tar", &other.layers[0]);
    put_member(h, "manifest.json", GOOD);
    made_fini(&other);
}

static void layer_is_cut(struct hostile *h)
{
    struct buf cut = {0};

    buf_append(&cut, buf_bytes(&h->one.layers[0]), 600);
    put_buf(h, "config.json", &h->one.config);
    put_buf(h, "layer.tar", &cut);
    put_member(h, "manifest.json", GOOD);
    buf_fini(&cut);
}

static void put_config(struct hostile *h, const char *json)
{
    put_member(h, "config.json", json);
    put_buf(h, "layer.tar", &h->one.layers[0]);
    put_member(h, "manifest.json", GOOD);
}

static void config_is_no_json(struct hostile *h)
{
    put_config(h, "{\"os\":");
}

static void config_for_windows(struct hostile *h)
{
    put_config(h, "{\"os\":\"windows\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}");
}

static void diff_id_is_a_path(struct hostile *h)
{
    put_config(h, "{\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"../../../../etc\"]}}");
}

static void diff_id_is_another(struct hostile *h)
{
    put_config(h, "{\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:"
                  "0000000000000000000000000000000000000000000000000000000000000000\"]}}");
}

static void layer_leads_out(struct hostile *h)
{
    struct made evil = {0};
    struct buf tar = {0};

    TAR(&tar, .name = "../../evil", .data = "x");
    tar_close(&tar);
    made_layer_tar(&evil, &tar, NULL);
    made_finish(&evil, NULL, NULL);
    put_buf(h, "config.json", &evil.config);
    put_buf(h, "layer.tar", &evil.layers[0]);
    put_member(h, "manifest.json", GOOD);
    buf_fini(&tar);
    made_fini(&evil);
}

static void second_layer_leads_out(struct hostile *h)
{
    struct made evil = {0};
    struct buf tar = {0};

    made_layer(&evil, "good", "good", NULL);
    TAR(&tar, .name = "l", .type = '2', .link = "/etc");
    TAR(&tar, .name = "l/evil", .data = "x");
    tar_close(&tar);
    made_layer_tar(&evil, &tar, "gzip");
    made_finish(&evil, NULL, NULL);
    archive_oci(&h->tar, (const struct made *const[]){&evil}, (const char *const[]){"evil:1"}, 1);
    buf_fini(&tar);
    made_fini(&evil);
}

static void second_layer_is_opaque_at_its_root(struct hostile *h)
{
    struct made odd = {0};
    struct buf tar = {0};

    made_layer(&odd, "good", "good", NULL);
    TAR(&tar, .name = ".wh..wh..opq", .data = "");
    tar_close(&tar);
    made_layer_tar(&odd, &tar, NULL);
    made_finish(&odd, NULL, NULL);
    archive_oci(&h->tar, (const struct made *const[]){&odd}, (const char *const[]){"odd:1"}, 1);
    buf_fini(&tar);
    made_fini(&odd);
}

static void tag_is_bad(struct hostile *h)
{
    put_docker(h, "[{\"Config\":\"config.json\",\"RepoTags\":[\"Bad Tag\"],\"Layers\":[\"layer.tar\"]}]");
}

static void tag_is_a_digest(struct hostile *h)
{
    put_docker(h,
               "[{\"Config\":\"config.json\",\"RepoTags\":[\"web@sha256:"
               "0000000000000000000000000000000000000000000000000000000000000000\"],\"Layers\":[\"layer.tar\"]}]");
}

static void links_in_a_loop(struct hostile *h)
{
    TAR(&h->tar, .name = "manifest.json", .type = '2', .link = "b");
    TAR(&h->tar, .name = "b", .type = '2', .link = "manifest.json");
}

static void manifest_is_a_link_out(struct hostile *h)
{
    TAR(&h->tar, .name = "manifest.json", .type = '2', .link = "../../../../etc/passwd");
}

static void manifest_is_a_hard_link_out(struct hostile *h)
{
    TAR(&h->tar, .name = "manifest.json", .type = '1', .link = "/etc/passwd");
}

static void manifest_is_a_device(struct hostile *h)
{
    TAR(&h->tar, .name = "manifest.json", .type = '3', .major = 1, .minor = 5);
}

static void member_leads_out(struct hostile *h)
{
    put_docker(h, GOOD);
    TAR(&h->tar, .name = "../evil", .data = "x");
}

static void manifest_is_huge(struct hostile *h)
{
    char *text = mem_alloc(5 << 20);

    memset(text, ' ', (5 << 20) - 1);
    put_member(h, "manifest.json", text);
    free(text);
}

static void put_index(struct hostile *h, const char *index)
{
    put_member(h, "index.json", index);
    snprintf(h->name, sizeof(h->name), "blobs/sha256/%s", h->one.id + 7);
    put_buf(h, h->name, &h->one.config);
}

static void index_is_no_json(struct hostile *h)
{
    put_index(h, "x");
}

static void index_is_empty(struct hostile *h)
{
    put_index(h, "{\"schemaVersion\":2,\"manifests\":[]}");
}

static void index_is_a_manifest(struct hostile *h)
{
    put_index(h, buf_str(&h->one.manifest));
}

static void index_names_what_is_missing(struct hostile *h)
{
    put_index(h, "{\"schemaVersion\":2,\"manifests\":[{\"size\":1,\"digest\":\"sha256:"
                 "0000000000000000000000000000000000000000000000000000000000000000\"}]}");
}

static void index_names_a_path(struct hostile *h)
{
    put_index(h, "{\"schemaVersion\":2,\"manifests\":[{\"size\":1,\"digest\":\"sha256:../../../etc/passwd\"}]}");
}

static void put_layout(struct hostile *h, int damaged) /* 0: manifest, 1: config, 2: layer, 3: sizes */
{
    const char *const digests[] = {h->one.manifest_digest, h->one.id, h->one.digests[0]};
    const struct buf *const bytes[] = {&h->one.manifest, &h->one.config, &h->one.layers[0]};
    char index[300];

    for (int i = 0; i < 3; i++) {
        struct buf copy = {0};

        buf_append(&copy, buf_bytes(bytes[i]), bytes[i]->length);
        if (i == damaged)
            buf_bytes(&copy)[copy.length / 2] ^= 1;
        snprintf(h->name, sizeof(h->name), "blobs/sha256/%s", digests[i] + 7);
        put_buf(h, h->name, &copy);
        buf_fini(&copy);
    }
    snprintf(index, sizeof(index), "{\"schemaVersion\":2,\"manifests\":[{\"size\":%zu,\"digest\":\"%s\"}]}",
             h->one.manifest.length + (damaged == 3), h->one.manifest_digest);
    put_member(h, "index.json", index);
}

static void layout_with_a_damaged_manifest(struct hostile *h)
{
    put_layout(h, 0);
}

static void layout_with_a_damaged_config(struct hostile *h)
{
    put_layout(h, 1);
}

static void layout_with_a_damaged_layer(struct hostile *h)
{
    put_layout(h, 2);
}

static void layout_with_a_wrong_size(struct hostile *h)
{
    put_layout(h, 3);
}

static void index_that_leads_to_itself(struct hostile *h)
{
    /* A digest cannot be its own, so a chain of five does. */
    struct buf json = {0};
    char digest[72] = "";
    size_t size = 0;

    for (int i = 0; i < 6; i++) {
        buf_clear(&json);
        buf_printf(&json, "{\"schemaVersion\":2,\"manifests\":[{\"size\":%zu,\"digest\":\"%s\"}]}", size,
                   *digest ? digest : h->one.manifest_digest);
        tar_digest(&json, digest);
        size = json.length;
        if (i < 5) {
            snprintf(h->name, sizeof(h->name), "blobs/sha256/%s", digest + 7);
            put_buf(h, h->name, &json);
        }
    }
    put_buf(h, "index.json", &json);
    buf_fini(&json);
}

static void other_platform_only(struct hostile *h)
{
    put_index(h,
              "{\"schemaVersion\":2,\"manifests\":[{\"size\":1,\"digest\":\"sha256:"
              "0000000000000000000000000000000000000000000000000000000000000000\",\"platform\":{\"os\":\"linux\","
              "\"architecture\":\"s390x\"}},{\"size\":1,\"digest\":\"sha256:"
              "1111111111111111111111111111111111111111111111111111111111111111\",\"platform\":{\"os\":\"windows\","
              "\"architecture\":\"amd64\"}}]}");
}

static void good_image_and_a_bad_one(struct hostile *h)
{
    struct made other = {0};

    made_layer(&other, "other", "other", NULL);
    made_finish(&other, NULL, NULL);
    put_buf(h, "other.json", &other.config);
    put_docker(h, "[{\"Config\":\"config.json\",\"RepoTags\":[\"web:1\"],\"Layers\":[\"layer.tar\"]},"
                  "{\"Config\":\"other.json\",\"RepoTags\":[\"web:2\"],\"Layers\":[\"layer.tar\"]}]");
    made_fini(&other);
}

static void old_archive_without_manifest(struct hostile *h)
{
    put_member(h, "repositories", "{\"web\":{\"1\":\"abc\"}}");
    put_member(h, "abc/json", "{}");
}

static void good_again(struct hostile *h)
{
    put_docker(h, GOOD);
}

static const struct {
    const char *name;
    void (*build)(struct hostile *h);
    const char *refused; /* NULL: loaded */
    size_t cut;          /* bytes cut at the end */
} hostile_rows[] = {
#define ROW(what, why)                               \
    {                                                \
        .name = #what, .build = what, .refused = why \
    }
    ROW(no_manifest, "neither manifest.json nor index.json"),
    ROW(manifest_is_no_json, "manifest.json: invalid JSON"),
    ROW(manifest_is_empty, "holds no image"),
    ROW(config_is_missing, "\"other.json\" is missing from the archive"),
    ROW(config_outside, "\"../../../../etc/passwd\" is missing from the archive"),
    ROW(config_absolute, "\"/etc/passwd\" is missing from the archive"),
    ROW(config_is_the_layer, "layer.tar: image config: invalid JSON"),
    ROW(layer_is_missing, "\"other.tar\" is missing from the archive"),
    ROW(layers_are_too_few, "0 layers where the image's config has 1"),
    ROW(layers_are_too_many, "2 layers where the image's config has 1"),
    ROW(layer_is_no_archive, "layer config.json: the archive is damaged"),
    ROW(layer_is_another, "where the image's config says sha256:"),
    ROW(layer_is_cut, "layer layer.tar: "),
    ROW(config_is_no_json, "config.json: image config: invalid JSON"),
    ROW(config_for_windows, "operating system \"windows\" cannot be used"),
    ROW(diff_id_is_a_path, "rootfs.diff_ids[0] \"../../../../etc\" is no SHA-256 digest"),
    ROW(diff_id_is_another, "where the image's config says sha256:0000"),
    ROW(layer_leads_out, "entry \"../../evil\": the path leads upwards"),
    ROW(second_layer_leads_out, "entry \"l/evil\": the directory \"l\" leads out"),
    ROW(second_layer_is_opaque_at_its_root, "hides all layers below it"),
    ROW(tag_is_bad, "invalid reference format"),
    ROW(tag_is_a_digest, "is no tag"),
    ROW(links_in_a_loop, "loop of links"),
    ROW(manifest_is_a_link_out, "the link leads out of the archive"),
    ROW(manifest_is_a_hard_link_out, "\"manifest.json\" is missing"),
    ROW(manifest_is_a_device, "files, directories and links only"),
    ROW(member_leads_out, "entry \"../evil\": the path leads upwards"),
    ROW(manifest_is_huge, "more than 4194304"),
    ROW(index_is_no_json, "index.json: invalid manifest: invalid JSON"),
    ROW(index_is_empty, "holds no image"),
    ROW(index_is_a_manifest, "index.json: no index"),
    ROW(index_names_what_is_missing, "is missing from the archive"),
    ROW(index_names_a_path, "is no SHA-256 digest"),
    ROW(layout_with_a_damaged_manifest, "is damaged: its contents have digest"),
    ROW(layout_with_a_damaged_config, "is damaged: its contents have digest"),
    ROW(layout_with_a_damaged_layer, "is damaged: its contents have digest"),
    ROW(layout_with_a_wrong_size, "where its descriptor says"),
    ROW(index_that_leads_to_itself, "indexes lead to each other"),
    ROW(other_platform_only, "no matching manifest for linux/amd64"),
    ROW(good_image_and_a_bad_one, "layer layer.tar: "),
    ROW(old_archive_without_manifest, "neither manifest.json nor"),
    {.name = "cut in the middle", .build = good_again, .refused = "damaged", .cut = 3000},
    {.name = "cut before manifest.json", .build = good_again, .refused = "neither manifest.json nor", .cut = 2048},
    {.name = "empty", .build = good_again, .refused = "nothing came", .cut = SIZE_MAX},
};

static void hostile_archives_are_refused_and_leave_nothing(void **state)
{
    struct world *w = *state;
    unsigned bad = 0;

    for (size_t i = 0; i < ARRAY_SIZE(hostile_rows); i++) {
        struct hostile h = {0};
        struct outcome o;

        made_layer(&h.one, "a", "aa", NULL);
        made_finish(&h.one, NULL, NULL);
        hostile_rows[i].build(&h);
        if (!strstr(hostile_rows[i].name, "layer_is_opaque") && !strstr(hostile_rows[i].name, "leads_out"))
            tar_close(&h.tar);
        h.tar.length -= MIN(h.tar.length, hostile_rows[i].cut);
        world_load(w, &h.tar, &o);
        world_settle(w);
        if (!strstr(o.error.text, hostile_rows[i].refused) || images_count(w->images) != 0 ||
            strcmp(world_disk(w), "blobs 0 layers 0 tmp 0 records 0+0") != 0 || access("/tmp/evil", F_OK) == 0 ||
            strstr(buf_str(&o.lines), "Loaded")) {
            print_error("%s: \"%s\" without \"%s\"; %s\n", hostile_rows[i].name, o.error.text,
                        hostile_rows[i].refused, world_disk(w));
            bad++;
        }
        outcome_fini(&o);
        buf_fini(&h.tar);
        made_fini(&h.one);
    }
    print_message("%zu archives\n", ARRAY_SIZE(hostile_rows));
    assert_int_equal(bad, 0);
}

static void upload_beyond_its_limit_is_refused(void **state)
{
    struct world *w = *state;
    struct made one, two;
    struct buf tar = {0};
    struct outcome o;

    world_close(w);
    w->upload_bytes_max = 3000;
    world_open(w);
    make_two(&one, &two);
    archive_docker(&tar, (const struct made *const[]){&one, &two}, (const char *const[]){"null", "null"}, 2);
    world_load(w, &tar, &o);
    assert_int_equal(o.error.code, ERR_LIMIT);
    assert_non_null(strstr(o.error.text, "3000 bytes allowed"));
    world_settle(w);
    assert_string_equal(world_disk(w), "blobs 0 layers 0 tmp 0 records 0+0");
    outcome_fini(&o);
    buf_fini(&tar);
    made_fini(&one);
    made_fini(&two);
}

static void canceled_load_leaves_nothing(void **state)
{
    struct world *w = *state;
    struct made one, two;
    struct buf tar = {0};
    struct outcome o;

    make_two(&one, &two);
    archive_docker(&tar, (const struct made *const[]){&one, &two}, (const char *const[]){"null", "null"}, 2);
    world_load_start(w, &tar, &o);
    image_job_cancel(o.job);
    assert_false(o.done);
    world_wait(w, &o.done);
    assert_int_equal(o.error.code, ERR_CANCELED);
    world_settle(w);
    assert_string_equal(world_disk(w), "blobs 0 layers 0 tmp 0 records 0+0");
    outcome_fini(&o);
    /* And closing the store cancels what runs. */
    world_load_start(w, &tar, &o);
    world_close(w);
    assert_true(o.done);
    assert_int_equal(o.error.code, ERR_CANCELED);
    outcome_fini(&o);
    world_open(w);
    world_settle(w);
    assert_string_equal(world_disk(w), "blobs 0 layers 0 tmp 0 records 0+0");
    buf_fini(&tar);
    made_fini(&one);
    made_fini(&two);
}

static void two_loads_of_one_layer_unpack_it_once(void **state)
{
    struct world *w = *state;
    struct made one, two;
    struct buf tars[2] = {{0}, {0}};
    struct outcome o[2];

    make_two(&one, &two);
    archive_docker(&tars[0], (const struct made *const[]){&one}, (const char *const[]){"[\"one:1\"]"}, 1);
    archive_docker(&tars[1], (const struct made *const[]){&two}, (const char *const[]){"[\"two:1\"]"}, 1);
    world_load_start(w, &tars[0], &o[0]);
    world_load_start(w, &tars[1], &o[1]);
    for (int i = 0; i < 2; i++) {
        world_wait(w, &o[i].done);
        assert_well(&o[i]);
        outcome_fini(&o[i]);
        buf_fini(&tars[i]);
    }
    assert_found(w, "one:1", one.id);
    assert_found(w, "two:1", two.id);
    world_settle(w);
    assert_string_equal(world_disk(w), "blobs 4 layers 2 tmp 0 records 2+2");
    made_fini(&one);
    made_fini(&two);
}

/* --- import -------------------------------------------------------------------------------------- */

static void file_system_is_imported(void **state)
{
    struct world *w = *state;
    static const char *const filters[] = {NULL, "gzip", "zstd", "xz", "bzip2"};
    static const char *const changes[] = {"CMD [\"/bin/sh\"]", "ENV A=b", "EXPOSE 80"};

    for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
        struct buf tar = {0}, packed = {0};
        struct outcome o;
        struct image image;
        char ref[32], line[200];

        TAR(&tar, .name = "bin/sh", .data = "sh", .mode = 0755);
        tar_close(&tar);
        if (filters[i])
            tar_compress(&tar, filters[i], &packed);
        snprintf(ref, sizeof(ref), "imported:%zu", i);
        world_import(w, filters[i] ? &packed : &tar, ref, changes, ARRAY_SIZE(changes), &o);
        assert_well(&o);
        snprintf(line, sizeof(line), "{\"status\":\"%s\"}\n", o.id);
        assert_string_equal(buf_str(&o.lines), line);
        assert_int_equal(image_find(w->images, ref, &image, NULL), 0);
        assert_string_equal(image.record->id, o.id);
        assert_string_equal(image.config->command[0], "/bin/sh");
        assert_string_equal(image.config->env[0], "A=b");
        assert_string_equal(image.config->exposed_ports[0], "80/tcp");
        assert_string_equal(image.config->comment, "Imported from -");
        assert_string_equal(image.config->architecture, "amd64");
        assert_layers(w, o.id, 1, ". dir 0755 0:0\nbin dir 0755 0:0\nbin/sh file 0755 0:0 2\n");
        struct buf json = {0};
        assert_int_equal(image_config_json(w->images, o.id, &json, NULL), 0);
        assert_non_null(strstr(buf_str(&json), "\"diff_ids\":[\"sha256:"));
        buf_fini(&json);
        outcome_fini(&o);
        buf_fini(&tar);
        buf_fini(&packed);
    }
    /* The same layer each time; its first blob is kept, the others were not needed. */
    world_settle(w);
    assert_string_equal(world_disk(w) + 8, " layers 1 tmp 0 records 5+1" + (world_disk(w)[8] == ' ' ? 0 : 1));
    assert_string_equal(strstr(buf_str(&w->events), "import"),
                        "import imported:0\nimport imported:1\nimport imported:2\n"
                        "import imported:3\nimport imported:4\n");
    world_reopen(w);
    assert_int_equal(images_count(w->images), 5);
}

static void bad_imports_are_refused_and_leave_nothing(void **state)
{
    struct world *w = *state;
    static const char *const bad_change[] = {"RUN rm -rf /"};
    struct buf good = {0}, cut = {0}, hostile = {0}, none = {0}, text = {0};
    const struct {
        const struct buf *tar;
        const char *ref;
        const char *const *changes;
        const char *why;
    } rows[] = {
        {&good, "Bad:1", NULL, "must be lowercase"},
        {&good, "web@sha256:0000000000000000000000000000000000000000000000000000000000000000", NULL,
         "cannot import digest reference"},
        {&good, "web:1", bad_change, "RUN is not a valid change command"},
        {&cut, "web:1", NULL, "it was cut off"},
        {&hostile, "web:1", NULL, "leads upwards"},
        {&none, "web:1", NULL, "nothing came"},
        {&text, "web:1", NULL, "damaged"},
    };

    TAR(&good, .name = "a", .data = "a");
    buf_append(&cut, buf_bytes(&good), good.length); /* whole members, without the closing blocks */
    tar_close(&good);
    TAR(&hostile, .name = "../a", .data = "a");
    tar_close(&hostile);
    buf_append_str(&text, "this is no archive");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct outcome o;

        world_import(w, rows[i].tar, rows[i].ref, rows[i].changes, rows[i].changes ? 1 : 0, &o);
        if (!o.error.code || !strstr(o.error.text, rows[i].why))
            fail_msg("row %zu: \"%s\" without \"%s\"", i, o.error.text, rows[i].why);
        world_settle(w);
        assert_int_equal(images_count(w->images), 0);
        assert_string_equal(world_disk(w), "blobs 0 layers 0 tmp 0 records 0+0");
        outcome_fini(&o);
    }
    buf_fini(&good);
    buf_fini(&cut);
    buf_fini(&hostile);
    buf_fini(&text);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(docker_archive_is_loaded),
        TEST(oci_layout_is_loaded_compressed_and_by_platform),
        TEST(image_without_a_name_and_one_that_takes_a_name_are_loaded),
        TEST(newest_image_comes_first),
        TEST(hostile_archives_are_refused_and_leave_nothing),
        TEST(upload_beyond_its_limit_is_refused),
        TEST(canceled_load_leaves_nothing),
        TEST(two_loads_of_one_layer_unpack_it_once),
        TEST(file_system_is_imported),
        TEST(bad_imports_are_refused_and_leave_nothing),
    };

    if (getuid() != 0) {
        puts("skip load_test: needs root, for the helper to confine itself");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
