/* See raft_disk.h. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"
#include "tests/simulation/raft_disk.h"

static struct disk *(*disk_of)(struct replica_env *env); /* as disk_serve was told */

struct env_file {
    struct disk *disk;
    struct disk_node *node;
    bool synced;
};

/* --- nodes ---------------------------------------------------------------------------------------- */

static struct disk_node *node_new(struct disk *d)
{
    struct disk_node *n = mem_alloc(sizeof(*n));

    list_push(&d->nodes, &n->all);
    return n;
}

static void node_check(struct disk_node *n)
{
    if (n->names || n->handles)
        return;
    list_remove(&n->all);
    free(n->cache);
    free(n->durable);
    free(n);
}

static void resize(uint8_t **bytes, size_t *size, size_t to)
{
    if (to == *size)
        return;
    *bytes = mem_grow(*bytes, to + 1, 1);
    if (to > *size)
        memset(*bytes + *size, 0, to - *size);
    *size = to;
}

static void dirty(struct disk_node *n, size_t from, size_t to)
{
    if (n->dirty_from == n->dirty_to) {
        n->dirty_from = from;
        n->dirty_to = to;
    } else {
        n->dirty_from = MIN(n->dirty_from, from);
        n->dirty_to = MAX(n->dirty_to, to);
    }
}

static void cache_put(struct disk_node *n, size_t offset, const void *data, size_t size)
{
    if (size == 0)
        return;
    if (offset + size > n->size)
        resize(&n->cache, &n->size, offset + size);
    memcpy(n->cache + offset, data, size);
}

static void durable_put(struct disk_node *n, size_t offset, const void *data, size_t size)
{
    if (size == 0)
        return;
    if (offset + size > n->durable_size)
        resize(&n->durable, &n->durable_size, offset + size);
    memcpy(n->durable + offset, data, size);
}

static void node_sync(struct disk_node *n)
{
    size_t to = MIN(n->dirty_to, n->size);

    resize(&n->durable, &n->durable_size, n->size);
    if (n->dirty_from < to)
        memcpy(n->durable + n->dirty_from, n->cache + n->dirty_from, to - n->dirty_from);
    n->dirty_from = n->dirty_to = 0;
}

/* Of what was not synced some sectors make it, and nothing will write the others any more. */
static void node_lose_dirty(struct disk *d, struct disk_node *n)
{
    if (entropy_below(d->entropy, 2) && n->size != n->durable_size)
        resize(&n->durable, &n->durable_size, n->size); /* the new size made it */
    for (size_t at = n->dirty_from / DISK_SECTOR * DISK_SECTOR; at < n->dirty_to; at += DISK_SECTOR)
        if (at < n->durable_size && at < n->size && entropy_below(d->entropy, 2))
            memcpy(n->durable + at, n->cache + at, MIN(DISK_SECTOR, MIN(n->size, n->durable_size) - at));
    n->dirty_from = n->dirty_to = 0;
}

/* Power is lost, and with it the cache. */
static void node_lose(struct disk *d, struct disk_node *n)
{
    node_lose_dirty(d, n);
    resize(&n->cache, &n->size, n->durable_size);
    if (n->size)
        memcpy(n->cache, n->durable, n->size);
}

/* --- names ---------------------------------------------------------------------------------------- */

static struct disk_name *name_find(struct disk_names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->names[i].path, path) == 0)
            return &names->names[i];
    return NULL;
}

/* Give the name to a node, or take it away (NULL). */
static void name_set(struct disk_names *names, const char *path, struct disk_node *node)
{
    struct disk_name *name = name_find(names, path);
    struct disk_node *before = name ? name->node : NULL;

    if (node)
        node->names++;
    if (name && node) {
        name->node = node;
    } else if (name) {
        free(name->path);
        *name = names->names[--names->count];
    } else if (node) {
        if ((names->count & (names->count - 1)) == 0)
            names->names = mem_grow(names->names, MAX(1, names->count * 2), sizeof(*names->names));
        names->names[names->count++] = (struct disk_name){mem_strdup(path), node};
    }
    if (before) {
        before->names--;
        node_check(before);
    }
}

