/* The net thread against the kernel, in a network namespace of the test's own. */
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
#include <linux/netfilter.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <uv.h>

#include "engine/net/kernel.h"
#include "engine/net/nft.h"
#include "proto/base/mem.h"

static uv_loop_t loop;
static struct mailbox box;
static struct kernel *kernel;
static bool is_root;

static struct outcome {
    bool done;
    struct err e;
    int made;
    struct kernel_names names;
    struct kernel_dump dump;
    char text[8192]; /* of the dump, one thing a line */
} outcome;

/* --- the loop -------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    struct err e;

    is_root = geteuid() == 0 && unshare(CLONE_NEWNET) == 0;
    if (!is_root)
        return 0;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(mailbox_open(&box, &loop, NULL), 0);
    if (kernel_open(&box, &kernel, &e) < 0)
        fail_msg("%s", e.text);
    return 0;
}

static void on_box_closed(struct mailbox *b)
{
}

static void on_kernel_closed(void *ctx)
{
    mailbox_close(&box, on_box_closed);
}

static int teardown(void **state)
{
    if (!is_root)
        return 0;
    kernel_close(kernel, on_kernel_closed, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    return 0;
}

static void need_root(void)
{
    if (!is_root) {
        print_message("needs root and a network namespace\n");
        skip();
    }
}

static const char *name_of(const struct kernel_dump *d, int index)
{
    for (size_t i = 0; i < d->link_count; i++)
        if (d->links[i].index == index)
            return d->links[i].name;
    return "-";
}

/* Everything but what each namespace has anyway. */
static void print(const struct kernel_dump *d, char *to, size_t size)
{
    char a[KERNEL_ADDRESS_TEXT], b[KERNEL_ADDRESS_TEXT];
    size_t at = 0;

#define LINE(...) at += (size_t)snprintf(to + at, at < size ? size - at : 0, __VA_ARGS__)
    *to = '\0';
    for (size_t i = 0; i < d->link_count; i++)
        if (strcmp(d->links[i].name, "lo") != 0)
            LINE("link %s %s mtu %u %s alias '%s' master %s\n", d->links[i].name, d->links[i].kind, d->links[i].mtu,
                 d->links[i].up ? "up" : "down", d->links[i].alias, name_of(d, d->links[i].master));
    for (size_t i = 0; i < d->address_count; i++) {
        const uint8_t *bytes = d->addresses[i].address.bytes;

        if (bytes[0] == 127 || (bytes[0] == 0xfe && bytes[1] == 0x80) || d->addresses[i].link == 1)
            continue;
        kernel_address_format(&d->addresses[i].address, a);
        LINE("address %s %s\n", name_of(d, d->addresses[i].link), a);
    }
    for (size_t i = 0; i < d->route_count; i++) {
        kernel_address_format(&d->routes[i].to, a);
        kernel_address_format(&d->routes[i].via, b);
        if (!d->routes[i].ours && d->routes[i].to.family != AF_INET)
            continue; /* every link that is up has some */
        LINE("%sroute %d %s via %s dev %s table %u metric %u\n", d->routes[i].ours ? "" : "foreign ",
             d->routes[i].type, a, b, name_of(d, d->routes[i].link), d->routes[i].table, d->routes[i].metric);
    }
    for (size_t i = 0; i < d->neighbour_count; i++) {
        const uint8_t *m = d->neighbours[i].mac;

        kernel_address_format(&d->neighbours[i].address, a);
        kernel_address_format(&d->neighbours[i].machine, b);
        LINE("neighbour %s %02x:%02x dev %s to %s\n", d->neighbours[i].address.family ? a : "-", m[0], m[5],
             name_of(d, d->neighbours[i].link), d->neighbours[i].machine.family ? b : "-");
    }
    for (size_t i = 0; i < d->rule_count; i++)
        LINE("rule %u mark %x/%x table %u\n", d->rules[i].rule.priority, d->rules[i].rule.mark,
             d->rules[i].rule.mask, d->rules[i].rule.table);
    assert_true(at < size);
}

