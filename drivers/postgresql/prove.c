/* prove.c - what makes a final position final: prepare, capture, proof.
 *
 * The proof on the source does not rest on a list of sessions alone, which shows some late. It compares what was noted
 * at the capture: the next transaction id (nobody wrote), the versions of the rows of pg_database (nobody lifted the
 * fence and put it back), the postmaster's and the checkpointer's start (the same incarnation, no crash recovery in
 * between) and the prepared transactions. The log position itself is no evidence: an idle server moves it. */
#include "pg.h"

#include <stdio.h>

/* One text of all that must not change on the source between capture and commit. */
#define EVIDENCE                                                                                                               \
    "pg_catalog.concat_ws(' ', pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()), "                                \
    "(extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint, "                                          \
    "(SELECT (extract(epoch FROM backend_start) * 1000000)::bigint FROM pg_catalog.pg_stat_get_activity(NULL) "                \
    "WHERE backend_type = 'checkpointer'), "                                                                                   \
    "(SELECT pg_catalog.md5(pg_catalog.string_agg(oid || ':' || xmin::text || ':' || datallowconn, ',' ORDER BY oid)) "        \
    "FROM pg_catalog.pg_database), "                                                                                           \
    "(SELECT count(*) || ':' || coalesce(pg_catalog.md5(pg_catalog.string_agg(gid, ',' ORDER BY gid)), '') FROM "              \
    "pg_catalog.pg_prepared_xacts))"

static const char *const evidence_names[] = {"the next transaction id", "the start time of the server",
                                             "the start time of its checkpointer (it crashed)", "the accepting of connections",
                                             "the set of prepared transactions"};

static void source_sql(struct pg_text *sql, struct co_call *call)
{
    PG_TEXT foreign = {0};
    pg_writers_sql(&foreign, call, call->conn);
    pg_text_add(sql, "SELECT (SELECT pg_catalog.string_agg(f.kind || ' ' || f.pid, ', ') FROM ");
    pg_text_add(sql, pg_text_str(&foreign));
    pg_text_add(sql, " f), " PG_FENCE_HOLDS ", " EVIDENCE);
    sql->failed |= foreign.failed;
}

static void target_sql(struct pg_text *sql, struct co_call *call)
{
    PG_TEXT foreign = {0};
    pg_writers_sql(&foreign, call, call->conn);
    pg_text_add(sql, "SELECT (SELECT pg_catalog.string_agg(f.kind || ' ' || f.pid, ', ') FROM ");
    pg_text_add(sql, pg_text_str(&foreign));
    pg_text_add(
        sql, " f), pg_catalog.pg_is_in_recovery(), "
             "pg_catalog.split_part(pg_catalog.pg_read_file(pg_catalog.current_setting('hba_file'), 0, 200, true), E'\\n', 1), "
             "(SELECT count(*) FROM pg_catalog.pg_hba_file_rules WHERE error IS NOT NULL OR NOT (database = '{replication}' OR "
             "(database = '{" PG_DATABASE "}' AND user_name = ARRAY[session_user::text]))), "
             "CASE WHEN pg_catalog.pg_is_in_recovery() THEN (SELECT greatest((SELECT received_tli FROM "
             "pg_catalog.pg_stat_wal_receiver), "
             "(SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()), (SELECT min_recovery_end_timeline FROM "
             "pg_catalog.pg_control_recovery())) || ':' || pg_catalog.pg_last_wal_replay_lsn()) ELSE "
             "(SELECT ('x' || substr(pg_catalog.pg_walfile_name(l), 1, 8))::bit(32)::int || ':' || l FROM "
             "pg_catalog.pg_current_wal_lsn() l) END, "
             "CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_read_file('pg_wal/' || "
             "substr(pg_catalog.pg_walfile_name("
             "pg_catalog.pg_current_wal_lsn()), 1, 8) || '.history', 0, 1000000, true) END");
    sql->failed |= foreign.failed;
}

/* ---------------------------------------------------------------- prepare */

/* Notes what a run will change, and runs what the write pause will run once beforehand, so that catalogs, PL/pgSQL and
 * plans are warm in this very session. */
