/* check_server.c - pre-flight: settings of each server, and how the two differ. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>

static bool is(const char *value, const char *wanted)
{
    return value && strcasecmp(value, wanted) == 0;
}

static void check_binlog(struct my_check *c, const struct my_sets *vars, const struct co_conn *conn, enum co_side side,
                         bool source)
{
    if (!my_truth(my_var(vars, "log_bin")))
        my_find(c, "log_bin_off", CO_ERROR, (int)side, "Set log_bin in the server's configuration and restart it.",
                "the binary log is off: %s", source ? "nothing can be replicated" : "the way back would be closed");
    if (!is(my_var(vars, "binlog_format"), "ROW") && my_var(vars, "binlog_format"))
        my_find(c, "binlog_format_not_row", source ? CO_ERROR : CO_WARNING, (int)side,
                "SET GLOBAL binlog_format=ROW (and in the configuration); sessions that are open keep the old format.",
                "binlog_format is %s: statements may give other results on the other server", my_var(vars, "binlog_format"));
    const char *updates = my_var(vars, "log_replica_updates");
    if (!updates)
        updates = my_var(vars, "log_slave_updates");
    if (!source && updates && !my_truth(updates))
        my_find(c, "log_replica_updates_off", CO_ERROR, (int)side,
                "Set log_slave_updates (MySQL 8.0.26 on: log_replica_updates) and restart the server.",
                "what is replicated isn't in the binary log of the future primary: the way back would be closed");
    bool by_files = (!c->source || c->source->by_file) && (!c->target || c->target->by_file);
    if (my_is_mysql(conn) && !is(my_var(vars, "gtid_mode"), "ON") && !by_files)
        my_find(c, "gtid_mode_off", CO_ERROR, (int)side,
                "Turn GTIDs on, online: enforce_gtid_consistency=ON, then gtid_mode OFF_PERMISSIVE, ON_PERMISSIVE, ON, on both "
                "servers; or have them off on both: then replication goes by file and position.",
                "gtid_mode is %s here and not on both servers the same: one wouldn't take the other's transactions",
                my_var(vars, "gtid_mode") ? my_var(vars, "gtid_mode") : "unknown");
    if (!my_is_mysql(conn) && !my_truth(my_var(vars, "gtid_strict_mode")))
        my_find(c, "gtid_strict_mode_off", CO_WARNING, (int)side, "SET GLOBAL gtid_strict_mode=1, and in the configuration.",
                "gtid_strict_mode is off: a transaction made on a follower by mistake wouldn't stop replication and would be "
                "noticed late");
    if (!is(my_var(vars, "binlog_row_image"), "FULL") && my_var(vars, "binlog_row_image"))
        my_find(c, "binlog_row_image_not_full", CO_INFO, (int)side, "", "binlog_row_image is %s: tables need primary keys",
                my_var(vars, "binlog_row_image"));
}

static void check_durability(struct my_check *c, const struct my_sets *vars, enum co_side side)
{
    if (my_var(vars, "sync_binlog") && !is(my_var(vars, "sync_binlog"), "1"))
        my_find(c, "sync_binlog_not_1", CO_WARNING, (int)side, "SET GLOBAL sync_binlog=1, at least for the run.",
                "sync_binlog is %s: a crash of the machine may lose transactions that the other server has",
                my_var(vars, "sync_binlog"));
    if (my_var(vars, "innodb_flush_log_at_trx_commit") && !is(my_var(vars, "innodb_flush_log_at_trx_commit"), "1"))
        my_find(c, "innodb_flush_not_1", CO_WARNING, (int)side,
                "SET GLOBAL innodb_flush_log_at_trx_commit=1, at least for the run.",
                "innodb_flush_log_at_trx_commit is %s: a crash may lose acknowledged transactions, and the run's marker",
                my_var(vars, "innodb_flush_log_at_trx_commit"));
}

/* What is different where neither server has GTIDs. */
static void check_by_file(struct my_check *c)
{
    const struct my_sets *vars = &c->target_vars;
    if (!c->source || !c->target || !c->source->by_file || !c->target->by_file)
        return;
    my_find(
        c, "without_gtid", CO_WARNING, -1,
        "Turn GTIDs on, online, on both servers: enforce_gtid_consistency=ON, then gtid_mode OFF_PERMISSIVE, ON_PERMISSIVE, "
        "ON. Or accept it.",
        "there are no GTIDs (gtid_mode %s): replication goes by file and position. Transactions that were made on the target "
        "itself before it was closed can't be seen, and other replicas have to be pointed to the new primary by hand",
        my_var(vars, "gtid_mode") ? my_var(vars, "gtid_mode") : "off");
    if (is(my_var(vars, "relay_log_info_repository"), "FILE"))
        my_find(c, "relay_log_info_in_file", CO_ERROR, (int)c->target_side,
                "STOP SLAVE; SET GLOBAL relay_log_info_repository='TABLE'; START SLAVE; and in the configuration.",
                "how far the target has applied is kept in a file: after a crash it would apply transactions twice");
    if (my_var(vars, "relay_log_recovery") && !my_truth(my_var(vars, "relay_log_recovery")))
        my_find(c, "relay_log_recovery_off", CO_WARNING, (int)c->target_side,
                "Set relay_log_recovery=ON in the configuration and restart the target.",
                "relay_log_recovery is off: without GTIDs a crash of the target may leave its relay log torn, and replication "
                "broken");
}

