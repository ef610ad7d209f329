/* proof.c - originals, the final position, the evidence that nothing was written since, and a real write.
 *
 * Invariant: a position is captured only after the same call has seen that every account but ours is locked, no event is
 * enabled, nobody is connected, read_only is on, no other server is applied here and no XA transaction is prepared. From then
 * on only the tool could write, and it writes with sql_log_bin=0: so the GTID position can't move, and if it has, somebody
 * wrote.
 */
#include "my.h"

#include <stdio.h>
#include <stdlib.h>

static enum co_result note(struct co_call *call, const char *key, const char *value)
{
    if (call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, key, value) == 0)
        return CO_DONE;
    return my_fail(call, CO_NO_EFFECT, CO_E_IO, "The note may be too long: 64 KiB is the limit.", "can't keep the note %s",
                   key);
}

static const char *noted(struct co_call *call, enum co_side side, const char *key)
{
    return call->host->note_get(call->ctx, CO_NOTE_RUN, side, key);
}

static enum co_result note_list(struct co_call *call, const char *key, MYSQL_RES *rows)
{
    MY_STR_AUTO list = {0};
    unsigned columns = mysql_num_fields(rows);
    for (MYSQL_ROW row; (row = mysql_fetch_row(rows));) {
        for (unsigned i = 0; i < columns; i++)
            my_str_addf(&list, "%s%s", i ? " " : "", row[i] ? row[i] : "");
        my_str_add(&list, "\n");
    }
    if (list.overflow)
        return my_out_of_memory(call);
    return note(call, key, my_cstr(&list));
}

static enum co_result note_persisted(struct co_call *call)
{
    if (!my_has_persist(call->conn))
        return CO_DONE;
    MY_SETS_AUTO sets = {0};
    enum co_result r =
        my_read(call, call->conn,
                "SELECT VARIABLE_VALUE FROM performance_schema.persisted_variables WHERE VARIABLE_NAME='read_only';"
                "SELECT VARIABLE_VALUE FROM performance_schema.persisted_variables WHERE VARIABLE_NAME='super_read_only'",
                &sets);
    if (r == CO_DONE)
        r = note(call, "persisted_read_only", my_value(&sets, 0, 0) ? my_value(&sets, 0, 0) : "");
    if (r == CO_DONE)
        r = note(call, "persisted_super_read_only", my_value(&sets, 1, 0) ? my_value(&sets, 1, 0) : "");
    return r;
}

/* What a follower follows, for an undo that makes it follow again. */
static enum co_result note_follow(struct co_call *call)
{
    MY_FOLLOW_AUTO f = {0};
    MY_STR_AUTO text = {0};
    enum co_result r = my_follow_read(call, call->conn, &f);
    if (r != CO_DONE || !f.present)
        return r;
    my_str_addf(&text, "%s:%u", f.host, f.port);
    r = note(call, "followed", my_cstr(&text));
    if (r == CO_DONE && *f.channel)
        r = note(call, "channel", f.channel);
    return r;
}

static enum co_result note_originals(struct co_call *call)
{
    MY_SETS_AUTO sets = {0};
    MY_STR_AUTO sql = {0};
    my_str_addf(&sql, "SELECT @@GLOBAL.read_only,%s,@@GLOBAL.event_scheduler;",
                my_is_mysql(call->conn) ? "@@GLOBAL.super_read_only" : "0");
    my_str_add(&sql, "SELECT HEX(EVENT_SCHEMA),HEX(EVENT_NAME),HEX(CONCAT(SQL_MODE,'\\n',DEFINER)) FROM "
                     "information_schema.EVENTS WHERE STATUS='ENABLED';");
    enum co_result r = my_read(call, call->conn, my_cstr(&sql), &sets);
    if (r == CO_DONE)
        r = note(call, "read_only", my_truth(my_value(&sets, 0, 0)) ? "1" : "0");
    if (r == CO_DONE)
        r = note(call, "super_read_only", my_truth(my_value(&sets, 0, 1)) ? "1" : "0");
    if (r == CO_DONE)
        r = note(call, "event_scheduler", my_truth(my_value(&sets, 0, 2)) ? "1" : "0");
    if (r == CO_DONE)
        r = note_list(call, "events", sets.set[1]);
    if (r == CO_DONE)
        r = note_persisted(call);
    if (r == CO_DONE)
        r = note_follow(call);
    return r;
}

