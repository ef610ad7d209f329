/* sql.c - the journal's statements, their values and their errors.
 *
 * Invariant: no text reaches the file unmasked. Statements are prepared once and kept, so that a write in the
 * write pause is bind, step, reset.
 */
#include <errno.h>
#include <string.h>

#include "base/secret.h"
#include "journal/internal.h"

#define RUN_COLUMNS                                                                                                            \
    "id, kind, source, epoch, actor, pid, operator_name, host, boot_id, config_hash, version, started_wall_ms, "               \
    "ended_wall_ms, decision, opening, opened, outcome, exit_code, write_pause_ms, unavailable_ms"
#define EVENT_SQL "INSERT INTO event(run, pair, kind, text, actor, wall_ms, ns) VALUES(?, ?, ?, ?, ?, ?, ?)"

static const char *const statement_text[CO_SQL_COUNT] = {
    [CO_SQL_BEGIN] = "BEGIN IMMEDIATE",
    [CO_SQL_COMMIT] = "COMMIT",
    [CO_SQL_ROLLBACK] = "ROLLBACK",
    [CO_SQL_READ_BEGIN] = "BEGIN",
    [CO_SQL_RUN_UNFINISHED] = "SELECT " RUN_COLUMNS " FROM run WHERE ended_wall_ms = 0",
    [CO_SQL_RUN_BY_ID] = "SELECT " RUN_COLUMNS " FROM run WHERE id = ?",
    [CO_SQL_RUN_LAST] = "SELECT " RUN_COLUMNS " FROM run ORDER BY seq DESC LIMIT 1",
    [CO_SQL_RUN_LAST_DONE] = "SELECT " RUN_COLUMNS " FROM run WHERE outcome = 'done' AND ended_wall_ms <> 0"
                             " AND kind IN ('cutover', 'rollback', 'rollback_lost') ORDER BY seq DESC LIMIT 1",
    [CO_SQL_RUN_RESERVED] = "SELECT 1 FROM run WHERE ended_wall_ms = 0 AND reserved <> 0",
    [CO_SQL_RUN_RESERVE] = "UPDATE run SET reserved = 1 WHERE ended_wall_ms = 0",
    [CO_SQL_RUN_OPENED] = "UPDATE run SET opened = 1 WHERE id = ? AND epoch = ? AND ended_wall_ms = 0",
    [CO_SQL_PHASE_BEGIN] = "INSERT INTO phase(run, name, actor, begun_wall_ms, begun_ns) VALUES(?, ?, ?, ?, ?)",
    [CO_SQL_PHASE_END] = "UPDATE phase SET outcome = ?2, error_code = ?3, error_native = ?4, error_message = ?5,"
                         " error_hint = ?6, ended_ns = ?7 WHERE row = ?1",
    [CO_SQL_STEP_BEGIN] = "INSERT INTO step(run, pair, side, phase, step, action, statement, actor, begun_wall_ms, begun_ns)"
                          " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [CO_SQL_STEP_END] = "UPDATE step SET result = ?2, detail = ?3, ended_ns = ?4 WHERE row = ?1",
    [CO_SQL_INTENTS] = "SELECT step FROM step WHERE run = ? AND pair = ? AND action = 'intent' ORDER BY row",
    [CO_SQL_EVENT] = EVENT_SQL,
    [CO_SQL_POSITION] = "INSERT INTO position(run, pair, side, what, position, wall_ms, ns) VALUES(?, ?, ?, ?, ?, ?, ?)",
    [CO_SQL_FACT] = "INSERT INTO fact(run, pair, side, moment, grp, name, value, wall_ms) VALUES(?, ?, ?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET value = excluded.value, wall_ms = excluded.wall_ms",
    [CO_SQL_FINDING] = "INSERT INTO finding(run, pair, side, code, severity, message, remedy, accepted, wall_ms)"
                       " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [CO_SQL_LAG] = "INSERT INTO lag(wall_ms, pair, direction, state, reason, lag_ms, lag_at_least_ms, lag_bytes,"
                   " lag_transactions, primary_position, applied_position) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [CO_SQL_LAG_PRUNE] = "DELETE FROM lag WHERE wall_ms < ?",
    [CO_SQL_LAG_EACH] = "SELECT wall_ms, pair, direction, state, reason, lag_ms, lag_at_least_ms, lag_bytes,"
                        " lag_transactions, primary_position, applied_position FROM lag"
                        " WHERE wall_ms >= ?1 AND (?2 = 0 OR pair = ?3) ORDER BY wall_ms, row",
    [CO_SQL_NOTE_PUT] = "INSERT INTO note(run, pair, side, key, value) VALUES(?, ?, ?, ?, ?)"
                        " ON CONFLICT DO UPDATE SET value = excluded.value",
    [CO_SQL_NOTE_REMOVE] = "DELETE FROM note WHERE run = ? AND pair = ? AND side = ? AND key = ?",
    [CO_SQL_NOTES] = "SELECT side, key, value FROM note WHERE run = ? AND pair = ? ORDER BY row",
    [CO_SQL_IDENTITY_PUT] = "INSERT INTO identity(pair, side, instance, lineage, wall_ms) VALUES(?, ?, ?, ?, ?)"
                            " ON CONFLICT DO UPDATE SET instance = excluded.instance, lineage = excluded.lineage,"
                            " wall_ms = excluded.wall_ms",
    [CO_SQL_IDENTITY] = "SELECT instance, lineage FROM identity WHERE pair = ? AND side = ?",
    [CO_SQL_DUMP_PHASES] = "SELECT row, name, actor, begun_wall_ms, begun_ns, ended_ns, outcome, error_code, error_native,"
                           " error_message, error_hint FROM phase WHERE run = ? ORDER BY row",
    [CO_SQL_DUMP_STEPS] = "SELECT row, pair, side, phase, step, action, statement, actor, begun_wall_ms, begun_ns, ended_ns,"
                          " result, detail FROM step WHERE run = ? ORDER BY row",
    [CO_SQL_DUMP_POSITIONS] = "SELECT pair, side, what, position, wall_ms FROM position WHERE run = ? ORDER BY row",
    [CO_SQL_DUMP_FACTS] = "SELECT pair, side, moment, grp, name, value FROM fact WHERE run = ?"
                          " ORDER BY pair, side, grp, name, moment = 'after'",
    [CO_SQL_DUMP_FINDINGS] =
        "SELECT pair, side, code, severity, message, remedy, accepted FROM finding WHERE run = ? ORDER BY row",
    [CO_SQL_DUMP_EVENTS] = "SELECT pair, kind, text, actor, wall_ms FROM event WHERE run = ? ORDER BY row",
    [CO_SQL_DUMP_PAIRS] = "SELECT p.pair, ia.instance, ia.lineage, ib.instance, ib.lineage FROM"
                          " (SELECT pair FROM step WHERE run = ?1 UNION SELECT pair FROM fact WHERE run = ?1"
                          " UNION SELECT pair FROM position WHERE run = ?1 UNION SELECT pair FROM finding WHERE run = ?1) p"
                          " LEFT JOIN identity ia ON ia.pair = p.pair AND ia.side = 'a'"
                          " LEFT JOIN identity ib ON ib.pair = p.pair AND ib.side = 'b'"
                          " WHERE p.pair <> '' ORDER BY p.pair",
    [CO_SQL_DUMP_MIGRATION] = "SELECT value FROM meta WHERE key = 'migration'",
    [CO_SQL_DUMP_RUNS] = "SELECT " RUN_COLUMNS " FROM run ORDER BY seq",
    [CO_SQL_D_BEGIN] = "BEGIN IMMEDIATE",
    [CO_SQL_D_COMMIT] = "COMMIT",
    [CO_SQL_D_ROLLBACK] = "ROLLBACK",
    [CO_SQL_D_UNFINISHED] = "SELECT " RUN_COLUMNS " FROM run WHERE ended_wall_ms = 0",
    [CO_SQL_D_STANDING] = "SELECT " RUN_COLUMNS " FROM run WHERE id = ?",
    [CO_SQL_D_RUN_NEW] = "INSERT INTO run(id, kind, source, epoch, actor, pid, operator_name, host, boot_id, config_hash,"
                         " version, started_wall_ms) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [CO_SQL_D_TAKE] = "UPDATE run SET epoch = epoch + 1, actor = ?3, pid = ?4 WHERE id = ?1 AND epoch = ?2",
    [CO_SQL_D_DECIDE] = "UPDATE run SET decision = ?3 WHERE id = ?1 AND epoch = ?2",
    [CO_SQL_D_OPENING] = "UPDATE run SET opening = 1 WHERE id = ?1 AND epoch = ?2",
    [CO_SQL_D_END] = "UPDATE run SET outcome = ?3, exit_code = ?4, write_pause_ms = ?5, unavailable_ms = ?6,"
                     " ended_wall_ms = ?7, reserved = 0 WHERE id = ?1 AND epoch = ?2",
    [CO_SQL_D_EVENT] = EVENT_SQL,
};

static sqlite3 *connection_of(const struct co_journal *journal, enum co_sql which)
{
    return which >= CO_SQL_D_BEGIN ? journal->decide : journal->record;
}

static int code_of(int rc, int system_errno)
{
    if (system_errno == ENOSPC || system_errno == EDQUOT)
        return CO_E_SPACE;
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return CO_E_SPACE;
    case SQLITE_NOMEM:
        return CO_E_NOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return CO_E_TIMEOUT;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return CO_E_PRIVILEGE;
    case SQLITE_CANTOPEN:
        return system_errno == EACCES || system_errno == EPERM || system_errno == EROFS ? CO_E_PRIVILEGE : CO_E_IO;
    case SQLITE_CONSTRAINT:
        return CO_E_CONFLICT;
    case SQLITE_ERROR:
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
        return CO_E_INTERNAL;
    default:
        return CO_E_IO;
    }
}

