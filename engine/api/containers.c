/* The containers of the API but for their logs: see api.h and reference/engine-surface.md sections 2, 3 and 6. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/api/api.h"
#include "engine/api/attach.h"
#include "engine/api/container_list.h"
#include "engine/api/container_read.h"
#include "engine/api/container_show.h"
#include "engine/api/logs.h"
#include "engine/api/prune.h"
#include "engine/api/sizes.h"
#include "engine/container/container.h"
#include "proto/base/mem.h"

#define KILL_WAIT_MS 10000 /* SIGKILL answers when the container has ended, but not later */

/* The container of the route, or NULL when the error was answered. */
static struct container *named(struct api_call *c)
{
    struct container *container = NULL;
    struct err e = {0};

    if (container_find(c->en, c->name, &container, &e) < 0)
        api_error(c, &e);
    return container;
}

/* --- list and inspect ---------------------------------------------------------------------------- */

static struct show_sizes sizes_of(const struct container *container, int64_t bytes)
{
    struct image image;
    struct show_sizes sizes = {.layer = bytes};

    if (bytes >= 0 && image_find(container->en->images, container->record->image_id, &image, NULL) == 0)
        sizes.root = image.record->size_bytes + bytes;
    return sizes;
}

static void list_with_sizes(struct api_call *c, const struct sizes_entry *entries, size_t count)
{
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);
    struct container *container;

    jwrite_array(&j, NULL);
    for (size_t i = 0; i < count; i++) {
        if (container_find(c->en, entries[i].name, &container, NULL) < 0)
            continue; /* removed meanwhile */
        struct show_sizes sizes = sizes_of(container, entries[i].bytes);
        container_show_summary(container, &sizes, &j);
    }
    jwrite_end(&j);
    api_json(c, 200, &body);
}

static void list(struct api_call *c)
{
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);
    const struct container *container;
    struct sizes *sizes = NULL;
    struct selection s;
    int64_t limit = 0, count = 0;

    if (!selection_take(c, &s) || !api_int(c, "limit", &limit))
        return;
    s.all = s.all || limit > 0;
    if (http_query_bool(c->x, "size"))
        sizes = sizes_new(c);
    jwrite_array(&j, NULL);
    list_each (container, &c->en->containers->all, link) {
        if (!selection_holds(&s, container))
            continue;
        if (sizes)
            sizes_add_container(sizes, container->record->id);
        else
            container_show_summary(container, NULL, &j);
        if (++count == limit)
            break;
    }
    jwrite_end(&j);
    if (sizes)
        sizes_start(sizes, list_with_sizes);
    else
        api_json(c, 200, &body);
}

static void inspect_with_sizes(struct api_call *c, const struct sizes_entry *entries, size_t count)
{
    struct container *container = named(c);
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);

    if (!container)
        return;
    struct show_sizes sizes = sizes_of(container, entries[0].bytes);
    container_show_inspect(container, &sizes, &j);
    api_json(c, 200, &body);
}

static void inspect(struct api_call *c)
{
    struct container *container = named(c);
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);

    if (!container)
        return;
    if (http_query_bool(c->x, "size")) {
        struct sizes *sizes = sizes_new(c);

        sizes_add_container(sizes, container->record->id);
        sizes_start(sizes, inspect_with_sizes);
        return;
    }
    container_show_inspect(container, NULL, &j);
    api_json(c, 200, &body);
}

/* --- create -------------------------------------------------------------------------------------- */

/* Whether "os[/arch[/variant]]" describes the image; parts that are left out match. */
static bool platform_matches(const char *platform, const ImageConfig *image)
{
    const char *parts[] = {image->os, image->architecture, image->variant};

    for (size_t i = 0; i < ARRAY_SIZE(parts) && *platform; i++) {
        size_t length = strcspn(platform, "/");

        if (parts[i] && *parts[i] && (strlen(parts[i]) != length || strncmp(parts[i], platform, length) != 0))
            return false;
        platform += length;
        platform += *platform == '/';
    }
    return !*platform;
}

static int check_platform(struct api_call *c, const ContainerConfig *config, struct err *e)
{
    const char *platform = http_query(c->x, "platform");
    struct image image;

    if (!platform || !*platform || !config->image || image_find(c->en->images, config->image, &image, NULL) < 0)
        return 0;
    if (platform_matches(platform, image.config))
        return 0;
    return err_set(e, ERR_NOT_FOUND,
                   "image with reference %s was found but does not match the specified platform: wanted %.64s, "
                   "actual: %s/%s",
                   config->image, platform, image.config->os, image.config->architecture);
}

