/* An agent's session without a network (agent/session.h): the test is the manager. One session at a time. Link it
 * before the agent's archive (Makefile). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/session.h"

#define FAKE_MANAGER    "10.0.0.1:2377"
#define FAKE_SESSION_FD 4711

struct fake_session {
    struct session *open; /* NULL: none */
    bool ready;
    bool restarting; /* the agent wants another connection: fake_session_lost brings it about */
    char why[256];   /* of the last restart */
    unsigned restarts, opens;
    unsigned credit; /* messages that may still be sent; UINT_MAX: any number */
    unsigned sent, refused;
    unsigned resyncs;
    bool tls_set;
    bool denied;         /* by all managers */
    const char *address; /* of the manager it is with; NULL: FAKE_MANAGER */
    uint64_t epoch;      /* as the agent opened it, or as the test says */
    bool abandoned;      /* closed without a word to the manager */
    char managers[16][64];
    size_t manager_count;
    char first[64]; /* to be tried first */
    /* A message of the agent. Borrowed for the call. NULL: nobody cares. */
    void (*on_sent)(void *ctx, const AgentMessage *message);
    void *ctx;
};

extern struct fake_session fake_session;

/* Forget what was; between tests. */
void fake_session_reset(void);

void fake_session_ready(void);
void fake_session_lost(void);
void fake_session_writable(void); /* with any credit */

/* Packed and unpacked on the way, as on a wire; or bytes as they came. False: they are no message. */
void fake_session_deliver(const ManagerMessage *message);
bool fake_session_deliver_bytes(const void *data, size_t size);
