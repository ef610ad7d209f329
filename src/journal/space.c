/* space.c - the log's space: reserved before the fence, taken back after the run.
 *
 * Invariant: between co_journal_reserve and co_journal_end no write of this run makes the log longer than
 * what is on the disk already, up to CO_JOURNAL_RESERVE_BYTES, so a full disk can't stop a decision, and the
 * fsync of a decision is of data alone. Nobody checkpoints meanwhile: a checkpoint is two more fsyncs.
 */
#include <stdlib.h>
#include <string.h>

#include "journal/internal.h"

#define FILL_BYTES ((int)64 << 10) /* SQLite's Unix VFS takes less than 128 KiB in one write */

/* SQLite's own file object of the log: everything that touches the log goes through it. */
static sqlite3_file *log_file(sqlite3 *db)
{
    sqlite3_file *file = NULL;
    int rc = sqlite3_file_control(db, NULL, SQLITE_FCNTL_JOURNAL_POINTER, &file);
    return rc == SQLITE_OK && file && file->pMethods ? file : NULL;
}

static uint32_t big_endian(const unsigned char *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

#define LOG_HEADER_BYTES 32 /* https://www.sqlite.org/fileformat2.html#the_write_ahead_log */
#define FRAME_HEADER_BYTES 24

/* Header, then frames while they carry the header's salt: all valid ones, and what a failed commit left. */
static int rewrite_log(sqlite3_file *file)
{
    unsigned char header[LOG_HEADER_BYTES];
    sqlite3_int64 bytes = 0;
    int rc = file->pMethods->xFileSize(file, &bytes);
    if (rc != SQLITE_OK || bytes < LOG_HEADER_BYTES)
        return rc;
    rc = file->pMethods->xRead(file, header, LOG_HEADER_BYTES, 0);
    if (rc != SQLITE_OK)
        return rc;
    uint32_t page_bytes = big_endian(header + 8);
    if (page_bytes < 512 || page_bytes > 65536)
        return SQLITE_OK; /* zeros: nothing was ever written */
    int frame_bytes = (int)page_bytes + FRAME_HEADER_BYTES;
    CO_AUTOFREE unsigned char *frame = malloc((size_t)frame_bytes);
    if (!frame)
        return SQLITE_NOMEM;
    rc = file->pMethods->xWrite(file, header, LOG_HEADER_BYTES, 0);
    for (sqlite3_int64 at = LOG_HEADER_BYTES; rc == SQLITE_OK && at + frame_bytes <= bytes; at += frame_bytes) {
        rc = file->pMethods->xRead(file, frame, frame_bytes, at);
        if (rc != SQLITE_OK || memcmp(frame + 8, header + 16, 8) != 0)
            break;
        rc = file->pMethods->xWrite(file, frame, frame_bytes, at);
    }
    return rc;
}

int co_journal_rewrite_log(struct co_journal *journal, struct co_error *err)
{
    sqlite3_file *file = log_file(journal->decide);
    if (!file)
        return co_fail(err, CO_E_INTERNAL, "the log of journal %s is not open", journal->path);
    int rc = rewrite_log(file);
    return rc == SQLITE_OK ? 0 : co_sql_fail(journal, NULL, rc, "writing the log again", err);
}

/* A checkpoint after a failed fsync could move pages into the file whose log never reached the disk; a power cut
 * would then mix old and new. So the log is made whole before. */
static int heal(struct co_journal *journal, struct co_error *err)
{
    if (!journal->sync_failed)
        return 0;
    int result = co_sql_exec0(journal, CO_SQL_D_BEGIN, "syncing the log", err);
    if (result)
        return result;
    result = co_journal_rewrite_log(journal, err);
    sqlite3_file *file = log_file(journal->decide);
    int rc = result || !file ? SQLITE_OK : file->pMethods->xSync(file, SQLITE_SYNC_NORMAL);
    if (rc != SQLITE_OK)
        result = co_sql_fail(journal, NULL, rc, "syncing the log", err);
    struct co_error ignored;
    co_sql_exec0(journal, CO_SQL_D_ROLLBACK, "syncing the log", &ignored);
    journal->sync_failed = result != 0;
    return result;
}

void co_journal_checkpoint_if_due(struct co_journal *journal)
{
    if (!journal->checkpoints || journal->wal_frames < CO_JOURNAL_CHECKPOINT_FRAMES || journal->batch || !journal->record)
        return;
    struct co_error ignored;
    if (heal(journal, &ignored))
        return;
    /* A failure is harmless: the log keeps everything, and the next write tries again. */
    int frames = 0, moved = 0;
    int rc = sqlite3_wal_checkpoint_v2(journal->record, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames, &moved);
    if ((rc & 0xff) == SQLITE_IOERR)
        journal->sync_failed = true;
    if (rc == SQLITE_OK && moved == frames)
        journal->wal_frames = 0;
    else
        journal->wal_frames /= 2;
}

/* Writes zeros behind the log's end, through SQLite's own file. Recovery stops at the first frame whose salt
 * and checksum don't fit, and overwritten blocks need no allocation. */
static int extend(struct co_journal *journal, struct co_error *err)
{
    sqlite3_file *file = log_file(journal->record);
    if (!file)
        return co_fail(err, CO_E_INTERNAL, "the log of journal %s is not open", journal->path);
    sqlite3_int64 bytes = 0;
    int rc = file->pMethods->xFileSize(file, &bytes);
    CO_AUTOFREE char *zeros = calloc(1, FILL_BYTES);
    if (!zeros)
        return co_fail(err, CO_E_NOMEM, "no memory to reserve space for journal %s", journal->path);
    while (rc == SQLITE_OK && bytes < CO_JOURNAL_RESERVE_BYTES) {
        sqlite3_int64 left = CO_JOURNAL_RESERVE_BYTES - bytes;
        int chunk = left < FILL_BYTES ? (int)left : FILL_BYTES;
        rc = file->pMethods->xWrite(file, zeros, chunk, bytes);
        bytes += chunk;
    }
    if (rc == SQLITE_OK)
        rc = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL);
    if (rc == SQLITE_OK)
        return 0;
    journal->sync_failed = true;
    return co_sql_fail(journal, NULL, rc, "reserving space for a run", err);
}

