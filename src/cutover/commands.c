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
    if (CO_FAULT("journal.begin:before") == CO_FAULT_ERROR)
        failed = co_fail(err, CO_E_IO, "fault injected");
    if (!failed)
        failed = co_journal_begin(run->journal, &run->row, &other, err);
    if (failed == CO_E_CONFLICT) {
        co_fail(err, CO_E_CONFLICT, "run %s (%s) isn't finished", other.id, other.kind);
        co_hint(err, "`changeover resume` finishes it or backs out of it, `changeover abort` backs out.");
        return CO_EXIT_UNFINISHED;
    }
    if (failed)
        return CO_EXIT_UNKNOWN;
    CO_FAULT("journal.begin:after");
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
        co_journal_end(run->journal, run->row.id, run->row.epoch, "refused", code, -1, -1, NULL);
    return code;
}

static enum co_exit run_table(struct co_session *session, const struct co_run_options *options, enum co_side source, const char *kind,
                              enum co_phase from, struct co_run_result *ret)
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
    } else { /* a follow-up: marked like every run, then only what comes after the opening */
        run.row.decision = CO_DECISION_COMMIT;
        run.committed = true;
        run.phase = "lock";
        if (co_do_lock(&run)) {
            co_fail(&err, CO_E_STATE, "the servers can't be marked for the follow-up");
            code = refused(&run, CO_EXIT_FOLLOW_UP, &err);
        } else {
            for (size_t i = 0; i < run.lane_count; i++)
                run.lanes[i].opened = true;
            code = co_finish(&run);
        }
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
    *ret = (struct co_run_result){.exit_code = CO_EXIT_USAGE, .outcome = "refused", .primary = -1, .write_pause_ms = -1,
                                  .unavailable_ms = -1};
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
    co_fail(&err, CO_E_STATE, cutover ? "b is the primary already: the cutover was done" : "a is the primary: there is nothing to roll back");
    co_hint(&err, cutover ? "`changeover rollback` goes back to a." : "`changeover cutover` makes b the primary.");
    enum co_exit code = refuse_partial(ret, &err);
    (void)code;
    return ret->exit_code = CO_EXIT_NO;
}

enum co_exit co_run_cutover(struct co_session *session, const struct co_run_options *options, struct co_run_result *ret)
{
    struct co_error err = {0};
    if (whole_group(session, &err))
        return refuse_partial(ret, &err);
    if (current_source(session) != CO_SIDE_A)
        return wrong_way(ret, true);
    return run_table(session, options, CO_SIDE_A, "cutover", CO_PHASE_LOCK, ret);
}

enum co_exit co_run_rollback(struct co_session *session, const struct co_run_options *options, struct co_run_result *ret)
{
    struct co_error err = {0};
    if (whole_group(session, &err))
        return refuse_partial(ret, &err);
    if (current_source(session) != CO_SIDE_B)
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
    (void)session;
    struct co_lag *lag = NULL;
    struct co_error err = {0};
    struct co_lag_sample sample;
    ret->pair = co_pair_name(pair);
    ret->lose_bytes = ret->lose_transactions = -1;
    if (co_lag_new(pair, &lag, &err)) {
        co_text_set_str(&ret->reason, err.message);
        return;
    }
    co_lag_measure(lag, -1, &sample);
    ret->open = sample.state == CO_GATE_OPEN || sample.state == CO_GATE_CLOSED;
    ret->lose_bytes = sample.lag_bytes;
    ret->lose_transactions = sample.lag_transactions;
    co_text_set_str(&ret->reason, co_text_str(&sample.reason));
    if (sample.primary == CO_SIDE_A) {
        ret->open = false;
        co_text_set_str(&ret->reason, "a is the primary: there is nothing to roll back");
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
        if (!(*ret)[i].open)
            worst = CO_EXIT_NO;
        (*ret_count)++;
    }
    return worst;
}
