/* connect.c - logging in without ever blocking past the deadline.
 *
 * libpq resolves names itself, and blocks while it does; so names are resolved here, on a thread of their own that
 * outlives a missed deadline and cleans up after itself, and libpq gets addresses only. */
#include "pg.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

/* ---------------------------------------------------------------- names */

struct lookup {
    atomic_int users; /* the caller and the thread; the last one frees */
    int done[2];      /* a pipe: the thread writes one byte */
    int status;       /* of getaddrinfo */
    char *name;
    char *addresses; /* comma-separated */
};

static void lookup_drop(struct lookup *job)
{
    if (!job || atomic_fetch_sub(&job->users, 1) != 1)
        return;
    if (job->done[0] >= 0)
        close(job->done[0]);
    if (job->done[1] >= 0)
        close(job->done[1]);
    free(job->name);
    free(job->addresses);
    free(job);
}

static int look_up(const char *name, int flags, char **ret)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC, .ai_flags = flags}, *list = NULL;
    int status = getaddrinfo(name, NULL, &hints, &list);
    if (status)
        return status;
    PG_TEXT out = {0};
    for (struct addrinfo *at = list; at; at = at->ai_next) {
        char text[128];
        if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0)
            pg_text_addf(&out, "%s%s", out.used ? "," : "", text);
    }
    freeaddrinfo(list);
    *ret = out.used ? strdup(out.data) : NULL;
    return *ret ? 0 : EAI_MEMORY;
}

static void *lookup_thread(void *arg)
{
    struct lookup *job = arg;
    job->status = look_up(job->name, AI_ADDRCONFIG, &job->addresses);
    ssize_t written;
    do
        written = write(job->done[1], "", 1);
    while (written < 0 && errno == EINTR);
    lookup_drop(job);
    return NULL;
}

static enum co_result resolve(struct co_call *call, const char *name, char **ret)
{
    if (look_up(name, AI_NUMERICHOST, ret) == 0)
        return CO_DONE;
    struct lookup *job = calloc(1, sizeof *job);
    if (!job)
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    job->done[0] = job->done[1] = -1;
    atomic_init(&job->users, 1);
    job->name = strdup(name);
    pthread_t thread;
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    atomic_store(&job->users, 2);
    if (!job->name || pipe2(job->done, O_CLOEXEC) || pthread_create(&thread, &detached, lookup_thread, job)) {
        pthread_attr_destroy(&detached);
        atomic_store(&job->users, 1);
        lookup_drop(job);
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "no thread to resolve the name %s with", name);
    }
    pthread_attr_destroy(&detached);
    int got = call->host->wait_fd(call->ctx, job->done[0], POLLIN, call->deadline_ns);
    enum co_result result = CO_DONE;
    if (got > 0 && job->status == 0) {
        *ret = strdup(job->addresses);
        if (!*ret)
            result = pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    } else if (got > 0) {
        result =
            pg_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "Correct the name in `url`, or the name service of this machine.",
                    "the name %s can't be resolved: %s", name, gai_strerror(job->status));
    } else {
        result = pg_fail(call, CO_NO_EFFECT, got < 0 ? CO_E_INTERRUPTED : CO_E_TIMEOUT,
                         "The name service did not answer; an IP address in `url` avoids it.",
                         "the name %s was not resolved in time", name);
    }
    lookup_drop(job);
    return result;
}

/* ---------------------------------------------------------------- one login */

struct keywords {
    const char *names[32], *values[32];
    size_t count;
};

static void put(struct keywords *words, const char *name, const char *value)
{
    if (!value || !*value || words->count + 1 >= sizeof words->names / sizeof *words->names)
        return;
    words->names[words->count] = name;
    words->values[words->count++] = value;
}

/* The SQLSTATE in "...FATAL:  28000: no pg_hba.conf entry ...", which PQERRORS_VERBOSE puts there in any language. */
static void take_state(struct co_error *err, const char *message)
{
    for (const char *at = message; (at = strstr(at, ":  ")) != NULL; at += 3) {
        if (strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && at[8] == ':') {
            snprintf(err->native, sizeof err->native, "%.5s", at + 3);
            return;
        }
    }
}

