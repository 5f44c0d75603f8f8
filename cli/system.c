/* The node itself: `shoal version`, `events`, `inspect` of anything, and the group `shoal system`. Info is in
 * info.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "cli/command.h"
#include "cli/inspect.h"
#include "cli/system.h"
#include "cli/table.h"
#include "cli/template.h"
#include "cli/tree.h"
#include "proto/base/mem.h"
#include "proto/base/timefmt.h"

/* --- version ----------------------------------------------------------------------------------------------------
 */

/* The processor as Go names it, which is how the API speaks of it. */
static const char *architecture(const char *machine)
{
    static const struct {
        const char *kernel, *go;
    } names[] = {{"x86_64", "amd64"}, {"aarch64", "arm64"}, {"i686", "386"}, {"armv7l", "arm"}};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(machine, names[i].kernel) == 0)
            return names[i].go;
    return machine;
}

json_t *system_client_version(struct cli *cli, bool ask)
{
    json_t *v = json_object();
    struct client *client;
    struct utsname name = {0};
    const char *api = "";

    (void)uname(&name); /* an empty name is shown as such */
    tree_put_text(v, "Version", SHOAL_VERSION);
    if (ask && (cli_client(cli, &client, NULL) < 0 || client_version(client, &api, NULL) < 0))
        api = CLIENT_API_VERSION;
    if (ask)
        tree_put_text(v, "ApiVersion", api);
    tree_put_text(v, "DefaultAPIVersion", CLIENT_API_VERSION);
    tree_put_text(v, "Os", "linux");
    tree_put_text(v, "Arch", architecture(name.machine));
    tree_put_text(v, "Context", "default");
    return v;
}

/* "2026-11-24T06:14:00Z" as "Tue Nov 24 06:14:00 2026"; other texts stay. */
static void build_time(struct buf *out, const char *text)
{
    char shown[64];
    int64_t ns;
    struct tm tm;

    if (!time_parse_ns(text, &ns)) {
        buf_append_str(out, text);
        return;
    }
    time_t moment = (time_t)(ns / 1000000000);
    if (gmtime_r(&moment, &tm) && strftime(shown, sizeof(shown), "%a %b %e %H:%M:%S %Y", &tm))
        buf_append_str(out, shown);
}

static void line(struct buf *out, const char *indent, const char *name, const char *value)
{
    if (*value)
        buf_printf(out, "%s%s:\t%s\n", indent, name, value);
}

static void show_engine(struct buf *out, const json_t *details, const char *version)
{
    AUTO_BUF struct buf built = {0};

    build_time(&built, tree_text(details, "BuildTime"));
    buf_printf(out, "  Version:\t%s\n  API version:\t%s (minimum version %s)\n", version,
               tree_text(details, "ApiVersion"), tree_text(details, "MinAPIVersion"));
    line(out, "  ", "Go version", tree_text(details, "GoVersion"));
    line(out, "  ", "Git commit", tree_text(details, "GitCommit"));
    line(out, "  ", "Built", buf_str(&built));
    buf_printf(out, "  OS/Arch:\t%s/%s\n  Experimental:\t%s\n", tree_text(details, "Os"),
               tree_text(details, "Arch"),
               *tree_text(details, "Experimental") ? tree_text(details, "Experimental") : "false");
}

static void show_detail(void *context, const char *name, json_t *value)
{
    buf_printf(context, "  %s:\t%s\n", name, json_is_string(value) ? json_string_value(value) : "");
}

/* Engines before components existed tell about themselves at the top level. */
static void add_engine(json_t *server)
{
    static const char *const members[] = {"ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion",
                                          "Os",         "Arch",          "BuildTime"};
    json_t *components = tree_array(server, "Components"), *component, *engine;
    size_t i;

    json_array_foreach(components, i, component)
    {
        if (strcmp(tree_text(component, "Name"), "Engine") == 0)
            return;
    }
    engine = json_object();
    tree_put_text(engine, "Name", "Engine");
    tree_put_text(engine, "Version", tree_text(server, "Version"));
    for (i = 0; i < ARRAY_SIZE(members); i++)
        tree_put_text(tree_object(engine, "Details"), members[i], tree_text(server, members[i]));
    tree_append(components, engine);
}

