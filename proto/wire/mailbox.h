/* Mailboxes: the only way the loops of shoald talk to each other (DESIGN.md section 1).
 *
 * A mail is embedded in whatever struct travels. Posting takes it over, never blocks and never fails; it is
 * delivered once, in order of posting, on the loop of the mailbox's owner, in one batch per wake-up. What bounds a
 * mailbox is credit: a request takes a credit of its class before it is posted and the reply gives it back, so
 * every posted message has its room.
 *
 * A mailbox can live without libuv (simulation, tests): then `wake` is called, from any thread, when it becomes
 * non-empty and the owner calls mailbox_deliver. `wake` runs with the box locked: it notes that there is mail and
 * touches the box in no other way. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include <uv.h>

#include "proto/base/list.h"

struct mail {
    struct list link;
    void (*deliver)(struct mail *m, void *owner); /* runs on the receiving loop; owns the mail from then on */
};

struct mailbox {
    pthread_mutex_t lock;
    struct list waiting;             /* posted, not yet delivered */
    void *owner;                     /* borrowed, handed to deliver */
    uv_async_t async;                /* wakes the owner's loop */
    void (*wake)(struct mailbox *m); /* how the owner is woken */
    void (*closed)(struct mailbox *m);
    bool has_loop;   /* opened on a loop, not by hand */
    bool delivering; /* mailbox_deliver is on the stack */
    bool closing;    /* mailbox_close was called */
};

/* Open on a loop. Call on that loop's thread. */
int mailbox_open(struct mailbox *m, uv_loop_t *loop, void *owner);

/* Open without a loop: `wake` may be called from any thread while a post makes the box non-empty. */
void mailbox_open_manual(struct mailbox *m, void *owner, void (*wake)(struct mailbox *m));

/* Any thread. */
void mailbox_post(struct mailbox *m, struct mail *mail);

/* Deliver what waits at the time of the call; returns how many. On the owner's thread, not from inside a
 * delivery. What is posted meanwhile waits for the next wake-up, so that a loop that writes to itself still turns.
 */
size_t mailbox_deliver(struct mailbox *m);

/* No post may follow, but by the owner from inside the last deliveries. What still waits is delivered first;
 * `closed` comes last and exactly once, after the call has returned; the box is the caller's again from then on.
 * (Without a loop there is nothing to come back from: `closed` comes before mailbox_close returns or, when it was
 * called from inside a delivery, at the end of that mailbox_deliver.) */
void mailbox_close(struct mailbox *m, void (*closed)(struct mailbox *m));

/* Credit of one class of message, owned by the sender's loop. */
struct mail_credit {
    unsigned limit;      /* messages that may be under way */
    unsigned used;       /* under way now */
    struct list waiters; /* of struct mail_waiter, first come first served */
    bool granting;       /* mail_credit_give is on the stack */
};

struct mail_waiter {
    struct list link;                       /* all zeroes while never used */
    void (*granted)(struct mail_waiter *w); /* a credit was taken for this waiter */
};

void mail_credit_init(struct mail_credit *c, unsigned limit);
bool mail_credit_take(struct mail_credit *c); /* false when none is left or others wait for one */
void mail_credit_wait(struct mail_credit *c,
                      struct mail_waiter *w); /* take returned false: be called when one is free */
void mail_credit_cancel(struct mail_credit *c, struct mail_waiter *w); /* stop waiting; no-op when not waiting */
void mail_credit_give(struct mail_credit *c); /* the reply is there; may grant the first waiters, in order */
