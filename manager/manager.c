/* See manager.h. This is the node's side: what is here runs on the node loop, but for the events of the thread,
 * which do nothing but post.
 *
 * A request and its ask (api/ask.h): the request is the caller's view, the ask travels.
 *
 *     manager_ask -> waiting (for credit) -> asked --page--> held --more--> asked ... --last page--> freed
 *                        | 1 s, 503             |              |
 *                        +--- error of prepare -+--- dropped --+--> freed when the thread has let go of it
 *
 * Credit bounds what the thread has at a time, by class. Reads and writes hold one while they are with the thread,
 * so that a client that takes its pages slowly costs nobody else; streams hold theirs for as long as they live.
 *
 * Closing: the thread is told last of all, so nothing may be posted to it afterwards. It gives back every ask, with
 * a last page or without. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/api/show.h"
#include "manager/news.h"
#include "manager/thread.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/wire/http.h"
#include "proto/wire/rpc.h"

#define CREDIT_WAIT_MS 1000

enum state { WAITING, ASKED, HELD };

static const unsigned credit_of_class[ASK_CLASSES] = {[ASK_READ] = 128, [ASK_WRITE] = 256, [ASK_STREAM] = 128};

struct manager {
    void *ctx;
    void (*on_ready)(void *ctx);
    void (*on_stopped)(void *ctx, const struct err *e);
    void (*on_removed)(void *ctx);
    void (*on_event)(void *ctx, const struct manager_event *event);
    void (*on_lock_key)(void *ctx, const uint8_t *key, uint64_t version);
    struct mailbox *node; /* borrowed: the node loop's */
    struct thread *thread;
    struct mail_credit credit[ASK_CLASSES];
    struct list waiting;      /* of wrapped, for credit and not longer than CREDIT_WAIT_MS; oldest first */
    uv_timer_t timer;         /* when the oldest of them has waited enough */
    unsigned out;             /* asks not yet freed */
    struct thread_info *info; /* NULL: none yet */
    int port;
    bool ready;
    struct err why; /* code: it has stopped by itself */
    bool closing, thread_gone, timer_closed;
    void (*closed)(void *ctx);
    void *closed_ctx;
    struct { /* mail from the thread */
        struct mail mail;
        int port;
    } ready_mail;
    struct {
        struct mail mail;
        struct err e;
    } stopped_mail;
    struct {
        struct mail mail;
        struct thread_info *info;
    } info_mail;
    struct {
        struct mail mail;
        struct news_batch *batch;
    } news_mail;
    struct mail removed_mail;
    struct mail finished_mail;
    struct mail close_mail; /* to the thread */
    struct {
        struct mail mail;
        struct thread_info *info;
    } seen_mail;
    struct mail heard_mail;
    struct relay_door relay; /* for requests of other managers */
};

struct wrapped { /* a request with what is ours */
    struct manager_request request;
    struct ask *ask;
    struct list link; /* manager->waiting */
    struct mail_waiter waiter;
    bool has_credit;
    bool is_local; /* its page was made here */
    bool dropped, drop_posted;
    uint64_t deadline_ms; /* loop time */
};

static struct wrapped *wrapped_of(struct manager_request *r)
{
    return container_of(r, struct wrapped, request);
}

static void stop_waiting(struct wrapped *w);

static uv_loop_t *loop_of(const struct manager *m)
{
    return m->node->async.loop;
}

/* --- the end of things ----------------------------------------------------------------------------------- */

static void maybe_closed(struct manager *m)
{
    void (*closed)(void *ctx) = m->closed;
    void *ctx = m->closed_ctx;

    if (!m->closing || m->out || !m->thread_gone || !m->timer_closed)
        return;
    thread_info_free(m->info);
    free(m);
    closed(ctx);
}

static void give_credit(struct wrapped *w)
{
    struct manager *m = w->request.manager;

    if (!w->has_credit)
        return;
    w->has_credit = false;
    mail_credit_give(&m->credit[w->ask->route->class]);
}