static void on_done(void *ctx, const struct err *e, struct kernel_batch *b)
{
    outcome.done = true;
    outcome.e = *e;
    if (ctx == &outcome.dump)
        print(kernel_batch_dump(b, 0), outcome.text, sizeof(outcome.text));
    if (ctx == &outcome.names)
        outcome.names = kernel_batch_names(b, 0);
    if (ctx == &outcome.made)
        outcome.made = kernel_batch_namespace(b, 0);
}

static int run_with(struct kernel_batch *b, void *ctx)
{
    memset(&outcome, 0, sizeof(outcome));
    kernel_submit(kernel, b, on_done, ctx);
    while (!outcome.done)
        uv_run(&loop, UV_RUN_ONCE);
    return outcome.e.code;
}

#define RUN(b)                              \
    do {                                    \
        if (run_with((b), NULL) < 0)        \
            fail_msg("%s", outcome.e.text); \
    } while (0)

static const char *look(int namespace_fd)
{
    struct kernel_batch *b = kernel_batch_new();

    kernel_in(b, namespace_fd);
    (void)kernel_dump(b);
    if (run_with(b, &outcome.dump) < 0)
        fail_msg("%s", outcome.e.text);
    return outcome.text;
}

static int made(void)
{
    struct kernel_batch *b = kernel_batch_new();

    (void)kernel_namespace(b);
    if (run_with(b, &outcome.made) < 0)
        fail_msg("%s", outcome.e.text);
    assert_true(outcome.made >= 0);
    return outcome.made;
}

static struct kernel_address address(const char *text)
{
    struct kernel_address a;

    assert_true(kernel_address_parse(text, &a));
    return a;
}

/* --- tests ----------------------------------------------------------------------------------------- */

