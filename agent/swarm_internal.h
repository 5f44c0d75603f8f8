/* Inside of agent/swarm*: the membership itself, and what its files call of each other. */
#pragma once

#include <stdbool.h>

#include "agent/agent.h"
#include "agent/join.h"
#include "agent/member.h"
#include "agent/renew.h"
#include "agent/swarm.h"
#include "manager/manager.h"
#include "proto/identity.pb-c.h"
#include "proto/wire/rpc.h"

enum { SWARM_INACTIVE, SWARM_PENDING, SWARM_LOCKED, SWARM_ACTIVE, SWARM_FAILED, SWARM_LEAVING, SWARM_CLOSED };

struct swarm {
    struct swarm_config config;
    int state;               /* one of the above */
    struct err error;        /* why it failed */
    Identity *identity;      /* owned; NULL: in no swarm */
    struct tls *tls;         /* of the identity */
    struct manager *manager; /* NULL: none, or not yet */
    bool manager_ready;      /* it serves */
    struct {                 /* a manager that stopped for want of room, or to rebuild its store, is opened again */
        bool waits;          /* from its stop until it serves again */
        bool closing;        /* the old one is closing */
        uv_timer_t *timer;   /* owned; NULL: it does not run */
    } reopen;
    struct {                   /* this node's place among the managers (swarm_role.c) */
        bool is_known;         /* the row of this node has been seen, and said: */
        bool wishes_manager;   /* it is to be a manager */
        bool is_member;        /* it is one, or is becoming one */
        bool is_ending;        /* it is none any more: its manager is closed, or closing, for good */
        struct member *member; /* asks for a place, or tells where we are; NULL: no */
    } role;
    struct agent *agent; /* NULL before the engine is ready */
    bool engine_ready;
    struct renew *renew; /* NULL: not yet, or closing */
    bool is_writing;     /* the identity is */
    bool is_unwritten;   /* the one in memory is newer than the one on the disk, or being written */
    void (*after_write)(struct swarm *s);  /* waits for the write under way; NULL: nobody */
    void (*when_durable)(struct swarm *s); /* waits for what is in memory to be on the disk; NULL: nobody */
    struct http_exchange *refused; /* who gave a wrong unlock key and is told so after a while; NULL: nobody */
    uv_timer_t *refusal;           /* until then; owned, NULL: it does not run */
    uv_timer_t *again;             /* the next attempt to write it; owned, freed when closed */
    bool is_entering;              /* an init or join is under way: the identity is not yet on the disk */
    struct join *join;             /* asks for a certificate; NULL: no */
    Identity *asked;               /* of that join: addresses and availability; owned */
    bool awaits_session;           /* whoever waits is answered when the agent has a session */
    uv_timer_t *patience;          /* of the client that waits for a join; owned, freed when closed */
    struct http_exchange *waiting; /* the client of the operation under way; NULL: none, or gone */
    unsigned closing;              /* agent, manager and renewal, while they close */
    void (*then)(struct swarm *s); /* when all are closed */
    unsigned pending;              /* jobs and removals whose callbacks are still to come */
    unsigned removals;             /* those of containers, while leaving */
    bool parts_closed;             /* swarm_close: only pending callbacks are waited for */
    void (*closed)(void *ctx);
    void *closed_ctx;
    void (*on_change)(void *ctx); /* the front's; NULL: nobody watches */
    void *watch_ctx;
};

/* Whoever watches looks again. */
void swarm_tell(struct swarm *s);

void swarm_move(struct swarm *s, int next);
const char *swarm_state_name(const struct swarm *s);

/* One of the pending callbacks is done with s. Returns false when s is closing: then it may be gone. */
bool swarm_callback_came(struct swarm *s);

/* Wipe and free identity and tls. */
void swarm_drop_identity(struct swarm *s);

/* --- swarm_http.c --- */

extern const char swarm_locked_text[], swarm_worker_text[];

void swarm_wait_for(struct swarm *s, struct http_exchange *x); /* answer it when the operation has ended */
void swarm_answer_error(struct swarm *s, const struct err *e); /* whoever waits */

/* --- swarm_parts.c --- */

bool swarm_is_manager(const struct swarm *s); /* by its certificate */
/* Dial the managers that are known. */
void swarm_connect_agent(struct swarm *s);
/* The own manager's port, as this machine reaches it; to be freed. NULL while it does not serve. */
char *swarm_own_address(const struct swarm *s);
bool swarm_is_own(const struct swarm *s, const char *address);

/* When it is time: engine and identity are there. May be called again. */
void swarm_start_agent(struct swarm *s);

/* bootstrap and root_key_pem: of a new cluster, else NULL. */
int swarm_start_manager(struct swarm *s, const Cluster *bootstrap, const char *root_key_pem, struct err *e);

/* Open it, or try again every second. */
void swarm_open_manager(struct swarm *s);
/* Close it for good; role.is_ending is set. swarm_role_ended comes afterwards. */
void swarm_end_manager(struct swarm *s);

