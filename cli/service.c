/* Services: `shoal service create, ps, rm, scale, update` and the group. Listing, inspecting and logs have their
 * own files, and so have the specs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/inspect.h"
#include "cli/node.h"
#include "cli/service.h"
#include "cli/task.h"
#include "cli/value.h"
#include "proto/base/mem.h"

int service_get(struct cli *cli, const char *name, bool defaults, json_t **ret, struct err *e)
{
    AUTO_BUF struct buf path = {0};

    if (!*name)
        return err_set(e, ERR_INVALID, "invalid service name or ID: value is empty");
    path_add(&path, "/services/%s", name);
    path_query(&path, "insertDefaults", defaults ? "true" : "false");
    int rc = cli_get(cli, &path, ret, e);
    if (rc == 0 && !json_is_object(*ret)) {
        json_decref(*ret);
        *ret = NULL;
        return err_set(e, ERR_CORRUPT, "the daemon's answer to GET %s is no object", buf_str(&path));
    }
    return rc;
}

/* Send a spec; warnings go to stderr. `auth` may be NULL. */
static int send_spec(struct cli *cli, struct buf *path, const json_t *spec, const char *auth, const char *warning,
                     json_t **ret, struct err *e)
{
    AUTO_BUF struct buf body = {0};
    AUTO_BUF struct buf answer = {0};
    struct jwrite j = JWRITE_TO(&body);
    struct client *client;
    json_t *warnings, *text;
    size_t i;

    tree_write(&j, NULL, spec);
    const struct client_request request = {.method = "POST",
                                           .path = buf_str(path),
                                           .registry_auth = auth,
                                           .body = buf_bytes(&body),
                                           .body_size = body.length};
    int rc = cli_client(cli, &client, e);
    if (rc == 0)
        rc = client_do(client, &request, &answer, e);
    if (rc == 0)
        rc = jread_parse(buf_str(&answer), answer.length, ret, e);
    if (rc < 0)
        return rc;
    warnings = tree_get(*ret, "Warnings");
    json_array_foreach(warnings, i, text)
    {
        fprintf(stderr, "%s\n", json_is_string(text) ? json_string_value(text) : "");
    }
    if (*warning)
        fprintf(stderr, "%s\n", warning);
    return 0;
}

/* --- create -----------------------------------------------------------------------------------------------------
 */

static int run_create(struct cli *cli, const struct args *args, struct err *e)
{
    AUTO_JSON json_t *spec = NULL;
    AUTO_JSON json_t *answer = NULL;
    AUTO_BUF struct buf path = {0};
    AUTO_BUF struct buf warning = {0};
    AUTO_FREE
    char *auth = args_switch(args, "with-registry-auth") ? cli_registry_auth(cli, args->words[0]) : NULL;
    int rc = service_spec(cli, args, &spec, e);

    if (rc < 0)
        return rc;
    service_resolve_image(cli, spec, !args_switch(args, "no-resolve-image"), auth, &warning);
    path_add(&path, "/services/create");
    rc = send_spec(cli, &path, spec, auth, buf_str(&warning), &answer, e);
    if (rc < 0)
        return rc;
    printf("%s\n", tree_text(answer, "ID"));
    if (args_switch(args, "detach"))
        return 0;
    return service_converge(cli, tree_text(answer, "ID"), args_switch(args, "quiet"), e);
}

/* --- update -----------------------------------------------------------------------------------------------------
 */

/* `auth_from` says whose credentials count when none are sent: "spec", or "" for the node's choice. */
static int send_update(struct cli *cli, const json_t *service, const char *auth, const char *auth_from,
                       bool rollback, const char *warning, struct err *e)
{
    AUTO_JSON json_t *answer = NULL;
    AUTO_BUF struct buf path = {0};
    json_t *spec = tree_get(service, "Spec");
    char version[24];

    if (tree_get(spec, "TaskTemplate.ContainerSpec"))
        service_resolve_image(cli, spec, false, NULL, NULL);
    (void)snprintf(version, sizeof(version), "%lld", (long long)tree_int(service, "Version.Index"));
    path_add(&path, "/services/%s/update", tree_text(service, "ID"));
    if (!auth && *auth_from)
        path_query(&path, "registryAuthFrom", auth_from);
    if (rollback)
        path_query(&path, "rollback", "previous");
    path_query(&path, "version", version);
    return send_spec(cli, &path, spec, auth, warning, &answer, e);
}

