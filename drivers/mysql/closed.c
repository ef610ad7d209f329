/* closed.c - what makes a server refuse clients: accounts locked, events off one by one, read_only, nobody connected. The fence
 * of the source and the closure of the target are the same acts, each on its own server with sql_log_bin=0, so that neither
 * travels to the other.
 *
 * Facts it rests on (MariaDB 10.11, tried): ACCOUNT LOCK refuses every login, root over unix_socket too, at once and after
 * a restart; read_only refuses neither READ ONLY ADMIN nor FLUSH, and is off again after a restart of MariaDB; an
 * ALTER EVENT takes the session's sql_mode and, without DEFINER, the session's user.
 *
 * Invariant: what was changed is in changeover.originals on the same server before it is changed, in the same packet, and
 * leaves that table with the change that puts it back.
 */
#include "my.h"
#include "setup.h"

#include <stdlib.h>

#define LAST_ID_SQL(conn) (my_is_mysql(conn) ? "SELECT MAX(ID) FROM information_schema.PROCESSLIST;" : "SHOW PROCESSLIST;")

void my_closed_done(struct my_closed *closed)
{
    free(closed->names);
    *closed = (struct my_closed){0};
}

enum co_result my_exempt(struct co_call *call, struct my_str *sql)
{
    const char *replication = call->host->secret_user(call->ctx, CO_SECRET_REPLICATION);
    my_str_quote(sql, call->conn->account_user);
    if (replication) {
        my_str_add(sql, ",");
        my_str_quote(sql, replication);
    }
    return sql->overflow ? my_out_of_memory(call) : CO_DONE;
}

/* Accounts (u) that may write while read_only is on; MySQL: while super_read_only is off for the length of a packet, so those
 * that could turn it off are meant too. A privilege may come through a role or a proxied account: where any such role exists,
 * whoever has a role is meant. */
static const char bypass_mariadb[] =
    " AND (CONCAT('''',u.User,'''@''',u.Host,'''') IN (SELECT GRANTEE FROM information_schema.USER_PRIVILEGES WHERE "
    "PRIVILEGE_TYPE IN ('READ_ONLY ADMIN','READ ONLY ADMIN','SUPER')) OR EXISTS (SELECT 1 FROM mysql.proxies_priv x WHERE "
    "x.User=u.User AND x.Host=u.Host AND x.Proxied_user<>'') OR (EXISTS (SELECT 1 FROM mysql.roles_mapping m WHERE "
    "m.User=u.User "
    "AND m.Host=u.Host) AND EXISTS (SELECT 1 FROM information_schema.USER_PRIVILEGES r JOIN mysql.global_priv g ON r.GRANTEE "
    "IN "
    "(g.User,CONCAT('''',g.User,''''),CONCAT('''',g.User,'''@''''')) WHERE JSON_VALUE(g.Priv,'$.is_role') IN ('1','true') AND "
    "r.PRIVILEGE_TYPE IN ('READ_ONLY ADMIN','READ ONLY ADMIN','SUPER'))))";
static const char bypass_mysql[] =
    " AND (@@GLOBAL.mandatory_roles<>'' OR CONCAT('''',u.User,'''@''',u.Host,'''') IN (SELECT GRANTEE FROM "
    "information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE IN ('SUPER','CONNECTION_ADMIN','SYSTEM_VARIABLES_ADMIN')) OR "
    "EXISTS (SELECT 1 FROM mysql.proxies_priv x WHERE x.User=u.User AND x.Host=u.Host AND x.Proxied_user<>'') OR (EXISTS "
    "(SELECT 1 FROM mysql.role_edges m WHERE m.TO_USER=u.User AND m.TO_HOST=u.Host) AND EXISTS (SELECT 1 FROM "
    "information_schema.USER_PRIVILEGES r JOIN mysql.role_edges e ON "
    "r.GRANTEE=CONCAT('''',e.FROM_USER,'''@''',e.FROM_HOST,'''') "
    "WHERE r.PRIVILEGE_TYPE IN ('SUPER','CONNECTION_ADMIN','SYSTEM_VARIABLES_ADMIN'))))";

static const char *bypass_condition(const struct co_conn *conn)
{
    if (!my_is_mysql(conn))
        return bypass_mariadb;
    return conn->version >= 80000 ? bypass_mysql : " AND u.Super_priv='Y'";
}

/* FROM and WHERE of the accounts that could log in and shouldn't. Roles can't log in. */
static enum co_result accounts_from(struct co_call *call, enum my_scope scope, struct my_str *sql)
{
    my_str_add(sql, my_is_mysql(call->conn)
                        ? " FROM mysql.user u WHERE u.User NOT IN ("
                        : " FROM mysql.global_priv u WHERE COALESCE(JSON_VALUE(u.Priv,'$.is_role'),'0') IN ('0','false') AND "
                          "u.User NOT IN (");
    enum co_result r = my_exempt(call, sql);
    my_str_add(sql, ")");
    if (scope == MY_SCOPE_BYPASS)
        my_str_add(sql, bypass_condition(call->conn));
    return r;
}

