/* What makes no sense is refused with the field and the value; what does is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "manager/api/spec.h"
#include "manager/api/validate.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"

static int check(const char *text, struct err *e)
{
    AUTO_JSON json_t *root = NULL;
    AUTO_ARENA struct arena arena;
    ServiceSpec *spec;

    arena_init(&arena);
    if (jread_parse(text, strlen(text), &root, e) < 0 || spec_read_service(root, &arena, &spec, e) < 0)
        fail_msg("%s: %s", text, e->text);
    return validate_service(spec, e);
}

/* A service with one thing in its container, task or itself. */
#define CONTAINER(members) "{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"i\"," members "}}}"
#define TASK(members)      "{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"i\"}," members "}}"
#define SERVICE(members)   "{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"i\"}}," members "}"
#define MOUNT(members)     CONTAINER("\"Mounts\":[{" members "}]")

static void sensible_specs_are_taken(void **state)
{
    static const char *const cases[] = {
        SERVICE("\"Labels\":{}"),
        CONTAINER("\"Env\":[\"A=\",\"B\",\"C=1=2\"]"),
        CONTAINER("\"StopGracePeriod\":0"),
        CONTAINER("\"Isolation\":\"default\""),
        CONTAINER("\"StopSignal\":\"SIGRTMIN+3\""),
        CONTAINER("\"StopSignal\":\"term\""),
        CONTAINER("\"StopSignal\":\"9\""),
        CONTAINER("\"StopSignal\":\"\""),
        CONTAINER("\"CapabilityAdd\":[\"CAP_NET_ADMIN\",\"sys_time\",\"ALL\"],\"CapabilityDrop\":[\"all\"]"),
        CONTAINER(
            "\"Ulimits\":[{\"Name\":\"nofile\",\"Soft\":10,\"Hard\":10},{\"Name\":\"core\",\"Soft\":5,\"Hard\":-1},"
            "{\"Name\":\"stack\",\"Soft\":-1,\"Hard\":-1}]"),
        CONTAINER(
            "\"Sysctls\":{\"net.core.somaxconn\":\"1024\",\"kernel.shmmax\":\"1\",\"fs.mqueue.msg_max\":\"9\"}"),
        CONTAINER("\"DNSConfig\":{\"Nameservers\":[\"10.0.0.1\",\"fd00::1\"],\"Search\":[\"example.com\",\".\"],"
                  "\"Options\":[\"ndots:2\"]}"),
        CONTAINER("\"Hosts\":[\"10.0.0.1 a b\",\"fd00::1\\tc\"]"),
        MOUNT("\"Type\":\"bind\",\"Source\":\"/a\",\"Target\":\"/b\""),
        MOUNT("\"Type\":\"volume\",\"Source\":\"data\",\"Target\":\"/b\""),
        MOUNT("\"Type\":\"volume\",\"Target\":\"/b\""),
        MOUNT("\"Type\":\"tmpfs\",\"Target\":\"/b\""),
        TASK("\"Resources\":{\"Limits\":{\"NanoCPUs\":1000000,\"MemoryBytes\":4194304}}"),
        TASK("\"Placement\":{\"Constraints\":[\"node.labels.zone == a\",\"node.role!=manager\"]}"),
        TASK("\"LogDriver\":{\"Name\":\"json-file\"}"),
        TASK("\"Runtime\":\"container\""),
        SERVICE("\"Mode\":{\"Global\":{}}"),
        SERVICE("\"UpdateConfig\":{\"Parallelism\":0,\"MaxFailureRatio\":1}"),
        SERVICE("\"EndpointSpec\":{\"Mode\":\"vip\"}"),
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct err e = {0};

        if (check(cases[i], &e) < 0)
            fail_msg("%s: %s", cases[i], e.text);
    }
}

