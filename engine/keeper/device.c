/* Which devices a group may use: version 1 keeps a list in a file, version 2 asks a small program.
 *
 * Rules are Docker's: a list in which the last rule that matches decides, and what no rule matches is refused. On
 * version 1 that is what writing them in order does. The program for version 2 tries the rules from the last to the
 * first and returns at the first match:
 *
 *     r2 = type (1 block, 2 character), r3 = access asked for (1 mknod, 2 read, 4 write), r4 = major, r5 = minor
 *     per rule:  type differs: next; an access asked for that the rule does not have: next; major or minor differs:
 *                next; return 1 or 0
 *     return 0
 *
 * A rule that denies matches when it names any of the accesses asked for; one that allows only when it names all.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/keeper/group.h"
#include "proto/base/mem.h"

#define RULE_INSNS 12 /* most that one rule becomes */

static struct bpf_insn move_register(unsigned to, unsigned from)
{
    return (struct bpf_insn){.code = BPF_ALU | BPF_MOV | BPF_X, .dst_reg = to & 0xf, .src_reg = from & 0xf};
}

static struct bpf_insn arithmetic(unsigned operation, unsigned to, int value)
{
    return (struct bpf_insn){.code = (uint8_t)(BPF_ALU | operation | BPF_K), .dst_reg = to & 0xf, .imm = value};
}

static struct bpf_insn load(unsigned to, unsigned from, int offset)
{
    return (struct bpf_insn){
        .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = to & 0xf, .src_reg = from & 0xf, .off = (int16_t)offset};
}

/* Jumps of a rule lead behind it; their distance is known when the rule is complete. */
static struct bpf_insn jump(unsigned operation, unsigned register_, int value)
{
    return (struct bpf_insn){
        .code = (uint8_t)(BPF_JMP | operation | BPF_K), .dst_reg = register_ & 0xf, .imm = value};
}

static int access_bits(const char *access)
{
    int bits = 0;

    for (const char *c = access; *c; c++)
        bits |= *c == 'm' ? BPF_DEVCG_ACC_MKNOD : *c == 'r' ? BPF_DEVCG_ACC_READ : BPF_DEVCG_ACC_WRITE;
    return bits;
}

static unsigned put_rule(struct bpf_insn *at, const DeviceRule *rule)
{
    unsigned count = 0;
    int access = access_bits(rule->access);

    if (rule->type)
        at[count++] = jump(BPF_JNE, BPF_REG_2, rule->type[0] == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
    at[count++] = move_register(BPF_REG_1, BPF_REG_3);
    if (rule->allow) { /* asked for & ~rule must be nothing */
        at[count++] = arithmetic(BPF_AND, BPF_REG_1, ~access);
        at[count++] = jump(BPF_JNE, BPF_REG_1, 0);
    } else { /* asked for & rule must be something */
        at[count++] = arithmetic(BPF_AND, BPF_REG_1, access);
        at[count++] = jump(BPF_JEQ, BPF_REG_1, 0);
    }
    if (rule->has_major)
        at[count++] = jump(BPF_JNE, BPF_REG_4, (int)rule->major);
    if (rule->has_minor)
        at[count++] = jump(BPF_JNE, BPF_REG_5, (int)rule->minor);
    unsigned length = count + 2;
    for (unsigned i = 0; i < count; i++)
        if (BPF_CLASS(at[i].code) == BPF_JMP)
            at[i].off = (int16_t)(length - i - 1);
    at[count++] = arithmetic(BPF_MOV, BPF_REG_0, rule->allow);
    at[count++] = (struct bpf_insn){.code = BPF_JMP | BPF_EXIT};
    return count;
}

struct bpf_insn *device_program(const StepDevices *devices, unsigned *ret_count)
{
    struct bpf_insn *program = mem_array(devices->n_rules * RULE_INSNS + 16, sizeof(*program));
    unsigned count = 0;

    /* access_type holds the type in its low half and the access in its high half. */
    program[count++] = load(BPF_REG_2, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, access_type));
    program[count++] = move_register(BPF_REG_3, BPF_REG_2);
    program[count++] = arithmetic(BPF_AND, BPF_REG_2, 0xffff);
    program[count++] = arithmetic(BPF_RSH, BPF_REG_3, 16);
    program[count++] = load(BPF_REG_4, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, major));
    program[count++] = load(BPF_REG_5, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, minor));
    for (size_t i = devices->n_rules; i-- > 0;)
        count += put_rule(program + count, devices->rules[i]);
    program[count++] = arithmetic(BPF_MOV, BPF_REG_0, 0);
    program[count++] = (struct bpf_insn){.code = BPF_JMP | BPF_EXIT};
    *ret_count = count;
    return program;
}

static int attach_program(int group_fd, const StepDevices *devices, struct err *e)
{
    unsigned count;
    AUTO_FREE
    struct bpf_insn *program = device_program(devices, &count);
    union bpf_attr attr = {
        .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
        .insns = (uintptr_t)program,
        .insn_cnt = count,
        .license = (uintptr_t) "Apache-2.0",
        .prog_name = "shoal_devices",
    };
    AUTO_CLOSE
    int fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));

    if (fd < 0)
        return err_errno(e, "load the device program");
    /* Without BPF_F_ALLOW_MULTI a later list replaces an earlier one, as a step promises. */
    attr = (union bpf_attr){
        .target_fd = (uint32_t)group_fd, .attach_bpf_fd = (uint32_t)fd, .attach_type = BPF_CGROUP_DEVICE};
    if (syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof(attr)) < 0)
        return err_errno(e, "attach the device program");
    return 0;
}

static int write_rule(int group_fd, const char *file, const char *text, struct err *e)
{
    AUTO_CLOSE
    int fd = openat(group_fd, file, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        return err_errno(e, "write %s \"%s\"", file, text);
    return 0;
}

static int write_list(int group_fd, const StepDevices *devices, struct err *e)
{
    int rc = write_rule(group_fd, "devices.deny", "a", e);

    for (size_t i = 0; rc == 0 && i < devices->n_rules; i++) {
        const DeviceRule *rule = devices->rules[i];
        char major[12] = "*", minor[12] = "*", text[64];

        if (rule->has_major)
            (void)snprintf(major, sizeof(major), "%u", rule->major);
        if (rule->has_minor)
            (void)snprintf(minor, sizeof(minor), "%u", rule->minor);
        /* The file's "a" would reset the list, so a rule for both types is written as two. */
        for (const char *type = rule->type ? rule->type : "cb"; rc == 0 && *type; type++) {
            (void)snprintf(text, sizeof(text), "%c %s:%s %s", *type, major, minor, rule->access);
            rc = write_rule(group_fd, rule->allow ? "devices.allow" : "devices.deny", text, e);
        }
    }
    return rc;
}

int group_devices(const struct cgroup_layout *l, const struct group_dirs *dirs, const StepDevices *devices,
                  struct err *e)
{
    int at = l->of[BUNDLE_DEVICES];

    if (at < 0 || dirs->fds[at] < 0)
        return err_set(e, ERR_UNSUPPORTED, "no device controller on this machine");
    return l->mounts[at].v2 ? attach_program(dirs->fds[at], devices, e) : write_list(dirs->fds[at], devices, e);
}
