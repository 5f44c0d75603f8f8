/* Records on disk; see record.h.
 *
 * Layout of a file, numbers little-endian:
 *
 *     magic[8]  version[4]  length[4]  crc[4]  message[length]
 *
 * where crc is CRC-32C over the first sixteen bytes and the message.
 *
 * Life of a record. records_put links the version that is known to be durable to .NAME.old (once, while the name is
 * clean), writes .NAME.tmp and renames it to NAME: from here on every reader sees the new one. The name is now
 * dirty and waits in a queue; one pool job at a time takes the first few, syncs each file and then the directory. A
 * name that was not written again meanwhile is clean, and its .old goes. So after a power cut NAME either checks
 * out or .NAME.old does: file systems with delayed allocation may have renamed a file whose bytes never arrived.
 *
 * A sync that fails is logged and leaves .NAME.old in place; the record itself stands as far as the running system
 * is concerned. There is deliberately no way to wait for durability: nothing here is promised to a client as
 * surviving a power cut within milliseconds. What must survive is in the cluster's log. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/file.h"
#include "proto/base/hash.h"
#include "proto/base/list.h"
#include "proto/base/log.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/base/record.h"

#define HEADER_BYTES 20
#define BATCH_MAX    16 /* files one pool job syncs */

struct dirty {
    struct list link; /* in the queue */
    char *name;       /* owned; the map's key */
    uint64_t at_ms;   /* when it became dirty, on the loop's clock */
    bool in_flight;   /* the running job syncs it */
    bool again;       /* written again since that job began */
};

struct records {
    uv_loop_t *loop;
    const struct record_format *format;
    char *path; /* owned */
    int dir_fd;
    struct map dirty;  /* by name */
    struct list queue; /* of struct dirty, oldest first */
    bool dir_dirty;    /* something was removed */
    uint64_t dir_at_ms;
    unsigned delay_ms; /* changes settle so long */
    uv_timer_t timer;  /* for the oldest change that settles */
    uv_work_t work;
    bool working;
    unsigned batch;               /* members at the queue's front that the running job syncs */
    char *batch_names[BATCH_MAX]; /* borrowed from them */
    int batch_error;              /* errno of the first failed sync */
    void (*closed)(void *ctx);
    void *closed_ctx;
    bool closing;
};

static void sync_next(struct records *r);

static void put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static int check_name(const char *name, struct err *e)
{
    if (!*name || *name == '.' || strchr(name, '/') || strlen(name) > RECORD_NAME_MAX)
        return err_set(e, ERR_INVALID, "invalid record name \"%.64s\"", name);
    return 0;
}

/* --- one record ------------------------------------------------------------------------------------------------
 */

int record_write(int dir_fd, const char *name, const struct record_format *f, const ProtobufCMessage *message,
                 struct err *e)
{
    int rc = check_name(name, e);
    size_t size = protobuf_c_message_get_packed_size(message);

    if (rc < 0)
        return rc;
    if (size > f->size_max)
        return err_set(e, ERR_LIMIT, "record %s has %zu bytes, more than %zu", name, size, f->size_max);
    AUTO_FREE
    uint8_t *file = mem_alloc(HEADER_BYTES + size);
    memcpy(file, f->magic, RECORD_MAGIC);
    put_u32(file + 8, f->version);
    put_u32(file + 12, (uint32_t)size);
    protobuf_c_message_pack(message, file + HEADER_BYTES);
    put_u32(file + 16, crc32c(crc32c(0, file, 16), file + HEADER_BYTES, size));
    rc = file_replace(dir_fd, name, 0600, file, HEADER_BYTES + size, false, e);
    return rc < 0 ? err_wrap(e, "record %s", name) : 0;
}

