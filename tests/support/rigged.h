/* What tests of the whole engine share: real keeper, store and jobs, asked through the API's socket or by the stock
 * client. Include after cmocka; one test program, one rig. */
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <uv.h>

#include "engine/api/web.h"
#include "proto/base/arena.h"
#include "proto/base/file.h"
#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "tests/support/engine.h"

static struct engine_rig rig;
static struct web web;
static struct arena arena;
static const char *missing;

static inline int fresh(void **state)
{
    log_set_level(LOG_LEVEL_WARN);
    arena_init(&arena);
    if (missing)
        return 0;
    engine_rig_open(&rig, 0, 0);
    web = (struct web){.loop = &rig.loop, .engine = rig.engine, .server = rig.server};
    web.socket = arena_printf(&arena, "%s/api.sock", rig.dir);
    return 0;
}

static inline int stale(void **state)
{
    if (!missing)
        engine_rig_close(&rig);
    arena_fini(&arena);
    return 0;
}

static inline void need_machine(void)
{
    if (!missing)
        return;
    print_message("%s\n", missing);
    skip();
}

/* --- asking ----------------------------------------------------------------------------------------------------
 */

static inline int ask(const char *method, const char *path, const char *body, json_t **ret)
{
    return web_ask(&web, method, path, body, ret);
}

static inline void wants(int status, const char *method, const char *path, const char *body)
{
    json_t *answer = NULL;
    int got = ask(method, path, body, &answer);

    if (got != status)
        fail_msg("%s %s: %d %s", method, path, got, json_string_value(json_object_get(answer, "message")));
    json_decref(answer);
}

/* Create from a body without its image; "" for the rest of the members. */
static inline const char *create(const char *name, const char *members, const char *host)
{
    const char *body =
        arena_printf(&arena, "{\"Image\":\"box:1\"%s%s,\"HostConfig\":{\"NetworkMode\":\"none\"%s%s}}",
                     *members ? "," : "", members, *host ? "," : "", host);
    json_t *answer = NULL;
    int status = ask("POST", arena_printf(&arena, "/containers/create?name=%s", name), body, &answer);

    if (status != 201)
        fail_msg("create %s: %d %s", body, status, json_string_value(json_object_get(answer, "message")));
    const char *id = arena_strdup(&arena, json_string_value(json_object_get(answer, "Id")));
    json_decref(answer);
    return id;
}

static inline void start(const char *name)
{
    wants(204, "POST", arena_printf(&arena, "/containers/%s/start", name), NULL);
}

static inline int64_t wait_exit(const char *name)
{
    json_t *answer;

    assert_int_equal(ask("POST", arena_printf(&arena, "/containers/%s/wait", name), NULL, &answer), 200);
    int64_t code = json_integer_value(json_object_get(answer, "StatusCode"));
    json_decref(answer);
    return code;
}

/* What it has written, both streams, without frames. */
static inline const char *output(const char *name)
{
    AUTO_FREE
    char *request = web_request("GET", arena_printf(&arena, "/containers/%s/logs?stdout=1&stderr=1", name), NULL);
    struct web_client c;
    AUTO_BUF struct buf text = {0};

    web_send(&c, &web, request);
    web_await(&c);
    assert_int_equal(c.status, 200);
    while (c.body.length >= 8) {
        const unsigned char *head = (const unsigned char *)buf_bytes(&c.body);
        size_t size = (size_t)head[4] << 24 | (size_t)head[5] << 16 | (size_t)head[6] << 8 | head[7];

        buf_append(&text, head + 8, size);
        buf_consume(&c.body, 8 + size);
    }
    web_fini(&c);
    return arena_strdup(&arena, buf_str(&text));
}

/* Run a shell script in a container to its end: what it wrote. */
static inline const char *run(const char *script, const char *members, const char *host, int64_t code)
{
    static int serial;
    const char *name = arena_printf(&arena, "run%d", serial++);

    create(name, arena_printf(&arena, "\"Cmd\":[\"sh\",\"-c\",\"%s\"]%s%s", script, *members ? "," : "", members),
           host);
    start(name);
    int64_t got = wait_exit(name);
    const char *text = output(name);
    if (got != code)
        fail_msg("%s: exit code %d: %s", script, (int)got, text);
    return text;
}

static inline json_t *inspect(const char *name)
{
    json_t *answer;

    assert_int_equal(ask("GET", arena_printf(&arena, "/containers/%s/json", name), NULL, &answer), 200);
    return answer;
}

static inline const char *inspected(const char *name, const char *path)
{
    json_t *answer = inspect(name);
    json_t *at = web_at(answer, path);
    char *shown = json_is_string(at) ? mem_strdup(json_string_value(at)) : json_dumps(at, JSON_ENCODE_ANY);
    const char *text = arena_strdup(&arena, shown ? shown : "(missing)");

    free(shown);
    json_decref(answer);
    return text;
}

static inline void says(const char *text, const char *expected)
{
    if (!text)
        text = "(nothing)";
    if (!strstr(text, expected))
        fail_msg("\"%s\" does not say \"%s\"", text, expected);
}

static inline void set_true_by_timer(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

/* Turn the loop for so long. */
static inline void pass_ms(uint64_t ms)
{
    bool over = false;
    uv_timer_t timer;

    uv_timer_init(&rig.loop, &timer);
    timer.data = &over;
    uv_timer_start(&timer, set_true_by_timer, ms, 0);
    engine_rig_until(&rig, &over);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&rig.loop, UV_RUN_NOWAIT);
}

/* --- the stock client ------------------------------------------------------------------------------------------
 */

struct process {
    uv_process_t handle;
    bool ended;
    int64_t code;
};

static inline void on_ended(uv_process_t *handle, int64_t code, int number)
{
    struct process *p = container_of(handle, struct process, handle);

    p->code = number ? 128 + number : code;
    p->ended = true;
}

static inline bool has_client(void)
{
    if (access("/usr/local/bin/docker", X_OK) == 0 || access("/usr/bin/docker", X_OK) == 0)
        return true;
    print_message("needs the docker client\n");
    return false;
}

/* Run a shell script with the client pointed at our socket; what it printed. */
static inline const char *client(const char *script, int64_t code)
{
    char *out = arena_printf(&arena, "%s/client.out", rig.dir);
    char *full = arena_printf(&arena, "export DOCKER_HOST=unix://%s HOME=%s\n%s", web.socket, rig.dir, script);
    char *args[] = {(char *)"sh", (char *)"-ec", full, NULL};
    int fd = open(out, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    uv_stdio_container_t stdio[] = {
        {.flags = UV_IGNORE}, {.flags = UV_INHERIT_FD, .data.fd = fd}, {.flags = UV_INHERIT_FD, .data.fd = fd}};
    uv_process_options_t options = {
        .exit_cb = on_ended, .file = "/bin/sh", .args = args, .stdio_count = 3, .stdio = stdio};
    struct process p = {0};
    AUTO_BUF struct buf text = {0};

    assert_int_equal(uv_spawn(&rig.loop, &p.handle, &options), 0);
    close(fd);
    engine_rig_until(&rig, &p.ended);
    uv_close((uv_handle_t *)&p.handle, NULL);
    uv_run(&rig.loop, UV_RUN_NOWAIT);
    assert_int_equal(file_read(AT_FDCWD, out, 1 << 20, &text, NULL), 0);
    const char *copy = arena_strdup(&arena, buf_str(&text));
    if (p.code != code)
        fail_msg("%s: status %d: %s", script, (int)p.code, copy);
    return copy;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh, stale)
