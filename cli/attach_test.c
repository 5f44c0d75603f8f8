/* Ports, mounts, networks and devices as people write them. What docker says to the same is compared in
 * cases_test.c; here is what each part becomes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "cli/attach.h"
#include "proto/base/mem.h"

static void ports_of_services_have_two_forms(void **state)
{
    static const struct {
        const char *text;
        size_t count;
        struct attach_port first, last;
    } table[] = {
        {"80", 1, {"tcp", 80, 0, false}, {"tcp", 80, 0, false}},
        {"8080:80", 1, {"tcp", 80, 8080, false}, {"tcp", 80, 8080, false}},
        {"53:53/udp", 1, {"udp", 53, 53, false}, {"udp", 53, 53, false}},
        {"80-82:8080-8082/sctp", 3, {"sctp", 8080, 80, false}, {"sctp", 8082, 82, false}},
        {"80-82", 3, {"tcp", 80, 0, false}, {"tcp", 82, 0, false}},
        {"target=80", 1, {"tcp", 80, 0, false}, {"tcp", 80, 0, false}},
        {"published=8080,target=80,mode=host,protocol=udp", 1, {"udp", 80, 8080, true}, {"udp", 80, 8080, true}},
        {"mode=ingress,target=80", 1, {"tcp", 80, 0, false}, {"tcp", 80, 0, false}},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_ARENA struct arena a;
        struct attach_port *list;
        size_t count;
        struct err e;

        arena_init(&a);
        assert_int_equal(attach_ports(&a, table[i].text, &list, &count, &e), 0);
        assert_int_equal(count, table[i].count);
        for (int end = 0; end < 2; end++) {
            const struct attach_port *got = end ? &list[count - 1] : &list[0];
            const struct attach_port *wanted = end ? &table[i].last : &table[i].first;

            assert_string_equal(got->protocol, wanted->protocol);
            assert_int_equal(got->target, wanted->target);
            assert_int_equal(got->published, wanted->published);
            assert_int_equal(got->host_mode, wanted->host_mode);
        }
    }
}

static void ports_that_are_none_are_refused(void **state)
{
    static const struct {
        const char *text, *error;
    } table[] = {
        {"", "no port specified: <empty>"},
        {"80:x", "invalid containerPort: x"},
        {"x:80", "invalid hostPort: x"},
        {"99999:80", "invalid hostPort: 99999"},
        {"80/http", "invalid proto: http"},
        {"1-2:3-5", "invalid ranges specified for container and host Ports: 3-5 and 1-2"},
        {"127.0.0.1:80:80", "hostip is not supported"},
        {"nowhere:80:80", "invalid IP address: nowhere"},
        {"target=x", "invalid target port (x): value must be an integer: invalid syntax"},
        {"published=80", "missing mandatory field 'target'"},
        {"target=80,color=red", "invalid field key: color"},
        {"target=80,red", "invalid field: red"},
        {"target=80,mode=sideways", "invalid publish mode value (sideways): must be either 'ingress' or 'host'"},
        {"target=80,protocol=http", "invalid protocol value 'http'"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_ARENA struct arena a;
        struct attach_port *list;
        size_t count;
        struct err e = {0};

        arena_init(&a);
        int rc = attach_ports(&a, table[i].text, &list, &count, &e);
        assert_string_equal(e.text, table[i].error);
        assert_int_equal(rc, ERR_INVALID);
    }
}

static void bindings_of_containers_have_addresses(void **state)
{
    static const struct {
        const char *text;
        size_t count;
        struct attach_binding first;
    } table[] = {
        {"80", 1, {80, "tcp", "", ""}},
        {"8080:80", 1, {80, "tcp", "", "8080"}},
        {"127.0.0.1:8080:80/udp", 1, {80, "udp", "127.0.0.1", "8080"}},
        {"127.0.0.1::80", 1, {80, "tcp", "127.0.0.1", ""}},
        {"[::1]:8080:80", 1, {80, "tcp", "::1", "8080"}},
        {"8000-8010:80", 1, {80, "tcp", "", "8000-8010"}},
        {"9000-9002:9000-9002", 3, {9000, "tcp", "", "9000"}},
    };
    static const char *const wrong[] = {"",        ":",    "80:", "1.2.3:80:80", "80:80:80:80",
                                        "[::1:80", "0x50", "-1",  "80-"};

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_ARENA struct arena a;
        struct attach_binding *list;
        size_t count;
        struct err e;

        arena_init(&a);
        assert_int_equal(attach_bindings(&a, table[i].text, &list, &count, &e), 0);
        assert_int_equal(count, table[i].count);
        assert_int_equal(list[0].port, table[i].first.port);
        assert_string_equal(list[0].protocol, table[i].first.protocol);
        assert_string_equal(list[0].address, table[i].first.address);
        assert_string_equal(list[0].host_port, table[i].first.host_port);
    }
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        AUTO_ARENA struct arena a;
        struct attach_binding *list;
        size_t count;
        struct err e;

        arena_init(&a);
        if (attach_bindings(&a, wrong[i], &list, &count, &e) != ERR_INVALID)
            fail_msg("\"%s\" was taken as a port", wrong[i]);
    }
}

static void exposed_ports_are_ranges(void **state)
{
    AUTO_ARENA struct arena a;
    uint16_t first, last;
    const char *protocol;
    struct err e;

    arena_init(&a);
    assert_int_equal(attach_exposed(&a, "80", &first, &last, &protocol, &e), 0);
    assert_int_equal(first, 80);
    assert_int_equal(last, 80);
    assert_string_equal(protocol, "tcp");
    assert_int_equal(attach_exposed(&a, "80-90/udp", &first, &last, &protocol, &e), 0);
    assert_int_equal(last, 90);
    assert_string_equal(protocol, "udp");
    assert_int_equal(attach_exposed(&a, "90-80", &first, &last, &protocol, &e), ERR_INVALID);
    assert_string_equal(e.text,
                        "invalid range format for --expose: 90-80, error: invalid range specified for port: 90-80");
    assert_int_equal(attach_exposed(&a, "80:80", &first, &last, &protocol, &e), ERR_INVALID);
    assert_int_equal(attach_exposed(&a, "", &first, &last, &protocol, &e), ERR_INVALID);
}

static void mounts_know_all_their_options(void **state)
{
    AUTO_ARENA struct arena a;
    struct attach_mount m;
    struct err e;

    arena_init(&a);
    assert_int_equal(
        attach_mount(&a,
                     "type=volume,src=data,dst=/data,volume-label=a=1,volume-label=b,volume-driver=nfs,"
                     "volume-opt=o=addr=1,volume-nocopy,volume-subpath=x/y,readonly",
                     "/here", &m, &e),
        0);
    assert_string_equal(m.type, "volume");
    assert_string_equal(m.source, "data");
    assert_string_equal(m.target, "/data");
    assert_true(m.read_only && m.no_copy && m.has_volume && !m.has_bind && !m.has_tmpfs);
    assert_int_equal(m.volume_labels.count, 2);
    assert_string_equal(m.volume_labels.list[1].key, "b");
    assert_string_equal(m.volume_labels.list[1].value, "");
    assert_string_equal(m.driver, "nfs");
    assert_string_equal(m.driver_options.list[0].key, "o");
    assert_string_equal(m.driver_options.list[0].value, "addr=1");
    assert_string_equal(m.volume_subpath, "x/y");

    assert_int_equal(
        attach_mount(&a, "type=bind,source=./srv,target=/srv,ro=false,bind-propagation=rslave", "/here", &m, &e),
        0);
    assert_string_equal(m.source, "/here/srv");
    assert_false(m.read_only);
    assert_string_equal(m.propagation, "rslave");

    assert_int_equal(attach_mount(&a, "type=tmpfs,dst=/tmp,tmpfs-size=64m,tmpfs-mode=1777", "/here", &m, &e), 0);
    assert_true(m.tmpfs_bytes == 67108864);
    assert_int_equal(m.tmpfs_mode, 01777);

    assert_int_equal(attach_mount(&a, "dst=/x", "/here", &m, &e), 0);
    assert_string_equal(m.type, "volume");
}

static void mounts_that_are_none_are_refused(void **state)
{
    static const struct {
        const char *text, *error;
    } table[] = {
        {"", NULL},
        {"type=volume", "target is required"},
        {"type=,dst=/x", "type is required"},
        {"dst=/x,color=red", "unexpected key 'color' in 'color=red'"},
        {"dst=/x,src", "invalid field 'src' must be a key=value pair"},
        {"dst=/x,readonly=perhaps", "invalid value for readonly: perhaps"},
        {"type=bind,src=/a,dst=/x,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"},
        {"type=volume,dst=/x,bind-propagation=rslave", "cannot mix 'bind-*' options with mount type 'volume'"},
        {"type=volume,dst=/x,tmpfs-size=1m", "cannot mix 'tmpfs-*' options with mount type 'volume'"},
        {"type=tmpfs,dst=/x,tmpfs-size=big", "invalid value for tmpfs-size: big"},
        {"type=tmpfs,dst=/x,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"},
        {"\"dst=/x", NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_ARENA struct arena a;
        struct attach_mount m;
        struct err e = {0};

        arena_init(&a);
        int rc = attach_mount(&a, table[i].text, "/here", &m, &e);
        if (table[i].error)
            assert_string_equal(e.text, table[i].error);
        assert_int_equal(rc, ERR_INVALID);
    }
}

static void networks_have_two_forms(void **state)
{
    AUTO_ARENA struct arena a;
    struct attach_network n;
    struct err e;

    arena_init(&a);
    assert_int_equal(attach_network(&a, "back", &n, &e), 0);
    assert_string_equal(n.target, "back");
    assert_int_equal(n.aliases_count, 0);
    assert_string_equal(n.address, "");

    assert_int_equal(attach_network(&a,
                                    "name=back,alias=db,alias=sql,driver-opt=k=v,ip=10.0.0.2,ip6=fd00::2,"
                                    "mac-address=02:42:00:00:00:01,link-local-ip=169.254.0.1,gw-priority=-3",
                                    &n, &e),
                     0);
    assert_int_equal(n.aliases_count, 2);
    assert_string_equal(n.aliases[1], "sql");
    assert_string_equal(n.driver_options.list[0].value, "v");
    assert_string_equal(n.address, "10.0.0.2");
    assert_string_equal(n.address6, "fd00::2");
    assert_string_equal(n.mac_address, "02:42:00:00:00:01");
    assert_string_equal(n.link_local[0], "169.254.0.1");
    assert_true(n.gateway_priority == -3);

    assert_int_equal(attach_network(&a, "alias=db", &n, &e), ERR_INVALID);
    assert_string_equal(e.text, "network name/id is not specified");
    assert_int_equal(attach_network(&a, "name=x,color=red", &n, &e), ERR_INVALID);
    assert_string_equal(e.text, "invalid field key color");
    assert_int_equal(attach_network(&a, "name=x,driver-opt=k", &n, &e), ERR_INVALID);
    assert_string_equal(e.text, "invalid key value pair format in driver options");
    assert_int_equal(attach_network(&a, "name=x,gw-priority=high", &n, &e), ERR_INVALID);
}

static void devices_have_up_to_three_parts(void **state)
{
    static const struct {
        const char *text, *host, *container, *permissions;
    } table[] = {
        {"/dev/null", "/dev/null", "/dev/null", "rwm"},
        {"/dev/null:/dev/x", "/dev/null", "/dev/x", "rwm"},
        {"/dev/null:/dev/x:r", "/dev/null", "/dev/x", "r"},
        {"/dev/null:rw", "/dev/null", "/dev/null", "rw"},
        {"", NULL, NULL, NULL},
        {"a:b:c:d", NULL, NULL, NULL},
        {"/dev/null:/dev/x:q", NULL, NULL, NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_ARENA struct arena a;
        struct attach_device d;
        struct err e = {0};

        arena_init(&a);
        int rc = attach_device(&a, table[i].text, &d, &e);
        assert_int_equal(rc, table[i].host ? 0 : ERR_INVALID);
        if (!table[i].host)
            continue;
        assert_string_equal(d.host_path, table[i].host);
        assert_string_equal(d.container_path, table[i].container);
        assert_string_equal(d.permissions, table[i].permissions);
    }
}

static void paths_are_counted_from_a_directory(void **state)
{
    static const struct {
        const char *path, *whole;
    } table[] = {
        {"x", "/a/b/x"},    {"./x", "/a/b/x"},  {"../x", "/a/x"},    {"../../../x", "/x"},
        {"/x//y/", "/x/y"}, {"/x/./y", "/x/y"}, {"/x/../y", "/y"},   {".", "/a/b"},
        {"/", "/"},         {"", "/a/b"},       {"..x", "/a/b/..x"}, {"x/..", "/a/b"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_ARENA struct arena a;

        arena_init(&a);
        assert_string_equal(attach_path(&a, "/a/b", table[i].path), table[i].whole);
    }
}

static void a_later_pair_replaces_an_earlier_one(void **state)
{
    AUTO_ARENA struct arena a;
    struct attach_pairs pairs = {0};

    arena_init(&a);
    attach_pairs_add(&a, &pairs, "a=1");
    attach_pairs_add(&a, &pairs, "b");
    attach_pairs_add(&a, &pairs, "a=2=3");
    assert_int_equal(pairs.count, 2);
    assert_string_equal(pairs.list[0].value, "2=3");
    assert_string_equal(pairs.list[1].value, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ports_of_services_have_two_forms),
        cmocka_unit_test(ports_that_are_none_are_refused),
        cmocka_unit_test(bindings_of_containers_have_addresses),
        cmocka_unit_test(exposed_ports_are_ranges),
        cmocka_unit_test(mounts_know_all_their_options),
        cmocka_unit_test(mounts_that_are_none_are_refused),
        cmocka_unit_test(networks_have_two_forms),
        cmocka_unit_test(devices_have_up_to_three_parts),
        cmocka_unit_test(paths_are_counted_from_a_directory),
        cmocka_unit_test(a_later_pair_replaces_an_earlier_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
