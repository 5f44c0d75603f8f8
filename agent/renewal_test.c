/* When certificates are renewed, on a simulated clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/renewal.h"
#include "proto/base/entropy.h"
#include "proto/base/mem.h"

#define HOUR_MS  (3600LL * 1000)
#define DAY_MS   (24 * HOUR_MS)
#define ISSUED   1790000000000LL
#define BACKDATE HOUR_MS

static struct renewal certificate(int64_t life_ms, uint32_t random)
{
    struct renewal r;

    renewal_begin(&r, ISSUED - BACKDATE, ISSUED + life_ms, BACKDATE, random);
    return r;
}

static void due_between_half_and_four_fifths_of_its_life(void **state)
{
    static const int64_t lives[] = {1000, HOUR_MS, DAY_MS, 90 * DAY_MS, 20 * 365 * DAY_MS};
    struct entropy_seeded random;

    entropy_seeded_init(&random, 7);
    for (size_t i = 0; i < ARRAY_SIZE(lives); i++) {
        assert_int_equal(certificate(lives[i], 0).due_ms, ISSUED + lives[i] / 2);
        for (int n = 0; n < 1000; n++) {
            struct renewal r = certificate(lives[i], (uint32_t)entropy_u64(&random.base));

            assert_in_range(r.due_ms - ISSUED, lives[i] / 2, lives[i] * 8 / 10);
        }
        assert_in_range(certificate(lives[i], UINT32_MAX).due_ms - ISSUED, lives[i] * 8 / 10 - lives[i] / 1000 - 1,
                        lives[i] * 8 / 10);
    }
}

static void nodes_that_joined_together_do_not_renew_together(void **state)
{
    struct entropy_seeded random;
    unsigned in_tenth[10] = {0};

    entropy_seeded_init(&random, 11);
    for (int n = 0; n < 10000; n++) {
        struct renewal r = certificate(90 * DAY_MS, (uint32_t)entropy_u64(&random.base));

        in_tenth[(r.due_ms - ISSUED - 45 * DAY_MS) * 10 / (27 * DAY_MS)]++;
    }
    for (int i = 0; i < 10; i++)
        assert_in_range(in_tenth[i], 850, 1150);
}

static void nothing_happens_before_it_is_due_whatever_the_clock_does(void **state)
{
    struct renewal r = certificate(90 * DAY_MS, 0);

    assert_int_equal(renewal_wait_ms(&r, ISSUED, 0), HOUR_MS); /* looked at every hour: clocks are set */
    assert_int_equal(renewal_wait_ms(&r, ISSUED - 400 * DAY_MS, 0), HOUR_MS);
    assert_int_equal(renewal_wait_ms(&r, r.due_ms - 1234, 0), 1234);
    assert_int_equal(renewal_wait_ms(&r, r.due_ms, 0), 0);
    assert_int_equal(renewal_wait_ms(&r, r.due_ms + 400 * DAY_MS, 0), 0);
    assert_false(renewal_expired(&r, ISSUED + 90 * DAY_MS - 1));
    assert_true(renewal_expired(&r, ISSUED + 90 * DAY_MS));
}

static void failures_wait_longer_and_longer_up_to_five_minutes(void **state)
{
    struct renewal r = certificate(90 * DAY_MS, 0);
    int64_t mono_ms = 5000, wall_ms = r.due_ms;
    static const int64_t delays_s[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300};

    for (size_t i = 0; i < ARRAY_SIZE(delays_s); i++) {
        renewal_failed(&r, mono_ms, (uint32_t)(i * 0x15555555));
        int64_t wait_ms = renewal_wait_ms(&r, wall_ms, mono_ms);

        assert_in_range(wait_ms, delays_s[i] * 500, delays_s[i] * 1500);
        mono_ms += wait_ms;
        wall_ms += wait_ms;
        assert_int_equal(renewal_wait_ms(&r, wall_ms, mono_ms), 0);
    }
}

