/* query.c - statements over the non-blocking interface, to an absolute deadline; and the guard of everything that changes who
 * may write.
 *
 * Invariants
 *   - A connection whose reply wasn't read to its end is dead: it is never used again.
 *   - A change that was sent and not answered is CO_EFFECT_UNKNOWN, whatever the reason.
 *   - my_change(): one packet of several statements. The server runs them in order and stops at the first that fails
 * (CLIENT_MULTI_ STATEMENTS), so behind a failed token check nothing runs. The user-level lock `changeover.marker` is held from
 *     the check to the end of the packet and is taken by marker_set too, so the token can't change in between: statements
 *     such as ALTER USER or SET GLOBAL end transactions, a user-level lock outlives them (MySQL manual, "Locking
 *     Functions"; MariaDB, GET_LOCK). A failing check is an expression that is an error in every sql_mode: EXP(1e6).
 */
#include "my.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define GUARD_STATEMENTS 3

void my_sets_done(struct my_sets *sets)
{
    for (unsigned i = 0; i < sets->count; i++)
        mysql_free_result(sets->set[i]);
    *sets = (struct my_sets){0};
}

/* Waits for what the library wants; the status to continue with, or -1. */
static int wait_for(struct co_call *call, struct co_conn *conn, int status, int *ret_error)
{
    short events = 0;
    if (status & MYSQL_WAIT_READ)
        events |= POLLIN;
    if (status & MYSQL_WAIT_WRITE)
        events |= POLLOUT;
    if (status & MYSQL_WAIT_EXCEPT)
        events |= POLLPRI;
    int64_t deadline_ns = call->deadline_ns;
    bool timed = (status & MYSQL_WAIT_TIMEOUT) != 0;
    if (timed) {
        int64_t limit_ns = call->host->now_ns(call->ctx) + (int64_t)mysql_get_timeout_value_ms(conn->mysql) * 1000000;
        timed = limit_ns < deadline_ns;
        if (timed)
            deadline_ns = limit_ns;
    }
    int ready;
    for (;;) {
        int64_t slice_ns = conn->tick ? call->host->now_ns(call->ctx) + 1000000000 : deadline_ns;
        ready = call->host->wait_fd(call->ctx, (int)mysql_get_socket(conn->mysql), events,
                                    slice_ns < deadline_ns ? slice_ns : deadline_ns);
        if (ready != 0 || slice_ns >= deadline_ns)
            break;
        conn->tick(conn->tick_arg);
    }
    if (ready < 0 || (ready == 0 && !timed)) {
        *ret_error = ready < 0 ? CO_E_INTERRUPTED : CO_E_TIMEOUT;
        return -1;
    }
    if (ready == 0)
        return MYSQL_WAIT_TIMEOUT;
    int out = 0;
    if (ready & (POLLIN | POLLHUP | POLLERR | POLLNVAL))
        out |= status & MYSQL_WAIT_READ;
    if (ready & (POLLOUT | POLLHUP | POLLERR | POLLNVAL))
        out |= status & MYSQL_WAIT_WRITE;
    if (ready & POLLPRI)
        out |= status & MYSQL_WAIT_EXCEPT;
    return out ? out : status & (MYSQL_WAIT_READ | MYSQL_WAIT_WRITE);
}

#define DRIVE(call, conn, started, continued, error)                                                                           \
    for (int status_ = (started); status_;) {                                                                                  \
        int got_ = wait_for((call), (conn), status_, (error));                                                                 \
        if (got_ < 0)                                                                                                          \
            return false;                                                                                                      \
        status_ = (continued);                                                                                                 \
    }

static bool send_sql(struct co_call *call, struct co_conn *conn, const char *sql, size_t bytes, int *ret, int *ret_error)
{
    MYSQL *m = conn->mysql;
    DRIVE(call, conn, mysql_real_query_start(ret, m, sql, bytes), mysql_real_query_cont(ret, m, got_), ret_error);
    return true;
}

static bool store(struct co_call *call, struct co_conn *conn, MYSQL_RES **ret, int *ret_error)
{
    MYSQL *m = conn->mysql;
    DRIVE(call, conn, mysql_store_result_start(ret, m), mysql_store_result_cont(ret, m, got_), ret_error);
    return true;
}

static bool next(struct co_call *call, struct co_conn *conn, int *ret, int *ret_error)
{
    MYSQL *m = conn->mysql;
    DRIVE(call, conn, mysql_next_result_start(ret, m), mysql_next_result_cont(ret, m, got_), ret_error);
    return true;
}

/* Sends a packet and reads every reply. True: the server answered all of it or with an error (sets->error);
 * false: the connection is dead, *ret_error says why. */
