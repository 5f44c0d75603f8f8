/* A manager without a thread, a log or a store (manager/manager.h): the test decides when it serves, stops and
 * answers. Founding and reading the body of init are the real ones. Link it before the manager's archive
 * (Makefile).
 */
#pragma once

#include <stdbool.h>

#include "manager/manager.h"

struct fake_manager {
    struct manager *open; /* NULL: none */
    bool had_bootstrap;   /* of the last one opened */
    bool has_unlock_key;  /* likewise, of its bootstrap */
    uint8_t unlock_key[MANAGER_LOCK_KEY];
    char listen[96], advertise[96];
    uint64_t raft_id, epoch;
    bool forced;            /* to go on alone */
    struct err refuse_open; /* code: manager_open fails like this */
    unsigned opens, closes;
    int port;

    struct manager_request *asked; /* the newest that waits; NULL: none */
    unsigned asks, mores, drops;
    char method[16], path[128], query[128], body[256], auth[128];
    unsigned api_minor;

    /* signing for its own node: by this authority; NULL: it does not lead */
    char *root_pem, *root_key_pem; /* owned, of the last founding: kept over a restart */
    char *trust_pem;               /* owned: the roots that it tells to trust; NULL: root_pem */
    unsigned issues, certificates; /* asked for; set */
};

extern struct fake_manager fake_manager;

void fake_manager_reset(void); /* between tests */

void fake_manager_ready(void);
void fake_manager_stop(const char *why);
void fake_manager_remove(void); /* from the group */
/* What it says of the unlock key; NULL: there is none. */
void fake_manager_lock_key(const uint8_t *key, uint64_t version);
/* A page for the newest request. */
void fake_manager_reply(int status, const char *type, const char *body, bool more);
void fake_manager_cut(void); /* the answer breaks off */
