/* Messages are read back as they were written; whatever breaks a rule is refused with the reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "manager/raft/bytes.h"
#include "manager/raft/message.h"
#include "manager/raft/segment.h"
#include "proto/base/entropy.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"

#define EPOCH 7

static struct raft_buffer configuration(void)
{
    struct raft_configuration conf;
    struct raft_buffer data;

    raft_configuration_init(&conf);
    (void)raft_configuration_add(&conf, 1, "a:1", RAFT_VOTER);
    (void)raft_configuration_add(&conf, 2, "b:1", RAFT_STANDBY);
    (void)raft_configuration_encode(&conf, &data);
    raft_configuration_close(&conf);
    return data;
}

/* From member 2 to member 1. */
static void put(struct buf *out, struct message m)
{
    m.from = 2;
    m.to = 1;
    m.raft.type = (enum raft_message_type)m.type;
    message_put(out, EPOCH, &m);
}

static int get(const struct buf *in, struct message *ret, struct err *e)
{
    return message_get(buf_bytes(in), in->length, EPOCH, 2, 1, ret, e);
}

static void put_append(struct buf *out, struct raft_entry *entries, unsigned count)
{
    struct message m = {.type = RAFT_APPEND_ENTRIES};

    m.raft.append_entries = (struct raft_append_entries){.term = 5,
                                                         .prev_log_index = 10,
                                                         .prev_log_term = 3,
                                                         .leader_commit = 9,
                                                         .entries = entries,
                                                         .n_entries = count};
    put(out, m);
}

static void entries_are_read_back(void **state)
{
    struct raft_buffer conf = configuration();
    struct raft_entry entries[] = {
        {.term = 3, .type = RAFT_COMMAND, .buf = {.base = (void *)"first", .len = 5}},
        {.term = 4, .type = RAFT_CHANGE, .buf = conf},
        {.term = 5, .type = RAFT_BARRIER, .buf = {.base = (void *)"\0\0\0\0\0\0\0", .len = 8}},
        {.term = 5, .type = RAFT_COMMAND, .buf = {.base = NULL, .len = 0}},
    };
    AUTO_BUF struct buf out = {0};
    struct message m;
    struct err e;

    put_append(&out, entries, 4);
    if (get(&out, &m, &e) < 0)
        fail_msg("%s", e.text);
    const struct raft_append_entries *a = &m.raft.append_entries;
    assert_int_equal(m.type, RAFT_APPEND_ENTRIES);
    assert_int_equal(m.raft.server_id, 2);
    assert_int_equal(a->term, 5);
    assert_int_equal(a->prev_log_index, 10);
    assert_int_equal(a->prev_log_term, 3);
    assert_int_equal(a->leader_commit, 9);
    assert_int_equal(a->n_entries, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(a->entries[i].term, entries[i].term);
        assert_int_equal(a->entries[i].type, entries[i].type);
        assert_int_equal(a->entries[i].buf.len, entries[i].buf.len);
        if (entries[i].buf.len)
            assert_memory_equal(a->entries[i].buf.base, entries[i].buf.base, entries[i].buf.len);
        assert_ptr_equal(a->entries[i].batch, a->entries[0].batch);
        assert_non_null(a->entries[i].batch);
    }
    message_fini(&m);
    raft_free(conf.base);
}

static void small_messages_are_read_back(void **state)
{
    struct message all[] = {
        {.type = RAFT_APPEND_ENTRIES_RESULT,
         .raft.append_entries_result =
             {.version = 1, .term = 4, .rejected = 7, .last_log_index = 6, .features = 1, .capacity = 1}},
        {.type = RAFT_REQUEST_VOTE,
         .raft.request_vote = {.version = 2,
                               .term = 4,
                               .candidate_id = 2,
                               .last_log_index = 6,
                               .last_log_term = 3,
                               .pre_vote = true}},
        {.type = RAFT_REQUEST_VOTE_RESULT,
         .raft.request_vote_result = {.version = 2, .term = 4, .vote_granted = true, .features = 1, .capacity = 9}},
        {.type = RAFT_TIMEOUT_NOW,
         .raft.timeout_now = {.version = 1, .term = 4, .last_log_index = 6, .last_log_term = 3}},
    };

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        AUTO_BUF struct buf out = {0}, again = {0};
        struct message m;
        struct err e;

        put(&out, all[i]);
        if (get(&out, &m, &e) < 0)
            fail_msg("%s: %s", message_name(all[i].type), e.text);
        put(&again, m);
        assert_int_equal(again.length, out.length);
        assert_memory_equal(buf_bytes(&again), buf_bytes(&out), out.length);
        message_fini(&m);
    }
}

