/* Confinement of jobs (confine.h).
 *
 * A job reads what strangers wrote: archives, compressed streams, answers of registries. Should one of the
 * libraries be tricked into running a stranger's code, this is what that code finds: a root directory with the
 * job's own files and nothing else, no network (or, fetching, nothing but sockets of the internet families), no
 * capability beyond what unpacking needs inside that directory, a short list of system calls, little memory, and a
 * parent whose death is its own. Descriptors that lead out of the new root are closed: openat(fd, "..") would go
 * past any namespace.
 *
 * The new root is put together from detached mounts (open_tree, fsmount) before the job leaves the old mount
 * namespace, since trees of another namespace cannot be cloned; then it is attached over "/" and pivoted to.
 *
 * What the system-call filter does not try: to tell good arguments of path calls from bad ones. The root directory
 * and the capabilities do that. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/job/confine.h"
#include "proto/base/mem.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 /* shadow memory is far above any limit, and the runtime makes calls of its own */
#else
#define SANITIZED 0
#endif

/* --- limits ----------------------------------------------------------------------------------------------------
 */

static int limit(int resource, rlim_t value, struct err *e)
{
    struct rlimit l = {.rlim_cur = value, .rlim_max = value};

    return setrlimit((__rlimit_resource_t)resource, &l) < 0 ? err_errno(e, "set resource limit %d", resource) : 0;
}

int confine_limits(const struct confine_limits *limits, struct err *e)
{
    int rc = 0;

    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
        return err_errno(e, "bind the job to its parent");
    /* A parent that died before this line is noticed by the end of standard input. */
    rc = limit(RLIMIT_CORE, 0, e);
    if (rc == 0 && !SANITIZED)
        rc = limit(RLIMIT_DATA, limits->memory_bytes, e);
    if (rc == 0)
        rc = limit(RLIMIT_FSIZE, limits->file_bytes, e);
    if (rc == 0)
        rc = limit(RLIMIT_NOFILE, limits->descriptors, e);
    if (rc == 0 && signal(SIGXFSZ, SIG_IGN) == SIG_ERR) /* write then fails with EFBIG, which has a message */
        rc = err_errno(e, "ignore SIGXFSZ");
    return rc;
}

/* --- the root directory ----------------------------------------------------------------------------------------
 */

