/* See assignment.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/assignment.h"
#include "proto/base/ident.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"
#include "proto/base/planted.h"
#include "proto/wire/assigned.h"

struct entry {
    AssignmentItem *item; /* owned */
    uint64_t digest;      /* of it */
    bool named;           /* by the full set that is coming in */
};

struct assignment {
    struct assignment_events events;
    struct map entries; /* key -> entry */
    uint64_t digest;    /* sum over all entries */
    uint64_t sequence;  /* of the last message applied in this session */
    enum { WAITING, FILLING, COMPLETE } phase;
};

struct assignment *assignment_new(const struct assignment_events *events)
{
    struct assignment *a = mem_alloc(sizeof(*a));

    a->events = *events;
    return a;
}

static void entry_free(struct entry *entry)
{
    message_free(entry->item);
    free(entry);
}

void assignment_free(struct assignment *a)
{
    struct entry *entry;
    size_t at = 0;

    if (!a)
        return;
    while ((entry = map_next(&a->entries, &at)))
        entry_free(entry);
    map_fini(&a->entries);
    free(a);
}

void assignment_new_session(struct assignment *a)
{
    a->phase = WAITING;
    a->sequence = 0;
}

/* A key says what it is the key of: it finds the worker's task and names the ledger's file. */
static int check_key(const AssignmentItem *item, struct err *e)
{
    char key[ASSIGNMENT_KEY_MAX + 1];

    if (item->task) {
        ident_format(item->task->id.data, key);
    } else if (item->spec) {
        char service[IDENT_TEXT + 1];

        ident_format(item->spec->service_id.data, service);
        (void)snprintf(key, sizeof(key), "%s.%llu", service, (unsigned long long)item->spec->version); /* fits */
    } else {
        return 0; /* a removal finds something by its key, or does nothing */
    }
    return strcmp(key, item->key) == 0
               ? 0
               : err_set(e, ERR_INVALID, "assignment: item %s has the key of another one", item->key);
}

static int check(const AssignmentItem *item, struct err *e)
{
    size_t length = strnlen(item->key, ASSIGNMENT_KEY_MAX + 1);
    int contents = (item->spec != NULL) + (item->task != NULL) + (item->has_remove && item->remove);

    if (length == 0 || length > ASSIGNMENT_KEY_MAX)
        return err_set(e, ERR_INVALID, "assignment: a key of %zu bytes", length);
    if (contents != 1)
        return err_set(e, ERR_INVALID, "assignment: item %s holds %d things instead of one", item->key, contents);
    if (item->task && (item->task->id.len != 16 || item->task->service_id.len != 16))
        return err_set(e, ERR_INVALID, "assignment: item %s: malformed id", item->key);
    if (item->spec && (item->spec->service_id.len != 16 || !item->spec->spec->task))
        return err_set(e, ERR_INVALID, "assignment: item %s: malformed spec", item->key);
    return check_key(item, e);
}

static void set(struct assignment *a, const AssignmentItem *item)
{
    uint64_t digest = assigned_digest(item);
    struct entry *old = map_get(&a->entries, item->key);

    if (old && old->digest == digest) {
        old->named = true;
        return;
    }
    struct entry *entry = mem_alloc(sizeof(*entry));
    entry->item = message_dup(item);
    entry->digest = digest;
    entry->named = true;
    if (old) /* the key in the table is the old item's */
        map_remove(&a->entries, item->key);
    map_put(&a->entries, entry->item->key, entry);
    a->digest += digest - (old ? old->digest : 0);
    a->events.on_set(a->events.ctx, entry->item);
    if (old)
        entry_free(old);
}

static void drop(struct assignment *a, const char *key)
{
    struct entry *entry = map_remove(&a->entries, key);

    if (!entry)
        return;
    a->digest -= entry->digest;
    a->events.on_removed(a->events.ctx, entry->item->key);
    entry_free(entry);
}

static void name_all(struct assignment *a, bool named)
{
    struct entry *entry;
    size_t at = 0;

    while ((entry = map_next(&a->entries, &at)))
        entry->named = named;
}

/* Tasks go before the specs they name, so that nobody is left with a task without its spec. */
static void drop_unnamed(struct assignment *a)
{
    for (int tasks = 1; tasks >= 0; tasks--) {
        AUTO_FREE
        const char **keys = mem_array(a->entries.count, sizeof(*keys));
        struct entry *entry;
        size_t at = 0, count = 0;

        while ((entry = map_next(&a->entries, &at)))
            if (!entry->named && (entry->item->task != NULL) == tasks)
                keys[count++] = entry->item->key;
        for (size_t i = 0; i < count; i++)
            drop(a, keys[i]);
    }
}

static int check_order(struct assignment *a, const Assignment *message, struct err *e)
{
    if (message->begin) {
        a->phase = FILLING;
        name_all(a, false);
    } else if (a->phase == WAITING) {
        return err_set(e, ERR_SEQUENCE, "assignment: message %llu came before a full set",
                       (unsigned long long)message->sequence);
    } else if (message->sequence != a->sequence + 1) {
        return err_set(e, ERR_SEQUENCE, "assignment: message %llu came after %llu",
                       (unsigned long long)message->sequence, (unsigned long long)a->sequence);
    }
    if (message->end && a->phase != FILLING)
        return err_set(e, ERR_INVALID, "assignment: end of a full set that did not begin");
    return 0;
}

int assignment_apply(struct assignment *a, const Assignment *message, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; i < message->n_items && rc == 0; i++)
        rc = check(message->items[i], e);
    if (rc == 0 && a->entries.count + message->n_items > ASSIGNMENT_ITEMS_MAX)
        rc = err_set(e, ERR_INVALID, "assignment: more than %d items", ASSIGNMENT_ITEMS_MAX);
    if (rc == 0)
        rc = check_order(a, message, e);
    if (rc < 0) {
        assignment_new_session(a);
        return rc;
    }
    a->sequence = message->sequence;
    if (PLANTED(FULL_SET_CLEARS) && message->begin)
        drop_unnamed(a);
    for (size_t i = 0; i < message->n_items; i++) {
        if (message->items[i]->has_remove && message->items[i]->remove)
            drop(a, message->items[i]->key);
        else
            set(a, message->items[i]);
    }
    if (message->end) {
        drop_unnamed(a);
        a->phase = COMPLETE;
    }
    if (message->has_digest && a->phase == COMPLETE && message->digest != a->digest) {
        assignment_new_session(a);
        return err_set(e, ERR_SEQUENCE, "assignment: the set differs from the manager's after message %llu",
                       (unsigned long long)message->sequence);
    }
    return 0;
}

int assignment_restore(struct assignment *a, const AssignmentItem *item, struct err *e)
{
    int rc = check(item, e);

    if (rc < 0)
        return rc;
    set(a, item);
    return 0;
}

const AssignmentItem *assignment_find(const struct assignment *a, const char *key)
{
    struct entry *entry = map_get(&a->entries, key);

    return entry ? entry->item : NULL;
}

uint64_t assignment_digest(const struct assignment *a)
{
    return a->digest;
}

uint64_t assignment_sequence(const struct assignment *a)
{
    return a->sequence;
}

size_t assignment_count(const struct assignment *a)
{
    return a->entries.count;
}

bool assignment_complete(const struct assignment *a)
{
    return a->phase == COMPLETE;
}
