/* shoal-keeper: launches containers and keeps them, while shoald comes and goes (DESIGN.md sections 1 and 7).
 *
 *     shoal-keeper --run-dir DIR --instance NAME [--cgroup-parent GROUP] [--log-level LEVEL]
 *
 * Started by shoald, it first executes a sealed copy of itself, then leaves its starter: a second process, session
 * and working directory of its own. The first one waits until the second serves, and ends with its success or
 * prints its error. One keeper serves a run directory; a lock sees to that.
 *
 * Other ways it is started, all by itself: --log (the logger), --resume (after an upgrade, in the place of the
 * program before), --accepts (to say whether it could resume from a state).
 *
 * It is a subreaper: processes whose parents died inside containers that share the host's process ids end up here
 * and are reaped; boxes' own children are told by their descriptors. It asks for oom_score_adj -1000. Its stderr is
 * opened anew without blocking, since the reader at the other end (a terminal, a pipe) may stop reading one day. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/keeper/group.h"
#include "engine/keeper/logger.h"
#include "engine/keeper/self.h"
#include "engine/keeper/server.h"
#include "proto/base/entropy.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"

static const char usage[] =
    "usage: shoal-keeper --run-dir DIR --instance NAME [--cgroup-parent GROUP] [--log-level LEVEL]\n"
    "Launches and keeps containers; started by shoald.\n";

struct options {
    const char *run_dir, *instance, *cgroup_parent, *log_level;
    const char *log, *run_fd, *resume, *accepts; /* numbers of descriptors */
};

/* --- arguments ------------------------------------------------------------------------------------- */

static int parse(int argc, char **argv, struct options *o)
{
    const struct {
        const char *name;
        const char **value;
    } known[] = {
        {"--run-dir", &o->run_dir},     {"--instance", &o->instance}, {"--cgroup-parent", &o->cgroup_parent},
        {"--log-level", &o->log_level}, {"--log", &o->log},           {"--run-fd", &o->run_fd},
        {"--resume", &o->resume},       {"--accepts", &o->accepts}};

    for (int i = 1; i < argc; i++) {
        size_t k = 0;

        if (strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "--help") == 0) {
            printf("%s", argv[i][2] == 'v' ? "shoal-keeper " SHOAL_VERSION "\n" : usage);
            exit(0);
        }
        while (k < ARRAY_SIZE(known) && strcmp(argv[i], known[k].name) != 0)
            k++;
        if (k == ARRAY_SIZE(known) || i + 1 == argc) {
            fprintf(stderr, "shoal-keeper: %s %s\n%s", k == ARRAY_SIZE(known) ? "unknown argument" : "no value for",
                    argv[i], usage);
            return -1;
        }
        *known[k].value = argv[++i];
    }
    return 0;
}

static int descriptor(const char *text)
{
    char *end;
    long number = strtol(text, &end, 10);

    return *text && !*end && number >= 3 && number < 1 << 20 ? (int)number : -1;
}

/* What the program after us is started with: our own arguments without --resume. */
static char **own_arguments(const struct options *o)
{
    char **argv = mem_array(10, sizeof(char *));
    unsigned count = 0;

    argv[count++] = mem_strdup("shoal-keeper");
    argv[count++] = mem_strdup("--run-dir");
    argv[count++] = mem_strdup(o->run_dir);
    argv[count++] = mem_strdup("--instance");
    argv[count++] = mem_strdup(o->instance);
    argv[count++] = mem_strdup("--cgroup-parent");
    argv[count++] = mem_strdup(o->cgroup_parent ? o->cgroup_parent : "");
    argv[count++] = mem_strdup("--log-level");
    argv[count++] = mem_strdup(o->log_level ? o->log_level : "info");
    return argv;
}

/* --- the process ----------------------------------------------------------------------------------- */

/* 0, 1 and 2 are open, whatever we were given, so that no other descriptor ever gets these numbers. */
static void fill_standard_fds(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd < 3);
    if (fd >= 3)
        close(fd);
    for (fd = 0; fd < 3; fd++)
        (void)fcntl(fd, F_SETFD, 0); /* the sealed copy needs them too */
}

/* Our own description of stderr, without blocking. A socket cannot be opened again: there a write gives up soon. */
static void settle_stderr(void)
{
    const struct timeval soon = {.tv_usec = 20000};
    int fd = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (fd < 0) {
        (void)setsockopt(2, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon)); /* not a socket: nothing to be done */
        return;
    }
    if (dup2(fd, 2) < 0)
        log_warn("stderr may block", "error=\"%s\"", strerror(errno));
    close(fd);
}

