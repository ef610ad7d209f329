/* steps.c - whatever changes the replica set, each as probe, apply and revert. Who becomes primary is in elect.c.
 *
 * Why never two writers: the two sides are members of one replica set, in which a majority elects one primary a term, and
 * the write block is replicated data. What the steps add is that the elected primary is the intended one and that the block
 * is lifted only where the decision says so.
 *
 * Invariant: originals are noted in prepare (run.c), never here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mg.h"

#define NUDGE_NS 1000000000
#define MAX_MEMBERS 50 /* manual: "Replica Set Limits" */

/* ---------------------------------------------------------------- helpers */

static enum co_result say(struct co_call *call, struct co_text *ret, const char *statement)
{
    call->host->text_set(call->ctx, ret, statement, strlen(statement));
    return CO_DONE;
}

static bool cant_vote(struct co_call *call)
{
    return !mg_votes(call);
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
    mg_name_of(call, false, name);
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
        mg_name_of(call, false, name);
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
    mg_name_of(call, false, name);
    result = guard_unless_setup(call);
    return result == CO_DONE ? mg_reconfig_one(call, call->conn, name, 0, 0, false) : result;
}

static enum co_result member_remove(struct co_call *call)
{
    MG_STATE(state);
    char name[320];
    mg_name_of(call, false, name);
    enum co_result result = guard_unless_setup(call);
    if (result == CO_DONE)
        result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    int64_t voters = mg_voters(&state.config, name), up = mg_healthy_voters(&state, name);
    if (voters < 1)
        return mg_fail(call, CO_NO_EFFECT, CO_E_STATE, "Give another member a vote first.",
                       "without %s the replica set has no voting member", name);
    if (up <= voters / 2)
        return mg_fail(call, CO_NO_EFFECT, CO_E_STATE, "Start the members that are down, or take their votes, first.",
                       "without %s only %lld of %lld voting members are up: the primary would lose its majority", name,
                       (long long)up, (long long)voters);
    return mg_reconfig_one(call, call->conn, name, -1, 0, false);
}

static enum co_result sync_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, "wait for the initial sync: replSetGetStatus until myState is 2 (SECONDARY)");
}

/* A copy that was made since the connection was: what follows needs one that is logged in. */
static enum co_result sync_probe(struct co_call *call, enum co_presence *ret)
{
    MG_STATE(state);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    bool synced = (state.secondary || state.primary) && !call->conn->anonymous;
    if (result == CO_DONE)
        *ret = synced ? CO_PRESENT : state.member ? CO_PARTIAL : CO_ABSENT;
    return result;
}

/* How the target's initial sync stands: as it says itself (4.2.1 on, or asked for before), else, while it has no accounts
 * yet, as its primary hears it. */
static void sync_progress(struct co_call *call, const struct mg_state *state)
{
    MG_STATE(primary);
    bson_t heard;
    char name[320], what[200] = "initial sync";
    int64_t failed = mg_int(&state->status, "initialSyncStatus.failedInitialSyncAttempts", 0);
    mg_name_of(call, true, name);
    if (failed > 0)
        snprintf(what, sizeof what, "initial sync, after %lld failed attempts of %lld", (long long)failed,
                 (long long)mg_int(&state->status, "initialSyncStatus.maxFailedInitialSyncAttempts", 10));
    else if (call->conn->anonymous && mg_reachable(call, call->other, &primary) && mg_status_of(&primary, name, &heard))
        snprintf(what, sizeof what, "initial sync: the primary hears the target as %.60s", mg_str(&heard, "stateStr"));
    struct co_progress progress = {.what = what,
                                   .done = mg_int(&state->status, "initialSyncStatus.approxTotalBytesCopied", -1),
                                   .total = mg_int(&state->status, "initialSyncStatus.approxTotalDataSize", -1),
                                   .unit = "bytes"};
    if (progress.total < 0 && mg_int(&state->status, "initialSyncStatus.databases.databasesCloned", -1) >= 0) { /* before 4.4 */
        progress.done = mg_int(&state->status, "initialSyncStatus.databases.databasesCloned", -1);
        progress.unit = "databases";
    }
    call->host->progress(call->ctx, &progress);
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
    sync_progress(call, &state);
    return CO_AGAIN;
}

