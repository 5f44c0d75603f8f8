/* Instructions that change an image's config at import and commit (config.h), in the words of a Dockerfile.
 *
 * CMD and ENTRYPOINT take a JSON list or a line for the shell; ENV and LABEL take "key=value..." with quotes, or
 * the old "key value"; EXPOSE and VOLUME take words, VOLUME a JSON list too. Variables are not expanded: the values
 * are the caller's, there is no file around them. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "engine/image/config.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"

#define BLANKS       " \t\r\n"
#define CHANGES_MAX  1000
#define CHANGE_BYTES 65536
#define PORTS_MAX    2000

struct words { /* in the arena */
    char **list;
    size_t count;
};

static int bad(const char *instruction, const char *rest, const char *why, struct err *e)
{
    return err_set(e, ERR_INVALID, "invalid change \"%s %.200s\": %s", instruction, rest, why);
}

/* Split at blanks outside of quotes; quotes go, a backslash takes the next character as it is (in single quotes it
 * does not). False when a quote is not closed. */
static bool split(const char *text, struct arena *a, struct words *ret)
{
    struct words w = {0};

    for (;;) {
        text += strspn(text, BLANKS);
        if (!*text)
            break;
        char *word = arena_alloc(a, strlen(text) + 1);
        size_t length = 0;
        char quote = '\0';
        for (; *text && (quote || !strchr(BLANKS, *text)); text++) {
            if (quote ? *text == quote : *text == '"' || *text == '\'')
                quote = quote ? '\0' : *text;
            else if (*text == '\\' && text[1] && quote != '\'')
                word[length++] = *++text;
            else
                word[length++] = *text;
        }
        if (quote)
            return false;
        w.list = arena_append(a, w.list, w.count, sizeof(*w.list));
        w.list[w.count++] = word;
    }
    *ret = w;
    return true;
}

/* A JSON list of texts; false when it is none. */
static bool json_words(const char *text, struct arena *a, struct words *ret)
{
    AUTO_JSON
    json_t *root = NULL;
    AUTO_FREE
    char *wrapped = mem_printf("{\"w\":%s}", text);
    struct words w = {0};

    if (text[0] != '[' || jread_parse(wrapped, strlen(wrapped), &root, NULL) < 0 ||
        jread_strings(root, NULL, "w", a, &w.list, &w.count, NULL) < 0)
        return false;
    *ret = w;
    return true;
}

static struct words command_words(const char *rest, struct arena *a)
{
    struct words w;

    if (json_words(rest, a, &w))
        return w;
    w.list = arena_array(a, 3, sizeof(*w.list));
    w.list[0] = arena_strdup(a, "/bin/sh");
    w.list[1] = arena_strdup(a, "-c");
    w.list[2] = arena_strdup(a, rest);
    w.count = 3;
    return w;
}

/* "key=value key2='v 2'", or "key the rest". */
static int pairs(const char *instruction, const char *rest, struct arena *a, struct words *ret, struct err *e)
{
    struct words w;

    if (!split(rest, a, &w))
        return bad(instruction, rest, "a quote is not closed", e);
    if (w.count == 0)
        return bad(instruction, rest, "it needs a name and a value", e);
    if (!strchr(w.list[0], '=')) {
        size_t name = strcspn(rest, BLANKS);
        const char *value = rest + name + strspn(rest + name, BLANKS);

        if (!*value)
            return bad(instruction, rest, "it needs a name and a value", e);
        w.list[0] = arena_printf(a, "%.*s=%s", (int)name, rest, value);
        w.count = 1;
    }
    for (size_t i = 0; i < w.count; i++)
        if (!strchr(w.list[i], '=') || w.list[i][0] == '=')
            return bad(instruction, rest, "each word must be name=value", e);
    *ret = w;
    return 0;
}

/* --- instructions -------------------------------------------------------------------------------- */

typedef int change(ImageConfig *c, const char *rest, struct arena *a, struct err *e);

static int change_cmd(ImageConfig *c, const char *rest, struct arena *a, struct err *e)
{
    struct words w = command_words(rest, a);

    c->command = w.list;
    c->n_command = w.count;
    return 0;
}