static void our_own_messages_are_read_back(void **state)
{
    AUTO_BUF struct buf out = {0};
    struct message m;
    struct err e;

    put(&out, (struct message){.type = MESSAGE_READ_ASK, .round = {.term = 4, .round = 77}});
    assert_int_equal(get(&out, &m, &e), 0);
    assert_int_equal(m.round.round, 77);
    buf_clear(&out);
    put(&out, (struct message){.type = MESSAGE_CHUNK,
                               .chunk = {.index = 8, .number = 3, .data = (const uint8_t *)"abc", .size = 3}});
    assert_int_equal(get(&out, &m, &e), 0);
    assert_int_equal(m.chunk.number, 3);
    assert_int_equal(m.chunk.size, 3);
    assert_memory_equal(m.chunk.data, "abc", 3);
    buf_clear(&out);
    put(&out, (struct message){.type = MESSAGE_PULL, .chunk = {.index = 8, .number = 3}});
    assert_int_equal(get(&out, &m, &e), 0);
    assert_int_equal(m.chunk.index, 8);
    buf_clear(&out);
    put(&out, (struct message){.type = MESSAGE_DIGEST, .digest = {.index = 512, .value = UINT64_MAX}});
    assert_int_equal(get(&out, &m, &e), 0);
    assert_int_equal(m.digest.index, 512);
    assert_true(m.digest.value == UINT64_MAX);
    buf_clear(&out);
    put(&out, (struct message){.type = MESSAGE_REMOVED, .removed = {.term = 2, .index = 5}});
    assert_int_equal(get(&out, &m, &e), 0);
    assert_int_equal(m.removed.index, 5);
}