static void show_version(struct buf *out, const json_t *client, const json_t *server)
{
    const char *api = tree_text(client, "ApiVersion"), *newest = tree_text(client, "DefaultAPIVersion"),
               *platform = tree_text(server, "Platform.Name");
    json_t *components = tree_get(server, "Components"), *component;
    size_t i;

    buf_printf(out, "Client:\n Version:\t%s\n API version:\t%s", tree_text(client, "Version"), api);
    if (strcmp(api, newest) != 0)
        buf_printf(out, " (downgraded from %s)", newest);
    buf_printf(out, "\n OS/Arch:\t%s/%s\n Context:\t%s\n", tree_text(client, "Os"), tree_text(client, "Arch"),
               tree_text(client, "Context"));
    if (!server)
        return;
    buf_printf(out, "\nServer:%s%s\n", *platform ? " " : "", platform);
    json_array_foreach(components, i, component)
    {
        const char *name = tree_text(component, "Name"), *version = tree_text(component, "Version");

        buf_printf(out, " %s:\n", name);
        if (strcmp(name, "Engine") == 0) {
            show_engine(out, tree_get(component, "Details"), version);
            continue;
        }
        buf_printf(out, "  Version:\t%s\n", version);
        tree_sorted(tree_get(component, "Details"), show_detail, out);
    }
}

static const struct option version_options[] = {
    {.name = "format", .letter = 'f', .type = &option_string, .help = FORMAT_HELP_INSPECT}, {0}};

static int run_version(struct cli *cli, const struct args *args, struct err *e)
{
    static const struct table_shape shape = {.width_min = 20, .padding = 1};
    const char *format = args_text(args, "format");
    AUTO_BUF struct buf path = {0};
    AUTO_BUF struct buf text = {0};
    AUTO_BUF struct buf out = {0};
    AUTO_JSON json_t *both = json_object();
    json_t *server = NULL;
    struct template *t = NULL;
    struct err why = {0};

    int rc = *format ? template_parse(strcmp(format, "json") == 0 ? "{{json .}}" : format, &t, e) : 0;
    if (rc < 0)
        return cli_status(cli, 64, err_wrap(e, "template parsing error"));
    path_add(&path, "/version");
    json_t *client = system_client_version(cli, true);
    int asked = cli_get(cli, &path, &server, &why);
    if (asked == 0 && json_is_object(server))
        add_engine(server);
    tree_put(both, "Client", client);
    tree_put(both, "Server", server ? server : json_null());
    if (t) {
        const struct template_data data = {.json = both, .zero = inspect_zero};

        rc = template_run(t, &data, &text, &why);
        buf_append_char(&text, '\n');
    } else {
        show_version(&text, client, asked == 0 ? server : NULL);
    }
    template_free(t);
    table_layout(&out, buf_str(&text), text.length, shape);
    cli_print(&out);
    if (asked < 0 || rc < 0)
        cli_complain(cli, &why);
    return 0;
}

/* --- events -----------------------------------------------------------------------------------------------------
 */

#define EVENT_MAX (1024 * 1024) /* bytes of one event */

static const struct option events_options[] = {
    {.name = "filter", .letter = 'f', .type = &option_filter, .help = "Only those that match: type=container, ..."},
    {.name = "format", .type = &option_string, .help = FORMAT_HELP_INSPECT},
    {.name = "since", .type = &option_string, .help = "From a moment on, also in the past"},
    {.name = "until", .type = &option_string, .help = "Up to a moment, then end"},
    {0}};

struct attributes {
    struct buf *out;
    bool any;
};

static void show_attribute(void *context, const char *name, json_t *value)
{
    struct attributes *a = context;

    buf_printf(a->out, "%s%s=%s", a->any ? ", " : "(", name, json_is_string(value) ? json_string_value(value) : "");
    a->any = true;
}

