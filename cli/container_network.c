/* Networks of a new container: --network and what belongs to it. See container_spec.h.
 *
 * The first network gives the container its network mode; --ip, --network-alias and the like are meant for it. A
 * single network without options needs no endpoint: the node makes it from the mode. */
#include <string.h>

#include "cli/container_spec.h"
#include "cli/spec.h"
#include "proto/base/mem.h"

static bool user_network(const char *name)
{
    static const char *const own[] = {"default", "bridge", "host", "none", "nat"};

    for (size_t i = 0; i < ARRAY_SIZE(own); i++)
        if (strcmp(name, own[i]) == 0)
            return false;
    return strncmp(name, "container:", 10) != 0;
}

static int conflict(struct err *e, const char *option, const char *what)
{
    return err_set(e, ERR_INVALID, "conflicting options: cannot specify both --%s and per-network %s", option,
                   what);
}

/* --ip, --network-alias and so on belong to the first network. */
static int apply_options(struct arena *a, struct attach_network *n, const struct args *args, struct err *e)
{
    static const char *const aliases[] = {"network-alias", "net-alias"};
    const char *ip = args_text(args, "ip"), *ip6 = args_text(args, "ip6"), *mac = args_text(args, "mac-address"),
               *text;

    if (n->aliases_count && (args_has(args, aliases[0]) || args_has(args, aliases[1])))
        return conflict(e, "network-alias", "alias");
    if (*n->address && *ip)
        return conflict(e, "ip", "IPv4 address");
    if (*n->address6 && *ip6)
        return conflict(e, "ip6", "IPv6 address");
    if (*n->mac_address && *mac)
        return conflict(e, "mac-address", "MAC address");
    if (n->link_local_count && args_has(args, "link-local-ip"))
        return conflict(e, "link-local-ip", "link-local IP addresses");
    for (size_t i = 0; i < ARRAY_SIZE(aliases); i++) {
        for (size_t at = 0; (text = args_next(args, aliases[i], &at));) {
            n->aliases = arena_append(a, n->aliases, n->aliases_count, sizeof(*n->aliases));
            n->aliases[n->aliases_count++] = text;
        }
    }
    for (size_t at = 0; (text = args_next(args, "link-local-ip", &at));) {
        n->link_local = arena_append(a, n->link_local, n->link_local_count, sizeof(*n->link_local));
        n->link_local[n->link_local_count++] = text;
    }
    n->address = *ip ? ip : n->address;
    n->address6 = *ip6 ? ip6 : n->address6;
    n->mac_address = *mac ? mac : n->mac_address;
    return 0;
}

static void put_texts(json_t *object, const char *member, const char **list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        tree_append_text(tree_array(object, member), list[i]);
}

static int endpoint(const struct attach_network *n, bool first, const struct args *args, json_t *endpoints,
                    struct err *e)
{
    json_t *ep = json_object();

    if (json_object_get(endpoints, n->target)) {
        json_decref(ep);
        return err_set(e, ERR_INVALID, "network \"%s\" is specified multiple times", n->target);
    }
    tree_put(endpoints, n->target, ep);
    if (!user_network(n->target) && n->aliases_count)
        return err_set(e, ERR_INVALID, "network-scoped aliases are only supported for user-defined networks");
    put_texts(ep, "Aliases", n->aliases, n->aliases_count);
    if (first && user_network(n->target))
        spec_put_list(ep, "Links", args, "link");
    if (*n->mac_address && !container_spec_mac(n->mac_address))
        return err_set(e, ERR_INVALID, "%s is not a valid mac address", n->mac_address);
    if (*n->mac_address)
        tree_put_text(ep, "MacAddress", n->mac_address);
    if (n->driver_options.count)
        tree_put(ep, "DriverOpts", spec_pairs(&n->driver_options));
    if (n->gateway_priority)
        tree_put_int(ep, "GwPriority", n->gateway_priority);
    if (*n->address)
        tree_put_text(tree_object(ep, "IPAMConfig"), "IPv4Address", n->address);
    if (*n->address6)
        tree_put_text(tree_object(ep, "IPAMConfig"), "IPv6Address", n->address6);
    if (n->link_local_count)
        put_texts(tree_object(ep, "IPAMConfig"), "LinkLocalIPs", n->link_local, n->link_local_count);
    return 0;
}

int container_spec_networks(json_t *body, json_t *host, const struct args *args, struct err *e)
{
    static const char *const options[] = {"network", "net"};
    json_t *endpoints = tree_object(body, "NetworkingConfig.EndpointsConfig");
    AUTO_ARENA struct arena a;
    const char *text, *mode = "default";
    bool ours = false, theirs = false;
    size_t count = 0;
    int rc = 0;

    arena_init(&a);
    for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
        for (size_t at = 0; rc == 0 && (text = args_next(args, options[i], &at)); count++) {
            struct attach_network n;

            rc = attach_network(&a, text, &n, e);
            if (rc == 0 && count == 0)
                rc = apply_options(&a, &n, args, e);
            if (rc == 0)
                rc = endpoint(&n, count == 0, args, endpoints, e);
            if (rc < 0)
                return rc;
            if (count == 0)
                mode = n.target;
            ours = ours || !user_network(n.target);
            theirs = theirs || user_network(n.target);
        }
    }
    if (ours && theirs)
        return err_set(e, ERR_INVALID,
                       "conflicting options: cannot attach both user-defined and non-user-defined network-modes");
    if (count == 0) {
        struct attach_network n = {.target = mode, .address = "", .address6 = "", .mac_address = ""};

        rc = apply_options(&a, &n, args, e);
        if (rc == 0)
            rc = endpoint(&n, true, args, endpoints, e);
    }
    if (rc == 0)
        tree_put_text(host, "NetworkMode", mode);
    if (count <= 1 && json_object_size(json_object_get(endpoints, mode)) == 0)
        (void)json_object_del(endpoints, mode); /* one network without options needs no endpoint */
    if (json_object_size(endpoints) == 0)
        (void)json_object_del(body, "NetworkingConfig");
    return rc;
}
