/* Times in words, as `docker ps` says them: pure. */
#pragma once

#include <stdint.h>

#define DURATION_TEXT 32

/* "Less than a second", "5 seconds", "About a minute", "3 hours", "2 weeks". */
void duration_words(int64_t ns, char ret[DURATION_TEXT]);
