/* follow.c - how far each side is, and whether the follower follows.
 *
 * Invariants: distance is always measured against the primary's own position over a second connection; a standby's
 * word about itself (receive = replay) is never taken for "caught up". Whatever can't be seen is unknown. */
#include "pg.h"

#include <stdio.h>

static enum co_result give(struct co_call *call, const PGresult *rows, struct co_text *ret)
{
    call->host->text_set(call->ctx, ret, pg_value(rows, 0, 0), strlen(pg_value(rows, 0, 0)));
    return CO_DONE;
}

enum co_result pg_position(struct co_call *call, struct co_text *ret)
{
    PG_RESULT rows = NULL;
    /* The write position, not the insert position: the latter may stand behind a page header that no record has
     * crossed yet, where a follower would never arrive on an idle server. */
    enum co_result result = pg_query(call, call->conn, PG_READ,
                                     "SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN (SELECT ('x' || "
                                     "substr(pg_catalog.pg_walfile_name(l), 1, 8))::bit(32)::int "
                                     "|| ':' || l FROM pg_catalog.pg_current_wal_lsn() l) END",
                                     0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    if (PQgetisnull(rows, 0, 0))
        return pg_fail(call, CO_NO_EFFECT, CO_E_STATE, "Look with `changeover status` which side is the primary.",
                       "the server is a standby and has no position of its own");
    return give(call, rows, ret);
}

/* The timeline being replayed isn't shown by any function; the receiver knows it, else the control file. */
#define APPLIED_SQL                                                                                                            \
    "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN (SELECT greatest((SELECT received_tli FROM "                         \
    "pg_catalog.pg_stat_wal_receiver), "                                                                                       \
    "(SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()), (SELECT min_recovery_end_timeline FROM "                    \
    "pg_catalog.pg_control_recovery())) || ':' || pg_catalog.pg_last_wal_replay_lsn()) "                                       \
    "ELSE (SELECT ('x' || substr(pg_catalog.pg_walfile_name(l), 1, 8))::bit(32)::int || ':' || l FROM "                        \
    "pg_catalog.pg_current_wal_lsn() l) END"

enum co_result pg_applied(struct co_call *call, struct co_text *ret)
{
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, call->conn, PG_READ, APPLIED_SQL, 0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    if (PQgetisnull(rows, 0, 0))
        return pg_fail(call, CO_NO_EFFECT, CO_E_BROKEN, "", "the standby has not replayed anything yet");
    return give(call, rows, ret);
}

enum co_result pg_wait_applied(struct co_call *call, const char *position)
{
    struct pg_position want;
    if (!pg_position_parse(position, &want))
        return pg_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "%s is not a position of PostgreSQL", position);
    /* Half of the time is left to the last answer: a question that the deadline cuts off costs the connection. */
    int64_t now_ns = call->host->now_ns(call->ctx), last_ns = now_ns + (call->deadline_ns - now_ns) / 2;
    for (;;) {
        PG_RESULT rows = NULL;
        enum co_result result = pg_query(call, call->conn, PG_READ, APPLIED_SQL, 0, NULL, &rows);
        if (result != CO_DONE)
            return result;
        enum co_order order = PQgetisnull(rows, 0, 0) ? CO_ORDER_BEHIND : pg_compare(pg_value(rows, 0, 0), position);
        if (order == CO_ORDER_EQUAL || order == CO_ORDER_AHEAD)
            return CO_DONE;
        if (order != CO_ORDER_BEHIND)
            return pg_fail(call, CO_NO_EFFECT, CO_E_DATA,
                           "Look which timelines the two servers are on; the standby may follow another primary.",
                           "the standby is at %s, which is not on the way to %s", pg_value(rows, 0, 0), position);
        if (!pg_pause(call, call->conn, 1))
            return pg_fail(call, CO_NO_EFFECT, CO_E_INTERRUPTED, "", "interrupted while the standby replays");
        if (call->host->now_ns(call->ctx) >= last_ns)
            return pg_fail(call, CO_NO_EFFECT, CO_E_TIMEOUT,
                           "The standby replays too slowly, or its replication stands; see `changeover lag`.",
                           "the standby had replayed %s and not %s", pg_value(rows, 0, 0), position);
    }
}