/* ---------------------------------------------------------------- a member that looks for whom to follow */

/* A member follows only one that is ahead of it (topology_coordinator.cpp, chooseNewSyncSource), and an idle primary is ahead
 * every ten seconds; a note in the oplog makes it so now. */
static enum co_result follow_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, "on the primary: appendOplogNote, until the follower has a sync source");
}

static enum co_result follow_probe(struct co_call *call, enum co_presence *ret)
{
    MG_STATE(state);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_SELF, &state);
    if (result == CO_DONE)
        *ret = state.primary || *mg_str(&state.status, "syncSourceHost") || *mg_str(&state.status, "syncingTo") ? CO_PRESENT
                                                                                                                : CO_ABSENT;
    return result;
}

static enum co_result follow_apply(struct co_call *call)
{
    MG_STATE(primary);
    enum co_presence there = CO_ABSENT;
    int code = 0;
    int64_t now = mg_now_ns();
    enum co_result result = follow_probe(call, &there);
    if (result != CO_DONE || there == CO_PRESENT)
        return result;
    if (!mg_reachable(call, call->other, &primary) || !primary.primary)
        return CO_DONE; /* nobody to put it into; whether it follows is the link's to say */
    if (call->other->nudged_ns && now - call->other->nudged_ns < NUDGE_NS)
        return CO_AGAIN;
    call->other->nudged_ns = now;
    result = mg_simple(call, call->other,
                       BCON_NEW("appendOplogNote", BCON_INT32(1), "data", "{", "changeover", BCON_UTF8("follow"), "}"), &code);
    return result == CO_DONE ? CO_AGAIN : CO_DONE; /* an account that may not: it takes up to ten seconds */
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
    mg_name_of(call, false, name);
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
    mg_name_of(call, false, name);
    mg_find_member(&state.config, name, &member);
    *ret = member.index >= 0 && member.votes > 0 && member.priority > 0 ? CO_PRESENT : CO_ABSENT;
    return CO_DONE;
}

/* A follower drops its source when that names another config than its own, and looks for one again; until it follows, writes
 * that wait for its vote would wait, too. So the pause doesn't begin before it does. A note makes an idle source be ahead. */
static enum co_result still_followed(struct co_call *call, const struct mg_state *mine)
{
    MG_STATE(target);
    int code = 0;
    int64_t now = mg_now_ns();
    if (!mg_reachable(call, call->other, &target))
        return CO_DONE; /* the gate's and the proof's to say */
    bool follows = *mg_str(&target.status, "syncSourceHost") || *mg_str(&target.status, "syncingTo");
    if (follows && target.applied.seconds >= mine->applied.seconds)
        return CO_DONE;
    if (call->conn->nudged_ns && now - call->conn->nudged_ns < NUDGE_NS)
        return CO_AGAIN;
    call->conn->nudged_ns = now;
    enum co_result result =
        mg_simple(call, call->conn,
                  BCON_NEW("appendOplogNote", BCON_INT32(1), "data", "{", "changeover", BCON_UTF8("follow"), "}"), &code);
    return result == CO_DONE || code ? CO_AGAIN : result;
}

/* The same priority: a higher one would call an election by itself. */
static enum co_result vote_apply(struct co_call *call)
{
    MG_STATE(state);
    char target[320], source[320];
    struct mg_member mine, there;
    int code = 0;
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    mg_name_of(call, false, target);
    mg_name_of(call, true, source);
    mg_find_member(&state.config, source, &mine);
    mg_find_member(&state.config, target, &there);
    /* A step-down of an earlier run may still keep it from standing. */
    if (call->other && (there.votes == 0 || there.priority <= 0))
        result = mg_simple(call, call->other, BCON_NEW("replSetFreeze", BCON_INT32(0)), &code);
    if (result != CO_DONE && code != MG_NOT_SECONDARY)
        return result;
    result = mg_reconfig_one(call, call->conn, target, 1, mine.priority > 0 ? mine.priority : 1, false);
    return result == CO_DONE ? still_followed(call, &state) : result;
}

