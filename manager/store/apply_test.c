/* Applying and the feed: each change is told once, as it was and as it is; what does not fit is left out whole. */
#include "manager/store/change.h"
#include "manager/store/testing.h"

struct seen {
    struct buf text;
};

static void note(void *ctx, uint64_t index, const struct object *before, const struct object *after)
{
    const struct object *o = after ? after : before;
    struct seen *seen = ctx;

    buf_printf(&seen->text, "%llu:%s%llu:%s%s ", (unsigned long long)index, kind_name(o->kind),
               (unsigned long long)o->number, before ? "-" : "", after ? "+" : "");
    if (before)
        assert_true(before->message && before->number == o->number && before->kind == o->kind);
}

static void assert_seen(struct seen *seen, const char *expected)
{
    assert_string_equal(buf_str(&seen->text), expected);
    buf_clear(&seen->text);
}

/* A change set made by a store of its own, as another leader would. */
static void set_of(struct buf *out, uint64_t planned_on, const char *name, uint64_t number)
{
    Service m = SERVICE__INIT;
    uint8_t packed[128];

    m.id = ID(number);
    m.name = (char *)name;
    change_set_begin(out, planned_on, 1700000000000);
    change_put(out, &(struct change){KIND_SERVICE, number, packed, service__pack(&m, packed)});
}

static void changed_tells_each_record_before_and_after(void **state)
{
    AUTO_BUF
    struct buf set = {0};
    struct seen seen = {0};
    struct rig r;

    rig_start(&r);
    r.changed = note;
    r.ctx = &seen;
    set_of(&set, 0, "web", 1);
    assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, NULL), 0);
    assert_seen(&seen, "1:service1:+ ");
    buf_clear(&set);
    set_of(&set, 1, "shop", 1);
    change_put(&set, &(struct change){KIND_SERVICE, 9, NULL, 0}); /* a delete of nothing is no change */
    assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, NULL), 0);
    assert_seen(&seen, "2:service1:-+ ");
    buf_clear(&set);
    change_set_begin(&set, 2, 1700000000000);
    change_put(&set, &(struct change){KIND_SERVICE, 1, NULL, 0});
    assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, NULL), 0);
    assert_seen(&seen, "3:service1:- ");
    buf_fini(&seen.text);
    rig_stop(&r);
}

static void entries_of_a_turn_build_on_each_other(void **state)
{
    struct buf sets[3] = {0};
    struct store_entry entries[5];
    struct rig r;

    rig_start(&r);
    set_of(&sets[0], 0, "a", 1);
    set_of(&sets[1], 1, "b", 2);
    set_of(&sets[2], 4, "c", 3); /* on the set at 4, not on the barrier at 5 */
    entries[0] = (struct store_entry){1, buf_bytes(&sets[0]), sets[0].length};
    entries[1] = (struct store_entry){3, NULL, 0};
    entries[2] = (struct store_entry){4, buf_bytes(&sets[1]), sets[1].length};
    entries[3] = (struct store_entry){5, NULL, 0};
    entries[4] = (struct store_entry){6, buf_bytes(&sets[2]), sets[2].length};
    assert_int_equal(store_apply(r.s, entries, 5, NULL, NULL, NULL), 0);
    assert_true(store_applied(r.s) == 6 && store_count(r.s, KIND_SERVICE) == 3 && store_discarded(r.s) == 0);
    assert_int_equal(store_apply(r.s, NULL, 0, NULL, NULL, NULL), 0);
    for (int i = 0; i < 3; i++)
        buf_fini(&sets[i]);
    rig_stop(&r);
}

static void set_planned_on_another_state_is_discarded_whole(void **state)
{
    AUTO_BUF
    struct buf set = {0};
    struct seen seen = {0};
    struct rig r;

    rig_start(&r);
    set_of(&set, 0, "web", 1);
    assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, NULL), 0);
    uint64_t digest = store_digest(r.s);
    r.changed = note;
    r.ctx = &seen;
    assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, NULL), 0); /* again, planned on 0 */
    assert_true(store_applied(r.s) == 2 && store_digest(r.s) == digest);
    assert_true(store_discarded(r.s) == 1 && store_was_discarded(r.s, 2) && !store_was_discarded(r.s, 1));
    assert_seen(&seen, "");
    buf_clear(&set);
    set_of(&set, 1, "db", 2); /* the discarded one is none to build on */
    assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, NULL), 0);
    assert_int_equal(store_count(r.s, KIND_SERVICE), 2);
    for (int i = 0; i < 70; i++)
        assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, NULL), 0);
    assert_int_equal(store_discarded(r.s), 71);
    assert_true(store_was_discarded(r.s, 73) && store_was_discarded(r.s, 10) && !store_was_discarded(r.s, 9));
    buf_fini(&seen.text);
    rig_stop(&r);
}