static enum co_result login_failed(struct co_call *call, PGconn *pg, const char *user, const char *database)
{
    char line[360];
    const char *said = PQerrorMessage(pg);
    const char *location = strstr(said, "\nLOCATION:");
    PG_TEXT text = {0};
    pg_text_bytes(&text, said, location ? (size_t)(location - said) : strlen(said));
    pg_one_line(line, sizeof line, pg_text_str(&text));
    bool needs = PQconnectionNeedsPassword(pg);
    struct co_error *err = call->err;
    pg_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "%s", line);
    take_state(err, said);
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, call->side);
    if (*err->native) {
        err->code = pg_code_of_state(err->native);
        if (pg_starts(err->native, "28"))
            snprintf(err->hint, sizeof err->hint, "Check user %s, its password and the server's pg_hba.conf for database %s.",
                     user, database);
        else if (pg_state_is(err, "57P03"))
            snprintf(err->hint, sizeof err->hint, "%s", "The server is starting, stopping or recovering.");
        else if (pg_state_is(err, "55000"))
            err->code = CO_E_REFUSED; /* "database is not currently accepting connections" */
    } else if (needs) {
        err->code = CO_E_AUTH;
        snprintf(err->hint, sizeof err->hint, "%s", "Give a password with `password_file` or `password_env`.");
    } else if (strstr(line, "SSL") || strstr(line, "certificate")) {
        err->code = CO_E_AUTH;
        snprintf(err->hint, sizeof err->hint, "%s", "See `tls:` of this side: mode off, require or verify, ca, server_name.");
    } else {
        snprintf(err->hint, sizeof err->hint, "Check that a server listens at %s port %d and that no firewall is between.",
                 endpoint->address ? endpoint->address : "the local socket", endpoint->port ? endpoint->port : 5432);
    }
    return CO_NO_EFFECT;
}

/* Commas give libpq several addresses to try; each needs its own host name for the certificate. */
static void repeat_name(struct pg_text *text, const char *name, const char *addresses)
{
    pg_text_add(text, name);
    for (const char *at = addresses; (at = strchr(at, ',')) != NULL; at++)
        pg_text_addf(text, ",%s", name);
}

static void put_tls(struct keywords *words, const struct co_tls *tls, bool socket)
{
    put(words, "gssencmode", "disable");
    if (socket || tls->mode == CO_TLS_OFF) {
        put(words, "sslmode", "disable");
        return;
    }
    put(words, "sslmode", tls->mode == CO_TLS_VERIFY ? "verify-full" : "require");
    if (tls->ca)
        put(words, "sslrootcert", tls->ca);
    else if (tls->mode == CO_TLS_VERIFY)
        put(words, "sslrootcert", PQlibVersion() >= 160000 ? "system" : "/etc/ssl/certs/ca-certificates.crt");
    put(words, "sslcert", tls->cert);
    put(words, "sslkey", tls->key);
}

