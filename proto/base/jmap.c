/* See jmap.h. Fields are reached through the offsets of protobuf-c's descriptors: a scalar lies at `offset` with
 * its has_ flag at `quantifier_offset`; for a repeated field that is the count, and at `offset` lies a pointer to
 * the array. */
#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/jmap.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"

static const ProtobufCFieldDescriptor *field_of(const struct jmap *map, const struct jmap_field *f)
{
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(map->type, f->field);

    assert(field); /* a table that names what is not there is a bug that the first use shows */
    return field;
}

static bool is_key_value(const ProtobufCFieldDescriptor *field)
{
    return field->label == PROTOBUF_C_LABEL_REPEATED && field->type == PROTOBUF_C_TYPE_MESSAGE &&
           strcmp(((const ProtobufCMessageDescriptor *)field->descriptor)->name, "KeyValue") == 0;
}

static size_t element_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    default:
        return 4; /* 32-bit numbers, float, enum, bool */
    }
}

/* --- reading --------------------------------------------------------------------------------------- */

static int wrong(const json_t *value, const char *path, const char *expected, struct err *e)
{
    char *shown = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

    err_set(e, ERR_INVALID, "invalid %s: expected %s, got %.120s%s", path, expected, shown ? shown : "?",
            shown && strlen(shown) > 120 ? "..." : "");
    free(shown);
    return ERR_INVALID;
}

static int read_enum(const json_t *value, const struct jmap_name *names, const char *path, int *ret, struct err *e)
{
    AUTO_BUF struct buf expected = {0};

    if (json_is_string(value))
        for (const struct jmap_name *name = names; name->text; name++)
            if (strcmp(name->text, json_string_value(value)) == 0) {
                *ret = name->value;
                return 0;
            }
    for (const struct jmap_name *name = names; name->text; name++)
        buf_printf(&expected, "%s\"%s\"", name == names ? "" : name[1].text ? ", " : " or ", name->text);
    return wrong(value, path, buf_str(&expected), e);
}

static int read_integer(const json_t *value, const char *path, json_int_t least, json_int_t most,
                        const char *expected, json_int_t *ret, struct err *e)
{
    if (!json_is_integer(value) || json_integer_value(value) < least || json_integer_value(value) > most)
        return wrong(value, path, expected, e);
    *ret = json_integer_value(value);
    return 0;
}

static int read_value(const json_t *value, const struct jmap_field *f, ProtobufCType type, const char *path,
                      struct arena *a, void *slot, struct err *e)
{
    json_int_t number;
    int rc = 0;

    switch (type) {
    case PROTOBUF_C_TYPE_STRING:
        if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
            return wrong(value, path, "a string", e);
        *(char **)slot = arena_strndup(a, json_string_value(value), json_string_length(value));
        return 0;
    case PROTOBUF_C_TYPE_BOOL:
        if (!json_is_boolean(value))
            return wrong(value, path, "true or false", e);
        *(protobuf_c_boolean *)slot = json_is_true(value);
        return 0;
    case PROTOBUF_C_TYPE_INT64:
        rc = read_integer(value, path, INT64_MIN, INT64_MAX, "a whole number", &number, e);
        if (rc == 0)
            *(int64_t *)slot = number;
        return rc;
    case PROTOBUF_C_TYPE_UINT64:
        rc = read_integer(value, path, 0, INT64_MAX, "a whole number of 0 or more", &number, e);
        if (rc == 0)
            *(uint64_t *)slot = (uint64_t)number;
        return rc;
    case PROTOBUF_C_TYPE_INT32:
        rc = read_integer(value, path, INT32_MIN, INT32_MAX, "a whole number of 32 bits", &number, e);
        if (rc == 0)
            *(int32_t *)slot = (int32_t)number;
        return rc;
    case PROTOBUF_C_TYPE_UINT32:
        rc = read_integer(value, path, 0, UINT32_MAX, "a whole number from 0 to 4294967295", &number, e);
        if (rc == 0)
            *(uint32_t *)slot = (uint32_t)number;
        return rc;
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        if (!json_is_number(value))
            return wrong(value, path, "a number", e);
        if (type == PROTOBUF_C_TYPE_FLOAT)
            *(float *)slot = (float)json_number_value(value);
        else
            *(double *)slot = json_number_value(value);
        return 0;
    case PROTOBUF_C_TYPE_ENUM:
        return read_enum(value, f->names, path, slot, e);
    case PROTOBUF_C_TYPE_MESSAGE:
        if (!json_is_object(value))
            return wrong(value, path, "an object", e);
        return jmap_read(value, f->sub, path, a, slot, e);
    default:
        abort(); /* a table for a type that JSON has no form for */
    }
}

