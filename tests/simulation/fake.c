/* See fake.h. Messages live in one arena until the end; objects are never freed before, so the journal may point to
 * them. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/allocator/allocator.h"
#include "manager/orchestrator/intent.h"
#include "manager/orchestrator/orchestrator.h"
#include "proto/base/mem.h"
#include "tests/simulation/fake.h"

#define MS INT64_C(1000000)

struct fake_object {
    struct object now; /* message NULL: deleted */
};

struct fake_change {
    struct fake_object *object;
    struct object before;
};

/* --- the plan's backend ----------------------------------------------------------------------------------------
 */

static uint64_t key_of(enum kind k, uint64_t number)
{
    return (uint64_t)k << 56 | number;
}

static int get(void *ctx, enum kind k, uint64_t number, struct object *ret)
{
    struct fake *f = ctx;
    struct fake_object *o = map64_get(&f->objects, key_of(k, number));

    if (!o || !o->now.message)
        return ERR_NOT_FOUND;
    *ret = o->now;
    return 0;
}

static void record(struct fake *f, struct fake_object *o)
{
    if (f->journal_count == f->journal_room) {
        f->journal_room = MAX(f->journal_room * 2, (size_t)64);
        f->journal = mem_grow(f->journal, f->journal_room, sizeof(*f->journal));
    }
    f->journal[f->journal_count++] = (struct fake_change){.object = o, .before = o->now};
}

static void write_object(struct fake *f, enum kind k, uint64_t number, const ProtobufCMessage *message)
{
    struct fake_object *o = map64_get(&f->objects, key_of(k, number));

    if (!o) {
        o = ARENA_NEW(&f->arena, struct fake_object);
        o->now = (struct object){.kind = k, .number = number};
        map64_put(&f->objects, key_of(k, number), o);
    }
    record(f, o);
    struct object before = o->now;
    if (!before.message)
        o->now.created_ms = f->plan.now_ms;
    o->now.updated_ms = f->plan.now_ms;
    o->now.message = message ? arena_message(&f->arena, message) : NULL;
    index_apply(f->index, before.message ? &before : NULL, o->now.message ? &o->now : NULL);
    f->room -= f->room > 0;
}

static uint64_t create(void *ctx, enum kind k, const ProtobufCMessage *message)
{
    struct fake *f = ctx;
    uint64_t number = f->next_number++;

    write_object(f, k, number, message);
    return number;
}

static void put(void *ctx, enum kind k, uint64_t number, const ProtobufCMessage *message)
{
    write_object(ctx, k, number, message);
}

static void remove_object(void *ctx, enum kind k, uint64_t number)
{
    struct object o;

    if (get(ctx, k, number, &o) == 0)
        write_object(ctx, k, number, NULL);
}

static void ident(void *ctx, uint8_t ret[IDENT_BYTES])
{
    struct fake *f = ctx;

    entropy_fill(&f->random.base, ret, IDENT_BYTES);
}

static size_t room(void *ctx)
{
    return ((struct fake *)ctx)->room;
}

static bool late(void *ctx)
{
    struct fake *f = ctx;

    return f->late_in && --f->late_in == 0 ? (f->late_in = 1) : false;
}

static const struct plan_backend backend = {
    .get = get, .create = create, .put = put, .remove = remove_object, .ident = ident, .room = room, .late = late};

struct fake *fake_new(uint64_t seed)
{
    struct fake *f = mem_alloc(sizeof(*f));
    Cluster cluster = CLUSTER__INIT;

    f->index = index_new();
    f->scheduler = scheduler_new();
    arena_init(&f->arena);
    entropy_seeded_init(&f->random, seed);
    f->next_number = 1;
    f->room = f->round_room = 2000;
    f->plan =
        (struct plan){.index = f->index, .now_ms = 1000000, .arena = &f->arena, .backend = &backend, .ctx = f};
    cluster.id = plan_ident(&f->plan);
    plan_create(&f->plan, KIND_CLUSTER, &cluster);
    return f;
}

void fake_free(struct fake *f)
{
    index_free(f->index);
    scheduler_free(f->scheduler);
    map64_fini(&f->objects);
    free(f->journal);
    arena_fini(&f->arena);
    free(f);
}

size_t fake_mark(const struct fake *f)
{
    return f->journal_count;
}

void fake_undo(struct fake *f, size_t mark)
{
    while (f->journal_count > mark) {
        struct fake_change *c = &f->journal[--f->journal_count];
        struct object after = c->object->now;

        c->object->now = c->before;
        index_apply(f->index, after.message ? &after : NULL, c->before.message ? &c->object->now : NULL);
    }
}

