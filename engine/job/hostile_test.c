/* shoal-job unpack against hostile, damaged and truncated archives: refused with a text that says what is wrong, or
 * kept inside; never a byte outside of the layer's directory. Each row runs the real program. */
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

#include "proto/base/entropy.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/support/job.h"
#include "tests/support/tarball.h"
#include "tests/support/unpack.h"

#define LIMIT_BYTES (1 << 20)
#define LIMIT_FILES 200
#define LIMIT_DEPTH 20

/* --- paths that want out ------------------------------------------------------------------------- */

static void dotdot(struct buf *t, const char *outside)
{
    TAR(t, .name = "../outside/evil", .data = "x");
}

static void dotdot_in_the_middle(struct buf *t, const char *outside)
{
    TAR(t, .name = "a/../../outside/evil", .data = "x");
}

static void dotdot_at_the_end(struct buf *t, const char *outside)
{
    TAR(t, .name = "a/..", .type = '5');
}

static void dotdot_alone(struct buf *t, const char *outside)
{
    TAR(t, .name = "..", .type = '5', .mode = 0777);
}

static void dotdot_after_a_slash(struct buf *t, const char *outside)
{
    TAR(t, .name = "/../outside/evil", .data = "x");
}

static void dotdot_by_pax(struct buf *t, const char *outside)
{
    tar_pax(t, "path", "x/../../outside/evil", NULL);
    TAR(t, .name = "innocent", .data = "x");
}

static void dotdot_by_gnu(struct buf *t, const char *outside)
{
    tar_gnu_long(t, 'L', "../outside/evil");
    TAR(t, .name = "innocent", .data = "x", .magic = "ustar  ");
}

static void absolute_path(struct buf *t, const char *outside)
{
    char name[100];

    snprintf(name, sizeof(name), "%s/evil", outside);
    TAR(t, .name = name, .data = "x");
}

static void absolute_directory_mode(struct buf *t, const char *outside)
{
    char name[100];

    snprintf(name, sizeof(name), "%s/", outside);
    TAR(t, .name = name, .type = '5', .mode = 01777, .uid = 1000);
}

/* --- links --------------------------------------------------------------------------------------- */

static void absolute_link_then_below_it(struct buf *t, const char *outside)
{
    TAR(t, .name = "l", .type = '2', .link = outside);
    TAR(t, .name = "l/evil", .data = "x");
}

static void upward_link_then_below_it(struct buf *t, const char *outside)
{
    TAR(t, .name = "l", .type = '2', .link = "../outside");
    TAR(t, .name = "l/evil", .data = "x");
}

static void upward_link_deeper_down(struct buf *t, const char *outside)
{
    TAR(t, .name = "a/b/l", .type = '2', .link = "../../../outside");
    TAR(t, .name = "a/b/l/evil", .data = "x");
}

static void chain_of_links(struct buf *t, const char *outside)
{
    TAR(t, .name = "one", .type = '2', .link = "two");
    TAR(t, .name = "two", .type = '2', .link = "three");
    TAR(t, .name = "three", .type = '2', .link = "../outside");
    TAR(t, .name = "one/evil", .data = "x");
}

static void link_loop(struct buf *t, const char *outside)
{
    TAR(t, .name = "a", .type = '2', .link = "b");
    TAR(t, .name = "b", .type = '2', .link = "a");
    TAR(t, .name = "a/evil", .data = "x");
}

static void link_to_nowhere_then_below_it(struct buf *t, const char *outside)
{
    TAR(t, .name = "l", .type = '2', .link = "not/there");
    TAR(t, .name = "l/evil", .data = "x");
}

static void link_then_file_through_it(struct buf *t, const char *outside)
{
    char name[100];

    snprintf(name, sizeof(name), "%s/canary", outside);
    TAR(t, .name = "l", .type = '2', .link = name);
    TAR(t, .name = "l", .data = "overwritten"); /* replaces the link, not what it leads to */
}

static void link_then_directory_mode_through_it(struct buf *t, const char *outside)
{
    TAR(t, .name = "l", .type = '2', .link = outside);
    TAR(t, .name = "l/", .type = '5', .mode = 01777, .uid = 1000);
}

