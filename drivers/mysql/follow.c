/* follow.c - positions and the link between the two.
 *
 * Invariant: a link is RUNNING only when both threads say so, the follower follows this very source, the source has a session
 * that feeds it, and the follower refuses client writes. Seconds_Behind_Master is never used: it stays 0 while the source is
 * frozen (tried on MariaDB 10.11).
 */
#include "my.h"

#include <stdlib.h>

void my_follow_done(struct my_follow *f)
{
    free(f->channel);
    free(f->host);
    free(f->user);
    free(f->source_uuid);
    free(f->io_error);
    free(f->sql_error);
    free(f->io_state);
    free(f->progress);
    free(f->filters);
    free(f->ssl_ca);
    free(f->exec_file);
    free(f->exec_offset);
    *f = (struct my_follow){0};
}

static char *dup_or_empty(const char *text)
{
    return strdup(text ? text : "");
}

static void follow_take(MYSQL_RES *res, MYSQL_ROW row, struct my_follow *f)
{
    const char *io = my_column(res, row, "Slave_IO_Running", "Replica_IO_Running");
    const char *sql = my_column(res, row, "Slave_SQL_Running", "Replica_SQL_Running");
    f->present = true;
    f->io_yes = io && strcmp(io, "Yes") == 0;
    f->io_no = io && strcmp(io, "No") == 0;
    f->sql_yes = sql && strcmp(sql, "Yes") == 0;
    f->sql_no = !f->sql_yes;
    f->channel = dup_or_empty(my_column(res, row, "Connection_name", "Channel_Name"));
    f->host = dup_or_empty(my_column(res, row, "Master_Host", "Source_Host"));
    f->user = dup_or_empty(my_column(res, row, "Master_User", "Source_User"));
    f->port = (unsigned)my_int(my_column(res, row, "Master_Port", "Source_Port"), 0);
    f->source_id = (uint64_t)my_int(my_column(res, row, "Master_Server_Id", "Source_Server_Id"), 0);
    f->source_uuid = dup_or_empty(my_column(res, row, "Master_UUID", "Source_UUID"));
    const char *gtid = my_column(res, row, "Using_Gtid", "Auto_Position");
    f->gtid = gtid && strcmp(gtid, "No") != 0 && strcmp(gtid, "0") != 0;
    f->tls = my_truth(my_column(res, row, "Master_SSL_Allowed", "Source_SSL_Allowed"));
    f->ssl_ca = dup_or_empty(my_column(res, row, "Master_SSL_CA_File", "Source_SSL_CA_File"));
    f->delay_s = my_int(my_column(res, row, "SQL_Delay", NULL), 0);
    f->io_errno = (unsigned)my_int(my_column(res, row, "Last_IO_Errno", NULL), 0);
    f->sql_errno = (unsigned)my_int(my_column(res, row, "Last_SQL_Errno", NULL), 0);
    f->io_error = dup_or_empty(my_column(res, row, "Last_IO_Error", NULL));
    f->sql_error = dup_or_empty(my_column(res, row, "Last_SQL_Error", NULL));
    f->io_state = dup_or_empty(my_column(res, row, "Slave_IO_State", "Replica_IO_State"));
    f->heartbeats = (uint64_t)my_int(my_column(res, row, "Slave_received_heartbeats", NULL), 0);
    const char *period = my_column(res, row, "Slave_heartbeat_period", NULL);
    f->heartbeat_s = period ? strtod(period, NULL) : 0;
    const char *file = my_column(res, row, "Master_Log_File", "Source_Log_File");
    const char *pos = my_column(res, row, "Read_Master_Log_Pos", "Read_Source_Log_Pos");
    MY_STR_AUTO progress = {0};
    my_str_addf(&progress, "%s:%s", file ? file : "", pos ? pos : "");
    f->progress = strdup(my_cstr(&progress));
    f->exec_file = dup_or_empty(my_column(res, row, "Relay_Master_Log_File", "Relay_Source_Log_File"));
    f->exec_offset = dup_or_empty(my_column(res, row, "Exec_Master_Log_Pos", "Exec_Source_Log_Pos"));
    MY_STR_AUTO filters = {0};
    static const char *const names[] = {"Replicate_Do_DB",        "Replicate_Ignore_DB",     "Replicate_Do_Table",
                                        "Replicate_Ignore_Table", "Replicate_Wild_Do_Table", "Replicate_Wild_Ignore_Table",
                                        "Replicate_Rewrite_DB"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = my_column(res, row, names[i], NULL);
        if (value && *value)
            my_str_addf(&filters, "%s%s=%s", filters.len ? ", " : "", names[i], value);
    }
    f->filters = strdup(my_cstr(&filters));
}

