/* shoald: the node (DESIGN.md section 1). Options, the node loop, and the order in which its parts open and close.
 *
 *     open:   lock the directories -> engine (finds or starts its keeper) -> membership (manager, if this is one)
 *             -> engine ready -> sockets, agent
 *     close:  sockets -> membership (agent, manager) -> engine. Containers and the keeper go on.
 *
 * A second signal while closing ends the process at once: everything on the disk is made for that. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uv.h>

#include "agent/front.h"
#include "agent/options.h"
#include "agent/service.h"
#include "agent/swarm.h"
#include "engine/engine.h"
#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/base/siphash.h"
#include "proto/wire/mailbox.h"

struct node {
    struct options options;
    struct service service; /* what systemd passed */
    char instance[17];      /* names what is ours in the kernel */
    uv_loop_t loop;
    struct mailbox mailbox;
    uv_signal_t on_term, on_int, on_hup;
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
    uv_close((uv_handle_t *)&node->on_hup, NULL);
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
    service_notify(&node->service, "STOPPING=1");
    if (node->front)
        front_close(node->front, on_front_closed, node);
    else
        on_front_closed(node);
}

static void on_signal(uv_signal_t *signal, int number)
{
    node_close(signal->data);
}

static void on_hangup(uv_signal_t *signal, int number)
{
    struct node *node = signal->data;

    log_info("asked to reload: options are read at start alone", "%s", "");
    if (!node->is_closing && node->swarm)
        swarm_look(node->swarm);
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

static void swarm_warnings_of(void *ctx, struct jwrite *j)
{
    struct node *node = ctx;

    if (node->swarm)
        swarm_warnings(node->swarm, j);
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

/* Where nobody was named: on what systemd passed, else on the usual path. */
static int serve(struct node *node, struct err *e)
{
    const struct options *o = &node->options;
    const char *urls[OPTIONS_HOSTS_MAX] = {"unix:///var/run/shoal.sock"};
    bool wants_sockets = o->host_count == 0;
    size_t count = 0;

    for (size_t i = 0; i < o->host_count; i++) {
        if (strcmp(o->hosts[i], "fd://") == 0)
            wants_sockets = true;
        else
            urls[count++] = o->hosts[i];
    }
    if (wants_sockets && o->host_count && node->service.socket_count == 0)
        return err_set(e, ERR_INVALID, "--host fd://: no sockets were passed (LISTEN_FDS)");
    if (o->host_count == 0 && node->service.socket_count == 0)
        count = 1;
    struct front_config config = {.loop = &node->loop,
                                  .engine = node->engine,
                                  .swarm = node->swarm,
                                  .urls = urls,
                                  .url_count = count,
                                  .sockets = node->service.sockets,
                                  .socket_count = wants_sockets ? node->service.socket_count : 0,
                                  .group = socket_group(o)};
    int rc = front_open(&config, &node->front, e);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < count; i++)
        log_info("serving", "host=%s", urls[i]);
    if (config.socket_count)
        log_info("serving", "sockets=%zu", config.socket_count);
    return 0;
}

static void on_engine_ready(void *ctx)
{
    struct node *node = ctx;
    struct err e;

    if (node->is_closing)
        return;
    swarm_engine_ready(node->swarm);
    if (serve(node, &e) < 0)
        on_fatal(node, &e);
    else
        service_notify(&node->service, "READY=1");
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
    uv_signal_init(&node->loop, &node->on_hup);
    node->on_term.data = node->on_int.data = node->on_hup.data = node;
    uv_signal_start(&node->on_term, on_signal, SIGTERM);
    uv_signal_start(&node->on_int, on_signal, SIGINT);
    uv_signal_start(&node->on_hup, on_hangup, SIGHUP);
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
                                   .networks = true,
                                   .ctx = node,
                                   .swarm_info = swarm_info_of,
                                   .swarm_warnings = swarm_warnings_of,
                                   .swarm_header = swarm_header_of};
    rc = engine_open(&engine, on_engine_ready, &node->engine, e);
    if (rc < 0)
        return rc;
    struct swarm_config swarm = {.loop = &node->loop,
                                 .engine = node->engine,
                                 .mailbox = &node->mailbox,
                                 .clock = clock_real(),
                                 .entropy = entropy_real(),
                                 .data_dir = node->options.data_dir,
                                 .election_ms = node->options.election_ms,
                                 .heartbeat_ms = node->options.heartbeat_ms,
                                 .ctx = node,
                                 .on_fatal = on_fatal};
    node->swarm = swarm_open(&swarm);
    return 0;
}

/* Returns -1 to go on, or the status to end with. */
static int read_command_line(struct node *node, int argc, char **argv)
{
    struct err e;

    if (options_read(argc, argv, &node->options, &e) < 0 || service_take(&node->service, &e) < 0) {
        fprintf(stderr, "shoald: %s\nSee 'shoald --help'.\n", e.text);
        return 2;
    }
    if (node->options.what == OPTIONS_RUN)
        return -1;
    if (node->options.what == OPTIONS_HELP)
        fputs(options_usage, stdout);
    else
        printf("shoald version " SHOAL_VERSION "\n");
    return fflush(stdout) == 0 ? 0 : 1;
}

/* A node's memory stays small for months: large buffers go back to the kernel when they are freed instead of
 * raising the size from which on they would (the C library's own rule), and our threads share two heaps, not eight
 * by processor. Without this ten times of init and leave cost 4 MiB for good. */
static void keep_memory_small(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 512 << 10);
    (void)mallopt(M_TRIM_THRESHOLD, 128 << 10);
    (void)mallopt(M_ARENA_MAX, 2);
}

int main(int argc, char **argv)
{
    static struct node node;
    struct err e;
    int status = read_command_line(&node, argc, argv);

    if (status >= 0)
        return status;
    log_set_level(node.options.log_level);
    keep_memory_small();
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
