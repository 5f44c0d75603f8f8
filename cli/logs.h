/* Output of containers as the node streams it: frames of 8 bytes of header (stream, length) and a piece of output.
 */
#pragma once

#include "cli/client.h"

/* Part of a frame: `last` when it ends the frame. Streams are 1 (stdout) and 2 (stderr). */
typedef int (*logs_sink)(void *context, int stream, const char *data, size_t size, bool last, struct err *e);

/* Read frames until the answer ends. What the node reports as an error within the stream is returned as one. */
int logs_split(struct call *call, logs_sink sink, void *context, struct err *e);

/* Copy an answer to stdout as it is (containers with a terminal). */
int logs_copy(struct call *call, struct err *e);

/* A sink that writes to stdout and stderr. */
int logs_print(void *context, int stream, const char *data, size_t size, bool last, struct err *e);