static void answer_created(struct api_call *c, const ContainerConfig *config)
{
    char **warnings = NULL;
    struct container *container;
    struct err e = {0};

    if (container_create(c->en, http_query(c->x, "name"), config, api_arena(c), &container, &warnings, &e) < 0) {
        api_error(c, &e);
        return;
    }
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);
    jwrite_object(&j, NULL);
    jwrite_string(&j, "Id", container->record->id);
    jwrite_array(&j, "Warnings");
    for (; warnings && *warnings; warnings++)
        jwrite_string(&j, NULL, *warnings);
    jwrite_end(&j);
    jwrite_end(&j);
    api_json(c, 201, &body);
}

struct sources { /* of bind mounts that must exist: looked at in the pool, for they may lie on anything */
    uv_work_t work;
    struct api_call *call; /* held */
    ContainerConfig *config;
    char **paths; /* owned, as are the texts */
    size_t count;
    const char *missing; /* the first one */
};

static void sources_look(uv_work_t *work)
{
    struct sources *s = work->data;

    for (size_t i = 0; i < s->count && !s->missing; i++)
        if (access(s->paths[i], F_OK) < 0 && errno == ENOENT)
            s->missing = s->paths[i];
}

static void sources_seen(uv_work_t *work, int status)
{
    struct sources *s = work->data;
    struct api_call *c = s->call;
    struct err e;

    if (c->x && s->missing) {
        err_set(&e, ERR_INVALID, "invalid mount config for type \"bind\": bind source path does not exist: %s",
                s->missing);
        api_error(c, &e);
    } else if (c->x && !c->en->closing) {
        answer_created(c, s->config);
    }
    for (size_t i = 0; i < s->count; i++)
        free(s->paths[i]);
    free(s->paths);
    free(s);
    api_release(c);
}

static bool must_exist(const Mount *m)
{
    return m->type == MOUNT_TYPE__BIND && !m->create_mountpoint && m->source && *m->source == '/';
}

static void create(struct api_call *c)
{
    ContainerConfig *config;
    struct err e = {0};
    int rc = container_read(c->body, c->minor, api_arena(c), &config, &e);

    if (rc == 0)
        rc = check_platform(c, config, &e);
    if (rc < 0) {
        api_error(c, &e);
        return;
    }
    struct sources *s = mem_alloc(sizeof(*s));
    s->work.data = s;
    s->call = c;
    s->config = config;
    s->paths = mem_array(config->host->n_mounts, sizeof(*s->paths));
    for (size_t i = 0; i < config->host->n_mounts; i++)
        if (must_exist(config->host->mounts[i]))
            s->paths[s->count++] = mem_strdup(config->host->mounts[i]->source);
    api_hold(c);
    if (!s->count)
        sources_seen(&s->work, 0);
    else if (uv_queue_work(c->en->loop, &s->work, sources_look, sources_seen) < 0)
        abort(); /* only for a missing callback */
}

/* --- what takes a while -------------------------------------------------------------------------- */

static void done_empty(void *ctx, const struct err *e)
{
    struct api_call *c = ctx;

    if (e->code)
        api_error(c, e);
    else
        api_empty(c, 204);
    api_release(c);
}

/* After the operation was asked for: its end answers, or its refusal does now. */
static void answer_later(struct api_call *c, int rc, const struct err *e)
{
    if (rc == 0)
        return;
    api_error(c, e);
    api_release(c);
}

static void start(struct api_call *c)
{
    struct container *container = named(c);
    const char *checkpoint = container ? http_query(c->x, "checkpoint") : NULL;
    struct err e = {0};

    if (!container)
        return;
    if (checkpoint && *checkpoint) {
        api_absent(c, "starting from a checkpoint");
        return;
    }
    api_hold(c);
    answer_later(c, container_start(container, done_empty, c, &e), &e);
}

/* `t` in seconds: absent is the container's own, -1 is for ever. */
static bool take_grace(struct api_call *c, int64_t *ret_ms)
{
    int64_t seconds = INT64_MIN;

    if (!api_int(c, "t", &seconds))
        return false;
    if (seconds == INT64_MIN)
        *ret_ms = ENGINE_GRACE_OWN;
    else
        *ret_ms = seconds < 0 ? -1 : MIN(seconds, (int64_t)1000000000) * 1000;
    return true;
}

