/* Where containers are kept: see container.h.
 *
 * A container is a directory <dir>/<id> and a record <dir>/.records/<id>. Making: directory, then record. Removing:
 * record, then directory. So a directory without a record is the rest of a crash and goes, unless the record is
 * there but cannot be read: then the directory stays until somebody looks at it. A record without a directory is
 * the rest of a power cut after a removal that was not yet on the disk. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/container/base.h"
#include "engine/container/container.h"
#include "engine/container/etc.h"
#include "engine/container/plug.h"
#include "engine/sweep.h"
#include "proto/base/file.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"

#define SAVE_AGAIN_MS 1000
#define SAVE_SOON_MS  (ENGINE_SETTLE_MS / 2) /* to be written; as long again until it is synced */
#define REF_MAX       256

static const struct record_format format = {
    .magic = "shoalctr",
    .version = 1,
    .size_max = 4 * 1024 * 1024,
    .type = &container_record__descriptor,
};

static const char *const life_names[] = {"created", "starting", "running", "waiting", "ended", "removing"};

static const uint32_t life_moves[] = {
    [LIFE_CREATED] = SM_TO(LIFE_STARTING) | SM_TO(LIFE_RUNNING) | SM_TO(LIFE_ENDED) | SM_TO(LIFE_REMOVING),
    [LIFE_STARTING] =
        SM_TO(LIFE_RUNNING) | SM_TO(LIFE_CREATED) | SM_TO(LIFE_ENDED) | SM_TO(LIFE_WAITING) | SM_TO(LIFE_REMOVING),
    [LIFE_RUNNING] = SM_TO(LIFE_ENDED) | SM_TO(LIFE_WAITING) | SM_TO(LIFE_REMOVING),
    [LIFE_WAITING] = SM_TO(LIFE_STARTING) | SM_TO(LIFE_ENDED) | SM_TO(LIFE_REMOVING),
    [LIFE_ENDED] = SM_TO(LIFE_STARTING) | SM_TO(LIFE_RUNNING) | SM_TO(LIFE_REMOVING),
    [LIFE_REMOVING] = SM_TO(LIFE_ENDED),
};

const struct sm_table container_machine = {"container", life_names, life_moves, ARRAY_SIZE(life_names)};

/* --- the sorted ids ------------------------------------------------------------------------------ */

