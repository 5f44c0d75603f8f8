/* See asks.h and ask.h.
 *
 *     begun --read, write--> wait (with control) --> step, step ... --> page (the node has it) --more--> step ...
 *                              ^     |  not leading                        | last
 *                              +-- patient --> forwarded --first part--> page ...
 *                                                                          +--> ended
 *
 * Where another manager leads the ask is forwarded to it (forward.h), and what it answers becomes pages here. An
 * ask that came from another manager is not forwarded again: it is sent back with where the leader is to be found,
 * or waits here while nobody is known to lead. When leaders change before the first page, the ask is tried again at
 * the next one; after it, the answer is cut off.
 *
 * What control holds of an ask is a wait, which outlives it: an ask whose client is gone, or whose time is over, is
 * answered while its wait is still under way. A write that was not executed by then is not executed any more, so it
 * is refused for certain and soon, with the reason why nobody took it (no leader, a full disk). One that was may
 * still come to be applied: it gets more time, and its answer is "outcome unknown".
 *
 * A mutating request carries an id from the manager that was asked on. When leadership is lost or a link breaks, a
 * write whose outcome is not known is submitted again with that id, here or at the new leader, and answered from
 * the stored result if it was applied after all. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "manager/api/asks.h"
#include "manager/api/logs.h"
#include "manager/api/quorum.h"
#include "proto/base/heap.h"
#include "proto/base/ident.h"
#include "proto/base/jwrite.h"
#include "proto/base/mem.h"
#include "proto/wire/http.h"

#define LEADER_MS  10000 /* without a leader, until an ask is refused */
#define OUTCOME_MS 20000 /* from the request to "outcome unknown" */
#define RETRY_MS   100   /* until what a leading manager could not do is tried again */
#define TURN_US    2000  /* of steps, in one turn */

enum ask_turn { MANAGERS, NODES, ENDED };

struct asks {
    struct asks_config config;
    struct control_watch watch;
    struct list all;     /* of ask, not ended */
    struct list due;     /* their steps are to be called */
    struct list patient; /* of ask_wait: submitted when there is a leader, or later */
    struct heap deadlines;
    struct logs_hub *logs; /* of those that follow */
    int64_t retry_ms;      /* when the patient ones are tried although nothing changed */
    struct err refuse;     /* code: everything is answered with it */
};

struct ask_wait {
    struct asks *asks;
    struct ask *ask;                /* NULL: it has been answered */
    struct heap_item due;           /* in asks->deadlines, while `ask` waits */
    struct list link;               /* asks->patient */
    bool with_control;              /* a callback will come */
    bool executed;                  /* a draft has it: it may come to be applied */
    struct forward_call *forwarded; /* to the leader, which did not answer yet; or NULL */
    bool proposed;                  /* at least once, with an outcome that was not learned */
    struct err error;               /* the last refusal */
    struct control_write write;
    ask_execute *execute;        /* of a write */
    void (*then)(struct ask *k); /* of a read */
};

static int64_t now_ms(const struct asks *a)
{
    return clock_mono_ms(a->config.clock);
}

/* --- pages ------------------------------------------------------------------------------------------- */

static void forget_wait(struct ask_wait *w)
{
    struct asks *a = w->asks;

    heap_remove(&a->deadlines, &w->due);
    list_remove(&w->link);
    if (w->forwarded)
        forward_drop(w->forwarded);
    if (w->ask)
        w->ask->wait = NULL;
    w->ask = NULL;
    if (w->with_control)
        return; /* the callback frees it */
    buf_fini(&w->write.reply);
    free(w);
}

static void end(struct ask *k)
{
    if (k->wait)
        forget_wait(k->wait);
    list_remove(&k->link);
    list_remove(&k->due);
    k->turn = ENDED;
    if (k->on_end)
        k->on_end(k);
    k->on_end = NULL;
}

