/* Who gets in: certificates good and bad, peers without one, peers that break the protocol, and peers that keep us
 * waiting. Everything here is what an attacker can reach before or after authentication. */
#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>

#include <openssl/err.h>

#include "proto/wire/conn.h"
#include "proto/wire/frame.h"
#include "proto/wire/rpc_test_net.h"

enum { FETCH_ROOT = 1, REPORT = 2 };

static struct {
    unsigned connects, opens, ends;
    int refuse; /* what on_connect returns */
    struct rpc_identity peer;
} served;

static int reset(void **state)
{
    memset(&served, 0, sizeof(served));
    return 0;
}

static int on_connect(void *ctx, struct rpc_conn *c, struct rpc_identity *peer, struct err *e)
{
    served.connects++;
    served.peer = *peer;
    return served.refuse ? err_set(e, served.refuse, "node %s was removed", peer->node_id) : 0;
}

static void on_end(void *ctx, struct rpc_stream *s, const struct err *e)
{
    served.ends++;
}

static void open_method(void *ctx, struct rpc_stream *s, const struct rpc_identity *peer, const void *message,
                        size_t size)
{
    served.opens++;
    served.peer = *peer;
    assert_int_equal(rpc_send(s, "root", 4), 0);
    rpc_stream_set(s, &(struct rpc_stream_events){.on_end = on_end});
    rpc_end(s, NULL);
}

static void open_report(void *ctx, struct rpc_stream *s, const struct rpc_identity *peer, const void *message,
                        size_t size)
{
    served.opens++;
    rpc_stream_set(s, &(struct rpc_stream_events){.on_end = on_end}); /* stays open, */
    rpc_pause(s, true);                                               /* and takes nothing */
}

static const struct rpc_method methods[] = {
    {FETCH_ROOT, "fetch root", RPC_ROLE_NONE | RPC_ROLE_WORKER, 1000, 0, open_method},
    {REPORT, "report", RPC_ROLE_WORKER, 100000, 0, open_report},
};
static const struct rpc_server_events server_events = {.on_connect = on_connect};

static void open_net(struct net *n, const struct rpc_limits *limits)
{
    net_open(n, methods, ARRAY_SIZE(methods), NULL, limits, &server_events);
}

static struct {
    unsigned done;
    struct err e;
} reply;

static void on_reply(void *ctx, const struct err *e, const void *data, size_t size)
{
    reply.done++;
    reply.e = *e;
}

static int call(struct net *n, struct rpc_conn *c, uint16_t method)
{
    struct err e;

    reply.done = 0;
    if (rpc_call(c, method, "x", 1, 1000, 10000, on_reply, NULL, &e) < 0)
        return e.code;
    net_until(n, reply.done == 1);
    return reply.e.code;
}

/* --- certificates -------------------------------------------------------------------------------- */

/* Dial with the certificate; whether we got in. */
static bool gets_in(struct net *n, struct tls *tls, struct line *l)
{
    line_dial_as(n, l, (struct rpc_dial){.tls = tls});
    net_until(n, l->opens || l->closes);
    bool in = l->opens == 1;
    line_close(n, l);
    return in;
}

static void certificates_are_judged(void **state)
{
    static const struct {
        const char *what;
        struct test_cert cert;
        bool foreign; /* of another root */
        bool in;
        const char *because; /* part of what the dialing side reads */
    } cases[] = {
#define GOOD .cn = NET_WORKER, .ou = "swarm-worker", .o = NET_CLUSTER
        {"a good one", {GOOD}, false, true, ""},
        {"a manager's", {.cn = NET_MANAGER, .ou = "swarm-manager", .o = NET_CLUSTER}, false, true, ""},
        {"of another root", {GOOD}, true, false, ""},
        {"expired", {GOOD, .begins_s = -7200, .ends_s = -5}, false, false, "expired"},
        {"beginning in half an hour", {GOOD, .begins_s = 1800, .ends_s = 90000}, false, true, ""},
        {"beginning in two hours", {GOOD, .begins_s = 7200, .ends_s = 90000}, false, false, "certificate"},
        {"for servers only", {GOOD, .server_only = true}, false, false, "certificate"},
        {"for clients only", {GOOD, .client_only = true}, false, true, ""},
        {"without an id", {.ou = "swarm-worker", .o = NET_CLUSTER}, false, false, ""},
        {"with a short id", {.cn = "abc", .ou = "swarm-worker", .o = NET_CLUSTER}, false, false, ""},
        {"with an upper-case id",
         {.cn = "0WORKER00worker00worker00", .ou = "swarm-worker", .o = NET_CLUSTER},
         false,
         false,
         ""},
        {"with an id and a zero behind it", {GOOD, .zero_in_cn = true}, false, false, ""},
        {"with an id that is too large a number",
         {.cn = "zzzzzzzzzzzzzzzzzzzzzzzzz", .ou = "swarm-worker", .o = NET_CLUSTER},
         false,
         false,
         ""},
        {"with two ids", {GOOD, .second_cn = NET_MANAGER}, false, false, ""},
        {"without a role", {.cn = NET_WORKER, .o = NET_CLUSTER}, false, false, ""},
        {"with a role we do not have", {.cn = NET_WORKER, .ou = "swarm-king", .o = NET_CLUSTER}, false, false, ""},
        {"with a role in upper case", {.cn = NET_WORKER, .ou = "SWARM-WORKER", .o = NET_CLUSTER}, false, false, ""},
        {"without a cluster", {.cn = NET_WORKER, .ou = "swarm-worker"}, false, false, ""},
        {"of another cluster",
         {.cn = NET_WORKER, .ou = "swarm-worker", .o = "0other00other00other00oth"},
         false,
         false,
         ""},
    };
    struct test_ca other;
    struct net n;

    test_ca_init(&other);
    open_net(&n, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct test_node node;
        struct tls *tls = NULL;
        struct line l;
        struct err e;
        unsigned connects = served.connects;

        test_issue(cases[i].foreign ? &other : &n.ca, &cases[i].cert, &node);
        /* What is no identity cannot even be loaded by our own side. */
        int rc = tls_new(node.cert_pem, node.key_pem, n.ca.pem, &tls, &e);
        bool in = rc == 0 && gets_in(&n, tls, &l);
        if (in != cases[i].in)
            fail_msg("a certificate %s: %s", cases[i].what, rc ? e.text : l.why.text);
        if (!in && rc == 0 && !strstr(l.why.text, cases[i].because))
            fail_msg("a certificate %s was refused with: %s", cases[i].what, l.why.text);
        assert_int_equal(served.connects - connects, cases[i].in);
        tls_unref(tls);
        test_node_fini(&node);
    }
    net_close(&n);
    test_ca_fini(&other);
}