static bool converse(struct co_call *call, struct co_conn *conn, const char *sql, size_t bytes, struct my_sets *sets,
                     int *ret_error)
{
    int rc = 0;
    if (!send_sql(call, conn, sql, bytes, &rc, ret_error))
        return false;
    while (rc == 0) {
        MYSQL_RES *res = NULL;
        if (!store(call, conn, &res, ret_error))
            return false;
        if (res) {
            if (sets->count < MY_SETS_MAX)
                sets->set[sets->count++] = res;
            else
                mysql_free_result(res);
        } else if (mysql_errno(conn->mysql)) {
            break;
        } else {
            sets->affected = mysql_affected_rows(conn->mysql);
        }
        sets->done++;
        if (!mysql_more_results(conn->mysql))
            return true;
        if (!next(call, conn, &rc, ret_error))
            return false;
        if (rc < 0)
            return true;
    }
    sets->error = mysql_errno(conn->mysql);
    if (my_error_code(sets->error) == CO_E_UNREACHABLE || sets->error == 2027 /* malformed packet */) {
        *ret_error = CO_E_UNREACHABLE;
        return false;
    }
    return true;
}

static const char *brief(const char *sql, char *buffer, size_t size)
{
    snprintf(buffer, size, "%.60s%s", sql, strlen(sql) > 60 ? "..." : "");
    return buffer;
}

static enum co_result run(struct co_call *call, struct co_conn *conn, const char *sql, bool changes, unsigned guard,
                          struct my_sets *sets)
{
    char name[80];
    int error = 0;
    if (!conn || conn->dead)
        return my_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "the connection was lost");
    if (call->host->now_ns(call->ctx) >= call->deadline_ns)
        return my_fail(call, CO_NO_EFFECT, CO_E_TIMEOUT, "", "no time was left for: %s", brief(sql, name, sizeof name));
    if (converse(call, conn, sql, strlen(sql), sets, &error)) {
        if (!sets->error)
            return CO_DONE;
        /* a server ends statements in order: what failed had no effect, what ran before it has one */
        return my_fail_server(call, changes && sets->done > guard ? CO_EFFECT_UNKNOWN : CO_NO_EFFECT, sets->error,
                              "the server refused", mysql_error(conn->mysql));
    }
    conn->dead = true;
    enum co_result r = changes ? CO_EFFECT_UNKNOWN : CO_NO_EFFECT;
    if (error == CO_E_UNREACHABLE)
        return my_fail(call, r, error, "Look at the server's log: did it restart, or was the session ended?",
                       "the connection was lost: %s (%u)", mysql_error(conn->mysql), sets->error);
    return my_fail(
        call, r, error,
        error == CO_E_TIMEOUT ? "The server accepts the connection but doesn't answer: is it frozen or overloaded?" : "",
        "%s while waiting for the server's answer to: %s", error == CO_E_TIMEOUT ? "the deadline passed" : "interrupted",
        changes ? "a change" : brief(sql, name, sizeof name));
}

enum co_result my_read(struct co_call *call, struct co_conn *conn, const char *sql, struct my_sets *ret)
{
    return run(call, conn, sql, false, 0, ret);
}

enum co_result my_exec(struct co_call *call, struct co_conn *conn, const char *sql, struct my_sets *ret_or_null)
{
    MY_SETS_AUTO own = {0};
    struct my_sets *sets = ret_or_null ? ret_or_null : &own;
    if (!conn->unlogged)
        return my_fail(
            call, CO_NO_EFFECT, CO_E_PRIVILEGE,
            "Grant it BINLOG ADMIN (MariaDB), SYSTEM_VARIABLES_ADMIN (MySQL 8.0) or SUPER; `changeover init --grants` prints "
            "the grants.",
            "the account %s may not turn sql_log_bin off for itself", conn->account_user);
    return run(call, conn, sql, true, 0, sets);
}

/* The check failed: which of its two halves, and is the lock free? */
static enum co_result guard_failed(struct co_call *call, struct co_conn *conn, unsigned done)
{
    MY_SETS_AUTO sets = {0};
    if (done < 2)
        return my_fail(call, CO_NO_EFFECT, CO_E_CONFLICT, "Another changeover process is at work on this server right now.",
                       "the lock changeover.marker is held by another session");
    enum co_result r =
        my_read(call, conn, "DO RELEASE_LOCK('changeover.marker'); SELECT token FROM " MY_SCHEMA ".marker WHERE id=1", &sets);
    const char *token = r == CO_DONE ? my_value(&sets, 0, 0) : NULL;
    return my_fail(call, CO_NO_EFFECT, CO_E_CONFLICT, "The run was taken over, or ended: look at `changeover status`.",
                   "the marker on this server is '%s', not '%s'", token ? token : "?", call->run ? call->run->token : "");
}

enum co_result my_change(struct co_call *call, struct co_conn *conn, const char *sql, struct my_sets *ret_or_null)
{
    return my_change_waiting(call, conn, sql, 2, ret_or_null);
}

