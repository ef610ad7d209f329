/* state.c - what a member says of itself: role, replica set, position, write block; and the replica set's config.
 *
 * Invariant: a member is asked about itself, never about another one (what members know of each other comes from
 * heartbeats and can be seconds old).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mg.h"

enum co_side mg_other_side(enum co_side side)
{
    return side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A;
}

void mg_state_done(struct mg_state *state)
{
    free(state->set);
    free(state->me);
    free(state->set_id);
    free(state->incarnation);
    free(state->version);
    bson_destroy(&state->status);
    bson_destroy(&state->config);
}

/* ---------------------------------------------------------------- looks */

static enum co_result hello(struct co_call *call, struct co_conn *conn, struct mg_state *ret)
{
    MG_REPLY(reply);
    MG_DOC(command);
    bson_iter_t at, found;
    char oid[25] = "";
    BSON_APPEND_INT32(&command, "isMaster", 1); /* `hello` came with 5.0; the old name is answered by all */
    enum co_result result = mg_command(call, conn, "admin", &command, false, &reply, NULL);
    if (result != CO_DONE)
        return result;
    ret->primary = mg_flag(&reply, "ismaster") || mg_flag(&reply, "isWritablePrimary");
    ret->secondary = mg_flag(&reply, "secondary");
    ret->sharded = strcmp(mg_str(&reply, "msg"), "isdbgrid") == 0;
    ret->set = mg_dup(mg_str(&reply, "setName"));
    ret->me = mg_dup(mg_str(&reply, "me"));
    ret->member = *mg_str(&reply, "setName") != '\0';
    ret->standalone = !ret->member && !mg_flag(&reply, "isreplicaset") && !ret->sharded;
    if (bson_iter_init(&at, &reply) && bson_iter_find_descendant(&at, "topologyVersion.processId", &found) &&
        BSON_ITER_HOLDS_OID(&found))
        bson_oid_to_string(bson_iter_oid(&found), oid); /* 4.4 and newer: one per process */
    ret->incarnation = mg_dup(oid);
    return ret->set && ret->me && ret->incarnation ? CO_DONE : mg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "no memory");
}

static void parse_optime(const bson_t *status, struct mg_optime *ret)
{
    bson_iter_t at, found;
    ret->term = mg_int(status, "optimes.appliedOpTime.t", -1);
    if (bson_iter_init(&at, status) && bson_iter_find_descendant(&at, "optimes.appliedOpTime.ts", &found) &&
        BSON_ITER_HOLDS_TIMESTAMP(&found))
        bson_iter_timestamp(&found, &ret->seconds, &ret->increment);
}

static enum co_result status(struct co_call *call, struct co_conn *conn, struct mg_state *ret)
{
    MG_DOC(command);
    int code = 0;
    BSON_APPEND_INT32(&command, "replSetGetStatus", 1);
    BSON_APPEND_INT32(&command, "initialSync", 1); /* before 4.2.1 its progress is told only when asked for */
    enum co_result result = mg_command(call, conn, "admin", &command, false, &ret->status, &code);
    if (code == MG_NOT_YET_INITIALIZED || code == 76 /* NoReplicationEnabled */ || code == MG_INVALID_CONFIG) {
        ret->my_state = code == MG_INVALID_CONFIG ? MG_REMOVED : 0; /* removed: it has a config that it isn't in */
        return CO_DONE;
    }
    if (result != CO_DONE)
        return result;
    ret->my_state = (int)mg_int(&ret->status, "myState", -1);
    parse_optime(&ret->status, &ret->applied);
    return CO_DONE;
}

enum co_result mg_config(struct co_call *call, struct co_conn *conn, bson_t *ret)
{
    MG_REPLY(reply);
    MG_DOC(command);
    bson_t inner;
    BSON_APPEND_INT32(&command, "replSetGetConfig", 1);
    enum co_result result = mg_command(call, conn, "admin", &command, false, &reply, NULL);
    if (result != CO_DONE)
        return result;
    if (!mg_sub(&reply, "config", &inner))
        return mg_fail(call, CO_NO_EFFECT, CO_E_SERVER, "", "replSetGetConfig: the answer holds no config");
    bson_destroy(ret);
    bson_copy_to(&inner, ret);
    return CO_DONE;
}

/* The document that setUserWriteBlockMode leaves (config.user_writes_critical_sections): durable and replicated, so that
 * a secondary says what will hold when it becomes primary. */
enum co_result mg_blocked(struct co_call *call, struct co_conn *conn, bool *ret)
{
    MG_REPLY(reply);
    bson_t *command = BCON_NEW("find", BCON_UTF8("user_writes_critical_sections"), "filter", "{", "blockUserWrites",
                               BCON_BOOL(true), "}", "limit", BCON_INT32(1), "singleBatch", BCON_BOOL(true));
    bson_t batch;
    enum co_result result = mg_command(call, conn, "config", command, false, &reply, NULL);
    bson_destroy(command);
    if (result == CO_DONE)
        *ret = mg_sub(&reply, "cursor.firstBatch", &batch) && !bson_empty(&batch);
    return result;
}