static void request_free(struct wrapped *w)
{
    struct manager *m = w->request.manager;

    if (w->ask) {
        give_credit(w);
        ask_free(w->ask);
        m->out--;
    }
    arena_fini(&w->request.arena);
    free(w);
    if (m)
        maybe_closed(m);
}

/* --- pages ----------------------------------------------------------------------------------------------- */

static void give_reply(struct wrapped *w, struct manager_reply *reply)
{
    bool more = reply->more;

    w->request.state = HELD;
    w->request.on_reply(&w->request, reply);
    if (!more)
        request_free(w);
}

static void on_page(struct wrapped *w)
{
    struct ask *k = w->ask;
    struct manager_reply reply = {.status = k->page.status,
                                  .content_type = k->page.type,
                                  .more = k->page.more,
                                  .cut = k->page.cut,
                                  .again = k->page.again};

    if (w->has_credit && (k->route->class != ASK_STREAM || !k->page.more))
        give_credit(w);
    if (w->dropped) {
        if (!w->drop_posted && !k->page.more)
            request_free(w);
        return; /* else the thread will say that it has let go */
    }
    ask_render(k, &reply.body);
    give_reply(w, &reply);
}

static void deliver_page(struct mail *mail, void *owner)
{
    on_page(container_of(mail, struct ask, to_node)->door);
}

/* The thread has let go of it: because it was asked to, or because it is being closed. */
static void deliver_dropped(struct mail *mail, void *owner)
{
    struct ask *k = container_of(mail, struct ask, dropped);
    struct wrapped *w = k->door;
    struct manager_reply cut = {.status = 503, .cut = true};

    if (w->request.state == WAITING)
        stop_waiting(w);
    if (w->dropped)
        request_free(w);
    else
        give_reply(w, &cut);
}

/* Answer without the thread; from the loop, as every answer. */
static void answer_here(struct wrapped *w, const struct err *e)
{
    struct ask *k = w->ask;

    w->is_local = true;
    w->request.state = ASKED;
    k->page = (struct ask_page){.status = http_status_of(e->code)};
    ask_error_body(e, &k->page.bytes);
    mailbox_post(w->request.manager->node, &k->to_node);
}

/* --- to the thread --------------------------------------------------------------------------------------- */

static void deliver_ask(struct mail *mail, void *owner)
{
    thread_ask(owner, container_of(mail, struct ask, to_manager));
}

static void deliver_more(struct mail *mail, void *owner)
{
    thread_more(owner, container_of(mail, struct ask, to_manager));
}

static void deliver_drop(struct mail *mail, void *owner)
{
    thread_drop(owner, container_of(mail, struct ask, drop));
}

static void deliver_close(struct mail *mail, void *owner)
{
    thread_close(owner);
}

static void post(struct wrapped *w)
{
    w->has_credit = true;
    w->request.state = ASKED;
    mailbox_post(thread_inbox(w->request.manager->thread), &w->ask->to_manager);
}

static int check_serving(const struct manager *m, struct err *e)
{
    if (m->closing)
        return err_set(e, ERR_UNAVAILABLE, "the manager is stopping");
    if (m->why.code)
        return err_set(e, ERR_UNAVAILABLE, "the manager has stopped: %s", m->why.text);
    if (!m->ready)
        return err_set(e, ERR_UNAVAILABLE, "the manager is starting; try again in a moment");
    return 0;
}

/* --- credit ---------------------------------------------------------------------------------------------- */

static void arm_timer(struct manager *m);

static void stop_waiting(struct wrapped *w)
{
    list_remove(&w->link);
    mail_credit_cancel(&w->request.manager->credit[w->ask->route->class], &w->waiter);
}

