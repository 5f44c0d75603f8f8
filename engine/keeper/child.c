/* See child.h.
 *
 *     born      everything of the keeper's is closed, groups made and joined, namespaces made private
 *     prepared  the recipe's steps ran in the staging root; CHILD_READY; it waits, and may for minutes
 *     planned   a plan came: its steps run, the root is entered
 *     released  CHILD_GO came: exec
 *
 * Whatever fails is said to the keeper in one packet and the child ends. When the keeper dies, a child without a
 * plan is killed at once, so that it does not go on making groups behind the back of the next keeper, which removes
 * them. One that has a plan ends by the channel's end of file if it was not released; one that was goes on, since a
 * record of it has been written.
 *
 * Nothing here needs undoing: mounts, namespaces and memory go with the process, groups and pipes are the keeper's.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/keeper/child.h"
#include "engine/keeper/packet.h"
#include "engine/keeper/plan.h"
#include "proto/base/clock.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

#define HOST_MOUNTS 16

static uint32_t since(int64_t begin_us)
{
    return (uint32_t)(clock_mono_us(clock_real()) - begin_us);
}

static _Noreturn void fail(struct child *c)
{
    char packet[1 + sizeof(int32_t) + sizeof(c->e.text)] = {CHILD_ERROR};
    bool of_step = !c->executing && (c->e.code == ERR_NOT_FOUND || c->e.code == ERR_DENIED);
    int32_t code = of_step ? ERR_INTERNAL : c->e.code; /* those two speak of the program alone (keeper.h) */
    size_t length = strlen(c->e.text);

    memcpy(packet + 1, &code, sizeof(code));
    memcpy(packet + 1 + sizeof(code), c->e.text, length);
    (void)packet_send(c->channel, packet, 1 + sizeof(code) + length, NULL, 0,
                      NULL); /* it may be gone: then nobody asks */
    _exit(127);
}

/* --- birth ----------------------------------------------------------------------------------------- */

int child_close_others(const struct child *c, struct err *e)
{
    unsigned keep = (unsigned)c->channel;

    if ((keep > 3 && syscall(SYS_close_range, 3, keep - 1, 0) < 0) ||
        syscall(SYS_close_range, keep + 1, ~0U, 0) < 0)
        return err_errno(e, "close what is open");
    return 0;
}

