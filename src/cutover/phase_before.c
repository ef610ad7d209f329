/* phase_before.c - the phases before the write pause: lock, check, gate, warm_up. A failure here refuses the
 * run; whatever was set is taken back and no client noticed anything (but those whose reads were on the
 * target, which warm_up closes).
 */
#include "cutover/run.h"

#include <stdio.h>

#define GATE_SAMPLE_MIN_NS (50 * CO_NS_PER_MS)
#define GATE_SAMPLE_MAX_NS (500 * CO_NS_PER_MS)

/* ---------------------------------------------------------------- lock */

/* Who is there? Records the identities that every later connection is held against. */
static int meet(struct co_lane *lane, enum co_run_role role, struct co_error *err)
{
    struct co_runner *run = lane->run;
    if (run->source_lost && role == CO_SOURCE)
        return co_lost_is_gone(lane, err);
    struct co_identity_data id = {0};
    struct co_endpoint *ep = lane->main[role];
    enum co_result got = co_ep_identify(ep, co_now_ns() + CO_CONNECT_NS, &id, err);
    if (got == CO_DONE) {
        const char *side = co_side_name(co_endpoint_side(ep));
        co_text_set_str(&lane->instance[co_endpoint_side(ep)], co_text_str(&id.instance));
        co_pair_record_identity(lane->pair, co_endpoint_side(ep), co_text_str(&id.instance), co_text_str(&id.lineage));
        co_journal_identity_put(run->journal, co_pair_name(lane->pair), side, co_text_str(&id.instance),
                                co_text_str(&id.lineage), NULL);
        if (co_pair_note_put(lane->pair, co_endpoint_side(ep), CO_NOTE_INCARNATION, co_text_str(&id.incarnation), err) < 0)
            got = CO_NO_EFFECT;
    } else if (run->follows_up && role == CO_SOURCE && err->code == CO_E_UNREACHABLE) {
        got = CO_DONE; /* the reverse that failed left it down; whether it can be marked like that the driver says */
    } else if (err->code == CO_E_UNREACHABLE || err->code == CO_E_TIMEOUT || err->code == CO_E_MISMATCH ||
               err->code == CO_E_AUTH) {
        lane->refuse_exit = CO_EXIT_UNKNOWN;
    }
    co_identity_data_done(&id);
    return got == CO_DONE ? 0 : err->code;
}

static int ask_capabilities(struct co_lane *lane)
{
    enum co_result got = co_ep_capabilities(lane->main[CO_TARGET], co_now_ns() + CO_CONNECT_NS, &lane->caps, &lane->error);
    co_pair_set_marker_offline(lane->pair, CO_SOURCE, got == CO_DONE && lane->run->follows_up && lane->caps.marker_offline);
    return got == CO_DONE ? co_capabilities_keep(lane, &lane->error) : co_lane_fail(lane, got);
}

/* A side that isn't there may have been stopped by another run's fence: then the marker beside it is the reason to give. */
static int held_by_another_run(struct co_runner *run)
{
    for (size_t i = 0; i < run->lane_count; i++)
        for (int role = 0; role < 2; role++) {
            struct co_lane *lane = &run->lanes[i];
            struct co_error err = {0};
            bool met = lane->instance[co_endpoint_side(lane->main[role])].bytes > 0;
            if (met && co_marker_free(lane, (enum co_run_role)role, &err) == CO_E_CONFLICT) {
                co_runner_note(run, &err);
                return err.code;
            }
        }
    return 0;
}

int co_do_lock(struct co_runner *run)
{
    int failed = co_sides_each(run, meet);
    if (failed && held_by_another_run(run) == CO_E_CONFLICT)
        failed = CO_E_CONFLICT;
    if (!failed)
        failed = co_lanes_each(run, ask_capabilities);
    if (!failed)
        failed = co_compare_instances(run);
    if (!failed)
        failed = co_markers_set(run);
    return failed;
}

/* ---------------------------------------------------------------- check */

static int check_lane(struct co_lane *lane)
{
    return co_check_refuses(lane, CO_CHECK_CUTOVER, NULL);
}

int co_do_check(struct co_runner *run)
{
    if (run->source_lost)
        return 0;
    size_t no_vote = 0;
    for (size_t i = 0; i < run->lane_count; i++)
        no_vote += !run->lanes[i].caps.promote_closed;
    if (no_vote > 1) {
        struct co_error err;
        co_fail(&err, CO_E_UNSUPPORTED, "%zu pairs can't be promoted closed; a group may hold one such pair at most", no_vote);
        co_hint(&err, "Cut the others over in a migration of their own.");
        co_runner_note(run, &err);
        return err.code;
    }
    return co_lanes_each(run, check_lane);
}

