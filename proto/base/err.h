/* Errors: one list of codes, and a text that a person can act on.
 *
 * A function that can fail returns 0 or a negative code of this list. Where a person may read why, it also takes a
 * `struct err *e` as its last argument and fills it; e may be NULL when the caller does not care. Each level may
 * add what it was doing with err_wrap, so that the text reads from the outside in: "unpack image web:2: open layer
 * sha256:12ab: No such file or directory". */
#pragma once

#include <stdarg.h>

enum {
    ERR_INVALID = -1,       /* the request makes no sense: names the field and the value     (HTTP 400) */
    ERR_NOT_FOUND = -2,     /* the named object does not exist                               (HTTP 404) */
    ERR_EXISTS = -3,        /* an object of that name exists already                         (HTTP 409) */
    ERR_CONFLICT = -4,      /* the object's state does not allow it now                      (HTTP 409) */
    ERR_DENIED = -5,        /* the caller may not do this                                    (HTTP 403) */
    ERR_UNAUTHORIZED = -6,  /* the caller did not show who it is                             (HTTP 401) */
    ERR_UNAVAILABLE = -7,   /* cannot be served now; trying later may help                   (HTTP 503) */
    ERR_UNSUPPORTED = -8,   /* not offered by this version, kernel or machine                (HTTP 501) */
    ERR_LIMIT = -9,         /* larger or more than we accept                                 (HTTP 413) */
    ERR_NOT_MODIFIED = -10, /* already so; nothing was done                                  (HTTP 304) */
    ERR_SEQUENCE = -11,     /* compare-and-set on an object that changed meanwhile           (HTTP 500, see api) */
    ERR_PRECONDITION = -12, /* the cluster's state does not allow it                         (HTTP 400) */
    ERR_CORRUPT = -13,      /* bytes that should be ours or well-formed are not              (HTTP 500) */
    ERR_IO = -14,           /* the disk or a descriptor failed                               (HTTP 500) */
    ERR_TIMEOUT = -15,      /* not done in the time allowed                                  (HTTP 503) */
    ERR_CANCELED = -16,     /* ended because its owner was closed                            (HTTP 503) */
    ERR_CLOSED = -17,       /* the other side is gone                                        (HTTP 503) */
    ERR_AGAIN = -18,        /* would block; never leaves the module that knows what to wait for */
    ERR_INTERNAL = -19,     /* a circumstance nobody foresaw                                 (HTTP 500) */
};

struct err {
    int code;        /* 0, or one of the codes above */
    char text[1020]; /* one line, no newline; cut at the end when longer */
};

/* Set code and text and return code. `code` must be one of the list. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int err_vset(struct err *e, int code, const char *fmt, va_list args);

/* Set code and text from errno, the system's words appended after ": ", and return the code it maps to. */
int err_errno(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* As err_errno with the error number given (positive, as errno). */
int err_number(struct err *e, int number, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put "context: " before the text, keep and return the code. */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The name of a code for logs: "not found", "conflict". Never NULL. */
const char *err_name(int code);

/* The code that a system error number maps to. */
int err_code_of(int number);
