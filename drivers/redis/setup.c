/* setup.c - B becomes A's replica: names, accounts, REPLICAOF, and the full copy watched until the link is up.
 *
 * Invariants: data on B is replaced only with setup.replace_b; a server is never made a replica of itself or of a
 * server that isn't the primary; a copy that starts over is noticed and ended with the reason, not waited for.
 */
#include "rd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RESTARTS 3 /* full copies begun for this setup without the link coming up */

static enum co_result name_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret, "CONFIG SET %s \"changeover/1 id=<instance> lin=<lineage>\"\nCONFIG REWRITE",
                         call->conn ? rd_marker_setting(&call->conn->version) : "<setting of the marker>");
    return CO_DONE;
}

static enum co_result read_marker(struct co_call *call, struct co_conn *conn, struct rd_state *state, struct rd_marker *marker)
{
    enum co_result result = rd_look(call, conn, RD_LOOK_ALL, state);

    if (result != CO_DONE)
        return result;
    if (!state->config_known)
        return rd_fail(call, CO_NO_EFFECT, CO_E_PRIVILEGE, "Grant the account what docs/redis.md lists.",
                       "CONFIG GET is refused");
    if (!rd_marker_parse(state->marker, marker))
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE,
                       "Empty it (CONFIG SET, CONFIG REWRITE): docs/redis.md says what it is for.",
                       "the setting %s is in use; the server's name is kept there", rd_marker_setting(&conn->version));
    return CO_DONE;
}

static enum co_result name_source_probe(struct co_call *call, enum co_presence *ret)
{
    RD_STATE(state);
    RD_MARKER(marker);
    enum co_result result = read_marker(call, call->conn, &state, &marker);

    if (result == CO_DONE)
        *ret = *marker.instance && !marker.temporary && *marker.lineage ? CO_PRESENT : CO_ABSENT;
    return result;
}

static enum co_result name_source_apply(struct co_call *call)
{
    RD_STATE(state);
    RD_MARKER(marker);
    RD_TEXT instance = NULL;
    enum co_result result = read_marker(call, call->conn, &state, &marker);

    if (result != CO_DONE)
        return result;
    instance = rd_instance(call, call->conn, &state, &marker);
    if (!instance)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    return rd_identity_set(call, instance, *marker.lineage ? marker.lineage : instance);
}

/* The follower's lineage is its primary's. */
static enum co_result name_target_probe(struct co_call *call, enum co_presence *ret)
{
    RD_STATE(state);
    RD_STATE(source);
    RD_MARKER(marker);
    RD_MARKER(source_marker);
    enum co_result result = read_marker(call, call->conn, &state, &marker);

    if (result == CO_DONE && !call->other)
        return rd_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "the primary can't be reached");
    if (result == CO_DONE)
        result = read_marker(call, call->other, &source, &source_marker);
    if (result == CO_DONE)
        *ret =
            *marker.instance && *marker.lineage && strcmp(marker.lineage, source_marker.lineage) == 0 ? CO_PRESENT : CO_ABSENT;
    return result;
}

static enum co_result name_target_apply(struct co_call *call)
{
    RD_STATE(state);
    RD_STATE(source);
    RD_MARKER(marker);
    RD_MARKER(source_marker);
    RD_TEXT instance = NULL;
    enum co_result result = read_marker(call, call->conn, &state, &marker);

    if (result == CO_DONE)
        result = read_marker(call, call->other, &source, &source_marker);
    if (result != CO_DONE)
        return result;
    instance = rd_instance(call, call->conn, &state, &marker);
    if (!instance)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    return rd_identity_set(call, instance, source_marker.lineage);
}

/* ---------------------------------------------------------------- accounts */

static bool account_wanted(struct co_call *call)
{
    const char *user, *password;

    return rd_replication_login(call, call->side, &user, &password);
}

static enum co_result account_describe(struct co_call *call, struct co_text *ret)
{
    const char *user = NULL, *password;

    call->host->text_set(call->ctx, ret, "", 0);
    if (!rd_replication_login(call, call->side, &user, &password))
        return CO_DONE;
    call->host->text_add(call->ctx, ret, "%s%s%sCONFIG SET masterauth <password>\nCONFIG REWRITE",
                         user ? "CONFIG SET masteruser " : "", user ? user : "", user ? "\n" : "");
    return CO_DONE;
}

static enum co_result account_probe(struct co_call *call, enum co_presence *ret)
{
    RD_REPLIES(replies);
    const char *user = NULL, *password, *now, *now_user;
    enum co_result result;
    size_t bytes;

