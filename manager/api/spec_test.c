/* Specs survive the way through the messages, and what is not offered or malformed is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "manager/api/spec.h"
#include "proto/base/jread.h"
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

static int read_text(const char *text, ServiceSpec **ret, struct err *e)
{
    AUTO_JSON json_t *root = NULL;
    int rc = jread_parse(text, strlen(text), &root, e);

    return rc < 0 ? rc : spec_read_service(root, &arena, ret, e);
}

static const char full[] =
    "{\"Name\":\"web\",\"Labels\":{\"a\":\"1\",\"b\":\"\"},\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:"
    "1\","
    "\"Labels\":{\"x\":\"y\"},\"Command\":[\"/bin/"
    "sh\"],\"Args\":[\"-c\",\"true\"],\"Hostname\":\"h\",\"Env\":[\"A=1\"],"
    "\"Dir\":\"/\",\"User\":\"1:2\",\"Groups\":[\"3\"],\"Privileges\":{\"Seccomp\":{\"Mode\":\"unconfined\"},"
    "\"AppArmor\":{\"Mode\":\"disabled\"},\"NoNewPrivileges\":true},\"Init\":false,\"StopSignal\":\"SIGINT\","
    "\"TTY\":true,"
    "\"OpenStdin\":true,\"ReadOnly\":true,\"Mounts\":[{\"Type\":\"bind\",\"Source\":\"/a\",\"Target\":\"/"
    "b\",\"ReadOnly\":"
    "true,\"BindOptions\":{\"Propagation\":\"rslave\",\"NonRecursive\":true}},{\"Type\":\"volume\",\"Source\":"
    "\"v\","
    "\"Target\":\"/"
    "c\",\"VolumeOptions\":{\"NoCopy\":true,\"Labels\":{\"l\":\"1\"},\"Subpath\":\"s\",\"DriverConfig\":{"
    "\"Name\":\"local\",\"Options\":{\"o\":\"x\"}}}},{\"Type\":\"tmpfs\",\"Target\":\"/"
    "d\",\"TmpfsOptions\":{\"SizeBytes\":"
    "1024,\"Mode\":448}}],\"StopGracePeriod\":1000000000,\"Hosts\":[\"10.0.0.1 "
    "db\"],\"DNSConfig\":{\"Nameservers\":["
    "\"1.1.1.1\"],\"Search\":[\"s\"],\"Options\":[\"o\"]},\"Isolation\":\"default\",\"Sysctls\":{\"net.core."
    "somaxconn\":"
    "\"1\"},\"CapabilityAdd\":[\"CAP_SYS_TIME\"],\"CapabilityDrop\":[\"ALL\"],\"Ulimits\":[{\"Name\":\"nofile\","
    "\"Hard\":2,"
    "\"Soft\":1}],\"OomScoreAdj\":5},\"Resources\":{\"Limits\":{\"NanoCPUs\":500000000,\"MemoryBytes\":67108864,"
    "\"Pids\":10},"
    "\"Reservations\":{\"NanoCPUs\":1,\"MemoryBytes\":2,\"GenericResources\":[{\"DiscreteResourceSpec\":{\"Kind\":"
    "\"SSD\","
    "\"Value\":3}},{\"NamedResourceSpec\":{\"Kind\":\"GPU\",\"Value\":\"u1\"}}]}},\"RestartPolicy\":{\"Condition\":"
    "\"on-failure\",\"Delay\":1,\"MaxAttempts\":2,\"Window\":3},\"Placement\":{\"Constraints\":[\"node.role=="
    "manager\"],"
    "\"Preferences\":[{\"Spread\":{\"SpreadDescriptor\":\"node.labels.rack\"}}],\"MaxReplicas\":4,\"Platforms\":[{"
    "\"Architecture\":\"amd64\",\"OS\":\"linux\"}]},\"Networks\":[{\"Target\":\"host\",\"Aliases\":[\"al\"],"
    "\"DriverOpts\":{"
    "\"k\":\"v\"}}],\"LogDriver\":{\"Name\":\"json-file\",\"Options\":{\"max-size\":\"1m\"}},\"ForceUpdate\":7,"
    "\"Runtime\":"
    "\"container\"},\"Mode\":{\"Replicated\":{\"Replicas\":3}},\"UpdateConfig\":{\"Parallelism\":2,\"Delay\":1,"
    "\"FailureAction\":\"rollback\",\"Monitor\":5,\"MaxFailureRatio\":0.1,\"Order\":\"start-first\"},"
    "\"RollbackConfig\":{"
    "\"Parallelism\":1,\"FailureAction\":\"continue\",\"MaxFailureRatio\":0,\"Order\":\"stop-first\"},"
    "\"EndpointSpec\":{"
    "\"Mode\":\"dnsrr\",\"Ports\":[{\"Name\":\"p\",\"Protocol\":\"udp\",\"TargetPort\":53,\"PublishedPort\":5353,"
    "\"PublishMode\":\"host\"}]}}";

static void full_spec_comes_back_as_it_was_written(void **state)
{
    ServiceSpec *spec;
    struct err e;
    AUTO_BUF struct buf out = {0};
    struct jwrite j = JWRITE_TO(&out);

    if (read_text(full, &spec, &e) < 0)
        fail_msg("%s", e.text);
    spec = arena_message(&arena, &spec->base); /* as it is stored */
    jmap_write(&j, NULL, &spec_service_map, &spec->base);
    assert_string_equal(buf_str(&out), full);
}

