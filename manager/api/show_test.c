/* The cluster's objects as JSON, member by member as Docker writes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "manager/api/service.h"
#include "manager/api/show.h"
#include "manager/ca/ca.h"
#include "manager/membership.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"

#define ID_A  "0000000000000000000000001"
#define ID_B  "0000000000000000000000002"
#define MS    1700000000000 /* 2023-11-14T22:13:20Z */
#define TIME  "\"2023-11-14T22:13:20.000000000Z\""
#define LATER "\"2023-11-14T22:13:21.500000000Z\""

static struct ask *ask;
static struct buf out;

static int setup(void **state)
{
    ask = ask_new();
    return 0;
}

static int teardown(void **state)
{
    ask_free(ask);
    buf_fini(&out);
    return 0;
}

static ProtobufCBinaryData id_of(const char *text)
{
    uint8_t *id = arena_alloc(&ask->arena, IDENT_BYTES);

    assert_true(ident_parse(text, id));
    return (ProtobufCBinaryData){IDENT_BYTES, id};
}

static void put(enum kind kind, uint64_t version, int64_t updated_ms, const void *message)
{
    struct object header = {
        .kind = kind, .number = 1, .version = version, .created_ms = MS, .updated_ms = updated_ms};
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = arena_alloc(&ask->arena, size + 1);

    protobuf_c_message_pack(message, packed);
    pack_object(&ask->page.bytes, &header, packed, size);
}

static const char *rendered(void (*render)(struct ask *k, struct buf *out))
{
    buf_clear(&out);
    ask->page.render = render;
    ask_render(ask, &out);
    return buf_str(&out);
}

/* --- services -------------------------------------------------------------------------------------------- */

static ServiceSpec *a_spec(const char *image)
{
    ServiceSpec *spec = ARENA_NEW(&ask->arena, ServiceSpec);

    service_spec__init(spec);
    spec->name = (char *)"web";
    spec->task = ARENA_NEW(&ask->arena, TaskSpec);
    task_spec__init(spec->task);
    spec->task->container = ARENA_NEW(&ask->arena, ContainerSpec);
    container_spec__init(spec->task->container);
    spec->task->container->image = (char *)image;
    spec->task->container->registry_auth = (char *)"c2VjcmV0";
    return spec;
}

static void put_spec(uint64_t version, ServiceSpec *contents)
{
    Spec spec = SPEC__INIT;

    spec.service = 1;
    spec.version = version;
    spec.spec = contents;
    put(KIND_SPEC, 5, MS, &spec);
}

static void put_service(uint64_t version, uint64_t previous, UpdateStatus *update, Endpoint *endpoint)
{
    Service service = SERVICE__INIT;

    service.id = id_of(ID_A);
    service.name = (char *)"web";
    service.spec_version = version;
    service.has_previous_spec_version = previous != 0;
    service.previous_spec_version = previous;
    service.update_status = update;
    service.endpoint = endpoint;
    put(KIND_SERVICE, 7, MS + 1500, &service);
}

#define SPEC_JSON(image)                                                                      \
    "{\"Name\":\"web\",\"Labels\":{},\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"" image \
    "\"},\"ForceUpdate\":0},\"Mode\":{\"Replicated\":{\"Replicas\":1}}}"
#define SERVICE_HEAD \
    "{\"ID\":\"" ID_A "\",\"Version\":{\"Index\":7},\"CreatedAt\":" TIME ",\"UpdatedAt\":" LATER ","

static void new_service_has_spec_and_empty_endpoint(void **state)
{
    struct service_args args = {0};

    ask->args = &args;
    put_spec(1, a_spec("web:1"));
    put_service(1, 0, NULL, NULL);
    assert_string_equal(rendered(show_service),
                        SERVICE_HEAD "\"Spec\":" SPEC_JSON("web:1") ",\"Endpoint\":{\"Spec\":{}}}");
}

static void registry_credentials_are_never_shown(void **state)
{
    struct service_args args = {.insert_defaults = true};

    ask->args = &args;
    put_spec(1, a_spec("web:1"));
    put_service(1, 0, NULL, NULL);
    assert_null(strstr(rendered(show_service), "c2VjcmV0"));
}