static void stop_or_restart(struct api_call *c,
                            int (*act)(struct container *container, const char *signal, int64_t grace_ms,
                                       engine_done *done, void *ctx, struct err *e))
{
    struct container *container = named(c);
    int64_t grace_ms;
    struct err e = {0};

    if (!container || !take_grace(c, &grace_ms))
        return;
    api_hold(c);
    answer_later(c, act(container, http_query(c->x, "signal"), grace_ms, done_empty, c, &e), &e);
}

static void stop(struct api_call *c)
{
    stop_or_restart(c, container_stop);
}

static void restart(struct api_call *c)
{
    struct container *container = named(c);

    if (container && container->life == LIFE_RUNNING && container->record->state->paused)
        (void)container_pause(container, false, NULL); /* what is frozen cannot stop; the stop tells */
    if (container)
        stop_or_restart(c, container_restart);
}

static void delete (struct api_call *c)
{
    struct container *container = named(c);
    struct err e = {0};

    if (!container)
        return;
    if (http_query_bool(c->x, "link")) {
        api_absent(c, "removing a link");
        return;
    }
    api_hold(c);
    answer_later(
        c,
        container_remove(container, http_query_bool(c->x, "force"), http_query_bool(c->x, "v"), done_empty, c, &e),
        &e);
}

/* --- kill ---------------------------------------------------------------------------------------- */

struct kill_wait {         /* until a container that was sent SIGKILL has ended */
    struct api_call *call; /* held */
    struct container_wait wait;
    struct alarm alarm;
};

static void kill_answer(struct kill_wait *k)
{
    struct api_call *c = k->call;

    container_unwait(&k->wait);
    alarm_clear(&k->alarm);
    c->on_left = NULL;
    api_empty(c, 204);
    free(k);
    api_release(c);
}

static void kill_ended(struct container_wait *w)
{
    kill_answer(container_of(w, struct kill_wait, wait));
}

static void kill_timed_out(struct alarm *m)
{
    kill_answer(container_of(m, struct kill_wait, alarm));
}

static void kill_left(struct api_call *c)
{
    kill_answer(c->state);
}

static void kill_container(struct api_call *c)
{
    struct container *container = named(c);
    struct err e = {0};
    int number;

    if (!container)
        return;
    if (container_kill(container, http_query(c->x, "signal"), &number, &e) < 0) {
        api_error(c, &e);
        return;
    }
    if (number != SIGKILL || !container_is_running(container)) {
        api_empty(c, 204);
        return;
    }
    struct kill_wait *k = mem_alloc(sizeof(*k));
    k->call = c;
    k->wait.done = kill_ended;
    alarm_init(&k->alarm);
    api_hold(c);
    c->state = k;
    c->on_left = kill_left;
    alarm_set(&c->en->alarms, &k->alarm, KILL_WAIT_MS, kill_timed_out);
    container_wait(container, &k->wait, WAIT_NEXT_EXIT);
}

/* --- wait ---------------------------------------------------------------------------------------- */

struct wait_call {
    struct api_call *call; /* held */
    struct container_wait wait;
};

static void wait_free(struct wait_call *w)
{
    struct api_call *c = w->call;

    free(w);
    api_release(c);
}

static void wait_left(struct api_call *c)
{
    struct wait_call *w = c->state;

    container_unwait(&w->wait);
    wait_free(w);
}

static void wait_done(struct container_wait *me)
{
    struct wait_call *w = container_of(me, struct wait_call, wait);
    struct api_call *c = w->call;
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);

    c->on_left = NULL;
    jwrite_object(&j, NULL);
    jwrite_int(&j, "StatusCode", me->code);
    if (me->error) {
        jwrite_object(&j, "Error");
        jwrite_string(&j, "Message", me->error);
        jwrite_end(&j);
    }
    jwrite_end(&j);
    buf_append_char(&body, '\n');
    (void)http_write(c->x, buf_bytes(&body), body.length); /* the end follows: nothing to hold back */
    http_stream_end(c->x);
    wait_free(w);
}

static bool take_condition(struct api_call *c, enum container_condition *ret)
{
    static const char *const names[] = {"not-running", "next-exit", "removed"};
    const char *text = http_query(c->x, "condition");
    struct err e;

    *ret = WAIT_NOT_RUNNING;
    if (!text || !*text)
        return true;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret = (enum container_condition)i;
            return true;
        }
    }
    err_set(&e, ERR_INVALID, "invalid condition: \"%.64s\"", text);
    api_error(c, &e);
    return false;
}

