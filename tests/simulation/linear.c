/* See linear.h. The search of Wing and Gong, with the memory of Lowe.
 *
 * Calls and returns stand in one list in order of time. The search goes along the list: at a call it tries to let
 * that operation take effect now, takes both its entries out of the list, and begins again from the front. At a
 * return that is still in the list it has gone too far: that operation should have taken effect before, so the last
 * decision is undone and the next possibility tried. Whoever took effect and what the register holds then is
 * remembered: the same set with the same content is never tried twice.
 *
 *     list:   call a   call b   return a   call c   return b   return c
 *     begin: a, else b; after a: b, else c (b may be later than c: they overlap) ...
 *
 * Sets are remembered by a hash of 64 bits. Two sets with one hash would let a good history look bad, never the
 * other way round; with less than a million sets this happens once in tens of millions of histories.
 *
 * Operations without outcome have no return. They can only take effect while the register holds what they expect,
 * and when only such are left in the list the history is explained. */
#include <stdlib.h>

#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "tests/simulation/linear.h"

struct entry { /* a call or a return */
    struct entry *before, *after;
    struct entry *match; /* of a call: its return, or NULL */
    size_t op;
    uint64_t at;
    bool is_call;
};

struct decision {
    struct entry *call;
    uint64_t held; /* by the register, before */
};

struct search {
    const struct linear_op *ops;
    struct entry head; /* of the list */
    struct map64 tried;
    struct decision *stack;
    size_t depth;
    uint64_t held; /* by the register now */
    uint64_t set;  /* hash of who took effect */
    size_t left;   /* returns in the list */
};

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t op_hash(size_t op)
{
    return mix(UINT64_C(0x9e3779b97f4a7c15) * (op + 1));
}

static int by_time(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    return x->at < y->at ? -1 : x->at > y->at;
}

/* All entries in order, linked; returns their memory. */
static struct entry *make_list(struct search *s, size_t count)
{
    struct entry *all = mem_array(2 * count + 1, sizeof(*all)), *last = &s->head;
    struct entry **calls = mem_array(count + 1, sizeof(struct entry *));
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        all[n++] = (struct entry){.op = i, .at = s->ops[i].called, .is_call = true};
        if (s->ops[i].returned != LINEAR_UNKNOWN)
            all[n++] = (struct entry){.op = i, .at = s->ops[i].returned};
    }
    qsort(all, n, sizeof(*all), by_time);
    for (size_t i = 0; i < n; i++) {
        all[i].before = last;
        last->after = &all[i];
        last = &all[i];
        if (all[i].is_call) {
            calls[all[i].op] = &all[i];
        } else {
            calls[all[i].op]->match = &all[i];
            s->left++;
        }
    }
    free(calls);
    return all;
}

static void lift_one(struct entry *e)
{
    e->before->after = e->after;
    if (e->after)
        e->after->before = e->before;
}

static void lower_one(struct entry *e)
{
    e->before->after = e;
    if (e->after)
        e->after->before = e;
}

static bool may_happen(const struct linear_op *op, uint64_t held)
{
    return op->kind == LINEAR_MISMATCH ? held != op->found : held == op->found;
}

/* Let it take effect now, unless that was tried. */
static bool take(struct search *s, struct entry *call)
{
    const struct linear_op *op = &s->ops[call->op];
    uint64_t set = s->set ^ op_hash(call->op), held = op->kind == LINEAR_SWAP ? op->left : s->held;

    if (!may_happen(op, s->held) || map64_put(&s->tried, mix(set + mix(held)), s))
        return false;
    s->stack[s->depth++] = (struct decision){call, s->held};
    s->held = held;
    s->set = set;
    lift_one(call);
    if (call->match) {
        lift_one(call->match);
        s->left--;
    }
    return true;
}

static struct entry *undo(struct search *s)
{
    struct decision d = s->stack[--s->depth];

    if (d.call->match) {
        lower_one(d.call->match);
        s->left++;
    }
    lower_one(d.call);
    s->held = d.held;
    s->set ^= op_hash(d.call->op);
    return d.call->after; /* the next possibility */
}

bool linear_check(const struct linear_op *ops, size_t count, uint64_t initial, size_t *ret_op)
{
    struct search s = {.ops = ops, .held = initial};
    AUTO_FREE
    struct entry *all = make_list(&s, count);
    struct entry *e = s.head.after, *furthest = NULL;
    bool found = true;

    (void)all; /* held here only to be freed */
    s.stack = mem_array(count + 1, sizeof(*s.stack));
    while (s.left && found) {
        if (e && e->is_call) {
            e = take(&s, e) ? s.head.after : e->after;
            continue;
        }
        if (e && (!furthest || e->at > furthest->at))
            furthest = e;
        found = s.depth > 0;
        if (found)
            e = undo(&s);
    }
    if (!found)
        *ret_op = furthest->op;
    map64_fini(&s.tried);
    free(s.stack);
    return found;
}