    rd_out(call->conn, "CONFIG", "GET", "masterauth", NULL);
    rd_out(call->conn, "CONFIG", "GET", "masteruser", NULL); /* 6.0 */
    result = rd_exchange(call, call->conn, false, &replies);
    if (result != CO_DONE)
        return result;
    if (replies.reply[0]->type == REDIS_REPLY_ERROR && rd_failed(call, &replies, "masterauth can't be read"))
        return CO_NO_EFFECT;
    now = rd_config_value(replies.reply[0], "masterauth");
    now_user = rd_config_value(replies.reply[1], "masteruser");
    *ret = CO_ABSENT;
    if (now && rd_replication_login(call, call->side, &user, &password) && strcmp(now, password) == 0 &&
        (!user || (now_user && strcmp(now_user, user) == 0)))
        *ret = CO_PRESENT;
    for (size_t at = 0; at < replies.reply[0]->elements; at++) { /* the server sent a secret */
        bytes = strlen(rd_text(replies.reply[0]->element[at]));
        if (bytes > 0)
            explicit_bzero(replies.reply[0]->element[at]->str, bytes);
    }
    return CO_DONE;
}

static enum co_result account_apply(struct co_call *call)
{
    const char *user = NULL, *password;

    if (!rd_replication_login(call, call->side, &user, &password))
        return CO_DONE;
    rd_out(call->conn, "MULTI", NULL);
    if (user)
        rd_out(call->conn, "CONFIG", "SET", "masteruser", user, NULL);
    rd_out(call->conn, "CONFIG", "SET", "masterauth", password, NULL);
    rd_out(call->conn, "CONFIG", "REWRITE", NULL);
    return rd_change(call, "the replication account can't be set");
}

/* ---------------------------------------------------------------- follow */

static enum co_result follow_describe(struct co_call *call, struct co_text *ret)
{
    const char *host = "<address of the primary>";
    char port[16] = "<port>";

    (void)rd_peer(call, rd_other_side(call->side), &host, port);
    call->host->text_set(call->ctx, ret, "", 0);
    call->host->text_add(call->ctx, ret, "MULTI\nCONFIG SET replica-read-only yes\nREPLICAOF %s %s\nCONFIG REWRITE\nEXEC", host,
                         port);
    return CO_DONE;
}

static bool follows(const struct rd_state *b, const char *host, const char *port)
{
    char text[16];

    (void)snprintf(text, sizeof(text), "%lld", (long long)b->master_port);
    return !b->primary && strcmp(b->master_host, host) == 0 && strcmp(text, port) == 0;
}

static enum co_result follow_probe(struct co_call *call, enum co_presence *ret)
{
    RD_STATE(b);
    RD_STATE(a);
    const char *host;
    char port[16];
    enum co_result result = rd_look(call, call->conn, RD_LOOK_REPLICATION, &b);

    if (result != CO_DONE)
        return result;
    if (!rd_peer(call, rd_other_side(call->side), &host, port))
        return CO_NO_EFFECT;
    *ret = b.primary ? CO_ABSENT : CO_PARTIAL;
    if (!call->other || b.primary || !b.link_up || b.syncing || !b.read_only)
        return CO_DONE;
    result = rd_look(call, call->other, RD_LOOK_REPLICATION, &a);
    /* by another address is fine, where the history says that it is the same server */
    if (result == CO_DONE && strcmp(a.replid, b.replid) == 0)
        *ret = CO_PRESENT;
    return result;
}

static bool may_replace(struct co_call *call)
{
    const char *value = call->host->option(call->ctx, "setup.replace_b");

    return value && strcmp(value, "true") == 0;
}

/* Only an empty B, or one that is meant to be replaced, is made a replica. */
static enum co_result start_following(struct co_call *call, const struct rd_state *a, const struct rd_state *b,
                                      const char *host, const char *port)
{
    RD_REPLIES(replies);
    char text[64];
    enum co_result result;

    if (!a->primary)
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "`changeover status` shows both sides.",
                       "the other side is a replica of %s:%lld, not a primary", a->master_host, (long long)a->master_port);
    if (strcmp(a->run_id, b->run_id) == 0)
        return rd_fail(call, CO_NO_EFFECT, CO_E_CONFIG, "Correct the urls.", "a and b are the same server");
    rd_out(call->conn, "INFO", "keyspace", NULL);
    result = rd_one(call, call->conn, false, "INFO is refused", &replies);
    if (result != CO_DONE)
        return result;
    if (b->primary && strstr(rd_text(replies.reply[0]), "\ndb") && !may_replace(call))
        return rd_fail(call, CO_NO_EFFECT, CO_E_DATA, "Set setup: {replace_b: true} when its data may be replaced.",
                       "the server to set up holds data, which becoming a replica would destroy");
    (void)snprintf(text, sizeof(text), "%lld", (long long)a->sync_full);
    (void)call->host->note_put(call->ctx, CO_NOTE_PAIR, call->side, "sync_full_before", text);
    rd_out(call->conn, "MULTI", NULL);
    rd_out(call->conn, "CONFIG", "SET", "replica-read-only", "yes", NULL);
    rd_out(call->conn, "REPLICAOF", host, port, NULL);
    rd_out(call->conn, "CONFIG", "REWRITE", NULL);
    result = rd_change(call, "the server can't be made a replica");
    return result == CO_DONE ? CO_AGAIN : result;
}

