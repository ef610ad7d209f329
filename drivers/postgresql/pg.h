/* pg.h - what the files of the PostgreSQL driver share.
 *
 * The driver works on physical replication, servers 13 to 18. What it leaves on a server, and nothing else:
 *   database `changeover`         the only one that accepts connections while a run holds a fence; its table
 *                                 changeover.fence names the databases that the fence shut, so that whoever lifts
 *                                 it (also on the other server, which has the table by replication) knows them
 *   <data>/changeover.marker      the marker: token in the first line, then the info. A file, because a table
 *                                 would be carried to the follower by replication
 *   <hba_file>.changeover-<run>   the original pg_hba.conf of a closed server
 *   <data>/changeover.pass        the replication password for primary_conninfo (0600)
 *   slots changeover_a, changeover_b; schema changeover with the table probe in the URL's database
 */
#ifndef CO_PG_H
#define CO_PG_H

#include <libpq-fe.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "changeover/driver.h"
#include "machine_state.h"
#include "pg_position.h"
#include "pg_text.h"

#define PG_DATABASE "changeover"
#define PG_MARKER_FILE "changeover.marker"
#define PG_PASS_FILE "changeover.pass"
#define PG_MS 1000000LL
/* The advisory lock that orders everything which reads the marker in order to act, and what sets it. */
#define PG_MARKER_LOCK "7163394, 1"
/* SQLSTATEs of our own, raised by our statements. */
#define PG_STATE_TOKEN "CO001"  /* the marker doesn't hold our token */
#define PG_STATE_REFUSE "CO002" /* the server isn't in the state that the statement needs */

void pg_clear_result(PGresult **result);
#define PG_RESULT __attribute__((cleanup(pg_clear_result))) PGresult *

/* ---------------------------------------------------------------- connections (wire.c, connect.c) */

struct co_conn {
    PGconn *pg;
    int version;          /* server_version_num */
    int pid;              /* of our backend, as the server says */
    char *database;       /* the one we are connected to */
    char *user;           /* as the server knows us */
    char *address;        /* the IP address in use, NULL for a socket */
    char *lineage;        /* system identifier */
    char *data_directory; /* NULL when we may not know */
    bool superuser;
    bool broken;         /* an error or a missed deadline left the connection unusable */
    bool fence_known;    /* fence_at_us is set */
    int64_t fence_at_us; /* server time just after our fence was committed */
    char *starting;      /* pids that were in start-up when the first look after fence or closure was taken; NULL: none taken */
};

/* What a statement may do decides what a lost reply means. */
enum pg_kind { PG_READ, PG_CHANGE };

/* One round trip. With params: one statement through the extended protocol; without: any number of statements in
 * one implicit transaction. The last rows (or the last command's result) in *ret, which may be NULL. */
enum co_result pg_query(struct co_call *call, struct co_conn *conn, enum pg_kind kind, const char *sql, int param_count,
                        const char *const *params, PGresult **ret);
