/* Every command from the outside: what it sends and what it prints, and that docker does the same.
 *
 * The cases stand in cli/cases/. Each is a command line, the requests it should send with the answers it gets, and
 * what it should print. The program runs in a forked child against a server in this process. Then, where docker is
 * installed, docker runs the same case, and its output, status and requests are compared with ours after what
 * legitimately differs has been evened out. The format, by the beginning of the line:
 *
 *     let NAME text            @{NAME} in the answers that follow stands for this text
 *     == title                 a new case
 *     $ words                  the command line, without the program's name; split as a shell does
 *     env NAME=value           a variable of its environment
 *     in text                  a line of its standard input
 *     file NAME text           a line of a file where it runs ("config/config.json" is its configuration)
 *     tty COLUMNS              its output is a terminal
 *     interrupt N              Ctrl-C after N requests
 *     > METHOD /path           it sends this request (the same one again: the next answer; the last answer repeats)
 *     >> text                  ... with this body, and no other
 *     >: Name: value           ... with this header
 *     < STATUS [TYPE]          and gets this answer (200 and JSON when the line is missing)
 *     | text                   ... with this body
 *     1| text    2| text       it prints this to stdout, to stderr; 1-| and 2-|: without an end of line; ␛ and ␍
 *                              stand for escape and return
 *     exit N                   and ends with this status (0 when the line is missing)
 *     differs WHAT: reason     docker differs in out, err, exit, requests, or all
 *
 * @{unix-60}, @{rfc-60} and @{local-60} in answers and output stand for a moment 60 s ago, @{frame1 TEXT} in
 * answers for a frame of a log stream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/tree.h"
#include "proto/base/mem.h"
#include "tests/support/case_run.h"

#define CASES "cli/cases"

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* --- evening out ------------------------------------------------------------------------------------------------
 */

/* What version and info say about the client, up to the server. */
static void drop_client(struct buf *text)
{
    const char *server = strstr(buf_str(text), "\nServer:");

    if (strncmp(buf_str(text), "Client:", 7) == 0 && server)
        buf_consume(text, (size_t)(server - buf_str(text)) + 1);
}

/* Names of the product, docker's slips, and lines that a terminal would have overwritten. */
static void even_text(struct buf *text)
{
    static const char *const pairs[][2] = {
        {"Docker daemon", "shoal daemon"},
        {"Is the docker daemon running", "Is shoald running"},
        {"Docker version 28.2.2, build e6534b4", "Shoal version " SHOAL_VERSION},
        {"docker", "shoal"},
        {"See 'shoal", "Run 'shoal"},
        {"SRun 'shoal", "Run 'shoal"},
        {"no such file or directory", "No such file or directory"},
        {"\"Platform\":null,", ""}, /* a column without a meaning here */
    };
    AUTO_BUF struct buf kept = {0};
    char *rest = NULL;

    drop_client(text);
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
        text_replace(text, pairs[i][0], pairs[i][1]);
    AUTO_FREE
    char *copy = mem_strdup(buf_str(text));
    for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        size_t length = strlen(line);
        AUTO_FREE
        char *whole = mem_printf("\n%s\n", line);
        bool progress = strstr(line, "overall progress:") || strstr(line, "verify:") ||
                        strstr(line, "desired root digest:") || strncmp(line, "  rotated ", 10) == 0;

        char *meant = strstr(line, " (did you mean ");
        if (meant) { /* docker does not help here */
            *meant = '\0';
            length = strlen(line);
        }
        while (length && line[length - 1] == ' ')
            line[--length] = '\0';
        if (strstr(line, "Did you mean") || strstr(line, " containerd version:") ||
            strstr(line, " runc version:") || strstr(line, " init version:"))
            continue; /* docker does not help here, and names its parts */
        if (!progress || !strstr(buf_str(&kept), whole))
            buf_printf(&kept, "%s\n", line);
    }
    buf_clear(text);
    buf_append(text, buf_bytes(&kept), kept.length);
}

static bool is_zero(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return json_object_size(value) == 0;
    case JSON_ARRAY:
        return json_array_size(value) == 0;
    case JSON_STRING:
        return json_string_length(value) == 0;
    case JSON_INTEGER:
        return json_integer_value(value) == 0;
    case JSON_REAL:
        return json_real_value(value) == 0;
    default:
        return !json_is_true(value);
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(json_string_value(*(json_t *const *)a), json_string_value(*(json_t *const *)b));
}

