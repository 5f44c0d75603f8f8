/* One member on the real machine: files, threads, libuv's loop. What depends on several members is simulated
 * (tests/simulation/raft_sim.c). */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <uv.h>

#include "manager/raft/env.h"
#include "manager/raft/replica.h"
#include "proto/base/clock.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define PATIENCE_MS 60000 /* for machines that are busy; nothing here takes a second on an idle one */

static const uint8_t key[SEAL_KEY] = {1}, cluster[16] = {5};

/* A member and a store that remembers what it was given. */
struct bench {
    char dir[64];
    uv_loop_t loop;
    uv_timer_t patience;
    struct replica_env *env;
    struct replica *replica;
    uint64_t segment_bytes, snapshot_bytes;

    uint64_t applied;  /* index */
    uint64_t sum;      /* over everything applied */
    uint64_t commands; /* applied since open */
    enum replica_state state;
    bool in_call; /* of replica_*: no callback may come */
    bool closed, impatient;
    unsigned done, failed, reads, restores, snapshots;
    int last_code;
    uint64_t last_index;
    struct err fatal;
};

static void on_state(void *ctx, enum replica_state state, uint64_t term)
{
    struct bench *b = ctx;

    assert_false(b->in_call);
    b->state = state;
}

static int on_apply(void *ctx, const struct replica_entry *entries, size_t count, struct err *e)
{
    struct bench *b = ctx;

    assert_false(b->in_call);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(entries[i].index, b->applied + 1);
        b->applied = entries[i].index;
        b->sum = b->sum * 31 + entries[i].index;
        for (size_t k = 0; k < entries[i].size; k++)
            b->sum += ((const uint8_t *)entries[i].data)[k];
        b->commands += entries[i].data != NULL;
    }
    return 0;
}

struct source {
    uint64_t numbers[2];
    size_t at;
};

static long source_read(void *ctx, void *into, size_t size, struct err *e)
{
    struct source *s = ctx;

    size = MIN(size, sizeof(s->numbers) - s->at);
    memcpy(into, (char *)s->numbers + s->at, size);
    s->at += size;
    return (long)size;
}

static int on_snapshot(void *ctx, struct replica_snapshot_source *ret, struct err *e)
{
    struct bench *b = ctx;
    struct source *s = mem_alloc(sizeof(*s));

    assert_false(b->in_call);
    s->numbers[0] = b->applied;
    s->numbers[1] = b->sum;
    *ret = (struct replica_snapshot_source){.ctx = s, .read = source_read, .end = free, .index = b->applied};
    b->snapshots++;
    return 0;
}

static int on_restore(void *ctx, const void *data, size_t size, bool first, bool last, uint64_t index,
                      struct err *e)
{
    struct bench *b = ctx;
    uint64_t numbers[2];

    assert_true(first && last && size == sizeof(numbers));
    memcpy(numbers, data, sizeof(numbers));
    assert_int_equal(numbers[0], index);
    b->applied = numbers[0];
    b->sum = numbers[1];
    b->restores++;
    return 0;
}

static void on_fatal(void *ctx, const struct err *e)
{
    ((struct bench *)ctx)->fatal = *e;
}

static void on_impatient(uv_timer_t *timer)
{
    ((struct bench *)timer->data)->impatient = true;
}