static enum co_result started_over(struct co_call *call, const struct rd_state *a, int64_t copies)
{
    return rd_fail(
        call, CO_NO_EFFECT, CO_E_BROKEN,
        "Raise client-output-buffer-limit replica and repl-backlog-size on the primary above what is written while a copy "
        "is sent and loaded; the primary's log says why it dropped the replica.",
        "the full copy started over: %lld were begun and the link never came up (backlog %lld bytes)", (long long)copies,
        (long long)a->backlog_size);
}

static enum co_result watch_copy(struct co_call *call, const struct rd_state *a, const struct rd_state *b)
{
    const char *note = call->host->note_get(call->ctx, CO_NOTE_PAIR, call->side, "sync_full_before");
    struct co_progress progress = {"full copy", -1, -1, "bytes"};
    int64_t before = a->sync_full;
    RD_TEXT errors = NULL;

    if (note)
        (void)rd_parse_int(note, strlen(note), &before);
    if (b->link_up && !b->syncing && !b->loading && strcmp(a->replid, b->replid) == 0) {
        /* what failed on B in another life doesn't count */
        if (asprintf(&errors, "%s:%lld", b->run_id, (long long)(b->apply_errors > 0 ? b->apply_errors : 0)) < 0)
            errors = NULL;
        if (errors)
            (void)call->host->note_put(call->ctx, CO_NOTE_PAIR, call->side, "apply_errors", errors);
        return CO_DONE;
    }
    if (a->sync_full - before >= RESTARTS)
        return started_over(call, a, a->sync_full - before);
    if (b->loading) {
        progress.what = "loading the full copy";
        progress.done = b->load_done;
        progress.total = b->load_total > 0 ? b->load_total : -1;
    } else if (b->syncing) {
        progress.done = b->sync_read;
        progress.total = b->sync_total > 0 ? b->sync_total : -1;
    } else {
        progress.what = "waiting for the primary to begin the full copy";
    }
    call->host->progress(call->ctx, &progress);
    return CO_AGAIN;
}

static enum co_result follow_apply(struct co_call *call)
{
    RD_STATE(a);
    RD_STATE(b);
    const char *host;
    char port[16];
    enum co_result result;

    if (!rd_peer(call, rd_other_side(call->side), &host, port))
        return CO_NO_EFFECT;
    if (!call->other)
        return rd_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "the primary can't be reached");
    result = rd_look(call, call->other, RD_LOOK_ALL, &a);
    if (result == CO_DONE)
        result = rd_look(call, call->conn, RD_LOOK_ALL, &b);
    if (result != CO_DONE)
        return result;
    if (b.primary || !b.read_only || (!follows(&b, host, port) && !(b.link_up && strcmp(a.replid, b.replid) == 0)))
        return b.loading ? watch_copy(call, &a, &b) : start_following(call, &a, &b, host, port);
    return watch_copy(call, &a, &b);
}

const struct co_step rd_setup_steps[] = {
    {.size = sizeof(struct co_step),
     .name = "setup.name_source",
     .title = "give the primary a name in its config file",
     .phase = CO_PHASE_SETUP,
     .role = CO_SOURCE,
     .flags = CO_STEP_NO_WAY_BACK,
     .describe = name_describe,
     .probe = name_source_probe,
     .apply = name_source_apply},
    {.size = sizeof(struct co_step),
     .name = "setup.account_source",
     .title = "let the primary log in to the other side, for the way back",
     .phase = CO_PHASE_SETUP,
     .role = CO_SOURCE,
     .flags = CO_STEP_NO_WAY_BACK,
     .wanted = account_wanted,
     .describe = account_describe,
     .probe = account_probe,
     .apply = account_apply},
    {.size = sizeof(struct co_step),
     .name = "setup.name_target",
     .title = "give the replica a name in its config file",
     .phase = CO_PHASE_SETUP,
     .role = CO_TARGET,
     .flags = CO_STEP_NO_WAY_BACK | CO_STEP_BOTH,
     .describe = name_describe,
     .probe = name_target_probe,
     .apply = name_target_apply},
    {.size = sizeof(struct co_step),
     .name = "setup.account_target",
     .title = "let the replica log in to the primary",
     .phase = CO_PHASE_SETUP,
     .role = CO_TARGET,
     .flags = CO_STEP_NO_WAY_BACK,
     .wanted = account_wanted,
     .describe = account_describe,
     .probe = account_probe,
     .apply = account_apply},
    {.size = sizeof(struct co_step),
     .name = "setup.follow",
     .title = "make it a replica and copy everything",
     .phase = CO_PHASE_SETUP,
     .role = CO_TARGET,
     .flags = CO_STEP_NO_WAY_BACK | CO_STEP_SLOW | CO_STEP_BOTH,
     .describe = follow_describe,
     .probe = follow_probe,
     .apply = follow_apply},
};
const size_t rd_setup_step_count = sizeof(rd_setup_steps) / sizeof(*rd_setup_steps);
