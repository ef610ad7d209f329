/* check_account.c - pre-flight of the tool's own account: what it may not do that a cutover needs.
 *
 * Invariant: nothing is changed; the server says itself what the account may (connectionStatus with its privileges, 2.6 on).
 */
#include <stdio.h>
#include <string.h>

#include "check.h"

struct need {
    const char *db, *collection; /* NULL: of the cluster */
    const char *action;
    int since_major;
};

/* What a cutover and its undo can't do without. What is only looked at has findings of its own where it can't be seen. */
static const struct need needs[] = {
    {NULL, NULL, "replSetGetStatus", 0},
    {NULL, NULL, "replSetGetConfig", 0},
    {NULL, NULL, "replSetConfigure", 0},
    {NULL, NULL, "replSetStateChange", 0},
    {NULL, NULL, "inprog", 0},
    {NULL, NULL, "killop", 0},
    {NULL, NULL, "setUserWriteBlockMode", 6},
    {"local", MG_MARKER_COLLECTION, "find", 0},
    {"local", MG_MARKER_COLLECTION, "insert", 0},
    {"local", MG_MARKER_COLLECTION, "update", 0},
    {"local", MG_MARKER_COLLECTION, "remove", 0},
    {"local", "oplog.rs", "find", 6},
    {"config", "user_writes_critical_sections", "find", 6},
};

static bool covers(const bson_t *resource, const struct need *need)
{
    if (mg_flag(resource, "anyResource"))
        return true;
    if (!need->db)
        return mg_flag(resource, "cluster");
    if (!bson_has_field(resource, "db"))
        return false;
    const char *db = mg_str(resource, "db"), *collection = mg_str(resource, "collection");
    return (!*db || strcmp(db, need->db) == 0) && (!*collection || strcmp(collection, need->collection) == 0);
}

static bool lists(const bson_t *privilege, const char *action)
{
    bson_iter_t at, actions;
    if (!bson_iter_init_find(&at, privilege, "actions") || !BSON_ITER_HOLDS_ARRAY(&at) || !bson_iter_recurse(&at, &actions))
        return false;
    while (bson_iter_next(&actions))
        if (BSON_ITER_HOLDS_UTF8(&actions) &&
            (strcmp(bson_iter_utf8(&actions, NULL), action) == 0 || strcmp(bson_iter_utf8(&actions, NULL), "anyAction") == 0))
            return true;
    return false;
}

static bool may(const bson_t *status, const struct need *need)
{
    bson_iter_t privileges;
    bson_t one, resource;
    for (bool more = mg_each(status, "authInfo.authenticatedUserPrivileges", &privileges); more && mg_next(&privileges, &one);)
        if (mg_sub(&one, "resource", &resource) && covers(&resource, need) && lists(&one, need->action))
            return true;
    return false;
}

void mg_check_account(struct co_call *call, struct co_conn *conn, const struct mg_state *state, int side)
{
    MG_REPLY(reply);
    static const struct need checkpoint = {NULL, NULL, "fsync", 0}, ending = {NULL, NULL, "killAnySession", 0};
    struct co_text *missing = call->host->text_new(call->ctx);
    if (!state->auth || !missing)
        return;
    bson_t *command = BCON_NEW("connectionStatus", BCON_INT32(1), "showPrivileges", BCON_BOOL(true));
    enum co_result result = mg_command(call, conn, "admin", command, false, &reply, NULL);
    bson_destroy(command);
    if (result != CO_DONE) {
        mg_report(call, "privileges_unknown", CO_WARNING, side, "what the tool's account may do can't be seen",
                  "See that it has the role that `changeover init --grants` prints.");
        return;
    }
    char message[700];
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        const struct need *need = &needs[i];
        if (state->major < need->since_major || may(&reply, need))
            continue;
        bool first = strlen(call->host->text_get(call->ctx, missing, NULL)) == 0;
        call->host->text_add(call->ctx, missing, first ? "%s" : ", %s", need->action);
        if (need->db)
            call->host->text_add(call->ctx, missing, " on %s.%s", need->db, need->collection);
    }
    const char *list = call->host->text_get(call->ctx, missing, NULL);
    if (list && *list) {
        snprintf(message, sizeof message, "the tool's account lacks what a cutover needs: %.600s", list);
        mg_report(call, "privilege_missing", CO_ERROR, side, message,
                  "Give the account what `changeover init --grants` prints.");
    }
    if (!may(&reply, &checkpoint))
        mg_report(
            call, "fsync_missing", CO_WARNING, side,
            "the tool's account may not ask for a checkpoint (fsync): a member that crashes within a minute after the first "
            "marker may come back without it, and the run would have to be ended by hand",
            "Give the account the action fsync on the cluster: `changeover init --grants` prints the role.");
    if (mg_can_vote(state) && !may(&reply, &ending))
        mg_report(
            call, "kill_sessions_missing", CO_WARNING, side,
            "the tool's account may not end transactions (killAnySession): one that is left open holds up the write block, "
            "and the run would be undone",
            "Give the account the action killAnySession on the cluster: `changeover init --grants` prints the role.");
}
