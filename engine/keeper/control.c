/* shoald's connection: requests in, events out (proto/launch.proto).
 *
 * One connection counts, the newest: a shoald that was replaced or hangs must not keep the next one out. What there
 * is to say about boxes is not a queue of messages but a list of boxes with something to say, looked up when the
 * socket takes more; so a shoald that reads slowly costs nothing, and a new one is told everything again. Answers
 * to requests that have no box are a short queue; while it is not empty no further request is read.
 *
 * After hello every container is announced (found), then "ready". A launch asked for by a shoald that is gone is
 * waited for: it is announced or has failed before "ready". */
#include <string.h>
#include <unistd.h>

#include "engine/keeper/packet.h"
#include "engine/keeper/server.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

static void control_on_event(struct watch *w, uint32_t events);

static void drop_connection(struct server *s)
{
    struct control *c = &s->control;
    struct list *l;

    if (c->fd < 0)
        return;
    watch_stop(&s->loop, &c->watch);
    close(c->fd);
    if (c->client_ns >= 0)
        close(c->client_ns);
    c->fd = c->client_ns = -1;
    while ((l = list_pop(&c->answers)))
        free(list_entry(l, struct answer, link));
    c->answer_count = 0;
    while (list_pop(&c->say))
        ;
    c->ready_due = false;
    launch_drop_held(s);
}

/* --- saying ---------------------------------------------------------------------------------------- */

static int send_event(struct server *s, const KeeperEvent *event, const int *fds, unsigned fd_count)
{
    return packet_send_message(s->control.fd, &event->base, fds, fd_count, NULL);
}

static int say_ready(struct server *s)
{
    KeeperEvent event = KEEPER_EVENT__INIT;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    event.has_ready = true;
    event.ready = processors > 0 ? 2 * (uint32_t)processors + 2 : 4;
    return send_event(s, &event, NULL, 0);
}

static int say_answer(struct server *s, const struct answer *a)
{
    KeeperEvent event = KEEPER_EVENT__INIT;
    KeeperError error = KEEPER_ERROR__INIT;

    event.has_serial = true;
    event.serial = a->serial;
    if (a->error.code == 0) {
        event.has_done = event.done = true;
    } else {
        error.code = a->error.code;
        error.text = (char *)a->error.text;
        event.error = &error;
    }
    return send_event(s, &event, NULL, 0);
}

/* That it is there: as the answer to its launch, or as one that was found. */
static int say_there(struct box *b)
{
    struct server *s = b->server;
    KeeperEvent event = KEEPER_EVENT__INIT;
    struct box_message m;
    int fds[PACKET_FDS];
    unsigned count = 0;

    box_describe(b, &m, fds, &count);
    if (b->stage == BOX_STAGE__DRAINING_BOX)
        m.box.exit = NULL; /* it may be forgotten when its end is told, and that is not yet */
    if (b->serial && b->generation == s->control.generation) {
        event.has_serial = true;
        event.serial = b->serial;
        event.launched = &m.box;
    } else {
        event.found = &m.box;
    }
    return send_event(s, &event, fds, count);
}

/* That a held launch has its namespaces: shoald needs the network's. */
static int say_prepared(struct box *b)
{
    KeeperEvent event = KEEPER_EVENT__INIT;
    struct box_message m;
    int fds[PACKET_FDS];
    unsigned count = 0;

    box_describe(b, &m, fds, &count);
    event.has_serial = true;
    event.serial = b->serial;
    event.prepared = &m.box;
    return send_event(b->server, &event, fds, count);
}

static int say_end(struct box *b)
{
    KeeperEvent event = KEEPER_EVENT__INIT;
    struct box_message m;
    unsigned none = 0;

    box_describe(b, &m, NULL, &none);
    event.ended = &m.box;
    return send_event(b->server, &event, NULL, 0);
}

static int say_box(struct box *b)
{
    int rc = 0;

    if (b->stage == BOX_STAGE__LAUNCHING_BOX) {
        rc = b->holding && !b->prepared ? say_prepared(b) : 0;
        b->prepared = rc == 0;
        return rc;
    }
    if (!b->announced) {
        rc = say_there(b);
        b->announced = rc == 0;
    }
    if (rc == 0 && b->stage == BOX_STAGE__ENDED_BOX && !b->reported) {
        rc = say_end(b);
        b->reported = rc == 0;
    }
    return rc;
}

