/* Snapshots: a state as a stream and back, while the store goes on, and what comes of a stream that is none. */
#include <pthread.h>

#include "manager/store/stream.h"
#include "manager/store/testing.h"
#include "proto/base/field.h"

/* Some of everything, in a few change sets, with gaps. */
static void fill(struct rig *r, uint64_t count)
{
    static char body[5000];

    for (uint64_t i = 0; i < count; i++) {
        struct draft *d = rig_draft(r);
        char name[32];

        (void)snprintf(name, sizeof(name), "svc-%llu", (unsigned long long)i);
        (void)put_service(d, i, name);
        (void)put_node(d, i, i % 2 ? "twin" : name);
        for (uint64_t k = 0; k < 20; k++)
            put_status(d, put_task(d, i * 100 + k, 1, k), TASK_STATE__NEW, "created");
        if (i % 3 == 2)
            draft_delete(d, KIND_TASK, i * 10);
        if (i % 8 == 0) {
            Request m = REQUEST__INIT;

            memset(body, 'b', sizeof(body));
            m.id = ID(i + 500);
            m.has_body = true;
            m.body = (ProtobufCBinaryData){.len = sizeof(body), .data = (uint8_t *)body};
            (void)draft_create(d, KIND_REQUEST, &m.base);
        }
        rig_commit(r, d);
    }
}

static void read_all(struct store_snapshot *p, size_t piece, struct buf *out)
{
    long got;

    while ((got = store_snapshot_read(p, buf_reserve(out, piece), piece, NULL)) > 0)
        buf_added(out, (size_t)got);
    assert_int_equal(got, 0);
}

static int load_all(struct store *s, const struct buf *bytes, size_t piece, struct err *e)
{
    struct store_load *l = store_load_begin(s);
    int rc = 0;

    for (size_t at = 0; at < bytes->length && rc == 0; at += piece)
        rc = store_load_add(l, buf_bytes(bytes) + at, MIN(piece, bytes->length - at), e);
    if (rc < 0) {
        store_load_cancel(l);
        return rc;
    }
    return store_load_end(l, e);
}

static void snapshot_of(struct store *s, struct buf *out)
{
    struct store_snapshot *p = store_snapshot_begin(s);

    read_all(p, 10000, out);
    store_snapshot_end(p);
}

static void loaded_snapshot_is_the_same_state(void **state)
{
    static const size_t pieces[] = {1, 7, 1000, 100000, 10000000};
    AUTO_BUF
    struct buf bytes = {0};
    struct rig a, b;

    rig_start(&a);
    fill(&a, 30);
    for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
        rig_start(&b);
        entropy_seeded_init(&b.entropy, 50 + i);
        fill(&b, 3); /* what was there before is gone afterwards */
        buf_clear(&bytes);
        struct store_snapshot *p = store_snapshot_begin(a.s);
        assert_true(store_snapshot_index(p) == a.index);
        read_all(p, pieces[i], &bytes);
        store_snapshot_end(p);
        assert_int_equal(load_all(b.s, &bytes, pieces[i], NULL), 0);
        assert_same_store(a.s, b.s);
        struct view *v = view_begin(b.s);
        assert_int_equal(view_find_name(v, KIND_SERVICE, "SVC-7"), 8);
        assert_int_equal(view_find_id(v, KIND_TASK, id_of(1705)), 17 * 20 + 6);
        view_end(v);
        b.index = a.index;
        rig_close(&b);
        rig_open(&b);
        assert_same_store(a.s, b.s);
        struct draft *d = rig_draft(&b); /* and the log goes on from there, in both */
        (void)put_service(d, 1000, "next");
        AUTO_BUF
        struct buf set = {0};
        draft_pack(d, &set);
        draft_end(d, true);
        assert_int_equal(rig_apply(&b, buf_bytes(&set), set.length, NULL), 0);
        if (i + 1 == ARRAY_SIZE(pieces)) {
            assert_int_equal(rig_apply(&a, buf_bytes(&set), set.length, NULL), 0);
            assert_same_store(a.s, b.s);
        }
        rig_stop(&b);
    }
    rig_stop(&a);
}

static void empty_store_makes_a_snapshot_too(void **state)
{
    AUTO_BUF
    struct buf bytes = {0};
    struct rig a, b;

    rig_start(&a);
    rig_start(&b);
    fill(&b, 2);
    snapshot_of(a.s, &bytes);
    assert_int_equal(load_all(b.s, &bytes, 100, NULL), 0);
    assert_same_store(a.s, b.s);
    assert_true(store_applied(b.s) == 0 && store_count(b.s, KIND_TASK) == 0);
    rig_stop(&a);
    rig_stop(&b);
}

