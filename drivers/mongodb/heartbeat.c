/* heartbeat.c - how soon a primary sees that a majority has a config.
 *
 * From 4.4 on a reconfig waits for a majority to have the config, and a new primary's first one also for the config that the
 * election itself made. A primary sees what config a member has in that member's answer to its own next heartbeat
 * (topology_coordinator.cpp, processHeartbeatResponse; only newer ones ask a member whose config has changed at once), so each
 * costs up to settings.heartbeatIntervalMillis: four seconds of the write pause with the default of two. So a run has the
 * members ask each other more often, and gives them their interval back at its end.
 */
#include <stdio.h>
#include <stdlib.h>

#include "mg.h"

#define BEAT_MS 20
#define NOTE_BEAT "heartbeat" /* run note of side a: the interval before the run, in milliseconds */

static const char *noted(struct co_call *call)
{
    return call->host->note_get(call->ctx, CO_NOTE_RUN, CO_SIDE_A, NOTE_BEAT);
}

static int64_t original_ms(struct co_call *call)
{
    const char *note = noted(call);
    return note ? strtoll(note, NULL, 10) : 2000;
}

enum co_result mg_note_heartbeats(struct co_call *call, const bson_t *config)
{
    char value[32];
    if (mg_heartbeat_ms(config) <= BEAT_MS || noted(call))
        return CO_DONE;
    snprintf(value, sizeof value, "%lld", (long long)mg_heartbeat_ms(config));
    if (call->host->note_put(call->ctx, CO_NOTE_RUN, CO_SIDE_A, NOTE_BEAT, value) != 0)
        return mg_fail(call, CO_NO_EFFECT, CO_E_IO, "", "the heartbeats' interval can't be noted");
    return CO_DONE;
}

bool mg_beats_fast(struct co_call *call, const bson_t *config)
{
    return noted(call) && mg_heartbeat_ms(config) == BEAT_MS;
}

bool mg_beat_wanted(struct co_call *call)
{
    MG_STATE(state);
    if (!mg_reachable(call, call->conn, &state))
        return noted(call) != NULL;
    bool waits = state.major > 4 || (state.major == 4 && state.minor >= 4);
    return waits && (noted(call) || mg_heartbeat_ms(&state.config) > BEAT_MS);
}

static enum co_result interval(struct co_call *call, int64_t *ret_ms)
{
    MG_STATE(state);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result == CO_DONE)
        *ret_ms = mg_heartbeat_ms(&state.config);
    return result;
}

enum co_result mg_beat_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret, "replSetReconfig: settings.heartbeatIntervalMillis: %d", BEAT_MS);
    return CO_DONE;
}

enum co_result mg_beat_probe(struct co_call *call, enum co_presence *ret)
{
    int64_t ms = 0;
    enum co_result result = interval(call, &ms);
    *ret = ms == BEAT_MS ? CO_PRESENT : CO_ABSENT;
    return result;
}

enum co_result mg_beat_apply(struct co_call *call)
{
    enum co_result result = mg_guard(call, call->conn);
    return result == CO_DONE ? mg_reconfig_heartbeats(call, call->conn, BEAT_MS) : result;
}

enum co_result mg_beat_revert(struct co_call *call)
{
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = mg_make_source_primary(call);
    return result == CO_DONE ? mg_reconfig_heartbeats(call, call->conn, original_ms(call)) : result;
}

enum co_result mg_calm_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret, "replSetReconfig: settings.heartbeatIntervalMillis: %lld",
                         (long long)original_ms(call));
    return CO_DONE;
}

enum co_result mg_calm_probe(struct co_call *call, enum co_presence *ret)
{
    enum co_presence fast = CO_ABSENT;
    enum co_result result = mg_beat_probe(call, &fast);
    *ret = fast == CO_PRESENT ? CO_ABSENT : CO_PRESENT;
    return result;
}

enum co_result mg_calm_apply(struct co_call *call)
{
    enum co_result result = mg_guard(call, call->conn);
    if (result == CO_DONE)
        result = mg_still_primary(call);
    return result == CO_DONE ? mg_reconfig_heartbeats(call, call->conn, original_ms(call)) : result;
}
