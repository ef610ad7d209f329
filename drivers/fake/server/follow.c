/* follow.c - replication. A follower asks its source for what comes after its own position; the source answers at
 * once when it has more, else after a heartbeat. Either refuses the other when their histories have parted.
 *
 * Invariant: an entry is applied only behind the one before it, and only from a source whose history contains the
 * follower's; what was received and isn't applied yet is no part of the follower's position.
 */
#include "server.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---------------------------------------------------------------- the source's end */

static void send_batch(struct fk_server *s, struct fk_session *session)
{
    struct fk_buffer list = {0}, fields = {0};
    char position[FK_POSITION_TEXT];
    fk_position_format(&s->at, position, sizeof position);
    fk_buffer_str(&list, "");
    for (int64_t i = session->wait_seq; i < s->at.seq && i < session->wait_seq + FK_BATCH; i++) {
        fk_buffer_encode(&list, s->log[i].key);
        fk_buffer_str(&list, ",");
        fk_buffer_encode(&list, s->log[i].value);
        fk_buffer_str(&list, ";");
    }
    fk_put(&fields, "instance", s->d.instance);
    fk_put(&fields, "position", position);
    fk_put_int(&fields, "after", session->wait_seq);
    fk_put(&fields, "entries", list.data);
    fk_reply_ok(session, session->wait_id, fields.data);
    fk_buffer_done(&list);
    fk_buffer_done(&fields);
}

void fk_pull(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    static struct fk_position theirs; /* large; one thread */
    int64_t after = fk_get_int(m, "after", 0);
    if (!fk_position_parse(fk_get_or(m, "position", ""), &theirs)) {
        fk_reply_error(session, id, "SERVER", "malformed position");
        return;
    }
    /* Compared is what the follower has applied: of what it only received it doesn't know the terms yet. */
    enum co_order order = fk_position_compare(&s->at, &theirs);
    if (order == CO_ORDER_DIVERGED || order == CO_ORDER_BEHIND || after > s->at.seq) {
        fk_reply_error(session, id, "DATA", "the follower has entries that its source doesn't have");
        return;
    }
    const char *slot_name = fk_get_or(m, "slot", "");
    size_t bytes = strlen(slot_name);
    bool known = false;
    for (const char *at = s->d.slots; bytes && *at; at += strcspn(at, ",") + 1) {
        known = known || (strncmp(at, slot_name, bytes) == 0 && at[bytes] == ',');
    }
    if (!known) {
        fk_reply_error(session, id, "STATE", "the source has no such slot");
        return;
    }
    if (after > s->followed_seq) {
        s->followed_seq = after;
    }
    session->since_ms = fk_now_ms();
    session->wait = FK_WAIT_PULL;
    session->wait_seq = after;
    session->wait_until_ms = fk_now_ms() + FK_HEARTBEAT_MS;
    fk_set(&session->wait_id, id ? id : "");
}

static bool contains(const struct fk_server *s, const char *text)
{
    static struct fk_position want; /* large; one thread */
    if (!fk_position_parse(text, &want)) {
        return false;
    }
    enum co_order order = fk_position_compare(&s->at, &want);
    return order == CO_ORDER_EQUAL || order == CO_ORDER_AHEAD;
}

void fk_waits(struct fk_server *s)
{
    int64_t now = fk_now_ms();
    for (struct fk_session *at = s->sessions; at; at = at->next) {
        bool due = now >= at->wait_until_ms;
        if (at->wait == FK_WAIT_NONE || at->frozen) {
            continue;
        }
        if (at->wait == FK_WAIT_PULL && (due || s->at.seq > at->wait_seq)) {
            at->wait = FK_WAIT_NONE;
            send_batch(s, at);
        } else if (at->wait == FK_WAIT_POSITION && (due || contains(s, at->wait_position))) {
            at->wait = FK_WAIT_NONE;
            fk_reply_ok(at, at->wait_id, contains(s, at->wait_position) ? " reached=1" : " reached=0");
        } else if (at->wait == FK_WAIT_SYNC && (!s->d.sync || s->followed_seq >= at->wait_seq)) {
            struct fk_buffer fields = {0};
            at->wait = FK_WAIT_NONE;
            fk_put_int(&fields, "seq", at->wait_seq);
            fk_reply_ok(at, at->wait_id, fields.data);
            fk_buffer_done(&fields);
        }
    }
}

/* ---------------------------------------------------------------- the follower's end */

void fk_received_drop(struct fk_server *s)
{
    while (s->received) {
        struct fk_received *first = s->received;
        s->received = first->next;
        free(first->key);
        free(first->value);
        free(first);
    }
    s->received_end = &s->received;
    s->received_seq = s->at.seq;
}

/* Takes over what the source's history says about the entries that are applied here. */
static void adopt_history(struct fk_server *s)
{
    int count = s->up_at.term_count;
    while (count > 0 && s->up_at.terms[count - 1].first > s->at.seq + 1) {
        count--;
    }
    if (count > s->at.term_count) {
        memcpy(s->at.lineage, s->up_at.lineage, sizeof s->at.lineage);
        memcpy(s->at.terms, s->up_at.terms, (size_t)count * sizeof s->at.terms[0]);
        s->at.term_count = count;
        fk_store_save(s);
    }
}

void fk_apply(struct fk_server *s, bool at_once)
{
    int64_t now = fk_now_ms();
    bool held = s->apply_paused || s->apply_error;
    while (s->received && s->d.follower && (at_once || (!held && s->received->due_ms <= now))) {
        struct fk_received *first = s->received;
        if (!fk_log_append(s, first->key, first->value)) {
            return;
        }
        s->received = first->next;
        if (!s->received) {
            s->received_end = &s->received;
        }
        free(first->key);
        free(first->value);
        free(first);
        adopt_history(s);
    }
}

