/* The engine's door: see engine.h. Here its parts are opened, in the order in which they need each other, closed in
 * the opposite one, and told of each other; the work is theirs.
 *
 *     volumes, images   what containers are made of
 *     containers        records and tables, before the keeper tells what runs
 *     keeper            on_found for each, then on_ready: from then on every state is true
 *
 * Two small services live here. engine_later delivers answers and notices once the stack is empty: callers may call
 * in again from their callbacks without meeting anything half done. And the events of the API, which every part
 * reports. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "engine/api/api.h"
#include "engine/api/container_show.h"
#include "engine/container/container.h"
#include "engine/container/logs.h"
#include "engine/container/plug.h"
#include "engine/core.h"
#include "proto/base/entropy.h"
#include "proto/base/file.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

/* --- later and events ----------------------------------------------------------------------------- */

static void deliver(struct engine *en)
{
    struct list turn;

    list_init(&turn);
    list_splice(&turn, &en->later);
    for (struct list *item; (item = list_pop(&turn));) {
        struct later *l = list_entry(item, struct later, link);

        l->deliver(l);
    }
}

static void on_later(struct alarm *m)
{
    deliver(container_of(m, struct engine, later_alarm));
}

void engine_later(struct engine *en, struct later *l, void (*callback)(struct later *me))
{
    l->deliver = callback;
    list_push(&en->later, &l->link);
    if (!alarm_is_set(&en->later_alarm) && !en->closing)
        alarm_set(&en->alarms, &en->later_alarm, 0, on_later);
}

int64_t engine_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void engine_event(struct engine *en, const char *type, const char *action, const char *id,
                  const struct event_attribute *attributes, size_t count)
{
    events_add(&en->events, engine_now_ns(), "local", type, action, id, attributes, count);
}

void engine_swarm_event(struct engine *en, const char *type, const char *action, const char *id,
                        const char *const *pairs, size_t count)
{
    struct event_attribute attributes[ENGINE_EVENT_PAIRS];

    for (size_t i = 0; i < count; i++)
        attributes[i] = (struct event_attribute){pairs[2 * i], pairs[2 * i + 1]};
    events_add(&en->events, engine_now_ns(), "swarm", type, action, id, attributes, count);
}

static void on_volume_event(void *ctx, const char *action, const struct volume *v)
{
    struct event_attribute about = {"driver", "local"};

    engine_event(ctx, "volume", action, v->record->name, &about, 1);
}

static void on_image_event(void *ctx, const char *action, const char *id, const char *name)
{
    struct event_attribute about = {"name", name};

    engine_event(ctx, "image", action, id, &about, name != NULL);
}

static const char *image_in_use(void *ctx, const char *image_id, bool *ret_running)
{
    static char text[64]; /* one loop; read before the next call */
    struct engine *en = ctx;
    const struct container *c, *any = NULL;

    list_each (c, &en->containers->all, link) {
        if (strcmp(c->record->image_id, image_id) != 0)
            continue;
        any = c;
        if (container_is_running(c))
            break;
    }
    if (!any)
        return NULL;
    *ret_running = container_is_running(any);
    (void)snprintf(text, sizeof(text), "container %.12s", any->record->id);
    return text;
}

/* --- opening ------------------------------------------------------------------------------------- */

static void tell_ready(struct later *me)
{
    struct engine *en = container_of(me, struct engine, ready_later);

    en->ready(en->config.ctx);
}

static void on_found(void *ctx, const struct keeper_found *found)
{
    containers_on_found(ctx, found);
}

static void on_default_profile(void *ctx, const struct err *e, int fd)
{
    if (e->code && e->code != ERR_CANCELED)
        log_error("the default seccomp profile cannot be compiled", "error=\"%s\"", e->text);
}