static int change_entrypoint(ImageConfig *c, const char *rest, struct arena *a, struct err *e)
{
    struct words w = command_words(rest, a);

    c->entrypoint = w.list;
    c->n_entrypoint = w.count;
    return 0;
}

static int change_env(ImageConfig *c, const char *rest, struct arena *a, struct err *e)
{
    struct words w;
    int rc = pairs("ENV", rest, a, &w, e);

    for (size_t i = 0; rc == 0 && i < w.count; i++) {
        size_t name = strcspn(w.list[i], "=") + 1, at = 0;

        while (at < c->n_env && strncmp(c->env[at], w.list[i], name) != 0)
            at++;
        if (at == c->n_env) {
            c->env = arena_append(a, c->env, c->n_env, sizeof(*c->env));
            c->n_env++;
        }
        c->env[at] = w.list[i];
    }
    return rc;
}

static int change_label(ImageConfig *c, const char *rest, struct arena *a, struct err *e)
{
    struct words w;
    int rc = pairs("LABEL", rest, a, &w, e);

    for (size_t i = 0; rc == 0 && i < w.count; i++) {
        char *value = strchr(w.list[i], '=');
        size_t at = 0;
        KeyValue *label = ARENA_NEW(a, KeyValue);

        *value++ = '\0';
        key_value__init(label);
        label->key = w.list[i];
        label->value = value;
        while (at < c->n_labels && strcmp(c->labels[at]->key, label->key) < 0)
            at++;
        if (at == c->n_labels || strcmp(c->labels[at]->key, label->key) != 0) {
            c->labels = arena_append(a, c->labels, c->n_labels, sizeof(*c->labels));
            memmove(c->labels + at + 1, c->labels + at, (c->n_labels - at) * sizeof(*c->labels));
            c->n_labels++;
        }
        c->labels[at] = label;
    }
    return rc;
}

/* Put a word into a sorted set. */
static void set_add(char ***list, size_t *count, char *word, struct arena *a)
{
    size_t at = 0;

    while (at < *count && strcmp((*list)[at], word) < 0)
        at++;
    if (at < *count && strcmp((*list)[at], word) == 0)
        return;
    *list = arena_append(a, *list, *count, sizeof(**list));
    memmove(*list + at + 1, *list + at, (*count - at) * sizeof(**list));
    (*list)[at] = word;
    (*count)++;
}

static int change_expose(ImageConfig *c, const char *rest, struct arena *a, struct err *e)
{
    struct words w;

    if (!split(rest, a, &w) || w.count == 0)
        return bad("EXPOSE", rest, "it needs ports", e);
    for (size_t i = 0; i < w.count; i++) {
        unsigned first, last;
        char protocol[8] = "tcp", more;
        int got = sscanf(w.list[i], "%5u-%5u/%7[a-z]%c", &first, &last, protocol, &more);

        if (got < 2) {
            got = sscanf(w.list[i], "%5u/%7[a-z]%c", &first, protocol, &more) == 3 ? 4 : 2;
            last = first;
        }
        bool known = strcmp(protocol, "tcp") == 0 || strcmp(protocol, "udp") == 0 || strcmp(protocol, "sctp") == 0;
        if (strspn(w.list[i], "0123456789") == 0 || got > 3 || !known || first == 0 || first > last || last > 65535)
            return bad("EXPOSE", rest, "a port is 1 to 65535, maybe a range, maybe with /tcp, /udp or /sctp", e);
        if (last - first >= PORTS_MAX || c->n_exposed_ports >= PORTS_MAX)
            return bad("EXPOSE", rest, "these are too many ports", e);
        for (unsigned port = first; port <= last; port++)
            set_add(&c->exposed_ports, &c->n_exposed_ports, arena_printf(a, "%u/%s", port, protocol), a);
    }
    return 0;
}

