/* The reader of the log. Sealing keeps a fuzzer out of anything deep, so the input is a list of changes to a
 * segment that is sound: four bytes each, a place and what is done there. Whatever is done, what is read is a
 * beginning of what was written, and once the end is known to be durable it is all of it or a refusal. A second way
 * takes the input as the whole file. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "manager/raft/segment.h"
#include "proto/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILE_BYTES 8192
#define FIRST      11

static const uint8_t key[SEAL_KEY] = {1}, salt[SEAL_SALT] = {3}, cluster[16] = {5};
static struct seal *seal;
static uint8_t sound[FILE_BYTES];
static uint64_t end;
static uint32_t records;

struct seen {
    uint32_t count;
    bool checked; /* contents must be ours */
};

static void make(void)
{
    static const unsigned counts[] = {1, 4, 2, 9, 1}, sizes[] = {0, 60, 700, 130, 2000};
    static uint8_t data[4096];
    struct segment_header h = {.sequence = 7, .bytes = FILE_BYTES, .first_index = FIRST};

    memcpy(h.salt, salt, sizeof(salt));
    seal = seal_new(key, salt, "log", cluster);
    segment_header_put(&h, cluster, seal, sound);
    end = SEGMENT_SECTOR;
    for (uint32_t batch = 0; batch < ARRAY_SIZE(counts); batch++) {
        struct segment_record list[16] = {{0}};
        AUTO_BUF struct buf out = {0};

        for (unsigned i = 0; i < counts[batch]; i++)
            list[i] = (struct segment_record){
                .index = FIRST + records + i, .term = 2, .type = 1, .data = data, .size = sizes[batch]};
        segment_batch_put(&out, cluster, seal, 7, batch + 1, records, list, counts[batch]);
        memcpy(sound + end, buf_bytes(&out), out.length);
        end += out.length;
        records += counts[batch];
    }
}

static int on_record(void *ctx, const struct segment_record *record, struct err *e)
{
    struct seen *seen = ctx;

    if (seen->checked && (record->index != FIRST + seen->count || record->term != 2 || record->cut))
        abort();
    seen->count++;
    return 0;
}

static int scan(const uint8_t *file, size_t size, uint64_t durable, bool checked, struct seen *seen)
{
    struct segment_scan s = {.data = file,
                             .size = size,
                             .cluster = cluster,
                             .seal = seal,
                             .sequence = 7,
                             .durable = durable,
                             .ctx = seen,
                             .found = on_record};

    *seen = (struct seen){.checked = checked};
    return segment_scan(&s, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t file[FILE_BYTES];
    struct segment_header h;
    struct seen seen;

    if (!seal)
        make();
    if (size && data[0] & 1) {
        size = MIN(size, FILE_BYTES);
        memcpy(file, data, size);
        if (size >= SEGMENT_SECTOR) {
            (void)segment_header_get(file, cluster, &h, NULL);
            (void)segment_written_twice(file, size);
            (void)scan(file, size, 0, false, &seen);
        }
        return 0;
    }
    memcpy(file, sound, sizeof(file));
    for (size_t i = 1; i + 4 <= size; i += 4) {
        size_t at = SEGMENT_SECTOR + (size_t)(data[i] | data[i + 1] << 8) % (FILE_BYTES - SEGMENT_SECTOR);
        size_t sector = at & ~(size_t)(SEGMENT_SECTOR - 1);

        switch (data[i + 2] % 4) {
        case 0: /* flip */
            file[at] ^= data[i + 3];
            break;
        case 1: /* a sector that never arrived */
            memset(file + sector, 0, SEGMENT_SECTOR);
            break;
        case 2: /* a sector that went to another place */
            memmove(file + sector, file + SEGMENT_SECTOR + data[i + 3] % 15 * SEGMENT_SECTOR, SEGMENT_SECTOR);
            break;
        case 3: /* nothing behind here */
            memset(file + at, 0, FILE_BYTES - at);
            break;
        }
    }
    if (scan(file, sizeof(file), 0, true, &seen) == 0 && seen.count > records)
        abort();
    if (scan(file, sizeof(file), end, true, &seen) == 0 && seen.count != records)
        abort();
    return 0;
}
