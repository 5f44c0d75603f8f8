/* Files and paths: whole files read within a limit, files replaced atomically, and paths that cannot leave a root.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"

/* Read a whole file (relative to dir_fd, or AT_FDCWD) of at most `size_max` bytes, appending to `into`. */
int file_read(int dir_fd, const char *path, size_t size_max, struct buf *into, struct err *e);

/* Read from a descriptor to its end (a file, a pipe), at most `size_max` bytes, appending to `into`. */
int file_read_all(int fd, size_t size_max, struct buf *into, struct err *e);

/* Replace `name` in dir_fd by these bytes: written aside as ".name.tmp", then renamed, so that readers and crashes
 * see the old or the new contents, never a mixture. `sync` makes it durable before returning (fsync of file and
 * directory: blocks). */
int file_replace(int dir_fd, const char *name, mode_t mode, const void *data, size_t size, bool sync,
                 struct err *e);

/* mkdir -p with `mode` for what is made; an existing directory is fine. */
int dir_make(const char *path, mode_t mode, struct err *e);

/* Open a directory for *at calls. */
int dir_open(const char *path, int *ret_fd, struct err *e);

/* Remove `name` below dir_fd with everything in it, never following a symbolic link nor leaving the file system's
 * mount. Absent is fine. */
int tree_remove(int dir_fd, const char *name, struct err *e);

/* Write all bytes, through short writes and EINTR. For files and pipes that do not block for ever. */
int write_all(int fd, const void *data, size_t size, struct err *e);

/* Resolve `path` inside the directory `root_fd` with openat2(RESOLVE_IN_ROOT): no symbolic link, ".." or magic link
 * can leave it. Absolute links count from the root. Returns the descriptor (O_CLOEXEC added) or a code. */
int root_open(int root_fd, const char *path, int flags, mode_t mode, int *ret_fd, struct err *e);

/* As root_open for directories, making what is missing (0755, owner root), each component below the root. */
int root_mkdirs(int root_fd, const char *path, int *ret_fd, struct err *e);
