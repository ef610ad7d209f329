/* setup.c - from an empty (or following) target to one that follows the source and refuses clients.
 *
 * Invariant: whatever is made on the target itself is made with sql_log_bin=0; what belongs to the service (the replication
 * account, the probe's table) is made on the source as part of its history and arrives like everything else. A copy that
 * was begun is marked in changeover.originals, so one that was interrupted is known and starts again cleanly.
 */
#include "setup.h"

#include <stdlib.h>

static enum co_result say(struct co_call *call, struct co_text *ret, const char *text)
{
    call->host->text_set(call->ctx, ret, text, strlen(text));
    return CO_DONE;
}

/* A guarded change that belongs to the server's history. */
static enum co_result logged_change(struct co_call *call, const char *sql)
{
    MY_STR_AUTO packet = {0};
    my_str_add(&packet, "SET SESSION sql_log_bin=1;");
    my_str_add(&packet, sql);
    my_str_add(&packet, "SET SESSION sql_log_bin=0;");
    if (packet.overflow)
        return my_out_of_memory(call);
    enum co_result r = my_change(call, call->conn, my_cstr(&packet), NULL);
    if (r != CO_DONE && !call->conn->dead) {
        struct co_error saved = *call->err;
        MY_SETS_AUTO off = {0};
        my_read(call, call->conn, "SET SESSION sql_log_bin=0", &off);
        *call->err = saved;
    }
    return r;
}

bool my_setup_method_is(struct co_call *call, const char *method)
{
    const char *m = call->host->option(call->ctx, "setup.method");
    return strcmp(m ? m : "dump", method) == 0;
}

/* ---------------------------------------------------------------- our schema */

enum co_result my_setup_schema_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret,
               "SET SESSION sql_log_bin=0\nCREATE DATABASE IF NOT EXISTS " MY_SCHEMA "\nCREATE TABLE IF NOT EXISTS " MY_SCHEMA
               ".marker (...)\nCREATE TABLE IF NOT EXISTS " MY_SCHEMA ".originals (...)");
}

enum co_result my_setup_schema_probe(struct co_call *call, enum co_presence *ret)
{
    bool there = false;
    if (!call->conn)
        return my_backup_under_way(call, ret);
    enum co_result r = my_schema_there(call, call->conn, &there);
    if (r != CO_DONE || !there) {
        *ret = CO_ABSENT;
        return r;
    }
    MY_SETS_AUTO sets = {0};
    r = my_read(call, call->conn, "SELECT value FROM " MY_SCHEMA ".originals WHERE kind='lineage'", &sets);
    const char *lineage = call->host->note_get(call->ctx, CO_NOTE_PAIR, CO_SIDE_A, "lineage"), *here = my_value(&sets, 0, 0);
    *ret = lineage && here && strcmp(lineage, here) == 0 ? CO_PRESENT : CO_PARTIAL;
    return r;
}

static enum co_result unreachable(struct co_call *call)
{
    return my_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "Check that it runs.", "the target can't be reached");
}

enum co_result my_setup_schema_apply(struct co_call *call)
{
    if (!call->conn)
        return unreachable(call);
    return my_schema_make(call, call->conn);
}

enum co_result my_setup_schema_revert(struct co_call *call)
{
    bool there = false;
    enum co_result r = my_schema_there(call, call->conn, &there);
    return r == CO_DONE && there ? my_write(call, call->conn, true, "DROP DATABASE IF EXISTS " MY_SCHEMA ";", NULL) : r;
}

/* ---------------------------------------------------------------- the replication account */

static bool have_secret(struct co_call *call, enum co_secret which)
{
    return call->host->secret_user(call->ctx, which) && call->host->secret(call->ctx, call->side, which);
}

bool my_setup_user_wanted(struct co_call *call)
{
    return have_secret(call, CO_SECRET_REPLICATION);
}

enum co_result my_setup_user_describe(struct co_call *call, struct co_text *ret)
{
    const char *user = call->host->secret_user(call->ctx, CO_SECRET_REPLICATION);
    call->host->text_set(call->ctx, ret, "", 0);
    call->host->text_add(call->ctx, ret,
                         "CREATE USER '%s'@'%%' IDENTIFIED BY <password>\nGRANT REPLICATION SLAVE ON *.* TO '%s'@'%%'", user,
                         user);
    return CO_DONE;
}

