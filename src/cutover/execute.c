/* execute.c - walks the table: one phase after the other for all pairs, and what a failure means in each. */
#include <stdio.h>

#include "cutover/table.h"

static void phase_result(struct co_runner *run, const char *name, int64_t ns, const char *outcome)
{
    struct co_run_result *result = run->result;
    if (result->phase_count < CO_MAX_PHASES)
        result->phases[result->phase_count++] =
            (struct co_phase_result){.name = name, .ms = ns / CO_NS_PER_MS, .us = ns / 1000, .outcome = outcome};
}

static int run_phase(struct co_runner *run, const struct co_phase_def *def)
{
    int64_t row = -1;
    struct co_error err = {0};
    run->phase = co_phase_name(def->phase);
    int failed = co_run_cancelled(run, &err);
    if (failed) {
        co_runner_note(run, &err);
        return failed;
    }
    int64_t began = co_now_ns();
    co_runner_say(run, NULL, CO_WATCH_PHASE_BEGIN, "%s", def->title);
    co_journal_phase_begin(run->journal, run->row.id, run->phase, &row, NULL);
    if (CO_FAULT("%s:begin", run->phase) == CO_FAULT_ERROR) {
        failed = co_fail(&err, CO_E_INTERNAL, "fault injected at the beginning of phase %s", run->phase);
        co_runner_note(run, &err);
    }
    if (!failed)
        failed = def->action(run);
    if (CO_FAULT("%s:end", run->phase) == CO_FAULT_ERROR && !failed) {
        failed = co_fail(&err, CO_E_INTERNAL, "fault injected at the end of phase %s", run->phase);
        co_runner_note(run, &err);
    }
    int64_t took = co_now_ns() - began;
    co_journal_phase_end(run->journal, row, failed ? "failed" : "done",
                         failed && run->result->error_count ? &run->result->errors[run->result->error_count - 1] : NULL, NULL);
    phase_result(run, run->phase, took, failed ? "failed" : "done");
    if (run->session->watch) {
        struct co_watch_event event = {
            .kind = CO_WATCH_PHASE_END, .phase = run->phase, .text = failed ? "failed" : "done", .ms = took / CO_NS_PER_MS};
        run->session->watch(&event, run->session->watch_arg);
    }
    return failed;
}

/* The highest exit code that a pair asks for. */
static enum co_exit worst_of_pairs(const struct co_runner *run)
{
    enum co_exit worst = CO_EXIT_NO;
    for (size_t i = 0; i < run->lane_count; i++)
        if (run->lanes[i].result && run->lanes[i].refuse_exit > worst)
            worst = run->lanes[i].refuse_exit;
    return worst;
}

static enum co_exit refusal_exit(const struct co_runner *run, int failed)
{
    if (failed == CO_E_CONFLICT)
        return CO_EXIT_LOCKED;
    if (failed == CO_E_INTERRUPTED)
        return CO_EXIT_INTERRUPTED;
    if (failed == CO_E_CONFIG)
        return CO_EXIT_CONFIG;
    enum co_exit worst = worst_of_pairs(run);
    return worst == CO_EXIT_NO && failed == CO_E_UNREACHABLE ? CO_EXIT_UNKNOWN : worst;
}

/* Before warm_up only the markers were set. */
static enum co_exit refuse(struct co_runner *run, int failed)
{
    struct co_error err = {0};
    enum co_exit code = refusal_exit(run, failed);
    bool not_met = code == CO_EXIT_UNKNOWN || worst_of_pairs(run) == CO_EXIT_UNKNOWN;
    co_runner_interruptible(run, true);
    if (run->warmed)
        return co_undo(run, true, code);
    run->phase = "refuse";
    size_t told = run->result->error_count;
    if (run->marking) { /* else a server that isn't reached would be waited for once more, for nothing */
        co_markers_remove(run, CO_SOURCE);
        co_markers_remove(run, CO_TARGET);
    }
    if (failed == CO_E_CONFIG || not_met)
        run->result->error_count = told; /* of a server that wasn't reached all was said */
    run->result->outcome = "refused";
    run->result->exit_code = code;
    run->result->primary = run->source_lost ? -1 : (int)run->source;
    if (co_journal_end(run->journal, run->row.id, run->row.epoch, "refused", (int)code, -1, -1, &err))
        co_runner_note(run, &err);
    return code;
}

