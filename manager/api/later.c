/* Nouns of the swarm API that are not offered yet: there are none of them, and making one is refused by name. */
#include <string.h>

#include "manager/api/nouns.h"

static const char *const known_filters[] = {"id", "name", "names", "label", NULL};

static int prepare_list(struct ask *k, struct err *e)
{
    struct filters filters;

    return ask_filters(k, known_filters, &filters, e);
}

static void list(struct ask *k)
{
    buf_append_str(&k->page.bytes, "[]\n");
    ask_reply(k, 200);
}

static void begin_list(struct ask *k)
{
    ask_read(k, list);
}

/* "secret" of "/secrets/{id}" */
static int noun_length(const struct ask *k)
{
    return (int)strcspn(k->route->path + 1, "/") - 1;
}

static int refuse(struct ask *k, struct err *e)
{
    return err_set(e, ERR_UNSUPPORTED, "%.*ss are not offered by shoal " SHOAL_VERSION, noun_length(k),
                   k->route->path + 1);
}

static int not_found(struct ask *k, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "%.*s %.200s not found", noun_length(k), k->route->path + 1, k->id);
}

#define NOUN(path)                                                         \
    {"GET", path, ASK_READ, .prepare = prepare_list, .begin = begin_list}, \
        {"POST", path "/create", ASK_WRITE, .prepare = refuse},            \
        {"GET", path "/{id}", ASK_READ, .prepare = not_found},             \
        {"DELETE", path "/{id}", ASK_WRITE, .prepare = not_found},         \
    {                                                                      \
        "POST", path "/{id}/update", ASK_WRITE, .prepare = not_found       \
    }

const struct ask_route later_routes[] = {NOUN("/secrets"), NOUN("/configs"), {0}};
