/* commands.c - how a cutover, a rollback and a follow-up begin: who the source is, the journal's lock and row,
 * the connections; then the table.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cutover/run.h"

void co_run_result_done(struct co_run_result *result)
{
    if (!result)
        return;
    for (size_t i = 0; i < result->pair_count; i++)
        co_text_done(&result->pairs[i].position);
    free(result->pairs);
    free(result->errors);
    *result = (struct co_run_result){0};
}

enum co_exit co_begin(struct co_runner *run, struct co_error *err)
{
    struct co_run_row other = {0};
    int failed = co_journal_hold(run->journal, err);
    if (failed)
        return failed == CO_E_CONFLICT ? CO_EXIT_LOCKED : CO_EXIT_UNKNOWN;
    snprintf(run->row.actor, sizeof run->row.actor, "tool-1");
    failed = co_journal_begin(run->journal, &run->row, &other, err);
    if (failed == CO_E_CONFLICT) {
        co_fail(err, CO_E_CONFLICT, "run %s (%s) isn't finished", other.id, other.kind);
        co_hint(err, "`changeover resume` finishes it or backs out of it, `changeover abort` backs out.");
        return CO_EXIT_UNFINISHED;
    }
    if (failed)
        return CO_EXIT_UNKNOWN;
    run->begun = true;
    snprintf(run->result->run, sizeof run->result->run, "%s", run->row.id);
    for (size_t i = 0; i < run->lane_count; i++) {
        failed = co_pair_use_journal(run->lanes[i].pair, run->journal, run->row.id, err);
        if (failed)
            return CO_EXIT_INTERNAL;
    }
    co_runner_identify(run, "tool-1", err);
    return CO_EXIT_DONE;
}

static enum co_exit refused(struct co_runner *run, enum co_exit code, const struct co_error *err)
{
    co_runner_note(run, err);
    run->result->outcome = "refused";
    run->result->exit_code = code;
    if (run->begun)
        co_journal_end(run->journal, run->row.id, run->row.epoch, "refused", (int)code, -1, -1, NULL);
    return code;
}

/* What a follow-up belongs to was committed and opened: that is written first, so that whatever interrupts it, nobody ever
 * takes the old primary's fence down for it. */
int co_follow_up_decide(struct co_runner *run, struct co_error *err)
{
    enum co_decision standing;
    int failed = co_journal_decide(run->journal, run->row.id, run->row.epoch, CO_DECISION_COMMIT, 0, false, &standing, err);
    if (!failed)
        failed = co_journal_opening(run->journal, run->row.id, run->row.epoch, err);
    if (!failed)
        failed = co_journal_opened(run->journal, run->row.id, run->row.epoch, err);
    if (failed)
        return failed;
    run->row.decision = CO_DECISION_COMMIT;
    run->row.opening = run->row.opened = true;
    run->committed = true;
    return 0;
}

/* Originals and what was captured belong to the run that is followed up. */
static int inherit_notes(struct co_runner *run, const struct co_run_row *from, struct co_error *err)
{
    int failed = 0;
    for (size_t i = 0; i < run->lane_count && !failed; i++) {
        struct co_pair *pair = run->lanes[i].pair;
        failed = co_pair_use_journal(pair, run->journal, from->id, err);
        json_t *notes = failed ? NULL : co_pair_notes_json(pair);
        if (!failed)
            failed = co_pair_use_journal(pair, run->journal, run->row.id, err);
        if (!failed)
            failed = notes ? co_pair_notes_import(pair, notes, err) : co_fail(err, CO_E_NOMEM, "out of memory for notes");
        json_decref(notes);
    }
    return failed;
}

