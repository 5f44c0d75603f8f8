/* Is a recorded history of clients linearizable? For one object at a time, which is enough: linearizability is
 * local.
 *
 * The object is a register that holds a number. A client may read it, and swap one number for another: which either
 * succeeds, or says that the register held something else. So "create unless it is there", "update this version"
 * and "remove" are all swaps, with 0 for what is absent. An operation takes effect at one moment between its call
 * and its return. One whose outcome nobody learned may take effect at any moment after its call, or never. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINEAR_UNKNOWN UINT64_MAX /* as `returned`: the outcome was never learned */

enum linear_kind {
    LINEAR_READ,     /* found `found` */
    LINEAR_SWAP,     /* found `found` and left `left` there */
    LINEAR_MISMATCH, /* wanted `found` and was told that it is not there */
};

struct linear_op {
    enum linear_kind kind;
    uint64_t called, returned; /* moments of one clock, all different; called < returned */
    uint64_t found, left;
};

/* A read or a mismatch whose outcome is unknown says nothing: leave it out.
 *
 * False: there is no order. *ret_op: the first operation, by its return, up to which no order was found. Takes time
 * and memory in proportion to count as long as few operations overlap. */
bool linear_check(const struct linear_op *ops, size_t count, uint64_t initial, size_t *ret_op);
