/* server.h - a database server to rehearse with: an ordered log of entries, clients, sessions, a follower that
 * pulls from its primary, a fence, a closure, a marker, and commands that make it misbehave.
 *
 * One thread, one poll loop. Whatever decides who may write (role, fence, closure, retirement, marker) is in
 * struct durable and on disk before the reply leaves; log entries are written, so they outlive a kill of the
 * process but not of the machine. Invariant: a client's write is acknowledged only while fk_accepts_writes()
 * holds in the same turn of the loop.
 */
#ifndef FAKE_SERVER_H
#define FAKE_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "position.h"
#include "wire.h"

#define FK_VERSION "1.2"
#define FK_HEARTBEAT_MS 100
#define FK_RECONNECT_MS 100
#define FK_BATCH 500

struct fk_entry {
    char *key, *value;
};

struct fk_durable {
    char instance[FK_NAME_MAX];
    bool follower;    /* else a primary */
    char *source;     /* whom it follows: "host:port", "/path", "" */
    char *slot;       /* under which name */
    char *old_source; /* before the last promotion, for demote */
    bool fence, closure, retired, events_off;
    char *token, *info; /* the marker; token "" when there is none */
    char *slots;        /* names, each with a comma behind it */
    int64_t apply_delay_ms, events_ms, idle_timeout_ms;
    bool sync;      /* a write is acknowledged when a follower has it */
    bool streaming; /* a follower pulls all the time; else only in rounds */
};

enum fk_account { FK_CLIENT, FK_SUPER, FK_TOOL, FK_REPLICATOR, FK_CONTROL };

/* A line that waits to be executed: delayed, or sent by a connection that is frozen. */
struct fk_queued {
    struct fk_queued *next;
    char *line;
    int64_t due_ms;
    bool reply;
};

enum fk_wait { FK_WAIT_NONE, FK_WAIT_POSITION, FK_WAIT_PULL, FK_WAIT_SYNC };

struct fk_session {
    struct fk_session *next;
    int64_t number;
    int fd; /* -1: the client is gone, a statement of its is not */
    char *name, *account_name;
    enum fk_account account;
    bool hello, frozen, ending, discard_reply;
    struct fk_buffer in, out;
    struct fk_queued *queue;
    struct fk_buffer tx; /* entries of an open transaction, encoded */
    bool in_tx;
    enum fk_wait wait;
    int64_t wait_until_ms, wait_seq;
    char *wait_position, *wait_id;
    int64_t since_ms; /* connected; of a follower: asked last */
};

struct fk_rule {
    struct fk_rule *next;
    char *verb, *action, *message;
    int64_t ms, count;
};

struct fk_received {
    struct fk_received *next;
    char *key, *value;
    int64_t due_ms;
};

struct fk_server {
    char **argv;
    const char *directory, *password;
    int state_dir, log_fd, listen_fd[2];
    char incarnation[FK_NAME_MAX];
    struct fk_durable d;
    struct fk_position at; /* what is applied: history and seq */
    struct fk_entry *log;
    int64_t log_capacity, log_bytes;
    struct fk_session *sessions;
    int64_t next_number;
    struct fk_rule *rules;
    bool frozen, lost_writes;
    int64_t next_event_ms;
    char *apply_error;
    bool apply_paused, link_cut;
    /* the follower's end of replication */
    int up_fd;
    bool up_connected, up_hello, synced, once;
    struct fk_buffer up_in, up_out;
    int64_t up_heard_ms, up_retry_ms, round_number;
    char *link_error;
    char *up_instance, *up_text; /* the source's instance and last position */
    struct fk_position up_at;
    struct fk_received *received, **received_end;
    int64_t received_seq;
    int64_t followed_seq; /* the furthest that a follower of ours has */
};

/* store.c: the state on disk */
bool fk_store_open(struct fk_server *s);
bool fk_store_save(struct fk_server *s); /* durable when it returns */
bool fk_log_append(struct fk_server *s, const char *key, const char *value);
void fk_log_truncate(struct fk_server *s, int64_t keep);
void fk_random_name(char *ret, size_t bytes); /* hex */
void fk_set(char **where, const char *value);

/* net.c: sessions and the loop */
bool fk_listen(struct fk_server *s, const char *address, int slot);
int fk_dial(const char *address); /* non-blocking; -1 */
void fk_loop(struct fk_server *s);
int64_t fk_now_ms(void);
void fk_session_end(struct fk_session *session); /* with whatever it executes */
void fk_send(struct fk_session *session, const char *line);

/* commands.c */
void fk_execute(struct fk_server *s, struct fk_session *session, char *line);
void fk_reply_error(struct fk_session *session, const char *id, const char *code, const char *message);
void fk_reply_ok(struct fk_session *session, const char *id, const char *fields);
bool fk_accepts_writes(const struct fk_server *s);
/* commands_admin.c: false when the verb isn't one of them */
bool fk_admin(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id);
/* script.c: how to misbehave */
bool fk_script(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id);
struct fk_rule *fk_rule_for(struct fk_server *s, const char *verb); /* uses one of its count up */
void fk_restart(struct fk_server *s) __attribute__((noreturn));

/* follow.c: replication, both ends */
void fk_pull(struct fk_server *s, struct fk_session *session, const struct fk_message *m, const char *id);
void fk_waits(struct fk_server *s); /* answers what is due */
void fk_up_prepare(struct fk_server *s);
void fk_up_ready(struct fk_server *s, short events);
void fk_up_close(struct fk_server *s, const char *why);
void fk_apply(struct fk_server *s, bool at_once);
void fk_received_drop(struct fk_server *s);

#endif
