/* The names of resource limits, as container configurations spell them. Pure. */
#pragma once

/* RLIMIT_NOFILE for "nofile"; -1 for none. */
int ulimit_resource(const char *name);
