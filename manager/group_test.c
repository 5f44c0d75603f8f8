/* Several managers: joining, promotion, demotion, a leader that demotes itself, removal, coming back, and the traps
 * (DESIGN.md section 5, reference/swarm-surface.md section 4). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/mem.h"
#include "tests/support/group.h"

static struct group g;

/* As many managers, each with its vote. */
static void managers(unsigned count)
{
    group_found(&g, "/tmp");
    while (g.count < count)
        group_join(&g);
    group_until(&g, group_is_level(&g, count));
}

static int teardown(void **state)
{
    group_end(&g);
    return 0;
}

static const char *service(unsigned n)
{
    return arena_printf(&g.at[0].arena, "{\"Name\":\"s%u\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"i\"}}}",
                        n);
}

/* The place of one that does not lead. */
static unsigned follower(void)
{
    return (unsigned)(group_lead(&g) - g.at) == 1 ? 2 : 1;
}

static unsigned leader(void)
{
    return (unsigned)(group_lead(&g) - g.at);
}

static void refused(unsigned i, const char *role, const char *text)
{
    const char *body;

    assert_int_equal(group_wish(&g, i, role, &body), 400);
    if (!strstr(body, text))
        fail_msg("%s", body);
}

static void granted(unsigned i, const char *role)
{
    const char *body;

    if (group_wish(&g, i, role, &body) != 200)
        fail_msg("%s", body);
}

static void not_removed(unsigned i, const char *query, const char *text)
{
    struct cluster *c = group_lead(&g);
    const char *body = cluster_expect(
        c, 400, "DELETE", arena_printf(&c->arena, "/nodes/%s%s", g.at[i].founding.node_id, query), NULL);

    if (!strstr(body, text))
        fail_msg("%s", body);
}

static void write_to(struct cluster *c)
{
    static unsigned n;

    cluster_expect(c, 201, "POST", "/services/create", service(++n));
}

static void write_something(void)
{
    write_to(group_lead(&g));
}

/* --- joining ------------------------------------------------------------------------------------------------- */

