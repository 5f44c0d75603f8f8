/* The log in memory against the plainest model of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <raft.h>

#include "manager/raft/tail.h"
#include "proto/base/entropy.h"
#include "proto/base/mem.h"

#define MAX_INDEX 20000

static void append(struct tail *t, uint64_t term, uint8_t type, uint32_t size)
{
    struct block *b = block_new(size);

    memset(b->bytes, (int)(t->last + 1), size);
    tail_append(t, term, type, b->bytes, size, b);
    block_unref(b);
}

static void entries_are_found_by_index(void **state)
{
    struct tail t;

    tail_init(&t);
    assert_int_equal(t.last, 0);
    assert_int_equal(tail_term(&t, 0), 0);
    assert_int_equal(tail_term(&t, 1), 0);
    append(&t, 1, RAFT_CHANGE, 5);
    append(&t, 1, RAFT_COMMAND, 7);
    append(&t, 4, RAFT_COMMAND, 0);
    assert_int_equal(t.last, 3);
    assert_int_equal(tail_term(&t, 2), 1);
    assert_int_equal(tail_term(&t, 3), 4);
    assert_int_equal(tail_term(&t, 4), 0);
    assert_int_equal(tail_get(&t, 2)->size, 7);
    assert_int_equal(tail_get(&t, 2)->data[6], 2);
    assert_null(tail_get(&t, 4));
    assert_int_equal(tail_place(&t, 2).segment, 0);
    tail_set_place(&t, 2, (struct disklog_place){3, 512});
    assert_int_equal(tail_place(&t, 2).offset, 512);
    tail_fini(&t);
}

static void changes_of_membership_are_remembered(void **state)
{
    struct tail t;

    tail_init(&t);
    append(&t, 1, RAFT_CHANGE, 5);
    for (int i = 2; i < 10; i++)
        append(&t, 1, i == 6 ? RAFT_CHANGE : RAFT_COMMAND, 3);
    assert_int_equal(tail_change_at(&t, 5)->index, 1);
    assert_int_equal(tail_change_at(&t, 6)->index, 6);
    assert_int_equal(tail_change_after(&t, 0)->index, 1);
    assert_int_equal(tail_change_after(&t, 1)->index, 6);
    assert_null(tail_change_after(&t, 6));
    tail_forget(&t, 9, 0); /* contents may go, these stay */
    assert_null(tail_get(&t, 6));
    assert_int_equal(tail_change_at(&t, 9)->size, 3);
    tail_cut(&t, 6);
    assert_int_equal(tail_change_at(&t, 9)->index, 1);
    tail_drop(&t, 3);
    assert_null(tail_change_at(&t, 9));
    tail_fini(&t);
}

static void contents_are_forgotten_oldest_first_and_only_as_far_as_allowed(void **state)
{
    struct tail t;

    tail_init(&t);
    for (int i = 0; i < 10; i++)
        append(&t, 1, RAFT_COMMAND, 100);
    assert_int_equal(t.memory, 1000);
    tail_forget(&t, 10, 650);
    assert_int_equal(t.memory, 600);
    assert_null(tail_get(&t, 4));
    assert_non_null(tail_get(&t, 5));
    tail_forget(&t, 6, 0); /* what is not durable or applied yet stays */
    assert_null(tail_get(&t, 6));
    assert_non_null(tail_get(&t, 7));
    assert_int_equal(tail_term(&t, 2), 1);
    append(&t, 2, RAFT_COMMAND, 1);
    assert_int_equal(tail_get(&t, 11)->term, 2);
    tail_fini(&t);
}

static void reset_begins_behind_a_snapshot(void **state)
{
    struct tail t;

    tail_init(&t);
    append(&t, 1, RAFT_CHANGE, 5);
    tail_reset(&t, 50, 7);
    assert_int_equal(tail_first(&t), 51);
    assert_int_equal(t.last, 50);
    assert_int_equal(tail_term(&t, 50), 7);
    assert_int_equal(tail_term(&t, 1), 0);
    append(&t, 8, RAFT_COMMAND, 5);
    assert_int_equal(tail_term(&t, 51), 8);
    tail_fini(&t);
}

/* Random appends, cuts, drops and forgetting; after each, every index answers as the model does. */
static void any_sequence_agrees_with_the_model(void **state)
{
    static struct {
        uint64_t term;
        bool held;
        uint32_t place;
    } model[MAX_INDEX];

    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct entropy_seeded random;
        uint64_t base = 0, base_term = 0, last = 0, term = 1;
        struct tail t;

        entropy_seeded_init(&random, seed);
        tail_init(&t);
        for (int step = 0; step < 400; step++) {
            uint64_t what = entropy_below(&random.base, 10);

            if (what < 5) {
                for (uint64_t n = entropy_below(&random.base, 8); n; n--) {
                    term += entropy_below(&random.base, 6) == 0;
                    append(&t, term, RAFT_COMMAND, (uint32_t)entropy_below(&random.base, 50));
                    last++;
                    model[last].term = term;
                    model[last].held = true;
                    model[last].place = 0;
                }
            } else if (what == 5 && last > base) {
                uint64_t from = base + 1 + entropy_below(&random.base, last - base);

                tail_cut(&t, from);
                last = from - 1;
                term++;
            } else if (what == 6 && last > base) {
                uint64_t upto = base + 1 + entropy_below(&random.base, last - base);

                tail_drop(&t, upto);
                base = upto;
                base_term = model[upto].term;
            } else if (what == 7 && last > base) {
                tail_forget(&t, base + 1 + entropy_below(&random.base, last - base),
                            entropy_below(&random.base, 200));
                for (uint64_t i = base + 1; i < t.held && i <= last; i++)
                    model[i].held = false;
            } else if (last > base) {
                uint64_t i = base + 1 + entropy_below(&random.base, last - base);

                model[i].place = (uint32_t)step + 1;
                tail_set_place(&t, i, (struct disklog_place){model[i].place, 1});
            }
            assert_int_equal(t.last, last);
            assert_int_equal(tail_first(&t), base + 1);
            assert_int_equal(tail_term(&t, base), base_term);
            for (uint64_t i = base + 1; i <= last; i++) {
                if (tail_term(&t, i) != model[i].term || tail_place(&t, i).segment != model[i].place ||
                    (tail_get(&t, i) != NULL) != model[i].held)
                    fail_msg("seed %llu, step %d: entry %llu", (unsigned long long)seed, step,
                             (unsigned long long)i);
                if (model[i].held && tail_get(&t, i)->size)
                    assert_int_equal(tail_get(&t, i)->data[0], (uint8_t)i);
            }
        }
        tail_fini(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_found_by_index),
        cmocka_unit_test(changes_of_membership_are_remembered),
        cmocka_unit_test(contents_are_forgotten_oldest_first_and_only_as_far_as_allowed),
        cmocka_unit_test(reset_begins_behind_a_snapshot),
        cmocka_unit_test(any_sequence_agrees_with_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
