/* Reading the members of a JSON object into the members of a message by a table. Inside engine/api. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"
#include "proto/container.pb-c.h"

#define READ_NOT_IMPLEMENTED "is not implemented in shoal " SHOAL_VERSION
#define READ_VALUE_TEXT      160 /* bytes of a value in a message */

struct reading {
    struct arena *a;
    unsigned minor; /* of the API version */
};

enum field_kind { TEXT, FLAG, INT64, INT32, UINT32, TEXTS, MAP, KEYS };

struct field { /* tables end with one without key */
    const char *key;
    enum field_kind kind;
    size_t value;  /* offset of the member */
    size_t beside; /* of its has_ flag or of its n_ count; unused for TEXT */
};

#define F_TEXT(type, key, member)            \
    {                                        \
        key, TEXT, offsetof(type, member), 0 \
    }
#define F_HAS(type, key, kind, member)                                  \
    {                                                                   \
        key, kind, offsetof(type, member), offsetof(type, has_##member) \
    }
#define F_COUNT(type, key, kind, member)                              \
    {                                                                 \
        key, kind, offsetof(type, member), offsetof(type, n_##member) \
    }

/* Read what is there of these fields. `path` is the way to the object for messages; NULL at the top. */
int read_fields(struct reading *r, const json_t *object, const char *path, const struct field *fields, void *into,
                struct err *e);

/* {"a": "b"}: pairs, sorted by key. */
int read_map(struct reading *r, const json_t *object, const char *path, const char *key, KeyValue ***ret,
             size_t *ret_count, struct err *e);

/* Whether a member says anything: not null, false, 0, "", [] or {}, and nothing but such. */
bool read_says_something(const json_t *value);

/* Refuse those of the members that say something: "PATH.KEY (VALUE) WHY". */
int read_refuse(const json_t *object, const char *path, const char *const *keys, int code, const char *why,
                struct err *e);

/* A value as it was given, cut when it is long. */
void read_value_text(const json_t *value, char ret[READ_VALUE_TEXT]);

int read_out_of_range(const char *path, const char *key, int64_t value, struct err *e);
int read_too_many(const json_t *list, const char *path, const char *key, struct err *e);