static int compare_keys(const void *a, const void *b)
{
    const ProtobufCMessage *const *left = a, *const *right = b;
    const char *const *left_key = (const void *)((const char *)*left + sizeof(ProtobufCMessage)),
                      *const *right_key = (const void *)((const char *)*right + sizeof(ProtobufCMessage));

    return strcmp(*left_key, *right_key);
}

/* An object of texts to repeated KeyValue, sorted by key: encodings are compared. */
static int read_map(const json_t *value, const ProtobufCFieldDescriptor *field, const char *path, struct arena *a,
                    size_t *ret_count, void **ret_array, struct err *e)
{
    const ProtobufCMessageDescriptor *type = field->descriptor;
    const ProtobufCFieldDescriptor *key_field = protobuf_c_message_descriptor_get_field_by_name(type, "key");
    const ProtobufCFieldDescriptor *value_field = protobuf_c_message_descriptor_get_field_by_name(type, "value");
    ProtobufCMessage **array;
    const char *key;
    json_t *member;
    size_t count = 0;

    if (!json_is_object(value))
        return wrong(value, path, "an object of strings", e);
    assert(key_field->offset == sizeof(ProtobufCMessage)); /* compare_keys relies on it */
    array = arena_array(a, json_object_size(value), sizeof(*array));
    json_object_foreach((json_t *)value, key, member)
    {
        if (!json_is_string(member) && !json_is_null(member))
            return wrong(value, path, "an object of strings", e);
        ProtobufCMessage *pair = arena_alloc(a, type->sizeof_message);
        protobuf_c_message_init(type, pair);
        *(char **)((char *)pair + key_field->offset) = arena_strdup(a, key);
        *(char **)((char *)pair + value_field->offset) =
            arena_strdup(a, json_is_string(member) ? json_string_value(member) : "");
        array[count++] = pair;
    }
    qsort(array, count, sizeof(*array), compare_keys);
    *ret_count = count;
    *ret_array = array;
    return 0;
}

static int read_array(const json_t *value, const struct jmap_field *f, const ProtobufCFieldDescriptor *field,
                      const char *path, struct arena *a, size_t *ret_count, void **ret_array, struct err *e)
{
    size_t size = element_size(field->type), count = json_array_size(value);
    int rc = 0;

    if (!json_is_array(value))
        return wrong(value, path, "an array", e);
    char *array = arena_array(a, count, size);
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = read_value(json_array_get(value, i), f, field->type, arena_printf(a, "%s[%zu]", path, i), a,
                        array + i * size, e);
    if (rc < 0)
        return rc;
    *ret_count = count;
    *ret_array = array;
    return 0;
}

static int read_field(const json_t *value, const struct jmap *map, const struct jmap_field *f, const char *path,
                      struct arena *a, ProtobufCMessage *message, struct err *e)
{
    const ProtobufCFieldDescriptor *field = field_of(map, f);
    char *base = (char *)message;
    int rc;

    if (is_key_value(field))
        return read_map(value, field, path, a, (size_t *)(base + field->quantifier_offset),
                        (void **)(base + field->offset), e);
    if (field->label == PROTOBUF_C_LABEL_REPEATED)
        return read_array(value, f, field, path, a, (size_t *)(base + field->quantifier_offset),
                          (void **)(base + field->offset), e);
    rc = read_value(value, f, field->type, path, a, base + field->offset, e);
    if (rc == 0 && field->quantifier_offset)
        *(protobuf_c_boolean *)(base + field->quantifier_offset) = 1;
    return rc;
}

