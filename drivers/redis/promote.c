/* promote.c - the target: close, promote, open.
 *
 * Closed is the fence's setting on the target itself, put on disk while it is still a replica: settings don't
 * replicate, in either direction, so nothing that happens to the source's fence can open the target, and a target that
 * restarts at any moment comes up closed. CLIENT PAUSE is never used here: on a replica it stalls replication.
 *
 * Invariants: a server that isn't closed is never promoted; a primary is never reopened by an undo; what makes the
 * target open, and that it is open after a restart, is one transaction.
 */
#include "rd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum co_result describe(struct co_call *call, struct co_text *ret, const char *text)
{
    call->host->text_set(call->ctx, ret, text, strlen(text));
    return CO_DONE;
}

static enum co_result need_config(struct co_call *call, const struct rd_state *state)
{
    if (state->config_known)
        return CO_DONE;
    return rd_fail(call, CO_NO_EFFECT, CO_E_PRIVILEGE, "Grant the account what docs/redis.md lists.", "CONFIG GET is refused");
}

/* ---------------------------------------------------------------- close */

/* A target that was closed before the run (the old primary in a rollback) stays closed when the run is undone; and what
 * prepare() never saw was never closed by this run. */
static bool close_wanted(struct co_call *call)
{
    const char *before;

    if (!call->run)
        return true; /* a plan */
    before = call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "closed_before");
    return before && strcmp(before, "no") == 0;
}

static enum co_result close_describe(struct co_call *call, struct co_text *ret)
{
    RD_STATE(state);
    enum co_result result = call->conn ? rd_look(call, call->conn, RD_LOOK_REPLICATION, &state) : CO_DONE;

    if (result != CO_DONE)
        return result;
    describe(call, ret,
             "MULTI\nCONFIG SET replica-read-only yes\nCONFIG SET min-replicas-to-write " RD_FENCE_TEXT
             "\nCONFIG SET min-replicas-max-lag 10 (where it is 0)\n");
    if (call->conn)
        rd_rights_describe(call, &state, false, ret);
    call->host->text_add(call->ctx, ret, "CONFIG REWRITE\n%sEXEC", state.acl_file ? "ACL SAVE\n" : "");
    return CO_DONE;
}

static enum co_result close_probe(struct co_call *call, enum co_presence *ret)
{
    RD_STATE(state);
    enum co_result result = rd_look(call, call->conn, RD_LOOK_REPLICATION, &state);

    if (result == CO_DONE)
        result = need_config(call, &state);
    if (result != CO_DONE)
        return result;
    *ret = rd_state_fenced(&state) ? CO_PRESENT : rd_state_fenced_partly(&state) ? CO_PARTIAL : CO_ABSENT;
    return CO_DONE;
}

static enum co_result close_apply(struct co_call *call)
{
    RD_STATE(state);
    enum co_result result = rd_guard(call, &state);

    if (result != CO_DONE)
        return result;
    if (state.primary)
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "Run `changeover setup`.", "the target is a primary, not a replica");
    rd_out(call->conn, "MULTI", NULL);
    rd_out(call->conn, "CONFIG", "SET", "replica-read-only", "yes", NULL);
    rd_out_close(call->conn, &state);
    rd_out_persist(call->conn, &state);
    return rd_change(call, "the target can't be closed");
}

static enum co_result close_revert(struct co_call *call)
{
    RD_STATE(state);
    enum co_result result = rd_guard(call, &state);

    if (result != CO_DONE)
        return result;
    if (state.primary)
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "Make it follow again first (`changeover setup`).",
                       "the target is still a primary: it stays closed, because opening it would make two");
    rd_out(call->conn, "MULTI", NULL);
    rd_out_reopen(call, call->conn, &state);
    rd_out_persist(call->conn, &state);
    return rd_change(call, "the target's settings can't be put back");
}

/* ---------------------------------------------------------------- promote */

static enum co_result promote_describe(struct co_call *call, struct co_text *ret)
{
    return describe(call, ret,
                    rd_original_fsync(call) ? "MULTI\nREPLICAOF NO ONE\nCONFIG REWRITE\nCONFIG SET appendfsync always\nEXEC"
                                            : "MULTI\nREPLICAOF NO ONE\nCONFIG REWRITE\nEXEC");
}

static enum co_result promote_probe(struct co_call *call, enum co_presence *ret)
{
    RD_STATE(state);
    enum co_result result = rd_look(call, call->conn, RD_LOOK_REPLICATION, &state);

    if (result == CO_DONE)
        *ret = state.primary ? CO_PRESENT : CO_ABSENT;
    return result;
}

static enum co_result promote_apply(struct co_call *call)
{
    RD_STATE(state);
    enum co_result result = rd_guard(call, &state);

    if (result != CO_DONE)
        return result;
    if (!rd_state_fenced(&state))
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "Somebody opened it: find out who.",
                       "the target is not closed, so it can't be promoted");
    if (!state.primary && !state.link_up && !state.loading && state.applied <= 0)
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "Run `changeover setup`.", "the target holds no copy");
    rd_out(call->conn, "MULTI", NULL);
    rd_out(call->conn, "REPLICAOF", "NO", "ONE", NULL);
    rd_out(call->conn, "CONFIG", "REWRITE", NULL);
    rd_out_fsync(call, call->conn);
    return rd_change(call, "the promotion failed");
}

