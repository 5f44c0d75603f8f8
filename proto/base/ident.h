/* Identifiers: 25 lower-case base-36 characters from 128 random bits for the cluster's objects, 64 hex digits for
 * containers, and the grammar of names (reference/swarm-surface.md section 3, engine-surface.md section 2). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/entropy.h"

#define IDENT_BYTES      16 /* an id as stored */
#define IDENT_TEXT       25 /* an id as shown, without the zero */
#define HEX_ID_TEXT      64 /* a container's or image's id as shown, without the zero */
#define NAME_MAX_SERVICE 63 /* services and networks */
#define NAME_MAX_SECRET  64 /* secrets and configs */

void ident_new(struct entropy *e, char ret_text[IDENT_TEXT + 1]);

/* Text to the 16 bytes it stands for and back. ident_parse returns false when it is not 25 base-36 characters below
 * 2^128. */
bool ident_parse(const char *text, uint8_t ret_bytes[IDENT_BYTES]);
void ident_format(const uint8_t bytes[IDENT_BYTES], char ret_text[IDENT_TEXT + 1]);
bool ident_valid(const char *text);

void hex_id_new(struct entropy *e, char ret_text[HEX_ID_TEXT + 1]);
bool hex_valid(const char *text, size_t length); /* exactly `length` lower-case hex digits */
void hex_encode(const void *data, size_t size, char *ret_text /* 2 * size + 1 */);

/* ^[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*$ and at most 63 bytes: services and networks. */
bool name_valid_service(const char *name);
/* up to 64 of [a-zA-Z0-9-_.], first and last alphanumeric: secrets and configs. */
bool name_valid_secret(const char *name);
/* [a-zA-Z0-9][a-zA-Z0-9_.-]+ and at most 255 bytes: containers and volumes. */
bool name_valid_container(const char *name);

/* Big-endian bytes as base 36, left-padded with zeros to `width` (join tokens). ret_text holds width + 1. Returns
 * false when the number needs more than `width` digits. */
bool base36_encode(const uint8_t *bytes, size_t size, size_t width, char *ret_text);