static void updated_service_shows_previous_spec_status_and_ports(void **state)
{
    struct service_args args = {0};
    UpdateStatus update = UPDATE_STATUS__INIT;
    Endpoint endpoint = ENDPOINT__INIT;
    EndpointSpec wanted = ENDPOINT_SPEC__INIT;
    PortConfig port = PORT_CONFIG__INIT, *ports[] = {&port};

    ask->args = &args;
    update.has_state = update.has_started_ms = update.has_completed_ms = true;
    update.state = UPDATE_STATE__ROLLBACK_COMPLETED;
    update.started_ms = MS;
    update.completed_ms = MS + 1500;
    update.message = (char *)"rollback completed";
    wanted.has_mode = true;
    port.has_target_port = port.has_published_port = true;
    port.target_port = 80;
    port.published_port = 30000;
    endpoint.spec = &wanted;
    endpoint.ports = ports;
    endpoint.n_ports = 1;
    put_spec(3, a_spec("web:3"));
    put_spec(2, a_spec("web:2"));
    put_service(3, 2, &update, &endpoint);
    assert_string_equal(
        rendered(show_service),
        SERVICE_HEAD "\"Spec\":" SPEC_JSON("web:3") ",\"PreviousSpec\":" SPEC_JSON(
            "web:2") ",\"Endpoint\":{\"Spec\":{\"Mode\":\"vip\"},\"Ports\":[{\"Protocol\":\"tcp\",\"TargetPort\":"
                     "80,"
                     "\"PublishedPort\":30000,\"PublishMode\":\"ingress\"}]},\"UpdateStatus\":{\"State\":"
                     "\"rollback_completed\",\"StartedAt\":" TIME ",\"CompletedAt\":" LATER
                     ",\"Message\":\"rollback completed\"}}");
}

static void list_of_services_has_counts_when_asked_and_commas_over_pages(void **state)
{
    struct service_args args = {.status = true};
    struct pack_service counts = {.running = 2, .desired = 3};

    ask->args = &args;
    put_spec(1, a_spec("web:1"));
    pack_note(&ask->page.bytes, PACK_SERVICE, &counts, sizeof(counts));
    put_service(1, 0, NULL, NULL);
    ask->page.more = true;
    assert_string_equal(
        rendered(show_services),
        "[" SERVICE_HEAD "\"Spec\":" SPEC_JSON(
            "web:1") ",\"Endpoint\":{\"Spec\":{}},\"ServiceStatus\":{\"RunningTasks\":2,\"DesiredTasks\":"
                     "3,\"CompletedTasks\":0}}");
    put_spec(1, a_spec("web:2"));
    put_service(1, 0, NULL, NULL);
    ask->page.more = false;
    assert_string_equal(rendered(show_services),
                        "," SERVICE_HEAD "\"Spec\":" SPEC_JSON("web:2") ",\"Endpoint\":{\"Spec\":{}}}]\n");
}

static void empty_list_is_an_empty_array(void **state)
{
    assert_string_equal(rendered(show_services), "[]\n");
}

static void list_whose_last_page_is_empty_is_closed(void **state)
{
    struct service_args args = {0};

    ask->args = &args;
    put_spec(1, a_spec("web:1"));
    put_service(1, 0, NULL, NULL);
    ask->page.more = true;
    (void)rendered(show_services);
    ask->page.more = false;
    assert_string_equal(rendered(show_services), "]\n");
}

static void defaults_are_inserted_on_demand(void **state)
{
    struct service_args args = {.insert_defaults = true};

    ask->args = &args;
    put_spec(1, a_spec("web:1"));
    put_service(1, 0, NULL, NULL);
    assert_string_equal(
        rendered(show_service), SERVICE_HEAD
        "\"Spec\":{\"Name\":\"web\",\"Labels\":{},\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"web:1\","
        "\"StopGracePeriod\":10000000000,\"DNSConfig\":{}},\"Resources\":{\"Limits\":{},\"Reservations\":{}},"
        "\"RestartPolicy\":{\"Condition\":\"any\",\"Delay\":5000000000,\"MaxAttempts\":0},\"Placement\":{},"
        "\"ForceUpdate\":0},\"Mode\":{\"Replicated\":{\"Replicas\":1}},\"UpdateConfig\":{\"Parallelism\":1,"
        "\"FailureAction\":\"pause\",\"Monitor\":5000000000,\"MaxFailureRatio\":0,\"Order\":\"stop-first\"},"
        "\"RollbackConfig\":{\"Parallelism\":1,\"FailureAction\":\"pause\",\"Monitor\":5000000000,"
        "\"MaxFailureRatio\":0,\"Order\":\"stop-first\"},\"EndpointSpec\":{\"Mode\":\"vip\"}},\"Endpoint\":{"
        "\"Spec\":{"
        "\"Mode\":\"vip\"}}}");
}

