/* Names of nodes and services by their ids, asked for once each. */
#pragma once

#include "cli/cli.h"
#include "proto/base/map.h"

struct resolver {
    struct cli *cli;
    bool off;         /* --no-resolve: ids stay ids */
    struct map names; /* id to struct resolver_name */
};

void resolver_init(struct resolver *r, struct cli *cli, bool off);
void resolver_fini(struct resolver *r);

/* The name, or the id when there is none to be had. Borrowed until resolver_fini, or the id itself. */
const char *resolver_node(struct resolver *r, const char *id);
const char *resolver_service(struct resolver *r, const char *id);
