/* Buffers: appended at the end, consumed at the front, against a plain array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/buf.h"
#include "proto/base/entropy.h"
#include "proto/base/mem.h"

static void empty_buffer_is_an_empty_text(void **state)
{
    AUTO_BUF struct buf b = {0}, c = {0};
    char *stolen = buf_steal(&c);

    assert_string_equal(buf_str(&b), "");
    assert_int_equal(b.length, 0);
    assert_string_equal(stolen, "");
    free(stolen);
    buf_append(&b, NULL, 0);
    buf_append_str(&b, "");
    buf_consume(&b, 0);
    assert_int_equal(b.length, 0);
}

static void texts_are_appended_and_stolen(void **state)
{
    AUTO_BUF struct buf b = {0};

    buf_append_str(&b, "one ");
    buf_append_char(&b, '2');
    buf_printf(&b, " %s %d", "three", 4);
    assert_string_equal(buf_str(&b), "one 2 three 4");
    buf_consume(&b, 4);
    assert_string_equal(buf_str(&b), "2 three 4");
    char *stolen = buf_steal(&b);
    assert_string_equal(stolen, "2 three 4");
    assert_null(b.data);
    assert_int_equal(b.length, 0);
    free(stolen);
}

static void printing_fits_at_every_size(void **state)
{
    AUTO_BUF struct buf b = {0};

    for (int width = 0; width < 300; width++) {
        buf_clear(&b);
        buf_append_char(&b, '<');
        buf_printf(&b, "%*d", width, 7);
        assert_int_equal(b.length, 1 + MAX(width, 1));
        assert_int_equal(buf_bytes(&b)[b.length - 1], '7');
    }
}

static void random_appends_and_consumes_keep_the_bytes(void **state)
{
    AUTO_BUF struct buf b = {0};
    struct entropy_seeded e;
    uint64_t written = 0, read = 0;

    print_message("# seed 13\n");
    entropy_seeded_init(&e, 13);
    for (int step = 0; step < 20000; step++) {
        if (entropy_below(&e.base, 2)) {
            size_t size = entropy_below(&e.base, 200);
            char *place = buf_reserve(&b, size);

            for (size_t i = 0; i < size; i++)
                place[i] = (char)(written++ * 31);
            buf_added(&b, size);
        } else {
            size_t size = entropy_below(&e.base, 400);

            size = MIN(size, b.length);
            for (size_t i = 0; i < size; i++)
                assert_int_equal(buf_bytes(&b)[i], (char)(read++ * 31));
            buf_consume(&b, size);
        }
        assert_int_equal(b.length, written - read);
    }
    assert_true(b.capacity < 1 << 20); /* consumed room is used again */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_buffer_is_an_empty_text),
        cmocka_unit_test(texts_are_appended_and_stolen),
        cmocka_unit_test(printing_fits_at_every_size),
        cmocka_unit_test(random_appends_and_consumes_keep_the_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
