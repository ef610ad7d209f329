/* schema.c - the tables, how a journal is made, recognised and brought up to date.
 *
 * Invariant: a journal is complete or absent. It is built in a file beside its place and moved there, so
 * that neither a second process nor a kill ever shows a half-made one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "journal/internal.h"

/* One script a version; the index is the version it starts from. Never change one that was released. */
static const char *const schema_scripts[CO_JOURNAL_SCHEMA_VERSION] = {
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE run(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, source INTEGER NOT NULL,"
    " epoch INTEGER NOT NULL, actor TEXT NOT NULL, pid INTEGER NOT NULL, operator_name TEXT NOT NULL, host TEXT NOT NULL,"
    " boot_id TEXT NOT NULL, config_hash TEXT NOT NULL, version TEXT NOT NULL, started_wall_ms INTEGER NOT NULL,"
    " ended_wall_ms INTEGER NOT NULL DEFAULT 0, decision INTEGER NOT NULL DEFAULT 0 CHECK(decision BETWEEN 0 AND 3),"
    " opening INTEGER NOT NULL DEFAULT 0, opened INTEGER NOT NULL DEFAULT 0, reserved INTEGER NOT NULL DEFAULT 0,"
    " outcome TEXT NOT NULL DEFAULT '', exit_code INTEGER NOT NULL DEFAULT -1,"
    " write_pause_ms INTEGER NOT NULL DEFAULT -1, unavailable_ms INTEGER NOT NULL DEFAULT -1);"
    /* One run at a time, whatever the code does. */
    "CREATE UNIQUE INDEX run_unfinished ON run(ended_wall_ms) WHERE ended_wall_ms = 0;"
    "CREATE TABLE phase(row INTEGER PRIMARY KEY, run TEXT NOT NULL, name TEXT NOT NULL, actor TEXT NOT NULL,"
    " begun_wall_ms INTEGER NOT NULL, begun_ns INTEGER NOT NULL, ended_ns INTEGER, outcome TEXT NOT NULL DEFAULT '',"
    " error_code INTEGER NOT NULL DEFAULT 0, error_native TEXT NOT NULL DEFAULT '', error_message TEXT NOT NULL DEFAULT '',"
    " error_hint TEXT NOT NULL DEFAULT '');"
    "CREATE TABLE step(row INTEGER PRIMARY KEY, run TEXT NOT NULL, pair TEXT NOT NULL, side TEXT NOT NULL,"
    " phase TEXT NOT NULL, step TEXT NOT NULL, action TEXT NOT NULL, statement TEXT NOT NULL, actor TEXT NOT NULL,"
    " begun_wall_ms INTEGER NOT NULL, begun_ns INTEGER NOT NULL, ended_ns INTEGER, result TEXT NOT NULL DEFAULT '',"
    " detail TEXT NOT NULL DEFAULT '');"
    /* Partial, so that what is written in the write pause touches one page. */
    "CREATE INDEX step_intent ON step(run, pair) WHERE action = 'intent';"
    "CREATE TABLE event(row INTEGER PRIMARY KEY, run TEXT NOT NULL, pair TEXT NOT NULL, kind TEXT NOT NULL,"
    " text TEXT NOT NULL, actor TEXT NOT NULL, wall_ms INTEGER NOT NULL, ns INTEGER NOT NULL);"
    "CREATE TABLE position(row INTEGER PRIMARY KEY, run TEXT NOT NULL, pair TEXT NOT NULL, side TEXT NOT NULL,"
    " what TEXT NOT NULL, position TEXT NOT NULL, wall_ms INTEGER NOT NULL, ns INTEGER NOT NULL);"
    "CREATE TABLE fact(row INTEGER PRIMARY KEY, run TEXT NOT NULL, pair TEXT NOT NULL, side TEXT NOT NULL,"
    " moment TEXT NOT NULL, grp TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, wall_ms INTEGER NOT NULL,"
    " UNIQUE(run, pair, side, moment, grp, name));"
    "CREATE TABLE finding(row INTEGER PRIMARY KEY, run TEXT NOT NULL, pair TEXT NOT NULL, side TEXT NOT NULL,"
    " code TEXT NOT NULL, severity INTEGER NOT NULL, message TEXT NOT NULL, remedy TEXT NOT NULL,"
    " accepted INTEGER NOT NULL, wall_ms INTEGER NOT NULL);"
    "CREATE TABLE lag(row INTEGER PRIMARY KEY, wall_ms INTEGER NOT NULL, pair TEXT NOT NULL, direction TEXT NOT NULL,"
    " state TEXT NOT NULL, reason TEXT NOT NULL, lag_ms INTEGER NOT NULL, lag_at_least_ms INTEGER NOT NULL,"
    " lag_bytes INTEGER NOT NULL, lag_transactions INTEGER NOT NULL, primary_position TEXT NOT NULL,"
    " applied_position TEXT NOT NULL);"
    "CREATE INDEX lag_time ON lag(wall_ms);"
    "CREATE TABLE note(row INTEGER PRIMARY KEY, run TEXT NOT NULL, pair TEXT NOT NULL, side TEXT NOT NULL,"
    " key TEXT NOT NULL, value TEXT NOT NULL, UNIQUE(run, pair, side, key));"
    "CREATE TABLE identity(pair TEXT NOT NULL, side TEXT NOT NULL, instance TEXT NOT NULL, lineage TEXT NOT NULL,"
    " wall_ms INTEGER NOT NULL, PRIMARY KEY(pair, side)) WITHOUT ROWID;",
};

static void finalize(sqlite3_stmt **statement)
{
    sqlite3_finalize(*statement);
}
#define STATEMENT_AUTO __attribute__((cleanup(finalize))) sqlite3_stmt

static int fail(sqlite3 *db, const char *path, int rc, const char *what, struct co_error *err)
{
    struct co_journal named = {.path = (char *)(uintptr_t)path};
    return co_sql_fail(&named, db, rc, what, err);
}

static int exec(sqlite3 *db, const char *path, const char *sql, const char *what, struct co_error *err)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : fail(db, path, rc, what, err);
}

