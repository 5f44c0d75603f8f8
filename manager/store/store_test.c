/* Reading what was applied, and the file it lies in: what goes in comes out, and nothing else. */
#include "manager/store/change.h"
#include "manager/store/testing.h"
#include "proto/base/ident.h"
#include "proto/change.pb-c.h"

static void new_store_is_empty(void **state)
{
    struct rig r;

    rig_start(&r);
    struct view *v = view_begin(r.s);
    assert_int_equal(store_applied(r.s), 0);
    assert_int_equal(store_count(r.s, KIND_SERVICE), 0);
    assert_int_equal(view_next(v, KIND_SERVICE, 0), 0);
    assert_int_equal(view_find_name(v, KIND_SERVICE, "web"), 0);
    assert_int_equal(view_find_id(v, KIND_SERVICE, id_of(1)), 0);
    view_end(v);
    rig_stop(&r);
}

static void applied_object_is_seen_with_its_header(void **state)
{
    struct arena a;
    struct rig r;
    struct object o;

    rig_start(&r);
    arena_init(&a);
    struct draft *d = rig_draft(&r);
    int64_t ms = draft_ms(d);
    uint64_t number = put_service(d, 7, "web");
    rig_commit(&r, d);
    struct view *v = view_begin(r.s);
    assert_int_equal(view_get(v, KIND_SERVICE, number, &a, &o), 0);
    assert_string_equal(((const Service *)o.message)->name, "web");
    assert_true(o.kind == KIND_SERVICE && o.number == number && o.version == 1);
    assert_true(o.created_ms == ms && o.updated_ms == ms);
    assert_true(view_find_id(v, KIND_SERVICE, id_of(7)) == number);
    assert_int_equal(view_get(v, KIND_SERVICE, number + 1, &a, &o), ERR_NOT_FOUND);
    assert_int_equal(view_get(v, KIND_TASK, number, &a, &o), ERR_NOT_FOUND);
    assert_int_equal(view_get(v, (enum kind)8, 1, &a, &o), ERR_NOT_FOUND);
    assert_int_equal(view_get(v, (enum kind)99, 1, &a, &o), ERR_NOT_FOUND);
    view_end(v);
    assert_true(store_applied(r.s) == 1 && store_cluster_ms(r.s) == ms);
    assert_int_equal(store_count(r.s, KIND_SERVICE), 1);
    arena_fini(&a);
    rig_stop(&r);
}

static void update_keeps_the_time_of_creation(void **state)
{
    struct arena a;
    struct rig r;
    struct object o;

    rig_start(&r);
    arena_init(&a);
    struct draft *d = rig_draft(&r);
    int64_t created = draft_ms(d);
    uint64_t number = put_task(d, 1, 1, 1);
    rig_commit(&r, d);
    d = rig_draft(&r);
    int64_t updated = draft_ms(d);
    Task m = a_task(1, 1, 1);
    m.has_node = true;
    m.node = 5;
    draft_put(d, KIND_TASK, number, &m.base);
    rig_commit(&r, d);
    struct view *v = view_begin(r.s);
    assert_int_equal(view_get(v, KIND_TASK, number, &a, &o), 0);
    assert_true(o.version == 2 && o.created_ms == created && o.updated_ms == updated && updated > created);
    assert_true(((const Task *)o.message)->node == 5);
    view_end(v);
    arena_fini(&a);
    rig_stop(&r);
}

static void deleted_object_is_gone_from_every_index_and_its_number_stays_used(void **state)
{
    struct rig r;

    rig_start(&r);
    struct draft *d = rig_draft(&r);
    uint64_t number = put_service(d, 7, "web");
    rig_commit(&r, d);
    d = rig_draft(&r);
    draft_delete(d, KIND_SERVICE, number);
    rig_commit(&r, d);
    struct view *v = view_begin(r.s);
    assert_int_equal(view_next(v, KIND_SERVICE, 0), 0);
    assert_int_equal(view_find_name(v, KIND_SERVICE, "web"), 0);
    assert_int_equal(view_find_id(v, KIND_SERVICE, id_of(7)), 0);
    view_end(v);
    d = rig_draft(&r);
    assert_true(put_service(d, 8, "web") == number + 1);
    rig_commit(&r, d);
    rig_close(&r);
    rig_open(&r); /* also from the file */
    d = rig_draft(&r);
    assert_true(put_service(d, 9, "db") == number + 2);
    draft_end(d, false);
    rig_stop(&r);
}

