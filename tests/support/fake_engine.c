/* See fake_engine.h. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/convert.h"
#include "proto/base/buf.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"
#include "tests/support/fake_engine.h"

#define PENDING_MAX 64
#define FAILS_MAX   8

struct pending {
    const char *what;
    char id[65];
    struct err error; /* how it will end */
    engine_done *done;
    void *ctx;
    struct engine_pull *pull;
};

struct engine_pull {
    struct engine *engine;
    char ref[64];
};

struct engine_log {
    struct list link;
    struct engine *engine;
    struct engine_log_options options;
    struct engine_log_events events;
};

struct engine {
    uv_loop_t *loop;
    struct fake_world *world;
    ContainerRecord *records[FAKE_CONTAINERS_MAX]; /* unpacked ones, by place; owned */
    ContainerRecord *old[1024];                    /* replaced, but maybe still looked at */
    size_t old_count;
    struct list watches;
    struct pending pending[PENDING_MAX];
    size_t pending_count;
    struct {
        const char *what;
        struct err error;
        unsigned times;
    } fails[FAILS_MAX];
    void (*on_effect)(void *ctx);
    void *effect_ctx;
    unsigned canceled;
    char auth[128];
    int64_t grace_ms;
    struct list logs; /* newest first */
    bool resumed;
    struct engine_log_options log_options;
    unsigned requests, events;
    char path[256];
    int held; /* by engine_hold; -1: nothing */
};

/* --- records --------------------------------------------------------------------------------------- */

static void effect(struct engine *en)
{
    if (en->on_effect)
        en->on_effect(en->effect_ctx);
}

static void forget_old(struct engine *en)
{
    while (en->old_count)
        message_free(en->old[--en->old_count]);
}

static void drop_record(struct engine *en, size_t at)
{
    if (!en->records[at])
        return;
    assert(en->old_count < ARRAY_SIZE(en->old));
    en->old[en->old_count++] = en->records[at];
    en->records[at] = NULL;
}

static ContainerRecord *record_at(struct engine *en, size_t at)
{
    const struct fake_world *w = en->world;

    if (!w->containers[at].size)
        return NULL;
    if (!en->records[at])
        en->records[at] = container_record__unpack(NULL, w->containers[at].size, w->containers[at].packed);
    assert(en->records[at]);
    return en->records[at];
}

static void store(struct engine *en, size_t at, const ContainerRecord *record)
{
    size_t size = container_record__get_packed_size(record);

    assert(size <= sizeof(en->world->containers[at].packed));
    container_record__pack(record, en->world->containers[at].packed);
    en->world->containers[at].size = (uint32_t)size; /* one store: a record is there or not */
    drop_record(en, at);
}

static int place_of(struct engine *en, const char *id)
{
    for (size_t i = 0; i < FAKE_CONTAINERS_MAX; i++)
        if (record_at(en, i) && strcmp(en->records[i]->id, id) == 0)
            return (int)i;
    return -1;
}

static const char *label_of(const ContainerRecord *record, const char *key)
{
    for (size_t i = 0; i < record->config->n_labels; i++)
        if (strcmp(record->config->labels[i]->key, key) == 0)
            return record->config->labels[i]->value;
    return NULL;
}

static void tell(struct engine *en, enum engine_change what, const ContainerRecord *record)
{
    struct engine_watch *w, *after;

    list_each_safe (w, after, &en->watches, link)
        w->on_change(w->ctx, what, record);
}

static void change_state(struct engine *en, size_t at, enum engine_change what, ContainerStatusKind status,
                         int exit_code)
{
    ContainerRecord *record = message_dup(record_at(en, at));
    ContainerState *state = record->state;

    effect(en);
    state->status = status;
    state->has_pid = true;
    state->pid = status == CONTAINER_STATUS_KIND__ALIVE ? 4711 : 0;
    state->has_exit_code = status == CONTAINER_STATUS_KIND__EXITED;
    state->exit_code = exit_code;
    state->has_oom_killed = true;
    state->oom_killed = what == ENGINE_OOM;
    store(en, at, record);
    message_free(record);
    if (what == ENGINE_STARTED) {
        struct fake_world *w = en->world;
        const char *task = label_of(record_at(en, at), CONVERT_LABEL_TASK);

        assert(w->start_count < FAKE_STARTS_MAX);
        (void)snprintf(w->started[w->start_count], sizeof(w->started[0]), "%s", task ? task : ""); /* an id */
        w->start_count++;
    }
    effect(en);
    tell(en, what == ENGINE_OOM ? ENGINE_DIED : what, record_at(en, at));
}

static void remove_place(struct engine *en, size_t at)
{
    const ContainerRecord *record = record_at(en, at);

    effect(en);
    en->world->containers[at].size = 0;
    drop_record(en, at);
    effect(en);
    tell(en, ENGINE_REMOVED, record); /* among the old ones: still there */
}

