/* See relay.h: the node loop's side, which asks the manager's own door as clients of this machine do. */
#include "manager/relay.h"
#include "manager/thread.h"
#include "proto/base/mem.h"

static void deliver_page(struct mail *mail, void *owner)
{
    thread_relay_page(owner, container_of(mail, struct relayed, to_manager));
}

static void deliver_dropped(struct mail *mail, void *owner)
{
    thread_relay_dropped(owner, container_of(mail, struct relayed, dropped));
}

/* --- what the manager's door answers ------------------------------------------------------------------------- */

static void on_reply(struct manager_request *request, struct manager_reply *reply)
{
    struct relayed *r = request->ctx;

    if (!reply->more)
        r->request = NULL; /* it ends with this call */
    r->page.status = reply->status;
    r->page.type = reply->content_type;
    r->page.more = reply->more;
    r->page.cut = reply->cut;
    r->page.again = reply->again;
    buf_fini(&r->page.bytes);
    r->page.bytes = reply->body;
    if (r->door->closed)
        return; /* its drop comes */
    r->to_manager.deliver = deliver_page;
    mailbox_post(r->door->thread, &r->to_manager);
}

/* --- what comes from the manager loop ------------------------------------------------------------------------ */

static void deliver_begin(struct mail *mail, void *owner)
{
    struct relayed *r = container_of(mail, struct relayed, to_node);

    r->request->ctx = r;
    r->request->on_reply = on_reply;
    manager_ask(r->door->manager, r->request);
}

static void deliver_more(struct mail *mail, void *owner)
{
    struct relayed *r = container_of(mail, struct relayed, to_node);

    if (r->request)
        manager_more(r->request);
}

static void deliver_drop(struct mail *mail, void *owner)
{
    struct relayed *r = container_of(mail, struct relayed, drop);

    if (r->request)
        manager_drop(r->request);
    if (r->door->closed)
        return;
    r->dropped.deliver = deliver_dropped;
    mailbox_post(r->door->thread, &r->dropped);
}

/* --- posting it, from the manager loop ------------------------------------------------------------------------ */

void relay_door_begin(struct relay_door *d, struct relayed *r)
{
    r->door = d;
    r->to_node.deliver = deliver_begin;
    mailbox_post(d->node, &r->to_node);
}

void relay_door_more(struct relay_door *d, struct relayed *r)
{
    r->to_node.deliver = deliver_more;
    mailbox_post(d->node, &r->to_node);
}

void relay_door_drop(struct relay_door *d, struct relayed *r)
{
    r->drop.deliver = deliver_drop;
    mailbox_post(d->node, &r->drop);
}
