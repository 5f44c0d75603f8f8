/* See network.h.
 *
 *     DOWN --need--> MAKING: look what the machine's routes are -> choose a subnet, write the record ->
 *                           bridge, address, rules -> UP
 *
 * The machine's routes are looked at before a subnet is given, chosen or asked for, so that no network of ours
 * covers one that the machine can reach already. A network that was made in an earlier run keeps its subnet.
 *
 * Bridge and rules say how the kernel is to be, so making them over what an earlier run left is no different from
 * making them. What it left of networks that are no more is found by its alias when we open. */
#include <ctype.h>
#include <fcntl.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <netinet/in.h>

#include <linux/netfilter.h>

#include "engine/container/merge.h"
#include "engine/net/network.h"
#include "engine/net/nft.h"
#include "engine/net/rules.h"
#include "proto/base/file.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"
#include "proto/base/record.h"

#define LABELS_MAX   1024
#define NETWORKS_MAX 4096
#define OPTION_MTU   "com.docker.network.driver.mtu"
#define OPTION_NAME  "com.docker.network.bridge.name"
#define OPTION_ICC   "com.docker.network.bridge.enable_icc"
#define OPTION_MASQ  "com.docker.network.bridge.enable_ip_masquerade"

static const struct record_format format = {
    .magic = "shoalnet",
    .version = 1,
    .size_max = 1024 * 1024,
    .type = &network_record__descriptor,
};

struct networks {
    struct networks_config config;
    char *instance, *bridge_id; /* owned; config points to them */
    struct records *records;
    struct mailbox box; /* of the net thread's answers */
    struct kernel *kernel;
    char table[RULES_TABLE];
    struct map by_id;
    struct list all; /* of struct network, oldest first */
    size_t count;
    bool forwarding; /* ip_forward was seen to */
    bool touched;    /* the kernel was asked for something of ours */
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

struct making { /* a network on its way up */
    struct networks *owner;
    struct network *network;
    bool is_new;           /* made by network_create: it goes again when that fails */
    network_created *done; /* may be NULL */
    void *ctx;
};

struct kernel *networks_kernel(struct networks *s)
{
    return s->kernel;
}

void networks_alias(const struct networks *s, const char *id, char *ret)
{
    (void)snprintf(ret, KERNEL_ALIAS, "shoal:%s:%s", s->instance, id);
}

/* --- what a record says --------------------------------------------------------------------------- */

static bool option_bool(const NetworkRecord *r, const char *key, bool otherwise)
{
    const char *value = key_value_get(r->options, r->n_options, key);

    return value && *value ? strcmp(value, "true") == 0 || strcmp(value, "1") == 0 : otherwise;
}

/* Fill in what follows from the record; whatever is odd in it was refused when it was made. */
static void read_record(struct network *n)
{
    const NetworkRecord *r = n->record;
    const char *name = key_value_get(r->options, r->n_options, OPTION_NAME);
    const char *mtu = key_value_get(r->options, r->n_options, OPTION_MTU);
    uint32_t address;

    if (name && *name)
        (void)snprintf(n->bridge, sizeof(n->bridge), "%s", name);
    else
        (void)snprintf(n->bridge, sizeof(n->bridge), "br-%.12s", r->id);
    n->mtu = mtu ? (unsigned)strtoul(mtu, NULL, 10) : 0;
    n->talks = option_bool(r, OPTION_ICC, true);
    n->masquerade = option_bool(r, OPTION_MASQ, true);
    n->predefined = strcmp(r->id, n->owner->bridge_id) == 0;
    if (!r->n_pools || !ipam_subnet_parse(r->pools[0]->subnet, &n->pool.subnet))
        return;
    n->pool.range = n->pool.subnet;
    if (r->pools[0]->range && *r->pools[0]->range)
        (void)ipam_subnet_parse(r->pools[0]->range, &n->pool.range);
    if (r->pools[0]->gateway && ipam_address_parse(r->pools[0]->gateway, &n->gateway))
        (void)ipam_take(&n->pool, n->gateway, n, NULL);
    for (size_t i = 0; i < r->pools[0]->n_reserved; i++)
        if (ipam_address_parse(r->pools[0]->reserved[i]->value, &address))
            (void)ipam_take(&n->pool, address, n, NULL);
}

static struct network *add(struct networks *s, NetworkRecord *record)
{
    struct network *n = mem_alloc(sizeof(*n));
    struct list *after = s->all.prev;

