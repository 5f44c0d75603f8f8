/* Manifests, indexes, platforms and docker save's manifest.json: what is understood, what is refused and why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/image/manifest.h"
#include "proto/base/buf.h"
#include "proto/base/mem.h"

#define A      "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B      "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C      "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define DOCKER "application/vnd.docker."
#define OCI    "application/vnd.oci.image."
#define CONFIG "\"config\":{\"mediaType\":\"" OCI "config.v1+json\",\"size\":100,\"digest\":\"" A "\"}"
#define LAYER  "{\"mediaType\":\"" OCI "layer.v1.tar+gzip\",\"size\":5,\"digest\":\"" B "\"}"

static void images_of_both_kinds_are_read(void **state)
{
    static const struct {
        const char *json, *type;
    } rows[] = {
        {"{\"schemaVersion\":2," CONFIG ",\"layers\":[" LAYER "]}", NULL},
        {"{\"schemaVersion\":2,\"mediaType\":\"" OCI "manifest.v1+json\"," CONFIG ",\"layers\":[" LAYER "]}",
         OCI "manifest.v1+json"},
        {"{\"schemaVersion\":2,\"mediaType\":\"" DOCKER "distribution.manifest.v2+json\"," CONFIG
         ",\"layers\":[" LAYER "],\"unknown\":{\"x\":[1]}}",
         DOCKER "distribution.manifest.v2+json"},
        {"{\"schemaVersion\":2," CONFIG ",\"layers\":[" LAYER "]}", "application/octet-stream"},
        {"{\"schemaVersion\":2," CONFIG ",\"layers\":[" LAYER "]}", "text/plain"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_ARENA
        struct arena a;
        struct manifest m;
        struct err e = {0};

        arena_init(&a);
        if (manifest_parse(rows[i].json, strlen(rows[i].json), rows[i].type, &a, &m, &e) < 0)
            fail_msg("row %zu: %s", i, e.text);
        assert_int_equal(m.kind, MANIFEST_IMAGE);
        assert_string_equal(m.config.digest, A);
        assert_int_equal(m.config.size, 100);
        assert_int_equal(m.count, 1);
        assert_string_equal(m.entries[0].digest, B);
        assert_int_equal(m.entries[0].size, 5);
    }
}

#define FILL "{\"schemaVersion\":2,"

static void bad_manifests_are_refused_with_the_reason(void **state)
{
    static const struct {
        const char *json, *type, *why;
        int code;
    } rows[] = {
        {"", NULL, "invalid JSON", ERR_INVALID},
        {"[]", NULL, "no JSON object", ERR_INVALID},
        {"{}", NULL, "it has none of manifests and layers", ERR_INVALID},
        {"{\"schemaVersion\":2", NULL, "invalid JSON", ERR_INVALID},
        {"{\"schemaVersion\":\"2\"}", NULL, "schemaVersion", ERR_INVALID},
        {"{\"schemaVersion\":3," CONFIG "}", NULL, "schemaVersion 3", ERR_UNSUPPORTED},
        {"{\"schemaVersion\":1,\"fsLayers\":[]}", NULL, "schema 1", ERR_UNSUPPORTED},
        {"anything", DOCKER "distribution.manifest.v1+prettyjws", "schema 1", ERR_UNSUPPORTED},
        {"anything", DOCKER "distribution.manifest.v1+json", "schema 1", ERR_UNSUPPORTED},
        {FILL "\"layers\":[]}", NULL, "config is no object", ERR_INVALID},
        {FILL "\"config\":7,\"layers\":[]}", NULL, "config is no object", ERR_INVALID},
        {FILL CONFIG ",\"layers\":7}", NULL, "layers", ERR_INVALID},
        {FILL CONFIG ",\"layers\":[7]}", NULL, "layers[0] is no object", ERR_INVALID},
        {FILL CONFIG ",\"layers\":[{\"size\":1}]}", NULL, "layers[0].digest \"\"", ERR_INVALID},
        {FILL CONFIG ",\"layers\":[{\"size\":1,\"digest\":\"md5:1\"}]}", NULL, "layers[0].digest \"md5:1\"",
         ERR_INVALID},
        {FILL CONFIG ",\"layers\":[{\"size\":1,\"digest\":\"../../../etc/passwd\"}]}", NULL, "layers[0].digest",
         ERR_INVALID},
        {FILL CONFIG ",\"layers\":[{\"size\":-1,\"digest\":\"" B "\"}]}", NULL, "layers[0].size", ERR_INVALID},
        {FILL CONFIG ",\"layers\":[{\"digest\":\"" B "\"}]}", NULL, "layers[0].size", ERR_INVALID},
        {FILL CONFIG ",\"layers\":[{\"size\":1.5,\"digest\":\"" B "\"}]}", NULL, "size", ERR_INVALID},
        {FILL CONFIG ",\"layers\":[{\"size\":99999999999999999999,\"digest\":\"" B "\"}]}", NULL, "invalid JSON",
         ERR_INVALID},
        {FILL CONFIG ",\"layers\":[{\"mediaType\":\"" OCI "layer.v1.tar+gzip+encrypted\",\"size\":1,\"digest\":\"" B
                     "\"}]}",
         NULL, "layers[0] is of type \"" OCI "layer.v1.tar+gzip+encrypted\"", ERR_UNSUPPORTED},
        {FILL "\"config\":{\"mediaType\":\"application/vnd.cncf.helm.config.v1+json\",\"size\":1,\"digest\":\"" A
              "\"},\"layers\":[]}",
         NULL, "no container image: its config is of type \"application/vnd.cncf.helm", ERR_UNSUPPORTED},
        {FILL "\"config\":{\"size\":99999999,\"digest\":\"" A "\"},\"layers\":[]}", NULL, "config.size", ERR_LIMIT},
        {FILL CONFIG ",\"layers\":[],\"manifests\":[]}", NULL, "both of manifests and layers", ERR_INVALID},
        {FILL "\"mediaType\":\"" OCI "index.v1+json\"," CONFIG ",\"layers\":[]}", NULL, "contradicts", ERR_INVALID},
        {FILL "\"mediaType\":\"" OCI "manifest.v1+json\",\"manifests\":[]}", NULL, "contradicts", ERR_INVALID},
        {FILL CONFIG ",\"layers\":[]}", OCI "index.v1+json", "contradicts", ERR_INVALID},
        {FILL "\"manifests\":[]}", OCI "manifest.v1+json", "contradicts", ERR_INVALID},
        {FILL CONFIG ",\"layers\":[],\"layers\":[" LAYER "]}", NULL, "invalid JSON", ERR_INVALID}, /* twice */
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_ARENA
        struct arena a;
        struct manifest m;
        struct err e = {0};

        arena_init(&a);
        int rc = manifest_parse(rows[i].json, strlen(rows[i].json), rows[i].type, &a, &m, &e);
        if (rc != rows[i].code || !strstr(e.text, rows[i].why))
            fail_msg("%s: code %d, \"%s\" without \"%s\"", rows[i].json, rc, e.text, rows[i].why);
    }
}

