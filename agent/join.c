/* See join.h.
 *
 *     resolving --> fetching the root --> asking for a certificate --> done
 *         ^               |                     |         ^
 *         +--- the next address, if any --------+         +-- redirected to the leader
 *
 * The root comes from a peer that nobody vouches for; the digest in the token does. Only the certificate that the
 * digest pins is trusted, and the token's secret leaves this machine only on a second connection, whose peer has
 * proved with a certificate of that root that it is a manager.
 *
 * An address at which nobody answers is followed by the next one. A manager that cannot answer now (the cluster
 * elects a leader) is asked again for a while. What a manager refuses is refused by all: it ends the attempt. So do
 * clocks that differ by more than certificates bear, and the difference is told. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/address.h"
#include "agent/agent.h"
#include "agent/call.h"
#include "agent/join.h"
#include "manager/manager.h"
#include "proto/base/arena.h"
#include "proto/base/buf.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/sm.h"
#include "proto/join.pb-c.h"
#include "proto/wire/cert.h"
#include "proto/wire/methods.h"
#include "proto/wire/tcp.h"
#include "proto/wire/token.h"

#define CALL_MS       6000  /* to reach a manager, and for its answer */
#define PATIENCE_MS   15000 /* with a cluster that has no leader */
#define AGAIN_MS      250
#define REDIRECTS_MAX 4 /* in a row */

enum state { RESOLVING, FETCHING, ASKING, WAITING, DONE };

static const char *const state_names[] = {"resolving", "fetching the root", "asking", "waiting", "done"};
static const uint32_t moves[] = {
    [RESOLVING] = SM_TO(FETCHING) | SM_TO(RESOLVING) | SM_TO(WAITING) | SM_TO(DONE),
    [FETCHING] = SM_TO(ASKING) | SM_TO(RESOLVING) | SM_TO(WAITING) | SM_TO(DONE),
    [ASKING] = SM_TO(ASKING) | SM_TO(RESOLVING) | SM_TO(WAITING) | SM_TO(DONE),
    [WAITING] = SM_TO(RESOLVING) | SM_TO(DONE),
    [DONE] = 0,
};
static const struct sm_table machine = {"joining", state_names, moves, DONE + 1};

struct join {
    struct join_config config; /* without what is only borrowed */
    int state;                 /* enum state */
    char **remotes;            /* owned, as given */
    size_t next;               /* of them */
    char *token;               /* owned */
    char digest[TOKEN_DIGEST_TEXT + 1];
    char address[ADDRESS_TEXT];      /* of the manager being asked */
    char *root_pem;                  /* owned; the pinned root, once it was fetched */
    struct tls *tls;                 /* trusts it */
    char cluster_id[IDENT_TEXT + 1]; /* of the first manager that proved itself; "" before */
    char local[64];                  /* our side of the connection to it */
    char *key_pem;                   /* owned */
    struct buf request;              /* the packed IssueRequest */
    unsigned redirects;
    uint64_t give_up_ms; /* loop time */
    bool is_leaderless;  /* somebody said that it cannot answer now */
    struct err skew;     /* what the dates of the manager's certificate say of the clocks; code 0: nothing */
    struct err error;    /* the newest reason */
    struct buf reasons;  /* of every address that failed in this round */
    struct call *call;   /* NULL: none */
    bool is_looking_up;
    uv_getaddrinfo_t lookup;
    uv_timer_t timer;
    bool timer_closed;
    void (*closed)(void *ctx); /* NULL: not yet closing */
    void *closed_ctx;
};

static void try_next(struct join *j);
static void ask(struct join *j);

/* --- the end --------------------------------------------------------------------------------------- */

static void maybe_free(struct join *j)
{
    void (*closed)(void *ctx) = j->closed;
    void *ctx = j->closed_ctx;

    if (!closed || j->call || j->is_looking_up || !j->timer_closed)
        return;
    for (size_t i = 0; i < j->config.remote_count; i++)
        free(j->remotes[i]);
    free(j->remotes);
    mem_wipe(j->token, strlen(j->token));
    free(j->token);
    if (j->key_pem)
        mem_wipe(j->key_pem, strlen(j->key_pem));
    free(j->key_pem);
    free(j->root_pem);
    tls_unref(j->tls);
    mem_wipe(j->request.data, j->request.capacity);
    buf_fini(&j->request);
    buf_fini(&j->reasons);
    free(j);
    closed(ctx);
}