static void check_single(struct my_check *c, const struct my_sets *vars, const struct co_conn *conn, enum co_side side)
{
    if (my_truth(my_var(vars, "wsrep_on")))
        my_find(c, "galera_member", CO_ERROR, (int)side,
                "Use the cluster's own way of moving; or take a member out of the cluster first.",
                "the server is a member of a Galera cluster: its other members accept writes too");
    if (my_var(vars, "group_replication_group_name") && *my_var(vars, "group_replication_group_name") && my_is_mysql(conn)) {
        MY_SETS_AUTO members = {0};
        struct co_conn *asked = side == c->source_side ? c->source : c->target;
        if (my_check_read(c, asked, "group membership",
                          "SELECT COUNT(*) FROM performance_schema.replication_group_members WHERE MEMBER_STATE='ONLINE'",
                          &members) &&
            my_int(my_value(&members, 0, 0), 0) > 0)
            my_find(c, "group_replication_member", CO_ERROR, (int)side,
                    "Use MySQL Shell to move a group; or take the server out of it first.",
                    "the server is a member of a replication group, which decides by itself who may write");
    }
    if (my_truth(my_var(vars, "offline_mode")))
        my_find(c, "offline_mode_on", CO_ERROR, (int)side, "SET GLOBAL offline_mode=OFF (and in the configuration).",
                "offline_mode is on: neither ordinary clients nor the replication account get in");
    if (is(my_var(vars, "persisted_globals_load"), "OFF"))
        my_find(c, "persisted_globals_load_off", CO_ERROR, (int)side,
                "Remove persisted_globals_load=OFF from the configuration.",
                "persisted variables aren't loaded at a restart: super_read_only wouldn't outlive it");
    if (my_is_mysql(conn) && conn->version < 80000)
        my_find(c, "read_only_not_persistent", CO_INFO, (int)side, "Put super_read_only=1 into the follower's configuration.",
                "MySQL 5.7 can't persist super_read_only: after a restart only the locked accounts keep clients out");
    if (my_var(vars, "init_file") && *my_var(vars, "init_file"))
        my_find(c, "init_file", CO_WARNING, (int)side,
                "Look into it: it must neither write nor unlock accounts nor change read_only.",
                "the server runs %s at every start, before anybody can be kept out", my_var(vars, "init_file"));
    if (my_truth(my_var(vars, "skip_grant_tables")))
        my_find(c, "skip_grant_tables", CO_ERROR, (int)side, "Restart the server without skip_grant_tables.",
                "the server doesn't check accounts, so nobody can be kept out");
    if (my_truth(my_var(vars, "rpl_semi_sync_master_enabled")) || my_truth(my_var(vars, "rpl_semi_sync_source_enabled")))
        my_find(c, "semi_sync", CO_WARNING, (int)side,
                "See that another replica acknowledges too, or that the timeout is short.",
                "semi-synchronous replication is on: commits wait for a replica's word, and after an undo the follower may be "
                "late to give it");
    const char *skip =
        my_var(vars, "replica_skip_errors") ? my_var(vars, "replica_skip_errors") : my_var(vars, "slave_skip_errors");
    if (skip && *skip && !is(skip, "OFF"))
        my_find(c, "replica_skip_errors", CO_ERROR, (int)side,
                "Remove slave_skip_errors from the configuration, and verify the data.",
                "replication errors are skipped (%s): what wasn't applied is lost unseen", skip);
}

