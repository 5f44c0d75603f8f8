/* Changing lists and maps of a spec as pairs of options say: X-add and X-rm. Nothing is touched when neither is
 * given. */
#pragma once

#include "cli/option.h"
#include "cli/tree.h"

/* Whether an option was given this very text. */
bool edit_names(const struct args *args, const char *option, const char *text);

/* Whether any of the options (NULL after the last) was given. */
bool edit_asks(const struct args *args, const char *const *options);

/* Keep the elements for which `drop` is false. */
void edit_filter(json_t *array, bool (*drop)(const json_t *element, void *context), void *context);

/* A map: `rm` takes keys away (also given as "key=value"), `add` sets them. */
void edit_map(json_t *parent, const char *member, const struct args *args, const char *rm, const char *add);

/* A list of texts: `add` appends, `rm` takes away; sorted and without doubles, so that the same wish gives the same
 * spec. */
void edit_texts(json_t *parent, const char *member, const struct args *args, const char *add, const char *rm);

/* The container's part of a spec; see service_update_spec. */
int edit_container(json_t *container, const struct args *args, struct err *e);
