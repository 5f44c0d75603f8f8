/* GET /events (reference/engine-surface.md section 17): what is still kept since a time, then what happens, until a
 * time or until the client leaves. A client that reads too slowly is let go rather than kept waiting for. */
#include <stdlib.h>
#include <string.h>

#include "engine/api/api.h"
#include "engine/api/events.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

struct event_call {
    struct api_call *call; /* held */
    struct events_listener listener;
    struct later later; /* the end, from inside a listener */
    struct alarm until;
    struct filters f;
    int64_t since_ns, until_ns; /* 0: none */
    bool blocked;               /* the client's queue is full */
    bool ended;
};

/* --- filters ------------------------------------------------------------------------------------- */

static const char *attribute_of(void *ctx, const char *name)
{
    return event_attribute(ctx, name);
}

static bool begins_with_any(const struct filter *f, const char *value)
{
    for (size_t i = 0; value && i < f->count; i++)
        if (strncmp(value, f->values[i], strlen(f->values[i])) == 0)
            return true;
    return false;
}

/* A filter that names objects of one type: by the beginning of their id or by name. */
static bool names_object(const struct filters *f, const char *type, const struct event *ev)
{
    const struct filter *one = filters_get(f, type);

    if (!one)
        return true;
    return strcmp(ev->type, type) == 0 &&
           (begins_with_any(one, ev->id) || begins_with_any(one, event_attribute(ev, "name")));
}

/* Images are meant by the events of their containers too; a name without its tag means all tags. */
static bool names_image(const struct filters *f, const struct event *ev)
{
    const struct filter *one = filters_get(f, "image");
    bool is_image = strcmp(ev->type, "image") == 0;
    const char *name = event_attribute(ev, is_image ? "name" : "image");

    for (size_t i = 0; one && i < one->count; i++) {
        const char *wanted = one->values[i];
        size_t length = strlen(wanted);

        if ((is_image && strcmp(ev->id, wanted) == 0) ||
            (name && strncmp(name, wanted, length) == 0 && (!name[length] || name[length] == ':')))
            return true;
    }
    return !one;
}

/* "exec_create" means "exec_create: ls" as well. */
static bool has_action(const struct filters *f, const struct event *ev)
{
    const struct filter *one = filters_get(f, "event");

    for (size_t i = 0; one && i < one->count; i++) {
        size_t length = strlen(one->values[i]);

        if (strncmp(ev->action, one->values[i], length) == 0 && (!ev->action[length] || ev->action[length] == ':'))
            return true;
    }
    return !one;
}

static bool is_wanted(const struct event_call *l, const struct event *ev)
{
    static const char *const types[] = {"container", "volume",  "network", "daemon", "plugin",
                                        "node",      "service", "secret",  "config"};

    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        if (!names_object(&l->f, types[i], ev))
            return false;
    return filters_exact(&l->f, "type", ev->type) && filters_exact(&l->f, "scope", ev->scope) &&
           has_action(&l->f, ev) && names_image(&l->f, ev) &&
           filters_labels(&l->f, "label", attribute_of, (void *)ev);
}

/* --- the stream ---------------------------------------------------------------------------------- */

static void finish(struct event_call *l)
{
    struct api_call *c = l->call;

    c->on_left = NULL;
    list_remove(&l->later.link);
    alarm_clear(&l->until);
    events_unlisten(&c->en->events, &l->listener);
    if (c->x)
        http_stream_end(c->x);
    free(l);
    api_release(c);
}

static void end_later(struct later *me)
{
    finish(container_of(me, struct event_call, later));
}

static void end_at_time(struct alarm *m)
{
    finish(container_of(m, struct event_call, until));
}

static void on_left(struct api_call *c)
{
    finish(c->state);
}

static void on_writable(struct http_exchange *x)
{
    struct api_call *c = http_data(x);
    struct event_call *l = c->state;

    if (c->on_left) /* else it has ended meanwhile */
        l->blocked = false;
}

static void give(struct event_call *l, const struct event *ev)
{
    AUTO_BUF struct buf line = {0};

    event_write(ev, &line);
    buf_append_char(&line, '\n');
    l->blocked = !http_write(l->call->x, buf_bytes(&line), line.length);
}

static void on_event(void *ctx, const struct event *ev)
{
    struct event_call *l = ctx;

    if (l->ended || !is_wanted(l, ev))
        return;
    if (l->blocked) {
        log_warn("a listener reads events too slowly and is let go", "behind=%d", EVENTS_KEPT);
        l->ended = true;
        engine_later(l->call->en, &l->later, end_later);
        return;
    }
    give(l, ev);
}

static void replay(struct event_call *l)
{
    const struct event *ev;

    list_each (ev, &l->call->en->events.kept, link)
        if (ev->time_ns >= l->since_ns && (!l->until_ns || ev->time_ns <= l->until_ns) && is_wanted(l, ev))
            give(l, ev); /* at most EVENTS_KEPT, whatever the client reads */
}

void api_events(struct api_call *c)
{
    static const char *const known[] = {"config", "container", "daemon", "event",  "image",
                                        "label",  "network",   "node",   "plugin", "scope",
                                        "secret", "service",   "type",   "volume", NULL};
    int64_t since = 0, until = 0, now = engine_now_ns();
    struct filters f;
    struct err e;

    if (!api_filters(c, known, &f) || !api_time(c, "since", &since) || !api_time(c, "until", &until))
        return;
    if (since && until && since > until) {
        err_set(&e, ERR_INVALID, "`since` time (%lld) cannot be after `until` time (%lld)",
                (long long)(since / 1000000000), (long long)(until / 1000000000));
        api_error(c, &e);
        return;
    }
    struct event_call *l = mem_alloc(sizeof(*l));
    l->call = c;
    l->listener.ctx = l;
    l->listener.on_event = on_event;
    l->f = f;
    l->since_ns = since;
    l->until_ns = until;
    list_init(&l->later.link);
    alarm_init(&l->until);
    api_hold(c);
    c->state = l;
    c->on_left = on_left;
    http_stream(c->x, 200, "application/json", on_writable);
    events_listen(&c->en->events, &l->listener);
    if (since || until)
        replay(l);
    if (until)
        alarm_set(&c->en->alarms, &l->until, until > now ? (uint64_t)(until - now) / 1000000 + 1 : 0, end_at_time);
}
