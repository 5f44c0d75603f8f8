/* The Raft log while it runs; log_open.c makes and opens it, segment.c holds the format and the reasoning about
 * torn writes.
 *
 * Writing. Everything that waits is one write of one batch, with O_DSYNC, into zeroes that were written before, so
 * a write costs one transfer and one flush and no metadata. When a segment is full the next spare gets its header
 * in the same write as its first batch: beginning a segment costs nothing extra either. When no spare is ready one
 * is made on the spot, preallocated but not filled: slower to write to, but no wait.
 *
 * Spares. The bulk lane makes them ahead: filled with zeroes under another name, synced, renamed to the next
 * number. Numbers have no gaps, so a missing segment is noticed. When the disk is full the spares that exist are
 * the reserve with which everything under way is still written; the driver hands the leadership over as soon as one
 * is missing and cannot be replaced.
 *
 * The mark. disklog_mark notes in the term file how far the files reach. It is a place, not an index: places only
 * grow, also when the log is cut.
 *
 * Nonces. A process appends only to segments it began itself, or to one whose closing mark proves that nothing was
 * under way (log_open.c). Everything else gets a new segment with a new salt. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/bytes.h"
#include "manager/raft/log_private.h"
#include "proto/base/mem.h"

#define FILL_BYTES   (1 << 20) /* written and synced at a time into a spare: commits get in between */
#define WINDOW_BYTES (256 << 10)
#define ENDED_SLACK  (64 << 10) /* unused bytes worth giving back */

char *disklog_path(const struct disklog *l, uint32_t sequence)
{
    return mem_printf("%s/%016x", l->dir, (unsigned)sequence);
}

struct seal *disklog_seal(const struct disklog *l, const uint8_t salt[SEAL_SALT])
{
    return seal_new(l->key, salt, "log", l->cluster);
}

/* --- log lane ------------------------------------------------------------------------------------- */

int disklog_vote_put(struct disklog *l, uint64_t term, uint64_t vote, struct err *e)
{
    struct meta_state state = l->meta.state;

    state.term = term;
    state.vote = vote;
    return meta_write(&l->meta, &state, e);
}

static int mark_put(struct disklog *l, uint32_t sequence, uint64_t offset, bool clean, struct err *e)
{
    struct meta_state state = l->meta.state;

    state.mark_segment = sequence;
    state.mark_offset = offset;
    state.clean = clean;
    return meta_write(&l->meta, &state, e);
}

int disklog_mark(struct disklog *l, bool clean, struct err *e)
{
    return mark_put(l, l->sequence, l->sequence ? l->at : 0, clean && l->file, e);
}

bool disklog_marked(const struct disklog *l)
{
    return l->meta.state.mark_segment == l->sequence && (!l->sequence || l->meta.state.mark_offset == l->at);
}

static int make_spare_now(struct disklog *l, uint32_t sequence, struct err *e)
{
    AUTO_FREE
    char *aside = mem_printf("%s/now.tmp", l->dir);
    AUTO_FREE
    char *path = disklog_path(l, sequence);
    int rc = disklog_make_file(l, aside, false, e);

    if (rc == 0)
        rc = l->env->file_rename(l->env, aside, path, e); /* whoever has a number has its full size */
    return rc < 0 ? rc : l->env->dir_sync(l->env, l->dir, e);
}

