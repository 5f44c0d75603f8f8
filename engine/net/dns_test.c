/* The resolver with real sockets, in a network namespace of the test's own: a container's pair of sockets, and
 * servers at 127.0.1.x that answer as the test says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <uv.h>

#include "engine/net/dns.h"
#include "proto/base/mem.h"

#define PATIENCE_MS 10000

static uv_loop_t loop;
static struct dns *dns;
static bool is_root, is_closed;
static char resolv_conf[] = "/tmp/dns_test.XXXXXX";
static int udp, tcp; /* the container's */
static struct sockaddr_in names, names_tcp;
static struct entropy_seeded entropy;

/* --- sockets --------------------------------------------------------------------------------------- */

static int make(int type, const char *host, uint16_t port, struct sockaddr_in *ret)
{
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    socklen_t size = sizeof(*ret);

    *ret = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    assert_int_equal(inet_pton(AF_INET, host, &ret->sin_addr), 1);
    if (type == SOCK_STREAM)
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)ret, sizeof(*ret)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)ret, &size), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fd, 16), 0);
    return fd;
}

static void lo_up(void)
{
    struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &r), 0);
    close(fd);
}

static void write_servers(const char *text)
{
    static unsigned serial;
    int fd = open(resolv_conf, O_WRONLY | O_TRUNC | O_CLOEXEC);
    char all[300];

    /* Another size each time: the clock of files may be coarse. */
    int size = snprintf(all, sizeof(all), "# %.*s\n%s", (int)serial++ % 100,
                        "......................................................................................"
                        "..............",
                        text);
    assert_int_equal(write(fd, all, (size_t)size), size);
    close(fd);
}

/* --- the names ------------------------------------------------------------------------------------- */

static enum dns_verdict resolve(void *ctx, const char *container, const struct dns_question *q,
                                struct dns_answer *ret)
{
    struct dns_address a = {AF_INET, {10, 0, 0, 2}};

    assert_string_not_equal(q->name, "");
    assert_string_equal(container, "c1");
    if (q->address.family == AF_INET && q->address.bytes[0] == 10) {
        (void)snprintf(ret->name, sizeof(ret->name), "web.net");
        return DNS_FOUND;
    }
    if (strcmp(q->name, "gone.net") == 0)
        return DNS_ABSENT;
    if (strcmp(q->name, "many") == 0)
        for (unsigned i = 0; i < 60; i++) {
            a.bytes[3] = (uint8_t)i;
            dns_answer_add(ret, &a);
        }
    else if (strcmp(q->name, "web") == 0)
        dns_answer_add(ret, &a);
    else
        return DNS_FOREIGN;
    return DNS_FOUND;
}

static void serve(const struct dns_options *options)
{
    struct err e;

    if (dns_serve(dns, "c1", udp, tcp, options, &e) < 0)
        fail_msg("%s", e.text);
}

static int open_dns(void **state)
{
    struct dns_config config = {
        .loop = &loop, .entropy = &entropy.base, .resolv_conf = resolv_conf, .resolve = resolve, .timeout_ms = 150};
    struct err e;

    if (!is_root)
        return 0;
    is_closed = false;
    udp = make(SOCK_DGRAM, "127.0.0.11", 0, &names);
    tcp = make(SOCK_STREAM, "127.0.0.11", 0, &names_tcp);
    write_servers("");
    if (dns_open(&config, &dns, &e) < 0)
        fail_msg("%s", e.text);
    serve(&(struct dns_options){0});
    return 0;
}

static void on_closed(void *ctx)
{
    is_closed = true;
}

