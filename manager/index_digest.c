/* Digests of messages by what they mean (index.h): two that say the same have the same digest.
 *
 * Clients read a spec, change one number and send it back, and on the way what was absent becomes explicit: a field
 * of value 0, an empty message, keys of a map in another order. None of it may make a task outdated, or scaling a
 * service would restart it. So the digest is taken of a canonical form: fields in the order of the message, those
 * that have the value of an empty message left out, pairs of key and value sorted. Where absent means something
 * else than the empty value (a delay of 5 s), whoever asks fills in the default first. */
#include <string.h>

#include "manager/index_internal.h"
#include "proto/base/buf.h"
#include "proto/base/mem.h"
#include "proto/base/siphash.h"

static void put_message(struct buf *out, const ProtobufCMessage *message);

static size_t scalar_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return 4;
    }
}

static void put_bytes(struct buf *out, const void *data, size_t size)
{
    buf_append(out, &size, sizeof(size));
    if (size)
        buf_append(out, data, size);
}

static void put_value(struct buf *out, ProtobufCType type, const void *at)
{
    if (type == PROTOBUF_C_TYPE_STRING) {
        const char *text = *(char *const *)at;

        put_bytes(out, text, text ? strlen(text) : 0);
    } else if (type == PROTOBUF_C_TYPE_BYTES) {
        put_bytes(out, ((const ProtobufCBinaryData *)at)->data, ((const ProtobufCBinaryData *)at)->len);
    } else if (type == PROTOBUF_C_TYPE_MESSAGE) {
        AUTO_BUF struct buf inner = {0};

        put_message(&inner, *(ProtobufCMessage *const *)at);
        put_bytes(out, buf_bytes(&inner), inner.length);
    } else {
        buf_append(out, at, scalar_size(type));
    }
}

/* The digests of pairs are added up: that is the same in every order, and no key is there twice. */
static void put_pairs(struct buf *out, KeyValue *const *pairs, size_t count)
{
    uint64_t sums[2] = {0};

    for (size_t i = 0; i < count; i++) {
        AUTO_BUF struct buf pair = {0};

        put_message(&pair, &pairs[i]->base);
        for (uint64_t k = 0; k < ARRAY_SIZE(sums); k++)
            sums[k] += siphash(k, 0, buf_bytes(&pair), pair.length);
    }
    buf_append(out, sums, sizeof(sums));
}

static void put_repeated(struct buf *out, const ProtobufCFieldDescriptor *f, const void *list, size_t count)
{
    buf_append(out, &f->id, sizeof(f->id));
    buf_append(out, &count, sizeof(count));
    if (f->type == PROTOBUF_C_TYPE_MESSAGE && f->descriptor == &key_value__descriptor) {
        put_pairs(out, list, count);
        return;
    }
    for (size_t i = 0; i < count; i++)
        put_value(out, f->type, (const char *)list + i * scalar_size(f->type));
}

static bool is_set(const ProtobufCFieldDescriptor *f, const char *message)
{
    bool has_flag = f->label == PROTOBUF_C_LABEL_OPTIONAL && f->type != PROTOBUF_C_TYPE_STRING &&
                    f->type != PROTOBUF_C_TYPE_MESSAGE;

    return !has_flag || *(const protobuf_c_boolean *)(message + f->quantifier_offset);
}

static void put_single(struct buf *out, const ProtobufCFieldDescriptor *f, const char *message, const char *empty)
{
    AUTO_BUF struct buf value = {0}, nothing = {0};

    if (!is_set(f, message))
        return;
    put_value(&value, f->type, message + f->offset);
    put_value(&nothing, f->type, empty + f->offset);
    if (value.length == nothing.length && memcmp(buf_bytes(&value), buf_bytes(&nothing), value.length) == 0)
        return;
    buf_append(out, &f->id, sizeof(f->id));
    buf_append(out, buf_bytes(&value), value.length);
}

static void put_message(struct buf *out, const ProtobufCMessage *message)
{
    if (!message)
        return;
    const ProtobufCMessageDescriptor *d = message->descriptor;
    AUTO_FREE
    void *empty = mem_alloc(d->sizeof_message);
    const char *at = (const char *)message;

    d->message_init(empty);
    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];

        if (f->label != PROTOBUF_C_LABEL_REPEATED) {
            put_single(out, f, at, empty);
        } else {
            size_t count = *(const size_t *)(at + f->quantifier_offset);

            if (count)
                put_repeated(out, f, *(void *const *)(at + f->offset), count);
        }
    }
}

uint64_t index_digest_keyed(const ProtobufCMessage *message, uint64_t key0, uint64_t key1)
{
    AUTO_BUF struct buf canonical = {0};

    put_message(&canonical, message);
    return siphash(key0, key1, buf_str(&canonical), canonical.length);
}

uint64_t index_digest(const ProtobufCMessage *message)
{
    return index_digest_keyed(message, 0, 1);
}

uint32_t index_text_digest(const char *text)
{
    if (!text || !*text)
        return 0;
    uint32_t digest = (uint32_t)siphash(0, 0, text, strlen(text));
    return digest ? digest : 1;
}
