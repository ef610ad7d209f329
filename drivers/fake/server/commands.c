/* commands.c - logging in, and what clients do: read, write, transactions. */
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool fk_accepts_writes(const struct fk_server *s)
{
    return !s->d.follower && !s->d.fence && !s->d.closure && !s->d.retired;
}

void fk_reply_ok(struct fk_session *session, const char *id, const char *fields)
{
    struct fk_buffer line = {0};
    fk_buffer_str(&line, "ok");
    fk_buffer_str(&line, fields);
    fk_put(&line, "id", id);
    if (!line.failed) {
        fk_send(session, line.data);
    }
    fk_buffer_done(&line);
}

void fk_reply_error(struct fk_session *session, const char *id, const char *code, const char *message)
{
    struct fk_buffer line = {0};
    fk_buffer_str(&line, "err");
    fk_put(&line, "code", code);
    fk_put(&line, "message", message);
    fk_put(&line, "id", id);
    if (!line.failed) {
        fk_send(session, line.data);
    }
    fk_buffer_done(&line);
}

static void reply_seq(struct fk_session *session, const char *id, int64_t seq)
{
    struct fk_buffer fields = {0};
    fk_put_int(&fields, "seq", seq);
    fk_reply_ok(session, id, fields.data);
    fk_buffer_done(&fields);
}

static enum fk_account account_of(const char *name)
{
    static const struct {
        const char *name;
        enum fk_account account;
    } known[] = {{"tool", FK_TOOL}, {"replicator", FK_REPLICATOR}, {"control", FK_CONTROL}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(known[i].name, name) == 0) {
            return known[i].account;
        }
    }
    return strncmp(name, "super", 5) == 0 ? FK_SUPER : FK_CLIENT;
}

static void hello(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    const char *name = fk_get_or(m, "account", "app");
    enum fk_account account = account_of(name);
    if (s->password && account != FK_CONTROL && strcmp(fk_get_or(m, "password", ""), s->password) != 0) {
        fk_reply_error(session, id, "AUTH", "wrong password");
        return;
    }
    if (s->d.closure && (account == FK_CLIENT || account == FK_SUPER)) {
        fk_reply_error(session, id, "REFUSED", "the server is closed");
        return;
    }
    session->account = account;
    session->hello = true;
    fk_set(&session->account_name, name);
    fk_set(&session->name, fk_get_or(m, "name", ""));
    struct fk_buffer fields = {0};
    fk_put(&fields, "instance", s->d.instance);
    fk_put(&fields, "version", FK_VERSION);
    fk_put_int(&fields, "session", session->number);
    fk_reply_ok(session, id, fields.data);
    fk_buffer_done(&fields);
}

/* Acknowledges entry `seq`: at once, or when a follower has it. */
static void acknowledge(struct fk_server *s, struct fk_session *session, const char *id, int64_t seq)
{
    if (!s->d.sync || s->followed_seq >= seq) {
        reply_seq(session, id, seq);
        return;
    }
    session->wait = FK_WAIT_SYNC;
    session->wait_seq = seq;
    session->wait_until_ms = INT64_MAX;
    fk_set(&session->wait_id, id ? id : "");
}

static void refuse_write(const struct fk_server *s, struct fk_session *session, const char *id)
{
    fk_reply_error(session, id, "REFUSED",
                   s->d.follower  ? "the server is a follower and read-only"
                   : s->d.closure ? "the server is closed"
                   : s->d.fence   ? "the server is fenced"
                                  : "the server is retired");
}

static void do_write(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    if (!fk_accepts_writes(s)) {
        refuse_write(s, session, id);
    } else if (!fk_log_append(s, fk_get_or(m, "key", ""), fk_get_or(m, "value", ""))) {
        fk_reply_error(session, id, "SPACE", "the log can't be written");
    } else {
        acknowledge(s, session, id, s->at.seq);
    }
}

/* A transaction that was begun before the fence may still commit: that is what draining is for. */
static void do_begin(struct fk_server *s, struct fk_session *session, const char *id)
{
    if (!fk_accepts_writes(s)) {
        refuse_write(s, session, id);
        return;
    }
    session->in_tx = true;
    fk_buffer_clear(&session->tx);
    fk_reply_ok(session, id, "");
}

static void do_put(struct fk_session *session, const struct fk_message *m, const char *id)
{
    if (!session->in_tx) {
        fk_reply_error(session, id, "STATE", "no transaction is open");
        return;
    }
    fk_buffer_encode(&session->tx, fk_get_or(m, "key", ""));
    fk_buffer_str(&session->tx, ",");
    fk_buffer_encode(&session->tx, fk_get_or(m, "value", ""));
    fk_buffer_str(&session->tx, ";");
    fk_reply_ok(session, id, "");
}

