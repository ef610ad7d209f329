/* run.h - a run at work: what the phases of src/cutover/ share. Internal to the folder.
 *
 * Invariants
 *   - A phase's action acts on all lanes (pairs) at once and returns when all are done with it.
 *   - Before the commit every endpoint call is bounded by run->pause_deadline_ns once the pause has begun.
 *   - Whatever changes a server goes through co_steps_apply / co_steps_revert, which record it.
 *   - The second endpoints belong to an actor of their own ("tool-1u"), so that an undo can end every session
 *     that the phases used, with whatever still hangs in it, and work on.
 */
#ifndef CO_CUTOVER_RUN_H
#define CO_CUTOVER_RUN_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/text.h"
#include "cutover/cutover.h"

#define CO_CONNECT_NS (10 * CO_NS_PER_S)   /* one connection or one look outside the pause */
#define CO_CALL_NS (30 * CO_NS_PER_S)      /* one call outside the pause */
#define CO_SLOW_CALL_NS (60 * CO_NS_PER_S) /* one call of a slow step; it answers CO_AGAIN and goes on */
#define CO_WARM_UP_NS (300 * CO_NS_PER_S)  /* all of a phase outside the pause */

/* Note on a side: what incarnation() said when the run began. */
#define CO_NOTE_INCARNATION "core.incarnation"

struct co_runner;

struct co_lane { /* one pair in the run */
    struct co_runner *run;
    struct co_pair *pair;
    struct co_endpoint *main[2];   /* by role */
    struct co_endpoint *second[2]; /* by role */
    struct co_capabilities caps;
    struct co_text instance[2];              /* by side, as met */
    struct co_text position;                 /* captured */
    char **statements;                       /* by step index: described in warm_up; NULL: not wanted or not described */
    bool *wanted;                            /* by step index */
    struct co_error error;                   /* of the phase under way */
    int result;                              /* 0 or error.code */
    _Atomic enum co_exit refuse_exit;        /* the exit code a refusal of this lane stands for; 0: CO_EXIT_NO. Both
                                                sides of a lane are met at once */
    int64_t fence_ns, open_ns, promotion_ns; /* stamps; promotion is a duration; 0: not yet */
    bool opened;
    bool marked;       /* setup: a server may hold the run's marker */
    bool source_held;  /* undo: a lost connection to the source ends the try */
    bool source_back;  /* undo: the source takes writes again */
    bool target_clean; /* undo: the target is as before */
    bool target_final; /* undo: the target can't be made as before; it stays closed until a setup */
};

struct co_runner {
    struct co_session *session;
    const struct co_run_options *options;
    struct co_journal *journal;
    struct co_run_row row;
    struct co_run identity; /* points into the buffers below */
    char token[64], actor[25], session_name[96];
    enum co_side source;
    struct co_lane *lanes;
    size_t lane_count;
    struct co_crew *crew; /* two threads a lane */
    struct co_run_result *result;
    struct co_gate_wait *gate;    /* during the phase gate */
    struct co_guardian *guardian; /* in the tool: the other process; NULL: none */
    bool is_guardian;
    bool rebooted;       /* the machine of the journal was restarted since the run began */
    bool source_lost;    /* rollback --b-is-lost: there is no source */
    bool follows_up;     /* only what comes after the opening: the source may be down */
    bool pairs_have_run; /* the pairs know the run */
    bool marking;        /* a server may hold the run's marker */
    bool in_pause, switched;
    atomic_bool committed; /* read by the watcher: nothing is interrupted any more */
    bool begun;            /* the journal has the run */
    bool warmed;           /* intents are durable: steps may have been applied */
    int64_t pause_begin_ns, pause_end_ns, pause_deadline_ns, switch_end_ns;
    int64_t undo_deadline_ns;
    const char *pause_limited_by; /* the pair whose max_write_pause counts; NULL: the cutover's */
    const char *phase;            /* name of the phase under way */
    size_t follow_ups;            /* failures after the commit */
    atomic_bool undoing;          /* until every source is back */
    atomic_bool cancelled;        /* interrupted before the commit, or the guardian died */
    pthread_t watcher;
    bool watching;
    int watcher_fd;          /* ends the watcher */
    int watched_guardian_fd; /* the guardian as it was when the watcher started; -1: none */
    pthread_mutex_t mutex;   /* result->errors */
};

/* ---- runner.c ---- */
int co_runner_init(struct co_runner *run, struct co_session *session, const struct co_run_options *options, enum co_side source,
                   const char *kind, struct co_run_result *result, struct co_error *err);
