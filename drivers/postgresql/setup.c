/* setup.c - what setup makes on the primary: the tool's database, accounts, the table for real writes, the slot.
 * Passwords leave this process only as SCRAM verifiers, and in statements that the server is told not to log. */
#include "pg.h"

#include <stdio.h>

/* ---------------------------------------------------------------- the database */

static enum co_result database_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret,
                         "CREATE DATABASE " PG_DATABASE " TEMPLATE template0\nREVOKE ALL ON DATABASE " PG_DATABASE
                         " FROM PUBLIC\n"
                         "CREATE TABLE changeover.fence (database oid PRIMARY KEY, name text NOT NULL)\n");
    return CO_DONE;
}

/* A connection to our database: the call's own or one more (*ret_extra, to be closed). NULL: there is no database. */
static enum co_result our_database(struct co_call *call, struct co_conn **ret, struct co_conn **ret_extra)
{
    *ret = *ret_extra = NULL;
    if (strcmp(call->conn->database, PG_DATABASE) == 0) {
        *ret = call->conn;
        return CO_DONE;
    }
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, call->conn, PG_READ,
                                     "SELECT 1 FROM pg_catalog.pg_database WHERE datname = '" PG_DATABASE "'", 0, NULL, &rows);
    if (result != CO_DONE || PQntuples(rows) == 0)
        return result;
    result = pg_connect_to(call, PG_DATABASE, ret_extra);
    if (result == CO_DONE)
        *ret = *ret_extra;
    return result;
}

static enum co_result database_probe(struct co_call *call, enum co_presence *ret)
{
    struct co_conn *conn, *extra;
    *ret = CO_ABSENT;
    enum co_result result = our_database(call, &conn, &extra);
    if (result != CO_DONE || !conn)
        return result;
    PG_RESULT rows = NULL;
    result = pg_query(call, conn, PG_READ, "SELECT pg_catalog.to_regclass('changeover.fence') IS NOT NULL", 0, NULL, &rows);
    if (result == CO_DONE)
        *ret = pg_is_true(rows, 0, 0) ? CO_PRESENT : CO_PARTIAL;
    pg_disconnect(extra);
    return result;
}

static enum co_result database_apply(struct co_call *call)
{
    struct co_conn *conn, *extra;
    enum co_result result = our_database(call, &conn, &extra);
    if (result != CO_DONE)
        return result;
    if (!conn) {
        static const char *const create[] = {"CREATE DATABASE " PG_DATABASE " TEMPLATE template0"};
        result = pg_guarded_plain(call, call->conn, true, create, 1);
        if (result == CO_DONE)
            result = our_database(call, &conn, &extra);
        if (result != CO_DONE)
            return result;
    }
    result = pg_guarded_setup(call, conn,
                              "REVOKE ALL ON DATABASE " PG_DATABASE " FROM PUBLIC; CREATE SCHEMA IF NOT EXISTS changeover; "
                              "CREATE TABLE IF NOT EXISTS changeover.fence (database oid PRIMARY KEY, name text NOT NULL); "
                              "COMMENT ON TABLE changeover.fence IS 'databases that a run of changeover shut'",
                              NULL);
    pg_disconnect(extra);
    return result;
}

const struct co_step pg_step_setup_database = {
    .size = sizeof(struct co_step),
    .name = "setup.database",
    .title = "the tool's own database on the primary",
    .phase = CO_PHASE_SETUP,
    .role = CO_SOURCE,
    .flags = CO_STEP_KEEPS | CO_STEP_NO_WAY_BACK,
    .describe = database_describe,
    .probe = database_probe,
    .apply = database_apply,
};

/* ---------------------------------------------------------------- accounts */

/* Nothing of the next statements reaches the server's log, whatever it is set to log. */
static const char quiet_sql[] =
    "SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic'; "
    "SET log_min_duration_sample = -1; SET log_statement_sample_rate = 0";
static const char loud_sql[] = "RESET log_statement; RESET log_min_duration_statement; RESET log_min_error_statement; "
                               "RESET log_min_duration_sample; RESET log_statement_sample_rate";

