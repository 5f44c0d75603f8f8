/* Every field of the specs that the Docker Engine API knows in version 1.45: it works, or it is refused by name and
 * value; values of a wrong type are refused too, and then nothing has changed. What the API does not know is
 * ignored, as Docker does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/jread.h"
#include "proto/base/mem.h"
#include "tests/support/cluster.h"

static struct cluster c;

static int setup(void **state)
{
    cluster_found(&c, "/tmp", NULL);
    return 0;
}

static int teardown(void **state)
{
    cluster_end(&c);
    return 0;
}

#define get(path)   cluster_expect(&c, 200, "GET", path, NULL)
#define format(...) arena_printf(&c.arena, __VA_ARGS__)

enum type { TEXT, COUNT, NUMBER, RATIO, FLAG, OBJECT, OBJECTS, TEXTS, MAP };

struct field {
    const char *path; /* "[]": the first of an array */
    enum type type;
    const char *value; /* JSON that asks for something; NULL: what its parent's value has is enough */
    bool is_refused;   /* as not offered */
    const char *bad;   /* a value of the right type that is refused; NULL: none */
    const char *words; /* Docker's, where they name neither field nor value */
};

#define CONTAINER "TaskTemplate.ContainerSpec."

static const struct field service_fields[] = {
    {"Name", TEXT, "\"web\"", .bad = "\"we.b\""},
    {"Labels", MAP, "{\"a\":\"b\",\"c\":\"\"}"},
    {"TaskTemplate", OBJECT, NULL},
    {"TaskTemplate.PluginSpec", OBJECT, "{\"Name\":\"p\"}", true},
    {"TaskTemplate.ContainerSpec", OBJECT, NULL},
    {CONTAINER "Image", TEXT, "\"web:1\"", .bad = "\"\"", .words = "image reference must be provided"},
    {CONTAINER "Labels", MAP, "{\"a\":\"b\"}"},
    {CONTAINER "Command", TEXTS, "[\"sh\"]"},
    {CONTAINER "Args", TEXTS, "[\"-c\",\"true\"]"},
    {CONTAINER "Hostname", TEXT, "\"h\"", .bad = "\"{{.Node.Hostname}}\""},
    {CONTAINER "Env", TEXTS, "[\"A=1\",\"B\"]", .bad = "[\"A={{.Task.Slot}}\"]"},
    {CONTAINER "Dir", TEXT, "\"/srv\"", .bad = "\"srv\""},
    {CONTAINER "User", TEXT, "\"1:1\""},
    {CONTAINER "Groups", TEXTS, "[\"audio\"]"},
    {CONTAINER "Privileges", OBJECT, NULL},
    {CONTAINER "Privileges.CredentialSpec", OBJECT, "{\"File\":\"f\"}", true},
    {CONTAINER "Privileges.SELinuxContext", OBJECT, "{\"User\":\"u\"}", true},
    {CONTAINER "Privileges.Seccomp", OBJECT, NULL},
    {CONTAINER "Privileges.Seccomp.Mode", TEXT, "\"unconfined\"", .bad = "\"custom\""},
    {CONTAINER "Privileges.Seccomp.Profile", TEXT, "\"e30=\"", true},
    {CONTAINER "Privileges.AppArmor", OBJECT, NULL},
    {CONTAINER "Privileges.AppArmor.Mode", TEXT, "\"disabled\"", .bad = "\"loose\""},
    {CONTAINER "Privileges.NoNewPrivileges", FLAG, "true"},
    {CONTAINER "TTY", FLAG, "true"},
    {CONTAINER "OpenStdin", FLAG, "true"},
    {CONTAINER "ReadOnly", FLAG, "true"},
    {CONTAINER "Mounts", OBJECTS,
     "[{\"Type\":\"bind\",\"Source\":\"/a\",\"Target\":\"/b\",\"ReadOnly\":true,\"Consistency\":\"cached\","
     "\"BindOptions\":{\"Propagation\":\"rslave\",\"NonRecursive\":true,\"CreateMountpoint\":true,"
     "\"ReadOnlyNonRecursive\":true,\"ReadOnlyForceRecursive\":true}},{\"Type\":\"volume\",\"Source\":\"vol\","
     "\"Target\":\"/c\",\"VolumeOptions\":{\"NoCopy\":true,\"Labels\":{\"a\":\"b\"},\"Subpath\":\"s\","
     "\"DriverConfig\":{\"Name\":\"local\",\"Options\":{\"o\":\"p\"}}}},{\"Type\":\"tmpfs\",\"Target\":\"/d\","
     "\"TmpfsOptions\":{\"SizeBytes\":4096,\"Mode\":448}}]",
     .bad = "[{\"Type\":\"bind\",\"Source\":\"/a\",\"Target\":\"b\"}]"},
    {CONTAINER "Mounts[].Target", TEXT, NULL},
    {CONTAINER "Mounts[].Source", TEXT, NULL},
    {CONTAINER "Mounts[].Type", TEXT, NULL, .bad = "\"npipe\""},
    {CONTAINER "Mounts[].ReadOnly", FLAG, NULL},
    {CONTAINER "Mounts[].Consistency", TEXT, NULL},
    {CONTAINER "Mounts[].BindOptions", OBJECT, NULL},
    {CONTAINER "Mounts[].BindOptions.Propagation", TEXT, NULL},
    {CONTAINER "Mounts[].BindOptions.NonRecursive", FLAG, NULL},
    {CONTAINER "Mounts[].BindOptions.CreateMountpoint", FLAG, NULL},
    {CONTAINER "Mounts[].BindOptions.ReadOnlyNonRecursive", FLAG, NULL},
    {CONTAINER "Mounts[].BindOptions.ReadOnlyForceRecursive", FLAG, NULL},
    {CONTAINER "Mounts[].VolumeOptions", OBJECT, NULL},
    {CONTAINER "Mounts[].VolumeOptions.NoCopy", FLAG, NULL},
    {CONTAINER "Mounts[].VolumeOptions.Labels", MAP, NULL},
    {CONTAINER "Mounts[].VolumeOptions.DriverConfig", OBJECT, NULL},
    {CONTAINER "Mounts[].VolumeOptions.DriverConfig.Name", TEXT, NULL},
    {CONTAINER "Mounts[].VolumeOptions.DriverConfig.Options", MAP, NULL},
    {CONTAINER "Mounts[].VolumeOptions.Subpath", TEXT, NULL},
    {CONTAINER "Mounts[].TmpfsOptions", OBJECT, NULL},
    {CONTAINER "Mounts[].TmpfsOptions.SizeBytes", COUNT, NULL},
    {CONTAINER "Mounts[].TmpfsOptions.Mode", COUNT, NULL},
    {CONTAINER "Mounts[].TmpfsOptions.Options", OBJECTS, "[[\"noexec\"]]", true}, /* of newer clients, as below */
    {CONTAINER "Mounts[].ImageOptions", OBJECT, "{\"Subpath\":\"a\"}", true},
    {CONTAINER "Mounts[].ClusterOptions", OBJECT, "{\"a\":1}", true},
    {CONTAINER "StopSignal", TEXT, "\"SIGINT\""},
    {CONTAINER "StopGracePeriod", NUMBER, "1000000000", .bad = "-1"},
    {CONTAINER "HealthCheck", OBJECT, "{\"Test\":[\"CMD\",\"true\"]}", true},
    {CONTAINER "Hosts", TEXTS, "[\"10.0.0.1 db db2\"]", .bad = "[\"10.0.0.1 \"]"},
    {CONTAINER "DNSConfig", OBJECT,
     "{\"Nameservers\":[\"10.0.0.1\"],\"Search\":[\"a\"],\"Options\":[\"ndots:1\"]}"},
    {CONTAINER "DNSConfig.Nameservers", TEXTS, NULL},
    {CONTAINER "DNSConfig.Search", TEXTS, NULL},
    {CONTAINER "DNSConfig.Options", TEXTS, NULL},
    {CONTAINER "Secrets", OBJECTS, "[{\"SecretName\":\"s\"}]", true},
    {CONTAINER "Configs", OBJECTS, "[{\"ConfigName\":\"s\"}]", true},
    {CONTAINER "Isolation", TEXT, "\"default\"", .bad = "\"hyperv\""},
    {CONTAINER "Init", FLAG, "true", true},
    {CONTAINER "Sysctls", MAP, "{\"net.core.somaxconn\":\"1\"}"},
    {CONTAINER "CapabilityAdd", TEXTS, "[\"CAP_SYS_TIME\"]"},
    {CONTAINER "CapabilityDrop", TEXTS, "[\"ALL\"]"},
    {CONTAINER "Ulimits", OBJECTS, "[{\"Name\":\"nofile\",\"Hard\":2,\"Soft\":1}]"},
    {CONTAINER "Ulimits[].Name", TEXT, NULL},
    {CONTAINER "Ulimits[].Soft", NUMBER, NULL},
    {CONTAINER "Ulimits[].Hard", NUMBER, NULL},
    {"TaskTemplate.NetworkAttachmentSpec", OBJECT, "{\"ContainerID\":\"c\"}", true},
    {"TaskTemplate.Resources", OBJECT, NULL},
    {"TaskTemplate.Resources.Limits", OBJECT, "{\"NanoCPUs\":1000000,\"MemoryBytes\":4194304,\"Pids\":100}"},
    {"TaskTemplate.Resources.Limits.NanoCPUs", NUMBER, "1000000", .bad = "999999",
     .words = "invalid cpu value 0.000999999 in Resources.Limits"},
    {"TaskTemplate.Resources.Limits.MemoryBytes", NUMBER, "4194304", .bad = "4194303"},
    {"TaskTemplate.Resources.Limits.Pids", NUMBER, "1", .bad = "-1"},
    {"TaskTemplate.Resources.Reservations", OBJECT, NULL},
    {"TaskTemplate.Resources.Reservations.NanoCPUs", NUMBER, "1000000", .bad = "1",
     .words = "invalid cpu value 1e-09 in Resources.Reservations"},
    {"TaskTemplate.Resources.Reservations.MemoryBytes", NUMBER, "4194304", .bad = "1"},
    {"TaskTemplate.Resources.Reservations.GenericResources", OBJECTS,
     "[{\"DiscreteResourceSpec\":{\"Kind\":\"SSD\",\"Value\":1}}]", true},
    {"TaskTemplate.Resources.SwapBytes", NUMBER, "1", true},
    {"TaskTemplate.Resources.MemorySwappiness", NUMBER, "1", true},
    {"TaskTemplate.RestartPolicy", OBJECT,
     "{\"Condition\":\"on-failure\",\"Delay\":1,\"MaxAttempts\":2,\"Window\":3}"},
    {"TaskTemplate.RestartPolicy.Condition", TEXT, "\"none\"", .bad = "\"always\""},
    {"TaskTemplate.RestartPolicy.Delay", NUMBER, "0", .bad = "-1"},
    {"TaskTemplate.RestartPolicy.MaxAttempts", COUNT, "0"},
    {"TaskTemplate.RestartPolicy.Window", NUMBER, "7", .bad = "-7"},
    {"TaskTemplate.Placement", OBJECT, NULL},
    {"TaskTemplate.Placement.Constraints", TEXTS, "[\"node.role==manager\"]", .bad = "[\"node.role=manager\"]"},
    {"TaskTemplate.Placement.Preferences", OBJECTS, "[{\"Spread\":{\"SpreadDescriptor\":\"node.labels.rack\"}}]",
     .bad = "[{\"Spread\":{\"SpreadDescriptor\":\"rack\"}}]"},
    {"TaskTemplate.Placement.Preferences[].Spread", OBJECT, NULL},
    {"TaskTemplate.Placement.Preferences[].Spread.SpreadDescriptor", TEXT, NULL},
    {"TaskTemplate.Placement.MaxReplicas", COUNT, "2"},
    {"TaskTemplate.Placement.Platforms", OBJECTS, "[{\"Architecture\":\"amd64\",\"OS\":\"linux\"}]"},
    {"TaskTemplate.Placement.Platforms[].Architecture", TEXT, NULL},
    {"TaskTemplate.Placement.Platforms[].OS", TEXT, NULL},
    {"TaskTemplate.ForceUpdate", COUNT, "3"},
    {"TaskTemplate.Runtime", TEXT, "\"container\"", .bad = "\"plugin\""},
    {"TaskTemplate.Networks", OBJECTS, NULL},
    {"TaskTemplate.Networks[].Target", TEXT, NULL, .bad = "\"nosuch\""},
    {"TaskTemplate.Networks[].Aliases", TEXTS, "[\"db\"]", true},
    {"TaskTemplate.Networks[].DriverOpts", MAP, "{\"a\":\"b\"}", true},
    {"TaskTemplate.LogDriver", OBJECT, "{\"Name\":\"json-file\",\"Options\":{\"max-size\":\"1m\"}}"},
    {"TaskTemplate.LogDriver.Name", TEXT, "\"none\"", .bad = "\"syslog\""},
    {"TaskTemplate.LogDriver.Options", MAP, NULL},
    {"Mode", OBJECT, NULL},
    {"Mode.Replicated", OBJECT, NULL},
    {"Mode.Replicated.Replicas", COUNT, "2", .bad = "1000001"},
    {"Mode.Global", OBJECT, "{}"},
    {"Mode.ReplicatedJob", OBJECT, "{\"MaxConcurrent\":1}", true},
    {"Mode.GlobalJob", OBJECT, "{}", true},
    {"UpdateConfig", OBJECT,
     "{\"Parallelism\":2,\"Delay\":1,\"FailureAction\":\"rollback\",\"Monitor\":3,\"MaxFailureRatio\":0.25,"
     "\"Order\":\"start-first\"}"},
    {"UpdateConfig.Parallelism", COUNT, "0"},
    {"UpdateConfig.Delay", NUMBER, "1", .bad = "-1"},
    {"UpdateConfig.FailureAction", TEXT, "\"continue\"", .bad = "\"stop\""},
    {"UpdateConfig.Monitor", NUMBER, "1", .bad = "-1"},
    {"UpdateConfig.MaxFailureRatio", RATIO, "1", .bad = "1.5"},
    {"UpdateConfig.Order", TEXT, "\"stop-first\"", .bad = "\"first\""},
    {"RollbackConfig", OBJECT,
     "{\"Parallelism\":2,\"Delay\":1,\"FailureAction\":\"continue\",\"Monitor\":3,\"MaxFailureRatio\":0.25,"
     "\"Order\":\"start-first\"}"},
    {"RollbackConfig.Parallelism", COUNT, "0"},
    {"RollbackConfig.Delay", NUMBER, "1", .bad = "-1"},
    {"RollbackConfig.FailureAction", TEXT, "\"pause\"", .bad = "\"rollback\""},
    {"RollbackConfig.Monitor", NUMBER, "1", .bad = "-1"},
    {"RollbackConfig.MaxFailureRatio", RATIO, "0.5", .bad = "-0.5"},
    {"RollbackConfig.Order", TEXT, "\"stop-first\"", .bad = "\"first\""},
    {"Networks", OBJECTS, NULL},
    {"Networks[].Target", TEXT, NULL, .bad = "\"nosuch\""},
    {"Networks[].Aliases", TEXTS, "[\"db\"]", true},
    {"Networks[].DriverOpts", MAP, "{\"a\":\"b\"}", true},
    {"EndpointSpec", OBJECT, NULL},
    {"EndpointSpec.Mode", TEXT, "\"dnsrr\"", .bad = "\"lb\""},
    {"EndpointSpec.Ports", OBJECTS, "[{\"TargetPort\":80}]", true},
    {"EndpointSpec.Ports[].Protocol", TEXT, NULL, .bad = "\"icmp\""},
    {"EndpointSpec.Ports[].PublishMode", TEXT, NULL, .bad = "\"mesh\""},
};