static enum co_result vote_revert(struct co_call *call)
{
    MG_STATE(other);
    struct co_error refused;
    char target[320];
    int64_t v;
    double p;
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = mg_make_source_primary(call);
    if (result != CO_DONE)
        return result;
    mg_name_of(call, false, target);
    mg_original(call, mg_other_side(call->side), &v, &p);
    result = mg_reconfig_one(call, call->conn, target, v, p, false);
    if (result == CO_DONE || result == CO_AGAIN || mg_reachable(call, call->other, &other))
        return result;
    refused = call->err ? *call->err : (struct co_error){0}; /* from 4.4 on it may wait for the vote that it takes */
    result = mg_reconfig_one(call, call->conn, target, v, p, true);
    if (result != CO_DONE && call->err && !call->err->code)
        *call->err = refused;
    return result;
}

/* ---------------------------------------------------------------- warm_up: the target has heard of its vote */

/* Members hear of a new config by heartbeats, and a majority may have it without the target. Asked to stand it must know that
 * it may; and a run that was undone isn't over while the target still believes that it votes. */
static enum co_result hear_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, "replSetGetConfig, until the target has heard of its vote");
}

static enum co_result hear_probe(struct co_call *call, enum co_presence *ret)
{
    MG_STATE(state);
    char name[320];
    struct mg_member member;
    int64_t v;
    double p;
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    mg_name_of(call, true, name);
    mg_original(call, call->side, &v, &p);
    mg_find_member(&state.config, name, &member);
    double difference = member.priority - p;
    bool noted = call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "member") != NULL;
    bool other = member.votes != v || difference > 0.0005 || difference < -0.0005 || mg_beats_fast(call, &state.config);
    *ret = member.index >= 0 && noted && other ? CO_PRESENT : CO_ABSENT;
    return CO_DONE;
}

static enum co_result hear_apply(struct co_call *call)
{
    MG_STATE(state);
    MG_STATE(other);
    char name[320];
    struct mg_member member;
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    mg_name_of(call, true, name);
    mg_find_member(&state.config, name, &member);
    /* A source that is lost gives nobody a vote: the target takes it when it is elected. */
    if (!mg_reachable(call, call->other, &other))
        return CO_DONE;
    if (mg_config_older(&state.config, &other.config) || member.index < 0 || member.votes <= 0 || member.priority <= 0)
        return CO_AGAIN;
    mg_remember_config(call->conn, &state.config);
    return CO_DONE;
}

static enum co_result hear_revert(struct co_call *call)
{
    enum co_presence there = CO_PRESENT;
    enum co_result result = hear_probe(call, &there);
    return result == CO_DONE && there == CO_PRESENT ? CO_AGAIN : result;
}

/* ---------------------------------------------------------------- warm_up: nobody else can be elected */

/* Members besides the two sides that could be elected, in the form of the note. */
static void list_others(struct co_call *call, const bson_t *config, struct co_text *ret)
{
    char a[320], b[320];
    bson_iter_t members;
    bson_t one;
    mg_member_name(call, CO_SIDE_A, a, sizeof a);
    mg_member_name(call, CO_SIDE_B, b, sizeof b);
    for (bool more = mg_each(config, "members", &members); more && mg_next(&members, &one);) {
        struct mg_member member;
        const char *host = mg_str(&one, "host");
        mg_member_of(&one, 0, &member);
        if (strcmp(host, a) != 0 && strcmp(host, b) != 0 && member.votes > 0 && member.priority > 0)
            call->host->text_add(call->ctx, ret, "%s %lld %.17g\n", host, (long long)member.votes, member.priority);
    }
}

