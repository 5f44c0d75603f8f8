/* What a job can still do once it has confined itself: each probe runs in a child that did. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "engine/job/confine.h"
#include "proto/base/mem.h"
#include "tests/support/job.h"

#define CAP(name) (1ull << CAP_##name)

/* Each answers whether it could. root_fd is the new root's descriptor. */
typedef bool probe(int root_fd);

static int opened(int fd, const char *path, int flags)
{
    struct open_how how = {.flags = (uint64_t)flags, .mode = flags & O_CREAT ? 0600 : 0};

    return (int)syscall(SYS_openat2, fd, path, &how, sizeof(how));
}

static bool sees_the_hosts_files(int root_fd)
{
    return opened(AT_FDCWD, "/etc/passwd", O_RDONLY) >= 0 || opened(AT_FDCWD, "/proc/self/status", O_RDONLY) >= 0 ||
           opened(root_fd, "../../../../../../etc/passwd", O_RDONLY) >= 0;
}

static bool sees_more_than_the_root(int root_fd)
{
    struct stat up, here;

    /* ".." of the root is the root. */
    return fstatat(root_fd, "..", &up, 0) == 0 && fstat(root_fd, &here) == 0 &&
           (up.st_ino != here.st_ino || up.st_dev != here.st_dev);
}

static bool holds_other_directories(int root_fd)
{
    struct stat st;

    for (int fd = 0; fd < 256; fd++)
        if (fd != root_fd && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
            return true;
    return false;
}

static bool makes_files(int root_fd)
{
    return opened(root_fd, "made", O_WRONLY | O_CREAT | O_EXCL) >= 0;
}

static bool makes_devices(int root_fd)
{
    return mknodat(root_fd, "device", S_IFBLK | 0600, 0x800) == 0;
}

static bool opens_devices(int root_fd)
{
    return (mknodat(root_fd, "null", S_IFCHR | 0666, 0x103) == 0 || errno == EEXIST) &&
           opened(root_fd, "null", O_RDONLY) >= 0;
}

static bool changes_owners(int root_fd)
{
    return fchownat(root_fd, "file", 1000, 1000, 0) == 0;
}

static bool marks_overlays(int root_fd)
{
    int fd = opened(root_fd, ".", O_RDONLY | O_DIRECTORY);

    return fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) == 0;
}

static bool runs_programs(int root_fd)
{
    char *argv[] = {NULL}, *envp[] = {NULL};

    return syscall(SYS_execveat, root_fd, "program", argv, envp, 0) >= 0 || errno != ENOSYS;
}

static bool makes_processes(int root_fd)
{
    return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) >= 0 || syscall(SYS_fork) >= 0 ||
           syscall(SYS_clone3, NULL, 0) >= 0 || errno != ENOSYS;
}

static bool mounts(int root_fd)
{
    return mount("x", "/", "tmpfs", 0, NULL) == 0 || syscall(SYS_fsopen, "tmpfs", 0) >= 0 ||
           unshare(CLONE_NEWNS) == 0;
}

static bool opens_internet_sockets(int root_fd)
{
    return socket(AF_INET, SOCK_STREAM, 0) >= 0;
}

static bool opens_other_sockets(int root_fd)
{
    return socket(AF_UNIX, SOCK_STREAM, 0) >= 0 || socket(AF_PACKET, SOCK_RAW, 0) >= 0 ||
           socket(AF_ALG, SOCK_SEQPACKET, 0) >= 0 || socket(AF_VSOCK, SOCK_STREAM, 0) >= 0;
}

static bool makes_memory_executable(int root_fd)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return page != MAP_FAILED &&
           (mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0 ||
            mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

static bool executes_what_it_wrote(int root_fd)
{
    int fd = opened(root_fd, "program", O_RDONLY);

    return fd >= 0 && mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) != MAP_FAILED;
}

static bool signals_others(int root_fd)
{
    return kill(1, 0) == 0 || syscall(SYS_tgkill, 1, 1, 0) == 0;
}

