/* Figures: samples, their order, and the lines of GOALS.md. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FIGURE_SAMPLES 4096

struct samples {
    double value[FIGURE_SAMPLES];
    unsigned count;
};

void samples_add(struct samples *s, double value);
/* Of the sorted samples: 0 the least, 50 the median, 100 the largest. 0 when there are none. */
double samples_percentile(struct samples *s, double percent);

double bench_now_ms(void);
_Noreturn void bench_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void bench_pause(double ms);

/* "BENCH <id> <what> <value> <unit> n=<n> floor=<floor> ratio=<value by floor> <more>"; no floor when it is 0. */
void figure(const char *id, const char *what, double value, const char *unit, unsigned n, double floor,
            const char *more_fmt, ...) __attribute__((format(printf, 7, 8)));

/* PSS of a process in KiB, 0 when it is gone. */
double bench_pss_kib(int pid);
/* User and system time of a process and of the children that it has reaped, in ms; 0 when it is gone. */
double bench_cpu_ms(int pid);
/* Of this process and its reaped children, finer. */
double bench_own_cpu_ms(void);
