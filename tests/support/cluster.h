/* For tests and benchmarks of the manager: a node's loop, a manager in a directory, and agents without an engine
 * that hold real sessions with it over TLS.
 *
 * Everything is on the calling thread, but for the manager's own. Waiting turns the loop; what does not come within
 * the patience fails with the condition's text. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "manager/manager.h"

#define CLUSTER_PATIENCE_MS 20000

struct cluster {             /* one manager, and the loop of its node */
    uint64_t raft_id, epoch; /* 0: the founder's, 0 */
    bool force_new_cluster;  /* when it is opened next */
    char advertise[64];      /* "": 127.0.0.1:2377, where nobody is */
    const char *hostname;    /* NULL: "first" */
    bool removed;            /* on_removed came */
    uv_loop_t loop;
    uv_timer_t tick;
    struct mailbox box;
    struct manager *manager; /* NULL while it is closed */
    struct manager_founding founding;
    struct arena arena;
    char dir[128]; /* of the manager */
    char listen[64];
    bool ready, closed;
    unsigned stops;
    struct err why; /* of the last stop */
    bool hears;     /* keep what is told of the swarm */
    struct {        /* what was told of the unlock key */
        unsigned tells;
        bool is_on;
        uint8_t key[MANAGER_LOCK_KEY];
        uint64_t version;
    } lock;
    struct buf events; /* a line each: "service update <id> key=value key=value" */
    int port;
};

extern struct manager_tuning cluster_tuning; /* of managers opened from now on */

void cluster_fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4), noreturn));

/* Turn the loop until the condition holds. */
#define cluster_until(c, condition)                                                     \
    do {                                                                                \
        uint64_t give_up_ = uv_hrtime() / 1000000 + CLUSTER_PATIENCE_MS;                \
        while (!(condition)) {                                                          \
            uv_run(&(c)->loop, UV_RUN_ONCE);                                            \
            if (uv_hrtime() / 1000000 > give_up_)                                       \
                cluster_fail(__FILE__, __LINE__, "waited in vain for: %s", #condition); \
        }                                                                               \
    } while (0)

void cluster_rest(struct cluster *c, unsigned ms); /* turn the loop for so long */

/* A new cluster in a new directory below `base`; returns when it serves. The init body may be NULL. */
void cluster_found(struct cluster *c, const char *base, const char *init);
/* The same, at this address, which others reach it by too. */
void cluster_found_at(struct cluster *c, const char *base, const char *init, const char *address);
/* Where the manager is. Lives as long as the cluster. */
const char *cluster_address(struct cluster *c);
/* One that exists already, without opening its manager: cluster_start. The founding is copied as it is: whoever
 * ends the cluster frees what it points to. */
void cluster_resume(struct cluster *c, const char *dir, const struct manager_founding *founding);
/* Without waiting: for managers that are not to become ready. bootstrap as in manager.h. */
int cluster_open(struct cluster *c, const Cluster *bootstrap, struct err *e);
/* Close the manager and open it again on what it left on the disk. */
void cluster_stop(struct cluster *c);
void cluster_start(struct cluster *c);
/* Close everything and remove the directory. */
void cluster_end(struct cluster *c);

/* --- requests ------------------------------------------------------------------------------------------- */

struct answer {
    struct manager_request *request; /* NULL once it has ended */
    bool done, keep_asking;          /* ask for the next page by itself */
    bool cut;                        /* it broke off */
    int status;
    char type[64];
    struct buf body;
    unsigned pages;
};

/* Ask; `body` NULL: none. Query may stand in the path. */
void cluster_ask(struct cluster *c, struct answer *a, const char *method, const char *path, const char *body);
/* Ask and wait for the whole answer. Returns the status; the body, zero-terminated, is replaced with each call. */
int cluster_call(struct cluster *c, const char *method, const char *path, const char *body, const char **ret_body);
void answer_fini(struct answer *a);

/* As cluster_ask, with an X-Registry-Auth header. */
void cluster_ask_as(struct cluster *c, struct answer *a, const char *method, const char *path, const char *body,
                    const char *registry_auth);

/* Call and fail unless the status is this one; returns the body. */
const char *cluster_expect(struct cluster *c, int status, const char *method, const char *path, const char *body);

/* --- answers -------------------------------------------------------------------------------------------- */

/* What stands at `way` in a JSON text ("0.Spec.Name": a digit is a place in an array, "#" a count of elements), as
 * text: strings as they are, numbers and booleans as JSON, NULL when there is nothing. Lives as long as the
 * cluster. */
const char *json_at(struct cluster *c, const char *body, const char *way);
