/* See member.h.
 *
 *     waiting --> asking --> done
 *        ^           |  redirected: asking the leader, a few times in a row
 *        +-----------+  unreachable, no leader, refused: after a back-off, whoever comes next
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/address.h"
#include "agent/agent.h"
#include "agent/call.h"
#include "agent/member.h"
#include "proto/base/arena.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/sm.h"
#include "proto/wire/methods.h"

#define CALL_MS          5000
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS   2000
#define REDIRECTS_MAX    3

enum state { WAITING, ASKING, DONE };

static const char *const state_names[] = {"waiting", "asking", "done"};
static const uint32_t moves[] = {
    [WAITING] = SM_TO(ASKING) | SM_TO(DONE),
    [ASKING] = SM_TO(ASKING) | SM_TO(WAITING) | SM_TO(DONE),
    [DONE] = 0,
};
static const struct sm_table machine = {"membership of the managers' group", state_names, moves, DONE + 1};

struct member {
    struct member_config config; /* without what is only borrowed */
    int state;                   /* enum state */
    char cluster_id[IDENT_TEXT + 1];
    char own[ADDRESS_TEXT];
    char leader[ADDRESS_TEXT]; /* as we were told; "": nobody did */
    unsigned attempts, redirects;
    uint64_t give_up_ms; /* loop time; 0: never */
    uint64_t backoff_ms;
    struct call *call; /* NULL: none */
    uv_timer_t timer;
    bool timer_closed;
    void (*closed)(void *ctx); /* NULL: not yet closing */
    void *closed_ctx;
};

static void ask(struct member *m);

static void maybe_free(struct member *m)
{
    void (*closed)(void *ctx) = m->closed;
    void *ctx = m->closed_ctx;

    if (!closed || m->call || !m->timer_closed)
        return;
    free(m);
    closed(ctx);
}

static void on_timer(uv_timer_t *timer)
{
    ask(container_of(timer, struct member, timer));
}

static void again_later(struct member *m, const struct err *e)
{
    uint64_t wait_ms = m->backoff_ms / 2 + entropy_below(m->config.entropy, m->backoff_ms);

    m->leader[0] = '\0';
    m->redirects = 0;
    m->backoff_ms = MIN(m->backoff_ms * 2, BACKOFF_MAX_MS);
    if (m->give_up_ms && uv_now(m->config.loop) + wait_ms >= m->give_up_ms) {
        sm_move(&machine, &m->state, DONE);
        m->config.done(m->config.ctx, e, NULL);
        return;
    }
    sm_move(&machine, &m->state, WAITING);
    uv_timer_start(&m->timer, on_timer, wait_ms, 0);
}

static void follow_redirect(struct member *m, const char *leader)
{
    struct err e;

    if (strlen(leader) >= sizeof(m->leader) || ++m->redirects > REDIRECTS_MAX) {
        err_set(&e, ERR_UNAVAILABLE, "managers send us in a circle: the cluster has no settled leader");
        again_later(m, &e);
        return;
    }
    memcpy(m->leader, leader, strlen(leader) + 1);
    ask(m);
}

static void on_answer(void *ctx, const struct err *e, bool reached, const void *data, size_t size)
{
    struct member *m = ctx;
    AUTO_ARENA struct arena a;
    struct err bad = *e;

    arena_init(&a);
    m->call = NULL;
    if (m->closed) {
        maybe_free(m);
        return;
    }
    const MemberReply *reply = e->code ? NULL : arena_unpack(&a, &member_reply__descriptor, data, size);
    if (reply && reply->redirect) {
        follow_redirect(m, reply->redirect);
        return;
    }
    if (reply && (m->config.leave || (reply->has_raft_id && reply->raft_id && reply->has_epoch))) {
        sm_move(&machine, &m->state, DONE);
        m->config.done(m->config.ctx, e, reply);
        return;
    }
    if (e->code == 0)
        err_set(&bad, ERR_CORRUPT, "a manager gave a malformed answer");
    log_info("a manager does not take us for a member yet", "attempt=%u error=\"%s\"", m->attempts, bad.text);
    if (reached && bad.code != ERR_UNAVAILABLE && m->config.on_refused)
        m->config.on_refused(m->config.ctx, &bad);
    if (m->closed)
        maybe_free(m);
    else
        again_later(m, &bad);
}

static size_t make_request(const struct member *m, struct arena *a, uint8_t **ret)
{
    MemberRequest request = MEMBER_REQUEST__INIT;

    request.address = (char *)m->own;
    request.has_raft_id = m->config.raft_id > 0;
    request.raft_id = m->config.raft_id;
    request.has_feature_level = true;
    request.feature_level = AGENT_FEATURE_LEVEL;
    request.has_leave = request.leave = m->config.leave;
    size_t size = member_request__get_packed_size(&request);
    *ret = arena_alloc(a, size);
    return member_request__pack(&request, *ret);
}

static void ask(struct member *m)
{
    struct call_config config = {.loop = m->config.loop,
                                 .tls = m->config.tls(m->config.ctx),
                                 .expect_roles = RPC_ROLE_MANAGER,
                                 .expect_cluster = m->cluster_id,
                                 .method = METHOD_MEMBER,
                                 .reply_bytes_max = METHOD_JOIN_BYTES_MAX,
                                 .timeout_ms = CALL_MS,
                                 .ctx = m,
                                 .done = on_answer};
    AUTO_ARENA struct arena a;
    uint8_t *message;
    struct err e;

    arena_init(&a);
    sm_move(&machine, &m->state, ASKING);
    if (m->give_up_ms)
        config.timeout_ms = (int)MIN(MAX((int64_t)(m->give_up_ms - uv_now(m->config.loop)), 1), CALL_MS);
    config.address = *m->leader ? m->leader : m->config.address(m->config.ctx, m->attempts++);
    config.size = make_request(m, &a, &message);
    config.message = message;
    if (!config.address)
        err_set(&e, ERR_UNAVAILABLE, "no other manager is known");
    else if (call_start(&config, &m->call, &e) == 0)
        return;
    again_later(m, &e);
}

/* --- the door -------------------------------------------------------------------------------------- */

struct member *member_open(const struct member_config *config)
{
    struct member *m = mem_alloc(sizeof(*m));

    m->config = *config;
    (void)snprintf(m->cluster_id, sizeof(m->cluster_id), "%s", config->cluster_id); /* an id fits */
    (void)snprintf(m->own, sizeof(m->own), "%s", config->own);                      /* an address of ours fits */
    m->config.cluster_id = m->config.own = NULL;
    m->backoff_ms = BACKOFF_FIRST_MS;
    m->give_up_ms = config->patience_ms ? uv_now(config->loop) + (uint64_t)config->patience_ms : 0;
    uv_timer_init(config->loop, &m->timer);
    uv_timer_start(&m->timer, on_timer, 0, 0); /* from the loop */
    return m;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct member *m = container_of((uv_timer_t *)handle, struct member, timer);

    m->timer_closed = true;
    maybe_free(m);
}

void member_close(struct member *m, void (*closed)(void *ctx), void *ctx)
{
    m->closed = closed;
    m->closed_ctx = ctx;
    uv_close((uv_handle_t *)&m->timer, on_timer_closed);
    if (m->call)
        call_cancel(m->call);
}
