/* Waiting until a service has converged, with docker's display. See service_converge in service.h.
 *
 * Every 200 ms the service, its tasks that are up to date (hidden filter _up-to-date) and the nodes are asked for.
 * A service has converged when every slot (or, with one task per node, every node) has a running task on a node
 * that is not down, and stayed so for the update's monitoring time; a job when its tasks are complete. A paused
 * update ends the wait with an error. Ctrl-C ends it too, and the operation goes on without us. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/print.h"
#include "cli/progress.h"
#include "cli/service.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

#define POLL_MS      200
#define BARS_MAX     20 /* more tasks are only counted */
#define MONITOR_US   5000000
#define STATE_WIDTH  9 /* of "preparing" */
#define ERROR_WIDTH  75
#define RUNNING_RANK 9

struct best { /* the task that counts for a slot or node */
    const json_t *task;
    int64_t slot;
    const char *node;
    int desired, state; /* ranks */
};

struct wait {
    struct cli *cli;
    const char *name;
    bool quiet;
    struct progress progress;
    bool begun; /* the first lines are shown */
    bool done;  /* bars rest: the last round had everything running */
    bool rolling_back;
    bool is_job;
    int64_t slots[BARS_MAX]; /* the slot of each bar */
    size_t slots_count;
    int64_t converged_us; /* since when; 0 while not */
    int64_t monitor_us;
    char *farewell; /* said at the end; NULL */
};

/* The order of states; 0 for an unknown one. */
static int rank(const char *state)
{
    static const char *const states[] = {"new",       "allocated", "pending",  "assigned", "accepted",
                                         "preparing", "ready",     "starting", "running",  "complete",
                                         "shutdown",  "failed",    "rejected"};

    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        if (strcmp(state, states[i]) == 0)
            return (int)i + 1;
    return 0;
}

/* --- display ----------------------------------------------------------------------------------------------------
 */

