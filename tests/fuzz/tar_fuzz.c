/* The layer reader (engine/job/layer.c and source.c) on arbitrary bytes: plain, compressed, or both. What it hands
 * to its sink must keep what layer.h promises. */
#include <assert.h>
#include <string.h>

#include "engine/job/layer.h"
#include "proto/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *data;
    size_t size, at;
};

struct seen {
    struct layer_entry entry;
    uint64_t file_end;
};

static ssize_t on_read(void *ctx, void *into, size_t size)
{
    struct input *in = ctx;
    size_t got = MIN(size, in->size - in->at);

    memcpy(into, in->data + in->at, got);
    in->at += got;
    return (ssize_t)got;
}

static void check_path(const char *path)
{
    assert(strlen(path) <= LAYER_PATH_MAX && *path != '/');
    for (const char *at = path; *at;) {
        size_t name = strcspn(at, "/");

        assert(name > 0 && name <= LAYER_NAME_MAX);
        assert(!(name == 1 && at[0] == '.') && !(name == 2 && at[0] == '.' && at[1] == '.'));
        at += name;
        assert(*at != '/' || at[1]);
        at += *at == '/';
    }
}

static int on_entry(void *ctx, const struct layer_entry *entry, struct err *e)
{
    struct seen *seen = ctx;

    check_path(entry->path);
    if (entry->kind == LAYER_HARDLINK)
        check_path(entry->link);
    if (entry->kind == LAYER_SYMLINK)
        assert(*entry->link && strlen(entry->link) <= LAYER_PATH_MAX);
    if (!*entry->path)
        assert(entry->kind == LAYER_DIRECTORY || entry->kind == LAYER_OPAQUE);
    assert((entry->mode & ~07777u) == 0 && entry->mtime_ns >= 0 && entry->mtime_ns < 1000000000);
    assert(entry->uid != (uid_t)-1 && entry->gid != (gid_t)-1);
    for (size_t i = 0; i < entry->xattr_count; i++)
        assert(strncmp(entry->xattrs[i].name, "user.", 5) == 0 ||
               strcmp(entry->xattrs[i].name, "security.capability") == 0);
    seen->entry = *entry;
    return 0;
}

static int on_data(void *ctx, uint64_t offset, const void *data, size_t size, struct err *e)
{
    struct seen *seen = ctx;
    unsigned sum = 0;

    assert(seen->entry.kind == LAYER_FILE && size > 0);
    assert(offset <= seen->entry.size && size <= seen->entry.size - offset);
    for (size_t i = 0; i < size; i++)
        sum += ((const uint8_t *)data)[i]; /* every byte can be read */
    seen->file_end += sum & 1;
    return 0;
}

static int on_end(void *ctx, struct err *e)
{
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct layer_limits limits = {.bytes_max = 1 << 22, .files_max = 1000, .depth_max = 32};
    struct input in = {data, size, 0};
    struct seen seen = {0};
    const struct layer_sink sink = {.ctx = &seen, .entry = on_entry, .data = on_data, .end = on_end};
    struct layer_totals totals = {0};
    char digest[DIGEST_TEXT + 1], diff_id[DIGEST_TEXT + 1];
    struct source *source = NULL;
    struct err e = {0};

    if (source_open(on_read, &in, 1 << 22, &source, &e) < 0) {
        assert(e.code < 0 && e.text[0]);
        return 0;
    }
    int rc = layer_read(source, &limits, &sink, &totals, &e);
    assert(rc <= 0 && (rc == 0 || (e.code == rc && e.text[0])));
    if (rc == 0) {
        assert(totals.files <= limits.files_max && totals.size_bytes <= limits.bytes_max);
        if (source_finish(source, digest, diff_id, &e) == 0)
            assert(digest_valid(digest) && digest_valid(diff_id) && source_position(source) == size);
    }
    source_close(source);
    return 0;
}