static void directory_then_link_then_directory(struct buf *t, const char *outside)
{
    TAR(t, .name = "d/", .type = '5');
    TAR(t, .name = "d", .type = '2', .link = outside);
    TAR(t, .name = "d/evil", .data = "x");
}

static void directory_whose_time_is_set_through_a_link(struct buf *t, const char *outside)
{
    TAR(t, .name = "d/", .type = '5', .mtime = 1, .uid = 1000, .mode = 0777);
    TAR(t, .name = "d", .type = '2', .link = outside); /* the time is set at the end */
}

static void link_over_a_full_directory(struct buf *t, const char *outside)
{
    TAR(t, .name = "d/x", .data = "x");
    TAR(t, .name = "d", .type = '2', .link = outside);
}

static void file_over_a_full_directory(struct buf *t, const char *outside)
{
    TAR(t, .name = "d/x", .data = "x");
    TAR(t, .name = "d", .data = "x");
}

static void below_a_file(struct buf *t, const char *outside)
{
    TAR(t, .name = "f", .data = "x");
    TAR(t, .name = "f/g/h", .data = "x");
}

static void root_as_a_link(struct buf *t, const char *outside)
{
    TAR(t, .name = "./", .type = '2', .link = outside);
}

static void root_as_a_file(struct buf *t, const char *outside)
{
    TAR(t, .name = "/.", .data = "x");
}

static void hard_link_upwards(struct buf *t, const char *outside)
{
    TAR(t, .name = "h", .type = '1', .link = "../outside/canary");
}

static void hard_link_absolute(struct buf *t, const char *outside)
{
    char name[100];

    snprintf(name, sizeof(name), "%s/canary", outside);
    TAR(t, .name = "h", .type = '1', .link = name);
    TAR(t, .name = "h", .data = "overwritten");
}

static void hard_link_through_a_link(struct buf *t, const char *outside)
{
    TAR(t, .name = "l", .type = '2', .link = outside);
    TAR(t, .name = "h", .type = '1', .link = "l/canary");
}

static void hard_link_to_a_link_that_leads_out(struct buf *t, const char *outside)
{
    char name[100];

    snprintf(name, sizeof(name), "%s/canary", outside);
    TAR(t, .name = "l", .type = '2', .link = name);
    TAR(t, .name = "h", .type = '1', .link = "l"); /* a second name of the link, not of the canary */
    TAR(t, .name = "h", .data = "overwritten");
}

static void hard_link_to_a_directory(struct buf *t, const char *outside)
{
    TAR(t, .name = "d/", .type = '5');
    TAR(t, .name = "h", .type = '1', .link = "d");
}

static void hard_link_to_the_root(struct buf *t, const char *outside)
{
    TAR(t, .name = "h", .type = '1', .link = "./");
}

static void hard_link_to_itself(struct buf *t, const char *outside)
{
    TAR(t, .name = "h", .data = "x");
    TAR(t, .name = "h", .type = '1', .link = "./h");
}

static void hard_link_to_a_lower_layer(struct buf *t, const char *outside)
{
    TAR(t, .name = "h", .type = '1', .link = "usr/bin/absent");
}

static void hard_link_to_a_whiteout(struct buf *t, const char *outside)
{
    TAR(t, .name = ".wh.a", .data = "");
    TAR(t, .name = "h", .type = '1', .link = "a");
}

static void empty_symlink(struct buf *t, const char *outside)
{
    TAR(t, .name = "l", .type = '2');
}

static void long_symlink(struct buf *t, const char *outside)
{
    char link[5001];

    memset(link, 'x', sizeof(link) - 1);
    link[sizeof(link) - 1] = '\0';
    tar_gnu_long(t, 'K', link);
    TAR(t, .name = "l", .type = '2', .link = "x", .magic = "ustar  ");
}

/* --- whiteouts ----------------------------------------------------------------------------------- */

static void whiteout_of_nothing(struct buf *t, const char *outside)
{
    TAR(t, .name = "d/.wh.", .data = "");
}

