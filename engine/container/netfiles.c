/* See netfiles.h.
 *
 * Lines of the machine's resolv.conf are taken over one by one: name servers, search and options each are replaced
 * as a whole when the container asks for its own, everything else is kept. An extra host is "name:address";
 * "host-gateway" as the address needs a bridge network, which this version does not have, and is refused. */
#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>

#include "engine/container/netfiles.h"
#include "proto/base/mem.h"

#define ENTRIES_MAX 256 /* of each list */

static const char local_names[] = "127.0.0.1\tlocalhost\n"
                                  "::1\tlocalhost ip6-localhost ip6-loopback\n"
                                  "fe00::0\tip6-localnet\n"
                                  "ff00::0\tip6-mcastprefix\n"
                                  "ff02::1\tip6-allnodes\n"
                                  "ff02::2\tip6-allrouters\n";

static bool is_address(const char *text)
{
    unsigned char any[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, text, any) == 1 || inet_pton(AF_INET6, text, any) == 1;
}

static bool is_word(const char *text, size_t length)
{
    if (!length)
        return false;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f || text[i] == '#')
            return false;
    return true;
}

/* Split "name:address" or "name=address"; an address in brackets is taken without them. */
static const char *extra_host_address(const char *entry, size_t *ret_name, size_t *ret_address)
{
    *ret_name = strcspn(entry, ":=");
    if (!entry[*ret_name])
        return NULL;
    const char *address = entry + *ret_name + 1;
    size_t length = strlen(address);
    if (length > 2 && address[0] == '[' && address[length - 1] == ']') {
        address++;
        length -= 2;
    }
    *ret_address = length;
    return address;
}

static int check_extra_host(const char *entry, struct err *e)
{
    size_t name, length;
    const char *address = extra_host_address(entry, &name, &length);

    if (!address || !is_word(entry, name))
        return err_set(e, ERR_INVALID, "bad format for add-host: \"%s\"", entry);
    AUTO_FREE
    char *copy = mem_strndup(address, length);
    if (strcmp(copy, "host-gateway") == 0)
        return err_set(e, ERR_UNSUPPORTED,
                       "invalid ExtraHosts: \"%s\": host-gateway is not implemented in shoal " SHOAL_VERSION
                       ": it needs a bridge network",
                       entry);
    if (!is_address(copy))
        return err_set(e, ERR_INVALID, "invalid IP address in add-host: \"%s\"", copy);
    return 0;
}

static int check_words(const char *field, char *const *words, size_t count, struct err *e)
{
    if (count > ENTRIES_MAX)
        return err_set(e, ERR_INVALID, "invalid %s: more than %d entries", field, ENTRIES_MAX);
    for (size_t i = 0; i < count; i++)
        if (*words[i] && !is_word(words[i], strlen(words[i])))
            return err_set(e, ERR_INVALID, "invalid %s: \"%s\"", field, words[i]);
    return 0;
}

int netfiles_check(const HostConfig *host, struct err *e)
{
    int rc = check_words("DnsSearch", host->dns_search, host->n_dns_search, e);

    if (rc == 0)
        rc = check_words("DnsOptions", host->dns_options, host->n_dns_options, e);
    if (rc == 0)
        rc = check_words("Dns", host->dns, host->n_dns, e);
    for (size_t i = 0; rc == 0 && i < host->n_dns; i++)
        if (!is_address(host->dns[i]))
            rc = err_set(e, ERR_INVALID, "invalid Dns: \"%s\" is not an IP address", host->dns[i]);
    if (rc == 0 && host->n_extra_hosts > ENTRIES_MAX)
        rc = err_set(e, ERR_INVALID, "invalid ExtraHosts: more than %d entries", ENTRIES_MAX);
    for (size_t i = 0; rc == 0 && i < host->n_extra_hosts; i++)
        rc = check_extra_host(host->extra_hosts[i], e);
    return rc;
}

void netfiles_hosts(const HostConfig *host, const char *host_file, struct buf *out)
{
    buf_append_str(out, host_file ? host_file : local_names);
    if (host_file && *host_file && host_file[strlen(host_file) - 1] != '\n')
        buf_append_char(out, '\n');
    for (size_t i = 0; host && i < host->n_extra_hosts; i++) {
        size_t name, length;
        const char *address = extra_host_address(host->extra_hosts[i], &name, &length);

        if (address)
            buf_printf(out, "%.*s\t%.*s\n", (int)length, address, (int)name, host->extra_hosts[i]);
    }
}

static void put_list(struct buf *out, const char *keyword, char *const *words, size_t count)
{
    if (!count)
        return;
    buf_append_str(out, keyword);
    for (size_t i = 0; i < count; i++)
        buf_printf(out, " %s", words[i]);
    buf_append_char(out, '\n');
}

/* Whether the line's first word is this one; *ret_rest is what follows. */
static bool line_is(const char *line, size_t length, const char *keyword, const char **ret_rest)
{
    size_t size = strlen(keyword);

    if (length <= size || strncmp(line, keyword, size) != 0 || (line[size] != ' ' && line[size] != '\t'))
        return false;
    *ret_rest = line + size;
    return true;
}

static bool is_loopback(const char *text, size_t length)
{
    while (length && (*text == ' ' || *text == '\t')) {
        text++;
        length--;
    }
    return strncmp(text, "127.", 4) == 0 || (strncmp(text, "::1", 3) == 0 && (length == 3 || text[3] <= ' '));
}

static bool keep_line(const HostConfig *host, const char *line, size_t length, bool own_network)
{
    const char *rest;

    if (line_is(line, length, "nameserver", &rest))
        return !(host && host->n_dns) && !(own_network && is_loopback(rest, (size_t)(line + length - rest)));
    if (line_is(line, length, "search", &rest) || line_is(line, length, "domain", &rest))
        return !(host && host->n_dns_search);
    if (line_is(line, length, "options", &rest))
        return !(host && host->n_dns_options);
    return length > 0 && *line != '#' && *line != ';';
}

void netfiles_resolv(const HostConfig *host, const char *host_file, bool own_network, struct buf *out)
{
    for (const char *line = host_file; *line;) {
        size_t length = strcspn(line, "\n");

        if (keep_line(host, line, length, own_network)) {
            buf_append(out, line, length);
            buf_append_char(out, '\n');
        }
        line += length;
        line += *line == '\n';
    }
    if (!host)
        return;
    for (size_t i = 0; i < host->n_dns; i++)
        buf_printf(out, "nameserver %s\n", host->dns[i]);
    /* "." alone means: no search domain at all. */
    if (!(host->n_dns_search == 1 && strcmp(host->dns_search[0], ".") == 0))
        put_list(out, "search", host->dns_search, host->n_dns_search);
    put_list(out, "options", host->dns_options, host->n_dns_options);
}