static int decode(const char *name, const struct record_format *f, const uint8_t *data, size_t size,
                  ProtobufCMessage **ret, struct err *e)
{
    if (size < HEADER_BYTES || memcmp(data, f->magic, RECORD_MAGIC) != 0)
        return err_set(e, ERR_CORRUPT, "%s is not a record of kind %.8s", name, f->magic);
    size_t length = get_u32(data + 12);
    if (length != size - HEADER_BYTES)
        return err_set(e, ERR_CORRUPT, "record %s has %zu bytes where its header says %zu", name,
                       size - HEADER_BYTES, length);
    if (get_u32(data + 16) != crc32c(crc32c(0, data, 16), data + HEADER_BYTES, length))
        return err_set(e, ERR_CORRUPT, "record %s does not match its checksum", name);
    uint32_t version = get_u32(data + 8);
    if (version > f->version)
        return err_set(e, ERR_UNSUPPORTED, "record %s has version %u, newer than this program's %u", name, version,
                       f->version);
    ProtobufCMessage *message = protobuf_c_message_unpack(f->type, NULL, length, data + HEADER_BYTES);
    if (!message)
        return err_set(e, ERR_CORRUPT, "record %s does not hold a %s", name, f->type->short_name);
    *ret = message;
    return 0;
}

int record_read(int dir_fd, const char *name, const struct record_format *f, ProtobufCMessage **ret, struct err *e)
{
    AUTO_BUF
    struct buf file = {0};
    int rc = file_read(dir_fd, name, f->size_max + HEADER_BYTES, &file, e);

    if (rc == ERR_LIMIT)
        return err_set(e, ERR_CORRUPT, "record %s is larger than any could be", name);
    if (rc < 0)
        return rc;
    return decode(name, f, (const uint8_t *)buf_bytes(&file), file.length, ret, e);
}

/* --- a directory of them ---------------------------------------------------------------------------------------
 */

int records_open(uv_loop_t *loop, const char *path, const struct record_format *f, struct records **ret,
                 struct err *e)
{
    int fd = -1;
    int rc = dir_make(path, 0700, e);

    if (rc == 0)
        rc = dir_open(path, &fd, e);
    if (rc < 0)
        return rc;
    struct records *r = mem_alloc(sizeof(*r));
    r->loop = loop;
    r->format = f;
    r->path = mem_strdup(path);
    r->dir_fd = fd;
    list_init(&r->queue);
    r->work.data = r;
    (void)uv_timer_init(loop, &r->timer); /* cannot fail */
    uv_unref((uv_handle_t *)&r->timer);
    *ret = r;
    return 0;
}

/* Give back the previous version when the newest does not check out; true when there was one and it does. */
static bool scan_fall_back(struct records *r, const char *name, ProtobufCMessage **ret)
{
    AUTO_FREE
    char *old = mem_printf(".%s.old", name);

    if (record_read(r->dir_fd, old, r->format, ret, NULL) < 0)
        return false;
    return renameat(r->dir_fd, old, r->dir_fd, name) == 0;
}

static void scan_one(struct records *r, const char *name, const struct records_scan *scan)
{
    ProtobufCMessage *message = NULL;
    struct err why = {0};
    int rc = record_read(r->dir_fd, name, r->format, &message, &why);

    if (rc == ERR_CORRUPT) {
        AUTO_FREE
        char *aside = mem_printf(".%s.damaged", name);

        (void)renameat(r->dir_fd, name, r->dir_fd, aside); /* when it fails the next scan meets it again */
        if (scan_fall_back(r, name, &message)) {
            err_wrap(&why, "previous version taken");
            rc = 0;
        }
    }
    if (why.code && scan->on_problem)
        scan->on_problem(scan->ctx, name, &why);
    if (rc == 0)
        scan->on_record(scan->ctx, name, message);
}

static struct dirty *dirty_add(struct records *r, const char *name)
{
    struct dirty *d = mem_alloc(sizeof(*d));

    d->name = mem_strdup(name);
    d->at_ms = uv_now(r->loop);
    map_put(&r->dirty, d->name, d);
    list_push(&r->queue, &d->link);
    return d;
}

/* A file of ours: .NAME.tmp is half written. .NAME.old is what must be taken back when NAME is missing (the crash
 * came between the two steps of set-aside above). When NAME checks out, nobody knows whether it is durable yet: it
 * is synced like one just written, and then the old one goes. */