/* Run the loop until the condition holds. */
#define until(b, condition)                                                                \
    do {                                                                                   \
        uv_timer_start(&(b)->patience, on_impatient, PATIENCE_MS, 0);                      \
        while (!(condition) && !(b)->impatient)                                            \
            uv_run(&(b)->loop, UV_RUN_ONCE);                                               \
        uv_timer_stop(&(b)->patience);                                                     \
        if (!(condition))                                                                  \
            fail_msg("not within %d ms: %s %s", PATIENCE_MS, #condition, (b)->fatal.text); \
    } while (0)

static struct replica_config config_of(struct bench *b)
{
    return (struct replica_config){
        .dir = b->dir,
        .id = 1,
        .address = "127.0.0.1:2377",
        .key = key,
        .cluster = cluster,
        .epoch = 1,
        .applied = b->applied,
        .segment_bytes = b->segment_bytes,
        .snapshot_bytes = b->snapshot_bytes,
        .env = b->env,
    };
}

static void begin(struct bench *b)
{
    *b = (struct bench){.segment_bytes = 256 << 10};
    (void)snprintf(b->dir, sizeof(b->dir), "/tmp/shoal-replica-test-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    assert_int_equal(uv_loop_init(&b->loop), 0);
    uv_timer_init(&b->loop, &b->patience);
    b->patience.data = b;
}

static int try_open(struct bench *b, struct err *e)
{
    const struct replica_events events = {.ctx = b,
                                          .on_state = on_state,
                                          .on_apply = on_apply,
                                          .on_snapshot = on_snapshot,
                                          .on_restore = on_restore,
                                          .on_fatal = on_fatal};

    b->env = replica_env_real(&b->loop, NULL);
    b->state = REPLICA_FOLLOWER;
    b->commands = 0;
    struct replica_config config = config_of(b);
    return replica_open(&config, &events, &b->replica, e);
}

static void open_replica(struct bench *b)
{
    struct err e;

    if (try_open(b, &e) < 0)
        fail_msg("%s", e.text);
}

static void bootstrap(struct bench *b)
{
    struct err e;

    b->env = replica_env_real(&b->loop, NULL);
    struct replica_config config = config_of(b);
    if (replica_bootstrap(&config, &e) < 0)
        fail_msg("%s", e.text);
    replica_env_real_free(b->env);
    open_replica(b);
    until(b, b->state == REPLICA_LEADER);
}

static void on_closed(void *ctx)
{
    ((struct bench *)ctx)->closed = true;
}

static void close_replica(struct bench *b)
{
    b->closed = false;
    replica_close(b->replica, on_closed, b);
    assert_false(b->closed);
    until(b, b->closed);
    replica_env_real_free(b->env);
}

static void end(struct bench *b)
{
    uv_close((uv_handle_t *)&b->patience, NULL);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&b->loop), 0); /* nothing was left open */
    (void)tree_remove(AT_FDCWD, b->dir, NULL);    /* else /tmp keeps it */
}

static void on_done(void *ctx, const struct err *e, uint64_t index)
{
    struct bench *b = ctx;

    assert_false(b->in_call);
    b->done++;
    b->failed += e->code != 0;
    b->last_code = e->code;
    if (e->code == 0) {
        assert_true(index <= b->applied); /* applied before it is answered */
        assert_true(index > b->last_index);
        b->last_index = index;
    }
}

static int propose(struct bench *b, const void *data, size_t size, struct err *e)
{
    b->in_call = true;
    int rc = replica_propose(b->replica, data, size, on_done, b, e);
    b->in_call = false;
    return rc;
}

static void propose_many(struct bench *b, unsigned count)
{
    unsigned want = b->done + count;
    struct err e;

    for (unsigned i = 0; i < count; i++) {
        char data[300];

        memset(data, (int)i, sizeof(data));
        if (propose(b, data, 1 + i % sizeof(data), &e) < 0)
            fail_msg("%s", e.text);
    }
    until(b, b->done == want);
    assert_int_equal(b->failed, 0);
}

static void on_read(void *ctx, const struct err *e)
{
    struct bench *b = ctx;

    assert_false(b->in_call);
    assert_int_equal(e->code, 0);
    b->reads++;
}

static void first_member_leads_and_commits(void **state)
{
    struct replica_member members[4];
    const char *address;
    struct bench b;

    begin(&b);
    bootstrap(&b);
    assert_int_equal(replica_state(b.replica), REPLICA_LEADER);
    assert_int_equal(replica_leader(b.replica, &address), 1);
    assert_string_equal(address, "127.0.0.1:2377");
    propose_many(&b, 500);
    assert_int_equal(b.commands, 500);
    assert_int_equal(replica_commit_index(b.replica), replica_last_index(b.replica));
    assert_int_equal(replica_members(b.replica, members, 4), 1);
    assert_int_equal(members[0].match, replica_last_index(b.replica));
    assert_true(members[0].voter);
    close_replica(&b);
    end(&b);
}

