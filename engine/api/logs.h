/* GET /containers/{id}/logs, and the form of what containers write. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/wire/http.h"

struct api_call;

void api_logs(struct api_call *c);

/* Write some output to a stream or a hijacked connection: behind a head with its stream and size, or raw when the
 * stream is 0. What http_write returns. */
bool api_frame(struct http_exchange *x, unsigned stream, const char *prefix, const char *data, size_t size);

/* The content type of such output. */
const char *api_frame_type(const struct api_call *c, bool is_raw);
