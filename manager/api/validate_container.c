/* What a container asks of the kernel and of names, where no node can give it (validate.h): a task with it would be
 * made, and rejected, again and again. Only what is certain is refused: which capabilities or signals a node's
 * kernel lacks, or what it forbids, is for the node to say. */
#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "manager/api/validate.h"
#include "proto/base/capability.h"
#include "proto/base/mem.h"
#include "proto/base/signal.h"
#include "proto/base/sysctl.h"
#include "proto/base/ulimit.h"

#define ENTRIES_MOST 256 /* of names and addresses, each kind (engine/container/netfiles.c) */

static int check_signal(const ContainerSpec *spec, struct err *e)
{
    int number;

    if (!spec->stop_signal || !*spec->stop_signal || signal_parse(spec->stop_signal, &number) == 0)
        return 0;
    return err_set(e, ERR_INVALID, "invalid ContainerSpec.StopSignal: \"%.60s\" is no signal", spec->stop_signal);
}

static int check_capabilities(const char *field, char *const *names, size_t count, struct err *e)
{
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(names[i], "ALL") != 0 && !capability_bit(names[i]))
            return err_set(e, ERR_INVALID, "invalid ContainerSpec.%s: unknown capability: \"%.60s\"", field,
                           names[i]);
    return 0;
}

static int check_ulimits(const ContainerSpec *spec, struct err *e)
{
    for (size_t i = 0; i < spec->n_ulimits; i++) {
        const Ulimit *u = spec->ulimits[i];

        if (ulimit_resource(u->name) < 0)
            return err_set(e, ERR_INVALID, "invalid ContainerSpec.Ulimits: invalid ulimit type: %.60s", u->name);
        if (u->soft < -1 || u->hard < -1)
            return err_set(e, ERR_INVALID, "invalid ContainerSpec.Ulimits: invalid ulimit %s: %lld:%lld", u->name,
                           (long long)u->soft, (long long)u->hard);
        if (u->hard != -1 && (u->soft > u->hard || u->soft == -1))
            return err_set(
                e, ERR_INVALID,
                "invalid ContainerSpec.Ulimits: %s: ulimit soft limit must be less than or equal to hard "
                "limit: %lld > %lld",
                u->name, (long long)u->soft, (long long)u->hard);
    }
    return 0;
}

static int check_sysctls(const ContainerSpec *spec, struct err *e)
{
    for (size_t i = 0; i < spec->n_sysctls; i++) {
        const char *name = spec->sysctls[i]->key;
        enum sysctl_scope scope = sysctl_scope_of(name);

        if (scope == SYSCTL_NO_NAME)
            return err_set(e, ERR_INVALID, "invalid ContainerSpec.Sysctls: invalid sysctl name \"%.80s\"", name);
        if (scope == SYSCTL_OF_KERNEL)
            return err_set(e, ERR_INVALID,
                           "invalid ContainerSpec.Sysctls: sysctl \"%.80s\" is not in a separate kernel namespace",
                           name);
    }
    return 0;
}

/* --- names --------------------------------------------------------------------------------------------------- */

static bool is_address(const char *text)
{
    unsigned char any[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, text, any) == 1 || inet_pton(AF_INET6, text, any) == 1;
}

/* It becomes part of a line of resolv.conf. */
static bool is_word(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text <= ' ' || *text == 0x7f || *text == '#')
            return false;
    return true;
}

static int check_words(const char *field, char *const *words, size_t count, struct err *e)
{
    if (count > ENTRIES_MOST)
        return err_set(e, ERR_INVALID, "ContainerSpec.%s: %zu entries are more than %d", field, count,
                       ENTRIES_MOST);
    for (size_t i = 0; i < count; i++)
        if (!is_word(words[i]))
            return err_set(e, ERR_INVALID, "invalid ContainerSpec.%s: \"%.80s\"", field, words[i]);
    return 0;
}

static int check_dns(const DnsConfig *dns, struct err *e)
{
    int rc = 0;

    if (!dns)
        return 0;
    rc = check_words("DNSConfig.Search", dns->search, dns->n_search, e);
    if (rc == 0)
        rc = check_words("DNSConfig.Options", dns->options, dns->n_options, e);
    if (rc == 0)
        rc = check_words("DNSConfig.Nameservers", dns->nameservers, dns->n_nameservers, e);
    for (size_t i = 0; rc == 0 && i < dns->n_nameservers; i++)
        if (!is_address(dns->nameservers[i]))
            rc = err_set(e, ERR_INVALID,
                         "invalid ContainerSpec.DNSConfig.Nameservers: \"%.80s\" is not an IP address",
                         dns->nameservers[i]);
    return rc;
}

/* "address name alias..." */
static int check_host(size_t i, const char *line, struct err *e)
{
    size_t length = strcspn(line, " \t");
    const char *names = line + length + strspn(line + length, " \t");
    AUTO_FREE
    char *address = mem_strndup(line, length);

    if (!length || !*names)
        return err_set(e, ERR_INVALID, "invalid ContainerSpec.Hosts[%zu]: \"%.80s\" is not \"ADDRESS NAME\"", i,
                       line);
    if (strcmp(address, "host-gateway") == 0)
        return err_set(e, ERR_UNSUPPORTED,
                       "ContainerSpec.Hosts[%zu]: host-gateway is not offered by shoal " SHOAL_VERSION, i);
    if (!is_address(address))
        return err_set(e, ERR_INVALID, "invalid ContainerSpec.Hosts[%zu]: \"%.80s\" is not an IP address", i,
                       address);
    for (; *names; names++)
        if (((unsigned char)*names < ' ' && *names != '\t') || strchr(":=#\x7f", *names))
            return err_set(e, ERR_INVALID, "invalid ContainerSpec.Hosts[%zu]: \"%.80s\" is no host name", i, names);
    return 0;
}

static int check_hosts(const ContainerSpec *spec, struct err *e)
{
    int rc = 0;

    if (spec->n_hosts > ENTRIES_MOST)
        return err_set(e, ERR_INVALID, "ContainerSpec.Hosts: %zu entries are more than %d", spec->n_hosts,
                       ENTRIES_MOST);
    for (size_t i = 0; i < spec->n_hosts && rc == 0; i++)
        rc = check_host(i, spec->hosts[i], e);
    return rc;
}

int validate_container(const ContainerSpec *spec, struct err *e)
{
    int rc = check_signal(spec, e);

    if (rc == 0)
        rc = check_capabilities("CapabilityAdd", spec->capability_add, spec->n_capability_add, e);
    if (rc == 0)
        rc = check_capabilities("CapabilityDrop", spec->capability_drop, spec->n_capability_drop, e);
    if (rc == 0)
        rc = check_ulimits(spec, e);
    if (rc == 0)
        rc = check_sysctls(spec, e);
    if (rc == 0)
        rc = check_dns(spec->dns, e);
    return rc < 0 ? rc : check_hosts(spec, e);
}
