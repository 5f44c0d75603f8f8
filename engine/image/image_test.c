/* The image store through its door, with the real helper program: names, removal, and what a crash may have left.
 * Loading: load_test.c; pulls: pull_test.c; a real registry: registry_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/support/images.h"
#include "tests/support/job.h"
#include "tests/support/store.h"
#include "tests/support/tarball.h"

/* --- names and removal --------------------------------------------------------------------------- */

static void tags_are_given_and_refused(void **state)
{
    struct world *w = *state;
    struct made one, two;
    struct err e;

    load_two(w, &one, &two);
    assert_int_equal(image_tag(w->images, "one:1", "web", NULL), 0);
    assert_found(w, "web:latest", one.id);
    assert_int_equal(image_tag(w->images, two.id + 7, "web", NULL), 0); /* moves */
    assert_found(w, "web", two.id);
    assert_int_equal(image_tag(w->images, "web", "web", NULL), 0); /* as it was */
    assert_int_equal(image_tag(w->images, "absent", "x", &e), ERR_NOT_FOUND);
    assert_string_equal(e.text, "No such image: absent:latest");
    assert_int_equal(image_tag(w->images, "web", "Bad", &e), ERR_INVALID);
    assert_int_equal(image_tag(w->images, "web", one.id, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "refusing to create an ambiguous tag"));
    assert_int_equal(image_tag(w->images, "web", one.id + 7, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "cannot specify 64-byte hexadecimal strings"));
    world_reopen(w);
    assert_found(w, "web", two.id);
    assert_int_equal(world_found(w, two.id)->n_tags, 3);
    assert_int_equal(world_found(w, one.id)->n_tags, 1);
    made_fini(&one);
    made_fini(&two);
}

/* Remove and compare: the reply, or part of the refusal. */
static void assert_removes(struct world *w, const char *ref, bool force, const char *reply)
{
    struct buf out = {0};
    struct err e = {0};

    if (image_remove(w->images, ref, force, true, &out, &e) < 0)
        fail_msg("%s: %s", ref, e.text);
    assert_string_equal(buf_str(&out), reply);
    buf_fini(&out);
}

static void assert_refuses(struct world *w, const char *ref, bool force, const char *text)
{
    struct buf out = {0};
    struct err e = {0};

    if (image_remove(w->images, ref, force, true, &out, &e) != ERR_CONFLICT || !strstr(e.text, text))
        fail_msg("%s: code %d \"%s\" without \"%s\"", ref, e.code, e.text, text);
    assert_int_equal(out.length, 0);
    buf_fini(&out);
}

static void removal_follows_dockers_rules(void **state)
{
    struct world *w = *state;
    struct made one, two;
    char reply[600], text[300];
    struct err e;
    struct buf out = {0};

    load_two(w, &one, &two);
    assert_int_equal(image_remove(w->images, "absent", false, true, &out, &e), ERR_NOT_FOUND);
    assert_string_equal(e.text, "No such image: absent:latest");
    /* Several names: by id it must be forced, by name the name goes. */
    snprintf(text, sizeof(text),
             "conflict: unable to delete %.12s (must be forced) - image is referenced in multiple "
             "repositories",
             two.id + 7);
    assert_refuses(w, two.id, false, text);
    assert_removes(w, "two:1", false, "[{\"Untagged\":\"two:1\"}]");
    assert_absent(w, "two:1", ERR_NOT_FOUND, "No such image");
    /* A container uses it. */
    w->user = (char *)"container 4f5c00000000";
    snprintf(text, sizeof(text),
             "conflict: unable to remove repository reference \"reg.example:5000/two:2\" (must force) "
             "- container 4f5c00000000 is using its referenced image %.12s",
             two.id + 7);
    assert_refuses(w, "reg.example:5000/two:2", false, text);
    snprintf(text, sizeof(text),
             "unable to delete %.12s (must be forced) - image is being used by stopped container "
             "4f5c00000000",
             two.id + 7);
    assert_refuses(w, two.id, false, text);
    w->user_runs = true;
    snprintf(text, sizeof(text),
             "unable to delete %.12s (cannot be forced) - image is being used by running container "
             "4f5c00000000",
             two.id + 7);
    assert_refuses(w, two.id, false, text);
    assert_refuses(w, two.id, true, text);
    w->user = NULL;
    /* The last name: the image goes with the layer that nobody shares. */
    snprintf(reply, sizeof(reply),
             "[{\"Untagged\":\"reg.example:5000/two:2\"},{\"Deleted\":\"%s\"},{\"Deleted\":\"%s\"}]", two.id,
             two.diff_ids[1]);
    assert_removes(w, "reg.example:5000/two:2", false, reply);
    world_settle(w);
    assert_string_equal(world_disk(w), "blobs 2 layers 1 tmp 0 records 1+1");
    assert_found(w, "one:1", one.id);
    /* By a part of its id. */
    snprintf(text, sizeof(text), "%.12s", one.id + 7);
    snprintf(reply, sizeof(reply), "[{\"Untagged\":\"one:1\"},{\"Deleted\":\"%s\"},{\"Deleted\":\"%s\"}]", one.id,
             one.diff_ids[0]);
    assert_removes(w, text, false, reply);
    world_settle(w);
    assert_string_equal(world_disk(w), "blobs 0 layers 0 tmp 0 records 0+0");
    assert_non_null(strstr(buf_str(&w->events),
                           "untag two:1\nuntag reg.example:5000/two:2\ndelete ID\nuntag one:1\n"
                           "delete ID\n"));
    world_reopen(w);
    assert_int_equal(images_count(w->images), 0);
    made_fini(&one);
    made_fini(&two);
}