static const struct field swarm_fields[] = {
    {"Name", TEXT, "\"default\"", .bad = "\"other\""},
    {"Labels", MAP, "{\"a\":\"b\"}"},
    {"Orchestration", OBJECT, NULL},
    {"Orchestration.TaskHistoryRetentionLimit", NUMBER, "7"},
    {"Raft", OBJECT, NULL},
    {"Raft.SnapshotInterval", COUNT, "5000"},
    {"Raft.KeepOldSnapshots", COUNT, "1"},
    {"Raft.LogEntriesForSlowFollowers", COUNT, "400"},
    {"Raft.ElectionTick", COUNT, "11"},
    {"Raft.HeartbeatTick", COUNT, "2"},
    {"Dispatcher", OBJECT, NULL},
    {"Dispatcher.HeartbeatPeriod", NUMBER, "6000000000", .bad = "99999999"},
    {"CAConfig", OBJECT, NULL},
    {"CAConfig.NodeCertExpiry", NUMBER, "3600000000000", .bad = "3599999999999",
     .words = "certificate expiry time must be"},
    {"CAConfig.ExternalCAs", OBJECTS, "[{\"URL\":\"u\"}]", true},
    {"CAConfig.SigningCACert", TEXT, NULL, .bad = "\"a\\nb\"", .words = "CAConfig.SigningCAKey is missing"},
    {"CAConfig.SigningCAKey", TEXT, NULL, .bad = "\"a\\nb\"", .words = "CAConfig.SigningCACert is missing"},
    {"CAConfig.ForceRotate", COUNT, "1"},
    {"EncryptionConfig", OBJECT, NULL},
    {"EncryptionConfig.AutoLockManagers", FLAG, "true"},
    {"TaskDefaults", OBJECT, NULL},
    {"TaskDefaults.LogDriver", OBJECT, "{\"Name\":\"none\",\"Options\":{\"max-size\":\"1m\"}}"},
    {"TaskDefaults.LogDriver.Name", TEXT, "\"none\"", .bad = "\"syslog\""},
    {"TaskDefaults.LogDriver.Options", MAP, NULL},
};

