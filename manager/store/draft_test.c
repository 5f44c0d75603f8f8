/* Drafts: planning on top of the store, undoing, and what becomes of a draft that was proposed. */
#include "manager/store/change.h"
#include "manager/store/testing.h"
#include "proto/base/map.h"

/* An index as a planner keeps one: it knows of every object by what it was told alone, and checks that what it is
 * told fits what it knows. */
struct follower {
    struct map64 known[KIND_MAX + 1]; /* number to the copy of the packed message */
    size_t calls;
};

struct copy {
    size_t size;
    uint8_t bytes[];
};

static struct copy *copy_of(const struct object *o)
{
    struct copy *copy = mem_alloc(sizeof(*copy) + protobuf_c_message_get_packed_size(o->message));

    copy->size = protobuf_c_message_pack(o->message, copy->bytes);
    return copy;
}

static void follow(void *ctx, uint64_t index, const struct object *before, const struct object *after)
{
    struct follower *f = ctx;
    const struct object *o = after ? after : before;
    struct copy *known = map64_remove(&f->known[o->kind], o->number);

    f->calls++;
    assert_int_equal(known != NULL, before != NULL);
    if (before) {
        struct copy *was = copy_of(before);

        assert_true(was->size == known->size);
        assert_memory_equal(was->bytes, known->bytes, was->size);
        free(was);
        free(known);
    }
    if (after)
        (void)map64_put(&f->known[o->kind], o->number, copy_of(after));
}

static void follower_fini(struct follower *f)
{
    for (int k = 0; k <= KIND_MAX; k++) {
        size_t at = 0;
        void *copy;

        while ((copy = map64_next(&f->known[k], &at)))
            free(copy);
        map64_fini(&f->known[k]);
    }
}

/* The index holds exactly what the store has. */
static void assert_follows(struct follower *f, struct store *s)
{
    struct view *v = view_begin(s);

    for (int k = 0; k <= KIND_MAX; k++) {
        size_t count = 0;

        for (uint64_t n = 0; (n = view_next(v, (enum kind)k, n)); count++) {
            struct copy *copy = map64_get(&f->known[k], n);
            const void *data;
            struct object o;
            size_t size;

            assert_non_null(copy);
            assert_int_equal(view_get_packed(v, (enum kind)k, n, &data, &size, &o), 0);
            assert_true(copy->size == size);
            assert_memory_equal(copy->bytes, data, size);
        }
        assert_int_equal(f->known[k].count, count);
    }
    view_end(v);
}

static void rig_follow(struct rig *r, struct follower *f)
{
    rig_start(r);
    *f = (struct follower){0};
    r->changed = follow;
    r->ctx = f;
}

static void draft_shows_what_was_put_and_the_store_does_not(void **state)
{
    struct object o, again;
    struct rig r;

    rig_start(&r);
    struct draft *d = rig_draft(&r);
    uint64_t n = put_service(d, 1, "web");
    assert_int_equal(draft_get(d, KIND_SERVICE, n, &o), 0);
    assert_string_equal(((const Service *)o.message)->name, "web");
    assert_true(o.version == 0 && o.created_ms == draft_ms(d) && o.kind == KIND_SERVICE && o.number == n);
    assert_int_equal(draft_get(d, KIND_SERVICE, n, &again), 0);
    assert_ptr_equal(o.message, again.message);
    assert_int_equal(draft_get(d, KIND_SERVICE, n + 1, &o), ERR_NOT_FOUND);
    assert_int_equal(draft_get(d, KIND_SERVICE, 0, &o), ERR_NOT_FOUND);
    assert_int_equal(draft_get(d, (enum kind)8, 1, &o), ERR_NOT_FOUND);
    assert_int_equal(draft_get(d, (enum kind)77, 1, &o), ERR_NOT_FOUND);
    struct view *v = view_begin(r.s);
    assert_int_equal(view_find_name(v, KIND_SERVICE, "web"), 0);
    view_end(v);
    draft_end(d, false);
    rig_stop(&r);
}

static void message_is_copied(void **state)
{
    char name[] = "web";
    struct object o;
    struct rig r;

    rig_start(&r);
    struct draft *d = rig_draft(&r);
    uint64_t n = put_service(d, 1, name);
    name[0] = 'x';
    assert_int_equal(draft_get(d, KIND_SERVICE, n, &o), 0);
    assert_string_equal(((const Service *)o.message)->name, "web");
    draft_end(d, false);
    rig_stop(&r);
}

