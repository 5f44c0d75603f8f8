/* Who a container's program runs as: names looked up in the container's own passwd and group, whose bytes are
 * somebody else's. No files here: the caller reads them, within its limits. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "proto/base/err.h"

#define USER_GROUPS_MAX 1024      /* supplementary groups kept */
#define USER_FILE_MAX   (1 << 20) /* a passwd or group file larger than this is refused */

struct user {
    uid_t uid;
    gid_t gid;
    char home[4096]; /* "/" when unknown */
    gid_t groups[USER_GROUPS_MAX];
    unsigned group_count;
};

/* Resolve "name|uid[:group|gid]" ("" is root) and further groups, names or numbers. `passwd` and `group` are the
 * files' contents, empty when there are none. Docker's rules: a number needs no entry; memberships of the group
 * file count only when no group is given; the first group is always among them; home comes from passwd. ERR_INVALID
 * names what was not found. */
int user_resolve(const char *spec, char *const *more_groups, size_t more_count, const char *passwd,
                 size_t passwd_size, const char *group, size_t group_size, struct user *ret, struct err *e);
