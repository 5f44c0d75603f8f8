/* GET /events. */
#pragma once

struct api_call;

void api_events(struct api_call *c);
