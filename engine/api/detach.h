/* The keys by which a client at a terminal lets go of a container: "ctrl-p,ctrl-q". Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"

#define DETACH_KEYS_MAX 16

struct detach {
    unsigned char keys[DETACH_KEYS_MAX];
    size_t count;
    size_t seen; /* of the keys, at the end of what was typed: held back until it is known what they are */
};

/* "a,ctrl-x,@": single characters, or ctrl- with a letter or one of @ [ \ ] ^ _. Empty or NULL: the usual ones. */
int detach_parse(const char *text, struct detach *ret, struct err *e);

/* Append what was typed to `out`, less the keys. True: they were typed; what follows them is dropped. */
bool detach_type(struct detach *d, const char *data, size_t size, struct buf *out);
