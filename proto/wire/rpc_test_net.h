/* For the tests of RPC: a server and its clients on one loop, with certificates of one cluster. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/base/entropy.h"
#include "proto/wire/rpc.h"
#include "proto/wire/rpc_test_certs.h"

#define NET_PATIENCE_MS 9000 /* less than a beat of idle connections, which would cover up a lost wake-up */

#define NET_CLUSTER "0cluster0cluster0cluster0"
#define NET_MANAGER "0manager0manager0manager0"
#define NET_WORKER  "0worker00worker00worker00"

struct net {
    uv_loop_t loop;
    uv_timer_t tick;
    struct test_ca ca;
    struct test_node manager_node, worker_node;
    struct tls *manager, *worker, *nobody; /* nobody: the root, no certificate */
    struct rpc_server *server;
    char address[64];
    unsigned server_closed;
};

/* One dialed connection and what happened to it. */
struct line {
    struct rpc_conn *conn; /* NULL once closed */
    unsigned opens, closes;
    struct rpc_identity peer;
    struct err why;
};

static inline void net_on_tick(uv_timer_t *t)
{
    (void)t; /* its coming is enough */
}

static inline struct tls *net_tls(const struct net *n, const struct test_node *node)
{
    struct tls *t = NULL;
    struct err e;

    if (tls_new(node ? node->cert_pem : NULL, node ? node->key_pem : NULL, n->ca.pem, &t, &e) < 0)
        fail_msg("%s", e.text);
    return t;
}

static inline void net_open(struct net *n, const struct rpc_method *methods, size_t method_count, void *ctx,
                            const struct rpc_limits *limits, const struct rpc_server_events *events)
{
    struct test_cert manager = {.cn = NET_MANAGER, .ou = "swarm-manager", .o = NET_CLUSTER};
    struct test_cert worker = {.cn = NET_WORKER, .ou = "swarm-worker", .o = NET_CLUSTER};
    struct err e;

    memset(n, 0, sizeof(*n));
    assert_int_equal(uv_loop_init(&n->loop), 0);
    assert_int_equal(uv_timer_init(&n->loop, &n->tick), 0);
    assert_int_equal(uv_timer_start(&n->tick, net_on_tick, 2, 2), 0);
    test_ca_init(&n->ca);
    test_issue(&n->ca, &manager, &n->manager_node);
    test_issue(&n->ca, &worker, &n->worker_node);
    n->manager = net_tls(n, &n->manager_node);
    n->worker = net_tls(n, &n->worker_node);
    n->nobody = net_tls(n, NULL);
    assert_int_equal(
        rpc_server_open(&n->loop, n->manager, methods, method_count, ctx, limits, events, &n->server, &e), 0);
    if (rpc_server_listen(n->server, "127.0.0.1:0", &e) < 0)
        fail_msg("%s", e.text);
    (void)snprintf(n->address, sizeof(n->address), "127.0.0.1:%d", rpc_server_port(n->server));
}

/* Turn the loop until the condition holds. */
#define net_until(n, condition)                                                    \
    do {                                                                           \
        uint64_t give_up_ = uv_now(&(n)->loop) + NET_PATIENCE_MS;                  \
        while (!(condition)) {                                                     \
            uv_run(&(n)->loop, UV_RUN_ONCE);                                       \
            if (uv_now(&(n)->loop) > give_up_)                                     \
                fail_msg("line %d: waited in vain for: %s", __LINE__, #condition); \
        }                                                                          \
    } while (0)

static inline void net_rest(struct net *n, unsigned ms)
{
    uint64_t end = uv_now(&n->loop) + ms;

    while (uv_now(&n->loop) < end)
        uv_run(&n->loop, UV_RUN_ONCE);
}

static inline void net_on_closed(void *ctx)
{
    ((struct net *)ctx)->server_closed++;
}

static inline void net_close_server(struct net *n)
{
    rpc_server_close(n->server, net_on_closed, n);
    assert_int_equal(n->server_closed, 0);
    net_until(n, n->server_closed == 1);
}

static inline void net_close(struct net *n)
{
    if (!n->server_closed)
        net_close_server(n);
    uv_close((uv_handle_t *)&n->tick, NULL);
    uv_run(&n->loop, UV_RUN_DEFAULT);
    assert_int_equal(n->server_closed, 1);
    assert_int_equal(uv_loop_close(&n->loop), 0);
    tls_unref(n->manager);
    tls_unref(n->worker);
    tls_unref(n->nobody);
    test_node_fini(&n->manager_node);
    test_node_fini(&n->worker_node);
    test_ca_fini(&n->ca);
}

static inline void line_on_open(void *ctx, struct rpc_conn *c, const struct rpc_identity *peer)
{
    struct line *l = ctx;

    assert_ptr_equal(l->conn, c);
    l->opens++;
    l->peer = *peer;
}

static inline void line_on_closed(void *ctx, struct rpc_conn *c, const struct err *e)
{
    struct line *l = ctx;

    assert_ptr_equal(l->conn, c);
    assert_true(e->code < 0);
    l->closes++;
    l->why = *e;
    l->conn = NULL;
}

/* Dial with more or less of a configuration; address and tls are filled in when missing. */
static inline void line_dial_as(struct net *n, struct line *l, struct rpc_dial dial)
{
    struct rpc_conn_events events = {.ctx = l, .on_open = line_on_open, .on_closed = line_on_closed};
    struct err e;

    memset(l, 0, sizeof(*l));
    dial.address = dial.address ? dial.address : n->address;
    dial.tls = dial.tls ? dial.tls : n->worker;
    if (rpc_dial(&n->loop, &dial, &events, &l->conn, &e) < 0)
        fail_msg("%s", e.text);
}

static inline void line_open(struct net *n, struct line *l)
{
    line_dial_as(n, l, (struct rpc_dial){0});
    net_until(n, l->opens || l->closes);
    if (!l->opens)
        fail_msg("%s", l->why.text);
}

static inline void line_close(struct net *n, struct line *l)
{
    if (l->conn)
        rpc_conn_close(l->conn);
    net_until(n, l->closes == 1);
}
