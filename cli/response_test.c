/* Responses: what is read, in however small pieces it arrives, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "cli/response.h"
#include "proto/base/buf.h"
#include "proto/base/mem.h"

/* Feed the text in pieces of `step` bytes; the body goes into `body`. */
static int feed(struct response *r, const char *text, size_t length, size_t step, struct buf *body,
                size_t *ret_used, struct err *e)
{
    size_t at = 0;

    while (at < length && r->state != RESPONSE_DONE) {
        size_t used, size, piece = MIN(step, length - at);
        const char *part;
        int rc = response_take(r, text + at, piece, &used, &part, &size, e);

        if (rc < 0)
            return rc;
        if (size) {
            assert_true(part >= text + at && part + size <= text + at + piece);
            buf_append(body, part, size);
        }
        assert_true(used <= piece);
        if (used == 0)
            fail_msg("no byte was taken at %zu", at);
        at += used;
    }
    *ret_used = at;
    return 0;
}

static const struct good {
    const char *text, *body;
    int status;
    bool closes;     /* the connection closing ends the body */
    bool keep_alive; /* afterwards */
    const char *rest;
} good[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", 200, false, true, ""},
    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 200, false, true, ""},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello", "he", 200, false, true, "llo"},
    {"HTTP/1.1 204 No Content\r\n\r\n", "", 204, false, true, ""},
    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "", 304, false, true, ""},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n", "hello!", 200,
     false, true, ""},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nrest",
     "0123456789", 200, false, true, "rest"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", 200, false, true, ""},
    {"HTTP/1.1 200 OK\r\n\r\nuntil the end", "until the end", 200, true, false, ""},
    {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", "x", 200, false, false, ""},
    {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", "x", 200, false, false, ""},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx", "x", 404, false, true,
     ""},
    {"HTTP/1.1 500\r\nContent-Length: 1\r\n\r\nx", "x", 500, false, true, ""},
    {"HTTP/1.1 200 OK\nContent-Length: 1\n\nx", "x", 200, false, true, ""}, /* bare newlines end lines too */
};

static void bodies_are_framed_in_three_ways(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        size_t length = strlen(good[i].text);

        for (size_t step = 1; step <= length; step = step < 4 ? step + 1 : step * 3) {
            AUTO_BUF struct buf body = {0};
            struct response r;
            struct err e = {0};
            size_t used = 0;

            response_begin(&r, false);
            if (feed(&r, good[i].text, length, step, &body, &used, &e) < 0)
                fail_msg("answer %zu in pieces of %zu: %s", i, step, e.text);
            if (good[i].closes)
                assert_int_equal(response_closed(&r, &e), 0);
            assert_int_equal(r.state, RESPONSE_DONE);
            assert_int_equal(r.status, good[i].status);
            assert_string_equal(buf_str(&body), good[i].body);
            assert_int_equal(r.keep_alive, good[i].keep_alive);
            assert_string_equal(good[i].text + used, good[i].rest);
        }
    }
}

static void headers_that_matter_are_kept(void **state)
{
    static const char text[] = "HTTP/1.1 200 Fine by me\r\nAPI-Version: 1.45\r\nSwarm:  active/manager \r\n"
                               "Content-Type: application/json; charset=utf-8\r\nX-Other: ignored\r\n"
                               "Content-Length: 0\r\n\r\n";
    AUTO_BUF struct buf body = {0};
    struct response r;
    struct err e;
    size_t used;

    response_begin(&r, false);
    assert_int_equal(feed(&r, text, sizeof(text) - 1, 7, &body, &used, &e), 0);
    assert_string_equal(r.reason, "Fine by me");
    assert_string_equal(r.api_version, "1.45");
    assert_string_equal(r.swarm, "active/manager");
    assert_int_equal(strncmp(r.content_type, "application/json", 16), 0);
}

static void an_answer_to_head_has_no_body(void **state)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";
    AUTO_BUF struct buf body = {0};
    struct response r;
    struct err e;
    size_t used;

    response_begin(&r, true);
    assert_int_equal(feed(&r, text, sizeof(text) - 1, 3, &body, &used, &e), 0);
    assert_int_equal(r.state, RESPONSE_DONE);
    assert_true(r.keep_alive);
}

static void answers_that_could_be_read_in_two_ways_are_refused(void **state)
{
    static const char *const wrong[] = {
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n",
        "\x15\x03\x01\x00\x02\x02\x16\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nHeader: one\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
        "HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nName : x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nName: a\x01"
        "b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nName: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    };

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        AUTO_BUF struct buf body = {0};
        struct response r;
        struct err e = {0};
        size_t used;

        response_begin(&r, false);
        if (feed(&r, wrong[i], strlen(wrong[i]), 1, &body, &used, &e) == 0)
            fail_msg("this was read: %s", wrong[i]);
        assert_true(*e.text);
    }
}

static void an_end_too_early_is_an_error(void **state)
{
    static const char *const cut[] = {
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    };

    for (size_t i = 0; i < ARRAY_SIZE(cut); i++) {
        AUTO_BUF struct buf body = {0};
        struct response r;
        struct err e = {0};
        size_t used;

        response_begin(&r, false);
        assert_int_equal(feed(&r, cut[i], strlen(cut[i]), 4, &body, &used, &e), 0);
        assert_true(response_closed(&r, &e) < 0);
        assert_true(*e.text);
    }
}

static void heads_are_bounded(void **state)
{
    AUTO_BUF struct buf text = {0};
    AUTO_BUF struct buf body = {0};
    struct response r;
    struct err e;
    size_t used;

    buf_append_str(&text, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < RESPONSE_LINES_MAX + 1; i++)
        buf_append_str(&text, "A: b\r\n");
    response_begin(&r, false);
    assert_true(feed(&r, buf_str(&text), text.length, 4096, &body, &used, &e) < 0);

    buf_clear(&text);
    buf_append_str(&text, "HTTP/1.1 200 OK\r\nA: ");
    for (int i = 0; i < 8192; i++)
        buf_append_char(&text, 'x');
    response_begin(&r, false);
    assert_true(feed(&r, buf_str(&text), text.length, 4096, &body, &used, &e) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_are_framed_in_three_ways),
        cmocka_unit_test(headers_that_matter_are_kept),
        cmocka_unit_test(an_answer_to_head_has_no_body),
        cmocka_unit_test(answers_that_could_be_read_in_two_ways_are_refused),
        cmocka_unit_test(an_end_too_early_is_an_error),
        cmocka_unit_test(heads_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
