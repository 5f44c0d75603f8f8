/* Frames: the format as it is, and that nothing else is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/mem.h"
#include "proto/wire/frame.h"

static void format_is_the_golden_one(void **state)
{
    static const uint8_t golden[] = {
        0, 0, 0, 8,  0, 0, 0, 0, 1, 0, 0, 0, 'S', 'H', 'R', 'P', 0,   1,   0,   0, /* hello */
        0, 0, 0, 4,  0, 0, 0, 7, 4, 0, 0, 0, 0,   1,   0,   0,                     /* credit of 65,536 */
        0, 0, 0, 3,  0, 1, 0, 2, 3, 0, 0, 0, 'a', 'b', 'c',                        /* data on stream 65,538 */
        0, 0, 0, 11, 0, 0, 0, 1, 5, 0, 0, 0, 255, 255, 255, 254, 'n', 'o', ' ', 'w', 'a', 'y', '!', /* end */
        0, 0, 0, 4,  0, 0, 0, 0, 8, 0, 0, 0, 0,   0,   0,   0, /* close, plain */
    };
    AUTO_BUF struct buf b = {0};

    frame_put_hello(&b);
    frame_put_u32(&b, FRAME_CREDIT, 7, 65536);
    frame_put(&b, FRAME_DATA, 65538, "abc", 3);
    frame_put_reason(&b, FRAME_END, 1, ERR_NOT_FOUND, "no way!");
    frame_put_reason(&b, FRAME_CLOSE, 0, 0, "");
    assert_int_equal(b.length, sizeof(golden));
    assert_memory_equal(buf_bytes(&b), golden, sizeof(golden));
}

static void frames_are_read_at_every_split(void **state)
{
    AUTO_BUF struct buf b = {0};
    static uint8_t big[FRAME_PAYLOAD_MAX];
    static const uint8_t pong[8];

    memset(big, 'b', sizeof(big));
    frame_put_hello(&b);
    frame_put(&b, FRAME_OPEN, 1, "\1\2first", 7);
    frame_put(&b, FRAME_PONG, 0, pong, 8);
    frame_put(&b, FRAME_DATA, 1, big, 100);
    frame_put_reason(&b, FRAME_END, 1, ERR_IO, "disk");
    for (size_t step = 1; step <= b.length; step++) {
        static const enum frame_type types[] = {FRAME_HELLO, FRAME_OPEN, FRAME_PONG, FRAME_DATA, FRAME_END};
        struct frame_reader r = {0};
        size_t count = 0;

        for (size_t at = 0; at < b.length; at += step) {
            /* A copy of its own, so that a sanitizer sees reads beyond it. */
            size_t size = MIN(step, b.length - at);
            uint8_t *copy = mem_dup(buf_bytes(&b) + at, size);
            const uint8_t *data = copy;
            struct frame f;
            struct err e;
            int rc;

            while ((rc = frame_read(&r, &data, &size, &f, &e)) > 0) {
                assert_int_equal(f.type, types[count]);
                if (f.type == FRAME_DATA)
                    assert_memory_equal(f.payload, big, 100);
                if (f.type == FRAME_END) {
                    frame_reason(&f, &e);
                    assert_int_equal(e.code, ERR_IO);
                    assert_string_equal(e.text, "disk");
                }
                count++;
            }
            assert_int_equal(rc, 0);
            assert_int_equal(size, 0);
            free(copy);
        }
        assert_int_equal(count, ARRAY_SIZE(types));
        frame_reader_fini(&r);
    }
}

static void largest_frame_is_one_record(void **state)
{
    AUTO_BUF struct buf b = {0};
    static uint8_t big[FRAME_PAYLOAD_MAX];
    struct frame_reader r = {.greeted = true};
    struct frame f;

    frame_put(&b, FRAME_DATA, 1, big, sizeof(big));
    assert_int_equal(b.length, FRAME_BYTES_MAX);
    const uint8_t *data = (const uint8_t *)buf_bytes(&b);
    size_t size = b.length;
    assert_int_equal(frame_read(&r, &data, &size, &f, NULL), 1);
    assert_int_equal(f.size, sizeof(big));
    frame_reader_fini(&r);
}

#define HEAD(length, stream, type) 0, 0, (length) >> 8, (length)&255, 0, 0, 0, stream, type, 0, 0, 0

