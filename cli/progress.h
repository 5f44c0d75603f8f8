/* Progress of long operations: lines that are rewritten in place on a terminal, plain lines otherwise.
 *
 * Each line has an id; updates of the same id go to the same line until something without an id is printed. Off a
 * terminal a line is printed when its text changed, and bars are left out. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/client.h"

struct progress_line;

struct progress {
    FILE *out;
    bool terminal;
    struct progress_line *lines; /* in the order they appeared */
    size_t count;
};

struct progress_bar {
    int64_t current, total; /* bytes, unless hide_counts; total 0: unknown */
    bool hide_counts;
    const char *units; /* instead of bytes; NULL */
};

void progress_init(struct progress *p, FILE *out, bool terminal);
void progress_fini(struct progress *p);

/* Set the line of `id` to "id: text [bar]". `bar` may be NULL. */
void progress_update(struct progress *p, const char *id, const char *text, const struct progress_bar *bar);

/* Print a line that stays: "id: text", or the text alone when id is empty. What stood above is not touched again.
 */
void progress_say(struct progress *p, const char *id, const char *text);

/* "[=====>    ]  12.3MB/45.6MB" as wide as `columns` allow; empty when nothing is known. */
void progress_bar_text(const struct progress_bar *bar, int columns, struct buf *out);

/* Show a stream of progress messages, as pull, load and import answer, until it ends. An error within the stream is
 * returned. `quiet`: show nothing. */
int progress_messages(struct call *call, FILE *out, bool terminal, bool quiet, struct err *e);
