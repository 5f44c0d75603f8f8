/* Heads, targets and bodies: what is understood, and what is refused because two readers could differ about it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/buf.h"
#include "proto/base/mem.h"
#include "proto/wire/http_parse.h"

/* Parse a whole head as the connection does: 0, or the status it is refused with. */
static int parse(const char *text, size_t size, struct arena *a, struct http_head *h, struct err *e)
{
    size_t scanned = 0;
    long end = http_head_scan(text, size, &scanned, e);

    if (end < 0)
        return 400;
    if (end == 0)
        return -1; /* not complete */
    return http_head_parse(text, (size_t)end, a, h, e);
}

static void good_head_is_understood(void **state)
{
    static const char text[] =
        "POST /v1.45/containers/a%20b/json?all=1&filters=%7B%22a%22%3A1%7D&x=a+b&flag HTTP/1.1\r\n"
        "Host: docker\r\nUser-Agent:   Docker-Client/28.2  \r\nX-Empty:\r\nContent-Length: 12\r\n"
        "Content-Type: application/json\r\nConnection: keep-alive, Upgrade\r\nUpgrade: tcp\r\n\r\n";
    AUTO_ARENA struct arena a;
    struct http_head h;
    struct err e = {0};

    arena_init(&a);
    assert_int_equal(parse(text, sizeof(text) - 1, &a, &h, &e), 0);
    assert_string_equal(h.method, "POST");
    assert_string_equal(h.path, "/v1.45/containers/a b/json");
    assert_string_equal(h.query_string, "all=1&filters=%7B%22a%22%3A1%7D&x=a+b&flag");
    assert_string_equal(http_head_parameter(&h, "all"), "1");
    assert_string_equal(http_head_parameter(&h, "filters"), "{\"a\":1}");
    assert_string_equal(http_head_parameter(&h, "x"), "a b");
    assert_string_equal(http_head_parameter(&h, "flag"), "");
    assert_null(http_head_parameter(&h, "All"));
    assert_string_equal(http_head_field(&h, "user-agent"), "Docker-Client/28.2");
    assert_string_equal(http_head_field(&h, "x-empty"), "");
    assert_string_equal(http_head_field(&h, "CONTENT-TYPE"), "application/json");
    assert_null(http_head_field(&h, "X-Absent"));
    assert_int_equal(h.field_count, 7);
    assert_true(h.keep_alive);
    assert_true(h.wants_tcp);
    assert_int_equal(h.framing, HTTP_FRAMING_LENGTH);
    assert_int_equal(h.length, 12);
}

static void head_is_found_at_every_split(void **state)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\nGET /next";
    size_t whole = sizeof("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n") - 1;

    for (size_t split = 0; split < whole; split++) {
        size_t scanned = 0;
        struct err e = {0};

        assert_int_equal(http_head_scan(text, split, &scanned, &e), 0);
        assert_int_equal(http_head_scan(text, sizeof(text) - 1, &scanned, &e), whole);
    }
}