static void reads_are_answered_after_what_was_committed(void **state)
{
    struct bench b;

    begin(&b);
    bootstrap(&b);
    for (int i = 0; i < 10; i++)
        assert_int_equal(replica_read(b.replica, on_read, &b, NULL), 0);
    assert_int_equal(b.reads, 0);
    until(&b, b.reads == 10);
    close_replica(&b);
    end(&b);
}

static void everything_is_given_again_to_an_empty_store(void **state)
{
    struct bench b;

    begin(&b);
    bootstrap(&b);
    propose_many(&b, 300);
    uint64_t applied = b.applied, sum = b.sum, term = replica_term(b.replica);
    close_replica(&b);
    b.applied = b.sum = 0; /* the store was lost */
    open_replica(&b);
    until(&b, b.state == REPLICA_LEADER);
    assert_int_equal(b.commands, 300);
    assert_int_equal(b.applied, applied + 1); /* and the new term's barrier */
    assert_int_equal(b.sum, sum * 31 + b.applied);
    assert_int_equal(replica_term(b.replica), term + 1);
    close_replica(&b);
    end(&b);
}

static void nothing_is_given_again_that_the_store_has(void **state)
{
    struct bench b;

    begin(&b);
    bootstrap(&b);
    propose_many(&b, 100);
    close_replica(&b);
    open_replica(&b);
    until(&b, b.state == REPLICA_LEADER);
    assert_int_equal(b.commands, 0);
    propose_many(&b, 1);
    assert_int_equal(b.commands, 1);
    close_replica(&b);
    end(&b);
}

static void snapshot_replaces_the_log_and_restores_the_store(void **state)
{
    struct replica_stats stats;
    struct bench b;

    begin(&b);
    b.segment_bytes = 64 << 10;
    b.snapshot_bytes = 100 << 10;
    bootstrap(&b);
    for (int i = 0; i < 20; i++)
        propose_many(&b, 100);
    until(&b, (replica_stats(b.replica, &stats), stats.snapshots >= 2));
    assert_true(stats.log_bytes < 600 << 10); /* of nearly half a megabyte written the oldest segments are gone */
    uint64_t applied = b.applied, sum = b.sum;
    close_replica(&b);
    b.applied = b.sum = 0;
    b.restores = 0;
    open_replica(&b);
    assert_int_equal(b.restores, 1);
    until(&b, b.state == REPLICA_LEADER);
    assert_int_equal(b.applied, applied + 1);
    assert_int_equal(b.sum, sum * 31 + b.applied);
    assert_true(b.commands < 2000);
    close_replica(&b);
    end(&b);
}

static void proposals_are_refused_with_the_reason(void **state)
{
    static char large[(2 << 20) + 1];
    struct bench b;
    struct err e;

    begin(&b);
    b.segment_bytes = 8 << 20;
    bootstrap(&b);
    assert_int_equal(propose(&b, large, sizeof(large), &e), ERR_LIMIT);
    assert_non_null(strstr(e.text, "2097153 bytes"));
    assert_int_equal(propose(&b, large, sizeof(large) - 1, &e), 0);
    until(&b, b.done == 1);
    int rc = 0;
    for (int i = 0; rc == 0 && i < 100; i++)
        rc = propose(&b, large, sizeof(large) - 1, &e);
    assert_int_equal(rc, ERR_LIMIT);
    assert_non_null(strstr(e.text, "under way"));
    until(&b, b.done == 1 + 6);
    close_replica(&b);
    open_replica(&b); /* not leader yet: its barrier is not applied */
    assert_int_equal(propose(&b, "x", 1, &e), ERR_UNAVAILABLE);
    assert_int_equal(replica_read(b.replica, on_read, &b, &e), ERR_UNAVAILABLE);
    assert_int_equal(replica_leader(b.replica, NULL), 0);
    close_replica(&b);
    end(&b);
}

