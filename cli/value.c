/* See value.h. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/value.h"
#include "proto/base/mem.h"

#define BLANKS " \t"

/* --- numbers ----------------------------------------------------------------------------------------------------
 */

static int bad_number(const char *kind, const char *text, const char *why, struct err *e)
{
    return err_set(e, ERR_INVALID, "strconv.%s: parsing \"%s\": %s", kind, text, why);
}

int value_bool(const char *text, bool *ret, struct err *e)
{
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"}, *const no[] = {"0",     "f",
                                                                                             "F",     "false",
                                                                                             "FALSE", "False"};

    for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *ret = strcmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return bad_number("ParseBool", text, "invalid syntax", e);
}

/* Digits of a number after its sign; the base found from a prefix when it is 0. */
static int digits(const char *kind, const char *text, const char *number, int base, uint64_t *ret, struct err *e)
{
    uint64_t value = 0;

    if (base == 0) {
        static const struct {
            char letter;
            int base;
        } prefixes[] = {{'x', 16}, {'o', 8}, {'b', 2}};

        base = *number == '0' && number[1] ? 8 : 10;
        for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
            if (*number == '0' && tolower((unsigned char)number[1]) == prefixes[i].letter) {
                base = prefixes[i].base;
                number += 2;
                break;
            }
        }
    }
    if (!*number)
        return bad_number(kind, text, "invalid syntax", e);
    for (; *number; number++) {
        int digit = isdigit((unsigned char)*number)   ? *number - '0'
                    : isalpha((unsigned char)*number) ? tolower((unsigned char)*number) - 'a' + 10
                                                      : 99;

        if (digit >= base)
            return bad_number(kind, text, "invalid syntax", e);
        if (__builtin_mul_overflow(value, (uint64_t)base, &value) ||
            __builtin_add_overflow(value, (uint64_t)digit, &value))
            return bad_number(kind, text, "value out of range", e);
    }
    *ret = value;
    return 0;
}

int value_int(const char *text, int base, int bits, int64_t *ret, struct err *e)
{
    bool negative = *text == '-';
    uint64_t value, limit = (uint64_t)1 << (bits - 1);
    int rc = digits("ParseInt", text, text + (*text == '-' || *text == '+'), base, &value, e);

    if (rc < 0)
        return rc;
    if (value > (negative ? limit : limit - 1))
        return bad_number("ParseInt", text, "value out of range", e);
    *ret = negative ? (int64_t)(0 - value) : (int64_t)value;
    return 0;
}

int value_uint(const char *text, int base, int bits, uint64_t *ret, struct err *e)
{
    uint64_t value;
    int rc = digits("ParseUint", text, text, base, &value, e);

    if (rc < 0)
        return rc;
    if (bits < 64 && value >> bits)
        return bad_number("ParseUint", text, "value out of range", e);
    *ret = value;
    return 0;
}

int value_real(const char *text, double *ret, struct err *e)
{
    char *end;

    errno = 0;
    double value = strtod(text, &end);
    if (!*text || *end || isspace((unsigned char)*text))
        return bad_number("ParseFloat", text, "invalid syntax", e);
    if (errno == ERANGE && (value > 1 || value < -1))
        return bad_number("ParseFloat", text, "value out of range", e);
    *ret = value;
    return 0;
}

/* Digits with at most one point, times `unit`, in whole nanoseconds; beyond any duration when it is too much. */
static unsigned __int128 scaled(const char *text, size_t length, int64_t unit)
{
    const unsigned __int128 much = (unsigned __int128)1 << 64;
    unsigned __int128 value = 0, fraction = 0, place = 1;
    bool point = false;

    for (size_t i = 0; i < length; i++) {
        if (text[i] == '.') {
            point = true;
        } else if (!point) {
            value = value * 10 + (unsigned)(text[i] - '0');
            if (value > much)
                return much;
        } else if (place < 1000000000000000000) {
            fraction = fraction * 10 + (unsigned)(text[i] - '0');
            place *= 10;
        }
    }
    value = value * (uint64_t)unit + fraction * (uint64_t)unit / place;
    return MIN(value, much);
}

