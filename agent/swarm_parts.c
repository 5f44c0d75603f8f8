/* The two parts of a membership, agent and manager: opening them, telling them of each other, closing them
 * (swarm.h).
 *
 * The agent opens as soon as there is an engine and an identity on the disk, and does not wait for the manager:
 * what the ledger remembers runs on meanwhile. It dials once it is known where the cluster is; on a manager that is
 * the manager's own port, when it serves. Closing ends both, and the renewal, and goes on when all are gone.
 *
 * A manager that finds no room on the disk, or that must rebuild its store from the log, stops and is opened again
 * every second until it serves; clients are told why meanwhile, and the agent dials as it does after every loss. A
 * manager whose log failed ends the process. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/address.h"
#include "agent/swarm_internal.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/wire/tcp.h"

#define REOPEN_MS 1000

static void stop_timer(struct swarm *s);
static void reopen_later(struct swarm *s);

/* --- the agent ------------------------------------------------------------------------------------- */

bool swarm_is_manager(const struct swarm *s)
{
    return s->identity && s->identity->role == NODE_ROLE__MANAGER;
}

/* Remember where the cluster is, for the next start. */
static void on_managers(void *ctx, char *const *managers, size_t count)
{
    swarm_set_managers(ctx, managers, count);
}

static void on_epoch(void *ctx, uint64_t epoch)
{
    swarm_set_epoch(ctx, epoch);
}

static void on_session(void *ctx)
{
    struct swarm *s = ctx;

    if (s->awaits_session && (!swarm_is_manager(s) || s->manager_ready))
        swarm_joined(s);
}

bool swarm_is_own(const struct swarm *s, const char *address)
{
    return s->identity->advertise_address && strcmp(s->identity->advertise_address, address) == 0;
}

/* By the address that others use, so that the leader sees this agent where others do; should no interface have it
 * (it is that of a gateway, or gone), by loopback. */
char *swarm_own_address(const struct swarm *s)
{
    char host[64], advertised[64], address[ADDRESS_TEXT];

    if (!s->manager_ready)
        return NULL;
    address_hear(s->identity->listen_address, s->identity->advertise_address, address);
    address_host(address, host, sizeof(host));
    address_host(s->identity->advertise_address, advertised, sizeof(advertised));
    if (address_is_unspecified(host)) {
        bool is_six = strchr(host, ':') != NULL;

        if (address_is_here(advertised) && is_six == (strchr(advertised, ':') != NULL))
            (void)snprintf(host, sizeof(host), "%s", advertised); /* same size */
        else
            (void)snprintf(host, sizeof(host), "%s", is_six ? "::1" : "127.0.0.1"); /* fits */
    }
    address_make(host, manager_port(s->manager), address);
    return mem_strdup(address);
}

/* A manager's agent talks to its own manager first, as any other agent does, through the port that others use; that
 * one sends it to the leader. While the own one does not serve, others do. */
void swarm_connect_agent(struct swarm *s)
{
    AUTO_FREE
    char *own = swarm_own_address(s);
    AUTO_FREE
    const char **managers = NULL;
    size_t count = 0;
    struct err e;

    if (!s->agent || !s->tls || s->is_entering) /* while it is locked its tasks run, but nobody is dialed */
        return;
    managers = mem_array(s->identity->n_managers + 1, sizeof(*managers));
    if (own)
        managers[count++] = own;
    for (size_t i = 0; i < s->identity->n_managers; i++)
        if (!swarm_is_manager(s) || !swarm_is_own(s, s->identity->managers[i]))
            managers[count++] = s->identity->managers[i];
    if (count && agent_connect(s->agent, managers, count, &e) < 0)
        log_error("cannot connect to the managers", "error=\"%s\"", e.text);
}

