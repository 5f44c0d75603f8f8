/* What the members of a Raft group say to each other, as bytes.
 *
 * Everything a peer sends is checked here before anything else sees it: sizes, counts, ids, epoch, and the rules of
 * reference/raft-step.md 3.1, also the encoded membership inside entries, which libraft decodes without looking at
 * its bounds. Besides libraft's six messages there are ours: the round for strong reads, the pulling of snapshots,
 * the word to a member that it was removed, and the comparison of stores. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <raft.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/hash.h"

#define MESSAGE_VERSION     1
#define MESSAGE_BYTES_MAX   (4 << 20) /* of one message */
#define MESSAGE_ENTRIES_MAX 65536     /* in one message */
#define MESSAGE_CHUNK_MAX   (1 << 20) /* bytes of a snapshot's chunk */
#define MESSAGE_MEMBERS_MAX 64        /* in a configuration */
#define MESSAGE_ADDRESS_MAX 262       /* of a member: a host name, a colon, a port */
#define MESSAGE_INDEX_MAX   (1ULL << 60)

enum message_type {                           /* on the wire; 1 to 6 are libraft's */
                    MESSAGE_READ_ASK = 16,    /* leader: am I still the leader of this term? */
                    MESSAGE_READ_ANSWER = 17, /* yes, for this round */
                    MESSAGE_PULL = 18,        /* give me chunk n of that snapshot */
                    MESSAGE_CHUNK = 19,
                    MESSAGE_REMOVED = 20, /* you are no member any more, as of this index */
                    MESSAGE_DIGEST = 21,  /* leader: my store after that entry; member: mine, which differs */
};

struct message_round { /* READ_ASK, READ_ANSWER */
    uint64_t term, round;
};

struct message_offer { /* with RAFT_INSTALL_SNAPSHOT: what there is to pull */
    uint64_t chunks;
    uint64_t bytes;
    uint32_t chunk_bytes;
    uint8_t digest[SHA256_BYTES]; /* of the contents */
};

struct message_chunk {            /* PULL (no data), CHUNK */
    uint64_t index;               /* of the snapshot; 0 in a CHUNK: not to be had any more */
    uint64_t number;              /* of the chunk, from 0 */
    uint8_t digest[SHA256_BYTES]; /* PULL: of the snapshot; CHUNK: of the chunk */
    const uint8_t *data;
    uint32_t size;
};

struct message_removed {
    uint64_t term, index;
};

struct message_digest {
    uint64_t index, value;
};

struct message {
    int type; /* enum raft_message_type or enum message_type */
    uint64_t from, to;
    struct raft_message raft; /* types 1 to 6; server_id is the sender, server_address NULL */
    union {
        struct message_offer offer;
        struct message_round round;
        struct message_chunk chunk;
        struct message_removed removed;
        struct message_digest digest;
    };
};

/* Append the message. `epoch` is the cluster's. Entries must not exceed MESSAGE_BYTES_MAX together (message_room).
 */
void message_put(struct buf *out, uint64_t epoch, const struct message *m);

/* Bytes an entry of that size takes, and bytes that entries may take in one message. */
size_t message_entry_bytes(size_t size);
size_t message_entries_room(void);

/* Decode. `from` is who the link says it is, `self` who we are. ERR_INVALID names what is wrong. On success m owns
 * the entries' array and their one batch, or the configuration: message_fini, unless the core took them. Chunk data
 * is borrowed from `data`. */
int message_get(const void *data, size_t size, uint64_t epoch, uint64_t from, uint64_t self, struct message *ret,
                struct err *e);
void message_fini(struct message *m);

/* Check the bytes of an encoded configuration (an entry of type RAFT_CHANGE). */
int message_check_configuration(const uint8_t *data, size_t size, struct err *e);

const char *message_name(int type); /* "append entries" */
