/* The verbs of shoal-job: each reads its request from standard input, answers on standard output, and returns the
 * process's exit status. */
#pragma once

int profile_main(void);
