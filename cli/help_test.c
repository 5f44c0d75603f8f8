/* Help: that every command and option explains itself, and that docker's commands of the same name have the same
 * options with the same letters and types, but for those below. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/command.h"
#include "proto/base/mem.h"

/* Options of docker's that are left out, and why. "*": of every command. */
static const struct {
    const char *command, *options;
} left_out[] = {
    {"*", " disable-content-trust "},                                      /* signatures of Docker's notary */
    {"*", " cpu-count cpu-percent io-maxbandwidth io-maxiops isolation "}, /* of Windows; services have isolation */
    {"*", " kernel-memory "},                                              /* gone from the kernel */
    {"*", " gpus use-api-socket "},   /* devices of Nvidia, a socket of docker's own */
    {"*", " detach-keys sig-proxy "}, /* come with attaching */
    {"*", " help "},                  /* docker lists it for create and run alone */
    {"*", " tree "},                  /* needs a newer API: manifests of images */
    {"image history", " platform "},  /* the same */
    {"image inspect", " platform "},
    {"image load", " platform "},
    {"image rm", " platform "},
    {"history", " platform "},
    {"load", " platform "},
    {"rmi", " platform "},
    {"start", " attach interactive checkpoint checkpoint-dir "}, /* come with attaching; checkpoints do not come */
    {"container start", " attach interactive checkpoint checkpoint-dir "},
    {"volume create", " availability group limit-bytes required-bytes scope secret sharing topology-preferred "
                      "topology-required type "}, /* of volumes of the whole cluster */
    {"volume ls", " cluster "},
    {"service create", " config secret credential-spec "}, /* come with secrets and configs */
    {"service update", " config-add config-rm secret-add secret-rm credential-spec "},
    {"", " context debug log-level tls tlscacert tlscert tlskey tlsverify "}, /* one node, without TLS */
};

struct path {
    const struct command *commands[4];
    size_t count;
    char text[64]; /* "service create" */
};

static void each_command(struct path path, void (*visit)(const struct path *path))
{
    const struct command *c = path.commands[path.count - 1];

    visit(&path);
    for (size_t i = 0; c->children && c->children[i]; i++) {
        struct path below = path;

        below.commands[below.count++] = c->children[i];
        AUTO_FREE
        char *text = mem_printf("%s%s%s", path.text, *path.text ? " " : "", c->children[i]->name);
        assert_true(strlen(text) < sizeof(below.text));
        memcpy(below.text, text, strlen(text) + 1);
        each_command(below, visit);
    }
}

static void walk(void (*visit)(const struct path *path))
{
    each_command((struct path){.commands = {&command_root}, .count = 1}, visit);
}

/* --- what holds of every command --------------------------------------------------------------------------------
 */

static bool ends_well(const char *text)
{
    size_t length = strlen(text);

    bool goes_on = length > 3 && strcmp(text + length - 3, "...") == 0;

    return length && (goes_on || !strchr(" .\n", text[length - 1])) && !islower((unsigned char)*text);
}

static void check_option(const struct path *path, const struct option *o)
{
    if (!ends_well(o->help))
        fail_msg("%s --%s: help \"%s\" begins small, ends with a full stop, or is missing", path->text, o->name,
                 o->help);
    for (size_t t = 0; path->commands[path->count - 1]->options[t]; t++) {
        for (const struct option *other = path->commands[path->count - 1]->options[t]; other->name; other++) {
            if (other != o && strcmp(other->name, o->name) == 0)
                fail_msg("%s --%s stands twice", path->text, o->name);
            if (other != o && o->letter && other->letter == o->letter)
                fail_msg("%s -%c stands twice", path->text, o->letter);
        }
    }
}

static void check_command(const struct path *path)
{
    const struct command *c = path->commands[path->count - 1];

    if (path->count > 1 && !ends_well(c->summary))
        fail_msg("%s: summary \"%s\"", path->text, c->summary);
    for (size_t t = 0; c->options[t]; t++)
        for (const struct option *o = c->options[t]; o->name; o++)
            check_option(path, o);
    if (!c->children && !c->run)
        fail_msg("%s does nothing", path->text);
    if (!c->children && (!c->usage || (c->words_max != 0 && !strpbrk(c->usage, "ABCDEFGHIJKLMNOPQRSTUVWXYZ("))))
        fail_msg("%s: usage \"%s\" does not name its words", path->text, c->usage ? c->usage : "");
    for (size_t i = 0; path->count > 1 && c->children && c->children[i] && c->children[i + 1]; i++)
        if (strcmp(c->children[i]->name, c->children[i + 1]->name) >= 0)
            fail_msg("%s: %s stands before %s", path->text, c->children[i]->name, c->children[i + 1]->name);
}

static void every_command_and_option_explains_itself(void **state)
{
    walk(check_command);
}

