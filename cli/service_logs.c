/* `shoal service logs`: the output of all tasks of a service, each line with the task and node it comes from.
 *
 * The node sends each line as a frame whose text begins with the task's attributes ("key=value,key=value "), after
 * the time when that was asked for. They become "web.1.4f5c9d3a1b2e@node    | ". Names are asked for once per task.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/logs.h"
#include "cli/resolver.h"
#include "cli/service.h"
#include "proto/base/mem.h"

#define LINE_MAX_BYTES (4 * 1024 * 1024)

static const struct option logs_options[] = {
    {.name = "details", .type = &option_switch, .help = "With the attributes that the log driver added"},
    {.name = "follow", .letter = 'f', .type = &option_switch, .help = "Go on with what comes"},
    {.name = "no-resolve", .type = &option_switch, .help = "Ids of services and nodes instead of names"},
    {.name = "no-task-ids", .type = &option_switch, .help = "Without the ids of tasks"},
    {.name = "no-trunc", .type = &option_switch, .help = "Ids in full"},
    {.name = "raw", .type = &option_switch, .help = "The output alone"},
    {.name = "since", .type = &option_string, .help = "From a moment on: 2026-01-02T13:23:37Z, or 42m ago"},
    {.name = "tail",
     .letter = 'n',
     .type = &option_string,
     .standard = "all",
     .help = "The last lines of each task only: a number"},
    {.name = "timestamps", .letter = 't', .type = &option_switch, .help = "With the time before each line"},
    {0}};

struct source { /* what is known of one task */
    char *id, *prefix;
};

struct printer {
    struct cli *cli;
    const struct args *args;
    struct resolver resolver;
    struct map sources;   /* by task id */
    int digits;           /* of the largest slot: prefixes are padded to it */
    struct buf frames[3]; /* the frame that is being read, by stream */
};

/* --- attributes -------------------------------------------------------------------------------------------------
 */

/* The value of an attribute in "a=1,b=2", unescaped, or NULL. Free it. */
static char *attribute(const char *text, size_t length, const char *name)
{
    size_t name_length = strlen(name);

    for (const char *at = text; at < text + length;) {
        const char *end = memchr(at, ',', (size_t)(text + length - at));
        size_t size = (size_t)((end ? end : text + length) - at);

        if (size > name_length && strncmp(at, name, name_length) == 0 && at[name_length] == '=')
            return mem_strndup(at + name_length + 1, size - name_length - 1);
        at += size + 1;
    }
    return NULL;
}

