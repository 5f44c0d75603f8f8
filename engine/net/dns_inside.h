/* What the files of the resolver share (dns.h).
 *
 *     dns.c           containers' sockets, TCP clients, questions answered
 *     dns_forward.c   questions that other servers answer
 *     dns_servers.c   which servers: a container's, the machine's
 *     dns_message.c   the bytes */
#pragma once

#include <netinet/in.h>
#include <sys/stat.h>

#include "engine/net/dns.h"
#include "proto/base/buf.h"
#include "proto/base/list.h"
#include "proto/base/map.h"

#define FORWARDS_MAX      1024
#define FORWARDS_EACH_MAX 100 /* of one container */
#define CLIENTS_MAX       512 /* TCP connections of containers */
#define CLIENTS_EACH_MAX  32
#define QUESTION_MAX      4096 /* bytes of one that is read at all */
#define SERVER_TIMEOUT_MS 4000
#define CLIENT_TIMEOUT_MS 10000
#define SHUN_MS           10000 /* so long one that did not answer is tried last */
#define SHUNNED_MAX       8

union dns_endpoint {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct dns_servers {
    union dns_endpoint list[DNS_SERVERS_MAX];
    unsigned count;
};

struct due { /* what ends at a time; those of a list all have the same limit, so the first ends first */
    struct list link;
    uint64_t at_ms;
};

struct dns {
    struct dns_config config;
    struct map serving;       /* struct serving by container */
    struct dns_answer answer; /* of the question at hand */
    struct due_list {
        struct list list; /* of struct due */
        uint64_t limit_ms;
    } forwards, clients;
    unsigned forward_count, client_count;
    uv_timer_t timer; /* for the first that is due */
    struct dns_servers machine;
    struct stat machine_seen; /* of the file they are from */
    struct {
        union dns_endpoint server;
        uint64_t until_ms;
    } shunned[SHUNNED_MAX];
    struct dns_counts counts;
    uint64_t told_ms; /* when it was last logged that questions are refused; 0: never */
    unsigned handles; /* of libuv, not yet closed */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

struct serving { /* a container */
    struct dns *dns;
    char *container; /* owned */
    struct dns_servers servers;
    bool isolated;
    int udp; /* owned */
    uv_poll_t poll;
    uv_tcp_t listener;
    struct list clients;  /* struct client */
    struct list forwards; /* struct forward */
    unsigned client_count, forward_count;
    unsigned handles; /* poll and listener, not yet closed */
};

struct client { /* a TCP connection; one question at a time */
    struct due due;
    struct list link; /* serving->clients */
    struct serving *serving;
    uv_tcp_t tcp;
    struct buf in;
    struct forward *waiting; /* for another server */
    uv_write_t write;
    uint8_t *out; /* being written, owned; NULL: nothing */
    bool closing, ended;
};

struct asker {             /* whom the answer is for */
    struct client *client; /* NULL: over UDP */
    struct sockaddr_in from;
};

/* --- dns.c --- */

/* One of our handles: counted until it is closed. */
void dns_handle_opened(struct dns *d);
void dns_handle_closed(struct dns *d); /* last: d may be gone */
void dns_due_put(struct dns *d, struct due_list *l, struct due *due);
void dns_due_remove(struct due *due);
/* `message` has 2 bytes before it that may be overwritten. */
void dns_reply(struct serving *s, const struct asker *to, uint8_t *message, size_t size);
/* A code without records. */
void dns_reply_code(struct serving *s, const struct asker *to, const struct dns_question *q, enum dns_code code);

/* --- dns_forward.c --- */

/* Ask other servers; the answer goes to dns_reply. */
void forward_begin(struct serving *s, const struct asker *from, const struct dns_question *q,
                   const uint8_t *message, size_t size);
void forward_abandon(struct forward *f); /* nobody waits any more */
void forward_on_timeout(struct due *due);
struct forward *forward_of(struct list *link); /* in serving->forwards */

/* --- dns_servers.c --- */

void dns_servers_read(struct dns_servers *s, const char *const *texts, size_t count);
/* In the order in which they are tried. */
struct dns_servers dns_servers_for(struct dns *d, const struct serving *s);
void dns_server_shun(struct dns *d, const union dns_endpoint *server);
void dns_server_trust(struct dns *d, const union dns_endpoint *server);
