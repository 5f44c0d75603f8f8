/* One request of the swarm API, an ask, on its way through both loops (DESIGN.md sections 1 and 4).
 *
 *     node loop                          manager loop
 *     ask_new, ask_prepare   --ask-->    begin
 *     render, show           <-page--    ask_page
 *     the client took it     --more-->   ask_page ...
 *
 * It is made on the node loop, where path, query and body are read and checked (prepare), carried out on the
 * manager loop (begin), and what comes back is turned into JSON on the node loop again (render), since large
 * answers take time that the manager does not have. Either loop owns it in turn: the manager until it gives a page,
 * the node until it asks for more. So at most one page of an ask is anywhere, and the two share nothing.
 *
 * This header is what both sides and the nouns (service.c, task.c...) know; asks.h is the manager loop's side. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/control.h"
#include "proto/base/arena.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/filter.h"
#include "proto/base/ident.h"
#include "proto/base/list.h"
#include "proto/wire/mailbox.h"

struct ask;
struct ask_wait;
struct asks;
struct http_field;

enum ask_class { ASK_READ, ASK_WRITE, ASK_STREAM, ASK_CLASSES }; /* of credit */

struct ask_route {
    const char *method, *path; /* "/services/{id}/logs" */
    enum ask_class class;
    bool by_invitation; /* the noun is the engine's: not told by ask_serves */
    /* On the node loop: look at query and body, leave what they say in k->args. NULL: nothing to be looked at. */
    int (*prepare)(struct ask *k, struct err *e);
    /* On the manager loop: begin what leads to ask_page, ask_reply or ask_fail. */
    void (*begin)(struct ask *k);
};

enum ask_again { ASK_ANSWERED, ASK_NOT_LED, ASK_UNDECIDED }; /* as ForwardAgain (proto/forward.proto) */

struct ask_page {
    int status;                                     /* HTTP; counts in the first page */
    const char *type;                               /* content type, static or in the ask's arena; NULL: JSON */
    bool more;                                      /* others follow */
    bool cut;                                       /* the last one, but the answer broke off */
    enum ask_again again;                           /* of another manager's request: it is to ask elsewhere */
    struct buf bytes;                               /* the body, or what `render` makes it from (pack.h) */
    void (*render)(struct ask *k, struct buf *out); /* on the node loop */
};

struct ask_origin { /* of a request that another manager forwarded because we lead */
    uint8_t request_id[16];
    char node_id[IDENT_TEXT + 1]; /* its node */
};

struct ask {
    /* Of the node loop, and read by the manager's. */
    struct arena arena; /* whoever has the ask may use it */
    const struct ask_route *route;
    const char *path, *query;      /* as given */
    const char *id;                /* {id} of the path, or NULL */
    struct http_field *parameters; /* of the query */
    size_t parameter_count;
    const char *registry_auth; /* or NULL */
    const void *body;
    size_t body_size;
    unsigned api_minor;
    const struct ask_origin *origin; /* it came from another manager; NULL: from a client of this machine */
    void *args;                      /* the noun's, from prepare */

    struct ask_page page; /* whoever has the ask */

    /* The door's (manager.c): mail each way. */
    struct mail to_manager, to_node, drop, dropped;
    void *door;
    struct arena scratch; /* of render: emptied with each page */
    unsigned shown;       /* pages rendered so far */
    bool has_elements;    /* of a list: the next one needs a comma */

    /* Of the manager loop. */
    struct asks *asks;
    struct list link;               /* asks->all */
    struct list due;                /* asks->due, while `step` is to be called */
    int turn;                       /* enum ask_turn */
    int64_t begun_ms;               /* monotonic */
    unsigned given;                 /* pages */
    struct ask_wait *wait;          /* under way with control; NULL: nothing */
    void *work;                     /* the noun's own */
    void (*step)(struct ask *k);    /* go on with the page, a millisecond at most; called while it is due */
    void (*on_more)(struct ask *k); /* the node wants the next page; NULL: `step` makes it */
    void (*on_end)(struct ask *k);  /* it has ended, or its client is gone: free `work`; NULL: nothing to free */
};

/* --- on the node loop (route.c) ------------------------------------------------------------------------ */

/* Texts and body must outlive the ask, or lie in its arena. */
struct ask_source {
    const char *method, *path, *query, *registry_auth;
    const void *body;
    size_t body_size;
    unsigned api_minor;
    const struct ask_origin *origin; /* or NULL */
};

/* Whether the swarm API has such a path, whatever the method. */
bool ask_serves(const char *path);

/* The class of such a request; ASK_READ when there is no such route. */
enum ask_class ask_class_of(const char *method, const char *path);

struct ask *ask_new(void);
void ask_free(struct ask *k);

/* Find the route, read query and body. Errors are the client's: ERR_NOT_FOUND, ERR_INVALID... */
int ask_prepare(struct ask *k, const struct ask_source *source, struct err *e);

/* The page as bytes of the body, which the caller gets. */
void ask_render(struct ask *k, struct buf *ret);

/* {"message": text} */
void ask_error_body(const struct err *e, struct buf *ret);

/* --- for prepare: queries ------------------------------------------------------------------------------- */

const char *ask_query(const struct ask *k, const char *key); /* NULL when absent */
bool ask_query_bool(const struct ask *k, const char *key);
/* "version", which must be there; `noun` is whose, for the message. */
int ask_query_version(const struct ask *k, const char *noun, uint64_t *ret, struct err *e);
int ask_filters(struct ask *k, const char *const *known, struct filters *ret, struct err *e);

/* --- on the manager loop (asks.c) ------------------------------------------------------------------------ */

/* Go on with `then` once this manager is known to lead and to have applied all that was acknowledged before. Waits
 * for a leader; answers by itself when there is none. */
void ask_read(struct ask *k, void (*then)(struct ask *k));

/* Change the cluster: `execute` as in control.h, with k's args. It answers with status and body: what execute left
 * in w->http_status and w->reply. */
typedef int ask_execute(struct ask *k, struct control_write *w, struct draft *d, struct plan *p, struct err *e);
void ask_write(struct ask *k, ask_execute *execute);

/* Hand k->page to the node. With page.more the ask stays; else it has ended and must not be touched any more. */
void ask_page(struct ask *k);

/* The whole answer: page.bytes, page.render and page.type are set or empty. */
void ask_reply(struct ask *k, int status);
void ask_fail(struct ask *k, const struct err *e);

/* The node that was asked: what "self" means. */
const char *ask_node_id(const struct ask *k);

/* Have k->step called in this turn or the next. */
void ask_step_soon(struct ask *k);

/* The node waits for a page: ask_page may be called. */
bool ask_is_due(const struct ask *k);

/* Put "rpc error: code = X desc = " before the text, as Docker's daemon hands on what its managers say. Returns the
 * code. */
int ask_rpc_error(struct err *e);
