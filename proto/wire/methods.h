/* The calls of the manager port, by number on the wire: never reused, never renumbered. */
#pragma once

enum method {
    METHOD_ROOT = 1,    /* RootRequest -> RootReply; anybody (join.proto) */
    METHOD_ISSUE = 2,   /* IssueRequest -> IssueReply; a token, or a node that renews (join.proto) */
    METHOD_SESSION = 3, /* AgentMessage and ManagerMessage both ways; nodes (dispatch.proto) */
    METHOD_LOGS = 4,    /* LogStart, then LogChunk, from agent to manager; nodes (dispatch.proto) */
    METHOD_MEMBER = 5,  /* MemberRequest -> MemberReply; managers (join.proto) */
    METHOD_RAFT = 6,    /* messages of the managers' group, one way on one channel; managers (manager/raft) */
    METHOD_FORWARD = 7, /* a request of the swarm API for the leader; managers (manager/api) */
};

#define METHOD_JOIN_BYTES_MAX    (64 * 1024)
#define METHOD_SESSION_BYTES_MAX (4 * 1024 * 1024)
#define METHOD_RAFT_BYTES_MAX    (4 * 1024 * 1024)
#define METHOD_RAFT_CREDIT       (8 * 1024 * 1024) /* under way: 80 MB/s where an answer takes 100 ms */
#define METHOD_LOGS_BYTES_MAX    (256 * 1024)
#define METHOD_FORWARD_BYTES_MAX (256 * 1024)
