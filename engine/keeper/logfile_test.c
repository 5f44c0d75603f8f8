/* Log files hold what was written, entry by entry, in the format Docker's readers know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <jansson.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/keeper/logfile.h"
#include "proto/base/base64.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

struct place {
    char path[64];
    int dir;
};

static int make_place(void **state)
{
    struct place *p = mem_alloc(sizeof(*p));

    (void)snprintf(p->path, sizeof(p->path), "/tmp/shoal-logfile-XXXXXX");
    assert_non_null(mkdtemp(p->path));
    assert_int_equal(dir_open(p->path, &p->dir, NULL), 0);
    *state = p;
    return 0;
}

static int remove_place(void **state)
{
    struct place *p = *state;

    close(p->dir);
    (void)umount2(p->path, MNT_DETACH); /* only one test mounts */
    AUTO_CLOSE
    int above = -1;
    assert_int_equal(dir_open("/tmp", &above, NULL), 0);
    assert_int_equal(tree_remove(above, p->path + strlen("/tmp/"), NULL), 0);
    free(p);
    return 0;
}

static void open_log(struct place *p, struct logfile *f, uint64_t size_max, unsigned files_max)
{
    logfile_open(f, fcntl(p->dir, F_DUPFD_CLOEXEC, 0), "c1", size_max, files_max);
}

static void put(struct logfile *f, const char *text)
{
    AUTO_BUF struct buf batch = {0};

    logfile_entry(&batch, text, strlen(text), "stdout", 1700000000123456789);
    logfile_write(f, &batch);
    assert_int_equal(batch.length, 0);
}

static const char *contents(struct place *p, const char *name, struct buf *into)
{
    buf_clear(into);
    if (file_read(p->dir, name, 1 << 20, into, NULL) < 0)
        return NULL;
    return buf_str(into);
}

static void entry_is_dockers(void **state)
{
    AUTO_BUF struct buf text = {0};
    struct logfile f;
    struct stat st;

    open_log(*state, &f, 0, 1);
    put(&f, "he said \"hi\"\t<b>\n");
    assert_string_equal(contents(*state, "c1-json.log", &text),
                        "{\"log\":\"he said \\\"hi\\\"\\t\\u003cb\\u003e\\n\",\"stream\":\"stdout\","
                        "\"time\":\"2023-11-14T22:13:20.123456789Z\"}\n");
    assert_int_equal(fstat(f.fd, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    logfile_close(&f);
}

static void bytes_that_are_no_text_become_valid_json(void **state)
{
    static const char bytes[] = "a\xff\xc3\x28\xe2\x82\x00\xed\xa0\x80z\xf0\x9f\x90\xb3\n";
    AUTO_BUF struct buf batch = {0};
    json_error_t error;

    logfile_entry(&batch, bytes, sizeof(bytes) - 1, "stderr", 1);
    json_t *root = json_loadb(buf_bytes(&batch), batch.length, JSON_ALLOW_NUL, &error);
    assert_non_null(root);
    const char *log = json_string_value(json_object_get(root, "log"));
    assert_non_null(strstr(log, "\xef\xbf\xbd"));
    const char *raw = json_string_value(json_object_get(root, "raw")); /* as they were */
    char decoded[64];
    size_t size;
    assert_true(base64_decode(raw, strlen(raw), decoded, &size));
    assert_int_equal(size, sizeof(bytes) - 1);
    assert_memory_equal(decoded, bytes, size);
    json_decref(root);
}

static void lines_are_cut_at_newlines_and_at_sixteen_kib(void **state)
{
    static char text[40000];

    assert_int_equal(logfile_cut("ab\ncd\n", 6), 3);
    assert_int_equal(logfile_cut("\n", 1), 1);
    assert_int_equal(logfile_cut("ab", 2), 0);
    assert_int_equal(logfile_cut("", 0), 0);
    memset(text, 'x', sizeof(text));
    assert_int_equal(logfile_cut(text, LOG_TEXT_MAX - 1), 0);
    assert_int_equal(logfile_cut(text, LOG_TEXT_MAX), LOG_TEXT_MAX);
    text[LOG_TEXT_MAX - 1] = '\n';
    assert_int_equal(logfile_cut(text, sizeof(text)), LOG_TEXT_MAX);
    text[LOG_TEXT_MAX - 1] = 'x';
    text[LOG_TEXT_MAX] = '\n';
    assert_int_equal(logfile_cut(text, sizeof(text)), LOG_TEXT_MAX);
}

static void character_is_not_cut(void **state)
{
    static char text[20000];

    memset(text, 'x', sizeof(text));
    memcpy(text + LOG_TEXT_MAX - 2, "\xf0\x9f\x90\xb3", 4);
    assert_int_equal(logfile_cut(text, sizeof(text)), LOG_TEXT_MAX - 2);
    memset(text, 0x80, sizeof(text)); /* no characters at all: cut anywhere */
    assert_int_equal(logfile_cut(text, sizeof(text)), LOG_TEXT_MAX);
}

static void full_file_is_rotated_and_the_oldest_goes(void **state)
{
    AUTO_BUF struct buf text = {0};
    struct logfile f;

    open_log(*state, &f, 100, 3);
    for (int i = 0; i < 9; i++) {
        char line[64];

        (void)snprintf(line, sizeof(line), "line %d ...........................\n", i);
        put(&f, line); /* one is longer than a hundred bytes: each file holds one */
    }
    assert_non_null(strstr(contents(*state, "c1-json.log", &text), "line 8"));
    assert_non_null(strstr(contents(*state, "c1-json.log.1", &text), "line 7"));
    assert_non_null(strstr(contents(*state, "c1-json.log.2", &text), "line 6"));
    assert_null(contents(*state, "c1-json.log.3", &text));
    logfile_close(&f);
}

static void one_batch_spreads_over_several_files(void **state)
{
    AUTO_BUF struct buf text = {0}, batch = {0};
    struct logfile f;

    open_log(*state, &f, 200, 10);
    for (int i = 0; i < 10; i++)
        logfile_entry(&batch, "1234567890\n", 11, "stdout", i + 1);
    size_t entry = batch.length / 10;
    logfile_write(&f, &batch);
    size_t total = 0;
    for (int i = 0; i < 10; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), i ? "c1-json.log.%d" : "c1-json.log", i);
        if (contents(*state, name, &text)) {
            assert_true(text.length < 200 + entry);
            assert_int_equal(text.length % entry, 0);
            total += text.length / entry;
        }
    }
    assert_int_equal(total, 10);
    logfile_close(&f);
}

