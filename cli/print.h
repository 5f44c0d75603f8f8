/* How the client writes numbers, times and texts for people: in docker's words and widths, so that scripts which
 * cut columns keep working. Pure: the time is an argument, the time zone is given by the caller's `struct tm`. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"

#define PRINT_TEXT 64 /* bytes that every fixed-size text below needs */

/* Bytes with `digits` significant digits in decimal units: "12.3MB", "0B". */
void print_size(double bytes, int digits, char ret[PRINT_TEXT]);

/* Bytes with four digits in binary units: "1.5GiB". */
void print_size_binary(double bytes, char ret[PRINT_TEXT]);

/* How long ago: "Less than a second", "5 seconds", "About a minute", "3 hours", "2 weeks". */
void print_age(int64_t seconds, char ret[PRINT_TEXT]);

/* A length of time as flags take it: "5s", "1m30s", "200ms", "0s". */
void print_duration(int64_t ns, char ret[PRINT_TEXT]);

/* An RFC 3339 moment as %v shows it: "2026-11-24 06:14:00.5 +0000 UTC"; the zero time for "", other text as it is.
 */
void print_moment(struct buf *out, const char *rfc3339);

/* The shortest decimal that reads back as the same number, as %v shows it: "0.5", "1e+06". */
void print_real(double value, char ret[PRINT_TEXT]);

/* Text cut to `width` places with an ellipsis at the end when it is longer; wide characters take two. */
void print_ellipsis(struct buf *out, const char *text, size_t width);

/* Places that text takes on a terminal. */
size_t print_width(const char *text, size_t length);

/* Text in double quotes with escapes for what does not print: as %q shows it. */
void print_quoted(struct buf *out, const char *text);

/* First letter upper, the rest lower case: "running" gives "Running". */
void print_capital(struct buf *out, const char *text);

/* Compare names so that "web.2" comes before "web.10". Below, at or above 0 as strcmp. */
int print_natural(const char *a, const char *b);

/* Text broken at blanks so that each line ends before `columns`; lines after the first begin with `indent` blanks.
 * A newline in the text stays one. No newline at the end. */
void print_wrapped(struct buf *out, const char *text, size_t indent, size_t columns);
