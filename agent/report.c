/* See report.h. Each task's entry is in one of two lists: `changed` (to be sent) or `sent` (waiting for its
 * acknowledgement, in order of sequence). A status that changes after it was sent goes back to `changed`. */
#include <stdlib.h>
#include <string.h>

#include "agent/report.h"
#include "proto/base/ident.h"
#include "proto/base/list.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"

struct entry {
    struct list link;         /* in changed or sent */
    char key[IDENT_TEXT + 1]; /* the task's id as text, for the table */
    uint8_t id[IDENT_BYTES];
    Status *status;    /* owned; the newest */
    uint64_t sequence; /* of the message it was sent in; 0: not sent */
};

struct report {
    struct map entries;  /* by key */
    struct list changed; /* to be sent, oldest first */
    struct list sent;    /* not yet acknowledged, lowest sequence first */
    uint64_t sequence;   /* of the last message sent */
};

struct report *report_new(void)
{
    struct report *r = mem_alloc(sizeof(*r));

    list_init(&r->changed);
    list_init(&r->sent);
    return r;
}

static void entry_free(struct report *r, struct entry *entry)
{
    list_remove(&entry->link);
    map_remove(&r->entries, entry->key);
    message_free(entry->status);
    free(entry);
}

void report_free(struct report *r)
{
    struct entry *entry, *after;

    if (!r)
        return;
    list_splice(&r->changed, &r->sent);
    list_each_safe (entry, after, &r->changed, link)
        entry_free(r, entry);
    map_fini(&r->entries);
    free(r);
}

void report_put(struct report *r, const uint8_t task_id[16], const Status *status)
{
    char key[IDENT_TEXT + 1];

    ident_format(task_id, key);
    struct entry *entry = map_get(&r->entries, key);
    if (!entry) {
        entry = mem_alloc(sizeof(*entry));
        memcpy(entry->key, key, sizeof(key));
        memcpy(entry->id, task_id, sizeof(entry->id));
        list_push(&r->changed, &entry->link);
        map_put(&r->entries, entry->key, entry);
    }
    message_free(entry->status);
    entry->status = message_dup(status);
    if (entry->sequence) {
        entry->sequence = 0;
        list_remove(&entry->link);
        list_push(&r->changed, &entry->link);
    }
}

void report_drop(struct report *r, const uint8_t task_id[16])
{
    char key[IDENT_TEXT + 1];

    ident_format(task_id, key);
    struct entry *entry = map_get(&r->entries, key);
    if (entry)
        entry_free(r, entry);
}

void report_new_session(struct report *r)
{
    struct entry *entry;

    list_each (entry, &r->sent, link)
        entry->sequence = 0;
    list_splice(&r->sent, &r->changed); /* what was sent first stays first */
    list_splice(&r->changed, &r->sent);
    r->sequence = 0;
}

StatusReport *report_next(struct report *r, struct arena *a)
{
    struct entry *entry;

    if (list_empty(&r->changed))
        return NULL;
    StatusReport *message = ARENA_NEW(a, StatusReport);
    status_report__init(message);
    message->sequence = r->sequence + 1;
    message->tasks = arena_array(a, REPORT_TASKS_MAX, sizeof(*message->tasks));
    list_each (entry, &r->changed, link) {
        TaskReport *task = ARENA_NEW(a, TaskReport);

        if (message->n_tasks == REPORT_TASKS_MAX)
            break;
        task_report__init(task);
        task->task_id = (ProtobufCBinaryData){sizeof(entry->id), entry->id};
        task->status = entry->status;
        message->tasks[message->n_tasks++] = task;
    }
    return message;
}

void report_sent(struct report *r, const StatusReport *message)
{
    r->sequence = message->sequence;
    for (size_t i = 0; i < message->n_tasks; i++) {
        struct entry *entry = list_first(&r->changed, struct entry, link);

        entry->sequence = message->sequence;
        list_remove(&entry->link);
        list_push(&r->sent, &entry->link);
    }
}

void report_acknowledged(struct report *r, uint64_t sequence)
{
    struct entry *entry;

    while ((entry = list_first(&r->sent, struct entry, link)) && entry->sequence <= sequence)
        entry_free(r, entry);
}

bool report_empty(const struct report *r)
{
    return r->entries.count == 0;
}