static void bytes_that_are_no_change_set_stop_the_manager_and_change_nothing(void **state)
{
    static const char *const garbage[] = {"",
                                          "hello",
                                          "\x0dSCS\x02\x10\x01\x18\x01\x20\x01",
                                          "\x0dSCS\x01",
                                          "\x0dSCS\x01\x10\x01\x18\x01\x20\x02" /* feature level 2 */,
                                          "\x0dSCS\x01\x10\x01\x18\x01\x20\x01\x2a\x04\x08\x05\x10" /* cut off */};
    AUTO_BUF
    struct buf good = {0}, bad = {0};
    struct rig r;
    struct err e;

    rig_start(&r);
    set_of(&good, 0, "web", 1);
    assert_int_equal(rig_apply(&r, buf_bytes(&good), good.length, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
        assert_int_equal(rig_apply(&r, garbage[i], strlen(garbage[i]), &e), ERR_CORRUPT);
        assert_non_null(strstr(e.text, "entry 2"));
    }
    static const struct {
        struct change change;
        const char *text;
    } cases[] = {
        {{(enum kind)8, 1, (const uint8_t *)"", 0}, "kind 8"},
        {{(enum kind)200, 1, (const uint8_t *)"", 0}, "kind 200"},
        {{KIND_TASK, 0, (const uint8_t *)"", 0}, "number 0"},
        {{KIND_TASK, UINT64_MAX, (const uint8_t *)"", 0}, "number 18446744073709551615"},
        {{KIND_TASK, 1, (const uint8_t *)"", 0}, "task 1 has no id"},
        {{KIND_TASK, 1,
          (const uint8_t *)"\x0a\x03"
                           "abc",
          5},
         "task 1 has no id"},
        {{KIND_STATUS, 1,
          (const uint8_t *)"\x0a\x03"
                           "abc",
          5},
         "status 1 is none"},
        {{KIND_STATUS, 1, (const uint8_t *)"", 0}, "status 1 is none"}, /* a required field is missing */
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        buf_clear(&bad);
        change_set_begin(&bad, 1, 0);
        change_put(&bad, &cases[i].change);
        assert_int_equal(rig_apply(&r, buf_bytes(&bad), bad.length, &e), ERR_CORRUPT);
        if (!strstr(e.text, cases[i].text))
            fail_msg("\"%s\" does not say \"%s\"", e.text, cases[i].text);
    }
    assert_true(store_applied(r.s) == 1 && store_count(r.s, KIND_SERVICE) == 1);
    struct store_entry old = {1, NULL, 0};
    assert_int_equal(store_apply(r.s, &old, 1, NULL, NULL, &e), ERR_CORRUPT); /* an entry twice */
    buf_fini(&bad);
    rig_stop(&r);
}

static void map_grows_in_the_middle_of_an_entry_and_tells_each_change_once(void **state)
{
    struct seen seen = {0};
    struct rig r, other;
    AUTO_BUF
    struct buf set = {0};
    struct store_stats before, after;

    rig_init(&r);
    r.map_bytes = 1; /* as small as it gets */
    rig_open(&r);
    rig_start(&other);
    struct draft *d = rig_draft(&other);
    for (uint64_t i = 0; i < 4000; i++)
        (void)put_task(d, i, 1, i);
    draft_pack(d, &set);
    draft_end(d, false);
    store_stats(r.s, &before);
    r.changed = note;
    r.ctx = &seen;
    assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, NULL), 0);
    store_stats(r.s, &after);
    assert_true(after.map_bytes >= 4 * before.map_bytes && after.file_bytes > before.map_bytes);
    size_t count = 0;
    for (const char *at = buf_str(&seen.text); (at = strchr(at, ' ')); at++)
        count++;
    assert_int_equal(count, 4000);
    assert_int_equal(store_count(r.s, KIND_TASK), 4000);
    r.changed = NULL;
    for (uint64_t i = 0; i < 100; i++) { /* and goes on growing by small ones */
        d = rig_draft(&r);
        for (uint64_t k = 0; k < 50; k++)
            (void)put_service(d, i * 50 + k, "x");
        rig_commit(&r, d);
    }
    assert_int_equal(store_count(r.s, KIND_SERVICE), 5000);
    rig_close(&r);
    rig_open(&r);
    assert_int_equal(store_count(r.s, KIND_TASK), 4000);
    buf_fini(&seen.text);
    rig_stop(&r);
    rig_stop(&other);
}

