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

void co_journal_checkpoint_if_due(struct co_journal *journal)
{
    if (!journal->checkpoints || journal->wal_frames < CO_JOURNAL_CHECKPOINT_FRAMES || journal->batch || !journal->record)
        return;
    /* A failure is harmless: the log keeps everything, and the next write tries again. */
    int frames = 0, moved = 0;
    if (sqlite3_wal_checkpoint_v2(journal->record, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames, &moved) == SQLITE_OK &&
        moved == frames)
        journal->wal_frames = 0;
    else
        journal->wal_frames /= 2;
}

int co_journal_checkpoint_full(struct co_journal *journal)
{
    sqlite3_busy_timeout(journal->decide, CO_JOURNAL_CHECKPOINT_BUSY_MS);
    int rc = sqlite3_wal_checkpoint_v2(journal->decide, NULL, SQLITE_CHECKPOINT_FULL, NULL, NULL);
    sqlite3_busy_timeout(journal->decide, CO_JOURNAL_DECIDE_BUSY_MS);
    if (rc == SQLITE_OK)
        journal->sync_failed = false;
    return rc;
}

/* Writes zeros behind the log's end, through SQLite's own file. Recovery stops at the first frame whose salt
 * and checksum don't fit, and overwritten blocks need no allocation. */
static int extend(struct co_journal *journal, struct co_error *err)
{
    sqlite3_file *file = NULL;
    sqlite3_int64 bytes = 0;
    int rc = sqlite3_file_control(journal->record, NULL, SQLITE_FCNTL_JOURNAL_POINTER, &file);
    if (rc != SQLITE_OK || !file || !file->pMethods)
        return co_fail(err, CO_E_INTERNAL, "the log of journal %s is not open", journal->path);
    rc = file->pMethods->xFileSize(file, &bytes);
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
    return co_sql_fail(journal, NULL, rc, "reserving space for a run", err);
}

/* The log begins at its start again, which a reader with an old snapshot prevents. */
static int restart(struct co_journal *journal, struct co_error *err)
{
    int rc = sqlite3_wal_checkpoint_v2(journal->record, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
    if (rc != SQLITE_OK)
        return co_sql_fail(journal, journal->record, rc, "restarting the log", err);
    journal->wal_frames = 0;
    /* The first write restarts it; this one also tells other processes that a run has reserved. */
    int result = co_sql_exec0(journal, CO_SQL_RUN_RESERVE, "reserving space for a run", err);
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
