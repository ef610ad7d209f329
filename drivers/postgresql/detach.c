/* detach.c - the end of a migration: the follower stops following, and what setup made is removed from the primary.
 * The tool's own database goes last, from a connection to another one. Accounts are dropped only when setup made them
 * (their comment says so) and nothing else depends on them. */
#include "pg.h"

#include <stdio.h>

/* The replication password lies on both sides once they have changed places. */
#define FORGET_PASSWORD "COPY (SELECT '') TO PROGRAM 'read -r x; rm -f " PG_PASS_FILE "'"

/* ---------------------------------------------------------------- the follower */

static enum co_result follower_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(
        call->ctx, ret, "ALTER SYSTEM RESET primary_conninfo\nALTER SYSTEM RESET primary_slot_name\nSELECT pg_reload_conf()\n");
    return CO_DONE;
}

static enum co_result follower_probe(struct co_call *call, enum co_presence *ret)
{
    *ret = CO_PRESENT;
    if (!pg_alive(call->conn))
        return CO_DONE; /* a follower that is gone follows nobody */
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(
        call, call->conn, PG_READ,
        "SELECT pg_catalog.pg_is_in_recovery() AND pg_catalog.current_setting('primary_conninfo') <> ''", 0, NULL, &rows);
    if (result == CO_DONE)
        *ret = pg_is_true(rows, 0, 0) ? CO_ABSENT : CO_PRESENT;
    return result;
}

static enum co_result follower_apply(struct co_call *call)
{
    if (!pg_alive(call->conn))
        return CO_DONE;
    static const char *const statements[] = {"ALTER SYSTEM RESET primary_conninfo", "ALTER SYSTEM RESET primary_slot_name",
                                             "SELECT pg_catalog.pg_reload_conf()"};
    enum co_result result = pg_guarded_plain(call, call->conn, false, statements, 3);
    if (result == CO_DONE)
        result = pg_guarded(call, call->conn, FORGET_PASSWORD, NULL);
    if (result != CO_DONE)
        return result;
    enum co_presence there = CO_ABSENT;
    result = follower_probe(call, &there);
    return result == CO_DONE && there != CO_PRESENT ? CO_AGAIN : result;
}

const struct co_step pg_step_detach_follower = {
    .size = sizeof(struct co_step),
    .name = "detach.follower",
    .title = "stop following",
    .phase = CO_PHASE_DETACH,
    .role = CO_TARGET,
    .flags = CO_STEP_NO_WAY_BACK | CO_STEP_OFFLINE,
    .describe = follower_describe,
    .probe = follower_probe,
    .apply = follower_apply,
};

/* ---------------------------------------------------------------- the primary */

static enum co_result primary_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(
        call->ctx, ret,
        "SELECT pg_drop_replication_slot(<changeover_a, changeover_b>)\nin database %s: DROP SCHEMA changeover CASCADE\n"
        "DROP ROLE <those that setup made>\nDROP DATABASE " PG_DATABASE "\n",
        pg_url_database(call, call->side));
    return CO_DONE;
}

static enum co_result primary_probe(struct co_call *call, enum co_presence *ret)
{
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(
        call, call->conn, PG_READ,
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name IN ('changeover_a', 'changeover_b')) OR "
        "EXISTS (SELECT 1 FROM pg_catalog.pg_database WHERE datname = '" PG_DATABASE "')",
        0, NULL, &rows);
    if (result == CO_DONE)
        *ret = pg_is_true(rows, 0, 0) ? CO_ABSENT : CO_PRESENT;
    return result;
}

static enum co_result drop_roles(struct co_call *call, struct co_conn *conn)
{
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, conn, PG_READ,
                                     "SELECT pg_catalog.quote_ident(rolname) FROM pg_catalog.pg_roles WHERE "
                                     "pg_catalog.shobj_description(oid, 'pg_authid') LIKE 'changeover: %'",
                                     0, NULL, &rows);
    for (int i = 0; result == CO_DONE && i < PQntuples(rows); i++) {
        PG_TEXT sql = {0};
        pg_text_addf(&sql, "DROP ROLE %s", pg_value(rows, i, 0));
        result = pg_guarded(call, conn, pg_text_str(&sql), NULL);
        if (result == CO_NO_EFFECT && pg_state_is(call->err, "2BP01"))
            result = CO_DONE; /* somebody gave it more: it stays */
    }
    return result;
}

static enum co_result primary_apply(struct co_call *call)
{
    struct co_conn *conn = NULL;
    enum co_result result = pg_connect_to(call, pg_url_database(call, call->side), &conn);
    if (result != CO_DONE)
        return result;
    /* A walsender that still holds the slot goes first; the follower was told to stop. */
    result = pg_guarded(call, conn,
                        "SELECT pg_catalog.pg_terminate_backend(active_pid) FROM pg_catalog.pg_replication_slots WHERE "
                        "slot_name IN ('changeover_a', 'changeover_b') "
                        "AND active_pid IS NOT NULL",
                        NULL);
    if (result == CO_DONE)
        result = pg_guarded(call, conn,
                            "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE "
                            "slot_name IN ('changeover_a', 'changeover_b')",
                            NULL);
    if (result == CO_NO_EFFECT && pg_state_is(call->err, "55006"))
        result = CO_AGAIN;
    if (result == CO_DONE)
        result = pg_guarded(call, conn, FORGET_PASSWORD, NULL);
    if (result == CO_DONE)
        result = pg_guarded(call, conn, "DROP SCHEMA IF EXISTS changeover CASCADE", NULL);
    static const char *const drop[] = {"DROP DATABASE IF EXISTS " PG_DATABASE " WITH (FORCE)"};
    if (result == CO_DONE)
        result = drop_roles(call, conn);
    if (result == CO_DONE)
        result = pg_guarded_plain(call, conn, false, drop, 1);
    pg_disconnect(conn);
    if (result == CO_DONE)
        call->conn->broken = strcmp(call->conn->database, PG_DATABASE) == 0; /* its database is gone */
    return result;
}

const struct co_step pg_step_detach_primary = {
    .size = sizeof(struct co_step),
    .name = "detach.primary",
    .title = "remove slots, accounts and the tool's database",
    .phase = CO_PHASE_DETACH,
    .role = CO_SOURCE,
    .flags = CO_STEP_NO_WAY_BACK,
    .describe = primary_describe,
    .probe = primary_probe,
    .apply = primary_apply,
};
