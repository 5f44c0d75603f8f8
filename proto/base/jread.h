/* Reading JSON that came from outside: jansson's tree, and getters that say what is wrong with which field.
 *
 * Docker's rules (reference/engine-surface.md section 1): unknown fields are ignored, null and absent are equal,
 * and field names match without regard to case when no exact one exists, as its decoder does. Each getter leaves
 * its result untouched when the field is absent, returns 0, and sets ERR_INVALID naming the field, what was
 * expected and the value found when the type is wrong. `path` is the way to the object for the message, e.g.
 * "TaskTemplate.ContainerSpec"; NULL at the top. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"

/* Parse a whole text. Refuses more than JREAD_DEPTH_MAX levels, duplicate keys and trailing bytes. The tree must be
 * given back with json_decref (or AUTO_JSON). */
#define JREAD_DEPTH_MAX 64
int jread_parse(const char *text, size_t length, json_t **ret_root, struct err *e);

/* The member of an object; NULL when absent, null, or when object itself is NULL. */
json_t *jread_get(const json_t *object, const char *key);

/* Strings live in the arena. */
int jread_string(const json_t *object, const char *path, const char *key, struct arena *a, char **ret,
                 struct err *e);
int jread_bool(const json_t *object, const char *path, const char *key, bool *ret, struct err *e);
int jread_int(const json_t *object, const char *path, const char *key, int64_t *ret, struct err *e);
int jread_uint(const json_t *object, const char *path, const char *key, uint64_t *ret, struct err *e);
int jread_double(const json_t *object, const char *path, const char *key, double *ret, struct err *e);

/* The member as object or array; *ret NULL when absent. Borrowed from the tree. */
int jread_object(const json_t *object, const char *path, const char *key, json_t **ret, struct err *e);
int jread_array(const json_t *object, const char *path, const char *key, json_t **ret, struct err *e);

/* An array of strings into the arena; *ret_count 0 when absent. */
int jread_strings(const json_t *object, const char *path, const char *key, struct arena *a, char ***ret,
                  size_t *ret_count, struct err *e);

static inline void jread_auto_decref(json_t **root)
{
    json_decref(*root);
}

#define AUTO_JSON __attribute__((cleanup(jread_auto_decref)))
