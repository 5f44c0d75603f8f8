/* See identity.h. The file is "SHOALID1", a version, the packed message's length and CRC-32C, then the message.
 *
 * Version 2 is a locked manager's: the message has IdentitySecrets in `sealed` in the place of the keys. What can
 * be read without the unlock key is what a node needs to go on with its tasks and to say who it is. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/identity.h"
#include "proto/base/buf.h"
#include "proto/base/entropy.h"
#include "proto/base/file.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "proto/base/message.h"
#include "proto/wire/cert.h"

#define FILE_NAME      "identity"
#define FILE_MAGIC     "SHOALID1"
#define FILE_VERSION   1
#define LOCKED_VERSION 2
#define FILE_BYTES_MAX (256 * 1024)

struct file_head {
    char magic[8];
    uint32_t version;
    uint32_t size; /* of the message that follows */
    uint32_t crc;  /* CRC-32C of it */
};

static bool locks(const Identity *identity)
{
    return identity->has_lock_key && identity->role == NODE_ROLE__MANAGER;
}

static int check_keys(const Identity *identity, struct err *e)
{
    if (identity->role == NODE_ROLE__MANAGER && identity->data_key.len != 32)
        return err_set(e, ERR_CORRUPT, "a manager's data key has 32 bytes, not %zu", identity->data_key.len);
    if (identity->has_lock_key && identity->lock_key.len != MANAGER_LOCK_KEY)
        return err_set(e, ERR_CORRUPT, "an unlock key has %d bytes, not %zu", MANAGER_LOCK_KEY,
                       identity->lock_key.len);
    return cert_check(identity->certificate_pem, identity->key_pem, identity->root_pem, e);
}

static int check_seal(const Identity *identity, struct err *e)
{
    if (identity->role != NODE_ROLE__MANAGER || *identity->key_pem || identity->has_data_key ||
        identity->has_lock_key)
        return err_set(e, ERR_CORRUPT, "it is locked, but not as a manager's is");
    if (identity->sealed_salt.len != MANAGER_LOCK_SALT || identity->sealed.len <= MANAGER_LOCK_MORE)
        return err_set(e, ERR_CORRUPT, "what is sealed in it has %zu bytes and a salt of %zu", identity->sealed.len,
                       identity->sealed_salt.len);
    return 0;
}

static int check(const Identity *identity, struct err *e)
{
    struct cert_facts facts;
    int rc = cert_facts(identity->certificate_pem, &facts, e);

    if (rc == 0)
        rc = identity->has_sealed ? check_seal(identity, e) : check_keys(identity, e);
    if (rc < 0)
        return rc;
    if (strcmp(facts.identity.node_id, identity->node_id) != 0 ||
        strcmp(facts.identity.cluster_id, identity->cluster_id) != 0)
        return err_set(e, ERR_CORRUPT, "the certificate is for node %s of cluster %s, not %s of %s",
                       facts.identity.node_id, facts.identity.cluster_id, identity->node_id, identity->cluster_id);
    return 0;
}

void identity_wipe(Identity *identity)
{
    mem_wipe(identity->key_pem, strlen(identity->key_pem));
    mem_wipe(identity->data_key.data, identity->data_key.len);
    mem_wipe(identity->lock_key.data, identity->lock_key.len);
}

/* --- reading ------------------------------------------------------------------------------------------- */

static int parse(struct buf *bytes, Identity **ret, struct err *e)
{
    struct file_head head;

    if (bytes->length < sizeof(head))
        return err_set(e, ERR_CORRUPT, "the file ends after %zu bytes", bytes->length);
    memcpy(&head, buf_bytes(bytes), sizeof(head));
    buf_consume(bytes, sizeof(head));
    if (memcmp(head.magic, FILE_MAGIC, sizeof(head.magic)) != 0)
        return err_set(e, ERR_CORRUPT, "it is no identity file");
    if (head.version != FILE_VERSION && head.version != LOCKED_VERSION)
        return err_set(e, ERR_UNSUPPORTED, "format %u was written by another version of shoal", head.version);
    if (head.size != bytes->length || crc32c(0, buf_bytes(bytes), bytes->length) != head.crc)
        return err_set(e, ERR_CORRUPT, "its checksum is wrong");
    Identity *identity = identity__unpack(NULL, bytes->length, (const uint8_t *)buf_bytes(bytes));
    if (!identity)
        return err_set(e, ERR_CORRUPT, "its contents are malformed");
    int rc = identity->has_sealed == (head.version == LOCKED_VERSION)
                 ? check(identity, e)
                 : err_set(e, ERR_CORRUPT, "it is locked in one place and not in another");
    if (rc < 0) {
        identity_wipe(identity);
        identity__free_unpacked(identity, NULL);
        return rc;
    }
    *ret = identity;
    return 0;
}

