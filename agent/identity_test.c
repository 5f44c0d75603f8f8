/* An identity comes back as it was written, and a damaged, foreign or half-written one is refused by name. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "agent/identity.h"
#include "manager/manager.h"
#include "proto/base/buf.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"

static char dir[] = "/tmp/identity-test-XXXXXX";
static struct manager_founding founding;
static struct err outcome;

static Identity an_identity(void)
{
    Identity identity = IDENTITY__INIT;

    identity.node_id = founding.node_id;
    identity.cluster_id = founding.cluster_id;
    identity.role = NODE_ROLE__MANAGER;
    identity.certificate_pem = founding.certificate_pem;
    identity.key_pem = founding.key_pem;
    identity.root_pem = founding.root_pem;
    identity.has_data_key = true;
    identity.data_key = (ProtobufCBinaryData){sizeof(founding.data_key), founding.data_key};
    return identity;
}

static void on_done(void *ctx, const struct err *e)
{
    outcome = *e;
}

static void write_identity(const Identity *identity)
{
    uv_loop_t loop;

    assert_int_equal(uv_loop_init(&loop), 0);
    outcome.code = ERR_INTERNAL;
    assert_int_equal(identity_write(&loop, dir, identity, on_done, NULL, NULL), 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(outcome.code, 0);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static int setup(void **state)
{
    return mkdtemp(dir) ? manager_found(1790000000000, 7776000000, &founding, NULL) : -1;
}

static int teardown(void **state)
{
    manager_founding_free(&founding);
    return tree_remove(AT_FDCWD, dir, NULL);
}

static void written_identity_is_read_back(void **state)
{
    Identity identity = an_identity(), *back;
    AUTO_FREE
    char *path = mem_printf("%s/swarm/identity", dir);
    struct stat st;

    write_identity(&identity);
    assert_int_equal(identity_read(dir, &back, NULL), 0);
    assert_string_equal(back->node_id, founding.node_id);
    assert_string_equal(back->key_pem, founding.key_pem);
    assert_memory_equal(back->data_key.data, founding.data_key, 32);
    identity__free_unpacked(back, NULL);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void every_flipped_byte_is_refused(void **state)
{
    Identity identity = an_identity(), *back;
    AUTO_FREE
    char *path = mem_printf("%s/swarm", dir);
    AUTO_BUF struct buf bytes = {0};
    AUTO_CLOSE
    int fd = -1;
    struct err e;

    write_identity(&identity);
    assert_int_equal(dir_open(path, &fd, NULL), 0);
    assert_int_equal(file_read(fd, "identity", 1 << 20, &bytes, NULL), 0);
    for (size_t i = 0; i < bytes.length; i++) {
        buf_bytes(&bytes)[i] ^= 1;
        assert_int_equal(file_replace(fd, "identity", 0600, buf_bytes(&bytes), bytes.length, false, NULL), 0);
        assert_true(identity_read(dir, &back, &e) < 0);
        buf_bytes(&bytes)[i] ^= 1;
    }
    for (size_t length = 0; length < bytes.length; length += 97) {
        assert_int_equal(file_replace(fd, "identity", 0600, buf_bytes(&bytes), length, false, NULL), 0);
        assert_true(identity_read(dir, &back, &e) < 0);
        assert_non_null(strstr(e.text, "identity"));
    }
}

static void identity_that_does_not_fit_together_is_not_written(void **state)
{
    struct manager_founding other;
    Identity identity = an_identity();
    uv_loop_t loop;

    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(manager_found(1790000000000, 7776000000, &other, NULL), 0);
    identity.key_pem = other.key_pem;
    assert_int_equal(identity_write(&loop, dir, &identity, on_done, NULL, NULL), ERR_INVALID);
    identity = an_identity();
    identity.root_pem = other.root_pem;
    assert_int_equal(identity_write(&loop, dir, &identity, on_done, NULL, NULL), ERR_INVALID);
    identity = an_identity();
    identity.node_id = other.node_id;
    assert_int_equal(identity_write(&loop, dir, &identity, on_done, NULL, NULL), ERR_CORRUPT);
    manager_founding_free(&other);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void forgotten_identity_is_not_found(void **state)
{
    Identity identity = an_identity(), *back;
    uv_loop_t loop;

    write_identity(&identity);
    assert_int_equal(uv_loop_init(&loop), 0);
    for (int i = 0; i < 2; i++) { /* also when there is nothing to forget */
        outcome.code = ERR_INTERNAL;
        assert_int_equal(identity_forget(&loop, dir, on_done, NULL, NULL), 0);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(outcome.code, 0);
        assert_int_equal(identity_read(dir, &back, NULL), ERR_NOT_FOUND);
    }
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_identity_is_read_back),
        cmocka_unit_test(every_flipped_byte_is_refused),
        cmocka_unit_test(identity_that_does_not_fit_together_is_not_written),
        cmocka_unit_test(forgotten_identity_is_not_found),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
