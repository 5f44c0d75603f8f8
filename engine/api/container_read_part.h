/* The two halves of container_read.h, and nobody else's business. */
#pragma once

#include "engine/api/read_fields.h"

/* container_read_host.c: the member HostConfig; NULL when absent. */
int container_read_host(struct reading *r, const json_t *object, HostConfig *host, struct err *e);

/* "80", "80/tcp": number and protocol. */
bool container_read_port(const char *text, uint32_t *ret_port, PortProtocol *ret_protocol);
