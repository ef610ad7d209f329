/* setup.c - `setup` and `detach`: lists of steps without a write pause. Each step is looked for first, so a
 * second run changes nothing and an interrupted one goes on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cutover/run.h"

#define LONG_CALL_NS (30 * 24 * 3600 * CO_NS_PER_S) /* a copy of everything there is */
#define LINK_NS (120 * CO_NS_PER_S)
#define LOOK_NS (200 * CO_NS_PER_MS)
#define AGAIN_NS (50 * CO_NS_PER_MS)
#define UNKNOWN_MAX 3 /* replies that are lost in a row, before it is said */

struct job {
    struct co_lane *lane;
    bool changed;
};

static int64_t begin_row(struct co_lane *lane, const struct co_step *step, struct co_endpoint *ep, struct co_endpoint *other)
{
    struct co_runner *run = lane->run;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    struct co_error err = {0};
    int64_t row = -1;
    if (co_ep_step_describe(ep, other, step, co_now_ns() + CO_CALL_NS, &text, &err) != CO_DONE)
        co_text_add(&text, "(not described: %s)", err.message);
    CO_TEXT_AUTO statement = CO_TEXT_INIT;
    co_audit_resolve(run, co_text_str(&text), &statement);
    struct co_step_row entry = {.pair = co_pair_name(lane->pair),
                                .side = co_side_name(co_endpoint_side(ep)),
                                .phase = run->phase,
                                .step = step->name,
                                .action = "apply",
                                .statement = co_text_str(&statement)};
    co_journal_step_begin(run->journal, run->row.id, &entry, &row, NULL);
    return row;
}

/* Applies one step until a probe has seen it. */
static int do_step(struct job *job, const struct co_step *step)
{
    struct co_lane *lane = job->lane;
    struct co_runner *run = lane->run;
    struct co_endpoint *ep = lane->main[step->role], *other = lane->main[!step->role];
    int64_t row = -1;
    int unknown = 0;
    co_lane_listen(lane, ep);
    for (;;) {
        enum co_presence there = CO_ABSENT;
        enum co_result got = co_ep_step_probe(ep, other, step, co_now_ns() + CO_CALL_NS, &there, &lane->error);
        if (got == CO_DONE && there == CO_PRESENT)
            break;
        if (got != CO_DONE && got != CO_AGAIN && !(step->flags & CO_STEP_OFFLINE)) {
            co_lane_fail(lane, got);
            break;
        }
        if (row < 0) {
            co_runner_say(run, co_pair_name(lane->pair), CO_WATCH_STEP, "%s", step->title);
            row = begin_row(lane, step, ep, other);
            job->changed = true;
        }
        co_error_clear(&lane->error);
        do {
            if (run->session->interrupted) {
                co_fail(&lane->error, CO_E_INTERRUPTED, "interrupted in step %s", step->name);
                got = CO_NO_EFFECT;
                break;
            }
            int64_t call_ns = step->flags & CO_STEP_LONG ? LONG_CALL_NS : CO_SLOW_CALL_NS;
            got = co_ep_step_apply(ep, other, step, co_now_ns() + call_ns, &lane->error);
            if (got == CO_AGAIN)
                co_wait_until(co_now_ns() + AGAIN_NS, run->session->wake_fd);
        } while (got == CO_AGAIN);
        if (got == CO_EFFECT_UNKNOWN && ++unknown < UNKNOWN_MAX)
            continue; /* look */
        if (got != CO_DONE) {
            co_lane_fail(lane, got);
            break;
        }
        got = co_ep_step_probe(ep, other, step, co_now_ns() + CO_CALL_NS, &there, &lane->error);
        if (got == CO_DONE && there == CO_PRESENT)
            break;
        if (got == CO_DONE)
            co_fail(&lane->error, CO_E_STATE, "pair %s: step %s was done but isn't seen on the server",
                    co_pair_name(lane->pair), step->name);
        co_lane_fail(lane, got);
        break;
    }
    co_endpoint_sink(ep, NULL);
    if (row >= 0)
        co_journal_step_end(run->journal, row, lane->error.code ? "failed" : "done", lane->error.message, NULL);
    return lane->error.code;
}

static int do_steps(struct co_lane *lane, enum co_phase phase)
{
    struct job job = {.lane = lane};
    for (size_t i = 0; i < co_pair_step_count(lane->pair); i++) {
        const struct co_step *step = co_pair_step(lane->pair, i);
        if (step->phase != phase || !co_ep_step_wanted(lane->main[step->role], lane->main[!step->role], step))
            continue;
        int failed = do_step(&job, step);
        if (failed)
            return failed;
    }
    if (!job.changed)
        co_runner_say(lane->run, co_pair_name(lane->pair), CO_WATCH_NOTE, "nothing to do: everything is as it should be");
    return 0;
}