static void show_event_time(struct buf *out, const json_t *event)
{
    int64_t nanos = tree_int(event, "timeNano");
    time_t seconds = (time_t)(nanos ? nanos / 1000000000 : tree_int(event, "time"));
    char text[64], zone[8];
    struct tm tm;

    if (!seconds || !localtime_r(&seconds, &tm))
        return;
    (void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    (void)strftime(zone, sizeof(zone), "%z", &tm);
    buf_printf(out, "%s.%09lld", text, (long long)(nanos % 1000000000));
    if (tm.tm_gmtoff == 0)
        buf_append_str(out, "Z ");
    else
        buf_printf(out, "%.3s:%s ", zone, zone + 3);
}

/* What members of an event that are missing stand for. */
static char event_zero(const char *of, const char *member)
{
    static const char *const texts[] = {"Status", "ID", "From", "Type", "Action", "Scope"};

    if (strcmp(of, "Attributes") == 0)
        return '-';
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (strcmp(member, texts[i]) == 0)
            return '"';
    if (strcmp(member, "Time") == 0 || strcmp(member, "TimeNano") == 0)
        return '0';
    return strcmp(member, "Actor") == 0 || strcmp(member, "Attributes") == 0 ? '{' : 0;
}

/* The template of --format, tried on an event of nothing: a wrong one fails before the first event. */
static int event_template(const char *format, struct template **ret, struct err *e)
{
    AUTO_JSON json_t *nothing = json_object();
    const struct template_data data = {.json = nothing, .zero = event_zero};
    AUTO_BUF struct buf out = {0};

    if (!*format)
        return 0;
    int rc = template_parse(strcmp(format, "json") == 0 ? "{{json .}}" : format, ret, e);
    if (rc == 0)
        rc = template_run(*ret, &data, &out, e);
    return rc < 0 ? err_wrap(e, "Error parsing format") : 0;
}

static int show_event(const char *text, size_t length, const struct template *t, struct err *e)
{
    AUTO_BUF struct buf out = {0};
    AUTO_JSON json_t *event = NULL;
    struct attributes attributes = {.out = &out};
    int rc = jread_parse(text, length, &event, e);

    if (rc < 0)
        return rc;
    if (t) {
        const struct template_data data = {.json = event, .zero = event_zero};

        rc = template_run(t, &data, &out, e);
    } else {
        show_event_time(&out, event);
        buf_printf(&out, "%s %s %s", tree_text(event, "Type"), tree_text(event, "Action"),
                   tree_text(event, "Actor.ID"));
        if (json_object_size(tree_get(event, "Actor.Attributes"))) {
            buf_append_char(&out, ' ');
            tree_sorted(tree_get(event, "Actor.Attributes"), show_attribute, &attributes);
            buf_append_char(&out, ')');
        }
    }
    buf_append_char(&out, '\n');
    cli_print(&out);
    (void)fflush(stdout);
    return rc;
}

static int show_events(struct call *call, const struct template *t, struct err *e)
{
    AUTO_BUF struct buf in = {0};
    const char *newline;
    ssize_t got;

    while ((got = call_read(call, buf_reserve(&in, 16384), 16384, e)) > 0) {
        buf_added(&in, (size_t)got);
        while ((newline = memchr(buf_bytes(&in), '\n', in.length))) {
            size_t length = (size_t)(newline - buf_bytes(&in));
            int rc = length > strspn(buf_bytes(&in), " \t\r") ? show_event(buf_bytes(&in), length, t, e) : 0;

            if (rc < 0)
                return rc;
            buf_consume(&in, length + 1);
        }
        if (in.length > EVENT_MAX)
            return err_set(e, ERR_LIMIT, "an event is larger than %d bytes", EVENT_MAX);
    }
    return (int)got;
}

static int run_events(struct cli *cli, const struct args *args, struct err *e)
{
    static const char *const moments[] = {"since", "until"};
    AUTO_JSON json_t *filters = cli_filters(args);
    AUTO_BUF struct buf path = {0};
    struct template *t = NULL;
    struct call *call = NULL;
    char moment[40];
    int rc = event_template(args_text(args, "format"), &t, e);

    if (rc < 0) {
        template_free(t);
        return cli_status(cli, 64, rc);
    }
    path_add(&path, "/events");
    cli_filter_query(&path, filters);
    for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(moments); i++) {
        if (!*args_text(args, moments[i]))
            continue;
        rc = cli_moment(args_text(args, moments[i]), NULL, moment, e);
        if (rc == 0)
            path_query(&path, moments[i], moment);
    }
    if (rc == 0) {
        const struct client_request request = {.method = "GET", .path = buf_str(&path)};

        rc = cli_call(cli, &request, &call, e);
    }
    if (rc == 0)
        rc = show_events(call, t, e);
    call_end(call);
    template_free(t);
    return rc;
}

/* --- inspect ----------------------------------------------------------------------------------------------------
 */

static const struct object_type {
    const char *name;
    const char *before, *after; /* of the name in the path */
    bool swarm;                 /* only managers know it */
    bool sized;                 /* --size means something */
} object_types[] = {
    {"container", "/containers/", "/json", false, true},
    {"image", "/images/", "/json", false, false},
    {"network", "/networks/", "", false, false},
    {"volume", "/volumes/", "", false, false},
    {"service", "/services/", "?insertDefaults=true", true, false},
    {"task", "/tasks/", "", true, false},
    {"node", "/nodes/", "", true, false},
};

