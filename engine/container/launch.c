/* From a container at rest to a plan in the keeper's hands: see container.h.
 *
 * Everything a plan names is opened here: layers, the container's own upper directory, volumes, bind sources and
 * the three files of /etc. A mount is a detached copy (open_tree), so what is renamed or replaced afterwards is no
 * matter, and nothing appears in this machine's mount table. Volumes and our own files lie on our own disk and are
 * opened at once; sources of binds may lie on anything, so they are opened in the pool, and only for containers
 * that have some.
 *
 * An empty volume is filled from the image by the keeper's child while it mounts. Two containers that start with
 * the same empty volume must not both do that: the second waits until the first one's launch has ended. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/container/bundle.h"
#include "engine/container/container.h"
#include "engine/container/devices.h"
#include "engine/container/etc.h"
#include "engine/container/mounts.h"
#include "engine/container/plug.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

#define FDS_MAX 250 /* keeper_launch takes no more */

struct launch_mount {
    const MountPoint *point; /* of the container's record */
    struct volume *filling;  /* the empty volume that this launch fills, or NULL */
    unsigned position;       /* of its descriptor */
    bool is_directory, copy_up;
};

struct launch {
    struct container *container; /* NULL: abandoned */
    struct container *held;      /* while the pool reads its record */
    struct engine *en;
    char id[HEX_ID_TEXT + 1];
    uv_work_t work;     /* opening of bind sources, finding of devices */
    struct arena arena; /* for the devices */
    struct bundle_device *devices;
    size_t device_count;
    int fds[FDS_MAX];
    unsigned fd_count;
    unsigned layers, base, upper, work_dir, resolv_conf, hostname, hosts, log_directory, seccomp;
    struct launch_mount *mounts;
    size_t mount_count;
    struct err failure; /* of the work in the pool, or of the launch while its network is under way */
    struct plug plug;   /* the wait for its networks, then for its interfaces */
    bool is_plugging;   /* its interfaces are being made */
    bool has_failed;    /* meanwhile */
};

/* Files of ours or of the user that are missing or closed are no missing program: those two codes are the keeper's.
 */
static void blame_preparation(struct err *e)
{
    if (e->code == ERR_NOT_FOUND || e->code == ERR_DENIED)
        e->code = ERR_INVALID;
}

static void launch_free(struct launch *l)
{
    for (unsigned i = 0; i < l->fd_count; i++)
        close(l->fds[i]);
    arena_fini(&l->arena);
    free(l->mounts);
    free(l);
}

static int add_fd(struct launch *l, int fd, unsigned *ret_position, struct err *e)
{
    if (l->fd_count == FDS_MAX) {
        close(fd);
        return err_set(e, ERR_LIMIT, "layers and mounts need more than %d descriptors", FDS_MAX);
    }
    *ret_position = l->fd_count;
    l->fds[l->fd_count++] = fd;
    return 0;
}

/* A detached copy of what lies at path below dir_fd; "" is dir_fd itself. */
static int clone_tree(int dir_fd, const char *path, unsigned flags, int *ret_fd)
{
    unsigned how = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags | (*path ? 0 : AT_EMPTY_PATH);
    int fd = (int)syscall(SYS_open_tree, dir_fd, path, how);

    if (fd < 0)
        return -1;
    *ret_fd = fd;
    return 0;
}

