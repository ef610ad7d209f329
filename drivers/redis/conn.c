/* conn.c - one session on a server: login, commands out, replies in, and the server's errors as ours.
 *
 * Invariant: a session names itself before it does anything else, so whoever takes a run over can see and end it
 * (marker.c builds on that). A failed exchange closes the socket: a server that is frozen may still execute what was
 * sent, which is why a changing exchange then answers CO_EFFECT_UNKNOWN, but no late reply can be misread.
 */
#include "rd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum co_result rd_fail(struct co_call *call, enum co_result result, int code, const char *hint, const char *format, ...)
{
    va_list args;

    call->err->code = code;
    (void)snprintf(call->err->hint, sizeof(call->err->hint), "%s", hint);
    va_start(args, format);
    (void)vsnprintf(call->err->message, sizeof(call->err->message), format, args);
    va_end(args);
    return result;
}

const char *rd_text(const redisReply *reply)
{
    return reply && (reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS) && reply->str ? reply->str : "";
}

const char *rd_config_value(const redisReply *reply, const char *name)
{
    if (!reply || reply->type != REDIS_REPLY_ARRAY)
        return NULL;
    for (size_t at = 0; at + 1 < reply->elements; at += 2) {
        if (strcmp(rd_text(reply->element[at]), name) == 0)
            return rd_text(reply->element[at + 1]);
    }
    return NULL;
}

/* ---------------------------------------------------------------- errors of the server */

static const struct {
    const char *prefix;
    int code;
    const char *hint;
} server_errors[] = {
    {"NOAUTH", CO_E_AUTH, "The server asks for a password: set password_file or password_env."},
    {"WRONGPASS", CO_E_AUTH, "Check user and password."},
    {"ERR invalid password", CO_E_AUTH, "Check the password."},
    {"ERR invalid username-password", CO_E_AUTH, "Check user and password."},
    {"ERR Client sent AUTH, but no password is set", CO_E_AUTH, "The server has no password: remove it from the config."},
    {"ERR AUTH <password> called without", CO_E_AUTH, "The server has no password: remove it from the config."},
    {"DENIED", CO_E_AUTH, "The server is in protected mode: give it a password or an ACL, or connect over loopback."},
    {"NOPERM", CO_E_PRIVILEGE, "Grant the account what docs/redis.md lists."},
    {"NOREPLICAS", CO_E_REFUSED, ""},
    {"READONLY", CO_E_REFUSED, ""},
    {"MISCONF", CO_E_REFUSED, "The server can't save its data set: look at its log and disk."},
    {"OOM", CO_E_REFUSED, "The server is at maxmemory."},
    {"LOADING", CO_E_STATE, "The server loads its data set: wait until it is done."},
    {"BUSY", CO_E_STATE, "A script runs on the server: wait, or end it with SCRIPT KILL or FUNCTION KILL."},
    {"MASTERDOWN", CO_E_STATE, ""},
    {"ERR max number of clients", CO_E_UNREACHABLE, "Raise maxclients or end some clients."},
    {"ERR unknown command", CO_E_UNSUPPORTED, "The command is renamed, forbidden or unknown to this version."},
};

void rd_error_of_reply(struct co_call *call, const redisReply *reply, const char *what)
{
    const char *text = reply && reply->str ? reply->str : "an unexpected reply";
    size_t word = strcspn(text, " ");
    int code = CO_E_SERVER;
    const char *hint = "Look at the server's log.";

    for (size_t at = 0; at < sizeof(server_errors) / sizeof(*server_errors); at++) {
        if (strncmp(text, server_errors[at].prefix, strlen(server_errors[at].prefix)) == 0) {
            code = server_errors[at].code;
            hint = server_errors[at].hint;
            break;
        }
    }
    (void)rd_fail(call, CO_NO_EFFECT, code, hint, "%s: %s", what, text);
    (void)snprintf(call->err->native, sizeof(call->err->native), "%.*s", (int)(word < 31 ? word : 31), text);
}

