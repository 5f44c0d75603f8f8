/* Names of images: pure. [domain/]path[:tag][@digest], normalised as every client of Docker expects: "web" is
 * docker.io/library/web:latest. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"

#define IMAGE_NAME_MAX 255 /* bytes of domain and path together */
#define IMAGE_TAG_MAX  128

struct image_name {       /* in an arena */
    const char *domain;   /* "docker.io", "127.0.0.1:5000" */
    const char *path;     /* "library/web" */
    const char *tag;      /* NULL when a digest was given without a tag; "latest" when neither was given */
    const char *digest;   /* "sha256:...", or NULL */
    const char *full;     /* "docker.io/library/web:latest" */
    const char *familiar; /* as people see it: "web:latest" */
};

/* Parse and normalise a reference. ERR_INVALID names field and value; a digest that is not SHA-256 is
 * ERR_UNSUPPORTED. */
int image_name_parse(const char *ref, struct arena *a, struct image_name *ret, struct err *e);

/* "docker.io/library/web" as people see it: "web". The result points into `repository` (domain/path). */
const char *image_name_familiar(const char *repository);

/* Length of the repository part ("docker.io/library/web") of a full name ("docker.io/library/web:1"). */
size_t image_name_repository(const char *full);

/* Whether a registry may be spoken to without TLS: localhost, 127.0.0.0/8 and ::1, with or without a port. */
bool image_domain_is_loopback(const char *domain);
