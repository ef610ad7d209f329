/* decisions.c - what decides about a run: begin, take, decide, turn back, opening, end. Each is one
 * transaction with synchronous=FULL on a connection of its own.
 *
 * Invariants
 * - A change is conditional, in its own transaction, on the run not having ended, on its epoch and on the
 *   standing decision. A process that was taken over changes nothing.
 * - Success means that the record is on the disk, even when it repeats one that stands: the one that stands
 *   may have been read from a log whose fsync failed or never came (its writer was killed).
 * - Failure at the COMMIT statement means unknown: the frames may be in the log, and whoever recovers it next
 *   may read them. The next successful decision overwrites exactly those frames, or follows them.
 * - After a failed fsync, and in a take-over (whose predecessor may have met one), the log is written once
 *   more before the commit: Linux counts pages as clean whose fsync failed, so that a later fsync alone would
 *   say nothing about them.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "journal/internal.h"

const char *co_decision_name(enum co_decision decision)
{
    static const char *const names[] = {"none", "deciding", "commit", "undo"};
    return (unsigned)decision < sizeof names / sizeof names[0] ? names[decision] : "unknown";
}

/* ---------------------------------------------------------------- the transaction around a decision */

static void roll_back(struct co_journal *journal)
{
    struct co_error ignored;
    if (!sqlite3_get_autocommit(journal->decide))
        co_sql_exec0(journal, CO_SQL_D_ROLLBACK, "rolling back", &ignored);
}

static int begin(struct co_journal *journal, struct co_error *err)
{
    if (journal->mode != CO_JOURNAL_WRITE)
        return co_fail(err, CO_E_INTERNAL, "the journal %s is open for reading only", journal->path);
    co_journal_flush_batch(journal); /* it would keep the write lock */
    return co_sql_exec0(journal, CO_SQL_D_BEGIN, "deciding", err);
}

/* Any failure here is "unknown", and is CO_E_IO or CO_E_SPACE whatever SQLite calls it. */
static int commit(struct co_journal *journal, const char *what, struct co_error *err)
{
    struct co_error failure;
    co_error_clear(&failure);
    int result = journal->sync_failed ? co_journal_rewrite_log(journal, &failure) : 0;
    if (!result)
        result = co_sql_exec0(journal, CO_SQL_D_COMMIT, what, &failure);
    journal->sync_failed = result != 0;
    if (!result)
        return 0;
    roll_back(journal);
    if (result != CO_E_SPACE)
        result = CO_E_IO;
    failure.code = result;
    co_error_prefix(&failure, "it is unknown whether this counts: ");
    if (err)
        *err = failure;
    return result;
}

/* Reads the run within the transaction; refuses one that ended or isn't at this epoch any more. */
static int standing(struct co_journal *journal, const char *run, int64_t epoch, struct co_run_row *ret, struct co_error *err)
{
    sqlite3_stmt *statement;
    int result = co_sql_bind(journal, CO_SQL_D_STANDING, &statement, err, CO_BINDS(CO_T(run)));
    if (result)
        return result;
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW)
        co_journal_fill_run(statement, ret);
    result = co_sql_last_row(journal, CO_SQL_D_STANDING, statement, rc, err);
    if (result)
        return result;
    if (rc == SQLITE_DONE)
        return co_fail(err, CO_E_STATE, "there is no run %s in journal %s", run, journal->path);
    if (ret->ended_wall_ms != 0)
        return co_fail(err, CO_E_CONFLICT, "run %s has ended already (%s)", run, ret->outcome);
    if (ret->epoch != epoch) {
        co_fail(err, CO_E_CONFLICT, "run %s was taken over by %s (process %lld): it is at epoch %lld, not %lld", run,
                ret->actor, (long long)ret->pid, (long long)ret->epoch, (long long)epoch);
        co_hint(err, "This process can't decide about the run any more. See `changeover status`.");
        return CO_E_CONFLICT;
    }
    return 0;
}

