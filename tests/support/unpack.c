/* See unpack.h. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "proto/job.pb-c.h"
#include "tests/support/job.h"
#include "tests/support/unpack.h"

static void on_frame(void *ctx, const void *data, size_t size)
{
    struct unpacked *u = ctx;
    UnpackEvent *event = unpack_event__unpack(NULL, size, data);

    if (!event)
        abort();
    if (event->error)
        err_set(&u->error, event->error->code, "%s", event->error->text);
    if (event->result) {
        u->done = true;
        snprintf(u->digest, sizeof(u->digest), "%s", event->result->digest);
        snprintf(u->diff_id, sizeof(u->diff_id), "%s", event->result->diff_id);
        u->size_bytes = event->result->size_bytes;
        u->files = event->result->files;
        u->opaque_root = event->result->opaque_root;
    }
    unpack_event__free_unpacked(event, NULL);
}

void unpack_run(const struct buf *blob, const char *path, const struct unpack_how *how, struct unpacked *ret)
{
    static const struct unpack_how plain;
    UnpackRequest request = UNPACK_REQUEST__INIT;
    int fds[2] = {memfd_create("blob", MFD_CLOEXEC), open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};

    if (fds[0] < 0 || fds[1] < 0 || write_all(fds[0], buf_bytes(blob), blob->length, NULL) < 0)
        abort();
    lseek(fds[0], 0, SEEK_SET);
    how = how ? how : &plain;
    request.digest = (char *)how->digest;
    request.diff_id = (char *)how->diff_id;
    request.has_bytes_max = request.has_files_max = request.has_depth_max = request.has_complete = true;
    request.bytes_max = how->bytes_max ? how->bytes_max : 64 << 20;
    request.files_max = how->files_max ? how->files_max : 10000;
    request.depth_max = how->depth_max ? how->depth_max : 128;
    request.complete = how->complete;
    *ret = (struct unpacked){0};
    ret->status = job_run("unpack", &request.base, fds, 2, on_frame, ret);
    close(fds[0]);
    close(fds[1]);
}
