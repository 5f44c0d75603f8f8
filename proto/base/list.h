/* Intrusive doubly linked lists. A list head and a member are the same struct; an unlinked member points to itself.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/mem.h"

struct list {
    struct list *next, *prev;
};

#define LIST_INIT(name)  \
    {                    \
        &(name), &(name) \
    }

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_insert(struct list *after, struct list *item)
{
    item->next = after->next;
    item->prev = after;
    after->next->prev = item;
    after->next = item;
}

static inline void list_push(struct list *head, struct list *item) /* at the end */
{
    list_insert(head->prev, item);
}

static inline void list_push_front(struct list *head, struct list *item)
{
    list_insert(head, item);
}

static inline void list_remove(struct list *item) /* may be called again on an unlinked member */
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    list_init(item);
}

static inline struct list *list_pop(struct list *head) /* first member, unlinked; NULL when empty */
{
    struct list *first = head->next;

    if (first == head)
        return NULL;
    list_remove(first);
    return first;
}

/* Move all members of `from` to the end of `to`. */
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#define list_entry(item, type, member) container_of(item, type, member)
#define list_first(head, type, member) (list_empty(head) ? NULL : list_entry((head)->next, type, member))
#define list_last(head, type, member)  (list_empty(head) ? NULL : list_entry((head)->prev, type, member))

/* list_each(task, &service->tasks, by_service) { ... }   the body must not remove members */
#define list_each(var, head, member)                                                       \
    for (var = list_entry((head)->next, __typeof__(*var), member); &var->member != (head); \
         var = list_entry(var->member.next, __typeof__(*var), member))

/* As list_each; the body may remove `var` itself. `after` is a second variable of the same type. */
#define list_each_safe(var, after, head, member)                        \
    for (var = list_entry((head)->next, __typeof__(*var), member),      \
        after = list_entry(var->member.next, __typeof__(*var), member); \
         &var->member != (head); var = after, after = list_entry(after->member.next, __typeof__(*var), member))
