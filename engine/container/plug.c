/* See plug.h.
 *
 * Interfaces are named eth0, eth1... in the order of the wishes. The default route is the network's of highest
 * priority, then of the least name, among those that lead out. The MAC follows from the address, so that neighbours
 * that remember an address remember the right one. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/container/container.h"
#include "engine/container/plug.h"
#include "proto/base/ident.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

#define ENDPOINTS_MAX 64

/* --- wishes --------------------------------------------------------------------------------------- */

static bool is_of_node(const char *mode)
{
    return strcmp(mode, "host") == 0 || strcmp(mode, "none") == 0 || strncmp(mode, "container:", 10) == 0;
}

static const EndpointConfig *config_of(const ContainerConfig *config, const char *network)
{
    for (size_t i = 0; i < config->n_endpoints; i++)
        if (strcmp(config->endpoints[i]->network, network) == 0)
            return config->endpoints[i];
    return NULL;
}

bool plug_wish(const ContainerConfig *config, size_t number, struct plug_wish *ret)
{
    const char *mode = config->host->network_mode;
    size_t at = 0;

    if (is_of_node(mode))
        return false;
    *ret = (struct plug_wish){.network = mode, .config = config_of(config, mode)};
    for (size_t i = 0; at < number && i < config->n_endpoints; i++) {
        if (strcmp(config->endpoints[i]->network, mode) == 0)
            continue;
        at++;
        *ret = (struct plug_wish){.network = config->endpoints[i]->network, .config = config->endpoints[i]};
    }
    return at == number;
}

static bool mac_parse(const char *text, uint8_t ret[6])
{
    unsigned m[6];
    int used = 0;

    if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5], &used) != 6 ||
        text[used] || (m[0] & 1))
        return false;
    for (int i = 0; i < 6; i++)
        ret[i] = (uint8_t)m[i];
    return true;
}

static int check_endpoint(const ContainerConfig *config, const EndpointConfig *c, struct err *e)
{
    uint8_t mac[6];
    uint32_t address;
    bool fixed = c->ipv4_address && *c->ipv4_address;

    if (is_of_node(config->host->network_mode) && strcmp(c->network, config->host->network_mode) != 0)
        return err_set(e, ERR_INVALID,
                       "conflicting options: cannot attach network \"%.120s\" in network mode \"%.64s\"",
                       c->network, config->host->network_mode);
    if (fixed && !ipam_address_parse(c->ipv4_address, &address))
        return err_set(e, ERR_INVALID, "invalid IPv4 address: %.60s", c->ipv4_address);
    if (fixed && (strcmp(c->network, "bridge") == 0 || is_of_node(c->network)))
        return err_set(e, ERR_INVALID, "user specified IP address is supported on user defined networks only");
    if (c->mac_address && *c->mac_address && !mac_parse(c->mac_address, mac))
        return err_set(e, ERR_INVALID, "invalid MAC address: %.60s", c->mac_address);
    if (c->n_aliases && (strcmp(c->network, "bridge") == 0 || is_of_node(c->network)))
        return err_set(e, ERR_INVALID, "network-scoped aliases are only supported for user-defined networks");
    return 0;
}

int plug_check(const ContainerConfig *config, struct err *e)
{
    int rc = 0;

    if (config->n_endpoints >= ENDPOINTS_MAX)
        return err_set(e, ERR_INVALID, "invalid EndpointsConfig: more than %d networks", ENDPOINTS_MAX - 1);
    for (size_t i = 0; rc == 0 && i < config->n_endpoints; i++)
        rc = check_endpoint(config, config->endpoints[i], e);
    return rc;
}

/* --- addresses ------------------------------------------------------------------------------------ */

const NetworkEndpoint *plug_endpoint(const ContainerRecord *record, const char *id)
{
    for (size_t i = 0; i < record->n_endpoints; i++)
        if (strcmp(record->endpoints[i]->network_id, id) == 0)
            return record->endpoints[i];
    return NULL;
}

static NetworkEndpoint *add_endpoint(ContainerRecord *record, const struct network *n)
{
    NetworkEndpoint **list = mem_array(record->n_endpoints + 1, sizeof(*list));
    NetworkEndpoint *ep = mem_alloc(sizeof(*ep));
    char id[HEX_ID_TEXT + 1];

    network_endpoint__init(ep);
    hex_id_new(entropy_real(), id);
    ep->network_id = mem_strdup(n->record->id);
    ep->id = mem_strdup(id);
    ep->interface = mem_printf("eth%zu", record->n_endpoints);
    ep->link = mem_printf("v%.12s", id);
    if (record->n_endpoints)
        memcpy(list, record->endpoints, record->n_endpoints * sizeof(*list));
    free(record->endpoints);
    record->endpoints = list;
    list[record->n_endpoints++] = ep;
    return ep;
}

