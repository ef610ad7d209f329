/* open.c - opening and closing a journal.
 *
 * Invariant: a journal that opens is this migration's, complete, of a schema that this program knows, and in
 * a place where its locks and its fsync mean something. In reading mode nothing is made or changed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal/internal.h"

static int exec(struct co_journal *journal, sqlite3 *db, const char *sql, struct co_error *err)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : co_sql_fail(journal, db, rc, "opening", err);
}

/* SQLite calls this after each commit on a connection: the log's length, for co_journal_checkpoint_if_due. */
static int on_wal(void *arg, sqlite3 *db, const char *name, int frames)
{
    (void)db, (void)name;
    struct co_journal *journal = arg;
    journal->wal_frames = frames;
    return SQLITE_OK;
}

static int connect(struct co_journal *journal, sqlite3 **ret, const char *pragmas, int busy_ms, struct co_error *err)
{
    int rc = sqlite3_open_v2(journal->path, ret, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (rc != SQLITE_OK)
        return co_sql_fail(journal, *ret, rc, "opening", err);
    sqlite3_db_config(*ret, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_busy_timeout(*ret, busy_ms);
    sqlite3_wal_hook(*ret, on_wal, journal); /* replaces the automatic checkpoint */
    return exec(journal, *ret, pragmas, err);
}

static int refuse_orphan(struct co_journal *journal, struct co_error *err)
{
    CO_AUTOFREE char *wal = co_printf("%s-wal", journal->path);
    if (!wal)
        return co_fail(err, CO_E_NOMEM, "no memory to open journal %s", journal->path);
    if (access(wal, F_OK) < 0 || access(journal->path, F_OK) == 0) /* made by another process just now */
        return 0;
    co_fail(err, CO_E_STATE, "journal %s is gone, but its log %s is there", journal->path, wal);
    co_hint(err, "Put the journal back beside it, or move the log away too and look at the servers with `changeover status`.");
    return CO_E_STATE;
}

/* A WAL file on a journal that doesn't say WAL, or the other way round, can't be: PRAGMA answers the mode. */
static int need_wal(struct co_journal *journal, struct co_error *err)
{
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(journal->decide, "PRAGMA journal_mode = WAL", -1, &statement, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(statement);
    bool wal = rc == SQLITE_ROW && strcmp(co_sql_text(statement, 0), "wal") == 0;
    sqlite3_finalize(statement);
    if (wal)
        return 0;
    if (rc != SQLITE_ROW)
        return co_sql_fail(journal, journal->decide, rc, "opening", err);
    return co_fail(err, CO_E_UNSUPPORTED, "journal %s can't use a write-ahead log where it is", journal->path);
}

/* A run that has reserved its space may be in its write pause right now: then nobody checkpoints. */
static int look_for_reserved(struct co_journal *journal, struct co_error *err)
{
    sqlite3_stmt *statement;
    int result = co_sql_bind(journal, CO_SQL_RUN_RESERVED, &statement, err, NULL, 0);
    if (result)
        return result;
    int rc = sqlite3_step(statement);
    journal->checkpoints = rc == SQLITE_DONE;
    sqlite3_reset(statement);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : co_sql_fail(journal, journal->record, rc, "reading", err);
}

static int open_write(struct co_journal *journal, struct co_error *err)
{
    struct stat info;
    int version = 0;
    int result = co_journal_make_folder(journal->path, err);
    if (!result)
        result = co_journal_check_place(journal->path, err);
    if (!result && stat(journal->path, &info) < 0 && errno == ENOENT) {
        if (!journal->migration[0])
            return co_fail(err, CO_E_INTERNAL, "a journal is made only for a named migration");
        result = refuse_orphan(journal, err);
        if (!result)
            result = co_journal_create(journal->path, journal->migration, err);
    }
    if (!result)
        result = co_journal_check_files(journal->path, err);
    if (!result)
        result = connect(journal, &journal->decide, "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY",
                         CO_JOURNAL_DECIDE_BUSY_MS, err);
    if (!result)
        result = co_journal_check_schema(journal->decide, journal->path, journal->migration, &version, err);
    if (!result)
        result = need_wal(journal, err);
    if (!result)
        result = co_journal_upgrade(journal->decide, journal->path, version, err);
    if (!result)
        result = connect(journal, &journal->record, "PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY",
                         CO_JOURNAL_RECORD_BUSY_MS, err);
    if (!result)
        result = co_sql_prepare_all(journal, err);
    if (!result)
        result = look_for_reserved(journal, err);
    if (!result)
        result = co_journal_check_files(journal->path, err); /* -wal and -shm are there now */
    return result;
}

/* "file:" URI of a path: SQLite decodes %HH and ends the name at ? or #. */
static char *immutable_uri(const char *path)
{
    CO_TEXT_AUTO uri = CO_TEXT_INIT;
    char folder[4096];
    co_text_set_str(&uri, "file:");
    if (path[0] != '/') {
        if (!getcwd(folder, sizeof folder))
            return NULL;
        co_text_add(&uri, "%s/", folder);
    }
    for (const char *at = path; *at; at++) {
        if (*at == '?' || *at == '#' || *at == '%')
            co_text_add(&uri, "%%%02X", (unsigned)(unsigned char)*at);
        else
            co_text_add_bytes(&uri, at, 1);
    }
    co_text_add_bytes(&uri, "?immutable=1", 12);
    return uri.overflow ? NULL : co_text_take(&uri);
}

static int64_t mtime_ns(const struct stat *info)
{
    return (int64_t)info->st_mtim.tv_sec * 1000000000 + info->st_mtim.tv_nsec;
}

/* Without a -wal nobody has the journal open (SQLite removes it at the last close) and the file alone is all
 * there is. With one, what the file says may be old. */
static int open_immutable(struct co_journal *journal, struct co_error *err)
{
    CO_AUTOFREE char *wal = co_printf("%s-wal", journal->path);
    CO_AUTOFREE char *uri = immutable_uri(journal->path);
    struct stat info;
    if (!wal || !uri)
        return co_fail(err, CO_E_NOMEM, "no memory to open journal %s", journal->path);
    if (stat(wal, &info) == 0 && info.st_size > 0) {
        co_fail(err, CO_E_PRIVILEGE, "journal %s has a log (-wal) that can't be read from a folder that can't be written",
                journal->path);
        co_hint(err, "Copy the journal and its -wal file to a folder of yours and read it there.");
        return CO_E_PRIVILEGE;
    }
    if (stat(journal->path, &info) < 0)
        return co_fail(err, CO_E_IO, "can't look at journal %s: %s", journal->path, strerror(errno));
    journal->immutable = true;
    journal->immutable_mtime_ns = mtime_ns(&info);
    journal->immutable_bytes = info.st_size;
    int rc = sqlite3_open_v2(uri, &journal->record,
                             SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI | SQLITE_OPEN_EXRESCODE, NULL);
    return rc == SQLITE_OK ? 0 : co_sql_fail(journal, journal->record, rc, "opening", err);
}

/* Opening is lazy: the first read shows whether -wal and -shm can be had. */
static int try_read(struct co_journal *journal)
{
    int rc = sqlite3_open_v2(journal->path, &journal->record,
                             SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (rc != SQLITE_OK)
        return rc;
    sqlite3_busy_timeout(journal->record, CO_JOURNAL_RECORD_BUSY_MS);
    return sqlite3_exec(journal->record, "SELECT 1 FROM sqlite_master LIMIT 1", NULL, NULL, NULL);
}

static int open_read(struct co_journal *journal, struct co_error *err)
{
    struct stat info;
    if (stat(journal->path, &info) < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return co_fail(err, errno == EACCES ? CO_E_PRIVILEGE : CO_E_IO, "can't look at journal %s: %s", journal->path,
                           strerror(errno));
        co_fail(err, CO_E_STATE, "there is no journal at %s", journal->path);
        co_hint(err, "It is made by the first `changeover setup` or `changeover cutover`.");
        return CO_E_STATE;
    }
    int version = 0;
    int result = co_journal_check_place(journal->path, err);
    if (result)
        return result;
    if (access(journal->path, R_OK) < 0) {
        co_fail(err, CO_E_PRIVILEGE, "can't read journal %s: %s", journal->path, strerror(errno));
        co_hint(err, "Journals are private: read it as the account that runs the migration.");
        return CO_E_PRIVILEGE;
    }
    int rc = try_read(journal);
    int primary = rc & 0xff;
    if (primary == SQLITE_CANTOPEN || primary == SQLITE_READONLY) {
        sqlite3_close(journal->record);
        journal->record = NULL;
        result = open_immutable(journal, err);
    } else if (rc != SQLITE_OK) {
        result = co_sql_fail(journal, journal->record, rc, "opening", err);
    }
    if (!result)
        result = exec(journal, journal->record, "PRAGMA temp_store = MEMORY", err);
    if (!result)
        result = co_journal_check_schema(journal->record, journal->path, journal->migration, &version, err);
    return result;
}

int co_journal_reopen_if_stale(struct co_journal *journal, struct co_error *err)
{
    if (!journal->immutable)
        return 0;
    CO_AUTOFREE char *wal = co_printf("%s-wal", journal->path);
    struct stat info;
    if (!wal)
        return co_fail(err, CO_E_NOMEM, "no memory to read journal %s", journal->path);
    if (access(wal, F_OK) < 0 && stat(journal->path, &info) == 0 && mtime_ns(&info) == journal->immutable_mtime_ns &&
        info.st_size == journal->immutable_bytes)
        return 0;
    co_sql_finalize_all(journal);
    sqlite3_close(journal->record);
    journal->record = NULL;
    journal->immutable = false;
    return open_read(journal, err);
}

int co_journal_open(const char *path, const char *migration, enum co_journal_mode mode, struct co_journal **ret,
                    struct co_error *err)
{
    if (!path || !path[0])
        return co_fail(err, CO_E_INTERNAL, "a journal needs a path");
    struct co_journal *journal = calloc(1, sizeof *journal);
    if (!journal)
        return co_fail(err, CO_E_NOMEM, "no memory to open journal %s", path);
    pthread_mutex_init(&journal->mutex, NULL);
    journal->lock_fd = -1;
    journal->mode = mode;
    journal->path = co_strdup(path);
    journal->migration = co_strdup(migration ? migration : "");
    int result;
    if (!journal->path || !journal->migration)
        result = co_fail(err, CO_E_NOMEM, "no memory to open journal %s", path);
    else
        result = mode == CO_JOURNAL_WRITE ? open_write(journal, err) : open_read(journal, err);
    if (result) {
        co_journal_close(journal);
        return result;
    }
    *ret = journal;
    return 0;
}

void co_journal_close(struct co_journal *journal)
{
    if (!journal)
        return;
    struct co_error ignored;
    if (journal->record && journal->mode == CO_JOURNAL_WRITE && !journal->checkpoints)
        look_for_reserved(journal, &ignored); /* another process may have ended the run meanwhile */
    co_sql_finalize_all(journal);
    /* An open batch is rolled back. The last one to close moves the log into the file, but not while a run has
     * reserved its space, nor a log that may not be whole on the disk. */
    if (!journal->checkpoints || journal->sync_failed) {
        if (journal->record)
            sqlite3_db_config(journal->record, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        if (journal->decide)
            sqlite3_db_config(journal->decide, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    }
    sqlite3_close(journal->record);
    sqlite3_close(journal->decide);
    co_journal_release(journal);
    pthread_mutex_destroy(&journal->mutex);
    free(journal->path);
    free(journal->migration);
    free(journal);
}

const char *co_journal_path(const struct co_journal *journal)
{
    return journal->path;
}
