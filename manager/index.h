/* The planners' warm indexes over nodes, services, specs, tasks and their statuses (DESIGN.md section 4).
 *
 * One function keeps them: index_apply, given each changed object as it was and as it is. Followers call it at
 * apply, the leader as its draft grows, and with the arguments swapped when the draft shrinks or is dropped. So a
 * new leader plans at once, and what an index says never depends on who wrote it or when.
 *
 * On the leader the index shows the draft, also while it is under way: it may name objects that no view has yet, or
 * miss ones that a view still has. Whoever answers a client reads the objects themselves through a view and skips
 * what is not found.
 *
 * Besides the facts it holds marks: what changed since planners looked (dirty lists, timers). Marks are always a
 * superset of what needs a look: every change sets them, only planners clear them, and a change undone sets them
 * again. They are no part of the facts and are not compared.
 *
 * Structs are borrowed from the index until the next index_apply; number and id never change. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/scheduler/demand.h"
#include "manager/store/store.h"
#include "proto/base/heap.h"
#include "proto/base/ident.h"
#include "proto/base/list.h"
#include "proto/base/map.h"
#include "proto/base/table.h"
#include "proto/object.pb-c.h"

#define INDEX_REQUEST_MS  600000 /* how long an answer is stored, and how many at most (DESIGN.md section 4) */
#define INDEX_REQUEST_MAX 100000
#define INDEX_FAILURE_MS  300000 /* how long a failure counts against a node (swarm-surface.md section 14) */

/* Where task->stage is linked. */
enum index_stage {
    INDEX_STAGE_NONE,
    INDEX_STAGE_NEW,     /* service->fresh: the allocator's turn */
    INDEX_STAGE_WAITING, /* spec->waiting, or spec->explained: wants a node */
    INDEX_STAGE_PINNED,  /* node->pinned: wants to be confirmed on the node it was made for */
    INDEX_STAGE_SETTLED, /* spec->settled: made by an update, reached running or ended */
};

struct index_task {
    uint64_t number;
    uint8_t id[16];
    struct index_slot *slot;
    struct index_spec *spec;   /* the version it was made from */
    struct index_share *share; /* of its node; NULL: none assigned */
    struct list by_slot;       /* slot->tasks */
    struct list by_share;      /* share->tasks */
    struct list by_spec;       /* spec->holders, while it is its slot's holder */
    struct list stage;
    int64_t created_ms;  /* cluster times */
    int64_t desired_ms;  /* when the task was last written: when it was told what it is told now */
    int64_t start_at_ms; /* not to be started before */
    int64_t state_ms;    /* when `state` was reached */
    int64_t running_ms;  /* when it was seen running; 0: never */
    uint64_t predecessor;
    struct heap_item timer;
    uint32_t err_digest;  /* of the status's Err; 0: none */
    uint32_t reason;      /* spec->reason when it was last told why it waits */
    uint16_t desired;     /* TaskState */
    uint16_t state;       /* TaskState */
    uint8_t stage_kind;   /* enum index_stage */
    bool restarted;       /* made by the restart policy */
    bool holds_resources; /* counted in its node's reservations */
    bool made;            /* by an update of its spec version (predecessor, but no restart) */
};

/* The tasks of one slot of a service, or of one node for global services; history included. */
struct index_slot {
    uint64_t key; /* slot number; INDEX_SLOT_NODE | node number for tasks without one */
    struct index_service *service;
    struct list by_service; /* service->all_slots, in order of creation */
    struct list tasks;      /* by number: the oldest first */
    struct index_task
        *holder;       /* the newest task that is to run; else the newest, if it ended for good; else NULL */
    struct list dirty; /* service->dirty_slots: changed since the orchestrator looked */
    uint32_t task_count;
    uint32_t live_count; /* tasks whose desired state is at most RUNNING */
    uint32_t leaving;    /* tasks whose desired state is REMOVE */
    bool counted;        /* holder is counted in its share and node */
    bool counted_running;
};
#define INDEX_SLOT_NODE (UINT64_C(1) << 63)

