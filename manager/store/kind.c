/* See kind.h: one table, and readers of what it points to.
 *
 * The name of a node is its host's name and need not be unique; names of services and networks are kept unique by
 * the API, which looks before it puts. The index takes duplicates either way: a name leads to all numbers that have
 * it. */
#include "manager/store/kind.h"
#include "proto/base/field.h"
#include "proto/base/mem.h"

static const struct {
    const char *name;                          /* in messages and as the table's name on disk */
    const ProtobufCMessageDescriptor *message; /* NULL: no kind of ours */
    bool has_id;                               /* the message's field 1 is one */
    bool shares_numbers;                       /* lies under the number of another kind's object */
    uint32_t name_path[3];                     /* tags that lead to the name, ended by 0; {0}: no name */
} kinds[KIND_MAX + 1] = {
    [KIND_CLUSTER] = {"cluster", &cluster__descriptor, .has_id = true},
    [KIND_NODE] = {"node", &node__descriptor, .has_id = true, .name_path = {3, 1}}, /* description.hostname */
    [KIND_SERVICE] = {"service", &service__descriptor, .has_id = true, .name_path = {2}},
    [KIND_SPEC] = {"spec", &spec__descriptor},
    [KIND_TASK] = {"task", &task__descriptor, .has_id = true},
    [KIND_STATUS] = {"status", &status__descriptor, .shares_numbers = true},
    [KIND_NETWORK] = {"network", &network__descriptor, .has_id = true, .name_path = {2, 1}}, /* spec.name */
    [KIND_REQUEST] = {"request", &request__descriptor, .has_id = true},
};

static const uint32_t id_path[] = {1, 0};

static bool known(enum kind k)
{
    return (unsigned)k <= KIND_MAX && kinds[k].message;
}

const ProtobufCMessageDescriptor *kind_message(enum kind k)
{
    return known(k) ? kinds[k].message : NULL;
}

const char *kind_name(enum kind k)
{
    return known(k) ? kinds[k].name : "unknown";
}

bool kind_has_id(enum kind k)
{
    return known(k) && kinds[k].has_id;
}

bool kind_has_name(enum kind k)
{
    return known(k) && kinds[k].name_path[0];
}

bool kind_has_numbers(enum kind k)
{
    return known(k) && !kinds[k].shares_numbers;
}

const uint8_t *kind_id_of(enum kind k, const void *packed, size_t size)
{
    const uint8_t *id;
    size_t length;

    if (!kind_has_id(k) || !field_find_bytes(packed, size, id_path, &id, &length) || length != KIND_ID_BYTES)
        return NULL;
    return id;
}

bool kind_name_of(enum kind k, const void *packed, size_t size, const char **ret, size_t *ret_length)
{
    const uint8_t *name;
    size_t length;

    if (!kind_has_name(k) || !field_find_bytes(packed, size, kinds[k].name_path, &name, &length) || !length)
        return false;
    *ret = (const char *)name;
    *ret_length = length;
    return true;
}

char kind_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool kind_name_equal(const char *a, size_t a_length, const char *b, size_t b_length)
{
    if (a_length != b_length)
        return false;
    for (size_t i = 0; i < a_length; i++)
        if (kind_lower(a[i]) != kind_lower(b[i]))
            return false;
    return true;
}
