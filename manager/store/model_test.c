/* Random operations against a model that could not be simpler: a list of objects, copied whole wherever the store
 * has something clever. From a printed seed (SEED=n repeats one). After every step: what the draft shows is what
 * the model has; after every entry: so are views, the index that `changed` feeds, the index that the change feed
 * feeds, a follower given the same bytes, and now and then the file opened again and a snapshot loaded. */
#include "manager/store/change.h"
#include "manager/store/testing.h"
#include "proto/base/ident.h"

#define OBJECTS_MAX 400
#define NAMES       12 /* few, so that they clash and are taken again */

struct thing {
    enum kind kind;
    uint64_t number;
    uint64_t id, name; /* of id_of and name_of; 0: none */
    uint64_t version;
    int64_t created_ms, updated_ms;
    uint8_t packed[128];
    size_t size;
};

struct model {
    struct thing things[OBJECTS_MAX];
    size_t count;
    uint64_t next[KIND_MAX + 1];
};

/* What `changed` or the feed told, by (kind, number). */
struct told {
    struct thing things[OBJECTS_MAX];
    size_t count;
};

struct world {
    struct rig leader, follower;
    struct model committed, planned;
    struct told leader_index, follower_index, fed;
    uint64_t fed_index;
    struct draft *draft;
    uint64_t ids; /* given out */
    struct entropy_seeded random;
    struct arena arena;
};

static uint64_t below(struct world *w, uint64_t limit)
{
    return entropy_below(&w->random.base, limit);
}

static const char *name_of(uint64_t name, bool shout)
{
    static char text[2][32];

    (void)snprintf(text[shout], sizeof(text[0]), shout ? "NAME-%llu" : "name-%llu", (unsigned long long)name);
    return text[shout];
}

static struct thing *find(struct thing *things, size_t count, enum kind k, uint64_t number)
{
    for (size_t i = 0; i < count; i++)
        if (things[i].kind == k && things[i].number == number)
            return &things[i];
    return NULL;
}

/* --- indexes that are told ------------------------------------------------------------------------------- */

static void told_set(struct told *t, const struct object *o)
{
    struct thing *thing = find(t->things, t->count, o->kind, o->number);

    if (!thing) {
        assert_true(t->count < OBJECTS_MAX);
        thing = &t->things[t->count++];
    }
    thing->kind = o->kind;
    thing->number = o->number;
    thing->size = protobuf_c_message_pack(o->message, thing->packed);
}

static void told_remove(struct told *t, const struct object *o)
{
    struct thing *thing = find(t->things, t->count, o->kind, o->number);

    if (thing)
        *thing = t->things[--t->count];
}

static void on_changed(void *ctx, uint64_t index, const struct object *before, const struct object *after)
{
    struct told *t = ctx;
    const struct object *o = after ? after : before;
    struct thing *known = find(t->things, t->count, o->kind, o->number);

    assert_int_equal(known != NULL, before != NULL);
    if (before) {
        uint8_t packed[128];

        assert_int_equal(protobuf_c_message_pack(before->message, packed), known->size);
        assert_memory_equal(packed, known->packed, known->size);
    }
    if (after)
        told_set(t, after);
    else
        told_remove(t, before);
}

static void on_feed(void *ctx, uint64_t index, const struct object *o)
{
    if (o->message)
        told_set(ctx, o);
    else
        told_remove(ctx, o);
}

static void assert_told(struct told *t, struct model *m)
{
    assert_int_equal(t->count, m->count);
    for (size_t i = 0; i < m->count; i++) {
        struct thing *thing = find(t->things, t->count, m->things[i].kind, m->things[i].number);

        assert_non_null(thing);
        assert_int_equal(thing->size, m->things[i].size);
        assert_memory_equal(thing->packed, m->things[i].packed, thing->size);
    }
}

/* --- steps ----------------------------------------------------------------------------------------------- */

static const enum kind kinds[] = {KIND_SERVICE, KIND_NODE, KIND_NETWORK, KIND_TASK, KIND_SPEC};

