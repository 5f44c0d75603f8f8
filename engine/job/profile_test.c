/* Profiles decide as their authors meant, in both forms of the program. A small interpreter runs the programs here,
 * so that every system call of every architecture can be asked about. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>

#include "engine/job/profile.h"
#include "proto/base/mem.h"

#define DEFAULT_CAPS 0xa80425fbull
#define SYS_ADMIN    (1ull << 21)

static const struct profile_machine plain = {DEFAULT_CAPS, 6, 1};

/* What a program says of a call: the kernel's classic BPF, as far as seccomp programs use it. */
static uint32_t decide(const struct buf *program, const struct seccomp_data *data)
{
    const struct sock_filter *insns = (const void *)buf_bytes(program);
    size_t count = program->length / sizeof(*insns);
    uint32_t a = 0;

    for (size_t at = 0; at < count; at++) {
        const struct sock_filter *i = &insns[at];

        switch (i->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            assert_true(i->k + 4 <= sizeof(*data));
            memcpy(&a, (const char *)data + i->k, 4);
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= i->k;
            break;
        case BPF_JMP | BPF_JA:
            at += i->k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            at += a == i->k ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            at += a > i->k ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            at += a >= i->k ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            at += a & i->k ? i->jt : i->jf;
            break;
        case BPF_RET | BPF_K:
            return i->k;
        default:
            fail_msg("instruction %zu has code %#x", at, i->code);
        }
    }
    fail_msg("the program has no end");
    return 0;
}

static void compile_text(const char *json, const struct profile_machine *m, bool linear, struct buf *ret)
{
    struct err e = {0};

    if (profile_compile(json, strlen(json), m, linear, ret, &e) < 0)
        fail_msg("%s", e.text);
}

static void compile_default(uint64_t capabilities, bool linear, struct buf *ret)
{
    const struct profile_machine m = {capabilities, 6, 1};

    compile_text(profile_default(&(size_t){0}), &m, linear, ret);
}

static uint32_t ask(const struct buf *program, const char *name, uint64_t first_argument)
{
    const struct seccomp_data d = {
        .nr = seccomp_syscall_resolve_name(name), .arch = AUDIT_ARCH_X86_64, .args = {first_argument}};

    assert_true(d.nr >= 0);
    return decide(program, &d);
}

#define DENIED (SECCOMP_RET_ERRNO | EPERM)
#define ABSENT (SECCOMP_RET_ERRNO | ENOSYS)

static void default_profile_decides_as_docker(void **state)
{
    static const struct {
        const char *name;
        uint64_t argument;
        uint64_t more_caps;
        uint32_t decision;
    } cases[] = {
        {"read", 0, 0, SECCOMP_RET_ALLOW},
        {"execve", 0, 0, SECCOMP_RET_ALLOW},
        {"chroot", 0, 0, SECCOMP_RET_ALLOW}, /* CAP_SYS_CHROOT is a default */
        {"keyctl", 0, 0, DENIED},
        {"unshare", 0x10000000, 0, DENIED},
        {"mount", 0, 0, DENIED},
        {"bpf", 0, 0, DENIED},
        {"init_module", 0, 0, DENIED},
        {"clone3", 0, 0, ABSENT},
        {"clone", 0, 0, SECCOMP_RET_ALLOW},
        {"clone", 0x10000000, 0, DENIED}, /* CLONE_NEWUSER */
        {"personality", 0, 0, SECCOMP_RET_ALLOW},
        {"personality", 8, 0, SECCOMP_RET_ALLOW},
        {"personality", 7, 0, DENIED},
        {"socket", 2, 0, SECCOMP_RET_ALLOW},
        {"socket", 38, 0, DENIED}, /* AF_ALG */
        {"socket", 40, 0, DENIED}, /* AF_VSOCK */
        {"ptrace", 0, 0, SECCOMP_RET_ALLOW},
        {"mount", 0, SYS_ADMIN, SECCOMP_RET_ALLOW},
        {"unshare", 0x10000000, SYS_ADMIN, SECCOMP_RET_ALLOW},
        {"clone3", 0, SYS_ADMIN, SECCOMP_RET_ALLOW},
        {"clone", 0x10000000, SYS_ADMIN, SECCOMP_RET_ALLOW},
        {"keyctl", 0, SYS_ADMIN, DENIED},
    };

    if (seccomp_arch_native() != SCMP_ARCH_X86_64) {
        print_message("skip: written for x86_64\n");
        skip();
    }
    for (int linear = 0; linear < 2; linear++)
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
            AUTO_BUF struct buf program = {0};

            compile_default(DEFAULT_CAPS | cases[i].more_caps, linear, &program);
            assert_int_equal(ask(&program, cases[i].name, cases[i].argument), cases[i].decision);
        }
}

