/* shoald: the node (DESIGN.md section 1). Options, the node loop, and the order in which its parts open and close.
 *
 *     open:   lock the directories -> engine (finds or starts its keeper) -> membership (manager, if this is one)
 *             -> engine ready -> sockets, agent
 *     close:  sockets -> membership (agent, manager) -> engine. Containers and the keeper go on.
 *
 * A second signal while closing ends the process at once: everything on the disk is made for that. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uv.h>

#include "agent/front.h"
#include "agent/swarm.h"
#include "engine/engine.h"
#include "proto/base/entropy.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/base/siphash.h"
#include "proto/wire/mailbox.h"

#define HOSTS_MAX 16

struct options {
    const char *data_dir, *run_dir, *cgroup_parent, *group;
    const char *hosts[HOSTS_MAX];
    size_t host_count;
    unsigned warm_min, warm_max;
    int election_ms, heartbeat_ms;
};

struct node {
    struct options options;
    char instance[17]; /* names what is ours in the kernel */
    uv_loop_t loop;
    struct mailbox mailbox;
    uv_signal_t on_term, on_int;
    struct engine *engine;
    struct swarm *swarm;
    struct front *front;
    bool is_closing;
    int exit_status;
};

/* --- closing, in order ----------------------------------------------------------------------------- */

static void on_mailbox_closed(struct mailbox *m)
{
    (void)m; /* the last handle: the loop ends */
}

static void on_engine_closed(void *ctx)
{
    struct node *node = ctx;

    uv_close((uv_handle_t *)&node->on_term, NULL);
    uv_close((uv_handle_t *)&node->on_int, NULL);
    mailbox_close(&node->mailbox, on_mailbox_closed);
}

static void on_swarm_closed(void *ctx)
{
    struct node *node = ctx;

    node->swarm = NULL;
    engine_close(node->engine, on_engine_closed, node);
}

static void on_front_closed(void *ctx)
{
    struct node *node = ctx;

    node->front = NULL;
    swarm_close(node->swarm, on_swarm_closed, node);
}

static void node_close(struct node *node)
{
    if (node->is_closing)
        _exit(1);
    node->is_closing = true;
    log_info("stopping; containers go on", "%s", "");
    if (node->front)
        front_close(node->front, on_front_closed, node);
    else
        on_front_closed(node);
}

static void on_signal(uv_signal_t *signal, int number)
{
    node_close(signal->data);
}

static void on_fatal(void *ctx, const struct err *e)
{
    struct node *node = ctx;

    log_error("cannot go on", "error=\"%s\"", e->text);
    node->exit_status = 1;
    if (!node->is_closing)
        node_close(node);
}

/* --- opening --------------------------------------------------------------------------------------- */

static void swarm_info_of(void *ctx, struct jwrite *j)
{
    struct node *node = ctx;

    if (node->swarm)
        swarm_info(node->swarm, j);
}

static const char *swarm_header_of(void *ctx)
{
    struct node *node = ctx;

    return node->swarm ? swarm_header(node->swarm) : "inactive";
}

static gid_t socket_group(const struct options *options)
{
    struct group *group = options->group ? getgrnam(options->group) : NULL;

    if (options->group && !group)
        log_warn("no such group: the sockets are for root alone", "group=%s", options->group);
    return group ? group->gr_gid : (gid_t)-1;
}

static void on_engine_ready(void *ctx)
{
    struct node *node = ctx;
    struct err e;

    if (node->is_closing)
        return;
    swarm_engine_ready(node->swarm);
    if (front_open(&node->loop, node->engine, node->swarm, node->options.hosts, node->options.host_count,
                   socket_group(&node->options), &node->front, &e) < 0) {
        on_fatal(node, &e);
        return;
    }
    for (size_t i = 0; i < node->options.host_count; i++)
        log_info("serving", "host=%s", node->options.hosts[i]);
}

/* The directory in which shoald itself lies: its keeper and its jobs lie beside it. */
static int program_dir(char *ret, size_t size, struct err *e)
{
    ssize_t length = readlink("/proc/self/exe", ret, size - 1);

    if (length < 0)
        return err_errno(e, "read /proc/self/exe");
    ret[length] = '\0';
    char *slash = strrchr(ret, '/');
    if (slash)
        *slash = '\0';
    return 0;
}

/* Make a directory ours alone: two daemons on one would destroy each other's state. The lock lives as long as the
 * process. */