static void on_granted(struct mail_waiter *waiter)
{
    struct wrapped *w = container_of(waiter, struct wrapped, waiter);

    list_remove(&w->link);
    w->has_credit = true;
    if (w->request.manager->closing)
        return; /* the thread takes nothing any more, and gives it back by itself */
    arm_timer(w->request.manager);
    post(w);
}

static void on_waited(uv_timer_t *timer)
{
    struct manager *m = timer->data;
    struct wrapped *w;
    struct err e;

    while ((w = list_first(&m->waiting, struct wrapped, link)) && w->deadline_ms <= uv_now(loop_of(m))) {
        stop_waiting(w);
        err_set(&e, ERR_UNAVAILABLE, "too many requests at once; try again in a moment");
        answer_here(w, &e);
    }
    arm_timer(m);
}

static void arm_timer(struct manager *m)
{
    const struct wrapped *w = list_first(&m->waiting, struct wrapped, link);
    uint64_t now = uv_now(loop_of(m));

    if (m->closing)
        return;
    if (w)
        uv_timer_start(&m->timer, on_waited, w->deadline_ms > now ? w->deadline_ms - now : 0, 0);
    else
        uv_timer_stop(&m->timer);
}

/* --- requests -------------------------------------------------------------------------------------------- */

struct manager_request *manager_request_new(void)
{
    struct wrapped *w = mem_alloc(sizeof(*w));

    arena_init(&w->request.arena);
    list_init(&w->link);
    w->waiter.granted = on_granted;
    return &w->request;
}

void manager_request_forget(struct manager_request *r)
{
    request_free(wrapped_of(r));
}

bool manager_serves(const char *path)
{
    return ask_serves(path);
}

static struct ask *ask_of(struct wrapped *w)
{
    struct ask *k = ask_new();

    k->door = w;
    k->to_manager.deliver = deliver_ask;
    k->to_node.deliver = deliver_page;
    k->drop.deliver = deliver_drop;
    k->dropped.deliver = deliver_dropped;
    return k;
}

void manager_ask(struct manager *m, struct manager_request *r)
{
    struct wrapped *w = wrapped_of(r);
    struct ask_source source = {.method = r->method,
                                .path = r->path,
                                .query = r->query,
                                .registry_auth = r->registry_auth,
                                .body = r->body,
                                .body_size = r->body_size,
                                .api_minor = r->api_minor,
                                .origin = r->origin};
    struct err e;

    r->manager = m;
    w->ask = ask_of(w);
    m->out++;
    if (check_serving(m, &e) < 0) {
        answer_here(w, &e);
        w->ask->page.again = r->origin ? ASK_NOT_LED : ASK_ANSWERED;
        return;
    }
    if (ask_prepare(w->ask, &source, &e) < 0) {
        answer_here(w, &e);
        return;
    }
    struct mail_credit *credit = &m->credit[w->ask->route->class];
    if (mail_credit_take(credit)) {
        post(w);
        return;
    }
    r->state = WAITING;
    w->deadline_ms = uv_now(loop_of(m)) + CREDIT_WAIT_MS;
    list_push(&m->waiting, &w->link);
    mail_credit_wait(credit, &w->waiter);
    arm_timer(m);
}

void manager_more(struct manager_request *r)
{
    struct wrapped *w = wrapped_of(r);
    struct manager *m = r->manager;

    assert(r->state == HELD && !w->dropped);
    if (m->closing)
        return; /* the thread gives it back by itself */
    r->state = WAITING;
    w->ask->to_manager.deliver = deliver_more;
    if (w->has_credit || mail_credit_take(&m->credit[w->ask->route->class]))
        post(w);
    else
        mail_credit_wait(&m->credit[w->ask->route->class], &w->waiter); /* those that have one give it back soon */
}

