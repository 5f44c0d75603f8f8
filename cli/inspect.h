/* Inspecting objects: their JSON as the node sent it, or through a template. */
#pragma once

#include "cli/cli.h"

/* Fetch one object: its text, and the parsed form for templates. */
typedef int (*inspect_get)(struct cli *cli, void *context, const char *name, struct buf *raw, json_t **ret,
                           struct err *e);

/* Print the objects that the words name, in the format of --format: an indented array, "json" on one line, or a
 * template for each. Objects that cannot be fetched are complained about. */
int inspect_run(struct cli *cli, const struct args *args, inspect_get get, void *context, struct err *e);

/* What a member that the API leaves out when it is empty stands for (see template_data.zero). */
char inspect_zero(const char *of, const char *member);

/* The help of --format, for lists and for inspect. */
#define FORMAT_HELP                                                                                                \
    "How to show it: 'table' (columns, the default), 'table TEMPLATE', 'json' (a line of JSON for each), or a Go " \
    "template"
#define FORMAT_HELP_INSPECT "How to show it: 'json' (on one line) or a Go template"