enum co_result my_change_waiting(struct co_call *call, struct co_conn *conn, const char *sql, int most_s,
                                 struct my_sets *ret_or_null)
{
    MY_SETS_AUTO own = {0};
    struct my_sets *sets = ret_or_null ? ret_or_null : &own;
    MY_STR_AUTO packet = {0};
    if (conn && !conn->dead && !conn->unlogged)
        return my_exec(call, conn, sql, sets); /* says why not */
    /* the server's waits for locks end before our deadline, so that nothing is pending when we are gone */
    int64_t left_ms = (call->deadline_ns - call->host->now_ns(call->ctx)) / 1000000;
    if (left_ms < 50)
        return my_fail(call, CO_NO_EFFECT, CO_E_TIMEOUT, "", "no time was left for a change");
    int wait_s = left_ms >= 2500 ? 2 : left_ms >= 1300 || my_is_mysql(conn) ? 1 : 0;
    my_str_addf(&packet, "SET SESSION lock_wait_timeout=%d;", wait_s < most_s ? wait_s : most_s);
    my_str_add(&packet, "SELECT EXP(IF(GET_LOCK('changeover.marker',1)=1,0,1e6));");
    my_str_add(&packet, "SELECT EXP(IF((SELECT token FROM " MY_SCHEMA ".marker WHERE id=1) IN (");
    my_str_quote(&packet, call->run ? call->run->token : "");
    my_str_add(&packet, conn && conn->free_marker_will_do ? ",''),0,1e6));" : "),0,1e6));");
    my_str_add(&packet, sql);
    my_str_add(&packet, "DO RELEASE_LOCK('changeover.marker')");
    if (packet.overflow)
        return my_out_of_memory(call);
    if (call->host->fault) {
        enum co_result f = call->host->fault(call->ctx, "mysql.before_change");
        if (f != CO_DONE)
            return my_fail(call, f, CO_E_INTERNAL, "", "injected fault before a change");
    }
    enum co_result r = run(call, conn, my_cstr(&packet), true, GUARD_STATEMENTS, sets);
    /* the guard's own result sets are of no use to the caller */
    for (unsigned i = 0; i < 2 && sets->count; i++) {
        mysql_free_result(sets->set[0]);
        memmove(sets->set, sets->set + 1, (sets->count - 1) * sizeof *sets->set);
        sets->count--;
    }
    if (r != CO_DONE && !conn->dead && sets->error && sets->done < GUARD_STATEMENTS && sets->done > 0 && sets->error == 1690)
        return guard_failed(call, conn, sets->done);
    if (r != CO_DONE && !conn->dead) {
        struct co_error saved = *call->err;
        MY_SETS_AUTO release = {0};
        /* what is altered as its maker's session would do it may have failed half-way */
        my_read(call, conn, "DO RELEASE_LOCK('changeover.marker');" MY_SESSION_READS, &release);
        *call->err = saved;
    }
    if (call->host->fault && r == CO_DONE) {
        enum co_result f = call->host->fault(call->ctx, "mysql.after_change");
        if (f != CO_DONE)
            return my_fail(call, f, CO_E_UNREACHABLE, "", "injected fault: the reply to a change was lost");
    }
    return r;
}

struct co_call my_brief(const struct co_call *call, int64_t ms)
{
    struct co_call brief = *call;
    int64_t deadline_ns = call->host->now_ns(call->ctx) + ms * 1000000;
    if (deadline_ns < brief.deadline_ns)
        brief.deadline_ns = deadline_ns;
    return brief;
}

const char *my_value(const struct my_sets *sets, unsigned set, unsigned column)
{
    if (set >= sets->count || column >= mysql_num_fields(sets->set[set]) || mysql_num_rows(sets->set[set]) == 0)
        return NULL;
    mysql_data_seek(sets->set[set], 0);
    MYSQL_ROW row = mysql_fetch_row(sets->set[set]);
    return row ? row[column] : NULL;
}

int64_t my_int(const char *text, int64_t otherwise)
{
    if (!text || !*text)
        return otherwise;
    char *end = NULL;
    long long v = strtoll(text, &end, 10);
    return *end && *end != '.' ? otherwise : (int64_t)v;
}

bool my_truth(const char *text)
{
    return text && (strcmp(text, "1") == 0 || strcasecmp(text, "ON") == 0 || strcasecmp(text, "YES") == 0 ||
                    strcasecmp(text, "Y") == 0 || strncasecmp(text, "NO_LOCK", 7) == 0);
}

const char *my_column(MYSQL_RES *res, MYSQL_ROW row, const char *name, const char *other_name)
{
    unsigned count = mysql_num_fields(res);
    MYSQL_FIELD *fields = mysql_fetch_fields(res);
    for (unsigned i = 0; i < count; i++)
        if (strcasecmp(fields[i].name, name) == 0 || (other_name && strcasecmp(fields[i].name, other_name) == 0))
            return row[i];
    return NULL;
}
