/* Calls and streams over real connections: order, credit, limits, roles, and ends in every order. */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "proto/wire/rpc_test_net.h"

enum { MIRROR = 1, COUNT = 2, SECRET = 3, MANY = 4, SILENT = 5, SMALL = 6, FAIL = 7, ANYONE = 8, UNKNOWN = 99 };

/* --- the server's methods ------------------------------------------------------------------------ */

/* What the serving side saw of its last stream. */
static struct {
    unsigned opens, messages, ends;
    size_t bytes;
    struct rpc_stream *stream; /* NULL once it ended */
    struct rpc_identity peer;
    struct err why;
    bool blocked;
    unsigned writable;
    struct buf last; /* message */
} served;

static int reset(void **state)
{
    buf_fini(&served.last);
    memset(&served, 0, sizeof(served));
    return 0;
}

static void served_on_message(void *ctx, struct rpc_stream *s, const void *message, size_t size)
{
    served.messages++;
    served.bytes += size;
    buf_clear(&served.last);
    buf_append(&served.last, message, size);
}

static void served_on_writable(void *ctx, struct rpc_stream *s)
{
    served.writable++;
    served.blocked = false;
}

static void served_on_end(void *ctx, struct rpc_stream *s, const struct err *e)
{
    served.ends++;
    served.why = *e;
    if (served.stream == s)
        served.stream = NULL;
}

static const struct rpc_stream_events served_events = {
    .on_message = served_on_message, .on_writable = served_on_writable, .on_end = served_on_end};

static void open_silent(void *ctx, struct rpc_stream *s, const struct rpc_identity *peer, const void *message,
                        size_t size)
{
    assert_ptr_equal(ctx, &served);
    served.opens++;
    served.stream = s;
    served.peer = *peer;
    served.bytes += size;
    rpc_stream_set(s, &served_events);
}

static void echo_on_message(void *ctx, struct rpc_stream *s, const void *message, size_t size)
{
    served_on_message(ctx, s, message, size);
    assert_int_equal(rpc_send(s, message, size), 0);
}

static void open_echo(void *ctx, struct rpc_stream *s, const struct rpc_identity *peer, const void *message,
                      size_t size)
{
    static const struct rpc_stream_events events = {.on_message = echo_on_message, .on_end = served_on_end};

    served.opens++;
    served.peer = *peer;
    rpc_stream_set(s, &events);
    assert_int_equal(rpc_send(s, message, size), 0);
}

static void open_count(void *ctx, struct rpc_stream *s, const struct rpc_identity *peer, const void *message,
                       size_t size)
{
    char text[32];

    served.opens++;
    served.peer = *peer;
    int length = snprintf(text, sizeof(text), "%zu bytes", size);
    assert_int_equal(rpc_send(s, text, (size_t)length), 0);
    rpc_end(s, NULL);
    served.bytes += ((const char *)message)[0]; /* still ours to read: borrowed for the call */
}

static void open_fail(void *ctx, struct rpc_stream *s, const struct rpc_identity *peer, const void *message,
                      size_t size)
{
    struct err e;

    err_set(&e, ERR_NOT_FOUND, "task %.*s is unknown", (int)size, (const char *)message);
    served.opens++;
    rpc_end(s, &e);
}

static const struct rpc_method methods[] = {
    {MIRROR, "echo", RPC_ROLE_WORKER | RPC_ROLE_MANAGER, 4 << 20, 0, open_echo},
    {COUNT, "count", RPC_ROLE_WORKER | RPC_ROLE_MANAGER, 4 << 20, 0, open_count},
    {SECRET, "secret", RPC_ROLE_MANAGER, 1024, 0, open_count},
    {MANY, "many", RPC_ROLE_WORKER, 1024, 3, open_silent},
    {SILENT, "silent", RPC_ROLE_WORKER, 4 << 20, 0, open_silent},
    {SMALL, "small", RPC_ROLE_WORKER, 10, 0, open_silent},
    {FAIL, "fail", RPC_ROLE_WORKER, 100, 0, open_fail},
    {ANYONE, "anyone", RPC_ROLE_NONE, 100, 0, open_count},
};