enum co_result pg_prepare(struct co_call *call)
{
    struct co_conn *conn = call->conn;
    if (strcmp(conn->database, PG_DATABASE) != 0)
        return pg_fail(call, CO_NO_EFFECT, CO_E_STATE, "Run `changeover setup`; see the findings of `changeover check`.",
                       "the connection leads to database %s: database " PG_DATABASE
                       " is missing or pg_hba.conf doesn't let %s into it",
                       conn->database, conn->user);
    if (!conn->superuser)
        return pg_fail(call, CO_NO_EFFECT, CO_E_PRIVILEGE, "Connect as a superuser; fences over every database need one.",
                       "%s is not a superuser", conn->user);
    static const char *const names[] = {"autovacuum",       "archive_command",  "archive_library", "synchronous_standby_names",
                                        "primary_conninfo", "primary_slot_name"};
    enum co_result result = CO_DONE;
    for (size_t i = 0; result == CO_DONE && i < sizeof names / sizeof *names; i++)
        result = pg_conf_note(call, names[i]);
    if (result != CO_DONE)
        return result;
    /* Dirty buffers written now are not written when the source is stopped. On a standby this is a restartpoint, which puts
     * its timeline into the control file: nothing else tells it when the source is stopped and nobody sends any more. */
    result = pg_query(call, conn, PG_READ, "CHECKPOINT", 0, NULL, NULL);
    if (result != CO_DONE)
        return result;
    PG_TEXT sql = {0};
    if (call->role == CO_SOURCE)
        source_sql(&sql, call);
    else
        target_sql(&sql, call);
    for (int i = 0; result == CO_DONE && i < 2; i++)
        result = pg_query(call, conn, PG_READ, pg_text_str(&sql), 0, NULL, NULL);
    if (result == CO_DONE)
        result = pg_guarded(call, conn,
                            "DO $co$ DECLARE d record; n int := 0; BEGIN FOR d IN SELECT oid, datname FROM "
                            "pg_catalog.pg_database WHERE datallowconn LOOP "
                            "n := n + length(pg_catalog.format('%I', d.datname)); END LOOP; END $co$",
                            NULL);
    return result;
}

/* ---------------------------------------------------------------- capture */

enum co_result pg_capture(struct co_call *call, struct co_text *ret)
{
    if (!call->conn)
        return pg_stopped_capture(call, ret);
    PG_TEXT foreign = {0};
    pg_writers_sql(&foreign, call, call->conn);
    PG_TEXT sql = {0};
    /* The message is a commit of our own: it flushes everything that asynchronous commits left behind, and its own
     * position, taken after everybody is gone, lies behind every client's. */
    pg_text_add(&sql, "BEGIN; DO $co$ DECLARE w text; BEGIN IF NOT " PG_FENCE_HOLDS
                      " THEN RAISE EXCEPTION USING ERRCODE = '" PG_STATE_REFUSE
                      "', MESSAGE = 'the fence does not hold: a database accepts connections'; END IF; "
                      "SELECT pg_catalog.string_agg(f.kind || ' ' || f.pid, ', ') INTO w FROM ");
    pg_text_add(&sql, pg_text_str(&foreign));
    pg_text_add(&sql, " f; IF w IS NOT NULL THEN RAISE EXCEPTION USING ERRCODE = '" PG_STATE_REFUSE
                      "', MESSAGE = 'sessions are still there: ' || w; END IF; END $co$; "
                      "SELECT pg_catalog.set_config('changeover.captured', (pg_catalog.pg_logical_emit_message(true, "
                      "'changeover', 'capture'))::text, false); COMMIT; "
                      "SELECT ('x' || substr(pg_catalog.pg_walfile_name(c::pg_lsn), 1, 8))::bit(32)::int || ':' || c, "
                      "pg_catalog.pg_current_wal_flush_lsn() >= c::pg_lsn, " EVIDENCE
                      " FROM pg_catalog.current_setting('changeover.captured') c");
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, call->conn, PG_READ, pg_text_str(&sql), 0, NULL, &rows);
    if (result != CO_DONE) {
        if (!call->conn->broken && PQtransactionStatus(call->conn->pg) != PQTRANS_IDLE) {
            struct co_error kept = *call->err;
            pg_query(call, call->conn, PG_READ, "ROLLBACK", 0, NULL, NULL);
            *call->err = kept;
        }
        return CO_NO_EFFECT;
    }
    if (!pg_is_true(rows, 0, 1))
        return pg_fail(call, CO_NO_EFFECT, CO_E_STATE, "", "the server did not flush its log up to the final position");
    if (call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, "evidence", pg_value(rows, 0, 2)) < 0)
        return pg_fail(call, CO_NO_EFFECT, CO_E_IO, "", "what was captured could not be noted");
    call->host->text_set(call->ctx, ret, pg_value(rows, 0, 0), strlen(pg_value(rows, 0, 0)));
    return CO_DONE;
}

