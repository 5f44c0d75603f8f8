/* Addresses as users give them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/address.h"
#include "proto/base/mem.h"

static void listen_addresses_get_a_port_and_lose_their_interface_name(void **state)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"", "0.0.0.0:2377"},
        {"0.0.0.0:2377", "0.0.0.0:2377"},
        {"127.0.0.1", "127.0.0.1:2377"},
        {"127.0.0.1:99", "127.0.0.1:99"},
        {"lo:4567", "127.0.0.1:4567"},
        {"lo", "127.0.0.1:2377"},
        {"::1", "[::1]:2377"},
        {"[::1]:5", "[::1]:5"},
        {"[fd00::1]", "[fd00::1]:2377"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char address[ADDRESS_TEXT];
        struct err e;

        if (address_listen(cases[i].text, 2377, "ListenAddr", address, &e) < 0)
            fail_msg("%s: %s", cases[i].text, e.text);
        assert_string_equal(address, cases[i].expected);
    }
}

static void malformed_addresses_are_refused_with_field_and_value(void **state)
{
    static const char *const cases[] = {"127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:x",
                                        "127.0.0.1:",  "nosuchif0",       "[::1",
                                        "[::1]x",      "300.0.0.1",       "1.2.3.4:99999999999999999999"};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char address[ADDRESS_TEXT];
        struct err e = {0};

        assert_int_equal(address_listen(cases[i], 2377, "ListenAddr", address, &e), ERR_INVALID);
        assert_non_null(strstr(e.text, "ListenAddr"));
    }
}

static void advertised_address_follows_the_listen_address(void **state)
{
    char address[ADDRESS_TEXT];
    struct err e;

    assert_int_equal(address_advertise("", "127.0.0.1:44", address, &e), 0);
    assert_string_equal(address, "127.0.0.1:44");
    assert_int_equal(address_advertise("10.1.2.3", "0.0.0.0:44", address, &e), 0);
    assert_string_equal(address, "10.1.2.3:44");
    assert_int_equal(address_advertise("10.1.2.3:7", "0.0.0.0:44", address, &e), 0);
    assert_string_equal(address, "10.1.2.3:7");
    assert_int_equal(address_advertise("0.0.0.0", "0.0.0.0:44", address, &e), ERR_INVALID);
}

static void who_advertises_ipv6_listens_to_it(void **state)
{
    static const struct {
        const char *listen, *advertise, *expected;
    } cases[] = {
        {"0.0.0.0:2377", "[fd00::1]:2377", "[::]:2377"},   {"0.0.0.0:44", "[fd00::1]:2377", "[::]:44"},
        {"0.0.0.0:2377", "10.0.0.1:2377", "0.0.0.0:2377"}, {"10.0.0.1:2377", "[fd00::1]:2377", "10.0.0.1:2377"},
        {"[::]:2377", "[fd00::1]:2377", "[::]:2377"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char address[ADDRESS_TEXT];

        address_hear(cases[i].listen, cases[i].advertise, address);
        assert_string_equal(address, cases[i].expected);
    }
}

static void host_and_port_come_apart(void **state)
{
    char host[64];

    address_host("[::1]:5", host, sizeof(host));
    assert_string_equal(host, "::1");
    address_host("10.0.0.1:2377", host, sizeof(host));
    assert_string_equal(host, "10.0.0.1");
    assert_int_equal(address_port("[::1]:5"), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(listen_addresses_get_a_port_and_lose_their_interface_name),
        cmocka_unit_test(malformed_addresses_are_refused_with_field_and_value),
        cmocka_unit_test(advertised_address_follows_the_listen_address),
        cmocka_unit_test(who_advertises_ipv6_listens_to_it),
        cmocka_unit_test(host_and_port_come_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