static void numbers_of_layers_and_bytes_are_bounded(void **state)
{
    AUTO_ARENA
    struct arena a;
    AUTO_BUF
    struct buf json = {0};
    struct manifest m;
    struct err e;

    arena_init(&a);
    buf_append_str(&json, FILL CONFIG ",\"layers\":[");
    for (int i = 0; i <= MANIFEST_LAYERS_MAX; i++)
        buf_printf(&json, "%s" LAYER, i ? "," : "");
    buf_append_str(&json, "]}");
    assert_int_equal(manifest_parse(buf_bytes(&json), json.length, NULL, &a, &m, &e), ERR_LIMIT);
    assert_non_null(strstr(e.text, "501 layers"));
    AUTO_FREE
    char *long_one = mem_alloc(MANIFEST_BYTES_MAX + 2);
    memset(long_one, ' ', MANIFEST_BYTES_MAX + 1);
    assert_int_equal(manifest_parse(long_one, MANIFEST_BYTES_MAX + 1, NULL, &a, &m, &e), ERR_LIMIT);
}

/* --- platforms ----------------------------------------------------------------------------------- */

#define ENTRY(digest, os, arch, variant)                                                                         \
    "{\"mediaType\":\"" OCI "manifest.v1+json\",\"size\":1,\"digest\":\"" digest "\",\"platform\":{\"os\":\"" os \
    "\",\"architecture\":\"" arch "\",\"variant\":\"" variant "\"}}"