static void scan_leftover(struct records *r, const char *file)
{
    size_t length = strlen(file);
    AUTO_FREE
    char *name = NULL;
    ProtobufCMessage *message = NULL;

    if (length > 5 && strcmp(file + length - 4, ".tmp") == 0) {
        (void)unlinkat(r->dir_fd, file, 0); /* the next write truncates it anyway */
        return;
    }
    if (length <= 5 || strcmp(file + length - 4, ".old") != 0)
        return;
    name = mem_strndup(file + 1, length - 5);
    int rc = record_read(r->dir_fd, name, r->format, &message, NULL);
    if (rc == ERR_NOT_FOUND)
        (void)renameat(r->dir_fd, file, r->dir_fd, name); /* if not: reported as missing by whoever needs it */
    else if (rc != ERR_CORRUPT)
        (void)dirty_add(r, name);
    if (message)
        protobuf_c_message_free_unpacked(message, NULL);
}

static int list_names(const char *path, bool ours, char ***ret, size_t *ret_count, struct err *e)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    char **names = NULL;
    size_t count = 0;

    if (!dir)
        return err_errno(e, "list %s", path);
    while ((entry = readdir(dir))) {
        if ((entry->d_name[0] == '.') != ours || strcmp(entry->d_name, ".") == 0 ||
            strcmp(entry->d_name, "..") == 0)
            continue;
        if ((count & (count - 1)) == 0)
            names = mem_grow(names, count ? count * 2 : 1, sizeof(*names));
        names[count++] = mem_strdup(entry->d_name);
    }
    closedir(dir);
    *ret = names;
    *ret_count = count;
    return 0;
}

int records_scan(struct records *r, const struct records_scan *scan, struct err *e)
{
    for (int pass = 0; pass < 2; pass++) {
        bool ours = pass == 0;
        char **names = NULL;
        size_t count = 0;
        int rc = list_names(r->path, ours, &names, &count, e);

        if (rc < 0)
            return rc;
        for (size_t i = 0; i < count; i++) {
            if (ours)
                scan_leftover(r, names[i]);
            else
                scan_one(r, names[i], scan);
            free(names[i]);
        }
        free(names);
    }
    sync_next(r);
    return 0;
}

/* --- durability ------------------------------------------------------------------------------------------------
 */

static void dirty_free(struct records *r, struct dirty *d)
{
    map_remove(&r->dirty, d->name);
    list_remove(&d->link);
    free(d->name);
    free(d);
}

static void sync_work(uv_work_t *work) /* in the pool: touches the batch only */
{
    struct records *r = work->data;

    for (unsigned i = 0; i < r->batch; i++) {
        int fd = openat(r->dir_fd, r->batch_names[i], O_RDONLY | O_CLOEXEC);

        if (fd < 0)
            continue; /* removed meanwhile */
        if (fsync(fd) < 0 && !r->batch_error)
            r->batch_error = errno;
        close(fd);
    }
    if (fsync(r->dir_fd) < 0 && !r->batch_error)
        r->batch_error = errno;
}

static void drop_old(struct records *r, const char *name)
{
    AUTO_FREE
    char *old = mem_printf(".%s.old", name);

    (void)unlinkat(r->dir_fd, old, 0); /* a new record has none */
}

static void sync_done(uv_work_t *work, int status)
{
    struct records *r = work->data;
    struct dirty *d, *after;

    r->working = false;
    if (r->batch_error)
        log_error("records could not be synced", "directory=%s error=\"%s\"", r->path, strerror(r->batch_error));
    list_each_safe (d, after, &r->queue, link) {
        if (!d->in_flight)
            continue;
        d->in_flight = false;
        if (d->again) {
            d->again = false;
            d->at_ms = uv_now(r->loop);
            list_remove(&d->link);
            list_push(&r->queue, &d->link);
            continue;
        }
        if (!r->batch_error)
            drop_old(r, d->name);
        dirty_free(r, d);
    }
    r->batch_error = 0;
    sync_next(r);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct records *r = container_of((uv_timer_t *)handle, struct records, timer);

    close(r->dir_fd);
    map_fini(&r->dirty);
    free(r->path);
    r->closed(r->closed_ctx);
    free(r);
}

static void on_settled(uv_timer_t *timer)
{
    sync_next(container_of(timer, struct records, timer));
}

