/* Blobs as streams (source.h), by libarchive's filters.
 *
 *     input -> hashed (digest) -> unpacked by one filter -> hashed (diff id) -> source_read
 *
 * Exactly one filter is put in place, by the first bytes. Letting libarchive guess would unpack what is packed
 * twice, and what is inside would then not be what the diff id names. A plain archive passes without libarchive.
 *
 * The end: a filter may stop before the input does (padding after the last gzip member); source_finish reads the
 * rest, so that the digest covers the whole blob. An input that ends too early is an error of the filter's. Memory
 * is bounded by the job's limit: a stream that asks for a larger window fails with the filter's words. */
#include <archive.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "engine/job/source.h"
#include "proto/base/mem.h"

#define CHUNK ((size_t)64 << 10)

struct source {
    source_input *input;
    void *ctx;
    uint64_t bytes_max;
    struct archive *filter;   /* NULL: plain */
    struct hash *blob, *diff; /* owned */
    char first[CHUNK];        /* read to recognise the format, then handed on */
    size_t first_size;        /* 0 once handed on */
    char chunk[CHUNK];        /* of the input */
    char unpacked[CHUNK];
    uint64_t position, unpacked_bytes, zeros;
    int input_error; /* errno of a failed read */
};

static const struct {
    const char *name;
    int filter;
    size_t length;
    const char *magic;
} formats[] = {
    {"gzip", ARCHIVE_FILTER_GZIP, 2, "\x1f\x8b"},
    {"zstd", ARCHIVE_FILTER_ZSTD, 4, "\x28\xb5\x2f\xfd"},
    {"bzip2", ARCHIVE_FILTER_BZIP2, 3, "BZh"},
    {"xz", ARCHIVE_FILTER_XZ, 6,
     "\xfd"
     "7zXZ\0"},
};

ssize_t source_from_fd(void *ctx, void *into, size_t size)
{
    ssize_t got;

    do
        got = read(*(int *)ctx, into, size);
    while (got < 0 && errno == EINTR);
    return got;
}

/* Up to CHUNK more bytes of the blob, hashed. */
static ssize_t take(struct source *s, char *into)
{
    ssize_t got = s->input(s->ctx, into, CHUNK);

    if (got < 0)
        s->input_error = errno;
    if (got > 0) {
        hash_add(s->blob, into, (size_t)got);
        s->position += (uint64_t)got;
    }
    return got;
}

static la_ssize_t filter_on_read(struct archive *a, void *ctx, const void **ret)
{
    struct source *s = ctx;
    ssize_t got;

    if (s->first_size) {
        got = (ssize_t)s->first_size;
        s->first_size = 0;
        *ret = s->first;
        return got;
    }
    got = take(s, s->chunk);
    if (got < 0)
        archive_set_error(a, s->input_error, "read the blob");
    *ret = s->chunk;
    return got < 0 ? ARCHIVE_FATAL : got;
}

static int filter_error(struct source *s, struct err *e)
{
    const char *why = archive_error_string(s->filter);

    if (s->input_error)
        return err_number(e, s->input_error, "read the blob");
    return err_set(e, ERR_CORRUPT, "the compressed data is damaged: %s", why ? why : "unknown reason");
}

static int start_filter(struct source *s, int code, const char *name, struct err *e)
{
    struct archive_entry *entry;

    s->filter = archive_read_new();
    if (!s->filter || archive_read_support_format_raw(s->filter) != ARCHIVE_OK ||
        archive_read_append_filter(s->filter, code) != ARCHIVE_OK)
        return err_set(e, ERR_INTERNAL, "cannot set up decompression");
    if (archive_read_open(s->filter, s, NULL, filter_on_read, NULL) == ARCHIVE_OK &&
        archive_read_next_header(s->filter, &entry) == ARCHIVE_OK)
        return 0;
    if (s->input_error)
        return filter_error(s, e);
    /* libarchive's own text speaks of formats here. */
    return err_set(e, ERR_CORRUPT,
                   "the %s data is damaged from its beginning, or needs more memory than is allowed", name);
}

