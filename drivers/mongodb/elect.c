/* elect.c - who is the primary: electing the target, and on an undo the source again.
 *
 * Why never two writers: the two sides are members of one replica set, in which a majority elects one primary a term.
 *
 * Invariants
 *   - A member is asked to stand only when it can win: elections that are lost raise the term and depose the primary that
 *     the loser would have to catch up from.
 *   - A forced reconfig is sent only where the other side can't be reached and was never opened.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mg.h"

#define STEP_DOWN_S 20 /* for how long who stepped down doesn't stand again by itself; more than it waits for its heir */
#define CATCH_UP_MAX_S 10
#define STAND_NS 100000000      /* between two elections */
#define DRAIN_LOOK_NS 400000000 /* who was elected is asked about more than that it is the primary so seldom */
#define HEARD_MARGIN_MS 1000
#define REACH_NS INT64_C(1000000000)

/* ---------------------------------------------------------------- helpers */

bool mg_votes(struct co_call *call)
{
    MG_STATE(state);
    MG_STATE(other);
    if (call->conn && !call->conn->anonymous && mg_look(call, call->conn, MG_LOOK_ROLE, &state) == CO_DONE)
        return mg_can_vote(&state);
    if (call->other && mg_look(call, call->other, MG_LOOK_ROLE, &other) == CO_DONE)
        return mg_can_vote(&other);
    return true;
}

void mg_name_of(struct co_call *call, bool mine, char ret[320])
{
    mg_member_name(call, mine ? call->side : mg_other_side(call->side), ret, 320);
}

/* Votes and priority as they were before the run. */
void mg_original(struct co_call *call, enum co_side side, int64_t *ret_votes, double *ret_priority)
{
    const char *note = call->host->note_get(call->ctx, CO_NOTE_RUN, side, "member");
    char *end = NULL;
    *ret_votes = note ? strtoll(note, &end, 10) : 1;
    *ret_priority = note && end ? strtod(end, NULL) : 1;
}

enum co_result mg_simple(struct co_call *call, struct co_conn *conn, bson_t *command, int *ret_code)
{
    MG_REPLY(reply);
    enum co_result result = mg_command(call, conn, "admin", command, true, &reply, ret_code);
    bson_destroy(command);
    return result;
}

/* A frozen one takes a part of the call's time only. */
bool mg_reachable(struct co_call *call, struct co_conn *conn, struct mg_state *ret)
{
    struct co_call brief = *call;
    int64_t soon_ns = mg_now_ns() + REACH_NS;
    brief.err = NULL;
    if (soon_ns < brief.deadline_ns)
        brief.deadline_ns = soon_ns;
    return conn && !conn->broken && mg_look(&brief, conn, MG_LOOK_ROLE, ret) == CO_DONE;
}

/* ---------------------------------------------------------------- standing and stepping down */

/* 0 lifts what a freeze or a step-down left behind; a primary refuses it, and needs none. */
static enum co_result freeze(struct co_call *call, struct co_conn *conn, int32_t seconds)
{
    int code = 0;
    enum co_result result = mg_simple(call, conn, BCON_NEW("replSetFreeze", BCON_INT32(seconds)), &code);
    return code == MG_NOT_SECONDARY ? CO_DONE : result;
}

static bool stood_lately(const struct co_conn *conn)
{
    return conn->stood_ns && mg_now_ns() - conn->stood_ns < STAND_NS;
}

/* With a dry run first: a member that would lose doesn't raise the term (replication_coordinator_impl_elect_v1.cpp). */
static enum co_result stand(struct co_call *call, struct co_conn *conn)
{
    int code = 0;
    if (stood_lately(conn))
        return CO_AGAIN;
    conn->stood_ns = mg_now_ns();
    enum co_result result = mg_simple(call, conn, BCON_NEW("replSetStepUp", BCON_INT32(1)), &code);
    return result == CO_DONE || code ? CO_AGAIN : result;
}

enum co_result mg_step_up(struct co_call *call, struct co_conn *conn)
{
    if (stood_lately(conn))
        return CO_AGAIN;
    enum co_result result = freeze(call, conn, 0);
    return result == CO_DONE ? stand(call, conn) : result;
}

