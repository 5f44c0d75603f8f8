/* See agent.h.
 *
 * Down: a message of the session changes the assignment, which tells the worker; after a full set what nobody
 * assigned is swept. A message that does not fit (a gap, another digest) asks for the full set again; a malformed
 * one ends the session.
 *
 * Up: a status of the worker is put into the report and its task is marked; once per turn of the loop the marked
 * tasks go to the ledger and then the report goes out: what a manager heard is never news to us after a restart, so
 * that states only move forward. (A full disk is the exception: then the report goes out all the same.) Without
 * credit the report waits for on_writable, and newer
 * statuses replace older ones meanwhile. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/assignment.h"
#include "agent/ledger.h"
#include "agent/logs.h"
#include "agent/report.h"
#include "agent/session.h"
#include "agent/worker.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"

#define LEDGER_RETRY_MS 1000

struct agent {
    struct agent_config config;
    char node_id[IDENT_TEXT + 1], cluster_id[IDENT_TEXT + 1];
    uint64_t certificate_issuer, trust; /* digests for the description (proto/wire/cert.h) */
    struct ledger *ledger;
    struct assignment *assignment;
    struct worker *worker;
    struct report *report;
    struct session *session; /* NULL before agent_connect */
    struct logs *logs;
    uv_timer_t flush;       /* end of turn: ledger and report */
    bool is_asking;         /* for the full set: what comes before it begins does not fit, as is known */
    bool is_unflushed;      /* something changed in this turn, and is said once it is remembered */
    uint64_t epoch;         /* of the cluster, as far as is known */
    bool leaves_session;    /* to the daemon after this one */
    bool is_restoring;      /* the ledger is being read: what is set is on the disk already */
    const Status *restored; /* meanwhile: the status that belongs to the item being set */
    unsigned closing;       /* parts not yet closed */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static void send_reports(struct agent *a);
static void flush_soon(struct agent *a);

/* --- down: assignments ----------------------------------------------------------------------------- */

static void spec_key(const AssignedTask *task, char *ret, size_t size)
{
    char service[IDENT_TEXT + 1];

    ident_format(task->service_id.data, service);
    (void)snprintf(ret, size, "%s.%llu", service, (unsigned long long)task->spec_version); /* fits */
}

static void on_item_set(void *ctx, const AssignmentItem *item)
{
    struct agent *a = ctx;
    char key[ASSIGNMENT_KEY_MAX];

    if (item->spec) {
        if (a->is_restoring)
            return;
        ledger_put_spec(a->ledger, item->key, item->spec);
        flush_soon(a);
        worker_set_spec(a->worker, item->spec);
        return;
    }
    spec_key(item->task, key, sizeof(key));
    const AssignmentItem *spec = assignment_find(a->assignment, key);
    if (!spec || !spec->spec) {
        log_error("assigned task without its spec", "task=%s spec=%s", item->key, key);
        return; /* the digest still fits; the manager sends specs first, so this is its bug */
    }
    if (!a->is_restoring) {
        ledger_put_task(a->ledger, item->key, item->task, NULL);
        flush_soon(a);
    }
    worker_set(a->worker, item->task, spec->spec, a->restored);
}

static void on_item_removed(void *ctx, const char *key)
{
    struct agent *a = ctx;

    flush_soon(a);
    if (strchr(key, '.'))
        ledger_remove_spec(a->ledger, key);
    else
        worker_remove(a->worker, key);
}

static void ask_for_everything(struct agent *a)
{
    AgentMessage message = AGENT_MESSAGE__INIT;

    if (a->is_asking)
        return;
    a->is_asking = true;
    message.has_resync = true;
    message.resync = assignment_sequence(a->assignment);
    if (session_send(a->session, &message, NULL) < 0)
        session_restart(a->session, "cannot ask for the full set"); /* a new session begins with it */
}

static void on_assignment(struct agent *a, const Assignment *message)
{
    bool was_complete = assignment_complete(a->assignment);
    struct err e;
    int rc = assignment_apply(a->assignment, message, &e);

    a->is_asking = a->is_asking && !message->begin;
    if (rc == ERR_SEQUENCE) {
        log_warn("assignment does not fit", "error=\"%s\"", e.text);
        ask_for_everything(a);
    } else if (rc < 0) {
        log_error("malformed assignment", "error=\"%s\"", e.text);
        session_restart(a->session, "malformed assignment");
    } else if (!was_complete && assignment_complete(a->assignment)) {
        log_info("assigned", "tasks=%zu", worker_count(a->worker));
        worker_sweep(a->worker);
    }
}

