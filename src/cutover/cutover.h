/* cutover.h - the runs: setup, cutover, rollback, resume, abort, detach; and the looks that need both sides:
 * check and status. One session works on all pairs of a migration (or those that -p names).
 *
 * Nothing here prints. Progress goes to session->watch, results into caller-owned structs, the record into
 * the journal. Signals: the caller sets session->interrupted (lock-free, so a handler may) and calls co_session_wake.
 */
#ifndef CO_CUTOVER_CUTOVER_H
#define CO_CUTOVER_CUTOVER_H

#include <stdatomic.h>

#include "changeover/exit_codes.h"
#include "drivers-host/pair.h"
#include "lag/lag.h"

enum co_watch_kind {
    CO_WATCH_PHASE_BEGIN, /* phase */
    CO_WATCH_PHASE_END,   /* phase, ms, text: outcome */
    CO_WATCH_STEP,        /* pair, side, text: the step's title */
    CO_WATCH_WAIT,        /* pair, text: what is waited for */
    CO_WATCH_PROGRESS,    /* pair, progress */
    CO_WATCH_NOTE,        /* text: something people should know */
    CO_WATCH_HOOK         /* text: the hook and its outcome */
};
struct co_watch_event {
    enum co_watch_kind kind;
    const char *phase, *pair, *side, *text;
    int64_t ms;
    const struct co_progress *progress;
};

struct co_session {
    const struct co_config *config;
    struct co_pair **pairs; /* those this command works on */
    size_t pair_count;
    struct co_journal *journal;                                   /* NULL: look-only commands without one */
    bool partial;                                                 /* -p left some out */
    void (*watch)(const struct co_watch_event *event, void *arg); /* or NULL; never blocks */
    void *watch_arg;
    atomic_int interrupted;  /* 0, or the signal: written by its handler, read by every thread */
    int wake_fd;             /* eventfd, made by co_session_open */
    const char *config_path; /* for the guardian */
};

/* Loads drivers for the named pairs (NULL or empty: all), opens nothing else. */
int co_session_open(struct co_session *session, const struct co_config *config, const char *const *pair_names,
                    struct co_error *err);
/* Opens the journal (mode) and gives it to the pairs: notes, identities, which side is the primary. */
int co_session_use_journal(struct co_session *session, enum co_journal_mode mode, struct co_error *err);
void co_session_close(struct co_session *session);
void co_session_wake(struct co_session *session); /* async-signal-safe */

/* ---------------------------------------------------------------- outcomes */

#define CO_MAX_PHASES 24

struct co_phase_result {
    const char *name;    /* static */
    int64_t ms, us;      /* the same, in two units */
    const char *outcome; /* done, failed, skipped */
};
struct co_pair_result {
    const char *name;
    int primary;                          /* enum co_side, or -1 unknown */
    struct co_text position;              /* final position */
    int64_t write_pause_ms, promotion_ms; /* -1 */
};
struct co_run_result {
    enum co_exit exit_code;
    char run[41];
    const char *outcome;                    /* done, refused, undone, unfinished; NULL: not a run */
    int primary;                            /* enum co_side; -1: pairs differ or unknown */
    int64_t write_pause_ms, unavailable_ms; /* -1 */
    struct co_phase_result phases[CO_MAX_PHASES];
    size_t phase_count;
    struct co_pair_result *pairs;
    size_t pair_count;
    struct co_error *errors; /* all that went wrong, the first one first */
    size_t error_count;
};
void co_run_result_done(struct co_run_result *result);

/* ---------------------------------------------------------------- plans */

/* The list that a run executes, the journal records and --dry-run prints. */
struct co_plan_step {
    const char *pair, *side, *phase, *name, *title;
    char *statements; /* one a line */
    bool slow, no_way_back;
};
struct co_plan {
    struct co_plan_step *steps;
    size_t count;
};
void co_plan_done(struct co_plan *plan);
enum co_plan_kind { CO_PLAN_SETUP, CO_PLAN_CUTOVER, CO_PLAN_ROLLBACK, CO_PLAN_ROLLBACK_LOST, CO_PLAN_DETACH };
int co_plan_make(struct co_session *session, enum co_plan_kind kind, struct co_plan *ret, struct co_error *err);

