/* What means the same has the same digest, and nothing else has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "manager/index.h"
#include "proto/base/mem.h"

/* A task template of which each test changes something. */
struct template
{
    TaskSpec task;
    ContainerSpec container;
    Resources limits;
    KeyValue pairs[2], *labels[2];
    char *args[2];
};

static void template_init(struct template *t)
{
    *t = (struct template){.task = TASK_SPEC__INIT,
                           .container = CONTAINER_SPEC__INIT,
                           .limits = RESOURCES__INIT,
                           .pairs = {KEY_VALUE__INIT, KEY_VALUE__INIT},
                           .labels = {&t->pairs[0], &t->pairs[1]},
                           .args = {(char *)"sleep", (char *)"1"}};
    t->task.container = &t->container;
    t->container.image = (char *)"web:1";
    t->pairs[0].key = (char *)"a";
    t->pairs[0].value = (char *)"1";
    t->pairs[1].key = (char *)"b";
    t->pairs[1].value = (char *)"2";
    t->container.labels = t->labels;
    t->container.n_labels = 2;
    t->container.args = t->args;
    t->container.n_args = 2;
}

static void explicit_emptiness(struct template *t)
{
    t->task.has_force_update = true; /* 0 */
    t->task.limits = &t->limits;
    t->limits.has_nano_cpus = true; /* 0 */
    t->container.hostname = (char *)"";
    t->container.has_init = true; /* false */
}

static void other_order_of_labels(struct template *t)
{
    t->labels[0] = &t->pairs[1];
    t->labels[1] = &t->pairs[0];
}

static void number(struct template *t)
{
    t->task.has_force_update = true;
    t->task.force_update = 1;
}

static void nested_number(struct template *t)
{
    t->task.limits = &t->limits;
    t->limits.has_pids = true;
    t->limits.pids = 1;
}

static void text(struct template *t)
{
    t->container.image = (char *)"web:2";
}

static void value_of_a_label(struct template *t)
{
    t->pairs[1].value = (char *)"3";
}

static void values_of_labels_swapped(struct template *t)
{
    t->pairs[0].value = (char *)"2";
    t->pairs[1].value = (char *)"1";
}

static void a_label_less(struct template *t)
{
    t->container.n_labels = 1;
}

static void order_of_arguments(struct template *t)
{
    t->args[0] = (char *)"1";
    t->args[1] = (char *)"sleep";
}

static void arguments_divided_otherwise(struct template *t)
{
    t->args[0] = (char *)"sleep1";
    t->args[1] = (char *)"";
}

static void arguments_as_command(struct template *t)
{
    t->container.command = t->args;
    t->container.n_command = 2;
    t->container.n_args = 0;
}

static const struct {
    const char *name;
    void (*change)(struct template *t);
    bool same;
} changes[] = {
    {"explicit emptiness", explicit_emptiness, true},
    {"other order of labels", other_order_of_labels, true},
    {"number", number, false},
    {"nested number", nested_number, false},
    {"text", text, false},
    {"value of a label", value_of_a_label, false},
    {"values of labels swapped", values_of_labels_swapped, false},
    {"a label less", a_label_less, false},
    {"order of arguments", order_of_arguments, false},
    {"arguments divided otherwise", arguments_divided_otherwise, false},
    {"arguments as command", arguments_as_command, false},
};

static void digest_is_of_what_the_message_means(void **state)
{
    struct template plain;

    template_init(&plain);
    for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
        struct template changed;

        template_init(&changed);
        changes[i].change(&changed);
        bool same = index_digest(&changed.task.base) == index_digest(&plain.task.base);
        if (same != changes[i].same)
            fail_msg("%s: the digest is %s", changes[i].name, same ? "the same" : "another");
    }
}

static void nothing_is_the_empty_message(void **state)
{
    TaskSpec empty = TASK_SPEC__INIT;

    assert_int_equal(index_digest(NULL), index_digest(&empty.base));
    assert_int_not_equal(index_digest_keyed(NULL, 1, 0), index_digest_keyed(NULL, 2, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digest_is_of_what_the_message_means),
        cmocka_unit_test(nothing_is_the_empty_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
