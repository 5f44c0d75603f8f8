/* The checker of histories: on histories that are good and bad by hand, on random ones that are good because a
 * register made them, and against the plain definition on small ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/entropy.h"
#include "proto/base/mem.h"
#include "tests/simulation/linear.h"

#define UNKNOWN LINEAR_UNKNOWN

static bool check(const struct linear_op *ops, size_t count)
{
    size_t bad = SIZE_MAX;
    bool good = linear_check(ops, count, 0, &bad);

    assert_true(good ? bad == SIZE_MAX : bad < count);
    return good;
}

#define good(...)                                         \
    do {                                                  \
        const struct linear_op history[] = {__VA_ARGS__}; \
        assert_true(check(history, ARRAY_SIZE(history))); \
    } while (0)
#define bad(...)                                           \
    do {                                                   \
        const struct linear_op history[] = {__VA_ARGS__};  \
        assert_false(check(history, ARRAY_SIZE(history))); \
    } while (0)
#define R(from, to, value)              \
    {                                   \
        LINEAR_READ, from, to, value, 0 \
    }
#define S(from, to, value, left)           \
    {                                      \
        LINEAR_SWAP, from, to, value, left \
    }
#define M(from, to, value)                  \
    {                                       \
        LINEAR_MISMATCH, from, to, value, 0 \
    }

static void what_happens_one_after_the_other_is_seen(void **state)
{
    good(S(1, 2, 0, 5), R(3, 4, 5), S(5, 6, 5, 6), R(7, 8, 6));
    bad(S(1, 2, 0, 5), R(3, 4, 0));
    bad(S(1, 2, 0, 5), S(3, 4, 5, 6), R(5, 6, 5));
    bad(R(1, 2, 5));
    bad(S(1, 2, 3, 5));
    assert_true(check(NULL, 0));
}

static void what_overlaps_may_come_in_either_order(void **state)
{
    good(S(1, 4, 0, 5), R(2, 3, 5));
    good(S(1, 4, 0, 5), R(2, 3, 0));
    good(S(1, 6, 0, 5), R(2, 3, 0), R(4, 5, 5));
    bad(S(1, 6, 0, 5), R(2, 3, 5), R(4, 5, 0)); /* seen, then unseen */
    good(S(1, 8, 0, 5), S(2, 7, 5, 6), R(3, 4, 0), R(5, 6, 6));
}

static void write_that_was_lost_is_found(void **state)
{
    bad(S(1, 2, 0, 5), S(3, 4, 0, 6));
    bad(S(1, 4, 0, 5), S(2, 3, 0, 6)); /* of two that create, one succeeds */
    good(S(1, 4, 0, 5), M(2, 3, 0));
    bad(S(1, 2, 0, 5), M(3, 4, 5)); /* it was there */
    good(S(1, 2, 0, 5), M(3, 4, 0));
    bad(M(1, 2, 0));
}

static void unknown_outcome_may_happen_late_or_never_but_once(void **state)
{
    good(S(1, UNKNOWN, 0, 5), R(2, 3, 0), R(4, 5, 0));
    good(S(1, UNKNOWN, 0, 5), R(2, 3, 0), R(4, 5, 5));
    bad(S(1, UNKNOWN, 0, 5), R(2, 3, 5), R(4, 5, 0));
    bad(R(1, 2, 5), S(3, UNKNOWN, 0, 5)); /* not before its call */
    bad(S(1, UNKNOWN, 0, 5), S(2, 3, 5, 6), S(4, 5, 6, 0), R(6, 7, 5));
    good(S(1, UNKNOWN, 0, 5), S(2, UNKNOWN, 5, 0), S(3, UNKNOWN, 0, 5), R(4, 5, 5), R(6, 7, 0), R(8, 9, 5));
}

static void operation_is_named_up_to_which_there_is_no_order(void **state)
{
    const struct linear_op ops[] = {S(1, 2, 0, 5), R(3, 4, 5), R(5, 6, 7), R(7, 8, 5)};
    size_t op = 0;

    assert_false(linear_check(ops, ARRAY_SIZE(ops), 0, &op));
    assert_int_equal(op, 2);
}

/* --- random histories ------------------------------------------------------------------------------------- */

struct maker { /* clients that use one register */
    struct entropy_seeded random;
    struct linear_op ops[3000];
    size_t count;
    uint64_t clock, held, next;
};

static uint64_t below(struct maker *m, uint64_t limit)
{
    return entropy_below(&m->random.base, limit);
}

