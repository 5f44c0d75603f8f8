/* Requests and answers over a socket: what is served, in which order, and what is refused. */
#include <netinet/in.h>
#include <signal.h>
#include <sys/wait.h>

#include "proto/base/entropy.h"
#include "proto/wire/http_test_web.h"

/* --- the handler --------------------------------------------------------------------------------- */

/* What happened to exchanges, over all of a test. */
static struct {
    unsigned begun, ended, closed, bodies;
    size_t body_length;
    char body[256]; /* its beginning */
    struct http_exchange *held;
} seen;

static void on_end(struct http_exchange *x)
{
    seen.ended++;
    if (seen.held == x)
        seen.held = NULL;
}

static void on_close(struct http_exchange *x)
{
    seen.closed++;
    if (seen.held == x)
        seen.held = NULL;
}

static void on_body(struct http_exchange *x, const char *body, size_t length)
{
    char text[64];

    seen.bodies++;
    seen.body_length = length;
    (void)snprintf(seen.body, sizeof(seen.body), "%s", body); /* it is terminated */
    int size = snprintf(text, sizeof(text), "got %zu", length);
    http_reply(x, 200, "text/plain", text, (size_t)size);
}

static void answer_error(struct http_exchange *x, int code, const char *text)
{
    struct err e;

    err_set(&e, code, "%s", text);
    http_reply_error(x, &e);
}

static void on_request(void *ctx, struct http_exchange *x)
{
    const char *path = http_path(x);

    seen.begun++;
    http_on_end(x, on_end);
    http_on_close(x, on_close);
    if (strcmp(path, "/hello") == 0) {
        http_set_header(x, "Api-Version", "1.45");
        http_reply(x, 200, "text/plain; charset=utf-8", "hello", 5);
    } else if (strcmp(path, "/echo-name") == 0) {
        const char *name = http_query(x, "name");
        http_reply(x, 200, NULL, name, strlen(name));
    } else if (strcmp(path, "/collect") == 0) {
        http_collect(x, on_body);
    } else if (strcmp(path, "/hold") == 0) {
        seen.held = x;
    } else if (strcmp(path, "/none") == 0) {
        http_reply_empty(x, 204);
    } else if (strcmp(path, "/created") == 0) {
        http_reply_empty(x, 201);
    } else if (strcmp(path, "/same") == 0) {
        answer_error(x, ERR_NOT_MODIFIED, "already so");
    } else if (strcmp(path, "/three") == 0) {
        http_stream(x, 200, "application/json", NULL);
        http_write(x, "one", 3);
        http_write(x, "", 0);
        http_write(x, "twotwotwotwotwotwo", 18);
        http_stream_end(x);
    } else {
        answer_error(x, ERR_NOT_FOUND, "page not found");
    }
}

static int reset(void **state)
{
    memset(&seen, 0, sizeof(seen));
    return 0;
}

