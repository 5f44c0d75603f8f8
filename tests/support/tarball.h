/* Tar archives for tests, good and bad: every field of a header can be set to what no honest program writes. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"

struct tar_member {
    const char *name;
    char
        type; /* '0' file (also when 0), '1' hard link, '2' symlink, '3' char, '4' block, '5' directory, '6' fifo */
    unsigned mode; /* 0644, or 0755 for directories, when 0 */
    uint64_t uid, gid;
    int64_t mtime;
    const char *link;
    unsigned major, minor;
    const void *data; /* text when size is 0 and data is not NULL */
    size_t size;
    uint64_t size_said;                 /* what the header claims, when not the size of the data */
    const char *size_field, *uid_field; /* these bytes instead of a number, when not NULL */
    const char *magic;                  /* 8 bytes; "ustar\00000" when NULL */
    int checksum_off;                   /* added to the checksum */
};

void tar_member(struct buf *tar, struct tar_member m);
#define TAR(tar, ...) tar_member(tar, (struct tar_member){__VA_ARGS__})

/* A pax header for the member that follows: pairs of key and value, ended by NULL. */
void tar_pax(struct buf *tar, ...) __attribute__((sentinel));
void tar_pax_raw(struct buf *tar, char type, const void *data, size_t size);
/* GNU's long name ('L') or long link ('K') for the member that follows. */
void tar_gnu_long(struct buf *tar, char type, const char *text);
/* The two closing blocks. */
void tar_close(struct buf *tar);

/* Compress by libarchive's filter of that name: "gzip", "zstd", "bzip2", "xz". */
void tar_compress(const struct buf *tar, const char *filter, struct buf *into);

/* "sha256:..." of a buffer. */
void tar_digest(const struct buf *b, char ret[72]);
