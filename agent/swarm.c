/* See swarm.h.
 *
 * Order of founding: the manager first (its log on the disk makes the cluster real), the identity last and durably:
 * it alone decides, at the next start, whether this node is in a swarm. A crash before that leaves files without an
 * identity, which the next start removes; nothing was acknowledged. Order of leaving: the identity's directory is
 * renamed away before it is removed, so that no half membership can be resumed.
 *
 * One operation (init or leave) runs at a time; its client may go away meanwhile, the operation goes on. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/address.h"
#include "agent/agent.h"
#include "agent/convert.h"
#include "agent/identity.h"
#include "agent/swarm.h"
#include "manager/manager.h"
#include "proto/base/clock.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"
#include "proto/base/sm.h"
#include "proto/wire/cert.h"

#define MANAGER_PORT             2377
#define CERT_LIFETIME_DEFAULT_MS (90LL * 24 * 3600 * 1000)

enum state { INACTIVE, PENDING, ACTIVE, FAILED, LEAVING, CLOSED };

static const char *const state_names[] = {"inactive", "pending", "active", "error", "leaving", "closed"};
static const uint32_t moves[] = {
    [INACTIVE] = SM_TO(PENDING) | SM_TO(CLOSED),
    [PENDING] = SM_TO(ACTIVE) | SM_TO(FAILED) | SM_TO(INACTIVE) | SM_TO(LEAVING) | SM_TO(CLOSED),
    [ACTIVE] = SM_TO(LEAVING) | SM_TO(FAILED) | SM_TO(CLOSED),
    [FAILED] = SM_TO(LEAVING) | SM_TO(CLOSED),
    [LEAVING] = SM_TO(INACTIVE) | SM_TO(FAILED) | SM_TO(CLOSED),
    [CLOSED] = 0,
};
static const struct sm_table machine = {"swarm membership", state_names, moves, CLOSED + 1};

struct swarm {
    struct swarm_config config;
    int state;               /* enum state */
    struct err error;        /* why it failed */
    Identity *identity;      /* owned; NULL: in no swarm */
    struct tls *tls;         /* of the identity */
    struct manager *manager; /* NULL: none, or not yet */
    bool manager_ready;      /* it serves */
    struct agent *agent;     /* NULL before the engine is ready */
    bool engine_ready;
    bool is_founding;              /* an init is under way: the identity is not yet on the disk */
    struct http_exchange *waiting; /* the client of the operation under way; NULL: none, or gone */
    unsigned closing;              /* agent and manager, while they close */
    void (*then)(struct swarm *s); /* when both are closed */
    unsigned pending;              /* jobs and removals whose callbacks are still to come */
    unsigned removals;             /* those of containers, while leaving */
    bool parts_closed;             /* swarm_close: only pending callbacks are waited for */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* --- answers --------------------------------------------------------------------------------------- */

static const char already_text[] =
    "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one.";
static const char not_manager_text[] =
    "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to "
    "swarm and try again.";
static const char worker_text[] =
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this "
    "command on a manager node or promote the current node to a manager.";

static void on_client_gone(struct http_exchange *x)
{
    struct swarm *s = http_data(x);

    if (s->waiting == x)
        s->waiting = NULL;
}

static void wait_for(struct swarm *s, struct http_exchange *x)
{
    s->waiting = x;
    http_set_data(x, s);
    http_on_close(x, on_client_gone);
}

static void answer_error(struct swarm *s, const struct err *e)
{
    if (s->waiting)
        http_reply_error(s->waiting, e);
    s->waiting = NULL;
}

static void drop_identity(struct swarm *s)
{
    if (s->identity) {
        mem_wipe(s->identity->key_pem, strlen(s->identity->key_pem));
        mem_wipe(s->identity->data_key.data, s->identity->data_key.len);
    }
    message_free(s->identity);
    s->identity = NULL;
    tls_unref(s->tls);
    s->tls = NULL;
}

/* --- callbacks that must come before the end -------------------------------------------------------- */

static void finish(struct swarm *s)
{
    void (*closed)(void *ctx) = s->closed;
    void *ctx = s->closed_ctx;

    drop_identity(s);
    free(s);
    closed(ctx);
}

/* One of the pending callbacks is done with s. Returns false when s is closing: then it may be gone. */
static bool callback_came(struct swarm *s)
{
    s->pending--;
    if (s->state != CLOSED)
        return true;
    if (s->parts_closed && s->pending == 0)
        finish(s);
    return false;
}

