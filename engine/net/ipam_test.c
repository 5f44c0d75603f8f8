/* Subnets and addresses: tables, and the property that no address is given twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine/net/ipam.h"
#include "proto/base/mem.h"

static struct ipam_subnet subnet(const char *text)
{
    struct ipam_subnet s;

    assert_true(ipam_subnet_parse(text, &s));
    return s;
}

static uint32_t address(const char *text)
{
    uint32_t a;

    assert_true(ipam_address_parse(text, &a));
    return a;
}

static void subnets_are_read_and_written(void **state)
{
    static const struct {
        const char *text, *meant; /* NULL: refused */
    } table[] = {
        {"10.0.0.0/8", "10.0.0.0/8"},
        {"172.18.3.4/16", "172.18.0.0/16"},
        {"192.168.7.255/20", "192.168.0.0/20"},
        {"10.1.2.3/30", "10.1.2.0/30"},
        {"128.0.0.0/1", "128.0.0.0/1"},
        {"10.0.0.0/31", NULL},
        {"10.0.0.0/33", NULL},
        {"10.0.0.0/0", NULL},
        {"10.0.0.0", NULL},
        {"10.0.0.0/", NULL},
        {"10.0.0.0/+8", NULL},
        {"10.0.0.0/8x", NULL},
        {"10.0.0/8", NULL},
        {"fd00::/64", NULL},
        {"", NULL},
        {"255.255.255.255.255/8", NULL},
        {"10.0.0.0/99999999999999999999", NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct ipam_subnet s;
        char text[IPAM_TEXT];

        assert_int_equal(ipam_subnet_parse(table[i].text, &s), table[i].meant != NULL);
        if (!table[i].meant)
            continue;
        ipam_subnet_format(&s, text);
        assert_string_equal(text, table[i].meant);
    }
}