/* Asked once a connection: the server that it is connected to can't have been started again since. */
static enum co_result read_started(struct co_call *call)
{
    if (call->conn->started)
        return CO_DONE;
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    my_str_addf(&sql, "SELECT %s", my_expr_started(call->conn));
    enum co_result r = my_read(call, call->conn, my_cstr(&sql), &sets);
    if (r != CO_DONE)
        return r;
    call->conn->started = strdup(my_value(&sets, 0, 0) ? my_value(&sets, 0, 0) : "");
    return call->conn->started ? CO_DONE : my_out_of_memory(call);
}

/* One look at what a proof compares. */
struct evidence {
    struct my_sets sets; /* owns the texts */
    struct my_str by_file;
    const char *position, *started, *file, *offset;
    int64_t prepared_xa;
};

static void evidence_done(struct evidence *e)
{
    my_sets_done(&e->sets);
    my_str_done(&e->by_file);
}

/* Closed? and then, by the same packet, the evidence: what was written before it is in the position. */
static enum co_result evidence_read(struct co_call *call, struct my_closed *closed, struct evidence *e)
{
    MY_STR_AUTO sql = {0};
    my_str_addf(&sql, "SELECT %s;%s;XA RECOVER", my_expr_position(call->conn), my_word_log_status(call->conn));
    enum co_result r = my_closed_look_and(call, my_cstr(&sql), closed, &e->sets);
    if (r == CO_DONE)
        r = read_started(call);
    if (r != CO_DONE)
        return r;
    e->position = my_value(&e->sets, 0, 0);
    e->started = call->conn->started;
    e->file = my_value(&e->sets, 1, 0);
    e->offset = my_value(&e->sets, 1, 1);
    if (call->conn->by_file) {
        my_file_text(call->conn->uuid, e->file, e->offset, &e->by_file);
        e->position = e->file ? my_cstr(&e->by_file) : NULL;
    }
    e->prepared_xa = e->sets.count > 2 ? (int64_t)mysql_num_rows(e->sets.set[2]) : -1;
    return CO_DONE;
}

enum co_result my_prepare(struct co_call *call)
{
    if (!call->conn->unlogged)
        return my_exec(call, call->conn, "", NULL); /* says what is missing */
    /* the first connection of a run notes; later ones may see what the run itself has done */
    if (!noted(call, call->side, "prepared")) {
        enum co_result r = note_originals(call);
        if (r == CO_DONE)
            r = note(call, "prepared", "1");
        if (r != CO_DONE)
            return r;
    }
    MY_CLOSED_AUTO closed = {0};
    __attribute__((cleanup(evidence_done))) struct evidence e = {0};
    enum co_result r = evidence_read(call, &closed, &e); /* warms the server's caches; fails now for lack of rights */
    enum co_presence sessions;
    return r == CO_DONE ? my_sessions_probe(call, &sessions) : r;
}

static enum co_result not_closed(struct co_call *call, const struct my_closed *closed, const char *what)
{
    return my_fail(call, CO_NO_EFFECT, CO_E_STATE,
                   "Somebody or something is still able to write there; see SHOW PROCESSLIST and mysql.user.", "%s: %s", what,
                   closed->names && *closed->names ? closed->names : "a replication applies here");
}

enum co_result my_capture(struct co_call *call, struct co_text *ret)
{
    MY_CLOSED_AUTO closed = {0};
    __attribute__((cleanup(evidence_done))) struct evidence e = {0};
    enum co_result r = evidence_read(call, &closed, &e);
    if (r != CO_DONE)
        return r;
    if (!my_closed_holds(call, &closed) || closed.appliers != 0)
        return not_closed(call, &closed, "the fence doesn't hold");
    if (e.prepared_xa != 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_STATE, "Commit or roll them back: XA RECOVER lists them.",
                       "%lld XA transactions are prepared: they could be committed later", (long long)e.prepared_xa);
    if (!e.position || !*e.position)
        return my_fail(call, CO_NO_EFFECT, CO_E_STATE, "The binary log must be on and in use (log_bin, gtid_mode).",
                       "the source's GTID position is empty: a follower would seem to have reached it");
    r = note(call, "capture_started", e.started ? e.started : "");
    if (r == CO_DONE)
        r = note(call, "capture_file", e.file ? e.file : "");
    if (r == CO_DONE)
        r = note(call, "capture_offset", e.offset ? e.offset : "");
    if (r == CO_DONE)
        call->host->text_set(call->ctx, ret, e.position, strlen(e.position));
    return r;
}

