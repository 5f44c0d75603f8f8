/* Commands: a tree of tables that dispatch, help and messages are made from.
 *
 * A group has children and no `run`; `shoal service` alone shows its help. Each noun's file defines its commands
 * and its group; command.c holds the root. A command under two names (shoal ps, shoal container ls) is two tables
 * that share everything but the name. */
#pragma once

#include "cli/cli.h"

enum command_section { /* of the root's help */
                       SECTION_PLAIN,
                       SECTION_COMMON,
                       SECTION_MANAGEMENT,
                       SECTION_SWARM,
};

#define COMMAND_TABLES 4

struct command {
    const char *name;
    const char *alias[3];    /* other names within the group */
    const char *usage;       /* what follows the name: "[OPTIONS] IMAGE [COMMAND] [ARG...]" */
    const char *summary;     /* one line, without full stop */
    const char *also;        /* every way to call it, when there are several: "shoal container ls, shoal ps" */
    const char *description; /* for its own help, instead of the summary */
    const struct option *options[COMMAND_TABLES]; /* NULL after the last */
    int words_min, words_max;                     /* -1: any number */
    bool stops_at_word;                           /* the first word ends the options */
    bool needs_option;                            /* without any its help is shown */
    enum command_section section;
    int (*run)(struct cli *cli, const struct args *args, struct err *e);
    const struct command *const *children; /* of a group; NULL after the last */
};

/* Find the command that the words name, parse its options and run it. `argv` is without the program's name. */
int command_run(struct cli *cli, char **argv, struct err *e);

/* The root, for help and tests. */
extern const struct command command_root;

/* The groups and top-level commands, each in its noun's file. */
extern const struct command command_container, command_image, command_network, command_node, command_service,
    command_swarm, command_system, command_volume;
extern const struct command command_attach, command_container_ls, command_create, command_kill, command_logs,
    command_pause, command_ps, command_rename, command_restart, command_rm, command_run_container, command_start,
    command_stop, command_unpause, command_wait;
extern const struct command command_history, command_image_ls, command_images, command_import, command_load,
    command_pull, command_rmi, command_tag;
extern const struct command command_events, command_info, command_inspect, command_version;
