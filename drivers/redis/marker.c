/* marker.c - who this server is, whose run it is in, and the rule that only that run's process may act.
 *
 * Where it is kept. The marker must be durable on each server by itself, and on a follower replication overwrites
 * keys. So it lives in a setting that CONFIG REWRITE puts into the server's config file, that every version from 5.0
 * to 9 lets one change at run time, that takes any text, and that means nothing outside cluster mode (which
 * is refused): `cluster-announce-ip`. Tried: 270 kB survive CONFIG REWRITE and restarts of Redis 7.0.15 and 8.0.2
 * and Valkey 8.1.1. Valkey 9.1 takes only an address there ("too long"); from Valkey 9 on it is `ignore-warnings`, a list of
 * start-up warnings to suppress, in which other words mean nothing. Before 7.0 a config line must stay below 1024 bytes, or
 * CONFIG REWRITE cuts it (config.c of 5.0.14, 6.0.20, 6.2.16): there the info text is written short (short.c), and where even
 * that doesn't fit, its notes are left out. Users' keys are never involved.
 *
 * Atomicity. No Redis command compares and sets a setting, scripts may not call CONFIG, and a WATCHed key would be
 * refused by the fence itself. What a server does have is one thread, sessions with names, and CLIENT LIST.
 *
 *   Lock: a session that wants to change the marker renames itself "<its name>#claim", and in the same round trip
 *   lists the sessions. Of two claimants at least one sees the other; who sees a lower id lets go, who sees a
 *   higher one waits until that let go. All changes are made on the claiming session itself, so a session that is
 *   ended loses the lock and the ability to change anything in one.
 *
 *   Token rule: a session is named before it reads the marker, and reads it before each change, in the round trip
 *   before. Whoever replaces a marker then ends every session of the run but its own (end_sessions), and acts only
 *   after that. A stale session was either listed, then it is gone and what it sends is never executed; or named
 *   itself after the listing, then it reads the new marker. No interleaving lets a stale change through.
 *
 * Format: changeover/1 id=<instance> [tmp=1] lin=<lineage> token=<token> info=<base64> (before 7.0 text=<short>)
 */
#include "rd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARKER_HEAD "changeover/1"
#define CLAIM "#claim"
#define CLAIM_WAIT_NS 3000000
#define SHORT_LINE 990 /* below 7.0: name, quotes and all must stay under 1024 */

/* ---------------------------------------------------------------- the text */

const char *rd_marker_setting(const struct rd_version *version)
{
    return version->flavour == RD_VALKEY && version->major >= 9 ? "ignore-warnings" : "cluster-announce-ip";
}

void rd_marker_done(struct rd_marker *marker)
{
    free(marker->instance);
    free(marker->lineage);
    free(marker->token);
    free(marker->info);
    memset(marker, 0, sizeof(*marker));
}

static char *field_dup(const char *text, const char *name)
{
    const char *value;
    size_t bytes;

    if (!rd_field(text, strlen(text), ' ', name, &value, &bytes))
        return rd_strndup("", 0);
    return rd_strndup(value, bytes);
}

bool rd_marker_parse(const char *setting, struct rd_marker *ret)
{
    struct rd_marker marker;
    const char *value;
    size_t bytes, plain;

    if (*setting && (strncmp(setting, MARKER_HEAD, strlen(MARKER_HEAD)) != 0 ||
                     (setting[strlen(MARKER_HEAD)] != ' ' && setting[strlen(MARKER_HEAD)] != '\0')))
        return false;
    marker.instance = field_dup(setting, "id");
    marker.lineage = field_dup(setting, "lin");
    marker.token = field_dup(setting, "token");
    marker.temporary = rd_field(setting, strlen(setting), ' ', "tmp", &value, &bytes);
    if (rd_field(setting, strlen(setting), ' ', "info", &value, &bytes))
        marker.info = rd_unbase64(value, bytes, &plain);
    else if (rd_field(setting, strlen(setting), ' ', "text", &value, &bytes))
        marker.info = rd_lengthen(value, bytes);
    else
        marker.info = rd_strndup("", 0);
    if (!marker.instance || !marker.lineage || !marker.token || !marker.info) {
        rd_marker_done(&marker);
        return false;
    }
    *ret = marker;
    return true;
}

