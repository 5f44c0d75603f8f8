/* See process.h.
 *
 * Three ways lead to an exit status. A parent waits. Somebody who is no parent (a keeper that took over from one
 * that died) may read it from the dead process's stat line as long as its new parent has not waited, and from the
 * descriptor afterwards, if the kernel keeps it there. Number and start time together name a process within one
 * boot. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/keeper/process.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

/* The kernel's struct pidfd_info in its first published form (64 bytes, accepted by every later kernel); older
 * headers do not have it. */
struct pidfd_info_v0 {
    uint64_t mask, cgroup;
    uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
};

#define INFO_EXIT  (1ull << 3)
#define INFO_IOCTL _IOWR(0xFF, 11, struct pidfd_info_v0)

#define STAT_STATE     3 /* fields as proc(5) counts them */
#define STAT_START     22
#define STAT_EXIT_CODE 52

/* Field `number` of a process's stat line. The name in field 2 may contain anything, so counting begins behind it.
 */
static const char *stat_field(const char *line, int number)
{
    const char *at = strrchr(line, ')');

    for (int i = 2; at && i < number; i++) {
        at = strchr(at, ' ');
        at = at ? at + 1 : NULL;
    }
    return at;
}

static bool read_stat(pid_t pid, struct buf *into)
{
    char path[32];

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    return file_read(AT_FDCWD, path, 4096, into, NULL) == 0;
}

uint64_t process_start(pid_t pid)
{
    AUTO_BUF struct buf text = {0};
    const char *field = read_stat(pid, &text) ? stat_field(buf_str(&text), STAT_START) : NULL;

    return field ? strtoull(field, NULL, 10) : 0;
}

int process_open(pid_t pid, uint64_t start, int *ret_pidfd, struct err *e)
{
    AUTO_CLOSE
    int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

    /* Compared after the descriptor is held: from now on the number cannot pass to another. */
    if (fd < 0 || start == 0 || process_start(pid) != start)
        return err_set(e, ERR_NOT_FOUND, "process %d is gone", pid);
    *ret_pidfd = steal_fd(&fd);
    return 0;
}

static bool status_of_zombie(pid_t pid, uint64_t start, int *ret_status)
{
    AUTO_BUF struct buf text = {0};

    if (!read_stat(pid, &text))
        return false;
    const char *line = buf_str(&text);
    const char *state = stat_field(line, STAT_STATE), *begun = stat_field(line, STAT_START);
    const char *code = stat_field(line, STAT_EXIT_CODE);
    if (!state || !begun || !code || *state != 'Z' || strtoull(begun, NULL, 10) != start)
        return false;
    *ret_status = (int)strtol(code, NULL, 10);
    return true;
}

static bool status_of_descriptor(int pidfd, int *ret_status)
{
    struct pidfd_info_v0 info = {.mask = INFO_EXIT};

    if (ioctl(pidfd, INFO_IOCTL, &info) < 0 || !(info.mask & INFO_EXIT))
        return false;
    *ret_status = info.exit_code;
    return true;
}

static int status_of_wait(const siginfo_t *info)
{
    return info->si_code == CLD_EXITED ? (info->si_status & 0xff) << 8 : info->si_status & 0x7f;
}

enum process_end process_end(int pidfd, pid_t pid, uint64_t start, int *ret_status)
{
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    siginfo_t info = {0};

    if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) == 0) {
        if (info.si_pid == 0)
            return PROCESS_RUNS;
        *ret_status = status_of_wait(&info);
        return PROCESS_ENDED;
    }
    /* Not our child. Its first thread alone may be dead; the descriptor speaks for all of them. */
    if (poll(&ended, 1, 0) != 1)
        return PROCESS_RUNS;
    if (status_of_zombie(pid, start, ret_status) || status_of_descriptor(pidfd, ret_status))
        return PROCESS_ENDED;
    if (process_start(pid) == start && !(ended.revents & POLLHUP))
        return PROCESS_LATER;
    /* Its parent took note between the two looks: then the descriptor knows by now, if it ever will. */
    return status_of_descriptor(pidfd, ret_status) ? PROCESS_ENDED : PROCESS_UNKNOWN;
}

int process_exit_code(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int process_signal(int pidfd, int signal, struct err *e)
{
    if (pidfd < 0 || syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) < 0)
        return err_number(e, pidfd < 0 ? ESRCH : errno, "send signal %d", signal);
    return 0;
}

int process_boot_id(char ret[BOOT_ID_TEXT + 1], struct err *e)
{
    AUTO_BUF struct buf text = {0};
    int rc = file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, e);

    if (rc < 0)
        return rc;
    if (text.length < BOOT_ID_TEXT)
        return err_set(e, ERR_CORRUPT, "the kernel's boot id is %zu bytes", text.length);
    memcpy(ret, buf_bytes(&text), BOOT_ID_TEXT);
    ret[BOOT_ID_TEXT] = '\0';
    return 0;
}
