/* See err.h. Texts are cut, never overflow, and never keep a newline: they end up in one log line or one JSON
 * field. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/err.h"

static const char *const names[] = {
    [0] = "success",
    [-ERR_INVALID] = "invalid",
    [-ERR_NOT_FOUND] = "not found",
    [-ERR_EXISTS] = "exists",
    [-ERR_CONFLICT] = "conflict",
    [-ERR_DENIED] = "denied",
    [-ERR_UNAUTHORIZED] = "unauthorized",
    [-ERR_UNAVAILABLE] = "unavailable",
    [-ERR_UNSUPPORTED] = "unsupported",
    [-ERR_LIMIT] = "limit",
    [-ERR_NOT_MODIFIED] = "not modified",
    [-ERR_SEQUENCE] = "out of sequence",
    [-ERR_PRECONDITION] = "precondition",
    [-ERR_CORRUPT] = "corrupt",
    [-ERR_IO] = "i/o error",
    [-ERR_TIMEOUT] = "timeout",
    [-ERR_CANCELED] = "canceled",
    [-ERR_CLOSED] = "closed",
    [-ERR_AGAIN] = "again",
    [-ERR_INTERNAL] = "internal",
};

const char *err_name(int code)
{
    int index = -code;

    if (index < 0 || index >= (int)(sizeof(names) / sizeof(names[0])))
        return "unknown";
    return names[index];
}

int err_code_of(int number)
{
    switch (number) {
    case ENOENT:
    case ESRCH:
        return ERR_NOT_FOUND;
    case EEXIST:
    case ENOTEMPTY:
        return ERR_EXISTS;
    case EBUSY:
        return ERR_CONFLICT;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_DENIED;
    case EINVAL:
    case ENAMETOOLONG:
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
        return ERR_INVALID;
    case ENOSYS:
    case EOPNOTSUPP:
    case ENODEV:
        return ERR_UNSUPPORTED;
    case E2BIG:
    case EFBIG:
    case EMSGSIZE:
        return ERR_LIMIT;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case ECANCELED:
        return ERR_CANCELED;
    case EPIPE:
    case ECONNRESET:
        return ERR_CLOSED;
    case ECONNREFUSED:
    case EMFILE:
    case ENFILE:
    case ENOSPC:
    case EDQUOT:
        return ERR_UNAVAILABLE;
    case EAGAIN:
    case EINTR:
        return ERR_AGAIN;
    case EBADMSG:
    case EUCLEAN:
        return ERR_CORRUPT;
    default:
        return ERR_IO;
    }
}

/* One line: whatever control characters came with a foreign name are made visible. */
static void tidy(char *text)
{
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
}

int err_vset(struct err *e, int code, const char *fmt, va_list args)
{
    if (!e)
        return code;
    e->code = code;
    (void)vsnprintf(e->text, sizeof(e->text), fmt, args); /* cut when too long */
    tidy(e->text);
    return code;
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    err_vset(e, code, fmt, args);
    va_end(args);
    return code;
}

static int set_number(struct err *e, int number, const char *fmt, va_list args)
{
    int code = err_code_of(number);
    char system[128];

    if (!e)
        return code;
    err_vset(e, code, fmt, args);
    size_t used = strlen(e->text);
    (void)snprintf(e->text + used, sizeof(e->text) - used, ": %s", strerror_r(number, system, sizeof(system)));
    return code;
}

int err_errno(struct err *e, const char *fmt, ...)
{
    int number = errno;
    va_list args;

    va_start(args, fmt);
    int code = set_number(e, number, fmt, args);
    va_end(args);
    return code;
}

int err_number(struct err *e, int number, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    int code = set_number(e, number, fmt, args);
    va_end(args);
    return code;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    char inner[sizeof(e->text)];
    va_list args;

    if (!e)
        return ERR_INTERNAL;
    memcpy(inner, e->text, sizeof(inner));
    va_start(args, fmt);
    err_vset(e, e->code, fmt, args);
    va_end(args);
    size_t used = strlen(e->text);
    (void)snprintf(e->text + used, sizeof(e->text) - used, ": %s", inner);
    return e->code;
}
