/* DNS messages: questions of containers read, answers written, answers of other servers checked. Pure.
 *
 * Names are compared without regard to case; the question is given back as it came, so the case in it is kept
 * (resolvers that mix it check that). A name that is none of ours need not be text: then it is forwarded as it is.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <netinet/in.h>

#define DNS_NAME_WIRE   255   /* bytes of a name in a message */
#define DNS_NAME_TEXT   256   /* of one as text, with the zero */
#define DNS_MESSAGE_MAX 65535 /* over TCP */
#define DNS_UDP_LEAST   512   /* what every client takes over UDP */
#define DNS_UDP_MOST    4096  /* what we send and say that we take */
#define DNS_TTL_S       600

enum dns_type { DNS_A = 1, DNS_PTR = 12, DNS_AAAA = 28, DNS_OPT = 41, DNS_ANY = 255 };

enum dns_code {
    DNS_NOERROR = 0,
    DNS_FORMERR = 1,
    DNS_SERVFAIL = 2,
    DNS_NXDOMAIN = 3,
    DNS_NOTIMP = 4,
    DNS_REFUSED = 5,
    DNS_BADVERS = 16,
    DNS_IGNORE = -1 /* not a question: no answer at all */
};

struct dns_address {
    int family; /* AF_INET, AF_INET6; 0: none */
    uint8_t bytes[16];
};

struct dns_question {
    uint16_t id, flags, type, class;
    char name[DNS_NAME_TEXT];   /* lower case, without the last dot; "" when it is the root or no plain text */
    struct dns_address address; /* whose name is asked for: of a PTR question for a whole address */
    uint8_t section[DNS_NAME_WIRE + 4]; /* name, type and class as they came */
    size_t section_size;                /* 0: it could not be read */
    bool edns;                          /* the client speaks it */
    size_t udp_size;                    /* bytes that it takes over UDP, DNS_UDP_LEAST to DNS_UDP_MOST */
};

/* Read a question. Returns DNS_NOERROR; or the code to answer, with what could be read in `ret` for
 * dns_answer_write; or DNS_IGNORE. Only class IN and plain queries of one question pass. */
int dns_question_read(const uint8_t *message, size_t size, struct dns_question *ret);

/* What a name stands for. All zeroes is empty; addresses may be of both families: those asked for are sent. */
struct dns_answer {
    struct dns_address *addresses; /* owned */
    size_t count, capacity;
    char name[DNS_NAME_TEXT]; /* of an address (PTR); "": none */
};
#define DNS_ADDRESSES_MAX 16384 /* of one name; more are left out */
void dns_answer_add(struct dns_answer *a, const struct dns_address *address);
void dns_answer_clear(struct dns_answer *a); /* keeps the memory */
void dns_answer_fini(struct dns_answer *a);
/* In an order that depends on the number. */
void dns_answer_shuffle(struct dns_answer *a, uint64_t random);

/* Write the answer into `out`, which has `limit` bytes (at least DNS_UDP_LEAST, at most DNS_MESSAGE_MAX):
 * q->udp_size over UDP. What does not fit is left out and the answer marked as truncated. `a` NULL: none. Returns
 * the size. */
size_t dns_answer_write(const struct dns_question *q, enum dns_code code, const struct dns_answer *a, uint8_t *out,
                        size_t limit);

/* Whether a message is the answer to `q` that was sent under this id. `ret_code` is its code, `ret_truncated`
 * whether it says that it is not whole. Servers that give an error may leave the question out. */
bool dns_reply_fits(const struct dns_question *q, uint16_t id, const uint8_t *message, size_t size,
                    enum dns_code *ret_code, bool *ret_truncated);

/* Give a reply that fits back to the client: its id, and the question as the client wrote it. */
void dns_reply_restore(const struct dns_question *q, uint8_t *message);
/* Leave its header and question alone, marked as truncated. Returns the new size. */
size_t dns_reply_cut(const struct dns_question *q, uint8_t *message);

static inline void dns_message_set_id(uint8_t *message, uint16_t id)
{
    message[0] = (uint8_t)(id >> 8);
    message[1] = (uint8_t)id;
}

/* --- names ----------------------------------------------------------------------------------------- */

/* Read the name at *at, pointers followed, into `wire` (DNS_NAME_WIRE bytes) and move *at behind it. Pointers may
 * only lead towards the beginning, so that each name ends. Returns the bytes in `wire`, 0 when it is no name. */
size_t dns_name_read(const uint8_t *message, size_t size, size_t *at, uint8_t *wire);
/* Behind the name at `at`, pointers not followed; 0 when it is none. */
size_t dns_name_skip(const uint8_t *message, size_t size, size_t at);
/* As text, lower case; false when a label holds what would be ambiguous in text (a dot, blanks, non-ASCII). */
bool dns_name_format(const uint8_t *wire, char *ret);
/* Text to wire; 0 when it is no name (labels of 1 to 63 bytes, 255 bytes in all). */
size_t dns_name_parse(const char *text, uint8_t *wire);
bool dns_name_equal(const uint8_t *a, const uint8_t *b); /* on the wire, uncompressed */