/* --- the agent ------------------------------------------------------------------------------------- */

static bool is_manager(const struct swarm *s)
{
    return s->identity && s->identity->role == NODE_ROLE__MANAGER;
}

static bool same_managers(const Identity *identity, char *const *managers, size_t count)
{
    if (identity->n_managers != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (strcmp(identity->managers[i], managers[i]) != 0)
            return false;
    return true;
}

static void on_managers_written(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    if (e->code)
        log_warn("cannot remember the managers", "error=\"%s\"", e->text);
    callback_came(s);
}

/* Remember where the cluster is, for the next start. */
static void on_managers(void *ctx, char *const *managers, size_t count)
{
    struct swarm *s = ctx;
    struct err e;

    if (s->state != ACTIVE || same_managers(s->identity, managers, count))
        return;
    Identity changed = *s->identity;
    changed.managers = (char **)managers;
    changed.n_managers = count;
    Identity *copy = message_dup(&changed);
    message_free(s->identity);
    s->identity = copy;
    s->pending++;
    if (identity_write(s->config.loop, s->config.data_dir, s->identity, on_managers_written, s, &e) < 0)
        on_managers_written(s, &e);
}

static void connect_agent(struct swarm *s)
{
    AUTO_FREE
    char *own = NULL;
    const char *managers[] = {NULL};
    char host[64];
    struct err e;

    if (!s->agent)
        return;
    if (is_manager(s)) {
        if (!s->manager_ready)
            return;
        /* A manager's agent talks to its own manager as any other agent does, through the port that others use. */
        address_host(s->identity->listen_address, host, sizeof(host));
        if (strcmp(host, "0.0.0.0") == 0)
            (void)snprintf(host, sizeof(host), "127.0.0.1"); /* fits */
        else if (strcmp(host, "::") == 0)
            (void)snprintf(host, sizeof(host), "::1"); /* fits */
        own = mem_printf(strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, manager_port(s->manager));
        managers[0] = own;
    }
    int rc = own ? agent_connect(s->agent, managers, 1, &e)
                 : agent_connect(s->agent, (const char *const *)s->identity->managers, s->identity->n_managers, &e);
    if (rc < 0)
        log_error("cannot connect to the managers", "error=\"%s\"", e.text);
}

static void start_agent(struct swarm *s)
{
    struct agent_config config = {.loop = s->config.loop,
                                  .engine = s->config.engine,
                                  .clock = clock_real(),
                                  .entropy = entropy_real(),
                                  .data_dir = s->config.data_dir,
                                  .identity = s->identity,
                                  .tls = s->tls,
                                  .ctx = s,
                                  .on_managers = on_managers};
    struct err e;

    if (!s->engine_ready || s->agent || !s->identity || s->is_founding)
        return;
    if (agent_open(&config, &s->agent, &e) < 0) {
        s->agent = NULL;
        s->error = e;
        log_error("cannot start the agent", "error=\"%s\"", e.text);
        sm_move(&machine, &s->state, FAILED);
        return;
    }
    connect_agent(s);
}

/* --- the manager ----------------------------------------------------------------------------------- */

static void founded(struct swarm *s);

static void on_manager_ready(void *ctx)
{
    struct swarm *s = ctx;

    if (s->state != PENDING)
        return;
    s->manager_ready = true;
    if (s->is_founding) {
        founded(s);
        return;
    }
    sm_move(&machine, &s->state, ACTIVE);
    connect_agent(s);
}

static void undo_founding(struct swarm *s, const struct err *e);

static void on_manager_stopped(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    s->manager_ready = false;
    if (s->is_founding && s->state == PENDING) {
        undo_founding(s, e);
        return;
    }
    log_error("the manager has stopped", "error=\"%s\"", e->text);
    s->error = *e;
    if (s->state == PENDING || s->state == ACTIVE) {
        sm_move(&machine, &s->state, FAILED);
        s->config.on_fatal(s->config.ctx, e);
    }
}

static int start_manager(struct swarm *s, const Cluster *bootstrap, const char *root_key_pem, struct err *e)
{
    AUTO_FREE
    char *dir = mem_printf("%s/swarm/manager", s->config.data_dir);
    AUTO_ARENA struct arena arena;
    struct manager_config config = {
        .dir = dir,
        .listen_address = s->identity->listen_address,
        .advertise_address = s->identity->advertise_address,
        .data_key = s->identity->data_key.data,
        .node_id = s->identity->node_id,
        .cluster_id = s->identity->cluster_id,
        .certificate_pem = s->identity->certificate_pem,
        .key_pem = s->identity->key_pem,
        .root_pem = s->identity->root_pem,
        .root_key_pem = root_key_pem,
        .bootstrap = bootstrap,
        .availability = s->identity->availability,
        .node = s->config.mailbox,
        .election_ms = s->config.election_ms,
        .heartbeat_ms = s->config.heartbeat_ms,
        .ctx = s,
        .on_ready = on_manager_ready,
        .on_stopped = on_manager_stopped,
    };

    arena_init(&arena);
    config.description = engine_describe(s->config.engine, &arena);
    return manager_open(&config, &s->manager, e);
}

/* --- closing parts --------------------------------------------------------------------------------- */

static void on_part_closed(void *ctx)
{
    struct swarm *s = ctx;

    if (--s->closing == 0)
        s->then(s);
}

/* Close agent and manager, then go on; at once when there is neither. */
static void close_parts(struct swarm *s, void (*then)(struct swarm *s))
{
    s->then = then;
    if (s->closing) /* they are on their way already */
        return;
    s->closing = (s->agent != NULL) + (s->manager != NULL);
    s->manager_ready = false;
    struct agent *agent = steal(&s->agent);
    struct manager *manager = steal(&s->manager);
    if (agent)
        agent_close(agent, on_part_closed, s);
    if (manager)
        manager_close(manager, on_part_closed, s);
    if (!agent && !manager)
        then(s);
}

/* --- init ------------------------------------------------------------------------------------------ */

static void on_undone(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    if (e->code)
        log_warn("cannot remove what a failed init left", "error=\"%s\"", e->text);
    if (!callback_came(s))
        return;
    drop_identity(s);
    s->is_founding = false;
    sm_move(&machine, &s->state, INACTIVE);
    answer_error(s, &s->error);
}

static void undo_files(struct swarm *s)
{
    struct err e;

    s->pending++;
    if (identity_forget(s->config.loop, s->config.data_dir, on_undone, s, &e) < 0)
        on_undone(s, &e);
}

static void undo_founding(struct swarm *s, const struct err *e)
{
    log_error("cannot found the swarm", "error=\"%s\"", e->text);
    s->error = *e;
    close_parts(s, undo_files);
}

static void on_identity_written(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    if (!callback_came(s))
        return;
    if (e->code) {
        undo_founding(s, e);
        return;
    }
    s->is_founding = false;
    sm_move(&machine, &s->state, ACTIVE);
    log_info("swarm founded", "cluster=%s node=%s listen=%s advertise=%s", s->identity->cluster_id,
             s->identity->node_id, s->identity->listen_address, s->identity->advertise_address);
    start_agent(s);
    if (s->waiting) {
        AUTO_BUF struct buf body = {0};
        struct jwrite j = JWRITE_TO(&body);

        jwrite_string(&j, NULL, s->identity->node_id);
        http_reply_json(s->waiting, 200, &body);
        s->waiting = NULL;
    }
}

static void founded(struct swarm *s)
{
    struct err e;

    s->pending++;
    if (identity_write(s->config.loop, s->config.data_dir, s->identity, on_identity_written, s, &e) < 0)
        on_identity_written(s, &e);
}

/* Addresses as others and the manager need them, into the identity being made. */
static int init_addresses(const struct manager_init *init, Identity *identity, struct arena *a, struct err *e)
{
    char *listen = arena_alloc(a, ADDRESS_TEXT), *advertise = arena_alloc(a, ADDRESS_TEXT),
         *data_path = arena_alloc(a, ADDRESS_TEXT);
    int rc = address_listen(init->listen_address, MANAGER_PORT, "ListenAddr", listen, e);

    if (rc == 0)
        rc = address_advertise(init->advertise_address, listen, advertise, e);
    if (rc == 0 && *init->data_path_address)
        rc = address_listen(init->data_path_address, MANAGER_PORT, "DataPathAddr", data_path, e);
    if (rc < 0)
        return rc;
    identity->listen_address = listen;
    identity->advertise_address = advertise;
    identity->data_path_address = *data_path ? data_path : NULL;
    return 0;
}

/* Keys, ids and certificate, into the identity and the cluster object that are being made. */
static void use_founding(struct manager_founding *founding, Identity *identity, Cluster *cluster, struct arena *a)
{
    RootCa *root = ARENA_NEW(a, RootCa);
    uint8_t *cluster_id = arena_alloc(a, IDENT_BYTES);

    identity->node_id = founding->node_id;
    identity->cluster_id = founding->cluster_id;
    identity->role = NODE_ROLE__MANAGER;
    identity->certificate_pem = founding->certificate_pem;
    identity->key_pem = founding->key_pem;
    identity->root_pem = founding->root_pem;
    identity->has_data_key = true;
    identity->data_key = (ProtobufCBinaryData){sizeof(founding->data_key), founding->data_key};
    (void)ident_parse(founding->cluster_id, cluster_id); /* just made */
    cluster->id = (ProtobufCBinaryData){IDENT_BYTES, cluster_id};
    root_ca__init(root);
    root->has_certificate_pem = root->has_key_pem = true;
    root->certificate_pem = (ProtobufCBinaryData){strlen(founding->root_pem), (uint8_t *)founding->root_pem};
    root->key_pem = (ProtobufCBinaryData){strlen(founding->root_key_pem), (uint8_t *)founding->root_key_pem};
    root->worker_secret = founding->worker_secret;
    root->manager_secret = founding->manager_secret;
    cluster->root_ca = root;
}

static int check_inactive(const struct swarm *s, struct err *e)
{
    if (s->state == INACTIVE)
        return 0;
    if (s->state == PENDING && !s->identity)
        return err_set(e, ERR_UNAVAILABLE, "this node is still starting; try again in a moment");
    return err_set(e, ERR_UNAVAILABLE, "%s", already_text);
}

static int init(struct swarm *s, const char *body, size_t size, struct err *e)
{
    struct manager_founding founding = {0};
    Identity identity = IDENTITY__INIT;
    struct manager_init asked;
    AUTO_ARENA struct arena arena;

    arena_init(&arena);
    int rc = manager_init_parse(body, size, &arena, &asked, e);
    if (rc == 0)
        rc = init_addresses(&asked, &identity, &arena, e);
    if (rc == 0 && asked.force_new_cluster)
        rc = err_set(e, ERR_UNSUPPORTED,
                     "ForceNewCluster: recovering a lost cluster is not implemented in shoal " SHOAL_VERSION);
    if (rc < 0)
        return rc;
    const ClusterSpec *spec = asked.cluster->spec;
    int64_t lifetime_ms =
        spec && spec->has_node_cert_expiry_ns ? spec->node_cert_expiry_ns / 1000000 : CERT_LIFETIME_DEFAULT_MS;
    rc = manager_found(clock_wall_ms(clock_real()), lifetime_ms, &founding, e);
    if (rc < 0)
        return rc;
    use_founding(&founding, &identity, asked.cluster, &arena);
    identity.has_availability = true;
    identity.availability = asked.availability;
    rc = tls_new(identity.certificate_pem, identity.key_pem, identity.root_pem, &s->tls, e);
    if (rc == 0) {
        s->identity = message_dup(&identity);
        rc = start_manager(s, asked.cluster, founding.root_key_pem, e);
        if (rc < 0)
            drop_identity(s);
    }
    manager_founding_free(&founding);
    return rc;
}

static void on_init_body(struct http_exchange *x, const char *body, size_t length)
{
    struct swarm *s = http_data(x);
    struct err e;

    /* Asked again: somebody else may have been quicker while the body came. */
    if (check_inactive(s, &e) < 0 || init(s, body, length, &e) < 0) {
        http_reply_error(x, &e);
        return;
    }
    sm_move(&machine, &s->state, PENDING);
    s->is_founding = true;
    wait_for(s, x);
}

static void http_init(struct swarm *s, struct http_exchange *x)
{
    struct err e;

    if (check_inactive(s, &e) < 0) {
        http_reply_error(x, &e);
        return;
    }
    http_set_data(x, s);
    http_collect(x, on_init_body);
}

/* --- leave ----------------------------------------------------------------------------------------- */

static void on_left(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    if (!callback_came(s))
        return;
    if (e->code) {
        s->error = *e;
        sm_move(&machine, &s->state, FAILED);
        answer_error(s, e);
        return;
    }
    log_info("left the swarm", "cluster=%s node=%s", s->identity ? s->identity->cluster_id : "?",
             s->identity ? s->identity->node_id : "?");
    drop_identity(s);
    sm_move(&machine, &s->state, INACTIVE);
    if (s->waiting)
        http_reply_empty(s->waiting, 200);
    s->waiting = NULL;
}

static void forget(struct swarm *s)
{
    struct err e;

    s->pending++;
    if (identity_forget(s->config.loop, s->config.data_dir, on_left, s, &e) < 0)
        on_left(s, &e);
}

static void on_task_container_removed(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    if (e->code && e->code != ERR_NOT_FOUND)
        log_warn("cannot remove a task's container", "error=\"%s\"", e->text);
    if (callback_came(s) && --s->removals == 0)
        forget(s);
}

/* Kill and remove the containers of this node's tasks, as leaving does in Docker. */
static void remove_task_containers(struct swarm *s)
{
    const ContainerRecord *record;
    AUTO_ARENA struct arena arena;
    char **ids = NULL;
    size_t at = 0, count = 0;
    struct err e;

    arena_init(&arena);
    while (engine_next(s->config.engine, &at, &record))
        for (size_t i = 0; i < record->config->n_labels; i++)
            if (strcmp(record->config->labels[i]->key, CONVERT_LABEL_NODE) == 0) {
                ids = arena_append(&arena, ids, count, sizeof(*ids));
                ids[count++] = arena_strdup(&arena, record->id);
                break;
            }
    s->removals = 1; /* of this function, so that the last callback cannot end it too early */
    for (size_t i = 0; i < count; i++) {
        s->removals++;
        s->pending++;
        if (engine_remove(s->config.engine, ids[i], true, true, on_task_container_removed, s, &e) < 0) {
            log_warn("cannot remove a task's container", "container=%s error=\"%s\"", ids[i], e.text);
            s->removals--;
            s->pending--;
        }
    }
    if (--s->removals == 0)
        forget(s);
}

static void http_leave(struct swarm *s, struct http_exchange *x)
{
    struct err e;

    if (s->state == INACTIVE) {
        err_set(&e, ERR_UNAVAILABLE, "This node is not part of a swarm");
        http_reply_error(x, &e);
        return;
    }
    if ((s->state != ACTIVE && s->state != FAILED) || !s->engine_ready) {
        err_set(&e, ERR_UNAVAILABLE, "this node is %s; try again in a moment", state_names[s->state]);
        http_reply_error(x, &e);
        return;
    }
    if (is_manager(s) && !http_query_bool(x, "force")) {
        err_set(
            &e, ERR_UNAVAILABLE,
            "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last "
            "manager erases all current state of the swarm. Use `--force` to ignore this message. ");
        http_reply_error(x, &e);
        return;
    }
    sm_move(&machine, &s->state, LEAVING);
    wait_for(s, x);
    close_parts(s, remove_task_containers);
}

/* --- the node's own part of the API ---------------------------------------------------------------- */

static void http_later(struct swarm *s, struct http_exchange *x)
{
    struct err e;

    err_set(&e, ERR_UNSUPPORTED, "%s is not implemented in shoal " SHOAL_VERSION, http_path(x));
    http_reply_error(x, &e);
}

static void http_not_found(struct http_exchange *x)
{
    struct err e;

    err_set(&e, ERR_NOT_FOUND, "page not found");
    http_reply_error(x, &e);
}

bool swarm_http(struct swarm *s, struct http_exchange *x, const char *path)
{
    static const struct {
        const char *path;
        void (*serve)(struct swarm *s, struct http_exchange *x);
    } routes[] = {{"/swarm/init", http_init},
                  {"/swarm/leave", http_leave},
                  {"/swarm/join", http_later},
                  {"/swarm/unlock", http_later}};

    for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
        if (strcmp(path, routes[i].path) != 0)
            continue;
        if (strcmp(http_method(x), "POST") == 0)
            routes[i].serve(s, x);
        else
            http_not_found(x);
        return true;
    }
    return false;
}

