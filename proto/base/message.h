/* Copies of messages that live on their own, outside any arena. Pure. */
#pragma once

#include <protobuf-c/protobuf-c.h>

/* A deep copy on the heap, by packing and unpacking; never NULL. Free it with message_free. */
void *message_dup(const void *message);

/* Free a message that was unpacked on the heap; NULL is fine. */
void message_free(void *message);
