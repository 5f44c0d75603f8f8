/* Both ends of forwarding over real connections on one loop: what the leader is given, what comes back, and what
 * becomes of it when either side goes away. What the leader's node does, the test does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "manager/api/forward.h"
#include "manager/relay.h"
#include "proto/base/mem.h"
#include "proto/wire/methods.h"
#include "proto/wire/rpc_test_net.h"

static struct net net;
static struct relay *relay;
static struct forward *forward;
static bool forward_closed;

/* --- the leader's node ----------------------------------------------------------------------------------- */

static struct {
    struct relayed *begun[512]; /* with the node; NULL: freed */
    unsigned begins, mores, drops;
} node;

static void on_begin(void *ctx, struct relayed *r)
{
    assert_true(node.begins < ARRAY_SIZE(node.begun));
    node.begun[node.begins++] = r;
}

static void on_more(void *ctx, struct relayed *r)
{
    node.mores++;
}

static void on_drop(void *ctx, struct relayed *r)
{
    node.drops++;
    manager_request_forget(r->request); /* as manager_drop */
    for (unsigned i = 0; i < node.begins; i++)
        if (node.begun[i] == r)
            node.begun[i] = NULL;
    relay_dropped(relay, r);
}

/* Give a page, and free the request after the last one, as the manager's door does. */
static void page(unsigned i, int status, const char *bytes, size_t size, bool more)
{
    struct relayed *r = node.begun[i];

    r->page.status = status;
    r->page.type = "text/x-test";
    r->page.more = more;
    buf_clear(&r->page.bytes);
    buf_append(&r->page.bytes, bytes, size);
    if (!more) {
        manager_request_forget(r->request);
        node.begun[i] = NULL;
    }
    relay_page(relay, r);
}

static void on_forward(void *ctx, struct rpc_stream *stream, const struct rpc_identity *peer, const void *message,
                       size_t size)
{
    relay_on_open(relay, stream, peer, message, size);
}

static const struct rpc_method methods[] = {
    {METHOD_FORWARD, "forward", RPC_ROLE_MANAGER, METHOD_FORWARD_BYTES_MAX, .streams_max = RELAY_STREAMS_MAX,
     .on_open = on_forward},
};

/* --- the asking manager ------------------------------------------------------------------------------------ */

struct client {
    struct ask *ask;
    struct forward_call *call; /* NULL once it is dropped */
    unsigned parts, ends;
    int status, again;
    bool last, cut, undecided;
    bool slow; /* does not ask for more by itself */
    char type[32];
    struct buf body;
    struct err why;
};

static void on_part(struct ask *k, const ForwardPart *part)
{
    struct client *c = k->door;

    assert_false(c->last);
    c->parts++;
    c->last = !part->more;
    c->cut = part->cut;
    c->again = part->has_again ? (int)part->again : 0;
    if (part->has_status)
        c->status = (int)part->status;
    if (part->type)
        (void)snprintf(c->type, sizeof(c->type), "%s", part->type);
    assert_true(part->bytes.len <= FORWARD_PART_BYTES);
    buf_append(&c->body, part->bytes.data, part->bytes.len);
    if (c->last) {
        forward_drop(c->call);
        c->call = NULL;
    } else if (!c->slow) {
        forward_more(c->call);
    }
}

static void on_end(struct ask *k, const struct err *e, bool undecided)
{
    struct client *c = k->door;

    assert_false(c->last);
    c->ends++;
    c->undecided = undecided;
    forward_drop(c->call);
    c->call = NULL;
    c->why = *e; /* which outlives the call */
}

static const struct ask_route routes[ASK_CLASSES] = {
    [ASK_READ] = {"GET", "/services", ASK_READ},
    [ASK_WRITE] = {"POST", "/services/create", ASK_WRITE},
    [ASK_STREAM] = {"GET", "/services/{id}/logs", ASK_STREAM},
};
static const char *const paths[ASK_CLASSES] = {"/services", "/services/create", "/services/web/logs"};
static const uint8_t request_id[16] = "0123456789abcde";

