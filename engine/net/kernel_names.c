/* Sockets for names (kernel.h): what a container's resolver is, as seen from inside it.
 *
 * The sockets are at ports of the kernel's choice; the port 53 that clients know stays free for the container's own
 * servers, also at all addresses. What goes to 127.0.0.11 port 53 gets our port, what comes from there gets 53 as
 * its source: two rewritten numbers per packet, before connection tracking and without it, so that a container that
 * asks for thousands of names a second fills no table of connections, and an answer is never too late for one. */
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/net/kernel_inside.h"
#include "proto/base/mem.h"

#define BACKLOG 32

static const char rules[] = "table ip shoal-names\n"
                            "delete table ip shoal-names\n"
                            "table ip shoal-names {\n"
                            "  chain names {\n"
                            "    type filter hook output priority raw; policy accept;\n"
                            "    ip daddr 127.0.0.11 udp dport 53 notrack udp dport set %1$u\n"
                            "    ip saddr 127.0.0.11 udp sport %1$u notrack udp sport set 53\n"
                            "    ip daddr 127.0.0.11 tcp dport 53 notrack tcp dport set %2$u\n"
                            "    ip saddr 127.0.0.11 tcp sport %2$u notrack tcp sport set 53\n"
                            "  }\n"
                            "}\n";

static int make(int type, int *ret_fd, unsigned *ret_port, struct err *e)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof(at);
    AUTO_CLOSE
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return err_errno(e, "make a socket for names");
    (void)inet_pton(AF_INET, KERNEL_NAMES_ADDRESS, &at.sin_addr); /* it is one */
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || getsockname(fd, (struct sockaddr *)&at, &size) < 0)
        return err_errno(e, "bind a socket for names to %s", KERNEL_NAMES_ADDRESS);
    if (type == SOCK_STREAM && listen(fd, BACKLOG) < 0)
        return err_errno(e, "listen for names");
    *ret_port = ntohs(at.sin_port);
    *ret_fd = steal_fd(&fd);
    return 0;
}

int kernel_here_names(struct kernel_here *h, struct kernel_names *ret, struct err *e)
{
    AUTO_CLOSE
    int udp = -1;
    AUTO_CLOSE
    int tcp = -1;
    unsigned udp_port, tcp_port;
    char text[sizeof(rules) + 64];
    int rc = make(SOCK_DGRAM, &udp, &udp_port, e);

    if (rc == 0)
        rc = make(SOCK_STREAM, &tcp, &tcp_port, e);
    if (rc < 0)
        return rc;
    (void)snprintf(text, sizeof(text), rules, udp_port, tcp_port);
    rc = kernel_here_ruleset(h, text, e);
    if (rc < 0)
        return err_wrap(e, "lead names to %s", KERNEL_NAMES_ADDRESS);
    ret->udp = steal_fd(&udp);
    ret->tcp = steal_fd(&tcp);
    return 0;
}
