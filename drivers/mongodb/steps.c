/* steps.c - whatever changes the replica set, each as probe, apply and revert.
 *
 * Why never two writers: the two sides are members of one replica set, in which a majority elects one primary a term, and
 * the write block is replicated data. What the steps add is that the elected primary is the intended one and that the block
 * is lifted only where the decision says so.
 *
 * Invariant: a forced reconfig is sent only by an undo (the target was never opened then), and only when the target
 * can't be reached.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mg.h"

#define PRIMARY 1
#define SECONDARY 2
#define STEP_DOWN_S 60

/* ---------------------------------------------------------------- helpers */

static enum co_result say(struct co_call *call, struct co_text *ret, const char *statement)
{
    call->host->text_set(call->ctx, ret, statement, strlen(statement));
    return CO_DONE;
}

static bool votes(struct co_call *call)
{
    MG_STATE(state);
    MG_STATE(other);
    if (call->conn && !call->conn->anonymous && mg_look(call, call->conn, MG_LOOK_ALL, &state) == CO_DONE)
        return mg_can_vote(&state);
    if (call->other && mg_look(call, call->other, MG_LOOK_ALL, &other) == CO_DONE)
        return mg_can_vote(&other);
    return true;
}

static bool cant_vote(struct co_call *call)
{
    return !votes(call);
}

static void name_of(struct co_call *call, bool mine, char ret[320])
{
    mg_member_name(call, mine ? call->side : mg_other_side(call->side), ret, 320);
}

/* Votes and priority as they were before the run. */
static void original(struct co_call *call, enum co_side side, int64_t *ret_votes, double *ret_priority)
{
    const char *note = call->host->note_get(call->ctx, CO_NOTE_RUN, side, "member");
    char *end = NULL;
    *ret_votes = note ? strtoll(note, &end, 10) : 1;
    *ret_priority = note && end ? strtod(end, NULL) : 1;
}

static enum co_result simple(struct co_call *call, struct co_conn *conn, bson_t *command, int *ret_code)
{
    MG_REPLY(reply);
    enum co_result result = mg_command(call, conn, "admin", command, true, &reply, ret_code);
    bson_destroy(command);
    return result;
}

static enum co_result step_up(struct co_call *call, struct co_conn *conn, int *ret_code)
{
    return simple(call, conn, BCON_NEW("replSetStepUp", BCON_INT32(1)), ret_code);
}

/* Not forced: refused unless a secondary that can be elected has everything. */
static enum co_result step_down(struct co_call *call, struct co_conn *conn, int *ret_code)
{
    int64_t left_s = (call->deadline_ns - mg_now_ns()) / 1000000000 - 1;
    int32_t catch_up_s = left_s < 1 ? 1 : left_s > 10 ? 10 : (int32_t)left_s;
    return simple(call, conn,
                  BCON_NEW("replSetStepDown", BCON_INT32(STEP_DOWN_S), "secondaryCatchUpPeriodSecs", BCON_INT32(catch_up_s),
                           "force", BCON_BOOL(false)),
                  ret_code);
}

static enum co_result block(struct co_call *call, struct co_conn *conn, bool on)
{
    int code = 0;
    bson_t *command = BCON_NEW("setUserWriteBlockMode", BCON_INT32(1), "global", BCON_BOOL(on));
    mg_add_max_time(call, command);
    enum co_result result = simple(call, conn, command, &code);
    /* Out of time while it waited for the majority: the document may be there. */
    return result == CO_NO_EFFECT && (code == MG_MAX_TIME_EXPIRED || code == MG_WRITE_CONCERN_FAILED) ? CO_EFFECT_UNKNOWN
                                                                                                      : result;
}

static bool reachable(struct co_call *call, struct co_conn *conn, struct mg_state *ret)
{
    return conn && !conn->broken && mg_look(call, conn, MG_LOOK_ROLE, ret) == CO_DONE;
}

/* ---------------------------------------------------------------- undo: the source is the primary again */

/* The target is dead or cut off and its vote keeps the source from a majority: the vote is taken back by force. The
 * target was never opened; what it may still believe, it believes with user writes blocked. */
