/* See option.h. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/option.h"
#include "cli/print.h"
#include "cli/value.h"
#include "proto/base/mem.h"

/* Walk all options of the tables: struct option_walk w = {tables}; while ((o = walk(&w))) ... */
struct option_walk {
    const struct option *const *table;
    size_t index;
};

static const struct option *walk(struct option_walk *w)
{
    while (*w->table) {
        const struct option *o = &(*w->table)[w->index];

        if (o->name) {
            w->index++;
            return o;
        }
        w->table++;
        w->index = 0;
    }
    return NULL;
}

static const struct option *find(const struct option *const *tables, const char *name, size_t length, char letter)
{
    struct option_walk w = {tables, 0};
    const struct option *o;

    while ((o = walk(&w)))
        if (letter ? o->letter == letter : strlen(o->name) == length && strncmp(o->name, name, length) == 0)
            return o;
    return NULL;
}

/* --- parsing ----------------------------------------------------------------------------------------------------
 */

static int give(struct args *a, const struct option *o, const char *text, struct err *e)
{
    int rc = o->type->check ? o->type->check(&a->arena, &text, e) : 0;

    if (rc < 0) {
        AUTO_BUF struct buf quoted = {0};
        AUTO_FREE
        char *why = mem_strdup(e ? e->text : "");

        print_quoted(&quoted, text);
        if (o->letter)
            return err_set(e, rc, "invalid argument %.300s for \"-%c, --%s\" flag: %s", buf_str(&quoted), o->letter,
                           o->name, why);
        return err_set(e, rc, "invalid argument %.300s for \"--%s\" flag: %s", buf_str(&quoted), o->name, why);
    }
    if (o->deprecated)
        fprintf(stderr, "Flag --%s has been deprecated, %s\n", o->name, o->deprecated);
    a->given = arena_append(&a->arena, a->given, a->given_count, sizeof(*a->given));
    a->given[a->given_count++] = (struct option_given){.option = o, .text = text};
    return 0;
}

struct names {
    struct option_walk walk;
};

static const char *next_option_name(void *context)
{
    struct names *names = context;
    const struct option *o;

    do
        o = walk(&names->walk);
    while (o && o->hidden);
    return o ? o->name : NULL;
}

static int unknown(struct args *a, const char *name, size_t length, struct err *e)
{
    struct names names = {.walk = {a->tables, 0}};
    const char *text = arena_strndup(&a->arena, name, length);
    const char *near = nearest_name(text, next_option_name, &names);

    return err_set(e, ERR_INVALID, near ? "unknown flag: --%s (did you mean --%s?)" : "unknown flag: --%s", text,
                   near);
}

/* --name, --name=value; `rest` are the words after it. Returns how many of them it took, or a code. */
static int long_option(struct args *a, const char *word, char *const *rest, struct err *e)
{
    const char *name = word + 2;
    size_t length = strcspn(name, "=");
    int rc;

    if (length == 0 || *name == '-')
        return err_set(e, ERR_INVALID, "bad flag syntax: %s", word);
    const struct option *o = find(a->tables, name, length, 0);
    if (!o && length == 4 && strncmp(name, "help", 4) == 0) {
        a->help = true;
        return 0;
    }
    if (!o)
        return unknown(a, name, length, e);
    if (name[length])
        return give(a, o, name + length + 1, e);
    if (o->type == &option_switch)
        return give(a, o, "true", e);
    if (!*rest)
        return err_set(e, ERR_INVALID, "flag needs an argument: --%s", o->name);
    rc = give(a, o, *rest, e);
    return rc < 0 ? rc : 1;
}

