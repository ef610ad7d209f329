/* http.c - one HTTP request. Invariant: credentials go to the server that the URL names and to nobody else. */
#include "base/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/secret.h"

static pthread_once_t init_once = PTHREAD_ONCE_INIT;

static void init(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

struct transfer {
    CURL *easy;
    CURLM *multi;
    CURLU *url;
    struct curl_slist *headers, *connect_to;
    struct co_text *body; /* or NULL */
    bool too_long;
    char detail[CURL_ERROR_SIZE];
};

static void transfer_done(struct transfer *transfer)
{
    if (transfer->multi && transfer->easy)
        curl_multi_remove_handle(transfer->multi, transfer->easy);
    curl_easy_cleanup(transfer->easy);
    curl_multi_cleanup(transfer->multi);
    curl_url_cleanup(transfer->url);
    curl_slist_free_all(transfer->headers);
    curl_slist_free_all(transfer->connect_to);
}

static size_t take_body(char *data, size_t size, size_t count, void *arg)
{
    struct transfer *transfer = arg;
    size_t bytes = size * count;
    if (!transfer->body)
        return bytes;
    co_text_add_bytes(transfer->body, data, bytes);
    transfer->too_long = transfer->body->overflow;
    return transfer->too_long ? 0 : bytes;
}

/* Verifies and announces tls->server_name while the connection goes to the URL's address. */
static bool use_server_name(struct transfer *transfer, const char *server_name)
{
    char *host = NULL, *port = NULL;
    bool fine = curl_url_get(transfer->url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                curl_url_get(transfer->url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                curl_url_set(transfer->url, CURLUPART_HOST, server_name, 0) == CURLUE_OK;
    CO_AUTOFREE char *rule = fine ? co_printf("%s:%s:%s:%s", server_name, port, host, port) : NULL;
    curl_free(host);
    curl_free(port);
    transfer->connect_to = rule ? curl_slist_append(NULL, rule) : NULL;
    return transfer->connect_to != NULL;
}

static bool set_tls(struct transfer *transfer, const struct co_tls *tls)
{
    CURL *easy = transfer->easy;
    if (!tls)
        return curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
    bool fine = curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, tls->mode == CO_TLS_OFF ? "http" : "https") == CURLE_OK;
    long verify = tls->mode == CO_TLS_REQUIRE ? 0 : 1;
    fine = fine && curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, verify) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, verify * 2) == CURLE_OK;
    if (tls->ca)
        fine = fine && curl_easy_setopt(easy, CURLOPT_CAINFO, tls->ca) == CURLE_OK;
    if (tls->cert)
        fine = fine && curl_easy_setopt(easy, CURLOPT_SSLCERT, tls->cert) == CURLE_OK;
    if (tls->key)
        fine = fine && curl_easy_setopt(easy, CURLOPT_SSLKEY, tls->key) == CURLE_OK;
    if (tls->server_name && tls->mode != CO_TLS_OFF)
        fine = fine && use_server_name(transfer, tls->server_name) &&
               curl_easy_setopt(easy, CURLOPT_CONNECT_TO, transfer->connect_to) == CURLE_OK;
    return fine;
}

static bool set_request(struct transfer *transfer, const struct co_http_request *request)
{
    CURL *easy = transfer->easy;
    for (const char *const *header = request->headers; header && *header; header++) {
        struct curl_slist *longer = curl_slist_append(transfer->headers, *header);
        if (!longer)
            return false;
        transfer->headers = longer;
    }
    bool fine = curl_easy_setopt(easy, CURLOPT_CURLU, transfer->url) == CURLE_OK &&
                curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers) == CURLE_OK &&
                curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
                (request->proxy_of_environment || curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK) &&
                curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
                curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->detail) == CURLE_OK &&
                curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK &&
                curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer) == CURLE_OK &&
                curl_easy_setopt(easy, CURLOPT_USERAGENT, "changeover/" CO_VERSION) == CURLE_OK;
    if (request->socket_path)
        fine = fine && curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, request->socket_path) == CURLE_OK;
    if (request->body)
        fine = fine && curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_bytes) == CURLE_OK &&
               curl_easy_setopt(easy, CURLOPT_POSTFIELDS, (const char *)request->body) == CURLE_OK;
    if (request->method && strcmp(request->method, "HEAD") == 0)
        fine = fine && curl_easy_setopt(easy, CURLOPT_NOBODY, 1L) == CURLE_OK;
    else if (request->method && (request->body || strcmp(request->method, "GET") != 0))
        fine = fine && curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method) == CURLE_OK;
    return fine;
}

