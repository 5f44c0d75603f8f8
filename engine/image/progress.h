/* Docker's progress stream, line by line: pure. Each function appends one JSON object without a newline. */
#pragma once

#include <stdint.h>

#include "proto/base/buf.h"

/* {"status":...,"id":...}, for "Pulling from library/web" with the tag as id; id NULL leaves it out. */
void progress_message(struct buf *out, const char *status, const char *id);
/* {"status":...,"progressDetail":{...},"progress":"[==>   ]  1kB/2kB","id":...}; the detail is empty when total and
 * current are 0, and total 0 means that it is not known. */
void progress_step(struct buf *out, const char *status, uint64_t current, uint64_t total, const char *id);
/* {"stream":"Loaded image: web:1\n"} */
void progress_stream(struct buf *out, const char *text);

/* "1.234MB", as Docker shows sizes. */
void progress_size(uint64_t bytes, char ret[16]);
/* The twelve digits by which a layer is shown. */
void progress_id(const char *digest, char ret[13]);
