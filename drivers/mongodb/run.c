/* run.c - what a cutover calls besides its steps: notes, drain, capture, proof, a real write.
 *
 * Invariant: the proof is the oplog's. Every write of a client leaves an entry; so no entry after the captured position
 * but the server's own means that nobody wrote, however the fence may have been breached.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mg.h"

/* ---------------------------------------------------------------- notes */

static enum co_result note_member(struct co_call *call, const bson_t *config, enum co_side side)
{
    char name[320], value[64];
    struct mg_member member;
    mg_member_name(call, side, name, sizeof name);
    mg_find_member(config, name, &member);
    if (member.index < 0 || call->host->note_get(call->ctx, CO_NOTE_RUN, side, "member"))
        return CO_DONE;
    snprintf(value, sizeof value, "%lld %.17g", (long long)member.votes, member.priority);
    if (call->host->note_put(call->ctx, CO_NOTE_RUN, side, "member", value) != 0)
        return mg_fail(call, CO_NO_EFFECT, CO_E_IO, "", "the original votes and priority can't be noted");
    return CO_DONE;
}

enum co_result mg_prepare(struct co_call *call)
{
    MG_STATE(state);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result == CO_DONE)
        result = note_member(call, &state.config, CO_SIDE_A);
    if (result == CO_DONE)
        result = note_member(call, &state.config, CO_SIDE_B);
    if (result == CO_DONE)
        result = mg_note_heartbeats(call, &state.config);
    return result == CO_DONE ? mg_note_others(call, &state.config) : result;
}

/* ---------------------------------------------------------------- drain and capture */

/* setUserWriteBlockMode takes the global lock exclusively: when it has returned, no write is in flight (the server's
 * set_user_write_block_mode_command.cpp). A step-down ends writes itself. */
enum co_result mg_drain(struct co_call *call, bool end, struct co_text *remaining)
{
    bool blocked = true;
    (void)end;
    enum co_result result = mg_conn_can_vote(call->conn) ? mg_blocked(call, call->conn, &blocked) : CO_DONE;
    if (result != CO_DONE)
        return result;
    if (!blocked)
        return mg_fail(call, CO_NO_EFFECT, CO_E_STATE, "", "user writes aren't blocked on the source");
    call->host->text_set(call->ctx, remaining, "", 0);
    return CO_DONE;
}

enum co_result mg_capture(struct co_call *call, struct co_text *ret)
{
    MG_STATE(state);
    bool before = true;
    enum co_result result = mg_conn_can_vote(call->conn) ? mg_blocked(call, call->conn, &before) : CO_DONE;
    if (result == CO_DONE)
        result = mg_look(call, call->conn, MG_LOOK_SELF, &state); /* the position, and then the block again */
    if (result != CO_DONE)
        return result;
    if (!state.primary)
        return mg_fail(call, CO_NO_EFFECT, CO_E_STATE, "", "the source is no primary any more");
    if (mg_can_vote(&state)) {
        if (!before || !state.blocked)
            return mg_fail(call, CO_NO_EFFECT, CO_E_STATE, "The final position can only be read behind a fence.",
                           "user writes aren't blocked on the source");
    }
    if (call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, "captured_incarnation", state.incarnation) != 0)
        return mg_fail(call, CO_NO_EFFECT, CO_E_IO, "", "what was captured can't be noted");
    MG_TEXT text = mg_position_text(&state);
    if (!text)
        return mg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "no memory");
    call->host->text_set(call->ctx, ret, text, strlen(text));
    return CO_DONE;
}

/* ---------------------------------------------------------------- proof */

/* Has anybody written after `position`? No-ops ("n"), the server's own database `config` (sessions, the write block; newer
 * ones remove expired sessions several at a time, as one "applyOps": batched_write_context.h) and the keys that a primary makes
 * for cluster times aside. */
