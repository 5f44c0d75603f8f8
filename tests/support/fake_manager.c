/* See fake_manager.h. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/ca/ca.h"
#include "proto/base/clock.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/join.pb-c.h"
#include "tests/support/fake_manager.h"

struct manager {
    struct manager_config config;
    char node_id[26], cluster_id[26];
    uv_timer_t later; /* callbacks come from the loop */
    bool ready;
    void (*closed)(void *ctx);
    void *closed_ctx;
    struct buf reply; /* of manager_issue */
    struct err e;
    void (*issued)(void *ctx, const struct err *e, const void *reply, size_t reply_size); /* NULL: none under way */
    void *issued_ctx;
};

struct fake_manager fake_manager;

static void copy(char *to, size_t size, const char *text)
{
    (void)snprintf(to, size, "%s", text ? text : ""); /* tests use short ones */
}

void fake_manager_reset(void)
{
    assert(!fake_manager.open);
    free(fake_manager.root_pem);
    free(fake_manager.root_key_pem);
    free(fake_manager.trust_pem);
    fake_manager = (struct fake_manager){.port = 2377};
}

/* --- life ------------------------------------------------------------------------------------------ */

int manager_open(const struct manager_config *config, struct manager **ret, struct err *e)
{
    struct manager *m;

    assert(!fake_manager.open);
    if (fake_manager.refuse_open.code) {
        *e = fake_manager.refuse_open;
        return e->code;
    }
    assert(config->description);
    m = mem_alloc(sizeof(*m));
    m->config = *config;
    copy(m->node_id, sizeof(m->node_id), config->node_id);
    copy(m->cluster_id, sizeof(m->cluster_id), config->cluster_id);
    uv_timer_init(config->node->async.loop, &m->later);
    m->later.data = m;
    fake_manager.open = *ret = m;
    fake_manager.opens++;
    fake_manager.raft_id = config->raft_id;
    fake_manager.epoch = config->epoch;
    fake_manager.forced = config->force_new_cluster;
    fake_manager.had_bootstrap = config->bootstrap != NULL;
    copy(fake_manager.listen, sizeof(fake_manager.listen), config->listen_address);
    copy(fake_manager.advertise, sizeof(fake_manager.advertise), config->advertise_address);
    fake_manager.has_unlock_key = config->bootstrap && config->bootstrap->has_unlock_key;
    if (fake_manager.has_unlock_key)
        memcpy(fake_manager.unlock_key, config->bootstrap->unlock_key.data, MANAGER_LOCK_KEY);
    if (config->bootstrap) {
        free(fake_manager.root_pem);
        free(fake_manager.root_key_pem);
        fake_manager.root_pem = mem_strdup(config->root_pem);
        fake_manager.root_key_pem = mem_strdup(config->root_key_pem);
    }
    return 0;
}

static void give_issued(struct manager *m)
{
    void (*issued)(void *ctx, const struct err *e, const void *reply, size_t reply_size) = m->issued;

    m->issued = NULL;
    if (issued)
        issued(m->issued_ctx, &m->e, m->e.code ? NULL : buf_bytes(&m->reply), m->reply.length);
    buf_clear(&m->reply);
}

static void on_closed(uv_handle_t *handle)
{
    struct manager *m = handle->data;
    void (*closed)(void *ctx) = m->closed;
    void *ctx = m->closed_ctx;

    give_issued(m);
    buf_fini(&m->reply);
    free(m);
    closed(ctx);
}

void manager_close(struct manager *m, void (*closed)(void *ctx), void *ctx)
{
    assert(m == fake_manager.open);
    m->closed = closed;
    m->closed_ctx = ctx;
    fake_manager.open = NULL;
    fake_manager.closes++;
    if (fake_manager.asked)
        fake_manager_reply(503, NULL, "{\"message\":\"the manager is stopping\"}", false);
    uv_close((uv_handle_t *)&m->later, on_closed);
}

void fake_manager_ready(void)
{
    struct manager *m = fake_manager.open;

    assert(m && !m->ready);
    m->ready = true;
    m->config.on_ready(m->config.ctx);
}

void fake_manager_stop(const char *why)
{
    struct manager *m = fake_manager.open;
    struct err e;

    assert(m);
    err_set(&e, ERR_IO, "%s", why);
    m->config.on_stopped(m->config.ctx, &e);
}

void fake_manager_lock_key(const uint8_t *key, uint64_t version)
{
    struct manager *m = fake_manager.open;

    assert(m);
    m->config.on_lock_key(m->config.ctx, key, version);
}

void fake_manager_remove(void)
{
    struct manager *m = fake_manager.open;

    assert(m && m->config.on_removed);
    m->config.on_removed(m->config.ctx);
}

int manager_port(const struct manager *m)
{
    return m->ready ? fake_manager.port : 0;
}

