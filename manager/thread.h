/* The manager's thread: its loop and everything that lives on it (DESIGN.md section 1). manager.c is the node's
 * side.
 *
 * thread_start and thread_join are called by the node; what is under "on the manager loop" by mail that manager.c
 * posts to the inbox; the events come on the manager loop, and manager.c makes mail of them. */
#pragma once

#include "manager/api/ask.h"
#include "manager/manager.h"
#include "manager/membership_plan.h"
#include "manager/relay.h"
#include "proto/base/ident.h"

struct thread;
struct tls;
struct news_batch;

#define THREAD_MANAGERS_MOST 64

struct thread_info { /* what the node shows of the cluster without asking; owned by whoever has it */
    uint64_t nodes;
    struct thread_manager { /* in the order in which they became managers */
        char node_id[IDENT_TEXT + 1];
        char address[MEMBERSHIP_ADDRESS_MAX];
    } managers[THREAD_MANAGERS_MOST];
    size_t manager_count;
    struct buf cluster; /* the cluster's object without secrets (pack.h) */
    uint64_t version;   /* of the cluster's object */
    bool is_locking;    /* autolock is on */
    uint8_t lock_key[MANAGER_LOCK_KEY];
};

void thread_info_free(struct thread_info *info); /* wipes; NULL is fine */

struct thread_events {
    void *ctx;
    void (*on_ready)(void *ctx, int port);
    void (*on_stopped)(void *ctx, const struct err *e); /* it cannot go on, but still has to be closed */
    void (*on_removed)(void *ctx); /* it is no member any more; once, and it still has to be closed */
    void (*on_info)(void *ctx, struct thread_info *info); /* taken; thread_info_seen gives leave for the next */
    void (*on_news)(void *ctx, struct news_batch *batch); /* taken; thread_news_seen gives leave for the next */
    void (*on_page)(void *ctx, struct ask *k);
    void (*on_dropped)(void *ctx, struct ask *k);
    struct relay_events relay;      /* requests of other managers */
    void (*on_finished)(void *ctx); /* the thread's last words: join it */
};

/* The texts of the configuration are copied. */
int thread_start(const struct manager_config *config, const struct thread_events *events, struct thread **ret,
                 struct err *e);
void thread_join(struct thread *t); /* after on_finished; frees t */

struct mailbox *thread_inbox(struct thread *t); /* its owner is the thread */

/* --- on the manager loop ------------------------------------------------------------------------------- */

void thread_ask(struct thread *t, struct ask *k);
void thread_more(struct thread *t, struct ask *k);
void thread_drop(struct thread *t, struct ask *k);
void thread_relay_page(struct thread *t, struct relayed *r);
void thread_relay_dropped(struct thread *t, struct relayed *r);
/* Sign for this manager's own node: a packed IssueReply, or e->code. */
void thread_issue(struct thread *t, const void *request_der, size_t size, struct buf *ret_reply, struct err *e);
void thread_set_tls(struct thread *t, struct tls *tls);            /* takes the reference */
void thread_info_seen(struct thread *t, struct thread_info *info); /* frees it; NULL is fine */
void thread_news_seen(struct thread *t);
void thread_close(struct thread *t); /* the last mail */
