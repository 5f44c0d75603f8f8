/* Planners together, on random clusters: whatever people, agents and machines do, the laws below hold after every
 * round, and once nothing disturbs any more, all that can run does. The seed is printed when a law breaks; SEED=n
 * runs it alone. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "manager/orchestrator/intent.h"
#include "manager/orchestrator/orchestrator.h"
#include "tests/simulation/fake.h"

enum { NODES_MAX = 12, SERVICES_MAX = 6, STEPS = 300 };

struct world {
    struct fake *f;
    uint64_t seed;
    uint64_t nodes[NODES_MAX], services[SERVICES_MAX];
    struct fake_service specs[SERVICES_MAX];
    bool start_first[SERVICES_MAX]; /* once was: its slots may hold two for a while */
    const char *law;                /* that broke */
};

static uint64_t below(struct world *w, uint64_t limit)
{
    return entropy_below(&w->f->random.base, limit);
}

static void must(struct world *w, bool holds, const char *law)
{
    if (holds)
        return;
    fprintf(stderr, "seed %llu breaks: %s\n", (unsigned long long)w->seed, law);
    abort();
}

/* --- laws
 * ------------------------------------------------------------------------------------------------------------ */

static void show_task(const struct index_task *t)
{
    fprintf(stderr, "service %llu slot %llx task %llu of spec %llu: desired %u, state %u, node %llu\n",
            (unsigned long long)t->spec->service->number, (unsigned long long)t->slot->key,
            (unsigned long long)t->number, (unsigned long long)t->spec->version, t->desired, t->state,
            (unsigned long long)(t->share ? t->share->node_number : 0));
}

static void show_slot(const struct index_slot *slot)
{
    const struct index_task *t;

    list_each (t, &slot->tasks, by_slot)
        show_task(t);
}

/* In stop-first no two tasks of a slot are told to run at once, unless the older one was given up on after its
 * sixty seconds or its node is lost. */
static void slot_laws(struct world *w, const struct index_slot *slot, bool stop_first)
{
    const struct index_task *t;
    unsigned told_to_run = 0;

    list_each (t, &slot->tasks, by_slot)
        told_to_run += t->desired == TASK_STATE__RUNNING;
    if ((stop_first && told_to_run > 1) || slot->live_count > 3)
        show_slot(slot);
    must(w, !stop_first || told_to_run <= 1, "at most one task of a slot is told to run");
    must(w, slot->live_count <= 3, "a slot has few tasks that are to run");
}

static void service_laws(struct world *w, const struct index_service *s, int which)
{
    const struct index_slot *slot;

    list_each (slot, &s->all_slots, by_service)
        slot_laws(w, slot, !w->start_first[which]);
    uint64_t parallelism = update_config(s)->parallelism;
    must(w, !s->current || !parallelism || s->current->unsettled <= parallelism,
         "no more slots are updated at a time than allowed");
}

static void node_laws(struct world *w, const struct index_node *n)
{
    const struct index_share *share;
    uint32_t counted = 0;

    list_each (share, &n->shares, by_node)
        counted += share->counted;
    must(w, counted == n->counted, "the load of a node is the sum of its shares");
    bool twice = false;
    for (uint32_t i = 0; i < n->host_port_count; i++)
        for (uint32_t k = i + 1; k < n->host_port_count; k++)
            twice |= n->host_ports[i] == n->host_ports[k];
    struct index_walk walk = {0};
    const struct index_task *t;
    while (twice && (t = index_node_next(n, &walk)))
        if (t->holds_resources && t->spec->demand.host_port_count)
            show_task(t);
    must(w, !twice, "no host port is given twice on a node");
}

static void laws(struct world *w)
{
    struct index *x = w->f->index;

    for (int i = 0; i < SERVICES_MAX; i++) {
        struct index_service *s = w->services[i] ? index_service(x, w->services[i]) : NULL;

        if (s)
            service_laws(w, s, i);
    }
    for (uint32_t i = 0; i < x->node_count; i++)
        if (x->node_at[i])
            node_laws(w, x->node_at[i]);
}

