/* phase_pause.c - the write pause: fence, drain, capture, catch_up, prove, reverse_prepare, promote, commit, open.
 *
 * Invariants: nothing here connects, starts a process or resolves a name; every wait is bounded by the pause's
 * deadline; the one fsync is the commit's (and, with a pair that can't vote, the record that it decides).
 */
#include "cutover/run.h"

#include <string.h>

#define WAIT_SLICE_NS CO_NS_PER_S   /* an answer that comes later costs the connection, and with it the run */
#define ASK_NS (200 * CO_NS_PER_MS) /* between two questions to a server that doesn't answer */
#define POLL_NS CO_NS_PER_MS
#define STILL_NS (500 * CO_NS_PER_MS)
#define OPEN_BUDGET_NS (30 * CO_NS_PER_S)

/* ---------------------------------------------------------------- fence, drain, capture */

static int fence_lane(struct co_lane *lane)
{
    lane->fence_ns = co_now_ns();
    int failed = co_steps_apply(lane, CO_PHASE_FENCE, CO_SOURCE, false, lane->run->pause_deadline_ns);
    return failed ? failed : co_steps_apply(lane, CO_PHASE_FENCE, CO_TARGET, false, lane->run->pause_deadline_ns);
}

/* All pairs wait for each other until the commit, so the tightest of their limits is that of the group. */
static int64_t choose_max_pause(struct co_runner *run)
{
    if (run->options->max_write_pause_ms >= 0)
        return run->options->max_write_pause_ms;
    int64_t pause_ms = run->session->config->cutover.max_write_pause_ms;
    for (size_t i = 0; i < run->lane_count; i++) {
        const struct co_pair_config *pair = co_pair_config(run->lanes[i].pair);
        if (pair->max_write_pause_ms > 0 && pair->max_write_pause_ms < pause_ms) {
            pause_ms = pair->max_write_pause_ms;
            run->pause_limited_by = pair->name;
        }
    }
    return pause_ms;
}

int co_do_fence(struct co_runner *run)
{
    int64_t pause_ms = choose_max_pause(run);
    run->pause_begin_ns = co_now_ns();
    run->pause_deadline_ns = run->pause_begin_ns + pause_ms * CO_NS_PER_MS;
    run->in_pause = true;
    co_guardian_tell(run, "pause", run->pause_deadline_ns);
    return run->source_lost ? 0 : co_lanes_each(run, fence_lane);
}

static int drain_lane(struct co_lane *lane)
{
    struct co_runner *run = lane->run;
    const struct co_pair_config *config = co_pair_config(lane->pair);
    int64_t patience_ns = co_min_deadline(co_deadline_in_ms(config->drain.timeout_ms), run->pause_deadline_ns);
    CO_TEXT_AUTO remaining = CO_TEXT_INIT;
    CO_TEXT_AUTO said = CO_TEXT_INIT;
    bool end = false;
    for (;;) {
        co_text_clear(&remaining);
        enum co_result got =
            co_ep_drain(lane->main[CO_SOURCE], end, co_run_deadline(run, CO_CALL_NS), &remaining, &lane->error);
        if (got == CO_DONE)
            return 0;
        if (got != CO_AGAIN)
            return co_lane_fail(lane, got);
        if (co_run_cancelled(run, &lane->error))
            return lane->error.code;
        if (!end && co_now_ns() >= patience_ns) {
            if (config->drain.refuse) {
                co_fail(&lane->error, CO_E_STATE, "pair %s: writes didn't end within drain.timeout: %s", config->name,
                        co_text_str(&remaining));
                co_hint(&lane->error, "End them, or set drain.on_timeout: end.");
                return lane->error.code;
            }
            end = true;
            co_journal_event(run->journal, run->row.id, config->name, "drain", co_text_str(&remaining), NULL);
        }
        if (strcmp(co_text_str(&said), co_text_str(&remaining)) != 0) {
            co_text_set_str(&said, co_text_str(&remaining));
            co_runner_say(run, config->name, CO_WATCH_WAIT, "%s %s", end ? "ending:" : "waiting for", co_text_str(&remaining));
        }
        co_wait_until(co_min_deadline(co_now_ns() + POLL_NS, run->pause_deadline_ns), run->session->wake_fd);
    }
}