/* --rollback goes with nothing but how to watch it. */
static bool other_options(const struct args *args)
{
    static const char *const fine[] = {"rollback", "detach", "quiet"};

    for (size_t i = 0; i < args->given_count; i++) {
        const char *name = args->given[i].option->name;
        bool allowed = false;

        for (size_t k = 0; k < ARRAY_SIZE(fine); k++)
            allowed = allowed || strcmp(name, fine[k]) == 0;
        if (!allowed)
            return true;
    }
    return false;
}

static int run_update(struct cli *cli, const struct args *args, struct err *e)
{
    AUTO_JSON json_t *service = NULL;
    AUTO_BUF struct buf warning = {0};
    AUTO_FREE
    char *auth = NULL;
    bool rollback = args_switch(args, "rollback");
    int rc = service_get(cli, args->words[0], false, &service, e);

    if (rc < 0)
        return rc;
    if (rollback && other_options(args))
        return err_set(e, ERR_INVALID, "other flags may not be combined with --rollback");
    json_t *spec = tree_object(service, "Spec");
    rc = service_update_spec(cli, args, spec, e);
    if (rc < 0)
        return rc;
    if (args_switch(args, "with-registry-auth"))
        auth = cli_registry_auth(cli, tree_text(spec, "TaskTemplate.ContainerSpec.Image"));
    if (args_has(args, "image"))
        service_resolve_image(cli, spec, !args_switch(args, "no-resolve-image"), auth, &warning);
    rc = send_update(cli, service, auth, "spec", rollback, buf_str(&warning), e);
    if (rc < 0)
        return rc;
    printf("%s\n", args->words[0]);
    return args_switch(args, "detach") ? 0 : service_converge(cli, args->words[0], args_switch(args, "quiet"), e);
}

/* --- rollback ---------------------------------------------------------------------------------------------------
 */

static const struct option rollback_options[] = {
    {.name = "detach",
     .letter = 'd',
     .type = &option_switch,
     .help = "Do not wait until the service has converged"},
    {.name = "quiet", .letter = 'q', .type = &option_switch, .help = "Wait without showing progress"},
    {0}};

static int run_rollback(struct cli *cli, const struct args *args, struct err *e)
{
    const char *name = args->words[0];
    AUTO_JSON json_t *service = NULL;
    int rc = service_get(cli, name, false, &service, e);

    if (rc == 0)
        rc = send_update(cli, service, NULL, "", true, "", e);
    if (rc < 0)
        return rc;
    printf("%s\n", name);
    return args_switch(args, "detach") ? 0 : service_converge(cli, name, args_switch(args, "quiet"), e);
}

/* --- scale ------------------------------------------------------------------------------------------------------
 */

static const struct option scale_options[] = {{.name = "detach",
                                               .letter = 'd',
                                               .type = &option_switch,
                                               .help = "Do not wait until the services have converged"},
                                              {0}};

static int scale_one(struct cli *cli, const char *name, const char *count_text, struct err *e)
{
    AUTO_JSON json_t *service = NULL;
    uint64_t count;
    struct err why = {0};

    if (value_uint(count_text, 10, 63, &count, &why) < 0)
        return err_set(e, ERR_INVALID, "%s: invalid replicas value %s: %s", name, count_text, why.text);
    int rc = service_get(cli, name, false, &service, e);
    if (rc == 0 && tree_get(service, "Spec.Mode.Replicated"))
        tree_put_int(tree_object(service, "Spec.Mode.Replicated"), "Replicas", (int64_t)count);
    else if (rc == 0 && tree_get(service, "Spec.Mode.ReplicatedJob"))
        tree_put_int(tree_object(service, "Spec.Mode.ReplicatedJob"), "TotalCompletions", (int64_t)count);
    else if (rc == 0)
        rc = err_set(e, ERR_INVALID, "scale can only be used with replicated or replicated-job mode");
    if (rc == 0)
        rc = send_update(cli, service, NULL, "", false, "", e);
    if (rc < 0)
        return err_wrap(e, "%s", name);
    printf("%s scaled to %llu\n", name, (unsigned long long)count);
    return 0;
}

