/* sessions.c - who is on the server: those who could write, and our own.
 *
 * Invariant: pg_locks is read before pg_stat_activity. A backend in start-up holds a virtual transaction id from
 * before it looks whether its database accepts connections until after it has entered pg_stat_activity; so whoever
 * got past that look before the fence is in one of the two, in this order of reading.
 *
 * Clients that try to come in after the fence are in start-up too, for a moment, until they are refused. So those that
 * the first look after the fence (or after the closed pg_hba.conf was loaded) finds in start-up are remembered, and only
 * they are waited for; whoever starts later can only be refused. */
#include "pg.h"

#include <stdio.h>

/* Processes of the server itself that can't write on behalf of anybody. Physical WAL senders have no database and
 * can't run SQL; logical ones can, and count as clients. */
#define HARMLESS                                                                                                               \
    "(a.datid IS NULL AND a.backend_type IN ('walsender', 'autovacuum launcher', 'checkpointer', 'background writer', "        \
    "'walwriter', "                                                                                                            \
    "'archiver', 'startup', 'walreceiver', 'logger', 'logical replication launcher', 'walsummarizer', 'io worker', 'slotsync " \
    "worker', "                                                                                                                \
    "'stats collector'))"

/* Our own: the run's processes. A name alone is no proof, an application may call itself anything; but only the
 * accounts that the tool uses are let through by name. */
static void own_sessions(struct pg_text *sql, struct co_call *call, const struct co_conn *conn)
{
    /* "changeover" alone is a look from outside the run: `status`, `lag --watch`, a dashboard. */
    pg_text_add(sql, "(a.usename = ");
    pg_text_literal(sql, conn->user ? conn->user : "");
    pg_text_add(sql, " AND a.datname = '" PG_DATABASE "' AND (a.application_name = 'changeover'");
    if (call->run)
        pg_text_addf(sql, " OR pg_catalog.starts_with(a.application_name, 'changeover:%.40s:')", call->run->id);
    pg_text_add(sql, "))");
}

void pg_foreign_sessions_sql(struct pg_text *sql, struct co_call *call, const struct co_conn *conn)
{
    /* The count is an argument of the second function, so no plan can call that one first. */
    pg_text_add(sql, "(WITH l AS MATERIALIZED (SELECT pid FROM pg_catalog.pg_locks WHERE locktype = 'virtualxid' AND granted "
                     "AND pid IS NOT NULL), "
                     "n AS MATERIALIZED (SELECT count(*) AS c FROM l), "
                     "a AS MATERIALIZED (SELECT s.*, d.datname, pg_catalog.pg_get_userbyid(s.usesysid)::text AS usename FROM n "
                     "CROSS JOIN LATERAL "
                     "pg_catalog.pg_stat_get_activity(CASE WHEN n.c < 0 THEN 0 END) s LEFT JOIN pg_catalog.pg_database d ON "
                     "d.oid = s.datid) "
                     "SELECT a.pid, CASE WHEN a.state = 'starting' THEN 'starting up' ELSE a.backend_type END AS kind, "
                     "a.usename, a.datname::text, a.application_name, a.state, a.xact_start, a.backend_xid "
                     "FROM a WHERE a.pid <> pg_catalog.pg_backend_pid() AND NOT " HARMLESS " AND NOT coalesce(");
    own_sessions(sql, call, conn);
    pg_text_add(sql, ", false) UNION ALL SELECT l.pid, 'starting up', NULL, NULL, NULL, NULL, NULL, NULL FROM l "
                     "WHERE l.pid <> pg_catalog.pg_backend_pid() AND NOT EXISTS (SELECT 1 FROM a WHERE a.pid = l.pid))");
}

static void starting_is(struct pg_text *sql, const struct co_conn *conn, const char *unknown)
{
    if (!conn->starting)
        pg_text_add(sql, unknown);
    else
        pg_text_addf(sql, "(f.kind <> 'starting up' OR f.pid = ANY ('{%s}'::int[]))", conn->starting);
}

void pg_writers_sql(struct pg_text *sql, struct co_call *call, const struct co_conn *conn)
{
    pg_text_add(sql, "(SELECT f.* FROM ");
    pg_foreign_sessions_sql(sql, call, conn);
    pg_text_add(sql, " f WHERE ");
    starting_is(sql, conn, "true");
    pg_text_add(sql, ")");
}

/* The first look after nobody can come in any more: who is in start-up now may have got past the check. */
static enum co_result remember_starting(struct co_call *call, struct co_conn *conn)
{
    if (conn->starting)
        return CO_DONE;
    PG_TEXT foreign = {0};
    pg_foreign_sessions_sql(&foreign, call, conn);
    PG_RESULT rows = NULL;
    enum co_result result = pg_queryf(
        call, conn, PG_READ, &rows, "SELECT coalesce(string_agg(f.pid::text, ','), '') FROM %s f WHERE f.kind = 'starting up'",
        pg_text_str(&foreign));
    if (result != CO_DONE)
        return result;
    conn->starting = strdup(pg_value(rows, 0, 0));
    return conn->starting ? CO_DONE : pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
}

/* ---------------------------------------------------------------- drain */

/* In the middle of a write that began before the fence: it may finish until the core asks to end it. Everything else
 * ends at once: idle sessions, readers, and what began to write after the fence. */
#define MAY_FINISH                                                                                                             \
    "(f.kind = 'client backend' AND f.backend_xid IS NOT NULL AND f.state NOT IN ('idle', 'idle in transaction (aborted)')"