static void single_file_is_emptied_when_full(void **state)
{
    AUTO_BUF struct buf text = {0};
    struct logfile f;

    open_log(*state, &f, 100, 1);
    put(&f, "first ................................\n");
    put(&f, "second ...............................\n");
    contents(*state, "c1-json.log", &text);
    assert_null(strstr(buf_str(&text), "first"));
    assert_non_null(strstr(buf_str(&text), "second"));
    assert_null(contents(*state, "c1-json.log.1", &text));
    logfile_close(&f);
}

static void torn_last_line_is_cut_off_on_opening(void **state)
{
    AUTO_BUF struct buf text = {0};
    struct place *p = *state;
    struct logfile f;

    open_log(p, &f, 0, 1);
    put(&f, "whole\n");
    size_t whole = f.size;
    assert_int_equal(write_all(f.fd, "{\"log\":\"to", 10, NULL), 0);
    logfile_close(&f);
    open_log(p, &f, 0, 1);
    put(&f, "next\n");
    contents(p, "c1-json.log", &text);
    assert_memory_equal(buf_str(&text) + whole, "{\"log\":\"next", 12);
    logfile_close(&f);
}

static void full_disk_loses_whole_lines_and_says_so_afterwards(void **state)
{
    AUTO_BUF struct buf text = {0};
    struct place *p = *state;
    struct logfile f;

    if (mount("tmpfs", p->path, "tmpfs", 0, "size=64k") < 0) {
        print_message("skip: needs to mount a tmpfs\n");
        skip();
    }
    close(p->dir);
    assert_int_equal(dir_open(p->path, &p->dir, NULL), 0);
    open_log(p, &f, 0, 1);
    put(&f, "before\n");
    int filler = openat(p->dir, "filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    static const char block[4096];
    while (write(filler, block, sizeof(block)) > 0)
        ;
    AUTO_BUF struct buf batch = {0};
    for (int i = 0; i < 200; i++)
        logfile_entry(&batch, "this line comes while the disk is full\n", 39, "stdout", i + 1);
    logfile_write(&f, &batch);
    uint64_t lost = f.lost_lines;
    assert_true(lost > 0);
    contents(p, "c1-json.log", &text);
    assert_int_equal(buf_str(&text)[text.length - 1], '\n');
    assert_int_equal(ftruncate(filler, 0), 0);
    close(filler);
    put(&f, "after\n");
    contents(p, "c1-json.log", &text);
    char said[64];
    (void)snprintf(said, sizeof(said), "shoal: %llu lines of output could not be logged: No space left on device",
                   (unsigned long long)lost);
    assert_non_null(strstr(buf_str(&text), said));
    assert_non_null(strstr(buf_str(&text), "after"));
    assert_int_equal(f.lost_lines, 0);
    logfile_close(&f);
}

static void log_that_is_no_file_loses_lines_without_harm(void **state)
{
    struct place *p = *state;
    struct logfile f;

    assert_int_equal(mkfifoat(p->dir, "c1-json.log", 0600), 0);
    open_log(p, &f, 0, 1);
    put(&f, "nowhere\n");
    assert_int_equal(f.lost_lines, 1);
    logfile_close(&f);
    assert_int_equal(unlinkat(p->dir, "c1-json.log", 0), 0);
    assert_int_equal(symlinkat("/etc/passwd", p->dir, "c1-json.log"), 0);
    open_log(p, &f, 0, 1);
    put(&f, "nowhere\n");
    assert_int_equal(f.lost_lines, 1);
    logfile_close(&f);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(entry_is_dockers),
        TEST(bytes_that_are_no_text_become_valid_json),
        TEST(lines_are_cut_at_newlines_and_at_sixteen_kib),
        TEST(character_is_not_cut),
        TEST(full_file_is_rotated_and_the_oldest_goes),
        TEST(one_batch_spreads_over_several_files),
        TEST(single_file_is_emptied_when_full),
        TEST(torn_last_line_is_cut_off_on_opening),
        TEST(full_disk_loses_whole_lines_and_says_so_afterwards),
        TEST(log_that_is_no_file_loses_lines_without_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
