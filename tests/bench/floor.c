/* See floor.h.
 *
 * The child sets up its own root while the parent makes its groups and puts it there, as any quick launcher would
 * do on two processors; then the parent gives the word. A pipe that closes on exec tells when that happened;
 * whatever fails before is a bug of the benchmark and ends it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/container/bundle.h"
#include "engine/job/profile.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/bench/figure.h"
#include "tests/bench/floor.h"

#define BUSYBOX    "/bin/busybox"
#define FLUSHES    40
#define WORKER_MAX 8

/* --- small helpers --------------------------------------------------------------------------------- */

static void need(long rc, const char *what)
{
    if (rc < 0)
        bench_die("floor: %s: %s", what, strerror(errno));
}

static void make_dir(const char *path)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        bench_die("floor: mkdir %s: %s", path, strerror(errno));
}

static void put(const char *path, const char *text)
{
    AUTO_CLOSE
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        bench_die("floor: write %s: %s", path, strerror(errno));
}

/* --- the child ------------------------------------------------------------------------------------- */

static void attach(const char *type, const char *target, unsigned attributes, const char *const options[][2])
{
    int fs = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);

    need(fs, type);
    for (; options && (*options)[0]; options++)
        need(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, (*options)[0], (*options)[1], 0), (*options)[0]);
    need(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), type);
    int mounted = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes);
    need(mounted, type);
    need(syscall(SYS_move_mount, mounted, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH), target);
    close(mounted);
    close(fs);
}

static void make_devices(void)
{
    static const struct {
        const char *path;
        unsigned major, minor;
    } nodes[] = {{"dev/null", 1, 3}, {"dev/zero", 1, 5},   {"dev/full", 1, 7},
                 {"dev/tty", 5, 0},  {"dev/random", 1, 8}, {"dev/urandom", 1, 9}};

    for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
        need(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), nodes[i].path);
        need(chmod(nodes[i].path, 0666), nodes[i].path);
    }
    need(symlink("pts/ptmx", "dev/ptmx"), "dev/ptmx");
    need(symlink("/proc/self/fd", "dev/fd"), "dev/fd");
}

