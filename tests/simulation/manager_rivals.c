/* See manager_world.h: clients that fight for the same services.
 *
 * A rival reads a service with a strong read, or swaps what it knows of it for something new: creates it, updates
 * the version it knows, or removes it. What a service holds is a number, told apart by the image it names; no
 * number is given twice. A rival repeats a request whose outcome it did not learn under the same id, but not for
 * ever: some outcomes stay unknown. Everything is written down, and looked at in the end (linear.h). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/orchestrator/intent.h"
#include "proto/base/mem.h"
#include "tests/simulation/manager_world.h"

struct rival {
    struct msim *world;
    unsigned number, object;
    struct linear_op op; /* under way, or to be asked again */
    bool busy;           /* the answer is still to come */
    bool open;           /* op has no answer that settles it */
    bool unknown;        /* some answer to op was "unknown" */
    bool finishing, finished;
    uint64_t known[MSIM_OBJECTS]; /* what it saw last */
    uint64_t next;                /* number it will give out */
    uint64_t seen;                /* by the last execution of op */
    uint8_t request_id[16];
    struct msim_ask ask;
    struct control_write write;
};

static void rival_tick(struct msim *w, struct msim_event *e);

static void rival_soon(struct rival *r, uint64_t most_us)
{
    msim_schedule(r->world, 500 + (int64_t)msim_below(r->world, most_us),
                  (struct msim_event){.fire = rival_tick, .number = r->number});
}

static void object_name(unsigned object, char ret[16])
{
    (void)snprintf(ret, 16, "rivals%u", object);
}

/* --- the history ------------------------------------------------------------------------------------ */

static void write_down(struct rival *r, enum linear_kind kind, bool known)
{
    struct msim *w = r->world;
    size_t count = w->history_count[r->object];

    if ((count & (count - 1)) == 0)
        w->history[r->object] = mem_grow(w->history[r->object], count ? 2 * count : 1, sizeof(struct linear_op));
    r->op.kind = kind;
    r->op.returned = known ? ++w->moment : LINEAR_UNKNOWN;
    w->history[r->object][w->history_count[r->object]++] = r->op;
    r->open = false;
    w->counts.swaps += known && kind == LINEAR_SWAP;
    w->counts.reads += known && kind == LINEAR_READ;
    w->counts.gave_up += !known;
}

static void saw(struct rival *r, uint64_t held)
{
    r->op.found = r->known[r->object] = held;
    write_down(r, LINEAR_READ, true);
    r->finished = r->finishing;
}

/* --- asking ----------------------------------------------------------------------------------------- */

static uint64_t held_by(const Spec *spec)
{
    return spec && spec->spec->task->container ? strtoull(spec->spec->task->container->image + 6, NULL, 10) : 0;
}

static ServiceSpec *make_spec(const struct rival *r, struct arena *a)
{
    ServiceSpec *spec = ARENA_NEW(a, ServiceSpec);
    TaskSpec *task = ARENA_NEW(a, TaskSpec);
    ContainerSpec *container = ARENA_NEW(a, ContainerSpec);
    char name[16];

    service_spec__init(spec);
    task_spec__init(task);
    container_spec__init(container);
    object_name(r->object, name);
    container->image = arena_printf(a, "image:%" PRIu64, r->op.left);
    task->container = container;
    spec->name = arena_strdup(a, name);
    spec->task = task;
    spec->has_mode = spec->has_replicas = true;
    spec->mode = SERVICE_MODE__REPLICATED;
    spec->replicas = 1;
    return spec;
}

static int execute(struct control_write *write, struct draft *d, struct plan *p, struct err *e)
{
    struct rival *r = container_of(write, struct rival, write);
    char name[16];

    object_name(r->object, name);
    uint64_t number = draft_find_name(d, KIND_SERVICE, name), made;
    const struct index_service *s = number ? index_service(p->index, number) : NULL;
    r->seen = s && s->current ? held_by(plan_spec(p, s->current)) : 0;
    if (r->seen != r->op.found)
        return err_set(e, ERR_CONFLICT, "update out of sequence");
    write->http_status = 200;
    if (!number)
        return service_create(p, make_spec(r, p->arena), &made, e);
    return r->op.left ? service_update(p, number, make_spec(r, p->arena), e) : service_remove(p, number, e);
}

/* Whether it asks again under the same id; else it never learns. */
static void no_answer(struct rival *r, bool unknown)
{
    r->unknown |= unknown;
    r->world->counts.unknown += unknown;
    if (!r->finishing && msim_chance(r->world, 70))
        return;
    if (r->unknown)
        write_down(r, LINEAR_SWAP, false);
    r->open = false; /* what nobody executed did not happen */
}

static void swap_done(struct control_write *write, const struct err *e, uint64_t index)
{
    struct rival *r = container_of(write, struct rival, write);

    (void)index; /* the history says it */
    r->busy = false;
    if (e->code == 0) {
        r->known[r->object] = r->op.left;
        r->world->counts.replayed += write->replayed;
        write_down(r, LINEAR_SWAP, true);
    } else if (e->code == ERR_CONFLICT) {
        r->world->counts.mismatches++;
        saw(r, r->seen);
        r->finished = false;
    } else if (e->code == ERR_UNAVAILABLE || e->code == ERR_CANCELED) {
        no_answer(r, write->unknown);
    } else {
        msim_fail(r->world, "answer", "rival %u was told: %s", r->number, e->text);
    }
    rival_soon(r, r->finishing ? 50000 : 80000);
}