static void fill_pairs(struct co_runner *run)
{
    struct co_run_result *result = run->result;
    int target = (int)co_side_other(run->source);
    bool all = true;
    for (size_t i = 0; i < run->lane_count; i++) {
        const struct co_lane *lane = &run->lanes[i];
        struct co_pair_result *pair = &result->pairs[i];
        pair->primary = lane->opened ? target : -1;
        all = all && lane->opened;
        co_text_set_str(&pair->position, co_text_str(&lane->position));
        if (lane->fence_ns && lane->open_ns)
            pair->write_pause_ms = (lane->open_ns - lane->fence_ns) / CO_NS_PER_MS;
        if (lane->promotion_ns)
            pair->promotion_ms = lane->promotion_ns / CO_NS_PER_MS;
    }
    result->primary = all ? target : -1;
    if (run->pause_begin_ns && run->pause_end_ns) {
        result->write_pause_ms = (run->pause_end_ns - run->pause_begin_ns) / CO_NS_PER_MS;
        int64_t served_ns = run->switch_end_ns > run->pause_end_ns ? run->switch_end_ns : run->pause_end_ns;
        result->unavailable_ms = (served_ns - run->pause_begin_ns) / CO_NS_PER_MS;
    }
}

static enum co_exit stay_unfinished(struct co_runner *run)
{
    struct co_error err = {0};
    fill_pairs(run);
    if (co_await_other(run))
        return run->result->exit_code;
    co_fail(&err, CO_E_STATE, "run %s is decided but not finished: the new primary isn't open everywhere", run->row.id);
    co_hint(&err, "`changeover resume` goes on with it.");
    co_runner_note(run, &err);
    run->result->outcome = "unfinished";
    return run->result->exit_code = CO_EXIT_UNFINISHED;
}

static enum co_exit conclude(struct co_runner *run)
{
    struct co_error err = {0};
    run->phase = "end";
    if (run->session->interrupted) {
        char text[64];
        snprintf(text, sizeof text, "signal %d came after the commit and ended nothing", (int)run->session->interrupted);
        co_journal_event(run->journal, run->row.id, NULL, "signal", text, NULL);
        co_runner_say(run, NULL, CO_WATCH_NOTE, "%s: the run finished", text);
    }
    enum co_exit code = run->follow_ups ? CO_EXIT_FOLLOW_UP : CO_EXIT_DONE;
    fill_pairs(run);
    for (size_t i = 0; i < run->lane_count; i++)
        co_pair_set_source(run->lanes[i].pair, co_side_other(run->source));
    co_audit_facts(run, "after");
    co_markers_remove(run, CO_TARGET);
    if (!run->source_lost)
        co_markers_remove(run, CO_SOURCE);
    run->result->outcome = "done";
    run->result->exit_code = code;
    if (co_journal_end(run->journal, run->row.id, run->row.epoch, "done", (int)code, run->result->write_pause_ms,
                       run->result->unavailable_ms, &err)) {
        co_runner_note(run, &err);
        run->result->outcome = "unfinished";
        run->result->exit_code = CO_EXIT_UNFINISHED;
    }
    return run->result->exit_code;
}

static enum co_exit failed_in(struct co_runner *run, const struct co_phase_def *def, int failed)
{
    bool decided = run->row.decision == CO_DECISION_COMMIT || run->row.decision == CO_DECISION_DECIDING;
    if (def->on_failure == CO_FAIL_REFUSE)
        return refuse(run, failed);
    if (def->on_failure == CO_FAIL_UNDO && !decided)
        return co_undo(run, false, CO_EXIT_UNDONE);
    return stay_unfinished(run);
}

enum co_exit co_execute(struct co_runner *run, enum co_phase from)
{
    size_t count = 0;
    const struct co_phase_def *table = co_table(run->session->config->cutover.open_after_switch, &count);
    bool started = false;
    for (size_t i = 0; i < count; i++) {
        started = started || table[i].phase == from;
        if (!started || (run->committed && table[i].on_failure == CO_FAIL_UNDO))
            continue; /* with open: after_switch a resumed run doesn't undo any more */
        int failed = run_phase(run, &table[i]);
        if (failed && table[i].on_failure == CO_FAIL_FOLLOW_UP)
            run->follow_ups++;
        else if (failed)
            return failed_in(run, &table[i], failed);
        if (table[i].phase == CO_PHASE_OPEN)
            co_guardian_end(run);
    }
    return conclude(run);
}

enum co_exit co_finish(struct co_runner *run)
{
    return co_execute(run, run->session->config->cutover.open_after_switch ? CO_PHASE_CONFIRM : CO_PHASE_SWITCH);
}
