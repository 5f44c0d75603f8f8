/* What systemd passes: taken once, checked, and nothing of it left in the environment. Each case runs in a child,
 * whose descriptors and environment are its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/service.h"
#include "proto/base/mem.h"

#define HOLDS(what) ((what) ? (void)0 : (fprintf(stderr, "%s:%d: not: %s\n", __FILE__, __LINE__, #what), _exit(1)))

/* Run in a child; its HOLDS decide. */
static void in_child(void (*run)(void))
{
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        run();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void set_number(const char *name, long number)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%ld", number); /* fits */
    HOLDS(setenv(name, text, 1) == 0);
}

/* A listening socket of the family as this descriptor, inherited by programs as systemd's are. */
static void listen_as(int fd, uint32_t address, int type, bool listens)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int made = socket(address ? AF_INET : AF_UNIX, type, 0);

    HOLDS(made >= 0);
    (void)snprintf(un.sun_path + 1, sizeof(un.sun_path) - 1, "shoal-service-test-%d-%d", (int)getpid(),
                   fd); /* fits */
    if (address)
        HOLDS(bind(made, (struct sockaddr *)&in, sizeof(in)) == 0);
    else
        HOLDS(bind(made, (struct sockaddr *)&un, sizeof(un)) == 0);
    HOLDS(!listens || listen(made, 5) == 0);
    HOLDS(made == fd || (dup2(made, fd) == fd && close(made) == 0));
}

static void none_child(void)
{
    struct service s;

    HOLDS(service_take(&s, NULL) == 0);
    HOLDS(s.socket_count == 0 && s.notify_size == 0);
    service_notify(&s, "READY=1"); /* nobody to tell */
}

static void without_systemd_there_is_nothing(void **state)
{
    in_child(none_child);
}

static void sockets_child(void)
{
    struct service s;

    listen_as(3, 0, SOCK_STREAM, true);
    listen_as(4, INADDR_LOOPBACK, SOCK_STREAM, true);
    set_number("LISTEN_PID", getpid());
    set_number("LISTEN_FDS", 2);
    HOLDS(setenv("LISTEN_FDNAMES", "a:b", 1) == 0);
    HOLDS(service_take(&s, NULL) == 0);
    HOLDS(s.socket_count == 2 && s.sockets[0] == 3 && s.sockets[1] == 4);
    HOLDS(fcntl(3, F_GETFD) == FD_CLOEXEC && fcntl(4, F_GETFD) == FD_CLOEXEC);
    HOLDS(!getenv("LISTEN_PID") && !getenv("LISTEN_FDS") && !getenv("LISTEN_FDNAMES"));
    HOLDS(service_take(&s, NULL) == 0 && s.socket_count == 0); /* once */
}

static void passed_sockets_are_taken_once(void **state)
{
    in_child(sockets_child);
}

static void foreign_child(void)
{
    struct service s;

    listen_as(3, 0, SOCK_STREAM, true);
    set_number("LISTEN_PID", getppid());
    set_number("LISTEN_FDS", 1);
    HOLDS(service_take(&s, NULL) == 0 && s.socket_count == 0);
    HOLDS(!getenv("LISTEN_FDS"));
}

static void sockets_of_another_process_are_left_alone(void **state)
{
    in_child(foreign_child);
}

static void refused(const char *count, const char *why)
{
    struct service s = {.socket_count = 77};
    struct err e = {0};

    set_number("LISTEN_PID", getpid());
    HOLDS(setenv("LISTEN_FDS", count, 1) == 0);
    HOLDS(service_take(&s, &e) < 0);
    if (!strstr(e.text, why)) {
        fprintf(stderr, "\"%s\" is not in \"%s\"\n", why, e.text);
        _exit(1);
    }
    HOLDS(s.socket_count == 77);
    HOLDS(!getenv("LISTEN_PID") && !getenv("LISTEN_FDS"));
}

static void counts_child(void)
{
    refused("x", "LISTEN_FDS \"x\"");
    refused("-1", "LISTEN_FDS \"-1\"");
    refused("2z", "LISTEN_FDS \"2z\"");
    refused("17", "more than 16");
    refused("99999999999999999999", "LISTEN_FDS");
    (void)close(3); /* may not be open */
    refused("1", "descriptor 3");
}

