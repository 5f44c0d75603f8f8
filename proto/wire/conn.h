/* Inside of proto/wire: a TCP connection under TLS on a loop; plain bytes in, plain bytes out.
 *
 * Everything a call leads to is told by the events, later and from the loop, never from inside the call. After
 * on_broken the owner calls conn_close; nothing but on_closed comes after that. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/wire/tcp.h"
#include "proto/wire/tls.h"

struct conn;

struct conn_events {
    void (*on_handshake_due)(struct conn *c); /* accepted only: call conn_handshake when there is time */
    void (*on_ready)(struct conn *c);         /* the handshake is done */
    void (*on_data)(struct conn *c, const uint8_t *data, size_t size);
    void (*on_turn)(struct conn *c); /* all data of one read was told, or what was written has left */
    void (*on_broken)(struct conn *c, const struct err *e);
    void (*on_closed)(struct conn *c); /* the struct is the owner's again */
};

struct conn {
    const struct conn_events *events;
    uv_tcp_t tcp;
    union {
        uv_connect_t connect; /* while dialing */
        uv_write_t write;     /* after that, one at a time */
    } request;
    SSL *session;        /* owned */
    const uint8_t *view; /* sealed bytes that the session has not read yet */
    size_t view_size;
    struct buf early;  /* sealed bytes that came while the handshake waits its turn */
    struct buf out;    /* sealed bytes to be written after flight */
    struct buf flight; /* being written */
    bool accepted;     /* not dialed */
    bool started;      /* the socket is connected */
    bool ready;        /* the handshake is done */
    bool reading;      /* wanted by the owner */
    bool writing;      /* flight is */
    bool refused;      /* dialed: nobody listens there */
    bool broken;       /* on_broken was told */
    bool closing;      /* conn_close was called */
};

/* Dial a parsed address, or accept what waits at a listener. When it fails, conn_close it all the same. */
int conn_dial(struct conn *c, uv_loop_t *loop, struct tls *t, const struct sockaddr_storage *address,
              const struct conn_events *events, struct err *e);

int conn_accept(struct conn *c, uv_stream_t *listener, struct tls *t, const struct conn_events *events,
                struct err *e);

/* Go on with an accepted connection's handshake. */
void conn_handshake(struct conn *c);

/* Seal and queue; needs `ready`. conn_flush starts writing what is queued. */
void conn_write(struct conn *c, const void *data, size_t size);
void conn_flush(struct conn *c);
size_t conn_queued(const struct conn *c); /* sealed bytes not yet taken by the kernel */

void conn_read(struct conn *c, bool on);
void conn_close(struct conn *c); /* what is queued and fits into the socket still leaves */
