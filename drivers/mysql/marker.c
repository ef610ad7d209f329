/* marker.c - our schema on each server, and the run's marker in it.
 *
 * Invariant: all of it is written with sql_log_bin=0, so neither side's marker ever reaches the other, and an initial copy
 * leaves the schema out. The row with id 1 is always there once the schema is; an empty token means that no run is under way.
 *
 * MySQL's super_read_only refuses even ours: it is turned off for the length of one packet and on again in the same packet,
 * read_only stays on all the while.
 */
#include "my.h"

#include <stdlib.h>

static const char schema_sql[] = "CREATE DATABASE IF NOT EXISTS " MY_SCHEMA " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;"
                                 "CREATE TABLE IF NOT EXISTS " MY_SCHEMA
                                 ".marker (id INT NOT NULL PRIMARY KEY, token VARCHAR(120) NOT NULL, info MEDIUMTEXT NOT NULL)"
                                 " ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;"
                                 "CREATE TABLE IF NOT EXISTS " MY_SCHEMA
                                 ".originals (kind VARCHAR(16) NOT NULL, a VARCHAR(128) NOT NULL, b VARCHAR(255) NOT NULL,"
                                 " value TEXT NOT NULL, run VARCHAR(48) NOT NULL DEFAULT '', PRIMARY KEY (kind,a,b)) "
                                 "ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;"
                                 "INSERT IGNORE INTO " MY_SCHEMA ".marker VALUES (1,'','');";

/* super_read_only on: wraps `sql`. */
static enum co_result super_read_only(struct co_call *call, struct co_conn *conn, bool *ret)
{
    *ret = false;
    if (!my_is_mysql(conn))
        return CO_DONE;
    MY_SETS_AUTO sets = {0};
    enum co_result r = my_read(call, conn, "SELECT @@GLOBAL.super_read_only", &sets);
    if (r == CO_DONE)
        *ret = my_truth(my_value(&sets, 0, 0));
    return r;
}

enum co_result my_write(struct co_call *call, struct co_conn *conn, bool guarded, const char *sql, struct my_sets *ret_or_null)
{
    bool wrap = false;
    enum co_result r = super_read_only(call, conn, &wrap);
    if (r != CO_DONE)
        return r;
    if (!wrap)
        return guarded ? my_change(call, conn, sql, ret_or_null) : my_exec(call, conn, sql, ret_or_null);
    MY_STR_AUTO packet = {0};
    my_str_add(&packet, "SET GLOBAL super_read_only=0;");
    my_str_add(&packet, sql);
    my_str_add(&packet, "SET GLOBAL super_read_only=1;");
    if (packet.overflow)
        return my_out_of_memory(call);
    r = guarded ? my_change(call, conn, my_cstr(&packet), ret_or_null) : my_exec(call, conn, my_cstr(&packet), ret_or_null);
    if (r != CO_DONE && !conn->dead) {
        struct co_error saved = *call->err;
        MY_SETS_AUTO again = {0};
        my_exec(call, conn, "SET GLOBAL super_read_only=1", &again);
        *call->err = saved;
    }
    return r;
}

enum co_result my_schema_there(struct co_call *call, struct co_conn *conn, bool *ret)
{
    MY_SETS_AUTO sets = {0};
    enum co_result r = my_read(call, conn,
                               "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA='" MY_SCHEMA
                               "' AND TABLE_NAME IN ('marker','originals')",
                               &sets);
    if (r == CO_DONE)
        *ret = my_int(my_value(&sets, 0, 0), 0) == 2;
    return r;
}

enum co_result my_schema_make(struct co_call *call, struct co_conn *conn)
{
    bool there = false;
    enum co_result r = my_schema_there(call, conn, &there);
    if (r != CO_DONE)
        return r;
    if (!there)
        r = my_write(call, conn, false, schema_sql, NULL);
    if (r != CO_DONE)
        return r;
    /* what copies share: made once for the pair, put on both sides */
    const char *lineage = call->host->note_get(call->ctx, CO_NOTE_PAIR, CO_SIDE_A, "lineage");
    MY_SETS_AUTO sets = {0};
    r = my_read(call, conn, "SELECT UUID(), (SELECT value FROM " MY_SCHEMA ".originals WHERE kind='lineage' AND a='' AND b='')",
                &sets);
    if (r != CO_DONE || (lineage && my_value(&sets, 0, 1) && strcmp(lineage, my_value(&sets, 0, 1)) == 0))
        return r;
    MY_STR_AUTO value = {0};
    my_str_add(&value, lineage ? lineage : my_value(&sets, 0, 1) ? my_value(&sets, 0, 1) : my_value(&sets, 0, 0));
    if (!lineage && call->host->note_put(call->ctx, CO_NOTE_PAIR, CO_SIDE_A, "lineage", my_cstr(&value)) != 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_IO, "", "can't keep a note of the pair's lineage");
    if (my_value(&sets, 0, 1) && strcmp(my_value(&sets, 0, 1), my_cstr(&value)) == 0)
        return CO_DONE;
    MY_STR_AUTO sql = {0};
    my_str_add(&sql, "REPLACE INTO " MY_SCHEMA ".originals (kind,a,b,value) VALUES ('lineage','','',");
    my_str_quote(&sql, my_cstr(&value));
    my_str_add(&sql, ");");
    return my_write(call, conn, false, my_cstr(&sql), NULL);
}

