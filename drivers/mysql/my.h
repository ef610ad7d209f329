/* my.h - what the module's files share: the connection, running statements, and the rules that hold for all of it.
 *
 * Invariants of the module
 *   - Every session of the tool has sql_log_bin=0: what it does to a server never becomes a transaction of that server's
 *     history, so there are no errant GTIDs. The few statements that belong to the history (the replication account,
 *     the probe's table) turn it on for themselves.
 *   - What changes who may write goes through my_change(), which checks the marker's token in the same packet.
 *   - Every statement that can wait for a lock has a time limit on the server that is shorter than ours, so nothing
 *     is left pending that would bite after an undo.
 */
#ifndef MY_MY_H
#define MY_MY_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <mysql.h>

#include "changeover/driver.h"
#include "gtid.h"

#define MY_MODULE_VERSION "0.1.0"

#define MY_SCHEMA "changeover"             /* ours on each server: marker, originals; never replicated */
#define MY_PROBE_SCHEMA "changeover_probe" /* the probe's table; replicated like any other */

enum my_flavour { MY_MARIADB, MY_MYSQL };

/* A growing string with a maximum. `overflow` stays set: it is checked where the string is used. */
struct my_str {
    char *data;
    size_t len, capacity;
    bool overflow;
};

#define MY_STR_AUTO __attribute__((cleanup(my_str_done))) struct my_str

