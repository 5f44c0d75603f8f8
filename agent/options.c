/* See options.h.
 *
 * One table names the options, one function per kind of value reads it. The API gives whoever reaches it root on
 * this machine, and until it is served with TLS only addresses that nobody else can reach are accepted; the check
 * stands here so that a wrong address is an error of the command line, before anything was started. */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "agent/options.h"
#include "proto/base/mem.h"
#include "proto/wire/tcp.h"

enum { DATA = 1000, RUN, HOST, GROUP, LOG, CGROUP, WARM, ELECTION, HEARTBEAT, VERSION, HELP };

static const struct option long_options[] = {
    {"data-dir", required_argument, NULL, DATA},
    {"run-dir", required_argument, NULL, RUN},
    {"host", required_argument, NULL, HOST},
    {"group", required_argument, NULL, GROUP},
    {"log-level", required_argument, NULL, LOG},
    {"cgroup-parent", required_argument, NULL, CGROUP},
    {"warm", required_argument, NULL, WARM},
    {"raft-election-ms", required_argument, NULL, ELECTION},
    {"raft-heartbeat-ms", required_argument, NULL, HEARTBEAT},
    {"version", no_argument, NULL, VERSION},
    {"help", no_argument, NULL, HELP},
    {0},
};

const char options_usage[] =
    "Usage: shoald [OPTIONS]\n"
    "\n"
    "The node of a shoal cluster: container engine, agent and, on managers, the manager.\n"
    "\n"
    "  --data-dir DIR           images, containers, volumes, cluster state (default /var/lib/shoal)\n"
    "  --run-dir DIR            sockets and pipes, on a tmpfs (default /run/shoal)\n"
    "  -H, --host URL           where to serve the API: unix:///path, tcp://127.0.0.1:port, or fd:// for the\n"
    "                           sockets that systemd passes; repeatable (default: these if there are any,\n"
    "                           else unix:///var/run/shoal.sock)\n"
    "  -G, --group NAME         group of the unix sockets (default: root alone)\n"
    "  --log-level LEVEL        debug, info, warn or error (default info)\n"
    "  --cgroup-parent PATH     cgroup below which ours is made (default: the root of each hierarchy)\n"
    "  --warm MIN[:MAX]         sandboxes kept ready for the next containers (default 2:16; 0 for none)\n"
    "  --raft-election-ms N     time without a leader before an election (default 500)\n"
    "  --raft-heartbeat-ms N    between a leader's heartbeats (default 50)\n"
    "  --version                print the version\n"
    "  --help                   print this\n"
    "\n"
    "SIGTERM and SIGINT end the node, its containers go on; SIGHUP makes it look at once whether its certificate\n"
    "is due.\n";

static const char *name_of(int option)
{
    for (const struct option *o = long_options; o->name; o++)
        if (o->val == option)
            return o->name;
    return "?";
}

/* --- values ---------------------------------------------------------------------------------------- */

/* A number that ends at one of `ends` (its terminating zero counts). */
static int read_number(const char *text, const char *ends, long least, long most, int option, const char *whole,
                       long *ret, struct err *e)
{
    char *end;

    errno = 0;
    long number = strtol(text, &end, 10);
    if (errno || end == text || text[0] < '0' || text[0] > '9' || (*end && !strchr(ends, *end)) || number < least ||
        number > most)
        return err_set(e, ERR_INVALID, "invalid --%s \"%s\": expected a number from %ld to %ld", name_of(option),
                       whole, least, most);
    *ret = number;
    return 0;
}

static int read_ms(int option, const char *value, long least, long most, int *ret, struct err *e)
{
    long number = 0;
    int rc = read_number(value, "", least, most, option, value, &number, e);

    if (rc == 0)
        *ret = (int)number;
    return rc;
}

static int read_warm(struct options *o, const char *value, struct err *e)
{
    const char *colon = strchr(value, ':');
    long least = 0, most = 0;
    int rc = read_number(value, ":", 0, 256, WARM, value, &least, e);

    if (rc == 0 && colon)
        rc = read_number(colon + 1, "", least, 256, WARM, value, &most, e);
    if (rc < 0)
        return rc;
    o->warm_min = (unsigned)least;
    o->warm_max = colon ? (unsigned)most : least ? MAX((unsigned)least, 16u) : 0;
    return 0;
}

static int read_text(int option, const char *value, const char *expected, const char **ret, struct err *e)
{
    if (!*value)
        return err_set(e, ERR_INVALID, "invalid --%s \"\": expected %s", name_of(option), expected);
    *ret = value;
    return 0;
}

/* The keeper would refuse it, again and again. */
static int read_group_path(const char *value, const char **ret, struct err *e)
{
    if (strstr(value, ".."))
        return err_set(e, ERR_INVALID, "invalid --cgroup-parent \"%s\": expected a path without \"..\"", value);
    *ret = value;
    return 0;
}

static int read_level(struct options *o, const char *value, struct err *e)
{
    int level = log_level_of(value);

    if (level < 0)
        return err_set(e, ERR_INVALID, "invalid --log-level \"%s\": expected debug, info, warn or error", value);
    o->log_level = (enum log_level)level;
    return 0;
}

