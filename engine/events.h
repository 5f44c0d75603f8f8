/* What happened lately, and who wants to hear of it (reference/engine-surface.md section 17). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "proto/base/jwrite.h"
#include "proto/base/list.h"

#define EVENTS_KEPT 256

struct event_attribute {
    const char *key, *value;
};

struct event {
    struct list link;  /* in events.kept */
    int64_t time_ns;   /* wall clock; grows from event to event */
    const char *scope; /* "local" or "swarm" */
    const char *type, *action, *id;
    size_t count;
    struct event_attribute attributes[]; /* sorted by key, no key twice */
};

struct events_listener {
    struct list link;
    void *ctx;
    void (*on_event)(void *ctx, const struct event *event); /* must not unlisten others; event is borrowed */
};

struct events {
    struct list kept; /* of struct event, oldest first */
    unsigned kept_count;
    struct list listeners; /* of struct events_listener */
    unsigned listener_count;
    int64_t last_ns;
};

void events_init(struct events *s);
void events_fini(struct events *s);

/* Everything is copied. Of attributes with one key the last counts. */
void events_add(struct events *s, int64_t time_ns, const char *scope, const char *type, const char *action,
                const char *id, const struct event_attribute *attributes, size_t count);

void events_listen(struct events *s, struct events_listener *l);
void events_unlisten(struct events *s, struct events_listener *l);

const char *event_attribute(const struct event *event, const char *key); /* NULL when absent */

/* One JSON object, as the API shows it. */
void event_write(const struct event *event, struct buf *out);