static const char *choose(const char *entries, const char *want)
{
    static char digest[80];
    AUTO_ARENA
    struct arena a;
    struct manifest m;
    struct platform p, host = platform_of_machine("x86_64");
    struct err e = {0};

    arena_init(&a);
    char *json = arena_printf(&a, FILL "\"manifests\":[%s]}", entries);
    if (manifest_parse(json, strlen(json), NULL, &a, &m, &e) < 0 || platform_parse(want, &host, &a, &p, &e) < 0)
        fail_msg("%s", e.text);
    const struct descriptor *d = manifest_choose(&m, &p);
    snprintf(digest, sizeof(digest), "%s", d ? d->digest : "none");
    return digest;
}

static void best_manifest_of_an_index_is_chosen(void **state)
{
    static const char all[] =
        ENTRY(A, "linux", "amd64", "") "," ENTRY(B, "linux", "arm64", "v8") "," ENTRY(C, "linux", "arm", "v7");

    assert_string_equal(choose(all, "linux/amd64"), A);
    assert_string_equal(choose(all, "linux/x86_64"), A);
    assert_string_equal(choose(all, "linux"), A);
    assert_string_equal(choose(all, "linux/arm64"), B);
    assert_string_equal(choose(all, "linux/arm64/v8"), B);
    assert_string_equal(choose(all, "aarch64"), B);
    assert_string_equal(choose(all, "linux/arm/v7"), C);
    assert_string_equal(choose(all, "linux/arm"), C);
    assert_string_equal(choose(all, "linux/arm/v8"), C);
    assert_string_equal(choose(all, "linux/arm/v6"), "none");
    assert_string_equal(choose(all, "linux/s390x"), "none");
    assert_string_equal(choose(all, "windows/amd64"), "none");
    assert_string_equal(choose("", "linux/amd64"), "none");
}

static void variants_are_steps(void **state)
{
    static const char arms[] = ENTRY(A, "linux", "arm", "v5") "," ENTRY(B, "linux", "arm", "v6");
    static const char amds[] = ENTRY(A, "linux", "amd64", "v3") "," ENTRY(B, "linux", "amd64", "v1");

    assert_string_equal(choose(arms, "linux/arm/v7"), B);
    assert_string_equal(choose(arms, "linux/arm/v5"), A);
    assert_string_equal(choose(amds, "linux/amd64"), B); /* nobody said that this processor does v3 */
    assert_string_equal(choose(amds, "linux/amd64/v3"), A);
    assert_string_equal(choose(amds, "linux/amd64/v2"), B);
}

static void entries_that_are_no_images_are_passed_over(void **state)
{
    assert_string_equal(
        choose(ENTRY(A, "unknown", "unknown", "") "," ENTRY(B, "linux", "amd64", ""), "linux/amd64"), B);
    assert_string_equal(
        choose("{\"mediaType\":\"application/vnd.sig\",\"size\":1,\"digest\":\"" A
               "\",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}," ENTRY(B, "linux", "amd64", ""),
               "linux/amd64"),
        B);
    /* One without a platform is taken when there is nothing better. */
    assert_string_equal(choose("{\"size\":1,\"digest\":\"" C "\"}," ENTRY(B, "linux", "arm64", ""), "linux/amd64"),
                        C);
    assert_string_equal(choose("{\"size\":1,\"digest\":\"" C "\"}," ENTRY(B, "linux", "amd64", ""), "linux/amd64"),
                        B);
}

