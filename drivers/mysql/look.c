/* look.c - what a server is: identity, capabilities, settings, what of ours is on it. Read-only. */
#include "my.h"

#include <stdio.h>
#include <stdlib.h>

static void set(struct co_call *call, struct co_text *to, const char *text)
{
    call->host->text_set(call->ctx, to, text ? text : "", text ? strlen(text) : 0);
}

#define USER_SCHEMAS                                                                                                           \
    "SCHEMA_NAME NOT IN ('mysql','sys','information_schema','performance_schema','" MY_SCHEMA "','" MY_PROBE_SCHEMA "')"

/* A part that may fail for lack of rights: then it is unknown. */
static bool optional(struct co_call *call, const char *sql, struct my_sets *ret)
{
    struct co_error saved = *call->err;
    bool ok = my_read(call, call->conn, sql, ret) == CO_DONE;
    if (!ok && !call->conn->dead)
        *call->err = saved;
    return ok;
}

static void identify_names(struct co_call *call, struct co_identity *ret, const struct my_sets *sets)
{
    MY_STR_AUTO instance = {0};
    set(call, ret->product, my_is_mysql(call->conn) ? "MySQL" : "MariaDB");
    set(call, ret->version, call->conn->version_text);
    if (my_is_mysql(call->conn))
        my_str_add(&instance, my_value(sets, 0, 4));
    else /* MariaDB has no identifier that a copy doesn't share and a move of addresses doesn't change; these three do */
        my_str_addf(&instance, "%s@%s:%s", my_value(sets, 0, 1), my_value(sets, 0, 2), my_value(sets, 0, 3));
    set(call, ret->instance, my_cstr(&instance));
    set(call, ret->incarnation, my_value(sets, 0, 0));
}

static enum co_result identify_access(struct co_call *call, struct co_identity *ret)
{
    MY_CLOSED_AUTO closed = {0};
    struct co_error saved = *call->err;
    if (my_closed_look(call, &closed) == CO_DONE) {
        bool refuses = closed.read_only || closed.unlocked == 0;
        ret->accepts_writes = refuses ? CO_NO : CO_YES;
        ret->fenced = closed.unlocked == 0 && closed.events == 0 && closed.sessions == 0 ? CO_YES : CO_NO;
        return CO_DONE;
    }
    if (call->conn->dead)
        return CO_NO_EFFECT;
    *call->err = saved;
    enum co_presence ro = CO_ABSENT; /* an account that only monitors can't see who may log in */
    enum co_result r = my_read_only_probe(call, &ro);
    ret->accepts_writes = ro == CO_ABSENT ? CO_YES : CO_NO;
    ret->fenced = CO_UNKNOWN;
    return r;
}

enum co_result my_identify(struct co_call *call, struct co_identity *ret)
{
    MY_SETS_AUTO sets = {0};
    MY_STR_AUTO sql = {0};
    my_str_addf(&sql,
                "SELECT %s,@@GLOBAL.server_id,@@hostname,@@datadir,%s;SELECT COUNT(*) FROM information_schema.SCHEMATA "
                "WHERE " USER_SCHEMAS,
                my_expr_started(call->conn), my_is_mysql(call->conn) ? "@@GLOBAL.server_uuid" : "''");
    enum co_result r = my_read(call, call->conn, my_cstr(&sql), &sets);
    if (r != CO_DONE)
        return r;
    identify_names(call, ret, &sets);
    ret->empty = my_int(my_value(&sets, 1, 0), -1) == 0 ? CO_YES : CO_NO;
    MY_SETS_AUTO lineage = {0};
    optional(call, "SELECT value FROM " MY_SCHEMA ".originals WHERE kind='lineage' AND a='' AND b=''", &lineage);
    set(call, ret->lineage, my_value(&lineage, 0, 0));
    MY_SETS_AUTO size = {0};
    optional(call,
             my_is_mysql(call->conn) && call->conn->version >= 80000
                 ? "SELECT COALESCE(SUM(FILE_SIZE),0) FROM information_schema.INNODB_TABLESPACES WHERE NAME LIKE '%/%' AND "
                   "NAME NOT LIKE 'mysql/%'"
                 : "SELECT COALESCE(SUM(FILE_SIZE),0) FROM information_schema.INNODB_SYS_TABLESPACES WHERE NAME LIKE '%/%' AND "
                   "NAME NOT LIKE 'mysql/%'",
             &size);
    ret->data_bytes = my_int(my_value(&size, 0, 0), -1);
    MY_FOLLOW_AUTO f = {0};
    struct co_error saved = *call->err;
    r = my_follow_read(call, call->conn, &f);
    ret->role = r != CO_DONE ? CO_ROLE_UNKNOWN : f.present ? CO_ROLE_FOLLOWER : CO_ROLE_PRIMARY;
    if (r != CO_DONE) {
        if (call->conn->dead)
            return r;
        *call->err = saved;
    }
    return identify_access(call, ret);
}

