/* The reader of a node's identity file, locked or not. The input is a message whose checksum fits, since a damaged
 * one is refused before anything is read; what is read is then unlocked with a key. Whatever comes, an identity
 * that opens is one that fits together. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/identity.h"
#include "proto/base/buf.h"
#include "proto/base/file.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t key[MANAGER_LOCK_KEY] = {1};
static char dir[] = "/tmp/identity-fuzz-XXXXXX";
static int swarm_dir = -1;

static void remove_all(void)
{
    (void)tree_remove(AT_FDCWD, dir, NULL); /* a test's leftovers */
}

static void open_dir(void)
{
    if (!mkdtemp(dir))
        abort();
    atexit(remove_all);
    AUTO_FREE
    char *path = mem_printf("%s/swarm", dir);
    if (dir_make(path, 0700, NULL) < 0 || dir_open(path, &swarm_dir, NULL) < 0)
        abort();
}

static void try_to_unlock(const Identity *identity)
{
    Identity *whole = NULL;
    struct err e;

    if (identity_unlock(identity, key, &whole, &e) < 0) {
        if (whole || !e.code)
            abort();
        return;
    }
    if (!*whole->key_pem || whole->data_key.len != 32 || whole->has_sealed)
        abort();
    identity_wipe(whole);
    identity__free_unpacked(whole, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct {
        char magic[8];
        uint32_t version, size, crc;
    } head = {.magic = {'S', 'H', 'O', 'A', 'L', 'I', 'D', '1'}};
    AUTO_BUF struct buf file = {0};
    Identity *identity = NULL;
    struct err e;

    if (size < 1)
        return 0;
    if (swarm_dir < 0)
        open_dir();
    head.version = data[0] & 3;
    head.size = (uint32_t)(size - 1);
    head.crc = crc32c(0, data + 1, size - 1);
    buf_append(&file, &head, sizeof(head));
    buf_append(&file, data + 1, size - 1);
    if (file_replace(swarm_dir, "identity", 0600, buf_bytes(&file), file.length, false, NULL) < 0)
        abort();
    if (identity_read(dir, &identity, &e) < 0)
        return 0;
    if (identity->has_sealed)
        try_to_unlock(identity);
    identity_wipe(identity);
    identity__free_unpacked(identity, NULL);
    return 0;
}