/* info: as it stands in the setting, "" for none. */
static char *print_marker(const struct rd_marker *marker, const char *field, const char *info)
{
    const char *instance = marker->instance ? marker->instance : "", *lineage = marker->lineage ? marker->lineage : "";
    const char *token = marker->token ? marker->token : "";
    char *text;

    if (!*instance && !*lineage && !*token)
        return rd_strndup("", 0);
    if (asprintf(&text, MARKER_HEAD "%s%s%s%s%s%s%s%s%s", *instance ? " id=" : "", instance,
                 *instance && marker->temporary ? " tmp=1" : "", *lineage ? " lin=" : "", lineage, *token ? " token=" : "",
                 token, *info ? field : "", info) < 0)
        return NULL;
    return text;
}

char *rd_marker_print(const struct rd_marker *marker)
{
    RD_TEXT info = marker->info ? rd_base64(marker->info, strlen(marker->info)) : rd_strndup("", 0);

    return info ? print_marker(marker, " info=", info) : NULL;
}

/* As much as there is room for: all of it, what it says of the run without its notes (the contract puts them last), or the
 * token alone. */
char *rd_marker_print_short(const struct rd_marker *marker)
{
    RD_TEXT info = rd_shorten(marker->info ? marker->info : "");
    const char *notes = marker->info ? strstr(marker->info, ",\"notes\":") : NULL;
    char *text = info ? print_marker(marker, " text=", info) : NULL;

    if (text && strlen(text) > SHORT_LINE && notes) {
        RD_TEXT head = NULL;

        rd_free_text(&text);
        rd_free_text(&info);
        if (asprintf(&head, "%.*s}", (int)(notes - marker->info), marker->info) < 0)
            head = NULL;
        info = head ? rd_shorten(head) : NULL;
        text = info ? print_marker(marker, " text=", info) : NULL;
    }
    if (text && strlen(text) > SHORT_LINE) {
        rd_free_text(&text);
        text = print_marker(marker, "", "");
    }
    return text;
}

static enum co_result foreign_marker(struct co_call *call)
{
    return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "Empty it (CONFIG SET, CONFIG REWRITE): docs/redis.md says what it is for.",
                   "the setting %s is in use; the run's marker is kept there", rd_marker_setting(&call->conn->version));
}

static enum co_result read_setting(struct co_call *call, const redisReply *reply, struct rd_marker *ret)
{
    const char *value;

    if (reply->type == REDIS_REPLY_ERROR) {
        rd_error_of_reply(call, reply, "the run's marker can't be read");
        return CO_NO_EFFECT;
    }
    value = rd_config_value(reply, rd_marker_setting(&call->conn->version));
    if (!value)
        return rd_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "Allow CONFIG GET for the account.",
                       "the server doesn't show the setting %s", rd_marker_setting(&call->conn->version));
    if (!rd_marker_parse(value, ret))
        return foreign_marker(call);
    return CO_DONE;
}

/* ---------------------------------------------------------------- sessions */

struct session {
    int64_t id;
    const char *name;
    size_t name_bytes;
};

/* Takes the next line of CLIENT LIST; false at the end. */
static bool next_session(const char **list, struct session *ret)
{
    while (**list) {
        const char *line = *list, *end = strchr(line, '\n'), *value;
        size_t bytes = end ? (size_t)(end - line) : strlen(line), value_bytes;

        *list = end ? end + 1 : line + bytes;
        if (rd_field(line, bytes, ' ', "id", &value, &value_bytes) && rd_parse_int(value, value_bytes, &ret->id) &&
            rd_field(line, bytes, ' ', "name", &ret->name, &ret->name_bytes))
            return true;
    }
    return false;
}

static bool is_claim(const struct session *session)
{
    size_t tail = strlen(CLAIM);

    return session->name_bytes > tail && memcmp(session->name + session->name_bytes - tail, CLAIM, tail) == 0 &&
           strncmp(session->name, "changeover", 10) == 0;
}

/* Splits "changeover:<run>:<actor>[#what]". */
static bool run_and_actor(const struct session *session, const char **ret_run, size_t *ret_run_bytes, const char **ret_actor,
                          size_t *ret_actor_bytes)
{
    static const char head[] = "changeover:";
    const char *end = session->name + session->name_bytes, *colon, *hash;

    if (session->name_bytes <= sizeof(head) || memcmp(session->name, head, sizeof(head) - 1) != 0)
        return false;
    *ret_run = session->name + sizeof(head) - 1;
    colon = memchr(*ret_run, ':', (size_t)(end - *ret_run));
    if (!colon)
        return false;
    *ret_run_bytes = (size_t)(colon - *ret_run);
    *ret_actor = colon + 1;
    hash = memchr(*ret_actor, '#', (size_t)(end - *ret_actor));
    *ret_actor_bytes = (size_t)((hash ? hash : end) - *ret_actor);
    return true;
}

static bool same(const char *text, size_t bytes, const char *other)
{
    return other && bytes == strlen(other) && memcmp(text, other, bytes) == 0;
}