static bool is_directory(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

/* --- our own disk -------------------------------------------------------------------------------- */

static int open_layers(struct launch *l, struct err *e)
{
    const ContainerRecord *record = l->container->record;

    l->layers = record->layers;
    if (l->layers > FDS_MAX - 10)
        return err_set(e, ERR_LIMIT, "image %s has %u layers, more than %d", record->image_id, l->layers,
                       FDS_MAX - 10);
    int rc = image_layers_open(l->en->images, record->image_id, l->fds, l->layers, e);
    if (rc < 0)
        return rc;
    l->fd_count = l->layers;
    int base = fcntl(l->en->containers->base_fd, F_DUPFD_CLOEXEC, 0);
    return base < 0 ? err_errno(e, "open the base layer") : add_fd(l, base, &l->base, e);
}

static int open_below(struct launch *l, int dir_fd, const char *name, unsigned *ret_position, struct err *e)
{
    int fd = openat(dir_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return fd < 0 ? err_errno(e, "open %s", name) : add_fd(l, fd, ret_position, e);
}

/* A user's mount on the same target takes the file's place. */
static int open_etc(struct launch *l, int dir_fd, const char *name, const char *target, unsigned *ret_position,
                    struct err *e)
{
    int fd;

    *ret_position = UINT_MAX;
    for (size_t i = 0; i < l->mount_count; i++)
        if (strcmp(l->mounts[i].point->target, target) == 0)
            return 0;
    if (clone_tree(dir_fd, name, 0, &fd) < 0)
        return err_errno(e, "open %s", name);
    return add_fd(l, fd, ret_position, e);
}

static int open_own(struct launch *l, struct err *e)
{
    AUTO_CLOSE
    int dir_fd = -1;
    AUTO_CLOSE
    int etc_fd = -1;
    int rc = container_dir(l->container, &dir_fd, e);

    if (rc == 0)
        rc = open_below(l, dir_fd, "upper", &l->upper, e);
    if (rc == 0)
        rc = open_below(l, dir_fd, "work", &l->work_dir, e);
    if (rc == 0)
        rc = etc_ready(l->container, &etc_fd, e);
    if (rc == 0)
        rc = open_etc(l, etc_fd, "resolv.conf", "/etc/resolv.conf", &l->resolv_conf, e);
    if (rc == 0)
        rc = open_etc(l, etc_fd, "hostname", "/etc/hostname", &l->hostname, e);
    if (rc == 0)
        rc = open_etc(l, etc_fd, "hosts", "/etc/hosts", &l->hosts, e);
    return rc == 0 ? add_fd(l, steal_fd(&dir_fd), &l->log_directory, e) : rc;
}

static int open_volume(struct launch *l, struct launch_mount *m, struct volume *v, struct err *e)
{
    const Mount *spec = m->point->spec;
    const char *subpath = spec ? spec->volume_subpath : NULL;
    AUTO_CLOSE
    int dir_fd = -1;
    int fd;
    int rc = volume_open(l->en->volumes, v, subpath, &dir_fd, e);

    if (rc < 0)
        return rc;
    m->is_directory = is_directory(dir_fd);
    if (!(subpath && *subpath) && !(spec && spec->no_copy) && volume_is_empty(dir_fd)) {
        m->copy_up = true;
        m->filling = v;
        v->populating = true;
    }
    if (clone_tree(dir_fd, "", 0, &fd) < 0)
        return err_errno(e, "open volume %s", v->record->name);
    return add_fd(l, fd, &m->position, e);
}

static int open_volumes(struct launch *l, struct err *e)
{
    struct container *c = l->container;

    for (size_t i = 0; i < l->mount_count; i++) {
        struct launch_mount *m = &l->mounts[i];

        if (m->point->type != MOUNT_TYPE__VOLUME)
            continue;
        int rc = open_volume(l, m, c->uses[i].volume, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* --- anybody's disk: in the pool ------------------------------------------------------------------- */

static int open_bind(struct launch *l, struct launch_mount *m, struct err *e)
{
    const MountPoint *p = m->point;
    unsigned flags = p->spec && p->spec->non_recursive ? 0 : AT_RECURSIVE;
    int fd = -1;

    if (clone_tree(AT_FDCWD, p->source, flags, &fd) < 0 && errno == ENOENT && p->spec &&
        p->spec->create_mountpoint) {
        if (dir_make(p->source, 0755, e) < 0)
            return err_wrap(e, "error while creating mount source path '%s'", p->source);
        (void)clone_tree(AT_FDCWD, p->source, flags, &fd); /* looked at below */
    }
    if (fd < 0 && errno == ENOENT)
        return err_set(e, ERR_INVALID,
                       "invalid mount config for type \"bind\": bind source path does not exist: %s", p->source);
    if (fd < 0)
        return err_errno(e, "open mount source %s", p->source);
    m->is_directory = is_directory(fd);
    return add_fd(l, fd, &m->position, e);
}

static void open_foreign(uv_work_t *work)
{
    struct launch *l = work->data;

    for (size_t i = 0; i < l->mount_count; i++)
        if (l->mounts[i].point->type == MOUNT_TYPE__BIND && open_bind(l, &l->mounts[i], &l->failure) < 0)
            return;
    (void)devices_find(l->held->record->config->host, &l->arena, &l->devices, &l->device_count,
                       &l->failure); /* looked at when it is done */
}

static bool has_foreign(const ContainerRecord *record)
{
    const HostConfig *host = record->config->host;

    for (size_t i = 0; i < record->n_mounts; i++)
        if (record->mounts[i]->type == MOUNT_TYPE__BIND)
            return true;
    return host->privileged || host->n_devices;
}

/* --- the plan ------------------------------------------------------------------------------------ */

static void finish(struct launch *l, const struct err *e, int pid, const char *sandbox, int64_t started_ns)
{
    struct container *c = l->container;
    struct engine *en = l->en;
    bool filled = false;

    if (c) {
        for (size_t i = 0; i < l->mount_count; i++) {
            if (!l->mounts[i].filling)
                continue;
            l->mounts[i].filling->populating = false; /* held by the container, so it is still there */
            filled = true;
        }
    }
    launch_free(l);
    if (!c)
        return;
    container_launched(c, e, pid, sandbox, started_ns);
    if (filled)
        launch_retry_populating(en->containers);
}

static void on_launched(void *ctx, const struct err *e, int pid, const char *sandbox, int64_t started_ns)
{
    struct launch *l = ctx;

    if (!l->is_plugging) {
        finish(l, e, pid, sandbox, started_ns);
        return;
    }
    l->has_failed = true; /* it cannot have succeeded: it had no word yet */
    l->failure = *e;
}

static void fail(struct launch *l, const struct err *e)
{
    struct err failure = *e;

    blame_preparation(&failure);
    finish(l, &failure, 0, NULL, 0);
}

/* --- interfaces ---------------------------------------------------------------------------------- */

static void on_plugged(struct plug *p, const struct err *e)
{
    struct launch *l = container_of(p, struct launch, plug);

    l->is_plugging = false;
    if (l->has_failed)
        fail(l, &l->failure);
    else if (e->code)
        keeper_give_up(l->en->keeper, l->id, e);
    else
        keeper_go(l->en->keeper, l->id);
}

/* The sandbox is there, its child builds on: its interfaces are made meanwhile. */
static void on_prepared(void *ctx, int netns_fd)
{
    struct launch *l = ctx;

    if (!l->container)
        return; /* the engine closes, and with it the keeper's connection: the launch is given up */
    l->is_plugging = true;
    plug_in(&l->plug, l->container, netns_fd, on_plugged);
}

static int hand_over(struct launch *l, struct err *e)
{
    const struct container *c = l->container;
    struct arena AUTO_ARENA a;
    LaunchPlan *plan;

    arena_init(&a);
    unsigned *positions = arena_array(&a, l->mount_count, sizeof(*positions));
    bool *directories = arena_array(&a, l->mount_count, sizeof(*directories));
    bool *copy_up = arena_array(&a, l->mount_count, sizeof(*copy_up));
    for (size_t i = 0; i < l->mount_count; i++) {
        positions[i] = l->mounts[i].position;
        directories[i] = l->mounts[i].is_directory;
        copy_up[i] = l->mounts[i].copy_up;
    }
    struct bundle_in in = {
        .record = c->record,
        .kernel = &l->en->kernel,
        .layers = l->layers + 1, /* the base is the lowest */
        .upper = l->upper,
        .work = l->work_dir,
        .mounts = positions,
        .mount_is_directory = directories,
        .mount_copy_up = copy_up,
        .resolv_conf = l->resolv_conf,
        .hostname = l->hostname,
        .hosts = l->hosts,
        .seccomp = l->seccomp,
        .log_directory = l->log_directory,
        .id = c->record->id,
        .devices = l->devices,
        .device_count = l->device_count,
    };
    int rc = bundle_make(&in, &a, &plan, e);
    if (rc < 0)
        return rc;
    memcpy(l->id, c->record->id, sizeof(l->id));
    return keeper_launch(l->en->keeper, plan, l->fds, l->fd_count, c->record->n_endpoints ? on_prepared : NULL,
                         on_launched, l, e);
}

static int add_program(struct launch *l, int borrowed, struct err *e)
{
    int fd = fcntl(borrowed, F_DUPFD_CLOEXEC, 0);

    return fd < 0 ? err_errno(e, "duplicate the seccomp program") : add_fd(l, fd, &l->seccomp, e);
}

static void program_ready(void *ctx, const struct err *e, int fd)
{
    struct launch *l = ctx;
    struct err failure = *e;

    if (l->container && failure.code == 0 && add_program(l, fd, &failure) == 0 && hand_over(l, &failure) == 0)
        return;
    fail(l, &failure);
}

/* Everything is open but the seccomp program, which most often is at hand. 0: it goes on, or is handed over. */
static int take_program(struct launch *l, struct err *e)
{
    const HostConfig *host = l->container->record->config->host;
    uint64_t capabilities;
    const char *profile;
    bool none;
    int fd;
    int rc = bundle_seccomp(host, &none, &profile, e);

    l->seccomp = UINT_MAX;
    if (rc == 0)
        rc = bundle_capabilities(host, l->en->kernel.capabilities, &capabilities, e);
    if (rc < 0 || none)
        return rc < 0 ? rc : hand_over(l, e);
    rc = seccomp_program(l->en->seccomp, profile, capabilities, &fd, program_ready, l, e);
    if (rc == ERR_AGAIN)
        return 0;
    if (rc == 0)
        rc = add_program(l, fd, e);
    return rc < 0 ? rc : hand_over(l, e);
}

static void foreign_opened(uv_work_t *work, int status)
{
    struct launch *l = work->data;

    container_release(l->held);
    if (l->container && l->failure.code == 0 && take_program(l, &l->failure) == 0)
        return;
    fail(l, &l->failure);
}

/* --- beginning ----------------------------------------------------------------------------------- */

static bool waits_for_volume(const struct container *c)
{
    for (size_t i = 0; i < c->record->n_mounts; i++)
        if (c->uses[i].volume && c->uses[i].volume->populating)
            return true;
    return false;
}

static int open_all(struct launch *l, struct err *e)
{
    int rc = open_layers(l, e);

    if (rc == 0)
        rc = open_own(l, e);
    if (rc == 0)
        rc = open_volumes(l, e);
    return rc;
}

/* Its networks are up and it has its addresses. */
static int go_on(struct launch *l, struct err *e)
{
    struct container *c = l->container;
    int rc = open_all(l, e);

    if (rc < 0 || !has_foreign(c->record))
        return rc < 0 ? rc : take_program(l, e);
    l->work.data = l;
    l->held = c;
    c->held++;
    if (uv_queue_work(c->en->loop, &l->work, open_foreign, foreign_opened) < 0)
        abort(); /* only for a missing callback */
    return 0;
}

static void on_networks(struct plug *p, const struct err *e)
{
    struct launch *l = container_of(p, struct launch, plug);
    struct err failure = *e;

    if (l->container && failure.code == 0 && go_on(l, &failure) == 0)
        return;
    fail(l, &failure);
}

static int begin(struct container *c, struct err *e)
{
    struct launch *l;
    int rc = container_hold_volumes(c, e);

    if (rc < 0)
        return rc;
    if (waits_for_volume(c)) {
        list_push(&c->en->containers->populating, &c->populating);
        return 0;
    }
    l = mem_alloc(sizeof(*l));
    l->container = c;
    l->en = c->en;
    l->mount_count = c->record->n_mounts;
    l->mounts = mem_array(l->mount_count, sizeof(*l->mounts));
    arena_init(&l->arena);
    for (size_t i = 0; i < l->mount_count; i++)
        l->mounts[i].point = c->record->mounts[i];
    rc = plug_prepare(&l->plug, c, on_networks, e);
    if (rc == 0)
        rc = go_on(l, e);
    if (rc < 0 && rc != ERR_AGAIN) {
        for (size_t i = 0; i < l->mount_count; i++)
            if (l->mounts[i].filling)
                l->mounts[i].filling->populating = false;
        launch_free(l);
        return rc;
    }
    c->launch = l;
    return 0;
}

int launch_begin(struct container *c, struct err *e)
{
    struct err why = {0};

    if (begin(c, &why) == 0)
        return 0;
    blame_preparation(&why);
    return err_set(e, why.code, "%s", why.text);
}

void launch_abandon(struct launch *l)
{
    l->container = NULL;
    l->plug.container = NULL;
}

void launch_retry_populating(struct containers *s)
{
    struct list turn;

    list_init(&turn);
    list_splice(&turn, &s->populating);
    for (struct list *item; (item = list_pop(&turn));) {
        struct container *c = list_entry(item, struct container, populating);
        struct err e = {0};

        if (launch_begin(c, &e) < 0)
            container_launched(c, &e, 0, NULL, 0);
    }
}