static void given_values_stay_when_defaults_are_inserted(void **state)
{
    struct service_args args = {.insert_defaults = true};
    ServiceSpec *spec = a_spec("web:1");
    UpdateConfig update = UPDATE_CONFIG__INIT;

    ask->args = &args;
    update.has_parallelism = update.has_order = true;
    update.parallelism = 0;
    update.order = UPDATE_ORDER__START_FIRST;
    spec->update = &update;
    spec->has_mode = true;
    spec->mode = SERVICE_MODE__GLOBAL;
    spec->task->container->has_stop_grace_period_ns = true;
    spec->task->container->stop_grace_period_ns = 0;
    put_spec(1, spec);
    put_service(1, 0, NULL, NULL);
    const char *text = rendered(show_service);
    assert_non_null(strstr(text, "\"StopGracePeriod\":0,"));
    assert_non_null(strstr(text, "\"Mode\":{\"Global\":{}}"));
    assert_non_null(strstr(text,
                           "\"UpdateConfig\":{\"Parallelism\":0,\"FailureAction\":\"pause\",\"Monitor\":5000000000,"
                           "\"MaxFailureRatio\":0,\"Order\":\"start-first\"}"));
}

/* --- tasks ------------------------------------------------------------------------------------------------- */

static void put_task(uint64_t slot, uint64_t spec_version, TaskState desired)
{
    Task task = TASK__INIT;

    task.id = id_of(ID_B);
    task.service = 1;
    task.spec_version = spec_version;
    task.has_slot = slot != 0;
    task.slot = slot;
    task.desired_state = desired;
    put(KIND_TASK, 6, MS, &task);
}

static void put_status(TaskState state, const char *message, const char *error, ContainerStatus *container)
{
    Status status = STATUS__INIT;

    status.state = state;
    status.has_timestamp_ns = true;
    status.timestamp_ns = MS * INT64_C(1000000) + 42;
    status.message = (char *)message;
    status.err = (char *)error;
    status.container = container;
    put(KIND_STATUS, 9, MS + 1500, &status);
}

static void put_names(const char *service, const char *node)
{
    struct pack_task names = {.has_service = service, .has_node = node};

    if (service)
        assert_true(ident_parse(service, names.service_id));
    if (node)
        assert_true(ident_parse(node, names.node_id));
    pack_note(&ask->page.bytes, PACK_TASK, &names, sizeof(names));
}

#define TASK_HEAD                                                                                                  \
    "{\"ID\":\"" ID_B "\",\"Version\":{\"Index\":9},\"CreatedAt\":" TIME ",\"UpdatedAt\":" LATER ",\"Labels\":{}," \
    "\"Spec\":{\"ContainerSpec\":{\"Image\":\"web:1\"},\"ForceUpdate\":0},"
#define STAMP "\"Timestamp\":\"2023-11-14T22:13:20.000000042Z\","

static void running_task_shows_its_container(void **state)
{
    ContainerStatus container = CONTAINER_STATUS__INIT;

    container.container_id = (char *)"c0ffee";
    container.has_pid = true;
    container.pid = 4711;
    put_spec(1, a_spec("web:1"));
    put_names(ID_A, ID_B);
    put_status(TASK_STATE__RUNNING, "started", NULL, &container);
    put_task(3, 1, TASK_STATE__RUNNING);
    assert_string_equal(rendered(show_task), TASK_HEAD
                        "\"ServiceID\":\"" ID_A "\",\"Slot\":3,\"NodeID\":\"" ID_B "\",\"Status\":{" STAMP
                        "\"State\":\"running\",\"Message\":\"started\",\"ContainerStatus\":{\"ContainerID\":"
                        "\"c0ffee\",\"PID\":4711,\"ExitCode\":0},\"PortStatus\":{}},\"DesiredState\":"
                        "\"running\"}");
}