static int lock_dir(const char *path, mode_t mode, struct err *e)
{
    AUTO_FREE
    char *lock = mem_printf("%s/shoald.lock", path);
    int rc = dir_make(path, mode, e);

    if (rc < 0)
        return rc;
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, "create %s", lock);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        close(fd);
        return errno == EWOULDBLOCK ? err_set(e, ERR_EXISTS, "another shoald uses %s", path)
                                    : err_errno(e, "lock %s", lock);
    }
    return 0; /* fd stays open on purpose */
}

static int node_open(struct node *node, struct err *e)
{
    char programs[4096], *data_dir;
    int rc = lock_dir(node->options.data_dir, 0711, e);

    if (rc == 0)
        rc = lock_dir(node->options.run_dir, 0711, e);
    if (rc == 0)
        rc = program_dir(programs, sizeof(programs), e);
    if (rc < 0)
        return rc;
    data_dir = realpath(node->options.data_dir, NULL);
    if (!data_dir)
        return err_errno(e, "resolve %s", node->options.data_dir);
    node->options.data_dir = data_dir; /* lives as long as the process */
    (void)snprintf(node->instance, sizeof(node->instance), "%08x",
                   (unsigned)siphash(0, 0, data_dir, strlen(data_dir))); /* fits */
    uv_loop_init(&node->loop);
    uv_signal_init(&node->loop, &node->on_term);
    uv_signal_init(&node->loop, &node->on_int);
    node->on_term.data = node->on_int.data = node;
    uv_signal_start(&node->on_term, on_signal, SIGTERM);
    uv_signal_start(&node->on_int, on_signal, SIGINT);
    rc = mailbox_open(&node->mailbox, &node->loop, node);
    if (rc < 0)
        return err_set(e, rc, "open mailbox: %s", err_name(rc));
    struct engine_config engine = {.loop = &node->loop,
                                   .data_dir = node->options.data_dir,
                                   .run_dir = node->options.run_dir,
                                   .instance = node->instance,
                                   .cgroup_parent = node->options.cgroup_parent,
                                   .program_dir = programs,
                                   .warm_min = node->options.warm_min,
                                   .warm_max = node->options.warm_max,
                                   .ctx = node,
                                   .swarm_info = swarm_info_of,
                                   .swarm_header = swarm_header_of};
    rc = engine_open(&engine, on_engine_ready, &node->engine, e);
    if (rc < 0)
        return rc;
    struct swarm_config swarm = {.loop = &node->loop,
                                 .engine = node->engine,
                                 .mailbox = &node->mailbox,
                                 .data_dir = node->options.data_dir,
                                 .election_ms = node->options.election_ms,
                                 .heartbeat_ms = node->options.heartbeat_ms,
                                 .ctx = node,
                                 .on_fatal = on_fatal};
    node->swarm = swarm_open(&swarm);
    return 0;
}

/* --- options --------------------------------------------------------------------------------------- */

enum {
    OPT_DATA = 1000,
    OPT_RUN,
    OPT_HOST,
    OPT_GROUP,
    OPT_LOG,
    OPT_CGROUP,
    OPT_WARM,
    OPT_ELECTION,
    OPT_HEARTBEAT,
    OPT_VERSION,
    OPT_HELP
};

static const struct option long_options[] = {
    {"data-dir", required_argument, NULL, OPT_DATA},
    {"run-dir", required_argument, NULL, OPT_RUN},
    {"host", required_argument, NULL, OPT_HOST},
    {"group", required_argument, NULL, OPT_GROUP},
    {"log-level", required_argument, NULL, OPT_LOG},
    {"cgroup-parent", required_argument, NULL, OPT_CGROUP},
    {"warm", required_argument, NULL, OPT_WARM},
    {"raft-election-ms", required_argument, NULL, OPT_ELECTION},
    {"raft-heartbeat-ms", required_argument, NULL, OPT_HEARTBEAT},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, OPT_HELP},
    {0},
};

