/* reverse.c - after the cutover the old primary follows the new one; and what ends a migration.
 *
 * One transaction makes the old primary a replica and ends the pause: whatever clients had waiting there (scripts,
 * above all) then meets a read-only replica and is refused, never executed. Its fence stays on disk: should it ever
 * be made a primary by hand it refuses writes, and the next run, which may promote it, finds it closed already.
 *
 * A partial resync is certain when the old primary wrote nothing the new one lacks (its offset is within what the
 * new one has of the common history) and the new one's backlog still reaches back to that offset. Else the old
 * primary takes a full copy, which is said. With repl-diskless-load disabled, the default, it keeps its own data
 * until that copy is complete.
 *
 * Invariant: no server that could be a second writer is left behind.
 */
#include "rd.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETTLE_NS 7000000000 /* a diskless full copy begins after 5 s */
#define LOOK_NS 5000000

/* ---------------------------------------------------------------- follow */

static enum co_result follow_describe(struct co_call *call, struct co_text *ret)
{
    const char *host = "<address of the new primary>";
    char port[16] = "<port>";

    (void)rd_peer(call, rd_other_side(call->side), &host, port);
    call->host->text_set(call->ctx, ret, "", 0);
    call->host->text_add(call->ctx, ret,
                         "MULTI\nCONFIG SET replica-read-only yes\nREPLICAOF %s %s\nCLIENT UNPAUSE\n"
                         "CONFIG SET repl-ping-replica-period %s\nCONFIG REWRITE\nEXEC",
                         host, port, rd_original(call, call->side, "repl-ping-replica-period"));
    return CO_DONE;
}

static enum co_result follow_probe(struct co_call *call, enum co_presence *ret)
{
    RD_STATE(state);
    enum co_result result = rd_look(call, call->conn, RD_LOOK_REPLICATION, &state);

    if (result == CO_DONE)
        *ret = state.primary ? CO_ABSENT : state.syncing ? CO_PARTIAL : CO_PRESENT;
    return result;
}

/* Why the follower would need a full copy of the primary, or NULL: a partial resync is certain. */
static const char *why_full(const struct rd_state *follower, const struct rd_state *primary)
{
    if (strcmp(follower->replid, primary->replid) != 0) {
        if (strcmp(follower->replid, primary->replid2) != 0)
            return "the two have no common history";
        if (follower->offset + 1 > primary->second_offset)
            return "the old primary's history went on after the new one left it (expired keys, when the pause ran out)";
    }
    if (primary->backlog_first < 0 || follower->offset + 1 < primary->backlog_first ||
        follower->offset + 1 > primary->backlog_first + primary->backlog_bytes)
        return "the new primary's backlog doesn't reach back that far";
    return NULL;
}

static void remark(struct co_call *call, const char *full)
{
    RD_TEXT text = NULL;

    if (asprintf(&text, "side %s follows by %s%s", call->side == CO_SIDE_A ? "a" : "b",
                 full ? "a full copy: " : "a partial resync", full ? full : "") < 0)
        text = NULL;
    if (text)
        call->host->remark(call->ctx, text);
}

static enum co_result wait_for_link(struct co_call *call)
{
    int64_t until_ns = call->host->now_ns(call->ctx) + SETTLE_NS;

    for (;;) {
        RD_STATE(state);
        enum co_result result = rd_look(call, call->conn, RD_LOOK_REPLICATION, &state);
        int64_t now_ns = call->host->now_ns(call->ctx);

        if (result != CO_DONE)
            return CO_AGAIN; /* it was changed; the next call looks again */
        if (state.syncing) {
            struct co_progress progress = {"full copy of the new primary", state.sync_read,
                                           state.sync_total > 0 ? state.sync_total : -1, "bytes"};

            call->host->progress(call->ctx, &progress);
            return CO_AGAIN;
        }
        if (state.link_up || now_ns + LOOK_NS >= until_ns)
            return CO_DONE; /* a link that stays down is link()'s to explain */
        if (now_ns + LOOK_NS >= call->deadline_ns || !rd_net_pause(call, call->conn->net, now_ns + LOOK_NS))
            return CO_AGAIN;
    }
}

