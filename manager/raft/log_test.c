/* The log on disk: what was written is there after any crash, what is damaged is refused by name (GOALS R3). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "manager/raft/log_private.h"
#include "proto/base/mem.h"
#include "tests/simulation/raft_disk.h"

#define ENTRIES_MAX 4096

static const uint8_t key[SEAL_KEY] = {1}, other_key[SEAL_KEY] = {2}, cluster[16] = {5};

/* A member's log and what it must hold. */
struct bench {
    struct entropy_seeded entropy;
    struct disk disk;
    struct replica_env env;
    struct disklog *log;
    uint64_t segment_bytes;
    uint64_t term, vote;

    /* The model: terms of the entries, as far as writes returned, and as the write under way would leave them. */
    uint64_t terms[ENTRIES_MAX], last;
    uint64_t next_terms[ENTRIES_MAX], next_last;

    /* What open found. */
    uint64_t found[ENTRIES_MAX], found_first, found_last;
    struct disklog_place places[ENTRIES_MAX];
};

static struct disk *disk_of(struct replica_env *env)
{
    return &container_of(env, struct bench, env)->disk;
}

static uint32_t size_of(uint64_t index, uint64_t term)
{
    return (uint32_t)((index * 37 + term * 11) % 400);
}

static void fill(uint8_t *data, uint64_t index, uint64_t term)
{
    memset(data, (int)(index ^ term << 3), 400);
}

static struct disklog_config config_of(struct bench *b)
{
    return (struct disklog_config){
        .env = &b->env, .dir = "m", .key = key, .cluster = cluster, .id = 1, .segment_bytes = b->segment_bytes};
}

static int on_entry(void *ctx, const struct segment_record *record, struct disklog_place place, struct err *e)
{
    struct bench *b = ctx;
    uint8_t want[400];

    fill(want, record->index, record->term);
    if (record->size != size_of(record->index, record->term) || memcmp(record->data, want, record->size) != 0)
        fail_msg("entry %llu has other contents", (unsigned long long)record->index);
    if (b->found_first == 0 || record->index < b->found_first)
        b->found_first = record->index;
    b->found[record->index] = record->term;
    b->places[record->index] = place;
    b->found_last = record->index;
    return 0;
}

static void on_reset(void *ctx, uint64_t index, uint64_t term)
{
    struct bench *b = ctx;

    b->found_first = index + 1;
    b->found_last = index;
    b->found[index] = term;
}

static int try_open(struct bench *b, struct err *e)
{
    const struct disklog_found found = {.ctx = b, .entry = on_entry, .reset = on_reset};
    struct disklog_config config = config_of(b);

    b->found_first = b->found_last = 0;
    return disklog_open(&config, &found, &b->log, e);
}

static void open_log(struct bench *b)
{
    struct err e;

    if (try_open(b, &e) < 0)
        fail_msg("%s", e.text);
}

static void close_log(struct bench *b)
{
    disklog_free(b->log);
    b->log = NULL;
}

static void bench_init(struct bench *b, uint64_t seed, uint64_t segment_bytes)
{
    struct err e;

    *b = (struct bench){.segment_bytes = segment_bytes, .last = 1};
    entropy_seeded_init(&b->entropy, seed);
    disk_init(&b->disk, &b->entropy.base);
    b->env.entropy = &b->entropy.base;
    disk_serve(&b->env, disk_of);
    struct disklog_config config = config_of(b);
    uint8_t data[400];
    fill(data, 1, 1);
    const struct segment_record first = {.index = 1, .term = 1, .type = 1, .data = data, .size = size_of(1, 1)};
    if (disklog_create(&config, 1, &first, &e) < 0)
        fail_msg("%s", e.text);
    b->terms[1] = 1;
    b->term = 1;
}

static void bench_fini(struct bench *b)
{
    close_log(b);
    disk_fini(&b->disk);
}