/* Close agent, manager and renewal, then go on; at once when there is none of them. A manager that waits to be
 * opened again is not. */
void swarm_close_parts(struct swarm *s, void (*then)(struct swarm *s));

/* --- swarm_identity.c --- */

/* Take a copy of this one for the identity, and remember it. */
void swarm_replace_identity(struct swarm *s, const Identity *changed);
/* The identity in memory has changed: write it, now and until it is written. */
void swarm_remember(struct swarm *s);
void swarm_write_out(struct swarm *s); /* what could not be written before the membership was active */
/* When the identity in memory is on the disk, whatever it takes. One may wait; leaving forgets it. */
void swarm_when_durable(struct swarm *s, void (*then)(struct swarm *s));
/* Address of a manager to ask; NULL: none is known. */
const char *swarm_manager_to_ask(void *ctx, unsigned attempt);
struct tls *swarm_tls(void *ctx);
/* When no write is under way. One may wait. */
void swarm_when_written(struct swarm *s, void (*then)(struct swarm *s));
void swarm_set_epoch(struct swarm *s, uint64_t epoch); /* the cluster's, which has grown */
void swarm_set_managers(struct swarm *s, char *const *managers, size_t count);
void swarm_on_authority(void *ctx, const Authority *authority); /* the agent's news (agent.h) */
/* The membership is active. May be called again. */
void swarm_start_renewal(struct swarm *s);

/* The addresses that a client gave, into the identity being made; in the arena. `advertise` stays NULL when it was
 * not given and only a connection can tell (joining). */
int swarm_read_addresses(Identity *identity, const char *listen, const char *advertise, const char *data_path,
                         bool is_joining, struct arena *a, struct err *e);

/* At a start: interfaces may have other addresses than before. */
void swarm_refresh_addresses(struct swarm *s);

/* Resume: the identity is whole. */
void swarm_resume(struct swarm *s);

/* --- swarm_role.c --- */

/* This node is in the managers' group, or will be once its manager serves. */
bool swarm_is_member(const struct swarm *s);
void swarm_on_node(void *ctx, const Node *node); /* the agent's news (agent.h) */
void swarm_on_removed(void *ctx);                /* the manager's (manager.h) */
void swarm_role_ended(struct swarm *s);          /* the manager is closed for good */
/* A new certificate says `role`: what changes with it goes into `identity`. An error: it must not be used now. */
int swarm_take_role(struct swarm *s, NodeRole role, Identity *identity, uint8_t data_key[32], struct err *e);
void swarm_role_taken(struct swarm *s, NodeRole before); /* the identity is the new one */
/* This manager is not yet a member of the group: ask for it, then open. The identity is on the disk. */
void swarm_begin_manager(struct swarm *s);
/* Tell the leader where this manager is. */
void swarm_announce(struct swarm *s);
/* Ask to be taken out of the group, then go on, whatever came of it. */
void swarm_ask_to_leave(struct swarm *s, void (*then)(struct swarm *s));
void swarm_stop_asking(struct swarm *s);

/* --- swarm_force.c --- */

/* POST /swarm/init with ForceNewCluster. 0: whoever waits then will be answered. */
int swarm_force_new_cluster(struct swarm *s, const struct manager_init *asked, struct err *e);
void swarm_forced(struct swarm *s); /* the manager goes on alone */

/* --- swarm_unlock.c --- */

void swarm_http_unlock(struct swarm *s, struct http_exchange *x);
/* What the manager says of the unlock key (manager.h). */
void swarm_set_lock_key(void *ctx, const uint8_t *key, uint64_t version);
/* A manager's identity that comes with the key (32 bytes; NULL: none): it is locked from the first write on. */
void swarm_lock(Identity *identity, const uint8_t *key, uint64_t version);
/* Answer who waits for a refusal now, and stop. */
void swarm_stop_refusing(struct swarm *s);

/* --- swarm_init.c, swarm_join.c and swarm_leave.c --- */

/* Nothing of a swarm is here: 0, or the error in Docker's words. */
int swarm_check_inactive(const struct swarm *s, struct err *e);
void swarm_http_join(struct swarm *s, struct http_exchange *x);
void swarm_joined(struct swarm *s); /* the agent has a session, or the manager serves: whoever waits is answered */
void swarm_drop_asked(struct swarm *s);
void swarm_http_init(struct swarm *s, struct http_exchange *x);
void swarm_http_leave(struct swarm *s, struct http_exchange *x);
void swarm_founded(struct swarm *s);                            /* the manager of a new cluster serves */
void swarm_undo_entering(struct swarm *s, const struct err *e); /* it will not, or a join has failed */
/* The identity of a node that enters was written, or not: then entering is undone. False: nothing is left to do. */
bool swarm_entered(struct swarm *s, const struct err *e);