static void keep_alive_follows_version_and_connection(void **state)
{
    static const struct {
        const char *head;
        bool keep;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: x\r\nConnection: foo ,CLOSE\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: x\r\nConnection: foo\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: x\r\nConnection: closed\r\n\r\n", true},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
        {"GET http://host:1/a?b HTTP/1.1\r\nHost: host:1\r\n\r\n", true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_ARENA struct arena a;
        struct http_head h;
        struct err e = {0};

        arena_init(&a);
        assert_int_equal(parse(cases[i].head, strlen(cases[i].head), &a, &h, &e), 0);
        assert_int_equal(h.keep_alive, cases[i].keep);
    }
}

static void ambiguous_or_broken_head_is_refused(void **state)
{
#define HOST "Host: x\r\n"
    static const struct {
        const char *head;
        int status;          /* 0: any, the two libraries differ */
        const char *because; /* part of the message */
    } cases[] = {
        {"GET / HTTP/1.1\n" HOST "\r\n", 400, "CR LF"},
        {"GET / HTTP/1.1\r\nHost: x\n\n", 400, "CR LF"},
        {"GET / HTTP/1.1\r\rHost: x\r\n\r\n", 400, "CR LF"},
        {"GET / HTTP/1.1\r\n" HOST "A: b\rC: d\r\n\r\n", 400, "CR LF"},
        {"GET / HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n", 400, "folded"},
        {"GET / HTTP/1.1\r\n" HOST "A: b\r\n\tc\r\n\r\n", 400, "folded"},
        {"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400, "folded"},
        {"GET / HTTP/1.1\r\n" HOST "A : b\r\n\r\n", 400, "header"},
        {"GET / HTTP/1.1\r\n" HOST ": b\r\n\r\n", 400, "header"},
        {"GET / HTTP/1.1\r\n" HOST "A\x01: b\r\n\r\n", 400, "header"},
        {"GET / HTTP/1.1\r\n" HOST "A: b\x01\r\n\r\n", 400, "header"},
        {"GET / HTTP/1.1\r\n\r\n", 400, "Host"},
        {"GET / HTTP/1.1\r\n" HOST HOST "\r\n", 400, "Host"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400, "malformed"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\ncontent-length: 6\r\n\r\n", 400, "malformed"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\n", 400, "malformed"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\n", 400, "malformed"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: -5\r\n\r\n", 400, "malformed"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0x5\r\n\r\n", 400, "malformed"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n", 400, "malformed"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n", 400, "malformed"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "malformed"},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400, "malformed"},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400,
         "malformed"},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "gzip"},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, gzip\r\n\r\n", 0, ""},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "HTTP/1.0"},
        {"POST / HTTP/1.1\r\n" HOST "Expect: something\r\n\r\n", 417, "something"},
        {"GET / HTTP/2.0\r\n" HOST "\r\n", 0, "version"},
        {"GET / HTTP/1.2\r\n" HOST "\r\n", 0, "version"},
        {"GET / HTTP/0.9\r\n" HOST "\r\n", 0, "version"},
        {"GET /\r\n\r\n", 0, ""},
        {"GET / JTTP/1.1\r\n" HOST "\r\n", 400, "malformed"},
        {"BREW / HTTP/1.1\r\n" HOST "\r\n", 400, "method"},
        {"get / HTTP/1.1\r\n" HOST "\r\n", 400, "method"},
        {"GET  HTTP/1.1\r\n" HOST "\r\n", 400, ""},
        {"GET * HTTP/1.1\r\n" HOST "\r\n", 400, "target"},
        {"OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 400, "target"},
        {"CONNECT host:80 HTTP/1.1\r\n" HOST "\r\n", 400, "target"},
        {"GET ftp://x/ HTTP/1.1\r\n" HOST "\r\n", 400, "target"},
        {"GET /a#b HTTP/1.1\r\n" HOST "\r\n", 400, "target"},
        {"GET /a\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", 400, ""},
        {"GET /a\x7f HTTP/1.1\r\n" HOST "\r\n", 400, ""},
        {"GET /a\x01 HTTP/1.1\r\n" HOST "\r\n", 400, ""},
        {"GET /a\tb HTTP/1.1\r\n" HOST "\r\n", 400, ""},
        {"GET /a b HTTP/1.1\r\n" HOST "\r\n", 400, ""},
        {"GET /a%00b HTTP/1.1\r\n" HOST "\r\n", 400, "escape in path"},
        {"GET /a%2 HTTP/1.1\r\n" HOST "\r\n", 400, "escape in path"},
        {"GET /a% HTTP/1.1\r\n" HOST "\r\n", 400, "escape in path"},
        {"GET /%zz HTTP/1.1\r\n" HOST "\r\n", 400, "escape in path"},
        {"GET /?a=%zz HTTP/1.1\r\n" HOST "\r\n", 400, "query parameter \"a=%zz\""},
        {"GET /?a%00=b HTTP/1.1\r\n" HOST "\r\n", 400, "query parameter"},
        {"GET /?a=b%&c=d HTTP/1.1\r\n" HOST "\r\n", 400, "query parameter \"a=b%\""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_ARENA struct arena a;
        struct http_head h;
        struct err e = {0};

        arena_init(&a);
        int status = parse(cases[i].head, strlen(cases[i].head), &a, &h, &e);
        bool refused = cases[i].status ? status == cases[i].status : status >= 400;
        if (!refused || !strcasestr(e.text, cases[i].because))
            fail_msg("case %zu: status %d, \"%s\" for %s", i, status, e.text, cases[i].head);
    }
}

static void zero_byte_in_a_head_is_refused(void **state)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: x\0y\r\n\r\n";
    AUTO_ARENA struct arena a;
    struct http_head h;
    struct err e = {0};

    arena_init(&a);
    assert_int_equal(parse(text, sizeof(text) - 1, &a, &h, &e), 400);
    assert_non_null(strstr(e.text, "zero byte"));
}

static void too_many_fields_are_refused(void **state)
{
    AUTO_BUF struct buf text = {0};
    AUTO_ARENA struct arena a;
    struct http_head h;
    struct err e = {0};

    arena_init(&a);
    buf_append_str(&text, "GET / HTTP/1.1\r\nHost: x\r\n");
    for (int i = 1; i < HTTP_FIELDS_MAX; i++)
        buf_printf(&text, "F%d: v\r\n", i);
    buf_append_str(&text, "\r\n");
    assert_int_equal(parse(buf_bytes(&text), text.length, &a, &h, &e), 0);
    text.length -= 2;
    buf_append_str(&text, "One: more\r\n\r\n");
    assert_int_equal(parse(buf_bytes(&text), text.length, &a, &h, &e), 431);
}

/* --- bodies -------------------------------------------------------------------------------------- */

/* Read a body handed over in pieces of `step` bytes. Returns bytes used, or a code. */
static long read_body(const struct http_head *h, const char *data, size_t size, size_t step, struct buf *into,
                      bool *ret_done)
{
    struct http_body b;
    size_t at = 0;

    http_body_init(&b, h);
    while (at < size && !b.done) {
        const char *payload;
        size_t payload_size, piece = step < size - at ? step : size - at;
        long used = http_body_read(&b, data + at, piece, &payload, &payload_size, NULL);

        if (used < 0)
            return used;
        assert_true(used > 0);
        buf_append(into, payload, payload_size);
        at += (size_t)used;
    }
    *ret_done = b.done;
    return (long)at;
}

static void chunked_body_is_joined_at_every_split(void **state)
{
    static const char text[] = "5\r\nhello\r\nA\r\n, world, x\r\n0001\r\n!\r\n0\r\n\r\nGET / HTTP/1.1";
    size_t whole = sizeof("5\r\nhello\r\nA\r\n, world, x\r\n0001\r\n!\r\n0\r\n\r\n") - 1;
    struct http_head h = {.framing = HTTP_FRAMING_CHUNKED};

    for (size_t step = 1; step <= sizeof(text); step++) {
        AUTO_BUF struct buf body = {0};
        bool done = false;

        assert_int_equal(read_body(&h, text, sizeof(text) - 1, step, &body, &done), whole);
        assert_true(done);
        assert_string_equal(buf_str(&body), "hello, world, x!");
    }
}

static void counted_body_takes_its_length_and_no_more(void **state)
{
    struct http_head h = {.framing = HTTP_FRAMING_LENGTH, .length = 5}, none = {.framing = HTTP_FRAMING_NONE};
    AUTO_BUF struct buf body = {0};
    struct http_body b;
    bool done = false;

    assert_int_equal(read_body(&h, "hello!", 6, 2, &body, &done), 5);
    assert_true(done);
    assert_string_equal(buf_str(&body), "hello");
    assert_int_equal(read_body(&h, "hell", 4, 4, &body, &done), 4);
    assert_false(done);
    http_body_init(&b, &none);
    assert_true(b.done);
}

static void broken_chunks_are_refused(void **state)
{
    static const char *const cases[] = {
        "\r\n",
        "g\r\n",
        "-1\r\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5\nhello\r\n",
        "5\r\nhello\n",
        "5\r\nhelloX\r\n",
        "5;a=b\r\nhello\r\n",
        "5\r\rhello",
        "0\r\nA: b\r\n",
        "0\r\n\n",
        "0\nx",
        "0x5\r\nhello\r\n",
        "1000000000000000\r\n",
        "5\r\nhello\r\r",
    };
    struct http_head h = {.framing = HTTP_FRAMING_CHUNKED};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_BUF struct buf body = {0};
        bool done = false;

        for (size_t step = 1; step < 4; step += 2)
            if (read_body(&h, cases[i], strlen(cases[i]), step, &body, &done) != ERR_INVALID)
                fail_msg("case %zu was taken: %s", i, cases[i]);
        assert_false(done);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_head_is_understood),
        cmocka_unit_test(head_is_found_at_every_split),
        cmocka_unit_test(keep_alive_follows_version_and_connection),
        cmocka_unit_test(ambiguous_or_broken_head_is_refused),
        cmocka_unit_test(zero_byte_in_a_head_is_refused),
        cmocka_unit_test(too_many_fields_are_refused),
        cmocka_unit_test(chunked_body_is_joined_at_every_split),
        cmocka_unit_test(counted_body_takes_its_length_and_no_more),
        cmocka_unit_test(broken_chunks_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
