/* See spoil.h. */
#include <fcntl.h>
#include <unistd.h>

#include "manager/store/inside.h"
#include "proto/base/mem.h"
#include "tests/simulation/spoil.h"

void spoil_open_store(struct store *s)
{
    store_suspect(s, "so says the simulation");
}

bool spoil_file(const char *path, struct entropy *random)
{
    uint64_t noise = entropy_u64(random);

    if (entropy_below(random, 2) == 0) {
        (void)unlink(path); /* it may never have been made */
        return true;
    }
    AUTO_CLOSE
    int fd = open(path, O_RDWR | O_CLOEXEC);
    off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    return size <= 0 || pwrite(fd, &noise, sizeof(noise), (off_t)entropy_below(random, (uint64_t)size)) > 0;
}