static void make_masks(void)
{
    static const char *const files[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"};
    static const char *const dirs[] = {"/proc/acpi", "/proc/scsi", "/sys/firmware"};
    static const char *const fixed[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};

    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        if (access(files[i], F_OK) == 0)
            need(mount("/dev/null", files[i], NULL, MS_BIND, NULL), files[i]);
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        if (access(dirs[i], F_OK) == 0)
            need(mount("tmpfs", dirs[i], "tmpfs", MS_RDONLY, "size=0"), dirs[i]);
    for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
        if (access(fixed[i], F_OK) < 0)
            continue;
        need(mount(fixed[i], fixed[i], NULL, MS_BIND | MS_REC, NULL), fixed[i]);
        need(mount(NULL, fixed[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL),
             fixed[i]);
    }
}

static void drop_capabilities(void)
{
    static const cap_value_t kept[] = {
        CAP_CHOWN,   CAP_DAC_OVERRIDE, CAP_FSETID,           CAP_FOWNER,     CAP_MKNOD,
        CAP_NET_RAW, CAP_SETGID,       CAP_SETUID,           CAP_SETFCAP,    CAP_SETPCAP,
        CAP_KILL,    CAP_SYS_CHROOT,   CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE};
    cap_t caps = cap_init();

    for (cap_value_t cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
        bool keep = false;

        for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
            keep |= kept[i] == cap;
        if (!keep)
            need(prctl(PR_CAPBSET_DROP, cap), "drop a capability");
    }
    need(cap_set_flag(caps, CAP_PERMITTED, ARRAY_SIZE(kept), kept, CAP_SET), "capabilities");
    need(cap_set_flag(caps, CAP_EFFECTIVE, ARRAY_SIZE(kept), kept, CAP_SET), "capabilities");
    need(cap_set_proc(caps), "capabilities");
    cap_free(caps);
}

static void loopback_up(void)
{
    AUTO_CLOSE
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

    need(ioctl(fd, SIOCSIFFLAGS, &request), "loopback");
}

static _Noreturn void child(struct floor *f, const char *box, int word, const char *const argv[])
{
    AUTO_FREE
    char *layer = mem_printf("%s/layer", f->dir), *upper = mem_printf("%s/upper", box),
         *work = mem_printf("%s/work", box), *root = mem_printf("%s/root", box);
    const char *const overlay[][2] = {
        {"source", "overlay"}, {"lowerdir", layer}, {"upperdir", upper}, {"workdir", work}, {NULL}};
    static const char *const dev[][2] = {{"mode", "755"}, {"size", "65536k"}, {NULL}};
    static const char *const pts[][2] = {{"ptmxmode", "0666"}, {"mode", "0620"}, {NULL}};
    static const char *const shm[][2] = {{"size", "65536k"}, {NULL}};
    static char path[] = "PATH=/bin";
    char *environment[] = {path, NULL}, byte;
    const unsigned quiet = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

    need(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private mounts");
    attach("overlay", root, 0, overlay);
    need(chdir(root), root);
    attach("proc", "proc", quiet, NULL);
    attach("tmpfs", "dev", MOUNT_ATTR_NOSUID, dev);
    make_dir("dev/pts");
    make_dir("dev/shm");
    make_dir("dev/mqueue");
    attach("devpts", "dev/pts", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, pts);
    attach("tmpfs", "dev/shm", quiet, shm);
    attach("mqueue", "dev/mqueue", quiet, NULL);
    attach("sysfs", "sys", quiet | MOUNT_ATTR_RDONLY, NULL);
    make_devices();
    need(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    need(umount2(".", MNT_DETACH), "leave the old root");
    need(chdir("/"), "/");
    make_masks();
    need(sethostname("floor", 5), "hostname");
    loopback_up();
    if (read(word, &byte, 1) != 1)
        _exit(1);
    need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    drop_capabilities();
    need(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &f->program), "seccomp");
    (void)execve(argv[0], (char *const *)argv, environment);
    bench_die("floor: exec %s: %s", argv[0], strerror(errno));
}

/* --- groups ---------------------------------------------------------------------------------------- */

static void groups_each(struct floor *f, const char *name,
                        void (*visit)(const struct cgroup_mount *m, const char *path))
{
    for (unsigned i = 0; i < f->layout.count; i++) {
        char path[512];

        if (!f->layout.mounts[i].controllers)
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s%s", f->layout.mounts[i].path, f->group, name);
        visit(&f->layout.mounts[i], path);
    }
}

static bool has(const struct cgroup_mount *m, enum bundle_controller controller)
{
    return m->controllers & 1u << controller && !m->v2;
}

static void base_make(const struct cgroup_mount *m, const char *path)
{
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};

    make_dir(path);
    for (size_t i = 0; has(m, BUNDLE_CPUSET) && i < ARRAY_SIZE(files); i++) {
        AUTO_BUF struct buf above = {0};
        char from[600], to[600];

        (void)snprintf(from, sizeof(from), "%s/%s", m->path, files[i]);
        (void)snprintf(to, sizeof(to), "%s/%s", path, files[i]);
        need(file_read(AT_FDCWD, from, 4096, &above, NULL), from);
        put(to, buf_str(&above));
    }
    if (has(m, BUNDLE_CPUSET)) {
        char to[600];

        (void)snprintf(to, sizeof(to), "%s/cgroup.clone_children", path);
        put(to, "1");
    }
}

static int joining; /* the process that group_join puts there */

static void group_make(const struct cgroup_mount *m, const char *path)
{
    static const char *const allowed[] = {"c *:* m",   "b *:* m",     "c 1:3 rwm", "c 1:5 rwm",
                                          "c 1:7 rwm", "c 1:8 rwm",   "c 1:9 rwm", "c 5:0 rwm",
                                          "c 5:1 rwm", "c 136:* rwm", "c 5:2 rwm"};
    char file[600], text[32];

    make_dir(path);
    if (has(m, BUNDLE_DEVICES)) {
        (void)snprintf(file, sizeof(file), "%s/devices.deny", path);
        put(file, "a");
        (void)snprintf(file, sizeof(file), "%s/devices.allow", path);
        for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
            put(file, allowed[i]);
    }
    (void)snprintf(file, sizeof(file), "%s/cgroup.procs", path);
    (void)snprintf(text, sizeof(text), "%d", joining);
    put(file, text);
}

static void group_remove(const struct cgroup_mount *m, const char *path)
{
    (void)m;
    for (int tries = 0; rmdir(path) < 0 && errno == EBUSY && tries < 1000; tries++)
        bench_pause(0.2);
}

/* --- one container --------------------------------------------------------------------------------- */

double floor_start(struct floor *f, struct floor_container *ret, const char *const argv[])
{
    double begun = bench_now_ms();
    unsigned serial = f->serial++;
    char box[200], path[256], name[32], byte;
    static const char *const parts[] = {"", "/upper", "/work", "/root"};
    int word[2], done[2];
    struct clone_args args = {.flags = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS,
                              .exit_signal = SIGCHLD};

    (void)snprintf(box, sizeof(box), "%s/%d-%u", f->dir, (int)getpid(), serial);
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        (void)snprintf(path, sizeof(path), "%s%s", box, parts[i]);
        make_dir(path);
    }
    need(pipe2(word, O_CLOEXEC), "pipe");
    need(pipe2(done, O_CLOEXEC), "pipe");
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    need(pid, "clone3");
    if (pid == 0)
        child(f, box, word[0], argv);
    close(done[1]);
    (void)snprintf(name, sizeof(name), "/%d-%u", (int)getpid(), serial);
    joining = (int)pid;
    groups_each(f, name, group_make);
    need(write(word[1], "g", 1), "give the word");
    if (read(done[0], &byte, 1) != 0)
        bench_die("floor: the container said something");
    double took = bench_now_ms() - begun;
    close(word[0]);
    close(word[1]);
    close(done[0]);
    *ret = (struct floor_container){.serial = serial, .pid = (int)pid};
    return took;
}

