/* config.c - the replica set's config: who is in it, and one safe change after the other.
 *
 * Invariants
 *   - A change is made on the document that was just read and carries its version + 1: whoever changed it in between makes
 *     this one fail. What this version of the driver doesn't know stays as it is.
 *   - Not forced, a change adds or takes one vote at most, and is done only when a majority has it; then the next may follow.
 */
#include <stdio.h>
#include <string.h>

#include "mg.h"

void mg_member_name(struct co_call *call, enum co_side side, char *ret, size_t bytes)
{
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, side);
    const char *address = endpoint->peer_address ? endpoint->peer_address : endpoint->address ? endpoint->address : "127.0.0.1";
    int port = endpoint->peer_port ? endpoint->peer_port : endpoint->port ? endpoint->port : 27017;
    bool ip6 = strchr(address, ':') != NULL;
    snprintf(ret, bytes, "%s%s%s:%d", ip6 ? "[" : "", address, ip6 ? "]" : "", port);
}

/* ---------------------------------------------------------------- reading */

bool mg_each(const bson_t *doc, const char *array, bson_iter_t *ret)
{
    bson_iter_t at, found;
    return bson_iter_init(&at, doc) && bson_iter_find_descendant(&at, array, &found) && BSON_ITER_HOLDS_ARRAY(&found) &&
           bson_iter_recurse(&found, ret);
}

bool mg_next(bson_iter_t *array, bson_t *ret)
{
    const uint8_t *data;
    uint32_t bytes;
    while (bson_iter_next(array)) {
        if (!BSON_ITER_HOLDS_DOCUMENT(array))
            continue;
        bson_iter_document(array, &bytes, &data);
        if (bson_init_static(ret, data, bytes))
            return true;
    }
    return false;
}

double mg_double(const bson_t *doc, const char *path, double otherwise)
{
    bson_iter_t at, found;
    return bson_iter_init(&at, doc) && bson_iter_find_descendant(&at, path, &found) && BSON_ITER_HOLDS_NUMBER(&found)
               ? bson_iter_as_double(&found)
               : otherwise;
}

void mg_member_of(const bson_t *doc, int index, struct mg_member *ret)
{
    *ret = (struct mg_member){.index = index,
                              .id = mg_int(doc, "_id", 0),
                              .votes = mg_int(doc, "votes", 1),
                              .priority = mg_double(doc, "priority", 1)};
}

void mg_find_member(const bson_t *config, const char *name, struct mg_member *ret)
{
    bson_iter_t members;
    bson_t one;
    *ret = (struct mg_member){.index = -1, .votes = 1, .priority = 1};
    if (!mg_each(config, "members", &members))
        return;
    for (int i = 0; mg_next(&members, &one); i++) {
        if (strcmp(mg_str(&one, "host"), name) == 0) {
            mg_member_of(&one, i, ret);
            return;
        }
    }
}

int64_t mg_voters(const bson_t *config, const char *without)
{
    bson_iter_t members;
    bson_t one;
    int64_t voters = 0;
    if (!mg_each(config, "members", &members))
        return 0;
    while (mg_next(&members, &one))
        if (mg_int(&one, "votes", 1) > 0 && (!without || strcmp(mg_str(&one, "host"), without) != 0))
            voters++;
    return voters;
}

bool mg_status_of(const struct mg_state *state, const char *name, bson_t *ret)
{
    bson_iter_t members;
    if (!mg_each(&state->status, "members", &members))
        return false;
    while (mg_next(&members, ret))
        if (strcmp(mg_str(ret, "name"), name) == 0)
            return true;
    return false;
}

/* Voters that are up, as this member hears them, `without` left out. */
int64_t mg_healthy_voters(const struct mg_state *state, const char *without)
{
    bson_iter_t members;
    bson_t one, heard;
    int64_t count = 0;
    if (!mg_each(&state->config, "members", &members))
        return 0;
    while (mg_next(&members, &one)) {
        const char *host = mg_str(&one, "host");
        if (mg_int(&one, "votes", 1) <= 0 || (without && strcmp(host, without) == 0) || !mg_status_of(state, host, &heard))
            continue;
        int64_t in = mg_int(&heard, "state", -1);
        count += mg_int(&heard, "health", 0) == 1 && (in == MG_PRIMARY || in == MG_SECONDARY || in == MG_ARBITER);
    }
    return count;
}

/* From 4.4 on configs have terms, and a config of a later term is newer, whatever its version; one that was forced has none
 * (repl_set_config.h, ConfigVersionAndTerm). */