/* --- builders: texts to messages ---------------------------------------------------------------------------------
 */

static char *text(struct fake *f, const char *value)
{
    return value ? arena_strdup(&f->arena, value) : NULL;
}

/* "a=b,c" to sorted key-value entries. */
static KeyValue **key_values(struct fake *f, const char *list, size_t *ret_count)
{
    KeyValue **all = NULL;
    char *rest = text(f, list), *one;

    *ret_count = 0;
    while (rest && (one = strsep(&rest, ","))) {
        KeyValue *kv = ARENA_NEW(&f->arena, KeyValue);

        key_value__init(kv);
        kv->key = strsep(&one, "=");
        kv->value = one;
        all = arena_append(&f->arena, all, *ret_count, sizeof(KeyValue *));
        all[(*ret_count)++] = kv;
    }
    return all;
}

static char **texts(struct fake *f, const char *list, size_t *ret_count)
{
    char **all = NULL, *rest = text(f, list), *one;

    *ret_count = 0;
    while (rest && (one = strsep(&rest, ","))) {
        all = arena_append(&f->arena, all, *ret_count, sizeof(char *));
        all[(*ret_count)++] = one;
    }
    return all;
}

/* "gpu=2,ssd=a": an amount, or a named unit. */
static GenericResource **generic(struct fake *f, const char *list, size_t *ret_count)
{
    KeyValue **from = key_values(f, list, ret_count);
    GenericResource **all = arena_array(&f->arena, *ret_count, sizeof(GenericResource *));

    for (size_t i = 0; i < *ret_count; i++) {
        all[i] = ARENA_NEW(&f->arena, GenericResource);
        generic_resource__init(all[i]);
        all[i]->kind = from[i]->key;
        if (from[i]->value[0] >= '0' && from[i]->value[0] <= '9') {
            all[i]->has_discrete = true;
            all[i]->discrete = strtol(from[i]->value, NULL, 10);
        } else {
            all[i]->named = from[i]->value;
        }
    }
    return all;
}

static Resources *resources(struct fake *f, int64_t nano_cpus, int64_t memory_bytes, const char *generic_list)
{
    Resources *r = ARENA_NEW(&f->arena, Resources);

    resources__init(r);
    r->has_nano_cpus = r->has_memory_bytes = true;
    r->nano_cpus = nano_cpus;
    r->memory_bytes = memory_bytes;
    r->generic = generic(f, generic_list, &r->n_generic);
    return r;
}

static void node_message(struct fake *f, struct fake_node n, Node *ret)
{
    NodeSpec *spec = ARENA_NEW(&f->arena, NodeSpec);
    NodeDescription *d = ARENA_NEW(&f->arena, NodeDescription);
    Platform *platform = ARENA_NEW(&f->arena, Platform);

    node_spec__init(spec);
    node_description__init(d);
    platform__init(platform);
    platform->os = text(f, n.os ? n.os : "linux");
    platform->architecture = text(f, n.architecture ? n.architecture : "x86_64");
    d->hostname = text(f, n.hostname);
    d->platform = platform;
    d->resources = resources(f, n.nano_cpus, n.memory_bytes, n.generic);
    d->engine_labels = key_values(f, n.engine_labels, &d->n_engine_labels);
    d->plugins = key_values(f, n.plugins, &d->n_plugins);
    spec->labels = key_values(f, n.labels, &spec->n_labels);
    spec->has_role = spec->has_availability = true;
    spec->role = n.role;
    spec->availability = n.availability;
    ret->spec = spec;
    ret->description = d;
    ret->address = text(f, n.address);
    ret->has_state = true;
    ret->state = n.state ? n.state : NODE_STATE__UP;
}

uint64_t fake_node(struct fake *f, struct fake_node n)
{
    Node node = NODE__INIT;

    node.id = plan_ident(&f->plan);
    node_message(f, n, &node);
    return plan_create(&f->plan, KIND_NODE, &node);
}

void fake_node_set(struct fake *f, uint64_t number, struct fake_node n)
{
    Node node = *plan_node(&f->plan, number);

    node_message(f, n, &node);
    plan_put(&f->plan, KIND_NODE, number, &node);
}

void fake_node_state(struct fake *f, uint64_t number, NodeState state)
{
    assert(node_set_state(&f->plan, number, state, NULL, NULL, NULL) == 0);
}

