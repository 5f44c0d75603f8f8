/* The control loop against the real store and a replica that does what the test says: when a proposal is applied,
 * lost or refused, and who leads. (The real replica: tests/simulation/manager_sim.c.) */
#include "manager/control.h"
#include "manager/control_fill.h"
#include "manager/orchestrator/intent.h"
#include "manager/store/testing.h"

/* --- the replica
 * -------------------------------------------------------------------------------------------------- */

struct replica {
    struct replica_events events;
    uint64_t index;
    bool leads, refuses;
    struct buf proposal; /* the one under way */
    void (*done)(void *ctx, const struct err *e, uint64_t index);
    void *done_ctx;
    unsigned proposals;
    void (*read_done[16])(void *ctx, const struct err *e);
    void *read_ctx[16];
    unsigned reads;
};

static struct replica fake;

int replica_open(const struct replica_config *config, const struct replica_events *events, struct replica **ret,
                 struct err *e)
{
    fake = (struct replica){.events = *events, .index = config->applied};
    *ret = &fake;
    return 0;
}

void replica_close(struct replica *r, void (*closed)(void *ctx), void *ctx)
{
    buf_fini(&r->proposal);
    closed(ctx);
}

int replica_propose(struct replica *r, const void *data, size_t size,
                    void (*done)(void *ctx, const struct err *e, uint64_t index), void *ctx, struct err *e)
{
    if (r->refuses || !r->leads)
        return err_set(e, ERR_UNAVAILABLE, "refused");
    assert_null(r->done); /* exactly one is in flight */
    buf_append(&r->proposal, data, size);
    r->done = done;
    r->done_ctx = ctx;
    r->proposals++;
    return 0;
}

int replica_blocked(const struct replica *r, struct err *e)
{
    return r->refuses || !r->leads ? err_set(e, ERR_UNAVAILABLE, "refused") : 0;
}

int replica_read(struct replica *r, void (*done)(void *ctx, const struct err *e), void *ctx, struct err *e)
{
    if (!r->leads)
        return err_set(e, ERR_UNAVAILABLE, "no leader");
    assert_true(r->reads < ARRAY_SIZE(r->read_done));
    r->read_done[r->reads] = done;
    r->read_ctx[r->reads++] = ctx;
    return 0;
}

uint64_t replica_leader(const struct replica *r, const char **ret_address)
{
    return r->leads ? 1 : 0;
}

static void apply(const void *data, size_t size)
{
    struct replica_entry entry = {.index = ++fake.index, .term = 1, .data = data, .size = size};

    assert_int_equal(fake.events.on_apply(fake.events.ctx, &entry, 1, NULL), 0);
}

static void answer(int code)
{
    void (*done)(void *ctx, const struct err *e, uint64_t index) = fake.done;
    struct err e = {.code = code};

    fake.done = NULL;
    buf_clear(&fake.proposal);
    done(fake.done_ctx, &e, code ? 0 : fake.index);
}

/* The proposal under way is applied. */
static void commit(void)
{
    assert_non_null(fake.done);
    apply(buf_bytes(&fake.proposal), fake.proposal.length);
    answer(0);
}

static void confirm_reads(int code)
{
    struct err e = {.code = code};
    unsigned count = fake.reads;

    fake.reads = 0;
    for (unsigned i = 0; i < count; i++)
        fake.read_done[i](fake.read_ctx[i], &e);
}

static void lead(bool leads)
{
    fake.leads = leads;
    fake.events.on_state(fake.events.ctx, leads ? REPLICA_LEADER : REPLICA_FOLLOWER, 1);
}

/* --- the rest of the machine
 * --------------------------------------------------------------------------------------- */

struct machine {
    struct rig rig;
    struct control *control;
    struct clock clock;
    int64_t us;
    unsigned woken;
    bool closed;
};

static int64_t mono_us(struct clock *c)
{
    return container_of(c, struct machine, clock)->us;
}

static int64_t wall_ms(struct clock *c)
{
    return 1700000000000 + container_of(c, struct machine, clock)->us / 1000;
}

static void on_wake(void *ctx)
{
    ((struct machine *)ctx)->woken++;
}

static void on_fatal(void *ctx, const struct err *e)
{
    fail_msg("fatal: %s", e->text);
}

static void on_closed(void *ctx)
{
    ((struct machine *)ctx)->closed = true;
}