static const struct field node_fields[] = {
    {"Name", TEXT, "\"n\""},
    {"Labels", MAP, "{\"a\":\"b\"}"},
    {"Role", TEXT, "\"manager\"", .bad = "\"leader\""},
    {"Availability", TEXT, "\"drain\"", .bad = "\"off\""},
};

/* --- bodies ------------------------------------------------------------------------------------------------- */

static json_t *parse(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);

    assert_non_null(value);
    return value;
}

/* The object that holds the last part of the path, made with all before; *ret_last: that part. */
static json_t *make_way(json_t *root, const char *path, const char **ret_last)
{
    const char *dot;

    for (; (dot = strchr(path, '.')); path = dot + 1) {
        bool is_array = dot[-1] == ']';
        const char *name = format("%.*s", (int)(dot - path) - (is_array ? 2 : 0), path);
        json_t *member = json_object_get(root, name);

        if (!member) {
            member = is_array ? json_pack("[{}]") : json_object();
            json_object_set_new(root, name, member);
        }
        root = is_array ? json_array_get(member, 0) : member;
    }
    *ret_last = path;
    return root;
}

static char *body_with(const char *base, const char *path, const char *value)
{
    AUTO_JSON json_t *root = parse(base);
    const char *last;
    json_t *holder = make_way(root, path, &last);

    json_object_set_new(holder, last, parse(value));
    char *text = json_dumps(root, JSON_COMPACT), *copy = format("%s", text);
    free(text);
    return copy;
}