static void names_compare_without_case_and_follow_renaming(void **state)
{
    struct rig r;

    rig_start(&r);
    struct draft *d = rig_draft(&r);
    uint64_t web = put_service(d, 1, "Web"), net = put_network(d, 2, "front");
    rig_commit(&r, d);
    struct view *v = view_begin(r.s);
    assert_true(view_find_name(v, KIND_SERVICE, "wEB") == web);
    assert_true(view_find_name(v, KIND_NETWORK, "FRONT") == net);
    assert_int_equal(view_find_name(v, KIND_NETWORK, "web"), 0);
    assert_int_equal(view_find_name(v, KIND_SERVICE, "we"), 0);
    assert_int_equal(view_find_name(v, KIND_SERVICE, ""), 0);
    assert_int_equal(view_find_name(v, KIND_TASK, "web"), 0);
    view_end(v);
    d = rig_draft(&r);
    Service m = SERVICE__INIT;
    m.id = ID(1);
    m.name = (char *)"shop";
    draft_put(d, KIND_SERVICE, web, &m.base);
    rig_commit(&r, d);
    v = view_begin(r.s);
    assert_int_equal(view_find_name(v, KIND_SERVICE, "web"), 0);
    assert_true(view_find_name(v, KIND_SERVICE, "SHOP") == web);
    view_end(v);
    rig_stop(&r);
}

static void hosts_of_one_name_are_all_found(void **state)
{
    uint64_t found[4];
    struct rig r;

    rig_start(&r);
    struct draft *d = rig_draft(&r);
    uint64_t a = put_node(d, 1, "box"), b = put_node(d, 2, "other"), c = put_node(d, 3, "BOX");
    rig_commit(&r, d);
    struct view *v = view_begin(r.s);
    assert_int_equal(view_find_names(v, KIND_NODE, "Box", found, 4), 2);
    assert_true(found[0] == a && found[1] == c);
    assert_int_equal(view_find_names(v, KIND_NODE, "box", found, 1), 1);
    assert_true(view_find_name(v, KIND_NODE, "box") == a && view_find_name(v, KIND_NODE, "other") == b);
    view_end(v);
    d = rig_draft(&r);
    draft_delete(d, KIND_NODE, a);
    rig_commit(&r, d);
    v = view_begin(r.s);
    assert_true(view_find_name(v, KIND_NODE, "box") == c);
    view_end(v);
    rig_stop(&r);
}

static void ids_are_found_by_the_beginning_of_their_text(void **state)
{
    char text[IDENT_TEXT + 1];
    uint64_t found[64];
    struct rig r;

    rig_start(&r);
    struct draft *d = rig_draft(&r);
    for (uint64_t i = 1; i <= 50; i++)
        (void)put_task(d, i, 1, i);
    (void)put_service(d, 20, "web"); /* another kind with an id like a task's */
    rig_commit(&r, d);
    struct view *v = view_begin(r.s);
    ident_format(id_of(20), text);
    for (size_t length = 1; length <= IDENT_TEXT; length++) {
        char prefix[IDENT_TEXT + 1];
        size_t expected = 0;

        (void)snprintf(prefix, sizeof(prefix), "%.*s", (int)length, text);
        for (uint64_t i = 1; i <= 50; i++) {
            char other[IDENT_TEXT + 1];

            ident_format(id_of(i), other);
            expected += strncmp(other, prefix, length) == 0;
        }
        assert_int_equal(view_find_prefix(v, KIND_TASK, prefix, found, 64), expected);
        assert_true(expected > 1 || found[0] == 20);
    }
    static const char *const none[] = {"G", "-", "zzzz", "0123456789012345678901234567890"};
    for (size_t i = 0; i < ARRAY_SIZE(none); i++)
        assert_int_equal(view_find_prefix(v, KIND_TASK, none[i], found, 64), 0);
    assert_int_equal(view_find_prefix(v, KIND_TASK, "", found, 64), 50);
    assert_int_equal(view_find_prefix(v, KIND_TASK, "", found, 3), 3);
    assert_int_equal(view_find_prefix(v, KIND_STATUS, "", found, 3), 0);
    view_end(v);
    rig_stop(&r);
}

