/* Addresses: numeric ones only, both ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/mem.h"
#include "proto/wire/tcp.h"

static void addresses_come_back_as_they_were(void **state)
{
    static const struct {
        const char *text, *shown; /* shown NULL: the same */
        int port;
    } cases[] = {
        {"127.0.0.1:2377", NULL, 2377},
        {"0.0.0.0:0", NULL, 0},
        {"255.255.255.255:65535", NULL, 65535},
        {"[::1]:80", NULL, 80},
        {"[::]:0", NULL, 0},
        {"[2001:db8:0:0:0:0:0:1]:007", "[2001:db8::1]:7", 7},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct sockaddr_storage address;
        socklen_t size = 0;
        char text[TCP_TEXT];

        assert_int_equal(tcp_parse(cases[i].text, &address, &size, NULL), 0);
        assert_true(size > 0);
        assert_int_equal(tcp_port(&address), cases[i].port);
        tcp_format(&address, text);
        assert_string_equal(text, cases[i].shown ? cases[i].shown : cases[i].text);
    }
}

static void names_and_halves_are_refused(void **state)
{
    static const char *const cases[] = {"",
                                        ":",
                                        ":80",
                                        "1.2.3.4",
                                        "1.2.3.4:",
                                        "1.2.3.4:x",
                                        "1.2.3.4:-1",
                                        "1.2.3.4:+1",
                                        "1.2.3.4:65536",
                                        "1.2.3.4:80 ",
                                        "host:80",
                                        "::1:80",
                                        "[::1]80",
                                        "[::1]",
                                        "[]:80",
                                        "[1.2.3.4]:80",
                                        "[::1%lo]:80",
                                        "1.2.3:80",
                                        "1.2.3.4:0000080"};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct sockaddr_storage address;
        socklen_t size;
        struct err e;

        if (tcp_parse(cases[i], &address, &size, &e) != ERR_INVALID)
            fail_msg("taken: %s", cases[i]);
        assert_non_null(strstr(e.text, cases[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_come_back_as_they_were),
        cmocka_unit_test(names_and_halves_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
