/* See kernel.h. A batch is made on the node loop, travels to the thread and back as mail; in between it is the
 * thread's alone. The thread sleeps while there is none. */
#include <arpa/inet.h>
#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/net/kernel_inside.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

struct kernel {
    struct mailbox *box; /* borrowed */
    pthread_t thread;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t more;
    struct list queue; /* of kernel_batch */
    bool closing;
    struct kernel_here here; /* the thread's */
    struct mail closed_mail;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

/* --- addresses ------------------------------------------------------------------------------------- */

bool kernel_address_parse(const char *text, struct kernel_address *ret)
{
    char host[INET6_ADDRSTRLEN];
    size_t length = strcspn(text, "/");
    char *end;

    *ret = (struct kernel_address){0};
    if (length >= sizeof(host))
        return false;
    memcpy(host, text, length);
    host[length] = '\0';
    if (inet_pton(AF_INET, host, ret->bytes) == 1)
        ret->family = AF_INET;
    else if (inet_pton(AF_INET6, host, ret->bytes) == 1)
        ret->family = AF_INET6;
    else
        return false;
    ret->length = ret->family == AF_INET ? 32 : 128;
    if (!text[length])
        return true;
    unsigned long prefix = strtoul(text + length + 1, &end, 10);
    if (text[length + 1] < '0' || text[length + 1] > '9' || *end || prefix > ret->length)
        return false;
    ret->length = (unsigned)prefix;
    return true;
}

void kernel_address_format(const struct kernel_address *a, char *ret)
{
    char host[INET6_ADDRSTRLEN] = "";

    if (a->family)
        (void)inet_ntop(a->family, a->bytes, host, sizeof(host)); /* it fits */
    if (a->length == (a->family == AF_INET ? 32 : 128))
        (void)snprintf(ret, KERNEL_ADDRESS_TEXT, "%s", host);
    else
        (void)snprintf(ret, KERNEL_ADDRESS_TEXT, "%s/%u", host, a->length);
}

/* --- batches --------------------------------------------------------------------------------------- */

struct kernel_batch *kernel_batch_new(void)
{
    struct kernel_batch *b = mem_alloc(sizeof(*b));

    arena_init(&b->arena);
    list_init(&b->changes);
    return b;
}

void kernel_batch_free(struct kernel_batch *b)
{
    struct change *c;

    if (!b)
        return;
    list_each (c, &b->changes, link)
        nft_free(c->nft);
    for (size_t i = 0; i < b->held_count; i++)
        close(b->held[i]);
    for (size_t i = 0; i < b->made_count; i++)
        if (b->made[i] >= 0)
            close(b->made[i]);
    for (size_t i = 0; i < b->name_count; i++) {
        struct kernel_names left = kernel_batch_names(b, (unsigned)i);

        if (left.udp >= 0) {
            close(left.udp);
            close(left.tcp);
        }
    }
    arena_fini(&b->arena);
    free(b->held);
    free(b->made);
    free(b);
}

static struct change *add(struct kernel_batch *b, enum change_kind kind)
{
    struct change *c = ARENA_NEW(&b->arena, struct change);

    c->kind = kind;
    c->may_fail = b->may_fail;
    b->may_fail = false;
    list_push(&b->changes, &c->link);
    return c;
}

static const char *copy(struct kernel_batch *b, const char *text)
{
    return text ? arena_strdup(&b->arena, text) : NULL;
}

static void copy_link(struct kernel_batch *b, struct kernel_link *to, uint8_t mac[6],
                      const struct kernel_link *from)
{
    *to = *from;
    to->name = copy(b, from->name);
    to->alias = copy(b, from->alias);
    if (from->mac) {
        memcpy(mac, from->mac, 6);
        to->mac = mac;
    }
}

static int hold(struct kernel_batch *b, int fd)
{
    int duplicate = fcntl(fd, F_DUPFD_CLOEXEC, 3);

    b->held = mem_grow(b->held, b->held_count + 1, sizeof(*b->held));
    b->held[b->held_count] = duplicate; /* -1: entering it says what is wrong */
    return (int)b->held_count++;
}

static enum where place(struct kernel_batch *b, int fd, int *ret_number)
{
    *ret_number = 0;
    if (fd == KERNEL_HERE)
        return WHERE_HERE;
    if (fd == KERNEL_OWN)
        return WHERE_OWN;
    *ret_number = hold(b, fd);
    return WHERE_HELD;
}

void kernel_in(struct kernel_batch *b, int namespace_fd)
{
    struct change *c = add(b, CHANGE_IN);

    c->where = place(b, namespace_fd, &c->number);
}

unsigned kernel_namespace(struct kernel_batch *b)
{
    struct change *c = add(b, CHANGE_NAMESPACE);

    b->made = mem_grow(b->made, b->made_count + 1, sizeof(*b->made));
    b->made[b->made_count] = -1;
    c->number = (int)b->made_count++;
    return (unsigned)c->number;
}

int kernel_batch_namespace(struct kernel_batch *b, unsigned number)
{
    int fd = b->made[number];

    b->made[number] = -1;
    return fd;
}

void kernel_may_fail(struct kernel_batch *b)
{
    b->may_fail = true;
}

static struct change *link_change(struct kernel_batch *b, enum change_kind kind, const struct kernel_link *link)
{
    struct change *c = add(b, kind);

