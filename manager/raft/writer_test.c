/* What the writer reports as durable (reference/raft-step.md 2.4), in which order it writes, and what it does when
 * the disk is full or fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <raft.h>

#include "manager/raft/log_private.h"
#include "manager/raft/writer.h"
#include "proto/base/mem.h"
#include "tests/simulation/raft_disk.h"

static const uint8_t key[SEAL_KEY] = {1}, cluster[16] = {5};

/* A writer whose log lane runs when the test says so. */
struct bench {
    struct entropy_seeded entropy;
    struct clock clock;
    int64_t now_us;
    struct disk disk;
    struct replica_env env;
    struct list posted, ran;
    struct disklog *log;
    struct tail tail;
    struct writer writer;
    uint64_t durable; /* reported last; 0: nothing since it was looked at */
    unsigned voted, reset, closed, full, failed;
};

static struct disk *disk_of(struct replica_env *env)
{
    return &container_of(env, struct bench, env)->disk;
}

static struct bench *bench_of(struct replica_env *env)
{
    return container_of(env, struct bench, env);
}

static void post(struct replica_env *env, enum env_lane lane, struct env_job *job)
{
    assert_int_equal(lane, ENV_LANE_LOG);
    list_push(&bench_of(env)->posted, &job->link);
}

static int64_t mono_us(struct clock *c)
{
    return container_of(c, struct bench, clock)->now_us;
}

static void on_durable(void *ctx, uint64_t index)
{
    ((struct bench *)ctx)->durable = index;
}

static void on_voted(void *ctx)
{
    ((struct bench *)ctx)->voted++;
}

static void on_reset(void *ctx)
{
    ((struct bench *)ctx)->reset++;
}

static void on_closed(void *ctx)
{
    ((struct bench *)ctx)->closed++;
}

static void on_full(void *ctx)
{
    ((struct bench *)ctx)->full++;
}

static void on_failed(void *ctx, const struct err *e)
{
    ((struct bench *)ctx)->failed++;
}

static int found_entry(void *ctx, const struct segment_record *record, struct disklog_place place, struct err *e)
{
    struct bench *b = ctx;

    if (record->cut)
        tail_cut(&b->tail, record->index);
    tail_append_stored(&b->tail, record->term, record->type, record->data, record->size, place);
    return 0;
}

static void found_reset(void *ctx, uint64_t index, uint64_t term)
{
    tail_reset(&((struct bench *)ctx)->tail, index, term);
}

static void open_log(struct bench *b)
{
    const struct disklog_found found = {.ctx = b, .entry = found_entry, .reset = found_reset};
    const struct disklog_config config = {
        .env = &b->env, .dir = "m", .key = key, .cluster = cluster, .id = 1, .segment_bytes = 8192};
    struct err e;

    tail_init(&b->tail);
    if (disklog_open(&config, &found, &b->log, &e) < 0)
        fail_msg("%s", e.text);
}

static void begin(struct bench *b)
{
    const struct segment_record first = {
        .index = 1, .term = 1, .type = RAFT_COMMAND, .data = (uint8_t *)"1", .size = 1};
    const struct writer_events events = {.ctx = b,
                                         .on_durable = on_durable,
                                         .on_voted = on_voted,
                                         .on_reset = on_reset,
                                         .on_closed = on_closed,
                                         .on_full = on_full,
                                         .on_failed = on_failed};
    struct err e;

    *b = (struct bench){.clock.mono_us = mono_us, .now_us = 1000};
    entropy_seeded_init(&b->entropy, 1);
    disk_init(&b->disk, &b->entropy.base);
    disk_serve(&b->env, disk_of);
    b->env.entropy = &b->entropy.base;
    b->env.clock = &b->clock;
    b->env.post = post;
    list_init(&b->posted);
    list_init(&b->ran);
    const struct disklog_config config = {
        .env = &b->env, .dir = "m", .key = key, .cluster = cluster, .id = 1, .segment_bytes = 8192};
    if (disklog_create(&config, 1, &first, &e) < 0)
        fail_msg("%s", e.text);
    open_log(b);
    writer_init(&b->writer, &b->env, b->log, &b->tail, &events);
}

static void end(struct bench *b)
{
    writer_fini(&b->writer);
    disklog_free(b->log);
    tail_fini(&b->tail);
    disk_fini(&b->disk);
}

