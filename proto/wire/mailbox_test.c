/* Mail arrives once, in order, on its owner's loop, whatever closes when; credit is given in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/entropy.h"
#include "proto/wire/mailbox.h"

struct box {
    struct mailbox mailbox;
    int seen[64]; /* numbers delivered, in order */
    size_t seen_count;
    unsigned wakes;
    unsigned closes;
    bool close_on_delivery;
    size_t seen_at_close;
};

struct note {
    struct mail mail;
    int number;
    struct note *then; /* posted to the same box from inside this delivery */
};

static void box_closed(struct mailbox *m)
{
    struct box *b = container_of(m, struct box, mailbox);

    b->closes++;
    b->seen_at_close = b->seen_count;
}

static void note_deliver(struct mail *m, void *owner)
{
    struct note *n = container_of(m, struct note, mail);
    struct box *b = owner;

    b->seen[b->seen_count++] = n->number;
    if (n->then)
        mailbox_post(&b->mailbox, &n->then->mail);
    if (b->close_on_delivery) {
        b->close_on_delivery = false;
        mailbox_close(&b->mailbox, box_closed);
        assert_int_equal(b->closes, 0); /* never before the call has returned */
    }
}

#define NOTE(...)                                           \
    {                                                       \
        .mail.deliver = note_deliver, .number = __VA_ARGS__ \
    }

static void count_wake(struct mailbox *m)
{
    container_of(m, struct box, mailbox)->wakes++;
}

static void mail_is_delivered_in_order_and_wakes_once(void **state)
{
    struct box b = {0};
    struct note notes[] = {NOTE(1), NOTE(2), NOTE(3)};

    mailbox_open_manual(&b.mailbox, &b, count_wake);
    for (size_t i = 0; i < ARRAY_SIZE(notes); i++)
        mailbox_post(&b.mailbox, &notes[i].mail);
    assert_int_equal(b.wakes, 1);
    assert_int_equal(b.seen_count, 0);
    assert_int_equal(mailbox_deliver(&b.mailbox), 3);
    assert_memory_equal(b.seen, ((int[]){1, 2, 3}), 3 * sizeof(int));
    assert_int_equal(mailbox_deliver(&b.mailbox), 0);
    mailbox_close(&b.mailbox, box_closed);
    assert_int_equal(b.closes, 1);
}

static void mail_posted_during_delivery_waits_for_the_next_turn(void **state)
{
    struct box b = {0};
    struct note second = NOTE(2), first = NOTE(1, .then = &second);

    mailbox_open_manual(&b.mailbox, &b, count_wake);
    mailbox_post(&b.mailbox, &first.mail);
    assert_int_equal(mailbox_deliver(&b.mailbox), 1);
    assert_int_equal(b.wakes, 2);
    assert_int_equal(mailbox_deliver(&b.mailbox), 1);
    assert_int_equal(b.seen[1], 2);
    mailbox_close(&b.mailbox, box_closed);
}

static void closing_by_hand_delivers_what_waits_first(void **state)
{
    struct box b = {0};
    struct note third = NOTE(3), notes[] = {NOTE(1), NOTE(2, .then = &third)};

    mailbox_open_manual(&b.mailbox, &b, count_wake);
    mailbox_post(&b.mailbox, &notes[0].mail);
    mailbox_post(&b.mailbox, &notes[1].mail);
    mailbox_close(&b.mailbox, box_closed);
    assert_int_equal(b.closes, 1);
    assert_int_equal(b.seen_at_close, 3);
    assert_memory_equal(b.seen, ((int[]){1, 2, 3}), 3 * sizeof(int));
}

static void closing_by_hand_inside_a_delivery_keeps_the_order(void **state)
{
    struct box b = {.close_on_delivery = true};
    struct note third = NOTE(3), notes[] = {NOTE(1, .then = &third), NOTE(2)};

    mailbox_open_manual(&b.mailbox, &b, count_wake);
    mailbox_post(&b.mailbox, &notes[0].mail);
    mailbox_post(&b.mailbox, &notes[1].mail);
    mailbox_deliver(&b.mailbox);
    assert_int_equal(b.closes, 1);
    assert_int_equal(b.seen_at_close, 3);
    assert_memory_equal(b.seen, ((int[]){1, 2, 3}), 3 * sizeof(int));
}

