/* What shoald is told on its command line. */
#pragma once

#include <stddef.h>

#include "proto/base/err.h"
#include "proto/base/log.h"

#define OPTIONS_HOSTS_MAX 16

struct options {
    enum { OPTIONS_RUN, OPTIONS_VERSION, OPTIONS_HELP } what;
    const char *data_dir, *run_dir;       /* all texts are of the command line, or static */
    const char *cgroup_parent;            /* "": the root of each hierarchy */
    const char *group;                    /* of unix sockets; NULL: root alone */
    const char *hosts[OPTIONS_HOSTS_MAX]; /* "unix:///path", "tcp://address:port", "fd://" */
    size_t host_count;                    /* 0: none was named */
    unsigned warm_min, warm_max;
    int election_ms, heartbeat_ms; /* 0: defaults */
    enum log_level log_level;
};

extern const char options_usage[];

/* Read a command line; argv may be permuted. ERR_INVALID names the option and its value. Nothing is printed, and
 * nothing outside of *ret is changed (but for getopt's own variables). */
int options_read(int argc, char **argv, struct options *ret, struct err *e);
