/* record.c - what happened, written as it happens: batches, phases, steps, events, positions, facts, findings.
 *
 * Invariant: each write is one transaction of its own, or part of the open batch, and none waits for the disk
 * (but a synced batch). What a process wrote before it was killed is there; what it wrote before the machine
 * lost power is there up to the last decision or synced batch.
 */
#include <string.h>

#include "base/clock.h"
#include "journal/internal.h"

static int set_synchronous(struct co_journal *journal, bool full, struct co_error *err)
{
    int rc =
        sqlite3_exec(journal->record, full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : co_sql_fail(journal, journal->record, rc, "beginning a batch", err);
}

static void roll_back(struct co_journal *journal)
{
    struct co_error ignored;
    if (!sqlite3_get_autocommit(journal->record))
        co_sql_exec0(journal, CO_SQL_ROLLBACK, "rolling back", &ignored);
}

int co_journal_write_begin(struct co_journal *journal, struct co_error *err)
{
    if (journal->mode != CO_JOURNAL_WRITE)
        return co_fail(err, CO_E_INTERNAL, "the journal %s is open for reading only", journal->path);
    if (journal->batch && journal->batch_broken) {
        if (err)
            *err = journal->batch_error;
        return journal->batch_error.code;
    }
    return 0;
}

int co_journal_write(struct co_journal *journal, enum co_sql which, const char *what, struct co_error *err,
                     const struct co_bind *values, size_t count)
{
    int result = co_journal_write_begin(journal, err);
    if (result)
        return result;
    struct co_error failure;
    co_error_clear(&failure);
    result = co_sql_exec(journal, which, what, &failure, values, count);
    if (result && journal->batch) {
        /* A batch is all or nothing, and some errors have rolled it back already. */
        journal->batch_broken = true;
        journal->batch_error = failure;
        roll_back(journal);
    }
    if (result && err)
        *err = failure;
    if (!result)
        co_journal_checkpoint_if_due(journal);
    return result;
}

/* Leaves batch_broken as it is, or sets it: only the owner's co_journal_batch_end clears it. */
void co_journal_flush_batch(struct co_journal *journal)
{
    if (!journal->batch)
        return;
    if (!journal->batch_broken && co_sql_exec0(journal, CO_SQL_COMMIT, "committing a batch", &journal->batch_error))
        journal->batch_broken = true;
    roll_back(journal);
    struct co_error ignored;
    if (journal->batch_sync)
        set_synchronous(journal, false, &ignored);
    journal->batch = journal->batch_sync = false;
    co_journal_checkpoint_if_due(journal);
}

int co_journal_batch(struct co_journal *journal, bool sync, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    if (journal->batch)
        return co_fail(err, CO_E_INTERNAL, "a batch is open already in journal %s", journal->path);
    journal->batch_broken = false;
    int result = co_journal_write_begin(journal, err);
    if (!result && sync)
        result = set_synchronous(journal, true, err);
    if (!result)
        result = co_sql_exec0(journal, CO_SQL_BEGIN, "beginning a batch", err);
    struct co_error ignored;
    if (result && sync)
        set_synchronous(journal, false, &ignored);
    journal->batch = result == 0;
    journal->batch_sync = journal->batch && sync;
    return result;
}

int co_journal_batch_end(struct co_journal *journal, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    co_journal_flush_batch(journal);
    if (!journal->batch_broken)
        return 0;
    journal->batch_broken = false;
    if (err)
        *err = journal->batch_error;
    return journal->batch_error.code;
}

int co_journal_phase_begin(struct co_journal *journal, const char *run, const char *phase, int64_t *ret_row,
                           struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    int result =
        co_journal_write(journal, CO_SQL_PHASE_BEGIN, "recording a phase", err,
                         CO_BINDS(CO_T(run), CO_T(phase), CO_T(journal->actor), CO_I(co_wall_ms()), CO_I(co_now_ns())));
    if (!result && ret_row)
        *ret_row = sqlite3_last_insert_rowid(journal->record);
    return result;
}

int co_journal_phase_end(struct co_journal *journal, int64_t row, const char *outcome, const struct co_error *failure,
                         struct co_error *err)
{
    static const struct co_error none = {.code = 0};
    const struct co_error *why = failure ? failure : &none;
    CO_JOURNAL_LOCKED(journal);
    return co_journal_write(journal, CO_SQL_PHASE_END, "recording a phase", err,
                            CO_BINDS(CO_I(row), CO_T(outcome), CO_I(why->code), CO_T(why->native), CO_T(why->message),
                                     CO_T(why->hint), CO_I(co_now_ns())));
}

int co_journal_step_begin(struct co_journal *journal, const char *run, const struct co_step_row *step, int64_t *ret_row,
                          struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    int result = co_journal_write(journal, CO_SQL_STEP_BEGIN, "recording a step", err,
                                  CO_BINDS(CO_T(run), CO_T(step->pair), CO_T(step->side), CO_T(step->phase), CO_T(step->step),
                                           CO_T(step->action), CO_T(step->statement), CO_T(journal->actor), CO_I(co_wall_ms()),
                                           CO_I(co_now_ns())));
    if (!result && ret_row)
        *ret_row = sqlite3_last_insert_rowid(journal->record);
    return result;
}

int co_journal_step_end(struct co_journal *journal, int64_t row, const char *result, const char *detail, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    return co_journal_write(journal, CO_SQL_STEP_END, "recording a step", err,
                            CO_BINDS(CO_I(row), CO_T(result), CO_T(detail), CO_I(co_now_ns())));
}

/* Collected first: fn may write to the journal. */
int co_journal_intents(struct co_journal *journal, const char *run, const char *pair, bool (*fn)(const char *step, void *arg),
                       void *arg, struct co_error *err)
{
    CO_TEXT_AUTO names = CO_TEXT_INIT;
    {
        CO_JOURNAL_LOCKED(journal);
        sqlite3_stmt *statement;
        int result = co_journal_reopen_if_stale(journal, err);
        if (!result)
            result = co_sql_bind(journal, CO_SQL_INTENTS, &statement, err, CO_BINDS(CO_T(run), CO_T(pair)));
        if (result)
            return result;
        int rc;
        while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
            const char *name = co_sql_text(statement, 0);
            co_text_add_bytes(&names, name, strlen(name) + 1);
        }
        if (rc != SQLITE_DONE)
            result = co_sql_fail(journal, journal->record, rc, "reading the intents", err);
        sqlite3_reset(statement);
        if (result)
            return result;
        if (names.overflow)
            return co_fail(err, CO_E_NOMEM, "no memory to read the intents from journal %s", journal->path);
    }
    for (size_t at = 0; at < names.bytes; at += strlen(names.data + at) + 1)
        if (!fn(names.data + at, arg))
            break;
    return 0;
}