int value_duration(const char *text, int64_t *ret_ns, struct err *e)
{
    static const struct {
        const char *unit;
        int64_t ns;
    } units[] = {{"ns", 1},       {"us", 1000},        {"µs", 1000},         {"μs", 1000},
                 {"ms", 1000000}, {"s", 1000000000LL}, {"m", 60000000000LL}, {"h", 3600000000000LL}};
    const char *at = text + (*text == '-' || *text == '+');
    unsigned __int128 total = 0, limit = (unsigned __int128)INT64_MAX + (*text == '-');

    if (strcmp(at, "0") == 0) {
        *ret_ns = 0;
        return 0;
    }
    if (!*at)
        return err_set(e, ERR_INVALID, "time: invalid duration \"%s\"", text);
    while (*at) {
        size_t number = strspn(at, "0123456789"), all = number;

        if (at[all] == '.')
            all += 1 + strspn(at + all + 1, "0123456789");
        if (all == 0 || (number == 0 && all == 1))
            return err_set(e, ERR_INVALID, "time: invalid duration \"%s\"", text);
        const char *unit = at + all;
        size_t length = strcspn(unit, "0123456789."), i;
        if (!length)
            return err_set(e, ERR_INVALID, "time: missing unit in duration \"%s\"", text);
        for (i = 0; i < ARRAY_SIZE(units); i++)
            if (strlen(units[i].unit) == length && strncmp(units[i].unit, unit, length) == 0)
                break;
        if (i == ARRAY_SIZE(units))
            return err_set(e, ERR_INVALID, "time: unknown unit \"%.*s\" in duration \"%s\"", (int)length, unit,
                           text);
        total += scaled(at, all, units[i].ns);
        if (total > limit)
            return err_set(e, ERR_INVALID, "time: invalid duration \"%s\"", text);
        at = unit + length;
    }
    *ret_ns = (int64_t)(*text == '-' ? 0 - (uint64_t)total : (uint64_t)total);
    return 0;
}

int value_bytes(const char *text, int64_t *ret, struct err *e)
{
    static const char letters[] = "kmgtp";
    size_t length = strlen(text), number = length;
    char digits_text[64], suffix[4] = "";
    double value;

    while (number > 0 && !strchr("0123456789. ", text[number - 1]))
        number--;
    if (number == 0)
        return err_set(e, ERR_INVALID, "invalid size: '%s'", text);
    if (length - number > 3)
        return err_set(e, ERR_INVALID, "invalid suffix: '%s'", text + number);
    for (size_t i = number; i < length; i++)
        suffix[i - number] = (char)tolower((unsigned char)text[i]);
    if (text[number - 1] == ' ')
        number--;
    if (number >= sizeof(digits_text))
        return err_set(e, ERR_INVALID, "invalid size: '%s'", text);
    memcpy(digits_text, text, number);
    digits_text[number] = '\0';
    int rc = value_real(digits_text, &value, e);
    if (rc < 0)
        return rc;
    if (value < 0)
        return err_set(e, ERR_INVALID, "invalid size: '%s'", text);
    const char *letter = *suffix ? strchr(letters, *suffix) : NULL;
    const char *rest = letter ? suffix + 1 : suffix; /* "b", "ib" or nothing after the letter */
    if (strcmp(rest, "") != 0 && strcmp(rest, "b") != 0 && !(letter && strcmp(rest, "ib") == 0))
        return err_set(e, ERR_INVALID, "invalid suffix: '%s'", suffix);
    for (const char *l = letters; letter && l <= letter; l++)
        value *= 1024;
    if (value > 9.2e18)
        return err_set(e, ERR_INVALID, "invalid size: '%s'", text);
    *ret = (int64_t)value;
    return 0;
}

/* "12.5" as 12500000000 billionths, exactly; -1 when it is no such number, -2 when it has more digits. */
static int billionths(const char *text, size_t length, int64_t *ret)
{
    int64_t value = 0, unit = 1000000000;
    bool point = false, any = false;

    for (size_t i = 0; i < length; i++) {
        if (text[i] == '.' && !point) {
            point = true;
            continue;
        }
        if (!isdigit((unsigned char)text[i]))
            return -1;
        any = true;
        if (point)
            unit /= 10;
        if (unit == 0 && text[i] != '0')
            return -2;
        if (!point && (__builtin_mul_overflow(value, 10, &value)))
            return -1;
        if (__builtin_add_overflow(value, (text[i] - '0') * unit, &value))
            return -1;
    }
    *ret = value;
    return any ? 0 : -1;
}

