/* look.c - what this server is: identity, capabilities, settings, and what of ours is on it. Read-only, and every
 * answer is the server's own. */
#include "pg.h"

#include <stdio.h>

/* A physical copy is the same in every byte that SQL shows, so two copies are told apart by their data directory and
 * the moment its PG_VERSION was made: a new file in every copy (its change time can't be carried over), and never
 * touched again, by pg_rewind neither. */
static void instance_name(const struct co_conn *conn, const char *made, char ret[40])
{
    uint64_t hash = pg_hash(conn->lineage, strlen(conn->lineage), 0);
    if (conn->data_directory)
        hash = pg_hash(conn->data_directory, strlen(conn->data_directory), hash);
    hash = pg_hash(made, strlen(made), hash);
    snprintf(ret, 40, "pg-%016llx", (unsigned long long)hash);
}

enum co_result pg_closure_look(struct co_call *call, struct co_conn *conn, enum pg_closure *ret, struct pg_text *ret_run)
{
    PG_RESULT rows = NULL;
    enum co_result result =
        pg_query(call, conn, PG_READ,
                 "SELECT CASE WHEN pg_catalog.has_function_privilege('pg_catalog.pg_read_file(text,bigint,bigint,boolean)', "
                 "'EXECUTE') AND EXISTS (SELECT 1 FROM pg_catalog.pg_settings WHERE name = 'hba_file') "
                 "THEN pg_catalog.split_part(pg_catalog.pg_read_file((SELECT setting FROM pg_catalog.pg_settings "
                 "WHERE name = 'hba_file'), 0, 200, true), E'\\n', 1) END",
                 0, NULL, &rows);
    *ret = PG_CLOSURE_UNKNOWN;
    if (result != CO_DONE)
        return result;
    if (PQntuples(rows) != 1 || PQgetisnull(rows, 0, 0))
        return CO_DONE;
    const char *line = pg_value(rows, 0, 0);
    *ret = pg_starts(line, PG_CLOSED_HEAD) ? PG_CLOSED : PG_OPEN;
    if (*ret == PG_CLOSED && ret_run)
        pg_text_bytes(ret_run, line + strlen(PG_CLOSED_HEAD), strcspn(line + strlen(PG_CLOSED_HEAD), " \r\n"));
    return CO_DONE;
}

static void set(struct co_call *call, struct co_text *text, const char *value)
{
    call->host->text_set(call->ctx, text, value, strlen(value));
}

static const char identify_sql[] =
    "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('server_version'), "
    "(extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint, "
    "CASE WHEN pg_catalog.has_function_privilege('pg_catalog.pg_stat_file(text)', 'EXECUTE') "
    "THEN extract(epoch FROM (pg_catalog.pg_stat_file('PG_VERSION')).change)::bigint::text ELSE '' END, "
    "(SELECT count(*) FROM pg_catalog.pg_database WHERE datname NOT IN ('template0', 'template1', 'postgres', '" PG_DATABASE
    "')), "
    "(SELECT count(*) FROM pg_catalog.pg_database WHERE datallowconn AND datconnlimit <> -2 AND datname <> '" PG_DATABASE "'), "
    "(SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN "
    "('r','p','m') "
    "AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'changeover') AND n.nspname !~ '^pg_(toast|temp)'), "
    "pg_catalog.split_part(pg_catalog.current_setting('server_version'), ' ', 1), "
    "EXISTS (SELECT 1 FROM pg_catalog.pg_database WHERE datname = '" PG_DATABASE "')";

enum co_result pg_identify(struct co_call *call, struct co_identity *ret)
{
    struct co_conn *conn = call->conn;
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, conn, PG_READ, identify_sql, 0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    bool follower = pg_is_true(rows, 0, 0);
    bool user_data = pg_number(rows, 0, 4, 0) > 0 || pg_number(rows, 0, 6, 0) > 0;
    int64_t open_databases = pg_number(rows, 0, 5, 0);
    char instance[40];
    instance_name(conn, pg_value(rows, 0, 3), instance);
    set(call, ret->product, "PostgreSQL");
    set(call, ret->version, pg_value(rows, 0, 7));
    set(call, ret->instance, instance);
    set(call, ret->incarnation, pg_value(rows, 0, 2));
    ret->role = follower ? CO_ROLE_FOLLOWER : CO_ROLE_PRIMARY;
    ret->empty = user_data || follower || pg_is_true(rows, 0, 8) ? CO_NO : CO_YES;
    bool replaceable = call->role == CO_TARGET && ret->empty == CO_YES;
    set(call, ret->lineage, replaceable ? "" : conn->lineage);