static bool traces(int root_fd)
{
    return ptrace(PTRACE_TRACEME, 0, 0, 0) == 0 || syscall(SYS_process_vm_readv, 1, NULL, 0, NULL, 0, 0) == 0;
}

static bool takes_much_memory(int root_fd)
{
    return mmap(NULL, (size_t)128 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

static bool writes_large_files(int root_fd)
{
    int fd = opened(root_fd, "large", O_WRONLY | O_CREAT);

    return pwrite(fd, "x", 1, 2 << 20) == 1;
}

static bool gets_capabilities_back(int root_fd)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = ~0u, .permitted = ~0u, .inheritable = ~0u}};

    return syscall(SYS_capset, &head, data) == 0 || setuid(0) == 0;
}

static bool loads_kernel_code(int root_fd)
{
    return syscall(SYS_bpf, 0, NULL, 0) >= 0 || syscall(SYS_init_module, NULL, 0, "") >= 0 ||
           syscall(SYS_io_uring_setup, 1, NULL) >= 0 || syscall(SYS_userfaultfd, 0) >= 0 || errno != ENOSYS;
}

static bool opens_by_handle(int root_fd)
{
    return syscall(SYS_open_by_handle_at, root_fd, NULL, 0) >= 0 || errno != ENOSYS;
}

/* One row for each probe: which kinds of job can. */
enum {
    FILES = 1 << CONFINE_FILES,
    MARK = 1 << CONFINE_MARK,
    REMOVE = 1 << CONFINE_REMOVE,
    NETWORK = 1 << CONFINE_NETWORK
};

static const struct {
    const char *name;
    probe *run;
    unsigned who; /* kinds that can */
    bool not_sanitized;
} probes[] = {
    {"sees the host's files", sees_the_hosts_files, 0, false},
    {"sees more than the root", sees_more_than_the_root, NETWORK, false},
    {"holds other directories", holds_other_directories, 0, false},
    {"makes files", makes_files, FILES | NETWORK | MARK | REMOVE, false},
    {"makes devices", makes_devices, FILES, false},
    {"opens devices", opens_devices, 0, false},
    {"changes owners", changes_owners, FILES, false},
    {"marks overlays", marks_overlays, MARK, false},
    {"runs programs", runs_programs, 0, false},
    {"makes processes", makes_processes, 0, false},
    {"mounts", mounts, 0, false},
    {"opens internet sockets", opens_internet_sockets, NETWORK, false},
    {"opens other sockets", opens_other_sockets, 0, false},
    {"makes memory executable", makes_memory_executable, 0, true},
    {"executes what it wrote", executes_what_it_wrote, 0, true},
    {"traces", traces, 0, false},
    {"takes much memory", takes_much_memory, 0, true},
    {"writes large files", writes_large_files, 0, false},
    {"gets capabilities back", gets_capabilities_back, 0, false},
    {"loads kernel code", loads_kernel_code, 0, false},
    {"opens by handle", opens_by_handle, 0, false},
    {"signals others", signals_others, 0, false},
};

static const struct {
    enum confine_calls kind;
    const char *name;
    uint64_t capabilities;
} kinds[] = {
    {CONFINE_FILES, "unpack",
     CAP(CHOWN) | CAP(DAC_OVERRIDE) | CAP(FOWNER) | CAP(FSETID) | CAP(MKNOD) | CAP(SETFCAP)},
    {CONFINE_MARK, "mark", CAP(SYS_ADMIN) | CAP(DAC_READ_SEARCH)},
    {CONFINE_REMOVE, "remove", CAP(DAC_OVERRIDE) | CAP(FOWNER)},
    {CONFINE_NETWORK, "fetch", 0},
};

static char *prepare(void)
{
    char *path = scratch_new("confine-test"), file[200];

    snprintf(file, sizeof(file), "%s/file", path);
    close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    snprintf(file, sizeof(file), "%s/program", path);
    int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    assert_int_equal(write(fd, "#!/bin/sh\n", 10), 10);
    close(fd);
    return path;
}