static void differ(struct my_check *c, const char *name, const char *code, enum co_severity severity, const char *why,
                   const char *remedy)
{
    const char *s = my_var(&c->source_vars, name), *t = my_var(&c->target_vars, name);
    if (s && t && strcmp(s, t) != 0)
        my_find(c, code, severity, -1, remedy, "%s is '%.200s' on the source and '%.200s' on the target: %s", name, s, t, why);
}

static void less(struct my_check *c, const char *name, const char *code, const char *why)
{
    const char *s = my_var(&c->source_vars, name), *t = my_var(&c->target_vars, name);
    if (s && t && my_int(t, 0) < my_int(s, 0))
        my_find(c, code, CO_WARNING, (int)c->target_side, "Raise it on the target to at least the source's value.",
                "%s is %s on the source and only %s on the target: %s", name, s, t, why);
}

static void check_versions(struct my_check *c)
{
    if (!c->source || !c->target)
        return;
    if (c->source->flavour != c->target->flavour) {
        my_find(c, "flavour_differs", CO_ERROR, -1, "Move with a dump: neither follows the other by GTID.",
                "the source is %s and the target is %s", my_is_mysql(c->source) ? "MySQL" : "MariaDB",
                my_is_mysql(c->target) ? "MySQL" : "MariaDB");
        return;
    }
    unsigned long s = c->source->version / 100, t = c->target->version / 100;
    bool back = c->stage == CO_CHECK_CUTOVER && c->source_side == CO_SIDE_B;
    if (t < s && back) /* after an upgrade the only way back leads to the older server, and that it follows is seen */
        my_find(c, "version_lower", CO_WARNING, (int)c->target_side,
                "Look at the lag first: statements that only the newer server knows would have stopped the older one.",
                "the old primary is older than the server it follows (%s, %s), which the makers don't support",
                c->target->version_text, c->source->version_text);
    else if (t < s)
        my_find(c, "version_lower", CO_ERROR, (int)c->target_side,
                "Install the source's version, or a newer one, on the target.",
                "the target is older than the source (%s, %s): it may not understand what it is sent", c->target->version_text,
                c->source->version_text);
    else if (t > s)
        my_find(c, "version_higher", CO_WARNING, (int)c->target_side, "Rehearse the way back, or plan without one.",
                "the target is newer than the source (%s, %s): the way back replicates from new to old, which the makers don't "
                "support",
                c->target->version_text, c->source->version_text);
}

/* What clients that set nothing themselves get. */
static void check_client_defaults(struct my_check *c)
{
    static const char *const names[] = {"autocommit",
                                        "transaction_isolation",
                                        "tx_isolation",
                                        "transaction_read_only",
                                        "tx_read_only",
                                        "innodb_snapshot_isolation",
                                        "init_connect",
                                        "default_storage_engine",
                                        "group_concat_max_len",
                                        "innodb_lock_wait_timeout",
                                        "wait_timeout",
                                        "sql_require_primary_key",
                                        "sql_select_limit",
                                        "max_statement_time",
                                        "max_execution_time",
                                        "local_infile",
                                        "max_user_connections",
                                        "innodb_autoinc_lock_mode",
                                        "completion_type",
                                        "foreign_key_checks",
                                        "auto_increment_increment"};
    MY_STR_AUTO list = {0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *s = my_var(&c->source_vars, names[i]), *t = my_var(&c->target_vars, names[i]);
        if (s && t && strcasecmp(s, t) != 0)
            my_str_addf(&list, "%s%s '%.80s' and '%.80s'", list.len ? ", " : "", names[i], s, t);
    }
    if (list.len)
        my_find(c, "client_defaults_differ", CO_WARNING, -1,
                "Set them on the target as on the source, in its configuration too.",
                "clients get other defaults after the cutover (source and target): %.700s", my_cstr(&list));
}

