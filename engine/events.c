/* See events.h. An event is one piece of memory with its strings behind it; the newest EVENTS_KEPT are kept. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/events.h"
#include "proto/base/mem.h"

void events_init(struct events *s)
{
    *s = (struct events){0};
    list_init(&s->kept);
    list_init(&s->listeners);
}

static void forget_oldest(struct events *s)
{
    struct event *oldest = list_first(&s->kept, struct event, link);

    list_remove(&oldest->link);
    s->kept_count--;
    free(oldest);
}

void events_fini(struct events *s)
{
    assert(list_empty(&s->listeners));
    while (s->kept_count)
        forget_oldest(s);
}

static const char *put(char **at, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = memcpy(*at, text, size);

    *at += size;
    return copy;
}

static int by_key(const void *one, const void *other)
{
    const struct event_attribute *a = one, *b = other;

    return strcmp(a->key, b->key);
}

/* qsort is not stable, so repeated keys are dropped before: the last one counts. */
static size_t copy_attributes(struct event *ev, const struct event_attribute *attributes, size_t count, char *at)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        size_t k = 0;

        while (k < kept && strcmp(ev->attributes[k].key, attributes[i].key) != 0)
            k++;
        if (k == kept)
            ev->attributes[kept++].key = put(&at, attributes[i].key);
        ev->attributes[k].value = put(&at, attributes[i].value ? attributes[i].value : "");
    }
    qsort(ev->attributes, kept, sizeof(*ev->attributes), by_key);
    return kept;
}

void events_add(struct events *s, int64_t time_ns, const char *scope, const char *type, const char *action,
                const char *id, const struct event_attribute *attributes, size_t count)
{
    size_t head = sizeof(struct event) + count * sizeof(struct event_attribute);
    size_t text = strlen(scope) + strlen(type) + strlen(action) + strlen(id) + 4;
    struct events_listener *l, *after;

    for (size_t i = 0; i < count; i++)
        text += strlen(attributes[i].key) + (attributes[i].value ? strlen(attributes[i].value) : 0) + 2;
    struct event *ev = mem_alloc(head + text);
    char *at = (char *)ev + head;
    s->last_ns = MAX(time_ns, s->last_ns + 1); /* so that `since` tells any two apart */
    ev->time_ns = s->last_ns;
    ev->scope = put(&at, scope);
    ev->type = put(&at, type);
    ev->action = put(&at, action);
    ev->id = put(&at, id);
    ev->count = copy_attributes(ev, attributes, count, at);
    list_push(&s->kept, &ev->link);
    if (++s->kept_count > EVENTS_KEPT)
        forget_oldest(s);
    list_each_safe (l, after, &s->listeners, link)
        l->on_event(l->ctx, ev);
}

void events_listen(struct events *s, struct events_listener *l)
{
    list_push(&s->listeners, &l->link);
    s->listener_count++;
}

void events_unlisten(struct events *s, struct events_listener *l)
{
    list_remove(&l->link);
    s->listener_count--;
}

const char *event_attribute(const struct event *event, const char *key)
{
    for (size_t i = 0; i < event->count; i++)
        if (strcmp(event->attributes[i].key, key) == 0)
            return event->attributes[i].value;
    return NULL;
}

void event_write(const struct event *event, struct buf *out)
{
    struct jwrite j = JWRITE_TO(out);
    const char *image = event_attribute(event, "image");

    jwrite_object(&j, NULL);
    /* The three old members, for containers and images alone. */
    if (strcmp(event->type, "container") == 0 || strcmp(event->type, "image") == 0) {
        jwrite_string(&j, "status", event->action);
        jwrite_string(&j, "id", event->id);
        if (image)
            jwrite_string(&j, "from", image);
    }
    jwrite_string(&j, "Type", event->type);
    jwrite_string(&j, "Action", event->action);
    jwrite_object(&j, "Actor");
    jwrite_string(&j, "ID", event->id);
    jwrite_object(&j, "Attributes");
    for (size_t i = 0; i < event->count; i++)
        jwrite_string(&j, event->attributes[i].key, event->attributes[i].value);
    jwrite_end(&j);
    jwrite_end(&j);
    jwrite_string(&j, "scope", event->scope);
    jwrite_int(&j, "time", event->time_ns / 1000000000);
    jwrite_int(&j, "timeNano", event->time_ns);
    jwrite_end(&j);
}
