/* How processes are told apart and how they ended, their parent or not. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/base/err.h"

#define BOOT_ID_TEXT 36

/* Start time of a process in clock ticks since boot, 0 when there is none. A number that was reused by another
 * process has another start time. */
uint64_t process_start(pid_t pid);

/* A descriptor of the process with this number and start time: ERR_NOT_FOUND when it is gone. */
int process_open(pid_t pid, uint64_t start, int *ret_pidfd, struct err *e);

enum process_end {
    PROCESS_RUNS,
    PROCESS_ENDED,   /* *ret_status is known, in the form of waitpid */
    PROCESS_LATER,   /* it ended; how will be known when its parent has taken note */
    PROCESS_UNKNOWN, /* it ended and nobody can say how any more */
};

/* Whether and how a process ended. Takes note as a parent when we are one (WNOHANG); else looks at the dead process
 * while its parent has not done so, and asks the descriptor afterwards (PIDFD_GET_INFO, Linux 6.15). */
enum process_end process_end(int pidfd, pid_t pid, uint64_t start, int *ret_status);

/* waitpid's status as a shell would say it: the code, or 128 + signal. */
int process_exit_code(int status);

int process_signal(int pidfd, int signal, struct err *e);

/* The kernel's id of this boot. */
int process_boot_id(char ret[BOOT_ID_TEXT + 1], struct err *e);
