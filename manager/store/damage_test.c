/* A store's file that was cut, flipped, deleted or exchanged is used as the state of one applied index or not at
 * all. */
#include <sys/stat.h>

#include "manager/store/change.h"
#include "manager/store/testing.h"

static void read_file(const struct rig *r, struct buf *out)
{
    char path[128];

    path_of(r, DISK_FILE, path);
    buf_clear(out);
    assert_int_equal(file_read(AT_FDCWD, path, 64 << 20, out, NULL), 0);
}

static void write_file(const struct rig *r, const void *data, size_t size)
{
    char path[128];

    path_of(r, DISK_FILE, path);
    AUTO_CLOSE
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write_all(fd, data, size, NULL), 0);
}

/* --- what is not ours ------------------------------------------------------------------------------------ */

static void file_of_another_key_cluster_boot_or_none_is_discarded(void **state)
{
    static const uint8_t other_key[SEAL_KEY] = {9}, other_cluster[16] = {9};
    const struct {
        const uint8_t *key, *cluster;
        const char *boot;
        uint64_t applied;
    } cases[] = {
        {rig_key, rig_cluster, "this-boot", 10},  {other_key, rig_cluster, "this-boot", 0},
        {rig_key, other_cluster, "this-boot", 0}, {rig_key, rig_cluster, "another-boot", 0},
        {rig_key, rig_cluster, "this-boo", 0},    {rig_key, rig_cluster, "this-boot", 10},
    };
    AUTO_BUF
    struct buf image = {0};
    struct history h;
    struct rig r;

    history_make(&h, 12);
    rig_start(&r);
    assert_int_equal(apply_up_to(&r, &h, 10, NULL), 0);
    rig_close(&r);
    read_file(&r, &image);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        write_file(&r, buf_bytes(&image), image.length);
        assert_int_equal(rig_try_open(&r, cases[i].key, cases[i].cluster, cases[i].boot, NULL), 0);
        assert_true(r.index == cases[i].applied);
        assert_sound(&r, &h);
        assert_int_equal(apply_up_to(&r, &h, 12, NULL), 0);
        assert_sound(&r, &h);
        rig_close(&r);
    }
    rig_open(&r); /* NULL is the kernel's boot id */
    rig_close(&r);
    assert_int_equal(rig_try_open(&r, rig_key, rig_cluster, NULL, NULL), 0);
    assert_int_equal(r.index, 0);
    rig_close(&r);
    assert_int_equal(rig_try_open(&r, rig_key, rig_cluster, NULL, NULL), 0);
    rig_close(&r);
    char path[128];
    path_of(&r, DISK_FILE, path);
    assert_int_equal(unlink(path), 0);
    rig_open(&r);
    assert_int_equal(r.index, 0);
    history_fini(&h);
    rig_stop(&r);
}

static void strange_files_are_discarded(void **state)
{
    static char zeros[100000];
    static const struct {
        const char *bytes;
        size_t size;
    } cases[] = {{"", 0},       {"x", 1},      {"not a database", 14}, {zeros, 1},
                 {zeros, 4096}, {zeros, 8192}, {zeros, 100000}};
    struct history h;
    char path[128];
    struct rig r;

    history_make(&h, 3);
    rig_start(&r);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        rig_close(&r);
        write_file(&r, cases[i].bytes, cases[i].size);
        rig_open(&r);
        assert_int_equal(r.index, 0);
        assert_int_equal(apply_up_to(&r, &h, 3, NULL), 0);
        assert_sound(&r, &h);
    }
    rig_close(&r); /* the lock and leftovers of a load are nothing either */
    path_of(&r, DISK_FILE DISK_LOCK, path);
    AUTO_CLOSE
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_int_equal(write_all(fd, "garbage", 7, NULL), 0);
    path_of(&r, DISK_LOAD, path);
    AUTO_CLOSE
    int other = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write_all(other, "garbage", 7, NULL), 0);
    rig_open(&r);
    assert_int_equal(r.index, 3);
    assert_sound(&r, &h);
    assert_int_equal(access(path, F_OK), -1);
    rig_close(&r);
    path_of(&r, DISK_FILE, path); /* a link or a directory in its place */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    rig_open(&r);
    assert_int_equal(r.index, 0);
    history_fini(&h);
    rig_stop(&r);
}

/* --- damage on disk -------------------------------------------------------------------------------------- */

struct victim {
    struct history h;
    struct rig r;
    struct buf image;
    size_t index;
    size_t kept, older, discarded; /* what came of the damaged files */
};

static void victim_make(struct victim *v)
{
    *v = (struct victim){.index = 40};
    history_make(&v->h, 42);
    rig_start(&v->r);
    assert_int_equal(apply_up_to(&v->r, &v->h, v->index, NULL), 0);
    rig_close(&v->r);
    read_file(&v->r, &v->image);
}