enum co_result pg_login(struct co_call *call, const struct pg_login *login, PGconn **ret)
{
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, call->side);
    const char *address = endpoint->address && *endpoint->address ? endpoint->address : "localhost";
    bool socket = address[0] == '/' || address[0] == '@';
    char port[16];
    snprintf(port, sizeof port, "%d", endpoint->port ? endpoint->port : 5432);
    PG_STRING resolved = NULL;
    PG_TEXT names = {0};
    struct keywords words = {0};
    if (socket) {
        put(&words, "host", address);
    } else {
        if (!login->address) {
            enum co_result result = resolve(call, address, &resolved);
            if (result != CO_DONE)
                return result;
        }
        const char *list = login->address ? login->address : resolved;
        repeat_name(&names, endpoint->tls.server_name ? endpoint->tls.server_name : address, list);
        put(&words, "host", pg_text_str(&names));
        put(&words, "hostaddr", list);
    }
    put(&words, "port", port);
    put(&words, "dbname", login->database);
    put(&words, "user", login->user);
    put(&words, "password", login->password);
    put(&words, "passfile", login->passfile);
    put(&words, "application_name", login->application_name);
    put(&words, "client_encoding", "UTF8");
    put(&words, "target_session_attrs", "any");
    put(&words, "keepalives_idle", "10");
    put_tls(&words, &endpoint->tls, socket);

    PGconn *pg = PQconnectStartParams(words.names, words.values, 0);
    if (!pg)
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    PQsetErrorVerbosity(pg, PQERRORS_VERBOSE);
    PostgresPollingStatusType state = PQstatus(pg) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
    while (state == PGRES_POLLING_READING || state == PGRES_POLLING_WRITING) {
        int got =
            call->host->wait_fd(call->ctx, PQsocket(pg), state == PGRES_POLLING_READING ? POLLIN : POLLOUT, call->deadline_ns);
        if (got <= 0) {
            PQfinish(pg);
            return pg_fail(
                call, CO_NO_EFFECT, got < 0 ? CO_E_INTERRUPTED : CO_E_TIMEOUT,
                "The address answers too slowly or not at all; look whether the server is frozen or a firewall drops packets.",
                "no login at %s port %s before the deadline", address, port);
        }
        state = PQconnectPoll(pg);
    }
    if (state != PGRES_POLLING_OK) {
        enum co_result result = login_failed(call, pg, login->user ? login->user : "(default)", login->database);
        PQfinish(pg);
        return result;
    }
    PQsetErrorVerbosity(pg, PQERRORS_DEFAULT);
    if (PQsetnonblocking(pg, 1)) {
        PQfinish(pg);
        return pg_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "libpq refused the non-blocking mode");
    }
    *ret = pg;
    return CO_DONE;
}

/* ---------------------------------------------------------------- the tool's connections */

void pg_session_name(const struct co_run *run, const char *actor, char ret[64])
{
    if (!run) {
        snprintf(ret, 64, "changeover");
        return;
    }
    int bytes = snprintf(ret, 64, "changeover:%s:%s", run->id, actor);
    if (bytes < 64)
        return;
    /* Too long for the server, which would cut it: keep run and a digest of the actor. */
    snprintf(ret, 64, "changeover:%.40s:%08x", run->id, (unsigned)(pg_hash(actor, strlen(actor), 0) & 0xffffffffu));
}

const char *pg_url_database(struct co_call *call, enum co_side side)
{
    const char *database = call->host->endpoint(call->ctx, side)->database;
    return database && *database ? database : "postgres";
}

void pg_disconnect(struct co_conn *conn)
{
    if (!conn)
        return;
    if (conn->pg)
        PQfinish(conn->pg);
    free(conn->database);
    free(conn->user);
    free(conn->address);
    free(conn->lineage);
    free(conn->data_directory);
    free(conn->starting);
    free(conn);
}

/* Whatever waits on an idle connection is its end, or a notice: read, so that the end is known before the next call. */
bool pg_alive(struct co_conn *conn)
{
    if (!conn || conn->broken)
        return false;
    for (int i = 0; i < 8; i++) {
        struct pollfd socket = {.fd = PQsocket(conn->pg), .events = POLLIN};
        if (PQstatus(conn->pg) != CONNECTION_OK)
            return false;
        if (poll(&socket, 1, 0) <= 0)
            return true;
        if (!PQconsumeInput(conn->pg))
            return false;
    }
    return PQstatus(conn->pg) == CONNECTION_OK;
}

/* Timers that could end our session, and what a client's defaults could change for us. Names the server doesn't
 * know are left out by the query itself. */