static void draft_reads_through_to_the_store(void **state)
{
    struct object o;
    struct rig r;

    rig_start(&r);
    struct draft *d = rig_draft(&r);
    uint64_t n = put_service(d, 1, "web");
    rig_commit(&r, d);
    d = rig_draft(&r);
    assert_int_equal(draft_get(d, KIND_SERVICE, n, &o), 0);
    assert_int_equal(o.version, 1);
    assert_true(draft_find_name(d, KIND_SERVICE, "WEB") == n);
    assert_true(draft_find_id(d, KIND_SERVICE, id_of(1)) == n);
    assert_true(draft_empty(d) && draft_objects(d) == 0); /* looking is no change */
    draft_end(d, false);
    rig_stop(&r);
}

static void ids_and_names_follow_every_step(void **state)
{
    struct rig r;

    rig_start(&r);
    struct draft *d = rig_draft(&r);
    uint64_t old = put_service(d, 1, "old"), other = put_service(d, 2, "other");
    rig_commit(&r, d);
    d = rig_draft(&r);
    Service m = SERVICE__INIT;
    m.id = ID(1);
    m.name = (char *)"new";
    draft_put(d, KIND_SERVICE, old, &m.base); /* renamed */
    assert_int_equal(draft_find_name(d, KIND_SERVICE, "old"), 0);
    assert_true(draft_find_name(d, KIND_SERVICE, "New") == old);
    uint64_t taken = put_service(d, 3, "old"); /* the free name is taken */
    assert_true(draft_find_name(d, KIND_SERVICE, "old") == taken);
    assert_true(draft_find_id(d, KIND_SERVICE, id_of(3)) == taken);
    size_t mark = draft_mark(d);
    draft_delete(d, KIND_SERVICE, other);
    assert_int_equal(draft_find_name(d, KIND_SERVICE, "other"), 0);
    assert_int_equal(draft_find_id(d, KIND_SERVICE, id_of(2)), 0);
    m.name = (char *)"third";
    draft_put(d, KIND_SERVICE, old, &m.base);
    assert_int_equal(draft_find_name(d, KIND_SERVICE, "new"), 0);
    draft_undo(d, mark);
    assert_true(draft_find_name(d, KIND_SERVICE, "other") == other);
    assert_true(draft_find_id(d, KIND_SERVICE, id_of(2)) == other);
    assert_true(draft_find_name(d, KIND_SERVICE, "new") == old);
    assert_int_equal(draft_find_name(d, KIND_SERVICE, "third"), 0);
    draft_undo(d, 0);
    assert_true(draft_find_name(d, KIND_SERVICE, "old") == old);
    assert_int_equal(draft_find_id(d, KIND_SERVICE, id_of(3)), 0);
    assert_int_equal(draft_find_name(d, KIND_TASK, "old"), 0);
    assert_int_equal(draft_find_name(d, KIND_SERVICE, ""), 0);
    assert_int_equal(draft_find_id(d, KIND_STATUS, id_of(1)), 0);
    draft_end(d, false);
    rig_stop(&r);
}

static void number_of_an_undone_object_is_given_again_with_its_own_id_and_name(void **state)
{
    struct rig r;

    rig_start(&r);
    struct draft *d = rig_draft(&r);
    uint64_t first = put_service(d, 1, "one");
    draft_undo(d, 0);
    uint64_t second = put_service(d, 2, "two");
    assert_true(first == second);
    assert_true(draft_find_id(d, KIND_SERVICE, id_of(2)) == second);
    assert_true(draft_find_name(d, KIND_SERVICE, "two") == second);
    assert_int_equal(draft_find_id(d, KIND_SERVICE, id_of(1)), 0);
    assert_int_equal(draft_find_name(d, KIND_SERVICE, "one"), 0);
    rig_commit(&r, d);
    assert_int_equal(store_count(r.s, KIND_SERVICE), 1);
    rig_stop(&r);
}

