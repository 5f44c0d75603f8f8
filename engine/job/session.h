/* The credentials of a fetch job: found out once by asking GET /v2/, used for every request, renewed when refused.
 */
#pragma once

#include "engine/job/request.h"

struct session;

struct session *session_new(struct fetch *f);
void session_free(struct session *s);

/* The request to be made before any other can be: the first question, or one for a token. NULL: none, go on. */
struct request *session_next(struct session *s);
/* One of those has ended well, or finally failed (`why`). Returns 0, or the reason why nothing can be fetched. */
int session_on_done(struct session *s, struct request *r, struct err *e);
int session_on_failed(struct session *s, struct request *r, const struct err *why, struct err *e);

/* A request was refused with 401. 0: it may be tried again when the session is ready. */
int session_on_refused(struct session *s, struct request *r, struct err *e);

bool session_ready(const struct session *s);
const char *session_authorization(const struct session *s); /* NULL: none */