static enum co_result follow_apply(struct co_call *call)
{
    RD_STATE(state);
    RD_STATE(other);
    const char *host, *full;
    char port[16];
    enum co_result result = rd_guard(call, &state);

    if (result != CO_DONE)
        return result;
    if (!state.primary)
        return wait_for_link(call);
    if (!rd_peer(call, rd_other_side(call->side), &host, port))
        return CO_NO_EFFECT;
    if (!call->other)
        return rd_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "",
                       "the new primary can't be reached, so it isn't known to be one");
    result = rd_look(call, call->other, RD_LOOK_REPLICATION, &other);
    if (result != CO_DONE)
        return CO_NO_EFFECT;
    if (!other.primary || strcmp(other.run_id, state.run_id) == 0)
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "`changeover status` shows both sides.",
                       "the other side is not a primary");
    full = why_full(&state, &other);
    /* it would empty itself before it finds that it can't load the copy, again and again */
    if (full && !rd_version_can_load(&other.version, &state.version))
        return rd_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED,
                       "It keeps its data and stays closed. To have a follower, set up a server of the new primary's version.",
                       "the old primary can't follow: it needs a full copy (%s), and its version can't load the new primary's "
                       "data files",
                       full);
    if (full) {
        struct co_progress progress = {full, -1, -1, "a full copy is needed"};

        call->host->progress(call->ctx, &progress);
    }
    remark(call, full);
    rd_out(call->conn, "MULTI", NULL);
    rd_out(call->conn, "CONFIG", "SET", "replica-read-only", "yes", NULL);
    rd_out(call->conn, "REPLICAOF", host, port, NULL);
    if (call->conn->version.compatible >= 602)
        rd_out(call->conn, "CLIENT", "UNPAUSE", NULL);
    rd_out(call->conn, "CONFIG", "SET", "repl-ping-replica-period", rd_original(call, call->side, "repl-ping-replica-period"),
           NULL);
    rd_out_fsync_back(call, call->conn);
    rd_out(call->conn, "CONFIG", "REWRITE", NULL);
    result = rd_change(call, "the old primary can't be made a replica");
    return result == CO_DONE ? wait_for_link(call) : result;
}

/* Before the commit nobody calls it; after it the run only goes forward. */
static enum co_result follow_revert(struct co_call *call)
{
    RD_STATE(state);
    enum co_result result = rd_guard(call, &state);

    if (result != CO_DONE || state.primary)
        return result;
    return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "A rollback makes it the primary again.",
                   "the old primary follows the new one already");
}

/* ---------------------------------------------------------------- clean */

static enum co_result clean_describe(struct co_call *call, struct co_text *ret)
{
    static const char text[] = "DEL " RD_FENCE_KEY "\nCONFIG REWRITE (where that failed when the new primary was opened)";

    call->host->text_set(call->ctx, ret, text, strlen(text));
    return CO_DONE;
}

static enum co_result clean_probe(struct co_call *call, enum co_presence *ret)
{
    RD_STATE(state);
    enum co_result result = rd_look(call, call->conn, RD_LOOK_REPLICATION, &state);

    if (result == CO_DONE)
        *ret = state.primary && (*state.fence_key || rd_is_unwritten(call)) ? CO_ABSENT : CO_PRESENT;
    return result;
}

static enum co_result clean_apply(struct co_call *call)
{
    RD_STATE(state);
    RD_REPLIES(replies);
    enum co_result result = rd_guard(call, &state);

    if (result != CO_DONE || !state.primary)
        return result;
    if (rd_is_unwritten(call)) { /* it serves, and after a restart it wouldn't */
        rd_out(call->conn, "MULTI", NULL);
        rd_out_persist(call->conn, &state);
        result =
            rd_change(call, "the new primary takes writes, but a restart would close it: its config file can't be written");
        if (result != CO_DONE)
            return result;
    }
    rd_out(call->conn, "DEL", RD_FENCE_KEY, NULL);
    return rd_exchange(call, call->conn, true, &replies); /* refused: it stays, and means nothing without a marker */
}

/* ---------------------------------------------------------------- detach */

