/* A node with a front and a membership behind it: real clients on a socket, while manager, session and engine are
 * played by the test (fake_manager.h, fake_session.h, fake_engine.h). One node at a time. Link it together with
 * these before the archives (Makefile). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/front.h"
#include "agent/swarm.h"
#include "proto/base/clock.h"
#include "proto/base/entropy.h"
#include "proto/wire/http_test_web.h"
#include "tests/support/fake_engine.h"

#define DAY_MS    (24LL * 3600 * 1000)
#define INIT_BODY "{\"ListenAddr\":\"127.0.0.1:2377\",\"AdvertiseAddr\":\"127.0.0.1\"}"

extern struct web web; /* only its loop and path are used: the server is the front's */
extern struct fake_world *world;
extern struct engine *engine;
extern struct swarm *swarm;
extern struct front *front;
extern struct client client;
extern char *dir; /* where the node keeps its data */
extern unsigned fatals;
extern int64_t wall_shift_ms; /* of the node's clock */

/* Of each test: an open node that is in no swarm. */
int fake_node_setup(void **state);
int fake_node_teardown(void **state);

void close_node(void);
void open_node(void); /* again: as after a restart */

/* Send a request on a new connection, which ends with the answer. */
void ask(const char *method, const char *path, const char *body);
/* Wait for the answer's end. Returns the status; the whole answer is in client.got. */
int answer(void);
int call(const char *method, const char *path, const char *body); /* both */
void assert_answer_has(const char *text);

const char *info(void); /* what /info shows */
void assert_info_has(const char *text);

void init_swarm(void); /* found a swarm; its manager serves */
bool swarm_dir_exists(void);
