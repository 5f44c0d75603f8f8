/* Names inside containers: what answers at 127.0.0.11 (DESIGN.md section 8).
 *
 * Each container on a user network has two sockets, bound inside its network namespace (kernel_names, kernel.h);
 * their queries are answered here, on the node loop. Who knows names says in `resolve` what a name stands for; what
 * is not ours is forwarded to the container's servers, or the machine's, from the machine's own namespace.
 *
 * Everything is bounded: questions being forwarded, TCP clients, the time that each may take. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <uv.h>

#include "engine/net/dns_message.h"
#include "proto/base/entropy.h"
#include "proto/base/err.h"

struct dns;

enum dns_verdict {
    DNS_FOUND,  /* the name is ours; it may have no addresses of the type asked for */
    DNS_ABSENT, /* it would be ours, and there is none: nobody else is asked */
    DNS_FOREIGN /* not ours: it is forwarded */
};

/* What does `q` (dns_message.h) stand for, as seen by this container? q->name is lower case and without the last
 * dot; "" never comes here. Give all addresses of the name, of both families and in any order; for a question with
 * q->address.family that is not 0 give the name of that address. Answers at once. */
typedef enum dns_verdict dns_resolve(void *ctx, const char *container, const struct dns_question *q,
                                     struct dns_answer *ret);

#define DNS_SERVERS_MAX 3 /* tried for one question */

struct dns_config { /* texts are borrowed as long as the resolver is open */
    uv_loop_t *loop;
    struct entropy *entropy;
    const char *resolv_conf; /* of the machine: "/etc/resolv.conf" */
    dns_resolve *resolve;
    void *ctx;
    unsigned timeout_ms; /* of a server; 0: 4000 */
};

int dns_open(const struct dns_config *config, struct dns **ret, struct err *e);
/* Containers that are still served are given up: their questions wait in the sockets for whoever serves next. */
void dns_close(struct dns *d, void (*closed)(void *ctx), void *ctx);

struct dns_options {
    const char *const *servers; /* addresses, the first DNS_SERVERS_MAX are used; copied */
    size_t server_count;        /* 0: the machine's */
    bool isolated;              /* nothing is forwarded: what is not ours does not exist (internal networks) */
};

/* Serve a container's sockets: a UDP one, and a TCP one that listens; both are duplicated. One that is served
 * already gets the new options, and sockets. */
int dns_serve(struct dns *d, const char *container, int udp_fd, int tcp_fd, const struct dns_options *options,
              struct err *e);
void dns_stop(struct dns *d, const char *container); /* no-op when it is not served */

struct dns_counts {
    unsigned long questions, forwarded, refused, failed; /* refused: too many at once; failed: no server answered */
    unsigned serving, forwarding, clients;               /* now */
};
struct dns_counts dns_counts(const struct dns *d);