const char *my_source_place(struct co_call *call, enum co_side side, unsigned *ret_port)
{
    const struct co_endpoint_config *peer = call->host->endpoint(call->ctx, side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A);
    *ret_port = (unsigned)(peer->peer_port ? peer->peer_port : peer->port ? peer->port : 3306);
    return peer->peer_address ? peer->peer_address : peer->address;
}

/* Of several replications: 4 leads to the other side, 3 to its address (through another port), 2 is the default one. */
static unsigned fits(const char *host, const char *port, const char *channel, const char *address, unsigned wanted_port)
{
    if (address && strcmp(host, address) == 0)
        return my_int(port, 0) == (int64_t)wanted_port ? 4 : 3;
    return channel && !*channel ? 2 : 1;
}

/* With several replications, the one that leads to the other side is ours: by address, else the default one, else the first. */
static enum co_result follow_pick(struct co_call *call, struct co_conn *conn, MYSQL_RES *res, struct my_follow *ret)
{
    unsigned port = 0;
    const char *address = my_source_place(call, conn->side, &port);
    unsigned best = 0, rows = 0, chosen = 0;
    for (MYSQL_ROW row; res && (row = mysql_fetch_row(res)); rows++) {
        const char *host = my_column(res, row, "Master_Host", "Source_Host");
        const char *channel = my_column(res, row, "Connection_name", "Channel_Name");
        if (!host || !*host) /* a row without a source stays after some resets, and after a dump was loaded */
            continue;
        unsigned fit = fits(host, my_column(res, row, "Master_Port", "Source_Port"), channel, address, port);
        if (fit > best) {
            best = fit;
            chosen = rows;
        }
        ret->others++;
    }
    if (!best)
        return CO_DONE;
    mysql_data_seek(res, chosen);
    follow_take(res, mysql_fetch_row(res), ret);
    ret->others--;
    return ret->channel && ret->host && ret->user && ret->source_uuid && ret->io_error && ret->sql_error && ret->progress &&
                   ret->filters && ret->exec_file && ret->exec_offset
               ? CO_DONE
               : my_out_of_memory(call);
}

enum co_result my_follow_read(struct co_call *call, struct co_conn *conn, struct my_follow *ret)
{
    MY_SETS_AUTO sets = {0};
    enum co_result r = my_read(call, conn, my_word_status(conn), &sets);
    return r == CO_DONE && sets.count ? follow_pick(call, conn, sets.set[0], ret) : r;
}

enum co_result my_follow_right(struct co_call *call, const struct my_follow *f, bool *ret)
{
    unsigned port = 0;
    const char *address = my_source_place(call, call->side, &port);
    *ret = address && strcmp(address, f->host) == 0 && port == f->port;
    if (*ret || !call->other || !f->source_id)
        return CO_DONE;
    MY_SETS_AUTO sets = {0};
    enum co_result r = my_read(call, call->other, "SELECT @@GLOBAL.server_id", &sets);
    *ret = r == CO_DONE && (uint64_t)my_int(my_value(&sets, 0, 0), 0) == f->source_id;
    return r;
}

enum co_result my_follow_from(struct co_call *call, MYSQL_RES *res, struct my_follow *ret)
{
    return follow_pick(call, call->conn, res, ret);
}

static enum co_result read_text(struct co_call *call, const char *expression, struct co_text *ret)
{
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    my_str_addf(&sql, "SELECT %s", expression);
    enum co_result r = my_read(call, call->conn, my_cstr(&sql), &sets);
    const char *text = r == CO_DONE ? my_value(&sets, 0, 0) : NULL;
    if (!text || !*text)
        text = MY_POS_NONE;
    if (r == CO_DONE)
        call->host->text_set(call->ctx, ret, text, strlen(text));
    return r;
}

static enum co_result give(struct co_call *call, enum co_result r, const struct my_str *text, struct co_text *ret)
{
    if (r == CO_DONE)
        call->host->text_set(call->ctx, ret, my_cstr(text), text->len);
    return r;
}