static void forced_removal_by_id_takes_all_names(void **state)
{
    struct world *w = *state;
    struct made one, two;
    char reply[600];

    load_two(w, &one, &two);
    snprintf(reply, sizeof(reply),
             "[{\"Untagged\":\"two:1\"},{\"Untagged\":\"reg.example:5000/"
             "two:2\"},{\"Deleted\":\"%s\"},{\"Deleted\":\"%s\"}]",
             two.id, two.diff_ids[1]);
    assert_removes(w, two.id, true, reply);
    made_fini(&one);
    made_fini(&two);
}

static void removed_image_that_a_container_holds_keeps_its_layers(void **state)
{
    struct world *w = *state;
    struct made one, two;
    struct buf out = {0};
    struct outcome o;
    struct buf tar = {0};

    load_two(w, &one, &two);
    image_hold(w->images, two.id);
    assert_int_equal(image_remove(w->images, two.id, true, true, &out, NULL), 0);
    assert_absent(w, two.id, ERR_NOT_FOUND, "No such image");
    assert_int_equal(images_count(w->images), 1);
    assert_layers(w, two.id, 2, ". dir 0755 0:0\nb file 0644 0:0 3\n. dir 0755 0:0\na file 0644 0:0 2\n");
    /* Also after a restart, until everybody has said what is held. */
    world_close(w);
    world_open(w);
    world_settle(w);
    assert_absent(w, two.id, ERR_NOT_FOUND, "No such image");
    assert_layers(w, two.id, 2, ". dir 0755 0:0\nb file 0644 0:0 3\n. dir 0755 0:0\na file 0644 0:0 2\n");
    image_hold(w->images, two.id);
    images_holds_done(w->images);
    world_settle(w);
    assert_string_equal(world_disk(w), "blobs 4 layers 2 tmp 0 records 2+2");
    /* Loaded again it is an image again; removed again, and let go, it goes. */
    archive_docker(&tar, (const struct made *const[]){&two}, (const char *const[]){"[\"two:3\"]"}, 1);
    world_load(w, &tar, &o);
    assert_well(&o);
    assert_found(w, "two:3", two.id);
    assert_int_equal(image_remove(w->images, "two:3", true, true, &out, NULL), 0);
    image_release(w->images, two.id);
    world_settle(w);
    assert_string_equal(world_disk(w), "blobs 2 layers 1 tmp 0 records 1+1");
    /* One that nobody holds after a restart goes when all holds are known. */
    image_hold(w->images, one.id);
    assert_int_equal(image_remove(w->images, one.id, true, true, &out, NULL), 0);
    world_close(w);
    world_open(w);
    world_settle(w);
    assert_string_equal(world_disk(w), "blobs 2 layers 1 tmp 0 records 1+1");
    images_holds_done(w->images);
    world_settle(w);
    assert_string_equal(world_disk(w), "blobs 0 layers 0 tmp 0 records 0+0");
    outcome_fini(&o);
    buf_fini(&tar);
    buf_fini(&out);
    made_fini(&one);
    made_fini(&two);
}

