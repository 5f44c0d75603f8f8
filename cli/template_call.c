/* See template.h. The functions a template may call: Go's built-in ones and docker's. and, or have no entry of
 * their own here beyond their name, because the runner evaluates their arguments one by one. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cli/print.h"
#include "cli/template_tree.h"
#include "cli/tree.h"
#include "proto/base/mem.h"

#define WIDTH_MAX 10000 /* blanks that pad and printf add */

static struct value text_value(struct run *run, struct buf *text)
{
    run->spent += text->length;
    return (struct value){.kind = VALUE_TEXT, .text = arena_strdup(&run->arena, buf_str(text))};
}

static int want_text(const struct value *v, const char *what, struct err *e)
{
    return v->kind == VALUE_TEXT ? 0 : err_set(e, ERR_INVALID, "%s is not a text", what);
}

static int want_int(const struct value *v, const char *what, struct err *e)
{
    return v->kind == VALUE_INT ? 0 : err_set(e, ERR_INVALID, "%s is not a number", what);
}

static size_t tree_count(const json_t *tree)
{
    return json_is_array(tree) ? json_array_size(tree) : json_object_size(tree);
}

/* --- logic ------------------------------------------------------------------------------------------------------
 */

static int call_not(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    *ret = (struct value){.kind = VALUE_BOOL, .boolean = !value_truth(&a[0])};
    return 0;
}

static bool is_number(const struct value *v)
{
    return v->kind == VALUE_INT || v->kind == VALUE_REAL;
}

static double real_of(const struct value *v)
{
    return v->kind == VALUE_INT ? (double)v->number : v->real;
}

/* -1, 0, 1 as a is below, at or above b. */
static int compare(const struct value *a, const struct value *b, bool order, int *ret, struct err *e)
{
    bool a_nil = a->kind == VALUE_NIL || a->kind == VALUE_NONE,
         b_nil = b->kind == VALUE_NIL || b->kind == VALUE_NONE;

    if (!order && (a_nil || b_nil)) {
        *ret = a_nil && b_nil ? 0 : 1;
    } else if (a->kind == VALUE_INT && b->kind == VALUE_INT) {
        *ret = a->number < b->number ? -1 : a->number > b->number;
    } else if (is_number(a) && is_number(b)) {
        *ret = real_of(a) < real_of(b) ? -1 : real_of(a) > real_of(b);
    } else if (a->kind == VALUE_TEXT && b->kind == VALUE_TEXT) {
        *ret = strcmp(a->text, b->text);
    } else if (!order && a->kind == VALUE_BOOL && b->kind == VALUE_BOOL) {
        *ret = a->boolean != b->boolean;
    } else {
        return err_set(e, ERR_INVALID, "incompatible types for comparison");
    }
    return 0;
}

/* True when the first argument equals any other. */
static int call_eq(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    *ret = (struct value){.kind = VALUE_BOOL};
    for (size_t i = 1; i < count && !ret->boolean; i++) {
        int order, rc = compare(&a[0], &a[i], false, &order, e);

        if (rc < 0)
            return rc;
        ret->boolean = order == 0;
    }
    return 0;
}

static int call_ne(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    int order, rc = compare(&a[0], &a[1], false, &order, e);

    *ret = (struct value){.kind = VALUE_BOOL, .boolean = rc == 0 && order != 0};
    return rc;
}

#define ORDER(name, condition)                                                                              \
    static int name(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e) \
    {                                                                                                       \
        int order = 0, rc = compare(&a[0], &a[1], true, &order, e);                                         \
                                                                                                            \
        *ret = (struct value){.kind = VALUE_BOOL, .boolean = condition};                                    \
        return rc;                                                                                          \
    }
ORDER(call_lt, order < 0)
ORDER(call_le, order <= 0)
ORDER(call_gt, order > 0)
ORDER(call_ge, order >= 0)

/* --- parts ------------------------------------------------------------------------------------------------------
 */