/* A message of the kind, random in what is not indexed, so that its size changes. */
static const ProtobufCMessage *make(struct world *w, enum kind k, uint64_t id, uint64_t name)
{
    static const char padding[] = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    const char *some = padding + below(w, sizeof(padding));
    struct arena *a = &w->arena;
    ProtobufCBinaryData bytes = {.len = 16, .data = arena_dup(a, id_of(id), 16)};
    char *text = arena_strdup(a, name_of(name, below(w, 2)));

    switch (k) {
    case KIND_SERVICE: {
        Service *m = ARENA_NEW(a, Service);
        service__init(m);
        *m = (Service){.base = m->base, .id = bytes, .name = text, .spec_version = below(w, 1000)};
        return &m->base;
    }
    case KIND_NODE: {
        Node *m = ARENA_NEW(a, Node);
        node__init(m);
        m->id = bytes;
        m->state_message = (char *)some;
        m->description = ARENA_NEW(a, NodeDescription);
        node_description__init(m->description);
        m->description->hostname = text;
        return &m->base;
    }
    case KIND_NETWORK: {
        Network *m = ARENA_NEW(a, Network);
        network__init(m);
        m->id = bytes;
        m->spec = ARENA_NEW(a, NetworkSpec);
        network_spec__init(m->spec);
        m->spec->name = text;
        m->spec->driver = (char *)some;
        return &m->base;
    }
    case KIND_TASK: {
        Task *m = ARENA_NEW(a, Task);
        task__init(m);
        m->id = bytes;
        m->service = below(w, 1 << 20);
        return &m->base;
    }
    case KIND_SPEC: {
        Spec *m = ARENA_NEW(a, Spec);
        spec__init(m);
        m->service = 1 + below(w, 100);
        m->version = below(w, 1 << 30);
        return &m->base;
    }
    default: {
        Status *m = ARENA_NEW(a, Status);
        status__init(m);
        m->state = TASK_STATE__RUNNING;
        m->message = (char *)some;
        return &m->base;
    }
    }
}

static void model_put(struct world *w, enum kind k, uint64_t number, uint64_t id, uint64_t name,
                      const ProtobufCMessage *message)
{
    struct model *m = &w->planned;
    struct thing *thing = find(m->things, m->count, k, number);

    if (!thing) {
        struct thing *before = find(w->committed.things, w->committed.count, k, number);

        thing = &m->things[m->count++];
        *thing = (struct thing){.kind = k, .number = number, .created_ms = draft_ms(w->draft)};
        if (before) /* deleted in this draft and put again */
            thing->created_ms = before->created_ms;
    }
    thing->id = id;
    thing->name = name;
    thing->version = 0;
    thing->updated_ms = draft_ms(w->draft);
    thing->size = protobuf_c_message_pack(message, thing->packed);
    m->next[k] = MAX(m->next[k], number + 1);
}

static bool has_name(enum kind k)
{
    return k == KIND_SERVICE || k == KIND_NODE || k == KIND_NETWORK;
}

static void step_create(struct world *w)
{
    enum kind k = kinds[below(w, ARRAY_SIZE(kinds))];
    uint64_t id = k == KIND_SPEC ? 0 : ++w->ids, name = has_name(k) ? 1 + below(w, NAMES) : 0;

    if (w->planned.count >= OBJECTS_MAX / 2)
        return;
    const ProtobufCMessage *message = make(w, k, id, name);
    uint64_t number = draft_create(w->draft, k, message);
    assert_true(number == w->planned.next[k]);
    model_put(w, k, number, id, name, message);
}

static struct thing *any(struct world *w)
{
    return w->planned.count ? &w->planned.things[below(w, w->planned.count)] : NULL;
}

static void step_put(struct world *w)
{
    struct thing *thing = any(w);

    if (!thing)
        return;
    if (thing->kind == KIND_TASK && below(w, 2)) { /* its status */
        if (w->planned.count >= OBJECTS_MAX - 1)
            return;
        const ProtobufCMessage *message = make(w, KIND_STATUS, 0, 0);
        uint64_t number = thing->number;
        draft_put(w->draft, KIND_STATUS, number, message);
        model_put(w, KIND_STATUS, number, 0, 0, message);
        return;
    }
    uint64_t name = thing->name && below(w, 2) ? 1 + below(w, NAMES) : thing->name;
    const ProtobufCMessage *message = make(w, thing->kind, thing->id, name);
    draft_put(w->draft, thing->kind, thing->number, message);
    model_put(w, thing->kind, thing->number, thing->id, name, message);
}

static void model_delete(struct model *m, enum kind k, uint64_t number)
{
    struct thing *thing = find(m->things, m->count, k, number);

    if (thing)
        *thing = m->things[--m->count];
}

static void step_delete(struct world *w)
{
    struct thing *thing = any(w);

    if (!thing)
        return;
    enum kind k = thing->kind;
    uint64_t number = thing->number;
    draft_delete(w->draft, k, number);
    model_delete(&w->planned, k, number);
    if (k == KIND_TASK)
        model_delete(&w->planned, KIND_STATUS, number);
}

/* --- comparing ------------------------------------------------------------------------------------------- */