static void three_managers_join_and_any_two_go_on(void **state)
{
    managers(3);
    group_until(&g, g.at[1].ready && g.at[2].ready);
    for (unsigned i = 0; i < 3; i++) {
        assert_string_equal(group_node(&g, i, "Spec.Role"), "manager");
        assert_string_equal(group_node(&g, i, "ManagerStatus.Addr"), g.at[i].advertise);
        assert_int_equal(g.at[i].raft_id, i ? i + 1 : 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        group_stop(&g, i);
        write_something();
        assert_int_equal(group_announce(&g, i, false), 0);
        group_start(&g, i);
        group_until(&g, group_is_level(&g, 3));
    }
}

static void joiner_that_never_opens_keeps_nobody_from_anything(void **state)
{
    managers(2);
    unsigned absent = group_join_closed(&g);
    assert_int_equal(group_announce(&g, absent, true), 0);
    group_join(&g);
    group_until(&g, group_is_level(&g, 3));
    const char *reach = group_node(&g, absent, "ManagerStatus.Reachability");
    assert_true(strcmp(reach, "unreachable") == 0 || strcmp(reach, "unknown") == 0);
    granted(absent, "worker");
    group_until(&g, !group_node(&g, absent, "ManagerStatus.Addr"));
    write_something();
}

static const char *info(struct cluster *c, const char *way)
{
    AUTO_BUF struct buf out = {0};
    struct jwrite j = JWRITE_TO(&out);

    jwrite_object(&j, NULL);
    manager_info(c->manager, &j);
    jwrite_array(&j, "Warnings");
    manager_warnings(c->manager, &j);
    jwrite_end(&j);
    jwrite_end(&j);
    return json_at(c, buf_str(&out), way);
}

static bool info_is(struct cluster *c, const char *way, const char *text)
{
    const char *found = info(c, way);

    return found && strcmp(found, text) == 0;
}

static void every_manager_knows_all_and_two_are_warned(void **state)
{
    managers(2);
    group_until(&g, g.at[1].ready);
    for (unsigned i = 0; i < 2; i++) {
        group_until(&g, info_is(&g.at[i], "Managers", "2"));
        assert_true(info_is(&g.at[i], "RemoteManagers.0.NodeID", g.at[0].founding.node_id));
        assert_true(info_is(&g.at[i], "RemoteManagers.1.NodeID", g.at[1].founding.node_id));
        assert_true(info_is(&g.at[i], "RemoteManagers.1.Addr", g.at[1].advertise));
        assert_non_null(strstr(info(&g.at[i], "Warnings.0"), "two-manager configuration"));
    }
    group_join(&g);
    group_until(&g, g.at[2].ready);
    for (unsigned i = 0; i < 3; i++) {
        group_until(&g, info_is(&g.at[i], "Managers", "3"));
        assert_true(info_is(&g.at[i], "Warnings.#", "0"));
    }
}

static void managers_that_lead_and_fall_silent_are_events(void **state)
{
    managers(3);
    unsigned was = leader(), silent = follower(), heir = 3 - was - silent;
    struct cluster *c = &g.at[was];

    cluster_rest(c, 50); /* the news of joining */
    c->hears = true;
    group_stop(&g, silent);
    group_until(&g, strstr(buf_str(&c->events), "reachability.old=reachable reachability.new=unreachable"));
    const char *line = arena_printf(&c->arena, "node update %s name=\n", g.at[silent].founding.node_id);
    assert_null(strstr(buf_str(&c->events), line)); /* one that says nothing */
    group_start(&g, silent);
    group_until(&g, strstr(buf_str(&c->events), "reachability.old=unreachable reachability.new=reachable"));
    group_until(&g, group_is_level(&g, 3) && g.at[silent].ready && g.at[heir].ready);
    g.at[silent].hears = g.at[heir].hears = true;
    group_stop(&g, was);
    unsigned leads = leader();
    c = &g.at[leads == heir ? silent : heir]; /* it is told at the others too */
    group_until(&g, strstr(buf_str(&c->events), "leader.old=false leader.new=true"));
    group_until(
        &g, strstr(buf_str(&c->events), arena_printf(&c->arena, "node update %s", g.at[leads].founding.node_id)));
}

/* --- roles --------------------------------------------------------------------------------------------------- */

static void demoted_manager_is_told_and_comes_back_with_another_number(void **state)
{
    managers(3);
    unsigned i = follower();
    uint64_t number = g.at[i].raft_id;

    granted(i, "worker");
    group_until(&g, g.at[i].removed);
    group_until(&g, !group_node(&g, i, "ManagerStatus"));
    assert_string_equal(group_node(&g, i, "Spec.Role"), "worker");
    assert_int_equal(group_announce(&g, i, false), ERR_DENIED);
    group_stop(&g, i);
    write_something();
    granted(i, "manager");
    assert_int_equal(group_announce(&g, i, false), ERR_PRECONDITION); /* not with its old log */
    group_lose_disk(&g, i);
    assert_int_equal(group_announce(&g, i, true), 0);
    assert_true(g.at[i].raft_id > number && g.at[i].raft_id > 3);
    group_start(&g, i);
    group_until(&g, group_is_level(&g, 3));
    group_until(&g, g.at[i].ready);
}

static void leader_that_stops_as_planned_is_followed_at_once_and_comes_back(void **state)
{
    managers(3);
    for (int turn = 0; turn < 2; turn++) {
        unsigned i = leader();

        group_stop(&g, i);
        write_something();
        group_start(&g, i);
        group_until(&g, group_is_level(&g, 3));
        group_until(&g, g.at[i].ready);
    }
}

static void manager_that_comes_back_alone_says_who_is_missing_and_goes_on_with_them(void **state)
{
    managers(3);
    group_until(&g, g.at[1].ready && g.at[2].ready);
    write_something();
    for (unsigned i = 0; i < 3; i++)
        group_stop(&g, i);
    group_start(&g, 1);
    group_until(&g, g.at[1].ready); /* although nobody leads */
    const char *body = group_expect(&g, 1, 503, "GET", "/services", NULL);
    if (!strstr(body, "does not have a leader") || !strstr(body, "Missing: "))
        fail_msg("%s", body);
    group_start(&g, 2);
    (void)group_lead(&g);
    group_until(&g, g.at[2].ready);
    assert_string_equal(json_at(&g.at[1], group_expect(&g, 1, 200, "GET", "/services", NULL), "#"), "1");
    group_start(&g, 0);
    group_until(&g, g.at[0].ready && group_is_level(&g, 3));
}

static void leader_that_demotes_itself_hands_over_first(void **state)
{
    managers(3);
    unsigned i = leader();

    granted(i, "worker");
    group_until(&g, g.at[i].removed);
    group_until(&g, leader() != i && !group_node(&g, i, "ManagerStatus"));
    group_stop(&g, i);
    write_something();
}

/* The one that is left must not need the other's vote to let it go. */
static void of_two_managers_one_is_demoted_whoever_leads(void **state)
{
    managers(2);
    granted(0, "worker"); /* it leads */
    group_until(&g, g.at[0].removed);
    group_stop(&g, 0);
    write_something();
    assert_int_equal(leader(), 1);
    refused(1, "worker", "attempting to demote the last manager of the swarm");
}

/* --- traps --------------------------------------------------------------------------------------------------- */

static void what_would_cost_the_quorum_is_refused(void **state)
{
    managers(3);
    unsigned lost = follower(), other = lost == 1 ? 2 : 1;

    if (leader() == other)
        other = 0;
    not_removed(lost, "", "It must be demoted to worker before removal");
    not_removed(lost, "?force=true", "It must be demoted to worker before removal");
    group_stop(&g, lost);
    group_until(&g, strcmp(group_node(&g, lost, "ManagerStatus.Reachability"), "unreachable") == 0);
    refused(other, "worker", "can't remove member from the raft: this would result in a loss of quorum");
    refused(leader(), "worker", "can't remove member from the raft: this would result in a loss of quorum");
    /* The lost one may go, and then one of the two. */
    granted(lost, "worker");
    group_until(&g, !group_node(&g, lost, "ManagerStatus"));
    cluster_expect(group_lead(&g), 200, "DELETE",
                   arena_printf(&g.at[0].arena, "/nodes/%s?force=true", g.at[lost].founding.node_id), NULL);
    granted(other, "worker");
    group_until(&g, g.at[other].removed);
    write_something();
    refused(leader(), "worker", "attempting to demote the last manager of the swarm");
}

static void two_demotions_at_once_leave_one(void **state)
{
    managers(3);
    granted(follower(), "worker");
    granted(leader(), "worker");
    unsigned left = 0, gone = 0;
    group_until(&g, g.at[0].removed + g.at[1].removed + g.at[2].removed == 2);
    for (unsigned i = 0; i < 3; i++)
        if (g.at[i].removed)
            gone++, group_stop(&g, i);
        else
            left = i;
    assert_int_equal(gone, 2);
    write_something();
    refused(left, "worker", "attempting to demote the last manager of the swarm");
}

/* --- coming and going ------------------------------------------------------------------------------------------
 */

static void removed_by_force_while_away_it_is_refused_and_joins_anew(void **state)
{
    managers(3);
    unsigned i = follower();

    group_stop(&g, i);
    granted(i, "worker");
    cluster_expect(group_lead(&g), 200, "DELETE",
                   arena_printf(&g.at[0].arena, "/nodes/%s?force=true", g.at[i].founding.node_id), NULL);
    assert_int_equal(group_announce(&g, i, false), ERR_DENIED);
    assert_non_null(strstr(g.why.text, "not part of this cluster"));
    write_something();
    unsigned again = group_join(&g);
    group_until(&g, group_is_level(&g, 3));
    assert_int_equal(g.at[again].raft_id, 4);
}

static void manager_that_lost_its_disk_becomes_another_member(void **state)
{
    managers(3);
    unsigned i = follower();
    uint64_t number = g.at[i].raft_id;

    group_stop(&g, i);
    group_lose_disk(&g, i);
    assert_int_equal(group_announce(&g, i, true), 0);
    assert_true(g.at[i].raft_id > number);
    group_start(&g, i);
    group_until(&g, group_is_level(&g, 3));
    write_something();
}

static void managers_leave_and_are_answered_when_they_may_go(void **state)
{
    managers(3);
    unsigned i = follower();

    assert_int_equal(group_leave(&g, i), 0);
    group_stop(&g, i); /* at once */
    write_something();
    i = leader();
    assert_int_equal(group_leave(&g, i), 0); /* it hands over, and the other answers */
    group_stop(&g, i);
    write_something();
    group_until(&g, group_is_level(&g, 1));
    assert_int_equal(group_leave(&g, leader()), ERR_PRECONDITION);
}

static void manager_that_moved_is_followed(void **state)
{
    managers(3);
    unsigned i = follower();
    struct cluster *c = &g.at[i];

    group_stop(&g, i);
    (void)snprintf(strrchr(c->listen, ':'), 6, ":2378"); /* as long as it was */
    memcpy(c->advertise, c->listen, sizeof(c->advertise));
    group_start(&g, i); /* before anybody was told: its links say it */
    group_until(&g, c->ready);
    assert_int_equal(group_announce(&g, i, false), 0);
    group_until(&g, group_is_level(&g, 3));
    assert_string_equal(group_node(&g, i, "ManagerStatus.Addr"), c->advertise);
    group_stop(&g, 3 - i - leader()); /* so that its vote counts */
    write_something();
}

static void sole_manager_that_moved_announces_it_to_itself(void **state)
{
    managers(1);
    struct cluster *c = &g.at[0];

    group_stop(&g, 0);
    (void)snprintf(strrchr(c->listen, ':'), 6, ":2378"); /* as long as it was */
    memcpy(c->advertise, c->listen, sizeof(c->advertise));
    group_start(&g, 0);
    group_until(&g, c->ready);
    assert_int_equal(group_announce(&g, 0, false), 0);
    assert_string_equal(group_node(&g, 0, "ManagerStatus.Addr"), c->advertise);
    group_join(&g);
    group_until(&g, group_is_level(&g, 2));
    group_until(&g, g.at[1].ready);
    assert_string_equal(json_at(&g.at[1], group_expect(&g, 1, 200, "GET", "/nodes", NULL), "0.ManagerStatus.Addr"),
                        c->advertise);
}

/* --- going on alone --------------------------------------------------------------------------------------------
 */

static void survivor_goes_on_alone_with_every_object_and_refuses_the_others(void **state)
{
    managers(3);
    unsigned survivor = follower();
    struct cluster *c = &g.at[survivor];

    for (unsigned i = 0; i < 20; i++)
        write_something();
    const char *services = cluster_expect(group_lead(&g), 200, "GET", "/services", NULL);
    const char *before = json_at(&g.at[0], services, "#");
    group_until(&g, g.at[1].ready && g.at[2].ready);
    for (unsigned i = 0; i < 3; i++)
        group_stop(&g, i);
    c->force_new_cluster = true;
    c->epoch++;
    group_start(&g, survivor);
    group_until(&g, c->ready);
    assert_int_equal(leader(), survivor);
    assert_string_equal(json_at(c, cluster_expect(c, 200, "GET", "/services", NULL), "#"), before);
    for (unsigned i = 0; i < 3; i++) {
        assert_string_equal(group_node(&g, i, "Spec.Role"), i == survivor ? "manager" : "worker");
        assert_true(!group_node(&g, i, "ManagerStatus") == (i != survivor));
    }
    write_something();
    /* The others, which know nothing of it, make a group without it. */
    c->force_new_cluster = false;
    for (unsigned i = 0; i < 3; i++)
        if (i != survivor)
            group_start(&g, i);
    group_rest(&g, 1500);
    write_to(c);
    for (unsigned i = 0; i < 3; i++)
        if (i != survivor)
            group_stop(&g, i);
    for (unsigned i = 0; i < 3; i++)
        if (i != survivor)
            assert_int_equal(group_announce(&g, i, false), ERR_DENIED);
    /* Again without being told to, and with another that joins. */
    group_stop(&g, survivor);
    group_start(&g, survivor);
    group_until(&g, c->ready);
    group_join(&g);
    group_until(&g, group_is_level(&g, 2));
    assert_int_equal(g.at[3].epoch, 1);
    assert_int_equal(g.at[3].raft_id, 4);
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(three_managers_join_and_any_two_go_on),
        TEST(every_manager_knows_all_and_two_are_warned),
        TEST(managers_that_lead_and_fall_silent_are_events),
        TEST(joiner_that_never_opens_keeps_nobody_from_anything),
        TEST(demoted_manager_is_told_and_comes_back_with_another_number),
        TEST(leader_that_stops_as_planned_is_followed_at_once_and_comes_back),
        TEST(manager_that_comes_back_alone_says_who_is_missing_and_goes_on_with_them),
        TEST(leader_that_demotes_itself_hands_over_first),
        TEST(of_two_managers_one_is_demoted_whoever_leads),
        TEST(what_would_cost_the_quorum_is_refused),
        TEST(two_demotions_at_once_leave_one),
        TEST(removed_by_force_while_away_it_is_refused_and_joins_anew),
        TEST(manager_that_lost_its_disk_becomes_another_member),
        TEST(managers_leave_and_are_answered_when_they_may_go),
        TEST(manager_that_moved_is_followed),
        TEST(sole_manager_that_moved_announces_it_to_itself),
        TEST(survivor_goes_on_alone_with_every_object_and_refuses_the_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