/* As noted before anything was changed, else as it is now. NULL: nobody. */
static const char *others(struct co_call *call)
{
    MG_STATE(state);
    const char *note = call->host->note_get(call->ctx, CO_NOTE_RUN, CO_SIDE_A, MG_NOTE_OTHERS);
    struct co_text *text = note ? NULL : call->host->text_new(call->ctx);
    if (text && mg_reachable(call, call->conn, &state)) {
        list_others(call, &state.config, text);
        note = call->host->text_get(call->ctx, text, NULL);
    }
    return note && *note ? note : NULL;
}

enum co_result mg_note_others(struct co_call *call, const bson_t *config)
{
    struct co_text *text = call->host->text_new(call->ctx);
    if (!text)
        return mg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "no memory");
    if (call->host->note_get(call->ctx, CO_NOTE_RUN, CO_SIDE_A, MG_NOTE_OTHERS))
        return CO_DONE;
    list_others(call, config, text);
    const char *list = call->host->text_get(call->ctx, text, NULL);
    if (call->host->note_put(call->ctx, CO_NOTE_RUN, CO_SIDE_A, MG_NOTE_OTHERS, list ? list : "") != 0)
        return mg_fail(call, CO_NO_EFFECT, CO_E_IO, "", "the other members' priorities can't be noted");
    return CO_DONE;
}

static bool has_others(struct co_call *call)
{
    return others(call) != NULL;
}

/* The noted members that are still in the config, with `held` or their own priority. The hosts point into `list`. */
static size_t other_changes(const bson_t *config, char *list, bool held, struct mg_change ret[MAX_MEMBERS])
{
    size_t count = 0;
    for (char *save = NULL, *line = strtok_r(list, "\n", &save); line && count < MAX_MEMBERS;
         line = strtok_r(NULL, "\n", &save)) {
        char *at = strchr(line, ' '), *end = NULL;
        struct mg_member there;
        if (!at)
            continue;
        *at = '\0';
        mg_find_member(config, line, &there);
        if (there.index < 0)
            continue;
        int64_t v = strtoll(at + 1, &end, 10);
        double p = strtod(end, NULL);
        ret[count++] = (struct mg_change){.host = line, .votes = v, .priority = held ? 0 : p};
    }
    return count;
}

static enum co_result change_others(struct co_call *call, bool held)
{
    MG_STATE(state);
    struct mg_change changes[MAX_MEMBERS];
    const char *note = others(call);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE || !note)
        return result;
    MG_TEXT list = mg_dup(note);
    if (!list)
        return mg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "no memory");
    size_t count = other_changes(&state.config, list, held, changes);
    return count ? mg_reconfig(call, call->conn, changes, count, false) : CO_DONE;
}

static enum co_result others_describe(struct co_call *call, struct co_text *ret)
{
    const char *note = others(call);
    MG_TEXT list = mg_dup(note ? note : "");
    call->host->text_add(call->ctx, ret, "replSetReconfig: priority 0 for");
    for (char *save = NULL, *line = list ? strtok_r(list, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save))
        call->host->text_add(call->ctx, ret, " \"%.*s\"", (int)strcspn(line, " "), line);
    return CO_DONE;
}

static enum co_result others_probe(struct co_call *call, enum co_presence *ret)
{
    MG_STATE(state);
    struct mg_change changes[MAX_MEMBERS];
    size_t held = 0;
    const char *note = others(call);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    MG_TEXT list = mg_dup(note ? note : "");
    size_t count = list ? other_changes(&state.config, list, true, changes) : 0;
    for (size_t i = 0; i < count; i++) {
        struct mg_member member;
        mg_find_member(&state.config, changes[i].host, &member);
        held += member.priority <= 0;
    }
    *ret = held == 0 ? CO_ABSENT : held == count ? CO_PRESENT : CO_PARTIAL;
    return CO_DONE;
}