static enum co_result unlocked_from(struct co_call *call, enum my_scope scope, struct my_str *sql)
{
    enum co_result r = accounts_from(call, scope, sql);
    my_str_add(sql, my_is_mysql(call->conn) ? " AND u.account_locked='N'"
                                            : " AND COALESCE(JSON_VALUE(u.Priv,'$.account_locked'),'0') IN ('0','false')");
    return r;
}

enum co_result my_accounts_unlocked_from(struct co_call *call, struct my_str *sql)
{
    return unlocked_from(call, MY_SCOPE_ALL, sql);
}

static enum co_result my_events_read(struct co_call *call, struct my_sets *ret);

static const char *scheduler_from(const struct co_conn *conn)
{
    return my_is_mysql(conn) ? "@@GLOBAL.read_only,@@GLOBAL.super_read_only,@@GLOBAL.event_scheduler"
                             : "@@GLOBAL.read_only,0,@@GLOBAL.event_scheduler";
}

/* Who is connected, whether something is applied here (MariaDB: seen among the threads) and the highest id, in one pass. */
static enum co_result add_sessions_look(struct co_call *call, struct my_str *sql)
{
    MY_STR_AUTO foreign = {0};
    enum co_result r = my_foreign_where(call, &foreign);
    if (r != CO_DONE)
        return r;
    my_str_addf(
        sql,
        "SELECT SUM(%s), LEFT(COALESCE(GROUP_CONCAT(IF(%s,CONCAT(p.ID,' ',p.USER,'@',p.HOST,' ',p.COMMAND),NULL)),''),200),"
        "SUM(p.COMMAND='Slave_SQL'),MAX(p.ID) FROM information_schema.PROCESSLIST p;",
        my_cstr(&foreign), my_cstr(&foreign));
    if (my_is_mysql(call->conn))
        my_str_add(sql, "SELECT COUNT(*) FROM performance_schema.replication_applier_status WHERE SERVICE_STATE='ON';");
    return CO_DONE;
}

/* `shown`: the sessions are known from SHOW PROCESSLIST, and are none. */
static enum co_result look_take(struct co_call *call, const struct my_sets *sets, bool shown, int64_t appliers,
                                struct my_closed *ret)
{
    bool mysql = my_is_mysql(call->conn);
    ret->unlocked = my_int(my_value(sets, 0, 0), -1);
    ret->events = my_int(my_value(sets, 1, 0), -1);
    ret->read_only = my_truth(my_value(sets, 2, 0));
    ret->super_read_only = my_truth(my_value(sets, 2, 1));
    ret->scheduler = my_truth(my_value(sets, 2, 2));
    ret->sessions = shown ? 0 : my_int(my_value(sets, 3, 0), -1);
    ret->appliers = shown ? appliers : my_int(mysql ? my_value(sets, 4, 0) : my_value(sets, 3, 2), -1);
    if (ret->unlocked)
        call->conn->floor_id = 0;
    else if (!call->conn->floor_id)
        call->conn->floor_id = (uint64_t)my_int(my_value(sets, 3, 3), 0);
    MY_STR_AUTO names = {0};
    if (ret->unlocked)
        my_str_addf(&names, "%lld unlocked accounts (%s); ", (long long)ret->unlocked, my_value(sets, 0, 1));
    if (ret->events)
        my_str_addf(&names, "%lld enabled events (%s); ", (long long)ret->events, my_value(sets, 1, 1));
    if (ret->sessions)
        my_str_addf(&names, "%lld sessions (%s); ", (long long)ret->sessions, my_value(sets, 3, 1));
    if (!ret->read_only)
        my_str_add(&names, "read_only is off; ");
    else if (mysql && !ret->super_read_only)
        my_str_add(&names, "super_read_only is off; ");
    ret->names = strdup(my_cstr(&names));
    if (ret->names && names.len > 2)
        ret->names[names.len - 2] = 0;
    return ret->names ? CO_DONE : my_out_of_memory(call);
}

/* `shown`: with SHOW PROCESSLIST, which answers faster and may not tell enough. */
static enum co_result look_read(struct co_call *call, bool shown, const char *more, struct my_sets *ret)
{
    bool mysql = my_is_mysql(call->conn);
    MY_STR_AUTO sql = {0};
    if (!shown)
        my_own_sql(call, &sql);
    my_str_add(&sql, "SELECT COUNT(*), LEFT(COALESCE(GROUP_CONCAT(CONCAT(u.User,'@',u.Host)),''),200)");
    enum co_result r = unlocked_from(call, MY_SCOPE_ALL, &sql);
    /* MariaDB's table itself: information_schema.EVENTS goes through a temporary table on disk, and this look is in the write
     * pause */
    my_str_add(&sql, mysql
                         ? ";SELECT COUNT(*), LEFT(COALESCE(GROUP_CONCAT(CONCAT(EVENT_SCHEMA,'.',EVENT_NAME)),''),200) FROM "
                           "information_schema.EVENTS WHERE STATUS='ENABLED';"
                         : ";SELECT COUNT(*), LEFT(COALESCE(GROUP_CONCAT(CONCAT(db,'.',name)),''),200) FROM mysql.event WHERE "
                           "status='ENABLED';");
    my_str_addf(&sql, "SELECT %s;", scheduler_from(call->conn));
    if (r == CO_DONE && shown)
        my_shown_sql(call, &sql);
    else if (r == CO_DONE)
        r = add_sessions_look(call, &sql);
    my_str_add(&sql, more);
    if (r == CO_DONE && sql.overflow)
        r = my_out_of_memory(call);
    return r == CO_DONE ? my_read(call, call->conn, my_cstr(&sql), ret) : r;
}