void ask_page(struct ask *k)
{
    struct asks *a = k->asks;

    assert(k->turn == MANAGERS);
    list_remove(&k->due);
    k->given++;
    if (k->page.more)
        k->turn = NODES;
    else
        end(k);
    a->config.on_page(a->config.ctx, k);
}

void ask_reply(struct ask *k, int status)
{
    k->page.status = status;
    k->page.more = false;
    ask_page(k);
}

void ask_error_body(const struct err *e, struct buf *ret)
{
    struct jwrite j = JWRITE_TO(ret);

    jwrite_object(&j, NULL);
    jwrite_string(&j, "message", e->text);
    jwrite_end(&j);
}

void ask_fail(struct ask *k, const struct err *e)
{
    buf_clear(&k->page.bytes);
    k->page.render = NULL;
    k->page.cut = k->given != 0; /* what went out cannot be taken back */
    if (!k->page.cut) {
        ask_error_body(e, &k->page.bytes);
        k->page.type = NULL;
    }
    ask_reply(k, http_status_of(e->code));
}

/* Of an ask that another manager forwarded: let it ask elsewhere. */
static void send_back(struct ask *k, bool undecided)
{
    buf_clear(&k->page.bytes);
    k->page.render = NULL;
    k->page.again = undecided ? ASK_UNDECIDED : ASK_NOT_LED;
    ask_reply(k, 503);
}

const char *ask_node_id(const struct ask *k)
{
    return k->origin ? k->origin->node_id : k->asks->config.node_id;
}

int ask_rpc_error(struct err *e)
{
    static const struct {
        int code;
        const char *name;
    } names[] = {{ERR_INVALID, "InvalidArgument"},   {ERR_NOT_FOUND, "NotFound"},
                 {ERR_EXISTS, "AlreadyExists"},      {ERR_PRECONDITION, "FailedPrecondition"},
                 {ERR_CONFLICT, "AlreadyExists"},    {ERR_DENIED, "PermissionDenied"},
                 {ERR_UNSUPPORTED, "Unimplemented"}, {ERR_UNAVAILABLE, "Unavailable"},
                 {ERR_LIMIT, "ResourceExhausted"}};
    struct err plain = *e;
    size_t i = 0;

    while (i < ARRAY_SIZE(names) && names[i].code != e->code)
        i++;
    return err_set(e, plain.code, "rpc error: code = %s desc = %s",
                   i < ARRAY_SIZE(names) ? names[i].name : "Unknown", plain.text);
}

/* --- waiting for control ------------------------------------------------------------------------------- */

static struct ask_wait *wait_new(struct ask *k)
{
    struct ask_wait *w = mem_alloc(sizeof(*w));

    assert(!k->wait);
    w->asks = k->asks;
    w->ask = k;
    list_init(&w->link);
    heap_put(&k->asks->deadlines, &w->due, k->begun_ms + LEADER_MS);
    k->wait = w;
    return w;
}

static void be_patient(struct ask_wait *w, const struct err *e)
{
    w->error = *e;
    if (list_empty(&w->asks->patient))
        w->asks->retry_ms = now_ms(w->asks) + RETRY_MS;
    list_push(&w->asks->patient, &w->link);
    w->asks->config.wake(w->asks->config.ctx);
}

/* A callback of control came. Returns the ask, or NULL when it has been answered: then w is gone. */
static struct ask *came_back(struct ask_wait *w)
{
    struct ask *k = w->ask;

    w->with_control = w->executed = false;
    if (!k)
        forget_wait(w);
    return k;
}

static bool may_come(const struct err *e)
{
    return e->code == ERR_UNAVAILABLE || e->code == ERR_TIMEOUT;
}

static void on_read(void *ctx, const struct err *e)
{
    struct ask_wait *w = ctx;
    struct ask *k = came_back(w);

    if (!k)
        return;
    if (e->code && may_come(e)) {
        be_patient(w, e);
        return;
    }
    void (*then)(struct ask * k) = w->then;
    forget_wait(w);
    if (e->code)
        ask_fail(k, e);
    else
        then(k);
}