static void prune_takes_the_nameless_or_the_unused(void **state)
{
    struct world *w = *state;
    struct made one, two;
    struct buf out = {0};
    char reply[700];

    load_two(w, &one, &two);
    assert_int_equal(image_prune(w->images, true, &out, NULL), 0);
    assert_string_equal(buf_str(&out), "{\"ImagesDeleted\":[],\"SpaceReclaimed\":0}");
    buf_clear(&out);
    assert_int_equal(image_tag(w->images, "one:1", "two:1", NULL), 0);
    assert_int_equal(image_tag(w->images, "one:1", "reg.example:5000/two:2", NULL), 0);
    snprintf(reply, sizeof(reply),
             "{\"ImagesDeleted\":[{\"Deleted\":\"%s\"},{\"Deleted\":\"%s\"}],\"SpaceReclaimed\":3}", two.id,
             two.diff_ids[1]);
    assert_int_equal(image_prune(w->images, true, &out, NULL), 0);
    assert_string_equal(buf_str(&out), reply);
    buf_clear(&out);
    w->user = (char *)"container x";
    assert_int_equal(image_prune(w->images, false, &out, NULL), 0);
    assert_int_equal(images_count(w->images), 1);
    w->user = NULL;
    buf_clear(&out);
    assert_int_equal(image_prune(w->images, false, &out, NULL), 0);
    assert_int_equal(images_count(w->images), 0);
    assert_non_null(strstr(buf_str(&out), "{\"Untagged\":\"one:1\"}"));
    assert_non_null(strstr(buf_str(&out), "\"SpaceReclaimed\":2}"));
    world_settle(w);
    assert_string_equal(world_disk(w), "blobs 0 layers 0 tmp 0 records 0+0");
    buf_fini(&out);
    made_fini(&one);
    made_fini(&two);
}

/* --- what a crash or a hand may have left -------------------------------------------------------- */

static void path_in(struct world *w, const char *below, const char *digest, char *into, size_t size)
{
    snprintf(into, size, "%s/%s/%s", w->dir, below, digest + 7);
}

static void drop_tree(const char *path)
{
    int fd = -1;

    assert_int_equal(dir_open(path, &fd, NULL), 0);
    close(fd);
    AUTO_FREE
    char *parent = mem_strdup(path);
    *strrchr(parent, '/') = '\0';
    assert_int_equal(dir_open(parent, &fd, NULL), 0);
    assert_int_equal(tree_remove(fd, strrchr(path, '/') + 1, NULL), 0);
    close(fd);
}

static void layer_that_lost_its_directory_is_unpacked_again(void **state)
{
    struct world *w = *state;
    struct made one, two;
    char path[300];
    int fds[2];
    struct err e;

    load_two(w, &one, &two);
    world_close(w);
    path_in(w, "layers", two.diff_ids[1], path, sizeof(path));
    drop_tree(path);
    world_open(w);
    assert_found(w, "two:1", two.id);
    assert_int_equal(image_layers_open(w->images, two.id, fds, 2, &e), ERR_UNAVAILABLE);
    assert_non_null(strstr(e.text, "being unpacked again"));
    world_settle(w);
    assert_layers(w, two.id, 2, ". dir 0755 0:0\nb file 0644 0:0 3\n. dir 0755 0:0\na file 0644 0:0 2\n");
    assert_string_equal(world_disk(w), "blobs 4 layers 2 tmp 0 records 2+2");
    made_fini(&one);
    made_fini(&two);
}

