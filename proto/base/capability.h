/* The names of Linux's capabilities, as container configurations and seccomp profiles spell them. Pure. */
#pragma once

#include <stdint.h>

/* The bit of a capability, 1 << its number; the name may begin with CAP_, in any case. 0 for none. */
uint64_t capability_bit(const char *name);
