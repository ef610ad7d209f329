/* conn.c - one connection to a fake server: connecting, logging in, one question and its answer.
 *
 * Invariant: no call waits past its deadline or after it was interrupted. A reply that comes after its call gave up
 * is recognised by its id and dropped, so a connection stays usable after a deadline; it is broken only when the
 * server hung up or a request was sent in part.
 */
#include "fake.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum co_result fake_fail(struct co_call *call, enum co_result result, int code, const char *message, const char *hint)
{
    call->err->code = code;
    snprintf(call->err->message, sizeof call->err->message, "%s", message);
    snprintf(call->err->hint, sizeof call->err->hint, "%s", hint ? hint : "");
    return result;
}

void fake_answer_done(struct fake_answer *answer)
{
    fk_buffer_done(&answer->line);
}

enum fake_variant fake_variant(struct co_call *call)
{
    const char *scheme = call->host->endpoint(call->ctx, call->side)->scheme;
    return scheme && strcmp(scheme, "fake-rounds") == 0   ? FAKE_ROUNDS
           : scheme && strcmp(scheme, "fake-novote") == 0 ? FAKE_NOVOTE
                                                          : FAKE_PLAIN;
}

enum co_side fake_side_of(struct co_call *call, enum co_run_role role)
{
    enum co_side other = call->side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A;
    return call->role == role ? call->side : other;
}

const char *fake_slot(struct co_call *call)
{
    const char *slot = call->host->option(call->ctx, "slot");
    return slot ? slot : "changeover";
}

void fake_peer(struct co_call *call, enum co_side side, struct fk_buffer *ret)
{
    const struct co_endpoint_config *at = call->host->endpoint(call->ctx, side);
    const char *address = at->peer_address ? at->peer_address : at->address;
    fk_buffer_str(ret, address);
    if (address[0] != '/') {
        char port[16];
        int number = at->peer_port ? at->peer_port : at->port ? at->port : FAKE_DEFAULT_PORT;
        snprintf(port, sizeof port, ":%d", number);
        fk_buffer_str(ret, port);
    }
}

/* ---------------------------------------------------------------- connecting */

static int dial_unix(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof at.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(at.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) != 0 && errno != EINPROGRESS) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* Numeric addresses and localhost: a resolver can't be interrupted, and a rehearsal needs none. */
static int dial_tcp(const char *host, int port)
{
    char service[16];
    snprintf(service, sizeof service, "%d", port ? port : FAKE_DEFAULT_PORT);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    if (getaddrinfo(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, service, &hints, &found) != 0) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    if (fd >= 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) != 0 && errno != EINPROGRESS) {
        int error = errno;
        close(fd);
        errno = error;
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

static enum co_result unreachable(struct co_call *call, const struct co_endpoint_config *at, int error)
{
    char message[400];
    snprintf(message, sizeof message, "can't connect to %s port %d: %s", at->address, at->port ? at->port : FAKE_DEFAULT_PORT,
             strerror(error));
    snprintf(call->err->native, sizeof call->err->native, "%d", error);
    return fake_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, message, "Start the server, or correct the url of this side.");
}

static enum co_result timed_out(struct co_call *call, int ready, bool changes, const char *what)
{
    char message[200];
    snprintf(message, sizeof message, ready < 0 ? "%s was interrupted" : "%s was not answered in time", what);
    return fake_fail(call, changes ? CO_EFFECT_UNKNOWN : CO_NO_EFFECT, ready < 0 ? CO_E_INTERRUPTED : CO_E_TIMEOUT, message,
                     ready < 0 ? "" : "See whether the server is frozen or its machine overloaded.");
}

static enum co_result dial(struct co_call *call, const struct co_endpoint_config *at, struct co_conn *conn)
{
    conn->fd = at->address[0] == '/' ? dial_unix(at->address) : dial_tcp(at->address, at->port);
    if (conn->fd < 0) {
        return unreachable(call, at, errno);
    }
    int ready = call->host->wait_fd(call->ctx, conn->fd, POLLOUT, call->deadline_ns);
    if (ready <= 0) {
        return timed_out(call, ready, false, "the connection");
    }
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error) {
        return unreachable(call, at, error);
    }
    return CO_DONE;
}

