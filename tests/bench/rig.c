/* See rig.h. A rig aborts with a message when something takes too long or a helper call fails: whoever uses it
 * tests the keeper, not the rig. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/job/profile.h"
#include "engine/keeper/packet.h"
#include "proto/base/entropy.h"
#include "proto/base/file.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"
#include "tests/bench/rig.h"

#define BUSYBOX "/bin/busybox"

static char build_dir[4096];
static bool run_in_memory;

static const struct rig *opened; /* NULL: none */

/* Whether a file of a process names the rig: its command line, or the groups it is in. */
static bool names_rig(const char *process, const char *file)
{
    AUTO_BUF struct buf text = {0};
    char path[300];

    (void)snprintf(path, sizeof(path), "/proc/%.200s/%s", process, file); /* fits */
    if (file_read(AT_FDCWD, path, 65536, &text, NULL) < 0)
        return false; /* it has ended */
    return text.length && (memmem(buf_bytes(&text), text.length, opened->instance, strlen(opened->instance)) ||
                           memmem(buf_bytes(&text), text.length, opened->run, strlen(opened->run)));
}

/* Keeper, logger and containers must not outlive a test that gives up. */
static void end_processes(void)
{
    DIR *processes = opened ? opendir("/proc") : NULL;
    const struct dirent *entry;

    while (processes && (entry = readdir(processes))) {
        long pid = strtol(entry->d_name, NULL, 10);

        if (pid > 1 && pid != getpid() &&
            (names_rig(entry->d_name, "cmdline") || names_rig(entry->d_name, "cgroup")))
            (void)kill((pid_t)pid, SIGKILL); /* it may have ended just now */
    }
    if (processes)
        closedir(processes);
}

static _Noreturn void broken(const char *fmt, ...)
{
    va_list args;

    end_processes();

    va_start(args, fmt);
    fprintf(stderr, "rig: ");
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\n");
    va_end(args);
    abort();
}

static void check(int rc, const struct err *e)
{
    if (rc < 0)
        broken("%s", e->text);
}

const char *rig_missing(const char *program)
{
    static char text[8300];
    const char *areas[] = {"engine/keeper/", "tests/bench/"};

    for (size_t i = 0; i < ARRAY_SIZE(areas); i++) {
        const char *area = strstr(program, areas[i]);

        if (area)
            (void)snprintf(build_dir, sizeof(build_dir), "%.*s", (int)(area - program), program);
    }
    (void)snprintf(text, sizeof(text), "%sshoal-keeper", build_dir);
    if (access(text, X_OK) < 0)
        return strcat(text, " is not built");
    if (geteuid() != 0)
        return "needs root";
    if (access(BUSYBOX, X_OK) < 0)
        return "needs busybox-static";
    return NULL;
}

/* --- image ----------------------------------------------------------------------------------------- */

char *rig_path(struct rig *r, const char *fmt, ...)
{
    char tail[1024];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(tail, sizeof(tail), fmt, args);
    va_end(args);
    return arena_printf(&r->arena, "%s/%s", r->dir, tail);
}

static void put_file(const char *path, const char *text)
{
    struct err e;
    AUTO_CLOSE
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0)
        broken("%s: %s", path, strerror(errno));
    check(write_all(fd, text, strlen(text), &e), &e);
}

