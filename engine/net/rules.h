/* The nf_tables rules of the networks of one machine, from what is wanted: pure.
 *
 * One table of ours, `inet shoal-<hash of the instance>`. What changes are elements of sets and maps; the chains
 * stay as they are, and so does the chain `admin`, which is the administrator's: it is asked before ours and never
 * flushed. Packets between foreign links pass untouched. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/net/ipam.h"
#include "proto/base/buf.h"

#define RULES_TABLE 24 /* bytes of a table's name */

struct rules_network { /* strings borrowed */
    const char *bridge;
    struct ipam_subnet subnet;
    bool internal;   /* nothing goes in or out */
    bool talks;      /* its containers may talk to each other */
    bool masquerade; /* what leaves it has the machine's address */
};

struct rules_port {
    uint8_t protocol;      /* IPPROTO_* */
    uint32_t host_address; /* 0: every one of this machine */
    uint16_t host_port;
    uint32_t address; /* of the container */
    uint16_t port;
};

void rules_table(const char *instance, char ret[RULES_TABLE]);

/* Everything as one transaction in nft's language, to be run over whatever is there of an earlier one. */
void rules_text(const char *table, const struct rules_network *networks, size_t network_count,
                const struct rules_port *ports, size_t port_count, struct buf *out);
