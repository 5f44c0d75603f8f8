/* See caller.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/ca/ca.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"
#include "proto/wire/methods.h"
#include "tests/support/caller.h"

#define FAIL(...)      cluster_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CERTIFICATE_MS 3600000

static void on_open(void *ctx, struct rpc_conn *conn, const struct rpc_identity *peer)
{
    ((struct caller *)ctx)->opened = true;
}

static void on_closed(void *ctx, struct rpc_conn *conn, const struct err *e)
{
    struct caller *k = ctx;

    k->conn = NULL;
    if (!k->done)
        k->e = *e;
}

int caller_open(struct caller *k, struct cluster *c, struct tls *tls)
{
    struct rpc_conn_events events = {.ctx = k, .on_open = on_open, .on_closed = on_closed};
    char address[64];
    struct rpc_dial dial = {.address = address, .tls = tls};
    struct err e;

    *k = (struct caller){0};
    (void)snprintf(address, sizeof(address), "%s", cluster_address(c)); /* fits */
    if (rpc_dial(&c->loop, &dial, &events, &k->conn, &e) < 0)
        FAIL("%s", e.text);
    cluster_until(c, k->opened || !k->conn);
    return k->conn ? 0 : k->e.code;
}

static void on_message(void *ctx, struct rpc_stream *stream, const void *message, size_t size)
{
    struct caller *k = ctx;

    if (!k->done)
        buf_append(&k->reply, message, size);
    k->done = true;
    rpc_end(stream, NULL);
}

static void on_end(void *ctx, struct rpc_stream *stream, const struct err *e)
{
    struct caller *k = ctx;

    if (!k->done)
        k->e = *e;
    k->done = k->ended = true;
}

int caller_call(struct caller *k, struct cluster *c, uint16_t method, const void *message, size_t size)
{
    struct rpc_stream_events events = {.ctx = k, .on_message = on_message, .on_end = on_end};
    struct rpc_stream *stream;
    struct err e;

    if (!k->conn)
        return k->e.code ? k->e.code : ERR_UNAVAILABLE;
    k->done = k->ended = false;
    k->e = (struct err){0};
    buf_clear(&k->reply);
    if (rpc_open(k->conn, method, METHOD_JOIN_BYTES_MAX, message, size, &events, &stream, &e) < 0)
        FAIL("%s", e.text);
    cluster_until(c, k->ended || !k->conn);
    return k->e.code;
}

static void hang_up(struct caller *k, struct cluster *c)
{
    if (k->conn)
        rpc_conn_close(k->conn);
    cluster_until(c, !k->conn);
}

void caller_close(struct caller *k, struct cluster *c)
{
    hang_up(k, c);
    buf_fini(&k->reply);
}

int caller_once(struct caller *k, struct cluster *c, struct tls *tls, uint16_t method, const void *message,
                size_t size)
{
    int rc = caller_open(k, c, tls);

    if (rc == 0)
        rc = caller_call(k, c, method, message, size);
    hang_up(k, c);
    return rc;
}

struct tls *caller_certificate(struct cluster *c, const char *node_id, enum rpc_role role, const char *cluster_id)
{
    struct rpc_identity identity = {.role = role};
    AUTO_FREE
    char *key_pem = NULL;
    AUTO_FREE
    char *certificate_pem = NULL;
    AUTO_BUF struct buf csr = {0};
    struct tls *tls;
    struct err e;

    memcpy(identity.node_id, node_id, sizeof(identity.node_id));
    memcpy(identity.cluster_id, cluster_id, sizeof(identity.cluster_id));
    if (cert_key_new(&key_pem, &e) < 0 || cert_request_new(key_pem, &csr, &e) < 0 ||
        ca_issue(c->founding.root_pem, c->founding.root_key_pem, buf_bytes(&csr), csr.length, &identity,
                 clock_wall_ms(clock_real()), CERTIFICATE_MS, &certificate_pem, &e) < 0 ||
        tls_new(certificate_pem, key_pem, c->founding.root_pem, &tls, &e) < 0)
        FAIL("%s", e.text);
    return tls;
}