static int send_body(struct client *c, enum ask_class class, const char *body, size_t size)
{
    static const struct forward_events events = {.on_part = on_part, .on_end = on_end};
    struct err e;

    *c = (struct client){.ask = ask_new(), .slow = c->slow};
    c->ask->door = c;
    c->ask->route = &routes[class];
    c->ask->path = paths[class];
    c->ask->query = "filters=%7B%7D";
    c->ask->registry_auth = class == ASK_WRITE ? "secret" : NULL;
    c->ask->api_minor = 41;
    c->ask->body = body;
    c->ask->body_size = size;
    return forward_send(forward, c->ask, class == ASK_WRITE ? request_id : NULL, &events, &c->call, &e);
}

static void send_ask(struct client *c, enum ask_class class)
{
    assert_int_equal(send_body(c, class, NULL, 0), 0);
}

static void client_end(struct client *c)
{
    if (c->call)
        forward_drop(c->call);
    buf_fini(&c->body);
    ask_free(c->ask);
}

static void open_as(struct tls *tls)
{
    struct forward_config config = {.loop = &net.loop, .tls = tls, .cluster_id = NET_CLUSTER};

    forward = forward_new(&config);
    forward_lead(forward, net.address);
}

static int setup(void **state)
{
    const struct relay_events events = {.on_begin = on_begin, .on_more = on_more, .on_drop = on_drop};

    memset(&node, 0, sizeof(node));
    relay = relay_new(&events);
    net_open(&net, methods, ARRAY_SIZE(methods), NULL, NULL, NULL);
    open_as(net.manager);
    return 0;
}

static void on_forward_closed(void *ctx)
{
    forward_closed = true;
}

static void close_forward(void)
{
    forward_closed = false;
    forward_close(forward, on_forward_closed, NULL);
    net_until(&net, forward_closed);
    forward = NULL;
}

static int teardown(void **state)
{
    if (forward)
        close_forward();
    net_close(&net);
    relay_free(relay); /* and so nothing is left of any request */
    return 0;
}

/* --- there and back ---------------------------------------------------------------------------------------- */

static void request_comes_as_it_was_sent(void **state)
{
    size_t size = 300 * 1000; /* more than a stream's credit */
    AUTO_FREE
    char *body = mem_array(size, 1);
    struct client c = {0};

    entropy_fill(entropy_real(), body, size);
    assert_int_equal(send_body(&c, ASK_WRITE, body, size), 0);
    net_until(&net, node.begins == 1);
    const struct manager_request *q = node.begun[0]->request;
    assert_string_equal(q->method, "POST");
    assert_string_equal(q->path, "/services/create");
    assert_string_equal(q->query, "filters=%7B%7D");
    assert_string_equal(q->registry_auth, "secret");
    assert_int_equal(q->api_minor, 41);
    assert_int_equal(q->body_size, size);
    assert_memory_equal(q->body, body, size);
    assert_memory_equal(q->origin->request_id, request_id, 16);
    assert_string_equal(q->origin->node_id, NET_MANAGER);
    page(0, 201, "made", 4, false);
    net_until(&net, c.last);
    assert_int_equal(c.status, 201);
    assert_string_equal(c.type, "text/x-test");
    assert_string_equal(buf_str(&c.body), "made");
    client_end(&c);
}

static void pages_of_any_size_come_in_order(void **state)
{
    static const size_t sizes[] = {0, 1, 0, FORWARD_PART_BYTES, FORWARD_PART_BYTES + 1, 1000 * 1000, 0};
    AUTO_BUF struct buf all = {0};
    struct client c = {0};

    send_ask(&c, ASK_READ);
    net_until(&net, node.begins == 1);
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        size_t from = all.length;

        entropy_fill(entropy_real(), buf_reserve(&all, sizes[i] + 1), sizes[i]);
        buf_added(&all, sizes[i]);
        net_until(&net, node.mores == i);
        page(0, 200, buf_bytes(&all) + from, sizes[i], i + 1 < ARRAY_SIZE(sizes));
        if (i == 0) /* even an empty first page tells the head at once */
            net_until(&net, c.status == 200);
    }
    net_until(&net, c.last);
    assert_int_equal(c.body.length, all.length);
    assert_memory_equal(buf_bytes(&c.body), buf_bytes(&all), all.length);
    client_end(&c);
}

