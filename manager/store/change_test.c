/* Change sets and rows: the forms that go on disk and between managers. */
#include "manager/store/change.h"
#include "manager/store/testing.h"
#include "proto/base/arena.h"
#include "proto/change.pb-c.h"

/* One of each: created, with a large number, deleted, empty message. */
static void make_set(struct buf *out)
{
    static const uint8_t task[] = {0x0a, 0x10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

    change_set_begin(out, 41, 1700000000123);
    change_put(out, &(struct change){KIND_TASK, 7, task, sizeof(task)});
    change_put(out, &(struct change){KIND_STATUS, 1ull << 40, (const uint8_t *)"\x08\x40", 2});
    change_put(out, &(struct change){KIND_SERVICE, 3, NULL, 0});
    change_put(out, &(struct change){KIND_STATUS, 5, (const uint8_t *)"", 0});
}

/* Golden: managers of different versions exchange exactly this. */
static void form_of_a_change_set_stays(void **state)
{
    static const uint8_t golden[] = {
        0x0d, 'S',  'C',  'S',  0x01, 0x10, 0x29, 0x18, 0xfb, 0xd0, 0x95, 0xff, 0xbc, 0x31, 0x20, 0x01, /* head */
        0x2a, 0x18, 0x08, 0x05, 0x10, 0x07, 0x1a, 0x12, 0x0a, 0x10, 1,    2,    3,    4,    5,    6,
        7,    8,    9,    10,   11,   12,   13,   14,   15,   16,                                 /* task 7 */
        0x2a, 0x0d, 0x08, 0x06, 0x10, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0x1a, 0x02, 0x08, 0x40, /* status */
        0x2a, 0x04, 0x08, 0x03, 0x10, 0x03,                                                       /* deleted */
        0x2a, 0x06, 0x08, 0x06, 0x10, 0x05, 0x1a, 0x00,                                           /* empty */
    };
    AUTO_BUF
    struct buf out = {0};

    make_set(&out);
    assert_int_equal(out.length, sizeof(golden));
    assert_memory_equal(buf_bytes(&out), golden, sizeof(golden));
}

static void generated_code_reads_what_we_write_and_we_read_what_it_writes(void **state)
{
    AUTO_BUF
    struct buf out = {0};
    struct change_set set;
    struct change c;
    uint8_t packed[256];

    make_set(&out);
    ChangeSet *m = change_set__unpack(NULL, out.length, (const uint8_t *)buf_bytes(&out));
    assert_non_null(m);
    assert_true(m->magic == CHANGE_MAGIC && m->planned_on == 41 && m->cluster_ms == 1700000000123);
    assert_true(m->feature_level == STORE_FEATURE_LEVEL && m->n_changes == 4);
    assert_true(m->changes[1]->number == 1ull << 40 && !m->changes[2]->has_message && m->changes[3]->has_message);
    size_t size = change_set__pack(m, packed);
    assert_int_equal(size, out.length);
    assert_memory_equal(packed, buf_bytes(&out), size);
    assert_int_equal(change_set_read(packed, size, &set, NULL), 0);
    assert_true(set.count == 4 && set.planned_on == 41 && set.cluster_ms == 1700000000123);
    for (size_t i = 0; i < set.count; i++) {
        assert_true(change_next(&set, &c));
        assert_true((uint32_t)c.kind == m->changes[i]->kind && c.number == m->changes[i]->number);
        assert_int_equal(c.message != NULL, m->changes[i]->has_message);
        if (c.message)
            assert_true(c.size == m->changes[i]->message.len &&
                        (!c.size || memcmp(c.message, m->changes[i]->message.data, c.size) == 0));
    }
    assert_false(change_next(&set, &c));
    change_set__free_unpacked(m, NULL);
}

static void size_of_a_change_is_known_before_it_is_written(void **state)
{
    static char body[70000];
    AUTO_BUF
    struct buf out = {0};

    for (size_t size = 0; size < sizeof(body); size = size * 3 + 1) {
        struct change c = {KIND_STATUS, 1 + size * size, (const uint8_t *)body, size};

        buf_clear(&out);
        change_put(&out, &c);
        assert_int_equal(out.length, change_size(&c));
        c.message = NULL;
        c.size = 0;
        buf_clear(&out);
        change_put(&out, &c);
        assert_int_equal(out.length, change_size(&c));
    }
}

static void unknown_fields_of_a_set_are_passed_over(void **state)
{
    AUTO_BUF
    struct buf out = {0};
    struct change_set set;
    struct change c;

    change_set_begin(&out, 1, 2);
    buf_append(&out, "\x32\x03new", 5);                       /* field 6 of the set */
    buf_append(&out, "\x2a\x07\x08\x06\x10\x05\x22\x01x", 9); /* field 4 of a change */
    assert_int_equal(change_set_read(buf_bytes(&out), out.length, &set, NULL), 0);
    assert_true(set.count == 1 && change_next(&set, &c) && c.kind == KIND_STATUS && c.number == 5 && !c.message);
    assert_false(change_next(&set, &c));
}

static void every_part_is_needed_and_of_its_type(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *text;
    } cases[] = {
        {"", 0, "field 1 is missing"},
        {"\x10\x01", 2, "does not begin"},
        {"\x0dSCS\x02\x10\x01\x18\x01\x20\x01", 11, "does not begin"},
        {"\x08\x01", 2, "does not begin"},
        {"\x2a\x00", 2, "does not begin"},
        {"\x0dSCS\x01\x18\x01\x20\x01", 9, "field 2 is missing"},
        {"\x0dSCS\x01\x10\x01\x20\x01", 9, "field 3 is missing"},
        {"\x0dSCS\x01\x10\x01\x18\x01", 9, "field 4 is missing"},
        {"\x0dSCS\x01\x12\x01x\x18\x01\x20\x01", 12, "field 2 is of type 2"},
        {"\x0dSCS\x01\x10\x01\x18\x01\x20\x01\x28\x01", 13, "field 5 is of type 0"},
        {"\x0dSCS\x01\x10\x01\x18\x01\x20\x01\x2a\x05\x08", 14, "malformed after change 0"},
        {"\x0dSCS\x01\x10\x01\x18\x01\x20\x01\x2a\x01\x08", 14, "change 0 is cut off"},
        {"\x0dSCS\x01\x10\x01\x18\x01\x20\x01\x2a\x03\x0a\x01x", 16, "change 0: field 1 is of type 2"},
        {"\x0dSCS\x01\x10\x01\x18\x01\x20\x01\x2a\x02\x10\x01", 15, "kind 0"},
        {"\x0dSCS\x01\x10\x01\x18\x01\x20\x01\x2a\x02\x08\x06", 15, "status has number 0"},
        {"\x0dSCS\x01\x10\x01\x18\x01\x20\x63", 11, "needs feature level 99"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct change_set set;
        struct err e = {0};

        assert_int_equal(change_set_read(cases[i].bytes, cases[i].size, &set, &e), ERR_CORRUPT);
        if (!strstr(e.text, cases[i].text))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, e.text, cases[i].text);
    }
}

