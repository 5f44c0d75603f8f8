/* See assigned.h. */
#include <stdlib.h>

#include "proto/base/mem.h"
#include "proto/base/siphash.h"
#include "proto/wire/assigned.h"

uint64_t assigned_digest(const AssignmentItem *item)
{
    size_t size = assignment_item__get_packed_size(item);
    AUTO_FREE
    uint8_t *packed = mem_alloc(size);

    assignment_item__pack(item, packed);
    return siphash(0, 0, packed, size);
}
