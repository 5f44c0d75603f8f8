/* Several members on the real machine: files, threads, TLS over loopback, one loop. What depends on bad luck is
 * simulated (tests/simulation/raft_sim.c). */
#include "manager/raft/links_test_group.h"

static void three_managers_elect_and_commit(void **state)
{
    struct group g;

    group_open(&g);
    group_found(&g, 3);
    group_propose(&g, 500, 200);
    group_assert_equal(&g);
    for (uint64_t id = 1; id <= 3; id++) {
        const char *address;

        assert_int_equal(replica_leader(g.members[id].replica, &address), 1);
        assert_string_equal(address, g.members[1].address);
    }
    group_close(&g);
}

static void entries_larger_than_a_stream_s_first_credit_travel(void **state)
{
    struct group g;

    group_open(&g);
    for (uint64_t id = 1; id <= 3; id++) {
        g.members[id].epoch = 7; /* all of one epoch, whichever */
        g.members[id].segment_bytes = 4 << 20;
    }
    group_found(&g, 3);
    group_propose(&g, 5, 1500 << 10);
    group_assert_equal(&g);
    group_close(&g);
}

static void another_leads_when_the_leader_closes(void **state)
{
    struct group g;

    group_open(&g);
    group_found(&g, 3);
    group_propose(&g, 10, 100);
    member_close(&g.members[1]);
    group_until(&g, group_leader(&g) && group_leader(&g)->id != 1);
    group_propose(&g, 10, 100);
    member_open(&g.members[1], false);
    group_until(&g, replica_leader(g.members[1].replica, NULL) != 0);
    group_propose(&g, 10, 100);
    group_assert_equal(&g);
    group_close(&g);
}

static void a_member_that_lags_is_given_a_snapshot(void **state)
{
    struct group g;

    group_open(&g);
    group_found(&g, 3);
    member_close(&g.members[3]);
    for (int i = 0; i < 100 && g.members[1].snapshots < 3; i++)
        group_propose(&g, 100, 3000); /* until the log is cut behind what it has */
    group_propose(&g, 100, 100);
    member_open(&g.members[3], false);
    group_assert_equal(&g);
    assert_int_equal(g.members[3].restores, 1);
    group_close(&g);
}

static void a_member_that_moved_is_found_again(void **state)
{
    struct group g;

    group_open(&g);
    group_found(&g, 3);
    member_close(&g.members[3]);
    group_propose(&g, 10, 100);
    *g.members[3].address = 0; /* another port */
    member_open(&g.members[3], false);
    group_propose(&g, 10, 100); /* the leader cannot reach it: it asks for votes, and so tells its address */
    group_assert_equal(&g);
    group_close(&g);
}

static void a_removed_member_is_told(void **state)
{
    struct group g;
    struct err e;

    group_open(&g);
    group_found(&g, 3);
    unsigned want = g.done + 1;
    assert_int_equal(replica_member_demote(g.members[1].replica, 3, group_on_done, &g, &e), 0);
    group_until(&g, g.done == want);
    assert_int_equal(replica_member_remove(g.members[1].replica, 3, group_on_done, &g, &e), 0);
    group_until(&g, g.done == want + 1 && g.members[3].removed);
    assert_int_equal(g.failed, 0);
    group_propose(&g, 10, 100);
    group_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_managers_elect_and_commit),
        cmocka_unit_test(entries_larger_than_a_stream_s_first_credit_travel),
        cmocka_unit_test(another_leads_when_the_leader_closes),
        cmocka_unit_test(a_member_that_lags_is_given_a_snapshot),
        cmocka_unit_test(a_member_that_moved_is_found_again),
        cmocka_unit_test(a_removed_member_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