static int call_len(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    if (a[0].kind == VALUE_TEXT)
        *ret = (struct value){.kind = VALUE_INT, .number = (int64_t)strlen(a[0].text)};
    else if (a[0].kind == VALUE_TREE)
        *ret = (struct value){.kind = VALUE_INT, .number = (int64_t)tree_count(a[0].tree)};
    else
        return err_set(e, ERR_INVALID, "len of what has no length");
    return 0;
}

/* What an object of the API gives for a name it lacks: maps of texts (labels, options) give the empty text. */
static struct value absent(const json_t *object)
{
    void *iterator = json_object_iter((json_t *)object);

    if (!iterator || json_is_string(json_object_iter_value(iterator)))
        return (struct value){.kind = VALUE_TEXT, .text = ""};
    return (struct value){.kind = VALUE_NONE};
}

static int index_once(struct value *v, const struct value *key, struct err *e)
{
    if (v->kind == VALUE_TREE && json_is_object(v->tree)) {
        int rc = want_text(key, "the key of a map", e);

        if (rc < 0)
            return rc;
        json_t *member = json_object_get(v->tree, key->text);
        *v = member ? value_of(member) : absent(v->tree);
        return 0;
    }
    int rc = want_int(key, "the index", e);
    if (rc < 0)
        return rc;
    size_t size = v->kind == VALUE_TEXT ? strlen(v->text) : v->kind == VALUE_TREE ? json_array_size(v->tree) : 0;
    if (v->kind != VALUE_TEXT && v->kind != VALUE_TREE)
        return err_set(e, ERR_INVALID, "index of what has no elements");
    if (key->number < 0 || (uint64_t)key->number >= size)
        return err_set(e, ERR_INVALID, "index out of range: %lld", (long long)key->number);
    if (v->kind == VALUE_TEXT)
        *v = (struct value){.kind = VALUE_INT, .number = (unsigned char)v->text[key->number]};
    else
        *v = value_of(json_array_get(v->tree, (size_t)key->number));
    return 0;
}

static int call_index(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    struct value v = a[0];

    for (size_t i = 1; i < count; i++) {
        int rc = index_once(&v, &a[i], e);

        if (rc < 0)
            return rc;
    }
    *ret = v;
    return 0;
}

static int call_slice(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    bool is_text = a[0].kind == VALUE_TEXT;
    size_t size = is_text ? strlen(a[0].text) : a[0].kind == VALUE_TREE ? json_array_size(a[0].tree) : 0;
    int64_t bounds[2] = {0, (int64_t)size};

    if (!is_text && (a[0].kind != VALUE_TREE || !json_is_array(a[0].tree)))
        return err_set(e, ERR_INVALID, "slice of what has no elements");
    for (size_t i = 1; i < count; i++) {
        int rc = want_int(&a[i], "the index", e);

        if (rc < 0)
            return rc;
        bounds[i - 1] = a[i].number;
    }
    if (bounds[0] < 0 || bounds[1] > (int64_t)size || bounds[0] > bounds[1])
        return err_set(e, ERR_INVALID, "index out of range: %lld:%lld", (long long)bounds[0], (long long)bounds[1]);
    if (is_text) {
        *ret = (struct value){
            .kind = VALUE_TEXT,
            .text = arena_strndup(&run->arena, a[0].text + bounds[0], (size_t)(bounds[1] - bounds[0]))};
        return 0;
    }
    json_t *part = json_array();
    for (int64_t i = bounds[0]; i < bounds[1]; i++)
        tree_append(part, json_incref(json_array_get(a[0].tree, (size_t)i)));
    tree_append(run->made, part);
    *ret = value_of(part);
    return 0;
}

/* --- texts ------------------------------------------------------------------------------------------------------
 */

static int call_json(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    struct jwrite j = JWRITE_TO(&text);

    j.keep_markup = a[0].kind != VALUE_ROW; /* as docker has it */
    value_json(run, &j, &a[0]);
    *ret = text_value(run, &text);
    return 0;
}

