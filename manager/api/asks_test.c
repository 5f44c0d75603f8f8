/* Asks against a control loop and a leader elsewhere that do what the test says: who leads, what a draft takes,
 * what becomes of it, what the leader answers, and what the client is told when. */
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
    const char *leader; /* address of another that leads; NULL: none is known */
    struct replica_member members[4];
    size_t member_count;
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

static struct index fake_index;

struct index *control_index(struct control *c)
{
    return &fake_index;
}

struct replica *control_replica(struct control *c)
{
    return NULL;
}

int64_t control_now_ms(struct control *c)
{
    return 0;
}

uint64_t control_leader(const struct control *c, const char **ret_address)
{
    if (ret_address)
        *ret_address = c->leader;
    return c->leads ? 1 : c->leader ? 2 : 0;
}

uint64_t replica_leader(const struct replica *r, const char **ret_address)
{
    return control_leader(&fake, ret_address);
}

uint64_t replica_id(const struct replica *r)
{
    return 1;
}

size_t replica_members(const struct replica *r, struct replica_member *ret, size_t max)
{
    memcpy(ret, fake.members, fake.member_count * sizeof(*ret));
    return fake.member_count;
}

static void change_leader(bool leads, const char *leader)
{
    struct control_watch *w, *after;

    fake.leads = leads;
    fake.leader = leader;
    list_each_safe (w, after, &fake.watches, link) {
        if (w->on_leader)
            w->on_leader(w);
    }
}

static void lead(bool leads)
{
    change_leader(leads, NULL);
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

/* --- the leader elsewhere ---------------------------------------------------------------------------------- */

struct forward {
    const char *leader;
    bool here; /* we lead */
    bool refuses;
};

struct forward_call { /* what was forwarded, newest last */
    struct ask *ask;
    bool has_id;
    uint8_t id[16];
    struct forward_events events;
    unsigned more;
    bool dropped;
};

static struct forward elsewhere;
static struct forward_call calls[8];
static unsigned call_count;

void forward_lead(struct forward *f, const char *address)
{
    f->leader = address;
    f->here = false;
}

void forward_lead_here(struct forward *f)
{
    f->leader = NULL;
    f->here = true;
}

int forward_send(struct forward *f, struct ask *k, const uint8_t *id, const struct forward_events *events,
                 struct forward_call **ret, struct err *e)
{
    if (!f->leader || f->refuses)
        return err_set(e, ERR_UNAVAILABLE, "cannot be forwarded");
    assert_true(call_count < ARRAY_SIZE(calls));
    struct forward_call *call = &calls[call_count++];
    *call = (struct forward_call){.ask = k, .has_id = id != NULL, .events = *events};
    if (id)
        memcpy(call->id, id, sizeof(call->id));
    *ret = call;
    return 0;
}

void forward_more(struct forward_call *call)
{
    call->more++;
}

void forward_drop(struct forward_call *call)
{
    assert_false(call->dropped);
    call->dropped = true;
}

static void part(struct forward_call *call, int status, const char *text, bool more)
{
    ForwardPart p = FORWARD_PART__INIT;

    p.has_status = status != 0;
    p.status = (uint32_t)status;
    p.type = status ? (char *)"text/x-test" : NULL;
    p.has_bytes = true;
    p.bytes = (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)text};
    p.more = more;
    call->events.on_part(call->ask, &p);
}

static void send_back(struct forward_call *call, ForwardAgain again)
{
    ForwardPart p = FORWARD_PART__INIT;

    p.has_again = true;
    p.again = again;
    call->events.on_part(call->ask, &p);
}

static void broke(struct forward_call *call, bool undecided)
{
    struct err e;

    err_set(&e, ERR_CLOSED, "the link broke");
    call->events.on_end(call->ask, &e, undecided);
}

/* Because another leads. */
static void left(struct forward_call *call)
{
    struct err e;

    err_set(&e, ERR_AGAIN, "another manager leads now");
    call->events.on_end(call->ask, &e, true);
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
    bool cut;
    int status;
    enum ask_again again;
    char text[1100];
};

