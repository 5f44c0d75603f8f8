/* /etc/hosts and /etc/resolv.conf say what was asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/container/netfiles.h"
#include "proto/base/mem.h"

static HostConfig host = HOST_CONFIG__INIT;

static int fresh(void **state)
{
    host_config__init(&host);
    return 0;
}

static void hosts_file_has_local_names_and_extra_ones(void **state)
{
    AUTO_BUF struct buf out = {0};
    const char *extra[] = {"db:10.0.0.2", "six=[fe80::1]", "seven:::1"};

    host.extra_hosts = (char **)extra;
    host.n_extra_hosts = 3;
    assert_int_equal(netfiles_check(&host, NULL), 0);
    netfiles_hosts(&host, NULL, &out);
    assert_ptr_equal(strstr(buf_str(&out), "127.0.0.1\tlocalhost\n"), buf_str(&out));
    assert_non_null(strstr(buf_str(&out), "\n::1\tlocalhost ip6-localhost"));
    assert_non_null(strstr(buf_str(&out), "\n10.0.0.2\tdb\nfe80::1\tsix\n::1\tseven\n"));
}

static void hosts_file_of_the_machine_is_kept_for_its_network(void **state)
{
    AUTO_BUF struct buf out = {0};
    const char *extra[] = {"db:10.0.0.2"};

    host.extra_hosts = (char **)extra;
    host.n_extra_hosts = 1;
    netfiles_hosts(&host, "127.0.0.1 here", &out);
    assert_string_equal(buf_str(&out), "127.0.0.1 here\n10.0.0.2\tdb\n");
}

static const char machine[] = "# made by somebody\nnameserver 127.0.0.53\nnameserver 10.1.1.1\nnameserver ::1\n"
                              "search here.example\noptions edns0\nsortlist 1.2.3.4\n";

static void resolver_follows_the_machine(void **state)
{
    AUTO_BUF struct buf own = {0}, shared = {0};

    netfiles_resolv(&host, machine, true, &own);
    assert_string_equal(buf_str(&own), "nameserver 10.1.1.1\nsearch here.example\noptions edns0\n"
                                       "sortlist 1.2.3.4\n");
    netfiles_resolv(NULL, machine, false, &shared);
    assert_non_null(strstr(buf_str(&shared), "nameserver 127.0.0.53\n"));
    assert_non_null(strstr(buf_str(&shared), "nameserver ::1\n"));
}

static void own_settings_replace_the_machine_s(void **state)
{
    AUTO_BUF struct buf out = {0}, nothing = {0};
    const char *servers[] = {"9.9.9.9", "fe80::1"}, *search[] = {"a.example", "b.example"},
               *options[] = {"ndots:2"};
    const char *none[] = {"."};

    host.dns = (char **)servers;
    host.n_dns = 2;
    host.dns_search = (char **)search;
    host.n_dns_search = 2;
    host.dns_options = (char **)options;
    host.n_dns_options = 1;
    assert_int_equal(netfiles_check(&host, NULL), 0);
    netfiles_resolv(&host, machine, true, &out);
    assert_string_equal(buf_str(&out), "sortlist 1.2.3.4\nnameserver 9.9.9.9\nnameserver fe80::1\n"
                                       "search a.example b.example\noptions ndots:2\n");
    host.dns_search = (char **)none;
    host.n_dns_search = 1;
    netfiles_resolv(&host, machine, true, &nothing);
    assert_null(strstr(buf_str(&nothing), "search"));
}

static void what_would_not_stand_in_a_file_is_refused(void **state)
{
    static const struct {
        const char *entry;
        int code;
    } extra[] = {
        {"db", ERR_INVALID},           {":1.2.3.4", ERR_INVALID},
        {"db:1.2.3", ERR_INVALID},     {"d b:1.2.3.4", ERR_INVALID},
        {"db\n:1.2.3.4", ERR_INVALID}, {"db:1.2.3.4\n5.6.7.8 x", ERR_INVALID},
        {"#db:1.2.3.4", ERR_INVALID},  {"db:host-gateway", ERR_UNSUPPORTED},
    };
    struct err e = {0};
    const char *word;

    for (size_t i = 0; i < ARRAY_SIZE(extra); i++) {
        const char *entry = extra[i].entry;

        host.extra_hosts = (char **)&entry;
        host.n_extra_hosts = 1;
        assert_int_equal(netfiles_check(&host, &e), extra[i].code);
    }
    host.n_extra_hosts = 0;
    word = "a\nnameserver 6.6.6.6";
    host.dns_search = (char **)&word;
    host.n_dns_search = 1;
    assert_int_equal(netfiles_check(&host, &e), ERR_INVALID);
    host.n_dns_search = 0;
    host.dns_options = (char **)&word;
    host.n_dns_options = 1;
    assert_int_equal(netfiles_check(&host, &e), ERR_INVALID);
    host.n_dns_options = 0;
    word = "dns.example";
    host.dns = (char **)&word;
    host.n_dns = 1;
    assert_int_equal(netfiles_check(&host, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "\"dns.example\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(hosts_file_has_local_names_and_extra_ones, fresh),
        cmocka_unit_test_setup(hosts_file_of_the_machine_is_kept_for_its_network, fresh),
        cmocka_unit_test_setup(resolver_follows_the_machine, fresh),
        cmocka_unit_test_setup(own_settings_replace_the_machine_s, fresh),
        cmocka_unit_test_setup(what_would_not_stand_in_a_file_is_refused, fresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
