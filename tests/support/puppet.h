/* Agents without an engine: they join, register, keep what they are assigned as real agents do (agent/assignment),
 * and report at once that it runs. */
#pragma once

#include "proto/base/list.h"
#include "proto/base/map.h"
#include "proto/dispatch.pb-c.h"
#include "proto/wire/rpc.h"
#include "tests/support/cluster.h"

struct puppet_task {
    struct list due; /* agent->due, while something is to be reported */
    uint8_t id[16];
    char key[26];
    char *name;       /* owned */
    char *log_driver; /* "name,key=value" in place of the spec's; owned; NULL: none */
    TaskState desired, reported;
};

struct puppet_log { /* a log that was asked for */
    struct list link;
    struct puppet *agent;
    uint64_t subscription;
    uint8_t task_id[16];
    bool follow;
    int64_t tail, since_ns;
    struct rpc_stream *stream; /* NULL: it has ended */
    bool stopped;
    unsigned sent, refused; /* chunks; and how often there was no credit */
};

struct puppet {
    struct cluster *cluster;
    char node_id[26];
    char *hostname; /* owned */
    struct tls *tls;
    uint64_t certificate_issuer, trust; /* of that, as it tells the manager; 0: it says nothing of it */
    struct rpc_conn *conn;
    struct rpc_stream *stream;
    struct assignment *assignment; /* the real one: it checks sequence and digest */
    struct map tasks;              /* struct puppet_task by key */
    struct list due, logs;
    bool ready;                /* registered */
    bool mute;                 /* reports nothing */
    bool failing;              /* its tasks fail instead of running */
    const char *failing_image; /* only those of this image fail; NULL: none */
    bool no_logs;              /* does not open streams for logs */
    int64_t heartbeat_ms;
    uint64_t reports, acknowledged;
    struct buf unsent; /* one packed message for which there was no credit */
    unsigned messages; /* assignments */
    unsigned rows;     /* how often it was told of its own row */
    struct buf row;    /* packed, as it was told last */
    struct {           /* whom it was told to trust last */
        unsigned tells;
        char root_pem[8192];
        uint64_t issuer;
        int64_t lifetime_ms;
    } authority;
    char managers[256]; /* as it was told last, a blank after each */
    char redirect[64];  /* where it was sent; "": nowhere */
    uint32_t retry_ms;  /* when it is to come back; 0: that was not said */
    uint8_t instance[16];
    uint64_t epoch;        /* it says to have seen; afterwards what it was told */
    int64_t first_task_us; /* monotonic: when a task to be run came first; 0: never */
    struct err ended;      /* why the session ended last */
    unsigned ends;
};

/* An agent of the first node (its certificate is the manager's). Connects and registers. */
void puppet_start(struct puppet *a, struct cluster *c);
/* The same, not yet connected. */
void puppet_prepare(struct puppet *a, struct cluster *c);
/* A worker that joins with the cluster's token first. */
void puppet_join(struct puppet *a, struct cluster *c, const char *hostname);
/* The same, joined and not yet connected. */
void puppet_prepare_worker(struct puppet *a, struct cluster *c, const char *hostname);
/* Only ask for a certificate with this token; a needs its cluster. Returns the code. */
int puppet_try_join(struct puppet *a, const char *token, struct err *e);
/* Get another certificate with the one it has; tells nobody. Returns the code. */
int puppet_renew(struct puppet *a, struct err *e);
void puppet_connect(struct puppet *a); /* (again) */
void puppet_disconnect(struct puppet *a);
void puppet_end(struct puppet *a);

void puppet_heartbeat(struct puppet *a);
void puppet_describe(struct puppet *a); /* say again what it said of itself when it registered */
/* Send a message as it is, maybe only when there is credit: of those that wait there may be one. */
void puppet_send(struct puppet *a, const AgentMessage *message);

size_t puppet_running(const struct puppet *a);
/* Report what it was mute about. */
void puppet_look(struct puppet *a);
/* Report a state of one task. */
void puppet_report(struct puppet *a, const struct puppet_task *t, TaskState state, const char *error);
/* The spec that a task was assigned with. */
const AssignmentItem *puppet_spec(const struct puppet *a, const struct puppet_task *t);
struct puppet_task *puppet_find(const struct puppet *a, const char *name_prefix); /* NULL: none */
struct puppet_task *puppet_find_image(const struct puppet *a, const char *image);

/* Send a line of a log that was asked for; false: no credit. */
bool puppet_log_line(struct puppet_log *l, int64_t time_ns, unsigned stream, const char *text);
void puppet_log_end(struct puppet_log *l, const struct err *e);
