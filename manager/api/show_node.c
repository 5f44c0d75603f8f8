/* Nodes as JSON (show.h). Before a node comes what is known of it as a manager; before the first one in a page the
 * authority that signed its certificate. */
#include <string.h>

#include "manager/api/listing.h"
#include "manager/api/show.h"
#include "manager/api/spec.h"
#include "proto/base/mem.h"

struct parts {
    struct pack_node manager;
    struct show_authority authority;
};

static const char *node_state(NodeState state)
{
    static const char *const names[] = {"unknown", "down", "ready", "disconnected"};

    return (size_t)state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

static const char *reachability(unsigned reach)
{
    static const char *const names[] = {"unknown", "unreachable", "reachable"};

    return reach < ARRAY_SIZE(names) ? names[reach] : names[0];
}

static void show_engine(struct jwrite *j, const NodeDescription *d)
{
    jwrite_object(j, "Engine");
    jwrite_string(j, "EngineVersion", d->engine_version);
    if (d->n_engine_labels) {
        jwrite_object(j, "Labels");
        for (size_t i = 0; i < d->n_engine_labels; i++)
            jwrite_string(j, d->engine_labels[i]->key, d->engine_labels[i]->value);
        jwrite_end(j);
    }
    jwrite_array(j, "Plugins");
    for (size_t i = 0; i < d->n_plugins; i++) {
        jwrite_object(j, NULL);
        jwrite_string(j, "Type", d->plugins[i]->key);
        jwrite_string(j, "Name", d->plugins[i]->value);
        jwrite_end(j);
    }
    jwrite_end(j);
    jwrite_end(j);
}

static void show_description(struct jwrite *j, const NodeDescription *given, const struct show_authority *authority)
{
    static const NodeDescription none = NODE_DESCRIPTION__INIT;
    const NodeDescription *d = given ? given : &none;

    jwrite_object(j, "Description");
    jwrite_string(j, "Hostname", d->hostname);
    jmap_write(j, "Platform", &spec_platform_map, (const ProtobufCMessage *)d->platform);
    jmap_write(j, "Resources", &spec_resources_map, (const ProtobufCMessage *)d->resources);
    show_engine(j, d);
    show_tls_of(j, authority, d);
    jwrite_end(j);
}

/* The leader sees its own machine's agent at the loopback; others reach it where its manager port is. */
static const char *address_of(struct ask *k, const Node *node, const struct pack_node *manager)
{
    const char *given = node->address ? node->address : "", *at = manager->address;
    size_t length = strcspn(at, "]");

    if (!*at || (strncmp(given, "127.", 4) != 0 && strcmp(given, "::1") != 0))
        return given;
    if (*at == '[')
        return arena_strndup(&k->scratch, at + 1, length - 1);
    return arena_strndup(&k->scratch, at, strcspn(at, ":"));
}

static void show(struct ask *k, struct jwrite *j, const struct packed *p, const struct parts *parts)
{
    const Node *node = arena_unpack(&k->scratch, &node__descriptor, p->data, p->size);

    jwrite_object(j, NULL);
    show_head(j, &node->id, p);
    jmap_write(j, "Spec", &spec_node_map, (const ProtobufCMessage *)node->spec);
    show_description(j, node->description, &parts->authority);
    jwrite_object(j, "Status");
    jwrite_string(j, "State", parts->manager.is_awaited ? "unknown" : node_state(node->state));
    if (node->state_message && *node->state_message)
        jwrite_string(j, "Message", node->state_message);
    else if (*parts->manager.why)
        jwrite_string(j, "Message", parts->manager.why);
    jwrite_string(j, "Addr", address_of(k, node, &parts->manager));
    jwrite_end(j);
    if (parts->manager.is_manager) {
        jwrite_object(j, "ManagerStatus");
        if (parts->manager.is_leader)
            jwrite_bool(j, "Leader", true);
        jwrite_string(j, "Reachability", reachability(parts->manager.reach));
        jwrite_string(j, "Addr", parts->manager.address);
        jwrite_end(j);
    }
    jwrite_end(j);
}

static void show_page(struct ask *k, struct buf *out, bool in_list)
{
    struct parts parts = {0};
    struct packed p;

    for (size_t at = 0; pack_next(&k->page.bytes, &at, &p);) {
        struct jwrite j = JWRITE_TO(out);

        if (p.kind == PACK_AUTHORITY) {
            show_authority_read(arena_unpack(&k->scratch, &root_ca__descriptor, p.data, p.size), &k->scratch,
                                &parts.authority);
        } else if (p.kind == PACK_NODE) {
            memcpy(&parts.manager, p.data, sizeof(parts.manager));
        } else {
            if (in_list)
                listing_element(k, out);
            show(k, &j, &p, &parts);
            parts.manager = (struct pack_node){0};
        }
    }
}

void show_node(struct ask *k, struct buf *out)
{
    show_page(k, out, false);
}

void show_nodes(struct ask *k, struct buf *out)
{
    listing_open(k, out);
    show_page(k, out, true);
    listing_close(k, out);
}