static void set_mac(NetworkEndpoint *ep, const EndpointConfig *wish)
{
    uint8_t mac[6] = {0x02,
                      0x42,
                      (uint8_t)(ep->ipv4 >> 24),
                      (uint8_t)(ep->ipv4 >> 16),
                      (uint8_t)(ep->ipv4 >> 8),
                      (uint8_t)ep->ipv4};

    if (wish && wish->mac_address && *wish->mac_address)
        (void)mac_parse(wish->mac_address, mac); /* checked when it was created */
    ep->has_mac = true;
    ep->mac.data = mem_dup(mac, sizeof(mac));
    ep->mac.len = sizeof(mac);
}

static int take_one(struct container *c, struct network *n, const EndpointConfig *wish, struct err *e)
{
    uint32_t address;
    int rc;

    if (wish && wish->ipv4_address && *wish->ipv4_address) {
        (void)ipam_address_parse(wish->ipv4_address, &address); /* checked when it was created */
        rc = ipam_take(&n->pool, address, c, e);
    } else {
        rc = ipam_take_any(&n->pool, c, &address, e);
    }
    if (rc < 0)
        return err_wrap(e, "network %s", n->record->name);
    NetworkEndpoint *ep = add_endpoint(c->record, n);
    ep->has_ipv4 = ep->has_ipv4_length = ep->has_gateway = true;
    ep->ipv4 = address;
    ep->ipv4_length = n->pool.subnet.length;
    ep->gateway = n->record->internal ? 0 : n->gateway;
    set_mac(ep, wish);
    return 0;
}

static int take_all(struct container *c, struct err *e)
{
    struct plug_wish wish;
    struct network *n;
    int rc = 0;

    for (size_t i = 0; rc == 0 && plug_wish(c->record->config, i, &wish); i++) {
        rc = network_find(c->en->networks, wish.network, &n, e);
        if (rc == 0 && plug_endpoint(c->record, n->record->id))
            rc = err_set(e, ERR_INVALID, "container %s names network %s twice", c->record->id, n->record->name);
        if (rc == 0)
            rc = take_one(c, n, wish.config, e);
    }
    if (rc < 0)
        plug_out(c);
    else
        container_save(c); /* before anything has the addresses: a crash must not give them away twice */
    return rc;
}

void plug_out(struct container *c)
{
    ContainerRecord *record = c->record;

    for (size_t i = 0; i < record->n_endpoints; i++) {
        struct network *n =
            c->en->networks ? network_by_id(c->en->networks, record->endpoints[i]->network_id) : NULL;

        if (n)
            ipam_give(&n->pool, record->endpoints[i]->ipv4, c);
        network_endpoint__free_unpacked(record->endpoints[i], NULL);
    }
    free(record->endpoints);
    record->endpoints = NULL;
    record->n_endpoints = 0;
}

void plug_restore(struct container *c)
{
    struct err e;

    for (size_t i = 0; c->en->networks && i < c->record->n_endpoints; i++) {
        const NetworkEndpoint *ep = c->record->endpoints[i];
        struct network *n = network_by_id(c->en->networks, ep->network_id);

        if (n && ipam_take(&n->pool, ep->ipv4, c, &e) < 0)
            log_error("an address that a container has is taken", "container=%s network=%s error=\"%s\"",
                      c->record->id, n->record->name, e.text);
    }
}

bool containers_use_networks(const struct engine *en)
{
    const struct container *c;

    if (!en->networks)
        return false;
    list_each (c, &en->containers->all, link)
        if (c->record->n_endpoints)
            return true;
    return false;
}

/* --- before the launch ----------------------------------------------------------------------------- */

static int need_all(struct plug *p, struct err *e);

static void on_network(struct network_waiter *w, const struct err *e)
{
    struct plug *p = container_of(w, struct plug, waiter);
    struct err why = *e;

    if (why.code == 0 && !p->container)
        err_set(&why, ERR_CANCELED, "the engine is closing");
    if (why.code == 0 && need_all(p, &why) == ERR_AGAIN)
        return;
    p->done(p, &why);
}

