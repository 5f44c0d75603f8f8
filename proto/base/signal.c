/* See signal.h.
 *
 * The numbers are this machine's, but the real-time range is the kernel's (34 to 64 as programs see it) and not
 * that of whatever library a container brings: users write SIGRTMIN+3 for systemd in a container and mean 37. */
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/param.h> /* the numbers; pure files may not include signal.h itself */

#include "proto/base/err.h"
#include "proto/base/mem.h"
#include "proto/base/signal.h"

#define REAL_TIME_MIN 34
#define REAL_TIME_MAX 64
#define NUMBER_MAX    64

/* The preferred name of a number stands before its other names. */
static const struct {
    const char *name;
    int number;
} signals[] = {
    {"SIGHUP", SIGHUP},       {"SIGINT", SIGINT},   {"SIGQUIT", SIGQUIT},  {"SIGILL", SIGILL},
    {"SIGTRAP", SIGTRAP},     {"SIGABRT", SIGABRT}, {"SIGIOT", SIGABRT},   {"SIGBUS", SIGBUS},
    {"SIGFPE", SIGFPE},       {"SIGKILL", SIGKILL}, {"SIGUSR1", SIGUSR1},  {"SIGSEGV", SIGSEGV},
    {"SIGUSR2", SIGUSR2},     {"SIGPIPE", SIGPIPE}, {"SIGALRM", SIGALRM},  {"SIGTERM", SIGTERM},
    {"SIGSTKFLT", SIGSTKFLT}, {"SIGCHLD", SIGCHLD}, {"SIGCLD", SIGCHLD},   {"SIGCONT", SIGCONT},
    {"SIGSTOP", SIGSTOP},     {"SIGTSTP", SIGTSTP}, {"SIGTTIN", SIGTTIN},  {"SIGTTOU", SIGTTOU},
    {"SIGURG", SIGURG},       {"SIGXCPU", SIGXCPU}, {"SIGXFSZ", SIGXFSZ},  {"SIGVTALRM", SIGVTALRM},
    {"SIGPROF", SIGPROF},     {"SIGIO", SIGIO},     {"SIGPOLL", SIGIO},    {"SIGWINCH", SIGWINCH},
    {"SIGPWR", SIGPWR},       {"SIGSYS", SIGSYS},   {"SIGUNUSED", SIGSYS},
};

/* Digits alone, at most two of them; -1 for anything else. */
static int small_number(const char *text)
{
    int number = 0;

    for (int i = 0; text[i]; i++) {
        if (i == 2 || text[i] < '0' || text[i] > '9')
            return -1;
        number = number * 10 + text[i] - '0';
    }
    return *text ? number : -1;
}

/* RTMIN, RTMIN+n, RTMAX, RTMAX-n; 0 when it is none of them. */
static int real_time(const char *name)
{
    bool from_max = strncasecmp(name, "RTMAX", 5) == 0;
    int distance = 0;

    if (!from_max && strncasecmp(name, "RTMIN", 5) != 0)
        return 0;
    if (name[5]) {
        if (name[5] != (from_max ? '-' : '+'))
            return 0;
        distance = small_number(name + 6);
        if (distance < 0 || distance > REAL_TIME_MAX - REAL_TIME_MIN)
            return 0;
    }
    return from_max ? REAL_TIME_MAX - distance : REAL_TIME_MIN + distance;
}

int signal_parse(const char *name, int *ret)
{
    int number = small_number(name);

    if (number < 0) {
        const char *bare = strncasecmp(name, "SIG", 3) == 0 ? name + 3 : name;

        number = real_time(bare);
        for (size_t i = 0; number == 0 && i < ARRAY_SIZE(signals); i++)
            if (strcasecmp(signals[i].name + 3, bare) == 0)
                number = signals[i].number;
    }
    if (number < 1 || number > NUMBER_MAX)
        return ERR_INVALID;
    *ret = number;
    return 0;
}

const char *signal_name(int number)
{
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        if (signals[i].number == number)
            return signals[i].name;
    return NULL;
}
