/* Attached clients: what they type arrives, what is written comes back whole, and neither holds the other up. With
 * the whole engine; by the stock client where that is what users do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/container/container.h"
#include "tests/support/rigged.h"

#define UPGRADE "Connection: Upgrade\r\nUpgrade: tcp\r\n"

/* --- raw connections
 * ----------------------------------------------------------------------------------------------
 */

/* Attach; the head of the answer is read. */
static void attach(struct web_client *c, const char *name, const char *query)
{
    web_send(
        c, &web,
        arena_printf(&arena, "POST /containers/%s/attach?%s HTTP/1.1\r\nHost: x\r\n" UPGRADE "\r\n", name, query));
    char *end = NULL;
    while (!end) {
        assert_true(web_turn(c));
        end = c->in.length || c->status ? strstr(c->head, "HTTP/1.1 ") : NULL;
    }
    assert_int_equal(c->status, 101);
}

/* All that comes, without frames, to the end of the connection. */
static void rest(struct web_client *c, struct buf *text)
{
    while (web_turn(c))
        ;
    while (c->in.length >= 8) {
        const unsigned char *head = (const unsigned char *)buf_bytes(&c->in);
        size_t size = (size_t)head[4] << 24 | (size_t)head[5] << 16 | (size_t)head[6] << 8 | head[7];

        assert_true(c->in.length >= 8 + size);
        buf_append(text, head + 8, size);
        buf_consume(&c->in, 8 + size);
    }
}

static void type(struct web_client *c, const void *data, size_t size)
{
    for (size_t sent = 0; sent < size;) {
        ssize_t n = send(c->fd, (const char *)data + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0)
            sent += (size_t)n;
        (void)web_turn(c);
    }
}

#define CAT "\"OpenStdin\":true,\"StdinOnce\":true,\"AttachStdout\":true,\"Cmd\":[\"cat\"]"

static void every_byte_goes_there_and_back(void **state)
{
    size_t size = 3 << 20;
    struct web_client c;
    AUTO_BUF struct buf back = {0};

    need_machine();
    AUTO_FREE
    unsigned char *data = mem_alloc(size);
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)(i * 7919 >> (i % 5));
    create("c1", CAT, "");
    attach(&c, "c1", "stream=1&stdin=1&stdout=1");
    start("c1");
    type(&c, data, size);
    assert_int_equal(shutdown(c.fd, SHUT_WR), 0); /* its input ends, and so does it */
    rest(&c, &back);
    assert_int_equal(back.length, size);
    assert_memory_equal(buf_bytes(&back), data, size);
    assert_int_equal(wait_exit("c1"), 0);
    web_fini(&c);
}

static void what_is_typed_before_it_runs_waits(void **state)
{
    struct web_client c;
    AUTO_BUF struct buf back = {0};

    need_machine();
    create("c1", CAT, "");
    attach(&c, "c1", "stream=1&stdin=1&stdout=1");
    type(&c, "early\n", 6);
    assert_int_equal(shutdown(c.fd, SHUT_WR), 0);
    pass_ms(50);
    start("c1");
    rest(&c, &back);
    assert_string_equal(buf_str(&back), "early\n");
    web_fini(&c);
}

static void input_ends_when_its_one_client_leaves(void **state)
{
    struct web_client c;

    need_machine();
    create("before", CAT, "");
    attach(&c, "before", "stream=1&stdin=1&stdout=1");
    web_fini(&c);
    pass_ms(50);
    start("before");
    assert_int_equal(wait_exit("before"), 0);
    create("meanwhile", CAT, "");
    attach(&c, "meanwhile", "stream=1&stdin=1&stdout=1");
    start("meanwhile");
    web_fini(&c);
    assert_int_equal(wait_exit("meanwhile"), 0);
    start("meanwhile"); /* the next run has an input again */
    pass_ms(100);
    assert_string_equal(inspected("meanwhile", "State.Status"), "running");
    wants(204, "DELETE", "/containers/meanwhile?force=1", NULL);
}

