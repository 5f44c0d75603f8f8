/* shoal-job profile: a seccomp profile becomes a program for the kernel.
 *
 * Profiles are Docker's: a default action, architectures, and groups of system calls with an action, conditions on
 * their arguments, and conditions under which the group counts at all (capabilities the container has, the
 * architecture, the kernel's version). libseccomp makes the program; its binary tree loads in a fraction of the
 * time of the linear form, because the kernel tries every system call of every architecture once at load.
 *
 * In front of it stands a piece of our own: a system call whose number is larger than any the profile has ever
 * heard of answers ENOSYS instead of the default EPERM. C libraries try new system calls first and fall back on
 * ENOSYS alone, so without this a container with a library newer than the profile would fail in strange ways. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "engine/job/profile.h"
#include "engine/job/verb.h"
#include "proto/base/arena.h"
#include "proto/base/capability.h"
#include "proto/base/file.h"
#include "proto/base/jread.h"
#include "proto/base/mem.h"
#include "proto/launch.pb-c.h"

#define ARCHES_MAX  8
#define X32_BIT     0x40000000u
#define REQUEST_MAX (PROFILE_BYTES_MAX + 4096)

/* The default profile is data of the project's, put into the program as it is. */
__asm__(".section .rodata\n"
        ".global profile_text, profile_text_end\n"
        "profile_text:\n"
        ".incbin \"engine/job/seccomp.json\"\n"
        "profile_text_end:\n"
        ".byte 0\n"
        ".previous\n");
extern const char profile_text[], profile_text_end[];

const char *profile_default(size_t *ret_size)
{
    *ret_size = (size_t)(profile_text_end - profile_text);
    return profile_text;
}

struct compiler {
    scmp_filter_ctx filter;
    const struct profile_machine *machine;
    struct arena arena;
    uint32_t default_action;
    uint32_t arches[ARCHES_MAX]; /* libseccomp's tokens, the native one first */
    int last[ARCHES_MAX];        /* largest number the profile names, per architecture */
    unsigned arch_count;
};

/* --- conditions ------------------------------------------------------------------------------------ */

static bool has_capability(const struct compiler *c, const char *name)
{
    return c->machine->capabilities & capability_bit(name);
}

