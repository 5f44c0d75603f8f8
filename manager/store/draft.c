/* Drafts: the next change set while it is planned (store.h).
 *
 * A draft lies over the store. A slot stands for one object that was looked at or written; its steps are what was
 * put or deleted, newest first. All steps together, in the order they were made, are the journal, which undo walks
 * back. What is not in a slot is read from the store and kept in one, so that an object has one message per draft,
 * however often it is asked for.
 *
 *   slots[kind]: number -> slot { base (from the store), top -> step -> step }
 *   journal:     last -> step -> step -> ...
 *   ids, names:  hash -> claims: slots that have or had that id or name; the slot itself says whether it still does
 *
 * Packing writes each slot's newest step once. An object that was created and deleted again leaves no trace, and
 * its number is given to the next one, since nobody outside has seen it.
 *
 * The messages a caller puts are copied by packing and unpacking: what the draft shows is exactly what every
 * manager will read from the change set, and bytes that could not be unpacked again never leave.
 *
 * After draft_end(keep) the draft lives on inside the store until its entry is applied or another comes first, see
 * apply.c. A draft that was overtaken ("stale") is empty again and can only be ended. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "manager/store/change.h"
#include "manager/store/inside.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/base/siphash.h"

struct slot;

struct step {
    struct slot *slot;
    struct step *older;   /* of the same slot */
    struct step *earlier; /* in the journal */
    struct object object; /* message NULL: deleted */
    const uint8_t *packed;
    size_t size;
};

struct slot {
    struct slot *next;         /* in order of first write */
    struct object base;        /* as the store has it; message NULL: it does not */
    struct step *top;          /* NULL: as the store has it */
    bool listed;               /* in draft.first...last */
    const uint8_t *claimed_id; /* what it was entered under last; borrowed from a step */
    const char *claimed_name;
    size_t claimed_length;
};

struct claim {
    struct slot *slot;
    struct claim *next; /* of the same hash */
};

struct draft {
    struct store *store;
    store_changed *changed;
    void *ctx;
    struct arena arena;
    int64_t cluster_ms;
    uint64_t planned_on;
    uint64_t known[KIND_MAX + 1]; /* numbers from here on are not in the store */
    uint64_t next[KIND_MAX + 1];  /* numbers to give out */
    struct map64 slots[KIND_MAX + 1];
    struct map64 ids, names;
    struct slot *first, *last_slot;
    struct step *last; /* of the journal */
    size_t steps;
    size_t objects, bytes; /* of the change set, as it stands */
    bool packed;           /* and not changed since */
    uint64_t packed_hash;
    size_t packed_size;
    bool proposed; /* ended, waits for its entry */
    bool stale;    /* another change set came first */
};

#define HEAD_BYTES 40 /* of a change set, about */

static enum kind numbering(enum kind k)
{
    return k == KIND_STATUS ? KIND_TASK : k;
}

/* --- life ------------------------------------------------------------------------------------------------ */

struct draft *draft_begin(struct store *s, int64_t cluster_ms, store_changed *changed, void *ctx)
{
    if (s->draft) {
        assert(s->draft->proposed); /* one at a time */
        draft_drop(s->draft);
    }
    struct draft *d = mem_alloc(sizeof(*d));
    d->store = s;
    d->changed = changed;
    d->ctx = ctx;
    d->cluster_ms = MAX(cluster_ms, s->state.cluster_ms);
    d->planned_on = s->state.planned;
    d->bytes = HEAD_BYTES;
    memcpy(d->known, s->state.next, sizeof(d->known));
    memcpy(d->next, s->state.next, sizeof(d->next));
    arena_init(&d->arena);
    s->draft = d;
    return d;
}

static void free_maps(struct draft *d)
{
    for (int k = 0; k <= KIND_MAX; k++)
        map64_fini(&d->slots[k]);
    map64_fini(&d->ids);
    map64_fini(&d->names);
}

static void free_draft(struct draft *d)
{
    d->store->draft = NULL;
    free_maps(d);
    arena_fini(&d->arena);
    free(d);
}