bool mg_config_older(const bson_t *config, const bson_t *than)
{
    int64_t term = mg_int(config, "term", -1), other = mg_int(than, "term", -1);
    if (term != other && term != -1 && other != -1)
        return term < other;
    return mg_int(config, "version", 0) < mg_int(than, "version", 0);
}

/* Has a majority of the voters this config? Before 4.4 a reconfig doesn't wait for it. */
bool mg_config_settled(const struct mg_state *state)
{
    bson_iter_t members;
    bson_t one, heard;
    int64_t have = 0, version = mg_int(&state->config, "version", -1), term = mg_int(&state->config, "term", -1);
    if (!mg_each(&state->config, "members", &members))
        return false;
    while (mg_next(&members, &one))
        if (mg_int(&one, "votes", 1) > 0 && mg_status_of(state, mg_str(&one, "host"), &heard))
            have += mg_flag(&heard, "self") ||
                    (mg_int(&heard, "configVersion", -2) == version && mg_int(&heard, "configTerm", -1) == term);
    return have > mg_voters(&state->config, NULL) / 2;
}

/* ---------------------------------------------------------------- editing */

static const struct mg_change *change_of(const struct mg_change *changes, size_t count, const char *host)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(changes[i].host, host) == 0)
            return &changes[i];
    return NULL;
}

static void put_member(bson_t *array, uint32_t at, const bson_t *member)
{
    char key[16];
    const char *index;
    bson_uint32_to_string(at, &index, key, sizeof key);
    bson_append_document(array, index, -1, member);
}

void mg_config_with(const bson_t *config, const struct mg_change *changes, size_t count, bson_t *ret)
{
    bson_iter_t members;
    bson_t array, one;
    uint32_t at = 0;
    int64_t max_id = -1;
    bson_copy_to_excluding_noinit(config, ret, "members", "version", "term", NULL);
    BSON_APPEND_INT64(ret, "version", mg_int(config, "version", 0) + 1);
    BSON_APPEND_ARRAY_BEGIN(ret, "members", &array);
    for (bool more = mg_each(config, "members", &members); more && mg_next(&members, &one);) {
        MG_DOC(member);
        const struct mg_change *change = change_of(changes, count, mg_str(&one, "host"));
        int64_t id = mg_int(&one, "_id", 0);
        max_id = id > max_id ? id : max_id;
        if (change && change->votes < 0)
            continue;
        if (change) {
            bson_copy_to_excluding_noinit(&one, &member, "votes", "priority", "newlyAdded", NULL);
            BSON_APPEND_INT32(&member, "votes", (int32_t)change->votes);
            BSON_APPEND_DOUBLE(&member, "priority", change->priority);
        } else {
            bson_concat(&member, &one);
        }
        put_member(&array, at++, &member);
    }
    for (size_t i = 0; i < count; i++) {
        MG_DOC(member);
        struct mg_member there;
        mg_find_member(config, changes[i].host, &there);
        if (there.index >= 0 || changes[i].votes < 0)
            continue;
        BSON_APPEND_INT64(&member, "_id", ++max_id);
        BSON_APPEND_UTF8(&member, "host", changes[i].host);
        BSON_APPEND_INT32(&member, "votes", (int32_t)changes[i].votes);
        BSON_APPEND_DOUBLE(&member, "priority", changes[i].priority);
        put_member(&array, at++, &member);
    }
    bson_append_array_end(ret, &array);
}

static bool as_wanted(const bson_t *config, const struct mg_change *changes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct mg_member member;
        mg_find_member(config, changes[i].host, &member);
        double difference = member.priority - changes[i].priority;
        if (changes[i].votes < 0
                ? member.index >= 0
                : member.index < 0 || member.votes != changes[i].votes || difference > 0.0005 || difference < -0.0005)
            return false;
    }
    return true;
}

/* Is what was asked for there, and with a majority? */
static enum co_result seen(struct co_call *call, struct co_conn *conn, bool force)
{
    MG_STATE(state);
    if (force)
        return CO_DONE;
    enum co_result result = mg_look(call, conn, MG_LOOK_ROLE, &state);
    return result != CO_DONE ? result : mg_config_settled(&state) ? CO_DONE : CO_AGAIN;
}

/* From 4.4 on the server answers when a majority has the config (repl_set_commands.cpp, awaitConfigCommitment); a set whose
 * feature compatibility version is older doesn't yet. */
static bool answers_when_settled(const struct co_conn *conn)
{
    return conn->fcv_major >= 6;
}

