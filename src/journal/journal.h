/* journal.h - the journal: lock, memory and audit record of one migration, in one SQLite file (WAL).
 *
 * Durability: decisions (begin, take, decide, opening, end) are written with synchronous=FULL on a
 * connection of their own; everything else with NORMAL, without fsync. A failed decision is *unknown*: the
 * caller must get an undo decision durable (co_journal_decide again, which overwrites) before it acts on it.
 *
 * Locking: one run at a time. A run is held by the process that has the OFD lock on "<path>.lock"
 * (co_journal_hold); its actor and epoch stand in the run's row. Taking a run over raises the epoch in the
 * same transaction that checks the old one, and every later decision names its epoch, so a process that was
 * taken over can't decide anything.
 *
 * Never holds a secret: every text is masked on the way in. Files are 0600. Network file systems are
 * refused. Threads: all functions may be called from any thread (one mutex inside).
 * All int functions: 0 or CO_E_*, err filled.
 */
#ifndef CO_JOURNAL_JOURNAL_H
#define CO_JOURNAL_JOURNAL_H

#include <jansson.h>

#include "base/error.h"
#include "base/text.h"

struct co_journal;

enum co_journal_mode { CO_JOURNAL_WRITE, CO_JOURNAL_READ /* works on a read-only file; absent is CO_E_STATE */ };

/* Writing: makes a missing journal (and its folders, 0700) whole or not at all. Refused, each with a hint: a
 * network file system, a file of another owner or open to others, a folder writable by everybody
 * (CO_E_PRIVILEGE, CO_E_UNSUPPORTED), another migration's journal (CO_E_MISMATCH), a newer schema
 * (CO_E_UNSUPPORTED), an empty file, another program's, a -wal whose journal is gone (CO_E_STATE), damage (CO_E_IO).
 * Reading: migration NULL takes any. Works without write access to file and folder; a -wal that can't be
 * read there is refused rather than ignored. */
int co_journal_open(const char *path, const char *migration, enum co_journal_mode mode, struct co_journal **ret,
                    struct co_error *err);
void co_journal_close(struct co_journal *journal);
const char *co_journal_path(const struct co_journal *journal);

/* The process lock. CO_E_CONFLICT when another process holds it (err names pid, since when). Released by
 * co_journal_release, close, or the death of the process. The guardian gets it by inheriting lock_fd. */
int co_journal_hold(struct co_journal *journal, struct co_error *err);
int co_journal_lock_fd(const struct co_journal *journal); /* -1: not held */
/* In the guardian: takes over the inherited descriptor (owned by the journal from now on, FD_CLOEXEC). CO_E_STATE:
 * not this journal's lock file; CO_E_CONFLICT: not the inherited lock. The spawner clears FD_CLOEXEC in the child. */
int co_journal_adopt_lock(struct co_journal *journal, int lock_fd);
void co_journal_release(struct co_journal *journal);

/* ---- runs ---- */

enum co_decision {
    CO_DECISION_NONE = 0,
    CO_DECISION_DECIDING = 1, /* the pair that can't vote is being promoted: its server is the decision */
    CO_DECISION_COMMIT = 2,
    CO_DECISION_UNDO = 3
};

struct co_run_row {
    char id[41];
    char kind[16]; /* cutover, rollback, setup, detach */
    int source;    /* enum co_side */
    int64_t epoch;
    char actor[25]; /* who holds it now */
    int64_t pid;
    char operator_name[64], host[128]; /* who began it, where */
    char boot_id[40];
    char config_hash[33];
    char version[32];                       /* of the program */
    int64_t started_wall_ms, ended_wall_ms; /* 0: not ended */
    enum co_decision decision;
    bool opening;                           /* an open may have been sent */
    bool opened;                            /* every pair was seen open */
    char outcome[16];                       /* "", done, refused, undone, unfinished; left: another run went on with it */
    int exit_code;                          /* -1 while it runs */
    int64_t write_pause_ms, unavailable_ms; /* -1 */
};

/* Begins a run (durable). CO_E_CONFLICT when another one isn't ended: *ret_other is filled. */
int co_journal_begin(struct co_journal *journal, const struct co_run_row *row, struct co_run_row *ret_other,
                     struct co_error *err);
/* The run that isn't ended. CO_E_STATE: there is none. */
int co_journal_unfinished(struct co_journal *journal, struct co_run_row *ret, struct co_error *err);
int co_journal_run(struct co_journal *journal, const char *run_or_null_for_last, struct co_run_row *ret, struct co_error *err);
/* The last run that ended done, of kind cutover, rollback or rollback_lost: says which side is the primary now. */
int co_journal_last_done(struct co_journal *journal, struct co_run_row *ret, struct co_error *err);
/* Takes a run over: epoch from -> from + 1. CO_E_CONFLICT when it isn't at `from` any more. Durable. */
int co_journal_take(struct co_journal *journal, const char *run, int64_t from, const char *actor, int64_t pid,
                    struct co_error *err);
/* Decides, durably. Allowed: NONE -> any; DECIDING -> COMMIT or UNDO; and each to itself (made durable again).
 * A run that has ended, or is at another epoch, is CO_E_CONFLICT. CO_E_TIMEOUT: not decided (too late, or the
 * file was locked for 5 s). Anything else is CO_E_CONFLICT with the standing decision in *ret_standing. CO_E_IO or
 * CO_E_SPACE: unknown until a later call succeeds - then force_undo may overwrite a COMMIT that this same
 * process wrote and saw fail. not_after_ns: a COMMIT after this moment is refused with CO_E_TIMEOUT (0: none). */
int co_journal_decide(struct co_journal *journal, const char *run, int64_t epoch, enum co_decision decision,
                      int64_t not_after_ns, bool force_undo, enum co_decision *ret_standing, struct co_error *err);
