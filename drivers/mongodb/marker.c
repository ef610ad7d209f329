/* marker.c - the run's mark on one server, the token rule, and the sessions of a run.
 *
 * The members share their data, so the marker can't be data: it is a document of the `local` database, which isn't
 * replicated, is kept by an initial sync and can be written on secondaries (canAcceptWritesForDatabase in the server's
 * replication_coordinator_impl.cpp: "writes are always permitted to the local database").
 *
 * Invariant: the marker is changed by one findAndModify that names what it must hold, journaled before it is
 * acknowledged; its collection is in a checkpoint before the first one.
 */
#include <stdio.h>
#include <string.h>

#include "mg.h"

#define GUARD_NS INT64_C(200000000) /* a look at the marker counts for so long */

static void put(struct co_call *call, struct co_text *text, const char *value)
{
    call->host->text_set(call->ctx, text, value, strlen(value));
}

static enum co_result read_document(struct co_call *call, struct co_conn *conn, const char *id, bson_t *reply)
{
    bson_t *command = BCON_NEW("find", BCON_UTF8(MG_MARKER_COLLECTION), "filter", "{", "_id", BCON_UTF8(id), "}", "limit",
                               BCON_INT32(1), "singleBatch", BCON_BOOL(true));
    enum co_result result = mg_command(call, conn, MG_MARKER_DB, command, false, reply, NULL);
    bson_destroy(command);
    return result;
}

static enum co_result read_marker(struct co_call *call, struct co_conn *conn, bson_t *reply)
{
    return read_document(call, conn, "marker", reply);
}

enum co_result mg_marker_get(struct co_call *call, struct co_text *ret_token, struct co_text *ret_info)
{
    MG_REPLY(reply);
    if (call->conn->anonymous) { /* not in a replica set: no run was ever here */
        put(call, ret_token, "");
        put(call, ret_info, "");
        return CO_DONE;
    }
    enum co_result result = read_marker(call, call->conn, &reply);
    if (result == CO_DONE) {
        put(call, ret_token, mg_str(&reply, "cursor.firstBatch.0.token"));
        put(call, ret_info, mg_str(&reply, "cursor.firstBatch.0.info"));
    }
    return result;
}

static enum co_result conflict(struct co_call *call, const char *what)
{
    return mg_fail(call, CO_NO_EFFECT, CO_E_CONFLICT, "See `changeover status` for whose run it is.", "the server's marker %s",
                   what);
}

static enum co_result insert(struct co_call *call, const char *id, const char *token, const char *info, int *ret_code)
{
    MG_REPLY(reply);
    bson_t *command = BCON_NEW("insert", BCON_UTF8(MG_MARKER_COLLECTION), "documents", "[", "{", "_id", BCON_UTF8(id), "token",
                               BCON_UTF8(token), "info", BCON_UTF8(info), "}", "]", "writeConcern", "{", "w", BCON_INT32(1),
                               "j", BCON_BOOL(true), "}");
    enum co_result result = mg_command(call, call->conn, MG_MARKER_DB, command, true, &reply, ret_code);
    bson_destroy(command);
    return result;
}

/* A member that crashes comes back with the collections of its last checkpoint, up to a minute old, and what its oplog says
 * was made since; of a collection of `local` it says nothing. So the first marker waits for a checkpoint that has its
 * collection, and a document says that this was done: were it lost after all, the document would be, too. Without the right
 * to ask for a checkpoint the server's next one does it. */
static enum co_result make_collection(struct co_call *call)
{
    MG_REPLY(found);
    int code = 0;
    enum co_result result = read_document(call, call->conn, "in checkpoint", &found);
    if (result != CO_DONE || *mg_str(&found, "cursor.firstBatch.0._id"))
        return result;
    result = insert(call, "collection", "", "", &code);
    if (result == CO_DONE || code == MG_DUPLICATE_KEY) {
        code = 0;
        result = mg_simple(call, call->conn, BCON_NEW("fsync", BCON_INT32(1)), &code);
    }
    if (code == MG_UNAUTHORIZED)
        return CO_DONE;
    if (result == CO_DONE)
        result = insert(call, "in checkpoint", "", "", &code);
    return code == MG_DUPLICATE_KEY ? CO_DONE : result;
}

static enum co_result put_first(struct co_call *call, const char *token, const char *info)
{
    int code = 0;
    enum co_result result = make_collection(call);
    if (result == CO_DONE)
        result = insert(call, "marker", token, info ? info : "", &code);
    return code == MG_DUPLICATE_KEY ? conflict(call, "is already there") : result;
}