/* --- the client's side --------------------------------------------------------------------------- */

struct side {
    struct rpc_stream *stream; /* NULL once it ended */
    unsigned messages, ends, writable;
    size_t bytes;
    struct buf last;
    struct err why;
};

static void side_on_message(void *ctx, struct rpc_stream *s, const void *message, size_t size)
{
    struct side *side = ctx;

    side->messages++;
    side->bytes += size;
    buf_clear(&side->last);
    buf_append(&side->last, message, size);
}

static void side_on_writable(void *ctx, struct rpc_stream *s)
{
    ((struct side *)ctx)->writable++;
}

static void side_on_end(void *ctx, struct rpc_stream *s, const struct err *e)
{
    struct side *side = ctx;

    side->ends++;
    side->why = *e;
    side->stream = NULL;
}

static void side_open(struct side *side, struct rpc_conn *c, uint16_t method, const void *message, size_t size)
{
    struct rpc_stream_events events = {
        .ctx = side, .on_message = side_on_message, .on_writable = side_on_writable, .on_end = side_on_end};
    struct err e;

    memset(side, 0, sizeof(*side));
    if (rpc_open(c, method, 4 << 20, message, size, &events, &side->stream, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(side->ends, 0);
}

static void side_fini(struct side *side)
{
    buf_fini(&side->last);
}

struct reply {
    unsigned done;
    struct err e;
    struct buf text;
};

static void on_reply(void *ctx, const struct err *e, const void *reply, size_t size)
{
    struct reply *r = ctx;

    r->done++;
    r->e = *e;
    buf_clear(&r->text);
    if (e->code == 0)
        buf_append(&r->text, reply, size);
}

/* Call and wait for the outcome. */
static int call(struct net *n, struct rpc_conn *c, uint16_t method, const void *message, size_t size,
                struct reply *r)
{
    unsigned before = r->done;
    struct err e;

    if (rpc_call(c, method, message, size, 4 << 20, 10000, on_reply, r, &e) < 0)
        return e.code;
    assert_int_equal(r->done, before);
    net_until(n, r->done == before + 1);
    return r->e.code;
}

/* --- tests --------------------------------------------------------------------------------------- */

static void call_is_answered_and_both_know_each_other(void **state)
{
    struct net n;
    struct line l;
    struct reply r = {0};

    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    line_open(&n, &l);
    assert_int_equal(l.peer.role, RPC_ROLE_MANAGER);
    assert_string_equal(l.peer.node_id, NET_MANAGER);
    assert_string_equal(l.peer.cluster_id, NET_CLUSTER);
    assert_string_equal(rpc_conn_peer(l.conn)->node_id, NET_MANAGER);
    assert_string_equal(rpc_conn_address(l.conn), n.address);
    assert_int_equal(call(&n, l.conn, COUNT, "hello", 5, &r), 0);
    assert_string_equal(buf_str(&r.text), "5 bytes");
    assert_int_equal(served.peer.role, RPC_ROLE_WORKER);
    assert_string_equal(served.peer.node_id, NET_WORKER);
    assert_int_equal(call(&n, l.conn, FAIL, "x1", 2, &r), ERR_NOT_FOUND);
    assert_string_equal(r.e.text, "task x1 is unknown");
    line_close(&n, &l);
    net_close(&n);
    buf_fini(&r.text);
}

static void socket_has_the_options_it_should(void **state)
{
    struct net n;
    struct line l;
    int value = 0;
    socklen_t size = sizeof(value);

    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    line_open(&n, &l);
    int fd = rpc_conn_fd(l.conn);
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
    assert_int_equal(value, 1);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &size), 0);
    assert_int_equal(value, 1);
    line_close(&n, &l);
    net_close(&n);
}

