/* look.c - what a server is and how far it is: identity, settings, positions, the replication link.
 *
 * Invariant: nothing here changes a server, and what wasn't seen is unknown. A follower that says "up" counts only
 * with its primary's own word next to it: a replica's link stays up for a minute when its primary is frozen, its
 * INFO shows its own offset as the primary's, and equal offsets say nothing when the replication ids differ.
 */
#include "rd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SILENT_S 25 /* two and a half pings of the primary: repl-ping-replica-period is 10 s */

enum co_side rd_other_side(enum co_side side)
{
    return side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A;
}

/* ---------------------------------------------------------------- one look */

static char *join(const struct rd_replies *replies, size_t count)
{
    size_t bytes = 1;
    char *text, *to;

    for (size_t at = 0; at < count; at++)
        bytes += strlen(rd_text(replies->reply[at])) + 1;
    text = to = malloc(bytes);
    if (!text)
        return NULL;
    for (size_t at = 0; at < count; at++) {
        size_t part = strlen(rd_text(replies->reply[at]));

        memcpy(to, rd_text(replies->reply[at]), part);
        to += part;
        *to++ = '\n';
    }
    *to = '\0';
    return text;
}

/* replies: CONFIG GET min-replicas-*, replica-read-only, the marker's setting; GET of the fence's key */
static bool take_config(struct rd_state *state, const char *marker_setting, redisReply *const *replies)
{
    const redisReply *replicas = replies[0], *read_only = replies[1], *marker = replies[2], *fence = replies[3];

    const char *to_write = rd_config_value(replicas, "min-replicas-to-write");
    const char *lag = rd_config_value(replicas, "min-replicas-max-lag");
    const char *only = rd_config_value(read_only, "replica-read-only");
    const char *text = rd_config_value(marker, marker_setting);

    state->config_known = to_write && lag && only && text && rd_parse_int(to_write, strlen(to_write), &state->min_replicas) &&
                          rd_parse_int(lag, strlen(lag), &state->max_lag);
    state->read_only = only && strcmp(only, "yes") == 0;
    state->marker = strdup(text ? text : "");
    state->fence_key = strdup(rd_text(fence->type == REDIS_REPLY_STRING ? fence : NULL));
    return state->marker && state->fence_key;
}

/* replies: ACL LIST, CONFIG GET aclfile. An account that may not ask sees what it may see, and no more is claimed. */
static bool take_rights(const struct co_conn *conn, struct rd_state *state, redisReply *const *replies)
{
    const char *file = rd_config_value(replies[1], "aclfile");

    state->acl_file = file && *file;
    if (replies[0]->type == REDIS_REPLY_ARRAY) {
        state->users = rd_rights_join(replies[0]);
        if (!state->users)
            return false;
    }
    state->rights = rd_rights_judge(conn, state->users);
    return true;
}

enum co_result rd_look(struct co_call *call, struct co_conn *conn, enum rd_look_depth depth, struct rd_state *ret)
{
    RD_REPLIES(replies);
    RD_TEXT info = NULL;
    size_t sections = depth == RD_LOOK_ALL ? 4 : 3;
    bool rights = rd_rights_needed(&conn->version);
    enum co_result result;

    if (rights && rd_rights_learn(call, conn) != CO_DONE) {
        if (!rd_alive(conn))
            return CO_NO_EFFECT;
        memset(call->err, 0, sizeof(*call->err));
    }

    rd_out(conn, "INFO", "server", NULL);
    rd_out(conn, "INFO", "replication", NULL);
    rd_out(conn, "INFO", "persistence", NULL);
    if (depth == RD_LOOK_ALL)
        rd_out(conn, "INFO", "stats", NULL);
    rd_out(conn, "CONFIG", "GET", "min-replicas-*", NULL);
    rd_out(conn, "CONFIG", "GET", "replica-read-only", NULL);
    rd_out(conn, "CONFIG", "GET", rd_marker_setting(&conn->version), NULL);
    rd_out(conn, "GET", RD_FENCE_KEY, NULL);
    if (rights) {
        rd_out(conn, "ACL", "LIST", NULL);
        rd_out(conn, "CONFIG", "GET", "aclfile", NULL);
    }
    result = rd_exchange(call, conn, false, &replies);
    if (result != CO_DONE)
        return result;
    for (size_t at = 0; at < sections; at++) {
        if (replies.reply[at]->type == REDIS_REPLY_ERROR) {
            rd_error_of_reply(call, replies.reply[at], "INFO is refused");
            return CO_NO_EFFECT;
        }
    }
    info = join(&replies, sections);
    if (!info || rd_state_parse(ret, info) != 0 ||
        !take_config(ret, rd_marker_setting(&conn->version), replies.reply + sections) ||
        (rights && !take_rights(conn, ret, replies.reply + sections + 4)))
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    return CO_DONE;
}