/* ---------------------------------------------------------------- commands out, replies in */

/* CONFIG GET shows passwords: nothing that a server said stays in memory that was given back. */
static void wipe(redisReply *reply)
{
    if (reply->str)
        explicit_bzero(reply->str, (size_t)reply->len);
    for (size_t at = 0; reply->type == REDIS_REPLY_ARRAY && at < reply->elements; at++) {
        if (reply->element[at])
            wipe(reply->element[at]);
    }
}

void rd_replies_done(struct rd_replies *replies)
{
    for (size_t at = 0; at < replies->count; at++) {
        wipe(replies->reply[at]);
        freeReplyObject(replies->reply[at]);
    }
    replies->count = 0;
    replies->exec = NULL;
}

void rd_break(struct co_conn *conn)
{
    rd_net_close(conn->net);
    conn->net = NULL;
    conn->broken = true;
    conn->out_bytes = 0;
    conn->pending = 0;
}

static bool out_append(struct co_conn *conn, const char *data, size_t bytes)
{
    if (conn->out_bytes + bytes > conn->out_capacity) {
        size_t capacity = (conn->out_bytes + bytes) * 2 + 512;
        char *grown = malloc(capacity);

        if (!grown)
            return false;
        if (conn->out) { /* not realloc: it would leave a copy of a password behind */
            memcpy(grown, conn->out, conn->out_bytes);
            explicit_bzero(conn->out, conn->out_capacity);
            free(conn->out);
        }
        conn->out = grown;
        conn->out_capacity = capacity;
    }
    memcpy(conn->out + conn->out_bytes, data, bytes);
    conn->out_bytes += bytes;
    return true;
}

void rd_out(struct co_conn *conn, const char *arg, ...)
{
    const char *argv[40];
    size_t argc = 0;
    va_list args;

    va_start(args, arg);
    for (const char *next = arg; next && argc < 40; next = va_arg(args, const char *))
        argv[argc++] = next;
    va_end(args);
    rd_out_list(conn, argc, argv);
}

void rd_out_list(struct co_conn *conn, size_t argc, const char **argv)
{
    char *line = NULL;
    long long bytes = redisFormatCommandArgv(&line, (int)argc, argv, NULL);

    if (bytes < 0 || !out_append(conn, line, (size_t)bytes))
        conn->nomem = true;
    if (line) {
        if (bytes > 0)
            explicit_bzero(line, (size_t)bytes);
        redisFreeCommand(line);
    }
    conn->pending++;
}

static enum co_result take_reply(struct co_call *call, struct co_conn *conn, redisReply **ret)
{
    char data[16384];

    for (;;) {
        int taken = rd_reader_take(conn->reader, ret);
        size_t bytes;
        enum co_result result;

        if (taken > 0)
            return CO_DONE;
        if (taken < 0)
            return rd_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "Check that the port is a Redis or Valkey server.",
                           "the server's reply is malformed or over %zu MiB", RD_MAX_REPLY_BYTES >> 20);
        result = rd_net_receive(call, conn->net, data, sizeof(data), &bytes);
        if (result != CO_DONE)
            return result;
        if (redisReaderFeed(conn->reader, data, bytes) != REDIS_OK)
            return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    }
}

enum co_result rd_exchange(struct co_call *call, struct co_conn *conn, bool changes, struct rd_replies *ret)
{
    size_t wanted = conn->pending;
    enum co_result result;

