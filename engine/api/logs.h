/* GET /containers/{id}/logs. */
#pragma once

struct api_call;

void api_logs(struct api_call *c);