static void do_commit(struct fk_server *s, struct fk_session *session, const char *id)
{
    if (!session->in_tx || s->d.follower || s->d.closure || s->d.retired) {
        session->in_tx = false;
        fk_reply_error(session, id, "STATE", "no transaction is open");
        return;
    }
    char *rest = NULL;
    for (char *pair = session->tx.bytes ? strtok_r(session->tx.data, ";", &rest) : NULL; pair;
         pair = strtok_r(NULL, ";", &rest)) {
        char *value = strchr(pair, ',');
        *value++ = 0;
        fk_log_append(s, fk_decode(pair), fk_decode(value));
    }
    session->in_tx = false;
    fk_buffer_clear(&session->tx);
    acknowledge(s, session, id, s->at.seq);
}

static void do_read(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    const char *key = fk_get_or(m, "key", "");
    struct fk_buffer fields = {0};
    fk_buffer_str(&fields, "");
    for (int64_t i = s->at.seq; i > 0; i--) {
        if (strcmp(s->log[i - 1].key, key) == 0) {
            fk_put(&fields, "value", s->log[i - 1].value);
            fk_put_int(&fields, "seq", i);
            break;
        }
    }
    fk_reply_ok(session, id, fields.data ? fields.data : "");
    fk_buffer_done(&fields);
}

/* entries from=N limit=M: "key,value;key,value;..." as the log has them. */
static void do_entries(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    int64_t from = fk_get_int(m, "from", 1);
    int64_t to = from + fk_get_int(m, "limit", 1000) - 1;
    struct fk_buffer list = {0}, fields = {0};
    fk_buffer_str(&list, "");
    for (int64_t i = from < 1 ? 1 : from; i <= to && i <= s->at.seq; i++) {
        fk_buffer_encode(&list, s->log[i - 1].key);
        fk_buffer_str(&list, ",");
        fk_buffer_encode(&list, s->log[i - 1].value);
        fk_buffer_str(&list, ";");
    }
    fk_put_int(&fields, "seq", s->at.seq);
    fk_put(&fields, "entries", list.data);
    fk_reply_ok(session, id, fields.data);
    fk_buffer_done(&list);
    fk_buffer_done(&fields);
}

static bool client_command(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    const char *verb = m->verb;
    if (strcmp(verb, "write") == 0) {
        do_write(s, session, m, id);
    } else if (strcmp(verb, "begin") == 0) {
        do_begin(s, session, id);
    } else if (strcmp(verb, "put") == 0) {
        do_put(session, m, id);
    } else if (strcmp(verb, "commit") == 0) {
        do_commit(s, session, id);
    } else if (strcmp(verb, "rollback") == 0) {
        session->in_tx = false;
        fk_reply_ok(session, id, "");
    } else if (strcmp(verb, "read") == 0) {
        do_read(s, session, m, id);
    } else if (strcmp(verb, "entries") == 0) {
        do_entries(s, session, m, id);
    } else if (strcmp(verb, "ping") == 0) {
        fk_reply_ok(session, id, "");
    } else {
        return false;
    }
    return true;
}

void fk_execute(struct fk_server *s, struct fk_session *session, char *line)
{
    struct fk_message m;
    if (!fk_parse(line, &m)) {
        fk_reply_error(session, NULL, "SERVER", "malformed request");
        return;
    }
    const char *id = fk_get(&m, "id");
    session->wait = FK_WAIT_NONE; /* a new request ends a wait */
    if (strcmp(m.verb, "hello") == 0) {
        hello(s, session, &m, id);
    } else if (!session->hello) {
        fk_reply_error(session, id, "AUTH", "say hello first");
    } else if (client_command(s, session, &m, id)) {
        return;
    } else if (session->account == FK_REPLICATOR || session->account == FK_TOOL || session->account == FK_CONTROL) {
        if (strcmp(m.verb, "pull") == 0) {
            fk_pull(s, session, &m, id);
        } else if (session->account == FK_REPLICATOR || !fk_admin(s, session, &m, id)) {
            if (session->account != FK_CONTROL || !fk_script(s, session, &m, id)) {
                fk_reply_error(session, id, "SERVER", "no such command");
            }
        }
    } else {
        fk_reply_error(session, id, "PRIVILEGE", "permission denied");
    }
}