static void client_that_does_not_read_holds_the_leader_back(void **state)
{
    static char bytes[64 * 1024];
    struct client c = {.slow = true};
    unsigned pages = 0;

    send_ask(&c, ASK_READ);
    net_until(&net, node.begins == 1);
    for (int quiet = 0; quiet < 20; quiet++) {
        if (node.mores == pages) {
            page(0, 200, bytes, sizeof(bytes), true);
            pages++;
            quiet = 0;
        }
        uv_run(&net.loop, UV_RUN_ONCE);
    }
    assert_int_equal(c.parts, 1);
    assert_true(pages > 1 && pages < 16); /* the stream's credit, and a page */
    c.slow = false;
    forward_more(c.call);
    net_until(&net, node.mores == pages);
    page(0, 200, "end", 3, false);
    net_until(&net, c.last);
    assert_int_equal(c.body.length, pages * sizeof(bytes) + 3);
    client_end(&c);
}

static void many_at_once_do_not_wait_for_each_other(void **state)
{
    enum { COUNT = 100 };
    static struct client clients[COUNT];

    for (int i = 0; i < COUNT; i++) {
        clients[i].slow = i == 0;
        send_ask(&clients[i], ASK_READ);
    }
    net_until(&net, node.begins == COUNT);
    page(0, 200, "held", 4, true);
    for (unsigned i = COUNT - 1; i > 0; i--)
        page(i, 200, "read", 4, false);
    for (unsigned i = 1; i < COUNT; i++)
        net_until(&net, clients[i].last);
    assert_false(clients[0].last);
    for (int i = 0; i < COUNT; i++)
        client_end(&clients[i]);
    net_until(&net, node.drops == 1);
}

static void what_the_leader_cannot_answer_is_told_apart(void **state)
{
    static const struct {
        int again, expected;
        bool cut;
    } cases[] = {{ASK_NOT_LED, FORWARD_AGAIN__NOT_LED, false},
                 {ASK_UNDECIDED, FORWARD_AGAIN__UNDECIDED, false},
                 {ASK_ANSWERED, 0, true}};

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct client c = {0};

        send_ask(&c, ASK_WRITE);
        net_until(&net, node.begins == i + 1);
        node.begun[i]->page.again = cases[i].again;
        node.begun[i]->page.cut = cases[i].cut;
        page(i, 503, "", 0, false);
        net_until(&net, c.last);
        assert_int_equal(c.again, cases[i].expected);
        assert_int_equal(c.cut, cases[i].cut);
        client_end(&c);
    }
}

/* --- somebody goes away --------------------------------------------------------------------------------------- */

static void leader_drops_what_nobody_waits_for(void **state)
{
    struct client waiting = {0}, reading = {.slow = true};

    send_ask(&waiting, ASK_READ);
    send_ask(&reading, ASK_STREAM);
    net_until(&net, node.begins == 2);
    page(1, 200, "line", 4, true);
    net_until(&net, reading.parts == 1);
    client_end(&waiting);
    client_end(&reading);
    net_until(&net, node.drops == 2);
}

static void request_whose_body_never_came_is_forgotten(void **state)
{
    size_t size = FORWARD_BODY_MOST;
    AUTO_FREE
    char *body = mem_array(size, 1);
    struct client c = {0};

    assert_int_equal(send_body(&c, ASK_WRITE, body, size), 0);
    net_rest(&net, 5);
    client_end(&c);
    net_rest(&net, 50);
    assert_int_equal(node.begins, 0);
    assert_int_equal(node.drops, 0);
}

static void calls_to_a_leader_that_was_replaced_end_undecided(void **state)
{
    struct client c = {0}, next = {0};

    send_ask(&c, ASK_WRITE);
    net_until(&net, node.begins == 1);
    forward_lead(forward, NULL); /* not known for a while: what is under way may still be answered */
    net_rest(&net, 20);
    assert_int_equal(c.ends, 0);
    forward_lead(forward, "127.0.0.1:1");
    net_until(&net, c.ends == 1);
    assert_true(c.undecided);
    assert_int_equal(c.why.code, ERR_AGAIN);
    net_until(&net, node.drops == 1);
    forward_lead(forward, net.address);
    send_ask(&next, ASK_READ);
    net_until(&net, node.begins == 2);
    page(1, 200, "read", 4, false);
    net_until(&net, next.last);
    client_end(&c);
    client_end(&next);
}