/* ---------------------------------------------------------------- setup */

/* The first round copies everything. */
static int first_round(struct co_lane *lane)
{
    enum co_result got = co_ep_capabilities(lane->main[CO_TARGET], co_now_ns() + CO_CONNECT_NS, &lane->caps, &lane->error);
    if (got != CO_DONE)
        return co_lane_fail(lane, got);
    if (!lane->caps.rounds)
        return 0;
    co_lane_listen(lane, lane->main[CO_TARGET]);
    do {
        got = CO_NO_EFFECT;
        if (lane->run->session->interrupted)
            co_fail(&lane->error, CO_E_INTERRUPTED, "interrupted in the first round");
        else
            got = co_ep_round(lane->main[CO_TARGET], lane->main[CO_SOURCE], co_now_ns() + CO_SLOW_CALL_NS, &lane->error);
    } while (got == CO_AGAIN);
    co_endpoint_sink(lane->main[CO_TARGET], NULL);
    return got == CO_DONE ? 0 : co_lane_fail(lane, got);
}

/* The new follower is seen to follow. */
static int see_link(struct co_lane *lane)
{
    int64_t deadline_ns = co_now_ns() + LINK_NS;
    for (;;) {
        struct co_link_data link = {0};
        enum co_result got =
            co_ep_link(lane->main[CO_TARGET], lane->main[CO_SOURCE], co_now_ns() + CO_CONNECT_NS, &link, &lane->error);
        bool running = got == CO_DONE && link.state == CO_LINK_RUNNING;
        if (got == CO_DONE && !running) {
            co_fail(&lane->error, CO_E_BROKEN, "pair %s: replication doesn't run: %s", co_pair_name(lane->pair),
                    co_text_str(&link.reason));
            co_hint(&lane->error, "Mend what the reason says and run `changeover setup` again.");
        }
        co_link_data_done(&link);
        if (running) {
            co_error_clear(&lane->error);
            return 0;
        }
        if (co_now_ns() >= deadline_ns || lane->run->session->interrupted)
            return lane->error.code ? lane->error.code : CO_E_BROKEN;
        co_runner_say(lane->run, co_pair_name(lane->pair), CO_WATCH_WAIT, "%s", lane->error.message);
        co_wait_until(co_now_ns() + LOOK_NS, lane->run->session->wake_fd);
    }
}

static int remember_identities(struct co_lane *lane)
{
    for (int role = 0; role < 2; role++) {
        struct co_identity_data id = {0};
        struct co_endpoint *ep = lane->main[role];
        enum co_result got = co_ep_identify(ep, co_now_ns() + CO_CONNECT_NS, &id, &lane->error);
        if (got == CO_DONE) {
            co_pair_record_identity(lane->pair, co_endpoint_side(ep), co_text_str(&id.instance), co_text_str(&id.lineage));
            co_journal_identity_put(lane->run->journal, co_pair_name(lane->pair), co_side_name(co_endpoint_side(ep)),
                                    co_text_str(&id.instance), co_text_str(&id.lineage), NULL);
        }
        co_identity_data_done(&id);
        if (got != CO_DONE)
            return co_lane_fail(lane, got);
    }
    return 0;
}

/* A run of another machine is at work here: hands off. A source that has no marker yet can't be asked. */
static int nobody_else(struct co_lane *lane)
{
    for (int role = 0; role < 2; role++) {
        struct co_error err = {0};
        if (co_marker_free(lane, (enum co_run_role)role, &err) == CO_E_CONFLICT) {
            lane->error = err;
            lane->refuse_exit = CO_EXIT_LOCKED;
            return err.code;
        }
    }
    return 0;
}

/* A side that can't be met yet is no other one; the pre-flight says what that means. */
static void meet(struct co_lane *lane, struct co_error unmet[2])
{
    for (int role = 0; role < 2; role++) {
        struct co_identity_data id = {0};
        struct co_error err = {0};
        struct co_endpoint *ep = lane->main[role];
        if (co_ep_identify(ep, co_now_ns() + CO_CONNECT_NS, &id, &unmet[co_endpoint_side(ep)]) == CO_DONE) {
            co_text_set_str(&lane->instance[co_endpoint_side(ep)], co_text_str(&id.instance));
            if (co_ep_capabilities(ep, co_now_ns() + CO_CONNECT_NS, &lane->caps, &err) != CO_DONE)
                lane->caps.scope_database = false;
        }
        co_identity_data_done(&id);
    }
}