static void whiteout_of_dot(struct buf *t, const char *outside)
{
    TAR(t, .name = "d/.wh..", .data = "");
}

static void whiteout_of_dotdot(struct buf *t, const char *outside)
{
    TAR(t, .name = "d/.wh...", .data = "");
}

static void below_a_whiteout(struct buf *t, const char *outside)
{
    TAR(t, .name = "d/.wh.x/y", .data = "");
}

static void opaque_through_a_link(struct buf *t, const char *outside)
{
    TAR(t, .name = "l", .type = '2', .link = outside);
    TAR(t, .name = "l/.wh..wh..opq", .data = "");
}

static void opaque_through_a_link_made_later(struct buf *t, const char *outside)
{
    TAR(t, .name = "d/.wh..wh..opq", .data = "");
    TAR(t, .name = "d", .type = '2', .link = outside);
}

/* --- too much ------------------------------------------------------------------------------------ */

static void too_many_files(struct buf *t, const char *outside)
{
    char name[16];

    for (int i = 0; i <= LIMIT_FILES; i++) {
        snprintf(name, sizeof(name), "f%d", i);
        TAR(t, .name = name, .data = "");
    }
}

static void too_many_whiteouts(struct buf *t, const char *outside)
{
    char name[16];

    for (int i = 0; i <= LIMIT_FILES; i++) {
        snprintf(name, sizeof(name), ".wh.%d", i);
        TAR(t, .name = name, .data = "");
    }
}

static void same_entry_for_ever(struct buf *t, const char *outside)
{
    for (int i = 0; i <= LIMIT_FILES; i++)
        TAR(t, .name = "same", .data = "x");
}

static void too_deep(struct buf *t, const char *outside)
{
    struct buf name = {0};

    for (int i = 0; i <= LIMIT_DEPTH; i++)
        buf_append_str(&name, "d/");
    TAR(t, .name = buf_str(&name), .type = '5');
    buf_fini(&name);
}

static void name_too_long(struct buf *t, const char *outside)
{
    char name[257];

    memset(name, 'n', 256);
    name[256] = '\0';
    tar_gnu_long(t, 'L', name);
    TAR(t, .name = "x", .data = "x", .magic = "ustar  ");
}

static void path_too_long(struct buf *t, const char *outside)
{
    struct buf name = {0};

    for (int i = 0; i < 18; i++)
        buf_printf(&name, "%0250d/", i);
    tar_pax(t, "path", buf_str(&name), NULL);
    TAR(t, .name = "x", .data = "x");
    buf_fini(&name);
}

static void file_too_large(struct buf *t, const char *outside)
{
    TAR(t, .name = "big", .data = "x", .size_said = LIMIT_BYTES + 1);
}

static void files_too_large_together(struct buf *t, const char *outside)
{
    static char data[LIMIT_BYTES / 4];
    char name[8];

    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof(name), "f%d", i);
        TAR(t, .name = name, .data = data, .size = sizeof(data));
    }
}

static void size_of_eight_exbibytes(struct buf *t, const char *outside)
{
    TAR(t, .name = "big", .data = "x", .size_field = "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff");
}