/* Forget what it holds, without a word to anybody; messages handed out stay until it ends. */
static void settle(struct draft *d)
{
    if (d->proposed) {
        free_draft(d);
        return;
    }
    free_maps(d);
    d->first = d->last_slot = NULL;
    d->last = NULL;
    d->steps = d->objects = 0;
    d->bytes = HEAD_BYTES;
    d->packed = false;
    d->stale = true;
}

void draft_forget(struct draft *d)
{
    settle(d);
}

void draft_applied(struct draft *d)
{
    settle(d);
}

void draft_moved(struct draft *d)
{
    if (!d->stale)
        return;
    memcpy(d->known, d->store->state.next, sizeof(d->known));
    memcpy(d->next, d->store->state.next, sizeof(d->next));
}

void draft_drop(struct draft *d)
{
    draft_undo(d, 0);
    settle(d);
}

void store_drop_proposed(struct store *s)
{
    if (s->draft && s->draft->proposed)
        draft_drop(s->draft);
}

void draft_end(struct draft *d, bool keep)
{
    if (keep && d->steps) {
        assert(d->packed);
        d->proposed = true;
        return;
    }
    draft_undo(d, 0);
    free_draft(d);
}

bool draft_is(const struct draft *d, const void *data, size_t size)
{
    return d->packed && size == d->packed_size && siphash(0, 0, data, size) == d->packed_hash;
}

/* --- slots ----------------------------------------------------------------------------------------------- */

static const struct object *slot_object(const struct slot *slot)
{
    return slot->top ? &slot->top->object : &slot->base;
}

/* Whether the slot would be in the change set, and what it would add to it. */
static bool slot_change(const struct slot *slot, struct change *ret)
{
    if (!slot->top || (!slot->top->packed && !slot->base.message))
        return false;
    *ret = (struct change){slot->base.kind, slot->base.number, slot->top->packed, slot->top->size};
    return true;
}

/* Add (+1) or take away (-1) the slot's part of the sums. */
static void count_slot(struct draft *d, const struct slot *slot, int sign)
{
    struct change c;

    if (!slot_change(slot, &c))
        return;
    d->objects += (size_t)sign;
    d->bytes += (size_t)sign * change_size(&c);
}

static void load_base(struct draft *d, struct slot *slot)
{
    enum kind k = slot->base.kind;
    struct row r;

    if (slot->base.number >= d->known[numbering(k)])
        return;
    struct view *v = view_begin(d->store);
    if (view_row(v, k, slot->base.number, &r) == 0) {
        const ProtobufCMessage *message = arena_unpack(&d->arena, kind_message(k), r.message, r.message_size);

        if (message)
            row_object(k, slot->base.number, &r, message, &slot->base);
        else
            store_suspect(d->store, "a record holds no message of its kind");
    }
    view_end(v);
}

static struct slot *slot_of(struct draft *d, enum kind k, uint64_t number)
{
    struct slot *slot = map64_get(&d->slots[k], number);

    if (slot)
        return slot;
    slot = ARENA_NEW(&d->arena, struct slot);
    slot->base.kind = k;
    slot->base.number = number;
    load_base(d, slot);
    (void)map64_put(&d->slots[k], number, slot); /* was absent */
    return slot;
}

int draft_get(struct draft *d, enum kind k, uint64_t number, struct object *ret)
{
    if (!kind_message(k) || number == 0 || number >= d->next[numbering(k)])
        return ERR_NOT_FOUND;
    const struct object *o = slot_object(slot_of(d, k, number));
    if (!o->message)
        return ERR_NOT_FOUND;
    *ret = *o;
    return 0;
}

/* --- ids and names --------------------------------------------------------------------------------------- */

static uint64_t name_hash(enum kind k, const char *name, size_t length)
{
    char lowered[256];
    size_t used = MIN(length, sizeof(lowered)); /* longer ones collide, which the comparison sorts out */

    for (size_t i = 0; i < used; i++)
        lowered[i] = kind_lower(name[i]);
    return siphash((uint64_t)k, length, lowered, used);
}