/* All pairs are looked at before anything is changed for one. */
static int look_lane(struct co_lane *lane)
{
    struct co_error unmet[2] = {{0}, {0}};
    int failed = nobody_else(lane);
    if (!failed)
        meet(lane, unmet);
    return failed ? failed : co_check_refuses(lane, CO_CHECK_SETUP, unmet);
}

static int setup_lane(struct co_lane *lane)
{
    int failed = co_marker_for_setup(lane);
    if (failed) {
        lane->refuse_exit = failed == CO_E_CONFLICT ? CO_EXIT_LOCKED : lane->refuse_exit;
        return failed;
    }
    /* a B that is built anew is another server than the one recorded */
    co_pair_record_identity(lane->pair, co_endpoint_side(lane->main[CO_TARGET]), "", "");
    lane->opened = true; /* from here on something may be changed */
    failed = do_steps(lane, CO_PHASE_SETUP);
    if (!failed)
        failed = first_round(lane);
    if (!failed)
        failed = see_link(lane);
    return failed ? failed : remember_identities(lane);
}

/* ---------------------------------------------------------------- detach */

static enum co_server_role role_of(struct co_endpoint *ep)
{
    struct co_identity_data id = {0};
    struct co_error err = {0};
    enum co_server_role role =
        co_ep_identify(ep, co_now_ns() + CO_CONNECT_NS, &id, &err) == CO_DONE ? id.role : CO_ROLE_UNKNOWN;
    co_identity_data_done(&id);
    return role;
}

/* Which side stays is what this journal says. One that knows nothing of a cutover would take from the follower what was kept
 * of its accounts and settings, and leave it closed for good. */
static int look_which_stays(struct co_lane *lane)
{
    if (role_of(lane->main[CO_SOURCE]) != CO_ROLE_FOLLOWER || role_of(lane->main[CO_TARGET]) != CO_ROLE_PRIMARY)
        return 0;
    co_fail(&lane->error, CO_E_STATE, "pair %s: side %s is the primary, and this journal doesn't know of it",
            co_pair_name(lane->pair), co_side_name(co_endpoint_side(lane->main[CO_TARGET])));
    co_hint(&lane->error, "Nothing was changed. Detach with the journal that the cutover was run with. " CO_JOURNAL_LOST_HINT);
    return lane->error.code;
}

static int detach_lane(struct co_lane *lane)
{
    struct co_error err = {0};
    for (int role = 0; role < 2; role++)
        if (co_marker_take(lane, (enum co_run_role)role, CO_ABSENT_IS_SET, NULL, co_now_ns() + CO_CONNECT_NS, &err) ==
            CO_E_CONFLICT) {
            lane->error = err;
            lane->refuse_exit = CO_EXIT_LOCKED;
            return err.code;
        }
    lane->opened = lane->marked = true;
    return do_steps(lane, CO_PHASE_DETACH);
}

/* The migration is over: a later one may begin with whatever servers, and names that detach removed don't bind. */
static void forget_identities(struct co_runner *run)
{
    for (size_t i = 0; i < run->lane_count; i++)
        for (int side = 0; side < 2; side++) {
            struct co_pair *pair = run->lanes[i].pair;
            co_pair_record_identity(pair, (enum co_side)side, "", "");
            co_journal_identity_put(run->journal, co_pair_name(pair), co_side_name((enum co_side)side), "", "", NULL);
        }
}

/* ---------------------------------------------------------------- both */

/* Of a server that isn't reached all was said, and what is left there is known as left over to this journal. */
static void remove_markers(struct co_runner *run)
{
    size_t told = run->result->error_count;
    bool marked = false;
    for (size_t i = 0; i < run->lane_count; i++)
        marked = marked || run->lanes[i].marked;
    if (marked) {
        co_markers_remove(run, CO_TARGET);
        co_markers_remove(run, CO_SOURCE);
    }
    run->result->error_count = told;
}

enum co_exit co_abandon_steps(struct co_session *session, const struct co_run_options *options, const struct co_run_row *row,
                              struct co_run_result *ret)
{
    struct co_runner run;
    struct co_error err = {0};
    int failed = co_runner_init(&run, session, options, (enum co_side)row->source, row->kind, ret, &err);
    if (!failed)
        failed = co_lanes_open(&run, &err);
    if (!failed) {
        run.row = *row;
        co_runner_identify(&run, "abort-1", &err);
        for (size_t i = 0; i < run.lane_count; i++) {
            run.lanes[i].marked = true;
            if (row->kind[0] == 's') /* a b that was being built anew is another server than the one recorded */
                co_pair_record_identity(run.lanes[i].pair, co_side_other((enum co_side)row->source), "", "");
        }
        remove_markers(&run);
    }
    co_runner_done(&run);
    return co_abandon(session, row, ret);
}

