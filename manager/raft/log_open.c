/* Making and opening the Raft log (log.h).
 *
 * Opening reads every kept segment, oldest first, and believes nothing it cannot prove:
 *
 *     the files' numbers run without a gap up to the last segment that has a header; behind it stand only spares
 *     each header was sealed under our key and stands in the file of its number
 *     a segment ends exactly where its successor says, with as many records as it says
 *     the last one ends where segment.c can tell a torn write from damage, and not before the mark of the term file
 *     indexes run without a gap, but for cuts and a log that began anew behind a snapshot
 *
 * What a killed process wrote may still be in the page cache alone, and after a write that failed the cache takes
 * for clean what the disk does not have (Linux reports such an error once). So what the mark does not vouch for is
 * written again, the same bytes at the same place, before its entries count as durable.
 *
 * A gap among the numbers is fine before the last run of them: removing old segments was interrupted. Whether the
 * run begins early enough is for the caller to say, who knows the snapshot.
 *
 * Making a member is not one step; a file `new` stands beside it until the term file does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/fault.h"
#include "manager/raft/log_private.h"
#include "proto/base/mem.h"

#define SEGMENTS_MAX 65536
#define FIRST_BYTES  (256 << 10) /* the very first segment: quick to make and to read */

struct opening {
    struct disklog *l;
    const struct disklog_found *found;
    uint32_t *numbers; /* of the files, ascending; owned */
    size_t count;
    struct segment_header *headers; /* of the run's segments; owned */
    size_t run, run_count;          /* which of the numbers have headers, in the last run */
    uint64_t last;                  /* index of the last entry so far; 0: none yet */
    uint64_t least;                 /* behind a reset: a cut may not reach below it */
    uint32_t sequence;              /* segment being read */
    uint64_t first_index;           /* its header's, until its first record has come; then 0 */
    struct buf data;                /* bytes of the segment being read */
};

static struct disklog *disklog_alloc(const struct disklog_config *config)
{
    struct disklog *l = mem_alloc(sizeof(*l));

    l->env = config->env;
    l->dir = mem_printf("%s/log", config->dir);
    memcpy(l->key, config->key, SEAL_KEY);
    memcpy(l->cluster, config->cluster, sizeof(l->cluster));
    l->segment_bytes = config->segment_bytes;
    pthread_mutex_init(&l->lock, NULL);
    return l;
}

/* --- which files there are ------------------------------------------------------------------------ */

struct listing {
    uint32_t *numbers;
    size_t count;
};

