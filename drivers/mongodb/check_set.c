/* check_set.c - pre-flight of the replica set that the source is in: its members, its majority, its oplog, what runs in it.
 *
 * Invariant: nothing is changed; what can't be seen is said.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

#define LONG_S 10                  /* an operation that runs for longer is named */
#define SLOW_COPY_BYTES_S 10000000 /* an initial sync this slow must still fit into the oplog's window, twice */
#define SHORTEST_WINDOW_S 3600
#define GIB (INT64_C(1) << 30)

/* ---------------------------------------------------------------- majorities */

static void check_majority(struct co_call *call, const struct mg_state *state, int side, const char *source, const char *target)
{
    char message[400];
    int64_t voters = mg_voters(&state->config, NULL), up = mg_healthy_voters(state, NULL);
    int64_t own = mg_voters(&state->config, target), own_up = mg_healthy_voters(state, target);
    snprintf(message, sizeof message,
             "replica set %.100s, config version %" PRId64 ", term %" PRId64 ": %" PRId64 " voting members, %" PRId64
             " of them up",
             state->set, mg_int(&state->config, "version", -1), mg_int(&state->status, "term", -1), voters, up);
    mg_report(call, "replica_set", CO_INFO, side, message, "");
    if (up <= voters / 2)
        mg_report(call, "no_majority", CO_ERROR, side,
                  "less than a majority of the voting members is up: neither a reconfig nor an election can succeed",
                  "Start the members that are down.");
    else if (own_up <= (own + 1) / 2 && own > 1) /* with the target's vote added */
        mg_report(call, "majority_needs_target", CO_WARNING, side,
                  "members are down, so that with the target's vote the majority would depend on the target",
                  "Start the members that are down before the cutover.");
    else if (own <= 1)
        mg_report(
            call, "target_vote_needed", CO_INFO, side,
            "the source is the only voting member besides the target: while the target votes (from warm_up on) its death would "
            "take the source out of service until the undo takes the vote back by force",
            "");
    if (mg_voters(&state->config, source) == 0)
        mg_report(call, "no_majority_without_source", CO_INFO, side,
                  "without the source no member votes: only the target keeps the replica set going after the cutover", "");
}

/* ---------------------------------------------------------------- members */

static int64_t delay_s(const bson_t *member)
{
    int64_t now = mg_int(member, "secondaryDelaySecs", 0); /* 5.0 on; before: slaveDelay */
    return now ? now : mg_int(member, "slaveDelay", 0);
}

static void check_target_member(struct co_call *call, const bson_t *one, double source_priority, int side)
{
    char message[400];
    const char *why = mg_flag(one, "arbiterOnly")           ? "is an arbiter"
                      : mg_flag(one, "hidden")              ? "is hidden"
                      : delay_s(one) > 0                    ? "is delayed"
                      : mg_int(one, "buildIndexes", 1) == 0 ? "builds no indexes"
                                                            : NULL;
    if (why) {
        snprintf(message, sizeof message, "the target %s in the replica set's config: it can't be elected", why);
        mg_report(call, "target_not_electable", CO_ERROR, side, message, "Take that setting from the member (rs.reconfig()).");
    }
    if (mg_double(one, "priority", 1) > source_priority)
        mg_report(call, "target_priority", CO_ERROR, side,
                  "the target's priority is higher than the source's: it would call an election by itself at any time",
                  "Set its priority to 0: the cutover raises it.");
}

static void check_other_member(struct co_call *call, const struct mg_state *state, const bson_t *one, int side)
{
    char message[500];
    bson_t heard;
    const char *host = mg_str(one, "host");
    if (mg_flag(one, "arbiterOnly")) {
        snprintf(message, sizeof message, "%.300s is an arbiter: majorities may be reached without data", host);
        mg_report(call, "arbiter", CO_WARNING, side, message, "Replace it by a data-bearing member.");
        return;
    }
    if (delay_s(one) > 0) {
        snprintf(message, sizeof message, "%.300s is delayed by %" PRId64 " s: it confirms writes of a majority that late",
                 host, delay_s(one));
        mg_report(call, "delayed_member", mg_int(one, "votes", 1) > 0 ? CO_WARNING : CO_INFO, side, message, "Take its vote.");
    }
    if (mg_flag(one, "hidden")) {
        snprintf(message, sizeof message, "%.300s is hidden: clients don't see it, before and after the cutover", host);
        mg_report(call, "hidden_member", CO_INFO, side, message, "");
    }
    if (mg_int(one, "votes", 1) > 0 && mg_double(one, "priority", 1) > 0) {
        snprintf(message, sizeof message, "%.300s could be elected, too: its priority is 0 while a run is under way", host);
        mg_report(call, "other_electable", CO_INFO, side, message, "");
    }
    if (mg_status_of(state, host, &heard) && mg_int(&heard, "health", 1) == 0) {
        snprintf(message, sizeof message, "%.300s is down", host);
        mg_report(call, "member_down", CO_WARNING, side, message, "Start it, or remove it.");
    }
}

