/* check_pair.c - the target against the source: the same cluster and software, settings that stop a standby, what
 * clients will find there. */
#include "check.h"

#include <stdio.h>

static enum co_result one_value(struct pg_checkup *checkup, struct co_conn *conn, const char *sql, PGresult **ret)
{
    enum co_result result = pg_query(checkup->call, conn, PG_READ, sql, 0, NULL, ret);
    if (result != CO_DONE && !conn->broken) {
        *ret = NULL; /* not allowed to ask: said elsewhere */
        return CO_DONE;
    }
    return result;
}

/* Our own backend on the target seen in the source's list: the two names lead to one server. */
static enum co_result check_same(struct pg_checkup *checkup)
{
    PG_RESULT rows = NULL;
    enum co_result result =
        one_value(checkup, checkup->target,
                  "SELECT pg_backend_pid()::text, (extract(epoch FROM backend_start) * 1000000)::bigint::text FROM "
                  "pg_stat_activity WHERE pid = pg_backend_pid()",
                  &rows);
    if (result != CO_DONE || !rows || PQntuples(rows) == 0)
        return result;
    const char *params[] = {pg_value(rows, 0, 0), pg_value(rows, 0, 1)};
    PG_RESULT found = NULL;
    result = pg_query(checkup->call, checkup->source, PG_READ,
                      "SELECT 1 FROM pg_stat_activity WHERE pid = $1::int AND (extract(epoch FROM backend_start) * "
                      "1000000)::bigint::text = $2",
                      2, params, &found);
    if (result == CO_DONE && PQntuples(found) > 0 && strcmp(checkup->source->lineage, checkup->target->lineage) == 0)
        pg_say(checkup, -1, CO_ERROR, "same_server", "Give b the address of another server.", "a and b are the same server");
    return result;
}

static void check_versions(struct pg_checkup *checkup)
{
    int a = checkup->source->version, b = checkup->target->version;
    if (a / 10000 != b / 10000)
        pg_say(checkup, (int)checkup->target_side, CO_ERROR, "version_differs",
               "Physical replication needs the same major version on both sides.",
               "the source is PostgreSQL %d, the target PostgreSQL %d", a / 10000, b / 10000);
    else if (a != b)
        pg_say(checkup, (int)checkup->target_side, b < a ? CO_WARNING : CO_INFO, "minor_version_differs",
               b < a ? "Update the target first." : "", "the source is PostgreSQL %d.%d, the target %d.%d", a / 10000, a % 100,
               b / 10000, b % 100);
}

static enum co_result check_lineage(struct pg_checkup *checkup)
{
    PG_RESULT rows = NULL;
    enum co_result result =
        one_value(checkup, checkup->target,
                  "SELECT pg_is_in_recovery(), (SELECT count(*) FROM pg_database WHERE datname NOT IN ('template0', "
                  "'template1', 'postgres')), (SELECT count(*) FROM pg_class c "
                  "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r','p','m') AND n.nspname NOT IN "
                  "('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)')",
                  &rows);
    if (result != CO_DONE || !rows)
        return result;
    bool standby = pg_is_true(rows, 0, 0);
    bool data = pg_number(rows, 0, 1, 0) > 0 || pg_number(rows, 0, 2, 0) > 0;
    bool same = strcmp(checkup->source->lineage, checkup->target->lineage) == 0;
    if (checkup->stage == CO_CHECK_CUTOVER) {
        if (!same)
            pg_say(checkup, (int)checkup->target_side, CO_ERROR, "other_cluster", "Run `changeover setup`.",
                   "the target is not a copy of the source: their system identifiers differ");
        else if (!standby)
            pg_say(checkup, (int)checkup->target_side, CO_ERROR, "target_not_standby",
                   "Run `changeover setup` with setup.replace_b to make a new copy.",
                   "the target is a copy of the source but no standby: it was promoted and has a history of its own");
        return CO_DONE;
    }
    const char *replace = checkup->call->host->option(checkup->call->ctx, "setup.replace_b");
    if (!checkup->follows && (data || standby) && !(replace && strcmp(replace, "true") == 0))
        pg_say(checkup, (int)checkup->target_side, CO_ERROR, "target_holds_data",
               "Empty it, or set `setup: {replace_b: true}`: its data directory is then moved aside and kept.",
               standby ? "the target is a standby of another cluster"
                       : "the target holds data of its own (%s databases besides the usual ones, %s tables)",
               pg_value(rows, 0, 1), pg_value(rows, 0, 2));
    return CO_DONE;
}

