/* sessions.c - who is connected, which sessions are ours, and ending the others.
 *
 * Sessions of a run name themselves by user-level locks, which vanish with the session and need no table and no
 * performance_schema (MariaDB has it off by default): `co:<hash of the run>:<n>` says that a session belongs to the run,
 * `co:<hash of run and actor>:<n>` to which process, `co:monitor:<n>` that it only looks. A session of the tool's account that
 * holds none of them is a stranger and is ended like all others.
 *
 * Invariant: KILL only asks. A session counts as gone when information_schema.PROCESSLIST doesn't show it; a connection
 * that is still logging in is there too, as "unauthenticated user". A server lists a connection before it authenticates it, so
 * one that is still logging in and whose id is above all that were listed after the accounts had been locked can't get in any
 * more (conn->floor_id): without that, clients that reconnect all the time would look like sessions for ever.
 *
 * MariaDB puts information_schema.PROCESSLIST into a table on its disk, for every question; SHOW PROCESSLIST has the same rows
 * and columns without one. So in the write pause its rows are judged here, by the same rule as my_foreign_where(); where they
 * don't tell, the other is asked.
 */
#include "my.h"

#include <stdio.h>
#include <stdlib.h>

#define RUN_SLOTS 16
#define ACTOR_SLOTS 8
#define MONITOR_SLOTS 16
#define KILL_CHUNK 100

static void hash_name(struct co_call *call, const char *text, char *ret)
{
    call->host->hash(call->ctx, text, strlen(text), ret);
}

static void run_hash(struct co_call *call, char *ret)
{
    MY_STR_AUTO name = {0};
    my_str_addf(&name, "changeover:%s", call->run->id);
    hash_name(call, my_cstr(&name), ret);
}

static void actor_hash(struct co_call *call, const char *actor, char *ret)
{
    MY_STR_AUTO name = {0};
    my_str_addf(&name, "changeover:%s:%s", call->run->id, actor);
    hash_name(call, my_cstr(&name), ret);
}

static void add_take(struct my_str *sql, const char *name, unsigned slots)
{
    my_str_add(sql, "CASE");
    for (unsigned i = 0; i < slots; i++)
        my_str_addf(sql, " WHEN GET_LOCK('co:%s:%u',0)=1 THEN %u", name, i, i);
    my_str_add(sql, " ELSE -1 END");
}

static void add_holders(struct my_str *sql, const char *name, unsigned slots)
{
    for (unsigned i = 0; i < slots; i++)
        my_str_addf(sql, ",IS_USED_LOCK('co:%s:%u')", name, i);
}

enum co_result my_take_slot(struct co_call *call, struct co_conn *conn)
{
    char hash[33];
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    my_str_add(&sql, "SELECT ");
    if (call->run) {
        run_hash(call, hash);
        add_take(&sql, hash, RUN_SLOTS);
        my_str_add(&sql, ",");
        actor_hash(call, call->run->actor, hash);
        add_take(&sql, hash, ACTOR_SLOTS);
    } else {
        add_take(&sql, "monitor", MONITOR_SLOTS);
    }
    enum co_result r = my_read(call, conn, my_cstr(&sql), &sets);
    if (r != CO_DONE || !call->run)
        return r;
    if (my_int(my_value(&sets, 0, 0), -1) < 0 || my_int(my_value(&sets, 0, 1), -1) < 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_STATE,
                       "End the sessions of older processes of this run (KILL), then try again.",
                       "too many sessions of run %s are on this server", call->run->id);
    return CO_DONE;
}

/* The ids of our own sessions, with commas between them. */
static void add_own(struct co_call *call, struct my_str *sql)
{
    char hash[33];
    my_str_add(sql, "CONCAT_WS(',',CONNECTION_ID()");
    if (call->run) {
        run_hash(call, hash);
        add_holders(sql, hash, RUN_SLOTS);
    }
    add_holders(sql, "monitor", MONITOR_SLOTS);
    my_str_add(sql, ")");
}

void my_own_sql(struct co_call *call, struct my_str *sql)
{
    my_str_add(sql, "SET @co_own=");
    add_own(call, sql);
    my_str_add(sql, ";");
}