static void listing_each(void *ctx, const char *name)
{
    struct listing *list = ctx;
    uint32_t number = 0;

    if (strlen(name) != 16 || list->count == SEGMENTS_MAX)
        return;
    for (const char *at = name; *at; at++) {
        const char *digits = "0123456789abcdef", *digit = strchr(digits, *at);

        if (!digit || number >> 28)
            return;
        number = number << 4 | (uint32_t)(digit - digits);
    }
    list->numbers = mem_grow(list->numbers, list->count + 1, sizeof(*list->numbers));
    list->numbers[list->count++] = number;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static int list_files(struct disklog *l, uint32_t **ret, size_t *ret_count, struct err *e)
{
    struct listing list = {0};
    int rc = l->env->dir_list(l->env, l->dir, listing_each, &list, e);

    if (rc < 0) {
        free(list.numbers);
        return rc;
    }
    if (list.count)
        qsort(list.numbers, list.count, sizeof(*list.numbers), ascending);
    *ret = list.numbers;
    *ret_count = list.count;
    return 0;
}

static int read_file(struct disklog *l, uint32_t number, size_t limit, struct buf *into, uint64_t *ret_size,
                     struct err *e)
{
    AUTO_FREE
    char *path = disklog_path(l, number);
    struct env_file *file;
    uint64_t size = 0;
    int rc = l->env->file_open(l->env, path, ENV_OPEN_READ, &file, e);

    if (rc < 0)
        return rc;
    rc = l->env->file_size(file, &size, e);
    if (rc == 0 && size > SEGMENT_BYTES_MAX)
        rc = err_set(e, ERR_CORRUPT, "%s is larger than a segment can be", path);
    if (rc == 0) {
        buf_clear(into);
        size_t want = MIN(size, limit);
        long got = l->env->file_read(file, 0, buf_reserve(into, want + 1), want, e);
        if (got < 0)
            rc = (int)got;
        else
            buf_added(into, (size_t)got);
        *ret_size = size;
    }
    l->env->file_close(file);
    return rc;
}

/* Read the headers, and find the last run of segments that have one. */
static int find_run(struct opening *o, struct err *e)
{
    struct disklog *l = o->l;
    size_t used = 0;
    uint64_t size;

    o->headers = mem_array(o->count + 1, sizeof(*o->headers));
    for (size_t i = 0; i < o->count; i++) {
        int rc = read_file(l, o->numbers[i], SEGMENT_SECTOR, &o->data, &size, e);

        if (rc < 0)
            return rc;
        const uint8_t *sector = (uint8_t *)buf_bytes(&o->data);
        if (o->data.length < SEGMENT_SECTOR) /* files get their number when they have their size */
            return err_set(e, ERR_CORRUPT, "log segment %016x has only %llu bytes: it was cut off",
                           (unsigned)o->numbers[i], (unsigned long long)size);
        if (segment_zero(sector, SEGMENT_SECTOR))
            continue; /* a spare */
        rc = segment_header_get(sector, l->cluster, &o->headers[i], e);
        if (rc == 0 && o->headers[i].sequence != o->numbers[i])
            rc = err_set(e, ERR_CORRUPT, "is segment %016llx", (unsigned long long)o->headers[i].sequence);
        if (rc == 0) {
            struct seal *s = disklog_seal(l, o->headers[i].salt);

            if (!segment_header_verify(sector, l->cluster, s))
                rc = err_set(e, ERR_CORRUPT, "is sealed under another key");
            seal_free(s);
        }
        if (rc < 0)
            return err_wrap(e, "log segment %016x", (unsigned)o->numbers[i]);
        used = i + 1;
    }
    o->run = used;
    while (o->run > 0 && o->headers[o->run - 1].sequence &&
           (o->run == used || o->numbers[o->run - 1] + 1 == o->numbers[o->run]))
        o->run--;
    o->run_count = used - o->run;
    return 0;
}

/* --- what is in them ------------------------------------------------------------------------------ */

static int on_record(void *ctx, const struct segment_record *record, struct err *e)
{
    struct opening *o = ctx;
    struct disklog_place place = {.segment = o->sequence, .offset = (uint32_t)record->offset};
    bool fits = o->last == 0 || (record->cut ? record->index <= o->last && record->index >= o->least
                                             : record->index == o->last + 1);

    if (!fits || (o->first_index && o->first_index != record->index) || record->index == 0)
        return err_set(e, ERR_CORRUPT, "at byte %llu: entry %llu does not follow entry %llu",
                       (unsigned long long)record->offset, (unsigned long long)record->index,
                       (unsigned long long)o->last);
    o->first_index = 0;
    o->last = record->index;
    int rc = o->found->entry(o->found->ctx, record, place, e);
    return rc < 0 ? err_wrap(e, "at byte %llu", (unsigned long long)record->offset) : 0;
}

/* Read segment i of the run; for the last one, learn where it ends. */
static int read_segment(struct opening *o, size_t i, struct segment_scan *scan, struct err *e)
{
    struct disklog *l = o->l;
    const struct segment_header *h = &o->headers[o->run + i];
    bool last = i + 1 == o->run_count;
    uint64_t size = 0;
    int rc = read_file(l, (uint32_t)h->sequence, SEGMENT_BYTES_MAX, &o->data, &size, e);

    if (rc < 0)
        return rc;
    if (last && size != h->bytes)
        return err_set(e, ERR_CORRUPT, "has %llu bytes and not %llu: it was cut off", (unsigned long long)size,
                       (unsigned long long)h->bytes);
    if (h->reset) {
        o->found->reset(o->found->ctx, h->base_index, h->base_term);
        o->last = h->base_index;
        o->least = h->base_index + 1;
    }
    o->sequence = (uint32_t)h->sequence;
    o->first_index = h->first_index;
    *scan = (struct segment_scan){
        .data = (uint8_t *)buf_bytes(&o->data),
        .size = o->data.length,
        .cluster = l->cluster,
        .seal = disklog_seal(l, h->salt),
        .sequence = h->sequence,
        .end = last ? 0 : h[1].previous_end,
        .records = last ? 0 : h[1].previous_records,
        .durable = last && l->meta.state.mark_segment == h->sequence ? l->meta.state.mark_offset : 0,
        .ctx = o,
        .found = on_record,
    };
    rc = segment_scan(scan, e);
    seal_free(scan->seal);
    if (rc == 0 && !last && scan->ret_end + SEGMENT_SECTOR < size) { /* ended by a crash */
        l->ended = mem_grow(l->ended, l->ended_count + 1, sizeof(*l->ended));
        l->ended[l->ended_count++] = (struct disklog_ended){(uint32_t)h->sequence, scan->ret_end, size};
    }
    l->used_bytes += size;
    return rc;
}

/* Have on the disk what was read of the last segment, from where it is not known to be there. Its bytes are in
 * o->data. */
static int write_again(struct opening *o, struct env_file *file, uint64_t sequence, uint64_t end, struct err *e)
{
    const struct meta_state *m = &o->l->meta.state;
    uint64_t from = m->mark_segment == sequence ? m->mark_offset & ~(uint64_t)(SEGMENT_SECTOR - 1) : 0;
    uint64_t to = MIN((end + SEGMENT_SECTOR - 1) & ~(uint64_t)(SEGMENT_SECTOR - 1), o->data.length);

    if (from >= to)
        return 0;
    int rc = o->l->env->file_write(file, from, buf_bytes(&o->data) + from, to - from, e);
    return rc < 0 ? err_wrap(e, "write the end of the log again") : 0;
}

/* The log ends where `scan` says: make sure of it, and go on in that segment only if it was closed. */
static int take_end(struct opening *o, const struct segment_scan *scan, struct err *e)
{
    struct disklog *l = o->l;
    const struct segment_header *h = &o->headers[o->run + o->run_count - 1];
    const struct meta_state *m = &l->meta.state;
    AUTO_FREE
    char *path = disklog_path(l, (uint32_t)h->sequence);
    struct env_file *file;
    int rc = l->env->file_open(l->env, path, ENV_OPEN_SYNCED, &file, e);

    if (rc < 0)
        return rc;
    rc = l->env->file_sync(file, e);
    bool closed = m->clean && m->mark_segment == h->sequence && m->mark_offset == scan->ret_end && scan->ret_clean;
    if (rc == 0 && !closed && !FAULT(CACHE_TRUSTED))
        rc = write_again(o, file, h->sequence, scan->ret_end, e);
    l->sequence = (uint32_t)h->sequence;
    l->at = scan->ret_end;
    l->records = scan->ret_records;
    l->batch = scan->ret_batch;
    l->file_bytes = h->bytes;
    if (rc == 0 && closed) {
        l->file = file;
        l->seal = disklog_seal(l, h->salt);
        return 0;
    }
    l->env->file_close(file);
    return rc;
}

static int read_run(struct opening *o, struct err *e)
{
    struct segment_scan scan = {0};
    uint64_t marked = o->l->meta.state.mark_segment;

    if (marked && (o->run_count == 0 || marked > o->headers[o->run + o->run_count - 1].sequence))
        return err_set(e, ERR_CORRUPT, "log segment %016llx is missing", (unsigned long long)marked);
    for (size_t i = 0; i < o->run_count; i++) {
        int rc = read_segment(o, i, &scan, e);

        if (rc < 0)
            return err_wrap(e, "log segment %016llx", (unsigned long long)o->headers[o->run + i].sequence);
    }
    return o->run_count ? take_end(o, &scan, e) : 0;
}

/* Keep the spares that are as they were made; drop the others, and what follows one. */
static int check_spares(struct opening *o, struct err *e)
{
    struct disklog *l = o->l;
    bool keep = true;

    for (size_t i = o->run + o->run_count; i < o->count; i++) {
        uint64_t size = 0;
        int rc = read_file(l, o->numbers[i], SEGMENT_BYTES_MAX, &o->data, &size, e);

        if (rc < 0)
            return rc;
        const uint8_t *data = (uint8_t *)buf_bytes(&o->data);
        if (segment_written_twice(data, o->data.length))
            return err_set(e, ERR_CORRUPT, "log segment %016x: damaged at byte 0: the header is gone",
                           (unsigned)o->numbers[i]);
        keep = keep && o->numbers[i] == l->sequence + l->spares + 1 && size == l->segment_bytes &&
               segment_zero(data, o->data.length);
        if (keep) {
            l->spares++;
            continue;
        }
        AUTO_FREE
        char *path = disklog_path(l, o->numbers[i]);
        rc = l->env->file_remove(l->env, path, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int open_files(struct opening *o, struct err *e)
{
    struct disklog *l = o->l;
    AUTO_FREE
    char *spare = mem_printf("%s/spare.tmp", l->dir);
    AUTO_FREE
    char *now = mem_printf("%s/now.tmp", l->dir);
    int rc = list_files(l, &o->numbers, &o->count, e);

    if (rc == 0)
        rc = l->env->file_remove(l->env, spare, e);
    if (rc == 0)
        rc = l->env->file_remove(l->env, now, e);
    if (rc == 0)
        rc = find_run(o, e);
    if (rc == 0)
        rc = read_run(o, e);
    if (rc == 0)
        rc = check_spares(o, e);
    if (rc == 0)
        rc = l->env->dir_sync(l->env, l->dir, e);
    if (rc == 0) {
        struct meta_state state = l->meta.state;

        state.clean = false; /* before anything is written behind it; and what was read is on the disk */
        rc = meta_write(&l->meta, &state, e);
    }
    l->active = l->sequence;
    l->oldest = o->count ? MIN(o->numbers[0], l->sequence) : l->sequence;
    return rc;
}

int disklog_open(const struct disklog_config *config, const struct disklog_found *found, struct disklog **ret,
                 struct err *e)
{
    struct disklog *l = disklog_alloc(config);
    struct opening o = {.l = l, .found = found};
    AUTO_FREE
    char *term = mem_printf("%s/term", config->dir);
    int rc = meta_open(&l->meta, l->env, term, l->key, l->cluster, config->id, e);

    if (rc == 0) /* whoever made the files may have been killed before their names were durable */
        rc = l->env->dir_sync(l->env, config->dir, e);
    if (rc == 0)
        rc = open_files(&o, e);
    free(o.numbers);
    free(o.headers);
    buf_fini(&o.data);
    if (rc < 0) {
        disklog_free(l);
        return rc;
    }
    *ret = l;
    return 0;
}

/* --- making one ----------------------------------------------------------------------------------- */

static int exists(struct replica_env *env, const char *path, bool *ret, struct err *e)
{
    struct env_file *file;
    int rc = env->file_open(env, path, ENV_OPEN_READ, &file, e);

    if (rc < 0 && rc != ERR_NOT_FOUND)
        return rc;
    if (rc == 0)
        env->file_close(file);
    *ret = rc == 0;
    return 0;
}

int disklog_exists(const struct disklog_config *config, bool *ret, struct err *e)
{
    AUTO_FREE
    char *term = mem_printf("%s/term", config->dir);

    return exists(config->env, term, ret, e);
}

/* Remove what an earlier try left, if it was one. */
static int remove_leftovers(struct disklog *l, const char *sign, struct err *e)
{
    uint32_t *numbers = NULL;
    size_t count = 0;
    bool unfinished;
    int rc = list_files(l, &numbers, &count, e);

    if (rc == 0)
        rc = exists(l->env, sign, &unfinished, e);
    if (rc == 0 && count && !unfinished)
        rc = err_set(e, ERR_CORRUPT, "the log has segment %016x, but the term file is missing",
                     (unsigned)numbers[0]);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        AUTO_FREE
        char *path = disklog_path(l, numbers[i]);

        rc = l->env->file_remove(l->env, path, e);
    }
    free(numbers);
    return rc;
}

static int make_sign(struct disklog *l, const char *sign, const char *dir, struct err *e)
{
    struct env_file *file;
    int rc = l->env->file_open(l->env, sign, ENV_OPEN_CREATE, &file, e);

    if (rc < 0)
        return rc;
    l->env->file_close(file);
    return l->env->dir_sync(l->env, dir, e);
}

/* The first segment, waiting like a spare. */
static int make_first(struct disklog *l, struct err *e)
{
    AUTO_FREE
    char *aside = mem_printf("%s/spare.tmp", l->dir);
    AUTO_FREE
    char *path = disklog_path(l, 1);
    int rc = disklog_make_file(l, aside, true, e);

    if (rc == 0)
        rc = l->env->file_rename(l->env, aside, path, e);
    l->spares = rc == 0;
    return rc < 0 ? rc : l->env->dir_sync(l->env, l->dir, e);
}

int disklog_create(const struct disklog_config *config, uint64_t term, const struct segment_record *first,
                   struct err *e)
{
    struct disklog *l = disklog_alloc(config);
    AUTO_FREE
    char *path = mem_printf("%s/term", config->dir);
    AUTO_FREE
    char *sign = mem_printf("%s/new", config->dir);
    AUTO_FREE
    char *parent = mem_printf("%s/..", config->dir);
    struct meta_state state = {.term = term};
    bool there = false;
    int rc = disklog_exists(config, &there, e);

    if (rc == 0 && there)
        rc = err_set(e, ERR_EXISTS, "%s exists: a member lives there already", path);
    if (rc == 0)
        rc = l->env->dir_make(l->env, l->dir, e);
    if (rc == 0)
        rc = l->env->dir_sync(l->env, parent, e);
    if (rc == 0)
        rc = remove_leftovers(l, sign, e);
    if (rc == 0)
        rc = make_sign(l, sign, config->dir, e);
    if (rc == 0 && first) {
        struct segment_record record = *first;
        struct disklog_place place;
        size_t written;

        l->segment_bytes = MIN(l->segment_bytes, FIRST_BYTES);
        rc = make_first(l, e);
        if (rc == 0)
            rc = disklog_write(l, &record, 1, &place, &written, e);
        state.mark_segment = l->sequence;
        state.mark_offset = l->at;
        state.clean = true;
    }
    if (rc == 0)
        rc = meta_create(l->env, path, l->key, l->cluster, config->id, &state, e);
    if (rc == 0)
        rc = l->env->dir_sync(l->env, config->dir, e); /* from here on it exists */
    if (rc == 0)
        rc = l->env->file_remove(l->env, sign, e);
    disklog_free(l);
    return rc;
}
