#include "drivers-host/internal.h"
enum co_result co_host_run(void *ctx, const struct co_command *command, int64_t deadline_ns, int *ret_status,
                           struct co_text *out, struct co_text *err_out, struct co_error *err)
{
    (void)ctx;
    (void)command;
    (void)deadline_ns;
    (void)ret_status;
    (void)out;
    (void)err_out;
    co_fail(err, CO_E_UNSUPPORTED, "commands aren't there yet");
    return CO_NO_EFFECT;
}
enum co_result co_host_pipe(void *ctx, const struct co_command *from, const struct co_command *to, const char *what,
                            int64_t total_bytes, int64_t deadline_ns, int *ret_from, int *ret_to, struct co_text *err_out,
                            struct co_error *err)
{
    (void)ctx;
    (void)from;
    (void)to;
    (void)what;
    (void)total_bytes;
    (void)deadline_ns;
    (void)ret_from;
    (void)ret_to;
    (void)err_out;
    co_fail(err, CO_E_UNSUPPORTED, "commands aren't there yet");
    return CO_NO_EFFECT;
}
enum co_result co_host_http(void *ctx, enum co_side side, const char *method, const char *url, const char *const *headers,
                            const void *body, size_t body_bytes, int64_t deadline_ns, int *ret_status, struct co_text *ret_body,
                            struct co_error *err)
{
    (void)ctx;
    (void)side;
    (void)method;
    (void)url;
    (void)headers;
    (void)body;
    (void)body_bytes;
    (void)deadline_ns;
    (void)ret_status;
    (void)ret_body;
    co_fail(err, CO_E_UNSUPPORTED, "HTTP isn't there yet");
    return CO_NO_EFFECT;
}
