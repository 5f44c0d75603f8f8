/* See plan.h.
 *
 * A plan that is executed in part is worse than none: a container without its seccomp step would run. So a field
 * this program does not know, anywhere in the plan, refuses the whole, and the text says which step of which
 * number. What follows may then trust the plan: one member per step, positions of descriptors in range, absolute
 * paths without zero bytes, bounded lists. The walk goes over protobuf's own descriptions, so a new field is
 * covered when it is added. */
#include <assert.h>
#include <string.h>

#include "engine/container/cgroup.h"
#include "engine/keeper/plan.h"
#include "proto/base/mem.h"

#define LIST_MAX   65536        /* elements of one list: argv and env may be long */
#define STRING_MAX (128u << 10) /* the kernel's limit for one argument */

/* Steps by field number: where they may stand. */
#define IN_RECIPE 1u
#define IN_PLAN   2u

static const uint8_t places[] = {
    [1] = IN_PLAN,              /* overlay */
    [2] = IN_RECIPE | IN_PLAN,  /* mount */
    [3] = IN_RECIPE | IN_PLAN,  /* mask */
    [4] = IN_RECIPE | IN_PLAN,  /* read_only */
    [5] = IN_RECIPE | IN_PLAN,  /* device */
    [6] = IN_RECIPE | IN_PLAN,  /* symlink */
    [7] = IN_RECIPE | IN_PLAN,  /* directory */
    [8] = IN_PLAN,              /* file */
    [9] = IN_RECIPE | IN_PLAN,  /* cgroup */
    [10] = IN_PLAN,             /* rlimit */
    [11] = IN_RECIPE | IN_PLAN, /* sysctl */
    [12] = IN_PLAN,             /* hostname */
    [13] = IN_PLAN,             /* oom_score */
    [14] = IN_PLAN,             /* user */
    [15] = IN_PLAN,             /* capabilities */
    [16] = IN_PLAN,             /* seccomp */
    [17] = IN_PLAN,             /* exec */
    [18] = IN_RECIPE | IN_PLAN, /* devices */
};

static const ProtobufCFieldDescriptor *step_field(const Step *step, unsigned *ret_set)
{
    const ProtobufCFieldDescriptor *found = NULL;

    *ret_set = 0;
    for (unsigned i = 0; i < step__descriptor.n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &step__descriptor.fields[i];

        if (*(void *const *)((const char *)step + f->offset)) {
            found = found ? found : f;
            ++*ret_set;
        }
    }
    return found;
}

const char *plan_step_name(const Step *step)
{
    unsigned set;
    const ProtobufCFieldDescriptor *f = step_field(step, &set);

    return f ? f->name : "?";
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);

    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static int check_message(const ProtobufCMessage *m, unsigned fd_count, struct err *e);

static int check_value(const ProtobufCFieldDescriptor *f, const void *value, unsigned fd_count, struct err *e)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        return check_message(*(ProtobufCMessage *const *)value, fd_count, e);
    case PROTOBUF_C_TYPE_STRING:
        if (strlen(*(char *const *)value) > STRING_MAX)
            return err_set(e, ERR_LIMIT, "%s is longer than %u bytes", f->name, STRING_MAX);
        return 0;
    case PROTOBUF_C_TYPE_UINT32:
        if ((ends_with(f->name, "_fd") || ends_with(f->name, "_fds")) && *(const uint32_t *)value >= fd_count)
            return err_set(e, ERR_INVALID, "%s is %u, but %u descriptors came", f->name, *(const uint32_t *)value,
                           fd_count);
        return 0;
    default:
        return 0;
    }
}

static size_t element_size(const ProtobufCFieldDescriptor *f)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_UINT32:
        return sizeof(uint32_t);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default: /* strings and messages; no list in a plan has elements of another kind */
        assert(f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_MESSAGE);
        return sizeof(void *);
    }
}

static bool is_present(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    const char *base = (const char *)m;

    if (f->label == PROTOBUF_C_LABEL_REQUIRED)
        return true;
    if (f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_MESSAGE)
        return *(void *const *)(base + f->offset) != NULL;
    return *(const protobuf_c_boolean *)(base + f->quantifier_offset);
}

