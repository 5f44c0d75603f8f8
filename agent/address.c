/* See address.h. */
#include <arpa/inet.h>
#include <ctype.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/address.h"
#include "proto/base/buf.h"

struct parts {
    char host[ADDRESS_NAME];
    int port; /* 0: none */
};

static bool is_address(const char *host, int *ret_family)
{
    struct in6_addr scratch;

    if (inet_pton(AF_INET, host, &scratch) == 1)
        *ret_family = AF_INET;
    else if (inet_pton(AF_INET6, host, &scratch) == 1)
        *ret_family = AF_INET6;
    else
        return false;
    return true;
}

static int parse_port(const char *text, const char *field, const char *whole, int *ret_port, struct err *e)
{
    long port = 0;

    for (const char *c = text; *c; c++) {
        if (!isdigit((unsigned char)*c) || port > 65535)
            return err_set(e, ERR_INVALID, "invalid %s \"%s\": \"%s\" is no port", field, whole, text);
        port = port * 10 + (*c - '0');
    }
    if (!*text || port < 1 || port > 65535)
        return err_set(e, ERR_INVALID, "invalid %s \"%s\": the port must be between 1 and 65535", field, whole);
    *ret_port = (int)port;
    return 0;
}

/* "host", "host:port", "[v6]", "[v6]:port" or a bare v6 address. */
static int split(const char *text, const char *field, struct parts *ret, struct err *e)
{
    const char *host = text, *end, *port = NULL;
    int family;

    if (*text == '[') {
        host = text + 1;
        end = strchr(host, ']');
        if (!end || (end[1] && end[1] != ':'))
            return err_set(e, ERR_INVALID, "invalid %s \"%s\": unbalanced brackets", field, text);
        port = end[1] ? end + 2 : NULL;
    } else if (is_address(text, &family)) {
        end = text + strlen(text);
    } else {
        end = strrchr(text, ':');
        port = end ? end + 1 : NULL;
        end = end ? end : text + strlen(text);
    }
    if ((size_t)(end - host) >= sizeof(ret->host))
        return err_set(e, ERR_INVALID, "invalid %s \"%.80s\": too long", field, text);
    memcpy(ret->host, host, (size_t)(end - host));
    ret->host[end - host] = '\0';
    ret->port = 0;
    return port ? parse_port(port, field, text, &ret->port, e) : 0;
}

static void format_sockaddr(const struct sockaddr *address, char ret[64])
{
    const void *bytes = address->sa_family == AF_INET
                            ? (const void *)&((const struct sockaddr_in *)address)->sin_addr
                            : (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr;

    ret[0] = '\0';
    (void)inet_ntop(address->sa_family, bytes, ret, 64); /* fits */
}

/* An address that other machines may reach: not loopback, not link-local. */
static bool is_usable(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        uint32_t host = ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr);

        return host >> 24 != 127 && host >> 16 != 0xa9fe;
    }
    const struct in6_addr *six = &((const struct sockaddr_in6 *)address)->sin6_addr;
    return !IN6_IS_ADDR_LOOPBACK(six) && !IN6_IS_ADDR_LINKLOCAL(six);
}

/* The address of an interface: its first usable IPv4 address, else IPv6. */
static int interface_address(const char *name, const char *field, char ret[64], struct err *e)
{
    struct ifaddrs *list, *at;
    const struct sockaddr *four = NULL, *six = NULL;

    if (getifaddrs(&list) < 0)
        return err_errno(e, "list network interfaces");
    for (at = list; at; at = at->ifa_next) {
        if (!at->ifa_addr || strcmp(at->ifa_name, name) != 0)
            continue;
        if (at->ifa_addr->sa_family == AF_INET && !four)
            four = at->ifa_addr;
        else if (at->ifa_addr->sa_family == AF_INET6 && !six && is_usable(at->ifa_addr))
            six = at->ifa_addr;
    }
    if (four || six)
        format_sockaddr(four ? four : six, ret);
    freeifaddrs(list);
    if (four || six)
        return 0;
    if (if_nametoindex(name))
        return err_set(e, ERR_INVALID, "invalid %s: interface %s has no IP address", field, name);
    return err_set(e, ERR_INVALID, "invalid %s \"%s\": neither an IP address nor an interface of this machine",
                   field, name);
}

void address_make(const char *host, int port, char ret[ADDRESS_TEXT])
{
    (void)snprintf(ret, ADDRESS_TEXT, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host,
                   port); /* 64 bytes and a port fit */
}

static int resolve(const char *text, int port, const char *field, char ret[ADDRESS_TEXT], struct err *e)
{
    struct parts parts;
    char host[64];
    int family, rc = split(text, field, &parts, e);

    if (rc < 0)
        return rc;
    (void)snprintf(host, sizeof(host), "%s", parts.host); /* same size */
    if (!is_address(parts.host, &family)) {
        rc = interface_address(parts.host, field, host, e);
        if (rc < 0)
            return rc;
    }
    address_make(host, parts.port ? parts.port : port, ret);
    return 0;
}

int address_remote(const char *text, int port, const char *field, char ret_address[ADDRESS_TEXT],
                   char ret_name[ADDRESS_NAME], int *ret_port, struct err *e)
{
    struct parts parts;
    int family, rc = split(text, field, &parts, e);

    if (rc < 0)
        return rc;
    if (!*parts.host)
        return err_set(e, ERR_INVALID, "invalid %s \"%s\": no host", field, text);
    *ret_port = parts.port ? parts.port : port;
    ret_name[0] = '\0';
    if (is_address(parts.host, &family))
        address_make(parts.host, *ret_port, ret_address);
    else
        memcpy(ret_name, parts.host, sizeof(parts.host));
    return 0;
}