static int call_join(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    json_t *element;
    size_t i;
    int rc = want_text(&a[1], "the separator", e);

    if (rc < 0)
        return rc;
    if (a[0].kind != VALUE_NIL && (a[0].kind != VALUE_TREE || !json_is_array(a[0].tree)))
        return err_set(e, ERR_INVALID, "join of what is no list");
    for (i = 0; a[0].kind == VALUE_TREE && i < json_array_size(a[0].tree); i++) {
        element = json_array_get(a[0].tree, i);
        if (!json_is_string(element))
            return err_set(e, ERR_INVALID, "join of what are no texts");
        buf_printf(&text, "%s%s", i ? a[1].text : "", json_string_value(element));
    }
    *ret = text_value(run, &text);
    return 0;
}

static int call_split(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    int rc = want_text(&a[0], "what is split", e);

    if (rc == 0)
        rc = want_text(&a[1], "the separator", e);
    if (rc < 0)
        return rc;
    json_t *parts = json_array();
    const char *text = a[0].text, *separator = a[1].text, *found;
    size_t length = strlen(separator);
    while (length ? (found = strstr(text, separator)) != NULL : *text) {
        size_t size = length ? (size_t)(found - text) : 1;

        while (!length && ((unsigned char)text[size] & 0xc0) == 0x80)
            size++; /* no separator: into characters */
        tree_append(parts, json_stringn_nocheck(text, size));
        text += size + length;
    }
    if (length)
        tree_append(parts, json_stringn_nocheck(text, strlen(text)));
    tree_append(run->made, parts);
    *ret = value_of(parts);
    return 0;
}

static int each_byte(struct run *run, const struct value *a, int (*change)(int), bool words_only, struct value *ret,
                     struct err *e)
{
    int rc = want_text(&a[0], "the argument", e);

    if (rc < 0)
        return rc;
    char *text = arena_strdup(&run->arena, a[0].text);
    bool inside = false;
    for (char *c = text; *c; c++) {
        if (!words_only || !inside)
            *c = (char)change((unsigned char)*c);
        inside = isalnum((unsigned char)*c) || *c == '_' || *c == '\'' || (unsigned char)*c >= 0x80;
    }
    *ret = (struct value){.kind = VALUE_TEXT, .text = text};
    return 0;
}

static int call_title(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    return each_byte(run, a, toupper, true, ret, e);
}

static int call_lower(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    return each_byte(run, a, tolower, false, ret, e);
}

static int call_upper(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    return each_byte(run, a, toupper, false, ret, e);
}

static int call_pad(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    int rc = want_text(&a[0], "what is padded", e);

    for (size_t i = 1; rc == 0 && i < 3; i++) {
        rc = want_int(&a[i], "the number of blanks", e);
        if (rc == 0 && (a[i].number < 0 || a[i].number > WIDTH_MAX))
            rc = err_set(e, ERR_LIMIT, "%lld blanks: 0 to %d", (long long)a[i].number, WIDTH_MAX);
    }
    if (rc < 0)
        return rc;
    if (*a[0].text)
        buf_printf(&text, "%*s%s%*s", (int)a[1].number, "", a[0].text, (int)a[2].number, "");
    *ret = text_value(run, &text);
    return 0;
}

static int call_truncate(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    int rc = want_text(&a[0], "what is cut", e);

    if (rc == 0)
        rc = want_int(&a[1], "the length", e);
    if (rc < 0)
        return rc;
    size_t length = strlen(a[0].text);
    size_t keep = a[1].number < 0 ? 0 : MIN((uint64_t)a[1].number, length);
    *ret = (struct value){.kind = VALUE_TEXT, .text = arena_strndup(&run->arena, a[0].text, keep)};
    return 0;
}

static int call_html(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    AUTO_BUF struct buf shown = {0};
    AUTO_BUF struct buf text = {0};

    value_show(run, &shown, &a[0]);
    for (const char *c = buf_str(&shown); *c; c++) {
        const char *entity = *c == '<'    ? "&lt;"
                             : *c == '>'  ? "&gt;"
                             : *c == '&'  ? "&amp;"
                             : *c == '"'  ? "&#34;"
                             : *c == '\'' ? "&#39;"
                                          : NULL;
        if (entity)
            buf_append_str(&text, entity);
        else
            buf_append_char(&text, *c);
    }
    *ret = text_value(run, &text);
    return 0;
}