int co_do_drain(struct co_runner *run)
{
    return run->source_lost ? 0 : co_lanes_each(run, drain_lane);
}

/* The source is lost: whatever the target has received of it and not applied yet would be lost, too. Seen to stand still. */
static int let_it_apply(struct co_lane *lane)
{
    struct co_runner *run = lane->run;
    CO_TEXT_AUTO before = CO_TEXT_INIT;
    int64_t still_since_ns = co_now_ns();
    for (;;) {
        enum co_result got =
            co_ep_applied(lane->main[CO_TARGET], co_run_deadline(run, CO_CALL_NS), &lane->position, &lane->error);
        if (got != CO_DONE && got != CO_AGAIN)
            return co_lane_fail(lane, got);
        int64_t now_ns = co_now_ns();
        if (got == CO_DONE && strcmp(co_text_str(&lane->position), co_text_str(&before)) != 0) {
            co_text_set_str(&before, co_text_str(&lane->position));
            still_since_ns = now_ns;
        }
        if (got == CO_DONE && now_ns - still_since_ns >= STILL_NS)
            return 0;
        if (co_run_cancelled(run, &lane->error)) {
            co_hint(&lane->error, "It still applies what it had received: try again when it is done, or with a longer "
                                  "--max-write-pause.");
            return lane->error.code;
        }
        co_wait_until(now_ns + STILL_NS / 10, run->session->wake_fd);
    }
}

static int capture_lane(struct co_lane *lane)
{
    struct co_runner *run = lane->run;
    enum co_run_role role = run->source_lost ? CO_TARGET : CO_SOURCE;
    enum co_result got;
    if (run->source_lost && let_it_apply(lane))
        return lane->error.code;
    while ((got = run->source_lost
                      ? co_ep_applied(lane->main[CO_TARGET], co_run_deadline(run, CO_CALL_NS), &lane->position, &lane->error)
                      : co_ep_capture(lane->main[CO_SOURCE], co_run_deadline(run, CO_CALL_NS), &lane->position,
                                      &lane->error)) == CO_AGAIN) {
        if (co_run_cancelled(run, &lane->error))
            return lane->error.code;
        co_wait_until(co_now_ns() + POLL_NS, run->session->wake_fd);
    }
    if (got != CO_DONE)
        return co_lane_fail(lane, got);
    if (!lane->position.bytes)
        return co_fail(&lane->error, CO_E_STATE, "pair %s: the captured position is empty", co_pair_name(lane->pair));
    return co_journal_position(run->journal, run->row.id, co_pair_name(lane->pair),
                               co_side_name(co_endpoint_side(lane->main[role])), "captured", co_text_str(&lane->position),
                               &lane->error);
}

int co_do_capture(struct co_runner *run)
{
    return co_lanes_each(run, capture_lane);
}

/* ---------------------------------------------------------------- catch_up, prove */

static int catch_up_cancelled(struct co_lane *lane, const char *applied)
{
    int code = co_run_cancelled(lane->run, &lane->error);
    if (code == CO_E_TIMEOUT && *applied) {
        co_fail(&lane->error, CO_E_TIMEOUT, "pair %s: the target has applied %s of %s when max_write_pause was over",
                co_pair_name(lane->pair), applied, co_text_str(&lane->position));
        co_hint(&lane->error, "Nothing is lost: the old primary takes writes again. See why the follower is slow "
                              "(`changeover status`, `changeover check`) before the next try.");
    }
    return code;
}

/* A question that was under way when the time was over ends its connection; the time is the reason. */
static int catch_up_failed(struct co_lane *lane, const char *applied, enum co_result got)
{
    int cancelled = catch_up_cancelled(lane, applied);
    return cancelled ? cancelled : co_lane_fail(lane, got);
}

