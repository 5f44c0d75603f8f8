/* What filters of the swarm API compare with (proto/base/filter.h has the rest). Names and ids are given by their
 * beginning. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/base/filter.h"
#include "proto/spec.pb-c.h"

/* The key is absent, or one of its values begins this one. */
bool match_prefix(const struct filters *f, const char *key, const char *value);

/* The key is absent, or each of its values "name" or "name=value" is among the labels. */
bool match_labels(const struct filters *f, const char *key, KeyValue *const *labels, size_t count);
