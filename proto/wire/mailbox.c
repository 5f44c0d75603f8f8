/* See mailbox.h.
 *
 * A box is a list under a lock and one way to wake its owner. Only the post that makes the list non-empty wakes:
 * the owner takes the whole list at once, so one wake-up stands for everything in it. The lock is held for a few
 * pointer writes, never while mail is delivered.
 *
 * The owner is woken under the lock. That is what makes closing safe: a mail may be the last one its owner waits
 * for, and the owner may close and free the box from inside that delivery. It can only get at the mail by taking
 * the lock, so the poster has left uv_async_send by then.
 *
 * Closing on a loop: the async handle is closed, and its close callback delivers what still waits. A delivery may
 * post to its own box (a reply to itself), so the last delivery repeats until the box stays empty. */
#include <assert.h>

#include "proto/base/err.h"
#include "proto/wire/mailbox.h"

static void wake_loop(struct mailbox *m)
{
    (void)uv_async_send(&m->async); /* fails only for handles of another type */
}

static void on_async(uv_async_t *async)
{
    mailbox_deliver(async->data);
}

static void open_common(struct mailbox *m, void *owner)
{
    list_init(&m->waiting);
    m->owner = owner;
    m->closed = NULL;
    m->has_loop = m->delivering = m->closing = false;
    if (pthread_mutex_init(&m->lock, NULL) != 0)
        abort(); /* out of memory */
}

int mailbox_open(struct mailbox *m, uv_loop_t *loop, void *owner)
{
    int rc = uv_async_init(loop, &m->async, on_async);

    if (rc < 0)
        return err_code_of(-rc);
    m->async.data = m;
    m->wake = wake_loop;
    open_common(m, owner);
    m->has_loop = true;
    return 0;
}

void mailbox_open_manual(struct mailbox *m, void *owner, void (*wake)(struct mailbox *m))
{
    m->wake = wake;
    open_common(m, owner);
}

void mailbox_post(struct mailbox *m, struct mail *mail)
{
    pthread_mutex_lock(&m->lock);
    bool first = list_empty(&m->waiting);
    list_push(&m->waiting, &mail->link);
    if (first && !m->closing)
        m->wake(m);
    pthread_mutex_unlock(&m->lock);
}

static size_t deliver_batch(struct mailbox *m)
{
    struct list batch = LIST_INIT(batch), *link;
    size_t count = 0;

    pthread_mutex_lock(&m->lock);
    list_splice(&batch, &m->waiting);
    pthread_mutex_unlock(&m->lock);
    while ((link = list_pop(&batch))) {
        struct mail *mail = list_entry(link, struct mail, link);

        mail->deliver(mail, m->owner);
        count++;
    }
    return count;
}

static void finish(struct mailbox *m)
{
    m->delivering = true;
    while (deliver_batch(m) > 0)
        ;
    m->delivering = false;
    pthread_mutex_destroy(&m->lock);
    if (m->closed)
        m->closed(m);
}

size_t mailbox_deliver(struct mailbox *m)
{
    assert(!m->delivering);
    m->delivering = true;
    size_t count = deliver_batch(m);
    m->delivering = false;
    if (m->closing && !m->has_loop)
        finish(m);
    return count;
}

static void on_async_closed(uv_handle_t *handle)
{
    finish(handle->data);
}

void mailbox_close(struct mailbox *m, void (*closed)(struct mailbox *m))
{
    pthread_mutex_lock(&m->lock);
    assert(!m->closing);
    m->closing = true;
    pthread_mutex_unlock(&m->lock);
    m->closed = closed;
    if (m->has_loop)
        uv_close((uv_handle_t *)&m->async, on_async_closed);
    else if (!m->delivering)
        finish(m);
}

/* --- credit -------------------------------------------------------------------------------------- */

void mail_credit_init(struct mail_credit *c, unsigned limit)
{
    *c = (struct mail_credit){.limit = limit};
    list_init(&c->waiters);
}

bool mail_credit_take(struct mail_credit *c)
{
    if (c->used >= c->limit || !list_empty(&c->waiters))
        return false;
    c->used++;
    return true;
}

void mail_credit_wait(struct mail_credit *c, struct mail_waiter *w)
{
    assert(c->used >= c->limit || !list_empty(&c->waiters));
    list_push(&c->waiters, &w->link);
}

void mail_credit_cancel(struct mail_credit *c, struct mail_waiter *w)
{
    (void)c; /* the link knows its list */
    if (w->link.next)
        list_remove(&w->link);
}

/* A waiter that fails at once gives its credit back from inside `granted`; the loop below then serves the next one,
 * so a queue of such waiters is no recursion. */
void mail_credit_give(struct mail_credit *c)
{
    struct list *link;

    assert(c->used > 0);
    c->used--;
    if (c->granting)
        return;
    c->granting = true;
    while (c->used < c->limit && (link = list_pop(&c->waiters))) {
        struct mail_waiter *w = list_entry(link, struct mail_waiter, link);

        c->used++;
        w->granted(w);
    }
    c->granting = false;
}