struct inspection {
    const struct args *args;
    int manager; /* this node knows the swarm: 1, 0, or -1 while not asked */
};

static const struct option inspect_options[] = {
    {.name = "format", .letter = 'f', .type = &option_string, .help = FORMAT_HELP_INSPECT},
    {.name = "size", .letter = 's', .type = &option_switch, .help = "With the size of a container's files"},
    {.name = "type",
     .type = &option_string,
     .help = "Only things of this type: container, image, network, node, service, task, volume"},
    {0}};

static bool knows_swarm(struct cli *cli, struct inspection *in)
{
    AUTO_BUF struct buf path = {0};
    AUTO_JSON json_t *info = NULL;
    struct err e = {0};

    if (in->manager < 0) {
        path_add(&path, "/info");
        if (cli_get(cli, &path, &info, &e) < 0)
            fprintf(stderr, "%s\n", e.text);
        in->manager = tree_bool(info, "Swarm.ControlAvailable");
    }
    return in->manager;
}

static int get_as(struct cli *cli, const struct inspection *in, const struct object_type *type, const char *name,
                  struct buf *raw, json_t **ret, struct err *e)
{
    AUTO_BUF struct buf path = {0};
    bool size = args_switch(in->args, "size");

    if (!*name)
        return err_set(e, ERR_INVALID, "invalid %s name or ID: value is empty", type->name);
    buf_append_str(&path, type->before);
    path_add(&path, "%s", name + (type->sized && *name == '/'));
    buf_append_str(&path, type->after);
    if (type->sized && size)
        path_query(&path, "size", "1");
    int rc = cli_get_raw(cli, &path, raw, ret, e);
    if (rc == 0 && size && !type->sized)
        fprintf(stderr, "WARNING: --size ignored for %s\n", type->name);
    return rc;
}

static int get_any(struct cli *cli, void *context, const char *name, struct buf *raw, json_t **ret, struct err *e)
{
    struct inspection *in = context;
    const char *only = args_text(in->args, "type");

    for (size_t i = 0; i < ARRAY_SIZE(object_types); i++) {
        const struct object_type *type = &object_types[i];

        if (*only ? strcmp(only, type->name) != 0 : type->swarm && !knows_swarm(cli, in))
            continue;
        int rc = get_as(cli, in, type, name, raw, ret, e);
        if (*only || (rc != ERR_NOT_FOUND && !(rc < 0 && (strstr(e->text, "not supported") ||
                                                          strstr(e->text, "invalid reference format")))))
            return rc;
        buf_clear(raw);
    }
    return err_set(e, ERR_NOT_FOUND, "Error: No such object: %s", name);
}

static int run_inspect(struct cli *cli, const struct args *args, struct err *e)
{
    struct inspection in = {.args = args, .manager = -1};
    const char *only = args_text(args, "type");
    AUTO_BUF struct buf names = {0};
    bool known = !args_has(args, "type");

    for (size_t i = 0; i < ARRAY_SIZE(object_types); i++) {
        known = known || strcmp(only, object_types[i].name) == 0;
        buf_printf(&names, "%s\"%s\"", i ? ", " : "", object_types[i].name);
    }
    if (!known)
        return err_set(e, ERR_INVALID,
                       *only ? "unknown type: \"%s\": must be one of %s" : "type is empty%s: must be one of %s",
                       only, buf_str(&names));
    return inspect_run(cli, args, get_any, &in, e);
}

const struct command command_version = {.name = "version",
                                        .usage = "[OPTIONS]",
                                        .summary = "Show the versions of client and node",
                                        .options = {version_options},
                                        .section = SECTION_COMMON,
                                        .run = run_version};
const struct command command_events = {.name = "events",
                                       .usage = "[OPTIONS]",
                                       .summary = "Show what happens on the node, as it happens",
                                       .also = "shoal system events, shoal events",
                                       .options = {events_options},
                                       .run = run_events};
const struct command command_inspect = {.name = "inspect",
                                        .usage = "[OPTIONS] NAME|ID [NAME|ID...]",
                                        .summary = "Show everything about containers, images, services...",
                                        .options = {inspect_options},
                                        .words_min = 1,
                                        .words_max = -1,
                                        .run = run_inspect};

static const struct command *const children[] = {&command_events, &command_info, NULL};

const struct command command_system = {.name = "system",
                                       .summary = "Manage the node",
                                       .words_max = -1,
                                       .section = SECTION_MANAGEMENT,
                                       .children = children};