static int balanced(void **state)
{
    return seen.begun == seen.ended ? 0 : -1;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

/* One exchange of texts on a new connection that the server closes. */
static void ask(struct web *w, struct client *c, const char *request)
{
    client_open(w, c);
    client_send(w, c, request);
    web_until(w, client_ended(c));
}

/* --- tests --------------------------------------------------------------------------------------- */

static void answer_has_head_headers_and_body(void **state)
{
    struct web w;
    struct client c;

    web_open(&w, NULL, on_request);
    client_open(&w, &c);
    client_send(&w, &c, GET("/hello"));
    client_expect(&w, &c, "\r\n\r\nhello");
    const char *text = buf_str(&c.got);
    assert_ptr_equal(strstr(text, "HTTP/1.1 200 OK\r\n"), text);
    assert_non_null(strstr(text, "\r\nServer: Test/1 (linux)\r\n"));
    assert_non_null(strstr(text, "\r\nApi-Version: 1.45\r\n"));
    assert_non_null(strstr(text, "\r\nDate: "));
    assert_non_null(strstr(text, "\r\nContent-Type: text/plain; charset=utf-8\r\n"));
    assert_non_null(strstr(text, "\r\nContent-Length: 5\r\n"));
    assert_null(strstr(text, "Connection:"));
    client_forget(&c);
    client_send(&w, &c, "\r\n" GET("/nowhere")); /* an empty line in between is borne */
    client_expect(&w, &c, "{\"message\":\"page not found\"}\n");
    assert_true(client_has(&c, "HTTP/1.1 404 Not Found\r\n"));
    client_close(&c);
    web_close(&w);
}

static void bodyless_answers_have_no_body(void **state)
{
    static const struct {
        const char *request, *status, *length; /* length NULL: none announced */
    } cases[] = {
        {"HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", "Content-Length: 5\r\n"},
        {"HEAD /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", "404 Not Found", "Content-Length: 29\r\n"},
        {"HEAD /three HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", NULL},
        {GET("/none"), "204 No Content", NULL},
        {GET("/same"), "304 Not Modified", NULL},
        {GET("/created"), "201 Created", "Content-Length: 0\r\n"},
    };
    struct web w;
    struct client c;

    web_open(&w, NULL, on_request);
    client_open(&w, &c);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        client_forget(&c);
        client_send(&w, &c, cases[i].request);
        client_expect(&w, &c, "\r\n\r\n");
        client_send(&w, &c, GET("/echo-name?name=next"));
        client_expect(&w, &c, "\r\n\r\nnext");
        assert_true(client_has(&c, cases[i].status));
        if (cases[i].length)
            assert_true(client_has(&c, cases[i].length));
        /* The next answer begins right behind the empty line. */
        assert_non_null(strstr(buf_str(&c.got), "\r\n\r\nHTTP/1.1 200 OK"));
        assert_int_equal(client_count(&c, "Content-Length"), cases[i].length ? 2 : 1);
    }
    client_close(&c);
    web_close(&w);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct web w;
    struct client c;

    web_open(&w, NULL, on_request);
    client_open(&w, &c);
    client_send(&w, &c, GET("/echo-name?name=first") GET("/hold") GET("/echo-name?name=third") GET("/three"));
    client_expect(&w, &c, "first");
    web_until(&w, seen.held != NULL);
    web_rest(&w, 20);
    assert_false(client_has(&c, "third"));
    assert_int_equal(seen.begun, 2);
    http_reply(seen.held, 200, NULL, "second", 6);
    client_expect(&w, &c, "0\r\n\r\n");
    const char *text = buf_str(&c.got);
    assert_true(strstr(text, "second") < strstr(text, "third"));
    assert_non_null(strstr(text, "\r\n\r\n3\r\none\r\n12\r\ntwotwotwotwotwotwo\r\n0\r\n\r\n"));
    client_close(&c);
    web_close(&w);
    assert_int_equal(seen.closed, 0);
}

static const char script[] =
    GET("/hello") "POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345" GET("/three")
        GET("/echo-name?name=a%20b") "POST /collect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                                     "3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"
                                     "POST /collect HTTP/1.1\r\nHost: x\r\n\r\n"
                                     "HEAD /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/* Blank the clock out, so that answers can be compared. */
static void blank_dates(struct buf *b)
{
    char *at = b->length ? (char *)buf_str(b) : NULL;

    while (at && (at = strstr(at, "Date: ")))
        for (at += 6; *at != '\r'; at++)
            *at = '-';
}

static void requests_cut_at_any_byte_give_the_same_answers(void **state)
{
    struct web w;
    struct client whole;

    web_open(&w, NULL, on_request);
    ask(&w, &whole, script);
    blank_dates(&whole.got);
    assert_int_equal(client_count(&whole, "HTTP/1.1 200 OK"), 7);
    assert_non_null(strstr(buf_str(&whole.got), "got 13"));
    for (size_t cut = 1; cut < sizeof(script) - 1; cut++) {
        struct client c;

        client_open(&w, &c);
        client_send_n(&w, &c, script, cut);
        uv_run(&w.loop, UV_RUN_NOWAIT);
        uv_run(&w.loop, UV_RUN_NOWAIT);
        client_send_n(&w, &c, script + cut, sizeof(script) - 1 - cut);
        web_until(&w, client_ended(&c));
        blank_dates(&c.got);
        assert_string_equal(buf_str(&c.got), buf_str(&whole.got));
        client_close(&c);
    }
    client_close(&whole);
    web_close(&w);
}

