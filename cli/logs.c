/* See logs.h; and `shoal logs`. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/logs.h"
#include "cli/tree.h"
#include "proto/base/mem.h"

#define HEADER         sizeof(((struct logs_splitter *)0)->header)
#define ERROR_TEXT_MAX 4096

static int payload(struct logs_splitter *s, const char *data, size_t size, logs_sink sink, void *context,
                   struct err *e)
{
    bool last = size == s->left;
    int stream = s->header[0] == 0 ? 1 : s->header[0];

    s->left -= (uint32_t)size;
    if (last)
        s->header_size = 0;
    if (stream != 3)
        return sink(context, stream, data, size, last, e);
    if (s->error.length < ERROR_TEXT_MAX)
        buf_append(&s->error, data, size);
    return last ? err_set(e, ERR_INTERNAL, "error from daemon in stream: %s", buf_str(&s->error)) : 0;
}

static int take(struct logs_splitter *s, const char *data, size_t size, logs_sink sink, void *context,
                struct err *e)
{
    while (size) {
        size_t used;
        int rc = 0;

        if (s->header_size < HEADER) {
            used = MIN(size, HEADER - s->header_size);
            memcpy(s->header + s->header_size, data, used);
            s->header_size += used;
            if (s->header_size == HEADER) {
                if (s->header[0] > 3)
                    return err_set(e, ERR_CORRUPT, "Unrecognized input header: %d", s->header[0]);
                s->left = (uint32_t)s->header[4] << 24 | (uint32_t)s->header[5] << 16 |
                          (uint32_t)s->header[6] << 8 | s->header[7];
                if (s->left == 0)
                    s->header_size = 0; /* an empty frame */
            }
        } else {
            used = MIN(size, (size_t)s->left);
            rc = payload(s, data, used, sink, context, e);
        }
        if (rc < 0)
            return rc;
        data += used;
        size -= used;
    }
    return 0;
}

int logs_split_more(struct logs_splitter *s, struct call *call, logs_sink sink, void *context, struct err *e)
{
    char data[32768];
    ssize_t got;
    int rc = 0;

    while (rc == 0 && (got = call_read(call, data, sizeof(data), e)) != 0)
        rc = got < 0 ? (int)got : take(s, data, (size_t)got, sink, context, e);
    return rc;
}

void logs_splitter_fini(struct logs_splitter *s)
{
    buf_fini(&s->error);
}

int logs_split(struct call *call, logs_sink sink, void *context, struct err *e)
{
    struct logs_splitter s = {0};
    int rc = logs_split_more(&s, call, sink, context, e);

    logs_splitter_fini(&s);
    return rc;
}

int logs_copy(struct call *call, struct err *e)
{
    char data[32768];
    ssize_t got;

    while ((got = call_read(call, data, sizeof(data), e)) > 0) {
        (void)fwrite(data, 1, (size_t)got, stdout); /* a failure is noticed at the end */
        (void)fflush(stdout);
    }
    return (int)got;
}

int logs_print(void *context, int stream, const char *data, size_t size, bool last, struct err *e)
{
    FILE *to = stream == 2 ? stderr : stdout;

    if (fwrite(data, 1, size, to) != size || fflush(to) != 0)
        return err_errno(e, "write output");
    return 0;
}

/* --- shoal logs -------------------------------------------------------------------------------------------------
 */

static const struct option logs_options[] = {
    {.name = "details", .type = &option_switch, .help = "With the attributes that the log driver added"},
    {.name = "follow", .letter = 'f', .type = &option_switch, .help = "Go on with what comes"},
    {.name = "since", .type = &option_string, .help = "From a moment on: 2026-01-02T13:23:37Z, or 42m ago"},
    {.name = "tail",
     .letter = 'n',
     .type = &option_string,
     .standard = "all",
     .help = "The last lines only: a number"},
    {.name = "timestamps", .letter = 't', .type = &option_switch, .help = "With the time before each line"},
    {.name = "until", .type = &option_string, .help = "Up to a moment: 2026-01-02T13:23:37Z, or 42m ago"},
    {0}};

static int log_path(const struct args *args, const char *id, struct buf *path, struct err *e)
{
    static const char *const moments[] = {"since", "until"}, *const switches[] = {"details", "follow",
                                                                                  "timestamps"};
    char moment[40];

    path_add(path, "/containers/%s/logs", id);
    for (size_t i = 0; i < ARRAY_SIZE(switches); i++)
        if (args_switch(args, switches[i]))
            path_query(path, switches[i], "1");
    for (size_t i = 0; i < ARRAY_SIZE(moments); i++) {
        int rc = 0;

        if (*args_text(args, moments[i]))
            rc = cli_moment(args_text(args, moments[i]), moments[i], moment, e);
        if (rc < 0)
            return rc;
        if (*args_text(args, moments[i]))
            path_query(path, moments[i], moment);
    }
    path_query(path, "stderr", "1");
    path_query(path, "stdout", "1");
    path_query(path, "tail", args_text(args, "tail"));
    return 0;
}

static int run_logs(struct cli *cli, const struct args *args, struct err *e)
{
    const char *name = args->words[0] + (*args->words[0] == '/');
    AUTO_BUF struct buf inspect = {0};
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *container = NULL;
    struct call *call = NULL;

    path_add(&inspect, "/containers/%s/json", name);
    int rc = cli_get(cli, &inspect, &container, e);
    if (rc == 0)
        rc = log_path(args, tree_text(container, "Id"), &path, e);
    if (rc == 0) {
        const struct client_request request = {.method = "GET", .path = buf_str(&path)};

        rc = cli_call(cli, &request, &call, e);
    }
    if (rc == 0)
        rc = tree_bool(container, "Config.Tty") ? logs_copy(call, e) : logs_split(call, logs_print, NULL, e);
    call_end(call);
    return rc;
}

const struct command command_logs = {.name = "logs",
                                     .usage = "[OPTIONS] CONTAINER",
                                     .summary = "Show the output of a container",
                                     .also = "shoal container logs, shoal logs",
                                     .options = {logs_options},
                                     .words_min = 1,
                                     .words_max = 1,
                                     .run = run_logs};