static void both_forms_agree_on_every_call(void **state)
{
    static const uint32_t arches[] = {AUDIT_ARCH_X86_64, AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64};
    AUTO_BUF struct buf tree = {0}, linear = {0};

    compile_default(DEFAULT_CAPS, false, &tree);
    compile_default(DEFAULT_CAPS, true, &linear);
    for (size_t arch = 0; arch < ARRAY_SIZE(arches); arch++)
        for (uint32_t x32 = 0; x32 <= 0x40000000u; x32 += 0x40000000u)
            for (int nr = 0; nr < 600; nr++)
                for (uint64_t argument = 0; argument < 50; argument += 7) {
                    const struct seccomp_data d = {
                        .nr = (int)((uint32_t)nr | x32), .arch = arches[arch], .args = {argument}};

                    assert_int_equal(decide(&tree, &d), decide(&linear, &d));
                }
}

static void call_newer_than_the_profile_does_not_exist(void **state)
{
    AUTO_BUF struct buf program = {0}, trap = {0};
    struct seccomp_data d = {.nr = 5000, .arch = AUDIT_ARCH_X86_64};

    compile_default(DEFAULT_CAPS, false, &program);
    assert_int_equal(decide(&program, &d), ABSENT);
    d.arch = AUDIT_ARCH_I386;
    assert_int_equal(decide(&program, &d), ABSENT);
    d.arch = AUDIT_ARCH_X86_64;
    d.nr = (int)(0x40000000u | 5000);
    assert_int_equal(decide(&program, &d), ABSENT);
    d.arch = AUDIT_ARCH_S390X; /* an architecture the profile does not allow ends the thread */
    assert_int_equal(decide(&program, &d), SECCOMP_RET_KILL_THREAD);
    /* A profile that does not refuse politely means every call it does not name. */
    compile_text("{\"defaultAction\":\"SCMP_ACT_KILL_PROCESS\",\"syscalls\":[{\"names\":[\"read\"],\"action\":"
                 "\"SCMP_ACT_ALLOW\"}]}",
                 &plain, false, &trap);
    d.arch = AUDIT_ARCH_X86_64;
    d.nr = 5000;
    assert_int_equal(decide(&trap, &d), SECCOMP_RET_KILL_PROCESS);
}