static void failed(struct join *j, const struct err *e)
{
    struct err copy = *e;

    sm_move(&machine, &j->state, DONE);
    j->config.done(j->config.ctx, &copy, NULL);
}

/* --- addresses that fail --------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
    struct join *j = container_of(timer, struct join, timer);

    if (j->state != WAITING)
        return;
    j->next = 0;
    buf_clear(&j->reasons);
    try_next(j);
}

/* All addresses were tried. */
static void round_over(struct join *j)
{
    struct err e;

    if (j->is_leaderless && uv_now(j->config.loop) < j->give_up_ms) {
        j->is_leaderless = false;
        sm_move(&machine, &j->state, WAITING);
        uv_timer_start(&j->timer, on_timer, AGAIN_MS / 2 + entropy_below(j->config.entropy, AGAIN_MS), 0);
        return;
    }
    if (j->config.remote_count > 1)
        err_set(&e, j->error.code, "no manager could be reached: %s", buf_str(&j->reasons));
    else
        e = j->error;
    failed(j, &e);
}

/* This address is of no use: the next one. */
static void next_address(struct join *j, const struct err *e)
{
    j->error = *e;
    buf_printf(&j->reasons, "%s%.300s", j->reasons.length ? "; " : "", e->text);
    log_info("joining: a manager cannot be asked", "address=%s error=\"%s\"", j->address, e->text);
    try_next(j);
}

/* --- what the manager says ------------------------------------------------------------------------- */

static const char *span(int64_t ms, char ret[32])
{
    int64_t minutes = (ms < 0 ? -ms : ms) / 60000;

    if (minutes >= 48 * 60)
        (void)snprintf(ret, 32, "%lld days", (long long)(minutes / (24 * 60)));
    else
        (void)snprintf(ret, 32, "%lld h %lld min", (long long)(minutes / 60), (long long)(minutes % 60));
    return ret;
}

/* A certificate that is not valid now by our clock: then it is the clocks that differ. */
static int check_dates(const struct join *j, int64_t not_before_ms, int64_t not_after_ms, const char *whose,
                       struct err *e)
{
    int64_t now_ms = clock_wall_ms(j->config.clock);
    char text[32];

    if (now_ms < not_before_ms)
        return err_set(
            e, ERR_PRECONDITION,
            "%s certificate is not valid yet by this node's clock: the clocks differ by at least %s; set "
            "them and join again",
            whose, span(not_before_ms + CERT_BACKDATE_MS - now_ms, text));
    if (now_ms > not_after_ms)
        return err_set(e, ERR_PRECONDITION,
                       "%s certificate ended %s ago by this node's clock: either the clocks differ, or that "
                       "manager's certificate has expired",
                       whose, span(now_ms - not_after_ms, text));
    return 0;
}

static int check_certificate(const struct join *j, const IssueReply *reply, const char *certificate_pem,
                             const char *root_pem, struct cert_facts *ret, struct err *e)
{
    NodeRole role = NODE_ROLE__WORKER;
    int rc = cert_facts(certificate_pem, ret, e);

    if (rc == 0)
        rc = cert_check(certificate_pem, j->key_pem, root_pem, e);
    if (rc < 0)
        return err_wrap(e, "%s gave a certificate that cannot be used", j->address);
    if (ret->identity.role == RPC_ROLE_MANAGER)
        role = NODE_ROLE__MANAGER;
    if (strcmp(ret->identity.cluster_id, j->cluster_id) != 0 || (reply->has_role && reply->role != role))
        return err_set(e, ERR_CORRUPT, "%s gave a certificate that is not what it says it is", j->address);
    if (reply->has_lock_key && (role != NODE_ROLE__MANAGER || reply->lock_key.len != MANAGER_LOCK_KEY))
        return err_set(e, ERR_CORRUPT, "%s gave an unlock key of %zu bytes", j->address, reply->lock_key.len);
    return check_dates(j, ret->not_before_ms, ret->not_after_ms, "the new", e);
}

/* The manager that signed leads. Ends with NULL. */
static char **leader_first(char *leader, const IssueReply *reply, struct arena *a)
{
    char **managers = arena_array(a, reply->n_managers + 2, sizeof(*managers));
    size_t count = 0;

    managers[count++] = leader;
    for (size_t i = 0; i < reply->n_managers; i++)
        if (strcmp(reply->managers[i], leader) != 0)
            managers[count++] = reply->managers[i];
    managers[count] = NULL;
    return managers;
}

