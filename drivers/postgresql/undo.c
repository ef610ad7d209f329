/* undo.c - after an undo the source's clients must not wait for a standby that the run has taken away.
 * synchronous_standby_names is emptied only while nobody answers to it; that is said, and the original is in the notes. */
#include "pg.h"

static bool sync_wanted(struct co_call *call)
{
    if (!call->conn)
        return true;
    PG_RESULT rows = NULL;
    return pg_query(call, call->conn, PG_READ, "SELECT pg_catalog.current_setting('synchronous_standby_names') <> ''", 0, NULL,
                    &rows) != CO_DONE ||
           pg_is_true(rows, 0, 0);
}

static enum co_result sync_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret,
                         "ALTER SYSTEM SET synchronous_standby_names = '' (only while no synchronous standby is connected)\n");
    return CO_DONE;
}

static enum co_result sync_probe(struct co_call *call, enum co_presence *ret)
{
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, call->conn, PG_READ,
                                     "SELECT pg_catalog.current_setting('synchronous_standby_names') = '' OR EXISTS (SELECT 1 "
                                     "FROM pg_catalog.pg_stat_replication "
                                     "WHERE sync_state IN ('sync', 'quorum') AND state = 'streaming' AND reply_time > "
                                     "pg_catalog.clock_timestamp() - interval '15 s')",
                                     0, NULL, &rows);
    if (result == CO_DONE)
        *ret = pg_is_true(rows, 0, 0) ? CO_PRESENT : CO_ABSENT;
    return result;
}

static enum co_result sync_apply(struct co_call *call)
{
    return pg_conf_set(call, "synchronous_standby_names", "", NULL, NULL);
}

const struct co_step pg_step_undo_sync = {
    .size = sizeof(struct co_step),
    .name = "undo.synchronous_standbys",
    .title = "let writes not wait for a standby that is gone",
    .phase = CO_PHASE_UNDO,
    .role = CO_SOURCE,
    .flags = CO_STEP_NO_WAY_BACK,
    .wanted = sync_wanted,
    .describe = sync_describe,
    .probe = sync_probe,
    .apply = sync_apply,
};