/* Architectures as profiles call them. */
static const char *arch_name(uint32_t arch)
{
    static const struct {
        uint32_t arch;
        const char *name;
    } names[] = {
        {SCMP_ARCH_X86, "x86"},       {SCMP_ARCH_X86_64, "amd64"},      {SCMP_ARCH_X32, "x32"},
        {SCMP_ARCH_ARM, "arm"},       {SCMP_ARCH_AARCH64, "arm64"},     {SCMP_ARCH_PPC64LE, "ppc64le"},
        {SCMP_ARCH_S390X, "s390x"},   {SCMP_ARCH_S390, "s390"},         {SCMP_ARCH_RISCV64, "riscv64"},
        {SCMP_ARCH_MIPS64, "mips64"}, {SCMP_ARCH_MIPSEL64, "mipsel64"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (names[i].arch == arch)
            return names[i].name;
    return "";
}

static int kernel_reached(const struct compiler *c, const char *version, bool *ret, struct err *e)
{
    unsigned major, minor;
    char rest;

    if (sscanf(version, "%u.%u%c", &major, &minor, &rest) != 2)
        return err_set(e, ERR_INVALID, "seccomp profile: minKernel \"%s\" is no version", version);
    *ret = c->machine->kernel_major > major ||
           (c->machine->kernel_major == major && c->machine->kernel_minor >= minor);
    return 0;
}

struct condition {         /* "includes" or "excludes" of a group, held against the machine */
    bool any_arches, arch; /* are there architectures, and ours among them */
    bool any_caps, all_caps, some_cap;
    bool any_kernel, kernel;
};

static int read_condition(struct compiler *c, const json_t *group, const char *key, struct condition *ret,
                          struct err *e)
{
    json_t *object = NULL;
    char **caps = NULL, **arches = NULL, *kernel = NULL;
    size_t cap_count = 0, arch_count = 0;
    int rc = jread_object(group, "syscalls", key, &object, e);

    *ret = (struct condition){.all_caps = true};
    if (rc < 0 || !object)
        return rc;
    if ((rc = jread_strings(object, key, "caps", &c->arena, &caps, &cap_count, e)) < 0 ||
        (rc = jread_strings(object, key, "arches", &c->arena, &arches, &arch_count, e)) < 0 ||
        (rc = jread_string(object, key, "minKernel", &c->arena, &kernel, e)) < 0)
        return rc;
    for (size_t i = 0; i < cap_count; i++) {
        bool has = has_capability(c, caps[i]);

        ret->any_caps = true;
        ret->all_caps &= has;
        ret->some_cap |= has;
    }
    for (size_t i = 0; i < arch_count; i++) {
        ret->any_arches = true;
        ret->arch |= strcmp(arches[i], arch_name(c->arches[0])) == 0;
    }
    ret->any_kernel = kernel != NULL;
    return kernel ? kernel_reached(c, kernel, &ret->kernel, e) : 0;
}

static int group_counts(struct compiler *c, const json_t *group, bool *ret, struct err *e)
{
    struct condition in, out;
    int rc = read_condition(c, group, "includes", &in, e);

    if (rc == 0)
        rc = read_condition(c, group, "excludes", &out, e);
    if (rc < 0)
        return rc;
    *ret = !(out.any_arches && out.arch) && !out.some_cap && !(out.any_kernel && out.kernel) &&
           !(in.any_arches && !in.arch) && in.all_caps && !(in.any_kernel && !in.kernel);
    return 0;
}

/* --- actions and rules ----------------------------------------------------------------------------- */

static int read_action(const char *name, const json_t *object, const char *number_key, uint32_t *ret, struct err *e)
{
    uint64_t number = EPERM;
    int rc = jread_uint(object, NULL, number_key, &number, e);
    const struct {
        const char *name;
        uint32_t action;
    } actions[] = {
        {"SCMP_ACT_KILL", SCMP_ACT_KILL},
        {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
        {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
        {"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
        {"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO((uint32_t)number & 0xffff)},
        {"SCMP_ACT_TRACE", SCMP_ACT_TRACE((uint32_t)number & 0xffff)},
        {"SCMP_ACT_LOG", SCMP_ACT_LOG},
        {"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
    };

    if (rc < 0)
        return rc;
    if (number > 0xffff)
        return err_set(e, ERR_INVALID, "seccomp profile: %s %llu is too large", number_key,
                       (unsigned long long)number);
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
        if (name && strcmp(actions[i].name, name) == 0) {
            *ret = actions[i].action;
            return 0;
        }
    return err_set(e, ERR_INVALID, "seccomp profile: action \"%s\" is unknown", name ? name : "");
}

static int read_comparison(struct compiler *c, const json_t *arg, struct scmp_arg_cmp *ret, struct err *e)
{
    static const struct {
        const char *name;
        enum scmp_compare op;
    } operators[] = {{"SCMP_CMP_NE", SCMP_CMP_NE},
                     {"SCMP_CMP_LT", SCMP_CMP_LT},
                     {"SCMP_CMP_LE", SCMP_CMP_LE},
                     {"SCMP_CMP_EQ", SCMP_CMP_EQ},
                     {"SCMP_CMP_GE", SCMP_CMP_GE},
                     {"SCMP_CMP_GT", SCMP_CMP_GT},
                     {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ}};
    uint64_t index = 0, value = 0, second = 0;
    char *name = NULL;
    int rc;

    if ((rc = jread_uint(arg, "args", "index", &index, e)) < 0 ||
        (rc = jread_uint(arg, "args", "value", &value, e)) < 0 ||
        (rc = jread_uint(arg, "args", "valueTwo", &second, e)) < 0 ||
        (rc = jread_string(arg, "args", "op", &c->arena, &name, e)) < 0)
        return rc;
    if (index > 5)
        return err_set(e, ERR_INVALID, "seccomp profile: argument %llu of a system call",
                       (unsigned long long)index);
    for (size_t i = 0; name && i < ARRAY_SIZE(operators); i++)
        if (strcmp(operators[i].name, name) == 0) {
            *ret = (struct scmp_arg_cmp){
                .arg = (unsigned)index, .op = operators[i].op, .datum_a = value, .datum_b = second};
            return 0;
        }
    return err_set(e, ERR_INVALID, "seccomp profile: operator \"%s\" is unknown", name ? name : "");
}

static int add_rule(struct compiler *c, uint32_t action, const char *name, const struct scmp_arg_cmp *args,
                    unsigned count, struct err *e)
{
    int number = seccomp_syscall_resolve_name(name);

    if (number == __NR_SCMP_ERROR)
        return 0; /* of another kernel or architecture */
    for (unsigned i = 0; i < c->arch_count; i++) {
        int there = seccomp_syscall_resolve_name_arch(c->arches[i], name);

        c->last[i] = MAX(c->last[i], there);
    }
    if (action == c->default_action)
        return 0; /* says nothing new; libseccomp refuses it */
    int rc = seccomp_rule_add_array(c->filter, action, number, count, args);
    if (rc < 0)
        return err_number(e, -rc, "seccomp profile: rule for %s", name);
    return 0;
}

/* Conditions on one argument given twice are alternatives, on different ones all must hold. */
static bool alternatives(const struct scmp_arg_cmp *args, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        for (unsigned k = i + 1; k < count; k++)
            if (args[i].arg == args[k].arg)
                return true;
    return false;
}

static int add_call(struct compiler *c, uint32_t action, const char *name, const struct scmp_arg_cmp *args,
                    unsigned count, struct err *e)
{
    int rc = 0;

    if (!alternatives(args, count))
        return add_rule(c, action, name, args, count, e);
    for (unsigned i = 0; rc == 0 && i < count; i++)
        rc = add_rule(c, action, name, &args[i], 1, e);
    return rc;
}

static int read_names(struct compiler *c, const json_t *group, char ***ret, size_t *ret_count, struct err *e)
{
    char *single = NULL;
    int rc = jread_strings(group, "syscalls", "names", &c->arena, ret, ret_count, e);

    if (rc == 0)
        rc = jread_string(group, "syscalls", "name", &c->arena, &single, e); /* an older form */
    if (rc == 0 && single) {
        *ret = arena_append(&c->arena, *ret_count ? NULL : *ret, 0, sizeof(char *));
        (*ret)[0] = single;
        *ret_count = 1;
    }
    return rc;
}

static int add_group(struct compiler *c, const json_t *group, struct err *e)
{
    struct scmp_arg_cmp args[6];
    unsigned arg_count = 0;
    char **names = NULL, *action_name = NULL;
    size_t name_count = 0, index;
    json_t *list = NULL, *arg;
    uint32_t action;
    bool counts;
    int rc = group_counts(c, group, &counts, e);

    if (rc < 0 || (rc = read_names(c, group, &names, &name_count, e)) < 0 ||
        (rc = jread_string(group, "syscalls", "action", &c->arena, &action_name, e)) < 0 ||
        (rc = read_action(action_name, group, "errnoRet", &action, e)) < 0 ||
        (rc = jread_array(group, "syscalls", "args", &list, e)) < 0)
        return rc;
    json_array_foreach(list, index, arg)
    {
        if (arg_count == ARRAY_SIZE(args))
            return err_set(e, ERR_INVALID, "seccomp profile: more than 6 conditions");
        if ((rc = read_comparison(c, arg, &args[arg_count++], e)) < 0)
            return rc;
    }
    /* A group that does not count here still tells which system calls its author knew. */
    uint32_t what = counts ? action : c->default_action;
    for (size_t i = 0; rc == 0 && i < name_count; i++)
        rc = add_call(c, what, names[i], args, counts ? arg_count : 0, e);
    return rc;
}

/* --- architectures --------------------------------------------------------------------------------- */

static uint32_t arch_of(const char *name)
{
    static const struct {
        const char *name;
        uint32_t arch;
    } arches[] = {
        {"SCMP_ARCH_X86", SCMP_ARCH_X86},
        {"SCMP_ARCH_X86_64", SCMP_ARCH_X86_64},
        {"SCMP_ARCH_X32", SCMP_ARCH_X32},
        {"SCMP_ARCH_ARM", SCMP_ARCH_ARM},
        {"SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64},
        {"SCMP_ARCH_MIPS", SCMP_ARCH_MIPS},
        {"SCMP_ARCH_MIPS64", SCMP_ARCH_MIPS64},
        {"SCMP_ARCH_MIPS64N32", SCMP_ARCH_MIPS64N32},
        {"SCMP_ARCH_MIPSEL", SCMP_ARCH_MIPSEL},
        {"SCMP_ARCH_MIPSEL64", SCMP_ARCH_MIPSEL64},
        {"SCMP_ARCH_MIPSEL64N32", SCMP_ARCH_MIPSEL64N32},
        {"SCMP_ARCH_PPC", SCMP_ARCH_PPC},
        {"SCMP_ARCH_PPC64", SCMP_ARCH_PPC64},
        {"SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE},
        {"SCMP_ARCH_S390", SCMP_ARCH_S390},
        {"SCMP_ARCH_S390X", SCMP_ARCH_S390X},
        {"SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64},
    };

    for (size_t i = 0; i < ARRAY_SIZE(arches); i++)
        if (strcmp(arches[i].name, name) == 0)
            return arches[i].arch;
    return 0;
}

static int add_arch(struct compiler *c, const char *name, struct err *e)
{
    uint32_t arch = arch_of(name);

    if (!arch)
        return 0; /* one that this libseccomp does not know: the machine does not run it either */
    for (unsigned i = 0; i < c->arch_count; i++)
        if (c->arches[i] == arch)
            return 0;
    if (c->arch_count == ARCHES_MAX)
        return err_set(e, ERR_INVALID, "seccomp profile: more than %d architectures", ARCHES_MAX);
    int rc = seccomp_arch_add(c->filter, arch);
    if (rc < 0)
        return err_number(e, -rc, "seccomp profile: architecture %s", name);
    c->arches[c->arch_count++] = arch;
    return 0;
}

static int add_arches(struct compiler *c, const json_t *root, struct err *e)
{
    char **names = NULL;
    size_t count = 0, index;
    json_t *map = NULL, *entry;
    int rc = jread_strings(root, NULL, "architectures", &c->arena, &names, &count, e);

    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = add_arch(c, names[i], e);
    if (rc == 0)
        rc = jread_array(root, NULL, "archMap", &map, e);
    json_array_foreach(map, index, entry)
    {
        char *name = NULL;

        if (rc == 0)
            rc = jread_string(entry, "archMap", "architecture", &c->arena, &name, e);
        if (rc < 0 || !name || arch_of(name) != c->arches[0])
            continue;
        rc = jread_strings(entry, "archMap", "subArchitectures", &c->arena, &names, &count, e);
        for (size_t i = 0; rc == 0 && i < count; i++)
            rc = add_arch(c, names[i], e);
    }
    return rc;
}

/* --- the program ----------------------------------------------------------------------------------- */

/* Numbers above what the profile knows: ENOSYS. One block per kind of number; x32 shares its token with x86_64. */
static unsigned unknown_calls(const struct compiler *c, struct sock_filter *out)
{
    unsigned count = 0;

    out[count++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    for (unsigned i = 0; i < c->arch_count; i++) {
        uint32_t token = c->arches[i] == SCMP_ARCH_X32 ? AUDIT_ARCH_X86_64 : c->arches[i];
        bool x86_64 = c->arches[i] == SCMP_ARCH_X86_64, x32 = c->arches[i] == SCMP_ARCH_X32;

        if (c->last[i] <= 0)
            continue;
        /* Other architecture: over this block, with arch still loaded. */
        out[count++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, token, 0, x86_64 || x32 ? 5 : 4);
        out[count++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
        if (x86_64 || x32)
            out[count++] =
                (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, X32_BIT, x32 ? 0 : 2, x32 ? 2 : 0);
        out[count++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)c->last[i], 0, 1);
        out[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
        out[count++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    }
    return count;
}

static int export_program(struct compiler *c, struct buf *ret, struct err *e)
{
    struct sock_filter front[1 + 6 * ARCHES_MAX];
    bool refuses = (c->default_action & 0xffff0000u) == SCMP_ACT_ERRNO(0);
    unsigned count = refuses ? unknown_calls(c, front) : 0;
    AUTO_CLOSE
    int fd = memfd_create("profile", MFD_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return err_errno(e, "make a memfd");
    int rc = seccomp_export_bpf(c->filter, fd);
    if (rc < 0)
        return err_number(e, -rc, "seccomp profile: compile");
    if (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return err_errno(e, "read the program");
    if (st.st_size / (off_t)sizeof(*front) + (off_t)count > BPF_MAXINSNS)
        return err_set(e, ERR_LIMIT, "seccomp profile: the program is longer than the kernel takes");
    buf_append(ret, front, count * sizeof(*front));
    char *into = buf_reserve(ret, (size_t)st.st_size);
    if (read(fd, into, (size_t)st.st_size) != st.st_size)
        return err_errno(e, "read the program");
    buf_added(ret, (size_t)st.st_size);
    return 0;
}

static int compile(struct compiler *c, const json_t *root, bool linear, struct buf *ret, struct err *e)
{
    char *name = NULL;
    json_t *groups = NULL, *group;
    size_t index;
    int rc = jread_string(root, NULL, "defaultAction", &c->arena, &name, e);

    if (rc < 0 || (rc = read_action(name, root, "defaultErrnoRet", &c->default_action, e)) < 0)
        return rc;
    c->filter = seccomp_init(c->default_action);
    if (!c->filter)
        return err_set(e, ERR_INVALID, "seccomp profile: default action \"%s\"", name);
    c->arches[c->arch_count++] = seccomp_arch_native();
    if ((rc = add_arches(c, root, e)) < 0 || (rc = jread_array(root, NULL, "syscalls", &groups, e)) < 0)
        return rc;
    json_array_foreach(groups, index, group)
    {
        rc = json_is_object(group) ? add_group(c, group, e)
                                   : err_set(e, ERR_INVALID, "seccomp profile: syscalls[%zu] is no object", index);
        if (rc < 0)
            return rc;
    }
    if (!linear)
        (void)seccomp_attr_set(c->filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* an older libseccomp stays linear */
    return export_program(c, ret, e);
}

int profile_compile(const char *json, size_t size, const struct profile_machine *machine, bool linear,
                    struct buf *ret, struct err *e)
{
    AUTO_JSON json_t *root = NULL;
    struct compiler c = {.machine = machine};
    int rc = size > PROFILE_BYTES_MAX
                 ? err_set(e, ERR_LIMIT, "seccomp profile: larger than %u bytes", PROFILE_BYTES_MAX)
                 : jread_parse(json, size, &root, e);

    if (rc < 0)
        return rc;
    arena_init(&c.arena);
    rc = compile(&c, root, linear, ret, e);
    if (c.filter)
        seccomp_release(c.filter);
    arena_fini(&c.arena);
    return rc;
}

/* --- the verb -------------------------------------------------------------------------------------- */

static void this_machine(struct profile_machine *m)
{
    struct utsname name;

    if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &m->kernel_major, &m->kernel_minor) != 2)
        m->kernel_major = m->kernel_minor = 0; /* then nothing that needs a version counts */
}

static int run(struct arena *a, struct buf *program, struct err *e)
{
    AUTO_BUF struct buf input = {0};
    struct profile_machine machine = {0};
    int rc = file_read_all(STDIN_FILENO, REQUEST_MAX, &input, e);

    if (rc < 0)
        return rc;
    const ProfileRequest *r = arena_unpack(a, &profile_request__descriptor, buf_bytes(&input), input.length);
    if (!r)
        return err_set(e, ERR_INVALID, "a request that is none");
    machine.capabilities = r->capabilities;
    this_machine(&machine);
    size_t size = r->profile.len;
    const char *text = r->has_profile ? (const char *)r->profile.data : profile_default(&size);
    return profile_compile(text, size, &machine, r->linear, program, e);
}

int profile_main(void)
{
    AUTO_ARENA struct arena a;
    AUTO_BUF struct buf program = {0};
    ProfileAnswer answer = PROFILE_ANSWER__INIT;
    KeeperError error = KEEPER_ERROR__INIT;
    struct err e = {0};

    arena_init(&a);
    if (run(&a, &program, &e) < 0) {
        error.code = e.code;
        error.text = e.text;
        answer.error = &error;
    } else {
        answer.has_program = true;
        answer.program.data = (uint8_t *)buf_bytes(&program);
        answer.program.len = program.length;
    }
    size_t size = profile_answer__get_packed_size(&answer);
    uint8_t *data = arena_alloc(&a, size);
    profile_answer__pack(&answer, data);
    return write_all(STDOUT_FILENO, data, size, &e) < 0 || answer.error != NULL;
}
