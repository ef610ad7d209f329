/* grants.c - statements that make the tool's accounts. Fences over every database, pg_hba.conf and promotion need a
 * superuser; looking (check, lag, status) does not. */
#include "pg.h"

enum co_result pg_grants(struct co_call *call, struct co_text *ret)
{
    const struct co_host *host = call->host;
    const struct co_endpoint_config *endpoint = host->endpoint(call->ctx, call->side);
    const char *replication = host->secret_user(call->ctx, CO_SECRET_REPLICATION),
               *probe = host->secret_user(call->ctx, CO_SECRET_PROBE);
    PG_TEXT text = {0};
    pg_text_add(
        &text,
        "-- setup, cutover, rollback: refusing connections to every database, closing a standby with its pg_hba.conf and\n"
        "-- promoting it are a superuser's. Make one for the tool, not for people; passwords with \\password in psql.\nCREATE "
        "ROLE ");
    pg_text_ident(&text, endpoint->user && *endpoint->user ? endpoint->user : "changeover");
    pg_text_add(&text, " LOGIN SUPERUSER;\n-- check, lag and status alone\nCREATE ROLE changeover_monitor LOGIN;\n"
                       "GRANT pg_monitor TO changeover_monitor;\nGRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_file(text) TO "
                       "changeover_monitor;\n"
                       "GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules() TO changeover_monitor;\n"
                       "-- the standby's account (setup makes it when it is configured)\nCREATE ROLE ");
    pg_text_ident(&text, replication && *replication ? replication : "changeover_replication");
    pg_text_add(
        &text,
        " LOGIN REPLICATION;\n-- an ordinary account for real writes (setup makes it when it is configured)\nCREATE ROLE ");
    pg_text_ident(&text, probe && *probe ? probe : "changeover_probe");
    pg_text_add(&text, " LOGIN;\n");
    if (text.failed)
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    host->text_set(call->ctx, ret, text.data, text.used);
    return CO_DONE;
}