/* --- what happens
 * ------------------------------------------------------------------------------------------------------ */

static struct fake_service random_spec(struct world *w, int which)
{
    static const char *const constraints[] = {NULL, NULL, "node.labels.zone==a", "node.labels.zone!=a",
                                              "node.role==worker"};
    static const char *const preferences[] = {NULL, NULL, NULL, "node.labels.zone"};
    static const char *const images[] = {"web:1", "web:2", "web:3"};
    struct fake_service s = {
        .name = (const char *const[]){"s0", "s1", "s2", "s3", "s4", "s5"}[which],
        .image = images[below(w, ARRAY_SIZE(images))],
        .mode = which % 3 == 2 ? SERVICE_MODE__GLOBAL : SERVICE_MODE__REPLICATED,
        .replicas = below(w, 9),
        .constraints = constraints[below(w, ARRAY_SIZE(constraints))],
        .preferences = preferences[below(w, ARRAY_SIZE(preferences))],
        .max_replicas = below(w, 4) ? 0 : 2,
        .memory_bytes = below(w, 2) ? 0 : 100,
        .host_port = below(w, 5) ? 0 : 80,
        .automatic_port = below(w, 5) == 0,
        .delay_ms = (int64_t)below(w, 4) * 1000,
        .attempts = below(w, 4) ? 0 : 2,
        .window_ms = below(w, 2) ? 0 : 20000,
        .has_condition = true,
        .condition = below(w, 5) ? RESTART_CONDITION__ANY : (RestartCondition)below(w, 3),
    };

    if (below(w, 2)) {
        s.has_update = true;
        s.parallelism = below(w, 4);
        s.update_delay_ms = below(w, 2) ? 0 : 3000;
        s.failure_action = (UpdateFailureAction)below(w, 3);
        s.order = below(w, 3) ? UPDATE_ORDER__STOP_FIRST : UPDATE_ORDER__START_FIRST;
    }
    return s;
}

static struct fake_node random_node(struct world *w)
{
    static const char *const labels[] = {NULL, "zone=a", "zone=b"};

    return (struct fake_node){
        .hostname = "n",
        .labels = labels[below(w, ARRAY_SIZE(labels))],
        .memory_bytes = (int64_t)below(w, 10) * 100,
        .availability = below(w, 4) ? NODE_AVAILABILITY__ACTIVE : (NodeAvailability)below(w, 3),
        .state = below(w, 5) ? NODE_STATE__UP : NODE_STATE__DOWN,
    };
}

static void disturb_service(struct world *w)
{
    int which = (int)below(w, SERVICES_MAX);
    struct fake_service s = random_spec(w, which);

    if (!w->services[which])
        w->services[which] = fake_service(w->f, s);
    else if (below(w, 8) == 0 && service_rollback(&w->f->plan, w->services[which], NULL) == 0)
        return; /* the old settings are back: its laws are not known here */
    else if (below(w, 8))
        fake_service_update(w->f, w->services[which], s);
    else {
        fake_service_remove(w->f, w->services[which]);
        w->services[which] = 0;
    }
    w->specs[which] = s;
    w->start_first[which] |= s.order == UPDATE_ORDER__START_FIRST;
}

static void disturb_node(struct world *w)
{
    uint64_t *node = &w->nodes[below(w, NODES_MAX)];

    if (!*node) {
        *node = fake_node(w->f, random_node(w));
    } else if (below(w, 6)) {
        fake_node_set(w->f, *node, random_node(w));
    } else {
        fake_node_remove(w->f, *node);
        *node = 0;
    }
}

static void disturb_task(struct world *w)
{
    struct index_task *t = index_task(w->f->index, 1 + below(w, w->f->next_number));

    if (!t || !t->share || index_task_ended(t))
        return;
    if (t->state < TASK_STATE__STARTING)
        fake_report(w->f, t->number, TASK_STATE__REJECTED, "bad");
    else
        fake_report(w->f, t->number, below(w, 2) ? TASK_STATE__FAILED : TASK_STATE__COMPLETE, NULL);
}

