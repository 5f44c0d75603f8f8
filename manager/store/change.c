/* See change.h. Reading makes no copy and allocates nothing: a set is checked once, whole, then walked. A field
 * that a newer manager added to the set itself is passed over; whether a set may be applied at all is what its
 * feature level says. */
#include <assert.h>
#include <string.h>

#include "manager/store/change.h"
#include "manager/store/kind.h"
#include "manager/store/row.h"
#include "proto/base/mem.h"

enum { SET_MAGIC = 1, SET_PLANNED_ON = 2, SET_CLUSTER_MS = 3, SET_FEATURE_LEVEL = 4, SET_CHANGES = 5 };
enum { CHANGE_KIND = 1, CHANGE_NUMBER = 2, CHANGE_MESSAGE = 3 };

#define KEY(tag, type) ((uint8_t)((tag) << 3 | (type)))

static int read_change(const struct field *f, size_t at, struct change *ret, struct err *e)
{
    struct field_reader r = field_read(f->data, f->size);
    struct field part;
    uint64_t kind = 0;

    *ret = (struct change){0};
    while (field_next(&r, &part)) {
        if (part.tag == CHANGE_KIND && part.type == FIELD_VARINT) {
            kind = part.value;
        } else if (part.tag == CHANGE_NUMBER && part.type == FIELD_VARINT) {
            ret->number = part.value;
        } else if (part.tag == CHANGE_MESSAGE && part.type == FIELD_BYTES) {
            ret->message = part.data;
            ret->size = part.size;
        } else if (part.tag <= CHANGE_MESSAGE) {
            return err_set(e, ERR_CORRUPT, "change set: change %zu: field %u is of type %d", at, part.tag,
                           part.type);
        }
    }
    if (r.bad)
        return err_set(e, ERR_CORRUPT, "change set: change %zu is cut off or malformed", at);
    if (kind > KIND_MAX || !kind_message((enum kind)kind))
        return err_set(e, ERR_CORRUPT, "change set: change %zu: kind %llu is not known", at,
                       (unsigned long long)kind);
    ret->kind = (enum kind)kind;
    if (ret->number == 0 || ret->number == UINT64_MAX)
        return err_set(e, ERR_CORRUPT, "change set: change %zu: %s has number %llu", at, kind_name(ret->kind),
                       (unsigned long long)ret->number);
    if (ret->message && kind_has_id(ret->kind) && !kind_id_of(ret->kind, ret->message, ret->size))
        return err_set(e, ERR_CORRUPT, "change set: change %zu: %s %llu has no id of %d bytes", at,
                       kind_name(ret->kind), (unsigned long long)ret->number, KIND_ID_BYTES);
    return 0;
}

static bool is_head(const struct field *f)
{
    return f->tag < SET_CHANGES && f->type == (f->tag == SET_MAGIC ? FIELD_FIXED32 : FIELD_VARINT);
}

int change_set_read(const void *data, size_t size, struct change_set *ret, struct err *e)
{
    struct field_reader r = field_read(data, size);
    uint64_t head[SET_CHANGES] = {0};
    struct field f;
    size_t count = 0, head_seen = 0;

    if (size > CHANGE_SET_MAX)
        return err_set(e, ERR_CORRUPT, "change set: %zu bytes, more than %d", size, CHANGE_SET_MAX);
    while (field_next(&r, &f)) {
        if (count == 0 && head_seen == 0 && (f.tag != SET_MAGIC || !is_head(&f) || f.value != CHANGE_MAGIC))
            return err_set(e, ERR_CORRUPT, "change set: does not begin with \"SCS\" and version 1");
        if (f.tag < SET_CHANGES) {
            if (!is_head(&f))
                return err_set(e, ERR_CORRUPT, "change set: field %u is of type %d", f.tag, f.type);
            head[f.tag] = f.value;
            head_seen |= (size_t)1 << f.tag;
        } else if (f.tag == SET_CHANGES) {
            struct change c;

            if (f.type != FIELD_BYTES)
                return err_set(e, ERR_CORRUPT, "change set: field %u is of type %d", f.tag, f.type);
            int rc = read_change(&f, count, &c, e);
            if (rc < 0)
                return rc;
            if (++count > CHANGE_COUNT_MAX)
                return err_set(e, ERR_CORRUPT, "change set: more than %d changes", CHANGE_COUNT_MAX);
        }
    }
    if (r.bad)
        return err_set(e, ERR_CORRUPT, "change set: cut off or malformed after change %zu", count);
    for (unsigned tag = SET_MAGIC; tag < SET_CHANGES; tag++)
        if (!(head_seen & (size_t)1 << tag))
            return err_set(e, ERR_CORRUPT, "change set: field %u is missing", tag);
    if (head[SET_FEATURE_LEVEL] > STORE_FEATURE_LEVEL)
        return err_set(e, ERR_CORRUPT, "change set: needs feature level %llu, this version offers %d",
                       (unsigned long long)head[SET_FEATURE_LEVEL], STORE_FEATURE_LEVEL);
    *ret = (struct change_set){
        .planned_on = head[SET_PLANNED_ON],
        .cluster_ms = (int64_t)head[SET_CLUSTER_MS],
        .feature_level = (uint32_t)head[SET_FEATURE_LEVEL],
        .count = count,
        .reader = field_read(data, size),
    };
    return 0;
}

bool change_next(struct change_set *set, struct change *ret)
{
    struct field f;

    while (field_next(&set->reader, &f)) {
        if (f.tag != SET_CHANGES)
            continue;
        int rc = read_change(&f, 0, ret, NULL);
        assert(rc == 0); /* change_set_read saw the same bytes */
        return true;
    }
    return false;
}

static void put_number(struct buf *out, uint8_t key, uint64_t value)
{
    uint8_t *at = (uint8_t *)buf_reserve(out, 1 + VARINT_MAX);

    at[0] = key;
    buf_added(out, 1 + varint_put(at + 1, value));
}

void change_set_begin(struct buf *out, uint64_t planned_on, int64_t cluster_ms)
{
    static const uint8_t magic[] = {KEY(SET_MAGIC, FIELD_FIXED32), 'S', 'C', 'S', 1};

    buf_append(out, magic, sizeof(magic));
    put_number(out, KEY(SET_PLANNED_ON, FIELD_VARINT), planned_on);
    put_number(out, KEY(SET_CLUSTER_MS, FIELD_VARINT), (uint64_t)cluster_ms);
    put_number(out, KEY(SET_FEATURE_LEVEL, FIELD_VARINT), STORE_FEATURE_LEVEL);
}

static size_t inner_size(const struct change *c)
{
    size_t size = 2 + varint_size((uint64_t)c->kind) + varint_size(c->number);

    return c->message ? size + 1 + varint_size(c->size) + c->size : size;
}

size_t change_size(const struct change *c)
{
    size_t inner = inner_size(c);

    return 1 + varint_size(inner) + inner;
}

void change_put(struct buf *out, const struct change *c)
{
    put_number(out, KEY(SET_CHANGES, FIELD_BYTES), inner_size(c));
    put_number(out, KEY(CHANGE_KIND, FIELD_VARINT), (uint64_t)c->kind);
    put_number(out, KEY(CHANGE_NUMBER, FIELD_VARINT), c->number);
    if (c->message) {
        put_number(out, KEY(CHANGE_MESSAGE, FIELD_BYTES), c->size);
        buf_append(out, c->message, c->size);
    }
}