static void victim_fini(struct victim *v)
{
    history_fini(&v->h);
    rig_stop(&v->r);
    buf_fini(&v->image);
}

/* The file was damaged: open it and see that it is sound or empty, goes on, and is sound when opened once more. */
static void judge(struct victim *v)
{
    rig_open(&v->r);
    if (v->r.index == v->index)
        v->kept++;
    else if (v->r.index)
        v->older++;
    else
        v->discarded++;
    assert_sound(&v->r, &v->h);
    if (v->r.index) {
        assert_int_equal(apply_up_to(&v->r, &v->h, v->h.count, NULL), 0);
        assert_sound(&v->r, &v->h);
        rig_close(&v->r);
        rig_open(&v->r);
        assert_true(v->r.index == v->h.count);
    }
    rig_close(&v->r);
}

static void flip(struct victim *v, size_t byte, uint8_t mask)
{
    buf_bytes(&v->image)[byte] ^= (char)mask;
    write_file(&v->r, buf_bytes(&v->image), v->image.length);
    buf_bytes(&v->image)[byte] ^= (char)mask;
    judge(v);
}

/* DAMAGE=all flips a bit of every byte and cuts at every one, which takes minutes (make damage). */
static void no_flipped_bit_is_silently_wrong(void **state)
{
    bool all = getenv("DAMAGE") != NULL;
    uint64_t seed = entropy_u64(entropy_real()) % 1000000000;
    struct entropy_seeded random;
    struct victim v;

    print_message("seed %llu\n", (unsigned long long)seed);
    entropy_seeded_init(&random, seed);
    victim_make(&v);
    for (size_t at = 0; at < v.image.length; at += all ? 1 : 1 + entropy_below(&random.base, 1200))
        flip(&v, at, (uint8_t)(1 << entropy_below(&random.base, 8)));
    for (size_t at = 0; at < 160; at++) { /* the meta pages, every bit of what means something */
        flip(&v, at, (uint8_t)(1 << at % 8));
        flip(&v, 4096 + at, (uint8_t)(1 << at % 8));
    }
    for (size_t page = 2; page < v.image.length / 4096; page += all ? 1 : 7) /* the pages' headers and pointers */
        for (size_t at = 0; at < 32; at++)
            flip(&v, page * 4096 + at, (uint8_t)(1 << entropy_below(&random.base, 8)));
    print_message("kept %zu, older state %zu, discarded %zu\n", v.kept, v.older, v.discarded);
    assert_true(v.kept > 0 && v.discarded > 100);
    victim_fini(&v);
}

static void no_cut_is_silently_wrong(void **state)
{
    bool all = getenv("DAMAGE") != NULL;
    struct victim v;

    victim_make(&v);
    for (size_t size = 0; size < v.image.length; size += all ? 1 : 1024) {
        write_file(&v.r, buf_bytes(&v.image), size);
        judge(&v);
    }
    assert_true(v.discarded > 20);
    victim_fini(&v);
}

static void pages_overwritten_by_others_are_noticed(void **state)
{
    struct entropy_seeded random;
    struct victim v;

    victim_make(&v);
    entropy_seeded_init(&random, 1);
    char *bytes = buf_bytes(&v.image), page[4096];
    for (int i = 0; i < 150; i++) { /* a page in the place of another, as a lost or misdirected write leaves it */
        size_t from = entropy_below(&random.base, v.image.length / 4096),
               to = entropy_below(&random.base, v.image.length / 4096);

        memcpy(page, bytes + to * 4096, 4096);
        memcpy(bytes + to * 4096, bytes + from * 4096, 4096);
        if (i % 2)
            memcpy(bytes + to * 4096, &(uint64_t){to}, 8); /* with the right number in its header */
        write_file(&v.r, bytes, v.image.length);
        memcpy(bytes + to * 4096, page, 4096);
        judge(&v);
    }
    assert_true(v.discarded > 20);
    victim_fini(&v);
}

/* --- damage while it is open ----------------------------------------------------------------------------- */

static void count_call(void *ctx, uint64_t index, const struct object *before, const struct object *after)
{
    ++*(size_t *)ctx;
}

