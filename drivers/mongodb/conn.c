/* conn.c - connections and commands, and what replies and errors mean.
 *
 * Invariant: a connection whose reply was lost is broken and never used again; an error is CO_NO_EFFECT only when
 * the server itself said so.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mg.h"

void mg_free_text(char **text)
{
    free(*text);
}

char *mg_dup(const char *text)
{
    return strdup(text ? text : "");
}

enum co_result mg_fail(struct co_call *call, enum co_result result, int code, const char *hint, const char *format, ...)
{
    struct co_error *err = call->err;
    va_list arguments;
    if (!err)
        return result;
    err->code = code;
    va_start(arguments, format);
    vsnprintf(err->message, sizeof err->message, format, arguments);
    va_end(arguments);
    snprintf(err->hint, sizeof err->hint, "%s", hint ? hint : "");
    return result;
}

/* ---------------------------------------------------------------- values */

static bool find(const bson_t *doc, const char *path, bson_iter_t *ret)
{
    bson_iter_t at;
    return bson_iter_init(&at, doc) && bson_iter_find_descendant(&at, path, ret);
}

int64_t mg_int(const bson_t *doc, const char *path, int64_t otherwise)
{
    bson_iter_t at;
    if (!find(doc, path, &at))
        return otherwise;
    return BSON_ITER_HOLDS_NUMBER(&at) || BSON_ITER_HOLDS_BOOL(&at) ? bson_iter_as_int64(&at) : otherwise;
}

bool mg_flag(const bson_t *doc, const char *path)
{
    bson_iter_t at;
    return find(doc, path, &at) && bson_iter_as_bool(&at);
}

const char *mg_str(const bson_t *doc, const char *path)
{
    bson_iter_t at;
    return find(doc, path, &at) && BSON_ITER_HOLDS_UTF8(&at) ? bson_iter_utf8(&at, NULL) : "";
}

bool mg_sub(const bson_t *doc, const char *path, bson_t *ret)
{
    bson_iter_t at;
    const uint8_t *data;
    uint32_t bytes;
    if (!find(doc, path, &at))
        return false;
    if (BSON_ITER_HOLDS_DOCUMENT(&at))
        bson_iter_document(&at, &bytes, &data);
    else if (BSON_ITER_HOLDS_ARRAY(&at))
        bson_iter_array(&at, &bytes, &data);
    else
        return false;
    return bson_init_static(ret, data, bytes);
}

/* ---------------------------------------------------------------- commands */

static void enter(struct co_call *call, struct co_conn *conn)
{
    conn->deadline_ns = call->deadline_ns;
    conn->interrupt_fd = call->host->interrupted_fd(call->ctx);
    conn->interrupted = conn->timed_out = false;
}

void mg_add_max_time(struct co_call *call, bson_t *command)
{
    int64_t left_ms = (call->deadline_ns - mg_now_ns()) / 1000000 - MG_REPLY_MARGIN_MS;
    bson_append_int32(command, "maxTimeMS", -1, left_ms < 1 ? 1 : left_ms > 600000 ? 600000 : (int32_t)left_ms);
}

static int kind_of(int code)
{
    switch (code) {
    case MG_UNAUTHORIZED:
        return CO_E_PRIVILEGE;
    case MG_AUTHENTICATION_FAILED:
        return CO_E_AUTH;
    case MG_NOT_PRIMARY:
    case MG_USER_WRITES_BLOCKED:
        return CO_E_REFUSED;
    case MG_MAX_TIME_EXPIRED:
    case MG_EXCEEDED_TIME_LIMIT:
    case MG_LOCK_TIMEOUT:
        return CO_E_TIMEOUT;
    case MG_COMMAND_NOT_FOUND:
        return CO_E_UNSUPPORTED;
    case MG_PRIMARY_STEPPED_DOWN:
    case MG_INTERRUPTED_STEP_DOWN:
    case MG_NOT_PRIMARY_OR_SECONDARY:
    case MG_NOT_YET_INITIALIZED:
        return CO_E_STATE;
    default:
        return CO_E_SERVER;
    }
}

bool mg_may_have_worked(int code)
{
    static const int codes[] = {MG_MAX_TIME_EXPIRED,     MG_WRITE_CONCERN_FAILED,  MG_SHUTDOWN_IN_PROGRESS,
                                MG_PRIMARY_STEPPED_DOWN, MG_INTERRUPTED_STEP_DOWN, MG_INTERRUPTED_AT_SHUTDOWN};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (code == codes[i])
            return true;
    return false;
}