static void undo_walks_back_to_the_mark_and_indexes_follow(void **state)
{
    struct follower f;
    struct object o;
    struct rig r;

    rig_follow(&r, &f);
    struct draft *d = rig_draft(&r);
    uint64_t a = put_task(d, 1, 1, 1);
    put_status(d, a, TASK_STATE__NEW, "new");
    size_t mark = draft_mark(d), bytes = draft_bytes(d);
    (void)put_task(d, 2, 1, 2);
    put_status(d, a, TASK_STATE__PENDING, "pending");
    put_status(d, a, TASK_STATE__ASSIGNED, "assigned");
    draft_delete(d, KIND_TASK, a);
    assert_int_equal(draft_get(d, KIND_STATUS, a, &o), ERR_NOT_FOUND);
    assert_int_equal(draft_objects(d), 1); /* task 2: the other was never anywhere */
    draft_undo(d, mark);
    assert_true(draft_objects(d) == 2 && draft_bytes(d) == bytes);
    assert_int_equal(draft_get(d, KIND_STATUS, a, &o), 0);
    assert_string_equal(((const Status *)o.message)->message, "new");
    assert_int_equal(draft_get(d, KIND_TASK, a + 1, &o), ERR_NOT_FOUND);
    rig_commit(&r, d);
    assert_follows(&f, r.s);

    d = rig_draft(&r); /* now with objects that the store has */
    put_status(d, a, TASK_STATE__RUNNING, "running");
    draft_delete(d, KIND_TASK, a);
    draft_end(d, false);
    assert_follows(&f, r.s);
    follower_fini(&f);
    rig_stop(&r);
}

static void status_goes_with_its_task(void **state)
{
    struct follower f;
    struct rig r;

    rig_follow(&r, &f);
    struct draft *d = rig_draft(&r);
    uint64_t a = put_task(d, 1, 1, 1), b = put_task(d, 2, 1, 2);
    put_status(d, a, TASK_STATE__NEW, "a");
    put_status(d, b, TASK_STATE__NEW, "b");
    rig_commit(&r, d);
    d = rig_draft(&r);
    draft_delete(d, KIND_TASK, a);
    draft_delete(d, KIND_TASK, a); /* once more is nothing */
    draft_delete(d, KIND_STATUS, a);
    draft_delete(d, KIND_TASK, 12345); /* nor one that never was */
    rig_commit(&r, d);
    assert_true(store_count(r.s, KIND_TASK) == 1 && store_count(r.s, KIND_STATUS) == 1);
    assert_follows(&f, r.s);
    follower_fini(&f);
    rig_stop(&r);
}

static void packed_set_says_each_object_once_and_is_as_long_as_was_said(void **state)
{
    AUTO_BUF
    struct buf out = {0};
    struct change_set set;
    struct change c;
    struct rig r;

    rig_start(&r);
    struct draft *d = rig_draft(&r);
    uint64_t a = put_task(d, 1, 1, 1);
    rig_commit(&r, d);
    d = rig_draft(&r);
    for (int i = 0; i < 10; i++)
        put_status(d, a, TASK_STATE__NEW, "again and again");
    draft_delete(d, KIND_TASK, put_task(d, 2, 1, 2)); /* never was */
    draft_delete(d, KIND_TASK, a);
    assert_int_equal(draft_objects(d), 1); /* the task; its status was never stored */
    buf_append_str(&out, "before");        /* packing appends */
    draft_pack(d, &out);
    assert_memory_equal(buf_bytes(&out), "before", 6);
    assert_int_equal(change_set_read(buf_bytes(&out) + 6, out.length - 6, &set, NULL), 0);
    assert_true(set.count == 1 && set.planned_on == 1 && set.cluster_ms == draft_ms(d));
    assert_true(change_next(&set, &c) && c.kind == KIND_TASK && c.number == a && !c.message);
    assert_false(change_next(&set, &c));
    assert_in_range(out.length - 6, draft_bytes(d) - 40, draft_bytes(d));
    draft_end(d, false);

    d = rig_draft(&r);
    for (uint64_t i = 0; i < 500; i++)
        put_status(d, put_task(d, 100 + i, 1, i), TASK_STATE__NEW, "created");
    buf_clear(&out);
    draft_pack(d, &out);
    assert_in_range(out.length, draft_bytes(d) - 40, draft_bytes(d));
    assert_int_equal(draft_objects(d), 1000);
    draft_end(d, false);
    rig_stop(&r);
}

/* --- a proposed draft ------------------------------------------------------------------------------------ */

/* Another leader's change set: puts network `number`. */
static void foreign_set(struct buf *out, uint64_t planned_on, uint64_t number)
{
    uint8_t packed[64];
    Network m = NETWORK__INIT;

    m.id = ID(number + 1000);
    buf_clear(out);
    change_set_begin(out, planned_on, 1700000000000);
    change_put(out, &(struct change){KIND_NETWORK, number, packed, network__pack(&m, packed)});
}

