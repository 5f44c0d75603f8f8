/* Names for containers and services that were given none: an adjective and a surname, "calm_noether". */
#pragma once

#include "proto/base/entropy.h"

#define NAME_GENERATED 48 /* bytes a generated name needs at most, with the zero */

/* Make a name. From the second attempt on a digit is added, so that a crowded machine finds a free one soon. */
void name_generate(struct entropy *e, unsigned attempt, char ret[NAME_GENERATED]);
