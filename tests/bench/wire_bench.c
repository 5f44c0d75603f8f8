/* What a connection costs the side that has many of them: GOALS.md P10 and the parts of P11 that are ours.
 *
 *     BENCH wire <what> <value> <unit> n=<runs>
 *
 * The server is a process of its own and is asked for its processor time and its heap over the very RPC that is
 * measured; what asking costs is subtracted. Values of the dialing side stand beside it. One run takes some
 * seconds; an argument multiplies the counts. */
#include <malloc.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/mem.h"
#include "proto/wire/rpc.h"
#include "proto/wire/rpc_test_certs.h"

enum { STATS = 1, SINK = 2, PING = 3 };

#define CLUSTER "0cluster0cluster0cluster0"

struct stats {
    uint64_t cpu_ns;
    uint64_t heap_bytes;
    uint64_t rss_bytes;
    uint64_t messages;
};

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t wall_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t rss_bytes(void)
{
    unsigned long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    if (!f || fscanf(f, "%lu %lu", &size, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void fatal(const char *what, const struct err *e)
{
    fprintf(stderr, "wire_bench: %s: %s\n", what, e ? e->text : "failed");
    exit(1);
}

/* --- the server ---------------------------------------------------------------------------------- */

static uint64_t messages;

static void sink_on_message(void *ctx, struct rpc_stream *s, const void *message, size_t size)
{
    messages++;
}

static void open_stats(void *ctx, struct rpc_stream *s, const struct rpc_identity *peer, const void *message,
                       size_t size)
{
    struct mallinfo2 heap = mallinfo2();
    struct stats stats = {.cpu_ns = cpu_ns(),
                          .heap_bytes = heap.uordblks + heap.hblkhd,
                          .rss_bytes = rss_bytes(),
                          .messages = messages};

    (void)rpc_send(s, &stats, sizeof(stats)); /* fits into fresh credit */
    rpc_end(s, NULL);
}

static void open_sink(void *ctx, struct rpc_stream *s, const struct rpc_identity *peer, const void *message,
                      size_t size)
{
    rpc_stream_set(s, &(struct rpc_stream_events){.on_message = sink_on_message});
}

static void open_ping(void *ctx, struct rpc_stream *s, const struct rpc_identity *peer, const void *message,
                      size_t size)
{
    (void)rpc_send(s, message, size); /* fits into fresh credit */
    rpc_end(s, NULL);
}

static const struct rpc_method methods[] = {
    {STATS, "stats", RPC_ROLE_WORKER, 100, 0, open_stats},
    {SINK, "sink", RPC_ROLE_WORKER, 100000, 0, open_sink},
    {PING, "ping", RPC_ROLE_WORKER, 1000, 0, open_ping},
};

static void serve(struct tls *tls, int port_fd)
{
    struct rpc_limits limits = {.idle_ms = 600000};
    struct rpc_server *server = NULL;
    uv_loop_t loop;
    struct err e;

    uv_loop_init(&loop);
    if (rpc_server_open(&loop, tls, methods, ARRAY_SIZE(methods), NULL, &limits, NULL, &server, &e) < 0 ||
        rpc_server_listen(server, "127.0.0.1:0", &e) < 0)
        fatal("listen", &e);
    int port = rpc_server_port(server);
    if (write(port_fd, &port, sizeof(port)) != sizeof(port))
        fatal("report the port", NULL);
    uv_run(&loop, UV_RUN_DEFAULT); /* until it is killed */
}

/* --- the dialing side ---------------------------------------------------------------------------- */

struct peer {
    struct rpc_conn *conn;
    bool open, closed;
};

static uv_loop_t loop;
static char address[64];

static void on_open(void *ctx, struct rpc_conn *c, const struct rpc_identity *peer)
{
    ((struct peer *)ctx)->open = true;
}

static void on_closed(void *ctx, struct rpc_conn *c, const struct err *e)
{
    struct peer *p = ctx;

    if (!p->open)
        fatal("dial", e);
    p->closed = true;
}

static void dial(struct peer *p, struct tls *tls)
{
    struct rpc_dial d = {.address = address, .tls = tls, .timeout_ms = 60000};
    struct rpc_conn_events events = {.ctx = p, .on_open = on_open, .on_closed = on_closed};
    struct err e;

    *p = (struct peer){0};
    if (rpc_dial(&loop, &d, &events, &p->conn, &e) < 0)
        fatal("dial", &e);
    while (!p->open)
        uv_run(&loop, UV_RUN_ONCE);
}

static void hang_up(struct peer *p)
{
    rpc_conn_close(p->conn);
    while (!p->closed)
        uv_run(&loop, UV_RUN_ONCE);
}

struct answer {
    bool done;
    struct stats stats;
};

static void on_answer(void *ctx, const struct err *e, const void *reply, size_t size)
{
    struct answer *a = ctx;

    if (e->code)
        fatal("call", e);
    if (size == sizeof(a->stats))
        memcpy(&a->stats, reply, size);
    a->done = true;
}

static struct stats call(struct peer *p, uint16_t method)
{
    struct answer a = {0};
    struct err e;
    char message[100] = {0};

    if (rpc_call(p->conn, method, message, sizeof(message), 1000, 60000, on_answer, &a, &e) < 0)
        fatal("call", &e);
    while (!a.done)
        uv_run(&loop, UV_RUN_ONCE);
    return a.stats;
}

static void print(const char *what, double value, const char *unit, unsigned runs)
{
    printf("BENCH wire %s %.2f %s n=%u\n", what, value, unit, runs);
    fflush(stdout);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* --- measurements -------------------------------------------------------------------------------- */

static void measure_handshakes(struct peer *control, struct tls *tls, unsigned count)
{
    struct stats before = call(control, STATS);
    uint64_t own = cpu_ns();
    double *wall = mem_array(count, sizeof(*wall));

    for (unsigned i = 0; i < count; i++) {
        struct peer p;
        uint64_t start = wall_ns();

        dial(&p, tls);
        wall[i] = (double)(wall_ns() - start) / 1000;
        hang_up(&p);
    }
    own = cpu_ns() - own;
    struct stats after = call(control, STATS);
    qsort(wall, count, sizeof(*wall), compare);
    print("handshake_cpu_server", (double)(after.cpu_ns - before.cpu_ns) / count / 1000, "us", count);
    print("handshake_cpu_client", (double)own / count / 1000, "us", count);
    print("handshake_p50", wall[count / 2], "us", count);
    free(wall);
}

/* Every connection's own message in its own turn, as heartbeats and reports come: a record and a read each. */
static void measure_single_messages(struct peer *control, struct peer *peers, unsigned peer_count, unsigned rounds)
{
    struct rpc_stream_events events = {0};
    struct rpc_stream **streams = mem_array(peer_count, sizeof(*streams));
    char message[100] = {0};
    struct err e;
    uint64_t sent = 0;

    for (unsigned i = 0; i < peer_count; i++)
        if (rpc_open(peers[i].conn, SINK, 1000, message, sizeof(message), &events, &streams[i], &e) < 0)
            fatal("open", &e);
    struct stats before = call(control, STATS);
    for (unsigned r = 0; r < rounds; r++) {
        for (unsigned i = 0; i < peer_count; i++)
            sent += rpc_send(streams[i], message, sizeof(message)) == 0;
        while (call(control, STATS).messages < sent)
            ;
    }
    struct stats after = call(control, STATS);
    print("message_100_cpu_server", (double)(after.cpu_ns - before.cpu_ns) / (double)sent / 1000, "us",
          (unsigned)sent);
    for (unsigned i = 0; i < peer_count; i++)
        rpc_end(streams[i], NULL);
    free(streams);
}

struct pour {
    struct rpc_stream *stream;
    unsigned left;
};

static void pour(struct pour *p)
{
    char message[100] = {0};

    while (p->left > 0 && rpc_send(p->stream, message, sizeof(message)) == 0)
        p->left--;
}

static void on_writable(void *ctx, struct rpc_stream *s)
{
    pour(ctx);
}

/* One stream that is never empty: what coalescing saves. */
static void measure_stream(struct peer *control, struct peer *p, unsigned count)
{
    struct pour pouring = {.left = count};
    struct rpc_stream_events events = {.ctx = &pouring, .on_writable = on_writable};
    struct err e;
    struct stats before = call(control, STATS), after;
    uint64_t own = cpu_ns(), start = wall_ns();

    if (rpc_open(p->conn, SINK, 1000, "", 0, &events, &pouring.stream, &e) < 0)
        fatal("open", &e);
    pour(&pouring);
    while (pouring.left > 0)
        uv_run(&loop, UV_RUN_ONCE);
    do
        after = call(control, STATS);
    while (after.messages < before.messages + count);
    uint64_t wall = wall_ns() - start;
    print("stream_100_cpu_server", (double)(after.cpu_ns - before.cpu_ns) / count / 1000, "us", count);
    print("stream_100_cpu_client", (double)(cpu_ns() - own) / count / 1000, "us", count);
    print("stream_100_rate", count / ((double)wall / 1e9), "/s", count);
    rpc_end(pouring.stream, NULL);
}

static void measure_calls(struct peer *control, unsigned count)
{
    double *wall = mem_array(count, sizeof(*wall));

    for (unsigned i = 0; i < count; i++) {
        uint64_t start = wall_ns();

        call(control, PING);
        wall[i] = (double)(wall_ns() - start) / 1000;
    }
    qsort(wall, count, sizeof(*wall), compare);
    print("call_p50", wall[count / 2], "us", count);
    print("call_p99", wall[count * 99 / 100], "us", count);
    free(wall);
}

static void measure_idle(struct peer *control, struct peer *peers, struct tls *const *tls, unsigned node_count,
                         unsigned count)
{
    struct stats before = call(control, STATS);

    for (unsigned i = 0; i < count; i++)
        dial(&peers[i], tls[i % node_count]);
    struct stats after = call(control, STATS);
    print("idle_heap_server", (double)(after.heap_bytes - before.heap_bytes) / count / 1024, "KiB", count);
    print("idle_rss_server", (double)(after.rss_bytes - before.rss_bytes) / count / 1024, "KiB", count);
}

static struct tls *tls_of(const struct test_ca *ca, const char *id, const char *role)
{
    struct test_cert spec = {.cn = id, .ou = role, .o = CLUSTER};
    struct test_node node;
    struct tls *tls = NULL;
    struct err e;

    test_issue(ca, &spec, &node);
    if (tls_new(node.cert_pem, node.key_pem, ca->pem, &tls, &e) < 0)
        fatal("certificate", &e);
    test_node_fini(&node);
    return tls;
}

int main(int argc, char **argv)
{
    unsigned scale = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1, node_count = 40 * scale;
    unsigned idle = 2000 * scale;
    struct tls **nodes = mem_array(node_count, sizeof(*nodes));
    struct peer control, *peers = mem_array(idle, sizeof(*peers));
    struct rlimit files = {.rlim_cur = idle + 1000, .rlim_max = idle + 1000};
    struct test_ca ca;
    int port_pipe[2], port = 0;

    (void)setrlimit(RLIMIT_NOFILE, &files); /* else dialing says so */
    test_ca_init(&ca);
    struct tls *manager = tls_of(&ca, "0manager0manager0manager0", "swarm-manager");
    for (unsigned i = 0; i < node_count; i++) {
        AUTO_FREE
        char *id = mem_printf("0worker%018u", i);

        nodes[i] = tls_of(&ca, id, "swarm-worker");
    }
    if (pipe(port_pipe) < 0)
        fatal("pipe", NULL);
    pid_t server = fork();
    if (server == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* however the measuring ends */
        serve(manager, port_pipe[1]);
        _exit(0);
    }
    if (server < 0 || read(port_pipe[0], &port, sizeof(port)) != sizeof(port))
        fatal("start the server", NULL);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%d", port);
    uv_loop_init(&loop);
    dial(&control, nodes[0]);
    (void)call(&control, STATS);
    measure_handshakes(&control, nodes[0], 400 * scale);
    measure_calls(&control, 2000 * scale);
    measure_idle(&control, peers, nodes, node_count, idle);
    measure_single_messages(&control, peers, MIN(idle, 500u), 20);
    measure_stream(&control, &peers[0], 200000 * scale);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    return 0; /* the process's end is the cleanup */
}
