/* Writing JSON into a buffer, without building a tree: API answers are streamed out as they are made.
 *
 *     struct jwrite j = JWRITE_TO(&b);
 *     jwrite_object(&j, NULL);               {
 *     jwrite_string(&j, "ID", id);             "ID":"4f5c..."
 *     jwrite_array(&j, "Tags");                ,"Tags":[
 *     jwrite_string(&j, NULL, "web:1");          "web:1"
 *     jwrite_end(&j);                          ]
 *     jwrite_end(&j);                        }
 *
 * Commas, quoting and nesting are its business. A key is given inside objects and NULL inside arrays. Bytes that
 * are not UTF-8 become U+FFFD, so an answer is always valid JSON. For reading see jread.h. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"

#define JWRITE_DEPTH_MAX 72 /* more than jread takes, so that what was read can be written */

struct jwrite {
    struct buf *out;                /* borrowed */
    char closers[JWRITE_DEPTH_MAX]; /* ']' or '}' of each open level */
    int depth;                      /* open levels */
    bool need_comma;                /* something stands before on this level */
    bool keep_markup;               /* leave < > & as they are: for terminals, not for pages */
};

#define JWRITE_TO(buffer) \
    (struct jwrite)       \
    {                     \
        .out = (buffer)   \
    }

void jwrite_object(struct jwrite *j, const char *key);
void jwrite_array(struct jwrite *j, const char *key);
void jwrite_end(struct jwrite *j); /* closes the innermost object or array */

void jwrite_string(struct jwrite *j, const char *key, const char *value); /* NULL writes "" */
void jwrite_string_n(struct jwrite *j, const char *key, const char *value, size_t length);

/* Whether a string says these bytes as they are: what is no UTF-8 becomes U+FFFD. */
bool jwrite_is_faithful(const char *value, size_t length);
void jwrite_printf(struct jwrite *j, const char *key, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void jwrite_int(struct jwrite *j, const char *key, int64_t value);
void jwrite_uint(struct jwrite *j, const char *key, uint64_t value);
void jwrite_double(struct jwrite *j, const char *key, double value);
void jwrite_bool(struct jwrite *j, const char *key, bool value);
void jwrite_null(struct jwrite *j, const char *key);
void jwrite_raw(struct jwrite *j, const char *key, const char *text); /* JSON that is valid already */

/* RFC 3339 in UTC with nanoseconds, as Docker writes it; 0 gives "0001-01-01T00:00:00Z". */
void jwrite_time_ns(struct jwrite *j, const char *key, int64_t wall_ns);
