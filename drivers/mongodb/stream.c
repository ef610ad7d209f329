/* stream.c - the sockets that the client library reads and writes through.
 *
 * Invariant: no wait goes past the deadline of the call under way, and each ends when the call is interrupted; so a
 * frozen server never holds the library, whose own timeouts are fixed when a client is made.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "mg.h"

#define STREAM_TYPE 77
#define MAX_POLLED 8

struct stream {
    mongoc_stream_t base;
    struct co_conn *conn;
    int fd;
    bool timed_out;
};

int64_t mg_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static struct stream *own(mongoc_stream_t *stream)
{
    return (struct stream *)(void *)stream;
}

/* Milliseconds that poll may wait: the shorter of the library's timeout (negative: none) and the call's deadline. */
static int patience_ms(const struct co_conn *conn, int64_t library_ms)
{
    int64_t left_ms = (conn->deadline_ns - mg_now_ns() + 999999) / 1000000;
    if (left_ms < 0)
        left_ms = 0;
    if (library_ms >= 0 && library_ms < left_ms)
        left_ms = library_ms;
    return left_ms > INT32_MAX ? INT32_MAX : (int)left_ms;
}

/* 1: ready; 0: time is up; -1: interrupted or failed, with errno. */
static int wait_fd(struct co_conn *conn, int fd, short events, int64_t library_ms)
{
    struct pollfd fds[2] = {{.fd = fd, .events = events}, {.fd = conn->interrupt_fd, .events = POLLIN}};
    for (;;) {
        int ready = poll(fds, conn->interrupt_fd >= 0 ? 2 : 1, patience_ms(conn, library_ms));
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready > 0 && fds[1].revents) {
            conn->interrupted = true;
            errno = ECANCELED;
            return -1;
        }
        if (ready == 0 && mg_now_ns() >= conn->deadline_ns)
            conn->timed_out = true;
        return ready > 0 ? 1 : ready;
    }
}

static void stream_close_fd(struct stream *self)
{
    if (self->fd >= 0)
        close(self->fd);
    self->fd = -1;
}

static int stream_close(mongoc_stream_t *stream)
{
    stream_close_fd(own(stream));
    return 0;
}

static void stream_destroy(mongoc_stream_t *stream)
{
    stream_close_fd(own(stream));
    bson_free(stream);
}

static int stream_flush(mongoc_stream_t *stream)
{
    (void)stream;
    return 0;
}

/* What a failed or fruitless system call means: true: try again now. */
static bool retry(struct stream *self, short events, int32_t timeout_ms)
{
    if (errno == EINTR)
        return true;
    if ((errno != EAGAIN && errno != EWOULDBLOCK) || timeout_ms == 0)
        return false;
    int ready = wait_fd(self->conn, self->fd, events, timeout_ms);
    if (ready == 0) {
        self->timed_out = true;
        errno = ETIMEDOUT;
    }
    return ready > 0;
}

static ssize_t stream_writev(mongoc_stream_t *stream, mongoc_iovec_t *iov, size_t count, int32_t timeout_ms)
{
    struct stream *self = own(stream);
    ssize_t all = 0;
    self->timed_out = false;
    for (size_t i = 0; i < count; i++) {
        size_t done = 0;
        while (done < iov[i].iov_len) {
            ssize_t n = send(self->fd, (char *)iov[i].iov_base + done, iov[i].iov_len - done, MSG_NOSIGNAL);
            if (n > 0) {
                done += (size_t)n;
                all += n;
            } else if (!retry(self, POLLOUT, timeout_ms)) {
                return all > 0 ? all : -1;
            }
        }
    }
    return all;
}

static ssize_t stream_readv(mongoc_stream_t *stream, mongoc_iovec_t *iov, size_t count, size_t min_bytes, int32_t timeout_ms)
{
    struct stream *self = own(stream);
    ssize_t all = 0;
    self->timed_out = false;
    for (size_t i = 0; i < count; i++) {
        size_t done = 0;
        while (done < iov[i].iov_len) {
            ssize_t n = recv(self->fd, (char *)iov[i].iov_base + done, iov[i].iov_len - done, 0);
            if (n > 0) {
                done += (size_t)n;
                all += n;
                if ((size_t)all >= min_bytes && min_bytes > 0)
                    return all;
            } else if (n == 0) {
                errno = ECONNRESET;
                return all > 0 && (size_t)all >= min_bytes ? all : n;
            } else if (all > 0 && (size_t)all >= min_bytes) {
                return all;
            } else if (!retry(self, POLLIN, timeout_ms)) {
                return -1;
            }
        }
    }
    return all;
}

static int stream_setsockopt(mongoc_stream_t *stream, int level, int name, void *value, mongoc_socklen_t bytes)
{
    return setsockopt(own(stream)->fd, level, name, value, bytes);
}

