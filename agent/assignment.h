/* What a manager has assigned to this node: specs and tasks, kept by key. Pure (DESIGN.md section 9).
 *
 * A session begins with the full set between `begin` and `end`; what is set takes effect as it comes, what was not
 * named is removed only at `end`, so a session that breaks in the middle stops nothing. Then come increments
 * numbered without a gap. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/dispatch.pb-c.h"

#define ASSIGNMENT_KEY_MAX   128
#define ASSIGNMENT_ITEMS_MAX 65536

struct assignment;

struct assignment_events {
    void *ctx;
    /* A new or replaced item: borrowed until it is replaced or removed. */
    void (*on_set)(void *ctx, const AssignmentItem *item);
    void (*on_removed)(void *ctx, const char *key);
};

struct assignment *assignment_new(const struct assignment_events *events);
void assignment_free(struct assignment *a); /* no callbacks; NULL is fine */

/* A new session: its first message must be `begin`. Keeps what is there. */
void assignment_new_session(struct assignment *a);

/* Apply one message. ERR_SEQUENCE: a number is missing or the digest differs: ask for the full set (what came is
 * kept, nothing is removed). ERR_INVALID: a malformed item; the session should end. */
int assignment_apply(struct assignment *a, const Assignment *message, struct err *e);

/* Put an item without a session: what the ledger remembers at start. It is removed by the next full set that does
 * not name it. */
int assignment_restore(struct assignment *a, const AssignmentItem *item, struct err *e);

const AssignmentItem *assignment_find(const struct assignment *a, const char *key); /* NULL when absent */
uint64_t assignment_digest(const struct assignment *a);
uint64_t assignment_sequence(const struct assignment *a);
size_t assignment_count(const struct assignment *a);
bool assignment_complete(const struct assignment *a); /* this session's full set has ended */