static enum co_result send_config(struct co_call *call, struct co_conn *conn, const bson_t *wanted, bool force, int *ret_code)
{
    MG_DOC(command);
    MG_REPLY(reply);
    BSON_APPEND_DOCUMENT(&command, "replSetReconfig", wanted);
    if (force)
        BSON_APPEND_BOOL(&command, "force", true);
    mg_add_max_time(call, &command);
    return mg_command(call, conn, "admin", &command, true, &reply, ret_code);
}

static enum co_result install(struct co_call *call, struct co_conn *conn, const bson_t *wanted, bool force)
{
    int code = 0;
    enum co_result result = send_config(call, conn, wanted, force, &code);
    if (result == CO_DONE)
        return answers_when_settled(conn) ? CO_DONE : seen(call, conn, force);
    /* It may be installed although waiting for its majority failed; and another reconfig may be under way. */
    if (result == CO_NO_EFFECT && (code == MG_CONFIG_IN_PROGRESS || code == MG_CONFIG_NOT_COMMITTED))
        return CO_AGAIN;
    return result == CO_NO_EFFECT && mg_may_have_worked(code) ? CO_EFFECT_UNKNOWN : result;
}

enum co_result mg_reconfig(struct co_call *call, struct co_conn *conn, const struct mg_change *changes, size_t count,
                           bool force)
{
    MG_DOC(now);
    MG_DOC(wanted);
    enum co_result result = mg_config(call, conn, &now);
    if (result != CO_DONE)
        return result;
    if (as_wanted(&now, changes, count))
        return seen(call, conn, force);
    mg_config_with(&now, changes, count, &wanted);
    return install(call, conn, &wanted, force);
}

int64_t mg_heartbeat_ms(const bson_t *config)
{
    return mg_int(config, "settings.heartbeatIntervalMillis", 2000);
}

enum co_result mg_reconfig_heartbeats(struct co_call *call, struct co_conn *conn, int64_t interval_ms)
{
    MG_DOC(now);
    MG_DOC(next);
    MG_DOC(wanted);
    bson_t old, settings;
    enum co_result result = mg_config(call, conn, &now);
    if (result != CO_DONE)
        return result;
    if (mg_heartbeat_ms(&now) == interval_ms)
        return seen(call, conn, false);
    mg_config_with(&now, NULL, 0, &next);
    bson_copy_to_excluding_noinit(&next, &wanted, "settings", NULL);
    BSON_APPEND_DOCUMENT_BEGIN(&wanted, "settings", &settings);
    if (mg_sub(&next, "settings", &old))
        bson_copy_to_excluding_noinit(&old, &settings, "heartbeatIntervalMillis", NULL);
    BSON_APPEND_INT32(&settings, "heartbeatIntervalMillis", (int32_t)interval_ms);
    bson_append_document_end(&wanted, &settings);
    return install(call, conn, &wanted, false);
}

void mg_remember_config(struct co_conn *conn, const bson_t *config)
{
    if (conn->config)
        bson_destroy(conn->config);
    conn->config = config ? bson_copy(config) : NULL;
}

enum co_result mg_reconfig_known(struct co_call *call, struct co_conn *conn, const char *host, int64_t votes, double priority)
{
    MG_DOC(wanted);
    const struct mg_change change = {.host = host, .votes = votes, .priority = priority};
    int code = 0;
    bool alone = conn->config && mg_voters(conn->config, host) + (votes > 0) == 1;
    bool there = conn->config && as_wanted(conn->config, &change, 1);
    if (there && alone)
        return CO_DONE; /* sent before, and it is in force where it was installed: nobody else has a say */
    if (!conn->config || there)
        return mg_reconfig_one(call, conn, host, votes, priority, false);
    mg_config_with(conn->config, &change, 1, &wanted);
    mg_remember_config(conn, NULL);
    enum co_result result = send_config(call, conn, &wanted, false, &code);
    if (result == CO_DONE && (alone || answers_when_settled(conn))) {
        mg_remember_config(conn, &wanted);
        return CO_DONE;
    }
    return result == CO_DONE || code ? mg_reconfig_one(call, conn, host, votes, priority, false) : result;
}

enum co_result mg_reconfig_one(struct co_call *call, struct co_conn *conn, const char *host, int64_t votes, double priority,
                               bool force)
{
    struct mg_change change = {.host = host, .votes = votes, .priority = priority};
    return mg_reconfig(call, conn, &change, 1, force);
}
