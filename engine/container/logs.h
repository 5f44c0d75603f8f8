/* Readers of containers' logs: engine_log_* of engine.h. */
#pragma once

#include "engine/engine.h"

/* The engine closes: every reader hears ERR_CANCELED, now. */
void logs_close(struct engine *en);