enum co_result my_closed_look_and(struct co_call *call, const char *more, struct my_closed *ret, struct my_sets *ret_more)
{
    MY_SETS_AUTO sets = {0};
    int64_t appliers = -1;
    bool shown = my_shows(call);
    enum co_result r = look_read(call, shown, more, &sets);
    if (r == CO_DONE && shown && !my_shown_none(call, &sets, 3, &appliers)) {
        shown = false;
        my_sets_done(&sets);
        r = look_read(call, shown, more, &sets);
    }
    if (r != CO_DONE)
        return r;
    for (unsigned own = shown || my_is_mysql(call->conn) ? 5 : 4; ret_more && sets.count > own; sets.count--) {
        ret_more->set[sets.count - own - 1] = sets.set[sets.count - 1];
        ret_more->count++;
    }
    return look_take(call, &sets, shown, appliers, ret);
}

enum co_result my_closed_look(struct co_call *call, struct my_closed *ret)
{
    return my_closed_look_and(call, "DO 0", ret, NULL);
}

bool my_closed_holds(const struct co_call *call, const struct my_closed *c)
{
    return c->unlocked == 0 && c->events == 0 && c->sessions == 0 && c->read_only &&
           (!my_is_mysql(call->conn) || c->super_read_only);
}

/* ---------------------------------------------------------------- what a run holds */

/* Rows of changeover.originals: what was changed, by which run, and `hold` rows that say which run keeps what closed. An old
 * primary that was never opened again stays closed by its own run's rows when a later run that closed it too is undone. */
const char *my_run_id(const struct co_call *call)
{
    return call->run ? call->run->id : "setup";
}

/* One INSERT for all rows of a packet: each would cost the server a sync of its log, and the fence is part of the write pause.
 */
static void add_row(struct co_call *call, struct my_str *sql, bool *first, const char *kind, const char *a, const char *b,
                    const char *value)
{
    my_str_add(sql, *first ? "INSERT INTO " MY_SCHEMA ".originals (kind,a,b,value,run) VALUES (" : ",(");
    my_str_quote(sql, kind);
    my_str_add(sql, ",");
    my_str_quote(sql, a);
    my_str_add(sql, ",");
    my_str_quote(sql, b);
    my_str_add(sql, ",");
    my_str_quote(sql, value);
    my_str_addf(sql, ",'%s')", my_run_id(call));
    *first = false;
}

/* What is kept is what this run is about to change: a row that an older run has left is taken over. */
static void end_rows(struct my_str *sql)
{
    my_str_add(sql, " ON DUPLICATE KEY UPDATE value=VALUES(value),run=VALUES(run);");
}

static void add_hold(struct co_call *call, struct my_str *sql, bool *first, const char *what)
{
    add_row(call, sql, first, "hold", what, my_run_id(call), "");
}

static void unhold_sql(struct co_call *call, struct my_str *sql, const char *what)
{
    my_str_addf(sql, "DELETE FROM " MY_SCHEMA ".originals WHERE kind='hold' AND a='%s' AND b='%s';", what, my_run_id(call));
}

static bool no_schema(const struct my_sets *sets)
{
    return sets->error == 1146 || sets->error == 1049;
}

/* Whether this run holds `what`; without our schema it holds nothing. */
static enum co_result held(struct co_call *call, const char *what, bool *ret)
{
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    my_str_addf(&sql, "SELECT COUNT(*) FROM " MY_SCHEMA ".originals WHERE kind='hold' AND a='%s' AND b='%s'", what,
                my_run_id(call));
    enum co_result r = my_read(call, call->conn, my_cstr(&sql), &sets);
    *ret = r == CO_DONE && my_int(my_value(&sets, 0, 0), 0) > 0;
    return r != CO_DONE && no_schema(&sets) ? CO_DONE : r;
}

static enum co_presence presence(bool hold, bool complete)
{
    return !hold ? CO_ABSENT : complete ? CO_PRESENT : CO_PARTIAL;
}

/* ---------------------------------------------------------------- accounts */

enum co_result my_accounts_of(struct co_call *call, enum my_scope scope, struct my_sets *ret)
{
    MY_STR_AUTO sql = {0};
    my_str_add(&sql, "SELECT u.User,u.Host");
    enum co_result r = accounts_from(call, scope, &sql);
    return r == CO_DONE ? my_read(call, call->conn, my_cstr(&sql), ret) : r;
}

