/* See fake_node.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/mem.h"
#include "tests/support/fake_manager.h"
#include "tests/support/fake_node.h"
#include "tests/support/fake_session.h"
#include "tests/support/job.h"

struct web web;
static struct mailbox box;
struct fake_world *world;
struct engine *engine;
struct swarm *swarm;
struct front *front;
static struct entropy_seeded entropy;
struct client client;
char *dir;
static bool closed, box_closed;
unsigned fatals;
int64_t wall_shift_ms;
static char status_line[64];

static int64_t fake_mono_us(struct clock *c)
{
    return clock_mono_us(clock_real());
}

static int64_t fake_wall_ms(struct clock *c)
{
    return clock_wall_ms(clock_real()) + wall_shift_ms;
}

static struct clock fake_clock = {fake_mono_us, fake_wall_ms};

static void on_fatal(void *ctx, const struct err *e)
{
    fatals++;
}

static void on_closed(void *ctx)
{
    closed = true;
}

static void on_box_closed(struct mailbox *m)
{
    box_closed = true;
}

void open_node(void)
{
    struct swarm_config config = {.loop = &web.loop,
                                  .engine = engine,
                                  .mailbox = &box,
                                  .clock = &fake_clock,
                                  .entropy = &entropy.base,
                                  .data_dir = dir,
                                  .on_fatal = on_fatal};
    const char *urls[] = {web.url};
    struct front_config door = {
        .loop = &web.loop, .engine = engine, .urls = urls, .url_count = 1, .group = (gid_t)-1};
    struct err e;

    swarm = swarm_open(&config);
    door.swarm = swarm;
    swarm_engine_ready(swarm);
    if (front_open(&door, &front, &e) < 0)
        fail_msg("%s", e.text);
    web_rest(&web, 5);
}

void close_node(void)
{
    closed = false;
    front_close(front, on_closed, NULL);
    web_until(&web, closed);
    closed = false;
    swarm_close(swarm, on_closed, NULL);
    web_until(&web, closed);
    front = NULL;
    swarm = NULL;
}

int fake_node_setup(void **state)
{
    memset(&web, 0, sizeof(web));
    client = (struct client){.fd = -1};
    fatals = 0;
    wall_shift_ms = 0;
    entropy_seeded_init(&entropy, 9);
    fake_session_reset();
    fake_manager_reset();
    world = mem_alloc(sizeof(*world));
    dir = scratch_new("front");
    assert_int_equal(uv_loop_init(&web.loop), 0);
    assert_int_equal(uv_timer_init(&web.loop, &web.tick), 0);
    assert_int_equal(uv_timer_start(&web.tick, web_on_tick, 2, 2), 0);
    (void)snprintf(web.path, sizeof(web.path), "%s/api.sock", dir);
    (void)snprintf(web.url, sizeof(web.url), "unix://%s", web.path);
    assert_int_equal(mailbox_open(&box, &web.loop, NULL), 0);
    engine = fake_engine_new(&web.loop, world);
    fake_world_add_image(world, "web:1");
    open_node();
    return 0;
}

int fake_node_teardown(void **state)
{
    client_close(&client);
    if (front)
        close_node();
    fake_engine_free(engine);
    box_closed = false;
    mailbox_close(&box, on_box_closed);
    web_until(&web, box_closed);
    uv_close((uv_handle_t *)&web.tick, NULL);
    uv_run(&web.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&web.loop), 0);
    fake_manager_reset();
    free(world);
    scratch_remove(dir);
    return 0;
}

void ask(const char *method, const char *path, const char *body)
{
    AUTO_FREE
    char *text = mem_printf("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
                            "X-Registry-Auth: c2VjcmV0\r\nContent-Length: %zu\r\n\r\n%s",
                            method, path, strlen(body), body);

    client_close(&client);
    client_open(&web, &client);
    client_send(&web, &client, text);
}

int answer(void)
{
    web_until(&web, client_ended(&client));
    if (client.got.length < 12)
        fail_msg("no answer");
    (void)snprintf(status_line, sizeof(status_line), "%.12s", buf_str(&client.got));
    return (int)strtol(status_line + 9, NULL, 10);
}

int call(const char *method, const char *path, const char *body)
{
    ask(method, path, body);
    return answer();
}

void assert_answer_has(const char *text)
{
    if (!strstr(buf_str(&client.got), text))
        fail_msg("\"%s\" is not in: %s", text, buf_str(&client.got));
}

const char *info(void)
{
    static struct buf body;
    struct jwrite j = JWRITE_TO(&body);

    buf_clear(&body);
    jwrite_object(&j, NULL);
    swarm_info(swarm, &j);
    jwrite_end(&j);
    return buf_str(&body);
}

void assert_info_has(const char *text)
{
    if (!strstr(info(), text))
        fail_msg("\"%s\" is not in: %s", text, info());
}

void init_swarm(void)
{
    ask("POST", "/swarm/init", INIT_BODY);
    web_until(&web, fake_manager.open);
    fake_manager_ready();
    assert_int_equal(answer(), 200);
    assert_string_equal(swarm_header(swarm), "active/manager");
}

bool swarm_dir_exists(void)
{
    AUTO_FREE
    char *path = mem_printf("%s/swarm", dir);

    return access(path, F_OK) == 0;
}
