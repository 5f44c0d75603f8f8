/* See figure.h. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/file.h"
#include "tests/bench/figure.h"

void samples_add(struct samples *s, double value)
{
    if (s->count < FIGURE_SAMPLES)
        s->value[s->count++] = value;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double samples_percentile(struct samples *s, double percent)
{
    if (!s->count)
        return 0;
    qsort(s->value, s->count, sizeof(*s->value), by_size);
    return s->value[(unsigned)((double)(s->count - 1) * percent / 100.0 + 0.5)];
}

double bench_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

_Noreturn void bench_die(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fprintf(stderr, "bench: ");
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(1); /* whatever was started ends with the stage (node.h) */
}

void bench_pause(double ms)
{
    struct timespec t = {.tv_sec = (time_t)(ms / 1000)};

    t.tv_nsec = (long)((ms - (double)t.tv_sec * 1000) * 1e6);
    (void)nanosleep(&t, NULL);
}

void figure(const char *id, const char *what, double value, const char *unit, unsigned n, double floor,
            const char *more_fmt, ...)
{
    va_list args;

    printf("BENCH %s %s %.4g %s n=%u", id, what, value, unit, n);
    if (floor > 0)
        printf(" floor=%.4g ratio=%.3g", floor, value / floor);
    va_start(args, more_fmt);
    if (*more_fmt) {
        printf(" ");
        vprintf(more_fmt, args);
    }
    va_end(args);
    printf("\n");
    (void)fflush(stdout);
}

double bench_pss_kib(int pid)
{
    AUTO_BUF struct buf text = {0};
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
    if (file_read(AT_FDCWD, path, 65536, &text, NULL) < 0)
        return 0;
    const char *at = strstr(buf_str(&text), "\nPss:");
    return at ? strtod(at + 5, NULL) : 0;
}

double bench_cpu_ms(int pid)
{
    AUTO_BUF struct buf text = {0};
    char path[64];
    unsigned long long use[4] = {0};

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    if (file_read(AT_FDCWD, path, 65536, &text, NULL) < 0)
        return 0;
    const char *at = strrchr(buf_str(&text), ')');
    if (!at || sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %llu %llu", &use[0], &use[1],
                      &use[2], &use[3]) != 4)
        return 0;
    return (double)(use[0] + use[1] + use[2] + use[3]) * 1000.0 / (double)sysconf(_SC_CLK_TCK);
}

double bench_own_cpu_ms(void)
{
    double ms = 0;

    for (int who = 0; who < 2; who++) {
        struct rusage use;

        getrusage(who ? RUSAGE_CHILDREN : RUSAGE_SELF, &use);
        ms += (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1e3 +
              (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e3;
    }
    return ms;
}