/* It takes effect now. */
static void take_effect(struct maker *m, struct linear_op *op)
{
    if (op->kind == LINEAR_READ) {
        op->found = m->held;
    } else if (op->found == m->held) {
        op->kind = LINEAR_SWAP;
        m->held = op->left;
    } else {
        op->kind = LINEAR_MISMATCH;
    }
}

/* Each client calls, takes effect, returns; some never learn what came of it. */
static void make(struct maker *m, size_t count, unsigned clients, unsigned values)
{
    struct {
        struct linear_op *op;
        bool done;
    } at[8] = {0};

    m->count = m->clock = m->held = m->next = 0;
    while (m->count < count) {
        unsigned c = (unsigned)below(m, clients);

        if (!at[c].op) {
            at[c].op = &m->ops[m->count++];
            at[c].done = false;
            *at[c].op = (struct linear_op){.kind = below(m, 3) ? LINEAR_SWAP : LINEAR_READ, .called = ++m->clock};
            at[c].op->found = below(m, 2) ? m->held : below(m, values);
            at[c].op->left = below(m, 6) ? ++m->next % values : 0;
            at[c].op->returned = UNKNOWN;
        } else if (!at[c].done) {
            take_effect(m, at[c].op);
            at[c].done = true;
        } else if (at[c].op->kind == LINEAR_SWAP && below(m, 20) == 0) {
            at[c].op = NULL; /* the answer is lost */
        } else {
            at[c].op->returned = ++m->clock;
            at[c].op = NULL;
        }
    }
    size_t kept = 0; /* what has no outcome says nothing unless it swaps */
    for (size_t i = 0; i < m->count; i++)
        if (m->ops[i].returned != UNKNOWN || m->ops[i].kind == LINEAR_SWAP)
            m->ops[kept++] = m->ops[i];
    m->count = kept;
}

static void history_of_a_register_is_good(void **state)
{
    AUTO_FREE
    struct maker *m = mem_alloc(sizeof(*m));

    for (uint64_t seed = 1; seed <= 200; seed++) {
        entropy_seeded_init(&m->random, seed);
        make(m, 40 + below(m, 260), 1 + (unsigned)below(m, 6), 2 + (unsigned)below(m, 1000));
        if (!check(m->ops, m->count))
            fail_msg("seed %llu", (unsigned long long)seed);
    }
    make(m, ARRAY_SIZE(m->ops), 5, 100000); /* long ones take no more than their share */
    assert_true(check(m->ops, m->count));
}

/* By the definition: try every order. */
static bool tried(const struct linear_op *ops, size_t count, unsigned used, uint64_t held)
{
    bool over = true;

    for (size_t i = 0; i < count; i++)
        over &= used >> i & 1 || ops[i].returned == UNKNOWN;
    if (over)
        return true;
    for (size_t i = 0; i < count; i++) {
        bool first = !(used >> i & 1);

        for (size_t k = 0; k < count && first; k++) /* nobody else has returned before it was called */
            first = used >> k & 1 || k == i || ops[k].returned > ops[i].called;
        if (!first || (ops[i].kind == LINEAR_MISMATCH) != (held != ops[i].found))
            continue;
        if (tried(ops, count, used | 1u << i, ops[i].kind == LINEAR_SWAP ? ops[i].left : held))
            return true;
    }
    return false;
}

static void verdict_is_that_of_the_definition(void **state)
{
    AUTO_FREE
    struct maker *m = mem_alloc(sizeof(*m));
    unsigned wrong = 0;

    for (uint64_t seed = 1; seed <= 4000; seed++) {
        entropy_seeded_init(&m->random, seed);
        make(m, 3 + below(m, 6), 2 + (unsigned)below(m, 3), 3);
        for (uint64_t spoil = below(m, 3); spoil && m->count; spoil--) {
            struct linear_op *op = &m->ops[below(m, m->count)];

            if (below(m, 2))
                op->found = below(m, 3);
            else
                op->left = below(m, 3);
        }
        bool expected = tried(m->ops, m->count, 0, 0);
        wrong += !expected;
        if (check(m->ops, m->count) != expected)
            fail_msg("seed %llu: expected %d", (unsigned long long)seed, expected);
    }
    assert_in_range(wrong, 500, 3500); /* both verdicts were asked for */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_happens_one_after_the_other_is_seen),
        cmocka_unit_test(what_overlaps_may_come_in_either_order),
        cmocka_unit_test(write_that_was_lost_is_found),
        cmocka_unit_test(unknown_outcome_may_happen_late_or_never_but_once),
        cmocka_unit_test(operation_is_named_up_to_which_there_is_no_order),
        cmocka_unit_test(history_of_a_register_is_good),
        cmocka_unit_test(verdict_is_that_of_the_definition),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