static bool anything_changed(const struct co_runner *run)
{
    for (size_t i = 0; i < run->lane_count; i++)
        if (run->lanes[i].opened)
            return true;
    return false;
}

static enum co_exit conclude(struct co_runner *run, int failed)
{
    struct co_error err = {0};
    bool changed = anything_changed(run);
    enum co_exit code = CO_EXIT_DONE;
    if (failed) {
        code = failed == CO_E_INTERRUPTED ? (changed ? CO_EXIT_UNFINISHED : CO_EXIT_INTERRUPTED)
               : failed == CO_E_CONFLICT  ? CO_EXIT_LOCKED
               : failed == CO_E_CONFIG    ? CO_EXIT_CONFIG
               : failed == CO_E_BROKEN    ? CO_EXIT_BROKEN
               : failed == CO_E_UNREACHABLE || failed == CO_E_AUTH || failed == CO_E_TIMEOUT ? CO_EXIT_UNKNOWN
                                                                                             : CO_EXIT_NO;
    }
    run->result->outcome = failed ? "refused" : "done";
    run->result->exit_code = code;
    if (code == CO_EXIT_UNFINISHED)
        run->result->outcome = "unfinished"; /* the row stays: `resume` goes on */
    else if (co_journal_end(run->journal, run->row.id, run->row.epoch, run->result->outcome, (int)code, -1, -1, &err))
        co_runner_note(run, &err);
    return code;
}

static int fault_at(struct co_runner *run, const char *where, struct co_error *err)
{
    if (CO_FAULT("%s:%s", run->phase, where) != CO_FAULT_ERROR)
        return 0;
    return co_fail(err, CO_E_INTERNAL, "fault injected at the %s of %s", where, run->phase);
}

static enum co_exit run_steps(struct co_session *session, const struct co_run_options *options, const char *kind,
                              int (*look_fn)(struct co_lane *lane), int (*lane_fn)(struct co_lane *lane),
                              struct co_run_result *ret)
{
    struct co_runner run;
    struct co_run_row left;
    struct co_error err = {0};
    enum co_side source = session->pair_count ? co_pair_source(session->pairs[0]) : CO_SIDE_A;
    enum co_exit code;
    int failed = co_runner_init(&run, session, options, source, kind, ret, &err);
    if (!failed)
        failed = co_lanes_open(&run, &err);
    /* one that was left is ended: every step is looked for again */
    if (!failed && co_journal_hold(session->journal, &err) == 0 && co_journal_unfinished(session->journal, &left, &err) == 0 &&
        strcmp(left.kind, kind) == 0)
        failed = co_journal_end(session->journal, left.id, left.epoch, "left", CO_EXIT_UNFINISHED, -1, -1, &err);
    if (failed) {
        co_runner_note(&run, &err);
        ret->outcome = "refused";
        code = ret->exit_code = CO_EXIT_INTERNAL;
    } else if ((code = co_begin(&run, &err)) != CO_EXIT_DONE) {
        co_runner_note(&run, &err);
        ret->outcome = "refused";
        ret->exit_code = code;
    } else {
        run.phase = kind;
        int64_t row = -1;
        co_journal_phase_begin(run.journal, run.row.id, kind, &row, NULL);
        failed = co_watcher_start(&run, &err); /* a signal ends the call under way, however long it would take */
        if (failed || (failed = fault_at(&run, "begin", &err)))
            co_runner_note(&run, &err);
        else if (!look_fn || (!(failed = co_lanes_each(&run, look_fn)) && !(failed = co_compare_instances(&run))))
            failed = co_lanes_each(&run, lane_fn);
        if (!failed && (failed = fault_at(&run, "end", &err)))
            co_runner_note(&run, &err);
        co_watcher_stop(&run);
        co_runner_interruptible(&run, true);
        co_journal_phase_end(run.journal, row, failed ? "failed" : "done",
                             failed && ret->error_count ? &ret->errors[ret->error_count - 1] : NULL, NULL);
        if (failed != CO_E_INTERRUPTED || !anything_changed(&run)) /* else `resume` goes on, and nobody else comes in between */
            remove_markers(&run);
        if (!failed && strcmp(kind, "detach") == 0)
            forget_identities(&run);
        code = conclude(&run, failed);
    }
    co_runner_done(&run);
    return code;
}

enum co_exit co_run_setup(struct co_session *session, const struct co_run_options *options, struct co_run_result *ret)
{
    return run_steps(session, options, "setup", look_lane, setup_lane, ret);
}

enum co_exit co_run_detach(struct co_session *session, const struct co_run_options *options, struct co_run_result *ret)
{
    return run_steps(session, options, "detach", look_which_stays, detach_lane, ret);
}