/* Not forced: refused unless a secondary that can be elected has everything. */
static enum co_result step_down(struct co_call *call, struct co_conn *conn, int *ret_code)
{
    int64_t left_s = (call->deadline_ns - mg_now_ns()) / 1000000000 - 1;
    int32_t catch_up_s = left_s < 1 ? 1 : left_s > CATCH_UP_MAX_S ? CATCH_UP_MAX_S : (int32_t)left_s;
    return mg_simple(call, conn,
                     BCON_NEW("replSetStepDown", BCON_INT32(STEP_DOWN_S), "secondaryCatchUpPeriodSecs", BCON_INT32(catch_up_s),
                              "force", BCON_BOOL(false)),
                     ret_code);
}

/* ---------------------------------------------------------------- undo: the source is the primary again */

/* The target is dead or cut off and its vote keeps the source from a majority: the vote is taken back by force. The
 * target was never opened; what it may still believe, it believes with user writes blocked, or without a majority. */
static enum co_result take_vote_back(struct co_call *call, const struct mg_state *state)
{
    char target[320], source[320];
    struct mg_member member, mine;
    struct mg_change changes[2];
    size_t count = 0;
    int64_t v;
    double p;
    mg_name_of(call, false, target);
    mg_name_of(call, true, source);
    mg_find_member(&state->config, target, &member);
    mg_find_member(&state->config, source, &mine);
    mg_original(call, call->side, &v, &p);
    if (mine.priority <= 0 || mine.votes <= 0)
        changes[count++] = (struct mg_change){.host = source, .votes = v > 0 ? v : 1, .priority = p > 0 ? p : 1};
    if (member.index >= 0 && (member.votes > 0 || member.priority > 0))
        changes[count++] = (struct mg_change){.host = target, .votes = 0, .priority = 0};
    return count ? mg_reconfig(call, call->conn, changes, count, true) : CO_DONE;
}

/* The other side is the primary, or stands in the way: it steps down for the source when that has caught up, and doesn't
 * stand itself meanwhile. A source that can't be elected is made electable first; only a primary can do that. */
static enum co_result make_way(struct co_call *call, const struct mg_state *state, const struct mg_state *other)
{
    char source[320];
    struct mg_member mine;
    int64_t v;
    double p;
    int code = 0;
    mg_name_of(call, true, source);
    mg_find_member(mg_config_older(&state->config, &other->config) ? &other->config : &state->config, source, &mine);
    mg_original(call, call->side, &v, &p);
    bool electable = mine.votes > 0 && mine.priority > 0;
    if (other->my_state == MG_PRIMARY) {
        if (!other->primary)
            return CO_AGAIN; /* it drains */
        enum co_result result =
            electable ? CO_DONE : mg_reconfig_one(call, call->other, source, v > 0 ? v : 1, p > 0 ? p : 1, false);
        if (result == CO_DONE)
            result = step_down(call, call->other, &code);
        return result == CO_DONE || code ? CO_AGAIN : result;
    }
    bool behind = state->applied.term < other->applied.term ||
                  (state->applied.term == other->applied.term &&
                   (state->applied.seconds < other->applied.seconds ||
                    (state->applied.seconds == other->applied.seconds && state->applied.increment < other->applied.increment)));
    if (!electable || behind)
        return mg_step_up(call, call->other); /* from a primary the source can get what it lacks */
    enum co_result result = freeze(call, call->other, STEP_DOWN_S);
    return result == CO_DONE ? mg_step_up(call, call->conn) : result;
}

enum co_result mg_make_source_primary(struct co_call *call)
{
    MG_STATE(state);
    MG_STATE(other);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE || state.primary)
        return result;
    if (state.my_state == MG_PRIMARY)
        return CO_AGAIN; /* elected, still draining */
    if (mg_reachable(call, call->other, &other))
        return make_way(call, &state, &other);
    result = take_vote_back(call, &state);
    return result == CO_DONE ? mg_step_up(call, call->conn) : result;
}

/* ---------------------------------------------------------------- promotion */

enum co_result mg_elect_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret,
                         mg_votes(call) ? "replSetStepUp: 1"
                                        : "on the other side: replSetStepDown: %d, force: false; then replSetStepUp: 1",
                         STEP_DOWN_S);
    return CO_DONE;
}