static enum co_result make_role(struct co_call *call, const char *name, const char *attributes, const char *password,
                                const char *purpose)
{
    struct co_conn *conn = call->conn;
    PG_TEXT sql = {0};
    pg_text_add(&sql, "CREATE ROLE ");
    pg_text_ident(&sql, name);
    pg_text_addf(&sql, " %s", attributes);
    if (password) {
        char *verifier = PQencryptPasswordConn(conn->pg, password, name, "scram-sha-256");
        if (!verifier)
            return pg_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "the password of %s could not be prepared", name);
        pg_text_add(&sql, " PASSWORD ");
        pg_text_literal(&sql, verifier);
        explicit_bzero(verifier, strlen(verifier));
        PQfreemem(verifier);
    }
    pg_text_add(&sql, "; COMMENT ON ROLE ");
    pg_text_ident(&sql, name);
    pg_text_add(&sql, " IS ");
    pg_text_literal(&sql, purpose);
    enum co_result result = pg_query(call, conn, PG_READ, quiet_sql, 0, NULL, NULL);
    if (result != CO_DONE)
        return result;
    result = pg_guarded_setup(call, conn, pg_text_str(&sql), NULL);
    struct co_error kept = *call->err;
    if (!conn->broken && pg_query(call, conn, PG_READ, loud_sql, 0, NULL, NULL) != CO_DONE && result == CO_DONE)
        conn->broken = true; /* a fresh connection logs again */
    *call->err = kept;
    return result;
}

static const char *replication_user(struct co_call *call)
{
    const char *user = call->host->secret_user(call->ctx, CO_SECRET_REPLICATION);
    return user && *user ? user : NULL;
}

static const char *probe_user(struct co_call *call)
{
    const char *user = call->host->secret_user(call->ctx, CO_SECRET_PROBE);
    return user && *user ? user : NULL;
}

static bool replication_wanted(struct co_call *call)
{
    return replication_user(call) != NULL;
}

static enum co_result replication_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret, "CREATE ROLE \"%s\" LOGIN REPLICATION PASSWORD <password>\n", replication_user(call));
    return CO_DONE;
}

static enum co_result replication_probe(struct co_call *call, enum co_presence *ret)
{
    const char *params[] = {replication_user(call)};
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(
        call, call->conn, PG_READ,
        "SELECT (rolreplication OR rolsuper) AND rolcanlogin FROM pg_catalog.pg_roles WHERE rolname = $1", 1, params, &rows);
    if (result == CO_DONE)
        *ret = PQntuples(rows) == 0 ? CO_ABSENT : pg_is_true(rows, 0, 0) ? CO_PRESENT : CO_PARTIAL;
    return result;
}

static enum co_result replication_apply(struct co_call *call)
{
    enum co_presence there;
    enum co_result result = replication_probe(call, &there);
    if (result != CO_DONE || there == CO_PRESENT)
        return result;
    if (there == CO_PARTIAL) {
        PG_TEXT sql = {0};
        pg_text_add(&sql, "ALTER ROLE ");
        pg_text_ident(&sql, replication_user(call));
        pg_text_add(&sql, " LOGIN REPLICATION");
        return pg_guarded_setup(call, call->conn, pg_text_str(&sql), NULL);
    }
    return make_role(call, replication_user(call), "LOGIN REPLICATION",
                     call->host->secret(call->ctx, call->side, CO_SECRET_REPLICATION), "changeover: follows the primary");
}

const struct co_step pg_step_setup_replication = {
    .size = sizeof(struct co_step),
    .name = "setup.replication_user",
    .title = "the replication account",
    .phase = CO_PHASE_SETUP,
    .role = CO_SOURCE,
    .flags = CO_STEP_KEEPS | CO_STEP_NO_WAY_BACK,
    .wanted = replication_wanted,
    .describe = replication_describe,
    .probe = replication_probe,
    .apply = replication_apply,
};

/* ---------------------------------------------------------------- the table for real writes */

static enum co_result probe_describe(struct co_call *call, struct co_text *ret)
{
    const char *user = probe_user(call);
    if (user)
        call->host->text_add(call->ctx, ret, "CREATE ROLE \"%s\" LOGIN PASSWORD <password>\n", user);
    call->host->text_add(call->ctx, ret,
                         "in database %s: CREATE TABLE changeover.probe (id int PRIMARY KEY, run text, at timestamptz)\n",
                         pg_url_database(call, call->side));
    if (user)
        call->host->text_add(
            call->ctx, ret,
            "GRANT USAGE ON SCHEMA changeover TO \"%s\"\nGRANT SELECT, INSERT, UPDATE ON changeover.probe TO \"%s\"\n", user,
            user);
    return CO_DONE;
}

static enum co_result url_database(struct co_call *call, struct co_conn **ret, struct co_conn **ret_extra)
{
    *ret_extra = NULL;
    const char *name = pg_url_database(call, call->side);
    if (strcmp(call->conn->database, name) == 0) {
        *ret = call->conn;
        return CO_DONE;
    }
    enum co_result result = pg_connect_to(call, name, ret_extra);
    *ret = *ret_extra;
    return result;
}

static enum co_result role_exists(struct co_call *call, const char *name, bool *ret)
{
    const char *params[] = {name};
    PG_RESULT rows = NULL;
    enum co_result result =
        pg_query(call, call->conn, PG_READ, "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $1", 1, params, &rows);
    *ret = result == CO_DONE && PQntuples(rows) > 0;
    return result;
}

