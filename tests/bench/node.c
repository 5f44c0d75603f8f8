/* See node.h.
 *
 *     the benchmark   outside: waits, removes directory and groups
 *      `- stage       process 1 of a new pid namespace; the benchmark's main goes on here
 *          |- shoald  ... and whatever it starts; the kernel ends all of it with process 1
 *          `- floors */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/container/cgroup.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/bench/figure.h"
#include "tests/bench/node.h"
#include "tests/support/tarball.h"

#define BUSYBOX     "/bin/busybox"
#define PATIENCE_MS 30000

/* --- the stage ------------------------------------------------------------------------------------- */

/* Groups below `path`, deepest first. What was in them has been killed, and takes a moment to be gone. */
static void groups_remove(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;

    while (dir && (entry = readdir(dir)))
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
            AUTO_FREE
            char *below = mem_printf("%s/%s", path, entry->d_name);

            groups_remove(below);
        }
    if (dir)
        closedir(dir);
    for (int tries = 0; rmdir(path) < 0 && errno == EBUSY && tries < 500; tries++)
        bench_pause(10);
}

static void stage_remove(const struct stage *s)
{
    struct cgroup_layout layout;

    if (cgroup_layout_read(&layout, NULL) == 0)
        for (unsigned i = 0; i < layout.count; i++) {
            AUTO_FREE
            char *path = mem_printf("%s/%s", layout.mounts[i].path, s->group);

            if (access(path, F_OK) == 0)
                groups_remove(path);
        }
    (void)tree_remove(AT_FDCWD, s->dir, NULL); /* nothing else can be done about it */
}

/* What the nodes said: for whoever wonders why a benchmark gave up. */
static void show_logs(const struct stage *s)
{
    DIR *dir = opendir(s->dir);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        AUTO_BUF struct buf text = {0};
        AUTO_FREE
        char *path = mem_printf("%s/%s/log", s->dir, entry->d_name);

        if (entry->d_name[0] != '.' && file_read(AT_FDCWD, path, 1 << 20, &text, NULL) == 0)
            fprintf(stderr, "--- log of %s\n%s", entry->d_name, buf_str(&text));
    }
    if (dir)
        closedir(dir);
}

static pid_t inside;

static void on_ending(int number)
{
    (void)number;
    (void)kill(inside, SIGKILL); /* its namespace ends with it; then the stage is removed */
}

