/* Several members on the real machine: files, threads, TLS over loopback, one loop. What depends on bad luck is
 * simulated (tests/simulation/raft_sim.c). */
#include <errno.h>
#include <stdatomic.h>

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
    struct replica_stats stats = {0};
    for (int i = 0; i < 200 && stats.snapshots < 3; i++) { /* until the log is cut behind what it has */
        group_propose(&g, 100, 3000);
        replica_stats(g.members[1].replica, &stats);
    }
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

static bool knows_address(const struct member *m, uint64_t id, const char *address)
{
    struct replica_member members[GROUP_MAX];
    size_t count = replica_members(m->replica, members, GROUP_MAX);

    for (size_t i = 0; i < count; i++)
        if (members[i].id == id)
            return strcmp(members[i].address, address) == 0 && members[i].voter;
    return false;
}

static void addresses_change_and_roles_stay(void **state)
{
    struct group g;
    struct err e;

    group_open(&g);
    group_found(&g, 3);
    struct replica *leader = g.members[1].replica;
    for (uint64_t id = 1; id <= 3; id++) { /* the leader's own too */
        char address[64];
        unsigned want = g.done + 1;

        (void)snprintf(address, sizeof(address), "127.0.0.2:%d", (int)id);
        assert_int_equal(replica_member_address(leader, id, address, group_on_done, &g, &e), 0);
        group_until(&g, g.done == want);
        assert_int_equal(g.failed, 0);
        group_until(&g, knows_address(&g.members[1], id, address) && knows_address(&g.members[3], id, address));
    }
    group_propose(&g, 10, 100); /* they announced where they really are */
    assert_int_equal(replica_member_address(leader, 2, "127.0.0.2:3", group_on_done, &g, &e), 0);
    group_until(&g, g.failed == 1);
    assert_int_equal(g.last_code, ERR_EXISTS);
    assert_int_equal(replica_member_address(leader, 2, "127.0.0.2:2", group_on_done, &g, &e), 0);
    group_until(&g, g.failed == 2);
    assert_int_equal(g.last_code, ERR_NOT_MODIFIED);
    assert_int_equal(replica_member_address(leader, 4, "127.0.0.2:4", group_on_done, &g, &e), 0);
    group_until(&g, g.failed == 3);
    assert_int_equal(g.last_code, ERR_NOT_FOUND);
    assert_int_equal(replica_member_address(leader, 2, "", group_on_done, &g, &e), ERR_INVALID);
    g.failed = 0;
    group_close(&g);
}

/* --- handing over --------------------------------------------------------------------------------- */

static void the_leadership_is_handed_over(void **state)
{
    struct group g;
    struct err e;

    group_open(&g);
    group_found(&g, 3);
    group_propose(&g, 10, 100);
    unsigned want = g.done + 1;
    assert_int_equal(replica_transfer(g.members[1].replica, 3, group_on_done, &g, &e), 0);
    group_until(&g, g.done == want && g.members[3].state == REPLICA_LEADER);
    assert_int_equal(g.failed, 0);
    group_propose(&g, 10, 100);
    group_assert_equal(&g);
    group_close(&g);
}

/* Not to the one that is silent, though it had everything when it was heard last. */
static void the_leadership_goes_to_one_that_answers(void **state)
{
    struct group g;
    struct err e;

    group_open(&g);
    group_found(&g, 3);
    group_propose(&g, 10, 100);
    group_assert_equal(&g);
    member_close(&g.members[3]);
    group_rest(&g, 600); /* longer than an election takes: it does not count as heard any more */
    unsigned want = g.done + 1;
    assert_int_equal(replica_transfer(g.members[1].replica, 0, group_on_done, &g, &e), 0);
    group_until(&g, g.done == want && g.members[2].state == REPLICA_LEADER);
    assert_int_equal(g.failed, 0);
    group_close(&g);
}

/* What a member's disk does instead: the lanes' threads ask. */
static struct {
    int (*write)(struct env_file *f, uint64_t offset, const void *data, size_t size, struct err *e);
    int (*reserve)(struct env_file *f, uint64_t size, struct err *e);
    atomic_bool hangs, is_full;
} disk;

static int disk_write(struct env_file *f, uint64_t offset, const void *data, size_t size, struct err *e)
{
    while (disk.hangs)
        uv_sleep(1);
    return disk.write(f, offset, data, size, e);
}

static int disk_reserve(struct env_file *f, uint64_t size, struct err *e)
{
    return disk.is_full ? err_number(e, ENOSPC, "reserve %llu bytes", (unsigned long long)size)
                        : disk.reserve(f, size, e);
}

static void spoil_disk(struct member *m)
{
    disk.write = m->env->file_write;
    disk.reserve = m->env->file_reserve;
    disk.hangs = disk.is_full = false;
    m->env->file_write = disk_write;
    m->env->file_reserve = disk_reserve;
}