/* The same certificates shown by a client that does not look at them first. */
static SSL *raw_session(const struct net *n, const struct test_node *node, const char *alpn, int version)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    BIO *bio;

    assert_non_null(context);
    if (node) {
        bio = BIO_new_mem_buf(node->cert_pem, -1);
        X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        BIO_free(bio);
        bio = BIO_new_mem_buf(node->key_pem, -1);
        EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
        BIO_free(bio);
        assert_int_equal(SSL_CTX_use_certificate(context, cert), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(context, key), 1);
        X509_free(cert);
        EVP_PKEY_free(key);
    }
    SSL_CTX_set_max_proto_version(context, version);
    if (alpn)
        SSL_CTX_set_alpn_protos(context, (const unsigned char *)alpn, (unsigned)strlen(alpn));
    SSL *session = SSL_new(context);
    SSL_CTX_free(context);
    return session;
}

static int raw_socket(const struct net *n)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)rpc_server_port(n->server))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_true(fd >= 0);
    assert_true(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EINPROGRESS);
    return fd;
}

/* Connect, read until the end; returns the bytes of plain text received, -1 when the handshake failed. */
static long raw_talk(struct net *n, SSL *session, char *into, size_t size)
{
    int fd = raw_socket(n), rc = -1;
    uint64_t end = uv_now(&n->loop) + NET_PATIENCE_MS;
    long got = 0;

    SSL_set_fd(session, fd);
    ERR_clear_error();
    while ((rc = SSL_connect(session)) != 1) {
        int code = SSL_get_error(session, rc);

        if (code != SSL_ERROR_WANT_READ && code != SSL_ERROR_WANT_WRITE && errno != ENOTCONN)
            break;
        ERR_clear_error();
        uv_run(&n->loop, UV_RUN_ONCE);
        assert_true(uv_now(&n->loop) < end);
    }
    while (rc == 1) {
        int part = SSL_read(session, into + got, (int)(size - (size_t)got));

        if (part > 0)
            got += part;
        else if (SSL_get_error(session, part) != SSL_ERROR_WANT_READ)
            break;
        uv_run(&n->loop, UV_RUN_ONCE);
        assert_true(uv_now(&n->loop) < end);
    }
    ERR_clear_error();
    close(fd);
    return rc == 1 ? got : -1;
}

#define ALPN "\x07shoal/1"

static void key_of_another_kind_is_not_even_shown(void **state)
{
    static const struct test_cert rsa = {.cn = NET_WORKER, .ou = "swarm-worker", .o = NET_CLUSTER, .is_rsa = true};
    struct rpc_limits limits = {.handshake_ms = 300};
    struct test_node node;
    struct net n;
    char got[4096];

    open_net(&n, &limits);
    test_issue(&n.ca, &rsa, &node);
    SSL *session = raw_session(&n, &node, ALPN, TLS1_3_VERSION);
    (void)raw_talk(&n, session, got, sizeof(got)); /* as a peer without a certificate */
    assert_int_equal(served.connects, 0);
    SSL_free(session);
    test_node_fini(&node);
    net_close(&n);
}

#define LEFT_OUT "-" /* of a spoiled certificate: NULL is what a good one has */

