/* Whether an agent may register now, or is to come back later. Pure.
 *
 * Two rules. All agents together get so many registrations per second, so that a storm of them (a new leader, a
 * switch that restarts) leaves room for heartbeats and for people; who is sent away is told a time of its own, one
 * after the other at that rate. And one node registers at most so often in a while: more is an agent in trouble, or
 * two that share an identity (reference/swarm-surface.md section 15). Times are monotonic milliseconds. */
#pragma once

#include <stdint.h>

#define ADMISSION_PER_SECOND 2000
#define ADMISSION_PER_NODE   3
#define ADMISSION_NODE_MS    8000

struct admission;

struct admission *admission_new(unsigned per_second, unsigned per_node); /* 0: as above */
void admission_free(struct admission *a);                                /* NULL is fine */

/* 0: it may, and is counted. Else after how many milliseconds it may come back. */
int64_t admission_ask(struct admission *a, const char *node_id, int64_t now_ms);

/* Forget what counts no more; admission_ask does so too. */
void admission_tidy(struct admission *a, int64_t now_ms);
