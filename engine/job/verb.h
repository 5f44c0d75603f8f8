/* The verbs of shoal-job: each reads its request from standard input, answers on standard output, and returns the
 * process's exit status. A failure is told as a JobError in the verb's event and is status 1. */
#pragma once

#define JOB_FD_FIRST  3 /* the first descriptor passed */
#define JOB_FD_SECOND 4

#define JOB_MEMORY_BYTES ((uint64_t)56 << 20) /* writable memory of a job; 64 MiB with what its libraries map */

int unpack_main(void);
int spool_main(void);
int remove_main(void);
int fetch_main(void);
int profile_main(void);
