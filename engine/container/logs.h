/* Readers of containers' logs: engine_log_* of engine.h. */
#pragma once

#include <stdbool.h>

#include "engine/engine.h"

/* The engine closes: every reader hears ERR_CANCELED, now. */
void logs_close(struct engine *en);

/* Whether somebody follows this container's log: then its directory stays until he has read it to the end. */
bool logs_are_read(struct engine *en, const char *id);
