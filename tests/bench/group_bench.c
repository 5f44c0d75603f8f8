/* What three managers cost, and how long they are without a leader: replicas in processes of their own, on one
 * disk, with real links between them.
 *
 * usage: group_bench [DIRECTORY [P7|P8]]    default: a new directory in $TMPDIR or /tmp, and both
 *
 * The parent makes the certificates and forks a child for each manager; each child has a loop, a port, links, and a
 * replica with a log of its own below the directory. What a store does with entries is left out here (control_bench
 * measures it): "applied" is counted. Orders and answers travel on a socket pair.
 *
 * P7, in the leader's process: serial, one change at a time; its floor is a bare O_DSYNC write of one sector into a
 * preallocated file of the same directory plus an echo of one small frame over TLS on loopback. Grouped, many
 * ahead. P8, in the parent: it asks for a write every 2 ms at whoever may lead, kills the leader (SIGKILL), stops
 * it (SIGSTOP), or has it hand over, and takes the time from there to the first acknowledgement of a write that was
 * asked for after it. Lines are those of GOALS.md. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <uv.h>

#include "manager/raft/env.h"
#include "manager/raft/links.h"
#include "manager/raft/member.h"
#include "manager/raft/replica.h"
#include "proto/base/clock.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "proto/wire/methods.h"
#include "proto/wire/rpc.h"
#include "proto/wire/rpc_test_certs.h"

#define MANAGERS      3
#define CLUSTER       "0cluster0cluster0cluster0"
#define CHANGE_BYTES  200
#define SERIAL_RUNS   2000
#define GROUPED_RUNS  200000
#define GROUPED_AHEAD 2048
#define FLOOR_RUNS    100 /* in each turn */
#define TURNS         10
#define KILLS         40
#define SILENCES      8
#define HANDOVERS     40
#define ASK_MS        2
#define SETTLE_MS     300 /* between two faults */

enum { METHOD_ECHO = 1000 }; /* a method */
enum order_type { ORDER_WRITE, ORDER_ADD, ORDER_PROMOTE, ORDER_TRANSFER, ORDER_LOOK, ORDER_SERIAL, ORDER_GROUPED };
enum answer_type { ANSWER_PORT, ANSWER_LEADS, ANSWER_FOLLOWS, ANSWER_DONE, ANSWER_FAILED, ANSWER_FIGURE };

struct order {
    uint32_t type;
    uint32_t number; /* given back */
    uint64_t id;     /* ADD: of the member */
    char address[64];
};

struct answer {
    uint32_t type;
    uint32_t number; /* of the order; PORT: the port */
    double figures[6];
};

struct manager { /* as the parent sees it */
    pid_t pid;
    int fd;
    bool leads;
    char address[64];
    uint32_t answered; /* the order that `figures` answer */
    double figures[6];
};

struct member { /* as its process sees it */
    uv_loop_t loop;
    uint64_t id;
    int fd;
    uv_poll_t orders;
    char node_id[26], dir[256];
    struct tls *tls;
    struct rpc_server *server;
    struct links *links;
    struct replica_env *env;
    struct replica *replica;
    uint64_t applied;
    /* a run of P7 */
    unsigned wanted, ahead, sent, done, turn; /* in turns, of SERIAL_RUNS */
    uint32_t number;
    int64_t begun_us, spent_us;
    int64_t *started_us, *took_us;
    enum { STEP_FLUSH, STEP_ECHO, STEP_WRITES, STEP_GROUPED } step;
    int64_t flushes_us[FLOOR_RUNS * TURNS];
    struct echo *echo;
    uv_work_t work;
};

static struct {
    char dir[256];
    struct test_node nodes[MANAGERS + 1];
    char *root_pem;
    struct manager managers[MANAGERS + 1];
    uint32_t next;  /* number of the next order */
    uint32_t acked; /* the greatest that was acknowledged */
    unsigned failed;
} bench;

static const uint8_t key[SEAL_KEY] = {1}, cluster[16] = {2};

static void die(const char *what)
{
    (void)fprintf(stderr, "group_bench: %s\n", what);
    exit(1);
}