/* The lane runs everything posted; the loop has not heard of it yet. */
static unsigned run_lane(struct bench *b)
{
    unsigned count = 0;
    struct list *link;

    while ((link = list_pop(&b->posted))) {
        struct env_job *job = list_entry(link, struct env_job, link);

        job->work(job);
        list_push(&b->ran, link);
        count++;
    }
    return count;
}

static void hear(struct bench *b)
{
    struct list *link;

    while ((link = list_pop(&b->ran))) {
        struct env_job *job = list_entry(link, struct env_job, link);

        job->done(job);
    }
}

static uint64_t take_durable(struct bench *b)
{
    uint64_t durable = b->durable;

    b->durable = 0;
    return durable;
}

/* The core appends `count` entries of a term from `first` on, cutting what is there. */
static void append(struct bench *b, uint64_t first, unsigned count, uint64_t term)
{
    bool cut = first <= b->tail.last;

    if (cut)
        tail_cut(&b->tail, first);
    for (unsigned i = 0; i < count; i++) {
        struct block *block = block_new(50);

        memset(block->bytes, (int)(first + i), 50);
        tail_append(&b->tail, term, RAFT_COMMAND, block->bytes, 50, block);
        block_unref(block);
    }
    writer_entries(&b->writer, first, count, cut);
}

static void entries_are_durable_once_written_and_have_places(void **state)
{
    struct bench b;

    begin(&b);
    append(&b, 2, 3, 1);
    assert_int_equal(take_durable(&b), 0);
    run_lane(&b);
    assert_int_equal(take_durable(&b), 0); /* the loop has not heard */
    assert_int_equal(tail_place(&b.tail, 3).segment, 0);
    hear(&b);
    assert_int_equal(take_durable(&b), 4);
    assert_int_equal(tail_place(&b.tail, 3).segment, 1);
    assert_true(writer_idle(&b.writer));
    end(&b);
}

static void everything_that_waits_is_one_write(void **state)
{
    struct bench b;

    begin(&b);
    uint64_t before = disklog_writes(b.log);
    for (uint64_t i = 2; i < 20; i++)
        append(&b, i, 1, 1);
    assert_int_equal(run_lane(&b), 1);
    hear(&b);
    assert_int_equal(take_durable(&b), 19);
    assert_int_equal(disklog_writes(b.log) - before, 1);
    append(&b, 20, 1, 1);
    append(&b, 21, 1, 1);
    run_lane(&b);
    append(&b, 22, 1, 1); /* while the first write's end is on its way to the loop */
    assert_int_equal(run_lane(&b), 1);
    hear(&b);
    assert_int_equal(take_durable(&b), 22);
    end(&b);
}

/* Rule (a): what was cut and replaced by another term is not vouched for by the old write. */
static void replaced_entry_is_not_durable_by_the_old_write(void **state)
{
    struct bench b;

    begin(&b);
    append(&b, 2, 4, 1);
    run_lane(&b);
    append(&b, 3, 1, 2); /* before the loop hears of the first write */
    hear(&b);
    assert_int_equal(take_durable(&b), 2);
    run_lane(&b);
    hear(&b);
    assert_int_equal(take_durable(&b), 3);
    assert_int_equal(b.tail.last, 3);
    end(&b);
}

/* Rule (b): an entry that was cut and came back with the same term is durable by the later write alone: a crash
 * between the two loses it. */
static void entry_that_came_back_is_not_durable_by_the_old_write(void **state)
{
    struct bench b;

    begin(&b);
    append(&b, 2, 4, 1);
    run_lane(&b);
    append(&b, 3, 1, 2); /* cut */
    append(&b, 3, 2, 1); /* and here they are again, as they were */
    hear(&b);
    assert_int_equal(take_durable(&b), 2);
    assert_int_equal(tail_place(&b.tail, 3).segment, 0);
    run_lane(&b);
    hear(&b);
    assert_int_equal(take_durable(&b), 4);
    end(&b);
}

static void nothing_of_a_log_that_began_anew_is_durable(void **state)
{
    struct bench b;

    begin(&b);
    append(&b, 2, 4, 1);
    tail_reset(&b.tail, 100, 7);
    writer_reset(&b.writer, 100, 7);
    run_lane(&b);
    hear(&b);
    assert_int_equal(take_durable(&b), 0);
    assert_int_equal(b.reset, 1);
    append(&b, 101, 1, 7);
    run_lane(&b);
    hear(&b);
    assert_int_equal(take_durable(&b), 101);
    end(&b);
}