static void stores_fed_the_same_sets_have_equal_digests(void **state)
{
    struct rig a, b;
    AUTO_BUF
    struct buf set = {0};

    rig_start(&a);
    rig_start(&b);
    entropy_seeded_init(&b.entropy, 99); /* another salt */
    for (int i = 0; i < 20; i++) {
        struct draft *d = rig_draft(&a);

        (void)put_task(d, (uint64_t)i, 1, 1);
        put_status(d, (uint64_t)i + 1, TASK_STATE__NEW, "created");
        if (i > 5)
            draft_delete(d, KIND_TASK, (uint64_t)i - 5);
        buf_clear(&set);
        draft_pack(d, &set);
        draft_end(d, true);
        assert_int_equal(rig_apply(&a, buf_bytes(&set), set.length, NULL), 0);
        assert_int_equal(rig_apply(&b, buf_bytes(&set), set.length, NULL), 0);
        assert_true(store_digest(a.s) == store_digest(b.s));
    }
    assert_same_store(a.s, b.s);
    uint64_t digest = store_digest(a.s);
    struct draft *d = rig_draft(&a);
    put_status(d, 20, TASK_STATE__NEW, "crested");
    rig_commit(&a, d);
    assert_true(store_digest(a.s) != digest);
    rig_stop(&a);
    rig_stop(&b);
}

static void cluster_time_never_goes_back(void **state)
{
    AUTO_BUF
    struct buf set = {0};
    struct rig r;

    rig_start(&r);
    set_of(&set, 0, "web", 1);
    assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, NULL), 0);
    buf_clear(&set);
    change_set_begin(&set, 1, 5);
    assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, NULL), 0);
    assert_true(store_cluster_ms(r.s) == 1700000000000);
    struct draft *d = draft_begin(r.s, 3, NULL, NULL);
    assert_true(draft_ms(d) == 1700000000000);
    draft_end(d, false);
    rig_stop(&r);
}

/* --- feed ------------------------------------------------------------------------------------------------ */

static void feed_note(void *ctx, uint64_t index, const struct object *o)
{
    struct buf *text = ctx;

    buf_printf(text, "%llu:%s%llu%s ", (unsigned long long)index, kind_name(o->kind), (unsigned long long)o->number,
               o->message ? "" : "-");
    assert_true(o->version == index);
}

