/* marker.c - the run's mark on a server: a file in the data directory, so that replication neither carries nor
 * overwrites it. The first line is the token, the rest the info.
 *
 * Invariant: it changes only under the marker's advisory lock, by renaming a file that was written and synced, and
 * only when it still holds what the caller expects. A process of the same run that holds the lock and doesn't let go
 * (frozen, or its statement waits) is ended: whoever raises the token takes the run over. */
#include "pg.h"

#include <stdio.h>

static enum co_result give(struct co_call *call, const char *content, struct co_text *ret_token, struct co_text *ret_info)
{
    const char *end = strchr(content, '\n');
    size_t bytes = end ? (size_t)(end - content) : strlen(content);
    call->host->text_set(call->ctx, ret_token, content, bytes);
    const char *info = end ? end + 1 : "";
    call->host->text_set(call->ctx, ret_info, info, strlen(info));
    return CO_DONE;
}

enum co_result pg_marker_get(struct co_call *call, struct co_text *ret_token, struct co_text *ret_info)
{
    if (!call->conn)
        return pg_machine_marker_get(call, ret_token, ret_info);
    PG_RESULT rows = NULL;
    enum co_result result =
        pg_query(call, call->conn, PG_READ,
                 "SELECT coalesce(pg_catalog.pg_read_file('" PG_MARKER_FILE "', 0, 1000000, true), '')", 0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    return give(call, pg_value(rows, 0, 0), ret_token, ret_info);
}

/* What the server's shell does with the new content on standard input: the base64 text is one line. */
#define WRITE_COMMAND                                                                                                          \
    "umask 077; base64 -d > " PG_MARKER_FILE ".new && sync " PG_MARKER_FILE ".new && mv -f " PG_MARKER_FILE                    \
    ".new " PG_MARKER_FILE " && sync ."
#define REMOVE_COMMAND "read -r x; rm -f " PG_MARKER_FILE " && sync ."

static void compose(struct pg_text *sql, int64_t limit_ms, const char *expected, const char *token, const char *info)
{
    pg_text_addf(sql, "SET LOCAL statement_timeout = %lld; ", (long long)limit_ms);
    pg_text_add(sql,
                "SET LOCAL lock_timeout = 150; DO $co$ BEGIN PERFORM pg_catalog.pg_advisory_xact_lock(" PG_MARKER_LOCK "); "
                "IF pg_catalog.split_part(coalesce(pg_catalog.pg_read_file('" PG_MARKER_FILE
                "', 0, 256, true), ''), E'\\n', 1) <> ");
    pg_text_literal(sql, expected ? expected : "");
    pg_text_add(sql, " THEN RAISE EXCEPTION USING ERRCODE = '" PG_STATE_TOKEN "', MESSAGE = 'the server''s marker holds \"' || "
                     "pg_catalog.split_part(coalesce(pg_catalog.pg_read_file('" PG_MARKER_FILE
                     "', 0, 256, true), ''), E'\\n', 1) || "
                     "'\", not ");
    if (expected)
        pg_text_addf(sql, "\"%s\"", expected);
    else
        pg_text_add(sql, "none");
    pg_text_add(sql, "'; END IF; END $co$;\nCOPY (SELECT ");
    if (token) {
        PG_TEXT content = {0};
        pg_text_addf(&content, "%s\n%s", token, info ? info : "");
        PG_TEXT code = {0};
        pg_text_base64(&code, pg_text_str(&content), content.used);
        pg_text_literal(sql, pg_text_str(&code));
        sql->failed |= content.failed || code.failed;
    } else {
        pg_text_add(sql, "''");
    }
    pg_text_add(sql, ") TO PROGRAM ");
    pg_text_literal(sql, token ? WRITE_COMMAND : REMOVE_COMMAND);
}

/* Ends sessions of this run that hold the marker's lock. */
static enum co_result end_holders(struct co_call *call)
{
    char prefix[64];
    snprintf(prefix, sizeof prefix, "changeover:%.40s:", call->run->id);
    const char *params[] = {prefix};
    return pg_query(call, call->conn, PG_READ,
                    "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity "
                    "a USING (pid) "
                    "WHERE l.locktype = 'advisory' AND l.classid = 7163394 AND l.objid = 1 AND l.granted AND a.pid <> "
                    "pg_catalog.pg_backend_pid() "
                    "AND starts_with(a.application_name, $1)",
                    1, params, NULL);
}

enum co_result pg_marker_set(struct co_call *call, const char *expected, const char *token, const char *info)
{
    if (!call->conn)
        return pg_machine_marker_set(call, expected, token, info);
    PG_TEXT sql = {0};
    compose(&sql, pg_server_limit_ms(call), expected, token, info);
    if (sql.failed)
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    for (int attempt = 0;; attempt++) {
        enum co_result result = pg_query(call, call->conn, PG_CHANGE, sql.data, 0, NULL, NULL);
        if (result == CO_DONE)
            return CO_DONE;
        bool locked = result == CO_NO_EFFECT && pg_state_is(call->err, "55P03");
        if (result == CO_NO_EFFECT && pg_starts(call->err->native, "38"))
            return CO_EFFECT_UNKNOWN; /* the command ran and failed somewhere */
        if (!locked || !call->run || attempt == 3)
            return result;
        struct co_error kept = *call->err;
        if (end_holders(call) != CO_DONE)
            return CO_NO_EFFECT;
        *call->err = kept;
    }
}