static enum co_result take_vote_back(struct co_call *call, const struct mg_state *state)
{
    char target[320], source[320];
    struct mg_member member, mine;
    int64_t v;
    double p;
    name_of(call, false, target);
    name_of(call, true, source);
    mg_find_member(&state->config, target, &member);
    mg_find_member(&state->config, source, &mine);
    original(call, call->side, &v, &p);
    if (mine.priority <= 0) {
        enum co_result result = mg_reconfig(call, call->conn, source, v > 0 ? v : 1, p > 0 ? p : 1, true);
        if (result != CO_DONE)
            return result;
    }
    return member.index >= 0 && member.votes > 0 ? mg_reconfig(call, call->conn, target, 0, 0, true) : CO_DONE;
}

/* CO_DONE: the source is the primary. CO_AGAIN: on the way. */
static enum co_result make_source_primary(struct co_call *call)
{
    MG_STATE(state);
    MG_STATE(other);
    char source[320];
    struct mg_member mine;
    int64_t v;
    double p;
    int code = 0;
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE || state.primary)
        return result;
    if (state.my_state == PRIMARY)
        return CO_AGAIN; /* elected, still draining */
    name_of(call, true, source);
    mg_find_member(&state.config, source, &mine);
    if (!reachable(call, call->other, &other)) {
        result = take_vote_back(call, &state);
    } else if (mine.priority <= 0 && other.primary) {
        original(call, call->side, &v, &p);
        result = mg_reconfig(call, call->other, source, v > 0 ? v : 1, p > 0 ? p : 1, false);
    }
    if (result != CO_DONE)
        return result;
    result = step_up(call, call->conn, &code);
    /* Refused: it hasn't replicated the other's last entry yet, or a vote was lost; asked again. */
    return result == CO_DONE || code ? CO_AGAIN : result;
}

/* ---------------------------------------------------------------- setup */

static enum co_result guard_unless_setup(struct co_call *call)
{
    struct co_text *token = call->host->text_new(call->ctx), *info = call->host->text_new(call->ctx);
    if (!token || !info)
        return mg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "no memory");
    enum co_result result = mg_marker_get(call, token, info);
    const char *held = result == CO_DONE ? call->host->text_get(call->ctx, token, NULL) : "";
    return result == CO_DONE && held && *held ? mg_guard(call, call->conn) : result;
}

static enum co_result member_describe(struct co_call *call, struct co_text *ret)
{
    char name[320];
    name_of(call, false, name);
    call->host->text_add(call->ctx, ret, "replSetReconfig: add {host: \"%s\", votes: 0, priority: 0}", name);
    return CO_DONE;
}

static enum co_result member_probe(struct co_call *call, enum co_presence *ret)
{
    MG_STATE(state);
    char name[320];
    struct mg_member member;
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result == CO_DONE) {
        name_of(call, false, name);
        mg_find_member(&state.config, name, &member);
        *ret = member.index >= 0 ? CO_PRESENT : CO_ABSENT;
    }
    return result;
}

static enum co_result member_apply(struct co_call *call)
{
    char name[320];
    enum co_presence there = CO_ABSENT;
    enum co_result result = member_probe(call, &there);
    if (result != CO_DONE || there == CO_PRESENT)
        return result;
    name_of(call, false, name);
    result = guard_unless_setup(call);
    return result == CO_DONE ? mg_reconfig(call, call->conn, name, 0, 0, false) : result;
}

static enum co_result member_remove(struct co_call *call)
{
    MG_STATE(state);
    char name[320];
    name_of(call, false, name);
    enum co_result result = guard_unless_setup(call);
    if (result == CO_DONE)
        result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    if (mg_voters(&state.config, name) < 1)
        return mg_fail(call, CO_NO_EFFECT, CO_E_STATE, "Give another member a vote first.",
                       "without %s the replica set has no voting member", name);
    return mg_reconfig(call, call->conn, name, -1, 0, false);
}

static enum co_result sync_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, "wait for the initial sync: replSetGetStatus until myState is 2 (SECONDARY)");
}

static enum co_result sync_probe(struct co_call *call, enum co_presence *ret)
{
    MG_STATE(state);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result == CO_DONE)
        *ret = state.secondary || state.primary ? CO_PRESENT : state.member ? CO_PARTIAL : CO_ABSENT;
    return result;
}

