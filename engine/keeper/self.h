/* The keeper's own program file: a sealed copy in memory, so that no container can ever reach the file on disk
 * through a process that still runs it (the class of CVE-2019-5736). */
#pragma once

#include <stdbool.h>

#include "proto/base/err.h"

/* Copy an executable into a sealed, executable memfd. */
int self_copy(int program_fd, int *ret_fd, struct err *e);

/* Whether this process runs from such a copy. */
bool self_is_sealed(void);

/* Make one of our own program and execute it with the same arguments. Returns only when that fails. */
int self_seal(char *const *argv, struct err *e);
