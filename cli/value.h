/* Values as people write them on the command line: numbers, lengths of time, sizes, words, addresses. Pure.
 *
 * Each reader sets *ret on success and returns 0, or ERR_INVALID with the text docker shows for the same mistake,
 * so that scripts which match it go on working. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/arena.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"

int value_bool(const char *text, bool *ret, struct err *e); /* 1, t, true, True, TRUE and their opposites */
/* Decimal, 0x, 0o, 0b, with base 0; decimal alone with base 10. `bits` bounds the value. */
int value_int(const char *text, int base, int bits, int64_t *ret, struct err *e);
int value_uint(const char *text, int base, int bits, uint64_t *ret, struct err *e);
int value_real(const char *text, double *ret, struct err *e);

int value_duration(const char *text, int64_t *ret_ns, struct err *e); /* "1h30m", "200ms", "0" */
int value_bytes(const char *text, int64_t *ret, struct err *e);       /* "64m", "1.5 GiB", "512": binary units */
int value_cpus(const char *text, int64_t *ret_nano, struct err *e);   /* "0.5", "1/2": billionths of a processor */

/* A moment for "since" and "until": a date and time, a length of time before `now_ns`, or Unix seconds. Returns
 * what the API takes: "SECONDS.NANOSECONDS". `zone_seconds` is the local zone's distance from UTC. */
int value_moment(const char *text, int64_t now_ns, int zone_seconds, char ret[40], struct err *e);

/* Words as a shell splits them: quotes, escapes, comments. */
int value_words(struct arena *a, const char *text, const char ***ret, size_t *ret_count, struct err *e);

/* One line of comma-separated fields, quoted where they hold commas. */
int value_fields(struct arena *a, const char *text, const char ***ret, size_t *ret_count, struct err *e);

/* The part before the first `separator` into *ret_head; the rest, or NULL without separator, is returned. */
const char *value_cut(struct arena *a, const char *text, char separator, const char **ret_head);

struct value_ulimit {
    char name[16];
    int64_t soft, hard; /* -1: unlimited */
};
int value_ulimit(const char *text, struct value_ulimit *ret, struct err *e); /* "nofile=1024:2048" */

int value_label(const char *text, struct err *e);                               /* "key=value", "key" */
int value_address(const char *text, char ret[64], struct err *e);               /* IPv4 or IPv6, in short form */
int value_host(struct arena *a, const char *text, char **ret, struct err *e);   /* "name:address", "name=address" */
int value_domain(struct arena *a, const char *text, char **ret, struct err *e); /* a search domain */
int value_generic(const char *text, struct err *e);                             /* "KIND=N" */

/* "NAME=value" stays; "NAME" takes its value from `environment` (NULL-terminated, as environ) when it is there. */
int value_env(struct arena *a, const char *text, char *const *environment, char **ret, struct err *e);

/* The lines of an --env-file or --label-file: blank lines and those that begin with # are skipped. "NAME" alone
 * takes its value from `environment`, or is left out; with `environment` NULL it is left out always. `name` of the
 * file is for messages. */
int value_env_lines(struct arena *a, const char *name, const char *text, size_t length, char *const *environment,
                    const char ***ret, size_t *ret_count, struct err *e);

/* Capability names as the API takes them: "NET_ADMIN", "net_admin" and "CAP_NET_ADMIN" are one. */
char *value_capability(struct arena *a, const char *text);
