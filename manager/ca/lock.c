/* The unlock key (manager.h): its text, and what it wraps.
 *
 * A random key needs no stretching. Each wrapping derives a key of its own from it and a fresh salt (HKDF, as every
 * sealed file does), so that one nonce, zero, serves each exactly once; the cipher's tag tells a wrong key, in
 * constant time. What is wrapped is bound to the node and the cluster it belongs to. */
#include <stdio.h>
#include <string.h>

#include "manager/manager.h"
#include "manager/store/seal.h"
#include "proto/base/base64.h"
#include "proto/base/ident.h"
#include "proto/base/mem.h"

#define PREFIX        "SWMKEY-1-"
#define PREFIX_LENGTH 9
#define DIGITS        43 /* of 32 bytes in base64, without the padding */

_Static_assert(MANAGER_LOCK_KEY == SEAL_KEY && MANAGER_LOCK_SALT == SEAL_SALT && MANAGER_LOCK_MORE == SEAL_TAG &&
                   MANAGER_LOCK_TEXT == PREFIX_LENGTH + DIGITS,
               "manager.h says what sealing needs");

void manager_lock_format(const uint8_t key[MANAGER_LOCK_KEY], char ret[MANAGER_LOCK_TEXT + 1])
{
    struct buf text = {0};

    base64_encode(&text, key, MANAGER_LOCK_KEY);
    memcpy(ret, PREFIX, PREFIX_LENGTH);
    memcpy(ret + PREFIX_LENGTH, buf_bytes(&text), DIGITS);
    ret[MANAGER_LOCK_TEXT] = '\0';
    mem_wipe(text.data, text.capacity);
    buf_fini(&text);
}

int manager_lock_parse(const char *text, uint8_t ret[MANAGER_LOCK_KEY], struct err *e)
{
    char digits[DIGITS + 2];
    uint8_t key[(DIGITS + 1) / 4 * 3], again[MANAGER_LOCK_TEXT + 1];
    size_t size = 0;
    int rc = 0;

    if (strncmp(text, PREFIX, PREFIX_LENGTH) != 0)
        return err_set(e, ERR_INVALID, "invalid unlock key: it does not begin with " PREFIX);
    if (strnlen(text, MANAGER_LOCK_TEXT + 1) != MANAGER_LOCK_TEXT)
        return err_set(e, ERR_INVALID, "invalid unlock key: it should have %d characters", MANAGER_LOCK_TEXT);
    memcpy(digits, text + PREFIX_LENGTH, DIGITS);
    digits[DIGITS] = '=';
    digits[DIGITS + 1] = '\0';
    if (!base64_decode(digits, DIGITS + 1, key, &size) || size != MANAGER_LOCK_KEY)
        rc = err_set(e, ERR_INVALID, "invalid unlock key: what follows " PREFIX " is no base64");
    if (rc == 0) {
        /* One key has one text: the last digit has two bits to spare. */
        manager_lock_format(key, (char *)again);
        if (memcmp(again, text, MANAGER_LOCK_TEXT) != 0)
            rc = err_set(e, ERR_INVALID, "invalid unlock key: its last character is not one that a key ends with");
    }
    if (rc == 0)
        memcpy(ret, key, MANAGER_LOCK_KEY);
    mem_wipe(digits, sizeof(digits));
    mem_wipe(key, sizeof(key));
    mem_wipe(again, sizeof(again));
    return rc;
}

/* --- wrapping ------------------------------------------------------------------------------------------ */

/* The key of this wrapping, and the place that it is bound to; NULL: the ids are none. */
static struct seal *seal_of(const uint8_t key[MANAGER_LOCK_KEY], const uint8_t salt[MANAGER_LOCK_SALT],
                            const char *cluster_id, const char *node_id, uint8_t ret_node[IDENT_BYTES],
                            struct err *e)
{
    uint8_t cluster[IDENT_BYTES];

    if (ident_parse(cluster_id, cluster) && ident_parse(node_id, ret_node))
        return seal_new(key, salt, "identity", cluster);
    err_set(e, ERR_INVALID, "malformed id of a node or a cluster");
    return NULL;
}

int manager_lock_wrap(const uint8_t key[MANAGER_LOCK_KEY], const uint8_t salt[MANAGER_LOCK_SALT],
                      const char *cluster_id, const char *node_id, const void *data, size_t size, uint8_t *out,
                      struct err *e)
{
    uint8_t node[IDENT_BYTES];
    struct seal *s = seal_of(key, salt, cluster_id, node_id, node, e);

    if (!s)
        return ERR_INVALID;
    seal_close(s, 0, 0, node, sizeof(node), data, size, out);
    seal_free(s);
    return 0;
}

int manager_lock_unwrap(const uint8_t key[MANAGER_LOCK_KEY], const uint8_t salt[MANAGER_LOCK_SALT],
                        const char *cluster_id, const char *node_id, const uint8_t *data, size_t size, uint8_t *out,
                        struct err *e)
{
    uint8_t node[IDENT_BYTES];
    struct seal *s = seal_of(key, salt, cluster_id, node_id, node, e);

    if (!s)
        return ERR_INVALID;
    bool good = seal_open(s, 0, 0, node, sizeof(node), data, size, out);
    seal_free(s);
    return good ? 0 : err_set(e, ERR_UNAUTHORIZED, "invalid key provided");
}