static const json_t *find(const json_t *root, const char *path)
{
    const char *last;
    AUTO_JSON json_t *copy = json_deep_copy(root);
    const json_t *holder = make_way(copy, path, &last);
    static json_t *found;

    json_decref(found); /* the one before */
    found = json_deep_copy(json_object_get(holder, last));
    return found;
}

/* --- three nouns with a spec ---------------------------------------------------------------------------------- */

struct noun {
    const char *base;          /* the least spec */
    const char *shown;         /* where it is read */
    const char *(*path)(void); /* where it is posted */
    int created;               /* status of a success */
    void (*undo)(void);        /* after a success */
};

static const char *create_path(void)
{
    return "/services/create";
}

static const char *swarm_path(void)
{
    return format("/swarm/update?version=%s", json_at(&c, get("/swarm"), "Version.Index"));
}

static const char *node_path(void)
{
    return format("/nodes/first/update?version=%s", json_at(&c, get("/nodes/first"), "Version.Index"));
}

static void remove_service(void)
{
    cluster_expect(&c, 200, "DELETE", "/services/web", NULL);
}

static void nothing(void)
{
}

static const struct noun service = {"{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:1\"}}}",
                                    "/services/web", create_path, 201, remove_service};
static const struct noun swarm = {"{\"Name\":\"default\"}", "/swarm", swarm_path, 200, nothing};
static const struct noun node = {"{\"Role\":\"manager\",\"Availability\":\"active\"}", "/nodes/first", node_path,
                                 200, nothing};