static void node_spec_put(struct fake *f, uint64_t number, const NodeSpec *spec)
{
    Node node = *plan_node(&f->plan, number);

    node.spec = (NodeSpec *)spec;
    plan_put(&f->plan, KIND_NODE, number, &node);
}

void fake_node_availability(struct fake *f, uint64_t number, NodeAvailability availability)
{
    NodeSpec spec = *plan_node(&f->plan, number)->spec;

    spec.availability = availability;
    node_spec_put(f, number, &spec);
}

void fake_node_labels(struct fake *f, uint64_t number, const char *labels)
{
    NodeSpec spec = *plan_node(&f->plan, number)->spec;

    spec.labels = key_values(f, labels, &spec.n_labels);
    node_spec_put(f, number, &spec);
}

void fake_node_remove(struct fake *f, uint64_t number)
{
    assert(node_remove(&f->plan, number, NULL) == 0);
}

static Placement *placement(struct fake *f, struct fake_service s)
{
    Placement *p = ARENA_NEW(&f->arena, Placement);
    size_t count;
    char **platforms = texts(f, s.platforms, &count);

    if (!s.constraints && !s.preferences && !s.platforms && !s.max_replicas)
        return NULL;
    placement__init(p);
    p->constraints = texts(f, s.constraints, &p->n_constraints);
    p->spread_descriptors = texts(f, s.preferences, &p->n_spread_descriptors);
    p->has_max_replicas = s.max_replicas != 0;
    p->max_replicas = s.max_replicas;
    p->n_platforms = count;
    p->platforms = arena_array(&f->arena, count, sizeof(Platform *));
    for (size_t i = 0; i < count; i++) {
        p->platforms[i] = ARENA_NEW(&f->arena, Platform);
        platform__init(p->platforms[i]);
        p->platforms[i]->os = strsep(&platforms[i], "/");
        p->platforms[i]->architecture = platforms[i];
    }
    return p;
}

static EndpointSpec *endpoint(struct fake *f, struct fake_service s)
{
    EndpointSpec *e = ARENA_NEW(&f->arena, EndpointSpec);
    const struct {
        bool wanted;
        uint32_t port;
        PublishMode mode;
    } ports[] = {{s.host_port, s.host_port, PUBLISH_MODE__HOST},
                 {s.mesh_port, s.mesh_port, PUBLISH_MODE__INGRESS},
                 {s.automatic_port, 0, PUBLISH_MODE__INGRESS}};

    endpoint_spec__init(e);
    e->ports = arena_array(&f->arena, ARRAY_SIZE(ports), sizeof(PortConfig *));
    for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
        if (!ports[i].wanted)
            continue;
        PortConfig *p = e->ports[e->n_ports++] = ARENA_NEW(&f->arena, PortConfig);
        port_config__init(p);
        p->has_target_port = p->has_mode = true;
        p->target_port = 80 + (uint32_t)i;
        p->has_published_port = ports[i].port != 0;
        p->published_port = ports[i].port;
        p->mode = ports[i].mode;
    }
    return e->n_ports ? e : NULL;
}

static RestartPolicy *restart_policy(struct fake *f, struct fake_service s)
{
    RestartPolicy *r = ARENA_NEW(&f->arena, RestartPolicy);

    restart_policy__init(r);
    r->has_condition = s.has_condition;
    r->condition = s.condition;
    r->has_delay_ns = s.delay_ms >= 0;
    r->delay_ns = s.delay_ms * MS;
    r->has_max_attempts = r->has_window_ns = true;
    r->max_attempts = s.attempts;
    r->window_ns = s.window_ms * MS;
    return r;
}

static UpdateConfig *update_policy(struct fake *f, struct fake_service s)
{
    UpdateConfig *u = ARENA_NEW(&f->arena, UpdateConfig);

    if (!s.has_update)
        return NULL;
    update_config__init(u);
    u->has_parallelism = u->has_delay_ns = u->has_failure_action = u->has_max_failure_ratio = u->has_order = true;
    u->parallelism = s.parallelism;
    u->delay_ns = s.update_delay_ms * MS;
    u->has_monitor_ns = s.monitor_ms != 0;
    u->monitor_ns = s.monitor_ms * MS;
    u->failure_action = s.failure_action;
    u->max_failure_ratio = s.failure_ratio;
    u->order = s.order;
    return u;
}