/* From 5.0 on a write without a write concern waits for a majority, unless arbiters make up so much of the set that it might
 * wait for ever (repl_set_config.cpp, isImplicitDefaultWriteConcernMajority). `target` counted with its vote, or without. */
static bool waits_for_majority(const bson_t *config, const char *target, bool votes)
{
    bson_iter_t members;
    bson_t one;
    int64_t voters = votes, data = votes;
    for (bool more = mg_each(config, "members", &members); more && mg_next(&members, &one);)
        if (mg_int(&one, "votes", 1) > 0 && strcmp(mg_str(&one, "host"), target) != 0) {
            voters++;
            data += !mg_flag(&one, "arbiterOnly");
        }
    return voters == data || data > voters / 2 + 1;
}

/* A reconfig that would change that is refused, also by force, until somebody has said what is to be waited for. */
static void check_default_write_concern(struct co_call *call, const struct mg_state *state, struct co_conn *conn,
                                        const char *target, int side)
{
    MG_REPLY(reply);
    if (state->major < 5 ||
        waits_for_majority(&state->config, target, false) == waits_for_majority(&state->config, target, true))
        return;
    bson_t *command = BCON_NEW("getDefaultRWConcern", BCON_INT32(1));
    enum co_result result = mg_command(call, conn, "admin", command, false, &reply, NULL);
    bson_destroy(command);
    if (result == CO_DONE && strcmp(mg_str(&reply, "defaultWriteConcernSource"), "global") == 0)
        return;
    mg_report(
        call, "default_write_concern", result == CO_DONE ? CO_ERROR : CO_WARNING, side,
        result == CO_DONE
            ? "as arbiters vote, the target's vote would change what writes wait for by default: the server refuses such a "
              "reconfig while no default write concern is set"
            : "as arbiters vote, the target's vote would change what writes wait for by default: the server refuses such a "
              "reconfig unless a default write concern is set, which the tool's account can't see",
        "Say what writes are to wait for: db.adminCommand({setDefaultRWConcern: 1, defaultWriteConcern: {w: "
        "\"majority\"}}).");
}

/* A write concern made of tags can wait for ever where the target has none of them. */
static void check_tags(struct co_call *call, const struct mg_state *state, const char *target, int side)
{
    bson_iter_t members;
    bson_t modes, one, tags;
    if (!mg_sub(&state->config, "settings.getLastErrorModes", &modes) || bson_empty(&modes))
        return;
    for (bool more = mg_each(&state->config, "members", &members); more && mg_next(&members, &one);)
        if (strcmp(mg_str(&one, "host"), target) == 0 && mg_sub(&one, "tags", &tags) && !bson_empty(&tags))
            return;
    mg_report(
        call, "write_concern_tags", CO_WARNING, side,
        "the replica set has write concerns made of tags, and the target has no tags: such writes may wait for ever after the "
        "cutover",
        "Give the target the source's tags (rs.reconfig()) after setup.");
}

static bool is_local_name(const char *host)
{
    return strncmp(host, "localhost", 9) == 0 || strncmp(host, "127.", 4) == 0 || strncmp(host, "[::1]", 5) == 0;
}

static void check_members(struct co_call *call, const struct mg_state *state, int side, const char *target)
{
    bson_iter_t members;
    bson_t one;
    struct mg_member target_member, mine;
    size_t local = 0, all = 0;
    mg_find_member(&state->config, target, &target_member);
    mg_find_member(&state->config, state->me, &mine);
    if (mg_voters(&state->config, NULL) >= 7 && !(target_member.index >= 0 && target_member.votes > 0))
        mg_report(call, "too_many_voters", CO_ERROR, side,
                  "the replica set has seven voting members: the target can't get a vote", "Take one member's vote.");
    for (bool more = mg_each(&state->config, "members", &members); more && mg_next(&members, &one); all++) {
        const char *host = mg_str(&one, "host");
        local += is_local_name(host);
        if (strcmp(host, target) == 0)
            check_target_member(call, &one, mine.priority, side);
        else if (strcmp(host, state->me) != 0)
            check_other_member(call, state, &one, side);
    }
    if (target_member.index < 0 && all > 0 && (local > 0) != is_local_name(target))
        mg_report(call, "localhost_names", CO_ERROR, side,
                  local > 0
                      ? "the replica set's members are named by loopback addresses: a member on another machine can't find them"
                      : "the target would be named by a loopback address: the other members couldn't find it",
                  local > 0 ? "Rename the members to names that every machine resolves (rs.reconfig())."
                            : "Set `peer: {address: ...}` of that side to a name that every machine resolves.");
    check_tags(call, state, target, side);
}