static void streams_opened_before_the_handshake_are_sent_after_it(void **state)
{
    struct net n;
    struct line l;
    struct reply r = {0};
    struct err e;

    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    line_dial_as(&n, &l, (struct rpc_dial){0});
    assert_int_equal(rpc_call(l.conn, COUNT, "early", 5, 100, 10000, on_reply, &r, &e), 0);
    net_until(&n, r.done == 1);
    assert_int_equal(r.e.code, 0);
    line_close(&n, &l);
    net_close(&n);
    buf_fini(&r.text);
}

static void messages_of_any_size_keep_order_and_content(void **state)
{
    static const size_t sizes[] = {0,     1,     3,      4,      100,    16367,  16368,   16369,   16384,
                                   20000, 65536, 262139, 262140, 262141, 262144, 1000000, 4194304, 5};
    static uint8_t data[4194304];
    struct net n;
    struct line l;
    struct side s;

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    line_open(&n, &l);
    side_open(&s, l.conn, MIRROR, "first", 5);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        net_until(&n, s.messages == i + 1); /* the echo holds at most one large message */
        net_until(&n, rpc_send(s.stream, data, sizes[i]) == 0);
        net_until(&n, s.messages == i + 2);
        assert_int_equal(s.last.length, sizes[i]);
        if (sizes[i])
            assert_memory_equal(buf_bytes(&s.last), data, sizes[i]);
    }
    rpc_end(s.stream, NULL);
    net_until(&n, s.ends == 1 && served.ends == 1);
    assert_int_equal(s.why.code, 0);
    assert_int_equal(served.why.code, 0);
    line_close(&n, &l);
    net_close(&n);
    side_fini(&s);
}

static void paused_receiver_stops_its_sender_and_nobody_else(void **state)
{
    static char piece[10000];
    struct net n;
    struct line l;
    struct side s;
    struct reply r = {0};
    size_t sent = 0;

    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    line_open(&n, &l);
    side_open(&s, l.conn, SILENT, "open", 4);
    net_until(&n, served.opens == 1);
    rpc_pause(served.stream, true);
    while (sent < 10000000) {
        int rc = rpc_send(s.stream, piece, sizeof(piece));

        if (rc == ERR_AGAIN && s.writable == 0) {
            unsigned before = s.writable;
            net_rest(&n, 50);
            if (s.writable == before)
                break;
            continue;
        }
        s.writable = 0;
        sent += rc == 0 ? sizeof(piece) : 0;
    }
    assert_true(sent > 200000);
    assert_true(sent <= 2 * 262144); /* what is under way, and what waits for it */
    assert_int_equal(served.messages, 0);
    assert_int_equal(call(&n, l.conn, COUNT, piece, sizeof(piece), &r), 0); /* on the same connection */
    rpc_pause(served.stream, false);
    net_until(&n, served.bytes == 4 + sent);
    net_until(&n, s.writable == 1);
    assert_int_equal(rpc_send(s.stream, piece, sizeof(piece)), 0);
    line_close(&n, &l);
    net_close(&n);
    buf_fini(&r.text);
    side_fini(&s);
}

static void message_larger_than_the_credit_passes_a_paused_stream_only_in_part(void **state)
{
    static char big[1000000];
    struct net n;
    struct line l;
    struct side s;

    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    line_open(&n, &l);
    side_open(&s, l.conn, SILENT, "open", 4);
    net_until(&n, served.opens == 1);
    rpc_pause(served.stream, true);
    assert_int_equal(rpc_send(s.stream, big, sizeof(big)), 0);
    assert_int_equal(rpc_send(s.stream, "x", 1), ERR_AGAIN);
    net_rest(&n, 50);
    assert_int_equal(served.messages, 0);
    assert_int_equal(s.writable, 0);
    rpc_pause(served.stream, false);
    net_until(&n, served.messages == 1);
    assert_int_equal(served.last.length, sizeof(big));
    net_until(&n, s.writable == 1);
    line_close(&n, &l);
    net_close(&n);
    side_fini(&s);
}

