/* What the files about services share. */
#pragma once

#include "cli/cli.h"
#include "cli/tree.h"

extern const struct option service_common_options[], service_create_options[], service_update_options[];

/* GET /services/NAME. */
int service_get(struct cli *cli, const char *name, bool defaults, json_t **ret, struct err *e);

/* The body of POST /services/create. */
int service_spec(struct cli *cli, const struct args *args, json_t **ret, struct err *e);

/* Change an inspected spec as the options of `service update` say; what they do not name stays as it is. */
int service_update_spec(struct cli *cli, const struct args *args, json_t *spec, struct err *e);

/* The pieces both use. */
json_t *service_restart_policy(void); /* the standard one, to be changed */
json_t *service_pace(void);           /* the standard UpdateConfig */
void service_put_pace(json_t *config, const struct args *args, const char *prefix); /* "update" or "rollback" */
bool service_paces(const struct args *args, const char *prefix);
void service_put_restart(json_t *policy, const struct args *args);
bool service_restarts(const struct args *args);
json_t *service_words(const struct args *args, const char *option); /* a command line as an array */
json_t *service_ports(const struct args *args, const char *option);
json_t *service_preferences(const struct args *args, const char *option);
json_t *service_generic(const char *text); /* "KIND=N" */
json_t *service_host(const char *text);    /* "name:address" as the line "address name" */
int service_network(struct cli *cli, const char *text, json_t **ret, struct err *e); /* with the network's id */
void service_sort_networks(json_t *networks);

/* Give the image a tag, and unless told otherwise the digest and platforms that its registry says. What could not
 * be found out is told in `warning`. `auth` is the X-Registry-Auth to ask with, or NULL. */
void service_resolve_image(struct cli *cli, json_t *spec, bool ask, const char *auth, struct buf *warning);

/* Wait until the service has converged, showing progress; the error says what stopped it. */
int service_converge(struct cli *cli, const char *name, bool quiet, struct err *e);

/* Lines for people (inspect --pretty). */
void service_pretty(struct cli *cli, const json_t *service, struct buf *out);

extern const struct command service_ls, service_inspect, service_logs;
