/* fence.c - the source: prepare, fence, drain, capture, proof; and the proof of the target.
 *
 * The fence is min-replicas-to-write 999 with max-lag above 0: from the transaction on every write of every client is
 * refused (-NOREPLICAS), scripts of 7.0 and later and transactions that were queued before included, new sessions
 * too; CONFIG REWRITE in the same transaction makes a restart come up fenced. CLIENT PAUSE WRITE is added so that
 * expiry and eviction don't move the offset, which keeps the way back a partial resync; nothing relies on it: when
 * it ends early, what it held back meets the fence. Pings are suspended for the same reason, in memory only.
 *
 * The first command of the transaction writes the run's token to a key: the last write of this history. It comes
 * back only if everything before it does, which is how a restarted source shows that it lost nothing.
 *
 * In the same transaction the append-only file is synced: a killed source comes back with all that was captured.
 *
 * Invariant (proof): between capture and proof no command that writes was executed: the server's own counters
 * of calls to write commands (INFO commandstats) stand still, in the same process (run_id) with the fence in force.
 * Offsets don't prove that: pings and expiry move them.
 */
#include "rd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- prepare */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_write(const redisReply *command)
{
    if (command->type != REDIS_REPLY_ARRAY || command->elements < 3 || command->element[2]->type != REDIS_REPLY_ARRAY)
        return false;
    for (size_t at = 0; at < command->element[2]->elements; at++) {
        if (strcmp(rd_text(command->element[2]->element[at]), "write") == 0)
            return true;
    }
    return false;
}

/* From 7.0 a flat list; COMMAND itself nests deeper there than hiredis 0.14 reads. */
static enum co_result learn_write_commands(struct co_call *call, struct co_conn *conn)
{
    RD_REPLIES(replies);
    bool flat = conn->version.compatible >= 700;
    const redisReply *list;
    enum co_result result;

    if (conn->write_command_count > 0)
        return CO_DONE;
    if (flat)
        rd_out(conn, "COMMAND", "LIST", "FILTERBY", "ACLCAT", "write", NULL);
    else
        rd_out(conn, "COMMAND", NULL);
    result = rd_one(call, conn, false, "the server's commands can't be listed", &replies);
    if (result != CO_DONE)
        return result;
    list = replies.reply[0];
    conn->write_commands = calloc(list->elements + 1, sizeof(*conn->write_commands));
    if (!conn->write_commands)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    for (size_t at = 0; at < list->elements; at++) {
        const redisReply *item = list->element[at];
        const char *name = flat ? rd_text(item) : is_write(item) ? rd_text(item->element[0]) : "";

        if (!*name)
            continue;
        conn->write_commands[conn->write_command_count] = strdup(name);
        if (!conn->write_commands[conn->write_command_count])
            return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
        conn->write_command_count++;
    }
    qsort(conn->write_commands, conn->write_command_count, sizeof(*conn->write_commands), compare_names);
    return CO_DONE;
}

static void note_role(struct co_call *call, const struct rd_state *state)
{
    RD_TEXT master = NULL;

    if (!call->run)
        return;
    if (!call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "closed_before"))
        (void)call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, "closed_before", rd_state_fenced(state) ? "yes" : "no");
    if (!state->primary && asprintf(&master, "%s %lld", state->master_host, (long long)state->master_port) >= 0)
        (void)call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, "master_before", master);
}

enum co_result rd_prepare(struct co_call *call)
{
    RD_STATE(state);
    RD_REPLIES(replies);
    const char *period, *aof;
    enum co_result result = rd_take_name(call);

