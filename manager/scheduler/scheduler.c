/* See scheduler.h.
 *
 * Tasks of one spec version are equal, so they are placed as a group: one rank, and for each task the best node,
 * which then takes its new place in the rank. Small services use a rank that is shared by all that ask the same;
 * there the few nodes that concern the service (they have its tasks, or saw them fail) are set aside and taken only
 * when no other fits. When that gets many, the service gets a rank of its own.
 *
 * When no node fits, the spec is parked. Each of its tasks is told why, in the words of Docker, and again only when
 * the reason changes: tasks that know the present reason are in spec->explained. A parked spec is tried again when
 * a node changed for the better, and never for other changes: they cannot make it fit.
 *
 * Tasks of global services come with their node; it is only confirmed, or the task is told what is missing there.
 */
#include <stdlib.h>

#include "manager/scheduler/rank.h"
#include "manager/scheduler/scheduler.h"
#include "proto/base/mem.h"

#define ASIDE_MAX  16
#define TURN_TASKS 20000 /* of a large class, before another has its turn */
#define WAITS      "pending task scheduling"

struct scheduler {
    struct ranks *ranks;
};

struct group { /* tasks of one spec while they are placed */
    struct scheduler *scheduler;
    struct plan *plan;
    struct index_spec *spec;
    struct rank *rank;
    struct index_node *aside[ASIDE_MAX]; /* hidden in a shared rank */
    unsigned aside_count;
};

struct scheduler *scheduler_new(void)
{
    struct scheduler *s = mem_alloc(sizeof(*s));

    s->ranks = ranks_new();
    return s;
}

void scheduler_free(struct scheduler *s)
{
    if (!s)
        return;
    ranks_free(s->ranks);
    free(s);
}

void scheduler_forget(struct scheduler *s)
{
    ranks_free(s->ranks);
    s->ranks = ranks_new();
}

/* --- choosing a node -------------------------------------------------------------------------------------------
 */

/* It has tasks of the service, or too many of them failed there. */
static bool concerns(const struct group *g, const struct index_node *n)
{
    return rank_key(g->plan->index, g->spec, n) >> 32 != 0;
}

static void show_aside(struct group *g)
{
    while (g->aside_count)
        rank_show(g->rank, g->plan->index, g->spec, g->aside[--g->aside_count]);
}

static void set_aside(struct group *g, struct index_node *n)
{
    rank_hide(g->rank, n);
    for (unsigned i = 0; i < g->aside_count; i++)
        if (g->aside[i] == n)
            return;
    g->aside[g->aside_count++] = n;
}

static struct index_node *best_aside(const struct group *g)
{
    struct index_node *best = NULL;
    uint64_t best_key = 0;

    for (unsigned i = 0; i < g->aside_count; i++) {
        struct index_node *n = g->aside[i];
        uint64_t key = rank_key(g->plan->index, g->spec, n);

        if (rank_hidden_fits(g->rank, g->plan->index, g->spec, n) && (!best || key < best_key)) {
            best = n;
            best_key = key;
        }
    }
    return best;
}

/* The node for the next task; *ret NULL: none fits. False when the plan stopped before that was known. */
static bool choose(struct group *g, struct index_node **ret)
{
    struct index_node *n;

    if (!rank_sync(g->rank, g->plan, g->spec))
        return false;
    while ((n = rank_best(g->rank, g->plan->index, g->spec)) && !rank_is_own(g->rank) && concerns(g, n)) {
        if (g->aside_count < ASIDE_MAX) {
            set_aside(g, n);
            continue;
        }
        show_aside(g);
        g->rank = ranks_get(g->scheduler->ranks, g->plan->index, g->spec, true);
        if (!rank_sync(g->rank, g->plan, g->spec))
            return false;
    }
    *ret = n ? n : best_aside(g);
    return true;
}

/* --- saying why not ----------------------------------------------------------------------------------------------
 */

static void new_reason(struct index_spec *spec, const char *text)
{
    struct list waiting;
    uint32_t digest = index_text_digest(text);

    if (spec->reason_digest == digest)
        return;
    spec->reason_digest = digest;
    spec->reason++;
    list_init(&waiting);
    list_splice(&waiting, &spec->explained);
    list_splice(&waiting, &spec->waiting);
    list_splice(&spec->waiting, &waiting);
}