/* The tasks of one service on one node; history included. */
struct index_share {
    uint64_t service_number, node_number; /* the key, 16 bytes */
    struct index_service *service;
    struct index_node *node;
    struct list tasks;
    struct list by_node;    /* node->shares */
    struct list by_service; /* service->shares */
    uint32_t counted;       /* slots whose holder is to run here */
    uint32_t running;       /* of these, seen running */
};

struct index_update {     /* how an update or rollback goes, with defaults filled in */
    uint64_t parallelism; /* 0: all at once */
    int64_t delay_ms, monitor_ms;
    double max_failure_ratio;
    UpdateFailureAction failure_action;
    UpdateOrder order;
};

/* One version of a service's spec: a class of equal tasks. */
struct index_spec {
    uint64_t number; /* of its Spec object; 0: only named by a task or service so far */
    uint64_t version;
    struct index_service *service;
    struct list by_service; /* service->specs, by version */
    ServiceMode mode;
    bool has_log_driver;
    uint64_t replicas;
    RestartCondition restart_condition;
    uint64_t restart_attempts; /* 0: no limit */
    int64_t restart_delay_ms, restart_window_ms;
    struct index_update update, rollback;
    struct demand demand; /* parts in `memory` */
    void *memory;
    uint64_t core_digest[2];   /* of template and endpoint, without placement and registry credentials */
    uint64_t placement_digest; /* of the placement */
    uint64_t auth_digest;      /* of the registry credentials */
    uint64_t endpoint_digest;  /* of the endpoint */
    uint32_t task_count;
    uint32_t holder_count;
    uint32_t unsettled;      /* made by an update, to run, not yet running */
    struct list holders;     /* idle ones (ended, or without a node) in front */
    struct list waiting;     /* tasks that want a node and were not told why they wait, or not the present reason */
    struct list explained;   /* those that were */
    uint32_t reason;         /* scheduler: counts the reasons why no node fits; no fact */
    uint32_t reason_digest;  /* of the present one's text */
    uint64_t parked_at;      /* scheduler: index->sequence when no node fitted */
    struct list settled;     /* by state_ms */
    struct index_task *walk; /* update: holders before this one are clean; NULL: all are */
    struct list dirty;       /* index->dirty_classes, resumed_classes or parked */
    bool parked;             /* it is in parked */
    uint32_t served;         /* scheduler: tasks placed since its turn began */
    struct list reap;        /* index->dirty_specs: may have become needless */
};

struct index_port {
    uint32_t target, published; /* protocol << 16 | port */
    PublishMode mode;
};

struct index_service {
    uint64_t number;
    uint8_t id[16];
    bool exists; /* false: removed, and tasks or specs of it are left */
    char *name;
    uint64_t spec_version, previous_spec_version;
    struct index_spec *current; /* NULL until its Spec is there */
    struct list specs;
    struct table slots;
    struct list all_slots;
    struct index_slot *slot_walk; /* orchestrator: this slot and those after it are to be looked at; NULL: none */
    uint64_t free_hint;           /* no slot below this is free */
    uint64_t held;                /* slots with a holder */
    struct list fresh;
    struct list shares;
    uint32_t share_count;     /* shares in which a slot is counted */
    struct index_port *ports; /* as given out */
    uint32_t port_count;
    uint64_t endpoint_digest; /* of the endpoint they were given out for */
    bool has_update;          /* update_status is set */
    UpdateState update_state;
    int64_t update_started_ms;
    uint64_t update_slots, update_failures;
    struct list global; /* index->global_services, while its current spec is global */
    struct list dirty;  /* index->dirty_services: itself or a slot changed since the orchestrator looked */
    struct list dirty_slots;
    struct list unallocated; /* index->unallocated: the allocator's turn; or index->starved: it had no port left */
    bool scan;               /* orchestrator: every node is to be looked at, from scan_at */
    uint32_t scan_at;
    struct heap_item timer; /* look again */
};

struct index_failure { /* a task that failed on a node lately */
    struct index_node *node;
    uint64_t service, version;
    int64_t at_ms;
    struct list by_node; /* node->failures */
    struct list by_time; /* index->failures */
};

struct index_label {
    const char *key, *value;
};

