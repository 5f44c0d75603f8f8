/* See cli.h. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/command.h"
#include "cli/tree.h"
#include "cli/value.h"
#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/file.h"
#include "proto/base/image_name.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"

#define CONFIG_MAX   (1024 * 1024)
#define DEFAULT_HOST "unix:///var/run/shoal.sock"

int cli_main(int argc, char **argv)
{
    struct cli cli = {.program = "shoal", .status = 1, .out_is_terminal = isatty(STDOUT_FILENO)};
    struct err e = {0};
    uint64_t seed = entropy_u64(entropy_real());

    map_seed(seed);
    json_object_seed((size_t)seed);
    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* so that what goes to stdout and stderr keeps its order */
    int rc = command_run(&cli, argv + (argc > 0), &e);
    if (rc == ERR_CANCELED)
        rc = 0; /* the person said no: nothing to complain about */
    bool wrote = fflush(stdout) == 0 && !ferror(stdout);
    if (rc < 0 && *e.text)
        fprintf(stderr, "%s\n", e.text);
    if (!wrote)
        fprintf(stderr, "%s: writing to standard output failed\n", cli.program);
    client_close(cli.client);
    json_decref(cli.config);
    return rc < 0 ? cli.status : cli.failed || !wrote ? 1 : 0;
}

static const char *environment(const char *ours, const char *dockers)
{
    const char *value = getenv(ours);

    if (!value || !*value)
        value = getenv(dockers);
    return value && *value ? value : NULL;
}

int cli_client(struct cli *cli, struct client **ret, struct err *e)
{
    if (!cli->client) {
        const char *host = cli->host ? cli->host : environment("SHOAL_HOST", "DOCKER_HOST");
        int rc = client_open(host && *host ? host : DEFAULT_HOST, &cli->stop, &cli->client, e);

        if (rc < 0)
            return rc;
    }
    *ret = cli->client;
    return 0;
}

int cli_status(struct cli *cli, int status, int rc)
{
    cli->status = status;
    return rc;
}

void cli_print(const struct buf *out)
{
    if (out->length)
        (void)fwrite(buf_bytes(out), 1, out->length, stdout);
}

void cli_complain(struct cli *cli, const struct err *e)
{
    (void)fflush(stdout); /* keep the order; a failure is noticed at the end */
    fprintf(stderr, "%s\n", e->text);
    cli->failed = true;
}

/* --- requests ---------------------------------------------------------------------------------------------------
 */

int cli_call(struct cli *cli, const struct client_request *request, struct call **ret, struct err *e)
{
    struct client *client;
    struct call *call = NULL;
    int rc = cli_client(cli, &client, e);

    if (rc == 0)
        rc = client_start(client, request, &call, e);
    if (rc == 0)
        rc = call_answer(call, e);
    if (rc < 0) {
        call_end(call);
        return rc;
    }
    *ret = call;
    return 0;
}

/* The API answers with objects and arrays, and once with a bare text. */
static int parse_answer(const struct buf *text, json_t **ret, struct err *e)
{
    AUTO_JSON json_t *array = NULL;
    AUTO_BUF struct buf wrapped = {0};

    if (!text->length || *(const char *)buf_bytes(text) != '"')
        return jread_parse(buf_bytes(text), text->length, ret, e);
    buf_append_char(&wrapped, '[');
    buf_append(&wrapped, buf_bytes(text), text->length);
    buf_append_char(&wrapped, ']');
    int rc = jread_parse(buf_bytes(&wrapped), wrapped.length, &array, e);
    *ret = rc == 0 ? json_incref(json_array_get(array, 0)) : NULL;
    return rc;
}

static int do_request(struct cli *cli, const char *method, struct buf *path, const json_t *body, struct buf *raw,
                      json_t **ret, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    AUTO_BUF struct buf answer = {0};
    struct buf *into = raw ? raw : &answer;
    struct client *client;
    struct client_request request = {.method = method, .path = buf_str(path)};
    int rc = cli_client(cli, &client, e);

    if (rc < 0)
        return rc;
    if (body) {
        struct jwrite j = JWRITE_TO(&text);

        tree_write(&j, NULL, body);
        request.body = buf_bytes(&text);
        request.body_size = text.length;
    }
    rc = client_do(client, &request, into, e);
    if (rc < 0 || !ret)
        return rc;
    rc = parse_answer(into, ret, e);
    return rc < 0 ? err_wrap(e, "the daemon's answer to %s %s", method, buf_str(path)) : 0;
}

