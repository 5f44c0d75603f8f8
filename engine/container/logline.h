/* One line of a container's log file (reference/engine-surface.md section 8):
 *
 *     {"log":"text\n","stream":"stdout","time":"2026-..."}
 *
 * with one more member, "raw" (the text in base64, which counts), when the text is no UTF-8. The file was written
 * by our logger, but what stands in it came from the container, and disks lie. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOGLINE_STDOUT 1
#define LOGLINE_STDERR 2

struct logline {
    int64_t time_ns;
    unsigned stream;  /* LOGLINE_STDOUT or LOGLINE_STDERR */
    const char *text; /* decoded, not terminated, may hold zeroes */
    size_t size;
};

/* Parse one line, without its newline, in place: ret->text lies in it. False when it is none; then the bytes may
 * have been changed all the same. */
bool logline_parse(char *line, size_t size, struct logline *ret);
