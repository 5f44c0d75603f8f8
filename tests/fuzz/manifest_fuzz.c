/* Everything of an image that is JSON: manifests and indexes, configs, docker save's manifest.json, credentials.
 * The first byte chooses the reader. */
#include <assert.h>
#include <string.h>

#include "engine/image/auth.h"
#include "engine/image/config.h"
#include "engine/image/manifest.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int rc, const struct err *e)
{
    assert(rc == 0 ? e->code == 0 : e->code == rc && e->text[0] && !strchr(e->text, '\n'));
}

static void try_manifest(const char *json, size_t size, struct arena *a)
{
    struct manifest m;
    struct err e = {0};
    const struct platform want = platform_of_machine("x86_64");
    int rc = manifest_parse(json, size, NULL, a, &m, &e);

    check(rc, &e);
    if (rc < 0)
        return;
    assert(m.count <= (m.kind == MANIFEST_INDEX ? MANIFEST_ENTRIES_MAX : MANIFEST_LAYERS_MAX));
    for (size_t i = 0; i < m.count; i++)
        assert(digest_valid(m.entries[i].digest) && m.entries[i].size >= 0);
    if (m.kind == MANIFEST_IMAGE)
        assert(digest_valid(m.config.digest) && (size_t)m.config.size <= MANIFEST_BYTES_MAX);
    else
        (void)manifest_choose(&m, &want);
}

static void try_config(const char *json, size_t size, struct arena *a)
{
    ImageConfig *c, *again;
    struct err e = {0};
    AUTO_BUF
    struct buf written = {0};
    int rc = image_config_parse(json, size, a, &c, &e);

    check(rc, &e);
    if (rc < 0)
        return;
    for (size_t i = 0; i < c->n_diff_ids; i++)
        assert(digest_valid(c->diff_ids[i]));
    (void)protobuf_c_message_get_packed_size(&c->base);
    image_config_write(c, "fuzz", &written);
    if (written.length <= MANIFEST_BYTES_MAX)
        assert(image_config_parse(buf_bytes(&written), written.length, a, &again, &e) == 0);
}

static void try_changes(const char *text, size_t size, struct arena *a)
{
    ImageConfig c = IMAGE_CONFIG__INIT;
    const char *change = arena_strndup(a, text, size);
    struct err e = {0};

    check(image_config_change(&c, &change, 1, a, &e), &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_ARENA
    struct arena a;
    struct err e = {0};
    struct registry_auth auth;
    struct archive_image *images;
    struct platform p, host = platform_of_machine("aarch64");
    const char *text = (const char *)data + 1;
    size_t count;

    arena_init(&a);
    if (size == 0)
        return 0;
    switch (data[0] % 6) {
    case 0:
        try_manifest(text, size - 1, &a);
        break;
    case 1:
        try_config(text, size - 1, &a);
        break;
    case 2:
        check(archive_parse(text, size - 1, &a, &images, &count, &e), &e);
        break;
    case 3:
        check(registry_auth_parse(arena_strndup(&a, text, size - 1), &a, &auth, &e), &e);
        break;
    case 4:
        check(platform_parse(arena_strndup(&a, text, size - 1), &host, &a, &p, &e), &e);
        break;
    default:
        try_changes(text, size - 1, &a);
    }
    return 0;
}