static void offer_of_a_snapshot_is_read_back(void **state)
{
    struct message offer = {.type = RAFT_INSTALL_SNAPSHOT,
                            .offer = {.chunks = 3, .bytes = 1100, .chunk_bytes = 512}};
    struct raft_install_snapshot *s = &offer.raft.install_snapshot;
    AUTO_BUF struct buf out = {0};
    struct message m;
    struct err e;

    s->term = 4;
    s->last_index = 90;
    s->last_term = 3;
    s->conf_index = 20;
    (void)raft_configuration_add(&s->conf, 1, "a:1", RAFT_VOTER);
    put(&out, offer);
    if (get(&out, &m, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(m.raft.install_snapshot.conf.n, 1);
    assert_string_equal(m.raft.install_snapshot.conf.servers[0].address, "a:1");
    assert_int_equal(m.offer.chunks, 3);
    message_fini(&m);
    raft_configuration_close(&s->conf);
}

/* One number of a good message of two entries overwritten: refused, and the text names it. */
static void broken_fields_are_refused(void **state)
{
    static const struct {
        size_t at;
        int bytes;
        uint64_t value;
        const char *text;
    } broken[] = {
        {0, 1, 9, "version 9"},
        {1, 1, 99, "type 99 is not known"},
        {2, 2, 1, "version"},
        {4, 4, 31, "not whole"},
        {8, 8, 6, "epoch 6, not 7"},
        {16, 8, 3, "message of member 3 came from member 2"},
        {16, 8, 0, "message of member 0"},
        {24, 8, 5, "for member 5 came to member 1"},
        {32, 8, 0, "term 0"},
        {32, 8, 2, "term 2 after entry 10 of term 3"},
        {40, 8, 0, "after entry 0 of term 3"},
        {40, 8, ~0ULL, "out of range"},
        {48, 8, 0, "after entry 10 of term 0"},
        {64, 4, 3, "3 entries do not fit"},
        {64, 4, 70000, "do not fit"},
        {64, 4, 1, "wrong size"},
        {68, 4, 1, "out of range"},
        {72, 8, 0, "has term 0"},
        {72, 8, 2, "has term 2 after 3"},
        {72, 8, 6, "has term 6"},
        {80, 4, 0, "has type 0"},
        {80, 4, 4, "has type 4"},
        {80, 4, RAFT_CHANGE, "configuration"},
        {84, 4, 0x7fffffff, "cut off or too large"},
    };
    struct raft_entry entries[] = {
        {.term = 4, .type = RAFT_COMMAND, .buf = {.base = (void *)"first", .len = 5}},
        {.term = 5, .type = RAFT_COMMAND, .buf = {.base = (void *)"second", .len = 6}},
    };

    for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
        AUTO_BUF struct buf out = {0};
        struct message m;
        struct err e;

        put_append(&out, entries, 2);
        uint8_t *at = (uint8_t *)buf_bytes(&out) + broken[i].at;
        for (int k = 0; k < broken[i].bytes; k++)
            at[k] = (uint8_t)(broken[i].value >> 8 * k);
        assert_int_equal(get(&out, &m, &e), ERR_INVALID);
        if (!strstr(e.text, broken[i].text))
            fail_msg("byte %zu: \"%s\" does not say \"%s\"", broken[i].at, e.text, broken[i].text);
    }
}

static void broken_configurations_are_refused(void **state)
{
    struct raft_buffer conf = configuration();
    uint8_t data[256];
    struct err e;

    assert_int_equal(message_check_configuration(conf.base, conf.len, &e), 0);
    for (size_t size = 0; size + 8 <= conf.len; size++)
        assert_int_equal(message_check_configuration(conf.base, size, &e), ERR_INVALID);
    memcpy(data, conf.base, conf.len);
    data[0] = 2;
    assert_int_equal(message_check_configuration(data, conf.len, &e), ERR_INVALID);
    memcpy(data, conf.base, conf.len);
    put_u64(data + 1, 1000000000); /* members, which libraft would believe */
    assert_int_equal(message_check_configuration(data, conf.len, &e), ERR_INVALID);
    memcpy(data, conf.base, conf.len);
    memset(data + 17, 'x', conf.len - 17); /* an address without an end */
    assert_int_equal(message_check_configuration(data, conf.len, &e), ERR_INVALID);
    memcpy(data, conf.base, conf.len);
    put_u64(data + 9 + 8 + 4 + 1, 1); /* the second member is the first again */
    assert_int_equal(message_check_configuration(data, conf.len, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "twice"));
    raft_free(conf.base);
}

static void every_cut_message_is_refused(void **state)
{
    struct raft_entry entries[] = {{.term = 4, .type = RAFT_COMMAND, .buf = {.base = (void *)"first", .len = 5}}};
    AUTO_BUF struct buf out = {0};
    struct message m;

    put_append(&out, entries, 1);
    for (size_t size = 0; size < out.length; size++) {
        uint8_t data[256];

        memcpy(data, buf_bytes(&out), size);
        if (size >= 8)
            put_u32(data + 4, (uint32_t)size); /* a frame that was cut by its sender */
        assert_int_equal(message_get(data, size, EPOCH, 2, 1, &m, NULL), ERR_INVALID);
    }
}

static void random_bytes_never_crash(void **state)
{
    struct entropy_seeded random;
    struct raft_buffer conf = configuration();
    struct raft_entry entries[] = {
        {.term = 4, .type = RAFT_CHANGE, .buf = conf},
        {.term = 5, .type = RAFT_COMMAND, .buf = {.base = (void *)"second", .len = 6}},
    };

    entropy_seeded_init(&random, 42);
    for (int i = 0; i < 20000; i++) {
        AUTO_BUF struct buf out = {0};
        struct message m;

        put_append(&out, entries, 2);
        for (uint64_t n = 1 + entropy_below(&random.base, 4); n; n--)
            buf_bytes(&out)[32 + entropy_below(&random.base, out.length - 32)] ^=
                (char)(1 + entropy_below(&random.base, 255));
        buf_bytes(&out)[1] = (char)(entropy_below(&random.base, 4) ? 1 : entropy_below(&random.base, 22));
        if (get(&out, &m, NULL) == 0)
            message_fini(&m);
    }
    raft_free(conf.base);
}

/* The format as it was first released. */
static void golden_append_entries(void **state)
{
    struct raft_entry entries[] = {{.term = 4, .type = RAFT_COMMAND, .buf = {.base = (void *)"first", .len = 5}}};
    AUTO_BUF struct buf out = {0};
    char hex[512];

    put_append(&out, entries, 1);
    hex_encode(buf_bytes(&out), out.length, hex);
    assert_string_equal(hex, "010100005d000000070000000000000002000000000000000100000000000000"
                             "05000000000000000a0000000000000003000000000000000900000000000000"
                             "0100000000000000"
                             "040000000000000001000000050000006669727374");
}

static void golden_digest(void **state)
{
    AUTO_BUF struct buf out = {0};
    char hex[128];

    put(&out, (struct message){.type = MESSAGE_DIGEST, .digest = {.index = 256, .value = 0x1122334455667788}});
    hex_encode(buf_bytes(&out), out.length, hex);
    assert_string_equal(hex, "0115000030000000070000000000000002000000000000000100000000000000"
                             "00010000000000008877665544332211");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_read_back),          cmocka_unit_test(small_messages_are_read_back),
        cmocka_unit_test(our_own_messages_are_read_back), cmocka_unit_test(offer_of_a_snapshot_is_read_back),
        cmocka_unit_test(broken_fields_are_refused),      cmocka_unit_test(broken_configurations_are_refused),
        cmocka_unit_test(every_cut_message_is_refused),   cmocka_unit_test(random_bytes_never_crash),
        cmocka_unit_test(golden_append_entries),          cmocka_unit_test(golden_digest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