static const char *command_name(const bson_t *command)
{
    bson_iter_t at;
    return bson_iter_init(&at, command) && bson_iter_next(&at) ? bson_iter_key(&at) : "";
}

static enum co_result lost(struct co_call *call, struct co_conn *conn, const char *what, bool changes, const char *why)
{
    conn->broken = true;
    int code = conn->interrupted ? CO_E_INTERRUPTED : conn->timed_out ? CO_E_TIMEOUT : CO_E_UNREACHABLE;
    const char *how = conn->interrupted ? "interrupted" : conn->timed_out ? "no answer in time" : why;
    return mg_fail(call, changes ? CO_EFFECT_UNKNOWN : CO_NO_EFFECT, code, "See that the server runs and can be reached.",
                   "%s: %s", what, how);
}

static enum co_result refused(struct co_call *call, const char *what, int code, const char *message, enum co_result result)
{
    mg_fail(call, result, kind_of(code),
            code == MG_UNAUTHORIZED ? "Give the account what `changeover init --grants` prints." : "", "%s: %s", what, message);
    if (call->err)
        snprintf(call->err->native, sizeof call->err->native, "%d", code);
    return result;
}

/* ok: 1 with an error inside: a write that failed, or that the write concern wasn't met for. */
static enum co_result inspect(struct co_call *call, const bson_t *reply, const char *what, bool changes, int *ret_code)
{
    bson_t inner;
    if (mg_sub(reply, "writeErrors", &inner)) {
        *ret_code = (int)mg_int(&inner, "0.code", 0);
        return refused(call, what, *ret_code, mg_str(&inner, "0.errmsg"), CO_NO_EFFECT);
    }
    if (mg_sub(reply, "writeConcernError", &inner)) {
        *ret_code = (int)mg_int(&inner, "code", 0);
        return refused(call, what, *ret_code, mg_str(&inner, "errmsg"), changes ? CO_EFFECT_UNKNOWN : CO_NO_EFFECT);
    }
    return CO_DONE;
}

/* The commands that change who may write. */
static bool is_decisive(const char *name)
{
    static const char *const names[] = {"replSetReconfig", "replSetStepUp", "replSetStepDown", "setUserWriteBlockMode"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* Injected faults first: what they freeze must look again. */
static enum co_result before_sending(struct co_call *call, struct co_conn *conn, const char *what)
{
    bool decisive = is_decisive(what);
    enum co_result injected = call->host->fault(call->ctx, "mongodb.send");
    if (injected == CO_DONE && decisive)
        injected = call->host->fault(call->ctx, "mongodb.decide");
    if (injected != CO_DONE)
        return mg_fail(call, injected, CO_E_UNREACHABLE, "", "%s: injected before it was sent", what);
    enum co_result result = decisive ? mg_guard_again(call) : CO_DONE;
    enter(call, conn); /* the look may have been another connection's */
    return result;
}

enum co_result mg_command(struct co_call *call, struct co_conn *conn, const char *db, const bson_t *command, bool changes,
                          bson_t *reply, int *ret_code)
{
    bson_error_t error = {0};
    int ignored = 0, *code = ret_code ? ret_code : &ignored;
    const char *what = command_name(command);
    *code = 0;
    if (!conn || conn->broken)
        return mg_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "%s: there is no connection", what);
    enter(call, conn);
    if (mg_now_ns() >= call->deadline_ns)
        return mg_fail(call, CO_NO_EFFECT, CO_E_TIMEOUT, "", "%s: no time was left to send it", what);
    enum co_result result = before_sending(call, conn, what);
    if (result != CO_DONE)
        return result;
    bson_destroy(reply);
    int64_t sent_ns = mg_now_ns();
    bool ok = mongoc_client_command_simple(conn->client, db, command, NULL, reply, &error);
    if (call->host->fault(call->ctx, "mongodb.reply") != CO_DONE) {
        conn->broken = true;
        return mg_fail(call, changes ? CO_EFFECT_UNKNOWN : CO_NO_EFFECT, CO_E_UNREACHABLE, "", "%s: the reply was lost", what);
    }
    call->host->trace(call->ctx, "mongodb %s.%s: %s in %.2f ms", db, what, ok ? "ok" : error.message,
                      (double)(mg_now_ns() - sent_ns) / 1e6);
    if (ok)
        return inspect(call, reply, what, changes, code);
    /* Only a reply says that the server refused: the library makes server errors of its own failures too. */
    if (error.domain == MONGOC_ERROR_SERVER && bson_has_field(reply, "ok") && !conn->timed_out && !conn->interrupted) {
        *code = (int)error.code;
        return refused(call, what, *code, error.message, CO_NO_EFFECT);
    }
    return lost(call, conn, what, changes, error.message);
}

/* ---------------------------------------------------------------- connecting */

static mongoc_uri_t *make_uri(struct co_call *call, const struct co_endpoint_config *endpoint, const char *user,
                              const char *password)
{
    const char *source = call->host->url_param(call->ctx, call->side, "authSource");
    mongoc_uri_t *uri = mongoc_uri_new_for_host_port("127.0.0.1", (uint16_t)(endpoint->port ? endpoint->port : 27017));
    int64_t left_ms = (call->deadline_ns - mg_now_ns()) / 1000000;
    if (!uri)
        return NULL;
    mongoc_uri_set_option_as_bool(uri, MONGOC_URI_DIRECTCONNECTION, true);
    mongoc_uri_set_option_as_bool(uri, MONGOC_URI_RETRYWRITES, false);
    mongoc_uri_set_option_as_bool(uri, MONGOC_URI_RETRYREADS, false);
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS,
                                   left_ms < 1       ? 1
                                   : left_ms > 60000 ? 60000
                                                     : (int32_t)left_ms);
    mongoc_uri_set_appname(uri, call->run ? call->run->session_name : "changeover");
    if (user) {
        mongoc_uri_set_username(uri, user);
        if (password)
            mongoc_uri_set_password(uri, password);
        mongoc_uri_set_auth_source(uri, source                                      ? source
                                        : endpoint->database && *endpoint->database ? endpoint->database
                                                                                    : "admin");
    }
    return uri;
}