void my_str_done(struct my_str *s); /* wipes: statements may hold passwords */
void my_str_clear(struct my_str *s);
void my_str_add(struct my_str *s, const char *text);
void my_str_addn(struct my_str *s, const char *text, size_t bytes);
void my_str_addf(struct my_str *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void my_str_quote(struct my_str *s, const char *text); /* 'text' for sql_mode without NO_BACKSLASH_ESCAPES */
void my_str_name(struct my_str *s, const char *name);  /* `name` */
void my_str_account(struct my_str *s, const char *user, const char *host); /* 'user'@'host' */
const char *my_cstr(const struct my_str *s);

/* Cached by prepare() on this connection; valid while the connection lives. */
struct my_seen_link {
    uint64_t heartbeats;
    char *progress; /* what the receiver has read, as text */
    int64_t changed_ns;
};

struct co_conn {
    MYSQL *mysql;
    bool dead;
    bool unlogged; /* sql_log_bin is 0 */
    enum my_flavour flavour;
    unsigned long version;             /* 101119 is 10.11.19 */
    char *version_text;                /* "10.11.19" */
    uint64_t id;                       /* CONNECTION_ID() */
    char *account_user, *account_host; /* CURRENT_USER() */
    char *uuid;                        /* MySQL: server_uuid */
    bool by_file;                      /* it has no GTIDs: file.c */
    enum co_side side;
    bool in_run;
    bool rows_kept;           /* warm_up has kept what the fence will change, over this connection */
    char *kept_accounts;      /* those of them that were unlocked then, as a list for ALTER USER */
    char *to_unlock;          /* what opening it will unlock, as its statement; seen after it was closed, NULL: not yet */
    char *channel;            /* of the replication that the last proof saw here; NULL: none was seen */
    char *started;            /* when the server started; a session doesn't outlive its server */
    bool free_marker_will_do; /* in steps of setup and detach, which work without a marker: no run may be under way, or ours */
    void (*tick)(void *arg);  /* about once a second while a statement runs */
    void *tick_arg;
    struct my_seen_link seen;
    uint64_t floor_id; /* accounts were seen locked when no session had a higher id: later ones can't get in; 0: not seen */
    char *bypass;      /* comma-separated quoted user names that write past read_only; NULL: not looked at yet */
};

/* Result sets of one packet. */
#define MY_SETS_MAX 16
struct my_sets {
    MYSQL_RES *set[MY_SETS_MAX];
    unsigned count;    /* result sets kept */
    unsigned done;     /* statements that succeeded */
    uint64_t affected; /* rows of the last statement that had no result set */
    unsigned error;    /* the server's error number, or 0 */
};
#define MY_SETS_AUTO __attribute__((cleanup(my_sets_done))) struct my_sets
void my_sets_done(struct my_sets *sets);

/* ---- conn.c ---- */
enum co_result my_connect(struct co_call *call, enum co_conn_purpose purpose, struct co_conn **ret);
void my_disconnect(struct co_conn *conn);
bool my_alive(struct co_conn *conn);
/* Opens a session as another account of that side (the probe's); no slot, nothing set up. */
enum co_result my_login(struct co_call *call, const char *user, const char *password, struct co_conn **ret);

/* ---- query.c ---- */
/* Reads: failure is CO_NO_EFFECT. */
enum co_result my_read(struct co_call *call, struct co_conn *conn, const char *sql, struct my_sets *ret);
/* One packet that changes something, without the token (marker and setup); failure may be CO_EFFECT_UNKNOWN. */
enum co_result my_exec(struct co_call *call, struct co_conn *conn, const char *sql, struct my_sets *ret_or_null);
/* One packet: takes the marker's lock, checks that the marker holds the run's token (outside a run: that it is
 * free), then `sql` (statements, each ended by ';'). The server stops at the first one that fails. */
enum co_result my_change(struct co_call *call, struct co_conn *conn, const char *sql, struct my_sets *ret_or_null);
/* The same; the server's waits for locks end after at most so many seconds. */
enum co_result my_change_waiting(struct co_call *call, struct co_conn *conn, const char *sql, int most_s,
                                 struct my_sets *ret_or_null);
/* The same call with a deadline in so many milliseconds, if its own isn't sooner: for queries within a step that may take
 * hours. */
struct co_call my_brief(const struct co_call *call, int64_t ms);
const char *my_value(const struct my_sets *sets, unsigned set, unsigned column); /* first row; NULL when absent or NULL */
int64_t my_int(const char *text, int64_t otherwise);
bool my_truth(const char *text); /* "1", "ON", "YES": new versions name what used to be numbers */
/* A column by one of two names in the row; NULL when neither is there. */
const char *my_column(MYSQL_RES *res, MYSQL_ROW row, const char *name, const char *other_name);

/* ---- error.c ---- */
enum co_result my_fail(struct co_call *call, enum co_result result, int code, const char *hint, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* Takes the server's or the library's error. */
enum co_result my_fail_server(struct co_call *call, enum co_result result, unsigned number, const char *what, const char *text);
int my_error_code(unsigned number);
enum co_result my_out_of_memory(struct co_call *call);

/* ---- words.c: statements that have two spellings ---- */
const char *my_word_status(const struct co_conn *conn);     /* SHOW ALL SLAVES STATUS, SHOW REPLICA STATUS, ... */
const char *my_word_log_status(const struct co_conn *conn); /* SHOW MASTER STATUS, SHOW BINARY LOG STATUS */
const char *my_word_replica(const struct co_conn *conn);    /* SLAVE, REPLICA */
const char *my_word_change(const struct co_conn *conn);     /* CHANGE MASTER TO, CHANGE REPLICATION SOURCE TO */
const char *my_word_source(const struct co_conn *conn);     /* MASTER, SOURCE */
const char *my_word_reset_log(const struct co_conn *conn);  /* RESET MASTER, RESET BINARY LOGS AND GTIDS */
const char *my_word_slaveside(const struct co_conn *conn);  /* DISABLE ON SLAVE, DISABLE ON REPLICA */
const char *my_word_pos_wait(const struct co_conn *conn);   /* MASTER_POS_WAIT, SOURCE_POS_WAIT */
const char *my_word_public_key(const struct co_conn *conn); /* ",GET_SOURCE_PUBLIC_KEY=1" where passwords may need it, or "" */
/* Of a remedy in the old and in the new words the one that the server understands. */
const char *my_word_either(const struct co_conn *conn, const char *slave, const char *replica);
/* What an event's statements have changed of a session, as every session of ours begins. */
#define MY_SESSION_READS "SET SESSION sql_mode='';SET NAMES utf8mb4"
const char *my_word_session(const struct co_conn *conn);      /* what each of our sessions begins with */
const char *my_word_load_session(const struct co_conn *conn); /* an option of the program that loads a dump */
bool my_is_mysql(const struct co_conn *conn);
bool my_has_persist(const struct co_conn *conn); /* SET PERSIST */
/* An expression for the position of what this server has executed as a primary, and applied as a follower. */
const char *my_expr_position(const struct co_conn *conn);
const char *my_expr_applied(const struct co_conn *conn);
/* "SELECT <seconds since the epoch when the server started>" */
const char *my_expr_started(const struct co_conn *conn);

/* ---- look.c ---- */
enum co_result my_identify(struct co_call *call, struct co_identity *ret);
enum co_result my_capabilities(struct co_call *call, struct co_capabilities *ret);
enum co_result my_settings(struct co_call *call);
enum co_result my_discover(struct co_call *call);
enum co_result my_grants(struct co_call *call, struct co_text *ret);

/* ---- marker.c ---- */
enum co_result my_marker_get(struct co_call *call, struct co_text *ret_token, struct co_text *ret_info);
enum co_result my_marker_set(struct co_call *call, const char *expected, const char *token, const char *info);
/* Our schema and tables; made where absent. */
enum co_result my_schema_make(struct co_call *call, struct co_conn *conn);
/* Like my_change() (guarded) or my_exec(), also under super_read_only. `sql`: statements, each ended by ';'. */
enum co_result my_write(struct co_call *call, struct co_conn *conn, bool guarded, const char *sql, struct my_sets *ret_or_null);
enum co_result my_schema_there(struct co_call *call, struct co_conn *conn, bool *ret);

/* ---- follow.c ---- */
/* The status row of the replication that we look after. */
struct my_follow {
    bool present;
    bool io_yes, sql_yes, io_no, sql_no;
    char *channel; /* connection or channel name, "" the default */
    char *host, *user;
    unsigned port;
    uint64_t source_id;
    char *source_uuid;
    bool gtid;                     /* follows by GTID or auto-position */
    char *exec_file, *exec_offset; /* up to where of the source's log it has applied */
    bool tls;
    int64_t delay_s;
    unsigned io_errno, sql_errno;
    char *io_error, *sql_error, *io_state, *progress, *filters;
    uint64_t heartbeats;
    int64_t seconds_behind;
    unsigned others; /* replications besides this one */
    double heartbeat_s;
    char *ssl_ca;
};
#define MY_FOLLOW_AUTO __attribute__((cleanup(my_follow_done))) struct my_follow
void my_follow_done(struct my_follow *f);
enum co_result my_follow_read(struct co_call *call, struct co_conn *conn, struct my_follow *ret);
/* Where the server of that side reaches the other one, as the config has it. */
const char *my_source_place(struct co_call *call, enum co_side side, unsigned *ret_port);
/* Is it the other side that is followed? Told by its server id where it can be asked, since it may go by several addresses. */
enum co_result my_follow_right(struct co_call *call, const struct my_follow *f, bool *ret);
enum co_result my_position(struct co_call *call, struct co_text *ret);
enum co_result my_applied(struct co_call *call, struct co_text *ret);
enum co_result my_link(struct co_call *call, struct co_link *ret);
enum co_result my_wait_applied(struct co_call *call, const char *position);
/* One wait of the server's own, of so many seconds at most. */
enum co_result my_wait_once(struct co_call *call, const char *position, double seconds, bool *ret_reached);
/* The same row, from the result set of my_word_status() in a packet. */
enum co_result my_follow_from(struct co_call *call, MYSQL_RES *res, struct my_follow *ret);

/* ---- file.c: positions of a server without GTIDs ---- */
void my_file_text(const char *uuid, const char *file, const char *offset, struct my_str *ret);
enum co_result my_file_own(struct co_call *call, struct my_str *ret);
enum co_result my_file_position(struct co_call *call, struct my_str *ret); /* as the core asks for it */
enum co_result my_file_applied(struct co_call *call, struct my_str *ret);
void my_file_applied_text(const struct my_follow *f, struct my_str *ret);
void my_file_wait_sql(const struct co_conn *conn, const char *position, double seconds, const char *channel,
                      struct my_str *sql);
/* ",SOURCE_LOG_FILE=...,SOURCE_LOG_POS=..." */
enum co_result my_file_start_sql(struct co_call *call, struct co_conn *conn, struct my_str *sql);
void my_file_keep_sql(struct co_call *call, const char *kind, const char *position, struct my_str *sql);
enum co_result my_file_after_dump(struct co_call *call, struct my_str *sql);
enum co_result my_file_after_clone(struct co_call *call, struct my_str *sql);
enum co_result my_file_after_copied(struct co_call *call, const char *given, struct my_str *sql);
enum co_result my_file_promote(struct co_call *call, const struct my_follow *before);
enum co_result my_file_proof(struct co_call *call, const struct my_follow *f, const char *position);

/* ---- closed.c: who may log in, what runs by itself, read_only: what fence and closure share ---- */
struct my_closed {    /* what one look saw */
    int64_t unlocked; /* accounts that can log in, but the tool's and replication's */
    int64_t events;   /* events that would run */
    bool read_only, super_read_only, scheduler;
    int64_t sessions; /* foreign ones */
    int64_t appliers; /* replication threads that write here */
    char *names;      /* of the first few accounts, events, sessions in the way */
};
#define MY_CLOSED_AUTO __attribute__((cleanup(my_closed_done))) struct my_closed
void my_closed_done(struct my_closed *closed);
enum co_result my_closed_look(struct co_call *call, struct my_closed *ret);
/* The same, and then, in the same packet, `more`: statements without a last ';', whose results are in ret_more. */
enum co_result my_closed_look_and(struct co_call *call, const char *more, struct my_closed *ret, struct my_sets *ret_more);
bool my_closed_holds(const struct co_call *call, const struct my_closed *closed); /* accounts, events, sessions, read_only */
enum co_result my_exempt(struct co_call *call, struct my_str *sql);               /* SQL list of the user names that stay */

/* Which accounts are meant: all that could log in, or those that could write past read_only as it stands after setup. */
enum my_scope { MY_SCOPE_ALL, MY_SCOPE_BYPASS };
enum co_result my_accounts_probe(struct co_call *call, enum co_presence *ret);
enum co_result my_accounts_lock(struct co_call *call);
enum co_result my_accounts_lock_scope(struct co_call *call, enum my_scope scope);
enum co_result my_originals_keep(struct co_call *call);
enum co_result my_originals_kept(struct co_call *call, enum co_presence *ret);
enum co_result my_originals_forget(struct co_call *call);
/* User and host of every account of that scope, locked or not. */
enum co_result my_accounts_of(struct co_call *call, enum my_scope scope, struct my_sets *ret);
enum co_result my_accounts_unlock(struct co_call *call);
enum co_result my_accounts_unlock_sql(struct co_call *call, struct my_str *sql, const char *run);
/* What opening this side unlocks: read beforehand where that was possible (my_unlock_foresee()), else now. */
enum co_result my_unlock_foresee(struct co_call *call);
enum co_result my_unlock_foreseen_sql(struct co_call *call, struct my_str *sql);
/* " FROM ... u WHERE ..." of all that are unlocked and aren't to stay so. */
enum co_result my_accounts_unlocked_from(struct co_call *call, struct my_str *sql);
/* Are they locked? `ret_names` (may be NULL): of those that aren't, the first few. */
enum co_result my_accounts_locked(struct co_call *call, enum my_scope scope, bool *ret, struct my_str *ret_names);
/* Statements that unlock what setup locked and isn't of MY_SCOPE_BYPASS. */
enum co_result my_accounts_unlock_readers_sql(struct co_call *call, struct my_str *sql);
const char *my_run_id(const struct co_call *call);
enum co_result my_events_probe(struct co_call *call, enum co_presence *ret);
enum co_result my_events_disable(struct co_call *call);
enum co_result my_events_restore(struct co_call *call);
enum co_result my_read_only_probe(struct co_call *call, enum co_presence *ret);
enum co_result my_read_only_held(struct co_call *call, enum co_presence *ret);
enum co_result my_read_only_hold(struct co_call *call);
enum co_result my_read_only_set(struct co_call *call);
enum co_result my_read_only_restore(struct co_call *call);

/* ---- sessions.c ---- */
/* WHERE condition over information_schema.processlist p: neither ours nor the server's own nor replication's.
 * The packet has to set @co_own first: my_own_sql(). */
enum co_result my_foreign_where(struct co_call *call, struct my_str *sql);
void my_own_sql(struct co_call *call, struct my_str *sql);
/* SHOW PROCESSLIST instead, where it is the cheaper one (MariaDB, within a run, after the accounts were seen locked): two
 * statements, whose results begin with set `at`. False: somebody is there, or it can't be told; information_schema says. */
bool my_shows(const struct co_call *call);
void my_shown_sql(struct co_call *call, struct my_str *sql);
bool my_shown_none(struct co_call *call, const struct my_sets *sets, unsigned at, int64_t *ret_appliers);
uint64_t my_shown_last_id(MYSQL_RES *res);
enum co_result my_take_slot(struct co_call *call, struct co_conn *conn);
enum co_result my_sessions_probe(struct co_call *call, enum co_presence *ret);
enum co_result my_sessions_end_idle(struct co_call *call);
enum co_result my_sessions_end_all(struct co_call *call);
/* Those of the users that have an account of that scope, by name. */
enum co_result my_sessions_end_of(struct co_call *call, enum my_scope scope);
enum co_result my_sessions_probe_of(struct co_call *call, enum my_scope scope, enum co_presence *ret);
/* Ends what is running there, but for what only waits for a lock; *ret_ended: how many. */
enum co_result my_sessions_end_running(struct co_call *call, unsigned *ret_ended);
enum co_result my_drain(struct co_call *call, bool end, struct co_text *remaining);
enum co_result my_end_sessions(struct co_call *call, const char *keep_actor);

/* ---- level.c ---- */
bool my_level_wanted(struct co_call *call);
enum co_result my_level_describe(struct co_call *call, struct co_text *ret);
enum co_result my_level_probe(struct co_call *call, enum co_presence *ret);
enum co_result my_level_apply(struct co_call *call);

/* ---- proof.c ---- */
enum co_result my_prepare(struct co_call *call);
enum co_result my_capture(struct co_call *call, struct co_text *ret);
enum co_result my_proof(struct co_call *call, const char *position);
enum co_result my_probe_write(struct co_call *call);

/* ---- steps.c, setup.c, reverse.c ---- */
extern const struct co_step my_steps[];
extern const size_t my_step_count;
enum co_result my_follow_sql(struct co_call *call, struct co_conn *conn, struct my_str *sql, bool masked);

/* ---- check.c ---- */
enum co_result my_check(struct co_call *call, enum co_check_stage stage);
enum co_result my_digest(struct co_call *call, const char *range, struct co_text *ret);

#endif
