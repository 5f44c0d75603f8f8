/* Output templates: the subset of Go's text/template that people use with docker's --format.
 *
 * Actions: {{.Field.Sub}}, {{$variable}}, pipelines with |, parentheses, literals; if, else if, else, range (with
 * one or two variables, else, break, continue), with, end; comments; trim markers {{- and -}}. Functions: and, or,
 * not, eq, ne, lt, le, gt, ge, len, index, slice, print, println, printf, html, urlquery, and docker's json, join,
 * split, title, lower, upper, pad, truncate. Not offered, with an error that says so: define, template, block.
 *
 * A template runs over a JSON tree or over a row of a table, whose columns are computed when they are asked for. */
#pragma once

#include <stdbool.h>

#include "proto/base/jread.h"
#include "proto/base/jwrite.h"

struct template;

/* Rows of a table as a template sees them. */
struct template_rows {
    const char *noun; /* for messages: "container" */
    /* Append the column's text to `out`; false when there is no such column. *ret_bool: it is "true" or "false". */
    bool (*column)(const void *row, const char *name, struct buf *out, bool *ret_bool);
    /* Append the value of a label ({{.Label "name"}}); NULL when rows have none. */
    void (*label)(const void *row, const char *name, struct buf *out);
    /* Write the row as a JSON object ({{json .}}). */
    void (*json)(const void *row, struct jwrite *j);
};

struct template_data {
    const json_t *json;               /* the dot, unless rows is set; borrowed */
    const struct template_rows *rows; /* how to read `row`; borrowed */
    const void *row;                  /* the dot when rows is set; borrowed */
    bool header;                      /* columns give their headers, and functions leave them alone */
    /* What a member that an object lacks stands for: '"' empty text, '0' zero, 'f' false, '[' empty list, '{' empty
     * object, '*' nil, '-' a key that a map lacks; 0 for unknown, which is an error. `of` is the name of the object
     * ("" when it has none). NULL: every missing member is an error. */
    char (*zero)(const char *of, const char *member);
};

/* Parse `text`; the error begins with "template: :LINE: ". */
int template_parse(const char *text, struct template **ret, struct err *e);
void template_free(struct template *t);

/* Append what the template makes of `data` to `out`. When it fails `out` holds what came before the error. */
int template_run(const struct template *t, const struct template_data *data, struct buf *out, struct err *e);

/* Whether the template reads the member `name` of the dot anywhere. */
bool template_reads(const struct template *t, const char *name);