static void datagram_child(void)
{
    listen_as(3, 0, SOCK_DGRAM, false);
    refused("1", "descriptor 3 is not a listening stream socket");
}

static void not_listening_child(void)
{
    listen_as(3, 0, SOCK_STREAM, false);
    refused("1", "descriptor 3 is not a listening stream socket");
}

static void reachable_child(void)
{
    listen_as(3, INADDR_LOOPBACK, SOCK_STREAM, true);
    (void)close(4);
    struct sockaddr_in any = {.sin_family = AF_INET};
    int made = socket(AF_INET, SOCK_STREAM, 0);
    HOLDS(bind(made, (struct sockaddr *)&any, sizeof(any)) == 0 && listen(made, 1) == 0);
    HOLDS(made == 4 || dup2(made, 4) == 4);
    refused("2", "descriptor 4 listens on 0.0.0.0:");
}

static void sockets_that_cannot_be_served_are_refused_by_number(void **state)
{
    in_child(counts_child);
    in_child(datagram_child);
    in_child(not_listening_child);
    in_child(reachable_child);
}

static void expect_told(int fd, const char *text)
{
    char got[64] = "";

    HOLDS(recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT) == (ssize_t)strlen(text));
    HOLDS(strcmp(got, text) == 0);
}

static void notify_with(const char *variable, const struct sockaddr_un *address, socklen_t size)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct service s;

    HOLDS(fd >= 0 && bind(fd, (const struct sockaddr *)address, size) == 0);
    HOLDS(setenv("NOTIFY_SOCKET", variable, 1) == 0);
    HOLDS(service_take(&s, NULL) == 0);
    HOLDS(!getenv("NOTIFY_SOCKET"));
    service_notify(&s, "READY=1");
    service_notify(&s, "STOPPING=1");
    expect_told(fd, "READY=1");
    expect_told(fd, "STOPPING=1");
    HOLDS(close(fd) == 0);
    service_notify(&s, "READY=1"); /* nobody listens: nothing happens */
}

static void notify_child(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[64];

    (void)snprintf(name, sizeof(name), "@shoal-notify-test-%d", (int)getpid()); /* fits */
    memcpy(address.sun_path + 1, name + 1, strlen(name) - 1);
    notify_with(name, &address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name)));
    memset(&address, 0, sizeof(address));
    address.sun_family = AF_UNIX;
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/shoal-notify-test-%d",
                   (int)getpid()); /* fits */
    (void)unlink(address.sun_path);
    notify_with(address.sun_path, &address, sizeof(address));
    HOLDS(unlink(address.sun_path) == 0);
}

static void readiness_is_told_on_paths_and_abstract_addresses(void **state)
{
    in_child(notify_child);
}

static void notify_nonsense_child(void)
{
    static const char *const wrong[] = {"relative", "@", "/", "vsock:2:1"};
    char path[200];
    struct service s;
    struct err e;

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        HOLDS(setenv("NOTIFY_SOCKET", wrong[i], 1) == 0);
        HOLDS(service_take(&s, &e) == ERR_INVALID && strstr(e.text, wrong[i]) && !getenv("NOTIFY_SOCKET"));
    }
    memset(path, 'p', sizeof(path) - 1);
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    HOLDS(setenv("NOTIFY_SOCKET", path, 1) == 0);
    HOLDS(service_take(&s, &e) == ERR_INVALID);
    HOLDS(setenv("NOTIFY_SOCKET", "", 1) == 0);
    HOLDS(service_take(&s, &e) == 0 && s.notify_size == 0);
}

static void malformed_notify_address_is_refused(void **state)
{
    in_child(notify_nonsense_child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_systemd_there_is_nothing),
        cmocka_unit_test(passed_sockets_are_taken_once),
        cmocka_unit_test(sockets_of_another_process_are_left_alone),
        cmocka_unit_test(sockets_that_cannot_be_served_are_refused_by_number),
        cmocka_unit_test(readiness_is_told_on_paths_and_abstract_addresses),
        cmocka_unit_test(malformed_notify_address_is_refused),
    };

    (void)setenv("LC_ALL", "C", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