static enum co_result written_since(struct co_call *call, const struct mg_optime *position, char *ret_what, size_t bytes)
{
    MG_REPLY(reply);
    bson_t *command = BCON_NEW("find", BCON_UTF8("oplog.rs"), "filter", "{", "ts", "{", "$gt",
                               BCON_TIMESTAMP((int32_t)position->seconds, (int32_t)position->increment), "}", "op", "{", "$ne",
                               BCON_UTF8("n"), "}", "ns", "{", "$not", BCON_REGEX("^(config\\.|admin\\.system\\.keys$)", ""),
                               "}", "$nor", "[", "{", "ns", BCON_UTF8("admin.$cmd"), "o.applyOps", "{", "$exists",
                               BCON_BOOL(true), "$not", "{", "$elemMatch", "{", "ns", "{", "$not", BCON_REGEX("^config\\.", ""),
                               "}", "}", "}", "}", "}", "]", "}", "limit", BCON_INT32(1), "singleBatch", BCON_BOOL(true));
    bson_t found;
    ret_what[0] = '\0';
    enum co_result result = mg_command(call, call->conn, "local", command, false, &reply, NULL);
    bson_destroy(command);
    if (result == CO_DONE && mg_sub(&reply, "cursor.firstBatch.0", &found))
        snprintf(ret_what, bytes, "op \"%s\" on %s", mg_str(&found, "op"), mg_str(&found, "ns"));
    return result;
}

static const char *doubt(struct co_call *call, const struct mg_state *state, const char *position, bool votes)
{
    MG_TEXT have = mg_position_text(state);
    enum co_order order = have ? mg_compare(have, position) : CO_ORDER_UNKNOWN;
    bool source = call->role == CO_SOURCE;
    const char *incarnation = call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "captured_incarnation");
    if (!state->primary && !state->secondary)
        return "the member is neither primary nor secondary";
    if (votes && !state->blocked)
        return source ? "user writes aren't blocked on the source any more" : "user writes aren't blocked on the target";
    if (source && incarnation && strcmp(incarnation, state->incarnation) != 0)
        return "the source was restarted since its final position was read";
    if (order == CO_ORDER_BEHIND)
        return source ? "the source came back behind its final position" : "the target hasn't applied the final position";
    if (order == CO_ORDER_DIVERGED || order == CO_ORDER_UNKNOWN)
        return "the history isn't the one whose final position was read";
    return NULL;
}

enum co_result mg_proof(struct co_call *call, const char *position)
{
    MG_STATE(state);
    char set[64], written[256] = "";
    struct mg_optime at;
    enum co_result result = mg_look(call, call->conn, MG_LOOK_SELF, &state);
    if (result != CO_DONE)
        return result;
    bool votes = mg_can_vote(&state);
    if (!mg_position_parse(position, set, &at))
        return mg_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "the position \"%s\" is malformed", position);
    const char *why = doubt(call, &state, position, votes);
    if (!why && votes) /* without a fence clients go on writing until the step-down, which waits for what they wrote */
        result = written_since(call, &at, written, sizeof written);
    if (result != CO_DONE)
        return result;
    if (why)
        return mg_fail(call, CO_NO_EFFECT, CO_E_STATE, "The run is undone; start it again.", "%s", why);
    if (*written)
        return mg_fail(call, CO_NO_EFFECT, CO_E_STATE, "Look for accounts that bypass write blocking.",
                       "somebody wrote after the final position was read: %s", written);
    return CO_DONE;
}

/* ---------------------------------------------------------------- a real write */