static void sets_are_bounded(void **state)
{
    AUTO_BUF
    struct buf out = {0};
    struct change_set set;
    struct err e;

    change_set_begin(&out, 1, 2);
    for (int i = 0; i < CHANGE_COUNT_MAX; i++)
        change_put(&out, &(struct change){KIND_STATUS, 1, NULL, 0});
    assert_int_equal(change_set_read(buf_bytes(&out), out.length, &set, NULL), 0);
    change_put(&out, &(struct change){KIND_STATUS, 1, NULL, 0});
    assert_int_equal(change_set_read(buf_bytes(&out), out.length, &set, &e), ERR_CORRUPT);
    char *large = mem_alloc(CHANGE_SET_MAX);
    buf_clear(&out);
    change_set_begin(&out, 1, 2);
    change_put(&out, &(struct change){KIND_STATUS, 1, (uint8_t *)large, CHANGE_SET_MAX});
    assert_int_equal(change_set_read(buf_bytes(&out), out.length, &set, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "more than"));
    free(large);
}

static void no_cut_and_no_flipped_bit_reads_beyond_the_bytes(void **state)
{
    AUTO_BUF
    struct buf out = {0};
    struct change_set set;
    struct change c;

    make_set(&out);
    for (size_t cut = 0; cut < out.length; cut++) {
        uint8_t *bytes = mem_dup(buf_bytes(&out), cut); /* a block of its own, for the sanitizers */

        if (change_set_read(bytes, cut, &set, NULL) == 0)
            assert_true(set.count < 4);
        free(bytes);
    }
    for (size_t bit = 0; bit < out.length * 8; bit++) {
        uint8_t *bytes = mem_dup(buf_bytes(&out), out.length);

        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (change_set_read(bytes, out.length, &set, NULL) == 0)
            for (size_t i = 0; i < set.count; i++)
                assert_true(change_next(&set, &c) && (!c.message || c.message + c.size <= bytes + out.length));
        free(bytes);
    }
}

/* --- rows ------------------------------------------------------------------------------------------------ */