static enum co_result sync_apply(struct co_call *call)
{
    MG_STATE(state);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    bool synced = state.secondary || state.primary;
    if (synced && !call->conn->anonymous)
        return CO_DONE;
    if (synced)
        call->conn->broken = true; /* the accounts are here now: connect again, logged in */
    struct co_progress progress = {.what = "initial sync",
                                   .done = mg_int(&state.status, "initialSyncStatus.approxTotalBytesCopied", -1),
                                   .total = mg_int(&state.status, "initialSyncStatus.approxTotalDataSize", -1),
                                   .unit = "bytes"};
    call->host->progress(call->ctx, &progress);
    return CO_AGAIN;
}

static enum co_result nothing(struct co_call *call)
{
    (void)call;
    return CO_DONE;
}

/* ---------------------------------------------------------------- warm_up: the target's vote */

static enum co_result vote_describe(struct co_call *call, struct co_text *ret)
{
    char name[320];
    name_of(call, false, name);
    call->host->text_add(call->ctx, ret, "replSetReconfig: {host: \"%s\", votes: 1, priority: <as the primary's>}", name);
    return CO_DONE;
}

static enum co_result vote_probe(struct co_call *call, enum co_presence *ret)
{
    MG_STATE(state);
    char name[320];
    struct mg_member member;
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    name_of(call, false, name);
    mg_find_member(&state.config, name, &member);
    *ret = member.index >= 0 && member.votes > 0 && member.priority > 0 ? CO_PRESENT : CO_ABSENT;
    return CO_DONE;
}

/* The same priority: a higher one would call an election by itself. */
static enum co_result vote_apply(struct co_call *call)
{
    MG_STATE(state);
    char target[320], source[320];
    struct mg_member mine;
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    name_of(call, false, target);
    name_of(call, true, source);
    mg_find_member(&state.config, source, &mine);
    return mg_reconfig(call, call->conn, target, 1, mine.priority > 0 ? mine.priority : 1, false);
}

static enum co_result vote_revert(struct co_call *call)
{
    MG_STATE(other);
    char target[320];
    int64_t v;
    double p;
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = make_source_primary(call);
    if (result != CO_DONE)
        return result;
    name_of(call, false, target);
    original(call, mg_other_side(call->side), &v, &p);
    return mg_reconfig(call, call->conn, target, v, p, !reachable(call, call->other, &other));
}

/* ---------------------------------------------------------------- the fence */

static enum co_result fence_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, "setUserWriteBlockMode: {global: true}");
}

/* A member that isn't the primary refuses writes by itself. */
static enum co_result fence_probe(struct co_call *call, enum co_presence *ret)
{
    MG_STATE(state);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result == CO_DONE)
        *ret = state.blocked || !state.primary ? CO_PRESENT : CO_ABSENT;
    return result;
}

static enum co_result fence_apply(struct co_call *call)
{
    enum co_result result = mg_guard(call, call->conn);
    return result == CO_DONE ? block(call, call->conn, true) : result;
}

static enum co_result fence_revert(struct co_call *call)
{
    bool blocked = true;
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = make_source_primary(call);
    if (result == CO_DONE)
        result = mg_blocked(call, call->conn, &blocked);
    return result == CO_DONE && blocked ? block(call, call->conn, false) : result;
}

/* ---------------------------------------------------------------- promotion */

static enum co_result elect_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, votes(call) ? "replSetStepUp: 1" : "on the other side: replSetStepDown: 60, force: false");
}

/* Without a vote "not promoted" is only what the source says as a primary: a step-down may have been accepted and the
 * election be under way. */
static enum co_result elect_probe(struct co_call *call, enum co_presence *ret)
{
    MG_STATE(state);
    MG_STATE(other);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ALL, &state);
    if (result != CO_DONE)
        return result;
    if (state.my_state == PRIMARY)
        *ret = state.primary ? CO_PRESENT : CO_PARTIAL;
    else if (mg_can_vote(&state))
        *ret = CO_ABSENT;
    else
        *ret = reachable(call, call->other, &other) && other.primary ? CO_ABSENT : CO_PARTIAL;
    return CO_DONE;
}

