/* See template.h. The runner: walks the nodes and evaluates pipelines.
 *
 * Values are small and copied; texts made on the way live in the run's arena, trees made on the way (split, slice)
 * in an array that is given back at the end, and everything else is borrowed from the data. Variables sit on a
 * stack that is cut back when their body ends. Errors say where: template: :LINE:COLUMN: executing "" at <SOURCE>:
 * WHAT. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/print.h"
#include "cli/template_tree.h"
#include "cli/tree.h"
#include "proto/base/mem.h"

#define VARIABLES_MAX 128
#define OUTPUT_MAX    (256u * 1024 * 1024) /* bytes one run may append: nested ranges over a big answer multiply */
#define SPENT_MAX     (64u * 1024 * 1024)  /* bytes of texts one run may make on the way */
#define STEPS_MAX     10000000             /* actions one run may take */

struct variable {
    const char *name;
    struct value value;
};

enum leaving { LEAVING_NOT, LEAVING_BREAK, LEAVING_CONTINUE };

struct runner {
    struct run run;
    struct value root;
    struct variable variables[VARIABLES_MAX];
    size_t variables_count;
    enum leaving leaving;
    size_t output_start, steps;
    struct buf *out;
    struct err *e;
};

static int walk(struct runner *r, const struct node *n, struct value dot);
static int evaluate(struct runner *r, const struct pipeline *pl, struct value dot, struct value *ret);

/* --- messages --------------------------------------------------------------------------------------------------
 */