void floor_end(struct floor *f, struct floor_container *c)
{
    char name[64];
    int status;

    (void)kill(c->pid, SIGKILL);
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    (void)snprintf(name, sizeof(name), "/%d-%u", (int)getpid(), c->serial);
    groups_each(f, name, group_remove);
    AUTO_FREE
    char *box = mem_printf("%s%s", f->dir, name);
    need(tree_remove(AT_FDCWD, box, NULL), box);
}

/* --- many ------------------------------------------------------------------------------------------ */

static const char *const sleeper[] = {"/bin/busybox", "sleep", "1000", NULL};
static const char *const quick[] = {"/bin/busybox", "true", NULL};

double floor_burst_ms(struct floor *f, unsigned count)
{
    int started[2], over[2];
    double begun = bench_now_ms(), took;
    char bytes[2];

    need(pipe2(started, O_CLOEXEC), "pipe");
    need(pipe2(over, O_CLOEXEC), "pipe");
    for (unsigned worker = 0; worker < 2; worker++) {
        if (fork() == 0) {
            struct floor_container *made = mem_array(count, sizeof(*made));
            unsigned own = count / 2 + (worker ? count % 2 : 0);

            for (unsigned i = 0; i < own; i++)
                (void)floor_start(f, &made[i], sleeper);
            close(over[1]);
            if (write(started[1], "s", 1) != 1 || read(over[0], bytes, 1) != 0)
                _exit(1);
            for (unsigned i = 0; i < own; i++)
                floor_end(f, &made[i]);
            _exit(0);
        }
    }
    close(started[1]);
    for (unsigned worker = 0; worker < 2; worker++)
        if (read(started[0], bytes, 1) != 1)
            bench_die("floor: a worker gave up");
    took = bench_now_ms() - begun;
    close(over[1]);
    close(over[0]);
    close(started[0]);
    for (unsigned worker = 0; worker < 2; worker++)
        (void)wait(NULL);
    return took;
}

struct floor_rate floor_cycles(struct floor *f, unsigned workers, double seconds)
{
    double begun = bench_now_ms(), cpu = bench_own_cpu_ms();
    struct floor_rate rate = {0};
    int results[2];

