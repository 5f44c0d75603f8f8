/* Names of images: "nginx", "registry:5000/team/app:1.2", "busybox@sha256:...". Pure. */
#pragma once

#include <stdbool.h>

#include "proto/base/err.h"

struct reference {
    char domain[260]; /* "docker.io" when none is written */
    char path[260];   /* with "library/" in front for Docker's official images */
    char tag[132];    /* "" when none is written */
    char digest[140]; /* "" when none is written */
};

int reference_parse(const char *text, struct reference *ret, struct err *e);

/* Whether it can be no name because it is a whole id: 64 hexadecimal digits, with "sha256:" in front or not. */
bool reference_is_id(const char *text);

/* As people write it: without docker.io/ and library/. ret holds REFERENCE_TEXT bytes. */
#define REFERENCE_TEXT 800
void reference_name(const struct reference *r, char ret[REFERENCE_TEXT]);      /* "nginx" */
void reference_familiar(const struct reference *r, char ret[REFERENCE_TEXT]);  /* "nginx:1.2@sha256:..." */
void reference_full_name(const struct reference *r, char ret[REFERENCE_TEXT]); /* "docker.io/library/nginx" */
