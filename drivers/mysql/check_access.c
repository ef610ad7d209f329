/* check_access.c - pre-flight: accounts: the tool's, replication's, the probe's, and those that the fence must hold. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>

static void check_own(struct my_check *c, struct co_conn *conn)
{
    int side = (int)conn->side;
    if (!conn->unlogged)
        my_find(c, "sql_log_bin_denied", CO_ERROR, side,
                "GRANT BINLOG ADMIN (MariaDB) or SYSTEM_VARIABLES_ADMIN (MySQL 8.0) or SUPER ON *.* to the tool's account.",
                "the account %s may not turn sql_log_bin off: what it does would be replicated", conn->account_user);
    if (strcmp(conn->account_user, "root") == 0)
        my_find(c, "account_not_dedicated", CO_ERROR, side,
                "Make an account of its own for the tool: `changeover init --grants` prints the statements.",
                "the tool logs in as root, which it can't lock: whoever else is root would get past the fence");
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    my_own_sql(c->call, &sql);
    my_str_add(&sql, "SELECT COUNT(*), LEFT(GROUP_CONCAT(CONCAT(ID,' ',HOST)),200) FROM information_schema.PROCESSLIST WHERE "
                     "FIND_IN_SET(ID,@co_own)=0 AND "
                     "COMMAND NOT LIKE 'Binlog Dump%' AND USER=");
    my_str_quote(&sql, conn->account_user);
    /* the thread of an event bears its definer's name, is Connect for good and came from no port */
    my_str_add(&sql, " AND NOT (COMMAND='Connect' AND HOST NOT LIKE '%:%')");
    if (my_check_read(c, conn, "its own sessions", my_cstr(&sql), &sets) && my_int(my_value(&sets, 0, 0), 0) > 0)
        my_find(c, "account_shared", CO_ERROR, side, "Give the tool an account that nobody else uses.",
                "%s other sessions use the tool's account %s, which the fence doesn't lock: %s", my_value(&sets, 0, 0),
                conn->account_user, my_value(&sets, 0, 1));
    MY_SETS_AUTO rights = {0};
    if (!my_check_read(c, conn, "its own rights",
                       "SELECT GROUP_CONCAT(PRIVILEGE_TYPE) FROM information_schema.USER_PRIVILEGES WHERE "
                       "GRANTEE=CONCAT('''',SUBSTRING_INDEX(CURRENT_USER(),'@',1),"
                       "'''@''',SUBSTRING_INDEX(CURRENT_USER(),'@',-1),'''')",
                       &rights))
        return;
    static const char *const needed[] = {"SUPER", "PROCESS", "CREATE USER", "RELOAD", "EVENT", "SELECT", "INSERT", "CREATE"};
    MY_STR_AUTO missing = {0};
    const char *have = my_value(&rights, 0, 0);
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!have || !strstr(have, needed[i]))
            my_str_addf(&missing, "%s%s", missing.len ? ", " : "", needed[i]);
    if (missing.len)
        my_find(c, "privileges_missing", CO_ERROR, side,
                "GRANT ALL PRIVILEGES ON *.* TO the tool's account WITH GRANT OPTION; see `changeover init --grants`.",
                "the tool's account %s lacks: %s", conn->account_user, my_cstr(&missing));
}

static void check_bypass(struct my_check *c)
{
    MY_SETS_AUTO sets = {0};
    if (my_is_mysql(c->source)) /* super_read_only holds them */
        return;
    if (my_check_read(
            c, c->source, "accounts that get past read_only",
            "SELECT COUNT(*), LEFT(GROUP_CONCAT(GRANTEE SEPARATOR ', '),300) FROM information_schema.USER_PRIVILEGES WHERE "
            "PRIVILEGE_TYPE IN ('READ_ONLY ADMIN','READ ONLY ADMIN') AND GRANTEE<>CONCAT(QUOTE(SUBSTRING_INDEX(CURRENT_USER(),"
            "'@',1)),'@',QUOTE(SUBSTRING_INDEX(CURRENT_USER(),'@',-1)))",
            &sets) &&
        my_int(my_value(&sets, 0, 0), 0) > 0)
        my_find(c, "accounts_bypass_read_only", CO_INFO, (int)c->source_side, "",
                "%s accounts get past read_only; the fence locks them and ends their sessions: %s", my_value(&sets, 0, 0),
                my_value(&sets, 0, 1));
}

