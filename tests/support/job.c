/* See job.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "proto/base/buf.h"
#include "proto/base/file.h"
#include "proto/base/mem.h"
#include "tests/support/job.h"

const char *built_program(const char *name)
{
    static char path[512];
    char self[400];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (length < 0)
        abort();
    self[length] = '\0';
    char *build = strstr(self, "/build/");
    if (!build)
        abort();
    char *end = strchr(build + 7, '/');
    snprintf(path, sizeof(path), "%.*s/%s", (int)(end - self), self, name);
    return path;
}

static void child(const char *verb, int in, int out, const int *fds, unsigned count)
{
    const char *program = built_program("shoal-job");
    int high[16];

    /* First out of the way of the numbers they will get. */
    in = fcntl(in, F_DUPFD, 64);
    out = fcntl(out, F_DUPFD, 64);
    for (unsigned i = 0; i < count; i++)
        high[i] = fcntl(fds[i], F_DUPFD, 64);
    dup2(in, 0);
    dup2(out, 1);
    for (unsigned i = 0; i < count; i++)
        dup2(high[i], 3 + (int)i);
    close_range(3 + count, ~0u, 0);
    execl(program, "shoal-job", verb, NULL);
    fprintf(stderr, "%s: %s\n", program, strerror(errno));
    _exit(127);
}

void job_start(struct job *j, const char *verb, const int *fds, unsigned count)
{
    int to[2], from[2];

    if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
        abort();
    j->pid = fork();
    if (j->pid < 0)
        abort();
    if (j->pid == 0)
        child(verb, to[0], from[1], fds, count);
    close(to[0]);
    close(from[1]);
    j->in = to[1];
    j->out = from[0];
}

void job_send(struct job *j, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    AUTO_FREE
    uint8_t *frame = mem_alloc(4 + size);

    for (int i = 0; i < 4; i++)
        frame[i] = (uint8_t)(size >> (8 * i));
    protobuf_c_message_pack(message, frame + 4);
    if (write_all(j->in, frame, 4 + size, NULL) < 0)
        abort();
}

static bool read_exactly(int fd, void *into, size_t size)
{
    char *at = into;

    while (size) {
        ssize_t got = read(fd, at, size);

        if (got <= 0)
            return false;
        at += got;
        size -= (size_t)got;
    }
    return true;
}

void *job_receive(struct job *j, size_t *ret_size)
{
    uint8_t head[4];

    if (!read_exactly(j->out, head, 4))
        return NULL;
    *ret_size = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
    void *body = mem_alloc(*ret_size);
    if (!read_exactly(j->out, body, *ret_size))
        abort();
    return body;
}

int job_end(struct job *j)
{
    size_t size;
    void *frame;
    int status;

    close(j->in);
    while ((frame = job_receive(j, &size)))
        free(frame);
    close(j->out);
    if (waitpid(j->pid, &status, 0) < 0)
        abort();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int job_run(const char *verb, const ProtobufCMessage *request, const int *fds, unsigned count,
            void (*on_frame)(void *ctx, const void *data, size_t size), void *ctx)
{
    struct job j;
    size_t size;
    void *frame;

    job_start(&j, verb, fds, count);
    if (request)
        job_send(&j, request);
    while ((frame = job_receive(&j, &size))) {
        if (on_frame)
            on_frame(ctx, frame, size);
        free(frame);
    }
    return job_end(&j);
}

/* --- what a directory holds ---------------------------------------------------------------------- */

static const char *kind_name(mode_t mode)
{
    return S_ISREG(mode)    ? "file"
           : S_ISDIR(mode)  ? "dir"
           : S_ISLNK(mode)  ? "link"
           : S_ISCHR(mode)  ? "char"
           : S_ISBLK(mode)  ? "block"
           : S_ISFIFO(mode) ? "fifo"
                            : "?";
}

static void describe_xattrs(struct buf *out, const char *path)
{
    char names[4096], value[256];
    ssize_t length = llistxattr(path, names, sizeof(names));

    for (ssize_t at = 0; at < length; at += (ssize_t)strlen(names + at) + 1) {
        ssize_t size = lgetxattr(path, names + at, value, sizeof(value));

        buf_printf(out, " %s=", names + at);
        for (ssize_t i = 0; i < size; i++) {
            if (value[i] > 0x20 && value[i] < 0x7f)
                buf_append_char(out, value[i]);
            else
                buf_printf(out, "\\x%02x", (unsigned char)value[i]);
        }
    }
}

static void describe_one(struct buf *out, const char *path, const char *shown, int times)
{
    struct stat st;
    char link[4096] = "";

    if (lstat(path, &st) < 0)
        abort();
    if (readlink(path, link, sizeof(link) - 1) < 0)
        link[0] = '\0';
    buf_printf(out, "%s %s %04o %u:%u", shown, kind_name(st.st_mode), st.st_mode & 07777, st.st_uid, st.st_gid);
    if (S_ISREG(st.st_mode))
        buf_printf(out, " %lld", (long long)st.st_size);
    if (S_ISLNK(st.st_mode))
        buf_printf(out, " -> %s", link);
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
        buf_printf(out, " %u,%u", major(st.st_rdev), minor(st.st_rdev));
    describe_xattrs(out, path);
    if (times)
        buf_printf(out, " mtime=%lld", (long long)st.st_mtime);
    buf_append_char(out, '\n');
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void describe_below(struct buf *out, const char *path, const char *shown, int times)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    char *names[1024];
    size_t count = 0;

    if (!dir)
        abort();
    while ((entry = readdir(dir)) && count < ARRAY_SIZE(names))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            names[count++] = mem_strdup(entry->d_name);
    closedir(dir);
    qsort(names, count, sizeof(*names), by_name);
    for (size_t i = 0; i < count; i++) {
        char *below = mem_printf("%s/%s", path, names[i]), *name = mem_printf("%s/%s", shown, names[i]);
        struct stat st;

        describe_one(out, below, name + 1, times);
        if (lstat(below, &st) == 0 && S_ISDIR(st.st_mode))
            describe_below(out, below, name, times);
        free(below);
        free(name);
        free(names[i]);
    }
}

char *tree_describe(const char *path, int times)
{
    struct buf out = {0};

    describe_one(&out, path, ".", times);
    describe_below(&out, path, "", times);
    return buf_steal(&out);
}

char *scratch_new(const char *name)
{
    char *path = mem_printf("/tmp/%s-XXXXXX", name);

    if (!mkdtemp(path))
        abort();
    return path;
}

void scratch_remove(char *path)
{
    struct err e = {0};
    int fd = -1;
    int rc = dir_open("/tmp", &fd, &e);

    if (rc == 0)
        rc = tree_remove(fd, strrchr(path, '/') + 1, &e);
    if (rc < 0)
        fprintf(stderr, "scratch directory %s stays: %s\n", path, e.text);
    close(fd);
    free(path);
}