static void wait_container(struct api_call *c)
{
    struct container *container = named(c);
    enum container_condition condition;

    if (!container || !take_condition(c, &condition))
        return;
    struct wait_call *w = mem_alloc(sizeof(*w));
    w->call = c;
    w->wait.done = wait_done;
    api_hold(c);
    c->state = w;
    c->on_left = wait_left;
    /* The head goes out at once: `docker run` starts the container only when it knows that it is waited for. */
    http_stream(c->x, 200, "application/json", NULL);
    container_wait(container, &w->wait, condition);
}

/* --- small verbs --------------------------------------------------------------------------------- */

static void answer_now(struct api_call *c, int rc, const struct err *e)
{
    if (rc < 0)
        api_error(c, e);
    else
        api_empty(c, 204);
}

static void rename_container(struct api_call *c)
{
    struct container *container = named(c);
    const char *name = container ? http_query(c->x, "name") : NULL;
    struct err e = {0};

    if (container)
        answer_now(c, container_rename(container, name ? name : "", &e), &e);
}

static void pause_container(struct api_call *c)
{
    struct container *container = named(c);
    struct err e = {0};

    if (container)
        answer_now(c, container_pause(container, true, &e), &e);
}

static void unpause_container(struct api_call *c)
{
    struct container *container = named(c);
    struct err e = {0};

    if (container)
        answer_now(c, container_pause(container, false, &e), &e);
}

/* --- prune --------------------------------------------------------------------------------------- */

static void prune_measured(struct api_call *c, const struct sizes_entry *entries, size_t count)
{
    AUTO_BUF struct buf body = {0};
    struct jwrite j = JWRITE_TO(&body);
    struct container *container;
    int64_t reclaimed = 0;

    jwrite_object(&j, NULL);
    jwrite_array(&j, "ContainersDeleted");
    for (size_t i = 0; i < count; i++) {
        if (container_find(c->en, entries[i].name, &container, NULL) < 0 ||
            container_remove(container, false, false, NULL, NULL, NULL) < 0)
            continue; /* gone or started meanwhile */
        jwrite_string(&j, NULL, entries[i].name);
        reclaimed += MAX(entries[i].bytes, (int64_t)0);
    }
    jwrite_end(&j);
    jwrite_int(&j, "SpaceReclaimed", reclaimed);
    jwrite_end(&j);
    prune_event(c->en, "container", reclaimed);
    api_json(c, 200, &body);
}

static void prune(struct api_call *c)
{
    const struct container *container;
    struct prune p;

    if (!prune_take(c, &p))
        return;
    struct sizes *sizes = sizes_new(c);
    list_each (container, &c->en->containers->all, link)
        if ((container->life == LIFE_CREATED || container->life == LIFE_ENDED) &&
            prune_holds(&p, container->record->created_ns, container->record->config->labels,
                        container->record->config->n_labels))
            sizes_add_container(sizes, container->record->id);
    sizes_start(sizes, prune_measured);
}

const struct api_route api_container_routes[] = {
    {"GET", "/containers/json", list, API_BODY_NONE, false},
    {"POST", "/containers/create", create, API_BODY_REQUIRED, false},
    {"POST", "/containers/prune", prune, API_BODY_NONE, false},
    {"GET", "/containers/*/json", inspect, API_BODY_NONE, false},
    {"POST", "/containers/*/start", start, API_BODY_NONE, false},
    {"POST", "/containers/*/stop", stop, API_BODY_NONE, false},
    {"POST", "/containers/*/restart", restart, API_BODY_NONE, false},
    {"POST", "/containers/*/kill", kill_container, API_BODY_NONE, false},
    {"POST", "/containers/*/wait", wait_container, API_BODY_NONE, false},
    {"POST", "/containers/*/rename", rename_container, API_BODY_NONE, false},
    {"POST", "/containers/*/pause", pause_container, API_BODY_NONE, false},
    {"POST", "/containers/*/unpause", unpause_container, API_BODY_NONE, false},
    {"GET", "/containers/*/logs", api_logs, API_BODY_NONE, false},
    {"POST", "/containers/*/attach", api_attach, API_BODY_NONE, false},
    {"POST", "/containers/*/resize", api_resize, API_BODY_NONE, false},
    {"DELETE", "/containers/*", delete, API_BODY_NONE, false},
    {0},
};