/* What `user` may do beyond replicating and looking: on everything, on databases, tables and routines, by what is granted to
 * all (MariaDB's PUBLIC) or by a role. */
static void add_powers(const struct co_conn *conn, const char *user, struct my_str *sql)
{
    MY_STR_AUTO who = {0};
    static const char *const tables[] = {"USER_PRIVILEGES", "SCHEMA_PRIVILEGES", "TABLE_PRIVILEGES", "COLUMN_PRIVILEGES"};
    my_str_add(&who, "(LOCATE(CONCAT('''',");
    my_str_quote(&who, user);
    my_str_add(&who, ",'''@'''),CONVERT(GRANTEE USING utf8mb4) COLLATE utf8mb4_bin)=1"); /* names are told apart by case */
    my_str_add(&who, my_is_mysql(conn) ? ")" : " OR GRANTEE IN ('PUBLIC','''PUBLIC''','''PUBLIC''@'''''))");
    my_str_add(sql, "SELECT COUNT(*), LEFT(GROUP_CONCAT(DISTINCT what),300) FROM (");
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        my_str_addf(sql,
                    "%sSELECT CONVERT(PRIVILEGE_TYPE USING utf8mb4) AS what FROM information_schema.%s WHERE %s AND "
                    "PRIVILEGE_TYPE NOT IN ('USAGE','SELECT','SHOW VIEW','SHOW DATABASES','PROCESS','REFERENCES','LOCK TABLES',"
                    "'REPLICATION SLAVE','REPLICATION CLIENT','BINLOG MONITOR','SLAVE MONITOR','REPLICA MONITOR')",
                    i ? " UNION ALL " : "", tables[i], my_cstr(&who));
    my_str_add(sql,
               " UNION ALL SELECT CONVERT(CONCAT('EXECUTE ',Db,'.',Routine_name) USING utf8mb4) FROM mysql.procs_priv WHERE "
               "User=");
    my_str_quote(sql, user);
    if (!my_is_mysql(conn) || conn->version >= 80000) {
        my_str_addf(sql, " UNION ALL SELECT CONVERT(CONCAT('the role ',%s) USING utf8mb4) FROM mysql.%s WHERE %s=",
                    my_is_mysql(conn) ? "FROM_USER" : "Role", my_is_mysql(conn) ? "role_edges" : "roles_mapping",
                    my_is_mysql(conn) ? "TO_USER" : "User");
        my_str_quote(sql, user);
    }
    my_str_add(sql, ") powers");
}

/* It stays unlocked through the fence, so it must not be able to do more than replicate: a MariaDB that is started again has
 * forgotten read_only. */
static void check_replication_account(struct my_check *c, struct co_conn *conn)
{
    const char *user = c->call->host->secret_user(c->call->ctx, CO_SECRET_REPLICATION);
    MY_STR_AUTO sql = {0};
    MY_STR_AUTO ask = {0};
    MY_SETS_AUTO sets = {0};
    MY_SETS_AUTO powers = {0};
    bool target = conn == c->target;
    my_str_add(&sql, "SELECT COUNT(*), COALESCE(SUM(Repl_slave_priv='Y'),0) FROM mysql.user WHERE User=");
    my_str_quote(&sql, user);
    if (!my_check_read(c, conn, "the replication account", my_cstr(&sql), &sets))
        return;
    int64_t count = my_int(my_value(&sets, 0, 0), 0);
    if (!count && c->stage == CO_CHECK_CUTOVER)
        my_find(c, "replication_account_missing", CO_ERROR, (int)conn->side,
                "Make it as on the other side, by `changeover setup` or by hand.", "the account %s isn't there: %s", user,
                target ? "the old primary couldn't follow this server" : "nobody can follow this server");
    else if (count && !my_int(my_value(&sets, 0, 1), 0))
        my_find(c, "replication_account_powerless", CO_ERROR, (int)conn->side, "GRANT REPLICATION SLAVE ON *.* to it.",
                "the account %s may not replicate", user);
    add_powers(conn, user, &ask);
    if (count && my_check_read(c, conn, "the replication account's rights", my_cstr(&ask), &powers) &&
        my_int(my_value(&powers, 0, 0), 0))
        my_find(c, "replication_account_too_powerful", CO_ERROR, (int)conn->side, "Give it REPLICATION SLAVE and nothing else.",
                "the account %s, which stays unlocked through the fence, may do more than replicate: %s", user,
                my_value(&powers, 0, 1));
}