/* One network after the other; when all are up the addresses are taken. */
static int need_all(struct plug *p, struct err *e)
{
    struct container *c = p->container;
    struct plug_wish wish;
    struct network *n;

    for (size_t i = 0; plug_wish(c->record->config, i, &wish); i++) {
        int rc = network_find(c->en->networks, wish.network, &n, e);

        if (rc == 0)
            rc = network_need(n, &p->waiter);
        if (rc < 0)
            return rc;
    }
    return take_all(c, e);
}

int plug_prepare(struct plug *p, struct container *c, void (*done)(struct plug *p, const struct err *e),
                 struct err *e)
{
    *p = (struct plug){.container = c, .done = done};
    p->waiter.done = on_network;
    list_init(&p->waiter.link);
    plug_out(c); /* of a launch that was not carried out */
    return c->en->networks ? need_all(p, e) : 0;
}

/* --- interfaces ------------------------------------------------------------------------------------ */

static struct kernel_address address_of(uint32_t address, unsigned length)
{
    struct kernel_address a = {.family = AF_INET, .length = length};

    for (int i = 0; i < 4; i++)
        a.bytes[i] = (uint8_t)(address >> (24 - 8 * i));
    return a;
}

/* Whose gateway is the way out; NULL: none's. */
static const NetworkEndpoint *way_out(struct container *c)
{
    const NetworkEndpoint *best = NULL;
    const char *best_name = "";
    int best_priority = 0;
    struct plug_wish wish;
    struct network *n;

    for (size_t i = 0; plug_wish(c->record->config, i, &wish); i++) {
        if (network_find(c->en->networks, wish.network, &n, NULL) < 0)
            continue;
        const NetworkEndpoint *ep = plug_endpoint(c->record, n->record->id);
        int priority = wish.config ? wish.config->gateway_priority : 0;
        if (!ep || !ep->gateway)
            continue;
        if (best &&
            (priority < best_priority || (priority == best_priority && strcmp(n->record->name, best_name) > 0)))
            continue;
        best = ep;
        best_name = n->record->name;
        best_priority = priority;
    }
    return best;
}

static void add_interface(struct kernel_batch *b, const struct network *n, const NetworkEndpoint *ep, int netns_fd)
{
    char alias[KERNEL_ALIAS];
    struct kernel_link here = {.name = ep->link, .alias = alias, .mtu = n->mtu};
    struct kernel_link there = {.name = ep->interface, .mac = ep->mac.data, .mtu = n->mtu};
    struct kernel_address a = address_of(ep->ipv4, ep->ipv4_length);

    networks_alias(n->owner, ep->id, alias);
    kernel_in(b, KERNEL_OWN);
    kernel_veth(b, &here, &there, netns_fd);
    kernel_link_master(b, ep->link, n->bridge);
    kernel_link_port(b, ep->link, true, !n->talks);
    kernel_link_up(b, ep->link, true);
    kernel_in(b, netns_fd);
    kernel_add_address(b, ep->interface, &a);
    kernel_link_up(b, ep->interface, true);
}

static void on_made(void *ctx, const struct err *e, struct kernel_batch *b)
{
    struct plug *p = ctx;

    p->done(p, e);
}

void plug_in(struct plug *p, struct container *c, int netns_fd, void (*done)(struct plug *p, const struct err *e))
{
    const ContainerRecord *record = c->record;
    struct kernel_batch *b = kernel_batch_new();
    const NetworkEndpoint *out = way_out(c);

    p->done = done;
    for (size_t i = 0; i < record->n_endpoints; i++) {
        const struct network *n = network_by_id(c->en->networks, record->endpoints[i]->network_id);

        if (n)
            add_interface(b, n, record->endpoints[i], netns_fd);
    }
    if (out) {
        struct kernel_route route = {
            .to = {.family = AF_INET}, .via = address_of(out->gateway, 32), .link = out->interface};

        kernel_add_route(b, &route);
    }
    kernel_submit(networks_kernel(c->en->networks), b, on_made, p);
}

/* --- files ----------------------------------------------------------------------------------------- */

void plug_hosts(const struct container *c, struct buf *out)
{
    const ContainerConfig *config = c->record->config;
    char address[IPAM_TEXT];

    for (size_t i = 0; i < c->record->n_endpoints; i++) {
        ipam_address_format(c->record->endpoints[i]->ipv4, address);
        if (config->domainname && *config->domainname)
            buf_printf(out, "%s\t%s.%s %s\n", address, config->hostname, config->domainname, config->hostname);
        else
            buf_printf(out, "%s\t%s\n", address, config->hostname);
    }
}