static void short_lives_leave_room_for_many_attempts(void **state)
{
    struct entropy_seeded random;

    entropy_seeded_init(&random, 3);
    for (int64_t life_ms = 4000; life_ms <= HOUR_MS; life_ms *= 2) {
        struct renewal r = certificate(life_ms, UINT32_MAX);
        int64_t now_ms = r.due_ms;
        unsigned attempts = 0;

        while (!renewal_expired(&r, now_ms)) {
            attempts++;
            renewal_failed(&r, now_ms, (uint32_t)entropy_u64(&random.base));
            now_ms += renewal_wait_ms(&r, now_ms, now_ms);
        }
        assert_in_range(attempts, 5, 100);
    }
}

static void clocks_that_disagree_do_not_lead_to_a_storm(void **state)
{
    struct renewal r = certificate(DAY_MS, 0);
    int64_t wall_ms = ISSUED + DAY_MS - 1000; /* ours is far ahead of the manager's */

    renewal_rest(&r, wall_ms);
    assert_in_range(renewal_wait_ms(&r, wall_ms, 0), HOUR_MS, HOUR_MS);
    assert_int_equal(r.due_ms, wall_ms + DAY_MS / 10);
    r = certificate(DAY_MS, 0);
    renewal_rest(&r, ISSUED);
    assert_int_equal(r.due_ms, ISSUED + DAY_MS / 2); /* as usual */
}

static void certificate_that_was_never_valid_is_due_at_once(void **state)
{
    struct renewal r;

    renewal_begin(&r, ISSUED, ISSUED - 5, BACKDATE, UINT32_MAX);
    assert_int_equal(renewal_wait_ms(&r, ISSUED, 0), 0);
    assert_true(renewal_expired(&r, ISSUED));
}

static void wanted_now_is_due_after_the_delay_whatever_the_dates_say(void **state)
{
    struct renewal r = certificate(DAY_MS, 0);

    renewal_want(&r, ISSUED, 5000, 300);
    assert_int_equal(renewal_wait_ms(&r, ISSUED, 5000), 300);
    assert_int_equal(renewal_wait_ms(&r, ISSUED, 5300), 0);
    renewal_want(&r, ISSUED, 6000, 0);
    assert_int_equal(renewal_wait_ms(&r, ISSUED, 6000), 0);
}

static void shorter_lifetime_pulls_it_in_and_a_longer_one_does_nothing(void **state)
{
    for (int i = 0; i < 500; i++) {
        struct renewal r;
        uint32_t random = (uint32_t)i * 8589934;

        renewal_begin(&r, 0, 100 * DAY_MS, 0, random);
        int64_t due_ms = r.due_ms;
        renewal_shorten(&r, 0, 100 * DAY_MS, 0, random);
        renewal_shorten(&r, 0, 200 * DAY_MS, 0, random);
        renewal_shorten(&r, 0, 0, 0, random); /* not said */
        assert_int_equal(r.due_ms, due_ms);
        renewal_shorten(&r, DAY_MS, 10 * DAY_MS, 0, random);
        assert_true(r.due_ms >= 5 * DAY_MS && r.due_ms <= 8 * DAY_MS);
        renewal_shorten(&r, 20 * DAY_MS, 10 * DAY_MS, 600000, random);
        assert_true(r.due_ms >= 5 * DAY_MS && r.due_ms <= 8 * DAY_MS); /* it is due already: no later than it was */
        renewal_begin(&r, 0, 100 * DAY_MS, 0, random);
        renewal_shorten(&r, 20 * DAY_MS, 10 * DAY_MS, 600000, random);
        assert_true(r.due_ms >= 20 * DAY_MS && r.due_ms <= 20 * DAY_MS + 600000); /* at once, but not all at once */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(due_between_half_and_four_fifths_of_its_life),
        cmocka_unit_test(nodes_that_joined_together_do_not_renew_together),
        cmocka_unit_test(nothing_happens_before_it_is_due_whatever_the_clock_does),
        cmocka_unit_test(failures_wait_longer_and_longer_up_to_five_minutes),
        cmocka_unit_test(short_lives_leave_room_for_many_attempts),
        cmocka_unit_test(clocks_that_disagree_do_not_lead_to_a_storm),
        cmocka_unit_test(certificate_that_was_never_valid_is_due_at_once),
        cmocka_unit_test(wanted_now_is_due_after_the_delay_whatever_the_dates_say),
        cmocka_unit_test(shorter_lifetime_pulls_it_in_and_a_longer_one_does_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