static enum co_result probe_probe(struct co_call *call, enum co_presence *ret)
{
    const char *user = probe_user(call);
    bool role = true;
    *ret = CO_ABSENT;
    enum co_result result = user ? role_exists(call, user, &role) : CO_DONE;
    if (result != CO_DONE || !role)
        return result;
    struct co_conn *conn, *extra;
    result = url_database(call, &conn, &extra);
    if (result != CO_DONE)
        return result;
    const char *params[] = {user ? user : call->conn->user};
    PG_RESULT rows = NULL;
    result = pg_query(call, conn, PG_READ,
                      "SELECT c.oid IS NOT NULL AND pg_catalog.has_table_privilege($1, c.oid, 'INSERT') AND "
                      "pg_catalog.has_table_privilege($1, c.oid, 'UPDATE') "
                      "FROM (SELECT pg_catalog.to_regclass('changeover.probe')::oid AS oid) c",
                      1, params, &rows);
    if (result == CO_DONE)
        *ret = pg_is_true(rows, 0, 0) ? CO_PRESENT : CO_PARTIAL;
    pg_disconnect(extra);
    return result;
}

static enum co_result probe_apply(struct co_call *call)
{
    const char *user = probe_user(call);
    bool role = true;
    enum co_result result = user ? role_exists(call, user, &role) : CO_DONE;
    if (result == CO_DONE && !role)
        result = make_role(call, user, "LOGIN", call->host->secret(call->ctx, call->side, CO_SECRET_PROBE),
                           "changeover: real writes for tests");
    if (result != CO_DONE)
        return result;
    struct co_conn *conn, *extra;
    result = url_database(call, &conn, &extra);
    if (result != CO_DONE)
        return result;
    PG_TEXT sql = {0};
    pg_text_add(&sql, "CREATE SCHEMA IF NOT EXISTS changeover; CREATE TABLE IF NOT EXISTS changeover.probe (id int PRIMARY "
                      "KEY, run text, at timestamptz)");
    if (user) {
        pg_text_add(&sql, "; GRANT USAGE ON SCHEMA changeover TO ");
        pg_text_ident(&sql, user);
        pg_text_add(&sql, "; GRANT SELECT, INSERT, UPDATE ON changeover.probe TO ");
        pg_text_ident(&sql, user);
    }
    result = pg_guarded_setup(call, conn, pg_text_str(&sql), NULL);
    pg_disconnect(extra);
    return result;
}

const struct co_step pg_step_setup_probe = {
    .size = sizeof(struct co_step),
    .name = "setup.probe",
    .title = "an account and a table for real writes",
    .phase = CO_PHASE_SETUP,
    .role = CO_SOURCE,
    .flags = CO_STEP_KEEPS | CO_STEP_NO_WAY_BACK,
    .describe = probe_describe,
    .probe = probe_probe,
    .apply = probe_apply,
};

/* ---------------------------------------------------------------- the slot */

static enum co_result slot_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret, "SELECT pg_create_physical_replication_slot('%s', true)\n",
                         pg_other_slot(pg_other_side(call->side)));
    return CO_DONE;
}

/* A standby that follows without our slot, or with one of its own, is adopted as it is: an unused slot would only
 * pile up log. */
static enum co_result slot_probe(struct co_call *call, enum co_presence *ret)
{
    enum co_result result = pg_step_reverse_slot.probe(call, ret);
    if (result != CO_DONE || *ret == CO_PRESENT || !call->other)
        return result;
    PG_RESULT rows = NULL;
    result = pg_query(call, call->other, PG_READ,
                      "SELECT pg_catalog.pg_is_in_recovery() AND EXISTS (SELECT 1 FROM pg_catalog.pg_stat_wal_receiver WHERE "
                      "status = 'streaming')",
                      0, NULL, &rows);
    if (result == CO_DONE && pg_is_true(rows, 0, 0) && strcmp(call->other->lineage, call->conn->lineage) == 0)
        *ret = CO_PRESENT;
    return CO_DONE;
}

static enum co_result slot_apply(struct co_call *call)
{
    return pg_make_slot(call, true);
}

const struct co_step pg_step_setup_slot = {
    .size = sizeof(struct co_step),
    .name = "setup.slot",
    .title = "a replication slot for the standby",
    .phase = CO_PHASE_SETUP,
    .role = CO_SOURCE,
    .flags = CO_STEP_KEEPS | CO_STEP_NO_WAY_BACK,
    .describe = slot_describe,
    .probe = slot_probe,
    .apply = slot_apply,
};
