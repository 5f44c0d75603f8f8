/* What a sandbox is before any container is known: namespaces, /proc, /sys, /dev, masks, device rules (bundle.h,
 * bundle_recipe; reference/engine-surface.md section 4).
 *
 * Containers without special wishes all have one recipe, byte for byte, so the keeper can have sandboxes of it
 * ready. What makes a recipe of its own is what cannot be changed afterwards: namespaces shared with the host,
 * privileged, a different /dev/shm, default places that the user mounts over, masks switched off. All else is the
 * plan's. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "engine/container/bundle_part.h"
#include "proto/base/mem.h"

#define HIDDEN (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

static const char *const masked[] = {
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
};
static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};

static const char *const controller_names[BUNDLE_CONTROLLERS] = {
    [BUNDLE_CPU] = "cpu",   [BUNDLE_CPUACCT] = "cpuacct", [BUNDLE_CPUSET] = "cpuset",   [BUNDLE_MEMORY] = "memory",
    [BUNDLE_PIDS] = "pids", [BUNDLE_DEVICES] = "devices", [BUNDLE_FREEZER] = "freezer", [BUNDLE_BLKIO] = "blkio",
};

/* --- steps ----------------------------------------------------------------------------------------- */

Step *step_add(struct step_list *l)
{
    Step *s = ARENA_NEW(l->arena, Step);

    step__init(s);
    l->steps = arena_append(l->arena, l->steps, l->count, sizeof(Step *));
    l->steps[l->count++] = s;
    return s;
}

StepMount *step_mount(struct step_list *l, const char *target, const char *fstype, uint64_t attributes)
{
    StepMount *m = ARENA_NEW(l->arena, StepMount);

    step_mount__init(m);
    m->target = (char *)target;
    m->fstype = (char *)fstype;
    m->has_attributes = true;
    m->attributes = attributes;
    step_add(l)->mount = m;
    return m;
}

void step_option(struct step_list *l, StepMount *m, const char *option)
{
    m->options = arena_append(l->arena, m->options, m->n_options, sizeof(char *));
    m->options[m->n_options++] = (char *)option;
}

void step_cgroup(struct step_list *l, enum bundle_controller c, const char *file, bool optional, const char *fmt,
                 ...)
{
    StepCgroup *s = ARENA_NEW(l->arena, StepCgroup);
    char value[256];
    va_list args;

    step_cgroup__init(s);
    va_start(args, fmt);
    (void)vsnprintf(value, sizeof(value), fmt, args);
    va_end(args);
    s->controller = (char *)controller_names[c];
    s->file = (char *)file;
    s->value = arena_strdup(l->arena, value);
    s->has_optional = s->optional = optional;
    step_add(l)->cgroup = s;
}

void step_sysctl(struct step_list *l, const char *path, const char *value, bool optional)
{
    StepSysctl *s = ARENA_NEW(l->arena, StepSysctl);

    step_sysctl__init(s);
    s->path = (char *)path;
    s->value = (char *)value;
    s->has_optional = s->optional = optional;
    step_add(l)->sysctl = s;
}

void step_device(struct step_list *l, const struct bundle_device *d)
{
    StepDevice *s = ARENA_NEW(l->arena, StepDevice);

    step_device__init(s);
    s->path = (char *)d->path;
    s->has_block = s->block = d->block;
    s->major = d->major;
    s->minor = d->minor;
    s->has_mode = s->has_uid = s->has_gid = true;
    s->mode = d->mode ? d->mode : 0666;
    s->uid = d->uid;
    s->gid = d->gid;
    step_add(l)->device = s;
}

static void step_symlink(struct step_list *l, const char *path, const char *target)
{
    StepSymlink *s = ARENA_NEW(l->arena, StepSymlink);

    step_symlink__init(s);
    s->path = (char *)path;
    s->target = (char *)target;
    step_add(l)->symlink = s;
}

void step_directory(struct step_list *l, const char *path)
{
    StepDirectory *s = ARENA_NEW(l->arena, StepDirectory);

    step_directory__init(s);
    s->path = (char *)path;
    step_add(l)->directory = s;
}

void step_mask(struct step_list *l, char **paths, size_t count)
{
    StepMask *s = ARENA_NEW(l->arena, StepMask);

    step_mask__init(s);
    s->paths = paths;
    s->n_paths = count;
    step_add(l)->mask = s;
}