/* ---------------------------------------------------------------- gate */

struct co_gate_wait {
    int64_t deadline_ns;
    atomic_size_t open; /* lanes whose gate is open right now */
    atomic_bool give_up;
    bool stay; /* --when-ready: closed and broken are waited out */
};

static enum co_exit exit_of_gate(enum co_gate_state state)
{
    return (enum co_exit)state;
}

/* Samples until every lane's gate is open at the same time. */
static int gate_loop(struct co_lane *lane, struct co_gate_wait *wait, struct co_lag *lag, struct co_gate *gate)
{
    struct co_runner *run = lane->run;
    int64_t stable_ns = co_pair_config(lane->pair)->gate.stable_for_ms * CO_NS_PER_MS;
    int64_t pace_ns = stable_ns / 20;
    pace_ns = pace_ns < GATE_SAMPLE_MIN_NS ? GATE_SAMPLE_MIN_NS : pace_ns > GATE_SAMPLE_MAX_NS ? GATE_SAMPLE_MAX_NS : pace_ns;
    bool counted = false;
    for (;;) {
        struct co_lag_sample sample;
        CO_TEXT_AUTO reason = CO_TEXT_INIT;
        CO_TEXT_AUTO faster = CO_TEXT_INIT;
        int64_t stable_ms = 0, began = co_now_ns();
        co_lag_measure(lag, -1, &sample);
        co_text_set_str(&faster, co_text_str(&sample.faster));
        enum co_gate_state state = co_gate_feed(gate, &sample, &stable_ms, &reason);
        bool waiting_only = state == CO_GATE_CLOSED && sample.state == CO_GATE_OPEN; /* stable_for isn't over */
        struct co_lag_row row = {.wall_ms = sample.wall_ms,
                                 .pair = co_pair_name(lane->pair),
                                 .direction = sample.primary == CO_SIDE_A ? "a_to_b" : "b_to_a",
                                 .state = co_gate_name(sample.state),
                                 .reason = co_text_str(&sample.reason),
                                 .lag_ms = sample.lag_ms,
                                 .lag_at_least_ms = sample.lag_at_least_ms,
                                 .lag_bytes = sample.lag_bytes,
                                 .lag_transactions = sample.lag_transactions,
                                 .primary_position = co_text_str(&sample.primary_position),
                                 .applied_position = co_text_str(&sample.applied_position)};
        co_journal_lag(run->journal, &row, NULL);
        co_lag_sample_done(&sample);
        if ((state == CO_GATE_OPEN) != counted) {
            counted = !counted;
            if (counted)
                atomic_fetch_add(&wait->open, 1);
            else
                atomic_fetch_sub(&wait->open, 1);
        }
        if (atomic_load(&wait->open) == run->lane_count)
            return 0;
        if (co_run_cancelled(run, &lane->error))
            return lane->error.code;
        if (atomic_load(&wait->give_up))
            return 0; /* another lane says why */
        if (!counted) {
            co_runner_say(run, co_pair_name(lane->pair), CO_WATCH_WAIT, "gate %s: %s", co_gate_name(state),
                          co_text_str(&reason));
            if ((!waiting_only && !wait->stay) || co_now_ns() >= wait->deadline_ns) {
                lane->refuse_exit = exit_of_gate(state == CO_GATE_OPEN ? CO_GATE_CLOSED : state);
                atomic_store(&wait->give_up, true);
                co_fail(&lane->error, state == CO_GATE_BROKEN ? CO_E_BROKEN : CO_E_STATE, "pair %s: the gate is %s: %s",
                        co_pair_name(lane->pair), co_gate_name(state), co_text_str(&reason));
                if (state == CO_GATE_CLOSED)
                    co_hint(&lane->error,
                            "Wait with `cutover --when-ready` or `lag --wait`; if the lag doesn't fall, the "
                            "follower applies slower than the primary writes: %s",
                            faster.bytes ? co_text_str(&faster) : "`changeover check` names remedies.");
                else
                    co_hint(&lane->error, "`changeover status` shows both sides and what to do.");
                return lane->error.code;
            }
        }
        co_wait_until(began + pace_ns, run->session->wake_fd);
    }
}