static void end_comes_after_everything_that_was_sent(void **state)
{
    static char big[700000];
    struct net n;
    struct line l;
    struct side s;

    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    line_open(&n, &l);
    side_open(&s, l.conn, SILENT, "open", 4);
    net_until(&n, served.opens == 1);
    rpc_pause(served.stream, true);
    assert_int_equal(rpc_send(s.stream, big, sizeof(big)), 0);
    rpc_end(s.stream, NULL);
    net_rest(&n, 50);
    assert_int_equal(served.ends, 0); /* a paused stream ends when it has told everything */
    assert_int_equal(s.ends, 0);
    rpc_pause(served.stream, false);
    net_until(&n, served.ends == 1 && s.ends == 1);
    assert_int_equal(served.messages, 1);
    assert_int_equal(served.bytes, 4 + sizeof(big));
    assert_int_equal(served.why.code, 0);
    line_close(&n, &l);
    net_close(&n);
    side_fini(&s);
}

static void failing_end_does_not_wait_for_credit(void **state)
{
    static char big[700000];
    struct net n;
    struct line l;
    struct side s;
    struct err e;

    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    line_open(&n, &l);
    side_open(&s, l.conn, SILENT, "open", 4);
    net_until(&n, served.opens == 1);
    rpc_pause(served.stream, true);
    assert_int_equal(rpc_send(s.stream, big, sizeof(big)), 0);
    net_rest(&n, 20);
    err_set(&e, ERR_IO, "the disk failed");
    rpc_end(s.stream, &e);
    rpc_pause(served.stream, false);
    net_until(&n, served.ends == 1 && s.ends == 1);
    assert_int_equal(served.messages, 0);
    assert_int_equal(served.why.code, ERR_IO);
    assert_string_equal(served.why.text, "the disk failed");
    assert_int_equal(s.why.code, ERR_IO);
    line_close(&n, &l);
    net_close(&n);
    side_fini(&s);
}

static void both_sides_may_end_at_once(void **state)
{
    struct net n;
    struct line l;
    struct side s;
    struct err e;

    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    line_open(&n, &l);
    side_open(&s, l.conn, SILENT, "open", 4);
    net_until(&n, served.opens == 1);
    err_set(&e, ERR_CONFLICT, "mine");
    rpc_end(s.stream, &e);
    err_set(&e, ERR_DENIED, "yours");
    rpc_end(served.stream, &e);
    net_until(&n, served.ends == 1 && s.ends == 1);
    assert_string_equal(s.why.text, "mine");
    assert_string_equal(served.why.text, "yours");
    net_rest(&n, 20);
    assert_int_equal(served.ends, 1);
    assert_int_equal(s.ends, 1);
    line_close(&n, &l);
    net_close(&n);
    side_fini(&s);
}

static void what_the_table_does_not_allow_is_refused(void **state)
{
    static const struct {
        uint16_t method;
        int code;
        const char *text;
    } cases[] = {
        {UNKNOWN, ERR_UNSUPPORTED, "no method 99"},
        {SECRET, ERR_DENIED, "secret is not for peers of this role"},
        {ANYONE, ERR_DENIED, "anyone is not"}, /* the mask names exactly who may */
        {0, ERR_UNSUPPORTED, "no method 0"},
        {SMALL, ERR_LIMIT, "11 bytes, at most 10"},
        {COUNT, 0, ""},
    };
    struct net n;
    struct line l;
    struct reply r = {0};

    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    line_open(&n, &l);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int code = call(&n, l.conn, cases[i].method, "eleven byte", 11, &r);

        if (code != cases[i].code || !strstr(r.e.text, cases[i].text))
            fail_msg("case %zu: %d %s", i, code, r.e.text);
    }
    assert_int_equal(served.opens, 1); /* the last one only */
    line_close(&n, &l);
    net_close(&n);
    buf_fini(&r.text);
}