static void vote_is_written_before_the_entries_that_wait(void **state)
{
    struct bench b;

    begin(&b);
    append(&b, 2, 1, 1);
    writer_vote(&b.writer, 9, 3);
    b.disk.crash_at = b.disk.operations + 3; /* after the two copies of the vote */
    run_lane(&b);
    assert_int_equal(b.log->meta.state.term, 9);
    assert_int_equal(b.log->meta.state.vote, 3);
    hear(&b);
    assert_int_equal(take_durable(&b), 0);
    end(&b);
}

static void full_disk_keeps_the_order_and_loses_nothing(void **state)
{
    struct bench b;

    begin(&b);
    append(&b, 2, 60, 1); /* fills the first segment */
    run_lane(&b);
    hear(&b);
    take_durable(&b);
    b.disk.full = true;
    append(&b, 62, 80, 1);
    run_lane(&b);
    append(&b, 142, 3, 1); /* comes while it is full */
    run_lane(&b);
    hear(&b);
    assert_int_equal(b.full, 1);
    assert_int_equal(b.failed, 0);
    uint64_t part = take_durable(&b);
    assert_true(part < 142);
    assert_false(writer_idle(&b.writer));
    writer_retry(&b.writer);
    run_lane(&b);
    hear(&b);
    assert_int_equal(b.full, 2);
    b.disk.full = false;
    writer_retry(&b.writer);
    run_lane(&b);
    hear(&b);
    assert_int_equal(take_durable(&b), 144);
    assert_true(writer_idle(&b.writer));
    disklog_free(b.log);
    tail_fini(&b.tail);
    open_log(&b);
    assert_int_equal(b.tail.last, 144);
    b.writer.log = b.log;
    end(&b);
}

static void failed_write_is_told_once_and_nothing_is_written_after_it(void **state)
{
    struct bench b;

    begin(&b);
    b.disk.broken = true;
    append(&b, 2, 1, 1);
    run_lane(&b);
    hear(&b);
    assert_int_equal(b.failed, 1);
    b.disk.broken = false;
    uint64_t before = b.disk.operations;
    append(&b, 3, 1, 1);
    writer_vote(&b.writer, 4, 1);
    run_lane(&b);
    hear(&b);
    assert_int_equal(b.failed, 1);
    assert_int_equal(b.voted, 0);
    assert_int_equal(take_durable(&b), 0);
    assert_int_equal(b.disk.operations, before);
    end(&b);
}

static void age_of_the_oldest_write_is_known(void **state)
{
    struct bench b;

    begin(&b);
    assert_int_equal(writer_since_us(&b.writer), -1);
    append(&b, 2, 1, 1);
    b.now_us = 5000;
    append(&b, 3, 1, 1);
    assert_int_equal(writer_since_us(&b.writer), 1000);
    run_lane(&b);
    hear(&b);
    assert_int_equal(writer_since_us(&b.writer), -1);
    end(&b);
}

static void closing_mark_comes_last(void **state)
{
    struct bench b;

    begin(&b);
    append(&b, 2, 1, 1);
    writer_close(&b.writer);
    run_lane(&b);
    hear(&b);
    assert_int_equal(b.closed, 1);
    assert_true(b.log->meta.state.clean);
    assert_int_equal(b.log->meta.state.mark_offset, b.log->at);
    end(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_durable_once_written_and_have_places),
        cmocka_unit_test(everything_that_waits_is_one_write),
        cmocka_unit_test(replaced_entry_is_not_durable_by_the_old_write),
        cmocka_unit_test(entry_that_came_back_is_not_durable_by_the_old_write),
        cmocka_unit_test(nothing_of_a_log_that_began_anew_is_durable),
        cmocka_unit_test(vote_is_written_before_the_entries_that_wait),
        cmocka_unit_test(full_disk_keeps_the_order_and_loses_nothing),
        cmocka_unit_test(failed_write_is_told_once_and_nothing_is_written_after_it),
        cmocka_unit_test(age_of_the_oldest_write_is_known),
        cmocka_unit_test(closing_mark_comes_last),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