enum co_result my_marker_get(struct co_call *call, struct co_text *ret_token, struct co_text *ret_info)
{
    MY_SETS_AUTO sets = {0};
    call->host->text_set(call->ctx, ret_token, "", 0);
    call->host->text_set(call->ctx, ret_info, "", 0);
    enum co_result r = my_read(call, call->conn, "SELECT token, info FROM " MY_SCHEMA ".marker WHERE id=1", &sets);
    if (r != CO_DONE)
        return sets.error == 1146 || sets.error == 1049 ? CO_DONE : r; /* no such table, no such database */
    const char *token = my_value(&sets, 0, 0), *info = my_value(&sets, 0, 1);
    if (token)
        call->host->text_set(call->ctx, ret_token, token, strlen(token));
    if (info)
        call->host->text_set(call->ctx, ret_info, info, strlen(info));
    return CO_DONE;
}

/* A process that froze inside a change holds the lock. Its token is about to be taken away, so its session may end. */
static enum co_result end_holder(struct co_call *call, const char *expected)
{
    MY_SETS_AUTO sets = {0};
    enum co_result r = my_read(call, call->conn,
                               "SELECT IS_USED_LOCK('changeover.marker'), token FROM " MY_SCHEMA ".marker WHERE id=1", &sets);
    if (r != CO_DONE)
        return r;
    const char *holder = my_value(&sets, 0, 0), *token = my_value(&sets, 0, 1);
    if (!holder)
        return CO_AGAIN;
    if (!token || strcmp(token, expected ? expected : "") != 0)
        return my_fail(call, CO_NO_EFFECT, CO_E_CONFLICT, "Look at `changeover status`: another run is at work.",
                       "the marker is '%s', not '%s'", token ? token : "", expected ? expected : "");
    MY_STR_AUTO sql = {0};
    my_str_addf(&sql, "KILL %s", holder);
    MY_SETS_AUTO killed = {0};
    r = my_exec(call, call->conn, my_cstr(&sql), &killed);
    return r == CO_DONE || killed.error == 1094 ? CO_AGAIN : r;
}

enum co_result my_marker_set(struct co_call *call, const char *expected, const char *token, const char *info)
{
    enum co_result r = my_schema_make(call, call->conn);
    if (r != CO_DONE)
        return r;
    MY_STR_AUTO sql = {0};
    my_str_add(&sql, "SELECT EXP(IF(GET_LOCK('changeover.marker',1)=1,0,1e6));SET @co_ok=(SELECT token FROM " MY_SCHEMA
                     ".marker WHERE id=1)=");
    my_str_quote(&sql, expected ? expected : "");
    my_str_add(&sql, ";UPDATE " MY_SCHEMA ".marker SET token=");
    my_str_quote(&sql, token ? token : "");
    my_str_add(&sql, ",info=");
    my_str_quote(&sql, token && info ? info : "");
    my_str_add(&sql, " WHERE id=1 AND @co_ok;SELECT @co_ok, token FROM " MY_SCHEMA
                     ".marker WHERE id=1;DO RELEASE_LOCK('changeover.marker');");
    if (sql.overflow)
        return my_out_of_memory(call);
    MY_SETS_AUTO sets = {0};
    r = my_write(call, call->conn, false, my_cstr(&sql), &sets);
    if (r != CO_DONE) {
        if (sets.error == 1690)
            return end_holder(call, expected);
        if (!call->conn->dead) {
            struct co_error saved = *call->err;
            MY_SETS_AUTO release = {0};
            my_read(call, call->conn, "DO RELEASE_LOCK('changeover.marker')", &release);
            *call->err = saved;
        }
        return r;
    }
    if (my_truth(my_value(&sets, 1, 0)))
        return CO_DONE;
    const char *present = my_value(&sets, 1, 1);
    return my_fail(call, CO_NO_EFFECT, CO_E_CONFLICT,
                   "Another run holds this server: `changeover status` names it; on its own machine `changeover resume` or "
                   "`abort` ends it.",
                   "the marker on this server is '%s', not '%s'", present ? present : "", expected ? expected : "");
}
