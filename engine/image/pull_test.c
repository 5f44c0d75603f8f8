/* Pulls with the real helper programs from a registry that does what a test says: the progress stream, shared
 * layers, joined and canceled pulls, refusals, and what is left after somebody was killed or the disk was full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/entropy.h"
#include "proto/base/mem.h"
#include "tests/support/images.h"
#include "tests/support/job.h"
#include "tests/support/store.h"
#include "tests/support/tarball.h"

#define NOTHING "blobs 0 layers 0 tmp 0 records 0+0"
#define OCI     "application/vnd.oci.image."

static const char *ref_of(const struct registry *r, const char *name)
{
    static char ref[4][200];
    static unsigned next;

    next = (next + 1) % 4;
    snprintf(ref[next], sizeof(ref[0]), "%s/%s", r->host, name);
    return ref[next];
}

/* --- progress ------------------------------------------------------------------------------------ */

/* The statuses told of a layer, in order, repetitions left out, with blanks between. */
static const char *statuses(struct outcome *o, const char *digest)
{
    static char text[1024];
    char id[40], status[64], last[64] = "";
    size_t length = 0;

    snprintf(id, sizeof(id), "\"id\":\"%.12s\"}", digest + 7);
    text[0] = '\0';
    for (const char *line = buf_str(&o->lines); *line; line = strchr(line, '\n') + 1) {
        const char *end = strchr(line, '\n'), *found = strstr(line, id);

        if (!found || found > end || sscanf(line, "{\"status\":\"%63[^\"]\"", status) != 1 ||
            strcmp(status, last) == 0)
            continue;
        length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%s", length ? ", " : "", status);
        snprintf(last, sizeof(last), "%s", status);
    }
    return text;
}

static void assert_begins(const char *text, const char *expected)
{
    if (strncmp(text, expected, strlen(expected)) != 0)
        fail_msg("\n%sdoes not begin with\n%s", text, expected);
}

static void assert_ends(struct outcome *o, const char *expected)
{
    const char *lines = buf_str(&o->lines);
    size_t length = strlen(lines), wanted = strlen(expected);

    if (length < wanted || strcmp(lines + length - wanted, expected) != 0)
        fail_msg("\n%sdoes not end with\n%s", lines, expected);
}

