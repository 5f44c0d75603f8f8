/* The cluster's object as the API needs it, on the manager loop: without the signing key, which never leaves it. */
#pragma once

#include "manager/store/store.h"
#include "proto/base/arena.h"
#include "proto/base/buf.h"

/* The cluster's object in the arena; ERR_NOT_FOUND before there is one. It holds the signing key: authority_forget.
 */
int authority_cluster(struct view *v, struct arena *a, struct object *ret);
void authority_forget(const Cluster *cluster); /* wipes the keys in it */

/* A PACK_AUTHORITY note (RootCa without keys and secrets) for the next objects; nothing when there is no cluster
 * yet. */
void authority_pack(struct buf *page, struct view *v);

/* The cluster without its keys, and without the tokens' secrets unless `tokens`: into the page.
 * False when there is no cluster yet. */
bool authority_pack_cluster(struct buf *page, struct view *v, bool tokens);

/* The unlock key. False while autolock is off: *ret is zero then. */
bool authority_lock_key(struct view *v, uint8_t ret[32]);