/* Golden: a manager of another version must read this. */
static void form_of_a_snapshot_stays(void **state)
{
    static const char golden[] =
        "73686f616c737401" /* magic, version */
        "01a8000000"       /* head: 168 bytes */
        "0100000000000000" /* applied */
        "0100000000000000" /* planned */
        "0068e5cf8b010000" /* cluster_ms */
        "0100000000000000" /* feature level */
        "D"                /* digest */
        "0100000000000000" /* next, per kind */
        "0100000000000000"
        "0100000000000000"
        "0200000000000000" /* services: one */
        "010000000000000001000000000000000100000000000000010000000000000001000000000000000100"
        "0000000000000100000000000000010000000000000001000000000000000100000000000000010000"
        "00000000000100000000000000"
        "0224000000"       /* records: 36 bytes */
        "0301"             /* services, number 1 */
        "21"               /* 33 bytes: */
        "0180a0abfef96200" /* version 1, created, updated */
        "0a10I"            /* id */
        "12037765621801"   /* "web", spec version 1 */
        "0310000000"       /* end: */
        "0100000000000000" /* one record */
        "H";               /* hash of the head */
    AUTO_BUF
    struct buf bytes = {0}, text = {0}, expected = {0};
    uint64_t numbers[STREAM_HEAD_NUMBERS];
    struct rig r;

    rig_start(&r);
    struct draft *d = rig_draft(&r);
    (void)put_service(d, 1, "web");
    rig_commit(&r, d);
    snapshot_of(r.s, &bytes);
    for (size_t i = 0; i < bytes.length; i++)
        buf_printf(&text, "%02x", (uint8_t)buf_bytes(&bytes)[i]);
    stream_head(&r.s->state, numbers);
    uint64_t hash;
    memcpy(&hash, buf_bytes(&bytes) + bytes.length - 8, 8);
    for (const char *at = golden; *at; at++) {
        uint64_t number = *at == 'D' ? r.s->state.digest : hash;

        if (*at == 'D' || *at == 'H')
            for (int i = 0; i < 8; i++)
                buf_printf(&expected, "%02x", (uint8_t)(number >> 8 * i));
        else if (*at == 'I')
            for (int i = 0; i < 16; i++)
                buf_printf(&expected, "%02x", id_of(1)[i]);
        else
            buf_append_char(&expected, *at);
    }
    assert_string_equal(buf_str(&text), buf_str(&expected));
    buf_fini(&text);
    buf_fini(&expected);
    rig_stop(&r);
}

static void snapshot_shows_the_state_it_began_with(void **state)
{
    AUTO_BUF
    struct buf bytes = {0}, before = {0}, after = {0};
    struct rig a, b;

    rig_start(&a);
    rig_start(&b);
    fill(&a, 20);
    dump(a.s, &before);
    struct store_snapshot *p = store_snapshot_begin(a.s), *second;
    assert_int_equal(store_snapshot_read(p, buf_reserve(&bytes, 100), 100, NULL), 100);
    buf_added(&bytes, 100);
    struct draft *d = rig_draft(&a);
    for (uint64_t n = 1; n < 100; n++)
        draft_delete(d, KIND_TASK, n);
    rig_commit(&a, d);
    fill(&a, 20);
    second = store_snapshot_begin(a.s); /* of the later state, while the first is read */
    read_all(p, 1000, &bytes);
    store_snapshot_end(p);
    assert_int_equal(load_all(b.s, &bytes, 5000, NULL), 0);
    dump(b.s, &after);
    assert_string_equal(buf_str(&before), buf_str(&after));
    buf_clear(&bytes);
    read_all(second, 1000, &bytes);
    store_snapshot_end(second);
    assert_int_equal(load_all(b.s, &bytes, 5000, NULL), 0);
    assert_same_store(a.s, b.s);
    buf_fini(&before);
    buf_fini(&after);
    rig_stop(&a);
    rig_stop(&b);
}

struct reading {
    struct store_snapshot *p;
    struct buf bytes;
    long rc;
};

static void *read_in_thread(void *ctx)
{
    struct reading *reading = ctx;

    while ((reading->rc = store_snapshot_read(reading->p, buf_reserve(&reading->bytes, 3000), 3000, NULL)) > 0)
        buf_added(&reading->bytes, (size_t)reading->rc);
    return NULL;
}