/* One atomic change: take a name away, give a name to a node, or both (a rename). */
static void name_change(struct disk *d, const char *gone, const char *path, struct disk_node *node)
{
    struct disk_change *change = mem_alloc(sizeof(*change));

    change->gone = gone ? mem_strdup(gone) : NULL;
    change->path = path ? mem_strdup(path) : NULL;
    change->node = node;
    if (node)
        node->names++; /* kept by the change too */
    list_push(&d->changes, &change->link);
    if (gone)
        name_set(&d->cache, gone, NULL);
    if (path)
        name_set(&d->cache, path, node);
}

static void change_apply(struct disk *d, const struct disk_change *change)
{
    if (change->gone)
        name_set(&d->durable, change->gone, NULL);
    if (change->path)
        name_set(&d->durable, change->path, change->node);
}

static void change_free(struct disk_change *change)
{
    list_remove(&change->link);
    if (change->node) {
        change->node->names--;
        node_check(change->node);
    }
    free(change->gone);
    free(change->path);
    free(change);
}

static bool in_dir(const char *path, const char *dir)
{
    size_t length = strlen(dir);

    return strncmp(path, dir, length) == 0 && path[length] == '/' && !strchr(path + length + 1, '/');
}

static void names_fini(struct disk_names *names)
{
    while (names->count)
        name_set(names, names->names[0].path, NULL);
    free(names->names);
    *names = (struct disk_names){0};
}

/* --- life ----------------------------------------------------------------------------------------- */

void disk_init(struct disk *d, struct entropy *entropy)
{
    *d = (struct disk){.entropy = entropy};
    list_init(&d->nodes);
    list_init(&d->changes);
}

void disk_fini(struct disk *d)
{
    while (!list_empty(&d->changes))
        change_free(list_first(&d->changes, struct disk_change, link));
    names_fini(&d->cache);
    names_fini(&d->durable);
    assert(list_empty(&d->nodes)); /* every file was closed */
}

void disk_crash(struct disk *d, bool power)
{
    if (d->crashed)
        return;
    d->crashed = true;
    d->power = power;
    if (d->on_crash)
        d->on_crash(d->ctx);
}

void disk_restart(struct disk *d)
{
    struct disk_node *n;

    if (d->power) {
        uint64_t count = 0;
        struct disk_change *change;

        list_each (change, &d->changes, link)
            count++;
        uint64_t keep = entropy_below(d->entropy, count + 1); /* a journal: what is there is there in order */
        while (!list_empty(&d->changes)) {
            change = list_first(&d->changes, struct disk_change, link);
            if (keep) {
                keep--;
                change_apply(d, change);
            }
            change_free(change);
        }
        list_each (n, &d->nodes, all)
            node_lose(d, n);
        while (d->cache.count)
            name_set(&d->cache, d->cache.names[0].path, NULL);
        for (size_t i = 0; i < d->durable.count; i++)
            name_set(&d->cache, d->durable.names[i].path, d->durable.names[i].node);
    }
    d->crashed = d->power = false;
    d->crash_at = 0;
}

/* Count an operation; true when it must not be done (the crash is over), or only in part (*part). */
static bool stops(struct disk *d, bool *part)
{
    *part = false;
    if (d->crashed)
        return true;
    d->operations++;
    d->full = d->full || (d->fill_at && d->operations >= d->fill_at);
    if (d->crash_at && d->operations == d->crash_at) {
        *part = true;
        disk_crash(d, entropy_below(d->entropy, 2));
    }
    return false;
}

static int dead(struct err *e)
{
    return err_set(e, ERR_IO, "the machine is gone");
}

/* --- for tests ------------------------------------------------------------------------------------ */

struct disk_node *disk_find(struct disk *d, const char *path)
{
    struct disk_name *name = name_find(&d->cache, path);

    return name ? name->node : NULL;
}

void disk_flip(struct disk_node *n, size_t byte, uint8_t mask)
{
    assert(byte < n->size);
    n->cache[byte] ^= mask;
    if (byte < n->durable_size)
        n->durable[byte] ^= mask;
}

void disk_zero(struct disk_node *n, size_t from, size_t size)
{
    size_t to = MIN(from + size, n->size), durable_to = MIN(from + size, n->durable_size);

    if (from < to)
        memset(n->cache + from, 0, to - from);
    if (from < durable_to)
        memset(n->durable + from, 0, durable_to - from);
}

void disk_truncate(struct disk_node *n, size_t size)
{
    resize(&n->cache, &n->size, size);
    resize(&n->durable, &n->durable_size, size);
}

