/* Addresses: numeric ones only, both ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

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

static void a_socket_of_all_addresses_hears_both_families(void **state)
{
    static const char *const families[] = {"[::1]", "127.0.0.1"};
    struct sockaddr_storage bound;
    socklen_t size = sizeof(bound);
    struct err e;
    AUTO_CLOSE
    int fd = -1;

    if (tcp_bind("[::]:0", &fd, &e) < 0)
        skip(); /* no IPv6 here */
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&bound, &size), 0);
    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        struct sockaddr_storage address, peer;
        char text[TCP_TEXT];

        (void)snprintf(text, sizeof(text), "%s:%d", families[i], tcp_port(&bound));
        assert_int_equal(tcp_parse(text, &address, &size, &e), 0);
        AUTO_CLOSE
        int client = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(client, (struct sockaddr *)&address, size), 0);
        size = sizeof(peer);
        AUTO_CLOSE
        int accepted = accept4(fd, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC);
        assert_true(accepted >= 0);
        tcp_format(&peer, text);
        assert_int_equal(strncmp(text, families[i], strlen(families[i])), 0); /* [::ffff:127.0.0.1] is not said */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_come_back_as_they_were),
        cmocka_unit_test(names_and_halves_are_refused),
        cmocka_unit_test(a_socket_of_all_addresses_hears_both_families),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