/* Everything below a message, a plan's recipe excepted: that is bytes. */
static int check_message(const ProtobufCMessage *m, unsigned fd_count, struct err *e)
{
    const char *base = (const char *)m;

    if (m->n_unknown_fields)
        return err_set(e, ERR_UNSUPPORTED, "unknown field %u", m->unknown_fields[0].tag);
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        int rc = 0;

        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t count = *(const size_t *)(base + f->quantifier_offset);
            const char *list = *(char *const *)(base + f->offset);

            if (count > LIST_MAX)
                return err_set(e, ERR_LIMIT, "%s has more than %d elements", f->name, LIST_MAX);
            for (size_t k = 0; rc == 0 && k < count; k++)
                rc = check_value(f, list + k * element_size(f), fd_count, e);
        } else if (is_present(m, f)) {
            rc = check_value(f, base + f->offset, fd_count, e);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int check_path(const char *what, const char *path, struct err *e)
{
    if (!path || path[0] != '/')
        return err_set(e, ERR_INVALID, "%s \"%s\" is not an absolute path", what, path ? path : "");
    return strlen(path) < 4096 ? 0 : err_set(e, ERR_LIMIT, "%s is longer than 4095 bytes", what);
}

static int check_paths(char *const *paths, size_t count, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = check_path("path", paths[i], e);
    return rc;
}

static int check_mount(const StepMount *m, bool in_recipe, struct err *e)
{
    int sources = !!m->has_source_fd + !!m->fstype + !!m->host_path + !!m->cgroup;

    if (sources != 1)
        return err_set(e, ERR_INVALID, "%s needs one of source_fd, fstype, host_path, cgroup", m->target);
    if (m->cgroup && !in_recipe)
        return err_set(e, ERR_INVALID, "cgroup \"%s\" belongs into the recipe", m->cgroup);
    if (m->host_path && (!in_recipe || strcmp(m->host_path, "/dev/shm") != 0))
        return err_set(e, ERR_INVALID, "host_path \"%s\" is not offered", m->host_path);
    if (m->propagation && strcmp(m->propagation, "private") != 0 && strcmp(m->propagation, "slave") != 0 &&
        strcmp(m->propagation, "shared") != 0)
        return err_set(e, ERR_INVALID, "propagation \"%s\"", m->propagation);
    return check_path("target", m->target, e);
}

/* Names of kernel variables become paths below /proc/sys. */
static int check_sysctl(const StepSysctl *s, struct err *e)
{
    if (s->path[0] == '/' || s->path[0] == '\0' || strstr(s->path, "..") || strlen(s->path) > 255)
        return err_set(e, ERR_INVALID, "path \"%s\"", s->path);
    return 0;
}

static int check_rules(const StepDevices *d, struct err *e)
{
    for (size_t i = 0; i < d->n_rules; i++) {
        const DeviceRule *r = d->rules[i];

        if (r->type && strcmp(r->type, "c") != 0 && strcmp(r->type, "b") != 0)
            return err_set(e, ERR_INVALID, "device type \"%s\"", r->type);
        if (!*r->access || strlen(r->access) > 3 || strspn(r->access, "rwm") != strlen(r->access))
            return err_set(e, ERR_INVALID, "device access \"%s\"", r->access);
        if (r->major > 0xfff || r->minor > 0xfffff)
            return err_set(e, ERR_INVALID, "device number %u:%u", r->major, r->minor);
    }
    return d->n_rules <= 256 ? 0 : err_set(e, ERR_LIMIT, "more than 256 device rules");
}

static int check_content(const Step *s, bool in_recipe, struct err *e)
{
    if (s->mount)
        return check_mount(s->mount, in_recipe, e);
    if (s->mask)
        return check_paths(s->mask->paths, s->mask->n_paths, e);
    if (s->read_only)
        return check_paths(s->read_only->paths, s->read_only->n_paths, e);
    if (s->device)
        return check_path("path", s->device->path, e);
    if (s->symlink)
        return check_path("path", s->symlink->path, e);
    if (s->directory)
        return check_path("path", s->directory->path, e);
    if (s->file)
        return check_path("path", s->file->path, e);
    if (s->sysctl)
        return check_sysctl(s->sysctl, e);
    if (s->devices)
        return check_rules(s->devices, e);
    if (s->overlay && s->overlay->has_upper_fd && s->overlay->n_lower_fds && !s->overlay->has_work_fd)
        return err_set(e, ERR_INVALID, "an upper directory needs work_fd");
    if (s->overlay && !s->overlay->has_upper_fd && s->overlay->n_lower_fds == 0)
        return err_set(e, ERR_INVALID, "no directory");
    if (s->exec && s->exec->n_argv == 0)
        return err_set(e, ERR_INVALID, "argv is empty");
    return 0;
}

static int check_step(const Step *s, unsigned fd_count, bool in_recipe, struct err *e)
{
    unsigned set;
    const ProtobufCFieldDescriptor *f = step_field(s, &set);

    if (s->base.n_unknown_fields)
        return err_set(e, ERR_UNSUPPORTED, "unknown step %u: this keeper is older than the plan",
                       s->base.unknown_fields[0].tag);
    if (set != 1)
        return err_set(e, ERR_INVALID, "%u steps in one", set);
    assert(f->id < ARRAY_SIZE(places));
    if (!(places[f->id] & (in_recipe ? IN_RECIPE : IN_PLAN)))
        return err_set(e, ERR_INVALID, "%s does not belong here", f->name);
    int rc = check_message(&s->base, fd_count, e);
    if (rc == 0)
        rc = check_content(s, in_recipe, e);
    return rc < 0 ? err_wrap(e, "%s", f->name) : 0;
}

static int check_steps(Step *const *steps, size_t count, unsigned fd_count, bool in_recipe, struct err *e)
{
    if (count > PLAN_STEPS_MAX)
        return err_set(e, ERR_LIMIT, "more than %d steps", PLAN_STEPS_MAX);
    for (size_t i = 0; i < count; i++)
        if (check_step(steps[i], fd_count, in_recipe, e) < 0)
            return err_wrap(e, "step %zu", i + 1);
    return 0;
}

static int check_recipe(const Recipe *r, struct err *e)
{
    if (r->base.n_unknown_fields || r->namespaces->base.n_unknown_fields)
        return err_set(e, ERR_UNSUPPORTED, "unknown field %u: this keeper is older than the plan",
                       (r->base.n_unknown_fields ? &r->base : &r->namespaces->base)->unknown_fields[0].tag);
    if (r->namespaces->user)
        return err_set(e, ERR_UNSUPPORTED, "user namespaces are not offered by this keeper");
    if (r->cgroup_parent && !cgroup_path_is_tame(r->cgroup_parent))
        return err_set(e, ERR_INVALID, "invalid cgroup_parent \"%s\"", r->cgroup_parent);
    return check_steps(r->prepare, r->n_prepare, 0, true, e);
}

Recipe *plan_recipe(struct arena *a, const void *data, size_t size, struct err *e)
{
    Recipe *r = arena_unpack(a, &recipe__descriptor, data, size);

    if (!r) {
        err_set(e, ERR_INVALID, "recipe: %zu bytes that are none", size);
        return NULL;
    }
    if (check_recipe(r, e) < 0) {
        err_wrap(e, "recipe");
        return NULL;
    }
    return r;
}

static int check_plan(const LaunchPlan *p, unsigned fd_count, struct err *e)
{
    unsigned roots = 0, programs = 0;

    if (p->version != PLAN_VERSION)
        return err_set(e, ERR_UNSUPPORTED, "plan of version %u, this keeper executes version %d", p->version,
                       PLAN_VERSION);
    if (p->base.n_unknown_fields)
        return err_set(e, ERR_UNSUPPORTED, "unknown field %u: this keeper is older than the plan",
                       p->base.unknown_fields[0].tag);
    size_t length = strlen(p->id);
    if (length == 0 || length > 128 ||
        strspn(p->id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != length)
        return err_set(e, ERR_INVALID, "container id \"%s\"", p->id);
    int rc = p->log ? check_message(&p->log->base, fd_count, e) : 0;
    if (rc < 0)
        return err_wrap(e, "log");
    rc = check_steps(p->steps, p->n_steps, fd_count, false, e);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < p->n_steps; i++) {
        roots += p->steps[i]->overlay != NULL;
        programs += p->steps[i]->exec != NULL;
        if (roots == 0 &&
            (p->steps[i]->mount || p->steps[i]->mask || p->steps[i]->read_only || p->steps[i]->device ||
             p->steps[i]->symlink || p->steps[i]->directory || p->steps[i]->file))
            return err_set(e, ERR_INVALID, "step %zu: %s: before there is a root", i + 1,
                           plan_step_name(p->steps[i]));
    }
    if (roots != 1 || programs != 1)
        return err_set(e, ERR_INVALID, "%u roots and %u programs: one of each is needed", roots, programs);
    return 0;
}

LaunchPlan *plan_unpack(struct arena *a, const void *data, size_t size, unsigned fd_count, Recipe **ret_recipe,
                        struct err *e)
{
    LaunchPlan *p = arena_unpack(a, &launch_plan__descriptor, data, size);
    Recipe *recipe = NULL;

    if (!p) {
        err_set(e, ERR_INVALID, "launch plan: %zu bytes that are none", size);
        return NULL;
    }
    if (check_plan(p, fd_count, e) < 0 || !(recipe = plan_recipe(a, p->recipe.data, p->recipe.len, e))) {
        err_wrap(e, "launch plan");
        return NULL;
    }
    *ret_recipe = recipe;
    return p;
}
