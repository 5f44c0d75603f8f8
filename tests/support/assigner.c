/* See assigner.h. Each task has a service and a spec of its own, so that specs come and go with tasks. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "proto/wire/assigned.h"
#include "tests/support/assigner.h"

void assigner_id(uint32_t number, uint8_t ret[16], char ret_text[26])
{
    memset(ret, 0, 16);
    ret[0] = 1;
    memcpy(ret + 8, &number, sizeof(number));
    ident_format(ret, ret_text);
}

struct assigner_task *assigner_find(struct assigner *m, uint32_t number)
{
    for (size_t i = 0; i < ASSIGNER_TASKS_MAX; i++)
        if (m->tasks[i].number == number)
            return &m->tasks[i];
    return NULL;
}

struct assigner_task *assigner_add(struct assigner *m, uint32_t number, TaskState desired)
{
    struct assigner_task *t = assigner_find(m, 0);

    assert(t && number && !assigner_find(m, number));
    *t = (struct assigner_task){
        .is_assigned = true, .number = number, .desired = desired, .state = TASK_STATE__ASSIGNED};
    return t;
}

void assigner_new_session(struct assigner *m)
{
    m->sequence = 0;
    for (size_t i = 0; i < ASSIGNER_TASKS_MAX; i++)
        m->tasks[i].is_sent = false;
}

/* --- items ----------------------------------------------------------------------------------------- */

static AssignmentItem *spec_item(const struct assigner *m, const struct assigner_task *t, struct arena *a)
{
    AssignmentItem *item = ARENA_NEW(a, AssignmentItem);
    AssignedSpec *spec = ARENA_NEW(a, AssignedSpec);
    ServiceSpec *service = ARENA_NEW(a, ServiceSpec);
    TaskSpec *task = ARENA_NEW(a, TaskSpec);
    ContainerSpec *container = ARENA_NEW(a, ContainerSpec);
    uint8_t *id = arena_alloc(a, 16);
    char text[26];

    assigner_id(t->number, id, text);
    assignment_item__init(item);
    assigned_spec__init(spec);
    service_spec__init(service);
    task_spec__init(task);
    container_spec__init(container);
    container->image = (char *)(m->image ? m->image : "web:1");
    container->registry_auth = (char *)m->auth;
    task->container = container;
    service->name = (char *)"web";
    service->task = task;
    spec->service_id = (ProtobufCBinaryData){16, id};
    spec->version = t->number;
    spec->spec = service;
    item->key = arena_printf(a, "%s.%u", text, t->number);
    item->spec = spec;
    return item;
}

static AssignmentItem *task_item(const struct assigner_task *t, TaskState desired, TaskState state, struct arena *a)
{
    AssignmentItem *item = ARENA_NEW(a, AssignmentItem);
    AssignedTask *task = ARENA_NEW(a, AssignedTask);
    uint8_t *id = arena_alloc(a, 16);
    char text[26];

    assigner_id(t->number, id, text);
    assignment_item__init(item);
    assigned_task__init(task);
    task->id = task->service_id = (ProtobufCBinaryData){16, id};
    task->spec_version = t->number;
    task->desired_state = desired;
    task->name = arena_printf(a, "web.%u.%s", t->number, text);
    task->network = (char *)"none";
    task->has_state = state != TASK_STATE__NEW;
    task->state = state;
    item->key = arena_strdup(a, text);
    item->task = task;
    return item;
}

static AssignmentItem *removal(const AssignmentItem *of, struct arena *a)
{
    AssignmentItem *item = ARENA_NEW(a, AssignmentItem);

    assignment_item__init(item);
    item->key = of->key;
    item->has_remove = item->remove = true;
    return item;
}

/* Over everything that the agent has been told. */
static uint64_t digest_of(const struct assigner *m, struct arena *a)
{
    uint64_t digest = 0;

    for (size_t i = 0; i < ASSIGNER_TASKS_MAX; i++) {
        const struct assigner_task *t = &m->tasks[i];

        if (t->is_sent)
            digest +=
                assigned_digest(spec_item(m, t, a)) + assigned_digest(task_item(t, t->sent_desired, t->told, a));
    }
    return digest;
}

