/* What a manager assigns to one node, as a test says it: builds full sets and increments with the numbers and
 * digests that the dispatcher gives them (proto/dispatch.proto). Flat memory, which may be shared between
 * processes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/dispatch.pb-c.h"

#define ASSIGNER_TASKS_MAX 48

struct assigner_task {
    bool is_assigned;
    uint32_t number; /* its id, and that of its service and spec */
    TaskState desired;
    TaskState state; /* newest known to the manager */
    TaskState told;  /* the state that went with it when it was sent first in this session */
    bool is_sent;    /* the agent has it, by this session */
    TaskState sent_desired;
    char err[128]; /* of the newest status */
};

struct assigner {
    struct assigner_task tasks[ASSIGNER_TASKS_MAX];
    uint64_t sequence; /* of this session */
    const char *image; /* static; NULL: "web:1" */
    const char *auth;  /* registry credentials in the specs; NULL: none */
};

/* The id of a task as text, and its 16 bytes. */
void assigner_id(uint32_t number, uint8_t ret[16], char ret_text[26]);

struct assigner_task *assigner_add(struct assigner *m, uint32_t number, TaskState desired);
struct assigner_task *assigner_find(struct assigner *m, uint32_t number); /* NULL: none */

/* A session begins. */
void assigner_new_session(struct assigner *m);

/* The next message: everything from `at` on, at most `most` tasks, with begin and end where due; *at moves on.
 * With its specs it is at most 2 * most items. */
ManagerMessage *assigner_full(struct assigner *m, size_t *at, size_t most, struct arena *a);
/* What changed since. NULL: nothing did. */
ManagerMessage *assigner_changes(struct assigner *m, struct arena *a);

/* Take what an agent reported. Returns how many statuses there were. */
unsigned assigner_report(struct assigner *m, const StatusReport *report);
