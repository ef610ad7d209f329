/* commands_admin.c - what the tool does here: looks, the marker, and everything that changes who may write.
 *
 * Invariant (the token rule): a command that changes who may write names a token, which is compared with the
 * marker in the same turn in which the change is made durable. Each change is idempotent and all or nothing.
 */
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void saved(struct fk_server *s, struct fk_session *session, const char *id)
{
    if (fk_store_save(s)) {
        fk_reply_ok(session, id, "");
    } else {
        fk_reply_error(session, id, "SPACE", "the state can't be written");
    }
}

/* ---------------------------------------------------------------- looks */

static void count_sessions(const struct fk_server *s, struct fk_buffer *fields)
{
    int64_t clients = 0, transactions = 0, followers = 0;
    for (const struct fk_session *at = s->sessions; at; at = at->next) {
        bool client = at->hello && !at->ending && (at->account == FK_CLIENT || at->account == FK_SUPER);
        clients += client;
        followers += at->account == FK_REPLICATOR && at->fd >= 0 && fk_now_ms() - at->since_ms < 10 * FK_HEARTBEAT_MS;
        /* a write that a rule delays, and one whose follower hasn't confirmed it, are in flight too */
        transactions += client && (at->in_tx || at->queue || at->wait == FK_WAIT_SYNC);
    }
    fk_put_int(fields, "clients", clients);
    fk_put_int(fields, "transactions", transactions);
    fk_put_int(fields, "followers", followers);
}

static const char *link_state(const struct fk_server *s)
{
    if (!s->d.follower || !s->d.source[0]) {
        return "none";
    }
    if (!s->d.streaming) {
        return "rounds";
    }
    return s->up_fd >= 0 && s->up_hello && s->up_heard_ms > 0 ? "streaming" : "down";
}

static void look(struct fk_server *s, struct fk_session *session, const char *id)
{
    struct fk_buffer f = {0};
    char position[FK_POSITION_TEXT];
    fk_position_format(&s->at, position, sizeof position);
    bool fresh = !s->d.follower && s->at.seq == 0 && s->at.term_count < 2 && !s->d.slots[0];
    fk_put(&f, "version", FK_VERSION);
    fk_put(&f, "instance", s->d.instance);
    fk_put(&f, "lineage", fresh ? "" : s->at.lineage);
    fk_put(&f, "incarnation", s->incarnation);
    fk_put(&f, "role", s->d.follower ? "follower" : "primary");
    fk_put_int(&f, "accepts_writes", fk_accepts_writes(s));
    fk_put_int(&f, "fence", s->d.fence);
    fk_put_int(&f, "closure", s->d.closure);
    fk_put_int(&f, "retired", s->d.retired);
    fk_put_int(&f, "events_off", s->d.events_off);
    fk_put_int(&f, "events_ms", s->d.events_ms);
    fk_put_int(&f, "sync", s->d.sync);
    fk_put_int(&f, "apply_delay_ms", s->d.apply_delay_ms);
    fk_put_int(&f, "idle_timeout_ms", s->d.idle_timeout_ms);
    fk_put(&f, "position", position);
    fk_put_int(&f, "seq", s->at.seq);
    fk_put_int(&f, "bytes", s->log_bytes);
    fk_put(&f, "source", s->d.source);
    fk_put(&f, "slot", s->d.slot);
    fk_put(&f, "slots", s->d.slots);
    fk_put(&f, "link", link_state(s));
    fk_put(&f, "link_error", s->link_error ? s->link_error : "");
    fk_put_int(&f, "silent_ms", s->up_heard_ms ? fk_now_ms() - s->up_heard_ms : -1);
    fk_put(&f, "source_instance", s->up_instance ? s->up_instance : "");
    fk_put(&f, "source_position", s->up_text ? s->up_text : "");
    fk_put_int(&f, "received", s->received_seq);
    fk_put_int(&f, "synced", s->synced);
    fk_put_int(&f, "apply_paused", s->apply_paused);
    fk_put(&f, "apply_error", s->apply_error ? s->apply_error : "");
    fk_put_int(&f, "followed_seq", s->followed_seq);
    fk_put(&f, "token", s->d.token);
    count_sessions(s, &f);
    fk_reply_ok(session, id, f.data);
    fk_buffer_done(&f);
}

