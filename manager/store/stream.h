/* The snapshot stream's form, shared by snapshot.c and load.c. Private to manager/store.
 *
 *   magic    8 bytes: "shoalst" and the version of this form, 1
 *   frames   type (1 byte), size of the contents (4 bytes, little-endian), contents:
 *     HEAD     once, first: applied, planned, cluster_ms, feature level, digest, next[0...15], as 8-byte numbers
 *     RECORDS  kind (1 byte), then for each record: number (varint), size (varint), header and message (row.h).
 *              Kinds ascend, numbers ascend within a kind. More than one record only up to STREAM_FRAME bytes
 *     END      once, last: how many records there were, and a hash of the head's contents, as 8-byte numbers
 */
#pragma once

#include "manager/store/inside.h"

#define STREAM_MAGIC        "shoalst\1"
#define STREAM_MAGIC_BYTES  8
#define STREAM_HEADER       5
#define STREAM_HEAD_NUMBERS (5 + KIND_MAX + 1)
#define STREAM_FRAME        (32 * 1024) /* contents of a frame of several records, at most */
#define STREAM_CONTENTS_MAX (ROW_MESSAGE_MAX + 1024)

enum stream_frame { STREAM_HEAD = 1, STREAM_RECORDS = 2, STREAM_END = 3 };

static inline void stream_head(const struct state *state, uint64_t ret[STREAM_HEAD_NUMBERS])
{
    ret[0] = state->applied;
    ret[1] = state->planned;
    ret[2] = (uint64_t)state->cluster_ms;
    ret[3] = state->feature_level;
    ret[4] = state->digest;
    for (int k = 0; k <= KIND_MAX; k++)
        ret[5 + k] = state->next[k];
}