static int clone_tree(int dir_fd, const char *path, uint64_t attributes, int *ret, struct err *e)
{
    struct mount_attr attr = {.attr_set = attributes};
    AUTO_CLOSE
    int fd = open_tree(dir_fd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (*path ? 0 : AT_EMPTY_PATH));

    if (fd < 0)
        return err_errno(e, "clone the mount of %s", *path ? path : "the work directory");
    if (mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
        return err_errno(e, "restrict the mount of %s", *path ? path : "the work directory");
    *ret = steal_fd(&fd);
    return 0;
}

/* Put the detached tree over "/" of this (own) mount namespace and make it the root. */
static int enter(int tree_fd, struct err *e)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_errno(e, "make mounts private");
    if (move_mount(tree_fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_errno(e, "attach the new root");
    if (fchdir(tree_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return err_errno(e, "enter the new root");
    /* The old root lies on top of the new one now, here at ".". */
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return err_errno(e, "leave the old root");
    return 0;
}

int confine_root(int dir_fd, bool alone, int *ret_root_fd, struct err *e)
{
    int flags = CLONE_NEWNS | (alone ? CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID : 0);
    AUTO_CLOSE
    int tree = -1;
    int rc = clone_tree(dir_fd, "", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, &tree, e);

    close(dir_fd);
    if (rc < 0)
        return rc;
    if (unshare(flags) < 0)
        return err_errno(e, "enter namespaces of its own");
    rc = enter(tree, e);
    if (rc < 0)
        return rc;
    int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_errno(e, "open the new root");
    *ret_root_fd = root;
    return 0;
}

/* What name resolution and TLS read. Libraries, because the C library loads name services and OpenSSL loads
 * providers when they are first needed. */
static const char *const shared[] = {
    "/etc/resolv.conf", "/etc/hosts",    "/etc/nsswitch.conf",
    "/etc/host.conf",   "/etc/gai.conf", "/etc/services",
    "/etc/ssl",         "/etc/pki",      "/usr/share/ca-certificates",
    "/usr/lib",         "/usr/lib64",    "/lib",
    "/lib64",
};

/* Make the directories above `path` and `path` itself, as a directory or an empty file. */
static int make_mount_point(int root, const char *path, bool directory, struct err *e)
{
    AUTO_FREE
    char *copy = mem_strdup(path + 1);

    for (char *at = copy; *at; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        if (mkdirat(root, copy, 0755) < 0 && errno != EEXIST)
            return err_errno(e, "make /%s", copy);
        *at = '/';
    }
    if (directory) {
        if (mkdirat(root, copy, 0755) < 0 && errno != EEXIST)
            return err_errno(e, "make %s", path);
        return 0;
    }
    int fd = openat(root, copy, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_errno(e, "make %s", path);
    close(fd);
    return 0;
}

/* One path of the old root at the same place of the new one. Absent ones are left out; a link stays a link when it
 * leads to something shared as well ("/lib" -> "usr/lib"), and is followed otherwise. */
struct share {
    const char *path; /* borrowed */
    int tree;         /* detached clone, or -1 */
    char link[64];    /* or what the link says */
    bool directory;
};

static int share_prepare(struct share *s, struct err *e)
{
    struct stat st;
    ssize_t length = readlink(s->path, s->link, sizeof(s->link) - 1);

    s->tree = -1;
    if (length > 0 && strncmp(s->link, "usr/lib", 7) == 0) {
        s->link[length] = '\0';
        return 0;
    }
    s->link[0] = '\0';
    if (stat(s->path, &st) < 0)
        return errno == ENOENT ? 0 : err_errno(e, "look at %s", s->path);
    s->directory = S_ISDIR(st.st_mode);
    return clone_tree(AT_FDCWD, s->path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, &s->tree, e);
}

static int share_attach(const struct share *s, int root, struct err *e)
{
    if (s->link[0])
        return symlinkat(s->link, root, s->path + 1) < 0 ? err_errno(e, "link %s", s->path) : 0;
    if (s->tree < 0)
        return 0;
    int rc = make_mount_point(root, s->path, s->directory, e);
    if (rc < 0)
        return rc;
    if (move_mount(s->tree, "", root, s->path + 1, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return err_errno(e, "attach %s", s->path);
    return 0;
}

static int small_tmpfs(int *ret, struct err *e)
{
    AUTO_CLOSE
    int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

    if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "size", "256k", 0) < 0 ||
        fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return err_errno(e, "make an empty file system");
    int fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    if (fd < 0)
        return err_errno(e, "mount an empty file system");
    *ret = fd;
    return 0;
}

static int root_network_build(int dir_fd, struct share *shares, size_t count, int *ret_work, struct err *e)
{
    AUTO_CLOSE
    int work = -1;
    AUTO_CLOSE
    int root = -1;
    int rc = clone_tree(dir_fd, "", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, &work, e);

    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = share_prepare(&shares[i], e);
    if (rc == 0)
        rc = small_tmpfs(&root, e);
    if (rc < 0)
        return rc;
    if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
        return err_errno(e, "enter namespaces of its own");
    rc = enter(root, e);
    if (rc == 0)
        rc = make_mount_point(root, "/work", true, e);
    if (rc == 0 && move_mount(work, "", root, "work", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        rc = err_errno(e, "attach the work directory");
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = share_attach(&shares[i], root, e);
    if (rc == 0 &&
        mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        rc = err_errno(e, "make the new root read-only");
    if (rc < 0)
        return rc;
    *ret_work = open("/work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret_work < 0 ? err_errno(e, "open the work directory") : 0;
}

int confine_root_network(int dir_fd, const char *certificates, int *ret_root_fd, struct err *e)
{
    struct share shares[ARRAY_SIZE(shared) + 1];
    size_t count = 0;

    for (size_t i = 0; i < ARRAY_SIZE(shared); i++)
        shares[count++] = (struct share){.path = shared[i], .tree = -1};
    if (certificates && *certificates == '/')
        shares[count++] = (struct share){.path = certificates, .tree = -1};
    int rc = root_network_build(dir_fd, shares, count, ret_root_fd, e);
    for (size_t i = 0; i < count; i++)
        if (shares[i].tree >= 0)
            close(shares[i].tree);
    close(dir_fd);
    return rc;
}

/* --- capabilities ----------------------------------------------------------------------------------------------
 */

int confine_capabilities(uint64_t keep, struct err *e)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};

    for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
        if (!(cap < 64 && keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap) < 0)
            return err_errno(e, "drop capability %d", cap);
    for (int i = 0; i < 2; i++)
        data[i].effective = data[i].permitted = (uint32_t)(keep >> (32 * i));
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 || capset(&head, data) < 0)
        return err_errno(e, "set capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_errno(e, "forbid new privileges");
    return 0;
}

/* --- system calls ----------------------------------------------------------------------------------------------
 */

#define CALL(name) SCMP_SYS(name)

static const int calls_common[] = {
    CALL(read),         CALL(readv),           CALL(pread64),        CALL(write),        CALL(writev),
    CALL(close),        CALL(fstat),           CALL(newfstatat),     CALL(statx),        CALL(lseek),
    CALL(brk),          CALL(munmap),          CALL(mremap),         CALL(madvise),      CALL(futex),
    CALL(rt_sigreturn), CALL(rt_sigaction),    CALL(rt_sigprocmask), CALL(exit),         CALL(exit_group),
    CALL(getpid),       CALL(gettid),          CALL(clock_gettime),  CALL(gettimeofday), CALL(time),
    CALL(getrandom),    CALL(restart_syscall), CALL(poll),           CALL(ppoll),
};

static const int calls_files[] = {
    CALL(openat2),   CALL(mkdirat),  CALL(mknodat),   CALL(symlinkat), CALL(linkat),    CALL(unlinkat),
    CALL(fchownat),  CALL(fchown),   CALL(fchmod),    CALL(fchmodat),  CALL(utimensat), CALL(fsetxattr),
    CALL(ftruncate), CALL(pwrite64), CALL(fdatasync), CALL(fsync),
};

static const int calls_mark[] = {CALL(openat2), CALL(fsetxattr), CALL(syncfs), CALL(wait4), CALL(waitid)};

/* What tree_remove takes; it renames what lies deeper than it holds descriptors. */
static const int calls_remove[] = {CALL(openat),    CALL(openat2), CALL(getdents64), CALL(unlinkat),
                                   CALL(renameat2), CALL(fcntl),   CALL(fadvise64)};

static const int calls_network[] = {
    CALL(openat),
    CALL(openat2),
    CALL(open),
    CALL(stat),
    CALL(lstat),
    CALL(access),
    CALL(faccessat),
    CALL(faccessat2),
    CALL(readlink),
    CALL(readlinkat),
    CALL(getdents64),
    CALL(getcwd),
    CALL(fcntl),
    CALL(pwrite64),
    CALL(ftruncate),
    CALL(fsync),
    CALL(fdatasync),
    CALL(unlinkat),
    CALL(connect),
    CALL(bind),
    CALL(getsockname),
    CALL(getpeername),
    CALL(getsockopt),
    CALL(setsockopt),
    CALL(sendto),
    CALL(sendmsg),
    CALL(sendmmsg),
    CALL(recvfrom),
    CALL(recvmsg),
    CALL(shutdown),
    CALL(select),
    CALL(pselect6),
    CALL(epoll_create1),
    CALL(epoll_ctl),
    CALL(epoll_wait),
    CALL(epoll_pwait),
    CALL(eventfd2),
    CALL(pipe),
    CALL(pipe2),
    CALL(socketpair),
    CALL(ioctl),
    CALL(uname),
    CALL(sysinfo),
    CALL(getuid),
    CALL(geteuid),
    CALL(getgid),
    CALL(getegid),
    CALL(getppid),
    CALL(sched_yield),
    CALL(sched_getaffinity),
    CALL(set_robust_list),
    CALL(rseq),
    CALL(clock_nanosleep),
    CALL(nanosleep),
    CALL(clock_getres),
    CALL(prlimit64),
    CALL(getrlimit),
    CALL(sigaltstack),
    CALL(membarrier),
    CALL(fadvise64),
    CALL(get_robust_list),
};

/* What the sanitizers' run-time makes besides, when they are compiled in. */
static const int calls_sanitizer[] = {
    CALL(openat),          CALL(readlink),
    CALL(getrlimit),       CALL(prlimit64),
    CALL(sched_yield),     CALL(sigaltstack),
    CALL(prctl),           CALL(mmap),
    CALL(mprotect),        CALL(sched_getaffinity),
    CALL(uname),           CALL(getcwd),
    CALL(set_robust_list), CALL(rseq),
    CALL(readlinkat),      CALL(fcntl),
    CALL(getuid),          CALL(ioctl),
};

struct filter {
    scmp_filter_ctx context;
    int error; /* first failure, negative errno */
};

static void allow(struct filter *f, const int *calls, size_t count)
{
    for (size_t i = 0; i < count && f->error == 0; i++) {
        int rc = calls[i] < 0 ? 0 /* not on this architecture */
                              : seccomp_rule_add(f->context, SCMP_ACT_ALLOW, calls[i], 0);

        if (rc < 0 && rc != -EEXIST)
            f->error = rc;
    }
}

static void allow_if(struct filter *f, int call, unsigned conditions, const struct scmp_arg_cmp *compare)
{
    int rc = f->error ? 0 : seccomp_rule_add_array(f->context, SCMP_ACT_ALLOW, call, conditions, compare);

    if (rc < 0 && rc != -EEXIST)
        f->error = rc;
}

/* Memory that can be executed: never made from nothing, nor from what was written. A job that may load libraries
 * maps them from files, and every place it can write to is mounted without execution. */
static void allow_memory(struct filter *f, bool libraries)
{
    const struct scmp_arg_cmp plain = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
    const struct scmp_arg_cmp file = SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, 0);

    allow_if(f, SCMP_SYS(mmap), 1, &plain);
    allow_if(f, SCMP_SYS(mprotect), 1, &plain);
    if (libraries)
        allow_if(f, SCMP_SYS(mmap), 1, &file);
}

static void allow_network(struct filter *f)
{
    static const int families[] = {AF_INET, AF_INET6, AF_NETLINK}; /* the last: which addresses this host has */

    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        const struct scmp_arg_cmp family = {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = (scmp_datum_t)families[i]};

        allow_if(f, SCMP_SYS(socket), 1, &family);
    }
    /* Threads, not processes. clone3 hides its flags from us: ENOSYS makes the C library take clone. */
    const struct scmp_arg_cmp thread = SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD);
    allow_if(f, SCMP_SYS(clone), 1, &thread);
}

static const struct {
    const int *calls;
    size_t count;
} call_lists[] = {
    [CONFINE_FILES] = {calls_files, ARRAY_SIZE(calls_files)},
    [CONFINE_MARK] = {calls_mark, ARRAY_SIZE(calls_mark)},
    [CONFINE_REMOVE] = {calls_remove, ARRAY_SIZE(calls_remove)},
    [CONFINE_NETWORK] = {calls_network, ARRAY_SIZE(calls_network)},
};

int confine_system_calls(enum confine_calls kind, struct err *e)
{
    struct filter f = {.context = seccomp_init(SCMP_ACT_ERRNO(ENOSYS))};

    if (!f.context)
        return err_set(e, ERR_INTERNAL, "cannot make a system call filter");
    allow(&f, calls_common, ARRAY_SIZE(calls_common));
    allow(&f, call_lists[kind].calls, call_lists[kind].count);
    const struct scmp_arg_cmp self = {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = (scmp_datum_t)getpid()};
    allow_if(&f, SCMP_SYS(tgkill), 1, &self); /* abort() */
    if (SANITIZED)
        allow(&f, calls_sanitizer, ARRAY_SIZE(calls_sanitizer));
    else
        allow_memory(&f, kind == CONFINE_NETWORK);
    if (kind == CONFINE_NETWORK)
        allow_network(&f);
    int rc = f.error ? f.error : seccomp_load(f.context);
    seccomp_release(f.context);
    return rc < 0 ? err_number(e, -rc, "load the system call filter") : 0;
}
