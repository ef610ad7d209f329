/* check.c - pre-flight: what would make a cutover fail, or not be what it promises.
 *
 * Invariant: nothing is changed; what can't be seen is said.
 */
#include <stdio.h>
#include <string.h>

#include "mg.h"

static void report(struct co_call *call, const char *code, enum co_severity severity, int side, const char *message,
                   const char *remedy)
{
    struct co_finding finding = {.code = code, .severity = severity, .side = side, .message = message, .remedy = remedy};
    call->host->finding(call->ctx, &finding);
}

static void check_kind(struct co_call *call, const struct mg_state *state, int side, bool source)
{
    if (state->sharded)
        report(call, "sharded", CO_ERROR, side, "the server is a mongos: sharded clusters can't be cut over as one replica set",
               "Move each shard's replica set, or use a tool for clusters.");
    else if (state->standalone)
        report(call, "standalone", CO_ERROR, side, "the server runs without a replica set, so nothing can follow it",
               source ? "Start it with --replSet and run rs.initiate(): a short restart."
                      : "Start it with the source's --replSet name and keyFile.");
    else if (source && !state->primary)
        report(call, "source_not_primary", CO_ERROR, side, "the source isn't the primary of its replica set",
               "Name the primary as this side.");
}

static void check_fence(struct co_call *call, const struct mg_state *state, int side)
{
    if (mg_can_vote(state))
        return;
    report(call, "no_write_block", CO_WARNING, side,
           state->major < 6 ? "before 6.0 the server can't be a primary that refuses clients: its step-down is the cutover's "
                              "decision, and the target "
                              "takes writes from then on"
                            : "without access control nobody is held by a write block: the step-down is the cutover's "
                              "decision, and the target takes "
                              "writes from then on",
           state->major < 6 ? "Upgrade to 6.0, or accept it." : "Turn access control on, or accept it.");
}

static void check_write_block(struct co_call *call, const struct mg_state *state, int side)
{
    if (state->blocked && !call->run)
        report(call, "writes_blocked", CO_ERROR, side, "user writes are already blocked, and not by a run that is under way",
               "db.adminCommand({setUserWriteBlockMode: 1, global: false})");
}

/* Users that a write block doesn't hold. Roles granted through other roles are resolved by the server. */
static void check_bypass(struct co_call *call, struct co_conn *conn, int side)
{
    MG_REPLY(reply);
    bson_iter_t at, users;
    bson_t *command = BCON_NEW("usersInfo", "{", "forAllDBs", BCON_BOOL(true), "}");
    int code = 0;
    enum co_result result = mg_command(call, conn, "admin", command, false, &reply, &code);
    const char *probe = call->host->secret_user(call->ctx, CO_SECRET_PROBE);
    bson_destroy(command);
    if (result != CO_DONE) {
        report(call, "bypass_unknown", CO_WARNING, side,
               "whether accounts bypass a write block can't be seen with the tool's account",
               "Grant it viewUser on all databases.");
        return;
    }
    if (!bson_iter_init_find(&at, &reply, "users") || !bson_iter_recurse(&at, &users))
        return;
    while (bson_iter_next(&users)) {
        bson_t one;
        bson_iter_t roles, role;
        const uint8_t *data;
        uint32_t bytes;
        char message[400];
        bson_iter_document(&users, &bytes, &data);
        if (!bson_init_static(&one, data, bytes) || !bson_iter_init_find(&roles, &one, "roles") ||
            !bson_iter_recurse(&roles, &role))
            continue;
        while (bson_iter_next(&role)) {
            bson_t granted;
            bson_iter_document(&role, &bytes, &data);
            if (!bson_init_static(&granted, data, bytes))
                continue;
            const char *name = mg_str(&granted, "role"), *user = mg_str(&one, "user");
            if (strcmp(name, "root") != 0 && strcmp(name, "restore") != 0 && strcmp(name, "__system") != 0)
                continue;
            bool is_probe = probe && strcmp(user, probe) == 0;
            snprintf(message, sizeof message, "the account %.120s has the role %.60s, which writes through a write block", user,
                     name);
            report(call, is_probe ? "probe_bypasses" : "account_bypasses", is_probe ? CO_ERROR : CO_WARNING, side, message,
                   "See that it doesn't write during a cutover, or take the role; such a write is seen and the run undone.");
        }
    }
}