static void client_that_does_not_read_holds_nobody_up(void **state)
{
    struct web_client c;
    AUTO_BUF struct buf back = {0};

    need_machine();
    create("c1", "\"AttachStdout\":true,\"Cmd\":[\"sh\",\"-c\",\"yes 0123456789abcde | head -c 16m\"]",
           "\"AutoRemove\":true");
    attach(&c, "c1", "stream=1&stdout=1");
    start("c1");
    json_t *answer;
    int status;
    while ((status = ask("GET", "/containers/c1/json", NULL, &answer)) == 200) { /* nobody has read anything yet */
        json_decref(answer);
        pass_ms(20);
    }
    json_decref(answer);
    assert_int_equal(status, 404);
    rest(&c, &back); /* it is gone, and all it wrote is here */
    assert_int_equal(back.length, 16 << 20);
    web_fini(&c);
    while (engine_rig_entries(arena_printf(&arena, "%s/containers", rig.data)) > 0)
        uv_run(&rig.loop, UV_RUN_NOWAIT);
}

static void keys_let_go_of_a_terminal(void **state)
{
    struct web_client c;
    const struct event *event;
    unsigned attached = 0, detached = 0;

    need_machine();
    create("c1", "\"OpenStdin\":true,\"Tty\":true,\"Cmd\":[\"cat\"]", "");
    start("c1");
    attach(&c, "c1", "stream=1&stdin=1&stdout=1&detachKeys=ctrl-x,y");
    type(&c, "some\n\x18", 6);
    type(&c, "y", 1);
    while (web_turn(&c))
        ;
    assert_string_equal(inspected("c1", "State.Status"), "running");
    list_each (event, &rig.engine->events.kept, link) {
        attached += strcmp(event->action, "attach") == 0;
        detached += strcmp(event->action, "detach") == 0;
    }
    assert_int_equal(attached, 1);
    assert_int_equal(detached, 1);
    web_fini(&c);
    wants(200, "POST", "/containers/c1/resize?h=24&w=80", NULL);
    wants(204, "DELETE", "/containers/c1?force=1", NULL);
}

static void what_cannot_be_is_refused(void **state)
{
    need_machine();
    wants(404, "POST", "/containers/nobody/attach?stream=1", NULL);
    create("c1", "\"Cmd\":[\"sleep\",\"1000\"]", "");
    wants(400, "POST", "/containers/c1/attach?stream=1&detachKeys=ctrl-", NULL);
    wants(409, "POST", "/containers/c1/resize?h=1&w=1", NULL);
    wants(400, "POST", "/containers/c1/resize?h=1", NULL);
    wants(400, "POST", "/containers/c1/resize?h=1&w=70000", NULL);
    start("c1");
    wants(204, "POST", "/containers/c1/pause", NULL);
    wants(409, "POST", "/containers/c1/attach?stream=1", NULL);
    wants(204, "DELETE", "/containers/c1?force=1", NULL);
    create("silent", "\"Cmd\":[\"true\"]", "\"LogConfig\":{\"Type\":\"none\"}");
    wants(501, "POST", "/containers/silent/attach?stream=1", NULL);
}

/* --- the stock client
 * ---------------------------------------------------------------------------------------------
 */

static void need_client(void)
{
    need_machine();
    if (!has_client())
        skip();
}