static void closing_answers_what_is_under_way(void **state)
{
    struct bench b;
    struct err e;

    begin(&b);
    bootstrap(&b);
    for (int i = 0; i < 5; i++)
        assert_int_equal(propose(&b, "x", 1, &e), 0);
    close_replica(&b);
    assert_int_equal(b.done, 5);
    assert_int_equal(b.failed, 5);
    assert_int_equal(b.last_code, ERR_CANCELED);
    end(&b);
}

static void bootstrapping_twice_is_refused(void **state)
{
    struct bench b;
    struct err e;

    begin(&b);
    bootstrap(&b);
    struct replica_config config = config_of(&b);
    assert_int_equal(replica_bootstrap(&config, &e), ERR_EXISTS);
    close_replica(&b);
    end(&b);
}

static void member_without_a_log_waits_for_a_leader(void **state)
{
    struct bench b;

    begin(&b);
    open_replica(&b);
    for (int i = 0; i < 5; i++)
        uv_run(&b.loop, UV_RUN_NOWAIT);
    assert_int_equal(replica_state(b.replica), REPLICA_FOLLOWER);
    assert_int_equal(replica_last_index(b.replica), 0);
    assert_int_equal(replica_members(b.replica, NULL, 0), 0);
    close_replica(&b);
    end(&b);
}

static void store_that_knows_more_than_the_log_is_refused(void **state)
{
    struct bench b;
    struct err e;

    begin(&b);
    bootstrap(&b);
    close_replica(&b);
    b.applied = 1000;
    assert_int_equal(try_open(&b, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "the store has applied entry 1000, but the log ends at entry 2"));
    replica_env_real_free(b.env);
    end(&b);
}

/* A process that commits as fast as it can is killed again and again: what it had answered is there. */
static void kills_lose_nothing_that_was_answered(void **state)
{
    struct bench b;

    begin(&b);
    b.segment_bytes = 64 << 10;
    b.snapshot_bytes = 50 << 10;
    bootstrap(&b);
    close_replica(&b);
    for (int round = 0; round < 12; round++) {
        int ends[2];
        uint64_t answered = 0, index;

        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct bench c = b;

            close(ends[0]);
            alarm(PATIENCE_MS / 1000);
            if (uv_loop_init(&c.loop) != 0)
                _exit(3);
            c.applied = c.sum = 0;
            if (try_open(&c, NULL) < 0)
                _exit(4);
            for (c.last_index = 0;;) {
                uv_run(&c.loop, UV_RUN_ONCE);
                while (c.state == REPLICA_LEADER && propose(&c, "some change", 11, NULL) == 0 && c.applied % 7)
                    continue;
                if (c.last_index && write(ends[1], &c.last_index, sizeof(c.last_index)) < 0)
                    _exit(5);
            }
        }
        close(ends[1]);
        for (int i = 0; i < 20 + round * 10 && read(ends[0], &index, sizeof(index)) == sizeof(index); i++)
            answered = index;
        assert_true(answered > 0);
        kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
        while (read(ends[0], &index, sizeof(index)) == sizeof(index))
            answered = index;
        close(ends[0]);
        b.applied = b.sum = 0;
        open_replica(&b);
        until(&b, b.state == REPLICA_LEADER);
        assert_true(b.applied > answered);
        close_replica(&b);
    }
    end(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_member_leads_and_commits),
        cmocka_unit_test(reads_are_answered_after_what_was_committed),
        cmocka_unit_test(everything_is_given_again_to_an_empty_store),
        cmocka_unit_test(nothing_is_given_again_that_the_store_has),
        cmocka_unit_test(snapshot_replaces_the_log_and_restores_the_store),
        cmocka_unit_test(proposals_are_refused_with_the_reason),
        cmocka_unit_test(closing_answers_what_is_under_way),
        cmocka_unit_test(bootstrapping_twice_is_refused),
        cmocka_unit_test(member_without_a_log_waits_for_a_leader),
        cmocka_unit_test(store_that_knows_more_than_the_log_is_refused),
        cmocka_unit_test(kills_lose_nothing_that_was_answered),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
