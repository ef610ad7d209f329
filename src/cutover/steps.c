/* steps.c - applying and reverting a driver's steps, with every act in the journal.
 *
 * Invariants
 *   - A step's intent is durable before its first apply (co_lane_describe, in warm_up).
 *   - Before the commit a result other than done ends the phase; nobody repeats what might have happened. The
 *     undo looks (probe) and reverts.
 *   - After the commit (co_steps_insist) a step is repeated only after a probe has said that it isn't there.
 */
#include "cutover/run.h"

#include <stdlib.h>
#include <string.h>

#define AGAIN_NS CO_NS_PER_MS         /* between two calls of one that isn't finished */
#define RETRY_NS (100 * CO_NS_PER_MS) /* between two tries to reach a server */
#define INSIST_CALL_NS (3 * CO_NS_PER_S)

static int64_t record_begin(struct co_lane *lane, const struct co_step *step, const char *action, size_t index)
{
    struct co_runner *run = lane->run;
    int64_t row = -1;
    enum co_side side = step->role == CO_SOURCE ? run->source : co_side_other(run->source);
    CO_TEXT_AUTO statement = CO_TEXT_INIT;
    co_audit_resolve(run, lane->statements ? lane->statements[index] : NULL, &statement);
    struct co_step_row entry = {.pair = co_pair_name(lane->pair),
                                .side = co_side_name(side),
                                .phase = run->phase,
                                .step = step->name,
                                .action = action,
                                .statement = co_text_str(&statement)};
    co_journal_step_begin(run->journal, run->row.id, &entry, &row, NULL);
    return row;
}

static void record_end(struct co_lane *lane, int64_t row, const char *result, const char *detail)
{
    if (row >= 0)
        co_journal_step_end(lane->run->journal, row, result, detail, NULL);
}

static struct co_endpoint *endpoint_of(struct co_lane *lane, enum co_run_role role, bool second)
{
    return second ? lane->second[role] : lane->main[role];
}

/* ---------------------------------------------------------------- describe */

static int describe_one(struct co_lane *lane, size_t index, struct co_error *err)
{
    const struct co_step *step = co_pair_step(lane->pair, index);
    struct co_endpoint *ep = lane->main[step->role], *other = lane->main[!step->role];
    struct co_runner *run = lane->run;
    lane->wanted[index] = !(run->source_lost && step->role == CO_SOURCE) && co_ep_step_wanted(ep, other, step);
    free(lane->statements[index]);
    lane->statements[index] = NULL;
    if (!lane->wanted[index])
        return 0;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    enum co_result got = co_ep_step_describe(ep, other, step, co_now_ns() + CO_CALL_NS, &text, err);
    if (got != CO_DONE) {
        co_error_prefix(err, "step %s can't be described: ", step->name);
        return err->code;
    }
    lane->statements[index] = co_strdup(co_text_str(&text));
    return lane->statements[index] ? 0 : co_fail(err, CO_E_NOMEM, "out of memory");
}

static int intent(struct co_lane *lane, size_t index, struct co_error *err)
{
    const struct co_step *step = co_pair_step(lane->pair, index);
    int64_t row = record_begin(lane, step, "intent", index);
    if (row < 0)
        return co_fail(err, CO_E_IO, "the journal doesn't take the intent of step %s", step->name);
    return 0;
}

int co_lane_describe(struct co_lane *lane, struct co_error *err)
{
    size_t count = co_pair_step_count(lane->pair);
    if (!lane->wanted)
        lane->wanted = calloc(count ? count : 1, sizeof *lane->wanted);
    if (!lane->statements)
        lane->statements = calloc(count ? count : 1, sizeof *lane->statements);
    if (!lane->wanted || !lane->statements)
        return co_fail(err, CO_E_NOMEM, "out of memory");
    for (size_t i = 0; i < count; i++) {
        enum co_phase phase = co_pair_step(lane->pair, i)->phase;
        if (phase == CO_PHASE_SETUP || phase == CO_PHASE_DETACH)
            continue;
        int failed = describe_one(lane, i, err);
        if (!failed && lane->wanted[i])
            failed = intent(lane, i, err);
        if (failed)
            return failed;
    }
    return 0;
}

/* Is the step part of this run? In a process that took the run over nothing was described: ask. */
static bool is_wanted(struct co_lane *lane, size_t index, bool second)
{
    const struct co_step *step = co_pair_step(lane->pair, index);
    if (lane->wanted)
        return lane->wanted[index];
    return co_ep_step_wanted(endpoint_of(lane, step->role, second), endpoint_of(lane, !step->role, second), step);
}

