/* See tcp.h. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/mem.h"
#include "proto/wire/tcp.h"

#define KEEPALIVE_IDLE_S     30
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_PROBES     3

/* The digits behind the colon; -1 when they are no port. */
static long parse_port(const char *text)
{
    long port = 0;

    if (!*text || strlen(text) > 5)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        port = port * 10 + (*text - '0');
    }
    return port <= 65535 ? port : -1;
}

int tcp_parse(const char *text, struct sockaddr_storage *ret, socklen_t *ret_size, struct err *e)
{
    const char *colon = strrchr(text, ':'), *from = text;
    size_t length = colon ? (size_t)(colon - text) : 0;
    bool bracketed = length >= 2 && text[0] == '[' && colon[-1] == ']';
    long port = colon ? parse_port(colon + 1) : -1;
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    char host[INET6_ADDRSTRLEN] = "";

    if (bracketed) {
        from++;
        length -= 2;
    }
    if (port < 0 || length >= sizeof(host))
        goto invalid;
    memcpy(host, from, length);
    memset(ret, 0, sizeof(*ret));
    if (bracketed && inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
        memcpy(ret, &v6, sizeof(v6));
        *ret_size = sizeof(v6);
        return 0;
    }
    if (!bracketed && inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(ret, &v4, sizeof(v4));
        *ret_size = sizeof(v4);
        return 0;
    }
invalid:
    return err_set(e, ERR_INVALID, "invalid address \"%s\": must be a numeric address and a port, as 10.0.0.1:2377",
                   text);
}

int tcp_port(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
    return ntohs(((const struct sockaddr_in *)address)->sin_port);
}

void tcp_format(const struct sockaddr_storage *address, char ret[TCP_TEXT])
{
    char host[INET6_ADDRSTRLEN] = "";

    if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;

        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) { /* came to a socket of both families */
            (void)inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], host, sizeof(host));
            (void)snprintf(ret, TCP_TEXT, "%s:%u", host, ntohs(v6->sin6_port));
            return;
        }
        (void)inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host)); /* fits */
        (void)snprintf(ret, TCP_TEXT, "[%s]:%u", host, ntohs(v6->sin6_port));
    } else {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;

        (void)inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
        (void)snprintf(ret, TCP_TEXT, "%s:%u", host, ntohs(v4->sin_port));
    }
}

bool tcp_is_loopback(const struct sockaddr_storage *address)
{
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)address)->sin6_addr;

    if (address->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    return address->ss_family == AF_INET6 &&
           (IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127));
}

/* All addresses are those of both families. */
static int set_families(int fd, const struct sockaddr_storage *address)
{
    int only = !IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)address)->sin6_addr);

    return setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
}

int tcp_bind(const char *text, int *ret_fd, struct err *e)
{
    struct sockaddr_storage address;
    socklen_t size = 0;
    int one = 1, rc = tcp_parse(text, &address, &size, e);

    if (rc < 0)
        return rc;
    AUTO_CLOSE
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        (address.ss_family == AF_INET6 && set_families(fd, &address) < 0) ||
        bind(fd, (struct sockaddr *)&address, size) < 0)
        return err_errno(e, "bind %s", text);
    *ret_fd = steal_fd(&fd);
    return 0;
}

void tcp_tune(uv_tcp_t *tcp)
{
    int interval = KEEPALIVE_INTERVAL_S, probes = KEEPALIVE_PROBES;
    uv_os_fd_t fd;

    (void)uv_tcp_nodelay(tcp, 1); /* without these it is slower, not wrong */
    (void)uv_tcp_keepalive(tcp, 1, KEEPALIVE_IDLE_S);
    if (uv_fileno((uv_handle_t *)tcp, &fd) == 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
    }
}

void tcp_ignore_sigpipe(void)
{
    struct sigaction now;

    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        (void)signal(SIGPIPE, SIG_IGN); /* cannot fail for this signal */
}