    n->record = record;
    n->owner = s;
    list_init(&n->waiters);
    read_record(n);
    while (after != &s->all && list_entry(after, struct network, link)->record->created_ns > record->created_ns)
        after = after->prev;
    list_insert(after, &n->link);
    map_put(&s->by_id, record->id, n);
    s->count++;
    return n;
}

static void drop(struct network *n)
{
    map_remove(&n->owner->by_id, n->record->id);
    n->owner->count--;
    list_remove(&n->link);
    ipam_fini(&n->pool);
    message_free(n->record);
    free(n);
}

/* --- finding -------------------------------------------------------------------------------------- */

struct network *networks_next(struct networks *s, const struct network *after)
{
    const struct list *next = after ? after->link.next : s->all.next;

    return next == &s->all ? NULL : list_entry(next, struct network, link);
}

struct network *network_by_id(struct networks *s, const char *id)
{
    return map_get(&s->by_id, id);
}

static struct network *by_name(struct networks *s, const char *name)
{
    struct network *n;

    list_each (n, &s->all, link)
        if (strcmp(n->record->name, name) == 0)
            return n;
    return NULL;
}

int network_find(struct networks *s, const char *ref, struct network **ret, struct err *e)
{
    struct network *n, *found = map_get(&s->by_id, ref);
    size_t length = strlen(ref);

    if (!found)
        found = by_name(s, ref);
    if (found || !length) {
        *ret = found;
        return found ? 0 : err_set(e, ERR_NOT_FOUND, "network %.120s not found", ref);
    }
    list_each (n, &s->all, link) {
        if (strncmp(n->record->id, ref, length) != 0)
            continue;
        if (found)
            return err_set(e, ERR_INVALID, "network %.120s is ambiguous (2 matches found on ID prefix)", ref);
        found = n;
    }
    *ret = found;
    return found ? 0 : err_set(e, ERR_NOT_FOUND, "network %.120s not found", ref);
}

/* --- checks --------------------------------------------------------------------------------------- */

static int check_address(const struct ipam_subnet *subnet, const char *what, const char *text, uint32_t *ret,
                         struct err *e)
{
    char in[IPAM_TEXT];

