/* runs.c - looking up runs. Reading only; what changes a run is in decisions.c. */
#include <stdio.h>
#include <string.h>

#include "journal/internal.h"

#define COPY(to, statement, column) snprintf((to), sizeof(to), "%s", co_sql_text((statement), (column)))

/* Columns as in RUN_COLUMNS of sql.c. */
void co_journal_fill_run(sqlite3_stmt *statement, struct co_run_row *ret)
{
    memset(ret, 0, sizeof *ret);
    COPY(ret->id, statement, 0);
    COPY(ret->kind, statement, 1);
    ret->source = sqlite3_column_int(statement, 2);
    ret->epoch = sqlite3_column_int64(statement, 3);
    COPY(ret->actor, statement, 4);
    ret->pid = sqlite3_column_int64(statement, 5);
    COPY(ret->operator_name, statement, 6);
    COPY(ret->host, statement, 7);
    COPY(ret->boot_id, statement, 8);
    COPY(ret->config_hash, statement, 9);
    COPY(ret->version, statement, 10);
    ret->started_wall_ms = sqlite3_column_int64(statement, 11);
    ret->ended_wall_ms = sqlite3_column_int64(statement, 12);
    ret->decision = (enum co_decision)sqlite3_column_int(statement, 13);
    ret->opening = sqlite3_column_int(statement, 14) != 0;
    ret->opened = sqlite3_column_int(statement, 15) != 0;
    COPY(ret->outcome, statement, 16);
    ret->exit_code = sqlite3_column_int(statement, 17);
    ret->write_pause_ms = sqlite3_column_int64(statement, 18);
    ret->unavailable_ms = sqlite3_column_int64(statement, 19);
}

static int look_up(struct co_journal *journal, enum co_sql which, const char *id, const char *absent, struct co_run_row *ret,
                   struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    sqlite3_stmt *statement;
    int result = co_journal_reopen_if_stale(journal, err);
    if (!result)
        result = co_sql_bind(journal, which, &statement, err, (struct co_bind[]){CO_T(id)}, id ? 1 : 0);
    if (result)
        return result;
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW)
        co_journal_fill_run(statement, ret);
    result = co_sql_last_row(journal, which, statement, rc, err);
    if (!result && rc == SQLITE_DONE)
        result = co_fail(err, CO_E_STATE, "%s in journal %s", absent, journal->path);
    return result;
}

int co_journal_unfinished(struct co_journal *journal, struct co_run_row *ret, struct co_error *err)
{
    return look_up(journal, CO_SQL_RUN_UNFINISHED, NULL, "there is no unfinished run", ret, err);
}

int co_journal_run(struct co_journal *journal, const char *run_or_null_for_last, struct co_run_row *ret, struct co_error *err)
{
    if (!run_or_null_for_last)
        return look_up(journal, CO_SQL_RUN_LAST, NULL, "there is no run", ret, err);
    int result = look_up(journal, CO_SQL_RUN_BY_ID, run_or_null_for_last, "there is no such run", ret, err);
    if (result == CO_E_STATE)
        co_hint(err, "`changeover report --list` names the runs that there are.");
    return result;
}

int co_journal_last_done(struct co_journal *journal, struct co_run_row *ret, struct co_error *err)
{
    return look_up(journal, CO_SQL_RUN_LAST_DONE, NULL, "there is no finished cutover or rollback", ret, err);
}
