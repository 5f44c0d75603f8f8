/* What the tests with a real keeper share: the rig of tests/bench, or why there is none on this machine. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/bench/rig.h"

static struct rig rig;
static const char *missing; /* of what rig_missing names; NULL: nothing */

static inline int need_rig(void **state)
{
    if (missing) {
        print_message("skip: %s\n", missing);
        skip();
    }
    return 0;
}

static inline int close_rig(void **state)
{
    if (!missing)
        rig_close(&rig);
    return 0;
}

static inline struct rig_case *a_shell(const char *script)
{
    return rig_case(&rig, "/bin/sh", "-c", script, NULL);
}

/* Run it to its end; what it said. */
static inline const char *output_of(struct rig_case *c)
{
    (void)rig_run(c);
    return rig_output(c, NULL);
}
