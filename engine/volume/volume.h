/* Volumes of the "local" driver: directories that outlive containers (reference/engine-surface.md section 14).
 *
 * The files of a volume are <dir>/<name>/_data, its record <dir>/.records/<name>. What a user stored is never
 * removed but by a user's command: a directory that has files and no record becomes a volume again. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <uv.h>

#include "proto/base/err.h"
#include "proto/base/list.h"
#include "proto/container.pb-c.h"

struct volumes;

struct volume {
    struct list link;     /* in the order of creation */
    VolumeRecord *record; /* owned */
    char *path;           /* of its files; owned */
    struct list uses;     /* of struct volume_use: containers that mount it */
    bool populating;      /* a container that is being launched copies the image's files into it */
};

struct volume_use { /* embedded by whoever uses a volume */
    struct list link;
    struct volume *volume;
    const char *container; /* id; borrowed */
};

struct volumes_config {
    uv_loop_t *loop;
    const char *dir;         /* <data-dir>/volumes */
    unsigned settle_ms;      /* records are synced after this long */
    int64_t (*now_ns)(void); /* wall clock */
    void (*on_event)(void *ctx, const char *action, const struct volume *v); /* "create", "destroy"; may be NULL */
    void *ctx;
};

int volumes_open(const struct volumes_config *config, struct volumes **ret, struct err *e);
void volumes_close(struct volumes *s, void (*closed)(void *ctx), void *ctx);

struct volume *volume_find(struct volumes *s, const char *name);                         /* NULL: none */
int volume_get(struct volumes *s, const char *name, struct volume **ret, struct err *e); /* "no such volume" */
struct volume *volumes_next(struct volumes *s, const struct volume *after); /* NULL: first; NULL at the end */

/* Make a volume, or return the one of that name. `driver`: NULL, "" or "local". Options name what this version does
 * not do, or nothing at all. Messages are copied. */
struct volume_new {
    const char *name;
    const char *driver;
    KeyValue *const *labels, *const *options;
    size_t label_count, option_count;
    bool anonymous;
};
int volume_create(struct volumes *s, const struct volume_new *asked, struct volume **ret, struct err *e);

/* Check without making. */
int volume_check(const struct volume_new *asked, struct err *e);

void volume_use_init(struct volume_use *u);
void volume_use(struct volume *v, struct volume_use *u, const char *container);
void volume_unuse(struct volume_use *u); /* may be called on one that uses nothing */

/* Remove; ERR_CONFLICT names the containers that use it. */
int volume_remove(struct volumes *s, struct volume *v, struct err *e);

/* Open the files, or a path inside them that cannot lead out, as an O_PATH descriptor. */
int volume_open(struct volumes *s, const struct volume *v, const char *subpath, int *ret_fd, struct err *e);

/* Whether nothing is in an opened directory. */
bool volume_is_empty(int fd);

/* A borrowed descriptor of <dir>. */
int volumes_fd(const struct volumes *s);