static int gate_lane(struct co_lane *lane)
{
    struct co_lag *lag = NULL;
    struct co_gate_wait *wait = lane->run->gate;
    int failed = co_lag_new(lane->pair, &lag, &lane->error);
    struct co_gate *gate = failed ? NULL : co_gate_new(co_pair_config(lane->pair));
    if (!failed && !gate)
        failed = co_fail(&lane->error, CO_E_NOMEM, "out of memory");
    if (!failed && lane->caps.rounds)
        co_lag_with_rounds(lag);
    if (!failed)
        failed = gate_loop(lane, wait, lag, gate);
    if (failed)
        atomic_store(&wait->give_up, true);
    co_gate_free(gate);
    co_lag_free(lag);
    return failed;
}

int co_do_gate(struct co_runner *run)
{
    if (run->source_lost)
        return 0;
    struct co_gate_wait wait = {.stay = run->options->when_ready_ms >= 0, .deadline_ns = CO_FOREVER};
    if (run->options->when_ready_ms >= 0 && run->options->when_ready_ms != CO_FOREVER)
        wait.deadline_ns = co_deadline_in_ms(run->options->when_ready_ms);
    run->gate = &wait;
    int failed = co_lanes_each(run, gate_lane);
    run->gate = NULL;
    return failed;
}

/* ---------------------------------------------------------------- warm_up */

static int prepare_side(struct co_lane *lane, enum co_run_role role, struct co_error *err)
{
    if (lane->run->source_lost && role == CO_SOURCE)
        return 0;
    struct co_endpoint *eps[] = {lane->main[role], lane->second[role]};
    for (size_t i = 0; i < 2; i++) {
        enum co_result got;
        int64_t deadline_ns = co_now_ns() + CO_SLOW_CALL_NS;
        do
            got = co_ep_prepare(eps[i], deadline_ns, err);
        while (got == CO_AGAIN && !co_run_cancelled(lane->run, err));
        if (got != CO_DONE)
            return err->code ? err->code : CO_E_INTERNAL;
    }
    return 0;
}

static int describe_lane(struct co_lane *lane)
{
    return co_lane_describe(lane, &lane->error);
}

static int warm_source(struct co_lane *lane)
{
    return lane->run->source_lost ? 0 : co_steps_apply(lane, CO_PHASE_WARM_UP, CO_SOURCE, false, co_now_ns() + CO_WARM_UP_NS);
}

static int warm_target(struct co_lane *lane)
{
    return co_steps_apply(lane, CO_PHASE_WARM_UP, CO_TARGET, false, co_now_ns() + CO_WARM_UP_NS);
}

/* The second connections and those of the guardian log in as other actors of the same run. */
static int open_second(struct co_runner *run, struct co_error *err)
{
    char actor[25];
    snprintf(actor, sizeof actor, "%.20su", run->actor);
    CO_AUTOFREE char *main_actor = co_strdup(run->actor);
    if (!main_actor)
        return co_fail(err, CO_E_NOMEM, "out of memory");
    co_runner_identify(run, actor, err);
    int failed = co_lanes_connect_second(run);
    co_runner_identify(run, main_actor, err);
    return failed;
}

int co_do_warm_up(struct co_runner *run)
{
    struct co_error err = {0};
    int failed = open_second(run, &err);
    if (failed)
        return failed;
    co_audit_facts(run, "before");
    failed = co_sides_each(run, prepare_side);
    if (failed)
        return failed;

    /* all intents and originals: one durable transaction */
    failed = co_journal_batch(run->journal, true, &err);
    if (!failed) {
        failed = co_lanes_each(run, describe_lane);
        int ended = co_journal_batch_end(run->journal, &err);
        if (failed)
            return failed;
        failed = ended;
    }
    if (!failed)
        failed = co_journal_reserve(run->journal, &err);
    if (failed) {
        co_runner_note(run, &err);
        return failed;
    }
    run->warmed = true;
    failed = co_markers_update_info(run);
    if (failed)
        return failed;
    failed = co_guardian_start(run, &err);
    if (failed) {
        co_runner_note(run, &err);
        return failed;
    }
    failed = co_lanes_each(run, warm_source);
    if (!failed)
        failed = co_lanes_each(run, warm_target);
    if (failed)
        return failed;
    failed = co_hooks_run(run, &run->session->config->cutover.freeze, "freeze", run->source, CO_FOREVER, &err);
    if (failed)
        co_runner_note(run, &err);
    else
        co_runner_hold(run, true);
    return failed;
}