/* How long ago this member last heard `name`; -1 unknown. */
static int64_t unheard_ms(const struct mg_state *state, const char *name)
{
    bson_t heard;
    bson_iter_t now, at;
    if (!mg_status_of(state, name, &heard) || !bson_iter_init_find(&now, &state->status, "date") ||
        !BSON_ITER_HOLDS_DATE_TIME(&now) || !bson_iter_init_find(&at, &heard, "lastHeartbeatRecv") ||
        !BSON_ITER_HOLDS_DATE_TIME(&at))
        return -1;
    return bson_iter_date_time(&now) - bson_iter_date_time(&at);
}

/* The target can't be seen. It isn't the primary when the source is; nor when the source, without which the target has no
 * majority, hasn't heard it for longer than a primary without a majority goes on (settings.electionTimeoutMillis). */
static enum co_result probe_by_source(struct co_call *call, enum co_presence *ret)
{
    MG_STATE(source);
    bson_t heard;
    char target[320], mine[320];
    if (!call->other)
        return mg_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "neither side can be asked who is the primary");
    enum co_result result = mg_look(call, call->other, MG_LOOK_ROLE, &source);
    if (result != CO_DONE)
        return result;
    mg_name_of(call, true, target);
    mg_name_of(call, false, mine);
    *ret = CO_PARTIAL;
    if (source.primary) {
        *ret = CO_ABSENT;
        return CO_DONE;
    }
    int64_t patience_ms = mg_int(&source.config, "settings.electionTimeoutMillis", 10000) + HEARD_MARGIN_MS;
    bool alone = mg_voters(&source.config, mine) <= mg_voters(&source.config, NULL) / 2;
    if (alone && mg_status_of(&source, target, &heard) && mg_int(&heard, "health", 1) == 0 &&
        unheard_ms(&source, target) > patience_ms)
        *ret = CO_ABSENT;
    return CO_DONE;
}

/* Without a vote "not promoted" is only what the source says as a primary: a step-down may have been accepted and the
 * election be under way. */
enum co_result mg_elect_probe(struct co_call *call, enum co_presence *ret)
{
    MG_STATE(state);
    MG_STATE(other);
    if (!call->conn)
        return probe_by_source(call, ret);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    if (state.my_state == MG_PRIMARY)
        *ret = state.primary ? CO_PRESENT : CO_PARTIAL;
    else if (mg_can_vote(&state))
        *ret = CO_ABSENT;
    else
        *ret = mg_reachable(call, call->other, &other) && other.primary ? CO_ABSENT : CO_PARTIAL;
    return CO_DONE;
}

/* What a step-down answers that is over soon, or is about another one: seen by asking again. */
static bool is_passing(int code)
{
    return code == MG_LOCK_TIMEOUT || code == MG_PRIMARY_STEPPED_DOWN || code == MG_INTERRUPTED_STEP_DOWN ||
           code == MG_NOT_PRIMARY || code == MG_CONFLICTING_OPERATION;
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
    if (!source.primary) /* it has stepped down, and hands over by itself from 4.0.2 on; asked, the target stands at once */
        return mg_step_up(call, call->conn);
    result = mg_guard(call, call->other);
    if (result == CO_DONE)
        result = step_down(call, call->other, &code);
    if (result == CO_NO_EFFECT && is_passing(code))
        return CO_AGAIN;
    if (result == CO_EFFECT_UNKNOWN && mg_reachable(call, call->conn, &target) && target.primary)
        return CO_DONE; /* a lost reply, or a server that closed the connection instead of answering */
    return result == CO_DONE ? stand(call, call->conn) : result;
}

/* The other side is said to be lost: it was left out of warm_up, so this member has no vote and nobody else can give it
 * one. In every other run it got its vote before the pause. */
static enum co_result elect_alone(struct co_call *call)
{
    char mine[320], lost[320];
    mg_name_of(call, true, mine);
    mg_name_of(call, false, lost);
    struct mg_change changes[] = {{.host = mine, .votes = 1, .priority = 1}, {.host = lost, .votes = 0, .priority = 0}};
    enum co_result result = mg_reconfig(call, call->conn, changes, 2, true);
    return result == CO_DONE ? mg_step_up(call, call->conn) : result;
}

