/* What the files about the swarm as a whole share. */
#pragma once

#include "cli/cli.h"
#include "cli/command.h"

/* What the cluster is told to do besides taking the specification: at most one. */
enum swarm_rotation { ROTATE_NOTHING, ROTATE_WORKER_TOKEN, ROTATE_MANAGER_TOKEN, ROTATE_UNLOCK_KEY };

/* The options that change the cluster's specification: those of its certificates, and the others. */
extern const struct option swarm_ca_options[], swarm_spec_options[];

/* Change a specification as those options say; what they do not name stays as it is. An external CA that comes
 * without a certificate of its own gets `ca_cert` ("": none). */
int swarm_spec_ca(json_t *spec, const struct args *args, const char *ca_cert, struct err *e);
int swarm_spec(json_t *spec, const struct args *args, const char *ca_cert, struct err *e);

/* GET /swarm. */
int swarm_get(struct cli *cli, json_t **ret, struct err *e);

/* Send the specification in `swarm` (an answer of swarm_get, perhaps changed) back under its version. */
int swarm_send(struct cli *cli, const json_t *swarm, enum swarm_rotation rotation, struct err *e);

/* Tell how a locked manager is unlocked, with the key. */
int swarm_print_unlock_key(struct cli *cli, struct err *e);

extern const struct command swarm_ca, swarm_unlock, swarm_unlock_key;