    if (result == CO_DONE)
        result = rd_look(call, call->conn, RD_LOOK_ALL, &state);
    if (result == CO_DONE)
        result = learn_write_commands(call, call->conn);
    if (result != CO_DONE)
        return result;
    if (!state.config_known)
        return rd_fail(call, CO_NO_EFFECT, CO_E_PRIVILEGE, "Grant the account what docs/redis.md lists.",
                       "CONFIG GET is refused");
    rd_out(call->conn, "CONFIG", "GET", "repl-ping-replica-period", NULL);
    rd_out(call->conn, "CONFIG", "GET", "appendonly", NULL);
    rd_out(call->conn, "CONFIG", "GET", "appendfsync", NULL);
    result = rd_one(call, call->conn, false, "CONFIG GET is refused", &replies);
    if (result != CO_DONE)
        return result;
    period = rd_config_value(replies.reply[0], "repl-ping-replica-period");
    aof = rd_config_value(replies.reply[1], "appendonly");
    rd_note_originals(call, &state, period,
                      aof && strcmp(aof, "yes") == 0 ? rd_config_value(replies.reply[2], "appendfsync") : NULL);
    note_role(call, &state);
    if (!rd_state_fenced_partly(&state)) {
        result = rd_rights_try(call, &state);
        if (result != CO_DONE)
            return result;
    }
    if (!rd_alive(call->conn->probe)) { /* without it probe_write connects when it is called */
        rd_disconnect(call->conn->probe);
        call->conn->probe = NULL;
        if (rd_open_probe(call, &call->conn->probe) != CO_DONE)
            call->host->trace(call->ctx, "redis: no probe session beforehand: %s", call->err->message);
    }
    return CO_DONE;
}

/* ---------------------------------------------------------------- fence */

static const char *pause_ms(struct co_call *call)
{
    const char *value = call->host->option(call->ctx, "pause");

    int64_t ms; /* the core hands configured durations out in ms, a default as it stands in the table */

    return value && rd_parse_int(value, strlen(value), &ms) ? value : "60000";
}

static bool can_pause(const struct co_conn *conn)
{
    return conn->version.compatible >= 602; /* before, CLIENT PAUSE would hold back our own commands too */
}

/* A server that somebody else had closed before the run isn't ours to open when the run is undone; and what prepare()
 * never saw was never fenced by this run. */
static bool fence_wanted(struct co_call *call)
{
    const char *before;

    if (!call->run)
        return true; /* a plan */
    before = call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "closed_before");
    return before && strcmp(before, "no") == 0;
}

static enum co_result fence_describe(struct co_call *call, struct co_text *ret)
{
    RD_STATE(state);
    enum co_result result = call->conn ? rd_look(call, call->conn, RD_LOOK_REPLICATION, &state) : CO_DONE;

    if (result != CO_DONE)
        return result;
    call->host->text_set(call->ctx, ret, "", 0);
    call->host->text_add(call->ctx, ret,
                         "MULTI\nSET " RD_FENCE_KEY " <token of the run>\nCONFIG SET min-replicas-to-write " RD_FENCE_TEXT "\n"
                         "CONFIG SET min-replicas-max-lag 10 (where it is 0)\n");
    if (call->conn)
        rd_rights_describe(call, &state, false, ret);
    call->host->text_add(call->ctx, ret, "CONFIG REWRITE\n%sCONFIG SET repl-ping-replica-period 3600\n",
                         state.acl_file ? "ACL SAVE\n" : "");
    if (rd_original_fsync(call))
        call->host->text_add(call->ctx, ret, "CONFIG SET appendfsync always\n");
    if (!call->conn || can_pause(call->conn))
        call->host->text_add(call->ctx, ret, "CLIENT PAUSE %s WRITE\n", pause_ms(call));
    call->host->text_add(call->ctx, ret, "EXEC");
    return CO_DONE;
}

static enum co_result fence_probe(struct co_call *call, enum co_presence *ret)
{
    RD_STATE(state);
    enum co_result result = rd_look(call, call->conn, RD_LOOK_REPLICATION, &state);

    if (result != CO_DONE)
        return result;
    if (!state.config_known)
        return rd_fail(call, CO_NO_EFFECT, CO_E_PRIVILEGE, "Grant the account what docs/redis.md lists.",
                       "CONFIG GET is refused");
    *ret = rd_state_fenced(&state) ? CO_PRESENT : rd_state_fenced_partly(&state) ? CO_PARTIAL : CO_ABSENT;
    return CO_DONE;
}

