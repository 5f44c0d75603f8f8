/* Which servers a question is forwarded to (dns_inside.h): those that the container asked for, or else those of the
 * machine, whose file is looked at each time and read when it is another one. One that did not answer in time is
 * tried last for a while, so that a dead server delays a few questions and not all. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "engine/net/dns_inside.h"
#include "proto/base/file.h"
#include "proto/base/log.h"

#define FILE_MAX 65536
#define PORT     53

/* "192.0.2.1", "fd00::1", "fe80::1%eth0". */
static bool parse(const char *text, union dns_endpoint *ret)
{
    char host[INET6_ADDRSTRLEN];
    size_t length = strcspn(text, "%");

    memset(ret, 0, sizeof(*ret));
    if (inet_pton(AF_INET, text, &ret->v4.sin_addr) == 1) {
        ret->v4.sin_family = AF_INET;
        ret->v4.sin_port = htons(PORT);
        return true;
    }
    if (length >= sizeof(host))
        return false;
    memcpy(host, text, length);
    host[length] = '\0';
    if (inet_pton(AF_INET6, host, &ret->v6.sin6_addr) != 1)
        return false;
    ret->v6.sin6_family = AF_INET6;
    ret->v6.sin6_port = htons(PORT);
    if (text[length])
        ret->v6.sin6_scope_id = if_nametoindex(text + length + 1); /* 0, of one that is gone: it will not answer */
    return true;
}

void dns_servers_read(struct dns_servers *s, const char *const *texts, size_t count)
{
    s->count = 0;
    for (size_t i = 0; i < count && s->count < DNS_SERVERS_MAX; i++)
        s->count += parse(texts[i], &s->list[s->count]);
}

static void read_machine(struct dns *d)
{
    static const char blank[] = " \t\r";
    AUTO_BUF struct buf text = {0};
    struct err e;
    char *line, *rest;

    d->machine.count = 0;
    if (file_read(AT_FDCWD, d->config.resolv_conf, FILE_MAX, &text, &e) < 0) {
        log_warn("the machine's name servers are not known", "error=\"%s\"", e.text);
        return;
    }
    (void)buf_str(&text);
    for (rest = buf_bytes(&text); (line = strsep(&rest, "\n")) && d->machine.count < DNS_SERVERS_MAX;) {
        char *word = line + strspn(line, blank), *address;

        if (strncmp(word, "nameserver", 10) != 0 || !word[10] || !strchr(blank, word[10]))
            continue;
        address = word + 10 + strspn(word + 10, blank);
        address[strcspn(address, blank)] = '\0';
        d->machine.count += parse(address, &d->machine.list[d->machine.count]);
    }
}

static void look_at_machine(struct dns *d)
{
    struct stat now = {0};

    (void)stat(d->config.resolv_conf, &now); /* all zeroes when it is gone */
    if (now.st_mtim.tv_sec == d->machine_seen.st_mtim.tv_sec && now.st_size == d->machine_seen.st_size &&
        now.st_mtim.tv_nsec == d->machine_seen.st_mtim.tv_nsec && now.st_ino == d->machine_seen.st_ino &&
        now.st_dev == d->machine_seen.st_dev)
        return;
    d->machine_seen = now;
    read_machine(d);
}

/* --- those that do not answer ---------------------------------------------------------------------- */

static bool same(const union dns_endpoint *a, const union dns_endpoint *b)
{
    return memcmp(a, b, sizeof(*a)) == 0; /* both from `parse`: nothing in them is left to chance */
}

static bool is_shunned(const struct dns *d, const union dns_endpoint *server)
{
    uint64_t now = uv_now(d->config.loop);

    for (unsigned i = 0; i < SHUNNED_MAX; i++)
        if (d->shunned[i].until_ms > now && same(&d->shunned[i].server, server))
            return true;
    return false;
}

void dns_server_trust(struct dns *d, const union dns_endpoint *server)
{
    for (unsigned i = 0; i < SHUNNED_MAX; i++)
        if (same(&d->shunned[i].server, server))
            d->shunned[i].until_ms = 0;
}

void dns_server_shun(struct dns *d, const union dns_endpoint *server)
{
    unsigned oldest = 0;

    for (unsigned i = 0; i < SHUNNED_MAX; i++) {
        if (same(&d->shunned[i].server, server)) {
            oldest = i;
            break;
        }
        if (d->shunned[i].until_ms < d->shunned[oldest].until_ms)
            oldest = i;
    }
    d->shunned[oldest].server = *server;
    d->shunned[oldest].until_ms = uv_now(d->config.loop) + SHUN_MS;
}

struct dns_servers dns_servers_for(struct dns *d, const struct serving *s)
{
    const struct dns_servers *all = &s->servers;
    struct dns_servers ret = {.count = 0};

    if (all->count == 0) {
        look_at_machine(d);
        all = &d->machine;
    }
    for (int shunned = 0; shunned < 2; shunned++)
        for (unsigned i = 0; i < all->count; i++)
            if (is_shunned(d, &all->list[i]) == (shunned == 1))
                ret.list[ret.count++] = all->list[i];
    return ret;
}