/* ---------------------------------------------------------------- apply */

static int apply_one(struct co_lane *lane, size_t index, bool second, int64_t deadline_ns)
{
    struct co_runner *run = lane->run;
    const struct co_step *step = co_pair_step(lane->pair, index);
    struct co_endpoint *ep = endpoint_of(lane, step->role, second);
    struct co_endpoint *other = co_lane_other(lane, step, ep, second);
    co_runner_say(run, co_pair_name(lane->pair), CO_WATCH_STEP, "%s", step->title);
    int64_t row = record_begin(lane, step, "apply", index);
    for (;;) {
        if (co_run_cancelled(run, &lane->error)) {
            record_end(lane, row, "interrupted", lane->error.message);
            return lane->error.code;
        }
        int64_t call_ns = step->flags & CO_STEP_SLOW ? CO_SLOW_CALL_NS : CO_CALL_NS;
        co_lane_listen(lane, ep);
        enum co_result got =
            co_ep_step_apply(ep, other, step, co_min_deadline(deadline_ns, co_now_ns() + call_ns), &lane->error);
        co_endpoint_sink(ep, NULL);
        if (got == CO_AGAIN && co_now_ns() < deadline_ns) {
            co_wait_until(co_min_deadline(deadline_ns, co_now_ns() + AGAIN_NS), run->committed ? -1 : run->session->wake_fd);
            continue;
        }
        record_end(lane, row, co_result_name(got), got == CO_DONE ? "" : lane->error.message);
        if (got == CO_DONE) {
            co_error_clear(&lane->error);
            return 0;
        }
        if (got == CO_AGAIN)
            co_fail(&lane->error, CO_E_TIMEOUT, "pair %s: step %s isn't finished and its time is over",
                    co_pair_name(lane->pair), step->name);
        return co_lane_fail(lane, got);
    }
}

int co_steps_apply(struct co_lane *lane, enum co_phase phase, enum co_run_role role, bool second, int64_t deadline_ns)
{
    for (size_t i = 0; i < co_pair_step_count(lane->pair); i++) {
        const struct co_step *step = co_pair_step(lane->pair, i);
        if (step->phase != phase || step->role != role || !is_wanted(lane, i, second))
            continue;
        int failed = apply_one(lane, i, second, deadline_ns);
        if (failed)
            return failed;
    }
    return 0;
}

/* ---------------------------------------------------------------- insist */

/* Errors that no second try mends. */
static bool is_final(int code)
{
    return code == CO_E_UNSUPPORTED || code == CO_E_CONFIG;
}

static enum co_result insist_once(struct co_lane *lane, size_t index, int64_t deadline_ns)
{
    const struct co_step *step = co_pair_step(lane->pair, index);
    struct co_endpoint *ep = lane->second[step->role], *other = co_lane_other(lane, step, ep, true);
    int64_t call_ns =
        co_min_deadline(deadline_ns, co_now_ns() + (step->flags & CO_STEP_SLOW ? CO_SLOW_CALL_NS : INSIST_CALL_NS));
    co_guardian_pulse(lane->run, call_ns);
    enum co_presence there = CO_ABSENT;
    enum co_result got = co_ep_step_probe(ep, other, step, call_ns, &there, &lane->error);
    if (got != CO_DONE)
        return got;
    if (there == CO_PRESENT)
        return CO_DONE;
    int64_t row = record_begin(lane, step, "apply", index);
    co_lane_listen(lane, ep);
    got = co_ep_step_apply(ep, other, step, call_ns, &lane->error);
    co_endpoint_sink(ep, NULL);
    record_end(lane, row, co_result_name(got), got == CO_DONE || got == CO_AGAIN ? "" : lane->error.message);
    return got;
}