/* What makes a certificate of a worker or of a manager a bad one, although the cluster's own root signed it. */
static const struct spoiled {
    struct test_cert cert; /* over a good one */
    bool foreign;          /* of another root */
} spoiled[] = {
    {{.cn = LEFT_OUT}},
    {{.cn = "a"}},
    {{.cn = "0worker00worker00worker0"}},
    {{.cn = "0worker00worker00worker00w"}},
    {{.cn = "0WORKER00WORKER00WORKER00"}},
    {{.cn = "0worker00worker00worker0 "}},
    {{.cn = " worker00worker00worker00"}},
    {{.cn = "0worker-0worker-0worker-0"}},
    {{.cn = "zzzzzzzzzzzzzzzzzzzzzzzzz"}},
    {{.cn = "../../../../../etc/passwd"}},
    {{.cn = "0w\xc3\xb6rker00worker00worker0"}},
    {{.zero_in_cn = true}},
    {{.second_cn = "0other00other00other00oth"}},
    {{.second_cn = NET_WORKER}},
    {{.ou = LEFT_OUT}},
    {{.ou = "swarm-king"}},
    {{.ou = "SWARM-MANAGER"}},
    {{.ou = "swarm-manager "}},
    {{.ou = "swarm-managers"}},
    {{.ou = "swarm"}},
    {{.ou = "swarm-worker,swarm-manager"}},
    {{.o = LEFT_OUT}},
    {{.o = "0other00other00other00oth"}},
    {{.o = "0cluster0"}},
    {{.o = "0CLUSTER0CLUSTER0CLUSTER0"}},
    {{.o = "zzzzzzzzzzzzzzzzzzzzzzzzz"}},
    {{.begins_s = -7200, .ends_s = -5}},
    {{.begins_s = -31536000, .ends_s = -15768000}},
    {{.begins_s = 7200, .ends_s = 90000}},
    {{.begins_s = 31536000, .ends_s = 63072000}},
    {{.begins_s = 1000, .ends_s = -1000}},
    {{.server_only = true}},
    {.foreign = true},
};

static const char *field_or(const char *spoiled_field, const char *good)
{
    if (!spoiled_field)
        return good;
    return strcmp(spoiled_field, LEFT_OUT) == 0 ? NULL : spoiled_field;
}

static void server_judges_for_itself(void **state)
{
    static const char *const roles[][2] = {{NET_WORKER, "swarm-worker"}, {NET_MANAGER, "swarm-manager"}};
    static const struct test_cert good = {.cn = NET_WORKER, .ou = "swarm-worker", .o = NET_CLUSTER};
    struct rpc_limits limits = {.idle_ms = 1000, .handshake_ms = 3000};
    struct test_node node;
    struct test_ca other;
    struct net n;
    char got[4096];

    _Static_assert(2 * ARRAY_SIZE(spoiled) >= 60, "as many as the goal says");
    test_ca_init(&other);
    open_net(&n, &limits);
    for (size_t i = 0; i < 2 * ARRAY_SIZE(spoiled); i++) {
        const struct spoiled *bad = &spoiled[i / 2];
        struct test_cert cert = bad->cert;

        cert.cn = field_or(cert.cn, roles[i % 2][0]);
        cert.ou = field_or(cert.ou, roles[i % 2][1]);
        cert.o = field_or(cert.o, NET_CLUSTER);
        test_issue(bad->foreign ? &other : &n.ca, &cert, &node);
        SSL *session = raw_session(&n, &node, ALPN, TLS1_3_VERSION);
        long size = raw_talk(&n, session, got, sizeof(got));
        /* A CLOSE with the reason at most, never a hello. */
        if (size > 0 && got[8] != FRAME_CLOSE)
            fail_msg("case %zu of %s got a frame of type %d", i / 2, roles[i % 2][1], got[8]);
        if (served.connects)
            fail_msg("case %zu of %s got in", i / 2, roles[i % 2][1]);
        SSL_free(session);
        test_node_fini(&node);
    }
    test_issue(&n.ca, &good, &node); /* and so that the above means something */
    SSL *session = raw_session(&n, &node, ALPN, TLS1_3_VERSION);
    (void)raw_talk(&n, session, got, sizeof(got)); /* until it is told to go for its silence */
    assert_int_equal(served.connects, 1);
    SSL_free(session);
    test_node_fini(&node);
    net_close(&n);
    test_ca_fini(&other);
}

static void other_protocols_and_old_versions_are_refused(void **state)
{
    static const struct {
        const char *alpn;
        int version;
        bool greeted;
    } cases[] = {{ALPN, TLS1_3_VERSION, true},           {ALPN, TLS1_2_VERSION, false},
                 {NULL, TLS1_3_VERSION, false},          {"\x02h2", TLS1_3_VERSION, false},
                 {"\x07shoal/2", TLS1_3_VERSION, false}, {"\x02h2" ALPN, TLS1_3_VERSION, true}};
    struct rpc_limits limits = {.handshake_ms = 300};
    struct net n;
    char got[4096];

    open_net(&n, &limits);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        SSL *session = raw_session(&n, &n.worker_node, cases[i].alpn, cases[i].version);
        long size = raw_talk(&n, session, got, sizeof(got));

        if ((size > 0 && got[8] == FRAME_HELLO) != cases[i].greeted)
            fail_msg("case %zu: %ld bytes", i, size);
        SSL_free(session);
    }
    assert_int_equal(served.connects, 2);
    net_close(&n);
}

static void nothing_is_given_out_to_resume_with(void **state)
{
    struct rpc_limits limits = {.handshake_ms = 300};
    struct net n;
    char got[4096];

    open_net(&n, &limits);
    SSL *first = raw_session(&n, &n.worker_node, ALPN, TLS1_3_VERSION);
    assert_true(raw_talk(&n, first, got, sizeof(got)) > 0); /* until its limit: a ticket had its time */
    SSL_SESSION *old = SSL_get1_session(first);
    assert_int_equal(SSL_SESSION_is_resumable(old), 0);
    assert_int_equal(SSL_SESSION_has_ticket(old), 0);
    SSL *second = raw_session(&n, &n.worker_node, ALPN, TLS1_3_VERSION);
    (void)SSL_set_session(second, old);
    assert_true(raw_talk(&n, second, got, sizeof(got)) > 0);
    assert_int_equal(SSL_session_reused(second), 0);
    assert_int_equal(served.connects, 2); /* judged anew */
    SSL_SESSION_free(old);
    SSL_free(first);
    SSL_free(second);
    net_close(&n);
}