static void assert_object(struct world *w, const struct object *o, const struct thing *thing, bool planned)
{
    uint8_t packed[128];

    assert_true(o->kind == thing->kind && o->number == thing->number);
    assert_true(o->created_ms == thing->created_ms && o->updated_ms == thing->updated_ms);
    assert_true(o->version == thing->version);
    assert_int_equal(protobuf_c_message_pack(o->message, packed), thing->size);
    assert_memory_equal(packed, thing->packed, thing->size);
}

static uint64_t model_find(struct model *m, enum kind k, uint64_t id, uint64_t name)
{
    uint64_t least = 0;

    for (size_t i = 0; i < m->count; i++)
        if (m->things[i].kind == k && (id ? m->things[i].id == id : m->things[i].name == name) &&
            (!least || m->things[i].number < least))
            least = m->things[i].number;
    return least;
}

static void assert_draft(struct world *w)
{
    struct object o;

    for (size_t i = 0; i < 5; i++) { /* some, each time */
        enum kind k = kinds[below(w, ARRAY_SIZE(kinds))];
        uint64_t number = 1 + below(w, w->planned.next[k]), id = 1 + below(w, w->ids + 1),
                 name = 1 + below(w, NAMES);
        struct thing *thing = find(w->planned.things, w->planned.count, k, number);
        int rc = draft_get(w->draft, k, number, &o);

        assert_int_equal(rc, thing ? 0 : ERR_NOT_FOUND);
        if (thing)
            assert_object(w, &o, thing, true);
        if (has_name(k))
            assert_true(draft_find_name(w->draft, k, name_of(name, below(w, 2))) ==
                        model_find(&w->planned, k, 0, name));
        if (k != KIND_SPEC)
            assert_true(draft_find_id(w->draft, k, id_of(id)) == model_find(&w->planned, k, id, 0));
    }
}

static void assert_view(struct world *w, struct store *s)
{
    struct view *v = view_begin(s);
    struct object o;
    size_t count = 0;

    for (int k = 0; k <= KIND_MAX; k++) {
        uint64_t of_kind = 0;

        for (uint64_t n = 0; (n = view_next(v, (enum kind)k, n)); count++, of_kind++) {
            struct thing *thing = find(w->committed.things, w->committed.count, (enum kind)k, n);

            assert_non_null(thing);
            assert_int_equal(view_get(v, (enum kind)k, n, &w->arena, &o), 0);
            assert_object(w, &o, thing, false);
            if (thing->id)
                assert_true(view_find_id(v, (enum kind)k, id_of(thing->id)) == n);
        }
        assert_true(store_count(s, (enum kind)k) == of_kind);
    }
    assert_int_equal(count, w->committed.count);
    for (uint64_t name = 1; name <= NAMES; name++)
        for (size_t i = 0; i < 3; i++)
            assert_true(view_find_name(v, kinds[i], name_of(name, true)) ==
                        model_find(&w->committed, kinds[i], 0, name));
    for (size_t i = 0; i < 5; i++) {
        char text[IDENT_TEXT + 1];
        uint64_t id = 1 + below(w, w->ids + 1), found[4];

        ident_format(id_of(id), text);
        size_t got = view_find_prefix(v, KIND_TASK, text, found, 4);
        assert_true(got == (model_find(&w->committed, KIND_TASK, id, 0) ? 1 : 0));
    }
    view_end(v);
}

/* --- entries --------------------------------------------------------------------------------------------- */

static void commit_model(struct world *w)
{
    /* A number is used up once an object under it was in a change set. */
    memcpy(w->planned.next, w->committed.next, sizeof(w->planned.next));
    for (size_t i = 0; i < w->planned.count; i++) {
        struct thing *thing = &w->planned.things[i];

        if (thing->version == 0)
            thing->version = w->leader.index + 1;
        w->planned.next[thing->kind] = MAX(w->planned.next[thing->kind], thing->number + 1);
    }
    w->committed = w->planned;
}

static void apply_both(struct world *w, const struct buf *set)
{
    assert_int_equal(rig_apply(&w->leader, buf_bytes(set), set->length, NULL), 0);
    assert_int_equal(rig_apply(&w->follower, buf_bytes(set), set->length, NULL), 0);
}

static void assert_all(struct world *w)
{
    struct store *stores[] = {w->leader.s, w->follower.s};

    arena_reset(&w->arena);
    for (size_t i = 0; i < ARRAY_SIZE(stores); i++)
        assert_view(w, stores[i]);
    assert_same_store(w->leader.s, w->follower.s);
    assert_told(&w->leader_index, &w->committed);
    assert_told(&w->follower_index, &w->committed);
    int rc = store_feed(w->leader.s, w->fed_index, &w->arena, on_feed, &w->fed, &w->fed_index);
    if (rc == ERR_LIMIT) { /* read everything again */
        w->fed = w->leader_index;
        w->fed_index = store_applied(w->leader.s);
    }
    assert_told(&w->fed, &w->committed);
}

