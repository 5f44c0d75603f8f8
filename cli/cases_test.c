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

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/tree.h"
#include "cli/value.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

#define CASES         "cli/cases"
#define CONNS_MAX     64
#define DEADLINE_S    60
#define EXCHANGES_MAX 64
#define SEEN_MAX      512

struct exchange {
    char *method, *path, *body, *header;
    int status;
    char *type;
    struct buf answer;
    int used;
};

struct seen { /* a request that arrived */
    char *method, *path, *body, *auth;
    const struct exchange *exchange; /* that answered it; NULL: none did */
};

struct result {
    struct buf out, err;
    int status;
    struct seen seen[SEEN_MAX];
    size_t seen_count;
};

struct scenario {
    char *title, *command;
    char *env[16];
    size_t env_count;
    struct buf input, out, err;
    struct {
        char *name;
        struct buf text;
    } files[4];
    int exit, columns, file;
    size_t interrupt;
    struct exchange exchanges[EXCHANGES_MAX];
    size_t exchanges_count;
    bool differs_out, differs_err, differs_exit, differs_requests;
};

struct conn {
    int fd;
    struct buf in;
};

struct server {
    int listener;
    struct conn conns[CONNS_MAX];
    struct scenario *scenario;
    struct result *result;
};

static char directory[] = "/tmp/shoal-cli-cases-XXXXXX";
static char *socket_path, *config_path;

static struct {
    char *name, *text;
    int file; /* that knows it */
} names[256]; /* what "let" named */
static size_t names_count;

static int current_file; /* the file that is read, or whose case runs */
static time_t now;       /* when the case began */

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

static void put_expanded(struct buf *out, const char *text)
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
            put_expanded(out, meant);
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
    assert_true(s->exchanges_count < EXCHANGES_MAX);
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

static size_t load_file(const char *name, struct scenario **list, size_t count)
{
    AUTO_BUF struct buf text = {0};
    AUTO_FREE
    char *path = mem_printf("%s/%s", CASES, name);
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

static size_t load_all(struct scenario **list)
{
    DIR *dir = opendir(CASES);
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
        count = load_file(files[i], list, count);
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

/* --- evening out ------------------------------------------------------------------------------------------------
 */

static void replace_all(struct buf *text, const char *from, const char *to)
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
        replace_all(text, pairs[i][0], pairs[i][1]);
    AUTO_FREE
    char *copy = mem_strdup(buf_str(text));
    for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        size_t length = strlen(line);
        AUTO_FREE
        char *whole = mem_printf("\n%s\n", line);
        bool progress = strstr(line, "overall progress:") || strstr(line, "verify:");

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
            add_line(&kept, line);
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

/* A path with the parameters of its query in order. */
static char *even_path(const char *path)
{
    AUTO_FREE
    char *copy = mem_strdup(path);
    char *rest = NULL;
    char *question = strchr(copy, '?'), *list[32];
    struct buf out = {0};
    size_t count = 0;

    if (question)
        *question++ = '\0';
    buf_append_str(&out, copy);
    for (char *one = question ? strtok_r(question, "&", &rest) : NULL; one && count < ARRAY_SIZE(list);
         one = strtok_r(NULL, "&", &rest))
        list[count++] = one;
    qsort(list, count, sizeof(*list), by_name);
    for (size_t i = 0; i < count; i++)
        buf_printf(&out, "%c%s", i ? '&' : '?', list[i]);
    replace_all(&out, "+", "%20");
    return buf_steal(&out);
}

/* --- the server -------------------------------------------------------------------------------------------------
 */

static const char *header_of(const char *head, const char *name, char value[512])
{
    AUTO_FREE
    char *pattern = mem_printf("\r\n%s: ", name);
    const char *found = strcasestr(head, pattern);

    *value = '\0';
    if (found)
        (void)snprintf(value, 512, "%.*s", (int)strcspn(found + strlen(pattern), "\r"), found + strlen(pattern));
    return value;
}

/* The exchange that answers: the first unused one of this request, else the last used one. */
static struct exchange *find_exchange(struct scenario *s, const char *method, const char *path)
{
    AUTO_FREE
    char *wanted = even_path(path);
    struct exchange *last = NULL;

    for (size_t i = 0; i < s->exchanges_count; i++) {
        struct exchange *x = &s->exchanges[i];
        AUTO_FREE
        char *even = even_path(x->path);

        if (strcmp(x->method, method) != 0 || strcmp(even, wanted) != 0)
            continue;
        last = x;
        if (!x->used)
            break;
    }
    return last;
}

static const char *reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 204:
        return "No Content";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 409:
        return "Conflict";
    case 500:
        return "Internal Server Error";
    case 503:
        return "Service Unavailable";
    default:
        return "Another";
    }
}

