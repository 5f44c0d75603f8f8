/* See listing.h. */
#include <stdlib.h>
#include <string.h>

#include "manager/api/asks.h"
#include "manager/api/listing.h"
#include "proto/base/mem.h"

#define PAGE_BYTES  (64 * 1024)
#define STEP_US     500
#define CLOCK_EVERY 16 /* objects between two looks at the clock */

void listing_add(struct listing *l, uint64_t number)
{
    if ((l->number_count & (l->number_count - 1)) == 0)
        l->numbers = mem_grow(l->numbers, MAX(l->number_count * 2, (size_t)16), sizeof(*l->numbers));
    l->numbers[l->number_count++] = number;
}

static int compare(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

static uint64_t next(struct listing *l, struct view *v)
{
    if (!l->all)
        return l->at < l->number_count ? l->numbers[l->at++] : 0;
    return l->after = view_next(v, l->kind, l->after);
}

static void step(struct ask *k)
{
    const struct asks_config *config = asks_config(k->asks);
    struct listing *l = k->work;
    int64_t until_us = clock_mono_us(config->clock) + STEP_US;
    struct view *v = view_begin(control_store(config->control));
    uint64_t number = 0;

    for (unsigned count = 1; k->page.bytes.length < PAGE_BYTES && (number = next(l, v)); count++) {
        l->pick(k, l, v, number);
        if (count % CLOCK_EVERY == 0 && clock_mono_us(config->clock) >= until_us)
            break;
    }
    view_end(v);
    if (number && k->page.bytes.length < PAGE_BYTES) {
        ask_step_soon(k);
        return;
    }
    map64_fini(&l->in_page);
    arena_reset(&l->arena);
    k->page.more = number != 0;
    ask_page(k);
}

static void on_end(struct ask *k)
{
    struct listing *l = k->work;

    map64_fini(&l->in_page);
    map64_fini(&l->memo);
    arena_fini(&l->arena);
    free(l->numbers);
    free(l);
}

/* In order of creation, each once. */
static void put_in_order(struct listing *l)
{
    size_t count = 0;

    if (!l->number_count)
        return;
    qsort(l->numbers, l->number_count, sizeof(*l->numbers), compare);
    for (size_t i = 0; i < l->number_count; i++)
        if (count == 0 || l->numbers[i] != l->numbers[count - 1])
            l->numbers[count++] = l->numbers[i];
    l->number_count = count;
}

void listing_begin(struct ask *k, const struct listing *l)
{
    struct listing *own = mem_dup(l, sizeof(*l));

    put_in_order(own);
    arena_init(&own->arena);
    k->page.status = 200;
    k->page.render = own->render;
    k->work = own;
    k->step = step;
    k->on_end = on_end;
    ask_step_soon(k);
}

/* --- on the node loop, where there is no listing any more -------------------------------------------------- */

void listing_open(struct ask *k, struct buf *out)
{
    if (k->shown++ == 0)
        buf_append_char(out, '[');
}

void listing_element(struct ask *k, struct buf *out)
{
    if (k->has_elements)
        buf_append_char(out, ',');
    k->has_elements = true;
}

void listing_close(struct ask *k, struct buf *out)
{
    if (!k->page.more)
        buf_append_str(out, "]\n");
}