void manager_drop(struct manager_request *r)
{
    struct wrapped *w = wrapped_of(r);
    struct manager *m = r->manager;
    bool waited_for_first = r->state == WAITING && w->ask->to_manager.deliver == deliver_ask;

    w->dropped = true;
    if (r->state == WAITING)
        stop_waiting(w);
    arm_timer(m);
    if (waited_for_first) {
        request_free(w);
        return;
    }
    if (w->is_local || m->closing)
        return; /* it comes back by itself */
    w->drop_posted = true;
    mailbox_post(thread_inbox(m->thread), &w->ask->drop);
}

/* --- what the thread says ---------------------------------------------------------------------------------- */

static void deliver_ready(struct mail *mail, void *owner)
{
    struct manager *m = container_of(mail, struct manager, ready_mail.mail);

    m->ready = true;
    m->port = m->ready_mail.port;
    if (!m->closing)
        m->on_ready(m->ctx);
}

static void on_ready(void *ctx, int port)
{
    struct manager *m = ctx;

    m->ready_mail.mail.deliver = deliver_ready;
    m->ready_mail.port = port;
    mailbox_post(m->node, &m->ready_mail.mail);
}

static void deliver_stopped(struct mail *mail, void *owner)
{
    struct manager *m = container_of(mail, struct manager, stopped_mail.mail);

    m->why = m->stopped_mail.e;
    if (!m->closing)
        m->on_stopped(m->ctx, &m->why);
}

static void on_stopped(void *ctx, const struct err *e)
{
    struct manager *m = ctx;

    m->stopped_mail.mail.deliver = deliver_stopped;
    m->stopped_mail.e = *e;
    mailbox_post(m->node, &m->stopped_mail.mail);
}

static void deliver_removed(struct mail *mail, void *owner)
{
    struct manager *m = container_of(mail, struct manager, removed_mail);

    if (!m->closing && m->on_removed)
        m->on_removed(m->ctx);
}

static void on_removed(void *ctx)
{
    struct manager *m = ctx;

    m->removed_mail.deliver = deliver_removed;
    mailbox_post(m->node, &m->removed_mail);
}

static void deliver_seen(struct mail *mail, void *owner)
{
    struct manager *m = container_of(mail, struct manager, seen_mail.mail);

    thread_info_seen(owner, m->seen_mail.info);
}

static void tell_lock_key(struct manager *m, const struct thread_info *before)
{
    const struct thread_info *now = m->info;

    if (!m->on_lock_key || (before && before->is_locking == now->is_locking &&
                            memcmp(before->lock_key, now->lock_key, MANAGER_LOCK_KEY) == 0))
        return;
    m->on_lock_key(m->ctx, now->is_locking ? now->lock_key : NULL, now->version);
}

static void deliver_info(struct mail *mail, void *owner)
{
    struct manager *m = container_of(mail, struct manager, info_mail.mail);
    struct thread_info *old = m->info;

    m->info = m->info_mail.info;
    if (m->closing) {
        thread_info_free(old);
        return;
    }
    tell_lock_key(m, old);
    m->seen_mail.mail.deliver = deliver_seen;
    m->seen_mail.info = old;
    mailbox_post(thread_inbox(m->thread), &m->seen_mail.mail);
}

static void on_info(void *ctx, struct thread_info *info)
{
    struct manager *m = ctx;

    m->info_mail.mail.deliver = deliver_info;
    m->info_mail.info = info;
    mailbox_post(m->node, &m->info_mail.mail);
}

static void deliver_heard(struct mail *mail, void *owner)
{
    thread_news_seen(owner);
}

static void deliver_news(struct mail *mail, void *owner)
{
    struct manager *m = container_of(mail, struct manager, news_mail.mail);
    struct news_batch *batch = m->news_mail.batch;

    for (size_t i = 0; i < batch->count && m->on_event && !m->closing; i++)
        m->on_event(m->ctx, batch->events[i]);
    news_batch_free(batch);
    if (m->closing)
        return;
    m->heard_mail.deliver = deliver_heard;
    mailbox_post(thread_inbox(m->thread), &m->heard_mail);
}