static ManagerMessage *message_of(struct assigner *m, AssignmentItem **items, size_t count, struct arena *a)
{
    ManagerMessage *message = ARENA_NEW(a, ManagerMessage);
    Assignment *assignment = ARENA_NEW(a, Assignment);

    manager_message__init(message);
    assignment__init(assignment);
    message->assignment = assignment;
    assignment->sequence = ++m->sequence;
    assignment->items = items;
    assignment->n_items = count;
    return message;
}

static size_t send(struct assigner *m, struct assigner_task *t, bool first, AssignmentItem **items, size_t count,
                   struct arena *a)
{
    t->sent_desired = t->desired;
    /* Told once, as the dispatcher does it: later only what is wanted changes. */
    t->told = first && t->state > TASK_STATE__ASSIGNED ? t->state : TASK_STATE__NEW;
    if (first)
        items[count++] = spec_item(m, t, a);
    items[count++] = task_item(t, t->desired, t->told, a);
    t->is_sent = true;
    return count;
}

ManagerMessage *assigner_full(struct assigner *m, size_t *at, size_t most, struct arena *a)
{
    AssignmentItem **items = arena_array(a, 2 * ASSIGNER_TASKS_MAX, sizeof(*items));
    bool begin = *at == 0;
    size_t count = 0;

    if (begin)
        assigner_new_session(m);
    for (; *at < ASSIGNER_TASKS_MAX && most; (*at)++) {
        struct assigner_task *t = &m->tasks[*at];

        if (!t->number || !t->is_assigned)
            continue;
        count = send(m, t, true, items, count, a);
        most--;
    }
    ManagerMessage *message = message_of(m, items, count, a);
    Assignment *assignment = message->assignment;
    assignment->has_begin = assignment->begin = begin;
    assignment->has_end = assignment->end = *at == ASSIGNER_TASKS_MAX;
    assignment->has_digest = assignment->end;
    assignment->digest = digest_of(m, a);
    return message;
}

ManagerMessage *assigner_changes(struct assigner *m, struct arena *a)
{
    AssignmentItem **items = arena_array(a, 2 * ASSIGNER_TASKS_MAX, sizeof(*items));
    size_t count = 0;

    for (size_t i = 0; i < ASSIGNER_TASKS_MAX; i++) {
        struct assigner_task *t = &m->tasks[i];

        if (t->is_sent && !t->is_assigned) {
            items[count++] = removal(task_item(t, t->desired, TASK_STATE__NEW, a), a);
            items[count++] = removal(spec_item(m, t, a), a);
            t->is_sent = false;
        } else if (t->number && t->is_assigned && (!t->is_sent || t->desired != t->sent_desired)) {
            count = send(m, t, !t->is_sent, items, count, a);
        }
    }
    if (count == 0)
        return NULL;
    ManagerMessage *message = message_of(m, items, count, a);
    message->assignment->has_digest = true;
    message->assignment->digest = digest_of(m, a);
    return message;
}

unsigned assigner_report(struct assigner *m, const StatusReport *report)
{
    for (size_t i = 0; i < report->n_tasks; i++) {
        const TaskReport *r = report->tasks[i];

        assert(r->task_id.len == 16);
        for (size_t k = 0; k < ASSIGNER_TASKS_MAX; k++) {
            struct assigner_task *t = &m->tasks[k];
            uint8_t id[16];
            char text[26];

            assigner_id(t->number, id, text);
            if (!t->number || memcmp(id, r->task_id.data, 16) != 0)
                continue;
            /* An older state may come again in a new session; it is ignored, as the manager does. */
            if (r->status->state > t->state)
                t->state = r->status->state;
            (void)snprintf(t->err, sizeof(t->err), "%s",
                           r->status->err ? r->status->err : ""); /* cut when longer */
        }
    }
    return (unsigned)report->n_tasks;
}
