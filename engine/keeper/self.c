/* See self.h. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/keeper/self.h"
#include "proto/base/mem.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* Linux 6.3 */
#endif

#define PROGRAM_MAX (256l << 20)
#define SEALS       (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

int self_copy(int program_fd, int *ret_fd, struct err *e)
{
    AUTO_CLOSE
    int fd = memfd_create("shoal-keeper", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    struct stat st;
    off_t done = 0;

    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("shoal-keeper", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return err_errno(e, "make a memfd for the program");
    if (fstat(program_fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > PROGRAM_MAX)
        return err_set(e, ERR_INVALID, "the program is no plain file of at most %ld bytes", PROGRAM_MAX);
    while (done < st.st_size) {
        ssize_t sent = sendfile(fd, program_fd, &done, (size_t)(st.st_size - done));

        if (sent < 0 && errno != EINTR)
            return err_errno(e, "copy the program");
        if (sent == 0)
            return err_set(e, ERR_INVALID, "the program became shorter while it was copied");
    }
    if (fchmod(fd, 0500) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0)
        return err_errno(e, "seal the program");
    *ret_fd = steal_fd(&fd);
    return 0;
}

bool self_is_sealed(void)
{
    AUTO_CLOSE
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int seals = fd < 0 ? -1 : fcntl(fd, F_GET_SEALS);

    return seals >= 0 && (seals & SEALS) == SEALS;
}

int self_seal(char *const *argv, struct err *e)
{
    AUTO_CLOSE
    int program = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE
    int copy = -1;

    if (program < 0)
        return err_errno(e, "open our own program");
    int rc = self_copy(program, &copy, e);
    if (rc < 0)
        return rc;
    (void)syscall(SYS_execveat, copy, "", argv, environ, AT_EMPTY_PATH);
    return err_errno(e, "execute the sealed copy");
}