/* ---------------------------------------------------------------- identity */

static void set_text(struct co_call *call, struct co_text *text, const char *value)
{
    call->host->text_set(call->ctx, text, value, strlen(value));
}

enum co_result rd_identify(struct co_call *call, struct co_identity *ret)
{
    RD_STATE(state);
    RD_MARKER(marker);
    RD_REPLIES(replies);
    RD_TEXT version = NULL;
    RD_TEXT instance = NULL;
    enum co_result result = rd_look(call, call->conn, RD_LOOK_ALL, &state);
    bool empty;

    if (result != CO_DONE)
        return result;
    rd_out(call->conn, "INFO", "keyspace", NULL);
    rd_out(call->conn, "INFO", "memory", NULL);
    result = rd_exchange(call, call->conn, false, &replies);
    if (result != CO_DONE)
        return result;
    if (!rd_marker_parse(state.marker, &marker) && !rd_marker_parse("", &marker)) /* somebody else's setting: check says so */
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    instance = rd_instance(call, call->conn, &state, &marker);
    if (!instance || asprintf(&version, "%d.%d.%d", state.version.major, state.version.minor, state.version.patch) < 0) {
        version = NULL;
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    }
    empty = replies.reply[0]->type == REDIS_REPLY_STRING && !strstr(rd_text(replies.reply[0]), "\ndb");
    set_text(call, ret->product, state.version.flavour == RD_VALKEY ? "Valkey" : "Redis");
    set_text(call, ret->version, version);
    set_text(call, ret->instance, instance);
    /* Redis has no name for the data that outlives a promotion or a restart (both change the replication id), so setup
     * gives one: the instance that was the primary then. Before that it is "" */
    set_text(call, ret->lineage, marker.lineage);
    set_text(call, ret->incarnation, state.run_id);
    ret->role = state.loading || state.syncing ? CO_ROLE_OTHER : state.primary ? CO_ROLE_PRIMARY : CO_ROLE_FOLLOWER;
    ret->accepts_writes = rd_state_accepts_writes(&state);
    ret->fenced = !state.config_known || state.rights == RD_RIGHTS_UNKNOWN ? CO_UNKNOWN
                  : rd_state_fenced(&state)                                ? CO_YES
                                                                           : CO_NO;
    ret->empty = state.loading ? CO_UNKNOWN : empty ? CO_YES : CO_NO;
    ret->data_bytes = rd_info_int(rd_text(replies.reply[1]), "used_memory", -1);
    return CO_DONE;
}

enum co_result rd_capabilities(struct co_call *call, struct co_capabilities *ret)
{
    RD_STATE(state);
    enum co_result result = rd_look(call, call->conn, RD_LOOK_REPLICATION, &state);

    if (result != CO_DONE)
        return result;
    ret->promote_closed = true;
    ret->restart_proof = *state.config_file != '\0';
    ret->rounds = false;
    ret->reverse = true;
    ret->scope_database = false;
    ret->destroys_on_reverse = true; /* where no partial resync is possible */
    ret->undo_keeps_target = true;   /* it follows again, after an undone promotion by a full resync of its own */
    return CO_DONE;
}

/* ---------------------------------------------------------------- settings, discover */

static bool is_secret(const char *name)
{
    static const char *const secrets[] = {"requirepass", "masterauth", "primaryauth", "tls-key-file-pass",
                                          "tls-client-key-file-pass"};

    for (size_t at = 0; at < sizeof(secrets) / sizeof(*secrets); at++) {
        if (strcmp(name, secrets[at]) == 0)
            return true;
    }
    return false;
}

static void keyspace_facts(struct co_call *call, const char *text)
{
    for (const char *line = text; line && *line;) {
        const char *end = strchr(line, '\n');
        size_t bytes = end ? (size_t)(end - line) : strlen(line);
        const char *colon = memchr(line, ':', bytes), *value;
        size_t value_bytes;

        if (colon && strncmp(line, "db", 2) == 0 &&
            rd_field(colon + 1, bytes - (size_t)(colon + 1 - line), ',', "keys", &value, &value_bytes)) {
            RD_TEXT name = NULL;
            RD_TEXT keys = rd_strndup(value, value_bytes);

            if (asprintf(&name, "keys_%.*s", (int)(colon - line), line) < 0)
                name = NULL;
            if (name && keys)
                call->host->fact(call->ctx, "count", name, keys);
        }
        line = end ? end + 1 : NULL;
    }
}

enum co_result rd_settings(struct co_call *call)
{
    RD_REPLIES(replies);
    RD_TEXT memory = NULL;
    enum co_result result;

