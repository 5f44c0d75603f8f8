/* See renew.h.
 *
 *     waiting --due--> own manager --signed--> waiting
 *        ^                 | does not lead, or there is none
 *        |                 v
 *        +---- answer -- asking (a connection of its own, closed before the answer is used)
 *
 * Whatever fails leads back to waiting, with the delay that renewal.h gives. The answer of a manager is checked
 * like anything that comes from outside; the connection it came on was made with the certificate that is being
 * replaced. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/renew.h"
#include "agent/renewal.h"
#include "proto/base/arena.h"
#include "proto/base/buf.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/sm.h"
#include "proto/join.pb-c.h"
#include "proto/wire/cert.h"
#include "proto/wire/methods.h"

#define ASK_MS        15000
#define AGAIN_MS      300 /* before another attempt that was wanted during one */
#define REDIRECTS_MAX 3   /* in one attempt */

enum state { WAITING, OWN, ASKING, CLOSED };

static const char *const state_names[] = {"waiting", "own manager", "asking", "closed"};
static const uint32_t moves[] = {
    [WAITING] = SM_TO(OWN) | SM_TO(ASKING) | SM_TO(CLOSED),
    [OWN] = SM_TO(WAITING) | SM_TO(ASKING) | SM_TO(CLOSED),
    [ASKING] = SM_TO(WAITING) | SM_TO(ASKING) | SM_TO(CLOSED),
    [CLOSED] = 0,
};
static const struct sm_table machine = {"renewal", state_names, moves, CLOSED + 1};