void swarm_start_agent(struct swarm *s)
{
    struct agent_config config = {.loop = s->config.loop,
                                  .engine = s->config.engine,
                                  .clock = s->config.clock,
                                  .entropy = s->config.entropy,
                                  .data_dir = s->config.data_dir,
                                  .identity = s->identity,
                                  .tls = s->tls,
                                  .ctx = s,
                                  .on_managers = on_managers,
                                  .on_node = swarm_on_node,
                                  .on_authority = swarm_on_authority,
                                  .on_epoch = on_epoch,
                                  .on_session = on_session};
    struct err e;

    if (!s->engine_ready || s->agent || !s->identity || s->is_entering)
        return;
    if (agent_open(&config, &s->agent, &e) < 0) {
        s->agent = NULL;
        s->error = e;
        log_error("cannot start the agent", "error=\"%s\"", e.text);
        swarm_move(s, SWARM_FAILED);
        return;
    }
    swarm_connect_agent(s);
}

/* --- the manager ----------------------------------------------------------------------------------- */

static void on_manager_ready(void *ctx)
{
    struct swarm *s = ctx;

    if ((s->state != SWARM_PENDING && s->state != SWARM_ACTIVE) || s->role.is_ending)
        return;
    s->manager_ready = true;
    if (s->reopen.waits)
        log_info("the manager serves again", "%s", "");
    s->reopen.waits = false;
    if (s->is_entering) {
        swarm_founded(s);
        return;
    }
    if (s->identity->forces_new_cluster)
        swarm_forced(s);
    if (s->state == SWARM_PENDING)
        swarm_move(s, SWARM_ACTIVE);
    swarm_write_out(s);
    swarm_start_renewal(s);
    swarm_connect_agent(s); /* it may listen elsewhere */
    swarm_announce(s);
    if (s->awaits_session && s->agent && agent_manager(s->agent))
        swarm_joined(s);
    swarm_tell(s);
}

static void on_part_closed(void *ctx);

static void on_reopen(uv_timer_t *timer)
{
    struct swarm *s = timer->data;

    stop_timer(s);
    swarm_open_manager(s);
}

static void on_timer_closed(uv_handle_t *timer)
{
    free(timer);
}

static void stop_timer(struct swarm *s)
{
    if (s->reopen.timer)
        uv_close((uv_handle_t *)steal(&s->reopen.timer), on_timer_closed);
}

static void reopen_later(struct swarm *s)
{
    s->reopen.timer = mem_alloc(sizeof(*s->reopen.timer));
    uv_timer_init(s->config.loop, s->reopen.timer);
    s->reopen.timer->data = s;
    uv_timer_start(s->reopen.timer, on_reopen, REOPEN_MS, 0);
}

static void on_stopped_manager_closed(void *ctx)
{
    struct swarm *s = ctx;

    s->reopen.closing = false;
    if (s->closing)
        on_part_closed(s);
    else if (s->role.is_ending)
        swarm_role_ended(s);
    else if (s->state == SWARM_PENDING || s->state == SWARM_ACTIVE)
        reopen_later(s);
}

void swarm_end_manager(struct swarm *s)
{
    s->manager_ready = s->reopen.waits = false;
    stop_timer(s);
    if (s->manager) {
        s->reopen.closing = true;
        manager_close(steal(&s->manager), on_stopped_manager_closed, s);
    } else if (!s->reopen.closing) {
        swarm_role_ended(s);
    }
    swarm_tell(s);
}

static void close_to_reopen(struct swarm *s)
{
    s->reopen.waits = s->reopen.closing = true;
    manager_close(steal(&s->manager), on_stopped_manager_closed, s);
    swarm_tell(s);
}

static void on_manager_stopped(void *ctx, const struct err *e)
{
    struct swarm *s = ctx;

    s->manager_ready = false;
    if (s->role.is_ending)
        return;
    if (s->is_entering && s->state == SWARM_PENDING) {
        swarm_undo_entering(s, e);
        return;
    }
    log_error("the manager has stopped", "error=\"%s\"", e->text);
    s->error = *e;
    if (s->state != SWARM_PENDING && s->state != SWARM_ACTIVE)
        return;
    if (e->code == ERR_UNAVAILABLE) {
        close_to_reopen(s);
    } else {
        swarm_move(s, SWARM_FAILED);
        s->config.on_fatal(s->config.ctx, e);
    }
}

