/* check.c - pre-flight: what would make a cutover fail, or not be what it promises.
 *
 * Invariant: nothing is changed; what can't be seen is said.
 */
#include <stdio.h>
#include <string.h>

#include "check.h"

void mg_report(struct co_call *call, const char *code, enum co_severity severity, int side, const char *message,
               const char *remedy)
{
    struct co_finding finding = {.code = code, .severity = severity, .side = side, .message = message, .remedy = remedy};
    call->host->finding(call->ctx, &finding);
}

static void check_kind(struct co_call *call, const struct mg_state *state, int side, bool source)
{
    if (state->sharded)
        mg_report(call, "sharded", CO_ERROR, side,
                  "the server is a mongos: sharded clusters can't be cut over as one replica set",
                  "Move each shard's replica set, or use a tool for clusters.");
    else if (state->standalone)
        mg_report(call, "standalone", CO_ERROR, side, "the server runs without a replica set, so nothing can follow it",
                  source ? "Start it with --replSet and run rs.initiate(): a short restart."
                         : "Start it with the source's --replSet name and keyFile.");
    else if (*state->shard_role) {
        char message[200];
        snprintf(message, sizeof message, "the server is a %.40s of a sharded cluster: its primary can't be moved alone",
                 state->shard_role);
        mg_report(call, "sharded", CO_ERROR, side, message, "Move it with the cluster's own tools (addShard, removeShard).");
    } else if (source && !state->primary)
        mg_report(call, "source_not_primary", CO_ERROR, side, "the source isn't the primary of its replica set",
                  "Name the primary as this side.");
}

static void check_fence(struct co_call *call, const struct mg_state *state, int side)
{
    if (mg_can_vote(state))
        return;
    bool waits = state->major >= 6 && state->fcv_major < 6;
    mg_report(
        call, "no_write_block", CO_WARNING, side,
        waits ? "while the set's feature compatibility version is below 6.0 it has no write block, and can't have a primary "
                "that refuses clients: its step-down is the cutover's decision, and the target takes writes from then on"
        : state->major < 6 ? "before 6.0 the server can't be a primary that refuses clients: its step-down is the cutover's "
                             "decision, and the target "
                             "takes writes from then on"
                           : "without access control nobody is held by a write block: the step-down is the cutover's "
                             "decision, and the target takes "
                             "writes from then on",
        waits              ? "When every member is of 6.0 or newer: db.adminCommand({setFeatureCompatibilityVersion: "
                             "\"6.0\"}); or accept it."
        : state->major < 6 ? "Upgrade to 6.0, or accept it."
                           : "Turn access control on (without transitionToAuth), or accept it.");
}

static void check_write_block(struct co_call *call, const struct mg_state *state, int side)
{
    if (state->blocked && !call->run)
        mg_report(call, "writes_blocked", CO_ERROR, side, "user writes are already blocked, and not by a run that is under way",
                  "db.adminCommand({setUserWriteBlockMode: 1, global: false})");
}

/* ---------------------------------------------------------------- accounts that a write block doesn't hold */

#define MAX_ROLES 200

/* Does the role let through a write block, by itself or by what it inherits? As the server resolves it. */
static enum co_result role_bypasses(struct co_call *call, struct co_conn *conn, const char *role, const char *db, bool *ret)
{
    MG_REPLY(reply);
    bson_iter_t roles, privileges, actions, at;
    bson_t one, privilege;
    bson_t *command =
        BCON_NEW("rolesInfo", "{", "role", BCON_UTF8(role), "db", BCON_UTF8(db), "}", "showPrivileges", BCON_BOOL(true));
    enum co_result result = mg_command(call, conn, "admin", command, false, &reply, NULL);
    bson_destroy(command);
    *ret = false;
    for (bool more = result == CO_DONE && mg_each(&reply, "roles", &roles); more && mg_next(&roles, &one);)
        for (bool next = mg_each(&one, "inheritedPrivileges", &privileges); next && mg_next(&privileges, &privilege);)
            if (bson_iter_init_find(&at, &privilege, "actions") && BSON_ITER_HOLDS_ARRAY(&at) &&
                bson_iter_recurse(&at, &actions))
                while (bson_iter_next(&actions))
                    *ret = *ret || (BSON_ITER_HOLDS_UTF8(&actions) &&
                                    (strcmp(bson_iter_utf8(&actions, NULL), "bypassWriteBlockingMode") == 0 ||
                                     strcmp(bson_iter_utf8(&actions, NULL), "anyAction") == 0));
    return result;
}