static void a_leader_whose_disk_hangs_hands_over(void **state)
{
    uint8_t byte = 1;
    struct group g;
    struct err e;

    group_open(&g);
    group_found(&g, 3);
    group_propose(&g, 10, 100);
    spoil_disk(&g.members[1]);
    unsigned want = g.done + 1;
    disk.hangs = true;
    assert_int_equal(replica_propose(g.members[1].replica, &byte, 1, group_on_proposed, &g, &e), 0);
    group_until(&g, group_leader(&g) && group_leader(&g)->id != 1);
    group_until(&g, g.done == want); /* unknown to it, as it lost the leadership before */
    g.failed = 0;
    group_propose(&g, 10, 100); /* two of three */
    disk.hangs = false;
    group_assert_equal(&g);
    group_close(&g);
}

static void a_leader_whose_disk_is_full_hands_over(void **state)
{
    struct group g;

    group_open(&g);
    group_found(&g, 3);
    group_propose(&g, 10, 100);
    spoil_disk(&g.members[1]);
    disk.is_full = true;
    for (int i = 0; i < 100 && group_leader(&g) && group_leader(&g)->id == 1; i++) {
        uint8_t data[10000] = {0};
        struct err e;

        (void)replica_propose(g.members[1].replica, data, sizeof(data), group_on_proposed, &g, &e);
        group_rest(&g, 5); /* the others take it, until its spare segments are used up */
    }
    group_until(&g, group_leader(&g) && group_leader(&g)->id != 1);
    group_rest(&g, 20);
    g.failed = 0;
    group_propose(&g, 10, 100);
    disk.is_full = false;
    group_assert_equal(&g);
    group_close(&g);
}

/* --- comparing stores ----------------------------------------------------------------------------- */

static void equal_stores_are_not_complained_of(void **state)
{
    struct group g;

    group_open(&g);
    group_found(&g, 3);
    for (int i = 0; i < 5; i++)
        group_propose(&g, 256, 100);
    group_assert_equal(&g);
    member_close(&g.members[3]); /* one that catches up from disk */
    group_propose(&g, 600, 100);
    member_open(&g.members[3], false);
    group_propose(&g, 600, 100);
    group_assert_equal(&g);
    for (uint64_t id = 1; id <= 3; id++)
        assert_int_equal(g.members[id].fatal.code, 0);
    group_close(&g);
}

static void a_member_whose_store_differs_stops(void **state)
{
    struct group g;
    struct member *m = &g.members[2];

    group_open(&g);
    group_found(&g, 3);
    m->sum++; /* a bit in its store */
    group_propose(&g, 300, 100);
    group_until(&g, m->fatal.code);
    assert_int_equal(m->fatal.code, ERR_CORRUPT);
    assert_non_null(strstr(m->fatal.text, "differs from the other managers' at entry 256"));
    assert_int_equal(g.members[1].fatal.code + g.members[3].fatal.code, 0);
    member_close(m);
    group_propose(&g, 300, 100);
    group_close(&g);
}

static void a_leader_whose_store_differs_from_the_majority_s_stops(void **state)
{
    struct group g;

    group_open(&g);
    group_found(&g, 3);
    g.members[1].sum++;
    for (int i = 0; i < 300; i++) {
        struct err e;

        (void)replica_propose(g.members[1].replica, "x", 1, group_on_proposed, &g, &e);
    }
    group_until(&g, g.members[1].fatal.code);
    assert_int_equal(g.members[1].fatal.code, ERR_CORRUPT);
    member_close(&g.members[1]);
    group_until(&g, group_leader(&g));
    g.failed = 0;
    group_propose(&g, 300, 100);
    group_assert_equal(&g);
    assert_int_equal(g.members[2].fatal.code + g.members[3].fatal.code, 0);
    group_close(&g);
}

/* --- going on alone ------------------------------------------------------------------------------- */

/* Have the group forced on this closed member, and open it. */
static void force(struct member *m)
{
    struct err e;

    m->epoch++;
    m->env = replica_env_real(&m->group->loop, NULL);
    struct replica_config config = member_config(m);
    if (replica_force(&config, &e) < 0)
        fail_msg("%s", e.text);
    replica_env_real_free(m->env);
    member_open(m, false);
}

static void the_only_one_left_goes_on_with_all_it_has(void **state)
{
    struct group g;

    group_open(&g);
    group_found(&g, 3);
    group_propose(&g, 100, 300);
    group_assert_equal(&g);
    uint64_t applied = g.members[3].applied;
    for (uint64_t id = 1; id <= 3; id++)
        member_close(&g.members[id]);
    g.members[3].applied = g.members[3].sum = 0; /* its store is lost too: the log is what counts */
    force(&g.members[3]);
    group_until(&g, group_leader(&g));
    group_propose(&g, 10, 100);
    struct replica_member members[GROUP_MAX];
    assert_int_equal(replica_members(g.members[3].replica, members, GROUP_MAX), 1);
    assert_true(members[0].voter && members[0].id == 3);
    assert_true(g.members[3].applied >= applied + 10);
    member_open(&g.members[1], false); /* one that was left behind is not listened to */
    member_open(&g.members[2], false);
    group_rest(&g, 300);
    group_propose(&g, 10, 100);
    assert_int_equal(g.members[3].state, REPLICA_LEADER);
    for (uint64_t id = 1; id <= 2; id++)
        member_close(&g.members[id]);
    g.members[4].epoch = g.members[3].epoch; /* new ones join as ever */
    member_open(&g.members[4], false);
    group_join(&g, &g.members[4]);
    group_assert_equal(&g);
    group_close(&g);
}

