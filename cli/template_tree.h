/* The parsed form of a template, shared by its parser, its runner and its functions. See template.h. */
#pragma once

#include "cli/template.h"
#include "proto/base/arena.h"

#define TEMPLATE_DEPTH_MAX 64 /* of nested actions and parentheses */

enum operand_kind {
    OPERAND_DOT,
    OPERAND_NIL,
    OPERAND_FIELD,    /* .A.B: fields of the dot */
    OPERAND_VARIABLE, /* $x.A.B */
    OPERAND_GROUP,    /* (pipeline).A.B */
    OPERAND_FUNCTION, /* name; takes the operands after it */
    OPERAND_TEXT,
    OPERAND_INT,
    OPERAND_REAL,
    OPERAND_BOOL,
};

struct pipeline;

struct operand {
    enum operand_kind kind;
    size_t at, source, length;       /* place in the template: for messages, first byte, bytes */
    const char *name;                /* of a variable (with $) or function, or the text */
    const struct function *function; /* of OPERAND_FUNCTION */
    struct pipeline *group;          /* of OPERAND_GROUP */
    int64_t number;                  /* of OPERAND_INT and OPERAND_BOOL */
    double real;                     /* of OPERAND_REAL */
    const char **fields;             /* after the dot, variable or group */
    size_t fields_count;
    struct operand *next; /* in its command */
};

struct command_node { /* operand operand...: a value, or a function and its arguments */
    struct operand *operands;
    size_t operands_count;
    struct command_node *next; /* after a | */
};

struct pipeline {
    size_t at, source, length;
    const char *variables[2]; /* declared or assigned; NULL */
    bool assigns;             /* = instead of := */
    struct command_node *commands;
};

enum node_kind { NODE_TEXT, NODE_ACTION, NODE_IF, NODE_WITH, NODE_RANGE, NODE_BREAK, NODE_CONTINUE };

struct node {
    enum node_kind kind;
    const char *text; /* of NODE_TEXT */
    size_t length;
    struct pipeline *pipeline;
    struct node *body, *otherwise;
    struct node *next;
};

struct template
{
    struct arena arena;
    const char *text; /* the source */
    struct node *nodes;
};

/* Values while a template runs. */
enum value_kind { VALUE_NONE, VALUE_NIL, VALUE_BOOL, VALUE_INT, VALUE_REAL, VALUE_TEXT, VALUE_TREE, VALUE_ROW };

struct value {
    enum value_kind kind;
    union {
        bool boolean;
        int64_t number;
        double real;
        const char *text;
        const json_t *tree; /* an array or object */
    };
};

struct run {
    const struct template *t;
    const struct template_data *data;
    struct arena arena; /* texts made on the way */
    json_t *made;       /* array that owns the trees made on the way */
    size_t spent;       /* bytes of texts made on the way */
};

struct function {
    const char *name;
    int arguments_min, arguments_max; /* -1: any number */
    bool shapes;                      /* leaves a column's header alone */
    int (*call)(struct run *run, const struct value *arguments, size_t count, struct value *ret, struct err *e);
};

/* The function of that name, or NULL. */
const struct function *template_function(const char *name);

struct value value_of(const json_t *tree);
bool value_truth(const struct value *v);
/* Append a value as {{.}} shows it. */
void value_show(struct run *run, struct buf *out, const struct value *v);
void value_json(struct run *run, struct jwrite *j, const struct value *v);