/* Milliseconds until the oldest change has settled; 0: one has. */
static uint64_t until_settled(struct records *r)
{
    struct dirty *first = list_first(&r->queue, struct dirty, link);
    uint64_t at = UINT64_MAX, now = uv_now(r->loop);

    if (r->closing)
        return 0;
    if (first)
        at = first->at_ms + r->delay_ms;
    if (r->dir_dirty)
        at = MIN(at, r->dir_at_ms + r->delay_ms);
    return at > now ? at - now : 0;
}

static bool is_settled(const struct records *r, const struct dirty *d)
{
    return r->closing || d->at_ms + r->delay_ms <= uv_now(r->loop);
}

static void sync_next(struct records *r)
{
    struct dirty *d;

    if (r->working)
        return;
    if (list_empty(&r->queue) && !r->dir_dirty) {
        if (r->closing && !uv_is_closing((uv_handle_t *)&r->timer))
            uv_close((uv_handle_t *)&r->timer, on_timer_closed);
        return;
    }
    uint64_t wait_ms = until_settled(r);
    if (wait_ms) {
        if (!uv_is_active((uv_handle_t *)&r->timer))
            (void)uv_timer_start(&r->timer, on_settled, wait_ms, 0); /* cannot fail: the callback is given */
        return;
    }
    r->batch = 0;
    list_each (d, &r->queue, link) {
        if (r->batch == BATCH_MAX || !is_settled(r, d))
            break;
        d->in_flight = true;
        r->batch_names[r->batch++] = d->name;
    }
    r->dir_dirty = false;
    r->working = true;
    int rc = uv_queue_work(r->loop, &r->work, sync_work, sync_done);
    if (rc < 0)
        abort(); /* only for a missing callback */
}

int records_put(struct records *r, const char *name, const ProtobufCMessage *message, struct err *e)
{
    int rc = check_name(name, e);

    if (rc < 0)
        return rc;
    struct dirty *d = map_get(&r->dirty, name);
    if (!d) {
        AUTO_FREE
        char *old = mem_printf(".%s.old", name);

        (void)unlinkat(r->dir_fd, old, 0); /* one that a failed sync left */
        if (linkat(r->dir_fd, name, r->dir_fd, old, 0) < 0 && errno != ENOENT)
            return err_errno(e, "keep the previous version of record %s", name);
    }
    rc = record_write(r->dir_fd, name, r->format, message, e);
    if (rc < 0) {
        if (!d)
            drop_old(r, name);
        return rc;
    }
    if (!d)
        d = dirty_add(r, name);
    d->again = d->in_flight;
    sync_next(r);
    return 0;
}

int records_remove(struct records *r, const char *name, struct err *e)
{
    struct dirty *d = map_get(&r->dirty, name);
    int rc = check_name(name, e);

    if (rc < 0)
        return rc;
    drop_old(r, name); /* first: else a crash between the two would bring the old one back */
    if (unlinkat(r->dir_fd, name, 0) < 0 && errno != ENOENT)
        return err_errno(e, "remove record %s", name);
    if (d && !d->in_flight)
        dirty_free(r, d);
    else if (d)
        d->again = false;
    if (!r->dir_dirty)
        r->dir_at_ms = uv_now(r->loop);
    r->dir_dirty = true;
    sync_next(r);
    return 0;
}

void records_set_delay(struct records *r, unsigned delay_ms)
{
    r->delay_ms = delay_ms;
}

struct close_later {
    uv_idle_t idle;
    struct records *records;
};

static void close_on_freed(uv_handle_t *handle)
{
    struct close_later *later = container_of((uv_idle_t *)handle, struct close_later, idle);
    struct records *r = later->records;

    free(later);
    r->closing = true;
    sync_next(r);
}

void records_close(struct records *r, void (*closed)(void *ctx), void *ctx)
{
    struct close_later *later = mem_alloc(sizeof(*later));

    r->closed = closed;
    r->closed_ctx = ctx;
    /* Closing a handle is the loop's own way of calling back in the next turn, never from inside this call. */
    later->records = r;
    (void)uv_idle_init(r->loop, &later->idle); /* cannot fail */
    uv_close((uv_handle_t *)&later->idle, close_on_freed);
}