    ipam_subnet_format(subnet, in);
    if (!ipam_address_parse(text, ret))
        return err_set(e, ERR_INVALID, "invalid %s address: %.60s", what, text);
    if (!ipam_contains(subnet, *ret))
        return err_set(e, ERR_INVALID, "invalid %s address %.60s: it is not one of subnet %s", what, text, in);
    return 0;
}

static int check_pool(const IpamPool *p, struct err *e)
{
    struct ipam_subnet subnet, range;
    uint32_t address;
    int rc = 0;

    if (strchr(p->subnet, ':'))
        return err_set(e, ERR_UNSUPPORTED,
                       "invalid subnet %.60s: IPv6 networks are not implemented in shoal " SHOAL_VERSION,
                       p->subnet);
    if (!ipam_subnet_parse(p->subnet, &subnet))
        return err_set(e, ERR_INVALID, "invalid subnet %.60s: invalid CIDR block notation", p->subnet);
    if (p->range && *p->range &&
        (!ipam_subnet_parse(p->range, &range) || range.length < subnet.length ||
         !ipam_contains(&subnet, range.base)))
        return err_set(e, ERR_INVALID, "invalid ip-range %.60s: it is not a part of subnet %.60s", p->range,
                       p->subnet);
    if (p->gateway && *p->gateway)
        rc = check_address(&subnet, "gateway", p->gateway, &address, e);
    for (size_t i = 0; rc == 0 && i < p->n_reserved; i++)
        rc = check_address(&subnet, "auxiliary", p->reserved[i]->value, &address, e);
    return rc;
}

static int check_options(const NetworkRecord *r, struct err *e)
{
    const char *name = key_value_get(r->options, r->n_options, OPTION_NAME);
    const char *mtu = key_value_get(r->options, r->n_options, OPTION_MTU);
    char *end;

    if (name && (strlen(name) >= KERNEL_NAME || strpbrk(name, "/ \t\n\"%:") || *name == '.'))
        return err_set(e, ERR_INVALID, "invalid option " OPTION_NAME ": \"%.60s\" is no name of a link", name);
    if (mtu) {
        unsigned long value = strtoul(mtu, &end, 10);

        if (!isdigit((unsigned char)*mtu) || *end || value < 68 || value > 65535)
            return err_set(e, ERR_INVALID, "invalid option " OPTION_MTU ": \"%.60s\" is not 68 to 65535", mtu);
    }
    return 0;
}

static int check_driver(const char *driver, struct err *e)
{
    static const char *const later[] = {"macvlan", "ipvlan", "overlay"};

    if (!*driver || strcmp(driver, "bridge") == 0)
        return 0;
    if (strcmp(driver, "host") == 0 || strcmp(driver, "null") == 0)
        return err_set(e, ERR_DENIED, "only one instance of \"%s\" network is allowed", driver);
    for (size_t i = 0; i < ARRAY_SIZE(later); i++)
        if (strcmp(driver, later[i]) == 0)
            return err_set(e, ERR_UNSUPPORTED, "network driver \"%s\" is not implemented in shoal " SHOAL_VERSION,
                           driver);
    return err_set(e, ERR_NOT_FOUND, "could not find plugin %.120s in v1 plugin registry: plugin not found",
                   driver);
}

static int check_new(struct networks *s, const NetworkRecord *asked, struct err *e)
{
    static const char *const predefined[] = {"host", "none", "default", "bridge"};
    int rc = check_driver(asked->driver, e);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < ARRAY_SIZE(predefined); i++)
        if (strcmp(asked->name, predefined[i]) == 0)
            return err_set(e, ERR_DENIED, "operation is not permitted on predefined %s network", asked->name);
    if (!name_valid_container(asked->name))
        return err_set(e, ERR_INVALID,
                       "invalid network name: \"%.120s\": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", asked->name);
    if (by_name(s, asked->name))
        return err_set(e, ERR_EXISTS, "network with name %s already exists", asked->name);
    if (s->count >= NETWORKS_MAX)
        return err_set(e, ERR_UNAVAILABLE, "there are %d networks already", NETWORKS_MAX);
    if (asked->n_labels > LABELS_MAX || asked->n_options > LABELS_MAX)
        return err_set(e, ERR_INVALID, "network %s: more than %d labels or options", asked->name, LABELS_MAX);
    if (asked->n_pools > 1)
        return err_set(e, ERR_UNSUPPORTED,
                       "network %s: more than one subnet is not implemented in shoal " SHOAL_VERSION, asked->name);
    rc = check_options(asked, e);
    return rc == 0 && asked->n_pools ? check_pool(asked->pools[0], e) : rc;
}

/* --- subnets -------------------------------------------------------------------------------------- */

static void add_taken(const struct kernel_address *a, struct ipam_subnet *taken, size_t *count)
{
    struct ipam_subnet s = {.length = a->length};

    if (a->family != AF_INET || !a->length)
        return; /* the default route covers everything and is in nobody's way */
    for (int i = 0; i < 4; i++)
        s.base = s.base << 8 | a->bytes[i];
    s.base &= ~0u << (32 - s.length);
    taken[(*count)++] = s;
}

/* What is in use: by other networks of ours, and by the machine's routes and addresses but those of this bridge. */
static struct ipam_subnet *subnets_in_use(struct network *n, const struct kernel_dump *d, size_t *ret_count)
{
    struct networks *s = n->owner;
    struct ipam_subnet *taken = mem_array(s->count + d->route_count + d->address_count, sizeof(*taken));
    const struct network *other;
    int own = 0;
    size_t count = 0;

    for (size_t i = 0; i < d->link_count; i++)
        if (strcmp(d->links[i].name, n->bridge) == 0)
            own = d->links[i].index;
    list_each (other, &s->all, link)
        if (other != n && other->pool.subnet.length)
            taken[count++] = other->pool.subnet;
    for (size_t i = 0; i < d->route_count; i++)
        if (d->routes[i].link != own)
            add_taken(&d->routes[i].to, taken, &count);
    for (size_t i = 0; i < d->address_count; i++)
        if (d->addresses[i].link != own)
            add_taken(&d->addresses[i].address, taken, &count);
    *ret_count = count;
    return taken;
}