static void copy_program(struct rig *r, const char *from, const char *name)
{
    AUTO_BUF struct buf bytes = {0};
    AUTO_CLOSE
    int fd = open(rig_path(r, "layer/bin/%s", name), O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    struct err e;

    check(file_read(AT_FDCWD, from, 64 << 20, &bytes, &e), &e);
    check(write_all(fd, buf_bytes(&bytes), bytes.length, &e), &e);
}

static void make_image(struct rig *r)
{
    static const char *const dirs[] = {"bin", "etc", "tmp", "dev", "proc", "sys", "root", "data"};
    static const char *const applets[] = {
        "sh",       "echo",  "cat",   "sleep", "true",   "false",  "id",   "ls",       "mount",  "dd",
        "seq",      "awk",   "stat",  "head",  "tail",   "grep",   "kill", "ps",       "env",    "pwd",
        "touch",    "mkdir", "rm",    "mv",    "ln",     "chmod",  "tty",  "yes",      "mknod",  "nc",
        "sort",     "wc",    "df",    "test",  "usleep", "setsid", "tr",   "hostname", "umount", "printf",
        "readlink", "find",  "uname", "od",    "chown",  "stty",   "cut",  "expr"};
    AUTO_FREE
    char *inside = mem_printf("%stests/integration/tools/inside", r->build);
    struct err e;

    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        check(dir_make(rig_path(r, "layer/%s", dirs[i]), 0755, &e), &e);
    copy_program(r, BUSYBOX, "busybox");
    if (access(inside, X_OK) == 0) /* benchmarks do without */
        copy_program(r, inside, "inside");
    for (size_t i = 0; i < ARRAY_SIZE(applets); i++)
        if (symlink("busybox", rig_path(r, "layer/bin/%s", applets[i])) < 0)
            broken("link %s", applets[i]);
    put_file(rig_path(r, "layer/etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/data:/bin/sh\n");
    put_file(rig_path(r, "layer/etc/group"), "root:x:0:\nweb:x:1000:\nextra:x:2000:web\n");
    put_file(rig_path(r, "layer/etc/plain"), "not a program\n");
    put_file(rig_path(r, "layer/data/from-image"), "image\n");
    if (chmod(rig_path(r, "layer/etc/plain"), 0644) < 0 || chmod(rig_path(r, "layer/tmp"), 01777) < 0)
        broken("modes");
    r->layer = open(rig_path(r, "layer"), O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void make_seccomp(struct rig *r)
{
    struct profile_machine machine = {.kernel_major = 6, .kernel_minor = 1};
    AUTO_BUF struct buf program = {0};
    size_t size;
    struct err e;
    const char *text = profile_default(&size);

    check(bundle_capabilities(NULL, r->kernel.capabilities, &machine.capabilities, &e), &e);
    check(profile_compile(text, size, &machine, false, &program, &e), &e);
    check(memfd_sealed("rig-seccomp", buf_bytes(&program), program.length, &r->seccomp, &e), &e);
}

/* --- the loop -------------------------------------------------------------------------------------- */

static void on_alarm(uv_timer_t *t)
{
    ((struct rig *)t->data)->late = true;
}

void rig_until(struct rig *r, const bool *flag)
{
    r->late = false;
    uv_update_time(&r->loop);
    (void)uv_timer_start(&r->alarm, on_alarm, RIG_SECONDS * 1000, 0);
    while (!*flag) {
        (void)uv_run(&r->loop, UV_RUN_ONCE);
        if (r->late)
            broken("waited %d seconds in vain", RIG_SECONDS);
    }
    (void)uv_timer_stop(&r->alarm);
}

void rig_turn(struct rig *r, unsigned ms)
{
    r->late = false;
    /* Repeated, since one that is due before the loop waits is called before it waits. */
    (void)uv_timer_start(&r->alarm, on_alarm, ms, ms);
    while (!r->late)
        (void)uv_run(&r->loop, UV_RUN_ONCE);
    (void)uv_timer_stop(&r->alarm);
}

static struct rig_case *find_case(struct rig *r, const char *id)
{
    struct rig_case *c;

    list_each (c, &r->cases, link)
        if (strcmp(c->id, id) == 0)
            return c;
    return NULL;
}

static void on_found(void *ctx, const struct keeper_found *found)
{
    struct rig_case *c = find_case(ctx, found->id);

    if (!c)
        broken("container %s is nobody's", found->id);
    if (c->forgotten) /* what we said of it was lost with a keeper that was killed: rig_close says it again */
        return;
    c->found = true;
    c->pid = found->pid;
    c->started_ns = found->started_ns;
    c->running = found->exit == NULL;
    if (found->exit) {
        c->exit = *found->exit;
        c->ended = true;
    }
}

static void on_ready(void *ctx)
{
    ((struct rig *)ctx)->ready = true;
}

static void on_exit_(void *ctx, const char *id, const struct keeper_exit *exit)
{
    struct rig_case *c = find_case(ctx, id);

    if (!c)
        broken("container %s is nobody's", id);
    if (c->forgotten)
        return;
    if (c->ended)
        broken("container %s ended twice", id);
    c->exit = *exit;
    c->running = false;
    c->ended = true;
}

static void on_fatal(void *ctx, const struct err *e)
{
    ((struct rig *)ctx)->fatal++;
    ((struct rig *)ctx)->error = *e;
}

static void on_closed(void *ctx)
{
    ((struct rig *)ctx)->closed = true;
}

static void on_stopped(void *ctx, const struct err *e)
{
    struct rig *r = ctx;

    r->error = *e;
    r->stopped = true;
}

void rig_begin_connect(struct rig *r)
{
    const struct keeper_config config = {.loop = &r->loop,
                                         .run_dir = r->run,
                                         .program = r->keeper_program,
                                         .instance = r->instance,
                                         .cgroup_parent = "",
                                         .warm_min = r->warm_min,
                                         .warm_max = r->warm_max};
    const struct keeper_events events = {
        .ctx = r, .on_found = on_found, .on_ready = on_ready, .on_exit = on_exit_, .on_fatal = on_fatal};
    struct err e;

    r->ready = false;
    check(keeper_open(&config, &events, &r->keeper, &e), &e);
    if (r->warm_max) {
        Recipe *recipe = bundle_default_recipe(&r->kernel, &r->arena);

        keeper_warm(r->keeper, recipe);
    }
}

void rig_connect(struct rig *r)
{
    rig_begin_connect(r);
    rig_until(r, &r->ready);
}

void rig_disconnect(struct rig *r)
{
    r->closed = false;
    keeper_close(r->keeper, on_closed, r);
    rig_until(r, &r->closed);
    r->keeper = NULL;
}

void rig_run_in_memory(void)
{
    struct statfs fs;

    run_in_memory = statfs("/dev/shm", &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

void rig_open(struct rig *r, unsigned warm_min, unsigned warm_max)
{
    uint8_t random[6];
    struct err e;

    memset(r, 0, sizeof(*r));
    arena_init(&r->arena);
    list_init(&r->cases);
    r->warm_min = warm_min;
    r->warm_max = warm_max;
    (void)snprintf(r->dir, sizeof(r->dir), "/tmp/shoal-rig-XXXXXX");
    if (!mkdtemp(r->dir))
        broken("mkdtemp: %s", strerror(errno));
    (void)snprintf(r->run, sizeof(r->run), "%s", run_in_memory ? "/dev/shm/shoal-rig-XXXXXX" : r->dir);
    if (run_in_memory && !mkdtemp(r->run))
        broken("mkdtemp: %s", strerror(errno));
    entropy_fill(entropy_real(), random, sizeof(random));
    memcpy(r->instance, "rig-", 4);
    hex_encode(random, sizeof(random), r->instance + 4);
    opened = r;
    (void)snprintf(r->build, sizeof(r->build), "%s", build_dir);
    (void)snprintf(r->keeper_program, sizeof(r->keeper_program), "%sshoal-keeper", build_dir);
    if (uv_loop_init(&r->loop) < 0 || uv_timer_init(&r->loop, &r->alarm) < 0)
        broken("loop");
    r->alarm.data = r;
    check(cgroup_layout_read(&r->layout, &e), &e);
    check(cgroup_kernel(&r->layout, &r->kernel, &e), &e);
    make_image(r);
    make_seccomp(r);
    rig_connect(r);
}

static void case_free(struct rig_case *c)
{
    for (unsigned i = 0; i < c->fd_count; i++)
        close(c->fds[i]);
    list_remove(&c->link);
    free(c);
}

/* A keeper that was told to end leaves no group, whatever died before it. */
static void check_groups(const struct rig *r)
{
    for (unsigned i = 0; i < r->layout.count; i++) {
        AUTO_FREE
        char *path = mem_printf("%s/shoal-%s", r->layout.mounts[i].path, r->instance);

        if (access(path, F_OK) == 0)
            broken("%s is left", path);
    }
}

void rig_close(struct rig *r)
{
    struct rig_case *c;
    struct err e;

    list_each (c, &r->cases, link) {
        if (c->running) {
            (void)keeper_signal(r->keeper, c->id, SIGKILL, NULL);
            rig_until(r, &c->ended);
        }
        if (!c->forgotten)
            keeper_forget(r->keeper, c->id);
        c->forgotten = true;
    }
    for (unsigned tries = 0;; tries++) {
        r->stopped = false;
        int rc = keeper_stop(r->keeper, on_stopped, r, &e);

        if (rc == ERR_CONFLICT && tries < 2000) {
            list_each (c, &r->cases, link)
                keeper_forget(r->keeper, c->id); /* its keeper was killed before it read that */
        } else {
            check(rc, &e);
            rig_until(r, &r->stopped);
            if (r->error.code != ERR_CONFLICT || tries == 2000)
                break;
        }
        rig_turn(r,
                 5); /* a new keeper has not yet seen an end that we saw, and keeps what is forgotten until then */
    }
    check(r->error.code, &r->error);
    while ((c = list_first(&r->cases, struct rig_case, link)))
        case_free(c);
    check_groups(r);
    rig_disconnect(r);
    uv_close((uv_handle_t *)&r->alarm, NULL);
    (void)uv_run(&r->loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&r->loop) < 0)
        broken("the loop has handles left");
    opened = NULL;
    close(r->layer);
    close(r->seccomp);
    cgroup_layout_fini(&r->layout);
    AUTO_CLOSE
    int above = -1;
    check(dir_open("/tmp", &above, &e), &e);
    check(tree_remove(above, r->dir + strlen("/tmp/"), &e), &e);
    if (run_in_memory && rmdir(r->run) < 0)
        broken("%s is not empty", r->run);
    arena_fini(&r->arena);
}

/* --- containers ------------------------------------------------------------------------------------ */

static unsigned add_fd(struct rig_case *c, int fd, const char *what)
{
    if (fd < 0 || c->fd_count == RIG_FDS)
        broken("%s: %s", what, strerror(errno));
    c->fds[c->fd_count] = fd;
    return c->fd_count++;
}

struct rig_case *rig_case(struct rig *r, const char *program, ...)
{
    struct rig_case *c = mem_alloc(sizeof(*c));
    struct err e;
    va_list args;
    const char *more;

    c->rig = r;
    hex_id_new(entropy_real(), c->id);
    list_push(&r->cases, &c->link);
    host_config__init(&c->host);
    container_config__init(&c->config);
    container_record__init(&c->record);
    container_state__init(&c->state);
    c->config.host = &c->host;
    c->host.network_mode = (char *)"none";
    c->record.format = 1;
    c->record.id = c->id;
    c->record.name = (char *)"rig";
    c->record.image_id = (char *)"sha256:rig";
    c->record.config = &c->config;
    c->record.state = &c->state;
    c->argv = arena_append(&r->arena, NULL, 0, sizeof(char *));
    c->argv[c->record.n_argv++] = arena_strdup(&r->arena, program);
    va_start(args, program);
    while ((more = va_arg(args, const char *))) {
        c->argv = arena_append(&r->arena, c->argv, c->record.n_argv, sizeof(char *));
        c->argv[c->record.n_argv++] = arena_strdup(&r->arena, more);
    }
    va_end(args);
    c->record.argv = c->argv;
    check(dir_make(rig_path(r, "c/%s/upper", c->id), 0755, &e), &e);
    check(dir_make(rig_path(r, "c/%s/work", c->id), 0755, &e), &e);
    /* The positions every plan of a rig has. */
    (void)add_fd(c, fcntl(r->layer, F_DUPFD_CLOEXEC, 0), "layer");
    (void)add_fd(c, open(rig_path(r, "c/%s/upper", c->id), O_PATH | O_DIRECTORY | O_CLOEXEC), "upper");
    (void)add_fd(c, open(rig_path(r, "c/%s/work", c->id), O_PATH | O_DIRECTORY | O_CLOEXEC), "work");
    (void)add_fd(c, open(rig_path(r, "c/%s", c->id), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "log directory");
    (void)add_fd(c, fcntl(r->seccomp, F_DUPFD_CLOEXEC, 0), "seccomp");
    return c;
}

static MountPoint *add_point(struct rig_case *c, const char *source, const char *target, MountType type)
{
    struct arena *a = &c->rig->arena;
    MountPoint *p = ARENA_NEW(a, MountPoint);
    size_t i = c->record.n_mounts;
    struct stat st;
    int fd = (int)syscall(SYS_open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

    mount_point__init(p);
    p->target = arena_strdup(a, target);
    p->has_type = true;
    p->type = type;
    c->position[i] = add_fd(c, fd, source);
    c->directory[i] = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    c->record.mounts = arena_append(a, c->record.mounts, i, sizeof(p));
    c->record.mounts[c->record.n_mounts++] = p;
    return p;
}

MountPoint *rig_bind(struct rig_case *c, const char *source, const char *target)
{
    return add_point(c, source, target, MOUNT_TYPE__BIND);
}

MountPoint *rig_volume(struct rig_case *c, const char *source, const char *target, bool copy_up)
{
    MountPoint *p = add_point(c, source, target, MOUNT_TYPE__VOLUME);

    c->copy_up[c->record.n_mounts - 1] = copy_up;
    return p;
}

static void on_launched(void *ctx, const struct err *e, int pid, const char *sandbox, int64_t started_ns)
{
    struct rig_case *c = ctx;

    c->answered = true;
    c->error = *e;
    c->running = e->code == 0;
    c->forgotten = e->code != 0;
    c->pid = pid;
    c->started_ns = started_ns;
    (void)snprintf(c->sandbox, sizeof(c->sandbox), "%s", sandbox ? sandbox : "");
}

void rig_send(struct rig_case *c)
{
    struct rig *r = c->rig;
    AUTO_ARENA struct arena a;
    LaunchPlan *plan;
    struct err e;
    const struct bundle_in in = {.record = &c->record,
                                 .kernel = &r->kernel,
                                 .layers = 1,
                                 .upper = 1,
                                 .work = 2,
                                 .mounts = c->position,
                                 .mount_is_directory = c->directory,
                                 .mount_copy_up = c->copy_up,
                                 .resolv_conf = UINT32_MAX,
                                 .hostname = UINT32_MAX,
                                 .hosts = UINT32_MAX,
                                 .seccomp = 4,
                                 .log_directory = 3,
                                 .id = c->id};

    arena_init(&a);
    check(bundle_make(&in, &a, &plan, &e), &e);
    if (c->change)
        c->change(c, plan);
    check(keeper_launch(r->keeper, plan, c->fds, c->fd_count, NULL, on_launched, c, &e), &e);
    for (unsigned i = 0; i < c->fd_count; i++)
        close(c->fds[i]);
    c->fd_count = 0;
}

void rig_launch(struct rig_case *c)
{
    rig_send(c);
    rig_until(c->rig, &c->answered);
}

void rig_wait(struct rig_case *c)
{
    rig_until(c->rig, &c->ended);
}

void rig_forget(struct rig_case *c)
{
    keeper_forget(c->rig->keeper, c->id);
    c->forgotten = true;
}

void rig_drop(struct rig_case *c)
{
    struct rig *r = c->rig;
    AUTO_CLOSE
    int above = -1;
    struct err e;

    check(dir_open(rig_path(r, "c"), &above, &e), &e);
    check(tree_remove(above, c->id, &e), &e);
    case_free(c);
}

int rig_run(struct rig_case *c)
{
    rig_launch(c);
    if (c->error.code)
        broken("launch: %s", c->error.text);
    rig_wait(c);
    rig_forget(c);
    return c->exit.code;
}

/* --- logs ------------------------------------------------------------------------------------------ */

const char *rig_output(struct rig_case *c, const char *stream)
{
    static struct buf text;
    AUTO_BUF struct buf file = {0};
    char *path = rig_path(c->rig, "c/%s/%s-json.log", c->id, c->id);

    buf_clear(&text);
    buf_append_str(&text, "");
    if (file_read(AT_FDCWD, path, 256 << 20, &file, NULL) < 0)
        return buf_str(&text);
    buf_append_char(&file, '\0');
    for (char *line = buf_bytes(&file), *next; *line; line = next) {
        next = strchr(line, '\n');
        if (!next)
            broken("the log of %s ends with a torn line", c->id);
        *next++ = '\0';
        json_t *entry = json_loads(line, 0, NULL);
        if (!entry || !json_string_value(json_object_get(entry, "time")))
            broken("the log of %s has a line that is none: %s", c->id, line);
        const json_t *log = json_object_get(entry, "log");
        if (!stream || strcmp(json_string_value(json_object_get(entry, "stream")), stream) == 0)
            buf_append(&text, json_string_value(log), json_string_length(log));
        json_decref(entry);
    }
    return buf_str(&text);
}

/* --- the machine ----------------------------------------------------------------------------------- */

/* Who holds the lock of that name: the kernel lists locks by inode. */
static int lock_holder(struct rig *r, const char *name)
{
    AUTO_BUF struct buf text = {0};
    struct stat st;
    struct err e;

    if (stat(arena_printf(&r->arena, "%s/keeper/%s", r->run, name), &st) < 0)
        return 0;
    check(file_read(AT_FDCWD, "/proc/locks", 1 << 20, &text, &e), &e);
    char *rest = (char *)buf_str(&text), *line;
    while ((line = strsep(&rest, "\n"))) {
        unsigned long inode;
        int pid;

        if (sscanf(line, "%*d: FLOCK ADVISORY WRITE %d %*x:%*x:%lu", &pid, &inode) == 2 && inode == st.st_ino)
            return pid;
    }
    return 0;
}

int rig_keeper_pid(struct rig *r)
{
    return lock_holder(r, "lock");
}

int rig_logger_pid(struct rig *r)
{
    return lock_holder(r, "log.lock");
}

static int await_holder(struct rig *r, const char *name, int other)
{
    for (int i = 0; i < RIG_SECONDS * 200; i++) {
        int pid = lock_holder(r, name);

        if (pid > 0 && pid != other)
            return pid;
        rig_turn(r, 5);
    }
    broken("nobody takes the lock %s", name);
}

int rig_await_keeper(struct rig *r, int other)
{
    return await_holder(r, "lock", other);
}

int rig_await_logger(struct rig *r, int other)
{
    return await_holder(r, "log.lock", other);
}

void rig_kill(int pid, int signal)
{
    if (pid <= 1 || kill(pid, signal) < 0)
        broken("signal %d to process %d: %s", signal, pid, pid <= 1 ? "it is none of ours" : strerror(errno));
}

static unsigned count_entries(const char *path, unsigned char type)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    unsigned count = 0;

    while (dir && (entry = readdir(dir)))
        count += entry->d_name[0] != '.' && (type == DT_UNKNOWN || entry->d_type == type);
    if (dir)
        closedir(dir);
    return count;
}

/* Not the logger, which is a child of the keeper that started it. */
static unsigned count_children(int parent, int logger)
{
    AUTO_FREE
    char *path = mem_printf("/proc/%d/task/%d/children", parent, parent);
    AUTO_BUF struct buf text = {0};
    unsigned count = 0;

    if (file_read(AT_FDCWD, path, 1 << 20, &text, NULL) < 0)
        return 0;
    char *rest = (char *)buf_str(&text), *number;
    while ((number = strsep(&rest, " ")))
        count += *number && strtol(number, NULL, 10) != logger;
    return count;
}

static unsigned count_mounts(struct rig *r)
{
    AUTO_BUF struct buf text = {0};
    unsigned count = 0;
    struct err e;

    check(file_read(AT_FDCWD, "/proc/self/mountinfo", 16 << 20, &text, &e), &e);
    for (const char *at = buf_str(&text); (at = strstr(at, r->dir)); at++)
        count++;
    return count;
}

unsigned rig_rss_kib(int pid)
{
    AUTO_FREE
    char *path = mem_printf("/proc/%d/status", pid);
    AUTO_BUF struct buf text = {0};
    const char *line = NULL;

    if (file_read(AT_FDCWD, path, 65536, &text, NULL) == 0)
        line = strstr(buf_str(&text), "VmRSS:");
    return line ? (unsigned)strtoul(line + 6, NULL, 10) : 0;
}

unsigned rig_group_mounts(const struct rig *r)
{
    unsigned count = 0;

    for (unsigned i = 0; i < r->layout.count; i++)
        count += r->layout.mounts[i].controllers != 0;
    return count;
}

struct rig_census rig_census(struct rig *r)
{
    int keeper = rig_keeper_pid(r), logger = rig_logger_pid(r);
    struct rig_census c = {.mounts = count_mounts(r),
                           .children = count_children(keeper, logger),
                           .boxes = count_entries(arena_printf(&r->arena, "%s/keeper/box", r->run), DT_UNKNOWN),
                           .keeper_fds = count_entries(arena_printf(&r->arena, "/proc/%d/fd", keeper), DT_UNKNOWN),
                           .logger_fds = count_entries(arena_printf(&r->arena, "/proc/%d/fd", logger), DT_UNKNOWN)};

    for (unsigned i = 0; i < r->layout.count; i++)
        c.groups +=
            count_entries(arena_printf(&r->arena, "%s/shoal-%s", r->layout.mounts[i].path, r->instance), DT_DIR);
    return c;
}