static enum co_result access_control(struct co_call *call, struct co_conn *conn)
{
    MG_REPLY(reply);
    MG_DOC(command);
    int code = 0;
    BSON_APPEND_INT32(&command, "getCmdLineOpts", 1);
    enum co_result result = mg_command(call, conn, "admin", &command, false, &reply, &code);
    if (result != CO_DONE && code != MG_UNAUTHORIZED)
        return result;
    /* Being refused is an answer, too. While accounts are being introduced (transitionToAuth) members know each other and
     * clients may do everything (initialize_server_security_state.cpp). */
    bool members = *mg_str(&reply, "parsed.security.keyFile") || *mg_str(&reply, "parsed.security.clusterAuthMode");
    conn->auth = code == MG_UNAUTHORIZED || strcmp(mg_str(&reply, "parsed.security.authorization"), "enabled") == 0 ||
                 (members && !mg_flag(&reply, "parsed.security.transitionToAuth"));
    const char *role = mg_str(&reply, "parsed.sharding.clusterRole");
    conn->shard_role = strcmp(role, "shardsvr") == 0 ? "shardsvr" : strcmp(role, "configsvr") == 0 ? "configsvr" : "";
    return CO_DONE;
}

static enum co_result build_info(struct co_call *call, struct co_conn *conn)
{
    MG_REPLY(reply);
    MG_DOC(command);
    BSON_APPEND_INT32(&command, "buildInfo", 1);
    enum co_result result = mg_command(call, conn, "admin", &command, false, &reply, NULL);
    if (result != CO_DONE)
        return result;
    snprintf(conn->version, sizeof conn->version, "%s", mg_str(&reply, "version"));
    conn->major = (int)mg_int(&reply, "versionArray.0", 0);
    conn->minor = (int)mg_int(&reply, "versionArray.1", 0);
    return CO_DONE;
}

/* Before 4.4 the process is told by the last entry of local.startup_log ("<host>-<milliseconds>"). */
static enum co_result startup(struct co_call *call, struct co_conn *conn)
{
    MG_REPLY(reply);
    bson_t *command = BCON_NEW("find", BCON_UTF8("startup_log"), "sort", "{", "$natural", BCON_INT32(-1), "}", "limit",
                               BCON_INT32(1), "singleBatch", BCON_BOOL(true));
    enum co_result result = mg_command(call, conn, "local", command, false, &reply, NULL);
    bson_destroy(command);
    if (result == CO_DONE)
        snprintf(conn->started, sizeof conn->started, "%s", mg_str(&reply, "cursor.firstBatch.0._id"));
    return result;
}

/* Asked once a connection. */
static enum co_result learn(struct co_call *call, struct co_conn *conn)
{
    if (conn->known)
        return CO_DONE;
    conn->shard_role = "";
    enum co_result result = build_info(call, conn); /* needs no account (before 8.1) */
    if (result == CO_DONE && !conn->anonymous)
        result = access_control(call, conn);
    conn->known = result == CO_DONE;
    return result;
}

/* In an object since 3.6, before that the text itself. */
enum co_result mg_feature_version(struct co_call *call, struct co_conn *conn, char ret[MG_FEATURE_VERSION_BYTES], int *ret_code)
{
    MG_REPLY(reply);
    bson_t *command = BCON_NEW("getParameter", BCON_INT32(1), "featureCompatibilityVersion", BCON_INT32(1));
    enum co_result result = mg_command(call, conn, "admin", command, false, &reply, ret_code);
    bson_destroy(command);
    const char *text = result == CO_DONE ? mg_str(&reply, "featureCompatibilityVersion.version") : "";
    if (!*text && result == CO_DONE)
        text = mg_str(&reply, "featureCompatibilityVersion");
    snprintf(ret, MG_FEATURE_VERSION_BYTES, "%.20s", text);
    return result;
}

/* A server of 6.0 blocks no writes while its set's feature compatibility version is 5.0, as when the target is the first member
 * of the new version. Nobody changes that version unseen: it is a write, which the proof finds. */
static enum co_result learn_fcv(struct co_call *call, struct co_conn *conn)
{
    char text[MG_FEATURE_VERSION_BYTES];
    int code = 0;
    enum co_result result = mg_feature_version(call, conn, text, &code);
    if (result != CO_DONE && !code)
        return result;
    int64_t major = strtoll(text, NULL, 10);
    conn->fcv_major = result == CO_DONE && major > 0 && major < conn->major ? (int)major : conn->major;
    return CO_DONE;
}