static int64_t now_us(void)
{
    return clock_mono_us(clock_real());
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

/* --- a manager's process: its replica's events ---------------------------------------------------- */

static void tell(struct member *m, enum answer_type type, uint32_t number, const double *figures)
{
    struct answer a = {.type = type, .number = number};

    if (figures)
        memcpy(a.figures, figures, sizeof(a.figures));
    if (send(m->fd, &a, sizeof(a), 0) < 0)
        exit(1); /* the parent is gone */
}

static void on_state(void *ctx, enum replica_state state, uint64_t term)
{
    tell(ctx, state == REPLICA_LEADER ? ANSWER_LEADS : ANSWER_FOLLOWS, 0, NULL);
}

static int on_apply(void *ctx, const struct replica_entry *entries, size_t count, struct err *e)
{
    ((struct member *)ctx)->applied = entries[count - 1].index;
    return 0;
}

static int on_snapshot(void *ctx, struct replica_snapshot_source *ret, struct err *e)
{
    return err_set(e, ERR_UNAVAILABLE, "the bench takes none");
}

static int on_restore(void *ctx, const void *data, size_t size, bool first, bool last, uint64_t index,
                      struct err *e)
{
    return err_set(e, ERR_INTERNAL, "there are no snapshots");
}

static void on_fatal(void *ctx, const struct err *e)
{
    die(e->text);
}

/* --- its port ------------------------------------------------------------------------------------- */

static void on_raft(void *ctx, struct rpc_stream *s, const struct rpc_identity *peer, const void *message,
                    size_t size)
{
    links_on_open(((struct member *)ctx)->links, s, peer, message, size);
}

static void on_echo(void *ctx, struct rpc_stream *s, const struct rpc_identity *peer, const void *message,
                    size_t size)
{
    static const struct rpc_stream_events ignore = {.on_message = NULL};

    rpc_stream_set(s, &ignore);
    rpc_answer(s, message, size);
}

static const struct rpc_method methods[] = {
    {METHOD_RAFT, "raft", RPC_ROLE_MANAGER, METHOD_RAFT_BYTES_MAX, .streams_max = 1, .on_open = on_raft,
     .credit_bytes = METHOD_RAFT_CREDIT},
    {METHOD_ECHO, "echo", RPC_ROLE_MANAGER, 4096, .on_open = on_echo},
};

/* --- P7 ------------------------------------------------------------------------------------------- */

struct echo {
    struct member *member;
    struct rpc_conn *conn;
    int64_t begun_us;
    unsigned count;
    int64_t took_us[FLOOR_RUNS * TURNS];
};

static void on_echo_closed(void *ctx, struct rpc_conn *c, const struct err *e)
{
    die(e->text);
}

static void fill(struct member *m);
static void next_turn(struct member *m);
static void send_echo(struct echo *o);

static void on_echoed(void *ctx, const struct err *e, const void *reply, size_t size)
{
    struct echo *o = ctx;

    if (e->code)
        die(e->text);
    o->took_us[o->count++] = now_us() - o->begun_us;
    if (o->count % FLOOR_RUNS)
        send_echo(o);
    else
        next_turn(o->member);
}

static void send_echo(struct echo *o)
{
    static const char frame[CHANGE_BYTES] = "as large as a change";
    struct err e;

    o->begun_us = now_us();
    if (rpc_call(o->conn, METHOD_ECHO, frame, sizeof(frame), sizeof(frame), 5000, on_echoed, o, &e) < 0)
        die(e.text);
}

/* Bare writes of one sector with O_DSYNC into a file that is there. */
static void measure_flush(struct member *m, int64_t *took)
{
    AUTO_FREE
    char *path = mem_printf("%s/floor", m->dir);
    AUTO_CLOSE
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    char sector[512] = {7};

    for (int i = 0; i < FLOOR_RUNS; i++)
        if (fd < 0 || pwrite(fd, sector, sizeof(sector), i * 512) != 512)
            die("cannot write the file for the floor");
    if (fsync(fd) < 0)
        die("cannot write the file for the floor");
    close(fd);
    fd = open(path, O_RDWR | O_DSYNC | O_CLOEXEC);
    for (int i = 0; i < FLOOR_RUNS; i++) {
        int64_t start = now_us();

        if (pwrite(fd, sector, sizeof(sector), i * 512) != 512)
            die("cannot write the file for the floor");
        took[i] = now_us() - start;
    }
}

static void answered(void *ctx, const struct err *e, uint64_t index)
{
    struct member *m = ctx;

    if (e->code)
        die(e->text);
    m->took_us[m->done] = now_us() - m->started_us[m->done];
    m->done++;
    if (m->done == m->wanted) {
        m->spent_us += now_us() - m->begun_us;
        next_turn(m);
    }
    fill(m);
}

static void fill(struct member *m)
{
    static const char change[CHANGE_BYTES] = "one task's status";
    struct err e;

    while (m->sent < m->wanted && m->sent - m->done < m->ahead) {
        m->started_us[m->sent++] = now_us();
        if (replica_propose(m->replica, change, sizeof(change), answered, m, &e) < 0)
            die(e.text);
    }
}

static void begin_writes(struct member *m, unsigned wanted, unsigned ahead)
{
    m->wanted = m->sent + wanted;
    m->ahead = ahead;
    m->begun_us = now_us();
    fill(m);
}

static void flush_work(uv_work_t *work)
{
    struct member *m = work->data;

    measure_flush(m, m->flushes_us + m->turn * FLOOR_RUNS);
}

static void flush_done(uv_work_t *work, int status)
{
    struct member *m = work->data;

    m->step = STEP_ECHO;
    send_echo(m->echo);
}

static double median(int64_t *took, unsigned count, unsigned percent)
{
    qsort(took, count, sizeof(*took), ascending);
    return (double)took[count * percent / 100] / 1e3;
}

static void tell_run(struct member *m)
{
    double figures[6] = {median(m->took_us, m->done, 50), median(m->took_us, m->done, 99), m->done,
                         (double)m->spent_us / 1e6, (double)replica_last_index(m->replica)};

    if (m->step != STEP_GROUPED)
        figures[5] =
            median(m->flushes_us, FLOOR_RUNS * TURNS, 50) + median(m->echo->took_us, FLOOR_RUNS * TURNS, 50);
    tell(m, ANSWER_FIGURE, m->number, figures);
    free(m->took_us);
    free(m->started_us);
    m->took_us = m->started_us = NULL;
}

/* Floors and writes take turns: on a machine that others use too, both meet the same disk. */
static void next_turn(struct member *m)
{
    switch (m->step) {
    case STEP_ECHO:
        m->step = STEP_WRITES;
        begin_writes(m, SERIAL_RUNS / TURNS, 1);
        return;
    case STEP_WRITES:
        if (++m->turn == TURNS) {
            tell_run(m);
            return;
        }
        m->step = STEP_FLUSH;
        uv_queue_work(&m->loop, &m->work, flush_work, flush_done);
        return;
    case STEP_GROUPED:
        tell_run(m);
        return;
    default:
        die("a step out of order");
    }
}

static void begin_run(struct member *m, const struct order *o)
{
    unsigned runs = o->type == ORDER_SERIAL ? SERIAL_RUNS : GROUPED_RUNS;

    m->number = o->number;
    m->sent = m->done = m->turn = 0;
    m->spent_us = 0;
    m->started_us = mem_array(runs, sizeof(int64_t));
    m->took_us = mem_array(runs, sizeof(int64_t));
    if (o->type == ORDER_GROUPED) {
        m->step = STEP_GROUPED;
        begin_writes(m, runs, GROUPED_AHEAD);
        return;
    }
    struct rpc_conn_events events = {.on_closed = on_echo_closed};
    struct rpc_dial dial = {.address = o->address, .tls = m->tls, .timeout_ms = 5000};
    struct err e;
    m->echo = mem_alloc(sizeof(*m->echo));
    m->echo->member = m;
    if (rpc_dial(&m->loop, &dial, &events, &m->echo->conn, &e) < 0)
        die(e.text);
    m->step = STEP_FLUSH;
    m->work.data = m;
    uv_queue_work(&m->loop, &m->work, flush_work, flush_done);
}

/* --- orders --------------------------------------------------------------------------------------- */

struct write {
    struct member *member;
    uint32_t number;
};

static void on_written(void *ctx, const struct err *e, uint64_t index)
{
    struct write *w = ctx;

    tell(w->member, e->code ? ANSWER_FAILED : ANSWER_DONE, w->number, NULL);
    free(w);
}

static void on_changed(void *ctx, const struct err *e)
{
    on_written(ctx, e, 0);
}

/* How many members have everything and were heard of: of the leader. */
static unsigned level(const struct member *m)
{
    struct replica_member members[MANAGERS];
    size_t count = replica_members(m->replica, members, MANAGERS);
    unsigned ret = 0;

    for (size_t i = 0; i < count; i++)
        ret +=
            members[i].voter && (members[i].id == m->id || (members[i].match == replica_last_index(m->replica) &&
                                                            members[i].heard_ms >= 0 && members[i].heard_ms < 100));
    return ret;
}

static void obey(struct member *m, const struct order *o)
{
    static const char change[CHANGE_BYTES] = "one task's status";
    struct write *w = mem_alloc(sizeof(*w));
    double figures[6] = {0};
    int rc = 0;

    w->member = m;
    w->number = o->number;
    switch (o->type) {
    case ORDER_WRITE:
        rc = replica_propose(m->replica, change, sizeof(change), on_written, w, NULL);
        break;
    case ORDER_ADD:
        rc = replica_member_add(m->replica, o->id, o->address, on_changed, w, NULL);
        break;
    case ORDER_PROMOTE:
        rc = replica_member_promote(m->replica, o->id, on_changed, w, NULL);
        break;
    case ORDER_TRANSFER:
        rc = replica_transfer(m->replica, 0, on_changed, w, NULL);
        break;
    case ORDER_LOOK:
        figures[0] = level(m);
        figures[1] = (double)m->applied;
        tell(m, ANSWER_FIGURE, o->number, figures);
        free(w);
        return;
    default:
        free(w);
        begin_run(m, o);
        return;
    }
    if (rc < 0)
        free(w); /* it does not lead: another will */
}

static void on_orders(uv_poll_t *poll_, int status, int events)
{
    struct member *m = poll_->data;
    struct order o;
    ssize_t got;

    while ((got = recv(m->fd, &o, sizeof(o), MSG_DONTWAIT)) == sizeof(o))
        obey(m, &o);
    if (got == 0 || errno != EAGAIN)
        _exit(0); /* the parent is gone */
}

_Noreturn static void run_manager(uint64_t id, int fd, const char *address, bool founds)
{
    struct member *m = mem_alloc(sizeof(*m));
    const struct replica_events events = {.ctx = m,
                                          .on_state = on_state,
                                          .on_apply = on_apply,
                                          .on_snapshot = on_snapshot,
                                          .on_restore = on_restore,
                                          .on_fatal = on_fatal};
    char at[64];
    struct err e;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    m->id = id;
    m->fd = fd;
    (void)snprintf(m->dir, sizeof(m->dir), "%s/%d", bench.dir, (int)id);
    if (uv_loop_init(&m->loop) < 0 ||
        tls_new(bench.nodes[id].cert_pem, bench.nodes[id].key_pem, bench.root_pem, &m->tls, &e) < 0 ||
        rpc_server_open(&m->loop, m->tls, methods, ARRAY_SIZE(methods), m, NULL, NULL, &m->server, &e) < 0 ||
        rpc_server_listen(m->server, address, &e) < 0)
        die("cannot open a manager's port");
    (void)snprintf(at, sizeof(at), "127.0.0.1:%d", rpc_server_port(m->server));
    const struct links_config links = {.loop = &m->loop,
                                       .clock = clock_real(),
                                       .entropy = entropy_real(),
                                       .tls = m->tls,
                                       .cluster_id = CLUSTER,
                                       .address = at,
                                       .id = id};
    m->links = links_new(&links);
    m->env = replica_env_real(&m->loop, m->links);
    const struct replica_config config = {.dir = m->dir,
                                          .id = id,
                                          .address = at,
                                          .key = key,
                                          .cluster = cluster,
                                          .snapshot_bytes = 1ULL << 40,
                                          .env = m->env};
    if ((founds && replica_bootstrap(&config, &e) < 0) || replica_open(&config, &events, &m->replica, &e) < 0)
        die(e.text);
    uv_poll_init(&m->loop, &m->orders, fd);
    m->orders.data = m;
    uv_poll_start(&m->orders, UV_READABLE | UV_DISCONNECT, on_orders);
    tell(m, ANSWER_PORT, (uint32_t)rpc_server_port(m->server), NULL);
    uv_run(&m->loop, UV_RUN_DEFAULT);
    _exit(0);
}

/* --- the parent ----------------------------------------------------------------------------------- */

static void start(uint64_t id, bool founds)
{
    struct manager *m = &bench.managers[id];
    const char *address = *m->address ? m->address : "127.0.0.1:0";
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        die("no socket pair");
    m->leads = false;
    m->pid = fork();
    if (m->pid < 0)
        die("cannot fork");
    if (m->pid == 0) {
        for (uint64_t other = 1; other <= MANAGERS; other++)
            if (bench.managers[other].fd > 0)
                close(bench.managers[other].fd);
        run_manager(id, pair[1], address, founds);
    }
    close(pair[1]);
    m->fd = pair[0];
}

static void end_manager(uint64_t id)
{
    struct manager *m = &bench.managers[id];

    if (m->pid <= 0)
        return;
    (void)kill(m->pid, SIGKILL);
    (void)waitpid(m->pid, NULL, 0);
    close(m->fd);
    m->fd = -1;
    m->pid = 0;
    m->leads = false;
}

static void take_answer(uint64_t id, const struct answer *a)
{
    struct manager *m = &bench.managers[id];

    if (a->type == ANSWER_PORT)
        (void)snprintf(m->address, sizeof(m->address), "127.0.0.1:%u", a->number);
    else if (a->type == ANSWER_LEADS || a->type == ANSWER_FOLLOWS)
        m->leads = a->type == ANSWER_LEADS;
    else if (a->type == ANSWER_FAILED)
        bench.failed++;
    else if (a->type == ANSWER_DONE)
        bench.acked = MAX(bench.acked, a->number);
    if (a->type != ANSWER_FIGURE)
        return;
    memcpy(m->figures, a->figures, sizeof(m->figures));
    m->answered = a->number;
}

/* Take what the managers say, for at most so long. */
static void listen_ms(int ms)
{
    struct pollfd fds[MANAGERS + 1] = {{.fd = -1}};
    struct answer a;

    for (int i = 1; i <= MANAGERS; i++)
        fds[i] = (struct pollfd){.fd = bench.managers[i].pid ? bench.managers[i].fd : -1, .events = POLLIN};
    if (poll(fds, MANAGERS + 1, ms) <= 0)
        return;
    for (uint64_t i = 1; i <= MANAGERS; i++)
        while (fds[i].revents && recv(bench.managers[i].fd, &a, sizeof(a), MSG_DONTWAIT) == sizeof(a))
            take_answer(i, &a);
}

#define await(condition)                              \
    do {                                              \
        int64_t give_up_ = now_us() + 60 * 1000000LL; \
        while (!(condition)) {                        \
            listen_ms(1);                             \
            if (now_us() > give_up_)                  \
                die("in vain: " #condition);          \
        }                                             \
    } while (0)

static uint32_t give(uint64_t id, enum order_type type, uint64_t about)
{
    struct manager *m = &bench.managers[id];
    struct order o = {.type = type, .number = ++bench.next, .id = about};

    if (about)
        (void)snprintf(o.address, sizeof(o.address), "%s", bench.managers[about].address);
    if (m->pid && send(m->fd, &o, sizeof(o), MSG_DONTWAIT) < 0 && errno != EAGAIN)
        die("a manager has ended");
    return o.number;
}

static uint64_t leader(void)
{
    for (uint64_t id = 1; id <= MANAGERS; id++)
        if (bench.managers[id].leads)
            return id;
    return 0;
}

static const double *look(uint64_t id, enum order_type type, uint64_t about)
{
    uint32_t number = give(id, type, about);

    await(bench.managers[id].answered == number);
    return bench.managers[id].figures;
}

/* Until all follow, and a while longer. */
static void settle(void)
{
    int64_t until = now_us() + 60 * 1000000LL;

    while (!leader() || look(leader(), ORDER_LOOK, 0)[0] < MANAGERS) {
        listen_ms(5);
        if (now_us() > until)
            die("the managers do not become level");
    }
    for (until = now_us() + SETTLE_MS * 1000; now_us() < until;)
        listen_ms(5);
}

static void found(void)
{
    start(1, true);
    await(*bench.managers[1].address && bench.managers[1].leads);
    for (uint64_t id = 2; id <= MANAGERS; id++) {
        start(id, false);
        await(*bench.managers[id].address);
        for (int promote = 0; promote < 2; promote++) {
            uint32_t number = give(1, promote ? ORDER_PROMOTE : ORDER_ADD, id);

            await(bench.acked == number);
        }
    }
    settle();
}

/* Ask whoever may lead every ASK_MS; milliseconds until a write that was asked for from now on is acknowledged. */
static double next_write(uint64_t but, int64_t since_us)
{
    uint32_t first = bench.next + 1;
    int64_t asked_us = 0;

    while (bench.acked < first) {
        int64_t now = now_us();

        if (now - asked_us >= ASK_MS * 1000) {
            for (uint64_t id = 1; id <= MANAGERS; id++)
                if (id != but)
                    (void)give(id, ORDER_WRITE, 0);
            asked_us = now;
        }
        if (now - since_us > 60 * 1000000LL)
            die("nobody took over");
        listen_ms(1);
    }
    return (double)(now_us() - since_us) / 1e3;
}

static double kill_leader(void)
{
    uint64_t id = leader();
    int64_t since = now_us();

    (void)kill(bench.managers[id].pid, SIGKILL);
    bench.managers[id].leads = false;
    double ms = next_write(id, since);
    end_manager(id);
    start(id, false);
    return ms;
}

static double silence_leader(void)
{
    uint64_t id = leader();
    int64_t since = now_us();

    (void)kill(bench.managers[id].pid, SIGSTOP);
    bench.managers[id].leads = false;
    double ms = next_write(id, since);
    (void)kill(bench.managers[id].pid, SIGCONT);
    return ms;
}

static double hand_over(void)
{
    uint64_t id = leader();
    int64_t since = now_us();

    (void)give(id, ORDER_TRANSFER, 0);
    return next_write(id, since);
}

static void fault(const char *what, const char *p99, unsigned runs, double (*once)(void))
{
    AUTO_FREE
    int64_t *took = mem_array(runs, sizeof(*took));

    for (unsigned i = 0; i < runs; i++) {
        settle();
        took[i] = (int64_t)(once() * 1e3);
    }
    qsort(took, runs, sizeof(*took), ascending);
    printf("BENCH P8 %s %.1f ms n=%u least=%.1f most=%.1f managers=%d\n", what, (double)took[runs / 2] / 1e3, runs,
           (double)took[0] / 1e3, (double)took[runs - 1] / 1e3, MANAGERS);
    if (p99)
        printf("BENCH P8 %s %.1f ms n=%u managers=%d\n", p99, (double)took[(runs * 99 - 1) / 100] / 1e3, runs,
               MANAGERS);
    (void)fflush(stdout);
}

static void commits(void)
{
    uint64_t id = leader(), other = id % MANAGERS + 1;
    double f[6];

    memcpy(f, look(id, ORDER_SERIAL, other), sizeof(f));
    printf("BENCH P7 serial_p50 %.3f ms n=%.0f floor=%.3f ratio=%.2f managers=%d p99=%.3f\n", f[0], f[2], f[5],
           f[0] / f[5], MANAGERS, f[1]);
    printf("BENCH P7 serial %.0f /s n=%.0f floor=%.0f ratio=%.2f managers=%d\n", f[2] / f[3], f[2], 1e3 / f[5],
           f[2] / f[3] * f[5] / 1e3, MANAGERS);
    int64_t start_us = now_us();
    memcpy(f, look(id, ORDER_GROUPED, 0), sizeof(f));
    for (uint64_t each = 1; each <= MANAGERS; each++)
        while (look(each, ORDER_LOOK, 0)[1] < f[4])
            listen_ms(1);
    double seconds = (double)(now_us() - start_us) / 1e6;
    printf("BENCH P7 grouped %.0f /s n=%.0f managers=%d p50=%.2f ahead=%d\n", f[2] / seconds, f[2], MANAGERS, f[0],
           GROUPED_AHEAD);
    (void)fflush(stdout);
}

static void make_certificates(void)
{
    struct test_ca ca;

    test_ca_init(&ca);
    for (int id = 1; id <= MANAGERS; id++) {
        AUTO_FREE
        char *node_id = mem_printf("0manager0manager0manager%d", id);
        struct test_cert cert = {.cn = node_id, .ou = "swarm-manager", .o = CLUSTER};

        test_issue(&ca, &cert, &bench.nodes[id]);
    }
    bench.root_pem = mem_strdup(ca.pem);
    test_ca_fini(&ca);
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    struct err e;

    log_set_level(LOG_LEVEL_ERROR);
    (void)snprintf(bench.dir, sizeof(bench.dir), "%s/shoal-group-bench-XXXXXX",
                   argc > 1 ? argv[1]
                   : tmp    ? tmp
                            : "/tmp");
    if (!mkdtemp(bench.dir))
        die("cannot make a directory");
    make_certificates();
    found();
    if (argc < 3 || strcmp(argv[2], "P7") == 0)
        commits();
    if (argc < 3 || strcmp(argv[2], "P8") == 0) {
        fault("kill_p50", "kill_p99", KILLS, kill_leader);
        fault("silent_p50", NULL, SILENCES, silence_leader);
        fault("handover", NULL, HANDOVERS, hand_over);
    }
    for (uint64_t id = 1; id <= MANAGERS; id++)
        end_manager(id);
    return tree_remove(AT_FDCWD, bench.dir, &e) < 0;
}