static int read_int(sqlite3 *db, const char *path, const char *sql, int *ret, struct co_error *err)
{
    STATEMENT_AUTO *statement = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(statement);
    if (rc != SQLITE_ROW)
        return fail(db, path, rc, "reading the header", err);
    *ret = sqlite3_column_int(statement, 0);
    return 0;
}

static int check_migration(sqlite3 *db, const char *path, const char *migration, struct co_error *err)
{
    STATEMENT_AUTO *statement = NULL;
    int rc = sqlite3_prepare_v2(db, "SELECT value FROM meta WHERE key = 'migration'", -1, &statement, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(statement);
    if (rc != SQLITE_ROW)
        return fail(db, path, rc == SQLITE_DONE ? SQLITE_CORRUPT : rc, "reading the migration's name", err);
    const char *name = co_sql_text(statement, 0);
    if (migration && migration[0] && strcmp(name, migration) != 0) {
        co_fail(err, CO_E_MISMATCH, "journal %s belongs to migration \"%s\", not to \"%s\"", path, name, migration);
        co_hint(err,
                "Give each migration a journal of its own: set `journal:` in the config, or `migration: %s` if it was renamed.",
                name);
        return CO_E_MISMATCH;
    }
    return 0;
}

int co_journal_check_schema(sqlite3 *db, const char *path, const char *migration, int *ret_version, struct co_error *err)
{
    int application = 0, version = 0;
    int result = read_int(db, path, "PRAGMA application_id", &application, err);
    if (!result)
        result = read_int(db, path, "PRAGMA user_version", &version, err);
    if (result)
        return result;
    if (application != CO_JOURNAL_APPLICATION_ID || version < 1) {
        co_fail(err, CO_E_STATE, "%s is not a journal of changeover", path);
        co_hint(err, "Set `journal:` in the config to another path, or remove the file if nobody needs it.");
        return CO_E_STATE;
    }
    if (version > CO_JOURNAL_SCHEMA_VERSION) {
        co_fail(err, CO_E_UNSUPPORTED, "journal %s has schema %d, this program knows up to %d", path, version,
                CO_JOURNAL_SCHEMA_VERSION);
        co_hint(err, "A newer changeover wrote it: use that version, also to end a run that it began.");
        return CO_E_UNSUPPORTED;
    }
    *ret_version = version;
    return check_migration(db, path, migration, err);
}

int co_journal_upgrade(sqlite3 *db, const char *path, int version, struct co_error *err)
{
    if (version >= CO_JOURNAL_SCHEMA_VERSION)
        return 0;
    int result = exec(db, path, "BEGIN IMMEDIATE", "locking for an upgrade", err);
    if (!result)
        result = read_int(db, path, "PRAGMA user_version", &version, err); /* somebody may have been faster */
    for (; !result && version < CO_JOURNAL_SCHEMA_VERSION; version++)
        result = exec(db, path, schema_scripts[version], "upgrading the schema", err);
    if (!result) {
        char sql[64];
        snprintf(sql, sizeof sql, "PRAGMA user_version = %d", CO_JOURNAL_SCHEMA_VERSION);
        result = exec(db, path, sql, "upgrading the schema", err);
    }
    if (!result)
        result = exec(db, path, "COMMIT", "upgrading the schema", err);
    if (!sqlite3_get_autocommit(db))
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return result;
}

static int write_meta(sqlite3 *db, const char *path, const char *migration, struct co_error *err)
{
    STATEMENT_AUTO *statement = NULL;
    int rc = sqlite3_prepare_v2(db, "INSERT INTO meta(key, value) VALUES('migration', ?1), ('created_wall_ms', ?2)", -1,
                                &statement, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_text(statement, 1, migration, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(statement, 2, co_wall_ms());
    if (rc == SQLITE_OK)
        rc = sqlite3_step(statement);
    return rc == SQLITE_DONE ? 0 : fail(db, path, rc, "writing the header", err);
}

/* Fills the empty file `temporary`; afterwards it has no -wal and is synced. */
static int build(const char *temporary, const char *migration, struct co_error *err)
{
    sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(temporary, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    int result = rc == SQLITE_OK ? 0 : fail(db, temporary, rc, "making the file", err);
    char head[160];
    snprintf(head, sizeof head, "PRAGMA synchronous = FULL; PRAGMA journal_mode = WAL; PRAGMA application_id = %d",
             CO_JOURNAL_APPLICATION_ID);
    if (!result)
        result = exec(db, temporary, head, "making the file", err);
    if (!result)
        result = co_journal_upgrade(db, temporary, 0, err);
    if (!result)
        result = write_meta(db, temporary, migration, err);
    if (!result) /* into the file itself: the -wal has the temporary's name and doesn't come along */
        result = exec(db, temporary, "PRAGMA wal_checkpoint(TRUNCATE)", "making the file", err);
    rc = sqlite3_close(db);
    if (!result && rc != SQLITE_OK)
        result = fail(NULL, temporary, rc, "closing the file", err);
    return result;
}

/* A name that exists is never replaced: whoever came first made the journal. */
static int move_there(const char *temporary, const char *path)
{
    if (renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno == EINVAL || errno == ENOSYS) { /* this file system hasn't got it */
        if (link(temporary, path) < 0)
            return errno;
        unlink(temporary);
        return 0;
    }
    return errno;
}

int co_journal_create(const char *path, const char *migration, struct co_error *err)
{
    CO_AUTOFREE char *temporary = co_printf("%s.new-%ld-%lld", path, (long)getpid(), (long long)co_now_ns());
    if (!temporary)
        return co_fail(err, CO_E_NOMEM, "no memory to make journal %s", path);
    int fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        int saved = errno;
        int code = saved == ENOSPC || saved == EDQUOT                    ? CO_E_SPACE
                   : saved == EACCES || saved == EPERM || saved == EROFS ? CO_E_PRIVILEGE
                                                                         : CO_E_IO;
        co_fail(err, code, "can't make journal %s: %s", path, strerror(saved));
        co_hint(err, "Set `journal:` in the config to a path in a folder that this account can write to.");
        return code;
    }
    close(fd);
    int result = build(temporary, migration, err);
    if (!result) {
        int moved = move_there(temporary, path);
        if (moved == 0 && co_journal_sync_folder(path) < 0)
            result = co_fail(err, CO_E_IO, "can't sync the folder of journal %s: %s", path, strerror(errno));
        else if (moved != 0 && moved != EEXIST)
            result = co_fail(err, CO_E_IO, "can't move the new journal to %s: %s", path, strerror(moved));
        else if (moved == 0)
            return 0;
    }
    CO_AUTOFREE char *wal = co_printf("%s-wal", temporary);
    CO_AUTOFREE char *shm = co_printf("%s-shm", temporary);
    unlink(temporary);
    if (wal)
        unlink(wal);
    if (shm)
        unlink(shm);
    return result;
}
