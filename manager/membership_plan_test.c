/* Which change of the managers comes next: one row per situation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "manager/membership_plan.h"
#include "proto/base/mem.h"

#define MOST 8

/* Situations are written as words. Members: "1V" a voter, "2s" a standby; then ! not reachable, ~ not level,
 * - held back, @ at another address than its row says. Rows: "1M" wishes a manager, "1w" a worker; then - held
 * back. The address of a row is its number's, but for =n, which is that of n. The leader is 1. */
struct situation {
    struct membership_row rows[MOST];
    struct membership_member members[MOST];
    struct membership_in in;
};

static const char *const addresses[] = {"a0:1", "a1:1", "a2:1", "a3:1", "a4:1", "a5:1", "a6:1", "a7:1", "a8:1"};

static void read_members(struct situation *s, const char *text)
{
    for (const char *at = text; *at;) {
        struct membership_member *m = &s->members[s->in.member_count++];
        unsigned id = (unsigned)(*at++ - '0');

        *m = (struct membership_member){
            .id = id, .address = addresses[id], .voter = *at++ == 'V', .reachable = true, .level = true};
        for (; *at && *at != ' '; at++) {
            m->reachable &= *at != '!';
            m->level &= *at != '~';
            m->held |= *at == '-';
            m->address = *at == '@' ? "b:1" : m->address;
        }
        at += *at == ' ';
    }
}

static void read_rows(struct situation *s, const char *text)
{
    for (const char *at = text; *at;) {
        struct membership_row *r = &s->rows[s->in.row_count++];
        unsigned id = (unsigned)(*at++ - '0'), of = id;

        *r = (struct membership_row){.number = 100 + id, .raft_id = id, .wished = *at++ == 'M'};
        for (; *at && *at != ' '; at++) {
            r->held |= *at == '-';
            if (*at == '=')
                of = (unsigned)(*++at - '0');
        }
        strcpy(r->address, addresses[of]); /* short */
        at += *at == ' ';
    }
}

static struct membership_step plan(struct situation *s, const char *members, const char *rows)
{
    *s = (struct situation){.in = {.self = 1}};
    s->in.rows = s->rows;
    s->in.members = s->members;
    read_members(s, members);
    read_rows(s, rows);
    return membership_plan(&s->in);
}

struct one {
    const char *members, *rows;
    enum membership_verb verb;
    uint64_t raft_id;
    const char *why; /* WAIT: a part of it */
};

static void check(const struct one *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct situation s;
        struct membership_step step = plan(&s, cases[i].members, cases[i].rows);

        if (step.verb != cases[i].verb || step.raft_id != cases[i].raft_id ||
            (cases[i].why && !strstr(step.why, cases[i].why)))
            fail_msg("members %s, rows %s: step %d of %llu, \"%s\"", cases[i].members, cases[i].rows, step.verb,
                     (unsigned long long)step.raft_id, step.why ? step.why : "");
        if (step.verb == MEMBERSHIP_CLEAR)
            assert_int_equal(step.row, 100 + step.raft_id);
        if (step.verb == MEMBERSHIP_ADD || step.verb == MEMBERSHIP_MOVE)
            assert_string_equal(step.address, addresses[step.raft_id]);
    }
}

static void nothing_to_do_is_nothing_done(void **state)
{
    static const struct one cases[] = {
        {"1V", "1M", MEMBERSHIP_NOTHING, 0, NULL},
        {"1V 2V 3V", "1M 2M 3M", MEMBERSHIP_NOTHING, 0, NULL},
        {"1V 2V! 3V!", "1M 2M 3M", MEMBERSHIP_NOTHING, 0, NULL},
        {"1V", "", MEMBERSHIP_WAIT, 1, "no other manager can take over"}, /* a store without rows */
    };

    check(cases, ARRAY_SIZE(cases));
}