static void hint_for(int code, int rc, const char *path, struct co_error *err)
{
    int primary = rc & 0xff;
    if (primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB)
        co_hint(err,
                "The file is damaged or isn't a journal. Keep a copy with its -wal file, move it away (or restore it from a "
                "backup taken since the last run), and look at the servers with `changeover status`: a run that is marked on "
                "them can be taken over.");
    else if (code == CO_E_SPACE)
        co_hint(err, "Free disk space (or quota) where %s is; the journal needs about 20 MiB for a run.", path);
    else if (code == CO_E_TIMEOUT)
        co_hint(err,
                "Another process keeps the journal locked. See who has it open (`fuser -v %s`) and end it if it is stopped.",
                path);
    else if (code == CO_E_PRIVILEGE)
        co_hint(err, "The journal, its -wal, -shm and .lock files and their folder must be writable by this account.");
    else if (code == CO_E_IO)
        co_hint(err, "Look at the disk and file system that hold %s (`dmesg`).", path);
}

int co_sql_fail(const struct co_journal *journal, sqlite3 *db, int rc, const char *what, struct co_error *err)
{
    int extended = db ? sqlite3_extended_errcode(db) : rc;
    if ((extended & 0xff) != (rc & 0xff))
        extended = rc;
    int system_errno = 0;
    int primary = rc & 0xff;
    if (db && (primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN || primary == SQLITE_FULL))
        system_errno = sqlite3_system_errno(db);
    const char *why = sqlite3_errstr(rc);
    /* SQLite's own text may quote what was being written, so only its schema errors are shown in full. */
    if (db && (primary == SQLITE_ERROR || primary == SQLITE_CORRUPT))
        why = sqlite3_errmsg(db);
    int code = code_of(rc, system_errno);
    co_fail(err, code, "%s in journal %s failed: %s%s%s", what, journal->path, why, system_errno ? ": " : "",
            system_errno ? strerror(system_errno) : "");
    if (err) {
        hint_for(code, rc, journal->path, err);
        sqlite3_snprintf((int)sizeof err->native, err->native, "sqlite %d", extended);
    }
    return code;
}