/* Each role is asked about once; the answers, "role@db yes|no" a line, are kept in `seen`. */
static enum co_result ask_role(struct co_call *call, struct co_conn *conn, struct co_text *seen, size_t *asked,
                               const bson_t *granted, bool *ret)
{
    char key[256];
    const char *role = mg_str(granted, "role"), *db = mg_str(granted, "db");
    snprintf(key, sizeof key, "\n%.120s@%.120s ", role, db);
    const char *all = call->host->text_get(call->ctx, seen, NULL), *found = all ? strstr(all, key) : NULL;
    if (found) {
        *ret = strncmp(found + strlen(key), "yes", 3) == 0;
        return CO_DONE;
    }
    if (++*asked > MAX_ROLES)
        return CO_NO_EFFECT;
    enum co_result result = role_bypasses(call, conn, role, db, ret);
    call->host->text_add(call->ctx, seen, "%s%s\n", key, *ret ? "yes" : "no");
    return result;
}

static void report_bypass(struct co_call *call, int side, const char *user, const char *role)
{
    char message[400];
    const char *probe = call->host->secret_user(call->ctx, CO_SECRET_PROBE);
    bool is_probe = probe && strcmp(user, probe) == 0;
    snprintf(message, sizeof message, "the account %.120s has the role %.60s, which writes through a write block", user, role);
    mg_report(call, is_probe ? "probe_bypasses" : "account_bypasses", is_probe ? CO_ERROR : CO_WARNING, side, message,
              "See that it doesn't write during a cutover, or take the role; such a write is seen and the run undone.");
}

static void check_bypass(struct co_call *call, struct co_conn *conn, int side)
{
    MG_REPLY(reply);
    bson_iter_t users, roles;
    bson_t one, granted;
    size_t asked = 0;
    bool unknown = false;
    struct co_text *seen = call->host->text_new(call->ctx);
    bson_t *command = BCON_NEW("usersInfo", "{", "forAllDBs", BCON_BOOL(true), "}");
    enum co_result result = mg_command(call, conn, "admin", command, false, &reply, NULL);
    bson_destroy(command);
    for (bool more = result == CO_DONE && seen && mg_each(&reply, "users", &users); more && mg_next(&users, &one);)
        for (bool next = mg_each(&one, "roles", &roles); next && mg_next(&roles, &granted);) {
            bool bypasses = false;
            unknown = ask_role(call, conn, seen, &asked, &granted, &bypasses) != CO_DONE || unknown;
            if (bypasses)
                report_bypass(call, side, mg_str(&one, "user"), mg_str(&granted, "role"));
        }
    if (result != CO_DONE || unknown)
        mg_report(call, "bypass_unknown", CO_WARNING, side,
                  "whether accounts bypass a write block can't be seen with the tool's account",
                  "Grant it viewUser and viewRole on all databases.");
}

/* ---------------------------------------------------------------- versions */

/* Releases in their order: a server of one can join a set whose feature compatibility version is its own or the one before. */
static int release_index(int major, int minor)
{
    static const int releases[][2] = {{3, 4}, {3, 6}, {4, 0}, {4, 2}, {4, 4}, {5, 0}, {6, 0}, {7, 0}, {8, 0}};
    int found = -1;
    for (int i = 0; i < (int)(sizeof releases / sizeof releases[0]); i++)
        if (major > releases[i][0] || (major == releases[i][0] && minor >= releases[i][1]))
            found = i;
    return found;
}

/* The index of the set's feature compatibility version; -1: it can't be seen. */
static int read_fcv(struct co_call *call, struct co_conn *conn, char text[MG_FEATURE_VERSION_BYTES])
{
    int major = 0, minor = 0;
    mg_feature_version(call, conn, text, NULL);
    return sscanf(text, "%d.%d", &major, &minor) == 2 ? release_index(major, minor) : -1;
}

static void check_versions(struct co_call *call, const struct mg_state *source, const struct mg_state *target, int fcv,
                           const char *text, const struct mg_check_sides *sides)
{
    char message[400];
    int of_target = release_index(target->major, target->minor), side = (int)sides->source;
    bool older = target->major < source->major || (target->major == source->major && target->minor < source->minor);
    bool runs = fcv >= 0 && of_target >= fcv && of_target - fcv <= 1;
    if (target->version && source->version && older) {
        snprintf(message, sizeof message, "the target (%.60s) is older than the source (%.60s)%s", target->version,
                 source->version, runs ? "; it can run with the set's feature compatibility version" : "");
        mg_report(call, "target_older", runs ? CO_WARNING : CO_ERROR, (int)sides->target, message,
                  runs ? "Don't raise the feature compatibility version as long as somebody may go back to it."
                       : "Install at least the source's version on the target.");
    }
    if (fcv < 0) {
        mg_report(call, "fcv_unknown", CO_WARNING, side,
                  "the source's feature compatibility version can't be seen with the tool's account",
                  "Grant it getParameter: `changeover init --grants` prints the role.");
        return;
    }
    if (!target->version || runs)
        return;
    snprintf(message, sizeof message,
             "the source's feature compatibility version is %.20s, which a server of version %.40s can't run", text,
             target->version);
    mg_report(call, "fcv_unsupported", CO_ERROR, side, message,
              of_target > fcv ? "Upgrade the source's set step by step (setFeatureCompatibilityVersion) first."
                              : "Install at least the source's version on the target.");
}