static enum co_result count_user(struct co_call *call, const char *user, const char *condition, int64_t *ret)
{
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO sets = {0};
    my_str_add(&sql, "SELECT COUNT(*) FROM mysql.user WHERE User=");
    my_str_quote(&sql, user);
    my_str_add(&sql, condition);
    enum co_result r = my_read(call, call->conn, my_cstr(&sql), &sets);
    *ret = my_int(my_value(&sets, 0, 0), 0);
    return r;
}

enum co_result my_setup_user_probe(struct co_call *call, enum co_presence *ret)
{
    const char *user = call->host->secret_user(call->ctx, CO_SECRET_REPLICATION);
    int64_t any = 0, able = 0;
    enum co_result r = count_user(call, user, "", &any);
    if (r == CO_DONE)
        r = count_user(call, user, " AND Repl_slave_priv='Y'", &able);
    *ret = able ? CO_PRESENT : any ? CO_PARTIAL : CO_ABSENT;
    return r;
}

enum co_result my_setup_user_apply(struct co_call *call)
{
    const char *user = call->host->secret_user(call->ctx, CO_SECRET_REPLICATION);
    const char *password = call->host->secret(call->ctx, call->side, CO_SECRET_REPLICATION);
    enum co_presence there = CO_ABSENT;
    enum co_result r = my_setup_user_probe(call, &there);
    if (r != CO_DONE || there == CO_PRESENT)
        return r;
    MY_STR_AUTO sql = {0};
    if (there == CO_ABSENT) {
        my_str_add(&sql, "CREATE USER IF NOT EXISTS ");
        my_str_account(&sql, user, "%");
        my_str_add(&sql, " IDENTIFIED BY ");
        my_str_quote(&sql, password);
        my_str_add(&sql, ";GRANT REPLICATION SLAVE ON *.* TO ");
        my_str_account(&sql, user, "%");
        my_str_add(&sql, ";");
        if (call->host->note_put(call->ctx, CO_NOTE_PAIR, CO_SIDE_A, "replication_user", user) != 0)
            return my_fail(call, CO_NO_EFFECT, CO_E_IO, "", "can't note that the account %s is ours", user);
        return logged_change(call, my_cstr(&sql));
    }
    return my_fail(call, CO_NO_EFFECT, CO_E_PRIVILEGE,
                   "GRANT REPLICATION SLAVE ON *.* to it, or name another account under replication.user.",
                   "the account %s exists and may not replicate", user);
}

enum co_result my_setup_user_revert(struct co_call *call)
{
    const char *user = call->host->note_get(call->ctx, CO_NOTE_PAIR, CO_SIDE_A, "replication_user");
    if (!user)
        return CO_DONE;
    MY_STR_AUTO sql = {0};
    my_str_add(&sql, "DROP USER IF EXISTS ");
    my_str_account(&sql, user, "%");
    my_str_add(&sql, ";");
    return logged_change(call, my_cstr(&sql));
}

/* ---------------------------------------------------------------- the probe's table and account */

enum co_result my_setup_table_describe(struct co_call *call, struct co_text *ret)
{
    const char *user = call->host->secret_user(call->ctx, CO_SECRET_PROBE);
    call->host->text_set(call->ctx, ret, "", 0);
    call->host->text_add(call->ctx, ret,
                         "CREATE DATABASE IF NOT EXISTS " MY_PROBE_SCHEMA "\nCREATE TABLE IF NOT EXISTS " MY_PROBE_SCHEMA
                         ".probe (...)");
    if (user)
        call->host->text_add(
            call->ctx, ret,
            "\nCREATE USER IF NOT EXISTS '%s'@'%%' IDENTIFIED BY <password> -- where there is none of that name\n"
            "GRANT SELECT, INSERT, UPDATE, DELETE ON " MY_PROBE_SCHEMA ".* TO '%s'",
            user, user);
    return CO_DONE;
}

enum co_result my_setup_table_probe(struct co_call *call, enum co_presence *ret)
{
    MY_SETS_AUTO sets = {0};
    const char *user = call->host->secret_user(call->ctx, CO_SECRET_PROBE);
    int64_t accounts = 1;
    enum co_result r = my_read(call, call->conn,
                               "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA='" MY_PROBE_SCHEMA
                               "' AND TABLE_NAME='probe'",
                               &sets);
    bool table = my_int(my_value(&sets, 0, 0), 0) == 1;
    if (r == CO_DONE && user)
        r = count_user(call, user, "", &accounts);
    MY_STR_AUTO sql = {0};
    MY_SETS_AUTO granted = {0};
    my_str_add(&sql, "SELECT COUNT(*) FROM mysql.db WHERE Db='" MY_PROBE_SCHEMA "' AND Insert_priv='Y' AND User=");
    my_str_quote(&sql, user ? user : "");
    if (r == CO_DONE && user)
        r = my_read(call, call->conn, my_cstr(&sql), &granted);
    bool able = !user || (accounts && my_int(my_value(&granted, 0, 0), 0) > 0);
    *ret = table && able ? CO_PRESENT : table ? CO_PARTIAL : CO_ABSENT;
    return r;
}