/* What does not fit into this draft goes on in the next ones, after what is new. It keeps its turn for a while,
 * because to change from one large class to another means to look again at all nodes that the other changed. */
static void resume_later(struct index *x, struct index_spec *spec)
{
    list_remove(&spec->dirty);
    if (spec->served < TURN_TASKS) {
        list_push_front(&x->resumed_classes, &spec->dirty);
    } else {
        list_push(&x->resumed_classes, &spec->dirty);
        spec->served = 0;
    }
}

static void park(struct group *g)
{
    struct index *x = g->plan->index;
    struct index_spec *spec = g->spec;
    const char *text = filter_explain(g->plan->arena, rank_refused(g->rank, x, spec));
    struct index_task *t;

    new_reason(spec, text);
    while ((t = list_first(&spec->waiting, struct index_task, stage))) {
        if (plan_stop(g->plan)) {
            resume_later(x, spec);
            return;
        }
        t->reason = spec->reason;
        if (t->err_digest == spec->reason_digest) {
            list_remove(&t->stage);
            list_push(&spec->explained, &t->stage);
        } else {
            plan_set_status(g->plan, t, TASK_STATE__PENDING, WAITS, text); /* moves it there, too */
        }
    }
    spec->parked_at = x->sequence;
    spec->parked = true;
    list_remove(&spec->dirty);
    list_push(&x->parked, &spec->dirty);
}

/* --- groups
 * -------------------------------------------------------------------------------------------------------- */

static struct index_task *next_task(const struct index_spec *spec)
{
    struct index_task *t = list_first(&spec->explained, struct index_task, stage);

    return t ? t : list_first(&spec->waiting, struct index_task, stage);
}

/* False when the plan stopped: the spec is to be marked again. */
static bool place(struct group *g)
{
    struct index_task *t;

    while ((t = next_task(g->spec))) {
        struct index_node *n;

        if (plan_stop(g->plan) || !choose(g, &n))
            return false;
        if (!n) {
            show_aside(g);
            park(g);
            return true;
        }
        plan_assign(g->plan, t, n, "scheduler assigned task to node");
        g->spec->served++;
    }
    return true;
}

static void place_class(struct scheduler *s, struct plan *p, struct index_spec *spec)
{
    struct group g = {.scheduler = s, .plan = p, .spec = spec};

    list_remove(&spec->dirty);
    spec->parked = false;
    if (!next_task(spec))
        return;
    g.rank = ranks_get(s->ranks, p->index, spec, false);
    if (!place(&g))
        resume_later(p->index, spec);
    show_aside(&g);
}

static void confirm(struct plan *p, struct index_node *n)
{
    struct index_task *t, *after;

    list_each_safe (t, after, &n->pinned, stage) {
        if (plan_stop(p)) {
            list_remove(&n->confirm);
            list_push(&p->index->confirm, &n->confirm);
            return;
        }
        enum filter f = filter_check_pinned(t);
        if (f == FILTER_NONE)
            plan_assign(p, t, n, "scheduler confirmed task can run on preassigned node");
        else
            plan_set_status(p, t, TASK_STATE__PENDING, WAITS, filter_text(p->arena, f, 1));
    }
}

bool schedule(struct scheduler *s, struct plan *p)
{
    struct index *x = p->index;
    struct index_node *n;
    struct index_spec *spec;

    while (!plan_stop(p) && (n = list_first(&x->confirm, struct index_node, confirm))) {
        list_remove(&n->confirm);
        confirm(p, n);
    }
    while (!plan_stop(p) && (spec = list_first(&x->dirty_classes, struct index_spec, dirty)))
        place_class(s, p, spec);
    while (!plan_stop(p) && (spec = list_first(&x->resumed_classes, struct index_spec, dirty)))
        place_class(s, p, spec);
    /* Parked ones stand in the order in which they were tried. */
    while (!plan_stop(p) && (spec = list_first(&x->parked, struct index_spec, dirty)) &&
           spec->parked_at < x->eased_at)
        place_class(s, p, spec);
    spec = list_first(&x->parked, struct index_spec, dirty);
    return !list_empty(&x->confirm) || !list_empty(&x->dirty_classes) || !list_empty(&x->resumed_classes) ||
           (spec && spec->parked_at < x->eased_at);
}