/* Recovery stops (or the standby doesn't start) when these are lower than the primary's. */
static enum co_result check_limits(struct pg_checkup *checkup)
{
    static const char sql[] = "SELECT name, setting FROM pg_settings WHERE name IN ('max_connections', 'max_worker_processes', "
                              "'max_wal_senders', 'max_prepared_transactions', "
                              "'max_locks_per_transaction') ORDER BY name";
    PG_RESULT a = NULL;
    PG_RESULT b = NULL;
    enum co_result result = one_value(checkup, checkup->source, sql, &a);
    if (result == CO_DONE)
        result = one_value(checkup, checkup->target, sql, &b);
    if (result != CO_DONE || !a || !b)
        return result;
    for (int i = 0; i < PQntuples(a) && i < PQntuples(b); i++) {
        int64_t have = pg_number(b, i, 1, 0), need = pg_number(a, i, 1, 0);
        if (have >= need)
            continue;
        char remedy[160];
        snprintf(remedy, sizeof remedy, "On the target: ALTER SYSTEM SET %s = %lld; then restart it.", pg_value(a, i, 0),
                 (long long)need);
        pg_say(checkup, (int)checkup->target_side, CO_ERROR, "standby_setting_too_low", remedy,
               "%s is %lld on the target and %lld on the source: a standby with less stops or doesn't start", pg_value(a, i, 0),
               (long long)have, (long long)need);
    }
    return CO_DONE;
}

/* What the C library and ICU of each machine say their collations are. */
static enum co_result check_collations(struct pg_checkup *checkup)
{
    static const char sql[] =
        "SELECT coalesce((SELECT string_agg(DISTINCT pg_collation_actual_version(oid), ',') FROM pg_collation WHERE "
        "collprovider = 'c'), ''), "
        "coalesce((SELECT pg_collation_actual_version(oid) FROM pg_collation WHERE collprovider = 'i' AND collname IN "
        "('und-x-icu', 'en-x-icu') ORDER BY collname LIMIT 1), ''), "
        "(SELECT string_agg(DISTINCT datcollate, ', ') FROM pg_database WHERE datcollate NOT IN ('C', 'POSIX', 'C.UTF-8', "
        "'C.utf8'))";
    PG_RESULT a = NULL;
    PG_RESULT b = NULL;
    enum co_result result = one_value(checkup, checkup->source, sql, &a);
    if (result == CO_DONE)
        result = one_value(checkup, checkup->target, sql, &b);
    if (result != CO_DONE || !a || !b)
        return result;
    static const char *const names[] = {"C library", "ICU"};
    for (int i = 0; i < 2; i++) {
        const char *x = pg_value(a, 0, i), *y = pg_value(b, 0, i);
        if (!*x || !*y || strcmp(x, y) == 0)
            continue;
        pg_say(checkup, -1, i == 0 && PQgetisnull(a, 0, 2) ? CO_WARNING : CO_ERROR, "collation_version_differs",
               "Move with logical replication, or REINDEX every index on text after the cutover and then accept: "
               "[collation_version_differs].",
               "the %s sorts differently on the two machines (%s on the source, %s on the target): indexes on text would be "
               "silently wrong",
               names[i], x, y);
    }
    return CO_DONE;
}