/* ---------------------------------------------------------------- link */

static enum co_result link_is(struct co_call *call, struct co_link *ret, enum co_link_state state, const char *reason)
{
    ret->state = state;
    call->host->text_set(call->ctx, ret->reason, reason, strlen(reason));
    return CO_DONE;
}

static const char standby_sql[] =
    "SELECT pg_catalog.pg_is_in_recovery(), r.status, "
    "(extract(epoch FROM pg_catalog.clock_timestamp() - r.last_msg_receipt_time) * 1000)::bigint, "
    "coalesce(r.slot_name, ''), r.sender_port, "
    "(SELECT setting FROM pg_catalog.pg_settings WHERE name = 'primary_conninfo'), "
    "(SELECT setting FROM pg_catalog.pg_settings WHERE name = 'cluster_name'), "
    "%s, r.pid IS NOT NULL, (SELECT setting::bigint * 1000 FROM pg_catalog.pg_settings WHERE name = "
    "'wal_receiver_status_interval') "
    "FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_stat_wal_receiver r ON true";

/* Our walsender on the primary: by slot, else by the application name that the receiver uses. */
static const char sender_sql[] =
    "SELECT s.state, (extract(epoch FROM pg_catalog.clock_timestamp() - s.reply_time) * 1000)::bigint, "
    "(SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), k.restart_lsn)::bigint FROM "
    "pg_catalog.pg_replication_slots k "
    "WHERE k.slot_name = $1), (SELECT k.wal_status FROM pg_catalog.pg_replication_slots k WHERE k.slot_name = $1), "
    "pg_catalog.pg_is_in_recovery(), (SELECT count(*) FROM pg_catalog.pg_replication_slots k WHERE k.slot_name = $1) "
    "FROM (SELECT 1) one LEFT JOIN pg_catalog.pg_stat_replication s ON CASE WHEN $1 <> '' THEN s.pid = (SELECT active_pid FROM "
    "pg_catalog.pg_replication_slots WHERE slot_name = $1) ELSE s.application_name = $2 END ORDER BY s.state = 'streaming' "
    "DESC NULLS LAST LIMIT 1";

static void application_of(const char *conninfo, const char *cluster_name, struct pg_text *ret)
{
    PQconninfoOption *options = conninfo && *conninfo ? PQconninfoParse(conninfo, NULL) : NULL;
    for (PQconninfoOption *at = options; at && at->keyword; at++)
        if (strcmp(at->keyword, "application_name") == 0 && at->val && *at->val)
            pg_text_add(ret, at->val);
    PQconninfoFree(options);
    if (!ret->used)
        pg_text_add(ret, cluster_name && *cluster_name ? cluster_name : "walreceiver");
}

