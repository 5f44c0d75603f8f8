/* `prune`: remove what nothing uses, and say what went. */
#pragma once

#include "cli/cli.h"

struct prune {
    const char *path;                  /* "/volumes/prune" */
    const char *title;                 /* "Volumes": of the list, and as the answer's key begins */
    const char *warning;               /* "WARNING! This will remove all stopped containers." */
    bool tells_size;                   /* the answer has the space that was won */
    void (*print)(const json_t *item); /* one of what went; NULL: they are texts */
};

/* Ask first unless --force. */
int cli_prune(struct cli *cli, const struct args *args, const struct prune *p, const json_t *filters,
              struct err *e);