    rd_replies_done(ret);
    if (!conn->net)
        return rd_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "the connection is lost");
    if (conn->nomem || wanted > RD_MAX_REPLIES) {
        rd_break(conn);
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    }
    result = rd_net_send(call, conn->net, conn->out, conn->out_bytes);
    explicit_bzero(conn->out, conn->out_bytes);
    conn->out_bytes = 0;
    conn->pending = 0;
    while (result == CO_DONE && ret->count < wanted) {
        result = take_reply(call, conn, &ret->reply[ret->count]);
        if (result == CO_DONE)
            ret->count++;
    }
    if (conn->reader->buf && conn->reader->pos == conn->reader->len)
        explicit_bzero(conn->reader->buf, conn->reader->len);
    if (result == CO_DONE)
        return CO_DONE;
    /* the server's last word, such as "max number of clients reached", says more than "connection lost" */
    if (ret->count > 0 && call->err->code == CO_E_UNREACHABLE && ret->reply[ret->count - 1]->type == REDIS_REPLY_ERROR)
        rd_error_of_reply(call, ret->reply[ret->count - 1], "the server ended the session");
    rd_break(conn);
    rd_replies_done(ret);
    return changes ? CO_EFFECT_UNKNOWN : CO_NO_EFFECT;
}

bool rd_failed(struct co_call *call, const struct rd_replies *replies, const char *what)
{
    for (size_t at = 0; at < replies->count; at++) {
        if (replies->reply[at]->type == REDIS_REPLY_ERROR) {
            rd_error_of_reply(call, replies->reply[at], what);
            return true;
        }
    }
    return false;
}

bool rd_exec_failed(struct co_call *call, const struct rd_replies *replies, const char *what)
{
    for (size_t at = 0; replies->exec && at < replies->exec->elements; at++) {
        if (replies->exec->element[at]->type == REDIS_REPLY_ERROR) {
            rd_error_of_reply(call, replies->exec->element[at], what);
            return true;
        }
    }
    return false;
}

enum co_result rd_exec(struct co_call *call, struct co_conn *conn, bool changes, const char *what, struct rd_replies *ret)
{
    enum co_result result;
    redisReply *last;

    rd_out(conn, "EXEC", NULL);
    result = rd_exchange(call, conn, changes, ret);
    if (result != CO_DONE)
        return result;
    last = ret->reply[ret->count - 1];
    if (last->type == REDIS_REPLY_ARRAY && last->elements + 2 == ret->count) {
        ret->exec = last;
        return CO_DONE;
    }
    if (!rd_failed(call, ret, what)) /* the first error tells why; EXECABORT is the last */
        (void)rd_fail(call, CO_NO_EFFECT, CO_E_SERVER, "", "%s: the transaction was not executed", what);
    return CO_NO_EFFECT;
}

enum co_result rd_one(struct co_call *call, struct co_conn *conn, bool changes, const char *what, struct rd_replies *ret)
{
    enum co_result result = rd_exchange(call, conn, changes, ret);

    if (result == CO_DONE && rd_failed(call, ret, what))
        return CO_NO_EFFECT;
    return result;
}

/* ---------------------------------------------------------------- login */

static enum co_result log_in(struct co_call *call, struct co_conn *conn, const char *user, const char *password)
{
    RD_REPLIES(replies);

    if (!password || !*password) {
        if (!user || !*user)
            return CO_DONE;
        password = "";
    }
    if (user && *user)
        rd_out(conn, "AUTH", user, password, NULL);
    else
        rd_out(conn, "AUTH", password, NULL);
    return rd_one(call, conn, false, "login refused", &replies);
}

/* An ordinary account may be allowed little more than to write: its name is welcome, not needed. */
static enum co_result introduce_probe(struct co_call *call, struct co_conn *conn, const char *name)
{
    RD_REPLIES(replies);
    enum co_result result;

    rd_out(conn, "CLIENT", "SETNAME", name, NULL);
    result = rd_exchange(call, conn, false, &replies);
    if (result != CO_DONE)
        return result;
    if (replies.reply[0]->type == REDIS_REPLY_ERROR) {
        rd_error_of_reply(call, replies.reply[0], "login refused");
        if (call->err->code == CO_E_AUTH || call->err->code == CO_E_UNREACHABLE)
            return CO_NO_EFFECT;
    }
    conn->name = strdup(name);
    return conn->name ? CO_DONE : rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
}

/* The name first; what isn't known to older servers may fail. */
static enum co_result introduce(struct co_call *call, struct co_conn *conn, const char *name)
{
    RD_REPLIES(replies);
    enum co_result result;
    const char *field;
    size_t bytes;