static const struct {
    const char *code, *sql, *message, *remedy;
    enum co_severity severity;
    bool needs_standby;
} sets[] = {
    /* each yields one column of names; what the source has and the target lacks is the finding */
    {"preload_missing",
     "SELECT btrim(x) FROM unnest(string_to_array(current_setting('shared_preload_libraries'), ',')) x WHERE btrim(x) <> ''",
     "libraries that the source preloads are not preloaded on the target: %s",
     "Set shared_preload_libraries there as on the source, and restart it.", CO_ERROR, false},
    {"hba_differs",
     "SELECT type || ' ' || array_to_string(database, ',') || ' ' || array_to_string(user_name, ',') || coalesce(' ' || "
     "address, '') || coalesce('/' || netmask, '') || ' ' || auth_method "
     "FROM pg_hba_file_rules WHERE database <> '{replication}'",
     "pg_hba.conf of the target lacks rules that the source has, so clients may be refused there: %s",
     "Copy what clients need into the target's pg_hba.conf, and reload.", CO_WARNING, false},
};

static enum co_result check_sets(struct pg_checkup *checkup)
{
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        PG_RESULT a = NULL;
        PG_RESULT b = NULL;
        enum co_result result = one_value(checkup, checkup->source, sets[i].sql, &a);
        if (result == CO_DONE)
            result = one_value(checkup, checkup->target, sets[i].sql, &b);
        if (result != CO_DONE)
            return result;
        PG_TEXT missing = {0};
        for (int x = 0; a && b && x < PQntuples(a); x++) {
            bool found = false;
            for (int y = 0; !found && y < PQntuples(b); y++)
                found = strcmp(pg_value(a, x, 0), pg_value(b, y, 0)) == 0;
            if (!found && missing.used < 300)
                pg_text_addf(&missing, "%s%s", missing.used ? "; " : "", pg_value(a, x, 0));
        }
        if (!missing.used)
            continue;
        PG_TEXT text = {0};
        const char *hole = strstr(sets[i].message, "%s");
        pg_text_bytes(&text, sets[i].message, (size_t)(hole - sets[i].message));
        pg_text_add(&text, pg_text_str(&missing));
        pg_say(checkup, (int)checkup->target_side, sets[i].severity, sets[i].code, sets[i].remedy, "%s", pg_text_str(&text));
    }
    return CO_DONE;
}

/* One database of the source: its extensions against the files on the target's machine, and what a promotion empties. */
static enum co_result check_database(struct pg_checkup *checkup, struct co_conn *conn, const PGresult *have, const char *name)
{
    PG_RESULT used = NULL;
    enum co_result result = one_value(checkup, conn, "SELECT extname FROM pg_extension", &used);
    for (int e = 0; result == CO_DONE && used && e < PQntuples(used); e++) {
        bool found = !have;
        for (int h = 0; !found && h < PQntuples(have); h++)
            found = strcmp(pg_value(used, e, 0), pg_value(have, h, 0)) == 0;
        if (!found)
            pg_say(checkup, (int)checkup->target_side, CO_ERROR, "extension_missing",
                   "Install its package on the target's machine.",
                   "extension %s, used in database %s, has no files on the target: its functions would fail there",
                   pg_value(used, e, 0), name);
    }
    PG_RESULT unlogged = NULL;
    if (result == CO_DONE && checkup->stage == CO_CHECK_CUTOVER)
        result = one_value(checkup, conn,
                           "SELECT string_agg(oid::regclass::text, ', '), count(*) FROM (SELECT oid FROM pg_class WHERE "
                           "relpersistence = 'u' AND relkind = 'r' ORDER BY oid LIMIT 10) t",
                           &unlogged);
    if (result == CO_DONE && unlogged && pg_number(unlogged, 0, 1, 0) > 0)
        pg_say(checkup, (int)checkup->source_side, CO_WARNING, "unlogged_tables",
               "ALTER TABLE ... SET LOGGED for what matters.", "unlogged tables are empty after a promotion: %s in database %s",
               pg_value(unlogged, 0, 0), name);
    return result;
}

