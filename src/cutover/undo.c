/* undo.c - back to the source.
 *
 * Invariants
 *   - The decision is durable before anything is reverted. While it can't be written nothing is.
 *   - The source comes first and waits for nothing of the target's.
 *   - Before the fence is lifted this process holds the marker with a new epoch and every other session of the
 *     run on the source has been seen gone: nothing that is still under way can bite later.
 *   - A source that came back behind the captured position isn't opened: the target has what it lacks. The comparison and
 *     the lifting of the fence are made over one connection.
 *   - "Back in service" is said only after a real write was acknowledged.
 */
#include "cutover/run.h"

#include <stdio.h>
#include <string.h>

#define DECIDE_RETRY_NS (100 * CO_NS_PER_MS)
#define CALL_NS (3 * CO_NS_PER_S)

/* ---------------------------------------------------------------- the source */

static int lost_its_tail(struct co_lane *lane, const char *has, const char *want)
{
    co_fail(&lane->error, CO_E_DATA, "pair %s: the old primary came back at %s, behind %s: it lost acknowledged writes",
            co_pair_name(lane->pair), has, want);
    co_hint(&lane->error,
            "Both sides stay closed, because opening the old primary would lose what only the new one has. Either recover "
            "the old primary, or set it up anew from the other side and go on there.");
    return lane->error.code;
}

/* Only a server that was restarted can have lost something. */
static bool never_restarted(struct co_lane *lane, const struct co_text *incarnation)
{
    CO_TEXT_AUTO before = CO_TEXT_INIT;
    return co_pair_note_get(lane->pair, lane->run->source, CO_NOTE_INCARNATION, &before) == 0 && before.bytes &&
           strcmp(co_text_str(&before), co_text_str(incarnation)) == 0;
}

/* The machine of the journal crashed, so that a captured position may have been lost with its memory. A fenced source
 * that was restarted since the run began is then held against what the target has. */
static int complete_by_target(struct co_lane *lane, int64_t deadline_ns)
{
    struct co_identity_data id = {0};
    CO_TEXT_AUTO has = CO_TEXT_INIT;
    CO_TEXT_AUTO want = CO_TEXT_INIT;
    int64_t call_ns = co_min_deadline(deadline_ns, co_now_ns() + CALL_NS);
    enum co_result got = co_ep_identify(lane->second[CO_SOURCE], call_ns, &id, &lane->error);
    bool complete = got == CO_DONE && (id.accepts_writes == CO_YES || never_restarted(lane, &id.incarnation));
    co_identity_data_done(&id);
    if (got != CO_DONE)
        return co_lane_fail(lane, got);
    if (complete)
        return 0;
    got = co_ep_position(lane->second[CO_SOURCE], call_ns, &has, &lane->error);
    if (got == CO_DONE) {
        got = co_ep_applied(lane->second[CO_TARGET], call_ns, &want, &lane->error);
        if (got != CO_DONE)
            co_hint(&lane->error,
                    "The machine of the journal crashed during the run, so what was captured may be lost; the other side must "
                    "be seen before the old primary is opened.");
    }
    if (got != CO_DONE)
        return co_lane_fail(lane, got);
    enum co_order order = co_pair_compare(lane->pair, co_text_str(&has), co_text_str(&want));
    if (order == CO_ORDER_EQUAL || order == CO_ORDER_AHEAD)
        return 0;
    return lost_its_tail(lane, co_text_str(&has), co_text_str(&want));
}

/* Has the source all that was captured? A restart may have lost its tail. */
static int still_complete(struct co_lane *lane, int64_t deadline_ns)
{
    if (lane->caps.fence_stops)
        return 0;
    if (!lane->position.bytes)
        return lane->run->rebooted ? complete_by_target(lane, deadline_ns) : 0;
    CO_TEXT_AUTO now = CO_TEXT_INIT;
    co_guardian_pulse(lane->run, 0);
    enum co_result got =
        co_ep_position(lane->second[CO_SOURCE], co_min_deadline(deadline_ns, co_now_ns() + CALL_NS), &now, &lane->error);
    if (got != CO_DONE)
        return co_lane_fail(lane, got);
    enum co_order order = co_pair_compare(lane->pair, co_text_str(&now), co_text_str(&lane->position));
    if (order == CO_ORDER_EQUAL || order == CO_ORDER_AHEAD)
        return 0;
    return lost_its_tail(lane, co_text_str(&now), co_text_str(&lane->position));
}