void disk_remove_name(struct disk *d, const char *path)
{
    name_set(&d->cache, path, NULL);
    name_set(&d->durable, path, NULL);
}

void disk_each(struct disk *d, const char *prefix, void (*each)(void *ctx, const char *path, struct disk_node *n),
               void *ctx)
{
    for (size_t i = 0; i < d->cache.count; i++)
        if (strncmp(d->cache.names[i].path, prefix, strlen(prefix)) == 0)
            each(ctx, d->cache.names[i].path, d->cache.names[i].node);
}

/* --- the environment's functions ------------------------------------------------------------------ */

static int dir_make(struct replica_env *env, const char *path, struct err *e)
{
    bool part;

    (void)path; /* directories are made of the names in them, and always durable */
    return stops(disk_of(env), &part) || part ? dead(e) : 0;
}

static int dir_list(struct replica_env *env, const char *path, void (*each)(void *ctx, const char *name), void *ctx,
                    struct err *e)
{
    struct disk *d = disk_of(env);
    bool part;

    if (stops(d, &part) || part)
        return dead(e);
    for (size_t i = 0; i < d->cache.count; i++)
        if (in_dir(d->cache.names[i].path, path))
            each(ctx, d->cache.names[i].path + strlen(path) + 1);
    return 0;
}

static int dir_sync(struct replica_env *env, const char *path, struct err *e)
{
    struct disk *d = disk_of(env);
    struct disk_change *change, *after;
    bool part;

    if (stops(d, &part) || part)
        return dead(e);
    if (d->broken)
        return err_set(e, ERR_IO, "sync %s: input/output error", path);
    list_each_safe (change, after, &d->changes, link) {
        if (!in_dir(change->path ? change->path : change->gone, path))
            continue;
        change_apply(d, change);
        change_free(change);
    }
    return 0;
}

static int file_open(struct replica_env *env, const char *path, enum env_open how, struct env_file **ret,
                     struct err *e)
{
    struct disk *d = disk_of(env);
    struct disk_node *n;
    bool part;

    if (stops(d, &part) || part)
        return dead(e);
    n = disk_find(d, path);
    if (!n && how != ENV_OPEN_CREATE)
        return err_set(e, ERR_NOT_FOUND, "open %s: no such file", path);
    if (!n && d->full)
        return err_set(e, ERR_UNAVAILABLE, "create %s: no space left", path);
    if (!n) {
        n = node_new(d);
        name_change(d, NULL, path, n);
    } else if (how == ENV_OPEN_CREATE) {
        dirty(n, 0, n->size);
        resize(&n->cache, &n->size, 0);
    }
    struct env_file *f = mem_alloc(sizeof(*f));
    *f = (struct env_file){.disk = d, .node = n, .synced = how == ENV_OPEN_SYNCED};
    n->handles++;
    *ret = f;
    return 0;
}

static int file_size(struct env_file *f, uint64_t *ret, struct err *e)
{
    bool part;

    if (stops(f->disk, &part) || part)
        return dead(e);
    *ret = f->node->size;
    return 0;
}

static long file_read(struct env_file *f, uint64_t offset, void *into, size_t size, struct err *e)
{
    bool part;

    if (stops(f->disk, &part) || part)
        return dead(e);
    if (f->disk->broken && entropy_below(f->disk->entropy, 4) == 0)
        return err_set(e, ERR_IO, "read %zu bytes: input/output error", size);
    if (offset >= f->node->size)
        return 0;
    size = MIN(size, f->node->size - offset);
    memcpy(into, f->node->cache + offset, size);
    return (long)size;
}

/* Some sectors of a synced write reach the disk. */
static void put_sectors(struct env_file *f, uint64_t offset, const uint8_t *data, size_t size)
{
    for (size_t at = 0; at < size; at += DISK_SECTOR - (offset + at) % DISK_SECTOR) {
        size_t piece = MIN(DISK_SECTOR - (offset + at) % DISK_SECTOR, size - at);

        if (entropy_below(f->disk->entropy, 2) && offset + at + piece <= f->node->durable_size) {
            durable_put(f->node, offset + at, data + at, piece);
            cache_put(f->node, offset + at, data + at, piece);
        }
    }
}

/* The crash comes in the middle of a write: some of it is in the cache, some sectors of a synced one are durable.
 */
