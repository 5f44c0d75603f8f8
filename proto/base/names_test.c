/* Generated names are valid, and there are many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/ident.h"
#include "proto/base/map.h"
#include "proto/base/mem.h"
#include "proto/base/names.h"

static void names_are_valid_and_differ(void **state)
{
    struct entropy_seeded seeded;
    struct map seen = {0};
    char names[2000][NAME_GENERATED];

    entropy_seeded_init(&seeded, 7);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        name_generate(&seeded.base, 0, names[i]);
        assert_true(name_valid_container(names[i]));
        assert_non_null(strchr(names[i], '_'));
        (void)map_put(&seen, names[i], names[i]); /* collisions are expected now and then */
    }
    assert_true(seen.count > 1700);
    map_fini(&seen);
}

static void later_attempts_carry_a_digit(void **state)
{
    struct entropy_seeded seeded;
    char name[NAME_GENERATED];

    entropy_seeded_init(&seeded, 7);
    for (int i = 0; i < 100; i++) {
        name_generate(&seeded.base, 1, name);
        assert_true(name_valid_container(name));
        assert_in_range(name[strlen(name) - 1], '0', '9');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_valid_and_differ),
        cmocka_unit_test(later_attempts_carry_a_digit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