int identity_read(const char *data_dir, Identity **ret, struct err *e)
{
    AUTO_FREE
    char *path = mem_printf("%s/swarm/" FILE_NAME, data_dir);
    struct buf bytes = {0};
    int rc = file_read(AT_FDCWD, path, FILE_BYTES_MAX, &bytes, e);

    if (rc == 0) {
        rc = parse(&bytes, ret, e);
        if (rc < 0)
            err_wrap(e, "identity %s", path);
    }
    mem_wipe(bytes.data, bytes.capacity); /* it held the private key */
    buf_fini(&bytes);
    return rc;
}

/* --- locking ------------------------------------------------------------------------------------------- */

int identity_unlock(const Identity *locked, const uint8_t key[MANAGER_LOCK_KEY], Identity **ret, struct err *e)
{
    size_t size = locked->sealed.len - MANAGER_LOCK_MORE;
    uint8_t *opened = mem_alloc(locked->sealed.len);
    IdentitySecrets *secrets = NULL;
    Identity whole = *locked;
    int rc = manager_lock_unwrap(key, locked->sealed_salt.data, locked->cluster_id, locked->node_id,
                                 locked->sealed.data, locked->sealed.len, opened, e);

    if (rc == 0) {
        secrets = identity_secrets__unpack(NULL, size, opened);
        rc = secrets ? 0 : err_set(e, ERR_CORRUPT, "what this node's identity holds sealed is malformed");
    }
    if (rc == 0) {
        whole.has_sealed = whole.has_sealed_salt = false;
        whole.has_data_key = whole.has_lock_key = true;
        whole.key_pem = secrets->key_pem;
        whole.data_key = secrets->data_key;
        whole.lock_key = (ProtobufCBinaryData){MANAGER_LOCK_KEY, (uint8_t *)key};
        rc = check(&whole, e);
    }
    if (rc == 0)
        *ret = message_dup(&whole);
    if (secrets) {
        mem_wipe(secrets->key_pem, strlen(secrets->key_pem));
        mem_wipe(secrets->data_key.data, secrets->data_key.len);
        identity_secrets__free_unpacked(secrets, NULL);
    }
    mem_wipe(opened, locked->sealed.len);
    free(opened);
    return rc;
}

/* The bytes of IdentitySecrets under the lock key; freed by the caller. */
static int seal_secrets(const Identity *identity, const uint8_t *salt, ProtobufCBinaryData *ret, struct err *e)
{
    IdentitySecrets secrets = IDENTITY_SECRETS__INIT;

    secrets.key_pem = identity->key_pem;
    secrets.data_key = identity->data_key;
    size_t size = identity_secrets__get_packed_size(&secrets);
    uint8_t *plain = mem_alloc(size), *sealed = mem_alloc(size + MANAGER_LOCK_MORE);
    identity_secrets__pack(&secrets, plain);
    int rc = manager_lock_wrap(identity->lock_key.data, salt, identity->cluster_id, identity->node_id, plain, size,
                               sealed, e);
    mem_wipe(plain, size);
    free(plain);
    if (rc < 0)
        free(sealed);
    else
        *ret = (ProtobufCBinaryData){size + MANAGER_LOCK_MORE, sealed};
    return rc;
}

/* --- the file ------------------------------------------------------------------------------------------ */

static void put_file(struct buf *out, uint32_t version, const Identity *identity)
{
    struct file_head head = {.magic = FILE_MAGIC, .version = version};

    head.size = (uint32_t)identity__get_packed_size(identity);
    (void)buf_reserve(out, sizeof(head) + head.size);
    uint8_t *packed = (uint8_t *)out->data + sizeof(head);
    identity__pack(identity, packed);
    head.crc = crc32c(0, packed, head.size);
    memcpy(out->data, &head, sizeof(head));
    buf_added(out, sizeof(head) + head.size);
}

/* What the file is to hold: locked where there is a key for it, and never the key. */
static int make_file(struct buf *out, const Identity *identity, struct err *e)
{
    uint8_t salt[MANAGER_LOCK_SALT];
    Identity shown = *identity;
    int rc = 0;

    shown.has_lock_key = false;
    if (!locks(identity)) {
        put_file(out, FILE_VERSION, &shown);
        return 0;
    }
    entropy_fill(entropy_real(), salt, sizeof(salt));
    rc = seal_secrets(identity, salt, &shown.sealed, e);
    if (rc < 0)
        return rc;
    shown.key_pem = (char *)"";
    shown.has_data_key = false;
    shown.has_sealed = shown.has_sealed_salt = true;
    shown.sealed_salt = (ProtobufCBinaryData){sizeof(salt), salt};
    put_file(out, LOCKED_VERSION, &shown);
    free(shown.sealed.data);
    return 0;
}

