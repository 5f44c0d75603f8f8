/* What {id} means: a full id, an exact name, or a beginning of an id that no other has, tried in that order
 * (reference/swarm-surface.md section 3). */
#pragma once

#include "manager/store/store.h"
#include "proto/base/err.h"

/* ERR_NOT_FOUND "service x not found", ERR_INVALID "service x is ambiguous (2 matches found)". */
int resolve(struct view *v, enum kind k, const char *text, uint64_t *ret_number, struct err *e);

/* The same for a write: in the state that the draft began from, and seeing what is gone or new in it. */
int resolve_draft(struct store *s, struct draft *d, enum kind k, const char *text, struct object *ret,
                  struct err *e);