/* Undo %XX, which the node writes for what would end an attribute. */
static void unescape(char *text)
{
    char *to = text;

    for (const char *c = text; *c; c++) {
        char number[3] = {0};

        if (*c == '%' && isxdigit((unsigned char)c[1]) && isxdigit((unsigned char)c[2])) {
            memcpy(number, c + 1, 2);
            *to++ = (char)strtol(number, NULL, 16);
            c += 2;
        } else {
            *to++ = *c;
        }
    }
    *to = '\0';
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The other attributes, sorted, for --details. */
static void put_details(struct buf *out, const char *text, size_t length)
{
    static const char swarm[] = "com.docker.swarm.";
    const char *list[256];
    size_t count = 0;
    AUTO_FREE
    char *copy = mem_strndup(text, length);
    char *rest = NULL;

    for (char *one = strtok_r(copy, ",", &rest); one && count < ARRAY_SIZE(list);
         one = strtok_r(NULL, ",", &rest)) {
        bool known = strncmp(one, swarm, sizeof(swarm) - 1) == 0 &&
                     (strncmp(one + 17, "node.id=", 8) == 0 || strncmp(one + 17, "service.id=", 11) == 0 ||
                      strncmp(one + 17, "task.id=", 8) == 0);

        if (known)
            continue;
        unescape(one);
        list[count++] = one;
    }
    qsort(list, count, sizeof(*list), by_text);
    for (size_t i = 0; i < count; i++)
        buf_printf(out, "%s%s", i ? "," : "", list[i]);
    buf_append_char(out, ' ');
}

/* --- prefixes ---------------------------------------------------------------------------------------------------
 */

static int make_prefix(struct printer *p, const char *task_id, const char *service_id, const char *node_id,
                       char **ret, struct err *e)
{
    const char *node = resolver_node(&p->resolver, node_id), *service = resolver_service(&p->resolver, service_id);
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *task = NULL;
    char cut[13], slot[24];

    path_add(&path, "/tasks/%s", task_id);
    int rc = cli_get(p->cli, &path, &task, e);
    if (rc < 0)
        return rc;
    const char *id = tree_text(task, "ID");
    int digits = snprintf(slot, sizeof(slot), "%lld", (long long)tree_int(task, "Slot"));
    struct buf text = {0};
    buf_printf(&text, "%s.%s", service, slot);
    if (!args_switch(p->args, "no-task-ids"))
        buf_printf(&text, ".%s", args_switch(p->args, "no-trunc") ? id : cli_short_id(id, cut));
    buf_printf(&text, "@%s%*s", node, MAX(p->digits - digits, 0), "");
    *ret = buf_steal(&text);
    return 0;
}

static int prefix(struct printer *p, const char *details, size_t length, const char **ret, struct err *e)
{
    AUTO_FREE
    char *node = attribute(details, length, "com.docker.swarm.node.id");
    AUTO_FREE
    char *service = attribute(details, length, "com.docker.swarm.service.id");
    AUTO_FREE
    char *task = attribute(details, length, "com.docker.swarm.task.id");

    if (!node || !service || !task)
        return err_set(e, ERR_CORRUPT, "missing %s id in details: %.*s",
                       !node      ? "node"
                       : !service ? "service"
                                  : "task",
                       (int)MIN(length, (size_t)200), details);
    struct source *source = map_get(&p->sources, task);
    if (!source) {
        char *text = NULL;
        int rc = make_prefix(p, task, service, node, &text, e);

        if (rc < 0)
            return rc;
        source = mem_alloc(sizeof(*source));
        source->id = steal(&task);
        source->prefix = text;
        map_put(&p->sources, source->id, source);
    }
    *ret = source->prefix;
    return 0;
}

/* "[time ]attributes text": the time and the attributes end at a blank. */
static int print_line(struct printer *p, int stream, const char *text, size_t length, struct err *e)
{
    bool timed = args_switch(p->args, "timestamps");
    const char *time_end = timed ? memchr(text, ' ', length) : text - 1;
    const char *details = time_end ? time_end + 1 : NULL;
    const char *details_end = details ? memchr(details, ' ', length - (size_t)(details - text)) : NULL;
    AUTO_BUF struct buf out = {0};
    const char *who = "";

    if (!details_end)
        return err_set(e, ERR_CORRUPT, "invalid context in log message: %.*s", (int)MIN(length, (size_t)200), text);
    int rc = prefix(p, details, (size_t)(details_end - details), &who, e);
    if (rc < 0)
        return rc;
    buf_append(&out, text, (size_t)(details - text));
    buf_printf(&out, "%s    | ", who);
    if (args_switch(p->args, "details"))
        put_details(&out, details, (size_t)(details_end - details));
    buf_append(&out, details_end + 1, length - (size_t)(details_end + 1 - text));
    return logs_print(NULL, stream, buf_bytes(&out), out.length, true, e);
}

static int on_frame(void *context, int stream, const char *data, size_t size, bool last, struct err *e)
{
    struct printer *p = context;
    struct buf *frame = &p->frames[stream];

    buf_append(frame, data, size);
    if (frame->length > LINE_MAX_BYTES)
        return err_set(e, ERR_LIMIT, "a line of the log is larger than %d bytes", LINE_MAX_BYTES);
    if (!last)
        return 0;
    int rc = print_line(p, stream, buf_bytes(frame), frame->length, e);
    buf_clear(frame);
    return rc;
}

/* --- the command ------------------------------------------------------------------------------------------------
 */

static int digits_of(int64_t number)
{
    int digits = 1;

    while ((number /= 10) > 0)
        digits++;
    return digits;
}

/* What the word names: a service, or else a task. */
static int find_target(struct cli *cli, const char *name, struct buf *path, bool *ret_tty, int *ret_digits,
                       struct err *e)
{
    AUTO_JSON json_t *service = NULL;
    AUTO_JSON json_t *task = NULL;
    AUTO_BUF struct buf inspect = {0};
    int rc = service_get(cli, name, false, &service, e);

    if (rc == 0) {
        path_add(path, "/services/%s/logs", name);
        *ret_tty = tree_bool(service, "Spec.TaskTemplate.ContainerSpec.TTY");
        *ret_digits = digits_of(tree_int(service, "Spec.Mode.Replicated.Replicas"));
        return 0;
    }
    if (rc != ERR_NOT_FOUND)
        return rc;
    path_add(&inspect, "/tasks/%s", name);
    rc = cli_get(cli, &inspect, &task, e);
    if (rc == ERR_NOT_FOUND)
        return err_set(e, rc, "no such task or service: %s", name);
    path_add(path, "/tasks/%s/logs", name);
    *ret_tty = tree_bool(task, "Spec.ContainerSpec.TTY");
    *ret_digits = digits_of(tree_int(task, "Slot"));
    return rc;
}

static int add_query(const struct args *args, struct buf *path, struct err *e)
{
    char moment[40];

    if (args_switch(args, "details") || !args_switch(args, "raw"))
        path_query(path, "details", "1");
    if (args_switch(args, "follow"))
        path_query(path, "follow", "1");
    if (*args_text(args, "since")) {
        int rc = cli_moment(args_text(args, "since"), "since", moment, e);

        if (rc < 0)
            return rc;
        path_query(path, "since", moment);
    }
    path_query(path, "stderr", "1");
    path_query(path, "stdout", "1");
    path_query(path, "tail", args_text(args, "tail"));
    if (args_switch(args, "timestamps"))
        path_query(path, "timestamps", "1");
    return 0;
}

static void printer_fini(struct printer *p)
{
    struct source *source;
    size_t at = 0;

    while ((source = map_next(&p->sources, &at))) {
        free(source->id);
        free(source->prefix);
        free(source);
    }
    map_fini(&p->sources);
    resolver_fini(&p->resolver);
    for (size_t i = 0; i < ARRAY_SIZE(p->frames); i++)
        buf_fini(&p->frames[i]);
}

static int run_logs(struct cli *cli, const struct args *args, struct err *e)
{
    struct printer p = {.cli = cli, .args = args, .digits = 1};
    AUTO_BUF struct buf path = {0};
    struct call *call = NULL;
    bool tty = false, raw = args_switch(args, "raw");
    int rc = find_target(cli, args->words[0], &path, &tty, &p.digits, e);

    if (rc == 0 && tty && !raw)
        rc = err_set(e, ERR_INVALID, "tty service logs only supported with --raw");
    if (rc == 0)
        rc = add_query(args, &path, e);
    if (rc < 0)
        return rc;
    const struct client_request request = {.method = "GET", .path = buf_str(&path)};
    rc = cli_call(cli, &request, &call, e);
    resolver_init(&p.resolver, cli, args_switch(args, "no-resolve"));
    if (rc == 0 && tty)
        rc = logs_copy(call, e);
    else if (rc == 0)
        rc = logs_split(call, raw ? logs_print : on_frame, &p, e);
    call_end(call);
    printer_fini(&p);
    return rc;
}

const struct command service_logs = {.name = "logs",
                                     .usage = "[OPTIONS] SERVICE|TASK",
                                     .summary = "Show the output of a service or task",
                                     .options = {logs_options},
                                     .words_min = 1,
                                     .words_max = 1,
                                     .run = run_logs};