static void leave_starter(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)setsid(); /* a child is never a group's leader: cannot fail */
    if (null >= 0) {
        (void)dup2(null, 0);
        (void)dup2(null, 1);
        close(null);
    }
    settle_stderr();
    if (chdir("/") < 0)
        log_warn("the working directory stays in use", "error=\"%s\"", strerror(errno));
}

/* Protection from the out-of-memory killer, many descriptors, orphans to ourselves. */
static void claim_resources(struct server *s)
{
    AUTO_CLOSE
    int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    struct rlimit all;

    if (oom < 0 || write(oom, "-1000", 5) < 0)
        log_info("no protection from the out-of-memory killer", "error=\"%s\"", strerror(errno));
    if (getrlimit(RLIMIT_NOFILE, &s->files) == 0) {
        all = s->files;
        all.rlim_cur = all.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &all); /* up to the hard limit: always allowed */
    }
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        log_warn("not a subreaper", "error=\"%s\"", strerror(errno));
}

/* --- the server ------------------------------------------------------------------------------------ */

static int open_directories(struct server *s, const struct options *o, struct err *e)
{
    AUTO_FREE
    char *given = mem_printf("%s/keeper", o->run_dir);
    struct stat st;
    int rc = dir_make(given, 0700, e);

    if (rc < 0)
        return rc;
    s->run_path = realpath(given, NULL);
    if (!s->run_path)
        return err_errno(e, "resolve %s", given);
    rc = dir_open(s->run_path, &s->run, e);
    if (rc < 0)
        return rc;
    if (fstat(s->run, &st) < 0 || st.st_uid != geteuid() || fchmod(s->run, 0700) < 0)
        return err_set(e, ERR_DENIED, "%s does not belong to us", s->run_path);
    if (mkdirat(s->run, KEEPER_BOXES, 0700) < 0 && errno != EEXIST)
        return err_errno(e, "make %s/" KEEPER_BOXES, s->run_path);
    s->box_dir = openat(s->run, KEEPER_BOXES, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return s->box_dir < 0 ? err_errno(e, "open %s/" KEEPER_BOXES, s->run_path) : 0;
}

static int open_groups(struct server *s, const struct options *o, struct err *e)
{
    const char *parent = o->cgroup_parent ? o->cgroup_parent : "";
    struct err why;

    while (*parent == '/')
        parent++;
    s->group_base = mem_printf("%s%s/shoal-%s", *parent ? "/" : "", parent, s->instance);
    if (strstr(s->group_base, ".."))
        return err_set(e, ERR_INVALID, "invalid --cgroup-parent \"%s\": expected a path without \"..\"", parent);
    s->has_groups = cgroup_layout_read(&s->layout, &why) == 0;
    if (!s->has_groups) {
        log_warn("containers run without limits", "error=\"%s\"", why.text);
        return 0;
    }
    return group_base(&s->layout, s->group_base, e);
}

static void reap_orphans(struct server *s)
{
    siginfo_t info = {0};

    /* Looked at before it is taken: a box's own child is for its box. */
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0) {
        struct box *b = map64_get(&s->by_pid, (uint64_t)info.si_pid);

        if (b)
            launch_look(b);
        else if (!janitor_look(s, info.si_pid) && !resume_look(s, info.si_pid))
            (void)waitpid(info.si_pid, NULL, WNOHANG);
        info = (siginfo_t){0};
    }
}

struct orphans {
    struct watch watch;
    struct server *server;
};

static void orphans_on_signal(struct watch *w, uint32_t events)
{
    struct signalfd_siginfo info;

    (void)events;
    while (read(w->fd, &info, sizeof(info)) > 0)
        ;
    reap_orphans(container_of(w, struct orphans, watch)->server);
}

static int watch_children(struct server *s, struct err *e)
{
    static struct orphans orphans;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return err_errno(e, "make a signalfd");
    orphans.server = s;
    orphans.watch.fd = -1;
    return watch_start(&s->loop, &orphans.watch, fd, EPOLLIN, orphans_on_signal, e);
}

static int server_open(struct server *s, const struct options *o, struct err *e)
{
    s->instance = o->instance;
    s->run = s->box_dir = s->lock = s->listener = s->held = -1;
    list_init(&s->boxes);
    int rc = loop_init(&s->loop, e);
    if (rc == 0)
        rc = process_boot_id(s->boot, e);
    if (rc == 0)
        rc = open_directories(s, o, e);
    if (rc < 0)
        return rc;
    s->argv = own_arguments(o);
    pool_init(s);
    logger_init(s);
    janitor_init(s);
    resume_init(s);
    if (o->resume) {
        rc = open_groups(s, o, e);
        if (rc == 0)
            rc = resume_state(s, descriptor(o->resume), e);
    } else {
        rc = resume_lock(s->run, KEEPER_LOCK, &s->lock, e);
        if (rc == 0)
            rc = open_groups(s, o, e);
        if (rc == 0)
            rc = resume_scan(s, e);
        if (rc == 0)
            rc = control_start(s, e);
    }
    return rc < 0 ? rc : watch_children(s, e);
}