enum co_result my_foreign_where(struct co_call *call, struct my_str *sql)
{
    const char *replication = call->host->secret_user(call->ctx, CO_SECRET_REPLICATION);
    my_str_add(
        sql,
        "FIND_IN_SET(p.ID,@co_own)=0 AND p.COMMAND NOT IN ('Binlog Dump','Binlog Dump GTID','Daemon','Slave_IO','Slave_SQL',"
        "'Slave_worker') AND CONVERT(p.USER USING utf8mb4) COLLATE utf8mb4_bin NOT IN ('system user','event_scheduler'");
    if (replication) {
        my_str_add(sql, ",");
        my_str_quote(sql, replication);
    }
    if (!call->run) { /* a look from outside: a run's sessions aren't strangers */
        my_str_add(sql, ",");
        my_str_quote(sql, call->conn->account_user);
    }
    my_str_add(sql, ")");
    /* While it logs in a session already bears the name that it claims. An event's thread is Connect too, but has no port and
     * never reads. */
    if (call->conn->floor_id)
        my_str_addf(sql,
                    " AND NOT (p.ID>%llu AND (p.USER='unauthenticated user' OR (p.COMMAND IN ('Connect','Killed','Busy') AND "
                    "(COALESCE(p.STATE,'') IN ('login','Receiving from client','Reading from net') OR (p.HOST LIKE '%%:%%' AND "
                    "COALESCE(p.STATE,'') IN ('Sending to client','Writing to net','Rollback'))))))",
                    (unsigned long long)call->conn->floor_id);
    return sql->overflow ? my_out_of_memory(call) : CO_DONE;
}

/* ---------------------------------------------------------------- SHOW PROCESSLIST, judged here */

static bool one_of(const char *text, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(text, *names) == 0)
            return true;
    return false;
}

static bool in_list(const char *ids, const char *id)
{
    size_t len = strlen(id);
    for (const char *at = ids; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, id, len) == 0 && (at[len] == ',' || !at[len]))
            return true;
    return false;
}

enum { SHOWN_ID, SHOWN_USER, SHOWN_HOST, SHOWN_DB, SHOWN_COMMAND, SHOWN_TIME, SHOWN_STATE, SHOWN_COLUMNS };

/* Still logging in, and too late to get in: what my_foreign_where() says of floor_id. */
static bool too_late(const struct co_call *call, MYSQL_ROW row, const char *command, const char *state)
{
    static const char *const begins[] = {"login", "Receiving from client", "Reading from net", NULL};
    static const char *const ends[] = {"Sending to client", "Writing to net", "Rollback", NULL};
    static const char *const commands[] = {"Connect", "Killed", "Busy", NULL};
    if (!call->conn->floor_id || strtoull(row[SHOWN_ID], NULL, 10) <= call->conn->floor_id)
        return false;
    return strcmp(row[SHOWN_USER], "unauthenticated user") == 0 ||
           (one_of(command, commands) &&
            (one_of(state, begins) || (row[SHOWN_HOST] && strchr(row[SHOWN_HOST], ':') && one_of(state, ends))));
}

static bool is_foreign(const struct co_call *call, MYSQL_ROW row, const char *own)
{
    static const char *const servers[] = {"Binlog Dump", "Binlog Dump GTID", "Daemon", "Slave_IO",
                                          "Slave_SQL",   "Slave_worker",     NULL};
    static const char *const users[] = {"system user", "event_scheduler", NULL};
    const char *command = row[SHOWN_COMMAND] ? row[SHOWN_COMMAND] : "", *state = row[SHOWN_STATE] ? row[SHOWN_STATE] : "";
    const char *replication = call->host->secret_user(call->ctx, CO_SECRET_REPLICATION);
    if (!row[SHOWN_USER])
        return true;
    return !in_list(own, row[SHOWN_ID]) && !one_of(command, servers) && !one_of(row[SHOWN_USER], users) &&
           !(replication && strcmp(row[SHOWN_USER], replication) == 0) && !too_late(call, row, command, state);
}

bool my_shows(const struct co_call *call)
{
    return !my_is_mysql(call->conn) && call->run && call->conn->floor_id;
}

