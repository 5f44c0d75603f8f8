/* State machines: a table of states with names and of the moves that are allowed.
 *
 * What has more than two steps is a machine (STYLE.md section 8): an enum, one sm_table, one `advance` function.
 * sm_move checks each move against the table and asserts, so a forbidden step is a crash with names in the log, not
 * a strange state. */
#pragma once

#include <stdint.h>

struct sm_table {
    const char *machine;       /* name for messages */
    const char *const *states; /* name of each state, by number */
    const uint32_t *moves;     /* for each state a bit mask of the states that may follow */
    int count;                 /* number of states, at most 32 */
};

#define SM_TO(state) (1u << (state))

/* Move *state to `next`; aborts with a log line when the table forbids it. */
void sm_move(const struct sm_table *table, int *state, int next);

/* The name of a state; "?" when out of range. */
const char *sm_name(const struct sm_table *table, int state);