static int run_scale(struct cli *cli, const struct args *args, struct err *e)
{
    AUTO_ARENA struct arena a;
    AUTO_BUF struct buf complaints = {0};
    const char **names;
    size_t done = 0;

    arena_init(&a);
    names = arena_array(&a, args->words_count, sizeof(*names));
    for (size_t i = 0; i < args->words_count; i++) {
        const char *name, *count = value_cut(&a, args->words[i], '=', &name);

        if (!count || !*count || !*name)
            return err_set(e, ERR_INVALID, "invalid scale specifier '%s': use SERVICE=REPLICAS", args->words[i]);
    }
    for (size_t i = 0; i < args->words_count; i++) {
        const char *name, *count = value_cut(&a, args->words[i], '=', &name);
        struct err why = {0};

        if (scale_one(cli, name, count, &why) < 0)
            buf_printf(&complaints, "%s\n", why.text);
        else
            names[done++] = name;
    }
    for (size_t i = 0; i < done && !args_switch(args, "detach"); i++) {
        struct err why = {0};

        if (service_converge(cli, names[i], false, &why) < 0) {
            buf_printf(&complaints, "%s: %s\n", names[i], why.text);
        }
    }
    if (complaints.length) { /* after the progress, which would hide them */
        (void)fflush(stdout);
        (void)fputs(buf_str(&complaints), stderr);
        cli->failed = true;
    }
    return 0;
}

/* --- rm ---------------------------------------------------------------------------------------------------------
 */

static int run_rm(struct cli *cli, const struct args *args, struct err *e)
{
    for (size_t i = 0; i < args->words_count; i++) {
        AUTO_BUF struct buf path = {0};
        struct err why = {0};

        path_add(&path, "/services/%s", args->words[i]);
        if (cli_delete(cli, &path, NULL, &why) < 0)
            cli_complain(cli, &why);
        else
            printf("%s\n", args->words[i]);
    }
    return 0;
}

/* --- ps ---------------------------------------------------------------------------------------------------------
 */

static const struct option ps_options[] = {
    {.name = "filter",
     .letter = 'f',
     .type = &option_filter,
     .help = "Only those that match: desired-state=running, ..."},
    {.name = "format", .type = &option_string, .help = FORMAT_HELP},
    {.name = "no-resolve", .type = &option_switch, .help = "Ids of services and nodes instead of names"},
    {.name = "no-trunc", .type = &option_switch, .help = "Ids and messages in full"},
    {.name = "quiet", .letter = 'q', .type = &option_switch, .help = "Only ids of tasks"},
    {0}};

static int list_by(struct cli *cli, const struct args *args, const char *key, json_t **ret, struct err *e)
{
    AUTO_JSON json_t *filters = json_object();
    AUTO_BUF struct buf path = {0};

    for (size_t i = 0; i < args->words_count; i++)
        cli_filter_add(filters, key, args->words[i]);
    path_add(&path, "/services");
    cli_filter_query(&path, filters);
    return cli_get(cli, &path, ret, e);
}

/* The id of the service that a word names: a whole id, else a name, else the beginning of one id. "" when none. */
static int match(const char *word, const json_t *by_id, const json_t *by_name, const char **ret, struct err *e)
{
    json_t *service;
    size_t i;

    *ret = "";
    json_array_foreach(by_id, i, service)
    {
        if (strcmp(tree_text(service, "ID"), word) == 0) {
            *ret = word;
            return 0;
        }
    }
    json_array_foreach(by_name, i, service)
    {
        if (strcmp(tree_text(service, "Spec.Name"), word) == 0) {
            *ret = tree_text(service, "ID");
            return 0;
        }
    }
    json_array_foreach(by_id, i, service)
    {
        if (strncmp(tree_text(service, "ID"), word, strlen(word)) != 0)
            continue;
        if (**ret)
            return err_set(e, ERR_INVALID, "multiple services found with provided prefix: %s", word);
        *ret = tree_text(service, "ID");
    }
    return 0;
}