/* Off the path of the first start. */
static void compile_default_profile(struct engine *en)
{
    HostConfig nothing = HOST_CONFIG__INIT;
    uint64_t capabilities;
    struct err e = {0};
    int fd;

    if (bundle_capabilities(&nothing, en->kernel.capabilities, &capabilities, &e) == 0 &&
        seccomp_program(en->seccomp, NULL, capabilities, &fd, on_default_profile, en, &e) == ERR_AGAIN)
        return;
    if (e.code && e.code != ERR_AGAIN)
        on_default_profile(en, &e, -1);
}

static char *keeper_program(const struct engine *en)
{
    return mem_printf("%s/shoal-keeper", en->config.program_dir);
}

static void on_upgraded(void *ctx, const struct err *e)
{
    if (e->code && e->code != ERR_CANCELED)
        log_warn("the keeper goes on with its old program", "error=\"%s\"", e->text);
    else if (!e->code)
        log_info("the keeper runs the program of this shoald", "version=%s", SHOAL_VERSION);
}

/* shoal was upgraded while containers ran: their keeper takes the new program in its place. */
static void upgrade_keeper(struct engine *en)
{
    AUTO_FREE
    char *program = keeper_program(en);
    struct err e;

    if (!en->closing && keeper_is_other_program(en->keeper) &&
        keeper_upgrade(en->keeper, program, on_upgraded, en, &e) < 0)
        on_upgraded(en, &e);
}

static void on_ready(void *ctx)
{
    struct engine *en = ctx;
    bool was_ready = en->is_ready;
    struct arena AUTO_ARENA a;

    arena_init(&a);
    containers_on_ready(en);
    upgrade_keeper(en);
    if (was_ready || en->closing)
        return;
    if (en->config.warm_max)
        keeper_warm(en->keeper, bundle_default_recipe(&en->kernel, &a));
    compile_default_profile(en);
    engine_later(en, &en->ready_later, tell_ready);
}

static void on_exit_of(void *ctx, const char *id, const struct keeper_exit *exit)
{
    containers_on_exit(ctx, id, exit);
}

static void on_fatal(void *ctx, const struct err *e)
{
    log_error("no keeper can be started, trying again", "error=\"%s\"", e->text);
}

static int open_keeper(struct engine *en, struct err *e)
{
    AUTO_FREE
    char *program = keeper_program(en);
    struct keeper_config config = {
        .loop = en->loop,
        .run_dir = en->config.run_dir,
        .program = program,
        .instance = en->config.instance,
        .cgroup_parent = en->config.cgroup_parent,
        .warm_min = en->config.warm_min,
        .warm_max = en->config.warm_max,
    };
    struct keeper_events events = {
        .ctx = en, .on_found = on_found, .on_ready = on_ready, .on_exit = on_exit_of, .on_fatal = on_fatal};

    return keeper_open(&config, &events, &en->keeper, e);
}

void engine_hold(struct engine *en, int fd)
{
    keeper_hold(en->keeper, fd);
}

static int open_stores(struct engine *en, struct err *e)
{
    AUTO_FREE
    char *images = mem_printf("%s/images", en->config.data_dir);
    AUTO_FREE
    char *volumes = mem_printf("%s/volumes", en->config.data_dir);
    AUTO_FREE
    char *job = mem_printf("%s/shoal-job", en->config.program_dir);
    AUTO_FREE
    char *programs = mem_printf("%s/seccomp", en->config.data_dir);
    struct images_config image_config = {
        .loop = en->loop, .dir = images, .job = job, .in_use = image_in_use, .ctx = en, .on_event = on_image_event};
    struct volumes_config volume_config = {.loop = en->loop,
                                           .dir = volumes,
                                           .settle_ms = ENGINE_SETTLE_MS,
                                           .now_ns = engine_now_ns,
                                           .on_event = on_volume_event,
                                           .ctx = en};
    int rc = volumes_open(&volume_config, &en->volumes, e);

    if (rc == 0)
        rc = images_open(&image_config, &en->images, e);
    return rc == 0 ? seccomp_open(en->loop, job, programs, &en->seccomp, e) : rc;
}

static void on_network_event(void *ctx, const char *action, const struct network *n)
{
    struct event_attribute about[] = {{"name", n->record->name}, {"type", n->record->driver}};

    engine_event(ctx, "network", action, n->record->id, about, ARRAY_SIZE(about));
}