static void open_control(struct machine *m, const struct control_founding *founding)
{
    struct control_config config = {.store = m->rig.s,
                                    .clock = &m->clock,
                                    .entropy = &m->rig.entropy.base,
                                    .founding = founding,
                                    .ctx = m,
                                    .wake = on_wake,
                                    .on_fatal = on_fatal};

    m->closed = false;
    assert_int_equal(control_open(&config, &m->control, NULL), 0);
}

static struct machine *machine_new(void)
{
    struct machine *m = mem_alloc(sizeof(*m));

    rig_start(&m->rig);
    m->clock = (struct clock){.mono_us = mono_us, .wall_ms = wall_ms};
    m->us = 5000000;
    open_control(m, NULL);
    lead(true);
    return m;
}

static void machine_free(struct machine *m)
{
    control_close(m->control, on_closed, m);
    assert_true(m->closed);
    rig_stop(&m->rig);
    free(m);
}

/* Turns until nothing is due at once. */
static int64_t turns(struct machine *m)
{
    int64_t wait;

    for (int i = 0; (wait = control_turn(m->control)) == 0; i++)
        assert_true(i < 1000);
    return wait;
}

/* Turns and commits until nothing is under way. */
static void settle(struct machine *m)
{
    for (int i = 0; i < 1000; i++) {
        turns(m);
        if (!fake.done)
            return;
        commit();
    }
    fail();
}

static void same_index(struct machine *m)
{
    struct index *again = index_rebuild(m->rig.s);
    char difference[256];

    if (!index_equal(control_index(m->control), again, difference, sizeof(difference)))
        fail_msg("%s", difference);
    index_free(again);
}

/* --- writes
 * --------------------------------------------------------------------------------------------------------- */

struct write {
    struct control_write base;
    const char *name; /* of the service it makes; NULL: it fails */
    uint64_t replicas;
    unsigned objects; /* networks it makes besides */
    size_t bytes;     /* of each network's driver */
    int done;         /* how often */
    unsigned executed;
    struct err e;
    uint64_t index;
};

static int execute(struct control_write *base, struct draft *d, struct plan *p, struct err *e)
{
    struct write *w = (struct write *)base;
    ServiceSpec spec = SERVICE_SPEC__INIT;
    uint64_t number;

    w->executed++;
    for (unsigned i = 0; i < w->objects; i++) {
        Network n = NETWORK__INIT;
        NetworkSpec n_spec = NETWORK_SPEC__INIT;

        n.id = plan_ident(p);
        if (w->bytes)
            n_spec.driver = memset(arena_alloc(p->arena, w->bytes + 1), 'x', w->bytes);
        n.spec = &n_spec;
        plan_create(p, KIND_NETWORK, &n);
    }
    if (!w->name)
        return err_set(e, ERR_INVALID, "this one fails");
    if (draft_find_name(d, KIND_SERVICE, w->name))
        return err_set(e, ERR_EXISTS, "service %s exists", w->name);
    spec.name = (char *)w->name;
    spec.has_replicas = true;
    spec.replicas = w->replicas;
    base->http_status = 201;
    buf_printf(&base->reply, "made %s", w->name);
    return service_create(p, &spec, &number, e);
}

static void on_done(struct control_write *base, const struct err *e, uint64_t index)
{
    struct write *w = (struct write *)base;

    w->done++;
    w->e = *e;
    w->index = index;
}

static struct write a_write(const char *name)
{
    return (struct write){.base = {.execute = execute, .done = on_done}, .name = name};
}

static uint64_t find_service(struct machine *m, const char *name)
{
    struct view *v = view_begin(m->rig.s);
    uint64_t number = view_find_name(v, KIND_SERVICE, name);

    view_end(v);
    return number;
}

static void write_is_answered_when_it_is_applied_with_all_that_follows(void **state)
{
    struct machine *m = machine_new();
    struct write w = a_write("web");

    w.replicas = 3;
    control_submit(m->control, &w.base);
    assert_int_equal(w.done, 0);
    assert_true(m->woken > 0);
    turns(m);
    assert_int_equal(w.done, 0);
    assert_int_equal(fake.proposals, 1);
    assert_int_equal(find_service(m, "web"), 0);
    commit();
    assert_int_equal(w.done, 1);
    assert_int_equal(w.e.code, 0);
    assert_int_equal(w.index, fake.index);
    assert_int_not_equal(find_service(m, "web"), 0);
    assert_int_equal(store_count(m->rig.s, KIND_TASK), 3); /* one entry made the service and its tasks */
    assert_int_equal(turns(m), -1);
    same_index(m);
    machine_free(m);
    buf_fini(&w.base.reply);
}