/* "", 0, false, [] and {} ask for nothing. */
static bool asks_for_nothing(const json_t *value)
{
    return json_is_false(value) || (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_number(value) && json_number_value(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

/* Names the value too, unless it is a text of several lines: that is a key or a certificate. */
static int refused(const json_t *member, const char *path, const char *why, struct err *e)
{
    char *shown = json_dumps(member, JSON_ENCODE_ANY | JSON_COMPACT);
    bool is_long = json_is_string(member) && strchr(json_string_value(member), '\n');

    if (!shown || is_long)
        err_set(e, ERR_UNSUPPORTED, "%s: %s", path, why);
    else
        err_set(e, ERR_UNSUPPORTED, "%s (%.60s%s): %s", path, shown, strlen(shown) > 60 ? "..." : "", why);
    free(shown);
    return ERR_UNSUPPORTED;
}

int jmap_read(const json_t *object, const struct jmap *map, const char *path, struct arena *a,
              ProtobufCMessage **ret, struct err *e)
{
    ProtobufCMessage *message = arena_alloc(a, map->type->sizeof_message);
    int rc = json_is_object(object) ? 0 : wrong(object, *path ? path : "request", "an object", e);

    protobuf_c_message_init(map->type, message);
    for (const struct jmap_field *f = map->fields; f->json && rc == 0; f++) {
        json_t *member = jread_get(object, f->json);

        if (!member)
            continue;
        const char *way = *path ? arena_printf(a, "%s.%s", path, f->json) : f->json;
        if (f->refuse) {
            if (!asks_for_nothing(member))
                rc = refused(member, way, f->refuse, e);
        } else if (f->read) {
            rc = f->read(member, way, a, message, e);
        } else {
            rc = read_field(member, map, f, way, a, message, e);
        }
    }
    if (rc == 0)
        *ret = message;
    return rc;
}

/* --- writing --------------------------------------------------------------------------------------- */

/* 0.1f is written as 0.1, not as the double nearest to it. */
static double shortest(float value)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%.7g", (double)value); /* fits */
    return strtod(text, NULL);
}

static void write_value(struct jwrite *j, const char *key, const struct jmap_field *f, ProtobufCType type,
                        const void *slot)
{
    const struct jmap_name *name = f->names;

    switch (type) {
    case PROTOBUF_C_TYPE_STRING:
        jwrite_string(j, key, *(char *const *)slot);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        jwrite_bool(j, key, *(const protobuf_c_boolean *)slot);
        break;
    case PROTOBUF_C_TYPE_INT64:
        jwrite_int(j, key, *(const int64_t *)slot);
        break;
    case PROTOBUF_C_TYPE_UINT64:
        jwrite_uint(j, key, *(const uint64_t *)slot);
        break;
    case PROTOBUF_C_TYPE_INT32:
        jwrite_int(j, key, *(const int32_t *)slot);
        break;
    case PROTOBUF_C_TYPE_UINT32:
        jwrite_uint(j, key, *(const uint32_t *)slot);
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        jwrite_double(j, key, shortest(*(const float *)slot));
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        jwrite_double(j, key, *(const double *)slot);
        break;
    case PROTOBUF_C_TYPE_ENUM:
        while (name->text && name->value != *(const int *)slot)
            name++;
        jwrite_string(j, key, name->text ? name->text : f->names->text);
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        jmap_write(j, key, f->sub, *(ProtobufCMessage *const *)slot);
        break;
    default:
        abort(); /* a table for a type that JSON has no form for */
    }
}

static void write_map(struct jwrite *j, const char *key, const ProtobufCFieldDescriptor *field, size_t count,
                      ProtobufCMessage *const *array)
{
    const ProtobufCMessageDescriptor *type = field->descriptor;
    unsigned key_offset = protobuf_c_message_descriptor_get_field_by_name(type, "key")->offset;
    unsigned value_offset = protobuf_c_message_descriptor_get_field_by_name(type, "value")->offset;

    jwrite_object(j, key);
    for (size_t i = 0; i < count; i++)
        jwrite_string(j, *(char *const *)((const char *)array[i] + key_offset),
                      *(char *const *)((const char *)array[i] + value_offset));
    jwrite_end(j);
}

static void write_repeated(struct jwrite *j, const struct jmap_field *f, const ProtobufCFieldDescriptor *field,
                           const char *base)
{
    size_t count = *(const size_t *)(base + field->quantifier_offset), size = element_size(field->type);
    const char *array = *(char *const *)(base + field->offset);

    if (count == 0 && !f->always)
        return;
    if (is_key_value(field)) {
        write_map(j, f->json, field, count, (ProtobufCMessage *const *)(const void *)array);
        return;
    }
    jwrite_array(j, f->json);
    for (size_t i = 0; i < count; i++)
        write_value(j, NULL, f, field->type, array + i * size);
    jwrite_end(j);
}

static bool is_present(const ProtobufCFieldDescriptor *field, const char *base)
{
    if (field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE)
        return *(void *const *)(base + field->offset) != NULL;
    return field->label == PROTOBUF_C_LABEL_REQUIRED ||
           *(const protobuf_c_boolean *)(base + field->quantifier_offset);
}

void jmap_write_members(struct jwrite *j, const struct jmap *map, const ProtobufCMessage *message)
{
    const char *base = (const char *)message;

    for (const struct jmap_field *f = map->fields; f->json; f++) {
        if (f->secret || f->refuse)
            continue;
        if (f->write) {
            f->write(j, f->json, message);
            continue;
        }
        const ProtobufCFieldDescriptor *field = field_of(map, f);
        if (field->label == PROTOBUF_C_LABEL_REPEATED)
            write_repeated(j, f, field, base);
        else if (f->always || is_present(field, base))
            write_value(j, f->json, f, field->type, base + field->offset);
    }
}

void jmap_write(struct jwrite *j, const char *key, const struct jmap *map, const ProtobufCMessage *message)
{
    jwrite_object(j, key);
    if (message)
        jmap_write_members(j, map, message);
    jwrite_end(j);
}
