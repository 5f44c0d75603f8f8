/* What an agent can tell a manager: messages of a session as they come from the wire, checked and planned on a
 * small cluster in memory. Laws: what passes the check changes tasks of that node alone, whose states never go
 * back, and the index stays what the objects say. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "manager/dispatcher/check.h"
#include "proto/base/arena.h"
#include "tests/simulation/fake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* The ids of tasks that there are go into the report where it names one by a small number. */
static void aim(struct fake *f, StatusReport *report, uint64_t first, size_t count)
{
    for (size_t i = 0; i < report->n_tasks; i++) {
        ProtobufCBinaryData *id = &report->tasks[i]->task_id;

        if (id->len == 16 && count) {
            const struct index_task *t = index_task(f->index, first + id->data[15] % count);

            if (t)
                memcpy(id->data, t->id, 16);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { TASKS = 6 };
    AUTO_ARENA struct arena a;
    TaskState before[64] = {0};
    struct err e;

    arena_init(&a);
    AgentMessage *message = arena_unpack(&a, &agent_message__descriptor, data, size);
    if (!message)
        return 0;
    if (message->open && message->open->description)
        (void)check_description(message->open->description, &e);
    if (!message->report || check_report(message->report, &e) < 0)
        return 0;
    struct fake *f = fake_new(1);
    uint64_t node = fake_node(f, (struct fake_node){.hostname = "n1", .nano_cpus = 8000000000});
    uint64_t other = fake_node(f, (struct fake_node){.hostname = "n2", .nano_cpus = 8000000000});
    uint64_t service = fake_service(f, (struct fake_service){.name = "web", .image = "web:1", .replicas = TASKS});
    fake_settle(f);
    must(service && other);
    aim(f, message->report, service + 1, TASKS);
    for (uint64_t n = 0; n < 64; n++) {
        const Status *status = index_task(f->index, n) ? fake_status(f, n) : NULL;

        before[n] = status ? status->state : TASK_STATE__NEW;
    }
    for (size_t i = 0; i < message->report->n_tasks; i++) {
        const TaskReport *r = message->report->tasks[i];
        bool taken = plan_report(&f->plan, index_node(f->index, node), r->task_id.data, r->status);
        const struct index_task *t = index_task_by_id(f->index, r->task_id.data);

        must(!taken || (t && index_task_node(t) == index_node(f->index, node)));
    }
    for (uint64_t n = 0; n < 64; n++) {
        const Status *status = index_task(f->index, n) ? fake_status(f, n) : NULL;

        must(!status || status->state >= before[n]);
    }
    fake_check(f);
    fake_free(f);
    return 0;
}