static void dialing_side_judges_the_server(void **state)
{
    static const struct test_cert server_only = {
        .cn = NET_MANAGER, .ou = "swarm-manager", .o = NET_CLUSTER, .client_only = true};
    struct net n;
    struct line l;
    struct test_ca other;
    struct test_node node;
    struct tls *tls = NULL;
    struct err e;

    open_net(&n, NULL);
    line_dial_as(&n, &l, (struct rpc_dial){.expect_roles = RPC_ROLE_WORKER});
    net_until(&n, l.closes);
    assert_int_equal(l.opens, 0);
    assert_non_null(strstr(l.why.text, "role"));
    line_dial_as(&n, &l, (struct rpc_dial){.expect_cluster = "0other00other00other00oth"});
    net_until(&n, l.closes);
    assert_int_equal(l.opens, 0);
    assert_non_null(strstr(l.why.text, NET_CLUSTER));
    line_dial_as(&n, &l, (struct rpc_dial){.expect_roles = RPC_ROLE_MANAGER, .expect_cluster = NET_CLUSTER});
    net_until(&n, l.opens);
    line_close(&n, &l);

    /* A server of another root, and one whose certificate is for clients. */
    test_ca_init(&other);
    assert_int_equal(tls_new(NULL, NULL, other.pem, &tls, &e), 0);
    line_dial_as(&n, &l, (struct rpc_dial){.tls = tls});
    net_until(&n, l.closes);
    assert_int_equal(l.opens, 0);
    assert_int_equal(l.why.code, ERR_UNAUTHORIZED);
    assert_non_null(strstr(l.why.text, "certificate"));
    tls_unref(tls);
    test_ca_fini(&other);
    test_issue(&n.ca, &server_only, &node);
    tls = net_tls(&n, &node);
    rpc_server_set_tls(n.server, tls);
    line_dial_as(&n, &l, (struct rpc_dial){0});
    net_until(&n, l.closes);
    assert_int_equal(l.opens, 0);
    assert_int_equal(l.why.code, ERR_UNAUTHORIZED);
    rpc_server_set_tls(n.server, n.manager);
    line_open(&n, &l); /* from now on it is the good one again */
    line_close(&n, &l);
    tls_unref(tls);
    test_node_fini(&node);
    net_close(&n);
}

static void damaged_texts_are_refused(void **state)
{
    struct net n;
    struct tls *tls = NULL;
    struct err e;

    open_net(&n, NULL);
    const char *cert = n.worker_node.cert_pem, *key = n.worker_node.key_pem, *root = n.ca.pem;
    AUTO_FREE
    char *cut = mem_strndup(cert, strlen(cert) - 40);
    AUTO_FREE
    char *and_garbage = mem_printf("%s-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", root);
    assert_int_equal(tls_new(cert, n.manager_node.key_pem, root, &tls, &e), ERR_INVALID); /* another's key */
    assert_int_equal(tls_new(cert, "", root, &tls, &e), ERR_INVALID);
    assert_int_equal(tls_new(cert, cert, root, &tls, &e), ERR_INVALID);
    assert_int_equal(tls_new(cut, key, root, &tls, &e), ERR_INVALID);
    assert_int_equal(tls_new("", key, root, &tls, &e), ERR_INVALID);
    assert_int_equal(tls_new(cert, key, "", &tls, &e), ERR_INVALID);
    assert_int_equal(tls_new(NULL, NULL, and_garbage, &tls, &e), ERR_INVALID);
    assert_int_equal(tls_new(root, key, root, &tls, &e), ERR_UNAUTHORIZED); /* the root is no node */
    assert_null(tls);
    tls_unref(NULL);
    net_close(&n);
}

/* --- peers without a certificate ----------------------------------------------------------------- */

static void peer_without_certificate_may_do_what_its_role_may(void **state)
{
    struct net n;
    struct line l;
    size_t size = 0;

    open_net(&n, NULL);
    line_dial_as(&n, &l, (struct rpc_dial){.tls = n.nobody});
    net_until(&n, l.opens);
    assert_int_equal(call(&n, l.conn, FETCH_ROOT), 0);
    assert_int_equal(served.peer.role, RPC_ROLE_NONE);
    assert_string_equal(served.peer.node_id, "");
    assert_int_equal(call(&n, l.conn, REPORT), ERR_DENIED);
    assert_int_equal(served.connects, 0); /* on_connect is for nodes */
    assert_non_null(rpc_conn_certificate(l.conn, &size));
    assert_true(size > 100);
    line_close(&n, &l);
    net_close(&n);
}

static void side_without_a_root_trusts_nobody_but_sees_the_certificate(void **state)
{
    struct net n;
    struct line l;
    struct tls *blind = NULL;
    struct err e;
    size_t size = 0;

    open_net(&n, NULL);
    assert_int_equal(tls_new(NULL, NULL, NULL, &blind, &e), 0);
    line_dial_as(&n, &l, (struct rpc_dial){.tls = blind});
    net_until(&n, l.opens);
    assert_int_equal(l.peer.role, RPC_ROLE_NONE); /* though the server showed a manager's */
    assert_string_equal(l.peer.node_id, "");
    const uint8_t *der = rpc_conn_certificate(l.conn, &size);
    X509 *cert = d2i_X509(NULL, &der, (long)size);
    assert_non_null(cert);
    X509_free(cert);
    assert_int_equal(call(&n, l.conn, FETCH_ROOT), 0);
    line_close(&n, &l);
    line_dial_as(&n, &l, (struct rpc_dial){.tls = blind, .expect_roles = RPC_ROLE_MANAGER});
    net_until(&n, l.closes); /* nothing is known of it, so it is not that */
    assert_int_equal(l.opens, 0);
    tls_unref(blind);
    net_close(&n);
}