static void answer(struct server *sv, int fd, const char *method, const char *path, struct buf *body,
                   const char *auth)
{
    static const char common[] = "Api-Version: 1.45\r\nOstype: linux\r\nDocker-Experimental: false\r\n"
                                 "Swarm: active/manager\r\n";
    AUTO_BUF struct buf out = {0};
    AUTO_BUF struct buf text = {0};
    struct exchange *x = NULL;
    int status = 200;
    const char *type = "text/plain";

    if (strstr(path, "/_ping")) {
        buf_append_str(&text, "OK");
    } else if (strstr(path, "condition=next-exit") || strstr(path, "condition=removed")) {
        buf_append_str(&text, "{\"StatusCode\":0}"); /* docker run waits also when it will not show the end */
    } else {
        replace_all(body, directory, "/here");
        x = find_exchange(sv->scenario, method, path);
        assert_true(sv->result->seen_count < SEEN_MAX);
        sv->result->seen[sv->result->seen_count++] = (struct seen){.method = mem_strdup(method),
                                                                   .path = mem_strdup(path),
                                                                   .body = mem_strdup(buf_str(body)),
                                                                   .auth = mem_strdup(auth),
                                                                   .exchange = x};
        status = x ? x->status : 404;
        type = x ? x->type : "application/json";
        if (x)
            put_expanded(&text, buf_str(&x->answer));
        else
            buf_printf(&text, "{\"message\":\"no answer to %s %s\"}", method, path);
        if (x)
            x->used++;
    }
    buf_printf(&out, "HTTP/1.1 %d %s\r\n%s", status, reason(status), common);
    if (status == 204 || status == 304)
        buf_append_str(&out, "\r\n");
    else
        buf_printf(&out, "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n", type, text.length);
    if (status != 204 && status != 304 && strcmp(method, "HEAD") != 0)
        buf_append(&out, buf_bytes(&text), text.length);
    for (size_t at = 0; at < out.length;) {
        ssize_t sent = send(fd, buf_bytes(&out) + at, out.length - at, MSG_NOSIGNAL);

        if (sent <= 0)
            return; /* the client went away: what it printed tells */
        at += (size_t)sent;
    }
}

/* The chunks of a body into `body`; the bytes they take, 0 while the last has not come. */
static size_t read_chunks(const char *text, size_t length, struct buf *body)
{
    size_t at = 0;

    for (;;) {
        const char *line = memmem(text + at, length - at, "\r\n", 2);
        size_t size = line ? strtoul(text + at, NULL, 16) : 0;

        if (!line || (size_t)(line - text) + 2 + size + 2 > length)
            return 0;
        at = (size_t)(line - text) + 2;
        buf_append(body, text + at, size);
        at += size + 2;
        if (size == 0)
            return at;
    }
}

/* Answer one whole request at the front of a connection's bytes; false when there is none. */
static bool serve(struct server *sv, struct conn *c)
{
    const char *end = c->in.length ? memmem(buf_bytes(&c->in), c->in.length, "\r\n\r\n", 4) : NULL;
    AUTO_BUF struct buf body = {0};
    char method[16] = "", path[4096] = "", value[512], auth[512];

    if (!end)
        return false;
    size_t head_size = (size_t)(end - buf_bytes(&c->in)) + 4, used = head_size;
    AUTO_FREE
    char *head = mem_strndup(buf_bytes(&c->in), head_size);
    size_t length = strtoul(header_of(head, "Content-Length", value), NULL, 10);
    if (strcasecmp(header_of(head, "Transfer-Encoding", value), "chunked") == 0) {
        size_t chunks = read_chunks(buf_bytes(&c->in) + head_size, c->in.length - head_size, &body);

        if (!chunks)
            return false;
        used += chunks;
    } else if (c->in.length - head_size < length) {
        return false;
    } else {
        buf_append(&body, buf_bytes(&c->in) + head_size, length);
        used += length;
    }
    assert_int_equal(sscanf(head, "%15s %4095s", method, path), 2);
    answer(sv, c->fd, method, path, &body, header_of(head, "X-Registry-Auth", auth));
    buf_consume(&c->in, used);
    return true;
}