static void on_manager_event(void *ctx, const struct manager_event *event)
{
    struct swarm *s = ctx;
    const char *pairs[2 * MANAGER_EVENT_ATTRIBUTES];

    _Static_assert(MANAGER_EVENT_ATTRIBUTES <= ENGINE_EVENT_PAIRS, "the engine takes all of them");
    for (size_t i = 0; i < event->count; i++) {
        pairs[2 * i] = event->attributes[i].key;
        pairs[2 * i + 1] = event->attributes[i].value;
    }
    engine_swarm_event(s->config.engine, event->type, event->action, event->id, pairs, event->count);
}

/* Somebody else may use the port: a manager that cannot listen would end the process. */
static int check_port(const struct swarm *s, struct err *e)
{
    char listen[ADDRESS_TEXT];

    address_hear(s->identity->listen_address, s->identity->advertise_address, listen);
    int fd = -1, rc = tcp_bind(listen, &fd, e);
    if (rc < 0)
        return err_wrap(e, "the manager's port");
    close(fd);
    return 0;
}

void swarm_open_manager(struct swarm *s)
{
    struct err e;

    if (check_port(s, &e) == 0 && swarm_start_manager(s, NULL, NULL, &e) == 0)
        return;
    if (!s->reopen.waits)
        log_error("cannot open the manager; it is tried again", "error=\"%s\"", e.text);
    s->error = e;
    s->reopen.waits = true;
    reopen_later(s);
    swarm_tell(s);
}

int swarm_start_manager(struct swarm *s, const Cluster *bootstrap, const char *root_key_pem, struct err *e)
{
    AUTO_FREE
    char *dir = mem_printf("%s/swarm/manager", s->config.data_dir);
    char listen[ADDRESS_TEXT];
    AUTO_ARENA struct arena arena;
    struct manager_config config = {
        .dir = dir,
        .listen_address = listen,
        .advertise_address = s->identity->advertise_address,
        .data_key = s->identity->data_key.data,
        .raft_id = s->identity->has_raft_id ? s->identity->raft_id : MANAGER_RAFT_ID_FIRST,
        .epoch = s->identity->epoch,
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
        .on_removed = swarm_on_removed,
        .force_new_cluster = s->identity->forces_new_cluster,
        .on_lock_key = swarm_set_lock_key,
        .on_event = on_manager_event,
    };

    arena_init(&arena);
    address_hear(s->identity->listen_address, s->identity->advertise_address, listen);
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

/* See swarm_internal.h. */
void swarm_close_parts(struct swarm *s, void (*then)(struct swarm *s))
{
    s->then = then;
    if (s->closing) /* they are on their way already */
        return;
    s->closing = (s->agent != NULL) + (s->manager != NULL) + (s->renew != NULL) + (s->join != NULL) +
                 (s->role.member != NULL) + s->reopen.closing;
    s->manager_ready = s->reopen.waits = false;
    stop_timer(s);
    bool none = s->closing == 0;
    struct agent *agent = steal(&s->agent);
    struct manager *manager = steal(&s->manager);
    struct renew *renew = steal(&s->renew);
    struct join *join = steal(&s->join);
    struct member *member = steal(&s->role.member);
    if (member)
        member_close(member, on_part_closed, s);
    if (join)
        join_close(join, on_part_closed, s);
    if (renew)
        renew_close(renew, on_part_closed, s);
    if (agent && s->state == SWARM_CLOSED)
        agent_leave_session(agent);
    if (agent)
        agent_close(agent, on_part_closed, s);
    if (manager)
        manager_close(manager, on_part_closed, s);
    if (none)
        then(s);
}