void step_read_only(struct step_list *l, char **paths, size_t count)
{
    StepReadOnly *s = ARENA_NEW(l->arena, StepReadOnly);

    step_read_only__init(s);
    s->paths = paths;
    s->n_paths = count;
    step_add(l)->read_only = s;
}

/* --- wishes ---------------------------------------------------------------------------------------- */

struct wishes { /* what of a configuration makes the recipe */
    bool host_net, host_pid, host_ipc, host_uts, host_cgroup;
    bool no_shm, privileged, no_masks, no_read_only;
    int64_t shm_bytes;
    const char *cgroup_parent;
    bool taken_dev, taken_pts, taken_mqueue, taken_shm, taken_sys, taken_cgroup; /* the user mounts there */
};

static void take_target(struct wishes *w, const char *target)
{
    const struct {
        const char *path;
        bool *taken;
    } places[] = {{"/dev", &w->taken_dev},     {"/dev/pts", &w->taken_pts}, {"/dev/mqueue", &w->taken_mqueue},
                  {"/dev/shm", &w->taken_shm}, {"/sys", &w->taken_sys},     {"/sys/fs/cgroup", &w->taken_cgroup}};

    for (size_t i = 0; i < ARRAY_SIZE(places); i++)
        if (strcmp(places[i].path, target) == 0)
            *places[i].taken = true;
}

static struct wishes wishes_of(const ContainerRecord *record)
{
    const HostConfig *h = record ? record->config->host : NULL;
    struct wishes w = {.shm_bytes = 64 << 20};

    for (size_t i = 0; record && i < record->n_mounts; i++)
        take_target(&w, record->mounts[i]->target);
    for (size_t i = 0; h && i < h->n_tmpfs; i++)
        take_target(&w, h->tmpfs[i]->key);
    if (!h)
        return w;
    w.host_net = options_is(h->network_mode, "host");
    w.host_pid = options_is(h->pid_mode, "host");
    w.host_ipc = options_is(h->ipc_mode, "host");
    w.no_shm = options_is(h->ipc_mode, "none");
    w.host_uts = options_is(h->uts_mode, "host");
    w.host_cgroup = options_is(h->cgroupns_mode, "host");
    w.privileged = h->privileged;
    w.no_masks = h->privileged || h->masked_paths_set;
    w.no_read_only = h->privileged || h->read_only_paths_set;
    if (h->shm_size_bytes > 0)
        w.shm_bytes = h->shm_size_bytes;
    if (h->cgroup_parent && *h->cgroup_parent)
        w.cgroup_parent = h->cgroup_parent + (*h->cgroup_parent == '/'); /* always below our own group */
    return w;
}

/* --- the sandbox ----------------------------------------------------------------------------------- */

static void add_proc(struct step_list *l)
{
    step_mount(l, "/proc", "proc", HIDDEN);
}

static void add_nodes(struct step_list *l)
{
    static const struct bundle_device nodes[] = {
        {.path = "/dev/null", .major = 1, .minor = 3},    {.path = "/dev/zero", .major = 1, .minor = 5},
        {.path = "/dev/full", .major = 1, .minor = 7},    {.path = "/dev/random", .major = 1, .minor = 8},
        {.path = "/dev/urandom", .major = 1, .minor = 9}, {.path = "/dev/tty", .major = 5, .minor = 0},
    };
    static const struct {
        const char *path, *target;
    } links[] = {{"/dev/ptmx", "pts/ptmx"},          {"/dev/fd", "/proc/self/fd"},
                 {"/dev/stdin", "/proc/self/fd/0"},  {"/dev/stdout", "/proc/self/fd/1"},
                 {"/dev/stderr", "/proc/self/fd/2"}, {"/dev/core", "/proc/kcore"}};

    for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
        step_device(l, &nodes[i]);
    for (size_t i = 0; i < ARRAY_SIZE(links); i++)
        step_symlink(l, links[i].path, links[i].target);
}

static void add_shm(struct step_list *l, const struct wishes *w)
{
    StepMount *m;

    if (w->no_shm || w->taken_shm)
        return;
    if (w->host_ipc) {
        m = step_mount(l, "/dev/shm", NULL, HIDDEN);
        m->host_path = (char *)"/dev/shm";
        return;
    }
    m = step_mount(l, "/dev/shm", "tmpfs", HIDDEN);
    step_option(l, m, "mode=1777");
    step_option(l, m, arena_printf(l->arena, "size=%lldk", (long long)((w->shm_bytes + 1023) / 1024)));
}