static void addresses_are_read_and_written(void **state)
{
    static const char *const good[] = {"10.0.0.1", "10.0.0.0/24", "0.0.0.0/0", "fd00::1", "fd00::/64", "::/0"};
    static const char *const bad[] = {"",
                                      "10.0.0",
                                      "10.0.0.256",
                                      "10.0.0.1/33",
                                      "10.0.0.1/",
                                      "fd00::1/129",
                                      "10.0.0.1/-1",
                                      "10.0.0.1/ 1",
                                      "10.0.0.1/1x",
                                      "x"};
    struct kernel_address a;
    char text[KERNEL_ADDRESS_TEXT];

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_true(kernel_address_parse(good[i], &a));
        kernel_address_format(&a, text);
        assert_string_equal(text, good[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (kernel_address_parse(bad[i], &a))
            fail_msg("\"%s\" was taken", bad[i]);
}

static void links_are_made_once_and_removed_once(void **state)
{
    struct kernel_link bridge = {.name = "br0", .alias = "shoal:test:br0", .mtu = 1400}, left = {.name = "left"},
                       right = {.name = "right", .mtu = 1300};
    struct kernel_address a = address("10.9.0.1/24"), a6 = address("fd09::1/64");

    need_root();
    for (int i = 0; i < 2; i++) { /* what is there already is no error */
        struct kernel_batch *b = kernel_batch_new();

        kernel_bridge(b, &bridge);
        kernel_veth(b, &left, &right, KERNEL_HERE);
        kernel_link_master(b, "left", "br0");
        kernel_link_port(b, "left", true, true);
        kernel_link_up(b, "left", true);
        kernel_add_address(b, "br0", &a);
        kernel_add_address(b, "br0", &a6);
        RUN(b);
    }
    const char *seen = look(KERNEL_OWN);
    assert_non_null(strstr(seen, "link br0 bridge mtu 1400 down alias 'shoal:test:br0' master -\n"));
    assert_non_null(strstr(seen, "link left veth mtu 1500 up alias '' master br0\n"));
    assert_non_null(strstr(seen, "link right veth mtu 1300 down"));
    assert_non_null(strstr(seen, "address br0 10.9.0.1/24\n"));
    assert_non_null(strstr(seen, "address br0 fd09::1/64\n"));
    for (int i = 0; i < 2; i++) {
        struct kernel_batch *b = kernel_batch_new();

        kernel_delete_address(b, "br0", &a);
        kernel_link_delete(b, "left");
        kernel_link_delete(b, "br0");
        RUN(b);
    }
    assert_string_equal(look(KERNEL_OWN), "");
}

static void batch_ends_at_its_first_failure(void **state)
{
    struct kernel_link one = {.name = "one"}, two = {.name = "two"};
    struct kernel_batch *b = kernel_batch_new();

    need_root();
    kernel_bridge(b, &one);
    kernel_may_fail(b);
    kernel_link_master(b, "nobody", "one");
    kernel_bridge(b, &two);
    kernel_link_master(b, "nobody", "one");
    kernel_link_delete(b, "one");
    assert_int_equal(run_with(b, NULL), ERR_NOT_FOUND);
    assert_non_null(strstr(outcome.e.text, "nobody"));
    const char *seen = look(KERNEL_OWN);
    assert_non_null(strstr(seen, "link one "));
    assert_non_null(strstr(seen, "link two "));
    b = kernel_batch_new();
    kernel_link_delete(b, "one");
    kernel_link_delete(b, "two");
    RUN(b);
}

static void namespaces_are_entered_and_left(void **state)
{
    struct kernel_link here = {.name = "here"},
                       there = {.name = "eth0", .mac = (const uint8_t *)"\x02\x42\x0a\x00\x00\x05"};
    struct kernel_address a = address("10.8.0.5/32"), net = address("10.8.0.0/24"), all = address("0.0.0.0/0");
    struct kernel_route on = {.to = net, .link = "eth0", .scope_link = true};
    struct kernel_route away = {.to = all, .link = "eth0", .via = address("10.8.0.1"), .onlink = true};

    need_root();
    int fd = made();
    struct kernel_batch *b = kernel_batch_new();
    kernel_veth(b, &here, &there, fd);
    kernel_link_up(b, "here", true);
    kernel_in(b, fd);
    kernel_add_address(b, "eth0", &a);
    kernel_link_up(b, "eth0", true);
    kernel_add_route(b, &on);
    kernel_add_route(b, &away);
    kernel_in(b, KERNEL_OWN);
    kernel_sysctl(b, "ipv4/conf/here/proxy_arp", "1");
    RUN(b);
    const char *seen = look(fd);
    assert_non_null(strstr(seen, "link eth0 veth mtu 1500 up"));
    assert_non_null(strstr(seen, "address eth0 10.8.0.5\n"));
    assert_non_null(strstr(seen, "route 0 10.8.0.0/24 via /0 dev eth0 table 254 metric 0\n"));
    assert_non_null(strstr(seen, "route 0 0.0.0.0/0 via 10.8.0.1 dev eth0 table 254 metric 0\n"));
    assert_null(strstr(look(KERNEL_OWN), "eth0"));
    b = kernel_batch_new();
    kernel_in(b, fd);
    kernel_delete_route(b, &away);
    kernel_delete_route(b, &away);
    kernel_delete_route(b, &on);
    kernel_link_delete(b, "eth0");
    kernel_in(b, KERNEL_OWN);
    kernel_link_delete(b, "here"); /* gone with its peer */
    RUN(b);
    assert_string_equal(look(fd), "");
    assert_string_equal(look(KERNEL_OWN), "");
    close(fd);
}

/* Whoever gives out subnets has to know what the machine reaches already. */
static void routes_of_others_are_seen_as_theirs(void **state)
{
    struct kernel_link here = {.name = "here"}, there = {.name = "there"};
    struct kernel_address a = address("10.8.0.5/24");
    struct kernel_route own = {.to = address("10.7.0.0/24"), .link = "here", .scope_link = true};
    struct kernel_batch *b = kernel_batch_new();

    need_root();
    int fd = made();
    kernel_in(b, fd);
    kernel_veth(b, &here, &there, KERNEL_HERE);
    kernel_link_up(b, "here", true);
    kernel_link_up(b, "there", true);
    kernel_add_address(b, "here", &a); /* the kernel makes a route of it by itself */
    kernel_add_route(b, &own);
    RUN(b);
    const char *seen = look(fd);
    assert_non_null(strstr(seen, "foreign route 0 10.8.0.0/24 via /0 dev here"));
    assert_non_null(strstr(seen, "\nroute 0 10.7.0.0/24 via /0 dev here"));
    close(fd);
}

static void fabric_of_a_node_can_be_built(void **state)
{
    struct kernel_link vx = {.name = "vx0", .mac = (const uint8_t *)"\x02\xfb\0\0\0\x01", .mtu = 1450};
    struct kernel_vxlan vxlan = {.id = 4096, .port = 4789, .local = address("127.0.0.1")};
    struct kernel_address inner = address("169.254.64.1"), peer = address("169.254.64.2"),
                          machine = address("127.0.0.9");
    struct kernel_route remote = {.to = address("10.0.1.7"), .via = peer, .link = "vx0", .onlink = true};
    struct kernel_route none = {.type = KERNEL_UNREACHABLE, .to = address("10.0.1.0/24"), .metric = 9999};
    struct kernel_route vip = {.type = KERNEL_LOCAL, .to = address("10.0.1.2"), .link = "lo"};
    struct kernel_rule rule = {.family = AF_INET, .priority = 100, .mark = 0x10000, .mask = 0x10000, .table = 100};
    static const uint8_t mac[6] = {2, 0xfb, 0, 0, 0, 2};

    need_root();
    int fd = made();
    for (int i = 0; i < 2; i++) {
        struct kernel_batch *b = kernel_batch_new();

        if (i == 0) {
            kernel_vxlan(b, &vx, &vxlan);
            kernel_link_move(b, "vx0", fd, NULL);
        }
        kernel_in(b, fd);
        kernel_add_address(b, "vx0", &inner);
        kernel_link_up(b, "vx0", true);
        kernel_add_neighbour(b, "vx0", &peer, mac);
        kernel_add_fdb(b, "vx0", mac, &machine);
        kernel_add_route(b, &remote);
        kernel_add_route(b, &none);
        kernel_add_route(b, &vip);
        kernel_add_rule(b, &rule);
        RUN(b);
    }
    const char *seen = look(fd);
    assert_non_null(strstr(seen, "link vx0 vxlan mtu 1450 up"));
    assert_non_null(strstr(seen, "route 0 10.0.1.7 via 169.254.64.2 dev vx0 table 254 metric 0\n"));
    assert_non_null(strstr(seen, "route 2 10.0.1.0/24 via /0 dev - table 254 metric 9999\n"));
    assert_non_null(strstr(seen, "route 1 10.0.1.2 via /0 dev lo table 255 metric 0\n"));
    assert_non_null(strstr(seen, "neighbour 169.254.64.2 02:02 dev vx0 to -\n"));
    assert_non_null(strstr(seen, "neighbour - 02:02 dev vx0 to 127.0.0.9\n"));
    assert_non_null(strstr(seen, "rule 100 mark 10000/10000 table 100\n"));
    struct kernel_batch *b = kernel_batch_new();
    kernel_in(b, fd);
    for (int i = 0; i < 2; i++) {
        kernel_delete_rule(b, &rule);
        kernel_delete_route(b, &vip);
        kernel_delete_route(b, &none);
        kernel_delete_route(b, &remote);
        kernel_delete_fdb(b, "vx0", mac);
        kernel_delete_neighbour(b, "vx0", &peer);
        kernel_delete_address(b, "vx0", &inner);
    }
    RUN(b);
    assert_string_equal(look(fd), "link vx0 vxlan mtu 1450 up alias '' master -\n");
    close(fd);
}

static bool listing_has(const char *needle)
{
    char text[16384];
    size_t size = 0;
    ssize_t part;
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        execl("/usr/sbin/nft", "nft", "list", "table", "ip", "t", NULL);
        _exit(1);
    }
    close(ends[1]);
    while ((part = read(ends[0], text + size, sizeof(text) - 1 - size)) > 0)
        size += (size_t)part;
    text[size] = '\0';
    close(ends[0]);
    waitpid(pid, NULL, 0);
    return strstr(text, needle) != NULL;
}

static void need_nft(void)
{
    need_root();
    if (access("/usr/sbin/nft", X_OK) != 0) {
        print_message("needs nft to look at the rules\n");
        skip();
    }
}

static struct nft_key slot_key(const char *vip, uint32_t slot)
{
    struct nft_key k = {0};
    struct kernel_address a = address(vip);

    nft_key_bytes(&k, a.bytes, 4);
    nft_key_host32(&k, slot);
    return k;
}

static struct nft_key host_key(const char *text)
{
    struct nft_key k = {0};
    struct kernel_address a = address(text);

    nft_key_bytes(&k, a.bytes, a.family == AF_INET ? 4 : 16);
    return k;
}

static void elements_change_in_transactions(void **state)
{
    struct nft_key key = slot_key("10.0.1.2", 3), other = slot_key("10.0.1.2", 4), value = host_key("10.0.1.7");
    struct nft_key from = host_key("10.0.1.0"), to = host_key("10.0.1.255"), mark = {0}, own = {0}, port = {0};
    struct kernel_batch *b = kernel_batch_new();

    need_nft();
    kernel_nft_text(b, "table ip t {\n"
                       "  map be { typeof ip daddr . numgen inc mod 8 : ip daddr; }\n"
                       "  map net4 { type ipv4_addr : mark; flags interval; }\n"
                       "  set member { type mark . ipv4_addr; flags interval; }\n"
                       "  set own { type ifname . ipv4_addr; }\n"
                       "  set pub { type inet_proto . inet_service; }\n"
                       "  chain pre { type nat hook prerouting priority -100;\n"
                       "    meta l4proto { tcp, udp } dnat to ip daddr . numgen inc mod 8 map @be; }\n"
                       "}\n");
    RUN(b);
    nft_key_host32(&mark, 5);
    nft_key_name(&own, "veth1");
    nft_key_bytes(&own, value.bytes, 4);
    nft_key_u8(&port, IPPROTO_TCP);
    nft_key_port(&port, 8080);
    struct nft_key member_from = {0}, member_to = {0};
    nft_key_big32(&member_from, 5);
    nft_key_bytes(&member_from, from.bytes, 4);
    nft_key_big32(&member_to, 5);
    nft_key_bytes(&member_to, to.bytes, 4);
    struct nft *t = nft_new();
    nft_in(t, NFPROTO_IPV4, "t");
    nft_add(t, "be", &key, &value);
    nft_add(t, "be", &other, &value);
    nft_add_range(t, "net4", false, &from, &to, &mark);
    nft_add_range(t, "member", true, &member_from, &member_to, NULL);
    nft_add(t, "own", &own, NULL);
    nft_add(t, "pub", &port, NULL);
    b = kernel_batch_new();
    kernel_nft(b, t);
    RUN(b);
    assert_true(listing_has("10.0.1.2 . 3 : 10.0.1.7"));
    assert_true(listing_has("10.0.1.2 . 4 : 10.0.1.7"));
    assert_true(listing_has("10.0.1.0/24 : 0x00000005"));
    assert_true(listing_has("0x00000005 . 10.0.1.0/24"));
    assert_true(listing_has("\"veth1\" . 10.0.1.7"));
    assert_true(listing_has("tcp . 8080"));
    /* All or nothing: the second deletion fails. */
    t = nft_new();
    nft_in(t, NFPROTO_IPV4, "t");
    nft_delete(t, "be", &key);
    nft_delete(t, "be", &key);
    b = kernel_batch_new();
    kernel_nft(b, t);
    assert_int_equal(run_with(b, NULL), ERR_NOT_FOUND);
    assert_true(listing_has("10.0.1.2 . 3 : 10.0.1.7"));
    t = nft_new();
    nft_in(t, NFPROTO_IPV4, "t");
    nft_delete(t, "be", &key);
    nft_delete_range(t, "net4", false, &from, &to);
    nft_delete_range(t, "member", true, &member_from, &member_to);
    nft_flush(t, "own");
    b = kernel_batch_new();
    kernel_nft(b, t);
    RUN(b);
    assert_false(listing_has("10.0.1.2 . 3 :"));
    assert_true(listing_has("10.0.1.2 . 4 : 10.0.1.7"));
    assert_false(listing_has("10.0.1.0/24"));
    assert_false(listing_has("veth1"));
    t = nft_new();
    nft_in(t, NFPROTO_IPV4, "t");
    nft_delete_table(t);
    b = kernel_batch_new();
    kernel_nft(b, t);
    RUN(b);
    assert_true(listing_has("No such file"));
}

static void many_elements_are_loaded_at_once(void **state)
{
    struct kernel_batch *b = kernel_batch_new();
    struct nft_key value = host_key("10.5.0.1");
    struct nft *t = nft_new();

    need_nft();
    kernel_nft_text(b, "table ip t { map be { typeof ip daddr . numgen inc mod 8 : ip daddr; }; }");
    nft_in(t, NFPROTO_IPV4, "t");
    for (uint32_t i = 0; i < 40000; i++) {
        uint8_t vip[4] = {10, 4, (uint8_t)(i / 8 / 250), (uint8_t)(i / 8 % 250)};
        struct nft_key k = {0};

        nft_key_bytes(&k, vip, sizeof(vip));
        nft_key_host32(&k, i % 8);
        nft_add(t, "be", &k, &value);
    }
    kernel_nft(b, t);
    RUN(b);
    b = kernel_batch_new();
    t = nft_new();
    nft_in(t, NFPROTO_IPV4, "t");
    nft_delete_table(t);
    kernel_nft(b, t);
    RUN(b);
}

static void bad_rules_say_what_is_wrong(void **state)
{
    struct kernel_batch *b = kernel_batch_new();

    need_nft();
    kernel_nft_text(b, "table ip t { chain c { nonsense; } }");
    assert_int_not_equal(run_with(b, NULL), 0);
    assert_non_null(strstr(outcome.e.text, "syntax error"));
}

static int udp_socket(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static long flows(void)
{
    FILE *f = fopen("/proc/net/nf_conntrack", "r");
    char line[1024];
    long count = 0;

    if (!f)
        return -1;
    while (fgets(line, sizeof(line), f))
        count += strstr(line, "dport=4455") != NULL;
    fclose(f);
    return count;
}

static void flows_are_forgotten(void **state)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(4455)};
    struct kernel_flows f = {.protocol = IPPROTO_UDP, .address = address("127.0.0.1"), .port = 4456};
    struct kernel_batch *b = kernel_batch_new();

    need_nft();
    kernel_link_up(b, "lo", true);
    kernel_nft_text(b, "table ip t { chain o { type filter hook output priority 0; ct state new accept; }; }");
    RUN(b);
    int server = udp_socket(4455), client = udp_socket(0);
    assert_int_equal(sendto(client, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)), 1);
    long before = flows();
    b = kernel_batch_new();
    kernel_forget_flows(b, &f); /* another port's */
    RUN(b);
    assert_int_equal(flows(), before);
    f.port = 4455;
    b = kernel_batch_new();
    kernel_forget_flows(b, &f);
    RUN(b);
    if (before >= 0) {
        assert_int_equal(before, 1);
        assert_int_equal(flows(), 0);
    }
    close(server);
    close(client);
}

