/* words.c - statements and expressions that differ by flavour and version. Versions are compared by number, never by
 * name: 8.4 and 9.x follow what 8.0.22 to 8.2 began (MySQL reference manuals, "SHOW REPLICA STATUS" and others). */
#include "my.h"

bool my_is_mysql(const struct co_conn *conn)
{
    return conn->flavour == MY_MYSQL;
}

bool my_has_persist(const struct co_conn *conn)
{
    return my_is_mysql(conn) && conn->version >= 80000;
}

static bool new_words(const struct co_conn *conn, unsigned long since)
{
    return my_is_mysql(conn) && conn->version >= since;
}

const char *my_word_status(const struct co_conn *conn)
{
    if (!my_is_mysql(conn))
        return "SHOW ALL SLAVES STATUS";
    return new_words(conn, 80022) ? "SHOW REPLICA STATUS" : "SHOW SLAVE STATUS";
}

const char *my_word_log_status(const struct co_conn *conn)
{
    return new_words(conn, 80200) ? "SHOW BINARY LOG STATUS" : "SHOW MASTER STATUS";
}

const char *my_word_replica(const struct co_conn *conn)
{
    return new_words(conn, 80022) ? "REPLICA" : "SLAVE";
}

const char *my_word_either(const struct co_conn *conn, const char *slave, const char *replica)
{
    return new_words(conn, 80023) ? replica : slave;
}

const char *my_word_change(const struct co_conn *conn)
{
    return new_words(conn, 80023) ? "CHANGE REPLICATION SOURCE TO" : "CHANGE MASTER TO";
}

const char *my_word_source(const struct co_conn *conn)
{
    return new_words(conn, 80023) ? "SOURCE" : "MASTER";
}

const char *my_word_reset_log(const struct co_conn *conn)
{
    return new_words(conn, 80200) ? "RESET BINARY LOGS AND GTIDS" : "RESET MASTER";
}

const char *my_word_slaveside(const struct co_conn *conn)
{
    return new_words(conn, 80200) ? "DISABLE ON REPLICA" : "DISABLE ON SLAVE";
}

const char *my_word_pos_wait(const struct co_conn *conn)
{
    return new_words(conn, 80026) ? "SOURCE_POS_WAIT" : "MASTER_POS_WAIT";
}

const char *my_word_public_key(const struct co_conn *conn)
{
    return new_words(conn, 80023) ? ",GET_SOURCE_PUBLIC_KEY=1" : new_words(conn, 80000) ? ",GET_MASTER_PUBLIC_KEY=1" : "";
}

/* Whatever the server's defaults are, for the tool's sessions they are ours: a SELECT that stops at sql_select_limit would
 * leave accounts unlocked, a name read in another character set would be another's. Timers are off; every wait for a lock
 * ends by itself, well before ours would. The isolation goes by the statement: its variable has other names before 5.7.20 and
 * on MariaDB before 11.1. */
const char *my_word_session(const struct co_conn *conn)
{
#define SESSION                                                                                                                \
    "SET SESSION autocommit=1, wait_timeout=2147483, interactive_timeout=2147483, net_write_timeout=3600, "                    \
    "lock_wait_timeout=1, innodb_lock_wait_timeout=1, sql_mode='', time_zone='+00:00', sql_safe_updates=0, "                   \
    "sql_select_limit=18446744073709551615, sql_big_selects=1, group_concat_max_len=1048576, "
#define SESSION_TOO ";SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE;SET NAMES utf8mb4"
    return my_is_mysql(conn) ? SESSION "max_execution_time=0" SESSION_TOO
                             : SESSION "max_statement_time=0, idle_transaction_timeout=0" SESSION_TOO;
}

/* For the program that loads a dump: the target's own defaults must neither refuse nor change what the source has (a table
 * without a key would get one that replication doesn't know), nor end a session that waits while the source is being read. */
const char *my_word_load_session(const struct co_conn *conn)
{
#define LOAD                                                                                                                   \
    "--init-command=SET SESSION sql_log_bin=0, unique_checks=0, foreign_key_checks=0, autocommit=1, wait_timeout=2147483"
    return new_words(conn, 80030)   ? LOAD ", sql_require_primary_key=0, sql_generate_invisible_primary_key=0"
           : new_words(conn, 80013) ? LOAD ", sql_require_primary_key=0"
                                    : LOAD;
}

const char *my_expr_position(const struct co_conn *conn)
{
    /* gtid_executed comes with line breaks */
    return my_is_mysql(conn) ? "REPLACE(@@GLOBAL.gtid_executed,'\\n','')" : "@@GLOBAL.gtid_binlog_pos";
}

const char *my_expr_applied(const struct co_conn *conn)
{
    return my_is_mysql(conn) ? "REPLACE(@@GLOBAL.gtid_executed,'\\n','')" : "@@GLOBAL.gtid_slave_pos";
}

const char *my_expr_started(const struct co_conn *conn)
{
    /* Uptime and UNIX_TIMESTAMP() of one statement come from the same clock reading, so their difference doesn't move
     * by a second between calls. */
    if (!my_is_mysql(conn))
        return "(SELECT UNIX_TIMESTAMP()-VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='UPTIME')";
    return "(SELECT UNIX_TIMESTAMP()-VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME='Uptime')";
}
