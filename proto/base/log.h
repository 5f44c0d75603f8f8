/* Logging: one line per event to stderr, a level, a message in plain words, then key=value pairs.
 *
 *     log_info("container started", "container=%s pid=%d", id, pid);
 *     2026-11-24T06:14:00.123Z info  container started container=4f5c pid=211
 *
 * Under journald the time is left out and the level goes as a <n> prefix, so that priorities work. Whoever handles
 * an error logs it, once, with the ids needed to find service, task and node (STYLE.md section 6). Values that may
 * hold blanks are quoted by the caller, "error=\"%s\""; quotes and backslashes within them are escaped here.
 * Secrets never reach a log. Safe from any thread; one write(2) per line. */
#pragma once

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

/* Lines below this level are dropped; info at start. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* "debug", "info", "warn", "error" to a level; -1 when it is none of them. */
int log_level_of(const char *name);

/* Put before each message in this process, e.g. the name of the program's part; borrowed, NULL for none. */
void log_set_prefix(const char *prefix);

void log_line(enum log_level level, const char *message, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_debug(message, ...)                              \
    do {                                                     \
        if (log_get_level() <= LOG_LEVEL_DEBUG)              \
            log_line(LOG_LEVEL_DEBUG, message, __VA_ARGS__); \
    } while (0)
#define log_info(message, ...)  log_line(LOG_LEVEL_INFO, message, __VA_ARGS__)
#define log_warn(message, ...)  log_line(LOG_LEVEL_WARN, message, __VA_ARGS__)
#define log_error(message, ...) log_line(LOG_LEVEL_ERROR, message, __VA_ARGS__)
