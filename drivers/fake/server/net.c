/* net.c - sockets, sessions and the loop.
 *
 * Invariant: a session's lines are executed one after the other, in the order they came; a line that a rule
 * delays goes its own way, and outlives its connection as a statement outlives a client that is gone.
 */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

int64_t fk_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---------------------------------------------------------------- addresses */

static bool unix_address(const char *path, struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof ret->sun_path) {
        return false;
    }
    memcpy(ret->sun_path, path, strlen(path) + 1);
    return true;
}

/* "host:port", numeric hosts and "localhost" only: this server never waits for a resolver. */
static struct addrinfo *tcp_address(const char *address, bool passive)
{
    char *copy = strdup(address);
    char *port = copy ? strrchr(copy, ':') : NULL;
    struct addrinfo *found = NULL;
    if (port) {
        *port++ = 0;
        struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                 .ai_socktype = SOCK_STREAM,
                                 .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | (passive ? AI_PASSIVE : 0)};
        const char *host = strcmp(copy, "localhost") == 0 ? "127.0.0.1" : copy;
        if (getaddrinfo(host, port, &hints, &found) != 0) {
            found = NULL;
        }
    }
    free(copy);
    return found;
}

static int listen_unix(const char *path)
{
    struct sockaddr_un at;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || !unix_address(path, &at)) {
        errno = fd < 0 ? errno : ENAMETOOLONG;
        return -1;
    }
    unlink(path);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 64) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int listen_tcp(const char *address)
{
    struct addrinfo *found = tcp_address(address, true);
    int fd = found ? socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
    int on = 1;
    if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
                    bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 64) != 0)) {
        close(fd);
        fd = -1;
    }
    if (found) {
        freeaddrinfo(found);
    }
    return fd;
}

bool fk_listen(struct fk_server *s, const char *address, int slot)
{
    s->listen_fd[slot] = address[0] == '/' ? listen_unix(address) : listen_tcp(address);
    if (s->listen_fd[slot] < 0) {
        fprintf(stderr, "changeover-fake-server: can't listen on %s: %s\n", address, strerror(errno));
        return false;
    }
    return true;
}

int fk_dial(const char *address)
{
    int fd = -1;
    int outcome = -1;
    if (address[0] == '/') {
        struct sockaddr_un at;
        fd = unix_address(address, &at) ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
        outcome = fd < 0 ? -1 : connect(fd, (struct sockaddr *)&at, sizeof at);
    } else {
        struct addrinfo *found = tcp_address(address, false);
        fd = found ? socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
        if (fd >= 0) {
            int on = 1;
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            outcome = connect(fd, found->ai_addr, found->ai_addrlen);
        }
        if (found) {
            freeaddrinfo(found);
        }
    }
    if (fd >= 0 && outcome != 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

/* ---------------------------------------------------------------- sessions */

static void accept_session(struct fk_server *s, int listen_fd)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* fails on a Unix socket, harmless */
    struct fk_session *session = calloc(1, sizeof *session);
    if (!session) {
        close(fd);
        return;
    }
    session->fd = fd;
    session->number = ++s->next_number;
    session->since_ms = fk_now_ms();
    fk_set(&session->name, "");
    fk_set(&session->account_name, "");
    struct fk_session **end = &s->sessions;
    while (*end) {
        end = &(*end)->next;
    }
    *end = session;
}

static void hang_up(struct fk_session *session)
{
    if (session->fd >= 0) {
        close(session->fd);
        session->fd = -1;
    }
    session->in_tx = false;
    session->wait = FK_WAIT_NONE;
    fk_buffer_clear(&session->tx);
    fk_buffer_clear(&session->in);
    fk_buffer_clear(&session->out);
}

void fk_session_end(struct fk_session *session)
{
    hang_up(session);
    while (session->queue) {
        struct fk_queued *queued = session->queue;
        session->queue = queued->next;
        free(queued->line);
        free(queued);
    }
    session->ending = true;
}

static void reap(struct fk_server *s)
{
    for (struct fk_session **at = &s->sessions; *at;) {
        struct fk_session *session = *at;
        if (session->fd >= 0 || (session->queue && !session->ending)) {
            at = &session->next;
            continue;
        }
        *at = session->next;
        fk_session_end(session);
        fk_buffer_done(&session->in);
        fk_buffer_done(&session->out);
        fk_buffer_done(&session->tx);
        free(session->name);
        free(session->account_name);
        free(session->wait_position);
        free(session->wait_id);
        free(session);
    }
}

void fk_send(struct fk_session *session, const char *line)
{
    if (session->fd < 0 || session->discard_reply) {
        return;
    }
    fk_buffer_str(&session->out, line);
    fk_buffer_str(&session->out, "\n");
}

static void flush_out(struct fk_session *session)
{
    while (session->fd >= 0 && session->out.bytes > 0) {
        ssize_t n = send(session->fd, session->out.data, session->out.bytes, MSG_NOSIGNAL);
        if (n > 0) {
            fk_buffer_drop(&session->out, (size_t)n);
        } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        } else {
            hang_up(session);
        }
    }
}