struct index_node {
    uint64_t number;
    uint8_t id[16];
    /* What placing looks at and changes, close together. */
    bool exists; /* false: removed, and tasks of it are left */
    NodeState state;
    NodeAvailability availability;
    NodeRole role;
    uint32_t counted;                       /* slots whose holder is to run here: the load that ranks it */
    uint32_t place;                         /* its place in index->node_at; stays while it is there */
    int64_t nano_cpus, memory_bytes;        /* offered */
    int64_t reserved_cpus, reserved_memory; /* by tasks that are assigned and not told to end */
    uint32_t host_port_count, host_port_room;
    uint32_t *host_ports; /* in use by such tasks, one entry each; unordered */
    uint32_t generic_count, reserved_generic_count;
    struct demand_generic *generic;          /* offered, by kind */
    struct demand_generic *reserved_generic; /* by kind; owned, and each kind is */
    uint64_t changed_at;                     /* index->sequence of its last change that concerns placing */
    uint64_t facts_at;                       /* of its last change of what is not counted from tasks */
    struct list failures;
    struct list pinned;
    struct list confirm; /* index->confirm: pinned tasks may have become possible since the scheduler looked */
    struct list shares;
    /* The rest. */
    int64_t down_since_ms; /* 0: not down */
    uint64_t raft_id;      /* its number in the managers' group; 0: it is none of them */
    char id_text[IDENT_TEXT + 1];
    const char *name, *hostname, *address, *os, *architecture;
    struct index_label *labels, *engine_labels; /* by key */
    struct index_label *plugins;                /* type, name */
    uint32_t label_count, engine_label_count, plugin_count;
    void *memory;      /* all of the texts and arrays above */
    struct list dirty; /* index->dirty_nodes: the node itself changed since the orchestrator looked */
    struct heap_item timer;
};

struct index_request { /* a stored answer, to be reaped */
    struct list by_age;
    uint64_t number;
    int64_t at_ms;
};

struct index_log {    /* places of nodes in the order of their changes; the newest `size` are kept */
    uint32_t *places; /* the change of number n is at n % size */
    uint64_t count;   /* changes ever noted */
    uint64_t first;   /* the oldest that may be kept */
    uint32_t size;    /* power of two; grows with the number of nodes */
};

struct index {
    struct index_task *recent_task;   /* found last: the next look-up is often for the same */
    struct index_share *recent_share; /* the same */
    struct table tasks, tasks_by_id, nodes, nodes_by_id, services, services_by_id, specs, shares, requests;
    struct index_node **node_at; /* dense; NULL holes */
    uint32_t node_count;         /* places in use, holes counted */
    uint32_t node_room;
    uint32_t *node_holes, node_hole_count, node_hole_room;
    uint64_t cluster;           /* number of the cluster object; 0: none yet */
    int64_t task_history_limit; /* 5 */
    bool has_log_driver;        /* the cluster has a default, for specs without one */
    struct map64 ports;         /* protocol << 16 | port -> the service that publishes it in the mesh */
    struct map64 host_ports;    /* the same -> how many services publish it on their tasks' nodes, as a pointer */
    struct list request_ages;   /* oldest first */
    uint32_t request_count;
    int64_t requests_from_ms;    /* answers count as no older than this (control.c); no fact */
    struct list failures;        /* oldest first */
    struct list global_services; /* with current spec global */
    struct index_log changed;    /* nodes that changed in what placing looks at */
    struct index_log eased;      /* of these, those on which more may fit now, or that rank better */
    uint64_t sequence;           /* grows with each change of a node that concerns placing */
    uint64_t eased_at;           /* sequence when more might fit on some node last */
    uint64_t gone_at;            /* sequence when a node's place became free last */
    struct list dirty_nodes, dirty_services, dirty_classes, dirty_specs, unallocated, starved, confirm;
    struct list resumed_classes;                          /* specs with more waiting tasks than one draft holds */
    struct list parked;                                   /* specs with waiting tasks that fit nowhere */
    struct heap task_timers, service_timers, node_timers; /* when to look again, by cluster time */
};

struct index *index_new(void);
void index_free(struct index *x);

/* Follow one change. before or after (or both) may be NULL, and so may their messages: absent. */
void index_apply(struct index *x, const struct object *before, const struct object *after);