struct manager *swarm_manager(struct swarm *s, struct err *e)
{
    if (s->manager_ready)
        return s->manager;
    if (s->state == FAILED)
        err_set(e, ERR_UNAVAILABLE, "the swarm on this node has failed: %s", s->error.text);
    else if (!s->identity)
        err_set(e, ERR_UNAVAILABLE, "%s", not_manager_text);
    else if (!is_manager(s))
        err_set(e, ERR_UNAVAILABLE, "%s", worker_text);
    else
        err_set(e, ERR_UNAVAILABLE, "the manager on this node is %s; try again in a moment",
                s->state == LEAVING ? "leaving the swarm" : "starting");
    return NULL;
}

const char *swarm_header(const struct swarm *s)
{
    switch (s->state) {
    case PENDING:
        return "pending";
    case ACTIVE:
        return is_manager(s) ? "active/manager" : "active/worker";
    case FAILED:
        return "error";
    default:
        return "inactive";
    }
}

void swarm_info(const struct swarm *s, struct jwrite *j)
{
    char host[64] = "";

    if (s->identity && s->identity->advertise_address)
        address_host(s->identity->advertise_address, host, sizeof(host));
    jwrite_string(j, "NodeID", s->identity ? s->identity->node_id : "");
    jwrite_string(j, "NodeAddr", host);
    jwrite_string(j, "LocalNodeState",
                  s->state == LEAVING || s->state == CLOSED ? "inactive" : state_names[s->state]);
    jwrite_bool(j, "ControlAvailable", s->manager_ready);
    jwrite_string(j, "Error", s->state == FAILED ? s->error.text : "");
    if (is_manager(s)) {
        jwrite_array(j, "RemoteManagers");
        jwrite_object(j, NULL);
        jwrite_string(j, "NodeID", s->identity->node_id);
        jwrite_string(j, "Addr", s->identity->advertise_address);
        jwrite_end(j);
        jwrite_end(j);
    } else {
        jwrite_null(j, "RemoteManagers");
    }
    if (s->manager_ready)
        manager_info(s->manager, j);
}