static void what_comes_meanwhile_waits_and_goes_together(void **state)
{
    struct machine *m = machine_new();
    struct write w[5] = {a_write("a"), a_write("b"), a_write("c"), a_write("d"), a_write("e")};

    control_submit(m->control, &w[0].base);
    turns(m);
    for (int i = 1; i < 5; i++) {
        control_submit(m->control, &w[i].base);
        turns(m);
        assert_int_equal(w[i].executed, 0);
    }
    commit();
    turns(m);
    assert_int_equal(fake.proposals, 2);
    commit();
    for (int i = 0; i < 5; i++) {
        assert_int_equal(w[i].done, 1);
        assert_int_equal(w[i].e.code, 0);
        buf_fini(&w[i].base.reply);
    }
    same_index(m);
    machine_free(m);
}

static void failing_write_leaves_nothing_and_is_answered_with_the_draft_it_saw(void **state)
{
    struct machine *m = machine_new();
    struct write good = a_write("web"), twice = a_write("web"), bad = a_write(NULL);

    bad.objects = 3;
    control_submit(m->control, &good.base);
    control_submit(m->control, &twice.base);
    control_submit(m->control, &bad.base);
    turns(m);
    /* "web exists" would be a lie if the draft were lost. */
    assert_int_equal(twice.done + bad.done, 0);
    commit();
    assert_int_equal(good.e.code, 0);
    assert_int_equal(twice.e.code, ERR_EXISTS);
    assert_string_equal(twice.e.text, "service web exists");
    assert_int_equal(bad.e.code, ERR_INVALID);
    assert_int_equal(store_count(m->rig.s, KIND_NETWORK), 0);
    same_index(m);
    machine_free(m);
    buf_fini(&good.base.reply);
}

static void failing_write_alone_is_answered_once_we_know_that_we_lead(void **state)
{
    struct machine *m = machine_new();
    struct write bad = a_write(NULL), other = a_write(NULL);

    control_submit(m->control, &bad.base);
    turns(m);
    assert_int_equal(fake.proposals, 0);
    assert_int_equal(bad.done, 0);
    confirm_reads(0);
    assert_int_equal(bad.e.code, ERR_INVALID);
    control_submit(m->control, &other.base);
    turns(m);
    confirm_reads(ERR_UNAVAILABLE);
    assert_int_equal(other.e.code, ERR_UNAVAILABLE);
    assert_false(other.base.unknown);
    machine_free(m);
}

static void manager_that_does_not_lead_turns_writes_away_unexecuted(void **state)
{
    struct machine *m = machine_new();
    struct write w = a_write("web");
    struct err e;

    lead(false);
    control_submit(m->control, &w.base);
    assert_int_equal(w.done, 0);
    turns(m);
    assert_int_equal(w.e.code, ERR_UNAVAILABLE);
    assert_int_equal(w.executed, 0);
    assert_false(w.base.unknown);
    assert_int_equal(control_read(m->control, NULL, NULL, &e), ERR_UNAVAILABLE);
    machine_free(m);
}

static void lost_leadership_leaves_the_outcome_unknown_and_the_index_right(void **state)
{
    struct machine *m = machine_new();
    struct write w = a_write("web"), waiting = a_write("b");

    w.replicas = 5;
    control_submit(m->control, &w.base);
    turns(m);
    control_submit(m->control, &waiting.base);
    assert_int_equal(control_index(m->control)->tasks.count, 5);
    fake.leads = false;
    answer(ERR_UNAVAILABLE);
    lead(false);
    assert_int_equal(w.e.code, ERR_UNAVAILABLE);
    assert_true(w.base.unknown);
    assert_int_equal(control_index(m->control)->tasks.count, 0);
    same_index(m);
    turns(m);
    assert_int_equal(waiting.e.code, ERR_UNAVAILABLE);
    assert_false(waiting.base.unknown);
    machine_free(m);
    buf_fini(&w.base.reply);
}

static void entry_that_was_lost_and_comes_after_all_is_followed(void **state)
{
    struct machine *m = machine_new();
    struct write w = a_write("web");
    AUTO_BUF struct buf entry = {0};

    w.replicas = 2;
    control_submit(m->control, &w.base);
    turns(m);
    buf_append(&entry, buf_bytes(&fake.proposal), fake.proposal.length);
    fake.leads = false;
    answer(ERR_UNAVAILABLE);
    lead(false);
    apply(buf_bytes(&entry), entry.length);
    assert_int_equal(control_index(m->control)->tasks.count, 2);
    same_index(m);
    machine_free(m);
    buf_fini(&w.base.reply);
}