static void closing_on_a_loop_inside_a_delivery_loses_nothing(void **state)
{
    struct box b = {.close_on_delivery = true};
    struct note third = NOTE(3), notes[] = {NOTE(1, .then = &third), NOTE(2)};
    uv_loop_t loop;

    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(mailbox_open(&b.mailbox, &loop, &b), 0);
    mailbox_post(&b.mailbox, &notes[0].mail);
    mailbox_post(&b.mailbox, &notes[1].mail);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(b.closes, 1);
    assert_int_equal(b.seen_at_close, 3);
    assert_memory_equal(b.seen, ((int[]){1, 2, 3}), 3 * sizeof(int));
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void closing_on_a_loop_before_it_turned_loses_nothing(void **state)
{
    struct box b = {0};
    struct note note = NOTE(7);
    uv_loop_t loop;

    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(mailbox_open(&b.mailbox, &loop, &b), 0);
    mailbox_post(&b.mailbox, &note.mail);
    mailbox_close(&b.mailbox, box_closed);
    assert_int_equal(b.closes, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(b.closes, 1);
    assert_int_equal(b.seen_at_close, 1);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* --- two threads --------------------------------------------------------------------------------- */

/* One side sends requests as long as it has credit, the other answers each; the side that asked closes its box
 * when the last answer is there, from inside that delivery: the moment the poster is in mailbox_post. */
#define REQUESTS 20000

struct ask {
    struct mail mail;
    unsigned number;
};

struct side {
    struct mailbox mailbox;
    struct side *other;
    uv_loop_t loop;
    struct mail_credit credit;
    struct ask asks[16];
    unsigned sent, answered; /* of the asking side */
    unsigned received;       /* of the answering side */
    bool in_order;
};

static void answer_arrives(struct mail *m, void *owner);

static void question_arrives(struct mail *m, void *owner)
{
    struct side *s = owner;
    struct ask *a = container_of(m, struct ask, mail);

    s->in_order = s->in_order && a->number == s->received;
    s->received++;
    m->deliver = answer_arrives;
    mailbox_post(&s->other->mailbox, m);
    if (s->received == REQUESTS)
        mailbox_close(&s->mailbox, NULL);
}

static void ask_more(struct side *s)
{
    while (s->sent < REQUESTS && mail_credit_take(&s->credit)) {
        struct ask *a = &s->asks[s->sent % ARRAY_SIZE(s->asks)];

        a->number = s->sent++;
        a->mail.deliver = question_arrives;
        mailbox_post(&s->other->mailbox, &a->mail);
    }
}

static void answer_arrives(struct mail *m, void *owner)
{
    struct side *s = owner;
    struct ask *a = container_of(m, struct ask, mail);

    s->in_order = s->in_order && a->number == s->answered;
    s->answered++;
    mail_credit_give(&s->credit);
    if (s->answered == REQUESTS)
        mailbox_close(&s->mailbox, NULL);
    else
        ask_more(s);
}

static void side_run(void *arg)
{
    uv_run(&((struct side *)arg)->loop, UV_RUN_DEFAULT);
}

static void two_loops_exchange_requests_and_answers(void **state)
{
    struct side asking = {.in_order = true}, answering = {.in_order = true};
    struct side *sides[] = {&asking, &answering};
    uv_thread_t threads[2];

    asking.other = &answering;
    answering.other = &asking;
    mail_credit_init(&asking.credit, ARRAY_SIZE(asking.asks));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(uv_loop_init(&sides[i]->loop), 0);
        assert_int_equal(mailbox_open(&sides[i]->mailbox, &sides[i]->loop, sides[i]), 0);
    }
    ask_more(&asking);
    for (int i = 0; i < 2; i++)
        assert_int_equal(uv_thread_create(&threads[i], side_run, sides[i]), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(uv_thread_join(&threads[i]), 0);
        assert_int_equal(uv_loop_close(&sides[i]->loop), 0);
    }
    assert_int_equal(answering.received, REQUESTS);
    assert_int_equal(asking.answered, REQUESTS);
    assert_int_equal(asking.credit.used, 0);
    assert_true(asking.in_order);
    assert_true(answering.in_order);
}

/* --- credit -------------------------------------------------------------------------------------- */

struct queuer {
    struct mail_waiter waiter;
    struct mail_credit *credit;
    int *order; /* one counter for all */
    int granted_as;
    bool gives_back; /* fails at once */
};

static void queuer_granted(struct mail_waiter *w)
{
    struct queuer *q = container_of(w, struct queuer, waiter);

    q->granted_as = ++*q->order;
    if (q->gives_back)
        mail_credit_give(q->credit);
}

static void credit_is_granted_in_order_of_waiting(void **state)
{
    struct mail_credit credit;
    struct queuer q[4];
    int order = 0;

    mail_credit_init(&credit, 2);
    assert_true(mail_credit_take(&credit));
    assert_true(mail_credit_take(&credit));
    assert_false(mail_credit_take(&credit));
    for (size_t i = 0; i < ARRAY_SIZE(q); i++) {
        q[i] = (struct queuer){.waiter.granted = queuer_granted, .credit = &credit, .order = &order};
        mail_credit_wait(&credit, &q[i].waiter);
    }
    mail_credit_cancel(&credit, &q[1].waiter);
    mail_credit_cancel(&credit, &q[1].waiter);
    mail_credit_give(&credit);
    assert_int_equal(q[0].granted_as, 1);
    assert_false(mail_credit_take(&credit)); /* nobody overtakes those who wait */
    mail_credit_give(&credit);
    mail_credit_give(&credit);
    assert_int_equal(q[2].granted_as, 2);
    assert_int_equal(q[3].granted_as, 3);
    assert_int_equal(q[1].granted_as, 0);
    assert_int_equal(credit.used, 2);
    mail_credit_give(&credit);
    mail_credit_give(&credit);
    assert_int_equal(credit.used, 0);
    assert_true(mail_credit_take(&credit));
}

static void waiter_that_never_waited_may_be_cancelled(void **state)
{
    struct mail_credit credit;
    struct mail_waiter w = {0};

    mail_credit_init(&credit, 1);
    mail_credit_cancel(&credit, &w);
    assert_true(mail_credit_take(&credit));
}

static void waiters_that_give_back_at_once_do_not_nest(void **state)
{
    enum { MANY = 100000 }; /* deeper than any stack, were it recursion */
    struct mail_credit credit;
    struct queuer *q = mem_array(MANY, sizeof(*q));
    int order = 0;

    mail_credit_init(&credit, 1);
    assert_true(mail_credit_take(&credit));
    for (size_t i = 0; i < MANY; i++) {
        q[i] = (struct queuer){
            .waiter.granted = queuer_granted, .credit = &credit, .order = &order, .gives_back = true};
        mail_credit_wait(&credit, &q[i].waiter);
    }
    mail_credit_give(&credit);
    assert_int_equal(order, MANY);
    assert_int_equal(q[MANY - 1].granted_as, MANY);
    assert_int_equal(credit.used, 0);
    free(q);
}

/* Law: never more under way than the limit, and whoever waits is served while credit comes back. */
static void random_takes_and_gives_never_pass_the_limit(void **state)
{
    uint64_t seed = 20260711;
    struct entropy_seeded e;
    struct mail_credit credit;
    struct queuer q[8];
    unsigned held = 0, waiting = 0;
    int order = 0;

    print_message("# seed %llu\n", (unsigned long long)seed);
    entropy_seeded_init(&e, seed);
    mail_credit_init(&credit, 3);
    memset(q, 0, sizeof(q));
    for (int step = 0; step < 20000; step++) {
        if (entropy_below(&e.base, 2) && held > 0) {
            mail_credit_give(&credit);
            held--;
        } else if (mail_credit_take(&credit)) {
            held++;
        } else if (waiting < ARRAY_SIZE(q)) {
            q[waiting] = (struct queuer){.waiter.granted = queuer_granted, .credit = &credit, .order = &order};
            mail_credit_wait(&credit, &q[waiting++].waiter);
        }
        held += (unsigned)order; /* granted in this step */
        order = 0;
        assert_int_equal(credit.used, held);
        assert_true(credit.used <= credit.limit);
        if (list_empty(&credit.waiters))
            waiting = 0;
        else
            assert_int_equal(credit.used, credit.limit);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_is_delivered_in_order_and_wakes_once),
        cmocka_unit_test(mail_posted_during_delivery_waits_for_the_next_turn),
        cmocka_unit_test(closing_by_hand_delivers_what_waits_first),
        cmocka_unit_test(closing_by_hand_inside_a_delivery_keeps_the_order),
        cmocka_unit_test(closing_on_a_loop_inside_a_delivery_loses_nothing),
        cmocka_unit_test(closing_on_a_loop_before_it_turned_loses_nothing),
        cmocka_unit_test(two_loops_exchange_requests_and_answers),
        cmocka_unit_test(credit_is_granted_in_order_of_waiting),
        cmocka_unit_test(waiter_that_never_waited_may_be_cancelled),
        cmocka_unit_test(waiters_that_give_back_at_once_do_not_nest),
        cmocka_unit_test(random_takes_and_gives_never_pass_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