static const char session_sql[] =
    "SELECT count(pg_catalog.set_config(name, value, false)) FROM (VALUES ('statement_timeout', '0'), ('lock_timeout', '0'), "
    "('idle_in_transaction_session_timeout', '0'), ('idle_session_timeout', '0'), ('transaction_timeout', '0'), "
    "('client_connection_check_interval', '0'), ('synchronous_commit', 'local'), ('default_transaction_read_only', 'off'), "
    "('default_transaction_isolation', 'read committed'), ('search_path', 'pg_catalog'), ('standard_conforming_strings', "
    "'on'), "
    "('client_min_messages', 'error'), ('DateStyle', 'ISO'), ('TimeZone', 'UTC'), ('IntervalStyle', 'postgres'), "
    "('extra_float_digits', '1'), ('bytea_output', 'hex'), ('jit', 'off'), ('row_security', 'off')) v(name, value) "
    "JOIN pg_catalog.pg_settings s USING (name);"
    "SELECT pg_catalog.current_setting('server_version_num'), pg_catalog.pg_backend_pid(), session_user, "
    "pg_catalog.current_setting('is_superuser') = 'on', pg_catalog.current_database(), "
    "(SELECT system_identifier FROM pg_catalog.pg_control_system()), "
    "(SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory')"; /* no row: hidden from this account */

static enum co_result start_session(struct co_call *call, struct co_conn *conn)
{
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, conn, PG_READ, session_sql, 0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    if (!rows || PQntuples(rows) != 1 || PQnfields(rows) != 7)
        return pg_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "Use the address of the PostgreSQL server itself.",
                       "what answers does not talk like a PostgreSQL server");
    conn->version = (int)pg_number(rows, 0, 0, 0);
    conn->pid = (int)pg_number(rows, 0, 1, 0);
    conn->user = strdup(pg_value(rows, 0, 2));
    conn->superuser = pg_is_true(rows, 0, 3);
    conn->database = strdup(pg_value(rows, 0, 4));
    conn->lineage = strdup(pg_value(rows, 0, 5));
    conn->data_directory = PQgetisnull(rows, 0, 6) ? NULL : strdup(pg_value(rows, 0, 6));
    const char *address = PQhostaddr(conn->pg);
    conn->address = address && *address ? strdup(address) : NULL;
    if (!conn->user || !conn->database || !conn->lineage)
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    if (conn->version < 130000)
        return pg_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "PostgreSQL 13 or later is needed on both sides.",
                       "the server is PostgreSQL %d.%d, which is too old", conn->version / 10000, conn->version % 100);
    return CO_DONE;
}

static enum co_result connect_to(struct co_call *call, const char *database, const char *address, struct co_conn **ret)
{
    char name[64];
    pg_session_name(call->run, call->run ? call->run->actor : "", name);
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, call->side);
    struct pg_login login = {
        .database = database,
        .user = endpoint->user,
        .password = call->host->secret(call->ctx, call->side, CO_SECRET_PASSWORD),
        .application_name = name,
        .address = address,
    };
    struct co_conn *conn = calloc(1, sizeof *conn);
    if (!conn)
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    enum co_result result = pg_login(call, &login, &conn->pg);
    if (result == CO_DONE)
        result = start_session(call, conn);
    if (result != CO_DONE) {
        pg_disconnect(conn);
        return CO_NO_EFFECT;
    }
    *ret = conn;
    return CO_DONE;
}

enum co_result pg_connect_to(struct co_call *call, const char *database, struct co_conn **ret)
{
    return connect_to(call, database, call->conn ? call->conn->address : NULL, ret);
}

enum co_result pg_connect(struct co_call *call, enum co_conn_purpose purpose, struct co_conn **ret)
{
    (void)purpose;
    enum co_result result = connect_to(call, PG_DATABASE, NULL, ret);
    if (result == CO_DONE)
        return result;
    /* Before setup there is no database of ours; a monitoring account may not be let into it. */
    if (pg_state_is(call->err, "3D000") || pg_state_is(call->err, "42501") || pg_state_is(call->err, "28000")) {
        struct co_error first = *call->err;
        result = connect_to(call, pg_url_database(call, call->side), NULL, ret);
        if (result != CO_DONE && strcmp(first.native, "28000") == 0 && pg_state_is(call->err, "28000"))
            *call->err = first;
        return result;
    }
    return CO_NO_EFFECT;
}