    rd_out(call->conn, "CONFIG", "GET", "*", NULL);
    rd_out(call->conn, "INFO", "keyspace", NULL);
    rd_out(call->conn, "INFO", "memory", NULL);
    rd_out(call->conn, "ACL", "LIST", NULL); /* 6.0 */
    result = rd_exchange(call, call->conn, false, &replies);
    if (result != CO_DONE)
        return result;
    if (replies.reply[0]->type == REDIS_REPLY_ERROR) {
        rd_error_of_reply(call, replies.reply[0], "the settings can't be read");
        return CO_NO_EFFECT;
    }
    rd_rights_facts(call, replies.reply[3]);
    for (size_t at = 0; at + 1 < replies.reply[0]->elements; at += 2) {
        const char *name = rd_text(replies.reply[0]->element[at]);

        if (!is_secret(name) && strcmp(name, rd_marker_setting(&call->conn->version)) != 0)
            call->host->fact(call->ctx, "setting", name, rd_text(replies.reply[0]->element[at + 1]));
    }
    keyspace_facts(call, rd_text(replies.reply[1]));
    memory = rd_info_dup(rd_text(replies.reply[2]), "used_memory");
    if (memory && *memory)
        call->host->fact(call->ctx, "size", "used_memory_bytes", memory);
    return CO_DONE;
}

enum co_result rd_discover(struct co_call *call)
{
    RD_STATE(state);
    RD_MARKER(marker);
    RD_TEXT run = NULL;
    enum co_result result = rd_look(call, call->conn, RD_LOOK_REPLICATION, &state);

    if (result != CO_DONE)
        return result;
    if (rd_marker_parse(state.marker, &marker) && *marker.token) {
        char *colon = strrchr(marker.token, ':');

        run = rd_strndup(marker.token, colon ? (size_t)(colon - marker.token) : strlen(marker.token));
        call->host->found(call->ctx, "marker", marker.token, run);
    }
    if (rd_state_fenced(&state))
        call->host->found(call->ctx, state.primary ? "fence" : "closure", "min-replicas-to-write " RD_FENCE_TEXT, run);
    if (state.rights == RD_RIGHTS_TAKEN || state.rights == RD_RIGHTS_PARTLY)
        call->host->found(call->ctx, "rights", "taken from ACL users, kept as changeover.kept.*", run);
    if (!state.primary) {
        RD_TEXT name = NULL;

        if (asprintf(&name, "replicaof %s %lld", state.master_host, (long long)state.master_port) < 0)
            name = NULL;
        call->host->found(call->ctx, "replication", name ? name : "replicaof", NULL);
    }
    return CO_DONE;
}

/* ---------------------------------------------------------------- positions */

static bool is_token(const char *text)
{
    size_t bytes = strlen(text);

    return bytes > 0 && bytes < 128 &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.") == bytes;
}

char *rd_position_text(const struct rd_state *state)
{
    bool second = state->primary && state->second_offset > 0 && *state->replid2 && strspn(state->replid2, "0") != 40;
    bool fence = is_token(state->fence_key);
    RD_TEXT second_text = NULL;
    char *text;

    if (second && asprintf(&second_text, ";%s:%lld", state->replid2, (long long)state->second_offset - 1) < 0) {
        second_text = NULL;
        return NULL;
    }
    if (asprintf(&text, "%s:%lld%s%s%s", state->replid, (long long)(state->primary ? state->offset : state->applied),
                 second_text ? second_text : "", fence ? ";f=" : "", fence ? state->fence_key : "") < 0)
        return NULL;
    return text;
}

static enum co_result give_position(struct co_call *call, const struct rd_state *state, struct co_text *ret)
{
    RD_TEXT text = rd_position_text(state);

    if (!*state->replid || (state->primary ? state->offset : state->applied) < 0)
        return rd_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "", "INFO shows no replication id and offset");
    if (!text)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    set_text(call, ret, text);
    return CO_DONE;
}

enum co_result rd_position(struct co_call *call, struct co_text *ret)
{
    RD_STATE(state);
    enum co_result result = rd_look(call, call->conn, RD_LOOK_REPLICATION, &state);

    if (result != CO_DONE)
        return result;
    if (state.loading)
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "Wait until it is done.", "the server loads its data set");
    if (!state.primary)
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "`changeover status` shows both sides.",
                       "the server is a replica of %s:%lld, not a primary", state.master_host, (long long)state.master_port);
    return give_position(call, &state, ret);
}

enum co_result rd_applied(struct co_call *call, struct co_text *ret)
{
    RD_STATE(state);
    enum co_result result = rd_look(call, call->conn, RD_LOOK_REPLICATION, &state);

    if (result != CO_DONE)
        return result;
    if (state.loading || state.syncing)
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "Wait until it is done.", "the server %s",
                       state.syncing ? "receives a full copy" : "loads its data set");
    return give_position(call, &state, ret);
}

/* ---------------------------------------------------------------- link */