static void on_news(void *ctx, struct news_batch *batch)
{
    struct manager *m = ctx;

    m->news_mail.mail.deliver = deliver_news;
    m->news_mail.batch = batch;
    mailbox_post(m->node, &m->news_mail.mail);
}

static void on_asked_page(void *ctx, struct ask *k)
{
    mailbox_post(((struct manager *)ctx)->node, &k->to_node);
}

static void on_dropped(void *ctx, struct ask *k)
{
    mailbox_post(((struct manager *)ctx)->node, &k->dropped);
}

static void on_relay_begin(void *ctx, struct relayed *r)
{
    relay_door_begin(&((struct manager *)ctx)->relay, r);
}

static void on_relay_more(void *ctx, struct relayed *r)
{
    relay_door_more(&((struct manager *)ctx)->relay, r);
}

static void on_relay_drop(void *ctx, struct relayed *r)
{
    relay_door_drop(&((struct manager *)ctx)->relay, r);
}

static void deliver_finished(struct mail *mail, void *owner)
{
    struct manager *m = container_of(mail, struct manager, finished_mail);

    thread_join(m->thread);
    m->thread_gone = true;
    maybe_closed(m);
}

static void on_finished(void *ctx)
{
    struct manager *m = ctx;

    m->finished_mail.deliver = deliver_finished;
    mailbox_post(m->node, &m->finished_mail);
}

/* --- facts for /info --------------------------------------------------------------------------------------- */

void manager_info(const struct manager *m, struct jwrite *j)
{
    AUTO_ARENA struct arena a;
    struct packed p;

    arena_init(&a);
    if (!m->ready || !m->info)
        return;
    jwrite_uint(j, "Nodes", m->info->nodes);
    jwrite_uint(j, "Managers", m->info->manager_count);
    jwrite_array(j, "RemoteManagers");
    for (size_t i = 0; i < m->info->manager_count; i++) {
        jwrite_object(j, NULL);
        jwrite_string(j, "NodeID", m->info->managers[i].node_id);
        jwrite_string(j, "Addr", m->info->managers[i].address);
        jwrite_end(j);
    }
    jwrite_end(j);
    for (size_t at = 0; pack_next(&m->info->cluster, &at, &p);) {
        jwrite_object(j, "Cluster");
        show_cluster(j, &p, arena_unpack(&a, &cluster__descriptor, p.data, p.size));
        jwrite_end(j);
    }
}

void manager_warnings(const struct manager *m, struct jwrite *j)
{
    if (m->ready && m->info && m->info->manager_count == 2)
        jwrite_string(j, NULL,
                      "WARNING: Running Swarm in a two-manager configuration. This configuration provides no fault "
                      "tolerance, and poses a high risk to lose control over the cluster. Refer to "
                      "https://docs.docker.com/engine/swarm/admin_guide/ to configure the Swarm for "
                      "fault-tolerance.");
}

int manager_port(const struct manager *m)
{
    return m->port;
}

/* --- opening and closing ----------------------------------------------------------------------------------- */

int manager_open(const struct manager_config *config, struct manager **ret, struct err *e)
{
    struct manager *m = mem_alloc(sizeof(*m));
    struct thread_events events = {.ctx = m,
                                   .on_ready = on_ready,
                                   .on_stopped = on_stopped,
                                   .on_removed = on_removed,
                                   .on_info = on_info,
                                   .on_news = on_news,
                                   .on_page = on_asked_page,
                                   .on_dropped = on_dropped,
                                   .relay = {m, on_relay_begin, on_relay_more, on_relay_drop},
                                   .on_finished = on_finished};

    assert(config->node->has_loop);
    m->ctx = config->ctx;
    m->on_ready = config->on_ready;
    m->on_stopped = config->on_stopped;
    m->on_removed = config->on_removed;
    m->on_event = config->on_event;
    m->on_lock_key = config->on_lock_key;
    m->node = config->node;
    m->relay = (struct relay_door){.manager = m, .node = m->node};
    list_init(&m->waiting);
    for (size_t i = 0; i < ASK_CLASSES; i++)
        mail_credit_init(&m->credit[i], credit_of_class[i]);
    int rc = thread_start(config, &events, &m->thread, e);
    if (rc < 0) {
        free(m);
        return rc;
    }
    uv_timer_init(loop_of(m), &m->timer);
    m->timer.data = m;
    m->relay.thread = thread_inbox(m->thread);
    *ret = m;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct manager *m = handle->data;

    m->timer_closed = true;
    maybe_closed(m);
}

