/* What POST /swarm/init is given: defaults, ranges, pools, and nonsense refused with field and value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "manager/manager.h"
#include "proto/base/mem.h"

static struct arena arena;

static int setup(void **state)
{
    arena_init(&arena);
    return 0;
}

static int teardown(void **state)
{
    arena_fini(&arena);
    return 0;
}

static void empty_request_gets_the_defaults(void **state)
{
    struct manager_init init;

    assert_int_equal(manager_init_parse("{}", 2, &arena, &init, NULL), 0);
    assert_string_equal(init.listen_address, "");
    assert_string_equal(init.advertise_address, "");
    assert_string_equal(init.data_path_address, "");
    assert_false(init.force_new_cluster);
    assert_int_equal(init.availability, NODE_AVAILABILITY__ACTIVE);
    assert_int_equal(init.cluster->n_default_address_pools, 1);
    assert_string_equal(init.cluster->default_address_pools[0], "10.0.0.0/8");
    assert_int_equal(init.cluster->subnet_size, 24);
    assert_int_equal(init.cluster->data_path_port, 4789);
    const ClusterSpec *spec = init.cluster->spec;
    assert_string_equal(spec->name, "default");
    assert_true(spec->has_task_history_limit);
    assert_int_equal(spec->task_history_limit, 5);
    assert_true(spec->heartbeat_period_ns == 5000000000);
    assert_true(spec->node_cert_expiry_ns == 90LL * 24 * 3600 * 1000000000);
}

static void what_is_asked_for_is_read(void **state)
{
    static const char body[] =
        "{\"ListenAddr\":\"0.0.0.0:2377\",\"AdvertiseAddr\":\"eth0:4000\",\"DataPathAddr\":\"10.1.2.3\","
        "\"DataPathPort\":"
        "7789,\"DefaultAddrPool\":[\"10.20.30.40/16\",\"30.30.0.0/16\"],\"SubnetSize\":26,\"ForceNewCluster\":true,"
        "\"Availability\":\"drain\",\"Spec\":{\"Labels\":{\"a\":\"b\"},\"Orchestration\":{"
        "\"TaskHistoryRetentionLimit\":"
        "0},\"Dispatcher\":{\"HeartbeatPeriod\":200000000},\"CAConfig\":{},\"Raft\":{\"SnapshotInterval\":0}}}";
    struct manager_init init;
    struct err e;

    if (manager_init_parse(body, strlen(body), &arena, &init, &e) < 0)
        fail_msg("%s", e.text);
    assert_string_equal(init.listen_address, "0.0.0.0:2377");
    assert_string_equal(init.advertise_address, "eth0:4000");
    assert_string_equal(init.data_path_address, "10.1.2.3");
    assert_true(init.force_new_cluster);
    assert_int_equal(init.availability, NODE_AVAILABILITY__DRAIN);
    assert_int_equal(init.cluster->data_path_port, 7789);
    assert_int_equal(init.cluster->subnet_size, 26);
    assert_int_equal(init.cluster->n_default_address_pools, 2);
    assert_string_equal(init.cluster->default_address_pools[0], "10.20.0.0/16"); /* bits of hosts are dropped */
    assert_string_equal(init.cluster->default_address_pools[1], "30.30.0.0/16");
    assert_int_equal(init.cluster->spec->n_labels, 1);
    assert_int_equal(init.cluster->spec->task_history_limit, 0); /* 0 is a limit */
    assert_true(init.cluster->spec->heartbeat_period_ns == 200000000);
    assert_int_equal(init.cluster->spec->snapshot_interval, 10000); /* 0 is "not given" */
}