int co_journal_event(struct co_journal *journal, const char *run, const char *pair, const char *kind, const char *text,
                     struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    return co_journal_write(
        journal, CO_SQL_EVENT, "recording an event", err,
        CO_BINDS(CO_T(run), CO_T(pair), CO_T(kind), CO_T(text), CO_T(journal->actor), CO_I(co_wall_ms()), CO_I(co_now_ns())));
}

int co_journal_position(struct co_journal *journal, const char *run, const char *pair, const char *side, const char *what,
                        const char *position, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    return co_journal_write(
        journal, CO_SQL_POSITION, "recording a position", err,
        CO_BINDS(CO_T(run), CO_T(pair), CO_T(side), CO_T(what), CO_T(position), CO_I(co_wall_ms()), CO_I(co_now_ns())));
}

int co_journal_fact(struct co_journal *journal, const char *run, const char *pair, const char *side, const char *moment,
                    const char *group, const char *name, const char *value, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    return co_journal_write(
        journal, CO_SQL_FACT, "recording a fact", err,
        CO_BINDS(CO_T(run), CO_T(pair), CO_T(side), CO_T(moment), CO_T(group), CO_T(name), CO_T(value), CO_I(co_wall_ms())));
}

int co_journal_finding(struct co_journal *journal, const char *run, const char *pair, const char *side, const char *code,
                       int severity, const char *message, const char *remedy, bool accepted, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    return co_journal_write(journal, CO_SQL_FINDING, "recording a finding", err,
                            CO_BINDS(CO_T(run), CO_T(pair), CO_T(side), CO_T(code), CO_I(severity), CO_T(message), CO_T(remedy),
                                     CO_I(accepted), CO_I(co_wall_ms())));
}