enum co_result my_capabilities(struct co_call *call, struct co_capabilities *ret)
{
    (void)call;
    ret->promote_closed = true;
    ret->restart_proof = true;
    ret->rounds = false;
    ret->reverse = true;
    ret->scope_database = false;
    ret->destroys_on_reverse = false;
    ret->undo_keeps_target = true;
    ret->fence_stops = false;
    return CO_DONE;
}

/* What an operator would miss if it differed, before and after. */
static const char *const setting_names[] = {
    "read_only",
    "super_read_only",
    "event_scheduler",
    "sql_mode",
    "time_zone",
    "system_time_zone",
    "character_set_server",
    "collation_server",
    "lower_case_table_names",
    "max_connections",
    "max_allowed_packet",
    "sync_binlog",
    "innodb_flush_log_at_trx_commit",
    "innodb_buffer_pool_size",
    "binlog_format",
    "binlog_row_image",
    "log_bin",
    "log_slave_updates",
    "log_replica_updates",
    "gtid_mode",
    "gtid_strict_mode",
    "gtid_domain_id",
    "server_id",
    "server_uuid",
    "default_storage_engine",
    "wait_timeout",
    "expire_logs_days",
    "binlog_expire_logs_seconds",
    "slave_parallel_threads",
    "slave_parallel_mode",
    "replica_parallel_workers",
    "slave_parallel_workers",
    "require_secure_transport",
    "default_authentication_plugin",
    "authentication_policy",
    "persisted_globals_load",
    "rpl_semi_sync_master_enabled",
    "rpl_semi_sync_source_enabled",
    "init_connect",
    "init_file",
};

enum co_result my_settings(struct co_call *call)
{
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    my_str_add(&sql, "SHOW GLOBAL VARIABLES WHERE Variable_name IN (''");
    for (size_t i = 0; i < sizeof setting_names / sizeof *setting_names; i++)
        my_str_addf(&sql, ",'%s'", setting_names[i]);
    my_str_add(&sql, ")");
    enum co_result r = my_read(call, call->conn, my_cstr(&sql), &sets);
    if (r != CO_DONE)
        return r;
    for (MYSQL_ROW row; (row = mysql_fetch_row(sets.set[0]));)
        call->host->fact(call->ctx, "setting", row[0], row[1] ? row[1] : "");
    MY_SETS_AUTO counts = {0};
    if (optional(call,
                 "SELECT 'enabled_events', COUNT(*) FROM information_schema.EVENTS WHERE STATUS='ENABLED' UNION ALL "
                 "SELECT 'databases', COUNT(*) FROM information_schema.SCHEMATA WHERE " USER_SCHEMAS,
                 &counts))
        for (MYSQL_ROW row; (row = mysql_fetch_row(counts.set[0]));)
            call->host->fact(call->ctx, "count", row[0], row[1] ? row[1] : "");
    MY_SETS_AUTO accounts = {0};
    if (optional(call,
                 my_is_mysql(call->conn)
                     ? "SELECT SUM(account_locked='N'), SUM(account_locked='Y') FROM mysql.user"
                     : "SELECT SUM(COALESCE(JSON_VALUE(Priv,'$.account_locked'),'0') IN ('0','false')),"
                       "SUM(COALESCE(JSON_VALUE(Priv,'$.account_locked'),'0') NOT IN ('0','false')) FROM mysql.global_priv "
                       "WHERE COALESCE(JSON_VALUE(Priv,'$.is_role'),'0') IN ('0','false')",
                 &accounts)) {
        call->host->fact(call->ctx, "count", "unlocked_accounts", my_value(&accounts, 0, 0) ? my_value(&accounts, 0, 0) : "0");
        call->host->fact(call->ctx, "count", "locked_accounts", my_value(&accounts, 0, 1) ? my_value(&accounts, 0, 1) : "0");
    }
    call->host->fact(call->ctx, "version", "server", call->conn->version_text);
    return call->conn->dead ? my_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "the connection was lost") : CO_DONE;
}

