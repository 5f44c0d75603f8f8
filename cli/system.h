/* What `version` and `info` share. */
#pragma once

#include "cli/cli.h"

/* This client's own version as an object; with the API version that the node agreed to when `ask`. */
json_t *system_client_version(struct cli *cli, bool ask);
