/* See log.h. */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/log.h"

#define LINE_MAX_BYTES   4096
#define FORMAT_MAX_BYTES 512 /* formats are literals of this program */

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

/* A quote that stands in the format opens or ends a value; one that comes out of an argument is part of it. So
 * those of the format travel as bytes that no UTF-8 has. */
#define OPEN_MARK  '\xfe'
#define CLOSE_MARK '\xff'

static void mark_quotes(char *marked, size_t size, const char *fmt)
{
    bool open = false;
    size_t n = 0;

    for (; fmt[n] && n < size - 1; n++) {
        marked[n] = fmt[n];
        if (fmt[n] == '"') {
            open = !open;
            marked[n] = open ? OPEN_MARK : CLOSE_MARK;
        }
    }
    marked[n] = 0;
}

/* The pairs as they are written: no line breaks, and within a quoted value quotes and backslashes escaped. A value
 * that is cut because the line is full gets its closing quote. */
static size_t put_pairs(char *line, size_t used, size_t room, const char *pairs)
{
    bool quoted = false;

    for (; *pairs && used + 3 < room; pairs++) {
        if (*pairs == OPEN_MARK || *pairs == CLOSE_MARK) {
            quoted = *pairs == OPEN_MARK;
            line[used++] = '"';
            continue;
        }
        if (quoted && (*pairs == '"' || *pairs == '\\'))
            line[used++] = '\\';
        line[used++] = *pairs;
    }
    if (quoted)
        line[used++] = '"';
    return used;
}

void log_line(enum log_level level, const char *message, const char *fmt, ...)
{
    char line[LINE_MAX_BYTES], pairs[LINE_MAX_BYTES], marked[FORMAT_MAX_BYTES];
    va_list args;

    if (level < least)
        return;
    size_t room = sizeof(line) - 1; /* one byte for the newline */
    size_t used = put_head(line, room, level);
    int more = snprintf(line + used, room - used, "%s%s%s ", prefix_text ? prefix_text : "",
                        prefix_text ? ": " : "", message);
    used += more > 0 ? (size_t)more : 0;
    if (used < room) {
        mark_quotes(marked, sizeof(marked), fmt);
        va_start(args, fmt);
        vsnprintf(pairs, sizeof(pairs), marked, args);
        va_end(args);
        used = put_pairs(line, used, room, pairs);
    }
    if (used > room - 1)
        used = room - 1;
    while (used && line[used - 1] == ' ') /* a message without pairs */
        used--;
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)line[i] < ' ')
            line[i] = ' ';
    line[used++] = '\n';
    if (write(2, line, used) < 0)
        return; /* nowhere left to say it */
}