enum co_result my_accounts_locked(struct co_call *call, enum my_scope scope, bool *ret, struct my_str *ret_names)
{
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    my_str_add(&sql, "SELECT COUNT(*), LEFT(COALESCE(GROUP_CONCAT(CONCAT(u.User,'@',u.Host)),''),200)");
    enum co_result r = unlocked_from(call, scope, &sql);
    if (r == CO_DONE)
        r = my_read(call, call->conn, my_cstr(&sql), &sets);
    *ret = r == CO_DONE && my_int(my_value(&sets, 0, 0), -1) == 0;
    if (r == CO_DONE && ret_names)
        my_str_add(ret_names, my_value(&sets, 0, 1));
    return r;
}

enum co_result my_accounts_probe(struct co_call *call, enum co_presence *ret)
{
    bool locked = false, hold = false;
    enum co_result r = my_accounts_locked(call, MY_SCOPE_ALL, &locked, NULL);
    if (r == CO_DONE)
        r = held(call, "accounts", &hold);
    *ret = presence(hold, locked);
    return r;
}

/* The unlocked accounts of that scope, each with whether this run keeps a row for it. */
static enum co_result unlocked_read(struct co_call *call, enum my_scope scope, struct my_sets *ret)
{
    MY_STR_AUTO sql = {0};
    my_str_addf(
        &sql,
        "SELECT u.User,u.Host,EXISTS(SELECT 1 FROM " MY_SCHEMA
        ".originals o WHERE o.kind='account' AND o.run='%s' AND o.a=CONVERT(u.User USING utf8mb4) COLLATE utf8mb4_bin AND "
        "o.b=CONVERT(u.Host USING utf8mb4) COLLATE utf8mb4_bin)",
        my_run_id(call));
    enum co_result r = unlocked_from(call, scope, &sql);
    return r == CO_DONE ? my_read(call, call->conn, my_cstr(&sql), ret) : r;
}

static void list_account(struct my_str *list, MYSQL_ROW row)
{
    if (list->len)
        my_str_add(list, ",");
    my_str_account(list, row[0], row[1]);
}

/* The highest id of what was listed after the accounts had been locked; set `at` is LAST_ID_SQL's. */
static void take_floor(struct co_call *call, const struct my_sets *sets, unsigned at)
{
    call->conn->floor_id = at >= sets->count         ? 0
                           : my_is_mysql(call->conn) ? (uint64_t)my_int(my_value(sets, at, 0), 0)
                                                     : my_shown_last_id(sets->set[at]);
}

/* What warm_up has kept rows for, without asking which accounts are unlocked first; that is seen after it, in the same packet.
 * *ret_all: none is. */
static enum co_result lock_kept(struct co_call *call, bool *ret_all)
{
    MY_STR_AUTO packet = {0};
    MY_SETS_AUTO sets = {0};
    my_str_addf(&packet, "ALTER USER IF EXISTS %s ACCOUNT LOCK;SELECT u.User", call->conn->kept_accounts);
    enum co_result r = unlocked_from(call, MY_SCOPE_ALL, &packet);
    my_str_addf(&packet, ";%s", LAST_ID_SQL(call->conn));
    if (r != CO_DONE || packet.overflow)
        return r != CO_DONE ? r : my_out_of_memory(call);
    r = my_write(call, call->conn, true, my_cstr(&packet), &sets);
    *ret_all = r == CO_DONE && sets.count > 1 && mysql_num_rows(sets.set[0]) == 0;
    if (*ret_all)
        take_floor(call, &sets, 1);
    return r;
}

enum co_result my_accounts_lock_scope(struct co_call *call, enum my_scope scope)
{
    MY_STR_AUTO packet = {0};
    MY_STR_AUTO list = {0};
    MY_SETS_AUTO sets = {0};
    bool first = true, all = false;
    enum co_result r = CO_DONE;
    if (scope == MY_SCOPE_ALL && call->conn->rows_kept && call->conn->kept_accounts)
        r = lock_kept(call, &all);
    if (r == CO_DONE && !all)
        r = unlocked_read(call, scope, &sets);
    if (r != CO_DONE || all)
        return r;
    if (!call->conn->rows_kept)
        add_hold(call, &packet, &first, "accounts");
    for (MYSQL_ROW row; (row = mysql_fetch_row(sets.set[0]));) {
        if (!my_truth(row[2])) /* one that was made since */
            add_row(call, &packet, &first, "account", row[0], row[1], "");
        list_account(&list, row);
    }
    if (!first)
        end_rows(&packet);
    if (list.len)
        my_str_addf(&packet, "ALTER USER %s ACCOUNT LOCK;", my_cstr(&list));
    my_str_add(&packet, LAST_ID_SQL(call->conn));
    if (packet.overflow || list.overflow)
        return my_out_of_memory(call);
    MY_SETS_AUTO locked = {0};
    r = my_write(call, call->conn, true, my_cstr(&packet), &locked);
    if (r == CO_DONE && scope == MY_SCOPE_ALL)
        take_floor(call, &locked, 0);
    return r;
}

enum co_result my_accounts_lock(struct co_call *call)
{
    return my_accounts_lock_scope(call, MY_SCOPE_ALL);
}

