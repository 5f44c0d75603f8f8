/* Packets between the keeper's processes: SOCK_SEQPACKET messages with descriptors, and sealed memfds for what is
 * too large for one. Nothing here blocks on a socket that was made non-blocking. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "proto/base/err.h"

#define PACKET_FDS   253         /* the kernel's limit per message */
#define PACKET_BYTES (64 << 10)  /* larger messages travel in a memfd */
#define MEMFD_BYTES  (32u << 20) /* largest memfd that is accepted */

/* Send one packet of 1 to PACKET_BYTES bytes with duplicates of `fds`. ERR_AGAIN: no room now; ERR_CLOSED: the
 * other side is gone. */
int packet_send(int socket, const void *data, size_t size, const int *fds, unsigned fd_count, struct err *e);

/* Receive one packet into `buffer` (PACKET_BYTES) and its descriptors (O_CLOEXEC, the caller's) into `ret_fds`
 * (room for PACKET_FDS). Returns the size, 0 when the other side is gone, ERR_AGAIN, or another code; then there
 * are no descriptors. */
int packet_receive(int socket, void *buffer, int *ret_fds, unsigned *ret_fd_count, struct err *e);

/* Pack a message and send it. */
int packet_send_message(int socket, const ProtobufCMessage *message, const int *fds, unsigned fd_count,
                        struct err *e);

/* Connected pair, close-on-exec. */
int packet_pair(int ret_ends[2], struct err *e);

/* Listen at, or connect to, socket `name` in the directory; the length of the directory's path does not matter. An
 * old socket of that name is replaced: hold the directory's lock. Non-blocking. */
int packet_listen(int dir_fd, const char *name, int *ret_fd, struct err *e);
int packet_connect(int dir_fd, const char *name, int *ret_fd, struct err *e);

/* Accept a connection of our own user (SO_PEERCRED); others are closed: ERR_DENIED. ERR_AGAIN: none waits. */
int packet_accept(int listen_fd, int *ret_fd, struct err *e);

/* Bytes in a sealed memfd. */
int memfd_sealed(const char *name, const void *data, size_t size, int *ret_fd, struct err *e);

/* Map a sealed memfd for reading: ERR_INVALID when it is not sealed against change, ERR_LIMIT when larger than
 * MEMFD_BYTES. Give back with memfd_unmap. */
int memfd_map(int fd, const void **ret_data, size_t *ret_size, struct err *e);
void memfd_unmap(const void *data, size_t size);

void fds_close(const int *fds, unsigned count);
