/* See manager_world.h: who owns services.
 *
 * A client owns two service names and does one thing after the other with them. It keeps a request id until it has
 * a definite answer, whoever leads meanwhile, and knows exactly what must be there afterwards. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/orchestrator/intent.h"
#include "proto/base/mem.h"
#include "tests/simulation/manager_world.h"

enum { NAMES = 2 };

enum op { OP_NONE, OP_CREATE, OP_UPDATE, OP_REMOVE };

struct name { /* what must be there */
    char text[16];
    bool exists;
    uint64_t version, replicas;
    unsigned image;
};

struct client {
    struct msim *world;
    unsigned number;
    struct name names[NAMES];
    struct name *target; /* of the request under way */
    enum op op;
    unsigned image;
    uint64_t replicas;
    bool submitted;
    bool finishing, last; /* the request is one of the last ones */
    unsigned left;        /* names that still get their last change */
    uint8_t request_id[16];
    struct msim_ask ask;
    struct control_write write;
};

static bool is_global(const struct client *c)
{
    return c->number == MSIM_CLIENTS - 1;
}

static void client_tick(struct msim *w, struct msim_event *e);

static void client_soon(struct client *c, int64_t most_us)
{
    msim_schedule(c->world, 1000 + (int64_t)msim_below(c->world, (uint64_t)most_us),
                  (struct msim_event){.fire = client_tick, .number = c->number});
}

static ServiceSpec *client_spec(struct client *c, struct arena *a)
{
    ServiceSpec *spec = ARENA_NEW(a, ServiceSpec);
    TaskSpec *task = ARENA_NEW(a, TaskSpec);
    ContainerSpec *container = ARENA_NEW(a, ContainerSpec);
    RestartPolicy *restart = ARENA_NEW(a, RestartPolicy);
    UpdateConfig *update = ARENA_NEW(a, UpdateConfig);

    service_spec__init(spec);
    task_spec__init(task);
    container_spec__init(container);
    restart_policy__init(restart);
    update_config__init(update);
    container->image = arena_printf(a, "image:%u", c->image);
    restart->has_delay_ns = true;
    restart->delay_ns = 300000000;
    update->has_parallelism = update->has_monitor_ns = true;
    update->parallelism = c->image % 3;
    update->monitor_ns = 500000000;
    task->container = container;
    task->restart = restart;
    if (c->number == 0) { /* its services publish a port that the cluster chooses */
        PortConfig *port = ARENA_NEW(a, PortConfig);

        spec->endpoint = ARENA_NEW(a, EndpointSpec);
        endpoint_spec__init(spec->endpoint);
        port_config__init(port);
        port->has_target_port = true;
        port->target_port = 80;
        spec->endpoint->n_ports = 1;
        spec->endpoint->ports = arena_dup(a, &port, sizeof(port));
    }
    spec->name = c->target->text;
    spec->task = task;
    spec->update = update;
    spec->has_mode = spec->has_replicas = true;
    spec->mode = is_global(c) ? SERVICE_MODE__GLOBAL : SERVICE_MODE__REPLICATED;
    spec->replicas = c->replicas;
    return spec;
}

static int client_execute(struct control_write *write, struct draft *d, struct plan *p, struct err *e)
{
    struct client *c = container_of(write, struct client, write);
    uint64_t number = draft_find_name(d, KIND_SERVICE, c->target->text), made;
    int rc = 0;

    if (c->op == OP_CREATE && number)
        return err_set(e, ERR_EXISTS, "service %s exists", c->target->text);
    if (c->op != OP_CREATE && !number)
        return err_set(e, ERR_NOT_FOUND, "service %s not found", c->target->text);
    if (c->op == OP_CREATE)
        rc = service_create(p, client_spec(c, p->arena), &made, e);
    else if (c->op == OP_UPDATE)
        rc = service_update(p, number, client_spec(c, p->arena), e);
    else
        rc = service_remove(p, number, e);
    write->http_status = 200;
    buf_printf(&write->reply, "%s %u", c->target->text, c->image);
    return rc;
}

/* It is done: from now on this is what must be there. */
static void client_believe(struct client *c)
{
    struct name *n = c->target;

    n->version = c->op == OP_CREATE ? 1 : n->version + 1;
    n->exists = c->op != OP_REMOVE;
    n->image = c->image;
    n->replicas = c->replicas;
}

static bool name_there(struct msim_manager *m, const struct name *n, char *why, size_t size)
{
    struct view *v = view_begin(m->store);
    uint64_t number = view_find_name(v, KIND_SERVICE, n->text);
    struct arena arena;
    struct object o;
    uint64_t version = 0;

    arena_init(&arena);
    if (number && view_get(v, KIND_SERVICE, number, &arena, &o) == 0)
        version = ((const Service *)o.message)->spec_version;
    view_end(v);
    arena_fini(&arena);
    if (n->exists == (number != 0) && (!n->exists || version == n->version))
        return true;
    (void)snprintf(why, size, "%s is %s at version %" PRIu64 ", must be %s at %" PRIu64, n->text,
                   number ? "there" : "absent", version, n->exists ? "there" : "absent", n->version);
    return false;
}