/* Docker sends these in any order. */
static void sort_texts(json_t *array)
{
    size_t count = json_array_size(array), i;
    AUTO_FREE
    json_t **texts = mem_array(count, sizeof(*texts));

    for (i = 0; i < count; i++)
        texts[i] = json_incref(json_array_get(array, i));
    qsort(texts, count, sizeof(*texts), by_text);
    for (i = 0; i < count; i++)
        (void)json_array_set_new(array, i, texts[i]);
}

/* A body without what is zero or the API's own default: absent and zero mean the same. */
static void even_json(json_t *value)
{
    void *iterator;
    size_t i;
    json_t *element;

    json_array_foreach(value, i, element)
    {
        even_json(element);
    }
    for (iterator = json_object_iter(value); iterator;) {
        const char *name = json_object_iter_key(iterator);
        json_t *member = json_object_iter_value(iterator);

        iterator = json_object_iter_next(value, iterator);
        even_json(member);
        if (strcmp(name, "Env") == 0 || strcmp(name, "Binds") == 0)
            sort_texts(member);
        bool swappiness = strcmp(name, "MemorySwappiness") == 0 && json_integer_value(member) == -1;
        bool console = strcmp(name, "ConsoleSize") == 0;
        bool restart = strcmp(name, "RestartPolicy") == 0 && json_object_size(member) == 1 &&
                       strcmp(tree_text(member, "Name"), "no") == 0;
        bool mode = strcmp(name, "Replicated") == 0 || strcmp(name, "Global") == 0 ||
                    strcmp(name, "GlobalJob") == 0 || strcmp(name, "ReplicatedJob") == 0;
        if (swappiness || console || restart || (is_zero(member) && !mode))
            json_object_del(value, name);
    }
}

static char *even_body(const char *body)
{
    AUTO_JSON json_t *root = NULL;

    if (!*body || jread_parse(body, strlen(body), &root, NULL) < 0)
        return mem_strdup(body);
    even_json(root);
    return json_dumps(root, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY);
}

/* What the programs did in the case at hand: kept here so that nothing is lost when an assertion leaves the test.
 */
static const struct scenario *ran;
static struct result ours, theirs;
static struct buf our_requests, their_requests;

static void run_ours(struct scenario *s, const char *program)
{
    result_free(&ours);
    case_begin(s);
    ran = s;
    case_run(s, program, &ours);
}

/* --- the tests --------------------------------------------------------------------------------------------------
 */

/* Each request once, in order: a repeated one is polling. */
static void check_requests(const struct scenario *s, const struct result *r)
{
    size_t next = 0;

    for (size_t i = 0; i < r->seen_count; i++) {
        const struct seen *seen = &r->seen[i];
        const struct exchange *x = seen->exchange;

        if (!x)
            fail_msg("unexpected request: %s %s\nbody: %s", seen->method, seen->path, seen->body);
        assert_string_equal(seen->path, x->path);
        if (x->body) {
            size_t length = strlen(seen->body);
            bool newline = length && seen->body[length - 1] == '\n'; /* of a file or standard input */
            AUTO_FREE
            char *body = mem_strndup(seen->body, length - newline);

            assert_string_equal(body, x->body);
        }
        if (x->header) {
            const char *colon = strchr(x->header, ':');

            assert_string_equal(seen->auth, colon + 2);
        }
        if (x == &s->exchanges[next])
            next++;
        else
            assert_true(x < &s->exchanges[next]); /* one that was seen before, again */
    }
    if (next < s->exchanges_count)
        fail_msg("not requested: %s %s", s->exchanges[next].method, s->exchanges[next].path);
}

static void show_lines(char stream, struct buf *text)
{
    text_replace(text, "\033", "␛");
    text_replace(text, "\r", "␍");
    AUTO_FREE
    char *copy = mem_strdup(buf_str(text));

    for (char *line = copy, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        printf("%c%s| %.*s\n", stream, end ? "" : "-", end ? (int)(end - line) : (int)strlen(line), line);
        if (!end)
            break;
    }
}

static void show(struct scenario *s, struct result *r)
{
    printf("== %s\n", s->title);
    for (size_t i = 0; i < r->seen_count; i++)
        printf("> %s %s\n>> %s\n", r->seen[i].method, r->seen[i].path, r->seen[i].body);
    show_lines('1', &r->out);
    show_lines('2', &r->err);
    printf("exit %d\n== end\n", r->status);
    (void)fflush(stdout);
}