static void image_that_lost_what_it_needs_is_dropped_and_the_rest_stays(void **state)
{
    struct world *w = *state;
    static const char *const what[] = {"layer and blob", "config", "damaged config", "layer record"};

    for (size_t i = 0; i < ARRAY_SIZE(what); i++) {
        struct made one, two;
        char path[300];
        struct buf out = {0};

        load_two(w, &one, &two);
        world_close(w);
        if (i == 0) {
            path_in(w, "layers", two.diff_ids[1], path, sizeof(path));
            drop_tree(path);
            path_in(w, "blobs/sha256", two.digests[1], path, sizeof(path));
        } else {
            path_in(w, i == 3 ? "records/layers" : "blobs/sha256", i == 3 ? two.diff_ids[1] : two.id, path,
                    sizeof(path));
        }
        if (i == 2) {
            int fd = open(path, O_WRONLY | O_CLOEXEC);
            assert_int_equal(pwrite(fd, "X", 1, 3), 1);
            close(fd);
        } else {
            assert_int_equal(unlink(path), 0);
        }
        world_reopen(w);
        assert_absent(w, "two:1", ERR_NOT_FOUND, "No such image");
        assert_found(w, "one:1", one.id);
        assert_string_equal(world_disk(w), "blobs 2 layers 1 tmp 0 records 1+1");
        assert_int_equal(image_remove(w->images, "one:1", false, true, &out, NULL), 0);
        world_settle(w);
        buf_fini(&out);
        made_fini(&one);
        made_fini(&two);
    }
}

static void what_nobody_names_is_removed_at_open(void **state)
{
    struct world *w = *state;
    struct made one, two;
    char path[300];
    static const char *const junk[] = {
        "blobs/sha256/0000000000000000000000000000000000000000000000000000000000000000",
        "blobs/sha256/.x.tmp",
        "layers/0000000000000000000000000000000000000000000000000000000000000000",
        "tmp/pull-1-2",
        "tmp/dead-1-2",
        "tmp/layer-7",
    };

    load_two(w, &one, &two);
    world_close(w);
    for (size_t i = 0; i < ARRAY_SIZE(junk); i++) {
        snprintf(path, sizeof(path), "%s/%s", w->dir, junk[i]);
        if (i < 2) {
            close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
            continue;
        }
        assert_int_equal(mkdir(path, 0700), 0);
        snprintf(path, sizeof(path), "%s/%s/file", w->dir, junk[i]);
        close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    }
    world_reopen(w);
    assert_string_equal(world_disk(w), "blobs 4 layers 2 tmp 0 records 2+2");
    assert_int_equal(images_count(w->images), 2);
    made_fini(&one);
    made_fini(&two);
}

static void half_moved_tag_belongs_to_the_one_tagged_last(void **state)
{
    struct world *w = *state;
    struct made one, two;
    char from[300], to[300];
    struct buf old = {0};
    struct err e;
    int fd;

    load_two(w, &one, &two);
    world_settle(w);
    path_in(w, "records/images", one.id, from, sizeof(from));
    assert_int_equal(file_read(AT_FDCWD, from, 1 << 20, &old, NULL), 0);
    uv_sleep(5);
    assert_int_equal(image_tag(w->images, "two:1", "one:1", NULL), 0);
    world_close(w);
    /* The crash: the new owner's record was written, the old one's was not. */
    snprintf(to, sizeof(to), "%s/records/images", w->dir);
    assert_int_equal(dir_open(to, &fd, NULL), 0);
    assert_int_equal(file_replace(fd, one.id + 7, 0600, buf_bytes(&old), old.length, false, &e), 0);
    close(fd);
    for (int again = 0; again < 2; again++) {
        world_reopen(w);
        assert_found(w, "one:1", two.id);
        assert_int_equal(world_found(w, one.id)->n_tags, 0);
    }
    buf_fini(&old);
    made_fini(&one);
    made_fini(&two);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(tags_are_given_and_refused),
        TEST(removal_follows_dockers_rules),
        TEST(forced_removal_by_id_takes_all_names),
        TEST(removed_image_that_a_container_holds_keeps_its_layers),
        TEST(prune_takes_the_nameless_or_the_unused),
        TEST(layer_that_lost_its_directory_is_unpacked_again),
        TEST(image_that_lost_what_it_needs_is_dropped_and_the_rest_stays),
        TEST(what_nobody_names_is_removed_at_open),
        TEST(half_moved_tag_belongs_to_the_one_tagged_last),
    };

    if (getuid() != 0) {
        puts("skip image_test: needs root, for the helper to confine itself");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
