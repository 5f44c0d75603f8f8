/* What systemd, or whoever starts daemons by its rules, passes in the environment: listening sockets, and where to
 * say that the daemon is ready (sd_listen_fds(3), sd_notify(3)). Without it everything here does nothing. */
#pragma once

#include <stddef.h>

#include <sys/un.h>

#include "proto/base/err.h"

#define SERVICE_SOCKETS_MAX 16

struct service {
    int sockets[SERVICE_SOCKETS_MAX]; /* listening, close-on-exec; the caller's */
    size_t socket_count;
    struct sockaddr_un notify; /* where to */
    socklen_t notify_size;     /* 0: nowhere */
};

/* Take it out of the environment, so that no program we start believes it to be its own. ERR_INVALID names the
 * variable or the descriptor that makes no sense. */
int service_take(struct service *ret, struct err *e);

/* Say "READY=1", "STOPPING=1". Never blocks; what cannot be said is not said. */
void service_notify(const struct service *s, const char *state);
