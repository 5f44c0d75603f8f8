/* See template.h. The parser: text to a tree of nodes, in one pass by recursive descent.
 *
 * `items` reads text and actions until the end or until an {{else}} or {{end}} that belongs to its caller. Inside
 * an action a small scanner hands out one token at a time; `pipeline`, `command` and `operand` are the grammar's
 * levels. A trim marker beside an action removes blanks of the neighbouring text. Errors name the line. All nodes
 * live in the template's arena. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/template_tree.h"
#include "proto/base/mem.h"

enum token {
    TOKEN_END, /* }} */
    TOKEN_FIELD,
    TOKEN_DOT,
    TOKEN_VARIABLE,
    TOKEN_WORD,
    TOKEN_TEXT,
    TOKEN_NUMBER,
    TOKEN_OPEN,
    TOKEN_CLOSE,
    TOKEN_PIPE,
    TOKEN_COMMA,
    TOKEN_DECLARE,
    TOKEN_ASSIGN,
};

struct parser {
    struct template *t;
    const char *text;
    size_t at, length;
    int depth;
    int ranges; /* open {{range}} bodies */
    enum token token;
    size_t token_at, token_end;
    bool token_spaced; /* a blank stands before it */
    bool trim_next;    /* the action before ended in -}} */
    const char *variables[TEMPLATE_DEPTH_MAX];
    size_t variables_count;
    struct err *e;
};

enum ending { ENDING_EOF, ENDING_END, ENDING_ELSE };

static int items(struct parser *p, struct node **ret, enum ending *ret_ending);
static int pipeline(struct parser *p, enum token stop, struct pipeline **ret);

/* --- messages --------------------------------------------------------------------------------------------------
 */

