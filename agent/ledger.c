/* See ledger.h. Changes gather in two tables by key, so that a task which takes five steps in one turn is written
 * once. */
#include <stdlib.h>
#include <string.h>

#include "agent/ledger.h"
#include "proto/base/log.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"
#include "proto/base/record.h"
#include "proto/ledger.pb-c.h"

#define RECORD_BYTES_MAX (4 * 1024 * 1024)

static const struct record_format task_format = {"shoaltsk", 1, RECORD_BYTES_MAX, &ledger_task__descriptor};
static const struct record_format spec_format = {"shoalspc", 1, RECORD_BYTES_MAX, &ledger_spec__descriptor};

struct entry {
    char *key;        /* owned */
    LedgerTask *task; /* owned; of a task's entry */
    LedgerSpec *spec; /* owned; of a spec's entry that has not been written yet, else NULL */
    bool is_dirty;    /* differs from the disk */
    bool is_removed;  /* to be removed from the disk */
};

struct ledger {
    struct records *tasks, *specs;
    struct map task_entries; /* everything remembered */
    struct map spec_entries; /* what is not yet on the disk */
    bool is_failing;         /* the last write failed, and that was logged */
    unsigned closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static void entry_free(struct map *entries, struct entry *entry)
{
    map_remove(entries, entry->key);
    message_free(entry->task);
    message_free(entry->spec);
    free(entry->key);
    free(entry);
}

static struct entry *entry_of(struct map *entries, const char *key)
{
    struct entry *entry = map_get(entries, key);

