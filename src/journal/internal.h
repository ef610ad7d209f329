/* internal.h - what the files of the journal share. Nothing outside src/journal includes it.
 *
 * Invariants: every function that touches a connection runs with the mutex held. Every text that is written
 * goes through co_sql_* with CO_T, which masks it. The decision connection has synchronous=FULL, the record
 * connection NORMAL (FULL only during a synced batch), and neither ever checkpoints by itself.
 */
#ifndef CO_JOURNAL_INTERNAL_H
#define CO_JOURNAL_INTERNAL_H

#include <pthread.h>
#include <sqlite3.h>

#include "journal/journal.h"

#define CO_JOURNAL_APPLICATION_ID 0x43484f56 /* "CHOV" */
#define CO_JOURNAL_SCHEMA_VERSION 1
#define CO_JOURNAL_RESERVE_BYTES ((sqlite3_int64)8 << 20)
#define CO_JOURNAL_CHECKPOINT_FRAMES 1000
#define CO_JOURNAL_RECORD_BUSY_MS 2000
#define CO_JOURNAL_DECIDE_BUSY_MS 5000
#define CO_JOURNAL_TEXT_MAX ((size_t)256 << 10) /* one stored text; what is beyond is cut and said */
#define CO_JOURNAL_LAG_KEPT_MS (INT64_C(31) * 24 * 3600 * 1000)

/* Every statement there is, in sql.c. Those from CO_SQL_D_BEGIN on belong to the decision connection. */
enum co_sql {
    CO_SQL_BEGIN,
    CO_SQL_COMMIT,
    CO_SQL_ROLLBACK,
    CO_SQL_READ_BEGIN,
    CO_SQL_RUN_UNFINISHED,
    CO_SQL_RUN_BY_ID,
    CO_SQL_RUN_LAST,
    CO_SQL_RUN_LAST_DONE,
    CO_SQL_RUN_RESERVED,
    CO_SQL_RUN_RESERVE,
    CO_SQL_RUN_OPENED,
    CO_SQL_PHASE_BEGIN,
    CO_SQL_PHASE_END,
    CO_SQL_STEP_BEGIN,
    CO_SQL_STEP_END,
    CO_SQL_INTENTS,
    CO_SQL_EVENT,
    CO_SQL_POSITION,
    CO_SQL_FACT,
    CO_SQL_FINDING,
    CO_SQL_LAG,
    CO_SQL_LAG_PRUNE,
    CO_SQL_LAG_EACH,
    CO_SQL_NOTE_PUT,
    CO_SQL_NOTE_REMOVE,
    CO_SQL_NOTES,
    CO_SQL_IDENTITY_PUT,
    CO_SQL_IDENTITY,
    CO_SQL_DUMP_PHASES,
    CO_SQL_DUMP_STEPS,
    CO_SQL_DUMP_POSITIONS,
    CO_SQL_DUMP_FACTS,
    CO_SQL_DUMP_FINDINGS,
    CO_SQL_DUMP_EVENTS,
    CO_SQL_DUMP_PAIRS,
    CO_SQL_DUMP_MIGRATION,
    CO_SQL_DUMP_RUNS,
    CO_SQL_D_BEGIN,
    CO_SQL_D_COMMIT,
    CO_SQL_D_ROLLBACK,
    CO_SQL_D_UNFINISHED,
    CO_SQL_D_STANDING,
    CO_SQL_D_RUN_NEW,
    CO_SQL_D_TAKE,
    CO_SQL_D_DECIDE,
    CO_SQL_D_OPENING,
    CO_SQL_D_END,
    CO_SQL_D_EVENT,
    CO_SQL_COUNT
};

struct co_journal {
    pthread_mutex_t mutex;
    char *path, *migration;
    enum co_journal_mode mode;
    sqlite3 *record; /* synchronous=NORMAL; the only one in reading mode */
    sqlite3 *decide; /* synchronous=FULL */
    sqlite3_stmt *statements[CO_SQL_COUNT];
    char actor[25]; /* this process in the run, after begin or take */

    bool immutable; /* reading mode, in a folder where no -shm can be made */
    int64_t immutable_mtime_ns, immutable_bytes;

    bool batch, batch_sync;
    bool batch_broken; /* a write in it failed: all of it is rolled back, and the end says so */
    struct co_error batch_error;

    bool checkpoints; /* false from reserve (or adopt_lock) to end */
    int wal_frames;   /* in the log after the last write of this process */
    int lag_writes;