static void on_message(void *ctx, const ManagerMessage *message)
{
    struct agent *a = ctx;

    if (message->assignment)
        on_assignment(a, message->assignment);
    if (message->has_report_ack)
        report_acknowledged(a->report, message->report_ack);
    if (message->log) {
        char task[IDENT_TEXT + 1] = "";

        if (message->log->task_id.len == IDENT_BYTES)
            ident_format(message->log->task_id.data, task);
        task_logs_request(a->logs, message->log, session_manager(a->session), worker_container(a->worker, task));
    }
    if (message->node && a->config.on_node)
        a->config.on_node(a->config.ctx, message->node);
    if (message->n_managers) {
        session_set_managers(a->session, message->managers, message->n_managers);
        a->config.on_managers(a->config.ctx, message->managers, message->n_managers);
    }
    if (message->authority && a->config.on_authority)
        a->config.on_authority(a->config.ctx, message->authority);
}

static void on_ready(void *ctx)
{
    struct agent *a = ctx;

    a->is_asking = false;
    assignment_new_session(a->assignment);
    report_new_session(a->report);
    engine_hold(a->config.engine, session_fd(a->session));
    send_reports(a);
    if (a->config.on_session)
        a->config.on_session(a->config.ctx);
    if (session_epoch(a->session) > a->epoch) {
        a->epoch = session_epoch(a->session);
        if (a->config.on_epoch)
            a->config.on_epoch(a->config.ctx, a->epoch);
    }
}

static void on_lost(void *ctx, const struct err *e)
{
    struct agent *a = ctx;

    task_logs_end_all(a->logs);
    engine_hold(a->config.engine, -1);
}

static NodeDescription *describe(void *ctx, struct arena *arena)
{
    struct agent *a = ctx;

    NodeDescription *description = engine_describe(a->config.engine, arena);

    description->has_certificate_issuer = a->certificate_issuer != 0;
    description->certificate_issuer = a->certificate_issuer;
    description->has_trust = a->trust != 0;
    description->trust = a->trust;
    return description;
}

static void read_certificate(struct agent *a, const Identity *identity)
{
    a->certificate_issuer = a->trust = 0;
    if (!identity->certificate_pem || !identity->root_pem)
        return; /* nothing is said of what is not there */
    a->trust = cert_trust_digest(identity->root_pem);
    (void)cert_issuer_digest(identity->certificate_pem, identity->root_pem, &a->certificate_issuer,
                             NULL); /* it was checked when it came */
}

/* --- up: statuses ---------------------------------------------------------------------------------- */

static void on_writable(void *ctx)
{
    send_reports(ctx);
}

static void send_reports(struct agent *a)
{
    AUTO_ARENA struct arena arena;
    StatusReport *report;

    arena_init(&arena);
    if (!a->session || !session_ready(a->session) || a->is_unflushed)
        return;
    while ((report = report_next(a->report, &arena))) {
        AgentMessage message = AGENT_MESSAGE__INIT;

        message.report = report;
        if (session_send(a->session, &message, NULL) < 0)
            return; /* no credit: on_writable; or the session ends: on_ready */
        report_sent(a->report, report);
        arena_reset(&arena);
    }
}

static void on_flush(uv_timer_t *timer)
{
    struct agent *a = container_of(timer, struct agent, flush);

    a->is_unflushed = false;
    if (!ledger_flush(a->ledger))
        uv_timer_start(&a->flush, on_flush, LEDGER_RETRY_MS, 0);
    send_reports(a);
}

static void flush_soon(struct agent *a)
{
    a->is_unflushed = true;
    uv_timer_start(&a->flush, on_flush, 0, 0); /* also while a retry is due: something newer is there */
}

static void on_status(void *ctx, const AssignedTask *task, const Status *status)
{
    struct agent *a = ctx;
    char id[IDENT_TEXT + 1];

    ident_format(task->id.data, id);
    ledger_put_task(a->ledger, id, task, status);
    report_put(a->report, task->id.data, status);
    flush_soon(a);
}

static void on_forgotten(void *ctx, const char *task_id)
{
    struct agent *a = ctx;
    uint8_t id[IDENT_BYTES];

    if (ident_parse(task_id, id))
        report_drop(a->report, id);
    ledger_remove_task(a->ledger, task_id);
    flush_soon(a);
}

/* --- the door -------------------------------------------------------------------------------------- */

static void on_remembered_spec(void *ctx, const char *key, AssignedSpec *spec)
{
    struct agent *a = ctx;
    AssignmentItem item = ASSIGNMENT_ITEM__INIT;
    struct err e;

    item.key = (char *)key;
    item.spec = spec;
    if (assignment_restore(a->assignment, &item, &e) < 0)
        log_error("ledger holds a malformed spec", "spec=%s error=\"%s\"", key, e.text);
}

static void on_remembered_task(void *ctx, const char *key, AssignedTask *task, const Status *status)
{
    struct agent *a = ctx;
    AssignmentItem item = ASSIGNMENT_ITEM__INIT;
    struct err e;

    item.key = (char *)key;
    item.task = task;
    a->restored = status;
    if (status && task->id.len == IDENT_BYTES)
        report_put(a->report, task->id.data, status); /* the manager may not have it; a newer one replaces it now */
    if (assignment_restore(a->assignment, &item, &e) < 0)
        log_error("ledger holds a malformed task", "task=%s error=\"%s\"", key, e.text);
    a->restored = NULL;
}