static void check_text(struct buf *got, struct buf *wanted)
{
    AUTO_BUF struct buf expanded = {0};

    case_expand(&expanded, buf_str(wanted));
    text_replace(&expanded, "␛", "\033");
    text_replace(&expanded, "␍", "\r");
    assert_string_equal(buf_str(got), buf_str(&expanded));
}

static void check_case(void **state)
{
    struct scenario *s = *state;
    const char *shown = getenv("CASES_SHOW"); /* for writing cases: what this program prints */

    run_ours(s, shown ? shown : "shoal");
    if (shown) {
        show(s, &ours);
        return;
    }
    check_text(&ours.err, &s->err);
    check_text(&ours.out, &s->out);
    assert_int_equal(ours.status, s->exit);
    check_requests(s, &ours);
}

/* Requests as lines, each once, sorted: docker asks some things at the same time, and some twice. */
static void even_requests(const struct result *r, struct buf *out)
{
    char *lines[CASE_SEEN_MAX];
    size_t count = 0;

    for (size_t i = 0; i < r->seen_count; i++) {
        AUTO_FREE
        char *path = case_even_path(r->seen[i].path);
        AUTO_FREE
        char *body = even_body(r->seen[i].body);

        lines[count++] = mem_printf("%s %s %s %s\n", r->seen[i].method, path, body, r->seen[i].auth);
    }
    qsort(lines, count, sizeof(*lines), by_name);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || strcmp(lines[i], lines[i - 1]) != 0)
            buf_append_str(out, lines[i]);
    }
    for (size_t i = 0; i < count; i++)
        free(lines[i]);
}

static void skip_because(const char *reason)
{
    print_message("%s\n", reason);
    skip();
}

static void check_against_docker(void **state)
{
    struct scenario *s = *state;

#ifdef __SANITIZE_ADDRESS__
    skip_because("nothing of ours that the case itself does not run");
#endif
    if (access("/usr/local/bin/docker", X_OK) < 0 && access("/usr/bin/docker", X_OK) < 0)
        skip_because("docker is not installed");
    if (s->differs_out && s->differs_err && s->differs_exit && s->differs_requests)
        skip_because("the case says that docker differs, and why");
    if (ran != s)
        run_ours(s, "shoal");
    result_free(&theirs);
    case_run(s, "docker", &theirs);
    even_text(&ours.out);
    even_text(&ours.err);
    even_text(&theirs.out);
    even_text(&theirs.err);
    buf_clear(&our_requests);
    buf_clear(&their_requests);
    even_requests(&ours, &our_requests);
    even_requests(&theirs, &their_requests);
    if (!s->differs_err)
        assert_string_equal(buf_str(&ours.err), buf_str(&theirs.err));
    if (!s->differs_out)
        assert_string_equal(buf_str(&ours.out), buf_str(&theirs.out));
    if (!s->differs_exit)
        assert_int_equal(ours.status, theirs.status);
    if (!s->differs_requests)
        assert_string_equal(buf_str(&our_requests), buf_str(&their_requests));
}

static int set_up(void **state)
{
    case_room_open();
    return 0;
}

static int tear_down(void **state)
{
    case_room_close();
    result_free(&ours);
    result_free(&theirs);
    buf_fini(&our_requests);
    buf_fini(&their_requests);
    return 0;
}

int main(void)
{
    struct scenario *list = NULL;
    size_t count = cases_load(CASES, &list);
    const char *only = getenv("CASE");
    struct CMUnitTest *tests = mem_array(2 * count, sizeof(*tests));
    size_t used = 0;

    for (size_t i = 0; i < count; i++) {
        if (only && !strstr(list[i].title, only))
            continue;
        tests[used++] = (struct CMUnitTest){list[i].title, check_case, NULL, NULL, &list[i]};
        if (getenv("CASES_SHOW"))
            continue;
        tests[used++] = (struct CMUnitTest){mem_printf("%s, as docker does", list[i].title), check_against_docker,
                                            NULL, NULL, &list[i]};
    }
    int failed = _cmocka_run_group_tests("cases", tests, used, set_up, tear_down);
    for (size_t i = 1; i < used && !getenv("CASES_SHOW"); i += 2)
        free((void *)tests[i].name);
    cases_free(list, count);
    free(tests);
    return failed;
}
