/* phase_after.c - what follows when the new primary serves: switch, confirm, reverse. Nothing here can take
 * the service away again; a failure is noted and the run ends with exit 6.
 */
#include "cutover/run.h"

#include <string.h>

#define REVERSE_NS (600 * CO_NS_PER_S) /* a copy of everything may take its time, as long as it moves */
#define LOOK_NS (200 * CO_NS_PER_MS)

static enum co_side target_side(const struct co_runner *run)
{
    return co_side_other(run->source);
}

int co_do_switch(struct co_runner *run)
{
    struct co_error err = {0};
    run->switched = true; /* an undo must switch back, whatever the hooks got to */
    int64_t deadline_ns = run->committed ? CO_FOREVER : run->pause_deadline_ns;
    const struct co_config *config = run->session->config;
    int failed = co_hooks_run(run, &config->cutover.hooks_switch, "switch", target_side(run), deadline_ns, &err);
    if (!failed && !run->committed) /* open: after_switch: the checks come while an undo is still possible */
        failed = co_hooks_run(run, &config->cutover.confirm, "confirm", target_side(run), deadline_ns, &err);
    if (failed)
        co_runner_note(run, &err);
    run->switch_end_ns = co_now_ns();
    return failed;
}

/* ---------------------------------------------------------------- confirm */

/* The source must refuse a real write, the target must take one. */
static int confirm_side(struct co_lane *lane, enum co_run_role role, struct co_error *err)
{
    struct co_runner *run = lane->run;
    if (run->source_lost && role == CO_SOURCE)
        return 0;
    const char *side = co_side_name(co_endpoint_side(lane->second[role]));
    int64_t deadline_ns = co_now_ns() + CO_CONNECT_NS;
    enum co_result got = co_ep_probe_write(lane->second[role], deadline_ns, err);
    while (got == CO_EFFECT_UNKNOWN && co_now_ns() < deadline_ns) { /* a lost reply is no answer: ask again */
        co_wait_until(co_now_ns() + LOOK_NS, -1);
        got = co_ep_probe_write(lane->second[role], deadline_ns, err);
    }
    if (role == CO_TARGET)
        return got == CO_DONE ? 0 : err->code;
    if (got == CO_DONE) {
        co_fail(err, CO_E_STATE, "pair %s: side %s, the old primary, acknowledged a write: its fence was taken down",
                co_pair_name(lane->pair), side);
        co_hint(err, "Stop its clients at once; what they wrote there since the cutover is on %s only.", side);
        co_journal_event(run->journal, run->row.id, co_pair_name(lane->pair), "breach", err->message, NULL);
        return err->code;
    }
    /* refused, or nobody gets in: both are what the fence is for */
    if (got == CO_NO_EFFECT && (err->code == CO_E_REFUSED || err->code == CO_E_AUTH || err->code == CO_E_UNREACHABLE))
        return 0;
    co_error_prefix(err, "whether the old primary refuses writes isn't known: ");
    return err->code;
}

/* What a server answered when it was opened is looked at, now that the pause is over: it may have said so too early. */
static int see_open(struct co_lane *lane)
{
    return co_steps_insist(lane, CO_PHASE_OPEN, CO_TARGET, co_now_ns() + CO_CALL_NS, CO_FOREVER);
}

int co_do_confirm(struct co_runner *run)
{
    const struct co_config *config = run->session->config;
    struct co_error err = {0};
    int failed = co_lanes_each(run, see_open);
    if (!failed)
        failed = co_sides_each(run, confirm_side);
    if (!config->cutover.open_after_switch &&
        co_hooks_run(run, &config->cutover.confirm, "confirm", target_side(run), CO_FOREVER, &err)) {
        co_runner_note(run, &err);
        failed = err.code;
    }
    if (co_hooks_run(run, &config->cutover.unfreeze, "unfreeze", target_side(run), CO_FOREVER, &err)) {
        co_runner_note(run, &err);
        failed = err.code;
    }
    return failed;
}

/* ---------------------------------------------------------------- reverse */

/* The old primary is seen to follow. */
static int see_link(struct co_lane *lane)
{
    int64_t deadline_ns = co_deadline_in_ms(lane->run->session->config->cutover.reverse_patience_ms);
    for (;;) {
        struct co_link_data link = {0};
        enum co_result got =
            co_ep_link(lane->second[CO_SOURCE], lane->second[CO_TARGET], co_now_ns() + CO_CONNECT_NS, &link, &lane->error);
        bool running = got == CO_DONE && link.state == CO_LINK_RUNNING;
        if (got == CO_DONE && !running)
            co_fail(&lane->error, CO_E_BROKEN, "pair %s: the old primary doesn't follow yet: %s", co_pair_name(lane->pair),
                    link.reason.bytes ? co_text_str(&link.reason) : "no reason given");
        co_link_data_done(&link);
        if (running) {
            co_error_clear(&lane->error);
            return 0;
        }
        if (co_now_ns() >= deadline_ns) {
            co_hint(&lane->error, "There is no way back until it follows: mend the cause, then `changeover resume`.");
            return lane->error.code;
        }
        co_runner_say(lane->run, co_pair_name(lane->pair), CO_WATCH_WAIT, "%s", lane->error.message);
        co_wait_until(co_now_ns() + LOOK_NS, -1);
    }
}

static int reverse_lane(struct co_lane *lane)
{
    struct co_runner *run = lane->run;
    if (!lane->caps.reverse) {
        co_runner_say(run, co_pair_name(lane->pair), CO_WATCH_NOTE, "no way back: this engine can't follow in reverse");
        co_journal_event(run->journal, run->row.id, co_pair_name(lane->pair), "no_way_back",
                         "the old primary does not follow the new one", NULL);
        return 0;
    }
    int64_t deadline_ns = co_now_ns() + REVERSE_NS;
    /* a server may be on its way back; what lasts longer is for a person */
    int64_t patience_ns = run->session->config->cutover.reverse_patience_ms * CO_NS_PER_MS;
    int failed = co_steps_insist(lane, CO_PHASE_REVERSE, CO_TARGET, deadline_ns, patience_ns);
    if (!failed)
        failed = co_steps_insist(lane, CO_PHASE_REVERSE, CO_SOURCE, deadline_ns, patience_ns);
    if (!failed)
        return see_link(lane);
    co_error_prefix(&lane->error, "the new primary serves, but the old one doesn't follow it: ");
    if (!lane->error.hint[0])
        co_hint(&lane->error, "There is no way back until it follows: mend the cause, then `changeover resume`.");
    return failed;
}

int co_do_reverse(struct co_runner *run)
{
    return run->source_lost ? 0 : co_lanes_each(run, reverse_lane);
}