static int fail_at(struct runner *r, size_t at, size_t source, size_t length, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
static int fail_at(struct runner *r, size_t at, size_t source, size_t length, const char *fmt, ...)
{
    const char *text = r->run.t->text;
    size_t line = 1, line_start = 0;
    va_list args;

    va_start(args, fmt);
    (void)err_vset(r->e, ERR_INVALID, fmt, args);
    va_end(args);
    for (size_t i = 0; i < at; i++) {
        if (text[i] == '\n') {
            line++;
            line_start = i + 1;
        }
    }
    return err_wrap(r->e, "template: :%zu:%zu: executing \"\" at <%.*s%s>", line, at - line_start,
                    (int)MIN(length, (size_t)20), text + source, length > 20 ? "..." : "");
}

/* --- values ----------------------------------------------------------------------------------------------------
 */

struct value value_of(const json_t *tree)
{
    struct value v = {.kind = VALUE_NIL};

    if (!tree)
        return v;
    switch (json_typeof(tree)) {
    case JSON_OBJECT:
    case JSON_ARRAY:
        v.kind = VALUE_TREE;
        v.tree = tree;
        break;
    case JSON_STRING:
        v.kind = VALUE_TEXT;
        v.text = json_string_value(tree);
        break;
    case JSON_INTEGER:
        v.kind = VALUE_INT;
        v.number = json_integer_value(tree);
        break;
    case JSON_REAL:
        v.kind = VALUE_REAL;
        v.real = json_real_value(tree);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        v.kind = VALUE_BOOL;
        v.boolean = json_is_true(tree);
        break;
    case JSON_NULL:
        break;
    }
    return v;
}

bool value_truth(const struct value *v)
{
    switch (v->kind) {
    case VALUE_NONE:
    case VALUE_NIL:
        return false;
    case VALUE_BOOL:
        return v->boolean;
    case VALUE_INT:
        return v->number != 0;
    case VALUE_REAL:
        return v->real != 0;
    case VALUE_TEXT:
        return *v->text;
    case VALUE_TREE:
        return json_array_size(v->tree) + json_object_size(v->tree) > 0;
    case VALUE_ROW:
        return true;
    }
    return false;
}

struct show_context {
    struct run *run;
    struct buf *out;
    bool first;
};

static void show_member(void *context, const char *name, json_t *value)
{
    struct show_context *c = context;
    struct value v = value_of(value);

    buf_printf(c->out, "%s%s:", c->first ? "" : " ", name);
    c->first = false;
    value_show(c->run, c->out, &v);
}

static void show_tree(struct run *run, struct buf *out, const json_t *tree)
{
    struct show_context context = {.run = run, .out = out, .first = true};
    json_t *element;
    size_t i;

    if (json_is_object(tree)) {
        buf_append_str(out, "map[");
        tree_sorted(tree, show_member, &context);
    } else {
        buf_append_char(out, '[');
        json_array_foreach(tree, i, element)
        {
            struct value v = value_of(element);

            if (i)
                buf_append_char(out, ' ');
            value_show(run, out, &v);
        }
    }
    buf_append_char(out, ']');
}

void value_show(struct run *run, struct buf *out, const struct value *v)
{
    char text[PRINT_TEXT];

    switch (v->kind) {
    case VALUE_NONE:
        buf_append_str(out, "<no value>");
        break;
    case VALUE_NIL:
        buf_append_str(out, "<nil>");
        break;
    case VALUE_BOOL:
        buf_append_str(out, v->boolean ? "true" : "false");
        break;
    case VALUE_INT:
        buf_printf(out, "%lld", (long long)v->number);
        break;
    case VALUE_REAL:
        print_real(v->real, text);
        buf_append_str(out, text);
        break;
    case VALUE_TEXT:
        buf_append_str(out, v->text);
        break;
    case VALUE_TREE:
        show_tree(run, out, v->tree);
        break;
    case VALUE_ROW: {
        struct jwrite j = JWRITE_TO(out);

        value_json(run, &j, v);
        break;
    }
    }
}

void value_json(struct run *run, struct jwrite *j, const struct value *v)
{
    switch (v->kind) {
    case VALUE_NONE:
    case VALUE_NIL:
        jwrite_null(j, NULL);
        break;
    case VALUE_BOOL:
        jwrite_bool(j, NULL, v->boolean);
        break;
    case VALUE_INT:
        jwrite_int(j, NULL, v->number);
        break;
    case VALUE_REAL:
        jwrite_double(j, NULL, v->real);
        break;
    case VALUE_TEXT:
        jwrite_string(j, NULL, v->text);
        break;
    case VALUE_TREE:
        tree_write(j, NULL, v->tree);
        break;
    case VALUE_ROW:
        run->data->rows->json(run->data->row, j);
        break;
    }
}

static const char *kind_name(const struct value *v)
{
    static const char *const names[] = {
        [VALUE_NONE] = "no value", [VALUE_NIL] = "nil",     [VALUE_BOOL] = "bool", [VALUE_INT] = "int",
        [VALUE_REAL] = "float64",  [VALUE_TEXT] = "string", [VALUE_TREE] = "list", [VALUE_ROW] = "row",
    };

    return names[v->kind];
}

/* --- fields ----------------------------------------------------------------------------------------------------
 */

static int row_field(struct runner *r, const struct operand *o, const char *name, struct value *ret)
{
    const struct template_data *data = r->run.data;
    AUTO_BUF struct buf text = {0};
    bool is_bool = false;

    if (!data->rows->column(data->row, name, &text, &is_bool))
        return fail_at(r, o->at, o->source, o->length, "can't evaluate field %s in type %s", name,
                       data->rows->noun);
    if (is_bool && !data->header)
        *ret = (struct value){.kind = VALUE_BOOL, .boolean = strcmp(buf_str(&text), "true") == 0};
    else
        *ret = (struct value){.kind = VALUE_TEXT, .text = arena_strdup(&r->run.arena, buf_str(&text))};
    return 0;
}

/* A member that is absent or null. The API leaves out what is empty, so that a name it knows stands for its zero.
 */
static int missing_field(struct runner *r, const struct operand *o, size_t which, bool is_null, struct value *ret)
{
    static const struct value text = {.kind = VALUE_TEXT, .text = ""}, nil = {.kind = VALUE_NIL},
                              zero = {.kind = VALUE_INT}, no = {.kind = VALUE_BOOL};
    const char *name = o->fields[which];
    char zero_of = r->run.data->zero ? r->run.data->zero(which ? o->fields[which - 1] : "", name) : 0;
    json_t *empty;

    switch (zero_of) {
    case '"':
        *ret = text;
        return 0;
    case '0':
        *ret = zero;
        return 0;
    case 'f':
        *ret = no;
        return 0;
    case '*':
        *ret = nil;
        return 0;
    case '-':
        *ret = (struct value){.kind = VALUE_NONE};
        return 0;
    case '[':
    case '{':
        empty = zero_of == '[' ? json_array() : json_object();
        tree_append(r->run.made, empty);
        *ret = value_of(empty);
        return 0;
    default:
        if (!is_null)
            return fail_at(r, o->at, o->source, o->length, "map has no entry for key \"%s\"", name);
        *ret = nil;
        return 0;
    }
}

static int field(struct runner *r, const struct operand *o, size_t which, struct value *v)
{
    const char *name = o->fields[which];

    if (v->kind == VALUE_ROW)
        return row_field(r, o, name, v);
    if (v->kind == VALUE_NIL || v->kind == VALUE_NONE)
        return fail_at(r, o->at, o->source, o->length, "nil data; no entry for key \"%s\"", name);
    if (v->kind != VALUE_TREE || !json_is_object(v->tree))
        return fail_at(r, o->at, o->source, o->length, "can't evaluate field %s in type %s", name, kind_name(v));
    const json_t *member = json_object_get(v->tree, name);
    bool is_null = json_is_null(member);
    if (!member)
        member = jread_get(v->tree, name); /* API fields match without regard to case */
    if (!member || is_null)
        return missing_field(r, o, which, is_null, v);
    *v = value_of(member);
    return 0;
}

/* {{.Label "name"}} is the one method rows have. */
static int label(struct runner *r, const struct operand *o, struct value dot, const struct operand *argument,
                 struct value *ret)
{
    const struct template_data *data = r->run.data;
    AUTO_BUF struct buf text = {0};

    if (dot.kind != VALUE_ROW || !data->rows->label || strcmp(o->fields[0], "Label") != 0 || o->fields_count != 1)
        return fail_at(r, o->at, o->source, o->length, "%s is not a method but has arguments",
                       o->fields[o->fields_count - 1]);
    if (argument->kind != OPERAND_TEXT || argument->next)
        return fail_at(r, o->at, o->source, o->length, "wrong arguments for Label: want one text");
    data->rows->label(data->row, argument->name, &text);
    *ret = (struct value){.kind = VALUE_TEXT, .text = arena_strdup(&r->run.arena, buf_str(&text))};
    return 0;
}

static struct variable *variable(struct runner *r, const char *name)
{
    for (size_t i = r->variables_count; i-- > 0;)
        if (strcmp(r->variables[i].name, name) == 0)
            return &r->variables[i];
    return NULL;
}

static int operand_value(struct runner *r, const struct operand *o, struct value dot, struct value *ret)
{
    struct value v = dot;
    int rc = 0;

    switch (o->kind) {
    case OPERAND_DOT:
    case OPERAND_FIELD:
        break;
    case OPERAND_NIL:
        v = (struct value){.kind = VALUE_NIL};
        break;
    case OPERAND_VARIABLE: {
        struct variable *found = variable(r, o->name);

        v = found ? found->value : r->root;
        break;
    }
    case OPERAND_GROUP:
        rc = evaluate(r, o->group, dot, &v);
        break;
    case OPERAND_FUNCTION: /* as an argument: called without any */
        if (o->function->arguments_min > 0)
            return fail_at(r, o->at, o->source, o->length, "wrong number of args for %s: want %d got 0", o->name,
                           o->function->arguments_min);
        rc = o->function->call(&r->run, NULL, 0, &v, r->e);
        break;
    case OPERAND_TEXT:
        v = (struct value){.kind = VALUE_TEXT, .text = o->name};
        break;
    case OPERAND_INT:
        v = (struct value){.kind = VALUE_INT, .number = o->number};
        break;
    case OPERAND_REAL:
        v = (struct value){.kind = VALUE_REAL, .real = o->real};
        break;
    case OPERAND_BOOL:
        v = (struct value){.kind = VALUE_BOOL, .boolean = o->number};
        break;
    }
    for (size_t i = 0; rc == 0 && i < o->fields_count; i++)
        rc = field(r, o, i, &v);
    if (rc == 0)
        *ret = v;
    return rc;
}

/* --- pipelines -------------------------------------------------------------------------------------------------
 */

/* and, or: evaluated from the left, and no further than needed. */
static int shortcut(struct runner *r, const struct command_node *c, struct value dot, const struct value *piped,
                    struct value *ret)
{
    bool is_or = strcmp(c->operands->name, "or") == 0;
    struct value v = {0};

    for (const struct operand *o = c->operands->next; o; o = o->next) {
        int rc = operand_value(r, o, dot, &v);

        if (rc < 0)
            return rc;
        if (value_truth(&v) == is_or) {
            *ret = v;
            return 0;
        }
    }
    *ret = piped ? *piped : v;
    return 0;
}

static int call(struct runner *r, const struct command_node *c, struct value dot, const struct value *piped,
                struct value *ret)
{
    const struct operand *o = c->operands;
    size_t count = c->operands_count - 1 + (piped != NULL);
    struct value *arguments = arena_array(&r->run.arena, count, sizeof(*arguments));

    if ((int)count < o->function->arguments_min ||
        (o->function->arguments_max >= 0 && (int)count > o->function->arguments_max))
        return fail_at(r, o->at, o->source, o->length, "wrong number of args for %s: want %s%d got %zu", o->name,
                       o->function->arguments_max != o->function->arguments_min ? "at least " : "",
                       o->function->arguments_min, count);
    if (!o->function->call)
        return shortcut(r, c, dot, piped, ret);
    size_t i = 0;
    for (const struct operand *argument = o->next; argument; argument = argument->next) {
        int rc = operand_value(r, argument, dot, &arguments[i++]);

        if (rc < 0)
            return rc;
    }
    if (piped)
        arguments[i] = *piped;
    if (r->run.data->header && o->function->shapes) {
        *ret = arguments[0]; /* the header of a column stays what it is */
        return 0;
    }
    int rc = o->function->call(&r->run, arguments, count, ret, r->e);
    if (rc < 0) {
        AUTO_FREE
        char *why = mem_strdup(r->e ? r->e->text : "");
        const struct operand *last = o;

        while (last->next)
            last = last->next;
        return fail_at(r, o->at, o->source, last->source + last->length - o->source, "error calling %s: %s",
                       o->name, why);
    }
    return 0;
}

static int command_value(struct runner *r, const struct command_node *c, struct value dot,
                         const struct value *piped, struct value *ret)
{
    const struct operand *first = c->operands;

    if (first->kind == OPERAND_FUNCTION && first->fields_count == 0)
        return call(r, c, dot, piped, ret);
    if (first->kind == OPERAND_FIELD && first->next && !piped)
        return label(r, first, dot, first->next, ret);
    if (first->next || piped)
        return fail_at(r, first->at, first->source, first->length, "can't give argument to non-function %.*s",
                       (int)first->length, r->run.t->text + first->source);
    if (first->kind == OPERAND_NIL)
        return fail_at(r, first->at, first->source, first->length, "nil is not a command");
    return operand_value(r, first, dot, ret);
}

static int declare(struct runner *r, const struct pipeline *pl, const char *name, struct value value)
{
    struct variable *found = pl->assigns ? variable(r, name) : NULL;

    if (found) {
        found->value = value;
        return 0;
    }
    if (r->variables_count == VARIABLES_MAX)
        return fail_at(r, pl->at, pl->source, pl->length, "more than %d variables", VARIABLES_MAX);
    r->variables[r->variables_count++] = (struct variable){.name = name, .value = value};
    return 0;
}

static int evaluate(struct runner *r, const struct pipeline *pl, struct value dot, struct value *ret)
{
    struct value v = {0};
    const struct value *piped = NULL;

    for (const struct command_node *c = pl->commands; c; c = c->next) {
        int rc = command_value(r, c, dot, piped, &v);

        if (rc < 0)
            return rc;
        struct value *kept = ARENA_NEW(&r->run.arena, struct value);
        *kept = v;
        piped = kept;
    }
    *ret = v;
    return 0;
}

/* As evaluate, and sets the pipeline's one variable. */
static int evaluate_declaring(struct runner *r, const struct pipeline *pl, struct value dot, struct value *ret)
{
    int rc = evaluate(r, pl, dot, ret);

    if (rc < 0 || !pl->variables[0])
        return rc;
    return declare(r, pl, pl->variables[0], *ret);
}

/* --- nodes -----------------------------------------------------------------------------------------------------
 */

/* One turn of a range's body: with one variable it is the element, with two the key and the element. */
static int turn(struct runner *r, const struct node *n, struct value key, struct value element)
{
    const struct pipeline *pl = n->pipeline;
    size_t variables = r->variables_count;
    int rc = 0;

    if (++r->steps > STEPS_MAX)
        return fail_at(r, pl->at, pl->source, pl->length, "more than %d steps", STEPS_MAX);
    if (pl->variables[1])
        rc = declare(r, pl, pl->variables[0], key);
    if (rc == 0 && pl->variables[0])
        rc = declare(r, pl, pl->variables[pl->variables[1] != NULL], element);
    if (rc == 0)
        rc = walk(r, n->body, element);
    r->variables_count = variables;
    if (r->leaving == LEAVING_CONTINUE)
        r->leaving = LEAVING_NOT;
    return rc;
}

struct range_context {
    struct runner *r;
    const struct node *n;
    int rc;
};

static void range_member(void *context, const char *name, json_t *value)
{
    struct range_context *c = context;

    if (c->rc == 0 && c->r->leaving == LEAVING_NOT)
        c->rc = turn(c->r, c->n, (struct value){.kind = VALUE_TEXT, .text = name}, value_of(value));
}

static int range(struct runner *r, const struct node *n, struct value dot)
{
    struct range_context context = {.r = r, .n = n};
    struct value v;
    int rc = evaluate(r, n->pipeline, dot, &v);

    if (rc < 0)
        return rc;
    if (v.kind == VALUE_TREE && json_is_array(v.tree)) {
        for (size_t i = 0; rc == 0 && r->leaving == LEAVING_NOT && i < json_array_size(v.tree); i++)
            rc = turn(r, n, (struct value){.kind = VALUE_INT, .number = (int64_t)i},
                      value_of(json_array_get(v.tree, i)));
    } else if (v.kind == VALUE_TREE) {
        tree_sorted(v.tree, range_member, &context);
        rc = context.rc;
    } else if (v.kind == VALUE_INT) {
        for (int64_t i = 0; rc == 0 && r->leaving == LEAVING_NOT && i < v.number; i++) {
            struct value number = {.kind = VALUE_INT, .number = i};

            rc = turn(r, n, number, number);
        }
    } else if (v.kind != VALUE_NIL && v.kind != VALUE_NONE) {
        return fail_at(r, n->pipeline->at, n->pipeline->source, n->pipeline->length, "range can't iterate over %s",
                       v.kind == VALUE_TEXT ? v.text : kind_name(&v));
    }
    if (r->leaving == LEAVING_BREAK)
        r->leaving = LEAVING_NOT;
    return rc == 0 && !value_truth(&v) ? walk(r, n->otherwise, dot) : rc;
}

static int branch(struct runner *r, const struct node *n, struct value dot)
{
    size_t variables = r->variables_count;
    struct value v;
    int rc = evaluate_declaring(r, n->pipeline, dot, &v);

    if (rc < 0)
        return rc;
    if (value_truth(&v))
        rc = walk(r, n->body, n->kind == NODE_WITH ? v : dot);
    else
        rc = walk(r, n->otherwise, dot);
    r->variables_count = variables;
    return rc;
}

static int action(struct runner *r, const struct node *n, struct value dot)
{
    struct value v;
    int rc = evaluate_declaring(r, n->pipeline, dot, &v);

    if (rc < 0 || n->pipeline->variables[0])
        return rc;
    value_show(&r->run, r->out, &v);
    return 0;
}

static int walk(struct runner *r, const struct node *n, struct value dot)
{
    int rc = 0;

    for (; rc == 0 && r->leaving == LEAVING_NOT && n; n = n->next) {
        if (r->out->length - r->output_start > OUTPUT_MAX || r->run.spent > SPENT_MAX)
            return err_set(r->e, ERR_LIMIT, "template: the output is larger than %u bytes", OUTPUT_MAX);
        switch (n->kind) {
        case NODE_TEXT:
            buf_append(r->out, n->text, n->length);
            break;
        case NODE_ACTION:
            rc = action(r, n, dot);
            break;
        case NODE_IF:
        case NODE_WITH:
            rc = branch(r, n, dot);
            break;
        case NODE_RANGE:
            rc = range(r, n, dot);
            break;
        case NODE_BREAK:
            r->leaving = LEAVING_BREAK;
            break;
        case NODE_CONTINUE:
            r->leaving = LEAVING_CONTINUE;
            break;
        }
    }
    return rc;
}

int template_run(const struct template *t, const struct template_data *data, struct buf *out, struct err *e)
{
    struct err ignored;
    struct runner r = {.run = {.t = t, .data = data, .made = json_array()},
                       .output_start = out->length,
                       .out = out,
                       .e = e ? e : &ignored};

    arena_init(&r.run.arena);
    r.root = data->rows ? (struct value){.kind = VALUE_ROW} : value_of(data->json);
    int rc = walk(&r, t->nodes, r.root);
    arena_fini(&r.run.arena);
    json_decref(r.run.made);
    return rc;
}