static void check_accounts_differ(struct my_check *c)
{
    MY_SETS_AUTO source = {0};
    MY_SETS_AUTO target = {0};
    static const char sql[] =
        "SELECT User,Host FROM mysql.user WHERE User NOT LIKE 'mysql.%' AND User NOT IN ('mariadb.sys','PUBLIC') AND Host<>''";
    if (c->stage != CO_CHECK_CUTOVER || !my_check_read(c, c->source, "the accounts", sql, &source) ||
        !my_check_read(c, c->target, "the accounts", sql, &target))
        return;
    MY_STR_AUTO names = {0};
    unsigned count = 0;
    for (MYSQL_ROW row; (row = mysql_fetch_row(source.set[0]));) {
        bool there = false;
        mysql_data_seek(target.set[0], 0);
        for (MYSQL_ROW t; !there && (t = mysql_fetch_row(target.set[0]));)
            there = strcmp(row[0], t[0]) == 0 && strcmp(row[1], t[1]) == 0;
        if (!there && count++ < 5)
            my_str_addf(&names, "%s%s@%s", names.len ? ", " : "", row[0], row[1]);
    }
    if (count)
        my_find(c, "accounts_missing", CO_WARNING, (int)c->target_side,
                "Create them on the target (SHOW CREATE USER, SHOW GRANTS on the source).",
                "%u accounts of the source aren't on the target: %s", count, my_cstr(&names));
}

/* Accounts whose plugin the target hasn't got: they can't be made there, and their statements would stop the replication. */
static void check_plugins(struct my_check *c)
{
    MY_SETS_AUTO source = {0};
    MY_SETS_AUTO target = {0};
    if (!my_check_read(c, c->source, "the accounts' plugins",
                       my_is_mysql(c->source)
                           ? "SELECT DISTINCT plugin FROM mysql.user WHERE plugin<>''"
                           : "SELECT DISTINCT plugin FROM mysql.user WHERE plugin<>'' AND Host<>'' AND is_role<>'Y'",
                       &source) ||
        !my_check_read(c, c->target, "the plugins",
                       "SELECT PLUGIN_NAME FROM information_schema.PLUGINS WHERE PLUGIN_TYPE='AUTHENTICATION' AND "
                       "PLUGIN_STATUS='ACTIVE'",
                       &target))
        return;
    for (MYSQL_ROW row; (row = mysql_fetch_row(source.set[0]));) {
        bool there = false;
        mysql_data_seek(target.set[0], 0);
        for (MYSQL_ROW t; !there && (t = mysql_fetch_row(target.set[0]));)
            there = strcasecmp(row[0], t[0]) == 0;
        if (!there)
            my_find(
                c, "auth_plugin_missing", c->stage == CO_CHECK_SETUP ? CO_ERROR : CO_WARNING, (int)c->target_side,
                "Load it there (mysql_native_password on MySQL 8.4: mysql_native_password=ON), or give these accounts another "
                "way to log in on the source, before the copy is made.",
                "accounts of the source log in by %s, which isn't loaded on the target: they couldn't be made there", row[0]);
    }
}

void my_check_access(struct my_check *c)
{
    const struct co_host *host = c->call->host;
    if (c->source)
        check_own(c, c->source);
    if (c->target)
        check_own(c, c->target);
    if (c->source)
        check_bypass(c);
    if (!host->secret_user(c->call->ctx, CO_SECRET_REPLICATION) ||
        !host->secret(c->call->ctx, c->source_side, CO_SECRET_REPLICATION)) {
        my_find(c, "replication_not_configured", CO_ERROR, -1,
                "Set replication: {user, password_file}: undo and the way back need it too.",
                "the account that the servers replicate with isn't configured");
    } else {
        if (c->source)
            check_replication_account(c, c->source);
        if (c->target)
            check_replication_account(c, c->target);
    }
    if (!host->secret_user(c->call->ctx, CO_SECRET_PROBE))
        my_find(c, "probe_not_configured", CO_WARNING, -1,
                "Set probe: {user, password_file}; setup makes the account where there is none.",
                "no ordinary account is configured for real test writes: the tool's own gets past much that stops others");
    if (c->source && c->target) {
        check_accounts_differ(c);
        if (c->source->flavour == c->target->flavour)
            check_plugins(c);
    }
}
