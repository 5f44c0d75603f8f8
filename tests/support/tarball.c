/* See tarball.h. */
#include <archive.h>
#include <archive_entry.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "tests/support/tarball.h"

static void pad(struct buf *tar)
{
    static const char zeros[512];

    if (tar->length % 512)
        buf_append(tar, zeros, 512 - tar->length % 512);
}

static void octal(char *field, size_t size, uint64_t value)
{
    char text[32];

    if (value >> (3 * (size - 1))) { /* base 256 */
        field[0] = (char)0x80;
        for (size_t i = size; --i > 0; value >>= 8)
            field[i] = (char)value;
        return;
    }
    snprintf(text, sizeof(text), "%0*llo", (int)size - 1, (unsigned long long)value);
    memcpy(field, text, size - 1);
}

void tar_member(struct buf *tar, struct tar_member m)
{
    char h[512] = {0};
    unsigned sum = 0;
    size_t size = m.size ? m.size : m.data ? strlen(m.data) : 0;

    if (!m.type)
        m.type = '0';
    memcpy(h, m.name, MIN(strlen(m.name), 100));
    octal(h + 100, 8, m.mode ? m.mode : m.type == '5' ? 0755 : 0644);
    octal(h + 108, 8, m.uid);
    octal(h + 116, 8, m.gid);
    octal(h + 124, 12, m.size_said ? m.size_said : size);
    octal(h + 136, 12, (uint64_t)m.mtime);
    if (m.size_field)
        memcpy(h + 124, m.size_field, 12);
    if (m.uid_field)
        memcpy(h + 108, m.uid_field, 8);
    memset(h + 148, ' ', 8);
    h[156] = m.type;
    if (m.link)
        memcpy(h + 157, m.link, MIN(strlen(m.link), 100));
    memcpy(h + 257, m.magic ? m.magic : "ustar\00000", 8);
    octal(h + 329, 8, m.major);
    octal(h + 337, 8, m.minor);
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)h[i];
    snprintf(h + 148, 8, "%06o", sum + (unsigned)m.checksum_off);
    buf_append(tar, h, sizeof(h));
    if (size)
        buf_append(tar, m.data, size);
    pad(tar);
}

void tar_pax_raw(struct buf *tar, char type, const void *data, size_t size)
{
    tar_member(tar, (struct tar_member){.name = "PaxHeaders/x", .type = type, .data = data, .size = size});
}

void tar_pax(struct buf *tar, ...)
{
    struct buf records = {0};
    va_list args;
    const char *key;

    va_start(args, tar);
    while ((key = va_arg(args, const char *))) {
        const char *value = va_arg(args, const char *);
        size_t rest = strlen(key) + strlen(value) + 3, length = rest + 1;

        while (length != rest + (size_t)snprintf(NULL, 0, "%zu", length))
            length++;
        buf_printf(&records, "%zu %s=%s\n", length, key, value);
    }
    va_end(args);
    tar_pax_raw(tar, 'x', buf_bytes(&records), records.length);
    buf_fini(&records);
}

void tar_gnu_long(struct buf *tar, char type, const char *text)
{
    tar_member(
        tar,
        (struct tar_member){
            .name = "././@LongLink", .type = type, .data = text, .size = strlen(text) + 1, .magic = "ustar  "});
}

void tar_close(struct buf *tar)
{
    static const char zeros[1024];

    buf_append(tar, zeros, sizeof(zeros));
}

static la_ssize_t on_write(struct archive *a, void *ctx, const void *data, size_t size)
{
    buf_append(ctx, data, size);
    return (la_ssize_t)size;
}

void tar_compress(const struct buf *tar, const char *filter, struct buf *into)
{
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();

    if (archive_write_add_filter_by_name(a, filter) != ARCHIVE_OK ||
        archive_write_set_format_raw(a) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(a, 1) != ARCHIVE_OK ||
        archive_write_open(a, into, NULL, on_write, NULL) != ARCHIVE_OK)
        abort();
    archive_entry_set_filetype(entry, AE_IFREG);
    if (archive_write_header(a, entry) != ARCHIVE_OK ||
        archive_write_data(a, buf_bytes(tar), tar->length) != (la_ssize_t)tar->length ||
        archive_write_close(a) != ARCHIVE_OK)
        abort();
    archive_entry_free(entry);
    archive_write_free(a);
}

void tar_digest(const struct buf *b, char ret[72])
{
    uint8_t bytes[SHA256_BYTES];

    sha256(buf_bytes(b), b->length, bytes);
    digest_format(bytes, ret);
}