/* Whatever a refused request might have changed. */
static const char *picture(void)
{
    return format("%s%s%s", get("/services"), get("/swarm"), get("/nodes"));
}

static const char *last_part(const char *path)
{
    const char *dot = strrchr(path, '.');

    return dot ? dot + 1 : path;
}

/* The value, or the first text in it. */
static bool names_value(const char *message, const char *value)
{
    const char *quote = strchr(value, '"');

    if (!quote)
        return strstr(message, value);
    while ((quote = strchr(value, '"'))) {
        const char *end = strchr(quote + 1, '"');

        if (end[1] != ':' && end > quote + 1 && strstr(message, format("%.*s", (int)(end - quote) - 1, quote + 1)))
            return true;
        value = end + 1;
    }
    return false;
}

static void expect_refusal(const struct noun *noun, const struct field *f, const char *value, int status)
{
    const char *before = picture(), *body = body_with(noun->base, f->path, value), *answer;
    int got = cluster_call(&c, "POST", noun->path(), body, &answer);
    const char *message = got >= 400 ? json_at(&c, answer, "message") : NULL;

    if (!message || (status && got != status) || (got == 500))
        fail_msg("%s: %d %s", body, got, answer);
    if (!strstr(message, last_part(f->path)) && !names_value(message, value) &&
        !(f->words && strstr(message, f->words)))
        fail_msg("%s: \"%s\" names neither field nor value", body, message);
    assert_string_equal(picture(), before);
}

