/* Objects of the cluster as JSON (reference/engine-api.yaml): what the pages of pack.h become on the node's loop.
 *
 * A page holds what belongs to an object before the object itself. Each of these renders one page: `show_x` the one
 * object of an inspect, `show_xs` elements of a list. */
#pragma once

#include "manager/api/ask.h"
#include "manager/api/pack.h"
#include "proto/base/jwrite.h"
#include "proto/object.pb-c.h"

void show_service(struct ask *k, struct buf *out);
void show_services(struct ask *k, struct buf *out);
void show_task(struct ask *k, struct buf *out);
void show_tasks(struct ask *k, struct buf *out);
void show_node(struct ask *k, struct buf *out);
void show_nodes(struct ask *k, struct buf *out);
void show_network(struct ask *k, struct buf *out);

/* The swarm with its join tokens. */
void show_swarm(struct ask *k, struct buf *out);

/* --- parts ---------------------------------------------------------------------------------------------- */

struct show_authority { /* who signs, or may have signed, the certificates of nodes; texts in the arena */
    struct show_issuer {
        uint64_t digest;           /* cert_key_digest */
        const char *subject, *key; /* DER as base64 */
    } issuers[2];                  /* the last one signs now */
    const char *trust[2];          /* the present root; while roots rotate the next one besides */
    uint64_t trust_digest[2];
    size_t count; /* 0: there is none yet */
};

/* NULL is fine. */
void show_authority_read(const RootCa *root, struct arena *a, struct show_authority *ret);

/* "TLSInfo": of the swarm what is wanted, of a node what it says it has. Nothing when there is nothing to say. */
void show_tls_wanted(struct jwrite *j, const struct show_authority *authority);
void show_tls_of(struct jwrite *j, const struct show_authority *authority, const NodeDescription *node);

/* The members of GET /swarm and of /info's Swarm.Cluster, but for the tokens. Into an open object. */
void show_cluster(struct jwrite *j, const struct packed *header, const Cluster *cluster);

/* "ID" (when the id has its size), "Version", "CreatedAt", "UpdatedAt". */
void show_head(struct jwrite *j, const ProtobufCBinaryData *id, const struct packed *p);

/* A network as task attachments have it. Into the array or member that is open. */
void show_swarm_network(struct jwrite *j, const char *key, const struct packed *p, const Network *network);

/* What a state is called: "running". */
const char *show_task_state(TaskState state);
/* The reverse; false when there is none of that name. */
bool show_task_state_parse(const char *name, TaskState *ret);