static int fail(struct parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int fail(struct parser *p, const char *fmt, ...)
{
    va_list args;
    int line = 1;

    va_start(args, fmt);
    (void)err_vset(p->e, ERR_INVALID, fmt, args);
    va_end(args);
    for (size_t i = 0; i < MIN(p->at, p->length); i++)
        line += p->text[i] == '\n';
    return err_wrap(p->e, "template: :%d", line);
}

static int unexpected(struct parser *p, const char *where)
{
    if (p->token == TOKEN_END)
        return fail(p, "unexpected \"}}\" in %s", where);
    return fail(p, "unexpected \"%.*s\" in %s", (int)MIN(p->token_end - p->token_at, (size_t)40),
                p->text + p->token_at, where);
}

/* --- tokens ----------------------------------------------------------------------------------------------------
 */

static bool word_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

static size_t skip_word(const struct parser *p, size_t at)
{
    while (at < p->length && word_byte(p->text[at]))
        at++;
    return at;
}

/* Where the quoted text at token_at ends, or 0. */
static size_t quoted_end(const struct parser *p)
{
    char quote = p->text[p->token_at];
    size_t at = p->token_at + 1;

    for (; at < p->length && p->text[at] != quote; at++) {
        if (p->text[at] == '\n' && quote != '`')
            return 0;
        if (p->text[at] == '\\' && quote != '`')
            at++;
    }
    return at < p->length ? at + 1 : 0;
}

/* Where the number at `at` ends: letters belong to it (0x1f, 1e9), a sign only after an exponent's e. */
static size_t number_end(const struct parser *p)
{
    size_t at = p->at + 1;
    bool hex = p->text[p->at] == '0' && strchr("xX", p->text[at]);

    for (; at < p->length; at++) {
        char c = p->text[at];
        bool exponent_sign = (c == '+' || c == '-') && !hex && strchr("eE", p->text[at - 1]);

        if (!word_byte(c) && c != '.' && !exponent_sign)
            break;
    }
    return at;
}

static int symbol(struct parser *p)
{
    const char *s = p->text + p->at;

    p->token_end = p->at + 1;
    if (*s == '(')
        p->token = TOKEN_OPEN;
    else if (*s == ')')
        p->token = TOKEN_CLOSE;
    else if (*s == '|')
        p->token = TOKEN_PIPE;
    else if (*s == ',')
        p->token = TOKEN_COMMA;
    else if (*s == '=')
        p->token = TOKEN_ASSIGN;
    else if (*s == ':' && s[1] == '=') {
        p->token = TOKEN_DECLARE;
        p->token_end++;
    } else
        return fail(p, "unexpected \"%c\" in action", isprint((unsigned char)*s) ? *s : '?');
    p->at = p->token_end;
    return 0;
}

/* Read the next token of the action. */
static int next(struct parser *p)
{
    size_t start = p->at;

    while (p->at < p->length && strchr(" \t\r\n", p->text[p->at]))
        p->at++;
    p->token_spaced = p->at > start;
    p->token_at = p->at;
    if (p->at >= p->length)
        return fail(p, "unclosed action");
    const char *s = p->text + p->at;
    if (strncmp(s, "}}", 2) == 0 || (p->token_spaced && strncmp(s, "-}}", 3) == 0)) {
        p->trim_next = *s == '-';
        p->token = TOKEN_END;
        p->at = p->token_end = p->at + (*s == '-' ? 3 : 2);
        return 0;
    }
    if (*s == '"' || *s == '`' || *s == '\'') {
        p->token = *s == '\'' ? TOKEN_NUMBER : TOKEN_TEXT;
        p->token_end = quoted_end(p);
        if (!p->token_end)
            return fail(p, *s == '\'' ? "unterminated character constant" : "unterminated quoted string");
    } else if (isdigit((unsigned char)*s) ||
               ((*s == '+' || *s == '-' || *s == '.') && isdigit((unsigned char)s[1]))) {
        p->token = TOKEN_NUMBER;
        p->token_end = number_end(p);
    } else if (*s == '.' || *s == '$') {
        p->token_end = skip_word(p, p->at + 1);
        p->token = *s == '$' ? TOKEN_VARIABLE : p->token_end > p->at + 1 ? TOKEN_FIELD : TOKEN_DOT;
    } else if (word_byte(*s)) {
        p->token = TOKEN_WORD;
        p->token_end = skip_word(p, p->at);
    } else {
        return symbol(p);
    }
    p->at = p->token_end;
    return 0;
}

static char *token_text(struct parser *p, size_t skip)
{
    return arena_strndup(&p->t->arena, p->text + p->token_at + skip, p->token_end - p->token_at - skip);
}

static bool word_is(const struct parser *p, const char *word)
{
    size_t length = p->token_end - p->token_at;

    return p->token == TOKEN_WORD && length == strlen(word) && memcmp(p->text + p->token_at, word, length) == 0;
}

/* --- operands ---------------------------------------------------------------------------------------------------
 */

/* One escape of a Go string at *at (the backslash); appends what it stands for. */
static bool unescape(const char **at, const char *end, struct buf *out)
{
    static const char names[] = "abfnrtv\\'\"", stand_for[] = "\a\b\f\n\r\t\v\\'\"";
    const char *c = *at + 1, *known;

    if (c >= end)
        return false;
    if (*c && (known = strchr(names, *c))) {
        buf_append_char(out, stand_for[known - names]);
        *at = c + 1;
        return true;
    }
    size_t digits = *c == 'x' ? 2 : *c == 'u' ? 4 : 0;
    char number[5] = "";
    if (!digits || (size_t)(end - c - 1) < digits)
        return false;
    for (size_t i = 0; i < digits; i++) {
        if (!isxdigit((unsigned char)c[1 + i]))
            return false;
        number[i] = c[1 + i];
    }
    unsigned long code = strtoul(number, NULL, 16);
    if (!code)
        return false; /* texts end at a zero byte here */
    if (digits == 2 || code < 0x80) {
        buf_append_char(out, (char)code);
    } else {
        if (code >= 0x800)
            buf_printf(out, "%c%c", (int)(0xe0 | code >> 12), (int)(0x80 | (code >> 6 & 0x3f)));
        else
            buf_append_char(out, (char)(0xc0 | code >> 6));
        buf_append_char(out, (char)(0x80 | (code & 0x3f)));
    }
    *at = c + 1 + digits;
    return true;
}

static int quoted(struct parser *p, struct operand *o)
{
    const char *at = p->text + p->token_at + 1, *end = p->text + p->token_end - 1;
    AUTO_BUF struct buf text = {0};

    o->kind = OPERAND_TEXT;
    if (p->text[p->token_at] == '`') {
        o->name = arena_strndup(&p->t->arena, at, (size_t)(end - at));
        return 0;
    }
    while (at < end) {
        if (*at != '\\')
            buf_append_char(&text, *at++);
        else if (!unescape(&at, end, &text))
            return fail(p, "invalid syntax in quoted string");
    }
    o->name = arena_strdup(&p->t->arena, buf_str(&text));
    return 0;
}

static int number(struct parser *p, struct operand *o)
{
    const char *text = token_text(p, 0);
    char *end;

    if (*text == '\'') { /* a character constant is its number */
        if (strlen(text) != 3)
            return fail(p, "malformed character constant: %s", text);
        o->kind = OPERAND_INT;
        o->number = (unsigned char)text[1];
        return 0;
    }
    errno = 0;
    o->kind = OPERAND_INT;
    o->number = strtoll(text, &end, 0);
    if (!*end && !errno)
        return 0;
    o->kind = OPERAND_REAL;
    o->real = strtod(text, &end);
    return *end ? fail(p, "bad number syntax: \"%s\"", text) : 0;
}

static bool declared(const struct parser *p, const char *name)
{
    for (size_t i = 0; i < p->variables_count; i++)
        if (strcmp(p->variables[i], name) == 0)
            return true;
    return strcmp(name, "$") == 0;
}

static int word(struct parser *p, struct operand *o)
{
    o->name = token_text(p, 0);
    if (word_is(p, "true") || word_is(p, "false")) {
        o->kind = OPERAND_BOOL;
        o->number = word_is(p, "true");
    } else if (word_is(p, "nil")) {
        o->kind = OPERAND_NIL;
    } else {
        o->kind = OPERAND_FUNCTION;
        o->function = template_function(o->name);
        if (!o->function)
            return fail(p, "function \"%s\" not defined", o->name);
    }
    return 0;
}

static void add_field(struct parser *p, struct operand *o)
{
    o->fields = arena_append(&p->t->arena, o->fields, o->fields_count, sizeof(*o->fields));
    o->fields[o->fields_count++] = token_text(p, 1);
    o->length = p->token_end - o->source;
}

/* The token read is an operand's first; leaves the one after it read. */
static int operand(struct parser *p, struct operand **ret)
{
    struct operand *o = ARENA_NEW(&p->t->arena, struct operand);
    int rc = 0;

    o->at = o->source = p->token_at;
    o->length = p->token_end - p->token_at;
    switch (p->token) {
    case TOKEN_DOT:
        o->kind = OPERAND_DOT;
        break;
    case TOKEN_FIELD:
        o->kind = OPERAND_FIELD;
        add_field(p, o);
        break;
    case TOKEN_VARIABLE:
        o->kind = OPERAND_VARIABLE;
        o->name = token_text(p, 0);
        if (!declared(p, o->name))
            return fail(p, "undefined variable \"%s\"", o->name);
        break;
    case TOKEN_TEXT:
        rc = quoted(p, o);
        break;
    case TOKEN_NUMBER:
        rc = number(p, o);
        break;
    case TOKEN_WORD:
        rc = word(p, o);
        break;
    case TOKEN_OPEN:
        o->kind = OPERAND_GROUP;
        if (++p->depth > TEMPLATE_DEPTH_MAX)
            return fail(p, "more than %d levels", TEMPLATE_DEPTH_MAX);
        rc = next(p);
        if (rc == 0)
            rc = pipeline(p, TOKEN_CLOSE, &o->group);
        p->depth--;
        o->length = p->token_end - o->source;
        break;
    default:
        return unexpected(p, "operand");
    }
    if (rc == 0)
        rc = next(p);
    while (rc == 0 && p->token == TOKEN_FIELD && !p->token_spaced) {
        if (o->kind != OPERAND_FIELD && o->kind != OPERAND_VARIABLE && o->kind != OPERAND_GROUP)
            return unexpected(p, "operand");
        if (o->fields_count <= 1 && o->kind == OPERAND_FIELD)
            o->at = p->token_at; /* messages point at the second field, as Go's do */
        add_field(p, o);
        rc = next(p);
    }
    *ret = o;
    return rc;
}

static int command_node(struct parser *p, enum token stop, struct command_node **ret)
{
    struct command_node *c = ARENA_NEW(&p->t->arena, struct command_node);
    struct operand **last = &c->operands;

    while (p->token != stop && p->token != TOKEN_PIPE) {
        if (c->operands && !p->token_spaced)
            return unexpected(p, "operand");
        int rc = operand(p, last);
        if (rc < 0)
            return rc;
        last = &(*last)->next;
        c->operands_count++;
    }
    if (!c->operands)
        return fail(p, "missing value for %s", stop == TOKEN_CLOSE ? "parenthesized pipeline" : "command");
    *ret = c;
    return 0;
}

/* "$x :=", "$x =" or "$i, $x :=" at the start of a pipeline. The variable is read; looks one token further. */
static int declaration(struct parser *p, struct pipeline *pl)
{
    size_t back_at = p->at, back_token_at = p->token_at, back_end = p->token_end;
    const char *first = token_text(p, 0);
    int rc = next(p);

    if (rc < 0)
        return rc;
    if (p->token == TOKEN_COMMA) {
        pl->variables[0] = first;
        rc = next(p);
        if (rc < 0)
            return rc;
        if (p->token != TOKEN_VARIABLE)
            return unexpected(p, "range");
        first = token_text(p, 0);
        rc = next(p);
        if (rc < 0)
            return rc;
        if (p->token != TOKEN_DECLARE && p->token != TOKEN_ASSIGN)
            return unexpected(p, "range");
    } else if (p->token != TOKEN_DECLARE && p->token != TOKEN_ASSIGN) {
        p->at = back_at; /* only a value that begins with a variable */
        p->token = TOKEN_VARIABLE;
        p->token_at = back_token_at;
        p->token_end = back_end;
        p->token_spaced = true;
        return 0;
    }
    pl->variables[pl->variables[0] != NULL] = first;
    pl->assigns = p->token == TOKEN_ASSIGN;
    for (size_t i = 0; i < 2 && pl->variables[i]; i++) {
        if (pl->assigns && !declared(p, pl->variables[i]))
            return fail(p, "undefined variable \"%s\"", pl->variables[i]);
    }
    return next(p);
}

/* Declared names count from the pipeline that declares them on. */
static int remember(struct parser *p, const struct pipeline *pl)
{
    for (size_t i = 0; i < 2 && pl->variables[i] && !pl->assigns; i++) {
        if (p->variables_count == ARRAY_SIZE(p->variables))
            return fail(p, "more than %zu variables", ARRAY_SIZE(p->variables));
        p->variables[p->variables_count++] = pl->variables[i];
    }
    return 0;
}

static int pipeline(struct parser *p, enum token stop, struct pipeline **ret)
{
    struct pipeline *pl = ARENA_NEW(&p->t->arena, struct pipeline);
    struct command_node **last = &pl->commands;
    int rc = 0;

    pl->at = pl->source = p->token_at;
    if (p->token == TOKEN_VARIABLE)
        rc = declaration(p, pl);
    if (rc < 0)
        return rc;
    for (;;) {
        rc = command_node(p, stop, last);
        if (rc < 0)
            return rc;
        if (last != &pl->commands && (*last)->operands->kind != OPERAND_FUNCTION &&
            (*last)->operands->kind != OPERAND_FIELD && (*last)->operands->kind != OPERAND_VARIABLE)
            return fail(p, "non executable command in pipeline stage");
        last = &(*last)->next;
        if (p->token == stop)
            break;
        rc = next(p);
        if (rc < 0)
            return rc;
    }
    pl->length = p->token_at - pl->source;
    while (pl->length && strchr(" \t\r\n", p->text[pl->source + pl->length - 1]))
        pl->length--;
    *ret = pl;
    return remember(p, pl);
}

/* --- actions
 * ------------------------------------------------------------------------------------------------------ */

/* {{if}}, {{with}} and {{range}} with what belongs to them, up to their {{end}}. The keyword is read. */
static int branch(struct parser *p, struct node *n)
{
    size_t variables = p->variables_count;
    enum ending ending;
    int rc = next(p);

    if (rc < 0)
        return rc;
    if (p->token == TOKEN_END)
        return fail(p, "missing value for %s", n->kind == NODE_IF ? "if" : n->kind == NODE_WITH ? "with" : "range");
    rc = pipeline(p, TOKEN_END, &n->pipeline);
    if (rc < 0)
        return rc;
    if (n->kind != NODE_RANGE && n->pipeline->variables[1])
        return fail(p, "too many declarations in %s", n->kind == NODE_IF ? "if" : "with");
    if (++p->depth > TEMPLATE_DEPTH_MAX)
        return fail(p, "more than %d levels", TEMPLATE_DEPTH_MAX);
    p->ranges += n->kind == NODE_RANGE;
    rc = items(p, &n->body, &ending);
    p->ranges -= n->kind == NODE_RANGE;
    if (rc == 0 && ending == ENDING_ELSE) {
        if (p->token == TOKEN_END) {
            rc = items(p, &n->otherwise, &ending);
            if (rc == 0 && ending == ENDING_ELSE)
                rc = fail(p, "expected end; found {{else}}");
        } else { /* {{else if x}}: an if of its own that shares our {{end}} */
            n->otherwise = ARENA_NEW(&p->t->arena, struct node);
            n->otherwise->kind = word_is(p, "with") ? NODE_WITH : NODE_IF;
            rc = branch(p, n->otherwise);
            ending = ENDING_END;
        }
    }
    if (rc == 0 && ending == ENDING_EOF)
        rc = fail(p, "unexpected EOF");
    p->depth--;
    p->variables_count = variables;
    return rc;
}

/* {{end}} and {{else}} close a body; the keyword is read, and {{else}} may go on with "if". */
static int closing(struct parser *p, enum ending *ret_ending)
{
    bool is_else = word_is(p, "else");
    int rc = next(p);

    if (rc < 0)
        return rc;
    *ret_ending = is_else ? ENDING_ELSE : ENDING_END;
    if (p->token != TOKEN_END && !(is_else && (word_is(p, "if") || word_is(p, "with"))))
        return unexpected(p, is_else ? "else" : "end");
    return 0;
}

static int leave_range(struct parser *p, struct node *n)
{
    bool is_break = word_is(p, "break");
    int rc = next(p);

    n->kind = is_break ? NODE_BREAK : NODE_CONTINUE;
    if (rc < 0)
        return rc;
    if (p->token != TOKEN_END)
        return unexpected(p, is_break ? "{{break}}" : "{{continue}}");
    return p->ranges ? 0 : fail(p, "{{%s}} outside {{range}}", is_break ? "break" : "continue");
}

/* One action; the token after {{ is read. *ret_ending is set when it closes the caller's body. */
static int action(struct parser *p, struct node *n, bool *ret_closes, enum ending *ret_ending)
{
    *ret_closes = false;
    if (word_is(p, "end") || word_is(p, "else")) {
        *ret_closes = true;
        return closing(p, ret_ending);
    }
    if (word_is(p, "break") || word_is(p, "continue"))
        return leave_range(p, n);
    if (word_is(p, "define") || word_is(p, "template") || word_is(p, "block"))
        return fail(p, "{{%.*s}} is not supported here", (int)(p->token_end - p->token_at), p->text + p->token_at);
    n->kind = word_is(p, "if")      ? NODE_IF
              : word_is(p, "with")  ? NODE_WITH
              : word_is(p, "range") ? NODE_RANGE
                                    : NODE_ACTION;
    if (n->kind != NODE_ACTION)
        return branch(p, n);
    return pipeline(p, TOKEN_END, &n->pipeline);
}

/* {{/@* comment *@/}}: at stands after {{ (and its trim marker). 1 when it was one. */
static int comment(struct parser *p)
{
    if (strncmp(p->text + p->at, "/*", 2) != 0)
        return 0;
    const char *end = strstr(p->text + p->at + 2, "*/");
    if (!end)
        return fail(p, "unclosed comment");
    p->at = (size_t)(end - p->text) + 2;
    int rc = next(p);
    if (rc < 0)
        return rc;
    return p->token == TOKEN_END ? 1 : fail(p, "comment ends before closing delimiter");
}

static void add_text(struct parser *p, struct node ***last, size_t start, size_t end)
{
    if (start >= end)
        return;
    struct node *n = ARENA_NEW(&p->t->arena, struct node);
    n->kind = NODE_TEXT;
    n->text = p->text + start;
    n->length = end - start;
    **last = n;
    *last = &n->next;
}

static int items(struct parser *p, struct node **ret, enum ending *ret_ending)
{
    struct node **last = ret;

    for (;;) {
        const char *open = strstr(p->text + p->at, "{{");
        size_t start = p->at, end = open ? (size_t)(open - p->text) : p->length;

        if (p->trim_next)
            while (start < end && strchr(" \t\r\n", p->text[start]))
                start++;
        p->trim_next = false;
        if (!open) {
            add_text(p, &last, start, end);
            p->at = p->length;
            *ret_ending = ENDING_EOF;
            return 0;
        }
        p->at = end + 2;
        if (p->text[p->at] == '-' && p->text[p->at + 1] && strchr(" \t\r\n", p->text[p->at + 1])) {
            p->at++;
            while (end > start && strchr(" \t\r\n", p->text[end - 1]))
                end--;
            p->at += strspn(p->text + p->at, " \t\r\n");
        }
        add_text(p, &last, start, end);
        int rc = comment(p);
        if (rc == 1)
            continue;
        if (rc == 0)
            rc = next(p);
        if (rc < 0)
            return rc;
        if (p->token == TOKEN_END)
            return fail(p, "missing value for command");
        struct node *n = ARENA_NEW(&p->t->arena, struct node);
        bool closes;
        rc = action(p, n, &closes, ret_ending);
        if (rc < 0 || closes)
            return rc;
        *last = n;
        last = &n->next;
    }
}

int template_parse(const char *text, struct template **ret, struct err *e)
{
    struct template *t = mem_alloc(sizeof(*t));
    enum ending ending;

    arena_init(&t->arena);
    t->text = arena_strdup(&t->arena, text);
    struct parser p = {.t = t, .text = t->text, .length = strlen(text), .e = e};
    int rc = items(&p, &t->nodes, &ending);
    if (rc == 0 && ending != ENDING_EOF)
        rc = fail(&p, "unexpected {{%s}}", ending == ENDING_END ? "end" : "else");
    if (rc < 0) {
        template_free(t);
        return rc;
    }
    *ret = t;
    return 0;
}

void template_free(struct template *t)
{
    if (!t)
        return;
    arena_fini(&t->arena);
    free(t);
}

/* --- questions
 * ---------------------------------------------------------------------------------------------------- */

static bool pipeline_reads(const struct pipeline *pl, const char *name)
{
    if (!pl)
        return false;
    for (const struct command_node *c = pl->commands; c; c = c->next) {
        for (const struct operand *o = c->operands; o; o = o->next) {
            if (o->fields_count && strcmp(o->fields[0], name) == 0)
                return true;
            if (pipeline_reads(o->group, name))
                return true;
        }
    }
    return false;
}

static bool nodes_read(const struct node *n, const char *name)
{
    for (; n; n = n->next)
        if (pipeline_reads(n->pipeline, name) || nodes_read(n->body, name) || nodes_read(n->otherwise, name))
            return true;
    return false;
}

bool template_reads(const struct template *t, const char *name)
{
    return nodes_read(t->nodes, name);
}
