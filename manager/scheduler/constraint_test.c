/* Constraints parse as Docker's do and hold where Docker's hold (reference/swarm-surface.md section 14). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/simulation/fake.h"

static void texts_that_are_no_constraints_are_refused_with_the_reason(void **state)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"", "constraint expected one operator from ==, != in ''"},
        {"node.role", "constraint expected one operator from ==, != in 'node.role'"},
        {"node.role=manager", "constraint expected one operator from ==, != in 'node.role=manager'"},
        {"==manager", "key '' is invalid in constraint '==manager'"},
        {"n==a", "key 'n' is invalid in constraint 'n==a'"},
        {"1node==a", "key '1node' is invalid in constraint '1node==a'"},
        {"node role==a", "key 'node role' is invalid in constraint 'node role==a'"},
        {"node.role==", "value '' is invalid in constraint 'node.role=='"},
        {"node.role==   ", "value '' is invalid in constraint 'node.role==   '"},
        {"node.role==a;b", "value 'a;b' is invalid in constraint 'node.role==a;b'"},
        {"node.role==a!=b", "value 'a!=b' is invalid in constraint 'node.role==a!=b'"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct err e = {0};

        assert_int_equal(constraint_check(cases[i].text, &e), ERR_INVALID);
        assert_string_equal(e.text, cases[i].error);
    }
}

static void constraints_hold_as_documented(void **state)
{
    static const struct {
        const char *text;
        bool holds;
    } cases[] = {
        {"node.hostname==n1", true},
        {"node.hostname == n1", true},
        {" node.hostname  ==  N1 ", true},
        {"node.hostname!=n1", false},
        {"NODE.HOSTNAME==n1", true},
        {"node.hostname==n", false},
        {"node.hostname==n*", false}, /* no globs */
        {"node.role==worker", true},
        {"node.role==Worker", true},
        {"node.role!=manager", true},
        {"node.role==manager", false},
        {"node.platform.os==linux", true},
        {"node.platform.arch==x86_64", true},
        {"node.platform.arch==amd64", false},
        {"node.labels.zone==a", true},
        {"node.labels.zone==A", true},
        {"Node.Labels.zone==a", true},
        {"node.labels.Zone==a", false}, /* the label's own name counts */
        {"node.labels.zone!=b", true},
        {"node.labels.missing==a", false},
        {"node.labels.missing!=a", true},
        {"engine.labels.kernel==6.1", true},
        {"engine.labels.kernel!=6.1", false},
        {"engine.labels.zone==a", false},
        {"node.ip==10.1.2.3", true},
        {"node.ip==10.1.2.4", false},
        {"node.ip==10.1.0.0/16", true},
        {"node.ip==10.1.2.2/31", true},
        {"node.ip==10.1.2.4/30", false},
        {"node.ip!=10.2.0.0/16", true},
        {"node.ip==0.0.0.0/0", true},
        {"node.ip==10.1.0.0/33", false},
        {"node.ip==10.1.0.0/x", false},
        {"node.ip==fe80::/10", false},
        {"node.ip!=nonsense", true},
        {"node.unknown==a", false},
        {"node.unknown!=a", false}, /* unknown keys never match */
        {"something==a", false},
    };
    struct fake *f = fake_new(1);
    uint64_t number = fake_node(f, (struct fake_node){
                                       .hostname = "n1",
                                       .labels = "zone=a",
                                       .engine_labels = "kernel=6.1",
                                       .address = "10.1.2.3",
                                   });

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char memory[128];
        struct constraint c;

        assert_true(constraint_bytes(cases[i].text) <= sizeof(memory));
        assert_int_equal(constraint_parse(cases[i].text, memory, &c, NULL), 0);
        if (constraint_holds(&c, index_node(f->index, number)) != cases[i].holds)
            print_error("%s\n", cases[i].text);
        assert_int_equal(constraint_holds(&c, index_node(f->index, number)), cases[i].holds);
    }
    fake_free(f);
}

static void node_id_and_addresses_of_version_six(void **state)
{
    struct fake *f = fake_new(1);
    uint64_t number = fake_node(f, (struct fake_node){.hostname = "n1", .address = "fd00::1:2"});
    const struct index_node *n = index_node(f->index, number);
    char text[64], memory[64];
    struct constraint c;

    (void)snprintf(text, sizeof(text), "node.id==%s", n->id_text);
    assert_int_equal(constraint_parse(text, memory, &c, NULL), 0);
    assert_true(constraint_holds(&c, n));
    assert_int_equal(constraint_parse("node.ip==fd00::/16", memory, &c, NULL), 0);
    assert_true(constraint_holds(&c, n));
    assert_int_equal(constraint_parse("node.ip==fd01::/16", memory, &c, NULL), 0);
    assert_false(constraint_holds(&c, n));
    assert_int_equal(constraint_parse("node.ip==10.0.0.0/8", memory, &c, NULL), 0);
    assert_false(constraint_holds(&c, n));
    fake_free(f);
}

static void descriptors_of_preferences(void **state)
{
    enum constraint_key key;
    const char *label;

    assert_true(constraint_descriptor("node.labels.rack", &key, &label));
    assert_int_equal(key, CONSTRAINT_NODE_LABEL);
    assert_string_equal(label, "rack");
    assert_true(constraint_descriptor("engine.labels.x", &key, &label));
    assert_false(constraint_descriptor("node.labels.", &key, &label));
    assert_false(constraint_descriptor("rack", &key, &label));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_that_are_no_constraints_are_refused_with_the_reason),
        cmocka_unit_test(constraints_hold_as_documented),
        cmocka_unit_test(node_id_and_addresses_of_version_six),
        cmocka_unit_test(descriptors_of_preferences),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
