/* What a program finds inside a container: run there by tests, without any library of the image.
 *
 * usage: inside fds | calls | namespaces | write PATH | read PATH | lines COUNT PER_SECOND SIZE [BLOCK]
 *        | swap DIR ROUNDS | hunt KEEPER | reach | agent */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void say(const char *what, long rc)
{
    printf("%s: %s\n", what, rc < 0 ? strerrorname_np(errno) : "ok");
}

/* Every descriptor that was open when we started. */
static int fds(void)
{
    char path[64], target[4096];

    for (int fd = 0; fd < 4096; fd++) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        ssize_t length = readlink(path, target, sizeof(target) - 1);

        if (length < 0)
            continue;
        target[length] = '\0';
        printf("%d %s\n", fd, target);
    }
    return 0;
}

/* System calls a default profile refuses, with what it answers. */
static int calls(void)
{
    char arguments[128] = {0};

    say("keyctl", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, -3, 0));
    say("unshare", syscall(SYS_unshare, CLONE_NEWUSER));
    say("mount", mount("tmpfs", "/tmp", "tmpfs", 0, NULL));
    say("bpf", syscall(SYS_bpf, 0, NULL, 0));
    say("clone3", syscall(SYS_clone3, arguments, 64));
    say("open_by_handle_at", syscall(SYS_open_by_handle_at, 0, NULL, 0));
    say("init_module", syscall(SYS_init_module, NULL, 0, ""));
    say("newer", syscall(5000));
    say("reboot", syscall(SYS_reboot, 0, 0, 0, NULL));
    say("getpid", syscall(SYS_getpid));
    return 0;
}

static int namespaces(void)
{
    static const char *const names[] = {"mnt", "net", "pid", "ipc", "uts", "cgroup"};
    char path[64], target[128];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "/proc/self/ns/%s", names[i]);
        ssize_t length = readlink(path, target, sizeof(target) - 1);

        printf("%.*s\n", length < 0 ? 0 : (int)length, target);
    }
    return 0;
}

static int try_write(const char *path)
{
    int fd = open(path, O_WRONLY | O_NONBLOCK);

    say("open", fd);
    if (fd >= 0)
        say("write", write(fd, "x", 1));
    return 0;
}

static int try_read(const char *path)
{
    char byte;
    int fd = open(path, O_RDONLY | O_NONBLOCK);

    say("open", fd);
    if (fd >= 0)
        printf("read: %zd\n", read(fd, &byte, 1));
    return 0;
}

static int write_all(const char *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t wrote = write(1, data + done, size - done);

        if (wrote < 0)
            return -1;
        done += (size_t)wrote;
    }
    return 0;
}