static void manager_joins_without_a_vote_first(void **state)
{
    static const struct one cases[] = {
        {"1V", "1M 2M", MEMBERSHIP_ADD, 2, NULL},
        {"1V 2s!", "1M 2M", MEMBERSHIP_WAIT, 2, "cannot be reached"},
        {"1V 2s~", "1M 2M", MEMBERSHIP_WAIT, 2, "catching up"},
        {"1V 2s", "1M 2M", MEMBERSHIP_PROMOTE, 2, NULL},
        {"1V 2s-", "1M 2M", MEMBERSHIP_NOTHING, 0, NULL},
        {"1V", "1M 2M-", MEMBERSHIP_NOTHING, 0, NULL},
        {"1V 2s!", "1M 2M 3M", MEMBERSHIP_ADD, 3, NULL}, /* one that is silent keeps nobody waiting */
        {"1V 2s~ 3s", "1M 2M 3M", MEMBERSHIP_PROMOTE, 3, NULL},
        {"1V 2V 3V!", "1M 2M 3M 4M", MEMBERSHIP_ADD, 4, NULL},
        {"1V 2V 3V! 4s", "1M 2M 3M 4M", MEMBERSHIP_PROMOTE, 4, NULL},
        {"1V 2V 3V! 4V! 5s", "1M 2M 3M 4M 5M", MEMBERSHIP_PROMOTE, 5, NULL},
        {"1V 2V! 3V! 4s", "1M 2M 3M 4M", MEMBERSHIP_WAIT, 4, "too few"},
    };

    check(cases, ARRAY_SIZE(cases));
}

static void address_of_another_is_waited_for(void **state)
{
    static const struct one cases[] = {
        {"1V 2V", "1M 2M 3M=2", MEMBERSHIP_WAIT, 3, "has the address of another"},
        {"1V 2s", "1M 3M=2", MEMBERSHIP_REMOVE, 2, NULL},
        {"1V 2V 3V", "1M 2M 4M=3", MEMBERSHIP_DEMOTE, 3, NULL},
        {"1V 2V@", "1M 2M", MEMBERSHIP_MOVE, 2, NULL},
        {"1V@ 2V", "1M 2M", MEMBERSHIP_MOVE, 1, NULL},
        {"1V 2V@-", "1M 2M", MEMBERSHIP_NOTHING, 0, NULL},
        {"1V 2V 3V", "1M 2M=3 3M", MEMBERSHIP_WAIT, 2, "address of another"},
        {"1V 2V@ 3V@", "1M 2M 3M", MEMBERSHIP_MOVE, 2, NULL},
    };

    check(cases, ARRAY_SIZE(cases));
}

static void demoted_manager_loses_vote_then_number_then_place(void **state)
{
    static const struct one cases[] = {
        {"1V 2V 3V", "1M 2M 3w", MEMBERSHIP_DEMOTE, 3, NULL},
        {"1V 2V 3s", "1M 2M 3w", MEMBERSHIP_CLEAR, 3, NULL},
        {"1V 2V 3s", "1M 2M", MEMBERSHIP_REMOVE, 3, NULL},
        {"1V 2V", "1M 2M 3w", MEMBERSHIP_CLEAR, 3, NULL}, /* it never was a member */
        {"1V 2V 3V", "1M 2M", MEMBERSHIP_DEMOTE, 3, NULL},
        {"1V 2V 3s", "1M 2M 3M", MEMBERSHIP_PROMOTE, 3, NULL}, /* promoted again in time */
        {"1V 2V 3V-", "1M 2M 3w", MEMBERSHIP_NOTHING, 0, NULL},
        {"1V 2V 3V!", "1M 2M 3w", MEMBERSHIP_DEMOTE, 3, NULL},
        {"1V 2V", "1M 2w", MEMBERSHIP_DEMOTE, 2, NULL},
    };

    check(cases, ARRAY_SIZE(cases));
}

static void vote_is_not_taken_where_the_rest_would_lose_its_quorum(void **state)
{
    static const struct one cases[] = {
        {"1V 2V 3V!", "1M 2w 3M", MEMBERSHIP_WAIT, 2, "loss of quorum"},
        {"1V 2V 3V!", "1M 2w 3w", MEMBERSHIP_DEMOTE, 3, NULL}, /* first the one that is dead */
        {"1V 2V 3V! 4V! 5V", "1M 2M 3M 4M 5w", MEMBERSHIP_WAIT, 5, "loss of quorum"},
        {"1V 2V 3V! 4V", "1M 2M 3M 4w", MEMBERSHIP_DEMOTE, 4, NULL},
    };

    check(cases, ARRAY_SIZE(cases));
}