static int change_volume(ImageConfig *c, const char *rest, struct arena *a, struct err *e)
{
    struct words w;

    if (!json_words(rest, a, &w) && !split(rest, a, &w))
        return bad("VOLUME", rest, "a quote is not closed", e);
    if (w.count == 0)
        return bad("VOLUME", rest, "it needs paths", e);
    for (size_t i = 0; i < w.count; i++) {
        if (!*w.list[i])
            return bad("VOLUME", rest, "a path is empty", e);
        set_add(&c->volumes, &c->n_volumes, w.list[i], a);
    }
    return 0;
}

static int change_user(ImageConfig *c, const char *rest, struct arena *a, struct err *e)
{
    if (!*rest || strpbrk(rest, BLANKS))
        return bad("USER", rest, "it needs one word", e);
    c->user = arena_strdup(a, rest);
    return 0;
}

static int change_workdir(ImageConfig *c, const char *rest, struct arena *a, struct err *e)
{
    if (!*rest)
        return bad("WORKDIR", rest, "it needs a path", e);
    if (*rest == '/')
        c->working_dir = arena_strdup(a, rest);
    else
        c->working_dir = arena_printf(
            a, "%s/%s", c->working_dir && strcmp(c->working_dir, "/") != 0 ? c->working_dir : "", rest);
    return 0;
}

static int change_stopsignal(ImageConfig *c, const char *rest, struct arena *a, struct err *e)
{
    if (!*rest || strpbrk(rest, BLANKS))
        return bad("STOPSIGNAL", rest, "it needs one word", e);
    c->stop_signal = arena_strdup(a, rest);
    return 0;
}

static int change_onbuild(ImageConfig *c, const char *rest, struct arena *a, struct err *e)
{
    if (!*rest)
        return bad("ONBUILD", rest, "it needs an instruction", e);
    c->on_build = arena_append(a, c->on_build, c->n_on_build, sizeof(*c->on_build));
    c->on_build[c->n_on_build++] = arena_strdup(a, rest);
    return 0;
}

/* "1m30s", as Go writes durations; false when it is none. */
static bool duration_ns(const char *text, int64_t *ret)
{
    static const struct {
        const char *unit;
        int64_t ns;
    } units[] = {{"ns", 1},
                 {"us", 1000},
                 {"ms", 1000000},
                 {"s", 1000000000},
                 {"m", 60 * 1000000000ll},
                 {"h", 3600 * 1000000000ll}};
    double total = 0;

    if (!*text)
        return false;
    while (*text) {
        char *end;
        double value = strtod(text, &end);
        size_t length = strcspn(end, "0123456789."), i = 0;

        if (end == text || value < 0 || value > 1e9)
            return false;
        while (i < ARRAY_SIZE(units) &&
               (strlen(units[i].unit) != length || strncmp(units[i].unit, end, length) != 0))
            i++;
        if (i == ARRAY_SIZE(units))
            return false;
        total += value * (double)units[i].ns;
        text = end + length;
    }
    if (total > 9e18)
        return false;
    *ret = (int64_t)total;
    return true;
}

static bool health_option(HealthConfig *h, const char *option)
{
    const struct {
        const char *name;
        int64_t *value;
        protobuf_c_boolean *has;
    } times[] = {{"--interval=", &h->interval_ns, &h->has_interval_ns},
                 {"--timeout=", &h->timeout_ns, &h->has_timeout_ns},
                 {"--start-period=", &h->start_period_ns, &h->has_start_period_ns},
                 {"--start-interval=", &h->start_interval_ns, &h->has_start_interval_ns}};
    char more;

    for (size_t i = 0; i < ARRAY_SIZE(times); i++)
        if (strncmp(option, times[i].name, strlen(times[i].name)) == 0) {
            *times[i].has = true;
            return duration_ns(option + strlen(times[i].name), times[i].value);
        }
    h->has_retries = true;
    return sscanf(option, "--retries=%9u%c", &h->retries, &more) == 1;
}

