/* What a page is made from: objects as the store holds them, and notes on them, one after the other (ask.h). The
 * manager loop puts them in as bytes, the node loop takes them out, unpacks them and writes JSON. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/store/store.h"
#include "proto/base/buf.h"

/* Kinds of notes, behind the store's kinds. A note belongs to the next object. */
enum pack_note { PACK_TASK = 32, PACK_SERVICE, PACK_NODE, PACK_AUTHORITY };

struct pack_task { /* ids of what the task names by number */
    uint8_t service_id[16], node_id[16];
    bool has_service, has_node;
};

struct pack_service {
    uint64_t running, desired; /* tasks */
};

struct pack_node {
    bool is_manager, is_leader;
    bool is_awaited;     /* it was up, and has not come to the present leader yet */
    unsigned char reach; /* enum membership_reach */
    char address[64];    /* of its manager port */
    char why[128];       /* it is not yet what it is to be; "": it is */
};

struct packed {
    unsigned kind; /* enum kind, or enum pack_note */
    uint32_t size;
    uint64_t number, version;
    int64_t created_ms, updated_ms;
    const void *data; /* borrowed from the page */
};

void pack_object(struct buf *b, const struct object *header, const void *data, size_t size);
void pack_note(struct buf *b, enum pack_note kind, const void *data, size_t size);

/* Put the object of a view in; false when it is not there (any more). */
bool pack_from(struct buf *b, struct view *v, enum kind k, uint64_t number);

/* Walk: size_t at = 0; struct packed p; while (pack_next(&b, &at, &p)) ... */
bool pack_next(const struct buf *b, size_t *at, struct packed *ret);
