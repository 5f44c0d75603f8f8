/* When a certificate is to be renewed. Pure (DESIGN.md section 6, reference/swarm-surface.md section 5).
 *
 * At a random point between 50 and 80 percent of its life, so that nodes which joined together do not come back
 * together; after a failure again with growing delays, the shorter the shorter-lived the certificate is. Dates go
 * by the wall clock, delays by the monotonic one. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct renewal {
    int64_t issued_ms, expires_ms; /* wall clock */
    int64_t due_ms;                /* likewise */
    unsigned failures;             /* in a row, since it is due */
    int64_t again_ms;              /* after a failure: monotonic time of the next attempt */
};

/* A certificate valid in this time (it was issued `backdate_ms` after its beginning). `random`: any 32 bits. */
void renewal_begin(struct renewal *r, int64_t not_before_ms, int64_t not_after_ms, int64_t backdate_ms,
                   uint32_t random);

/* It was renewed just now: whatever the clocks say, not again before a tenth of its life is over. */
void renewal_rest(struct renewal *r, int64_t wall_ms);

/* An attempt has failed. */
void renewal_failed(struct renewal *r, int64_t mono_ms, uint32_t random);

/* Certificates live no longer than this by now: one that would is renewed as if it did, and where that time has
 * come already, at a random moment within the next within_ms. */
void renewal_shorten(struct renewal *r, int64_t wall_ms, int64_t lifetime_ms, int64_t within_ms, uint32_t random);

/* It is wanted after so long, whatever the dates say. */
void renewal_want(struct renewal *r, int64_t wall_ms, int64_t mono_ms, int64_t delay_ms);

/* 0: renew now. Else look again after this time, which is never more than an hour: the wall clock may be set, and
 * the machine may sleep. */
int64_t renewal_wait_ms(const struct renewal *r, int64_t wall_ms, int64_t mono_ms);

bool renewal_expired(const struct renewal *r, int64_t wall_ms);
