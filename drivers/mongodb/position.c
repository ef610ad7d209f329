/* position.c - how far a member is, and whether the follower follows.
 *
 * Invariant: a link is running only when the follower, asked itself, has a sync source and the source, asked itself, is the
 * primary of the same replica set.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mg.h"

#define SECONDARY 2
#define SILENT_MS 3000 /* heartbeats come every two seconds, unless settings.heartbeatIntervalMillis says otherwise */

char *mg_position_text(const struct mg_state *state)
{
    char text[160];
    snprintf(text, sizeof text, "%s/%lld/%u.%u", state->set_id ? state->set_id : "", (long long)state->applied.term,
             state->applied.seconds, state->applied.increment);
    return strdup(text);
}

static enum co_result give(struct co_call *call, const struct mg_state *state, struct co_text *ret)
{
    MG_TEXT text = mg_position_text(state);
    if (!text)
        return mg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "no memory");
    if (state->applied.seconds == 0 || !state->set_id || !*state->set_id)
        return mg_fail(call, CO_NO_EFFECT, CO_E_STATE, "See `changeover status`.",
                       "the server names no position: it is in no replica set, or has no data yet");
    call->host->text_set(call->ctx, ret, text, strlen(text));
    return CO_DONE;
}

enum co_result mg_position(struct co_call *call, struct co_text *ret)
{
    MG_STATE(state);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_SELF, &state);
    if (result != CO_DONE)
        return result;
    /* The undo of a promotion asks how far the source is while the target still is the primary. */
    if (!state.primary && !(call->run && call->role == CO_SOURCE && state.secondary))
        return mg_fail(call, CO_NO_EFFECT, CO_E_STATE, "See `changeover status` for who is the primary.",
                       "the server isn't the primary: it has no position of its own");
    return give(call, &state, ret);
}

enum co_result mg_applied(struct co_call *call, struct co_text *ret)
{
    MG_STATE(state);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_SELF, &state);
    return result == CO_DONE ? give(call, &state, ret) : result;
}

static enum co_result link_is(struct co_call *call, struct co_link *ret, enum co_link_state state, const char *reason)
{
    ret->state = state;
    call->host->text_set(call->ctx, ret->reason, reason, strlen(reason));
    return CO_DONE;
}

static const char *state_name(int state)
{
    static const char *const names[] = {"STARTUP", "PRIMARY", "SECONDARY", "RECOVERING", "",       "STARTUP2 (initial sync)",
                                        "UNKNOWN", "ARBITER", "DOWN",      "ROLLBACK",   "REMOVED"};
    return state >= 0 && state < (int)(sizeof names / sizeof names[0]) ? names[state] : "unknown";
}

/* How long ago the follower heard of its source, as the follower says; -1. */
static int64_t silence_ms(const bson_t *status, const char *source)
{
    bson_iter_t at, members;
    int64_t now = -1, heard = -1;
    if (bson_iter_init_find(&at, status, "date") && BSON_ITER_HOLDS_DATE_TIME(&at))
        now = bson_iter_date_time(&at);
    if (!bson_iter_init_find(&at, status, "members") || !bson_iter_recurse(&at, &members))
        return -1;
    while (bson_iter_next(&members)) {
        bson_t one;
        bson_iter_t field;
        const uint8_t *data;
        uint32_t bytes;
        bson_iter_document(&members, &bytes, &data);
        if (bson_init_static(&one, data, bytes) && strcmp(mg_str(&one, "name"), source) == 0 &&
            bson_iter_init_find(&field, &one, "lastHeartbeatRecv") && BSON_ITER_HOLDS_DATE_TIME(&field))
            heard = bson_iter_date_time(&field);
    }
    return now >= 0 && heard >= 0 && now >= heard ? now - heard : -1;
}

enum co_result mg_link(struct co_call *call, struct co_link *ret)
{
    MG_STATE(state);
    MG_STATE(source);
    char name[320], reason[200];
    enum co_result result = mg_look(call, call->conn, MG_LOOK_SELF, &state);
    if (result != CO_DONE)
        return result;
    mg_member_name(call, mg_other_side(call->side), name, sizeof name);
    ret->silent_ms = silence_ms(&state.status, name);
    ret->piled_up_bytes = -1; /* the oplog is a ring: nothing is kept for a follower */
    if (call->conn->anonymous || !state.member)
        return link_is(call, ret, CO_LINK_NONE,
                       state.my_state == MG_REMOVED ? "the server was removed from its replica set"
                                                    : "the server is in no replica set");
    if (state.primary)
        return link_is(call, ret, CO_LINK_NONE, "the server is the primary");
    if (state.my_state != SECONDARY) {
        snprintf(reason, sizeof reason, "the member is in state %s", state_name(state.my_state));
        return link_is(call, ret, CO_LINK_BROKEN, reason);
    }
    const char *from = mg_str(&state.status, "syncSourceHost");
    if (!*from)
        from = mg_str(&state.status, "syncingTo"); /* before 4.4 */
    if (!*from)
        return link_is(call, ret, CO_LINK_BROKEN, "the member has no sync source");
    if (!call->other || mg_look(call, call->other, MG_LOOK_SELF, &source) != CO_DONE)
        return link_is(call, ret, CO_LINK_UNKNOWN, "the source can't be asked whether it is followed");
    if (!source.set_id || !state.set_id || strcmp(source.set_id, state.set_id) != 0)
        return link_is(call, ret, CO_LINK_BROKEN, "the two servers are in different replica sets");
    if (!source.primary)
        return link_is(call, ret, CO_LINK_BROKEN, "the source isn't the primary");
    int64_t beat_ms = mg_int(&state.status, "heartbeatIntervalMillis", 2000);
    if (ret->silent_ms > (beat_ms > 2000 ? beat_ms + beat_ms / 2 : SILENT_MS))
        return link_is(call, ret, CO_LINK_UNKNOWN, "the source hasn't answered the follower's heartbeats for some seconds");
    return link_is(call, ret, CO_LINK_RUNNING, "");
}