/* Write entries [first, first + count) of a term; with first <= last the log is cut. Keeps the model up. */
static int write_entries(struct bench *b, uint64_t first, unsigned count, uint64_t term, struct err *e)
{
    struct segment_record records[64] = {{0}};
    struct disklog_place places[64];
    static uint8_t data[64][400];
    size_t written = 0;

    memcpy(b->next_terms, b->terms, sizeof(b->terms));
    for (unsigned i = 0; i < count; i++) {
        fill(data[i], first + i, term);
        records[i] = (struct segment_record){.index = first + i,
                                             .term = term,
                                             .type = 1,
                                             .cut = i == 0 && first <= b->last,
                                             .data = data[i],
                                             .size = size_of(first + i, term)};
        b->next_terms[first + i] = term;
    }
    b->next_last = first + count - 1;
    int rc = disklog_write(b->log, records, count, places, &written, e);
    if (rc == 0) {
        memcpy(b->terms, b->next_terms, sizeof(b->terms));
        b->last = b->next_last;
        memcpy(b->places + first, places, count * sizeof(*places));
    }
    return rc;
}

/* What was found is what returned writes left, or that with a part of the write that had not returned. */
static void check_found(struct bench *b)
{
    uint64_t i, first = b->found_first;

    for (i = first; i <= b->found_last && i <= b->last && b->found[i] == b->terms[i]; i++)
        continue;
    if (i > b->last && i > b->found_last)
        return; /* exactly what returned */
    /* From i on it must be the beginning of the unfinished write. */
    for (; i <= b->found_last; i++)
        if (i > b->next_last || b->found[i] != b->next_terms[i])
            fail_msg("entry %llu has term %llu; returned %llu of %llu, unfinished %llu", (unsigned long long)i,
                     (unsigned long long)b->found[i], (unsigned long long)b->terms[i], (unsigned long long)b->last,
                     (unsigned long long)b->next_terms[i]);
    for (uint64_t k = first; k <= b->last;
         k++) /* nothing that returned is gone, unless the unfinished write cut it */
        if (k > b->found_last && b->next_terms[k] == b->terms[k] && b->next_last >= k)
            fail_msg("entry %llu is gone", (unsigned long long)k);
}

static void adopt_found(struct bench *b)
{
    for (uint64_t i = b->found_first; i <= b->found_last; i++)
        b->terms[i] = b->found[i];
    b->last = b->found_last;
}

static void entries_are_there_after_reopening(void **state)
{
    struct bench b;

    bench_init(&b, 1, 8192);
    open_log(&b);
    assert_int_equal(b.found_last, 1);
    for (uint64_t i = 2; i < 200; i += 3)
        assert_int_equal(write_entries(&b, i, 3, 1, NULL), 0);
    assert_int_equal(disklog_vote_put(b.log, 4, 2, NULL), 0);
    close_log(&b);
    open_log(&b);
    check_found(&b);
    assert_int_equal(b.found_last, b.last);
    assert_int_equal(disklog_term(b.log), 4);
    assert_int_equal(disklog_vote(b.log), 2);
    bench_fini(&b);
}

static void cut_entries_stay_cut(void **state)
{
    struct bench b;

    bench_init(&b, 2, 8192);
    open_log(&b);
    assert_int_equal(write_entries(&b, 2, 40, 1, NULL), 0);
    assert_int_equal(write_entries(&b, 10, 5, 2, NULL), 0);
    assert_int_equal(write_entries(&b, 15, 20, 2, NULL), 0);
    assert_int_equal(write_entries(&b, 12, 1, 3, NULL), 0);
    close_log(&b);
    open_log(&b);
    assert_int_equal(b.found_last, 12);
    check_found(&b);
    assert_int_equal(b.found[9], 1);
    assert_int_equal(b.found[11], 2);
    assert_int_equal(b.found[12], 3);
    bench_fini(&b);
}

static void log_begins_anew_behind_a_snapshot(void **state)
{
    struct bench b;
    struct err e;

    bench_init(&b, 3, 8192);
    open_log(&b);
    assert_int_equal(write_entries(&b, 2, 20, 1, NULL), 0);
    assert_int_equal(disklog_reset(b.log, 1000, 5, &e), 0);
    b.last = 1000;
    assert_int_equal(write_entries(&b, 1001, 3, 5, NULL), 0);
    close_log(&b);
    open_log(&b);
    assert_int_equal(b.found_first, 1001);
    assert_int_equal(b.found_last, 1003);
    assert_int_equal(b.found[1000], 5);
    assert_int_equal(disklog_remove(b.log, b.log->active, &e), 0);
    close_log(&b);
    open_log(&b);
    assert_int_equal(b.found_first, 1001);
    bench_fini(&b);
}