static int service_filter(struct cli *cli, const struct args *args, json_t *filters, struct buf *missing,
                          struct err *e)
{
    AUTO_JSON json_t *by_id = NULL;
    AUTO_JSON json_t *by_name = NULL;
    int rc = list_by(cli, args, "id", &by_id, e);

    if (rc == 0)
        rc = list_by(cli, args, "name", &by_name, e);
    for (size_t i = 0; rc == 0 && i < args->words_count; i++) {
        const char *id;

        rc = match(args->words[i], by_id, by_name, &id, e);
        if (rc == 0 && *id)
            cli_filter_add(filters, "service", id);
        else if (rc == 0)
            buf_printf(missing, "no such service: %s\n", args->words[i]);
    }
    return rc;
}

static int run_ps(struct cli *cli, const struct args *args, struct err *e)
{
    bool quiet = args_switch(args, "quiet");
    const char *format = args_text(args, "format");
    AUTO_JSON json_t *filters = cli_filters(args);
    AUTO_JSON json_t *tasks = NULL;
    AUTO_BUF struct buf missing = {0};
    AUTO_BUF struct buf path = {0};
    struct resolver resolver;
    int rc = service_filter(cli, args, filters, &missing, e);

    if (!*format && !quiet)
        format = cli_config(cli, "tasksFormat");
    if (rc == 0)
        rc = node_filter_names(cli, filters, e);
    if (rc == 0 && json_object_get(filters, "service")) {
        path_add(&path, "/tasks");
        cli_filter_query(&path, filters);
        rc = cli_get(cli, &path, &tasks, e);
        resolver_init(&resolver, cli, args_switch(args, "no-resolve"));
        if (rc == 0)
            rc = task_print(tasks, &resolver,
                            (struct task_view){format, quiet, !quiet && !args_switch(args, "no-trunc")}, e);
        resolver_fini(&resolver);
    }
    if (missing.length) {
        (void)fflush(stdout);
        (void)fputs(buf_str(&missing), stderr);
        cli->failed = true;
    }
    return rc;
}

/* --- tables -----------------------------------------------------------------------------------------------------
 */

static const struct command create = {.name = "create",
                                      .usage = "[OPTIONS] IMAGE [COMMAND] [ARG...]",
                                      .summary = "Make a new service",
                                      .options = {service_create_options, service_common_options},
                                      .words_min = 1,
                                      .words_max = -1,
                                      .stops_at_word = true,
                                      .run = run_create};
static const struct command ps = {.name = "ps",
                                  .usage = "[OPTIONS] SERVICE [SERVICE...]",
                                  .summary = "List the tasks of services",
                                  .options = {ps_options},
                                  .words_min = 1,
                                  .words_max = -1,
                                  .run = run_ps};
static const struct command rm = {.name = "rm",
                                  .alias = {"remove"},
                                  .usage = "SERVICE [SERVICE...]",
                                  .summary = "Remove services",
                                  .words_min = 1,
                                  .words_max = -1,
                                  .run = run_rm};
static const struct command rollback = {.name = "rollback",
                                        .usage = "[OPTIONS] SERVICE",
                                        .summary = "Go back to a service's specification before this one",
                                        .options = {rollback_options},
                                        .words_min = 1,
                                        .words_max = 1,
                                        .run = run_rollback};
static const struct command scale = {.name = "scale",
                                     .usage = "SERVICE=REPLICAS [SERVICE=REPLICAS...]",
                                     .summary = "Change the number of tasks of services",
                                     .options = {scale_options},
                                     .words_min = 1,
                                     .words_max = -1,
                                     .run = run_scale};
static const struct command update = {.name = "update",
                                      .usage = "[OPTIONS] SERVICE",
                                      .summary = "Change a service",
                                      .options = {service_update_options, service_common_options},
                                      .words_min = 1,
                                      .words_max = 1,
                                      .run = run_update};

static const struct command *const children[] = {&create, &service_inspect, &service_logs, &service_ls, &ps,
                                                 &rm,     &rollback,        &scale,        &update,     NULL};

const struct command command_service = {.name = "service",
                                        .summary = "Manage services",
                                        .words_max = -1,
                                        .section = SECTION_SWARM,
                                        .children = children};
