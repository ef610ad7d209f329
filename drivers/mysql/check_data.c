/* check_data.c - pre-flight: what the databases hold that moves badly, and what runs on them now. */
#include "check.h"

#include <stdio.h>

#define NOT_SYSTEM "('mysql','sys','information_schema','performance_schema','" MY_SCHEMA "')"

/* InnoDB's list of transactions is in the system's time zone, whatever the session's is. */
#define SYSTEM_NOW "CONVERT_TZ(NOW(),@@SESSION.time_zone,'SYSTEM')"

static void check_tables(struct my_check *c)
{
    MY_SETS_AUTO sets = {0};
    bool dump = c->stage == CO_CHECK_SETUP;
    if (!my_check_read(
            c, c->source, "the tables",
            "SELECT COUNT(*), LEFT(GROUP_CONCAT(CONCAT(TABLE_SCHEMA,'.',TABLE_NAME,' (',ENGINE,')')),300) FROM "
            "information_schema.TABLES "
            "WHERE TABLE_TYPE='BASE TABLE' AND ENGINE NOT IN ('InnoDB','ROCKSDB','SEQUENCE') AND TABLE_SCHEMA NOT "
            "IN " NOT_SYSTEM ";"
            "SELECT COUNT(*), LEFT(GROUP_CONCAT(CONCAT(t.TABLE_SCHEMA,'.',t.TABLE_NAME)),300) FROM information_schema.TABLES t "
            "LEFT JOIN information_schema.TABLE_CONSTRAINTS k ON k.TABLE_SCHEMA=t.TABLE_SCHEMA AND k.TABLE_NAME=t.TABLE_NAME "
            "AND "
            "k.CONSTRAINT_TYPE IN ('PRIMARY KEY','UNIQUE') WHERE t.TABLE_TYPE='BASE TABLE' AND k.CONSTRAINT_NAME IS NULL AND "
            "t.TABLE_SCHEMA NOT IN " NOT_SYSTEM,
            &sets))
        return;
    if (my_int(my_value(&sets, 0, 0), 0) > 0)
        my_find(
            c, "non_transactional_tables", dump ? CO_ERROR : CO_WARNING, (int)c->source_side,
            "ALTER TABLE ... ENGINE=InnoDB; or keep clients from writing to them while the copy is made, and accept the "
            "finding.",
            "%s tables aren't transactional: a dump isn't consistent, and a statement that is ended half-way leaves half (%s)",
            my_value(&sets, 0, 0), my_value(&sets, 0, 1));
    if (my_int(my_value(&sets, 1, 0), 0) > 0)
        my_find(c, "tables_without_key", CO_WARNING, (int)c->source_side, "Add a primary key.",
                "%s tables have no primary or unique key: each changed row is searched for through the whole table on the "
                "follower (%s)",
                my_value(&sets, 1, 0), my_value(&sets, 1, 1));
}

static void check_running(struct my_check *c)
{
    MY_SETS_AUTO events = {0};
    MY_SETS_AUTO xa = {0};
    MY_SETS_AUTO old = {0};
    if (my_check_read(c, c->source, "the events",
                      "SELECT COUNT(*), LEFT(GROUP_CONCAT(CONCAT(EVENT_SCHEMA,'.',EVENT_NAME)),300) FROM "
                      "information_schema.EVENTS WHERE STATUS='ENABLED'",
                      &events) &&
        my_int(my_value(&events, 0, 0), 0) > 0)
        my_find(c, "events_move", CO_INFO, (int)c->source_side, "",
                "%s events are disabled on the source and enabled on the target by the cutover (%s)", my_value(&events, 0, 0),
                my_value(&events, 0, 1));
    if (my_check_read(c, c->source, "XA transactions", "XA RECOVER", &xa) && mysql_num_rows(xa.set[0]) > 0)
        my_find(c, "xa_prepared", CO_ERROR, (int)c->source_side, "XA COMMIT or XA ROLLBACK them; XA RECOVER lists them.",
                "%llu XA transactions are prepared: they could be committed after the position was captured",
                (unsigned long long)mysql_num_rows(xa.set[0]));
    if (c->stage == CO_CHECK_CUTOVER &&
        my_check_read(
            c, c->source, "long transactions",
            "SELECT COUNT(*), LEFT(GROUP_CONCAT(CONCAT(p.ID,' ',p.USER,'@',p.HOST,' "
            "',TIMESTAMPDIFF(SECOND,t.trx_started," SYSTEM_NOW "),' s')),300) FROM "
            "information_schema.INNODB_TRX t JOIN information_schema.PROCESSLIST p ON p.ID=t.trx_mysql_thread_id WHERE "
            "p.USER<>'system user' AND t.trx_started<" SYSTEM_NOW "-INTERVAL 5 SECOND",
            &old) &&
        my_int(my_value(&old, 0, 0), 0) > 0)
        my_find(c, "long_transactions", CO_WARNING, (int)c->source_side,
                "Let them finish, or end them, before the cutover: it ends them itself after drain.timeout.",
                "%s transactions have been open for more than 5 s: %s", my_value(&old, 0, 0), my_value(&old, 0, 1));
}

static void check_target_empty(struct my_check *c)
{
    MY_SETS_AUTO sets = {0};
    MY_FOLLOW_AUTO f = {0};
    const char *method = c->call->host->option(c->call->ctx, "setup.method"),
               *replace = c->call->host->option(c->call->ctx, "setup.replace_b");
    if (c->stage != CO_CHECK_SETUP || (method && strcmp(method, "dump") != 0 && strcmp(method, "clone") != 0) ||
        !my_following(c, c->target, &f) || f.present)
        return;
    if (!my_check_read(
            c, c->target, "its databases",
            "SELECT COUNT(*), LEFT(GROUP_CONCAT(SCHEMA_NAME),300) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN "
            "('mysql','sys','information_schema','performance_schema','" MY_SCHEMA "','" MY_PROBE_SCHEMA "')",
            &sets) ||
        my_int(my_value(&sets, 0, 0), 0) == 0)
        return;
    MY_SETS_AUTO copy = {0};
    bool there = false, ours = false;
    if (my_schema_there(c->call, c->target, &there) == CO_DONE && there)
        ours = my_read(c->call, c->target, "SELECT value FROM " MY_SCHEMA ".originals WHERE kind='copy'", &copy) == CO_DONE &&
               my_value(&copy, 0, 0);
    if (ours)
        return; /* a copy of ours, whole or begun */
    bool allowed = replace && strcmp(replace, "true") == 0;
    my_find(c, "target_not_empty", allowed ? CO_WARNING : CO_ERROR, (int)c->target_side,
            allowed ? ""
                    : "Choose an empty server; or set setup.replace_b: true, and these databases are deleted; or setup.method: "
                      "adopt or copied.",
            "the target has %s databases that %s: %s", my_value(&sets, 0, 0),
            allowed ? "setup will delete" : "setup would have to delete", my_value(&sets, 0, 1));
}

void my_check_data(struct my_check *c)
{
    if (c->source) {
        check_tables(c);
        check_running(c);
    }
    if (c->target)
        check_target_empty(c);
}