static ContainerSpec *container(struct fake *f, struct fake_service s)
{
    ContainerSpec *c = ARENA_NEW(&f->arena, ContainerSpec);

    container_spec__init(c);
    c->image = text(f, s.image ? s.image : "web:1");
    c->registry_auth = text(f, s.registry_auth);
    if (s.volume_driver) {
        Mount *m = ARENA_NEW(&f->arena, Mount);

        mount__init(m);
        m->has_type = true;
        m->type = MOUNT_TYPE__VOLUME;
        m->volume_driver = text(f, s.volume_driver);
        c->n_mounts = 1;
        c->mounts = arena_dup(&f->arena, &m, sizeof(m));
    }
    return c;
}

ServiceSpec *fake_spec(struct fake *f, struct fake_service s)
{
    ServiceSpec *spec = ARENA_NEW(&f->arena, ServiceSpec);
    TaskSpec *task = ARENA_NEW(&f->arena, TaskSpec);

    service_spec__init(spec);
    task_spec__init(task);
    task->container = container(f, s);
    task->placement = placement(f, s);
    task->restart = restart_policy(f, s);
    if (s.nano_cpus || s.memory_bytes || s.generic)
        task->reservations = resources(f, s.nano_cpus, s.memory_bytes, s.generic);
    if (s.log_driver) {
        task->log_driver = ARENA_NEW(&f->arena, LogDriver);
        log_driver__init(task->log_driver);
        task->log_driver->name = text(f, s.log_driver);
    }
    spec->name = text(f, s.name ? s.name : "web");
    spec->task = task;
    spec->has_mode = spec->has_replicas = true;
    spec->mode = s.mode;
    spec->replicas = s.replicas;
    spec->update = update_policy(f, s);
    spec->rollback = update_policy(f, s);
    spec->endpoint = endpoint(f, s);
    return spec;
}

uint64_t fake_service(struct fake *f, struct fake_service s)
{
    uint64_t number;
    struct err e = {0};

    if (service_create(&f->plan, fake_spec(f, s), &number, &e) < 0) {
        fprintf(stderr, "service_create: %s\n", e.text);
        abort();
    }
    return number;
}

void fake_service_update(struct fake *f, uint64_t number, struct fake_service s)
{
    struct err e = {0};

    if (service_update(&f->plan, number, fake_spec(f, s), &e) < 0) {
        fprintf(stderr, "service_update: %s\n", e.text);
        abort();
    }
}

void fake_service_remove(struct fake *f, uint64_t number)
{
    assert(service_remove(&f->plan, number, NULL) == 0);
}

void fake_history_limit(struct fake *f, int64_t limit)
{
    Cluster cluster = *plan_cluster(&f->plan);
    ClusterSpec spec = CLUSTER_SPEC__INIT;

    spec.has_task_history_limit = true;
    spec.task_history_limit = limit;
    cluster.spec = &spec;
    plan_put(&f->plan, KIND_CLUSTER, f->index->cluster, &cluster);
}

/* --- turns -------------------------------------------------------------------------------------------------------
 */

size_t fake_round(struct fake *f)
{
    size_t before = f->journal_count;

    f->room = f->round_room;
    f->plan.wall_ns = f->plan.now_ms * MS;
    f->plan.reserve = f->round_room / 4;
    orchestrate(&f->plan);
    f->plan.reserve = 0;
    allocate(&f->plan);
    schedule(f->scheduler, &f->plan);
    f->room = f->round_room; /* what the test writes itself is not limited */
    f->late_in = 0;
    return f->journal_count - before;
}

size_t fake_settle(struct fake *f)
{
    size_t rounds = 0, idle = 0;

    /* A round may write nothing because it was full of looking: a few more. */
    while (idle < 3) {
        if (fake_round(f)) {
            idle = 0;
            rounds++;
        } else {
            idle++;
        }
        assert(rounds < 100000);
    }
    return rounds;
}

static TaskState next_state(const struct index_task *t)
{
    if (index_task_ended(t) || t->state < TASK_STATE__ASSIGNED)
        return t->state;
    if (t->desired >= TASK_STATE__SHUTDOWN)
        return TASK_STATE__SHUTDOWN;
    switch (t->state) {
    case TASK_STATE__ASSIGNED:
        return TASK_STATE__ACCEPTED;
    case TASK_STATE__ACCEPTED:
        return TASK_STATE__PREPARING;
    case TASK_STATE__PREPARING:
        return TASK_STATE__READY;
    case TASK_STATE__READY:
        return t->desired > TASK_STATE__READY ? TASK_STATE__STARTING : TASK_STATE__READY;
    case TASK_STATE__STARTING:
        return TASK_STATE__RUNNING;
    default:
        return t->state;
    }
}