static const char help_text[] =
    "Usage: shoald [OPTIONS]\n"
    "\n"
    "The node of a shoal cluster: container engine, agent and, on managers, the manager.\n"
    "\n"
    "  --data-dir DIR           images, containers, volumes, cluster state (default /var/lib/shoal)\n"
    "  --run-dir DIR            sockets and pipes, on a tmpfs (default /run/shoal)\n"
    "  -H, --host URL           where to serve the API: unix:///path or tcp://address:port; repeatable\n"
    "                           (default unix:///var/run/shoal.sock)\n"
    "  -G, --group NAME         group of the unix sockets (default: root alone)\n"
    "  --log-level LEVEL        debug, info, warn or error (default info)\n"
    "  --cgroup-parent PATH     cgroup below which ours is made (default: the root of each hierarchy)\n"
    "  --warm MIN[:MAX]         sandboxes kept ready for the next containers (default 2:16; 0 for none)\n"
    "  --raft-election-ms N     time without a leader before an election (default 500)\n"
    "  --raft-heartbeat-ms N    between a leader's heartbeats (default 50)\n"
    "  --version                print the version\n"
    "  --help                   print this\n";

static long number_of(const char *text, const char *option, long least, long most)
{
    char *end;

    errno = 0;
    long number = strtol(text, &end, 10);
    if (errno || end == text || (*end && *end != ':') || number < least || number > most) {
        fprintf(stderr, "shoald: invalid --%s %s: expected a number from %ld to %ld\n", option, text, least, most);
        exit(2);
    }
    return number;
}

static void take_warm(struct options *options, const char *text)
{
    const char *colon = strchr(text, ':');

    options->warm_min = (unsigned)number_of(text, "warm", 0, 256);
    options->warm_max = colon ? (unsigned)number_of(colon + 1, "warm", options->warm_min, 256)
                              : MAX(options->warm_min, options->warm_min ? 16u : 0u);
}

static void take_option(struct options *options, int option, const char *value)
{
    switch (option) {
    case OPT_DATA:
        options->data_dir = value;
        break;
    case OPT_RUN:
        options->run_dir = value;
        break;
    case 'H':
    case OPT_HOST:
        if (options->host_count == HOSTS_MAX) {
            fprintf(stderr, "shoald: more than %d --host\n", HOSTS_MAX);
            exit(2);
        }
        options->hosts[options->host_count++] = value;
        break;
    case 'G':
    case OPT_GROUP:
        options->group = value;
        break;
    case OPT_LOG:
        if (log_level_of(value) < 0) {
            fprintf(stderr, "shoald: invalid --log-level %s: expected debug, info, warn or error\n", value);
            exit(2);
        }
        log_set_level((enum log_level)log_level_of(value));
        break;
    case OPT_CGROUP:
        options->cgroup_parent = value;
        break;
    case OPT_WARM:
        take_warm(options, value);
        break;
    case OPT_ELECTION:
        options->election_ms = (int)number_of(value, "raft-election-ms", 50, 60000);
        break;
    case OPT_HEARTBEAT:
        options->heartbeat_ms = (int)number_of(value, "raft-heartbeat-ms", 5, 10000);
        break;
    case OPT_VERSION:
        printf("shoald version " SHOAL_VERSION "\n");
        exit(0);
    case OPT_HELP:
        fputs(help_text, stdout);
        exit(0);
    default:
        fprintf(stderr, "See 'shoald --help'.\n");
        exit(2);
    }
}

static void parse(struct options *options, int argc, char **argv)
{
    int option;

    *options = (struct options){
        .data_dir = "/var/lib/shoal", .run_dir = "/run/shoal", .cgroup_parent = "", .warm_min = 2, .warm_max = 16};
    while ((option = getopt_long(argc, argv, "H:G:", long_options, NULL)) != -1)
        take_option(options, option, optarg);
    if (optind < argc) {
        fprintf(stderr, "shoald: unexpected argument \"%s\"\nSee 'shoald --help'.\n", argv[optind]);
        exit(2);
    }
    if (options->host_count == 0)
        options->hosts[options->host_count++] = "unix:///var/run/shoal.sock";
    if (options->election_ms && options->heartbeat_ms && options->heartbeat_ms * 3 > options->election_ms) {
        fprintf(stderr, "shoald: --raft-heartbeat-ms must be at most a third of --raft-election-ms\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static struct node node;
    struct err e;

    parse(&node.options, argc, argv);
    map_seed(entropy_u64(entropy_real()));
    signal(SIGPIPE, SIG_IGN);
    umask(022);
    if (geteuid() != 0)
        log_warn("not root: containers cannot be started", "uid=%u", (unsigned)geteuid());
    if (node_open(&node, &e) < 0) {
        log_error("cannot start", "error=\"%s\"", e.text);
        return 1;
    }
    uv_run(&node.loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&node.loop); /* the process ends anyway */
    return node.exit_status;
}