/* ---------------------------------------------------------------- lines */

static void queue_line(struct fk_session *session, const char *line, int64_t due_ms, bool reply)
{
    struct fk_queued *queued = calloc(1, sizeof *queued);
    if (!queued) {
        return;
    }
    fk_set(&queued->line, line);
    queued->due_ms = due_ms;
    queued->reply = reply;
    struct fk_queued **end = &session->queue;
    while (*end) {
        end = &(*end)->next;
    }
    *end = queued;
}

static char *id_of(const char *line)
{
    const char *id = strstr(line, " id=");
    return id ? strndup(id + 4, strcspn(id + 4, " ")) : NULL;
}

/* What a rule makes of a line. True: the line is dealt with. */
static bool misbehave(struct fk_server *s, struct fk_session *session, char *line)
{
    char verb[64];
    snprintf(verb, sizeof verb, "%.*s", (int)strcspn(line, " "), line);
    const struct fk_rule *rule = session->account == FK_CONTROL ? NULL : fk_rule_for(s, verb);
    if (!rule) {
        return false;
    }
    const char *action = rule->action;
    char *id = id_of(line);
    bool dealt = true;
    if (strcmp(action, "lose") == 0 || strcmp(action, "restart_after") == 0 || strcmp(action, "crash_after") == 0) {
        session->discard_reply = true;
        fk_execute(s, session, line);
        hang_up(session);
    } else if (strcmp(action, "late") == 0) {
        queue_line(session, line, fk_now_ms() + rule->ms, false);
        hang_up(session);
    } else if (strcmp(action, "delay") == 0) {
        queue_line(session, line, fk_now_ms() + rule->ms, true);
    } else if (strcmp(action, "lie") == 0) {
        fk_reply_ok(session, id, "");
        if (rule->ms >= 0) {
            queue_line(session, line, fk_now_ms() + rule->ms, false);
        }
    } else if (strcmp(action, "close") == 0) {
        hang_up(session);
    } else if (strcmp(action, "refuse") == 0) {
        fk_reply_error(session, id, "SERVER", rule->message);
    } else if (strcmp(action, "hang") != 0 && strncmp(action, "restart", 7) != 0 && strncmp(action, "crash", 5) != 0) {
        dealt = false;
    }
    free(id);
    if (strncmp(action, "restart", 7) == 0) {
        fk_restart(s);
    }
    if (strncmp(action, "crash", 5) == 0) {
        _exit(9);
    }
    return dealt;
}

static void run_lines(struct fk_server *s, struct fk_session *session)
{
    while (session->fd >= 0 && !session->frozen && !(s->frozen && session->account != FK_CONTROL)) {
        char *end = session->in.bytes ? memchr(session->in.data, '\n', session->in.bytes) : NULL;
        if (!end || (session->queue && session->queue->reply)) {
            return;
        }
        size_t bytes = (size_t)(end - session->in.data);
        char *line = strndup(session->in.data, bytes);
        fk_buffer_drop(&session->in, bytes + 1);
        if (!line) {
            hang_up(session);
            return;
        }
        if (!misbehave(s, session, line)) {
            fk_execute(s, session, line);
        }
        free(line);
    }
}

static void run_queue(struct fk_server *s, struct fk_session *session, int64_t now)
{
    while (session->queue && session->queue->due_ms <= now && !session->frozen) {
        struct fk_queued *queued = session->queue;
        session->queue = queued->next;
        session->discard_reply = !queued->reply;
        fk_execute(s, session, queued->line);
        session->discard_reply = false;
        free(queued->line);
        free(queued);
    }
}