static void another_thread_reads_while_the_loop_applies(void **state)
{
    AUTO_BUF
    struct buf before = {0}, after = {0};
    pthread_t thread;
    struct rig a, b;

    rig_start(&a);
    rig_start(&b);
    fill(&a, 100);
    for (int round = 0; round < 3; round++) {
        struct reading reading = {.p = store_snapshot_begin(a.s)};

        buf_clear(&before);
        buf_clear(&after);
        dump(a.s, &before);
        assert_int_equal(pthread_create(&thread, NULL, read_in_thread, &reading), 0);
        fill(&a, 10);
        assert_int_equal(pthread_join(thread, NULL), 0);
        store_snapshot_end(reading.p);
        assert_int_equal(reading.rc, 0);
        assert_int_equal(load_all(b.s, &reading.bytes, 5000, NULL), 0);
        dump(b.s, &after);
        assert_string_equal(buf_str(&before), buf_str(&after));
        buf_fini(&reading.bytes);
    }
    buf_fini(&after);
    rig_stop(&a);
    rig_stop(&b);
}

static void snapshot_under_which_the_file_must_grow_is_canceled_not_wrong(void **state)
{
    AUTO_BUF
    struct buf bytes = {0};
    struct err e = {0};
    struct rig r;

    rig_init(&r);
    r.map_bytes = 1;
    rig_open(&r);
    fill(&r, 5);
    struct view *v = view_begin(r.s); /* keeps the snapshot from making room in advance */
    struct store_snapshot *p = store_snapshot_begin(r.s);
    view_end(v);
    assert_int_equal(store_snapshot_read(p, buf_reserve(&bytes, 50), 50, &e), 50);
    fill(&r, 60);
    long got = 1;
    while (got > 0)
        got = store_snapshot_read(p, buf_reserve(&bytes, 1000), 1000, &e);
    assert_int_equal(got, ERR_CANCELED);
    store_snapshot_end(p);
    buf_clear(&bytes);
    snapshot_of(r.s, &bytes); /* another one is whole */
    assert_int_equal(load_all(r.s, &bytes, 1000, NULL), 0);
    rig_stop(&r);
}

static void snapshot_outlives_the_store_and_a_replaced_file(void **state)
{
    AUTO_BUF
    struct buf first = {0}, other = {0}, again = {0};
    struct rig a, b;

    rig_start(&a);
    rig_start(&b);
    fill(&a, 10);
    fill(&b, 3);
    snapshot_of(a.s, &first);
    snapshot_of(b.s, &other);
    struct store_snapshot *p = store_snapshot_begin(a.s);
    assert_int_equal(load_all(a.s, &other, 1000, NULL), 0);
    assert_same_store(a.s, b.s);
    rig_close(&a);
    read_all(p, 1000, &again);
    store_snapshot_end(p);
    assert_int_equal(again.length, first.length);
    assert_memory_equal(buf_bytes(&again), buf_bytes(&first), first.length);
    buf_fini(&other);
    buf_fini(&again);
    rig_stop(&a);
    rig_stop(&b);
}

static void store_is_used_as_before_until_the_load_ends(void **state)
{
    AUTO_BUF
    struct buf bytes = {0}, before = {0}, after = {0};
    struct rig a, b;

    rig_start(&a);
    rig_start(&b);
    fill(&a, 10);
    fill(&b, 4);
    snapshot_of(a.s, &bytes);
    dump(b.s, &before);
    struct store_load *l = store_load_begin(b.s);
    assert_int_equal(store_load_add(l, buf_bytes(&bytes), bytes.length, NULL), 0);
    dump(b.s, &after);
    assert_string_equal(buf_str(&before), buf_str(&after));
    fill(&b, 1); /* also written */
    store_load_cancel(l);
    assert_int_equal(store_count(b.s, KIND_SERVICE), 5);
    l = store_load_begin(b.s);
    assert_int_equal(store_load_add(l, buf_bytes(&bytes), bytes.length / 2, NULL), 0);
    rig_close(&b); /* cancels */
    rig_open(&b);
    assert_int_equal(store_count(b.s, KIND_SERVICE), 5);
    AUTO_FREE
    char *path = mem_printf("%s/" DISK_LOAD, b.dir);
    assert_int_equal(access(path, F_OK), -1);
    buf_fini(&before);
    buf_fini(&after);
    rig_stop(&a);
    rig_stop(&b);
}

static void never_called(void *ctx, uint64_t index, const struct object *before, const struct object *after)
{
    ++*(int *)ctx;
}