static void use(struct join *j, const IssueReply *reply, struct arena *a)
{
    const char *certificate_pem =
        arena_strndup(a, (const char *)reply->certificate_pem.data, reply->certificate_pem.len);
    const char *root_pem = arena_strndup(a, (const char *)reply->root_pem.data, reply->root_pem.len);
    struct cert_facts facts;
    struct err e;

    if (check_certificate(j, reply, certificate_pem, root_pem, &facts, &e) < 0) {
        failed(j, &e);
        return;
    }
    struct join_result result = {.certificate_pem = certificate_pem,
                                 .key_pem = j->key_pem,
                                 .root_pem = root_pem,
                                 .node_id = facts.identity.node_id,
                                 .cluster_id = facts.identity.cluster_id,
                                 .role = facts.identity.role == RPC_ROLE_MANAGER ? NODE_ROLE__MANAGER
                                                                                 : NODE_ROLE__WORKER,
                                 .managers = leader_first(j->address, reply, a),
                                 .manager_count = 1,
                                 .lock_key = reply->has_lock_key ? reply->lock_key.data : NULL,
                                 .lock_version = reply->lock_version,
                                 .local = j->local};
    while (result.managers[result.manager_count])
        result.manager_count++;
    sm_move(&machine, &j->state, DONE);
    e.code = 0;
    j->config.done(j->config.ctx, &e, &result);
    mem_wipe(reply->lock_key.data, reply->lock_key.len);
}

static void follow_redirect(struct join *j, const char *leader)
{
    struct err e;

    if (strlen(leader) >= sizeof(j->address) || ++j->redirects > REDIRECTS_MAX) {
        err_set(&e, ERR_UNAVAILABLE, "%s sends us on to \"%.60s\" and so on: the cluster has no settled leader",
                j->address, leader);
        j->is_leaderless = true;
        next_address(j, &e);
        return;
    }
    log_debug("joining: redirected to the leader", "from=%s to=%s", j->address, leader);
    memcpy(j->address, leader, strlen(leader) + 1);
    ask(j);
}

static void on_issued(void *ctx, const struct err *e, bool reached, const void *data, size_t size)
{
    struct join *j = ctx;
    AUTO_ARENA struct arena a;
    struct err bad;

    arena_init(&a);
    j->call = NULL;
    if (j->closed) {
        maybe_free(j);
        return;
    }
    const IssueReply *reply = e->code ? NULL : arena_unpack(&a, &issue_reply__descriptor, data, size);
    if (reply && reply->redirect) {
        follow_redirect(j, reply->redirect);
    } else if (reply && reply->has_certificate_pem && reply->has_root_pem) {
        use(j, reply, &a);
    } else if (e->code == 0) {
        err_set(&bad, ERR_CORRUPT, "%s gave a malformed answer", j->address);
        next_address(j, &bad);
    } else if (j->skew.code) {
        failed(j, &j->skew); /* whatever TLS makes of it */
    } else if (reached && e->code != ERR_UNAVAILABLE) {
        failed(j, e);
    } else {
        j->is_leaderless = j->is_leaderless || reached;
        next_address(j, e);
    }
}

/* The manager has proved itself. */
static void on_manager_open(void *ctx, struct rpc_conn *c)
{
    struct join *j = ctx;
    struct sockaddr_storage own;
    socklen_t size = sizeof(own);
    char text[TCP_TEXT];

    if (!*j->cluster_id)
        memcpy(j->cluster_id, rpc_conn_peer(c)->cluster_id, sizeof(j->cluster_id));
    if (getsockname(rpc_conn_fd(c), (struct sockaddr *)&own, &size) == 0) {
        tcp_format(&own, text);
        address_host(text, j->local, sizeof(j->local));
    }
}

static void ask(struct join *j)
{
    struct call_config config = {.loop = j->config.loop,
                                 .address = j->address,
                                 .tls = j->tls,
                                 .expect_roles = RPC_ROLE_MANAGER,
                                 .expect_cluster = *j->cluster_id ? j->cluster_id : NULL,
                                 .method = METHOD_ISSUE,
                                 .message = buf_bytes(&j->request),
                                 .size = j->request.length,
                                 .reply_bytes_max = METHOD_JOIN_BYTES_MAX,
                                 .timeout_ms = CALL_MS,
                                 .ctx = j,
                                 .on_open = on_manager_open,
                                 .done = on_issued};
    struct err e;

    sm_move(&machine, &j->state, ASKING);
    if (call_start(&config, &j->call, &e) < 0)
        next_address(j, &e);
}

/* --- the root -------------------------------------------------------------------------------------- */

