/* See admission.h. A bucket holds what one second allows and fills at the rate; a node's last registrations are
 * remembered as long as they count, the longest ago in front, so that what is kept is bounded by the rate. */
#include <stdlib.h>
#include <string.h>

#include "manager/dispatcher/admission.h"
#include "proto/base/ident.h"
#include "proto/base/list.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"

struct visitor {
    char node_id[IDENT_TEXT + 1];
    struct list link; /* admission->visitors, by its last registration */
    unsigned count;
    int64_t times_ms[]; /* of the last per_node registrations, the oldest first */
};

struct admission {
    unsigned per_second, per_node;
    double tokens;
    int64_t filled_ms;  /* when tokens were counted last */
    double promised_ms; /* up to then, times were given to those sent away */
    struct map by_node; /* visitors */
    struct list visitors;
};

struct admission *admission_new(unsigned per_second, unsigned per_node)
{
    struct admission *a = mem_alloc(sizeof(*a));

    a->per_second = per_second ? per_second : ADMISSION_PER_SECOND;
    a->per_node = per_node ? per_node : ADMISSION_PER_NODE;
    a->tokens = a->per_second;
    list_init(&a->visitors);
    return a;
}

static void forget(struct admission *a, struct visitor *v)
{
    map_remove(&a->by_node, v->node_id);
    list_remove(&v->link);
    free(v);
}

void admission_free(struct admission *a)
{
    struct visitor *v, *after;

    if (!a)
        return;
    list_each_safe (v, after, &a->visitors, link)
        forget(a, v);
    map_fini(&a->by_node);
    free(a);
}

void admission_tidy(struct admission *a, int64_t now_ms)
{
    struct visitor *v;

    while ((v = list_first(&a->visitors, struct visitor, link)) &&
           now_ms - v->times_ms[v->count - 1] >= ADMISSION_NODE_MS)
        forget(a, v);
}

/* How long until the node's oldest registration of those that count is long enough ago. */
static int64_t node_wait(const struct admission *a, const struct visitor *v, int64_t now_ms)
{
    if (!v || v->count < a->per_node)
        return 0;
    return MAX(v->times_ms[0] + ADMISSION_NODE_MS - now_ms, (int64_t)0);
}

static int64_t take_token(struct admission *a, int64_t now_ms)
{
    double step_ms = 1000.0 / a->per_second;

    a->tokens = MIN(a->tokens + (double)(now_ms - a->filled_ms) / step_ms, (double)a->per_second);
    a->filled_ms = now_ms;
    if (a->tokens >= 1) {
        a->tokens -= 1;
        return 0;
    }
    a->promised_ms = MAX(a->promised_ms, (double)now_ms) + step_ms;
    return MAX((int64_t)(a->promised_ms - (double)now_ms), (int64_t)1);
}

static void remember(struct admission *a, struct visitor *v, const char *node_id, int64_t now_ms)
{
    if (!v) {
        v = mem_alloc(sizeof(*v) + a->per_node * sizeof(v->times_ms[0]));
        memcpy(v->node_id, node_id, strnlen(node_id, IDENT_TEXT));
        map_put(&a->by_node, v->node_id, v);
    } else {
        list_remove(&v->link);
    }
    if (v->count == a->per_node)
        memmove(v->times_ms, v->times_ms + 1, --v->count * sizeof(v->times_ms[0]));
    v->times_ms[v->count++] = now_ms;
    list_push(&a->visitors, &v->link);
}

int64_t admission_ask(struct admission *a, const char *node_id, int64_t now_ms)
{
    admission_tidy(a, now_ms);
    struct visitor *v = map_get(&a->by_node, node_id);
    int64_t wait_ms = node_wait(a, v, now_ms);

    if (wait_ms == 0)
        wait_ms = take_token(a, now_ms);
    if (wait_ms == 0)
        remember(a, v, node_id, now_ms);
    return wait_ms;
}
