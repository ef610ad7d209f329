/* net.c - a socket to a server, with or without TLS, that never waits past the call's deadline.
 *
 * Name resolution runs on a thread of its own, because getaddrinfo() can't be bounded; when the deadline passes the
 * thread is left to end by itself and its result is dropped. TLS works on memory buffers (BIO_s_mem), so that all
 * bytes pass through send() and recv() here: with MSG_NOSIGNAL, and with the same deadline. That is also what
 * makes TLS work with hiredis 0.14, which has none.
 *
 * Invariant: with CO_TLS_VERIFY no byte of ours is sent before the peer's certificate and name were verified.
 */
#include "rd.h"

#include <errno.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct rd_net {
    int fd;
    SSL_CTX *context;
    SSL *ssl;
    BIO *in, *out; /* owned by ssl */
    int gone;      /* errno of a write that met a closed connection; 0 */
};

/* ---------------------------------------------------------------- resolving */

struct resolve {
    atomic_int owners; /* the caller and the thread */
    int done_fd;       /* eventfd */
    char *host, port[12];
    int error;
    struct addrinfo *result;
};

static void resolve_release(struct resolve *job)
{
    if (atomic_fetch_sub(&job->owners, 1) != 1)
        return;
    if (job->result)
        freeaddrinfo(job->result);
    if (job->done_fd >= 0)
        close(job->done_fd);
    free(job->host);
    free(job);
}

static void *resolve_thread(void *arg)
{
    struct resolve *job = arg;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    uint64_t one = 1;

    job->error = getaddrinfo(job->host, job->port, &hints, &job->result);
    if (write(job->done_fd, &one, sizeof(one)) != (ssize_t)sizeof(one))
        job->error = EAI_SYSTEM;
    resolve_release(job);
    return NULL;
}

static bool is_address(const char *text)
{
    unsigned char buffer[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, text, buffer) == 1 || inet_pton(AF_INET6, text, buffer) == 1;
}

static enum co_result resolve_wait(struct co_call *call, struct resolve *job, const char *host)
{
    int ready = call->host->wait_fd(call->ctx, job->done_fd, POLLIN, call->deadline_ns);

    if (ready > 0)
        return CO_DONE;
    if (ready < 0)
        return rd_fail(call, CO_NO_EFFECT, CO_E_INTERRUPTED, "", "interrupted while resolving '%s'", host);
    return rd_fail(call, CO_NO_EFFECT, CO_E_TIMEOUT, "Check the resolver, or use an IP address in the URL.",
                   "no answer from the resolver for '%s' within the deadline", host);
}

/* *ret is freed with resolve_release. */
static enum co_result resolve(struct co_call *call, const char *host, int port, struct resolve **ret)
{
    struct resolve *job = calloc(1, sizeof(*job));
    pthread_t thread;
    enum co_result result;

    if (!job)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    atomic_init(&job->owners, 1);
    job->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    job->host = strdup(host);
    (void)snprintf(job->port, sizeof(job->port), "%d", port);
    if (job->done_fd < 0 || !job->host) {
        resolve_release(job);
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory or file descriptors");
    }
    if (is_address(host)) { /* needs no resolver, so it can't hang */
        struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};

        job->error = getaddrinfo(host, job->port, &hints, &job->result);
        result = CO_DONE;
    } else {
        atomic_store(&job->owners, 2);
        if (pthread_create(&thread, NULL, resolve_thread, job) != 0) {
            atomic_store(&job->owners, 1);
            resolve_release(job);
            return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "no thread could be started to resolve '%s'", host);
        }
        pthread_detach(thread);
        result = resolve_wait(call, job, host);
    }
    if (result == CO_DONE && job->error != 0)
        result = rd_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "Check the address in the URL and the resolver.",
                         "'%s' can't be resolved: %s", host, gai_strerror(job->error));
    if (result != CO_DONE) {
        resolve_release(job);
        return result;
    }
    *ret = job;
    return CO_DONE;
}

/* ---------------------------------------------------------------- connecting */