    copy_link(b, &c->self, c->self_mac, link);
    c->name = c->self.name;
    return c;
}

void kernel_bridge(struct kernel_batch *b, const struct kernel_link *link)
{
    link_change(b, CHANGE_BRIDGE, link);
}

void kernel_veth(struct kernel_batch *b, const struct kernel_link *link, const struct kernel_link *peer,
                 int peer_fd)
{
    struct change *c = link_change(b, CHANGE_VETH, link);

    copy_link(b, &c->peer, c->peer_mac, peer);
    c->where = place(b, peer_fd, &c->number);
}

void kernel_vxlan(struct kernel_batch *b, const struct kernel_link *link, const struct kernel_vxlan *vxlan)
{
    link_change(b, CHANGE_VXLAN, link)->vxlan = *vxlan;
}

static struct change *name_change(struct kernel_batch *b, enum change_kind kind, const char *name)
{
    struct change *c = add(b, kind);

    c->name = copy(b, name);
    return c;
}

void kernel_link_move(struct kernel_batch *b, const char *name, int namespace_fd, const char *new_name)
{
    struct change *c = name_change(b, CHANGE_MOVE, name);

    c->other = copy(b, new_name);
    c->where = place(b, namespace_fd, &c->number);
}

void kernel_link_up(struct kernel_batch *b, const char *name, bool up)
{
    name_change(b, CHANGE_UP, name)->flag = up;
}

void kernel_link_change(struct kernel_batch *b, const struct kernel_link *link)
{
    link_change(b, CHANGE_LINK, link);
}

void kernel_link_master(struct kernel_batch *b, const char *name, const char *bridge)
{
    name_change(b, CHANGE_MASTER, name)->other = copy(b, bridge);
}

void kernel_link_port(struct kernel_batch *b, const char *name, bool hairpin, bool isolated)
{
    struct change *c = name_change(b, CHANGE_PORT, name);

    c->flag = hairpin;
    c->second = isolated;
}

void kernel_link_delete(struct kernel_batch *b, const char *name)
{
    name_change(b, CHANGE_LINK_DELETE, name)->remove = true;
}

static struct change *address_change(struct kernel_batch *b, enum change_kind kind, const char *link,
                                     const struct kernel_address *a, bool remove)
{
    struct change *c = name_change(b, kind, link);

    if (a)
        c->address = *a;
    c->remove = remove;
    return c;
}

void kernel_add_address(struct kernel_batch *b, const char *link, const struct kernel_address *a)
{
    address_change(b, CHANGE_ADDRESS, link, a, false);
}

void kernel_delete_address(struct kernel_batch *b, const char *link, const struct kernel_address *a)
{
    address_change(b, CHANGE_ADDRESS, link, a, true);
}

static void route_change(struct kernel_batch *b, const struct kernel_route *r, bool remove)
{
    struct change *c = name_change(b, CHANGE_ROUTE, r->link);

    c->route = *r;
    c->route.link = c->name;
    c->remove = remove;
}

void kernel_add_route(struct kernel_batch *b, const struct kernel_route *r)
{
    route_change(b, r, false);
}

void kernel_delete_route(struct kernel_batch *b, const struct kernel_route *r)
{
    route_change(b, r, true);
}

void kernel_add_neighbour(struct kernel_batch *b, const char *link, const struct kernel_address *a,
                          const uint8_t mac[6])
{
    memcpy(address_change(b, CHANGE_NEIGHBOUR, link, a, false)->self_mac, mac, 6);
}

void kernel_delete_neighbour(struct kernel_batch *b, const char *link, const struct kernel_address *a)
{
    address_change(b, CHANGE_NEIGHBOUR, link, a, true);
}

void kernel_add_fdb(struct kernel_batch *b, const char *link, const uint8_t mac[6],
                    const struct kernel_address *machine)
{
    memcpy(address_change(b, CHANGE_FDB, link, machine, false)->self_mac, mac, 6);
}

void kernel_delete_fdb(struct kernel_batch *b, const char *link, const uint8_t mac[6])
{
    memcpy(address_change(b, CHANGE_FDB, link, NULL, true)->self_mac, mac, 6);
}

void kernel_add_rule(struct kernel_batch *b, const struct kernel_rule *r)
{
    add(b, CHANGE_RULE)->rule = *r;
}

void kernel_delete_rule(struct kernel_batch *b, const struct kernel_rule *r)
{
    struct change *c = add(b, CHANGE_RULE);

    c->rule = *r;
    c->remove = true;
}

void kernel_sysctl(struct kernel_batch *b, const char *path, const char *value)
{
    name_change(b, CHANGE_SYSCTL, path)->other = copy(b, value);
}

void kernel_nft(struct kernel_batch *b, struct nft *transaction)
{
    add(b, CHANGE_NFT)->nft = transaction;
}

void kernel_nft_text(struct kernel_batch *b, const char *text)
{
    name_change(b, CHANGE_NFT_TEXT, text);
}

unsigned kernel_names(struct kernel_batch *b)
{
    struct change *c = add(b, CHANGE_NAMES);

    b->names = arena_append(&b->arena, b->names, b->name_count, sizeof(*b->names));
    b->names[b->name_count] = (struct kernel_names){-1, -1};
    c->number = (int)b->name_count++;
    return (unsigned)c->number;
}

struct kernel_names kernel_batch_names(struct kernel_batch *b, unsigned number)
{
    struct kernel_names n = b->names[number];

