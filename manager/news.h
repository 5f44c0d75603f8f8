/* News: what happens to the swarm's objects, in the words of GET /events (reference/swarm-surface.md section 24).
 *
 * It follows the feed of what is applied on this manager, and remembers of each object the little that it takes to
 * say what an update changed and what it was that was removed. What is there when it begins is no news. On the
 * manager loop; batches are made there and read on the node's. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "manager/control.h"
#include "manager/manager.h"
#include "manager/membership.h"
#include "proto/base/arena.h"

struct news_batch { /* owned by whoever has it */
    struct arena arena;
    struct manager_event **events; /* in the arena, oldest first */
    size_t count;
};

struct news;

struct news *news_new(struct control *control, struct membership *membership); /* borrowed */
void news_free(struct news *n);                                                /* NULL is fine */

/* What was applied since the last turn, and who leads and is heard from now; *ret_batch NULL: nothing that matters.
 * As control_turn it returns when the next turn is due: 0: at once, -1: when something was applied. Not calling it
 * costs nothing: the feed keeps what comes, and what falls out of the feed is news to nobody. */
int64_t news_turn(struct news *n, struct news_batch **ret_batch);

void news_batch_free(struct news_batch *b); /* NULL is fine */