static int check_tcp(const char *url, struct err *e)
{
    struct sockaddr_storage address;
    socklen_t size;
    struct err why;

    if (tcp_parse(url + strlen("tcp://"), &address, &size, &why) < 0)
        return err_set(e, ERR_INVALID, "invalid --host \"%s\": expected a numeric address and a port, as %s", url,
                       "tcp://127.0.0.1:2375");
    if (!tcp_is_loopback(&address))
        return err_set(e, ERR_INVALID,
                       "invalid --host \"%s\": the API gives whoever reaches it root on this machine and is not "
                       "served to others without TLS, which shoal " SHOAL_VERSION
                       " does not offer here: use a unix socket (and ssh), or an address of 127.0.0.0/8 or [::1]",
                       url);
    return 0;
}

static int read_host(struct options *o, const char *url, struct err *e)
{
    if (strncmp(url, "unix://", 7) == 0) {
        if (url[7] != '/' || strlen(url + 7) >= sizeof(((struct sockaddr_un *)0)->sun_path))
            return err_set(e, ERR_INVALID,
                           "invalid --host \"%s\": expected an absolute path shorter than %zu bytes", url,
                           sizeof(((struct sockaddr_un *)0)->sun_path));
    } else if (strncmp(url, "tcp://", 6) == 0) {
        if (check_tcp(url, e) < 0)
            return ERR_INVALID;
    } else if (strcmp(url, "fd://") != 0) {
        return err_set(e, ERR_INVALID, "invalid --host \"%s\": expected unix:///path, tcp://address:port or fd://",
                       url);
    }
    for (size_t i = 0; i < o->host_count; i++)
        if (strcmp(o->hosts[i], url) == 0)
            return err_set(e, ERR_INVALID, "--host \"%s\" was given twice", url);
    if (o->host_count == OPTIONS_HOSTS_MAX)
        return err_set(e, ERR_INVALID, "--host \"%s\": more than %d of them", url, OPTIONS_HOSTS_MAX);
    o->hosts[o->host_count++] = url;
    return 0;
}

/* --- options --------------------------------------------------------------------------------------- */

static int take(struct options *o, int option, const char *value, struct err *e)
{
    switch (option) {
    case DATA:
        return read_text(option, value, "a directory", &o->data_dir, e);
    case RUN:
        return read_text(option, value, "a directory", &o->run_dir, e);
    case 'H':
    case HOST:
        return read_host(o, value, e);
    case 'G':
    case GROUP:
        return read_text(GROUP, value, "the name of a group", &o->group, e);
    case LOG:
        return read_level(o, value, e);
    case CGROUP:
        return read_group_path(value, &o->cgroup_parent, e);
    case WARM:
        return read_warm(o, value, e);
    case ELECTION:
        return read_ms(option, value, 50, 60000, &o->election_ms, e);
    case HEARTBEAT:
        return read_ms(option, value, 5, 10000, &o->heartbeat_ms, e);
    case VERSION:
        o->what = o->what == OPTIONS_HELP ? OPTIONS_HELP : OPTIONS_VERSION;
        return 0;
    default: /* HELP: the table holds no other */
        o->what = OPTIONS_HELP;
        return 0;
    }
}

/* What getopt could not read. `word`: the last one it looked at. */
static int refuse(int why, const char *word, struct err *e)
{
    bool is_short = optopt > 0 && optopt < DATA;

    if (why == ':')
        return is_short ? err_set(e, ERR_INVALID, "option -%c needs a value", optopt)
                        : err_set(e, ERR_INVALID, "option --%s needs a value", name_of(optopt));
    if (is_short)
        return err_set(e, ERR_INVALID, "unknown option -%c", optopt);
    if (optopt)
        return err_set(e, ERR_INVALID, "option \"%s\": --%s takes no value", word, name_of(optopt));
    return err_set(e, ERR_INVALID, "unknown option \"%s\"", word);
}

static int check_together(const struct options *o, struct err *e)
{
    int election_ms = o->election_ms ? o->election_ms : 500, heartbeat_ms = o->heartbeat_ms ? o->heartbeat_ms : 50;

    if (heartbeat_ms * 3 > election_ms)
        return err_set(e, ERR_INVALID,
                       "--raft-heartbeat-ms %d is more than a third of --raft-election-ms %d: a lost message would "
                       "be taken for a lost leader",
                       heartbeat_ms, election_ms);
    if (strcmp(o->data_dir, o->run_dir) == 0)
        return err_set(e, ERR_INVALID, "--data-dir and --run-dir are both %s: they must be two directories",
                       o->data_dir);
    return 0;
}

int options_read(int argc, char **argv, struct options *ret, struct err *e)
{
    struct options o = {.data_dir = "/var/lib/shoal",
                        .run_dir = "/run/shoal",
                        .cgroup_parent = "",
                        .warm_min = 2,
                        .warm_max = 16,
                        .log_level = LOG_LEVEL_INFO};
    int option;

    optind = 0; /* begin anew, whatever was read before */
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":H:G:", long_options, NULL)) != -1) {
        if (option == '?' || option == ':')
            return refuse(option, argv[optind - 1], e);
        if (take(&o, option, optarg, e) < 0)
            return ERR_INVALID;
    }
    if (optind < argc)
        return err_set(e, ERR_INVALID, "unexpected argument \"%s\"", argv[optind]);
    if (o.what == OPTIONS_RUN && check_together(&o, e) < 0)
        return ERR_INVALID;
    *ret = o;
    return 0;
}