/* Take the next spare, or make one; its header goes to the begin of l->out, to be written with the first batch. */
static int rotate(struct disklog *l, uint64_t first_index, bool reset, uint64_t base_term, struct err *e)
{
    struct segment_header h = {
        .sequence = l->sequence + 1,
        .bytes = l->segment_bytes,
        .first_index = first_index,
        .reset = reset,
        .base_index = reset ? first_index - 1 : 0,
        .base_term = base_term,
        .previous_end = l->sequence ? l->at : 0,
        .previous_records = l->records,
    };
    AUTO_FREE
    char *path = disklog_path(l, l->sequence + 1);
    struct env_file *file;
    int rc = 0;

    pthread_mutex_lock(&l->lock);
    if (l->spares == 0)
        rc = make_spare_now(l, l->sequence + 1, e);
    if (rc == 0)
        rc = l->env->file_open(l->env, path, ENV_OPEN_SYNCED, &file, e);
    if (rc == 0) {
        l->spares -= l->spares > 0;
        l->active = l->sequence + 1;
        l->used_bytes += l->segment_bytes;
        if (l->sequence && l->at + ENDED_SLACK < l->file_bytes) {
            l->ended = mem_grow(l->ended, l->ended_count + 1, sizeof(*l->ended));
            l->ended[l->ended_count++] = (struct disklog_ended){l->sequence, l->at, l->file_bytes};
        }
    }
    pthread_mutex_unlock(&l->lock);
    if (rc < 0)
        return rc;

    if (l->file)
        l->env->file_close(l->file);
    seal_free(l->seal);
    entropy_fill(l->env->entropy, h.salt, sizeof(h.salt));
    l->file = file;
    l->seal = disklog_seal(l, h.salt);
    l->sequence++;
    l->at = 0;
    l->file_bytes = h.bytes;
    l->records = l->batch = 0;
    segment_header_put(&h, l->cluster, l->seal, (uint8_t *)buf_reserve(&l->out, SEGMENT_SECTOR));
    buf_added(&l->out, SEGMENT_SECTOR);
    return 0;
}

/* Write l->out behind what is there. */
static int flush(struct disklog *l, struct err *e)
{
    size_t size = l->out.length;
    int rc = l->env->file_write(l->file, l->at, buf_bytes(&l->out), size, e);

    buf_clear(&l->out);
    if (rc < 0) {
        if (e)
            e->code = ERR_IO;
        return ERR_IO; /* also for a full disk: there was room when the segment was made */
    }
    l->at += size;
    pthread_mutex_lock(&l->lock);
    l->writes++;
    pthread_mutex_unlock(&l->lock);
    return 0;
}

/* How many of the records fit into `room` bytes as one batch. */
static size_t fitting(const struct segment_record *records, size_t count, uint64_t room)
{
    uint64_t bytes = 0;
    size_t n = 0;

    while (n < count && round_up(bytes + segment_record_bytes(records[n].size), SEGMENT_SECTOR) <= room)
        bytes += segment_record_bytes(records[n++].size);
    return n;
}

int disklog_write(struct disklog *l, struct segment_record *records, size_t count, struct disklog_place *ret_places,
                  size_t *ret_written, struct err *e)
{
    size_t done = 0;
    int rc = 0;

    while (done < count && rc == 0) {
        uint64_t room = l->file ? l->file_bytes - l->at : 0;
        size_t n = fitting(records + done, count - done, room);

        if (n == 0) {
            rc = rotate(l, records[done].index, false, 0, e);
            if (rc < 0)
                break;
            n = fitting(records + done, count - done, l->file_bytes - SEGMENT_SECTOR);
            assert(n > 0); /* the driver bounds entries by the size of a segment */
        }
        uint64_t begin = l->at + l->out.length;
        segment_batch_put(&l->out, l->cluster, l->seal, l->sequence, ++l->batch, l->records, records + done, n);
        rc = flush(l, e);
        for (size_t i = done; rc == 0 && i < done + n; i++)
            ret_places[i] =
                (struct disklog_place){.segment = l->sequence, .offset = (uint32_t)(begin + records[i].offset)};
        if (rc == 0) {
            l->records += (uint32_t)n;
            done += n;
        }
    }
    *ret_written = done;
    return rc;
}

int disklog_reset(struct disklog *l, uint64_t index, uint64_t term, struct err *e)
{
    int rc = rotate(l, index + 1, true, term, e);

    return rc < 0 ? rc : flush(l, e);
}

/* --- bulk lane ------------------------------------------------------------------------------------ */

int disklog_make_file(const struct disklog *l, const char *path, bool fill, struct err *e)
{
    struct env_file *file;
    int rc = l->env->file_open(l->env, path, ENV_OPEN_CREATE, &file, e);

    if (rc < 0)
        return rc;
    rc = l->env->file_reserve(file, l->segment_bytes, e);
    if (fill && rc == 0) {
        size_t part = MIN(l->segment_bytes, FILL_BYTES);
        AUTO_FREE
        uint8_t *zeroes = mem_alloc(part);

        for (uint64_t at = 0; rc == 0 && at < l->segment_bytes; at += part) {
            rc = l->env->file_write(file, at, zeroes, MIN(part, l->segment_bytes - at), e);
            if (rc == 0)
                rc = l->env->file_sync(file, e);
        }
    }
    if (rc == 0)
        rc = l->env->file_sync(file, e);
    l->env->file_close(file);
    if (rc < 0)
        (void)l->env->file_remove(l->env, path, NULL); /* best effort: opening the log removes it too */
    return rc;
}

