/* Names of images: pure. [domain/]path[:tag][@digest], normalised as every client of Docker expects: "web" is
 * docker.io/library/web:latest. The only reader of such names: client, managers and engine agree by construction.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/arena.h"
#include "proto/base/err.h"

#define IMAGE_NAME_MAX 255 /* bytes of domain and path together */
#define IMAGE_TAG_MAX  128

struct image_name {         /* in an arena */
    const char *domain;     /* "docker.io", "127.0.0.1:5000" */
    const char *path;       /* "library/web" */
    const char *repository; /* "docker.io/library/web" */
    const char *tag;        /* NULL when a digest was given without a tag; "latest" when neither was given */
    bool tag_assumed;       /* neither was given */
    const char *digest;     /* "sha256:...", or NULL */
    const char *full;       /* "docker.io/library/web:latest" */
    const char *familiar;   /* as people see it: "web:latest" */
};

/* Parse and normalise a reference. ERR_INVALID names field and value; a digest that is not SHA-256 is
 * ERR_UNSUPPORTED. */
int image_name_parse(const char *ref, struct arena *a, struct image_name *ret, struct err *e);

/* Whether it can be no name because it is a whole id: 64 hexadecimal digits, with "sha256:" in front or not. */
bool image_name_is_id(const char *text);

/* "docker.io/library/web" as people see it: "web". The result points into `repository` (domain/path). */
const char *image_name_familiar(const char *repository);

/* As a column shows it: as people see it, without its digest and without a tag that nobody gave. In the arena. */
const char *image_name_brief(const struct image_name *n, struct arena *a);

/* Length of the repository part ("docker.io/library/web") of a full name ("docker.io/library/web:1"). */
size_t image_name_repository(const char *full);

/* Whether a registry may be spoken to without TLS: localhost, 127.0.0.0/8 and ::1, with or without a port. */
bool image_domain_is_loopback(const char *domain);