/* The log begins at its start again, which a reader with an old snapshot prevents. */
static int restart(struct co_journal *journal, struct co_error *err)
{
    int result = heal(journal, err);
    if (result)
        return result;
    int rc = sqlite3_wal_checkpoint_v2(journal->record, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
    if ((rc & 0xff) == SQLITE_IOERR)
        journal->sync_failed = true;
    if (rc != SQLITE_OK)
        return co_sql_fail(journal, journal->record, rc, "restarting the log", err);
    journal->wal_frames = 0;
    /* The first write restarts it; this one also tells other processes that a run has reserved. */
    result = co_sql_exec0(journal, CO_SQL_RUN_RESERVE, "reserving space for a run", err);
    if (result)
        return result;
    if (journal->wal_frames > CO_JOURNAL_CHECKPOINT_FRAMES / 4) {
        co_fail(err, CO_E_TIMEOUT, "the log of journal %s can't be restarted: another process is reading (%d pages are kept)",
                journal->path, journal->wal_frames);
        co_hint(err, "End long-running readers of the journal (`fuser -v %s`) and try again.", journal->path);
        return CO_E_TIMEOUT;
    }
    return 0;
}

int co_journal_reserve(struct co_journal *journal, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    if (journal->mode != CO_JOURNAL_WRITE)
        return co_fail(err, CO_E_INTERNAL, "the journal %s is open for reading only", journal->path);
    co_journal_flush_batch(journal);
    int result = restart(journal, err);
    if (result)
        return result;
    /* With the write lock nobody else lengthens the log in between. */
    result = co_sql_exec0(journal, CO_SQL_BEGIN, "reserving space for a run", err);
    if (result)
        return result;
    result = extend(journal, err);
    struct co_error ignored;
    co_sql_exec0(journal, CO_SQL_ROLLBACK, "reserving space for a run", &ignored);
    if (!result)
        journal->checkpoints = false;
    return result;
}
