/* See table.h.
 *
 * One pass finds the cells of every line. Then the widths are found column by column, from the left: `fit` walks
 * down the lines of a block; where a line has a cell in the current column it measures the run of such lines, sets
 * their width, and calls itself for the next column over that run alone. Each cell is visited once per column to
 * its left, and depth is bounded by COLUMNS_MAX. */
#include <stdlib.h>
#include <string.h>

#include "cli/print.h"
#include "cli/table.h"
#include "proto/base/mem.h"

#define COLUMNS_MAX 64

struct cell {
    size_t start, length;
    size_t width; /* places on a terminal */
    size_t room;  /* places of its column */
};

struct line {
    size_t first, count; /* cells that end in a tab */
    size_t tail_start, tail_length;
};

struct layout {
    const char *text;
    struct table_shape shape;
    struct cell *cells; /* of all lines, in order; room for a power of two */
    size_t cells_count;
    struct line *lines;
    size_t lines_count;
};

/* Room for one more in an array whose capacity is the next power of two. */
static void *grown(void *array, size_t count, size_t size)
{
    return count & (count - 1) ? array : mem_grow(array, count ? count * 2 : 1, size);
}

static void split(struct layout *l, size_t length)
{
    size_t at = 0;

    while (at < length) {
        const char *newline = memchr(l->text + at, '\n', length - at);
        size_t end = newline ? (size_t)(newline - l->text) : length;
        struct line line = {.first = l->cells_count};
        const char *tab;

        while (line.count < COLUMNS_MAX && (tab = memchr(l->text + at, '\t', end - at))) {
            size_t size = (size_t)(tab - l->text) - at;

            l->cells = grown(l->cells, l->cells_count, sizeof(*l->cells));
            l->cells[l->cells_count++] =
                (struct cell){.start = at, .length = size, .width = print_width(l->text + at, size)};
            line.count++;
            at += size + 1;
        }
        line.tail_start = at;
        line.tail_length = end - at;
        l->lines = grown(l->lines, l->lines_count, sizeof(*l->lines));
        l->lines[l->lines_count++] = line;
        at = end + 1;
    }
}

static void fit(struct layout *l, size_t from, size_t to, size_t column)
{
    for (size_t i = from; i < to; i++) {
        size_t end = i, room = l->shape.width_min;

        if (l->lines[i].count <= column)
            continue;
        for (; end < to && l->lines[end].count > column; end++)
            room = MAX(room, l->cells[l->lines[end].first + column].width + l->shape.padding);
        for (size_t k = i; k < end; k++)
            l->cells[l->lines[k].first + column].room = room;
        fit(l, i, end, column + 1);
        i = end - 1;
    }
}

void table_layout(struct buf *out, const char *text, size_t length, struct table_shape shape)
{
    struct layout l = {.text = text, .shape = shape};

    split(&l, length);
    fit(&l, 0, l.lines_count, 0);
    for (size_t i = 0; i < l.lines_count; i++) {
        const struct line *line = &l.lines[i];

        for (size_t k = 0; k < line->count; k++) {
            const struct cell *cell = &l.cells[line->first + k];

            buf_append(out, text + cell->start, cell->length);
            for (size_t blanks = cell->width; blanks < cell->room; blanks++)
                buf_append_char(out, ' ');
        }
        buf_append(out, text + line->tail_start, line->tail_length);
        if (line->tail_start + line->tail_length < length)
            buf_append_char(out, '\n');
    }
    free(l.cells);
    free(l.lines);
}