static void peers_without_certificate_are_few(void **state)
{
    struct rpc_limits limits = {.anonymous_connections = 2};
    struct net n;
    struct line l[4];

    open_net(&n, &limits);
    for (size_t i = 0; i < 3; i++) {
        line_dial_as(&n, &l[i], (struct rpc_dial){.tls = n.nobody});
        net_until(&n, l[i].opens || l[i].closes);
    }
    assert_int_equal(l[0].opens + l[1].opens, 2);
    assert_int_equal(l[2].opens, 0);
    assert_int_equal(l[2].why.code, ERR_LIMIT); /* and it is told why */
    assert_non_null(strstr(l[2].why.text, "without a certificate"));
    line_open(&n, &l[3]); /* nodes are not kept out by them */
    line_close(&n, &l[0]);
    net_rest(&n, 20);
    line_dial_as(&n, &l[0], (struct rpc_dial){.tls = n.nobody});
    net_until(&n, l[0].opens);
    line_close(&n, &l[0]);
    line_close(&n, &l[1]);
    line_close(&n, &l[3]);
    net_close(&n);
}

/* --- nodes that may not, or not any more ---------------------------------------------------------- */

static void node_that_on_connect_refuses_is_told_and_closed(void **state)
{
    struct net n;
    struct line l;

    open_net(&n, NULL);
    served.refuse = ERR_DENIED;
    line_dial_as(&n, &l, (struct rpc_dial){0});
    net_until(&n, l.closes);
    assert_int_equal(l.opens, 0);
    assert_int_equal(l.why.code, ERR_DENIED);
    assert_non_null(strstr(l.why.text, "node " NET_WORKER " was removed"));
    served.refuse = 0;
    line_open(&n, &l);
    line_close(&n, &l);
    net_close(&n);
}

static void closing_a_peer_closes_all_its_connections_and_no_other(void **state)
{
    struct net n;
    struct line l[3], other;

    open_net(&n, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(l); i++)
        line_open(&n, &l[i]);
    line_dial_as(&n, &other, (struct rpc_dial){.tls = n.manager});
    net_until(&n, other.opens);
    rpc_server_close_peer(n.server, "0nobody00nobody00nobody00");
    rpc_server_close_peer(n.server, NET_WORKER);
    served.refuse = ERR_DENIED;
    for (size_t i = 0; i < ARRAY_SIZE(l); i++) {
        net_until(&n, l[i].closes);
        assert_int_equal(l[i].why.code, ERR_UNAUTHORIZED);
    }
    net_rest(&n, 20);
    assert_int_equal(other.closes, 0);
    line_dial_as(&n, &l[0], (struct rpc_dial){0});
    net_until(&n, l[0].closes);
    assert_int_equal(l[0].opens, 0);
    line_close(&n, &other);
    net_close(&n);
}

static void on_own_end(void *ctx, struct rpc_stream *s, const struct err *e)
{
    *(struct err *)ctx = *e;
}

/* What it may not have any more ends, on each of its connections; they stay, and may be given it again. */
static void limited_peer_keeps_its_connections(void **state)
{
    struct net n;
    struct line l[2];
    struct err ended[2] = {0}, e;

    open_net(&n, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(l); i++) {
        const struct rpc_stream_events events = {.ctx = &ended[i], .on_end = on_own_end};
        struct rpc_stream *stream;

        line_open(&n, &l[i]);
        assert_int_equal(rpc_open(l[i].conn, REPORT, 1000, "x", 1, &events, &stream, &e), 0);
    }
    net_until(&n, served.opens == 2);
    rpc_server_limit_peer(n.server, NET_MANAGER, RPC_ROLE_NONE);
    net_rest(&n, 20);
    assert_int_equal(ended[0].code, 0);
    rpc_server_limit_peer(n.server, NET_WORKER, RPC_ROLE_NONE);
    rpc_server_limit_peer(n.server, NET_WORKER, RPC_ROLE_NONE); /* nothing ends twice */
    net_until(&n, ended[0].code && ended[1].code);
    assert_int_equal(ended[0].code, ERR_DENIED);
    assert_non_null(strstr(ended[1].text, "report is not for peers of this role any more"));
    assert_int_equal(call(&n, l[0].conn, REPORT), ERR_DENIED);
    assert_int_equal(call(&n, l[1].conn, FETCH_ROOT), 0);
    rpc_server_limit_peer(n.server, NET_WORKER, RPC_ROLE_MANAGER); /* never more than its certificate says */
    assert_int_equal(call(&n, l[0].conn, FETCH_ROOT), 0);
    assert_int_equal(served.peer.role, RPC_ROLE_WORKER);
    for (size_t i = 0; i < ARRAY_SIZE(l); i++)
        line_close(&n, &l[i]);
    net_close(&n);
}

