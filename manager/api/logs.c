/* See logs.h.
 *
 * A log ask has sources, one per task, each a log of the dispatcher (dispatcher.h) that comes from the task's node
 * as fast as it likes until too much waits here: then all of its sources are paused, until the client has taken a
 * page. Lines become frames here, because what is sent is what was received with a few bytes before it.
 *
 * A log that is not followed ends when its last source has; what could not be read is said at the end, as Docker
 * says it. One that is followed gets a source for each task as soon as its container has started, and one anew when
 * its node was away: from the last line on that came. It ends with its task, or with its service.
 *
 *     follow: waiting --started--> open --ended--> done
 *                                   ^  | node away
 *                                   +--+ after a second */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/api/asks.h"
#include "manager/api/logs.h"
#include "manager/api/resolve.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"

#define WAITING_MOST  (256 * 1024) /* bytes for a client that reads slowly, until its nodes are paused */
#define OPEN_MOST     64           /* sources at once, of an ask that does not follow */
#define FOLLOWED_MOST 512          /* of one that does */
#define ALL_MOST      512          /* of all asks, but for one each: each may hold back the credit of a stream */
#define REASONS_MOST  8
#define RETRY_MS      1000

struct log_args {
    bool follow, details, timestamps, standard_out, standard_error;
    int64_t since_ns, until_ns;
    int64_t tail; /* lines of each task; -1: all */
};

struct log_work {     /* of one ask */
    struct list link; /* hub->following */
    struct ask *ask;
    uint64_t service;     /* number; 0: one task's log */
    struct list waiting;  /* of source, not yet opened */
    struct list open;     /* of source */
    struct map64 sources; /* by number of task, also those that are done */
    unsigned open_count;
    struct log_form form;
    struct buf out;
    bool paused;
    bool is_last;       /* nothing can come any more, once the sources have ended */
    struct buf reasons; /* why something could not be read */
    unsigned reason_count;
};

struct source {       /* one task's log */
    struct list link; /* work->waiting, work->open, or nowhere: done */
    struct log_work *work;
    uint64_t task;
    struct dispatcher_log *log; /* while it is open */
    int64_t last_ns;            /* time of the last line */
    int64_t retry_ms;           /* waiting: not before; 0: at once */
    char *details;              /* owned */
};

struct logs_hub {
    struct asks *asks;
    struct list following; /* of log_work */
    struct control_watch watch;
    uint64_t fed;        /* index up to which changes were looked at */
    unsigned open_count; /* sources of all asks */
};

static int64_t now_ms(const struct ask *k)
{
    return clock_mono_ms(asks_config(k->asks)->clock);
}

/* --- reading the request --------------------------------------------------------------------------------- */

static int take_time(const struct ask *k, const char *key, int64_t *ret, struct err *e)
{
    const char *text = ask_query(k, key);

    if (!text || !*text || filter_time(text, clock_wall_ms(clock_real()) * 1000000, ret))
        return 0;
    return err_set(e, ERR_INVALID, "invalid value for \"%s\": \"%.64s\"", key, text);
}

int logs_prepare(struct ask *k, struct err *e)
{
    struct log_args *args = k->args = ARENA_NEW(&k->arena, struct log_args);
    const char *tail = ask_query(k, "tail");
    char *end = NULL;

    args->follow = ask_query_bool(k, "follow");
    args->details = ask_query_bool(k, "details");
    args->timestamps = ask_query_bool(k, "timestamps");
    args->standard_out = ask_query_bool(k, "stdout");
    args->standard_error = ask_query_bool(k, "stderr");
    args->tail = -1;
    if (!args->standard_out && !args->standard_error)
        return err_set(e, ERR_INVALID, "Bad parameters: you must choose at least one stream");
    if (tail && *tail && strcmp(tail, "all") != 0) {
        args->tail = strtoll(tail, &end, 10);
        if (*end || args->tail < 0)
            return err_set(e, ERR_INVALID, "invalid value for \"tail\": \"%.64s\"", tail);
    }
    int rc = take_time(k, "since", &args->since_ns, e);
    return rc < 0 ? rc : take_time(k, "until", &args->until_ns, e);
}

/* --- pages ------------------------------------------------------------------------------------------------- */

static bool is_over(const struct log_work *w)
{
    return w->is_last && list_empty(&w->open) && list_empty(&w->waiting);
}

static void pause_sources(struct log_work *w, bool paused)
{
    struct source *s;

    w->paused = paused;
    list_each (s, &w->open, link)
        dispatcher_log_pause(s->log, paused);
}