static void add_dev(struct step_list *l, const struct wishes *w, const struct bundle_kernel *kernel)
{
    StepMount *m;

    if (w->taken_dev)
        return;
    m = step_mount(l, "/dev", "tmpfs", MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME);
    step_option(l, m, "mode=755");
    step_option(l, m, "size=65536k");
    add_nodes(l);
    if (!w->taken_pts) {
        m = step_mount(l, "/dev/pts", "devpts", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
        step_option(l, m, "newinstance");
        step_option(l, m, "ptmxmode=0666");
        step_option(l, m, "mode=0620");
        step_option(l, m, "gid=5");
    }
    if (!w->taken_mqueue && kernel->mqueue) {
        m = step_mount(l, "/dev/mqueue", "mqueue", HIDDEN); /* shows the queues of the namespace one is in */
        m->has_optional = m->optional = true;
    }
    add_shm(l, w);
}

static StepMount *add_group(struct step_list *l, const char *target, enum bundle_controller c, bool writable)
{
    StepMount *m = step_mount(l, target, NULL, HIDDEN | (writable ? 0 : MOUNT_ATTR_RDONLY));

    m->cgroup = (char *)controller_names[c];
    return m;
}

/* One directory per mount of version 1, named by its controllers ("cpu,cpuacct") and linked by each of them. */
static void add_groups_v1(struct step_list *l, const struct wishes *w, const struct bundle_kernel *kernel)
{
    StepMount *top = step_mount(l, "/sys/fs/cgroup", "tmpfs", HIDDEN);
    char **paths = arena_array(l->arena, 1, sizeof(char *));

    step_option(l, top, "mode=755");
    for (unsigned c = 0; c < BUNDLE_CONTROLLERS; c++) {
        char *name = arena_strdup(l->arena, controller_names[c]);
        bool first = kernel->cgroup_there[c];
        unsigned together = 1;

        for (unsigned other = 0; first && other < BUNDLE_CONTROLLERS; other++) {
            if (other == c || !kernel->cgroup_there[other] ||
                kernel->cgroup_mount[other] != kernel->cgroup_mount[c])
                continue;
            first = other > c;
            name = arena_printf(l->arena, "%s,%s", name, controller_names[other]);
            together++;
        }
        if (!first)
            continue;
        if (kernel->cgroup_v2[c])
            name = (char *)"unified";
        (void)add_group(l, arena_printf(l->arena, "/sys/fs/cgroup/%s", name), (enum bundle_controller)c,
                        w->privileged);
        for (unsigned other = c; !kernel->cgroup_v2[c] && together > 1 && other < BUNDLE_CONTROLLERS; other++)
            if (kernel->cgroup_there[other] && kernel->cgroup_mount[other] == kernel->cgroup_mount[c])
                step_symlink(l, arena_printf(l->arena, "/sys/fs/cgroup/%s", controller_names[other]), name);
    }
    if (w->privileged)
        return;
    paths[0] = (char *)"/sys/fs/cgroup";
    step_read_only(l, paths, 1);
}

static void add_sys(struct step_list *l, const struct wishes *w, const struct bundle_kernel *kernel)
{
    bool any = false, all_v2 = true;

    if (w->taken_sys)
        return;
    step_mount(l, "/sys", "sysfs", HIDDEN | (w->privileged ? 0 : MOUNT_ATTR_RDONLY));
    if (w->taken_cgroup)
        return;
    for (unsigned c = 0; c < BUNDLE_CONTROLLERS; c++) {
        any |= kernel->cgroup_there[c];
        all_v2 &= !kernel->cgroup_there[c] || kernel->cgroup_v2[c];
    }
    if (any && all_v2) {
        for (unsigned c = 0; c < BUNDLE_CONTROLLERS; c++)
            if (kernel->cgroup_there[c]) {
                (void)add_group(l, "/sys/fs/cgroup", (enum bundle_controller)c, w->privileged);
                return;
            }
    }
    if (any)
        add_groups_v1(l, w, kernel);
}

static void add_masks(struct step_list *l, const struct wishes *w, const struct bundle_kernel *kernel)
{
    size_t most = ARRAY_SIZE(masked) + kernel->processors;
    char **paths = arena_array(l->arena, most, sizeof(char *));
    size_t count = 0;

    for (size_t i = 0; i < ARRAY_SIZE(masked); i++)
        if (!w->taken_sys || strncmp(masked[i], "/sys", 4) != 0)
            paths[count++] = (char *)masked[i];
    for (unsigned i = 0; !w->taken_sys && i < kernel->processors; i++)
        paths[count++] = arena_printf(l->arena, "/sys/devices/system/cpu/cpu%u/thermal_throttle", i);
    step_mask(l, paths, count);
}

static void add_rule(struct arena *a, StepDevices *s, bool allow, const char *type, int major, int minor,
                     const char *access)
{
    DeviceRule *r = ARENA_NEW(a, DeviceRule);

    device_rule__init(r);
    r->allow = allow;
    r->type = (char *)type;
    r->has_major = major >= 0;
    r->major = major >= 0 ? (uint32_t)major : 0;
    r->has_minor = minor >= 0;
    r->minor = minor >= 0 ? (uint32_t)minor : 0;
    r->access = (char *)access;
    s->rules = arena_append(a, s->rules, s->n_rules, sizeof(DeviceRule *));
    s->rules[s->n_rules++] = r;
}

void bundle_default_devices(struct arena *a, StepDevices *s)
{
    static const int nodes[][2] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {136, -1}};

    add_rule(a, s, true, "c", -1, -1, "m");
    add_rule(a, s, true, "b", -1, -1, "m");
    for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
        add_rule(a, s, true, "c", nodes[i][0], nodes[i][1], "rwm");
    add_rule(a, s, false, "c", 10, 229, "rwm"); /* fuse */
}