enum co_result my_accounts_unlock_readers_sql(struct co_call *call, struct my_str *sql)
{
    MY_STR_AUTO read = {0};
    MY_SETS_AUTO sets = {0};
    my_str_addf(
        &read,
        "SELECT o.a,o.b FROM " MY_SCHEMA
        ".originals o JOIN mysql.user u ON CONVERT(u.User USING utf8mb4) COLLATE utf8mb4_bin=o.a AND CONVERT(u.Host USING "
        "utf8mb4) COLLATE utf8mb4_bin=o.b WHERE o.kind='account' AND NOT (1%s)",
        bypass_condition(call->conn));
    enum co_result r = my_read(call, call->conn, my_cstr(&read), &sets);
    if (r != CO_DONE)
        return r;
    for (MYSQL_ROW row; (row = mysql_fetch_row(sets.set[0]));) {
        my_str_add(sql, "ALTER USER ");
        my_str_account(sql, row[0], row[1]);
        my_str_add(sql, " ACCOUNT UNLOCK;DELETE FROM " MY_SCHEMA ".originals WHERE kind='account' AND a=");
        my_str_quote(sql, row[0]);
        my_str_add(sql, " AND b=");
        my_str_quote(sql, row[1]);
        my_str_add(sql, ";");
    }
    return sql->overflow ? my_out_of_memory(call) : CO_DONE;
}

/* Statements that unlock what was locked and is still there; `run`: by that run alone, NULL: by any. */
enum co_result my_accounts_unlock_sql(struct co_call *call, struct my_str *sql, const char *run)
{
    MY_SETS_AUTO sets = {0};
    MY_STR_AUTO read = {0};
    MY_STR_AUTO of = {0};
    if (run)
        my_str_addf(&of, " AND run='%s'", run);
    my_str_addf(&read,
                "SELECT o.a,o.b FROM " MY_SCHEMA
                ".originals o JOIN %s u ON CONVERT(u.User USING utf8mb4) COLLATE utf8mb4_bin=o.a AND "
                "CONVERT(u.Host USING utf8mb4) COLLATE utf8mb4_bin=o.b WHERE o.kind='account' AND %s%s",
                my_is_mysql(call->conn) ? "mysql.user" : "mysql.global_priv",
                my_is_mysql(call->conn) ? "u.account_locked='Y'" : "JSON_VALUE(u.Priv,'$.account_locked') IN ('1','true')",
                my_cstr(&of));
    enum co_result r = my_read(call, call->conn, my_cstr(&read), &sets);
    if (r != CO_DONE)
        return no_schema(&sets) ? CO_DONE : r;
    bool first = true;
    for (MYSQL_ROW row; (row = mysql_fetch_row(sets.set[0])); first = false) {
        my_str_add(sql, first ? "ALTER USER " : ",");
        my_str_account(sql, row[0], row[1]);
    }
    if (!first)
        my_str_add(sql, " ACCOUNT UNLOCK;");
    return sql->overflow || of.overflow ? my_out_of_memory(call) : CO_DONE;
}

/* From here to the opening only the run itself changes which accounts of a closed side are locked, and what its rows say; one
 * that replication drops meanwhile isn't missed (IF EXISTS), one that it makes is unlocked and refused by the proof. */
enum co_result my_unlock_foresee(struct co_call *call)
{
    static const char begin[] = "ALTER USER ";
    MY_STR_AUTO sql = {0};
    MY_STR_AUTO bearing = {0};
    enum co_result r = my_accounts_unlock_sql(call, &sql, NULL);
    if (r != CO_DONE)
        return r;
    if (sql.len)
        my_str_addf(&bearing, "%sIF EXISTS %s", begin, my_cstr(&sql) + strlen(begin));
    free(call->conn->to_unlock);
    call->conn->to_unlock = bearing.overflow ? NULL : strdup(my_cstr(&bearing));
    return call->conn->to_unlock ? CO_DONE : my_out_of_memory(call);
}

enum co_result my_unlock_foreseen_sql(struct co_call *call, struct my_str *sql)
{
    if (!call->conn->to_unlock)
        return my_accounts_unlock_sql(call, sql, NULL);
    my_str_add(sql, call->conn->to_unlock);
    return sql->overflow ? my_out_of_memory(call) : CO_DONE;
}

enum co_result my_accounts_unlock(struct co_call *call)
{
    MY_STR_AUTO sql = {0};
    call->conn->floor_id = 0;
    call->conn->rows_kept = false;
    bool there = false;
    enum co_result r = my_schema_there(call, call->conn, &there);
    if (r == CO_DONE && there)
        r = my_accounts_unlock_sql(call, &sql, my_run_id(call));
    if (r != CO_DONE || !there)
        return r;
    my_str_addf(&sql,
                "DELETE FROM " MY_SCHEMA ".originals WHERE (kind='account' OR (kind='hold' AND a='accounts')) AND run='%s';",
                my_run_id(call));
    return sql.overflow ? my_out_of_memory(call) : my_write(call, call->conn, true, my_cstr(&sql), NULL);
}

/* ---------------------------------------------------------------- events */

/* `definer` as information_schema shows it: user@host, the last @ separates; a role (MariaDB) has no host, and would be taken
 * for a user with one. Backticks are quotes in every sql_mode. */