/* ---------------------------------------------------------------- commands */

struct co_run_options {
    int64_t max_write_pause_ms; /* -1: the config's */
    int64_t when_ready_ms;      /* wait for the gate: -1 no, CO_FOREVER without limit */
    bool b_is_lost;             /* rollback, abort: consent given */
    bool take_over;             /* resume, abort: of a run found on the servers that isn't in this journal */
    bool if_needed;             /* resume: nothing to do is fine */
    bool forget;                /* abort: end the run in this journal without touching a server */
    const char *operator_name;
};

/* Each returns the exit code that is also in ret; ret is always filled. */
enum co_exit co_run_setup(struct co_session *session, const struct co_run_options *options, struct co_run_result *ret);
enum co_exit co_run_cutover(struct co_session *session, const struct co_run_options *options, struct co_run_result *ret);
enum co_exit co_run_rollback(struct co_session *session, const struct co_run_options *options, struct co_run_result *ret);
enum co_exit co_run_resume(struct co_session *session, const struct co_run_options *options, struct co_run_result *ret);
enum co_exit co_run_abort(struct co_session *session, const struct co_run_options *options, struct co_run_result *ret);
enum co_exit co_run_detach(struct co_session *session, const struct co_run_options *options, struct co_run_result *ret);

/* rollback --b-is-lost: what the follower has, and the newest position of the primary that this journal knows. */
struct co_lost {
    const char *pair;
    struct co_text applied;           /* "" : not known, see reason */
    struct co_text reason, last_seen; /* last_seen "": none was recorded */
    int64_t last_seen_wall_ms;
    int64_t missing_bytes, missing_transactions; /* of last_seen; -1 unknown */
    bool complete;                               /* all of last_seen is there */
};
void co_lost_look(struct co_session *session, struct co_pair *pair, struct co_lost *ret);
void co_lost_done(struct co_lost *lost);

/* rollback --check: is the way back open, and what would it lose. One text a pair. */
struct co_way_back {
    const char *pair;
    enum co_tristate open;
    struct co_text reason;                 /* why not, or "" */
    int64_t lose_bytes, lose_transactions; /* if B were lost now; -1 unknown */
};
enum co_exit co_check_rollback(struct co_session *session, struct co_way_back **ret, size_t *ret_count, struct co_error *err);

/* The guardian process: argv of the hidden command `guardian`; returns its exit status. */
int co_guardian_main(int argc, char **argv);

/* ---------------------------------------------------------------- looks */

struct co_finding_row {
    char *pair;
    int side; /* enum co_side, -1 */
    char *code, *message, *remedy;
    enum co_severity severity;
    bool accepted;
    bool unmet; /* the side wasn't met: the message says why */
};
struct co_findings {
    struct co_finding_row *rows;
    size_t count;
    enum co_check_stage stage; /* what was checked for; 0: pairs differ */
};
void co_findings_done(struct co_findings *findings);
/* stage 0: picks it (setup while B doesn't follow A, else cutover). Exit: done, no (an unaccepted error, or a
 * warning with strict), unknown (a side wasn't reached). */
enum co_exit co_check(struct co_session *session, enum co_check_stage stage_or_0, bool strict, struct co_findings *ret,
                      struct co_error *err);

/* What is left to whoever has lost the journal of a cutover. */
#define CO_JOURNAL_LOST_HINT                                                                                                   \
    "If that one is lost: exchange a and b in a config with another migration and journal; its `setup` and `cutover` go back."

struct co_side_status {
    bool reached;
    struct co_error error;
    struct co_identity_data identity;
};
struct co_pair_status {
    const char *name, *engine;
    struct co_side_status side[2];
    struct co_link_data link;
    struct co_lag_sample lag;
    bool elsewhere;          /* b is the primary, and the journal doesn't know of it */
    struct co_text next;     /* what to do now */
    struct co_text warnings; /* one a line: log that piles up, ... */
};
struct co_status {
    struct co_pair_status *pairs;
    size_t pair_count;
    bool has_run;   /* an unfinished run */
    bool run_alive; /* its process is still at work */
    struct co_run_row run;
};
void co_status_done(struct co_status *status);
enum co_exit co_status_look(struct co_session *session, struct co_status *ret, struct co_error *err);

#endif