static int change_healthcheck(ImageConfig *c, const char *rest, struct arena *a, struct err *e)
{
    HealthConfig *h = ARENA_NEW(a, HealthConfig);
    const char *at = rest;

    health_config__init(h);
    while (strncmp(at, "--", 2) == 0) {
        char *option = arena_strndup(a, at, strcspn(at, BLANKS));

        if (!health_option(h, option))
            return bad("HEALTHCHECK", rest, "an option cannot be understood", e);
        at += strlen(option);
        at += strspn(at, BLANKS);
    }
    if (strcasecmp(at, "NONE") == 0) {
        h->test = arena_array(a, 1, sizeof(*h->test));
        h->test[0] = arena_strdup(a, "NONE");
        h->n_test = 1;
    } else if (strncasecmp(at, "CMD", 3) == 0 && at[3] && strchr(BLANKS, at[3])) {
        struct words w;

        at += 3 + strspn(at + 3, BLANKS);
        bool list = json_words(at, a, &w);
        h->n_test = list ? w.count + 1 : 2;
        h->test = arena_array(a, h->n_test, sizeof(*h->test));
        h->test[0] = arena_strdup(a, list ? "CMD" : "CMD-SHELL");
        if (list && w.count)
            memcpy(h->test + 1, w.list, w.count * sizeof(*w.list));
        else if (!list)
            h->test[1] = arena_strdup(a, at);
    } else {
        return bad("HEALTHCHECK", rest, "it needs CMD and a command, or NONE", e);
    }
    c->health = h;
    return 0;
}

static const struct {
    const char *instruction;
    change *run;
} instructions[] = {
    {"CMD", change_cmd},         {"ENTRYPOINT", change_entrypoint},   {"ENV", change_env},
    {"EXPOSE", change_expose},   {"HEALTHCHECK", change_healthcheck}, {"LABEL", change_label},
    {"ONBUILD", change_onbuild}, {"STOPSIGNAL", change_stopsignal},   {"USER", change_user},
    {"VOLUME", change_volume},   {"WORKDIR", change_workdir},
};

static int change_one(ImageConfig *c, const char *text, struct arena *a, struct err *e)
{
    text += strspn(text, BLANKS);
    size_t name = strcspn(text, BLANKS), length = strlen(text);
    const char *from = text + name + strspn(text + name, BLANKS);

    if (length > CHANGE_BYTES)
        return err_set(e, ERR_LIMIT, "a change has %zu bytes, more than %d", length, CHANGE_BYTES);
    while (length && strchr(BLANKS, text[length - 1]))
        length--;
    char *rest =
        from < text + length ? arena_strndup(a, from, (size_t)(text + length - from)) : arena_strdup(a, "");
    for (size_t i = 0; i < ARRAY_SIZE(instructions); i++)
        if (strlen(instructions[i].instruction) == name &&
            strncasecmp(instructions[i].instruction, text, name) == 0)
            return instructions[i].run(c, rest, a, e);
    return err_set(e, ERR_INVALID, "%.*s is not a valid change command", (int)MIN(name, (size_t)64), text);
}

/* Give a list that came from elsewhere the room that arena_append counts on. */
static void rehouse(void *list, size_t count, struct arena *a)
{
    void **slot = list;
    size_t room = 1;

    while (room < count)
        room *= 2;
    void *roomy = arena_array(a, room, sizeof(void *));
    if (count)
        memcpy(roomy, *slot, count * sizeof(void *));
    *slot = roomy;
}

int image_config_change(ImageConfig *config, const char *const *changes, size_t count, struct arena *a,
                        struct err *e)
{
    if (count > CHANGES_MAX)
        return err_set(e, ERR_LIMIT, "%zu changes are more than the %d allowed", count, CHANGES_MAX);
    rehouse(&config->env, config->n_env, a);
    rehouse(&config->labels, config->n_labels, a);
    rehouse(&config->exposed_ports, config->n_exposed_ports, a);
    rehouse(&config->volumes, config->n_volumes, a);
    rehouse(&config->on_build, config->n_on_build, a);
    for (size_t i = 0; i < count; i++) {
        int rc = change_one(config, changes[i], a, e);

        if (rc < 0)
            return rc;
    }
    return 0;
}
