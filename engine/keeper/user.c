/* See user.h.
 *
 * The two files are walked line by line without copying; a line that is not well-formed is skipped, as the C
 * library's own readers do, because images carry such lines. Numbers are those of Docker: 0 to 2147483647. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "engine/keeper/user.h"
#include "proto/base/mem.h"

#define ID_MAX     2147483647u
#define FIELDS_MAX 7

struct text { /* a piece of a file, not terminated */
    const char *at;
    size_t length;
};

static bool text_is(struct text t, const char *other)
{
    return strlen(other) == t.length && memcmp(t.at, other, t.length) == 0;
}

/* Decimal digits of a number up to ID_MAX. */
static bool text_number(struct text t, uint32_t *ret)
{
    uint64_t number = 0;

    if (t.length == 0 || t.length > 10)
        return false;
    for (size_t i = 0; i < t.length; i++) {
        if (t.at[i] < '0' || t.at[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(t.at[i] - '0');
    }
    if (number > ID_MAX)
        return false;
    *ret = (uint32_t)number;
    return true;
}

static struct text text_of(const char *s)
{
    return (struct text){s, strlen(s)};
}

/* The next line of *rest; false at the end. */
static bool next_line(struct text *rest, struct text *ret)
{
    if (rest->length == 0)
        return false;
    const char *end = memchr(rest->at, '\n', rest->length);
    size_t length = end ? (size_t)(end - rest->at) : rest->length;

    *ret = (struct text){rest->at, length};
    length += end != NULL;
    rest->at += length;
    rest->length -= length;
    return true;
}

/* Split at each `separator`; the last field takes the rest. Returns how many there are. */
static unsigned split(struct text line, char separator, struct text *fields, unsigned max)
{
    unsigned count = 0;

    for (;;) {
        const char *end = count + 1 < max ? memchr(line.at, separator, line.length) : NULL;
        size_t length = end ? (size_t)(end - line.at) : line.length;

        fields[count++] = (struct text){line.at, length};
        if (!end)
            return count;
        line.at += length + 1;
        line.length -= length + 1;
    }
}

/* Names and numbers that begin an entry: "name:password:number:". */
static bool parse_entry(struct text line, unsigned want, struct text *fields, uint32_t *ret_number)
{
    return split(line, ':', fields, FIELDS_MAX) >= want && fields[0].length > 0 &&
           text_number(fields[2], ret_number);
}

static bool entry_matches(struct text name, uint32_t number, const char *wanted, bool is_number,
                          uint32_t wanted_number)
{
    return text_is(name, wanted) || (is_number && number == wanted_number);
}

/* The user's own part; *ret_name is the name its supplementary groups are listed under, empty when unknown. */
static int find_user(const char *wanted, struct text passwd, struct user *u, struct text *ret_name, struct err *e)
{
    uint32_t wanted_number = 0, uid, gid;
    bool is_number = *wanted == '\0' || text_number(text_of(wanted), &wanted_number);
    struct text line, fields[FIELDS_MAX];

    *ret_name = (struct text){"", 0};
    while (next_line(&passwd, &line)) {
        if (!parse_entry(line, 4, fields, &uid) || !text_number(fields[3], &gid) ||
            !entry_matches(fields[0], uid, wanted, is_number, wanted_number))
            continue;
        unsigned count = split(line, ':', fields, FIELDS_MAX);
        u->uid = uid;
        u->gid = gid;
        if (count > 5 && fields[5].length > 0 && fields[5].length < sizeof(u->home) && fields[5].at[0] == '/' &&
            !memchr(fields[5].at, '\0', fields[5].length)) {
            memcpy(u->home, fields[5].at, fields[5].length);
            u->home[fields[5].length] = '\0';
        }
        *ret_name = fields[0];
        return 0;
    }
    if (!is_number)
        return err_set(e, ERR_INVALID, "unable to find user %s: no matching entries in passwd file", wanted);
    u->uid = wanted_number;
    return 0;
}

static int find_group(const char *wanted, struct text group, gid_t *ret, struct err *e)
{
    uint32_t wanted_number = 0, gid;
    bool is_number = text_number(text_of(wanted), &wanted_number);
    struct text line, fields[FIELDS_MAX];

    while (next_line(&group, &line))
        if (parse_entry(line, 3, fields, &gid) && entry_matches(fields[0], gid, wanted, is_number, wanted_number)) {
            *ret = gid;
            return 0;
        }
    if (!is_number)
        return err_set(e, ERR_INVALID, "unable to find group %s: no matching entries in group file", wanted);
    *ret = wanted_number;
    return 0;
}

static int add_group(struct user *u, gid_t gid, struct err *e)
{
    for (unsigned i = 0; i < u->group_count; i++)
        if (u->groups[i] == gid)
            return 0;
    if (u->group_count == USER_GROUPS_MAX)
        return err_set(e, ERR_LIMIT, "the user is in more than %d groups", USER_GROUPS_MAX);
    u->groups[u->group_count++] = gid;
    return 0;
}

static bool lists_member(struct text members, struct text name)
{
    struct text part[2];

    while (members.length) {
        unsigned count = split(members, ',', part, 2);

        if (part[0].length == name.length && memcmp(part[0].at, name.at, name.length) == 0)
            return true;
        members = count == 2 ? part[1] : (struct text){"", 0};
    }
    return false;
}

static int add_memberships(struct user *u, struct text name, struct text group, struct err *e)
{
    struct text line, fields[FIELDS_MAX];
    uint32_t gid;
    int rc = 0;

    while (rc == 0 && name.length && next_line(&group, &line))
        if (parse_entry(line, 4, fields, &gid) && lists_member(fields[3], name))
            rc = add_group(u, gid, e);
    return rc;
}

int user_resolve(const char *spec, char *const *more_groups, size_t more_count, const char *passwd,
                 size_t passwd_size, const char *group, size_t group_size, struct user *ret, struct err *e)
{
    const char *colon = strchr(spec, ':');
    AUTO_FREE
    char *name = mem_strndup(spec, colon ? (size_t)(colon - spec) : strlen(spec));
    struct text groups = {group, group_size}, found_name;

    memset(ret, 0, sizeof(*ret));
    ret->home[0] = '/';
    int rc = find_user(name, (struct text){passwd, passwd_size}, ret, &found_name, e);
    bool given = colon && colon[1];
    if (rc == 0 && given)
        rc = find_group(colon + 1, groups, &ret->gid, e);
    /* The first one is among them, so that a program that lowers its group cannot lose it unnoticed: without it,
     * files that are closed to this group would open to whoever changes group (CVE-2022-36109). */
    if (rc == 0)
        rc = add_group(ret, ret->gid, e);
    if (rc == 0 && !given)
        rc = add_memberships(ret, found_name, groups, e);
    for (size_t i = 0; rc == 0 && i < more_count; i++) {
        gid_t gid;

        rc = find_group(more_groups[i], groups, &gid, e);
        if (rc == 0)
            rc = add_group(ret, gid, e);
    }
    return rc;
}