/* others: those of other runs. Else those of this run, but for two actors'. Never this session. */
static bool is_meant(struct co_call *call, const struct session *session, bool others, const char *keep_actor)
{
    const char *run, *actor;
    size_t run_bytes, actor_bytes;

    if (session->id == call->conn->client_id || !run_and_actor(session, &run, &run_bytes, &actor, &actor_bytes))
        return false;
    if (others)
        return !same(run, run_bytes, call->run->id);
    return same(run, run_bytes, call->run->id) && !same(actor, actor_bytes, call->run->actor) &&
           !same(actor, actor_bytes, keep_actor);
}

/* Ends what is meant and looks again. CO_AGAIN: something was ended or is still there. */
static enum co_result end_meant(struct co_call *call, bool others, const char *keep_actor)
{
    RD_REPLIES(listed);
    RD_REPLIES(killed);
    enum co_result result;
    struct session session;
    const char *list;
    size_t meant = 0;

    rd_out(call->conn, "CLIENT", "LIST", NULL);
    result = rd_one(call, call->conn, false, "the sessions can't be listed", &listed);
    if (result != CO_DONE)
        return result;
    list = rd_text(listed.reply[0]);
    while (next_session(&list, &session)) {
        char id[24];

        if (!is_meant(call, &session, others, keep_actor))
            continue;
        if (++meant > RD_MAX_REPLIES)
            break;
        (void)snprintf(id, sizeof(id), "%lld", (long long)session.id);
        rd_out(call->conn, "CLIENT", "KILL", "ID", id, NULL);
    }
    if (meant == 0)
        return CO_DONE;
    result = rd_one(call, call->conn, true, "a session can't be ended", &killed);
    return result == CO_DONE ? CO_AGAIN : result;
}

enum co_result rd_end_sessions(struct co_call *call, const char *keep_actor)
{
    enum co_result result = CO_AGAIN;

    if (!call->run)
        return rd_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "end_sessions was called without a run");
    if (rd_take_name(call) != CO_DONE)
        return CO_NO_EFFECT;
    for (int round = 0; round < 4 && result == CO_AGAIN; round++)
        result = end_meant(call, false, keep_actor);
    return result;
}

/* Its probe session goes with it: end_sessions would end it as another actor's, and on a server that others have filled, or
 * behind a resolver that hangs, there is no other. */
static void take_name_of_probe(struct co_call *call)
{
    RD_REPLIES(replies);
    RD_TEXT name = NULL;
    struct co_error kept = *call->err;

    if (!rd_alive(call->conn->probe))
        return;
    if (asprintf(&name, "%s#probe", call->run->session_name) < 0) {
        name = NULL;
        return;
    }
    rd_out(call->conn->probe, "CLIENT", "SETNAME", name, NULL);
    (void)rd_exchange(call, call->conn->probe, false, &replies); /* an account that may not has no name to be ended by */
    *call->err = kept;
}

/* A session that was opened before the run, or for another actor of it, is named after who uses it now. */
enum co_result rd_take_name(struct co_call *call)
{
    RD_REPLIES(replies);
    enum co_result result;
    char *name;

    if (!call->run || strcmp(call->conn->name, call->run->session_name) == 0)
        return CO_DONE;
    rd_out(call->conn, "CLIENT", "SETNAME", call->run->session_name, NULL);
    result = rd_one(call, call->conn, false, "the session can't be named", &replies);
    if (result != CO_DONE)
        return result;
    name = strdup(call->run->session_name);
    if (!name)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    free(call->conn->name);
    call->conn->name = name;
    take_name_of_probe(call);
    return CO_DONE;
}

/* ---------------------------------------------------------------- the lock */

static enum co_result rename_session(struct co_call *call, const char *tail)
{
    RD_REPLIES(replies);
    RD_TEXT name = NULL;

    if (asprintf(&name, "%s%s", call->conn->name, tail) < 0) {
        name = NULL;
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    }
    rd_out(call->conn, "CLIENT", "SETNAME", name, NULL);
    return rd_one(call, call->conn, false, "the session can't be named", &replies);
}

/* Keeps the error of what went before. */
static void release(struct co_call *call)
{
    struct co_error kept = *call->err;

    if (rd_alive(call->conn) && rename_session(call, "") != CO_DONE)
        rd_break(call->conn); /* a closed session holds no claim */
    *call->err = kept;
}

/* Claims and reads the marker. CO_DONE: the lock is held until release(). */
static enum co_result claim(struct co_call *call, struct rd_marker *ret)
{
    RD_TEXT name = NULL;