enum co_result my_setup_table_apply(struct co_call *call)
{
    MY_STR_AUTO sql = {0};
    const char *user = call->host->secret_user(call->ctx, CO_SECRET_PROBE);
    const char *password = call->host->secret(call->ctx, call->side, CO_SECRET_PROBE);
    my_str_add(&sql, "CREATE DATABASE IF NOT EXISTS " MY_PROBE_SCHEMA ";CREATE TABLE IF NOT EXISTS " MY_PROBE_SCHEMA
                     ".probe (id INT NOT NULL PRIMARY KEY, what VARCHAR(64) NOT NULL, at TIMESTAMP NOT NULL) ENGINE=InnoDB;");
    if (user) {
        MY_STR_AUTO read = {0};
        MY_SETS_AUTO hosts = {0};
        my_str_add(&read, "SELECT Host FROM mysql.user WHERE User=");
        my_str_quote(&read, user);
        enum co_result r = my_read(call, call->conn, my_cstr(&read), &hosts);
        if (r != CO_DONE)
            return r;
        if (mysql_num_rows(hosts.set[0]) == 0 && password) {
            my_str_add(&sql, "CREATE USER IF NOT EXISTS ");
            my_str_account(&sql, user, "%");
            my_str_add(&sql, " IDENTIFIED BY ");
            my_str_quote(&sql, password);
            my_str_add(&sql, ";GRANT SELECT, INSERT, UPDATE, DELETE ON " MY_PROBE_SCHEMA ".* TO ");
            my_str_account(&sql, user, "%");
            my_str_add(&sql, ";");
        }
        for (MYSQL_ROW row; (row = mysql_fetch_row(hosts.set[0]));) {
            my_str_add(&sql, "GRANT SELECT, INSERT, UPDATE, DELETE ON " MY_PROBE_SCHEMA ".* TO ");
            my_str_account(&sql, user, row[0]);
            my_str_add(&sql, ";");
        }
    }
    return sql.overflow ? my_out_of_memory(call) : logged_change(call, my_cstr(&sql));
}

enum co_result my_setup_table_revert(struct co_call *call)
{
    return logged_change(call, "DROP DATABASE IF EXISTS " MY_PROBE_SCHEMA ";");
}

/* ---------------------------------------------------------------- the target refuses clients */

/* MariaDB forgets read_only at a restart unless its own configuration says so. */
static bool read_only_lasts(struct co_call *call)
{
    if (my_is_mysql(call->conn))
        return my_has_persist(call->conn);
    const char *noted = call->host->note_get(call->ctx, CO_NOTE_PAIR, call->side, "read_only_configured");
    if (noted)
        return strcmp(noted, "1") == 0;
    MY_SETS_AUTO sets = {0};
    struct co_error saved = *call->err;
    enum co_result r =
        my_read(call, call->conn,
                "SELECT GLOBAL_VALUE_ORIGIN='CONFIG' AND GLOBAL_VALUE IN ('ON','1') FROM information_schema.SYSTEM_VARIABLES "
                "WHERE VARIABLE_NAME='READ_ONLY'",
                &sets);
    *call->err = saved;
    return r == CO_DONE && my_truth(my_value(&sets, 0, 0));
}

bool my_setup_lock_wanted(struct co_call *call)
{
    const char *closure = call->host->option(call->ctx, "setup.closure");
    return call->conn && (!closure || strcmp(closure, "read_only") != 0);
}

/* Where read_only outlives a restart, ordinary accounts may read. Those that get past it are locked all the same; on MySQL
 * since our own rows need super_read_only off for the length of a packet (seen: a root client that tried all the time got a
 * write through). */
enum my_scope my_setup_scope(struct co_call *call)
{
    const char *closure = call->host->option(call->ctx, "setup.closure");
    if (closure && strcmp(closure, "accounts") == 0)
        return MY_SCOPE_ALL;
    return call->conn && read_only_lasts(call) ? MY_SCOPE_BYPASS : MY_SCOPE_ALL;
}

