/* Signals by name and number, as people write them: "SIGTERM", "term", "15", "SIGRTMIN+3". */
#pragma once

/* The number of a signal, 1 to 64; names in any case, with or without SIG. ERR_INVALID for anything else, 0
 * included; *ret is then untouched. Messages are the caller's: it knows the field. */
int signal_parse(const char *name, int *ret);

/* "SIGTERM"; NULL for a number that has no name of its own. */
const char *signal_name(int number);