    if (asprintf(&name, "%s" CLAIM, call->conn->name) < 0) {
        name = NULL;
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    }
    for (;;) {
        RD_REPLIES(replies);
        bool lower = false, higher = false;
        struct session session;
        const char *list;
        enum co_result result;

        rd_out(call->conn, "CLIENT", "SETNAME", name, NULL);
        rd_out(call->conn, "CLIENT", "LIST", NULL);
        rd_out(call->conn, "CONFIG", "GET", rd_marker_setting(&call->conn->version), NULL);
        result = rd_exchange(call, call->conn, false, &replies);
        if (result != CO_DONE)
            return result;
        if (rd_failed(call, &replies, "the marker can't be locked")) {
            release(call);
            return CO_NO_EFFECT;
        }
        list = rd_text(replies.reply[1]);
        while (next_session(&list, &session)) {
            if (is_claim(&session) && session.id != call->conn->client_id)
                *(session.id < call->conn->client_id ? &lower : &higher) = true;
        }
        if (!lower && !higher) {
            result = read_setting(call, replies.reply[2], ret);
            if (result != CO_DONE)
                release(call);
            return result;
        }
        if (lower)
            release(call); /* the other one was first, or soon sees that it is alone */
        /* nothing arrives on this socket now: this waits, until interrupted or 3 ms have passed */
        if (call->host->now_ns(call->ctx) + CLAIM_WAIT_NS >= call->deadline_ns || !rd_alive(call->conn) ||
            !rd_net_pause(call, call->conn->net, call->host->now_ns(call->ctx) + CLAIM_WAIT_NS)) {
            release(call);
            return rd_fail(call, CO_NO_EFFECT, CO_E_CONFLICT,
                           "If that process hangs, end its session (CLIENT LIST, CLIENT KILL ID).",
                           "another process is changing this server's marker");
        }
    }
}

/* With the lock held. */
static enum co_result write_setting(struct co_call *call, const struct rd_marker *before, struct rd_marker *after)
{
    RD_REPLIES(replies);
    RD_REPLIES(back);
    bool is_short = call->conn->version.compatible < 700;
    RD_TEXT text = is_short ? rd_marker_print_short(after) : rd_marker_print(after);
    RD_TEXT old = is_short ? rd_marker_print_short(before) : rd_marker_print(before);
    enum co_result result;

    if (!text || !old)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    rd_out(call->conn, "MULTI", NULL);
    rd_out(call->conn, "CONFIG", "SET", rd_marker_setting(&call->conn->version), text, NULL);
    rd_out(call->conn, "CONFIG", "REWRITE", NULL);
    result = rd_exec(call, call->conn, true, "the marker can't be written", &replies);
    if (result != CO_DONE || !rd_exec_failed(call, &replies, "the marker can't be written to the server's config file"))
        return result;
    if (!*call->err->hint || call->err->code == CO_E_SERVER)
        (void)snprintf(call->err->hint, sizeof(call->err->hint), "%s",
                       "Start the server with a config file that it may write, and check its disk.");
    rd_out(call->conn, "CONFIG", "SET", rd_marker_setting(&call->conn->version), old, NULL);
    {
        struct co_error kept = *call->err;

        if (rd_one(call, call->conn, true, "", &back) != CO_DONE)
            return CO_EFFECT_UNKNOWN;
        *call->err = kept;
    }
    return CO_NO_EFFECT;
}

/* ---------------------------------------------------------------- primitives */

enum co_result rd_marker_get(struct co_call *call, struct co_text *ret_token, struct co_text *ret_info)
{
    RD_REPLIES(replies);
    RD_MARKER(marker);
    enum co_result result;

    rd_out(call->conn, "CONFIG", "GET", rd_marker_setting(&call->conn->version), NULL);
    result = rd_exchange(call, call->conn, false, &replies);
    if (result == CO_DONE)
        result = read_setting(call, replies.reply[0], &marker);
    if (result != CO_DONE)
        return result;
    call->host->text_set(call->ctx, ret_token, marker.token, strlen(marker.token));
    call->host->text_set(call->ctx, ret_info, marker.info, strlen(marker.info));
    return CO_DONE;
}

static enum co_result conflict(struct co_call *call, const struct rd_marker *present)
{
    if (!*present->token)
        return rd_fail(call, CO_NO_EFFECT, CO_E_CONFLICT, "", "this server's marker is gone");
    return rd_fail(call, CO_NO_EFFECT, CO_E_CONFLICT, "", "this server is held by run %s", present->token);
}

/* The run is over, so its last write says nothing any more. A server that refuses writes keeps the key, or gets its
 * primary's removal. */
