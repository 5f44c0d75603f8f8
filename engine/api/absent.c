/* What the API knows and this version does not do, answered by name and never with a lie (501). */
#include "engine/api/api.h"
#include "engine/container/container.h"

#define ABSENT(name, text)               \
    static void name(struct api_call *c) \
    {                                    \
        api_absent(c, text);             \
    }

#define EXEC "executing a command in a container (exec)"

/* One that is not there is not found first. */
static void absent_of_container(struct api_call *c, const char *operation)
{
    struct container *container;
    struct err e;

    if (container_find(c->en, c->name, &container, &e) < 0)
        api_error(c, &e);
    else
        api_absent(c, operation);
}

#define ABSENT_OF_CONTAINER(name, text)  \
    static void name(struct api_call *c) \
    {                                    \
        absent_of_container(c, text);    \
    }

ABSENT_OF_CONTAINER(top, "listing the processes of a container (top)")
ABSENT_OF_CONTAINER(changes, "listing the changed files of a container (diff)")
ABSENT_OF_CONTAINER(export, "exporting a container")
ABSENT_OF_CONTAINER(stats, "statistics of a container (stats)")
ABSENT_OF_CONTAINER(update, "updating a container")
ABSENT_OF_CONTAINER(attach_websocket, "attaching to a container by websocket")
ABSENT_OF_CONTAINER(archive, "copying files of a container (cp)")
ABSENT(commit, "committing a container")
ABSENT_OF_CONTAINER(exec_create, EXEC)
ABSENT(exec, EXEC)
ABSENT(build, "building images")
ABSENT(push, "pushing an image")
ABSENT(search, "searching images")
ABSENT(save, "saving images")
ABSENT(auth, "checking registry credentials (login)")
ABSENT(volume_update, "updating a volume")
ABSENT(network_connect, "connecting a container to a network")
ABSENT(network_disconnect, "disconnecting a container from a network")
ABSENT(plugins, "managing plugins")
ABSENT(session, "an interactive session (BuildKit)")

const struct api_route api_absent_routes[] = {
    {"GET", "/containers/*/top", top, API_BODY_NONE, false},
    {"GET", "/containers/*/changes", changes, API_BODY_NONE, false},
    {"GET", "/containers/*/export", export, API_BODY_NONE, false},
    {"GET", "/containers/*/stats", stats, API_BODY_NONE, false},
    {"POST", "/containers/*/update", update, API_BODY_NONE, false},
    {"GET", "/containers/*/attach/ws", attach_websocket, API_BODY_NONE, false},
    {"HEAD", "/containers/*/archive", archive, API_BODY_NONE, false},
    {"GET", "/containers/*/archive", archive, API_BODY_NONE, false},
    {"PUT", "/containers/*/archive", archive, API_BODY_NONE, false},
    {"POST", "/containers/*/exec", exec_create, API_BODY_NONE, false},
    {"POST", "/exec/*/start", exec, API_BODY_NONE, true},
    {"POST", "/exec/*/resize", exec, API_BODY_NONE, true},
    {"GET", "/exec/*/json", exec, API_BODY_NONE, true},
    {"POST", "/commit", commit, API_BODY_NONE, true},
    {"POST", "/build", build, API_BODY_NONE, true},
    {"POST", "/build/cancel", build, API_BODY_NONE, true},
    {"POST", "/images/*/push", push, API_BODY_NONE, true},
    {"GET", "/images/search", search, API_BODY_NONE, true},
    {"GET", "/images/*/get", save, API_BODY_NONE, true},
    {"GET", "/images/get", save, API_BODY_NONE, true},
    {"POST", "/auth", auth, API_BODY_NONE, true},
    {"PUT", "/volumes/*", volume_update, API_BODY_NONE, true},
    {"POST", "/networks/*/connect", network_connect, API_BODY_NONE, true},
    {"POST", "/networks/*/disconnect", network_disconnect, API_BODY_NONE, true},
    {"GET", "/plugins/privileges", plugins, API_BODY_NONE, true},
    {"POST", "/plugins/pull", plugins, API_BODY_NONE, true},
    {"POST", "/plugins/create", plugins, API_BODY_NONE, true},
    {"POST", "/plugins/*/enable", plugins, API_BODY_NONE, true},
    {"POST", "/plugins/*/disable", plugins, API_BODY_NONE, true},
    {"POST", "/plugins/*/upgrade", plugins, API_BODY_NONE, true},
    {"POST", "/plugins/*/push", plugins, API_BODY_NONE, true},
    {"POST", "/plugins/*/set", plugins, API_BODY_NONE, true},
    {"DELETE", "/plugins/*", plugins, API_BODY_NONE, true},
    {"POST", "/session", session, API_BODY_NONE, true},
    {"POST", "/grpc", session, API_BODY_NONE, true},
    {0},
};