static void rows_of_help_keep_their_columns(void **state)
{
    static const struct option options[] = {
        {.name = "all", .letter = 'a', .type = &option_switch, .help = "Everything"},
        {.name = "zoo", .type = &option_string, .standard = "lion", .help = "An animal"},
        {.name = "hidden", .type = &option_switch, .hidden = true, .help = "Never seen"},
        {.name = "filter",
         .letter = 'f',
         .type = &option_filter,
         .help = "A long explanation that does not fit into one line of the terminal"},
        {0}};
    static const struct option *const tables[] = {options, NULL};
    AUTO_BUF struct buf out = {0};

    options_help(tables, 60, &out);
    assert_string_equal(buf_str(&out), "  -a, --all             Everything\n"
                                       "  -f, --filter filter   A long explanation that does not fit\n"
                                       "                        into one line of the terminal\n"
                                       "      --zoo string      An animal (default \"lion\")\n");
}

/* --- docker's options -------------------------------------------------------------------------------------------
 */

static bool is_left_out(const char *command, const char *option)
{
    AUTO_FREE
    char *padded = mem_printf(" %s ", option);

    for (size_t i = 0; i < ARRAY_SIZE(left_out); i++)
        if ((strcmp(left_out[i].command, "*") == 0 || strcmp(left_out[i].command, command) == 0) &&
            strstr(left_out[i].options, padded))
            return true;
    return false;
}

/* What `docker COMMAND --help` prints. */
static void docker_help(const char *command, struct buf *out)
{
    AUTO_FREE
    char *words = mem_strdup(command);
    const char *argv[8] = {"docker"};
    char *rest = NULL;
    size_t count = 1;
    int ends[2], status;
    ssize_t got;

    for (char *word = strtok_r(words, " ", &rest); word && count < 6; word = strtok_r(NULL, " ", &rest))
        argv[count++] = word;
    argv[count] = "--help";
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        execvp(argv[0], (char *const *)argv);
        _exit(99);
    }
    close(ends[1]);
    while ((got = read(ends[0], buf_reserve(out, 65536), 65536)) > 0)
        buf_added(out, (size_t)got);
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* "  -f, --filter filter   Text": the name, the letter and the type. */
static bool parse_row(const char *line, char name[64], char *ret_letter, char type[64])
{
    const char *c = line + strspn(line, " ");

    *ret_letter = '\0';
    if (c != line + 2 && c != line + 6)
        return false; /* what goes on from the row above stands further right */
    if (*c == '-' && isalpha((unsigned char)c[1]) && strncmp(c + 2, ", ", 2) == 0) {
        *ret_letter = c[1];
        c += 4;
    }
    if (strncmp(c, "--", 2) != 0)
        return false;
    (void)snprintf(name, 64, "%.*s", (int)strcspn(c + 2, " "), c + 2);
    c += 2 + strlen(name);
    *type = '\0';
    if (*c == ' ' && c[1] != ' ')
        (void)snprintf(type, 64, "%.*s", (int)strcspn(c + 1, " "), c + 1);
    return true;
}

static const struct option *find_option(const struct command *c, const char *name)
{
    for (size_t t = 0; c->options[t]; t++)
        for (const struct option *o = c->options[t]; o->name; o++)
            if (strcmp(o->name, name) == 0 && !o->hidden)
                return o;
    return NULL;
}

static void compare_with_docker(const struct path *path)
{
    const struct command *c = path->commands[path->count - 1];
    AUTO_BUF struct buf text = {0};
    char name[64], letter, type[64], *rest = NULL;
    size_t seen = 0;

    if (strcmp(path->text, "swarm inspect") == 0)
        return; /* docker has none */
    docker_help(path->text, &text);
    AUTO_FREE
    char *copy = mem_strdup(buf_str(&text));
    for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (!parse_row(line, name, &letter, type))
            continue;
        const struct option *o = find_option(c, name);
        if (!o && is_left_out(path->text, name))
            continue;
        if (!o)
            fail_msg("%s has no --%s", path->text, name);
        if (o->letter != letter)
            fail_msg("%s --%s has letter '%c', docker's '%c'", path->text, name, o->letter, letter);
        if (strcmp(o->type->name, type) != 0)
            fail_msg("%s --%s is a %s, docker's a %s", path->text, name, o->type->name, type);
        seen++;
    }
    for (size_t t = 0; c->options[t]; t++)
        for (const struct option *o = c->options[t]; o->name; o++)
            seen -= !o->hidden && !o->deprecated;
    if (seen != 0)
        fail_msg("%s has options that docker has not", path->text);
}

static void docker_has_the_same_options(void **state)
{
    if (access("/usr/local/bin/docker", X_OK) < 0 && access("/usr/bin/docker", X_OK) < 0) {
        print_message("docker is not installed\n");
        skip();
    }
    walk(compare_with_docker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_and_option_explains_itself),
        cmocka_unit_test(rows_of_help_keep_their_columns),
        cmocka_unit_test(docker_has_the_same_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
