/* See packet.h.
 *
 * A packet is one message or none: SEQPACKET keeps the borders, so nobody needs a parser for frames, and a peer
 * that sends garbage spoils one message. Descriptors that come with a packet we refuse are closed here, whatever
 * the reason: a full table of descriptors must not be something a peer can bring about. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/keeper/packet.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

void fds_close(const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

int packet_send(int socket, const void *data, size_t size, const int *fds, unsigned fd_count, struct err *e)
{
    union {
        struct cmsghdr head; /* for its alignment */
        char bytes[CMSG_SPACE(PACKET_FDS * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = (void *)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (size == 0 || size > PACKET_BYTES || fd_count > PACKET_FDS)
        return err_set(e, ERR_LIMIT, "a packet of %zu bytes and %u descriptors", size, fd_count);
    if (fd_count) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(head), fds, fd_count * sizeof(int));
    }
    while (sendmsg(socket, &message, MSG_NOSIGNAL) < 0)
        if (errno != EINTR)
            return err_errno(e, "send to the keeper's socket");
    return 0;
}

static int take_fds(struct msghdr *message, int *fds, unsigned *ret_count)
{
    unsigned count = 0;

    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        unsigned more = (unsigned)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds + count, CMSG_DATA(head), more * sizeof(int));
        count += more;
    }
    *ret_count = count;
    if (!(message->msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        return 0;
    fds_close(fds, count);
    *ret_count = 0;
    return ERR_LIMIT;
}

int packet_receive(int socket, void *buffer, int *ret_fds, unsigned *ret_fd_count, struct err *e)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(PACKET_FDS * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = buffer, .iov_len = PACKET_BYTES};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
    ssize_t got;

    *ret_fd_count = 0;
    /* A peer that went without reading everything leaves ECONNRESET, which comes before what it had sent, once. */
    while ((got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC)) < 0)
        if (errno != EINTR && errno != ECONNRESET)
            return err_errno(e, "receive from the keeper's socket");
    if (take_fds(&message, ret_fds, ret_fd_count) < 0)
        return err_set(e, ERR_LIMIT, "a packet larger than %d bytes, or no descriptors left", PACKET_BYTES);
    return (int)got;
}

int packet_send_message(int socket, const ProtobufCMessage *message, const int *fds, unsigned fd_count,
                        struct err *e)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t small[2048];
    AUTO_FREE
    uint8_t *large = size > sizeof(small) ? mem_alloc(size) : NULL;
    uint8_t *data = large ? large : small;

    protobuf_c_message_pack(message, data);
    return packet_send(socket, data, size, fds, fd_count, e);
}

int packet_pair(int ret_ends[2], struct err *e)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_ends) < 0)
        return err_errno(e, "make a pair of sockets");
    return 0;
}

/* A socket's address holds 107 bytes; a path through /proc makes every directory short enough. */
static int make_socket(int dir_fd, const char *name, struct sockaddr_un *ret_address, int *ret_fd, struct err *e)
{
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    int length =
        snprintf(ret_address->sun_path, sizeof(ret_address->sun_path), "/proc/self/fd/%d/%s", dir_fd, name);

    if (length < 0 || (size_t)length >= sizeof(ret_address->sun_path))
        return err_set(e, ERR_INVALID, "socket name %s is too long", name);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, "make a socket");
    *ret_fd = fd;
    return 0;
}

int packet_listen(int dir_fd, const char *name, int *ret_fd, struct err *e)
{
    struct sockaddr_un address;
    AUTO_CLOSE
    int fd = -1;
    int rc = make_socket(dir_fd, name, &address, &fd, e);

    if (rc < 0)
        return rc;
    if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
        return err_errno(e, "remove the old socket %s", name);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || fchmodat(dir_fd, name, 0600, 0) < 0 ||
        listen(fd, 16) < 0)
        return err_errno(e, "listen at socket %s", name);
    *ret_fd = steal_fd(&fd);
    return 0;
}

int packet_connect(int dir_fd, const char *name, int *ret_fd, struct err *e)
{
    struct sockaddr_un address;
    AUTO_CLOSE
    int fd = -1;
    int rc = make_socket(dir_fd, name, &address, &fd, e);

    if (rc < 0)
        return rc;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return err_errno(e, "connect to socket %s", name);
    *ret_fd = steal_fd(&fd);
    return 0;
}

int packet_accept(int listen_fd, int *ret_fd, struct err *e)
{
    AUTO_CLOSE
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (fd < 0)
        return err_errno(e, "accept a connection");
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return err_errno(e, "ask who connects");
    if (peer.uid != geteuid())
        return err_set(e, ERR_DENIED, "a connection of user %u (pid %d) is refused", peer.uid, peer.pid);
    *ret_fd = steal_fd(&fd);
    return 0;
}

int memfd_sealed(const char *name, const void *data, size_t size, int *ret_fd, struct err *e)
{
    AUTO_CLOSE
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return err_errno(e, "make a memfd");
    int rc = write_all(fd, data, size, e);
    if (rc < 0)
        return rc;
    if (fcntl(fd, F_ADD_SEALS, SEALS) < 0)
        return err_errno(e, "seal a memfd");
    *ret_fd = steal_fd(&fd);
    return 0;
}

int memfd_map(int fd, const void **ret_data, size_t *ret_size, struct err *e)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_WRITE)) != (F_SEAL_SHRINK | F_SEAL_WRITE))
        return err_set(e, ERR_INVALID, "a memfd that is not sealed");
    if (fstat(fd, &st) < 0)
        return err_errno(e, "look at a memfd");
    if (st.st_size <= 0 || st.st_size > (off_t)MEMFD_BYTES)
        return err_set(e, ERR_LIMIT, "a memfd of %lld bytes", (long long)st.st_size);
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return err_errno(e, "map a memfd");
    *ret_data = data;
    *ret_size = (size_t)st.st_size;
    return 0;
}

void memfd_unmap(const void *data, size_t size)
{
    (void)munmap((void *)data, size); /* fails only for what was never mapped */
}