static void server_calls_back_only_what_the_dialing_side_offers(void **state)
{
    static const struct rpc_method offered[] = {{COUNT, "count", RPC_ROLE_MANAGER, 100, 0, open_count},
                                                {SECRET, "secret", RPC_ROLE_WORKER, 100, 0, open_count}};
    struct net n;
    struct line l;
    struct side s, back;
    struct reply r = {0};

    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    line_dial_as(&n, &l, (struct rpc_dial){.methods = offered, .method_count = 2, .method_ctx = &served});
    side_open(&s, l.conn, SILENT, "open", 4);
    net_until(&n, served.opens == 1);
    struct rpc_conn *c = rpc_stream_conn(served.stream);
    assert_string_equal(rpc_conn_peer(c)->node_id, NET_WORKER);
    assert_int_equal(call(&n, c, COUNT, "abc", 3, &r), 0);
    assert_string_equal(buf_str(&r.text), "3 bytes");
    assert_int_equal(call(&n, c, SECRET, "abc", 3, &r), ERR_DENIED);
    assert_int_equal(call(&n, c, MIRROR, "abc", 3, &r), ERR_UNSUPPORTED);
    side_open(&back, c, COUNT, "abc", 3);
    net_until(&n, back.ends == 1);
    line_close(&n, &l);
    net_close(&n);
    buf_fini(&r.text);
    side_fini(&s);
    side_fini(&back);
}

static void streams_of_a_method_are_counted(void **state)
{
    struct net n;
    struct line l, other;
    struct side s[5];

    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    line_open(&n, &l);
    for (size_t i = 0; i < ARRAY_SIZE(s); i++)
        side_open(&s[i], l.conn, MANY, "x", 1);
    net_until(&n, s[3].ends + s[4].ends == 2);
    assert_int_equal(s[3].why.code, ERR_LIMIT);
    assert_int_equal(s[0].ends + s[1].ends + s[2].ends, 0);
    assert_int_equal(served.opens, 3);
    rpc_end(s[0].stream, NULL); /* makes room for one */
    net_until(&n, s[0].ends == 1);
    side_open(&s[0], l.conn, MANY, "x", 1);
    net_until(&n, served.opens == 4);
    line_open(&n, &other); /* each connection has its own */
    side_open(&s[4], other.conn, MANY, "x", 1);
    net_until(&n, served.opens == 5);
    line_close(&n, &l);
    line_close(&n, &other);
    net_close(&n);
}

static void unanswered_call_times_out(void **state)
{
    struct net n;
    struct line l;
    struct reply r = {0};
    struct err e;

    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    line_open(&n, &l);
    assert_int_equal(rpc_call(l.conn, SILENT, "x", 1, 100, 50, on_reply, &r, &e), 0);
    net_until(&n, r.done == 1);
    assert_int_equal(r.e.code, ERR_TIMEOUT);
    assert_non_null(strstr(r.e.text, "within 50 ms"));
    net_until(&n, served.ends == 1); /* the serving side learns it */
    assert_int_equal(served.why.code, ERR_TIMEOUT);
    assert_int_equal(call(&n, l.conn, COUNT, "x", 1, &r), 0);
    assert_int_equal(r.done, 2);
    line_close(&n, &l);
    net_close(&n);
    buf_fini(&r.text);
}

static void call_needs_exactly_one_reply_that_fits(void **state)
{
    static char big[2000];
    struct net n;
    struct line l;
    struct reply r = {0};
    struct err e;

    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    line_open(&n, &l);
    assert_int_equal(rpc_call(l.conn, MIRROR, big, sizeof(big), 1000, 5000, on_reply, &r, &e), 0);
    net_until(&n, r.done == 1);
    assert_int_equal(r.e.code, ERR_LIMIT);
    assert_int_equal(rpc_call(l.conn, SILENT, "x", 1, 1000, 5000, on_reply, &r, &e), 0);
    net_until(&n, served.opens == 2);
    rpc_end(served.stream, NULL); /* no reply at all */
    net_until(&n, r.done == 2);
    assert_int_equal(r.e.code, ERR_CORRUPT);
    assert_int_equal(rpc_call(l.conn, SILENT, "x", 1, 1000, 5000, on_reply, &r, &e), 0);
    net_until(&n, served.opens == 3);
    assert_int_equal(rpc_send(served.stream, "one", 3), 0);
    assert_int_equal(rpc_send(served.stream, "two", 3), 0);
    rpc_end(served.stream, NULL);
    net_until(&n, r.done == 3);
    assert_int_equal(r.e.code, ERR_CORRUPT);
    line_close(&n, &l);
    net_close(&n);
    buf_fini(&r.text);
}