int value_cpus(const char *text, int64_t *ret_nano, struct err *e)
{
    const char *slash = strchr(text, '/');
    int64_t top, bottom = 1000000000;
    size_t sign = *text == '-' || *text == '+';
    int rc = billionths(text + sign, slash ? (size_t)(slash - text) - sign : strlen(text + sign), &top);

    if (rc == 0 && slash)
        rc = billionths(slash + 1, strlen(slash + 1), &bottom);
    if (rc == -1 || bottom == 0)
        return err_set(e, ERR_INVALID, "failed to parse %s as a rational number", text);
    __int128 nano = (__int128)top * 1000000000;
    if (rc == -2 || nano % bottom)
        return err_set(e, ERR_INVALID, "value is too precise");
    nano /= bottom;
    if (nano > INT64_MAX)
        return err_set(e, ERR_INVALID, "failed to parse %s as a rational number", text);
    *ret_nano = *text == '-' ? -(int64_t)nano : (int64_t)nano;
    return 0;
}

/* --- moments ----------------------------------------------------------------------------------------------------
 */

static int64_t days_from_civil(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* Two (or four) digits at *at after `before`; moves past them. */
static bool part(const char **at, char before, int count, int *ret)
{
    int value = 0;

    if (before && *(*at)++ != before)
        return false;
    for (int i = 0; i < count; i++, (*at)++) {
        if (!isdigit((unsigned char)**at))
            return false;
        value = value * 10 + (**at - '0');
    }
    *ret = value;
    return true;
}

/* YYYY-MM-DD, then T HH [:MM [:SS [.FRACTION]]], then Z, +HH:MM, -HH:MM or nothing for local time. */
static bool calendar(const char *at, int zone_seconds, int64_t *ret_seconds, int64_t *ret_nanos)
{
    int year, month, day, hour = 0, minute = 0, second = 0, zone_hours = 0, zone_minutes = 0;
    int64_t nanos = 0;

    if (!part(&at, 0, 4, &year) || !part(&at, '-', 2, &month) || !part(&at, '-', 2, &day))
        return false;
    if (*at == 'T') {
        if (!part(&at, 'T', 2, &hour) || (*at == ':' && !part(&at, ':', 2, &minute)))
            return false;
        if (*at == ':' && !part(&at, ':', 2, &second))
            return false;
        if (*at == '.') {
            int64_t unit = 100000000;

            for (at++; isdigit((unsigned char)*at); at++, unit /= 10)
                nanos += (*at - '0') * unit;
        }
    }
    if (*at == 'Z' || *at == 'z') {
        zone_seconds = 0;
        at++;
    } else if (*at == '+' || *at == '-') {
        char sign = *at;

        if (!part(&at, sign, 2, &zone_hours) || !part(&at, ':', 2, &zone_minutes))
            return false;
        zone_seconds = (zone_hours * 3600 + zone_minutes * 60) * (sign == '-' ? -1 : 1);
    }
    if (*at || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60)
        return false;
    *ret_seconds = days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - zone_seconds;
    *ret_nanos = nanos;
    return true;
}

int value_moment(const char *text, int64_t now_ns, int zone_seconds, char ret[40], struct err *e)
{
    int64_t ns, seconds, nanos;
    struct err ignored;

    if (strcmp(text, "0") != 0 && value_duration(text, &ns, &ignored) == 0) {
        (void)snprintf(ret, 40, "%lld", (long long)((now_ns - ns) / 1000000000));
        return 0;
    }
    if (calendar(text, zone_seconds, &seconds, &nanos)) {
        (void)snprintf(ret, 40, "%lld.%09lld", (long long)seconds, (long long)nanos);
        return 0;
    }
    size_t whole = strspn(text, "0123456789"), fraction = text[whole] == '.' ? 1 : 0;
    fraction += fraction ? strspn(text + whole + 1, "0123456789") : 0;
    if (whole == 0 || text[whole + fraction] || whole + fraction >= 40)
        return err_set(e, ERR_INVALID, "failed to parse value as time or duration: \"%s\"", text);
    (void)snprintf(ret, 40, "%s", text);
    return 0;
}

/* --- words and fields -------------------------------------------------------------------------------------------
 */

struct words {
    struct arena *arena;
    const char **list;
    size_t count;
    struct buf word;
    bool open; /* a word has begun, be it empty */
};

static void end_word(struct words *w)
{
    if (!w->open)
        return;
    w->list = arena_append(w->arena, w->list, w->count, sizeof(*w->list));
    w->list[w->count++] = arena_strdup(w->arena, buf_str(&w->word));
    buf_clear(&w->word);
    w->open = false;
}

/* Inside quotes until the same quote; double quotes know escapes. Moves past the closing one. */
static bool quoted(struct words *w, const char **at)
{
    char quote = *(*at)++;

    w->open = true;
    for (; **at && **at != quote; (*at)++) {
        if (quote == '"' && **at == '\\' && (*at)[1])
            (*at)++;
        buf_append_char(&w->word, **at);
    }
    return *(*at)++ == quote;
}

int value_words(struct arena *a, const char *text, const char ***ret, size_t *ret_count, struct err *e)
{
    struct words w = {.arena = a};
    int rc = 0;

    for (const char *at = text; rc == 0 && *at;) {
        if (strchr(" \t\r\n", *at)) {
            end_word(&w);
            at++;
        } else if (*at == '"' || *at == '\'') {
            if (!quoted(&w, &at))
                rc = err_set(e, ERR_INVALID, "EOF found when expecting closing quote");
        } else if (*at == '#' && !w.open) {
            at += strcspn(at, "\n");
        } else {
            if (*at == '\\' && !*++at) {
                rc = err_set(e, ERR_INVALID, "EOF found after escape character");
                break;
            }
            w.open = true;
            buf_append_char(&w.word, *at++);
        }
    }
    end_word(&w);
    buf_fini(&w.word);
    *ret = w.list;
    *ret_count = w.count;
    return rc;
}

int value_fields(struct arena *a, const char *text, const char ***ret, size_t *ret_count, struct err *e)
{
    struct words w = {.arena = a};
    const char *at = text;
    int rc = 0;

    if (!*text)
        return err_set(e, ERR_INVALID, "EOF");
    for (;;) {
        w.open = true;
        if (*at == '"') {
            for (at++; *at && (*at != '"' || at[1] == '"'); at++) {
                at += *at == '"';
                buf_append_char(&w.word, *at);
            }
            if (!*at || (at[1] && at[1] != ','))
                rc = err_set(e, ERR_INVALID,
                             "parse error on line 1, column %zu: extraneous or missing \" in "
                             "quoted-field",
                             (size_t)(at - text) + 1);
            at += *at != '\0';
        } else {
            for (; *at && *at != ','; at++) {
                if (*at == '"' && rc == 0)
                    rc = err_set(e, ERR_INVALID, "parse error on line 1, column %zu: bare \" in non-quoted field",
                                 (size_t)(at - text) + 1);
                buf_append_char(&w.word, *at);
            }
        }
        end_word(&w);
        if (rc < 0 || *at++ != ',')
            break;
    }
    buf_fini(&w.word);
    *ret = w.list;
    *ret_count = w.count;
    return rc;
}

const char *value_cut(struct arena *a, const char *text, char separator, const char **ret_head)
{
    const char *found = strchr(text, separator);

    *ret_head = found ? arena_strndup(a, text, (size_t)(found - text)) : text;
    return found ? found + 1 : NULL;
}

/* --- names ------------------------------------------------------------------------------------------------------
 */

int value_ulimit(const char *text, struct value_ulimit *ret, struct err *e)
{
    static const char *const names[] = {"core",    "cpu",      "data",   "fsize",      "locks",
                                        "memlock", "msgqueue", "nice",   "nofile",     "nproc",
                                        "rss",     "rtprio",   "rttime", "sigpending", "stack"};
    const char *equals = strchr(text, '='), *colon;
    char soft[32] = "";
    size_t name = equals ? (size_t)(equals - text) : 0, i;
    struct value_ulimit u = {0};

    if (!equals)
        return err_set(e, ERR_INVALID, "invalid ulimit argument: %s", text);
    for (i = 0; i < ARRAY_SIZE(names); i++)
        if (strlen(names[i]) == name && strncmp(names[i], text, name) == 0)
            break;
    if (i == ARRAY_SIZE(names))
        return err_set(e, ERR_INVALID, "invalid ulimit type: %.*s", (int)MIN(name, (size_t)100), text);
    colon = strchr(equals + 1, ':');
    if (colon && strchr(colon + 1, ':'))
        return err_set(e, ERR_INVALID,
                       "too many limit value arguments - %s, can only have up to two, `soft[:hard]`", equals + 1);
    (void)snprintf(u.name, sizeof(u.name), "%s", names[i]);
    (void)snprintf(soft, sizeof(soft), "%.*s", colon ? (int)MIN(colon - equals - 1, 31) : 31, equals + 1);
    int rc = colon ? value_int(colon + 1, 10, 64, &u.hard, e) : 0;
    if (rc == 0)
        rc = value_int(soft, 10, 64, &u.soft, e);
    if (rc < 0)
        return rc;
    if (!colon)
        u.hard = u.soft;
    if (u.hard != -1 && u.soft == -1)
        return err_set(
            e, ERR_INVALID,
            "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: %lld",
            (long long)u.hard);
    if (u.hard != -1 && u.soft > u.hard)
        return err_set(e, ERR_INVALID, "ulimit soft limit must be less than or equal to hard limit: %lld > %lld",
                       (long long)u.soft, (long long)u.hard);
    *ret = u;
    return 0;
}

int value_label(const char *text, struct err *e)
{
    const char *key = text + strspn(text, BLANKS);
    size_t length = strcspn(key, "=");

    if (length == 0)
        return err_set(e, ERR_INVALID, "invalid label '%s': empty name", text);
    if (strcspn(key, BLANKS) < length)
        return err_set(e, ERR_INVALID, "label '%.*s' contains whitespaces", (int)MIN(length, (size_t)500), key);
    return 0;
}

int value_address(const char *text, char ret[64], struct err *e)
{
    unsigned char bytes[16];
    char trimmed[64];
    const char *start = text + strspn(text, BLANKS);
    size_t length = strlen(start);

    while (length && strchr(BLANKS, start[length - 1]))
        length--;
    if (length > 0 && length < sizeof(trimmed)) {
        memcpy(trimmed, start, length);
        trimmed[length] = '\0';
        int family = strchr(trimmed, ':') ? AF_INET6 : AF_INET;
        if (inet_pton(family, trimmed, bytes) == 1 && inet_ntop(family, bytes, ret, 64))
            return 0;
    }
    return err_set(e, ERR_INVALID, "IP address is not correctly formatted: %s", text);
}

int value_host(struct arena *a, const char *text, char **ret, struct err *e)
{
    size_t name = strcspn(text, "=");
    char canonical[64];
    struct err ignored;

    if (!text[name])
        name = strcspn(text, ":");
    if (!text[name] || name == 0 || memchr(text, ':', name))
        return err_set(e, ERR_INVALID, "bad format for add-host: \"%s\"", text);
    const char *address = text + name + 1;
    size_t length = strlen(address);
    if (length > 2 && address[0] == '[' && address[length - 1] == ']')
        address = arena_strndup(a, address + 1, length - 2);
    if (strcmp(address, "host-gateway") != 0 && value_address(address, canonical, &ignored) < 0)
        return err_set(e, ERR_INVALID, "invalid IP address in add-host: \"%s\"", address);
    *ret = arena_printf(a, "%.*s:%s", (int)name, text, address);
    return 0;
}

int value_domain(struct arena *a, const char *text, char **ret, struct err *e)
{
    const char *start = text + strspn(text, " ");
    size_t length = strlen(start);
    bool letter = false, good = true;

    while (length && start[length - 1] == ' ')
        length--;
    if (length == 1 && *start == '.') {
        *ret = arena_strdup(a, ".");
        return 0;
    }
    if (length && start[length - 1] == '.')
        length--;
    for (size_t i = 0; i < length; i++) {
        bool edge = i == 0 || i + 1 == length || start[i - 1] == '.' || start[i + 1] == '.';

        letter = letter || isalpha((unsigned char)start[i]);
        good = good && (isalnum((unsigned char)start[i]) || (!edge && (start[i] == '-' || start[i] == '.')) ||
                        (start[i] == '.' && i > 0 && i + 1 < length && start[i - 1] != '.' && start[i + 1] != '.'));
    }
    if (!letter || !good || length >= 255)
        return err_set(e, ERR_INVALID, "%s is not a valid domain", text);
    *ret = arena_strndup(a, start, length);
    return 0;
}

int value_generic(const char *text, struct err *e)
{
    const char *equals = strchr(text, '=');
    uint64_t number;
    struct err ignored;

    if (!equals || equals == text)
        return err_set(e, ERR_INVALID, "invalid generic-resource format `%s` expected `name=value`", text);
    if (value_uint(equals + 1, 10, 63, &number, &ignored) < 0)
        return err_set(
            e, ERR_INVALID,
            "invalid generic-resource request `%s`, Named Generic Resources is not supported for service "
            "create or update",
            text);
    return 0;
}

/* --- environment ------------------------------------------------------------------------------------------------
 */

static const char *look_up(char *const *environment, const char *name, size_t length)
{
    for (size_t i = 0; environment && environment[i]; i++)
        if (strncmp(environment[i], name, length) == 0 && environment[i][length] == '=')
            return environment[i] + length + 1;
    return NULL;
}

int value_env(struct arena *a, const char *text, char *const *environment, char **ret, struct err *e)
{
    size_t name = strcspn(text, "=");

    if (name == 0)
        return err_set(e, ERR_INVALID, "invalid environment variable: %s", text);
    const char *found = text[name] ? NULL : look_up(environment, text, name);
    *ret = found ? arena_printf(a, "%s=%s", text, found) : arena_strdup(a, text);
    return 0;
}

/* UTF-8 without zero bytes. */
static bool is_text(const char *text, size_t length)
{
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)text[i];
        size_t size = c == 0 ? 0 : c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 0;

        if (size == 0 || size > length - i || c > 0xf4)
            return false;
        for (size_t k = 1; k < size; k++)
            if (((unsigned char)text[i + k] & 0xc0) != 0x80)
                return false;
        i += size;
    }
    return true;
}

