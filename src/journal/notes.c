/* notes.c - notes of drivers, identities of servers, and samples of lag. */
#include <string.h>

#include "base/clock.h"
#include "journal/internal.h"

int co_journal_note_put(struct co_journal *journal, const char *run, const char *pair, const char *side, const char *key,
                        const char *value, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    if (!value)
        return co_journal_write(journal, CO_SQL_NOTE_REMOVE, "removing a note", err,
                                CO_BINDS(CO_T(run), CO_T(pair), CO_T(side), CO_T(key)));
    return co_journal_write(journal, CO_SQL_NOTE_PUT, "writing a note", err,
                            CO_BINDS(CO_T(run), CO_T(pair), CO_T(side), CO_T(key), CO_T(value)));
}

static void add_string(struct co_text *text, const char *string)
{
    co_text_add_bytes(text, string, strlen(string) + 1);
}

static const char *next_string(const char *string)
{
    return string + strlen(string) + 1;
}

/* Collected first: fn may write to the journal. */
int co_journal_notes(struct co_journal *journal, const char *run, const char *pair,
                     bool (*fn)(const char *side, const char *key, const char *value, void *arg), void *arg,
                     struct co_error *err)
{
    CO_TEXT_AUTO rows = CO_TEXT_INIT;
    rows.max = (size_t)64 << 20;
    {
        CO_JOURNAL_LOCKED(journal);
        sqlite3_stmt *statement;
        int result = co_journal_reopen_if_stale(journal, err);
        if (!result)
            result = co_sql_bind(journal, CO_SQL_NOTES, &statement, err, CO_BINDS(CO_T(run), CO_T(pair)));
        if (result)
            return result;
        int rc;
        while ((rc = sqlite3_step(statement)) == SQLITE_ROW)
            for (int column = 0; column < 3; column++)
                add_string(&rows, co_sql_text(statement, column));
        if (rc != SQLITE_DONE)
            result = co_sql_fail(journal, journal->record, rc, "reading the notes", err);
        sqlite3_reset(statement);
        if (result)
            return result;
        if (rows.overflow)
            return co_fail(err, CO_E_NOMEM, "no memory to read the notes from journal %s", journal->path);
    }
    for (const char *at = rows.data; at && at < rows.data + rows.bytes;) {
        const char *side = at, *key = next_string(side), *value = next_string(key);
        if (!fn(side, key, value, arg))
            break;
        at = next_string(value);
    }
    return 0;
}

int co_journal_identity_put(struct co_journal *journal, const char *pair, const char *side, const char *instance,
                            const char *lineage, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    return co_journal_write(journal, CO_SQL_IDENTITY_PUT, "recording a server's identity", err,
                            CO_BINDS(CO_T(pair), CO_T(side), CO_T(instance), CO_T(lineage), CO_I(co_wall_ms())));
}

int co_journal_identity(struct co_journal *journal, const char *pair, const char *side, struct co_text *ret_instance,
                        struct co_text *ret_lineage, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    sqlite3_stmt *statement;
    int result = co_journal_reopen_if_stale(journal, err);
    if (!result)
        result = co_sql_bind(journal, CO_SQL_IDENTITY, &statement, err, CO_BINDS(CO_T(pair), CO_T(side)));
    if (result)
        return result;
    int rc = sqlite3_step(statement);
    co_text_clear(ret_instance);
    co_text_clear(ret_lineage);
    if (rc == SQLITE_ROW) {
        co_text_set_str(ret_instance, co_sql_text(statement, 0));
        co_text_set_str(ret_lineage, co_sql_text(statement, 1));
    }
    result = co_sql_last_row(journal, CO_SQL_IDENTITY, statement, rc, err);
    if (!result && (ret_instance->overflow || ret_lineage->overflow))
        result = co_fail(err, CO_E_NOMEM, "no memory to read a server's identity from journal %s", journal->path);
    return result;
}

/* ---------------------------------------------------------------- lag */

/* Samples of a bystander aren't worth the write lock while a run may be in its write pause. */
static bool run_in_pause(struct co_journal *journal)
{
    if (journal->lock_fd >= 0)
        return false;
    sqlite3_stmt *statement;
    struct co_error ignored;
    if (co_sql_bind(journal, CO_SQL_RUN_RESERVED, &statement, &ignored, NULL, 0))
        return false;
    bool reserved = sqlite3_step(statement) == SQLITE_ROW;
    sqlite3_reset(statement);
    return reserved;
}

int co_journal_lag(struct co_journal *journal, const struct co_lag_row *row, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    int result = co_journal_write_begin(journal, err);
    if (result || run_in_pause(journal))
        return result;
    int64_t wall_ms = row->wall_ms > 0 ? row->wall_ms : co_wall_ms();
    result = co_journal_write(journal, CO_SQL_LAG, "recording lag", err,
                              CO_BINDS(CO_I(wall_ms), CO_T(row->pair), CO_T(row->direction), CO_T(row->state),
                                       CO_T(row->reason), CO_I(row->lag_ms), CO_I(row->lag_at_least_ms), CO_I(row->lag_bytes),
                                       CO_I(row->lag_transactions), CO_T(row->primary_position), CO_T(row->applied_position)));
    if (result || ++journal->lag_writes < 1000 || !journal->checkpoints)
        return result;
    journal->lag_writes = 0;
    return co_journal_write(journal, CO_SQL_LAG_PRUNE, "removing old samples", err,
                            CO_BINDS(CO_I(wall_ms - CO_JOURNAL_LAG_KEPT_MS)));
}

/* fn runs with the journal's mutex held, as the rows may be many: it must not call the journal. */
int co_journal_lag_each(struct co_journal *journal, const char *pair_or_null, int64_t since_wall_ms,
                        bool (*fn)(const struct co_lag_row *row, void *arg), void *arg, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    sqlite3_stmt *statement;
    int result = co_journal_reopen_if_stale(journal, err);
    if (!result)
        result = co_sql_bind(journal, CO_SQL_LAG_EACH, &statement, err,
                             CO_BINDS(CO_I(since_wall_ms), CO_I(pair_or_null != NULL), CO_T(pair_or_null)));
    if (result)
        return result;
    int rc;
    bool more = true;
    while (more && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
        struct co_lag_row row = {
            .wall_ms = sqlite3_column_int64(statement, 0),
            .pair = co_sql_text(statement, 1),
            .direction = co_sql_text(statement, 2),
            .state = co_sql_text(statement, 3),
            .reason = co_sql_text(statement, 4),
            .lag_ms = sqlite3_column_int64(statement, 5),
            .lag_at_least_ms = sqlite3_column_int64(statement, 6),
            .lag_bytes = sqlite3_column_int64(statement, 7),
            .lag_transactions = sqlite3_column_int64(statement, 8),
            .primary_position = co_sql_text(statement, 9),
            .applied_position = co_sql_text(statement, 10),
        };
        more = fn(&row, arg);
    }
    if (more && rc != SQLITE_DONE)
        result = co_sql_fail(journal, journal->record, rc, "reading lag", err);
    sqlite3_reset(statement);
    return result;
}
