/* promote.c - the target becomes a primary, still closed to clients; and what takes that back.
 *
 * pg_promote(true) polls every 100 ms; here it is only asked for, and the server is asked again at once whether it
 * happened. A promotion whose reply was lost may happen later: it is cancelled by removing its request and seeing the
 * recovery process stand still in a pause, which it can only reach by finding no request. */
#include "pg.h"

#include <stdio.h>

static enum co_result in_recovery(struct co_call *call, bool *ret, bool *ret_asked)
{
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(
        call, call->conn, PG_READ,
        "SELECT pg_catalog.pg_is_in_recovery(), (pg_catalog.pg_stat_file('promote', true)).size IS NOT NULL", 0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    *ret = pg_is_true(rows, 0, 0);
    if (ret_asked)
        *ret_asked = pg_is_true(rows, 0, 1);
    return CO_DONE;
}

static enum co_result promote_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret, "SELECT pg_promote(false)\n");
    return CO_DONE;
}

#define SENT_NOTE "promote.sent"

static enum co_result promote_probe(struct co_call *call, enum co_presence *ret)
{
    bool recovery = false, asked = false;
    if (!pg_alive(call->conn)) {
        /* A promotion removes standby.signal, and a start forgets what was asked for: what is down and has the signal only
         * needs to be started; what is up will answer soon. */
        if (!pg_machine_ready(call, call->side))
            return pg_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "the server can't be reached");
        struct pg_machine_state state;
        enum co_result result = pg_machine_look(call, call->side, &state);
        if (result != CO_DONE)
            return result;
        *ret = state.standby ? CO_PARTIAL : CO_PRESENT;
        return state.standby && state.up ? CO_AGAIN : CO_DONE;
    }
    enum co_result result = in_recovery(call, &recovery, &asked);
    if (result != CO_DONE)
        return result;
    /* A request that was sent and isn't visible any more may be under way: that is neither absent nor present. */
    bool sent = call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, SENT_NOTE) != NULL;
    *ret = !recovery ? CO_PRESENT : asked || sent ? CO_PARTIAL : CO_ABSENT;
    return CO_DONE;
}

static enum co_result promote_apply(struct co_call *call)
{
    if (call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, SENT_NOTE, "1") < 0)
        return pg_fail(call, CO_NO_EFFECT, CO_E_IO, "", "that the promotion is asked for could not be noted");
    enum co_result result = pg_guarded(
        call, call->conn,
        "DO $co$ BEGIN IF pg_catalog.pg_is_in_recovery() THEN PERFORM pg_catalog.pg_promote(false); END IF; END $co$", NULL);
    while (result == CO_DONE) {
        bool recovery = true;
        result = in_recovery(call, &recovery, NULL);
        if (result != CO_DONE)
            return CO_EFFECT_UNKNOWN;
        if (!recovery)
            return CO_DONE;
        if (call->deadline_ns - call->host->now_ns(call->ctx) < 5 * PG_MS)
            return CO_AGAIN;
        if (!pg_pause(call, call->conn, 1))
            return pg_fail(call, CO_EFFECT_UNKNOWN, CO_E_INTERRUPTED, "", "interrupted while the server is promoted");
    }
    return result;
}

enum co_result pg_cancel_promotion(struct co_call *call)
{
    bool recovery = false;
    enum co_result result = in_recovery(call, &recovery, NULL);
    if (result != CO_DONE || !recovery)
        return result;
    result = pg_guarded(call, call->conn, "COPY (SELECT '') TO PROGRAM 'read -r x; rm -f promote'", NULL);
    if (result != CO_DONE)
        return result;
    PG_RESULT before = NULL;
    result = pg_query(call, call->conn, PG_READ, "SELECT pg_catalog.pg_is_wal_replay_paused()", 0, NULL, &before);
    if (result != CO_DONE)
        return result;
    /* Refused (55000) once a promotion is under way: then it is waited for. */
    result = pg_guarded(call, call->conn, "SELECT pg_catalog.pg_wal_replay_pause()", NULL);
    if (result == CO_NO_EFFECT && pg_state_is(call->err, "55000"))
        return CO_AGAIN;
    if (result != CO_DONE)
        return result;
    bool still = false;
    while (result == CO_DONE && !still) {
        PG_RESULT rows = NULL;
        result = pg_query(call, call->conn, PG_READ,
                          call->conn->version >= 140000 ? "SELECT pg_catalog.pg_get_wal_replay_pause_state() = 'paused'"
                                                        : "SELECT pg_catalog.pg_is_wal_replay_paused()",
                          0, NULL, &rows);
        still = result == CO_DONE && pg_is_true(rows, 0, 0);
        if (!still && result == CO_DONE && call->deadline_ns - call->host->now_ns(call->ctx) < 20 * PG_MS)
            return CO_AGAIN;
        if (!still && result == CO_DONE && !pg_pause(call, call->conn, 2))
            return pg_fail(call, CO_EFFECT_UNKNOWN, CO_E_INTERRUPTED, "", "interrupted while a promotion is cancelled");
    }
    if (result == CO_DONE && !pg_is_true(before, 0, 0)) /* else somebody else paused it */
        result = pg_guarded(call, call->conn, "SELECT pg_catalog.pg_wal_replay_resume()", NULL);
    if (result == CO_DONE && call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, SENT_NOTE, NULL) < 0)
        return pg_fail(call, CO_NO_EFFECT, CO_E_IO, "", "the note of the promotion could not be removed");
    return result;
}

static enum co_result promote_revert(struct co_call *call)
{
    if (pg_alive(call->conn)) {
        bool recovery = false;
        enum co_result result = in_recovery(call, &recovery, NULL);
        if (result != CO_DONE)
            return result;
        if (recovery)
            return pg_cancel_promotion(call);
    }
    enum co_result result = pg_follow_again(call);
    /* It was started since: whatever was asked for is forgotten. */
    if (result == CO_DONE && call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, SENT_NOTE, NULL) < 0)
        return pg_fail(call, CO_EFFECT_UNKNOWN, CO_E_IO, "", "the note of the promotion could not be removed");
    return result;
}

const struct co_step pg_step_promote = {
    .size = sizeof(struct co_step),
    .name = "promote.server",
    .title = "promote the target, still closed to clients",
    .phase = CO_PHASE_PROMOTE,
    .role = CO_TARGET,
    .flags = CO_STEP_OFFLINE,
    .describe = promote_describe,
    .probe = promote_probe,
    .apply = promote_apply,
    .revert = promote_revert,
};