int64_t mg_wire_version(struct co_conn *conn, int64_t otherwise)
{
    mongoc_server_description_t *server = mongoc_client_get_server_description(conn->client, 1);
    int64_t version =
        server ? mg_int(mongoc_server_description_hello_response(server), "maxWireVersion", otherwise) : otherwise;
    mongoc_server_description_destroy(server);
    return version;
}

/* Before 4.2 (wire version 8) a step-down closes the connections of clients, but of those that ask to be kept: ours have
 * to look at what the step-down came to. */
static void ask_to_be_kept(struct co_conn *conn)
{
    MG_REPLY(reply);
    MG_DOC(hello);
    conn->old_wire = mg_wire_version(conn, 8) < 8;
    if (!conn->old_wire)
        return;
    BSON_APPEND_INT32(&hello, "isMaster", 1);
    BSON_APPEND_BOOL(&hello, "hangUpOnStepDown", false);
    bson_destroy(&reply);
    (void)mongoc_client_command_simple(conn->client, "admin", &hello, NULL, &reply, NULL);
}

/* The library wraps what the matter is ("No suitable servers found (...): [Connection refused]") and names the address that it
 * was given in place of the side's own (make_uri), which the core names. */
static enum co_result not_connected(struct co_call *call, struct co_conn *conn, const char *message)
{
    const char *open = strchr(message, '['), *end = strrchr(message, ']');
    bool wrapped = strncmp(message, "No suitable servers", 19) == 0 && open && end && end > open;
    MG_TEXT why = wrapped ? strndup(open + 1, (size_t)(end - open - 1)) : strdup(message);
    char *address = why ? strstr(why, " on '127.0.0.1:") : NULL;
    if (address)
        *address = '\0';
    enum co_result result = lost(call, conn, "can't connect", false, why ? why : message);
    bool tls = conn->endpoint->tls.mode != CO_TLS_OFF;
    if (call->err && why && call->err->code == CO_E_UNREACHABLE && strstr(why, "TLS"))
        snprintf(call->err->hint, sizeof call->err->hint,
                 "See that tls.ca names the authority that signed the server's certificate, that the certificate is valid "
                 "today, and "
                 "that the url (or tls.server_name) has one of its names; a server without TLS needs tls.mode: off.");
    else if (call->err && why && call->err->code == CO_E_UNREACHABLE && !tls && strstr(why, "connection closed"))
        snprintf(call->err->hint, sizeof call->err->hint,
                 "A server that demands TLS hangs up like this: set tls.mode and tls.ca.");
    return result;
}

