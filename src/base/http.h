/* http.h - one HTTP request over libcurl: for drivers whose engine speaks HTTP and for hooks.
 *
 * Never follows a redirect (it could carry credentials elsewhere), uses no proxy (but where asked to) and no .netrc, speaks
 * only HTTP and HTTPS, ends at the deadline or when wake_fd is readable, and takes at most 4 MiB of response. Threads: any.
 */
#ifndef CO_BASE_HTTP_H
#define CO_BASE_HTTP_H

#include "base/error.h"
#include "base/text.h"

struct co_http_request {
    const char *method; /* NULL: GET */
    const char *url;
    const char *const *headers; /* "Name: value", NULL-terminated, or NULL */
    const void *body;
    size_t body_bytes;
    const struct co_tls *tls;  /* NULL: as the URL says, verified against the system's authorities */
    const char *socket_path;   /* of a Unix socket, or NULL */
    bool proxy_of_environment; /* https_proxy and the like count; else none is used */
    int wake_fd;               /* -1: none */
    int64_t deadline_ns;
};

/* CO_DONE: a status was read (whatever it is), ret_body (or NULL) has the body. CO_NO_EFFECT: nothing was sent, or
 * nothing that changes anything (GET, HEAD). CO_EFFECT_UNKNOWN: sent, and no complete answer came. */
enum co_result co_http(const struct co_http_request *request, int *ret_status, struct co_text *ret_body, struct co_error *err);

/* The URL as messages may show it: without user, password and query. NULL: no URL, or no memory. The caller frees. */
char *co_http_shown(const char *url);

#endif
