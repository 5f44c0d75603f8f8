/* Messages as JSON, both ways, by table: which member of an object is which field of a message.
 *
 * The message's own descriptor says what a field is, so a table only pairs names. Repeated KeyValue is an object of
 * texts; enums go by lists of texts; what has no counterpart is done by a pair of functions; what exists in the API
 * but is not offered here is refused by name, never silently dropped. Members that no table names are ignored, as
 * Docker does. Reading checks types and ranges and says in the error which field had which value
 * (proto/base/jread.h). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"
#include "proto/base/jwrite.h"

struct jmap;

struct jmap_name { /* one value of an enum */
    const char *text;
    int value;
};

struct jmap_field {
    const char *json;       /* member, e.g. "StopGracePeriod" */
    const char *field;      /* the message's field; NULL: done by read and write, or refused */
    const struct jmap *sub; /* table of a (repeated) sub-message */
    const struct jmap_name
        *names;         /* texts of an enum, ended by a NULL text; the first one is written for what has no name */
    bool always;        /* write it also when absent: "", 0, false, [], {} */
    bool secret;        /* read, never written */
    const char *refuse; /* why it is not offered: a present, non-empty member is ERR_UNSUPPORTED */
    /* Set fields of `message` from a member (never absent or null); `path` is the way to it. */
    int (*read)(const json_t *member, const char *path, struct arena *a, ProtobufCMessage *message, struct err *e);
    void (*write)(struct jwrite *j, const char *key, const ProtobufCMessage *message);
};

struct jmap {
    const ProtobufCMessageDescriptor *type;
    const struct jmap_field *fields; /* ended by a NULL json */
};

/* A message from an object, in the arena. `path` names the object in errors; "" at the top. */
int jmap_read(const json_t *object, const struct jmap *map, const char *path, struct arena *a,
              ProtobufCMessage **ret, struct err *e);

/* The members of a message, into an object that is open. */
void jmap_write_members(struct jwrite *j, const struct jmap *map, const ProtobufCMessage *message);

/* The message as an object. NULL writes {}. */
void jmap_write(struct jwrite *j, const char *key, const struct jmap *map, const ProtobufCMessage *message);
