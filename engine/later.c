/* See later.h. Closing a handle is libuv's own way of calling back at the end of a turn; no other handle is needed.
 */
#include <stdlib.h>

#include "engine/later.h"
#include "proto/base/mem.h"

struct later {
    uv_idle_t idle;
    void (*run)(void *ctx);
    void *ctx;
};

static void on_closed(uv_handle_t *handle)
{
    struct later *l = container_of((uv_idle_t *)handle, struct later, idle);
    struct later copy = *l;

    free(l);
    copy.run(copy.ctx);
}

void loop_later(uv_loop_t *loop, void (*run)(void *ctx), void *ctx)
{
    struct later *l = mem_alloc(sizeof(*l));

    l->run = run;
    l->ctx = ctx;
    (void)uv_idle_init(loop, &l->idle); /* cannot fail */
    uv_close((uv_handle_t *)&l->idle, on_closed);
}