/* Masks before it cuts: a secret at the cut must not be left as a recognisable half. */
static int bind_text(sqlite3_stmt *statement, int index, const char *text)
{
    if (!text || !text[0])
        return sqlite3_bind_text(statement, index, "", 0, SQLITE_STATIC);
    CO_TEXT_AUTO masked = CO_TEXT_INIT;
    size_t bytes = strlen(text);
    bool cut = false;
    masked.max = CO_JOURNAL_TEXT_MAX * 4;
    if (bytes > CO_JOURNAL_TEXT_MAX * 2) {
        bytes = CO_JOURNAL_TEXT_MAX * 2;
        cut = true;
    }
    co_text_set(&masked, text, bytes);
    co_mask_text(&masked);
    if (masked.overflow)
        return SQLITE_NOMEM;
    if (masked.bytes > CO_JOURNAL_TEXT_MAX) {
        masked.bytes = CO_JOURNAL_TEXT_MAX;
        while (masked.bytes > 0 && ((unsigned char)masked.data[masked.bytes] & 0xc0) == 0x80)
            masked.bytes--; /* not within a UTF-8 character */
        masked.data[masked.bytes] = '\0';
        cut = true;
    }
    if (cut) {
        co_text_add(&masked, "\n[cut]");
        if (masked.overflow)
            return SQLITE_NOMEM;
    }
    return sqlite3_bind_text(statement, index, masked.data, (int)masked.bytes, SQLITE_TRANSIENT);
}