static void calls_end_when_we_come_to_lead(void **state)
{
    struct client c = {0};

    send_ask(&c, ASK_WRITE);
    net_until(&net, node.begins == 1);
    forward_lead_here(forward);
    net_until(&net, c.ends == 1);
    assert_int_equal(c.why.code, ERR_AGAIN);
    assert_true(c.undecided);
    client_end(&c);
    assert_int_equal(send_body(&c, ASK_READ, NULL, 0), ERR_UNAVAILABLE);
    client_end(&c);
    net_until(&net, node.drops == 1);
}

static void leader_that_cannot_be_reached_has_done_nothing(void **state)
{
    struct client c = {0};

    forward_lead(forward, "127.0.0.1:1");
    send_ask(&c, ASK_WRITE);
    net_until(&net, c.ends == 1);
    assert_false(c.undecided);
    client_end(&c);
    forward_lead(forward, net.address); /* and another is reached after it */
    send_ask(&c, ASK_WRITE);
    net_until(&net, node.begins == 1);
    page(0, 201, "", 0, false);
    net_until(&net, c.last);
    client_end(&c);
}

static void leader_that_dies_in_the_middle_is_told_when_the_part_is_taken(void **state)
{
    struct client c = {.slow = true};

    send_ask(&c, ASK_READ);
    net_until(&net, node.begins == 1);
    page(0, 200, "first", 5, true);
    net_until(&net, c.parts == 1);
    net_close_server(&net);
    net_rest(&net, 20);
    assert_int_equal(c.ends, 0); /* the client has a part: it is told in its turn */
    forward_more(c.call);
    assert_int_equal(c.ends, 1);
    client_end(&c);
}

static void without_a_leader_nothing_is_sent(void **state)
{
    struct client c = {0};

    forward_lead(forward, NULL);
    assert_int_equal(send_body(&c, ASK_READ, NULL, 0), ERR_UNAVAILABLE);
    client_end(&c);
}

/* --- bounds and strangers --------------------------------------------------------------------------------------
 */

static void more_of_a_kind_than_there_may_be_wait_at_the_asking_manager(void **state)
{
    enum { COUNT = 200 };
    static struct client clients[COUNT];
    unsigned sent = 0;

    while (sent < COUNT && send_body(&clients[sent], ASK_STREAM, NULL, 0) == 0)
        sent++;
    assert_int_equal(sent, 128);
    client_end(&clients[sent]);
    net_until(&net, node.begins == sent);
    struct client other = {0};
    send_ask(&other, ASK_READ); /* another kind has its own room */
    net_until(&net, node.begins == sent + 1);
    client_end(&other);
    for (unsigned i = 0; i < sent; i++)
        client_end(&clients[i]);
    net_until(&net, node.drops == sent + 1);
}

static void worker_may_not_forward(void **state)
{
    struct client c = {0};

    close_forward();
    open_as(net.worker);
    send_ask(&c, ASK_WRITE);
    net_until(&net, c.ends == 1);
    assert_int_equal(c.why.code, ERR_DENIED);
    assert_false(c.undecided);
    assert_int_equal(node.begins, 0);
    client_end(&c);
}

struct raw { /* a stream without forward.c */
    struct rpc_stream *stream;
    unsigned ends;
    struct err why;
};

static void on_raw_end(void *ctx, struct rpc_stream *s, const struct err *e)
{
    struct raw *raw = ctx;

    raw->stream = NULL;
    raw->ends++;
    raw->why = *e;
}

static void raw_open(struct line *l, struct raw *raw, const ForwardRequest *f)
{
    struct rpc_stream_events events = {.ctx = raw, .on_end = on_raw_end};
    uint8_t packed[1024];
    struct err e;

    *raw = (struct raw){0};
    assert_true(forward_request__get_packed_size(f) <= sizeof(packed));
    size_t size = forward_request__pack(f, packed);
    assert_int_equal(
        rpc_open(l->conn, METHOD_FORWARD, METHOD_FORWARD_BYTES_MAX, packed, size, &events, &raw->stream, &e), 0);
}