static void list_sessions(struct fk_server *s, struct fk_session *session, const char *id)
{
    struct fk_buffer list = {0}, fields = {0};
    fk_buffer_str(&list, "");
    for (const struct fk_session *at = s->sessions; at; at = at->next) {
        if (at->hello && !at->ending) {
            fk_buffer_encode(&list, at->account_name);
            fk_buffer_str(&list, ",");
            fk_buffer_encode(&list, at->name);
            fk_buffer_str(&list, ";");
        }
    }
    fk_put(&fields, "sessions", list.data);
    fk_reply_ok(session, id, fields.data);
    fk_buffer_done(&list);
    fk_buffer_done(&fields);
}

/* Answers when the position is applied, or with reached=0 after ms. */
static void wait_position(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    session->wait = FK_WAIT_POSITION;
    session->wait_until_ms = fk_now_ms() + fk_get_int(m, "ms", 0);
    fk_set(&session->wait_position, fk_get_or(m, "position", ""));
    fk_set(&session->wait_id, id ? id : "");
    fk_waits(s);
}

/* ---------------------------------------------------------------- the marker and sessions */

static void marker_get(struct fk_server *s, struct fk_session *session, const char *id)
{
    struct fk_buffer fields = {0};
    fk_put(&fields, "token", s->d.token);
    fk_put(&fields, "info", s->d.info);
    fk_reply_ok(session, id, fields.data);
    fk_buffer_done(&fields);
}

static void marker_set(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    if (strcmp(fk_get_or(m, "expected", ""), s->d.token) != 0) {
        char message[200];
        snprintf(message, sizeof message, "the marker holds '%s'", s->d.token);
        fk_reply_error(session, id, "CONFLICT", message);
        return;
    }
    fk_set(&s->d.token, fk_get_or(m, "token", ""));
    fk_set(&s->d.info, s->d.token[0] ? fk_get_or(m, "info", "") : "");
    saved(s, session, id);
}

/* Ends the sessions "changeover:<run>:*" but those of two actors and this one. */
static void end_sessions(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    char run[128], keep[2][192];
    snprintf(run, sizeof run, "changeover:%s:", fk_get_or(m, "run", ""));
    snprintf(keep[0], sizeof keep[0], "%s%s", run, fk_get_or(m, "actor", ""));
    snprintf(keep[1], sizeof keep[1], "%s%s", run, fk_get_or(m, "keep", ""));
    int64_t ended = 0;
    for (struct fk_session *at = s->sessions; at; at = at->next) {
        if (at != session && strncmp(at->name, run, strlen(run)) == 0 && strcmp(at->name, keep[0]) != 0 &&
            strcmp(at->name, keep[1]) != 0) {
            fk_session_end(at);
            ended++;
        }
    }
    struct fk_buffer fields = {0};
    fk_put_int(&fields, "ended", ended);
    fk_reply_ok(session, id, fields.data);
    fk_buffer_done(&fields);
}

static void end_clients(struct fk_server *s, bool only_writing)
{
    for (struct fk_session *at = s->sessions; at; at = at->next) {
        if ((at->account == FK_CLIENT || at->account == FK_SUPER) &&
            (!only_writing || at->in_tx || at->queue || at->wait == FK_WAIT_SYNC)) {
            fk_session_end(at);
        }
    }
}

/* Who still writes, as "account name, 1200 ms;"; end=1 ends them. */
static void drain(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    struct fk_buffer list = {0}, fields = {0};
    fk_buffer_str(&list, "");
    for (const struct fk_session *at = s->sessions; at; at = at->next) {
        if (at->hello && !at->ending && (at->account == FK_CLIENT || at->account == FK_SUPER) &&
            (at->in_tx || at->queue || at->wait == FK_WAIT_SYNC)) {
            char one[96];
            snprintf(one, sizeof one, "session %lld of %.40s; ", (long long)at->number, at->account_name);
            fk_buffer_str(&list, one);
        }
    }
    if (fk_get_int(m, "end", 0)) {
        end_clients(s, true);
    }
    fk_put(&fields, "remaining", list.data);
    fk_reply_ok(session, id, fields.data);
    fk_buffer_done(&list);
    fk_buffer_done(&fields);
}

