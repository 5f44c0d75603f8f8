/* RFC 3339 times, as the API writes and reads them: nanoseconds since 1970, UTC. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define TIME_TEXT 40 /* bytes a formatted time needs */

/* "2026-11-24T06:14:00.000000123Z"; 0 gives Go's zero time "0001-01-01T00:00:00Z", which clients take for "never".
 */
void time_format_ns(int64_t wall_ns, char ret[TIME_TEXT]);

/* Any offset, any fraction. False when it is not such a time; Go's zero time gives 0. */
bool time_parse_ns(const char *text, int64_t *ret_wall_ns);