static void one_node_does_not_take_all_places(void **state)
{
    struct net n;
    struct line l[65], other;
    unsigned in = 0;

    open_net(&n, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(l); i++) {
        line_dial_as(&n, &l[i], (struct rpc_dial){0});
        net_until(&n, l[i].opens || l[i].closes);
        in += l[i].opens;
    }
    assert_int_equal(in, 64);
    line_dial_as(&n, &other, (struct rpc_dial){.tls = n.manager});
    net_until(&n, other.opens);
    line_close(&n, &other);
    for (size_t i = 0; i < ARRAY_SIZE(l); i++)
        line_close(&n, &l[i]);
    net_close(&n);
}

static void connections_beyond_the_limit_are_closed(void **state)
{
    struct rpc_limits limits = {.connections = 2};
    struct net n;
    struct line l[3];

    open_net(&n, &limits);
    line_open(&n, &l[0]);
    line_open(&n, &l[1]);
    line_dial_as(&n, &l[2], (struct rpc_dial){0});
    net_until(&n, l[2].closes);
    assert_int_equal(l[2].opens, 0);
    line_close(&n, &l[0]);
    net_rest(&n, 20);
    line_open(&n, &l[2]);
    line_close(&n, &l[1]);
    line_close(&n, &l[2]);
    net_close(&n);
}

/* --- peers that keep us waiting ------------------------------------------------------------------- */

static void garbage_and_silence_before_the_handshake_end(void **state)
{
    static const char *const garbage[] = {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff",
                                          "\x16\x03\x01\x00\x05\x01", "", "\x80\x80\x80\x80\x80\x80\x80\x80\x80"};
    struct rpc_limits limits = {.handshake_ms = 200};
    struct net n;
    char c;

    open_net(&n, &limits);
    for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
        int fd = raw_socket(&n);

        net_rest(&n, 5);
        (void)send(fd, garbage[i], strlen(garbage[i]), MSG_NOSIGNAL);
        ssize_t got;
        net_until(&n, (got = recv(fd, &c, 1, 0)) >= 0 || errno != EAGAIN);
        while (got > 0) /* an alert */
            net_until(&n, (got = recv(fd, &c, 1, 0)) >= 0 || errno != EAGAIN);
        close(fd);
    }
    assert_int_equal(served.connects, 0);
    net_close(&n);
}

static void silent_sockets_do_not_keep_others_out(void **state)
{
    enum { SOCKETS = 700 }; /* more than handshakes at once */
    struct net n;
    struct line l;
    int fds[SOCKETS];

    open_net(&n, NULL);
    for (size_t i = 0; i < SOCKETS; i++) {
        fds[i] = raw_socket(&n);
        if (i % 50 == 0)
            uv_run(&n.loop, UV_RUN_NOWAIT);
    }
    net_rest(&n, 100);
    uint64_t start = uv_now(&n.loop);
    line_open(&n, &l);
    assert_true(uv_now(&n.loop) - start < 9000); /* not only after their own time-out of ten seconds */
    assert_int_equal(call(&n, l.conn, FETCH_ROOT), 0);
    for (size_t i = 0; i < SOCKETS; i++)
        close(fds[i]);
    line_close(&n, &l);
    net_close(&n);
}

static void dial_to_a_silent_server_times_out(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    char text[64];
    struct net n;
    struct line l;

    open_net(&n, NULL);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    (void)snprintf(text, sizeof(text), "127.0.0.1:%d", ntohs(address.sin_port));
    line_dial_as(&n, &l, (struct rpc_dial){.address = text, .timeout_ms = 100});
    net_until(&n, l.closes);
    assert_int_equal(l.why.code, ERR_TIMEOUT);
    assert_int_equal(l.opens, 0);
    line_dial_as(&n, &l, (struct rpc_dial){.address = text, .timeout_ms = 100000});
    net_rest(&n, 10);
    rpc_conn_close(l.conn); /* or is given up */
    net_until(&n, l.closes);
    assert_int_equal(l.why.code, ERR_CANCELED);
    close(fd);
    net_close(&n);
}

static void quiet_connection_is_kept_by_pings(void **state)
{
    struct rpc_limits limits = {.idle_ms = 150};
    struct net n;
    struct line l;

    open_net(&n, &limits);
    line_open(&n, &l);
    net_rest(&n, 800);
    assert_int_equal(l.closes, 0);
    assert_int_equal(call(&n, l.conn, FETCH_ROOT), 0);
    line_close(&n, &l);
    net_close(&n);
}

/* --- peers that break the protocol ---------------------------------------------------------------- */

/* A connection with a good certificate that speaks frames by hand. */
struct raw {
    struct conn link;
    struct buf got;
    bool ready, broken, closed;
};

static struct raw *raw_of(struct conn *link)
{
    return container_of(link, struct raw, link);
}

static void raw_on_ready(struct conn *link)
{
    raw_of(link)->ready = true;
}

static void raw_on_data(struct conn *link, const uint8_t *data, size_t size)
{
    buf_append(&raw_of(link)->got, data, size);
}

static void raw_on_turn(struct conn *link)
{
    (void)link;
}

static void raw_on_broken(struct conn *link, const struct err *e)
{
    raw_of(link)->broken = true;
}

static void raw_on_closed(struct conn *link)
{
    raw_of(link)->closed = true;
}

static const struct conn_events raw_events = {.on_ready = raw_on_ready,
                                              .on_data = raw_on_data,
                                              .on_turn = raw_on_turn,
                                              .on_broken = raw_on_broken,
                                              .on_closed = raw_on_closed};