/* The first certificate alone: nobody vouches for what follows it. */
static char *first_certificate(const ProtobufCBinaryData *pem)
{
    static const char end[] = "-----END CERTIFICATE-----";
    char *text = mem_strndup((const char *)pem->data, pem->len), *at = strstr(text, end);

    if (at && at[sizeof(end) - 1])
        at[sizeof(end) - 1] = '\0';
    return text;
}

static int take_root(struct join *j, const RootReply *reply, struct err *e)
{
    AUTO_FREE
    char *root_pem = first_certificate(&reply->certificate_pem);
    char digest[TOKEN_DIGEST_TEXT + 1];
    struct tls *tls = NULL;
    int rc = token_digest(root_pem, digest, e);

    if (rc < 0)
        return err_wrap(e, "%s gave a malformed root certificate", j->address);
    if (strcmp(digest, j->digest) != 0)
        return err_set(e, ERR_INVALID,
                       "remote CA does not match fingerprint. Expected: %s, got: %s: the join token is of another "
                       "cluster than the manager at %s, or is out of date, or somebody pretends to be that manager",
                       j->digest, digest, j->address);
    rc = tls_new(NULL, NULL, root_pem, &tls, e);
    if (rc < 0)
        return rc;
    free(j->root_pem);
    j->root_pem = steal(&root_pem);
    tls_unref(j->tls);
    j->tls = tls;
    return 0;
}

static void on_root(void *ctx, const struct err *e, bool reached, const void *data, size_t size)
{
    struct join *j = ctx;
    AUTO_ARENA struct arena a;
    struct err bad;

    arena_init(&a);
    j->call = NULL;
    if (j->closed) {
        maybe_free(j);
        return;
    }
    if (e->code) {
        bad = *e;
        if (!reached) {
            bad.code = ERR_UNAVAILABLE; /* a stranger's reasons are no failures of ours */
            err_wrap(&bad, "cannot reach the manager");
        }
        j->is_leaderless = j->is_leaderless || (reached && e->code == ERR_UNAVAILABLE);
        next_address(j, &bad);
        return;
    }
    const RootReply *reply = arena_unpack(&a, &root_reply__descriptor, data, size);
    if (!reply)
        err_set(&bad, ERR_CORRUPT, "%s gave a malformed answer", j->address);
    else if (take_root(j, reply, &bad) == 0) {
        ask(j);
        return;
    }
    next_address(j, &bad);
}

/* What the certificate's dates tell of the clocks is kept until TLS has refused it, or not. */
static void on_anybody_open(void *ctx, struct rpc_conn *c)
{
    struct join *j = ctx;
    int64_t not_before_ms, not_after_ms;
    size_t size;
    const uint8_t *der = rpc_conn_certificate(c, &size);
    char whose[ADDRESS_TEXT + 32];

    j->skew.code = 0;
    (void)snprintf(whose, sizeof(whose), "%s: the manager's", j->address); /* fits */
    if (der && cert_dates(der, size, &not_before_ms, &not_after_ms, NULL) == 0)
        (void)check_dates(j, not_before_ms, not_after_ms, whose, &j->skew);
}

static void fetch(struct join *j)
{
    RootRequest request = ROOT_REQUEST__INIT;
    uint8_t packed[8];
    struct call_config config = {.loop = j->config.loop,
                                 .address = j->address,
                                 .method = METHOD_ROOT,
                                 .message = packed,
                                 .size = root_request__pack(&request, packed),
                                 .reply_bytes_max = METHOD_JOIN_BYTES_MAX,
                                 .timeout_ms = CALL_MS,
                                 .ctx = j,
                                 .on_open = on_anybody_open,
                                 .done = on_root};
    struct tls *anybody = NULL;
    struct err e;

    sm_move(&machine, &j->state, FETCHING);
    int rc = tls_new(NULL, NULL, NULL, &anybody, &e);
    config.tls = anybody;
    if (rc == 0)
        rc = call_start(&config, &j->call, &e);
    tls_unref(anybody);
    if (rc < 0)
        next_address(j, &e);
}

/* --- addresses ------------------------------------------------------------------------------------- */