static void give_back(struct disklog *l)
{
    pthread_mutex_lock(&l->lock);
    struct disklog_ended *ended = steal(&l->ended);
    size_t count = l->ended_count;
    uint32_t oldest = l->oldest;
    l->ended_count = 0;
    pthread_mutex_unlock(&l->lock);
    for (size_t i = 0; i < count; i++) {
        AUTO_FREE
        char *path = disklog_path(l, ended[i].sequence);
        struct env_file *file;

        /* A failure costs room and nothing else: the next start tries again. */
        if (ended[i].sequence < oldest || l->env->file_open(l->env, path, ENV_OPEN_SYNCED, &file, NULL) < 0)
            continue;
        int rc = l->env->file_cut(file, ended[i].end, NULL);
        l->env->file_close(file);
        if (rc < 0)
            continue;
        pthread_mutex_lock(&l->lock);
        l->used_bytes -= ended[i].bytes - ended[i].end;
        pthread_mutex_unlock(&l->lock);
    }
    free(ended);
}

int disklog_spare(struct disklog *l, struct err *e)
{
    AUTO_FREE
    char *aside = mem_printf("%s/spare.tmp", l->dir);
    int rc;

    give_back(l);
    if (disklog_spares(l) >= DISKLOG_SPARES)
        return 0;
    rc = disklog_make_file(l, aside, true, e);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&l->lock);
    AUTO_FREE
    char *path = disklog_path(l, l->active + l->spares + 1);
    rc = l->env->file_rename(l->env, aside, path, e);
    if (rc == 0)
        rc = l->env->dir_sync(l->env, l->dir, e);
    if (rc == 0)
        l->spares++;
    pthread_mutex_unlock(&l->lock);
    return rc;
}

int disklog_remove(struct disklog *l, uint32_t before, struct err *e)
{
    int rc = 0;

    for (;;) {
        uint64_t size = 0;

        pthread_mutex_lock(&l->lock);
        uint32_t sequence = l->oldest;
        bool more = sequence < before && sequence < l->active;
        pthread_mutex_unlock(&l->lock);
        if (!more)
            return 0;
        AUTO_FREE
        char *path = disklog_path(l, sequence);
        struct env_file *file;
        if (l->env->file_open(l->env, path, ENV_OPEN_READ, &file, NULL) == 0) {
            (void)l->env->file_size(file, &size, NULL); /* for the figures only */
            l->env->file_close(file);
        }
        rc = l->env->file_remove(l->env, path, e); /* oldest first: what is left has no gap */
        if (rc < 0)
            return rc;
        pthread_mutex_lock(&l->lock);
        l->oldest = sequence + 1;
        l->used_bytes -= MIN(size, l->used_bytes);
        pthread_mutex_unlock(&l->lock);
    }
}

static void window_close(struct disklog *l)
{
    struct disklog_window *w = &l->window;

    if (w->file)
        l->env->file_close(w->file);
    seal_free(w->seal);
    w->file = NULL;
    w->seal = NULL;
    buf_clear(&w->data);
}

void disklog_read_begin(struct disklog *l)
{
    window_close(l); /* the end of the segment being written has grown since */
}

static int window_open(struct disklog *l, uint32_t sequence, struct err *e)
{
    struct disklog_window *w = &l->window;
    AUTO_FREE
    char *path = disklog_path(l, sequence);
    uint8_t sector[SEGMENT_SECTOR];
    struct segment_header h;
    int rc;

    if (w->file && w->sequence == sequence)
        return 0;
    window_close(l);
    rc = l->env->file_open(l->env, path, ENV_OPEN_READ, &w->file, e);
    if (rc < 0)
        return rc;
    long got = l->env->file_read(w->file, 0, sector, sizeof(sector), e);
    rc = got < 0 ? (int)got : got < (long)sizeof(sector) ? err_set(e, ERR_CORRUPT, "%s is too short", path) : 0;
    if (rc == 0)
        rc = segment_header_get(sector, l->cluster, &h, e);
    if (rc < 0) {
        window_close(l);
        return rc;
    }
    w->seal = disklog_seal(l, h.salt);
    w->sequence = sequence;
    return 0;
}