static ForwardRequest a_request(void)
{
    ForwardRequest f = FORWARD_REQUEST__INIT;

    f.method = (char *)"GET";
    f.path = (char *)"/services";
    f.api_minor = 45;
    return f;
}

static void request_that_makes_no_sense_is_refused_by_name(void **state)
{
    ForwardRequest bad[6];
    static const char *const said[] = {"method \"get\"", "path \"services\"", "1.4500", "16777216 bytes", "id",
                                       "method \"\""};
    struct raw raw;
    struct line l;

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        bad[i] = a_request();
    bad[0].method = (char *)"get";
    bad[1].path = (char *)"services";
    bad[2].api_minor = 4500;
    bad[3].has_body_size = true;
    bad[3].body_size = 16 * 1024 * 1024;
    bad[4].has_id = true;
    bad[4].id = (ProtobufCBinaryData){.len = 3, .data = (uint8_t *)"abc"};
    bad[5].method = (char *)"";
    line_dial_as(&net, &l, (struct rpc_dial){.tls = net.manager});
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        raw_open(&l, &raw, &bad[i]);
        net_until(&net, raw.ends == 1);
        assert_int_equal(raw.why.code, ERR_INVALID);
        if (!strstr(raw.why.text, said[i]))
            fail_msg("\"%s\" is not in \"%s\"", said[i], raw.why.text);
    }
    assert_int_equal(node.begins, 0);
    line_close(&net, &l);
}

static void body_larger_than_it_was_said_to_be_is_refused(void **state)
{
    ForwardRequest f = a_request();
    ForwardBody body = FORWARD_BODY__INIT;
    uint8_t packed[64];
    struct raw raw;
    struct line l;

    f.has_body_size = true;
    f.body_size = 3;
    body.bytes = (ProtobufCBinaryData){.len = 4, .data = (uint8_t *)"four"};
    line_dial_as(&net, &l, (struct rpc_dial){.tls = net.manager});
    raw_open(&l, &raw, &f);
    assert_int_equal(rpc_send(raw.stream, packed, forward_body__pack(&body, packed)), 0);
    net_until(&net, raw.ends == 1);
    assert_int_equal(raw.why.code, ERR_INVALID);
    assert_int_equal(node.begins, 0);
    line_close(&net, &l);
}

static void answer_that_makes_no_sense_ends_the_call(void **state)
{
    static const char *const types[] = {"text/plain\r\nX-Evil: 1", ""};

    for (unsigned i = 0; i < ARRAY_SIZE(types) + 1; i++) {
        struct client c = {0};

        send_ask(&c, ASK_READ);
        net_until(&net, node.begins == i + 1);
        struct relayed *r = node.begun[i];
        r->page.status = i < ARRAY_SIZE(types) ? 200 : 99;
        r->page.type = i < ARRAY_SIZE(types) ? types[i] : NULL;
        r->page.more = true;
        relay_page(relay, r);
        net_until(&net, c.ends == 1);
        assert_int_equal(c.why.code, ERR_INVALID);
        client_end(&c);
        net_until(&net, node.drops == i + 1);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(request_comes_as_it_was_sent),
        TEST(pages_of_any_size_come_in_order),
        TEST(client_that_does_not_read_holds_the_leader_back),
        TEST(many_at_once_do_not_wait_for_each_other),
        TEST(what_the_leader_cannot_answer_is_told_apart),
        TEST(leader_drops_what_nobody_waits_for),
        TEST(request_whose_body_never_came_is_forgotten),
        TEST(calls_to_a_leader_that_was_replaced_end_undecided),
        TEST(calls_end_when_we_come_to_lead),
        TEST(leader_that_cannot_be_reached_has_done_nothing),
        TEST(leader_that_dies_in_the_middle_is_told_when_the_part_is_taken),
        TEST(without_a_leader_nothing_is_sent),
        TEST(more_of_a_kind_than_there_may_be_wait_at_the_asking_manager),
        TEST(worker_may_not_forward),
        TEST(request_that_makes_no_sense_is_refused_by_name),
        TEST(body_larger_than_it_was_said_to_be_is_refused),
        TEST(answer_that_makes_no_sense_ends_the_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
