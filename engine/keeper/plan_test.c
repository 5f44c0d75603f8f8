/* A plan is executed whole or refused whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine/keeper/plan.h"
#include "proto/base/entropy.h"
#include "proto/base/mem.h"

static struct arena arena;

static int begin(void **state)
{
    arena_init(&arena);
    return 0;
}

static int end(void **state)
{
    arena_fini(&arena);
    return 0;
}

static Step *a_step(void)
{
    Step *s = ARENA_NEW(&arena, Step);

    step__init(s);
    return s;
}

#define NEW(Type, init)                       \
    ({                                        \
        Type *new_ = ARENA_NEW(&arena, Type); \
        init(new_);                           \
        new_;                                 \
    })

struct a_plan {
    LaunchPlan plan;
    Recipe recipe;
    Namespaces namespaces;
    Step *steps[16], *prepare[16];
};

static void add(struct a_plan *p, Step *s)
{
    p->steps[p->plan.n_steps++] = s;
}

static struct a_plan *a_plan(void)
{
    struct a_plan *p = ARENA_NEW(&arena, struct a_plan);
    static char program[] = "/bin/true";
    static char *argv[] = {program};

    launch_plan__init(&p->plan);
    recipe__init(&p->recipe);
    namespaces__init(&p->namespaces);
    p->recipe.namespaces = &p->namespaces;
    p->recipe.prepare = p->prepare;
    p->plan.version = 1;
    p->plan.id = (char *)"c1";
    p->plan.steps = p->steps;
    add(p, a_step());
    p->steps[0]->overlay = NEW(StepOverlay, step_overlay__init);
    p->steps[0]->overlay->has_upper_fd = true;
    add(p, a_step());
    p->steps[1]->exec = NEW(StepExec, step_exec__init);
    p->steps[1]->exec->argv = argv;
    p->steps[1]->exec->n_argv = 1;
    return p;
}

/* Before the last, which is the program. */
static Step *insert(struct a_plan *p)
{
    size_t last = p->plan.n_steps++;

    p->steps[last] = p->steps[last - 1];
    p->steps[last - 1] = a_step();
    return p->steps[last - 1];
}

static Step *prepare(struct a_plan *p)
{
    Step *s = a_step();

    p->prepare[p->recipe.n_prepare++] = s;
    return s;
}

static int check(struct a_plan *p, struct err *e)
{
    Recipe *recipe = NULL;

    p->plan.recipe.len = recipe__get_packed_size(&p->recipe);
    p->plan.recipe.data = arena_alloc(&arena, p->plan.recipe.len);
    recipe__pack(&p->recipe, p->plan.recipe.data);
    size_t size = launch_plan__get_packed_size(&p->plan);
    uint8_t *data = arena_alloc(&arena, size);
    launch_plan__pack(&p->plan, data);
    const LaunchPlan *got = plan_unpack(&arena, data, size, 2, &recipe, e);
    assert_int_equal(got != NULL, recipe != NULL);
    return got ? 0 : e->code;
}

static void expect(struct a_plan *p, int code, const char *text)
{
    struct err e = {0};

    assert_int_equal(check(p, &e), code);
    if (text && !strstr(e.text, text))
        fail_msg("\"%s\" does not say \"%s\"", e.text, text);
}

static void plain_plan_is_accepted(void **state)
{
    expect(a_plan(), 0, NULL);
}

static void add_unknown(ProtobufCMessage *m, uint32_t tag)
{
    static uint8_t nothing[1];
    ProtobufCMessageUnknownField *f = ARENA_NEW(&arena, ProtobufCMessageUnknownField);

    *f = (ProtobufCMessageUnknownField){
        .tag = tag, .wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED, .len = 1, .data = nothing};
    m->unknown_fields = f;
    m->n_unknown_fields = 1;
}