/* --- operations under way -------------------------------------------------------------------------- */

static struct err next_failure(struct engine *en, const char *what)
{
    for (size_t i = 0; i < FAILS_MAX; i++)
        if (en->fails[i].times && strcmp(en->fails[i].what, what) == 0) {
            en->fails[i].times--;
            return en->fails[i].error;
        }
    return (struct err){0};
}

static struct pending *pend(struct engine *en, const char *what, const char *id, engine_done *done, void *ctx)
{
    struct pending *p = &en->pending[en->pending_count];

    assert(en->pending_count < PENDING_MAX);
    en->pending_count++;
    *p = (struct pending){.what = what, .done = done, .ctx = ctx, .error = next_failure(en, what)};
    (void)snprintf(p->id, sizeof(p->id), "%s", id); /* an id, or a short name */
    return p;
}

static void carry_out(struct engine *en, struct pending *p)
{
    int at = place_of(en, p->id);

    if (strcmp(p->what, "pull") == 0) {
        effect(en);
        fake_world_add_image(en->world, p->pull->ref);
        effect(en);
    } else if (at < 0) {
        err_set(&p->error, ERR_NOT_FOUND, "No such container: %s", p->id);
    } else if (strcmp(p->what, "start") == 0) {
        if (record_at(en, (size_t)at)->state->status == CONTAINER_STATUS_KIND__ALIVE)
            err_set(&p->error, ERR_NOT_MODIFIED, "it runs already");
        else
            change_state(en, (size_t)at, ENGINE_STARTED, CONTAINER_STATUS_KIND__ALIVE, 0);
    } else if (strcmp(p->what, "stop") == 0) {
        if (record_at(en, (size_t)at)->state->status != CONTAINER_STATUS_KIND__ALIVE)
            err_set(&p->error, ERR_NOT_MODIFIED, "it does not run");
        else
            change_state(en, (size_t)at, ENGINE_DIED, CONTAINER_STATUS_KIND__EXITED, 143);
    } else {
        remove_place(en, (size_t)at);
    }
}

void fake_engine_end(struct engine *en, size_t at)
{
    struct pending p = en->pending[at];

    assert(at < en->pending_count);
    forget_old(en);
    memmove(&en->pending[at], &en->pending[at + 1], (en->pending_count - at - 1) * sizeof(p));
    en->pending_count--;
    if (p.error.code == 0)
        carry_out(en, &p);
    free(p.pull);
    p.done(p.ctx, &p.error);
}

void fake_engine_end_all(struct engine *en)
{
    for (unsigned i = 0; en->pending_count; i++) {
        assert(i < 10000); /* else it never ends */
        fake_engine_end(en, 0);
    }
}

size_t fake_engine_pending(const struct engine *en)
{
    return en->pending_count;
}

const char *fake_engine_what(const struct engine *en, size_t at)
{
    return en->pending[at].what;
}

void fake_engine_fail(struct engine *en, const char *what, int code, const char *text, unsigned times)
{
    for (size_t i = 0; i < FAILS_MAX; i++)
        if (!en->fails[i].times) {
            en->fails[i].what = what;
            en->fails[i].times = times;
            err_set(&en->fails[i].error, code, "%s", text);
            return;
        }
    abort();
}

/* --- the door -------------------------------------------------------------------------------------- */

struct engine *fake_engine_new(uv_loop_t *loop, struct fake_world *world)
{
    struct engine *en = mem_alloc(sizeof(*en));

    en->loop = loop;
    en->world = world;
    list_init(&en->watches);
    list_init(&en->logs);
    en->held = -1;
    return en;
}

void fake_engine_free(struct engine *en)
{
    for (size_t i = 0; i < en->pending_count; i++)
        err_set(&en->pending[i].error, ERR_CANCELED, "the engine is closed");
    fake_engine_end_all(en);
    assert(list_empty(&en->watches) && list_empty(&en->logs));
    for (size_t i = 0; i < FAKE_CONTAINERS_MAX; i++)
        message_free(en->records[i]);
    forget_old(en);
    free(en);
}

void fake_engine_on_effect(struct engine *en, void (*on_effect)(void *ctx), void *ctx)
{
    en->on_effect = on_effect;
    en->effect_ctx = ctx;
}

const ContainerRecord *engine_find(struct engine *en, const char *ref, struct err *e)
{
    int at = place_of(en, ref);

    if (at >= 0)
        return record_at(en, (size_t)at);
    err_set(e, ERR_NOT_FOUND, "No such container: %s", ref);
    return NULL;
}

