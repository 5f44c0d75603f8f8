/* An index from what a store holds (index.h). Apart from the rest of the index, because it reads views and so is
 * not pure. Kinds come in the order in which they name each other, so that few placeholders are made. */
#include "manager/index.h"
#include "proto/base/arena.h"

#define ARENA_FULL (1024 * 1024) /* bytes of messages after which the arena is emptied */

struct index *index_rebuild(struct store *s)
{
    static const enum kind kinds[] = {KIND_CLUSTER, KIND_NODE,   KIND_SERVICE, KIND_SPEC,
                                      KIND_TASK,    KIND_STATUS, KIND_REQUEST};
    struct index *x = index_new();
    struct view *v = view_begin(s);
    struct arena arena;

    arena_init(&arena);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        for (uint64_t number = 0; (number = view_next(v, kinds[i], number));) {
            struct object object;

            if (view_get(v, kinds[i], number, &arena, &object) == 0)
                index_apply(x, NULL, &object);
            if (arena.total_bytes > ARENA_FULL)
                arena_reset(&arena);
        }
    }
    view_end(v);
    arena_fini(&arena);
    return x;
}