    char failed_commit[41]; /* the run whose COMMIT this process wrote and saw fail */
    bool sync_failed;       /* an fsync failed: the next decision writes the log once more */

    int lock_fd;
    int lock_slot; /* this process' line in the lock file */
};

void co_journal_lock_mutex(struct co_journal *journal);
void co_journal_unlock_mutex(struct co_journal **journal);
/* Holds the mutex to the end of the block. */
#define CO_JOURNAL_LOCKED(journal)                                                                                             \
    __attribute__((cleanup(co_journal_unlock_mutex))) struct co_journal *co_locked = (journal);                                \
    co_journal_lock_mutex(co_locked)

/* ---- sql.c ---- */

struct co_bind {
    bool is_text;
    const char *text; /* NULL is stored as "" */
    int64_t number;
};
#define CO_T(value) ((struct co_bind){.is_text = true, .text = (value)})
#define CO_I(value) ((struct co_bind){.number = (value)})
#define CO_BINDS(...)                                                                                                          \
    (const struct co_bind[]){__VA_ARGS__}, sizeof((const struct co_bind[]){__VA_ARGS__}) / sizeof(struct co_bind)

/* Turns SQLite's result into a co_error: "<what> in journal <path> failed: <why>", with what to do. */
int co_sql_fail(const struct co_journal *journal, sqlite3 *db, int rc, const char *what, struct co_error *err);
/* The statement, prepared on first use, reset and with its values bound. */
int co_sql_bind(struct co_journal *journal, enum co_sql which, sqlite3_stmt **ret, struct co_error *err,
                const struct co_bind *values, size_t count);
/* Runs a statement that returns nothing. ret_code (or NULL): SQLite's result. */
int co_sql_exec(struct co_journal *journal, enum co_sql which, const char *what, struct co_error *err,
                const struct co_bind *values, size_t count);
#define co_sql_exec0(journal, which, what, err) co_sql_exec(journal, which, what, err, NULL, 0)
const char *co_sql_text(sqlite3_stmt *statement, int column); /* never NULL; until the next step */
/* Ends a statement that has at most one row, after its columns were read: only the next step tells that there was
 * no memory for a column, which co_sql_text has shown as "". `rc` is the first step's. Resets. */
int co_sql_last_row(struct co_journal *journal, enum co_sql which, sqlite3_stmt *statement, int rc, struct co_error *err);
int co_sql_prepare_all(struct co_journal *journal, struct co_error *err);
void co_sql_finalize_all(struct co_journal *journal);

/* ---- open.c, files.c, schema.c ---- */

int co_journal_reopen_if_stale(struct co_journal *journal, struct co_error *err); /* immutable files only */
int co_journal_check_place(const char *path, struct co_error *err);               /* file system, folder */
int co_journal_make_folder(const char *path, struct co_error *err);
int co_journal_check_files(const char *path, struct co_error *err); /* owner and mode */
int co_journal_check_schema(sqlite3 *db, const char *path, const char *migration, int *ret_version, struct co_error *err);
int co_journal_upgrade(sqlite3 *db, const char *path, int version, struct co_error *err);
/* Makes a complete journal beside `path` and moves it there; somebody else having been faster is fine. */
int co_journal_create(const char *path, const char *migration, struct co_error *err);
int co_journal_sync_folder(const char *path);

/* ---- record.c, space.c, runs.c ---- */

/* Around one write, or several that belong together: refuses reading mode and a broken batch. */
int co_journal_write_begin(struct co_journal *journal, struct co_error *err);
int co_journal_write(struct co_journal *journal, enum co_sql which, const char *what, struct co_error *err,
                     const struct co_bind *values, size_t count);
/* Ends an open batch early: a decision can't wait for it. A failure is told at its co_journal_batch_end. */
void co_journal_flush_batch(struct co_journal *journal);
/* Moves the log into the database file when it has grown and no run forbids it. */
void co_journal_checkpoint_if_due(struct co_journal *journal);
/* Writes the log's bytes once more, in place, so that the next fsync is about all of them: after a failed
 * fsync Linux counts pages as clean that never reached the disk. Within a transaction of `decide`. */
int co_journal_rewrite_log(struct co_journal *journal, struct co_error *err);
void co_journal_fill_run(sqlite3_stmt *statement, struct co_run_row *ret);

const char *co_decision_name(enum co_decision decision);

#endif
