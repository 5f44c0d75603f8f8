/* Output of containers as the node streams it: frames of 8 bytes of header (stream, length) and a piece of output.
 */
#pragma once

#include "cli/client.h"

/* Part of a frame: `last` when it ends the frame. Streams are 1 (stdout) and 2 (stderr). */
typedef int (*logs_sink)(void *context, int stream, const char *data, size_t size, bool last, struct err *e);

/* Where a reader stands within the frames; all zero at the beginning. */
struct logs_splitter {
    unsigned char header[8];
    size_t header_size;
    uint32_t left;    /* of the frame's payload */
    struct buf error; /* what the node reports */
};

/* Read frames until the answer ends, or until an interrupt (ERR_CANCELED): then the same call goes on. */
int logs_split_more(struct logs_splitter *s, struct call *call, logs_sink sink, void *context, struct err *e);
void logs_splitter_fini(struct logs_splitter *s);

/* Read frames until the answer ends. What the node reports as an error within the stream is returned as one. */
int logs_split(struct call *call, logs_sink sink, void *context, struct err *e);

/* Copy an answer to stdout as it is (containers with a terminal). */
int logs_copy(struct call *call, struct err *e);

/* A sink that writes to stdout and stderr. */
int logs_print(void *context, int stream, const char *data, size_t size, bool last, struct err *e);