    b->names[number] = (struct kernel_names){-1, -1};
    return n;
}

void kernel_forget_flows(struct kernel_batch *b, const struct kernel_flows *f)
{
    add(b, CHANGE_FLOWS)->flows = *f;
}

unsigned kernel_dump(struct kernel_batch *b)
{
    struct change *c = add(b, CHANGE_DUMP);

    b->dumps = arena_append(&b->arena, b->dumps, b->dump_count, sizeof(*b->dumps));
    b->dumps[b->dump_count] = ARENA_NEW(&b->arena, struct kernel_dump);
    c->number = (int)b->dump_count++;
    return (unsigned)c->number;
}

const struct kernel_dump *kernel_batch_dump(const struct kernel_batch *b, unsigned number)
{
    return b->dumps[number];
}

/* --- the thread ------------------------------------------------------------------------------------ */

static void carry_out(struct kernel_here *h, struct kernel_batch *b)
{
    struct change *c;
    struct err e;

    if (kernel_here_enter(h, h->own, &b->e) < 0)
        return;
    list_each (c, &b->changes, link) {
        if (kernel_change(h, b, c, &e) == 0)
            continue;
        if (!c->may_fail) {
            b->e = e;
            break;
        }
        log_warn("a change of the network failed", "error=\"%s\"", e.text);
    }
    if (kernel_here_enter(h, h->own, &e) < 0 && b->e.code == 0)
        b->e = e;
}

static void deliver_batch(struct mail *mail, void *owner)
{
    struct kernel_batch *b = container_of(mail, struct kernel_batch, mail);

    b->done(b->ctx, &b->e, b);
    kernel_batch_free(b);
}

static void deliver_closed(struct mail *mail, void *owner)
{
    struct kernel *k = container_of(mail, struct kernel, closed_mail);
    void (*closed)(void *ctx) = k->closed;
    void *ctx = k->closed_ctx;

    pthread_join(k->thread, NULL);
    kernel_here_close(&k->here);
    pthread_cond_destroy(&k->more);
    pthread_mutex_destroy(&k->lock);
    free(k);
    closed(ctx);
}

static struct kernel_batch *next(struct kernel *k)
{
    struct list *link;

    pthread_mutex_lock(&k->lock);
    while (list_empty(&k->queue) && !k->closing)
        pthread_cond_wait(&k->more, &k->lock);
    link = list_pop(&k->queue);
    pthread_mutex_unlock(&k->lock);
    return link ? list_entry(link, struct kernel_batch, link) : NULL;
}

static void *run(void *arg)
{
    struct kernel *k = arg;
    struct kernel_batch *b;

    while ((b = next(k))) {
        carry_out(&k->here, b);
        mailbox_post(k->box, &b->mail);
    }
    mailbox_post(k->box, &k->closed_mail);
    return NULL;
}

void kernel_submit(struct kernel *k, struct kernel_batch *b, kernel_done *done, void *ctx)
{
    b->kernel = k;
    b->done = done;
    b->ctx = ctx;
    b->mail.deliver = deliver_batch;
    pthread_mutex_lock(&k->lock);
    assert(!k->closing);
    list_push(&k->queue, &b->link);
    pthread_cond_signal(&k->more);
    pthread_mutex_unlock(&k->lock);
}

int kernel_open(struct mailbox *box, struct kernel **ret, struct err *e)
{
    struct kernel *k = mem_alloc(sizeof(*k));
    sigset_t all, before;
    int rc = kernel_here_open(&k->here, e);

    if (rc < 0) {
        free(k);
        return rc;
    }
    k->box = box;
    list_init(&k->queue);
    pthread_mutex_init(&k->lock, NULL);
    pthread_cond_init(&k->more, NULL);
    sigfillset(&all); /* signals are the loop's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int number = pthread_create(&k->thread, NULL, run, k);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (number) {
        kernel_here_close(&k->here);
        free(k);
        return err_number(e, number, "start the net thread");
    }
    *ret = k;
    return 0;
}

void kernel_close(struct kernel *k, void (*closed)(void *ctx), void *ctx)
{
    k->closed = closed;
    k->closed_ctx = ctx;
    k->closed_mail.deliver = deliver_closed;
    pthread_mutex_lock(&k->lock);
    k->closing = true;
    pthread_cond_signal(&k->more);
    pthread_mutex_unlock(&k->lock);
}
