/* The parts bundle is made of, and nobody else's business: lists of steps, limits, options. All pure. */
#pragma once

#include "engine/container/bundle.h"

struct step_list { /* grows in the arena */
    struct arena *arena;
    Step **steps;
    size_t count;
};

Step *step_add(struct step_list *l); /* an empty one, at the end */

/* Shorthands: each appends one step. */
StepMount *step_mount(struct step_list *l, const char *target, const char *fstype, uint64_t attributes);
void step_option(struct step_list *l, StepMount *m, const char *option);
void step_cgroup(struct step_list *l, enum bundle_controller c, const char *file, bool optional, const char *fmt,
                 ...) __attribute__((format(printf, 5, 6)));
void step_device(struct step_list *l, const struct bundle_device *d);
void step_mask(struct step_list *l, char **paths, size_t count);
void step_read_only(struct step_list *l, char **paths, size_t count);
void step_directory(struct step_list *l, const char *path);
void step_sysctl(struct step_list *l, const char *path, const char *value, bool optional);

/* bundle_recipe.c: the rules for devices every container may use. */
void bundle_default_devices(struct arena *a, StepDevices *s);
void bundle_add_device(struct arena *a, StepDevices *s, const struct bundle_device *d);

/* bundle_limits.c */
void limits_steps(const HostConfig *host, const struct bundle_kernel *kernel, struct step_list *l);
int limits_ulimits(const HostConfig *host, struct step_list *l, struct err *e);
int limits_check(const HostConfig *host, const struct bundle_kernel *kernel, struct arena *a, char ***warnings,
                 size_t *warning_count, struct err *e);

/* bundle_options.c */
struct options { /* what --security-opt says */
    bool no_new_privileges;
    bool seccomp_unconfined;
    const char *seccomp_profile; /* JSON text of a custom one; NULL */
};
int options_security(const HostConfig *host, struct options *ret, struct err *e);
/* A tmpfs mount from "size=64m,exec"; the docker defaults noexec, nosuid, nodev when text says nothing else. */
int options_tmpfs(struct step_list *l, const char *target, const char *text, StepMount **ret, struct err *e);
int options_log(const HostConfig *host, LogTarget *ret, struct err *e);
/* "10m": bytes. */
bool options_size(const char *text, uint64_t *ret);
int options_sysctls(const HostConfig *host, struct step_list *l, struct err *e);
/* host, none, "" and private; others are refused by name. */
int options_modes(const HostConfig *host, struct err *e);
bool options_is(const char *mode, const char *value);

void warn(struct arena *a, char ***warnings, size_t *count, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
