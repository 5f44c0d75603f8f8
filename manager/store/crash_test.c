/* A store whose process is killed between any two steps, or whose disk is full, is the state of one applied index
 * or empty, and goes on. */
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "manager/store/testing.h"

/* In a child that will be killed: apply, sometimes several entries at once, sometimes load a snapshot and go on. */
static void live(struct rig *r, const struct history *h, struct store *source)
{
    rig_open(r);
    while (r->index < h->count) {
        struct store_entry entries[3];
        size_t count = MIN(1 + r->index % 3, h->count - r->index);

        for (size_t i = 0; i < count; i++)
            entries[i] = (struct store_entry){r->index + i + 1, buf_bytes(&h->sets[r->index + i]),
                                              h->sets[r->index + i].length};
        if (store_apply(r->s, entries, count, NULL, NULL, NULL) < 0)
            _exit(3);
        r->index += count;
        if (r->index % 20 == 0) { /* out of its own state, through a file beside it */
            static char piece[2000];
            struct store_snapshot *p = store_snapshot_begin(r->s);
            struct store_load *l = store_load_begin(r->s);
            long got;

            while ((got = store_snapshot_read(p, piece, sizeof(piece), NULL)) > 0)
                if (store_load_add(l, piece, (size_t)got, NULL) < 0)
                    _exit(4);
            store_snapshot_end(p);
            if (got < 0 || store_load_end(l, NULL) < 0)
                _exit(5);
        }
    }
    store_close(r->s);
    _exit(0);
}

static void kill_again_and_again(const char *dir, uint64_t map_bytes)
{
    uint64_t seed = entropy_u64(entropy_real()) % 1000000000;
    struct entropy_seeded random;
    struct history h;
    struct rig r;
    size_t kills = 0;

    print_message("seed %llu\n", (unsigned long long)seed);
    entropy_seeded_init(&random, seed);
    history_make(&h, 300);
    rig_init(&r);
    if (dir) {
        assert_int_equal(rmdir(r.dir), 0);
        (void)snprintf(r.dir, sizeof(r.dir), "%s/shoal-store-XXXXXX", dir);
        assert_non_null(mkdtemp(r.dir));
    }
    r.map_bytes = map_bytes;
    for (size_t before = 0; before < h.count;) {
        struct timespec wait = {.tv_nsec = (long)entropy_below(&random.base, 25000000)};
        int status;
        pid_t child = fork();

        assert_true(child >= 0);
        if (child == 0)
            live(&r, &h, NULL);
        (void)ppoll(NULL, 0, &wait, NULL);
        (void)kill(child, SIGKILL); /* it may have ended */
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        kills += WIFSIGNALED(status);
        rig_open(&r);
        assert_true(r.index >= before); /* a kill alone loses nothing that was committed */
        assert_sound(&r, &h);
        before = r.index;
        rig_close(&r);
    }
    print_message("%zu kills\n", kills);
    assert_true(kills > 0);
    history_fini(&h);
    rig_stop(&r);
}

static void killed_process_leaves_the_state_of_one_index(void **state)
{
    kill_again_and_again(NULL, 0);
}

static void killed_process_leaves_the_state_of_one_index_on_a_disk_with_a_growing_map(void **state)
{
    kill_again_and_again("/tmp", 1);
}

/* --- a full disk ----------------------------------------------------------------------------------------- */

/* Take the space that is left. */
static void fill_disk(const char *path)
{
    static const char bytes[4096];
    AUTO_CLOSE
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    while (write(fd, bytes, sizeof(bytes)) > 0)
        ;
}

static void on_full_disk(void)
{
    struct history h;
    struct rig r;
    struct err e = {0};
    char path[128];

    history_make(&h, 120);
    rig_init(&r);
    assert_int_equal(mount("tmpfs", r.dir, "tmpfs", 0, "size=160k"), 0);
    rig_open(&r);
    assert_int_equal(apply_up_to(&r, &h, 120, &e), ERR_IO); /* does not fit */
    assert_true(r.index > 5 && store_applied(r.s) == 0);
    path_of(&r, "filler", path);
    for (int i = 0; i < 3; i++) { /* its own space is enough for a new file, and for nothing else */
        assert_int_equal(store_failed(r.s, NULL), 0);
        fill_disk(path);
        r.index = 0;
        assert_int_equal(apply_up_to(&r, &h, 120, &e), ERR_IO);
        assert_non_null(strstr(e.text, "store: "));
        assert_int_equal(store_applied(r.s), 0);
    }
    struct store_load *l = store_load_begin(r.s); /* there is no room beside */
    assert_int_equal(store_load_add(l, "shoalst\1", 8, &e), ERR_IO);
    assert_int_equal(store_load_end(l, &e), ERR_IO);
    assert_int_equal(unlink(path), 0); /* space returns */
    assert_int_equal(mount("tmpfs", r.dir, "tmpfs", MS_REMOUNT, "size=4m"), 0);
    r.index = 0;
    assert_int_equal(apply_up_to(&r, &h, 120, &e), 0);
    assert_sound(&r, &h);
    rig_close(&r);
    rig_open(&r);
    assert_int_equal(r.index, 120);
    rig_close(&r);
    assert_int_equal(umount(r.dir), 0);
    history_fini(&h);
    rig_stop(&r);
}

/* What was asked for room is applied on a full disk; then there is none, until space returns. */
static void on_reserve(void)
{
    struct history h;
    struct rig r;
    struct err e = {0};
    char path[128];
    size_t applied = 0;

    history_make(&h, 300);
    rig_init(&r);
    assert_int_equal(mount("tmpfs", r.dir, "tmpfs", 0, "size=2m"), 0);
    r.reserve_bytes = 512 << 10;
    rig_open(&r);
    assert_int_equal(store_room(r.s, &e), 0);
    path_of(&r, "filler", path);
    fill_disk(path);
    while (applied < 300 && store_room(r.s, &e) == 0) {
        assert_int_equal(apply_up_to(&r, &h, applied + 1, &e), 0);
        applied++;
    }
    assert_true(applied > 3 && applied < 300);
    assert_int_equal(e.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(e.text, "No space left on device"));
    for (size_t i = 0; i < 3; i++) /* what was under way when it was noticed */
        assert_int_equal(apply_up_to(&r, &h, ++applied, &e), 0);
    assert_true(store_room(r.s, &e) < 0);
    assert_sound(&r, &h);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(store_room(r.s, &e), 0);
    rig_close(&r);
    rig_open(&r); /* blocks behind the end are nobody's contents */
    assert_int_equal(r.index, applied);
    assert_sound(&r, &h);
    rig_close(&r);
    assert_int_equal(umount(r.dir), 0);
    history_fini(&h);
    rig_stop(&r);
}

static void with_mounts(void (*what)(void))
{
    int status;

    if (geteuid() != 0) {
        print_message("needs root to mount a small tmpfs\n");
        skip();
    }
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
            _exit(77);
        what(); /* a failed assertion ends the child through cmocka, with a signal or a status */
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("no mount namespace to be had\n");
        skip();
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void full_disk_is_an_error_and_the_file_is_rebuilt_when_space_returns(void **state)
{
    with_mounts(on_full_disk);
}

static void what_was_promised_room_is_applied_on_a_full_disk(void **state)
{
    with_mounts(on_reserve);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_process_leaves_the_state_of_one_index),
        cmocka_unit_test(killed_process_leaves_the_state_of_one_index_on_a_disk_with_a_growing_map),
        cmocka_unit_test(full_disk_is_an_error_and_the_file_is_rebuilt_when_space_returns),
        cmocka_unit_test(what_was_promised_room_is_applied_on_a_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