/* The subnet that was asked for, or one that is free, becomes the network's. */
static int take_subnet(struct network *n, const struct kernel_dump *d, struct err *e)
{
    NetworkRecord *r = n->record;
    size_t count;
    AUTO_FREE
    struct ipam_subnet *taken = subnets_in_use(n, d, &count);
    struct ipam_subnet subnet;
    char text[IPAM_TEXT];
    int rc = 0;

    if (!r->n_pools) {
        rc = ipam_choose(taken, count, &subnet, e);
        if (rc < 0)
            return rc;
        ipam_subnet_format(&subnet, text);
        r->pools = mem_array(1, sizeof(*r->pools));
        r->pools[0] = mem_alloc(sizeof(IpamPool));
        r->n_pools = 1;
        ipam_pool__init(r->pools[0]);
        r->pools[0]->subnet = mem_strdup(text);
    } else {
        (void)ipam_subnet_parse(r->pools[0]->subnet, &subnet);
        for (size_t i = 0; i < count; i++)
            if (ipam_overlap(&subnet, &taken[i]))
                return err_set(e, ERR_DENIED, "Pool overlaps with other one on this address space");
    }
    if (!r->pools[0]->gateway || !*r->pools[0]->gateway) {
        ipam_address_format(subnet.base + 1, text);
        free(r->pools[0]->gateway);
        r->pools[0]->gateway = mem_strdup(text);
    }
    return 0;
}

/* --- making --------------------------------------------------------------------------------------- */

static void add_rules(struct networks *s, struct kernel_batch *b)
{
    AUTO_FREE
    struct rules_network *list = mem_array(s->count, sizeof(*list));
    AUTO_BUF struct buf text = {0};
    const struct network *n;
    size_t count = 0;

    list_each (n, &s->all, link)
        if (n->state != NETWORK_REMOVING && n->pool.subnet.length)
            list[count++] = (struct rules_network){.bridge = n->bridge,
                                                   .subnet = n->pool.subnet,
                                                   .internal = n->record->internal,
                                                   .talks = n->talks,
                                                   .masquerade = n->masquerade};
    rules_text(s->table, list, count, NULL, 0, &text);
    kernel_nft_text(b, buf_str(&text));
}

