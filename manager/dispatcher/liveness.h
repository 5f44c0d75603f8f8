/* Which nodes are alive, as far as their sessions tell. Pure (DESIGN.md section 9, reference/swarm-surface.md
 * section 15).
 *
 * A node with a session is alive as long as something comes from it within the grace (three heartbeat periods). A
 * session that closed makes it suspect: it is down 150 ms later unless it is back. When many close at once the
 * fault is more likely ours (or the network's), so the grace is given instead. After a change of leader every node
 * gets twice the grace to come back. Who looks long after a deadline has stood still itself (the process was
 * stopped, the machine slept) and heard nobody meanwhile: then everyone gets that time anew. Times are monotonic
 * milliseconds. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LIVENESS_SUSPECT_MS  150  /* from a closed session to down */
#define LIVENESS_STORM_LEAST 10   /* sessions, and a tenth of all, closed ... */
#define LIVENESS_STORM_MS    1000 /* ... within this time are a storm */
#define LIVENESS_LATE_MS     1000 /* after a deadline, when nobody looked: we stood still */

struct liveness;

struct liveness *liveness_new(int64_t period_ms);
void liveness_free(struct liveness *l); /* NULL is fine */

/* The heartbeat period that agents are told from now on; sessions keep the grace of the period they were opened
 * with. */
void liveness_set_period(struct liveness *l, int64_t period_ms);
int64_t liveness_grace_ms(const struct liveness *l);

void liveness_opened(struct liveness *l, uint64_t node,
                     int64_t now_ms); /* a session of this node, or it was told a new period */
void liveness_heard(struct liveness *l, uint64_t node, int64_t now_ms); /* anything came on it */
void liveness_closed(struct liveness *l, uint64_t node,
                     int64_t now_ms); /* it ended, by itself or with its connection */

/* A node that should have a session and has none yet, because we have just become leader, or have asked it to come
 * back at now_ms. */
void liveness_expect(struct liveness *l, uint64_t node, int64_t now_ms);
bool liveness_awaits(const struct liveness *l, uint64_t node); /* expected, and not come yet */
void liveness_forget(struct liveness *l, uint64_t node);
void liveness_clear(struct liveness *l);

/* The next node that has to be declared down by now; it is forgotten with that. *ret_silent: it still has a
 * session, which says nothing. */
bool liveness_next_down(struct liveness *l, int64_t now_ms, uint64_t *ret_node, bool *ret_silent);

/* When to call liveness_next_down again; INT64_MAX: never. For silent nodes up to a sixty-fourth of their grace
 * after it ends. */
int64_t liveness_due_ms(const struct liveness *l);

unsigned liveness_sessions(const struct liveness *l);
