/* See case_file.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/support/case_file.h"

static struct {
    char *name, *text;
    int file; /* that knows it */
} names[256]; /* what "let" named */
static size_t names_count;

static int current_file; /* the file that is read, or whose case runs */
static time_t now;       /* when the case began */

void text_replace(struct buf *text, const char *from, const char *to)
{
    AUTO_FREE
    char *copy = mem_strdup(buf_str(text));
    const char *at = copy, *found;

    buf_clear(text);
    while ((found = strstr(at, from))) {
        buf_append(text, at, (size_t)(found - at));
        buf_append_str(text, to);
        at = found + strlen(from);
    }
    buf_append_str(text, at);
}

/* --- reading the cases ------------------------------------------------------------------------------------------
 */

static const char *named(const char *name, size_t length)
{
    for (size_t i = names_count; i-- > 0;)
        if (names[i].file == current_file && strlen(names[i].name) == length &&
            strncmp(names[i].name, name, length) == 0)
            return names[i].text;
    return NULL;
}

static void let(const char *definition)
{
    const char *blank = strchr(definition, ' ');

    assert_non_null(blank);
    assert_true(names_count < ARRAY_SIZE(names));
    names[names_count].name = mem_strndup(definition, (size_t)(blank - definition));
    names[names_count].file = current_file;
    names[names_count++].text = mem_strdup(blank + 1);
}

/* "unix-60", "rfc-60", "local-60": a moment 60 seconds before the case began. */
static void put_moment(struct buf *out, const char *what)
{
    time_t moment = now + strtoll(what + strcspn(what, "+-"), NULL, 10);
    char text[40];
    struct tm tm;

    if (strncmp(what, "unix", 4) == 0) {
        buf_printf(out, "%lld", (long long)moment);
    } else if (strncmp(what, "rfc", 3) == 0 || strncmp(what, "local", 5) == 0) {
        const char *shape = *what == 'r' ? "%Y-%m-%dT%H:%M:%SZ" : "%Y-%m-%d %H:%M:%S";

        assert_non_null(gmtime_r(&moment, &tm));
        assert_true(strftime(text, sizeof(text), shape, &tm) > 0);
        buf_append_str(out, text);
    } else {
        fail_msg("what is @{%.30s", what);
    }
}

static void put_frame(struct buf *out, const char *text, size_t length, char stream)
{
    unsigned char header[8] = {(unsigned char)(stream - '0'), 0, 0, 0, 0, 0, 0, 0};

    for (int i = 0; i < 4; i++)
        header[7 - i] = (unsigned char)((length + 1) >> (8 * i));
    buf_append(out, header, sizeof(header));
    buf_append(out, text, length);
    buf_append_char(out, '\n');
}

void case_expand(struct buf *out, const char *text)
{
    while (*text) {
        bool macro = strncmp(text, "@{", 2) == 0, frame = strncmp(text, "@{frame", 7) == 0;
        size_t line = strcspn(text, "\n");
        const char *close = !macro ? NULL : frame ? memrchr(text, '}', line) : memchr(text, '}', line);

        if (!close) {
            buf_append_char(out, *text++);
            continue;
        }
        const char *meant = named(text + 2, (size_t)(close - text) - 2);

        if (meant)
            case_expand(out, meant);
        else if (frame)
            put_frame(out, text + 9, (size_t)(close - text) - 9, text[7]);
        else
            put_moment(out, text + 2);
        text = close + 1 + (frame && close[1] == '\n');
    }
}

static void parse_answer(struct exchange *x, const char *rest)
{
    char *end;

    x->status = (int)strtol(rest, &end, 10);
    if (*end == ' ') {
        free(x->type);
        x->type = mem_strdup(end + 1);
    }
}

static void parse_request(struct scenario *s, const char *rest)
{
    const char *blank = strchr(rest, ' ');

    assert_non_null(blank);
    assert_true(s->exchanges_count < CASE_EXCHANGES_MAX);
    s->exchanges[s->exchanges_count++] = (struct exchange){.method = mem_strndup(rest, (size_t)(blank - rest)),
                                                           .path = mem_strdup(blank + 1),
                                                           .status = 200,
                                                           .type = mem_strdup("application/json")};
}

static void parse_differs(struct scenario *s, const char *rest)
{
    bool all = strstr(rest, "all:") == rest;

    s->differs_out |= all || strncmp(rest, "out", 3) == 0;
    s->differs_err |= all || strncmp(rest, "err", 3) == 0;
    s->differs_exit |= all || strncmp(rest, "exit", 4) == 0;
    s->differs_requests |= all || strncmp(rest, "requests", 8) == 0;
}

static void add_line(struct buf *to, const char *text)
{
    buf_append_str(to, text);
    buf_append_char(to, '\n');
}

static void parse_file(struct scenario *s, const char *rest)
{
    size_t length = strcspn(rest, " "), i = 0;

    while (i < ARRAY_SIZE(s->files) && s->files[i].name && strncmp(s->files[i].name, rest, length) != 0)
        i++;
    assert_true(i < ARRAY_SIZE(s->files));
    if (!s->files[i].name)
        s->files[i].name = mem_strndup(rest, length);
    add_line(&s->files[i].text, rest[length] ? rest + length + 1 : "");
}

