/* Long exchanges: streams both ways with back-pressure, hijacked connections, deadlines, and ends in the middle. */
#include <signal.h>

#include "proto/base/entropy.h"
#include "proto/wire/http_test_web.h"

/* --- the handler --------------------------------------------------------------------------------- */

static struct {
    unsigned begun, ended, closed, writable, halves, bodies;
    struct http_exchange *x; /* the last one, while it lives */
    struct buf taken;        /* body or raw bytes, at most a MiB of them */
    size_t taken_count;      /* all of them */
    bool body_end;
    bool take;            /* on_data goes on */
    size_t to_send, sent; /* of a long stream */
} seen;

static int reset(void **state)
{
    memset(&seen, 0, sizeof(seen));
    seen.take = true;
    return 0;
}

static int balanced(void **state)
{
    buf_fini(&seen.taken);
    return seen.begun == seen.ended ? 0 : -1;
}

static void on_end(struct http_exchange *x)
{
    assert_ptr_equal(http_data(x), &seen);
    seen.ended++;
    if (seen.x == x)
        seen.x = NULL;
}

static void on_close(struct http_exchange *x)
{
    seen.closed++;
    if (seen.x == x)
        seen.x = NULL;
}

static bool on_data(struct http_exchange *x, const char *data, size_t size)
{
    if (!data) {
        seen.body_end = true;
        seen.halves++;
    }
    seen.taken_count += size;
    if (seen.taken.length < 1024 * 1024)
        buf_append(&seen.taken, data, size);
    return seen.take;
}

/* Byte number n of a long stream. */
static char pattern(size_t n)
{
    return (char)('a' + n % 23);
}

static void pour(struct http_exchange *x)
{
    char piece[7001];

    while (seen.sent < seen.to_send) {
        size_t size = MIN(sizeof(piece), seen.to_send - seen.sent);

        for (size_t i = 0; i < size; i++)
            piece[i] = pattern(seen.sent + i);
        seen.sent += size;
        if (!http_write(x, piece, size))
            return;
    }
    http_stream_end(x);
}

static void on_writable(struct http_exchange *x)
{
    seen.writable++;
    pour(x);
}

static void on_raw_writable(struct http_exchange *x)
{
    seen.writable++;
}

static void on_collected(struct http_exchange *x, const char *body, size_t length)
{
    seen.bodies++;
    http_hijack(x, "application/vnd.docker.raw-stream", on_data, on_raw_writable);
}

static void on_request(void *ctx, struct http_exchange *x)
{
    const char *path = http_path(x);

    seen.begun++;
    seen.x = x;
    http_set_data(x, &seen);
    http_on_end(x, on_end);
    if (!http_query(x, "deaf"))
        http_on_close(x, on_close);
    if (strcmp(path, "/pour") == 0) {
        http_stream(x, 200, "application/json", on_writable);
        pour(x);
    } else if (strcmp(path, "/stream") == 0) {
        http_stream(x, 200, "application/json", on_raw_writable);
    } else if (strcmp(path, "/upload") == 0) {
        http_body_stream(x, on_data);
    } else if (strcmp(path, "/collect") == 0) {
        http_collect(x, on_collected);
    } else if (strcmp(path, "/hijack") == 0) {
        http_hijack(x, "application/vnd.docker.multiplexed-stream", on_data, on_raw_writable);
    } else if (strcmp(path, "/hello") == 0) {
        http_reply(x, 200, "text/plain", "hello", 5);
    }
}

