/* Links by themselves: who is let in, what is lost, what is told. */
#include "manager/raft/link_hello.h"
#include "manager/raft/links_test_group.h"
#include "proto/base/ident.h"

static void on_message(void *ctx, uint64_t from, const void *data, size_t size)
{
    struct member *m = ctx;
    uint64_t number;

    assert_true(from >= 1 && from <= GROUP_MAX && size >= sizeof(number));
    memcpy(&number, data, sizeof(number));
    assert_true(number > m->sum); /* lost, perhaps, but in order */
    m->sum = number;
    m->messages++;
}

static void on_gone(void *ctx, uint64_t id)
{
    struct member *m = ctx;

    m->gone++;
    m->gone_id = id;
}

static void listen_one(struct member *m)
{
    const struct links_events events = {.ctx = m, .on_message = on_message, .on_gone = on_gone};

    member_listen(m);
    links_attach(m->links, &events);
}

static void begin(struct group *g)
{
    group_open(g);
    listen_one(&g->members[1]);
    listen_one(&g->members[2]);
}

static void send_number(struct member *from, const struct member *to, enum env_channel channel, size_t size)
{
    static uint64_t number;
    AUTO_FREE
    uint8_t *data = mem_alloc(size);

    number++;
    memcpy(data, &number, sizeof(number));
    links_send(from->links, to->id, to->address, channel, data, size);
}

static struct links_stats stats_of(const struct member *m)
{
    struct links_stats s;

    links_stats(m->links, &s);
    return s;
}

static void each_side_dials_for_what_it_sends(void **state)
{
    struct group g;
    struct member *a = &g.members[1], *b = &g.members[2];

    begin(&g);
    send_number(a, b, ENV_CHANNEL_CONTROL, 8);
    group_until(&g, b->messages == 1);
    assert_int_equal(stats_of(b).dialed, 0);
    send_number(b, a, ENV_CHANNEL_CONTROL, 8);
    group_until(&g, a->messages == 1);
    send_number(a, b, ENV_CHANNEL_ENTRIES, 8);
    group_until(&g, b->messages == 2);
    assert_int_equal(stats_of(a).dialed, 2);
    assert_int_equal(stats_of(b).accepted, 2);
    group_close(&g);
}

static void an_answer_needs_no_address(void **state)
{
    struct group g;
    struct member *a = &g.members[1], *b = &g.members[2];
    uint64_t number = 1;

    begin(&g);
    links_send(b->links, 1, "", ENV_CHANNEL_CONTROL, &number, sizeof(number));
    assert_int_equal(stats_of(b).dropped, 1); /* nobody said where it is */
    send_number(a, b, ENV_CHANNEL_CONTROL, 8);
    group_until(&g, b->messages == 1);
    links_send(b->links, 1, "", ENV_CHANNEL_CONTROL, &number, sizeof(number));
    group_until(&g, a->messages == 1);
    group_close(&g);
}

static void one_that_looks_for_another_is_refused_but_tells_where_it_is(void **state)
{
    struct group g;
    struct member *a = &g.members[1], *b = &g.members[2];
    uint64_t number = 1;

    begin(&g);
    links_send(a->links, 3, b->address, ENV_CHANNEL_CONTROL, &number, sizeof(number));
    group_until(&g, stats_of(b).refusals == 1);
    assert_int_equal(b->messages, 0);
    links_send(b->links, 1, "", ENV_CHANNEL_CONTROL, &number, sizeof(number));
    group_until(&g, a->messages == 1);
    group_close(&g);
}

static void large_messages_arrive_whole_and_in_order(void **state)
{
    struct group g;
    struct member *a = &g.members[1], *b = &g.members[2];

    begin(&g);
    for (int i = 0; i < 3; i++) /* more than the first credit, and each as large as can be */
        send_number(a, b, ENV_CHANNEL_ENTRIES, METHOD_RAFT_BYTES_MAX);
    group_until(&g, b->messages == 3);
    assert_int_equal(stats_of(a).dropped, 0);
    group_close(&g);
}

static void what_is_small_does_not_wait_for_what_is_large(void **state)
{
    struct group g;
    struct member *a = &g.members[1], *b = &g.members[2], *c = &g.members[3];

    begin(&g);
    listen_one(c);
    send_number(a, c, ENV_CHANNEL_CONTROL, 8);
    group_until(&g, c->messages == 1);
    send_number(a, b, ENV_CHANNEL_CONTROL, 8);
    group_until(&g, b->messages == 1);
    for (int i = 0; i < 4; i++)
        send_number(a, c, ENV_CHANNEL_BULK, 2 << 20);
    send_number(a, b, ENV_CHANNEL_CONTROL, 8);
    group_until(&g, b->messages == 2);
    assert_int_equal(c->messages, 1); /* megabytes are still on their way */
    group_until(&g, c->messages > 1);
    group_close(&g);
}