void my_shown_sql(struct co_call *call, struct my_str *sql)
{
    my_str_add(sql, "SELECT ");
    add_own(call, sql);
    my_str_add(sql, ";SHOW PROCESSLIST;");
}

bool my_shown_none(struct co_call *call, const struct my_sets *sets, unsigned at, int64_t *ret_appliers)
{
    const char *own = my_value(sets, at, 0);
    *ret_appliers = 0;
    if (!own || sets->count < at + 2 || mysql_num_fields(sets->set[at + 1]) < SHOWN_COLUMNS)
        return false;
    mysql_data_seek(sets->set[at + 1], 0);
    for (MYSQL_ROW row; (row = mysql_fetch_row(sets->set[at + 1]));) {
        if (is_foreign(call, row, own))
            return false;
        *ret_appliers += row[SHOWN_COMMAND] && strcmp(row[SHOWN_COMMAND], "Slave_SQL") == 0;
    }
    return true;
}

uint64_t my_shown_last_id(MYSQL_RES *res)
{
    uint64_t last = 0;
    for (MYSQL_ROW row; (row = mysql_fetch_row(res));) {
        uint64_t id = strtoull(row[SHOWN_ID], NULL, 10);
        last = id > last ? id : last;
    }
    return last;
}

/* KILLs a chunk; *at moves past what was dealt with. A session that is gone already (1094) is skipped. */
static enum co_result kill_chunk(struct co_call *call, struct co_conn *conn, bool guarded, const uint64_t *ids, size_t count,
                                 size_t *at)
{
    MY_STR_AUTO sql = {0};
    size_t end = *at + KILL_CHUNK < count ? *at + KILL_CHUNK : count;
    bool block = !my_is_mysql(conn); /* else each that is gone ends the packet, and costs another one */
    my_str_add(&sql, block ? "BEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;" : "");
    for (size_t i = *at; i < end; i++)
        my_str_addf(&sql, "KILL %llu;", (unsigned long long)ids[i]);
    my_str_add(&sql, block ? "END;" : "");
    MY_SETS_AUTO sets = {0};
    enum co_result r = guarded ? my_change(call, conn, my_cstr(&sql), &sets) : my_exec(call, conn, my_cstr(&sql), &sets);
    unsigned guard = guarded ? 3 : 0;
    if (r == CO_DONE)
        *at = end;
    else if (sets.error == 1094 && sets.done >= guard) {
        *at += sets.done - guard + 1;
        r = CO_DONE;
    }
    return r;
}

static enum co_result kill_ids(struct co_call *call, struct co_conn *conn, bool guarded, const uint64_t *ids, size_t count)
{
    enum co_result r = CO_DONE;
    for (size_t at = 0; at < count && r == CO_DONE;)
        r = kill_chunk(call, conn, guarded, ids, count, &at);
    return r;
}

struct foreign {
    uint64_t *kill;
    size_t kill_count;
    unsigned total;     /* sessions seen */
    unsigned held_back; /* of them left alone: they may finish */
    struct my_str names;
};

static void foreign_done(struct foreign *f)
{
    free(f->kill);
    my_str_done(&f->names);
}

/* Users that write past read_only (MariaDB): their statements in flight can still be acknowledged, so they are given the time
 * that `drain.timeout` grants. Everybody else's can't, and is ended at once. */
static enum co_result bypass_users(struct co_call *call)
{
    if (call->conn->bypass || my_is_mysql(call->conn))
        return CO_DONE;
    MY_SETS_AUTO sets = {0};
    enum co_result r = my_read(call, call->conn,
                               "SELECT COALESCE(GROUP_CONCAT(DISTINCT QUOTE(User)),'') FROM mysql.user WHERE Super_priv='Y' OR "
                               "CONCAT('''',User,'''@''',Host,'''') IN (SELECT GRANTEE FROM information_schema.USER_PRIVILEGES "
                               "WHERE PRIVILEGE_TYPE IN ('READ_ONLY ADMIN','READ ONLY ADMIN'))",
                               &sets);
    if (r == CO_DONE) {
        const char *list = my_value(&sets, 0, 0);
        call->conn->bypass = strdup(list ? list : "");
        if (!call->conn->bypass)
            return my_out_of_memory(call);
    }
    return r;
}