enum co_result my_setup_closed_describe(struct co_call *call, struct co_text *ret)
{
    bool persist = call->conn && my_has_persist(call->conn), mysql = call->conn && my_is_mysql(call->conn);
    return say(call, ret,
               persist ? "SET PERSIST super_read_only=1\nSET PERSIST read_only=1\nSET GLOBAL event_scheduler=OFF"
               : mysql ? "SET GLOBAL super_read_only=1\nSET GLOBAL event_scheduler=OFF"
                       : "SET GLOBAL read_only=1\nSET GLOBAL event_scheduler=OFF");
}

enum co_result my_setup_closed_probe(struct co_call *call, enum co_presence *ret)
{
    return call->conn ? my_read_only_probe(call, ret) : my_backup_under_way(call, ret);
}

enum co_result my_setup_closed_apply(struct co_call *call)
{
    if (!call->conn)
        return unreachable(call);
    bool lasts = read_only_lasts(call);
    if (!my_is_mysql(call->conn) &&
        call->host->note_put(call->ctx, CO_NOTE_PAIR, call->side, "read_only_configured", lasts ? "1" : "0") != 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_IO, "", "can't keep a note");
    enum co_result r = my_read_only_set(call);
    return r == CO_DONE ? my_events_disable(call) : r;
}

enum co_result my_setup_closed_revert(struct co_call *call)
{
    MY_STR_AUTO sql = {0};
    if (my_has_persist(call->conn))
        my_str_add(&sql, "RESET PERSIST IF EXISTS super_read_only;RESET PERSIST IF EXISTS read_only;");
    if (my_is_mysql(call->conn))
        my_str_add(&sql, "SET GLOBAL super_read_only=0;");
    my_str_add(&sql, "SET GLOBAL read_only=0;");
    enum co_result r = my_change(call, call->conn, my_cstr(&sql), NULL);
    return r == CO_DONE ? my_events_restore(call) : r;
}

/* ---------------------------------------------------------------- copy */

bool my_setup_copy_wanted(struct co_call *call)
{
    return !my_setup_method_is(call, "adopt");
}

enum co_result my_setup_copy_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_set(call->ctx, ret, "", 0);
    if (my_setup_method_is(call, "copied")) {
        const char *position = call->host->option(call->ctx, "setup.position");
        bool mysql = call->conn && my_is_mysql(call->conn);
        call->host->text_add(call->ctx, ret, mysql ? "%s\nSET GLOBAL gtid_purged='%s'" : "%s\nSET GLOBAL gtid_slave_pos='%s'",
                             call->conn ? my_word_reset_log(call->conn) : "RESET MASTER",
                             position ? position : "<setup.position>");
    } else if (my_setup_method_is(call, "clone")) {
        my_clone_describe(call, ret);
    } else if (my_setup_method_is(call, "mariabackup")) {
        my_backup_describe(call, ret);
    } else {
        my_dump_describe(call, ret);
    }
    return CO_DONE;
}

enum co_result my_setup_copy_probe(struct co_call *call, enum co_presence *ret)
{
    MY_FOLLOW_AUTO f = {0};
    MY_SETS_AUTO sets = {0};
    *ret = CO_ABSENT;
    if (!call->conn)
        return unreachable(call);
    enum co_result r = my_follow_read(call, call->conn, &f);
    if (r != CO_DONE)
        return r;
    if (f.present) { /* a replication that runs is adopted, whatever made its copy */
        *ret = CO_PRESENT;
        return CO_DONE;
    }
    if (my_setup_method_is(call, "clone"))
        return my_clone_probe(call, ret);
    if (my_setup_method_is(call, "mariabackup"))
        return my_backup_probe(call, ret);
    r = my_read(call, call->conn, "SELECT value FROM " MY_SCHEMA ".originals WHERE kind='copy'", &sets);
    if (r != CO_DONE)
        return sets.error == 1146 || sets.error == 1049 ? CO_DONE : r;
    const char *state = my_value(&sets, 0, 0);
    *ret = !state ? CO_ABSENT : strcmp(state, "done") == 0 ? CO_PRESENT : CO_PARTIAL;
    return CO_DONE;
}