static _Noreturn void stage_outside(const struct stage *s)
{
    int status = 0;

    (void)signal(SIGINT, on_ending);
    (void)signal(SIGTERM, on_ending);
    while (waitpid(inside, &status, 0) < 0 && errno == EINTR)
        continue;
    if (status != 0)
        show_logs(s);
    stage_remove(s);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void loopback_up(void)
{
    AUTO_CLOSE
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

    if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        bench_die("loopback: %s", strerror(errno));
}

const char *stage_enter(struct stage *s, const char *program)
{
    const char *tmp = getenv("TMPDIR"), *area = strstr(program, "tests/bench/");

    if (geteuid() != 0)
        return "needs root";
    if (access(BUSYBOX, X_OK) < 0)
        return "needs busybox-static";
    (void)snprintf(s->build, sizeof(s->build), "%.*s", area ? (int)(area - program) : 0, program);
    (void)snprintf(s->dir, sizeof(s->dir), "%s/shoal-bench-XXXXXX", tmp ? tmp : "/tmp");
    (void)snprintf(s->group, sizeof(s->group), "shoalbench-%d", (int)getpid());
    if (!mkdtemp(s->dir))
        bench_die("%s: %s", s->dir, strerror(errno));
    if (unshare(CLONE_NEWPID | CLONE_NEWNET) < 0)
        bench_die("namespaces: %s", strerror(errno));
    loopback_up();
    inside = fork();
    if (inside != 0)
        stage_outside(s);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("proc", "/proc", "proc", 0, NULL) < 0)
        bench_die("mounts: %s", strerror(errno));
    AUTO_FREE
    char *run = mem_printf("%s/run", s->dir); /* where /run would be */
    if (mkdir(run, 0755) < 0 || mount("tmpfs", run, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") < 0)
        bench_die("%s: %s", run, strerror(errno));
    (void)signal(SIGPIPE, SIG_IGN);
    return NULL;
}

/* --- a node ---------------------------------------------------------------------------------------- */

void stage_join(const struct stage *s, const char *below)
{
    AUTO_FREE
    char *above = mem_printf("/sys/fs/cgroup/memory/%s", s->group);
    AUTO_FREE
    char *path = mem_printf("%s/%s", above, below);
    AUTO_FREE
    char *procs = mem_printf("%s/cgroup.procs", path);

    (void)mkdir(above, 0755);
    (void)mkdir(path, 0755);
    AUTO_CLOSE
    int fd = open(procs, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "0", 1) != 1)
        fprintf(stderr, "bench: no memory hierarchy of version 1: kernel memory is not measured\n");
}

void node_start_again(struct node *n)
{
    AUTO_FREE
    char *program = mem_printf("%sshoald", n->stage->build), *data = mem_printf("%s/data", n->dir),
         *host = mem_printf("unix://%s", n->socket), *log = mem_printf("%s/log", n->dir);

    n->pid = fork();
    if (n->pid != 0)
        return;
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    stage_join(n->stage, strrchr(n->group, '/') + 1);
    if (dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
        _exit(1);
    (void)execl(program, "shoald", "--data-dir", data, "--run-dir", n->run, "--host", host, "--cgroup-parent",
                n->group, "--warm", n->warm, "--log-level", "warn", NULL);
    bench_die("%s: %s", program, strerror(errno));
}

void node_answers(struct node *n)
{
    double until = bench_now_ms() + PATIENCE_MS;

    while (dialog_try(&n->client, n->socket) < 0) {
        if (bench_now_ms() > until)
            bench_die("the node does not answer");
        bench_pause(0.2);
    }
}

void node_kill(struct node *n)
{
    (void)kill(n->pid, SIGKILL);
    while (waitpid(n->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    dialog_close(&n->client);
}

void node_stop(struct node *n)
{
    (void)kill(n->pid, SIGTERM);
    while (waitpid(n->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    dialog_close(&n->client);
}

static void load_image(struct node *n)
{
    AUTO_BUF struct buf tar = {0}, program = {0};
    static const char *const dirs[] = {"bin/", "dev/", "etc/", "proc/", "sys/", "tmp/"};

    if (file_read(AT_FDCWD, BUSYBOX, 64 << 20, &program, NULL) < 0)
        bench_die("cannot read %s", BUSYBOX);
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        TAR(&tar, .name = dirs[i], .type = '5');
    TAR(&tar, .name = "bin/busybox", .mode = 0755, .data = buf_bytes(&program), .size = program.length);
    TAR(&tar, .name = "bin/sleep", .type = '2', .link = "busybox");
    TAR(&tar, .name = "bin/true", .type = '2', .link = "busybox");
    tar_close(&tar);
    (void)dialog_ask_bytes(
        &n->client, 200, "POST", buf_bytes(&tar), tar.length,
        "/images/create?fromSrc=-&repo=box&tag=1&changes=CMD%20%5B%22sleep%22,%221000%22%5D&changes="
        "STOPSIGNAL%20SIGKILL&changes=ENV%20PATH=/bin");
    if (strstr(n->client.body, "errorDetail"))
        bench_die("import: %s", n->client.body);
}

void node_open(struct node *n, const struct stage *s, const char *name, const char *warm)
{
    memset(n, 0, sizeof(*n));
    n->stage = s;
    (void)snprintf(n->dir, sizeof(n->dir), "%s/%s", s->dir, name);
    (void)snprintf(n->run, sizeof(n->run), "%s/run/%s", s->dir, name);
    (void)snprintf(n->socket, sizeof(n->socket), "%s/api.sock", n->dir);
    (void)snprintf(n->group, sizeof(n->group), "%s/%s", s->group, name);
    (void)snprintf(n->warm, sizeof(n->warm), "%s", warm);
    if (mkdir(n->dir, 0755) < 0)
        bench_die("%s: %s", n->dir, strerror(errno));
    node_start_again(n);
    node_answers(n);
    load_image(n);
}

/* --- its processes --------------------------------------------------------------------------------- */

static bool is_ours(const struct node *n, int pid, bool with_warm, bool *ret_warm)
{
    AUTO_BUF struct buf line = {0};
    char path[64], own[64] = "";

    (void)snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    if (file_read(AT_FDCWD, path, 65536, &line, NULL) < 0 ||
        (!memmem(buf_bytes(&line), line.length, n->dir, strlen(n->dir)) &&
         !memmem(buf_bytes(&line), line.length, n->run, strlen(n->run))))
        return false;
    /* A sandbox that waits is process 1 of a namespace of its own. */
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/pid", pid);
    char mine[64] = "";
    ssize_t length = readlink(path, own, sizeof(own) - 1),
            same = readlink("/proc/self/ns/pid", mine, sizeof(mine) - 1);
    *ret_warm = length != same || memcmp(own, mine, sizeof(own)) != 0;
    return with_warm || !*ret_warm;
}

static double each_process(const struct node *n, bool with_warm, double (*of)(int pid))
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    double sum = 0;
    bool warm;

    while (proc && (entry = readdir(proc))) {
        int pid = (int)strtol(entry->d_name, NULL, 10);

        if (pid > 1 && is_ours(n, pid, with_warm, &warm))
            sum += of(pid);
    }
    if (proc)
        closedir(proc);
    return sum;
}

double node_pss_kib(const struct node *n, bool with_warm)
{
    return each_process(n, with_warm, bench_pss_kib);
}

double node_cpu_ms(const struct node *n)
{
    return each_process(n, true, bench_cpu_ms);
}

double stage_kernel_kib(const struct stage *s, const char *below)
{
    AUTO_BUF struct buf text = {0};
    AUTO_FREE
    char *path =
        mem_printf("/sys/fs/cgroup/memory/%s%s%s/memory.kmem.usage_in_bytes", s->group, *below ? "/" : "", below);

    return file_read(AT_FDCWD, path, 4096, &text, NULL) < 0 ? 0 : strtod(buf_str(&text), NULL) / 1024;
}

/* --- swarm ----------------------------------------------------------------------------------------- */

void node_swarm_init(struct node *n)
{
    (void)dialog_ask(&n->client, 200, "POST",
                     "{\"ListenAddr\":\"127.0.0.1:2377\",\"AdvertiseAddr\":\"127.0.0.1:2377\"}", "/swarm/init");
}

void node_swarm_leave(struct node *n)
{
    (void)dialog_ask(&n->client, 200, "POST", NULL, "/swarm/leave?force=1");
}

void node_empty(struct node *n)
{
    double until = bench_now_ms() + PATIENCE_MS;

    while (strcmp(dialog_ask(&n->client, 200, "GET", NULL, "/containers/json?all=1"), "[]\n") != 0 &&
           strcmp(n->client.body, "[]") != 0) {
        if (bench_now_ms() > until)
            bench_die("containers stay: %.200s", n->client.body);
        bench_pause(5);
    }
}

void node_close(struct node *n)
{
    node_stop(n);
}
