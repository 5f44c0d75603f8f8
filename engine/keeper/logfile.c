/* See logfile.h.
 *
 * Rotation follows Docker: before an entry is written to a file that has reached its size, the file becomes ".1",
 * ".1" becomes ".2" and so on, the oldest goes; with one file it is emptied. Readers (engine/container's log
 * reader) rely on whole lines, so a write that stopped in the middle is taken back to the last whole line. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/keeper/logfile.h"
#include "proto/base/base64.h"
#include "proto/base/jwrite.h"
#include "proto/base/mem.h"

#define TAIL_MAX \
    (8 * LOG_TEXT_MAX) /* no entry is longer: six bytes per byte of text at most, 4/3 in base64, and its frame */

void logfile_open(struct logfile *f, int dir_fd, const char *id, uint64_t size_max, unsigned files_max)
{
    *f = (struct logfile){.dir = dir_fd,
                          .name = mem_printf("%s-json.log", id),
                          .fd = -1,
                          .size_max = size_max,
                          .files_max = files_max ? files_max : 1};
}

void logfile_close(struct logfile *f)
{
    if (f->fd >= 0)
        close(f->fd);
    if (f->dir >= 0)
        close(f->dir);
    free(f->name);
    *f = (struct logfile){.dir = -1, .fd = -1};
}

/* Where the last whole line ends. */
static uint64_t whole_lines(int fd, uint64_t size)
{
    char tail[4096];
    uint64_t at = size;

    while (at > 0 && size - at < TAIL_MAX) {
        size_t want = MIN(at, sizeof(tail));
        ssize_t got = pread(fd, tail, want, (off_t)(at - want));

        if (got != (ssize_t)want)
            return size; /* unreadable: leave it */
        const char *newline = memrchr(tail, '\n', want);
        if (newline)
            return at - want + (uint64_t)(newline - tail) + 1;
        at -= want;
    }
    return at;
}

static int make_sure_open(struct logfile *f)
{
    struct stat st;

    if (f->fd >= 0)
        return 0;
    int fd = openat(f->dir, f->name, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0640);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return -EINVAL;
    }
    f->fd = fd;
    f->size = (uint64_t)st.st_size;
    uint64_t whole = whole_lines(fd, f->size);
    if (whole < f->size && ftruncate(fd, (off_t)whole) == 0)
        f->size = whole;
    return 0;
}

static void rotate(struct logfile *f)
{
    char older[512], newer[512];

    if (f->files_max == 1) {
        if (ftruncate(f->fd, 0) == 0)
            f->size = 0;
        return;
    }
    close(f->fd);
    f->fd = -1;
    for (unsigned i = f->files_max - 1; i > 0; i--) {
        (void)snprintf(older, sizeof(older), "%s.%u", f->name, i);
        (void)snprintf(newer, sizeof(newer), i > 1 ? "%s.%u" : "%s", f->name, i - 1);
        (void)renameat(f->dir, newer, f->dir, older); /* most do not exist at first; the oldest is replaced */
    }
}

size_t logfile_cut(const char *data, size_t size)
{
    const char *newline = memchr(data, '\n', MIN(size, (size_t)LOG_TEXT_MAX));

    if (newline)
        return (size_t)(newline - data) + 1;
    if (size < LOG_TEXT_MAX)
        return 0;
    /* Not in the middle of a UTF-8 sequence, whose bytes behind the first all look like 10xxxxxx. */
    size_t cut = LOG_TEXT_MAX;
    while (cut > LOG_TEXT_MAX - 4 && size > cut && ((unsigned char)data[cut] & 0xc0) == 0x80)
        cut--;
    return cut > LOG_TEXT_MAX - 4 ? cut : LOG_TEXT_MAX;
}

void logfile_entry(struct buf *batch, const char *text, size_t length, const char *stream, int64_t wall_ns)
{
    struct jwrite j = JWRITE_TO(batch);

    jwrite_object(&j, NULL);
    jwrite_string_n(&j, "log", text, length);
    if (!jwrite_is_faithful(text, length)) { /* others read the line above; ours reads what was written */
        AUTO_BUF struct buf raw = {0};

        base64_encode(&raw, text, length);
        jwrite_string_n(&j, "raw", buf_bytes(&raw), raw.length);
    }
    jwrite_string(&j, "stream", stream);
    jwrite_time_ns(&j, "time", wall_ns);
    jwrite_end(&j);
    buf_append_char(batch, '\n');
}

static uint64_t count_lines(const char *data, size_t size)
{
    uint64_t lines = 0;

    for (const char *at = data; (at = memchr(at, '\n', size - (size_t)(at - data))); at++)
        lines++;
    return lines;
}

static void lose(struct logfile *f, const char *data, size_t size, int number)
{
    if (f->lost_lines == 0)
        f->lost_number = number;
    f->lost_lines += count_lines(data, size);
}

/* Write whole lines; returns how many bytes of them are in the file. */
static size_t write_lines(struct logfile *f, const char *data, size_t size, int *ret_number)
{
    size_t done = 0;

    *ret_number = 0;
    while (done < size) {
        ssize_t wrote = write(f->fd, data + done, size - done);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0) {
            *ret_number = wrote < 0 ? errno : ENOSPC;
            break;
        }
        done += (size_t)wrote;
    }
    f->size += done;
    if (done == size)
        return done;
    const char *newline = done ? memrchr(data, '\n', done) : NULL;
    size_t whole = newline ? (size_t)(newline - data) + 1 : 0;
    if (whole < done && ftruncate(f->fd, (off_t)(f->size - (done - whole))) == 0)
        f->size -= done - whole;
    return whole;
}

/* How many bytes of the batch go into the present file: entries until it is full. */
static size_t fits(const struct logfile *f, const char *data, size_t size)
{
    size_t used = 0;

    if (f->size_max == 0)
        return size;
    while (used < size && f->size + used < f->size_max) {
        const char *newline = memchr(data + used, '\n', size - used);

        used = newline ? (size_t)(newline - data) + 1 : size;
    }
    return used;
}

static void report_loss(struct logfile *f)
{
    AUTO_BUF struct buf entry = {0};
    struct timespec now;
    char text[160];
    int number;

    clock_gettime(CLOCK_REALTIME, &now);
    int length = snprintf(text, sizeof(text), "shoal: %llu lines of output could not be logged: %s\n",
                          (unsigned long long)f->lost_lines, strerror(f->lost_number));
    logfile_entry(&entry, text, (size_t)length, "stderr", (int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
    if (write_lines(f, buf_bytes(&entry), entry.length, &number) == entry.length)
        f->lost_lines = 0;
}

static bool is_full(const struct logfile *f)
{
    return f->size_max && f->size >= f->size_max;
}

static int make_ready(struct logfile *f)
{
    int number = -make_sure_open(f);

    if (number == 0 && is_full(f)) {
        rotate(f);
        number = -make_sure_open(f);
    }
    if (number == 0 && f->lost_lines)
        report_loss(f);
    return number;
}

void logfile_write(struct logfile *f, struct buf *batch)
{
    while (batch->length) {
        const char *data = buf_bytes(batch);
        int number = make_ready(f);
        /* A file that cannot be rotated grows: better than to lose what it is for. */
        size_t part = number == 0 && !is_full(f) ? fits(f, data, batch->length) : batch->length;
        size_t wrote = number == 0 ? write_lines(f, data, part, &number) : 0;

        if (wrote < part)
            lose(f, data + wrote, part - wrote, number);
        buf_consume(batch, part);
    }
    buf_clear(batch);
}