static enum co_result others_apply(struct co_call *call)
{
    MG_STATE(state);
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = change_others(call, true);
    if (result == CO_DONE)
        result = mg_look(call, call->conn, MG_LOOK_SELF, &state);
    return result == CO_DONE ? still_followed(call, &state) : result;
}

static enum co_result others_revert(struct co_call *call)
{
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = mg_make_source_primary(call);
    return result == CO_DONE ? change_others(call, false) : result;
}

/* After the cutover: they may be elected again. */
static enum co_result free_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, "replSetReconfig: the other members' priorities as before");
}

static enum co_result free_probe(struct co_call *call, enum co_presence *ret)
{
    enum co_presence held = CO_ABSENT;
    enum co_result result = others_probe(call, &held);
    *ret = held == CO_ABSENT ? CO_PRESENT : CO_ABSENT;
    return result;
}

static enum co_result free_apply(struct co_call *call)
{
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = mg_make_target_primary(call);
    return result == CO_DONE ? change_others(call, false) : result;
}

/* ---------------------------------------------------------------- the source can't be elected any more */

static enum co_result hold_describe(struct co_call *call, struct co_text *ret)
{
    char name[320];
    mg_name_of(call, false, name);
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
    mg_name_of(call, false, name);
    mg_find_member(&state.config, name, &member);
    bool held = member.index >= 0 && member.priority <= 0;
    *ret = !held ? CO_ABSENT : state.primary && !mg_config_settled(&state) ? CO_PARTIAL : CO_PRESENT;
    return CO_DONE;
}

static enum co_result hold_apply(struct co_call *call)
{
    MG_STATE(state);
    MG_STATE(seen);
    char name[320];
    struct mg_member member;
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE && call->conn->config) {
        mg_name_of(call, false, name);
        mg_find_member(call->conn->config, name, &member);
        result = mg_look(call, call->conn, MG_LOOK_HELLO, &seen);
        if (result == CO_DONE && seen.primary)
            return mg_reconfig_known(call, call->conn, name, member.votes, 0);
    }
    if (result == CO_DONE)
        result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    if (!state.primary)
        return CO_AGAIN;
    mg_name_of(call, false, name);
    mg_find_member(&state.config, name, &member);
    return mg_reconfig_one(call, call->conn, name, member.votes, 0, false);
}

static enum co_result hold_revert(struct co_call *call)
{
    MG_STATE(mine);
    MG_STATE(other);
    char name[320];
    int64_t v;
    double p;
    mg_name_of(call, false, name);
    mg_original(call, mg_other_side(call->side), &v, &p);
    enum co_result result = mg_guard(call, call->conn);
    if (result != CO_DONE)
        return result;
    if (mg_reachable(call, call->other, &other) && other.primary)
        return mg_reconfig_one(call, call->other, name, v, p, false);
    result = mg_look(call, call->conn, MG_LOOK_ROLE, &mine);
    return result == CO_DONE && mine.primary ? mg_reconfig_one(call, call->conn, name, v, p, false)
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
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = mg_still_primary(call);
    return result == CO_DONE ? mg_unblock(call, call->conn) : result;
}

/* ---------------------------------------------------------------- the way back */

static enum co_result release_describe(struct co_call *call, struct co_text *ret)
{
    char name[320];
    mg_name_of(call, false, name);
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
    mg_name_of(call, false, name);
    mg_find_member(&state.config, name, &member);
    *ret = member.index >= 0 && member.votes == 0 ? CO_PRESENT : CO_ABSENT;
    return CO_DONE;
}

/* The old primary keeps following, without a vote: switched off, it can't take the new one's majority away. */
static enum co_result release_apply(struct co_call *call)
{
    char name[320];
    mg_name_of(call, false, name);
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = mg_still_primary(call);
    return result == CO_DONE ? mg_reconfig_known(call, call->conn, name, 0, 0) : result;
}

/* ---------------------------------------------------------------- detach */