static void senseless_specs_are_refused_with_their_reason(void **state)
{
    static const struct {
        const char *text, *reason;
        int code;
    } cases[] = {
        {"{\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"i\"}}}", "name must be provided", ERR_INVALID},
        {"{\"Name\":\"-web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"i\"}}}", "-web", ERR_INVALID},
        {"{\"Name\":\"web.1\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"i\"}}}", "web.1", ERR_INVALID},
        {"{\"Name\":\"web\"}", "TaskTemplate is missing", ERR_INVALID},
        {"{\"Name\":\"web\",\"TaskTemplate\":{}}", "missing runtime", ERR_INVALID},
        {"{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{}}}", "image reference must be provided",
         ERR_INVALID},
        {"{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"Web:1\"}}}",
         "ContainerSpec: \"Web:1\" is not a valid repository/tag: invalid reference format: repository name "
         "(library/Web) must be lowercase",
         ERR_INVALID},
        {"{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"a b\"}}}",
         "ContainerSpec: \"a b\" is not a valid repository/tag", ERR_INVALID},
        {CONTAINER("\"Env\":[\"=1\"]"), "=1", ERR_INVALID},
        {CONTAINER("\"Env\":[\"A={{.Node.Hostname}}\"]"), "template", ERR_UNSUPPORTED},
        {CONTAINER("\"Hostname\":\"{{.Task.Slot}}\""), "template", ERR_UNSUPPORTED},
        {CONTAINER("\"Dir\":\"a\""), "\"a\"", ERR_INVALID},
        {CONTAINER("\"StopGracePeriod\":-1"), "StopGracePeriod", ERR_INVALID},
        {CONTAINER("\"Isolation\":\"hyperv\""), "hyperv", ERR_INVALID},
        {CONTAINER("\"StopSignal\":\"SIGNO\""), "StopSignal: \"SIGNO\" is no signal", ERR_INVALID},
        {CONTAINER("\"StopSignal\":\"65\""), "StopSignal: \"65\"", ERR_INVALID},
        {CONTAINER("\"CapabilityAdd\":[\"NET_ADMIN\",\"FLY\"]"), "CapabilityAdd: unknown capability: \"FLY\"",
         ERR_INVALID},
        {CONTAINER("\"CapabilityDrop\":[\"\"]"), "CapabilityDrop: unknown capability: \"\"", ERR_INVALID},
        {CONTAINER("\"Ulimits\":[{\"Name\":\"files\",\"Soft\":1,\"Hard\":1}]"), "invalid ulimit type: files",
         ERR_INVALID},
        {CONTAINER("\"Ulimits\":[{\"Name\":\"nofile\",\"Soft\":2,\"Hard\":1}]"), "2 > 1", ERR_INVALID},
        {CONTAINER("\"Ulimits\":[{\"Name\":\"nofile\",\"Soft\":-1,\"Hard\":1}]"), "-1 > 1", ERR_INVALID},
        {CONTAINER("\"Ulimits\":[{\"Name\":\"nofile\",\"Soft\":-2,\"Hard\":-2}]"), "nofile: -2:-2", ERR_INVALID},
        {CONTAINER("\"Sysctls\":{\"vm.swappiness\":\"1\"}"),
         "\"vm.swappiness\" is not in a separate kernel namespace", ERR_INVALID},
        {CONTAINER("\"Sysctls\":{\"net/../vm\":\"1\"}"), "invalid sysctl name \"net/../vm\"", ERR_INVALID},
        {CONTAINER("\"DNSConfig\":{\"Nameservers\":[\"dns.example\"]}"),
         "DNSConfig.Nameservers: \"dns.example\" is not an IP address", ERR_INVALID},
        {CONTAINER("\"DNSConfig\":{\"Search\":[\"a b\"]}"), "DNSConfig.Search: \"a b\"", ERR_INVALID},
        {CONTAINER("\"DNSConfig\":{\"Options\":[\"a\\nb\"]}"), "DNSConfig.Options", ERR_INVALID},
        {CONTAINER("\"Hosts\":[\"10.0.0.1\"]"), "\"10.0.0.1\" is not \"ADDRESS NAME\"", ERR_INVALID},
        {CONTAINER("\"Hosts\":[\"10.0.0.300 a\"]"), "\"10.0.0.300\" is not an IP address", ERR_INVALID},
        {CONTAINER("\"Hosts\":[\"10.0.0.1 a#b\"]"), "is no host name", ERR_INVALID},
        {CONTAINER("\"Hosts\":[\"host-gateway a\"]"), "host-gateway", ERR_UNSUPPORTED},
        {MOUNT("\"Type\":\"bind\",\"Source\":\"/a\",\"Target\":\"b\""), "must be an absolute path: b", ERR_INVALID},
        {MOUNT("\"Type\":\"bind\",\"Source\":\"a\",\"Target\":\"/b\""), "must be an absolute path: a", ERR_INVALID},
        {MOUNT("\"Type\":\"bind\",\"Source\":\"/a\",\"Target\":\"//\""), "root", ERR_INVALID},
        {MOUNT("\"Type\":\"volume\",\"Source\":\"/a\",\"Target\":\"/b\""), "must not be an absolute path",
         ERR_INVALID},
        {MOUNT("\"Type\":\"volume\",\"Source\":\"a/b\",\"Target\":\"/b\""), "a/b", ERR_INVALID},
        {MOUNT("\"Type\":\"tmpfs\",\"Source\":\"a\",\"Target\":\"/b\""), "source must be empty", ERR_INVALID},
        {CONTAINER("\"Mounts\":[{\"Type\":\"tmpfs\",\"Target\":\"/b\"},{\"Type\":\"tmpfs\",\"Target\":\"/b\"}]"),
         "duplicate mount point: /b", ERR_INVALID},
        {TASK("\"Resources\":{\"Limits\":{\"NanoCPUs\":999999}}"), "at least 0.001", ERR_INVALID},
        {TASK("\"Resources\":{\"Reservations\":{\"MemoryBytes\":4194303}}"), "Must be at least 4MiB", ERR_INVALID},
        {TASK("\"Resources\":{\"Limits\":{\"Pids\":-1}}"), "-1", ERR_INVALID},
        {TASK("\"RestartPolicy\":{\"Delay\":-5}"), "RestartPolicy.Delay", ERR_INVALID},
        {TASK("\"Placement\":{\"Constraints\":[\"node.role=manager\"]}"), "node.role=manager", ERR_INVALID},
        {TASK("\"Runtime\":\"plugin\""), "plugin", ERR_UNSUPPORTED},
        {TASK("\"LogDriver\":{\"Name\":\"syslog\"}"), "syslog", ERR_UNSUPPORTED},
        {SERVICE("\"UpdateConfig\":{\"MaxFailureRatio\":1.5}"), "1.5", ERR_INVALID},
        {SERVICE("\"UpdateConfig\":{\"Delay\":-1}"), "UpdateConfig.Delay", ERR_INVALID},
        {SERVICE("\"RollbackConfig\":{\"Monitor\":-1}"), "RollbackConfig.Monitor", ERR_INVALID},
        {SERVICE("\"Mode\":{\"Replicated\":{\"Replicas\":1000001}}"), "1000001", ERR_INVALID},
        {SERVICE("\"EndpointSpec\":{\"Ports\":[{\"TargetPort\":80}]}"), "publishing a port", ERR_UNSUPPORTED},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct err e = {0};
        int rc = check(cases[i].text, &e);

        if (rc != cases[i].code || !strstr(e.text, cases[i].reason))
            fail_msg("%s: code %d, \"%s\"", cases[i].text, rc, e.text);
    }
}

static void nodes_and_clusters_are_checked_too(void **state)
{
    NodeSpec node = NODE_SPEC__INIT;
    ClusterSpec cluster = CLUSTER_SPEC__INIT;
    KeyValue label = KEY_VALUE__INIT, *labels[] = {&label};

    label.key = (char *)"";
    assert_int_equal(validate_node(&node, NULL), 0);
    node.labels = labels;
    node.n_labels = 1;
    assert_int_equal(validate_node(&node, NULL), ERR_INVALID);
    assert_int_equal(validate_cluster(&cluster, NULL), 0);
    cluster.has_node_cert_expiry_ns = true;
    cluster.node_cert_expiry_ns = 3599999999999;
    assert_int_equal(validate_cluster(&cluster, NULL), ERR_INVALID);
    cluster.node_cert_expiry_ns = 3600000000000;
    assert_int_equal(validate_cluster(&cluster, NULL), 0);
    cluster.name = (char *)"other";
    assert_int_equal(validate_cluster(&cluster, NULL), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sensible_specs_are_taken),
        cmocka_unit_test(senseless_specs_are_refused_with_their_reason),
        cmocka_unit_test(nodes_and_clusters_are_checked_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