static void single_entries_are_read_again(void **state)
{
    struct bench b;
    AUTO_BUF struct buf data = {0};
    uint8_t want[400], type;
    uint64_t term;
    struct err e;

    bench_init(&b, 4, 8192);
    open_log(&b);
    for (uint64_t i = 2; i < 150; i += 5)
        assert_int_equal(write_entries(&b, i, 5, 1, NULL), 0);
    disklog_read_begin(b.log);
    for (uint64_t i = 2; i <= b.last; i++) {
        buf_clear(&data);
        if (disklog_read(b.log, b.places[i], i, &data, &term, &type, &e) < 0)
            fail_msg("%s", e.text);
        fill(want, i, term);
        assert_int_equal(term, 1);
        assert_int_equal(data.length, size_of(i, 1));
        if (data.length)
            assert_memory_equal(buf_bytes(&data), want, data.length);
    }
    assert_int_equal(disklog_read(b.log, b.places[5], 6, &data, &term, &type, &e), ERR_CORRUPT);
    bench_fini(&b);
}

/* Two runs that write the same must not seal under the same subkey and nonce: a segment found after a crash is not
 * appended to, one that was closed is. */
static void segment_is_continued_only_when_it_was_closed(void **state)
{
    struct bench b;

    bench_init(&b, 5, 8192);
    open_log(&b);
    uint32_t first = b.log->sequence;
    assert_non_null(b.log->file); /* the maker closed it */
    assert_int_equal(write_entries(&b, 2, 1, 1, NULL), 0);
    assert_int_equal(b.log->sequence, first);
    close_log(&b); /* as a kill: no closing mark */
    open_log(&b);
    assert_null(b.log->file);
    assert_int_equal(write_entries(&b, 3, 1, 1, NULL), 0);
    assert_int_equal(b.log->sequence, first + 1);
    assert_int_equal(disklog_mark(b.log, true, NULL), 0);
    close_log(&b);
    open_log(&b);
    assert_non_null(b.log->file);
    assert_int_equal(write_entries(&b, 4, 1, 1, NULL), 0);
    assert_int_equal(b.log->sequence, first + 1);
    close_log(&b);
    open_log(&b);
    assert_int_equal(b.found_last, 4);
    bench_fini(&b);
}

static void spares_are_made_ahead_and_used(void **state)
{
    struct bench b;
    struct err e;

    bench_init(&b, 6, 8192);
    open_log(&b);
    while (disklog_spares(b.log) < DISKLOG_SPARES)
        assert_int_equal(disklog_spare(b.log, &e), 0);
    assert_int_equal(disklog_spare(b.log, &e), 0);
    assert_int_equal(disklog_spares(b.log), DISKLOG_SPARES);
    b.disk.full = true;
    uint32_t first = b.log->sequence;
    while (b.log->sequence < first + 2)
        assert_int_equal(write_entries(&b, b.last + 1, 4, 1, &e), 0);
    assert_int_equal(disklog_spares(b.log), 0);
    int rc = 0;
    while (rc == 0)
        rc = write_entries(&b, b.last + 1, 1, 1, &e);
    assert_int_equal(rc, ERR_UNAVAILABLE); /* full, and nothing is broken */
    b.disk.full = false;
    assert_int_equal(write_entries(&b, b.last + 1, 1, 1, &e), 0);
    assert_int_equal(disklog_spare(b.log, &e), 0);
    close_log(&b);
    open_log(&b);
    check_found(&b);
    assert_int_equal(b.found_last, b.last);
    assert_int_equal(disklog_spares(b.log), 1);
    bench_fini(&b);
}

