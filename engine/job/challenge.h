/* What a registry says about credentials, read from text: pure. */
#pragma once

#include <stddef.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"

enum challenge_scheme { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER };

struct challenge { /* in an arena */
    enum challenge_scheme scheme;
    const char *realm, *service, *scope; /* NULL when absent */
};

/* One WWW-Authenticate header, which may hold several challenges: the strongest we know replaces a weaker one in
 * *c. What cannot be read is passed over. */
void challenge_read(const char *header, struct arena *a, struct challenge *c);

/* Whether text can stand in a request's header: printable, without line breaks. */
int header_value_valid(const char *text);