static enum co_result fence_once(struct co_call *call, const struct rd_state *state, bool with_key)
{
    struct co_conn *conn = call->conn;

    rd_out(conn, "MULTI", NULL);
    if (with_key)
        rd_out(conn, "SET", RD_FENCE_KEY, call->run->token, NULL);
    rd_out_close(conn, state);
    rd_out_persist(conn, state);
    rd_out(conn, "CONFIG", "SET", "repl-ping-replica-period", "3600", NULL); /* not in the file: after the rewrite */
    rd_out_fsync(call, conn);
    if (can_pause(conn))
        rd_out(conn, "CLIENT", "PAUSE", pause_ms(call), "WRITE", NULL);
    return rd_change(call, "the fence can't be set");
}

static enum co_result fence_apply(struct co_call *call)
{
    RD_STATE(state);
    enum co_result result = rd_guard(call, &state);
    bool again;

    if (result != CO_DONE)
        return result;
    if (!state.primary)
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "`changeover status` shows both sides.",
                       "the server is a replica of %s:%lld, not the primary", state.master_host, (long long)state.master_port);
    /* already fenced: a write of ours would be refused, or held back by the pause */
    again = state.min_replicas >= RD_FENCE;
    result = fence_once(call, &state, !again);
    /* a server that takes no writes at all (maxmemory, failing saves) is fenced without the last write */
    if (result == CO_NO_EFFECT && !again && (call->err->code == CO_E_REFUSED || call->err->code == CO_E_PRIVILEGE) &&
        rd_alive(call->conn))
        result = fence_once(call, &state, false);
    return result;
}

static enum co_result fence_revert(struct co_call *call)
{
    RD_STATE(state);
    enum co_result result = rd_guard(call, &state);

    if (result != CO_DONE)
        return result;
    if (!state.primary)
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "`changeover status` shows both sides.",
                       "the server is a replica of %s:%lld: there is no fence to take back", state.master_host,
                       (long long)state.master_port);
    rd_out(call->conn, "MULTI", NULL);
    rd_out_reopen(call, call->conn, &state);
    rd_out(call->conn, "CONFIG", "SET", "repl-ping-replica-period", rd_original(call, call->side, "repl-ping-replica-period"),
           NULL);
    rd_out_fsync_back(call, call->conn);
    rd_out_persist(call->conn, &state);
    if (can_pause(call->conn))
        rd_out(call->conn, "CLIENT", "UNPAUSE", NULL);
    /* the last write's key stays until the marker goes: whoever resumes the undo must still see that nothing is lost */
    return rd_change(call, "the fence can't be taken back");
}

/* ---------------------------------------------------------------- drain */

/* Before 6.0 EXEC of commands that were queued before the fence isn't refused: such sessions are the writes in
 * flight. Counts them, ends them with `end`, names the first ones. */
static size_t queued_sessions(struct co_call *call, const char *list, bool end, struct co_text *remaining)
{
    size_t count = 0;

    while (*list) {
        const char *line = list, *stop = strchr(line, '\n'), *value;
        size_t bytes = stop ? (size_t)(stop - line) : strlen(line), value_bytes;
        int64_t multi = 0, id = 0;
        char text[24];

        list = stop ? stop + 1 : line + bytes;
        if (!rd_field(line, bytes, ' ', "multi", &value, &value_bytes) || !rd_parse_int(value, value_bytes, &multi) ||
            multi < 1 || !rd_field(line, bytes, ' ', "id", &value, &value_bytes) || !rd_parse_int(value, value_bytes, &id))
            continue;
        if (count < 8)
            call->host->text_add(call->ctx, remaining, "%ssession %lld (%lld commands in MULTI)", count ? ", " : "",
                                 (long long)id, (long long)multi);
        (void)snprintf(text, sizeof(text), "%lld", (long long)id);
        if (end && call->conn->pending < RD_MAX_REPLIES)
            rd_out(call->conn, "CLIENT", "KILL", "ID", text, NULL);
        count++;
    }
    return count;
}

