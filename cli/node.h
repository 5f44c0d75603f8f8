/* What other commands need of nodes. */
#pragma once

#include "cli/cli.h"

/* Put the node's id for "self" in the filter "node". */
int node_filter_names(struct cli *cli, json_t *filters, struct err *e);
