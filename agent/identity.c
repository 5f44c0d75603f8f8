/* See identity.h. The file is "SHOALID1", a version, the packed message's length and CRC-32C, then the message. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/identity.h"
#include "proto/base/buf.h"
#include "proto/base/file.h"
#include "proto/base/hash.h"
#include "proto/base/mem.h"
#include "proto/wire/cert.h"

#define FILE_NAME      "identity"
#define FILE_MAGIC     "SHOALID1"
#define FILE_VERSION   1
#define FILE_BYTES_MAX (256 * 1024)

struct file_head {
    char magic[8];
    uint32_t version;
    uint32_t size; /* of the message that follows */
    uint32_t crc;  /* CRC-32C of it */
};

static int check(const Identity *identity, struct err *e)
{
    struct cert_facts facts;
    int rc = cert_facts(identity->certificate_pem, &facts, e);

    if (rc == 0)
        rc = cert_check(identity->certificate_pem, identity->key_pem, identity->root_pem, e);
    if (rc < 0)
        return rc;
    if (strcmp(facts.identity.node_id, identity->node_id) != 0 ||
        strcmp(facts.identity.cluster_id, identity->cluster_id) != 0)
        return err_set(e, ERR_CORRUPT, "the certificate is for node %s of cluster %s, not %s of %s",
                       facts.identity.node_id, facts.identity.cluster_id, identity->node_id, identity->cluster_id);
    if (identity->role == NODE_ROLE__MANAGER && identity->data_key.len != 32)
        return err_set(e, ERR_CORRUPT, "a manager's data key has 32 bytes, not %zu", identity->data_key.len);
    return 0;
}

static int parse(struct buf *bytes, Identity **ret, struct err *e)
{
    struct file_head head;

    if (bytes->length < sizeof(head))
        return err_set(e, ERR_CORRUPT, "the file ends after %zu bytes", bytes->length);
    memcpy(&head, buf_bytes(bytes), sizeof(head));
    buf_consume(bytes, sizeof(head));
    if (memcmp(head.magic, FILE_MAGIC, sizeof(head.magic)) != 0)
        return err_set(e, ERR_CORRUPT, "it is no identity file");
    if (head.version != FILE_VERSION)
        return err_set(e, ERR_UNSUPPORTED, "format %u was written by another version of shoal", head.version);
    if (head.size != bytes->length || crc32c(0, buf_bytes(bytes), bytes->length) != head.crc)
        return err_set(e, ERR_CORRUPT, "its checksum is wrong");
    Identity *identity = identity__unpack(NULL, bytes->length, (const uint8_t *)buf_bytes(bytes));
    if (!identity)
        return err_set(e, ERR_CORRUPT, "its contents are malformed");
    int rc = check(identity, e);
    if (rc < 0) {
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

/* --- the slow part, in libuv's pool ---------------------------------------------------------------- */

struct job {
    uv_work_t work;
    char *data_dir;   /* owned */
    struct buf bytes; /* the file's contents; empty: forget */
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

static void on_work(uv_work_t *work)
{
    struct job *job = container_of(work, struct job, work);

    if (job->bytes.length)
        job_write(job);
    else
        job_forget(job);
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
    struct file_head head = {.magic = FILE_MAGIC, .version = FILE_VERSION};
    int rc = check(identity, e);

    if (rc < 0)
        return rc;
    struct job *job = mem_alloc(sizeof(*job));
    job->data_dir = mem_strdup(data_dir);
    job->done = done;
    job->ctx = ctx;
    head.size = (uint32_t)identity__get_packed_size(identity);
    (void)buf_reserve(&job->bytes, sizeof(head) + head.size);
    uint8_t *packed = (uint8_t *)job->bytes.data + sizeof(head);
    identity__pack(identity, packed);
    head.crc = crc32c(0, packed, head.size);
    memcpy(job->bytes.data, &head, sizeof(head));
    buf_added(&job->bytes, sizeof(head) + head.size);
    return job_start(loop, job, e);
}

int identity_forget(uv_loop_t *loop, const char *data_dir, void (*done)(void *ctx, const struct err *e), void *ctx,
                    struct err *e)
{
    struct job *job = mem_alloc(sizeof(*job));

    job->data_dir = mem_strdup(data_dir);
    job->done = done;
    job->ctx = ctx;
    return job_start(loop, job, e);
}
