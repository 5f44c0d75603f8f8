/* What a container or service is attached to, as people write it: ports, mounts, networks, devices. Pure.
 *
 * Texts in the results are borrowed from the arena or the argument. Errors are ERR_INVALID with docker's text. */
#pragma once

#include "cli/value.h"

struct attach_pair {
    const char *key, *value;
};

struct attach_pairs { /* in the order given; a later key replaces an earlier one */
    struct attach_pair *list;
    size_t count;
};

/* "key=value" or "key" into the pairs. */
void attach_pairs_add(struct arena *a, struct attach_pairs *pairs, const char *text);

/* `path` from the root, counted from `directory` when it is relative, without ".", ".." and doubled slashes. */
char *attach_path(struct arena *a, const char *directory, const char *path);

/* One published port of a service. */
struct attach_port {
    const char *protocol; /* "tcp", "udp", "sctp" */
    uint16_t target;
    uint16_t published; /* 0: the cluster chooses */
    bool host_mode;     /* published on the task's own node only */
};

/* "published=80,target=8080,protocol=tcp,mode=host" or "80-82:8080-8082/tcp". */
int attach_ports(struct arena *a, const char *text, struct attach_port **ret, size_t *ret_count, struct err *e);

/* One port of a container, with where it is published. */
struct attach_binding {
    uint16_t port;
    const char *protocol;
    const char *address;   /* "" for every address */
    const char *host_port; /* "" to let the engine choose, "8080", or a range to choose from "8080-8085" */
};

/* "[address:][host port:]port[/protocol]" with ranges, or the long form of services. */
int attach_bindings(struct arena *a, const char *text, struct attach_binding **ret, size_t *ret_count,
                    struct err *e);

/* "80", "80-90", "80/udp": ports to expose, as first and last. */
int attach_exposed(struct arena *a, const char *text, uint16_t *ret_first, uint16_t *ret_last,
                   const char **ret_protocol, struct err *e);

struct attach_mount {
    const char *type; /* "volume", "bind", "tmpfs", ... as given */
    const char *source, *target, *consistency;
    bool read_only;
    bool has_bind, has_volume, has_image, has_tmpfs; /* an option of that kind was given */
    const char *propagation;
    bool non_recursive, read_only_non_recursive, read_only_force_recursive;
    bool no_copy;
    struct attach_pairs volume_labels, driver_options;
    const char *driver, *volume_subpath, *image_subpath;
    int64_t tmpfs_bytes;
    uint32_t tmpfs_mode;
};

/* "type=bind,source=/a,target=/b,readonly". A source that begins with a dot counts from `directory`. */
int attach_mount(struct arena *a, const char *text, const char *directory, struct attach_mount *ret, struct err *e);

struct attach_network {
    const char *target; /* name or id */
    const char **aliases, **link_local;
    size_t aliases_count, link_local_count;
    struct attach_pairs driver_options;
    const char *address, *address6, *mac_address; /* "" when not given */
    int64_t gateway_priority;
};

/* "backend" or "name=backend,alias=db,driver-opt=k=v". */
int attach_network(struct arena *a, const char *text, struct attach_network *ret, struct err *e);

struct attach_device {
    const char *host_path, *container_path, *permissions;
};

/* "/dev/host[:/dev/container][:rwm]". */
int attach_device(struct arena *a, const char *text, struct attach_device *ret, struct err *e);