static enum co_result copied_apply(struct co_call *call)
{
    const char *position = call->host->option(call->ctx, "setup.position");
    if (call->conn->by_file) {
        MY_STR_AUTO keep = {0};
        enum co_result r = my_file_after_copied(call, position, &keep);
        my_str_add(&keep, "REPLACE INTO " MY_SCHEMA ".originals (kind,a,b,value) VALUES ('copy','','','done');");
        return r == CO_DONE ? my_write(call, call->conn, true, my_cstr(&keep), NULL) : r;
    }
    bool mysql = my_is_mysql(call->conn);
    if (my_pos_kind(position) != (mysql ? MY_POS_MYSQL : MY_POS_MARIADB))
        return my_fail(call, CO_NO_EFFECT, CO_E_CONFIG,
                       "Set setup.position to the GTID position that the copy stands for, as the backup tool printed it.",
                       "setup.method is \"copied\" and setup.position is %s", position ? "not a GTID position" : "missing");
    MY_STR_AUTO sql = {0};
    if (mysql)
        my_str_addf(&sql, "%s;SET GLOBAL gtid_purged=", my_word_reset_log(call->conn));
    else
        my_str_add(&sql, "RESET MASTER;SET GLOBAL gtid_slave_pos=");
    my_str_quote(&sql, position);
    if (!mysql) {
        my_str_add(&sql, ";SET GLOBAL gtid_binlog_state=");
        my_str_quote(&sql, position);
    }
    my_str_add(&sql, ";REPLACE INTO " MY_SCHEMA ".originals (kind,a,b,value) VALUES ('copy','','','done');");
    return my_write(call, call->conn, true, my_cstr(&sql), NULL);
}

enum co_result my_setup_copy_apply(struct co_call *call)
{
    enum co_presence there = CO_ABSENT;
    enum co_result (*whole)(struct co_call *) = my_setup_method_is(call, "clone")         ? my_clone_copy
                                                : my_setup_method_is(call, "mariabackup") ? my_backup_copy
                                                                                          : NULL;
    if (!call->conn || call->conn->dead) /* between the two halves of such a copy */
        return whole ? whole(call) : unreachable(call);
    enum co_result r = my_setup_copy_probe(call, &there);
    if (r != CO_DONE || there == CO_PRESENT)
        return r;
    return whole ? whole(call) : my_setup_method_is(call, "copied") ? copied_apply(call) : my_dump_copy(call);
}

enum co_result my_setup_copy_revert(struct co_call *call)
{
    (void)call; /* a copy is kept: it may be all there is */
    return CO_DONE;
}

/* ---------------------------------------------------------------- follow */

const char *my_link_tls(struct co_call *call)
{
    const struct co_endpoint_config *peer = call->host->endpoint(call->ctx, call->side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A);
    const char *mode = call->host->option(call->ctx, "link.tls");
    if (mode && strcmp(mode, "auto") != 0)
        return mode;
    return peer->tls.mode == CO_TLS_OFF ? "off" : "require";
}