enum co_result my_position(struct co_call *call, struct co_text *ret)
{
    MY_STR_AUTO text = {0};
    if (call->conn->by_file)
        return give(call, my_file_position(call, &text), &text, ret);
    return read_text(call, my_expr_position(call->conn), ret);
}

enum co_result my_applied(struct co_call *call, struct co_text *ret)
{
    MY_STR_AUTO text = {0};
    if (call->conn->by_file)
        return give(call, my_file_applied(call, &text), &text, ret);
    return read_text(call, my_expr_applied(call->conn), ret);
}

static enum co_result broken(struct co_call *call, struct co_link *ret, const char *reason)
{
    ret->state = CO_LINK_BROKEN;
    call->host->text_set(call->ctx, ret->reason, reason, strlen(reason));
    return CO_DONE;
}

/* MySQL shows its heartbeats elsewhere; an account that may not look there goes without them. */
static enum co_result read_heartbeats(struct co_call *call, struct my_follow *f)
{
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    struct co_error saved = *call->err;
    if (!my_is_mysql(call->conn))
        return CO_DONE;
    my_str_add(&sql, "SELECT s.COUNT_RECEIVED_HEARTBEATS,c.HEARTBEAT_INTERVAL FROM "
                     "performance_schema.replication_connection_status s JOIN "
                     "performance_schema.replication_connection_configuration c ON c.CHANNEL_NAME=s.CHANNEL_NAME WHERE "
                     "s.CHANNEL_NAME=");
    my_str_quote(&sql, f->channel);
    enum co_result r = my_read(call, call->conn, my_cstr(&sql), &sets);
    if (r != CO_DONE && !call->conn->dead) {
        *call->err = saved;
        return CO_DONE;
    }
    f->heartbeats = (uint64_t)my_int(my_value(&sets, 0, 0), 0);
    f->heartbeat_s = my_value(&sets, 0, 1) ? strtod(my_value(&sets, 0, 1), NULL) : 0;
    return r;
}

/* Time since the receiver last moved or heard a heartbeat, as far as this connection has watched. */
static int64_t silent_ms(struct co_call *call, const struct my_follow *f)
{
    struct my_seen_link *seen = &call->conn->seen;
    int64_t now_ns = call->host->now_ns(call->ctx);
    if (!seen->progress || seen->heartbeats != f->heartbeats || strcmp(seen->progress, f->progress) != 0) {
        bool first = !seen->progress;
        free(seen->progress);
        seen->progress = strdup(f->progress);
        seen->heartbeats = f->heartbeats;
        seen->changed_ns = now_ns;
        return first ? -1 : 0;
    }
    return (now_ns - seen->changed_ns) / 1000000;
}

static bool threads_broken(const struct my_follow *f, struct my_str *reason)
{
    if (f->sql_errno)
        my_str_addf(reason, "applying stopped with error %u: %s", f->sql_errno, f->sql_error);
    else if (f->sql_no)
        my_str_add(reason, "the applier (SQL thread) isn't running");
    else if (f->io_errno)
        my_str_addf(reason, "receiving fails with error %u: %s", f->io_errno, f->io_error);
    else if (f->io_no)
        my_str_add(reason, "the receiver (IO thread) isn't running");
    else if (!f->io_yes)
        my_str_addf(reason, "the receiver isn't connected: %s", f->io_state && *f->io_state ? f->io_state : "connecting");
    return reason->len > 0;
}

/* How clients can write to the follower, if they can. An account that may not read mysql.* judges by read_only alone. */
static enum co_result takes_writes(struct co_call *call, struct my_str *reason)
{
    const char *closure = call->host->option(call->ctx, "setup.closure");
    bool locked = false, weak = closure && strcmp(closure, "read_only") == 0;
    enum co_presence ro = CO_ABSENT;
    enum co_result r = my_read_only_probe(call, &ro);
    if (r != CO_DONE || (my_is_mysql(call->conn) && ro == CO_PRESENT) || (ro != CO_ABSENT && weak))
        return r;
    struct co_error saved = *call->err;
    MY_STR_AUTO names = {0};
    r = my_accounts_locked(call, ro == CO_ABSENT ? MY_SCOPE_ALL : MY_SCOPE_BYPASS, &locked, &names);
    if (r != CO_DONE && call->conn->dead)
        return r;
    if (r != CO_DONE)
        *call->err = saved;
    if (ro == CO_ABSENT && (r != CO_DONE || !locked))
        my_str_add(reason, "the follower accepts client writes: read_only is off");
    else if (r == CO_DONE && !locked)
        my_str_addf(
            reason,
            "the follower accepts writes of accounts that get past read_only and aren't locked (%s): `changeover setup` "
            "locks them",
            my_cstr(&names));
    return CO_DONE;
}