static enum co_result connect_address(struct co_call *call, const struct sockaddr *address, socklen_t bytes, const char *where,
                                      int *ret_fd)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error = 0, one = 1, ready;
    socklen_t error_bytes = sizeof(error);

    if (fd < 0)
        return rd_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "no socket for %s: %s", where, strerror(errno));
    if (connect(fd, address, bytes) != 0 && errno != EINPROGRESS) {
        error = errno;
    } else {
        ready = call->host->wait_fd(call->ctx, fd, POLLOUT, call->deadline_ns);
        if (ready <= 0) {
            close(fd);
            if (ready < 0)
                return rd_fail(call, CO_NO_EFFECT, CO_E_INTERRUPTED, "", "interrupted while connecting to %s", where);
            return rd_fail(call, CO_NO_EFFECT, CO_E_TIMEOUT, "Check that the server runs and that no firewall drops packets.",
                           "no connection to %s within the deadline", where);
        }
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes) != 0)
            error = errno;
    }
    if (error != 0) {
        close(fd);
        (void)snprintf(call->err->native, sizeof(call->err->native), "%d", error);
        return rd_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE,
                       "Check that the server runs, listens there and is allowed through.", "can't connect to %s: %s", where,
                       strerror(error));
    }
    if (address->sa_family != AF_UNIX) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    }
    *ret_fd = fd;
    return CO_DONE;
}

static enum co_result connect_unix(struct co_call *call, const char *path, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t bytes = strlen(path);

    if (bytes >= sizeof(address.sun_path))
        return rd_fail(call, CO_NO_EFFECT, CO_E_CONFIG, "Use a shorter path.", "the socket path '%s' is longer than %zu bytes",
                       path, sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, bytes + 1);
    return connect_address(call, (const struct sockaddr *)&address, sizeof(address), path, ret_fd);
}

static enum co_result connect_host(struct co_call *call, const char *host, int port, int *ret_fd)
{
    struct resolve *job = NULL;
    enum co_result result = resolve(call, host, port, &job);
    RD_TEXT where = NULL;

    if (result != CO_DONE)
        return result;
    if (asprintf(&where, "%s:%d", host, port) < 0) {
        where = NULL;
        resolve_release(job);
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    }
    result = CO_NO_EFFECT;
    for (const struct addrinfo *item = job->result; item && result != CO_DONE; item = item->ai_next) {
        result = connect_address(call, item->ai_addr, item->ai_addrlen, where, ret_fd);
        if (result != CO_DONE && call->err->code != CO_E_UNREACHABLE)
            break;
    }
    resolve_release(job);
    return result;
}

/* ---------------------------------------------------------------- TLS */

static enum co_result tls_error(struct co_call *call, int code, const char *hint, const char *what)
{
    unsigned long error = ERR_peek_last_error();
    char text[160] = "unknown error";

    if (error != 0)
        ERR_error_string_n(error, text, sizeof(text));
    ERR_clear_error();
    return rd_fail(call, CO_NO_EFFECT, code, hint, "%s: %s", what, text);
}

static enum co_result tls_context(struct co_call *call, struct rd_net *net, const struct co_tls *tls)
{
    net->context = SSL_CTX_new(TLS_client_method());
    if (!net->context || SSL_CTX_set_min_proto_version(net->context, TLS1_2_VERSION) != 1)
        return tls_error(call, CO_E_NOMEM, "", "TLS can't be set up");
    SSL_CTX_set_verify(net->context, tls->mode == CO_TLS_VERIFY ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (tls->ca ? SSL_CTX_load_verify_locations(net->context, tls->ca, NULL) != 1
                : SSL_CTX_set_default_verify_paths(net->context) != 1)
        return tls_error(call, CO_E_CONFIG, "Check tls.ca.", "the CA certificates can't be read");
    if (tls->cert && (SSL_CTX_use_certificate_chain_file(net->context, tls->cert) != 1 ||
                      SSL_CTX_use_PrivateKey_file(net->context, tls->key ? tls->key : tls->cert, SSL_FILETYPE_PEM) != 1))
        return tls_error(call, CO_E_CONFIG, "Check tls.cert and tls.key.", "the client certificate can't be used");
    return CO_DONE;
}

static enum co_result tls_new(struct co_call *call, struct rd_net *net, const struct co_tls *tls, const char *address)
{
    const char *name = tls->server_name ? tls->server_name : address;
    enum co_result result = tls_context(call, net, tls);