static enum co_result name_them(struct co_call *call, const PGresult *rows, struct co_text *remaining)
{
    const struct co_host *host = call->host;
    int count = PQntuples(rows);
    PG_TEXT what = {0};
    for (int i = 0; i < count && i < 8; i++)
        pg_text_addf(&what, "%s%s", i ? ", " : "", pg_value(rows, i, 0));
    if (count > 8)
        pg_text_addf(&what, " and %d more", count - 8);
    if (remaining)
        host->text_set(call->ctx, remaining, pg_text_str(&what), what.used);
    struct co_progress progress = {.what = pg_text_str(&what), .done = -1, .total = count, .unit = "sessions"};
    host->progress(call->ctx, &progress);
    return CO_AGAIN;
}

enum co_result pg_drain(struct co_call *call, bool end, struct co_text *remaining)
{
    if (!call->conn) /* of a server that was seen stopped nobody is left; capture and proof look at its machine again */
        return pg_seen_stopped(call) ? CO_DONE : pg_machine_is_down(call);
    struct co_conn *conn = call->conn;
    enum co_result result = remember_starting(call, conn);
    if (result != CO_DONE)
        return result;
    PG_TEXT foreign = {0};
    pg_writers_sql(&foreign, call, conn);
    PG_TEXT spared = {0};
    if (end) {
        pg_text_add(&spared, "false");
    } else {
        pg_text_add(&spared, MAY_FINISH);
        if (conn->fence_known)
            pg_text_addf(&spared, " AND f.xact_start <= to_timestamp(%lld / 1000000.0)", (long long)conn->fence_at_us);
        pg_text_add(&spared, ")");
    }
    PG_RESULT rows = NULL;
    /* Ending is asked for in the same look; who was asked is still named until a later look no longer finds it. */
    result = pg_queryf(
        call, conn, PG_READ, &rows,
        "SELECT CASE WHEN f.pid IS NULL THEN f.kind || ' ' || f.application_name ELSE f.kind || ' ' || f.pid || "
        "coalesce(' of ' || f.usename, '') || coalesce(' in ' || f.datname, '') || coalesce(' (' || f.state || coalesce(', ' "
        "|| "
        "(extract(epoch FROM pg_catalog.clock_timestamp() - f.xact_start) * 1000)::bigint || ' ms', '') || ')', '') END, "
        "CASE WHEN f.pid IS NULL OR %s THEN false ELSE pg_catalog.pg_terminate_backend(f.pid) END, f.kind "
        "FROM (SELECT * FROM %s s UNION ALL SELECT NULL, 'prepared transaction', owner::text, database::text, gid, NULL, NULL, "
        "NULL "
        "FROM pg_catalog.pg_prepared_xacts WHERE %s UNION ALL SELECT NULL, 'open database', NULL, NULL, datname::text, NULL, "
        "NULL, NULL FROM "
        "pg_catalog.pg_database WHERE datallowconn AND datconnlimit <> -2 AND datname <> '" PG_DATABASE "') f",
        pg_text_str(&spared), pg_text_str(&foreign),
        call->host->accepted(call->ctx, "prepared_transactions") ? "false" : "true");
    if (result != CO_DONE)
        return result;
    if (PQntuples(rows) == 0)
        return CO_DONE;
    /* A database that was being created when the fence fell. */
    for (int i = 0; i < PQntuples(rows); i++) {
        if (strcmp(pg_value(rows, i, 2), "open database") == 0) {
            result = pg_fence_again(call);
            if (result != CO_DONE)
                return result;
            break;
        }
    }
    return name_them(call, rows, remaining);
}

/* ---------------------------------------------------------------- our own sessions */

enum co_result pg_end_sessions(struct co_call *call, const char *keep_actor)
{
    struct co_conn *conn = call->conn;
    if (!call->run)
        return pg_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "there is no run whose sessions could be ended");
    char prefix[64], mine[64], kept[64] = "";
    snprintf(prefix, sizeof prefix, "changeover:%.40s:", call->run->id);
    pg_session_name(call->run, call->run->actor, mine);
    if (keep_actor)
        pg_session_name(call->run, keep_actor, kept);
    const char *params[] = {prefix, mine, kept};
    for (;;) {
        PG_RESULT rows = NULL;
        enum co_result result =
            pg_query(call, conn, PG_READ,
                     "SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity WHERE "
                     "pg_catalog.starts_with(application_name, $1) AND application_name NOT IN ($2, $3) AND pid <> "
                     "pg_catalog.pg_backend_pid()",
                     3, params, &rows);
        if (result != CO_DONE)
            return result;
        if (pg_number(rows, 0, 0, 1) == 0)
            return CO_DONE;
        if (call->deadline_ns - call->host->now_ns(call->ctx) < 5 * PG_MS)
            return CO_AGAIN;
        if (!pg_pause(call, conn, 1))
            return pg_fail(call, CO_NO_EFFECT, CO_E_INTERRUPTED, "", "interrupted while sessions of the run end");
    }
}

enum co_result pg_end_foreign(struct co_call *call)
{
    enum co_result first = remember_starting(call, call->conn);
    if (first != CO_DONE)
        return first;
    PG_TEXT foreign = {0};
    pg_writers_sql(&foreign, call, call->conn);
    for (;;) {
        PG_RESULT rows = NULL;
        enum co_result result =
            pg_queryf(call, call->conn, PG_READ, &rows,
                      "SELECT f.kind || ' ' || f.pid, pg_catalog.pg_terminate_backend(f.pid) FROM %s f", pg_text_str(&foreign));
        if (result != CO_DONE || PQntuples(rows) == 0)
            return result;
        if (call->deadline_ns - call->host->now_ns(call->ctx) < 20 * PG_MS)
            return name_them(call, rows, NULL);
        if (!pg_pause(call, call->conn, 2))
            return pg_fail(call, CO_NO_EFFECT, CO_E_INTERRUPTED, "", "interrupted while sessions end");
    }
}