enum co_result fake_login(struct co_call *call, const char *account, const char *password, struct co_conn **ret)
{
    const struct co_endpoint_config *at = call->host->endpoint(call->ctx, call->side);
    if (!at->address) {
        return fake_fail(call, CO_NO_EFFECT, CO_E_CONFIG, "the url names no address", "Write fake://127.0.0.1:7707.");
    }
    if (at->tls.mode != CO_TLS_OFF) {
        return fake_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "the fake server speaks no TLS", "Set tls: {mode: off}.");
    }
    struct co_conn *conn = calloc(1, sizeof *conn);
    if (!conn) {
        return fake_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "out of memory", NULL);
    }
    enum co_result result = dial(call, at, conn);
    if (result == CO_DONE) {
        FAKE_ANSWER answer = {0};
        FAKE_LINE line = {0};
        fk_buffer_str(&line, "hello");
        fk_put(&line, "account", account);
        fk_put(&line, "name", call->run ? call->run->session_name : "changeover");
        fk_put(&line, "password", password);
        result = fake_ask(call, conn, &line, false, &answer);
        if (line.data) {
            explicit_bzero(line.data, line.capacity);
        }
    }
    if (result != CO_DONE) {
        fake_disconnect(conn);
        return result;
    }
    *ret = conn;
    return CO_DONE;
}

enum co_result fake_connect(struct co_call *call, enum co_conn_purpose purpose, struct co_conn **ret)
{
    (void)purpose; /* both kinds are alike here */
    const char *user = call->host->endpoint(call->ctx, call->side)->user;
    return fake_login(call, user ? user : "tool", call->host->secret(call->ctx, call->side, CO_SECRET_PASSWORD), ret);
}

void fake_disconnect(struct co_conn *conn)
{
    if (!conn) {
        return;
    }
    if (conn->fd >= 0) {
        close(conn->fd);
    }
    fk_buffer_done(&conn->in);
    free(conn);
}

bool fake_alive(struct co_conn *conn)
{
    return !conn->broken;
}

/* ---------------------------------------------------------------- asking */

static int error_code(const char *name)
{
    static const struct {
        const char *name;
        int code;
    } codes[] = {{"AUTH", CO_E_AUTH},         {"PRIVILEGE", CO_E_PRIVILEGE}, {"REFUSED", CO_E_REFUSED}, {"STATE", CO_E_STATE},
                 {"CONFLICT", CO_E_CONFLICT}, {"BROKEN", CO_E_BROKEN},       {"DATA", CO_E_DATA},       {"SPACE", CO_E_SPACE}};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (strcmp(codes[i].name, name) == 0) {
            return codes[i].code;
        }
    }
    return CO_E_SERVER;
}

static const char *error_hint(int code)
{
    switch (code) {
    case CO_E_AUTH:
        return "Give the right account and password for this side.";
    case CO_E_PRIVILEGE:
        return "Use the account `tool`.";
    case CO_E_CONFLICT:
        return "Another run has this server: see `changeover status`.";
    default:
        return "";
    }
}

static enum co_result hung_up(struct co_call *call, struct co_conn *conn, bool changes)
{
    conn->broken = true;
    return fake_fail(call, changes ? CO_EFFECT_UNKNOWN : CO_NO_EFFECT, CO_E_UNREACHABLE, "the server closed the connection",
                     "See whether the server was restarted.");
}

static enum co_result send_line(struct co_call *call, struct co_conn *conn, const struct fk_buffer *line)
{
    size_t sent = 0;
    while (sent < line->bytes) {
        ssize_t n = send(conn->fd, line->data + sent, line->bytes - sent, MSG_NOSIGNAL);
        if (n > 0) {
            sent += (size_t)n;
            continue;
        }
        if (errno == EINTR) {
            continue;
        }
        if (errno != EAGAIN) {
            return hung_up(call, conn, false); /* a line without its end is not executed */
        }
        int ready = call->host->wait_fd(call->ctx, conn->fd, POLLOUT, call->deadline_ns);
        if (ready <= 0) {
            conn->broken = sent > 0;
            return timed_out(call, ready, false, "the request");
        }
    }
    return CO_DONE;
}

