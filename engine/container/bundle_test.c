/* What a container's configuration becomes, and what is refused in which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <limits.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "engine/container/bundle.h"
#include "engine/keeper/plan.h"
#include "proto/base/mem.h"

#define DEFAULT_CAPS 0xa80425fbull /* what /proc/self/status shows in Docker's containers */

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

static struct bundle_kernel v1_kernel(void)
{
    struct bundle_kernel k = {.processors = 2, .capabilities = 0x1ffffffffffull, .mqueue = true};

    for (int c = 0; c < BUNDLE_CONTROLLERS; c++) {
        k.cgroup_there[c] = true;
        k.cgroup_mount[c] = (uint8_t)c;
    }
    return k;
}

static struct bundle_kernel v2_kernel(void)
{
    struct bundle_kernel k = v1_kernel();

    for (int c = 0; c < BUNDLE_CONTROLLERS; c++) {
        k.cgroup_v2[c] = true;
        k.cgroup_mount[c] = 0;
    }
    return k;
}

struct a_container { /* what a test says of it; the rest is plain */
    HostConfig host;
    ContainerConfig config;
    ContainerRecord record;
    ContainerState status;
    char *argv[2];
};

static struct a_container *a_container(void)
{
    struct a_container *c = ARENA_NEW(&arena, struct a_container);

    host_config__init(&c->host);
    container_config__init(&c->config);
    container_record__init(&c->record);
    container_state__init(&c->status);
    c->argv[0] = (char *)"/bin/true";
    c->config.host = &c->host;
    c->record.format = 1;
    c->record.id = (char *)"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    c->record.name = (char *)"test";
    c->record.image_id = (char *)"sha256:0";
    c->record.config = &c->config;
    c->record.state = &c->status;
    c->record.argv = c->argv;
    c->record.n_argv = 1;
    return c;
}

static int try_make(struct a_container *c, const struct bundle_kernel *kernel, LaunchPlan **ret, struct err *e)
{
    static unsigned positions[16];
    static bool yes[16], no[16];
    const struct bundle_in in = {.record = &c->record,
                                 .kernel = kernel,
                                 .layers = 2,
                                 .upper = 2,
                                 .work = 3,
                                 .mounts = positions,
                                 .mount_is_directory = yes,
                                 .mount_copy_up = no,
                                 .resolv_conf = 4,
                                 .hostname = 5,
                                 .hosts = 6,
                                 .seccomp = 7,
                                 .log_directory = 8,
                                 .id = c->record.id};

    for (unsigned i = 0; i < ARRAY_SIZE(positions); i++)
        positions[i] = 9 + i;
    return bundle_make(&in, &arena, ret, e);
}

/* The plan, which the keeper accepts as well. */
static LaunchPlan *make(struct a_container *c, const struct bundle_kernel *kernel)
{
    LaunchPlan *plan = NULL;
    Recipe *recipe;
    struct err e = {0};

    if (try_make(c, kernel, &plan, &e) < 0)
        fail_msg("%s", e.text);
    size_t size = launch_plan__get_packed_size(plan);
    uint8_t *data = arena_alloc(&arena, size);
    launch_plan__pack(plan, data);
    if (!plan_unpack(&arena, data, size, 32, &recipe, &e))
        fail_msg("%s", e.text);
    return plan;
}

static Recipe *recipe_of(const LaunchPlan *plan)
{
    return arena_unpack(&arena, &recipe__descriptor, plan->recipe.data, plan->recipe.len);
}

static const StepMount *mount_in(Step *const *steps, size_t count, const char *target)
{
    for (size_t i = 0; i < count; i++)
        if (steps[i]->mount && strcmp(steps[i]->mount->target, target) == 0)
            return steps[i]->mount;
    return NULL;
}

static const StepMount *plan_mount(const LaunchPlan *p, const char *target)
{
    return mount_in(p->steps, p->n_steps, target);
}

static const StepMount *recipe_mount(const Recipe *r, const char *target)
{
    return mount_in(r->prepare, r->n_prepare, target);
}

static const char *cgroup_value(const LaunchPlan *p, const char *file)
{
    for (size_t i = 0; i < p->n_steps; i++)
        if (p->steps[i]->cgroup && strcmp(p->steps[i]->cgroup->file, file) == 0)
            return p->steps[i]->cgroup->value;
    return NULL;
}

#define STEP(plan, kind)                                  \
    ({                                                    \
        __typeof__((plan)->steps[0]->kind) found_ = NULL; \
        for (size_t i_ = 0; i_ < (plan)->n_steps; i_++)   \
            if ((plan)->steps[i_]->kind)                  \
                found_ = (plan)->steps[i_]->kind;         \
        found_;                                           \
    })

static bool has_text(char *const *list, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i], text) == 0)
            return true;
    return false;
}

static KeyValue *a_pair(const char *key, const char *value)
{
    KeyValue *v = ARENA_NEW(&arena, KeyValue);

    key_value__init(v);
    v->key = (char *)key;
    v->value = (char *)value;
    return v;
}

static void add_pair(KeyValue ***list, size_t *count, const char *key, const char *value)
{
    *list = arena_append(&arena, *list, *count, sizeof(**list));
    (*list)[(*count)++] = a_pair(key, value);
}

static MountPoint *add_point(struct a_container *c, MountType type, const char *target)
{
    MountPoint *p = ARENA_NEW(&arena, MountPoint);

    mount_point__init(p);
    p->has_type = true;
    p->type = type;
    p->target = (char *)target;
    c->record.mounts = arena_append(&arena, c->record.mounts, c->record.n_mounts, sizeof(p));
    c->record.mounts[c->record.n_mounts++] = p;
    return p;
}