static void negative_size(struct buf *t, const char *outside)
{
    TAR(t, .name = "big", .data = "x", .size_field = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
}

static void sparse_bomb(struct buf *t, const char *outside)
{
    char map[512] = "1\n4398046511104\n1\n";

    tar_pax(t, "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "sparse", "GNU.sparse.realsize",
            "4398046511105", NULL);
    TAR(t, .name = "x", .data = map, .size = sizeof(map));
}

static void sparse_map_outside_of_its_file(struct buf *t, const char *outside)
{
    char data[1024] = "1\n524288\n512\n";

    tar_pax(t, "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "sparse", "GNU.sparse.realsize",
            "100", NULL);
    TAR(t, .name = "x", .data = data, .size = sizeof(data));
}

static void huge_pax_header(struct buf *t, const char *outside)
{
    size_t size = 900000;
    char *text = mem_alloc(size + 1);

    memset(text, 'x', size);
    memcpy(text, "900000 comment=", 15);
    text[size - 1] = '\n';
    for (int i = 0; i < 3; i++)
        tar_pax_raw(t, 'x', text, size);
    TAR(t, .name = "x", .data = "x");
    free(text);
}

static void device_bomb(struct buf *t, const char *outside)
{
    char name[16];

    for (int i = 0; i < LIMIT_FILES + 1; i++) {
        snprintf(name, sizeof(name), "dev%d", i);
        TAR(t, .name = name, .type = '4', .major = 8, .minor = (unsigned)i);
    }
}

/* --- fields out of range ------------------------------------------------------------------------- */

static void owner_out_of_range(struct buf *t, const char *outside)
{
    tar_pax(t, "uid", "4294967295", NULL); /* -1 as a user id: would mean "unchanged" */
    TAR(t, .name = "x", .data = "x");
}

static void negative_owner(struct buf *t, const char *outside)
{
    TAR(t, .name = "x", .data = "x", .uid_field = "\xff\xff\xff\xff\xff\xff\xff\xff");
}

static void device_out_of_range(struct buf *t, const char *outside)
{
    TAR(t, .name = "x", .type = '3', .major = 070000, .minor = 1);
}

static void huge_attribute(struct buf *t, const char *outside)
{
    char *value = mem_alloc(70001);

    memset(value, 'v', 70000);
    tar_pax(t, "SCHILY.xattr.user.big", value, NULL);
    TAR(t, .name = "x", .data = "x");
    free(value);
}

static void capability_that_is_none(struct buf *t, const char *outside)
{
    tar_pax(t, "SCHILY.xattr.security.capability", "garbage", NULL);
    TAR(t, .name = "x", .data = "x");
}

static void pax_length_that_lies(struct buf *t, const char *outside)
{
    tar_pax_raw(t, 'x', "99999 path=../outside/evil\n", 27);
    TAR(t, .name = "x", .data = "x");
}

static void pax_without_a_length(struct buf *t, const char *outside)
{
    tar_pax_raw(t, 'x', "path=../outside/evil\n", 21);
    TAR(t, .name = "x", .data = "x");
}

/* --- damage -------------------------------------------------------------------------------------- */

static void wrong_checksum(struct buf *t, const char *outside)
{
    TAR(t, .name = "a", .data = "a");
    TAR(t, .name = "x", .data = "x", .checksum_off = 1);
}

static void cut_in_a_header(struct buf *t, const char *outside)
{
    TAR(t, .name = "a", .data = "a");
    TAR(t, .name = "x", .data = "x");
    t->length -= 512 + 300;
}

static void cut_in_a_file(struct buf *t, const char *outside)
{
    TAR(t, .name = "x", .data = "x", .size_said = 100000);
}

static void no_archive(struct buf *t, const char *outside)
{
    for (int i = 0; i < 100; i++)
        buf_append_str(t, "this is no archive at all ");
}

static void nothing(struct buf *t, const char *outside)
{
}

static void zip_file(struct buf *t, const char *outside)
{
    buf_append(t, "PK\x03\x04\x14\x00\x00\x00\x00\x00", 10);
    buf_append(t, (char[1000]){0}, 1000);
}

static void honest(struct buf *t, const char *outside)
{
    TAR(t, .name = "a", .data = "a");
}

/* The names below say what becomes of the archive after it was closed. */
enum then { PLAIN, OPEN_END, GZIP_CUT, GZIP_FLIPPED, GZIP_TWICE, ZSTD_CUT, ZSTD_FLIPPED, XZ_CUT, BZIP2_CUT, BOMB };

#define CONTAINED NULL /* accepted, and all of it stays inside */

static const struct {
    const char *name;
    void (*build)(struct buf *t, const char *outside);
    const char *refused; /* part of the text */
    enum then then;
} rows[] = {
#define ROW(what, why)                               \
    {                                                \
        .name = #what, .build = what, .refused = why \
    }
#define DAMAGED(what, how, why)                                   \
    {                                                             \
        .name = #what, .build = what, .refused = why, .then = how \
    }
    ROW(dotdot, "leads upwards"),
    ROW(dotdot_in_the_middle, "leads upwards"),
    ROW(dotdot_at_the_end, "leads upwards"),
    ROW(dotdot_alone, "leads upwards"),
    ROW(dotdot_after_a_slash, "leads upwards"),
    ROW(dotdot_by_pax, "leads upwards"),
    ROW(dotdot_by_gnu, "leads upwards"),
    ROW(absolute_path, CONTAINED),
    ROW(absolute_directory_mode, CONTAINED),
    ROW(absolute_link_then_below_it, "leads out of the layer"),
    ROW(upward_link_then_below_it, "leads out of the layer"),
    ROW(upward_link_deeper_down, "leads out of the layer"),
    ROW(chain_of_links, "leads out of the layer"),
    ROW(link_loop, "loop of links"),
    ROW(link_to_nowhere_then_below_it, "is no directory"),
    ROW(link_then_file_through_it, CONTAINED),
    ROW(link_then_directory_mode_through_it, CONTAINED),
    ROW(directory_then_link_then_directory, "leads out of the layer"),
    ROW(directory_whose_time_is_set_through_a_link, CONTAINED),
    ROW(link_over_a_full_directory, "directory that has content"),
    ROW(file_over_a_full_directory, "directory that has content"),
    ROW(below_a_file, "is no directory"),
    ROW(root_as_a_link, "only a directory"),
    ROW(root_as_a_file, "only a directory"),
    ROW(hard_link_upwards, "leads upwards"),
    ROW(hard_link_absolute, "which this layer does not hold"),
    ROW(hard_link_through_a_link, "leads out of the layer"),
    ROW(hard_link_to_a_link_that_leads_out, CONTAINED),
    ROW(hard_link_to_a_directory, "hard link to the directory"),
    ROW(hard_link_to_the_root, "the layer's own directory"),
    ROW(hard_link_to_itself, "hard link to itself"),
    ROW(hard_link_to_a_lower_layer, "\"usr/bin/absent\", which this layer does not hold"),
    ROW(hard_link_to_a_whiteout, "which this layer does not hold"),
    ROW(empty_symlink, "link to nothing"),
    ROW(long_symlink, "the link has more than"),
    ROW(whiteout_of_nothing, "whiteout of nothing"),
    ROW(whiteout_of_dot, "whiteout of nothing"),
    ROW(whiteout_of_dotdot, "whiteout of nothing"),
    ROW(below_a_whiteout, "below a whiteout"),
    ROW(opaque_through_a_link, "leads out of the layer"),
    ROW(opaque_through_a_link_made_later, CONTAINED),
    ROW(too_many_files, "more than the 200 entries"),
    ROW(too_many_whiteouts, "more than the 200 entries"),
    ROW(same_entry_for_ever, "more than the 200 entries"),
    ROW(too_deep, "more than 20 directories deep"),
    ROW(name_too_long, "a name in the path has 256 bytes"),
    ROW(path_too_long, "the path has more than 4095 bytes"),
    ROW(file_too_large, "more than the 1048576 bytes allowed"),
    ROW(files_too_large_together, "more than the 1048576 bytes allowed"),
    ROW(size_of_eight_exbibytes, "damaged"),
    ROW(negative_size, "damaged"),
    ROW(sparse_bomb, "more than the 1048576 bytes allowed"),
    ROW(sparse_map_outside_of_its_file, "outside of its size"),
    ROW(huge_pax_header, "unpacks to more than"),
    ROW(device_bomb, "more than the 200 entries"),
    ROW(owner_out_of_range, "its owner"),
    ROW(negative_owner, "its owner"),
    ROW(device_out_of_range, "its device number"),
    ROW(huge_attribute, "extended attribute has more than"),
    ROW(capability_that_is_none, "set the attribute security.capability"),
    ROW(pax_length_that_lies, "damaged"),
    ROW(pax_without_a_length, "damaged"),
    ROW(wrong_checksum, "damaged"),
    DAMAGED(cut_in_a_header, OPEN_END, "damaged"),
    DAMAGED(cut_in_a_file, OPEN_END, "damaged"),
    DAMAGED(no_archive, OPEN_END, "damaged"),
    DAMAGED(nothing, OPEN_END, "damaged"),
    DAMAGED(zip_file, OPEN_END, "damaged"),
    DAMAGED(honest, OPEN_END, "it was cut off"),
    DAMAGED(honest, GZIP_CUT, "damaged"),
    DAMAGED(honest, GZIP_FLIPPED, "damaged"),
    DAMAGED(honest, GZIP_TWICE, "damaged"),
    DAMAGED(honest, ZSTD_CUT, "damaged"),
    DAMAGED(honest, ZSTD_FLIPPED, "damaged"),
    DAMAGED(honest, XZ_CUT, "damaged"),
    DAMAGED(honest, BZIP2_CUT, "damaged"),
    DAMAGED(honest, BOMB, "unpacks to more than"),
};

static void make_blob(const struct buf *tar, enum then then, struct buf *blob)
{
    static const char *const filters[] = {
        [GZIP_CUT] = "gzip",     [GZIP_FLIPPED] = "gzip", [GZIP_TWICE] = "gzip", [ZSTD_CUT] = "zstd",
        [ZSTD_FLIPPED] = "zstd", [XZ_CUT] = "xz",         [BZIP2_CUT] = "bzip2", [BOMB] = "gzip"};
    struct buf more = {0};

    if (then == PLAIN || then == OPEN_END) {
        buf_append(blob, buf_bytes(tar), tar->length);
        return;
    }
    buf_append(&more, buf_bytes(tar), tar->length);
    if (then == BOMB) /* zeros behind the archive: they cost nothing to send */
        for (int i = 0; i < 64; i++)
            buf_append(&more, (char[65536]){0}, 65536);
    tar_compress(&more, filters[then], blob);
    buf_fini(&more);
    if (then == GZIP_TWICE) {
        buf_append(&more, buf_bytes(blob), blob->length);
        buf_clear(blob);
        tar_compress(&more, "gzip", blob);
        buf_fini(&more);
    }
    if (then == GZIP_CUT || then == ZSTD_CUT || then == XZ_CUT || then == BZIP2_CUT)
        blob->length -= 15;
    if (then == GZIP_FLIPPED || then == ZSTD_FLIPPED)
        buf_bytes(blob)[blob->length / 2] ^= 0x5a;
}

/* Everything but the two directories must be as it was. */
static bool nothing_appeared(const char *name, const char *base)
{
    AUTO_FREE
    char *all = tree_describe(base, 0);

    for (const char *line = all; *line; line = strchr(line, '\n') + 1)
        if (strncmp(line, "layer", 5) != 0 && strncmp(line, "outside", 7) != 0 && strncmp(line, ". ", 2) != 0) {
            print_error("%s: something appeared: %s", name, line);
            return false;
        }
    return true;
}

static bool ended_as_expected(size_t i, const struct unpacked *u)
{
    const char *refused = rows[i].refused;

    if (refused ? u->status == 1 && !u->done && strstr(u->error.text, refused) : u->status == 0 && u->done)
        return true;
    print_error("%s: status %d, \"%s\"%s%s\n", rows[i].name, u->status, u->error.text, refused ? " without " : "",
                refused ? refused : "");
    return false;
}

static bool run_row(size_t i)
{
    char *base = scratch_new("hostile-test"), layer[200], outside[200], canary[300];
    struct buf tar = {0}, blob = {0};
    struct unpack_how how = {
        .bytes_max = LIMIT_BYTES, .files_max = LIMIT_FILES, .depth_max = LIMIT_DEPTH, .complete = true};
    struct unpacked u;

    snprintf(layer, sizeof(layer), "%s/layer", base);
    snprintf(outside, sizeof(outside), "%s/outside", base);
    snprintf(canary, sizeof(canary), "%s/canary", outside);
    mkdir(layer, 0755);
    mkdir(outside, 0755);
    int fd = open(canary, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write_all(fd, "safe", 4, NULL), 0);
    close(fd);
    AUTO_FREE
    char *before = tree_describe(outside, 1);

    rows[i].build(&tar, outside);
    if (rows[i].then != OPEN_END)
        tar_close(&tar);
    make_blob(&tar, rows[i].then, &blob);
    unpack_run(&blob, layer, &how, &u);
    bool good = ended_as_expected(i, &u);
    AUTO_FREE
    char *after = tree_describe(outside, 1);
    if (strcmp(before, after) != 0) {
        print_error("%s: outside was\n%sand is\n%s", rows[i].name, before, after);
        good = false;
    }
    good = nothing_appeared(rows[i].name, base) && good;
    buf_fini(&tar);
    buf_fini(&blob);
    scratch_remove(base);
    return good;
}

static void hostile_archives_are_refused_or_contained(void **state)
{
    unsigned bad = 0;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        bad += !run_row(i);
    print_message("%zu archives\n", ARRAY_SIZE(rows));
    assert_int_equal(bad, 0);
}

static void wrong_digests_are_refused_by_name(void **state)
{
    static const char wrong[] = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    char *base = scratch_new("hostile-test");
    struct buf tar = {0};
    struct unpacked u;

    honest(&tar, NULL);
    tar_close(&tar);
    unpack_run(&tar, base, &(struct unpack_how){.digest = wrong}, &u);
    assert_int_equal(u.error.code, ERR_CORRUPT);
    assert_non_null(strstr(u.error.text, "the blob's digest is sha256:"));
    scratch_remove(base);
    base = scratch_new("hostile-test");
    unpack_run(&tar, base, &(struct unpack_how){.diff_id = wrong}, &u);
    assert_int_equal(u.error.code, ERR_CORRUPT);
    assert_non_null(strstr(u.error.text, "where the image's config says sha256:0000"));
    scratch_remove(base);
    buf_fini(&tar);
}

/* Any prefix of an honest archive, and any with some bytes changed, ends well or with a text: never by a signal. */
static void random_damage_never_kills_the_job(void **state)
{
    struct entropy_seeded random;
    struct buf tar = {0}, packed = {0};
    char diff_id[72];

    entropy_seeded_init(&random, 11);
    print_message("seed 11\n");
    tar_pax(&tar, "path", "some/long/name", "SCHILY.xattr.user.a", "b", "mtime", "1.5", NULL);
    TAR(&tar, .name = "short", .data = "contents");
    tar_gnu_long(&tar, 'L', "another/long/name");
    TAR(&tar, .name = "short", .type = '2', .link = "x", .magic = "ustar  ");
    TAR(&tar, .name = "d/.wh..wh..opq", .data = "");
    tar_close(&tar);
    tar_digest(&tar, diff_id);
    tar_compress(&tar, "zstd", &packed);
    for (int i = 0; i < 60; i++) {
        const struct buf *from = i % 3 ? &tar : &packed;
        char *base = scratch_new("hostile-test");
        struct buf blob = {0};
        struct unpacked u;

        buf_append(&blob, buf_bytes(from), from->length);
        if (i % 2)
            blob.length = entropy_below(&random.base, blob.length);
        for (int k = 0; k < 4 && blob.length; k++)
            buf_bytes(&blob)[entropy_below(&random.base, blob.length)] ^= (char)entropy_u64(&random.base);
        unpack_run(&blob, base, &(struct unpack_how){.diff_id = diff_id}, &u);
        if (u.status == 0 ? u.error.code != 0 : u.status != 1 || u.error.text[0] == '\0')
            fail_msg("round %d: status %d, text \"%s\"", i, u.status, u.error.text);
        buf_fini(&blob);
        scratch_remove(base);
    }
    buf_fini(&tar);
    buf_fini(&packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_archives_are_refused_or_contained),
        cmocka_unit_test(wrong_digests_are_refused_by_name),
        cmocka_unit_test(random_damage_never_kills_the_job),
    };

    if (getuid() != 0) {
        puts("skip hostile_test: needs root, to confine itself and to make devices");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