/* Why something is missing, in Docker's words; clients end on it with an error. */
static void put_warning(struct log_work *w)
{
    AUTO_BUF struct buf text = {0};

    buf_printf(
        &text,
        "Error grabbing logs: rpc error: code = Unknown desc = warning: incomplete log stream. some logs could "
        "not be retrieved for the following reasons: %s\n",
        buf_str(&w->reasons));
    log_form_text(&w->out, &w->form, buf_str(&text));
    w->reason_count = 0;
}

static void send_page(struct ask *k)
{
    struct log_work *w = k->work;

    if (is_over(w) && w->reason_count)
        put_warning(w);
    buf_fini(&k->page.bytes);
    k->page.bytes = w->out;
    w->out = (struct buf){0};
    k->page.more = !is_over(w);
    if (w->paused)
        pause_sources(w, false);
    ask_page(k); /* may free w */
}

static void page_soon(struct log_work *w)
{
    if (ask_is_due(w->ask) && (w->out.length || is_over(w)))
        ask_step_soon(w->ask);
}

static void on_more(struct ask *k)
{
    page_soon(k->work);
}

/* --- sources ----------------------------------------------------------------------------------------------- */

static void open_sources(struct log_work *w);

static void count_open(struct log_work *w, int change)
{
    w->open_count += (unsigned)change;
    asks_logs(w->ask->asks)->open_count += (unsigned)change;
}

static void note_reason(struct log_work *w, const struct err *e)
{
    if (w->reason_count < REASONS_MOST && (!w->reason_count || !strstr(buf_str(&w->reasons), e->text)))
        buf_printf(&w->reasons, "%s%s", w->reason_count++ ? ", " : "", e->text);
}

static void on_lines(void *ctx, const LogChunk *chunk)
{
    struct source *s = ctx;
    struct log_work *w = s->work;

    w->form.details = s->details;
    for (size_t i = 0; i < chunk->n_lines; i++) {
        log_form_line(&w->out, &w->form, chunk->lines[i]);
        s->last_ns = MAX(s->last_ns, chunk->lines[i]->time_ns);
    }
    if (!w->paused && w->out.length >= WAITING_MOST)
        pause_sources(w, true);
    page_soon(w);
}

/* The node will come back, and its container with it. */
static bool will_come_back(const struct source *s, const struct err *e)
{
    const struct log_args *args = s->work->ask->args;
    const struct index_task *t = index_task(control_index(asks_config(s->work->ask->asks)->control), s->task);

    return args->follow && t && !index_task_ended(t) &&
           (e->code == ERR_UNAVAILABLE || e->code == ERR_CLOSED || e->code == ERR_CANCELED ||
            e->code == ERR_TIMEOUT);
}

static void on_log_end(void *ctx, const struct err *e)
{
    struct source *s = ctx;
    struct log_work *w = s->work;

    s->log = NULL;
    count_open(w, -1);
    list_remove(&s->link);
    if (e->code && will_come_back(s, e)) {
        s->retry_ms = now_ms(w->ask) + RETRY_MS;
        list_push(&w->waiting, &s->link);
    } else if (e->code && e->code != ERR_NOT_FOUND) { /* without a container there is nothing to be read */
        note_reason(w, e);
    }
    open_sources(w);
    page_soon(w);
}

static char *details_of(const struct index_task *t)
{
    const struct index_node *n = index_task_node(t);
    char service[IDENT_TEXT + 1], task[IDENT_TEXT + 1];

    ident_format(index_task_service(t)->id, service);
    ident_format(t->id, task);
    return mem_printf("com.docker.swarm.node.id=%s,com.docker.swarm.service.id=%s,com.docker.swarm.task.id=%s",
                      n ? n->id_text : "", service, task);
}

static void open_source(struct source *s)
{
    static const struct dispatcher_log_events base = {.on_lines = on_lines, .on_end = on_log_end};
    struct log_work *w = s->work;
    const struct log_args *args = w->ask->args;
    struct dispatcher_log_events events = base;
    LogRequest request = LOG_REQUEST__INIT;

    request.has_follow = request.has_standard_out = request.has_standard_error = true;
    request.follow = args->follow;
    request.standard_out = args->standard_out;
    request.standard_error = args->standard_error;
    request.since_ns = s->last_ns ? s->last_ns + 1 : args->since_ns;
    request.has_since_ns = request.since_ns != 0;
    request.until_ns = args->until_ns;
    request.has_until_ns = request.until_ns != 0;
    request.has_tail = args->tail >= 0 && !s->last_ns;
    request.tail = args->tail;
    events.ctx = s;
    list_remove(&s->link);
    list_push(&w->open, &s->link);
    count_open(w, 1);
    s->log = dispatcher_log_open(asks_config(w->ask->asks)->dispatcher, s->task, &request, &events);
    if (w->paused)
        dispatcher_log_pause(s->log, true);
}