static void serve_conn(struct server *sv, struct conn *c)
{
    ssize_t got = recv(c->fd, buf_reserve(&c->in, 65536), 65536, 0);

    if (got <= 0) {
        close(c->fd);
        c->fd = -1;
        buf_fini(&c->in);
        return;
    }
    buf_added(&c->in, (size_t)got);
    while (serve(sv, c))
        ;
}

static void accept_conn(struct server *sv)
{
    int fd = accept4(sv->listener, NULL, NULL, SOCK_CLOEXEC);

    for (size_t i = 0; i < CONNS_MAX; i++) {
        if (sv->conns[i].fd < 0) {
            sv->conns[i].fd = fd;
            return;
        }
    }
    fail_msg("more than %d connections", CONNS_MAX);
}

static int listen_here(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(name.sun_path, sizeof(name.sun_path), "%s", socket_path);
    (void)unlink(socket_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    assert_int_equal(listen(fd, 64), 0);
    return fd;
}

/* --- running ----------------------------------------------------------------------------------------------------
 */

struct process {
    pid_t pid;
    int out, err; /* to read from; -1 once ended */
};

static void set_environment(const struct scenario *s, const char *program)
{
    AUTO_FREE
    char *host = mem_printf("unix://%s", socket_path);

    assert_int_equal(clearenv(), 0);
    (void)setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    (void)setenv("HOME", directory, 1);
    (void)setenv("TZ", "UTC", 1);
    (void)setenv("DOCKER_CONFIG", config_path, 1);
    (void)setenv("DOCKER_HOST", host, 1);
    for (size_t i = 0; i < s->env_count; i++)
        (void)putenv(s->env[i]);
    (void)program;
}

static void run_child(const struct scenario *s, const char *program, int in, int out, int err)
{
    AUTO_ARENA struct arena a;
    const char **words = NULL;
    size_t count = 0;

    arena_init(&a);
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0 || chdir(directory) < 0)
        _exit(99);
    set_environment(s, program);
    if (value_words(&a, s->command, &words, &count, NULL) < 0)
        _exit(99);
    char **argv = arena_array(&a, count + 2, sizeof(*argv));
    argv[0] = (char *)program;
    for (size_t i = 0; i < count; i++)
        argv[i + 1] = (char *)words[i];
    if (strcmp(program, "shoal") != 0) {
        execvp(program, argv);
        _exit(99);
    }
    int status = cli_main((int)count + 1, argv);
    arena_fini(&a);
    (void)fflush(NULL);
    exit(status); /* the sanitizers look for leaks of the command here */
}

static void write_files(struct scenario *s)
{
    int dir;

    assert_int_equal(dir_open(directory, &dir, NULL), 0);
    (void)unlinkat(dir, "config/config.json", 0);
    (void)unlinkat(dir, "id.txt", 0); /* that a case before wrote */
    for (size_t i = 0; i < ARRAY_SIZE(s->files) && s->files[i].name; i++) {
        const struct buf *text = &s->files[i].text;
        int fd = openat(dir, s->files[i].name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, buf_bytes(text), text->length), (ssize_t)text->length);
        close(fd);
    }
    close(dir);
}

static struct process start(const struct scenario *s, const char *program)
{
    struct process p;
    int in[2], out[2] = {-1, -1}, err[2];
    struct winsize size = {.ws_row = 40, .ws_col = (unsigned short)s->columns};

    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    if (s->columns)
        assert_int_equal(openpty(&out[0], &out[1], NULL, NULL, &size), 0);
    else
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    p.pid = fork();
    assert_true(p.pid >= 0);
    if (p.pid == 0)
        close(in[1]); /* the forked program does not exec: nothing else closes it */
    if (p.pid == 0)
        run_child(s, program, in[0], out[1], err[1]);
    close(in[0]);
    close(out[1]);
    close(err[1]);
    (void)!write(in[1], buf_bytes(&s->input), s->input.length); /* small enough for the pipe */
    close(in[1]);
    p.out = out[0];
    p.err = err[0];
    return p;
}

static void drain(int *fd, struct buf *into)
{
    ssize_t got = read(*fd, buf_reserve(into, 65536), 65536);

    if (got > 0) {
        buf_added(into, (size_t)got);
    } else {
        close(*fd);
        *fd = -1;
    }
}