    enum pg_closure closure;
    result = pg_closure_look(call, conn, &closure, NULL);
    if (result != CO_DONE)
        return result;
    bool fenced = open_databases == 0;
    ret->fenced = fenced || closure == PG_CLOSED ? CO_YES : closure == PG_CLOSURE_UNKNOWN ? CO_UNKNOWN : CO_NO;
    ret->accepts_writes = follower || fenced || closure == PG_CLOSED ? CO_NO : CO_YES;
    ret->data_bytes = -1;
    if (!call->run) {
        /* Counts the files of every database: not in a run, where each login would pay for it, and no longer than a look
         * at the lag may take. */
        PG_RESULT size = NULL;
        result = pg_query(
            call, conn, PG_READ,
            "SET LOCAL statement_timeout = 25; SELECT sum(pg_catalog.pg_database_size(oid))::bigint FROM "
            "pg_catalog.pg_database "
            "WHERE pg_catalog.has_database_privilege(oid, 'CONNECT') OR pg_catalog.pg_has_role('pg_read_all_stats', 'MEMBER')",
            0, NULL, &size);
        if (result == CO_DONE)
            ret->data_bytes = pg_number(size, 0, 0, -1);
        else if (conn->broken)
            return result;
    }
    return CO_DONE;
}

/* pg_rewind needs to see which blocks changed after the fork. */
enum co_result pg_can_rewind(struct co_call *call, struct co_conn *conn, bool *ret)
{
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(
        call, conn, PG_READ,
        "SELECT (pg_catalog.current_setting('data_checksums') = 'on' OR pg_catalog.current_setting('wal_log_hints') = 'on') "
        "AND pg_catalog.current_setting('full_page_writes') = 'on'",
        0, NULL, &rows);
    if (result == CO_DONE)
        *ret = pg_is_true(rows, 0, 0);
    return result;
}

bool pg_mode_stop(struct co_call *call)
{
    const char *fence = call->host->option(call->ctx, "fence");
    return fence && strcmp(fence, "stop") == 0;
}

/* Whether the machine of a side can stop, rewind and start its server. */
bool pg_machine_ready(struct co_call *call, enum co_side side)
{
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, side);
    return endpoint->has_host && call->host->side_option(call->ctx, side, "host.data_directory") &&
           call->host->argv_option(call->ctx, (int)side, "host.start") &&
           call->host->argv_option(call->ctx, (int)side, "host.stop");
}

enum co_result pg_capabilities(struct co_call *call, struct co_capabilities *ret)
{
    bool rewindable = true;
    enum co_result result = pg_can_rewind(call, call->conn, &rewindable);
    if (result != CO_DONE)
        return result;
    enum co_side source = call->run ? call->run->source : call->role == CO_SOURCE ? call->side : pg_other_side(call->side);
    bool machine = pg_machine_ready(call, source);
    ret->promote_closed = true;
    ret->restart_proof = true;
    ret->rounds = false;
    ret->reverse = machine && (rewindable || pg_mode_stop(call));
    ret->scope_database = false;
    ret->destroys_on_reverse = ret->reverse && !pg_mode_stop(call);
    ret->fence_stops = pg_mode_stop(call);
    ret->marker_offline = machine || pg_machine_ready(call, pg_other_side(source));
    ret->undo_keeps_target = rewindable && pg_machine_ready(call, pg_other_side(source));
    return CO_DONE;
}

/* ---------------------------------------------------------------- settings */

static const char settings_sql[] =
    "SELECT name, setting || coalesce(unit, '') FROM pg_catalog.pg_settings WHERE name IN ('server_version', 'wal_level', "
    "'max_wal_senders', 'max_replication_slots', 'max_connections', 'max_worker_processes', 'max_prepared_transactions', "
    "'max_locks_per_transaction', 'wal_log_hints', 'data_checksums', 'full_page_writes', 'synchronous_standby_names', "
    "'synchronous_commit', 'default_transaction_read_only', 'recovery_min_apply_delay', 'hot_standby', 'hot_standby_feedback', "
    "'max_slot_wal_keep_size', 'wal_keep_size', 'archive_mode', 'archive_command', 'archive_library', "
    "'shared_preload_libraries', "
    "'autovacuum', 'fsync', 'data_directory', 'hba_file', 'config_file', 'port', 'listen_addresses', 'ssl', 'server_encoding', "
    "'lc_collate', 'lc_ctype', 'TimeZone', 'shared_buffers', 'work_mem', 'max_wal_size', 'wal_receiver_timeout', "
    "'wal_sender_timeout', "
    "'primary_slot_name', 'block_size', 'wal_block_size', 'wal_segment_size', 'cluster_name', 'restore_command') ORDER BY name";