static enum co_result check_databases(struct pg_checkup *checkup)
{
    PG_RESULT have = NULL;
    enum co_result result = one_value(checkup, checkup->target, "SELECT name FROM pg_available_extensions", &have);
    if (result != CO_DONE || checkup->call->side != checkup->source_side)
        return result;
    PG_RESULT databases = NULL;
    result = one_value(checkup, checkup->source,
                       "SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2 AND datname NOT IN "
                       "('template1', '" PG_DATABASE "') ORDER BY datname LIMIT 40",
                       &databases);
    for (int d = 0; result == CO_DONE && databases && d < PQntuples(databases); d++) {
        struct co_conn *conn = NULL;
        if (pg_connect_to(checkup->call, pg_value(databases, d, 0), &conn) != CO_DONE)
            continue;
        check_database(checkup, conn, have, pg_value(databases, d, 0)); /* a connection that breaks here is this one alone */
        pg_disconnect(conn);
    }
    return result;
}

/* A server that archives and moves to one that doesn't has no point-in-time recovery from then on. */
static enum co_result check_archive(struct pg_checkup *checkup)
{
    static const char sql[] = "SELECT current_setting('archive_mode') <> 'off'";
    PG_RESULT a = NULL;
    PG_RESULT b = NULL;
    enum co_result result = one_value(checkup, checkup->source, sql, &a);
    if (result == CO_DONE)
        result = one_value(checkup, checkup->target, sql, &b);
    if (result == CO_DONE && a && b && pg_is_true(a, 0, 0) && !pg_is_true(b, 0, 0))
        pg_say(checkup, (int)checkup->target_side, CO_WARNING, "archive_differs",
               "On the target: ALTER SYSTEM SET archive_mode = on, with an archive_command of its own; then restart it.",
               "the source archives its log and the target would not: there is no point-in-time recovery from the cutover on");
    return result;
}

static enum co_result check_clocks(struct pg_checkup *checkup)
{
    PG_RESULT a = NULL;
    PG_RESULT b = NULL;
    static const char sql[] = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    enum co_result result = one_value(checkup, checkup->source, sql, &a);
    if (result == CO_DONE)
        result = one_value(checkup, checkup->target, sql, &b);
    if (result != CO_DONE || !a || !b)
        return result;
    int64_t apart = pg_number(b, 0, 0, 0) - pg_number(a, 0, 0, 0);
    if (apart > 2000 || apart < -2000)
        pg_say(checkup, -1, CO_WARNING, "clocks_differ", "Synchronise them (NTP): now() would jump for clients.",
               "the clocks of the two servers are %lld ms apart", (long long)apart);
    return CO_DONE;
}

/* A soft cutover's way back streams from the target: its pg_hba.conf must let the old primary in. */
static enum co_result check_way_back(struct pg_checkup *checkup)
{
    const char *user = checkup->call->host->secret_user(checkup->call->ctx, CO_SECRET_REPLICATION);
    const char *params[] = {user && *user ? user : checkup->target->user};
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(checkup->call, checkup->target, PG_READ,
                                     "SELECT 1 FROM pg_hba_file_rules WHERE 'replication' = ANY (database) AND ('all' = ANY "
                                     "(user_name) OR $1 = ANY (user_name)) AND auth_method <> 'reject'",
                                     1, params, &rows);
    if (result != CO_DONE)
        return checkup->target->broken ? result : CO_DONE;
    if (PQntuples(rows) == 0)
        pg_say(
            checkup, (int)checkup->target_side, CO_WARNING, "no_replication_rule",
            "Add `host replication <user> <address of the old primary> scram-sha-256` to the target's pg_hba.conf.",
            "pg_hba.conf of the target lets nobody replicate from it: the old primary could not follow it after the cutover");
    return CO_DONE;
}

enum co_result pg_check_pair(struct pg_checkup *checkup)
{
    if (!checkup->source || !checkup->target)
        return CO_DONE;
    check_versions(checkup);
    static enum co_result (*const checks[])(struct pg_checkup *) = {check_same,       check_lineage, check_limits,
                                                                    check_collations, check_sets,    check_databases,
                                                                    check_archive,    check_clocks,  check_way_back};
    enum co_result result = CO_DONE;
    for (size_t i = 0; result == CO_DONE && i < sizeof checks / sizeof *checks; i++)
        result = checks[i](checkup);
    return result;
}