/* Have bytes [offset, offset + size) of the open segment in the window. */
static int window_fill(struct disklog *l, uint64_t offset, size_t size, struct err *e)
{
    struct disklog_window *w = &l->window;

    if (w->data.length && offset >= w->from && offset + size <= w->from + w->data.length)
        return 0;
    size_t want = MAX(size, WINDOW_BYTES);
    buf_clear(&w->data);
    long got = l->env->file_read(w->file, offset, buf_reserve(&w->data, want), want, e);
    if (got < 0)
        return (int)got;
    if ((size_t)got < size)
        return err_set(e, ERR_CORRUPT, "segment %016x ends at byte %llu", (unsigned)w->sequence,
                       (unsigned long long)offset + (unsigned long long)got);
    buf_added(&w->data, (size_t)got);
    w->from = offset;
    return 0;
}

int disklog_read(struct disklog *l, struct disklog_place place, uint64_t index, struct buf *into,
                 uint64_t *ret_term, uint8_t *ret_type, struct err *e)
{
    struct disklog_window *w = &l->window;
    uint32_t size = 0;
    int rc = window_open(l, place.segment, e);

    if (rc == 0)
        rc = window_fill(l, place.offset, SEGMENT_RECORD, e);
    if (rc < 0)
        return rc;
    const uint8_t *at = (uint8_t *)buf_bytes(&w->data) + (place.offset - w->from);
    size = segment_record_size(at);
    if (size <= SEGMENT_ENTRY_MAX)
        rc = window_fill(l, place.offset, SEGMENT_RECORD + size + SEAL_TAG, e);
    if (rc < 0)
        return rc;
    at = (uint8_t *)buf_bytes(&w->data) + (place.offset - w->from);
    size_t room = w->data.length - (place.offset - w->from);
    if (!segment_record_peek(at, room, index, ret_term, ret_type, &size) ||
        !segment_record_open(at, l->cluster, w->seal, w->sequence, (uint8_t *)buf_reserve(into, size + 1)))
        return err_set(e, ERR_CORRUPT, "segment %016x is damaged at byte %u: entry %llu is not as it was written",
                       (unsigned)place.segment, (unsigned)place.offset, (unsigned long long)index);
    buf_added(into, size);
    return 0;
}

/* --- anywhere ------------------------------------------------------------------------------------- */

static uint64_t locked(struct disklog *l, const uint64_t *value)
{
    pthread_mutex_lock(&l->lock);
    uint64_t copy = *value;
    pthread_mutex_unlock(&l->lock);
    return copy;
}

uint32_t disklog_active(struct disklog *l)
{
    pthread_mutex_lock(&l->lock);
    uint32_t active = l->active;
    pthread_mutex_unlock(&l->lock);
    return active;
}

unsigned disklog_spares(struct disklog *l)
{
    pthread_mutex_lock(&l->lock);
    unsigned spares = l->spares;
    pthread_mutex_unlock(&l->lock);
    return spares;
}

uint64_t disklog_bytes(struct disklog *l)
{
    return locked(l, &l->used_bytes);
}

uint64_t disklog_writes(struct disklog *l)
{
    return locked(l, &l->writes);
}

uint64_t disklog_term(const struct disklog *l)
{
    return l->meta.state.term;
}

uint64_t disklog_vote(const struct disklog *l)
{
    return l->meta.state.vote;
}

void disklog_free(struct disklog *l)
{
    if (!l)
        return;
    window_close(l);
    buf_fini(&l->window.data);
    if (l->file)
        l->env->file_close(l->file);
    seal_free(l->seal);
    meta_close(&l->meta);
    buf_fini(&l->out);
    free(l->ended);
    free(l->dir);
    pthread_mutex_destroy(&l->lock);
    mem_wipe(l->key, sizeof(l->key));
    free(l);
}
