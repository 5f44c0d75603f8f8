/* Addresses of this node as users give them: "10.0.0.1", "10.0.0.1:2377", "eth0", "eth0:2377", "[fd00::1]:2377"
 * (reference/swarm-surface.md section 1, `swarm init`). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/err.h"

#define ADDRESS_TEXT         96 /* bytes "host:port" needs at most */
#define ADDRESS_NAME         64 /* bytes of a name */
#define ADDRESS_MANAGER_PORT 2377

/* Where to listen: an interface name becomes its address; a missing port becomes `port`; "" is 0.0.0.0. `field`
 * names it in errors. */
int address_listen(const char *text, int port, const char *field, char ret[ADDRESS_TEXT], struct err *e);

/* What to tell others: as address_listen, but it must be an address that others can use. "" takes the listen
 * address, or if that is unspecified the only address of this machine; several are an error that lists them. A
 * missing port is that of `listen`. */
int address_advertise(const char *text, const char *listen, char ret[ADDRESS_TEXT], struct err *e);

/* Where to listen so that `advertise` is heard: 0.0.0.0, which clients say when they were told nothing, becomes
 * [::] when others are told an IPv6 address. */
void address_hear(const char *listen, const char *advertise, char ret[ADDRESS_TEXT]);

/* Where another machine is: an address goes to ret_address, with `port` where it has none, and ret_name is ""; any
 * other text is a name to be looked up. */
int address_remote(const char *text, int port, const char *field, char ret_address[ADDRESS_TEXT],
                   char ret_name[ADDRESS_NAME], int *ret_port, struct err *e);

/* "host" of "host:port" or "[host]:port". */
void address_host(const char *address, char *ret, size_t size);
int address_port(const char *address);                                 /* 0 when there is none */
bool address_is_unspecified(const char *host);                         /* 0.0.0.0 or :: */
void address_make(const char *host, int port, char ret[ADDRESS_TEXT]); /* the reverse */
bool address_is_here(const char *host);                                /* an interface of this machine has it */
/* The address that this machine has instead of one that it had: the one in the same network, or its only one. */
int address_instead(const char *host, char ret_host[64], struct err *e);