/* Inside the namespace, as a container would: port 53 of all addresses is its own, what goes to 127.0.0.11 port 53
 * comes to `names` and the answer from there. Returns what went wrong. */
static const char *use_names(int namespace_fd, const struct kernel_names *names)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)}, from;
    struct sockaddr_in any = to;
    socklen_t size = sizeof(from);
    char text[8] = "";

    if (setns(namespace_fd, CLONE_NEWNET) < 0)
        return "setns";
    (void)inet_pton(AF_INET, KERNEL_NAMES_ADDRESS, &to.sin_addr);
    int udp = socket(AF_INET, SOCK_DGRAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0);
    int own = socket(AF_INET, SOCK_DGRAM, 0), own_tcp = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(own, (struct sockaddr *)&any, sizeof(any)) < 0 ||
        bind(own_tcp, (struct sockaddr *)&any, sizeof(any)) < 0 || listen(own_tcp, 1) < 0)
        return "port 53 is taken";
    for (int i = 0; i < 2; i++) {
        if (sendto(udp, "ask", 3, 0, (struct sockaddr *)&to, sizeof(to)) != 3)
            return "send";
        if (recvfrom(names->udp, text, sizeof(text), 0, (struct sockaddr *)&from, &size) != 3)
            return "a datagram does not come";
        if (sendto(names->udp, "told", 4, 0, (struct sockaddr *)&from, size) != 4 ||
            recvfrom(udp, text, sizeof(text), MSG_DONTWAIT, (struct sockaddr *)&from, &size) != 4)
            return "no answer";
        if (from.sin_port != to.sin_port || from.sin_addr.s_addr != to.sin_addr.s_addr)
            return "an answer from elsewhere";
    }
    if (connect(tcp, (struct sockaddr *)&to, sizeof(to)) < 0)
        return "connect";
    int end = accept(names->tcp, NULL, NULL);
    if (end < 0 || send(tcp, "ask", 3, 0) != 3 || recv(end, text, sizeof(text), 0) != 3 ||
        send(end, "told", 4, 0) != 4 || recv(tcp, text, sizeof(text), 0) != 4)
        return "no answer over TCP";
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK); /* and its own server is still its own */
    if (sendto(udp, "own", 3, 0, (struct sockaddr *)&any, sizeof(any)) != 3 ||
        recv(own, text, sizeof(text), MSG_DONTWAIT) != 3 || recv(names->udp, text, sizeof(text), MSG_DONTWAIT) > 0)
        return "its own server";
    return NULL;
}