static enum co_result proof_source(struct co_call *call, const char *position)
{
    __attribute__((cleanup(evidence_done))) struct evidence e = {0};
    MY_CLOSED_AUTO closed = {0};
    enum co_result r = evidence_read(call, &closed, &e);
    if (r != CO_DONE)
        return r;
    const char *started = noted(call, call->side, "capture_started"), *file = noted(call, call->side, "capture_file");
    const char *offset = noted(call, call->side, "capture_offset");
    if (!started || !e.started || strcmp(started, e.started) != 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_MISMATCH,
                       "Its last transactions may be gone: compare its position with the follower's.",
                       "the source was restarted since the position was captured (started %s, then %s)",
                       e.started ? e.started : "?", started ? started : "?");
    if (my_pos_compare(e.position, position) != CO_ORDER_EQUAL)
        return my_fail(call, CO_NO_EFFECT, CO_E_DATA, "Somebody wrote past the fence: look into the binary log for who.",
                       "the source's position moved since the capture: %s, then %s", e.position ? e.position : "", position);
    if (!file || !e.file || strcmp(file, e.file) != 0 || !offset || !e.offset || strcmp(offset, e.offset) != 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_DATA, "Something was written to the binary log past the fence.",
                       "the source's binary log moved since the capture: %s:%s, then %s:%s", e.file ? e.file : "",
                       e.offset ? e.offset : "", file ? file : "", offset ? offset : "");
    return my_closed_holds(call, &closed) ? CO_DONE : not_closed(call, &closed, "the fence doesn't hold any more");
}

/* The parts of what proof_target() asks for besides whether the target is closed. */
enum { OF_FOLLOWING, OF_LINEAGE, OF_POSITION };

/* The target has exactly the source's history and nothing of its own. */
static enum co_result proof_position(struct co_call *call, const char *position, const struct my_sets *sets)
{
    const char *applied = my_value(sets, OF_POSITION, 0), *own = my_value(sets, OF_POSITION, 1);
    enum co_order order = my_pos_compare(applied ? applied : "", position);
    if (order != CO_ORDER_EQUAL && order != CO_ORDER_AHEAD)
        return my_fail(call, CO_NO_EFFECT, CO_E_DATA, "", "the target has applied %s, not %s", applied ? applied : "nothing",
                       position);
    /* its own binary log holds nothing that the source hasn't; it may hold less, when little came by replication */
    enum co_order of_own = own && *own ? my_pos_compare(position, own) : CO_ORDER_AHEAD;
    bool same = my_is_mysql(call->conn)
                    ? order == CO_ORDER_EQUAL
                    : !my_truth(my_value(sets, OF_POSITION, 2)) || of_own == CO_ORDER_EQUAL || of_own == CO_ORDER_AHEAD;
    if (!same)
        return my_fail(call, CO_NO_EFFECT, CO_E_DATA,
                       "Find the transactions that were made on the target itself, and what made them.",
                       "the target has transactions that the source hasn't: %s, not %s", own ? own : "", position);
    return CO_DONE;
}

static enum co_result proof_lineage(struct co_call *call, const char *lineage)
{
    const char *expected = call->host->note_get(call->ctx, CO_NOTE_PAIR, CO_SIDE_A, "lineage");
    if (expected && lineage && strcmp(expected, lineage) != 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_MISMATCH, "", "the target is of another lineage: %s, not %s", lineage,
                       expected);
    return CO_DONE;
}

/* One packet for all of it, in the order in which it is judged: closed, then the replication, then the positions. Each packet
 * of its own would be a turn of both machines in the write pause. */