static void expect_shown(const struct noun *noun, const struct field *f)
{
    const char *body = body_with(noun->base, f->path, f->value);

    cluster_expect(&c, noun->created, "POST", noun->path(), body);
    AUTO_JSON json_t *shown = parse(get(noun->shown)), *value = parse(f->value);
    const json_t *found = find(json_object_get(shown, "Spec"), f->path);
    if (!json_equal(found, value) &&
        !(json_is_number(found) && json_number_value(found) == json_number_value(value)))
        fail_msg("%s: %s", body, get(noun->shown));
    noun->undo();
}

static void check(const struct noun *noun, const struct field *fields, size_t count)
{
    static const char *const wrong[][4] = {
        [TEXT] = {"5", "{}", "[\"a\"]"},       [COUNT] = {"\"5\"", "-1", "1.5", "[1]"},
        [NUMBER] = {"\"5\"", "1.5", "{}"},     [RATIO] = {"\"a\"", "true", "[]"},
        [FLAG] = {"\"true\"", "1", "[]"},      [OBJECT] = {"\"a\"", "5", "[]"},
        [OBJECTS] = {"\"a\"", "{}", "[5]"},    [TEXTS] = {"\"a\"", "[5]", "{\"a\":1}"},
        [MAP] = {"[\"a\"]", "{\"a\":5}", "5"},
    };

    for (size_t i = 0; i < count; i++) {
        const struct field *f = &fields[i];

        for (size_t k = 0; k < 4 && wrong[f->type][k] && !f->is_refused; k++)
            expect_refusal(noun, f, wrong[f->type][k], 400);
        if (f->bad)
            expect_refusal(noun, f, f->bad, 0);
        if (f->value && f->is_refused)
            expect_refusal(noun, f, f->value, 501);
        else if (f->value)
            expect_shown(noun, f);
        /* Null is as good as absent. */
        if (strcmp(f->path, "Name") != 0 && !strstr(f->path, "[]") && strcmp(last_part(f->path), "Image") != 0 &&
            strcmp(f->path, "TaskTemplate") != 0 && strcmp(last_part(f->path), "ContainerSpec") != 0 &&
            noun != &node) {
            cluster_expect(&c, noun->created, "POST", noun->path(), body_with(noun->base, f->path, "null"));
            noun->undo();
        }
    }
}