static void a_flood_is_dropped_beyond_a_bound(void **state)
{
    struct group g;
    struct member *a = &g.members[1], *b = &g.members[2];

    begin(&g);
    for (int i = 0; i < 20; i++)
        send_number(a, b, ENV_CHANNEL_ENTRIES, METHOD_RAFT_BYTES_MAX);
    assert_true(stats_of(a).dropped > 10);
    uint64_t dropped = stats_of(a).dropped;
    group_until(&g, b->messages + dropped == 20);
    group_close(&g);
}

static void a_peer_whose_port_closed_is_gone(void **state)
{
    struct group g;
    struct member *a = &g.members[1], *b = &g.members[2];

    begin(&g);
    send_number(a, b, ENV_CHANNEL_CONTROL, 8);
    group_until(&g, b->messages == 1);
    member_close(b);
    group_until(&g, a->gone == 1);
    assert_int_equal(a->gone_id, 2);
    group_rest(&g, 100);
    assert_int_equal(a->gone, 1); /* once */
    listen_one(b);                /* at the same address */
    b->sum = 0;
    group_until(&g, (send_number(a, b, ENV_CHANNEL_CONTROL, 8), uv_run(&g.loop, UV_RUN_ONCE), b->messages > 1));
    group_close(&g);
}

/* A peer that spoke to us and left, to which we had nothing to say. */
static void a_listener_learns_that_a_speaker_is_gone(void **state)
{
    struct group g;
    struct member *a = &g.members[1], *b = &g.members[2];

    begin(&g);
    send_number(a, b, ENV_CHANNEL_CONTROL, 8);
    group_until(&g, b->messages == 1);
    member_close(a);
    group_until(&g, b->gone == 1);
    assert_int_equal(b->gone_id, 1);
    group_close(&g);
}

static void a_connection_that_broke_alone_is_made_again_and_nobody_is_gone(void **state)
{
    struct group g;
    struct member *a = &g.members[1], *b = &g.members[2];

    begin(&g);
    send_number(a, b, ENV_CHANNEL_CONTROL, 8);
    group_until(&g, b->messages == 1 && stats_of(a).dialed == 1);
    rpc_server_close_peer(b->server, a->node_id);
    group_until(&g, stats_of(a).dials >= 2 && stats_of(a).dialed == 1); /* though there is nothing to send */
    send_number(a, b, ENV_CHANNEL_CONTROL, 8);
    group_until(&g, b->messages == 2);
    assert_int_equal(a->gone + b->gone, 0);
    group_close(&g);
}

static void a_new_certificate_is_used_for_new_links(void **state)
{
    struct group g;
    struct member *a = &g.members[1], *b = &g.members[2];
    struct test_cert spec = {.cn = "0manager0manager0manager9", .ou = "swarm-manager", .o = GROUP_CLUSTER};
    struct test_node node;
    struct tls *tls;
    struct err e;

    begin(&g);
    test_issue(&g.ca, &spec, &node);
    assert_int_equal(tls_new(node.cert_pem, node.key_pem, g.ca.pem, &tls, &e), 0);
    links_set_tls(a->links, tls);
    tls_unref(tls);
    send_number(a, b, ENV_CHANNEL_CONTROL, 8);
    group_until(&g, b->messages == 1);
    rpc_server_close_peer(b->server, "0manager0manager0manager9");
    group_until(&g, stats_of(a).dials >= 2);
    test_node_fini(&node);
    group_close(&g);
}

/* --- who is refused ------------------------------------------------------------------------------- */

