/* What the engine's tests share: a directory of their own, a loop, and waiting without polling. Include after
 * cmocka. */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uv.h>

#include "proto/base/file.h"
#include "proto/base/mem.h"

#define TESTING_DEADLINE_MS 60000 /* generous: the machine may be busy */

/* A new directory below /tmp; 0 for `ret_fd` when it is not wanted. */
static inline char *testing_dir(const char *what, int *ret_fd)
{
    char *path = mem_printf("/tmp/container-%s-XXXXXX", what);

    assert_non_null(mkdtemp(path));
    if (ret_fd)
        assert_int_equal(dir_open(path, ret_fd, NULL), 0);
    return path;
}

/* Remove it with everything in it, and the path. */
static inline void testing_dir_remove(char *path)
{
    struct err e = {0};
    int fd = -1;

    assert_int_equal(dir_open("/tmp", &fd, NULL), 0);
    if (tree_remove(fd, strrchr(path, '/') + 1, &e) < 0)
        fail_msg("%s", e.text);
    close(fd);
    free(path);
}

static inline void testing_set_true(void *ctx)
{
    *(bool *)ctx = true;
}

static inline void testing_on_deadline(uv_timer_t *timer)
{
    fail_msg("nothing happened for %d ms", TESTING_DEADLINE_MS);
}

/* A turn of the loop runs what is due, then waits: when the flag was set by the former, nothing is to be waited
 * for.
 */
static inline void testing_on_prepare(uv_prepare_t *prepare)
{
    if (*(const bool *)prepare->data)
        uv_stop(prepare->loop);
}

static inline void testing_run_until(uv_loop_t *loop, const bool *flag)
{
    uv_timer_t deadline;
    uv_prepare_t prepare;

    uv_timer_init(loop, &deadline);
    uv_timer_start(&deadline, testing_on_deadline, TESTING_DEADLINE_MS, 0);
    uv_prepare_init(loop, &prepare);
    prepare.data = (void *)flag;
    uv_prepare_start(&prepare, testing_on_prepare);
    while (!*flag)
        uv_run(loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&prepare, NULL);
    uv_close((uv_handle_t *)&deadline, NULL);
    uv_run(loop, UV_RUN_NOWAIT);
}

/* Everything on the loop must have been closed. */
static inline void testing_loop_close(uv_loop_t *loop)
{
    uv_run(loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(loop), 0);
}