static void row_header_comes_back(void **state)
{
    static const struct row cases[] = {
        {.version = 1, .created_ms = 1700000000000, .updated_ms = 1700000000000},
        {.version = UINT64_MAX, .created_ms = INT64_MIN, .updated_ms = INT64_MAX},
        {.version = 0, .created_ms = INT64_MAX, .updated_ms = INT64_MIN},
        {.version = 12345678, .created_ms = -1, .updated_ms = 0},
    };
    uint8_t bytes[ROW_HEADER_MAX + 4];
    struct row back;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        size_t used = row_header(&cases[i], bytes);

        assert_true(used <= ROW_HEADER_MAX);
        memcpy(bytes + used, "body", 4);
        assert_true(row_read(bytes, used + 4, &back));
        assert_true(back.version == cases[i].version && back.created_ms == cases[i].created_ms &&
                    back.updated_ms == cases[i].updated_ms);
        assert_true(back.message_size == 4 && memcmp(back.message, "body", 4) == 0);
        assert_true(row_read(bytes, used, &back) && back.message_size == 0);
        assert_false(row_read(bytes, used - 1, &back));
    }
}

static void form_of_a_row_and_its_hash_stay(void **state)
{
    static const uint8_t golden[] = {0xac, 0x02, 0x80, 0xa0, 0xab, 0xfe, 0xf9, 0x62, 0x02};
    struct row row = {.version = 300, .created_ms = 1700000000000, .updated_ms = 1700000000001};
    uint8_t bytes[ROW_HEADER_MAX];

    assert_int_equal(row_header(&row, bytes), sizeof(golden));
    assert_memory_equal(bytes, golden, sizeof(golden));
    assert_true(row_hash(KIND_TASK, 1, golden, sizeof(golden)) == 0x24da9801aa51df25);
    assert_true(row_hash(KIND_TASK, 2, golden, sizeof(golden)) != row_hash(KIND_TASK, 1, golden, sizeof(golden)));
    assert_true(row_hash(KIND_STATUS, 1, golden, sizeof(golden)) != row_hash(KIND_TASK, 1, golden, sizeof(golden)));
}

/* --- kinds ----------------------------------------------------------------------------------------------- */

static void id_and_name_are_read_from_the_message(void **state)
{
    NodeDescription description = NODE_DESCRIPTION__INIT;
    NetworkSpec spec = NETWORK_SPEC__INIT;
    Service service = SERVICE__INIT;
    Network network = NETWORK__INIT;
    Node node = NODE__INIT;
    const struct {
        enum kind kind;
        const ProtobufCMessage *message;
        const char *name;
    } cases[] = {{KIND_SERVICE, &service.base, "web"},
                 {KIND_NETWORK, &network.base, "front"},
                 {KIND_NODE, &node.base, "box"}};

    service.id = network.id = node.id = ID(3);
    service.name = (char *)"web";
    spec.name = (char *)"front";
    network.spec = &spec;
    description.hostname = (char *)"box";
    node.description = &description;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t packed[128];
        size_t size = protobuf_c_message_pack(cases[i].message, packed), length;
        const char *name;

        assert_ptr_equal(cases[i].message->descriptor, kind_message(cases[i].kind));
        assert_memory_equal(kind_id_of(cases[i].kind, packed, size), id_of(3), 16);
        assert_true(kind_name_of(cases[i].kind, packed, size, &name, &length));
        assert_true(length == strlen(cases[i].name) && memcmp(name, cases[i].name, length) == 0);
        assert_null(kind_id_of(KIND_STATUS, packed, size));
        assert_false(kind_name_of(KIND_TASK, packed, size, &name, &length));
    }
    assert_null(kind_message((enum kind)0));
    assert_null(kind_message((enum kind)8));
    assert_null(kind_message((enum kind)1000));
    assert_string_equal(kind_name(KIND_REQUEST), "request");
    assert_string_equal(kind_name((enum kind)12), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(form_of_a_change_set_stays),
        cmocka_unit_test(generated_code_reads_what_we_write_and_we_read_what_it_writes),
        cmocka_unit_test(size_of_a_change_is_known_before_it_is_written),
        cmocka_unit_test(unknown_fields_of_a_set_are_passed_over),
        cmocka_unit_test(every_part_is_needed_and_of_its_type),
        cmocka_unit_test(sets_are_bounded),
        cmocka_unit_test(no_cut_and_no_flipped_bit_reads_beyond_the_bytes),
        cmocka_unit_test(row_header_comes_back),
        cmocka_unit_test(form_of_a_row_and_its_hash_stay),
        cmocka_unit_test(id_and_name_are_read_from_the_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
