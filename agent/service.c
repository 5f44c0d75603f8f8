/* See service.h. Written by hand: the protocol is three environment variables and one datagram. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/service.h"
#include "proto/base/mem.h"
#include "proto/wire/tcp.h"

#define FIRST_SOCKET 3 /* SD_LISTEN_FDS_START */

static int check_socket(int fd, struct err *e)
{
    struct sockaddr_storage address;
    socklen_t address_size = sizeof(address), size = sizeof(int);
    int listens = 0, type = 0;

    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return err_errno(e, "LISTEN_FDS: descriptor %d", fd);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &address_size) < 0)
        return err_errno(e, "LISTEN_FDS: descriptor %d", fd);
    if (!listens || type != SOCK_STREAM)
        return err_set(e, ERR_INVALID, "LISTEN_FDS: descriptor %d is not a listening stream socket", fd);
    if (address.ss_family != AF_UNIX && !tcp_is_loopback(&address)) {
        char text[TCP_TEXT];

        tcp_format(&address, text);
        return err_set(e, ERR_INVALID,
                       "LISTEN_FDS: descriptor %d listens on %s: the API gives whoever reaches it root on this "
                       "machine and is not served to others without TLS",
                       fd, text);
    }
    return 0;
}

static int take_sockets(struct service *s, struct err *e)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    char *end = NULL;

    if (!pid || !count || strtol(pid, NULL, 10) != getpid())
        return 0; /* none, or another process's */
    errno = 0;
    long sockets = strtol(count, &end, 10);
    if (errno || end == count || *end || sockets < 0)
        return err_set(e, ERR_INVALID, "LISTEN_FDS \"%s\" is not a number of descriptors", count);
    if (sockets > SERVICE_SOCKETS_MAX)
        return err_set(e, ERR_INVALID, "LISTEN_FDS %s: more than %d sockets", count, SERVICE_SOCKETS_MAX);
    for (int i = 0; i < sockets; i++) {
        int rc = check_socket(FIRST_SOCKET + i, e);

        if (rc < 0)
            return rc;
        s->sockets[s->socket_count++] = FIRST_SOCKET + i;
    }
    return 0;
}

static int take_notify(struct service *s, struct err *e)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t length = path ? strlen(path) : 0;

    if (length == 0)
        return 0;
    if ((path[0] != '/' && path[0] != '@') || length < 2 || length >= sizeof(s->notify.sun_path))
        return err_set(e, ERR_INVALID, "NOTIFY_SOCKET \"%s\" is neither an absolute path nor an abstract address",
                       path);
    s->notify.sun_family = AF_UNIX;
    memcpy(s->notify.sun_path, path, length);
    if (path[0] == '@')
        s->notify.sun_path[0] = '\0';
    s->notify_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    return 0;
}

int service_take(struct service *ret, struct err *e)
{
    static const char *const ours[] = {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID",
                                       "NOTIFY_SOCKET"};
    struct service s = {0};
    int rc = take_sockets(&s, e);

    if (rc == 0)
        rc = take_notify(&s, e);
    for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
        (void)unsetenv(ours[i]); /* fails for malformed names alone */
    if (rc == 0)
        *ret = s;
    return rc;
}

void service_notify(const struct service *s, const char *state)
{
    if (s->notify_size == 0)
        return;
    AUTO_CLOSE
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0)
        (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&s->notify, s->notify_size);
}