static void client_done(struct control_write *write, const struct err *e, uint64_t index)
{
    struct client *c = container_of(write, struct client, write);
    struct msim *w = c->world;
    char why[256], expected[64];

    (void)index; /* the store is looked at */
    c->submitted = false;
    w->counts.unknown += write->unknown;
    if (e->code == ERR_UNAVAILABLE || e->code == ERR_CANCELED) {
        client_soon(c, 60000); /* the same request again, to whoever leads */
        return;
    }
    if (e->code) {
        msim_fail(w, "answer", "client %u was told: %s", c->number, e->text);
        return;
    }
    (void)snprintf(expected, sizeof(expected), "%s %u", c->target->text, c->image);
    if (write->reply.length != strlen(expected) ||
        memcmp(buf_bytes(&write->reply), expected, strlen(expected)) != 0)
        msim_fail(w, "answer", "client %u was answered something else than \"%s\"", c->number, expected);
    client_believe(c);
    w->counts.acked++;
    w->counts.replayed += write->replayed;
    if (c->ask.manager->up && !name_there(c->ask.manager, c->target, why, sizeof(why)))
        msim_fail(w, "acked", "%s", why);
    bool repeat = w->plant == PLANT_ANSWER && w->faults && c->op == OP_CREATE && !w->planted;
    if (repeat) {
        w->planted = true;
        entropy_fill(&w->random.base, c->request_id, sizeof(c->request_id));
    } else {
        c->op = OP_NONE;
        c->left -= c->last;
    }
    client_soon(c, c->finishing ? 50000 : 400000);
}

static void client_arrived(struct msim_ask *ask, bool alive)
{
    struct client *c = container_of(ask, struct client, ask);

    if (!alive) {
        c->submitted = false;
        client_soon(c, 60000);
        return;
    }
    buf_fini(&c->write.reply);
    c->write = (struct control_write){.has_request_id = true, .execute = client_execute, .done = client_done};
    memcpy(c->write.request_id, c->request_id, sizeof(c->request_id));
    control_submit(ask->manager->control, &c->write);
}

static void client_submit(struct client *c)
{
    struct msim *w = c->world;
    struct msim_manager *m = msim_leader(w);
    uint64_t any = 1 + msim_below(w, w->manager_count);

    if (msim_chance(w, 10) && w->managers[any].up)
        m = &w->managers[any];
    if (!m) {
        client_soon(c, 50000);
        return;
    }
    c->submitted = true;
    c->ask.arrived = client_arrived;
    msim_ask(w, &c->ask, m);
}

static void client_choose(struct client *c)
{
    struct msim *w = c->world;

    c->last = c->finishing; /* a request that was under way before may have met a fault */
    c->target = &c->names[c->last ? c->left - 1 : msim_below(w, NAMES)];
    if (c->last && !c->target->exists) {
        c->left--;
        client_soon(c, 10000);
        return;
    }
    c->op = !c->target->exists ? OP_CREATE : msim_chance(w, c->finishing ? 0 : 15) ? OP_REMOVE : OP_UPDATE;
    c->image = c->target->image + (c->finishing || msim_chance(w, 60));
    c->replicas = is_global(c) ? 0 : 1 + msim_below(w, 6);
    entropy_fill(&w->random.base, c->request_id, sizeof(c->request_id));
    client_submit(c);
}

static void client_tick(struct msim *w, struct msim_event *e)
{
    struct client *c = w->clients[e->number];

    if (c->submitted || (c->finishing && !c->left))
        return;
    if (w->plant == PLANT_ACKED && w->faults && c->names[0].exists && !w->planted && c->op == OP_NONE) {
        w->planted = true;
        c->names[0].version++;
    }
    if (c->op == OP_NONE)
        client_choose(c);
    else
        client_submit(c);
}

static void name_make(struct name *n, unsigned client, unsigned number)
{
    (void)snprintf(n->text, sizeof(n->text), "c%un%u", client, number);
}

void clients_make(struct msim *w)
{
    for (unsigned i = 0; i < MSIM_CLIENTS; i++) {
        struct client *c = w->clients[i] = mem_alloc(sizeof(*c));

        c->world = w;
        c->number = i;
        for (unsigned k = 0; k < NAMES; k++)
            name_make(&c->names[k], i, k);
        client_soon(c, 300000);
    }
}

void clients_free(struct msim *w)
{
    for (unsigned i = 0; i < MSIM_CLIENTS; i++) {
        buf_fini(&w->clients[i]->write.reply);
        free(w->clients[i]);
    }
}

void clients_finish(struct msim *w)
{
    for (unsigned i = 0; i < MSIM_CLIENTS; i++) {
        struct client *c = w->clients[i];

        c->finishing = true;
        c->left = NAMES;
        client_soon(c, 10000);
    }
}

static bool service_content(struct msim_manager *m, const struct client *c, const struct name *n, char *why,
                            size_t size)
{
    struct index *x = control_index(m->control);
    struct view *v = view_begin(m->store);
    struct index_service *s = index_service(x, view_find_name(v, KIND_SERVICE, n->text));
    uint64_t wanted = is_global(c) ? MSIM_AGENTS : n->replicas, running = 0;
    struct index_walk walk = {0};
    struct index_task *t;

    view_end(v);
    while (s && (t = index_service_next(s, &walk)))
        running += t->state == TASK_STATE__RUNNING && t->desired == TASK_STATE__RUNNING && index_task_clean(t);
    if (!n->exists || running == wanted)
        return true;
    (void)snprintf(why, size, "%s has %" PRIu64 " of %" PRIu64 " tasks running", n->text, running, wanted);
    return false;
}

bool clients_content(struct msim *w, char *why, size_t size)
{
    struct msim_manager *m = msim_leader(w);

    if (!m) {
        (void)snprintf(why, size, "nobody leads");
        return false;
    }
    for (unsigned i = 0; i < MSIM_CLIENTS; i++) {
        struct client *c = w->clients[i];

        if (!c->finishing || c->left) {
            (void)snprintf(why, size, "client %u was not answered", i);
            return false;
        }
        for (unsigned k = 0; k < NAMES; k++)
            if (!name_there(m, &c->names[k], why, size) || !service_content(m, c, &c->names[k], why, size))
                return false;
    }
    return true;
}