static void show(struct wait *w, const char *id, const struct progress_bar *bar, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static void show(struct wait *w, const char *id, const struct progress_bar *bar, const char *fmt, ...)
{
    AUTO_BUF struct buf text = {0};
    va_list args;

    if (w->quiet)
        return;
    va_start(args, fmt);
    buf_vprintf(&text, fmt, args);
    va_end(args);
    progress_update(&w->progress, id, buf_str(&text), bar);
}

static void say(struct wait *w, const char *text)
{
    if (!w->quiet)
        progress_say(&w->progress, "", text);
}

static void show_overall(struct wait *w, long long running, long long wanted)
{
    show(w, "overall progress", NULL, "%s%lld out of %lld tasks", w->rolling_back ? "rolling back update: " : "",
         running, wanted);
}

/* A task's error on one line, or its state with a bar. */
static void show_task(struct wait *w, const char *id, const struct best *b, int total)
{
    const char *error = tree_text(b->task, "Status.Err");
    struct progress_bar bar = {.current = b->state, .total = total, .hide_counts = true};
    AUTO_BUF struct buf line = {0};
    AUTO_BUF struct buf cut = {0};

    if (*error) {
        for (const char *c = error; *c; c++)
            buf_append_char(&line, *c == '\n' ? ' ' : *c);
        print_ellipsis(&cut, buf_str(&line), ERROR_WIDTH);
        show(w, id, NULL, "%s", buf_str(&cut));
    } else if (w->is_job || (b->desired <= RUNNING_RANK && b->state <= RUNNING_RANK)) {
        show(w, id, &bar, "%-*s", STATE_WIDTH, tree_text(b->task, "Status.State"));
    }
}

/* --- which task counts ------------------------------------------------------------------------------------------
 */

static bool node_is_up(const json_t *nodes, const char *id)
{
    json_t *node;
    size_t i;

    json_array_foreach(nodes, i, node)
    {
        if (strcmp(tree_text(node, "ID"), id) == 0)
            return strcmp(tree_text(node, "Status.State"), "down") != 0;
    }
    return false;
}

static int by_slot(const void *a, const void *b)
{
    const struct best *x = a, *y = b;

    if (x->slot != y->slot)
        return x->slot < y->slot ? -1 : 1;
    int order = strcmp(x->node, y->node);
    if (order)
        return order;
    return x->desired != y->desired ? x->desired - y->desired : x->state - y->state;
}

/* One task for each slot (`per_node`: each node): of several, as while one replaces the other, the one that is
 * wanted least far along. *ret is freed by the caller. */
static size_t pick(const json_t *tasks, const json_t *nodes, bool per_node, bool up_only, const int64_t *iteration,
                   struct best **ret)
{
    size_t count = 0, kept = 0, i;
    struct best *list = mem_array(json_array_size(tasks), sizeof(*list));
    json_t *task;

    json_array_foreach(tasks, i, task)
    {
        const char *node = tree_text(task, "NodeID");
        struct best b = {.task = task,
                         .slot = per_node ? 0 : tree_int(task, "Slot"),
                         .node = per_node ? node : "",
                         .desired = rank(tree_text(task, "DesiredState")),
                         .state = rank(tree_text(task, "Status.State"))};

        if (!b.desired || !b.state || (up_only && *node && !node_is_up(nodes, node)))
            continue;
        if (iteration && tree_int(task, "JobIteration.Index") != *iteration)
            continue;
        list[count++] = b;
    }
    qsort(list, count, sizeof(*list), by_slot);
    for (i = 0; i < count; i++)
        if (kept == 0 || list[i].slot != list[kept - 1].slot || strcmp(list[i].node, list[kept - 1].node) != 0)
            list[kept++] = list[i];
    *ret = list;
    return kept;
}

static bool runs(const struct best *b)
{
    return b->state == RUNNING_RANK && b->desired <= RUNNING_RANK;
}

static bool all_run(const struct best *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (list[i].state != RUNNING_RANK)
            return false;
    return true;
}

/* --- the four modes ---------------------------------------------------------------------------------------------
 */

/* The bar of a slot, from 1; 0 when there are too many. */
static size_t bar_of(struct wait *w, int64_t slot)
{
    for (size_t i = 0; i < w->slots_count; i++)
        if (w->slots[i] == slot)
            return i + 1;
    if (w->slots_count == BARS_MAX)
        return 0;
    w->slots[w->slots_count++] = slot;
    return w->slots_count;
}

static bool replicated(struct wait *w, const json_t *service, const json_t *tasks, const json_t *nodes)
{
    int64_t wanted = tree_int(service, "Spec.Mode.Replicated.Replicas"), running = 0;
    AUTO_FREE
    struct best *list = NULL;
    size_t count = pick(tasks, nodes, false, true, NULL, &list);
    char id[64];

    if (!w->begun) {
        show_overall(w, 0, wanted);
        for (int64_t i = 1; wanted <= BARS_MAX && i <= wanted; i++) {
            (void)snprintf(id, sizeof(id), "%lld/%lld", (long long)i, (long long)wanted);
            show(w, id, NULL, " ");
        }
        w->begun = true;
    }
    w->done = w->done && all_run(list, count);
    for (size_t i = 0; i < count; i++) {
        size_t bar = bar_of(w, list[i].slot);

        running += runs(&list[i]);
        if (w->done || wanted > BARS_MAX || bar == 0 || (int64_t)bar > wanted)
            continue;
        (void)snprintf(id, sizeof(id), "%zu/%lld", bar, (long long)wanted);
        show_task(w, id, &list[i], RUNNING_RANK);
    }
    if (!w->done)
        show_overall(w, running, wanted);
    w->done = w->done || running == wanted;
    return running == wanted;
}

static bool global(struct wait *w, const json_t *tasks, const json_t *nodes)
{
    AUTO_FREE
    struct best *list = NULL;
    size_t count = pick(tasks, nodes, true, false, NULL, &list), running = 0;
    char id[13];

    if (!w->begun && count == 0) {
        show(w, "overall progress", NULL, "waiting for new tasks");
        return false;
    }
    if (!w->begun)
        show_overall(w, 0, (long long)count);
    w->begun = true;
    w->done = w->done && all_run(list, count);
    for (size_t i = 0; i < count; i++) {
        if (!node_is_up(nodes, list[i].node))
            continue;
        running += runs(&list[i]);
        if (!w->done && count <= BARS_MAX)
            show_task(w, cli_short_id(list[i].node, id), &list[i], RUNNING_RANK);
    }
    if (!w->done)
        show_overall(w, (long long)running, (long long)count);
    w->done = w->done || running == count;
    return running == count;
}

static int digits(int64_t number)
{
    char text[24];

    return snprintf(text, sizeof(text), "%lld", (long long)number);
}

static void show_job(struct wait *w, int64_t active, int64_t complete, int64_t total, int64_t concurrent)
{
    struct progress_bar bar = {.current = complete, .total = total, .hide_counts = true};

    show(w, "job progress", &bar, "%*lld out of %lld complete", digits(total), (long long)complete,
         (long long)total);
    show(w, "active tasks", NULL, "%*lld out of %*lld tasks", digits(concurrent), (long long)active,
         digits(concurrent), (long long)MIN(total - complete, concurrent));
}

static bool replicated_job(struct wait *w, const json_t *service, const json_t *tasks)
{
    int64_t total = tree_int(service, "Spec.Mode.ReplicatedJob.TotalCompletions"),
            concurrent = tree_int(service, "Spec.Mode.ReplicatedJob.MaxConcurrent"),
            iteration = tree_int(service, "JobStatus.JobIteration.Index"), active = 0, complete = 0;
    AUTO_FREE
    struct best *list = NULL;
    size_t count = pick(tasks, NULL, false, false, &iteration, &list);
    char id[64];

    if (!w->begun)
        show_job(w, 0, 0, total, concurrent);
    for (int64_t i = 1; !w->begun && total <= BARS_MAX && i <= total; i++) {
        (void)snprintf(id, sizeof(id), "%lld/%lld", (long long)i, (long long)total);
        show(w, id, NULL, " ");
    }
    w->begun = true;
    for (size_t i = 0; i < count; i++) {
        active += list[i].state <= RUNNING_RANK;
        complete += list[i].state == RUNNING_RANK + 1;
        (void)snprintf(id, sizeof(id), "%lld/%lld", (long long)list[i].slot + 1, (long long)total);
        if (total <= BARS_MAX)
            show_task(w, id, &list[i], RUNNING_RANK + 1);
    }
    show_job(w, active, complete, total, concurrent);
    return complete == total;
}

static bool global_job(struct wait *w, const json_t *service, const json_t *tasks, const json_t *nodes)
{
    int64_t iteration = tree_int(service, "JobStatus.JobIteration.Index"), complete = 0;
    AUTO_FREE
    struct best *list = NULL;
    size_t count = pick(tasks, nodes, true, false, &iteration, &list);

    if (count == 0 && json_array_size(nodes)) {
        show(w, "job progress", NULL, "waiting for tasks");
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        complete += list[i].state == RUNNING_RANK + 1;
        if (count <= BARS_MAX)
            show_task(w, list[i].node, &list[i], RUNNING_RANK + 1);
    }
    struct progress_bar bar = {.current = complete, .total = (int64_t)count, .hide_counts = true};
    show(w, "job progress", &bar, "%*lld out of %zu complete", digits((int64_t)count), (long long)complete, count);
    return complete == (int64_t)count;
}

/* --- one round --------------------------------------------------------------------------------------------------
 */

/* What the update says of itself. 1 when there is nothing more to wait for. */
static int look_at_update(struct wait *w, const json_t *service, struct err *e)
{
    const char *state = tree_text(service, "UpdateStatus.State"),
               *message = tree_text(service, "UpdateStatus.Message");

    if (strcmp(state, "updating") == 0)
        w->rolling_back = false;
    else if (strcmp(state, "completed") == 0 && !w->converged_us)
        return 1;
    else if (strcmp(state, "paused") == 0)
        return err_set(e, ERR_CONFLICT, "service update paused: %s", message);
    else if (strcmp(state, "rollback_paused") == 0)
        return err_set(e, ERR_CONFLICT, "service rollback paused: %s", message);
    else if (strncmp(state, "rollback_", 9) == 0) {
        if (strcmp(state, "rollback_started") == 0 && !w->rolling_back && *message)
            show(w, "rollback", NULL, "%s", message);
        if (strcmp(state, "rollback_completed") == 0 && !w->converged_us && !w->farewell)
            w->farewell = mem_strdup(message);
        w->rolling_back = true;
    }
    return 0;
}

static int fetch(struct wait *w, const json_t *service, json_t **ret_tasks, json_t **ret_nodes, struct err *e)
{
    AUTO_JSON json_t *filters = json_object();
    AUTO_BUF struct buf tasks = {0};
    AUTO_BUF struct buf nodes = {0};

    cli_filter_add(filters, "_up-to-date", "true");
    cli_filter_add(filters, "service", tree_text(service, "ID"));
    path_add(&tasks, "/tasks");
    cli_filter_query(&tasks, filters);
    path_add(&nodes, "/nodes");
    int rc = cli_get(w->cli, &tasks, ret_tasks, e);
    return rc < 0 ? rc : cli_get(w->cli, &nodes, ret_nodes, e);
}

static int show_mode(struct wait *w, const json_t *service, const json_t *tasks, const json_t *nodes, bool *ret,
                     struct err *e)
{
    const json_t *mode = tree_get(service, "Spec.Mode");

    w->is_job = tree_get(mode, "ReplicatedJob") || tree_get(mode, "GlobalJob");
    if (tree_get(mode, "Replicated"))
        *ret = replicated(w, service, tasks, nodes);
    else if (tree_get(mode, "Global"))
        *ret = global(w, tasks, nodes);
    else if (tree_get(mode, "ReplicatedJob"))
        *ret = replicated_job(w, service, tasks);
    else if (tree_get(mode, "GlobalJob"))
        *ret = global_job(w, service, tasks, nodes);
    else
        return err_set(e, ERR_UNSUPPORTED, "unrecognized service mode");
    return 0;
}

/* 1 when the wait is over. */
static int round_once(struct wait *w, struct err *e)
{
    AUTO_JSON json_t *service = NULL;
    AUTO_JSON json_t *tasks = NULL;
    AUTO_JSON json_t *nodes = NULL;
    int64_t now = clock_mono_us(clock_real()), monitor;
    bool converged = false;
    int rc = service_get(w->cli, w->name, false, &service, e);

    if (rc < 0)
        return rc;
    monitor = tree_int(service, "Spec.UpdateConfig.Monitor");
    if (monitor)
        w->monitor_us = monitor / 1000;
    rc = look_at_update(w, service, e);
    if (rc != 0)
        return rc;
    if (w->converged_us && now - w->converged_us >= w->monitor_us) {
        show(w, "verify", NULL, "Service %s converged", w->name);
        if (w->farewell && !w->quiet)
            progress_say(&w->progress, "rollback", w->farewell);
        return 1;
    }
    rc = fetch(w, service, &tasks, &nodes, e);
    if (rc == 0)
        rc = show_mode(w, service, tasks, nodes, &converged, e);
    if (rc < 0)
        return rc;
    if (converged && w->is_job) {
        say(w, "job complete");
        return 1;
    }
    now = clock_mono_us(clock_real());
    if (!converged && w->converged_us)
        show(w, "verify", NULL, "Detected task failure");
    if (!converged)
        w->converged_us = 0;
    else if (!w->converged_us)
        w->converged_us = MAX(now, (int64_t)1);
    if (converged && w->monitor_us > now - w->converged_us)
        show(w, "verify", NULL, "Waiting %lld seconds to verify that tasks are stable...",
             (long long)((w->monitor_us - (now - w->converged_us) - 1) / 1000000 + 1));
    return 0;
}

/* --- the wait ---------------------------------------------------------------------------------------------------
 */

int service_converge(struct cli *cli, const char *name, bool quiet, struct err *e)
{
    static const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    struct wait w = {.cli = cli, .name = name, .quiet = quiet, .monitor_us = MONITOR_US};
    int rc = 0;

    cli_catch_interrupt(cli);
    progress_init(&w.progress, stdout, cli->out_is_terminal);
    while (rc == 0 && !cli->stop) {
        rc = round_once(&w, e);
        if (rc == 0 && !cli->stop)
            (void)nanosleep(&pause, NULL); /* a signal ends it early, as it should */
    }
    cli_release_interrupt(cli);
    if (cli->stop) {
        AUTO_FREE
        char *advice = mem_printf("Use `%s service ps %s` to check progress.", cli->program, name);

        if (!w.converged_us) {
            say(&w, "Operation continuing in background.");
            say(&w, advice);
        }
        rc = 0;
    }
    progress_fini(&w.progress);
    free(w.farewell);
    return rc < 0 ? rc : 0;
}