/* What becomes of the draft: its entry is applied; it is given up; it was proposed and another's comes first. */
static void end_draft(struct world *w)
{
    AUTO_BUF
    struct buf set = {0};
    AUTO_BUF
    struct buf other = {0};
    uint64_t fate = below(w, 10);

    draft_pack(w->draft, &set);
    if (fate == 0) {
        draft_end(w->draft, false);
        w->planned = w->committed;
        return;
    }
    if (fate == 1) { /* another leader's, which happens to change nothing */
        bool ended = below(w, 2);
        int64_t ms = draft_ms(w->draft);

        if (ended)
            draft_end(w->draft, true);
        change_set_begin(&other, w->leader.s->state.planned, ms);
        apply_both(w, &other);
        w->planned = w->committed;
        assert_told(&w->leader_index, &w->committed);
        if (below(w, 2))
            apply_both(w, &set); /* late, and void */
        if (!ended)
            draft_end(w->draft, true);
        return;
    }
    commit_model(w);
    if (below(w, 2)) {
        draft_end(w->draft, true);
        apply_both(w, &set);
    } else {
        apply_both(w, &set);
        draft_end(w->draft, true);
    }
}

static void reopen(struct rig *r)
{
    uint64_t index = r->index;

    rig_close(r);
    rig_open(r);
    assert_true(r->index == index); /* it was not discarded */
}

static void reload_follower(struct world *w)
{
    static char piece[700];
    struct store_snapshot *p = store_snapshot_begin(w->leader.s);
    struct store_load *l = store_load_begin(w->follower.s);
    long got;

    while ((got = store_snapshot_read(p, piece, 1 + below(w, sizeof(piece)), NULL)) > 0)
        assert_int_equal(store_load_add(l, piece, (size_t)got, NULL), 0);
    assert_int_equal(got, 0);
    store_snapshot_end(p);
    assert_int_equal(store_load_end(l, NULL), 0);
}

static void run(uint64_t seed, int entries)
{
    static struct world world;
    struct world *w = &world;

    memset(w, 0, sizeof(*w));
    entropy_seeded_init(&w->random, seed);
    arena_init(&w->arena);
    for (int i = 0; i < 2; i++) {
        struct rig *r = i ? &w->follower : &w->leader;

        rig_init(r);
        r->map_bytes = below(w, 2) ? 1 : 0;
        r->feed_bytes = 2000 + below(w, 100000);
        r->changed = on_changed;
        r->ctx = i ? &w->follower_index : &w->leader_index;
        entropy_seeded_init(&r->entropy, seed + (uint64_t)i);
        rig_open(r);
    }
    for (int k = 0; k <= KIND_MAX; k++)
        w->planned.next[k] = w->committed.next[k] = 1;
    for (int entry = 0; entry < entries; entry++) {
        struct model *marked = NULL;
        size_t mark = 0;

        w->draft = rig_draft(&w->leader);
        for (uint64_t steps = below(w, 40); steps > 0; steps--) {
            uint64_t what = below(w, 20);

            if (what < 7)
                step_create(w);
            else if (what < 14)
                step_put(w);
            else if (what < 17)
                step_delete(w);
            else if (what == 17 && !marked) {
                marked = mem_dup(&w->planned, sizeof(w->planned));
                mark = draft_mark(w->draft);
            } else if (what == 18 && marked) {
                draft_undo(w->draft, mark);
                w->planned = *marked;
                free(marked);
                marked = NULL;
            }
            assert_draft(w);
            assert_told(&w->leader_index, &w->planned);
        }
        free(marked);
        end_draft(w);
        if (below(w, 10) == 0)
            apply_both(w, &(struct buf){0}); /* a barrier */
        if (below(w, 12) == 0)
            reopen(below(w, 2) ? &w->leader : &w->follower);
        if (below(w, 25) == 0)
            reload_follower(w);
        assert_all(w);
    }
    arena_fini(&w->arena);
    rig_stop(&w->leader);
    rig_stop(&w->follower);
}

static void store_and_model_agree_whatever_happens(void **state)
{
    const char *given = getenv("SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : entropy_u64(entropy_real()) % 1000000000;

    for (int i = 0; i < (given ? 1 : 5); i++, seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        run(seed, 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(store_and_model_agree_whatever_happens)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