enum co_result rd_drain(struct co_call *call, bool end, struct co_text *remaining)
{
    RD_STATE(state);
    RD_REPLIES(replies);
    enum co_result result = rd_look(call, call->conn, RD_LOOK_REPLICATION, &state);

    if (result != CO_DONE)
        return result;
    if (!rd_state_fenced(&state))
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "Somebody took it down: find out who.", "the fence is not in force");
    /* One thread executes commands: what ran when the fence fell had ended, and what came later was refused. */
    if (call->conn->version.compatible >= 600)
        return CO_DONE;
    rd_out(call->conn, "CLIENT", "LIST", NULL);
    result = rd_one(call, call->conn, false, "the sessions can't be listed", &replies);
    if (result != CO_DONE)
        return result;
    {
        RD_REPLIES(killed);

        if (queued_sessions(call, rd_text(replies.reply[0]), end, remaining) == 0)
            return CO_DONE;
        if (end && rd_exchange(call, call->conn, true, &killed) != CO_DONE)
            return CO_EFFECT_UNKNOWN;
    }
    return CO_AGAIN;
}

/* ---------------------------------------------------------------- capture, proof */

/* Everything that evidence is made of, at one instant. */
static enum co_result gather(struct co_call *call, struct rd_state *state, int64_t *ret_calls)
{
    RD_REPLIES(replies);
    RD_TEXT info = NULL;
    bool rights = rd_rights_needed(&call->conn->version);
    enum co_result result = learn_write_commands(call, call->conn);
    redisReply **part;
    const char *to_write, *lag;

    if (result != CO_DONE)
        return result;
    rd_out(call->conn, "MULTI", NULL);
    rd_out(call->conn, "INFO", "server", NULL);
    rd_out(call->conn, "INFO", "replication", NULL);
    rd_out(call->conn, "INFO", "commandstats", NULL);
    rd_out(call->conn, "CONFIG", "GET", "min-replicas-*", NULL);
    rd_out(call->conn, "GET", RD_FENCE_KEY, NULL);
    if (rights)
        rd_out(call->conn, "ACL", "LIST", NULL);
    result = rd_exec(call, call->conn, false, "the final position can't be read", &replies);
    if (result != CO_DONE)
        return result;
    part = replies.exec->element;
    if (asprintf(&info, "%s\n%s", rd_text(part[0]), rd_text(part[1])) < 0) {
        info = NULL;
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    }
    if (rd_state_parse(state, info) != 0)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    to_write = rd_config_value(part[3], "min-replicas-to-write");
    lag = rd_config_value(part[3], "min-replicas-max-lag");
    state->config_known = to_write && lag && rd_parse_int(to_write, strlen(to_write), &state->min_replicas) &&
                          rd_parse_int(lag, strlen(lag), &state->max_lag);
    state->fence_key = strdup(rd_text(part[4]));
    if (rights && part[5]->type == REDIS_REPLY_ARRAY)
        state->users = rd_rights_join(part[5]);
    if (!state->fence_key || (rights && part[5]->type == REDIS_REPLY_ARRAY && !state->users))
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    state->rights = rd_rights_judge(call->conn, state->users);
    *ret_calls = rd_write_calls(rd_text(part[2]), call->conn->write_commands, call->conn->write_command_count);
    if (*ret_calls < 0)
        return rd_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "Allow INFO commandstats.",
                       "the server shows no statistics of its commands, so nothing could be proven");
    if (!state->primary)
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "`changeover status` shows both sides.",
                       "the server is a replica of %s:%lld, not the primary", state->master_host,
                       (long long)state->master_port);
    if (!rd_state_fenced(state))
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "Somebody took it down: find out who.", "the fence is not in force");
    return CO_DONE;
}

enum co_result rd_capture(struct co_call *call, struct co_text *ret)
{
    RD_STATE(state);
    RD_TEXT position = NULL;
    RD_TEXT note = NULL;
    int64_t calls;
    enum co_result result = gather(call, &state, &calls);

