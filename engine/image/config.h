/* Configs of images: the JSON that an image's id is the digest of, read into and written from ImageConfig. */
#pragma once

#include <stddef.h>

#include "proto/base/arena.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/container.pb-c.h"

/* Read one, into the arena. Refuses another operating system than Linux and layers whose diff ids are no digests.
 */
int image_config_parse(const char *json, size_t length, struct arena *a, ImageConfig **ret, struct err *e);

/* Write one, with a history of a single step. */
void image_config_write(const ImageConfig *config, const char *created_by, struct buf *out);

/* Apply the instructions of import and commit ("CMD ...", "ENV ...": CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK,
 * LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR) to a config in the arena. */
int image_config_change(ImageConfig *config, const char *const *changes, size_t count, struct arena *a,
                        struct err *e);