enum manner {
    ALL,
    POLITE, /* leaves alone what is in flight and could still be acknowledged */
    RUNNING /* leaves alone what runs nothing, and what only waits for a table's or the server's lock */
};

static void add_name(struct foreign *f, const char *id, const char *user, const char *host, const char *doing, const char *time)
{
    if (f->total++ < 5)
        my_str_addf(&f->names, "%s%s %s@%s (%s, %s s)", f->total > 1 ? ", " : "", id, user ? user : "", host ? host : "", doing,
                    time ? time : "?");
}

/* May that user write past read_only? A name that QUOTE() might write in another way than we do: perhaps. */
static bool may_bypass(const struct co_call *call, const char *user)
{
    const char *list = call->conn->bypass;
    MY_STR_AUTO quoted = {0};
    if (!list || !user || strspn(user, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.- ") != strlen(user))
        return true;
    my_str_quote(&quoted, user);
    return strcasestr(list, my_cstr(&quoted)) != NULL;
}

/* The same as the query below, from SHOW PROCESSLIST. *ret_told: false where the rows don't say enough. */
static enum co_result foreign_shown(struct co_call *call, enum manner manner, struct foreign *ret, bool *ret_told)
{
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    my_shown_sql(call, &sql);
    enum co_result r = sql.overflow ? my_out_of_memory(call) : my_read(call, call->conn, my_cstr(&sql), &sets);
    const char *own = r == CO_DONE ? my_value(&sets, 0, 0) : NULL;
    *ret_told = own && sets.count > 1 && mysql_num_fields(sets.set[1]) >= SHOWN_COLUMNS;
    if (!*ret_told)
        return r;
    ret->kill = calloc((size_t)mysql_num_rows(sets.set[1]) + 1, sizeof *ret->kill);
    if (!ret->kill)
        return my_out_of_memory(call);
    for (MYSQL_ROW row; (row = mysql_fetch_row(sets.set[1]));) {
        if (!is_foreign(call, row, own))
            continue;
        const char *command = row[SHOWN_COMMAND] ? row[SHOWN_COMMAND] : "";
        if (strcmp(command, "Busy") == 0 || (manner == POLITE && may_bypass(call, row[SHOWN_USER]))) {
            foreign_done(ret);
            *ret = (struct foreign){0};
            *ret_told = false;
            return CO_DONE;
        }
        if (strcmp(command, "Killed") != 0)
            ret->kill[ret->kill_count++] = strtoull(row[SHOWN_ID], NULL, 10);
        add_name(ret, row[SHOWN_ID], row[SHOWN_USER], row[SHOWN_HOST],
                 row[SHOWN_STATE] && *row[SHOWN_STATE] ? row[SHOWN_STATE] : command, row[SHOWN_TIME]);
    }
    if (ret->total > 5)
        my_str_addf(&ret->names, " and %u more", ret->total - 5);
    return CO_DONE;
}

static enum co_result foreign_read(struct co_call *call, enum manner manner, struct foreign *ret)
{
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    if (manner != RUNNING && my_shows(call)) {
        bool told = false;
        enum co_result shown = foreign_shown(call, manner, ret, &told);
        if (shown != CO_DONE || told)
            return shown;
    }
    my_own_sql(call, &sql);
    my_str_add(&sql, "SELECT p.ID,p.USER,p.HOST,p.COMMAND,p.TIME,p.STATE,");
    if (manner == RUNNING)
        my_str_add(&sql, "p.COMMAND='Sleep' OR COALESCE(p.STATE,'') LIKE 'Waiting for%lock'");
    else if (manner == POLITE && !my_is_mysql(call->conn) && call->conn->bypass && *call->conn->bypass)
        my_str_addf(&sql,
                    "p.USER IN (%s) AND (p.COMMAND<>'Sleep' OR p.ID IN (SELECT trx_mysql_thread_id FROM "
                    "information_schema.INNODB_TRX))",
                    call->conn->bypass);
    else
        my_str_add(&sql, "0");
    my_str_add(&sql, " FROM information_schema.PROCESSLIST p WHERE ");
    enum co_result r = my_foreign_where(call, &sql);
    if (r == CO_DONE)
        r = my_read(call, call->conn, my_cstr(&sql), &sets);
    if (r != CO_DONE)
        return r;
    MYSQL_RES *res = sets.set[0];
    ret->kill = calloc((size_t)mysql_num_rows(res) + 1, sizeof *ret->kill);
    if (!ret->kill)
        return my_out_of_memory(call);
    for (MYSQL_ROW row; (row = mysql_fetch_row(res));) {
        bool killed = row[3] && strcmp(row[3], "Killed") == 0;
        if (my_truth(row[6]))
            ret->held_back++;
        else if (!killed)
            ret->kill[ret->kill_count++] = strtoull(row[0], NULL, 10);
        add_name(ret, row[0], row[1], row[2], row[5] && *row[5] ? row[5] : row[3] ? row[3] : "", row[4]);
    }
    if (ret->total > 5)
        my_str_addf(&ret->names, " and %u more", ret->total - 5);
    return CO_DONE;
}

enum co_result my_sessions_probe(struct co_call *call, enum co_presence *ret)
{
    __attribute__((cleanup(foreign_done))) struct foreign f = {0};
    enum co_result r = bypass_users(call);
    if (r == CO_DONE)
        r = foreign_read(call, call->role == CO_SOURCE ? POLITE : ALL, &f);
    if (r == CO_DONE)
        *ret = f.total == f.held_back ? CO_PRESENT : CO_ABSENT;
    return r;
}

enum co_result my_sessions_end_idle(struct co_call *call)
{
    __attribute__((cleanup(foreign_done))) struct foreign f = {0};
    enum co_result r = bypass_users(call);
    if (r == CO_DONE)
        r = foreign_read(call, POLITE, &f);
    return r == CO_DONE ? kill_ids(call, call->conn, true, f.kill, f.kill_count) : r;
}

enum co_result my_sessions_end_running(struct co_call *call, unsigned *ret_ended)
{
    __attribute__((cleanup(foreign_done))) struct foreign f = {0};
    enum co_result r = foreign_read(call, RUNNING, &f);
    if (r == CO_DONE)
        r = kill_ids(call, call->conn, true, f.kill, f.kill_count);
    *ret_ended = (unsigned)f.kill_count;
    return r;
}

enum co_result my_sessions_end_all(struct co_call *call)
{
    __attribute__((cleanup(foreign_done))) struct foreign f = {0};
    enum co_result r = foreign_read(call, ALL, &f);
    if (r == CO_DONE && f.kill_count)
        r = kill_ids(call, call->conn, true, f.kill, f.kill_count);
    if (r != CO_DONE || f.total == 0)
        return r;
    if (call->host->progress) {
        MY_STR_AUTO what = {0};
        my_str_addf(&what, "waiting for %u sessions to end: %s", f.total, my_cstr(&f.names));
        struct co_progress progress = {.what = my_cstr(&what), .done = -1, .total = -1, .unit = "sessions"};
        call->host->progress(call->ctx, &progress);
    }
    return CO_AGAIN;
}

/* Sessions of a user none of whose accounts is of that scope go on: read_only holds them. */
static enum co_result sessions_of(struct co_call *call, enum my_scope scope, struct foreign *ret)
{
    if (scope == MY_SCOPE_ALL)
        return foreign_read(call, ALL, ret);
    MY_SETS_AUTO accounts = {0};
    MY_SETS_AUTO sets = {0};
    MY_STR_AUTO sql = {0};
    enum co_result r = my_accounts_of(call, scope, &accounts);
    if (r != CO_DONE)
        return r;
    my_own_sql(call, &sql);
    my_str_add(&sql, "SELECT p.ID FROM information_schema.PROCESSLIST p WHERE p.USER IN ('unauthenticated user'");
    for (MYSQL_ROW row; (row = mysql_fetch_row(accounts.set[0]));) {
        my_str_add(&sql, ",");
        my_str_quote(&sql, row[0]);
    }
    my_str_add(&sql, ") AND ");
    r = my_foreign_where(call, &sql);
    if (r == CO_DONE)
        r = my_read(call, call->conn, my_cstr(&sql), &sets);
    if (r != CO_DONE)
        return r;
    ret->kill = calloc((size_t)mysql_num_rows(sets.set[0]) + 1, sizeof *ret->kill);
    if (!ret->kill)
        return my_out_of_memory(call);
    for (MYSQL_ROW row; (row = mysql_fetch_row(sets.set[0]));)
        ret->kill[ret->kill_count++] = strtoull(row[0], NULL, 10);
    ret->total = (unsigned)ret->kill_count;
    return CO_DONE;
}

enum co_result my_sessions_probe_of(struct co_call *call, enum my_scope scope, enum co_presence *ret)
{
    __attribute__((cleanup(foreign_done))) struct foreign f = {0};
    enum co_result r = sessions_of(call, scope, &f);
    if (r == CO_DONE)
        *ret = f.total ? CO_ABSENT : CO_PRESENT;
    return r;
}

enum co_result my_sessions_end_of(struct co_call *call, enum my_scope scope)
{
    __attribute__((cleanup(foreign_done))) struct foreign f = {0};
    enum co_result r = sessions_of(call, scope, &f);
    if (r == CO_DONE && f.kill_count)
        r = kill_ids(call, call->conn, true, f.kill, f.kill_count);
    return r == CO_DONE && f.total ? CO_AGAIN : r;
}

enum co_result my_drain(struct co_call *call, bool end, struct co_text *remaining)
{
    __attribute__((cleanup(foreign_done))) struct foreign f = {0};
    call->host->text_set(call->ctx, remaining, "", 0);
    enum co_result r = bypass_users(call);
    if (r == CO_DONE)
        r = foreign_read(call, end ? ALL : POLITE, &f);
    if (r != CO_DONE || f.total == 0)
        return r;
    /* who slipped in while accounts were being locked is ended in either case: only what is in flight is waited for */
    if (f.kill_count)
        r = kill_ids(call, call->conn, true, f.kill, f.kill_count);
    if (r != CO_DONE)
        return r;
    call->host->text_add(call->ctx, remaining, "%u session%s: %s", f.total, f.total == 1 ? "" : "s", my_cstr(&f.names));
    return CO_AGAIN;
}

enum co_result my_end_sessions(struct co_call *call, const char *keep_actor)
{
    if (!call->run)
        return my_fail(call, CO_NO_EFFECT, CO_E_INTERNAL, "", "sessions can only be ended within a run");
    char hash[33];
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    actor_hash(call, call->run->actor, hash);
    my_str_add(&sql, "SET @co_keep=CONCAT_WS(',',CONNECTION_ID()");
    add_holders(&sql, hash, ACTOR_SLOTS);
    if (keep_actor) {
        actor_hash(call, keep_actor, hash);
        add_holders(&sql, hash, ACTOR_SLOTS);
    }
    my_str_add(&sql, ");SET @co_all=CONCAT_WS(',',CONNECTION_ID()");
    run_hash(call, hash);
    add_holders(&sql, hash, RUN_SLOTS);
    my_str_add(&sql, ");SELECT p.ID FROM information_schema.PROCESSLIST p WHERE FIND_IN_SET(p.ID,@co_all)>0 AND "
                     "FIND_IN_SET(p.ID,@co_keep)=0");
    enum co_result r = my_read(call, call->conn, my_cstr(&sql), &sets);
    if (r != CO_DONE)
        return r;
    size_t count = (size_t)mysql_num_rows(sets.set[0]);
    if (count == 0)
        return CO_DONE;
    uint64_t *ids = calloc(count, sizeof *ids);
    if (!ids)
        return my_out_of_memory(call);
    size_t n = 0;
    for (MYSQL_ROW row; n < count && (row = mysql_fetch_row(sets.set[0]));)
        ids[n++] = strtoull(row[0], NULL, 10);
    r = kill_ids(call, call->conn, false, ids, n); /* not guarded: the lock may be held by just these */
    free(ids);
    return r == CO_DONE ? CO_AGAIN : r;
}