/* ---------------------------------------------------------------- proof */

/* Which word of the evidence differs. */
static enum co_result differs(struct co_call *call, const char *then, const char *now)
{
    size_t word = 0;
    for (; *then && *then == *now; then++, now++)
        if (*then == ' ')
            word++;
    if (word >= sizeof evidence_names / sizeof *evidence_names)
        word = 0;
    return pg_fail(
        call, CO_NO_EFFECT, word == 1 || word == 2 ? CO_E_MISMATCH : CO_E_DATA,
        "Look in the server's log who was there; the run goes back.",
        "%s changed since the final position was taken: something wrote, or the fence was lifted (%.40s, then %.40s)",
        evidence_names[word], then, now);
}

static enum co_result proof_source(struct co_call *call)
{
    PG_TEXT sql = {0};
    source_sql(&sql, call);
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, call->conn, PG_READ, pg_text_str(&sql), 0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    if (!PQgetisnull(rows, 0, 0))
        return pg_fail(call, CO_NO_EFFECT, CO_E_DATA, "Find out how it got past the fence.",
                       "a session is on the source after the final position: %.300s", pg_value(rows, 0, 0));
    if (!pg_is_true(rows, 0, 1))
        return pg_fail(call, CO_NO_EFFECT, CO_E_DATA, "Somebody lifted the fence.",
                       "a database of the source accepts connections again");
    const char *noted = call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "evidence");
    if (!noted)
        return pg_fail(call, CO_NO_EFFECT, CO_E_STATE, "", "nothing was noted when the final position was taken");
    return strcmp(noted, pg_value(rows, 0, 2)) == 0 ? CO_DONE : differs(call, noted, pg_value(rows, 0, 2));
}

static enum co_result proof_target(struct co_call *call, const char *position)
{
    PG_TEXT sql = {0};
    target_sql(&sql, call);
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, call->conn, PG_READ, pg_text_str(&sql), 0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    if (!PQgetisnull(rows, 0, 0))
        return pg_fail(call, CO_NO_EFFECT, CO_E_DATA, "Find out how it got in.", "a session is on the closed target: %.300s",
                       pg_value(rows, 0, 0));
    PG_TEXT head = {0};
    pg_text_addf(&head, "%s%s ", PG_CLOSED_HEAD, pg_run_id(call));
    if (!pg_starts(pg_value(rows, 0, 2), pg_text_str(&head)) || pg_number(rows, 0, 3, 1) > 0)
        return pg_fail(call, CO_NO_EFFECT, CO_E_DATA,
                       "Somebody or something (configuration management?) wrote pg_hba.conf on the target during the run.",
                       "the target is no longer closed: its pg_hba.conf is not the one of this run");
    struct pg_position want, have, fork;
    const char *now = pg_value(rows, 0, 4);
    if (!pg_position_parse(position, &want) || !pg_position_parse(now, &have))
        return pg_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "positions can't be compared: %s and %s", position, now);
    if (pg_is_true(rows, 0, 1)) {
        if (have.timeline != want.timeline || have.lsn < want.lsn)
            return pg_fail(call, CO_NO_EFFECT, CO_E_DATA, "", "the target has applied %s, which does not contain %s", now,
                           position);
        return CO_DONE;
    }
    if (!pg_fork_point(pg_value(rows, 0, 5), &fork) || fork.timeline != want.timeline || fork.lsn < want.lsn)
        return pg_fail(call, CO_NO_EFFECT, CO_E_DATA, "The target was promoted before it had everything.",
                       "the target's timeline %u did not leave timeline %u behind %s", have.timeline, want.timeline, position);
    return CO_DONE;
}

enum co_result pg_proof(struct co_call *call, const char *position)
{
    if (call->role == CO_TARGET)
        return proof_target(call, position);
    return call->conn ? proof_source(call) : pg_stopped_proof(call, position);
}