static void receive(struct fk_server *s, char *entries)
{
    char *rest = NULL;
    for (char *pair = strtok_r(entries, ";", &rest); pair; pair = strtok_r(NULL, ";", &rest)) {
        char *value = strchr(pair, ',');
        struct fk_received *one = calloc(1, sizeof *one);
        if (!value || !one) {
            free(one);
            fk_up_close(s, "malformed entry");
            return;
        }
        *value++ = 0;
        fk_set(&one->key, fk_decode(pair));
        fk_set(&one->value, fk_decode(value));
        one->due_ms = fk_now_ms() + s->d.apply_delay_ms;
        *s->received_end = one;
        s->received_end = &one->next;
        s->received_seq++;
    }
}

void fk_up_close(struct fk_server *s, const char *why)
{
    if (s->up_fd >= 0) {
        close(s->up_fd);
    }
    s->up_fd = -1;
    s->up_connected = s->up_hello = false;
    s->up_heard_ms = 0;
    s->up_retry_ms = fk_now_ms() + FK_RECONNECT_MS;
    fk_buffer_clear(&s->up_in);
    fk_buffer_clear(&s->up_out);
    fk_set(&s->link_error, why);
}

static void ask(struct fk_server *s)
{
    char position[FK_POSITION_TEXT];
    fk_position_format(&s->at, position, sizeof position);
    fk_buffer_str(&s->up_out, "pull");
    fk_put(&s->up_out, "position", position);
    fk_put(&s->up_out, "slot", s->d.slot);
    fk_put_int(&s->up_out, "after", s->received_seq);
    fk_buffer_str(&s->up_out, "\n");
}

static void heard(struct fk_server *s, char *line)
{
    struct fk_message m;
    if (!fk_parse(line, &m)) {
        fk_up_close(s, "malformed reply");
        return;
    }
    if (strcmp(m.verb, "ok") != 0) {
        fk_up_close(s, fk_get_or(&m, "message", "refused"));
        return;
    }
    if (!s->up_hello) {
        s->up_hello = true;
        fk_received_drop(s); /* what isn't applied is asked for again; while the source is gone it is kept */
        ask(s);
        return;
    }
    s->up_heard_ms = fk_now_ms();
    fk_set(&s->link_error, "");
    fk_set(&s->up_instance, fk_get_or(&m, "instance", ""));
    fk_set(&s->up_text, fk_get_or(&m, "position", ""));
    if (!fk_position_parse(s->up_text, &s->up_at) || fk_get_int(&m, "after", -1) != s->received_seq) {
        fk_up_close(s, "malformed reply");
        return;
    }
    receive(s, (char *)(uintptr_t)fk_get_or(&m, "entries", ""));
    adopt_history(s);
    fk_apply(s, false);
    if (s->received_seq >= s->up_at.seq) {
        s->synced = true;
        s->once = false;
    }
    if (s->up_fd >= 0 && (s->d.streaming || s->once)) {
        ask(s);
    } else if (s->up_fd >= 0) {
        int64_t heard_ms = s->up_heard_ms;
        fk_up_close(s, "");
        s->up_heard_ms = heard_ms;
    }
}

void fk_up_prepare(struct fk_server *s)
{
    bool wanted = s->d.follower && s->d.source[0] && !s->link_cut && (s->d.streaming || s->once);
    if (!wanted || s->up_fd >= 0 || fk_now_ms() < s->up_retry_ms) {
        return;
    }
    s->up_fd = fk_dial(s->d.source);
    if (s->up_fd < 0) {
        char message[160];
        snprintf(message, sizeof message, "can't connect to %.80s: %s", s->d.source, strerror(errno));
        fk_up_close(s, message);
        return;
    }
    fk_buffer_str(&s->up_out, "hello account=replicator");
    fk_put(&s->up_out, "password", s->password);
    fk_put(&s->up_out, "name", s->d.slot);
    fk_buffer_str(&s->up_out, "\n");
}

static bool up_send(struct fk_server *s)
{
    while (s->up_out.bytes > 0) {
        ssize_t n = send(s->up_fd, s->up_out.data, s->up_out.bytes, MSG_NOSIGNAL);
        if (n < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        fk_buffer_drop(&s->up_out, (size_t)n);
    }
    return true;
}

static bool up_receive(struct fk_server *s)
{
    char chunk[65536];
    ssize_t n = recv(s->up_fd, chunk, sizeof chunk, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        return false;
    }
    if (n > 0) {
        fk_buffer_add(&s->up_in, chunk, (size_t)n);
    }
    for (;;) {
        char *end = s->up_in.bytes ? memchr(s->up_in.data, '\n', s->up_in.bytes) : NULL;
        if (!end || s->up_fd < 0) {
            return true;
        }
        size_t bytes = (size_t)(end - s->up_in.data);
        char *line = strndup(s->up_in.data, bytes);
        fk_buffer_drop(&s->up_in, bytes + 1);
        if (line) {
            heard(s, line);
        }
        free(line);
    }
}

void fk_up_ready(struct fk_server *s, short events)
{
    if (!s->up_connected) {
        int error = 0;
        socklen_t size = sizeof error;
        if (getsockopt(s->up_fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error) {
            char message[160];
            snprintf(message, sizeof message, "can't connect to %.80s: %s", s->d.source, strerror(error));
            fk_up_close(s, message);
            return;
        }
        s->up_connected = true;
    }
    if (!up_send(s) || ((events & (POLLIN | POLLHUP | POLLERR)) && !up_receive(s))) {
        fk_up_close(s, "the source closed the connection");
        return;
    }
    if (s->up_fd >= 0) {
        (void)up_send(s);
    }
}
