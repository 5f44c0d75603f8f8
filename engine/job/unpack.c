/* `shoal-job unpack`: one layer blob into one directory (DESIGN.md section 7).
 *
 * Two processes share the work, because marking a directory opaque needs CAP_SYS_ADMIN and reading a stranger's
 * archive must not have it:
 *
 *     reader  inflates, hashes, parses and writes below the root; no privilege but for making files of any owner,
 * mode and kind there. Tells progress and errors to shoald, opaque directories and its result to the marker. marker
 * the parent. Opens each directory it is told, beneath the root and through no link, and sets one constant
 * attribute; then syncs the file system and hands the result on to shoald. Nothing a stranger wrote reaches it but
 * those paths.
 *
 * Both have the layer's directory as "/" of a mount namespace without anything else, and no network. The digest of
 * the blob and of the archive in it are checked after the last byte and before the result: until then the directory
 * is a draft that shoald throws away when this process fails or dies. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "engine/job/confine.h"
#include "engine/job/frame.h"
#include "engine/job/layer.h"
#include "engine/job/source.h"
#include "engine/job/tree.h"
#include "engine/job/verb.h"
#include "proto/base/mem.h"
#include "proto/job.pb-c.h"

#define PROGRESS_MS 100

#define CAP(name)   (1ull << CAP_##name)
#define READER_CAPS (CAP(CHOWN) | CAP(DAC_OVERRIDE) | CAP(FOWNER) | CAP(FSETID) | CAP(MKNOD) | CAP(SETFCAP))
#define MARKER_CAPS (CAP(SYS_ADMIN) | CAP(DAC_READ_SEARCH))

struct unpack {
    const UnpackRequest *request;
    struct source *source;
    int blob_fd, root_fd;
    int mark_fd;         /* reader's end of the pipe to the marker */
    int64_t reported_ms; /* when progress was told last */
};

static void send_error(const struct err *why)
{
    JobError error = JOB_ERROR__INIT;
    UnpackEvent event = UNPACK_EVENT__INIT;

    error.code = why->code;
    error.text = (char *)why->text;
    event.error = &error;
    (void)frame_write(STDOUT_FILENO, &event.base, NULL); /* if shoald is gone nobody asks */
}

/* --- the reader ---------------------------------------------------------------------------------- */

static void on_progress(void *ctx)
{
    struct unpack *u = ctx;
    UnpackEvent event = UNPACK_EVENT__INIT;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    int64_t now_ms = now.tv_sec * 1000 + now.tv_nsec / 1000000;
    if (now_ms - u->reported_ms < PROGRESS_MS)
        return;
    u->reported_ms = now_ms;
    event.has_current = true;
    event.current = source_position(u->source);
    (void)frame_write(STDOUT_FILENO, &event.base, NULL);
}

static int on_opaque(void *ctx, const char *path, struct err *e)
{
    const struct unpack *u = ctx;
    UnpackMark mark = UNPACK_MARK__INIT;

    mark.opaque = (char *)path;
    return frame_write(u->mark_fd, &mark.base, e);
}

static int check_digests(const UnpackRequest *q, const UnpackResult *r, struct err *e)
{
    if (q->digest && strcmp(q->digest, r->digest) != 0)
        return err_set(e, ERR_CORRUPT, "the blob's digest is %s where %s was expected", r->digest, q->digest);
    if (q->diff_id && strcmp(q->diff_id, r->diff_id) != 0)
        return err_set(e, ERR_CORRUPT, "the layer's contents have digest %s where the image's config says %s",
                       r->diff_id, q->diff_id);
    return 0;
}

static int read_layer(struct unpack *u, struct tree *tree, struct err *e)
{
    const struct layer_limits limits = {
        .bytes_max = u->request->bytes_max,
        .files_max = u->request->files_max,
        .depth_max = u->request->depth_max,
    };
    struct layer_sink sink = tree_sink(tree);
    struct layer_totals totals;
    char digest[DIGEST_TEXT + 1], diff_id[DIGEST_TEXT + 1];
    UnpackResult result = UNPACK_RESULT__INIT;
    UnpackMark mark = UNPACK_MARK__INIT;

    sink.progress = on_progress;
    sink.progress_ctx = u;
    int rc = layer_read(u->source, &limits, &sink, &totals, e);
    if (rc == 0)
        rc = tree_finish(tree, e);
    if (rc == 0)
        rc = source_finish(u->source, digest, diff_id, e);
    if (rc < 0)
        return rc;
    if (u->request->complete && source_trailing_zeros(u->source) < 512)
        return err_set(e, ERR_CORRUPT, "the archive ends without its closing blocks: it was cut off");
    result.digest = digest;
    result.diff_id = diff_id;
    result.size_bytes = totals.size_bytes;
    result.files = totals.files;
    result.has_opaque_root = true;
    result.opaque_root = totals.opaque_root;
    rc = check_digests(u->request, &result, e);
    if (rc < 0)
        return rc;
    mark.result = &result;
    return frame_write(u->mark_fd, &mark.base, e);
}

static int reader_run(struct unpack *u, struct err *e)
{
    int rc = confine_capabilities(READER_CAPS, e);

    if (rc == 0)
        rc = confine_system_calls(CONFINE_FILES, e);
    /* What a layer's own directory is when no entry says so. */
    if (rc == 0 && fchmod(u->root_fd, 0755) < 0)
        rc = err_errno(e, "set the mode of the layer's directory");
    /* An archive is a whole number of blocks, and holds its files' bytes besides headers. */
    if (rc == 0)
        rc = source_open(source_from_fd, &u->blob_fd, u->request->bytes_max + u->request->files_max * 2048,
                         &u->source, e);
    if (rc < 0)
        return rc;
    struct tree *tree = tree_new(u->root_fd, on_opaque, u);
    rc = read_layer(u, tree, e);
    tree_free(tree);
    source_close(u->source);
    return rc;
}