static void run_shows_both_streams_and_has_its_code(void **state)
{
    need_client();
    assert_string_equal(
        client("docker run --network none box:1 sh -c 'echo out; echo err >&2; exit 7' 2>/dev/null", 7), "out\n");
    assert_string_equal(client("docker run --network none box:1 sh -c 'echo out; echo err >&2' >/dev/null", 0),
                        "err\n");
    assert_string_equal(client("docker run --rm --network none box:1 echo gone", 0), "gone\n");
    assert_string_equal(client("docker ps -aq --filter status=created", 0), "");
    says(client("docker run --rm --network none box:1 /nothing", 127), "executable file not found");
    says(client("docker run --rm --network none box:1 /etc/text", 126), "permission denied");
    /* The client looks once more whether it runs after it has attached: only then it may end. */
    assert_string_equal(
        client(
            "mkdir $HOME/go; docker run -d --name back -v $HOME/go:/go --network none box:1 sh -c "
            "'while [ ! -e /go/now ]; do sleep 0.05; done; echo late; while [ ! -e /go/end ]; do sleep 0.05; done' "
            ">/dev/null; docker attach back >$HOME/late & until docker events --since 1m --until $(date +%s.%N) "
            "-f event=attach | grep -q .; do sleep 0.1; done; touch $HOME/go/now; "
            "until grep -q late $HOME/late; do sleep 0.1; done; touch $HOME/go/end; wait; cat $HOME/late",
            0),
        "late\n");
    assert_string_equal(client("docker start -a back", 0), "late\n"); /* and not what it wrote the first time */
    assert_string_equal(client("docker logs back", 0), "late\nlate\n");
}

static void run_takes_input(void **state)
{
    need_client();
    assert_string_equal(client("printf 'a\\nb' | docker run --rm -i --network none box:1 cat", 0), "a\nb");
    /* Bytes that are no text, and lines longer than an entry of the log, come back as they were; from the log too.
     */
    assert_string_equal(client("head -c 300000 /dev/urandom >$HOME/in; head -c 100000 /dev/zero >>$HOME/in; "
                               "docker run --name whole -i --network none box:1 cat <$HOME/in >$HOME/out; "
                               "cmp $HOME/in $HOME/out && docker logs whole | cmp - $HOME/in && echo same",
                               0),
                        "same\n");
    says(client(
             "docker create -i --name again --network none box:1 cat >/dev/null; echo x | docker start -ai again; "
             "echo y | docker start -ai again",
             0),
         "x\ny\n");
}

/* The beginning of a shell script that waits until the terminal of that container was given its size. */
#define SIZED(name)                                                                             \
    "(until docker events --since 1m --until $(date +%s.%N) -f event=resize -f container=" name \
    " | grep -q .; do "                                                                         \
    "sleep 0.1; done"

static void terminal_is_one(void **state)
{
    need_client();
    if (access("/usr/bin/script", X_OK) < 0) {
        print_message("needs script\n");
        skip();
    }
    /* The client tells the size of its terminal once it has made that raw: then somebody types. A prompt is seen
     * before its line is complete, what is typed is echoed, and the exit code comes back. */
    const char *text = client(
        SIZED("seen") "; echo 'echo $((40+2)); until [ \"$(stty size)\" != \"0 0\" ]; do sleep 0.1; done; stty "
                      "size; exit 5'; sleep 1) | script -qec 'stty rows 33 cols 99; docker run --rm -it --name "
                      "seen --network none box:1 sh' /dev/null",
        5);
    says(text, "/ # ");
    says(text, "echo $((40+2))");
    says(text, "\n42\r\n");
    says(text, "33 99\r\n");
    /* The keys that let go of it leave it running. */
    says(client(SIZED("kept") "; printf '\\020\\021'; sleep 1) | script -qec 'stty rows 20 cols 80; docker run "
                              "--name kept -it --network none "
                              "box:1 sh' /dev/null; docker inspect -f '{{.State.Status}}' kept; docker rm -f kept",
                0),
         "running");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_byte_goes_there_and_back),
        TEST(what_is_typed_before_it_runs_waits),
        TEST(input_ends_when_its_one_client_leaves),
        TEST(client_that_does_not_read_holds_nobody_up),
        TEST(keys_let_go_of_a_terminal),
        TEST(what_cannot_be_is_refused),
        TEST(run_shows_both_streams_and_has_its_code),
        TEST(run_takes_input),
        TEST(terminal_is_one),
    };

    missing = engine_rig_missing();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