static enum co_result link_source(struct co_call *call, const PGresult *standby, int64_t patience_ms, struct co_link *ret)
{
    PG_TEXT name = {0};
    application_of(pg_value(standby, 0, 5), pg_value(standby, 0, 6), &name);
    const char *slot = pg_value(standby, 0, 3);
    const char *params[] = {slot, pg_text_str(&name)};
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, call->other, PG_READ, sender_sql, 2, params, &rows);
    if (result != CO_DONE)
        return result;
    ret->piled_up_bytes = PQgetisnull(rows, 0, 2) ? -1 : pg_number(rows, 0, 2, -1);
    if (pg_is_true(rows, 0, 4))
        return link_is(call, ret, CO_LINK_BROKEN, "the server that should be the primary is a standby itself");
    if (strcmp(pg_value(rows, 0, 3), "lost") == 0)
        return link_is(call, ret, CO_LINK_BROKEN,
                       "the primary has removed log that the standby needs (slot is lost); the standby must be set up again");
    if (PQgetisnull(rows, 0, 0))
        return link_is(call, ret, CO_LINK_BROKEN,
                       "the primary sends nothing to this standby: it follows another server, or its connection is gone");
    if (strcmp(pg_value(rows, 0, 0), "streaming") != 0) {
        PG_TEXT reason = {0};
        pg_text_addf(&reason, "the primary's sender is in state %s, not streaming", pg_value(rows, 0, 0));
        return link_is(call, ret, CO_LINK_BROKEN, pg_text_str(&reason));
    }
    ret->silent_ms = PQgetisnull(rows, 0, 1) ? -1 : pg_number(rows, 0, 1, -1);
    if (ret->silent_ms > patience_ms) {
        PG_TEXT reason = {0};
        pg_text_addf(&reason, "the standby has not answered the primary for %lld ms", (long long)ret->silent_ms);
        return link_is(call, ret, CO_LINK_BROKEN, pg_text_str(&reason));
    }
    return link_is(call, ret, CO_LINK_RUNNING, "");
}

enum co_result pg_link(struct co_call *call, struct co_link *ret)
{
    struct co_conn *conn = call->conn;
    ret->silent_ms = ret->piled_up_bytes = -1;
    PG_RESULT rows = NULL;
    enum co_result result =
        pg_queryf(call, conn, PG_READ, &rows, standby_sql,
                  conn->version >= 140000 ? "CASE WHEN pg_catalog.pg_is_in_recovery() THEN "
                                            "pg_catalog.pg_get_wal_replay_pause_state() <> 'not paused' ELSE false END"
                                          : "CASE WHEN pg_catalog.pg_is_in_recovery() THEN "
                                            "pg_catalog.pg_is_wal_replay_paused() ELSE false END");
    if (result != CO_DONE)
        return result;
    if (!pg_is_true(rows, 0, 0)) {
        struct co_conn *other = call->other;
        if (!other || strcmp(other->lineage, conn->lineage) != 0)
            return link_is(call, ret, CO_LINK_NONE, "the server is not a standby: replication is not set up");
        return link_is(call, ret, CO_LINK_BROKEN,
                       "the server is no standby any more: it has been promoted and takes writes of its own");
    }
    if (call->other && strcmp(call->other->lineage, conn->lineage) != 0)
        return link_is(call, ret, CO_LINK_BROKEN, "the standby is a copy of another cluster (system identifiers differ)");
    if (pg_is_true(rows, 0, 7))
        return link_is(call, ret, CO_LINK_BROKEN,
                       "replay is paused on the standby; resume it with SELECT pg_wal_replay_resume()");
    if (!pg_is_true(rows, 0, 8))
        return link_is(call, ret, CO_LINK_BROKEN,
                       "the standby has no WAL receiver: it is not connected to a primary; its log says why");
    if (PQgetisnull(rows, 0, 1))
        return link_is(call, ret, CO_LINK_UNKNOWN,
                       "this account may not see the WAL receiver; grant it pg_read_all_stats (pg_monitor)");
    if (strcmp(pg_value(rows, 0, 1), "streaming") != 0) {
        PG_TEXT reason = {0};
        pg_text_addf(&reason, "the standby's WAL receiver is in state %s, not streaming", pg_value(rows, 0, 1));
        return link_is(call, ret, CO_LINK_BROKEN, pg_text_str(&reason));
    }
    ret->silent_ms = pg_number(rows, 0, 2, -1);
    int64_t interval = pg_number(rows, 0, 9, 10000);
    int64_t patience = interval > 0 ? 2 * interval + 1000 : 60000;
    if (!call->other) {
        if (ret->silent_ms >= 0 && ret->silent_ms <= 2000)
            return link_is(call, ret, CO_LINK_RUNNING, "");
        return link_is(call, ret, CO_LINK_UNKNOWN,
                       "the primary can't be asked, and the standby alone can't prove that it still follows");
    }
    return link_source(call, rows, patience, ret);
}