static void listing_gives_numbers_in_order_of_creation(void **state)
{
    struct rig r;

    rig_start(&r);
    for (int round = 0; round < 5; round++) {
        struct draft *d = rig_draft(&r);

        for (uint64_t i = 0; i < 300; i++)
            (void)put_task(d, (uint64_t)round * 300 + i, 1, i);
        rig_commit(&r, d);
    }
    struct draft *d = rig_draft(&r);
    for (uint64_t n = 2; n <= 1500; n += 2)
        draft_delete(d, KIND_TASK, n);
    rig_commit(&r, d);
    struct view *v = view_begin(r.s);
    uint64_t n = 0, expected = 1;
    for (; (n = view_next(v, KIND_TASK, n)); expected += 2)
        assert_true(n == expected);
    assert_int_equal(expected, 1501);
    assert_int_equal(view_next(v, KIND_TASK, UINT64_MAX), 0);
    view_end(v);
    rig_stop(&r);
}

static void view_keeps_what_it_shows_for_as_long_as_it_is_open(void **state)
{
    const void *a, *b;
    size_t size;
    struct object o;
    struct rig r;

    rig_start(&r);
    struct draft *d = rig_draft(&r);
    (void)put_service(d, 1, "one");
    (void)put_service(d, 2, "two");
    rig_commit(&r, d);
    struct view *v = view_begin(r.s), *w = view_begin(r.s);
    assert_int_equal(view_get_packed(v, KIND_SERVICE, 1, &a, &size, &o), 0);
    assert_int_equal(view_get_packed(w, KIND_SERVICE, 2, &b, &size, &o), 0);
    assert_non_null(memmem(a, size, "one", 3)); /* the other view did not touch it */
    assert_non_null(memmem(b, size, "two", 3));
    assert_null(o.message);
    view_end(w);
    view_end(v);
    rig_stop(&r);
}

static void fields_of_a_newer_version_survive(void **state)
{
    static const uint8_t newer[] = {0xc2, 0x3e, 0x03, 'n', 'e', 'w'}; /* field 1000 */
    uint8_t packed[128];
    const void *data;
    size_t size;
    struct arena a;
    struct object o;
    struct rig r;
    AUTO_BUF
    struct buf set = {0};

    rig_start(&r);
    arena_init(&a);
    Service m = SERVICE__INIT;
    m.id = ID(1);
    m.name = (char *)"web";
    size = service__pack(&m, packed);
    memcpy(packed + size, newer, sizeof(newer));
    size += sizeof(newer);
    change_set_begin(&set, 0, 1000);
    change_put(&set, &(struct change){KIND_SERVICE, 1, packed, size});
    assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, NULL), 0);
    struct view *v = view_begin(r.s);
    size_t stored;
    assert_int_equal(view_get_packed(v, KIND_SERVICE, 1, &data, &stored, &o), 0);
    assert_true(stored == size);
    assert_memory_equal(data, packed, size); /* byte for byte */
    view_end(v);

    struct draft *d = rig_draft(&r); /* and through a draft that does not know them */
    assert_int_equal(draft_get(d, KIND_SERVICE, 1, &o), 0);
    Service changed = *(const Service *)o.message;
    changed.spec_version = 2;
    draft_put(d, KIND_SERVICE, 1, &changed.base);
    rig_commit(&r, d);
    v = view_begin(r.s);
    assert_int_equal(view_get_packed(v, KIND_SERVICE, 1, &data, &stored, &o), 0);
    assert_non_null(memmem(data, stored, newer, sizeof(newer)));
    view_end(v);
    arena_fini(&a);
    rig_stop(&r);
}

static void large_objects_are_kept_whole(void **state)
{
    static char body[1 << 20];
    struct arena a;
    struct rig r;
    struct object o;

    rig_start(&r);
    arena_init(&a);
    for (size_t size = 1; size <= sizeof(body); size *= 8) {
        struct draft *d = rig_draft(&r);
        Request m = REQUEST__INIT;

        memset(body, (int)('a' + size % 26), size);
        m.id = ID(size);
        m.has_body = true;
        m.body = (ProtobufCBinaryData){.len = size, .data = (uint8_t *)body};
        uint64_t n = draft_create(d, KIND_REQUEST, &m.base);
        rig_commit(&r, d);
        struct view *v = view_begin(r.s);
        assert_int_equal(view_get(v, KIND_REQUEST, n, &a, &o), 0);
        assert_true(((const Request *)o.message)->body.len == size);
        assert_memory_equal(((const Request *)o.message)->body.data, body, size);
        view_end(v);
    }
    rig_close(&r);
    rig_open(&r);
    assert_int_equal(store_count(r.s, KIND_REQUEST), 7);
    arena_fini(&a);
    rig_stop(&r);
}

/* --- files ----------------------------------------------------------------------------------------------- */