static enum co_result proof_target(struct co_call *call, const char *position)
{
    MY_CLOSED_AUTO closed = {0};
    MY_FOLLOW_AUTO f = {0};
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    my_str_addf(&sql,
                "%s;SELECT (SELECT value FROM " MY_SCHEMA ".originals WHERE kind='lineage' AND a='' AND b='');SELECT %s,%s,%s",
                my_word_status(call->conn), my_expr_applied(call->conn), my_expr_position(call->conn),
                my_is_mysql(call->conn) ? "1" : "@@GLOBAL.log_slave_updates AND @@GLOBAL.log_bin");
    if (sql.overflow)
        return my_out_of_memory(call);
    enum co_result r = my_closed_look_and(call, my_cstr(&sql), &closed, &sets);
    if (r != CO_DONE)
        return r;
    if (!my_closed_holds(call, &closed))
        return not_closed(call, &closed, "the target isn't closed");
    r = sets.count > OF_POSITION ? my_follow_from(call, sets.set[OF_FOLLOWING], &f)
                                 : my_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "the target's answer is incomplete");
    if (r != CO_DONE)
        return r;
    if (f.present && (f.sql_errno || f.others))
        return my_fail(call, CO_NO_EFFECT, CO_E_BROKEN, "", "the target's replication isn't sound: %s",
                       f.sql_errno ? f.sql_error : "it follows a third server too");
    free(call->conn->channel); /* the promotion comes next, and needs no other look */
    call->conn->channel = f.present ? strdup(f.channel) : NULL;
    r = call->conn->by_file ? my_file_proof(call, &f, position) : proof_position(call, position, &sets);
    return r == CO_DONE ? proof_lineage(call, my_value(&sets, OF_LINEAGE, 0)) : r;
}

enum co_result my_proof(struct co_call *call, const char *position)
{
    if (my_pos_kind(position) <= MY_POS_EMPTY)
        return my_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "nothing can be proven about an empty position");
    return call->role == CO_SOURCE ? proof_source(call, position) : proof_target(call, position);
}

/* ---------------------------------------------------------------- a real write */

static enum co_result probe_insert(struct co_call *call, struct co_conn *conn, bool make)
{
    MY_SETS_AUTO limits = {0};
    enum co_result r =
        my_read(call, conn, "SET SESSION autocommit=1, lock_wait_timeout=2, innodb_lock_wait_timeout=2", &limits);
    if (r != CO_DONE)
        return r;
    if (make) {
        MY_SETS_AUTO made = {0};
        r = my_read(call, conn,
                    "CREATE DATABASE IF NOT EXISTS " MY_PROBE_SCHEMA ";CREATE TABLE IF NOT EXISTS " MY_PROBE_SCHEMA
                    ".probe (id INT NOT NULL PRIMARY KEY, what VARCHAR(64) NOT NULL, at TIMESTAMP NOT NULL) ENGINE=InnoDB",
                    &made);
        if (r != CO_DONE)
            return r;
    }
    MY_SETS_AUTO sets = {0};
    r = my_read(call, conn,
                "INSERT INTO " MY_PROBE_SCHEMA ".probe VALUES (1,UUID(),NOW()) ON DUPLICATE KEY UPDATE what=UUID(), at=NOW()",
                &sets);
    if (r == CO_DONE)
        return r;
    if (conn->dead && call->err->code != CO_E_UNREACHABLE)
        return CO_EFFECT_UNKNOWN;
    if (sets.error == 1146 || sets.error == 1049)
        return my_fail(call, CO_NO_EFFECT, CO_E_STATE, "Run `changeover setup`: it makes the table on the primary.",
                       "the probe's table " MY_PROBE_SCHEMA ".probe isn't there");
    return r;
}

/* Without a probe account, the tool's own: it gets past what keeps clients out, so that is looked at first. */
static enum co_result probe_own(struct co_call *call)
{
    MY_CLOSED_AUTO closed = {0};
    enum co_result r = my_closed_look(call, &closed);
    if (r != CO_DONE)
        return r;
    if (closed.read_only || closed.unlocked == 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_REFUSED, "", "clients are refused: %s",
                       closed.read_only ? "read_only is on" : "every account is locked");
    const struct co_endpoint_config *ep = call->host->endpoint(call->ctx, call->side);
    struct co_conn *conn = NULL;
    r = my_login(call, ep->user, call->host->secret(call->ctx, call->side, CO_SECRET_PASSWORD), &conn);
    if (r != CO_DONE)
        return r;
    r = probe_insert(call, conn, true);
    my_disconnect(conn);
    return r;
}

enum co_result my_probe_write(struct co_call *call)
{
    const char *user = call->host->secret_user(call->ctx, CO_SECRET_PROBE);
    if (!user)
        return probe_own(call);
    struct co_conn *conn = NULL;
    enum co_result r = my_login(call, user, call->host->secret(call->ctx, call->side, CO_SECRET_PROBE), &conn);
    if (r != CO_DONE)
        return r;
    r = probe_insert(call, conn, false);
    my_disconnect(conn);
    return r;
}