static void task_without_node_says_why_it_waits(void **state)
{
    put_spec(1, a_spec("web:1"));
    put_names(ID_A, NULL);
    put_status(TASK_STATE__PENDING, "pending task scheduling", "no suitable node (1 node not available)", NULL);
    put_task(0, 1, TASK_STATE__READY);
    assert_string_equal(rendered(show_task), TASK_HEAD
                        "\"ServiceID\":\"" ID_A "\",\"Status\":{" STAMP
                        "\"State\":\"pending\",\"Message\":\"pending task scheduling\",\"Err\":\"no suitable "
                        "node (1 node not available)\",\"PortStatus\":{}},\"DesiredState\":\"ready\"}");
}

static void network_of_a_task_is_shown_once_made_known(void **state)
{
    ServiceSpec *spec = a_spec("web:1");
    NetworkAttachmentConfig attachment = NETWORK_ATTACHMENT_CONFIG__INIT, *attachments[] = {&attachment};
    Network network = NETWORK__INIT;
    NetworkSpec network_spec = NETWORK_SPEC__INIT;

    attachment.target = (char *)ID_A;
    spec->task->networks = attachments;
    spec->task->n_networks = 1;
    network.id = id_of(ID_A);
    network_spec.name = (char *)"host";
    network_spec.driver = (char *)"host";
    network.spec = &network_spec;
    put_spec(1, spec);
    put(KIND_NETWORK, 3, MS, &network);
    for (int i = 0; i < 2; i++) {
        put_names(ID_A, ID_B);
        put_status(TASK_STATE__RUNNING, "started", NULL, NULL);
        put_task(1, 1, TASK_STATE__RUNNING);
    }
    const char *text = rendered(show_tasks);
    const char *expected = "\"NetworksAttachments\":[{\"Network\":{\"ID\":\"" ID_A
                           "\",\"Version\":{\"Index\":3},\"CreatedAt\":" TIME ",\"UpdatedAt\":" TIME
                           ",\"Spec\":{\"Name\":\"host\",\"Labels\":{},\"DriverConfiguration\":{\"Name\":\"host\"},"
                           "\"Scope\":\"swarm\"},\"DriverState\":{\"Name\":\"host\"},\"IPAMOptions\":{\"Driver\":{}"
                           "}},\"Addresses\":[]}]}";
    const char *first = strstr(text, expected);
    assert_non_null(first);
    assert_non_null(strstr(first + 1, expected));
}

static void each_task_has_the_template_of_its_own_version(void **state)
{
    put_spec(1, a_spec("web:1"));
    put_spec(2, a_spec("web:2"));
    for (uint64_t version = 2; version; version--) {
        put_names(ID_A, NULL);
        put_status(TASK_STATE__NEW, "created", NULL, NULL);
        put_task(1, version, TASK_STATE__RUNNING);
    }
    const char *text = rendered(show_tasks);
    const char *second = strstr(text, "web:2"), *first = strstr(text, "web:1");
    assert_true(second && first && second < first);
    assert_int_equal(text[0], '[');
}

static void every_state_has_its_name_and_back(void **state)
{
    static const TaskState states[] = {
        TASK_STATE__NEW,    TASK_STATE__PENDING,  TASK_STATE__ASSIGNED, TASK_STATE__ACCEPTED, TASK_STATE__PREPARING,
        TASK_STATE__READY,  TASK_STATE__STARTING, TASK_STATE__RUNNING,  TASK_STATE__COMPLETE, TASK_STATE__SHUTDOWN,
        TASK_STATE__FAILED, TASK_STATE__REJECTED, TASK_STATE__REMOVE,   TASK_STATE__ORPHANED};

    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        TaskState back;

        assert_true(show_task_state_parse(show_task_state(states[i]), &back));
        assert_int_equal(back, states[i]);
    }
    assert_false(show_task_state_parse("Running", &(TaskState){0}));
    assert_false(show_task_state_parse("", &(TaskState){0}));
    assert_string_equal(show_task_state((TaskState)7), "unknown");
}

/* --- nodes and the swarm ------------------------------------------------------------------------------------- */