int source_open(source_input *input, void *ctx, uint64_t bytes_max, struct source **ret, struct err *e)
{
    struct source *s = mem_alloc(sizeof(*s));
    int rc = 0;

    s->input = input;
    s->ctx = ctx;
    s->bytes_max = bytes_max;
    s->blob = hash_new();
    s->diff = hash_new();
    ssize_t got = 0;
    do { /* a pipe may bring the first bytes one by one */
        got = s->input(ctx, s->first + s->first_size, CHUNK - s->first_size);
        if (got > 0)
            s->first_size += (size_t)got;
    } while (got > 0 && s->first_size < 6);
    if (got < 0) {
        rc = err_errno(e, "read the blob");
        goto failed;
    }
    hash_add(s->blob, s->first, s->first_size);
    s->position = s->first_size;
    for (size_t i = 0; i < ARRAY_SIZE(formats) && rc == 0 && !s->filter; i++)
        if (s->first_size >= formats[i].length && memcmp(s->first, formats[i].magic, formats[i].length) == 0)
            rc = start_filter(s, formats[i].filter, formats[i].name, e);
    if (rc < 0)
        goto failed;
    *ret = s;
    return 0;
failed:
    source_close(s);
    return rc;
}

void source_close(struct source *s)
{
    if (!s)
        return;
    if (s->filter)
        archive_read_free(s->filter);
    hash_free(s->blob);
    hash_free(s->diff);
    free(s);
}

static void note_unpacked(struct source *s, const char *data, size_t size)
{
    size_t zeros = 0;

    hash_add(s->diff, data, size);
    s->unpacked_bytes += size;
    while (zeros < size && data[size - 1 - zeros] == '\0')
        zeros++;
    s->zeros = zeros == size ? s->zeros + size : zeros;
}

int source_read(struct source *s, const void **ret_data, size_t *ret_size, struct err *e)
{
    const char *data = s->unpacked;
    ssize_t got;

    if (s->filter) {
        got = archive_read_data(s->filter, s->unpacked, CHUNK);
        if (got < 0)
            return filter_error(s, e);
    } else if (s->first_size) {
        data = s->first;
        got = (ssize_t)s->first_size;
        s->first_size = 0;
    } else {
        got = take(s, s->unpacked);
        if (got < 0)
            return err_number(e, s->input_error, "read the blob");
    }
    note_unpacked(s, data, (size_t)got);
    if (s->unpacked_bytes > s->bytes_max)
        return err_set(e, ERR_LIMIT, "it unpacks to more than the %llu bytes allowed",
                       (unsigned long long)s->bytes_max);
    *ret_data = data;
    *ret_size = (size_t)got;
    return 0;
}

int source_finish(struct source *s, char ret_digest[DIGEST_TEXT + 1], char ret_diff_id[DIGEST_TEXT + 1],
                  struct err *e)
{
    uint8_t bytes[SHA256_BYTES];
    const void *data;
    size_t size;
    ssize_t got;
    int rc;

    do
        rc = source_read(s, &data, &size, e);
    while (rc == 0 && size > 0);
    if (rc < 0)
        return rc;
    do
        got = take(s, s->chunk);
    while (got > 0);
    if (got < 0)
        return err_number(e, s->input_error, "read the blob");
    hash_end(s->blob, bytes);
    digest_format(bytes, ret_digest);
    hash_end(s->diff, bytes);
    digest_format(bytes, ret_diff_id);
    return 0;
}

uint64_t source_position(const struct source *s)
{
    return s->position;
}

uint64_t source_unpacked(const struct source *s)
{
    return s->unpacked_bytes;
}

uint64_t source_trailing_zeros(const struct source *s)
{
    return s->zeros;
}