static void on_looked_up(uv_getaddrinfo_t *lookup, int status, struct addrinfo *list)
{
    struct join *j = container_of(lookup, struct join, lookup);
    const char *name = j->remotes[j->next - 1];
    struct sockaddr_storage found = {0};
    struct err e;

    j->is_looking_up = false;
    if (status == 0 && list && list->ai_addrlen <= sizeof(found)) {
        memcpy(&found, list->ai_addr, list->ai_addrlen);
        tcp_format(&found, j->address);
    } else if (status == 0) {
        status = UV_EAI_NONAME;
    }
    uv_freeaddrinfo(list);
    if (j->closed) {
        maybe_free(j);
    } else if (status < 0) {
        err_set(&e, ERR_UNAVAILABLE, "%s: cannot find the address of that name: %s", name, uv_strerror(status));
        next_address(j, &e);
    } else {
        fetch(j);
    }
}

/* A name: asked for in libuv's pool, where it may take as long as the resolver does; joining happens once. */
static int look_up(struct join *j, const char *host, int port, struct err *e)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    char service[16];

    (void)snprintf(service, sizeof(service), "%d", port); /* fits */
    int rc = uv_getaddrinfo(j->config.loop, &j->lookup, on_looked_up, host, service, &hints);
    if (rc < 0)
        return err_number(e, -rc, "look up %s", host);
    j->is_looking_up = true;
    return 0;
}

static void try_next(struct join *j)
{
    char host[ADDRESS_NAME];
    int port;
    struct err e;

    if (j->next == j->config.remote_count) {
        round_over(j);
        return;
    }
    sm_move(&machine, &j->state, RESOLVING);
    j->redirects = 0;
    const char *remote = j->remotes[j->next++];
    int rc = address_remote(remote, ADDRESS_MANAGER_PORT, "RemoteAddrs", j->address, host, &port, &e);
    if (rc == 0 && !*host) {
        fetch(j);
        return;
    }
    (void)snprintf(j->address, sizeof(j->address), "%s", remote); /* for messages */
    if (rc == 0)
        rc = look_up(j, host, port, &e);
    if (rc < 0)
        next_address(j, &e);
}

static void on_start(uv_timer_t *timer)
{
    try_next(container_of(timer, struct join, timer));
}

/* --- the door -------------------------------------------------------------------------------------- */

static int make_request(struct join *j, struct err *e)
{
    IssueRequest request = ISSUE_REQUEST__INIT;
    AUTO_BUF struct buf der = {0};
    int rc = cert_key_new(&j->key_pem, e);

    if (rc == 0)
        rc = cert_request_new(j->key_pem, &der, e);
    if (rc < 0)
        return rc;
    request.csr_der = (ProtobufCBinaryData){der.length, (uint8_t *)buf_bytes(&der)};
    request.token = j->token;
    request.has_availability = request.has_wall_ms = request.has_feature_level = true;
    request.availability = j->config.availability;
    request.wall_ms = clock_wall_ms(j->config.clock);
    request.feature_level = AGENT_FEATURE_LEVEL;
    size_t size = issue_request__get_packed_size(&request);
    issue_request__pack(&request, (uint8_t *)buf_reserve(&j->request, size));
    buf_added(&j->request, size);
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct join *j = container_of((uv_timer_t *)handle, struct join, timer);

    j->timer_closed = true;
    maybe_free(j);
}

static void on_unopened(void *ctx)
{
    (void)ctx; /* nobody waits for it */
}

int join_open(const struct join_config *config, struct join **ret, struct err *e)
{
    struct join *j = mem_alloc(sizeof(*j));
    char secret[TOKEN_SECRET_TEXT + 1];

    j->config = *config;
    j->token = mem_strdup(config->token);
    j->remotes = mem_array(config->remote_count, sizeof(*j->remotes));
    for (size_t i = 0; i < config->remote_count; i++)
        j->remotes[i] = mem_strdup(config->remotes[i]);
    j->config.remotes = NULL;
    j->config.token = NULL;
    uv_timer_init(config->loop, &j->timer);
    int rc = token_parse(j->token, j->digest, secret, e);
    mem_wipe(secret, sizeof(secret));
    if (rc == 0)
        rc = make_request(j, e);
    if (rc < 0) {
        join_close(j, on_unopened, NULL);
        return rc;
    }
    j->give_up_ms = uv_now(config->loop) + PATIENCE_MS;
    uv_timer_start(&j->timer, on_start, 0, 0); /* from the loop */
    *ret = j;
    return 0;
}

void join_close(struct join *j, void (*closed)(void *ctx), void *ctx)
{
    j->closed = closed;
    j->closed_ctx = ctx;
    uv_close((uv_handle_t *)&j->timer, on_timer_closed);
    if (j->call)
        call_cancel(j->call);
    if (j->is_looking_up)
        (void)uv_cancel((uv_req_t *)&j->lookup); /* when it cannot be, its answer is awaited */
}
