/* See sizes.h. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/api/sizes.h"
#include "engine/container/container.h"
#include "engine/measure.h"
#include "proto/base/mem.h"

struct sizes {
    struct api_call *call; /* held */
    struct sizes_entry *entries;
    size_t count, room, next; /* next: the one under way */
    struct measure *measure;  /* under way */
    struct later later;
    void (*done)(struct api_call *c, const struct sizes_entry *entries, size_t count);
};

static void finish(struct sizes *s)
{
    struct api_call *c = s->call;

    c->on_left = NULL;
    if (c->x)
        s->done(c, s->entries, s->count);
    for (size_t i = 0; i < s->count; i++)
        free(s->entries[i].name);
    free(s->entries);
    free(s);
    api_release(c);
}

static void on_left(struct api_call *c)
{
    struct sizes *s = c->state;

    if (s->measure)
        measure_cancel(s->measure);
    list_remove(&s->later.link);
    finish(s);
}

static void measured(void *ctx, int64_t bytes);

static void measure_next(struct sizes *s)
{
    for (; s->next < s->count; s->next++) {
        struct sizes_entry *entry = &s->entries[s->next];
        AUTO_CLOSE
        int fd = entry->open(s->call->en, entry->name);

        if (fd < 0)
            continue;
        s->measure = measure_start(s->call->en->loop, fd, measured, s);
        return;
    }
    finish(s);
}

static void measured(void *ctx, int64_t bytes)
{
    struct sizes *s = ctx;

    s->measure = NULL;
    s->entries[s->next++].bytes = bytes;
    measure_next(s);
}

static void begin(struct later *me)
{
    measure_next(container_of(me, struct sizes, later));
}

struct sizes *sizes_new(struct api_call *c)
{
    struct sizes *s = mem_alloc(sizeof(*s));

    s->call = c;
    list_init(&s->later.link);
    return s;
}

static void add(struct sizes *s, const char *name, int (*open)(struct engine *en, const char *name))
{
    if (s->count == s->room) {
        s->room = s->room ? s->room * 2 : 16;
        s->entries = mem_grow(s->entries, s->room, sizeof(*s->entries));
    }
    s->entries[s->count++] = (struct sizes_entry){.name = mem_strdup(name), .bytes = -1, .open = open};
}

static int open_container(struct engine *en, const char *id)
{
    struct container *container;
    AUTO_CLOSE
    int dir_fd = -1;

    if (container_find(en, id, &container, NULL) < 0 || container_dir(container, &dir_fd, NULL) < 0)
        return -1;
    return openat(dir_fd, "upper", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int open_volume(struct engine *en, const char *name)
{
    struct volume *v = volume_find(en->volumes, name);
    int fd = -1;

    return v && volume_open(en->volumes, v, NULL, &fd, NULL) == 0 ? fd : -1;
}

void sizes_add_container(struct sizes *s, const char *id)
{
    add(s, id, open_container);
}

bool sizes_is_container(const struct sizes_entry *entry)
{
    return entry->open == open_container;
}

void sizes_add_volume(struct sizes *s, const char *name)
{
    add(s, name, open_volume);
}

void sizes_start(struct sizes *s, void (*done)(struct api_call *c, const struct sizes_entry *entries, size_t count))
{
    s->done = done;
    api_hold(s->call);
    s->call->state = s;
    s->call->on_left = on_left;
    engine_later(s->call->en, &s->later, begin);
}
