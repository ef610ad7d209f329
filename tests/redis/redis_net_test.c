/* What a server says before it turns a client away is heard, also where the connection is closed by the time that the
 * client writes. The server here is a thread, and has ended when the client writes. */
#include "rd.h"
#include "unit/unit.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <time.h>

#define NS_PER_S 1000000000LL

static int64_t now_ns(void *ctx)
{
    struct timespec now;

    (void)ctx;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static int wait_fd(void *ctx, int fd, short events, int64_t deadline_ns)
{
    struct pollfd one = {.fd = fd, .events = events};
    int64_t left_ms = (deadline_ns - now_ns(ctx)) / 1000000;

    return poll(&one, 1, left_ms > 0 ? (int)left_ms : 0) > 0 ? one.revents : 0;
}

static const struct co_host host = {.size = sizeof host, .now_ns = now_ns, .wait_fd = wait_fd};

struct server {
    int listener;
    SSL_CTX *context; /* NULL: no TLS */
    sem_t opened;     /* the client's connection is */
};

static void *serve(void *arg)
{
    struct server *server = arg;
    struct linger reset = {.l_onoff = 1}; /* close() sends a reset: what a server does that hasn't read everything */
    static const char words[] = "-ERR max number of clients reached\r\n";
    int fd = accept(server->listener, NULL, NULL);

    if (server->context) {
        SSL *ssl = SSL_new(server->context);

        (void)SSL_set_fd(ssl, fd);
        (void)SSL_accept(ssl); /* fails: there is no certificate, and the alert says so */
        SSL_free(ssl);
    } else {
        (void)send(fd, words, sizeof words - 1, MSG_NOSIGNAL);
    }
    while (sem_wait(&server->opened) != 0)
        ;
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    (void)close(fd);
    return NULL;
}

static SSL_CTX *context_that_asks_for_a_certificate(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();

    assert_true(context && key && certificate);
    (void)X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    (void)X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    assert_int_equal(X509_set_pubkey(certificate, key), 1);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    assert_int_equal(SSL_CTX_use_certificate(context, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(context, key), 1);
    assert_int_equal(SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION), 1);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return context;
}

/* Connects to a server that turns the client away, writes when it has gone, and receives: what came, and the error. */
static enum co_result turned_away(SSL_CTX *context, char *data, size_t capacity, size_t *ret_bytes, struct co_error *error)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    struct server server = {.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .context = context};
    struct co_call call = {.size = sizeof call, .host = &host, .deadline_ns = now_ns(NULL) + 60 * NS_PER_S, .err = error};
    struct rd_net *net = NULL;
    enum co_result result;
    pthread_t thread;

    assert_int_equal(bind(server.listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(server.listener, 1), 0);
    assert_int_equal(getsockname(server.listener, (struct sockaddr *)&address, &bytes), 0);
    assert_int_equal(sem_init(&server.opened, 0, 0), 0);
    assert_int_equal(pthread_create(&thread, NULL, serve, &server), 0);
    struct co_endpoint_config endpoint = {.size = sizeof endpoint,
                                          .address = "127.0.0.1",
                                          .port = ntohs(address.sin_port),
                                          .tls.mode = context ? CO_TLS_REQUIRE : CO_TLS_OFF};
    assert_int_equal(rd_net_open(&call, &endpoint, &net), CO_DONE);
    assert_int_equal(sem_post(&server.opened), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    result = rd_net_send(&call, net, "PING\r\n", 6);
    if (result == CO_DONE)
        result = rd_net_receive(&call, net, data, capacity, ret_bytes);
    rd_net_close(net);
    (void)sem_destroy(&server.opened);
    (void)close(server.listener);
    return result;
}

static void the_last_reply_of_a_server_that_closed_is_read(void **unused)
{
    struct co_error error = {0};
    char data[256];
    size_t bytes = 0;

    (void)unused;
    assert_int_equal(turned_away(NULL, data, sizeof data - 1, &bytes, &error), CO_DONE);
    data[bytes] = '\0';
    assert_string_equal(data, "-ERR max number of clients reached\r\n");
}

static void a_server_that_misses_a_client_certificate_is_quoted(void **unused)
{
    struct co_error error = {0};
    char data[256];
    size_t bytes = 0;
    SSL_CTX *context = context_that_asks_for_a_certificate();

    (void)unused;
    assert_int_equal(turned_away(context, data, sizeof data, &bytes, &error), CO_NO_EFFECT);
    assert_int_equal(error.code, CO_E_UNREACHABLE);
    assert_non_null(strstr(error.message, "certificate required"));
    assert_non_null(strstr(error.hint, "tls.cert"));
    SSL_CTX_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_reply_of_a_server_that_closed_is_read),
        cmocka_unit_test(a_server_that_misses_a_client_certificate_is_quoted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