int co_steps_insist(struct co_lane *lane, enum co_phase phase, enum co_run_role role, int64_t deadline_ns, int64_t patience_ns)
{
    for (size_t i = 0; i < co_pair_step_count(lane->pair); i++) {
        const struct co_step *step = co_pair_step(lane->pair, i);
        if (step->phase != phase || step->role != role || !is_wanted(lane, i, true))
            continue;
        int64_t failing_since_ns = 0;
        for (;;) {
            enum co_result got = insist_once(lane, i, deadline_ns);
            if (got == CO_DONE)
                break;
            if (got != CO_AGAIN &&
                (lane->error.code == CO_E_CONFLICT || (patience_ns != CO_FOREVER && is_final(lane->error.code))))
                return lane->error.code; /* somebody else has the run, or time changes nothing: hands off */
            int64_t now_ns = co_now_ns();
            failing_since_ns = got == CO_AGAIN ? 0 : failing_since_ns ? failing_since_ns : now_ns;
            if (now_ns >= deadline_ns || (failing_since_ns && now_ns - failing_since_ns >= patience_ns))
                return co_lane_fail(lane, got);
            if (got != CO_AGAIN)
                co_runner_say(lane->run, co_pair_name(lane->pair), CO_WATCH_WAIT, "%s: %s", step->name, lane->error.message);
            co_wait_until(co_min_deadline(deadline_ns, co_now_ns() + (got == CO_AGAIN ? AGAIN_NS : RETRY_NS)), -1);
            if (co_now_ns() >= deadline_ns)
                return co_lane_fail(lane, got);
        }
        co_error_clear(&lane->error);
    }
    return 0;
}

/* ---------------------------------------------------------------- revert */

/* Reverts one step until a probe says that it is absent. */
static int revert_one(struct co_lane *lane, size_t index, int64_t deadline_ns)
{
    const struct co_step *step = co_pair_step(lane->pair, index);
    struct co_endpoint *ep = lane->second[step->role], *other = co_lane_other(lane, step, ep, true);
    bool reverted = false;
    for (;;) {
        int64_t call_ns =
            co_min_deadline(deadline_ns, co_now_ns() + (step->flags & CO_STEP_SLOW ? CO_SLOW_CALL_NS : INSIST_CALL_NS));
        enum co_presence there = CO_PARTIAL;
        co_guardian_pulse(lane->run, call_ns);
        enum co_result got = co_ep_step_probe(ep, other, step, call_ns, &there, &lane->error);
        if (got == CO_DONE && there == CO_ABSENT) {
            co_error_clear(&lane->error);
            return 0;
        }
        if (got == CO_DONE) {
            co_runner_say(lane->run, co_pair_name(lane->pair), CO_WATCH_STEP, "take back: %s", step->title);
            int64_t row = record_begin(lane, step, "revert", index);
            co_guardian_pulse(lane->run, call_ns);
            got = co_ep_step_revert(ep, other, step, call_ns, &lane->error);
            record_end(lane, row, co_result_name(got), got == CO_DONE || got == CO_AGAIN ? "" : lane->error.message);
            if (got == CO_DONE && co_now_ns() < deadline_ns && !reverted) {
                reverted = true;
                continue; /* seen by the probe; when that doesn't see it yet, at the pace of tries */
            }
        }
        bool held_lost = lane->source_held && step->role == CO_SOURCE && lane->error.code == CO_E_UNREACHABLE;
        if (got != CO_AGAIN && got != CO_DONE &&
            (held_lost || lane->error.code == CO_E_CONFLICT || lane->error.code == CO_E_UNSUPPORTED))
            return lane->error.code;
        if (got == CO_DONE)
            co_fail(&lane->error, CO_E_TIMEOUT, "pair %s: step %s was taken back and is still seen", co_pair_name(lane->pair),
                    step->name);
        if (co_now_ns() >= deadline_ns)
            return co_lane_fail(lane, got);
        if (got != CO_AGAIN)
            co_runner_say(lane->run, co_pair_name(lane->pair), CO_WATCH_WAIT, "%s: %s", step->name, lane->error.message);
        int64_t pause_ns = got == CO_AGAIN ? AGAIN_NS : got == CO_DONE ? RETRY_NS / 10 : RETRY_NS;
        co_wait_until(co_min_deadline(deadline_ns, co_now_ns() + pause_ns), -1);
        if (co_now_ns() >= deadline_ns)
            return co_lane_fail(lane, got); /* one more try would only say that time is over, and not what was the matter */
    }
}

int co_steps_revert(struct co_lane *lane, enum co_phase phase, enum co_run_role role, int64_t deadline_ns)
{
    int failed = 0;
    struct co_error first = {0};
    for (size_t i = co_pair_step_count(lane->pair); i-- > 0;) {
        const struct co_step *step = co_pair_step(lane->pair, i);
        if (step->phase != phase || step->role != role || !step->revert || (step->flags & CO_STEP_KEEPS) ||
            !is_wanted(lane, i, true))
            continue;
        int code = revert_one(lane, i, deadline_ns);
        if (code && !failed) {
            failed = code;
            first = lane->error;
        }
    }
    if (failed)
        lane->error = first;
    return failed;
}