static void on_page(void *ctx, struct ask *k)
{
    struct client *c = k->door;

    assert_false(c->done);
    c->done = !k->page.more;
    c->status = k->page.status;
    c->cut = k->page.cut;
    c->again = k->page.again;
    assert_true(k->page.bytes.length < sizeof(c->text));
    memcpy(c->text, buf_str(&k->page.bytes), k->page.bytes.length + 1);
    buf_clear(&k->page.bytes); /* as rendering does */
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

static const struct ask_origin origin = {.request_id = "0123456789abcde", .node_id = "another"};

static void ask_from(struct client *c, const struct ask_route *route, const struct ask_origin *from)
{
    *c = (struct client){.ask = ask_new()};
    c->ask->route = route;
    c->ask->origin = from;
    c->ask->door = c;
    asks_begin(asks, c->ask);
}

static void ask(struct client *c, const struct ask_route *route)
{
    ask_from(c, route, NULL);
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

static const char *row_address; /* of the leader; NULL: as it is configured */

static const char *leader_row(void *ctx)
{
    return row_address ? row_address : fake.leader;
}

static int setup(void **state)
{
    struct asks_config config = {.control = &fake,
                                 .forward = &elsewhere,
                                 .clock = &manual,
                                 .entropy = entropy_real(),
                                 .node_id = "",
                                 .leader = leader_row,
                                 .wake = on_wake,
                                 .on_page = on_page,
                                 .on_dropped = on_dropped};

    row_address = NULL;
    fake = (struct control){.leads = true};
    list_init(&fake.queue);
    list_init(&fake.watches);
    fake_index = (struct index){0};
    elsewhere = (struct forward){0};
    call_count = 0;
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

/* Two of three are gone: one that spoke to us before, one that never did. */
static void managers_that_are_missing_are_named(void **state)
{
    struct index_node one = {.exists = true, .raft_id = 1, .hostname = "m1"},
                      two = {.exists = true, .raft_id = 2, .hostname = "m2"};
    struct index_node *nodes[] = {NULL, &one, &two};
    struct client c;

    fake_index.node_at = nodes;
    fake_index.node_count = ARRAY_SIZE(nodes);
    fake.members[0] = (struct replica_member){.id = 1, .address = "10.0.0.1:2377", .voter = true, .heard_ms = -1};
    fake.members[1] =
        (struct replica_member){.id = 2, .address = "10.0.0.2:2377", .voter = true, .heard_ms = 12345};
    fake.members[2] = (struct replica_member){.id = 3, .address = "10.0.0.3:2377", .voter = true, .heard_ms = -1};
    fake.members[3] = (struct replica_member){.id = 4, .address = "10.0.0.4:2377", .voter = true, .heard_ms = 40};
    fake.member_count = 4;
    lead(false);
    ask(&c, &read_route);
    after_ms(10000);
    expect(&c, 503,
           "more than half of the managers are online. Missing: m2 (10.0.0.2:2377, heard of 12 s ago), a manager "
           "(10.0.0.3:2377, not heard of since this manager started)\"}");
    ask_end(&c);
}

/* --- another leads ------------------------------------------------------------------------------------------ */

static void read_is_answered_by_the_leader_page_by_page(void **state)
{
    struct client c;

    change_leader(false, "10.0.0.2:2377");
    ask(&c, &read_route);
    assert_int_equal(call_count, 1);
    assert_false(calls[0].has_id);
    part(&calls[0], 200, "first", true);
    assert_string_equal(c.text, "first");
    assert_string_equal(c.ask->page.type, "text/x-test");
    assert_false(c.done);
    asks_more(asks, c.ask);
    assert_int_equal(calls[0].more, 1);
    part(&calls[0], 0, "last", false);
    expect(&c, 200, "last");
    assert_false(c.cut);
    assert_true(calls[0].dropped);
    assert_int_equal(fake.reads, 0);
    ask_end(&c);
}

static void write_goes_to_the_next_leader_with_the_same_id(void **state)
{
    struct client c;

    change_leader(false, "10.0.0.2:2377");
    ask(&c, &write_route);
    assert_true(calls[0].has_id);
    broke(&calls[0], true);
    assert_true(calls[0].dropped);
    change_leader(false, NULL);
    after_ms(200);
    assert_int_equal(call_count, 1);
    change_leader(false, "10.0.0.3:2377");
    assert_int_equal(call_count, 2);
    assert_memory_equal(calls[1].id, calls[0].id, 16);
    part(&calls[1], 201, "made", false);
    expect(&c, 201, "made");
    ask_end(&c);
}

static void what_a_hanging_leader_has_goes_to_the_next_at_once(void **state)
{
    struct client read, write;

    change_leader(false, "10.0.0.2:2377");
    ask(&read, &read_route);
    ask(&write, &write_route);
    change_leader(false, "10.0.0.3:2377");
    left(&calls[0]);
    left(&calls[1]);
    assert_int_equal(call_count, 4); /* without a wait */
    assert_memory_equal(calls[3].id, calls[1].id, 16);
    part(&calls[2], 200, "read", false);
    part(&calls[3], 201, "made", false);
    expect(&read, 200, "read");
    expect(&write, 201, "made");
    ask_end(&read);
    ask_end(&write);
}

static void write_is_done_here_with_the_same_id_when_we_come_to_lead(void **state)
{
    struct client c;

    change_leader(false, "10.0.0.2:2377");
    ask(&c, &write_route);
    lead(true); /* the old leader hangs: nothing came from it */
    assert_true(elsewhere.here);
    left(&calls[0]);
    struct control_write *w = execute();
    assert_memory_equal(w->request_id, calls[0].id, 16);
    applied(w);
    expect(&c, 201, "made");
    ask_end(&c);
}

static void write_that_the_leader_lost_goes_to_the_next_with_the_same_id(void **state)
{
    uint8_t id[16];
    struct client c;

    ask(&c, &write_route);
    struct control_write *w = execute();
    memcpy(id, w->request_id, sizeof(id));
    lead(false);
    lost(w, true);
    change_leader(false, "10.0.0.2:2377");
    assert_int_equal(call_count, 1);
    assert_memory_equal(calls[0].id, id, 16);
    part(&calls[0], 201, "made", false);
    expect(&c, 201, "made");
    ask_end(&c);
}

/* Whether it may have been done decides how long its client waits, and what it is told. */
static void write_whose_link_broke_is_undecided_and_one_that_was_not_taken_is_refused(void **state)
{
    struct client sent, unsent, back, lost_there;

    change_leader(false, "10.0.0.2:2377");
    ask(&sent, &write_route);
    ask(&unsent, &write_route);
    ask(&back, &write_route);
    ask(&lost_there, &write_route);
    broke(&calls[0], true);
    broke(&calls[1], false);
    send_back(&calls[2], FORWARD_AGAIN__NOT_LED);
    send_back(&calls[3], FORWARD_AGAIN__UNDECIDED);
    change_leader(false, NULL);
    after_ms(10000);
    assert_false(sent.done || lost_there.done);
    expect(&unsent, 503, "does not have a leader");
    expect(&back, 503, "does not have a leader");
    after_ms(10000);
    expect(&sent, 503, "outcome unknown");
    expect(&lost_there, 503, "outcome unknown");
    ask_end(&sent);
    ask_end(&unsent);
    ask_end(&back);
    ask_end(&lost_there);
}

static void leader_that_does_not_answer_a_write_leaves_it_undecided(void **state)
{
    struct client c;

    change_leader(false, "10.0.0.2:2377");
    ask(&c, &write_route);
    after_ms(19900);
    assert_false(c.done);
    after_ms(100);
    expect(&c, 503, "outcome unknown");
    assert_true(calls[0].dropped);
    ask_end(&c);
}

static void read_at_a_leader_that_is_lost_is_refused_within_ten_seconds(void **state)
{
    struct client c;

    change_leader(false, "10.0.0.2:2377");
    ask(&c, &read_route);
    change_leader(false, NULL);
    after_ms(10000);
    expect(&c, 503, "does not have a leader");
    assert_true(calls[0].dropped);
    ask_end(&c);
}

static void what_cannot_be_forwarded_now_is_tried_again(void **state)
{
    struct client c;

    change_leader(false, "10.0.0.2:2377");
    elsewhere.refuses = true;
    ask(&c, &read_route);
    after_ms(100);
    assert_int_equal(call_count, 0);
    elsewhere.refuses = false;
    after_ms(100);
    assert_int_equal(call_count, 1);
    part(&calls[0], 200, "read", false);
    expect(&c, 200, "read");
    ask_end(&c);
}

/* A manager that joins hears of the leader before it has the configuration. */
static void address_that_becomes_known_later_is_used(void **state)
{
    struct client c;

    ask(&c, &read_route);
    change_leader(false, "");
    elsewhere.refuses = true;
    confirm_read(ERR_UNAVAILABLE);
    elsewhere.refuses = false;
    fake.leader = "10.0.0.2:2377"; /* and nobody says so */
    after_ms(100);
    assert_int_equal(call_count, 1);
    assert_string_equal(elsewhere.leader, "10.0.0.2:2377");
    part(&calls[0], 200, "read", false);
    expect(&c, 200, "read");
    ask_end(&c);
}

/* The row of a leader that moved is written long before the members' configuration follows. */
static void leader_is_asked_where_its_row_says(void **state)
{
    struct client c;

    change_leader(false, "10.0.0.2:2377");
    row_address = "10.0.0.9:2377";
    ask(&c, &read_route);
    assert_string_equal(elsewhere.leader, "10.0.0.9:2377");
    part(&calls[0], 200, "read", false);
    expect(&c, 200, "read");
    ask_end(&c);
}

static void answer_that_breaks_off_is_cut_and_not_asked_again(void **state)
{
    struct client c;

    change_leader(false, "10.0.0.2:2377");
    ask(&c, &read_route);
    part(&calls[0], 200, "first", true);
    asks_more(asks, c.ask);
    broke(&calls[0], true);
    assert_true(c.done && c.cut);
    assert_string_equal(c.text, "");
    assert_true(calls[0].dropped);
    assert_int_equal(call_count, 1);
    ask_end(&c);
}

static void client_that_goes_takes_its_call_along(void **state)
{
    struct client waiting, reading;

    change_leader(false, "10.0.0.2:2377");
    ask(&waiting, &read_route);
    ask(&reading, &read_route);
    part(&calls[1], 200, "first", true);
    asks_drop(asks, waiting.ask);
    asks_drop(asks, reading.ask);
    assert_true(calls[0].dropped && calls[1].dropped);
    ask_free(waiting.ask);
    ask_free(reading.ask);
}

/* --- for another manager ------------------------------------------------------------------------------------- */

static void forwarded_write_keeps_its_id(void **state)
{
    struct client c;

    ask_from(&c, &write_route, &origin);
    struct control_write *w = execute();
    assert_memory_equal(w->request_id, origin.request_id, 16);
    assert_string_equal(ask_node_id(c.ask), "another");
    applied(w);
    expect(&c, 201, "made");
    assert_int_equal(c.again, ASK_ANSWERED);
    ask_end(&c);
}

static void forwarded_ask_is_not_forwarded_twice(void **state)
{
    struct client early, late;

    change_leader(false, NULL);
    ask_from(&early, &write_route, &origin); /* we may be about to lead */
    after_ms(1000);
    assert_false(early.done);
    change_leader(false, "10.0.0.3:2377");
    ask_from(&late, &read_route, &origin);
    assert_int_equal(call_count, 0);
    assert_true(early.done && late.done);
    assert_int_equal(early.again, ASK_NOT_LED);
    assert_int_equal(late.again, ASK_NOT_LED);
    ask_end(&early);
    ask_end(&late);
}

static void forwarded_write_that_was_lost_here_is_sent_back_as_undecided(void **state)
{
    struct client c;

    ask_from(&c, &write_route, &origin);
    struct control_write *w = execute();
    change_leader(false, "10.0.0.3:2377");
    lost(w, true);
    after_ms(100);
    assert_true(c.done);
    assert_int_equal(c.again, ASK_UNDECIDED);
    ask_end(&c);
}

static void manager_that_stops_sends_back_what_others_forwarded(void **state)
{
    struct client waiting, executed, late;
    struct err e;

    ask_from(&executed, &write_route, &origin);
    struct control_write *w = execute();
    ask_from(&waiting, &write_route, &origin);
    err_set(&e, ERR_UNAVAILABLE, "the manager is stopping");
    asks_refuse(asks, &e);
    ask_from(&late, &read_route, &origin);
    assert_true(waiting.done && executed.done && late.done);
    assert_int_equal(waiting.again, ASK_NOT_LED);
    assert_int_equal(executed.again, ASK_UNDECIDED);
    assert_int_equal(late.again, ASK_NOT_LED);
    applied(w);
    ask_end(&waiting);
    ask_end(&executed);
    ask_end(&late);
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
        TEST(managers_that_are_missing_are_named),
        TEST(read_is_answered_by_the_leader_page_by_page),
        TEST(write_goes_to_the_next_leader_with_the_same_id),
        TEST(what_a_hanging_leader_has_goes_to_the_next_at_once),
        TEST(write_is_done_here_with_the_same_id_when_we_come_to_lead),
        TEST(write_that_the_leader_lost_goes_to_the_next_with_the_same_id),
        TEST(write_whose_link_broke_is_undecided_and_one_that_was_not_taken_is_refused),
        TEST(leader_that_does_not_answer_a_write_leaves_it_undecided),
        TEST(read_at_a_leader_that_is_lost_is_refused_within_ten_seconds),
        TEST(what_cannot_be_forwarded_now_is_tried_again),
        TEST(address_that_becomes_known_later_is_used),
        TEST(leader_is_asked_where_its_row_says),
        TEST(answer_that_breaks_off_is_cut_and_not_asked_again),
        TEST(client_that_goes_takes_its_call_along),
        TEST(forwarded_write_keeps_its_id),
        TEST(forwarded_ask_is_not_forwarded_twice),
        TEST(forwarded_write_that_was_lost_here_is_sent_back_as_undecided),
        TEST(manager_that_stops_sends_back_what_others_forwarded),
        TEST(refusing_answers_what_is_there_and_what_comes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