struct renew {
    struct renew_config config;
    int state; /* enum state */
    struct renewal plan;
    struct rpc_identity self;
    struct tls *tls;       /* referenced */
    unsigned attempt;      /* chooses whom to ask */
    char *key_pem;         /* owned; of the attempt under way */
    struct buf request;    /* likewise, DER */
    struct buf reply;      /* packed IssueReply, until its connection is closed; empty: none */
    struct err error;      /* why there is none */
    char *redirect;        /* owned; whom to ask next, as a manager said; NULL: nobody */
    unsigned redirects;    /* followed in this attempt */
    bool is_wanted_again;  /* renew_soon came during an attempt */
    struct rpc_conn *conn; /* NULL when there is none */
    bool own_asked;        /* the manager's callback is still to come */
    uv_timer_t timer;
    bool timer_closed;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static void ask(struct renew *r);

/* --- the end of an attempt ------------------------------------------------------------------------- */

static void forget_attempt(struct renew *r)
{
    if (r->key_pem)
        mem_wipe(r->key_pem, strlen(r->key_pem));
    free(r->key_pem);
    r->key_pem = NULL;
    free(steal(&r->redirect));
    r->redirects = 0;
    buf_clear(&r->request);
    buf_clear(&r->reply);
}

static void maybe_free(struct renew *r)
{
    if (r->state != CLOSED || r->conn || r->own_asked || !r->timer_closed)
        return;
    void (*closed)(void *ctx) = r->closed;
    void *ctx = r->closed_ctx;
    forget_attempt(r);
    buf_fini(&r->request);
    buf_fini(&r->reply);
    tls_unref(r->tls);
    free(r);
    closed(ctx);
}

static uint32_t random32(struct renew *r)
{
    return (uint32_t)entropy_u64(r->config.entropy);
}

static void failed(struct renew *r, const struct err *e)
{
    int64_t left_ms = r->plan.expires_ms - clock_wall_ms(r->config.clock);

    renewal_failed(&r->plan, clock_mono_ms(r->config.clock), random32(r));
    log_warn("cannot renew this node's certificate", "attempts=%u seconds_left=%lld error=\"%s\"", r->plan.failures,
             (long long)(left_ms / 1000), e->text);
    forget_attempt(r);
    sm_move(&machine, &r->state, WAITING);
    renew_look(r);
}

static int read_facts(struct renew *r, const char *certificate_pem, struct err *e)
{
    struct cert_facts facts;
    int rc = cert_facts(certificate_pem, &facts, e);

    if (rc < 0)
        return rc;
    r->self = facts.identity;
    renewal_begin(&r->plan, facts.not_before_ms, facts.not_after_ms, CERT_BACKDATE_MS, random32(r));
    return 0;
}

static char *text_of(struct arena *a, const ProtobufCBinaryData *data)
{
    return data->len ? arena_strndup(a, (const char *)data->data, data->len) : (char *)""; /* up to a zero byte */
}

/* The answer is for us, and better than what we have. */
static int check(const struct renew *r, const char *certificate_pem, const char *root_pem, struct err *e)
{
    struct cert_facts facts;
    int rc = cert_facts(certificate_pem, &facts, e);

    if (rc == 0)
        rc = cert_check(certificate_pem, r->key_pem, root_pem, e);
    if (rc < 0)
        return rc;
    if (strcmp(facts.identity.node_id, r->self.node_id) != 0 ||
        strcmp(facts.identity.cluster_id, r->self.cluster_id) != 0)
        return err_set(e, ERR_INVALID, "the new certificate is not for node %s of cluster %s", r->self.node_id,
                       r->self.cluster_id);
    if (facts.not_after_ms <= clock_wall_ms(r->config.clock))
        return err_set(e, ERR_INVALID, "the new certificate has ended already: do the clocks differ?");
    return 0;
}

static int use(struct renew *r, struct err *e)
{
    AUTO_ARENA struct arena a;
    struct tls *tls = NULL;

    arena_init(&a);
    const IssueReply *reply = arena_unpack(&a, &issue_reply__descriptor, buf_bytes(&r->reply), r->reply.length);
    if (reply && reply->redirect) {
        r->redirect = mem_strdup(reply->redirect);
        return err_set(e, ERR_UNAVAILABLE, "this manager does not lead");
    }
    if (!reply || !reply->has_certificate_pem || !reply->has_root_pem)
        return err_set(e, ERR_INVALID, "malformed answer");
    if (reply->has_lock_key && reply->lock_key.len != MANAGER_LOCK_KEY)
        return err_set(e, ERR_INVALID, "the unlock key in the answer has %zu bytes", reply->lock_key.len);
    const char *certificate_pem = text_of(&a, &reply->certificate_pem), *root_pem = text_of(&a, &reply->root_pem);
    int rc = check(r, certificate_pem, root_pem, e);
    struct renewed renewed = {.certificate_pem = certificate_pem,
                              .key_pem = r->key_pem,
                              .root_pem = root_pem,
                              .lock_key = reply->has_lock_key ? reply->lock_key.data : NULL,
                              .lock_version = reply->lock_version};
    if (rc == 0)
        rc = r->config.on_renewed(r->config.ctx, &renewed, &tls, e);
    mem_wipe(reply->lock_key.data, reply->lock_key.len);
    if (rc < 0)
        return rc;
    tls_unref(r->tls);
    r->tls = tls_ref(tls);
    rc = read_facts(r, certificate_pem, e); /* checked: it cannot fail */
    renewal_rest(&r->plan, clock_wall_ms(r->config.clock));
    return rc;
}

static void conclude(struct renew *r)
{
    struct err e = r->error;

    if (r->reply.length == 0 || use(r, &e) < 0) {
        if (r->redirect && r->redirects++ < REDIRECTS_MAX) {
            buf_clear(&r->reply);
            ask(r);
        } else {
            failed(r, &e);
        }
        return;
    }
    log_info("certificate renewed", "node=%s role=%s seconds=%lld", r->self.node_id,
             r->self.role == RPC_ROLE_MANAGER ? "manager" : "worker",
             (long long)((r->plan.expires_ms - r->plan.issued_ms) / 1000));
    forget_attempt(r);
    sm_move(&machine, &r->state, WAITING);
    if (r->is_wanted_again) {
        r->is_wanted_again = false;
        renew_soon(r, AGAIN_MS);
    } else {
        renew_look(r);
    }
}

/* --- asking ---------------------------------------------------------------------------------------- */

static void on_conn_closed(void *ctx, struct rpc_conn *c, const struct err *e)
{
    struct renew *r = ctx;

    r->conn = NULL;
    if (r->state == CLOSED) {
        maybe_free(r);
        return;
    }
    if (r->reply.length == 0 && r->error.code == 0)
        r->error = *e;
    conclude(r);
}

static void on_answer(void *ctx, const struct err *e, const void *reply, size_t size)
{
    struct renew *r = ctx;

    if (r->state == CLOSED)
        return;
    if (e->code == 0)
        buf_append(&r->reply, reply, size);
    else
        r->error = *e;
    if (r->conn)
        rpc_conn_close(r->conn); /* on_conn_closed goes on */
}

static void on_conn_open(void *ctx, struct rpc_conn *c, const struct rpc_identity *peer)
{
    struct renew *r = ctx;
    IssueRequest request = ISSUE_REQUEST__INIT;
    AUTO_ARENA struct arena a;

    arena_init(&a);
    if (r->state == CLOSED)
        return;
    request.csr_der = (ProtobufCBinaryData){r->request.length, (uint8_t *)buf_bytes(&r->request)};
    size_t size = issue_request__get_packed_size(&request);
    uint8_t *packed = arena_alloc(&a, size);
    issue_request__pack(&request, packed);
    if (rpc_call(c, METHOD_ISSUE, packed, size, METHOD_JOIN_BYTES_MAX, ASK_MS, on_answer, r, &r->error) < 0)
        rpc_conn_close(c);
}

static void ask(struct renew *r)
{
    struct rpc_conn_events events = {.ctx = r, .on_open = on_conn_open, .on_closed = on_conn_closed};
    AUTO_FREE
    char *redirect = steal(&r->redirect);
    struct rpc_dial how = {.address = redirect ? redirect : r->config.address(r->config.ctx, r->attempt++),
                           .tls = r->tls,
                           .expect_roles = RPC_ROLE_MANAGER,
                           .expect_cluster = r->self.cluster_id,
                           .timeout_ms = ASK_MS};
    struct err e;

    sm_move(&machine, &r->state, ASKING);
    if (!how.address)
        err_set(&e, ERR_UNAVAILABLE, "no manager is known");
    else if (rpc_dial(r->config.loop, &how, &events, &r->conn, &e) == 0)
        return;
    r->conn = NULL;
    failed(r, &e);
}

static void on_own_answer(void *ctx, const struct err *e, const void *reply, size_t size)
{
    struct renew *r = ctx;

    r->own_asked = false;
    if (r->state == CLOSED) {
        maybe_free(r);
    } else if (e->code == 0) {
        buf_append(&r->reply, reply, size);
        conclude(r);
    } else {
        ask(r); /* another one leads */
    }
}

static void begin(struct renew *r)
{
    struct manager *own = r->config.own ? r->config.own(r->config.ctx) : NULL;
    struct err e;

    sm_move(&machine, &r->state, OWN);
    r->error = (struct err){0};
    if (cert_key_new(&r->key_pem, &e) < 0 || cert_request_new(r->key_pem, &r->request, &e) < 0) {
        failed(r, &e);
        return;
    }
    r->own_asked = own && manager_issue(own, buf_bytes(&r->request), r->request.length, on_own_answer, r, &e) == 0;
    if (!r->own_asked)
        ask(r);
}

/* --- the door -------------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
    renew_look(container_of(timer, struct renew, timer));
}

void renew_look(struct renew *r)
{
    int64_t wait_ms = renewal_wait_ms(&r->plan, clock_wall_ms(r->config.clock), clock_mono_ms(r->config.clock));

    if (r->state != WAITING)
        return;
    if (wait_ms == 0)
        begin(r);
    else
        uv_timer_start(&r->timer, on_timer, (uint64_t)wait_ms, 0);
}

void renew_soon(struct renew *r, int64_t delay_ms)
{
    if (r->state == CLOSED)
        return;
    if (r->state != WAITING) {
        r->is_wanted_again = true;
        return;
    }
    renewal_want(&r->plan, clock_wall_ms(r->config.clock), clock_mono_ms(r->config.clock), delay_ms);
    renew_look(r);
}

void renew_limit(struct renew *r, int64_t lifetime_ms, int64_t within_ms)
{
    if (r->state == CLOSED)
        return;
    renewal_shorten(&r->plan, clock_wall_ms(r->config.clock), lifetime_ms, within_ms, random32(r));
    renew_look(r);
}

void renew_set_tls(struct renew *r, struct tls *tls)
{
    tls_unref(r->tls);
    r->tls = tls_ref(tls);
}

bool renew_expired(const struct renew *r)
{
    return renewal_expired(&r->plan, clock_wall_ms(r->config.clock));
}

int renew_open(const struct renew_config *config, struct renew **ret, struct err *e)
{
    struct renew *r = mem_alloc(sizeof(*r));

    r->config = *config;
    int rc = read_facts(r, config->certificate_pem, e);
    if (rc < 0) {
        free(r);
        return rc;
    }
    r->config.certificate_pem = NULL; /* borrowed until here */
    r->tls = tls_ref(config->tls);
    uv_timer_init(config->loop, &r->timer);
    uv_timer_start(&r->timer, on_timer, 0, 0); /* the first look, from the loop */
    *ret = r;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct renew *r = container_of((uv_timer_t *)handle, struct renew, timer);

    r->timer_closed = true;
    maybe_free(r);
}

void renew_close(struct renew *r, void (*closed)(void *ctx), void *ctx)
{
    r->closed = closed;
    r->closed_ctx = ctx;
    sm_move(&machine, &r->state, CLOSED);
    uv_close((uv_handle_t *)&r->timer, on_timer_closed);
    if (r->conn)
        rpc_conn_close(r->conn);
}