    if (result != CO_DONE)
        return result;
    net->ssl = SSL_new(net->context);
    net->in = BIO_new(BIO_s_mem());
    net->out = BIO_new(BIO_s_mem());
    if (!net->ssl || !net->in || !net->out) {
        BIO_free(net->in);
        BIO_free(net->out);
        return tls_error(call, CO_E_NOMEM, "", "TLS can't be set up");
    }
    BIO_set_mem_eof_return(net->in, -1);
    SSL_set_bio(net->ssl, net->in, net->out);
    SSL_set_connect_state(net->ssl);
    if (is_address(name)) {
        if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(net->ssl), name) != 1)
            return tls_error(call, CO_E_CONFIG, "", "the address can't be verified");
    } else if (name[0] != '/') {
        if (SSL_set1_host(net->ssl, name) != 1 || SSL_set_tlsext_host_name(net->ssl, name) != 1)
            return tls_error(call, CO_E_CONFIG, "Check tls.server_name.", "the server's name can't be verified");
    }
    return CO_DONE;
}

/* ---------------------------------------------------------------- bytes */

static enum co_result lost(struct co_call *call, int error)
{
    (void)snprintf(call->err->native, sizeof(call->err->native), "%d", error);
    return rd_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE,
                   "Look at the server's log: it may have restarted or ended the session.", "the connection was lost: %s",
                   error == 0 ? "closed by the server" : strerror(error));
}

static enum co_result wait_for(struct co_call *call, const struct rd_net *net, short events)
{
    int ready = call->host->wait_fd(call->ctx, net->fd, events, call->deadline_ns);

    if (ready > 0)
        return CO_DONE;
    if (ready < 0)
        return rd_fail(call, CO_NO_EFFECT, CO_E_INTERRUPTED, "", "interrupted while waiting for the server");
    return rd_fail(call, CO_NO_EFFECT, CO_E_TIMEOUT, "The server may be frozen, busy with a script, or cut off.",
                   "no answer from the server within the deadline");
}

/* A server that turns a client away says why and closes: an error reply, or with TLS 1.3 an alert that follows the
 * client's own handshake. Whether a write meets the connection open or closed is chance then, and the words wait in
 * the socket in either case. So a closed connection is no failure here: it is one of the receive that follows. */
static enum co_result raw_send(struct co_call *call, struct rd_net *net, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t sent = send(net->fd, data, bytes, MSG_NOSIGNAL);

        if (sent >= 0) {
            data += sent;
            bytes -= (size_t)sent;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            enum co_result result = wait_for(call, net, POLLOUT);

            if (result != CO_DONE)
                return result;
        } else if (errno == ECONNRESET || errno == EPIPE) {
            net->gone = errno;
            return CO_DONE;
        } else if (errno != EINTR) {
            return lost(call, errno);
        }
    }
    return CO_DONE;
}

static enum co_result raw_receive(struct co_call *call, struct rd_net *net, char *data, size_t capacity, size_t *ret_bytes)
{
    for (;;) {
        ssize_t got = recv(net->fd, data, capacity, 0);

        if (got > 0) {
            *ret_bytes = (size_t)got;
            return CO_DONE;
        }
        if (got == 0)
            return lost(call, net->gone);
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            enum co_result result = wait_for(call, net, POLLIN);

            if (result != CO_DONE)
                return result;
        } else if (errno != EINTR) {
            return lost(call, errno);
        }
    }
}

/* Moves what TLS wants to send to the socket. */
static enum co_result tls_flush(struct co_call *call, struct rd_net *net)
{
    char *data;
    long bytes = BIO_get_mem_data(net->out, &data);
    enum co_result result;

    if (bytes <= 0)
        return CO_DONE;
    result = raw_send(call, net, data, (size_t)bytes);
    (void)BIO_reset(net->out);
    return result;
}

static enum co_result tls_fill(struct co_call *call, struct rd_net *net)
{
    char data[16384];
    size_t bytes;
    enum co_result result = raw_receive(call, net, data, sizeof(data), &bytes);

    if (result == CO_DONE && BIO_write(net->in, data, (int)bytes) != (int)bytes)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    return result;
}