/* What was compared must be what is opened: from the comparison until the fence is lifted the connection is held, and
 * a lost one means that the source may have restarted, so all of it is looked at again. */
static int lift_fence(struct co_lane *lane, int64_t deadline_ns)
{
    bool hold = !lane->caps.fence_stops; /* a source that is stopped is started by the revert */
    co_endpoint_hold(lane->second[CO_SOURCE], hold);
    lane->source_held = hold;
    int failed = still_complete(lane, deadline_ns);
    if (!failed)
        failed = co_steps_revert(lane, CO_PHASE_REVERSE_PREPARE, CO_SOURCE, deadline_ns);
    if (!failed)
        failed = co_steps_revert(lane, CO_PHASE_FENCE, CO_SOURCE, deadline_ns);
    lane->source_held = false;
    co_endpoint_hold(lane->second[CO_SOURCE], false);
    return failed;
}

static int source_takes_writes(struct co_lane *lane, int64_t deadline_ns)
{
    for (;;) {
        co_guardian_pulse(lane->run, 0);
        enum co_result got =
            co_ep_probe_write(lane->second[CO_SOURCE], co_min_deadline(deadline_ns, co_now_ns() + CALL_NS), &lane->error);
        if (got == CO_DONE)
            return 0;
        if (co_now_ns() >= deadline_ns)
            return co_lane_fail(lane, got);
        co_runner_say(lane->run, co_pair_name(lane->pair), CO_WATCH_WAIT, "a real write on the old primary: %s",
                      lane->error.message);
        co_wait_until(co_min_deadline(deadline_ns, co_now_ns() + DECIDE_RETRY_NS), -1);
    }
}

/* No marker of ours: either the run never got as far, or its undo was complete, or somebody ended it from elsewhere.
 * In the first two cases the source takes writes; in the last nothing may be changed here. */
static int is_open_already(struct co_lane *lane, int64_t deadline_ns)
{
    struct co_identity_data id = {0};
    enum co_result got =
        co_ep_identify(lane->second[CO_SOURCE], co_min_deadline(deadline_ns, co_now_ns() + CALL_NS), &id, &lane->error);
    bool open = got == CO_DONE && id.role == CO_ROLE_PRIMARY && id.accepts_writes == CO_YES;
    co_identity_data_done(&id);
    if (got != CO_DONE)
        return co_lane_fail(lane, got);
    if (open)
        return 0;
    co_fail(&lane->error, CO_E_CONFLICT, "pair %s: side %s refuses writes, but not for run %s: its marker is gone",
            co_pair_name(lane->pair), co_side_name(co_endpoint_side(lane->second[CO_SOURCE])), lane->run->row.id);
    co_hint(&lane->error,
            "Somebody ended this run from another machine. `changeover status` shows both sides; if they are as they should "
            "be, `changeover abort --forget` ends the run here without touching a server.");
    return lane->error.code;
}

static int try_source(struct co_lane *lane, int64_t deadline_ns)
{
    bool absent = false;
    co_guardian_pulse(lane->run, 0);
    int failed = co_marker_take(lane, CO_SOURCE, CO_ABSENT_IS_LEFT, &absent,
                                co_min_deadline(deadline_ns, co_now_ns() + CALL_NS), &lane->error);
    if (!failed && absent)
        return is_open_already(lane, deadline_ns);
    if (!failed)
        failed = lift_fence(lane, deadline_ns);
    if (!failed)
        failed = co_steps_revert(lane, CO_PHASE_WARM_UP, CO_SOURCE, deadline_ns);
    return failed ? failed : co_steps_insist(lane, CO_PHASE_UNDO, CO_SOURCE, deadline_ns, CO_FOREVER);
}