static void strangers_are_refused(void **state)
{
    static const struct {
        const char *name;
        const char *cluster, *role;
        uint64_t epoch, as; /* as: the number it sends to */
        unsigned feature_level, needs;
        int refuse;
        bool is_refused;
    } cases[] = {
        {"one of us", NULL, NULL, 3, 2, 0, 0, 0, false},
        {"another cluster", "0cluster0cluster0cluster1", NULL, 3, 2, 0, 0, 0, true},
        {"a worker", NULL, "swarm-worker", 3, 2, 0, 0, 0, true},
        {"an epoch that is over", NULL, NULL, 2, 2, 0, 0, 0, true},
        {"an epoch that is newer", NULL, NULL, 4, 2, 0, 0, 0, true},
        {"for somebody else", NULL, NULL, 3, 4, 0, 0, 0, true},
        {"an old version", NULL, NULL, 3, 2, 1, 2, 0, true},
        {"not that number's node", NULL, NULL, 3, 2, 0, 0, ERR_DENIED, true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct group g;
        struct member *a = &g.members[1], *b = &g.members[2];

        group_open(&g);
        b->epoch = 3;
        b->feature_level = cases[i].needs;
        b->refuse = cases[i].refuse;
        listen_one(b);
        a->cluster = cases[i].cluster;
        a->role = cases[i].role;
        a->epoch = cases[i].epoch;
        a->feature_level = cases[i].feature_level;
        listen_one(a);
        uint64_t number = 1;
        links_send(a->links, cases[i].as, b->address, ENV_CHANNEL_CONTROL, &number, sizeof(number));
        if (cases[i].is_refused)
            group_until(&g, stats_of(a).dials > 0 && stats_of(a).dialed == 0 &&
                                (stats_of(b).refusals > 0 || cases[i].cluster || cases[i].role));
        else
            group_until(&g, b->messages == 1);
        group_rest(&g, 30);
        if (b->messages != !cases[i].is_refused || a->gone)
            fail_msg("%s: %u messages, %u gone", cases[i].name, b->messages, a->gone);
        group_close(&g);
    }
}

static void a_number_is_one_node_s_only(void **state)
{
    struct group g;
    struct member *a = &g.members[1], *b = &g.members[2], *c = &g.members[3];

    begin(&g);
    send_number(a, b, ENV_CHANNEL_CONTROL, 8);
    group_until(&g, b->messages == 1);
    c->id = 1; /* another node with the first one's number */
    listen_one(c);
    send_number(c, b, ENV_CHANNEL_CONTROL, 8);
    group_until(&g, stats_of(b).refusals == 1);
    assert_int_equal(b->messages, 1);
    group_close(&g);
}

static void a_hello_says_what_is_wrong_with_it(void **state)
{
    const struct link_hello good = {.from = 1,
                                    .to = 2,
                                    .epoch = 3,
                                    .feature_level = 1,
                                    .channel = ENV_CHANNEL_BULK,
                                    .address = "10.0.0.1:2377"};
    struct link_hello got, bad[] = {good, good, good};
    static const char *const why[] = {"from manager 0", "to manager 0", "channel 3"};
    AUTO_BUF struct buf bytes = {0};
    struct err e;

    link_hello_put(&bytes, &good);
    assert_int_equal(link_hello_get(buf_bytes(&bytes), bytes.length, &got, &e), 0);
    assert_memory_equal(&got, &good, sizeof(good));
    assert_int_equal(link_hello_get(buf_bytes(&bytes), bytes.length - 1, &got, &e), ERR_INVALID);
    bad[0].from = 0;
    bad[1].to = 0;
    bad[2].channel = (enum env_channel)3;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        buf_clear(&bytes);
        link_hello_put(&bytes, &bad[i]);
        assert_int_equal(link_hello_get(buf_bytes(&bytes), bytes.length, &got, &e), ERR_INVALID);
        assert_non_null(strstr(e.text, why[i]));
    }
    assert_int_equal(link_hello_check(&good, 2, 3, 1, &e), 0);
    assert_int_equal(link_hello_check(&good, 5, 3, 1, &e), ERR_PRECONDITION);
    assert_string_equal(e.text, "this is manager 5, not 2: its address is used by another");
    assert_int_equal(link_hello_check(&good, 2, 4, 1, &e), ERR_PRECONDITION);
    assert_string_equal(e.text, "manager 1 is of epoch 3: a new cluster was forced without it (epoch 4)");
    assert_int_equal(link_hello_check(&good, 2, 3, 2, &e), ERR_PRECONDITION);
    assert_string_equal(e.text, "manager 1 offers feature level 1, the cluster needs 2: its version is too old");
}

static void golden_hello(void **state)
{
    const struct link_hello hello = {.from = 1,
                                     .to = 2,
                                     .epoch = 3,
                                     .feature_level = 1,
                                     .channel = ENV_CHANNEL_BULK,
                                     .address = "10.0.0.1:2377"};
    AUTO_BUF struct buf bytes = {0};
    char hex[128];

    link_hello_put(&bytes, &hello);
    hex_encode(buf_bytes(&bytes), bytes.length, hex);
    assert_string_equal(hex, "08011002180320012802320d31302e302e302e313a32333737");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_side_dials_for_what_it_sends),
        cmocka_unit_test(an_answer_needs_no_address),
        cmocka_unit_test(one_that_looks_for_another_is_refused_but_tells_where_it_is),
        cmocka_unit_test(large_messages_arrive_whole_and_in_order),
        cmocka_unit_test(what_is_small_does_not_wait_for_what_is_large),
        cmocka_unit_test(a_flood_is_dropped_beyond_a_bound),
        cmocka_unit_test(a_peer_whose_port_closed_is_gone),
        cmocka_unit_test(a_listener_learns_that_a_speaker_is_gone),
        cmocka_unit_test(a_connection_that_broke_alone_is_made_again_and_nobody_is_gone),
        cmocka_unit_test(a_new_certificate_is_used_for_new_links),
        cmocka_unit_test(strangers_are_refused),
        cmocka_unit_test(a_number_is_one_node_s_only),
        cmocka_unit_test(golden_hello),
        cmocka_unit_test(a_hello_says_what_is_wrong_with_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