/* Entries, and a change of the members, that nobody else had yet. */
static void what_was_under_way_is_kept_too(void **state)
{
    struct group g;
    struct err e;

    group_open(&g);
    group_found(&g, 3);
    group_propose(&g, 100, 300);
    group_assert_equal(&g);
    member_close(&g.members[2]);
    member_close(&g.members[3]);
    uint64_t last = replica_last_index(g.members[1].replica);
    for (int i = 0; i < 5; i++)
        assert_int_equal(replica_propose(g.members[1].replica, "lone", 4, group_on_proposed, &g, &e), 0);
    assert_int_equal(replica_member_add(g.members[1].replica, 5, "127.0.0.1:9", group_on_done, &g, &e), 0);
    group_until(&g, replica_last_index(g.members[1].replica) == last + 6);
    member_close(&g.members[1]);
    force(&g.members[1]);
    group_until(&g, group_leader(&g));
    group_until(&g, g.members[1].applied > last + 6);
    struct replica_member members[GROUP_MAX];
    assert_int_equal(replica_members(g.members[1].replica, members, GROUP_MAX), 1);
    g.failed = 0;
    member_open(&g.members[4], false);
    g.members[4].epoch = g.members[1].epoch;
    member_close(&g.members[4]);
    member_open(&g.members[4], false);
    group_join(&g, &g.members[4]);
    group_assert_equal(&g);
    group_close(&g);
}

static unsigned writes_left; /* of disk_fails */

static int disk_fails(struct env_file *f, uint64_t offset, const void *data, size_t size, struct err *e)
{
    return writes_left-- == 0 ? err_set(e, ERR_IO, "the machine stopped") : disk.write(f, offset, data, size, e);
}

/* The machine stops before each write of forcing; the next try, or a start as before, goes on. */
static void forcing_can_be_interrupted_anywhere(void **state)
{
    struct group g;
    struct member *m = &g.members[3];
    struct err e = {0};
    unsigned failures = 0;

    group_open(&g);
    group_found(&g, 3);
    group_propose(&g, 20, 300);
    group_assert_equal(&g);
    for (uint64_t id = 1; id <= 3; id++)
        member_close(&g.members[id]);
    uint64_t applied = m->applied, sum = m->sum;
    for (unsigned n = 0;; n++, failures++) {
        m->env = replica_env_real(&g.loop, NULL);
        disk.write = m->env->file_write;
        m->env->file_write = disk_fails;
        writes_left = n;
        struct replica_config config = member_config(m);
        int rc = replica_force(&config, &e);
        replica_env_real_free(m->env);
        if (rc == 0)
            break;
        assert_int_equal(e.code, ERR_IO);
        member_open(m, false); /* the operator thinks again */
        group_rest(&g, 10);
        assert_int_equal(m->fatal.code, 0);
        member_close(m);
    }
    assert_true(failures >= 3);
    assert_true(m->applied == applied && m->sum == sum); /* nothing was committed meanwhile */
    member_open(m, false);
    group_until(&g, group_leader(&g));
    group_propose(&g, 10, 100);
    group_close(&g);
}

static void an_empty_log_cannot_be_forced(void **state)
{
    struct group g;
    struct member *m = &g.members[1];
    struct err e;

    group_open(&g);
    (void)snprintf(m->address, sizeof(m->address), "127.0.0.1:1");
    m->env = replica_env_real(&g.loop, NULL);
    struct replica_config config = member_config(m);
    assert_int_equal(replica_force(&config, &e), ERR_PRECONDITION);
    replica_env_real_free(m->env);
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
        cmocka_unit_test(addresses_change_and_roles_stay),
        cmocka_unit_test(the_leadership_is_handed_over),
        cmocka_unit_test(the_leadership_goes_to_one_that_answers),
        cmocka_unit_test(a_leader_whose_disk_hangs_hands_over),
        cmocka_unit_test(a_leader_whose_disk_is_full_hands_over),
        cmocka_unit_test(equal_stores_are_not_complained_of),
        cmocka_unit_test(a_member_whose_store_differs_stops),
        cmocka_unit_test(a_leader_whose_store_differs_from_the_majority_s_stops),
        cmocka_unit_test(the_only_one_left_goes_on_with_all_it_has),
        cmocka_unit_test(what_was_under_way_is_kept_too),
        cmocka_unit_test(forcing_can_be_interrupted_anywhere),
        cmocka_unit_test(an_empty_log_cannot_be_forced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
