/* fence.c - the source refuses client writes: no database but ours accepts connections, for anybody.
 *
 * ALLOW_CONNECTIONS false holds superusers as well, survives restarts, and stops the apply workers of subscriptions
 * and the background workers of extensions, which connect to a database like everybody else. What the fence shut is
 * named in changeover.fence in the same transaction, so lifting it needs nobody's memory; the table reaches the
 * follower by replication as the fence itself does.
 *
 * Autovacuum isn't held by that, and uses transaction ids: it is switched off for the run, so that the proof ("the
 * next transaction id is unchanged") means what it says. */
#include "pg.h"

#include <stdio.h>

/* ---------------------------------------------------------------- autovacuum */

static enum co_result autovacuum_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret, "ALTER SYSTEM SET autovacuum = off\nSELECT pg_reload_conf()\n");
    return CO_DONE;
}

static enum co_result autovacuum_probe(struct co_call *call, enum co_presence *ret)
{
    PG_STRING value = NULL;
    enum co_result result = pg_conf_look(call, "autovacuum", &value);
    *ret = value && strcmp(value, "off") == 0 ? CO_PRESENT : CO_ABSENT;
    const char *note = call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "conf.autovacuum");
    if (!note || strcmp(note, "=off") == 0)
        *ret = CO_ABSENT; /* it was off before, or the run didn't get as far as to note it: nothing of ours is there */
    return result;
}

static enum co_result autovacuum_apply(struct co_call *call)
{
    return pg_conf_set(call, "autovacuum", "off", NULL, NULL);
}

static enum co_result autovacuum_revert(struct co_call *call)
{
    return pg_conf_restore(call, "autovacuum", NULL);
}

/* Off already: nothing to switch. Asked again after apply, the note tells ours from theirs. */
static bool autovacuum_wanted(struct co_call *call)
{
    const char *note = call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "conf.autovacuum");
    return !note || strcmp(note, "=off") != 0;
}

const struct co_step pg_step_autovacuum = {
    .size = sizeof(struct co_step),
    .name = "warm_up.autovacuum",
    .title = "switch autovacuum off for the run",
    .phase = CO_PHASE_WARM_UP,
    .role = CO_SOURCE,
    .wanted = autovacuum_wanted,
    .describe = autovacuum_describe,
    .probe = autovacuum_probe,
    .apply = autovacuum_apply,
    .revert = autovacuum_revert,
};

/* ---------------------------------------------------------------- databases */

static const char fence_sql[] =
    "DO $co$ DECLARE d record; BEGIN FOR d IN SELECT oid, datname FROM pg_catalog.pg_database WHERE datallowconn AND "
    "datconnlimit <> -2 "
    "AND datname <> '" PG_DATABASE
    "' LOOP INSERT INTO changeover.fence (database, name) VALUES (d.oid, d.datname) ON CONFLICT DO NOTHING; "
    "EXECUTE pg_catalog.format('ALTER DATABASE %I ALLOW_CONNECTIONS false', d.datname); END LOOP; END $co$";

const char pg_fence_lift_sql[] = "DO $co$ DECLARE d record; BEGIN FOR d IN SELECT p.datname FROM pg_catalog.pg_database p JOIN "
                                 "changeover.fence f ON f.database = p.oid "
                                 "WHERE NOT p.datallowconn AND p.datconnlimit <> -2 LOOP EXECUTE pg_catalog.format('ALTER "
                                 "DATABASE %I ALLOW_CONNECTIONS true', d.datname); "
                                 "END LOOP; DELETE FROM changeover.fence; END $co$";

static enum co_result list(struct co_call *call, struct co_text *ret, const char *value)
{
    PG_RESULT rows = NULL;
    if (!call->conn) {
        call->host->text_add(call->ctx, ret, "ALTER DATABASE <each but changeover> ALLOW_CONNECTIONS %s\n", value);
        return CO_DONE;
    }
    enum co_result result = pg_query(
        call, call->conn, PG_READ,
        "SELECT pg_catalog.quote_ident(datname) FROM pg_catalog.pg_database WHERE datallowconn AND datconnlimit <> -2 AND "
        "datname <> '" PG_DATABASE "' ORDER BY 1",
        0, NULL, &rows);
    for (int i = 0; result == CO_DONE && i < PQntuples(rows); i++)
        call->host->text_add(call->ctx, ret, "ALTER DATABASE %s ALLOW_CONNECTIONS %s\n", pg_value(rows, i, 0), value);
    return result;
}

static enum co_result fence_describe(struct co_call *call, struct co_text *ret)
{
    return list(call, ret, "false");
}

static enum co_result fence_probe(struct co_call *call, enum co_presence *ret)
{
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, call->conn, PG_READ,
                                     "SELECT (SELECT count(*) FROM pg_catalog.pg_database WHERE datallowconn AND datconnlimit "
                                     "<> -2 AND datname <> '" PG_DATABASE "'), EXISTS (SELECT 1 FROM changeover.fence)",
                                     0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    bool some_open = pg_number(rows, 0, 0, 1) > 0;
    bool ours = pg_is_true(rows, 0, 1);
    *ret = !some_open ? CO_PRESENT : ours ? CO_PARTIAL : CO_ABSENT;
    return CO_DONE;
}

static enum co_result fence_apply(struct co_call *call)
{
    PG_TEXT sql = {0};
    pg_text_add(&sql, fence_sql);
    pg_text_add(&sql, "; SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint");
    PG_RESULT rows = NULL;
    enum co_result result = pg_guarded(call, call->conn, pg_text_str(&sql), &rows);
    if (result != CO_DONE)
        return result;
    call->conn->fence_at_us = pg_number(rows, 0, 0, 0);
    call->conn->fence_known = true;
    free(call->conn->starting);
    call->conn->starting = NULL;
    return CO_DONE;
}

enum co_result pg_fence_again(struct co_call *call)
{
    return pg_guarded(call, call->conn, fence_sql, NULL);
}

static enum co_result fence_revert(struct co_call *call)
{
    return pg_guarded(call, call->conn, pg_fence_lift_sql, NULL);
}

const struct co_step pg_step_fence = {
    .size = sizeof(struct co_step),
    .name = "fence.databases",
    .title = "refuse connections to every database",
    .phase = CO_PHASE_FENCE,
    .role = CO_SOURCE,
    .describe = fence_describe,
    .probe = fence_probe,
    .apply = fence_apply,
    .revert = fence_revert,
};
