/* What befalls the file of a store. Apart from the rest of the simulation, whose disk is another. */
#pragma once

#include <stdbool.h>

#include "manager/store/store.h"
#include "proto/base/entropy.h"

/* A record that does not open any more, as reading it would find out. */
void spoil_open_store(struct store *s);

/* The file of a closed store goes, or some of its bytes are others. False: it could not be done. */
bool spoil_file(const char *path, struct entropy *random);