/* --- the marker ---------------------------------------------------------------------------------- */

static int mark_opaque(int root_fd, const char *path, struct err *e)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
    };
    AUTO_CLOSE
    int fd = (int)syscall(SYS_openat2, root_fd, *path ? path : ".", &how, sizeof(how));

    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
        return 0; /* replaced by a later entry, maybe by a link */
    if (fd < 0)
        return err_errno(e, "open a directory to mark it opaque");
    if (fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0)
        return err_errno(e, "mark a directory opaque");
    return 0;
}

/* Follow the reader until it closes its end; *ret_result is set when it told one. */
static int marker_follow(int root_fd, int mark_fd, UnpackMark **ret_result, struct err *e)
{
    for (;;) {
        ProtobufCMessage *message = NULL;
        int rc = frame_read(mark_fd, &unpack_mark__descriptor, &message, e);

        if (rc == ERR_CLOSED)
            return 0;
        if (rc < 0)
            return rc;
        UnpackMark *mark = (UnpackMark *)message;
        if (mark->opaque)
            rc = mark_opaque(root_fd, mark->opaque, e);
        if (rc == 0 && mark->result && !*ret_result)
            *ret_result = mark;
        else
            unpack_mark__free_unpacked(mark, NULL);
        if (rc < 0)
            return rc;
    }
}

/* Whether the reader ended well. When it failed it has told shoald why, unless it was killed. */
static int marker_reap(pid_t reader, struct err *e)
{
    int status;

    while (waitpid(reader, &status, 0) < 0)
        if (errno != EINTR)
            return err_errno(e, "wait for the reader");
    if (WIFSIGNALED(status)) {
        err_set(e, ERR_INTERNAL, "unpacking was killed by signal %d", WTERMSIG(status));
        send_error(e);
        return e->code;
    }
    return WEXITSTATUS(status) == 0 ? 0 : err_set(e, ERR_INTERNAL, "the reader failed");
}

static int marker_run(int root_fd, int mark_fd, pid_t reader, struct err *e)
{
    UnpackMark *mark = NULL;
    UnpackEvent event = UNPACK_EVENT__INIT;
    int rc = confine_capabilities(MARKER_CAPS, e);

    if (rc == 0)
        rc = confine_system_calls(CONFINE_MARK, e);
    if (rc == 0)
        rc = marker_follow(root_fd, mark_fd, &mark, e);
    close(mark_fd); /* a reader that still writes ends by this, and at the latest by our own end */
    if (rc < 0)
        send_error(e);
    else
        rc = marker_reap(reader, e);
    if (rc == 0 && !mark)
        rc = err_set(e, ERR_INTERNAL, "the reader told no result");
    if (rc == 0 && syncfs(root_fd) < 0) {
        rc = err_errno(e, "sync the layer");
        send_error(e);
    }
    if (rc == 0) {
        event.result = mark->result;
        rc = frame_write(STDOUT_FILENO, &event.base, e);
    }
    if (mark)
        unpack_mark__free_unpacked(mark, NULL);
    return rc;
}

/* --- both ---------------------------------------------------------------------------------------- */

static int prepare(const UnpackRequest *request, int *ret_root, struct err *e)
{
    const struct confine_limits limits = {
        .memory_bytes = JOB_MEMORY_BYTES,
        .file_bytes = request->bytes_max,
        .descriptors = 64,
    };

    if (!request->has_bytes_max || !request->has_files_max || !request->has_depth_max)
        return err_set(e, ERR_INVALID, "the request names no limits");
    umask(0);
    int rc = confine_limits(&limits, e);
    return rc < 0 ? rc : confine_root(JOB_FD_SECOND, true, ret_root, e);
}

static int run(struct unpack *u, struct err *e)
{
    int pipe_fds[2];

    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        err_errno(e, "make a pipe");
        send_error(e);
        return e->code;
    }
    pid_t reader = fork();
    if (reader < 0) {
        err_errno(e, "fork");
        send_error(e);
        return e->code;
    }
    if (reader == 0) {
        close(pipe_fds[0]);
        u->mark_fd = pipe_fds[1];
        int rc = prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? err_errno(e, "bind to the parent") : reader_run(u, e);
        if (rc < 0)
            send_error(e);
        /* No exit handlers: they belong to the parent, and the system calls they might make are not allowed. */
        _exit(rc < 0);
    }
    close(pipe_fds[1]);
    close(u->blob_fd);
    return marker_run(u->root_fd, pipe_fds[0], reader, e);
}

int unpack_main(void)
{
    struct err e = {0};
    ProtobufCMessage *message = NULL;
    struct unpack u = {.blob_fd = JOB_FD_FIRST, .root_fd = -1};

    if (frame_read(STDIN_FILENO, &unpack_request__descriptor, &message, &e) < 0) {
        send_error(&e);
        return 1;
    }
    u.request = (const UnpackRequest *)message;
    if (prepare(u.request, &u.root_fd, &e) < 0) {
        send_error(&e);
        return 1;
    }
    _exit(run(&u, &e) < 0);
}