bool engine_next(struct engine *en, size_t *at, const ContainerRecord **ret)
{
    while (*at < FAKE_CONTAINERS_MAX)
        if ((*ret = record_at(en, (*at)++)))
            return true;
    return false;
}

int engine_create(struct engine *en, const char *name, const ContainerConfig *config, struct arena *a,
                  const char **ret_id, char ***ret_warnings, struct err *e)
{
    ContainerRecord record = CONTAINER_RECORD__INIT;
    ContainerState state = CONTAINER_STATE__INIT;
    struct err fails = next_failure(en, "create");
    char id[65];

    if (fails.code) {
        *e = fails;
        return e->code;
    }
    for (size_t i = 0; i < FAKE_CONTAINERS_MAX; i++) {
        if (en->world->containers[i].size)
            continue;
        effect(en);
        (void)snprintf(id, sizeof(id), "%064u", ++en->world->next_id); /* fits */
        record.id = id;
        record.name = (char *)name;
        record.config = (ContainerConfig *)config;
        record.image_id = (char *)"sha256:0";
        record.state = &state;
        state.status = CONTAINER_STATUS_KIND__CREATED;
        store(en, i, &record);
        effect(en);
        *ret_id = record_at(en, i)->id;
        tell(en, ENGINE_CREATED, record_at(en, i));
        return 0;
    }
    return err_set(e, ERR_LIMIT, "the fake engine is full");
}

int engine_start(struct engine *en, const char *ref, engine_done *done, void *ctx, struct err *e)
{
    (void)pend(en, "start", ref, done, ctx);
    return 0;
}

int engine_stop(struct engine *en, const char *ref, const char *signal, int64_t grace_ms, engine_done *done,
                void *ctx, struct err *e)
{
    en->grace_ms = grace_ms;
    (void)pend(en, "stop", ref, done, ctx);
    return 0;
}

int engine_remove(struct engine *en, const char *ref, bool force, bool volumes, engine_done *done, void *ctx,
                  struct err *e)
{
    (void)pend(en, "remove", ref, done, ctx);
    return 0;
}

void engine_watch(struct engine *en, struct engine_watch *w)
{
    list_push(&en->watches, &w->link);
}

void engine_unwatch(struct engine_watch *w)
{
    list_remove(&w->link);
}

const char *engine_image(struct engine *en, const char *ref)
{
    for (size_t i = 0; i < FAKE_IMAGES_MAX; i++)
        if (strcmp(en->world->images[i], ref) == 0)
            return "sha256:0";
    return NULL;
}

int engine_pull(struct engine *en, const char *ref, const char *auth, engine_done *done, void *ctx,
                struct engine_pull **ret, struct err *e)
{
    struct pending *p = pend(en, "pull", ref, done, ctx);

    p->pull = mem_alloc(sizeof(*p->pull));
    p->pull->engine = en;
    (void)snprintf(p->pull->ref, sizeof(p->pull->ref), "%s", ref); /* tests use short ones */
    (void)snprintf(en->auth, sizeof(en->auth), "%s", auth ? auth : "");
    *ret = p->pull;
    return 0;
}

void engine_pull_cancel(struct engine_pull *pull)
{
    struct engine *en = pull->engine;

    en->canceled++;
    for (size_t i = 0; i < en->pending_count; i++)
        if (en->pending[i].pull == pull)
            err_set(&en->pending[i].error, ERR_CANCELED, "canceled");
}

NodeDescription *engine_describe(struct engine *en, struct arena *a)
{
    NodeDescription *d = ARENA_NEW(a, NodeDescription);

    node_description__init(d);
    d->hostname = (char *)"fake";
    return d;
}

void engine_hold(struct engine *en, int fd)
{
    en->held = fd;
}

int fake_engine_held(const struct engine *en)
{
    return en->held;
}

void engine_swarm_event(struct engine *en, const char *type, const char *action, const char *id,
                        const char *const *pairs, size_t count)
{
    assert(count <= ENGINE_EVENT_PAIRS);
    for (size_t i = 0; i < 2 * count; i++)
        assert(pairs[i]);
    en->events++;
}

bool engine_http(struct engine *en, struct http_exchange *x, const char *path, unsigned api_minor)
{
    AUTO_BUF struct buf body = {0};

    if (strncmp(path, "/containers", 11) != 0 && strncmp(path, "/networks", 9) != 0 && strcmp(path, "/_ping") != 0)
        return false;
    en->requests++;
    (void)snprintf(en->path, sizeof(en->path), "%s", path); /* tests use short ones */
    buf_printf(&body, "\"engine 1.%u\"", api_minor);
    http_reply_json(x, 200, &body);
    return true;
}

/* --- the world ------------------------------------------------------------------------------------- */