/* --- the plain container --------------------------------------------------------------------------- */

static void plain_container_has_the_recipe_that_is_kept_warm(void **state)
{
    struct bundle_kernel kernels[] = {v1_kernel(), v2_kernel()};

    for (size_t i = 0; i < ARRAY_SIZE(kernels); i++) {
        const LaunchPlan *plan = make(a_container(), &kernels[i]);
        const Recipe *warm = bundle_default_recipe(&kernels[i], &arena);
        size_t size = recipe__get_packed_size(warm);
        uint8_t *data = arena_alloc(&arena, size);

        recipe__pack(warm, data);
        assert_int_equal(plan->recipe.len, size);
        assert_memory_equal(plan->recipe.data, data, size);
    }
}

static void wishes_of_a_start_do_not_change_the_recipe(void **state)
{
    struct bundle_kernel k = v1_kernel();
    struct a_container *c = a_container();
    char *groups[] = {(char *)"audio"};

    c->host.memory_bytes = 64 << 20;
    c->host.nano_cpus = 500000000;
    c->host.read_only_root = true;
    c->host.group_add = groups;
    c->host.n_group_add = 1;
    c->config.tty = true;
    c->config.hostname = (char *)"web";
    c->record.user = (char *)"www";
    add_point(c, MOUNT_TYPE__VOLUME, "/data");
    add_pair(&c->host.sysctls, &c->host.n_sysctls, "net.core.somaxconn", "1024");
    const LaunchPlan *plan = make(c, &k), *plain = make(a_container(), &k);
    assert_int_equal(plan->recipe.len, plain->recipe.len);
    assert_memory_equal(plan->recipe.data, plain->recipe.data, plain->recipe.len);
}

