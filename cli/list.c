/* See list.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/list.h"
#include "cli/print.h"
#include "cli/table.h"
#include "cli/tree.h"
#include "proto/base/clock.h"
#include "proto/base/mem.h"

static const struct column *find_column(const struct list_kind *kind, const char *name)
{
    for (size_t i = 0; i < kind->columns_count; i++)
        if (strcmp(kind->columns[i].name, name) == 0)
            return &kind->columns[i];
    return NULL;
}

static bool row_column(const void *context, const char *name, struct buf *out, bool *ret_bool)
{
    const struct row *row = context;
    const struct column *column = find_column(row->list->kind, name);

    if (!column)
        return false;
    *ret_bool = column->is_bool;
    if (row->header)
        buf_append_str(out, column->header);
    else
        column->show(row, out);
    return true;
}

/* A label's value; above its column, the last part of its name with blanks for dashes. */
static void row_label(const void *context, const char *name, struct buf *out)
{
    const struct row *row = context;
    const char *dot = strrchr(name, '.');

    if (!row->header) {
        json_t *value = json_object_get(tree_get(row->object, row->list->kind->labels), name);

        buf_append_str(out, json_is_string(value) ? json_string_value(value) : "");
        return;
    }
    for (const char *c = dot ? dot + 1 : name; *c; c++)
        buf_append_char(out, *c == '-' || *c == '_' ? ' ' : *c);
}

static void row_json(const void *context, struct jwrite *j)
{
    const struct row *row = context;
    const struct list_kind *kind = row->list->kind;

    jwrite_object(j, NULL);
    for (size_t i = 0; i < kind->columns_count; i++) {
        AUTO_BUF struct buf text = {0};

        kind->columns[i].show(row, &text);
        if (kind->columns[i].is_bool)
            jwrite_bool(j, kind->columns[i].name, strcmp(buf_str(&text), "true") == 0);
        else
            jwrite_string_n(j, kind->columns[i].name, buf_bytes(&text), text.length);
    }
    jwrite_end(j);
}

/* The template that a format means, with \t and \n written out. */
static char *template_text(struct list *l, const char *format, bool quiet)
{
    const struct list_kind *kind = l->kind;
    struct buf text = {0};

    if (!*format || strcmp(format, "table") == 0) {
        l->is_table = !quiet;
        format = quiet ? kind->quiet : kind->table;
    } else if (kind->raw && strcmp(format, "raw") == 0) {
        format = quiet ? kind->raw_quiet : kind->raw;
    } else if (strcmp(format, "json") == 0) {
        format = "{{json .}}";
    } else if (strncmp(format, "table", 5) == 0) {
        l->is_table = true;
        format += 5;
    }
    format += strspn(format, " ");
    size_t length = strlen(format);
    while (length && format[length - 1] == ' ')
        length--;
    for (size_t i = 0; i < length; i++) {
        bool escape = format[i] == '\\' && i + 1 < length && (format[i + 1] == 't' || format[i + 1] == 'n');

        buf_append_char(&text, !escape ? format[i] : format[++i] == 't' ? '\t' : '\n');
    }
    return buf_steal(&text);
}

int list_open(struct list *l, const struct list_kind *kind, const char *format, bool quiet, bool truncate,
              struct err *e)
{
    *l = (struct list){.kind = kind, .truncate = truncate, .now_ms = clock_wall_ms(clock_real())};
    AUTO_FREE
    char *text = template_text(l, format, quiet);
    int rc = template_parse(text, &l->template, e);

    return rc < 0 ? err_wrap(e, "template parsing error") : 0;
}

static int run(struct list *l, const struct row *row, struct buf *out, struct err *e)
{
    const struct template_rows rows = {
        .noun = l->kind->noun, .column = row_column, .label = l->kind->labels ? row_label : NULL, .json = row_json};
    const struct template_data data = {.rows = &rows, .row = row, .header = row->header};

    return template_run(l->template, &data, out, e);
}

int list_add(struct list *l, const json_t *object, const void *context, struct err *e)
{
    const struct row row = {.list = l, .object = object, .context = context};
    int rc = run(l, &row, &l->out, e);

    if (rc < 0)
        return err_wrap(e, "template parsing error");
    buf_append_char(&l->out, '\n');
    return 0;
}

int list_check(struct list *l, struct err *e)
{
    const struct row header = {.list = l, .header = true};
    AUTO_BUF struct buf out = {0};

    return run(l, &header, &out, e);
}

int list_close(struct list *l, struct err *e)
{
    static const struct table_shape shape = {.width_min = 10, .padding = 3};
    const struct row header = {.list = l, .header = true};
    AUTO_BUF struct buf whole = {0};
    AUTO_BUF struct buf laid_out = {0};

    if (!l->is_table) {
        cli_print(&l->out);
        return 0;
    }
    (void)run(l, &header, &whole, NULL); /* what a header cannot show stays blank */
    buf_append_char(&whole, '\n');
    buf_append(&whole, buf_bytes(&l->out), l->out.length);
    table_layout(&laid_out, buf_str(&whole), whole.length, shape);
    cli_print(&laid_out);
    return 0;
}

void list_fini(struct list *l)
{
    template_free(l->template);
    buf_fini(&l->out);
    *l = (struct list){0};
}

bool list_reads(const struct list *l, const char *column)
{
    return template_reads(l->template, column);
}

/* --- shared columns ---------------------------------------------------------------------------------------------
 */

static void add_label(void *context, const char *name, json_t *value)
{
    struct buf *out = context;

    buf_printf(out, "%s%s=%s", out->length ? "," : "", name, json_is_string(value) ? json_string_value(value) : "");
}

void show_labels(const struct row *row, struct buf *out)
{
    AUTO_BUF struct buf text = {0};

    tree_sorted(tree_get(row->object, row->list->kind->labels), add_label, &text);
    buf_append(out, buf_bytes(&text), text.length);
}

void show_age(const struct row *row, int64_t seconds, struct buf *out)
{
    char text[PRINT_TEXT];

    print_age(row->list->now_ms / 1000 - seconds, text);
    buf_printf(out, "%s ago", text);
}

void show_local_time(int64_t seconds, struct buf *out)
{
    time_t moment = (time_t)seconds;
    char text[PRINT_TEXT] = "";
    struct tm tm;

    if (localtime_r(&moment, &tm) && strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %z %Z", &tm))
        buf_append_str(out, text);
}

void show_id(const struct row *row, const char *id, struct buf *out)
{
    char text[13];

    buf_append_str(out, row->list->truncate ? cli_short_id(id, text) : id);
}

struct sorted {
    const char *key;
    json_t *value;
    size_t place; /* equal keys keep their order */
};

static int by_key(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    int order = print_natural(x->key, y->key);

    return order ? order : x->place < y->place ? -1 : 1;
}

void list_sort(json_t *array, const char *path)
{
    size_t count = json_array_size(array);
    AUTO_FREE
    struct sorted *sorted = mem_array(count, sizeof(*sorted));

    for (size_t i = 0; i < count; i++) {
        json_t *value = json_array_get(array, i);

        sorted[i] = (struct sorted){.key = tree_text(value, path), .value = json_incref(value), .place = i};
    }
    qsort(sorted, count, sizeof(*sorted), by_key);
    for (size_t i = 0; i < count; i++)
        (void)json_array_set_new(array, i, sorted[i].value); /* the place exists */
}