/* The audit's line, in the same transaction as what it tells. */
static int note(struct co_journal *journal, const char *run, const char *text, struct co_error *err)
{
    return co_sql_exec(journal, CO_SQL_D_EVENT, "recording a decision", err,
                       CO_BINDS(CO_T(run), CO_T(""), CO_T("decision"), CO_T(text), CO_T(journal->actor), CO_I(co_wall_ms()),
                                CO_I(co_now_ns())));
}

/* Fault points around a decision: true when the call isn't to be made. *ret_lost: make it, lose its answer. */
static bool fault_before(const char *what, bool *ret_lost, struct co_error *err)
{
    enum co_fault_action action = CO_FAULT("journal.%s:before", what);
    *ret_lost = action == CO_FAULT_LOST || action == CO_FAULT_LATE;
    if (action == CO_FAULT_ERROR)
        co_fail(err, CO_E_IO, "injected fault before journal.%s", what);
    return action == CO_FAULT_ERROR;
}

static int fault_after(const char *what, int result, bool lost, struct co_error *err)
{
    if (result)
        return result;
    if (CO_FAULT("journal.%s:after", what) != CO_FAULT_NONE || lost)
        return co_fail(err, CO_E_IO, "injected fault after journal.%s: its answer is lost", what);
    return 0;
}

/* ---------------------------------------------------------------- begin, take */

static int begin_run(struct co_journal *journal, const struct co_run_row *row, struct co_run_row *ret_other,
                     struct co_error *err)
{
    sqlite3_stmt *statement;
    int result = co_sql_bind(journal, CO_SQL_D_UNFINISHED, &statement, err, NULL, 0);
    if (result)
        return result;
    struct co_run_row other = {0};
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW)
        co_journal_fill_run(statement, &other);
    result = co_sql_last_row(journal, CO_SQL_D_UNFINISHED, statement, rc, err);
    if (result)
        return result;
    if (rc == SQLITE_ROW) {
        char since[40];
        co_wall_format(other.started_wall_ms, since, sizeof since);
        if (ret_other)
            *ret_other = other;
        co_fail(err, CO_E_CONFLICT, "run %s (%s, begun by %s on %s at %s) is unfinished", other.id, other.kind,
                other.operator_name, other.host, since);
        co_hint(err, "Finish it with `changeover resume`, or back out of it with `changeover abort`.");
        return CO_E_CONFLICT;
    }
    int64_t started = row->started_wall_ms > 0 ? row->started_wall_ms : co_wall_ms();
    result = co_sql_exec(journal, CO_SQL_D_RUN_NEW, "beginning a run", err,
                         CO_BINDS(CO_T(row->id), CO_T(row->kind), CO_I(row->source), CO_I(row->epoch), CO_T(row->actor),
                                  CO_I(row->pid), CO_T(row->operator_name), CO_T(row->host), CO_T(row->boot_id),
                                  CO_T(row->config_hash), CO_T(row->version), CO_I(started)));
    return result ? result : note(journal, row->id, "begun", err);
}

int co_journal_begin(struct co_journal *journal, const struct co_run_row *row, struct co_run_row *ret_other,
                     struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    bool lost;
    if (fault_before("begin", &lost, err))
        return CO_E_IO;
    int result = begin(journal, err);
    if (result)
        return result;
    snprintf(journal->actor, sizeof journal->actor, "%s", row->actor);
    result = begin_run(journal, row, ret_other, err);
    if (!result)
        result = commit(journal, "beginning a run", err);
    roll_back(journal);
    return fault_after("begin", result, lost, err);
}

static int take_run(struct co_journal *journal, const char *run, int64_t from, const char *actor, int64_t pid,
                    struct co_error *err)
{
    struct co_run_row row = {0};
    int result = standing(journal, run, from, &row, err);
    if (result)
        return result;
    char text[160];
    snprintf(text, sizeof text, "taken over from %s (process %lld): epoch %lld, decision %s", row.actor, (long long)row.pid,
             (long long)from + 1, co_decision_name(row.decision));
    result =
        co_sql_exec(journal, CO_SQL_D_TAKE, "taking a run over", err, CO_BINDS(CO_T(run), CO_I(from), CO_T(actor), CO_I(pid)));
    return result ? result : note(journal, run, text, err);
}

