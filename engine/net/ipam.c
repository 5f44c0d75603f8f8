/* See ipam.h.
 *
 * Addresses go round: the search begins behind the one given last, so one that was given back is not somebody
 * else's at once, while neighbours still remember it. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/net/ipam.h"

static uint32_t mask_of(unsigned length)
{
    return length ? ~0u << (32 - length) : 0;
}

bool ipam_address_parse(const char *text, uint32_t *ret)
{
    struct in_addr a;

    if (inet_pton(AF_INET, text, &a) != 1)
        return false;
    *ret = ntohl(a.s_addr);
    return true;
}

void ipam_address_format(uint32_t address, char ret[IPAM_TEXT])
{
    (void)snprintf(ret, IPAM_TEXT, "%u.%u.%u.%u", address >> 24, address >> 16 & 255, address >> 8 & 255,
                   address & 255);
}

bool ipam_subnet_parse(const char *text, struct ipam_subnet *ret)
{
    const char *slash = strchr(text, '/');
    char address[IPAM_TEXT], *end;
    uint32_t base;

    if (!slash || slash - text >= IPAM_TEXT || slash[1] < '0' || slash[1] > '9')
        return false;
    (void)snprintf(address, sizeof(address), "%.*s", (int)(slash - text), text);
    unsigned long length = strtoul(slash + 1, &end, 10);
    if (*end || length < 1 || length > 30 || !ipam_address_parse(address, &base))
        return false;
    ret->length = (unsigned)length;
    ret->base = base & mask_of(ret->length);
    return true;
}

void ipam_subnet_format(const struct ipam_subnet *s, char ret[IPAM_TEXT])
{
    char base[IPAM_TEXT];

    ipam_address_format(s->base, base);
    (void)snprintf(ret, IPAM_TEXT, "%.15s/%u", base, s->length % 33);
}

uint32_t ipam_last(const struct ipam_subnet *s)
{
    return s->base | ~mask_of(s->length);
}

bool ipam_contains(const struct ipam_subnet *s, uint32_t address)
{
    return (address & mask_of(s->length)) == s->base;
}

bool ipam_overlap(const struct ipam_subnet *a, const struct ipam_subnet *b)
{
    return a->length < b->length ? ipam_contains(a, b->base) : ipam_contains(b, a->base);
}

/* --- default pools ------------------------------------------------------------------------------- */

static const struct {
    uint32_t first, last; /* subnets lie between these */
    unsigned length;
} defaults[] = {{0xac110000, 0xac1fffff, 16}, /* 172.17 to 172.31 */
                {0xc0a80000, 0xc0a8ffff, 20}} /* 192.168 */;

static bool is_free(const struct ipam_subnet *s, const struct ipam_subnet *taken, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (ipam_overlap(s, &taken[i]))
            return false;
    return true;
}

int ipam_choose(const struct ipam_subnet *taken, size_t count, struct ipam_subnet *ret, struct err *e)
{
    for (size_t i = 0; i < sizeof(defaults) / sizeof(*defaults); i++) {
        struct ipam_subnet s = {.base = defaults[i].first, .length = defaults[i].length};

        for (; s.base < defaults[i].last; s.base += 1u << (32 - s.length)) {
            if (is_free(&s, taken, count)) {
                *ret = s;
                return 0;
            }
        }
    }
    return err_set(e, ERR_UNAVAILABLE, "all predefined address pools have been fully subnetted");
}

/* --- addresses ----------------------------------------------------------------------------------- */

void ipam_fini(struct ipam_pool *p)
{
    map64_fini(&p->taken);
}

static bool is_host(const struct ipam_pool *p, uint32_t address)
{
    return ipam_contains(&p->subnet, address) && address != p->subnet.base && address != ipam_last(&p->subnet);
}

int ipam_take(struct ipam_pool *p, uint32_t address, void *owner, struct err *e)
{
    char text[IPAM_TEXT], subnet[IPAM_TEXT];

    ipam_address_format(address, text);
    ipam_subnet_format(&p->subnet, subnet);
    if (!is_host(p, address))
        return err_set(e, ERR_INVALID, "address %s is not one of subnet %s", text, subnet);
    if (map64_get(&p->taken, address))
        return err_set(e, ERR_CONFLICT, "Address already in use");
    map64_put(&p->taken, address, owner);
    return 0;
}

int ipam_take_any(struct ipam_pool *p, void *owner, uint32_t *ret, struct err *e)
{
    uint32_t first = p->range.base, size = ipam_last(&p->range) - first + 1; /* at most 2^31 */
    uint32_t next = ipam_contains(&p->range, p->last) ? p->last - first + 1 : 0;

    for (uint32_t i = 0; i < size && i <= p->taken.count + 2; i++) { /* one more than can be in the way */
        uint32_t address = first + (next + i) % size;

        if (!is_host(p, address) || map64_get(&p->taken, address))
            continue;
        map64_put(&p->taken, address, owner);
        *ret = p->last = address;
        return 0;
    }
    return err_set(e, ERR_UNAVAILABLE, "no available IPv4 addresses on this network's address pools");
}

void ipam_give(struct ipam_pool *p, uint32_t address, const void *owner)
{
    if (map64_get(&p->taken, address) == owner)
        (void)map64_remove(&p->taken, address);
}
