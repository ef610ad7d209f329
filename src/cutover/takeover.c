/* takeover.c - a process takes over a run that another one left: the guardian, `resume`, `abort`.
 *
 * Invariants
 *   - The journal comes first: the epoch is raised there in one transaction, so of two that try one wins.
 *   - Forward only when the journal says commit and the target shows this run's marker; where the source answers
 *     it must be fenced. A source that doesn't answer was proven fenced before the commit, and its fence
 *     survives restarts; a take-over by somebody else would have had to replace the target's marker too.
 */
#include "cutover/run.h"

#include <string.h>

#define SETTLE_NS (30 * CO_NS_PER_S)
#define RETRY_NS (200 * CO_NS_PER_MS)

int co_take_over(struct co_runner *run, const char *actor, struct co_error *err)
{
    int failed = co_journal_take(run->journal, run->row.id, run->row.epoch, actor, run->row.pid, err);
    if (failed)
        return failed;
    run->begun = run->warmed = true;
    int64_t epoch = run->row.epoch + 1;
    failed = co_journal_run(run->journal, run->row.id, &run->row, err);
    if (failed)
        return failed;
    if (run->row.epoch != epoch)
        return co_fail(err, CO_E_CONFLICT, "run %s was taken over by somebody else at the same time", run->row.id);
    co_journal_event(run->journal, run->row.id, NULL, "taken_over", actor, NULL);
    failed = co_runner_identify(run, actor, err);
    for (size_t i = 0; i < run->lane_count && !failed; i++) /* what the other one noted until it ended */
        failed = co_pair_use_journal(run->lanes[i].pair, run->journal, run->row.id, err);
    return failed;
}

/* The captured position, from the notes of the journal's run. */
static int load_position(struct co_lane *lane)
{
    json_t *dump = NULL;
    if (co_journal_dump(lane->run->journal, lane->run->row.id, &dump, NULL) != 0)
        return 0;
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(dump, "positions"), i, row)
    {
        const char *pair = json_string_value(json_object_get(row, "pair"));
        const char *what = json_string_value(json_object_get(row, "what"));
        const char *position = json_string_value(json_object_get(row, "position"));
        if (pair && what && position && strcmp(pair, co_pair_name(lane->pair)) == 0 && strcmp(what, "captured") == 0)
            co_text_set_str(&lane->position, position);
    }
    json_decref(dump);
    return 0;
}

/* ---------------------------------------------------------------- forward */

static int source_is_fenced(struct co_lane *lane)
{
    struct co_runner *run = lane->run;
    struct co_error err = {0};
    struct co_identity_data id = {0};
    if (run->source_lost)
        return 0;
    if (co_marker_take(lane, CO_SOURCE, run->row.opened ? CO_ABSENT_IS_SET : CO_ABSENT_IS_LEFT, NULL,
                       co_now_ns() + CO_CONNECT_NS, &err) == CO_E_CONFLICT) {
        lane->error = err;
        return err.code;
    }
    enum co_result got = co_ep_identify(lane->second[CO_SOURCE], co_now_ns() + CO_CONNECT_NS, &id, &err);
    int failed = 0;
    if (got == CO_DONE && id.accepts_writes == CO_YES && id.role == CO_ROLE_PRIMARY) {
        failed =
            co_fail(&lane->error, CO_E_STATE, "pair %s: the old primary isn't fenced any more; somebody took the fence down",
                    co_pair_name(lane->pair));
        co_hint(&lane->error,
                "It may have taken writes that the new primary lacks. Fence it or stop it, compare the data, then "
                "`changeover resume`.");
        co_journal_event(run->journal, run->row.id, co_pair_name(lane->pair), "breach", lane->error.message, NULL);
    } else if (got == CO_DONE && id.accepts_writes == CO_UNKNOWN && id.fenced != CO_YES && id.role == CO_ROLE_PRIMARY) {
        failed = co_fail(&lane->error, CO_E_STATE, "pair %s: the old primary answers, and whether it is fenced can't be seen",
                         co_pair_name(lane->pair));
    } else if (got != CO_DONE) {
        co_runner_say(run, co_pair_name(lane->pair), CO_WATCH_NOTE,
                      "the old primary doesn't answer; it was proven fenced before the commit");
        co_journal_event(run->journal, run->row.id, co_pair_name(lane->pair), "source_unreachable", err.message, NULL);
    }
    co_identity_data_done(&id);
    return failed;
}

static int target_is_ours(struct co_lane *lane)
{
    int64_t deadline_ns = co_now_ns() + SETTLE_NS;
    /* once all was open the run's last act is to remove its markers: it may have been killed before it said so */
    enum co_when_absent when_absent = lane->run->row.opened ? CO_ABSENT_IS_SET : CO_ABSENT_IS_CONFLICT;
    for (;;) {
        int failed = co_marker_take(lane, CO_TARGET, when_absent, NULL, co_now_ns() + CO_CONNECT_NS, &lane->error);
        if (!failed || failed == CO_E_CONFLICT || co_now_ns() >= deadline_ns)
            return failed;
        co_runner_say(lane->run, co_pair_name(lane->pair), CO_WATCH_WAIT, "%s", lane->error.message);
        co_wait_until(co_now_ns() + RETRY_NS, -1);
    }
}

static int mark_opened(struct co_lane *lane)
{
    lane->opened = true;
    return 0;
}

static int insist_promoted(struct co_lane *lane)
{
    return co_steps_insist(lane, CO_PHASE_PROMOTE, CO_TARGET, co_now_ns() + SETTLE_NS, CO_FOREVER);
}