/* Cut the script anywhere, then vanish in one of several ways: every exchange that began ends. */
static void client_that_vanishes_at_any_byte_leaves_nothing(void **state)
{
    struct web w;
    struct entropy_seeded e;

    entropy_seeded_init(&e, 7);
    print_message("# seed 7\n");
    web_open(&w, NULL, on_request);
    for (size_t cut = 0; cut < sizeof(script) - 1; cut++) {
        struct client c;

        client_open(&w, &c);
        client_send_n(&w, &c, script, cut);
        for (uint64_t turns = entropy_below(&e.base, 4); turns > 0; turns--)
            uv_run(&w.loop, UV_RUN_NOWAIT);
        if (entropy_below(&e.base, 2))
            shutdown(c.fd, entropy_below(&e.base, 2) ? SHUT_WR : SHUT_RDWR);
        client_close(&c);
    }
    web_until(&w, seen.begun == seen.ended);
    web_close(&w);
    assert_int_equal(seen.begun, seen.ended);
}

static void collected_body_arrives_whole(void **state)
{
    struct web w;
    struct client c;
    AUTO_FREE
    char *big = mem_alloc(300001);

    web_open(&w, NULL, on_request);
    client_open(&w, &c);
    client_send(&w, &c, "POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n{\"Image\":1}");
    client_expect(&w, &c, "got 11");
    assert_string_equal(seen.body, "{\"Image\":1}");
    client_send(&w, &c, "POST /collect HTTP/1.1\r\nHost: x\r\n\r\n");
    client_expect(&w, &c, "got 0");
    memset(big, 'b', 300000);
    client_send(&w, &c, "POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n");
    client_send_n(&w, &c, big, 300000);
    client_expect(&w, &c, "got 300000");
    client_close(&c);
    web_close(&w);
}

static void too_large_body_is_refused_with_413(void **state)
{
    static const char *const requests[] = {
        /* declared, declared and waiting for leave, and found out on the way */
        "POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n",
        "POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\nExpect: 100-continue\r\n\r\n",
        "POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000000000000000\r\n\r\nxyz",
        "POST /collect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "32\r\n01234567890123456789012345678901234567890123456789\r\n"
        "33\r\n012345678901234567890123456789012345678901234567890\r\n",
    };
    struct http_limits limits = {.body_bytes = 100};
    struct web w;

    web_open(&w, &limits, on_request);
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        struct client c;

        client_open(&w, &c);
        client_send(&w, &c, requests[i]);
        client_expect(&w, &c, "{\"message\":\"request body is larger than 100 bytes\"}");
        assert_true(client_has(&c, "HTTP/1.1 413 "));
        assert_true(client_has(&c, "Connection: close\r\n"));
        assert_int_equal(client_count(&c, "HTTP/1.1"), 1);
        web_until(&w, client_ended(&c));
        assert_int_equal(seen.closed, i + 1);
        client_close(&c);
    }
    assert_int_equal(seen.bodies, 0);
    web_close(&w);
}

static void body_of_exactly_the_limit_is_taken(void **state)
{
    struct http_limits limits = {.body_bytes = 5};
    struct web w;
    struct client c;

    web_open(&w, &limits, on_request);
    client_open(&w, &c);
    client_send(&w, &c,
                "POST /collect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n");
    client_expect(&w, &c, "got 5");
    client_close(&c);
    web_close(&w);
}