int64_t rd_new_apply_errors(struct co_call *call, enum co_side target, const struct rd_state *state)
{
    const char *note = call->host->note_get(call->ctx, CO_NOTE_PAIR, target, "apply_errors");
    int64_t base = 0;

    if (state->apply_errors < 0)
        return 0;
    /* "<run id>:<count>": a restart counts from 0 again */
    if (note && strlen(note) > 41 && strncmp(note, state->run_id, 40) == 0)
        (void)rd_parse_int(note + 41, strlen(note + 41), &base);
    return state->apply_errors > base ? state->apply_errors - base : 0;
}

static enum co_result say(struct co_call *call, struct co_link *ret, enum co_link_state state, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static enum co_result say(struct co_call *call, struct co_link *ret, enum co_link_state state, const char *format, ...)
{
    RD_TEXT text = NULL;
    va_list args;

    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    ret->state = state;
    if (text)
        set_text(call, ret->reason, text);
    return CO_DONE;
}

/* What the follower itself says. RUNNING: nothing against it. */
static enum co_result judge_follower(struct co_call *call, const struct rd_state *b, struct co_link *ret)
{
    int64_t errors = rd_new_apply_errors(call, call->side, b);

    if (b->loading && !b->primary)
        return say(call, ret, CO_LINK_BROKEN, "the follower loads its data set: %lld of %lld bytes", (long long)b->load_done,
                   (long long)b->load_total);
    if (b->loading)
        return say(call, ret, CO_LINK_UNKNOWN, "the server loads its data set");
    if (b->primary)
        return say(call, ret, CO_LINK_NONE, "the server is a primary, not a follower");
    if (b->syncing && b->sync_total > 0)
        return say(call, ret, CO_LINK_BROKEN, "a full copy is under way: %lld of %lld bytes", (long long)b->sync_read,
                   (long long)b->sync_total);
    if (b->syncing)
        return say(call, ret, CO_LINK_BROKEN, "a full copy is under way: %lld bytes so far", (long long)b->sync_read);
    if (!b->link_up)
        return say(call, ret, CO_LINK_BROKEN, "the link to %s:%lld is down%s; the follower's log says why", b->master_host,
                   (long long)b->master_port, b->link_down_s < 0 ? " and never was up" : "");
    if (b->config_known && !b->read_only)
        return say(call, ret, CO_LINK_BROKEN, "the follower accepts client writes (replica-read-only is no)");
    if (errors > 0)
        return say(call, ret, CO_LINK_BROKEN,
                   "the follower failed to apply %lld commands (unexpected_error_replies): its data differs from the primary's",
                   (long long)errors);
    ret->state = CO_LINK_RUNNING;
    return CO_DONE;
}

static enum co_result judge_both(struct co_call *call, const struct rd_state *a, const struct rd_state *b, struct co_link *ret)
{
    if (a->loading)
        return say(call, ret, CO_LINK_UNKNOWN, "the primary loads its data set");
    if (!a->primary)
        return say(call, ret, CO_LINK_BROKEN, "the other side is no primary but a replica of %s:%lld", a->master_host,
                   (long long)a->master_port);
    if (strcmp(a->replid, b->replid) != 0)
        return say(call, ret, CO_LINK_BROKEN, "the follower follows another history (%s) than the primary writes (%s)",
                   b->replid, a->replid);
    if (a->replicas == 0)
        return say(call, ret, CO_LINK_BROKEN, "the primary has no replica attached");
    if (b->last_io_s > SILENT_S)
        return say(call, ret, CO_LINK_BROKEN, "the follower has heard nothing from its primary for %lld s",
                   (long long)b->last_io_s);
    return CO_DONE;
}

enum co_result rd_link(struct co_call *call, struct co_link *ret)
{
    RD_STATE(b);
    RD_STATE(a);
    struct co_error kept;
    enum co_result result = rd_look(call, call->conn, RD_LOOK_ALL, &b);

    ret->silent_ms = -1;
    ret->piled_up_bytes = -1;
    if (result != CO_DONE)
        return result;
    ret->silent_ms = b.link_up && b.last_io_s >= 0 ? b.last_io_s * 1000 : b.link_down_s >= 0 ? b.link_down_s * 1000 : -1;
    result = judge_follower(call, &b, ret);
    if (result != CO_DONE || ret->state != CO_LINK_RUNNING)
        return result;
    if (!call->other)
        return say(call, ret, CO_LINK_UNKNOWN, "the follower says that its link is up, but its primary can't be reached");
    if (rd_look(call, call->other, RD_LOOK_REPLICATION, &a) != CO_DONE) {
        kept = *call->err;
        memset(call->err, 0, sizeof(*call->err));
        return say(call, ret, CO_LINK_UNKNOWN, "the follower says that its link is up, but its primary doesn't answer: %s",
                   kept.message);
    }
    return judge_both(call, &a, &b, ret);
}