static void check_differences(struct my_check *c)
{
    const char *s = my_var(&c->source_vars, "server_id"), *t = my_var(&c->target_vars, "server_id");
    if (s && t && strcmp(s, t) == 0)
        my_find(c, "server_id_same", CO_ERROR, -1, "Give every server its own server_id.",
                "both servers have server_id %s: they ignore each other's changes", s);
    s = my_var(&c->source_vars, "server_uuid");
    t = my_var(&c->target_vars, "server_uuid");
    if (s && t && *s && strcmp(s, t) == 0)
        my_find(c, "server_uuid_same", CO_ERROR, -1, "Stop the copy, remove auto.cnf from its data folder, start it.",
                "both servers have the server_uuid %s", s);
    differ(c, "lower_case_table_names", "lower_case_table_names_differ", CO_ERROR, "table names would not be found",
           "It can only be chosen when a server is made: make the target anew.");
    differ(c, "sql_mode", "sql_mode_differs", CO_WARNING, "statements may succeed on one and fail on the other",
           "Set the source's sql_mode in the target's configuration.");
    differ(c, "time_zone", "time_zone_differs", CO_WARNING, "NOW() would differ for clients that set none",
           "Set default_time_zone alike.");
    differ(c, "system_time_zone", "system_time_zone_differs", CO_WARNING, "sessions with time_zone SYSTEM get other times",
           "Set the machines' time zones alike.");
    differ(c, "character_set_server", "character_set_differs", CO_WARNING, "new databases get another character set",
           "Set character_set_server alike.");
    differ(c, "collation_server", "collation_differs", CO_WARNING, "new databases sort otherwise",
           "Set collation_server alike.");
    differ(c, "explicit_defaults_for_timestamp", "timestamp_defaults_differ", CO_WARNING,
           "new TIMESTAMP columns get other defaults", "Set it alike.");
    differ(c, "require_secure_transport", "secure_transport_differs", CO_WARNING, "clients without TLS may be refused",
           "Set it alike.");
    check_client_defaults(c);
    s = my_var(&c->source_vars, "log_bin_trust_function_creators");
    t = my_var(&c->target_vars, "log_bin_trust_function_creators");
    if (s && t && my_truth(s) && !my_truth(t)) /* seen on MariaDB 10.11 and MySQL 9.7: error 1418 */
        my_find(c, "function_creators_not_trusted", CO_WARNING, (int)c->target_side,
                "SET GLOBAL log_bin_trust_function_creators=1 on the target, and in its configuration.",
                "log_bin_trust_function_creators is on on the source and off on the target: a function made without "
                "DETERMINISTIC would stop the replication");
    less(c, "max_allowed_packet", "max_allowed_packet_less", "large rows can't be applied");
    less(c, "max_connections", "max_connections_less", "clients may be turned away after the cutover");
    less(c, "innodb_buffer_pool_size", "buffer_pool_less", "it may be slower under the same load");
}

void my_check_server(struct my_check *c)
{
    check_versions(c);
    if (c->source) {
        check_binlog(c, &c->source_vars, c->source, c->source_side, true);
        check_durability(c, &c->source_vars, c->source_side);
        check_single(c, &c->source_vars, c->source, c->source_side);
    }
    if (c->target) {
        check_binlog(c, &c->target_vars, c->target, c->target_side, false);
        check_durability(c, &c->target_vars, c->target_side);
        check_single(c, &c->target_vars, c->target, c->target_side);
    }
    check_by_file(c);
    check_differences(c);
}
