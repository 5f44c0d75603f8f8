/* A blob as a stream: the digest of its bytes, what they unpack to, and the digest of that.
 *
 * gzip, zstd, bzip2 and xz are recognised by their first bytes, whatever a media type says; anything else passes as
 * it is. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/base/err.h"
#include "proto/base/hash.h"

struct source;

/* Where the bytes come from: at most `size` of them, 0 at the end, -1 with errno set. */
typedef ssize_t source_input(void *ctx, void *into, size_t size);

/* A source_input that reads from the descriptor *ctx (an int). */
source_input source_from_fd;

/* Begin to read. Unpacking more than `bytes_max` fails with ERR_LIMIT. */
int source_open(source_input *input, void *ctx, uint64_t bytes_max, struct source **ret, struct err *e);
void source_close(struct source *s);

/* The next unpacked bytes, borrowed until the next call; *ret_size 0 at the end. */
int source_read(struct source *s, const void **ret_data, size_t *ret_size, struct err *e);

/* Read what is left, to its end, and tell both digests. */
int source_finish(struct source *s, char ret_digest[DIGEST_TEXT + 1], char ret_diff_id[DIGEST_TEXT + 1],
                  struct err *e);

uint64_t source_position(const struct source *s);       /* bytes of the blob read so far */
uint64_t source_unpacked(const struct source *s);       /* and what they unpacked to */
uint64_t source_trailing_zeros(const struct source *s); /* zero bytes at the end of what was unpacked so far */
