/* See attach.h.
 *
 * Ports, mounts and networks have a long form of comma-separated key=value fields; ports and networks also a short
 * one. A text is taken for the long form when an equals sign stands between two word characters, as docker does. */
#include <ctype.h>
#include <string.h>

#include "cli/attach.h"
#include "proto/base/mem.h"

void attach_pairs_add(struct arena *a, struct attach_pairs *pairs, const char *text)
{
    struct attach_pair pair;

    pair.value = value_cut(a, text, '=', &pair.key);
    if (!pair.value)
        pair.value = "";
    for (size_t i = 0; i < pairs->count; i++) {
        if (strcmp(pairs->list[i].key, pair.key) == 0) {
            pairs->list[i].value = pair.value;
            return;
        }
    }
    pairs->list = arena_append(a, pairs->list, pairs->count, sizeof(*pairs->list));
    pairs->list[pairs->count++] = pair;
}

static bool word_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static bool long_form(const char *text)
{
    for (const char *c = text; *c; c++)
        if (*c == '=' && c > text && word_byte(c[-1]) && word_byte(c[1]))
            return true;
    return false;
}

static char *lower(struct arena *a, const char *text)
{
    char *copy = arena_strdup(a, text);

    for (char *c = copy; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return copy;
}

char *attach_path(struct arena *a, const char *directory, const char *path)
{
    char *joined = *path == '/' ? arena_strdup(a, path) : arena_printf(a, "%s/%s", directory, path);
    char *out = joined;

    /* Drop empty parts and ".", and for ".." the part before it; what is written never overtakes what is read. */
    for (const char *at = joined; *at;) {
        size_t length = strcspn(at + 1, "/");

        if (length == 2 && at[1] == '.' && at[2] == '.') {
            while (out > joined && *--out != '/')
                ;
        } else if (length && !(length == 1 && at[1] == '.')) {
            memmove(out, at, length + 1);
            out += length + 1;
        }
        at += length + 1;
    }
    if (out == joined)
        *out++ = '/';
    *out = '\0';
    return joined;
}

static bool known_protocol(const char *protocol)
{
    return strcmp(protocol, "tcp") == 0 || strcmp(protocol, "udp") == 0 || strcmp(protocol, "sctp") == 0;
}

/* --- ports ------------------------------------------------------------------------------------------------------
 */

static int port_number(const char *text, const char *which, uint16_t *ret, struct err *e)
{
    uint64_t value;
    struct err why = {0};

    if (value_uint(text, 10, 16, &value, &why) < 0)
        return err_set(e, ERR_INVALID, "invalid %s port (%s): value must be an integer: %s", which, text,
                       strstr(why.text, "range") ? "value out of range" : "invalid syntax");
    *ret = (uint16_t)value;
    return 0;
}

static int port_long(struct arena *a, const char *text, struct attach_port *ret, struct err *e)
{
    struct attach_port port = {.protocol = "tcp"};
    const char **fields, *key;
    size_t count;
    int rc = value_fields(a, text, &fields, &count, e);

    for (size_t i = 0; rc == 0 && i < count; i++) {
        const char *value = value_cut(a, lower(a, fields[i]), '=', &key);

        if (!value || !*key)
            return err_set(e, ERR_INVALID, "invalid field: %s", fields[i]);
        if (strcmp(key, "target") == 0) {
            rc = port_number(value, "target", &port.target, e);
        } else if (strcmp(key, "published") == 0) {
            rc = port_number(value, "published", &port.published, e);
        } else if (strcmp(key, "protocol") == 0) {
            if (!known_protocol(value))
                return err_set(e, ERR_INVALID, "invalid protocol value '%s'", value);
            port.protocol = value;
        } else if (strcmp(key, "mode") == 0) {
            port.host_mode = strcmp(value, "host") == 0;
            if (!port.host_mode && strcmp(value, "ingress") != 0)
                return err_set(e, ERR_INVALID,
                               "invalid publish mode value (%s): must be either 'ingress' or 'host'", value);
        } else {
            return err_set(e, ERR_INVALID, "invalid field key: %s", key);
        }
    }
    if (rc == 0 && port.target == 0)
        return err_set(e, ERR_INVALID, "missing mandatory field 'target'");
    *ret = port;
    return rc;
}

static int port_range(struct arena *a, const char *text, uint16_t *ret_first, uint16_t *ret_last, struct err *e)
{
    const char *first, *last = value_cut(a, text, '-', &first);
    uint64_t from, to;

    if (!*text)
        return err_set(e, ERR_INVALID, "empty string specified for ports");
    if (value_uint(first, 10, 16, &from, e) < 0)
        return ERR_INVALID;
    to = from;
    if (last && value_uint(last, 10, 16, &to, e) < 0)
        return ERR_INVALID;
    if (to < from)
        return err_set(e, ERR_INVALID, "invalid range specified for port: %s", text);
    *ret_first = (uint16_t)from;
    *ret_last = (uint16_t)to;
    return 0;
}

/* "80/udp" into the port and the protocol; tcp when none is given. */
static const char *split_protocol(struct arena *a, const char *text, const char **ret_port)
{
    const char *protocol = value_cut(a, text, '/', ret_port);

    return protocol && *protocol ? lower(a, protocol) : "tcp";
}

struct specification {
    const char *address, *host_port, *port, *protocol;
    uint16_t first, last, host_first, host_last;
};

static int read_specification(struct arena *a, const char *text, struct specification *ret, struct err *e)
{
    struct specification s = {.address = "", .host_port = ""};
    char *copy = arena_strdup(a, text), *colon = strrchr(copy, ':');
    char address[64];
    struct err ignored;

    if (colon) {
        *colon = '\0';
        s.host_port = copy;
        char *second = strrchr(copy, ':');
        if (second) {
            *second = '\0';
            s.host_port = second + 1;
            s.address = copy;
        }
    }
    s.protocol = split_protocol(a, colon ? colon + 1 : copy, &s.port);
    size_t length = strlen(s.address);
    if (length > 2 && s.address[0] == '[' && s.address[length - 1] == ']')
        s.address = arena_strndup(a, s.address + 1, length - 2);
    if (*s.address && value_address(s.address, address, &ignored) < 0)
        return err_set(e, ERR_INVALID, "invalid IP address: %s", s.address);
    if (!*s.port)
        return err_set(e, ERR_INVALID, "no port specified: %s<empty>", text);
    if (port_range(a, s.port, &s.first, &s.last, NULL) < 0)
        return err_set(e, ERR_INVALID, "invalid containerPort: %s", s.port);
    if (*s.host_port && port_range(a, s.host_port, &s.host_first, &s.host_last, NULL) < 0)
        return err_set(e, ERR_INVALID, "invalid hostPort: %s", s.host_port);
    if (*s.host_port && s.last - s.first != s.host_last - s.host_first && s.last != s.first)
        return err_set(e, ERR_INVALID, "invalid ranges specified for container and host Ports: %s and %s", s.port,
                       s.host_port);
    if (!known_protocol(s.protocol))
        return err_set(e, ERR_INVALID, "invalid proto: %s", s.protocol);
    *ret = s;
    return 0;
}

int attach_ports(struct arena *a, const char *text, struct attach_port **ret, size_t *ret_count, struct err *e)
{
    struct attach_port *list;
    struct specification s;

    if (long_form(text)) {
        list = ARENA_NEW(a, struct attach_port);
        int rc = port_long(a, text, list, e);
        if (rc < 0)
            return rc;
        *ret = list;
        *ret_count = 1;
        return 0;
    }
    int rc = read_specification(a, text, &s, e);
    if (rc < 0)
        return rc;
    if (*s.address)
        return err_set(e, ERR_INVALID, "hostip is not supported");
    /* One target with a range of published ports is published on each of them. */
    size_t targets = (size_t)(s.last - s.first) + 1, published = (size_t)(s.host_last - s.host_first) + 1;
    size_t count = MAX(targets, published);
    list = arena_array(a, count, sizeof(*list));
    for (size_t i = 0; i < count; i++)
        list[i] = (struct attach_port){.protocol = s.protocol,
                                       .target = (uint16_t)(s.first + (targets > 1 ? i : 0)),
                                       .published = *s.host_port ? (uint16_t)(s.host_first + i) : 0};
    *ret = list;
    *ret_count = count;
    return 0;
}

/* The long form of services, "published=80,target=8080", as the short one. */
static int from_long(struct arena *a, const char *text, const char **ret, struct err *e)
{
    const char *published = "", *target = "", *protocol = "tcp", *key;

    while (text) {
        const char *field, *rest = value_cut(a, text, ',', &field), *value = value_cut(a, field, '=', &key);

        if (!value || !*key)
            return err_set(e, ERR_INVALID, "invalid publish opts format (should be name=value but got '%s')",
                           field);
        if (strcmp(key, "published") == 0)
            published = value;
        else if (strcmp(key, "target") == 0)
            target = value;
        else if (strcmp(key, "protocol") == 0)
            protocol = value;
        text = rest;
    }
    *ret = arena_printf(a, "%s:%s/%s", published, target, protocol);
    return 0;
}

int attach_bindings(struct arena *a, const char *text, struct attach_binding **ret, size_t *ret_count,
                    struct err *e)
{
    struct specification s;
    int rc = strchr(text, '=') ? from_long(a, text, &text, e) : 0;

    if (rc == 0)
        rc = read_specification(a, text, &s, e);
    if (rc < 0)
        return rc;
    size_t count = (size_t)(s.last - s.first) + 1;
    struct attach_binding *list = arena_array(a, count, sizeof(*list));
    for (size_t i = 0; i < count; i++) {
        list[i] = (struct attach_binding){
            .port = (uint16_t)(s.first + i), .protocol = s.protocol, .address = s.address, .host_port = ""};
        if (*s.host_port && count == 1 && s.host_first != s.host_last)
            list[i].host_port = arena_printf(a, "%u-%u", s.host_first, s.host_last);
        else if (*s.host_port)
            list[i].host_port = arena_printf(a, "%u", (unsigned)(s.host_first + i));
    }
    *ret = list;
    *ret_count = count;
    return 0;
}

int attach_exposed(struct arena *a, const char *text, uint16_t *ret_first, uint16_t *ret_last,
                   const char **ret_protocol, struct err *e)
{
    const char *port;

    if (strchr(text, ':'))
        return err_set(e, ERR_INVALID, "invalid port format for --expose: %s", text);
    *ret_protocol = split_protocol(a, text, &port);
    int rc = port_range(a, port, ret_first, ret_last, e);
    return rc < 0 ? err_wrap(e, "invalid range format for --expose: %s, error", text) : 0;
}

/* --- mounts -----------------------------------------------------------------------------------------------------
 */

static int mount_bool(const char *key, const char *value, bool *ret, struct err *e)
{
    struct err ignored;

    if (value_bool(value, ret, &ignored) < 0)
        return err_set(e, ERR_INVALID, "invalid value for %s: %s", key, value);
    return 0;
}

static int mount_recursion(struct attach_mount *m, const char *key, const char *value, struct err *e)
{
    if (strcmp(value, "disabled") == 0)
        m->non_recursive = m->has_bind = true;
    else if (strcmp(value, "writable") == 0)
        m->read_only_non_recursive = m->has_bind = true;
    else if (strcmp(value, "readonly") == 0)
        m->read_only_force_recursive = m->has_bind = true;
    else if (strcmp(value, "enabled") != 0)
        return err_set(
            e, ERR_INVALID,
            "invalid value for %s: %s (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")", key,
            value);
    return 0;
}