static enum co_result elect_by_step_down(struct co_call *call)
{
    MG_STATE(source);
    MG_STATE(target);
    int code = 0;
    enum co_result result = call->other ? mg_look(call, call->other, MG_LOOK_ROLE, &source)
                                        : mg_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "the source can't be reached");
    if (result != CO_DONE)
        return result;
    if (!source.primary)
        return CO_AGAIN; /* it has stepped down: the election is under way */
    result = mg_guard(call, call->other);
    if (result == CO_DONE)
        result = step_down(call, call->other, &code);
    if (result == CO_NO_EFFECT && code == MG_LOCK_TIMEOUT)
        return CO_AGAIN; /* transient (SERVER-48154) */
    if (result == CO_EFFECT_UNKNOWN && reachable(call, call->conn, &target) && target.primary)
        return CO_DONE; /* before 4.2 a step-down closes the connection instead of answering */
    return result == CO_DONE ? CO_AGAIN : result;
}

static enum co_result elect_apply(struct co_call *call)
{
    MG_STATE(state);
    int code = 0;
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = mg_look(call, call->conn, MG_LOOK_ALL, &state);
    if (result != CO_DONE || state.primary)
        return result;
    if (state.my_state == PRIMARY)
        return CO_AGAIN; /* elected, still draining */
    if (!mg_can_vote(&state))
        return elect_by_step_down(call);
    result = step_up(call, call->conn, &code);
    return result == CO_DONE ? CO_AGAIN : result;
}

/* The source is the primary again by now (its fence was reverted first); else the target is asked to step down. */
static enum co_result elect_revert(struct co_call *call)
{
    MG_STATE(state);
    int code = 0;
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE || state.my_state != PRIMARY)
        return result;
    result = step_down(call, call->conn, &code);
    return result == CO_DONE || code ? CO_AGAIN : result;
}

/* ---------------------------------------------------------------- the source can't be elected any more */

static enum co_result hold_describe(struct co_call *call, struct co_text *ret)
{
    char name[320];
    name_of(call, false, name);
    call->host->text_add(call->ctx, ret, "replSetReconfig: {host: \"%s\", priority: 0}", name);
    return CO_DONE;
}

static enum co_result hold_probe(struct co_call *call, enum co_presence *ret)
{
    MG_STATE(state);
    char name[320];
    struct mg_member member;
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    name_of(call, false, name);
    mg_find_member(&state.config, name, &member);
    *ret = member.index >= 0 && member.priority <= 0 ? CO_PRESENT : CO_ABSENT;
    return CO_DONE;
}

static enum co_result hold_apply(struct co_call *call)
{
    MG_STATE(state);
    char name[320];
    struct mg_member member;
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    if (!state.primary)
        return CO_AGAIN;
    name_of(call, false, name);
    mg_find_member(&state.config, name, &member);
    return mg_reconfig(call, call->conn, name, member.votes, 0, false);
}

static enum co_result hold_revert(struct co_call *call)
{
    MG_STATE(mine);
    MG_STATE(other);
    char name[320];
    int64_t v;
    double p;
    name_of(call, false, name);
    original(call, mg_other_side(call->side), &v, &p);
    enum co_result result = mg_guard(call, call->conn);
    if (result != CO_DONE)
        return result;
    if (reachable(call, call->other, &other) && other.primary)
        return mg_reconfig(call, call->other, name, v, p, false);
    result = mg_look(call, call->conn, MG_LOOK_ROLE, &mine);
    return result == CO_DONE && mine.primary ? mg_reconfig(call, call->conn, name, v, p, false)
           : result == CO_DONE               ? CO_AGAIN
                                             : result;
}

/* ---------------------------------------------------------------- opening */

static enum co_result open_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, "setUserWriteBlockMode: {global: false}");
}

static enum co_result open_probe(struct co_call *call, enum co_presence *ret)
{
    MG_STATE(state);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result == CO_DONE)
        *ret = state.primary && !state.blocked ? CO_PRESENT : CO_ABSENT;
    return result;
}

static enum co_result open_apply(struct co_call *call)
{
    MG_STATE(state);
    int code = 0;
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE || (state.primary && !state.blocked))
        return result;
    if (state.primary)
        return block(call, call->conn, false);
    if (state.my_state == SECONDARY) /* restarted after the commit: nobody else can be elected */
        result = step_up(call, call->conn, &code);
    return result == CO_DONE || code ? CO_AGAIN : result;
}

/* ---------------------------------------------------------------- the way back */

