/* The end of a launch: terminal, standard streams, and the child becomes the program.
 *
 * The order is the one that works (child_become):
 *
 *     working directory and user are looked up while we are still root, in the container's own root
 *     streams get their owner, limits are set, the keeper's word is awaited
 *     nobody may look into us, every other descriptor is closed  nothing but 0, 1, 2 survives (CVE-2024-21626), and
 *                                                                a container that sees this process (pid host)
 * finds nothing to take from it once it has no more privileges than that container (CVE-2016-9962) no_new_privs,
 * bounding set, groups, group, user            with capabilities kept seccomp needs CAP_SYS_ADMIN unless
 * no_new_privs is set, and what follows must be allowed by the profile capabilities, exec
 *
 * The terminal is made in the sandbox's own devpts, by descriptor: the master from its ptmx, checked to be one, the
 * slave from the master (TIOCGPTPEER) and never from a path, and /dev/console is a mount of that slave on a file of
 * our own /dev, before anything of the container is mounted there (the class of CVE-2025-52565). */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "engine/keeper/child.h"
#include "engine/keeper/packet.h"
#include "proto/base/clock.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* --- terminal -------------------------------------------------------------------------------------- */

static int own_pts(struct child *c, struct err *e)
{
    static char mode[] = "mode=0620", ptmx[] = "ptmxmode=0666", gid[] = "gid=5";
    char *const options[] = {mode, ptmx, gid};

    if (c->pts >= 0)
        return 0;
    return child_new_mount("devpts", options, ARRAY_SIZE(options), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, &c->pts,
                           e);
}