static int mount_volume(struct arena *a, struct attach_mount *m, const char *key, const char *value, struct err *e)
{
    m->has_volume = true;
    if (strcmp(key, "volume-nocopy") == 0)
        return mount_bool(key, value, &m->no_copy, e);
    if (strcmp(key, "volume-subpath") == 0)
        m->volume_subpath = value;
    else if (strcmp(key, "volume-driver") == 0)
        m->driver = value;
    else if (*value && *value != '=')
        attach_pairs_add(a, strcmp(key, "volume-label") == 0 ? &m->volume_labels : &m->driver_options, value);
    return 0;
}

static int mount_tmpfs(struct attach_mount *m, const char *key, const char *value, struct err *e)
{
    uint64_t mode;
    struct err ignored;

    m->has_tmpfs = true;
    if (strcmp(key, "tmpfs-size") == 0 ? value_bytes(value, &m->tmpfs_bytes, &ignored) < 0
                                       : value_uint(value, 8, 32, &mode, &ignored) < 0)
        return err_set(e, ERR_INVALID, "invalid value for %s: %s", key, value);
    if (strcmp(key, "tmpfs-mode") == 0)
        m->tmpfs_mode = (uint32_t)mode;
    return 0;
}

static bool is_one_of(const char *text, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(text, *list) == 0)
            return true;
    return false;
}

