/* Randomness behind an interface, so that the simulation can replay it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct entropy {
    void (*fill)(struct entropy *e, void *data, size_t size); /* never fails */
};

/* The kernel's generator. Never closed. */
struct entropy *entropy_real(void);

/* A small seeded generator (xoshiro256**) for simulations and tests: the same seed gives the same bytes. */
struct entropy_seeded {
    struct entropy base;
    uint64_t state[4];
};

void entropy_seeded_init(struct entropy_seeded *e, uint64_t seed);

static inline void entropy_fill(struct entropy *e, void *data, size_t size)
{
    e->fill(e, data, size);
}

uint64_t entropy_u64(struct entropy *e);

/* Uniform in [0, below); below must not be 0. */
uint64_t entropy_below(struct entropy *e, uint64_t below);