static enum co_result read_config(struct co_call *call, struct co_conn *conn, struct mg_state *ret)
{
    bson_iter_t at, found;
    enum co_result result = mg_config(call, conn, &ret->config);
    if (result == CO_DONE && bson_iter_init(&at, &ret->config) &&
        bson_iter_find_descendant(&at, "settings.replicaSetId", &found) && BSON_ITER_HOLDS_OID(&found))
        bson_oid_to_string(bson_iter_oid(&found), conn->set_id);
    return result;
}

/* What the connection knows goes into the look, too. */
static enum co_result complete(struct co_call *call, struct co_conn *conn, struct mg_state *ret)
{
    ret->version = mg_dup(conn->version);
    ret->set_id = mg_dup(conn->set_id);
    ret->major = conn->major;
    ret->minor = conn->minor;
    ret->fcv_major = conn->fcv_major ? conn->fcv_major : conn->major;
    ret->auth = conn->anonymous || conn->auth;
    ret->shard_role = conn->shard_role ? conn->shard_role : "";
    if (ret->incarnation && !*ret->incarnation && *conn->started) {
        free(ret->incarnation);
        ret->incarnation = mg_dup(conn->started);
    }
    return ret->version && ret->set_id && ret->incarnation ? CO_DONE : mg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "no memory");
}

enum co_result mg_look(struct co_call *call, struct co_conn *conn, enum mg_depth depth, struct mg_state *ret)
{
    enum co_result result =
        conn ? hello(call, conn, ret) : mg_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "there is no connection");
    if (result != CO_DONE || depth == MG_LOOK_HELLO)
        return result;
    result = learn(call, conn);
    if (conn->anonymous) /* a server that doesn't even tell its version is asked no more */
        return result != CO_DONE && conn->broken ? result : complete(call, conn, ret);
    if (result == CO_DONE)
        result = status(call, conn, ret);
    bool in_set = (ret->member && ret->my_state > 0) || ret->my_state == MG_REMOVED;
    bool has_data = ret->primary || ret->secondary;
    if (result == CO_DONE && in_set && (depth == MG_LOOK_ROLE || !*conn->set_id))
        result = read_config(call, conn, ret);
    if (result == CO_DONE && !*ret->incarnation && !*conn->started)
        result = startup(call, conn);
    if (result == CO_DONE && conn->major >= 6 && has_data && !conn->fcv_major)
        result = learn_fcv(call, conn);
    if (result == CO_DONE && conn->major >= 6 && has_data)
        result = mg_blocked(call, conn, &ret->blocked);
    return result == CO_DONE ? complete(call, conn, ret) : result;
}

/* Can it be a primary that accepts no client writes? setUserWriteBlockMode came with 6.0 and holds nobody without
 * access control. Of one set, so of a pair that is set up, every member says the same. */
bool mg_can_vote(const struct mg_state *state)
{
    return state->fcv_major >= 6 && state->auth;
}

bool mg_conn_can_vote(const struct co_conn *conn)
{
    return conn->known && !conn->anonymous && conn->fcv_major >= 6 && conn->auth;
}

/* ---------------------------------------------------------------- primitives */

static void put(struct co_call *call, struct co_text *text, const char *value)
{
    call->host->text_set(call->ctx, text, value ? value : "", value ? strlen(value) : 0);
}

/* Databases but the server's own; -1 bytes: not known. */
static enum co_result sizes(struct co_call *call, struct co_conn *conn, int64_t *ret_bytes, bool *ret_empty)
{
    MG_REPLY(reply);
    MG_DOC(command);
    bson_iter_t at, list;
    *ret_bytes = -1;
    *ret_empty = false;
    BSON_APPEND_INT32(&command, "listDatabases", 1);
    enum co_result result = mg_command(call, conn, "admin", &command, false, &reply, NULL);
    if (result != CO_DONE)
        return result;
    *ret_empty = true;
    *ret_bytes = 0;
    if (!bson_iter_init_find(&at, &reply, "databases") || !bson_iter_recurse(&at, &list))
        return CO_DONE;
    while (bson_iter_next(&list)) {
        bson_t one;
        const uint8_t *data;
        uint32_t bytes;
        bson_iter_document(&list, &bytes, &data);
        if (!bson_init_static(&one, data, bytes))
            continue;
        const char *name = mg_str(&one, "name");
        *ret_bytes += mg_int(&one, "sizeOnDisk", 0);
        if (strcmp(name, "admin") != 0 && strcmp(name, "config") != 0 && strcmp(name, "local") != 0)
            *ret_empty = false;
    }
    return CO_DONE;
}

int64_t mg_data_bytes(struct co_call *call, struct co_conn *conn)
{
    int64_t bytes = -1;
    bool empty;
    return sizes(call, conn, &bytes, &empty) == CO_DONE ? bytes : -1;
}

