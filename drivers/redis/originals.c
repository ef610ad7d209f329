/* originals.c - what several steps share: settings as they were, the servers' addresses for each other, and the
 * transactions that close and reopen a server.
 *
 * Invariant: our own value of a setting is never taken for the server's original, whatever a run before left in place.
 */
#include "rd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PING_SUSPENDED_S 3600

static char *note_key(const char *setting)
{
    char *key;

    return asprintf(&key, "original.%s", setting) < 0 ? NULL : key;
}

const char *rd_original(struct co_call *call, enum co_side side, const char *setting)
{
    RD_TEXT key = note_key(setting);
    const char *value = NULL;

    if (key && call->run)
        value = call->host->note_get(call->ctx, CO_NOTE_RUN, side, key);
    if (key && !value)
        value = call->host->note_get(call->ctx, CO_NOTE_PAIR, side, key);
    if (value)
        return value;
    return strcmp(setting, "min-replicas-to-write") == 0 ? "0" : "10";
}

static void note(struct co_call *call, const char *setting, const char *value)
{
    RD_TEXT key = note_key(setting);

    if (!key)
        return;
    if (call->run) /* travels in the marker: whoever takes the run over elsewhere has it */
        (void)call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, key, value);
    (void)call->host->note_put(call->ctx, CO_NOTE_PAIR, call->side, key, value);
}

static void keep(struct co_call *call, const char *setting)
{
    RD_TEXT key = note_key(setting);
    const char *value = key ? call->host->note_get(call->ctx, CO_NOTE_PAIR, call->side, key) : NULL;
    RD_TEXT copy = value ? strdup(value) : NULL;

    if (copy && call->run)
        (void)call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, key, copy);
}

const char *rd_original_fsync(struct co_call *call)
{
    return call->run ? call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "original.appendfsync") : NULL;
}

/* With everysec the server answers before it has written, while an fsync is under way on another thread (aof.c,
 * flushAppendOnlyFile): kill -9 then loses acknowledged writes. With always it writes and syncs before the reply to
 * this transaction, what was pending included. In memory only: it comes after CONFIG REWRITE. */
void rd_out_fsync(struct co_call *call, struct co_conn *conn)
{
    if (rd_original_fsync(call))
        rd_out(conn, "CONFIG", "SET", "appendfsync", "always", NULL);
}

void rd_out_fsync_back(struct co_call *call, struct co_conn *conn)
{
    if (rd_original_fsync(call))
        rd_out(conn, "CONFIG", "SET", "appendfsync", rd_original_fsync(call), NULL);
}

void rd_note_originals(struct co_call *call, const struct rd_state *state, const char *ping_period, const char *fsync)
{
    char text[24];
    int64_t period;

    if (state->min_replicas >= 0 && state->min_replicas < RD_FENCE) {
        (void)snprintf(text, sizeof(text), "%lld", (long long)state->min_replicas);
        note(call, "min-replicas-to-write", text);
        (void)snprintf(text, sizeof(text), "%lld", (long long)state->max_lag);
        note(call, "min-replicas-max-lag", text);
    } else {
        keep(call, "min-replicas-to-write");
        keep(call, "min-replicas-max-lag");
    }
    if (ping_period && rd_parse_int(ping_period, strlen(ping_period), &period) && period < PING_SUSPENDED_S)
        note(call, "repl-ping-replica-period", ping_period);
    else
        keep(call, "repl-ping-replica-period");
    if (call->run && fsync && strcmp(fsync, "always") != 0 && !rd_original_fsync(call))
        (void)call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, "original.appendfsync", fsync);
}

bool rd_peer(struct co_call *call, enum co_side side, const char **ret_host, char ret_port[16])
{
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, side);
    const char *host = endpoint->peer_address ? endpoint->peer_address : endpoint->address;
    int port = endpoint->peer_port > 0 ? endpoint->peer_port : endpoint->port > 0 ? endpoint->port : 6379;

    if (!host || host[0] == '/') {
        (void)rd_fail(call, CO_NO_EFFECT, CO_E_CONFIG, "Set peer: {address: \"host:port\"} on that side.",
                      "side %s is reached over a socket path, so the other server doesn't know its address",
                      side == CO_SIDE_A ? "a" : "b");
        return false;
    }
    *ret_host = host;
    (void)snprintf(ret_port, 16, "%d", port);
    return true;
}

void rd_out_close(struct co_conn *conn, const struct rd_state *state)
{
    rd_out(conn, "CONFIG", "SET", "min-replicas-to-write", RD_FENCE_TEXT, NULL);
    if (state->max_lag <= 0) /* 0 switches the refusal off */
        rd_out(conn, "CONFIG", "SET", "min-replicas-max-lag", "10", NULL);
    rd_out_take_rights(conn, state);
}

void rd_out_reopen(struct co_call *call, struct co_conn *conn, const struct rd_state *state)
{
    rd_out(conn, "CONFIG", "SET", "min-replicas-to-write", rd_original(call, call->side, "min-replicas-to-write"), NULL);
    rd_out(conn, "CONFIG", "SET", "min-replicas-max-lag", rd_original(call, call->side, "min-replicas-max-lag"), NULL);
    rd_out_give_rights(conn, state);
}

/* A transaction in which CONFIG REWRITE failed has set what it should, until the next restart. Kept over runs and processes,
 * so that whoever ends the run knows. */
static void note_written(struct co_call *call, bool written)
{
    if (!written)
        (void)call->host->note_put(call->ctx, CO_NOTE_PAIR, call->side, "unwritten", "yes");
    else if (rd_is_unwritten(call))
        (void)call->host->note_put(call->ctx, CO_NOTE_PAIR, call->side, "unwritten", "no");
}

bool rd_is_unwritten(struct co_call *call)
{
    const char *note = call->host->note_get(call->ctx, CO_NOTE_PAIR, call->side, "unwritten");

    return note && strcmp(note, "yes") == 0;
}

enum co_result rd_change(struct co_call *call, const char *what)
{
    RD_REPLIES(replies);
    enum co_result result = rd_exec(call, call->conn, true, what, &replies);
    bool failed = result == CO_DONE && rd_exec_failed(call, &replies, what);

    if (result == CO_DONE)
        note_written(call, !failed);
    return failed ? CO_EFFECT_UNKNOWN : result; /* the rest of the transaction was done */
}

bool rd_replication_login(struct co_call *call, enum co_side side, const char **ret_user, const char **ret_password)
{
    enum co_side other = side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A;
    const char *password = call->host->secret(call->ctx, other, CO_SECRET_REPLICATION);
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, other);

    if (password) {
        *ret_user = call->host->secret_user(call->ctx, CO_SECRET_REPLICATION);
        *ret_password = password;
        return true;
    }
    /* requirepass: there is one password and no user, so the tool's is the replicas' too */
    password = call->host->secret(call->ctx, other, CO_SECRET_PASSWORD);
    if (!password || (endpoint->user && *endpoint->user && strcmp(endpoint->user, "default") != 0))
        return false;
    *ret_user = NULL;
    *ret_password = password;
    return true;
}