static int open_networks(struct engine *en, struct err *e)
{
    AUTO_FREE
    char *dir = mem_printf("%s/networks", en->config.data_dir);
    char id[HEX_ID_TEXT + 1];
    struct networks_config config = {.loop = en->loop,
                                     .dir = dir,
                                     .instance = en->config.instance,
                                     .bridge_id = id,
                                     .settle_ms = ENGINE_SETTLE_MS,
                                     .now_ns = engine_now_ns,
                                     .on_event = on_network_event,
                                     .ctx = en};

    if (!en->config.networks)
        return 0;
    network_id(en, "bridge", id);
    return networks_open(&config, &en->networks, e);
}

/* The engine's own id lasts as long as its data. */
static int take_id(struct engine *en, struct err *e)
{
    AUTO_CLOSE
    int dir_fd = -1;
    AUTO_BUF struct buf text = {0};
    int rc = dir_open(en->config.data_dir, &dir_fd, e);

    if (rc < 0)
        return rc;
    if (file_read(dir_fd, "engine-id", IDENT_TEXT, &text, NULL) == 0 && ident_valid(buf_str(&text))) {
        (void)snprintf(en->id, sizeof(en->id), "%s", buf_str(&text));
        return 0;
    }
    ident_new(entropy_real(), en->id);
    return file_replace(dir_fd, "engine-id", 0600, en->id, IDENT_TEXT, false, e);
}

static void copy_config(struct engine *en, const struct engine_config *config)
{
    en->config = *config;
    en->config.data_dir = mem_strdup(config->data_dir);
    en->config.run_dir = mem_strdup(config->run_dir);
    en->config.instance = mem_strdup(config->instance);
    en->config.cgroup_parent = mem_strdup(config->cgroup_parent ? config->cgroup_parent : "");
    en->config.program_dir = mem_strdup(config->program_dir);
}

int engine_open(const struct engine_config *config, void (*ready)(void *ctx), struct engine **ret, struct err *e)
{
    struct engine *en = mem_alloc(sizeof(*en));
    int rc;

    copy_config(en, config);
    en->loop = config->loop;
    en->ready = ready;
    list_init(&en->later);
    list_init(&en->watches);
    list_init(&en->calls);
    list_init(&en->logs);
    list_init(&en->ready_later.link);
    events_init(&en->events);
    alarms_init(&en->alarms, en->loop);
    alarm_init(&en->later_alarm);
    rc = dir_make(en->config.data_dir, 0711, e);
    if (rc == 0)
        rc = dir_make(en->config.run_dir, 0711, e);
    if (rc == 0)
        rc = take_id(en, e);
    if (rc == 0)
        rc = cgroup_layout_read(&en->cgroups, e);
    if (rc == 0)
        rc = cgroup_kernel(&en->cgroups, &en->kernel, e);
    if (rc == 0)
        rc = open_stores(en, e);
    if (rc == 0)
        rc = open_networks(en, e);
    if (rc == 0)
        rc = containers_open(en, &en->containers, e);
    if (rc == 0)
        images_holds_done(en->images);
    if (rc == 0)
        rc = open_keeper(en, e);
    if (rc < 0) {
        engine_close(en, NULL, NULL);
        return err_wrap(e, "open the engine in %s", config->data_dir);
    }
    *ret = en;
    return 0;
}

/* --- closing: one part after the other, each calls the next ------------------------------------------ */

static void close_free(void *ctx)
{
    struct engine *en = ctx;

    events_fini(&en->events);
    cgroup_layout_fini(&en->cgroups);
    free((char *)en->config.data_dir);
    free((char *)en->config.run_dir);
    free((char *)en->config.instance);
    free((char *)en->config.cgroup_parent);
    free((char *)en->config.program_dir);
    if (en->closed)
        en->closed(en->closed_ctx);
    free(en);
}