static void open_sources(struct log_work *w)
{
    const struct log_args *args = w->ask->args;
    const struct logs_hub *hub = asks_logs(w->ask->asks);
    unsigned most = args->follow ? FOLLOWED_MOST : OPEN_MOST;
    int64_t now = now_ms(w->ask);
    struct source *s, *after;

    list_each_safe (s, after, &w->waiting, link) {
        bool may = w->open_count < most && (hub->open_count < ALL_MOST || !w->open_count);

        if (!may && !args->follow)
            break; /* its own that end make room */
        if (s->retry_ms > now)
            continue;
        if (may)
            open_source(s);
        else
            s->retry_ms = now + RETRY_MS;
    }
}

/* The container was started: before that it has no log. */
static bool has_begun(const struct index_task *t)
{
    return t->share && (t->state >= TASK_STATE__RUNNING || t->state == TASK_STATE__STARTING) &&
           t->state != TASK_STATE__REJECTED;
}

static void add_source(struct log_work *w, const struct index_task *t)
{
    const struct log_args *args = w->ask->args;

    if (map64_get(&w->sources, t->number) || !has_begun(t))
        return;
    struct source *s = mem_alloc(sizeof(*s));
    s->work = w;
    s->task = t->number;
    s->details = args->details ? details_of(t) : NULL;
    map64_put(&w->sources, s->task, s);
    list_push(&w->waiting, &s->link);
}

static void add_service(struct log_work *w)
{
    const struct index_service *s = index_service(control_index(asks_config(w->ask->asks)->control), w->service);
    struct index_walk walk = {0};
    const struct index_task *t;

    while (s && (t = index_service_next(s, &walk)))
        add_source(w, t);
    if (!s || !s->exists)
        w->is_last = true;
}

/* --- beginning and end ------------------------------------------------------------------------------------- */

static void on_end(struct ask *k)
{
    struct log_work *w = k->work;
    struct source *s;
    size_t at = 0;

    while ((s = map64_next(&w->sources, &at))) {
        if (s->log) {
            count_open(w, -1);
            dispatcher_log_close(s->log);
        }
        free(s->details);
        free(s);
    }
    map64_fini(&w->sources);
    list_remove(&w->link);
    buf_fini(&w->out);
    buf_fini(&w->reasons);
    free(w);
}

static struct log_work *work_new(struct ask *k, bool raw)
{
    const struct log_args *args = k->args;
    struct log_work *w = mem_alloc(sizeof(*w));

    w->ask = k;
    list_init(&w->link);
    list_init(&w->waiting);
    list_init(&w->open);
    w->form = (struct log_form){.raw = raw, .timestamps = args->timestamps};
    k->work = w;
    k->step = send_page;
    k->on_more = on_more;
    k->on_end = on_end;
    k->page.status = 200;
    k->page.type = raw || k->api_minor < 42 ? "application/vnd.docker.raw-stream"
                                            : "application/vnd.docker.multiplexed-stream";
    return w;
}

/* The first page goes out at once, with nothing but the head of the answer, so that a client that follows a silent
 * service knows that it does. */
static void begin(struct log_work *w)
{
    struct logs_hub *hub = asks_logs(w->ask->asks);
    const struct log_args *args = w->ask->args;

    if (args->follow && !w->is_last) {
        if (list_empty(&hub->following))
            hub->fed = store_applied(control_store(asks_config(hub->asks)->control));
        list_push(&hub->following, &w->link);
    }
    open_sources(w);
    send_page(w->ask);
}

static bool has_terminal(struct view *v, const struct index_spec *spec)
{
    AUTO_ARENA struct arena a;
    struct object object;

    arena_init(&a);
    if (!spec || view_get(v, KIND_SPEC, spec->number, &a, &object) < 0)
        return false;
    const ServiceSpec *s = ((const Spec *)object.message)->spec;
    return s && s->task && s->task->container && s->task->container->tty;
}

