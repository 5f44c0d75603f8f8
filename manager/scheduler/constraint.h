/* Placement constraints: "node.labels.zone==a", "node.role != manager" (reference/swarm-surface.md section 14).
 *
 * Parsed once per version of a spec, evaluated for many nodes. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/err.h"

struct index_node;

enum constraint_key {
    CONSTRAINT_UNKNOWN, /* parses, but no node ever satisfies it */
    CONSTRAINT_NODE_ID,
    CONSTRAINT_NODE_HOSTNAME,
    CONSTRAINT_NODE_ROLE,
    CONSTRAINT_NODE_IP,
    CONSTRAINT_NODE_OS,
    CONSTRAINT_NODE_ARCH,
    CONSTRAINT_NODE_LABEL,
    CONSTRAINT_ENGINE_LABEL,
};

struct constraint {
    enum constraint_key key;
    bool equal;        /* "==", else "!=" */
    const char *label; /* of the label keys: its name, as written; borrowed from the text given to parse */
    const char *value;
};

/* Bytes of working memory that parsing a text needs: its parts are copied there and pointed to. */
size_t constraint_bytes(const char *text);

/* ERR_INVALID says what is wrong. Parts are put at `memory`, constraint_bytes large. */
int constraint_parse(const char *text, char *memory, struct constraint *ret, struct err *e);

/* Check only: for the API. */
int constraint_check(const char *text, struct err *e);

/* What a spread preference names: "node.labels.rack", "engine.labels.x" or any key of a constraint. False when it
 * is none: such a preference divides nothing. */
bool constraint_descriptor(const char *text, enum constraint_key *ret_key, const char **ret_label);

bool constraint_holds(const struct constraint *c, const struct index_node *node);
bool constraints_hold(const struct constraint *all, size_t count, const struct index_node *node);

/* The value a key has on a node; "" when it has none. */
const char *constraint_value(enum constraint_key key, const char *label, const struct index_node *node);