static void node_shows_description_status_and_manager(void **state)
{
    struct pack_node manager = {
        .is_manager = true, .is_leader = true, .reach = MEMBERSHIP_REACHABLE, .address = "10.0.0.1:2377"};
    Node node = NODE__INIT;
    NodeSpec spec = NODE_SPEC__INIT;
    NodeDescription d = NODE_DESCRIPTION__INIT;
    Platform platform = PLATFORM__INIT;
    Resources resources = RESOURCES__INIT;
    KeyValue label = KEY_VALUE__INIT, *labels[] = {&label}, plugin = KEY_VALUE__INIT, *plugins[] = {&plugin};

    label.key = (char *)"zone";
    label.value = (char *)"a";
    plugin.key = (char *)"Log";
    plugin.value = (char *)"json-file";
    platform.os = (char *)"linux";
    platform.architecture = (char *)"x86_64";
    resources.has_nano_cpus = resources.has_memory_bytes = true;
    resources.nano_cpus = 2000000000;
    resources.memory_bytes = 1 << 30;
    d.hostname = (char *)"one";
    d.platform = &platform;
    d.resources = &resources;
    d.engine_version = (char *)"0.1.0";
    d.engine_labels = labels;
    d.n_engine_labels = 1;
    d.plugins = plugins;
    d.n_plugins = 1;
    spec.labels = labels;
    spec.n_labels = 1;
    spec.has_role = spec.has_availability = true;
    spec.role = NODE_ROLE__MANAGER;
    spec.availability = NODE_AVAILABILITY__PAUSE;
    node.id = id_of(ID_A);
    node.spec = &spec;
    node.description = &d;
    node.has_state = true;
    node.state = NODE_STATE__UP;
    node.address = (char *)"10.0.0.1";
    pack_note(&ask->page.bytes, PACK_NODE, &manager, sizeof(manager));
    put(KIND_NODE, 4, MS, &node);
    assert_string_equal(
        rendered(show_node),
        "{\"ID\":\"" ID_A "\",\"Version\":{\"Index\":4},\"CreatedAt\":" TIME ",\"UpdatedAt\":" TIME
        ",\"Spec\":{\"Labels\":"
        "{\"zone\":\"a\"},\"Role\":\"manager\",\"Availability\":\"pause\"},\"Description\":{\"Hostname\":\"one\","
        "\"Platform\":{\"Architecture\":\"x86_64\",\"OS\":\"linux\"},\"Resources\":{\"NanoCPUs\":2000000000,"
        "\"MemoryBytes\":1073741824},\"Engine\":{\"EngineVersion\":\"0.1.0\",\"Labels\":{\"zone\":\"a\"},"
        "\"Plugins\":[{"
        "\"Type\":\"Log\",\"Name\":\"json-file\"}]}},\"Status\":{\"State\":\"ready\",\"Addr\":\"10.0.0.1\"},"
        "\"ManagerStatus\":{\"Leader\":true,\"Reachability\":\"reachable\",\"Addr\":\"10.0.0.1:2377\"}}");
}

static void leader_is_shown_where_others_reach_it(void **state)
{
    static const struct {
        const char *seen, *port, *shown;
    } cases[] = {{"127.0.0.1", "10.0.0.1:2377", "10.0.0.1"},
                 {"127.0.0.1", "[fd00::1]:2377", "fd00::1"},
                 {"::1", "10.0.0.1:2377", "10.0.0.1"},
                 {"127.0.0.1", "", "127.0.0.1"}, /* no manager */
                 {"10.0.0.2", "10.0.0.1:2377", "10.0.0.2"}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct pack_node manager = {.is_manager = *cases[i].port != 0};
        char expected[64];
        Node node = NODE__INIT;

        (void)snprintf(manager.address, sizeof(manager.address), "%s", cases[i].port);
        (void)snprintf(expected, sizeof(expected), "\"State\":\"unknown\",\"Addr\":\"%s\"}", cases[i].shown);
        node.id = id_of(ID_A);
        node.address = (char *)cases[i].seen;
        pack_note(&ask->page.bytes, PACK_NODE, &manager, sizeof(manager));
        put(KIND_NODE, 4, MS, &node);
        assert_non_null(strstr(rendered(show_node), expected));
        buf_clear(&ask->page.bytes);
    }
}

