/* TLS over TCP, driven through a BIO of our own.
 *
 * The BIO reads from `view`, the bytes of the read that is under way, and writes into `out`; so nothing is kept
 * between reads but what OpenSSL itself needs of a cut record, and an idle connection owns no buffer at all
 * (SSL_MODE_RELEASE_BUFFERS frees the session's own). All reads of a thread go through one buffer, since libuv
 * hands over and takes back within one call.
 *
 *     read -> view -> SSL_do_handshake / SSL_read -> on_data
 *     conn_write -> SSL_write -> out -> flight -> write
 *
 * An accepted connection's handshake costs a signature and a verification, and thousands may come at once when
 * agents return after a failover; so its bytes are put aside and the owner says when it is their turn.
 *
 * Back-pressure: the owner looks at conn_queued before it writes and stops reading when answers cannot leave. */
#include <assert.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>

#include "proto/base/mem.h"
#include "proto/wire/conn.h"

#define RECORD_BYTES 16384 /* of plain text in a TLS record, at most */

static _Thread_local char read_bytes[65536]; /* of all connections of this thread */

static void broken(struct conn *c, const struct err *e)
{
    if (c->broken || c->closing)
        return;
    c->broken = true;
    c->events->on_broken(c, e);
}

/* --- the BIO ------------------------------------------------------------------------------------- */

static int bio_read(BIO *bio, char *into, int size)
{
    struct conn *c = BIO_get_data(bio);
    size_t part = MIN(c->view_size, (size_t)size);

    BIO_clear_retry_flags(bio);
    if (part == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(into, c->view, part);
    c->view += part;
    c->view_size -= part;
    return (int)part;
}

static int bio_write(BIO *bio, const char *data, int size)
{
    struct conn *c = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    buf_append(&c->out, data, (size_t)size);
    return size;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio; /* there is nothing to flush, duplicate or count */
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method;

static void make_bio_method(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection");
    if (!bio_method || BIO_meth_set_read(bio_method, bio_read) != 1 ||
        BIO_meth_set_write(bio_method, bio_write) != 1 || BIO_meth_set_ctrl(bio_method, bio_ctrl) != 1)
        abort(); /* out of memory */
}

static void attach_session(struct conn *c, struct tls *t)
{
    static uv_once_t once = UV_ONCE_INIT;

    uv_once(&once, make_bio_method);
    c->session = tls_session(t, c->accepted);
    BIO *bio = BIO_new(bio_method);
    if (!bio)
        abort(); /* out of memory */
    BIO_set_data(bio, c);
    BIO_set_init(bio, 1);
    SSL_set_bio(c->session, bio, bio);
}

/* --- reading ------------------------------------------------------------------------------------- */

/* A TLS call returned rc <= 0: nothing wrong when it only wants more bytes. */
static void judge(struct conn *c, int rc)
{
    struct err e;
    int code = SSL_get_error(c->session, rc);

    if (code == SSL_ERROR_WANT_READ)
        return;
    if (code == SSL_ERROR_ZERO_RETURN)
        err_set(&e, ERR_CLOSED, "peer closed the connection");
    else
        tls_error(c->session, &e);
    broken(c, &e);
}

static void read_plain(struct conn *c)
{
    uint8_t plain[RECORD_BYTES];

    while (!c->closing && !c->broken) {
        ERR_clear_error();
        int size = SSL_read(c->session, plain, sizeof(plain));

        if (size <= 0) {
            judge(c, size);
            break;
        }
        c->events->on_data(c, plain, (size_t)size);
    }
    if (!c->closing && !c->broken)
        c->events->on_turn(c);
}

/* Feed the session with what `view` holds. */
static void feed(struct conn *c)
{
    if (!c->ready) {
        ERR_clear_error();
        int rc = SSL_do_handshake(c->session);

        if (rc != 1) {
            judge(c, rc);
            conn_flush(c);
            return;
        }
        c->ready = true;
        c->events->on_ready(c);
        if (c->closing)
            return;
        conn_flush(c); /* the end of our handshake, should on_ready have written nothing */
    }
    read_plain(c);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    (void)handle;
    (void)suggested;
    *ret = uv_buf_init(read_bytes, sizeof(read_bytes));
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    struct err e;

    if (size == 0 || c->broken)
        return;
    if (size < 0) {
        err_set(&e, ERR_CLOSED, "%s", size == UV_EOF ? "peer closed the connection" : uv_strerror((int)size));
        broken(c, &e);
        return;
    }
    if (c->accepted && !c->ready) {
        buf_append(&c->early, buf->base, (size_t)size);
        (void)uv_read_stop(stream); /* a hasty peer sends data behind its handshake: not before its turn */
        c->events->on_handshake_due(c);
        return;
    }
    c->view = (const uint8_t *)buf->base;
    c->view_size = (size_t)size;
    feed(c);
    c->view_size = 0; /* left only when the connection is broken */
}

void conn_handshake(struct conn *c)
{
    struct buf early = c->early;

    if (c->closing || c->broken || early.length == 0)
        return;
    c->early = (struct buf){0};
    if (c->reading)
        (void)uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read); /* has been read from: cannot fail */
    c->view = (const uint8_t *)buf_bytes(&early);
    c->view_size = early.length;
    feed(c);
    c->view_size = 0;
    buf_fini(&early);
}

void conn_read(struct conn *c, bool on)
{
    if (c->closing || c->reading == on)
        return;
    c->reading = on;
    if (on && c->started && c->early.length == 0)
        (void)uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read); /* has been read from: cannot fail */
    else if (c->started)
        (void)uv_read_stop((uv_stream_t *)&c->tcp); /* always succeeds */
}