/* warm_up has seen that it votes and that nothing keeps it from standing. */
static bool is_ready(const struct co_conn *conn)
{
    return conn->config && !conn->stood_ns && mg_conn_can_vote(conn);
}

/* Without a fence clients write on the target from now on, and those that wait for a majority wait for the source as long as it
 * votes. Being elected is the decision: nobody goes back from here, so its vote goes before the record is written. What
 * fails here is open.release_vote's to do; only a run that was taken over stops. */
static enum co_result release_at_once(struct co_call *call)
{
    char source[320];
    struct co_error ignored = {0};
    struct co_call quiet = *call;
    if (mg_conn_can_vote(call->conn) || !call->conn->known || !call->conn->config)
        return CO_DONE;
    mg_name_of(call, false, source);
    quiet.err = &ignored;
    if (mg_reconfig_known(&quiet, call->conn, source, 0, 0) == CO_DONE || ignored.code != CO_E_CONFLICT)
        return CO_DONE;
    if (call->err)
        *call->err = ignored;
    return CO_NO_EFFECT;
}

enum co_result mg_elect_apply(struct co_call *call)
{
    MG_STATE(state);
    MG_STATE(other);
    char mine[320];
    struct mg_member member;
    MG_STATE(seen);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_HELLO, &seen);
    if (result != CO_DONE || seen.primary)
        return result == CO_DONE ? release_at_once(call) : result;
    if (stood_lately(call->conn))
        return CO_AGAIN; /* asked; it stands, or is elected and drains */
    result = mg_guard(call, call->conn);
    if (result == CO_DONE && is_ready(call->conn)) /* the first time; what it comes to is looked at */
        return stand(call, call->conn);
    if (result == CO_DONE)
        result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE || state.primary)
        return result;
    if (state.my_state == MG_PRIMARY) {
        call->conn->stood_ns = mg_now_ns() + DRAIN_LOOK_NS;
        return CO_AGAIN; /* elected, still draining */
    }
    mg_name_of(call, true, mine);
    mg_find_member(&state.config, mine, &member);
    if (member.index >= 0 && member.votes == 0 && !mg_reachable(call, call->other, &other))
        return elect_alone(call);
    return mg_can_vote(&state) ? mg_step_up(call, call->conn) : elect_by_step_down(call);
}

/* The source is the primary again by now (its fence was reverted first); else the target is asked to step down. What it
 * was kept from by a freeze, it isn't any more. */
enum co_result mg_elect_revert(struct co_call *call)
{
    MG_STATE(state);
    int code = 0;
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    if (state.my_state != MG_PRIMARY)
        return freeze(call, call->conn, 0);
    result = step_down(call, call->conn, &code);
    return result == CO_DONE || code ? CO_AGAIN : result;
}

/* ---------------------------------------------------------------- after the commit: the target is the primary again */

/* After the commit only: the target restarted, or lost its majority with the source. The source's priority is 0 or it has no
 * majority alone, so taking the vote of a source that doesn't answer can't make two primaries. */
enum co_result mg_make_target_primary(struct co_call *call)
{
    MG_STATE(state);
    MG_STATE(other);
    char lost[320];
    struct mg_member member;
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE || state.primary)
        return result;
    if (state.my_state != MG_SECONDARY)
        return CO_AGAIN;
    mg_name_of(call, false, lost);
    mg_find_member(&state.config, lost, &member);
    if (member.index >= 0 && member.votes > 0 && mg_voters(&state.config, lost) <= mg_voters(&state.config, NULL) / 2 &&
        !mg_reachable(call, call->other, &other)) {
        result = mg_reconfig_one(call, call->conn, lost, 0, 0, true);
        if (result != CO_DONE)
            return result;
    }
    return mg_step_up(call, call->conn);
}

/* The target was made the primary before the commit, so one question is enough; what happened to it since takes more. */
enum co_result mg_still_primary(struct co_call *call)
{
    MG_STATE(seen);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_HELLO, &seen);
    return result == CO_DONE && !seen.primary ? mg_make_target_primary(call) : result;
}