/* Change a byte of a record in the file, under the open store: LMDB's map shows it at once. */
static void damage_record(struct rig *r, enum kind k, uint64_t number)
{
    AUTO_BUF
    struct buf image = {0};
    char path[128];
    MDB_val key = {8, &number}, value;
    uint8_t copy[256];
    size_t found = 0;
    MDB_txn *txn;

    assert_int_equal(mdb_txn_begin(r->s->disk->env, NULL, MDB_RDONLY, &txn), 0);
    assert_int_equal(mdb_get(txn, r->s->disk->kinds[k], &key, &value), 0);
    assert_in_range(value.mv_size, 20, sizeof(copy));
    memcpy(copy, value.mv_data, value.mv_size);
    mdb_txn_abort(txn);
    path_of(r, DISK_FILE, path);
    read_file(r, &image);
    AUTO_CLOSE
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    const char *bytes = buf_bytes(&image), *at = bytes;
    for (; (at = memmem(at, (size_t)(bytes + image.length - at), copy, value.mv_size)); at++, found++)
        assert_int_equal(pwrite(fd, at[12] == '?' ? "!" : "?", 1, at - bytes + 12), 1);
    assert_true(found > 0);
}

static void record_damaged_while_open_is_an_error_and_the_file_is_rebuilt(void **state)
{
    struct history h;
    struct object o;
    struct arena a;
    struct err e = {0};
    size_t calls = 0;
    struct rig r;

    history_make(&h, 20);
    arena_init(&a);
    rig_start(&r);
    assert_int_equal(apply_up_to(&r, &h, 10, NULL), 0);
    struct draft *d = draft_begin(r.s, 0, count_call, &calls);
    (void)put_service(d, 5000, "planned");
    damage_record(&r, KIND_SERVICE, 3);
    struct view *v = view_begin(r.s);
    assert_int_equal(view_get(v, KIND_SERVICE, 2, &a, &o), 0);
    assert_int_equal(view_get(v, KIND_SERVICE, 3, &a, &o), ERR_CORRUPT);
    view_end(v);
    assert_int_equal(store_failed(r.s, &e), ERR_CORRUPT);
    assert_int_equal(rig_apply(&r, buf_bytes(&h.sets[10]), h.sets[10].length, &e), ERR_IO);
    assert_non_null(strstr(e.text, "does not open"));
    assert_int_equal(store_failed(r.s, NULL), 0);
    assert_true(store_applied(r.s) == 0 && store_count(r.s, KIND_SERVICE) == 0);
    assert_true(draft_stale(d) && draft_empty(d));
    draft_end(d, false);
    assert_int_equal(calls, 1); /* forgotten: whoever keeps an index builds it anew */
    r.index = 0;
    assert_int_equal(apply_up_to(&r, &h, 20, NULL), 0);
    assert_sound(&r, &h);
    history_fini(&h);
    arena_fini(&a);
    rig_stop(&r);
}

static void record_that_only_apply_finds_damaged_is_an_error_too(void **state)
{
    AUTO_BUF
    struct buf set = {0};
    struct history h;
    struct err e = {0};
    struct rig r;

    history_make(&h, 12);
    rig_start(&r);
    assert_int_equal(apply_up_to(&r, &h, 10, NULL), 0);
    damage_record(&r, KIND_SERVICE, 3);
    change_set_begin(&set, 10, 0);
    change_put(&set, &(struct change){KIND_SERVICE, 3, NULL, 0});
    assert_int_equal(rig_apply(&r, buf_bytes(&set), set.length, &e), ERR_IO);
    assert_non_null(strstr(e.text, "service 3 does not open"));
    r.index = store_applied(r.s);
    assert_int_equal(r.index, 0);
    assert_int_equal(apply_up_to(&r, &h, 12, NULL), 0);
    assert_sound(&r, &h);
    history_fini(&h);
    rig_stop(&r);
}

static void damaged_record_ends_a_snapshot(void **state)
{
    static char piece[100000];
    struct history h;
    struct err e = {0};
    struct rig r;
    long got;

    history_make(&h, 10);
    rig_start(&r);
    assert_int_equal(apply_up_to(&r, &h, 10, NULL), 0);
    damage_record(&r, KIND_SERVICE, 3);
    struct store_snapshot *p = store_snapshot_begin(r.s);
    while ((got = store_snapshot_read(p, piece, sizeof(piece), &e)) > 0)
        ;
    assert_int_equal(got, ERR_CORRUPT);
    assert_non_null(strstr(e.text, "service 3"));
    store_snapshot_end(p);
    history_fini(&h);
    rig_stop(&r);
}

