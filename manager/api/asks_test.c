/* Asks against a control loop that does what the test says: who leads, what a draft takes, what becomes of it, and
 * what the client is told when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "manager/api/asks.h"
#include "proto/base/mem.h"

/* --- the control loop ------------------------------------------------------------------------------------ */

struct control {
    bool leads;
    struct err blocked; /* code: why nothing is taken */
    struct list queue;  /* of control_write */
    struct list watches;
    void (*read_done)(void *ctx, const struct err *e); /* of one that is under way; NULL: none */
    void *read_ctx;
    unsigned reads;
};

static struct control fake;

void control_submit(struct control *c, struct control_write *w)
{
    w->replayed = w->unknown = w->failed = false;
    list_push(&c->queue, &w->link);
}

int control_read(struct control *c, void (*done)(void *ctx, const struct err *e), void *ctx, struct err *e)
{
    if (!c->leads)
        return err_set(e, ERR_UNAVAILABLE, "this manager does not lead");
    assert_null(c->read_done);
    c->read_done = done;
    c->read_ctx = ctx;
    c->reads++;
    return 0;
}

int control_blocked(const struct control *c, struct err *e)
{
    if (c->blocked.code)
        *e = c->blocked;
    return c->blocked.code;
}

bool control_leads(const struct control *c)
{
    return c->leads;
}

void control_watch(struct control *c, struct control_watch *w)
{
    list_push(&c->watches, &w->link);
}

void control_unwatch(struct control *c, struct control_watch *w)
{
    list_remove(&w->link);
}

struct store *control_store(struct control *c)
{
    return NULL; /* nothing here reads */
}

struct index *control_index(struct control *c)
{
    return NULL;
}

struct replica *control_replica(struct control *c)
{
    return NULL;
}

int64_t control_now_ms(struct control *c)
{
    return 0;
}

static void lead(bool leads)
{
    struct control_watch *w, *after;

    fake.leads = leads;
    list_each_safe (w, after, &fake.watches, link)
        if (w->on_leads)
            w->on_leads(w, leads);
}

/* The next draft takes the first write that waits. */
static struct control_write *execute(void)
{
    struct control_write *w = list_first(&fake.queue, struct control_write, link);

    assert_non_null(w);
    list_remove(&w->link);
    w->failed = w->execute(w, NULL, NULL, &w->error) < 0;
    return w;
}

static void applied(struct control_write *w)
{
    struct err fine = {0};

    w->done(w, w->failed ? &w->error : &fine, 1);
}

static void lost(struct control_write *w, bool unknown)
{
    struct err e;

    err_set(&e, ERR_UNAVAILABLE, "leadership was lost");
    w->unknown = unknown;
    w->done(w, &e, 0);
}

static void confirm_read(int code)
{
    void (*done)(void *ctx, const struct err *e) = fake.read_done;
    struct err e = {.code = code};

    assert_non_null(done);
    fake.read_done = NULL;
    done(fake.read_ctx, &e);
}

/* --- asks ------------------------------------------------------------------------------------------------ */

static struct asks *asks;
static int64_t now_us;
static unsigned executions;

static int64_t mono_us(struct clock *c)
{
    return now_us;
}

static struct clock manual = {.mono_us = mono_us};

struct client {
    struct ask *ask;
    bool done;
    int status;
    char text[1100];
};

static void on_page(void *ctx, struct ask *k)
{
    struct client *c = k->door;

    assert_false(c->done);
    c->done = !k->page.more;
    c->status = k->page.status;
    assert_true(k->page.bytes.length < sizeof(c->text));
    memcpy(c->text, buf_str(&k->page.bytes), k->page.bytes.length + 1);
}

static void on_dropped(void *ctx, struct ask *k)
{
    (void)k; /* the test knows */
}

static void on_wake(void *ctx)
{
    (void)ctx; /* every test turns by itself */
}

static int put(struct ask *k, struct control_write *w, struct draft *d, struct plan *p, struct err *e)
{
    executions++;
    w->http_status = 201;
    buf_append_str(&w->reply, "made");
    return 0;
}

static void begin_write(struct ask *k)
{
    ask_write(k, put);
}

static void answer_read(struct ask *k)
{
    buf_append_str(&k->page.bytes, "read");
    ask_reply(k, 200);
}

static void begin_read(struct ask *k)
{
    ask_read(k, answer_read);
}

static const struct ask_route write_route = {"POST", "/things", ASK_WRITE, .begin = begin_write};
static const struct ask_route read_route = {"GET", "/things", ASK_READ, .begin = begin_read};

static void ask(struct client *c, const struct ask_route *route)
{
    *c = (struct client){.ask = ask_new()};
    c->ask->route = route;
    c->ask->door = c;
    asks_begin(asks, c->ask);
}

static void ask_end(struct client *c)
{
    assert_true(c->done);
    ask_free(c->ask);
}

static void after_ms(int64_t ms)
{
    now_us += ms * 1000;
    (void)asks_turn(asks); /* the test knows when it is due again */
}

static void expect(const struct client *c, int status, const char *text)
{
    assert_true(c->done);
    assert_int_equal(c->status, status);
    if (!strstr(c->text, text))
        fail_msg("\"%s\" is not in \"%s\"", text, c->text);
}

static int setup(void **state)
{
    struct asks_config config = {.control = &fake,
                                 .clock = &manual,
                                 .entropy = entropy_real(),
                                 .node_id = "",
                                 .wake = on_wake,
                                 .on_page = on_page,
                                 .on_dropped = on_dropped};

    fake = (struct control){.leads = true};
    list_init(&fake.queue);
    list_init(&fake.watches);
    now_us = 1000000;
    executions = 0;
    asks = asks_new(&config);
    return 0;
}

