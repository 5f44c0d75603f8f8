/* The manager, seen from the node: open, ask, close (DESIGN.md sections 1 and 4).
 *
 * It runs in a thread of its own with its own loop and shares nothing with the node but messages. Requests of the
 * swarm API travel to it as mail and come back as mail; long answers come in pages that the node asks for as fast
 * as its client reads, and are turned into JSON on the node's loop. All functions are called on the node loop, and
 * all callbacks come on it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/jwrite.h"
#include "proto/object.pb-c.h"
#include "proto/wire/mailbox.h"

struct manager;

#define MANAGER_EVENT_ATTRIBUTES 8
#define MANAGER_RAFT_ID_FIRST    1 /* the founder's number in the managers' group */

struct manager_event {              /* for GET /events, of scope "swarm" */
    const char *type, *action, *id; /* "service", "update" */
    size_t count;
    struct manager_attribute {
        const char *key, *value;
    } attributes[MANAGER_EVENT_ATTRIBUTES];
};

/* What is fixed for users and short for tests; 0: as it is for users. */
struct manager_tuning {
    unsigned registrations_per_second, registrations_per_node; /* of agents (manager/dispatcher/admission.h) */
    uint64_t snapshot_bytes;                                   /* least log between snapshots; 64 MiB */
    int64_t orphan_ms; /* a node is down for so long before its tasks are given up; 24 hours */
};

struct manager_config {
    const char *dir;               /* <data-dir>/swarm/manager: log, snapshots, store */
    const char *listen_address;    /* "0.0.0.0:2377" */
    const char *advertise_address; /* "10.0.0.1:2377": what others use */
    const uint8_t *data_key;       /* 32 bytes; copied */
    uint64_t raft_id;              /* its number in the managers' group, as MemberReply or the founder's (1) */
    uint64_t epoch;                /* of the cluster, as MemberReply; 0 at first */
    const char *node_id;           /* 25 characters */
    const char *cluster_id;
    const char *certificate_pem, *key_pem, *root_pem; /* of this node; copied */
    const char *root_key_pem; /* with `bootstrap`: the signing key that goes into the store */
    const Cluster
        *bootstrap; /* first manager of a new cluster: its cluster object (id, spec, pools...); else NULL */
    const NodeDescription *description; /* of this machine, for the first node's object */
    NodeAvailability availability;
    /* Go on alone with what this manager has (swarm init --force-new-cluster): it becomes the only member, with
     * `epoch`, which is greater than before. */
    bool force_new_cluster;
    struct mailbox *node;          /* where replies go: the node loop's box */
    int election_ms, heartbeat_ms; /* 0: defaults */
    struct manager_tuning tuning;
    void *ctx;
    void (*on_ready)(void *ctx); /* serving, or able to say why it cannot: the agent may connect */
    /* It stopped by itself; manager_close is still due. ERR_UNAVAILABLE: the disk is full, or the store has to be
     * rebuilt: open it again after a while. Any other code: the disk failed or the log is damaged. */
    void (*on_stopped)(void *ctx, const struct err *e);
    /* This manager is no member of the group any more: it was demoted, its node was removed, or a new cluster was
     * forced elsewhere. manager_close is still due; its directory may go afterwards. May be NULL. */
    void (*on_removed)(void *ctx);
    /* The cluster's unlock key as this manager's store has it: `key` is 32 bytes, or NULL while autolock is off.
     * Comes once this manager serves and whenever it changes; `version` is that of the cluster's object: news of a
     * lower one than was acted on before is stale (the log is being read again). May be NULL. */
    void (*on_lock_key)(void *ctx, const uint8_t *key, uint64_t version);
    /* Something happened to an object of the swarm, after on_ready; borrowed for the call. NULL: nobody listens. */
    void (*on_event)(void *ctx, const struct manager_event *event);
};

/* Check what can be checked at once, start the thread. Errors that need the disk come by on_stopped. */
int manager_open(const struct manager_config *config, struct manager **ret, struct err *e);

/* Answer what is under way with 503, stop the thread, then `closed`; m is freed after it. */
void manager_close(struct manager *m, void (*closed)(void *ctx), void *ctx);

/* Replace the node's certificate (renewal): new connections use it. */
void manager_set_certificate(struct manager *m, const char *certificate_pem, const char *key_pem,
                             const char *root_pem);

/* Have this manager sign a certificate request of its own node, without a connection: so that a node whose
 * certificate ran out while it was off comes back. `done` comes once, later, also when the manager is closed
 * meanwhile: code 0 and a packed IssueReply (join.proto; borrowed), or ERR_UNAVAILABLE when another manager leads
 * and has to be asked. */
int manager_issue(struct manager *m, const void *request_der, size_t size,
                  void (*done)(void *ctx, const struct err *e, const void *reply, size_t reply_size), void *ctx,
                  struct err *e);

/* The port it really listens on, for listen port 0; 0 before on_ready. */
int manager_port(const struct manager *m);

/* --- requests of the swarm API --------------------------------------------------------------------- */

struct manager_reply {
    int status;               /* HTTP */
    const char *content_type; /* NULL: "application/json" */
    struct buf body;          /* of this page; taken by whoever is given the reply */
    bool more;                /* pages follow: ask with manager_more, or give up with manager_drop */
    bool cut;                 /* the last page, but the answer broke off: what came is not all of it */
    int again;                /* private */
};