static void store_without_a_file_is_empty_and_tries_again(void **state)
{
    struct history h;
    struct err e = {0};
    struct store_stats stats;
    struct rig r;
    char path[128];

    history_make(&h, 6);
    rig_start(&r);
    assert_int_equal(apply_up_to(&r, &h, 5, NULL), 0);
    path_of(&r, DISK_FILE DISK_LOCK, path); /* a directory in the place of a file that must be made */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    store_suspect(r.s, "so says the test");
    assert_int_equal(rig_apply(&r, buf_bytes(&h.sets[5]), h.sets[5].length, &e), ERR_IO);
    r.index = 0;
    for (int i = 0; i < 3; i++) {
        assert_true(store_failed(r.s, &e) < 0);
        assert_int_equal(apply_up_to(&r, &h, 1, &e), ERR_IO);
        assert_non_null(strstr(e.text, DISK_LOCK));
        assert_int_equal(store_applied(r.s), 0);
        assert_null(store_snapshot_begin(r.s));
        store_stats(r.s, &stats);
        assert_int_equal(stats.file_bytes, 0);
        struct view *v = view_begin(r.s);
        assert_int_equal(view_next(v, KIND_TASK, 0), 0);
        assert_int_equal(view_find_name(v, KIND_SERVICE, "svc-1"), 0);
        assert_int_equal(view_find_id(v, KIND_SERVICE, id_of(1)), 0);
        view_end(v);
        struct draft *d = rig_draft(&r);
        assert_int_equal(draft_find_name(d, KIND_SERVICE, "svc-1"), 0);
        (void)put_service(d, 1, "x");
        draft_end(d, false);
    }
    struct store_load *l = store_load_begin(r.s); /* goes beside, under another name */
    store_load_cancel(l);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(apply_up_to(&r, &h, 6, &e), 0);
    assert_sound(&r, &h);
    rig_close(&r);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_true(rig_try_open(&r, rig_key, rig_cluster, "this-boot", &e) < 0); /* opening says so at once */
    assert_int_equal(rmdir(path), 0);
    rig_open(&r);
    history_fini(&h);
    rig_stop(&r);
}

static void nonces_are_not_used_again_after_an_older_file_came_back(void **state)
{
    AUTO_BUF
    struct buf old = {0};
    struct history h;
    struct rig r;
    uint64_t used[3];

    history_make(&h, 30);
    rig_start(&r);
    assert_int_equal(apply_up_to(&r, &h, 10, NULL), 0);
    rig_close(&r);
    read_file(&r, &old);
    for (int i = 0; i < 3; i++) { /* the same file, opened three times, as if the later ones had never been */
        write_file(&r, buf_bytes(&old), old.length);
        rig_open(&r);
        assert_int_equal(r.index, 10);
        used[i] = r.s->disk->nonce;
        assert_int_equal(apply_up_to(&r, &h, 30, NULL), 0);
        assert_true(r.s->disk->nonce > used[i] && r.s->disk->nonce - used[i] < 1 << 20);
        for (int k = 0; k < i; k++) {
            uint64_t apart = used[i] > used[k] ? used[i] - used[k] : used[k] - used[i];

            assert_true(apart > 1 << 20);
        }
        rig_close(&r);
    }
    history_fini(&h);
    rig_stop(&r);
}

static void each_value_has_a_nonce_of_its_own(void **state)
{
    struct history h;
    struct rig r;
    size_t count = 0;

    history_make(&h, 40);
    rig_init(&r);
    r.map_bytes = 1; /* with transactions that are given up on the way */
    rig_open(&r);
    for (size_t i = 10; i <= 40; i += 10) {
        assert_int_equal(apply_up_to(&r, &h, i, NULL), 0);
        rig_close(&r);
        rig_open(&r);
    }
    uint64_t *nonces = mem_array(2000, sizeof(*nonces));
    MDB_txn *txn;
    assert_int_equal(mdb_txn_begin(r.s->disk->env, NULL, MDB_RDONLY, &txn), 0);
    for (int k = 0; k <= KIND_MAX; k++) {
        MDB_val key, value;
        MDB_cursor *cursor;

        if (!kind_message((enum kind)k))
            continue;
        assert_int_equal(mdb_cursor_open(txn, r.s->disk->kinds[k], &cursor), 0);
        while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0)
            memcpy(&nonces[count++], value.mv_data, 8);
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    assert_true(count > 300);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < i; k++)
            assert_true(nonces[i] != nonces[k]);
    free(nonces);
    history_fini(&h);
    rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_of_another_key_cluster_boot_or_none_is_discarded),
        cmocka_unit_test(strange_files_are_discarded),
        cmocka_unit_test(no_flipped_bit_is_silently_wrong),
        cmocka_unit_test(no_cut_is_silently_wrong),
        cmocka_unit_test(pages_overwritten_by_others_are_noticed),
        cmocka_unit_test(record_damaged_while_open_is_an_error_and_the_file_is_rebuilt),
        cmocka_unit_test(record_that_only_apply_finds_damaged_is_an_error_too),
        cmocka_unit_test(damaged_record_ends_a_snapshot),
        cmocka_unit_test(store_without_a_file_is_empty_and_tries_again),
        cmocka_unit_test(nonces_are_not_used_again_after_an_older_file_came_back),
        cmocka_unit_test(each_value_has_a_nonce_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