static void reopened_store_is_as_it_was(void **state)
{
    AUTO_BUF
    struct buf before = {0}, after = {0};
    struct rig r;

    rig_start(&r);
    for (int i = 0; i < 30; i++) {
        struct draft *d = rig_draft(&r);

        for (uint64_t k = 0; k < 40; k++) {
            uint64_t n = put_task(d, (uint64_t)i * 100 + k, 1, k);
            put_status(d, n, TASK_STATE__RUNNING, "started");
        }
        (void)put_service(d, (uint64_t)i, "svc");
        rig_commit(&r, d);
    }
    dump(r.s, &before);
    for (int i = 0; i < 3; i++) {
        rig_close(&r);
        rig_open(&r);
        buf_clear(&after);
        dump(r.s, &after);
        assert_string_equal(buf_str(&before), buf_str(&after));
    }
    struct draft *d = rig_draft(&r); /* and goes on */
    (void)put_service(d, 1000, "more");
    rig_commit(&r, d);
    assert_int_equal(r.index, 31);
    buf_fini(&after);
    rig_stop(&r);
}

static void one_directory_is_open_once(void **state)
{
    struct rig r, second;
    struct err e = {0};

    rig_start(&r);
    second = r;
    assert_int_equal(rig_try_open(&second, rig_key, rig_cluster, "this-boot", &e), ERR_CONFLICT);
    assert_non_null(strstr(e.text, r.dir));
    rig_stop(&r);
}

static void descriptors_do_not_outlive_exec(void **state)
{
    char path[64];
    struct rig r;

    rig_start(&r);
    for (int fd = 3; fd < 64; fd++) {
        char target[256];

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        ssize_t length = readlink(path, target, sizeof(target) - 1);
        if (length > 0 && memmem(target, (size_t)length, r.dir, strlen(r.dir)))
            assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    }
    rig_stop(&r);
}

static void nothing_is_readable_in_the_file(void **state)
{
    static const char *const canaries[] = {"canary-name", "canary-message", "canary-heap-canary-heap"};
    AUTO_BUF
    struct buf file = {0};
    void *dirt[64];
    struct rig r;

    rig_start(&r);
    for (int i = 0; i < 20; i++) {
        for (size_t k = 0; k < ARRAY_SIZE(dirt); k++) { /* what LMDB's pages are made of next */
            dirt[k] = malloc(4096);
            for (size_t at = 0; at + 32 < 4096; at += 32)
                memcpy((char *)dirt[k] + at, canaries[2], strlen(canaries[2]));
            __asm__ volatile("" : : "r"(dirt[k]) : "memory"); /* written, whatever the compiler thinks of it */
        }
        for (size_t k = 0; k < ARRAY_SIZE(dirt); k++)
            free(dirt[k]);
        struct draft *d = rig_draft(&r);
        (void)put_service(d, (uint64_t)i, canaries[0]);
        put_status(d, put_task(d, (uint64_t)i, 1, 1), TASK_STATE__NEW, canaries[1]);
        rig_commit(&r, d);
    }
    rig_close(&r);
    AUTO_FREE
    char *path = mem_printf("%s/" DISK_FILE, r.dir);
    assert_int_equal(file_read(AT_FDCWD, path, 64 << 20, &file, NULL), 0);
    assert_true(file.length > 40000);
    for (size_t i = 0; i < ARRAY_SIZE(canaries); i++)
        assert_null(memmem(buf_bytes(&file), file.length, canaries[i], strlen(canaries[i])));
    rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_store_is_empty),
        cmocka_unit_test(applied_object_is_seen_with_its_header),
        cmocka_unit_test(update_keeps_the_time_of_creation),
        cmocka_unit_test(deleted_object_is_gone_from_every_index_and_its_number_stays_used),
        cmocka_unit_test(names_compare_without_case_and_follow_renaming),
        cmocka_unit_test(hosts_of_one_name_are_all_found),
        cmocka_unit_test(ids_are_found_by_the_beginning_of_their_text),
        cmocka_unit_test(listing_gives_numbers_in_order_of_creation),
        cmocka_unit_test(view_keeps_what_it_shows_for_as_long_as_it_is_open),
        cmocka_unit_test(fields_of_a_newer_version_survive),
        cmocka_unit_test(large_objects_are_kept_whole),
        cmocka_unit_test(reopened_store_is_as_it_was),
        cmocka_unit_test(one_directory_is_open_once),
        cmocka_unit_test(descriptors_do_not_outlive_exec),
        cmocka_unit_test(nothing_is_readable_in_the_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