static void own_entry_is_not_told_twice(void **state)
{
    AUTO_BUF
    struct buf set = {0};
    struct follower f;
    struct rig r;

    for (int when = 0; when < 2; when++) { /* the draft is ended before, or after it was applied */
        rig_follow(&r, &f);
        struct draft *d = rig_draft(&r);
        (void)put_service(d, 1, "web");
        buf_clear(&set);
        draft_pack(d, &set);
        if (when == 0)
            draft_end(d, true);
        assert_int_equal(f.calls, 1);
        assert_int_equal(rig_apply(&r, NULL, 0, NULL), 0); /* a barrier comes in between */
        assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, NULL), 0);
        assert_int_equal(f.calls, 1);
        assert_follows(&f, r.s);
        if (when == 1)
            draft_end(d, true);
        assert_int_equal(f.calls, 1);
        assert_null(r.s->draft);
        follower_fini(&f);
        rig_stop(&r);
    }
}

static void draft_ended_without_keeping_after_it_was_applied_is_not_undone(void **state)
{
    AUTO_BUF
    struct buf set = {0};
    struct follower f;
    struct object o;
    struct rig r;

    rig_follow(&r, &f);
    struct draft *d = rig_draft(&r);
    uint64_t n = put_service(d, 1, "web");
    draft_pack(d, &set);
    assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, NULL), 0);
    assert_true(draft_stale(d));
    assert_int_equal(draft_get(d, KIND_SERVICE, n, &o), 0); /* as the store has it now */
    assert_int_equal(o.version, 1);
    draft_end(d, false);
    assert_int_equal(f.calls, 1);
    assert_follows(&f, r.s);
    follower_fini(&f);
    rig_stop(&r);
}

static void draft_that_was_overtaken_is_undone_before_the_other_set_is_told(void **state)
{
    AUTO_BUF
    struct buf set = {0}, other = {0};
    struct follower f;
    struct rig r;

    for (int ended = 0; ended < 2; ended++) {
        rig_follow(&r, &f);
        struct draft *d = rig_draft(&r);
        (void)put_service(d, 1, "web");
        rig_commit(&r, d);
        d = rig_draft(&r);
        draft_delete(d, KIND_SERVICE, 1);
        (void)put_network(d, 1, "mine");
        buf_clear(&set);
        draft_pack(d, &set);
        if (ended)
            draft_end(d, true);
        foreign_set(&other, 1, 1); /* the same number, another network */
        assert_int_equal(rig_apply(&r, buf_bytes(&other), other.length, NULL), 0);
        assert_follows(&f, r.s);
        if (!ended)
            assert_true(draft_stale(d) && draft_empty(d));
        assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, NULL), 0); /* comes late: void */
        assert_true(store_was_discarded(r.s, 3));
        assert_follows(&f, r.s);
        if (!ended)
            draft_end(d, true);
        assert_follows(&f, r.s);
        assert_int_equal(store_count(r.s, KIND_SERVICE), 1);
        follower_fini(&f);
        rig_stop(&r);
        buf_clear(&other);
    }
    buf_fini(&other);
}

static void stale_draft_goes_on_from_the_new_state_and_its_set_is_void(void **state)
{
    AUTO_BUF
    struct buf set = {0}, other = {0};
    struct follower f;
    struct object o;
    struct rig r;

    rig_follow(&r, &f);
    struct draft *d = rig_draft(&r);
    (void)put_network(d, 1, "mine");
    foreign_set(&other, 0, 1);
    assert_int_equal(rig_apply(&r, buf_bytes(&other), other.length, NULL), 0);
    assert_int_equal(draft_get(d, KIND_NETWORK, 1, &o), 0);
    assert_true(o.version == 1);
    assert_int_equal(put_network(d, 2, "second"), 2); /* not the number that is taken */
    draft_pack(d, &set);
    draft_end(d, true);
    assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, NULL), 0);
    assert_true(store_was_discarded(r.s, 2));
    assert_follows(&f, r.s);
    buf_fini(&other);
    follower_fini(&f);
    rig_stop(&r);
}

