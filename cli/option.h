/* Options of commands: tables that parsing, help and shell completion are made from.
 *
 * The grammar is the one docker users know: --name=value, --name value, -n value, -nvalue, -n=value, switches
 * bundled as -aq, switches with a value as --all=false, and -- which ends the options. Words and options may be
 * mixed unless the command takes another command's words (run, create): then the first word ends the options. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"

struct option_type {
    const char *name; /* as help shows it: "list", "duration"; "" for switches */
    bool repeats;     /* every occurrence counts, not only the last */
    /* Check one value; may replace it by another form. NULL: any text. */
    int (*check)(struct arena *a, const char **text, struct err *e);
};

extern const struct option_type option_switch, option_string, option_list, option_map, option_int, option_uint,
    option_uint16, option_uint32, option_float, option_duration, option_duration_positive, option_bytes,
    option_bytes_or_all, option_decimal, option_filter, option_command, option_labels, option_env, option_hosts,
    option_addresses, option_domains, option_mount, option_port, option_network, option_ulimit, option_preference,
    option_generic, option_credential, option_links, option_streams, option_sysctls, option_node_address,
    option_subnets, option_strings;

struct option {
    const char *name;
    char letter; /* 0: none */
    const struct option_type *type;
    const char *standard; /* what holds when it is not given; NULL: nothing, zero, false */
    const char *help;
    bool hidden;            /* not in help */
    const char *deprecated; /* said when it is used: "use --timeout instead" */
};

struct option_given {
    const struct option *option;
    const char *text;
};

/* What a command line said. Texts are borrowed from argv or live in the arena. */
struct args {
    const struct option *const *tables; /* each ends with a nameless option; the list ends with NULL */
    struct option_given *given;
    size_t given_count;
    const char **words;
    size_t words_count;
    bool help; /* --help, or -h where h is no other option */
    struct arena arena;
};

/* Parse. The error's text is docker's: "unknown flag: --x". `a` must be given to args_fini in any case. */
int args_parse(struct args *a, const struct option *const *tables, char *const *argv, bool stop_at_word,
               struct err *e);
void args_fini(struct args *a);

/* What an option says; asking for one that no table has is a bug (asserted). */
bool args_has(const struct args *a, const char *name);         /* given on the command line */
const char *args_text(const struct args *a, const char *name); /* the last one, or the standard, or "" */
bool args_switch(const struct args *a, const char *name);
int64_t args_int(const struct args *a, const char *name);
uint64_t args_uint(const struct args *a, const char *name);
double args_real(const struct args *a, const char *name);
int64_t args_duration(const struct args *a, const char *name); /* nanoseconds */
int64_t args_bytes(const struct args *a, const char *name);
int64_t args_cpus(const struct args *a, const char *name); /* billionths */

/* Every occurrence in order: for (size_t at = 0; (text = args_next(a, "env", &at));) */
const char *args_next(const struct args *a, const char *name, size_t *at);
size_t args_count(const struct args *a, const char *name);

/* The option's rows for help, sorted by name, wrapped at `columns`. */
void options_help(const struct option *const *tables, size_t columns, struct buf *out);

/* The name nearest to `text` among those `next` hands out one by one (NULL ends), when it is near enough to be
 * meant; else NULL. */
const char *nearest_name(const char *text, const char *(*next)(void *context), void *context);