static void platforms_are_parsed_and_shown(void **state)
{
    static const struct {
        const char *text, *shown; /* NULL: refused */
    } rows[] = {
        {"linux/amd64", "linux/amd64"},
        {"linux/amd64/v1", "linux/amd64"},
        {"Linux/AMD64", "linux/amd64"},
        {"linux/arm64/v8", "linux/arm64"},
        {"linux/arm", "linux/arm/v7"},
        {"linux/armhf", "linux/arm/v7"},
        {"arm64", "linux/arm64"},
        {"linux", "linux/amd64"},
        {"windows", "windows/amd64"},
        {"linux/riscv64", "linux/riscv64"},
        {"", NULL},
        {"linux/", NULL},
        {"/amd64", NULL},
        {"a/b/c/d", NULL},
        {"linux/am d64", NULL},
        {"linux/amd64/", NULL},
        {"linux/../x", "linux/../x"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_ARENA
        struct arena a;
        struct platform p, host = platform_of_machine("x86_64");
        struct err e = {0};

        arena_init(&a);
        int rc = platform_parse(rows[i].text, &host, &a, &p, &e);
        if (rows[i].shown ? rc < 0 || strcmp(platform_format(&p, &a), rows[i].shown) != 0
                          : rc != ERR_INVALID || !strstr(e.text, "invalid platform"))
            fail_msg("\"%s\": %d %s %s", rows[i].text, rc, e.text, rc == 0 ? platform_format(&p, &a) : "");
    }
}

/* --- docker save --------------------------------------------------------------------------------- */

static void archives_are_read(void **state)
{
    static const char json[] =
        "[{\"Config\":\"c.json\",\"RepoTags\":[\"web:1\",\"web:2\"],\"Layers\":[\"a/layer.tar\"]},"
        "{\"Config\":\"d.json\",\"RepoTags\":null,\"Layers\":[],\"LayerSources\":{}}]";
    AUTO_ARENA
    struct arena a;
    struct archive_image *images;
    size_t count;

    arena_init(&a);
    assert_int_equal(archive_parse(json, strlen(json), &a, &images, &count, NULL), 0);
    assert_int_equal(count, 2);
    assert_string_equal(images[0].config, "c.json");
    assert_int_equal(images[0].tag_count, 2);
    assert_string_equal(images[0].tags[1], "web:2");
    assert_string_equal(images[0].layers[0], "a/layer.tar");
    assert_int_equal(images[1].tag_count, 0);
    assert_int_equal(images[1].layer_count, 0);
}

static void bad_archives_are_refused(void **state)
{
    static const struct {
        const char *json, *why;
    } rows[] = {
        {"{}", "no JSON array"},
        {"[7]", "[0] is no object"},
        {"[{}]", "[0] names no Config"},
        {"[{\"Config\":7}]", "Config"},
        {"[{\"Config\":\"c\",\"Layers\":\"x\"}]", "Layers"},
        {"[{\"Config\":\"c\",\"Layers\":[7]}]", "Layers"},
        {"[{\"Config\":\"c\",\"RepoTags\":{}}]", "RepoTags"},
        {"[", "invalid JSON"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_ARENA
        struct arena a;
        struct archive_image *images;
        struct err e = {0};
        size_t count;

        arena_init(&a);
        if (archive_parse(rows[i].json, strlen(rows[i].json), &a, &images, &count, &e) >= 0 ||
            !strstr(e.text, rows[i].why) || strncmp(e.text, "manifest.json", 13) != 0)
            fail_msg("%s: \"%s\" without \"%s\"", rows[i].json, e.text, rows[i].why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_of_both_kinds_are_read),
        cmocka_unit_test(bad_manifests_are_refused_with_the_reason),
        cmocka_unit_test(numbers_of_layers_and_bytes_are_bounded),
        cmocka_unit_test(best_manifest_of_an_index_is_chosen),
        cmocka_unit_test(variants_are_steps),
        cmocka_unit_test(entries_that_are_no_images_are_passed_over),
        cmocka_unit_test(platforms_are_parsed_and_shown),
        cmocka_unit_test(archives_are_read),
        cmocka_unit_test(bad_archives_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