static void write_part(struct env_file *f, uint64_t offset, const uint8_t *data, size_t size)
{
    struct disk *d = f->disk;
    size_t cached = entropy_below(d->entropy, size / DISK_PAGE + 2) * DISK_PAGE;

    if (cached > DISK_PAGE)
        cached -= offset % DISK_PAGE; /* whole pages of the file */
    cached = MIN(cached, size);
    cache_put(f->node, offset, data, cached);
    dirty(f->node, offset, offset + cached);
    if (!f->synced || !d->power)
        return;
    d->torn++;
    put_sectors(f, offset, data, size);
}

/* A write on a broken disk. A synced one fails: its bytes stay in the cache, which takes them for clean, while the
 * disk has any of its sectors. Another may as well succeed, and fail when it is synced. */
static bool fails(struct env_file *f, uint64_t offset, const uint8_t *data, size_t size)
{
    struct disk *d = f->disk;

    if (!f->synced)
        return entropy_below(d->entropy, 2);
    if (offset + size > f->node->size)
        return true; /* there was no room for it either */
    cache_put(f->node, offset, data, size);
    put_sectors(f, offset, data, size);
    d->unsaid++;
    return true;
}

static int file_write(struct env_file *f, uint64_t offset, const void *data, size_t size, struct err *e)
{
    struct disk *d = f->disk;
    bool part;

    if (stops(d, &part))
        return dead(e);
    if (part) {
        write_part(f, offset, data, size);
        return dead(e);
    }
    if (d->broken && fails(f, offset, data, size))
        return err_set(e, ERR_IO, "write %zu bytes: input/output error", size);
    if (d->full && offset + size > f->node->size)
        return err_set(e, ERR_UNAVAILABLE, "write %zu bytes: no space left", size);
    cache_put(f->node, offset, data, size);
    if (f->synced)
        durable_put(f->node, offset, data, size);
    else
        dirty(f->node, offset, offset + size);
    return 0;
}

static int file_reserve(struct env_file *f, uint64_t size, struct err *e)
{
    bool part;

    if (stops(f->disk, &part) || part)
        return dead(e);
    if (f->disk->full && size > f->node->size)
        return err_set(e, ERR_UNAVAILABLE, "reserve %llu bytes: no space left", (unsigned long long)size);
    if (size > f->node->size) {
        dirty(f->node, f->node->size, size);
        resize(&f->node->cache, &f->node->size, size);
    }
    return 0;
}

static int file_cut(struct env_file *f, uint64_t size, struct err *e)
{
    bool part;

    if (stops(f->disk, &part) || part)
        return dead(e);
    resize(&f->node->cache, &f->node->size, size);
    return 0;
}

static int file_sync(struct env_file *f, struct err *e)
{
    bool part;

    if (stops(f->disk, &part) || part)
        return dead(e);
    if (f->disk->broken) {
        node_lose_dirty(f->disk, f->node); /* and takes what is left in the cache for clean */
        return err_set(e, ERR_IO, "sync: input/output error");
    }
    node_sync(f->node);
    return 0;
}

static void file_close(struct env_file *f)
{
    f->node->handles--;
    node_check(f->node);
    free(f);
}

static int file_rename(struct replica_env *env, const char *from, const char *to, struct err *e)
{
    struct disk *d = disk_of(env);
    struct disk_node *n;
    bool part;

    if (stops(d, &part) || part)
        return dead(e);
    n = disk_find(d, from);
    if (!n)
        return err_set(e, ERR_NOT_FOUND, "rename %s: no such file", from);
    name_change(d, from, to, n);
    return 0;
}

static int file_remove(struct replica_env *env, const char *path, struct err *e)
{
    struct disk *d = disk_of(env);
    bool part;

    if (stops(d, &part) || part)
        return dead(e);
    if (disk_find(d, path))
        name_change(d, path, NULL, NULL);
    return 0;
}

void disk_serve(struct replica_env *env, struct disk *(*of)(struct replica_env *env))
{
    disk_of = of;
    env->dir_make = dir_make;
    env->dir_list = dir_list;
    env->dir_sync = dir_sync;
    env->file_open = file_open;
    env->file_size = file_size;
    env->file_read = file_read;
    env->file_write = file_write;
    env->file_reserve = file_reserve;
    env->file_cut = file_cut;
    env->file_sync = file_sync;
    env->file_close = file_close;
    env->file_rename = file_rename;
    env->file_remove = file_remove;
}