static void begin(struct web *w, struct client *c, const char *request)
{
    unsigned begun = seen.begun;

    client_open(w, c);
    client_send(w, c, request);
    web_until(w, seen.begun > begun);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

/* --- streams ------------------------------------------------------------------------------------- */

/* Join the chunks of an answer; returns whether it is complete. */
static bool unchunk(struct buf *answer, struct buf *ret_body)
{
    const char *at = strstr(buf_str(answer), "\r\n\r\n") + 4, *end = buf_bytes(answer) + answer->length;

    while (at < end) {
        char *data;
        size_t size = strtoul(at, &data, 16);

        if (end - data < (ssize_t)size + 4)
            return false;
        assert_memory_equal(data, "\r\n", 2);
        assert_memory_equal(data + 2 + size, "\r\n", 2);
        if (size == 0)
            return true;
        buf_append(ret_body, data + 2, size);
        at = data + 4 + size;
    }
    return false;
}

static void slow_reader_holds_the_stream_back(void **state)
{
    struct http_limits limits = {.write_bytes = 100000};
    struct web w;
    struct client c;
    AUTO_BUF struct buf body = {0};

    seen.to_send = 5000000;
    web_open(&w, &limits, on_request);
    begin(&w, &c, GET("/pour"));
    size_t held = 0;
    while (held < seen.sent) {
        held = seen.sent;
        web_rest(&w, 50);
    }
    assert_true(held < 1000000); /* what the socket and write_bytes take */
    client_expect(&w, &c, "\r\n0\r\n\r\n");
    assert_true(seen.writable > 0);
    assert_true(unchunk(&c.got, &body));
    assert_int_equal(body.length, seen.to_send);
    for (size_t i = 0; i < body.length; i++)
        if (buf_bytes(&body)[i] != pattern(i))
            fail_msg("byte %zu of the stream is wrong", i);
    client_send(&w, &c, GET("/hello")); /* and the connection lives on */
    client_expect(&w, &c, "hello");
    client_close(&c);
    web_close(&w);
    assert_int_equal(seen.closed, 0);
}

static void head_of_a_stream_leaves_before_its_first_piece(void **state)
{
    struct web w;
    struct client c;

    web_open(&w, NULL, on_request);
    begin(&w, &c, GET("/stream"));
    client_expect(&w, &c, "Transfer-Encoding: chunked\r\n");
    assert_true(http_write(seen.x, "x", 1));
    client_expect(&w, &c, "\r\n\r\n1\r\nx\r\n");
    http_stream_end(seen.x);
    client_expect(&w, &c, "0\r\n\r\n");
    client_close(&c);
    web_close(&w);
}

static void stream_that_is_cut_ends_without_its_last_chunk(void **state)
{
    struct web w;
    struct client c;

    web_open(&w, NULL, on_request);
    begin(&w, &c, GET("/stream"));
    assert_true(http_write(seen.x, "x", 1));
    http_stream_cut(seen.x);
    web_until(&w, client_ended(&c));
    assert_true(client_has(&c, "\r\n\r\n1\r\nx\r\n"));
    assert_false(client_has(&c, "0\r\n\r\n"));
    assert_int_equal(seen.closed, 0); /* it was answered */
    client_close(&c);
    web_close(&w);
}

static void client_that_leaves_a_silent_stream_is_noticed(void **state)
{
    struct web w;
    struct client c;

    web_open(&w, NULL, on_request);
    begin(&w, &c, GET("/stream"));
    client_close(&c);
    web_until(&w, seen.ended == 1);
    assert_int_equal(seen.closed, 1);
    begin(&w, &c, GET("/wait")); /* nothing answered yet */
    client_close(&c);
    web_until(&w, seen.ended == 2);
    assert_int_equal(seen.closed, 2);
    web_close(&w);
    assert_int_equal(seen.closed, 2);
}

static void half_closed_client_gets_its_answer(void **state)
{
    struct web w;
    struct client c;

    web_open(&w, NULL, on_request);
    begin(&w, &c, GET("/wait") GET("/hello"));
    shutdown(c.fd, SHUT_WR);
    web_rest(&w, 30);
    assert_int_equal(seen.closed, 0);
    http_reply(seen.x, 200, NULL, "late", 4);
    client_expect(&w, &c, "hello"); /* also to what it had sent before */
    assert_true(client_has(&c, "late"));
    web_until(&w, client_ended(&c));
    client_close(&c);
    /* Half closed, then gone: noticed though there is nothing to read. */
    begin(&w, &c, GET("/wait"));
    shutdown(c.fd, SHUT_WR);
    web_rest(&w, 30);
    assert_int_equal(seen.closed, 0);
    client_close(&c);
    web_until(&w, seen.closed == 1);
    web_close(&w);
}

static void handler_without_on_close_answers_into_nothing(void **state)
{
    static const char *const requests[] = {GET("/wait?deaf"), GET("/stream?deaf"), GET("/hijack?deaf")};
    struct web w;

    web_open(&w, NULL, on_request);
    for (unsigned i = 0; i < ARRAY_SIZE(requests); i++) {
        struct client c;

        begin(&w, &c, requests[i]);
        client_close(&c);
        web_rest(&w, 30);
        assert_int_equal(seen.ended, i);
        if (i == 0) {
            http_set_header(seen.x, "A", "b");
            http_reply(seen.x, 200, NULL, "x", 1);
        } else {
            for (int n = 0; n < 1000; n++)
                assert_true(http_write(seen.x, "nobody reads this", 17));
            if (i == 1)
                http_stream_end(seen.x);
            else
                http_hijack_end(seen.x);
        }
        assert_int_equal(seen.halves, i == 2); /* the hijacked one learns that nothing more comes */
        web_until(&w, seen.ended == i + 1);
    }
    web_close(&w);
    assert_int_equal(seen.closed, 0);
}

static void blocked_writer_without_on_close_is_let_go(void **state)
{
    struct web w;
    struct client c;

    seen.to_send = 5000000;
    web_open(&w, NULL, on_request);
    begin(&w, &c, GET("/pour?deaf"));
    web_rest(&w, 20);
    assert_true(seen.sent < seen.to_send);
    client_close(&c);
    web_until(&w, seen.ended == 1);
    assert_int_equal(seen.sent, seen.to_send);
    web_close(&w);
}

/* --- uploads ------------------------------------------------------------------------------------- */

static void slow_taker_holds_the_upload_back(void **state)
{
    struct web w;
    struct client c;
    static char piece[65536];
    size_t size = 6000000, at = 0, before;

    for (int chunked = 0; chunked < 2; chunked++) {
        at = 0;
        seen.taken_count = seen.taken.length = 0;
        seen.take = seen.body_end = false;
        web_open(&w, NULL, on_request);
        begin(&w, &c,
              chunked ? "POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5B8D80\r\n"
                      : "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 6000000\r\n\r\n");
        do { /* until the socket takes no more */
            before = at;
            at += client_push(&c, piece, MIN(sizeof(piece), size - at));
            web_rest(&w, 10);
        } while (at > before);
        assert_true(at < 2000000);
        assert_true(seen.taken_count <= 65536);
        assert_false(seen.body_end);
        seen.take = true;
        http_body_resume(seen.x);
        while (at < size) {
            at += client_push(&c, piece, MIN(sizeof(piece), size - at));
            uv_run(&w.loop, UV_RUN_ONCE);
        }
        client_send(&w, &c, chunked ? "\r\n0\r\n\r\n" : "");
        web_until(&w, seen.body_end);
        assert_int_equal(seen.taken_count, size);
        http_reply_empty(seen.x, 200);
        client_expect(&w, &c, "200 OK");
        assert_false(client_has(&c, "Connection: close"));
        client_send(&w, &c, GET("/hello"));
        client_expect(&w, &c, "hello");
        client_close(&c);
        web_close(&w);
    }
    assert_int_equal(seen.closed, 0);
}

static void answer_may_begin_while_the_body_comes(void **state)
{
    struct web w;
    struct client c;

    web_open(&w, NULL, on_request);
    begin(&w, &c, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc");
    http_stream(seen.x, 200, NULL, NULL);
    http_write(seen.x, "progress", 8);
    client_expect(&w, &c, "progress");
    client_send(&w, &c, "def");
    web_until(&w, seen.body_end);
    http_stream_end(seen.x);
    client_expect(&w, &c, "0\r\n\r\n");
    assert_string_equal(buf_str(&seen.taken), "abcdef");
    client_send(&w, &c, GET("/hello"));
    client_expect(&w, &c, "hello");
    client_close(&c);
    web_close(&w);
}

static void early_answer_to_an_upload_reaches_the_client(void **state)
{
    struct web w;
    struct client c;
    static char piece[65536];

    web_open(&w, NULL, on_request);
    begin(&w, &c, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
    client_send_n(&w, &c, piece, sizeof(piece));
    http_reply(seen.x, 400, "text/plain", "no such thing", 13);
    for (int i = 0; i < 20; i++)
        client_send_n(&w, &c, piece, sizeof(piece)); /* still taken, and thrown away */
    client_expect(&w, &c, "no such thing");
    assert_true(client_has(&c, "Connection: close"));
    assert_int_equal(seen.ended, 1);
    assert_true(seen.taken_count <= 2 * sizeof(piece)); /* not told to the handler any more */
    shutdown(c.fd, SHUT_WR);
    web_until(&w, client_ended(&c));
    client_close(&c);
    web_close(&w);
    assert_int_equal(seen.closed, 0);
}

/* --- hijack -------------------------------------------------------------------------------------- */

#define UPGRADE "Connection: Upgrade\r\nUpgrade: tcp\r\n"

static void hijack_is_101_when_asked_for_and_200_else(void **state)
{
    struct web w;
    struct client c;

    web_open(&w, NULL, on_request);
    begin(&w, &c, "POST /hijack HTTP/1.1\r\nHost: x\r\n" UPGRADE "\r\n");
    client_expect(&w, &c, "\r\n\r\n");
    const char *text = buf_str(&c.got);
    assert_ptr_equal(strstr(text, "HTTP/1.1 101 UPGRADED\r\n"), text);
    assert_non_null(strstr(text, "\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"));
    assert_non_null(strstr(text, "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"));
    assert_null(strstr(text, "Content-Length"));
    assert_null(strstr(text, "Transfer-Encoding"));
    client_forget(&c);
    http_write(seen.x, "raw \0 bytes", 11);
    web_until(&w, client_has_n(&c, 11));
    assert_memory_equal(buf_bytes(&c.got), "raw \0 bytes", 11);
    client_send_n(&w, &c, "in\0put", 6);
    web_until(&w, seen.taken_count == 6);
    assert_memory_equal(buf_bytes(&seen.taken), "in\0put", 6);
    client_close(&c);
    web_until(&w, seen.halves == 1);
    web_until(&w, seen.closed == 1);

    begin(&w, &c, "POST /hijack HTTP/1.1\r\nHost: x\r\n\r\n");
    client_expect(&w, &c, "HTTP/1.1 200 OK\r\n");
    assert_false(client_has(&c, "Upgrade"));
    assert_false(client_has(&c, "Content-Length"));
    client_close(&c);
    web_close(&w);
}

static void hijack_after_the_body_takes_what_follows_as_raw(void **state)
{
    struct web w;
    struct client c;

    web_open(&w, NULL, on_request);
    begin(&w, &c, "POST /collect HTTP/1.1\r\nHost: x\r\n" UPGRADE "Content-Length: 2\r\n\r\n{}" GET("/hello"));
    client_expect(&w, &c, "101 UPGRADED");
    web_until(&w, seen.taken_count == sizeof(GET("/hello")) - 1);
    assert_string_equal(buf_str(&seen.taken), GET("/hello"));
    assert_int_equal(seen.begun, 1); /* it was no request */
    http_hijack_end(seen.x);
    web_until(&w, client_ended(&c));
    client_close(&c);

    /* A body that the handler did not ask for is not raw either. */
    seen.taken_count = seen.taken.length = 0;
    begin(&w, &c, "POST /hijack HTTP/1.1\r\nHost: x\r\n" UPGRADE "Content-Length: 4\r\n\r\nbo");
    client_send(&w, &c, "dyraw");
    web_until(&w, seen.taken_count == 3);
    assert_string_equal(buf_str(&seen.taken), "raw");
    client_close(&c);
    web_close(&w);
}

static void refused_upgrade_does_not_take_what_follows_for_a_request(void **state)
{
    struct web w;
    struct client c;

    web_open(&w, NULL, on_request);
    begin(&w, &c, "POST /hello HTTP/1.1\r\nHost: x\r\n" UPGRADE "\r\n" GET("/hello"));
    web_until(&w, client_ended(&c));
    assert_int_equal(client_count(&c, "HTTP/1.1"), 1);
    assert_true(client_has(&c, "Connection: close\r\n"));
    assert_int_equal(seen.begun, 1);
    client_close(&c);
    web_close(&w);
}

static void either_side_may_close_its_half_first(void **state)
{
    struct web w;
    struct client c;

    web_open(&w, NULL, on_request);
    /* The client: its end of input arrives after the last byte, our output goes on. */
    begin(&w, &c, "POST /hijack HTTP/1.1\r\nHost: x\r\n" UPGRADE "\r\n");
    client_expect(&w, &c, "\r\n\r\n");
    client_send(&w, &c, "last words");
    shutdown(c.fd, SHUT_WR);
    web_until(&w, seen.halves == 1);
    assert_string_equal(buf_str(&seen.taken), "last words");
    web_rest(&w, 20);
    assert_int_equal(seen.closed, 0);
    http_write(seen.x, "answer", 6);
    client_expect(&w, &c, "answer");
    http_hijack_end(seen.x);
    web_until(&w, client_ended(&c));
    assert_int_equal(seen.closed, 0);
    assert_int_equal(seen.ended, 1);
    client_close(&c);

    /* We: the client reads the end, its bytes still arrive. */
    seen.taken_count = seen.halves = 0;
    begin(&w, &c, "POST /hijack HTTP/1.1\r\nHost: x\r\n" UPGRADE "\r\n");
    http_write(seen.x, "bye", 3);
    http_shutdown(seen.x);
    web_until(&w, client_ended(&c));
    assert_true(client_has(&c, "bye"));
    client_send(&w, &c, "but I go on");
    web_until(&w, seen.taken_count == 11);
    shutdown(c.fd, SHUT_WR);
    web_until(&w, seen.halves == 1);
    web_rest(&w, 20);
    assert_int_equal(seen.closed, 0);
    http_hijack_end(seen.x);
    web_until(&w, seen.ended == 2);
    client_close(&c);
    web_close(&w);
}

static void all_output_arrives_before_a_hijack_ends(void **state)
{
    struct web w;
    struct client c;
    static char piece[100000];
    size_t total = 0;

    memset(piece, 'o', sizeof(piece));
    web_open(&w, NULL, on_request);
    begin(&w, &c, "POST /hijack HTTP/1.1\r\nHost: x\r\n" UPGRADE "\r\n");
    for (int i = 0; i < 20; i++, total += sizeof(piece)) /* more than was allowed: kept all the same */
        http_write(seen.x, piece, sizeof(piece));
    http_hijack_end(seen.x);
    client_send(&w, &c, "typed too late"); /* unread bytes must not cost the client the end of the output */
    web_rest(&w, 30);
    web_until(&w, client_ended(&c));
    assert_true(c.got.length > total);
    assert_int_equal(buf_bytes(&c.got)[c.got.length - 1], 'o');
    client_close(&c);
    web_close(&w);
    assert_int_equal(seen.closed, 0);
}

static void hijack_is_held_back_both_ways(void **state)
{
    struct web w;
    struct client c;
    static char piece[65536];
    size_t pushed = 0, before;

    web_open(&w, NULL, on_request);
    begin(&w, &c, "POST /hijack HTTP/1.1\r\nHost: x\r\n" UPGRADE "\r\n");
    client_expect(&w, &c, "\r\n\r\n");
    seen.take = false;
    do {
        before = pushed;
        pushed += client_push(&c, piece, sizeof(piece));
        web_rest(&w, 10);
    } while (pushed > before);
    assert_true(seen.taken_count <= 65536);
    assert_true(pushed < 2000000);
    size_t written = 0;
    while (http_write(seen.x, piece, sizeof(piece)))
        written += sizeof(piece);
    assert_true(written <= 2000000);
    assert_int_equal(seen.writable, 0);
    seen.take = true;
    http_body_resume(seen.x);
    web_until(&w, seen.taken_count == pushed);
    web_until(&w, (client_pull(&c), seen.writable == 1));
    assert_true(http_write(seen.x, "x", 1));
    client_close(&c);
    web_close(&w);
    assert_int_equal(seen.closed, 1);
}

/* --- limits -------------------------------------------------------------------------------------- */

static void large_head_is_refused_with_431(void **state)
{
    struct http_limits limits = {.head_bytes = 1000};
    struct web w;
    struct client c;
    AUTO_BUF struct buf request = {0};

    web_open(&w, &limits, on_request);
    buf_append_str(&request, "GET /hello HTTP/1.1\r\nHost: x\r\nA: ");
    while (request.length < 996)
        buf_append_char(&request, 'a');
    buf_append_str(&request, "\r\n\r\n"); /* 1,000 bytes */
    client_open(&w, &c);
    client_send_n(&w, &c, buf_bytes(&request), request.length);
    client_expect(&w, &c, "hello");
    request.length -= 4;
    client_send_n(&w, &c, buf_bytes(&request), request.length);
    client_send(&w, &c, "a\r\n\r\n"); /* one more */
    client_expect(&w, &c, "HTTP/1.1 431 ");
    client_expect(&w, &c, "larger than 1000 bytes");
    web_until(&w, client_ended(&c));
    client_close(&c);
    client_open(&w, &c);
    for (int i = 0; i < 3; i++) /* endless */
        client_push(&c, buf_bytes(&request), request.length);
    client_expect(&w, &c, "HTTP/1.1 ");
    web_until(&w, client_ended(&c));
    client_close(&c);
    web_close(&w);
    assert_int_equal(seen.begun, 1);
}

static void slow_head_is_refused_and_idle_connection_closed(void **state)
{
    struct http_limits limits = {.head_ms = 100, .idle_ms = 60};
    struct web w;
    struct client c, idle;

    web_open(&w, &limits, on_request);
    client_open(&w, &idle);
    client_open(&w, &c);
    client_send(&w, &c, "GET /hello HTTP/1.1\r\nHost: x\r\nA");
    uint64_t start = uv_now(&w.loop);
    while (!client_has(&c, "HTTP/1.1 408 ")) { /* a byte now and then does not help */
        client_push(&c, "a", 1);
        web_rest(&w, 20);
        assert_true(uv_now(&w.loop) - start < WEB_PATIENCE_MS);
    }
    assert_true(uv_now(&w.loop) - start >= 95);
    web_until(&w, client_ended(&idle));
    assert_int_equal(idle.got.length, 0);
    web_until(&w, client_ended(&c));
    client_close(&idle);
    client_close(&c);
    web_close(&w);
    assert_int_equal(seen.begun, 0);
}

static void stalled_body_is_refused_with_408(void **state)
{
    struct http_limits limits = {.body_stall_ms = 800};
    struct web w;
    struct client c;

    web_open(&w, &limits, on_request);
    begin(&w, &c, "POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc");
    for (int i = 0; i < 4; i++) { /* slow is not stalled */
        web_rest(&w, 250);
        client_send(&w, &c, "d");
    }
    assert_int_equal(seen.closed, 0);
    client_expect(&w, &c, "HTTP/1.1 408 ");
    assert_int_equal(seen.closed, 1);
    web_until(&w, client_ended(&c));
    client_close(&c);
    /* While the taker has paused it, nobody expects a byte. */
    seen.take = false;
    begin(&w, &c, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc");
    web_rest(&w, 1000);
    assert_int_equal(seen.closed, 1);
    client_close(&c);
    web_close(&w);
}

static void answer_that_is_not_taken_ends_the_connection(void **state)
{
    struct http_limits limits = {.body_stall_ms = 800};
    struct web w;
    struct client c;
    static char piece[200000]; /* much of what the kernel holds, or it would not ask for more yet */
    size_t got = 0;

    seen.to_send = 5000000;
    web_open(&w, &limits, on_request);
    begin(&w, &c, GET("/pour"));
    for (int i = 0; i < 5; i++) { /* slow is not stalled */
        web_rest(&w, 250);
        ssize_t n = recv(c.fd, piece, sizeof(piece), 0);
        got += n > 0 ? (size_t)n : 0;
    }
    assert_int_equal(seen.closed, 0);
    assert_true(got > 0);
    web_until(&w, seen.closed == 1);
    web_until(&w, client_ended(&c));
    assert_true(c.got.length + got < seen.to_send);
    client_close(&c);
    web_close(&w);
}

static void silent_stream_and_hijack_have_no_deadline(void **state)
{
    struct http_limits limits = {.body_stall_ms = 40, .idle_ms = 40, .head_ms = 40};
    struct web w;
    struct client stream, hijack, wait;

    web_open(&w, &limits, on_request);
    begin(&w, &stream, GET("/stream"));
    begin(&w, &hijack, "POST /hijack HTTP/1.1\r\nHost: x\r\n" UPGRADE "\r\n");
    begin(&w, &wait, GET("/wait"));
    web_rest(&w, 200);
    assert_int_equal(seen.ended, 0);
    client_close(&stream);
    client_close(&hijack);
    client_close(&wait);
    web_until(&w, seen.ended == 3);
    web_close(&w);
}

static void clients_beyond_the_limit_get_503(void **state)
{
    struct http_limits limits = {.clients = 3};
    struct web w;
    struct client in[3], out[100];
    unsigned told = 0;

    web_open(&w, &limits, on_request);
    for (size_t i = 0; i < ARRAY_SIZE(in); i++)
        begin(&w, &in[i], GET("/wait"));
    for (size_t i = 0; i < ARRAY_SIZE(out); i++) {
        client_open(&w, &out[i]);
        client_push(&out[i], GET("/hello"), sizeof(GET("/hello")) - 1);
    }
    for (size_t i = 0; i < ARRAY_SIZE(out); i++) {
        web_until(&w, client_ended(&out[i]));
        told += client_has(&out[i], "HTTP/1.1 503 ") && client_has(&out[i], "more than 3 clients");
        assert_false(client_has(&out[i], "hello"));
        client_close(&out[i]);
    }
    assert_true(told >= 60); /* the others are just closed */
    client_close(&in[2]);
    web_until(&w, seen.ended == 1);
    web_rest(&w, 20);
    begin(&w, &in[2], GET("/hello"));
    client_expect(&w, &in[2], "hello"); /* there is room again */
    for (size_t i = 0; i < ARRAY_SIZE(in); i++)
        client_close(&in[i]);
    web_until(&w, seen.ended == 4);
    web_close(&w);
}

/* --- closing the server -------------------------------------------------------------------------- */

static void closing_ends_everything_in_the_middle(void **state)
{
    static const char *const requests[] = {
        "",                                                                   /* idle */
        "GET /hel",                                                           /* in a head */
        "POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", /* in a collected body */
        "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",  /* in a streamed one */
        GET("/wait"),                                                         /* before the answer */
        GET("/stream"),                                                       /* in a stream */
        GET("/pour"),                                                         /* in a stream that is held back */
        "POST /hijack HTTP/1.1\r\nHost: x\r\n" UPGRADE "\r\nabc",             /* hijacked */
        GET("/hello"),                                                        /* after an answer */
        "NONSENSE\r\n\r\n",                                                   /* refused, lingering */
    };
    struct web w;
    struct client c[ARRAY_SIZE(requests)];

    seen.to_send = 5000000;
    web_open(&w, NULL, on_request);
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        client_open(&w, &c[i]);
        client_send(&w, &c[i], requests[i]);
    }
    web_until(&w, seen.begun == 7 && seen.ended == 1);
    web_close_server(&w);
    assert_int_equal(seen.ended, 7);
    assert_int_equal(seen.closed, 6);
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        web_until(&w, client_ended(&c[i]));
        client_close(&c[i]);
    }
    web_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, reset, balanced)
        TEST(slow_reader_holds_the_stream_back),
        TEST(head_of_a_stream_leaves_before_its_first_piece),
        TEST(stream_that_is_cut_ends_without_its_last_chunk),
        TEST(client_that_leaves_a_silent_stream_is_noticed),
        TEST(half_closed_client_gets_its_answer),
        TEST(handler_without_on_close_answers_into_nothing),
        TEST(blocked_writer_without_on_close_is_let_go),
        TEST(slow_taker_holds_the_upload_back),
        TEST(answer_may_begin_while_the_body_comes),
        TEST(early_answer_to_an_upload_reaches_the_client),
        TEST(hijack_is_101_when_asked_for_and_200_else),
        TEST(hijack_after_the_body_takes_what_follows_as_raw),
        TEST(refused_upgrade_does_not_take_what_follows_for_a_request),
        TEST(either_side_may_close_its_half_first),
        TEST(all_output_arrives_before_a_hijack_ends),
        TEST(hijack_is_held_back_both_ways),
        TEST(large_head_is_refused_with_431),
        TEST(slow_head_is_refused_and_idle_connection_closed),
        TEST(stalled_body_is_refused_with_408),
        TEST(answer_that_is_not_taken_ends_the_connection),
        TEST(silent_stream_and_hijack_have_no_deadline),
        TEST(clients_beyond_the_limit_get_503),
        TEST(closing_ends_everything_in_the_middle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