/* ---------------------------------------------------------------- who may write */

static void promote(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    if (s->d.follower) {
        if (s->at.term_count == FK_TERMS_MAX) {
            fk_reply_error(session, id, "SPACE", "too many promotions");
            return;
        }
        fk_apply(s, true);
        struct fk_term *term = &s->at.terms[s->at.term_count++];
        fk_random_name(term->name, 4);
        term->first = s->at.seq + 1;
        fk_set(&s->d.old_source, s->d.source);
        fk_set(&s->d.source, "");
        s->d.follower = false;
        s->followed_seq = 0;
        fk_up_close(s, "");
    }
    if (fk_get_int(m, "open", 0)) {
        s->d.closure = false;
    }
    saved(s, session, id);
}

/* Takes a promotion back; possible while nothing was written after it. */
static void demote(struct fk_server *s, struct fk_session *session, const char *id)
{
    if (!s->d.follower) {
        struct fk_term *term = &s->at.terms[s->at.term_count - 1];
        if (s->at.term_count < 2 || !s->d.old_source[0] || term->first <= s->at.seq) {
            fk_reply_error(session, id, "DATA", "the server has written since its promotion, or was never promoted");
            return;
        }
        s->at.term_count--;
        fk_set(&s->d.source, s->d.old_source);
        s->d.follower = true;
        s->up_retry_ms = 0;
        fk_received_drop(s);
    }
    saved(s, session, id);
}

static void follow(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    if (!s->d.follower && s->at.seq > 0 && fk_get_int(m, "empty", 0)) {
        fk_reply_error(session, id, "DATA", "the server holds data");
        return;
    }
    bool streaming = fk_get_int(m, "streaming", 1) != 0;
    if (s->d.follower && !fk_get(m, "drop_slot") && s->d.streaming == streaming &&
        strcmp(s->d.source, fk_get_or(m, "source", "")) == 0 && strcmp(s->d.slot, fk_get_or(m, "slot", "")) == 0) {
        fk_reply_ok(session, id, ""); /* it does already: nothing is begun anew */
        return;
    }
    if (s->at.seq == 0 && s->at.term_count < 2) {
        memset(&s->at, 0, sizeof s->at); /* an empty server takes the source's lineage */
    }
    s->d.follower = true;
    s->d.fence = false; /* a follower needs none: it takes no client's write until it is promoted */
    s->d.retired = false;
    s->d.events_off = false;
    s->d.streaming = streaming;
    s->followed_seq = 0;
    fk_set(&s->d.source, fk_get_or(m, "source", ""));
    fk_set(&s->d.slot, fk_get_or(m, "slot", ""));
    fk_set(&s->d.old_source, "");
    const char *drop = fk_get(m, "drop_slot");
    if (drop) {
        fk_set(&s->d.slots, "");
    }
    fk_up_close(s, "");
    s->up_retry_ms = 0; /* connects in this turn */
    fk_received_drop(s);
    s->synced = false;
    end_clients(s, true);
    saved(s, session, id);
}

static void unfollow(struct fk_server *s, struct fk_session *session, const char *id)
{
    if (s->d.follower) {
        fk_set(&s->d.source, "");
        fk_up_close(s, "");
        fk_received_drop(s);
    }
    saved(s, session, id);
}

/* Closing, and taking a closure back: only a follower may lose it that way, a primary is opened by `open`. */
static void set_closure(struct fk_server *s, struct fk_session *session, bool on, const char *id)
{
    if (!on && s->d.closure && !s->d.follower) {
        fk_reply_error(session, id, "STATE", "a primary's closure is lifted only by opening it");
        return;
    }
    s->d.closure = on;
    if (on) {
        end_clients(s, false);
    }
    saved(s, session, id);
}

static void open_up(struct fk_server *s, struct fk_session *session, const char *id)
{
    if (s->d.follower) {
        fk_reply_error(session, id, "STATE", "the server is a follower");
        return;
    }
    s->d.closure = false;
    saved(s, session, id);
}