static int execute(struct control_write *write, struct draft *d, struct plan *p, struct err *e)
{
    struct ask_wait *w = container_of(write, struct ask_wait, write);

    if (!w->ask)
        return err_set(e, ERR_CANCELED, "nobody waits for this request any more");
    w->executed = true;
    return w->execute(w->ask, write, d, p, e);
}

static void on_write_done(struct control_write *write, const struct err *e, uint64_t index)
{
    struct ask_wait *w = container_of(write, struct ask_wait, write);
    struct ask *k = came_back(w);

    if (!k)
        return;
    w->proposed |= write->unknown;
    if (e->code && may_come(e)) {
        be_patient(w, e);
        return;
    }
    int status = (int)write->http_status;
    struct err outcome = *e; /* it lies in the write */
    if (!outcome.code) {
        k->page.bytes = write->reply;
        write->reply = (struct buf){0};
    }
    forget_wait(w);
    if (outcome.code)
        ask_fail(k, &outcome);
    else
        ask_reply(k, status);
}

static void submit(struct ask_wait *w);

/* --- at the leader ----------------------------------------------------------------------------------------- */

static void on_forwarded_end(struct ask *k, const struct err *e, bool undecided)
{
    struct ask_wait *w = k->wait;

    if (!w) { /* in the middle of the answer */
        ask_fail(k, e);
        return;
    }
    forward_drop(w->forwarded);
    w->forwarded = NULL;
    w->proposed |= w->execute && undecided;
    if (e->code == ERR_AGAIN)
        submit(w);
    else
        be_patient(w, e);
}

static void forwarded_more(struct ask *k)
{
    forward_more(k->work);
}

static void forwarded_over(struct ask *k)
{
    forward_drop(k->work);
}

/* From the first part on the ask waits for nothing but the rest. */
static void begin_answer(struct ask *k, const ForwardPart *part)
{
    k->work = k->wait->forwarded;
    k->on_more = forwarded_more;
    k->on_end = forwarded_over;
    k->wait->forwarded = NULL;
    forget_wait(k->wait);
    k->page.status = part->has_status ? (int)part->status : 200;
    k->page.type = part->type ? arena_strdup(&k->arena, part->type) : NULL;
}

static void on_forwarded_part(struct ask *k, const ForwardPart *part)
{
    struct err e;

    if (k->wait && part->has_again) {
        err_set(&e, ERR_UNAVAILABLE, "the manager that was asked does not lead");
        on_forwarded_end(k, &e, part->again == FORWARD_AGAIN__UNDECIDED);
        return;
    }
    if (k->wait && part->cut) {
        err_set(&e, ERR_UNAVAILABLE, "the manager that was asked is stopping");
        on_forwarded_end(k, &e, true);
        return;
    }
    if (k->wait)
        begin_answer(k, part);
    buf_append(&k->page.bytes, part->bytes.data, part->bytes.len);
    k->page.more = part->more;
    k->page.cut = part->cut;
    ask_page(k);
}

/* Its address may become known, or change, after itself. */
static void follow_leader(struct asks *a)
{
    const char *address = NULL;

    if (!a->config.forward)
        return;
    if (control_leads(a->config.control)) {
        forward_lead_here(a->config.forward);
        return;
    }
    /* By its row, which follows a leader that moved; the members' configuration may lag. NULL: there is none. */
    if (a->config.leader)
        address = a->config.leader(a->config.ctx);
    else
        (void)control_leader(a->config.control, &address);
    forward_lead(a->config.forward, address);
}

