/* Any bytes as a log file: each line is read in place or known to be none; what is read lies inside the line. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/container/logline.h"
#include "proto/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    while (size) {
        const uint8_t *newline = memchr(data, '\n', size);
        size_t length = newline ? (size_t)(newline - data) : size;
        AUTO_FREE
        char *line = mem_dup(data, length); /* exact, so that a byte too far is seen */
        struct logline parsed;

        if (logline_parse(line, length, &parsed)) {
            if (parsed.text < line || parsed.text + parsed.size > line + length)
                abort();
            if (parsed.stream != LOGLINE_STDOUT && parsed.stream != LOGLINE_STDERR)
                abort();
        }
        data += length + (newline != NULL);
        size -= length + (newline != NULL);
    }
    return 0;
}