static int catch_up_lane(struct co_lane *lane)
{
    struct co_runner *run = lane->run;
    struct co_endpoint *ep = lane->main[CO_TARGET];
    const char *want = co_text_str(&lane->position);
    bool own_wait = co_pair_driver(lane->pair)->wait_applied != NULL;
    CO_TEXT_AUTO applied = CO_TEXT_INIT;
    CO_TEXT_AUTO last = CO_TEXT_INIT; /* outlives a question that fails */
    for (;;) {
        enum co_result got;
        if (own_wait) {
            got = co_ep_wait_applied(ep, want, co_run_deadline(run, WAIT_SLICE_NS), &lane->error);
            if (got != CO_DONE && got != CO_AGAIN && lane->error.code != CO_E_TIMEOUT)
                return catch_up_failed(lane, co_text_str(&last), got);
        }
        if (lane->caps.rounds &&
            co_ep_round(ep, lane->main[CO_SOURCE], co_run_deadline(run, CO_CALL_NS), &lane->error) > CO_AGAIN)
            return co_lane_fail(lane, CO_NO_EFFECT);
        got = co_ep_applied(ep, co_run_deadline(run, CO_CALL_NS), &applied, &lane->error);
        if (got != CO_DONE)
            return catch_up_failed(lane, co_text_str(&last), got);
        co_text_set_str(&last, co_text_str(&applied));
        enum co_order order = co_pair_compare(lane->pair, co_text_str(&applied), want);
        if (order == CO_ORDER_EQUAL || order == CO_ORDER_AHEAD)
            break;
        if (order != CO_ORDER_BEHIND)
            return co_fail(&lane->error, CO_E_DATA, "pair %s: the target has %s, which can't contain %s",
                           co_pair_name(lane->pair), co_text_str(&applied), want);
        int cancelled = catch_up_cancelled(lane, co_text_str(&applied));
        if (cancelled)
            return cancelled;
        if (!own_wait)
            co_wait_until(co_now_ns() + POLL_NS, run->session->wake_fd);
    }
    co_error_clear(&lane->error);
    return co_journal_position(run->journal, run->row.id, co_pair_name(lane->pair), co_side_name(co_endpoint_side(ep)),
                               "applied", co_text_str(&applied), &lane->error);
}

int co_do_catch_up(struct co_runner *run)
{
    return run->source_lost ? 0 : co_lanes_each(run, catch_up_lane);
}

static int prove_side(struct co_lane *lane, enum co_run_role role, struct co_error *err)
{
    struct co_runner *run = lane->run;
    if (run->source_lost)
        return 0;
    for (;;) {
        enum co_result got = co_ep_proof(lane->main[role], co_text_str(&lane->position), co_run_deadline(run, CO_CALL_NS), err);
        if (got == CO_DONE)
            return 0;
        if (got != CO_AGAIN)
            return err->code ? err->code : CO_E_INTERNAL;
        if (co_run_cancelled(run, err))
            return err->code;
        co_wait_until(co_now_ns() + POLL_NS, run->session->wake_fd);
    }
}

int co_do_prove(struct co_runner *run)
{
    return co_sides_each(run, prove_side);
}

/* ---------------------------------------------------------------- reverse_prepare, promote */

static int reverse_prepare_lane(struct co_lane *lane)
{
    return co_steps_apply(lane, CO_PHASE_REVERSE_PREPARE, CO_SOURCE, false, lane->run->pause_deadline_ns);
}

int co_do_reverse_prepare(struct co_runner *run)
{
    return run->source_lost ? 0 : co_lanes_each(run, reverse_prepare_lane);
}

static int promote_steps(struct co_lane *lane)
{
    int64_t began = co_now_ns();
    int failed = co_steps_apply(lane, CO_PHASE_PROMOTE, CO_TARGET, false, lane->run->pause_deadline_ns);
    lane->promotion_ns = co_now_ns() - began;
    return failed;
}

static int promote_lane(struct co_lane *lane)
{
    return lane->caps.promote_closed ? promote_steps(lane) : 0; /* the one that can't vote goes last, in commit */
}

static int prove_again(struct co_lane *lane, enum co_run_role role, struct co_error *err)
{
    return lane->caps.promote_closed || role == CO_SOURCE ? prove_side(lane, role, err) : 0;
}

int co_do_promote(struct co_runner *run)
{
    int failed = co_lanes_each(run, promote_lane);
    /* between the first proof and the last promotion locks time out, pauses expire, servers restart */
    return failed ? failed : co_sides_each(run, prove_again);
}

/* ---------------------------------------------------------------- commit */

struct co_lane *co_deciding_lane(struct co_runner *run)
{
    for (size_t i = 0; i < run->lane_count; i++)
        if (!run->lanes[i].caps.promote_closed)
            return &run->lanes[i];
    return NULL;
}

