/* See rotation.h.
 *
 *     nothing rotates --next root in the cluster's object--> counting --> waiting --nobody is left--> finishing --+
 *            ^                                                                                                   |
 *            +---------------------------------------------------------------------------------------------------+
 *
 * Rows are counted once, a slice per turn, when a rotation begins or this manager begins to lead; from then on the
 * change feed says whose row changed. So a rotation costs each node's row twice, and nothing while there is none.
 * All that matters stands in the store: a new leader counts again. */
#include <stdlib.h>

#include "manager/api/authority.h"
#include "manager/ca/rotation.h"
#include "manager/rotation.h"
#include "proto/base/log.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"

#define SLICE    512 /* rows looked at in one turn */
#define AGAIN_MS 1000

struct rotation {
    struct rotation_config config;
    uint64_t fed;         /* index up to which the feed was read; 0: it is not followed */
    uint64_t wanted;      /* digest of the next root's key; 0: nothing rotates */
    uint64_t counted;     /* number of the last row counted */
    bool is_counting;     /* rows are left */
    struct map64 waiting; /* number of each node that has not renewed, as far as they are counted -> itself */
    struct control_write write;
    bool under_way, failed;
};

/* --- who has renewed ------------------------------------------------------------------------------------- */

static void stop_counting(struct rotation *r)
{
    map64_fini(&r->waiting);
    r->waiting = (struct map64){0};
    r->is_counting = false;
}

static void look_at_cluster(struct rotation *r, const Cluster *cluster)
{
    uint64_t wanted = 0;
    AUTO_ARENA struct arena a;

    arena_init(&a);
    if (cluster && ca_rotates(cluster->root_ca))
        (void)cert_key_digest(ca_issuer(cluster->root_ca, &a), &wanted,
                              NULL); /* it was checked when it was put there */
    if (cluster)
        authority_forget(cluster);
    if (wanted == r->wanted)
        return;
    stop_counting(r);
    r->wanted = wanted;
    r->is_counting = wanted != 0;
    r->counted = 0;
}

static void look_at_node(struct rotation *r, uint64_t number, const Node *node)
{
    const NodeDescription *d = node ? node->description : NULL;

    if (!node || (d && d->has_certificate_issuer && d->certificate_issuer == r->wanted))
        (void)map64_remove(&r->waiting, number); /* it may not be there */
    else
        (void)map64_put(&r->waiting, number, r);
}

static void on_fed(void *ctx, uint64_t index, const struct object *object)
{
    struct rotation *r = ctx;

    if (object->kind == KIND_CLUSTER)
        look_at_cluster(r, (const Cluster *)object->message);
    else if (r->wanted)
        look_at_node(r, object->number, (const Node *)object->message);
}

/* At the start, and when the feed does not go back far enough. */
static void begin(struct rotation *r, struct store *store, struct arena *a)
{
    struct view *v = view_begin(store);
    struct object object;

    r->fed = store_applied(store);
    r->wanted = 0;
    stop_counting(r);
    look_at_cluster(r, authority_cluster(v, a, &object) == 0 ? (const Cluster *)object.message : NULL);
    view_end(v);
}

static void follow(struct rotation *r)
{
    struct store *store = control_store(r->config.control);
    AUTO_ARENA struct arena a;

    arena_init(&a);
    if (!r->fed ||
        store_feed_kinds(store, r->fed, FEED_KIND(KIND_CLUSTER) | FEED_KIND(KIND_NODE), &a, on_fed, r, &r->fed) < 0)
        begin(r, store, &a);
}

static void count(struct rotation *r)
{
    struct view *v = view_begin(control_store(r->config.control));
    AUTO_ARENA struct arena a;
    struct object object;

    arena_init(&a);
    for (unsigned i = 0; i < SLICE && r->is_counting; i++, arena_reset(&a)) {
        r->counted = view_next(v, KIND_NODE, r->counted);
        if (!r->counted)
            r->is_counting = false;
        else if (view_get(v, KIND_NODE, r->counted, &a, &object) == 0)
            look_at_node(r, r->counted, (const Node *)object.message);
    }
    view_end(v);
    if (!r->is_counting)
        log_info("the root is being replaced", "nodes_to_renew=%zu", (size_t)r->waiting.count);
}

/* --- the end --------------------------------------------------------------------------------------------- */

static int execute_finish(struct control_write *w, struct draft *d, struct plan *p, struct err *e)
{
    struct rotation *r = container_of(w, struct rotation, write);
    uint64_t wanted = 0;
    AUTO_ARENA struct arena a;
    struct object object;

    (void)e; /* nothing can fail */
    arena_init(&a);
    if (!p->index->cluster || draft_get(d, KIND_CLUSTER, p->index->cluster, &object) < 0)
        return 0;
    Cluster cluster = *(const Cluster *)object.message;
    if (!ca_rotates(cluster.root_ca) || cert_key_digest(ca_issuer(cluster.root_ca, &a), &wanted, NULL) < 0 ||
        wanted != r->wanted)
        return 0; /* another rotation by now, or none */
    RootCa root = *cluster.root_ca;
    ca_rotation_finish(&root);
    cluster.root_ca = &root;
    plan_put(p, KIND_CLUSTER, object.number, &cluster);
    return 0;
}

static void on_finished(struct control_write *w, const struct err *e, uint64_t index)
{
    struct rotation *r = container_of(w, struct rotation, write);

    (void)index; /* the feed tells it */
    r->under_way = false;
    r->failed = e->code != 0;
    buf_fini(&w->reply);
    if (e->code == 0)
        log_info("the root was replaced", "%s", "");
    else if (e->code != ERR_CANCELED)
        log_warn("cannot write that the root was replaced; it is tried again", "error=\"%s\"", e->text);
    r->config.wake(r->config.ctx);
}

static void finish(struct rotation *r)
{
    r->under_way = true;
    r->write = (struct control_write){.execute = execute_finish, .done = on_finished};
    control_submit(r->config.control, &r->write);
}

/* --- the turn -------------------------------------------------------------------------------------------- */

int64_t rotation_turn(struct rotation *r)
{
    if (!control_leads(r->config.control)) {
        stop_counting(r);
        r->fed = r->wanted = 0;
        return -1;
    }
    follow(r);
    if (r->is_counting)
        count(r);
    if (r->is_counting)
        return 0;
    if (!r->wanted || r->waiting.count || r->under_way)
        return -1;
    if (r->failed) {
        r->failed = false;
        return AGAIN_MS;
    }
    finish(r);
    return -1;
}

struct rotation *rotation_new(const struct rotation_config *config)
{
    struct rotation *r = mem_alloc(sizeof(*r));

    r->config = *config;
    return r;
}

void rotation_free(struct rotation *r)
{
    if (!r)
        return;
    stop_counting(r);
    free(r);
}
