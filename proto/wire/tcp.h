/* What every socket of ours needs, whoever speaks over it. */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

#include <uv.h>

#include "proto/base/err.h"

/* "address:port" or "[v6]:port", both numeric: names are never looked up in a loop. */
int tcp_parse(const char *text, struct sockaddr_storage *ret, socklen_t *ret_size, struct err *e);

/* The reverse, for messages. */
#define TCP_TEXT 64
void tcp_format(const struct sockaddr_storage *address, char ret[TCP_TEXT]);
int tcp_port(const struct sockaddr_storage *address);

/* Whether only this machine can reach it. */
bool tcp_is_loopback(const struct sockaddr_storage *address);

/* A bound TCP socket, close-on-exec, not blocking, not yet listening. [::] is all addresses, IPv4 too. */
int tcp_bind(const char *text, int *ret_fd, struct err *e);

/* No delay for small writes; a silent peer that is gone is found within a minute. */
void tcp_tune(uv_tcp_t *tcp);

/* libuv writes with write(2): without this a client that leaves at the wrong moment kills the process. Sets the
 * disposition of the whole process, once; who starts programs must reset it in the child. */
void tcp_ignore_sigpipe(void);
