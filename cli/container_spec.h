/* From the options of `shoal create` and `shoal run` to the body of POST /containers/create. */
#pragma once

#include "cli/option.h"
#include "cli/tree.h"

/* The options both commands have. */
extern const struct option container_options[];

/* The body; docker's text for what does not fit together. Gives it to json_decref. */
int container_spec(const struct args *args, json_t **ret, struct err *e);

/* Parts of it: the networks of the container into the body and its HostConfig. */
int container_spec_networks(json_t *body, json_t *host, const struct args *args, struct err *e);

/* Whether a text is a MAC address: six pairs of hexadecimal digits with colons between them. */
bool container_spec_mac(const char *text);
