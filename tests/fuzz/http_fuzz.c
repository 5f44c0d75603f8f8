/* The HTTP server without sockets: a peer that sends anything, closes at any time and takes answers as it likes.
 *
 * The input is what the client sends. A byte 0xff is no part of it but introduces an event, named by the next byte:
 * a write completes, the client closes its half or vanishes, a held request is answered, the loop turns. Handlers
 * do what the first letters of the path say. Beside what the sanitizers see, laws are checked: one write at a time
 * and none after the end, every exchange ends once and is told of a client's going at most once, everything is
 * freed.
 *
 * An input without events is served a second time byte by byte: both must see the same requests, as far as the
 * shorter run got (bytes that arrive late may end a connection sooner). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"
#include "proto/wire/http_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EVENT     0xff
#define HELD_MAX  8
#define POUR_SIZE 300000

struct peer {
    struct http_conn conn;
    bool reading, writing, shut, closing, closed_told, freed;
    struct buf early; /* sent while the server does not read */
    bool eof_due;
};

static struct {
    uv_loop_t loop;
    struct http_server *server;
    struct peer *peer;
    struct buf seen; /* "METHOD path\n" of every request */
    unsigned begun, ended;
    struct http_exchange *held[HELD_MAX];
    size_t poured;
    bool server_closed;
    char sum; /* of what was written */
} run;

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* --- the link ------------------------------------------------------------------------------------ */

static struct peer *peer_of(const struct http_conn *c)
{
    return container_of(c, struct peer, conn);
}

static void link_read(struct http_conn *c, bool on)
{
    must(!peer_of(c)->closing);
    peer_of(c)->reading = on;
}

static void link_write(struct http_conn *c, const char *data, size_t size)
{
    struct peer *p = peer_of(c);

    must(!p->writing && !p->shut && !p->closing && size > 0);
    p->writing = true;
    for (size_t i = 0; i < size; i += 64) /* it must be readable */
        run.sum ^= data[i];
}

static size_t link_unsent(const struct http_conn *c)
{
    return peer_of(c)->writing ? c->flight.length : 0;
}

static void link_shutdown(struct http_conn *c)
{
    struct peer *p = peer_of(c);

    must(!p->writing && !p->shut && !p->closing);
    p->shut = true;
}

static void link_watch_hangup(struct http_conn *c)
{
    must(!peer_of(c)->closing);
}

static void link_close(struct http_conn *c)
{
    must(!peer_of(c)->closing);
    peer_of(c)->closing = true;
}

static void link_free(struct http_conn *c)
{
    must(peer_of(c)->closed_told);
    peer_of(c)->freed = true;
}

static const struct http_link fuzz_link = {link_read,         link_write, link_unsent, link_shutdown,
                                           link_watch_hangup, link_close, link_free};

/* --- the handler --------------------------------------------------------------------------------- */

/* What a test remembers of an exchange, as the handler's data. */
struct note {
    bool closed;
    unsigned slot; /* in held, HELD_MAX when not */
};

static void forget(struct http_exchange *x)
{
    struct note *n = http_data(x);

    if (n->slot < HELD_MAX && run.held[n->slot] == x)
        run.held[n->slot] = NULL;
}

static void on_close(struct http_exchange *x)
{
    struct note *n = http_data(x);

    must(!n->closed);
    n->closed = true;
    forget(x);
}

static void on_end(struct http_exchange *x)
{
    forget(x);
    run.ended++;
}

static void hold(struct http_exchange *x)
{
    struct note *n = http_data(x);

    for (n->slot = 0; n->slot < HELD_MAX; n->slot++) {
        if (!run.held[n->slot]) {
            run.held[n->slot] = x;
            return;
        }
    }
    http_reply_empty(x, 503);
}

static void pour(struct http_exchange *x)
{
    static const char piece[5000] = "pour";

    while (run.poured < POUR_SIZE) {
        run.poured += sizeof(piece);
        if (!http_write(x, piece, sizeof(piece)))
            return;
    }
    http_stream_end(x);
}

static void on_body(struct http_exchange *x, const char *body, size_t length)
{
    must(strlen(body) <= length); /* terminated */
    http_reply(x, 200, "application/json", body, length);
}

static bool on_data(struct http_exchange *x, const char *data, size_t size)
{
    if (!data)
        http_reply_empty(x, 200);
    return size % 3 != 0;
}

static bool on_raw(struct http_exchange *x, const char *data, size_t size)
{
    if (size > 0 && data[0] == 'q')
        http_hijack_end(x);
    else if (data && !x->shut_wanted)
        (void)http_write(x, data, size);
    return size % 3 != 0;
}

static void on_raw_writable(struct http_exchange *x)
{
    if (!x->shut_wanted)
        (void)http_write(x, "", 0); /* nothing to say */
}

static void on_request(void *ctx, struct http_exchange *x)
{
    const char *path = http_path(x);
    struct err e;

    run.begun++;
    buf_printf(&run.seen, "%s %s\n", http_method(x), path);
    http_set_data(x, ARENA_NEW(http_arena(x), struct note));
    ((struct note *)http_data(x))->slot = HELD_MAX;
    http_on_end(x, on_end);
    if (path[1] != '\0' && path[2] != 'd') /* deaf */
        http_on_close(x, on_close);
    (void)http_query(x, "a");
    (void)http_header(x, "Host");
    switch (path[1]) {
    case 'c':
        http_collect(x, on_body);
        break;
    case 'u':
        http_body_stream(x, on_data);
        break;
    case 'h':
        http_hijack(x, "application/vnd.docker.raw-stream", on_raw, on_raw_writable);
        break;
    case 's':
        http_stream(x, 200, "application/json", pour);
        run.poured = 0;
        pour(x);
        break;
    case 'w':
        hold(x);
        break;
    case 'e':
        err_set(&e, ERR_CONFLICT, "query \"%s\"", http_query_string(x));
        http_reply_error(x, &e);
        break;
    default:
        http_set_header(x, "Api-Version", "1.45");
        http_reply(x, 200, "text/plain", "hello", 5);
    }
}

