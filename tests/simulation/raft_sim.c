/* The simulation of manager/raft: raft_sim SEEDS [SEED]. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/log.h"
#include "proto/base/mem.h"
#include "tests/simulation/raft_chaos.h"
#include "tests/simulation/raft_world.h"

int main(int argc, char **argv)
{
    uint64_t seeds = argc > 1 ? strtoull(argv[1], NULL, 10) : 100,
             first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    int failures = 0;
    struct world_counts total = {0};

    log_set_level(getenv("RAFT_SIM_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR + 1);
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        struct world w;

        chaos_run(&w, seed);
        if (w.failed) {
            printf("not ok seed %" PRIu64 ": at %" PRId64 " ms: %s\n", seed, w.now_us / 1000, w.why);
            if (getenv("RAFT_SIM_LOG"))
                world_dump(&w);
            failures++;
        }
        world_fini(&w);
        uint64_t *sum = (uint64_t *)&total, *one = (uint64_t *)&w.counts;
        for (size_t i = 0; i < sizeof(total) / 8; i++)
            sum[i] += one[i];
    }
#define P(x) printf(#x " %" PRIu64 "\n", total.x);
    P(events)
    P(entries)
    P(acked)
    P(reads)
    P(elections)
    P(crashes)
    P(powers)
    P(torn)
    P(kills_inside)
    P(cuts)
    P(snapshots)
    P(installs)
    P(restarts)
    P(fetches)
    P(refused)
    P(changes)
    P(promotes)
    P(removes)
    P(transfers)
    P(full_refusals)
    P(failed_proposals)
    P(held)
    P(segments_new)
    P(marks_clean)
    P(gone)
    P(dropped)
    P(doubled) P(refused_open) for (int i = 1; i < GUARDS; i++) printf("G%d %" PRIu64 "\n", i, total.guards[i]);
    printf("%d failures\n", failures);
    return failures != 0;
}
