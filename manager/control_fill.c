/* See control_fill.h.
 *
 * Each write is executed behind a mark and undone if it fails, or if it makes the draft too large for one Raft
 * entry; then it goes first into the next draft, unless it was alone: then it is refused. A write with an id that
 * the store knows already is answered from there.
 *
 * The planners extend the same draft in their order. The orchestrator leaves a quarter of the room to those after
 * it, so that tasks which wait from earlier drafts are placed while a large service is being made. Whatever does
 * not fit, in objects or in time, stays marked in the index for the next draft. */
#include <assert.h>

#include "manager/allocator/allocator.h"
#include "manager/control_fill.h"
#include "manager/orchestrator/orchestrator.h"
#include "proto/base/planted.h"

#define WRITES_US 2000
#define PLAN_US   4000

/* --- the plan over the draft -------------------------------------------------------------------------------------
 */

static int get(void *ctx, enum kind k, uint64_t number, struct object *ret)
{
    return draft_get(((struct fill *)ctx)->draft, k, number, ret);
}

static uint64_t create(void *ctx, enum kind k, const ProtobufCMessage *message)
{
    return draft_create(((struct fill *)ctx)->draft, k, message);
}

static void put(void *ctx, enum kind k, uint64_t number, const ProtobufCMessage *message)
{
    draft_put(((struct fill *)ctx)->draft, k, number, message);
}

static void remove_object(void *ctx, enum kind k, uint64_t number)
{
    draft_delete(((struct fill *)ctx)->draft, k, number);
}

static void ident(void *ctx, uint8_t ret[IDENT_BYTES])
{
    entropy_fill(((struct fill *)ctx)->entropy, ret, IDENT_BYTES);
}

static size_t room(void *ctx)
{
    const struct fill *f = ctx;
    size_t objects = draft_objects(f->draft);

    if (draft_bytes(f->draft) >= CONTROL_DRAFT_BYTES || objects >= CONTROL_DRAFT_OBJECTS)
        return 0;
    return CONTROL_DRAFT_OBJECTS - objects;
}

static bool late(void *ctx)
{
    const struct fill *f = ctx;

    return clock_mono_us(f->clock) >= f->plan_until_us;
}

static const struct plan_backend backend = {
    .get = get, .create = create, .put = put, .remove = remove_object, .ident = ident, .room = room, .late = late};

void fill_begin(struct fill *f, struct store *s, struct index *x, struct clock *clock, struct entropy *entropy,
                int64_t cluster_ms, int64_t start_us)
{
    *f = (struct fill){
        .draft = draft_begin(s, cluster_ms, index_changed, x),
        .clock = clock,
        .entropy = entropy,
        .writes_until_us = start_us + WRITES_US,
        .plan_until_us = start_us + PLAN_US,
    };
    f->plan = (struct plan){
        .index = x,
        .now_ms = draft_ms(f->draft),
        .wall_ns = clock_wall_ms(clock) * 1000000,
        .arena = draft_arena(f->draft),
        .backend = &backend,
        .ctx = f,
    };
}

/* --- writes
 * -------------------------------------------------------------------------------------------------------- */

/* Answer from the store what was executed before. */
static bool replay(struct fill *f, struct control_write *w)
{
    uint64_t number = w->has_request_id ? draft_find_id(f->draft, KIND_REQUEST, w->request_id) : 0;
    struct object o;

    if (PLANTED(REPLAY_FORGOTTEN) || !number || draft_get(f->draft, KIND_REQUEST, number, &o) < 0)
        return false;
    const Request *r = (const Request *)o.message;
    w->replayed = true;
    w->http_status = r->status;
    buf_clear(&w->reply);
    buf_append(&w->reply, r->body.data, r->body.len);
    return true;
}

static void store_answer(struct fill *f, const struct control_write *w)
{
    Request r = REQUEST__INIT;

    if (!w->has_request_id)
        return;
    r.id = (ProtobufCBinaryData){.len = sizeof(w->request_id), .data = (uint8_t *)w->request_id};
    r.status = w->http_status;
    r.has_body = w->reply.length != 0;
    if (r.has_body)
        r.body = (ProtobufCBinaryData){.len = w->reply.length, .data = (uint8_t *)buf_bytes(&w->reply)};
    r.has_at_ms = true;
    r.at_ms = f->plan.now_ms;
    draft_create(f->draft, KIND_REQUEST, &r.base);
}

static bool too_large(const struct fill *f)
{
    return draft_objects(f->draft) > CONTROL_WRITE_OBJECTS || draft_bytes(f->draft) > CONTROL_DRAFT_BYTES;
}

static void execute(struct fill *f, struct control_write *w)
{
    size_t mark = draft_mark(f->draft);

    w->failed = false;
    w->error.code = 0;
    if (replay(f, w))
        return;
    buf_clear(&w->reply);
    if (w->execute(w, f->draft, &f->plan, &w->error) < 0) {
        assert(w->error.code < 0);
        w->failed = true;
        draft_undo(f->draft, mark);
    } else {
        store_answer(f, w);
    }
}

size_t fill_writes(struct fill *f, struct list *queue, struct list *executed, size_t objects_max)
{
    size_t count = 0;

    while (!list_empty(queue)) {
        struct control_write *w = list_first(queue, struct control_write, link);
        bool alone = draft_empty(f->draft);
        size_t mark = draft_mark(f->draft);

        if (draft_objects(f->draft) >= objects_max || (count && clock_mono_us(f->clock) >= f->writes_until_us))
            break;
        execute(f, w);
        if (too_large(f)) {
            draft_undo(f->draft, mark);
            if (!alone)
                break;
            w->failed = true;
            err_set(&w->error, ERR_LIMIT, "the change is larger than one entry of the raft log may be");
        }
        list_remove(&w->link);
        list_push(executed, &w->link);
        count++;
    }
    return count;
}

/* --- planners
 * -------------------------------------------------------------------------------------------------------- */

void fill_plan(struct fill *f, struct scheduler *scheduler)
{
    f->plan.reserve = CONTROL_DRAFT_OBJECTS / 4;
    orchestrate(&f->plan);
    f->plan.reserve = 0;
    allocate(&f->plan);
    schedule(scheduler, &f->plan);
}
