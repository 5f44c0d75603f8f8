/* Whether the keeper that serves us runs the program beside us: after an upgrade of shoal it runs the one of
 * before.
 *
 * A keeper runs from a sealed copy of its program (self.c), so neither name nor inode of /proc/PID/exe tell
 * anything, and two builds may carry one version: the bytes are compared, some hundred kilobytes, once for each
 * connection. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/keeper/client.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

#define PIECE (64 * 1024)

static ssize_t piece_at(int fd, char *piece, off_t at)
{
    ssize_t got;

    do
        got = pread(fd, piece, PIECE, at);
    while (got < 0 && errno == EINTR);
    return got;
}

static bool same_bytes(int a, int b)
{
    AUTO_FREE
    char *of_a = mem_alloc(PIECE);
    AUTO_FREE
    char *of_b = mem_alloc(PIECE);
    ssize_t got_a, got_b;
    off_t at = 0;

    do {
        got_a = piece_at(a, of_a, at);
        got_b = piece_at(b, of_b, at);
        at += got_a;
    } while (got_a > 0 && got_a == got_b && memcmp(of_a, of_b, (size_t)got_a) == 0);
    return got_a == 0 && got_b == 0;
}

bool keeper_is_other_program(struct keeper *k)
{
    struct ucred peer = {0};
    socklen_t size = sizeof(peer);
    struct stat running, beside;
    char path[64];

    if (k->socket < 0 || getsockopt(k->socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.pid <= 0)
        return false;
    (void)snprintf(path, sizeof(path), "/proc/%d/exe", (int)peer.pid); /* fits */
    AUTO_CLOSE
    int a = open(path, O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE
    int b = open(k->program, O_RDONLY | O_CLOEXEC);
    if (a < 0 || b < 0 || fstat(a, &running) < 0 || fstat(b, &beside) < 0 || !S_ISREG(beside.st_mode))
        return false;
    return running.st_size != beside.st_size || !same_bytes(a, b);
}