static void feed_tells_what_came_after_an_index(void **state)
{
    AUTO_BUF
    struct buf text = {0};
    struct arena a;
    struct rig r;
    uint64_t seen = 0;

    rig_start(&r);
    arena_init(&a);
    assert_int_equal(store_feed(r.s, 0, &a, feed_note, &text, &seen), 0);
    assert_true(seen == 0 && text.length == 0);
    struct draft *d = rig_draft(&r);
    (void)put_service(d, 1, "a");
    (void)put_service(d, 2, "b");
    rig_commit(&r, d);
    d = rig_draft(&r);
    draft_delete(d, KIND_SERVICE, 1);
    rig_commit(&r, d);
    assert_int_equal(rig_apply(&r, NULL, 0, NULL), 0); /* a barrier */
    assert_int_equal(store_feed(r.s, 0, &a, feed_note, &text, &seen), 0);
    assert_string_equal(buf_str(&text), "1:service1 1:service2 2:service1- ");
    assert_int_equal(seen, 3);
    buf_clear(&text);
    assert_int_equal(store_feed(r.s, 1, &a, feed_note, &text, &seen), 0);
    assert_string_equal(buf_str(&text), "2:service1- ");
    buf_clear(&text);
    assert_int_equal(store_feed(r.s, 3, &a, feed_note, &text, &seen), 0);
    assert_int_equal(text.length, 0);
    assert_int_equal(store_feed_kinds(r.s, 0, FEED_KIND(KIND_TASK), &a, feed_note, &text, &seen), 0);
    assert_true(text.length == 0 && seen == 3); /* nothing of that kind, and looked at to the end */
    assert_int_equal(
        store_feed_kinds(r.s, 1, FEED_KIND(KIND_TASK) | FEED_KIND(KIND_SERVICE), &a, feed_note, &text, &seen), 0);
    assert_string_equal(buf_str(&text), "2:service1- ");
    buf_clear(&text);
    assert_int_equal(store_feed(r.s, 4, &a, feed_note, &text, &seen), ERR_LIMIT); /* ahead of us */
    rig_close(&r);
    rig_open(&r);
    assert_int_equal(store_feed(r.s, 2, &a, feed_note, &text, &seen), ERR_LIMIT); /* not kept over a restart */
    assert_int_equal(store_feed(r.s, 3, &a, feed_note, &text, &seen), 0);
    arena_fini(&a);
    rig_stop(&r);
}

static void check_headers(void *ctx, uint64_t index, const struct object *o)
{
    struct view *v = ctx;
    struct object stored;
    const void *data;
    size_t size;

    if (view_get_packed(v, o->kind, o->number, &data, &size, &stored) < 0 || stored.version != index)
        return; /* written again since */
    assert_true(stored.created_ms == o->created_ms && stored.updated_ms == o->updated_ms);
}

static void feed_gives_headers_as_the_store_has_them(void **state)
{
    struct arena a;
    struct rig r;
    uint64_t seen;

    rig_start(&r);
    arena_init(&a);
    struct draft *d = rig_draft(&r);
    (void)put_task(d, 1, 1, 1);
    (void)put_task(d, 2, 1, 2);
    rig_commit(&r, d);
    d = rig_draft(&r);
    Task m = a_task(1, 1, 1);
    draft_put(d, KIND_TASK, 1, &m.base);
    put_status(d, 1, TASK_STATE__RUNNING, "x");
    rig_commit(&r, d);
    struct view *v = view_begin(r.s);
    assert_int_equal(store_feed(r.s, 0, &a, check_headers, v, &seen), 0);
    view_end(v);
    arena_fini(&a);
    rig_stop(&r);
}

static void feed_evicts_the_oldest_and_says_so(void **state)
{
    AUTO_BUF
    struct buf text = {0};
    struct arena a;
    struct store_stats stats;
    struct rig r;
    uint64_t seen;

    rig_init(&r);
    r.feed_bytes = 4000;
    rig_open(&r);
    arena_init(&a);
    for (uint64_t i = 1; i <= 100; i++) {
        struct draft *d = rig_draft(&r);

        (void)put_service(d, i, "some-service-with-a-name");
        rig_commit(&r, d);
        store_stats(r.s, &stats);
        assert_true(stats.feed_bytes <= 4000);
    }
    assert_int_equal(store_feed(r.s, 1, &a, feed_note, &text, &seen), ERR_LIMIT);
    assert_int_equal(store_feed(r.s, 98, &a, feed_note, &text, &seen), 0);
    assert_string_equal(buf_str(&text), "99:service99 100:service100 ");
    arena_fini(&a);
    rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changed_tells_each_record_before_and_after),
        cmocka_unit_test(entries_of_a_turn_build_on_each_other),
        cmocka_unit_test(set_planned_on_another_state_is_discarded_whole),
        cmocka_unit_test(bytes_that_are_no_change_set_stop_the_manager_and_change_nothing),
        cmocka_unit_test(map_grows_in_the_middle_of_an_entry_and_tells_each_change_once),
        cmocka_unit_test(stores_fed_the_same_sets_have_equal_digests),
        cmocka_unit_test(cluster_time_never_goes_back),
        cmocka_unit_test(feed_tells_what_came_after_an_index),
        cmocka_unit_test(feed_gives_headers_as_the_store_has_them),
        cmocka_unit_test(feed_evicts_the_oldest_and_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
