/* GET /containers/{id}/logs and POST /containers/{id}/attach. */
#pragma once

struct api_call;

void api_logs(struct api_call *c);
void api_attach(struct api_call *c);