static void closing_a_connection_ends_its_streams_and_calls(void **state)
{
    struct net n;
    struct line l;
    struct side s;
    struct reply r = {0};
    struct err e;

    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    for (int by = 0; by < 3; by++) { /* us, the other side, the whole server */
        reset(NULL);
        r.done = 0;
        line_open(&n, &l);
        side_open(&s, l.conn, SILENT, "open", 4);
        assert_int_equal(rpc_call(l.conn, SILENT, "x", 1, 100, 10000, on_reply, &r, &e), 0);
        net_until(&n, served.opens == 2);
        if (by == 0)
            rpc_conn_close(l.conn);
        else if (by == 1)
            rpc_conn_close(rpc_stream_conn(served.stream));
        else
            net_close_server(&n);
        assert_int_equal(s.ends, by == 2);
        if (by == 0) { /* still a stream, but one that leads nowhere */
            assert_int_equal(rpc_send(s.stream, "x", 1), ERR_CLOSED);
            assert_int_equal(rpc_open(l.conn, MIRROR, 1, NULL, 0, &served_events, NULL, &e), ERR_CLOSED);
        }
        net_until(&n, l.closes == 1);
        assert_int_equal(s.ends, 1);
        assert_int_equal(r.done, 1);
        assert_int_equal(s.why.code, ERR_CANCELED);
        assert_int_equal(r.e.code, ERR_CANCELED);
        assert_int_equal(l.why.code, ERR_CANCELED);
        net_until(&n, served.ends == 2);
        side_fini(&s);
    }
    net_close(&n);
    buf_fini(&r.text);
}

static void refused_dial_is_reported_once(void **state)
{
    struct net n;
    struct line l;
    struct side s;
    struct rpc_conn *c = NULL;
    struct rpc_conn_events none = {0};
    struct err e;

    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    net_close_server(&n);
    line_dial_as(&n, &l, (struct rpc_dial){0});
    side_open(&s, l.conn, MIRROR, "x", 1);
    net_until(&n, l.closes == 1);
    assert_int_equal(l.opens, 0);
    assert_int_equal(l.why.code, ERR_UNAVAILABLE);
    assert_non_null(strcasestr(l.why.text, "connection refused"));
    assert_non_null(strstr(l.why.text, n.address));
    assert_int_equal(s.ends, 1);
    struct rpc_dial bad = {.address = "localhost:1", .tls = n.worker};
    assert_int_equal(rpc_dial(&n.loop, &bad, &none, &c, &e), ERR_INVALID);
    assert_null(c);
    /* A dial that fails at once: there is no route to here. */
    bad.address = "255.255.255.255:1";
    assert_true(rpc_dial(&n.loop, &bad, &none, &c, &e) < 0);
    assert_non_null(strstr(e.text, "255.255.255.255:1"));
    assert_true(rpc_dial(&n.loop, &bad, &none, &c, NULL) < 0);
    assert_null(c);
    net_close(&n);
}

/* --- a property ---------------------------------------------------------------------------------- */

/* Many echo streams on two connections with random sizes, pauses and ends: what comes back is what was sent, in
 * order, and everything ends. */
struct chatter {
    struct rpc_stream *stream;
    struct entropy_seeded sizes, check; /* the same numbers, for sending and for checking */
    unsigned to_send, received;
    bool ended;
};