static void add_definer(struct my_str *sql, const char *definer)
{
    const char *at = strrchr(definer, '@');
    size_t user_len = at ? (size_t)(at - definer) : strlen(definer);
    char *user = strndup(definer, user_len);
    if (!user) {
        sql->overflow = true;
        return;
    }
    my_str_name(sql, user);
    if (!at || at[1]) {
        my_str_add(sql, "@");
        my_str_name(sql, at ? at + 1 : "%");
    }
    free(user);
}

static bool is_ascii(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text > 127)
            return false;
    return true;
}

/* row: schema, name, "<sql_mode>\n<definer>", and the character set and the collation of whoever made it. ALTER EVENT takes the
 * session's for all four, and the body, which stays as it was, would be read in another character set. (A name that isn't
 * ASCII reads alike in the kinds of utf8 alone.) */
static void add_alter(struct my_str *sql, MYSQL_ROW row, const char *what)
{
    const char *value = row[2], *charset = row[3] ? row[3] : "", *collation = row[4] ? row[4] : "";
    const char *line = strchr(value, '\n');
    size_t mode_len = line ? (size_t)(line - value) : 0;
    bool readable = strncmp(charset, "utf8", 4) == 0 || (is_ascii(row[0]) && is_ascii(row[1]) && is_ascii(value));
    my_str_add(sql, "SET SESSION sql_mode='");
    my_str_addn(sql, value, mode_len);
    my_str_add(sql, "'");
    if (*charset && readable)
        my_str_addf(sql, ",character_set_client=%s", charset);
    if (*collation)
        my_str_addf(sql, ",collation_connection=%s", collation);
    my_str_add(sql, ";ALTER DEFINER=");
    add_definer(sql, line ? line + 1 : value);
    my_str_add(sql, " EVENT ");
    my_str_name(sql, row[0]);
    my_str_add(sql, ".");
    my_str_name(sql, row[1]);
    my_str_addf(sql, " %s;" MY_SESSION_READS ";", what);
}

enum co_result my_events_probe(struct co_call *call, enum co_presence *ret)
{
    bool hold = false;
    MY_SETS_AUTO sets = {0};
    enum co_result r =
        my_read(call, call->conn, "SELECT COUNT(*) FROM information_schema.EVENTS WHERE STATUS='ENABLED'", &sets);
    if (r == CO_DONE)
        r = held(call, "events", &hold);
    /* the scheduler isn't looked at: it is on again after a restart, with nothing to run */
    *ret = presence(hold, my_int(my_value(&sets, 0, 0), -1) == 0);
    return r;
}

/* Scheduler; of each enabled event what add_alter() takes, and whether this run keeps a row for it. */
static enum co_result my_events_read(struct co_call *call, struct my_sets *ret)
{
    bool mysql = my_is_mysql(call->conn);
    const char *schema = mysql ? "EVENT_SCHEMA" : "db", *name = mysql ? "EVENT_NAME" : "name";
    MY_STR_AUTO sql = {0};
    my_str_addf(&sql,
                "SELECT @@GLOBAL.event_scheduler;SELECT e.%s,e.%s,CONCAT(e.SQL_MODE,'\n',e.DEFINER),e.CHARACTER_SET_CLIENT,"
                "e.COLLATION_CONNECTION,EXISTS(SELECT 1 FROM " MY_SCHEMA
                ".originals o WHERE o.kind='event' AND o.run='%s' AND o.a=CONVERT(e.%s USING utf8mb4) COLLATE utf8mb4_bin AND "
                "o.b=CONVERT(e.%s USING utf8mb4) COLLATE utf8mb4_bin) FROM %s e WHERE e.STATUS='ENABLED'",
                schema, name, my_run_id(call), schema, name, mysql ? "information_schema.EVENTS" : "mysql.event");
    return my_read(call, call->conn, my_cstr(&sql), ret);
}

/* An event that was made since its rows were kept is disabled too, with a row of its own. */
enum co_result my_events_disable(struct co_call *call)
{
    MY_SETS_AUTO sets = {0};
    MY_STR_AUTO sql = {0};
    bool first = true;
    enum co_result r = my_events_read(call, &sets);
    if (r != CO_DONE)
        return r;
    bool scheduler = my_truth(my_value(&sets, 0, 0)), kept = call->conn->rows_kept;
    if (!kept)
        add_hold(call, &sql, &first, "events");
    if (scheduler && !kept)
        add_row(call, &sql, &first, "scheduler", "", "", "ON");
    for (MYSQL_ROW row; (row = mysql_fetch_row(sets.set[1]));)
        if (!my_truth(row[5]))
            add_row(call, &sql, &first, "event", row[0], row[1], row[2]);
    if (!first)
        end_rows(&sql);
    if (scheduler)
        my_str_add(&sql, "SET GLOBAL event_scheduler=OFF;");
    mysql_data_seek(sets.set[1], 0);
    for (MYSQL_ROW row; (row = mysql_fetch_row(sets.set[1]));)
        add_alter(&sql, row, "DISABLE");
    if (sql.overflow)
        return my_out_of_memory(call);
    return sql.len ? my_write(call, call->conn, true, my_cstr(&sql), NULL) : CO_DONE;
}