static int open_master(struct child *c, int *ret_fd, struct err *e)
{
    AUTO_CLOSE
    int fd = openat(c->pts, "ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct statfs fs;
    struct stat st;
    int locked = 0;

    if (fd < 0 || fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
        return err_errno(e, "open ptmx");
    if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2) || fs.f_type != DEVPTS_SUPER_MAGIC)
        return err_set(e, ERR_INTERNAL, "ptmx is not what it should be");
    if (ioctl(fd, TIOCSPTLCK, &locked) < 0)
        return err_errno(e, "unlock");
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int mount_console(struct child *c, struct err *e)
{
    AUTO_CLOSE
    int dev = openat(c->root, "dev", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    AUTO_CLOSE
    int clone = -1;

    if (dev < 0)
        return err_errno(e, "open /dev");
    AUTO_CLOSE
    int file = openat(dev, "console", O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0)
        return err_errno(e, "make /dev/console");
    int rc = child_clone_tree(c->terminal, "", false, &clone, e);
    return rc < 0 ? rc : child_attach(clone, file, "/dev/console", e);
}

static bool has_top(const struct child *c, const char *name)
{
    for (unsigned i = 0; i < c->top_count; i++)
        if (strcmp(c->tops[i], name) == 0)
            return true;
    return false;
}

int child_terminal(struct child *c, struct err *e)
{
    AUTO_CLOSE
    int master = -1;
    static const char tag[] = {CHILD_TERMINAL};
    int rc = own_pts(c, e);

    if (rc == 0)
        rc = open_master(c, &master, e);
    if (rc < 0)
        return err_wrap(e, "terminal");
    c->terminal = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (c->terminal < 0)
        return err_errno(e, "terminal: open its other side");
    if (has_top(c, "dev")) /* a /dev that is the user's own is left as it is */
        rc = mount_console(c, e);
    if (rc == 0)
        rc = packet_send(c->channel, tag, sizeof(tag), &master, 1, e);
    return rc < 0 ? err_wrap(e, "terminal") : 0;
}

/* --- streams --------------------------------------------------------------------------------------- */

static bool is_null(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

/* The null device: the one of the container's own /dev where that was built by us, else the staging root's. */
static int open_null(struct child *c, int *ret_fd, struct err *e)
{
    int fd = has_top(c, "dev") ? openat(c->staging, "root/dev/null", O_RDWR | O_NOFOLLOW | O_CLOEXEC) : -1;

    if (fd < 0 || !is_null(fd)) {
        if (fd >= 0)
            close(fd);
        fd = openat(c->staging, "null", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    }
    if (fd < 0)
        return err_errno(e, "open the null device");
    *ret_fd = fd;
    return 0;
}

int child_stdio(struct child *c, struct err *e)
{
    if (c->terminal >= 0) {
        close(c->output);
        close(c->error);
        c->input = c->output = c->error = c->terminal;
        return 0;
    }
    return c->input >= 0 ? 0 : open_null(c, &c->input, e);
}

/* Streams belong to the user, so that /dev/stdout can be opened again; the null device is shared and stays. */
static void give_stream(int fd, uid_t uid)
{
    struct stat st;

    if (fstat(fd, &st) == 0 && !is_null(fd) && st.st_uid != uid && fchown(fd, uid, (gid_t)-1) < 0)
        return; /* only reopening by path fails then */
}

static int take_streams(struct child *c, uid_t uid, struct err *e)
{
    const int from[3] = {c->input, c->output, c->error};

    if (c->terminal >= 0 && ioctl(c->terminal, TIOCSCTTY, 0) < 0)
        return err_errno(e, "make the terminal the controlling one");
    for (int i = 0; i < 3; i++) {
        if (dup2(from[i], i) < 0)
            return err_errno(e, "take stream %d", i);
        give_stream(i, uid);
    }
    return 0;
}

/* --- who and where --------------------------------------------------------------------------------- */

/* A file of the container that must be a plain one and within the limit; absent is empty. */
static int read_plain(struct child *c, const char *path, struct buf *into, struct err *e)
{
    AUTO_CLOSE
    int look = -1;
    struct stat st;
    int rc = root_open(c->root, path, O_PATH, 0, &look, NULL);

    if (rc == ERR_NOT_FOUND)
        return 0;
    if (rc < 0 || fstat(look, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "%s in the container is not a plain file", path);
    /* Nonblocking, in case somebody who shares a volume exchanges it for a pipe right now. */
    AUTO_CLOSE
    int fd = -1;
    rc = root_open(c->root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &fd, e);
    if (rc < 0)
        return rc;
    rc = file_read_all(fd, USER_FILE_MAX, into, e);
    return rc < 0 ? err_wrap(e, "%s in the container", path) : 0;
}

static int find_user(struct child *c, struct user *ret, struct err *e)
{
    AUTO_BUF struct buf passwd = {0}, group = {0};
    const StepUser *s = c->user;
    const char *spec = s && s->user ? s->user : "";
    int rc = read_plain(c, "/etc/passwd", &passwd, e);

    if (rc == 0)
        rc = read_plain(c, "/etc/group", &group, e);
    if (rc == 0)
        rc = user_resolve(spec, s ? s->groups : NULL, s ? s->n_groups : 0, passwd.length ? buf_bytes(&passwd) : "",
                          passwd.length, group.length ? buf_bytes(&group) : "", group.length, ret, e);
    return rc;
}

static int enter_directory(struct child *c, struct err *e)
{
    const char *path = c->exec->working_dir && *c->exec->working_dir ? c->exec->working_dir : "/";
    AUTO_CLOSE
    int fd = -1;
    char where[4096];
    int rc = root_open(c->root, path, O_PATH | O_DIRECTORY, 0, &fd, e);

    if (rc < 0)
        return err_wrap(e, "working directory");
    if (fchdir(fd) < 0)
        return err_errno(e, "working directory %s", path);
    /* A directory outside the root would have no path in it: the class of CVE-2024-21626. */
    long length = syscall(SYS_getcwd, where, sizeof(where));
    if (length < 0 || where[0] != '/')
        return err_set(e, ERR_INTERNAL, "working directory %s is outside the root", path);
    return 0;
}

static int set_limits(struct child *c, struct err *e)
{
    (void)setrlimit(RLIMIT_NOFILE, &c->birth->files); /* lowers what the keeper raised for itself */
    for (size_t i = 0; i < c->plan->n_steps; i++) {
        const StepRlimit *s = c->plan->steps[i]->rlimit;

        if (!s)
            continue;
        struct rlimit limit = {.rlim_cur = s->soft == UINT64_MAX ? RLIM_INFINITY : s->soft,
                               .rlim_max = s->hard == UINT64_MAX ? RLIM_INFINITY : s->hard};
        if (setrlimit((__rlimit_resource_t)s->resource, &limit) < 0)
            return err_errno(e, "limit %u to %llu:%llu", s->resource, (unsigned long long)s->soft,
                             (unsigned long long)s->hard);
    }
    return 0;
}

/* --- privileges ------------------------------------------------------------------------------------ */

static int set_capabilities(uint64_t effective, uint64_t permitted, uint64_t inheritable, struct err *e)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    for (int i = 0; i < 2; i++)
        data[i] = (struct __user_cap_data_struct){.effective = (uint32_t)(effective >> 32 * i),
                                                  .permitted = (uint32_t)(permitted >> 32 * i),
                                                  .inheritable = (uint32_t)(inheritable >> 32 * i)};
    return syscall(SYS_capset, &head, data) < 0 ? err_errno(e, "set capabilities") : 0;
}

static int drop_bounding(uint64_t keep, struct err *e)
{
    for (unsigned long i = 0; i < 64; i++) {
        if (keep & 1ull << i)
            continue;
        if (prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0) {
            if (errno == EINVAL)
                return 0; /* the kernel knows no more */
            return err_errno(e, "drop capability %lu", i);
        }
    }
    return 0;
}

static int change_user(const struct user *u, struct err *e)
{
    /* The bare system calls: nothing else runs in this process, and no library needs telling. */
    if (syscall(SYS_setgroups, (size_t)u->group_count, u->groups) < 0)
        return err_errno(e, "set groups");
    if (syscall(SYS_setresgid, u->gid, u->gid, u->gid) < 0)
        return err_errno(e, "set group %u", u->gid);
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || syscall(SYS_setresuid, u->uid, u->uid, u->uid) < 0)
        return err_errno(e, "set user %u", u->uid);
    return 0;
}

/* Before its descriptor is closed. The mapping goes with the exec. */
static int map_seccomp(struct child *c, struct sock_fprog *ret, struct err *e)
{
    const void *data;
    size_t size;
    int rc = memfd_map(c->fds[c->seccomp->program_fd], &data, &size, e);

    if (rc < 0)
        return err_wrap(e, "seccomp program");
    if (size % sizeof(struct sock_filter) || size / sizeof(struct sock_filter) > BPF_MAXINSNS)
        return err_set(e, ERR_INVALID, "seccomp program of %zu bytes", size);
    ret->len = (unsigned short)(size / sizeof(struct sock_filter));
    ret->filter = (struct sock_filter *)data;
    return 0;
}

/* Undumpable until the exec: nobody may trace us or open what /proc shows of us. Only the channel stays, for the
 * error of the exec; it ends with it. */
static int withdraw(struct child *c, struct err *e)
{
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_errno(e, "become undumpable");
    return child_close_others(c, e);
}

static int raise_ambient(uint64_t ambient, struct err *e)
{
    for (unsigned long i = 0; i < 64; i++)
        if (ambient & 1ull << i && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) < 0)
            return err_errno(e, "raise ambient capability %lu", i);
    return 0;
}

static int change_privileges(struct child *c, const struct user *u, const struct sock_fprog *program, struct err *e)
{
    static const uint64_t loader = 1ull << CAP_SYS_ADMIN;
    const StepCapabilities *s = c->capabilities;
    uint64_t effective = s ? s->effective : 0;
    uint64_t inheritable = s ? s->inheritable : 0;
    int rc;

    if (s && s->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_errno(e, "set no_new_privs");
    rc = drop_bounding(s ? s->bounding : 0, e);
    if (rc == 0)
        rc = change_user(u, e);
    if (rc == 0)
        rc = set_capabilities(effective | loader, effective | loader, inheritable, e);
    if (rc == 0)
        rc = raise_ambient(s ? s->ambient : 0, e);
    if (rc == 0 && c->seccomp && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, program) < 0)
        rc = err_errno(e, "load the seccomp program");
    if (rc == 0)
        rc = set_capabilities(effective, effective, inheritable, e);
    return rc;
}

/* --- exec ------------------------------------------------------------------------------------------ */

static const char *env_of(const StepExec *s, const char *name)
{
    size_t length = strlen(name);

    for (size_t i = s->n_env; i-- > 0;) /* the last one counts */
        if (strncmp(s->env[i], name, length) == 0 && s->env[i][length] == '=')
            return s->env[i] + length + 1;
    return NULL;
}

/* argv and env with their NULL, HOME added. */
static char **make_list(struct child *c, char *const *from, size_t count, const char *more)
{
    char **list = arena_array(&c->arena, count + 2, sizeof(char *));

    memcpy(list, from, count * sizeof(char *));
    if (more)
        list[count] = (char *)more;
    return list;
}

static int exec_error(const char *name, int number, struct err *e)
{
    static const struct {
        int number, code;
        const char *text;
    } known[] = {
        {ENOENT, ERR_NOT_FOUND, "no such file or directory"},
        {EACCES, ERR_DENIED, "permission denied"},
        {EISDIR, ERR_DENIED, "is a directory"},
        {ENOTDIR, ERR_NOT_FOUND, "not a directory"},
        {ENOEXEC, ERR_DENIED, "exec format error"},
        {EPERM, ERR_DENIED, "operation not permitted"},
        {ELOOP, ERR_DENIED, "too many levels of symbolic links"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (known[i].number == number)
            return err_set(e, known[i].code, "exec: \"%s\": %s", name, known[i].text);
    return err_number(e, number, "exec: \"%s\"", name);
}

/* Look along PATH as execvpe does, but with the container's PATH and Docker's words. */
static int exec_along_path(const char *name, char **argv, char **env, const char *path, struct err *e)
{
    char candidate[4096];
    int denied = 0;

    for (const char *at = path;; at++) {
        size_t length = strcspn(at, ":");
        int used = snprintf(candidate, sizeof(candidate), "%.*s%s%s", (int)length, length ? at : ".",
                            length ? "/" : "./", name);

        if (length == 0)
            used = snprintf(candidate, sizeof(candidate), "./%s", name);
        if (used > 0 && (size_t)used < sizeof(candidate)) {
            execve(candidate, argv, env);
            if (errno == EACCES || errno == EPERM)
                denied = errno;
            else if (errno != ENOENT && errno != ENOTDIR)
                return exec_error(candidate, errno, e);
        }
        at += length;
        if (!*at)
            break;
    }
    if (denied)
        return exec_error(name, denied, e);
    return err_set(e, ERR_NOT_FOUND, "exec: \"%s\": executable file not found in $PATH", name);
}

static int execute(char **argv, char **env, const char *path, struct err *e)
{
    if (!*argv[0])
        return err_set(e, ERR_NOT_FOUND, "exec: \"\": executable file not found in $PATH");
    if (!strchr(argv[0], '/'))
        return exec_along_path(argv[0], argv, env, path, e);
    execve(argv[0], argv, env);
    return exec_error(argv[0], errno, e);
}

static int await_word(struct child *c, struct err *e)
{
    char word = 0;
    ssize_t got;

    do
        got = recv(c->channel, &word, 1, 0);
    while (got < 0 && errno == EINTR);
    if (got != 1 || word != CHILD_GO)
        return err_set(e, ERR_CANCELED, "the launch was given up");
    return 0;
}

static int announce_exec(struct child *c, struct err *e)
{
    char packet[1 + sizeof(c->times)] = {CHILD_EXEC};

    memcpy(packet + 1, &c->times, sizeof(c->times));
    return packet_send(c->channel, packet, sizeof(packet), NULL, 0, e);
}

int child_become(struct child *c, struct err *e)
{
    static struct user user; /* large, and there is one */
    struct sock_fprog program = {0};
    int64_t begin_us = clock_mono_us(clock_real());
    int rc = enter_directory(c, e);

    if (rc == 0)
        rc = find_user(c, &user, e);
    if (rc < 0)
        return rc;
    const char *home = env_of(c->exec, "HOME") ? NULL : arena_printf(&c->arena, "HOME=%s", user.home);
    char **argv = make_list(c, c->exec->argv, c->exec->n_argv, NULL);
    char **env = make_list(c, c->exec->env, c->exec->n_env, home);
    const char *path = env_of(c->exec, "PATH");

    rc = take_streams(c, user.uid, e);
    if (rc == 0)
        rc = set_limits(c, e);
    if (rc == 0 && c->seccomp)
        rc = map_seccomp(c, &program, e);
    if (rc == 0)
        rc = await_word(c, e);
    c->times.go = c->times.pivot + (uint32_t)(clock_mono_us(clock_real()) - begin_us);
    if (rc == 0)
        rc = announce_exec(c, e);
    if (rc < 0)
        return rc;
    umask(0022);
    rc = withdraw(c, e);
    if (rc == 0)
        rc = change_privileges(c, &user, &program, e);
    c->executing = rc == 0;
    return rc < 0 ? rc : execute(argv, env, path ? path : DEFAULT_PATH, e);
}