static void sandbox_has_dockers_defaults(void **state)
{
    struct bundle_kernel k = v1_kernel();
    const Recipe *r = recipe_of(make(a_container(), &k));
    const StepMask *mask = NULL;
    const StepReadOnly *read_only = NULL;
    bool saw_fuse = false;

    assert_true(r->namespaces->net && r->namespaces->pid && r->namespaces->ipc && r->namespaces->uts &&
                r->namespaces->cgroup && r->cgroups);
    assert_false(r->namespaces->user);
    assert_int_equal(recipe_mount(r, "/proc")->attributes,
                     MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    assert_int_equal(recipe_mount(r, "/dev")->attributes, MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME);
    assert_true(recipe_mount(r, "/sys")->attributes & MOUNT_ATTR_RDONLY);
    assert_true(has_text(recipe_mount(r, "/dev/shm")->options, 2, "size=65536k"));
    assert_true(recipe_mount(r, "/dev/mqueue")->optional);
    assert_string_equal(recipe_mount(r, "/sys/fs/cgroup/memory")->cgroup, "memory");
    assert_true(recipe_mount(r, "/sys/fs/cgroup/memory")->attributes & MOUNT_ATTR_RDONLY);
    for (size_t i = 0; i < r->n_prepare; i++) {
        if (r->prepare[i]->mask)
            mask = r->prepare[i]->mask;
        if (r->prepare[i]->read_only)
            read_only = r->prepare[i]->read_only;
        for (size_t d = 0; r->prepare[i]->devices && d < r->prepare[i]->devices->n_rules; d++)
            saw_fuse |= !r->prepare[i]->devices->rules[d]->allow && r->prepare[i]->devices->rules[d]->minor == 229;
    }
    assert_true(has_text(mask->paths, mask->n_paths, "/proc/kcore"));
    assert_true(has_text(mask->paths, mask->n_paths, "/sys/firmware"));
    assert_true(has_text(mask->paths, mask->n_paths, "/sys/devices/system/cpu/cpu1/thermal_throttle"));
    assert_true(has_text(read_only->paths, read_only->n_paths, "/proc/sys"));
    assert_true(saw_fuse);
}

static void groups_are_shown_as_the_machine_has_them(void **state)
{
    struct bundle_kernel v2 = v2_kernel(), together = v1_kernel();
    const Recipe *r = recipe_of(make(a_container(), &v2));
    bool linked = false;

    assert_non_null(recipe_mount(r, "/sys/fs/cgroup")->cgroup);
    assert_null(recipe_mount(r, "/sys/fs/cgroup/memory"));
    together.cgroup_mount[BUNDLE_CPUACCT] = together.cgroup_mount[BUNDLE_CPU];
    r = recipe_of(make(a_container(), &together));
    assert_non_null(recipe_mount(r, "/sys/fs/cgroup/cpu,cpuacct"));
    assert_null(recipe_mount(r, "/sys/fs/cgroup/cpuacct"));
    for (size_t i = 0; i < r->n_prepare; i++)
        linked |= r->prepare[i]->symlink && strcmp(r->prepare[i]->symlink->path, "/sys/fs/cgroup/cpuacct") == 0;
    assert_true(linked);
}

static void program_gets_its_environment(void **state)
{
    struct bundle_kernel k = v1_kernel();
    struct a_container *c = a_container();
    char *env[] = {(char *)"PATH=/mine", (char *)"A=b"};

    const StepExec *s = STEP(make(c, &k), exec);
    assert_int_equal(s->n_env, 2);
    assert_string_equal(s->env[0], "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    assert_string_equal(s->env[1], "HOSTNAME=0123456789ab");
    c->record.env = env;
    c->record.n_env = 2;
    c->config.tty = true;
    c->config.hostname = (char *)"web";
    s = STEP(make(c, &k), exec);
    assert_int_equal(s->n_env, 4);
    assert_string_equal(s->env[0], "HOSTNAME=web");
    assert_string_equal(s->env[1], "TERM=xterm");
    assert_string_equal(s->env[2], "PATH=/mine");
}

static void limits_come_before_the_root_and_the_program_last(void **state)
{
    struct bundle_kernel k = v1_kernel();
    struct a_container *c = a_container();

    c->host.memory_bytes = 64 << 20;
    c->host.read_only_root = true;
    const LaunchPlan *p = make(c, &k);
    assert_non_null(p->steps[0]->cgroup);
    assert_non_null(p->steps[p->n_steps - 1]->exec);
    size_t root = 0, read_only = 0, last_mount = 0;
    for (size_t i = 0; i < p->n_steps; i++) {
        root = p->steps[i]->overlay ? i : root;
        read_only = p->steps[i]->read_only ? i : read_only;
        last_mount = p->steps[i]->mount ? i : last_mount;
    }
    assert_true(root < last_mount && last_mount < read_only);
    assert_string_equal(STEP(p, read_only)->paths[0], "/");
}

/* --- namespaces and places ------------------------------------------------------------------------- */

static void hosts_namespaces_are_used_when_asked_for(void **state)
{
    struct bundle_kernel k = v1_kernel();
    struct a_container *c = a_container();

    c->host.network_mode = c->host.pid_mode = c->host.ipc_mode = c->host.uts_mode = (char *)"host";
    const LaunchPlan *p = make(c, &k);
    const Recipe *r = recipe_of(p);
    assert_false(r->namespaces->net || r->namespaces->pid || r->namespaces->ipc || r->namespaces->uts);
    assert_string_equal(recipe_mount(r, "/dev/shm")->host_path, "/dev/shm");
    assert_null(STEP(p, hostname));
    for (size_t i = 0; i < r->n_prepare; i++)
        assert_null(r->prepare[i]->sysctl);
}

static void users_mount_replaces_a_default_place(void **state)
{
    static const struct {
        const char *target, *gone;
    } cases[] = {{"/dev/shm", "/dev/shm"},   {"/dev", "/dev"},
                 {"/dev", "/dev/pts"},       {"/dev", "/dev/shm"},
                 {"/sys", "/sys"},           {"/sys/fs/cgroup", "/sys/fs/cgroup"},
                 {"/sys", "/sys/fs/cgroup"}, {"/dev/mqueue", "/dev/mqueue"},
                 {"/dev/pts", "/dev/pts"}};
    struct bundle_kernel k = v1_kernel();

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct a_container *c = a_container();

        add_point(c, MOUNT_TYPE__BIND, cases[i].target);
        const LaunchPlan *p = make(c, &k);
        assert_null(recipe_mount(recipe_of(p), cases[i].gone));
        assert_non_null(plan_mount(p, cases[i].target));
    }
}

static void privileged_container_has_everything(void **state)
{
    struct bundle_kernel k = v1_kernel();
    struct a_container *c = a_container();

    c->host.privileged = true;
    const LaunchPlan *p = make(c, &k);
    const Recipe *r = recipe_of(p);
    assert_int_equal(STEP(p, capabilities)->effective, k.capabilities);
    assert_null(STEP(p, seccomp));
    assert_false(recipe_mount(r, "/sys")->attributes & MOUNT_ATTR_RDONLY);
    for (size_t i = 0; i < r->n_prepare; i++) {
        assert_null(r->prepare[i]->mask);
        assert_null(r->prepare[i]->read_only);
        if (r->prepare[i]->devices)
            assert_int_equal(r->prepare[i]->devices->n_rules, 1);
    }
}

static void own_lists_of_paths_replace_the_usual_ones(void **state)
{
    struct bundle_kernel k = v1_kernel();
    struct a_container *c = a_container();
    char *masked[] = {(char *)"/proc/uptime"};

    c->host.masked_paths_set = c->host.read_only_paths_set = true;
    const LaunchPlan *p = make(c, &k);
    assert_null(STEP(p, mask));
    const Recipe *r = recipe_of(p);
    for (size_t i = 0; i < r->n_prepare; i++)
        assert_null(r->prepare[i]->mask);
    c->host.masked_paths = masked;
    c->host.n_masked_paths = 1;
    assert_string_equal(STEP(make(c, &k), mask)->paths[0], "/proc/uptime");
}

/* --- mounts ---------------------------------------------------------------------------------------- */

static void mounts_come_outer_first_with_their_ways(void **state)
{
    struct bundle_kernel k = v1_kernel();
    struct a_container *c = a_container();
    MountPoint *inner = add_point(c, MOUNT_TYPE__BIND, "/a/b/c");
    MountPoint *outer = add_point(c, MOUNT_TYPE__VOLUME, "/a");
    Mount spec = MOUNT__INIT;

    inner->read_only = inner->has_read_only = true;
    inner->propagation = (char *)"rslave";
    outer->spec = &spec;
    spec.read_only_non_recursive = true;
    const LaunchPlan *p = make(c, &k);
    const StepMount *in = plan_mount(p, "/a/b/c"), *out = plan_mount(p, "/a");
    size_t in_at = 0, out_at = 0;
    for (size_t i = 0; i < p->n_steps; i++) {
        in_at = p->steps[i]->mount == in ? i : in_at;
        out_at = p->steps[i]->mount == out ? i : out_at;
    }
    assert_true(out_at < in_at);
    assert_int_equal(in->source_fd, 9);
    assert_int_equal(out->source_fd, 10);
    assert_true(in->attributes & MOUNT_ATTR_RDONLY);
    assert_true(in->recursive);
    assert_false(out->recursive);
    assert_string_equal(in->propagation, "slave");
    assert_string_equal(out->propagation, "private");
    assert_true(in->create_target);
}

static void engines_files_are_bound_unless_the_user_mounts_there(void **state)
{
    struct bundle_kernel k = v1_kernel();
    struct a_container *c = a_container();

    assert_int_equal(plan_mount(make(c, &k), "/etc/hosts")->source_fd, 6);
    assert_int_equal(plan_mount(make(c, &k), "/etc/resolv.conf")->source_fd, 4);
    add_point(c, MOUNT_TYPE__BIND, "/etc/hosts");
    assert_int_equal(plan_mount(make(c, &k), "/etc/hosts")->source_fd, 9);
}

static void tmpfs_takes_its_options(void **state)
{
    struct bundle_kernel k = v1_kernel();
    struct a_container *c = a_container();
    MountPoint *point = add_point(c, MOUNT_TYPE__TMPFS, "/cache");
    Mount spec = MOUNT__INIT;

    point->spec = &spec;
    spec.tmpfs_size_bytes = 1048576;
    spec.has_tmpfs_mode = true;
    spec.tmpfs_mode = 01770;
    add_pair(&c->host.tmpfs, &c->host.n_tmpfs, "/run", "rw,exec,size=64m,uid=5");
    const LaunchPlan *p = make(c, &k);
    const StepMount *run = plan_mount(p, "/run"), *cache = plan_mount(p, "/cache");
    assert_int_equal(run->attributes, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    assert_int_equal(run->n_options, 2);
    assert_string_equal(run->options[0], "size=64m");
    assert_int_equal(cache->attributes, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    assert_string_equal(cache->options[0], "size=1048576");
    assert_string_equal(cache->options[1], "mode=1770");
}

/* --- resources ------------------------------------------------------------------------------------- */

static void limits_are_written_where_each_version_keeps_them(void **state)
{
    static const struct {
        int64_t memory, swap, reservation, nano, shares, period, quota, pids;
        const char *v1_file, *v1_value, *v2_file, *v2_value;
    } cases[] = {
        {.memory = 64 << 20,
         .v1_file = "memory.limit_in_bytes",
         .v1_value = "67108864",
         .v2_file = "memory.max",
         .v2_value = "67108864"},
        {.memory = 64 << 20,
         .v1_file = "memory.memsw.limit_in_bytes",
         .v1_value = "134217728",
         .v2_file = "memory.swap.max",
         .v2_value = "67108864"},
        {.memory = 64 << 20,
         .swap = 96 << 20,
         .v1_file = "memory.memsw.limit_in_bytes",
         .v1_value = "100663296",
         .v2_file = "memory.swap.max",
         .v2_value = "33554432"},
        {.memory = 64 << 20,
         .swap = 64 << 20,
         .v1_file = "memory.memsw.limit_in_bytes",
         .v1_value = "67108864",
         .v2_file = "memory.swap.max",
         .v2_value = "0"},
        {.memory = 64 << 20,
         .swap = -1,
         .v1_file = "memory.memsw.limit_in_bytes",
         .v1_value = NULL,
         .v2_file = "memory.swap.max",
         .v2_value = NULL},
        {.reservation = 32 << 20,
         .v1_file = "memory.soft_limit_in_bytes",
         .v1_value = "33554432",
         .v2_file = "memory.low",
         .v2_value = "33554432"},
        {.nano = 500000000,
         .v1_file = "cpu.cfs_quota_us",
         .v1_value = "50000",
         .v2_file = "cpu.max",
         .v2_value = "50000 100000"},
        {.nano = 500000000,
         .v1_file = "cpu.cfs_period_us",
         .v1_value = "100000",
         .v2_file = "cpu.max",
         .v2_value = "50000 100000"},
        {.period = 50000,
         .quota = 25000,
         .v1_file = "cpu.cfs_quota_us",
         .v1_value = "25000",
         .v2_file = "cpu.max",
         .v2_value = "25000 50000"},
        {.period = 50000,
         .v1_file = "cpu.cfs_period_us",
         .v1_value = "50000",
         .v2_file = "cpu.max",
         .v2_value = "max 50000"},
        {.shares = 1024, .v1_file = "cpu.shares", .v1_value = "1024", .v2_file = "cpu.weight", .v2_value = "39"},
        {.shares = 262144,
         .v1_file = "cpu.shares",
         .v1_value = "262144",
         .v2_file = "cpu.weight",
         .v2_value = "10000"},
        {.shares = 2, .v1_file = "cpu.shares", .v1_value = "2", .v2_file = "cpu.weight", .v2_value = "1"},
        {.pids = 100, .v1_file = "pids.max", .v1_value = "100", .v2_file = "pids.max", .v2_value = "100"},
        {.pids = -1, .v1_file = "pids.max", .v1_value = NULL, .v2_file = "pids.max", .v2_value = NULL},
    };
    struct bundle_kernel v1 = v1_kernel(), v2 = v2_kernel();

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct a_container *c = a_container();

        c->host.memory_bytes = cases[i].memory;
        c->host.memory_swap_bytes = cases[i].swap;
        c->host.memory_reservation_bytes = cases[i].reservation;
        c->host.nano_cpus = cases[i].nano;
        c->host.cpu_shares = cases[i].shares;
        c->host.cpu_period_us = cases[i].period;
        c->host.cpu_quota_us = cases[i].quota;
        c->host.pids_limit = cases[i].pids;
        const char *old = cgroup_value(make(c, &v1), cases[i].v1_file);
        const char *new = cgroup_value(make(c, &v2), cases[i].v2_file);
        assert_int_equal(!old, !cases[i].v1_value);
        assert_int_equal(!new, !cases[i].v2_value);
        if (old)
            assert_string_equal(old, cases[i].v1_value);
        if (new)
            assert_string_equal(new, cases[i].v2_value);
    }
}

static void limit_without_controller_is_left_out(void **state)
{
    struct bundle_kernel k = v1_kernel();
    struct a_container *c = a_container();
    char **warnings;

    k.cgroup_there[BUNDLE_MEMORY] = false;
    c->host.memory_bytes = 64 << 20;
    assert_null(cgroup_value(make(c, &k), "memory.limit_in_bytes"));
    assert_int_equal(bundle_check(&c->config, &k, &arena, &warnings, NULL), 0);
    assert_string_equal(warnings[0], "Your kernel does not support memory limit capabilities or the cgroup is not "
                                     "mounted. Limitation discarded.");
    assert_null(warnings[1]);
}

static void ulimits_become_limits(void **state)
{
    struct bundle_kernel k = v1_kernel();
    struct a_container *c = a_container();
    Ulimit nofile = ULIMIT__INIT;
    Ulimit *list[] = {&nofile};

    nofile.name = (char *)"nofile";
    nofile.soft = 1024;
    nofile.hard = -1;
    c->host.ulimits = list;
    c->host.n_ulimits = 1;
    const StepRlimit *s = STEP(make(c, &k), rlimit);
    assert_int_equal(s->resource, RLIMIT_NOFILE);
    assert_int_equal(s->soft, 1024);
    assert_true(s->hard == UINT64_MAX);
}

static void capabilities_follow_dockers_rules(void **state)
{
    static char all[] = "ALL", chown[] = "CHOWN", net_admin[] = "cap_net_admin", kill[] = "Kill";
    static const struct {
        char *add, *drop;
        bool privileged;
        uint64_t expected;
    } cases[] = {
        {NULL, NULL, false, DEFAULT_CAPS},
        {net_admin, NULL, false, DEFAULT_CAPS | 1 << 12},
        {NULL, chown, false, DEFAULT_CAPS & ~1ull},
        {NULL, all, false, 0},
        {kill, all, false, 1 << 5},
        {all, NULL, false, 0x1ffffffffffull},
        {all, chown, false, 0x1fffffffffeull},
        {NULL, chown, true, 0x1ffffffffffull},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        HostConfig h = HOST_CONFIG__INIT;
        uint64_t mask = 1;

        h.capability_add = (char **)&cases[i].add;
        h.n_capability_add = cases[i].add != NULL;
        h.capability_drop = (char **)&cases[i].drop;
        h.n_capability_drop = cases[i].drop != NULL;
        h.privileged = cases[i].privileged;
        assert_int_equal(bundle_capabilities(&h, 0x1ffffffffffull, &mask, NULL), 0);
        assert_true(mask == cases[i].expected);
    }
}

static void security_options_are_understood(void **state)
{
    static const struct {
        const char *option;
        bool no_new_privileges, seccomp;
    } cases[] = {{"no-new-privileges", true, true},      {"no-new-privileges=true", true, true},
                 {"no-new-privileges:true", true, true}, {"no-new-privileges=false", false, true},
                 {"seccomp=unconfined", false, false},   {"seccomp={\"defaultAction\":\"x\"}", false, true},
                 {"apparmor=unconfined", false, true},   {"label=disable", false, true}};
    struct bundle_kernel k = v1_kernel();

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct a_container *c = a_container();
        char *option = (char *)cases[i].option;

        c->host.security_options = &option;
        c->host.n_security_options = 1;
        const LaunchPlan *p = make(c, &k);
        assert_int_equal(STEP(p, capabilities)->no_new_privileges, cases[i].no_new_privileges);
        assert_int_equal(STEP(p, seccomp) != NULL, cases[i].seccomp);
    }
}

static void log_options_reach_the_logger(void **state)
{
    struct bundle_kernel k = v1_kernel();
    struct a_container *c = a_container();

    const LaunchPlan *p = make(c, &k);
    assert_int_equal(p->log->directory_fd, 8);
    assert_int_equal(p->log->size_max, 0);
    assert_int_equal(p->log->files_max, 1);
    add_pair(&c->host.log_options, &c->host.n_log_options, "max-size", "10m");
    add_pair(&c->host.log_options, &c->host.n_log_options, "max-file", "3");
    p = make(c, &k);
    assert_int_equal(p->log->size_max, 10 << 20);
    assert_int_equal(p->log->files_max, 3);
    c->host.log_driver = (char *)"none";
    assert_true(make(c, &k)->log->discard);
}

/* --- refusals -------------------------------------------------------------------------------------- */

struct refusal {
    const char *text;
    void (*set)(HostConfig *h, ContainerConfig *c);
    int code; /* 0: ERR_INVALID */
};

static void add_text(char ***list, size_t *count, const char *text)
{
    *list = arena_append(&arena, *list, *count, sizeof(**list));
    (*list)[(*count)++] = (char *)text;
}

static void add_ulimit(HostConfig *h, const char *name, int64_t soft, int64_t hard)
{
    Ulimit *u = ARENA_NEW(&arena, Ulimit);

    ulimit__init(u);
    u->name = (char *)name;
    u->soft = soft;
    u->hard = hard;
    h->ulimits = arena_append(&arena, h->ulimits, h->n_ulimits, sizeof(u));
    h->ulimits[h->n_ulimits++] = u;
}

#define SETTER(name, body)                              \
    static void name(HostConfig *h, ContainerConfig *c) \
    {                                                   \
        (void)h;                                        \
        (void)c;                                        \
        body;                                           \
    }

SETTER(little_memory, h->memory_bytes = 5 << 20)
SETTER(negative_memory, h->memory_bytes = -1)
SETTER(swap_alone, h->memory_swap_bytes = 64 << 20)
SETTER(swap_below_memory, (h->memory_bytes = 64 << 20, h->memory_swap_bytes = 32 << 20))
SETTER(swappiness_101, (h->has_memory_swappiness = true, h->memory_swappiness = 101))
SETTER(little_reservation, h->memory_reservation_bytes = 1 << 20)
SETTER(reservation_above, (h->memory_bytes = 64 << 20, h->memory_reservation_bytes = 65 << 20))
SETTER(nano_and_period, (h->nano_cpus = 1000000000, h->cpu_period_us = 100000))
SETTER(nano_and_quota, (h->nano_cpus = 1000000000, h->cpu_quota_us = 100000))
SETTER(three_processors, h->nano_cpus = 3000000000)
SETTER(negative_processors, h->nano_cpus = -1)
SETTER(negative_shares, h->cpu_shares = -5)
SETTER(short_period, h->cpu_period_us = 999)
SETTER(long_period, h->cpu_period_us = 1000001)
SETTER(short_quota, h->cpu_quota_us = 999)
SETTER(cpuset_text, h->cpuset_cpus = (char *)"0-x")
SETTER(cpuset_backwards, h->cpuset_cpus = (char *)"1-0")
SETTER(cpuset_beyond, h->cpuset_cpus = (char *)"0,2")
SETTER(mems_text, h->cpuset_mems = (char *)"a")
SETTER(blkio_9, h->blkio_weight = 9)
SETTER(blkio_1001, h->blkio_weight = 1001)
SETTER(oom_1001, (h->has_oom_score_adj = true, h->oom_score_adj = 1001))
SETTER(oom_minus_1001, (h->has_oom_score_adj = true, h->oom_score_adj = -1001))
SETTER(negative_shm, h->shm_size_bytes = -1)
SETTER(ulimit_unknown, add_ulimit(h, "files", 1, 2))
SETTER(ulimit_soft_above, add_ulimit(h, "nofile", 20, 10))
SETTER(ulimit_soft_unlimited, add_ulimit(h, "nofile", -1, 10))
SETTER(cap_add_unknown, add_text(&h->capability_add, &h->n_capability_add, "FLY"))
SETTER(cap_drop_unknown, add_text(&h->capability_drop, &h->n_capability_drop, "CAP_FLY"))
SETTER(security_unknown, add_text(&h->security_options, &h->n_security_options, "magic=on"))
SETTER(security_bare, add_text(&h->security_options, &h->n_security_options, "seccomp"))
SETTER(security_nnp, add_text(&h->security_options, &h->n_security_options, "no-new-privileges=maybe"))
SETTER(log_unknown, h->log_driver = (char *)"syslog")
SETTER(log_option, add_pair(&h->log_options, &h->n_log_options, "max-sizes", "1"))
SETTER(log_size, add_pair(&h->log_options, &h->n_log_options, "max-size", "ten"))
SETTER(log_files, add_pair(&h->log_options, &h->n_log_options, "max-file", "0"))
SETTER(sysctl_global, add_pair(&h->sysctls, &h->n_sysctls, "vm.swappiness", "1"))
SETTER(sysctl_path, add_pair(&h->sysctls, &h->n_sysctls, "net.ipv4/../../vm", "1"))
SETTER(sysctl_net_host,
       (h->network_mode = (char *)"host", add_pair(&h->sysctls, &h->n_sysctls, "net.core.somaxconn", "1")))
SETTER(sysctl_ipc_host, (h->ipc_mode = (char *)"host", add_pair(&h->sysctls, &h->n_sysctls, "kernel.shmmax", "1")))
SETTER(tmpfs_option, add_pair(&h->tmpfs, &h->n_tmpfs, "/run", "size=1m,fast"))
SETTER(tmpfs_relative, add_pair(&h->tmpfs, &h->n_tmpfs, "run", ""))
SETTER(tmpfs_root, add_pair(&h->tmpfs, &h->n_tmpfs, "/", ""))
SETTER(tmpfs_proc, add_pair(&h->tmpfs, &h->n_tmpfs, "/proc/sys", ""))
SETTER(pid_mode, h->pid_mode = (char *)"shared")
SETTER(pid_container, h->pid_mode = (char *)"container:x")
SETTER(net_container, h->network_mode = (char *)"container:x")
SETTER(user_mode, h->userns_mode = (char *)"keep-id")
SETTER(runtime, h->runtime = (char *)"kata")
SETTER(rule, add_text(&h->device_cgroup_rules, &h->n_device_cgroup_rules, "c 1:3"))
SETTER(rule_number, add_text(&h->device_cgroup_rules, &h->n_device_cgroup_rules, "c 99999:3 r"))
SETTER(stop_signal, c->stop_signal = (char *)"SIGFOO")
SETTER(directory, c->working_dir = (char *)"data")

static const struct refusal refusals[] = {
    {"Minimum memory limit allowed is 6MB (HostConfig.Memory: 5242880)", little_memory, 0},
    {"Minimum memory limit allowed is 6MB (HostConfig.Memory: -1)", negative_memory, 0},
    {"You should always set the Memory limit when using Memoryswap limit, see usage (HostConfig.MemorySwap: "
     "67108864)",
     swap_alone, 0},
    {"Minimum memoryswap limit should be larger than memory limit, see usage (HostConfig.MemorySwap: 33554432, "
     "Memory: 67108864)",
     swap_below_memory, 0},
    {"Invalid value: 101, valid memory swappiness range is 0-100", swappiness_101, 0},
    {"Minimum memory reservation allowed is 6MB (HostConfig.MemoryReservation: 1048576)", little_reservation, 0},
    {"Minimum memory limit can not be less than memory reservation limit, see usage (HostConfig.Memory: 67108864, "
     "MemoryReservation: 68157440)",
     reservation_above, 0},
    {"Conflicting options: Nano CPUs and CPU Period cannot both be set (HostConfig.NanoCpus: 1000000000, "
     "CpuPeriod: 100000)",
     nano_and_period, 0},
    {"Conflicting options: Nano CPUs and CPU Quota cannot both be set (HostConfig.NanoCpus: 1000000000, CpuQuota: "
     "100000)",
     nano_and_quota, 0},
    {"range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available (HostConfig.NanoCpus: 3000000000)",
     three_processors, 0},
    {"range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available (HostConfig.NanoCpus: -1)",
     negative_processors, 0},
    {"invalid CPU shares (-5): value must be a positive integer", negative_shares, 0},
    {"CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000) (HostConfig.CpuPeriod: "
     "999)",
     short_period, 0},
    {"CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000) (HostConfig.CpuPeriod: "
     "1000001)",
     long_period, 0},
    {"CPU cfs quota can not be less than 1ms (i.e. 1000) (HostConfig.CpuQuota: 999)", short_quota, 0},
    {"Invalid value 0-x for cpuset cpus", cpuset_text, 0},
    {"Invalid value 1-0 for cpuset cpus", cpuset_backwards, 0},
    {"Requested CPUs are not available - requested 0,2, available: 0-1", cpuset_beyond, 0},
    {"Invalid value a for cpuset mems", mems_text, 0},
    {"Range of blkio weight is from 10 to 1000 (HostConfig.BlkioWeight: 9)", blkio_9, 0},
    {"Range of blkio weight is from 10 to 1000 (HostConfig.BlkioWeight: 1001)", blkio_1001, 0},
    {"Invalid value 1001, range for oom score adj is [-1000, 1000]", oom_1001, 0},
    {"Invalid value -1001, range for oom score adj is [-1000, 1000]", oom_minus_1001, 0},
    {"SHM size can not be less than 0 (HostConfig.ShmSize: -1)", negative_shm, 0},
    {"invalid ulimit type: files", ulimit_unknown, 0},
    {"ulimit soft limit must be less than or equal to hard limit: 20 > 10", ulimit_soft_above, 0},
    {"ulimit soft limit must be less than or equal to hard limit: -1 > 10", ulimit_soft_unlimited, 0},
    {"invalid CapAdd: unknown capability: \"FLY\"", cap_add_unknown, 0},
    {"invalid CapDrop: unknown capability: \"CAP_FLY\"", cap_drop_unknown, 0},
    {"invalid --security-opt 2: \"magic=on\"", security_unknown, 0},
    {"invalid --security-opt 1: \"seccomp\"", security_bare, 0},
    {"invalid --security-opt 2: \"no-new-privileges=maybe\"", security_nnp, 0},
    {"logger: no log driver named 'syslog' is registered", log_unknown, 0},
    {"unknown log opt 'max-sizes' for json-file log driver", log_option, 0},
    {"invalid value for max-size: \"ten\"", log_size, 0},
    {"max-file must be a number from 1 to 10000: \"0\"", log_files, 0},
    {"sysctl \"vm.swappiness\" is not in a separate kernel namespace", sysctl_global, 0},
    {"invalid sysctl name \"net.ipv4/../../vm\"", sysctl_path, 0},
    {"sysctl \"net.core.somaxconn\" not allowed in host network namespace", sysctl_net_host, 0},
    {"sysctl \"kernel.shmmax\" not allowed in host ipc namespace", sysctl_ipc_host, 0},
    {"invalid tmpfs option [\"fast\"] for /run", tmpfs_option, 0},
    {"invalid mount path: 'run' mount path must be absolute", tmpfs_relative, 0},
    {"invalid mount target: destination can't be '/'", tmpfs_root, 0},
    {"invalid mount target \"/proc/sys\": it cannot be mounted because it is inside /proc", tmpfs_proc, 0},
    {"invalid PID mode: shared", pid_mode, 0},
    {"PID mode \"container:x\" is not offered by this version", pid_container, ERR_UNSUPPORTED},
    {"network mode \"container:x\" is not offered by this version", net_container, ERR_UNSUPPORTED},
    {"invalid user namespace mode: keep-id", user_mode, 0},
    {"unknown or invalid runtime name: kata", runtime, 0},
    {"invalid device cgroup format 'c 1:3'", rule, 0},
    {"invalid device cgroup format 'c 99999:3 r'", rule_number, 0},
    {"invalid signal: SIGFOO", stop_signal, 0},
    {"the working directory 'data' is invalid, it needs to be an absolute path", directory, 0},
};

static void check_refuses_in_dockers_words(void **state)
{
    struct bundle_kernel k = v1_kernel();

    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        struct a_container *c = a_container();
        char **warnings;
        struct err e = {0};

        refusals[i].set(&c->host, &c->config);
        assert_int_equal(bundle_check(&c->config, &k, &arena, &warnings, &e),
                         refusals[i].code ? refusals[i].code : ERR_INVALID);
        assert_string_equal(e.text, refusals[i].text);
    }
}