static void check_members(struct co_call *call, const struct mg_state *state, int side, enum co_side target)
{
    bson_iter_t at, members;
    char name[320], message[500];
    struct mg_member member;
    mg_member_name(call, target, name, sizeof name);
    mg_find_member(&state->config, name, &member);
    if (mg_voters(&state->config, NULL) >= 7 && !(member.index >= 0 && member.votes > 0))
        report(call, "too_many_voters", CO_ERROR, side, "the replica set has seven voting members: the target can't get a vote",
               "Take one member's vote.");
    if (!bson_iter_init_find(&at, &state->config, "members") || !bson_iter_recurse(&at, &members))
        return;
    while (bson_iter_next(&members)) {
        bson_t one;
        const uint8_t *data;
        uint32_t bytes;
        bson_iter_document(&members, &bytes, &data);
        if (!bson_init_static(&one, data, bytes))
            continue;
        const char *host = mg_str(&one, "host");
        struct mg_member this_one;
        mg_find_member(&state->config, host, &this_one);
        if (mg_flag(&one, "arbiterOnly")) {
            snprintf(message, sizeof message, "%.300s is an arbiter: majorities may be reached without data", host);
            report(call, "arbiter", CO_WARNING, side, message, "Replace it by a data-bearing member.");
        } else if (strcmp(host, state->me) != 0 && strcmp(host, name) != 0 && this_one.priority > 0 && this_one.votes > 0) {
            snprintf(message, sizeof message, "%.300s can be elected, too: it might become primary instead of the target",
                     host);
            report(call, "other_electable", mg_can_vote(state) ? CO_WARNING : CO_ERROR, side, message,
                   "Give it priority 0 until the cutover is over.");
        }
    }
}

static void check_target(struct co_call *call, const struct mg_state *source, const struct mg_state *target,
                         enum co_check_stage stage, int side)
{
    char message[200];
    if (target->version && source && source->version && (target->major < source->major)) {
        snprintf(message, sizeof message, "the target (%s) is older than the source (%s)", target->version, source->version);
        report(call, "target_older", CO_ERROR, side, message, "Install at least the source's version on the target.");
    }
    if (source && source->set_id && target->set_id && *target->set_id && strcmp(source->set_id, target->set_id) != 0)
        report(call, "other_lineage", CO_ERROR, side, "the target belongs to another replica set", "Use an empty server.");
    if (stage == CO_CHECK_CUTOVER && !target->secondary)
        report(call, "target_not_following", CO_ERROR, side, "the target isn't a secondary of the source's replica set",
               "Run `changeover setup`.");
}

/* Members find each other by the names in the config; the tool must know the same ones. */
static void check_name(struct co_call *call, const struct mg_state *state, enum co_side side)
{
    char name[320], message[700];
    mg_member_name(call, side, name, sizeof name);
    if (!*state->me || strcmp(state->me, name) == 0)
        return;
    snprintf(message, sizeof message, "the member calls itself %.250s in the replica set's config, the config here says %.250s",
             state->me, name);
    report(call, "member_name", CO_ERROR, (int)side, message,
           "Set `peer: {address: ...}` of this side to the member's own name.");
}

enum co_result mg_check(struct co_call *call, enum co_check_stage stage)
{
    MG_STATE(source);
    MG_STATE(target);
    struct co_conn *conns[2] = {call->role == CO_SOURCE ? call->conn : call->other,
                                call->role == CO_SOURCE ? call->other : call->conn};
    struct mg_state *states[2] = {&source, &target};
    enum co_side sides[2] = {call->role == CO_SOURCE ? call->side : mg_other_side(call->side),
                             call->role == CO_SOURCE ? mg_other_side(call->side) : call->side};
    for (int i = 0; i < 2; i++) {
        if (conns[i] && mg_look(call, conns[i], MG_LOOK_ALL, states[i]) == CO_DONE) {
            check_kind(call, states[i], (int)sides[i], i == 0);
            check_name(call, states[i], sides[i]);
            continue;
        }
        report(call, "unreachable", CO_ERROR, (int)sides[i], "this side can't be reached, so it wasn't checked",
               "Start it, or correct its url.");
        states[i] = NULL;
    }
    if (states[0]) {
        check_fence(call, &source, (int)sides[0]);
        check_write_block(call, &source, (int)sides[0]);
        check_members(call, &source, (int)sides[0], sides[1]);
        if (source.auth)
            check_bypass(call, conns[0], (int)sides[0]);
    }
    if (states[0] && states[1] && *source.me && strcmp(source.me, target.me) == 0) {
        report(call, "same_server", CO_ERROR, -1, "both urls lead to the same server", "Correct the url of one side.");
        return CO_DONE;
    }
    if (states[1])
        check_target(call, states[0], &target, stage, (int)sides[1]);
    return CO_DONE;
}