static bool stream_check_closed(mongoc_stream_t *stream)
{
    char byte;
    ssize_t n = recv(own(stream)->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

/* The library polls while it says hello. All streams are of one client. */
static ssize_t stream_poll(mongoc_stream_poll_t *streams, size_t count, int32_t timeout_ms)
{
    struct pollfd fds[MAX_POLLED + 1];
    if (count == 0 || count > MAX_POLLED) {
        errno = EINVAL;
        return -1;
    }
    struct co_conn *conn = own(streams[0].stream)->conn;
    for (size_t i = 0; i < count; i++) {
        fds[i] = (struct pollfd){.fd = own(streams[i].stream)->fd, .events = (short)streams[i].events};
        streams[i].revents = 0;
    }
    fds[count] = (struct pollfd){.fd = conn->interrupt_fd, .events = POLLIN};
    int ready = poll(fds, count + (conn->interrupt_fd >= 0), patience_ms(conn, timeout_ms));
    if (ready > 0 && conn->interrupt_fd >= 0 && fds[count].revents)
        conn->interrupted = true;
    if (ready == 0 && mg_now_ns() >= conn->deadline_ns)
        conn->timed_out = true;
    for (size_t i = 0; i < count; i++)
        streams[i].revents = conn->interrupted || conn->timed_out ? POLLERR : fds[i].revents;
    return conn->interrupted || conn->timed_out ? (ssize_t)count : ready;
}

static bool stream_timed_out(mongoc_stream_t *stream)
{
    return own(stream)->timed_out;
}

static bool stream_should_retry(mongoc_stream_t *stream)
{
    (void)stream;
    return false;
}

static mongoc_stream_t *stream_new(struct co_conn *conn, int fd)
{
    struct stream *self = bson_malloc0(sizeof *self);
    *self = (struct stream){.base = {.type = STREAM_TYPE,
                                     .destroy = stream_destroy,
                                     .close = stream_close,
                                     .flush = stream_flush,
                                     .writev = stream_writev,
                                     .readv = stream_readv,
                                     .setsockopt = stream_setsockopt,
                                     .get_base_stream = NULL, /* how the library knows the lowest one */
                                     .check_closed = stream_check_closed,
                                     .poll = stream_poll,
                                     .failed = stream_destroy,
                                     .timed_out = stream_timed_out,
                                     .should_retry = stream_should_retry},
                            .conn = conn,
                            .fd = fd};
    return &self->base;
}

/* ---------------------------------------------------------------- connecting */

static int dial(struct co_conn *conn, int family, const struct sockaddr *address, socklen_t bytes)
{
    int error = 0, fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t error_bytes = sizeof error;
    if (fd < 0)
        return -1;
    if (connect(fd, address, bytes) == 0)
        return fd;
    if (errno == EINPROGRESS && wait_fd(conn, fd, POLLOUT, -1) > 0 &&
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes) == 0 && error == 0)
        return fd;
    if (error)
        errno = error;
    else if (conn->timed_out)
        errno = ETIMEDOUT;
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

static int dial_socket(struct co_conn *conn, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t bytes = strlen(path);
    if (bytes >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, bytes);
    return dial(conn, AF_UNIX, (const struct sockaddr *)&address, sizeof address);
}

static int dial_host(struct co_conn *conn, const char *host, int port, const char **ret_reason)
{
    char service[16];
    struct addrinfo *all = NULL, hints = {.ai_socktype = SOCK_STREAM};
    int fd = -1, on = 1;
    snprintf(service, sizeof service, "%d", port);
    int failed = getaddrinfo(host, service, &hints, &all);
    if (failed) {
        *ret_reason = gai_strerror(failed);
        return -1;
    }
    for (const struct addrinfo *one = all; one && fd < 0 && !conn->interrupted && !conn->timed_out; one = one->ai_next)
        fd = dial(conn, one->ai_family, one->ai_addr, one->ai_addrlen);
    int error = errno;
    freeaddrinfo(all);
    errno = error;
    if (fd >= 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static mongoc_stream_t *add_tls(struct co_conn *conn, const struct co_tls *tls, mongoc_stream_t *plain, bson_error_t *error)
{
    const char *name = tls->server_name ? tls->server_name : conn->endpoint->address;
    mongoc_ssl_opt_t options = *mongoc_ssl_opt_get_default();
    options.ca_file = tls->ca;
    options.pem_file = tls->cert;
    options.weak_cert_validation = tls->mode != CO_TLS_VERIFY;
    options.allow_invalid_hostname = tls->mode != CO_TLS_VERIFY;
    mongoc_stream_t *secure = mongoc_stream_tls_new_with_hostname(plain, name, &options, 1);
    if (!secure) {
        bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET, "the TLS settings can't be used");
        mongoc_stream_destroy(plain);
        return NULL;
    }
    if (!mongoc_stream_tls_handshake_block(secure, name, patience_ms(conn, -1), error)) {
        mongoc_stream_destroy(secure);
        return NULL;
    }
    return secure;
}

/* The library's stream initiator. The address is the endpoint's: `host` is only how the library calls it. */
mongoc_stream_t *mg_stream_open(const mongoc_uri_t *uri, const mongoc_host_list_t *host, void *data, bson_error_t *error)
{
    struct co_conn *conn = data;
    const struct co_endpoint_config *endpoint = conn->endpoint;
    const char *reason = NULL, *address = endpoint->address ? endpoint->address : "127.0.0.1";
    (void)uri;
    (void)host;
    int fd = address[0] == '/' ? dial_socket(conn, address)
                               : dial_host(conn, address, endpoint->port ? endpoint->port : 27017, &reason);
    if (fd < 0) {
        bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_CONNECT, "%s", reason ? reason : strerror(errno));
        return NULL;
    }
    mongoc_stream_t *plain = stream_new(conn, fd);
    return endpoint->tls.mode == CO_TLS_OFF ? plain : add_tls(conn, &endpoint->tls, plain, error);
}