static enum co_result swap(struct co_call *call, const char *expected, const char *token, const char *info)
{
    MG_REPLY(reply);
    MG_DOC(command);
    MG_DOC(set);
    bson_t *query = BCON_NEW("_id", BCON_UTF8("marker"), "token", BCON_UTF8(expected));
    bson_t *concern = BCON_NEW("w", BCON_INT32(1), "j", BCON_BOOL(true));
    BSON_APPEND_UTF8(&command, "findAndModify", MG_MARKER_COLLECTION);
    BSON_APPEND_DOCUMENT(&command, "query", query);
    if (token) {
        bson_t inner;
        BSON_APPEND_DOCUMENT_BEGIN(&set, "$set", &inner);
        BSON_APPEND_UTF8(&inner, "token", token);
        if (info)
            BSON_APPEND_UTF8(&inner, "info", info);
        bson_append_document_end(&set, &inner);
        BSON_APPEND_DOCUMENT(&command, "update", &set);
    } else {
        BSON_APPEND_BOOL(&command, "remove", true);
    }
    BSON_APPEND_DOCUMENT(&command, "writeConcern", concern);
    bson_destroy(query);
    bson_destroy(concern);
    enum co_result result = mg_command(call, call->conn, MG_MARKER_DB, &command, true, &reply, NULL);
    if (result != CO_DONE)
        return result;
    return mg_int(&reply, "lastErrorObject.n", 0) == 1 ? CO_DONE : conflict(call, "isn't what was expected");
}

enum co_result mg_marker_set(struct co_call *call, const char *expected, const char *token, const char *info)
{
    if (call->conn->anonymous)
        return mg_fail(call, CO_NO_EFFECT, CO_E_STATE, "Run `changeover setup`.",
                       "the server is in no replica set: it can't hold a marker");
    if (expected)
        return swap(call, expected, token, info);
    return token ? put_first(call, token, info) : CO_DONE;
}

enum co_result mg_guard(struct co_call *call, struct co_conn *conn)
{
    MG_REPLY(reply);
    if (!call->run)
        return CO_DONE;
    if (conn && conn->anonymous)
        return CO_DONE;
    int64_t asked_ns = mg_now_ns(); /* not when it was answered: the process may be frozen while the answer waits for it */
    enum co_result result = read_marker(call, conn, &reply);
    if (result != CO_DONE)
        return result;
    const char *held = mg_str(&reply, "cursor.firstBatch.0.token");
    if (strcmp(held, call->run->token) == 0) {
        struct co_conn *keeper = call->conn ? call->conn : conn;
        keeper->guarded_ns = asked_ns;
        keeper->guarded_other = conn != call->conn;
        return CO_DONE;
    }
    return conflict(call,
                    *held ? "names another run or epoch: the run was taken over" : "is gone: the run was ended from elsewhere");
}

enum co_result mg_guard_again(struct co_call *call)
{
    const struct co_conn *keeper = call->conn ? call->conn : call->other;
    if (!keeper || !keeper->guarded_ns || mg_now_ns() - keeper->guarded_ns < GUARD_NS)
        return CO_DONE;
    return mg_guard(call, keeper->guarded_other || !call->conn ? call->other : call->conn);
}

/* ---------------------------------------------------------------- sessions */

static bool is_ours(const char *name, const char *prefix, const char *actor)
{
    size_t bytes = strlen(prefix);
    return strncmp(name, prefix, bytes) == 0 && strcmp(name + bytes, actor) == 0;
}

/* Ends what the other processes of the run have under way. A MongoDB server can't close a client's idle connection; what
 * such a connection sends later meets the marker. */
enum co_result mg_end_sessions(struct co_call *call, const char *keep_actor)
{
    MG_REPLY(reply);
    char prefix[128];
    bson_iter_t at, list;
    size_t found = 0;
    if (call->conn->anonymous)
        return CO_DONE;
    snprintf(prefix, sizeof prefix, "changeover:%s:", call->run->id);
    bson_t *command = BCON_NEW("currentOp", BCON_INT32(1), "$all", BCON_BOOL(false));
    enum co_result result = mg_command(call, call->conn, "admin", command, false, &reply, NULL);
    bson_destroy(command);
    if (result != CO_DONE)
        return result;
    if (!bson_iter_init_find(&at, &reply, "inprog") || !bson_iter_recurse(&at, &list))
        return CO_DONE;
    while (bson_iter_next(&list)) {
        bson_t one;
        const uint8_t *data;
        uint32_t bytes;
        bson_iter_document(&list, &bytes, &data);
        if (!bson_init_static(&one, data, bytes))
            continue;
        const char *name = mg_str(&one, "appName");
        if (strncmp(name, prefix, strlen(prefix)) != 0 || is_ours(name, prefix, call->run->actor) ||
            (keep_actor && is_ours(name, prefix, keep_actor)))
            continue;
        MG_REPLY(killed);
        MG_DOC(kill);
        found++;
        BSON_APPEND_INT32(&kill, "killOp", 1);
        BSON_APPEND_INT64(&kill, "op", mg_int(&one, "opid", 0));
        result = mg_command(call, call->conn, "admin", &kill, true, &killed, NULL);
        if (result != CO_DONE)
            return result;
    }
    return found ? CO_AGAIN : CO_DONE; /* seen gone by the next call */
}