/* Marked like every run, then only what comes after the opening. */
static enum co_exit run_follow_up(struct co_runner *run)
{
    struct co_error err = {0};
    struct co_run_row last;
    int failed = co_journal_last_done(run->journal, &last, &err);
    if (!failed) {
        run->source_lost = strcmp(last.kind, "rollback_lost") == 0;
        failed = inherit_notes(run, &last, &err);
    }
    if (!failed)
        failed = co_follow_up_decide(run, &err);
    run->phase = "lock";
    run->follows_up = true;
    if (!failed && co_do_lock(run))
        failed = co_fail(&err, CO_E_STATE, "the servers can't be marked for the follow-up");
    if (failed)
        return refused(run, CO_EXIT_FOLLOW_UP, &err);
    for (size_t i = 0; i < run->lane_count; i++)
        run->lanes[i].opened = true;
    return co_finish(run);
}

static enum co_exit run_table(struct co_session *session, const struct co_run_options *options, enum co_side source,
                              const char *kind, enum co_phase from, struct co_run_result *ret)
{
    struct co_runner run;
    struct co_error err = {0};
    enum co_exit code;
    int failed = co_runner_init(&run, session, options, source, kind, ret, &err);
    run.source_lost = strcmp(kind, "rollback_lost") == 0;
    if (!failed)
        failed = co_lanes_open(&run, &err);
    if (failed) {
        code = refused(&run, CO_EXIT_INTERNAL, &err);
    } else if ((code = co_begin(&run, &err)) != CO_EXIT_DONE) {
        code = refused(&run, code, &err);
    } else if (co_watcher_start(&run, &err)) {
        code = refused(&run, CO_EXIT_INTERNAL, &err);
    } else if (from == CO_PHASE_LOCK) {
        code = co_execute(&run, from);
    } else {
        code = run_follow_up(&run);
    }
    co_runner_done(&run);
    return code;
}

/* A group goes together. */
static int whole_group(const struct co_session *session, struct co_error *err)
{
    if (!session->partial || session->config->cutover.partial)
        return 0;
    co_fail(err, CO_E_CONFIG, "-p leaves pairs of this migration out, which are to be cut over together");
    co_hint(err, "Leave -p away, or allow it with cutover.partial: true.");
    return err->code;
}

static enum co_exit refuse_partial(struct co_run_result *ret, const struct co_error *err)
{
    *ret = (struct co_run_result){
        .exit_code = CO_EXIT_USAGE, .outcome = "refused", .primary = -1, .write_pause_ms = -1, .unavailable_ms = -1};
    ret->errors = calloc(1, sizeof *ret->errors);
    if (ret->errors)
        ret->errors[ret->error_count++] = *err;
    return CO_EXIT_USAGE;
}

static enum co_side current_source(const struct co_session *session)
{
    return session->pair_count ? co_pair_source(session->pairs[0]) : CO_SIDE_A;
}

static enum co_exit wrong_way(struct co_run_result *ret, bool cutover)
{
    struct co_error err = {0};
    co_fail(&err, CO_E_STATE,
            cutover ? "b is the primary already: the cutover was done"
                    : "by this journal a is the primary: there is nothing to roll back");
    co_hint(&err,
            cutover ? "`changeover rollback` goes back to a."
                    : "`changeover cutover` makes b the primary. Where `changeover status` shows that b is it, the cutover was "
                      "run with another journal, and so must the rollback be. " CO_JOURNAL_LOST_HINT);
    enum co_exit code = refuse_partial(ret, &err);
    (void)code;
    return ret->exit_code = CO_EXIT_NO;
}

/* A run that was left comes before the question which side is the primary: that is what it leaves open. */
static bool has_left_run(struct co_session *session)
{
    struct co_run_row row;
    return session->journal && co_journal_unfinished(session->journal, &row, NULL) == 0;
}

enum co_exit co_run_cutover(struct co_session *session, const struct co_run_options *options, struct co_run_result *ret)
{
    struct co_error err = {0};
    if (whole_group(session, &err))
        return refuse_partial(ret, &err);
    if (current_source(session) != CO_SIDE_A && !has_left_run(session))
        return wrong_way(ret, true);
    return run_table(session, options, CO_SIDE_A, "cutover", CO_PHASE_LOCK, ret);
}