void address_host(const char *address, char *ret, size_t size)
{
    const char *start = *address == '[' ? address + 1 : address;
    const char *end = *address == '[' ? strchr(start, ']') : strrchr(start, ':');

    (void)snprintf(ret, size, "%.*s", end ? (int)(end - start) : (int)strlen(start), start); /* cut when too long */
}

int address_port(const char *address)
{
    const char *colon = strrchr(address, ':');

    return colon ? (int)strtol(colon + 1, NULL, 10) : 0;
}

int address_listen(const char *text, int port, const char *field, char ret[ADDRESS_TEXT], struct err *e)
{
    return resolve(*text ? text : "0.0.0.0", port, field, ret, e);
}

bool address_is_unspecified(const char *host)
{
    return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

/* The only usable address of the machine. */
static int only_address(char ret[64], struct err *e)
{
    AUTO_BUF struct buf found = {0};
    struct ifaddrs *list, *at;
    unsigned count[2] = {0};
    char text[64], only[2][64] = {"", ""};

    if (getifaddrs(&list) < 0)
        return err_errno(e, "list network interfaces");
    for (at = list; at; at = at->ifa_next) {
        if (!at->ifa_addr || !(at->ifa_flags & IFF_UP) ||
            (at->ifa_addr->sa_family != AF_INET && at->ifa_addr->sa_family != AF_INET6) || !is_usable(at->ifa_addr))
            continue;
        int six = at->ifa_addr->sa_family == AF_INET6;
        format_sockaddr(at->ifa_addr, text);
        count[six]++;
        (void)snprintf(only[six], sizeof(only[six]), "%s", text); /* same size */
        buf_printf(&found, "%s%s on %s", found.length ? ", " : "", text, at->ifa_name);
    }
    freeifaddrs(list);
    if (count[0] == 1 || (count[0] == 0 && count[1] == 1)) {
        (void)snprintf(ret, 64, "%s", count[0] ? only[0] : only[1]); /* same size */
        return 0;
    }
    if (!count[0] && !count[1])
        return err_set(e, ERR_INVALID, "could not find the system's IP address");
    return err_set(e, ERR_INVALID,
                   "could not choose an IP address to advertise since this system has multiple addresses (%s)",
                   buf_str(&found)); /* to both the clients add which option helps */
}

int address_advertise(const char *text, const char *listen, char ret[ADDRESS_TEXT], struct err *e)
{
    char host[64];
    int rc;

    address_host(listen, host, sizeof(host));
    if (*text) {
        rc = resolve(text, address_port(listen), "AdvertiseAddr", ret, e);
        if (rc < 0)
            return rc;
        address_host(ret, host, sizeof(host));
        if (address_is_unspecified(host))
            return err_set(e, ERR_INVALID, "invalid AdvertiseAddr \"%s\": others cannot use an unspecified address",
                           text);
        return 0;
    }
    if (address_is_unspecified(host)) {
        rc = only_address(host, e);
        if (rc < 0)
            return rc;
    }
    address_make(host, address_port(listen), ret);
    return 0;
}

void address_hear(const char *listen, const char *advertise, char ret[ADDRESS_TEXT])
{
    char host[64];

    address_host(listen, host, sizeof(host));
    if (*advertise == '[' && strcmp(host, "0.0.0.0") == 0)
        address_make("::", address_port(listen), ret);
    else
        (void)snprintf(ret, ADDRESS_TEXT, "%s", listen); /* it was made by address_make */
}

bool address_is_here(const char *host)
{
    struct ifaddrs *list, *at;
    bool found = false;
    char text[64];

    if (getifaddrs(&list) < 0)
        return true; /* nothing better is known */
    for (at = list; at && !found; at = at->ifa_next) {
        if (!at->ifa_addr || (at->ifa_addr->sa_family != AF_INET && at->ifa_addr->sa_family != AF_INET6))
            continue;
        format_sockaddr(at->ifa_addr, text);
        found = strcmp(text, host) == 0;
    }
    freeifaddrs(list);
    return found;
}

static bool same_network(const struct ifaddrs *at, struct in_addr old)
{
    if (!at->ifa_addr || !at->ifa_netmask || at->ifa_addr->sa_family != AF_INET || !is_usable(at->ifa_addr))
        return false;
    uint32_t mask = ((const struct sockaddr_in *)at->ifa_netmask)->sin_addr.s_addr;
    uint32_t now = ((const struct sockaddr_in *)at->ifa_addr)->sin_addr.s_addr;
    return ((now ^ old.s_addr) & mask) == 0;
}

int address_instead(const char *host, char ret_host[64], struct err *e)
{
    struct ifaddrs *list, *at;
    struct in_addr old;
    unsigned count = 0;

    if (inet_pton(AF_INET, host, &old) != 1)
        return only_address(ret_host, e);
    if (getifaddrs(&list) < 0)
        return err_errno(e, "list network interfaces");
    for (at = list; at; at = at->ifa_next)
        if (same_network(at, old)) {
            format_sockaddr(at->ifa_addr, ret_host);
            count++;
        }
    freeifaddrs(list);
    return count == 1 ? 0 : only_address(ret_host, e);
}