/* The run's newest token on every server: what follows the commit is checked against it. A source that can't be reached
 * now is followed up. */
static int mark_again(struct co_lane *lane)
{
    struct co_error ignored = {0};
    int64_t deadline_ns = co_now_ns() + CO_CONNECT_NS;
    if (!lane->run->source_lost && co_marker_take(lane, CO_SOURCE, CO_ABSENT_IS_LEFT, NULL, deadline_ns, &ignored))
        co_journal_event(lane->run->journal, lane->run->row.id, co_pair_name(lane->pair), "marker", ignored.message, NULL);
    return co_marker_take(lane, CO_TARGET, CO_ABSENT_IS_CONFLICT, NULL, deadline_ns, &lane->error);
}

/* The pair that can't be promoted closed: its promotion is the decision, and it opens. */
static int decide_by_server(struct co_runner *run, struct co_lane *lane, struct co_error *err)
{
    enum co_decision standing;
    int failed = co_journal_decide(run->journal, run->row.id, run->row.epoch, CO_DECISION_DECIDING, run->pause_deadline_ns,
                                   false, &standing, err);
    if (failed)
        return failed;
    run->row.decision = CO_DECISION_DECIDING;
    failed = promote_steps(lane);
    if (!failed)
        return 0;
    *err = lane->error;
    struct co_error ignored = {0};
    if (co_become_undoer(run, &ignored)) /* the guardian has the run: it asks */
        return err->code;
    failed = co_ask_decider(run, lane, co_deadline_in_ms(run->session->config->cutover.undo_budget_ms));
    if (!failed)
        co_lanes_each(run, mark_again); /* what fails here is noted, and met again when the lane is opened */
    return failed;
}

static bool is_planned(struct co_lane *lane, size_t index)
{
    const struct co_step *step = co_pair_step(lane->pair, index);
    return lane->wanted ? lane->wanted[index] : co_ep_step_wanted(lane->second[step->role], lane->second[!step->role], step);
}

/* The target can't be seen. A step that can be asked without it may know from the source that it isn't promoted and can't be
 * any more; the source's marker comes first, so that nothing that is still under way can bite. */
static bool is_refused_by_source(struct co_lane *lane, const struct co_step *step, int64_t deadline_ns, struct co_error *err)
{
    enum co_presence there = CO_PARTIAL;
    return (step->flags & CO_STEP_OFFLINE) && (step->flags & CO_STEP_OTHER) && !lane->run->source_lost &&
           co_marker_take(lane, CO_SOURCE, CO_ABSENT_IS_CONFLICT, NULL, deadline_ns, err) == 0 &&
           co_ep_step_probe(lane->second[step->role], co_lane_other(lane, step, NULL, true), step, deadline_ns, &there, err) ==
               CO_DONE &&
           there == CO_ABSENT;
}

/* One look at a step of the decider. The marker comes first: what was sent and is still under way is refused by the new
 * token, and its session is seen gone. "Not promoted" needs that on both servers, "promoted" does not. */
static int ask_once(struct co_lane *lane, const struct co_step *step, int64_t deadline_ns, struct co_error *err)
{
    struct co_endpoint *ep = lane->second[step->role], *other = co_lane_other(lane, step, NULL, true);
    enum co_presence there = CO_PARTIAL;
    int failed = co_marker_take(lane, CO_TARGET, CO_ABSENT_IS_CONFLICT, NULL, deadline_ns, err);
    if (failed && failed != CO_E_CONFLICT && is_refused_by_source(lane, step, deadline_ns, err))
        return CO_E_STATE;
    if (failed || co_ep_step_probe(ep, other, step, deadline_ns, &there, err) != CO_DONE)
        return CO_E_UNREACHABLE;
    if (there == CO_ABSENT && !lane->run->source_lost) {
        if (co_marker_take(lane, CO_SOURCE, CO_ABSENT_IS_LEFT, NULL, deadline_ns, err) ||
            co_ep_step_probe(ep, other, step, deadline_ns, &there, err) != CO_DONE)
            return CO_E_UNREACHABLE;
    }
    if (there == CO_PARTIAL)
        co_fail(err, CO_E_STATE, "step %s is half done", step->name);
    return there == CO_PRESENT ? 0 : there == CO_ABSENT ? CO_E_STATE : CO_E_UNREACHABLE;
}

