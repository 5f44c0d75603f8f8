/* Which places of /proc a mount may cover: asked when a plan is made, and again by the keeper, which sees where a
 * target really leads. Pure. */
#pragma once

#include <stdbool.h>

/* Files below /proc that people legitimately cover (LXCFS and the like); the list every engine has. */
bool procfs_may_be_covered(const char *path);