static enum co_result handshake(struct co_call *call, struct rd_net *net)
{
    for (;;) {
        int done = SSL_do_handshake(net->ssl);
        int error = done == 1 ? SSL_ERROR_NONE : SSL_get_error(net->ssl, done);
        enum co_result result = tls_flush(call, net);

        if (done == 1)
            return result;
        if (error != SSL_ERROR_WANT_READ) {
            long verified = SSL_get_verify_result(net->ssl);

            if (verified != X509_V_OK) {
                ERR_clear_error();
                return rd_fail(call, CO_NO_EFFECT, CO_E_AUTH,
                               "Set tls.ca to the CA of the server's certificate, and "
                               "tls.server_name to the name in it.",
                               "the server's certificate can't be verified: %s", X509_verify_cert_error_string(verified));
            }
            return tls_error(call, CO_E_UNREACHABLE, "Check that the port speaks TLS and accepts this certificate.",
                             "the TLS handshake failed");
        }
        if (result == CO_DONE)
            result = tls_fill(call, net);
        if (result != CO_DONE)
            return result;
    }
}

enum co_result rd_net_open(struct co_call *call, const struct co_endpoint_config *endpoint, struct rd_net **ret)
{
    struct rd_net *net = calloc(1, sizeof(*net));
    const char *address = endpoint->address ? endpoint->address : "127.0.0.1";
    bool tls = endpoint->tls.mode != CO_TLS_OFF;
    enum co_result result;

    if (!net)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    net->fd = -1;
    if (address[0] == '/')
        result = connect_unix(call, address, &net->fd);
    else
        result = connect_host(call, address, endpoint->port > 0 ? endpoint->port : 6379, &net->fd);
    if (result == CO_DONE && tls)
        result = tls_new(call, net, &endpoint->tls, address);
    if (result == CO_DONE && tls)
        result = handshake(call, net);
    if (result != CO_DONE) {
        rd_net_close(net);
        return result;
    }
    *ret = net;
    return CO_DONE;
}

enum co_result rd_net_send(struct co_call *call, struct rd_net *net, const char *data, size_t bytes)
{
    if (!net->ssl)
        return raw_send(call, net, data, bytes);
    while (bytes > 0) {
        int chunk = bytes > 16384 ? 16384 : (int)bytes;
        int written = SSL_write(net->ssl, data, chunk);
        enum co_result result;

        if (written <= 0) /* a memory buffer never asks to wait for writing; renegotiation is off */
            return tls_error(call, CO_E_UNREACHABLE, "", "TLS failed while sending");
        data += written;
        bytes -= (size_t)written;
        result = tls_flush(call, net);
        if (result != CO_DONE)
            return result;
    }
    return CO_DONE;
}

enum co_result rd_net_receive(struct co_call *call, struct rd_net *net, char *data, size_t capacity, size_t *ret_bytes)
{
    if (!net->ssl)
        return raw_receive(call, net, data, capacity, ret_bytes);
    for (;;) {
        int got = SSL_read(net->ssl, data, capacity > 16384 ? 16384 : (int)capacity);
        int error = got > 0 ? SSL_ERROR_NONE : SSL_get_error(net->ssl, got);
        enum co_result result;

        if (got > 0) {
            *ret_bytes = (size_t)got;
            return CO_DONE;
        }
        if (error == SSL_ERROR_ZERO_RETURN)
            return lost(call, 0);
        if (error != SSL_ERROR_WANT_READ)
            return tls_error(call, CO_E_UNREACHABLE,
                             "Look at the server's log. If it asks for a client certificate, check tls.cert and tls.key.",
                             "TLS failed while receiving");
        result = tls_flush(call, net);
        if (result == CO_DONE)
            result = tls_fill(call, net);
        if (result != CO_DONE)
            return result;
    }
}

bool rd_net_pause(struct co_call *call, struct rd_net *net, int64_t deadline_ns)
{
    return call->host->wait_fd(call->ctx, net->fd, 0, deadline_ns) >= 0;
}

void rd_net_close(struct rd_net *net)
{
    if (!net)
        return;
    SSL_free(net->ssl); /* with its buffers; no close_notify: nothing may block here */
    SSL_CTX_free(net->context);
    if (net->fd >= 0)
        close(net->fd);
    free(net);
}
