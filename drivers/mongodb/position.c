/* position.c - optimes, and whether the follower follows.
 *
 * Invariant: positions of different replica sets are never comparable; a lower term with a later time is a history that
 * went another way.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mg.h"

#define SECONDARY 2
#define SILENT_MS 3000 /* heartbeats come every two seconds */

char *mg_position_text(const struct mg_state *state)
{
    char text[160];
    snprintf(text, sizeof text, "%s/%lld/%u.%u", state->set_id ? state->set_id : "", (long long)state->applied.term,
             state->applied.seconds, state->applied.increment);
    return strdup(text);
}

static bool number(const char **at, char end, int64_t max, int64_t *ret)
{
    int64_t value = 0;
    const char *from = *at;
    for (; **at >= '0' && **at <= '9'; (*at)++) {
        if (value > (max - (**at - '0')) / 10)
            return false;
        value = value * 10 + (**at - '0');
    }
    if (*at == from || **at != end)
        return false;
    *at += end != '\0';
    *ret = value;
    return true;
}

bool mg_position_parse(const char *text, char ret_set[64], struct mg_optime *ret)
{
    size_t bytes = text ? strcspn(text, "/") : 0;
    int64_t term, seconds, increment;
    if (bytes == 0 || bytes >= 64 || text[bytes] != '/')
        return false;
    const char *at = text + bytes + 1;
    if (!number(&at, '/', INT64_MAX, &term) || !number(&at, '.', UINT32_MAX, &seconds) ||
        !number(&at, '\0', UINT32_MAX, &increment))
        return false;
    snprintf(ret_set, 64, "%.*s", (int)bytes, text);
    *ret = (struct mg_optime){.term = term, .seconds = (uint32_t)seconds, .increment = (uint32_t)increment};
    return true;
}

enum co_order mg_compare(const char *have, const char *want)
{
    char have_set[64], want_set[64];
    struct mg_optime a, b;
    if (!mg_position_parse(have, have_set, &a) || !mg_position_parse(want, want_set, &b))
        return CO_ORDER_UNKNOWN;
    if (strcmp(have_set, want_set) != 0)
        return CO_ORDER_DIVERGED;
    int time =
        a.seconds != b.seconds ? (a.seconds > b.seconds ? 1 : -1) : (a.increment > b.increment) - (a.increment < b.increment);
    if (a.term == b.term)
        return time > 0 ? CO_ORDER_AHEAD : time < 0 ? CO_ORDER_BEHIND : CO_ORDER_EQUAL;
    /* Terms grow along one history, and so do times. */
    if (a.term > b.term)
        return time >= 0 ? CO_ORDER_AHEAD : CO_ORDER_DIVERGED;
    return time <= 0 ? CO_ORDER_BEHIND : CO_ORDER_DIVERGED;
}

/* An optime counts neither bytes nor transactions. */
void mg_distance(const char *have, const char *want, struct co_distance *ret)
{
    enum co_order order = mg_compare(have, want);
    ret->bytes = -1;
    ret->transactions = order == CO_ORDER_EQUAL || order == CO_ORDER_AHEAD ? 0 : -1;
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
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
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
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
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
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    mg_member_name(call, mg_other_side(call->side), name, sizeof name);
    ret->silent_ms = silence_ms(&state.status, name);
    ret->piled_up_bytes = -1; /* the oplog is a ring: nothing is kept for a follower */
    if (call->conn->anonymous || !state.member)
        return link_is(call, ret, CO_LINK_NONE, "the server is in no replica set");
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
    if (!call->other || mg_look(call, call->other, MG_LOOK_ROLE, &source) != CO_DONE)
        return link_is(call, ret, CO_LINK_UNKNOWN, "the source can't be asked whether it is followed");
    if (!source.set_id || !state.set_id || strcmp(source.set_id, state.set_id) != 0)
        return link_is(call, ret, CO_LINK_BROKEN, "the two servers are in different replica sets");
    if (!source.primary)
        return link_is(call, ret, CO_LINK_BROKEN, "the source isn't the primary");
    if (ret->silent_ms > SILENT_MS)
        return link_is(call, ret, CO_LINK_UNKNOWN, "the source hasn't answered the follower's heartbeats for some seconds");
    return link_is(call, ret, CO_LINK_RUNNING, "");
}
