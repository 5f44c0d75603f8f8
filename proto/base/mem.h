/* Memory: allocation that cannot fail, and locals that clean themselves.
 *
 * Out of memory aborts (STYLE.md section 6: containers do not notice). Everything a peer can make us allocate is
 * bounded before it comes here. */
#pragma once

#include <stddef.h>
#include <stdlib.h>
#include <sys/param.h> /* MIN, MAX */
#include <unistd.h>

void *mem_alloc(size_t size);                         /* zeroed; free() it */
void *mem_array(size_t count, size_t size);           /* zeroed; aborts on overflow; free() it */
void *mem_grow(void *old, size_t count, size_t size); /* realloc to count * size; the new part is not zeroed */
void *mem_dup(const void *data, size_t size);
char *mem_strdup(const char *text);
char *mem_strndup(const char *text, size_t length_max);
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Overwrite secrets; the compiler may not leave it out. */
void mem_wipe(void *data, size_t size);

#define ARRAY_SIZE(a)                   (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* AUTO_FREE char *path = NULL; AUTO_CLOSE int fd = -1;   leave with   *ret_path = steal(&path); */
static inline void mem_auto_free(void *slot)
{
    free(*(void **)slot);
}

static inline void mem_auto_close(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline int steal_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

#define AUTO_FREE  __attribute__((cleanup(mem_auto_free)))
#define AUTO_CLOSE __attribute__((cleanup(mem_auto_close)))
#define steal(slot)                            \
    ({                                         \
        __typeof__(*(slot)) stolen_ = *(slot); \
        *(slot) = NULL;                        \
        stolen_;                               \
    })