static bool launches_of_others(const struct server *s)
{
    const struct box *b;

    if (s->launching == 0)
        return false;
    list_each (b, &s->boxes, link)
        if (b->stage == BOX_STAGE__LAUNCHING_BOX && b->generation != s->control.generation)
            return true;
    return false;
}

static int say_all(struct server *s)
{
    struct control *c = &s->control;
    int rc = 0;

    while (rc == 0 && !list_empty(&c->answers)) {
        struct answer *a = list_first(&c->answers, struct answer, link);

        rc = say_answer(s, a);
        if (rc == 0) {
            list_remove(&a->link);
            free(a);
            c->answer_count--;
        }
    }
    if (rc == 0 && c->client_ns < 0)
        return 0; /* one that has not said hello gets answers alone */
    while (rc == 0 && !list_empty(&c->say)) {
        struct box *b = list_first(&c->say, struct box, say);

        rc = say_box(b);
        if (rc == 0)
            list_remove(&b->say);
    }
    if (rc == 0 && c->ready_due && !launches_of_others(s)) {
        rc = say_ready(s);
        c->ready_due = rc != 0;
        if (rc == 0)
            janitor_sweep_soon(s);
    }
    return rc;
}

static void watch_what_matters(struct server *s, bool writing)
{
    struct control *c = &s->control;
    bool reading = c->answer_count == 0;

    if (c->reading == reading && c->writing == writing)
        return;
    c->reading = reading;
    c->writing = writing;
    watch_change(&s->loop, &c->watch, (reading ? EPOLLIN : 0u) | (writing ? EPOLLOUT : 0u));
}

/* Say what is to be said, as far as the socket takes it. */
static void pump(struct server *s)
{
    if (s->control.fd < 0)
        return;
    int rc = say_all(s);
    if (rc < 0 && rc != ERR_AGAIN) {
        drop_connection(s); /* it is gone; the next one is told everything */
        return;
    }
    watch_what_matters(s, rc == ERR_AGAIN);
}

void control_say(struct box *b)
{
    struct server *s = b->server;

    if (s->control.fd < 0 || !b->id)
        return;
    list_remove(&b->say);
    list_push(&s->control.say, &b->say);
    pump(s);
}

void control_poke(struct server *s)
{
    pump(s);
}

void control_answer(struct server *s, uint32_t serial, const struct err *e)
{
    if (s->control.fd < 0)
        return;
    struct answer *a = mem_alloc(sizeof(*a));
    a->serial = serial;
    if (e)
        a->error = *e;
    list_push(&s->control.answers, &a->link);
    s->control.answer_count++;
    pump(s);
}

/* --- requests -------------------------------------------------------------------------------------- */

/* The descriptor a request names, taken out of the list; -1 when there is none. */
static int take_fd(int *fds, unsigned fd_count, bool has, uint32_t position)
{
    if (!has || position >= fd_count)
        return -1;
    return steal_fd(&fds[position]);
}

static int on_hello(struct server *s, const KeeperHello *h, int *fds, unsigned fd_count, struct err *e)
{
    struct box *b;
    int ns = take_fd(fds, fd_count, true, h->mount_namespace_fd);

    if (h->protocol != KEEPER_PROTOCOL || ns < 0 || s->control.client_ns >= 0) {
        if (ns >= 0)
            close(ns);
        return err_set(e, ERR_INVALID, "hello of protocol %u", h->protocol);
    }
    s->control.client_ns = ns;
    pool_configure(s, h->warm_min, h->warm_max);
    list_each (b, &s->boxes, link) {
        b->announced = b->reported = false;
        list_remove(&b->say);
        if (b->id && b->stage >= BOX_STAGE__RUNNING_BOX)
            list_push(&s->control.say, &b->say);
    }
    s->control.ready_due = true;
    return 0;
}