static void image_is_pulled_with_dockers_progress(void **state)
{
    struct world *w = *state;
    struct made one = {0};
    struct shelf shelf = {0};
    struct registry r;
    struct outcome o;
    char expected[400], big[30000];

    memset(big, 'b', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    made_layer(&one, "a", "aa", "gzip");
    made_layer(&one, "b", big, "zstd");
    made_finish(&one, NULL, NULL);
    shelf_image(&shelf, &one, "web", "1");
    registry_start(&r, shelf_answer, &shelf);
    const char *ref = ref_of(&r, "web:1");
    world_pull(w, ref, NULL, NULL, &o);
    assert_well(&o);
    assert_string_equal(o.id, one.id);
    assert_begins(buf_str(&o.lines), "{\"status\":\"Pulling from web\",\"id\":\"1\"}\n");
    for (unsigned i = 0; i < 2; i++) {
        const char *told = statuses(&o, one.digests[i]);

        assert_begins(told, "Pulling fs layer, ");
        assert_non_null(strstr(told, "Verifying Checksum, Download complete, "));
        assert_string_equal(told + strlen(told) - 13, "Pull complete");
    }
    snprintf(expected, sizeof(expected),
             "{\"status\":\"Digest: %s\"}\n{\"status\":\"Status: Downloaded newer image for %s\"}\n",
             one.manifest_digest, ref);
    assert_ends(&o, expected);
    assert_found(w, ref, one.id);
    snprintf(expected, sizeof(expected), "%s/web@%s", r.host, one.manifest_digest);
    assert_found(w, expected, one.id);
    assert_string_equal(world_found(w, one.id)->digests[0], expected);
    snprintf(expected, sizeof(expected), "pull %s\n", ref);
    assert_string_equal(buf_str(&w->events), expected);
    AUTO_FREE
    char *layers =
        mem_printf(". dir 0755 0:0\nb file 0644 0:0 %zu\n. dir 0755 0:0\na file 0644 0:0 2\n", strlen(big));
    assert_layers(w, one.id, 2, layers);
    outcome_fini(&o);
    /* Once more: nothing is fetched but the manifest. */
    unsigned before = registry_asked(&r, "/blobs/");
    world_pull(w, ref, NULL, NULL, &o);
    assert_well(&o);
    assert_string_equal(statuses(&o, one.digests[0]), "Already exists");
    snprintf(expected, sizeof(expected), "{\"status\":\"Status: Image is up to date for %s\"}\n", ref);
    assert_ends(&o, expected);
    assert_int_equal(registry_asked(&r, "/blobs/"), before);
    outcome_fini(&o);
    world_settle(w);
    /* Two layers, config, manifest. */
    assert_string_equal(world_disk(w), "blobs 4 layers 2 tmp 0 records 1+2");
    world_reopen(w);
    assert_found(w, ref, one.id);
    assert_string_equal(world_disk(w), "blobs 4 layers 2 tmp 0 records 1+2");
    registry_stop(&r);
    made_fini(&one);
}

static void tag_that_moved_and_digests_are_pulled(void **state)
{
    struct world *w = *state;
    struct made one, two;
    struct shelf first = {0}, second = {0};
    struct registry r;
    struct outcome o;
    char by_digest[200];

    make_two(&one, &two);
    shelf_image(&first, &one, "web", "1");
    shelf_image(&second, &two, "web", "1");
    registry_start(&r, shelf_answer, &first);
    world_pull(w, ref_of(&r, "web:1"), NULL, NULL, &o);
    assert_well(&o);
    outcome_fini(&o);
    registry_stop(&r);
    /* The name now leads to another image; its port is another one, too: both names are the test's. */
    registry_start(&r, shelf_answer, &second);
    assert_int_equal(image_tag(w->images, one.id, ref_of(&r, "web:1"), NULL), 0);
    world_pull(w, ref_of(&r, "web:1"), NULL, NULL, &o);
    assert_well(&o);
    assert_non_null(strstr(buf_str(&o.lines), "Downloaded newer image"));
    assert_found(w, ref_of(&r, "web:1"), two.id);
    assert_string_equal(statuses(&o, two.digests[0]), "Already exists");
    outcome_fini(&o);
    snprintf(by_digest, sizeof(by_digest), "%s/web@%s", r.host, two.manifest_digest);
    world_pull(w, by_digest, NULL, NULL, &o);
    assert_well(&o);
    assert_string_equal(o.id, two.id);
    assert_non_null(strstr(buf_str(&o.lines), "{\"status\":\"Pulling from web\",\"id\":\"sha256:"));
    assert_non_null(strstr(buf_str(&o.lines), "Image is up to date"));
    assert_int_equal(world_found(w, two.id)->n_tags, 1);
    outcome_fini(&o);
    registry_stop(&r);
    made_fini(&one);
    made_fini(&two);
}

static void platform_is_chosen_from_an_index(void **state)
{
    struct world *w = *state;
    struct made amd = {0}, arm = {0};
    struct shelf shelf = {0};
    struct buf index = {0};
    struct registry r;
    struct outcome o;
    char digest[72], name[200];

    made_layer(&amd, "a", "amd", "gzip");
    made_finish(&amd, "amd64", NULL);
    made_layer(&arm, "a", "arm", "gzip");
    made_finish(&arm, "arm64", NULL);
    shelf_image(&shelf, &amd, "web", "amd");
    shelf_image(&shelf, &arm, "web", "arm");
    buf_printf(
        &index,
        "{\"schemaVersion\":2,\"mediaType\":\"" OCI "index.v1+json\",\"manifests\":["
        "{\"mediaType\":\"" OCI "manifest.v1+json\",\"digest\":\"%s\",\"size\":%zu,\"platform\":{\"os\":\"linux\","
        "\"architecture\":\"arm64\",\"variant\":\"v8\"}},"
        "{\"mediaType\":\"" OCI "manifest.v1+json\",\"digest\":\"%s\",\"size\":%zu,\"platform\":{\"os\":\"linux\","
        "\"architecture\":\"amd64\"}}]}",
        arm.manifest_digest, arm.manifest.length, amd.manifest_digest, amd.manifest.length);
    shelf_manifest(&shelf, "web", "1", &index, OCI "index.v1+json");
    tar_digest(&index, digest);
    registry_start(&r, shelf_answer, &shelf);
    world_pull(w, ref_of(&r, "web:1"), "linux/amd64", NULL, &o);
    assert_well(&o);
    assert_string_equal(o.id, amd.id);
    /* The name's digest is the index's; the image's own manifest is remembered too. */
    snprintf(name, sizeof(name), "%s/web@%s", r.host, digest);
    assert_found(w, name, amd.id);
    assert_string_equal(world_found(w, amd.id)->manifest_digest, amd.manifest_digest);
    outcome_fini(&o);
    world_pull(w, ref_of(&r, "web:1"), "linux/arm64", NULL, &o);
    assert_well(&o);
    assert_string_equal(o.id, arm.id);
    assert_found(w, ref_of(&r, "web:1"), arm.id);
    outcome_fini(&o);
    world_pull(w, ref_of(&r, "web:1"), "linux/s390x", NULL, &o);
    assert_int_equal(o.error.code, ERR_NOT_FOUND);
    assert_string_equal(o.error.text, "no matching manifest for linux/s390x in the manifest list entries");
    assert_int_equal(o.lines.length, 0); /* so the API can still answer with a status */
    outcome_fini(&o);
    world_pull(w, ref_of(&r, "web:arm"), "linux/amd64", NULL, &o);
    assert_int_equal(o.error.code, ERR_NOT_FOUND);
    assert_non_null(
        strstr(o.error.text, "does not match the specified platform: wanted linux/amd64, actual: linux/arm64"));
    outcome_fini(&o);
    registry_stop(&r);
    buf_fini(&index);
    made_fini(&amd);
    made_fini(&arm);
}

/* --- refusals ------------------------------------------------------------------------------------ */

static void denies(struct exchange *x, void *ctx)
{
    answer_text(x, *(int *)ctx, "WWW-Authenticate: Basic realm=\"x\"\r\n",
                "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"requested access to the resource is denied\"}]}");
}

static void refusals_have_dockers_words(void **state)
{
    struct world *w = *state;
    static int statuses_of[] = {401, 403};
    struct shelf empty = {0};
    struct registry r;
    struct outcome o;
    char expected[300];

    registry_start(&r, shelf_answer, &empty);
    world_pull(w, ref_of(&r, "web:1"), NULL, NULL, &o);
    snprintf(expected, sizeof(expected), "manifest for %s not found: manifest unknown: manifest unknown",
             ref_of(&r, "web:1"));
    assert_string_equal(o.error.text, expected);
    assert_int_equal(o.error.code, ERR_NOT_FOUND);
    outcome_fini(&o);
    registry_stop(&r);
    for (size_t i = 0; i < ARRAY_SIZE(statuses_of); i++) {
        registry_start(&r, denies, &statuses_of[i]);
        world_pull(w, ref_of(&r, "web:1"), NULL, NULL, &o);
        snprintf(
            expected, sizeof(expected),
            "pull access denied for %s/web, repository does not exist or may require 'docker login': ", r.host);
        if (strncmp(o.error.text, expected, strlen(expected)) != 0)
            fail_msg("%s", o.error.text);
        outcome_fini(&o);
        registry_stop(&r);
    }
    world_pull(w, "127.0.0.1:1/web:1", NULL, NULL, &o);
    assert_int_equal(o.error.code, ERR_UNAVAILABLE);
    outcome_fini(&o);
    world_pull(w, "Bad", NULL, NULL, &o);
    assert_int_equal(o.error.code, ERR_INVALID);
    outcome_fini(&o);
    world_pull(w, "web", "linux/", NULL, &o);
    assert_int_equal(o.error.code, ERR_INVALID);
    outcome_fini(&o);
    world_pull(w, "web", NULL, "?", &o);
    assert_int_equal(o.error.code, ERR_INVALID);
    assert_non_null(strstr(o.error.text, "X-Registry-Auth"));
    outcome_fini(&o);
    world_settle(w);
    assert_string_equal(world_disk(w), NOTHING);
}

/* Each changes a good image on the shelf into one that must be refused. */
struct spoiled {
    struct made made;
    struct shelf shelf;
    struct buf manifest, other;
};

static void use_manifest(struct spoiled *s, const char *type)
{
    s->shelf.manifest_count = 0;
    shelf_manifest(&s->shelf, "web", "1", &s->manifest, type);
}

static void copy_manifest(struct spoiled *s)
{
    buf_append(&s->manifest, buf_bytes(&s->made.manifest), s->made.manifest.length);
}

static void replace(struct buf *b, const char *from, const char *to)
{
    struct buf out = {0};
    char *at = strstr(buf_str(b), from);

    assert_non_null(at);
    buf_printf(&out, "%.*s%s%s", (int)(at - buf_str(b)), buf_str(b), to, at + strlen(from));
    buf_fini(b);
    *b = out;
}

static void is_schema1(struct spoiled *s)
{
    buf_append_str(&s->manifest, "{\"schemaVersion\":1,\"fsLayers\":[]}");
    use_manifest(s, "application/vnd.docker.distribution.manifest.v1+prettyjws");
}

static void is_no_image(struct spoiled *s)
{
    copy_manifest(s);
    replace(&s->manifest, OCI "config.v1+json", "application/vnd.cncf.helm.config.v1+json");
    use_manifest(s, OCI "manifest.v1+json");
}

static void is_encrypted(struct spoiled *s)
{
    copy_manifest(s);
    replace(&s->manifest, OCI "layer.v1.tar", OCI "layer.v1.tar+encrypted");
    use_manifest(s, OCI "manifest.v1+json");
}

static void is_garbage(struct spoiled *s)
{
    buf_append_str(&s->manifest, "<html>");
    use_manifest(s, OCI "manifest.v1+json");
}

static void has_layers_too_few(struct spoiled *s)
{
    char from[72 + 80];

    copy_manifest(s);
    snprintf(from, sizeof(from), ",{\"mediaType\":\"" OCI "layer.v1.tar\",\"digest\":\"%s\"", s->made.digests[1]);
    char *at = strstr(buf_str(&s->manifest), from);
    assert_non_null(at);
    s->manifest.length = (size_t)(at - buf_str(&s->manifest));
    buf_append_str(&s->manifest, "]}");
    use_manifest(s, OCI "manifest.v1+json");
}

static void has_layers_swapped(struct spoiled *s)
{
    copy_manifest(s);
    replace(&s->manifest, s->made.digests[0], "FIRST");
    replace(&s->manifest, s->made.digests[1], s->made.digests[0]);
    replace(&s->manifest, "FIRST", s->made.digests[1]);
    use_manifest(s, OCI "manifest.v1+json");
}

static void has_a_layer_that_is_too_small(struct spoiled *s)
{
    char from[32], to[32];

    copy_manifest(s);
    snprintf(from, sizeof(from), "\"size\":%zu}]", s->made.layers[1].length);
    snprintf(to, sizeof(to), "\"size\":%zu}]", s->made.layers[1].length + 1);
    replace(&s->manifest, from, to);
    use_manifest(s, OCI "manifest.v1+json");
}

static void has_a_layer_of_an_exbibyte(struct spoiled *s)
{
    char from[32];

    copy_manifest(s);
    snprintf(from, sizeof(from), "\"size\":%zu}]", s->made.layers[1].length);
    replace(&s->manifest, from, "\"size\":1152921504606846976}]");
    use_manifest(s, OCI "manifest.v1+json");
}

static void lacks_a_layer(struct spoiled *s)
{
    s->shelf.blobs[1].digest[10] ^= 1;
}

static void lacks_the_config(struct spoiled *s)
{
    s->shelf.blobs[2].digest[10] ^= 1;
}

static void has_another_layer(struct spoiled *s)
{
    s->shelf.blobs[1].bytes = s->shelf.blobs[0].bytes;
}

static void has_another_config(struct spoiled *s)
{
    buf_append(&s->other, buf_bytes(&s->made.config), s->made.config.length);
    buf_bytes(&s->other)[20] ^= 1;
    s->shelf.blobs[2].bytes = &s->other;
}

static void has_another_manifest_than_its_digest(struct spoiled *s)
{
    copy_manifest(s);
    buf_append_char(&s->manifest, '\n');
    s->shelf.manifests[1].bytes = &s->manifest;
}

static void leads_out(struct spoiled *s)
{
    struct buf tar = {0};

    made_fini(&s->made);
    s->made = (struct made){0};
    s->shelf = (struct shelf){0};
    TAR(&tar, .name = "../evil", .data = "x");
    tar_close(&tar);
    made_layer(&s->made, "good", "good", NULL);
    made_layer_tar(&s->made, &tar, "gzip");
    made_finish(&s->made, NULL, NULL);
    shelf_image(&s->shelf, &s->made, "web", "1");
    buf_fini(&tar);
}

static void is_for_windows(struct spoiled *s)
{
    made_fini(&s->made);
    s->made = (struct made){0};
    s->shelf = (struct shelf){0};
    made_layer(&s->made, "a", "a", NULL);
    made_finish(&s->made, "amd64", NULL);
    replace(&s->made.config, "\"linux\"", "\"plan9\"");
    tar_digest(&s->made.config, s->made.id);
    buf_fini(&s->made.manifest);
    buf_printf(&s->made.manifest,
               "{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\",\"size\":%zu},\"layers\":[{\"digest\":\"%s\","
               "\"size\":%zu}]}",
               s->made.id, s->made.config.length, s->made.digests[0], s->made.layers[0].length);
    shelf_image(&s->shelf, &s->made, "web", "1");
}

static const struct {
    const char *name;
    void (*spoil)(struct spoiled *s);
    const char *refused;
    bool by_digest;
} spoiled_rows[] = {
    {"is schema 1", is_schema1, "manifest schema 1, which is no longer supported", false},
    {"is no image", is_no_image, "no container image: its config is of type \"application/vnd.cncf.helm", false},
    {"is encrypted", is_encrypted, "layer.v1.tar+encrypted\", which is not supported", false},
    {"is garbage", is_garbage, "invalid manifest: invalid JSON", false},
    {"has layers too few", has_layers_too_few, "the manifest has 1 layers where the image's config has 2", false},
    {"has layers swapped", has_layers_swapped, "where the image's config says sha256:", false},
    {"has a layer that is too small", has_a_layer_that_is_too_small, "the blob ended after", false},
    {"has a layer of an exbibyte", has_a_layer_of_an_exbibyte, "layers[1].size 1152921504606846976 is more than",
     false},
    {"lacks a layer", lacks_a_layer, "manifest unknown", false},
    {"lacks the config", lacks_the_config, "manifest unknown", false},
    {"has another layer", has_another_layer, "the blob", false},
    {"has another config", has_another_config, "the blob that came has digest", false},
    {"has another manifest", has_another_manifest_than_its_digest, "the manifest that came has digest", true},
    {"leads out", leads_out, "failed to register layer sha256:", false},
    {"is for another system", is_for_windows, "operating system \"plan9\" cannot be used", false},
};

static void spoiled_images_are_refused_and_leave_nothing(void **state)
{
    struct world *w = *state;
    unsigned bad = 0;

    for (size_t i = 0; i < ARRAY_SIZE(spoiled_rows); i++) {
        struct spoiled s = {0};
        struct registry r;
        struct outcome o;
        char name[100] = "web:1";

        made_layer(&s.made, "a", "aa", NULL);
        made_layer(&s.made, "b", "bbbb", NULL);
        made_finish(&s.made, NULL, NULL);
        shelf_image(&s.shelf, &s.made, "web", "1");
        if (spoiled_rows[i].by_digest)
            snprintf(name, sizeof(name), "web@%s", s.made.manifest_digest);
        spoiled_rows[i].spoil(&s);
        registry_start(&r, shelf_answer, &s.shelf);
        world_pull(w, ref_of(&r, name), NULL, NULL, &o);
        world_settle(w);
        if (!o.error.code || !strstr(o.error.text, spoiled_rows[i].refused) ||
            strcmp(world_disk(w), NOTHING) != 0 || images_count(w->images) != 0) {
            print_error("%s: \"%s\" without \"%s\"; %s\n", spoiled_rows[i].name, o.error.text,
                        spoiled_rows[i].refused, world_disk(w));
            bad++;
        }
        outcome_fini(&o);
        registry_stop(&r);
        made_fini(&s.made);
        buf_fini(&s.manifest);
        buf_fini(&s.other);
    }
    assert_int_equal(bad, 0);
}

/* --- several at once ----------------------------------------------------------------------------- */

/* A layer of a megabyte that no compression helps. */
static void big_layer(struct made *m, uint64_t seed)
{
    struct buf tar = {0};
    struct entropy_seeded random;
    char *data = mem_alloc(1 << 20);

    entropy_seeded_init(&random, seed);
    entropy_fill(&random.base, data, 1 << 20);
    TAR(&tar, .name = "big", .data = data, .size = 1 << 20);
    tar_close(&tar);
    made_layer_tar(m, &tar, NULL);
    buf_fini(&tar);
    free(data);
}

static void pulls_of_one_name_are_joined(void **state)
{
    struct world *w = *state;
    struct made one = {0};
    struct shelf shelf = {.slow_us = 5000};
    struct registry r;
    struct outcome o[3];

    big_layer(&one, 1);
    made_finish(&one, NULL, NULL);
    shelf_image(&shelf, &one, "web", "1");
    registry_start(&r, shelf_answer, &shelf);
    world_pull_start(w, ref_of(&r, "web:1"), NULL, NULL, &o[0]);
    world_pull_start(w, ref_of(&r, "web:1"), NULL, NULL, &o[1]);
    while (!strstr(buf_str(&o[0].lines), "Downloading") && !o[0].done)
        uv_run(&w->loop, UV_RUN_ONCE);
    world_pull_start(w, ref_of(&r, "web:1"), NULL, NULL, &o[2]);
    assert_int_equal(o[2].lines.length, 0);
    image_job_cancel(o[0].job); /* the first one leaves: the others go on */
    for (int i = 0; i < 3; i++)
        world_wait(w, &o[i].done);
    assert_int_equal(o[0].error.code, ERR_CANCELED);
    for (int i = 1; i < 3; i++) {
        assert_well(&o[i]);
        assert_string_equal(o[i].id, one.id);
        assert_begins(buf_str(&o[i].lines), "{\"status\":\"Pulling from web\",\"id\":\"1\"}\n");
        assert_non_null(strstr(statuses(&o[i], one.digests[0]), "Pull complete"));
    }
    assert_int_equal(registry_asked(&r, "/manifests/"), 1);
    assert_int_equal(registry_asked(&r, one.digests[0]), 1);
    for (int i = 0; i < 3; i++)
        outcome_fini(&o[i]);
    registry_stop(&r);
    made_fini(&one);
}

static void canceled_pull_leaves_nothing(void **state)
{
    struct world *w = *state;
    static const char *const when[] = {
        "", "Pulling from", "Pulling fs layer", "Downloading", "Download complete", "Extracting"};
    struct made one = {0};
    struct shelf shelf = {.slow_us = 1000};
    struct registry r;

    big_layer(&one, 1);
    made_layer(&one, "b", "b", "gzip");
    made_finish(&one, NULL, NULL);
    shelf_image(&shelf, &one, "web", "1");
    registry_start(&r, shelf_answer, &shelf);
    for (size_t i = 0; i < ARRAY_SIZE(when); i++) {
        struct outcome o;

        world_pull_start(w, ref_of(&r, "web:1"), NULL, NULL, &o);
        o.cancel_at = *when[i] ? when[i] : NULL;
        if (!*when[i])
            image_job_cancel(o.job);
        assert_false(o.done);
        world_wait(w, &o.done);
        world_settle(w);
        if (o.error.code) { /* the last one may come too late, then the image is there */
            assert_int_equal(o.error.code, ERR_CANCELED);
            assert_string_equal(world_disk(w), NOTHING);
        } else {
            assert_string_equal(when[i], "Extracting");
        }
        outcome_fini(&o);
    }
    registry_stop(&r);
    made_fini(&one);
}

static void layer_that_two_pulls_want_is_fetched_once(void **state)
{
    struct world *w = *state;
    struct made one = {0}, two = {0};
    struct shelf shelf = {.slow_us = 3000};
    struct registry r;
    struct outcome o[2];

    big_layer(&one, 1);
    made_finish(&one, NULL, NULL);
    big_layer(&two, 1);
    made_layer(&two, "b", "b", NULL);
    made_finish(&two, NULL, NULL);
    shelf_image(&shelf, &one, "one", "1");
    shelf_image(&shelf, &two, "two", "1");
    registry_start(&r, shelf_answer, &shelf);
    for (int leave = 0; leave < 2; leave++) {
        struct buf removed = {0};
        unsigned before = registry_asked(&r, one.digests[0]);

        world_pull_start(w, ref_of(&r, "one:1"), NULL, NULL, &o[0]);
        while (!strstr(buf_str(&o[0].lines), "Downloading") && !o[0].done)
            uv_run(&w->loop, UV_RUN_ONCE);
        world_pull_start(w, ref_of(&r, "two:1"), NULL, NULL, &o[1]);
        while (!strstr(buf_str(&o[1].lines), "Waiting") && !o[1].done)
            uv_run(&w->loop, UV_RUN_ONCE);
        if (leave)
            image_job_cancel(o[0].job); /* the second one takes over */
        for (int i = 0; i < 2; i++)
            world_wait(w, &o[i].done);
        assert_int_equal(o[0].error.code, leave ? ERR_CANCELED : 0);
        assert_well(&o[1]);
        assert_int_equal(registry_asked(&r, one.digests[0]) - before, leave ? 2 : 1);
        assert_int_equal(image_prune(w->images, false, &removed, NULL), 0);
        world_settle(w);
        assert_string_equal(world_disk(w), NOTHING);
        buf_fini(&removed);
        outcome_fini(&o[0]);
        outcome_fini(&o[1]);
    }
    registry_stop(&r);
    made_fini(&one);
    made_fini(&two);
}

static void bad_blob_for_a_layer_does_not_harm_a_good_one(void **state)
{
    struct world *w = *state;
    struct made good = {0}, evil = {0};
    struct shelf shelf = {.slow_us = 1000};
    struct registry r;
    struct outcome o[2];
    struct buf other = {0};

    /* The evil image's config claims the good one's layer, and brings another blob for it. */
    big_layer(&good, 1);
    made_finish(&good, NULL, NULL);
    big_layer(&evil, 2);
    snprintf(evil.diff_ids[0], sizeof(evil.diff_ids[0]), "%s", good.diff_ids[0]);
    made_finish(&evil, NULL, "\"author\":\"evil\",");
    shelf_image(&shelf, &evil, "evil", "1");
    shelf_image(&shelf, &good, "good", "1");
    registry_start(&r, shelf_answer, &shelf);
    world_pull_start(w, ref_of(&r, "evil:1"), NULL, NULL, &o[0]);
    while (!strstr(buf_str(&o[0].lines), "Downloading") && !o[0].done)
        uv_run(&w->loop, UV_RUN_ONCE);
    world_pull_start(w, ref_of(&r, "good:1"), NULL, NULL, &o[1]);
    for (int i = 0; i < 2; i++)
        world_wait(w, &o[i].done);
    assert_int_equal(o[0].error.code, ERR_CORRUPT);
    assert_well(&o[1]);
    assert_layers(w, good.id, 1, ". dir 0755 0:0\nbig file 0644 0:0 1048576\n");
    assert_absent(w, evil.id, ERR_NOT_FOUND, "No such image");
    outcome_fini(&o[0]);
    outcome_fini(&o[1]);
    buf_fini(&other);
    registry_stop(&r);
    made_fini(&good);
    made_fini(&evil);
}

/* --- accidents ----------------------------------------------------------------------------------- */

/* Many small files, so that unpacking takes a while. */
static void long_layer(struct made *m)
{
    struct buf tar = {0};
    char name[32];

    for (int i = 0; i < 4000; i++) {
        snprintf(name, sizeof(name), "d%d/f%d", i % 100, i);
        TAR(&tar, .name = name, .data = "x");
    }
    tar_close(&tar);
    made_layer_tar(m, &tar, "gzip");
    buf_fini(&tar);
}

static void killed_helper_fails_the_pull_and_the_next_one_succeeds(void **state)
{
    struct world *w = *state;
    struct made one = {0};
    struct shelf shelf = {.slow_us = 2000};
    struct registry r;
    static const char *const when[] = {"Pulling fs layer", "Download complete"};

    long_layer(&one);
    made_finish(&one, NULL, NULL);
    shelf_image(&shelf, &one, "web", "1");
    registry_start(&r, shelf_answer, &shelf);
    for (size_t i = 0; i < ARRAY_SIZE(when); i++) {
        struct outcome o;

        world_pull_start(w, ref_of(&r, "web:1"), NULL, NULL, &o);
        while (!strstr(buf_str(&o.lines), when[i]) && !o.done)
            uv_run(&w->loop, UV_RUN_ONCE);
        int pid;
        while ((pid = job_running()) && !o.done) { /* fetching, then maybe fetching and unpacking */
            kill(pid, SIGKILL);
            uv_run(&w->loop, UV_RUN_NOWAIT);
        }
        world_wait(w, &o.done);
        if (!strstr(o.error.text, "killed by signal 9"))
            fail_msg("%s: \"%s\"", when[i], o.error.text);
        outcome_fini(&o);
        world_settle(w);
        world_reopen(w); /* the remover may have been killed as well */
        assert_string_equal(world_disk(w), NOTHING);
    }
    struct outcome o;
    world_pull(w, ref_of(&r, "web:1"), NULL, NULL, &o);
    assert_well(&o);
    outcome_fini(&o);
    registry_stop(&r);
    made_fini(&one);
}

/* Another process with the same store, which is killed in the middle of a pull. */
static void pull_and_be_killed(struct world *w, const char *ref, const char *until)
{
    int told[2];
    char c;

    assert_int_equal(pipe(told), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct outcome o;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        uv_loop_fork(&w->loop);
        world_open(w);
        world_pull_start(w, ref, NULL, NULL, &o);
        while (!strstr(buf_str(&o.lines), until) && !o.done)
            uv_run(&w->loop, UV_RUN_ONCE);
        if (write(told[1], o.done ? "d" : "x", 1) != 1)
            _exit(1);
        for (;;)
            uv_run(&w->loop, UV_RUN_ONCE);
    }
    close(told[1]);
    assert_int_equal(read(told[0], &c, 1), 1);
    int job = job_of(pid);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(told[0]);
    assert_int_equal(c, 'x');
    for (int i = 0; job && process_runs(job) && i < 1000; i++)
        uv_sleep(10);
    assert_false(job && process_runs(job)); /* the helper died with it */
}

static void killed_engine_leaves_nothing_half_and_the_next_pull_succeeds(void **state)
{
    struct world *w = *state;
    struct made one = {0};
    struct shelf shelf = {.slow_us = 3000};
    struct registry r;
    struct outcome o;
    static const char *const when[] = {"Pulling from", "Downloading", "Download complete", "Pull complete"};

    big_layer(&one, 1);
    long_layer(&one);
    made_finish(&one, NULL, NULL);
    shelf_image(&shelf, &one, "web", "1");
    registry_start(&r, shelf_answer, &shelf);
    const char *ref = ref_of(&r, "web:1");
    for (size_t i = 0; i < ARRAY_SIZE(when); i++) {
        world_close(w);
        pull_and_be_killed(w, ref, when[i]);
        world_open(w);
        images_holds_done(w->images);
        assert_int_equal(images_count(w->images), 0);
        world_settle(w);
        assert_string_equal(world_disk(w), NOTHING);
    }
    world_pull(w, ref, NULL, NULL, &o);
    assert_well(&o);
    assert_found(w, ref, one.id);
    outcome_fini(&o);
    registry_stop(&r);
    made_fini(&one);
}

static void full_disk_fails_the_pull_and_is_survived(void **state)
{
    struct world *w = *state;
    struct made big = {0}, small = {0};
    struct shelf shelf = {0};
    struct registry r;
    struct outcome o;

    world_close(w);
    if (mount("shoal-test", w->dir, "tmpfs", 0, "size=3m,mode=0700") < 0) {
        print_message("no tmpfs can be mounted here: not tested\n");
        return;
    }
    world_open(w);
    images_holds_done(w->images);
    for (uint64_t i = 0; i < 3; i++)
        big_layer(&big, i);
    made_finish(&big, NULL, NULL);
    made_layer(&small, "a", "a", NULL);
    made_finish(&small, NULL, NULL);
    shelf_image(&shelf, &big, "big", "1");
    shelf_image(&shelf, &small, "small", "1");
    registry_start(&r, shelf_answer, &shelf);
    world_pull(w, ref_of(&r, "big:1"), NULL, NULL, &o);
    if (!strstr(o.error.text, "No space left on device"))
        fail_msg("\"%s\"", o.error.text);
    outcome_fini(&o);
    world_settle(w);
    assert_string_equal(world_disk(w), NOTHING);
    assert_int_equal(images_count(w->images), 0);
    world_pull(w, ref_of(&r, "small:1"), NULL, NULL, &o);
    assert_well(&o);
    assert_found(w, ref_of(&r, "small:1"), small.id);
    outcome_fini(&o);
    world_close(w);
    registry_stop(&r);
    assert_int_equal(umount2(w->dir, MNT_DETACH), 0);
    made_fini(&big);
    made_fini(&small);
}

/* --- resolve ------------------------------------------------------------------------------------- */

struct resolved {
    bool done;
    struct err error;
    char digest[80], media_type[80], platforms[200];
    int64_t size;
};

static void on_resolved(void *ctx, const struct err *e, const struct image_manifest_info *info)
{
    struct resolved *r = ctx;
    size_t length = 0;

    r->done = true;
    r->error = *e;
    if (!info)
        return;
    snprintf(r->digest, sizeof(r->digest), "%s", info->digest);
    snprintf(r->media_type, sizeof(r->media_type), "%s", info->media_type);
    r->size = info->size;
    for (size_t i = 0; i < info->platform_count; i++)
        length += (size_t)snprintf(r->platforms + length, sizeof(r->platforms) - length, "%s/%s ",
                                   info->platforms[i]->os, info->platforms[i]->architecture);
}

static void resolve(struct world *w, const char *ref, struct resolved *r)
{
    *r = (struct resolved){0};
    assert_int_equal(image_resolve(w->images, ref, NULL, on_resolved, r, NULL), 0);
    assert_false(r->done);
    world_wait(w, &r->done);
}

static void names_are_resolved_to_digest_and_platforms(void **state)
{
    struct world *w = *state;
    struct made one = {0};
    struct shelf shelf = {0};
    struct buf index = {0};
    struct registry r;
    struct resolved found;
    char digest[72];

    made_layer(&one, "a", "a", NULL);
    made_finish(&one, "arm64", NULL);
    shelf_image(&shelf, &one, "web", "1");
    buf_printf(&index,
               "{\"schemaVersion\":2,\"mediaType\":\"" OCI "index.v1+json\",\"manifests\":["
               "{\"digest\":\"%s\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}},"
               "{\"digest\":\"%s\",\"size\":1,\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}},"
               "{\"digest\":\"%s\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}",
               one.manifest_digest, one.manifest_digest, one.manifest_digest);
    shelf_manifest(&shelf, "web", "2", &index, OCI "index.v1+json");
    tar_digest(&index, digest);
    registry_start(&r, shelf_answer, &shelf);
    resolve(w, ref_of(&r, "web:1"), &found);
    assert_string_equal(found.error.text, "");
    assert_string_equal(found.digest, one.manifest_digest);
    assert_string_equal(found.media_type, OCI "manifest.v1+json");
    assert_int_equal(found.size, one.manifest.length);
    assert_string_equal(found.platforms, "linux/arm64 ");
    resolve(w, ref_of(&r, "web:2"), &found);
    assert_string_equal(found.digest, digest);
    assert_string_equal(found.platforms, "linux/arm64 linux/amd64 ");
    resolve(w, ref_of(&r, "web:3"), &found);
    assert_int_equal(found.error.code, ERR_NOT_FOUND);
    assert_non_null(strstr(found.error.text, "manifest unknown"));
    assert_int_equal(image_resolve(w->images, "Bad", NULL, on_resolved, &found, NULL), ERR_INVALID);
    /* Closing answers what is asked. */
    found = (struct resolved){0};
    assert_int_equal(image_resolve(w->images, ref_of(&r, "web:1"), NULL, on_resolved, &found, NULL), 0);
    world_close(w);
    assert_true(found.done);
    assert_int_equal(found.error.code, ERR_CANCELED);
    world_open(w);
    world_settle(w);
    assert_string_equal(world_disk(w), NOTHING);
    registry_stop(&r);
    buf_fini(&index);
    made_fini(&one);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(image_is_pulled_with_dockers_progress),
        TEST(tag_that_moved_and_digests_are_pulled),
        TEST(platform_is_chosen_from_an_index),
        TEST(refusals_have_dockers_words),
        TEST(spoiled_images_are_refused_and_leave_nothing),
        TEST(pulls_of_one_name_are_joined),
        TEST(canceled_pull_leaves_nothing),
        TEST(layer_that_two_pulls_want_is_fetched_once),
        TEST(bad_blob_for_a_layer_does_not_harm_a_good_one),
        TEST(killed_helper_fails_the_pull_and_the_next_one_succeeds),
        TEST(killed_engine_leaves_nothing_half_and_the_next_pull_succeeds),
        TEST(full_disk_fails_the_pull_and_is_survived),
        TEST(names_are_resolved_to_digest_and_platforms),
    };

    if (getuid() != 0) {
        puts("skip pull_test: needs root, for the helpers to confine themselves");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