enum co_result pg_settings(struct co_call *call)
{
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, call->conn, PG_READ, settings_sql, 0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    for (int i = 0; i < PQntuples(rows); i++)
        call->host->fact(call->ctx, "setting", pg_value(rows, i, 0), pg_value(rows, i, 1));
    PG_RESULT databases = NULL;
    result = pg_query(
        call, call->conn, PG_READ,
        "SELECT datname, datallowconn, datconnlimit, pg_catalog.pg_encoding_to_char(encoding), datcollate, "
        "CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT') OR pg_catalog.pg_has_role('pg_read_all_stats', 'MEMBER') "
        "THEN pg_catalog.pg_database_size(oid) END FROM pg_catalog.pg_database ORDER BY datname",
        0, NULL, &databases);
    if (result != CO_DONE)
        return result;
    int count = 0;
    for (int i = 0; i < PQntuples(databases); i++) {
        PG_TEXT name = {0};
        pg_text_addf(&name, "database.%s", pg_value(databases, i, 0));
        PG_TEXT value = {0};
        pg_text_addf(&value, "%s, limit %s, %s, %s",
                     pg_is_true(databases, i, 1) ? "accepts connections" : "accepts no connections", pg_value(databases, i, 2),
                     pg_value(databases, i, 3), pg_value(databases, i, 4));
        call->host->fact(call->ctx, "setting", pg_text_str(&name), pg_text_str(&value));
        if (!PQgetisnull(databases, i, 5))
            call->host->fact(call->ctx, "size", pg_text_str(&name), pg_value(databases, i, 5));
        count++;
    }
    char number[24];
    snprintf(number, sizeof number, "%d", count);
    call->host->fact(call->ctx, "count", "databases", number);
    return CO_DONE;
}

/* ---------------------------------------------------------------- discover */

enum co_result pg_discover(struct co_call *call)
{
    struct co_conn *conn = call->conn;
    const struct co_host *host = call->host;
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(
        call, conn, PG_READ,
        "SELECT 'database', datname FROM pg_catalog.pg_database WHERE datname = '" PG_DATABASE "' UNION ALL "
        "SELECT 'slot', slot_name FROM pg_catalog.pg_replication_slots WHERE slot_name ~ '^changeover_[ab]$' UNION ALL "
        "SELECT 'fence', 'databases' WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_database WHERE datallowconn AND "
        "datconnlimit <> -2 "
        "AND datname <> '" PG_DATABASE "') UNION ALL "
        "SELECT 'replication', status FROM pg_catalog.pg_stat_wal_receiver UNION ALL "
        "SELECT 'user', rolname FROM pg_catalog.pg_roles WHERE pg_catalog.shobj_description(oid, 'pg_authid') LIKE "
        "'changeover:%'",
        0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    for (int i = 0; i < PQntuples(rows); i++)
        host->found(call->ctx, pg_value(rows, i, 0), pg_value(rows, i, 1), NULL);
    PG_TEXT run = {0};
    enum pg_closure closure;
    result = pg_closure_look(call, conn, &closure, &run);
    if (result != CO_DONE)
        return result;
    if (closure == PG_CLOSED)
        host->found(call->ctx, "closure", "pg_hba.conf", run.used ? pg_text_str(&run) : NULL);
    if (closure == PG_CLOSURE_UNKNOWN)
        return CO_DONE; /* files are not for this account */
    PG_RESULT marker = NULL;
    result = pg_query(call, conn, PG_READ,
                      "SELECT pg_catalog.split_part(coalesce(pg_catalog.pg_read_file('" PG_MARKER_FILE
                      "', 0, 256, true), ''), E'\\n', 1)",
                      0, NULL, &marker);
    if (result != CO_DONE)
        return result;
    const char *token = pg_value(marker, 0, 0);
    if (*token) {
        PG_TEXT id = {0};
        pg_text_bytes(&id, token, strcspn(token, ":"));
        host->found(call->ctx, "marker", PG_MARKER_FILE, pg_text_str(&id));
    }
    return CO_DONE;
}
