/* See duration.h. */
#include <stdio.h>

#include "engine/api/duration.h"

void duration_words(int64_t ns, char ret[DURATION_TEXT])
{
    long long seconds = ns / 1000000000, minutes = seconds / 60;
    long long hours = (minutes + 30) / 60; /* rounded, minutes are not */

    if (seconds < 1)
        (void)snprintf(ret, DURATION_TEXT, "Less than a second");
    else if (seconds == 1)
        (void)snprintf(ret, DURATION_TEXT, "1 second");
    else if (seconds < 60)
        (void)snprintf(ret, DURATION_TEXT, "%lld seconds", seconds);
    else if (minutes == 1)
        (void)snprintf(ret, DURATION_TEXT, "About a minute");
    else if (minutes < 60)
        (void)snprintf(ret, DURATION_TEXT, "%lld minutes", minutes);
    else if (hours == 1)
        (void)snprintf(ret, DURATION_TEXT, "About an hour");
    else if (hours < 48)
        (void)snprintf(ret, DURATION_TEXT, "%lld hours", hours);
    else if (hours < 24 * 14)
        (void)snprintf(ret, DURATION_TEXT, "%lld days", hours / 24);
    else if (hours < 24 * 60)
        (void)snprintf(ret, DURATION_TEXT, "%lld weeks", hours / 24 / 7);
    else if (hours < 24 * 365 * 2)
        (void)snprintf(ret, DURATION_TEXT, "%lld months", hours / 24 / 30);
    else
        (void)snprintf(ret, DURATION_TEXT, "%lld years", hours / 24 / 365);
}