static void step(struct world *w)
{
    size_t mark = fake_mark(w->f);

    switch (below(w, 8)) {
    case 0:
        disturb_service(w);
        break;
    case 1:
        disturb_node(w);
        break;
    case 2:
    case 3:
        disturb_task(w);
        break;
    case 4:
    case 5:
        fake_agents(w->f, (unsigned)below(w, 4));
        break;
    default:
        w->f->plan.now_ms += (int64_t)below(w, 3000);
        break;
    }
    w->f->round_room = 40 + below(w, 200);
    w->f->late_in = below(w, 3) ? 0 : (uint32_t)below(w, 60) + 1;
    fake_round(w->f);
    laws(w);
    if (below(w, 12) == 0) {
        /* The draft is dropped, and planned again. But what the test believes of services and nodes must stay true.
         */
        size_t here = fake_mark(w->f);

        fake_round(w->f);
        fake_undo(w->f, here);
    }
    if (below(w, 6) == 0)
        fake_check(w->f);
    (void)mark;
}

/* --- the end
 * --------------------------------------------------------------------------------------------------------- */

static void heal(struct world *w)
{
    w->f->round_room = 2000;
    for (int i = 0; i < NODES_MAX; i++)
        if (w->nodes[i])
            fake_node_set(w->f, w->nodes[i],
                          (struct fake_node){.hostname = "n", .labels = "zone=a", .memory_bytes = 100000});
    for (int i = 0; i < SERVICES_MAX; i++) {
        if (!w->services[i])
            continue;
        w->specs[i] = (struct fake_service){
            .name = w->specs[i].name, .mode = w->specs[i].mode, .image = "web:9", .replicas = 5};
        fake_service_update(w->f, w->services[i], w->specs[i]);
    }
    for (int i = 0; i < 40; i++) {
        fake_converge(w->f);
        fake_advance(w->f, 5000);
    }
}

static unsigned node_total(const struct world *w)
{
    unsigned count = 0;

    for (int i = 0; i < NODES_MAX; i++)
        count += w->nodes[i] != 0;
    return count;
}

static void everything_wanted_runs(struct world *w)
{
    for (int i = 0; i < SERVICES_MAX; i++) {
        if (!w->services[i])
            continue;
        unsigned wanted = w->specs[i].mode == SERVICE_MODE__GLOBAL ? node_total(w) : node_total(w) ? 5 : 0;

        must(w, fake_count(w->f, w->services[i], TASK_STATE__RUNNING, TASK_STATE__RUNNING) == wanted,
             "once nothing disturbs, all that is wanted runs");
        must(w,
             !node_total(w) || !w->specs[i].replicas ||
                 fake_service_object(w->f, w->services[i])->update_status == NULL ||
                 fake_service_object(w->f, w->services[i])->update_status->state == UPDATE_STATE__COMPLETED,
             "and updates are complete");
    }
}

static uint64_t present_seed;

/* A broken check aborts wherever it stands: say how to repeat it. */
static void on_abort(int signal_number)
{
    static char text[] = "SEED=                     repeats it\n";

    for (uint64_t left = present_seed, at = 24; left; left /= 10)
        text[at--] = (char)('0' + left % 10);
    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    signal(signal_number, SIG_DFL);
}

static void one_seed(uint64_t seed)
{
    struct world w = {.f = fake_new(seed), .seed = seed};

    present_seed = seed;
    for (int i = 0; i < STEPS; i++)
        step(&w);
    fake_check(w.f);
    heal(&w);
    everything_wanted_runs(&w);
    fake_check_settled(w.f);
    fake_free(w.f);
}

static void random_clusters_keep_the_laws_and_converge(void **state)
{
    const char *only = getenv("SEED"), *many = getenv("SEEDS");
    uint64_t seeds = many ? strtoull(many, NULL, 10) : 60;

    if (only) {
        one_seed(strtoull(only, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= seeds; seed++)
        one_seed(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_clusters_keep_the_laws_and_converge),
    };

    signal(SIGABRT, on_abort);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