static void what_is_unknown_refuses_wherever_it_stands(void **state)
{
    struct a_plan *p = a_plan();

    add_unknown(&insert(p)->base, 77);
    expect(p, ERR_UNSUPPORTED, "step 2: unknown step 77: this keeper is older than the plan");
    p = a_plan();
    add_unknown(&p->plan.base, 99);
    expect(p, ERR_UNSUPPORTED, "unknown field 99");
    p = a_plan();
    add_unknown(&p->steps[1]->exec->base, 44);
    expect(p, ERR_UNSUPPORTED, "step 2: exec: unknown field 44");
    p = a_plan();
    add_unknown(&p->recipe.base, 45);
    expect(p, ERR_UNSUPPORTED, "recipe: unknown field 45");
    p = a_plan();
    add_unknown(&p->namespaces.base, 46);
    expect(p, ERR_UNSUPPORTED, "recipe: unknown field 46");
    p = a_plan();
    add_unknown(&prepare(p)->base, 47);
    expect(p, ERR_UNSUPPORTED, "recipe: step 1: unknown step 47");
    p = a_plan();
    Step *s = prepare(p);
    s->devices = NEW(StepDevices, step_devices__init);
    DeviceRule *rule = NEW(DeviceRule, device_rule__init), **rules = ARENA_NEW(&arena, DeviceRule *);
    rules[0] = rule;
    s->devices->rules = rules;
    s->devices->n_rules = 1;
    rule->access = (char *)"r";
    add_unknown(&rule->base, 48); /* deep inside */
    expect(p, ERR_UNSUPPORTED, "devices: unknown field 48");
}

static void versions_and_user_namespaces_are_refused_by_name(void **state)
{
    struct a_plan *p = a_plan();

    p->plan.version = 2;
    expect(p, ERR_UNSUPPORTED, "plan of version 2, this keeper executes version 1");
    p = a_plan();
    p->namespaces.has_user = p->namespaces.user = true;
    expect(p, ERR_UNSUPPORTED, "user namespaces are not offered by this keeper");
}

static void each_step_has_one_content_and_its_place(void **state)
{
    struct a_plan *p = a_plan();
    Step *s = insert(p);

    expect(p, ERR_INVALID, "step 2: 0 steps in one");
    s->mask = NEW(StepMask, step_mask__init);
    s->read_only = NEW(StepReadOnly, step_read_only__init);
    expect(p, ERR_INVALID, "step 2: 2 steps in one");
    p = a_plan();
    prepare(p)->exec = p->steps[1]->exec;
    expect(p, ERR_INVALID, "recipe: step 1: exec does not belong here");
    p = a_plan();
    p->steps[0]->overlay = NULL;
    p->steps[0]->mask = NEW(StepMask, step_mask__init);
    expect(p, ERR_INVALID, "step 1: mask: before there is a root");
    p = a_plan();
    insert(p)->overlay = p->steps[0]->overlay;
    expect(p, ERR_INVALID, "2 roots and 1 programs");
    p = a_plan();
    p->plan.n_steps = 1;
    expect(p, ERR_INVALID, "1 roots and 0 programs");
}

static void positions_of_descriptors_are_in_range(void **state)
{
    struct a_plan *p = a_plan();
    uint32_t lower[] = {0, 2};

    p->steps[0]->overlay->upper_fd = 2;
    expect(p, ERR_INVALID, "overlay: upper_fd is 2, but 2 descriptors came");
    p = a_plan();
    p->steps[0]->overlay->lower_fds = lower;
    p->steps[0]->overlay->n_lower_fds = 2;
    p->steps[0]->overlay->has_work_fd = true;
    expect(p, ERR_INVALID, "lower_fds is 2");
    p = a_plan();
    insert(p)->seccomp = NEW(StepSeccomp, step_seccomp__init);
    p->steps[1]->seccomp->program_fd = 9;
    expect(p, ERR_INVALID, "seccomp: program_fd is 9");
    p = a_plan();
    p->plan.log = NEW(LogTarget, log_target__init);
    p->plan.log->has_directory_fd = true;
    p->plan.log->directory_fd = 2;
    expect(p, ERR_INVALID, "log: directory_fd is 2");
    p = a_plan(); /* a recipe is made before there are any */
    StepMount *m = NEW(StepMount, step_mount__init);
    prepare(p)->mount = m;
    m->target = (char *)"/proc";
    m->has_source_fd = true;
    expect(p, ERR_INVALID, "recipe: step 1: mount: source_fd is 0, but 0 descriptors came");
}