    if (!entry) {
        entry = mem_alloc(sizeof(*entry));
        entry->key = mem_strdup(key);
        map_put(entries, entry->key, entry);
    }
    return entry;
}

/* --- remembering ----------------------------------------------------------------------------------- */

void ledger_put_task(struct ledger *l, const char *key, const AssignedTask *task, const Status *status)
{
    LedgerTask made = LEDGER_TASK__INIT;
    struct entry *entry = entry_of(&l->task_entries, key);

    made.task = (AssignedTask *)task;
    made.status = status ? (Status *)status : entry->task ? entry->task->status : NULL;
    LedgerTask *copy = message_dup(&made);
    message_free(entry->task);
    entry->task = copy;
    entry->is_removed = false;
    entry->is_dirty = true;
}

void ledger_remove_task(struct ledger *l, const char *key)
{
    struct entry *entry = entry_of(&l->task_entries, key);

    entry->is_removed = entry->is_dirty = true;
}

void ledger_put_spec(struct ledger *l, const char *key, const AssignedSpec *spec)
{
    LedgerSpec made = LEDGER_SPEC__INIT;

    struct entry *entry = entry_of(&l->spec_entries, key);

    made.spec = (AssignedSpec *)spec;
    message_free(entry->spec);
    entry->spec = message_dup(&made);
    TaskSpec *task = entry->spec->spec->spec->task;
    if (task && task->container && task->container->registry_auth) {
        mem_wipe(task->container->registry_auth, strlen(task->container->registry_auth));
        free(task->container->registry_auth);
        task->container->registry_auth = mem_strdup(LEDGER_AUTH_REMOVED);
    }
    entry->is_removed = false;
    entry->is_dirty = true;
}

void ledger_remove_spec(struct ledger *l, const char *key)
{
    struct entry *entry = entry_of(&l->spec_entries, key);

    entry->is_removed = entry->is_dirty = true;
}

/* --- the disk -------------------------------------------------------------------------------------- */

static int write_entry(struct records *records, const struct entry *entry, struct err *e)
{
    if (entry->is_removed)
        return records_remove(records, entry->key, e);
    return records_put(records, entry->key, entry->task ? &entry->task->base : &entry->spec->base, e);
}

/* Write what is dirty. Entries that need not be kept in memory are dropped. */
static bool flush_table(struct ledger *l, struct records *records, struct map *entries, bool keep)
{
    AUTO_FREE
    struct entry **dirty = mem_array(entries->count, sizeof(*dirty));
    struct entry *entry;
    size_t at = 0, count = 0;
    struct err e;

    while ((entry = map_next(entries, &at)))
        if (entry->is_dirty)
            dirty[count++] = entry;
    for (size_t i = 0; i < count; i++) {
        if (write_entry(records, dirty[i], &e) < 0) {
            if (!l->is_failing)
                log_error("cannot write the ledger; it is tried again", "key=%s error=\"%s\"", dirty[i]->key,
                          e.text);
            return false;
        }
        dirty[i]->is_dirty = false;
        if (dirty[i]->is_removed || !keep)
            entry_free(entries, dirty[i]);
    }
    return true;
}

bool ledger_flush(struct ledger *l)
{
    /* Specs before the tasks that name them; a task is removed before its spec only by the order of calls, which
     * does not matter here: a spec without a task is harmless, and a task without its spec is repaired by the next
     * full set. */
    bool good =
        flush_table(l, l->specs, &l->spec_entries, false) && flush_table(l, l->tasks, &l->task_entries, true);

    if (good && l->is_failing)
        log_info("the ledger is written again", "tasks=%zu", l->task_entries.count);
    l->is_failing = !good;
    return good;
}

struct reading {
    struct ledger *ledger;
    const struct ledger_events *events;
};

static void on_problem(void *ctx, const char *name, const struct err *why)
{
    log_error("a ledger record cannot be used", "name=%s error=\"%s\"", name, why->text);
}

static void on_spec(void *ctx, const char *name, ProtobufCMessage *message)
{
    struct reading *reading = ctx;
    LedgerSpec *spec = (LedgerSpec *)message;

    reading->events->on_spec(reading->events->ctx, name, spec->spec);
    message_free(message);
}

static void on_task(void *ctx, const char *name, ProtobufCMessage *message)
{
    struct reading *reading = ctx;
    LedgerTask *task = (LedgerTask *)message;

    entry_of(&reading->ledger->task_entries, name)->task =
        task; /* as on the disk: a newer status may be put at once */
    LedgerTask *told = message_dup(task);
    reading->events->on_task(reading->events->ctx, name, told->task, told->status);
    message_free(told);
}

static void scan(struct records *records, const struct records_scan *how)
{
    struct err e;

    if (records_scan(records, how, &e) < 0)
        log_error("cannot read the ledger; the next full set restores it", "error=\"%s\"", e.text);
}

void ledger_read(struct ledger *l, const struct ledger_events *events)
{
    struct reading reading = {l, events};
    struct records_scan specs = {.ctx = &reading, .on_record = on_spec, .on_problem = on_problem};
    struct records_scan tasks = {.ctx = &reading, .on_record = on_task, .on_problem = on_problem};

    scan(l->specs, &specs);
    scan(l->tasks, &tasks);
}

/* --- the door -------------------------------------------------------------------------------------- */

int ledger_open(uv_loop_t *loop, const char *data_dir, struct ledger **ret, struct err *e)
{
    struct ledger *l = mem_alloc(sizeof(*l));
    AUTO_FREE
    char *tasks = mem_printf("%s/swarm/tasks", data_dir), *specs = mem_printf("%s/swarm/specs", data_dir);
    int rc = records_open(loop, tasks, &task_format, &l->tasks, e);

    if (rc == 0)
        rc = records_open(loop, specs, &spec_format, &l->specs, e);
    if (rc < 0) {
        ledger_close(l, NULL, NULL);
        return err_wrap(e, "open ledger");
    }
    *ret = l;
    return 0;
}

static void on_records_closed(void *ctx)
{
    struct ledger *l = ctx;
    struct entry *entry;

    if (--l->closing)
        return;
    for (size_t at = 0; (entry = map_next(&l->task_entries, &at)); at = 0)
        entry_free(&l->task_entries, entry);
    for (size_t at = 0; (entry = map_next(&l->spec_entries, &at)); at = 0)
        entry_free(&l->spec_entries, entry);
    map_fini(&l->task_entries);
    map_fini(&l->spec_entries);
    void (*closed)(void *ctx) = l->closed;
    void *closed_ctx = l->closed_ctx;
    free(l);
    if (closed)
        closed(closed_ctx);
}

void ledger_close(struct ledger *l, void (*closed)(void *ctx), void *ctx)
{
    l->closed = closed;
    l->closed_ctx = ctx;
    l->closing = 1;
    if (l->tasks) {
        l->closing++;
        records_close(l->tasks, on_records_closed, l);
    }
    if (l->specs) {
        l->closing++;
        records_close(l->specs, on_records_closed, l);
    }
    on_records_closed(l); /* only when nothing was open does this end it */
}