/* Enables what `rows` name and is there. */
void my_add_enable(struct my_str *sql, MYSQL_RES *rows)
{
    for (MYSQL_ROW row; (row = mysql_fetch_row(rows));)
        add_alter(sql, row, "ENABLE");
}

void my_add_slaveside(const struct co_conn *conn, struct my_str *sql, MYSQL_RES *rows)
{
    for (MYSQL_ROW row; (row = mysql_fetch_row(rows));)
        add_alter(sql, row, my_word_slaveside(conn));
}

#define EVENT_JOIN                                                                                                             \
    "information_schema.EVENTS e ON CONVERT(e.EVENT_SCHEMA USING utf8mb4) COLLATE utf8mb4_bin=o.a AND "                        \
    "CONVERT(e.EVENT_NAME USING utf8mb4) COLLATE utf8mb4_bin=o.b"

enum co_result my_events_restore(struct co_call *call)
{
    call->conn->rows_kept = false;
    MY_SETS_AUTO sets = {0};
    MY_STR_AUTO read = {0};
    MY_STR_AUTO sql = {0};
    const char *run = my_run_id(call);
    my_str_addf(&read,
                "SELECT o.a,o.b,o.value,e.CHARACTER_SET_CLIENT,e.COLLATION_CONNECTION FROM " MY_SCHEMA
                ".originals o JOIN " EVENT_JOIN " WHERE o.kind='event' AND o.run='%s';"
                "SELECT COUNT(*) FROM " MY_SCHEMA ".originals WHERE kind='scheduler' AND run='%s'",
                run, run);
    enum co_result r = my_read(call, call->conn, my_cstr(&read), &sets);
    if (r != CO_DONE)
        return no_schema(&sets) ? CO_DONE : r;
    my_add_enable(&sql, sets.set[0]);
    if (my_int(my_value(&sets, 1, 0), 0) > 0)
        my_str_add(&sql, "SET GLOBAL event_scheduler=ON;");
    my_str_addf(&sql, "DELETE FROM " MY_SCHEMA ".originals WHERE kind IN ('event','scheduler') AND run='%s';", run);
    unhold_sql(call, &sql, "events");
    return sql.overflow ? my_out_of_memory(call) : my_write(call, call->conn, true, my_cstr(&sql), NULL);
}

/* ---------------------------------------------------------------- read_only */

enum co_result my_read_only_probe(struct co_call *call, enum co_presence *ret)
{
    MY_SETS_AUTO sets = {0};
    MY_STR_AUTO sql = {0};
    my_str_addf(&sql, "SELECT %s", scheduler_from(call->conn));
    enum co_result r = my_read(call, call->conn, my_cstr(&sql), &sets);
    if (r != CO_DONE)
        return r;
    bool ro = my_truth(my_value(&sets, 0, 0)), sro = my_truth(my_value(&sets, 0, 1));
    *ret = !my_is_mysql(call->conn) ? (ro ? CO_PRESENT : CO_ABSENT)
           : ro && sro              ? CO_PRESENT
           : ro || sro              ? CO_PARTIAL
                                    : CO_ABSENT;
    return CO_DONE;
}

enum co_result my_read_only_held(struct co_call *call, enum co_presence *ret)
{
    bool hold = false;
    enum co_presence now = CO_ABSENT;
    enum co_result r = my_read_only_probe(call, &now);
    if (r == CO_DONE)
        r = held(call, "read_only", &hold);
    *ret = presence(hold, now == CO_PRESENT);
    return r;
}

static const char *read_only_sql(const struct co_conn *conn)
{
    return !my_is_mysql(conn)     ? "SET GLOBAL read_only=1;"
           : my_has_persist(conn) ? "SET PERSIST super_read_only=1;SET PERSIST read_only=1;"
                                  : "SET GLOBAL super_read_only=1;";
}

enum co_result my_read_only_set(struct co_call *call)
{
    return my_change(call, call->conn, read_only_sql(call->conn), NULL);
}

/* read_only waits for statements that run. On a follower those are the applier's, which end by themselves: again. On the source
 * it may be one that waits for a row that somebody has locked: they get what drain.timeout grants, in the server's whole
 * seconds, and are then ended or not, as it says there. Who only holds LOCK TABLES runs nothing and isn't ended: then the run
 * is undone. */
static enum co_result set_patiently(struct co_call *call, const char *sql)
{
    bool end = false, follower = call->role == CO_TARGET;
    int64_t patience_s = (call->host->drain_patience_ms(call->ctx, &end) + 999) / 1000;
    unsigned ended = 0;
    MY_SETS_AUTO sets = {0};
    enum co_result r = my_change_waiting(call, call->conn, sql,
                                         follower || patience_s > 2 ? 2
                                         : patience_s < 1           ? 1
                                                                    : (int)patience_s,
                                         &sets);
    if (r == CO_DONE || sets.error != 1205 /* lock wait timeout */ || (!end && !follower))
        return r;
    if (follower)
        return CO_AGAIN;
    struct co_error saved = *call->err;
    if (my_sessions_end_running(call, &ended) == CO_DONE && ended)
        return CO_AGAIN;
    *call->err = saved;
    return r;
}

