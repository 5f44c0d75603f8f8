/* See log.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/log.h"

#define LINE_MAX_BYTES 4096

static enum log_level least = LOG_LEVEL_INFO;
static const char *prefix_text;

static const struct {
    const char *name; /* as users write it */
    const char *pad;  /* as it stands in a line */
    int priority;     /* syslog's number, for journald */
} levels[] = {{"debug", "debug", 7}, {"info", "info ", 6}, {"warn", "warn ", 4}, {"error", "error", 3}};

void log_set_level(enum log_level level)
{
    least = level;
}

enum log_level log_get_level(void)
{
    return least;
}

int log_level_of(const char *name)
{
    for (int i = 0; i < (int)(sizeof(levels) / sizeof(levels[0])); i++)
        if (strcmp(levels[i].name, name) == 0)
            return i;
    return -1;
}

void log_set_prefix(const char *prefix)
{
    prefix_text = prefix;
}

static size_t put_head(char *line, size_t size, enum log_level level)
{
    struct timespec now;
    struct tm tm;
    char time[32];
    int used;

    if (getenv("JOURNAL_STREAM")) {
        used = snprintf(line, size, "<%d>", levels[level].priority);
    } else {
        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &tm);
        strftime(time, sizeof(time), "%Y-%m-%dT%H:%M:%S", &tm);
        used = snprintf(line, size, "%s.%03ldZ %s ", time, now.tv_nsec / 1000000, levels[level].pad);
    }
    return used > 0 ? (size_t)used : 0;
}

void log_line(enum log_level level, const char *message, const char *fmt, ...)
{
    char line[LINE_MAX_BYTES];
    va_list args;

    if (level < least)
        return;
    size_t room = sizeof(line) - 1; /* one byte for the newline */
    size_t used = put_head(line, room, level);
    int more = snprintf(line + used, room - used, "%s%s%s%s", prefix_text ? prefix_text : "",
                        prefix_text ? ": " : "", message, *fmt ? " " : "");
    used += more > 0 ? (size_t)more : 0;
    if (used < room) {
        va_start(args, fmt);
        more = vsnprintf(line + used, room - used, fmt, args);
        va_end(args);
        used += more > 0 ? (size_t)more : 0;
    }
    if (used > room - 1)
        used = room - 1;
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)line[i] < ' ')
            line[i] = ' ';
    line[used++] = '\n';
    if (write(2, line, used) < 0)
        return; /* nowhere left to say it */
}
