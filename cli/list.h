/* Lists: rows of API objects with docker's computed columns, as a table, as JSON, or through a template.
 *
 * The format is what --format says: nothing or "table" (the kind's own table), "table TEMPLATE", "raw", "json", or
 * a template. Use: list_open, list_add for each object, list_close, which prints; list_fini in any case. */
#pragma once

#include "cli/template.h"
#include "proto/base/buf.h"

struct row {
    const struct list *list;
    const json_t *object; /* as the API gave it */
    const void *context;  /* what the noun needs besides; borrowed */
    bool header;          /* columns give their headers */
};

struct column {
    const char *name;   /* in templates: "CreatedAt" */
    const char *header; /* above its column: "CREATED AT" */
    void (*show)(const struct row *row, struct buf *out);
    bool is_bool; /* shows "true" or "false" */
};

struct list_kind {
    const char *noun;             /* for messages: "container" */
    const struct column *columns; /* in the order of their names */
    size_t columns_count;
    const char *table;     /* the template of its own table */
    const char *quiet;     /* the template with --quiet: "{{.ID}}" */
    const char *raw;       /* the template of "raw"; NULL: none */
    const char *raw_quiet; /* the same with --quiet */
    const char *labels;    /* path of the object's labels; NULL: none */
};

struct list {
    const struct list_kind *kind;
    struct template *template;
    bool is_table;
    bool truncate;  /* ids and texts are cut */
    int64_t now_ms; /* for ages */
    struct buf out;
};

int list_open(struct list *l, const struct list_kind *kind, const char *format, bool quiet, bool truncate,
              struct err *e);
/* Whether the list's template reads columns that the kind has. */
int list_check(struct list *l, struct err *e);
int list_add(struct list *l, const json_t *object, const void *context, struct err *e);
int list_close(struct list *l, struct err *e);
void list_fini(struct list *l);

/* Whether the list's template reads this column. */
bool list_reads(const struct list *l, const char *column);

/* Columns that many kinds share. */
void show_labels(const struct row *row, struct buf *out); /* "a=b,c=d" by kind->labels, in order of keys */
void show_age(const struct row *row, int64_t seconds, struct buf *out); /* "3 minutes ago", from Unix seconds */
void show_local_time(int64_t seconds, struct buf *out);                 /* "2026-11-24 06:14:00 +0000 UTC" */
void show_id(const struct row *row, const char *id, struct buf *out);   /* cut to 12 characters when truncating */

/* Sort an array of objects by the text at `path`, in natural order. */
void list_sort(json_t *array, const char *path);
