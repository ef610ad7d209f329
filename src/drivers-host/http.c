/* http.c - the host function for engines that speak HTTP: a request with the TLS settings and within the time of
 * the call. Invariant: no request without the side's TLS settings. */
#include "drivers-host/internal.h"

#include "base/clock.h"
#include "base/http.h"

enum co_result co_host_http(void *ctx, enum co_side side, const char *method, const char *url, const char *const *headers,
                            const void *body, size_t body_bytes, int64_t deadline_ns, int *ret_status, struct co_text *ret_body,
                            struct co_error *err)
{
    struct co_call_state *state = ctx;
    int status = 0;
    if (side != CO_SIDE_A && side != CO_SIDE_B) {
        co_fail(err, CO_E_INTERNAL, "the driver made an HTTP request to no side");
        return CO_NO_EFFECT;
    }
    const struct co_endpoint_config *config = &state->pair->pair_config->side[side].endpoint;
    struct co_http_request request = {.method = method,
                                      .url = url ? url : "",
                                      .headers = headers,
                                      .body = body,
                                      .body_bytes = body_bytes,
                                      .tls = &config->tls,
                                      .socket_path = config->address && config->address[0] == '/' ? config->address : NULL,
                                      .wake_fd = state->ep->wake_fd,
                                      .deadline_ns = co_min_deadline(deadline_ns, state->deadline_ns)};
    enum co_result result = co_http(&request, ret_status ? ret_status : &status, ret_body, err);
    return result;
}