static void load_resyncs_the_feed_and_forgets_a_draft(void **state)
{
    AUTO_BUF
    struct buf bytes = {0}, set = {0};
    struct arena arena;
    struct object o;
    struct rig a, b;
    uint64_t seen;
    int calls = 0;

    rig_start(&a);
    rig_start(&b);
    arena_init(&arena);
    fill(&a, 10);
    snapshot_of(a.s, &bytes);
    struct draft *d = draft_begin(b.s, 1, never_called, &calls);
    (void)put_service(d, 900, "gone");
    assert_int_equal(calls, 1);
    assert_int_equal(load_all(b.s, &bytes, 1000, NULL), 0);
    assert_int_equal(calls, 1);
    assert_true(draft_stale(d) && draft_empty(d));
    assert_int_equal(draft_get(d, KIND_SERVICE, 10, &o), 0);
    draft_pack(d, &set);
    draft_end(d, true);
    assert_int_equal(store_feed(b.s, 0, &arena, NULL, NULL, &seen), ERR_LIMIT);
    assert_int_equal(store_feed(b.s, a.index, &arena, NULL, NULL, &seen), 0);
    arena_fini(&arena);
    buf_fini(&set);
    rig_stop(&a);
    rig_stop(&b);
}

/* --- streams that are none ------------------------------------------------------------------------------- */

static void cut_stream_is_refused(void **state)
{
    AUTO_BUF
    struct buf bytes = {0}, before = {0}, after = {0};
    struct rig r;
    struct err e;

    rig_start(&r);
    fill(&r, 2);
    snapshot_of(r.s, &bytes);
    fill(&r, 1);
    dump(r.s, &before);
    size_t whole = bytes.length;
    for (size_t cut = 0; cut < whole; cut += cut < 300 || whole - cut < 300 ? 1 : 97) {
        bytes.length = cut;
        e = (struct err){0};
        assert_int_equal(load_all(r.s, &bytes, 1000, &e), ERR_CORRUPT);
        assert_non_null(strstr(e.text, "snapshot: "));
    }
    bytes.length = whole;
    buf_append(&bytes, "x", 1);
    assert_int_equal(load_all(r.s, &bytes, 1000, &e), ERR_CORRUPT);
    dump(r.s, &after);
    assert_string_equal(buf_str(&before), buf_str(&after));
    buf_fini(&before);
    buf_fini(&after);
    rig_stop(&r);
}

static void no_flipped_bit_makes_another_state(void **state)
{
    AUTO_BUF
    struct buf bytes = {0}, before = {0}, after = {0};
    struct rig a, b;

    rig_start(&a);
    rig_start(&b);
    fill(&a, 1);
    dump(a.s, &before);
    snapshot_of(a.s, &bytes);
    uint8_t *at = (uint8_t *)buf_bytes(&bytes);
    size_t refused = 0;
    for (size_t bit = 0; bit < bytes.length * 8; bit += bit < 2000 ? 1 : 13) {
        at[bit / 8] ^= (uint8_t)(1 << bit % 8);
        int rc = load_all(b.s, &bytes, 100000, NULL);
        at[bit / 8] ^= (uint8_t)(1 << bit % 8);
        refused += rc == ERR_CORRUPT;
        if (rc < 0) {
            assert_int_equal(rc, ERR_CORRUPT);
            continue;
        }
        buf_clear(&after); /* what passes is what it was: no byte is without meaning */
        dump(b.s, &after);
        assert_string_equal(buf_str(&before), buf_str(&after));
    }
    assert_true(refused > 2000);
    buf_fini(&before);
    buf_fini(&after);
    rig_stop(&a);
    rig_stop(&b);
}