static void put_claim(struct draft *d, struct map64 *map, uint64_t hash, struct slot *slot)
{
    struct claim *claim = ARENA_NEW(&d->arena, struct claim);

    claim->slot = slot;
    claim->next = map64_get(map, hash);
    (void)map64_put(map, hash, claim); /* chained behind the new one */
}

static void claim(struct draft *d, struct slot *slot)
{
    const struct step *step = slot->top;
    enum kind k = slot->base.kind;
    const char *name;
    size_t length;

    if (kind_has_id(k)) {
        const uint8_t *id = kind_id_of(k, step->packed, step->size);

        assert(id); /* an object of this kind has 16 bytes of id */
        if (!slot->claimed_id || memcmp(slot->claimed_id, id, KIND_ID_BYTES) != 0)
            put_claim(d, &d->ids, siphash((uint64_t)k, 0, id, KIND_ID_BYTES), slot);
        slot->claimed_id = id;
    }
    if (!kind_name_of(k, step->packed, step->size, &name, &length) ||
        (slot->claimed_name && kind_name_equal(slot->claimed_name, slot->claimed_length, name, length)))
        return;
    put_claim(d, &d->names, name_hash(k, name, length), slot);
    slot->claimed_name = name;
    slot->claimed_length = length;
}

static bool has_id(const struct slot *slot, const uint8_t id[16])
{
    const struct step *step = slot->top;
    const uint8_t *own = step && step->packed ? kind_id_of(slot->base.kind, step->packed, step->size) : NULL;

    return own && memcmp(own, id, KIND_ID_BYTES) == 0;
}

static bool has_name(const struct slot *slot, const char *name, size_t length)
{
    const struct step *step = slot->top;
    const char *own;
    size_t own_length;

    return step && step->packed && kind_name_of(slot->base.kind, step->packed, step->size, &own, &own_length) &&
           kind_name_equal(own, own_length, name, length);
}

/* Whether the draft has something to say of what the store has under this number. */
static bool is_written(struct draft *d, enum kind k, uint64_t number)
{
    const struct slot *slot = map64_get(&d->slots[k], number);

    return slot && slot->top;
}

uint64_t draft_find_id(struct draft *d, enum kind k, const uint8_t id[16])
{
    if (!kind_has_id(k))
        return 0;
    const struct claim *c = map64_get(&d->ids, siphash((uint64_t)k, 0, id, KIND_ID_BYTES));
    for (; c; c = c->next)
        if (c->slot->base.kind == k && has_id(c->slot, id))
            return c->slot->base.number;
    struct view *v = view_begin(d->store);
    uint64_t number = view_find_id(v, k, id);
    view_end(v);
    return number && !is_written(d, k, number) ? number : 0;
}

uint64_t draft_find_name(struct draft *d, enum kind k, const char *name)
{
    size_t length = strlen(name);
    uint64_t best = 0, number = 0;

    if (!kind_has_name(k) || !length)
        return 0;
    const struct claim *c = map64_get(&d->names, name_hash(k, name, length));
    for (; c; c = c->next)
        if (c->slot->base.kind == k && has_name(c->slot, name, length) && (!best || c->slot->base.number < best))
            best = c->slot->base.number;
    struct view *v = view_begin(d->store);
    do
        number = view_next_named(v, k, name, length, number);
    while (number && is_written(d, k, number)); /* those have their say in the claims */
    view_end(v);
    return number && (!best || number < best) ? number : best;
}

/* --- writing --------------------------------------------------------------------------------------------- */

static void told(struct draft *d, const struct object *before, const struct object *after)
{
    if (d->changed && (before->message || after->message))
        d->changed(d->ctx, 0, before->message ? before : NULL, after->message ? after : NULL);
}