static void ended_segments_give_back_what_they_do_not_use(void **state)
{
    struct bench b;
    uint64_t before;

    bench_init(&b, 7, 256 << 10);
    for (int i = 0; i < 10; i++) { /* ten kills, a segment each */
        open_log(&b);
        assert_int_equal(write_entries(&b, b.last + 1, 1, 1, NULL), 0);
        close_log(&b);
    }
    open_log(&b);
    before = disklog_bytes(b.log);
    assert_int_equal(disklog_spare(b.log, NULL), 0);
    assert_in_range(disklog_bytes(b.log), 1, 2 * (256 << 10));
    assert_true(before > disklog_bytes(b.log));
    close_log(&b);
    open_log(&b);
    assert_int_equal(b.found_last, b.last);
    bench_fini(&b);
}

/* A random life: writes, cuts, rotations, spares, votes, marks, removal, with a crash during operation number n,
 * and again for every n until one life ends before it. */
static bool crash_life(uint64_t seed, uint64_t n)
{
    struct bench b;
    uint64_t term = 1, kept = 1;
    struct err e;
    bool reached;

    bench_init(&b, seed, 4096 << seed % 2);
    open_log(&b);
    b.disk.crash_at = b.disk.operations + n;
    for (int step = 0; step < 60 && !b.disk.crashed; step++) {
        uint64_t what = entropy_below(&b.entropy.base, 12);

        if (what < 6) {
            (void)write_entries(&b, b.last + 1, 1 + (unsigned)entropy_below(&b.entropy.base, 5), term, &e);
        } else if (what < 8 && b.last > kept + 1) { /* a new leader cuts */
            term++;
            (void)write_entries(&b, kept + 1 + entropy_below(&b.entropy.base, b.last - kept),
                                1 + (unsigned)entropy_below(&b.entropy.base, 3), term, &e);
        } else if (what == 8) {
            (void)disklog_spare(b.log, &e);
        } else if (what == 9) {
            if (disklog_vote_put(b.log, b.term + 1, 3, &e) == 0) {
                b.term++;
                b.vote = 3;
            }
        } else if (what == 10) {
            (void)disklog_mark(b.log, false, &e);
        } else if (b.last > 5) { /* a snapshot of all but the last entries */
            kept = MAX(kept, b.last - 3);
            (void)disklog_remove(b.log, b.places[kept + 1].segment, &e);
        }
    }
    reached = b.disk.crashed;
    disk_crash(&b.disk, entropy_below(&b.entropy.base, 2));
    close_log(&b);
    disk_restart(&b.disk);
    if (try_open(&b, &e) < 0)
        fail_msg("seed %llu, crash in operation %llu: %s", (unsigned long long)seed, (unsigned long long)n, e.text);
    if (b.found_first > kept + 1)
        fail_msg("seed %llu, crash in operation %llu: begins at %llu, needed from %llu", (unsigned long long)seed,
                 (unsigned long long)n, (unsigned long long)b.found_first, (unsigned long long)kept + 1);
    check_found(&b);
    assert_in_range(disklog_term(b.log), b.term, b.term + 1);
    /* And it goes on from there, over another crash. */
    adopt_found(&b);
    assert_int_equal(write_entries(&b, b.last + 1, 3, term + 1, &e), 0);
    disk_crash(&b.disk, true);
    close_log(&b);
    disk_restart(&b.disk);
    open_log(&b);
    check_found(&b);
    assert_int_equal(b.found_last, b.last);
    bench_fini(&b);
    return reached;
}

static void crash_at_every_operation_loses_nothing_that_returned(void **state)
{
    for (uint64_t seed = 1; seed <= 3; seed++)
        for (uint64_t n = 1; crash_life(seed, n); n++)
            continue;
}

