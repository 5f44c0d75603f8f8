/* See renewal.h. */
#include "agent/renewal.h"
#include "proto/base/mem.h"

#define LOOK_MS        (3600 * 1000LL)
#define RETRY_FIRST_MS 1000LL
#define RETRY_MAX_MS   (300 * 1000LL)
#define RETRY_LEAST_MS 50LL

/* `random` as a part of `whole`. */
static int64_t part(int64_t whole, uint32_t random)
{
    return (int64_t)((unsigned __int128)(whole > 0 ? whole : 0) * random >> 32);
}

void renewal_begin(struct renewal *r, int64_t not_before_ms, int64_t not_after_ms, int64_t backdate_ms,
                   uint32_t random)
{
    int64_t issued_ms = MIN(not_before_ms + backdate_ms, not_after_ms), life_ms = not_after_ms - issued_ms;

    *r = (struct renewal){.issued_ms = issued_ms, .expires_ms = not_after_ms};
    r->due_ms = issued_ms + life_ms / 2 + part(life_ms * 3 / 10, random);
}

void renewal_rest(struct renewal *r, int64_t wall_ms)
{
    r->due_ms = MAX(r->due_ms, wall_ms + MAX((r->expires_ms - r->issued_ms) / 10, RETRY_LEAST_MS));
}

void renewal_failed(struct renewal *r, int64_t mono_ms, uint32_t random)
{
    int64_t delay_ms = RETRY_FIRST_MS;

    for (unsigned i = 0; i < r->failures && delay_ms < RETRY_MAX_MS; i++)
        delay_ms *= 2;
    /* Several attempts must fit into what is left of a short life. */
    delay_ms = MIN(delay_ms, MIN(RETRY_MAX_MS, (r->expires_ms - r->issued_ms) / 40));
    delay_ms = MAX(delay_ms, RETRY_LEAST_MS);
    r->failures++;
    r->again_ms = mono_ms + delay_ms / 2 + part(delay_ms, random);
}

void renewal_shorten(struct renewal *r, int64_t wall_ms, int64_t lifetime_ms, int64_t within_ms, uint32_t random)
{
    if (lifetime_ms <= 0 || lifetime_ms >= r->expires_ms - r->issued_ms)
        return;
    int64_t due_ms = r->issued_ms + lifetime_ms / 2 + part(lifetime_ms * 3 / 10, random);
    r->due_ms = MIN(r->due_ms, MAX(due_ms, wall_ms + part(within_ms, random)));
}

void renewal_want(struct renewal *r, int64_t wall_ms, int64_t mono_ms, int64_t delay_ms)
{
    r->due_ms = MIN(r->due_ms, wall_ms);
    r->failures = MAX(r->failures, 1); /* the delay counts as one between attempts */
    r->again_ms = mono_ms + delay_ms;
}

int64_t renewal_wait_ms(const struct renewal *r, int64_t wall_ms, int64_t mono_ms)
{
    if (wall_ms < r->due_ms)
        return MIN(r->due_ms - wall_ms, LOOK_MS);
    return r->failures && mono_ms < r->again_ms ? MIN(r->again_ms - mono_ms, LOOK_MS) : 0;
}

bool renewal_expired(const struct renewal *r, int64_t wall_ms)
{
    return wall_ms >= r->expires_ms;
}