static enum co_result remove_describe(struct co_call *call, struct co_text *ret)
{
    char name[320];
    mg_name_of(call, false, name);
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
    STEP("setup.sync", "copy the data to the target (initial sync)", CO_PHASE_SETUP, CO_TARGET,
         CO_STEP_SLOW | CO_STEP_KEEPS | CO_STEP_OTHER, NULL, sync, sync_apply, nothing),
    STEP("setup.follow", "let the target find the source", CO_PHASE_SETUP, CO_TARGET,
         CO_STEP_SLOW | CO_STEP_KEEPS | CO_STEP_OTHER, NULL, follow, follow_apply, nothing),
    STEP("warm_up.heartbeats", "let the members hear of new settings at once", CO_PHASE_WARM_UP, CO_SOURCE, CO_STEP_OTHER,
         mg_beat_wanted, mg_beat, mg_beat_apply, mg_beat_revert),
    STEP("warm_up.vote", "let the target vote and be elected", CO_PHASE_WARM_UP, CO_SOURCE, CO_STEP_OTHER, NULL, vote,
         vote_apply, vote_revert),
    STEP("warm_up.hear", "let the target hear of its vote", CO_PHASE_WARM_UP, CO_TARGET, CO_STEP_OTHER, NULL, hear, hear_apply,
         hear_revert),
    STEP("warm_up.hold_others", "keep the other members from being elected", CO_PHASE_WARM_UP, CO_SOURCE, CO_STEP_OTHER,
         has_others, others, others_apply, others_revert),
    STEP("fence.block_writes", "block user writes in the replica set", CO_PHASE_FENCE, CO_SOURCE, CO_STEP_OTHER, mg_votes,
         mg_fence, mg_fence_apply, mg_fence_revert),
    STEP("promote.elect", "elect the target", CO_PHASE_PROMOTE, CO_TARGET, CO_STEP_OTHER | CO_STEP_OFFLINE, NULL, mg_elect,
         mg_elect_apply, mg_elect_revert),
    STEP("promote.hold_source", "keep the source from being elected again", CO_PHASE_PROMOTE, CO_TARGET, CO_STEP_OTHER,
         mg_votes, hold, hold_apply, hold_revert),
    STEP("open.release_vote", "take the old primary's vote: majorities don't wait for it", CO_PHASE_OPEN, CO_TARGET,
         CO_STEP_NO_WAY_BACK | CO_STEP_OTHER, cant_vote, release, release_apply, NULL),
    STEP("open.allow_writes", "allow user writes in the replica set", CO_PHASE_OPEN, CO_TARGET,
         CO_STEP_NO_WAY_BACK | CO_STEP_OTHER, mg_votes, open, open_apply, NULL),
    STEP("reverse.release_vote", "take the old primary's vote", CO_PHASE_REVERSE, CO_TARGET,
         CO_STEP_NO_WAY_BACK | CO_STEP_OTHER, NULL, release, release_apply, NULL),
    STEP("reverse.free_others", "let the other members be elected again", CO_PHASE_REVERSE, CO_TARGET,
         CO_STEP_NO_WAY_BACK | CO_STEP_OTHER, has_others, free, free_apply, NULL),
    STEP("reverse.heartbeats", "heartbeats as before", CO_PHASE_REVERSE, CO_TARGET, CO_STEP_NO_WAY_BACK | CO_STEP_OTHER,
         mg_beat_wanted, mg_calm, mg_calm_apply, NULL),
    STEP("reverse.follow", "let the old primary find the new one", CO_PHASE_REVERSE, CO_SOURCE,
         CO_STEP_NO_WAY_BACK | CO_STEP_OTHER, NULL, follow, follow_apply, NULL),
    STEP("detach.remove_member", "remove the other side from the replica set", CO_PHASE_DETACH, CO_SOURCE, CO_STEP_NO_WAY_BACK,
         NULL, remove, member_remove, NULL),
};
const size_t mg_step_count = sizeof mg_steps / sizeof mg_steps[0];
