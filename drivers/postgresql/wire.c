/* wire.c - one statement, one reply, never past the deadline.
 *
 * Invariant: a reply that isn't wholly read leaves the connection marked broken, so no later call can take an
 * earlier statement's reply for its own. Whether the statement took effect is then unknown when it was one that
 * changes something; the server-side time limit of pg_guarded() bounds how late that can be. */
#include "pg.h"

#include <poll.h>
#include <stdio.h>

void pg_clear_result(PGresult **result)
{
    PQclear(*result); /* takes NULL */
    *result = NULL;
}

const char *pg_value(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column) ? "" : PQgetvalue(result, row, column);
}

bool pg_is_true(const PGresult *result, int row, int column)
{
    return pg_value(result, row, column)[0] == 't';
}

int64_t pg_number(const PGresult *result, int row, int column, int64_t otherwise)
{
    return pg_int(pg_value(result, row, column), otherwise);
}

bool pg_pause(struct co_call *call, struct co_conn *conn, int64_t ms)
{
    int64_t until = call->host->now_ns(call->ctx) + ms * PG_MS;
    if (until > call->deadline_ns)
        until = call->deadline_ns;
    /* Nothing is expected on the socket; if it closes, the next statement says so. */
    int fd = pg_alive(conn) ? PQsocket(conn->pg) : call->host->interrupted_fd(call->ctx);
    return call->host->wait_fd(call->ctx, fd, 0, until) >= 0;
}

static enum co_result lost(struct co_call *call, struct co_conn *conn, enum pg_kind kind, bool sent, int code, const char *what)
{
    conn->broken = true;
    char line[400];
    pg_one_line(line, sizeof line, what);
    enum co_result result = kind == PG_CHANGE && sent ? CO_EFFECT_UNKNOWN : CO_NO_EFFECT;
    return pg_fail(call, result, code,
                   code == CO_E_TIMEOUT
                       ? "The server accepted the statement but did not answer in time; look whether it is frozen or "
                         "waits for a lock or a disk."
                       : "",
                   "%s", line);
}

/* Waits for the socket; CO_DONE when it is ready. */
static enum co_result ready(struct co_call *call, struct co_conn *conn, short events, enum pg_kind kind, bool sent)
{
    int got = call->host->wait_fd(call->ctx, PQsocket(conn->pg), events, call->deadline_ns);
    if (got > 0)
        return CO_DONE;
    if (got < 0)
        return lost(call, conn, kind, sent, CO_E_INTERRUPTED, "interrupted while waiting for the server");
    return lost(call, conn, kind, sent, CO_E_TIMEOUT, "no answer from the server before the deadline");
}

static enum co_result flush(struct co_call *call, struct co_conn *conn, enum pg_kind kind)
{
    for (;;) {
        int left = PQflush(conn->pg);
        if (left == 0)
            return CO_DONE;
        if (left < 0)
            return lost(call, conn, kind, true, CO_E_UNREACHABLE, PQerrorMessage(conn->pg));
        enum co_result result = ready(call, conn, POLLIN | POLLOUT, kind, true);
        if (result != CO_DONE)
            return result;
        if (!PQconsumeInput(conn->pg))
            return lost(call, conn, kind, true, CO_E_UNREACHABLE, PQerrorMessage(conn->pg));
    }
}

/* Takes results until the server is idle again; the first failure wins, else the last rows, else the last result. */
static enum co_result collect(struct co_call *call, struct co_conn *conn, enum pg_kind kind, PGresult **ret)
{
    PG_RESULT best = NULL;
    PG_RESULT failed = NULL;
    for (;;) {
        while (PQisBusy(conn->pg)) {
            enum co_result result = ready(call, conn, POLLIN, kind, true);
            if (result != CO_DONE)
                return result;
            if (!PQconsumeInput(conn->pg))
                return lost(call, conn, kind, true, CO_E_UNREACHABLE, PQerrorMessage(conn->pg));
        }
        PGresult *next = PQgetResult(conn->pg);
        if (!next)
            break;
        ExecStatusType status = PQresultStatus(next);
        if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK || status == PGRES_EMPTY_QUERY) {
            if (!best || status == PGRES_TUPLES_OK || PQresultStatus(best) != PGRES_TUPLES_OK) {
                PQclear(best);
                best = next;
            } else {
                PQclear(next);
            }
        } else if (!failed) {
            failed = next;
            if (status != PGRES_FATAL_ERROR && status != PGRES_NONFATAL_ERROR)
                conn->broken = true; /* a COPY we didn't ask for */
        } else {
            PQclear(next);
        }
        if (conn->broken)
            break;
    }
    if (PQstatus(conn->pg) != CONNECTION_OK) {
        /* Ended by the server: with a reason (57P01, ...) or without one. */
        if (failed)
            pg_server_error(call, failed);
        if (!failed || !*call->err->native)
            return lost(call, conn, kind, true, CO_E_UNREACHABLE, PQerrorMessage(conn->pg));
        conn->broken = true;
        call->err->code = CO_E_UNREACHABLE;
        return kind == PG_CHANGE ? CO_EFFECT_UNKNOWN : CO_NO_EFFECT;
    }
    if (failed) {
        pg_server_error(call, failed);
        return CO_NO_EFFECT;
    }
    if (ret) {
        *ret = best;
        best = NULL;
    }
    return CO_DONE;
}