static void nonsense_is_refused_with_field_and_value(void **state)
{
    static const struct {
        const char *body;
        int code;
        const char *says[2];
    } cases[] = {
        {"", ERR_INVALID, {"invalid JSON"}},
        {"null", ERR_INVALID, {"invalid JSON"}},
        {"[]", ERR_INVALID, {"expected an object"}},
        {"{\"ListenAddr\":5}", ERR_INVALID, {"ListenAddr", "5"}},
        {"{\"ForceNewCluster\":\"yes\"}", ERR_INVALID, {"ForceNewCluster", "yes"}},
        {"{\"AutoLockManagers\":1}", ERR_INVALID, {"AutoLockManagers", "1"}},
        {"{\"Availability\":\"asleep\"}", ERR_INVALID, {"Availability", "asleep"}},
        {"{\"DataPathPort\":1023}", ERR_INVALID, {"DataPathPort", "1023"}},
        {"{\"DataPathPort\":49152}", ERR_INVALID, {"DataPathPort", "49152"}},
        {"{\"DataPathPort\":-1}", ERR_INVALID, {"DataPathPort", "-1"}},
        {"{\"DataPathPort\":4294971085}", ERR_INVALID, {"DataPathPort", "4294971085"}},
        {"{\"DataPathPort\":\"4789\"}", ERR_INVALID, {"DataPathPort", "4789"}},
        {"{\"SubnetSize\":30}", ERR_INVALID, {"SubnetSize", "30"}},
        {"{\"SubnetSize\":7}", ERR_INVALID, {"DefaultAddrPool", "SubnetSize 7"}},
        {"{\"SubnetSize\":24,\"DefaultAddrPool\":[\"10.0.0.0/25\"]}",
         ERR_INVALID,
         {"10.0.0.0/25", "SubnetSize 24"}},
        {"{\"DefaultAddrPool\":\"10.0.0.0/8\"}", ERR_INVALID, {"DefaultAddrPool", "10.0.0.0/8"}},
        {"{\"DefaultAddrPool\":[\"10.0.0.0\"]}", ERR_INVALID, {"DefaultAddrPool", "10.0.0.0"}},
        {"{\"DefaultAddrPool\":[\"10.0.0.256/8\"]}", ERR_INVALID, {"DefaultAddrPool", "10.0.0.256/8"}},
        {"{\"DefaultAddrPool\":[\"10.0.0/8\"]}", ERR_INVALID, {"DefaultAddrPool", "10.0.0/8"}},
        {"{\"DefaultAddrPool\":[\"10.0.0.0/33\"]}", ERR_INVALID, {"DefaultAddrPool", "/33"}},
        {"{\"DefaultAddrPool\":[\"10.0.0.0/8 \"]}", ERR_INVALID, {"DefaultAddrPool"}},
        {"{\"DefaultAddrPool\":[\"+10.0.0.0/8\"]}", ERR_INVALID, {"DefaultAddrPool"}},
        {"{\"DefaultAddrPool\":[\"fd00::/8\"]}", ERR_INVALID, {"DefaultAddrPool", "fd00::/8"}},
        {"{\"DefaultAddrPool\":[\"\"]}", ERR_INVALID, {"DefaultAddrPool"}},
        {"{\"DefaultAddrPool\":[\"10.0.0.0/8\",\"10.200.0.0/16\"]}", ERR_INVALID, {"10.200.0.0/16", "overlaps"}},
        {"{\"DefaultAddrPool\":[\"0.0.0.0/0\",\"10.0.0.0/8\"]}", ERR_INVALID, {"10.0.0.0/8", "overlaps"}},
        {"{\"Spec\":[]}", ERR_INVALID, {"Spec"}},
        {"{\"Spec\":{\"Name\":\"mine\"}}", ERR_INVALID, {"mine"}},
        {"{\"Spec\":{\"EncryptionConfig\":{\"AutoLockManagers\":\"on\"}}}",
         ERR_INVALID,
         {"AutoLockManagers", "on"}},
        {"{\"Spec\":{\"CAConfig\":{\"ExternalCAs\":[{\"URL\":\"x\"}]}}}", ERR_UNSUPPORTED, {"ExternalCAs"}},
        {"{\"Spec\":{\"CAConfig\":{\"NodeCertExpiry\":1}}}", ERR_INVALID, {"1h0m0s"}},
        {"{\"Spec\":{\"Dispatcher\":{\"HeartbeatPeriod\":1}}}", ERR_INVALID, {"HeartbeatPeriod", "1"}},
        {"{\"Spec\":{\"Orchestration\":{\"TaskHistoryRetentionLimit\":\"few\"}}}", ERR_INVALID, {"few"}},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct err e = {0};
        struct manager_init init;
        int rc = manager_init_parse(cases[i].body, strlen(cases[i].body), &arena, &init, &e);

        if (rc != cases[i].code)
            fail_msg("%s: code %d, \"%s\"", cases[i].body, rc, e.text);
        for (int k = 0; k < 2 && cases[i].says[k]; k++)
            if (!strstr(e.text, cases[i].says[k]))
                fail_msg("%s: \"%s\" does not say %s", cases[i].body, e.text, cases[i].says[k]);
    }
}

static void too_many_pools_are_refused(void **state)
{
    AUTO_BUF struct buf body = {0};
    struct manager_init init;
    struct err e;

    buf_append_str(&body, "{\"DefaultAddrPool\":[");
    for (int i = 0; i < 65; i++)
        buf_printf(&body, "%s\"10.%d.0.0/16\"", i ? "," : "", i);
    buf_append_str(&body, "]}");
    assert_int_equal(manager_init_parse(buf_bytes(&body), body.length, &arena, &init, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "65"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(empty_request_gets_the_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_asked_for_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(nonsense_is_refused_with_field_and_value, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_pools_are_refused, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