static int teardown(void **state)
{
    while (!list_empty(&fake.queue)) /* as control does when it closes */
        lost(execute(), false);
    asks_free(asks);
    return 0;
}

/* --- writes ------------------------------------------------------------------------------------------------ */

static void write_is_answered_with_what_its_execution_left(void **state)
{
    struct client c;

    ask(&c, &write_route);
    applied(execute());
    expect(&c, 201, "made");
    ask_end(&c);
}

/* The log's disk fills while a draft is under way: nobody takes what comes then. */
static void write_that_waits_behind_a_full_disk_is_refused_with_the_reason(void **state)
{
    struct client first, second;

    ask(&first, &write_route);
    struct control_write *under_way = execute();
    ask(&second, &write_route);
    err_set(&fake.blocked, ERR_UNAVAILABLE, "the disk of the raft log is full");
    after_ms(9900);
    assert_false(second.done);
    after_ms(200);
    expect(&second, 503, "{\"message\":\"the disk of the raft log is full\"}");
    assert_false(first.done);
    applied(under_way);
    expect(&first, 201, "made");

    /* Refused is refused: it is not done when there is room again. */
    fake.blocked.code = 0;
    struct control_write *late = execute();
    assert_true(late->failed);
    applied(late);
    assert_int_equal(executions, 1);
    ask_end(&first);
    ask_end(&second);
}

static void write_under_way_on_a_full_disk_has_an_unknown_outcome_and_the_reason(void **state)
{
    struct client c;

    ask(&c, &write_route);
    struct control_write *w = execute();
    err_set(&fake.blocked, ERR_UNAVAILABLE, "the disk of the raft log is full");
    after_ms(19900);
    assert_false(c.done);
    after_ms(200);
    expect(&c, 503, "outcome unknown: the request ");
    expect(&c, 503, "was not decided within 20 s: the disk of the raft log is full");
    applied(w); /* nobody waits for it any more */
    ask_end(&c);
}

static void write_that_was_lost_is_done_again_with_its_id(void **state)
{
    uint8_t id[16];
    struct client c;

    ask(&c, &write_route);
    struct control_write *w = execute();
    memcpy(id, w->request_id, sizeof(id));
    lead(false);
    lost(w, true);
    after_ms(1000);
    assert_false(c.done);
    lead(true);
    w = execute();
    assert_memory_equal(w->request_id, id, sizeof(id));
    applied(w);
    expect(&c, 201, "made");
    ask_end(&c);
}

static void write_that_was_lost_and_found_no_leader_again_has_an_unknown_outcome(void **state)
{
    struct client c;

    ask(&c, &write_route);
    struct control_write *w = execute();
    lead(false);
    lost(w, true);
    after_ms(19900);
    assert_false(c.done);
    after_ms(200);
    expect(&c, 503, "outcome unknown");
    ask_end(&c);
}

/* --- without a leader -------------------------------------------------------------------------------------- */

static void without_a_leader_reads_and_writes_are_refused_within_ten_seconds(void **state)
{
    struct client read, write;

    lead(false);
    ask(&read, &read_route);
    ask(&write, &write_route);
    after_ms(9900);
    assert_false(read.done || write.done);
    after_ms(100);
    expect(&read, 503,
           "The swarm does not have a leader. It's possible that too few managers are online. Make sure");
    expect(&write, 503, "The swarm does not have a leader. It's possible that too few managers are online. Make");
    assert_int_equal(executions, 0);
    assert_true(list_empty(&fake.queue));
    ask_end(&read);
    ask_end(&write);
}

static void what_waits_for_a_leader_goes_on_when_there_is_one(void **state)
{
    struct client c;

    lead(false);
    ask(&c, &read_route);
    after_ms(5000);
    assert_int_equal(fake.reads, 0);
    lead(true);
    assert_int_equal(fake.reads, 1);
    confirm_read(0);
    expect(&c, 200, "read");
    ask_end(&c);
}

static void read_that_was_not_confirmed_is_asked_again(void **state)
{
    struct client c;

    ask(&c, &read_route);
    confirm_read(ERR_UNAVAILABLE);
    assert_false(c.done);
    after_ms(100);
    assert_int_equal(fake.reads, 2);
    confirm_read(0);
    expect(&c, 200, "read");
    ask_end(&c);
}

/* --- the end ----------------------------------------------------------------------------------------------- */

static void refusing_answers_what_is_there_and_what_comes(void **state)
{
    struct client first, second;
    struct err e;

    ask(&first, &write_route);
    err_set(&e, ERR_UNAVAILABLE, "the manager is stopping");
    asks_refuse(asks, &e);
    expect(&first, 503, "the manager is stopping");
    ask(&second, &read_route);
    expect(&second, 503, "the manager is stopping");
    ask_end(&first);
    ask_end(&second);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(write_is_answered_with_what_its_execution_left),
        TEST(write_that_waits_behind_a_full_disk_is_refused_with_the_reason),
        TEST(write_under_way_on_a_full_disk_has_an_unknown_outcome_and_the_reason),
        TEST(write_that_was_lost_is_done_again_with_its_id),
        TEST(write_that_was_lost_and_found_no_leader_again_has_an_unknown_outcome),
        TEST(without_a_leader_reads_and_writes_are_refused_within_ten_seconds),
        TEST(what_waits_for_a_leader_goes_on_when_there_is_one),
        TEST(read_that_was_not_confirmed_is_asked_again),
        TEST(refusing_answers_what_is_there_and_what_comes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