static void dropped_proposal_is_told_like_any_other_when_it_comes_after_all(void **state)
{
    AUTO_BUF
    struct buf set = {0};
    struct follower f;
    struct rig r;

    rig_follow(&r, &f);
    struct draft *d = rig_draft(&r);
    (void)put_service(d, 1, "web");
    draft_pack(d, &set);
    draft_end(d, true);
    store_drop_proposed(r.s);
    store_drop_proposed(r.s); /* nothing is left */
    assert_int_equal(f.calls, 2);
    assert_follows(&f, r.s);
    assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, NULL), 0);
    assert_int_equal(f.calls, 3);
    assert_follows(&f, r.s);
    follower_fini(&f);
    rig_stop(&r);
}

static void next_draft_drops_a_proposal_that_never_came(void **state)
{
    struct follower f;
    struct rig r;
    AUTO_BUF
    struct buf set = {0};

    rig_follow(&r, &f);
    struct draft *d = rig_draft(&r);
    (void)put_service(d, 1, "lost");
    draft_pack(d, &set);
    draft_end(d, true);
    d = rig_draft(&r);
    assert_int_equal(draft_find_name(d, KIND_SERVICE, "lost"), 0);
    (void)put_service(d, 2, "web");
    rig_commit(&r, d);
    assert_follows(&f, r.s);
    follower_fini(&f);
    rig_stop(&r);
}

static void own_and_others_entries_in_one_turn(void **state)
{
    AUTO_BUF
    struct buf set = {0}, other = {0};
    struct follower f;
    struct rig r;

    rig_follow(&r, &f);
    struct draft *d = rig_draft(&r);
    (void)put_service(d, 1, "web");
    draft_pack(d, &set);
    draft_end(d, true);
    foreign_set(&other, 1, 1);
    struct store_entry entries[] = {{1, buf_bytes(&set), set.length}, {2, buf_bytes(&other), other.length}};
    assert_int_equal(store_apply(r.s, entries, 2, follow, &f, NULL), 0);
    assert_int_equal(f.calls, 2);
    assert_follows(&f, r.s);
    assert_null(r.s->draft);
    buf_fini(&other);
    follower_fini(&f);
    rig_stop(&r);
}

static void draft_put_after_packing_is_packed_again(void **state)
{
    AUTO_BUF
    struct buf first = {0}, second = {0};
    struct follower f;
    struct rig r;

    rig_follow(&r, &f);
    struct draft *d = rig_draft(&r);
    (void)put_service(d, 1, "web");
    draft_pack(d, &first);
    (void)put_service(d, 2, "db");
    draft_pack(d, &second);
    draft_end(d, true);
    assert_int_equal(rig_apply(&r, buf_bytes(&first), first.length, NULL), 0); /* is not this draft's entry */
    assert_int_equal(store_count(r.s, KIND_SERVICE), 1);
    assert_follows(&f, r.s);
    buf_fini(&second);
    follower_fini(&f);
    rig_stop(&r);
}

static void closing_forgets_a_proposal(void **state)
{
    AUTO_BUF
    struct buf set = {0};
    struct follower f;
    struct rig r;

    rig_follow(&r, &f);
    struct draft *d = rig_draft(&r);
    (void)put_service(d, 1, "web");
    draft_pack(d, &set);
    draft_end(d, true);
    rig_stop(&r);
    assert_int_equal(f.calls, 1);
    follower_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draft_shows_what_was_put_and_the_store_does_not),
        cmocka_unit_test(message_is_copied),
        cmocka_unit_test(draft_reads_through_to_the_store),
        cmocka_unit_test(ids_and_names_follow_every_step),
        cmocka_unit_test(number_of_an_undone_object_is_given_again_with_its_own_id_and_name),
        cmocka_unit_test(undo_walks_back_to_the_mark_and_indexes_follow),
        cmocka_unit_test(status_goes_with_its_task),
        cmocka_unit_test(packed_set_says_each_object_once_and_is_as_long_as_was_said),
        cmocka_unit_test(own_entry_is_not_told_twice),
        cmocka_unit_test(draft_ended_without_keeping_after_it_was_applied_is_not_undone),
        cmocka_unit_test(draft_that_was_overtaken_is_undone_before_the_other_set_is_told),
        cmocka_unit_test(stale_draft_goes_on_from_the_new_state_and_its_set_is_void),
        cmocka_unit_test(dropped_proposal_is_told_like_any_other_when_it_comes_after_all),
        cmocka_unit_test(next_draft_drops_a_proposal_that_never_came),
        cmocka_unit_test(own_and_others_entries_in_one_turn),
        cmocka_unit_test(draft_put_after_packing_is_packed_again),
        cmocka_unit_test(closing_forgets_a_proposal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