/* 0: it could not, 1: it could, 2: it could not even confine itself. */
static int probe_in_child(const char *path, enum confine_calls kind, uint64_t capabilities, probe *run)
{
    const struct confine_limits limits = {.memory_bytes = 56 << 20, .file_bytes = 1 << 20, .descriptors = 64};
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        struct err e = {0};
        int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), root = -1;
        int rc;

        close_range(3, (unsigned)dir - 1, 0); /* what the test's own runner left open */
        rc = confine_limits(&limits, &e);
        if (rc == 0)
            rc = kind == CONFINE_NETWORK ? confine_root_network(dir, NULL, &root, &e)
                                         : confine_root(dir, true, &root, &e);
        if (rc == 0)
            rc = confine_capabilities(capabilities, &e);
        if (rc == 0)
            rc = confine_system_calls(kind, &e);
        if (rc < 0)
            fprintf(stderr, "%s\n", e.text);
        _exit(rc < 0 ? 2 : run(root));
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void confined_jobs_can_do_their_work_and_nothing_else(void **state)
{
    unsigned wrong = 0;

    for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
        for (size_t i = 0; i < ARRAY_SIZE(probes); i++) {
            char *path = prepare();
            int expected = probes[i].who >> kinds[k].kind & 1;
            int found = probe_in_child(path, kinds[k].kind, kinds[k].capabilities, probes[i].run);

            scratch_remove(path);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
            if (probes[i].not_sanitized)
                continue;
#endif
            if (found != expected) {
                print_error("%s %s: %d, expected %d\n", kinds[k].name, probes[i].name, found, expected);
                wrong++;
            }
        }
    }
    assert_int_equal(wrong, 0);
}

static bool has_the_files_of_the_network(int root_fd)
{
    struct stat work, root;

    return opened(AT_FDCWD, "/etc/ssl/certs", O_RDONLY | O_DIRECTORY) >= 0 &&
           opened(AT_FDCWD, "/etc/hosts", O_RDONLY) >= 0 && opened(AT_FDCWD, "/etc/shadow", O_RDONLY) < 0 &&
           opened(AT_FDCWD, "/etc/hosts", O_RDWR) < 0 && opened(AT_FDCWD, "/new", O_WRONLY | O_CREAT) < 0 &&
           opened(AT_FDCWD, "/root", O_RDONLY) < 0 && opened(AT_FDCWD, "/usr/bin", O_RDONLY) < 0 &&
           opened(AT_FDCWD, "/work/file", O_RDONLY) >= 0 && fstat(root_fd, &work) == 0 &&
           fstatat(AT_FDCWD, "/work", &root, 0) == 0 && work.st_ino == root.st_ino;
}

static void fetching_job_sees_certificates_and_no_secrets(void **state)
{
    char *path = prepare();

    assert_int_equal(probe_in_child(path, CONFINE_NETWORK, 0, has_the_files_of_the_network), 1);
    scratch_remove(path);
}

static void job_dies_with_its_parent(void **state)
{
    const struct confine_limits limits = {.memory_bytes = 56 << 20, .file_bytes = 1 << 20, .descriptors = 64};
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    pid_t parent = fork();
    if (parent == 0) {
        if (fork() == 0) {
            close(fds[0]);
            if (confine_limits(&limits, NULL) == 0 && write(fds[1], "x", 1) == 1)
                pause(); /* holds the pipe's end */
            _exit(0);
        }
        close(fds[0]);
        pause();
        _exit(0);
    }
    char c;
    close(fds[1]);
    assert_int_equal(read(fds[0], &c, 1), 1);
    kill(parent, SIGKILL);
    assert_int_equal(read(fds[0], &c, 1), 0); /* all ends are closed: the job is gone too */
    waitpid(parent, NULL, 0);
    close(fds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(confined_jobs_can_do_their_work_and_nothing_else),
        cmocka_unit_test(fetching_job_sees_certificates_and_no_secrets),
        cmocka_unit_test(job_dies_with_its_parent),
    };

    if (getuid() != 0) {
        puts("skip confine_test: needs root, to enter namespaces");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
