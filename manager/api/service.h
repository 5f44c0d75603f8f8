/* What requests about services ask for. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/api/ask.h"
#include "proto/base/filter.h"
#include "proto/spec.pb-c.h"

struct service_args {
    struct filters filters;  /* list */
    bool status;             /* list: with counts of tasks */
    bool insert_defaults;    /* inspect */
    ServiceSpec *spec;       /* create, update */
    uint64_t version;        /* update: of the service that the client has seen */
    bool rollback;           /* update: to the previous spec */
    bool auth_from_previous; /* update: keep the registry credentials of the previous spec, not the present one's */
};

/* service_read.c */
int service_prepare_list(struct ask *k, struct err *e);
int service_prepare_inspect(struct ask *k, struct err *e);
void service_begin_list(struct ask *k);
void service_begin_inspect(struct ask *k);