/* Told to stop, and everything that was ours is gone. */
static bool is_stopped(const struct server *s)
{
    return s->stop_serial && s->box_count == 0 && janitor_idle(s) && s->logger.fd < 0;
}

static void server_close(struct server *s)
{
    if (s->has_groups)
        group_base_remove(&s->layout, s->group_base);
    (void)unlinkat(s->run, KEEPER_BOXES, AT_REMOVEDIR);
    (void)unlinkat(s->run, KEEPER_LOG_LOCK, 0);
    (void)unlinkat(s->run, KEEPER_SOCKET, 0);
    (void)unlinkat(s->run, KEEPER_LOCK, 0);
    (void)rmdir(s->run_path); /* where somebody put something it stays */
    control_answer(s, s->stop_serial, NULL);
    control_end(s);
}

static int serve(struct server *s)
{
    logger_begin(s);
    while (!is_stopped(s))
        loop_turn(&s->loop, -1);
    server_close(s);
    log_info("keeper stopped", "run_dir=%s", s->run_path);
    return 0;
}

/* --- start ----------------------------------------------------------------------------------------- */

static int exit_status(const struct err *e)
{
    return e->code == ERR_CONFLICT ? KEEPER_EXIT_BUSY : 1;
}

struct report { /* from the second process to the first */
    unsigned char status;
    char text[sizeof(((struct err *)0)->text)];
};

static int serve_after_starter(const struct options *o, int channel)
{
    static struct server s;
    static struct report report;
    struct err e;

    claim_resources(&s);
    if (server_open(&s, o, &e) < 0) {
        report.status = (unsigned char)exit_status(&e);
        (void)snprintf(report.text, sizeof(report.text), "%s", e.text);
    }
    if (write(channel, &report, sizeof(report)) < 0)
        log_info("the starter did not wait", "run_dir=%s", o->run_dir);
    close(channel);
    if (report.status)
        return report.status;
    log_info("keeper serves", "run_dir=%s instance=%s version=%s", s.run_path, s.instance, SHOAL_VERSION);
    leave_starter();
    return serve(&s);
}

/* The error goes to stdout, which is the starter's alone; stderr will be the keeper's for a long time. */
static int start(const struct options *o)
{
    struct report report = {.status = 1, .text = "the keeper ended without a word"};
    int channel[2];

    if (pipe2(channel, O_CLOEXEC) < 0)
        return 1;
    pid_t pid = fork();
    if (pid == 0) {
        close(channel[0]);
        return serve_after_starter(o, channel[1]);
    }
    close(channel[1]);
    if (pid > 0 && read(channel[0], &report, sizeof(report)) < 0)
        return 1;
    if (report.status)
        printf("%s\n", report.text);
    return report.status;
}

static int resume(const struct options *o)
{
    static struct server s;
    struct err e;

    claim_resources(&s);
    settle_stderr();
    if (server_open(&s, o, &e) < 0) {
        log_error("keeper does not resume", "error=\"%s\"", e.text);
        return 1;
    }
    return serve(&s);
}

int main(int argc, char **argv)
{
    struct options o = {0};
    struct err e;

    if (parse(argc, argv, &o) < 0)
        return 2;
    if (o.accepts)
        return resume_accepts(descriptor(o.accepts), &e) < 0;
    (void)umask(0077);
    (void)prctl(PR_SET_NAME, "shoal-keeper", 0, 0, 0);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN);
    map_seed(entropy_u64(entropy_real()));
    if (o.log_level && log_level_of(o.log_level) < 0) {
        fprintf(stderr, "shoal-keeper: --log-level \"%s\" is none of debug, info, warn, error\n", o.log_level);
        return 2;
    }
    if (o.log_level)
        log_set_level((enum log_level)log_level_of(o.log_level));
    if (o.log)
        return logger_main(descriptor(o.log), descriptor(o.run_fd ? o.run_fd : ""));
    log_set_prefix("keeper");
    if (!o.run_dir || !o.instance ||
        strspn(o.instance, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") !=
            strlen(o.instance) ||
        !*o.instance) {
        fprintf(stderr, "shoal-keeper: --run-dir and --instance (letters, digits, - and _) are needed\n%s", usage);
        return 2;
    }
    if (o.resume)
        return resume(&o);
    fill_standard_fds();
    (void)syscall(SYS_close_range, 3, ~0U, 0); /* what our starter leaked is not ours to keep alive */
    if (!self_is_sealed()) {
        (void)self_seal(argv, &e);
        log_warn("not running from a sealed copy", "error=\"%s\"", e.text);
    }
    return start(&o);
}