static void wait_until(const struct timespec *begin, long long after_ns)
{
    long long ns = begin->tv_nsec + after_ns;
    struct timespec at = {begin->tv_sec + ns / 1000000000, ns % 1000000000};

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

/* Numbered lines of `size` bytes at a rate, each written by itself or gathered into blocks. */
static int lines(long count, long per_second, size_t size, size_t block)
{
    char *buffer = malloc(block + size + 64);
    size_t used = 0;
    struct timespec begin;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (long i = 0; i < count; i++) {
        int length = sprintf(buffer + used, "line %08ld ", i);

        memset(buffer + used + length, 'x', size - (size_t)length - 1);
        buffer[used + size - 1] = '\n';
        used += size;
        if (used >= block || i + 1 == count) {
            if (write_all(buffer, used) < 0)
                return 3;
            used = 0;
        }
        if (per_second)
            wait_until(&begin, (i + 1) * 1000000000ll / per_second);
    }
    return 0;
}

/* Exchange DIR/t between a directory and links that lead out, as fast as possible. */
static int swap(const char *dir, long rounds)
{
    static const char *const ways[] = {"/", "../../../../..", "/proc", "/proc/self/root", "/etc"};

    if (chdir(dir) < 0)
        return 4;
    mkdir("t", 0755);
    for (long i = 0; i < rounds; i++) {
        unlink("l");
        if (symlink(ways[i % 5], "l") < 0)
            return 5;
        for (int k = 0; k < 2; k++)
            syscall(SYS_renameat2, AT_FDCWD, "t", AT_FDCWD, "l", 2 /* RENAME_EXCHANGE */);
    }
    return 0;
}

static int keeper; /* whom hunt looks for */

/* The keeper, its logger, or a child of it that has not yet become a container. */
static int is_keeper(const char *pid)
{
    char path[300], line[512] = "", *end;
    int parent = 0, fd;

    snprintf(path, sizeof(path), "/proc/%s/stat", pid);
    fd = open(path, O_RDONLY);
    if (fd >= 0 && read(fd, line, sizeof(line) - 1) < 0)
        line[0] = '\0';
    if (fd >= 0)
        close(fd);
    end = strrchr(line, ')');
    return end && sscanf(end, ") %*c %d", &parent) == 1 && strstr(line, "(shoal-keeper)") &&
           (parent == keeper || atoi(pid) == keeper);
}

/* It counts only if the process is still what it was. */
static void took(const char *pid, const char *what, long rc)
{
    if (rc >= 0 && is_keeper(pid))
        printf("took %s of %s\n", what, pid);
}

static void hunt_one(const char *pid)
{
    static const char *const parts[] = {"root", "cwd", "mem"};
    char path[400];

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        snprintf(path, sizeof(path), "/proc/%s/%s", pid, parts[i]);
        int fd = open(path, O_RDONLY);

        took(pid, parts[i], fd);
        if (fd >= 0)
            close(fd);
    }
    for (int n = 3; n < 40; n++) {
        snprintf(path, sizeof(path), "/proc/%s/fd/%d", pid, n);
        int fd = open(path, O_RDONLY | O_NONBLOCK);

        took(pid, "a descriptor", fd);
        if (fd >= 0)
            close(fd);
    }
    pid_t child = fork(); /* a tracer that ends lets go */
    if (child == 0) {
        took(pid, "control", ptrace(PTRACE_SEIZE, atoi(pid), 0, 0));
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

/* Look for the runtime among all processes and take what one can of it, until /tmp/end is there. */
static int hunt(void)
{
    unsigned seen = 0;

    while (access("/tmp/end", F_OK) < 0) {
        DIR *dir = opendir("/proc");
        const struct dirent *entry;

        while (dir && (entry = readdir(dir)))
            if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && is_keeper(entry->d_name)) {
                if (seen++ == 0)
                    printf("hunting\n");
                hunt_one(entry->d_name);
            }
        if (dir)
            closedir(dir);
    }
    printf("saw %s\n", seen ? "some" : "none");
    return 0;
}

/* Connect to every socket of messages that this network namespace knows by name. */
static int reach(void)
{
    FILE *list = fopen("/proc/net/unix", "r");
    char line[512], name[256];
    unsigned type, tried = 0;

    while (list && fgets(line, sizeof(line), list)) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        if (sscanf(line, "%*s %*s %*s %*s %x %*s %*s %255s", &type, name) != 2 || type != SOCK_SEQPACKET)
            continue;
        size_t length = strlen(name) < sizeof(address.sun_path) ? strlen(name) : sizeof(address.sun_path) - 1;
        memcpy(address.sun_path, name, length);
        if (name[0] == '@')
            address.sun_path[0] = '\0';
        int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
        tried++;
        if (connect(fd, (struct sockaddr *)&address,
                    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) == 0)
            printf("reached %s\n", name);
        close(fd);
    }
    printf("tried %s\n", tried ? "some" : "none");
    return 0;
}

/* The way out by a control group's release agent: mount a hierarchy of one's own and name a program there. */
static int agent(void)
{
    static const char *const kinds[] = {"memory", "rdma", "pids", "devices", "misc"};
    int alone = unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP);

    say("unshare", alone);
    mkdir("/tmp/agent", 0755);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (mount("cgroup", "/tmp/agent", "cgroup", 0, kinds[i]) < 0)
            continue;
        int fd = open("/tmp/agent/release_agent", O_WRONLY);

        if (fd >= 0 && write(fd, "/bin/true", 9) > 0)
            printf("named an agent of %s\n", kinds[i]);
        if (fd >= 0)
            close(fd);
        umount("/tmp/agent");
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(verb, "fds") == 0)
        return fds();
    if (strcmp(verb, "calls") == 0)
        return calls();
    if (strcmp(verb, "namespaces") == 0)
        return namespaces();
    if (strcmp(verb, "write") == 0 && argc == 3)
        return try_write(argv[2]);
    if (strcmp(verb, "read") == 0 && argc == 3)
        return try_read(argv[2]);
    if (strcmp(verb, "lines") == 0 && argc >= 5)
        return lines(strtol(argv[2], NULL, 10), strtol(argv[3], NULL, 10), strtoul(argv[4], NULL, 10),
                     argc > 5 ? strtoul(argv[5], NULL, 10) : 1);
    if (strcmp(verb, "swap") == 0 && argc == 4)
        return swap(argv[2], strtol(argv[3], NULL, 10));
    if (strcmp(verb, "hunt") == 0 && argc == 3) {
        keeper = atoi(argv[2]);
        return hunt();
    }
    if (strcmp(verb, "reach") == 0)
        return reach();
    if (strcmp(verb, "agent") == 0)
        return agent();
    return 2;
}
