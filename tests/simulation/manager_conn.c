/* See manager_conn.h. A connection has two ways, each a queue that is pumped: the first message arrives, then the
 * next. A way stands still while its link is cut or its receiver is stopped or does not read. An end that has
 * closed throws away what still comes, and the connection is freed when both have. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/dispatcher/dispatcher.h"
#include "proto/base/mem.h"
#include "tests/simulation/manager_conn.h"
#include "tests/support/fake_rpc.h"

#define STALL_US  20000   /* until a way that stands still is looked at again */
#define IDLE_US   2500000 /* without anything from the other side, at least */
#define FULL_LEFT 8192    /* bytes on the way to an agent that take all credit */

struct message {
    struct list link;
    bool is_end; /* the sender has closed */
    size_t size;
    uint8_t bytes[];
};

struct way {
    struct list queue;
    size_t bytes;
    bool pumped; /* an event is scheduled */
};

struct conn {
    struct list link; /* of the world's connections */
    struct msim *world;
    unsigned agent;
    struct msim_manager *manager;
    uint64_t life;
    char node_id[IDENT_TEXT + 1];
    struct way up, down; /* to the manager, to the agent */
    bool agent_open;
    struct conn_events events;
    bool arrived;              /* the manager has heard of it */
    struct rpc_stream *stream; /* NULL: not yet, or no more */
    bool paused;               /* the manager does not read */
    bool wants_credit;
    int64_t give_up_us; /* patience of the ends */
    int64_t cut_since_us;
    bool aging;  /* an event looks at its age */
    bool ending; /* an event tells the manager that its end has ended */
    struct err why;
};

static void pump_soon(struct conn *c, bool up, int64_t after_us);

static void way_clear(struct way *way)
{
    struct list *link;

    while ((link = list_pop(&way->queue)))
        free(list_entry(link, struct message, link));
    way->bytes = 0;
}

static void put(struct conn *c, bool up, const void *data, size_t size, bool is_end)
{
    struct way *way = up ? &c->up : &c->down;
    struct message *m = mem_alloc(sizeof(*m) + size);

    m->is_end = is_end;
    m->size = size;
    if (size)
        memcpy(m->bytes, data, size);
    list_push(&way->queue, &m->link);
    way->bytes += size;
    pump_soon(c, up, 0);
}

static bool manager_lives(const struct conn *c)
{
    return c->manager->up && c->manager->life == c->life;
}

/* Free what nobody looks at any more. */
static void settle(struct conn *c)
{
    if (c->agent_open || c->stream || c->up.pumped || c->down.pumped || c->aging || c->ending)
        return;
    list_remove(&c->link);
    way_clear(&c->up);
    way_clear(&c->down);
    free(c);
}

/* --- the manager's end ------------------------------------------------------------------------------ */

static int on_send(void *ctx, const void *message, size_t size)
{
    struct conn *c = ctx;

    if (c->down.bytes > FULL_LEFT) {
        c->wants_credit = true;
        return ERR_AGAIN;
    }
    put(c, false, message, size, false);
    return 0;
}

static void on_pause(void *ctx, bool paused)
{
    ((struct conn *)ctx)->paused = paused;
}

static void end_manager(struct conn *c, const struct err *e)
{
    struct rpc_stream *s = c->stream;

    c->stream = NULL;
    if (s)
        fake_rpc_ended(s, e);
}

static void fire_ended(struct msim *w, struct msim_event *e)
{
    struct conn *c = *(struct conn **)e->pointer;

    (void)w; /* the connection knows */
    c->ending = false;
    end_manager(c, &c->why);
    settle(c);
}

/* The dispatcher ends it: what it sent before arrives. */
static void on_end(void *ctx, const struct err *e)
{
    struct conn *c = ctx;

    c->why = *e;
    put(c, false, NULL, 0, true);
    c->ending = true;
    msim_schedule(c->world, 50,
                  (struct msim_event){.fire = fire_ended, .pointer = mem_dup(&c, sizeof(struct conn *))});
}

static void open_manager(struct conn *c, const struct message *m)
{
    const struct fake_rpc_far far = {
        .ctx = c, .address = "10.0.0.1:40000", .on_send = on_send, .on_pause = on_pause, .on_end = on_end};
    struct rpc_identity peer = {.role = RPC_ROLE_WORKER};

    memcpy(peer.node_id, c->node_id, sizeof(peer.node_id));
    c->stream = fake_rpc_open(&far);
    dispatcher_on_session(c->manager->dispatcher, c->stream, &peer, m->bytes, m->size);
}

/* --- the ways --------------------------------------------------------------------------------------- */

static void deliver_up(struct conn *c, const struct message *m)
{
    struct err e = {0};

    if (!manager_lives(c)) /* refused, or reset */
        put(c, false, NULL, 0, true);
    else if (m->is_end) {
        err_set(&e, ERR_CLOSED, "the agent closed the connection");
        if (!c->ending)
            end_manager(c, &e);
    } else if (!c->arrived) {
        c->arrived = true;
        open_manager(c, m);
    } else if (c->stream) {
        fake_rpc_message(c->stream, m->bytes, m->size);
    }
}

static void close_agent(struct conn *c)
{
    bool was_open = c->agent_open;

    c->agent_open = false;
    if (was_open)
        c->events.on_closed(c->events.ctx);
}