/* --- opening and closing --------------------------------------------------------------------------- */

static void resume(struct swarm *s)
{
    struct err e;

    log_info("resuming", "cluster=%s node=%s role=%s", s->identity->cluster_id, s->identity->node_id,
             is_manager(s) ? "manager" : "worker");
    sm_move(&machine, &s->state, PENDING);
    int rc = tls_new(s->identity->certificate_pem, s->identity->key_pem, s->identity->root_pem, &s->tls, &e);
    if (rc == 0 && is_manager(s))
        rc = start_manager(s, NULL, NULL, &e);
    if (rc == 0 && !is_manager(s))
        sm_move(&machine, &s->state, ACTIVE);
    if (rc < 0) {
        log_error("cannot resume", "error=\"%s\"", e.text);
        s->error = e;
        sm_move(&machine, &s->state, FAILED);
    }
}

static void on_leftovers_removed(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    if (e->code)
        log_warn("cannot remove what an unfinished init or leave left", "error=\"%s\"", e->text);
    if (callback_came(s))
        sm_move(&machine, &s->state, INACTIVE);
}

/* This node is in no swarm: nothing of one may lie about. */
static void remove_leftovers(struct swarm *s)
{
    AUTO_FREE
    char *left = mem_printf("%s/swarm", s->config.data_dir);
    AUTO_FREE
    char *renamed = mem_printf("%s/.swarm.left", s->config.data_dir);
    struct err e;

    if (access(left, F_OK) < 0 && access(renamed, F_OK) < 0)
        return;
    sm_move(&machine, &s->state, PENDING);
    s->pending++;
    if (identity_forget(s->config.loop, s->config.data_dir, on_leftovers_removed, s, &e) < 0)
        on_leftovers_removed(s, &e);
}

struct swarm *swarm_open(const struct swarm_config *config)
{
    struct swarm *s = mem_alloc(sizeof(*s));
    struct err e;

    s->config = *config;
    int rc = identity_read(config->data_dir, &s->identity, &e);
    if (rc == 0) {
        resume(s);
    } else if (rc == ERR_NOT_FOUND) {
        remove_leftovers(s);
    } else {
        log_error("cannot read this node's identity", "error=\"%s\"", e.text);
        s->error = e;
        sm_move(&machine, &s->state, PENDING);
        sm_move(&machine, &s->state, FAILED);
    }
    return s;
}

void swarm_engine_ready(struct swarm *s)
{
    s->engine_ready = true;
    start_agent(s);
}

static void on_all_closed(struct swarm *s)
{
    s->parts_closed = true;
    if (s->pending == 0)
        finish(s);
}

void swarm_close(struct swarm *s, void (*closed)(void *ctx), void *ctx)
{
    struct err e = {.code = ERR_CANCELED, .text = "the daemon is stopping"};

    s->closed = closed;
    s->closed_ctx = ctx;
    answer_error(s, &e);
    sm_move(&machine, &s->state, CLOSED);
    close_parts(s, on_all_closed);
}