    rd_out(conn, "CLIENT", "SETNAME", name, NULL);
    rd_out(conn, "CLIENT", "ID", NULL);
    rd_out(conn, "INFO", "server", NULL);
    rd_out(conn, "CLIENT", "INFO", NULL);           /* 6.2 */
    rd_out(conn, "CLIENT", "NO-EVICT", "ON", NULL); /* 7.0: maxmemory-clients doesn't end this session */
    result = rd_exchange(call, conn, false, &replies);
    if (result != CO_DONE)
        return result;
    for (size_t at = 0; at < 3; at++) {
        if (replies.reply[at]->type == REDIS_REPLY_ERROR) {
            rd_error_of_reply(call, replies.reply[at], at == 2 ? "INFO refused" : "CLIENT refused");
            return CO_NO_EFFECT;
        }
    }
    conn->client_id = replies.reply[1]->integer;
    rd_version_parse(rd_text(replies.reply[2]), &conn->version);
    if (conn->version.major == 0)
        return rd_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "Check the address.", "the server doesn't tell its version");
    if (rd_field(rd_text(replies.reply[3]), strlen(rd_text(replies.reply[3])), ' ', "laddr", &field, &bytes))
        conn->local_address = rd_strndup(field, bytes);
    conn->name = strdup(name);
    if (!conn->name)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    return CO_DONE;
}

static enum co_result open_session(struct co_call *call, const char *user, const char *password, const char *name, bool probe,
                                   struct co_conn **ret)
{
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, call->side);
    struct co_conn *conn = calloc(1, sizeof(*conn));
    enum co_result result;

    if (!conn)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    conn->reader = rd_reader_new();
    if (!conn->reader) {
        rd_disconnect(conn);
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    }
    result = rd_net_open(call, endpoint, &conn->net);
    if (result == CO_DONE)
        result = log_in(call, conn, user, password);
    if (result == CO_DONE)
        result = probe ? introduce_probe(call, conn, name) : introduce(call, conn, name);
    if (result != CO_DONE) {
        rd_disconnect(conn);
        return CO_NO_EFFECT;
    }
    *ret = conn;
    return CO_DONE;
}

enum co_result rd_connect(struct co_call *call, enum co_conn_purpose purpose, struct co_conn **ret)
{
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, call->side);
    const char *password = call->host->secret(call->ctx, call->side, CO_SECRET_PASSWORD);

    (void)purpose;
    return open_session(call, endpoint->user, password, call->run ? call->run->session_name : "changeover", false, ret);
}

enum co_result rd_open_probe(struct co_call *call, struct co_conn **ret)
{
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, call->side);
    const char *user = call->host->secret_user(call->ctx, CO_SECRET_PROBE);
    const char *password = call->host->secret(call->ctx, call->side, CO_SECRET_PROBE);
    RD_TEXT name = NULL;

    if (!user && !password) { /* the tool's own account: nothing gets past a fence here, whoever one is */
        user = endpoint->user;
        password = call->host->secret(call->ctx, call->side, CO_SECRET_PASSWORD);
    }
    if (asprintf(&name, "%s#probe", call->run ? call->run->session_name : "changeover") < 0) {
        name = NULL;
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    }
    return open_session(call, user, password, name, true, ret);
}

void rd_disconnect(struct co_conn *conn)
{
    if (!conn)
        return;
    rd_disconnect(conn->probe);
    rd_rights_map_free(conn->rights);
    rd_net_close(conn->net);
    if (conn->reader)
        redisReaderFree(conn->reader);
    if (conn->out) {
        explicit_bzero(conn->out, conn->out_capacity);
        free(conn->out);
    }
    for (size_t at = 0; at < conn->write_command_count; at++)
        free(conn->write_commands[at]);
    free(conn->write_commands);
    free(conn->name);
    free(conn->local_address);
    free(conn->derived_id);
    free(conn);
}

bool rd_alive(struct co_conn *conn)
{
    return conn && !conn->broken && conn->net;
}