static int close_dns(void **state)
{
    if (!is_root)
        return 0;
    dns_close(dns, on_closed, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_true(is_closed);
    close(udp);
    close(tcp);
    return 0;
}

static int setup(void **state)
{
    is_root = geteuid() == 0 && unshare(CLONE_NEWNET) == 0;
    if (!is_root)
        return 0;
    lo_up();
    entropy_seeded_init(&entropy, 1);
    int fd = mkstemp(resolv_conf);
    assert_true(fd >= 0);
    close(fd);
    return uv_loop_init(&loop);
}

static int teardown(void **state)
{
    if (!is_root)
        return 0;
    (void)unlink(resolv_conf);
    return uv_loop_close(&loop);
}

static void need_root(void)
{
    if (!is_root) {
        print_message("needs root and a network namespace\n");
        skip();
    }
}

/* --- a client -------------------------------------------------------------------------------------- */

struct message {
    uint8_t bytes[DNS_MESSAGE_MAX];
    size_t size;
};

static struct message *question(const char *name, unsigned type)
{
    static struct message m;
    static uint16_t id;

    memset(&m, 0, sizeof(m));
    dns_message_set_id(m.bytes, ++id);
    m.bytes[2] = 1;
    m.bytes[5] = 1;
    m.size = 12 + dns_name_parse(name, m.bytes + 12);
    m.bytes[m.size + 1] = (uint8_t)type;
    m.bytes[m.size + 3] = 1;
    m.size += 4;
    return &m;
}

static int client(int type)
{
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const struct sockaddr_in *to = type == SOCK_STREAM ? &names_tcp : &names;

    assert_true(connect(fd, (const struct sockaddr *)to, sizeof(*to)) == 0 || errno == EINPROGRESS);
    return fd;
}

/* Turn the loop until `fd` can be read; false when that takes too long. */
static bool turn_until(int fd, unsigned limit_ms)
{
    uint64_t until = uv_hrtime() + limit_ms * 1000000ull;
    char c;

    while (recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == ENOTCONN)) {
        if (uv_hrtime() > until)
            return false;
        uv_run(&loop, UV_RUN_NOWAIT);
        struct timespec pause = {0, 200000};
        nanosleep(&pause, NULL);
    }
    return true;
}

static void get(int fd, struct message *ret)
{
    assert_true(turn_until(fd, PATIENCE_MS));
    ssize_t got = recv(fd, ret->bytes, sizeof(ret->bytes), 0);
    assert_true(got >= 12);
    ret->size = (size_t)got;
}

static void ask(int fd, const struct message *q)
{
    assert_int_equal(send(fd, q->bytes, q->size, 0), q->size);
}

/* Ask over UDP and have the answer. */
static struct message *look_up(const char *name, unsigned type)
{
    static struct message answer;
    struct message *q = question(name, type);
    int fd = client(SOCK_DGRAM);

    ask(fd, q);
    get(fd, &answer);
    close(fd);
    assert_memory_equal(answer.bytes, q->bytes, 2);
    assert_memory_equal(answer.bytes + 12, q->bytes + 12, q->size - 12);
    return &answer;
}

static unsigned code_of(const struct message *m)
{
    return m->bytes[3] & 0xf;
}

static unsigned answers_of(const struct message *m)
{
    return (unsigned)(m->bytes[6] << 8 | m->bytes[7]);
}

/* --- a server -------------------------------------------------------------------------------------- */

struct server {
    int fd, tcp;
    uv_poll_t poll, tcp_poll;
    unsigned asked, asked_tcp;
    uint8_t code;                                     /* of its answers */
    bool silent, truncates, wrong_id, other_question; /* instead of, or before, the answer */
    size_t extra;                                     /* bytes of nothing behind the question */
};

static void server_write(struct server *s, struct message *m)
{
    m->bytes[2] |= 0x80;
    m->bytes[3] = s->code;
    m->bytes[7] = 7; /* to be told from our own */
    memset(m->bytes + m->size, 0, s->extra);
    m->size += s->extra;
}

static void server_on_datagram(uv_poll_t *poll, int status, int events)
{
    struct server *s = poll->data;
    struct sockaddr_in from;
    socklen_t size = sizeof(from);
    static struct message m;

    ssize_t got = recvfrom(s->fd, m.bytes, sizeof(m.bytes), 0, (struct sockaddr *)&from, &size);
    if (got < 0)
        return;
    s->asked++;
    if (s->silent)
        return;
    m.size = (size_t)got;
    server_write(s, &m);
    if (s->wrong_id) {
        m.bytes[0] ^= 1;
        m.bytes[3] = DNS_REFUSED;
        (void)sendto(s->fd, m.bytes, m.size, 0, (struct sockaddr *)&from, size);
        m.bytes[0] ^= 1;
        m.bytes[3] = s->code;
    }
    if (s->other_question) {
        m.bytes[13] ^= 1;
        (void)sendto(s->fd, m.bytes, m.size, 0, (struct sockaddr *)&from, size);
        m.bytes[13] ^= 1;
    }
    m.bytes[13] ^= 0x20; /* the case of the first letter is nobody's business */
    if (s->truncates)
        m.bytes[2] |= 2;
    (void)sendto(s->fd, m.bytes, m.size, 0, (struct sockaddr *)&from, size);
}