int agent_open(const struct agent_config *config, struct agent **ret, struct err *e)
{
    struct agent *a = mem_alloc(sizeof(*a));
    struct assignment_events assignment = {.ctx = a, .on_set = on_item_set, .on_removed = on_item_removed};
    struct ledger_events ledger = {.ctx = a, .on_spec = on_remembered_spec, .on_task = on_remembered_task};

    a->config = *config;
    (void)snprintf(a->node_id, sizeof(a->node_id), "%s", config->identity->node_id);          /* ids fit: checked */
    (void)snprintf(a->cluster_id, sizeof(a->cluster_id), "%s", config->identity->cluster_id); /* when read */
    a->epoch = config->identity->epoch;
    int rc = ledger_open(config->loop, config->data_dir, &a->ledger, e);
    if (rc < 0) {
        free(a);
        return rc;
    }
    struct worker_config worker = {.loop = config->loop,
                                   .engine = config->engine,
                                   .clock = config->clock,
                                   .node_id = a->node_id,
                                   .ctx = a,
                                   .on_status = on_status,
                                   .on_forgotten = on_forgotten};
    read_certificate(a, config->identity);
    if (config->tls)
        a->config.tls = tls_ref(config->tls);
    uv_timer_init(config->loop, &a->flush);
    a->report = report_new();
    a->assignment = assignment_new(&assignment);
    a->worker = worker_new(&worker);
    a->logs = task_logs_new(config->loop, config->engine, config->tls, a->cluster_id);
    a->is_restoring = true;
    ledger_read(a->ledger, &ledger);
    a->is_restoring = false;
    *ret = a;
    return 0;
}

int agent_connect(struct agent *a, const char *const *managers, size_t count, struct err *e)
{
    struct session_config config = {.loop = a->config.loop,
                                    .tls = a->config.tls,
                                    .cluster_id = a->cluster_id,
                                    .entropy = a->config.entropy,
                                    .cluster_epoch = a->epoch,
                                    .feature_level = AGENT_FEATURE_LEVEL};
    struct session_events events = {.ctx = a,
                                    .on_ready = on_ready,
                                    .on_message = on_message,
                                    .on_writable = on_writable,
                                    .on_lost = on_lost,
                                    .describe = describe};

    if (a->session) {
        session_set_managers(a->session, (char *const *)managers, count);
        return 0;
    }
    return session_open(&config, managers, count, &events, &a->session, e);
}

void agent_try_first(struct agent *a, const char *manager)
{
    if (a->session)
        session_try_first(a->session, manager);
}

bool agent_denied(const struct agent *a)
{
    return a->session && session_denied(a->session);
}

const char *agent_manager(const struct agent *a)
{
    return a->session ? session_manager(a->session) : NULL;
}

void agent_set_tls(struct agent *a, struct tls *tls, const Identity *identity)
{
    AgentMessage message = AGENT_MESSAGE__INIT;
    uint64_t issuer = a->certificate_issuer, trust = a->trust;
    AUTO_ARENA struct arena arena;

    arena_init(&arena);
    read_certificate(a, identity);
    message.description = describe(a, &arena);
    if (a->session && (issuer != a->certificate_issuer || trust != a->trust) &&
        session_send(a->session, &message, NULL) == ERR_AGAIN)
        session_restart(a->session, "cannot tell of the new certificate"); /* a new session begins with it */
    tls_unref(a->config.tls);
    a->config.tls = tls_ref(tls);
    if (a->session)
        session_set_tls(a->session, tls);
    task_logs_set_tls(a->logs, tls);
}

static void on_part_closed(void *ctx)
{
    struct agent *a = ctx;

    if (--a->closing)
        return;
    void (*closed)(void *ctx) = a->closed;
    void *closed_ctx = a->closed_ctx;
    report_free(a->report);
    assignment_free(a->assignment);
    tls_unref(a->config.tls);
    free(a);
    closed(closed_ctx);
}

static void on_flush_closed(uv_handle_t *handle)
{
    on_part_closed(container_of((uv_timer_t *)handle, struct agent, flush));
}

void agent_leave_session(struct agent *a)
{
    a->leaves_session = true;
}

void agent_close(struct agent *a, void (*closed)(void *ctx), void *ctx)
{
    a->closed = closed;
    a->closed_ctx = ctx;
    a->closing = a->session ? 4 : 3;
    worker_free(a->worker);
    (void)ledger_flush(a->ledger); /* what cannot be written now is repaired by the next full set */
    uv_close((uv_handle_t *)&a->flush, on_flush_closed);
    task_logs_close(a->logs, on_part_closed, a);
    ledger_close(a->ledger, on_part_closed, a);
    if (a->session && a->leaves_session) {
        session_abandon(a->session, on_part_closed, a);
    } else if (a->session) {
        session_close(a->session, on_part_closed, a);
        engine_hold(a->config.engine, -1);
    }
}