static void plan_is_refused_for_the_same_reasons(void **state)
{
    struct bundle_kernel k = v1_kernel();

    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        struct a_container *c = a_container();
        LaunchPlan *plan = NULL;
        struct err e = {0};

        refusals[i].set(&c->host, &c->config);
        if (refusals[i].set == stop_signal)
            continue; /* nothing of a plan */
        c->record.working_dir = c->config.working_dir;
        assert_true(try_make(c, &k, &plan, &e) < 0);
        assert_string_equal(e.text, refusals[i].text);
        assert_null(plan);
    }
}

static void what_nobody_has_cannot_be_added(void **state)
{
    HostConfig h = HOST_CONFIG__INIT;
    uint64_t mask;
    struct err e;

    add_text(&h.capability_add, &h.n_capability_add, "SYS_RESOURCE");
    assert_int_equal(bundle_capabilities(&h, 0x1fffeffffffull, &mask, &e), ERR_INVALID);
    assert_string_equal(e.text, "invalid CapAdd: capability not supported by your kernel or not available in the "
                                "current environment: \"SYS_RESOURCE\"");
    h.capability_drop = h.capability_add;
    h.n_capability_drop = 1;
    h.n_capability_add = 0;
    assert_int_equal(bundle_capabilities(&h, 0x1fffeffffffull, &mask, &e), 0);
}

