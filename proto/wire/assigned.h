/* The digest of what is assigned to an agent: manager and agent compute it alike and compare (DESIGN.md section 9).
 * Pure. */
#pragma once

#include <stdint.h>

#include "proto/dispatch.pb-c.h"

/* Of one item as it is packed. A set's digest is the sum (modulo 2^64) over its items: order does not matter, and
 * adding or removing one costs one item. */
uint64_t assigned_digest(const AssignmentItem *item);