static void request_id_is_answered_from_the_store_the_second_time(void **state)
{
    struct machine *m = machine_new();
    struct write first = a_write("web"), second = a_write("web"), failing = a_write("web");

    first.base.has_request_id = second.base.has_request_id = failing.base.has_request_id = true;
    first.base.request_id[0] = second.base.request_id[0] = 7;
    failing.base.request_id[0] = 8;
    control_submit(m->control, &first.base);
    turns(m);
    commit();
    control_submit(m->control, &second.base);
    turns(m);
    assert_int_equal(fake.proposals, 1); /* nothing new to store */
    confirm_reads(0);
    assert_int_equal(second.e.code, 0);
    assert_int_equal(second.executed, 0);
    assert_true(second.base.replayed);
    assert_int_equal(second.base.http_status, 201);
    assert_int_equal(second.base.reply.length, strlen("made web"));
    assert_memory_equal(buf_bytes(&second.base.reply), "made web", strlen("made web"));
    /* What failed is not stored: it changed nothing and may be asked again. */
    control_submit(m->control, &failing.base);
    turns(m);
    confirm_reads(0);
    assert_int_equal(failing.e.code, ERR_EXISTS);
    assert_int_equal(store_count(m->rig.s, KIND_REQUEST), 1);
    machine_free(m);
    buf_fini(&first.base.reply);
    buf_fini(&second.base.reply);
}

static void twins_in_one_draft_are_executed_once(void **state)
{
    struct machine *m = machine_new();
    struct write first = a_write("web"), second = a_write("web");

    first.base.has_request_id = second.base.has_request_id = true;
    control_submit(m->control, &first.base);
    control_submit(m->control, &second.base);
    turns(m);
    commit();
    assert_int_equal(second.e.code, 0);
    assert_int_equal(second.executed, 0);
    assert_true(second.base.replayed);
    machine_free(m);
    buf_fini(&first.base.reply);
    buf_fini(&second.base.reply);
}

static void stored_answers_go_after_ten_minutes(void **state)
{
    struct machine *m = machine_new();
    struct write w = a_write("web");

    w.base.has_request_id = true;
    control_submit(m->control, &w.base);
    turns(m);
    commit();
    int64_t wait = turns(m);
    assert_in_range(wait, 590000, 610000);
    m->us += (wait - 1000) * 1000;
    settle(m);
    assert_int_equal(store_count(m->rig.s, KIND_REQUEST), 1);
    m->us += 40000 * 1000;
    settle(m);
    assert_int_equal(store_count(m->rig.s, KIND_REQUEST), 0);
    same_index(m);
    machine_free(m);
    buf_fini(&w.base.reply);
}

static void large_service_is_made_over_several_entries(void **state)
{
    struct machine *m = machine_new();
    struct write w = a_write("web");

    w.replicas = 5000;
    control_submit(m->control, &w.base);
    turns(m);
    assert_true(fake.proposal.length < 2 * 1024 * 1024);
    commit();
    assert_int_equal(w.done, 1); /* the user's write was in the first */
    assert_in_range(store_count(m->rig.s, KIND_TASK), 1, 2000);
    settle(m);
    assert_int_equal(store_count(m->rig.s, KIND_TASK), 5000);
    same_index(m);
    machine_free(m);
    buf_fini(&w.base.reply);
}

static void write_that_is_too_large_waits_for_a_draft_of_its_own_or_is_refused(void **state)
{
    struct machine *m = machine_new();
    struct write small = a_write("small"), large = a_write("large"), too_large = a_write("huge");

    small.objects = large.objects = 1;
    large.objects = 12;
    large.bytes = 100 * 1024;
    small.bytes = 600 * 1024;
    too_large.objects = 17;
    too_large.bytes = 100 * 1024;
    control_submit(m->control, &small.base);
    control_submit(m->control, &large.base);
    control_submit(m->control, &too_large.base);
    turns(m);
    commit();
    assert_int_equal(small.done, 1);
    assert_int_equal(large.done, 0);
    turns(m);
    commit();
    assert_int_equal(large.e.code, 0);
    turns(m);
    confirm_reads(0);
    assert_int_equal(too_large.e.code, ERR_LIMIT);
    assert_int_equal(find_service(m, "huge"), 0);
    same_index(m);
    machine_free(m);
    buf_fini(&small.base.reply);
    buf_fini(&large.base.reply);
    buf_fini(&too_large.base.reply);
}