/* Die with the keeper; one that died before we could say so is known by its end of the channel. */
static int tie_to_keeper(struct child *c, struct err *e)
{
    char byte;

    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return err_errno(e, "tie the child to the keeper");
    if (recv(c->channel, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
        _exit(0);
    return 0;
}

static void reset_signals(void)
{
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        if (number != SIGKILL && number != SIGSTOP)
            (void)signal(number, SIG_DFL); /* fails for the C library's own two */
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static int raise_loopback(struct err *e)
{
    AUTO_CLOSE
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo"};

    request.ifr_flags = IFF_UP | IFF_RUNNING;
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        return err_errno(e, "bring up the loopback device");
    return 0;
}

static int join_groups(struct child *c, struct err *e)
{
    const struct child_birth *b = c->birth;

    if (!b->group)
        return 0;
    int rc = group_make(b->layout, b->group, &c->groups, e);
    if (rc == 0)
        rc = group_join(b->layout, &c->groups, e);
    return rc;
}

/* A cgroup namespace begins at the group one is in, so it is made after joining; the others came with the clone. */
static int finish_namespaces(struct child *c, struct err *e)
{
    const Namespaces *n = c->birth->recipe->namespaces;

    if (n->cgroup && unshare(CLONE_NEWCGROUP) < 0)
        return err_errno(e, "make a cgroup namespace");
    if (n->net) {
        int rc = raise_loopback(e);

        if (rc < 0)
            return rc;
    }
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_errno(e, "make the mounts private");
    c->own_ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    return c->own_ns < 0 ? err_errno(e, "open our mount namespace") : 0;
}

static int open_pipe(const char *directory, const char *name, int *ret_fd, struct err *e)
{
    AUTO_FREE
    char *path = mem_printf("%s/%s", directory, name);

    /* For reading and writing: whoever reads the other end may die and come back, the program never notices. */
    *ret_fd = open(path, O_RDWR | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
    return *ret_fd < 0 ? err_errno(e, "open %s", path) : 0;
}

static int open_things(struct child *c, struct err *e)
{
    int rc = open_pipe(c->birth->directory, "stdout", &c->output, e);

    if (rc == 0)
        rc = open_pipe(c->birth->directory, "stderr", &c->error, e);
    if (rc < 0)
        return rc;
    c->oom = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    if (c->oom < 0)
        return err_errno(e, "open oom_score_adj");
    if (write(c->oom, "0", 1) < 0) /* the keeper's own protection is not for containers */
        return err_errno(e, "reset oom_score_adj");
    /* Keys of whoever started the node are none of the container's business. */
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS)
        return err_errno(e, "make a session keyring");
    return 0;
}

static int born(struct child *c, struct err *e)
{
    /* The keeper's descriptors are other containers' terminals and pipes: they end here, before anything else. */
    int rc = child_close_others(c, e);

    if (rc == 0)
        rc = tie_to_keeper(c, e);
    if (rc < 0)
        return rc;
    reset_signals();
    umask(0);
    if (setsid() < 0)
        return err_errno(e, "make a session");
    rc = open_things(c, e);
    if (rc == 0)
        rc = join_groups(c, e);
    if (rc == 0)
        rc = finish_namespaces(c, e);
    return rc;
}

/* --- steps ----------------------------------------------------------------------------------------- */

static int step_cgroup(struct child *c, const StepCgroup *s, struct err *e)
{
    int rc = group_set(c->birth->layout, &c->groups, s->controller, s->file, s->value, e);

    return rc == ERR_UNSUPPORTED && s->optional ? 0 : rc;
}

/* Through our own clone of /proc, which nothing covers: what the container sees may be masked or replaced. */
static int step_sysctl(struct child *c, const StepSysctl *s, struct err *e)
{
    AUTO_FREE
    char *path = mem_printf("sys/%s", s->path);

    if (c->proc < 0)
        return err_set(e, ERR_INVALID, "sysctl %s: there is no /proc", s->path);
    AUTO_CLOSE
    int fd = openat(c->proc, path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && s->optional)
        return 0;
    if (fd < 0 || write(fd, s->value, strlen(s->value)) < 0)
        return err_errno(e, "sysctl %s \"%s\"", s->path, s->value);
    return 0;
}

static int step_hostname(struct child *c, const StepHostname *s, struct err *e)
{
    if (!c->birth->recipe->namespaces->uts)
        return err_set(e, ERR_INVALID, "hostname: the sandbox has the host's");
    if (s->hostname && sethostname(s->hostname, strlen(s->hostname)) < 0)
        return err_errno(e, "hostname \"%s\"", s->hostname);
    if (s->domainname && setdomainname(s->domainname, strlen(s->domainname)) < 0)
        return err_errno(e, "domainname \"%s\"", s->domainname);
    return 0;
}

static int step_oom_score(struct child *c, const StepOomScore *s, struct err *e)
{
    char text[16];
    int length = snprintf(text, sizeof(text), "%d", s->adjust);

    if (pwrite(c->oom, text, (size_t)length, 0) < 0)
        return err_errno(e, "oom_score_adj %d", s->adjust);
    return 0;
}

static int step_overlay(struct child *c, const StepOverlay *s, struct err *e)
{
    int rc = child_overlay(c, s, e);

    if (rc == 0 && c->plan->tty)
        rc = child_terminal(c, e);
    return rc;
}

static int run_step(struct child *c, const Step *s, int host_mount, struct err *e)
{
    if (s->overlay)
        return step_overlay(c, s->overlay, e);
    if (s->mount)
        return child_mount(c, s->mount, host_mount, e);
    if (s->mask)
        return child_mask(c, s->mask, e);
    if (s->read_only)
        return child_read_only(c, s->read_only, e);
    if (s->device)
        return child_device(c, s->device, e);
    if (s->symlink)
        return child_symlink(c, s->symlink, e);
    if (s->directory)
        return child_directory(c, s->directory, e);
    if (s->file)
        return child_file(c, s->file, e);
    if (s->cgroup)
        return step_cgroup(c, s->cgroup, e);
    if (s->devices)
        return group_devices(c->birth->layout, &c->groups, s->devices, e);
    if (s->sysctl)
        return step_sysctl(c, s->sysctl, e);
    if (s->hostname)
        return step_hostname(c, s->hostname, e);
    if (s->oom_score)
        return step_oom_score(c, s->oom_score, e);
    if (s->user)
        c->user = s->user;
    else if (s->capabilities)
        c->capabilities = s->capabilities;
    else if (s->seccomp)
        c->seccomp = s->seccomp;
    else if (s->exec)
        c->exec = s->exec;
    return 0; /* limits are applied with the rest of what it becomes */
}

static bool is_of_host(const Step *s)
{
    return s->mount && (s->mount->host_path || s->mount->cgroup);
}

/* What of the host a mount step of a recipe shows. */
static int take_host_mount(struct child *c, const StepMount *m, int *ret_fd, struct err *e)
{
    if (m->host_path)
        return child_clone_tree(AT_FDCWD, m->host_path, false, ret_fd, e);
    int controller = cgroup_controller(m->cgroup);
    int at = controller < 0 ? -1 : c->birth->layout->of[controller];
    if (at < 0 || c->groups.fds[at] < 0)
        return err_set(e, ERR_UNSUPPORTED, "mount %s: no group under cgroup controller %s", m->target, m->cgroup);
    return child_clone_tree(c->groups.fds[at], "", false, ret_fd, e);
}

/* The recipe's steps run after the host's mounts are gone; what they take from the host is taken before. */
static int take_host_mounts(struct child *c, const Recipe *r, int mounts[HOST_MOUNTS], struct err *e)
{
    unsigned count = 0;

    for (size_t i = 0; i < r->n_prepare; i++) {
        if (!is_of_host(r->prepare[i]))
            continue;
        if (count == HOST_MOUNTS)
            return err_set(e, ERR_LIMIT, "more than %d mounts of the host", HOST_MOUNTS);
        int rc = take_host_mount(c, r->prepare[i]->mount, &mounts[count], e);
        if (rc < 0)
            return rc;
        count++;
    }
    return 0;
}

static int prepare(struct child *c, struct err *e)
{
    const Recipe *r = c->birth->recipe;
    int mounts[HOST_MOUNTS];
    unsigned taken = 0;
    int rc = take_host_mounts(c, r, mounts, e);

    if (rc == 0)
        rc = child_enter_staging(c, e);
    for (size_t i = 0; rc == 0 && i < r->n_prepare; i++) {
        bool of_host = is_of_host(r->prepare[i]);

        rc = run_step(c, r->prepare[i], of_host ? mounts[taken] : -1, e);
        taken += of_host;
    }
    return rc;
}

/* --- the plan -------------------------------------------------------------------------------------- */

static int unpack(struct child *c, char tag, const char *data, size_t size, int *fds, unsigned *fd_count,
                  struct err *e)
{
    Recipe *recipe;
    const void *mapped;
    size_t mapped_size;

    if (tag == CHILD_PLAN) {
        c->plan = plan_unpack(&c->arena, data, size, *fd_count, &recipe, e);
        return c->plan ? 0 : e->code;
    }
    if (*fd_count == 0)
        return err_set(e, ERR_INTERNAL, "no plan");
    int memfd = fds[--*fd_count];
    int rc = memfd_map(memfd, &mapped, &mapped_size, e);
    if (rc == 0) {
        c->plan = plan_unpack(&c->arena, mapped, mapped_size, *fd_count, &recipe, e);
        rc = c->plan ? 0 : e->code;
        memfd_unmap(mapped, mapped_size);
    }
    close(memfd);
    return rc;
}

/* Wait for the plan. Descriptors: our client's mount namespace, stdin where the plan has one, then the plan's. */
static int receive_plan(struct child *c, struct err *e)
{
    AUTO_FREE
    char *packet = mem_alloc(PACKET_BYTES);
    int *fds = arena_array(&c->arena, PACKET_FDS, sizeof(int));
    unsigned count;
    int got = packet_receive(c->channel, packet, fds, &count, e);

    if (got == 0)
        _exit(0); /* the keeper is gone, or has no use for us any more */
    if (got < 0)
        return got;
    (void)prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0); /* from now on the channel's end or our record decides */
    if ((packet[0] != CHILD_PLAN && packet[0] != CHILD_MEMFD) || count < 2)
        return err_set(e, ERR_INTERNAL, "a packet that is no plan");
    c->client_ns = fds[0];
    c->fds = fds + 2;
    count -= 2;
    int rc = unpack(c, packet[0], packet + 1, (size_t)got - 1, fds + 2, &count, e);
    if (rc == 0 && c->plan->open_stdin && !c->plan->tty)
        c->input = fds[1];
    else
        close(fds[1]);
    return rc;
}

static int launch(struct child *c, struct err *e)
{
    int64_t begin_us = clock_mono_us(clock_real());
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < c->plan->n_steps; i++) {
        rc = run_step(c, c->plan->steps[i], -1, e);
        if (c->plan->steps[i]->overlay)
            c->times.root = since(begin_us);
    }
    c->times.steps = since(begin_us);
    if (rc == 0)
        rc = child_stdio(c, e);
    if (rc == 0)
        rc = child_pivot(c, e);
    c->times.pivot = since(begin_us);
    return rc < 0 ? rc : child_become(c, e);
}

static void child_init(struct child *c, const struct child_birth *birth)
{
    *c = (struct child){.birth = birth,
                        .channel = birth->channel,
                        .own_ns = -1,
                        .client_ns = -1,
                        .staging = -1,
                        .root = -1,
                        .proc = -1,
                        .pts = -1,
                        .oom = -1,
                        .input = -1,
                        .output = -1,
                        .error = -1,
                        .terminal = -1};
    arena_init(&c->arena);
    GROUP_NO_DIRS(&c->groups);
}

_Noreturn void child_main(const struct child_birth *birth)
{
    static struct child c; /* the arena must not move */
    static const char ready[] = {CHILD_READY};

    child_init(&c, birth);
    int rc = born(&c, &c.e);
    if (rc == 0)
        rc = prepare(&c, &c.e);
    if (rc == 0)
        rc = packet_send(c.channel, ready, sizeof(ready), NULL, 0, &c.e);
    if (rc < 0) {
        err_wrap(&c.e, "sandbox");
        fail(&c);
    }
    if (receive_plan(&c, &c.e) == 0)
        launch(&c, &c.e);
    fail(&c);
}