void manager_close(struct manager *m, void (*closed)(void *ctx), void *ctx)
{
    struct wrapped *w;
    struct err e;

    assert(!m->closing);
    m->closing = m->relay.closed = true;
    m->closed = closed;
    m->closed_ctx = ctx;
    (void)check_serving(m, &e); /* for the words */
    while ((w = list_first(&m->waiting, struct wrapped, link))) {
        stop_waiting(w);
        answer_here(w, &e);
    }
    uv_close((uv_handle_t *)&m->timer, on_timer_closed);
    m->close_mail.deliver = deliver_close;
    mailbox_post(thread_inbox(m->thread), &m->close_mail);
}

/* --- signing for this node ---------------------------------------------------------------------------------- */

struct issue_mail { /* to the thread and back */
    struct mail mail;
    struct manager *manager;
    struct buf request, reply;
    struct err e;
    void (*done)(void *ctx, const struct err *e, const void *reply, size_t reply_size);
    void *ctx;
};

static void deliver_issued(struct mail *mail, void *owner)
{
    struct issue_mail *i = container_of(mail, struct issue_mail, mail);
    struct manager *m = i->manager;

    i->done(i->ctx, &i->e, i->e.code ? NULL : buf_bytes(&i->reply), i->reply.length);
    buf_fini(&i->request);
    buf_fini(&i->reply);
    free(i);
    m->out--;
    maybe_closed(m);
}

static void deliver_issue(struct mail *mail, void *owner)
{
    struct issue_mail *i = container_of(mail, struct issue_mail, mail);

    thread_issue(owner, buf_bytes(&i->request), i->request.length, &i->reply, &i->e);
    i->mail.deliver = deliver_issued;
    mailbox_post(i->manager->node, &i->mail);
}

int manager_issue(struct manager *m, const void *request_der, size_t size,
                  void (*done)(void *ctx, const struct err *e, const void *reply, size_t reply_size), void *ctx,
                  struct err *e)
{
    int rc = check_serving(m, e);

    if (rc < 0)
        return rc;
    struct issue_mail *i = mem_alloc(sizeof(*i));
    i->mail.deliver = deliver_issue;
    i->manager = m;
    i->done = done;
    i->ctx = ctx;
    buf_append(&i->request, request_der, size);
    m->out++;
    mailbox_post(thread_inbox(m->thread), &i->mail);
    return 0;
}

/* --- the certificate --------------------------------------------------------------------------------------- */

struct certificate_mail {
    struct mail mail;
    struct tls *tls;
};

static void deliver_certificate(struct mail *mail, void *owner)
{
    struct certificate_mail *c = container_of(mail, struct certificate_mail, mail);

    thread_set_tls(owner, c->tls);
    free(c);
}

void manager_set_certificate(struct manager *m, const char *certificate_pem, const char *key_pem,
                             const char *root_pem)
{
    struct certificate_mail *c;
    struct tls *tls;
    struct err e;

    if (m->closing)
        return;
    if (tls_new(certificate_pem, key_pem, root_pem, &tls, &e) < 0) {
        log_error("cannot use the new certificate", "error=\"%s\"", e.text);
        return;
    }
    c = mem_alloc(sizeof(*c));
    c->mail.deliver = deliver_certificate;
    c->tls = tls;
    mailbox_post(thread_inbox(m->thread), &c->mail);
}
