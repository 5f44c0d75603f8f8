/* See progress.h. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/print.h"
#include "cli/progress.h"
#include "cli/tree.h"
#include "proto/base/mem.h"

#define MESSAGE_MAX (1024 * 1024) /* bytes of one message of a stream */
#define LINES_MAX   4096          /* ids that are remembered */

struct progress_line {
    char *id, *text;
};

static void forget(struct progress *p)
{
    for (size_t i = 0; i < p->count; i++) {
        free(p->lines[i].id);
        free(p->lines[i].text);
    }
    p->count = 0;
}

void progress_init(struct progress *p, FILE *out, bool terminal)
{
    *p = (struct progress){.out = out, .terminal = terminal};
}

void progress_fini(struct progress *p)
{
    forget(p);
    free(p->lines);
    *p = (struct progress){0};
}

static int columns(void)
{
    struct winsize size;

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 200;
}

static void counts(const struct progress_bar *bar, struct buf *out)
{
    char current[PRINT_TEXT], total[PRINT_TEXT];
    bool beyond = bar->current > bar->total; /* more than announced: the total is wrong */

    if (bar->units) {
        if (beyond)
            buf_printf(out, "%lld %s", (long long)bar->current, bar->units);
        else
            buf_printf(out, "%lld/%lld %s", (long long)bar->current, (long long)bar->total, bar->units);
        return;
    }
    print_size((double)bar->current, 4, current);
    print_size((double)bar->total, 4, total);
    buf_printf(out, "%8s%s%s", current, beyond ? "" : "/", beyond ? "" : total);
}

void progress_bar_text(const struct progress_bar *bar, int width, struct buf *out)
{
    if (bar->current <= 0 && bar->total <= 0)
        return;
    if (bar->total <= 0) {
        char current[PRINT_TEXT];

        if (bar->units) {
            buf_printf(out, "%lld %s", (long long)bar->current, bar->units);
        } else {
            print_size((double)bar->current, 4, current);
            buf_printf(out, "%8s", current);
        }
        return;
    }
    int full = (int)((double)bar->current / (double)bar->total * 100) / 2;
    full = MAX(MIN(full, 50), 0);
    if (width > 110) {
        buf_append_char(out, '[');
        for (int i = 0; i < full; i++)
            buf_append_char(out, '=');
        buf_printf(out, ">%*s] ", 50 - full, "");
    }
    if (!bar->hide_counts)
        counts(bar, out);
}

/* The line of this id, from the top; a new one at the end when there is none. */
static size_t line_of(struct progress *p, const char *id, bool *ret_new)
{
    *ret_new = false;
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->lines[i].id, id) == 0)
            return i;
    if (p->count == LINES_MAX)
        forget(p);
    p->lines = mem_grow(p->lines, p->count + 1, sizeof(*p->lines));
    p->lines[p->count] = (struct progress_line){.id = mem_strdup(id), .text = mem_strdup("")};
    *ret_new = true;
    return p->count++;
}

void progress_update(struct progress *p, const char *id, const char *text, const struct progress_bar *bar)
{
    AUTO_BUF struct buf bar_text = {0};
    bool is_new;
    size_t line = line_of(p, id, &is_new);

    if (bar)
        progress_bar_text(bar, columns(), &bar_text);
    if (!p->terminal) {
        if (bar_text.length || (!is_new && strcmp(p->lines[line].text, text) == 0))
            return;
        free(p->lines[line].text);
        p->lines[line].text = mem_strdup(text);
        fprintf(p->out, "%s: %s\n", id, text);
        (void)fflush(p->out);
        return;
    }
    size_t up = p->count - line;
    fprintf(p->out, "%s\033[%zuA\033[2K\r%s: %s %s\r\033[%zuB", is_new ? "\n" : "", up, id, text,
            buf_str(&bar_text), up);
    (void)fflush(p->out);
}

void progress_say(struct progress *p, const char *id, const char *text)
{
    forget(p);
    fprintf(p->out, "%s%s%s\n", id, *id ? ": " : "", text);
    (void)fflush(p->out);
}

/* --- streams ----------------------------------------------------------------------------------------------------
 */

/* Progress of something without an id: the last line, over and over. */
static void show_alone(struct progress *p, const char *status, const struct progress_bar *bar)
{
    AUTO_BUF struct buf text = {0};

    progress_bar_text(bar, columns(), &text);
    if (p->terminal)
        fprintf(p->out, "\033[2K\r%s %s\r", status, buf_str(&text));
    else if (!text.length)
        progress_say(p, "", status);
    (void)fflush(p->out);
}

static int show(struct progress *p, const json_t *message, bool quiet, struct err *e)
{
    const json_t *detail = tree_get(message, "progressDetail");
    const char *id = tree_text(message, "id"), *status = tree_text(message, "status"),
               *stream = tree_text(message, "stream"), *error = tree_text(message, "errorDetail.message");
    struct progress_bar bar = {.current = tree_int(detail, "current"),
                               .total = tree_int(detail, "total"),
                               .hide_counts = tree_bool(detail, "hidecounts"),
                               .units = *tree_text(detail, "units") ? tree_text(detail, "units") : NULL};

    if (!*error)
        error = tree_text(message, "error");
    if (*error || tree_get(message, "errorDetail"))
        return err_set(e, ERR_INTERNAL, "%s", *error ? error : "the operation failed");
    if (quiet || tree_get(message, "aux"))
        return 0;
    if (*stream) {
        forget(p);
        (void)fputs(stream, p->out);
        (void)fflush(p->out);
    } else if (*id && detail) {
        progress_update(p, id, status, &bar);
    } else if (detail) {
        show_alone(p, status, &bar);
    } else {
        progress_say(p, id, status);
    }
    return 0;
}

/* Every whole line that has arrived is a message. */
static int show_lines(struct progress *p, struct buf *in, bool quiet, struct err *e)
{
    const char *newline;

    while ((newline = memchr(buf_bytes(in), '\n', in->length))) {
        size_t length = (size_t)(newline - buf_bytes(in));
        AUTO_JSON json_t *message = NULL;
        int rc = 0;

        if (length > strspn(buf_bytes(in), " \t\r"))
            rc = jread_parse(buf_bytes(in), length, &message, e);
        if (rc == 0 && message)
            rc = show(p, message, quiet, e);
        if (rc < 0)
            return rc;
        buf_consume(in, length + 1);
    }
    if (in->length > MESSAGE_MAX)
        return err_set(e, ERR_LIMIT, "a progress message is larger than %d bytes", MESSAGE_MAX);
    return 0;
}

int progress_messages(struct call *call, FILE *out, bool terminal, bool quiet, struct err *e)
{
    struct progress p;
    AUTO_BUF struct buf in = {0};
    ssize_t got;
    int rc = 0;

    progress_init(&p, out, terminal);
    do {
        got = call_read(call, buf_reserve(&in, 16384), 16384, e);
        if (got > 0)
            buf_added(&in, (size_t)got);
        else if (got == 0 && in.length)
            buf_append_char(&in, '\n'); /* the last message may lack its newline */
        rc = in.length ? show_lines(&p, &in, quiet, e) : 0;
    } while (got > 0 && rc == 0);
    progress_fini(&p);
    return rc < 0 ? rc : (int)got;
}