    need(pipe2(results, O_CLOEXEC), "pipe");
    for (unsigned worker = 0; worker < workers; worker++) {
        if (fork() == 0) {
            unsigned done = 0;

            for (; bench_now_ms() - begun < seconds * 1000; done++) {
                struct floor_container c;
                siginfo_t info;

                (void)floor_start(f, &c, quick);
                (void)waitid(P_PID, (id_t)c.pid, &info, WEXITED | WNOWAIT); /* it ends by itself */
                floor_end(f, &c);
            }
            _exit(write(results[1], &done, sizeof(done)) != sizeof(done));
        }
    }
    for (unsigned worker = 0; worker < workers; worker++) {
        unsigned done;

        if (read(results[0], &done, sizeof(done)) != sizeof(done))
            bench_die("floor: a worker gave up");
        rate.cycles += done;
    }
    for (unsigned worker = 0; worker < workers; worker++)
        (void)wait(NULL);
    close(results[0]);
    close(results[1]);
    rate.per_second = rate.cycles / (bench_now_ms() - begun) * 1000;
    rate.cpu_ms = (bench_own_cpu_ms() - cpu) / rate.cycles;
    return rate;
}

/* --- life ------------------------------------------------------------------------------------------ */

static void make_layer(struct floor *f)
{
    static const char *const dirs[] = {"", "/bin", "/dev", "/proc", "/sys", "/etc", "/tmp"};
    AUTO_BUF struct buf program = {0};
    char path[256];

    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        (void)snprintf(path, sizeof(path), "%s/layer%s", f->dir, dirs[i]);
        make_dir(path);
    }
    (void)snprintf(path, sizeof(path), "%s/layer/bin/busybox", f->dir);
    AUTO_CLOSE
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    need(fd, path);
    need(file_read(AT_FDCWD, BUSYBOX, 64 << 20, &program, NULL), BUSYBOX);
    need(write_all(fd, buf_bytes(&program), program.length, NULL), path);
}

void floor_open(struct floor *f, const char *dir, const char *group)
{
    struct profile_machine machine = {.kernel_major = 6, .kernel_minor = 1};
    struct bundle_kernel kernel;
    struct buf program = {0};
    size_t size;
    struct err e;
    const char *text = profile_default(&size);

    memset(f, 0, sizeof(*f));
    (void)snprintf(f->dir, sizeof(f->dir), "%s", dir);
    (void)snprintf(f->group, sizeof(f->group), "%s", group);
    make_dir(dir);
    make_layer(f);
    if (cgroup_layout_read(&f->layout, &e) < 0 || cgroup_kernel(&f->layout, &kernel, &e) < 0 ||
        bundle_capabilities(NULL, kernel.capabilities, &machine.capabilities, &e) < 0 ||
        profile_compile(text, size, &machine, false, &program, &e) < 0)
        bench_die("floor: %s", e.text);
    f->program.len = (unsigned short)(program.length / sizeof(struct sock_filter));
    f->program.filter = (struct sock_filter *)buf_steal(&program);
    groups_each(f, "", base_make);
}

void floor_close(struct floor *f)
{
    groups_each(f, "", group_remove);
    free(f->program.filter);
    cgroup_layout_fini(&f->layout);
}

double floor_flush_ms(const char *dir)
{
    AUTO_FREE
    char *path = mem_printf("%s/flush", dir), *zeroes = mem_alloc(FLUSHES * 512);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct samples took = {0};

    need(fd, path);
    need(write_all(fd, zeroes, FLUSHES * 512, NULL), path);
    need(fsync(fd), path);
    close(fd);
    need(fd = open(path, O_RDWR | O_DSYNC | O_CLOEXEC), path);
    memset(zeroes, 7, 512);
    for (int i = 0; i < FLUSHES; i++) {
        double begun = bench_now_ms();

        need(pwrite(fd, zeroes, 512, (off_t)i * 512), path);
        samples_add(&took, bench_now_ms() - begun);
    }
    close(fd);
    (void)unlink(path);
    return samples_percentile(&took, 50);
}