/* The pair that decides was sent its promotion: did it happen? 0: yes. CO_E_STATE: no, and it can't any more.
 * Anything else: not known, and then nobody may act. This process holds the run's newest epoch. */
int co_ask_decider(struct co_runner *run, struct co_lane *lane, int64_t deadline_ns)
{
    int answer = CO_E_UNREACHABLE;
    for (size_t i = 0; i < co_pair_step_count(lane->pair); i++) {
        const struct co_step *step = co_pair_step(lane->pair, i);
        if (step->phase != CO_PHASE_PROMOTE || step->role != CO_TARGET || !is_planned(lane, i))
            continue;
        for (;;) {
            struct co_error err = {0};
            if (!run->is_guardian) /* asking may outlast the pause: the guardian hears that somebody is at it */
                co_guardian_tell(run, "undoing", co_now_ns() + CO_CONNECT_NS + CO_NS_PER_S);
            answer = ask_once(lane, step, co_min_deadline(deadline_ns, co_now_ns() + CO_CONNECT_NS), &err);
            if (answer == 0 || answer == CO_E_STATE)
                break;
            co_runner_say(run, co_pair_name(lane->pair), CO_WATCH_WAIT, "is it promoted? %s", err.message);
            if (err.code == CO_E_CONFLICT || co_now_ns() >= deadline_ns)
                return CO_E_UNREACHABLE;
            co_wait_until(co_now_ns() + ASK_NS, -1);
        }
        if (answer)
            break;
    }
    if (answer == CO_E_STATE)
        run->row.decision = CO_DECISION_NONE; /* free to undo */
    return answer;
}

int co_do_commit(struct co_runner *run)
{
    struct co_error err = {0};
    enum co_decision standing = CO_DECISION_NONE;
    int failed = co_run_cancelled(run, &err);
    struct co_lane *undecided = co_deciding_lane(run);
    if (!failed && run->session->config->cutover.open_after_switch) { /* the hooks took their time since the last proof */
        failed = co_sides_each(run, prove_again);
        if (failed)
            return failed;
    }
    if (!failed && undecided)
        failed = decide_by_server(run, undecided, &err);
    if (!failed)
        failed = co_journal_decide(run->journal, run->row.id, run->row.epoch, CO_DECISION_COMMIT,
                                   undecided ? 0 : run->pause_deadline_ns, false, &standing, &err);
    if (failed) {
        co_runner_note(run, &err);
        return failed;
    }
    run->committed = true;
    run->row.decision = CO_DECISION_COMMIT;
    co_guardian_tell(run, "committed", co_now_ns() + OPEN_BUDGET_NS);
    return 0;
}

/* ---------------------------------------------------------------- open */

static int open_lane(struct co_lane *lane)
{
    /* the prepared connection first; what it can't do is insisted on over the second one */
    int failed = co_steps_apply(lane, CO_PHASE_OPEN, CO_TARGET, false, co_now_ns() + CO_CALL_NS);
    if (failed && lane->error.code != CO_E_CONFLICT)
        failed = co_steps_insist(lane, CO_PHASE_OPEN, CO_TARGET, co_now_ns() + OPEN_BUDGET_NS, CO_FOREVER);
    if (failed)
        return failed;
    lane->open_ns = co_now_ns();
    lane->opened = true;
    return 0;
}

int co_do_open(struct co_runner *run)
{
    struct co_error err = {0};
    int failed = co_journal_opening(run->journal, run->row.id, run->row.epoch, &err);
    if (failed) {
        co_runner_note(run, &err);
        return failed;
    }
    failed = co_lanes_each(run, open_lane);
    if (failed)
        return failed;
    run->pause_end_ns = co_now_ns();
    run->in_pause = false;
    co_guardian_tell(run, "opened", 0);
    /* Frozen in between, this process may find open what another one opened: then the rest is the other one's, too. */
    failed = co_journal_opened(run->journal, run->row.id, run->row.epoch, &err);
    co_runner_hold(run, false);
    if (failed == CO_E_CONFLICT) {
        co_runner_note(run, &err);
        return failed;
    }
    return 0;
}