static void plain_container_passes_without_a_warning(void **state)
{
    struct bundle_kernel k = v1_kernel();
    char **warnings = NULL;

    assert_int_equal(bundle_check(&a_container()->config, &k, &arena, &warnings, NULL), 0);
    assert_non_null(warnings);
    assert_null(warnings[0]);
}

static void what_has_no_effect_is_said(void **state)
{
    struct bundle_kernel v1 = v1_kernel(), v2 = v2_kernel();
    struct a_container *c = a_container();
    char **warnings;

    c->host.oom_kill_disable = true;
    assert_int_equal(bundle_check(&c->config, &v1, &arena, &warnings, NULL), 0);
    assert_non_null(strstr(warnings[0], "OOM killer is disabled"));
    assert_int_equal(bundle_check(&c->config, &v2, &arena, &warnings, NULL), 0);
    assert_string_equal(warnings[0], "OomKillDisable has no effect with cgroup v2.");
}

static void devices_of_the_host_are_made_and_allowed(void **state)
{
    static const struct bundle_device fuse = {
        .path = "/dev/fuse", .major = 10, .minor = 229, .mode = 0666, .access = "rw"};
    struct bundle_kernel k = v1_kernel();
    struct a_container *c = a_container();
    static unsigned none[1];
    const struct bundle_in in = {.record = &c->record,
                                 .kernel = &k,
                                 .layers = 1,
                                 .upper = 1,
                                 .work = 2,
                                 .mounts = none,
                                 .resolv_conf = UINT_MAX,
                                 .hostname = UINT_MAX,
                                 .hosts = UINT_MAX,
                                 .seccomp = UINT_MAX,
                                 .log_directory = UINT_MAX,
                                 .id = c->record.id,
                                 .devices = &fuse,
                                 .device_count = 1};
    LaunchPlan *plan;

    add_text(&c->host.device_cgroup_rules, &c->host.n_device_cgroup_rules, "a *:* r");
    assert_int_equal(bundle_make(&in, &arena, &plan, NULL), 0);
    assert_string_equal(STEP(plan, device)->path, "/dev/fuse");
    const StepDevices *s = STEP(plan, devices);
    const DeviceRule *own = s->rules[s->n_rules - 2], *any = s->rules[s->n_rules - 1];
    assert_true(own->allow && own->major == 10 && own->minor == 229);
    assert_string_equal(own->access, "rw");
    assert_true(any->allow && !any->has_major && !any->has_minor && !any->type);
}