/* ---------------------------------------------------------------- oplog */

static enum co_result first_entry(struct co_call *call, struct co_conn *conn, uint32_t *ret_seconds)
{
    MG_REPLY(reply);
    bson_iter_t at, found;
    uint32_t increment;
    bson_t *command = BCON_NEW("find", BCON_UTF8("oplog.rs"), "sort", "{", "$natural", BCON_INT32(1), "}", "limit",
                               BCON_INT32(1), "singleBatch", BCON_BOOL(true));
    enum co_result result = mg_command(call, conn, "local", command, false, &reply, NULL);
    bson_destroy(command);
    *ret_seconds = 0;
    if (result == CO_DONE && bson_iter_init(&at, &reply) && bson_iter_find_descendant(&at, "cursor.firstBatch.0.ts", &found) &&
        BSON_ITER_HOLDS_TIMESTAMP(&found))
        bson_iter_timestamp(&found, ret_seconds, &increment);
    return result;
}

/* A copy that takes longer than the oplog goes back can't be completed; nor can the old primary come back after that long. */
static void check_oplog(struct co_call *call, const struct mg_state *state, struct co_conn *conn, int side, int64_t data_bytes)
{
    MG_REPLY(reply);
    MG_DOC(command);
    char message[400];
    uint32_t first = 0;
    BSON_APPEND_UTF8(&command, "collStats", "oplog.rs");
    if (mg_command(call, conn, "local", &command, false, &reply, NULL) != CO_DONE ||
        first_entry(call, conn, &first) != CO_DONE || first == 0 || state->applied.seconds < first) {
        mg_report(call, "oplog_unknown", CO_WARNING, side, "how far the oplog goes back can't be seen with the tool's account",
                  "Grant it what `changeover init --grants` prints.");
        return;
    }
    int64_t size = mg_int(&reply, "size", 0), max = mg_int(&reply, "maxSize", 0);
    /* entries have whole seconds: those of one second go back one, not none */
    int64_t window_s = state->applied.seconds - first + 1;
    if (size > 0 && max > size) /* not full yet: what it will hold at this pace */
        window_s = (int64_t)((double)window_s * ((double)max / (double)size));
    int64_t copy_s = data_bytes > 0 ? data_bytes / SLOW_COPY_BYTES_S : 0;
    snprintf(message, sizeof message,
             "the oplog (%" PRId64 " MB) goes back %" PRId64 ".%" PRId64 " h at the present pace; %s%" PRId64 " MB",
             max / 1000000, window_s / 3600, window_s % 3600 / 360,
             data_bytes >= 0 ? "data: " : "data unknown: ", data_bytes >= 0 ? data_bytes / 1000000 : 0);
    bool is_short = window_s < SHORTEST_WINDOW_S || window_s < 2 * copy_s;
    mg_report(call, "oplog_window", is_short ? CO_WARNING : CO_INFO, side, message,
              is_short ? "Make it larger: db.adminCommand({replSetResizeOplog: 1, size: <MB>}) on every member." : "");
}

/* ---------------------------------------------------------------- what runs */