void bundle_add_device(struct arena *a, StepDevices *s, const struct bundle_device *d)
{
    add_rule(a, s, true, d->block ? "b" : "c", (int)d->major, (int)d->minor, d->access);
}

static void add_devices(struct step_list *l, const struct wishes *w, const struct bundle_kernel *kernel)
{
    StepDevices *s = ARENA_NEW(l->arena, StepDevices);

    if (!kernel->cgroup_there[BUNDLE_DEVICES])
        return;
    step_devices__init(s);
    if (w->privileged)
        add_rule(l->arena, s, true, NULL, -1, -1, "rwm");
    else
        bundle_default_devices(l->arena, s);
    step_add(l)->devices = s;
}

static Recipe *make_recipe(const struct wishes *w, const struct bundle_kernel *kernel, struct arena *a)
{
    Recipe *r = ARENA_NEW(a, Recipe);
    Namespaces *n = ARENA_NEW(a, Namespaces);
    struct step_list l = {.arena = a};

    recipe__init(r);
    namespaces__init(n);
    n->has_net = n->has_pid = n->has_ipc = n->has_uts = n->has_cgroup = true;
    n->net = !w->host_net;
    n->pid = !w->host_pid;
    n->ipc = !w->host_ipc;
    n->uts = !w->host_uts;
    n->cgroup = !w->host_cgroup;
    r->namespaces = n;
    r->has_cgroups = r->cgroups = true;
    r->cgroup_parent = (char *)w->cgroup_parent;
    add_devices(&l, w, kernel);
    add_proc(&l);
    add_dev(&l, w, kernel);
    add_sys(&l, w, kernel);
    if (n->net) { /* a quirk users rely on: any user may bind port 80 and ping */
        step_sysctl(&l, "net/ipv4/ping_group_range", "0 2147483647", true);
        step_sysctl(&l, "net/ipv4/ip_unprivileged_port_start", "0", true);
    }
    if (!w->no_masks)
        add_masks(&l, w, kernel);
    if (!w->no_read_only)
        step_read_only(&l, (char **)read_only, ARRAY_SIZE(read_only));
    r->prepare = l.steps;
    r->n_prepare = l.count;
    return r;
}

Recipe *bundle_default_recipe(const struct bundle_kernel *kernel, struct arena *a)
{
    struct wishes none = wishes_of(NULL);

    return make_recipe(&none, kernel, a);
}

int bundle_recipe(const ContainerRecord *record, const struct bundle_kernel *kernel, struct arena *a, Recipe **ret,
                  struct err *e)
{
    struct wishes w = wishes_of(record);
    int rc = options_modes(record->config->host, e);

    if (rc < 0)
        return rc;
    *ret = make_recipe(&w, kernel, a);
    return 0;
}