enum co_result my_discover(struct co_call *call)
{
    bool there = false;
    enum co_result r = my_schema_there(call, call->conn, &there);
    if (r != CO_DONE)
        return r;
    MY_SETS_AUTO sets = {0};
    if (there) {
        call->host->found(call->ctx, "database", MY_SCHEMA, NULL);
        r = my_read(call, call->conn,
                    "SELECT token FROM " MY_SCHEMA ".marker WHERE id=1 AND token<>'';"
                    "SELECT kind, COUNT(*) FROM " MY_SCHEMA
                    ".originals WHERE kind IN ('account','event','scheduler') GROUP BY kind",
                    &sets);
        if (r != CO_DONE)
            return r;
        const char *token = my_value(&sets, 0, 0);
        char *run = token ? strndup(token, strcspn(token, ":")) : NULL;
        if (token)
            call->host->found(call->ctx, "marker", token, run);
        MY_FOLLOW_AUTO f = {0};
        r = my_follow_read(call, call->conn, &f);
        for (MYSQL_ROW row; (row = mysql_fetch_row(sets.set[1]));) {
            MY_STR_AUTO name = {0};
            my_str_addf(&name, "%s %s", row[1], row[0]);
            call->host->found(call->ctx, f.present || call->role == CO_TARGET ? "closure" : "fence", my_cstr(&name), run);
        }
        free(run);
        if (r == CO_DONE && f.present)
            call->host->found(call->ctx, "replication", f.host, NULL);
        if (r != CO_DONE)
            return r;
    }
    MY_SETS_AUTO probe = {0};
    if (optional(call, "SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME='" MY_PROBE_SCHEMA "'", &probe) &&
        my_value(&probe, 0, 0))
        call->host->found(call->ctx, "database", MY_PROBE_SCHEMA, NULL);
    const char *user = call->host->note_get(call->ctx, CO_NOTE_PAIR, CO_SIDE_A, "replication_user");
    if (user)
        call->host->found(call->ctx, "user", user, NULL);
    return CO_DONE;
}

static void add_made_by_setup(struct co_call *call, struct co_text *ret, const char *user, const char *rights)
{
    call->host->text_add(call->ctx, ret,
                         "-- `changeover setup` makes this one itself where it isn't there\n"
                         "CREATE USER '%s'@'%%' IDENTIFIED BY '<password>';\nGRANT %s TO '%s'@'%%';\n",
                         user, rights, user);
}

/* <password> is for the person to fill in: none passes through here. The same on MariaDB and MySQL: ALL holds the
 * dynamic privileges too. */
enum co_result my_grants(struct co_call *call, struct co_text *ret)
{
    const struct co_endpoint_config *ep = call->host->endpoint(call->ctx, call->side);
    const char *tool = ep->user && *ep->user ? ep->user : "changeover";
    const char *replication = call->host->secret_user(call->ctx, CO_SECRET_REPLICATION);
    const char *probe = call->host->secret_user(call->ctx, CO_SECRET_PROBE);
    call->host->text_set(call->ctx, ret, "", 0);
    call->host->text_add(call->ctx, ret,
                         "-- on each server, as an administrator, in one session; replace each <password>\n"
                         "SET SESSION sql_log_bin=0; -- these accounts are each server's own\n"
                         "-- the tool's, for nobody else: whoever uses it gets past the fence\n"
                         "CREATE USER '%s'@'%%' IDENTIFIED BY '<password>';\n"
                         "GRANT ALL PRIVILEGES ON *.* TO '%s'@'%%' WITH GRANT OPTION;\n",
                         tool, tool);
    if (replication)
        add_made_by_setup(call, ret, replication, "REPLICATION SLAVE ON *.*");
    if (probe)
        add_made_by_setup(call, ret, probe, "SELECT, INSERT, UPDATE, DELETE ON " MY_PROBE_SCHEMA ".*");
    call->host->text_add(
        call->ctx, ret,
        "-- only where `lag` and `status` are to run with an account that can't change anything\n"
        "CREATE USER 'changeover_monitor'@'%%' IDENTIFIED BY '<password>';\n"
        "GRANT PROCESS, REPLICATION CLIENT /*M!100502 , SLAVE MONITOR */ ON *.* TO 'changeover_monitor'@'%%';\n"
        "GRANT SELECT ON " MY_SCHEMA ".* TO 'changeover_monitor'@'%%';\n");
    return CO_DONE;
}