enum co_result my_read_only_hold(struct co_call *call)
{
    MY_STR_AUTO sql = {0};
    bool first = true;
    if (!call->conn->rows_kept) {
        if (my_is_mysql(call->conn)) /* it would refuse our own row */
            my_str_add(&sql, "SET GLOBAL super_read_only=0;");
        add_hold(call, &sql, &first, "read_only");
        end_rows(&sql);
    }
    my_str_add(&sql, read_only_sql(call->conn));
    return sql.overflow ? my_out_of_memory(call) : set_patiently(call, my_cstr(&sql));
}

/* The values that prepare() noted; a source without a note was writable. */
enum co_result my_read_only_restore(struct co_call *call)
{
    call->conn->rows_kept = false;
    const struct co_host *host = call->host;
    const char *ro = host->note_get(call->ctx, CO_NOTE_RUN, call->side, "read_only");
    const char *sro = host->note_get(call->ctx, CO_NOTE_RUN, call->side, "super_read_only");
    const char *pro = host->note_get(call->ctx, CO_NOTE_RUN, call->side, "persisted_read_only");
    const char *psro = host->note_get(call->ctx, CO_NOTE_RUN, call->side, "persisted_super_read_only");
    bool mysql = my_is_mysql(call->conn), follower = call->role == CO_TARGET;
    bool was_ro = ro ? my_truth(ro) : follower, was_sro = mysql && (sro ? my_truth(sro) : follower);
    MY_STR_AUTO sql = {0};
    if (mysql)
        my_str_add(&sql, "SET GLOBAL super_read_only=0;");
    unhold_sql(call, &sql, "read_only");
    if (my_has_persist(call->conn)) {
        my_str_add(&sql, psro && *psro ? my_truth(psro) ? "SET PERSIST super_read_only=1;" : "SET PERSIST super_read_only=0;"
                                       : "RESET PERSIST IF EXISTS super_read_only;");
        my_str_add(&sql, pro && *pro ? my_truth(pro) ? "SET PERSIST read_only=1;" : "SET PERSIST read_only=0;"
                                     : "RESET PERSIST IF EXISTS read_only;");
    }
    my_str_add(&sql, was_sro  ? "SET GLOBAL super_read_only=1;"
                     : was_ro ? "SET GLOBAL read_only=1;"
                              : "SET GLOBAL read_only=0;");
    return sql.overflow ? my_out_of_memory(call) : my_change(call, call->conn, my_cstr(&sql), NULL);
}

/* ---------------------------------------------------------------- what the fence will change, kept before the pause */

/* Each row would cost the pause a sync of the server's log. What is made between now and the fence gets its row there. */
enum co_result my_originals_keep(struct co_call *call)
{
    MY_SETS_AUTO accounts = {0};
    MY_SETS_AUTO events = {0};
    MY_STR_AUTO sql = {0};
    MY_STR_AUTO list = {0};
    bool first = true;
    enum co_result r = unlocked_read(call, MY_SCOPE_ALL, &accounts);
    if (r == CO_DONE)
        r = my_events_read(call, &events);
    if (r != CO_DONE)
        return r;
    add_hold(call, &sql, &first, "accounts");
    add_hold(call, &sql, &first, "events");
    add_hold(call, &sql, &first, "read_only");
    for (MYSQL_ROW row; (row = mysql_fetch_row(accounts.set[0]));) {
        add_row(call, &sql, &first, "account", row[0], row[1], "");
        list_account(&list, row);
    }
    if (my_truth(my_value(&events, 0, 0)))
        add_row(call, &sql, &first, "scheduler", "", "", "ON");
    for (MYSQL_ROW row; (row = mysql_fetch_row(events.set[1]));)
        add_row(call, &sql, &first, "event", row[0], row[1], row[2]);
    end_rows(&sql);
    if (sql.overflow || list.overflow)
        return my_out_of_memory(call);
    r = my_write(call, call->conn, true, my_cstr(&sql), NULL);
    if (r == CO_DONE) {
        call->conn->rows_kept = true;
        free(call->conn->kept_accounts);
        call->conn->kept_accounts = list.len ? strdup(my_cstr(&list)) : NULL;
    }
    return r;
}

enum co_result my_originals_kept(struct co_call *call, enum co_presence *ret)
{
    bool accounts = false, events = false, read_only = false;
    enum co_result r = held(call, "accounts", &accounts);
    if (r == CO_DONE)
        r = held(call, "events", &events);
    if (r == CO_DONE)
        r = held(call, "read_only", &read_only);
    *ret = accounts && events && read_only ? CO_PRESENT : accounts || events || read_only ? CO_PARTIAL : CO_ABSENT;
    return r;
}

/* Rows go only together with what they stand for: the fence's own way back, whether or not it was ever put up. */
enum co_result my_originals_forget(struct co_call *call)
{
    enum co_result r = my_read_only_restore(call);
    if (r == CO_DONE)
        r = my_events_restore(call);
    return r == CO_DONE ? my_accounts_unlock(call) : r;
}
