/* See fake_session.h. */
#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/mem.h"
#include "tests/support/fake_session.h"

struct session {
    struct session_events events;
    uv_timer_t end; /* session_close comes back from the loop */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

struct fake_session fake_session = {.credit = UINT_MAX};

void fake_session_reset(void)
{
    assert(!fake_session.open);
    fake_session = (struct fake_session){.credit = UINT_MAX};
}

/* --- what the agent calls -------------------------------------------------------------------------- */

int session_open(const struct session_config *config, const char *const *managers, size_t manager_count,
                 const struct session_events *events, struct session **ret, struct err *e)
{
    struct session *s = mem_alloc(sizeof(*s));

    assert(!fake_session.open);
    s->events = *events;
    uv_timer_init(config->loop, &s->end);
    fake_session.open = *ret = s;
    fake_session.opens++;
    fake_session.epoch = config->cluster_epoch;
    session_set_managers(s, (char *const *)managers, manager_count);
    return 0;
}

static void on_end_closed(uv_handle_t *handle)
{
    struct session *s = container_of((uv_timer_t *)handle, struct session, end);
    void (*closed)(void *ctx) = s->closed;
    void *ctx = s->closed_ctx;

    free(s);
    closed(ctx);
}

void session_close(struct session *s, void (*closed)(void *ctx), void *ctx)
{
    assert(s == fake_session.open);
    s->closed = closed;
    s->closed_ctx = ctx;
    fake_session.open = NULL;
    fake_session.ready = false;
    uv_close((uv_handle_t *)&s->end, on_end_closed);
}

void session_abandon(struct session *s, void (*closed)(void *ctx), void *ctx)
{
    fake_session.abandoned = true;
    session_close(s, closed, ctx);
}

uint64_t session_epoch(const struct session *s)
{
    return fake_session.epoch;
}

int session_fd(const struct session *s)
{
    return fake_session.ready ? FAKE_SESSION_FD : -1;
}

void session_set_managers(struct session *s, char *const *managers, size_t count)
{
    fake_session.manager_count = MIN(count, ARRAY_SIZE(fake_session.managers));
    for (size_t i = 0; i < fake_session.manager_count; i++)
        (void)snprintf(fake_session.managers[i], sizeof(fake_session.managers[i]), "%s",
                       managers[i]); /* addresses are short */
}

void session_try_first(struct session *s, const char *manager)
{
    (void)snprintf(fake_session.first, sizeof(fake_session.first), "%s", manager); /* addresses are short */
}

void session_set_tls(struct session *s, struct tls *tls)
{
    fake_session.tls_set = true;
}

bool session_ready(const struct session *s)
{
    return fake_session.ready;
}

bool session_denied(const struct session *s)
{
    return fake_session.denied;
}

const char *session_manager(const struct session *s)
{
    return !fake_session.ready ? NULL : fake_session.address ? fake_session.address : FAKE_MANAGER;
}

int session_send(struct session *s, const AgentMessage *message, struct err *e)
{
    if (!fake_session.ready || fake_session.restarting)
        return err_set(e, ERR_UNAVAILABLE, "no session with a manager");
    if (fake_session.credit == 0) {
        fake_session.refused++;
        return err_set(e, ERR_AGAIN, "no credit");
    }
    if (fake_session.credit != UINT_MAX)
        fake_session.credit--;
    fake_session.sent++;
    fake_session.resyncs += message->has_resync;
    if (fake_session.on_sent)
        fake_session.on_sent(fake_session.ctx, message);
    return 0;
}

void session_restart(struct session *s, const char *why)
{
    fake_session.restarting = true;
    fake_session.restarts++;
    (void)snprintf(fake_session.why, sizeof(fake_session.why), "%s", why); /* short texts */
}

/* --- what the manager does ------------------------------------------------------------------------- */

void fake_session_ready(void)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    assert(fake_session.open && !fake_session.ready);
    assert(fake_session.open->events.describe(fake_session.open->events.ctx, &a));
    fake_session.ready = true;
    fake_session.restarting = false;
    fake_session.open->events.on_ready(fake_session.open->events.ctx);
}

void fake_session_lost(void)
{
    struct err e = {.code = ERR_CLOSED, .text = "told to be lost"};

    assert(fake_session.open && fake_session.ready);
    fake_session.ready = fake_session.restarting = false;
    fake_session.open->events.on_lost(fake_session.open->events.ctx, &e);
}

void fake_session_writable(void)
{
    fake_session.credit = UINT_MAX;
    fake_session.open->events.on_writable(fake_session.open->events.ctx);
}

bool fake_session_deliver_bytes(const void *data, size_t size)
{
    AUTO_ARENA struct arena a;

    arena_init(&a);
    assert(fake_session.ready);
    const ManagerMessage *message = arena_unpack(&a, &manager_message__descriptor, data, size);
    if (message && !fake_session.restarting) /* a connection that is being closed tells nothing any more */
        fake_session.open->events.on_message(fake_session.open->events.ctx, message);
    return message != NULL;
}

void fake_session_deliver(const ManagerMessage *message)
{
    size_t size = manager_message__get_packed_size(message);
    uint8_t *packed = mem_alloc(size);

    manager_message__pack(message, packed);
    bool good = fake_session_deliver_bytes(packed, size);
    free(packed);
    assert(good);
}