/* --- writing ------------------------------------------------------------------------------------- */

void conn_write(struct conn *c, const void *data, size_t size)
{
    assert(c->ready);
    if (c->closing || c->broken || size == 0)
        return;
    ERR_clear_error();
    /* Our BIO takes everything, so a write is whole or the session is broken; reading then says so. */
    if (SSL_write(c->session, data, (int)size) != (int)size)
        ERR_clear_error();
}

size_t conn_queued(const struct conn *c)
{
    return c->out.length + (c->writing ? uv_stream_get_write_queue_size((const uv_stream_t *)&c->tcp) : 0);
}

static void on_wrote(uv_write_t *request, int status)
{
    struct conn *c = container_of(request, struct conn, request.write);
    struct err e;

    c->writing = false;
    buf_fini(&c->flight);
    if (c->closing)
        return;
    if (status < 0) {
        err_set(&e, ERR_CLOSED, "%s", uv_strerror(status));
        broken(c, &e);
        return;
    }
    conn_flush(c);
    if (c->ready)
        c->events->on_turn(c);
}

void conn_flush(struct conn *c)
{
    if (c->writing || c->closing || c->out.length == 0)
        return;
    c->flight = c->out;
    c->out = (struct buf){0};
    uv_buf_t buf = uv_buf_init(buf_bytes(&c->flight), (unsigned)c->flight.length);
    c->writing = true;
    if (uv_write(&c->request.write, (uv_stream_t *)&c->tcp, &buf, 1, on_wrote) < 0)
        c->writing = false; /* the socket is broken: reading says how */
}

/* --- beginning and ending ------------------------------------------------------------------------ */

static int begin(struct conn *c)
{
    c->started = true;
    tcp_tune(&c->tcp);
    return c->reading ? uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) : 0;
}

static void on_connected(uv_connect_t *request, int status)
{
    struct conn *c = container_of(request, struct conn, request.connect);
    struct err e;

    if (c->closing)
        return;
    if (status == 0)
        status = begin(c);
    if (status < 0) {
        c->refused = status == UV_ECONNREFUSED;
        err_number(&e, -status, "connect");
        broken(c, &e);
        return;
    }
    feed(c); /* our side of the handshake comes first */
}

int conn_dial(struct conn *c, uv_loop_t *loop, struct tls *t, const struct sockaddr_storage *address,
              const struct conn_events *events, struct err *e)
{
    *c = (struct conn){.events = events, .reading = true};
    (void)uv_tcp_init(loop, &c->tcp); /* makes no socket yet: cannot fail */
    c->tcp.data = c;
    attach_session(c, t);
    int rc = uv_tcp_connect(&c->request.connect, &c->tcp, (const struct sockaddr *)address, on_connected);
    return rc < 0 ? err_number(e, -rc, "connect") : 0;
}

int conn_accept(struct conn *c, uv_stream_t *listener, struct tls *t, const struct conn_events *events,
                struct err *e)
{
    *c = (struct conn){.events = events, .reading = true, .accepted = true};
    (void)uv_tcp_init(listener->loop, &c->tcp);
    c->tcp.data = c;
    attach_session(c, t);
    int rc = uv_accept(listener, (uv_stream_t *)&c->tcp);
    if (rc == 0)
        rc = begin(c);
    return rc < 0 ? err_number(e, -rc, "accept") : 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;

    SSL_free(c->session);
    buf_fini(&c->early);
    buf_fini(&c->out);
    buf_fini(&c->flight);
    c->events->on_closed(c);
}

void conn_close(struct conn *c)
{
    assert(!c->closing);
    if (c->ready && !c->broken) {
        ERR_clear_error();
        (void)SSL_shutdown(c->session); /* queues the notice; nobody waits for the peer's */
    }
    if (c->started && c->out.length > 0) {
        uv_buf_t buf = uv_buf_init(buf_bytes(&c->out), (unsigned)c->out.length);

        (void)uv_try_write((uv_stream_t *)&c->tcp, &buf,
                           1); /* a courtesy; does nothing behind a write that waits */
    }
    c->closing = true;
    uv_close((uv_handle_t *)&c->tcp, on_closed);
}