static void push(struct draft *d, struct slot *slot, struct step *step)
{
    const struct object *before = slot_object(slot);

    step->slot = slot;
    step->older = slot->top;
    step->earlier = d->last;
    step->object.kind = slot->base.kind;
    step->object.number = slot->base.number;
    step->object.created_ms = before->message      ? before->created_ms
                              : slot->base.message ? slot->base.created_ms /* deleted and put again */
                                                   : d->cluster_ms;
    step->object.updated_ms = d->cluster_ms;
    count_slot(d, slot, -1);
    slot->top = d->last = step;
    d->steps++;
    count_slot(d, slot, 1);
    d->packed = false;
    if (step->packed)
        claim(d, slot);
    if (!slot->listed) {
        slot->listed = true;
        if (d->last_slot)
            d->last_slot->next = slot;
        else
            d->first = slot;
        d->last_slot = slot;
    }
    told(d, before, &step->object);
}

static void put(struct draft *d, struct slot *slot, const ProtobufCMessage *message)
{
    struct step *step = ARENA_NEW(&d->arena, struct step);
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = arena_alloc(&d->arena, size);

    assert(message->descriptor == kind_message(slot->base.kind));
    assert(!d->proposed);
    protobuf_c_message_pack(message, packed);
    step->packed = packed;
    step->size = size;
    step->object.message = arena_unpack(&d->arena, message->descriptor, packed, size);
    assert(step->object.message); /* required fields are set, texts are terminated */
    push(d, slot, step);
}

uint64_t draft_create(struct draft *d, enum kind k, const ProtobufCMessage *message)
{
    assert(kind_has_numbers(k));
    uint64_t number = d->next[k]++;
    put(d, slot_of(d, k, number), message);
    return number;
}

void draft_put(struct draft *d, enum kind k, uint64_t number, const ProtobufCMessage *message)
{
    assert(kind_message(k) && number > 0 && number < d->next[numbering(k)]); /* never given out */
    put(d, slot_of(d, k, number), message);
}

void draft_delete(struct draft *d, enum kind k, uint64_t number)
{
    struct object o;

    assert(!d->proposed);
    if (draft_get(d, k, number, &o) < 0)
        return;
    if (k == KIND_TASK)
        draft_delete(d, KIND_STATUS, number);
    push(d, slot_of(d, k, number), ARENA_NEW(&d->arena, struct step));
}

size_t draft_mark(const struct draft *d)
{
    return d->steps;
}

void draft_undo(struct draft *d, size_t mark)
{
    assert(mark <= d->steps);
    while (d->steps > mark) {
        struct step *step = d->last;
        struct slot *slot = step->slot;

        count_slot(d, slot, -1);
        slot->top = step->older;
        d->last = step->earlier;
        d->steps--;
        d->packed = false;
        count_slot(d, slot, 1);
        told(d, &step->object, slot_object(slot));
        if (!slot_object(slot)->message && kind_has_numbers(slot->base.kind) && !slot->top &&
            slot->base.number >= d->known[slot->base.kind])
            d->next[slot->base.kind] = slot->base.number; /* undone newest first, so it is the highest */
    }
}

/* --- the change set -------------------------------------------------------------------------------------- */

void draft_pack(struct draft *d, struct buf *out)
{
    size_t start = out->length;
    struct change c;

    assert(d->objects <= CHANGE_COUNT_MAX);
    (void)buf_reserve(out, d->bytes); /* one allocation */
    change_set_begin(out, d->planned_on, d->cluster_ms);
    for (const struct slot *slot = d->first; slot; slot = slot->next)
        if (slot_change(slot, &c))
            change_put(out, &c);
    d->packed = true;
    d->packed_size = out->length - start;
    d->packed_hash = siphash(0, 0, buf_bytes(out) + start, d->packed_size);
}

int64_t draft_ms(const struct draft *d)
{
    return d->cluster_ms;
}

struct arena *draft_arena(struct draft *d)
{
    return &d->arena;
}

size_t draft_objects(const struct draft *d)
{
    return d->objects;
}

size_t draft_bytes(const struct draft *d)
{
    return d->bytes;
}

bool draft_empty(const struct draft *d)
{
    return d->objects == 0;
}

bool draft_stale(const struct draft *d)
{
    return d->stale;
}
