/* Lists against an array that does the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/entropy.h"
#include "proto/base/list.h"

struct item {
    int number;
    struct list link;
};

/* The numbers of a list, as text "1 2 3 ", forward and backward alike. */
static void assert_list(const struct list *head, const int *numbers, size_t count)
{
    struct item *i;
    size_t at = 0;

    list_each (i, head, link) {
        assert_true(at < count);
        assert_int_equal(i->number, numbers[at++]);
    }
    assert_int_equal(at, count);
    for (const struct list *l = head->prev; l != head; l = l->prev)
        assert_int_equal(list_entry(l, struct item, link)->number, numbers[--at]);
    assert_int_equal(at, 0);
    assert_int_equal(list_empty(head), count == 0);
}

static void both_ends_and_the_middle(void **state)
{
    struct list head = LIST_INIT(head);
    struct item a = {.number = 1}, b = {.number = 2}, c = {.number = 3}, d = {.number = 4};

    assert_list(&head, NULL, 0);
    assert_null(list_pop(&head));
    assert_null(list_first(&head, struct item, link));
    assert_null(list_last(&head, struct item, link));
    list_push(&head, &b.link);
    list_push(&head, &d.link);
    list_push_front(&head, &a.link);
    list_insert(&b.link, &c.link);
    assert_list(&head, (int[]){1, 2, 3, 4}, 4);
    assert_ptr_equal(list_first(&head, struct item, link), &a);
    assert_ptr_equal(list_last(&head, struct item, link), &d);
    list_remove(&b.link);
    list_remove(&b.link); /* once more does nothing */
    assert_list(&head, (int[]){1, 3, 4}, 3);
    assert_ptr_equal(list_pop(&head), &a.link);
    assert_true(list_empty(&a.link)); /* unlinked */
    assert_list(&head, (int[]){3, 4}, 2);
}

static void splicing_moves_everything_to_the_end(void **state)
{
    struct list to = LIST_INIT(to), from = LIST_INIT(from);
    struct item items[4] = {{.number = 1}, {.number = 2}, {.number = 3}, {.number = 4}};

    list_splice(&to, &from);
    assert_list(&to, NULL, 0);
    list_push(&from, &items[0].link);
    list_push(&from, &items[1].link);
    list_splice(&to, &from); /* into an empty one */
    assert_list(&to, (int[]){1, 2}, 2);
    assert_list(&from, NULL, 0);
    list_push(&from, &items[2].link);
    list_push(&from, &items[3].link);
    list_splice(&to, &from);
    assert_list(&to, (int[]){1, 2, 3, 4}, 4);
    list_splice(&to, &from);
    assert_list(&to, (int[]){1, 2, 3, 4}, 4);
}

static void walking_may_remove_what_it_stands_on(void **state)
{
    struct list head = LIST_INIT(head);
    struct item items[6], *i, *after;

    for (int n = 0; n < 6; n++) {
        items[n].number = n;
        list_push(&head, &items[n].link);
    }
    list_each_safe (i, after, &head, link) {
        if (i->number % 2 == 0)
            list_remove(&i->link);
    }
    assert_list(&head, (int[]){1, 3, 5}, 3);
    list_each_safe (i, after, &head, link)
        list_remove(&i->link);
    assert_list(&head, NULL, 0);
}

static void random_moves_agree_with_an_array(void **state)
{
    struct list head = LIST_INIT(head);
    struct item items[32];
    struct entropy_seeded e;
    int model[32];
    size_t count = 0;

    print_message("# seed 5\n");
    entropy_seeded_init(&e, 5);
    for (int n = 0; n < 32; n++) {
        items[n].number = n;
        list_init(&items[n].link);
    }
    for (int step = 0; step < 5000; step++) {
        int n = (int)entropy_below(&e.base, 32);
        size_t at = 0;

        while (at < count && model[at] != n)
            at++;
        list_remove(&items[n].link);
        if (at < count) {
            memmove(model + at, model + at + 1, (--count - at) * sizeof(*model));
        } else if (entropy_below(&e.base, 2)) {
            list_push(&head, &items[n].link);
            model[count++] = n;
        } else {
            list_push_front(&head, &items[n].link);
            memmove(model + 1, model, count++ * sizeof(*model));
            model[0] = n;
        }
        assert_list(&head, model, count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ends_and_the_middle),
        cmocka_unit_test(splicing_moves_everything_to_the_end),
        cmocka_unit_test(walking_may_remove_what_it_stands_on),
        cmocka_unit_test(random_moves_agree_with_an_array),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
