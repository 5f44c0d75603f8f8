/* Call a function from the loop, soon: for callbacks that must not come from inside the call that caused them. */
#pragma once

#include <uv.h>

/* `run` comes once, in this turn of the loop or the next. Keeps the loop alive until then. */
void loop_later(uv_loop_t *loop, void (*run)(void *ctx), void *ctx);