/* Repeats through lost connections until the deadline: each part is idempotent and looks first. */
static int undo_source(struct co_lane *lane)
{
    int64_t deadline_ns = lane->run->undo_deadline_ns;
    for (;;) {
        int failed = try_source(lane, deadline_ns);
        if (!failed)
            break;
        bool retry = lane->error.code == CO_E_UNREACHABLE || lane->error.code == CO_E_TIMEOUT;
        if (!retry || co_now_ns() >= deadline_ns)
            return failed;
        co_runner_say(lane->run, co_pair_name(lane->pair), CO_WATCH_WAIT, "undo: %s", lane->error.message);
        co_wait_until(co_min_deadline(deadline_ns, co_now_ns() + DECIDE_RETRY_NS), -1);
    }
    int failed = source_takes_writes(lane, deadline_ns);
    if (!failed)
        lane->source_back = true;
    return failed;
}

/* ---------------------------------------------------------------- the target */

static int undo_target(struct co_lane *lane)
{
    int64_t deadline_ns = co_now_ns() + CO_CALL_NS;
    bool absent = false;
    /* taking its promotion back may have been interrupted, with the server down */
    co_pair_set_marker_offline(lane->pair, CO_TARGET, lane->caps.marker_offline);
    int failed = co_marker_take(lane, CO_TARGET, CO_ABSENT_IS_LEFT, &absent, co_now_ns() + CALL_NS, &lane->error);
    if (!failed && absent) {
        lane->target_clean = true;
        return 0;
    }
    if (!failed)
        failed = co_steps_revert(lane, CO_PHASE_OPEN, CO_TARGET, deadline_ns);
    if (!failed)
        failed = co_steps_revert(lane, CO_PHASE_PROMOTE, CO_TARGET, deadline_ns);
    if (!failed)
        failed = co_steps_revert(lane, CO_PHASE_FENCE, CO_TARGET, deadline_ns);
    if (!failed)
        failed = co_steps_revert(lane, CO_PHASE_WARM_UP, CO_TARGET, deadline_ns);
    if (failed) {
        lane->target_final = failed == CO_E_UNSUPPORTED || failed == CO_E_DATA || lane->run->options->b_is_lost;
        co_hint(&lane->error, "%s",
                lane->target_final
                    ? "It stays closed. Run `changeover setup` to make it follow again."
                    : "It stays closed. `changeover resume` cleans it up when it can be reached; if it is gone for "
                      "good, `changeover abort --b-is-lost` ends the run without it.");
        co_error_prefix(&lane->error, "the old primary serves, but the other side isn't as before: ");
        return failed;
    }
    lane->target_clean = true;
    return 0;
}

/* ---------------------------------------------------------------- the whole */

/* Durable, or nothing is reverted. */
static int decide_undo(struct co_runner *run, struct co_error *err)
{
    for (;;) {
        enum co_decision standing = CO_DECISION_NONE;
        int failed = co_journal_decide(run->journal, run->row.id, run->row.epoch, CO_DECISION_UNDO, 0, true, &standing, err);
        if (!failed)
            break;
        if (failed == CO_E_CONFLICT || co_now_ns() >= run->undo_deadline_ns)
            return failed;
        co_wait_until(co_now_ns() + DECIDE_RETRY_NS, -1);
    }
    run->row.decision = CO_DECISION_UNDO;
    return 0;
}

/* A new epoch and another actor: what the phases' sessions still do is revoked. */
int co_become_undoer(struct co_runner *run, struct co_error *err)
{
    if (run->is_guardian || strcmp(run->actor, "tool-1") != 0)
        return 0; /* took the run over already */
    char actor[25];
    snprintf(actor, sizeof actor, "%.20su", run->actor);
    int failed = co_journal_take(run->journal, run->row.id, run->row.epoch, actor, run->row.pid, err);
    if (failed)
        return failed;
    run->row.epoch++;
    return co_runner_identify(run, actor, err);
}