int value_env_lines(struct arena *a, const char *name, const char *text, size_t length, char *const *environment,
                    const char ***ret, size_t *ret_count, struct err *e)
{
    const char **list = NULL;
    size_t count = 0, at = 0;

    for (int number = 1; at < length; number++) {
        const char *newline = memchr(text + at, '\n', length - at);
        size_t end = newline ? (size_t)(newline - text) : length, next = end + 1;

        if (!is_text(text + at, end - at))
            return err_set(e, ERR_INVALID, "invalid env file (%s): invalid utf8 bytes at line %d", name, number);
        if (number == 1 && end - at >= 3 && memcmp(text + at, "\xef\xbb\xbf", 3) == 0)
            at += 3;
        if (end > at && text[end - 1] == '\r')
            end--;
        while (at < end && isspace((unsigned char)text[at]))
            at++;
        const char *line = arena_strndup(a, text + at, end - at), *found = NULL;
        size_t key = strcspn(line, "=");
        at = next;
        if (!*line || *line == '#')
            continue;
        if (key == 0)
            return err_set(e, ERR_INVALID, "invalid env file (%s): no variable name on line '%s'", name, line);
        if (strcspn(line, BLANKS) < key)
            return err_set(e, ERR_INVALID, "invalid env file (%s): variable '%.*s' contains whitespaces", name,
                           (int)MIN(key, (size_t)500), line);
        if (!line[key]) {
            found = look_up(environment, line, key);
            if (!found)
                continue;
        }
        list = arena_append(a, list, count, sizeof(*list));
        list[count++] = found ? arena_printf(a, "%s=%s", line, found) : line;
    }
    *ret = list;
    *ret_count = count;
    return 0;
}

char *value_capability(struct arena *a, const char *text)
{
    const char *start = text + strspn(text, BLANKS);
    char *upper = arena_strdup(a, start);

    for (char *c = upper; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    for (size_t length = strlen(upper); length && strchr(BLANKS, upper[length - 1]); length--)
        upper[length - 1] = '\0';
    if (strcmp(upper, "ALL") == 0 || strcmp(upper, "RESET") == 0 || strncmp(upper, "CAP_", 4) == 0)
        return upper;
    return arena_printf(a, "CAP_%s", upper);
}