static void raw_open(struct net *n, struct raw *r)
{
    struct sockaddr_storage address;
    socklen_t size;
    struct err e;

    memset(r, 0, sizeof(*r));
    assert_int_equal(tcp_parse(n->address, &address, &size, &e), 0);
    assert_int_equal(conn_dial(&r->link, &n->loop, n->worker, &address, &raw_events, &e), 0);
    net_until(n, r->ready);
}

static void raw_send(struct raw *r, const void *data, size_t size)
{
    conn_write(&r->link, data, size);
    conn_flush(&r->link);
}

static void raw_close(struct net *n, struct raw *r)
{
    conn_close(&r->link);
    net_until(n, r->closed);
    buf_fini(&r->got);
}

/* The last frame that came, when it is a CLOSE: its code. */
static int raw_closed_with(struct raw *r, struct err *e)
{
    struct frame_reader reader = {0};
    const uint8_t *data = (const uint8_t *)buf_bytes(&r->got);
    size_t size = r->got.length;
    struct frame f;

    *e = (struct err){0};
    while (frame_read(&reader, &data, &size, &f, NULL) > 0)
        if (f.type == FRAME_CLOSE)
            frame_reason(&f, e);
    frame_reader_fini(&reader);
    return e->code;
}

static void broken_rules_end_the_connection_with_a_reason(void **state)
{
    struct rpc_limits limits = {.idle_ms = 20000};
    struct buf cases[16] = {{0}};
    const char *because[16];
    size_t count = 0;
    struct net n;

    /* All but the first begin with a hello and an open stream 1. */
#define BEGIN(text)                                           \
    (because[count] = (text), frame_put_hello(&cases[count]), \
     frame_put(&cases[count], FRAME_OPEN, 1, "\0\2\0\0\0\1x", 7), &cases[count++])
    struct buf *b = &cases[count];
    because[count++] = "its first frame";
    frame_put(b, FRAME_DATA, 1, "x", 1);
    b = BEGIN("second hello");
    frame_put_hello(b);
    b = BEGIN("wrong side");
    frame_put(b, FRAME_OPEN, 2, "\0\2", 2);
    b = BEGIN("opened twice");
    frame_put(b, FRAME_OPEN, 1, "\0\2", 2);
    b = BEGIN("more credit than there is");
    frame_put_u32(b, FRAME_CREDIT, 1, 1);
    b = BEGIN("more credit than there is");
    frame_put_u32(b, FRAME_CREDIT, 1, UINT32_MAX);
    b = BEGIN("overran its credit"); /* of a stream that is paused */
    for (int i = 0; i < 30; i++) {
        static const char piece[10000] = {0, 0, 0x27, 0x0c};
        frame_put(b, FRAME_DATA, 1, piece, sizeof(piece));
    }
    b = BEGIN("unknown type");
    buf_append(b, "\0\0\0\1\0\0\0\1\42\0\0\0x", 13);
    b = BEGIN("reserved");
    buf_append(b, "\0\0\0\1\0\0\0\1\3\1\0\0x", 13);

    open_net(&n, &limits);
    for (size_t i = 0; i < count; i++) {
        struct raw r;
        struct err e;

        raw_open(&n, &r);
        raw_send(&r, buf_bytes(&cases[i]), cases[i].length);
        net_until(&n, r.broken);
        if (raw_closed_with(&r, &e) != ERR_CORRUPT || !strstr(e.text, because[i]))
            fail_msg("case %zu: %d %s", i, e.code, e.text);
        raw_close(&n, &r);
        buf_fini(&cases[i]);
    }
    net_until(&n, served.ends == served.opens);
    net_close(&n);
}

static void frames_of_unknown_streams_mean_nothing(void **state)
{
    AUTO_BUF struct buf b = {0};
    static const uint8_t nonce[8] = "12345678";
    struct net n;
    struct raw r;

    frame_put_hello(&b);
    frame_put(&b, FRAME_DATA, 77, "x", 1);
    frame_put_u32(&b, FRAME_CREDIT, 78, UINT32_MAX);
    frame_put_reason(&b, FRAME_END, 79, 0, "");
    frame_put(&b, FRAME_PONG, 0, nonce, 8);
    frame_put(&b, FRAME_PING, 0, nonce, 8);
    open_net(&n, NULL);
    raw_open(&n, &r);
    raw_send(&r, buf_bytes(&b), b.length);
    net_until(&n, r.got.length >= 40); /* hello and the pong */
    assert_memory_equal(buf_bytes(&r.got) + 20, "\0\0\0\10\0\0\0\0\7\0\0\00012345678", 20);
    assert_false(r.broken);
    raw_close(&n, &r);
    net_close(&n);
}

/* The session object is changed in place after the handshake (tls_forget_peer): everything TLS still does with it.
 */