static void everything_else_is_refused(void **state)
{
    static const struct {
        uint8_t bytes[20];
        bool greeted;
        int code;
    } cases[] = {
        {{HEAD(3, 1, FRAME_DATA), 'a', 'b', 'c'}, false, ERR_CORRUPT}, /* before hello */
        {{'G', 'E', 'T', ' ', '/', ' ', 'H', 'T', 'T', 'P', '/', '1'}, false, ERR_CORRUPT},
        {{HEAD(8, 0, FRAME_HELLO), 'S', 'H', 'R', 'Q', 0, 1, 0, 0}, false, ERR_CORRUPT},
        {{HEAD(8, 0, FRAME_HELLO), 'S', 'H', 'R', 'P', 0, 2, 0, 0}, false, ERR_UNSUPPORTED},
        {{HEAD(7, 0, FRAME_HELLO), 'S', 'H', 'R', 'P', 0, 1, 0}, false, ERR_CORRUPT},
        {{HEAD(8, 1, FRAME_HELLO), 'S', 'H', 'R', 'P', 0, 1, 0, 0}, false, ERR_CORRUPT},
        {{HEAD(8, 0, FRAME_HELLO), 'S', 'H', 'R', 'P', 0, 1, 0, 0}, true, ERR_CORRUPT}, /* a second one */
        {{HEAD(1, 1, 0), 'x'}, true, ERR_CORRUPT},
        {{HEAD(1, 1, 9), 'x'}, true, ERR_CORRUPT},
        {{HEAD(1, 1, 255), 'x'}, true, ERR_CORRUPT},
        {{HEAD(0, 1, FRAME_DATA)}, true, ERR_CORRUPT},
        {{HEAD(FRAME_PAYLOAD_MAX + 1, 1, FRAME_DATA)}, true, ERR_CORRUPT},
        {{255, 255, 255, 255, 0, 0, 0, 1, FRAME_DATA}, true, ERR_CORRUPT},
        {{HEAD(1, 0, FRAME_DATA), 'x'}, true, ERR_CORRUPT}, /* on no stream */
        {{HEAD(8, 1, FRAME_PING)}, true, ERR_CORRUPT},      /* on a stream */
        {{HEAD(7, 0, FRAME_PING)}, true, ERR_CORRUPT},
        {{HEAD(9, 0, FRAME_PONG)}, true, ERR_CORRUPT},
        {{HEAD(1, 1, FRAME_OPEN), 'x'}, true, ERR_CORRUPT},
        {{HEAD(3, 1, FRAME_CREDIT), 0, 0, 1}, true, ERR_CORRUPT},
        {{HEAD(5, 1, FRAME_CREDIT), 0, 0, 1, 0, 0}, true, ERR_CORRUPT},
        {{HEAD(3, 1, FRAME_END), 0, 0, 1}, true, ERR_CORRUPT},
        {{HEAD(2000, 1, FRAME_END)}, true, ERR_CORRUPT},
        {{HEAD(2000, 0, FRAME_CLOSE)}, true, ERR_CORRUPT},
        {{0, 0, 0, 1, 0, 0, 0, 1, FRAME_DATA, 1, 0, 0, 'x'}, true, ERR_CORRUPT}, /* reserved bits */
        {{0, 0, 0, 1, 0, 0, 0, 1, FRAME_DATA, 0, 0, 128, 'x'}, true, ERR_CORRUPT},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        for (size_t step = 1; step <= 20; step += 19) { /* byte by byte, and at once */
            struct frame_reader r = {.greeted = cases[i].greeted};
            struct frame f;
            struct err e = {0};
            int rc = 0;

            for (size_t at = 0; at < 20 && rc == 0; at += step) {
                const uint8_t *data = cases[i].bytes + at;
                size_t size = step;

                rc = frame_read(&r, &data, &size, &f, &e);
            }
            if (rc != cases[i].code)
                fail_msg("case %zu: %d", i, rc);
            frame_reader_fini(&r);
        }
    }
}

static void claimed_length_reserves_nothing(void **state)
{
    static const uint8_t head[] = {HEAD(FRAME_PAYLOAD_MAX, 1, FRAME_DATA)};
    struct frame_reader r = {.greeted = true};
    const uint8_t *data = head;
    size_t size = sizeof(head);
    struct frame f;

    assert_int_equal(frame_read(&r, &data, &size, &f, NULL), 0);
    assert_true(r.partial.capacity <= 64);
    frame_reader_fini(&r);
}

static void foreign_reasons_are_cleaned(void **state)
{
    static const struct {
        uint8_t payload[8];
        int code;
        const char *text;
    } cases[] = {
        {{0, 0, 0, 0, 'a', 'b', 'c', 'd'}, 0, "abcd"},
        {{255, 255, 255, 255, 'a', '\n', 0x1b, 'd'}, ERR_INVALID, "a  d"},
        {{0, 0, 0, 5, 'x', 0, 'y', 'z'}, ERR_INTERNAL, "x"},
        {{128, 0, 0, 0, '%', 's', '%', 'n'}, ERR_INTERNAL, "%s%n"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct frame f = {.type = FRAME_END, .stream = 1, .payload = cases[i].payload, .size = 8};
        struct err e;

        frame_reason(&f, &e);
        assert_int_equal(e.code, cases[i].code);
        assert_string_equal(e.text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(format_is_the_golden_one),        cmocka_unit_test(frames_are_read_at_every_split),
        cmocka_unit_test(largest_frame_is_one_record),     cmocka_unit_test(everything_else_is_refused),
        cmocka_unit_test(claimed_length_reserves_nothing), cmocka_unit_test(foreign_reasons_are_cleaned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