static int call_urlquery(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    AUTO_BUF struct buf shown = {0};
    AUTO_BUF struct buf text = {0};

    value_show(run, &shown, &a[0]);
    for (const char *c = buf_str(&shown); *c; c++) {
        if (isalnum((unsigned char)*c) || strchr("-_.~", *c))
            buf_append_char(&text, *c);
        else if (*c == ' ')
            buf_append_char(&text, '+');
        else
            buf_printf(&text, "%%%02X", (unsigned char)*c);
    }
    *ret = text_value(run, &text);
    return 0;
}

/* --- print ------------------------------------------------------------------------------------------------------
 */

static int call_print(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    AUTO_BUF struct buf text = {0};

    for (size_t i = 0; i < count; i++) {
        if (i && a[i].kind != VALUE_TEXT && a[i - 1].kind != VALUE_TEXT)
            buf_append_char(&text, ' ');
        value_show(run, &text, &a[i]);
    }
    *ret = text_value(run, &text);
    return 0;
}

static int call_println(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    AUTO_BUF struct buf text = {0};

    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_append_char(&text, ' ');
        value_show(run, &text, &a[i]);
    }
    buf_append_char(&text, '\n');
    *ret = text_value(run, &text);
    return 0;
}

struct verb {
    char flags[8];
    int width, precision; /* -1: not given */
    char letter;
};

/* Read "%-10.3s" at *at, which stands on the %. */
static int read_verb(const char **at, struct verb *ret, struct err *e)
{
    struct verb v = {.width = -1, .precision = -1};
    const char *c = *at + 1;
    size_t flags = strspn(c, "-+# 0");

    memcpy(v.flags, c, MIN(flags, sizeof(v.flags) - 1));
    c += flags;
    for (int part = 0; part < 2; part++) {
        int number = 0;

        if (part == 1 && *c != '.')
            break;
        c += part;
        if (part == 0 && !isdigit((unsigned char)*c))
            continue;
        for (; isdigit((unsigned char)*c); c++) {
            number = number * 10 + (*c - '0');
            if (number > WIDTH_MAX)
                return err_set(e, ERR_LIMIT, "printf: wider than %d", WIDTH_MAX);
        }
        *(part ? &v.precision : &v.width) = number;
    }
    if (!*c)
        return err_set(e, ERR_INVALID, "printf: a verb is missing after %%");
    v.letter = *c;
    *ret = v;
    *at = c + 1;
    return 0;
}

static void put_number(struct buf *out, const struct verb *v, const struct value *a, bool real)
{
    char format[48], width[16] = "", precision[16] = "";

    if (v->width >= 0)
        (void)snprintf(width, sizeof(width), "%d", v->width);
    if (v->precision >= 0)
        (void)snprintf(precision, sizeof(precision), ".%d", v->precision);
    (void)snprintf(format, sizeof(format), "%%%s%s%s%s%c", v->flags, width, precision, real ? "" : "ll", v->letter);
    /* The format was checked letter by letter above, so that the compiler need not read it. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    if (real)
        buf_printf(out, format, real_of(a));
    else
        buf_printf(out, format, (long long)a->number);
#pragma GCC diagnostic pop
}

static void put_padded(struct buf *out, const struct verb *v, const char *text)
{
    size_t length = strlen(text);
    bool left = strchr(v->flags, '-') != NULL;
    int characters = 0;

    for (size_t i = 0; v->precision >= 0 && i < length; i++) {
        characters += ((unsigned char)text[i] & 0xc0) != 0x80; /* the first byte of one */
        if (characters > v->precision)
            length = i;
    }
    int blanks = MAX(v->width - (int)print_width(text, length), 0);
    buf_printf(out, "%*s", left ? 0 : blanks, "");
    buf_append(out, text, length);
    buf_printf(out, "%*s", left ? blanks : 0, "");
}

static const char *type_name(const struct value *a)
{
    static const char *const types[] = {"<nil>", "<nil>", "bool", "int", "float64", "string", "list", "row"};

    return types[a->kind];
}

