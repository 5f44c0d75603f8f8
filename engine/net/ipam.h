/* IPv4 subnets and the addresses in them: pure. Addresses are numbers in the machine's order. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/map.h"

struct ipam_subnet {
    uint32_t base; /* host bits are 0 */
    unsigned length;
};

#define IPAM_TEXT 20 /* "255.255.255.255/32" */

/* "172.18.0.0/16"; host bits are cleared. False when it is none, or longer than /30. */
bool ipam_subnet_parse(const char *text, struct ipam_subnet *ret);
void ipam_subnet_format(const struct ipam_subnet *s, char ret[IPAM_TEXT]);
bool ipam_address_parse(const char *text, uint32_t *ret);
void ipam_address_format(uint32_t address, char ret[IPAM_TEXT]);

uint32_t ipam_last(const struct ipam_subnet *s); /* the broadcast address */
bool ipam_contains(const struct ipam_subnet *s, uint32_t address);
bool ipam_overlap(const struct ipam_subnet *a, const struct ipam_subnet *b);

/* The first subnet of the default pools that overlaps with none of these. ERR_UNAVAILABLE when all are in use. */
int ipam_choose(const struct ipam_subnet *taken, size_t count, struct ipam_subnet *ret, struct err *e);

/* The addresses of one network. All zeroes but for subnet and range is one where all are free. */
struct ipam_pool {
    struct ipam_subnet subnet;
    struct ipam_subnet range; /* of what is given without a wish; the subnet, or inside it */
    uint32_t last;            /* given last: the next one is looked for behind it, so that addresses rest a while */
    struct map64 taken;       /* address -> owner, which is borrowed */
};

void ipam_fini(struct ipam_pool *p);

/* Take this address. ERR_INVALID: not one of the subnet's; ERR_CONFLICT: taken. */
int ipam_take(struct ipam_pool *p, uint32_t address, void *owner, struct err *e);
/* Take any of the range. ERR_UNAVAILABLE. */
int ipam_take_any(struct ipam_pool *p, void *owner, uint32_t *ret, struct err *e);
/* Give it back, if it is this owner's. */
void ipam_give(struct ipam_pool *p, uint32_t address, const void *owner);
