/* See timefmt.h. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "proto/base/timefmt.h"

void time_format_ns(int64_t wall_ns, char ret[TIME_TEXT])
{
    time_t seconds = (time_t)(wall_ns / 1000000000);
    long nanos = (long)(wall_ns % 1000000000);
    struct tm tm;

    if (nanos < 0) { /* before 1970 */
        nanos += 1000000000;
        seconds--;
    }
    if (wall_ns == 0 || !gmtime_r(&seconds, &tm)) {
        (void)snprintf(ret, TIME_TEXT, "0001-01-01T00:00:00Z");
        return;
    }
    size_t used = strftime(ret, TIME_TEXT, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(ret + used, TIME_TEXT - used, ".%09ldZ", nanos);
}

static const char *parse_digits(const char *text, int count, int *ret_number)
{
    int number = 0;

    for (int i = 0; i < count; i++) {
        if (!isdigit((unsigned char)text[i]))
            return NULL;
        number = number * 10 + (text[i] - '0');
    }
    *ret_number = number;
    return text + count;
}

static const char *parse_fraction(const char *text, int64_t *ret_nanos)
{
    int64_t nanos = 0, unit = 100000000;

    if (*text != '.')
        return text;
    text++;
    if (!isdigit((unsigned char)*text))
        return NULL;
    for (; isdigit((unsigned char)*text); text++, unit /= 10)
        nanos += (*text - '0') * unit;
    *ret_nanos = nanos;
    return text;
}

static const char *parse_offset(const char *text, int *ret_seconds)
{
    int hours, minutes, sign = *text == '-' ? -1 : 1;

    if (*text == 'Z' || *text == 'z')
        return text + 1;
    if (*text != '+' && *text != '-')
        return NULL;
    text = parse_digits(text + 1, 2, &hours);
    if (!text || *text++ != ':')
        return NULL;
    text = parse_digits(text, 2, &minutes);
    if (!text || hours > 23 || minutes > 59)
        return NULL;
    *ret_seconds = sign * (hours * 3600 + minutes * 60);
    return text;
}

static int days_of(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap);
}

bool time_parse_ns(const char *text, int64_t *ret_wall_ns)
{
    static const char separators[] = "--T::";
    int part[6], offset = 0;
    int64_t nanos = 0;

    for (int i = 0; i < 6; i++) {
        text = parse_digits(text, i == 0 ? 4 : 2, &part[i]);
        if (!text || (i < 5 && *text != separators[i] && !(i == 2 && (*text == 't' || *text == ' '))))
            return false;
        text += i < 5;
    }
    text = parse_fraction(text, &nanos);
    if (!text)
        return false;
    text = parse_offset(text, &offset);
    if (!text || *text)
        return false;
    if (part[0] == 1 && part[1] == 1 && part[2] == 1) {
        *ret_wall_ns = 0;
        return true;
    }
    if (part[0] < 1970 || part[0] > 2261 || part[1] < 1 || part[1] > 12 || part[2] < 1 ||
        part[2] > days_of(part[0], part[1]) || part[3] > 23 || part[4] > 59 || part[5] > 60)
        return false;
    struct tm tm = {.tm_year = part[0] - 1900,
                    .tm_mon = part[1] - 1,
                    .tm_mday = part[2],
                    .tm_hour = part[3],
                    .tm_min = part[4],
                    .tm_sec = part[5]};
    *ret_wall_ns = ((int64_t)timegm(&tm) - offset) * 1000000000 + nanos;
    return true;
}