static enum co_exit unfinished(struct co_runner *run, const struct co_error *err)
{
    struct co_error told = *err;
    if (err->code == CO_E_CONFLICT && co_await_other(run))
        return run->result->exit_code;
    if (!told.hint[0])
        co_hint(&told, "`changeover resume` goes on with it, `changeover status` shows both sides.");
    co_runner_note(run, &told);
    run->result->outcome = "unfinished";
    return run->result->exit_code = CO_EXIT_UNFINISHED;
}

static void switch_back(struct co_runner *run)
{
    struct co_error err = {0};
    const struct co_hooks *hooks = &run->session->config->cutover.hooks_switch;
    if (run->switched && co_hooks_run(run, hooks, "switch", run->source, run->undo_deadline_ns, &err))
        co_runner_note(run, &err);
}

enum co_exit co_undo(struct co_runner *run, bool refused, enum co_exit refuse_exit)
{
    struct co_error err = {0};
    const struct co_config *config = run->session->config;
    run->phase = "undo";
    run->committed = true; /* nothing interrupts an undo */
    run->undo_deadline_ns = co_deadline_in_ms(config->cutover.undo_budget_ms);
    co_runner_interruptible(run, true);
    co_runner_hold(run, false);
    run->undoing = true;
    co_guardian_pulse(run, 0);
    co_runner_say(run, NULL, CO_WATCH_PHASE_BEGIN, "undo");
    int64_t began = co_now_ns(), row = -1;
    if (decide_undo(run, &err) || co_become_undoer(run, &err))
        return unfinished(run, &err);
    co_journal_phase_begin(run->journal, run->row.id, "undo", &row, NULL);
    (void)CO_FAULT("undo:begin"); /* to be killed, stopped or delayed here; an undo has no other way to go */
    switch_back(run);
    int failed = run->source_lost ? 0 : co_lanes_each(run, undo_source);
    int64_t back_ns = co_now_ns();
    run->undoing = false;
    co_guardian_tell(run, "returned", 0); /* nothing presses any more; when this process fails it exits, and that is seen */
    if (failed) {
        co_journal_phase_end(run->journal, row, "failed", NULL, NULL);
        co_fail(&err, failed, "the undo isn't finished: not every old primary takes writes again");
        return unfinished(run, &err);
    }
    if (run->in_pause) {
        run->pause_end_ns = back_ns;
        run->result->write_pause_ms = run->result->unavailable_ms = (back_ns - run->pause_begin_ns) / CO_NS_PER_MS;
    }
    bool clean = true;
    co_lanes_each(run, undo_target); /* what isn't as before is noted */
    for (size_t i = 0; i < run->lane_count; i++)
        clean = clean && (run->lanes[i].target_clean || run->lanes[i].target_final);
    if (clean) {
        size_t told = run->result->error_count;
        co_markers_remove(run, CO_TARGET);
        run->result->error_count = told; /* of a target that is gone all was said */
        co_markers_remove(run, CO_SOURCE);
    }
    co_audit_facts(run, "after");
    if (co_hooks_run(run, &config->cutover.after_undo, "after_undo", run->source, CO_FOREVER, &err))
        co_runner_note(run, &err);
    (void)CO_FAULT("undo:end");
    co_journal_phase_end(run->journal, row, "done", NULL, NULL);
    if (run->session->watch) {
        struct co_watch_event event = {
            .kind = CO_WATCH_PHASE_END, .phase = "undo", .text = "done", .ms = (co_now_ns() - began) / CO_NS_PER_MS};
        run->session->watch(&event, run->session->watch_arg);
    }
    run->result->outcome = refused ? "refused" : "undone";
    run->result->exit_code = refused ? refuse_exit : CO_EXIT_UNDONE;
    run->result->primary = run->source_lost ? -1 : (int)run->source;
    for (size_t i = 0; i < run->lane_count; i++)
        run->result->pairs[i].primary = run->lanes[i].source_back ? (int)run->source : -1;
    if (!clean) /* the row stays open: `resume` goes on with the target, and no other run begins before */
        return run->result->exit_code;
    if (co_journal_end(run->journal, run->row.id, run->row.epoch, run->result->outcome, (int)run->result->exit_code,
                       run->result->write_pause_ms, run->result->unavailable_ms, &err))
        return unfinished(run, &err);
    return run->result->exit_code;
}
