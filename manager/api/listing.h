/* Lists in slices: every turn looks at some objects and puts what belongs to the result into the page, which goes
 * out when it is full. A list costs what it looks at; each page shows one state, and what was made or removed
 * between two pages may be in it or not. */
#pragma once

#include "manager/api/ask.h"

struct listing {
    enum kind kind;
    /* Look at one object: put it into k->page.bytes (pack.h) if it belongs to the list. */
    void (*pick)(struct ask *k, struct listing *l, struct view *v, uint64_t number);
    void (*render)(struct ask *k, struct buf *out); /* on the node loop: the page as JSON */

    bool all; /* look at all of the kind; else at these numbers, owned, in their order */
    uint64_t *numbers;
    size_t number_count;

    /* What was put into this page already and needs to be there once. Emptied with each page. */
    struct map64 in_page;
    struct arena arena; /* for pick; emptied with each page */
    struct map64 memo;  /* for pick, over all pages */

    size_t at;      /* of the numbers */
    uint64_t after; /* of all */
};

/* Let it look at one more. */
void listing_add(struct listing *l, uint64_t number);

/* Begin, after ask_read. The listing is copied; its numbers are taken. */
void listing_begin(struct ask *k, const struct listing *l);

/* For render: first, before each element, and last. */
void listing_open(struct ask *k, struct buf *out);
void listing_element(struct ask *k, struct buf *out);
void listing_close(struct ask *k, struct buf *out);
