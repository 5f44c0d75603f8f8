/* A wall clock that a test can step: loaded into shoald with LD_PRELOAD, it adds to the kernel's wall clock the
 * milliseconds that stand in the file SHOAL_TEST_CLOCK (eight bytes, as this machine writes them; it is mapped, so
 * a step is seen at once). The monotonic clock stays: it never jumps on real machines either.
 *
 * Time namespaces do not cover the wall clock, and a hook for tests has no place in the programs. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *step_ms;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("SHOAL_TEST_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

    real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof(*step_ms), PROT_READ, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED)
        step_ms = map;
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *ret)
{
    int rc = real_clock_gettime(clock, ret);

    if (rc == 0 && step_ms && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = ret->tv_nsec + *step_ms % 1000 * 1000000;

        ret->tv_sec += *step_ms / 1000 + (ns >= 1000000000) - (ns < 0);
        ret->tv_nsec = ns - (ns >= 1000000000) * 1000000000 + (ns < 0) * 1000000000;
    }
    return rc;
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) < 0)
        return -1;
    *ret = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *ret)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
    if (ret)
        *ret = now.tv_sec;
    return now.tv_sec;
}