/* -abc, -n5, -n=5, -n 5. */
static int short_options(struct args *a, const char *word, char *const *rest, struct err *e)
{
    for (const char *c = word + 1; *c; c++) {
        const struct option *o = find(a->tables, NULL, 0, *c);
        int rc;

        if (!o && *c == 'h') {
            a->help = true;
            continue;
        }
        if (!o)
            return err_set(e, ERR_INVALID, "unknown shorthand flag: '%c' in -%s", *c, c);
        if (c[1] == '=')
            return give(a, o, c + 2, e);
        if (o->type != &option_switch) {
            if (c[1])
                return give(a, o, c + 1, e);
            if (!*rest)
                return err_set(e, ERR_INVALID, "flag needs an argument: '%c' in -%s", *c, c);
            rc = give(a, o, *rest, e);
            return rc < 0 ? rc : 1;
        }
        rc = give(a, o, "true", e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void add_word(struct args *a, const char *word)
{
    a->words = arena_append(&a->arena, a->words, a->words_count, sizeof(*a->words));
    a->words[a->words_count++] = word;
}

int args_parse(struct args *a, const struct option *const *tables, char *const *argv, bool stop_at_word,
               struct err *e)
{
    bool only_words = false;

    *a = (struct args){.tables = tables};
    arena_init(&a->arena);
    for (; *argv; argv++) {
        int rc = 0;

        if (only_words || **argv != '-' || !(*argv)[1]) {
            add_word(a, *argv);
            only_words = only_words || stop_at_word;
        } else if (strcmp(*argv, "--") == 0) {
            only_words = true;
        } else {
            rc = (*argv)[1] == '-' ? long_option(a, *argv, argv + 1, e) : short_options(a, *argv, argv + 1, e);
        }
        if (rc < 0)
            return rc;
        argv += rc;
    }
    return 0;
}

void args_fini(struct args *a)
{
    arena_fini(&a->arena);
    *a = (struct args){0};
}

/* --- asking -----------------------------------------------------------------------------------------------------
 */

static const struct option *must_find(const struct args *a, const char *name)
{
    const struct option *o = find(a->tables, name, strlen(name), 0);

    assert(o);
    return o;
}

const char *args_next(const struct args *a, const char *name, size_t *at)
{
    const struct option *o = must_find(a, name);

    while (*at < a->given_count) {
        const struct option_given *given = &a->given[(*at)++];

        if (given->option == o)
            return given->text;
    }
    return NULL;
}

size_t args_count(const struct args *a, const char *name)
{
    size_t count = 0, at = 0;

    while (args_next(a, name, &at))
        count++;
    return count;
}

bool args_has(const struct args *a, const char *name)
{
    return args_count(a, name) > 0;
}

const char *args_text(const struct args *a, const char *name)
{
    const char *text, *last = NULL;

    for (size_t at = 0; (text = args_next(a, name, &at));)
        last = text;
    if (!last)
        last = must_find(a, name)->standard;
    return last ? last : "";
}

bool args_switch(const struct args *a, const char *name)
{
    bool value = false;

    (void)value_bool(args_text(a, name), &value, NULL); /* checked when parsed; "" is false */
    return value;
}

int64_t args_int(const struct args *a, const char *name)
{
    int64_t value = 0;

    (void)value_int(args_text(a, name), 0, 64, &value, NULL);
    return value;
}

uint64_t args_uint(const struct args *a, const char *name)
{
    uint64_t value = 0;

    (void)value_uint(args_text(a, name), 0, 64, &value, NULL);
    return value;
}

double args_real(const struct args *a, const char *name)
{
    double value = 0;

    (void)value_real(args_text(a, name), &value, NULL);
    return value;
}

int64_t args_duration(const struct args *a, const char *name)
{
    int64_t value = 0;

    (void)value_duration(args_text(a, name), &value, NULL);
    return value;
}

int64_t args_bytes(const struct args *a, const char *name)
{
    int64_t value = 0;

    if (strcmp(args_text(a, name), "-1") == 0)
        return -1;
    (void)value_bytes(args_text(a, name), &value, NULL);
    return value;
}

int64_t args_cpus(const struct args *a, const char *name)
{
    int64_t value = 0;

    (void)value_cpus(args_text(a, name), &value, NULL);
    return value;
}

/* --- help -------------------------------------------------------------------------------------------------------
 */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct option *const *)a)->name, (*(const struct option *const *)b)->name);
}

static size_t left_side(const struct option *o, char *ret, size_t size)
{
    char letter[8] = "    ";

    if (o->letter)
        (void)snprintf(letter, sizeof(letter), "-%c, ", o->letter);
    int length = snprintf(ret, size, "  %s--%s%s%s", letter, o->name, *o->type->name ? " " : "", o->type->name);
    return (size_t)length;
}

void options_help(const struct option *const *tables, size_t columns, struct buf *out)
{
    struct option_walk w = {tables, 0};
    const struct option *o, *list[256];
    size_t count = 0, widest = 0;
    char left[128];

    while ((o = walk(&w))) {
        if (o->hidden || o->deprecated)
            continue;
        assert(count < ARRAY_SIZE(list));
        list[count++] = o;
        widest = MAX(widest, left_side(o, left, sizeof(left)));
    }
    qsort(list, count, sizeof(*list), by_name);
    for (size_t i = 0; i < count; i++) {
        AUTO_BUF struct buf text = {0};
        const char *quote = list[i]->type == &option_string ? "\"" : "";

        buf_append_str(&text, list[i]->help);
        if (list[i]->standard)
            buf_printf(&text, " (default %s%s%s)", quote, list[i]->standard, quote);
        left_side(list[i], left, sizeof(left));
        buf_printf(out, "%-*s   ", (int)widest, left);
        print_wrapped(out, buf_str(&text), widest + 3, columns);
        buf_append_char(out, '\n');
    }
}

/* Edit distance, cut off above `limit`. Names are short. */
static size_t distance(const char *a, const char *b, size_t limit)
{
    size_t row[64], m = strlen(a), n = strlen(b);

    if (n >= ARRAY_SIZE(row) || (m > n ? m - n : n - m) > limit)
        return limit + 1;
    for (size_t k = 0; k <= n; k++)
        row[k] = k;
    for (size_t i = 1; i <= m; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t k = 1; k <= n; k++) {
            size_t replaced = diagonal + (a[i - 1] != b[k - 1]);

            diagonal = row[k];
            row[k] = MIN(MIN(row[k], row[k - 1]) + 1, replaced);
        }
    }
    return row[n];
}

const char *nearest_name(const char *text, const char *(*next)(void *context), void *context)
{
    const char *name, *best = NULL;
    size_t length = strlen(text), best_distance = length < 3 ? 1 : length < 8 ? 2 : 3;

    while ((name = next(context))) {
        size_t d = distance(text, name, best_distance);

        if (d < best_distance + (best == NULL) && d < length) {
            best = name;
            best_distance = d;
        }
    }
    return best;
}