static void ask_swap(struct rival *r, struct msim_manager *m)
{
    buf_fini(&r->write.reply);
    r->write = (struct control_write){.has_request_id = true, .execute = execute, .done = swap_done};
    memcpy(r->write.request_id, r->request_id, sizeof(r->request_id));
    control_submit(m->control, &r->write);
}

/* What the applied state says: the index may be ahead of it. */
static uint64_t look(struct msim_manager *m, unsigned object)
{
    struct view *v = view_begin(m->store);
    struct arena arena;
    struct object service, o;
    uint64_t held = 0, spec = 0;
    char name[16];

    object_name(object, name);
    arena_init(&arena);
    uint64_t number = view_find_name(v, KIND_SERVICE, name);
    if (number && view_get(v, KIND_SERVICE, number, &arena, &service) == 0)
        while (!held && (spec = view_next(v, KIND_SPEC, spec)) && view_get(v, KIND_SPEC, spec, &arena, &o) == 0) {
            const Spec *one = (const Spec *)o.message;

            if (one->service == number && one->version == ((const Service *)service.message)->spec_version)
                held = held_by(one);
        }
    view_end(v);
    arena_fini(&arena);
    return held;
}

static void read_done(void *ctx, const struct err *e)
{
    struct rival *r = ctx;

    r->busy = r->open = false;
    if (e->code == 0 && r->ask.manager->up && r->ask.manager->life == r->ask.life)
        saw(r, look(r->ask.manager, r->object));
    rival_soon(r, r->finishing ? 50000 : 80000);
}

static void ask_read(struct rival *r, struct msim_manager *m)
{
    static const struct err fine;

    if (r->world->plant == PLANT_LINEAR) {
        read_done(r, &fine);
    } else if (control_read(m->control, read_done, r, NULL) < 0) {
        r->busy = r->open = false;
        rival_soon(r, 50000);
    }
}

/* --- what it does next ------------------------------------------------------------------------------ */

static void choose(struct rival *r)
{
    struct msim *w = r->world;

    r->object = (unsigned)msim_below(w, MSIM_OBJECTS);
    r->op = (struct linear_op){.kind = LINEAR_READ, .called = ++w->moment};
    r->open = true;
    r->unknown = false;
    if (r->finishing || msim_chance(w, 30))
        return;
    r->op.kind = LINEAR_SWAP;
    r->op.found = r->known[r->object];
    r->op.left = r->op.found && msim_chance(w, 15) ? 0 : r->next;
    r->next += r->op.left ? MSIM_RIVALS : 0;
    entropy_fill(&w->random.base, r->request_id, sizeof(r->request_id));
}

/* Mostly whoever leads; sometimes whoever believes to. */
static struct msim_manager *whom(struct rival *r)
{
    struct msim *w = r->world;
    struct msim_manager *any = &w->managers[1 + msim_below(w, w->manager_count)];

    return msim_chance(w, 40) && any->up && control_leads(any->control) ? any : msim_leader(w);
}

static void arrived(struct msim_ask *ask, bool alive)
{
    struct rival *r = container_of(ask, struct rival, ask);

    if (alive && r->op.kind == LINEAR_SWAP) {
        ask_swap(r, ask->manager);
    } else if (alive) {
        ask_read(r, ask->manager);
    } else {
        r->busy = false;
        rival_soon(r, 50000);
    }
}

static void rival_tick(struct msim *w, struct msim_event *e)
{
    struct rival *r = w->rivals[e->number];
    struct msim_manager *m = whom(r);

    if (r->busy || r->finished)
        return;
    if (!m) {
        rival_soon(r, 50000);
        return;
    }
    if (!r->open)
        choose(r);
    r->busy = true;
    r->ask.arrived = arrived;
    msim_ask(w, &r->ask, m);
}

/* --- all of them ------------------------------------------------------------------------------------ */

void rivals_make(struct msim *w)
{
    for (unsigned i = 0; i < MSIM_RIVALS; i++) {
        struct rival *r = w->rivals[i] = mem_alloc(sizeof(*r));

        r->world = w;
        r->number = i;
        r->next = 1 + i;
        rival_soon(r, 300000);
    }
}

void rivals_free(struct msim *w)
{
    for (unsigned i = 0; i < MSIM_RIVALS; i++) {
        buf_fini(&w->rivals[i]->write.reply);
        free(w->rivals[i]);
    }
}

void rivals_finish(struct msim *w)
{
    for (unsigned i = 0; i < MSIM_RIVALS; i++)
        w->rivals[i]->finishing = true;
}

bool rivals_content(const struct msim *w, char *why, size_t size)
{
    for (unsigned i = 0; i < MSIM_RIVALS; i++)
        if (!w->rivals[i]->finished) {
            (void)snprintf(why, size, "rival %u has not read", i);
            return false;
        }
    return true;
}