enum co_exit co_run_rollback(struct co_session *session, const struct co_run_options *options, struct co_run_result *ret)
{
    struct co_error err = {0};
    if (whole_group(session, &err))
        return refuse_partial(ret, &err);
    if (current_source(session) != CO_SIDE_B && !has_left_run(session))
        return wrong_way(ret, false);
    return run_table(session, options, CO_SIDE_B, options->b_is_lost ? "rollback_lost" : "rollback", CO_PHASE_LOCK, ret);
}

enum co_exit co_run_follow_up(struct co_session *session, const struct co_run_options *options, enum co_side source,
                              struct co_run_result *ret)
{
    return run_table(session, options, source, "follow_up", CO_PHASE_SWITCH, ret);
}

enum co_exit co_abandon(struct co_session *session, const struct co_run_row *row, struct co_run_result *ret)
{
    struct co_error err = {0};
    int failed = co_journal_end(session->journal, row->id, row->epoch, "undone", CO_EXIT_UNDONE, -1, -1, &err);
    snprintf(ret->run, sizeof ret->run, "%s", row->id);
    ret->outcome = failed ? "unfinished" : "undone";
    return ret->exit_code = failed ? CO_EXIT_UNFINISHED : CO_EXIT_UNDONE;
}

/* ---------------------------------------------------------------- rollback --check */

static void look_back(struct co_session *session, struct co_pair *pair, struct co_way_back *ret)
{
    struct co_lag *lag = NULL;
    struct co_error err = {0};
    struct co_lag_sample sample;
    enum co_side known = co_pair_source(pair);
    ret->pair = co_pair_name(pair);
    ret->lose_bytes = ret->lose_transactions = -1;
    ret->open = CO_UNKNOWN;
    if (has_left_run(session)) {
        ret->open = CO_NO;
        co_text_set_str(&ret->reason, "a run was left: `changeover resume` comes first");
        return;
    }
    if (co_lag_new(pair, &lag, &err)) {
        co_text_set_str(&ret->reason, err.message);
        return;
    }
    co_lag_measure(lag, -1, &sample);
    ret->open = sample.state == CO_GATE_UNKNOWN ? CO_UNKNOWN : sample.state == CO_GATE_BROKEN ? CO_NO : CO_YES;
    ret->lose_bytes = sample.lag_bytes;
    ret->lose_transactions = sample.lag_transactions;
    co_text_set_str(&ret->reason, co_text_str(&sample.reason));
    if (sample.primary == CO_SIDE_A) {
        ret->open = CO_NO;
        ret->lose_bytes = ret->lose_transactions = 0;
        co_text_set_str(&ret->reason, "a is the primary: there is nothing to roll back");
    } else if (known == CO_SIDE_A) { /* seen on the servers alone: a rollback needs the cutover's notes */
        ret->open = CO_NO;
        co_text_set_str(&ret->reason,
                        "b is the primary, and this journal doesn't know of it: use the journal that the cutover was run "
                        "with. " CO_JOURNAL_LOST_HINT);
    }
    co_lag_sample_done(&sample);
    co_lag_free(lag);
}

enum co_exit co_check_rollback(struct co_session *session, struct co_way_back **ret, size_t *ret_count, struct co_error *err)
{
    enum co_exit worst = CO_EXIT_DONE;
    *ret_count = 0;
    *ret = calloc(session->pair_count ? session->pair_count : 1, sizeof **ret);
    if (!*ret) {
        co_fail(err, CO_E_NOMEM, "out of memory");
        return CO_EXIT_INTERNAL;
    }
    for (size_t i = 0; i < session->pair_count; i++) {
        look_back(session, session->pairs[i], &(*ret)[i]);
        enum co_exit code = (*ret)[i].open == CO_YES ? CO_EXIT_DONE : (*ret)[i].open == CO_NO ? CO_EXIT_NO : CO_EXIT_UNKNOWN;
        worst = code > worst ? code : worst;
        (*ret_count)++;
    }
    return worst;
}
