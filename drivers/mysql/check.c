/* check.c - pre-flight: reads the settings of both sides once and goes through the topics. Read-only.
 *
 * Invariant: what can't be seen for lack of rights or of a connection is a finding of its own, never silence.
 */
#include "check.h"
#include "setup.h"

#include <stdio.h>

void my_find(struct my_check *check, const char *code, enum co_severity severity, int side, const char *remedy,
             const char *format, ...)
{
    char message[900];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    struct co_finding finding = {.code = code, .severity = severity, .side = side, .message = message, .remedy = remedy};
    check->call->host->finding(check->call->ctx, &finding);
}

bool my_check_read(struct my_check *check, struct co_conn *conn, const char *what, const char *sql, struct my_sets *ret)
{
    if (!conn || check->result != CO_DONE)
        return false;
    enum co_result r = my_read(check->call, conn, sql, ret);
    if (r == CO_DONE)
        return true;
    if (!ret->error) {
        check->result = r;
        return false;
    }
    char text[300];
    snprintf(text, sizeof text, "%.290s", check->call->err->message);
    memset(check->call->err, 0, sizeof *check->call->err);
    my_find(check, "cant_see", CO_WARNING, (int)conn->side,
            "Grant the account what `changeover init --grants` prints, then check again.", "%s can't be looked at: %s", what,
            text);
    return false;
}

const char *my_var(const struct my_sets *vars, const char *name)
{
    if (!vars->count)
        return NULL;
    mysql_data_seek(vars->set[0], 0);
    for (MYSQL_ROW row; (row = mysql_fetch_row(vars->set[0]));)
        if (strcasecmp(row[0], name) == 0)
            return row[1] ? row[1] : "";
    return NULL;
}

bool my_following(struct my_check *check, struct co_conn *conn, struct my_follow *ret)
{
    if (!conn || check->result != CO_DONE)
        return false;
    enum co_result r = my_follow_read(check->call, conn, ret);
    if (r == CO_DONE)
        return true;
    if (conn->dead)
        check->result = r;
    else
        my_find(check, "cant_see", CO_ERROR, (int)conn->side,
                "GRANT REPLICATION CLIENT (MariaDB: SLAVE MONITOR too) ON *.* to the tool's account.",
                "the replication status can't be looked at");
    memset(check->call->err, 0, sizeof *check->call->err);
    return false;
}

enum co_result my_check(struct co_call *call, enum co_check_stage stage)
{
    bool is_source = call->role == CO_SOURCE;
    enum co_side other_side = call->side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A;
    struct my_check check = {
        .call = call,
        .stage = stage,
        .source = is_source ? call->conn : call->other,
        .target = is_source ? call->other : call->conn,
        .source_side = is_source ? call->side : other_side,
        .target_side = is_source ? other_side : call->side,
        .result = CO_DONE,
    };
    /* its data directory may be on the way: setup goes on, or says what is the matter */
    bool replaced = stage == CO_CHECK_SETUP && check.source && my_setup_method_is(call, "mariabackup") &&
                    my_machine_ready(call, check.target_side);
    if (!check.source || !check.target)
        my_find(&check, CO_FINDING_UNREACHABLE, replaced ? CO_WARNING : CO_ERROR,
                (int)(check.source ? check.target_side : check.source_side),
                "Check that the server runs and that the tool can log in, then check again.",
                "the server can't be reached: much can't be checked");
    my_check_read(&check, check.source, "the settings", "SHOW GLOBAL VARIABLES", &check.source_vars);
    my_check_read(&check, check.target, "the settings", "SHOW GLOBAL VARIABLES", &check.target_vars);
    my_check_server(&check);
    my_check_replication(&check);
    my_check_data(&check);
    my_check_access(&check);
    my_check_surroundings(&check);
    my_sets_done(&check.source_vars);
    my_sets_done(&check.target_vars);
    return check.result;
}

enum co_result my_digest(struct co_call *call, const char *range, struct co_text *ret)
{
    (void)range;
    (void)ret;
    return my_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "", "digests aren't there yet");
}