static enum co_result promote_revert(struct co_call *call)
{
    RD_STATE(state);
    RD_TEXT master = NULL;
    const char *note, *host;
    char port[16], *space;
    enum co_result result = rd_guard(call, &state);

    if (result != CO_DONE || !state.primary)
        return result;
    note = call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "master_before");
    master = note ? strdup(note) : NULL;
    space = master ? strrchr(master, ' ') : NULL;
    if (space && strlen(space + 1) < sizeof(port)) {
        *space = '\0';
        host = master;
        memcpy(port, space + 1, strlen(space + 1) + 1);
    } else if (!rd_peer(call, rd_other_side(call->side), &host, port)) {
        return CO_NO_EFFECT;
    }
    rd_out(call->conn, "MULTI", NULL);
    rd_out(call->conn, "REPLICAOF", host, port, NULL);
    rd_out_fsync_back(call, call->conn);
    rd_out(call->conn, "CONFIG", "REWRITE", NULL);
    return rd_change(call, "the target can't be made a replica again");
}

/* ---------------------------------------------------------------- open */

static enum co_result open_describe(struct co_call *call, struct co_text *ret)
{
    bool rights = call->conn && rd_rights_needed(&call->conn->version);

    call->host->text_set(call->ctx, ret, "", 0);
    call->host->text_add(
        call->ctx, ret,
        "MULTI\nCONFIG SET min-replicas-to-write %s\nCONFIG SET min-replicas-max-lag %s\n%sCONFIG REWRITE\n%sEXEC",
        rd_original(call, call->side, "min-replicas-to-write"), rd_original(call, call->side, "min-replicas-max-lag"),
        rights ? "ACL SETUSER <user> -@all <rules of changeover.kept.user>\nACL DELUSER changeover.kept.<user>\n" : "",
        rights ? "ACL SAVE (where there is an aclfile)\n" : "");
    return CO_DONE;
}

static enum co_result open_probe(struct co_call *call, enum co_presence *ret)
{
    RD_STATE(state);
    enum co_result result = rd_look(call, call->conn, RD_LOOK_REPLICATION, &state);

    if (result == CO_DONE)
        result = need_config(call, &state);
    if (result == CO_DONE)
        *ret = state.primary && !rd_state_fenced_partly(&state) ? CO_PRESENT : CO_ABSENT;
    return result;
}

/* A promoted server that was killed may come back without its tail: then only the old primary has all writes. */
static enum co_result still_complete(struct co_call *call, const struct rd_state *state)
{
    const char *note = call->host->note_get(call->ctx, CO_NOTE_RUN, rd_other_side(call->side), "position");
    RD_TEXT want = note ? strdup(note) : NULL;
    RD_TEXT have = rd_position_text(state);
    enum co_order order;

    if (!want || !have)
        return CO_DONE;
    order = rd_compare(have, want);
    if (order == CO_ORDER_EQUAL || order == CO_ORDER_AHEAD)
        return CO_DONE;
    return rd_fail(call, CO_NO_EFFECT, CO_E_DATA,
                   "The old primary has them, and both stay closed: `changeover abort --b-is-lost` goes back to it.",
                   "the new primary came back at %s, without %s: acknowledged writes would be lost", have, want);
}

static enum co_result open_apply(struct co_call *call)
{
    RD_STATE(state);
    enum co_result result = rd_guard(call, &state);

    if (result != CO_DONE)
        return result;
    if (!state.primary)
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "`changeover status` shows both sides.",
                       "the target is a replica of %s:%lld: it must be promoted before it is opened", state.master_host,
                       (long long)state.master_port);
    if (rd_state_fenced_partly(&state)) { /* else it is open, and what it has is what counts */
        result = still_complete(call, &state);
        if (result != CO_DONE)
            return result;
    }
    rd_out(call->conn, "MULTI", NULL);
    rd_out_reopen(call, call->conn, &state);
    rd_out_fsync_back(call, call->conn);
    rd_out_persist(call->conn, &state);
    return rd_change(call, "the new primary can't be opened");
}

const struct co_step rd_promote_steps[] = {
    {.size = sizeof(struct co_step),
     .name = "warm_up.close_target",
     .title = "close the target on its own disk: min-replicas-to-write " RD_FENCE_TEXT,
     .phase = CO_PHASE_WARM_UP,
     .role = CO_TARGET,
     .wanted = close_wanted,
     .describe = close_describe,
     .probe = close_probe,
     .apply = close_apply,
     .revert = close_revert},
    {.size = sizeof(struct co_step),
     .name = "promote.replicaof_no_one",
     .title = "promote the target, still closed",
     .phase = CO_PHASE_PROMOTE,
     .role = CO_TARGET,
     .describe = promote_describe,
     .probe = promote_probe,
     .apply = promote_apply,
     .revert = promote_revert},
    {.size = sizeof(struct co_step),
     .name = "open.accept_writes",
     .title = "open the new primary, on disk too",
     .phase = CO_PHASE_OPEN,
     .role = CO_TARGET,
     .flags = CO_STEP_NO_WAY_BACK,
     .describe = open_describe,
     .probe = open_probe,
     .apply = open_apply},
};
const size_t rd_promote_step_count = sizeof(rd_promote_steps) / sizeof(*rd_promote_steps);
