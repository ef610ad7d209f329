/* probe.c - a real write of an ordinary account, over a connection of its own to a database of the clients, waiting
 * for what a client's write waits for. It goes where the side's connection goes, so a name that was re-pointed meanwhile
 * doesn't lead it elsewhere. */
#include "pg.h"

#include <stdio.h>

enum co_result pg_probe_write(struct co_call *call)
{
    const struct co_host *host = call->host;
    const char *user = host->secret_user(call->ctx, CO_SECRET_PROBE);
    bool ordinary = user && *user;
    struct pg_login login = {
        .database = pg_url_database(call, call->side),
        .user = ordinary ? user : host->endpoint(call->ctx, call->side)->user,
        .password = host->secret(call->ctx, call->side, ordinary ? CO_SECRET_PROBE : CO_SECRET_PASSWORD),
        .application_name = "changeover probe",
        .address = call->conn ? call->conn->address : NULL,
    };
    struct co_conn conn = {0};
    enum co_result result = pg_login(call, &login, &conn.pg);
    if (result != CO_DONE) {
        if (call->err->code == CO_E_STATE)
            call->err->code = CO_E_REFUSED;
        return CO_NO_EFFECT;
    }
    PG_TEXT sql = {0};
    pg_text_add(&sql, "INSERT INTO changeover.probe (id, run, at) VALUES (1, ");
    pg_text_literal(&sql, pg_run_id(call));
    pg_text_add(&sql, ", pg_catalog.now()) ON CONFLICT (id) DO UPDATE SET run = EXCLUDED.run, at = EXCLUDED.at");
    result = pg_query(call, &conn, PG_CHANGE, pg_text_str(&sql), 0, NULL, NULL);
    if (result == CO_EFFECT_UNKNOWN && call->err->code == CO_E_TIMEOUT)
        snprintf(call->err->hint, sizeof call->err->hint, "%s",
                 "A write that isn't acknowledged often waits for a synchronous standby: see synchronous_standby_names on that "
                 "server.");
    else if (result == CO_NO_EFFECT && pg_starts(call->err->native, "42"))
        snprintf(call->err->hint, sizeof call->err->hint, "%s",
                 "Run `changeover setup`: it makes the table changeover.probe and its grants.");
    PQfinish(conn.pg);
    return result;
}
