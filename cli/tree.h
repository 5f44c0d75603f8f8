/* JSON trees of the API: read by path, built by path, written out.
 *
 * Reading is lenient, because what is missing is shown as blank: a path that is absent, null or of another type
 * gives the empty value. A path names members with dots between them: "Spec.Mode.Replicated.Replicas". */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/jread.h"
#include "proto/base/jwrite.h"

/* NULL when absent or null; borrowed. */
json_t *tree_get(const json_t *root, const char *path);

const char *tree_text(const json_t *root, const char *path); /* "" */
int64_t tree_int(const json_t *root, const char *path);      /* 0; reals are cut */
double tree_real(const json_t *root, const char *path);      /* 0 */
bool tree_bool(const json_t *root, const char *path);        /* false */

/* The object or array at the path, made when it is absent or of another type. Borrowed. */
json_t *tree_object(json_t *root, const char *path);
json_t *tree_array(json_t *root, const char *path);

/* Set a member, replacing it. tree_put takes `value` over. */
void tree_put(json_t *object, const char *key, json_t *value);
void tree_put_text(json_t *object, const char *key, const char *value);
void tree_put_int(json_t *object, const char *key, int64_t value);
void tree_put_bool(json_t *object, const char *key, bool value);
void tree_append(json_t *array, json_t *value); /* takes `value` over */
void tree_append_text(json_t *array, const char *value);

/* Write a tree where the writer stands. */
void tree_write(struct jwrite *j, const char *key, const json_t *value);

/* Copy valid JSON text with every member on its own line, `indent` blanks per level; 0 puts all on one line without
 * blanks. Strings and numbers stay byte for byte. */
void tree_indent(struct buf *out, const char *text, size_t length, unsigned indent);

/* Call `each` with the members of an object (NULL and other types have none) in the order of their names. */
void tree_sorted(const json_t *object, void (*each)(void *context, const char *name, json_t *value), void *context);