int cli_get(struct cli *cli, struct buf *path, json_t **ret, struct err *e)
{
    return do_request(cli, "GET", path, NULL, NULL, ret, e);
}

int cli_get_raw(struct cli *cli, struct buf *path, struct buf *raw, json_t **ret, struct err *e)
{
    return do_request(cli, "GET", path, NULL, raw, ret, e);
}

int cli_post(struct cli *cli, struct buf *path, const json_t *body, json_t **ret, struct err *e)
{
    return do_request(cli, "POST", path, body, NULL, ret, e);
}

int cli_delete(struct cli *cli, struct buf *path, json_t **ret, struct err *e)
{
    return do_request(cli, "DELETE", path, NULL, NULL, ret, e);
}

/* --- Ctrl-C -----------------------------------------------------------------------------------------------------
 */

static volatile sig_atomic_t *interrupted; /* of the program's one struct cli; signal handlers take no argument */

static void on_interrupt(int number)
{
    *interrupted = 1;
}

void cli_catch_interrupt(struct cli *cli)
{
    static const struct sigaction act = {.sa_handler = on_interrupt};

    interrupted = &cli->stop;
    (void)sigaction(SIGINT, &act, NULL); /* cannot fail with these arguments */
}

void cli_release_interrupt(struct cli *cli)
{
    static const struct sigaction act = {.sa_handler = SIG_DFL};

    (void)sigaction(SIGINT, &act, NULL);
}

/* --- filters ----------------------------------------------------------------------------------------------------
 */

void cli_filter_add(json_t *filters, const char *key, const char *value)
{
    json_t *values = json_object_get(filters, key);

    if (!values) {
        values = json_object();
        tree_put(filters, key, values);
    }
    tree_put_bool(values, value, true);
}

static char *trimmed(struct arena *a, const char *text, size_t length)
{
    while (length && strchr(" \t", *text)) {
        text++;
        length--;
    }
    while (length && strchr(" \t", text[length - 1]))
        length--;
    return arena_strndup(a, text, length);
}

json_t *cli_filters(const struct args *args)
{
    json_t *filters = json_object();
    AUTO_ARENA struct arena a;
    const char *text;

    arena_init(&a);
    for (size_t at = 0; (text = args_next(args, "filter", &at));) {
        size_t length = strcspn(text, "=");

        if (!text[length])
            continue; /* an empty filter filters nothing */
        char *key = trimmed(&a, text, length);
        for (char *c = key; *c; c++)
            *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
        cli_filter_add(filters, key, trimmed(&a, text + length + 1, strlen(text + length + 1)));
    }
    return filters;
}

/* In the order of their names, so that the same filters always are the same request. */
static void write_filter_value(void *context, const char *name, json_t *value)
{
    jwrite_bool(context, name, json_is_true(value));
}

static void write_filter(void *context, const char *name, json_t *values)
{
    jwrite_object(context, name);
    tree_sorted(values, write_filter_value, context);
    jwrite_end(context);
}

void cli_filter_query(struct buf *path, const json_t *filters)
{
    AUTO_BUF struct buf text = {0};
    struct jwrite j = JWRITE_TO(&text);

    if (json_object_size(filters) == 0)
        return;
    jwrite_object(&j, NULL);
    tree_sorted(filters, write_filter, &j);
    jwrite_end(&j);
    path_query(path, "filters", buf_str(&text));
}

/* --- configuration ----------------------------------------------------------------------------------------------
 */

static const json_t *config(struct cli *cli)
{
    const char *dir = cli->config_dir ? cli->config_dir : environment("SHOAL_CONFIG", "DOCKER_CONFIG");
    AUTO_BUF struct buf text = {0};
    AUTO_FREE
    char *path = NULL;
    struct err e = {0};

    if (cli->config)
        return cli->config;
    if (!dir) {
        const char *home = getenv("HOME");

        path = mem_printf("%s/.docker/config.json", home ? home : "");
    } else {
        path = mem_printf("%s/config.json", dir);
    }
    int rc = file_read(AT_FDCWD, path, CONFIG_MAX, &text, &e);
    if (rc == 0)
        rc = jread_parse(buf_str(&text), text.length, &cli->config, &e);
    if (rc < 0 && rc != ERR_NOT_FOUND)
        fprintf(stderr, "WARNING: Error loading config file: %s: %s\n", path, e.text);
    if (!cli->config)
        cli->config = json_object();
    return cli->config;
}

const char *cli_config(struct cli *cli, const char *name)
{
    return tree_text(config(cli), name);
}

