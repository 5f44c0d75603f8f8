/* See entropy.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "proto/base/entropy.h"
#include "proto/base/mem.h"

static void real_fill(struct entropy *e, void *data, size_t size)
{
    char *at = data;

    (void)e; /* there is one kernel */
    while (size) {
        ssize_t got = getrandom(at, size, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            abort(); /* no randomness: no key we make would be worth anything */
        at += got;
        size -= (size_t)got;
    }
}

struct entropy *entropy_real(void)
{
    static struct entropy real = {.fill = real_fill};

    return &real;
}

static uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static uint64_t next(uint64_t s[4])
{
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

static void seeded_fill(struct entropy *e, void *data, size_t size)
{
    struct entropy_seeded *seeded = container_of(e, struct entropy_seeded, base);
    char *at = data;

    while (size) {
        uint64_t word = next(seeded->state);
        size_t part = MIN(size, sizeof(word));

        memcpy(at, &word, part);
        at += part;
        size -= part;
    }
}

void entropy_seeded_init(struct entropy_seeded *e, uint64_t seed)
{
    e->base.fill = seeded_fill;
    for (int i = 0; i < 4; i++) { /* splitmix64, so that near seeds give far states */
        uint64_t z = seed += 0x9e3779b97f4a7c15;

        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        e->state[i] = z ^ z >> 31;
    }
}

uint64_t entropy_u64(struct entropy *e)
{
    uint64_t word;

    e->fill(e, &word, sizeof(word));
    return word;
}

uint64_t entropy_below(struct entropy *e, uint64_t below)
{
    uint64_t word, limit = UINT64_MAX - UINT64_MAX % below;

    do
        word = entropy_u64(e);
    while (word >= limit);
    return word % below;
}