static void what_people_ask_for_goes_before_statuses_and_starves_them_not(void **state)
{
    struct machine *m = machine_new();
    struct write background = a_write("b"), people[3] = {a_write("p1"), a_write("p2"), a_write("p3")};

    background.base.background = true;
    control_submit(m->control, &background.base);
    for (int i = 0; i < 3; i++) {
        people[i].objects = 500;
        control_submit(m->control, &people[i].base);
    }
    turns(m);
    commit();
    assert_int_equal(people[0].done + people[1].done, 2);
    assert_int_equal(people[2].done, 0);
    assert_int_equal(background.done, 0); /* full */
    turns(m);
    commit();
    assert_int_equal(people[2].done, 1);
    assert_int_equal(background.done, 1);
    machine_free(m);
    for (int i = 0; i < 3; i++)
        buf_fini(&people[i].base.reply);
    buf_fini(&background.base.reply);
}

static void refused_proposal_answers_its_writes_and_is_tried_again_later(void **state)
{
    struct machine *m = machine_new();
    struct write w = a_write("web"), later = a_write("later");

    fake.refuses = true;
    control_submit(m->control, &w.base);
    int64_t wait = turns(m);
    assert_int_equal(w.e.code, ERR_UNAVAILABLE);
    assert_false(w.base.unknown);
    assert_in_range(wait, 1, 200); /* no busy loop */
    same_index(m);
    fake.refuses = false;
    control_submit(m->control, &later.base);
    turns(m);
    assert_int_equal(fake.proposals, 0);
    m->us += wait * 1000;
    turns(m);
    commit();
    assert_int_equal(later.e.code, 0);
    machine_free(m);
    buf_fini(&w.base.reply);
    buf_fini(&later.base.reply);
}

static void deadline_wakes_the_loop_by_cluster_time(void **state)
{
    struct machine *m = machine_new();
    struct write w = a_write("web");

    w.replicas = 1;
    control_submit(m->control, &w.base);
    settle(m);
    /* The task fails; its successor waits for the restart delay of five seconds. */
    struct index_task *t = index_task(control_index(m->control), 1);
    assert_non_null(t);
    struct draft *d = draft_begin(m->rig.s, control_now_ms(m->control), NULL, NULL);
    struct object o;
    assert_int_equal(draft_get(d, KIND_STATUS, 1, &o), 0);
    Status status = *(const Status *)o.message;
    status.state = TASK_STATE__FAILED;
    draft_put(d, KIND_STATUS, 1, &status.base);
    AUTO_BUF struct buf set = {0};
    draft_pack(d, &set);
    draft_end(d, false);
    apply(buf_bytes(&set), set.length);
    settle(m);
    assert_int_equal(store_count(m->rig.s, KIND_TASK), 2);
    int64_t wait = turns(m);
    assert_in_range(wait, 4000, 5500);
    m->us += wait * 1000 * 11 / 10;
    settle(m);
    struct view *v = view_begin(m->rig.s);
    struct arena arena;
    arena_init(&arena);
    assert_int_equal(view_get(v, KIND_TASK, 2, &arena, &o), 0);
    assert_int_equal(((const Task *)o.message)->desired_state, TASK_STATE__RUNNING);
    view_end(v);
    arena_fini(&arena);
    machine_free(m);
    buf_fini(&w.base.reply);
}

struct seen {
    struct control_watch watch;
    uint64_t applied;
    int leads;
};

static void see_applied(struct control_watch *watch, uint64_t index)
{
    container_of(watch, struct seen, watch)->applied = index;
}

static void see_leads(struct control_watch *watch, bool leads)
{
    container_of(watch, struct seen, watch)->leads = leads;
}

static void watches_are_told_of_what_was_applied_and_who_leads(void **state)
{
    struct machine *m = machine_new();
    struct seen seen = {.watch = {.on_applied = see_applied, .on_leads = see_leads}, .leads = -1};
    struct write w = a_write("web");

    control_watch(m->control, &seen.watch);
    control_submit(m->control, &w.base);
    turns(m);
    assert_int_equal(seen.applied, 0);
    commit();
    assert_int_equal(seen.applied, fake.index);
    lead(false);
    assert_int_equal(seen.leads, 0);
    lead(true);
    assert_int_equal(seen.leads, 1);
    control_unwatch(m->control, &seen.watch);
    lead(false);
    assert_int_equal(seen.leads, 1);
    machine_free(m);
    buf_fini(&w.base.reply);
}