/* Another manager leads, or nobody is known to. */
static void submit_elsewhere(struct ask_wait *w)
{
    static const struct forward_events events = {.on_part = on_forwarded_part, .on_end = on_forwarded_end};
    struct asks *a = w->asks;
    struct ask *k = w->ask;
    struct err e = {0};

    if (k->origin && control_leader(a->config.control, NULL)) {
        send_back(k, w->proposed);
        return;
    }
    err_set(&e, ERR_UNAVAILABLE, "this manager does not lead");
    follow_leader(a);
    if (k->origin || !a->config.forward ||
        forward_send(a->config.forward, k, w->execute ? w->write.request_id : NULL, &events, &w->forwarded, &e) < 0)
        be_patient(w, &e);
}

/* Give it to whoever leads. */
static void submit(struct ask_wait *w)
{
    struct asks *a = w->asks;
    struct err e = {0};

    if (!control_leads(a->config.control)) {
        submit_elsewhere(w);
        return;
    }
    w->with_control = true;
    if (w->execute) {
        control_submit(a->config.control, &w->write);
    } else if (control_read(a->config.control, on_read, w, &e) < 0) {
        w->with_control = false;
        be_patient(w, &e);
    }
}

void ask_read(struct ask *k, void (*then)(struct ask *k))
{
    struct ask_wait *w = wait_new(k);

    w->then = then;
    submit(w);
}

void ask_write(struct ask *k, ask_execute *how)
{
    struct ask_wait *w = wait_new(k);

    w->execute = how;
    w->write.has_request_id = true;
    if (k->origin)
        memcpy(w->write.request_id, k->origin->request_id, sizeof(w->write.request_id));
    else
        entropy_fill(k->asks->config.entropy, w->write.request_id, sizeof(w->write.request_id));
    w->write.execute = execute;
    w->write.done = on_write_done;
    submit(w);
}

/* --- time and leadership ------------------------------------------------------------------------------- */

static void retry(struct asks *a)
{
    struct list batch, *link;

    list_init(&batch);
    list_splice(&batch, &a->patient);
    while ((link = list_pop(&batch)))
        submit(list_entry(link, struct ask_wait, link));
}

static bool somebody_leads(const struct asks *a)
{
    return control_leads(a->config.control) || control_leader(a->config.control, NULL);
}

static void on_leader(struct control_watch *watch)
{
    struct asks *a = container_of(watch, struct asks, watch);

    follow_leader(a);
    if (somebody_leads(a))
        retry(a);
}

/* Whether it may have been done, or be done yet. */
static bool may_be_done(const struct ask_wait *w)
{
    return w->execute && (w->executed || w->proposed || w->forwarded);
}

static void give_up(struct ask_wait *w)
{
    struct control *control = w->asks->config.control;
    struct ask *k = w->ask;
    char id[IDENT_TEXT + 1];
    struct err e, why = {0};

    if (!somebody_leads(w->asks))
        quorum_missing(control, &why);
    else if (control_leads(control))
        (void)control_blocked(control, &why); /* for the words */
    if (may_be_done(w)) {
        ident_format(w->write.request_id, id);
        err_set(&e, ERR_UNAVAILABLE, "outcome unknown: the request %s was not decided within %d s%s%s", id,
                OUTCOME_MS / 1000, why.code ? ": " : "", why.text);
    } else if (why.code && (w->execute || !somebody_leads(w->asks))) {
        e = why;
    } else {
        e = w->error.code ? w->error
                          : (struct err){.code = ERR_TIMEOUT, .text = "the request was not answered in time"};
    }
    ask_fail(k, &e);
}

/* Returns when the next deadline is. */
static int64_t keep_deadlines(struct asks *a)
{
    struct heap_item *item;

    while ((item = heap_first(&a->deadlines)) && item->key <= now_ms(a)) {
        struct ask_wait *w = container_of(item, struct ask_wait, due);
        int64_t last_ms = w->ask->begun_ms + OUTCOME_MS;
        bool is_read_under_way = w->then && (w->with_control || (w->forwarded && somebody_leads(a)));

        /* What may be done gets its full time; what nobody took is told earlier. */
        if ((may_be_done(w) || is_read_under_way) && now_ms(a) < last_ms)
            heap_put(&a->deadlines, item, last_ms);
        else
            give_up(w);
    }
    return item ? item->key : INT64_MAX;
}