static enum co_result release_describe(struct co_call *call, struct co_text *ret)
{
    char name[320];
    name_of(call, false, name);
    call->host->text_add(call->ctx, ret, "replSetReconfig: {host: \"%s\", votes: 0, priority: 0}", name);
    return CO_DONE;
}

static enum co_result release_probe(struct co_call *call, enum co_presence *ret)
{
    MG_STATE(state);
    char name[320];
    struct mg_member member;
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    name_of(call, false, name);
    mg_find_member(&state.config, name, &member);
    *ret = member.index >= 0 && member.votes == 0 ? CO_PRESENT : CO_ABSENT;
    return CO_DONE;
}

/* The old primary keeps following, without a vote: switched off, it can't take the new one's majority away. */
static enum co_result release_apply(struct co_call *call)
{
    char name[320];
    name_of(call, false, name);
    enum co_result result = mg_guard(call, call->conn);
    return result == CO_DONE ? mg_reconfig(call, call->conn, name, 0, 0, false) : result;
}

/* ---------------------------------------------------------------- detach */

static enum co_result remove_describe(struct co_call *call, struct co_text *ret)
{
    char name[320];
    name_of(call, false, name);
    call->host->text_add(call->ctx, ret, "replSetReconfig: remove {host: \"%s\"}", name);
    return CO_DONE;
}

static enum co_result remove_probe(struct co_call *call, enum co_presence *ret)
{
    enum co_presence there = CO_ABSENT;
    enum co_result result = member_probe(call, &there);
    *ret = there == CO_PRESENT ? CO_ABSENT : CO_PRESENT;
    return result;
}

/* ---------------------------------------------------------------- the table */

#define STEP(step_name, step_title, step_phase, step_role, step_flags, step_wanted, functions, step_apply, step_revert)        \
    {                                                                                                                          \
        .size = sizeof(struct co_step), .name = (step_name), .title = (step_title), .phase = (step_phase),                     \
        .role = (step_role), .flags = (step_flags), .wanted = (step_wanted), .describe = functions##_describe,                 \
        .probe = functions##_probe, .apply = (step_apply), .revert = (step_revert)                                             \
    }

const struct co_step mg_steps[] = {
    STEP("setup.add_member", "add the target to the replica set, without a vote", CO_PHASE_SETUP, CO_SOURCE, CO_STEP_KEEPS,
         NULL, member, member_apply, member_remove),
    STEP("setup.sync", "copy the data to the target (initial sync)", CO_PHASE_SETUP, CO_TARGET, CO_STEP_SLOW | CO_STEP_KEEPS,
         NULL, sync, sync_apply, nothing),
    STEP("warm_up.vote", "let the target vote and be elected", CO_PHASE_WARM_UP, CO_SOURCE, CO_STEP_BOTH, NULL, vote,
         vote_apply, vote_revert),
    STEP("fence.block_writes", "block user writes in the replica set", CO_PHASE_FENCE, CO_SOURCE, CO_STEP_BOTH, votes, fence,
         fence_apply, fence_revert),
    STEP("promote.elect", "elect the target", CO_PHASE_PROMOTE, CO_TARGET, CO_STEP_BOTH, NULL, elect, elect_apply,
         elect_revert),
    STEP("promote.hold_source", "keep the source from being elected again", CO_PHASE_PROMOTE, CO_TARGET, CO_STEP_BOTH, votes,
         hold, hold_apply, hold_revert),
    STEP("open.hold_source", "keep the source from being elected again", CO_PHASE_OPEN, CO_TARGET, CO_STEP_NO_WAY_BACK,
         cant_vote, hold, hold_apply, NULL),
    STEP("open.allow_writes", "allow user writes in the replica set", CO_PHASE_OPEN, CO_TARGET, CO_STEP_NO_WAY_BACK, votes,
         open, open_apply, NULL),
    STEP("reverse.release_vote", "take the old primary's vote", CO_PHASE_REVERSE, CO_TARGET, CO_STEP_NO_WAY_BACK, NULL, release,
         release_apply, NULL),
    STEP("detach.remove_member", "remove the other side from the replica set", CO_PHASE_DETACH, CO_SOURCE, CO_STEP_NO_WAY_BACK,
         NULL, remove, member_remove, NULL),
};
const size_t mg_step_count = sizeof mg_steps / sizeof mg_steps[0];
