/* What the API knows and this version does not do, answered by name and never with a lie (501). */
#include "engine/api/api.h"

#define ABSENT(name, text)               \
    static void name(struct api_call *c) \
    {                                    \
        api_absent(c, text);             \
    }

ABSENT(top, "listing the processes of a container (top)")
ABSENT(changes, "listing the changed files of a container (diff)")
ABSENT(export, "exporting a container")
ABSENT(stats, "statistics of a container (stats)")
ABSENT(update, "updating a container")
ABSENT(attach_websocket, "attaching to a container by websocket")
ABSENT(archive, "copying files of a container (cp)")
ABSENT(commit, "committing a container")
ABSENT(exec, "executing a command in a container (exec)")
ABSENT(build, "building images")
ABSENT(push, "pushing an image")
ABSENT(search, "searching images")
ABSENT(save, "saving images")
ABSENT(auth, "checking registry credentials (login)")
ABSENT(volume_update, "updating a volume")
ABSENT(network_create, "creating a network")
ABSENT(network_connect, "connecting a container to a network")
ABSENT(network_disconnect, "disconnecting a container from a network")
ABSENT(plugins, "managing plugins")
ABSENT(session, "an interactive session (BuildKit)")

const struct api_route api_absent_routes[] = {
    {"GET", "/containers/*/top", top, API_BODY_NONE, true},
    {"GET", "/containers/*/changes", changes, API_BODY_NONE, true},
    {"GET", "/containers/*/export", export, API_BODY_NONE, true},
    {"GET", "/containers/*/stats", stats, API_BODY_NONE, true},
    {"POST", "/containers/*/update", update, API_BODY_NONE, true},
    {"GET", "/containers/*/attach/ws", attach_websocket, API_BODY_NONE, true},
    {"HEAD", "/containers/*/archive", archive, API_BODY_NONE, true},
    {"GET", "/containers/*/archive", archive, API_BODY_NONE, true},
    {"PUT", "/containers/*/archive", archive, API_BODY_NONE, true},
    {"POST", "/containers/*/exec", exec, API_BODY_NONE, true},
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
    {"POST", "/networks/create", network_create, API_BODY_NONE, true},
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