/* --- the slow part, in libuv's pool ---------------------------------------------------------------- */

struct job {
    uv_work_t work;
    char *data_dir; /* owned */
    void (*run)(struct job *job);
    struct buf bytes; /* the file's contents, when it is written */
    struct err error; /* how it went */
    void (*done)(void *ctx, const struct err *e);
    void *ctx;
};

static void job_write(struct job *job)
{
    AUTO_FREE
    char *path = mem_printf("%s/swarm", job->data_dir);
    AUTO_CLOSE
    int dir = -1;

    if (dir_make(path, 0700, &job->error) == 0 && dir_open(path, &dir, &job->error) == 0)
        (void)file_replace(dir, FILE_NAME, 0600, buf_bytes(&job->bytes), job->bytes.length, true, &job->error);
}

static void job_forget(struct job *job)
{
    AUTO_CLOSE
    int dir = -1;

    if (dir_open(job->data_dir, &dir, &job->error) < 0)
        return;
    /* Renamed first: a crash in the middle of the removal must not leave half a membership behind. */
    if (tree_remove(dir, ".swarm.left", &job->error) < 0)
        return;
    if (renameat(dir, "swarm", dir, ".swarm.left") < 0 && errno != ENOENT)
        err_errno(&job->error, "rename %s/swarm", job->data_dir);
    else if (tree_remove(dir, ".swarm.left", &job->error) == 0 && fsync(dir) < 0)
        err_errno(&job->error, "sync %s", job->data_dir);
}

static void job_clear_manager(struct job *job)
{
    AUTO_FREE
    char *path = mem_printf("%s/swarm", job->data_dir);
    AUTO_CLOSE
    int dir = -1;

    if (dir_open(path, &dir, &job->error) < 0 || faccessat(dir, "manager", F_OK, 0) < 0)
        return; /* there is none */
    if (tree_remove(dir, "manager", &job->error) == 0 && fsync(dir) < 0)
        err_errno(&job->error, "sync %s", path);
}

static void on_work(uv_work_t *work)
{
    struct job *job = container_of(work, struct job, work);

    job->run(job);
}

static void on_after_work(uv_work_t *work, int status)
{
    struct job *job = container_of(work, struct job, work);
    void (*done)(void *ctx, const struct err *e) = job->done;
    struct err error = job->error;
    void *ctx = job->ctx;

    if (status < 0)
        err_number(&error, -status, "write identity");
    if (job->bytes.data)
        mem_wipe(job->bytes.data, job->bytes.capacity);
    buf_fini(&job->bytes);
    free(job->data_dir);
    free(job);
    done(ctx, &error);
}

static struct job *job_new(void (*run)(struct job *job), const char *data_dir,
                           void (*done)(void *ctx, const struct err *e), void *ctx)
{
    struct job *job = mem_alloc(sizeof(*job));

    job->run = run;
    job->data_dir = mem_strdup(data_dir);
    job->done = done;
    job->ctx = ctx;
    return job;
}

static int job_start(uv_loop_t *loop, struct job *job, struct err *e)
{
    int rc = uv_queue_work(loop, &job->work, on_work, on_after_work);

    if (rc == 0)
        return 0;
    buf_fini(&job->bytes);
    free(job->data_dir);
    free(job);
    return err_number(e, -rc, "queue work");
}

int identity_write(uv_loop_t *loop, const char *data_dir, const Identity *identity,
                   void (*done)(void *ctx, const struct err *e), void *ctx, struct err *e)
{
    struct buf bytes = {0};
    int rc = check(identity, e);

    if (rc == 0)
        rc = make_file(&bytes, identity, e);
    if (rc < 0)
        return rc;
    struct job *job = job_new(job_write, data_dir, done, ctx);
    job->bytes = bytes;
    return job_start(loop, job, e);
}

int identity_forget(uv_loop_t *loop, const char *data_dir, void (*done)(void *ctx, const struct err *e), void *ctx,
                    struct err *e)
{
    return job_start(loop, job_new(job_forget, data_dir, done, ctx), e);
}

int identity_clear_manager(uv_loop_t *loop, const char *data_dir, void (*done)(void *ctx, const struct err *e),
                           void *ctx, struct err *e)
{
    return job_start(loop, job_new(job_clear_manager, data_dir, done, ctx), e);
}