static void leave_to_send_the_body_is_given_when_it_is_wanted(void **state)
{
    struct web w;
    struct client c;

    web_open(&w, NULL, on_request);
    client_open(&w, &c);
    client_send(&w, &c, "POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    client_expect(&w, &c, "HTTP/1.1 100 Continue\r\n\r\n");
    client_send(&w, &c, "abc");
    client_expect(&w, &c, "got 3");
    client_forget(&c);
    /* Not when the body is there already, nor when nobody wants it: then the connection cannot go on. */
    client_send(&w, &c,
                "POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc");
    client_expect(&w, &c, "got 3");
    client_send(&w, &c, "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    client_expect(&w, &c, "Connection: close\r\n");
    web_until(&w, client_ended(&c));
    assert_false(client_has(&c, "100 Continue"));
    client_close(&c);
    web_close(&w);
}

static void unread_body_is_skipped_when_it_is_here_and_ends_the_connection_else(void **state)
{
    struct web w;
    struct client c;
    AUTO_FREE
    char *big = mem_alloc(1000000);

    web_open(&w, NULL, on_request);
    client_open(&w, &c);
    client_send(
        &w, &c,
        "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
    client_expect(&w, &c, "page not found");
    client_send(&w, &c, GET("/echo-name?name=next"));
    client_expect(&w, &c, "next");
    assert_false(client_has(&c, "hello")); /* the body was no request */
    client_send(&w, &c, "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    client_forget(&c);
    client_send_n(&w, &c, big, 1000000); /* is taken, or we would see a broken pipe */
    client_expect(&w, &c, "page not found");
    assert_true(client_has(&c, "Connection: close\r\n"));
    web_until(&w, client_ended(&c));
    client_close(&c);
    web_close(&w);
}

static void http_1_0_client_is_served_its_way(void **state)
{
    struct web w;
    struct client c;

    web_open(&w, NULL, on_request);
    ask(&w, &c, "GET /hello HTTP/1.0\r\n\r\n");
    assert_true(client_has(&c, "Connection: close\r\n"));
    assert_true(client_has(&c, "\r\n\r\nhello"));
    client_close(&c);
    ask(&w, &c, "GET /three HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_true(client_has(&c, "\r\n\r\nonetwotwotwotwotwotwo"));
    assert_false(client_has(&c, "chunked"));
    client_close(&c);
    client_open(&w, &c);
    client_send(&w, &c, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    client_expect(&w, &c, "Connection: keep-alive\r\n");
    client_send(&w, &c, "GET /echo-name?name=again HTTP/1.0\r\n\r\n");
    client_expect(&w, &c, "again");
    client_close(&c);
    web_close(&w);
}

static void broken_request_is_refused_and_the_connection_closed(void **state)
{
    static const struct {
        const char *request, *status;
        unsigned reaches_handler;
    } cases[] = {
        {"NONSENSE\r\n\r\n", "400 Bad Request", 0},
        {"GET / HTTP/1.1\n\n", "400 Bad Request", 0},
        {"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", "400 Bad Request", 0},
        {"GET / HTTP/3.0\r\nHost: x\r\n\r\n", "HTTP/1.1 ", 0},
        {"POST /collect HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
         "400 Bad Request", 0},
        {"POST /collect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400 Bad Request", 1},
        {"POST /collect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", "400 Bad Request",
         1},
        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 tls, by mistake\r\n\r\n", "400 Bad Request", 0},
    };
    struct web w;

    web_open(&w, NULL, on_request);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct client c;
        unsigned begun = seen.begun;
        AUTO_FREE
        char *more = mem_printf("%s%s", cases[i].request, GET("/hello"));

        ask(&w, &c, more);
        assert_true(client_has(&c, cases[i].status));
        assert_true(client_has(&c, "Content-Type: application/json\r\n"));
        assert_true(client_has(&c, "Connection: close\r\n"));
        assert_true(client_has(&c, "{\"message\":\""));
        assert_int_equal(client_count(&c, "HTTP/1.1"), 1);
        assert_int_equal(seen.begun - begun, cases[i].reaches_handler);
        client_close(&c);
    }
    assert_int_equal(seen.bodies, 0);
    web_close(&w);
}

static void error_codes_become_statuses(void **state)
{
    static const struct {
        int code, status;
    } cases[] = {{ERR_INVALID, 400},     {ERR_NOT_FOUND, 404}, {ERR_EXISTS, 409},       {ERR_CONFLICT, 409},
                 {ERR_DENIED, 403},      {ERR_LIMIT, 413},     {ERR_UNAUTHORIZED, 401}, {ERR_UNAVAILABLE, 503},
                 {ERR_UNSUPPORTED, 501}, {ERR_SEQUENCE, 500},  {ERR_PRECONDITION, 400}, {ERR_CORRUPT, 500},
                 {ERR_IO, 500},          {ERR_TIMEOUT, 503},   {ERR_CANCELED, 503},     {ERR_CLOSED, 503},
                 {ERR_INTERNAL, 500},    {ERR_AGAIN, 500},     {ERR_NOT_MODIFIED, 304}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(http_status_of(cases[i].code), cases[i].status);
}

static void query_booleans_follow_dockers_rule(void **state)
{
    static const struct {
        const char *query;
        bool value;
    } cases[] = {{"", false},         {"?all", false},       {"?all=", false},     {"?all=0", false},
                 {"?all=no", false},  {"?all=FALSE", false}, {"?all=none", false}, {"?all=1", true},
                 {"?all=True", true}, {"?all=yes", true},    {"?all=00", true},    {"?b=1", false}};
    struct web w;
    struct client c;

    web_open(&w, NULL, on_request);
    client_open(&w, &c);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_FREE
        char *request = mem_printf("GET /hold%s HTTP/1.1\r\nHost: x\r\n\r\n", cases[i].query);

        client_send(&w, &c, request);
        web_until(&w, seen.held != NULL);
        assert_int_equal(http_query_bool(seen.held, "all"), cases[i].value);
        http_reply_empty(seen.held, 200);
        web_until(&w, seen.held == NULL);
    }
    client_close(&c);
    web_close(&w);
}

/* --- listening ----------------------------------------------------------------------------------- */

static void tcp_serves_both_families(void **state)
{
    static const char *const urls[] = {"tcp://127.0.0.1:0", "tcp://[::1]:0"};

    for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        struct client c = {0};
        struct err e = {0};
        struct web w;

        web_open(&w, NULL, on_request);
        if (http_server_listen(w.server, urls[i], 0, (gid_t)-1, &e) < 0) {
            print_message("# skipped %s: %s\n", urls[i], e.text); /* a machine without IPv6 */
            web_close(&w);
            continue;
        }
        v4.sin_port = v6.sin6_port = htons((uint16_t)http_server_port(w.server));
        c.fd = socket(i ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(c.fd, i ? (void *)&v6 : (void *)&v4, i ? sizeof(v6) : sizeof(v4)), 0);
        assert_int_equal(fcntl(c.fd, F_SETFL, O_NONBLOCK), 0);
        client_send(&w, &c, GET("/hello"));
        client_expect(&w, &c, "hello");
        client_close(&c);
        web_close(&w);
    }
}

static void bad_addresses_are_refused(void **state)
{
    static const char *const urls[] = {
        "",
        "http://x",
        "unix://",
        "unix://relative",
        "unix:/tmp/x",
        "tcp://",
        "tcp://1.1.1.1",
        "tcp://localhost:80",
        "tcp://1.1.1.1:",
        "tcp://1.1.1.1:x",
        "tcp://1.1.1.1:65536",
        "tcp://1.1.1.1:80x",
        "tcp://::1:80",
        "tcp://[::1:80",
        "tcp://[]:80",
        "tcp://:80",
        "tcp://1.1.1.1: 80",
        "unix:///tmp/"
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123"
        "0123456789",
    };
    struct web w;

    web_open(&w, NULL, on_request);
    for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
        struct err e = {0};

        if (http_server_listen(w.server, urls[i], 0600, (gid_t)-1, &e) != ERR_INVALID)
            fail_msg("%s: code %d, %s", urls[i], e.code, e.text);
        assert_int_equal(e.code, ERR_INVALID);
    }
    web_close(&w);
}

static void socket_file_is_replaced_only_when_nobody_answers(void **state)
{
    struct http_handler handler = {.on_request = on_request};
    struct http_server *other;
    struct web w;
    struct stat st;
    struct err e = {0};
    bool closed = false;

    web_open(&w, NULL, on_request);
    assert_int_equal(http_server_open(&w.loop, NULL, &handler, &other, &e), 0);
    assert_int_equal(http_server_listen(other, w.url, 0660, (gid_t)-1, &e), ERR_EXISTS);
    assert_non_null(strstr(e.text, "another process is listening"));

    /* A file that is no socket stays. */
    AUTO_FREE
    char *file = mem_printf("%s/file", w.dir), *file_url = mem_printf("unix://%s", file);
    int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(http_server_listen(other, file_url, 0660, (gid_t)-1, &e), ERR_EXISTS);
    assert_int_equal(unlink(file), 0);

    /* What a killed server left is replaced, with the mode asked for. */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", file);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    if (http_server_listen(other, file_url, 0640, getegid(), &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(stat(file, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0640);

    /* A file that is not ours any more is not removed. */
    assert_int_equal(rename(file, w.path), 0);
    fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    http_server_close(other, web_on_closed, &w);
    web_until(&w, w.server_closed);
    w.server_closed = closed;
    assert_int_equal(access(file, F_OK), 0);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(unlink(w.path), 0); /* the other's, moved over ours: not ours either */
    web_close(&w);
}

static void handed_over_descriptor_is_served(void **state)
{
    struct http_handler handler = {.on_request = on_request};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct http_server *other;
    struct client c;
    struct web w;
    struct err e = {0};

    web_open(&w, NULL, on_request);
    web_close_server(&w);
    w.server_closed = false;
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", w.path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(http_server_open(&w.loop, NULL, &handler, &other, &e), 0);
    assert_int_equal(http_server_listen_fd(other, fd, &e), 0);
    assert_int_equal(http_server_listen_fd(other, open("/dev/null", O_RDONLY | O_CLOEXEC), &e), ERR_IO);
    client_open(&w, &c);
    client_send(&w, &c, GET("/hello"));
    client_expect(&w, &c, "hello");
    client_close(&c);
    http_server_close(other, web_on_closed, &w);
    web_until(&w, w.server_closed);
    assert_int_equal(unlink(w.path), 0); /* whoever made it removes it */
    web_close(&w);
}

/* --- the stock clients --------------------------------------------------------------------------- */

/* Run a program beside the loop, its output into `out`. Returns its exit status, 127 when it is not installed. */
static int run_beside(struct web *w, const char *const argv[], struct buf *out)
{
    int pipe_fds[2], status;

    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(pipe_fds[1], 1);
        dup2(pipe_fds[1], 2);
        signal(SIGPIPE, SIG_DFL);
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(pipe_fds[1]);
    assert_int_equal(fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK), 0);
    web_until(w, waitpid(pid, &status, WNOHANG) == pid);
    for (ssize_t got = 1; got > 0;) {
        got = read(pipe_fds[0], buf_reserve(out, 4096), 4096);
        buf_added(out, got > 0 ? (size_t)got : 0);
    }
    close(pipe_fds[0]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void curl_sends_large_bodies_and_reuses_the_connection(void **state)
{
    struct web w;
    AUTO_BUF struct buf out = {0};
    AUTO_FREE
    char *file = NULL;
    static char zeroes[3000000];

    web_open(&w, NULL, on_request);
    file = mem_printf("%s/body", w.dir);
    AUTO_FREE
    char *data = mem_printf("@%s", file);
    int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, zeroes, sizeof(zeroes)), sizeof(zeroes));
    close(fd);
    const char *argv[] = {"curl",
                          "-sv",
                          "--unix-socket",
                          w.path,
                          "--data-binary",
                          data,
                          "http://d/collect",
                          "http://d/collect",
                          "-H",
                          "Expect: 100-continue",
                          "--max-time",
                          "15",
                          NULL};
    int status = run_beside(&w, argv, &out);
    assert_int_equal(unlink(file), 0);
    if (status == 127) {
        web_close(&w);
        print_message("# skipped: curl is not installed\n");
        skip();
    }
    assert_int_equal(status, 0);
    const char *text = buf_str(&out);
    assert_non_null(strstr(text, "HTTP/1.1 100 Continue"));
    assert_non_null(strstr(text, "got 3000000"));
    assert_non_null(strstr(text, "Re-using existing connection"));
    web_close(&w);
    assert_int_equal(seen.bodies, 2);
}

static const char version_json[] =
    "{\"Platform\":{\"Name\":\"shoal\"},\"Components\":[{\"Name\":\"Engine\",\"Version\":\"0.1.0\",\"Details\":"
    "{\"ApiVersion\":\"1.45\",\"MinAPIVersion\":\"1.24\",\"Arch\":\"amd64\",\"Os\":\"linux\",\"GoVersion\":"
    "\"none\","
    "\"BuildTime\":\"\",\"GitCommit\":\"x\",\"KernelVersion\":\"6\",\"Experimental\":\"false\"}}],"
    "\"Version\":\"0.1.0\",\"ApiVersion\":\"1.45\",\"MinAPIVersion\":\"1.24\",\"Os\":\"linux\",\"Arch\":\"amd64\"}";

/* What is typed comes back as the container's output, framed as without a terminal; its end ends the stream. */
static bool on_typed(struct http_exchange *x, const char *data, size_t size)
{
    const char head[8] = {1, 0, 0, 0, (char)(size >> 24), (char)(size >> 16), (char)(size >> 8), (char)size};

    if (!data) {
        http_hijack_end(x);
        return true;
    }
    http_write(x, head, sizeof(head));
    http_write(x, data, size);
    return true;
}

static void on_exec_start(struct http_exchange *x, const char *body, size_t length)
{
    (void)body; /* {"Detach":false,"Tty":false} */
    (void)length;
    http_hijack(x, "application/vnd.docker.multiplexed-stream", on_typed, NULL);
}

static void answer_json(struct http_exchange *x, int status, const char *text)
{
    http_reply(x, status, "application/json", text, strlen(text));
}

static void on_docker_request(void *ctx, struct http_exchange *x)
{
    http_set_header(x, "Api-Version", "1.45");
    http_set_header(x, "Ostype", "linux");
    if (strcmp(http_path(x), "/_ping") == 0)
        http_reply(x, 200, "text/plain; charset=utf-8", "OK", 2);
    else if (strcmp(http_path(x), "/v1.45/version") == 0)
        http_reply(x, 200, "application/json", version_json, sizeof(version_json) - 1);
    else if (strcmp(http_path(x), "/v1.45/containers/c1/json") == 0)
        answer_json(x, 200, "{\"Id\":\"c1\",\"Name\":\"/c1\",\"State\":{\"Running\":true},\"Config\":{}}");
    else if (strcmp(http_path(x), "/v1.45/containers/c1/exec") == 0)
        answer_json(x, 201, "{\"Id\":\"e1\"}"); /* without having read the body */
    else if (strcmp(http_path(x), "/v1.45/exec/e1/start") == 0)
        http_collect(x, on_exec_start);
    else if (strcmp(http_path(x), "/v1.45/exec/e1/json") == 0)
        answer_json(x, 200, "{\"ID\":\"e1\",\"Running\":false,\"ExitCode\":7}");
    else
        answer_error(x, ERR_NOT_FOUND, "page not found, says the test");
}

static void docker_client_negotiates_and_reads_the_version(void **state)
{
    struct web w;
    AUTO_BUF struct buf out = {0};

    web_open(&w, NULL, on_docker_request);
    const char *argv[] = {"docker", "-H", w.url, "version", NULL};
    int status = run_beside(&w, argv, &out);
    if (status == 127) {
        web_close(&w);
        print_message("# skipped: the docker client is not installed\n");
        skip();
    }
    assert_non_null(strstr(buf_str(&out), "Version:          0.1.0"));
    assert_int_equal(status, 0);
    const char *again[] = {"docker", "-H", w.url, "ps", NULL};
    buf_clear(&out);
    assert_int_equal(run_beside(&w, again, &out), 1);
    assert_non_null(strstr(buf_str(&out), "page not found, says the test"));
    web_close(&w);
}

static void docker_client_types_into_a_hijacked_connection(void **state)
{
    struct web w;
    AUTO_BUF struct buf out = {0};

    web_open(&w, NULL, on_docker_request);
    AUTO_FREE
    char *command = mem_printf("command -v docker >/dev/null || exit 127; "
                               "seq 20000 | docker -H %s exec -i c1 cat | tail -n 1; exit ${PIPESTATUS[1]}",
                               w.url);
    const char *argv[] = {"bash", "-c", command, NULL};
    int status = run_beside(&w, argv, &out);
    web_close(&w);
    if (status == 127) {
        print_message("# skipped: the docker client is not installed\n");
        skip();
    }
    assert_string_equal(buf_str(&out), "20000\n");
    assert_int_equal(status, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, reset, balanced)
        TEST(answer_has_head_headers_and_body),
        TEST(bodyless_answers_have_no_body),
        TEST(pipelined_requests_are_answered_in_order),
        TEST(requests_cut_at_any_byte_give_the_same_answers),
        TEST(client_that_vanishes_at_any_byte_leaves_nothing),
        TEST(collected_body_arrives_whole),
        TEST(too_large_body_is_refused_with_413),
        TEST(body_of_exactly_the_limit_is_taken),
        TEST(leave_to_send_the_body_is_given_when_it_is_wanted),
        TEST(unread_body_is_skipped_when_it_is_here_and_ends_the_connection_else),
        TEST(http_1_0_client_is_served_its_way),
        TEST(broken_request_is_refused_and_the_connection_closed),
        TEST(error_codes_become_statuses),
        TEST(query_booleans_follow_dockers_rule),
        TEST(tcp_serves_both_families),
        TEST(bad_addresses_are_refused),
        TEST(socket_file_is_replaced_only_when_nobody_answers),
        TEST(handed_over_descriptor_is_served),
        TEST(curl_sends_large_bodies_and_reuses_the_connection),
        TEST(docker_client_negotiates_and_reads_the_version),
        TEST(docker_client_types_into_a_hijacked_connection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
