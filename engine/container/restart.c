/* See restart.h. Delays double from 100 ms to a minute and start over after a run of ten seconds. A user's stop
 * holds until a user's start; only `always` forgets it when the engine itself starts anew. */
#include <string.h>

#include "engine/container/restart.h"
#include "proto/base/mem.h"

enum rule { RULE_NO, RULE_ALWAYS, RULE_UNLESS_STOPPED, RULE_ON_FAILURE, RULE_UNKNOWN };

static enum rule rule_of(const RestartRule *rule)
{
    static const char *const names[] = {"no", "always", "unless-stopped", "on-failure"};

    if (!rule || !rule->name || !*rule->name)
        return RULE_NO;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strcmp(rule->name, names[i]) == 0)
            return (enum rule)i;
    return RULE_UNKNOWN;
}

static bool failure_counts(const struct restart_in *in)
{
    unsigned most = in->rule->maximum_retries;

    return in->failed && (most == 0 || in->count < most);
}

int64_t restart_after(const struct restart_in *in)
{
    enum rule rule = rule_of(in->rule);

    if (in->stopped_by_user || rule == RULE_NO || rule == RULE_UNKNOWN)
        return -1;
    if (rule == RULE_ON_FAILURE && !failure_counts(in))
        return -1;
    if (in->delay_ms == 0 || in->ran_ms >= RESTART_RESET_MS)
        return RESTART_DELAY_MIN_MS;
    return MIN(in->delay_ms * 2, RESTART_DELAY_MAX_MS);
}

bool restart_at_open(const struct restart_in *in)
{
    switch (rule_of(in->rule)) {
    case RULE_ALWAYS:
        return true;
    case RULE_UNLESS_STOPPED:
        return !in->stopped_by_user;
    case RULE_ON_FAILURE:
        return !in->stopped_by_user && failure_counts(in);
    default:
        return false;
    }
}

int restart_check(const RestartRule *rule, bool auto_remove, struct err *e)
{
    enum rule kind = rule_of(rule);

    if (kind == RULE_UNKNOWN)
        return err_set(e, ERR_INVALID,
                       "invalid restart policy: unknown policy '%s'; use one of 'no', 'always', 'on-failure', or "
                       "'unless-stopped'",
                       rule->name);
    if (kind != RULE_ON_FAILURE && rule && rule->maximum_retries)
        return err_set(e, ERR_INVALID,
                       "invalid restart policy: maximum retry count %u can only be used with 'on-failure'",
                       rule->maximum_retries);
    if (kind != RULE_NO && auto_remove)
        return err_set(e, ERR_INVALID, "can't create 'AutoRemove' container with restart policy");
    return 0;
}