enum co_result mg_identify(struct co_call *call, struct co_identity *ret)
{
    MG_STATE(state);
    char name[320];
    int64_t bytes = -1;
    bool empty = false;
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    mg_member_name(call, call->side, name, sizeof name);
    put(call, ret->product, "MongoDB");
    put(call, ret->version, state.version ? state.version : "unknown");
    put(call, ret->instance, *state.me ? state.me : name);
    put(call, ret->lineage, state.set_id);
    put(call, ret->incarnation, *state.incarnation ? state.incarnation : "unknown");
    ret->role = state.primary ? CO_ROLE_PRIMARY : state.secondary ? CO_ROLE_FOLLOWER : CO_ROLE_OTHER;
    ret->accepts_writes = state.primary && !state.blocked ? CO_YES : CO_NO;
    ret->fenced = state.blocked || !state.primary ? CO_YES : CO_NO;
    ret->empty = CO_UNKNOWN;
    ret->data_bytes = -1;
    if ((state.primary || state.secondary) && sizes(call, call->conn, &bytes, &empty) == CO_DONE) {
        ret->empty = empty ? CO_YES : CO_NO;
        ret->data_bytes = bytes;
    } else if (!state.member && state.my_state != MG_REMOVED) {
        ret->empty = CO_YES;
    }
    return call->conn->broken ? CO_NO_EFFECT : CO_DONE;
}

enum co_result mg_capabilities(struct co_call *call, struct co_capabilities *ret)
{
    MG_STATE(state);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    bool votes = mg_can_vote(&state);
    if (call->conn->anonymous || !state.member) { /* what the set can do is the other side's to say */
        MG_STATE(other);
        votes = call->other && mg_look(call, call->other, MG_LOOK_ROLE, &other) == CO_DONE ? mg_can_vote(&other) : true;
    }
    ret->promote_closed = votes;
    ret->restart_proof = votes; /* the write block is a document */
    ret->rounds = false;
    ret->reverse = true;
    ret->scope_database = false;
    ret->destroys_on_reverse = false;
    ret->undo_keeps_target = true;
    return CO_DONE;
}

static void member_facts(struct co_call *call, const bson_t *config_doc)
{
    bson_iter_t at, members;
    if (!bson_iter_init_find(&at, config_doc, "members") || !bson_iter_recurse(&at, &members))
        return;
    while (bson_iter_next(&members)) {
        bson_t one;
        const uint8_t *data;
        uint32_t bytes;
        char name[400], value[96];
        bson_iter_document(&members, &bytes, &data);
        if (!bson_init_static(&one, data, bytes))
            continue;
        struct mg_member member;
        mg_find_member(config_doc, mg_str(&one, "host"), &member);
        snprintf(name, sizeof name, "member %s", mg_str(&one, "host"));
        snprintf(value, sizeof value, "votes %lld, priority %g%s", (long long)member.votes, member.priority,
                 mg_flag(&one, "hidden") ? ", hidden" : "");
        call->host->fact(call->ctx, "setting", name, value);
    }
}

enum co_result mg_settings(struct co_call *call)
{
    MG_STATE(state);
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    call->host->fact(call->ctx, "version", "server", state.version ? state.version : "");
    call->host->fact(call->ctx, "setting", "replica set", state.set);
    call->host->fact(call->ctx, "setting", "user writes blocked", state.blocked ? "yes" : "no");
    call->host->fact(call->ctx, "setting", "access control", state.auth ? "on" : "off");
    member_facts(call, &state.config);
    return CO_DONE;
}

enum co_result mg_discover(struct co_call *call)
{
    MG_STATE(state);
    char name[320];
    struct mg_member other;
    enum co_result result = mg_look(call, call->conn, MG_LOOK_ROLE, &state);
    if (result != CO_DONE)
        return result;
    struct co_text *token = call->host->text_new(call->ctx), *info = call->host->text_new(call->ctx);
    if (!token || !info)
        return mg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "no memory");
    result = mg_marker_get(call, token, info);
    if (result != CO_DONE)
        return result;
    const char *held = call->host->text_get(call->ctx, token, NULL);
    if (held && *held) {
        char run[64];
        snprintf(run, sizeof run, "%.*s", (int)strcspn(held, ":"), held);
        call->host->found(call->ctx, "marker", held, run);
    }
    if (state.blocked)
        call->host->found(call->ctx, "fence", "setUserWriteBlockMode", NULL);
    mg_member_name(call, mg_other_side(call->side), name, sizeof name);
    mg_find_member(&state.config, name, &other);
    if (other.index >= 0)
        call->host->found(call->ctx, "membership", name, NULL);
    return CO_DONE;
}