static void fields_of_a_service_work_or_are_refused(void **state)
{
    check(&service, service_fields, ARRAY_SIZE(service_fields));
    assert_string_equal(json_at(&c, get("/services"), "#"), "0");
}

static void fields_of_the_swarm_work_or_are_refused(void **state)
{
    check(&swarm, swarm_fields, ARRAY_SIZE(swarm_fields));
}

static void fields_of_a_node_work_or_are_refused(void **state)
{
    check(&node, node_fields, ARRAY_SIZE(node_fields));
    expect_refusal(&node, &(struct field){"Role"}, "\"\"", 400);
}

static void refused_keys_are_not_repeated(void **state)
{
    const char *answer =
        cluster_expect(&c, 400, "POST", swarm_path(),
                       "{\"CAConfig\":{\"SigningCACert\":\"c\",\"SigningCAKey\":\"-----BEGIN\\nsecret\"}}");

    assert_non_null(strstr(answer, "CAConfig.SigningCACert: expected exactly one certificate"));
    assert_null(strstr(answer, "secret"));
}

static void what_the_api_does_not_know_is_ignored_as_docker_does(void **state)
{
    cluster_expect(&c, 201, "POST", "/services/create",
                   "{\"Name\":\"web\",\"Nosuch\":[1],\"TaskTemplate\":{\"Nosuch\":{},\"ContainerSpec\":{\"Image\":"
                   "\"i\",\"nosuch\":5}}}");
    assert_null(strstr(get("/services/web"), "osuch"));
}

static void bodies_that_are_no_object_are_refused(void **state)
{
    static const char *const bodies[] = {
        "",
        "[]",
        "5",
        "\"a\"",
        "null",
        "{",
        "{}}",
        "{\"Name\":\"web\",\"Name\":\"web\"}",
        "{\"Name\":\"a\\u0000b\"}",
    };

    for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
        const char *before = picture();

        cluster_expect(&c, 400, "POST", "/services/create", bodies[i]);
        cluster_expect(&c, 400, "POST", node_path(), bodies[i]);
        if (strcmp(bodies[i], "{}") != 0)
            cluster_expect(&c, 400, "POST", swarm_path(), bodies[i]);
        assert_string_equal(picture(), before);
    }
    for (int version = 0; version < 4; version++) {
        static const char *const versions[] = {"", "?version=", "?version=-1", "?version=1x"};

        cluster_expect(&c, 400, "POST", format("/swarm/update%s", versions[version]), "{}");
        cluster_expect(&c, 400, "POST", format("/nodes/first/update%s", versions[version]), "{}");
        cluster_expect(&c, 400, "POST", format("/services/x/update%s", versions[version]), service.base);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(fields_of_a_service_work_or_are_refused),
        TEST(fields_of_the_swarm_work_or_are_refused),
        TEST(fields_of_a_node_work_or_are_refused),
        TEST(refused_keys_are_not_repeated),
        TEST(what_the_api_does_not_know_is_ignored_as_docker_does),
        TEST(bodies_that_are_no_object_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