void fake_report(struct fake *f, uint64_t number, TaskState state, const char *err)
{
    struct index_task *t = index_task(f->index, number);
    Status status = STATUS__INIT;

    status.state = state;
    status.err = text(f, err);
    if (t && t->share)
        plan_report(&f->plan, t->share->node, t->id, &status);
}

void fake_bring(struct fake *f, uint64_t task, TaskState state)
{
    static const TaskState way[] = {TASK_STATE__ACCEPTED, TASK_STATE__PREPARING, TASK_STATE__READY,
                                    TASK_STATE__STARTING, TASK_STATE__RUNNING};

    for (size_t i = 0; i < ARRAY_SIZE(way) && way[i] < state; i++)
        fake_report(f, task, way[i], NULL);
    fake_report(f, task, state, NULL);
}

size_t fake_agents(struct fake *f, unsigned steps)
{
    size_t before = f->journal_count;

    for (uint64_t number = 1; number < f->next_number; number++)
        for (unsigned i = 0; i < steps; i++) {
            struct index_task *t = index_task(f->index, number);

            if (!t || !t->share || !t->share->node->exists || t->share->node->state != NODE_STATE__UP ||
                next_state(t) == t->state)
                break;
            fake_report(f, number, next_state(t), NULL);
        }
    return f->journal_count - before;
}

void fake_converge(struct fake *f)
{
    for (unsigned turns = 0;; turns++) {
        size_t written = fake_settle(f) + fake_agents(f, 10);

        if (!written)
            return;
        assert(turns < 10000);
    }
}

void fake_advance(struct fake *f, int64_t ms)
{
    f->plan.now_ms += ms;
    fake_settle(f);
}

/* --- looking
 * ------------------------------------------------------------------------------------------------------- */

const Task *fake_task(struct fake *f, uint64_t number)
{
    return plan_task(&f->plan, number);
}

const Status *fake_status(struct fake *f, uint64_t number)
{
    return plan_status(&f->plan, number);
}

const Service *fake_service_object(struct fake *f, uint64_t number)
{
    return plan_service(&f->plan, number);
}

uint64_t fake_newest(struct fake *f, uint64_t service, uint64_t slot, uint64_t node)
{
    struct index_service *s = index_service(f->index, service);
    struct index_slot *found = s ? index_slot(s, slot ? slot : INDEX_SLOT_NODE | node) : NULL;

    return found ? list_last(&found->tasks, struct index_task, by_slot)->number : 0;
}

unsigned fake_count(struct fake *f, uint64_t service, TaskState desired, TaskState at_least)
{
    struct index_service *s = index_service(f->index, service);
    struct index_walk w = {0};
    struct index_task *t;
    unsigned count = 0;

    while (s && (t = index_service_next(s, &w)))
        count += t->desired == desired && t->state >= at_least &&
                 (at_least > TASK_STATE__RUNNING || !index_task_ended(t));
    return count;
}

unsigned fake_count_on(struct fake *f, uint64_t service, uint64_t node)
{
    struct index_share *share = index_share(f->index, service, node);

    return share ? share->counted : 0;
}

void fake_check(struct fake *f)
{
    static const enum kind kinds[] = {KIND_CLUSTER, KIND_NODE,   KIND_SERVICE, KIND_SPEC,
                                      KIND_TASK,    KIND_STATUS, KIND_REQUEST};
    struct index *again = index_new();
    char difference[256] = "";

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        for (uint64_t number = 1; number < f->next_number; number++) {
            struct object o;

            if (get(f, kinds[i], number, &o) == 0)
                index_apply(again, NULL, &o);
        }
    if (!index_equal(f->index, again, difference, sizeof(difference))) {
        fprintf(stderr, "warm and rebuilt index differ: %s\n", difference);
        abort();
    }
    index_free(again);
}

void fake_check_settled(struct fake *f)
{
    fake_check(f);
    size_t mark = f->journal_count;
    index_mark_all(f->index);
    fake_settle(f);
    if (f->journal_count == mark && !index_marked(f->index))
        return;
    if (f->journal_count == mark) {
        fprintf(stderr, "marks are left that nobody works off\n");
        abort();
    }
    const struct object *o = &f->journal[mark].object->now;
    fprintf(stderr, "a settled state was planned again: %zu writes, first %s %llu\n", f->journal_count - mark,
            o->message ? o->message->descriptor->name : "removal of", (unsigned long long)o->number);
    abort();
}