/* The other end's view: is it the server that is followed, and does it feed us? */
static enum co_result source_agrees(struct co_call *call, const struct my_follow *f, struct my_str *reason)
{
    MY_SETS_AUTO sets = {0};
    MY_STR_AUTO sql = {0};
    my_str_addf(&sql,
                "SELECT @@GLOBAL.server_id, %s, (SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND LIKE "
                "'Binlog Dump%%')",
                my_is_mysql(call->other) ? "@@GLOBAL.server_uuid" : "''");
    enum co_result r = my_read(call, call->other, my_cstr(&sql), &sets);
    if (r != CO_DONE)
        return r;
    if ((uint64_t)my_int(my_value(&sets, 0, 0), 0) != f->source_id)
        my_str_addf(reason, "it follows the server with id %llu at %s:%u, the source has id %s",
                    (unsigned long long)f->source_id, f->host, f->port, my_value(&sets, 0, 0));
    else if (my_is_mysql(call->other) && *f->source_uuid && strcasecmp(f->source_uuid, my_value(&sets, 0, 1)) != 0)
        my_str_addf(reason, "it follows the server %s, the source is %s", f->source_uuid, my_value(&sets, 0, 1));
    else if (my_int(my_value(&sets, 0, 2), 0) == 0)
        my_str_add(reason, "the source feeds no replica: the follower's connection is dead without its knowing");
    return CO_DONE;
}

/* Parallel apply, where it is off; what else there is, where it is on. */
static enum co_result say_faster(struct co_call *call, struct co_link *ret)
{
    if (ret->size < sizeof *ret || !ret->faster)
        return CO_DONE;
    MY_SETS_AUTO sets = {0};
    bool mysql = my_is_mysql(call->conn);
    enum co_result r =
        my_read(call, call->conn,
                "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('slave_parallel_threads','slave_parallel_workers',"
                "'replica_parallel_workers')",
                &sets);
    if (r != CO_DONE)
        return r;
    MYSQL_ROW row = mysql_fetch_row(sets.set[0]);
    bool one = row && my_int(row[1], 0) < 2;
    const char *text =
        one && mysql
            ? "let it apply in parallel: SET PERSIST replica_parallel_workers=4, replica_preserve_commit_order=ON; STOP "
              "REPLICA SQL_THREAD; START REPLICA SQL_THREAD (slave_parallel_workers before 8.0.26)."
        : one ? "let it apply in parallel: STOP SLAVE SQL_THREAD; SET GLOBAL slave_parallel_threads=4, "
                "slave_parallel_mode='optimistic'; START SLAVE SQL_THREAD."
              : "it applies in parallel already; look for tables without a primary key, long transactions and slow disks "
                "(sync_binlog, innodb_flush_log_at_trx_commit on the follower).";
    call->host->text_set(call->ctx, ret->faster, text, strlen(text));
    return CO_DONE;
}

enum co_result my_link(struct co_call *call, struct co_link *ret)
{
    MY_FOLLOW_AUTO f = {0};
    ret->silent_ms = -1;
    ret->piled_up_bytes = -1;
    ret->state = CO_LINK_UNKNOWN;
    enum co_result r = my_follow_read(call, call->conn, &f);
    if (r != CO_DONE)
        return r;
    if (!f.present) {
        ret->state = CO_LINK_NONE;
        call->host->text_add(call->ctx, ret->reason, "this server follows no other");
        return CO_DONE;
    }
    MY_STR_AUTO reason = {0};
    r = read_heartbeats(call, &f);
    if (r == CO_DONE) {
        ret->silent_ms = silent_ms(call, &f);
        r = say_faster(call, ret);
    }
    if (r != CO_DONE)
        return r;
    if (threads_broken(&f, &reason))
        return broken(call, ret, my_cstr(&reason));
    if (f.heartbeat_s > 0 && ret->silent_ms > 3000 && (double)ret->silent_ms > 4000 * f.heartbeat_s) {
        my_str_addf(&reason, "nothing was heard from the source for %lld ms (heartbeats come every %.1f s)",
                    (long long)ret->silent_ms, f.heartbeat_s);
        return broken(call, ret, my_cstr(&reason));
    }
    r = takes_writes(call, &reason);
    if (r != CO_DONE)
        return r;
    if (reason.len)
        return broken(call, ret, my_cstr(&reason));
    if (!call->other) {
        call->host->text_add(call->ctx, ret->reason,
                             "the source can't be asked; the follower alone can't tell that it is connected");
        return CO_DONE;
    }
    r = source_agrees(call, &f, &reason);
    if (r != CO_DONE)
        return r;
    if (reason.len)
        return broken(call, ret, my_cstr(&reason));
    ret->state = CO_LINK_RUNNING;
    return CO_DONE;
}