void co_runner_done(struct co_runner *run);
/* Gives the pairs the run with this actor and the row's epoch. */
int co_runner_identify(struct co_runner *run, const char *actor, struct co_error *err);
void co_runner_note(struct co_runner *run, const struct co_error *err); /* adds to result->errors; thread-safe */
void co_runner_say(struct co_runner *run, const char *pair, enum co_watch_kind kind, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* fn on all lanes at once; 0 when all returned 0, else the first lane's error, all of them noted. */
int co_lanes_each(struct co_runner *run, int (*fn)(struct co_lane *lane));
/* The same with one thread for each side of each lane. */
int co_sides_each(struct co_runner *run, int (*fn)(struct co_lane *lane, enum co_run_role role, struct co_error *err));
int64_t co_run_deadline(const struct co_runner *run, int64_t at_most_ns); /* now + at_most, never past the pause's */
int co_run_cancelled(struct co_runner *run, struct co_error *err);        /* 0, or why the run must not go on */
int co_lane_fail(struct co_lane *lane, enum co_result result);            /* lane->error is filled; returns a code != 0 */
void co_runner_hold(struct co_runner *run, bool hold);
void co_runner_interruptible(struct co_runner *run, bool main_endpoints_too);
int co_lanes_open(struct co_runner *run, struct co_error *err); /* makes endpoints, not connections */
void co_lane_listen(struct co_lane *lane,
                    struct co_endpoint *ep); /* shows the progress of its calls until its sink is set anew */
int co_lanes_connect_second(struct co_runner *run);
void co_lanes_reset_second(struct co_runner *run);
int co_watcher_start(struct co_runner *run, struct co_error *err);
void co_watcher_stop(struct co_runner *run);
int co_watcher_again(struct co_runner *run, struct co_error *err); /* with what there is to watch now */
struct co_endpoint *co_lane_other(struct co_lane *lane, const struct co_step *step, struct co_endpoint *ep, bool second);

/* ---- steps.c ---- */
int co_lane_describe(struct co_lane *lane, struct co_error *err); /* wanted, statements, intents into the journal */
int co_steps_apply(struct co_lane *lane, enum co_phase phase, enum co_run_role role, bool second, int64_t deadline_ns);
/* Goes on through lost replies and lost connections: for what is decided. Errors in a row end it after patience_ns, and those
 * that time doesn't mend at once; CO_FOREVER: only the deadline does. */
int co_steps_insist(struct co_lane *lane, enum co_phase phase, enum co_run_role role, int64_t deadline_ns, int64_t patience_ns);
/* Reverts what isn't absent, backwards, through the second endpoint; goes on through errors until the deadline. */
int co_steps_revert(struct co_lane *lane, enum co_phase phase, enum co_run_role role, int64_t deadline_ns);

/* ---- markers.c ---- */
int co_markers_set(struct co_runner *run);         /* lock: none (or of an ended run) -> ours */
int co_marker_for_setup(struct co_lane *lane);     /* as far as the servers can hold one yet */
int co_markers_update_info(struct co_runner *run); /* notes into the markers */
int co_marker_free(struct co_lane *lane, enum co_run_role role, struct co_error *err); /* CO_E_CONFLICT: another run's */
void co_markers_remove(struct co_runner *run, enum co_run_role role);                  /* best effort; failures are noted */
/* One side: whatever epoch of this run -> our token; then ends the other processes' sessions. No marker there means
 * that this process removed it, or that somebody ended the run from elsewhere: what that is, the caller says. */
enum co_when_absent {
    CO_ABSENT_IS_SET,  /* set ours */
    CO_ABSENT_IS_LEFT, /* leave it so: *ret_absent; nothing may be changed there */
    CO_ABSENT_IS_CONFLICT
};
int co_marker_take(struct co_lane *lane, enum co_run_role role, enum co_when_absent when_absent, bool *ret_absent,
                   int64_t deadline_ns, struct co_error *err);

/* ---- phases ---- */
int co_do_lock(struct co_runner *run);
int co_do_check(struct co_runner *run);
int co_do_gate(struct co_runner *run);
int co_do_warm_up(struct co_runner *run);
int co_do_fence(struct co_runner *run);
int co_do_drain(struct co_runner *run);
int co_do_capture(struct co_runner *run);
int co_do_catch_up(struct co_runner *run);
int co_do_prove(struct co_runner *run);
int co_do_reverse_prepare(struct co_runner *run);
int co_do_promote(struct co_runner *run);
int co_do_commit(struct co_runner *run);
int co_do_open(struct co_runner *run);
int co_do_switch(struct co_runner *run);
int co_do_confirm(struct co_runner *run);
int co_do_reverse(struct co_runner *run);

/* The one pair that can't be promoted closed, or NULL. */
struct co_lane *co_deciding_lane(struct co_runner *run);
int co_ask_decider(struct co_runner *run, struct co_lane *lane, int64_t deadline_ns);

/* ---- undo.c, execute.c ---- */
/* Back to the source. refused: nothing a client noticed had happened. Ends the run in the journal. */
enum co_exit co_undo(struct co_runner *run, bool refused, enum co_exit refuse_exit);
/* From a phase of the table to its end. */
enum co_exit co_execute(struct co_runner *run, enum co_phase from);
/* Runs the phases after `open`; returns the exit code and ends the run. */
enum co_exit co_finish(struct co_runner *run);

/* The tool's second connections take the run over from its first ones; done before is fine. */
int co_become_undoer(struct co_runner *run, struct co_error *err);

/* ---- capabilities.c ---- */
/* Into the journal, so that who takes the run over knows them whatever is down, and out of it; else from a server. */
int co_capabilities_keep(struct co_lane *lane, struct co_error *err);
int co_capabilities_load(struct co_lane *lane);

/* ---- takeover.c ---- */
/* Makes this process the run's: journal, then actor and token. Decision and all else is in run->row after. */
int co_take_over(struct co_runner *run, const char *actor, struct co_error *err);
/* This process lost the run to another one: waits a while for that one's outcome. True: *run->result has it. */
bool co_await_other(struct co_runner *run);
/* Undo or forward, as the journal says. */
enum co_exit co_settle(struct co_runner *run);

/* ---- commands.c ---- */
/* The phases after `open` once more, as a run of their own. */
enum co_exit co_run_follow_up(struct co_session *session, const struct co_run_options *options, enum co_side source,
                              struct co_run_result *ret);
/* The standing of a follow-up from its first moment on: committed, opened. */
int co_follow_up_decide(struct co_runner *run, struct co_error *err);
/* Ends a run in this journal, without touching a server. */
enum co_exit co_abandon(struct co_session *session, const struct co_run_row *row, struct co_run_result *ret);
/* Holds the journal and begins the run there; notes why not. Returns 0 or the exit code of the refusal. */
enum co_exit co_begin(struct co_runner *run, struct co_error *err);

/* ---- setup.c ---- */
/* Ends a setup or detach that was left; what it did stays and is found again by the next one. Its markers go. */
enum co_exit co_abandon_steps(struct co_session *session, const struct co_run_options *options, const struct co_run_row *row,
                              struct co_run_result *ret);

/* ---- hooks.c ---- */
int co_hooks_run(struct co_runner *run, const struct co_hooks *hooks, const char *phase, enum co_side side, int64_t deadline_ns,
                 struct co_error *err);

/* ---- audit.c ---- */
void co_audit_facts(struct co_runner *run, const char *moment); /* "before", "after" */
/* A described statement as it is executed now: what stands for the run and its token becomes theirs. NULL counts as "". */
void co_audit_resolve(const struct co_runner *run, const char *described, struct co_text *ret);

/* ---- check.c ---- */
/* One server in two places of the run, where the engine can't tell them apart: CO_E_CONFIG, noted. */
int co_compare_instances(struct co_runner *run);
bool co_run_alive(const struct co_run_row *row); /* its process is still at work, on this machine */
int co_check_refuses(struct co_lane *lane, enum co_check_stage stage, const struct co_error *unmet_or_null);

/* ---- lost.c ---- */
int co_lost_is_gone(struct co_lane *lane, struct co_error *err); /* 0, or why the source can't be taken for lost */

/* ---- scope.c ---- */
/* A systemd scope of its own for the process; true: it is seen in it. */
bool co_scope_enter(long pid, const char *run);
/* Is there one thing whose stop ends this process and the guardian together? *ret_with: "this is a container", ... */
bool co_scope_shared(bool own_scope, struct co_text *ret_with);

/* ---- guardian_link.c: the tool's end ---- */
int co_guardian_start(struct co_runner *run, struct co_error *err);
void co_guardian_tell(struct co_runner *run, const char *word, int64_t deadline_ns); /* never blocks */
/* During an undo, before each call: still at work. The guardian takes over when it hears nothing for longer than a
 * call may last. */
void co_guardian_pulse(struct co_runner *run, int64_t call_deadline_ns);
bool co_guardian_alive(struct co_runner *run);
int co_guardian_fd(struct co_runner *run);   /* readable when it died */
void co_guardian_end(struct co_runner *run); /* "bye", waits for it */

#endif
