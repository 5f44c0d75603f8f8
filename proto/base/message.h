/* Copies of messages that live on their own, outside any arena. Pure. */
#pragma once

#include <protobuf-c/protobuf-c.h>

/* Set an optional scalar that is not set. */
#define MESSAGE_DEFAULT(message, field, value) \
    do {                                       \
        if (!(message)->has_##field) {         \
            (message)->has_##field = true;     \
            (message)->field = (value);        \
        }                                      \
    } while (0)

/* Take an optional scalar over from another message of the type, when it is set there. */
#define MESSAGE_TAKE(into, from, field)    \
    do {                                   \
        if ((from)->has_##field) {         \
            (into)->has_##field = true;    \
            (into)->field = (from)->field; \
        }                                  \
    } while (0)

/* A deep copy on the heap, by packing and unpacking; never NULL. Free it with message_free. */
void *message_dup(const void *message);

/* Free a message that was unpacked on the heap; NULL is fine. */
void message_free(void *message);