static void names_are_led_to_sockets_at_other_ports(void **state)
{
    need_nft();
    int ns = made();
    struct kernel_names first = {-1, -1};
    for (int i = 0; i < 2; i++) { /* the second time it leads to the new ones */
        struct kernel_batch *b = kernel_batch_new();

        kernel_in(b, ns);
        (void)kernel_names(b);
        if (run_with(b, &outcome.names) < 0)
            fail_msg("%s", outcome.e.text);
        struct kernel_names names = outcome.names;
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            const char *wrong = use_names(ns, &names);
            if (wrong)
                fprintf(stderr, "%s: %s\n", wrong, strerror(errno));
            _exit(wrong != NULL);
        }
        int status = -1;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        if (i == 0) {
            first = names;
        } else {
            close(names.udp);
            close(names.tcp);
        }
    }
    close(first.udp);
    close(first.tcp);
    close(ns);
}

static void names_that_cannot_be_had_leave_nothing_open(void **state)
{
    need_nft();
    int ns = made();
    struct kernel_batch *b = kernel_batch_new();
    kernel_in(b, ns);
    (void)kernel_names(b); /* nobody takes these: they are closed with the batch */
    kernel_nft_text(b, "nonsense");
    assert_int_not_equal(run_with(b, NULL), 0);
    b = kernel_batch_new();
    kernel_nft_text(b, "nonsense");
    (void)kernel_names(b);
    assert_int_not_equal(run_with(b, &outcome.names), 0);
    assert_int_equal(outcome.names.udp, -1);
    assert_int_equal(outcome.names.tcp, -1);
    close(ns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_and_written),
        cmocka_unit_test(links_are_made_once_and_removed_once),
        cmocka_unit_test(batch_ends_at_its_first_failure),
        cmocka_unit_test(namespaces_are_entered_and_left),
        cmocka_unit_test(routes_of_others_are_seen_as_theirs),
        cmocka_unit_test(fabric_of_a_node_can_be_built),
        cmocka_unit_test(elements_change_in_transactions),
        cmocka_unit_test(many_elements_are_loaded_at_once),
        cmocka_unit_test(bad_rules_say_what_is_wrong),
        cmocka_unit_test(flows_are_forgotten),
        cmocka_unit_test(names_are_led_to_sockets_at_other_ports),
        cmocka_unit_test(names_that_cannot_be_had_leave_nothing_open),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