int co_journal_take(struct co_journal *journal, const char *run, int64_t from, const char *actor, int64_t pid,
                    struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    bool lost;
    if (fault_before("take", &lost, err))
        return CO_E_IO;
    int result = begin(journal, err);
    if (result)
        return result;
    snprintf(journal->actor, sizeof journal->actor, "%s", actor);
    result = take_run(journal, run, from, actor, pid, err);
    if (!result) {
        journal->sync_failed = true;
        result = commit(journal, "taking a run over", err);
    }
    roll_back(journal);
    return fault_after("take", result, lost, err);
}

/* ---------------------------------------------------------------- decide */

static bool allowed(enum co_decision from, enum co_decision to)
{
    return from == to || from == CO_DECISION_NONE ||
           (from == CO_DECISION_DECIDING && (to == CO_DECISION_COMMIT || to == CO_DECISION_UNDO));
}

static int check_time(enum co_decision decision, int64_t not_after_ns, struct co_error *err)
{
    if (decision != CO_DECISION_COMMIT || not_after_ns == 0 || co_now_ns() <= not_after_ns)
        return 0;
    co_fail(err, CO_E_TIMEOUT, "the write pause is over its limit by %lld ms: not committed",
            (long long)((co_now_ns() - not_after_ns) / CO_NS_PER_MS));
    co_hint(err, "See which phase took the time in `changeover report`, or raise `max_write_pause`.");
    return CO_E_TIMEOUT;
}

static int write_decision(struct co_journal *journal, const char *run, int64_t epoch, enum co_decision decision,
                          int64_t not_after_ns, bool force_undo, enum co_decision *ret_standing, struct co_error *err)
{
    struct co_run_row row = {0};
    int result = standing(journal, run, epoch, &row, err);
    if (result)
        return result;
    if (ret_standing)
        *ret_standing = row.decision;
    bool forced = force_undo && decision == CO_DECISION_UNDO && row.decision == CO_DECISION_COMMIT && !row.opening &&
                  strcmp(journal->failed_commit, row.id) == 0;
    if (!allowed(row.decision, decision) && !forced)
        return co_fail(err, CO_E_CONFLICT, "run %s is decided: %s, not %s", run, co_decision_name(row.decision),
                       co_decision_name(decision));
    result = check_time(decision, not_after_ns, err);
    if (result)
        return result;
    char text[80];
    snprintf(text, sizeof text, "%s%s", co_decision_name(decision),
             forced                     ? " (over a commit whose write had failed)"
             : row.decision == decision ? " (again)"
                                        : "");
    result = co_sql_exec(journal, CO_SQL_D_DECIDE, "deciding", err, CO_BINDS(CO_T(run), CO_I(epoch), CO_I(decision)));
    if (!result)
        result = note(journal, run, text, err);
    return result ? result : check_time(decision, not_after_ns, err);
}

int co_journal_decide(struct co_journal *journal, const char *run, int64_t epoch, enum co_decision decision,
                      int64_t not_after_ns, bool force_undo, enum co_decision *ret_standing, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    const char *what = co_decision_name(decision);
    bool lost;
    if (decision < CO_DECISION_DECIDING || decision > CO_DECISION_UNDO)
        return co_fail(err, CO_E_INTERNAL, "decision %d is none", (int)decision);
    if (fault_before(what, &lost, err))
        return CO_E_IO;
    int result = begin(journal, err);
    if (result)
        return result;
    bool written = false;
    result = write_decision(journal, run, epoch, decision, not_after_ns, force_undo, ret_standing, err);
    if (!result) {
        written = true;
        char step[48];
        snprintf(step, sizeof step, "writing the decision \"%s\"", what);
        result = commit(journal, step, err);
    }
    roll_back(journal);
    if (!result && ret_standing)
        *ret_standing = decision;
    result = fault_after(what, result, lost, err);
    if (decision == CO_DECISION_COMMIT && written)
        snprintf(journal->failed_commit, sizeof journal->failed_commit, "%s", result ? run : "");
    return result;
}