static size_t next_size(struct entropy_seeded *e)
{
    return entropy_below(&e->base, 10) ? entropy_below(&e->base, 300) : entropy_below(&e->base, 200000);
}

static void chatter_send(struct chatter *c)
{
    static char data[200000];
    size_t size = next_size(&c->sizes);

    memset(data, (int)(size & 0xff), size);
    assert_int_equal(rpc_send(c->stream, data, size), 0);
    c->to_send--;
}

static void chatter_on_message(void *ctx, struct rpc_stream *s, const void *message, size_t size)
{
    struct chatter *c = ctx;
    const uint8_t *bytes = message;

    if (c->received++ > 0) { /* the first one is fixed */
        assert_int_equal(size, next_size(&c->check));
        for (size_t i = 0; i < size; i++)
            assert_int_equal(bytes[i], size & 0xff);
    }
    if (c->to_send > 0)
        chatter_send(c);
    else
        rpc_end(s, NULL);
    if (c->to_send % 5 == 0)
        rpc_pause(s, true);
}

static void chatter_on_end(void *ctx, struct rpc_stream *s, const struct err *e)
{
    struct chatter *c = ctx;

    assert_int_equal(e->code, 0);
    c->ended = true;
    c->stream = NULL;
}

static void random_chatter_comes_back_in_order(void **state)
{
    struct chatter chatters[20];
    struct net n;
    struct line lines[2];
    struct err e;
    bool all = false;

    print_message("# seeds 1 to 20\n");
    net_open(&n, methods, ARRAY_SIZE(methods), &served, NULL, NULL);
    line_open(&n, &lines[0]);
    line_open(&n, &lines[1]);
    for (size_t i = 0; i < ARRAY_SIZE(chatters); i++) {
        struct chatter *c = &chatters[i];
        struct rpc_stream_events events = {.ctx = c, .on_message = chatter_on_message, .on_end = chatter_on_end};

        *c = (struct chatter){.to_send = 40};
        entropy_seeded_init(&c->sizes, i + 1);
        entropy_seeded_init(&c->check, i + 1);
        assert_int_equal(rpc_open(lines[i % 2].conn, MIRROR, 4 << 20, "hi", 2, &events, &c->stream, &e), 0);
    }
    uint64_t end = uv_now(&n.loop) + NET_PATIENCE_MS;
    while (!all && uv_now(&n.loop) < end) {
        all = true;
        for (size_t i = 0; i < ARRAY_SIZE(chatters); i++) {
            all = all && chatters[i].ended;
            if (!chatters[i].ended)
                rpc_pause(chatters[i].stream, false);
        }
        uv_run(&n.loop, UV_RUN_ONCE);
    }
    for (size_t i = 0; i < ARRAY_SIZE(chatters); i++) {
        assert_true(chatters[i].ended);
        assert_int_equal(chatters[i].received, 41);
    }
    line_close(&n, &lines[0]);
    line_close(&n, &lines[1]);
    net_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, reset, reset)
        TEST(call_is_answered_and_both_know_each_other),
        TEST(socket_has_the_options_it_should),
        TEST(streams_opened_before_the_handshake_are_sent_after_it),
        TEST(messages_of_any_size_keep_order_and_content),
        TEST(paused_receiver_stops_its_sender_and_nobody_else),
        TEST(message_larger_than_the_credit_passes_a_paused_stream_only_in_part),
        TEST(end_comes_after_everything_that_was_sent),
        TEST(failing_end_does_not_wait_for_credit),
        TEST(both_sides_may_end_at_once),
        TEST(what_the_table_does_not_allow_is_refused),
        TEST(server_calls_back_only_what_the_dialing_side_offers),
        TEST(streams_of_a_method_are_counted),
        TEST(unanswered_call_times_out),
        TEST(call_needs_exactly_one_reply_that_fits),
        TEST(closing_a_connection_ends_its_streams_and_calls),
        TEST(refused_dial_is_reported_once),
        TEST(random_chatter_comes_back_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