static void close_alarms(void *ctx)
{
    struct engine *en = ctx;

    while (!list_empty(&en->later))
        deliver(en);
    alarms_close(&en->alarms, close_free, en);
}

static void close_networks(void *ctx)
{
    struct engine *en = ctx;

    if (en->networks)
        networks_close(en->networks, en->networks_idle, close_alarms, en);
    else
        close_alarms(en);
}

static void close_volumes(void *ctx)
{
    struct engine *en = ctx;

    if (en->volumes)
        volumes_close(en->volumes, close_networks, en);
    else
        close_networks(en);
}

static void close_images(void *ctx)
{
    struct engine *en = ctx;

    if (en->images)
        images_close(en->images, close_volumes, en);
    else
        close_volumes(en);
}

static void close_seccomp(void *ctx)
{
    struct engine *en = ctx;

    if (en->seccomp)
        seccomp_close(en->seccomp, close_images, en);
    else
        close_images(en);
}

static void close_keeper(void *ctx)
{
    struct engine *en = ctx;
    struct err ignored;

    if (!en->keeper) {
        close_seccomp(en);
        return;
    }
    /* A keeper without containers ends with us: sent, not waited for. With containers it refuses. */
    (void)keeper_stop(en->keeper, NULL, NULL, &ignored);
    keeper_close(en->keeper, close_seccomp, en);
}

void engine_close(struct engine *en, void (*closed)(void *ctx), void *ctx)
{
    assert(!en->closing);
    en->closing = true;
    en->closed = closed;
    en->closed_ctx = ctx;
    logs_close(en);
    api_close(en);
    list_remove(&en->ready_later.link);
    en->networks_idle = en->is_ready && !containers_use_networks(en);
    if (en->containers)
        containers_close(en->containers, close_keeper, en);
    else
        close_keeper(en);
}

/* --- containers ---------------------------------------------------------------------------------- */

static int find_ready(struct engine *en, const char *ref, struct container **ret, struct err *e)
{
    if (!en->is_ready || en->closing)
        return err_set(e, ERR_UNAVAILABLE, "the engine is %s", en->closing ? "closing" : "starting");
    return container_find(en, ref, ret, e);
}

const ContainerRecord *engine_find(struct engine *en, const char *ref, struct err *e)
{
    struct container *c;

    return container_find(en, ref, &c, e) < 0 ? NULL : c->record;
}

bool engine_next(struct engine *en, size_t *at, const ContainerRecord **ret)
{
    const struct list *all = &en->containers->all;
    const struct list *next = *at ? ((const struct list *)*at)->next : all->next;

    if (next == all)
        return false;
    *at = (size_t)next;
    *ret = list_entry(next, struct container, link)->record;
    return true;
}

int engine_create(struct engine *en, const char *name, const ContainerConfig *config, struct arena *a,
                  const char **ret_id, char ***ret_warnings, struct err *e)
{
    struct container *c;

    if (!en->is_ready || en->closing)
        return err_set(e, ERR_UNAVAILABLE, "the engine is %s", en->closing ? "closing" : "starting");
    int rc = container_create(en, name, config, a, &c, ret_warnings, e);
    if (rc == 0)
        *ret_id = c->record->id;
    return rc;
}

int engine_start(struct engine *en, const char *ref, engine_done *done, void *ctx, struct err *e)
{
    struct container *c;
    int rc = find_ready(en, ref, &c, e);

    return rc == 0 ? container_start(c, done, ctx, e) : rc;
}

int engine_stop(struct engine *en, const char *ref, const char *signal, int64_t grace_ms, engine_done *done,
                void *ctx, struct err *e)
{
    struct container *c;
    int rc = find_ready(en, ref, &c, e);

    return rc == 0 ? container_stop(c, signal, grace_ms, done, ctx, e) : rc;
}

int engine_kill(struct engine *en, const char *ref, const char *signal, struct err *e)
{
    struct container *c;
    int rc = find_ready(en, ref, &c, e);

    return rc == 0 ? container_kill(c, signal, NULL, e) : rc;
}