void fake_world_add_image(struct fake_world *w, const char *ref)
{
    for (size_t i = 0; i < FAKE_IMAGES_MAX; i++) {
        if (*w->images[i] && strcmp(w->images[i], ref) != 0)
            continue;
        (void)snprintf(w->images[i], sizeof(w->images[i]), "%s", ref); /* tests use short ones */
        return;
    }
    abort();
}

unsigned fake_world_count(const struct fake_world *w)
{
    unsigned count = 0;

    for (size_t i = 0; i < FAKE_CONTAINERS_MAX; i++)
        count += w->containers[i].size != 0;
    return count;
}

unsigned fake_world_starts(const struct fake_world *w, const char *task_id)
{
    unsigned count = 0;

    for (uint32_t i = 0; i < w->start_count; i++)
        count += strcmp(w->started[i], task_id) == 0;
    return count;
}

static int place_of_task(struct engine *en, const char *task_id)
{
    for (size_t i = 0; i < FAKE_CONTAINERS_MAX; i++) {
        const ContainerRecord *record = record_at(en, i);
        const char *task = record ? label_of(record, CONVERT_LABEL_TASK) : NULL;

        if (task && strcmp(task, task_id) == 0)
            return (int)i;
    }
    return -1;
}

const ContainerRecord *fake_engine_of(struct engine *en, const char *task_id)
{
    int at = place_of_task(en, task_id);

    return at < 0 ? NULL : record_at(en, (size_t)at);
}

bool fake_engine_alive(struct engine *en, const char *task_id)
{
    const ContainerRecord *record = fake_engine_of(en, task_id);

    return record && record->state->status == CONTAINER_STATUS_KIND__ALIVE;
}

void fake_engine_exit(struct engine *en, const char *task_id, int code)
{
    int at = place_of_task(en, task_id);

    assert(at >= 0);
    forget_old(en);
    change_state(en, (size_t)at, ENGINE_DIED, CONTAINER_STATUS_KIND__EXITED, code);
}

void fake_engine_oom(struct engine *en, const char *task_id)
{
    int at = place_of_task(en, task_id);

    assert(at >= 0);
    forget_old(en);
    change_state(en, (size_t)at, ENGINE_OOM, CONTAINER_STATUS_KIND__EXITED, 137);
}

void fake_engine_vanish(struct engine *en, const char *task_id)
{
    int at = place_of_task(en, task_id);

    assert(at >= 0);
    forget_old(en);
    remove_place(en, (size_t)at);
}

unsigned fake_engine_canceled(const struct engine *en)
{
    return en->canceled;
}

const char *fake_engine_auth(const struct engine *en)
{
    return en->auth;
}

int64_t fake_engine_grace_ms(const struct engine *en)
{
    return en->grace_ms;
}

/* --- logs ------------------------------------------------------------------------------------------ */

int engine_log_open(struct engine *en, const char *ref, const struct engine_log_options *options,
                    const struct engine_log_events *events, struct engine_log **ret, struct err *e)
{
    struct err fails = next_failure(en, "log");

    if (fails.code || !engine_find(en, ref, &fails)) {
        *e = fails;
        return e->code;
    }
    struct engine_log *l = mem_alloc(sizeof(*l));
    l->engine = en;
    l->options = en->log_options = *options;
    l->events = *events;
    list_push_front(&en->logs, &l->link);
    *ret = l;
    return 0;
}

void engine_log_resume(struct engine_log *l)
{
    l->engine->resumed = true;
}

void engine_log_close(struct engine_log *l)
{
    list_remove(&l->link);
    free(l);
}

unsigned fake_engine_readers(const struct engine *en)
{
    const struct list *at;
    unsigned count = 0;

    for (at = en->logs.next; at != &en->logs; at = at->next)
        count++;
    return count;
}

bool fake_engine_line(struct engine *en, const char *text)
{
    struct engine_log *l = list_first(&en->logs, struct engine_log, link);

    assert(l);
    return l->events.on_line(l->events.ctx, 1, 1, text, strlen(text));
}

void fake_engine_log_end(struct engine *en, const struct err *e)
{
    struct engine_log *l = list_first(&en->logs, struct engine_log, link);
    struct err none = {0};

    assert(l);
    list_remove(&l->link);
    l->events.on_end(l->events.ctx, e ? e : &none);
    free(l);
}

bool fake_engine_resumed(struct engine *en)
{
    bool resumed = en->resumed;

    en->resumed = false;
    return resumed;
}

const struct engine_log_options *fake_engine_log_options(const struct engine *en)
{
    return &en->log_options;
}

unsigned fake_engine_events(const struct engine *en)
{
    return en->events;
}

unsigned fake_engine_requests(const struct engine *en)
{
    return en->requests;
}

const char *fake_engine_path(const struct engine *en)
{
    return en->path;
}