/* Making a member is many steps: after a crash in any of them making it again works, or it exists. */
static void crash_while_a_member_is_made(void **state)
{
    bool more = true;

    for (uint64_t n = 1; more; n++) {
        struct bench b = {.segment_bytes = 8192, .last = 1, .terms = {[1] = 1}};
        uint8_t data[400];
        bool there;
        struct err e;

        fill(data, 1, 1);
        const struct segment_record first = {.index = 1, .term = 1, .type = 1, .data = data, .size = size_of(1, 1)};
        entropy_seeded_init(&b.entropy, n);
        disk_init(&b.disk, &b.entropy.base);
        b.env.entropy = &b.entropy.base;
        disk_serve(&b.env, disk_of);
        struct disklog_config config = config_of(&b);
        b.disk.crash_at = n;
        more = disklog_create(&config, 1, &first, &e) < 0;
        disk_crash(&b.disk, n % 2);
        disk_restart(&b.disk);
        assert_int_equal(disklog_exists(&config, &there, &e), 0);
        if (!there && disklog_create(&config, 1, &first, &e) < 0)
            fail_msg("crash in operation %llu: %s", (unsigned long long)n, e.text);
        open_log(&b);
        assert_int_equal(b.found_last, 1);
        assert_int_equal(disklog_create(&config, 1, &first, &e), ERR_EXISTS);
        bench_fini(&b);
    }
}

static void log_without_its_term_file_is_refused(void **state)
{
    struct bench b;
    struct err e;

    bench_init(&b, 8, 8192);
    struct disklog_config config = config_of(&b);
    disk_remove_name(&b.disk, "m/term");
    assert_int_equal(try_open(&b, &e), ERR_NOT_FOUND);
    assert_int_equal(disklog_create(&config, 0, NULL, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "term file is missing"));
    disk_fini(&b.disk);
}

static void wrong_key_is_refused(void **state)
{
    const struct disklog_found found = {.entry = on_entry, .reset = on_reset};
    struct bench b;
    struct disklog *l;
    struct err e;

    bench_init(&b, 9, 8192);
    struct disklog_config config = config_of(&b);
    config.key = other_key;
    assert_int_equal(disklog_open(&config, &found, &l, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "sealed under another key"));
    config = config_of(&b);
    config.id = 2;
    assert_int_equal(disklog_open(&config, &found, &l, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "belongs to member 1"));
    disk_fini(&b.disk);
}

/* --- R3: damage ----------------------------------------------------------------------------------- */

/* A log of about 64 KiB in several segments, killed: what returned must be found or the log be refused. */
static void make_log(struct bench *b, bool marked)
{
    bench_init(b, 10, 16384);
    open_log(b);
    while (b->last < 220)
        assert_int_equal(write_entries(b, b->last + 1, 1 + b->last % 7, 1, NULL), 0);
    assert_int_equal(disklog_spare(b->log, NULL), 0);
    if (marked)
        assert_int_equal(disklog_mark(b->log, false, NULL), 0);
    close_log(b);
    memcpy(b->next_terms, b->terms, sizeof(b->terms));
    b->next_last = b->last;
}

/* Open a damaged log. True: refused, or begins too late, which the caller refuses. Else everything must be there.
 */
static bool refused(struct bench *b, const char *file, size_t byte)
{
    struct err e;

    if (try_open(b, &e) < 0) {
        if (e.code != ERR_CORRUPT || (!strstr(e.text, "log segment") && !strstr(e.text, "m/term")))
            fail_msg("%s, byte %zu: refused without a name: %s", file, byte, e.text);
        return true;
    }
    check_found(b);
    if (b->found_last == b->last && b->found_first > 1) {
        close_log(b);
        return true;
    }
    if (b->found_last != b->last || b->found_first != 1)
        fail_msg("%s, byte %zu: entries %llu to %llu of 1 to %llu were found", file, byte,
                 (unsigned long long)b->found_first, (unsigned long long)b->found_last,
                 (unsigned long long)b->last);
    close_log(b);
    return false;
}

struct files {
    const char *paths[32];
    struct disk_node *nodes[32];
    size_t count;
};

static void list_file(void *ctx, const char *path, struct disk_node *n)
{
    struct files *f = ctx;

    f->paths[f->count] = path;
    f->nodes[f->count++] = n;
}

/* Opening may repair: work on a copy of the contents each time. DAMAGE=all takes every byte (make damage), else
 * those of headers and a sample of the others. */