static void deliver_down(struct conn *c, const struct message *m)
{
    if (m->is_end)
        close_agent(c);
    else if (c->agent_open)
        c->events.on_message(c->events.ctx, m->bytes, m->size);
    if (c->wants_credit && c->stream && c->down.bytes <= FULL_LEFT / 2) {
        c->wants_credit = false;
        fake_rpc_writable(c->stream);
    }
}

static bool stands_still(struct conn *c, bool up)
{
    struct msim *w = c->world;
    unsigned manager = (unsigned)c->manager->id, agent = msim_end_of_agent(c->agent);

    if (up ? w->links[agent][manager].cut : w->links[manager][agent].cut)
        return true;
    return manager_lives(c) && c->manager->paused_until_us > w->now_us ? true : up && c->paused && c->stream;
}

static void fire_pump(struct msim *w, struct msim_event *e)
{
    struct conn *c = *(struct conn **)e->pointer;
    struct way *way = e->number ? &c->up : &c->down;
    bool up = e->number != 0;

    (void)w; /* the connection knows */
    way->pumped = false;
    if (list_empty(&way->queue)) {
        settle(c);
        return;
    }
    if (stands_still(c, up)) {
        if (c->agent_open || c->stream)
            pump_soon(c, up, STALL_US);
        else
            way_clear(way);
        settle(c);
        return;
    }
    struct message *m = list_entry(list_pop(&way->queue), struct message, link);
    way->bytes -= m->size;
    way->pumped = true; /* what it causes must not free the connection */
    if (up)
        deliver_up(c, m);
    else
        deliver_down(c, m);
    way->pumped = false;
    free(m);
    if (!list_empty(&way->queue))
        pump_soon(c, up, 0);
    settle(c);
}

static void pump_soon(struct conn *c, bool up, int64_t after_us)
{
    struct way *way = up ? &c->up : &c->down;
    struct msim *w = c->world;
    unsigned manager = (unsigned)c->manager->id, agent = msim_end_of_agent(c->agent);
    int64_t delay_us = up ? w->links[agent][manager].delay_us : w->links[manager][agent].delay_us;

    if (way->pumped)
        return;
    way->pumped = true;
    msim_schedule(
        w, after_us + 50 + (int64_t)msim_below(w, (uint64_t)delay_us),
        (struct msim_event){.fire = fire_pump, .number = up, .pointer = mem_dup(&c, sizeof(struct conn *))});
}

/* --- giving up -------------------------------------------------------------------------------------- */

static void fire_age(struct msim *w, struct msim_event *e)
{
    struct conn *c = *(struct conn **)e->pointer;
    bool cut = !msim_connected(w, (unsigned)c->manager->id, msim_end_of_agent(c->agent));
    bool dead = c->arrived && !manager_lives(c);
    struct err why;

    if (!c->agent_open && !c->stream) {
        c->aging = false;
        settle(c);
        return;
    }
    c->cut_since_us = cut || dead ? (c->cut_since_us ? c->cut_since_us : w->now_us) : 0;
    bool over = c->cut_since_us && w->now_us > c->cut_since_us + c->give_up_us;
    if (over && c->stream && !c->ending && manager_lives(c) && c->manager->paused_until_us <= w->now_us) {
        err_set(&why, ERR_TIMEOUT, "nothing came for a while");
        end_manager(c, &why);
    }
    if (over)
        close_agent(c);
    msim_schedule(w, 200000, (struct msim_event){.fire = fire_age, .pointer = mem_dup(&c, sizeof(struct conn *))});
}

/* --- the agent's end -------------------------------------------------------------------------------- */

struct conn *conn_open(struct msim *w, unsigned agent, struct msim_manager *m, const char *node_id,
                       const void *message, size_t size, const struct conn_events *events)
{
    struct conn *c = mem_alloc(sizeof(*c));

    *c = (struct conn){.world = w, .agent = agent, .manager = m, .life = m->life, .events = *events};
    memcpy(c->node_id, node_id, IDENT_TEXT);
    list_init(&c->up.queue);
    list_init(&c->down.queue);
    list_push(&w->conns, &c->link);
    c->agent_open = true;
    c->give_up_us = IDLE_US + (int64_t)msim_below(w, IDLE_US);
    c->aging = true;
    msim_schedule(w, 200000, (struct msim_event){.fire = fire_age, .pointer = mem_dup(&c, sizeof(struct conn *))});
    put(c, true, message, size, false);
    return c;
}

void conn_send(struct conn *c, const void *data, size_t size)
{
    put(c, true, data, size, false);
}

void conn_drop(struct conn *c)
{
    if (!c->agent_open)
        return;
    c->agent_open = false;
    put(c, true, NULL, 0, true);
}

void conns_end_of(struct msim_manager *m)
{
    struct conn *c, *after;
    struct err e;

    err_set(&e, ERR_CANCELED, "the manager is stopping");
    list_each_safe (c, after, &m->world->conns, link)
        if (c->manager == m && c->stream) {
            end_manager(c, &e);
            if (!m->disk.power) /* its kernel says so */
                put(c, false, NULL, 0, true);
        }
}

void conns_free(struct msim *w)
{
    struct list *link;

    while ((link = list_pop(&w->conns))) {
        struct conn *c = list_entry(link, struct conn, link);

        way_clear(&c->up);
        way_clear(&c->down);
        free(c);
    }
}