static void absent_fields_stay_absent(void **state)
{
    ServiceSpec *spec;

    assert_int_equal(
        read_text("{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"i\"}},\"Mode\":null,"
                  "\"Unknown\":1}",
                  &spec, NULL),
        0);
    assert_false(spec->has_mode);
    assert_null(spec->update);
    assert_null(spec->task->restart);
    assert_false(spec->task->container->has_tty);
}

static void update_config_without_parallelism_is_unlimited(void **state)
{
    ServiceSpec *spec;

    assert_int_equal(read_text("{\"UpdateConfig\":{\"Delay\":5}}", &spec, NULL), 0);
    assert_true(spec->update->has_parallelism);
    assert_int_equal(spec->update->parallelism, 0);
}

static void networks_of_old_clients_reach_the_task(void **state)
{
    ServiceSpec *spec;

    assert_int_equal(read_text("{\"TaskTemplate\":{},\"Networks\":[{\"Target\":\"host\"}]}", &spec, NULL), 0);
    assert_int_equal(spec->task->n_networks, 1);
    assert_string_equal(spec->task->networks[0]->target, "host");
}

static void malformed_and_unoffered_fields_are_refused_by_name(void **state)
{
    static const struct {
        const char *text;
        int code;
        const char *names[2]; /* must stand in the message */
    } cases[] = {
        {"{\"Name\":5}", ERR_INVALID, {"Name", "5"}},
        {"{\"Labels\":[]}", ERR_INVALID, {"Labels", "[]"}},
        {"{\"Labels\":{\"a\":1}}", ERR_INVALID, {"Labels", "1"}},
        {"{\"TaskTemplate\":\"x\"}", ERR_INVALID, {"TaskTemplate", "x"}},
        {"{\"TaskTemplate\":{\"ContainerSpec\":{\"Env\":\"A=1\"}}}",
         ERR_INVALID,
         {"TaskTemplate.ContainerSpec.Env"}},
        {"{\"TaskTemplate\":{\"ContainerSpec\":{\"Env\":[1]}}}", ERR_INVALID, {"ContainerSpec.Env[0]", "1"}},
        {"{\"TaskTemplate\":{\"ContainerSpec\":{\"Mounts\":[{\"Type\":\"npipe\"}]}}}",
         ERR_INVALID,
         {"Mounts[0].Type", "npipe"}},
        {"{\"TaskTemplate\":{\"ContainerSpec\":{\"Secrets\":[{}]}}}", ERR_UNSUPPORTED, {"ContainerSpec.Secrets"}},
        {"{\"TaskTemplate\":{\"ContainerSpec\":{\"Privileges\":{\"Seccomp\":{\"Mode\":\"loose\"}}}}}",
         ERR_INVALID,
         {"Seccomp.Mode", "loose"}},
        {"{\"TaskTemplate\":{\"RestartPolicy\":{\"Condition\":\"sometimes\"}}}",
         ERR_INVALID,
         {"Condition", "sometimes"}},
        {"{\"TaskTemplate\":{\"RestartPolicy\":{\"MaxAttempts\":-1}}}", ERR_INVALID, {"MaxAttempts", "-1"}},
        {"{\"TaskTemplate\":{\"Placement\":{\"Preferences\":[{}]}}}", ERR_INVALID, {"Preferences[0]"}},
        {"{\"TaskTemplate\":{\"Resources\":{\"Reservations\":{\"GenericResources\":[{}]}}}}",
         ERR_INVALID,
         {"GenericResources[0]"}},
        {"{\"Mode\":{\"Replicated\":{},\"Global\":{}}}", ERR_INVALID, {"Mode", "more than one"}},
        {"{\"Mode\":{\"Replicated\":{\"Replicas\":\"3\"}}}", ERR_INVALID, {"Mode.Replicated.Replicas", "3"}},
        {"{\"Mode\":{\"ReplicatedJob\":{}}}", ERR_UNSUPPORTED, {"Mode", "job"}},
        {"{\"RollbackConfig\":{\"FailureAction\":\"rollback\"}}", ERR_INVALID, {"RollbackConfig.FailureAction"}},
        {"{\"EndpointSpec\":{\"Ports\":[{\"Protocol\":\"icmp\"}]}}", ERR_INVALID, {"Ports[0].Protocol", "icmp"}},
        {"{\"EndpointSpec\":{\"Ports\":[{\"TargetPort\":4294967296}]}}", ERR_INVALID, {"TargetPort", "4294967296"}},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct err e = {0};
        ServiceSpec *spec;
        int rc = read_text(cases[i].text, &spec, &e);

        if (rc != cases[i].code)
            fail_msg("%s: code %d, %s", cases[i].text, rc, e.text);
        for (int k = 0; k < 2 && cases[i].names[k]; k++)
            if (!strstr(e.text, cases[i].names[k]))
                fail_msg("%s: \"%s\" does not name %s", cases[i].text, e.text, cases[i].names[k]);
    }
}

