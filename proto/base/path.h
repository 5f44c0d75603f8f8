/* Paths as text: pure, no look at any disk. For paths inside a root see file.h. */
#pragma once

#include <stdbool.h>

#include "proto/base/arena.h"

/* Absolute and without "//", "." and "..": "/a//b/../c/" is "/a/c". Lexical, as users of mounts and directories
 * know it; ".." at the root stays there. A relative path counts from the root. */
char *path_clean(struct arena *a, const char *path);

/* Number of components of a clean path: "/" is 0, "/a/b" is 2. */
unsigned path_depth(const char *clean);

/* Whether `path` is `above` or lies below it; both clean. */
bool path_inside(const char *path, const char *above);