static void service_logs(struct ask *k)
{
    struct index *x = control_index(asks_config(k->asks)->control);
    struct view *v = view_begin(control_store(asks_config(k->asks)->control));
    const struct log_args *args = k->args;
    uint64_t number = 0;
    struct err e;
    int rc = resolve(v, KIND_SERVICE, k->id, &number, &e);
    const struct index_service *s = index_service(x, number);
    bool raw = rc == 0 && s && has_terminal(v, s->current);

    view_end(v);
    if (rc == 0 && args->follow && s && s->held > FOLLOWED_MOST)
        rc = err_set(&e, ERR_INVALID,
                     "service %.200s has %llu tasks: the logs of at most %d can be followed at once", k->id,
                     (unsigned long long)s->held, FOLLOWED_MOST);
    if (rc == 0 && args->follow && s && asks_logs(k->asks)->open_count + s->held > ALL_MOST)
        rc = err_set(&e, ERR_UNAVAILABLE, "too many logs are followed at once; try again later");
    if (rc < 0) {
        ask_fail(k, &e);
        return;
    }
    struct log_work *w = work_new(k, raw);
    w->service = number;
    add_service(w);
    if (!args->follow)
        w->is_last = true;
    begin(w);
}

static void task_logs(struct ask *k)
{
    struct index *x = control_index(asks_config(k->asks)->control);
    struct view *v = view_begin(control_store(asks_config(k->asks)->control));
    uint64_t number = 0;
    struct err e;
    int rc = resolve(v, KIND_TASK, k->id, &number, &e);
    const struct index_task *t = index_task(x, number);
    bool raw = rc == 0 && t && has_terminal(v, t->spec);

    view_end(v);
    if (rc < 0) {
        ask_fail(k, &e);
        return;
    }
    struct log_work *w = work_new(k, raw);
    w->is_last = true; /* one task has one log */
    if (t)
        add_source(w, t);
    begin(w);
}

void logs_begin_service(struct ask *k)
{
    ask_read(k, service_logs);
}

void logs_begin_task(struct ask *k)
{
    ask_read(k, task_logs);
}

/* --- following --------------------------------------------------------------------------------------------- */

static void forget_source(struct log_work *w, uint64_t task)
{
    struct source *s = map64_get(&w->sources, task);

    if (!s || s->log)
        return; /* its log ends by itself */
    map64_remove(&w->sources, task);
    list_remove(&s->link);
    free(s->details);
    free(s);
}

static void on_fed(void *ctx, uint64_t index, const struct object *object)
{
    struct logs_hub *hub = ctx;
    struct index *x = control_index(asks_config(hub->asks)->control);
    const struct index_task *t = object->kind == KIND_STATUS ? index_task(x, object->number) : NULL;
    struct log_work *w, *after;

    list_each_safe (w, after, &hub->following, link) {
        if (object->kind == KIND_SERVICE && !object->message && object->number == w->service) {
            w->is_last = true;
            page_soon(w);
        } else if (object->kind == KIND_TASK && !object->message) {
            forget_source(w, object->number);
        } else if (t && index_task_service(t)->number == w->service) {
            add_source(w, t);
        }
    }
}

static int64_t next_retry(const struct log_work *w, int64_t due_ms)
{
    const struct source *s;

    list_each (s, &w->waiting, link)
        due_ms = MIN(due_ms, s->retry_ms);
    return due_ms;
}

static void look_at_changes(struct logs_hub *hub)
{
    struct store *store = control_store(asks_config(hub->asks)->control);
    AUTO_ARENA struct arena a;
    struct log_work *w;

    arena_init(&a);
    if (store_feed_kinds(store, hub->fed, FEED_KIND(KIND_SERVICE) | FEED_KIND(KIND_TASK) | FEED_KIND(KIND_STATUS),
                         &a, on_fed, hub, &hub->fed) < 0) {
        hub->fed = store_applied(store);
        list_each (w, &hub->following, link)
            add_service(w);
    }
}

int64_t logs_hub_turn(struct logs_hub *hub)
{
    int64_t due_ms = INT64_MAX;
    struct log_work *w;

    if (!list_empty(&hub->following))
        look_at_changes(hub);
    list_each (w, &hub->following, link) {
        open_sources(w);
        due_ms = next_retry(w, due_ms);
    }
    return due_ms;
}

static void on_applied(struct control_watch *watch, uint64_t index)
{
    struct logs_hub *hub = container_of(watch, struct logs_hub, watch);

    if (!list_empty(&hub->following))
        asks_config(hub->asks)->wake(asks_config(hub->asks)->ctx);
}

struct logs_hub *logs_hub_new(struct asks *a)
{
    struct logs_hub *hub = mem_alloc(sizeof(*hub));

    hub->asks = a;
    list_init(&hub->following);
    hub->watch.on_applied = on_applied;
    control_watch(asks_config(a)->control, &hub->watch);
    return hub;
}

void logs_hub_free(struct logs_hub *hub)
{
    free(hub);
}