/* Where an id that begins so would stand. */
static size_t sorted_place(const struct containers *s, const char *id, size_t length)
{
    size_t low = 0, high = s->count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (strncmp(s->sorted[middle]->record->id, id, length) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void sorted_insert(struct containers *s, struct container *c)
{
    size_t at = sorted_place(s, c->record->id, HEX_ID_TEXT);

    if (s->count == s->room) {
        s->room = s->room ? s->room * 2 : 16;
        s->sorted = mem_grow(s->sorted, s->room, sizeof(*s->sorted));
    }
    memmove(s->sorted + at + 1, s->sorted + at, (s->count - at) * sizeof(*s->sorted));
    s->sorted[at] = c;
    s->count++;
}

static void sorted_remove(struct containers *s, struct container *c)
{
    size_t at = sorted_place(s, c->record->id, HEX_ID_TEXT);

    assert(s->sorted[at] == c);
    memmove(s->sorted + at, s->sorted + at + 1, (s->count - at - 1) * sizeof(*s->sorted));
    s->count--;
}

/* --- one container ------------------------------------------------------------------------------- */

static int life_of(const ContainerRecord *record)
{
    switch (record->state->status) {
    case CONTAINER_STATUS_KIND__CREATED:
        return LIFE_CREATED;
    case CONTAINER_STATUS_KIND__ALIVE:
        return LIFE_RUNNING;
    case CONTAINER_STATUS_KIND__REMOVING:
        return LIFE_REMOVING;
    default:
        return LIFE_ENDED;
    }
}

struct container *container_add(struct containers *s, ContainerRecord *record)
{
    struct container *c = mem_alloc(sizeof(*c));
    struct list *after = &s->all;

    c->en = s->en;
    c->record = record;
    c->life = life_of(record);
    c->is_dead = record->state->status == CONTAINER_STATUS_KIND__DEAD;
    c->uses = mem_array(record->n_mounts, sizeof(*c->uses));
    for (size_t i = 0; i < record->n_mounts; i++)
        volume_use_init(&c->uses[i]);
    list_init(&c->starts);
    list_init(&c->stops);
    list_init(&c->removals);
    list_init(&c->waits);
    list_init(&c->populating);
    alarm_init(&c->restart);
    alarm_init(&c->save_again);
    while (after->next != &s->all &&
           list_entry(after->next, struct container, link)->record->created_ns > record->created_ns)
        after = after->next;
    list_insert(after, &c->link);
    map_put(&s->by_id, record->id, c);
    map_put(&s->by_name, record->name, c);
    sorted_insert(s, c);
    return c;
}

static void free_container(struct container *c)
{
    assert(list_empty(&c->starts) && list_empty(&c->stops) && list_empty(&c->removals) && list_empty(&c->waits));
    message_free(c->record);
    free(c->uses);
    free(c);
}

void container_drop(struct container *c)
{
    struct containers *s = c->en->containers;

    alarm_clear(&c->restart);
    alarm_clear(&c->save_again);
    list_remove(&c->populating);
    container_release_volumes(c);
    map_remove(&s->by_id, c->record->id);
    if (map_get(&s->by_name, c->record->name) == c)
        map_remove(&s->by_name, c->record->name);
    sorted_remove(s, c);
    list_remove(&c->link);
    c->is_gone = true;
    if (!c->held)
        free_container(c);
}

void container_release(struct container *c)
{
    assert(c->held);
    if (--c->held == 0 && c->is_gone)
        free_container(c);
}

int container_dir(const struct container *c, int *ret_fd, struct err *e)
{
    int fd = openat(c->en->containers->fd, c->record->id, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return err_errno(e, "open directory of container %s", c->record->id);
    *ret_fd = fd;
    return 0;
}

char *container_path(const struct container *c, const char *file)
{
    return mem_printf("%s/%s/%s", c->en->containers->dir, c->record->id, file);
}

const char *container_short_id(const struct container *c, char ret[13])
{
    memcpy(ret, c->record->id, 12);
    ret[12] = '\0';
    return ret;
}

bool container_is_running(const struct container *c)
{
    return c->life == LIFE_RUNNING || c->life == LIFE_WAITING || (c->life == LIFE_STARTING && c->restart_delay_ms);
}

const char *container_status_word(const struct container *c)
{
    static const char *const words[] = {"created", "created", "running", "restarting", "exited", "removing"};

    if (c->life == LIFE_RUNNING && c->record->state->paused)
        return "paused";
    if (c->life == LIFE_STARTING && c->record->state->started_ns)
        return c->restart_delay_ms ? "restarting" : "exited";
    return c->is_dead ? "dead" : words[c->life];
}

/* --- saving and telling --------------------------------------------------------------------------- */

static void save_again(struct alarm *m)
{
    container_save(container_of(m, struct container, save_again));
}

void container_save(struct container *c)
{
    struct err e = {0};

    if (records_put(c->en->containers->records, c->record->id, &c->record->base, &e) < 0) {
        if (!c->unsaved)
            log_error("a container's record could not be written, trying again", "container=%s error=\"%s\"",
                      c->record->id, e.text);
        c->unsaved = true;
        alarm_set(&c->en->alarms, &c->save_again, SAVE_AGAIN_MS, save_again);
        return;
    }
    if (c->unsaved)
        log_info("a container's record is written again", "container=%s", c->record->id);
    c->unsaved = false;
    alarm_clear(&c->save_again);
    if (c->forget_exit) {
        c->forget_exit = false;
        keeper_forget(c->en->keeper, c->record->id);
    }
}

void container_save_soon(struct container *c)
{
    if (!alarm_is_set(&c->save_again))
        alarm_set(&c->en->alarms, &c->save_again, SAVE_SOON_MS, save_again);
}

/* What was to be written soon; what fails is what a crash would have lost, and repaired as after one. */
static void save_at_close(struct container *c)
{
    struct err e;

    if (alarm_is_set(&c->save_again) &&
        records_put(c->en->containers->records, c->record->id, &c->record->base, &e) < 0)
        log_error("a container's record could not be written", "container=%s error=\"%s\"", c->record->id, e.text);
}

struct notice {
    struct later later;
    struct container *container; /* held */
    enum engine_change what;
};

static void deliver_notice(struct later *me)
{
    struct notice *n = container_of(me, struct notice, later);
    struct container *c = n->container;
    struct engine *en = c->en;
    struct list turn;

    /* Each watcher is moved back before it is called, so that any may go or come meanwhile. */
    list_init(&turn);
    list_splice(&turn, &en->watches);
    for (struct list *l; (l = list_pop(&turn));) {
        struct engine_watch *w = list_entry(l, struct engine_watch, link);

        list_push(&en->watches, &w->link);
        w->on_change(w->ctx, n->what, c->record);
    }
    free(n);
    container_release(c);
}

static void tell_watchers(struct container *c, enum engine_change what)
{
    struct notice *n;

    if (list_empty(&c->en->watches))
        return;
    n = mem_alloc(sizeof(*n));
    n->container = c;
    n->what = what;
    c->held++;
    engine_later(c->en, &n->later, deliver_notice);
}

void container_tell(struct container *c, int what, const char *action, const struct event_attribute *more,
                    size_t more_count)
{
    const ContainerConfig *config = c->record->config;
    size_t count = 0;
    struct event_attribute *all = mem_array(config->n_labels + 2 + more_count, sizeof(*all));

    for (size_t i = 0; i < config->n_labels; i++)
        all[count++] = (struct event_attribute){config->labels[i]->key, config->labels[i]->value};
    all[count++] = (struct event_attribute){"image", config->image};
    all[count++] = (struct event_attribute){"name", c->record->name};
    for (size_t i = 0; i < more_count; i++)
        all[count++] = more[i];
    engine_event(c->en, "container", action, c->record->id, all, count);
    free(all);
    if (what >= 0)
        tell_watchers(c, (enum engine_change)what);
}

/* --- finding ------------------------------------------------------------------------------------- */

int container_find(struct engine *en, const char *ref, struct container **ret, struct err *e)
{
    const struct containers *s = en->containers;
    const char *name = ref + (*ref == '/');
    size_t length = strnlen(name, REF_MAX);
    struct container *c = map_get_n(&s->by_id, name, length);

    if (!c)
        c = map_get_n(&s->by_name, name, length);
    if (!c && length && length < HEX_ID_TEXT) {
        size_t at = sorted_place(s, name, length);

        if (at < s->count && strncmp(s->sorted[at]->record->id, name, length) == 0) {
            if (at + 1 < s->count && strncmp(s->sorted[at + 1]->record->id, name, length) == 0)
                return err_set(e, ERR_INVALID, "Multiple IDs found with provided prefix: %s", name);
            c = s->sorted[at];
        }
    }
    if (!c)
        return err_set(e, ERR_NOT_FOUND, "No such container: %.*s", REF_MAX, ref);
    *ret = c;
    return 0;
}

/* --- opening ------------------------------------------------------------------------------------- */

static void set_unusable(struct containers *s, const char *id)
{
    if (!map_get(&s->unusable, id)) {
        char *copy = mem_strdup(id);

        map_put(&s->unusable, copy, copy);
    }
}

static bool record_makes_sense(const ContainerRecord *r, const char *name)
{
    if (strcmp(r->id, name) != 0 || !hex_valid(r->id, HEX_ID_TEXT) || !name_valid_container(r->name) || !r->n_argv)
        return false;
    for (size_t i = 0; i < r->n_mounts; i++)
        if (r->mounts[i]->type == MOUNT_TYPE__VOLUME && !r->mounts[i]->volume)
            return false;
    return true;
}

static void open_on_record(void *ctx, const char *name, ProtobufCMessage *message)
{
    struct containers *s = ctx;
    ContainerRecord *record = (ContainerRecord *)message;
    struct stat st;

    if (!record_makes_sense(record, name) || map_get(&s->by_name, record->name)) {
        log_error("a container's record makes no sense", "container=%s name=%s", name, record->name);
        set_unusable(s, name);
        message_free(record);
        return;
    }
    if (fstatat(s->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode)) {
        log_info("a container without a directory is forgotten", "container=%s", name);
        (void)records_remove(s->records, name, NULL); /* tried again at the next start */
        message_free(record);
        return;
    }
    struct container *c = container_add(s, record);

    plug_restore(c);
    c->unconfirmed = c->life == LIFE_RUNNING;
    image_hold(s->en->images, record->image_id);
    for (size_t i = 0; i < record->n_mounts; i++) {
        const char *volume = record->mounts[i]->volume;
        struct volume *v =
            volume && record->mounts[i]->type == MOUNT_TYPE__VOLUME ? volume_find(s->en->volumes, volume) : NULL;

        if (v) /* one that is missing is made when the container is started */
            volume_use(v, &c->uses[i], record->id);
    }
}

static void open_on_problem(void *ctx, const char *name, const struct err *why)
{
    log_error("a container's record", "container=%s error=\"%s\"", name, why->text);
    if (why->code != 0)
        set_unusable(ctx, name);
}

static int open_strays(struct containers *s, struct err *e)
{
    int again = openat(s->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = again >= 0 ? fdopendir(again) : NULL;
    struct dirent *entry;
    struct err why;

    if (!dir) {
        int rc = err_errno(e, "list %s", s->dir);

        if (again >= 0)
            close(again);
        return rc;
    }
    while ((entry = readdir(dir))) {
        const char *id = entry->d_name;

        if (!hex_valid(id, HEX_ID_TEXT) || map_get(&s->by_id, id) || map_get(&s->unusable, id))
            continue;
        if (sweep_take(s->sweep, s->fd, id, &why) < 0)
            log_warn("an unfinished container", "container=%s error=\"%s\"", id, why.text);
        else
            log_info("an unfinished container is removed", "container=%s", id);
    }
    closedir(dir);
    return 0;
}

static void free_containers(void *ctx)
{
    struct containers *s = ctx;
    size_t at = 0;
    void *id;

    while (!list_empty(&s->all))
        container_drop(list_first(&s->all, struct container, link));
    while ((id = map_next(&s->unusable, &at)))
        free(id);
    map_fini(&s->unusable);
    map_fini(&s->by_id);
    map_fini(&s->by_name);
    free(s->sorted);
    buf_fini(&s->resolv);
    if (s->fd >= 0)
        close(s->fd);
    if (s->base_fd >= 0)
        close(s->base_fd);
    if (s->etc_fd >= 0)
        close(s->etc_fd);
    free(s->dir);
}

struct closing {
    struct containers *containers;
    void (*closed)(void *ctx);
    void *ctx;
};

static void close_done(void *ctx)
{
    struct closing *closing = ctx;

    free(closing->containers);
    if (closing->closed)
        closing->closed(closing->ctx);
    free(closing);
}

static void close_sweep(void *ctx)
{
    struct closing *closing = ctx;

    if (closing->containers->sweep)
        sweep_close(closing->containers->sweep, close_done, closing);
    else
        close_done(closing);
}

void containers_close(struct containers *s, void (*closed)(void *ctx), void *ctx)
{
    struct err canceled = {ERR_CANCELED, "the engine is closing"};
    struct closing *closing = mem_alloc(sizeof(*closing));
    struct container *c;

    *closing = (struct closing){s, closed, ctx};
    list_each (c, &s->all, link) {
        container_ops_end(&c->starts, &canceled);
        container_ops_end(&c->stops, &canceled);
        container_ops_end(&c->removals, &canceled);
        while (!list_empty(&c->waits))
            container_unwait(list_first(&c->waits, struct container_wait, link));
        if (c->launch)
            launch_abandon(c->launch);
        c->launch = NULL;
        save_at_close(c);
    }
    free_containers(s);
    if (s->records)
        records_close(s->records, close_sweep, closing);
    else
        close_sweep(closing);
}

int containers_open(struct engine *en, struct containers **ret, struct err *e)
{
    struct containers *s = mem_alloc(sizeof(*s));
    struct records_scan scan = {.ctx = s, .on_record = open_on_record, .on_problem = open_on_problem};

    s->en = en;
    s->fd = s->base_fd = s->etc_fd = -1;
    s->dir = mem_printf("%s/containers", en->config.data_dir);
    list_init(&s->all);
    list_init(&s->populating);
    AUTO_FREE
    char *records = mem_printf("%s/.records", s->dir);
    AUTO_FREE
    char *trash = mem_printf("%s/.trash", s->dir);
    en->containers = s; /* what is found is added through the engine */
    int rc = dir_make(s->dir, 0700, e);
    if (rc == 0)
        rc = dir_open(s->dir, &s->fd, e);
    if (rc == 0)
        rc = base_layer_open(s->fd, ".base", &s->base_fd, e);
    if (rc == 0)
        rc = sweep_open(en->loop, trash, &s->sweep, e);
    if (rc == 0)
        rc = records_open(en->loop, records, &format, &s->records, e);
    if (rc == 0) {
        records_set_delay(s->records, ENGINE_SETTLE_MS - SAVE_SOON_MS);
        rc = records_scan(s->records, &scan, e);
    }
    if (rc == 0)
        rc = open_strays(s, e);
    if (rc == 0)
        rc = etc_open(s, e);
    if (rc < 0) {
        containers_close(s, NULL, NULL);
        en->containers = NULL;
        return err_wrap(e, "containers");
    }
    *ret = s;
    return 0;
}