/* One packet: the wait, and how the follower is after it. */
static enum co_result wait_piece(struct co_call *call, const char *position, double seconds, int *ret_state,
                                 struct my_follow *ret)
{
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    if (call->conn->by_file) {
        my_file_wait_sql(call->conn, position, seconds,
                         call->run ? call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "channel") : NULL, &sql);
    } else {
        my_str_add(&sql, my_is_mysql(call->conn) ? "SELECT WAIT_FOR_EXECUTED_GTID_SET(" : "SELECT MASTER_GTID_WAIT(");
        my_str_quote(&sql, position);
        my_str_addf(&sql, ",%.3f)", seconds);
    }
    my_str_addf(&sql, ";%s", my_word_status(call->conn));
    enum co_result r = my_read(call, call->conn, my_cstr(&sql), &sets);
    if (r != CO_DONE)
        return r;
    const char *value = my_value(&sets, 0, 0);
    *ret_state = !value ? -2 : strcmp(value, "0") == 0 ? 0 : 1;
    r = sets.count > 1 ? follow_pick(call, call->conn, sets.set[1], ret) : CO_DONE;
    if (r == CO_DONE && call->conn->by_file) { /* its answer knows names of files alone; NULL: nothing applies */
        MY_STR_AUTO applied = {0};
        my_file_applied_text(ret, &applied);
        enum co_order order = my_pos_compare(my_cstr(&applied), position);
        *ret_state = order == CO_ORDER_EQUAL || order == CO_ORDER_AHEAD ? 0 : 1;
    }
    return r;
}

enum co_result my_wait_once(struct co_call *call, const char *position, double seconds, bool *ret_reached)
{
    int state = 1;
    MY_FOLLOW_AUTO f = {0};
    enum co_result r = wait_piece(call, position, seconds, &state, &f);
    *ret_reached = r == CO_DONE && state == 0;
    return r;
}

/* In pieces, since the server's wait goes on when its applier has stopped; and each ends long before the deadline: an answer
 * that comes late costs the connection, and in the write pause there is no other. */
enum co_result my_wait_applied(struct co_call *call, const char *position)
{
    if (my_pos_kind(position) <= MY_POS_EMPTY)
        return my_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "",
                       "an empty position can't be waited for: it would be reached at once");
    for (;;) {
        int64_t left_ms = (call->deadline_ns - call->host->now_ns(call->ctx)) / 1000000;
        if (left_ms < 150)
            return my_fail(call, CO_NO_EFFECT, CO_E_TIMEOUT,
                           "Look at the lag: the follower applies slower than the source writes.",
                           "the follower didn't apply %s in time", position);
        int state = 0;
        MY_FOLLOW_AUTO f = {0};
        enum co_result r = wait_piece(call, position, (double)(left_ms < 2000 ? left_ms / 4 : 500) / 1000, &state, &f);
        if (r != CO_DONE || state == 0)
            return r;
        if (state == -2)
            return my_fail(call, CO_NO_EFFECT, CO_E_SERVER, "", "the server can't wait for position %s", position);
        MY_STR_AUTO reason = {0};
        if (!f.present || f.sql_errno || f.sql_no)
            return my_fail(call, CO_NO_EFFECT, CO_E_BROKEN,
                           "Mend the replication: SHOW REPLICA STATUS on the follower says more.",
                           "the follower stopped applying: %s",
                           !f.present                    ? "it follows no other"
                           : threads_broken(&f, &reason) ? my_cstr(&reason)
                                                         : "");
    }
}
