/* Tables of text: cells that end in a tab are padded to the width of their column, as docker's tables are.
 *
 * A column is the run of neighbouring lines that have a cell there; a line without one ends it, and a new column
 * may begin below with another width. The last cell of a line ends in a newline, belongs to no column and is not
 * padded. Pure. */
#pragma once

#include "proto/base/buf.h"

struct table_shape {
    size_t width_min; /* of a column, padding included */
    size_t padding;   /* blanks after the widest cell */
};

/* Lay out `text` and append it to `out`. */
void table_layout(struct buf *out, const char *text, size_t length, struct table_shape shape);
