/* See path.h. */
#include <string.h>

#include "proto/base/path.h"

char *path_clean(struct arena *a, const char *path)
{
    char *clean = arena_alloc(a, strlen(path) + 2);
    size_t used = 0;

    while (*path) {
        size_t length = strcspn(path, "/");

        if (length == 2 && path[0] == '.' && path[1] == '.') {
            while (used && clean[--used] != '/')
                ;
        } else if (length && !(length == 1 && path[0] == '.')) {
            clean[used++] = '/';
            memcpy(clean + used, path, length);
            used += length;
        }
        path += length;
        path += *path == '/';
    }
    if (!used)
        clean[used++] = '/';
    clean[used] = '\0';
    return clean;
}

unsigned path_depth(const char *clean)
{
    unsigned depth = 0;

    for (; *clean; clean++)
        depth += clean[0] == '/' && clean[1];
    return depth;
}

bool path_inside(const char *path, const char *above)
{
    size_t length = strlen(above);

    if (length == 1)
        return true; /* the root */
    return strncmp(path, above, length) == 0 && (!path[length] || path[length] == '/');
}