/* Serve until the program has closed its output. */
static void attend(struct server *sv, struct process *p, const char *title)
{
    time_t deadline = time(NULL) + DEADLINE_S;
    size_t interrupt = sv->scenario->interrupt;

    while (p->out >= 0 || p->err >= 0) {
        struct pollfd pollers[CONNS_MAX + 3] = {{.fd = sv->listener, .events = POLLIN},
                                                {.fd = p->out, .events = POLLIN},
                                                {.fd = p->err, .events = POLLIN}};

        for (size_t i = 0; i < CONNS_MAX; i++)
            pollers[3 + i] = (struct pollfd){.fd = sv->conns[i].fd, .events = POLLIN};
        (void)poll(pollers, ARRAY_SIZE(pollers), 1000);
        if (interrupt && sv->result->seen_count >= interrupt) {
            (void)kill(p->pid, SIGINT);
            interrupt = 0;
        }
        if (time(NULL) > deadline) {
            (void)kill(p->pid, SIGKILL);
            print_message("case \"%s\" did not end within %d s\n", title, DEADLINE_S);
            deadline += DEADLINE_S;
        }
        for (size_t i = 0; i < CONNS_MAX; i++)
            if (pollers[3 + i].revents && sv->conns[i].fd >= 0)
                serve_conn(sv, &sv->conns[i]);
        if (pollers[0].revents)
            accept_conn(sv);
        if (pollers[1].revents)
            drain(&p->out, &sv->result->out);
        if (pollers[2].revents)
            drain(&p->err, &sv->result->err);
    }
}

static void run(struct scenario *s, const char *program, struct result *r)
{
    struct server sv = {.listener = listen_here(), .scenario = s, .result = r};
    int status = 0;

    *r = (struct result){0};
    for (size_t i = 0; i < CONNS_MAX; i++)
        sv.conns[i].fd = -1;
    for (size_t i = 0; i < s->exchanges_count; i++)
        s->exchanges[i].used = 0;
    write_files(s);
    struct process p = start(s, program);
    attend(&sv, &p, s->title);
    assert_int_equal(waitpid(p.pid, &status, 0), p.pid);
    r->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    for (size_t i = 0; i < CONNS_MAX; i++) {
        if (sv.conns[i].fd >= 0)
            close(sv.conns[i].fd);
        buf_fini(&sv.conns[i].in);
    }
    close(sv.listener);
    replace_all(&r->out, "\r\n", "\n"); /* a terminal's line ends */
}

static void free_result(struct result *r)
{
    for (size_t i = 0; i < r->seen_count; i++) {
        free(r->seen[i].method);
        free(r->seen[i].path);
        free(r->seen[i].body);
        free(r->seen[i].auth);
    }
    buf_fini(&r->out);
    buf_fini(&r->err);
    r->seen_count = 0;
}

/* What the programs did in the case at hand: kept here so that nothing is lost when an assertion leaves the test.
 */
static const struct scenario *ran;
static struct result ours, theirs;
static struct buf our_requests, their_requests;

static void run_ours(struct scenario *s, const char *program)
{
    free_result(&ours);
    now = time(NULL);
    current_file = s->file;
    ran = s;
    run(s, program, &ours);
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
    replace_all(text, "\033", "␛");
    replace_all(text, "\r", "␍");
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

    put_expanded(&expanded, buf_str(wanted));
    replace_all(&expanded, "␛", "\033");
    replace_all(&expanded, "␍", "\r");
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
    char *lines[SEEN_MAX];
    size_t count = 0;

    for (size_t i = 0; i < r->seen_count; i++) {
        AUTO_FREE
        char *path = even_path(r->seen[i].path);
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
    free_result(&theirs);
    run(s, "docker", &theirs);
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
    if (!mkdtemp(directory))
        return -1;
    socket_path = mem_printf("%s/api.sock", directory);
    config_path = mem_printf("%s/config", directory);
    return mkdir(config_path, 0700);
}

static int tear_down(void **state)
{
    int fd;

    if (dir_open("/tmp", &fd, NULL) == 0) {
        (void)tree_remove(fd, directory + 5, NULL);
        close(fd);
    }
    free(socket_path);
    free(config_path);
    free_result(&ours);
    free_result(&theirs);
    buf_fini(&our_requests);
    buf_fini(&their_requests);
    return 0;
}

int main(void)
{
    struct scenario *list = NULL;
    size_t count = load_all(&list);
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
    for (size_t i = 0; i < count; i++)
        free_scenario(&list[i]);
    for (size_t i = 0; i < names_count; i++) {
        free(names[i].name);
        free(names[i].text);
    }
    free(list);
    free(tests);
    return failed;
}
