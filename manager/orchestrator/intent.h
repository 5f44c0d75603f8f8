/* What people and agents want, written as the objects that planners work from: the API and the dispatcher call
 * these inside their writes (manager/control.h), so that what belongs together is in one draft. Pure.
 *
 * They check what only the cluster's state can tell. Syntax, names and versions are the caller's: it has looked the
 * object up, compared its version, and made sure that a name is free. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "manager/plan.h"
#include "proto/base/err.h"

/* ERR_INVALID: a published port is in use by another service. The spec is copied. */
int service_create(struct plan *p, const ServiceSpec *spec, uint64_t *ret_number, struct err *e);

/* The spec becomes the present one, the present the previous one, and the last update's status is dropped: a
 * running update is superseded, a paused one resumed. Tasks follow where they are outdated (update.c).
 * ERR_NOT_FOUND, ERR_UNSUPPORTED for another name or mode, ERR_INVALID as above. */
int service_update(struct plan *p, uint64_t number, const ServiceSpec *spec, struct err *e);

/* Swap present and previous spec; paced by the rollback config. ERR_PRECONDITION without a previous one. */
int service_rollback(struct plan *p, uint64_t number, struct err *e);

/* The service is gone at once; its tasks, specs and ports follow by themselves. */
int service_remove(struct plan *p, uint64_t number, struct err *e);

/* For update.c too: the previous spec's contents become a new version. `swap`: the present one becomes the
 * previous. False when there is no previous spec. */
bool service_revert(struct plan *p, struct index_service *s, bool swap, const char *message);

/* A node's state changed; nothing is written when all is so already. `address` NULL: as it was. ERR_NOT_FOUND. */
int node_set_state(struct plan *p, uint64_t number, NodeState state, const char *message, const char *address,
                   struct err *e);

/* Its tasks are orphaned and replaced by themselves. Whether it may be removed is the caller's question. */
int node_remove(struct plan *p, uint64_t number, struct err *e);