static void check_operations(struct co_call *call, struct co_conn *conn, int side)
{
    MG_REPLY(reply);
    MG_DOC(command);
    bson_iter_t list;
    bson_t one;
    int64_t count = 0, longest = 0;
    char what[200] = "", message[500];
    BSON_APPEND_INT32(&command, "currentOp", 1);
    if (mg_command(call, conn, "admin", &command, false, &reply, NULL) != CO_DONE) {
        mg_report(call, "operations_unknown", CO_WARNING, side, "what runs on the source can't be seen with the tool's account",
                  "Grant it what `changeover init --grants` prints.");
        return;
    }
    for (bool more = mg_each(&reply, "inprog", &list); more && mg_next(&list, &one);) {
        bool in_transaction = mg_int(&one, "transaction.timeOpenMicros", 0) > 0;
        int64_t seconds =
            in_transaction ? mg_int(&one, "transaction.timeOpenMicros", 0) / 1000000 : mg_int(&one, "secs_running", 0);
        const char *op = mg_str(&one, "op");
        if (seconds < LONG_S || (!in_transaction && (!*mg_str(&one, "client") || strcmp(op, "getmore") == 0)))
            continue; /* the server's own threads, and cursors that members and change streams wait on */
        count++;
        if (seconds < longest)
            continue;
        longest = seconds;
        snprintf(what, sizeof what, "%s%.40s on %.100s", in_transaction ? "a transaction, " : "", op, mg_str(&one, "ns"));
    }
    if (count == 0)
        return;
    snprintf(message, sizeof message,
             "%" PRId64 " operations of clients run for more than %d s, the longest for %" PRId64
             " s (%s): a step-down or a write block waits for them or ends them, index builds in any case",
             count, LONG_S, longest, what);
    mg_report(call, "long_operation", CO_WARNING, side, message, "Let them end before the cutover, or end them (db.killOp()).");
}

void mg_check_set(struct co_call *call, const struct mg_state *state, struct co_conn *conn, const struct mg_check_sides *sides,
                  int64_t data_bytes)
{
    char source[320], target[320];
    mg_member_name(call, sides->source, source, sizeof source);
    mg_member_name(call, sides->target, target, sizeof target);
    check_majority(call, state, (int)sides->source, source, target);
    check_members(call, state, (int)sides->source, target);
    check_default_write_concern(call, state, conn, target, (int)sides->source);
    check_oplog(call, state, conn, (int)sides->source, data_bytes);
    if (sides->stage == CO_CHECK_CUTOVER)
        check_operations(call, conn, (int)sides->source);
}

/* ---------------------------------------------------------------- disk */

static void report_disk(struct co_call *call, enum co_side side, int64_t free_bytes, int64_t needed, bool copied)
{
    char message[300];
    snprintf(message, sizeof message, "%" PRId64 " MB are free on the target's disk, %s takes %" PRId64 " MB",
             free_bytes / 1000000, copied ? "what should be kept free for writes" : "the copy", needed / 1000000);
    if (free_bytes < needed)
        mg_report(call, "disk_space", copied ? CO_WARNING : CO_ERROR, (int)side, message, "Make room on the target's dbPath.");
}

/* With commands on the target's machine: `df` on its data directory. */
static int64_t free_by_df(struct co_call *call, enum co_side side)
{
    const char *directory = call->host->side_option(call->ctx, side, "host.data_directory");
    const char *argv[] = {"df", "-P", "-B1", "--", directory, NULL};
    const struct co_command command = {.size = sizeof command, .side = side, .argv = argv};
    struct co_text *out = call->host->text_new(call->ctx), *said = call->host->text_new(call->ctx);
    struct co_error ignored = {0};
    int status = 1;
    long long total, used, left;
    if (!directory || !call->host->endpoint(call->ctx, side)->has_host || !out || !said ||
        call->host->run(call->ctx, &command, call->deadline_ns, &status, out, said, &ignored) != CO_DONE || status != 0)
        return -1;
    const char *text = call->host->text_get(call->ctx, out, NULL), *line = text ? strchr(text, '\n') : NULL;
    return line && sscanf(line + 1, "%*s %lld %lld %lld", &total, &used, &left) == 3 ? (int64_t)left : -1;
}

void mg_check_disk(struct co_call *call, struct co_conn *conn, const struct mg_check_sides *sides, bool copied,
                   int64_t data_bytes)
{
    MG_REPLY(reply);
    MG_DOC(command);
    int64_t left = -1, total = -1;
    BSON_APPEND_INT32(&command, "dbStats", 1);
    if (conn && !conn->anonymous && mg_command(call, conn, "local", &command, false, &reply, NULL) == CO_DONE) {
        total = mg_int(&reply, "fsTotalSize", -1); /* 3.6.3 on */
        left = total >= 0 ? total - mg_int(&reply, "fsUsedSize", total) : -1;
    }
    if (left < 0)
        left = free_by_df(call, sides->target);
    if (left < 0)
        mg_report(call, "disk_unknown", CO_INFO, (int)sides->target, "how much room the target's disk has can't be seen",
                  "Configure `host` of that side with `data_directory`, or look yourself.");
    else
        report_disk(call, sides->target, left, copied ? GIB : (data_bytes > 0 ? data_bytes + data_bytes / 5 : 0) + GIB, copied);
}
