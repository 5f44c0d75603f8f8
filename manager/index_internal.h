/* What the files of the index share among themselves. */
#pragma once

#include "manager/index.h"

/* Get or make the placeholder of a number; give it back when nothing needs it any more (frees it then). */
struct index_node *index_node_get(struct index *x, uint64_t number);
void index_node_needless(struct index *x, struct index_node *n);
struct index_service *index_service_get(struct index *x, uint64_t number);
void index_service_needless(struct index *x, struct index_service *s);
struct index_spec *index_spec_get(struct index *x, struct index_service *s, uint64_t version);
void index_spec_needless(struct index *x, struct index_spec *spec);

struct index_task *index_task_recent(struct index *x, uint64_t number);
struct index_share *index_share_recent(struct index *x, uint64_t service, uint64_t node);

void index_apply_node(struct index *x, uint64_t number, const Node *after);
void index_apply_spec(struct index *x, uint64_t number, const Spec *before, const Spec *after);
void index_apply_task(struct index *x, const struct object *before, const struct object *after);
void index_apply_status(struct index *x, uint64_t number, const Status *before, const Status *after);

void index_free_node(struct index_node *n); /* memory alone */
void index_free_spec(struct index_spec *spec);
void index_free_task(struct index_task *t);

/* Take the contributions of all tasks of a spec out before it changes, and put them in again after. */
struct index_task **index_detach_tasks(struct index *x, struct index_spec *spec);
void index_attach_tasks(struct index *x, struct index_task **tasks);

/* The present spec of a service may have come or gone. */
void index_service_current(struct index *x, struct index_service *s);

/* A node changed in what placing looks at; `eased` when more may fit now. */
void index_node_changed(struct index *x, struct index_node *n, bool eased);
/* Tasks of this demand took (sign 1) or gave back (-1) resources and ports of a node. */
void index_node_reserve(struct index_node *n, const struct demand *d, int sign);
void index_add_failure(struct index *x, struct index_node *n, const struct index_spec *spec, int64_t at_ms);
void index_drop_failure(struct index *x, struct index_node *n, const struct index_spec *spec);

void index_mark_spec(struct index *x, struct index_spec *spec); /* may have become needless in the store */
void index_mark_unallocated(struct index *x, struct index_service *s);
static inline void index_mark(struct list *head, struct list *link)
{
    if (list_empty(link))
        list_push(head, link);
}