static void slot(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    char name[128];
    snprintf(name, sizeof name, "%s,", fk_get_or(m, "name", ""));
    char *found = strstr(s->d.slots, name);
    bool on = fk_get_int(m, "on", 1) != 0;
    if (on && !found) {
        struct fk_buffer names = {0};
        fk_buffer_str(&names, s->d.slots);
        fk_buffer_str(&names, name);
        fk_set(&s->d.slots, names.data);
        fk_buffer_done(&names);
    } else if (!on && found) {
        memmove(found, found + strlen(name), strlen(found + strlen(name)) + 1);
    }
    saved(s, session, id);
}

/* False: refused and answered. A token must be that of the marker; without a token there must be no marker. */
static bool token_holds(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    const char *token = fk_get_or(m, "token", "");
    if (strcmp(token, s->d.token) == 0 || (!s->d.token[0] && fk_get_int(m, "or_none", 0))) {
        return true;
    }
    char message[200];
    snprintf(message, sizeof message, "the marker holds '%s', not '%s'", s->d.token, token);
    fk_reply_error(session, id, "CONFLICT", message);
    return false;
}

static bool change(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    static const char *const verbs[] = {"fence", "events", "close", "retire",      "promote",  "demote", "follow",
                                        "slot",  "sync",   "drain", "end_clients", "unfollow", "open",   NULL};
    size_t i = 0;
    while (verbs[i] && strcmp(verbs[i], m->verb) != 0) {
        i++;
    }
    if (!verbs[i]) {
        return false;
    }
    if (!token_holds(s, session, m, id)) {
        return true;
    }
    bool on = fk_get_int(m, "on", 1) != 0;
    const char *verb = m->verb;
    if (strcmp(verb, "promote") == 0) {
        promote(s, session, m, id);
    } else if (strcmp(verb, "demote") == 0) {
        demote(s, session, id);
    } else if (strcmp(verb, "follow") == 0) {
        follow(s, session, m, id);
    } else if (strcmp(verb, "unfollow") == 0) {
        unfollow(s, session, id);
    } else if (strcmp(verb, "close") == 0) {
        set_closure(s, session, on, id);
    } else if (strcmp(verb, "open") == 0) {
        open_up(s, session, id);
    } else if (strcmp(verb, "slot") == 0) {
        slot(s, session, m, id);
    } else if (strcmp(verb, "drain") == 0) {
        drain(s, session, m, id);
    } else if (strcmp(verb, "end_clients") == 0) {
        end_clients(s, false);
        fk_reply_ok(session, id, "");
    } else {
        bool *flag = strcmp(verb, "fence") == 0    ? &s->d.fence
                     : strcmp(verb, "events") == 0 ? &s->d.events_off
                     : strcmp(verb, "retire") == 0 ? &s->d.retired
                                                   : &s->d.sync;
        *flag = on;
        saved(s, session, id);
    }
    return true;
}

bool fk_admin(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id)
{
    const char *verb = m->verb;
    if (strcmp(verb, "look") == 0 || strcmp(verb, "position") == 0 || strcmp(verb, "applied") == 0 ||
        strcmp(verb, "link") == 0 || strcmp(verb, "capture") == 0 || strcmp(verb, "proof") == 0) {
        look(s, session, id); /* one answer with several names, so that a rule can single one out */
    } else if (strcmp(verb, "sessions") == 0) {
        list_sessions(s, session, id);
    } else if (strcmp(verb, "wait") == 0) {
        wait_position(s, session, m, id);
    } else if (strcmp(verb, "marker_get") == 0) {
        marker_get(s, session, id);
    } else if (strcmp(verb, "marker_set") == 0) {
        marker_set(s, session, m, id);
    } else if (strcmp(verb, "end_sessions") == 0) {
        end_sessions(s, session, m, id);
    } else if (strcmp(verb, "round") == 0) {
        s->once = true;
        s->synced = false;
        s->up_retry_ms = 0;
        fk_reply_ok(session, id, "");
    } else {
        return change(s, session, m, id);
    }
    return true;
}