static enum co_result login_refused(struct co_call *call, const char *user, const char *message)
{
    char what[256];
    snprintf(what, sizeof what, "can't log in as %.200s", user ? user : "nobody");
    MG_TEXT why = mg_dup(message);
    if (why && *why && why[strlen(why) - 1] == '.')
        why[strlen(why) - 1] = '\0';
    enum co_result result = refused(call, what, MG_AUTHENTICATION_FAILED, why ? why : message, CO_NO_EFFECT);
    if (call->err)
        snprintf(
            call->err->hint, sizeof call->err->hint,
            "Check user and password, and in which database the account was made: the url's, or ?authSource=; without either "
            "admin.");
    return result;
}

static enum co_result open_client(struct co_call *call, const char *user, const char *password, struct co_conn **ret,
                                  int *ret_code)
{
    MG_REPLY(reply);
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, call->side);
    struct co_conn *conn = calloc(1, sizeof *conn);
    mongoc_uri_t *uri = conn ? make_uri(call, endpoint, user, password) : NULL;
    if (!uri) {
        free(conn);
        return mg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "no memory for a connection");
    }
    conn->endpoint = endpoint;
    enter(call, conn);
    conn->client = mongoc_client_new_from_uri(uri);
    mongoc_uri_destroy(uri);
    if (!conn->client) {
        free(conn);
        return mg_fail(call, CO_NO_EFFECT, CO_E_CONFIG, "", "the client library refuses this url");
    }
    mongoc_client_set_error_api(conn->client, MONGOC_ERROR_API_VERSION_2);
    mongoc_client_set_stream_initiator(conn->client, mg_stream_open, conn);
    bson_t *ping = BCON_NEW("ping", BCON_INT32(1));
    bson_error_t error = {0};
    bson_destroy(&reply);
    bool ok = mongoc_client_command_simple(conn->client, "admin", ping, NULL, &reply, &error);
    bson_destroy(ping);
    if (ok) {
        ask_to_be_kept(conn);
        *ret = conn;
        return CO_DONE;
    }
    *ret_code = error.domain == MONGOC_ERROR_CLIENT && error.code == MONGOC_ERROR_CLIENT_AUTHENTICATE ? MG_AUTHENTICATION_FAILED
                                                                                                      : (int)error.code;
    enum co_result result = *ret_code == MG_AUTHENTICATION_FAILED && !conn->timed_out && !conn->interrupted
                                ? login_refused(call, user, error.message)
                                : not_connected(call, conn, error.message);
    mg_disconnect(conn);
    return result;
}

enum co_result mg_open_as(struct co_call *call, const char *user, const char *password, struct co_conn **ret)
{
    int code = 0;
    return open_client(call, user, password, ret, &code);
}

enum co_result mg_connect(struct co_call *call, enum co_conn_purpose purpose, struct co_conn **ret)
{
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, call->side);
    int code = 0;
    (void)purpose;
    if (endpoint->tls.mode != CO_TLS_OFF && endpoint->tls.key && endpoint->tls.cert &&
        strcmp(endpoint->tls.key, endpoint->tls.cert) != 0)
        return mg_fail(call, CO_NO_EFFECT, CO_E_CONFIG, "Put both into one PEM file and name it as `cert`.",
                       "MongoDB's client library takes certificate and key from one file only");
    enum co_result result =
        open_client(call, endpoint->user, call->host->secret(call->ctx, call->side, CO_SECRET_PASSWORD), ret, &code);
    if (result == CO_DONE || !endpoint->user || code != MG_AUTHENTICATION_FAILED)
        return result;
    /* A member that has joined no replica set yet has no accounts: they come with the data. */
    struct co_error login = call->err ? *call->err : (struct co_error){0};
    struct co_conn *conn = NULL;
    MG_STATE(state);
    if (open_client(call, NULL, NULL, &conn, &code) == CO_DONE && mg_look(call, conn, MG_LOOK_HELLO, &state) == CO_DONE &&
        !state.primary && !state.secondary && !state.standalone) {
        conn->anonymous = true;
        *ret = conn;
        return CO_DONE;
    }
    mg_disconnect(conn);
    if (call->err)
        *call->err = login;
    return CO_NO_EFFECT;
}

/* Closes the socket without a word: the server cleans up by itself. */
void mg_disconnect(struct co_conn *conn)
{
    if (!conn)
        return;
    conn->deadline_ns = 0;
    conn->interrupt_fd = -1;
    mg_disconnect(conn->probe);
    mg_remember_config(conn, NULL);
    if (conn->client)
        mongoc_client_destroy(conn->client);
    free(conn);
}

bool mg_alive(struct co_conn *conn)
{
    return conn && !conn->broken;
}
