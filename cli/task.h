/* Tasks as rows, for `service ps` and `node ps`. */
#pragma once

#include "cli/cli.h"
#include "cli/resolver.h"

struct task_view {
    const char *format;
    bool quiet, truncate;
};

/* Print tasks (an array of the API's objects): by name, the newest of each slot first, older ones indented. */
int task_print(const json_t *tasks, struct resolver *resolver, struct task_view view, struct err *e);
