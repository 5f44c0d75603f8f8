/* The files of a container that are mounted over its /etc/hosts, /etc/hostname and /etc/resolv.conf. They lie in
 * <run-dir>/etc/<id>, in memory where the run directory is: a restart of this program and the container's own
 * leave them, a reboot takes them, and what is missing is made from the record when the container is started. */
#pragma once

#include "proto/base/err.h"

struct container;
struct containers;

/* Open the directory of all, and remove what belongs to no container. After the records were read. */
int etc_open(struct containers *s, struct err *e);

/* Before each start: make the files if they are not there, else bring resolv.conf up to date, unless the container
 * changed it. *ret_fd (O_PATH) is their directory, the caller's. */
int etc_ready(struct container *c, int *ret_fd, struct err *e);

void etc_remove(struct container *c);

/* Where the file is, or will be once it was started; free() it. */
char *etc_path(const struct container *c, const char *file);