/* Routing between links is the machine's own matter, until the first network needs it. */
static void see_to_forwarding(struct networks *s, struct kernel_batch *b)
{
    AUTO_BUF struct buf now = {0};

    if (s->forwarding)
        return;
    s->forwarding = true;
    if (file_read(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", 16, &now, NULL) == 0 && *buf_str(&now) == '1')
        return;
    log_info("the machine routes between its links from now on: a network needs it", "sysctl=net.ipv4.ip_forward");
    kernel_sysctl(b, "ipv4/ip_forward", "1");
}

static void add_bridge(struct network *n, struct kernel_batch *b)
{
    char alias[KERNEL_ALIAS], sysctl[64];
    struct kernel_link link = {.name = n->bridge, .alias = alias, .mtu = n->mtu};
    struct kernel_address a = {.family = AF_INET, .length = n->pool.subnet.length};

    networks_alias(n->owner, n->record->id, alias);
    for (int i = 0; i < 4; i++)
        a.bytes[i] = (uint8_t)(n->gateway >> (24 - 8 * i));
    kernel_bridge(b, &link);
    kernel_add_address(b, n->bridge, &a);
    kernel_link_up(b, n->bridge, true);
    (void)snprintf(sysctl, sizeof(sysctl), "ipv4/conf/%s/route_localnet", n->bridge);
    kernel_sysctl(b, sysctl, "1"); /* published ports answer at 127.0.0.1 */
    if (!n->record->internal)
        see_to_forwarding(n->owner, b);
}

static void tell_waiters(struct network *n, const struct err *e)
{
    struct list turn;

    list_init(&turn);
    list_splice(&turn, &n->waiters);
    for (struct list *item; (item = list_pop(&turn));) {
        struct network_waiter *w = list_entry(item, struct network_waiter, link);

        w->done(w, e);
    }
}

static void made(struct making *m, const struct err *e)
{
    struct network *n = m->network;
    struct networks *s = m->owner;

    if (e->code == 0) {
        n->state = NETWORK_UP;
        if (m->is_new)
            s->config.on_event(s->config.ctx, "create", n);
    } else {
        n->state = NETWORK_DOWN;
    }
    tell_waiters(n, e);
    if (m->done)
        m->done(m->ctx, e, e->code ? NULL : n);
    if (e->code && m->is_new) {
        (void)records_remove(s->records, n->record->id, NULL); /* else it is there at the next start */
        drop(n);
    }
    free(m);
}

static void on_bridge(void *ctx, const struct err *e, struct kernel_batch *b)
{
    made(ctx, e);
}

static void on_looked(void *ctx, const struct err *e, struct kernel_batch *b)
{
    struct making *m = ctx;
    struct network *n = m->network;
    struct networks *s = m->owner;
    struct err why = *e;

    if (why.code == 0 && s->closing)
        err_set(&why, ERR_CANCELED, "the engine is closing");
    if (why.code == 0 && !n->pool.subnet.length) {
        if (take_subnet(n, kernel_batch_dump(b, 0), &why) == 0 &&
            records_put(s->records, n->record->id, &n->record->base, &why) == 0)
            read_record(n);
    }
    if (why.code) {
        made(m, &why);
        return;
    }
    struct kernel_batch *next = kernel_batch_new();
    s->touched = true;
    add_bridge(n, next);
    add_rules(s, next);
    kernel_submit(s->kernel, next, on_bridge, m);
}

static void make(struct network *n, bool is_new, network_created *done, void *ctx)
{
    struct making *m = mem_alloc(sizeof(*m));
    struct kernel_batch *b = kernel_batch_new();

    *m = (struct making){.owner = n->owner, .network = n, .is_new = is_new, .done = done, .ctx = ctx};
    n->state = NETWORK_MAKING;
    (void)kernel_dump(b);
    kernel_submit(n->owner->kernel, b, on_looked, m);
}

int network_create(struct networks *s, const NetworkRecord *asked, network_created *done, void *ctx, struct err *e)
{
    NetworkRecord *record;
    char id[HEX_ID_TEXT + 1];
    int rc = check_new(s, asked, e);

    if (rc < 0)
        return rc;
    record = message_dup(asked);
    hex_id_new(entropy_real(), id);
    free(record->id);
    record->id = mem_strdup(id);
    free(record->driver);
    record->driver = mem_strdup("bridge");
    record->created_ns = s->config.now_ns();
    record->format = 1;
    /* Without pools until the machine's routes are known, so that nobody takes it for settled. */
    size_t pools = record->n_pools;
    record->n_pools = 0;
    struct network *n = add(s, record);
    record->n_pools = pools;
    make(n, true, done, ctx);
    return 0;
}

int network_need(struct network *n, struct network_waiter *w)
{
    if (n->state == NETWORK_UP)
        return 0;
    list_push(&n->waiters, &w->link);
    if (n->state == NETWORK_DOWN)
        make(n, false, NULL, NULL);
    return ERR_AGAIN;
}

void network_unwait(struct network_waiter *w)
{
    list_remove(&w->link);
}

/* --- removing ------------------------------------------------------------------------------------- */

static void on_removed(void *ctx, const struct err *e, struct kernel_batch *b)
{
    if (e->code)
        log_warn("what is left of a network could not be removed", "error=\"%s\"", e->text);
}

int network_remove(struct network *n, struct err *e)
{
    struct networks *s = n->owner;
    struct kernel_batch *b;

    if (n->predefined)
        return err_set(e, ERR_DENIED, "%s is a pre-defined network and cannot be removed", n->record->name);
    if (n->state != NETWORK_UP && n->state != NETWORK_DOWN)
        return err_set(e, ERR_CONFLICT, "network %s is being made", n->record->name);
    int rc = records_remove(s->records, n->record->id, e);
    if (rc < 0)
        return err_wrap(e, "remove network %s", n->record->name);
    n->state = NETWORK_REMOVING;
    s->config.on_event(s->config.ctx, "destroy", n);
    b = kernel_batch_new();
    kernel_link_delete(b, n->bridge);
    add_rules(s, b);
    kernel_submit(s->kernel, b, on_removed, s);
    drop(n);
    return 0;
}

/* --- opening -------------------------------------------------------------------------------------- */

static void open_on_record(void *ctx, const char *name, ProtobufCMessage *message)
{
    struct networks *s = ctx;
    NetworkRecord *record = (NetworkRecord *)message;

    if (strcmp(record->id, name) != 0 || map_get(&s->by_id, name)) {
        log_error("a network's record carries another id", "network=%s record=%s", record->id, name);
        message_free(record);
        return;
    }
    (void)add(s, record);
}

static void open_on_problem(void *ctx, const char *name, const struct err *why)
{
    log_error("a network's record", "network=%s error=\"%s\"", name, why->text);
}

static void add_predefined(struct networks *s)
{
    NetworkRecord record = NETWORK_RECORD__INIT;

    if (map_get(&s->by_id, s->bridge_id))
        return;
    record.format = 1;
    record.id = s->bridge_id;
    record.name = (char *)"bridge";
    record.driver = (char *)"bridge";
    record.created_ns = s->config.now_ns();
    (void)add(s, message_dup(&record)); /* written down with its subnet */
}

/* Bridges of ours that belong to no network. */
static void on_opened(void *ctx, const struct err *e, struct kernel_batch *b)
{
    struct networks *s = ctx;
    const struct kernel_dump *d = e->code ? NULL : kernel_batch_dump(b, 0);
    struct kernel_batch *clean = kernel_batch_new();
    char prefix[KERNEL_ALIAS];
    bool any = false;

    networks_alias(s, "", prefix);
    for (size_t i = 0; d && i < d->link_count; i++) {
        const struct kernel_seen_link *l = &d->links[i];

        if (strcmp(l->kind, "bridge") != 0 || strncmp(l->alias, prefix, strlen(prefix)) != 0 ||
            map_get(&s->by_id, l->alias + strlen(prefix)))
            continue;
        log_info("a bridge without a network is removed", "link=%s", l->name);
        kernel_link_delete(clean, l->name);
        any = true;
    }
    if (any)
        kernel_submit(s->kernel, clean, on_removed, s);
    else
        kernel_batch_free(clean);
}

int networks_open(const struct networks_config *config, struct networks **ret, struct err *e)
{
    struct networks *s = mem_alloc(sizeof(*s));
    struct records_scan scan = {.ctx = s, .on_record = open_on_record, .on_problem = open_on_problem};

    s->config = *config;
    s->config.instance = s->instance = mem_strdup(config->instance);
    s->config.bridge_id = s->bridge_id = mem_strdup(config->bridge_id);
    rules_table(s->instance, s->table);
    list_init(&s->all);
    if (mailbox_open(&s->box, config->loop, s) < 0)
        abort(); /* only without memory or descriptors for the loop itself */
    int rc = records_open(config->loop, config->dir, &format, &s->records, e);
    if (rc == 0) {
        records_set_delay(s->records, config->settle_ms);
        rc = records_scan(s->records, &scan, e);
    }
    if (rc == 0)
        rc = kernel_open(&s->box, &s->kernel, e);
    if (rc < 0) {
        networks_close(s, false, NULL, NULL);
        return err_wrap(e, "networks");
    }
    add_predefined(s);
    struct kernel_batch *b = kernel_batch_new();
    (void)kernel_dump(b);
    kernel_submit(s->kernel, b, on_opened, s);
    *ret = s;
    return 0;
}

/* --- closing: one part after the other ------------------------------------------------------------- */

static void close_free(struct mailbox *box)
{
    struct networks *s = container_of(box, struct networks, box);
    struct network *n;

    while ((n = list_first(&s->all, struct network, link)))
        drop(n);
    map_fini(&s->by_id);
    free(s->instance);
    free(s->bridge_id);
    if (s->closed)
        s->closed(s->closed_ctx);
    free(s);
}

static void close_box(void *ctx)
{
    struct networks *s = ctx;

    mailbox_close(&s->box, close_free);
}

static void close_records(void *ctx)
{
    struct networks *s = ctx;

    if (s->records)
        records_close(s->records, close_box, s);
    else
        close_box(s);
}

static void remove_all(struct networks *s)
{
    struct kernel_batch *b = kernel_batch_new();
    struct nft *t = nft_new();
    const struct network *n;

    list_each (n, &s->all, link) {
        if (n->state != NETWORK_UP)
            continue;
        kernel_may_fail(b);
        kernel_link_delete(b, n->bridge);
    }
    nft_in(t, NFPROTO_INET, s->table);
    nft_delete_table(t);
    kernel_may_fail(b);
    kernel_nft(b, t);
    kernel_submit(s->kernel, b, on_removed, s);
}

void networks_close(struct networks *s, bool remove, void (*closed)(void *ctx), void *ctx)
{
    s->closing = true;
    s->closed = closed;
    s->closed_ctx = ctx;
    if (!s->kernel) {
        close_records(s);
        return;
    }
    if (remove && s->touched)
        remove_all(s);
    kernel_close(s->kernel, close_records, s);
}
