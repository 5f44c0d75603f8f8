/* Parts of specs that containers and services share: from options to JSON. Zero values are left out, as the API
 * does. */
#pragma once

#include "cli/attach.h"
#include "cli/option.h"
#include "cli/tree.h"

/* A map as an object. */
json_t *spec_pairs(const struct attach_pairs *pairs);

/* Every occurrence of a repeatable option as an object of key=value, or as an array of texts. */
json_t *spec_map(const struct args *args, const char *option);
json_t *spec_list(const struct args *args, const char *option);

/* The same into `object` under `member`, unless there are none. */
void spec_put_map(json_t *object, const char *member, const struct args *args, const char *option);
void spec_put_list(json_t *object, const char *member, const struct args *args, const char *option);

/* Every --mount (under whatever name) as an array of mounts. */
int spec_mounts(const struct args *args, const char *option, json_t **ret, struct err *e);

/* Every --ulimit as an array, by name, the last of each name counting. */
json_t *spec_ulimits(const struct args *args, const char *option);

/* The health check that --health-* and --no-healthcheck ask for; *ret NULL when none is asked for. */
int spec_health(const struct args *args, json_t **ret, struct err *e);

/* The lines of every file option with those of the option after them: --env-file and --env, --label-file and
 * --label. `from_environment`: names without a value take it from the environment. */
int spec_lines(const struct args *args, const char *files, const char *option, bool from_environment, json_t **ret,
               struct err *e);

/* Capability names in the API's form, sorted, each once; NULL when there are none. */
json_t *spec_capabilities(const struct args *args, const char *option);

/* Sort an array of texts. */
void spec_sort(json_t *array);

/* Whether an array of texts holds one. */
bool spec_holds(const json_t *array, const char *text);