/* abort --b-is-lost: COMMIT -> UNDO, only while `opening` is false. */
int co_journal_turn_back(struct co_journal *journal, const char *run, int64_t epoch, struct co_error *err);
/* Durable: set before the first open is sent. */
int co_journal_opening(struct co_journal *journal, const char *run, int64_t epoch, struct co_error *err);
int co_journal_opened(struct co_journal *journal, const char *run, int64_t epoch, struct co_error *err); /* not fsynced */
/* Durable. Outcome "unfinished" is noted, and the run stays the unfinished one; every other outcome ends it. */
int co_journal_end(struct co_journal *journal, const char *run, int64_t epoch, const char *outcome, int exit_code,
                   int64_t write_pause_ms, int64_t unavailable_ms, struct co_error *err);

/* Reserves space for all writes of a pause so that a full disk is met before the fence: extends the WAL,
 * restarts it, and turns automatic checkpoints off until co_journal_end. Call it after co_journal_begin, in
 * warm_up: it syncs. CO_E_SPACE; CO_E_TIMEOUT when another process reads an old state all the time. */
int co_journal_reserve(struct co_journal *journal, struct co_error *err);

/* ---- what happened (NORMAL) ---- */

/* Groups the writes until commit into one transaction; sync: with FULL. Not nested. All or nothing, but for one
 * case: a decision that comes in between ends the batch first, keeping what it has so far, and later writes
 * stand alone. Writes of other threads meanwhile are part of it. */
int co_journal_batch(struct co_journal *journal, bool sync, struct co_error *err);
int co_journal_batch_end(struct co_journal *journal, struct co_error *err);

int co_journal_phase_begin(struct co_journal *journal, const char *run, const char *phase, int64_t *ret_row,
                           struct co_error *err);
int co_journal_phase_end(struct co_journal *journal, int64_t row, const char *outcome, const struct co_error *failure,
                         struct co_error *err);
struct co_step_row {
    const char *pair;
    const char *side; /* "a", "b", "" */
    const char *phase;
    const char *step;      /* "fence.deny_connections", "capture", "hook:switch[0]" */
    const char *action;    /* intent, apply, revert, probe, call, hook */
    const char *statement; /* exact, masked */
};
int co_journal_step_begin(struct co_journal *journal, const char *run, const struct co_step_row *step, int64_t *ret_row,
                          struct co_error *err);
/* result: done, no_effect, effect_unknown, absent, present, partial, ...; detail: output or error */
int co_journal_step_end(struct co_journal *journal, int64_t row, const char *result, const char *detail, struct co_error *err);
/* The intents of a run for one pair, oldest first: fn returns false to stop. */
int co_journal_intents(struct co_journal *journal, const char *run, const char *pair, bool (*fn)(const char *step, void *arg),
                       void *arg, struct co_error *err);
/* Free text for the audit: "guardian took over", "fault injected", "operator sent SIGINT". */
int co_journal_event(struct co_journal *journal, const char *run, const char *pair, const char *kind, const char *text,
                     struct co_error *err);
int co_journal_position(struct co_journal *journal, const char *run, const char *pair, const char *side, const char *what,
                        const char *position, struct co_error *err);
/* Facts before and after: moment "before" or "after"; settings(), identify(), digests. */
int co_journal_fact(struct co_journal *journal, const char *run, const char *pair, const char *side, const char *moment,
                    const char *group, const char *name, const char *value, struct co_error *err);
int co_journal_finding(struct co_journal *journal, const char *run, const char *pair, const char *side, const char *code,
                       int severity, const char *message, const char *remedy, bool accepted, struct co_error *err);

struct co_lag_row {
    int64_t wall_ms;
    const char *pair, *direction, *state, *reason;
    int64_t lag_ms, lag_at_least_ms, lag_bytes, lag_transactions; /* -1: unknown */
    const char *primary_position, *applied_position;
};
/* Kept for 31 days. While a run is between reserve and end, samples of processes without the lock are dropped. */
int co_journal_lag(struct co_journal *journal, const struct co_lag_row *row, struct co_error *err);
/* The samples since wall_ms, oldest first, of one pair or (NULL) of all: rows are valid during fn, which
 * must not call the journal. */
int co_journal_lag_each(struct co_journal *journal, const char *pair_or_null, int64_t since_wall_ms,
                        bool (*fn)(const struct co_lag_row *row, void *arg), void *arg, struct co_error *err);

/* ---- notes and identities ---- */

/* run "" : pair scope. value NULL removes. */
int co_journal_note_put(struct co_journal *journal, const char *run, const char *pair, const char *side, const char *key,
                        const char *value, struct co_error *err);
int co_journal_notes(struct co_journal *journal, const char *run, const char *pair,
                     bool (*fn)(const char *side, const char *key, const char *value, void *arg), void *arg,
                     struct co_error *err);
/* The instance, lineage recorded for a side of a pair; "" when none yet. */
int co_journal_identity_put(struct co_journal *journal, const char *pair, const char *side, const char *instance,
                            const char *lineage, struct co_error *err);
int co_journal_identity(struct co_journal *journal, const char *pair, const char *side, struct co_text *ret_instance,
                        struct co_text *ret_lineage, struct co_error *err);

/* ---- reading for report, history, dashboard ---- */

/* One run with everything in it, or NULL run: the last; a new reference. The shape is the JSON document
 * "changeover.report/1" without its envelope: migration, run, phases[], steps[], positions[], facts[], findings[],
 * events[], pairs[]. */
int co_journal_dump(struct co_journal *journal, const char *run_or_null, json_t **ret, struct co_error *err);
int co_journal_list_runs(struct co_journal *journal, json_t **ret, struct co_error *err);

#endif