enum co_result mg_probe_write(struct co_call *call)
{
    MG_REPLY(reply);
    struct co_conn *conn = NULL;
    const char *user = call->host->secret_user(call->ctx, CO_SECRET_PROBE);
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, call->side);
    enum co_result result =
        mg_open_as(call, user ? user : endpoint->user,
                   call->host->secret(call->ctx, call->side, user ? CO_SECRET_PROBE : CO_SECRET_PASSWORD), &conn);
    if (result != CO_DONE)
        return result;
    /* No write concern: the server's default, which is what a client waits for that sets none. */
    bson_t *command = BCON_NEW("update", BCON_UTF8("probe"), "updates", "[", "{", "q", "{", "_id", BCON_UTF8("probe"), "}", "u",
                               "{", "_id", BCON_UTF8("probe"), "run", BCON_UTF8(call->run ? call->run->id : ""), "}", "upsert",
                               BCON_BOOL(true), "}", "]");
    result = mg_command(call, conn, MG_PROBE_DB, command, true, &reply, NULL);
    bson_destroy(command);
    mg_disconnect(conn);
    return result;
}

/* Servers refuse roles with actions that they don't know: getDefaultRWConcern came with 5.0, setUserWriteBlockMode with 6.0.
 * The accounts aren't there yet, so the version is what the server says to everybody. */
static int64_t seen_wire_version(struct co_call *call)
{
    struct co_conn *conn = NULL;
    struct co_error kept = call->err ? *call->err : (struct co_error){0};
    int64_t version = mg_open_as(call, NULL, NULL, &conn) == CO_DONE ? mg_wire_version(conn, 0) : 0;
    mg_disconnect(conn);
    if (call->err)
        *call->err = kept;
    return version;
}

enum co_result mg_grants(struct co_call *call, struct co_text *ret)
{
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, call->side);
    const char *user = endpoint->user ? endpoint->user : "changeover";
    const char *probe = call->host->secret_user(call->ctx, CO_SECRET_PROBE);
    int64_t wire = seen_wire_version(call);
    bool old = wire > 0 && wire < 17, defaults = wire == 0 || wire >= 13;
    call->host->text_set(call->ctx, ret, "", 0);
    if (wire == 0)
        call->host->text_add(
            call->ctx, ret,
            "// the server wasn't reached to ask for its version: setUserWriteBlockMode is for 6.0 and newer,\n"
            "// getDefaultRWConcern for 5.0 and newer; leave out what yours doesn't know\n");
    call->host->text_add(
        call->ctx, ret,
        "// once, on the primary, in %s; accounts are replicated\n"
        "db.getSiblingDB('admin').createRole({role: 'changeover', privileges: [\n"
        "  {resource: {cluster: true}, actions: ['replSetGetStatus', 'replSetGetConfig', 'replSetConfigure', "
        "'replSetStateChange',\n"
        "    %s%s'inprog', 'killop', 'serverStatus', 'listDatabases', 'getCmdLineOpts', 'getParameter', 'appendOplogNote', "
        "'fsync']},\n"
        "  {resource: {db: '', collection: ''}, actions: ['viewUser', 'viewRole']},\n"
        "  {resource: {db: 'local', collection: ''}, actions: ['dbStats']},\n"
        "  {resource: {db: 'local', collection: 'changeover'}, actions: ['find', 'insert', 'update', 'remove']},\n"
        "  {resource: {db: 'local', collection: 'oplog.rs'}, actions: ['find', 'collStats']},\n"
        "  {resource: {db: 'local', collection: 'startup_log'}, actions: ['find']},\n"
        "  {resource: {db: 'config', collection: 'user_writes_critical_sections'}, actions: ['find']}], roles: []})\n"
        "db.getSiblingDB('admin').createUser({user: '%s', pwd: %s, roles: ['changeover']})\n",
        old ? "the mongo shell" : "mongosh", old ? "" : "'setUserWriteBlockMode', 'killAnySession', ",
        defaults ? "'getDefaultRWConcern', " : "", user, old ? "'<password>'" : "passwordPrompt()");
    if (probe)
        call->host->text_add(call->ctx, ret,
                             "// for real test writes\n"
                             "db.getSiblingDB('admin').createUser({user: '%s', pwd: %s, roles: [{role: 'readWrite', db: "
                             "'" MG_PROBE_DB "'}]})\n",
                             probe, old ? "'<password>'" : "passwordPrompt()");
    return CO_DONE;
}
