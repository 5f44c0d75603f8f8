/* Containers as the API shows them. */
#pragma once

#include "engine/container/container.h"
#include "proto/base/jwrite.h"

struct show_sizes {
    int64_t layer; /* bytes in the container's own layer; -1: not asked for */
    int64_t root;  /* and in its image as well */
};

/* One entry of the list, and all there is to know. */
void container_show_summary(const struct container *c, const struct show_sizes *sizes, struct jwrite *j);
void container_show_inspect(const struct container *c, const struct show_sizes *sizes, struct jwrite *j);

/* "Up 3 minutes", "Exited (0) 2 hours ago". */
void container_status_text(const struct container *c, int64_t now_ns, char *ret, size_t size);

/* The id of a predefined network of this engine: 64 hex digits. */
void network_id(const struct engine *en, const char *name, char ret[HEX_ID_TEXT + 1]);

/* Members of an endpoint: its MAC as "MacAddress", and its address with or without the prefix' length. "" for one
 * that has none; NULL is such a one. */
void show_mac(const NetworkEndpoint *ep, struct jwrite *j);
void show_ipv4(const NetworkEndpoint *ep, const char *key, bool with_length, struct jwrite *j);

/* {"k": "v"} of a list of pairs, and an array of texts. */
void show_pairs(struct jwrite *j, const char *key, KeyValue *const *pairs, size_t count);
void show_texts(struct jwrite *j, const char *key, char *const *texts, size_t count);
void show_texts_or_null(struct jwrite *j, const char *key, char *const *texts, size_t count); /* null: none */

/* "Healthcheck" of a configuration. */
void show_health(const HealthConfig *health, struct jwrite *j);