/* CHANGE MASTER ... ; START SLAVE, towards the other side. `masked`: for people. */
enum co_result my_follow_sql(struct co_call *call, struct co_conn *conn, struct my_str *sql, bool masked)
{
    const struct co_endpoint_config *peer = call->host->endpoint(call->ctx, call->side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A);
    unsigned port = 0;
    const char *address = my_source_place(call, call->side, &port);
    const char *user = call->host->secret_user(call->ctx, CO_SECRET_REPLICATION);
    const char *password = call->host->secret(call->ctx, call->side, CO_SECRET_REPLICATION);
    const char *channel = call->run ? call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "channel") : NULL;
    if (!address || address[0] == '/')
        return my_fail(call, CO_NO_EFFECT, CO_E_CONFIG,
                       "Give that side a peer: {address: \"host:port\"}: how the other server reaches it.",
                       "%s's url is a socket, which the other server can't reach",
                       peer == call->host->endpoint(call->ctx, CO_SIDE_A) ? "a" : "b");
    if (!masked && (!user || !password))
        return my_fail(call, CO_NO_EFFECT, CO_E_CONFIG, "Set replication: {user, password_file}.",
                       "the account that servers replicate with isn't configured");
    struct co_conn unknown = {.flavour = MY_MARIADB, .version = 101100};
    if (!conn)
        conn = &unknown;
    bool mysql = my_is_mysql(conn), named = channel && *channel;
    const char *s = my_word_source(conn), *tls = my_link_tls(call), *ca = call->host->option(call->ctx, "link.ca");
    if (named && !mysql) {
        my_str_add(sql, "CHANGE MASTER ");
        my_str_quote(sql, channel);
        my_str_add(sql, " TO ");
    } else {
        my_str_addf(sql, "%s ", my_word_change(conn));
    }
    my_str_addf(sql, "%s_HOST=", s);
    my_str_quote(sql, address);
    my_str_addf(sql, ",%s_PORT=%u,%s_USER=", s, port, s);
    my_str_quote(sql, user ? user : "replicator");
    my_str_addf(sql, ",%s_PASSWORD=", s);
    if (masked)
        my_str_add(sql, "<password>");
    else
        my_str_quote(sql, password);
    my_str_addf(sql, ",%s_CONNECT_RETRY=1,%s_HEARTBEAT_PERIOD=1", s, s);
    my_str_add(sql, mysql ? "," : ",MASTER_USE_GTID=slave_pos");
    if (mysql)
        my_str_addf(sql, "%s_AUTO_POSITION=%d,%s_RETRY_COUNT=86400", s, !conn->by_file, s);
    if (conn->by_file && masked)
        my_str_addf(sql, ",%s_LOG_FILE=%s,%s_LOG_POS=<it>", s,
                    call->role == CO_TARGET ? "<position of the copy>" : "<position of the new primary's promotion>", s);
    else if (conn->by_file && my_file_start_sql(call, conn, sql) != CO_DONE)
        return CO_NO_EFFECT;
    bool on = strcmp(tls, "off") != 0, verify = strcmp(tls, "verify") == 0;
    my_str_addf(sql, ",%s_SSL=%d,%s_SSL_VERIFY_SERVER_CERT=%d", s, on, s, on && verify);
    if (on && ca) {
        my_str_addf(sql, ",%s_SSL_CA=", s);
        my_str_quote(sql, ca);
    }
    if (!on) /* caching_sha2_password without TLS needs the server's key */
        my_str_add(sql, my_word_public_key(conn));
    if (mysql)
        my_add_channel(conn, named ? channel : NULL, sql);
    my_str_addf(sql, masked ? "\nSTART %s" : ";START %s", my_word_replica(conn));
    my_add_channel(conn, named ? channel : NULL, sql);
    if (!masked)
        my_str_add(sql, ";");
    return sql->overflow ? my_out_of_memory(call) : CO_DONE;
}

enum co_result my_setup_follow_describe(struct co_call *call, struct co_text *ret)
{
    MY_STR_AUTO sql = {0};
    enum co_result r = my_follow_sql(call, call->conn, &sql, true);
    return r == CO_DONE ? say(call, ret, my_cstr(&sql)) : r;
}

enum co_result my_setup_follow_probe(struct co_call *call, enum co_presence *ret)
{
    MY_FOLLOW_AUTO f = {0};
    bool right = false;
    enum co_result r = my_follow_read(call, call->conn, &f);
    if (r == CO_DONE && f.present)
        r = my_follow_right(call, &f, &right);
    *ret = !f.present ? CO_ABSENT : right && (f.gtid || call->conn->by_file) && !f.io_no && f.sql_yes ? CO_PRESENT : CO_PARTIAL;
    return r;
}

enum co_result my_setup_follow_apply(struct co_call *call)
{
    MY_FOLLOW_AUTO f = {0};
    bool right = false;
    enum co_result r = my_follow_read(call, call->conn, &f);
    if (r == CO_DONE && f.present)
        r = my_follow_right(call, &f, &right);
    if (r != CO_DONE)
        return r;
    if (f.present && !right)
        return my_fail(call, CO_NO_EFFECT, CO_E_STATE,
                       my_word_either(call->conn,
                                      "Stop it there first (STOP SLAVE; RESET SLAVE ALL) if it isn't wanted any more.",
                                      "Stop it there first (STOP REPLICA; RESET REPLICA ALL) if it isn't wanted any more."),
                       "the target follows another server: %s:%u", f.host, f.port);
    MY_STR_AUTO sql = {0};
    if (f.present && (f.gtid || call->conn->by_file)) { /* ours or an adopted one, stopped */
        my_str_addf(&sql, "START %s", my_word_replica(call->conn));
        my_add_channel(call->conn, f.channel, &sql);
        my_str_add(&sql, ";");
    } else {
        if (f.present)
            my_str_addf(&sql, "STOP %s;", my_word_replica(call->conn));
        r = my_follow_sql(call, call->conn, &sql, false);
    }
    return r == CO_DONE ? my_change(call, call->conn, my_cstr(&sql), NULL) : r;
}

enum co_result my_setup_follow_revert(struct co_call *call)
{
    return my_detach_stop(call);
}