static int mount_field(struct arena *a, struct attach_mount *m, const char *field, const char *directory,
                       struct err *e)
{
    static const char *const sources[] = {"source", "src", NULL},
                             *const targets[] = {"target", "dst", "destination", NULL},
                             *const read_onlys[] = {"readonly", "ro", NULL}, *const volumes[] = {"volume-nocopy",
                                                                                                 "volume-subpath",
                                                                                                 "volume-driver",
                                                                                                 "volume-label",
                                                                                                 "volume-opt",
                                                                                                 NULL},
                             *const tmpfs[] = {"tmpfs-size", "tmpfs-mode", NULL},
                             *const switches[] = {"readonly", "ro", "volume-nocopy", "bind-nonrecursive", NULL};
    const char *key, *value = value_cut(a, field, '=', &key);

    key = lower(a, key);
    if (!value) {
        if (!is_one_of(key, switches))
            return err_set(e, ERR_INVALID, "invalid field '%s' must be a key=value pair", field);
        value = "true";
    }
    if (strcmp(key, "type") == 0)
        m->type = lower(a, value);
    else if (is_one_of(key, sources))
        m->source = *value == '.' ? attach_path(a, directory, value) : value;
    else if (is_one_of(key, targets))
        m->target = value;
    else if (is_one_of(key, read_onlys))
        return mount_bool(key, value, &m->read_only, e);
    else if (strcmp(key, "consistency") == 0)
        m->consistency = lower(a, value);
    else if (strcmp(key, "bind-propagation") == 0) {
        m->propagation = lower(a, value);
        m->has_bind = true;
    } else if (strcmp(key, "bind-nonrecursive") == 0) {
        m->has_bind = true;
        return mount_bool(key, value, &m->non_recursive, e);
    } else if (strcmp(key, "bind-recursive") == 0)
        return mount_recursion(m, key, value, e);
    else if (is_one_of(key, volumes))
        return mount_volume(a, m, key, value, e);
    else if (is_one_of(key, tmpfs))
        return mount_tmpfs(m, key, value, e);
    else if (strcmp(key, "image-subpath") == 0) {
        m->image_subpath = value;
        m->has_image = true;
    } else
        return err_set(e, ERR_INVALID, "unexpected key '%s' in '%s'", key, field);
    return 0;
}