struct manager_request {
    struct mail mail;          /* private */
    struct arena arena;        /* whatever the texts below point into may live here; freed with the request */
    const char *method;        /* "GET" */
    const char *path;          /* without version prefix: "/services/web" */
    const char *query;         /* undecoded, "" when absent */
    const char *registry_auth; /* X-Registry-Auth, or NULL */
    const void *body;
    size_t body_size;
    unsigned api_minor; /* 45 for 1.45 */
    void *ctx;
    /* A page. The last one (more false) ends the request: it is freed after the call. status counts in the first
     * page only. */
    void (*on_reply)(struct manager_request *r, struct manager_reply *reply);
    struct manager *manager; /* private from here */
    const struct ask_origin *origin;
    void *handler;
    unsigned state;
};

struct manager_request *manager_request_new(void);
void manager_request_forget(struct manager_request *r); /* one that was not asked */

/* Does the swarm API know this path (whatever the method)? For routing. */
bool manager_serves(const char *path);

/* Hand it over. Without credit it waits at most 1 s, then on_reply gets 503. */
void manager_ask(struct manager *m, struct manager_request *r);
void manager_more(struct manager_request *r); /* the client took the page: the next one please */
void manager_drop(struct manager_request *r); /* the client is gone: no further on_reply; frees it in time */

/* --- facts for /info, from what the manager sent last ------------------------------------------------ */

/* Write the members "Nodes", "Managers", "RemoteManagers" and "Cluster" of /info's "Swarm" object. Nothing before
 * on_ready. */
void manager_info(const struct manager *m, struct jwrite *j);
/* Write texts for /info's array "Warnings": that two managers are worse than one. */
void manager_warnings(const struct manager *m, struct jwrite *j);

/* --- founding a cluster ---------------------------------------------------------------------------- */

struct manager_founding { /* what a new cluster begins with; free with manager_founding_free */
    char cluster_id[26], node_id[26];
    char *root_pem, *root_key_pem;   /* the authority */
    char *certificate_pem, *key_pem; /* the first manager's */
    uint8_t data_key[32];
    uint8_t unlock_key[32];                     /* for autolock; of no use without it */
    char worker_secret[26], manager_secret[26]; /* last parts of the join tokens */
};

/* Make keys, root and the first certificate: a few milliseconds of work, no disk. certificate_lifetime_ms is the
 * node certificate's. */
int manager_found(int64_t wall_ms, int64_t certificate_lifetime_ms, struct manager_founding *ret, struct err *e);
void manager_founding_free(struct manager_founding *f); /* wipes the keys */

struct manager_init { /* what `swarm init` asks for, checked; in the arena */
    const char *listen_address, *advertise_address, *data_path_address; /* as given; "" when absent */
    bool force_new_cluster;
    NodeAvailability availability;
    Cluster *cluster; /* spec, pools, subnet size, data path port; without id and authority */
};

/* Read the body of POST /swarm/init. Pure. Errors name the field and the value. */
int manager_init_parse(const char *body, size_t size, struct arena *a, struct manager_init *ret, struct err *e);

struct manager_join { /* what `swarm join` asks for, checked; in the arena */
    char **remotes;   /* at least one */
    size_t remote_count;
    const char *token;                                                  /* well-formed */
    const char *listen_address, *advertise_address, *data_path_address; /* as given; "" when absent */
    NodeAvailability availability;
};

/* Likewise the body of POST /swarm/join. */
int manager_join_parse(const char *body, size_t size, struct arena *a, struct manager_join *ret, struct err *e);

/* --- the unlock key (autolock, reference/swarm-surface.md section 6) -------------------------------- */

#define MANAGER_LOCK_KEY  32
#define MANAGER_LOCK_SALT 16
#define MANAGER_LOCK_TEXT 52 /* "SWMKEY-1-" and 43 characters of base64 without padding */
#define MANAGER_LOCK_MORE 16 /* bytes that wrapping adds */

void manager_lock_format(const uint8_t key[MANAGER_LOCK_KEY], char ret[MANAGER_LOCK_TEXT + 1]);
/* ERR_INVALID says what is wrong, never the text itself. */
int manager_lock_parse(const char *text, uint8_t ret[MANAGER_LOCK_KEY], struct err *e);

/* Wrap what a manager holds on its disk, for this node of this cluster and nobody else. The salt is random, and a
 * new one each time. `out` holds size + MANAGER_LOCK_MORE bytes. ERR_INVALID: the ids are none. */
int manager_lock_wrap(const uint8_t key[MANAGER_LOCK_KEY], const uint8_t salt[MANAGER_LOCK_SALT],
                      const char *cluster_id, const char *node_id, const void *data, size_t size, uint8_t *out,
                      struct err *e);
/* Back again; `out` holds size bytes, and size - MANAGER_LOCK_MORE are good. ERR_UNAUTHORIZED: the key is another
 * one, or the bytes were changed. */
int manager_lock_unwrap(const uint8_t key[MANAGER_LOCK_KEY], const uint8_t salt[MANAGER_LOCK_SALT],
                        const char *cluster_id, const char *node_id, const uint8_t *data, size_t size, uint8_t *out,
                        struct err *e);