static void leader_hands_over_before_it_goes(void **state)
{
    static const struct one cases[] = {
        {"1V 2V 3V", "1w 2M 3M", MEMBERSHIP_TRANSFER, 2, NULL},
        {"1V 2V! 3V", "1w 2M 3M", MEMBERSHIP_TRANSFER, 3, NULL},
        {"1V 2V~ 3V", "1w 2M 3M", MEMBERSHIP_TRANSFER, 3, NULL},
        {"1V 2V 3V", "1w 2w 3M", MEMBERSHIP_DEMOTE, 2, NULL},
        {"1V 3V", "1w 3M", MEMBERSHIP_TRANSFER, 3, NULL},
        {"1V 2V!", "1w 2M", MEMBERSHIP_WAIT, 1, "no other manager can take over"},
        {"1V 2s!", "1w 2M", MEMBERSHIP_WAIT, 1, "no other manager can take over"},
        {"1V 2s", "1w 2M", MEMBERSHIP_PROMOTE, 2, NULL},
        {"1V", "1w", MEMBERSHIP_WAIT, 1, NULL},
        {"1V 2V-", "1w 2M", MEMBERSHIP_WAIT, 1, NULL},
    };

    check(cases, ARRAY_SIZE(cases));
}

/* --- the law: whatever is wished, the group keeps its quorum ------------------------------------------------- */

static uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    return *seed ^= *seed << 17;
}

static void apply(struct situation *s, const struct membership_step *step)
{
    size_t i = 0;

    if (step->verb == MEMBERSHIP_ADD) {
        s->members[s->in.member_count++] = (struct membership_member){
            .id = step->raft_id, .address = addresses[step->raft_id], .level = true, .reachable = true};
        return;
    }
    if (step->verb == MEMBERSHIP_CLEAR) {
        while (s->rows[i].number != step->row)
            i++;
        s->rows[i] = s->rows[--s->in.row_count];
        return;
    }
    while (s->members[i].id != step->raft_id)
        i++;
    if (step->verb == MEMBERSHIP_REMOVE)
        s->members[i] = s->members[--s->in.member_count];
    else if (step->verb == MEMBERSHIP_TRANSFER)
        s->in.self = step->raft_id;
    else
        s->members[i].voter = step->verb == MEMBERSHIP_PROMOTE;
}

static bool has_quorum(const struct situation *s)
{
    return membership_keeps_quorum(&s->in, 0, 0);
}

static void steps_never_cost_the_quorum_and_come_to_an_end(void **state)
{
    uint64_t seed = 20261124;

    for (unsigned round = 0; round < 20000; round++) {
        uint64_t first = seed;
        struct situation s = {.in = {.self = 1}};
        unsigned steps = 0;

        s.in.rows = s.rows;
        s.in.members = s.members;
        for (unsigned id = 1; id <= 7; id++) {
            uint64_t dice = random_next(&seed);

            if (dice & 3 || id == 1)
                s.members[s.in.member_count++] = (struct membership_member){.id = id,
                                                                            .address = addresses[id],
                                                                            .voter = dice & 12 || id == 1,
                                                                            .reachable = dice & 48 || id == 1,
                                                                            .level = true};
            if (dice & 192)
                s.rows[s.in.row_count++] =
                    (struct membership_row){.number = 100 + id, .raft_id = id, .wished = (dice & 256) != 0};
        }
        for (size_t i = 0; i < s.in.row_count; i++)
            strcpy(s.rows[i].address, addresses[s.rows[i].raft_id]);
        if (!has_quorum(&s))
            continue;
        for (;;) {
            struct membership_step step = membership_plan(&s.in);

            if (step.verb <= MEMBERSHIP_WAIT)
                break;
            apply(&s, &step);
            if (!has_quorum(&s) || ++steps > 60)
                fail_msg("seed %llu: %s after step %d of %llu", (unsigned long long)first,
                         steps > 60 ? "no end" : "no quorum", step.verb, (unsigned long long)step.raft_id);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_to_do_is_nothing_done),
        cmocka_unit_test(manager_joins_without_a_vote_first),
        cmocka_unit_test(address_of_another_is_waited_for),
        cmocka_unit_test(demoted_manager_loses_vote_then_number_then_place),
        cmocka_unit_test(vote_is_not_taken_where_the_rest_would_lose_its_quorum),
        cmocka_unit_test(leader_hands_over_before_it_goes),
        cmocka_unit_test(steps_never_cost_the_quorum_and_come_to_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