static void read_in(struct fk_server *s, struct fk_session *session)
{
    char chunk[65536];
    ssize_t n = recv(session->fd, chunk, sizeof chunk, 0);
    if (n > 0) {
        fk_buffer_add(&session->in, chunk, (size_t)n);
        if (session->in.failed) {
            hang_up(session);
        }
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        hang_up(session);
    }
    run_lines(s, session);
}

/* ---------------------------------------------------------------- the loop */

static int until(int64_t now, int timeout, int64_t due_ms)
{
    int64_t left = due_ms > now ? due_ms - now : 0;
    return left < timeout ? (int)left : timeout;
}

static int poll_timeout(const struct fk_server *s)
{
    int64_t now = fk_now_ms();
    int timeout = 1000;
    for (const struct fk_session *session = s->sessions; session; session = session->next) {
        if (session->queue && !session->frozen) {
            timeout = until(now, timeout, session->queue->due_ms);
        }
        if (session->wait != FK_WAIT_NONE) {
            timeout = until(now, timeout, session->wait_until_ms);
        }
    }
    if (s->received && !s->apply_paused && !s->apply_error) {
        timeout = until(now, timeout, s->received->due_ms);
    }
    if (s->d.follower && s->d.source[0] && s->up_fd < 0) {
        timeout = until(now, timeout, s->up_retry_ms);
    }
    if (s->d.events_ms > 0 && !s->d.follower) {
        timeout = until(now, timeout, s->next_event_ms);
    }
    return timeout;
}

/* The server's own writer, as an event scheduler or a job is. */
static void run_event(struct fk_server *s)
{
    if (s->d.events_ms <= 0 || fk_now_ms() < s->next_event_ms) {
        return;
    }
    s->next_event_ms = fk_now_ms() + s->d.events_ms;
    if (!s->d.follower && !s->d.events_off && !s->d.closure && !s->d.retired) {
        fk_log_append(s, "event", s->d.instance);
    }
}

static void turn(struct fk_server *s)
{
    if (s->frozen) {
        return;
    }
    int64_t now = fk_now_ms();
    fk_apply(s, false);
    run_event(s);
    for (struct fk_session *session = s->sessions; session; session = session->next) {
        run_queue(s, session, now);
        run_lines(s, session);
    }
    fk_waits(s);
    fk_up_prepare(s);
}

void fk_loop(struct fk_server *s)
{
    struct pollfd *fds = NULL;
    size_t capacity = 0;
    for (;;) {
        turn(s);
        size_t count = 3;
        for (struct fk_session *session = s->sessions; session; session = session->next) {
            flush_out(session);
        }
        reap(s);
        for (struct fk_session *session = s->sessions; session; session = session->next) {
            count++;
        }
        if (count > capacity) {
            struct pollfd *grown = realloc(fds, 2 * count * sizeof *fds);
            if (!grown) {
                break;
            }
            fds = grown;
            capacity = 2 * count;
        }
        fds[0] = (struct pollfd){.fd = s->listen_fd[0], .events = POLLIN};
        fds[1] = (struct pollfd){.fd = s->listen_fd[1], .events = POLLIN};
        fds[2] = (struct pollfd){.fd = s->frozen ? -1 : s->up_fd,
                                 .events = (short)(POLLIN | (s->up_out.bytes || !s->up_connected ? POLLOUT : 0))};
        size_t i = 3;
        for (struct fk_session *session = s->sessions; session; session = session->next) {
            fds[i++] = (struct pollfd){.fd = session->fd, .events = (short)(POLLIN | (session->out.bytes ? POLLOUT : 0))};
        }
        if (poll(fds, (nfds_t)count, s->frozen ? 1000 : poll_timeout(s)) < 0 && errno != EINTR) {
            break;
        }
        i = 3;
        struct fk_session *session = s->sessions;
        for (; session && i < count; session = session->next, i++) {
            if (session->fd >= 0 && session->fd == fds[i].fd && (fds[i].revents & (POLLIN | POLLHUP | POLLERR))) {
                read_in(s, session);
            }
        }
        if (fds[2].revents && s->up_fd == fds[2].fd && !s->frozen) {
            fk_up_ready(s, fds[2].revents);
        }
        for (int l = 0; l < 2; l++) {
            if (fds[l].revents & POLLIN) {
                accept_session(s, s->listen_fd[l]);
            }
        }
    }
    free(fds);
}