static void put_verb(struct run *run, struct buf *out, const struct verb *v, const struct value *a)
{
    AUTO_BUF struct buf shown = {0};

    value_show(run, &shown, a);
    if (strchr("dxXo", v->letter) && a->kind == VALUE_INT) {
        put_number(out, v, a, false);
    } else if (strchr("feEgG", v->letter) && a->kind == VALUE_REAL) {
        put_number(out, v, a, true);
    } else if (v->letter == 'q' && a->kind == VALUE_TEXT) {
        AUTO_BUF struct buf quoted = {0};

        print_quoted(&quoted, a->text);
        put_padded(out, v, buf_str(&quoted));
    } else if ((v->letter == 'x' || v->letter == 'X') && a->kind == VALUE_TEXT) {
        AUTO_BUF struct buf digits = {0};

        for (const char *c = a->text; *c; c++)
            buf_printf(&digits, v->letter == 'x' ? "%02x" : "%02X", (unsigned char)*c);
        put_padded(out, v, buf_str(&digits));
    } else if (v->letter == 'v' || (v->letter == 's' && (a->kind == VALUE_TEXT || a->kind == VALUE_TREE)) ||
               (v->letter == 't' && a->kind == VALUE_BOOL)) {
        put_padded(out, v, buf_str(&shown));
    } else {
        buf_printf(out, "%%!%c(%s=%s)", v->letter, type_name(a), buf_str(&shown));
    }
}

/* Arguments that no verb took. */
static void put_extra(struct run *run, struct buf *out, const struct value *a, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        AUTO_BUF struct buf shown = {0};

        value_show(run, &shown, &a[i]);
        buf_printf(out, "%s%s=%s", i ? ", " : "%!(EXTRA ", type_name(&a[i]), buf_str(&shown));
    }
    if (count)
        buf_append_char(out, ')');
}

static int call_printf(struct run *run, const struct value *a, size_t count, struct value *ret, struct err *e)
{
    AUTO_BUF struct buf text = {0};
    size_t used = 1;
    int rc = want_text(&a[0], "the format", e);

    if (rc < 0)
        return rc;
    for (const char *c = a[0].text; *c;) {
        struct verb v;

        if (*c != '%') {
            buf_append_char(&text, *c++);
            continue;
        }
        rc = read_verb(&c, &v, e);
        if (rc < 0)
            return rc;
        if (v.letter == '%')
            buf_append_char(&text, '%');
        else if (used == count)
            buf_printf(&text, "%%!%c(MISSING)", v.letter);
        else
            put_verb(run, &text, &v, &a[used++]);
    }
    put_extra(run, &text, a + used, count - used);
    *ret = text_value(run, &text);
    return 0;
}

const struct function *template_function(const char *name)
{
    static const struct function functions[] = {
        {"and", 1, -1, false, NULL},
        {"or", 1, -1, false, NULL},
        {"not", 1, 1, false, call_not},
        {"eq", 2, -1, false, call_eq},
        {"ne", 2, 2, false, call_ne},
        {"lt", 2, 2, false, call_lt},
        {"le", 2, 2, false, call_le},
        {"gt", 2, 2, false, call_gt},
        {"ge", 2, 2, false, call_ge},
        {"len", 1, 1, false, call_len},
        {"index", 1, -1, false, call_index},
        {"slice", 1, 3, false, call_slice},
        {"print", 0, -1, false, call_print},
        {"println", 0, -1, false, call_println},
        {"printf", 1, -1, false, call_printf},
        {"html", 1, 1, false, call_html},
        {"urlquery", 1, 1, false, call_urlquery},
        {"json", 1, 1, true, call_json},
        {"join", 2, 2, true, call_join},
        {"split", 2, 2, true, call_split},
        {"title", 1, 1, true, call_title},
        {"lower", 1, 1, true, call_lower},
        {"upper", 1, 1, true, call_upper},
        {"pad", 3, 3, false, call_pad},
        {"truncate", 2, 2, true, call_truncate},
    };

    for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
        if (strcmp(functions[i].name, name) == 0)
            return &functions[i];
    return NULL;
}