enum co_result pg_queryf(struct co_call *call, struct co_conn *conn, enum pg_kind kind, PGresult **ret, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* A statement list that changes something: with a server-side time limit that ends before the call's, and, in a
 * run, with the token checked first, in the same transaction. */
enum co_result pg_guarded(struct co_call *call, struct co_conn *conn, const char *sql, PGresult **ret);
/* What is left of the call, a little shortened, for statement_timeout. */
int64_t pg_server_limit_ms(struct co_call *call);
/* For setup, which begins without a marker: none is fine, another run's isn't. */
enum co_result pg_guarded_setup(struct co_call *call, struct co_conn *conn, const char *sql, PGresult **ret);
/* The same for statements that refuse a transaction block (ALTER SYSTEM, CREATE DATABASE): one statement a line
 * pointer, the token is checked and held by the marker's lock, taken for the session around them. */
enum co_result pg_guarded_plain(struct co_call *call, struct co_conn *conn, bool setup, const char *const *statements,
                                size_t count);
/* Waits without work on the connection, at most ms; false: interrupted. */
bool pg_pause(struct co_call *call, struct co_conn *conn, int64_t ms);

const char *pg_value(const PGresult *result, int row, int column); /* "" for NULL */
bool pg_is_true(const PGresult *result, int row, int column);
int64_t pg_number(const PGresult *result, int row, int column, int64_t otherwise);

struct pg_login {
    const char *database, *user, *password, *application_name;
    const char *passfile; /* NULL: the account's own */
    const char *address;  /* IP address to use instead of resolving, or NULL */
};
/* Opens a connection to call->side; native SQLSTATE in err->native when the server gave one. */
enum co_result pg_login(struct co_call *call, const struct pg_login *login, PGconn **ret);
enum co_result pg_connect(struct co_call *call, enum co_conn_purpose purpose, struct co_conn **ret);
/* A further connection of the tool's account to `database` of the same server. */
enum co_result pg_connect_to(struct co_call *call, const char *database, struct co_conn **ret);
void pg_disconnect(struct co_conn *conn);
bool pg_alive(struct co_conn *conn);
/* For steps that work while the server is down: whether a result says no more than that it went away meanwhile. */
static inline bool pg_gone(struct co_call *call, enum co_result result)
{
    return result != CO_DONE && !pg_alive(call->conn) && call->err->code == CO_E_UNREACHABLE;
}
const char *pg_url_database(struct co_call *call, enum co_side side);
/* The session name, cut to what the server keeps (63 bytes) in a way that keeps actors apart. */
void pg_session_name(const struct co_run *run, const char *actor, char ret[64]);

/* ---------------------------------------------------------------- errors (error.c) */

enum co_result pg_fail(struct co_call *call, enum co_result result, int code, const char *hint, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* From a failed result of the server. */
void pg_server_error(struct co_call *call, const PGresult *result);
int pg_code_of_state(const char *sqlstate);
bool pg_state_is(const struct co_error *err, const char *sqlstate);
/* Server text without its line breaks, at most `max` bytes. */
void pg_one_line(char *ret, size_t size, const char *text);

/* ---------------------------------------------------------------- primitives */

enum co_result pg_identify(struct co_call *call, struct co_identity *ret); /* look.c */
enum co_result pg_capabilities(struct co_call *call, struct co_capabilities *ret);
enum co_result pg_settings(struct co_call *call);
enum co_result pg_discover(struct co_call *call);
enum co_result pg_position(struct co_call *call, struct co_text *ret); /* follow.c */
enum co_result pg_applied(struct co_call *call, struct co_text *ret);
enum co_result pg_link(struct co_call *call, struct co_link *ret);
enum co_result pg_wait_applied(struct co_call *call, const char *position);
enum co_result pg_marker_get(struct co_call *call, struct co_text *ret_token, struct co_text *ret_info); /* marker.c */
enum co_result pg_marker_set(struct co_call *call, const char *expected, const char *token, const char *info);
enum co_result pg_end_sessions(struct co_call *call, const char *keep_actor); /* sessions.c */
enum co_result pg_drain(struct co_call *call, bool end, struct co_text *remaining);
enum co_result pg_prepare(struct co_call *call); /* prove.c */
enum co_result pg_capture(struct co_call *call, struct co_text *ret);
enum co_result pg_proof(struct co_call *call, const char *position);
enum co_result pg_probe_write(struct co_call *call);                      /* probe.c */
enum co_result pg_check(struct co_call *call, enum co_check_stage stage); /* check.c */
enum co_result pg_grants(struct co_call *call, struct co_text *ret);      /* grants.c */

/* ---------------------------------------------------------------- shared parts */

/* Rows (pid, kind, who) of everything on the server that could write and isn't of this run: a FROM item without
 * its alias. Looks at pg_locks before pg_stat_activity: a client in start-up is only in the first (it holds a
 * virtual transaction id), later only in the second. */
void pg_foreign_sessions_sql(struct pg_text *sql, struct co_call *call, const struct co_conn *conn);
/* The same without those in start-up that can only be refused (see sessions.c); with them while that isn't known. */
void pg_writers_sql(struct pg_text *sql, struct co_call *call, const struct co_conn *conn);
/* Ends everything foreign and sees it gone; CO_AGAIN while something is left. sessions.c */
enum co_result pg_end_foreign(struct co_call *call);
/* Sees to it that no promotion that was asked for can still happen. promote.c */
enum co_result pg_cancel_promotion(struct co_call *call);
/* `if` condition in PL/pgSQL or SQL: the fence is complete. */
#define PG_FENCE_HOLDS                                                                                                         \
    "(EXISTS (SELECT 1 FROM changeover.fence) AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_database WHERE datallowconn AND "    \
    "datconnlimit <> -2 AND datname <> '" PG_DATABASE "'))"

bool pg_mode_stop(struct co_call *call);
const char *pg_other_slot(enum co_side follower); /* "changeover_b": on the primary, for that follower */
static inline enum co_side pg_other_side(enum co_side side)
{
    return side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A;
}
/* The number of a run in "<id>:<epoch>" without the epoch is run->id; outside a run "". */
const char *pg_run_id(struct co_call *call);

enum co_result pg_fence_again(struct co_call *call); /* fence.c: shuts databases that appeared meanwhile */
/* PL/pgSQL statements that accept connections again for what the fence shut. */
extern const char pg_fence_lift_sql[];

/* ALTER SYSTEM settings that a run changes: the original (as postgresql.auto.conf has it) goes into a note. conf.c */
enum co_result pg_conf_note(struct co_call *call, const char *name);
enum co_result pg_conf_set(struct co_call *call, const char *name, const char *value, const char *name2, const char *value2);
enum co_result pg_conf_restore(struct co_call *call, const char *name, const char *name2);
/* What postgresql.auto.conf says now; NULL: nothing. The caller frees. */
enum co_result pg_conf_look(struct co_call *call, const char *name, char **ret);

/* A closed pg_hba.conf, seen. */
enum pg_closure { PG_OPEN, PG_CLOSED, PG_CLOSURE_UNKNOWN };
enum co_result pg_closure_look(struct co_call *call, struct co_conn *conn, enum pg_closure *ret, struct pg_text *ret_run);

/* The first line of a pg_hba.conf that closes a server; the run's id follows. */
#define PG_CLOSED_HEAD "# changeover: closed by run "
enum co_result pg_can_rewind(struct co_call *call, struct co_conn *conn, bool *ret);
bool pg_machine_ready(struct co_call *call, enum co_side side);

/* machine.c: scripts on a side's machine. In a script: $d the data directory, guard (the token rule), tool NAME ...
 * (a program of the server), up, state. With ret_status a failing script is CO_DONE, but for status 75: a conflict. */
enum co_result pg_machine(struct co_call *call, enum co_side side, const char *script, const char *const *args,
                          size_t arg_count, const char *input, const char **ret_out, int *ret_status);
extern const char pg_machine_prologue[]; /* what every script begins with */
enum co_result pg_machine_option(struct co_call *call, enum co_side side, const char *option);
enum co_result pg_machine_look(struct co_call *call, enum co_side side, struct pg_machine_state *ret);
/* Stops a server that has standby.signal, and looks at it as soon as it is gone. */
enum co_result pg_machine_stop(struct co_call *call, enum co_side side, struct pg_machine_state *ret);
/* stop.c: capture and proof of a source that is stopped on purpose. */
bool pg_seen_stopped(struct co_call *call);
enum co_result pg_stopped_capture(struct co_call *call, struct co_text *ret);
enum co_result pg_stopped_proof(struct co_call *call, const char *position);
/* reverse.c: makes call->side follow the other side, rewinding it when needed. CO_E_UNSUPPORTED: only a new copy can. */
enum co_result pg_follow_again(struct co_call *call);
/* The connection string with which `side` follows (or copies) the other side; its password is in a passfile there. */
enum co_result pg_conninfo(struct co_call *call, enum co_side side, bool replication, const char *passfile,
                           struct pg_text *ret);
/* The passfile's content; "" when no password is configured. Wipe it. */
void pg_passfile(struct co_call *call, enum co_side side, bool replication, struct pg_text *ret);
/* The same with the password file of `side`, which pg_write_passfile() writes; only for a server with a marker. */
enum co_result pg_follower_conninfo(struct co_call *call, enum co_side side, struct pg_text *ret);
enum co_result pg_write_passfile(struct co_call *call, enum co_side side);
enum co_result pg_write_follower_conf(struct co_call *call, enum co_side side, bool signal);
enum co_result pg_make_slot(struct co_call *call, bool setup);
enum co_result pg_machine_is_down(struct co_call *call);
enum co_result pg_machine_marker_get(struct co_call *call, struct co_text *ret_token, struct co_text *ret_info);
enum co_result pg_machine_marker_set(struct co_call *call, const char *expected, const char *token, const char *info);

/* The steps, one or more a file; entry.c puts them in order. */
extern const struct co_step pg_step_autovacuum, pg_step_fence;                                  /* fence.c */
extern const struct co_step pg_step_archive, pg_step_close, pg_step_open, pg_step_open_archive; /* closure.c */
extern const struct co_step pg_step_promote;                                                    /* promote.c */
extern const struct co_step pg_step_standby_conf, pg_step_standby_signal, pg_step_stop;         /* stop.c */
extern const struct co_step pg_step_reverse_slot, pg_step_follow, pg_step_follower_settings;    /* reverse.c */
extern const struct co_step pg_step_undo_sync;                                                  /* undo.c */
extern const struct co_step pg_step_setup_database, pg_step_setup_replication, pg_step_setup_probe,
    pg_step_setup_slot;                                                                   /* setup.c */
extern const struct co_step pg_step_setup_copy, pg_step_setup_place, pg_step_setup_start; /* setup_copy.c */
extern const struct co_step pg_step_detach_follower, pg_step_detach_primary;              /* detach.c */

#endif