static void remove_fence_key(struct co_call *call)
{
    RD_STATE(state);
    RD_REPLIES(replies);
    struct co_error kept = *call->err;

    if (rd_look(call, call->conn, RD_LOOK_REPLICATION, &state) == CO_DONE && state.primary && *state.fence_key &&
        rd_state_accepts_writes(&state) == CO_YES) {
        rd_out(call->conn, "DEL", RD_FENCE_KEY, NULL);
        (void)rd_exchange(call, call->conn, true, &replies);
    }
    *call->err = kept;
}

static enum co_result set_locked(struct co_call *call, struct rd_marker *present, const char *expected, const char *token,
                                 const char *info)
{
    RD_STATE(state);
    struct rd_marker after = *present;
    RD_TEXT derived = NULL;
    enum co_result result;

    if (strcmp(present->token, expected ? expected : "") != 0)
        return conflict(call, present);
    after.token = (char *)(token ? token : "");
    after.info = (char *)(token && info ? info : "");
    if (token && !*present->instance) { /* a replication that was set up by hand: the server gets its name now */
        result = rd_look(call, call->conn, RD_LOOK_ALL, &state);
        if (result != CO_DONE)
            return result;
        derived = rd_instance(call, call->conn, &state, present);
        if (!derived)
            return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
        after.instance = derived;
        after.temporary = true;
    }
    if (!token && present->temporary) {
        after.instance = (char *)"";
        after.temporary = false;
    }
    result = write_setting(call, present, &after);
    if (result == CO_DONE && !token)
        remove_fence_key(call);
    if (result != CO_DONE || !token || expected || !call->run)
        return result;
    /* a new run: sessions of runs before it can't do anything from here on */
    for (int round = 0; round < 4; round++) {
        result = end_meant(call, true, NULL);
        if (result != CO_AGAIN)
            break;
    }
    return result == CO_DONE || result == CO_AGAIN ? CO_DONE : CO_EFFECT_UNKNOWN;
}

enum co_result rd_marker_set(struct co_call *call, const char *expected, const char *token, const char *info)
{
    RD_MARKER(present);
    enum co_result result = rd_take_name(call);

    if (result == CO_DONE)
        result = claim(call, &present);
    if (result != CO_DONE)
        return result;
    result = set_locked(call, &present, expected, token, info);
    release(call);
    return result;
}

enum co_result rd_identity_set(struct co_call *call, const char *instance, const char *lineage)
{
    RD_MARKER(present);
    struct rd_marker after;
    enum co_result result = claim(call, &present);

    if (result != CO_DONE)
        return result;
    after = present;
    if (instance) {
        after.instance = (char *)instance;
        after.temporary = false;
    }
    if (lineage)
        after.lineage = (char *)lineage;
    result = write_setting(call, &present, &after);
    release(call);
    return result;
}

enum co_result rd_guard(struct co_call *call, struct rd_state *ret)
{
    RD_MARKER(marker);
    enum co_result result;

    if (!call->run)
        return rd_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "a step that needs the run's marker was called without a run");
    result = rd_take_name(call);
    if (result != CO_DONE)
        return result;
    result = rd_look(call, call->conn, RD_LOOK_REPLICATION, ret);
    if (result != CO_DONE)
        return result;
    if (!ret->config_known)
        return rd_fail(call, CO_NO_EFFECT, CO_E_PRIVILEGE, "Grant the account what docs/redis.md lists.",
                       "the run's marker can't be read: CONFIG GET is refused");
    if (!rd_marker_parse(ret->marker, &marker))
        return foreign_marker(call);
    if (strcmp(marker.token, call->run->token) != 0)
        return conflict(call, &marker);
    return CO_DONE;
}

/* Where this server says it is: machine, port and config file. No version of Redis has a name that survives a restart,
 * so this is the name until setup or the first run writes it into the config file. */
char *rd_instance(struct co_call *call, struct co_conn *conn, const struct rd_state *state, const struct rd_marker *marker)
{
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, call->side);
    RD_TEXT text = NULL;
    char hash[33];

    if (marker && *marker->instance)
        return strdup(marker->instance);
    if (!conn->derived_id) {
        if (asprintf(&text, "%s|%s|%d|%s", conn->local_address ? conn->local_address : "",
                     conn->local_address ? ""
                     : endpoint->address ? endpoint->address
                                         : "",
                     conn->local_address ? 0 : endpoint->port, state->config_file) < 0) {
            text = NULL;
            return NULL;
        }
        call->host->hash(call->ctx, text, strlen(text), hash);
        conn->derived_id = rd_strndup(hash, 32);
        if (!conn->derived_id)
            return NULL;
    }
    return strdup(conn->derived_id);
}