/* --- driving ------------------------------------------------------------------------------------- */

static void give(struct peer *p)
{
    if (!p->freed && p->reading && p->early.length > 0) {
        struct buf now = p->early;

        p->early = (struct buf){0};
        http_conn_on_data(&p->conn, buf_bytes(&now), now.length);
        buf_fini(&now);
    }
    if (!p->freed && p->reading && p->eof_due && p->early.length == 0) {
        p->eof_due = false;
        p->reading = false;
        http_conn_on_eof(&p->conn);
    }
}

static void complete_write(struct peer *p)
{
    if (!p->freed && p->writing) {
        p->writing = false;
        http_conn_on_wrote(&p->conn, true);
    }
}

static void turn(struct peer *p)
{
    uv_run(&run.loop, UV_RUN_NOWAIT);
    if (!p->freed && p->closing && !p->closed_told) {
        p->closed_told = true;
        http_conn_on_closed(&p->conn);
    }
    give(p);
}

static void resume(struct peer *p)
{
    if (!p->freed && p->conn.x && !p->conn.x->gone && p->conn.x->paused)
        http_body_resume(p->conn.x);
}

static void answer_held(uint8_t how)
{
    for (size_t i = 0; i < HELD_MAX; i++) {
        struct http_exchange *x = run.held[i];

        if (!x)
            continue;
        run.held[i] = NULL;
        if (how % 2) {
            http_reply(x, 200, NULL, "late", 4);
        } else {
            http_stream(x, 200, NULL, NULL);
            (void)http_write(x, "late", 4);
            http_stream_end(x);
        }
    }
}

static void event(struct peer *p, uint8_t what)
{
    switch (what % 8) {
    case 0:
        complete_write(p);
        break;
    case 1:
        p->eof_due = true;
        break;
    case 2:
        if (!p->freed && !p->closing)
            http_conn_on_broken(&p->conn);
        break;
    case 3:
    case 4:
        answer_held(what);
        break;
    case 5:
        resume(p);
        break;
    case 6:
        if (!p->freed && !p->conn.failed && p->conn.state == HTTP_HIJACKED && p->conn.x && !p->conn.x->complete &&
            !p->conn.x->gone)
            http_shutdown(p->conn.x);
        break;
    default:
        turn(p);
    }
}

static void on_server_closed(void *ctx)
{
    run.server_closed = true;
}

static void begin(struct peer *p)
{
    static const struct http_limits limits = {.head_bytes = 2000, .body_bytes = 1000, .write_bytes = 20000};
    struct http_handler handler = {.on_request = on_request, .server_header = "Fuzz"};

    memset(p, 0, sizeof(*p));
    run.begun = run.ended = 0;
    run.poured = 0;
    must(http_server_open(&run.loop, &limits, &handler, &run.server, NULL) == 0);
    http_conn_init(&p->conn, run.server, &fuzz_link);
    turn(p);
}

static void finish(struct peer *p)
{
    run.server_closed = false;
    http_server_close(run.server, on_server_closed, NULL);
    for (int i = 0; !run.server_closed; i++) {
        must(i < 1000);
        answer_held(1);
        turn(p);
        resume(p);
        /* A deaf hijack or upload waits for its handler for ever: end it. */
        if (!p->freed && p->conn.x && p->conn.x->gone && !p->conn.x->complete) {
            if (p->conn.x->answer == HTTP_ANSWER_HIJACK)
                http_hijack_end(p->conn.x);
            else if (!p->conn.x->begun)
                http_reply_empty(p->conn.x, 200);
        }
    }
    must(p->freed && run.begun == run.ended);
    buf_fini(&p->early);
}

/* Serve the input; `step` bytes at a time, 0: as it says itself. */
static void serve(const uint8_t *data, size_t size, size_t step)
{
    struct peer p;

    begin(&p);
    for (size_t at = 0; at < size;) {
        const uint8_t *mark = memchr(data + at, EVENT, size - at);
        size_t part = mark ? (size_t)(mark - data) - at : size - at;

        if (step)
            part = MIN(step, part);
        buf_append(&p.early, data + at, part);
        give(&p);
        at += part;
        if (step || !mark) {
            turn(&p);
            complete_write(&p);
            resume(&p);
        }
        if (!step && mark) {
            if (at + 1 < size)
                event(&p, data[at + 1]);
            at += 2;
        }
    }
    for (int i = 0; i < 20 && !p.freed; i++) { /* let it come to rest */
        turn(&p);
        complete_write(&p);
        resume(&p);
    }
    finish(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;

    if (!ready)
        must(uv_loop_init(&run.loop) == 0);
    ready = true;
    buf_clear(&run.seen);
    serve(data, size, 0);
    if (!memchr(data, EVENT, size) && size < 3000) {
        struct buf whole = run.seen;

        run.seen = (struct buf){0};
        serve(data, size, 1);
        size_t common = MIN(whole.length, run.seen.length);
        must(common == 0 || memcmp(buf_bytes(&whole), buf_bytes(&run.seen), common) == 0);
        buf_fini(&whole);
    }
    return 0;
}
