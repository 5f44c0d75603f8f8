/* Registry credentials as clients send them: base64url of JSON, in the header X-Registry-Auth. */
#pragma once

#include "proto/base/arena.h"
#include "proto/base/err.h"

struct registry_auth { /* in an arena; NULL what was not given */
    const char *user, *password, *identity_token, *registry_token;
};

/* Decode. NULL, "" and an empty object are no credentials. The error never shows the value. */
int registry_auth_parse(const char *header, struct arena *a, struct registry_auth *ret, struct err *e);
