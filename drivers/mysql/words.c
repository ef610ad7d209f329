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
