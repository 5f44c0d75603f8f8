/* The index: what it says does not depend on the order in which objects came, and its look-ups find what is there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/simulation/fake.h"

/* A cluster with a bit of everything. */
static struct fake *busy_cluster(uint64_t seed)
{
    struct fake *f = fake_new(seed);
    uint64_t nodes[4], web, agent;

    for (int i = 0; i < 4; i++)
        nodes[i] = fake_node(f, (struct fake_node){.hostname = "n",
                                                   .labels = i % 2 ? "zone=a,ssd=1" : "zone=b",
                                                   .engine_labels = "kernel=6.1",
                                                   .plugins = "Log=json-file,Volume=local",
                                                   .generic = "gpu=2,fpga=x,fpga=y",
                                                   .address = "10.0.0.1",
                                                   .nano_cpus = 4000,
                                                   .memory_bytes = 1000});
    web = fake_service(f, (struct fake_service){.name = "web",
                                                .replicas = 7,
                                                .memory_bytes = 100,
                                                .host_port = 80,
                                                .automatic_port = true,
                                                .generic = "gpu=1",
                                                .delay_ms = 1000});
    agent = fake_service(f, (struct fake_service){.name = "agent", .mode = SERVICE_MODE__GLOBAL, .nano_cpus = 100});
    fake_converge(f);
    fake_service_update(f, web,
                        (struct fake_service){.name = "web", .replicas = 6, .image = "web:2", .memory_bytes = 100});
    fake_settle(f);
    fake_agents(f, 2);
    fake_report(f, fake_newest(f, web, 2, 0), TASK_STATE__FAILED, "boom");
    fake_settle(f);
    fake_node_remove(f, nodes[3]);
    fake_service_remove(f, agent);
    fake_settle(f);
    return f;
}

struct collected {
    struct object objects[2000];
    size_t count;
};

static void collect(struct fake *f, struct collected *c)
{
    for (int k = 1; k < KIND_MAX; k++)
        for (uint64_t number = 1; number < f->next_number; number++)
            if (c->count < ARRAY_SIZE(c->objects) &&
                f->plan.backend->get(f, (enum kind)k, number, &c->objects[c->count]) == 0)
                c->count++;
}

static bool is_status_of(const struct object *o, uint64_t task)
{
    return o->kind == KIND_STATUS && o->number == task;
}

/* In any order, except that a status comes after its task. */
static struct index *apply_shuffled(const struct collected *c, struct entropy *random)
{
    struct index *x = index_new();
    static size_t order[2000];

    for (size_t i = 0; i < c->count; i++)
        order[i] = i;
    for (size_t i = c->count; i > 1; i--) {
        size_t other = entropy_below(random, i), kept = order[i - 1];

        order[i - 1] = order[other];
        order[other] = kept;
    }
    for (size_t i = 0; i < c->count; i++) {
        const struct object *o = &c->objects[order[i]];

        if (o->kind == KIND_STATUS)
            continue;
        index_apply(x, NULL, o);
        for (size_t k = 0; o->kind == KIND_TASK && k < c->count; k++)
            if (is_status_of(&c->objects[k], o->number))
                index_apply(x, NULL, &c->objects[k]);
    }
    return x;
}

static void order_of_arrival_does_not_matter(void **state)
{
    struct fake *f = busy_cluster(3);
    static struct collected c;
    char difference[256];

    collect(f, &c);
    assert_true(c.count > 25);
    for (int round = 0; round < 50; round++) {
        struct index *x = apply_shuffled(&c, &f->random.base);

        if (!index_equal(f->index, x, difference, sizeof(difference)))
            fail_msg("round %d: %s", round, difference);
        index_free(x);
    }
    fake_free(f);
}

static void everything_taken_away_leaves_nothing(void **state)
{
    struct fake *f = busy_cluster(4);
    struct index *empty = index_new();
    char difference[256];

    fake_undo(f, 0);
    if (!index_equal(f->index, empty, difference, sizeof(difference)))
        fail_msg("%s", difference);
    assert_int_equal(f->index->node_hole_count, f->index->node_count); /* all places are free again */
    index_free(empty);
    fake_free(f);
}

static void difference_is_named(void **state)
{
    struct fake *f = busy_cluster(5), *g = busy_cluster(5);
    char difference[256] = "";
    uint64_t task = fake_newest(f, 6, 1, 0);

    assert_true(index_equal(f->index, g->index, difference, sizeof(difference)));
    fake_report(g, task, TASK_STATE__FAILED, "different");
    assert_false(index_equal(f->index, g->index, difference, sizeof(difference)));
    assert_non_null(strstr(difference, " is "));
    fake_free(f);
    fake_free(g);
}

static void walks_see_each_task_once(void **state)
{
    struct fake *f = busy_cluster(6);
    struct index_service *s;
    size_t seen = 0;

    for (size_t at = 0; (s = table_next(&f->index->services, &at));) {
        struct index_walk w = {0};
        struct index_task *t;

        while ((t = index_service_next(s, &w))) {
            assert_ptr_equal(t->spec->service, s);
            assert_ptr_equal(index_task(f->index, t->number), t);
            assert_ptr_equal(index_task_by_id(f->index, t->id), t);
            seen++;
        }
    }
    assert_int_equal(seen, f->index->tasks.count);
    size_t assigned = 0, on_nodes = 0;
    struct index_task *t;
    for (size_t at = 0; (t = table_next(&f->index->tasks, &at));)
        assigned += t->share != NULL;
    for (uint32_t i = 0; i < f->index->node_count; i++) {
        struct index_walk w = {0};

        while (f->index->node_at[i] && (t = index_node_next(f->index->node_at[i], &w)))
            on_nodes += t->share->node == f->index->node_at[i];
    }
    assert_int_equal(assigned, on_nodes);
    fake_free(f);
}

static void ids_are_found_while_their_objects_are_there(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t node = fake_node(f, (struct fake_node){.hostname = "n"}), web;
    uint8_t id[16];

    web = fake_service(f, (struct fake_service){.replicas = 1});
    memcpy(id, index_node(f->index, node)->id, sizeof(id));
    assert_ptr_equal(index_node_by_id(f->index, id), index_node(f->index, node));
    fake_node_remove(f, node);
    assert_null(index_node_by_id(f->index, id));
    memcpy(id, index_service(f->index, web)->id, sizeof(id));
    assert_ptr_equal(index_service_by_id(f->index, id), index_service(f->index, web));
    fake_service_remove(f, web);
    assert_null(index_service_by_id(f->index, id));
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_of_arrival_does_not_matter),
        cmocka_unit_test(everything_taken_away_leaves_nothing),
        cmocka_unit_test(difference_is_named),
        cmocka_unit_test(walks_see_each_task_once),
        cmocka_unit_test(ids_are_found_while_their_objects_are_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
