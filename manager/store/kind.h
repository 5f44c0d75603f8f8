/* What the store knows of each kind of object beyond its bytes: where its id and its name stand in the message.
 * Both are read from the packed message, so the indexes are a function of the records alone and can never disagree
 * with them. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/store/store.h"

#define KIND_ID_BYTES 16

bool kind_has_id(enum kind k);
bool kind_has_name(enum kind k);

/* Whether objects of this kind lie under numbers of their own; a status lies under its task's. */
bool kind_has_numbers(enum kind k);

/* The 16 bytes of the id, borrowed from the packed message; NULL when the kind has none or they are not there. */
const uint8_t *kind_id_of(enum kind k, const void *packed, size_t size);

/* The name, borrowed, not terminated; false when the kind has none or it is absent or empty. */
bool kind_name_of(enum kind k, const void *packed, size_t size, const char **ret, size_t *ret_length);

/* Names compare without regard to case (ASCII). */
char kind_lower(char c);
bool kind_name_equal(const char *a, size_t a_length, const char *b, size_t b_length);