static void with_each_byte(bool marked, bool (*damage)(struct disk_node *n, size_t byte), unsigned *ret_refused,
                           unsigned *ret_all)
{
    bool all = getenv("DAMAGE") != NULL;
    struct bench b;
    struct files files = {0};

    make_log(&b, marked);
    disk_each(&b.disk, "m/", list_file, &files);
    *ret_refused = *ret_all = 0;
    for (size_t i = 0; i < files.count; i++) {
        struct disk_node *n = files.nodes[i];
        AUTO_FREE
        char *path = mem_strdup(files.paths[i]);
        AUTO_FREE
        uint8_t *whole = mem_dup(n->cache, n->size);
        size_t size = n->size;

        for (size_t byte = 0; byte < size; byte += 1 + (!all && byte > 600 && byte % 512 > 40) * 30) {
            if (!damage(n, byte))
                continue;
            ++*ret_all;
            *ret_refused += refused(&b, path, byte);
            n = disk_find(&b.disk, path);
            if (!n)
                break; /* a spare was thrown away: no more of it to damage */
            disk_truncate(n, 0);
            disk_truncate(n, size);
            memcpy(n->cache, whole, size);
            memcpy(n->durable, whole, size);
        }
    }
    disk_fini(&b.disk);
}

static bool flip(struct disk_node *n, size_t byte)
{
    disk_flip(n, byte, (uint8_t)(1 + byte % 255));
    return true;
}

static bool cut_file(struct disk_node *n, size_t byte)
{
    disk_truncate(n, byte);
    return true;
}

/* Zeroes to the end of the file, as a disk that lost its last blocks. */
static bool zero_rest(struct disk_node *n, size_t byte)
{
    if (segment_zero(n->cache + byte, n->size - byte))
        return false;
    memset(n->cache + byte, 0, n->size - byte);
    memset(n->durable + byte, 0, n->durable_size - byte);
    return true;
}

static void every_flipped_byte_is_refused_or_recovered(void **state)
{
    unsigned refusals, all;

    with_each_byte(false, flip, &refusals, &all);
    assert_true(all > 5000 && refusals > all / 3);
}

static void every_cut_of_a_file_is_refused_or_recovered(void **state)
{
    unsigned refusals, all;

    with_each_byte(false, cut_file, &refusals, &all);
    assert_true(all > 5000 && refusals > all / 3);
}

static void every_zeroed_end_is_refused_or_recovered_once_marked(void **state)
{
    unsigned refusals, all;

    with_each_byte(true, zero_rest, &refusals, &all);
    assert_true(all > 2500 && refusals > all / 2);
}

static void missing_segment_is_refused(void **state)
{
    struct bench b;
    struct err e;

    make_log(&b, true);
    disk_remove_name(&b.disk, "m/log/0000000000000002");
    assert_int_equal(try_open(&b, &e), 0); /* entries 1.. are gone: the caller sees where it begins and refuses */
    assert_true(b.found_first > 1);
    close_log(&b);
    disk_fini(&b.disk);
    make_log(&b, true);
    AUTO_FREE
    char *last = mem_printf("m/log/%016x", 4);
    while (disk_find(&b.disk, last)) /* the newest ones */
        disk_remove_name(&b.disk, last), last[21]++;
    assert_int_equal(try_open(&b, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "is missing"));
    disk_fini(&b.disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_there_after_reopening),
        cmocka_unit_test(cut_entries_stay_cut),
        cmocka_unit_test(log_begins_anew_behind_a_snapshot),
        cmocka_unit_test(single_entries_are_read_again),
        cmocka_unit_test(segment_is_continued_only_when_it_was_closed),
        cmocka_unit_test(spares_are_made_ahead_and_used),
        cmocka_unit_test(ended_segments_give_back_what_they_do_not_use),
        cmocka_unit_test(crash_at_every_operation_loses_nothing_that_returned),
        cmocka_unit_test(crash_while_a_member_is_made),
        cmocka_unit_test(log_without_its_term_file_is_refused),
        cmocka_unit_test(wrong_key_is_refused),
        cmocka_unit_test(every_flipped_byte_is_refused_or_recovered),
        cmocka_unit_test(every_cut_of_a_file_is_refused_or_recovered),
        cmocka_unit_test(every_zeroed_end_is_refused_or_recovered_once_marked),
        cmocka_unit_test(missing_segment_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