static void server_on_connection(uv_poll_t *poll, int status, int events)
{
    struct server *s = poll->data;
    static struct message m;
    int fd = accept4(s->tcp, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    s->asked_tcp++; /* what it asks is on its way, in this process: it is waited for without the loop */
    while (recv(fd, m.bytes, 2, MSG_PEEK | MSG_DONTWAIT) != 2)
        uv_run(&loop, UV_RUN_NOWAIT);
    ssize_t got = recv(fd, m.bytes, sizeof(m.bytes), 0);
    m.size = (size_t)got - 2;
    memmove(m.bytes, m.bytes + 2, m.size);
    server_write(s, &m);
    uint8_t length[2] = {(uint8_t)(m.size >> 8), (uint8_t)m.size};
    (void)send(fd, length, 2, 0);
    (void)send(fd, m.bytes, m.size, 0);
    close(fd);
}

static void server_open(struct server *s, const char *host)
{
    struct sockaddr_in any;

    s->fd = make(SOCK_DGRAM, host, 53, &any);
    s->tcp = make(SOCK_STREAM, host, 53, &any);
    assert_int_equal(uv_poll_init(&loop, &s->poll, s->fd), 0);
    assert_int_equal(uv_poll_init(&loop, &s->tcp_poll, s->tcp), 0);
    s->poll.data = s->tcp_poll.data = s;
    assert_int_equal(uv_poll_start(&s->poll, UV_READABLE, server_on_datagram), 0);
    assert_int_equal(uv_poll_start(&s->tcp_poll, UV_READABLE, server_on_connection), 0);
}

static void server_close(struct server *s)
{
    (void)uv_poll_stop(&s->poll);
    (void)uv_poll_stop(&s->tcp_poll);
    uv_close((uv_handle_t *)&s->poll, NULL);
    uv_close((uv_handle_t *)&s->tcp_poll, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
    close(s->fd);
    close(s->tcp);
}

/* --- our own names --------------------------------------------------------------------------------- */

static void names_of_ours_are_answered(void **state)
{
    static const struct {
        const char *name;
        unsigned type, code, answers;
    } table[] = {
        {"web", DNS_A, DNS_NOERROR, 1},       {"WEB", DNS_A, DNS_NOERROR, 1},
        {"web", DNS_AAAA, DNS_NOERROR, 0},    {"web", 15, DNS_NOERROR, 0},
        {"gone.net", DNS_A, DNS_NXDOMAIN, 0}, {"2.0.0.10.in-addr.arpa", DNS_PTR, DNS_NOERROR, 1},
        {"many", DNS_A, DNS_NOERROR, 30},
    };

    need_root();
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        const struct message *m = look_up(table[i].name, table[i].type);

        if (code_of(m) != table[i].code || answers_of(m) != table[i].answers)
            fail_msg("%s: code %u, %u answers", table[i].name, code_of(m), answers_of(m));
    }
    assert_int_equal(dns_counts(dns).questions, ARRAY_SIZE(table));
    assert_int_equal(dns_counts(dns).forwarded, 0);
}

static void a_client_over_tcp_gets_everything_and_may_ask_again(void **state)
{
    static struct message m;
    struct message *q = question("many", DNS_A);
    uint8_t length[2] = {0, (uint8_t)q->size};
    int fd;

    need_root();
    fd = client(SOCK_STREAM);
    while (send(fd, length, 1, MSG_NOSIGNAL) < 0)
        uv_run(&loop, UV_RUN_NOWAIT);
    assert_false(turn_until(fd, 50));
    assert_int_equal(send(fd, length + 1, 1, 0), 1);
    for (int i = 0; i < 2; i++) { /* the second question comes with the first, and half of it later */
        ask(fd, q);
        if (i == 0)
            assert_int_equal(send(fd, length, 2, 0), 2);
        assert_true(turn_until(fd, PATIENCE_MS));
        size_t want = 2 + q->size + 60 * 16, have = 0;
        while (have < want) {
            assert_true(turn_until(fd, PATIENCE_MS));
            ssize_t got = recv(fd, m.bytes + have, sizeof(m.bytes) - have, 0);
            assert_true(got > 0);
            have += (size_t)got;
        }
        assert_int_equal(have, want);
        assert_int_equal(m.bytes[0] << 8 | m.bytes[1], want - 2);
        assert_int_equal(m.bytes[2 + 7], 60);
        assert_int_equal(m.bytes[2 + 2] & 2, 0);
    }
    close(fd);
}

static void clients_that_say_nonsense_are_cut_off(void **state)
{
    static const uint8_t too_long[] = {0xff, 0xff}, empty[] = {0, 0},
                         answer[] = {0, 12, 1, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    static const struct {
        const uint8_t *bytes;
        size_t size;
    } table[] = {{too_long, sizeof(too_long)}, {empty, sizeof(empty)}, {answer, sizeof(answer)}};
    char c;

    need_root();
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        int fd = client(SOCK_STREAM);

        uv_run(&loop, UV_RUN_NOWAIT);
        assert_int_equal(send(fd, table[i].bytes, table[i].size, 0), table[i].size);
        assert_true(turn_until(fd, PATIENCE_MS));
        assert_int_equal(recv(fd, &c, 1, 0), 0);
        close(fd);
    }
    int fd = client(SOCK_DGRAM); /* over UDP nonsense is passed over */
    assert_int_equal(send(fd, "x", 1, 0), 1);
    assert_false(turn_until(fd, 30));
    close(fd);
    assert_int_equal(code_of(look_up("web", DNS_A)), DNS_NOERROR);
}

static void clients_over_tcp_are_limited(void **state)
{
    int fds[40];
    unsigned cut = 0;
    char c;

    need_root();
    for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
        fds[i] = client(SOCK_STREAM);
        for (int turn = 0; turn < 3; turn++)
            uv_run(&loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(dns_counts(dns).clients, 32);
    for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
        cut += recv(fds[i], &c, 1, MSG_DONTWAIT) == 0;
        close(fds[i]);
    }
    assert_int_equal(cut, 8);
}

static void questions_wait_in_the_sockets_while_nobody_serves(void **state)
{
    static struct message m;
    int fd;

    need_root();
    fd = client(SOCK_DGRAM);
    dns_stop(dns, "c1");
    dns_stop(dns, "c1");
    ask(fd, question("web", DNS_A));
    assert_false(turn_until(fd, 50));
    serve(&(struct dns_options){0});
    get(fd, &m);
    assert_int_equal(answers_of(&m), 1);
    close(fd);
}

/* --- forwarding ------------------------------------------------------------------------------------ */

static void what_is_not_ours_is_forwarded_to_the_machines_server(void **state)
{
    struct server s = {.code = 0}, other = {.code = DNS_NXDOMAIN};

    need_root();
    server_open(&s, "127.0.1.1");
    server_open(&other, "127.0.1.2");
    write_servers("search a\nnameserver\t127.0.1.1 \n");
    assert_int_equal(answers_of(look_up("example.org", DNS_A)), 7);
    assert_int_equal(answers_of(look_up("example.org", 15)), 7);
    assert_int_equal(s.asked, 2);
    write_servers("nameserver 127.0.1.2\n"); /* another one now */
    assert_int_equal(code_of(look_up("example.org", DNS_A)), DNS_NXDOMAIN);
    assert_int_equal(s.asked, 2);
    const char *own[] = {"127.0.1.1"}; /* and the container's own, before those */
    serve(&(struct dns_options){.servers = own, .server_count = 1});
    assert_int_equal(code_of(look_up("example.org", DNS_A)), DNS_NOERROR);
    assert_int_equal(s.asked, 3);
    serve(&(struct dns_options){.isolated = true});
    assert_int_equal(code_of(look_up("example.org", DNS_A)), DNS_NXDOMAIN);
    assert_int_equal(s.asked, 3);
    server_close(&s);
    server_close(&other);
}

static void forged_replies_are_passed_over(void **state)
{
    struct server s = {.wrong_id = true, .other_question = true};

    need_root();
    server_open(&s, "127.0.1.1");
    write_servers("nameserver 127.0.1.1\n");
    const struct message *m = look_up("example.org", DNS_A);
    assert_int_equal(code_of(m), DNS_NOERROR);
    assert_int_equal(answers_of(m), 7);
    server_close(&s);
}

static void servers_that_fail_are_followed_by_the_next(void **state)
{
    struct server silent = {.silent = true}, bad = {.code = DNS_REFUSED}, good = {.code = 0};

    need_root();
    server_open(&silent, "127.0.1.1");
    server_open(&bad, "127.0.1.2");
    server_open(&good, "127.0.1.3");
    write_servers("nameserver 127.0.1.1\nnameserver 127.0.1.2\nnameserver 127.0.1.3\n");
    assert_int_equal(code_of(look_up("example.org", DNS_A)), DNS_NOERROR);
    assert_int_equal(silent.asked, 1);
    assert_int_equal(bad.asked, 1);
    assert_int_equal(good.asked, 1);
    /* One that did not answer is not the first to be asked the next time. */
    assert_int_equal(code_of(look_up("example.org", DNS_A)), DNS_NOERROR);
    assert_int_equal(silent.asked, 1);
    good.silent = true;
    assert_int_equal(code_of(look_up("example.net", DNS_A)), DNS_REFUSED); /* better than nothing */
    server_close(&bad);
    server_close(&good);
    assert_int_equal(code_of(look_up("example.com", DNS_A)), DNS_SERVFAIL);
    assert_int_equal(dns_counts(dns).failed, 1);
    write_servers("");
    assert_int_equal(code_of(look_up("example.com", DNS_A)), DNS_SERVFAIL);
    assert_int_equal(dns_counts(dns).forwarding, 0);
    server_close(&silent);
}

static void truncated_replies_are_asked_for_again_over_tcp(void **state)
{
    struct server s = {.truncates = true, .extra = 100};

    need_root();
    server_open(&s, "127.0.1.1");
    write_servers("nameserver 127.0.1.1\n");
    const struct message *m = look_up("example.org", DNS_A);
    assert_int_equal(m->bytes[2] & 2, 0);
    assert_int_equal(s.asked, 1);
    assert_int_equal(s.asked_tcp, 1);
    s.extra = 1000; /* more than the client takes: it gets the short one */
    m = look_up("example.org", DNS_A);
    assert_int_equal(m->bytes[2] & 2, 2);
    assert_int_equal(s.asked_tcp, 2);
    s.truncates = false; /* and a server that sends too much over UDP is cut */
    m = look_up("example.org", DNS_A);
    assert_int_equal(m->bytes[2] & 2, 2);
    assert_int_equal(m->size, 12 + 13 + 4);
    server_close(&s);
}

static void a_silent_server_does_not_delay_others_and_questions_are_limited(void **state)
{
    struct server silent = {.silent = true};
    static struct message m;
    int fd;

    need_root();
    fd = client(SOCK_DGRAM);
    server_open(&silent, "127.0.1.1");
    write_servers("nameserver 127.0.1.1\n");
    const struct message *q = question("again.org", DNS_A);
    ask(fd, q);
    ask(fd, q); /* the client asks again: once is enough */
    for (int i = 0; i < 99; i++)
        ask(fd, question("example.org", DNS_A));
    ask(fd, question("web", DNS_A));
    get(fd, &m);
    assert_int_equal(answers_of(&m), 1);
    assert_int_equal(dns_counts(dns).forwarding, 100);
    ask(fd, question("example.org", DNS_A));
    get(fd, &m);
    assert_int_equal(code_of(&m), DNS_SERVFAIL);
    assert_int_equal(dns_counts(dns).refused, 1);
    for (int i = 0; i < 100; i++)
        get(fd, &m);
    assert_false(turn_until(fd, 20));
    assert_int_equal(dns_counts(dns).forwarding, 0);
    for (int i = 0; i < 10; i++)
        ask(fd, question("example.org", DNS_A));
    uv_run(&loop, UV_RUN_NOWAIT);
    close(fd); /* and the resolver is closed with questions under way */
    server_close(&silent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_of_ours_are_answered, open_dns, close_dns),
        cmocka_unit_test_setup_teardown(a_client_over_tcp_gets_everything_and_may_ask_again, open_dns, close_dns),
        cmocka_unit_test_setup_teardown(clients_that_say_nonsense_are_cut_off, open_dns, close_dns),
        cmocka_unit_test_setup_teardown(clients_over_tcp_are_limited, open_dns, close_dns),
        cmocka_unit_test_setup_teardown(questions_wait_in_the_sockets_while_nobody_serves, open_dns, close_dns),
        cmocka_unit_test_setup_teardown(what_is_not_ours_is_forwarded_to_the_machines_server, open_dns, close_dns),
        cmocka_unit_test_setup_teardown(forged_replies_are_passed_over, open_dns, close_dns),
        cmocka_unit_test_setup_teardown(servers_that_fail_are_followed_by_the_next, open_dns, close_dns),
        cmocka_unit_test_setup_teardown(truncated_replies_are_asked_for_again_over_tcp, open_dns, close_dns),
        cmocka_unit_test_setup_teardown(a_silent_server_does_not_delay_others_and_questions_are_limited, open_dns,
                                        close_dns),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