static void base64(struct buf *out, const char *data, size_t size, const char *last_two)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

    for (size_t i = 0; i < size; i += 3) {
        uint32_t bits = 0;
        size_t left = MIN(size - i, (size_t)3);

        for (size_t k = 0; k < 3; k++)
            bits = bits << 8 | (k < left ? (unsigned char)data[i + k] : 0u);
        for (size_t k = 0; k < 4; k++) {
            uint32_t digit = bits >> (18 - 6 * k) & 63;

            buf_append_char(out, k > left ? '=' : digit < 62 ? alphabet[digit] : last_two[digit - 62]);
        }
    }
}

/* False when it is no base 64. */
static bool base64_decode(struct buf *out, const char *text)
{
    uint32_t bits = 0;
    int have = 0;

    for (; *text && *text != '='; text++) {
        int digit = *text >= 'A' && *text <= 'Z'   ? *text - 'A'
                    : *text >= 'a' && *text <= 'z' ? *text - 'a' + 26
                    : *text >= '0' && *text <= '9' ? *text - '0' + 52
                    : *text == '+' || *text == '-' ? 62
                    : *text == '/' || *text == '_' ? 63
                                                   : -1;
        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit;
        have += 6;
        if (have >= 8) {
            have -= 8;
            buf_append_char(out, (char)(bits >> have & 0xff));
        }
    }
    return true;
}

static void write_some(struct jwrite *j, const char *key, const char *value)
{
    if (*value)
        jwrite_string(j, key, value);
}

/* The login for a registry: {"username", "password", "serveraddress"} and tokens, what is empty left out. */
static void write_login(struct jwrite *j, const json_t *entry, const char *server)
{
    static const char *const tokens[] = {"identitytoken", "registrytoken"};
    AUTO_BUF struct buf pair = {0};
    const char *username = tree_text(entry, "username"), *password = tree_text(entry, "password");
    const char *colon = NULL;

    if (*tree_text(entry, "auth") && base64_decode(&pair, tree_text(entry, "auth")))
        colon = strchr(buf_str(&pair), ':');
    AUTO_FREE
    char *name = colon ? mem_strndup(buf_str(&pair), (size_t)(colon - buf_str(&pair))) : mem_strdup(username);
    write_some(j, "username", name);
    write_some(j, "password", colon ? colon + 1 : password);
    if (entry)
        jwrite_string(j, "serveraddress", server);
    for (size_t i = 0; i < ARRAY_SIZE(tokens); i++)
        write_some(j, tokens[i], tree_text(entry, tokens[i]));
}

char *cli_registry_auth(struct cli *cli, const char *image)
{
    AUTO_BUF struct buf login = {0};
    struct buf header = {0};
    struct jwrite j = JWRITE_TO(&login);
    AUTO_ARENA struct arena a;
    struct image_name name;
    const char *server = "";

    arena_init(&a);
    if (image_name_parse(image, &a, &name, NULL) == 0)
        server = strcmp(name.domain, "docker.io") == 0 ? "https://index.docker.io/v1/" : name.domain;
    json_t *entry = jread_get(jread_get(config(cli), "auths"), server);
    jwrite_object(&j, NULL);
    write_login(&j, entry, server);
    jwrite_end(&j);
    base64(&header, buf_bytes(&login), login.length, "-_");
    return buf_steal(&header);
}

/* --- small things -----------------------------------------------------------------------------------------------
 */

bool cli_confirm(const char *question)
{
    char line[64] = "";

    printf("%s [y/N] ", question);
    (void)fflush(stdout);
    if (!fgets(line, sizeof(line), stdin)) {
        putchar('\n');
        return false;
    }
    char *answer = line + strspn(line, " \t");
    answer[strcspn(answer, " \t\r\n")] = '\0';
    return strcasecmp(answer, "y") == 0;
}

const char *cli_short_id(const char *id, char ret[13])
{
    const char *colon = strchr(id, ':');

    (void)snprintf(ret, 13, "%s", colon ? colon + 1 : id); /* cut on purpose */
    return ret;
}

int cli_moment(const char *text, const char *what, char ret[40], struct err *e)
{
    time_t now = time(NULL);
    struct tm tm = {0};
    int rc;

    localtime_r(&now, &tm);
    rc = value_moment(text, clock_wall_ms(clock_real()) * 1000000, (int)tm.tm_gmtoff, ret, e);
    return rc < 0 && what ? err_wrap(e, "invalid value for \"%s\"", what) : rc;
}