static enum co_result stop_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_set(call->ctx, ret, "", 0);
    call->host->text_add(
        call->ctx, ret,
        "MULTI\nCONFIG SET min-replicas-to-write " RD_FENCE_TEXT "\nREPLICAOF NO ONE\nCONFIG REWRITE\nEXEC\n"
        "# it holds a copy and stays closed; to use it for something else: CONFIG SET min-replicas-to-write %s; "
        "CONFIG REWRITE",
        rd_original(call, call->side, "min-replicas-to-write"));
    return CO_DONE;
}

static enum co_result stop_apply(struct co_call *call)
{
    RD_STATE(state);
    enum co_result result = rd_guard(call, &state);

    if (result != CO_DONE || state.primary)
        return result;
    rd_out(call->conn, "MULTI", NULL);
    rd_out_close(call->conn, &state);
    rd_out(call->conn, "REPLICAOF", "NO", "ONE", NULL);
    rd_out_persist(call->conn, &state);
    return rd_change(call, "replication can't be ended");
}

static enum co_result stop_probe(struct co_call *call, enum co_presence *ret)
{
    RD_STATE(state);
    enum co_result result = rd_look(call, call->conn, RD_LOOK_REPLICATION, &state);

    if (result == CO_DONE)
        *ret = state.primary ? CO_PRESENT : CO_ABSENT;
    return result;
}

static enum co_result unname_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret, "CONFIG SET %s \"\"\nCONFIG REWRITE",
                         call->conn ? rd_marker_setting(&call->conn->version) : "<setting of the marker>");
    return CO_DONE;
}

static enum co_result unname_probe(struct co_call *call, enum co_presence *ret)
{
    RD_STATE(state);
    RD_MARKER(marker);
    enum co_result result = rd_look(call, call->conn, RD_LOOK_REPLICATION, &state);

    if (result != CO_DONE)
        return result;
    *ret = rd_marker_parse(state.marker, &marker) && (*marker.instance || *marker.lineage) ? CO_ABSENT : CO_PRESENT;
    return CO_DONE;
}

static enum co_result unname_apply(struct co_call *call)
{
    RD_STATE(state);
    enum co_result result = rd_guard(call, &state);

    return result == CO_DONE ? rd_identity_set(call, "", "") : result;
}

const struct co_step rd_reverse_steps[] = {
    {.size = sizeof(struct co_step),
     .name = "reverse.clean",
     .title = "remove the key that marked the last write, and see that the opening is on disk",
     .phase = CO_PHASE_REVERSE,
     .role = CO_TARGET,
     .flags = CO_STEP_NO_WAY_BACK,
     .describe = clean_describe,
     .probe = clean_probe,
     .apply = clean_apply},
    {.size = sizeof(struct co_step),
     .name = "reverse.follow",
     .title = "make the old primary follow the new one",
     .phase = CO_PHASE_REVERSE,
     .role = CO_SOURCE,
     .flags = CO_STEP_BOTH | CO_STEP_SLOW,
     .describe = follow_describe,
     .probe = follow_probe,
     .apply = follow_apply,
     .revert = follow_revert},
    {.size = sizeof(struct co_step),
     .name = "detach.stop_following",
     .title = "end replication; the copy stays closed",
     .phase = CO_PHASE_DETACH,
     .role = CO_TARGET,
     .flags = CO_STEP_NO_WAY_BACK,
     .describe = stop_describe,
     .probe = stop_probe,
     .apply = stop_apply},
    {.size = sizeof(struct co_step),
     .name = "detach.unname_target",
     .title = "remove the name from the follower's config file",
     .phase = CO_PHASE_DETACH,
     .role = CO_TARGET,
     .flags = CO_STEP_NO_WAY_BACK,
     .describe = unname_describe,
     .probe = unname_probe,
     .apply = unname_apply},
    {.size = sizeof(struct co_step),
     .name = "detach.unname_source",
     .title = "remove the name from the primary's config file",
     .phase = CO_PHASE_DETACH,
     .role = CO_SOURCE,
     .flags = CO_STEP_NO_WAY_BACK,
     .describe = unname_describe,
     .probe = unname_probe,
     .apply = unname_apply},
};
const size_t rd_reverse_step_count = sizeof(rd_reverse_steps) / sizeof(*rd_reverse_steps);