    if (result != CO_DONE)
        return result;
    position = rd_position_text(&state);
    if (!position || asprintf(&note, "%s %s %lld", state.run_id, state.replid, (long long)calls) < 0) {
        note = NULL;
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    }
    if (call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, "captured", note) != 0 ||
        call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, "position", position) != 0)
        return rd_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "the captured state can't be noted");
    call->host->text_set(call->ctx, ret, position, strlen(position));
    return CO_DONE;
}

static enum co_result prove_source(struct co_call *call, const struct rd_position *captured)
{
    RD_STATE(state);
    const char *note = call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "captured");
    RD_TEXT before = note ? strdup(note) : NULL;
    int64_t calls, calls_before;
    enum co_result result;

    if (!before || strlen(before) < 83 || !rd_parse_int(before + 82, strlen(before + 82), &calls_before))
        return rd_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "nothing was captured to compare with");
    result = gather(call, &state, &calls);
    if (result != CO_DONE)
        return result;
    if (strncmp(before, state.run_id, 40) != 0)
        return rd_fail(call, CO_NO_EFFECT, CO_E_MISMATCH, "", "the server was restarted since the final position was captured");
    if (strncmp(before + 41, state.replid, 40) != 0 || strcmp(state.replid, captured->replid) != 0)
        return rd_fail(call, CO_NO_EFFECT, CO_E_MISMATCH, "", "the server's replication id changed since the capture");
    if (calls != calls_before)
        return rd_fail(call, CO_NO_EFFECT, CO_E_DATA, "Somebody took the fence down meanwhile, or reset the statistics.",
                       "%lld write commands were executed since the final position was captured",
                       (long long)(calls - calls_before));
    if (state.offset < captured->offset)
        return rd_fail(call, CO_NO_EFFECT, CO_E_DATA, "", "the server is behind the captured position");
    return CO_DONE;
}

static enum co_result prove_target(struct co_call *call, const char *position)
{
    RD_STATE(state);
    RD_TEXT now = NULL;
    enum co_result result = rd_look(call, call->conn, RD_LOOK_ALL, &state);
    enum co_order order;

    if (result != CO_DONE)
        return result;
    if (!rd_state_fenced(&state))
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "Somebody opened it: find out who.", "the target is not closed");
    if (!state.primary && !state.read_only)
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "", "the target takes client writes (replica-read-only is no)");
    if (state.loading || state.syncing)
        return rd_fail(call, CO_NO_EFFECT, CO_E_STATE, "", "the target %s",
                       state.syncing ? "receives a full copy" : "loads its data");
    if (rd_new_apply_errors(call, call->side, &state) > 0)
        return rd_fail(call, CO_NO_EFFECT, CO_E_DATA, "See the target's log; set it up anew.",
                       "the target failed to apply %lld commands", (long long)rd_new_apply_errors(call, call->side, &state));
    now = rd_position_text(&state);
    if (!now)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    order = rd_compare(now, position);
    if (order != CO_ORDER_EQUAL && order != CO_ORDER_AHEAD)
        return rd_fail(call, CO_NO_EFFECT, CO_E_DATA, "", "the target is at %s, which doesn't contain %s", now, position);
    return CO_DONE;
}

enum co_result rd_proof(struct co_call *call, const char *position)
{
    struct rd_position captured;

    if (!rd_position_parse(position, &captured))
        return rd_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "'%s' is not a position", position);
    return call->role == CO_SOURCE ? prove_source(call, &captured) : prove_target(call, position);
}

const struct co_step rd_fence_steps[] = {
    {.size = sizeof(struct co_step),
     .name = "fence.refuse_writes",
     .title = "refuse writes: min-replicas-to-write " RD_FENCE_TEXT ", on disk, and pause expiry",
     .phase = CO_PHASE_FENCE,
     .role = CO_SOURCE,
     .wanted = fence_wanted,
     .describe = fence_describe,
     .probe = fence_probe,
     .apply = fence_apply,
     .revert = fence_revert},
};
const size_t rd_fence_step_count = sizeof(rd_fence_steps) / sizeof(*rd_fence_steps);