static void cluster_spec_is_read_in_groups_and_written_back(void **state)
{
    static const char text[] =
        "{\"Name\":\"default\",\"Labels\":{},\"Orchestration\":{\"TaskHistoryRetentionLimit\":7},\"Raft\":{"
        "\"SnapshotInterval\":10000},\"Dispatcher\":{\"HeartbeatPeriod\":5000000000},\"CAConfig\":{"
        "\"NodeCertExpiry\":7776000000000000},\"EncryptionConfig\":{\"AutoLockManagers\":false},\"TaskDefaults\":{}"
        "}";
    AUTO_JSON json_t *root = NULL;
    ClusterSpec *spec;
    AUTO_BUF struct buf out = {0};
    struct jwrite j = JWRITE_TO(&out);

    assert_int_equal(jread_parse(text, strlen(text), &root, NULL), 0);
    assert_int_equal(spec_read_cluster(root, &arena, &spec, NULL), 0);
    assert_int_equal(spec->task_history_limit, 7);
    jmap_write(&j, NULL, &spec_cluster_map, &spec->base);
    assert_string_equal(buf_str(&out), text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(full_spec_comes_back_as_it_was_written, setup, teardown),
        cmocka_unit_test_setup_teardown(absent_fields_stay_absent, setup, teardown),
        cmocka_unit_test_setup_teardown(update_config_without_parallelism_is_unlimited, setup, teardown),
        cmocka_unit_test_setup_teardown(networks_of_old_clients_reach_the_task, setup, teardown),
        cmocka_unit_test_setup_teardown(malformed_and_unoffered_fields_are_refused_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(cluster_spec_is_read_in_groups_and_written_back, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