static void worker_that_never_registered_is_shown_too(void **state)
{
    struct pack_node manager = {0};
    Node node = NODE__INIT;

    node.id = id_of(ID_A);
    pack_note(&ask->page.bytes, PACK_NODE, &manager, sizeof(manager));
    put(KIND_NODE, 4, MS, &node);
    assert_string_equal(
        rendered(show_node),
        "{\"ID\":\"" ID_A "\",\"Version\":{\"Index\":4},\"CreatedAt\":" TIME ",\"UpdatedAt\":" TIME
        ",\"Spec\":{},\"Description\":{\"Hostname\":\"\",\"Platform\":{},\"Resources\":{},\"Engine\":{"
        "\"EngineVersion\":\"\",\"Plugins\":[]}},\"Status\":{\"State\":\"unknown\",\"Addr\":\"\"}}");
}

static void swarm_shows_root_and_tokens_that_pin_it(void **state)
{
    Cluster cluster = CLUSTER__INIT;
    ClusterSpec spec = CLUSTER_SPEC__INIT;
    RootCa root = ROOT_CA__INIT;
    char *root_pem, *key_pem, token[CA_TOKEN_TEXT + 1];
    char *pools[] = {(char *)"10.0.0.0/8"};
    struct err e;

    if (ca_root_new(MS, &root_pem, &key_pem, &e) < 0)
        fail_msg("%s", e.text);
    spec.name = (char *)"default";
    root.has_certificate_pem = true;
    root.certificate_pem = (ProtobufCBinaryData){strlen(root_pem), (uint8_t *)root_pem};
    root.worker_secret = (char *)"0000000000000000000worker";
    root.manager_secret = (char *)"000000000000000000manager";
    cluster.id = id_of(ID_A);
    cluster.spec = &spec;
    cluster.root_ca = &root;
    cluster.default_address_pools = pools;
    cluster.n_default_address_pools = 1;
    cluster.subnet_size = 24;
    cluster.has_subnet_size = true;
    put(KIND_CLUSTER, 3, MS, &cluster);
    const char *text = rendered(show_swarm);
    assert_non_null(strstr(text, "\"ID\":\"" ID_A "\""));
    assert_non_null(strstr(text, "\"TLSInfo\":{\"TrustRoot\":\"-----BEGIN CERTIFICATE-----\\n"));
    assert_non_null(strstr(text, "\"CertIssuerSubject\":\"MBMxETAPBgNVBAMMCHN3YXJtLWNh\"")); /* CN=swarm-ca */
    assert_non_null(strstr(text, "\"CertIssuerPublicKey\":\"MFkw"));
    assert_non_null(
        strstr(text, "\"RootRotationInProgress\":false,\"DefaultAddrPool\":[\"10.0.0.0/8\"],\"SubnetSize\":24"));
    assert_int_equal(ca_token(root_pem, root.worker_secret, token, NULL), 0);
    assert_non_null(strstr(text, token));
    assert_int_equal(ca_token(root_pem, root.manager_secret, token, NULL), 0);
    assert_non_null(strstr(text, token));
    free(root_pem);
    mem_wipe(key_pem, strlen(key_pem));
    free(key_pem);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(new_service_has_spec_and_empty_endpoint),
        TEST(registry_credentials_are_never_shown),
        TEST(updated_service_shows_previous_spec_status_and_ports),
        TEST(list_of_services_has_counts_when_asked_and_commas_over_pages),
        TEST(empty_list_is_an_empty_array),
        TEST(list_whose_last_page_is_empty_is_closed),
        TEST(defaults_are_inserted_on_demand),
        TEST(given_values_stay_when_defaults_are_inserted),
        TEST(running_task_shows_its_container),
        TEST(task_without_node_says_why_it_waits),
        TEST(network_of_a_task_is_shown_once_made_known),
        TEST(each_task_has_the_template_of_its_own_version),
        TEST(every_state_has_its_name_and_back),
        TEST(node_shows_description_status_and_manager),
        TEST(leader_is_shown_where_others_reach_it),
        TEST(worker_that_never_registered_is_shown_too),
        TEST(swarm_shows_root_and_tokens_that_pin_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