static void check_target(struct co_call *call, const struct mg_state *source, const struct mg_state *target,
                         enum co_check_stage stage, int side)
{
    if (source && source->set_id && target->set_id && *target->set_id && strcmp(source->set_id, target->set_id) != 0)
        mg_report(call, "other_lineage", CO_ERROR, side, "the target belongs to another replica set", "Use an empty server.");
    if (stage == CO_CHECK_CUTOVER && !target->secondary)
        mg_report(call, "target_not_following", CO_ERROR, side, "the target isn't a secondary of the source's replica set",
                  "Run `changeover setup`.");
}

/* Members find each other by the names in the config; the tool must know the same ones. */
static void check_name(struct co_call *call, const struct mg_state *state, enum co_side side)
{
    char name[320], message[700];
    mg_member_name(call, side, name, sizeof name);
    if (!*state->me || strcmp(state->me, name) == 0)
        return;
    snprintf(message, sizeof message, "the member calls itself %.250s in the replica set's config, the config here says %.250s",
             state->me, name);
    mg_report(call, "member_name", CO_ERROR, (int)side, message,
              "Set `peer: {address: ...}` of this side to the member's own name.");
}

/* Members know each other by a keyFile or certificates: with access control on one side only the target can't join. */
static void check_access(struct co_call *call, struct co_conn *conn, const struct mg_state *source,
                         const struct mg_state *target, int side)
{
    bool target_auth = conn->anonymous || target->auth;
    if (source->auth == target_auth)
        return;
    mg_report(call, "access_differs", CO_ERROR, side,
              source->auth ? "the source has access control and the target has none: members don't accept each other"
                           : "the target has access control and the source has none: members don't accept each other",
              "Start the target with the source's --keyFile (or clusterAuthMode), or neither with one.");
}

enum co_result mg_check(struct co_call *call, enum co_check_stage stage)
{
    MG_STATE(source);
    MG_STATE(target);
    struct co_conn *conns[2] = {call->role == CO_SOURCE ? call->conn : call->other,
                                call->role == CO_SOURCE ? call->other : call->conn};
    struct mg_state *states[2] = {&source, &target};
    enum co_side sides[2] = {call->role == CO_SOURCE ? call->side : mg_other_side(call->side),
                             call->role == CO_SOURCE ? mg_other_side(call->side) : call->side};
    struct mg_check_sides where = {.source = sides[0], .target = sides[1], .stage = stage};
    int64_t data_bytes = -1;
    char fcv[MG_FEATURE_VERSION_BYTES];
    for (int i = 0; i < 2; i++) {
        if (conns[i] && mg_look(call, conns[i], MG_LOOK_ROLE, states[i]) == CO_DONE) {
            check_kind(call, states[i], (int)sides[i], i == 0);
            check_name(call, states[i], sides[i]);
            continue;
        }
        mg_report(call, CO_FINDING_UNREACHABLE, CO_ERROR, (int)sides[i], "this side can't be reached, so it wasn't checked",
                  "Start it, or correct its url.");
        states[i] = NULL;
    }
    if (states[0]) {
        check_fence(call, &source, (int)sides[0]);
        check_write_block(call, &source, (int)sides[0]);
        if (mg_can_vote(&source))
            check_bypass(call, conns[0], (int)sides[0]);
        if (source.member)
            mg_check_account(call, conns[0], &source, (int)sides[0]);
        if (source.member) {
            data_bytes = mg_data_bytes(call, conns[0]);
            mg_check_set(call, &source, conns[0], &where, data_bytes);
        }
    }
    if (states[0] && states[1] && *source.me && strcmp(source.me, target.me) == 0) {
        mg_report(call, "same_server", CO_ERROR, -1, "both urls lead to the same server", "Correct the url of one side.");
        return CO_DONE;
    }
    if (states[1])
        check_target(call, states[0], &target, stage, (int)sides[1]);
    if (states[0] && states[1]) {
        int index = read_fcv(call, conns[0], fcv);
        check_versions(call, &source, &target, index, fcv, &where);
        check_access(call, conns[1], &source, &target, (int)sides[1]);
        mg_check_disk(call, conns[1], &where, stage == CO_CHECK_CUTOVER || target.secondary, data_bytes);
    }
    return CO_DONE;
}