static void keys_may_be_updated_at_any_time(void **state)
{
    static const uint8_t nonce[8] = "12345678";
    struct net n;
    struct raw r;

    open_net(&n, NULL);
    raw_open(&n, &r);
    AUTO_BUF struct buf b = {0};
    frame_put_hello(&b);
    raw_send(&r, buf_bytes(&b), b.length);
    buf_clear(&b);
    frame_put(&b, FRAME_PING, 0, nonce, 8);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(
            SSL_key_update(r.link.session, i % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        raw_send(&r, buf_bytes(&b), b.length);
        net_until(&n, r.got.length >= 20 + 20 * (i + 1));
    }
    assert_false(r.broken);
    raw_close(&n, &r);
    net_close(&n);
}

static void too_long_a_claim_ends_the_stream_at_once(void **state)
{
    AUTO_BUF struct buf b = {0};
    struct net n;
    struct raw r;

    frame_put_hello(&b);
    frame_put(&b, FRAME_OPEN, 1, "\0\2\377\377\377\377", 6); /* a first message of 4 GiB, says its length */
    open_net(&n, NULL);
    raw_open(&n, &r);
    raw_send(&r, buf_bytes(&b), b.length);
    net_until(&n, r.got.length > 40);
    struct frame_reader reader = {0};
    const uint8_t *data = (const uint8_t *)buf_bytes(&r.got);
    size_t size = r.got.length;
    struct frame f;
    struct err e;
    assert_int_equal(frame_read(&reader, &data, &size, &f, NULL), 1);
    assert_int_equal(frame_read(&reader, &data, &size, &f, NULL), 1);
    assert_int_equal(f.type, FRAME_END);
    frame_reason(&f, &e);
    assert_int_equal(e.code, ERR_LIMIT);
    assert_int_equal(served.opens, 0);
    frame_reader_fini(&reader);
    raw_close(&n, &r);
    net_close(&n);
}

static void peer_that_asks_and_does_not_read_is_read_no_further(void **state)
{
    static const uint8_t nonce[8] = {0};
    struct rpc_limits limits = {.idle_ms = 600};
    AUTO_BUF struct buf b = {0};
    struct net n;
    struct raw r;

    open_net(&n, &limits);
    raw_open(&n, &r);
    frame_put_hello(&b);
    raw_send(&r, buf_bytes(&b), b.length);
    net_until(&n, r.got.length > 0);
    conn_read(&r.link, false);
    buf_clear(&b);
    for (int i = 0; i < 800; i++)
        frame_put(&b, FRAME_PING, 0, nonce, 8);
    /* Answers pile up in the sockets, then with the server; then it reads no more, and in the end gives up. */
    size_t sent = 0;
    uint64_t end = uv_now(&n.loop) + NET_PATIENCE_MS;
    while (!r.broken && uv_now(&n.loop) < end) {
        if (conn_queued(&r.link) < 1 << 20) {
            raw_send(&r, buf_bytes(&b), b.length);
            sent += b.length;
        }
        uv_run(&n.loop, UV_RUN_ONCE);
    }
    assert_true(r.broken);
    raw_close(&n, &r);
    net_close(&n);
}

static void random_bytes_under_tls_do_no_harm(void **state)
{
    struct entropy_seeded e;
    struct net n;

    print_message("# seed 11\n");
    entropy_seeded_init(&e, 11);
    open_net(&n, NULL);
    for (int round = 0; round < 40; round++) {
        AUTO_BUF struct buf b = {0};
        struct raw r;

        frame_put_hello(&b);
        for (int i = 0; i < 30; i++) { /* frames that look right from outside */
            char payload[64];
            size_t size = 4 + entropy_below(&e.base, 60);
            static const uint8_t types[] = {FRAME_OPEN, FRAME_DATA, FRAME_DATA, FRAME_CREDIT, FRAME_END, FRAME_END};
            uint8_t type = types[entropy_below(&e.base, sizeof(types))];

            entropy_fill(&e.base, payload, sizeof(payload));
            if (type == FRAME_OPEN)
                memcpy(payload, "\0\2\0\0\0\1", 6);
            if (type == FRAME_CREDIT)
                size = 4;
            frame_put(&b, type, 1 + 2 * (uint32_t)entropy_below(&e.base, 4), payload, size);
        }
        raw_open(&n, &r);
        for (size_t at = 0; at < b.length && !r.broken;) {
            size_t part = MIN(1 + entropy_below(&e.base, 500), b.length - at);

            raw_send(&r, buf_bytes(&b) + at, part);
            at += part;
            uv_run(&n.loop, UV_RUN_NOWAIT);
        }
        raw_close(&n, &r);
    }
    net_until(&n, served.opens == served.ends);
    net_close(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup(name, reset)
        TEST(certificates_are_judged),
        TEST(server_judges_for_itself),
        TEST(key_of_another_kind_is_not_even_shown),
        TEST(other_protocols_and_old_versions_are_refused),
        TEST(nothing_is_given_out_to_resume_with),
        TEST(dialing_side_judges_the_server),
        TEST(damaged_texts_are_refused),
        TEST(peer_without_certificate_may_do_what_its_role_may),
        TEST(side_without_a_root_trusts_nobody_but_sees_the_certificate),
        TEST(peers_without_certificate_are_few),
        TEST(node_that_on_connect_refuses_is_told_and_closed),
        TEST(closing_a_peer_closes_all_its_connections_and_no_other),
        TEST(limited_peer_keeps_its_connections),
        TEST(one_node_does_not_take_all_places),
        TEST(connections_beyond_the_limit_are_closed),
        TEST(garbage_and_silence_before_the_handshake_end),
        TEST(silent_sockets_do_not_keep_others_out),
        TEST(dial_to_a_silent_server_times_out),
        TEST(quiet_connection_is_kept_by_pings),
        TEST(broken_rules_end_the_connection_with_a_reason),
        TEST(frames_of_unknown_streams_mean_nothing),
        TEST(keys_may_be_updated_at_any_time),
        TEST(too_long_a_claim_ends_the_stream_at_once),
        TEST(peer_that_asks_and_does_not_read_is_read_no_further),
        TEST(random_bytes_under_tls_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