static int on_launch(struct server *s, uint32_t serial, const KeeperLaunch *l, int *fds, unsigned fd_count,
                     struct err *e)
{
    int memfd = -1, list[PACKET_FDS];

    if (l->has_plan_fd) {
        if (fd_count == 0 || l->plan_fd != fd_count - 1)
            return err_set(e, ERR_INVALID, "plan_fd is not the last descriptor");
        memfd = fds[--fd_count];
        fds[fd_count] = -1;
    }
    /* From here on the descriptors are the launch's. */
    memcpy(list, fds, fd_count * sizeof(int));
    for (unsigned i = 0; i < fd_count; i++)
        fds[i] = -1;
    return launch_begin(s, serial, l->hold, l->plan.data, l->plan.len, memfd, list, fd_count, e);
}

static void on_forget(struct server *s, const char *id)
{
    struct box *b = map_get(&s->by_id, id);

    if (!b)
        return; /* forgotten before: the wish is fulfilled */
    if (b->stage != BOX_STAGE__ENDED_BOX) {
        log_warn("a container that has not ended is not forgotten", "container=%s", id);
        return;
    }
    box_remove(b);
}

/* Its only writers are we and shoald, which has closed its own. Written down first: a keeper after us must not open
 * it again. */
static int on_close_stdin(struct server *s, const char *id, struct err *e)
{
    struct box *b = map_get(&s->by_id, id);

    if (!b || b->tty || !b->open_stdin)
        return 0; /* ended, or closed before */
    b->open_stdin = false;
    int rc = box_save(b, e);
    if (b->in >= 0)
        close(b->in);
    b->in = -1;
    return rc;
}

/* One descriptor of shoald's that is to outlive it (its session with a manager), and no other: whoever talks to us
 * must not be able to fill our table. */
static int on_hold(struct server *s, int *fds, unsigned fd_count, struct err *e)
{
    if (fd_count > 1)
        return err_set(e, ERR_INVALID, "hold of %u descriptors", fd_count);
    if (s->held >= 0)
        close(s->held);
    s->held = take_fd(fds, fd_count, true, 0); /* -1 without one */
    return 0;
}

static int on_stop(struct server *s, struct err *e)
{
    const struct box *b;

    list_each (b, &s->boxes, link)
        if (b->id)
            return err_set(e, ERR_CONFLICT, "container %s is still here", b->id);
    pool_empty(s);
    janitor_sweep(s);
    logger_quit(s);
    return 0;
}

static int check_request(const KeeperRequest *r, struct err *e)
{
    int members = !!r->hello + !!r->launch + !!r->forget + r->has_warm + !!r->adopt + !!r->upgrade + r->has_stop +
                  !!r->close_stdin + r->has_hold + !!r->go + !!r->give_up;

    return members == 1 ? 0 : err_set(e, ERR_UNSUPPORTED, "a request with %d members this keeper knows", members);
}

/* Handle one request. What is answered at once is answered here; launches and upgrades answer when they are done.
 */
static void dispatch(struct server *s, const KeeperRequest *r, int *fds, unsigned fd_count)
{
    struct err e;
    int rc = check_request(r, &e);
    bool answered_later = false;

    if (rc == 0 && !r->hello && s->control.client_ns < 0)
        rc = err_set(&e, ERR_INVALID, "a request before hello");
    if (rc < 0) {
        control_answer(s, r->serial, &e);
        return;
    }
    if (r->hello) {
        rc = on_hello(s, r->hello, fds, fd_count, &e);
    } else if (r->launch) {
        rc = on_launch(s, r->serial, r->launch, fds, fd_count, &e);
        answered_later = rc == 0;
    } else if (r->forget) {
        on_forget(s, r->forget);
        return; /* idempotent and without an answer */
    } else if (r->go) {
        launch_go(s, r->go);
        return; /* the launch itself is answered */
    } else if (r->give_up) {
        launch_give_up_held(s, r->give_up);
        return;
    } else if (r->has_warm) {
        rc = pool_add(s, r->warm.data, r->warm.len, &e);
    } else if (r->adopt) {
        rc = resume_adopt(s, r->adopt, fds, fd_count, &e);
    } else if (r->close_stdin) {
        rc = on_close_stdin(s, r->close_stdin, &e);
    } else if (r->has_hold) {
        rc = on_hold(s, fds, fd_count, &e);
    } else if (r->has_stop) {
        rc = on_stop(s, &e);
        s->stop_serial = rc == 0 ? r->serial : s->stop_serial;
        answered_later = rc == 0;
    } else {
        int program = take_fd(fds, fd_count, true, r->upgrade->program_fd);

        resume_upgrade(s, r->serial, program);
        answered_later = true;
    }
    if (!answered_later)
        control_answer(s, r->serial, rc < 0 ? &e : NULL);
}