/* --- steps --------------------------------------------------------------------------------------------- */

void ask_step_soon(struct ask *k)
{
    assert(k->turn == MANAGERS && k->step);
    if (list_empty(&k->due))
        list_push(&k->asks->due, &k->due);
    k->asks->config.wake(k->asks->config.ctx);
}

bool ask_is_due(const struct ask *k)
{
    return k->turn == MANAGERS;
}

/* One step each, in turn, so that a long list delays a short one by a step. */
static void take_steps(struct asks *a)
{
    int64_t until_us = clock_mono_us(a->config.clock) + TURN_US;
    struct list *link;

    while ((link = list_pop(&a->due))) {
        struct ask *k = list_entry(link, struct ask, due);

        k->step(k);
        if (clock_mono_us(a->config.clock) >= until_us)
            break;
    }
}

int64_t asks_turn(struct asks *a)
{
    int64_t logs_ms = logs_hub_turn(a->logs);
    take_steps(a);
    if (!list_empty(&a->patient) && somebody_leads(a) && now_ms(a) >= a->retry_ms)
        retry(a);
    int64_t due_ms = keep_deadlines(a);
    if (!list_empty(&a->due))
        return 0;
    if (!list_empty(&a->patient) && somebody_leads(a))
        due_ms = MIN(due_ms, a->retry_ms);
    due_ms = MIN(due_ms, logs_ms);
    return due_ms == INT64_MAX ? -1 : MAX(due_ms - now_ms(a), 0);
}

/* --- the door ------------------------------------------------------------------------------------------ */

/* We answer nothing any more; another manager may ask elsewhere. */
static void refuse(struct ask *k)
{
    if (k->origin && !k->given)
        send_back(k, k->wait && may_be_done(k->wait));
    else
        ask_fail(k, &k->asks->refuse);
}

void asks_begin(struct asks *a, struct ask *k)
{
    k->asks = a;
    k->turn = MANAGERS;
    k->begun_ms = now_ms(a);
    list_init(&k->due);
    list_push(&a->all, &k->link);
    if (a->refuse.code)
        refuse(k);
    else
        k->route->begin(k);
}

void asks_more(struct asks *a, struct ask *k)
{
    assert(k->turn == NODES);
    k->turn = MANAGERS;
    if (a->refuse.code)
        refuse(k);
    else if (k->on_more)
        k->on_more(k);
    else
        ask_step_soon(k);
}

void asks_drop(struct asks *a, struct ask *k)
{
    if (k->turn != ENDED)
        end(k);
    a->config.on_dropped(a->config.ctx, k);
}

void asks_refuse(struct asks *a, const struct err *e)
{
    struct ask *k, *after;

    a->refuse = *e;
    list_each_safe (k, after, &a->all, link)
        if (k->turn == MANAGERS)
            refuse(k);
}

void asks_end(struct asks *a, const struct err *e)
{
    struct ask *k, *after;

    asks_refuse(a, e);
    list_each_safe (k, after, &a->all, link)
        asks_drop(a, k);
}

struct asks *asks_new(const struct asks_config *config)
{
    struct asks *a = mem_alloc(sizeof(*a));

    a->config = *config;
    list_init(&a->all);
    list_init(&a->due);
    list_init(&a->patient);
    a->logs = logs_hub_new(a);
    a->watch.on_leader = on_leader;
    control_watch(config->control, &a->watch);
    return a;
}

void asks_free(struct asks *a)
{
    if (!a)
        return;
    assert(list_empty(&a->all) && list_empty(&a->patient));
    logs_hub_free(a->logs);
    heap_fini(&a->deadlines);
    free(a);
}

const struct asks_config *asks_config(const struct asks *a)
{
    return &a->config;
}

struct logs_hub *asks_logs(const struct asks *a)
{
    return a->logs;
}