static void overlaps_are_seen_from_both_sides(void **state)
{
    static const struct {
        const char *a, *b;
        bool overlap;
    } table[] = {
        {"10.0.0.0/8", "10.1.0.0/16", true},          {"10.0.0.0/16", "10.1.0.0/16", false},
        {"10.0.0.0/24", "10.0.0.0/24", true},         {"10.0.0.0/25", "10.0.0.128/25", false},
        {"192.168.0.0/20", "192.168.16.0/20", false}, {"0.0.0.0/1", "10.0.0.0/8", true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct ipam_subnet a = subnet(table[i].a), b = subnet(table[i].b);

        assert_int_equal(ipam_overlap(&a, &b), table[i].overlap);
        assert_int_equal(ipam_overlap(&b, &a), table[i].overlap);
    }
}

static void default_pools_are_given_in_order_and_end(void **state)
{
    struct ipam_subnet taken[64], s;
    size_t count = 0;
    struct err e;
    char text[IPAM_TEXT];

    taken[count++] = subnet("172.19.7.0/24"); /* a route of the machine: all of 172.19 is left out */
    while (ipam_choose(taken, count, &s, &e) == 0) {
        for (size_t i = 0; i < count; i++)
            assert_false(ipam_overlap(&s, &taken[i]));
        ipam_subnet_format(&s, text);
        if (count == 1)
            assert_string_equal(text, "172.17.0.0/16");
        if (count == 3)
            assert_string_equal(text, "172.20.0.0/16");
        if (count == 15)
            assert_string_equal(text, "192.168.0.0/20");
        taken[count++] = s;
    }
    assert_int_equal(count, 1 + 14 + 16);
    assert_int_equal(e.code, ERR_UNAVAILABLE);
}

static void what_is_no_host_is_not_given(void **state)
{
    struct ipam_pool p = {.subnet = subnet("10.0.0.0/24"), .range = subnet("10.0.0.0/24")};
    int me;
    struct err e;

    assert_int_equal(ipam_take(&p, address("10.0.0.0"), &me, &e), ERR_INVALID);
    assert_int_equal(ipam_take(&p, address("10.0.0.255"), &me, &e), ERR_INVALID);
    assert_int_equal(ipam_take(&p, address("10.0.1.1"), &me, &e), ERR_INVALID);
    assert_string_equal(e.text, "address 10.0.1.1 is not one of subnet 10.0.0.0/24");
    assert_int_equal(ipam_take(&p, address("10.0.0.1"), &me, &e), 0);
    assert_int_equal(ipam_take(&p, address("10.0.0.1"), &e, &e), ERR_CONFLICT);
    ipam_give(&p, address("10.0.0.1"), &e); /* another's */
    assert_int_equal(ipam_take(&p, address("10.0.0.1"), &e, &e), ERR_CONFLICT);
    ipam_give(&p, address("10.0.0.1"), &me);
    assert_int_equal(ipam_take(&p, address("10.0.0.1"), &me, &e), 0);
    ipam_fini(&p);
}

static void range_bounds_what_is_given_without_a_wish(void **state)
{
    struct ipam_pool p = {.subnet = subnet("10.0.0.0/24"), .range = subnet("10.0.0.252/30")};
    int me;
    uint32_t a;
    struct err e;

    for (int i = 0; i < 3; i++) { /* the fourth is the broadcast address */
        assert_int_equal(ipam_take_any(&p, &me, &a, &e), 0);
        assert_true(ipam_contains(&p.range, a));
    }
    assert_int_equal(ipam_take_any(&p, &me, &a, &e), ERR_UNAVAILABLE);
    assert_int_equal(ipam_take(&p, address("10.0.0.7"), &me, &e), 0); /* by wish, from anywhere */
    ipam_give(&p, address("10.0.0.253"), &me);
    assert_int_equal(ipam_take_any(&p, &me, &a, &e), 0);
    assert_int_equal(a, address("10.0.0.253"));
    ipam_fini(&p);
}

static void address_given_back_rests_while_others_are_free(void **state)
{
    struct ipam_pool p = {.subnet = subnet("10.0.0.0/24"), .range = subnet("10.0.0.0/24")};
    int me;
    uint32_t a, b;

    assert_int_equal(ipam_take_any(&p, &me, &a, NULL), 0);
    ipam_give(&p, a, &me);
    assert_int_equal(ipam_take_any(&p, &me, &b, NULL), 0);
    assert_int_equal(b, a + 1);
    ipam_fini(&p);
}

/* Against a plain table of owners. */
static void no_address_is_given_twice_and_none_is_lost(void **state)
{
    unsigned seed = (unsigned)time(NULL);
    struct ipam_pool p = {.subnet = subnet("10.9.8.0/26"), .range = subnet("10.9.8.0/26")};
    const char *owners[64] = {NULL};
    static const char names[8] = "abcdefg";
    unsigned taken = 0;

    print_message("seed %u\n", seed);
    for (int round = 0; round < 20000; round++) {
        const char *who = &names[rand_r(&seed) % 8];
        uint32_t at = (uint32_t)rand_r(&seed) % 64, a = p.subnet.base + at;
        bool is_host = at != 0 && at != 63;

        switch (rand_r(&seed) % 4) {
        case 0:
            assert_int_equal(ipam_take(&p, a, (void *)who, NULL) == 0, is_host && !owners[at]);
            taken += is_host && !owners[at];
            owners[at] = is_host && !owners[at] ? who : owners[at];
            break;
        case 1:
        case 2:
            assert_int_equal(ipam_take_any(&p, (void *)who, &a, NULL) == 0, taken < 62);
            if (taken == 62)
                break;
            at = a - p.subnet.base;
            assert_true(at > 0 && at < 63 && !owners[at]);
            owners[at] = who;
            taken++;
            break;
        default:
            ipam_give(&p, a, who);
            taken -= owners[at] == who;
            owners[at] = owners[at] == who ? NULL : owners[at];
        }
    }
    ipam_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subnets_are_read_and_written),
        cmocka_unit_test(overlaps_are_seen_from_both_sides),
        cmocka_unit_test(default_pools_are_given_in_order_and_end),
        cmocka_unit_test(what_is_no_host_is_not_given),
        cmocka_unit_test(range_bounds_what_is_given_without_a_wish),
        cmocka_unit_test(address_given_back_rests_while_others_are_free),
        cmocka_unit_test(no_address_is_given_twice_and_none_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
