/* Change sets, read in place and written (proto/change.proto). Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/store/store.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/field.h"

#define CHANGE_MAGIC     0x01534353u       /* "SCS", 1 */
#define CHANGE_SET_MAX   (2 * 1024 * 1024) /* bytes of one Raft entry */
#define CHANGE_COUNT_MAX 16384             /* changes in one set; drafts are split at 2,000 */

struct change {
    enum kind kind;
    uint64_t number;
    const uint8_t *message; /* borrowed from the set; NULL: deleted */
    size_t size;
};

struct change_set {
    uint64_t planned_on;
    int64_t cluster_ms;
    uint32_t feature_level;
    size_t count;               /* changes */
    struct field_reader reader; /* where change_next is */
};

/* Read the head and check everything: form, sizes, kinds, numbers, feature level; what is inside the messages is
 * checked by whoever unpacks them. ERR_CORRUPT when it is no change set that this program may apply. */
int change_set_read(const void *data, size_t size, struct change_set *ret, struct err *e);

/* The next change of a set that was read; false at the end. */
bool change_next(struct change_set *set, struct change *ret);

/* Write: the head, then each change. */
void change_set_begin(struct buf *out, uint64_t planned_on, int64_t cluster_ms);
void change_put(struct buf *out, const struct change *c);
size_t change_size(const struct change *c); /* bytes that change_put will add */
