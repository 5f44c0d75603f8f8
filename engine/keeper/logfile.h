/* A container's log on disk: Docker's json-file, with rotation (reference/engine-surface.md section 8).
 *
 * Lines are gathered in a buffer and written in one piece; a disk that is full loses whole lines, counts them, and
 * says so in the log when there is room again. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"

#define LOG_TEXT_MAX 16384 /* bytes of one entry's text; longer lines become several, the last with the newline */

struct logfile {
    int dir;             /* owned */
    char *name;          /* "<id>-json.log", owned */
    int fd;              /* owned; -1: not open (then each write tries again) */
    uint64_t size;       /* of the file */
    uint64_t size_max;   /* 0: unlimited */
    unsigned files_max;  /* 1: truncate when full */
    uint64_t lost_lines; /* not written since the last success */
    int lost_number;     /* errno of the first of them */
};

/* Takes dir_fd. A torn last line of a logger that was killed is cut off. Nothing is made before the first write. */
void logfile_open(struct logfile *f, int dir_fd, const char *id, uint64_t size_max, unsigned files_max);
void logfile_close(struct logfile *f);

/* Append one entry to `batch`: the text as given, which ends with a newline unless it is a part. Bytes that are no
 * UTF-8 become U+FFFD in Docker's member "log", and stand in base64 in one of ours, "raw". */
void logfile_entry(struct buf *batch, const char *text, size_t length, const char *stream, int64_t wall_ns);

/* How much of data[0 .. size) is one entry: up to and with the newline, or LOG_TEXT_MAX without one (a little less,
 * so that no character is cut). 0: neither is there yet. */
size_t logfile_cut(const char *data, size_t size);

/* Write the entries of a batch, rotating as needed. Never fails: what could not be written is counted. Empties the
 * batch. */
void logfile_write(struct logfile *f, struct buf *batch);
