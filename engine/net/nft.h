/* Transactions of nf_tables: elements of sets and maps, and whole tables to be removed, as the bytes that the
 * kernel is sent (DESIGN.md section 8). Rules are set up once, as text (kernel_nft_text); what changes all the time
 * are elements, and one takes microseconds this way. Pure.
 *
 * Everything in a transaction happens, or nothing. Deleting an element that is not there, or adding one that has
 * another value, is an error of the whole. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"

#define NFT_KEY_MAX 64 /* bytes of a key, or of a value */

struct nft {           /* all zeroes is an empty one */
    struct buf bytes;  /* netlink messages without begin and end */
    unsigned count;    /* of messages */
    int family;        /* of the table named last: NFPROTO_* */
    const char *table; /* borrowed */
    size_t open;       /* where the message begins that elements are added to; bytes.length: none */
    int open_type;     /* NFT_MSG_* */
    const char *open_set;
    size_t open_list; /* where its list of elements begins */
};

struct nft *nft_new(void);
void nft_free(struct nft *t); /* NULL is fine */

/* What follows is about this table. The texts live as long as the transaction. */
void nft_in(struct nft *t, int family, const char *table);
void nft_delete_table(struct nft *t); /* with all that is in it */
void nft_flush(struct nft *t, const char *set);

/* --- keys ------------------------------------------------------------------------------------------ */

/* A key or value, field by field: in a concatenation each field begins at a multiple of four bytes. Numbers are in
 * the order of bytes that the packet, or the kernel's register, has. */
struct nft_key {
    uint8_t bytes[NFT_KEY_MAX];
    size_t size;
    unsigned fields;
};
void nft_key_bytes(struct nft_key *k, const void *data, size_t size);
void nft_key_u8(struct nft_key *k, uint8_t value);      /* a protocol */
void nft_key_port(struct nft_key *k, uint16_t value);   /* big-endian */
void nft_key_host32(struct nft_key *k, uint32_t value); /* a mark, a slot: the machine's order */
void nft_key_big32(struct nft_key *k, uint32_t value);  /* the same in the key of a set with intervals */
void nft_key_name(struct nft_key *k, const char *link); /* 16 bytes */

/* --- elements -------------------------------------------------------------------------------------- */

/* `value` NULL: of a set. */
void nft_add(struct nft *t, const char *set, const struct nft_key *key, const struct nft_key *value);
void nft_delete(struct nft *t, const char *set, const struct nft_key *key);

/* Of a set with intervals: from..to, both included. `concatenated`: keys have several fields. */
void nft_add_range(struct nft *t, const char *set, bool concatenated, const struct nft_key *from,
                   const struct nft_key *to, const struct nft_key *value);
void nft_delete_range(struct nft *t, const char *set, bool concatenated, const struct nft_key *from,
                      const struct nft_key *to);

/* --- for the thread -------------------------------------------------------------------------------- */

/* The whole transaction, with sequence numbers from `sequence` on; the last change asks for an answer and has the
 * number returned. Nothing to do: 0, and `out` stays as it is. */
uint32_t nft_finish(struct nft *t, uint32_t sequence, struct buf *out);