/* Read one request. False: there is none, or the connection is over. */
static bool read_request(struct server *s)
{
    static char packet[PACKET_BYTES];
    struct control *c = &s->control;
    uint32_t generation = c->generation;
    AUTO_ARENA struct arena a;
    int fds[PACKET_FDS];
    unsigned count;
    struct err e;
    int got = packet_receive(c->fd, packet, fds, &count, &e);

    arena_init(&a);
    if (got == ERR_AGAIN)
        return false;
    const KeeperRequest *r = got > 0 ? arena_unpack(&a, &keeper_request__descriptor, packet, (size_t)got) : NULL;
    if (r) {
        dispatch(s, r, fds, count);
    } else {
        if (got != 0)
            log_warn("a packet that is no request", "size=%d error=\"%s\"", got, got < 0 ? e.text : "");
        drop_connection(s);
    }
    fds_close(fds, count);
    return c->fd >= 0 && c->generation == generation && c->answer_count == 0;
}

#define REQUESTS_PER_TURN 16 /* then others have their turn */

static void control_on_event(struct watch *w, uint32_t events)
{
    struct server *s = container_of(w, struct server, control.watch);

    if (events & EPOLLOUT)
        pump(s);
    for (int i = 0; i < REQUESTS_PER_TURN && s->control.fd >= 0 && s->control.answer_count == 0; i++)
        if (!read_request(s))
            break;
}

/* --- connections ----------------------------------------------------------------------------------- */

static int take_connection(struct server *s, int fd, struct err *e)
{
    struct control *c = &s->control;
    int rc = watch_start(&s->loop, &c->watch, fd, EPOLLIN, control_on_event, e);

    if (rc < 0) {
        close(fd);
        return rc;
    }
    c->fd = fd;
    c->generation++;
    c->reading = true;
    c->writing = false;
    return 0;
}

static void listen_on_event(struct watch *w, uint32_t events)
{
    struct server *s = container_of(w, struct server, listen_watch);
    struct err e;
    int fd, rc = packet_accept(s->listener, &fd, &e);

    (void)events;
    if (rc == 0 && s->stop_serial) { /* too late for this keeper: they come back and find, or start, the next one */
        close(fd);
        return;
    }
    if (rc == 0) {
        drop_connection(s);
        rc = take_connection(s, fd, &e);
    }
    if (rc < 0 && rc != ERR_AGAIN)
        log_warn("connection refused", "error=\"%s\"", e.text);
}

int control_start(struct server *s, struct err *e)
{
    int rc = 0;

    s->control.fd = s->control.client_ns = -1;
    s->control.watch.fd = s->listen_watch.fd = -1;
    list_init(&s->control.say);
    list_init(&s->control.answers);
    if (s->listener < 0)
        rc = packet_listen(s->run, KEEPER_SOCKET, &s->listener, e);
    return rc < 0 ? rc : watch_start(&s->loop, &s->listen_watch, s->listener, EPOLLIN, listen_on_event, e);
}

int control_resume(struct server *s, int fd, int client_ns, struct err *e)
{
    int rc = take_connection(s, fd, e);

    if (rc == 0)
        s->control.client_ns = client_ns;
    return rc;
}

void control_end(struct server *s)
{
    drop_connection(s);
    watch_stop(&s->loop, &s->listen_watch);
    if (s->listener >= 0)
        close(s->listener);
    s->listener = -1;
    (void)unlinkat(s->run, KEEPER_SOCKET, 0); /* the next keeper replaces it anyway */
}