static void malformed_streams_are_refused_by_name(void **state)
{
    uint64_t head[STREAM_HEAD_NUMBERS] = {10, 9, 5, 1, 0, [5 ... 20] = 3};
    const struct {
        const char *bytes;
        size_t size;
        const char *text;
    } cases[] = {
        {"\x02\x00\x00\x00\x00", 5, "unknown kind"},
        {"\x02\x01\x00\x00\x00\x08", 6, "unknown kind"},
        {"\x02\x02\x00\x00\x00\x08\x01", 7, "unknown kind"},
        {"\x02\x02\x00\x00\x00\x06\x01", 7, "cut off"},
        {"\x02\x03\x00\x00\x00\x06\x01\x05", 8, "cut off"},
        {"\x02\x03\x00\x00\x00\x06\x00\x00", 8, "do not ascend"},
        {"\x02\x03\x00\x00\x00\x06\x01\x00", 8, "status 1 has no record"},
        {"\x02\x06\x00\x00\x00\x06\x01\x03\x0b\x00\x00", 11, "status 1 has no record"}, /* version 11 of 10 */
        {"\x02\x06\x00\x00\x00\x06\x01\x03\x01\x00\x00", 11, "the message of status 1 is none"},
        {"\x02\x06\x00\x00\x00\x05\x01\x03\x01\x00\x00", 11, "task 1 has no id"},
        {"\x02\x06\x00\x00\x00\x05\x03\x03\x01\x00\x00", 11, "task 3 lies above its counter"},
        {"\x02\x08\x00\x00\x00\x06\x01\x05\x01\x00\x00\x08\x40"
         "\x02\x08\x00\x00\x00\x06\x01\x05\x01\x00\x00\x08\x40",
         26, "do not ascend"},
        {"\x02\x08\x00\x00\x00\x06\x01\x05\x01\x00\x00\x08\x40\x02\x02\x00\x00\x00\x05\x01", 20, "out of order"},
        {"\x02\x08\x00\x00\x00\x06\x01\x05\x01\x00\x00\x08\x40\x03\x10\x00\x00\x00"
         "\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
         34, "1 records, its end tells 2"},
        {"\x03\x02\x00\x00\x00\x00\x00", 7, "the end is of another size"},
        {"\x01\x00\x00\x00\x00", 5, "type 1 is out of place"},
        {"\x07\x00\x00\x00\x00", 5, "type 7 is out of place"},
        {"\x02\xff\xff\xff\xff", 5, "a frame of 4294967295 bytes"},
    };
    struct rig r;

    rig_start(&r);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_BUF
        struct buf bytes = {0};
        struct err e = {0};

        buf_append(&bytes, STREAM_MAGIC "\x01\xa8\x00\x00\x00", 13);
        buf_append(&bytes, head, sizeof(head));
        buf_append(&bytes, cases[i].bytes, cases[i].size);
        assert_int_equal(load_all(r.s, &bytes, 1000, &e), ERR_CORRUPT);
        if (!strstr(e.text, cases[i].text))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, e.text, cases[i].text);
    }
    static const struct {
        int number;
        uint64_t value;
        const char *text;
    } heads[] = {{3, 2, "needs feature level 2"}, {1, 11, "comes after the last entry"}, {5, 0, "a counter is 0"}};
    for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
        AUTO_BUF
        struct buf bytes = {0};
        uint64_t bad[STREAM_HEAD_NUMBERS];
        struct err e = {0};

        memcpy(bad, head, sizeof(bad));
        bad[heads[i].number] = heads[i].value;
        buf_append(&bytes, STREAM_MAGIC "\x01\xa8\x00\x00\x00", 13);
        buf_append(&bytes, bad, sizeof(bad));
        assert_int_equal(load_all(r.s, &bytes, 1000, &e), ERR_CORRUPT);
        assert_non_null(strstr(e.text, heads[i].text));
    }
    rig_stop(&r);
}

static void failed_load_stays_failed(void **state)
{
    struct rig r;
    struct err e = {0}, again = {0};

    rig_start(&r);
    struct store_load *l = store_load_begin(r.s);
    assert_int_equal(store_load_add(l, "not a snapshot", 14, &e), ERR_CORRUPT);
    assert_int_equal(store_load_add(l, "more", 4, &again), ERR_CORRUPT);
    assert_string_equal(e.text, again.text);
    again = (struct err){0};
    assert_int_equal(store_load_end(l, &again), ERR_CORRUPT);
    assert_string_equal(e.text, again.text);
    rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loaded_snapshot_is_the_same_state),
        cmocka_unit_test(empty_store_makes_a_snapshot_too),
        cmocka_unit_test(form_of_a_snapshot_stays),
        cmocka_unit_test(snapshot_shows_the_state_it_began_with),
        cmocka_unit_test(another_thread_reads_while_the_loop_applies),
        cmocka_unit_test(snapshot_under_which_the_file_must_grow_is_canceled_not_wrong),
        cmocka_unit_test(snapshot_outlives_the_store_and_a_replaced_file),
        cmocka_unit_test(store_is_used_as_before_until_the_load_ends),
        cmocka_unit_test(load_resyncs_the_feed_and_forgets_a_draft),
        cmocka_unit_test(cut_stream_is_refused),
        cmocka_unit_test(no_flipped_bit_makes_another_state),
        cmocka_unit_test(malformed_streams_are_refused_by_name),
        cmocka_unit_test(failed_load_stays_failed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