int engine_remove(struct engine *en, const char *ref, bool force, bool volumes, engine_done *done, void *ctx,
                  struct err *e)
{
    struct container *c;
    int rc = find_ready(en, ref, &c, e);

    return rc == 0 ? container_remove(c, force, volumes, done, ctx, e) : rc;
}

void engine_watch(struct engine *en, struct engine_watch *w)
{
    list_push(&en->watches, &w->link);
}

void engine_unwatch(struct engine_watch *w)
{
    list_remove(&w->link);
}

/* --- images -------------------------------------------------------------------------------------- */

const char *engine_image(struct engine *en, const char *ref)
{
    struct image image;

    return image_find(en->images, ref, &image, NULL) < 0 ? NULL : image.record->id;
}

struct engine_pull {
    struct image_job *job; /* NULL: it was here already */
    struct engine *en;
    struct later later;
    struct err result;
    engine_done *done;
    void *ctx;
};

static void pull_done(void *ctx, const struct err *e, const char *image_id)
{
    struct engine_pull *p = ctx;

    p->done(p->ctx, e);
    free(p);
}

static void pull_here(struct later *me)
{
    struct engine_pull *p = container_of(me, struct engine_pull, later);

    pull_done(p, &p->result, NULL);
}

int engine_pull(struct engine *en, const char *ref, const char *auth, engine_done *done, void *ctx,
                struct engine_pull **ret, struct err *e)
{
    struct engine_pull *p = mem_alloc(sizeof(*p));
    struct image_job_events events = {.ctx = p, .on_done = pull_done};
    bool exact = strncmp(ref, "sha256:", 7) == 0 || strchr(ref, '@');

    p->en = en;
    p->done = done;
    p->ctx = ctx;
    if (exact && engine_image(en, ref)) {
        engine_later(en, &p->later, pull_here);
    } else {
        int rc = image_pull(en->images, ref, NULL, auth, &events, &p->job, e);

        if (rc < 0) {
            free(p);
            return rc;
        }
    }
    *ret = p;
    return 0;
}

void engine_pull_cancel(struct engine_pull *p)
{
    if (p->job)
        image_job_cancel(p->job);
    else
        err_set(&p->result, ERR_CANCELED, "the pull was canceled");
}

/* --- the machine --------------------------------------------------------------------------------- */

static char *text(struct arena *a, const char *value)
{
    return arena_strdup(a, value);
}

static void add_plugin(NodeDescription *d, struct arena *a, const char *type, const char *name)
{
    KeyValue *plugin = ARENA_NEW(a, KeyValue);

    key_value__init(plugin);
    plugin->key = text(a, type);
    plugin->value = text(a, name);
    d->plugins = arena_append(a, d->plugins, d->n_plugins, sizeof(*d->plugins));
    d->plugins[d->n_plugins++] = plugin;
}

NodeDescription *engine_describe(struct engine *en, struct arena *a)
{
    NodeDescription *d = ARENA_NEW(a, NodeDescription);
    struct utsname uts = {0};
    struct sysinfo memory = {0};

    (void)uname(&uts);      /* cannot fail */
    (void)sysinfo(&memory); /* cannot fail */
    node_description__init(d);
    d->hostname = text(a, uts.nodename);
    d->platform = ARENA_NEW(a, Platform);
    platform__init(d->platform);
    d->platform->architecture = text(a, uts.machine);
    d->platform->os = text(a, "linux");
    d->resources = ARENA_NEW(a, Resources);
    resources__init(d->resources);
    d->resources->has_nano_cpus = d->resources->has_memory_bytes = true;
    d->resources->nano_cpus = (int64_t)en->kernel.processors * 1000000000;
    d->resources->memory_bytes = (int64_t)memory.totalram * memory.mem_unit;
    d->engine_version = text(a, SHOAL_VERSION);
    add_plugin(d, a, "Log", "json-file");
    add_plugin(d, a, "Network", "host");
    add_plugin(d, a, "Network", "null");
    add_plugin(d, a, "Volume", "local");
    return d;
}