enum co_result pg_query(struct co_call *call, struct co_conn *conn, enum pg_kind kind, const char *sql, int param_count,
                        const char *const *params, PGresult **ret)
{
    if (ret)
        *ret = NULL;
    if (!conn)
        return pg_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "there is no connection to the server");
    if (conn->broken)
        return pg_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "the connection is no longer usable");
    if (call->host->now_ns(call->ctx) >= call->deadline_ns)
        return pg_fail(call, CO_NO_EFFECT, CO_E_TIMEOUT, "", "no time was left to ask the server");
    int sent = params || param_count ? PQsendQueryParams(conn->pg, sql, param_count, NULL, params, NULL, NULL, 0)
                                     : PQsendQuery(conn->pg, sql);
    if (!sent)
        return lost(call, conn, kind, PQstatus(conn->pg) == CONNECTION_OK, CO_E_UNREACHABLE, PQerrorMessage(conn->pg));
    enum co_result result = flush(call, conn, kind);
    return result == CO_DONE ? collect(call, conn, kind, ret) : result;
}

enum co_result pg_queryf(struct co_call *call, struct co_conn *conn, enum pg_kind kind, PGresult **ret, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    PG_STRING sql = NULL;
    int bytes = vasprintf(&sql, format, args);
    va_end(args);
    if (bytes < 0) {
        sql = NULL;
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    }
    return pg_query(call, conn, kind, sql, 0, NULL, ret);
}

/* The server must give up before we do: otherwise a statement could take effect after we said that it timed out. */
int64_t pg_server_limit_ms(struct co_call *call)
{
    int64_t left = (call->deadline_ns - call->host->now_ns(call->ctx)) / PG_MS;
    int64_t margin = left / 10 < 50 ? left / 10 : 50;
    left -= margin;
    return left < 1 ? 1 : left > 3600000 ? 3600000 : left;
}

/* Setup begins without a marker; it only has to stay away from a server that another run holds. */
static void add_token_check(struct pg_text *sql, struct co_call *call, const char *lock, bool setup)
{
    pg_text_addf(sql, "DO $co$ BEGIN PERFORM pg_catalog.%s(" PG_MARKER_LOCK "); ", lock);
    if (call->run) {
        pg_text_add(sql, "IF pg_catalog.split_part(coalesce(pg_catalog.pg_read_file('" PG_MARKER_FILE
                         "', 0, 256, true), ''), E'\\n', 1) NOT IN (");
        pg_text_literal(sql, call->run->token);
        pg_text_add(sql, setup ? ", '') THEN RAISE" : ") THEN RAISE");
        pg_text_add(sql, " EXCEPTION USING ERRCODE = '" PG_STATE_TOKEN "', MESSAGE = 'the server''s marker does not hold ");
        pg_text_add(sql, call->run->token);
        pg_text_add(sql, "'; END IF; ");
    }
    pg_text_add(sql, "END $co$");
}

static enum co_result guarded(struct co_call *call, struct co_conn *conn, bool setup, const char *sql, PGresult **ret)
{
    PG_TEXT all = {0};
    int64_t limit = pg_server_limit_ms(call);
    pg_text_addf(&all, "SET LOCAL statement_timeout = %lld; SET LOCAL lock_timeout = %lld; ", (long long)limit,
                 (long long)limit);
    add_token_check(&all, call, "pg_advisory_xact_lock", setup);
    pg_text_add(&all, ";\n");
    pg_text_add(&all, sql);
    if (all.failed)
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    return pg_query(call, conn, PG_CHANGE, all.data, 0, NULL, ret);
}

enum co_result pg_guarded(struct co_call *call, struct co_conn *conn, const char *sql, PGresult **ret)
{
    return guarded(call, conn, false, sql, ret);
}

enum co_result pg_guarded_setup(struct co_call *call, struct co_conn *conn, const char *sql, PGresult **ret)
{
    return guarded(call, conn, true, sql, ret);
}

enum co_result pg_guarded_plain(struct co_call *call, struct co_conn *conn, bool setup, const char *const *statements,
                                size_t count)
{
    PG_TEXT check = {0};
    pg_text_addf(&check, "SET statement_timeout = %lld; SET lock_timeout = %lld", (long long)pg_server_limit_ms(call),
                 (long long)pg_server_limit_ms(call));
    enum co_result result = pg_query(call, conn, PG_READ, check.data, 0, NULL, NULL);
    if (result != CO_DONE)
        return result;
    PG_TEXT lock = {0};
    add_token_check(&lock, call, "pg_advisory_lock", setup);
    if (lock.failed)
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    result = pg_query(call, conn, PG_READ, lock.data, 0, NULL, NULL);
    for (size_t i = 0; result == CO_DONE && i < count; i++) {
        result = pg_query(call, conn, PG_CHANGE, statements[i], 0, NULL, NULL);
        if (result == CO_NO_EFFECT && i > 0)
            result = CO_EFFECT_UNKNOWN; /* the earlier ones happened: let the core look */
    }
    if (!conn->broken) {
        struct co_error kept = *call->err;
        enum co_result after = pg_query(
            call, conn, PG_READ, "SELECT pg_catalog.pg_advisory_unlock_all(); SET statement_timeout = 0; SET lock_timeout = 0",
            0, NULL, NULL);
        if (result != CO_DONE)
            *call->err = kept;
        else if (after != CO_DONE)
            result = CO_EFFECT_UNKNOWN;
    }
    return result;
}