static int insist_open(struct co_lane *lane)
{
    int failed = co_steps_insist(lane, CO_PHASE_OPEN, CO_TARGET, co_now_ns() + SETTLE_NS, CO_FOREVER);
    if (failed)
        return failed;
    lane->open_ns = co_now_ns();
    return mark_opened(lane);
}

/* A target that restarted since the commit may have lost what it had: nobody gets to see that as the new primary. */
static int target_is_complete(struct co_lane *lane)
{
    CO_TEXT_AUTO now = CO_TEXT_INIT;
    struct co_error err = {0};
    if (!lane->position.bytes || lane->run->row.opening)
        return 0;
    if (co_ep_position(lane->second[CO_TARGET], co_now_ns() + CO_CONNECT_NS, &now, &err) != CO_DONE)
        return 0;
    enum co_order order = co_pair_compare(lane->pair, co_text_str(&now), co_text_str(&lane->position));
    if (order != CO_ORDER_BEHIND && order != CO_ORDER_DIVERGED) /* another history: it came back empty, say */
        return 0;
    co_fail(&lane->error, CO_E_DATA,
            "pair %s: the new primary came back at %s, without the captured %s: it lost acknowledged writes",
            co_pair_name(lane->pair), co_text_str(&now), co_text_str(&lane->position));
    co_hint(&lane->error,
            "The old primary has them and nothing was opened yet: `changeover abort --b-is-lost` goes back to it.");
    return lane->error.code;
}

static enum co_exit leave_unfinished(struct co_runner *run)
{
    run->result->outcome = "unfinished";
    return run->result->exit_code = CO_EXIT_UNFINISHED;
}

static enum co_exit forward(struct co_runner *run)
{
    struct co_error err = {0};
    run->committed = true;
    run->phase = "open";
    for (size_t i = 0; i < run->lane_count; i++) /* a reverse that was interrupted may have left the source down */
        co_pair_set_marker_offline(run->lanes[i].pair, CO_SOURCE, run->lanes[i].caps.marker_offline);
    int failed = co_lanes_each(run, target_is_ours);
    if (!failed)
        failed = co_lanes_each(run, source_is_fenced);
    if (!failed && !run->row.opened) {
        failed = co_lanes_each(run, insist_promoted);
        if (!failed)
            failed = co_lanes_each(run, target_is_complete);
        if (!failed && (failed = co_journal_opening(run->journal, run->row.id, run->row.epoch, &err)))
            co_runner_note(run, &err);
        if (!failed)
            failed = co_lanes_each(run, insist_open);
        if (!failed)
            co_journal_opened(run->journal, run->row.id, run->row.epoch, NULL);
    } else if (!failed) {
        failed = co_lanes_each(run, mark_opened);
    }
    if (failed || run->is_guardian)
        return leave_unfinished(run); /* what follows the opening is `resume`'s */
    return co_finish(run);
}

/* ---------------------------------------------------------------- lost to another process */

bool co_await_other(struct co_runner *run)
{
    struct co_run_row row;
    int64_t deadline_ns = co_deadline_in_ms(run->session->config->cutover.undo_budget_ms);
    for (;;) {
        if (co_journal_run(run->journal, run->row.id, &row, NULL) != 0 || row.epoch == run->row.epoch)
            return false; /* still ours, or nothing known */
        if (row.ended_wall_ms || row.opened)
            break;
        if (co_now_ns() >= deadline_ns)
            return false;
        co_wait_until(co_now_ns() + RETRY_NS, -1);
    }
    co_runner_say(run, NULL, CO_WATCH_NOTE, "run %s was ended by %s", row.id, row.actor);
    if (!row.ended_wall_ms) /* open, but switch, confirm and reverse are left to `resume` */
        return false;
    run->result->outcome = strcmp(row.outcome, "undone") == 0    ? "undone"
                           : strcmp(row.outcome, "refused") == 0 ? "refused"
                                                                 : "done";
    run->result->exit_code = (enum co_exit)row.exit_code;
    run->result->primary = run->result->outcome[0] == 'd' ? !run->source : (int)run->source;
    run->result->write_pause_ms = row.write_pause_ms;
    run->result->unavailable_ms = row.unavailable_ms;
    return true;
}

/* ---------------------------------------------------------------- settle */

enum co_exit co_settle(struct co_runner *run)
{
    struct co_error err = {0};
    int unknown = co_lanes_each(run, co_capabilities_load); /* unreachable sides are met again below */
    co_lanes_each(run, load_position);
    if (run->row.decision == CO_DECISION_DECIDING) {
        struct co_lane *lane = co_deciding_lane(run);
        int answer = lane && !unknown ? co_ask_decider(run, lane, co_now_ns() + SETTLE_NS) : CO_E_UNREACHABLE;
        if (answer != 0 && answer != CO_E_STATE) {
            co_fail(&err, CO_E_UNREACHABLE, "the pair that decides can't be asked whether it was promoted");
            co_hint(&err, "Both sides stay as they are until its servers answer; then `changeover resume`.");
            co_runner_note(run, &err);
            return leave_unfinished(run);
        }
        enum co_decision standing;
        if (answer == 0 &&
            co_journal_decide(run->journal, run->row.id, run->row.epoch, CO_DECISION_COMMIT, 0, false, &standing, &err)) {
            co_runner_note(run, &err);
            return leave_unfinished(run);
        }
        run->row.decision = answer == 0 ? CO_DECISION_COMMIT : CO_DECISION_NONE;
    }
    return run->row.decision == CO_DECISION_COMMIT ? forward(run) : co_undo(run, false, CO_EXIT_UNDONE);
}