/* Takes the next whole line out of what was read; false: there is none yet. */
static bool next_line(struct co_conn *conn, struct fake_answer *ret)
{
    char *end = conn->in.bytes ? memchr(conn->in.data, '\n', conn->in.bytes) : NULL;
    if (!end) {
        return false;
    }
    size_t bytes = (size_t)(end - conn->in.data);
    fk_buffer_clear(&ret->line);
    fk_buffer_add(&ret->line, conn->in.data, bytes);
    fk_buffer_drop(&conn->in, bytes + 1);
    return true;
}

static enum co_result receive(struct co_call *call, struct co_conn *conn, int64_t id, bool changes, const char *verb,
                              struct fake_answer *ret)
{
    for (;;) {
        while (next_line(conn, ret)) {
            if (ret->line.failed || !fk_parse(ret->line.data, &ret->message)) {
                return hung_up(call, conn, changes);
            }
            if (fk_get_int(&ret->message, "id", -1) == id) {
                return CO_DONE;
            } /* else it answers a call that gave up */
        }
        int ready = call->host->wait_fd(call->ctx, conn->fd, POLLIN, call->deadline_ns);
        if (ready <= 0) {
            return timed_out(call, ready, changes, verb);
        }
        char chunk[16384];
        ssize_t n = recv(conn->fd, chunk, sizeof chunk, 0);
        if (n > 0) {
            fk_buffer_add(&conn->in, chunk, (size_t)n);
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            return hung_up(call, conn, changes);
        }
    }
}

enum co_result fake_ask(struct co_call *call, struct co_conn *conn, struct fk_buffer *request, bool changes,
                        struct fake_answer *ret)
{
    char verb[48];
    if (conn->broken) {
        return hung_up(call, conn, false);
    }
    int64_t id = ++conn->next_id;
    fk_put_int(request, "id", id);
    fk_buffer_str(request, "\n");
    if (request->failed) {
        return fake_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "the request is too long, or out of memory", NULL);
    }
    snprintf(verb, sizeof verb, "%.*s", (int)strcspn(request->data, " "), request->data);
    call->host->trace(call->ctx, "fake: %s", verb);
    if (call->host->fault(call->ctx, "fake.send") != CO_DONE) {
        return fake_fail(call, CO_NO_EFFECT, CO_E_SERVER, "an injected fault: not sent", NULL);
    }
    enum co_result result = send_line(call, conn, request);
    if (result == CO_DONE) {
        result = receive(call, conn, id, changes, verb, ret);
    }
    if (result != CO_DONE) {
        return result;
    }
    if (call->host->fault(call->ctx, "fake.reply") != CO_DONE) {
        return hung_up(call, conn, changes);
    }
    if (strcmp(ret->message.verb, "ok") != 0) {
        const char *name = fk_get_or(&ret->message, "code", "");
        snprintf(call->err->native, sizeof call->err->native, "%s", name);
        int code = error_code(name);
        return fake_fail(call, CO_NO_EFFECT, code, fk_get_or(&ret->message, "message", "the server refused"), error_hint(code));
    }
    return CO_DONE;
}

enum co_result fake_look(struct co_call *call, struct co_conn *conn, const char *verb, struct fake_answer *ret)
{
    FAKE_LINE line = {0};
    fk_buffer_str(&line, verb);
    return fake_ask(call, conn, &line, false, ret);
}

bool fake_flag(const struct fake_answer *answer, const char *key)
{
    return fk_get_int(&answer->message, key, 0) != 0;
}

const char *fake_value(const struct fake_answer *answer, const char *key)
{
    return fk_get_or(&answer->message, key, "");
}
