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
#include "proto/base/hash.h"
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

static void flip_every_byte(const Identity *identity)
{
    Identity *back;
    AUTO_FREE
    char *path = mem_printf("%s/swarm", dir);
    AUTO_BUF struct buf bytes = {0};
    AUTO_CLOSE
    int fd = -1;
    struct err e;

    write_identity(identity);
    assert_int_equal(dir_open(path, &fd, NULL), 0);
    assert_int_equal(file_read(fd, "identity", 1 << 20, &bytes, NULL), 0);
    for (size_t i = 0; i < bytes.length; i++) {
        buf_bytes(&bytes)[i] ^= 1;
        assert_int_equal(file_replace(fd, "identity", 0600, buf_bytes(&bytes), bytes.length, false, NULL), 0);
        assert_true(identity_read(dir, &back, &e) < 0);
        buf_bytes(&bytes)[i] ^= 1;
    }
    for (size_t length = 0; length < bytes.length; length++) {
        assert_int_equal(file_replace(fd, "identity", 0600, buf_bytes(&bytes), length, false, NULL), 0);
        assert_true(identity_read(dir, &back, &e) < 0);
        assert_non_null(strstr(e.text, "identity"));
    }
}

static void every_flipped_or_missing_byte_is_refused(void **state)
{
    uint8_t key[MANAGER_LOCK_KEY] = {1};
    Identity identity = an_identity();

    flip_every_byte(&identity);
    identity.has_lock_key = true;
    identity.lock_key = (ProtobufCBinaryData){sizeof(key), key};
    flip_every_byte(&identity);
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

/* --- locked ------------------------------------------------------------------------------------------ */

static Identity a_locked_identity(uint8_t key[MANAGER_LOCK_KEY])
{
    Identity identity = an_identity();

    identity.has_lock_key = true;
    identity.lock_key = (ProtobufCBinaryData){MANAGER_LOCK_KEY, key};
    identity.has_lock_version = true;
    identity.lock_version = 17;
    return identity;
}

static void read_file(struct buf *bytes)
{
    AUTO_FREE
    char *path = mem_printf("%s/swarm/identity", dir);

    assert_int_equal(file_read(AT_FDCWD, path, 1 << 20, bytes, NULL), 0);
}

static bool file_has(const void *data, size_t size)
{
    AUTO_BUF struct buf bytes = {0};

    read_file(&bytes);
    return memmem(buf_bytes(&bytes), bytes.length, data, size) != NULL;
}

static void assert_unlocks(const Identity *locked, const uint8_t *key)
{
    Identity *whole;
    struct err e;

    if (identity_unlock(locked, key, &whole, &e) < 0)
        fail_msg("%s", e.text);
    assert_string_equal(whole->node_id, founding.node_id);
    assert_string_equal(whole->key_pem, founding.key_pem);
    assert_memory_equal(whole->data_key.data, founding.data_key, 32);
    assert_memory_equal(whole->lock_key.data, key, MANAGER_LOCK_KEY);
    assert_int_equal(whole->lock_version, 17);
    assert_false(whole->has_sealed || whole->has_sealed_salt);
    identity_wipe(whole);
    identity__free_unpacked(whole, NULL);
}

static void locked_identity_holds_no_key_and_opens_with_its_own(void **state)
{
    uint8_t key[MANAGER_LOCK_KEY] = "the cluster's unlock key, 32 byt";
    Identity identity = a_locked_identity(key), *back, *whole = NULL;
    const char *secret = strchr(founding.key_pem, '\n') + 1; /* behind the PEM's first line */
    struct err e;

    write_identity(&identity);
    assert_false(file_has(key, 8) || file_has(key + 24, 8));
    assert_false(file_has(founding.data_key, 16) || file_has(founding.data_key + 16, 16));
    assert_false(file_has(secret, 16) || file_has("PRIVATE KEY", 11));
    assert_int_equal(identity_read(dir, &back, NULL), 0);
    assert_true(back->has_sealed);
    assert_string_equal(back->key_pem, "");
    assert_false(back->has_data_key || back->has_lock_key);
    assert_string_equal(back->certificate_pem, founding.certificate_pem); /* the rest is there */
    assert_unlocks(back, key);
    key[31] ^= 1;
    assert_int_equal(identity_unlock(back, key, &whole, &e), ERR_UNAUTHORIZED);
    assert_null(whole);
    identity__free_unpacked(back, NULL);
}

static void two_writes_of_one_identity_are_sealed_differently(void **state)
{
    uint8_t key[MANAGER_LOCK_KEY] = {1};
    Identity identity = a_locked_identity(key), *first, *second;

    write_identity(&identity);
    assert_int_equal(identity_read(dir, &first, NULL), 0);
    write_identity(&identity);
    assert_int_equal(identity_read(dir, &second, NULL), 0);
    assert_memory_not_equal(first->sealed_salt.data, second->sealed_salt.data, MANAGER_LOCK_SALT);
    assert_memory_not_equal(first->sealed.data, second->sealed.data, first->sealed.len);
    identity__free_unpacked(first, NULL);
    identity__free_unpacked(second, NULL);
}

static void worker_is_never_locked(void **state)
{
    uint8_t key[MANAGER_LOCK_KEY] = "the cluster's unlock key, 32 byt";
    Identity identity = a_locked_identity(key), *back;

    identity.role = NODE_ROLE__WORKER; /* demoted */
    write_identity(&identity);
    assert_false(file_has(key, 8));
    assert_int_equal(identity_read(dir, &back, NULL), 0);
    assert_false(back->has_sealed);
    assert_string_equal(back->key_pem, founding.key_pem);
    assert_false(back->has_lock_key);
    identity__free_unpacked(back, NULL);
}

static void locked_file_that_was_changed_does_not_open(void **state)
{
    uint8_t key[MANAGER_LOCK_KEY] = {1};
    Identity identity = a_locked_identity(key), *back, *whole = NULL;
    struct err e;

    write_identity(&identity);
    assert_int_equal(identity_read(dir, &back, NULL), 0);
    for (size_t i = 0; i < back->sealed.len; i++) { /* whoever changes it can make the checksum fit */
        back->sealed.data[i] ^= 4;
        assert_int_equal(identity_unlock(back, key, &whole, &e), ERR_UNAUTHORIZED);
        back->sealed.data[i] ^= 4;
    }
    for (size_t i = 0; i < back->sealed_salt.len; i++) {
        back->sealed_salt.data[i] ^= 4;
        assert_int_equal(identity_unlock(back, key, &whole, &e), ERR_UNAUTHORIZED);
        back->sealed_salt.data[i] ^= 4;
    }
    char *node = back->node_id;
    back->node_id = back->cluster_id;
    assert_int_equal(identity_unlock(back, key, &whole, &e), ERR_UNAUTHORIZED);
    back->node_id = node;
    assert_unlocks(back, key);
    identity__free_unpacked(back, NULL);
}

static void locked_file_that_makes_no_sense_is_refused(void **state)
{
    static const struct {
        const char *why;
        size_t sealed, salt;
        bool has_key, is_worker;
        uint32_t version;
    } cases[] = {
        {"what is sealed in it has 16 bytes", 16, 16, false, false, 2},
        {"a salt of 15", 40, 15, false, false, 2},
        {"not as a manager's is", 40, 16, true, false, 2},
        {"not as a manager's is", 40, 16, false, true, 2},
        {"locked in one place and not in another", 40, 16, false, false, 1},
        {"locked in one place and not in another", 0, 0, true, false, 2},
        {"written by another version of shoal", 40, 16, false, false, 3},
    };
    uint8_t sealed[40] = {0};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct {
            char magic[8];
            uint32_t version, size, crc;
        } head = {.magic = {'S', 'H', 'O', 'A', 'L', 'I', 'D', '1'}, .version = cases[i].version};
        Identity identity = an_identity(), *back = NULL;
        AUTO_BUF struct buf bytes = {0};
        AUTO_CLOSE
        int fd = -1;
        struct err e;

        identity.role = cases[i].is_worker ? NODE_ROLE__WORKER : NODE_ROLE__MANAGER;
        identity.has_data_key = cases[i].has_key;
        identity.key_pem = cases[i].has_key ? founding.key_pem : (char *)"";
        identity.has_sealed = identity.has_sealed_salt = cases[i].sealed > 0;
        identity.sealed = (ProtobufCBinaryData){cases[i].sealed, sealed};
        identity.sealed_salt = (ProtobufCBinaryData){cases[i].salt, sealed};
        head.size = (uint32_t)identity__get_packed_size(&identity);
        buf_append(&bytes, &head, sizeof(head));
        identity__pack(&identity, (uint8_t *)buf_reserve(&bytes, head.size));
        buf_added(&bytes, head.size);
        head.crc = crc32c(0, buf_bytes(&bytes) + sizeof(head), head.size);
        memcpy(buf_bytes(&bytes), &head, sizeof(head));
        AUTO_FREE
        char *path = mem_printf("%s/swarm", dir);
        assert_int_equal(dir_open(path, &fd, NULL), 0);
        assert_int_equal(file_replace(fd, "identity", 0600, buf_bytes(&bytes), bytes.length, false, NULL), 0);
        assert_true(identity_read(dir, &back, &e) < 0);
        if (!strstr(e.text, cases[i].why))
            fail_msg("case %zu: %s", i, e.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_identity_is_read_back),
        cmocka_unit_test(every_flipped_or_missing_byte_is_refused),
        cmocka_unit_test(locked_identity_holds_no_key_and_opens_with_its_own),
        cmocka_unit_test(two_writes_of_one_identity_are_sealed_differently),
        cmocka_unit_test(worker_is_never_locked),
        cmocka_unit_test(locked_file_that_was_changed_does_not_open),
        cmocka_unit_test(locked_file_that_makes_no_sense_is_refused),
        cmocka_unit_test(identity_that_does_not_fit_together_is_not_written),
        cmocka_unit_test(forgotten_identity_is_not_found),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