/* As store_changed, with the index as context. */
void index_changed(void *index, uint64_t at, const struct object *before, const struct object *after);

/* NULL when absent. Placeholders (exists false) are found too. */
struct index_task *index_task(const struct index *x, uint64_t number);
void index_expect_task(struct index *x, struct index_task *t); /* it is about to be applied: spares the look-up */
struct index_task *index_task_by_id(const struct index *x, const uint8_t id[16]);
struct index_node *index_node(const struct index *x, uint64_t number);
struct index_node *index_node_by_id(const struct index *x, const uint8_t id[16]);
struct index_service *index_service(const struct index *x, uint64_t number);
struct index_service *index_service_by_id(const struct index *x, const uint8_t id[16]);
struct index_spec *index_spec(const struct index_service *s, uint64_t version);
struct index_share *index_share(const struct index *x, uint64_t service, uint64_t node);
struct index_slot *index_slot(const struct index_service *s, uint64_t key);

/* All tasks of a service, history included, slot by slot: struct index_walk w = {0}; while ((t = ...)) */
struct index_walk {
    struct index_slot *slot;
    struct index_share *share;
    struct list *next;
};
struct index_task *index_service_next(const struct index_service *s, struct index_walk *w);
/* All tasks of a node. */
struct index_task *index_node_next(const struct index_node *n, struct index_walk *w);

static inline struct index_node *index_task_node(const struct index_task *t) /* NULL: none assigned */
{
    return t->share ? t->share->node : NULL;
}
static inline struct index_service *index_task_service(const struct index_task *t)
{
    return t->spec->service;
}
static inline bool index_task_live(const struct index_task *t) /* it is to run, now or later */
{
    return t->desired <= TASK_STATE__RUNNING;
}
static inline bool index_task_ended(const struct index_task *t)
{
    return t->state > TASK_STATE__RUNNING;
}

/* Whether a task is what the present spec of its service would make (swarm-surface.md section 12); false when the
 * service is gone. This is what the filter `_up-to-date` asks. */
bool index_task_clean(const struct index_task *t);
/* Two versions that differ at most in placement and registry credentials. */
bool index_same_core(const struct index_spec *a, const struct index_spec *b);

/* The node may hold tasks at all: it is there, not down and not drained. */
static inline bool index_node_valid(const struct index_node *n)
{
    return n->exists && n->state != NODE_STATE__DOWN && n->availability != NODE_AVAILABILITY__DRAIN;
}

/* Failures of that spec version on the node within INDEX_FAILURE_MS. */
uint32_t index_node_failures(const struct index_node *n, const struct index_spec *spec);
void index_forget_failures(struct index *x, int64_t now_ms);

/* --- marks: for planners --------------------------------------------------------------------------- */

void index_mark_slot(struct index *x, struct index_slot *s);
void index_mark_service(struct index *x, struct index_service *s);
void index_mark_class(struct index *x, struct index_spec *spec);
void index_mark_all(struct index *x); /* everything: for a test that nothing is left to plan */

bool index_marked(const struct index *x); /* there is something for planners to look at, timers aside */
/* Whether the log still holds everything from change number `from` on. */
static inline bool index_log_holds(const struct index_log *l, uint64_t from)
{
    return from >= l->first && l->count - from <= l->size;
}
/* Cluster time until which a stored answer is kept, if there are not too many. */
int64_t index_request_until_ms(const struct index *x, const struct index_request *r);
int64_t index_next_timer(const struct index *x); /* cluster time of the next one; INT64_MAX: none */

/* --- comparing --------------------------------------------------------------------------------------- */

/* Everything again from what the store holds now. */
struct index *index_rebuild(struct store *s);

/* Whether two indexes hold the same facts; if not, `ret` says where they differ. */
bool index_equal(const struct index *a, const struct index *b, char *ret, size_t size);

/* Of what the message means: absent fields and those with the value of an empty message are the same, and so are
 * the orders of pairs of key and value. NULL is the empty message. */
uint64_t index_digest(const ProtobufCMessage *message);
uint64_t index_digest_keyed(const ProtobufCMessage *message, uint64_t key0, uint64_t key1);
uint32_t index_text_digest(const char *text); /* never 0 for a text; 0 for NULL and "" */