static void closing_cancels_what_waits_and_what_is_under_way(void **state)
{
    struct machine *m = machine_new();
    struct write under_way = a_write("a"), waiting = a_write("b");

    control_submit(m->control, &under_way.base);
    turns(m);
    control_submit(m->control, &waiting.base);
    machine_free(m);
    assert_int_equal(under_way.e.code, ERR_CANCELED);
    assert_true(under_way.base.unknown);
    assert_int_equal(waiting.e.code, ERR_CANCELED);
    assert_false(waiting.base.unknown);
    assert_int_equal(under_way.done + waiting.done, 2);
    buf_fini(&under_way.base.reply);
}

static void founding_makes_cluster_node_and_networks_once(void **state)
{
    struct machine *m = mem_alloc(sizeof(*m));
    Cluster cluster = CLUSTER__INIT;
    const uint8_t node_id[16] = {9};
    struct control_founding founding = {
        .cluster = &cluster, .node_id = node_id, .raft_id = 1, .manager_address = "10.0.0.1:2377"};

    rig_start(&m->rig);
    m->clock = (struct clock){.mono_us = mono_us, .wall_ms = wall_ms};
    cluster.id = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)"the cluster's id"};
    open_control(m, &founding);
    assert_int_equal(turns(m), -1); /* not before it leads */
    assert_int_equal(fake.proposals, 0);
    lead(true);
    settle(m);
    assert_int_equal(store_count(m->rig.s, KIND_CLUSTER), 1);
    assert_int_equal(store_count(m->rig.s, KIND_NODE), 1);
    assert_int_equal(store_count(m->rig.s, KIND_NETWORK), 2);
    struct view *v = view_begin(m->rig.s);
    struct arena arena;
    struct object o;
    arena_init(&arena);
    assert_int_equal(view_get(v, KIND_NETWORK, view_find_name(v, KIND_NETWORK, "host"), &arena, &o), 0);
    const NetworkSpec *spec = ((const Network *)o.message)->spec;
    assert_string_equal(spec->driver, "host");
    assert_string_equal(spec->labels[0]->key, "com.docker.swarm.predefined");
    assert_int_equal(view_get(v, KIND_NODE, view_find_id(v, KIND_NODE, node_id), &arena, &o), 0);
    assert_string_equal(((const Node *)o.message)->manager->address, "10.0.0.1:2377");
    view_end(v);
    arena_fini(&arena);
    /* Opened again with the same wish, nothing is made. */
    control_close(m->control, on_closed, m);
    open_control(m, &founding);
    lead(true);
    settle(m);
    assert_int_equal(fake.proposals, 0);
    same_index(m);
    machine_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_is_answered_when_it_is_applied_with_all_that_follows),
        cmocka_unit_test(what_comes_meanwhile_waits_and_goes_together),
        cmocka_unit_test(failing_write_leaves_nothing_and_is_answered_with_the_draft_it_saw),
        cmocka_unit_test(failing_write_alone_is_answered_once_we_know_that_we_lead),
        cmocka_unit_test(manager_that_does_not_lead_turns_writes_away_unexecuted),
        cmocka_unit_test(lost_leadership_leaves_the_outcome_unknown_and_the_index_right),
        cmocka_unit_test(entry_that_was_lost_and_comes_after_all_is_followed),
        cmocka_unit_test(request_id_is_answered_from_the_store_the_second_time),
        cmocka_unit_test(twins_in_one_draft_are_executed_once),
        cmocka_unit_test(stored_answers_go_after_ten_minutes),
        cmocka_unit_test(large_service_is_made_over_several_entries),
        cmocka_unit_test(write_that_is_too_large_waits_for_a_draft_of_its_own_or_is_refused),
        cmocka_unit_test(what_people_ask_for_goes_before_statuses_and_starves_them_not),
        cmocka_unit_test(refused_proposal_answers_its_writes_and_is_tried_again_later),
        cmocka_unit_test(deadline_wakes_the_loop_by_cluster_time),
        cmocka_unit_test(watches_are_told_of_what_was_applied_and_who_leads),
        cmocka_unit_test(closing_cancels_what_waits_and_what_is_under_way),
        cmocka_unit_test(founding_makes_cluster_node_and_networks_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