void manager_info(const struct manager *m, struct jwrite *j)
{
    jwrite_int(j, "Managers", 1);
    jwrite_array(j, "RemoteManagers");
    jwrite_object(j, NULL);
    jwrite_string(j, "NodeID", m->node_id);
    jwrite_string(j, "Addr", fake_manager.advertise);
    jwrite_end(j);
    jwrite_end(j);
}

void manager_warnings(const struct manager *m, struct jwrite *j)
{
    jwrite_string(j, NULL, "of the fake manager");
}

/* --- certificates ---------------------------------------------------------------------------------- */

void manager_set_certificate(struct manager *m, const char *certificate_pem, const char *key_pem,
                             const char *root_pem)
{
    fake_manager.certificates++;
}

static void on_later(uv_timer_t *timer)
{
    give_issued(timer->data);
}

int manager_issue(struct manager *m, const void *request_der, size_t size,
                  void (*done)(void *ctx, const struct err *e, const void *reply, size_t reply_size), void *ctx,
                  struct err *e)
{
    struct rpc_identity identity = {.role = RPC_ROLE_MANAGER};
    IssueReply reply = ISSUE_REPLY__INIT;
    AUTO_FREE
    char *certificate = NULL;
    uint8_t node[IDENT_BYTES], cluster[IDENT_BYTES];

    assert(m->ready && !m->issued);
    fake_manager.issues++;
    m->issued = done;
    m->issued_ctx = ctx;
    uv_timer_start(&m->later, on_later, 0, 0);
    copy(identity.node_id, sizeof(identity.node_id), m->node_id);
    copy(identity.cluster_id, sizeof(identity.cluster_id), m->cluster_id);
    m->e = (struct err){0};
    if (!fake_manager.root_pem) {
        err_set(&m->e, ERR_UNAVAILABLE, "this manager is not the leader");
        return 0;
    }
    if (ca_issue(fake_manager.root_pem, fake_manager.root_key_pem, request_der, size, &identity,
                 clock_wall_ms(clock_real()), 90LL * 24 * 3600 * 1000, &certificate, &m->e) < 0)
        return 0;
    (void)ident_parse(m->node_id, node);
    (void)ident_parse(m->cluster_id, cluster);
    reply.has_certificate_pem = reply.has_root_pem = reply.has_node_id = reply.has_cluster_id = true;
    reply.certificate_pem = (ProtobufCBinaryData){strlen(certificate), (uint8_t *)certificate};
    const char *trust = fake_manager.trust_pem ? fake_manager.trust_pem : fake_manager.root_pem;
    reply.root_pem = (ProtobufCBinaryData){strlen(trust), (uint8_t *)trust};
    reply.node_id = (ProtobufCBinaryData){sizeof(node), node};
    reply.cluster_id = (ProtobufCBinaryData){sizeof(cluster), cluster};
    size_t packed = issue_reply__get_packed_size(&reply);
    issue_reply__pack(&reply, (uint8_t *)buf_reserve(&m->reply, packed));
    buf_added(&m->reply, packed);
    return 0;
}

/* --- requests -------------------------------------------------------------------------------------- */

struct manager_request *manager_request_new(void)
{
    struct manager_request *r = mem_alloc(sizeof(*r));

    arena_init(&r->arena);
    return r;
}

static void request_free(struct manager_request *r)
{
    if (fake_manager.asked == r)
        fake_manager.asked = NULL;
    arena_fini(&r->arena);
    free(r);
}

bool manager_serves(const char *path)
{
    return strncmp(path, "/services", 9) == 0 || strncmp(path, "/swarm", 6) == 0;
}

void manager_ask(struct manager *m, struct manager_request *r)
{
    assert(m == fake_manager.open);
    r->manager = m;
    fake_manager.asked = r;
    fake_manager.asks++;
    copy(fake_manager.method, sizeof(fake_manager.method), r->method);
    copy(fake_manager.path, sizeof(fake_manager.path), r->path);
    copy(fake_manager.query, sizeof(fake_manager.query), r->query);
    copy(fake_manager.auth, sizeof(fake_manager.auth), r->registry_auth);
    (void)snprintf(fake_manager.body, sizeof(fake_manager.body), "%.*s", (int)r->body_size,
                   (const char *)r->body); /* tests use short ones */
    fake_manager.api_minor = r->api_minor;
}

void manager_more(struct manager_request *r)
{
    fake_manager.mores++;
}

void manager_drop(struct manager_request *r)
{
    fake_manager.drops++;
    request_free(r);
}

static void reply_with(struct manager_reply reply, const char *body)
{
    struct manager_request *r = fake_manager.asked;

    assert(r);
    buf_append(&reply.body, body, strlen(body));
    r->on_reply(r, &reply);
    if (!reply.more)
        request_free(r);
}

void fake_manager_reply(int status, const char *type, const char *body, bool more)
{
    reply_with((struct manager_reply){.status = status, .content_type = type, .more = more}, body);
}

void fake_manager_cut(void)
{
    reply_with((struct manager_reply){.status = 503, .cut = true}, "");
}