static int change(struct co_journal *journal, const char *run, int64_t epoch, enum co_sql which, bool turn_back,
                  struct co_error *err)
{
    struct co_run_row row = {0};
    int result = standing(journal, run, epoch, &row, err);
    if (result)
        return result;
    if (row.decision != CO_DECISION_COMMIT && !(turn_back && row.decision == CO_DECISION_UNDO))
        return co_fail(err, CO_E_CONFLICT, "run %s is not committed (%s)", run, co_decision_name(row.decision));
    if (turn_back && row.opening) {
        co_fail(err, CO_E_CONFLICT, "run %s can't be turned back: the new primary may have been opened", run);
        co_hint(err, "Only `changeover resume` goes on, and forward.");
        return CO_E_CONFLICT;
    }
    if (turn_back)
        result = co_sql_exec(journal, which, "turning back", err, CO_BINDS(CO_T(run), CO_I(epoch), CO_I(CO_DECISION_UNDO)));
    else
        result = co_sql_exec(journal, which, "recording the opening", err, CO_BINDS(CO_T(run), CO_I(epoch)));
    return result ? result
                  : note(journal, run, turn_back ? "turned back: undo, the target is said to be lost" : "opening", err);
}

static int change_durably(struct co_journal *journal, const char *run, int64_t epoch, enum co_sql which, bool turn_back,
                          struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    const char *what = turn_back ? "turn_back" : "opening";
    bool lost;
    if (fault_before(what, &lost, err))
        return CO_E_IO;
    int result = begin(journal, err);
    if (result)
        return result;
    result = change(journal, run, epoch, which, turn_back, err);
    if (!result)
        result = commit(journal, turn_back ? "turning back" : "recording the opening", err);
    roll_back(journal);
    return fault_after(what, result, lost, err);
}

int co_journal_turn_back(struct co_journal *journal, const char *run, int64_t epoch, struct co_error *err)
{
    return change_durably(journal, run, epoch, CO_SQL_D_DECIDE, true, err);
}

int co_journal_opening(struct co_journal *journal, const char *run, int64_t epoch, struct co_error *err)
{
    return change_durably(journal, run, epoch, CO_SQL_D_OPENING, false, err);
}

int co_journal_opened(struct co_journal *journal, const char *run, int64_t epoch, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    int result =
        co_journal_write(journal, CO_SQL_RUN_OPENED, "recording that all is open", err, CO_BINDS(CO_T(run), CO_I(epoch)));
    if (!result && sqlite3_changes(journal->record) == 0)
        return co_fail(err, CO_E_CONFLICT, "run %s is not at epoch %lld any more, or has ended", run, (long long)epoch);
    return result;
}

/* ---------------------------------------------------------------- end */

int co_journal_end(struct co_journal *journal, const char *run, int64_t epoch, const char *outcome, int exit_code,
                   int64_t write_pause_ms, int64_t unavailable_ms, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    bool lost;
    struct co_run_row row = {0};
    if (fault_before("end", &lost, err))
        return CO_E_IO;
    int result = begin(journal, err);
    if (result)
        return result;
    bool unfinished = strcmp(outcome, "unfinished") == 0;
    char text[64];
    snprintf(text, sizeof text, "%s: %.15s, exit code %d", unfinished ? "left" : "ended", outcome, exit_code);
    result = standing(journal, run, epoch, &row, err);
    if (!result)
        result = co_sql_exec(journal, CO_SQL_D_END, "ending a run", err,
                             CO_BINDS(CO_T(run), CO_I(epoch), CO_T(outcome), CO_I(exit_code), CO_I(write_pause_ms),
                                      CO_I(unavailable_ms), CO_I(unfinished ? 0 : co_wall_ms())));
    if (!result)
        result = note(journal, run, text, err);
    if (!result)
        result = commit(journal, "ending a run", err);
    roll_back(journal);
    if (!result) {
        journal->checkpoints = true;
        journal->wal_frames += CO_JOURNAL_CHECKPOINT_FRAMES; /* what the run kept waiting is due now */
        co_journal_checkpoint_if_due(journal);
    }
    return fault_after("end", result, lost, err);
}
