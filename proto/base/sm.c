/* See sm.h. */
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/sm.h"

const char *sm_name(const struct sm_table *table, int state)
{
    return state >= 0 && state < table->count ? table->states[state] : "?";
}

void sm_move(const struct sm_table *table, int *state, int next)
{
    if (next < 0 || next >= table->count || !(table->moves[*state] & SM_TO(next))) {
        fprintf(stderr, "bug: %s may not move from %s to %s\n", table->machine, sm_name(table, *state),
                sm_name(table, next));
        abort();
    }
    *state = next;
}