static void hostname_is_bounded_and_the_hosts_own_where_that_is_shared(void **state)
{
    struct bundle_kernel k = v1_kernel();
    struct a_container *c = a_container();
    static char name[80];
    LaunchPlan *plan;
    struct err e;

    c->config.hostname = (char *)"web";
    c->host.uts_mode = (char *)"host";
    assert_null(STEP(make(c, &k), hostname)); /* noted at create; nothing is set */
    memset(name, 'x', 65);
    c->host.uts_mode = NULL;
    c->config.hostname = name;
    assert_int_equal(try_make(c, &k, &plan, &e), ERR_INVALID);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(plain_container_has_the_recipe_that_is_kept_warm),
        TEST(wishes_of_a_start_do_not_change_the_recipe),
        TEST(sandbox_has_dockers_defaults),
        TEST(groups_are_shown_as_the_machine_has_them),
        TEST(program_gets_its_environment),
        TEST(limits_come_before_the_root_and_the_program_last),
        TEST(hosts_namespaces_are_used_when_asked_for),
        TEST(users_mount_replaces_a_default_place),
        TEST(privileged_container_has_everything),
        TEST(own_lists_of_paths_replace_the_usual_ones),
        TEST(mounts_come_outer_first_with_their_ways),
        TEST(engines_files_are_bound_unless_the_user_mounts_there),
        TEST(tmpfs_takes_its_options),
        TEST(limits_are_written_where_each_version_keeps_them),
        TEST(limit_without_controller_is_left_out),
        TEST(ulimits_become_limits),
        TEST(capabilities_follow_dockers_rules),
        TEST(security_options_are_understood),
        TEST(log_options_reach_the_logger),
        TEST(check_refuses_in_dockers_words),
        TEST(plan_is_refused_for_the_same_reasons),
        TEST(what_nobody_has_cannot_be_added),
        TEST(plain_container_passes_without_a_warning),
        TEST(what_has_no_effect_is_said),
        TEST(devices_of_the_host_are_made_and_allowed),
        TEST(hostname_is_bounded_and_the_hosts_own_where_that_is_shared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