char *co_http_shown(const char *url)
{
    CURLU *copy = curl_url();
    char *text = NULL, *ret = NULL;
    if (copy && curl_url_set(copy, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_set(copy, CURLUPART_USER, NULL, 0) == CURLUE_OK &&
        curl_url_set(copy, CURLUPART_PASSWORD, NULL, 0) == CURLUE_OK &&
        curl_url_set(copy, CURLUPART_QUERY, NULL, 0) == CURLUE_OK && curl_url_get(copy, CURLUPART_URL, &text, 0) == CURLUE_OK)
        ret = co_strdup(text);
    curl_free(text);
    curl_url_cleanup(copy);
    return ret;
}

static int error_code(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_SSL_CONNECT_ERROR:
        return CO_E_UNREACHABLE;
    case CURLE_PEER_FAILED_VERIFICATION:
        return CO_E_AUTH;
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
        return CO_E_CONFIG;
    case CURLE_OUT_OF_MEMORY:
        return CO_E_NOMEM;
    case CURLE_OPERATION_TIMEDOUT:
        return CO_E_TIMEOUT;
    default:
        return CO_E_SERVER;
    }
}

static bool was_sent(const struct transfer *transfer)
{
    long bytes = 0;
    return curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &bytes) == CURLE_OK && bytes > 0;
}

/* 0 when the transfer ended (its own code in ret), else CO_E_TIMEOUT or CO_E_INTERRUPTED. */
static int perform(struct transfer *transfer, const struct co_http_request *request, CURLcode *ret)
{
    for (;;) {
        int running = 0;
        CURLMcode rc = curl_multi_perform(transfer->multi, &running);
        if (rc != CURLM_OK) {
            *ret = CURLE_OUT_OF_MEMORY;
            return 0;
        }
        int left;
        CURLMsg *message = curl_multi_info_read(transfer->multi, &left);
        if (message && message->msg == CURLMSG_DONE) {
            *ret = message->data.result;
            return 0;
        }
        int64_t left_ms = co_ms_left(request->deadline_ns);
        if (left_ms == 0)
            return CO_E_TIMEOUT;
        struct curl_waitfd wake = {.fd = request->wake_fd, .events = CURL_WAIT_POLLIN};
        curl_multi_poll(transfer->multi, &wake, request->wake_fd >= 0 ? 1 : 0, left_ms > 60000 ? 60000 : (int)left_ms, NULL);
        if (request->wake_fd >= 0 && wake.revents != 0)
            return CO_E_INTERRUPTED;
    }
}

static enum co_result failed(const struct transfer *transfer, const struct co_http_request *request)
{
    bool safe = !request->method || strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;
    return safe || !was_sent(transfer) ? CO_NO_EFFECT : CO_EFFECT_UNKNOWN;
}

static enum co_result run(struct transfer *transfer, const struct co_http_request *request, const char *shown, int *ret_status,
                          struct co_error *err)
{
    CURLcode code = CURLE_OK;
    int rc = perform(transfer, request, &code);
    if (rc == CO_E_TIMEOUT)
        co_fail(err, rc, "%s didn't answer in time", shown);
    else if (rc == CO_E_INTERRUPTED)
        co_fail(err, rc, "the request to %s was interrupted", shown);
    else if (transfer->too_long)
        rc = co_fail(err, CO_E_NOMEM, "the answer of %s is longer than %zu bytes", shown,
                     transfer->body->max ? transfer->body->max : CO_TEXT_MAX);
    else if (code != CURLE_OK)
        rc = co_fail(err, error_code(code), "%s: %s", shown, transfer->detail[0] ? transfer->detail : curl_easy_strerror(code));
    if (rc < 0)
        return failed(transfer, request);
    long status = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    *ret_status = (int)status;
    return CO_DONE;
}

enum co_result co_http(const struct co_http_request *request, int *ret_status, struct co_text *ret_body, struct co_error *err)
{
    pthread_once(&init_once, init);
    if (ret_body)
        co_text_clear(ret_body);
    CO_AUTOFREE char *shown = co_http_shown(request->url);
    struct transfer transfer = {.easy = curl_easy_init(), .multi = curl_multi_init(), .url = curl_url(), .body = ret_body};
    enum co_result result = CO_NO_EFFECT;
    if (!transfer.easy || !transfer.multi || !transfer.url)
        co_fail(err, CO_E_NOMEM, "no memory for an HTTP request");
    else if (!shown || curl_url_set(transfer.url, CURLUPART_URL, request->url, 0) != CURLUE_OK)
        co_fail(err, CO_E_CONFIG, "'%s' isn't a URL", request->url);
    else if (!set_tls(&transfer, request->tls) || !set_request(&transfer, request) ||
             curl_multi_add_handle(transfer.multi, transfer.easy) != CURLM_OK)
        co_fail(err, CO_E_NOMEM, "no memory for a request to %s, or the HTTP library refuses it", shown);
    else
        result = run(&transfer, request, shown, ret_status, err);
    transfer_done(&transfer);
    return result;
}