static int mount_check(const struct attach_mount *m, struct err *e)
{
    const struct {
        bool given;
        const char *prefix, *type;
    } kinds[] = {{m->has_volume, "volume", "volume"},
                 {m->has_image, "image", "image"},
                 {m->has_bind, "bind", "bind"},
                 {m->has_tmpfs, "tmpfs", "tmpfs"}};

    if (!*m->type)
        return err_set(e, ERR_INVALID, "type is required");
    if (!*m->target)
        return err_set(e, ERR_INVALID, "target is required");
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        if (kinds[i].given && strcmp(m->type, kinds[i].type) != 0)
            return err_set(e, ERR_INVALID, "cannot mix '%s-*' options with mount type '%s'", kinds[i].prefix,
                           m->type);
    if (m->read_only_non_recursive && !m->read_only)
        return err_set(e, ERR_INVALID,
                       "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction");
    if (m->read_only_force_recursive && !m->read_only)
        return err_set(e, ERR_INVALID,
                       "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction");
    if (m->read_only_force_recursive && strcmp(m->propagation, "rprivate") != 0)
        return err_set(e, ERR_INVALID,
                       "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be "
                       "specified in conjunction");
    return 0;
}

int attach_mount(struct arena *a, const char *text, const char *directory, struct attach_mount *ret, struct err *e)
{
    struct attach_mount m = {.type = "volume",
                             .source = "",
                             .target = "",
                             .consistency = "",
                             .propagation = "",
                             .driver = "",
                             .volume_subpath = "",
                             .image_subpath = ""};
    const char **fields;
    size_t count;
    int rc = value_fields(a, text, &fields, &count, e);

    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = mount_field(a, &m, fields[i], directory, e);
    if (rc == 0)
        rc = mount_check(&m, e);
    if (rc == 0)
        *ret = m;
    return rc;
}