static void values_that_would_lead_astray_are_refused(void **state)
{
    static const struct {
        const char *target, *fstype, *host, *cgroup, *propagation, *text;
        bool in_recipe;
    } mounts[] = {
        {"relative", "tmpfs", NULL, NULL, NULL, "target \"relative\" is not an absolute path", false},
        {"/x", NULL, NULL, NULL, NULL, "needs one of", false},
        {"/x", "tmpfs", "/dev/shm", NULL, NULL, "needs one of", true},
        {"/x", NULL, "/etc", NULL, NULL, "host_path \"/etc\" is not offered", true},
        {"/x", NULL, "/dev/shm", NULL, NULL, "is not offered", false},
        {"/x", NULL, NULL, "memory", NULL, "belongs into the recipe", false},
        {"/x", "tmpfs", NULL, NULL, "rshared", "propagation \"rshared\"", false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
        struct a_plan *p = a_plan();
        StepMount *m = NEW(StepMount, step_mount__init);

        m->target = (char *)mounts[i].target;
        m->fstype = (char *)mounts[i].fstype;
        m->host_path = (char *)mounts[i].host;
        m->cgroup = (char *)mounts[i].cgroup;
        m->propagation = (char *)mounts[i].propagation;
        (mounts[i].in_recipe ? prepare(p) : insert(p))->mount = m;
        expect(p, ERR_INVALID, mounts[i].text);
    }
}

static void ids_names_and_lists_are_bounded(void **state)
{
    static const char *const ids[] = {"", "../x", "a/b", "a b", "a\nb", "."};
    static const char *const parents[] = {"..", "a/../b", "/abs", "a//b", ".hidden", "a/"};
    static const char *const sysctls[] = {"", "/etc/passwd", "net/../../x"};
    static char long_text[(128 << 10) + 2];

    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        struct a_plan *p = a_plan();

        p->plan.id = (char *)ids[i];
        expect(p, ERR_INVALID, "container id");
    }
    for (size_t i = 0; i < ARRAY_SIZE(parents); i++) {
        struct a_plan *p = a_plan();

        p->recipe.cgroup_parent = (char *)parents[i];
        expect(p, ERR_INVALID, "cgroup_parent");
    }
    for (size_t i = 0; i < ARRAY_SIZE(sysctls); i++) {
        struct a_plan *p = a_plan();

        insert(p)->sysctl = NEW(StepSysctl, step_sysctl__init);
        p->steps[1]->sysctl->path = (char *)sysctls[i];
        p->steps[1]->sysctl->value = (char *)"1";
        expect(p, ERR_INVALID, "sysctl: path");
    }
    struct a_plan *p = a_plan();
    memset(long_text, 'x', sizeof(long_text) - 1);
    p->steps[1]->exec->working_dir = long_text;
    expect(p, ERR_LIMIT, "working_dir is longer than");
    p = a_plan();
    p->recipe.cgroup_parent = (char *)"web/front";
    expect(p, 0, NULL);
}

static void bytes_that_are_no_plan_are_refused(void **state)
{
    struct entropy_seeded random;
    uint64_t seed = (uint64_t)time(NULL);
    struct a_plan *p = a_plan();
    struct err e;
    Recipe *recipe;

    assert_int_equal(check(p, &e), 0);
    size_t size = launch_plan__get_packed_size(&p->plan);
    uint8_t *data = arena_alloc(&arena, size);
    launch_plan__pack(&p->plan, data);
    print_message("seed %llu\n", (unsigned long long)seed);
    entropy_seeded_init(&random, seed);
    for (int round = 0; round < 2000; round++) {
        AUTO_ARENA struct arena scratch;
        uint8_t *copy;

        arena_init(&scratch);
        copy = arena_dup(&scratch, data, size);
        for (uint64_t flips = 1 + entropy_below(&random.base, 4); flips; flips--)
            copy[entropy_below(&random.base, size)] ^= (uint8_t)(1u << entropy_below(&random.base, 8));
        /* Refused or accepted, and then checked: never a crash (the sanitizers look). */
        (void)plan_unpack(&scratch, copy, entropy_below(&random.base, 3) ? size : entropy_below(&random.base, size),
                          2, &recipe, &e);
    }
    assert_null(plan_unpack(&arena, "", 0, 0, &recipe, &e));
    assert_null(plan_recipe(&arena, "\xff\xff", 2, &e));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(plain_plan_is_accepted),
        TEST(what_is_unknown_refuses_wherever_it_stands),
        TEST(versions_and_user_namespaces_are_refused_by_name),
        TEST(each_step_has_one_content_and_its_place),
        TEST(positions_of_descriptors_are_in_range),
        TEST(values_that_would_lead_astray_are_refused),
        TEST(ids_names_and_lists_are_bounded),
        TEST(bytes_that_are_no_plan_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