static int prepare(struct co_journal *journal, enum co_sql which, struct co_error *err)
{
    if (journal->statements[which])
        return 0;
    sqlite3 *db = connection_of(journal, which);
    if (!db)
        return co_fail(err, CO_E_INTERNAL, "the journal %s is open for reading only", journal->path);
    int rc = sqlite3_prepare_v3(db, statement_text[which], -1, SQLITE_PREPARE_PERSISTENT, &journal->statements[which], NULL);
    return rc == SQLITE_OK ? 0 : co_sql_fail(journal, db, rc, "preparing a statement", err);
}

int co_sql_bind(struct co_journal *journal, enum co_sql which, sqlite3_stmt **ret, struct co_error *err,
                const struct co_bind *values, size_t count)
{
    int result = prepare(journal, which, err);
    if (result)
        return result;
    sqlite3_stmt *statement = journal->statements[which];
    for (size_t i = 0; i < count; i++) {
        int rc = values[i].is_text ? bind_text(statement, (int)i + 1, values[i].text)
                                   : sqlite3_bind_int64(statement, (int)i + 1, values[i].number);
        if (rc != SQLITE_OK) {
            sqlite3_clear_bindings(statement);
            return co_sql_fail(journal, connection_of(journal, which), rc, "binding a value", err);
        }
    }
    *ret = statement;
    return 0;
}

int co_sql_exec(struct co_journal *journal, enum co_sql which, const char *what, struct co_error *err,
                const struct co_bind *values, size_t count)
{
    sqlite3_stmt *statement;
    int result = co_sql_bind(journal, which, &statement, err, values, count);
    if (result)
        return result;
    int rc = sqlite3_step(statement);
    if ((rc & 0xff) == SQLITE_IOERR)
        journal->sync_failed = true;
    if (rc != SQLITE_DONE && rc != SQLITE_ROW)
        result = co_sql_fail(journal, connection_of(journal, which), rc, what, err);
    sqlite3_reset(statement);
    if (count > 0)
        sqlite3_clear_bindings(statement);
    return result;
}

const char *co_sql_text(sqlite3_stmt *statement, int column)
{
    const unsigned char *text = sqlite3_column_text(statement, column);
    return text ? (const char *)text : "";
}

int co_sql_last_row(struct co_journal *journal, enum co_sql which, sqlite3_stmt *statement, int rc, struct co_error *err)
{
    if (rc == SQLITE_ROW)
        rc = sqlite3_step(statement);
    int result = rc == SQLITE_DONE ? 0 : co_sql_fail(journal, connection_of(journal, which), rc, "reading", err);
    sqlite3_reset(statement);
    return result;
}

int co_sql_prepare_all(struct co_journal *journal, struct co_error *err)
{
    for (int which = 0; which < CO_SQL_COUNT; which++) {
        int result = prepare(journal, (enum co_sql)which, err);
        if (result)
            return result;
    }
    return 0;
}

void co_sql_finalize_all(struct co_journal *journal)
{
    for (int which = 0; which < CO_SQL_COUNT; which++) {
        sqlite3_finalize(journal->statements[which]);
        journal->statements[which] = NULL;
    }
}

void co_journal_lock_mutex(struct co_journal *journal)
{
    pthread_mutex_lock(&journal->mutex);
}

void co_journal_unlock_mutex(struct co_journal **journal)
{
    pthread_mutex_unlock(&(*journal)->mutex);
}