/* --- networks ---------------------------------------------------------------------------------------------------
 */

static const char *trim(struct arena *a, const char *text)
{
    text += strspn(text, " \t");
    size_t length = strlen(text);

    while (length && strchr(" \t", text[length - 1]))
        length--;
    return arena_strndup(a, text, length);
}

static void append(struct arena *a, const char ***list, size_t *count, const char *text)
{
    *list = arena_append(a, *list, *count, sizeof(**list));
    (*list)[(*count)++] = text;
}

static int network_field(struct arena *a, struct attach_network *n, const char *field, struct err *e)
{
    const char *key, *value = value_cut(a, lower(a, field), '=', &key);

    if (!value || !*key)
        return err_set(e, ERR_INVALID, "invalid field %s", field);
    key = trim(a, key);
    value = trim(a, value);
    if (strcmp(key, "name") == 0)
        n->target = value;
    else if (strcmp(key, "alias") == 0)
        append(a, &n->aliases, &n->aliases_count, value);
    else if (strcmp(key, "ip") == 0)
        n->address = value;
    else if (strcmp(key, "ip6") == 0)
        n->address6 = value;
    else if (strcmp(key, "mac-address") == 0)
        n->mac_address = value;
    else if (strcmp(key, "link-local-ip") == 0)
        append(a, &n->link_local, &n->link_local_count, value);
    else if (strcmp(key, "driver-opt") == 0) {
        if (!strchr(value, '=') || *value == '=')
            return err_set(e, ERR_INVALID, "invalid key value pair format in driver options");
        attach_pairs_add(a, &n->driver_options, value);
    } else if (strcmp(key, "gw-priority") == 0) {
        struct err why = {0};

        if (value_int(value, 10, 64, &n->gateway_priority, &why) < 0)
            return err_set(e, ERR_INVALID, "invalid gw-priority (%s): %s", value,
                           strstr(why.text, "range") ? "value out of range" : "invalid syntax");
    } else
        return err_set(e, ERR_INVALID, "invalid field key %s", key);
    return 0;
}

int attach_network(struct arena *a, const char *text, struct attach_network *ret, struct err *e)
{
    struct attach_network n = {.target = text, .address = "", .address6 = "", .mac_address = ""};
    const char **fields;
    size_t count;
    int rc = 0;

    if (long_form(text)) {
        n.target = "";
        rc = value_fields(a, text, &fields, &count, e);
        for (size_t i = 0; rc == 0 && i < count; i++)
            rc = network_field(a, &n, fields[i], e);
        if (rc == 0 && !*n.target)
            rc = err_set(e, ERR_INVALID, "network name/id is not specified");
    }
    if (rc == 0)
        *ret = n;
    return rc;
}

/* --- devices ----------------------------------------------------------------------------------------------------
 */

static bool device_permissions(const char *text)
{
    size_t length = strlen(text);

    if (length == 0 || length > 3 || strspn(text, "rwm") != length)
        return false;
    for (size_t i = 0; i < length; i++)
        if (strchr(text + i + 1, text[i]))
            return false;
    return true;
}

int attach_device(struct arena *a, const char *text, struct attach_device *ret, struct err *e)
{
    struct attach_device d = {.permissions = "rwm"};
    const char *parts[3] = {NULL}, *rest = text;
    size_t count = 0;

    while (rest && count < 3)
        rest = value_cut(a, rest, ':', &parts[count++]);
    if (rest || !*parts[0])
        return err_set(e, ERR_INVALID, "bad format for path: %s", text);
    d.host_path = d.container_path = parts[0];
    if (count == 2 && device_permissions(parts[1]))
        d.permissions = parts[1];
    else if (count >= 2)
        d.container_path = *parts[1] ? parts[1] : parts[0];
    if (count == 3) {
        if (!device_permissions(parts[2]))
            return err_set(e, ERR_INVALID, "bad mode specified: %s", parts[2]);
        d.permissions = parts[2];
    }
    if (*d.container_path != '/')
        return err_set(e, ERR_INVALID, "%s is not an absolute path", d.container_path);
    *ret = d;
    return 0;
}