static void parse_line(struct scenario *s, const char *line)
{
    struct exchange *x = s->exchanges_count ? &s->exchanges[s->exchanges_count - 1] : NULL;

    if (strncmp(line, "$ ", 2) == 0)
        s->command = mem_strdup(line + 2);
    else if (strncmp(line, "env ", 4) == 0)
        s->env[s->env_count++] = mem_strdup(line + 4);
    else if (strncmp(line, "in ", 3) == 0)
        add_line(&s->input, line + 3);
    else if (strncmp(line, "file ", 5) == 0)
        parse_file(s, line + 5);
    else if (strncmp(line, "tty ", 4) == 0)
        s->columns = (int)strtol(line + 4, NULL, 10);
    else if (strncmp(line, "interrupt ", 10) == 0)
        s->interrupt = strtoul(line + 10, NULL, 10);
    else if (strncmp(line, ">> ", 3) == 0)
        x->body = mem_strdup(line + 3);
    else if (strncmp(line, ">: ", 3) == 0)
        x->header = mem_strdup(line + 3);
    else if (strncmp(line, "> ", 2) == 0)
        parse_request(s, line + 2);
    else if (strncmp(line, "< ", 2) == 0)
        parse_answer(x, line + 2);
    else if (strncmp(line, "| ", 2) == 0)
        add_line(&x->answer, line + 2);
    else if (strncmp(line, "1-| ", 4) == 0)
        buf_append_str(&s->out, line + 4);
    else if (strncmp(line, "2-| ", 4) == 0)
        buf_append_str(&s->err, line + 4);
    else if (strncmp(line, "1|", 2) == 0)
        add_line(&s->out, line + 2 + (line[2] == ' '));
    else if (strncmp(line, "2|", 2) == 0)
        add_line(&s->err, line + 2 + (line[2] == ' '));
    else if (strncmp(line, "exit ", 5) == 0)
        s->exit = (int)strtol(line + 5, NULL, 10);
    else if (strncmp(line, "differs ", 8) == 0)
        parse_differs(s, line + 8);
    else if (*line && *line != '#')
        fail_msg("case \"%s\": what is this line? %s", s->title, line);
}

static size_t load_file(const char *directory, const char *name, struct scenario **list, size_t count)
{
    AUTO_BUF struct buf text = {0};
    AUTO_FREE
    char *path = mem_printf("%s/%s", directory, name);
    char *rest = NULL;

    assert_int_equal(file_read(AT_FDCWD, path, 16 << 20, &text, NULL), 0);
    AUTO_FREE
    char *copy = mem_strdup(buf_str(&text));
    for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "let ", 4) == 0) {
            let(line + 4);
        } else if (strncmp(line, "== ", 3) == 0) {
            for (size_t i = 0; i < count; i++)
                if (strcmp((*list)[i].title, line + 3) == 0)
                    fail_msg("two cases have the title \"%s\"", line + 3);
            *list = mem_grow(*list, count + 1, sizeof(**list));
            (*list)[count++] = (struct scenario){.title = mem_strdup(line + 3), .file = current_file};
        } else if (count) {
            parse_line(&(*list)[count - 1], line);
        }
    }
    return count;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

size_t cases_load(const char *directory, struct scenario **ret)
{
    DIR *dir = opendir(directory);
    char *files[64];
    size_t files_count = 0, count = 0;
    struct dirent *entry;

    assert_non_null(dir);
    while ((entry = readdir(dir)))
        if (strstr(entry->d_name, ".case") && files_count < ARRAY_SIZE(files))
            files[files_count++] = mem_strdup(entry->d_name);
    closedir(dir);
    qsort(files, files_count, sizeof(*files), by_name);
    for (size_t i = 0; i < files_count; i++) {
        current_file = (int)i;
        count = load_file(directory, files[i], ret, count);
        free(files[i]);
    }
    return count;
}

static void free_scenario(struct scenario *s)
{
    for (size_t i = 0; i < s->exchanges_count; i++) {
        free(s->exchanges[i].method);
        free(s->exchanges[i].path);
        free(s->exchanges[i].body);
        free(s->exchanges[i].header);
        free(s->exchanges[i].type);
        buf_fini(&s->exchanges[i].answer);
    }
    for (size_t i = 0; i < s->env_count; i++)
        free(s->env[i]);
    for (size_t i = 0; i < ARRAY_SIZE(s->files); i++) {
        free(s->files[i].name);
        buf_fini(&s->files[i].text);
    }
    buf_fini(&s->input);
    buf_fini(&s->out);
    buf_fini(&s->err);
    free(s->title);
    free(s->command);
}

void cases_free(struct scenario *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free_scenario(&list[i]);
    for (size_t i = 0; i < names_count; i++) {
        free(names[i].name);
        free(names[i].text);
    }
    names_count = 0;
    free(list);
}

void case_begin(const struct scenario *s)
{
    current_file = s->file;
    now = time(NULL);
}