static void conditions_of_groups_are_held_against_the_machine(void **state)
{
    static const struct {
        const char *condition;
        unsigned kernel_minor;
        bool allowed;
    } cases[] = {
        {"", 1, true},
        {",\"includes\":{\"minKernel\":\"6.2\"}", 1, false},
        {",\"includes\":{\"minKernel\":\"6.2\"}", 2, true},
        {",\"includes\":{\"minKernel\":\"5.19\"}", 1, true},
        {",\"excludes\":{\"minKernel\":\"6.2\"}", 1, true},
        {",\"excludes\":{\"minKernel\":\"6.2\"}", 2, false},
        {",\"includes\":{\"caps\":[\"CAP_CHOWN\"]}", 1, true},
        {",\"includes\":{\"caps\":[\"CAP_CHOWN\",\"CAP_SYS_ADMIN\"]}", 1, false},
        {",\"excludes\":{\"caps\":[\"CAP_CHOWN\"]}", 1, false},
        {",\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}", 1, true},
        {",\"includes\":{\"arches\":[\"amd64\",\"x32\"]}", 1, true},
        {",\"includes\":{\"arches\":[\"s390x\"]}", 1, false},
        {",\"excludes\":{\"arches\":[\"amd64\"]}", 1, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_BUF struct buf program = {0};
        const struct profile_machine m = {DEFAULT_CAPS, 6, cases[i].kernel_minor};
        AUTO_FREE
        char *json =
            mem_printf("{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"write\"],\"action\":"
                       "\"SCMP_ACT_ALLOW\"%s}]}",
                       cases[i].condition);

        compile_text(json, &m, false, &program);
        assert_int_equal(ask(&program, "write", 0), cases[i].allowed ? SECCOMP_RET_ALLOW : DENIED);
    }
}

static void older_form_and_numbers_of_errors_are_understood(void **state)
{
    AUTO_BUF struct buf program = {0};

    compile_text(
        "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":13,\"architectures\":[\"SCMP_ARCH_X86_64\"],"
        "\"syscalls\":[{\"name\":\"read\",\"action\":\"SCMP_ACT_ALLOW\",\"args\":null},"
        "{\"name\":\"no_such_call\",\"action\":\"SCMP_ACT_ALLOW\"},"
        "{\"names\":[\"keyctl\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":38}]}",
        &plain, false, &program);
    assert_int_equal(ask(&program, "read", 0), SECCOMP_RET_ALLOW);
    assert_int_equal(ask(&program, "write", 0), SECCOMP_RET_ERRNO | 13);
    assert_int_equal(ask(&program, "keyctl", 0), ABSENT);
}

static void conditions_on_one_argument_are_alternatives(void **state)
{
    AUTO_BUF struct buf program = {0};

    compile_text("{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"personality\"],\"action\":"
                 "\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"value\":3,\"op\":\"SCMP_CMP_EQ\"},"
                 "{\"index\":0,\"value\":5,\"op\":\"SCMP_CMP_EQ\"}]}]}",
                 &plain, false, &program);
    assert_int_equal(ask(&program, "personality", 3), SECCOMP_RET_ALLOW);
    assert_int_equal(ask(&program, "personality", 5), SECCOMP_RET_ALLOW);
    assert_int_equal(ask(&program, "personality", 4), DENIED);
}

static void bad_profile_is_refused_by_its_part(void **state)
{
    static const struct {
        const char *json, *text;
    } cases[] = {
        {"{}", "action \"\" is unknown"},
        {"{\"defaultAction\":\"SCMP_ACT_MAYBE\"}", "action \"SCMP_ACT_MAYBE\" is unknown"},
        {"{\"defaultAction\":7}", "defaultAction"},
        {"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":70000}", "defaultErrnoRet 70000 is too large"},
        {"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[3]}", "syscalls[0] is no object"},
        {"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"x\"}]}",
         "action \"x\" is unknown"},
        {"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\","
         "\"args\":[{\"index\":6,\"op\":\"SCMP_CMP_EQ\"}]}]}",
         "argument 6"},
        {"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\","
         "\"args\":[{\"index\":1,\"op\":\"==\"}]}]}",
         "operator \"==\" is unknown"},
        {"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\","
         "\"includes\":{\"minKernel\":\"new\"}}]}",
         "minKernel \"new\" is no version"},
        {"not json", ""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_BUF struct buf program = {0};
        struct err e = {0};

        assert_int_equal(profile_compile(cases[i].json, strlen(cases[i].json), &plain, false, &program, &e),
                         ERR_INVALID);
        if (!strstr(e.text, cases[i].text))
            fail_msg("\"%s\" does not say \"%s\"", e.text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_profile_decides_as_docker),
        cmocka_unit_test(both_forms_agree_on_every_call),
        cmocka_unit_test(call_newer_than_the_profile_does_not_exist),
        cmocka_unit_test(conditions_of_groups_are_held_against_the_machine),
        cmocka_unit_test(older_form_and_numbers_of_errors_are_understood),
        cmocka_unit_test(conditions_on_one_argument_are_alternatives),
        cmocka_unit_test(bad_profile_is_refused_by_its_part),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
