/* Who the managers are and where, as this manager's store says: for redirects to the leader and for those who want
 * to know whom else to ask. Kept up to date from the change feed, on leader and followers alike, at the cost of
 * what changed. On the manager loop. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/control.h"

struct managers;

/* Reads nothing before the first managers_follow. */
struct managers *managers_new(struct control *control);
void managers_free(struct managers *m); /* NULL is fine */

/* Look at what was applied since the last call. Returns whether who they are or their addresses changed. */
bool managers_follow(struct managers *m);

/* "host:port" of each, in the order in which they became managers; borrowed until the next managers_follow. */
char *const *managers_addresses(const struct managers *m, size_t *ret_count);

/* Where the leader is: by its row, or, as long as that is not known here, by the members' configuration. NULL: no
 * leader is known. May be this manager itself. Borrowed until the loop turns. */
const char *managers_leader(const struct managers *m);
