/* check_environment.c - what is around the servers: poolers, managed services, cluster managers, machines, the
 * ordinary account's login. */
#include "check.h"

#include <stdio.h>

#include "tablespaces.h"

static const struct pg_question questions[] = {
    {"managed_service", CO_ERROR, PG_AT_ALL, PG_OF_BOTH, 0, 0,
     "SELECT string_agg(rolname, ', ') FROM pg_roles WHERE rolname IN ('rdsadmin', 'rds_superuser', 'cloudsqladmin', "
     "'cloudsqlsuperuser', 'azuresu', 'azure_pg_admin', 'alloydbsuperuser', "
     "'neon_superuser', 'supabase_admin', '_aiven')",
     "this is a managed service (%s): there is no superuser, no pg_hba.conf, no physical replication to outside, so nothing "
     "can be fenced or promoted here",
     "Use the service's own switchover, or logical replication out of it."},
    {"cluster_manager", CO_ERROR, PG_AT_ALL, PG_OF_BOTH, 0, 0,
     "SELECT string_agg(DISTINCT w, ', ') FROM (SELECT CASE WHEN application_name ~* '^patroni' THEN 'Patroni' WHEN "
     "application_name ~* '^repmgr' THEN 'repmgr' WHEN application_name ~* "
     "'^pg_?auto_?(failover|ctl)' THEN 'pg_auto_failover' WHEN application_name ~* '^stolon' THEN 'Stolon' WHEN "
     "application_name ~* '^cnpg' THEN 'CloudNativePG' END AS w FROM pg_stat_activity UNION ALL "
     "SELECT CASE WHEN setting ~ 'repmgr' THEN 'repmgr' WHEN setting ~ 'pgautofailover' THEN 'pg_auto_failover' END FROM "
     "pg_settings WHERE name = 'shared_preload_libraries' UNION ALL "
     "SELECT CASE rolname WHEN 'pgautofailover_replicator' THEN 'pg_auto_failover' WHEN 'streaming_replica' THEN "
     "'CloudNativePG' END FROM pg_roles UNION ALL "
     "SELECT 'Patroni' FROM pg_file_settings WHERE sourcefile ~ 'postgresql.base.conf$') x WHERE w IS NOT NULL",
     "a cluster manager is in charge of this server: %s. It would promote, restart or re-point servers during the run",
     "Pause it (patronictl pause, repmgr service pause, ...) and accept: [cluster_manager]."},
};

static void check_pooler(struct pg_checkup *checkup, struct co_conn *conn, enum co_side side)
{
    if (conn && PQbackendPID(conn->pg) != conn->pid)
        pg_say(
            checkup, (int)side, CO_ERROR, "pooler", "Give the address of the server itself.",
            "the url leads to a pooler or proxy: the server process that answers (%d) is not the one that was announced (%d)",
            conn->pid, PQbackendPID(conn->pg));
}

static void check_machines(struct pg_checkup *checkup)
{
    struct co_call *call = checkup->call;
    bool source = pg_machine_ready(call, checkup->source_side), target = pg_machine_ready(call, checkup->target_side);
    static const char how[] = "Configure host.run, host.data_directory, host.start and host.stop of that side.";
    if (checkup->stage == CO_CHECK_SETUP && !target && !checkup->follows)
        pg_say(checkup, (int)checkup->target_side, CO_ERROR, "host_not_configured", how,
               "setup copies the source to the target's machine, whose `host` is not configured");
    if (pg_mode_stop(call) && !source)
        pg_say(checkup, (int)checkup->source_side, CO_ERROR, "stop_needs_host", how,
               "fence: stop shuts the source down, and its `host` is not configured");
    else if (!source)
        pg_say(checkup, (int)checkup->source_side, CO_WARNING, "reverse_not_configured", how,
               "the source's `host` is not configured: after the cutover the old primary can't be made to follow, so there is "
               "no way back");
}

static bool will_copy(struct pg_checkup *checkup)
{
    struct co_call *call = checkup->call;
    return checkup->stage == CO_CHECK_SETUP && !checkup->follows && checkup->source &&
           call->host->endpoint(call->ctx, checkup->target_side)->has_host &&
           call->host->side_option(call->ctx, checkup->target_side, "host.data_directory");
}

/* Each tablespace's folder on the target: named; empty, writable and large enough, or an error. */
static enum co_result check_tablespaces(struct pg_checkup *checkup)
{
    static const char remedy[] =
        "Make it an empty folder of the server's account there, or name another one: setup: {tablespaces: "
        "[/folder/on/a=/folder/on/b]}.";
    static const char script[] =
        PG_SPACE_USABLE "c=\"$d.changeover-copy\"; usable \"$1\" 2>&1 || exit 1\n"
                        "q=$1; while [ ! -e \"$q\" ]; do q=$(dirname \"$q\"); done; df -Pk \"$q\" | awk "
                        "'NR == 2 {print $4}'\n";
    struct co_call *call = checkup->call;
    if (!will_copy(checkup))
        return CO_DONE;
    PG_SPACES spaces = {0};
    if (pg_spaces_look(call, checkup->source, checkup->target_side, &spaces) != CO_DONE) {
        if (!checkup->source->broken)
            pg_say(checkup, (int)checkup->target_side, CO_ERROR, "tablespace_not_usable", call->err->hint, "%s",
                   call->err->message);
        return checkup->source->broken ? CO_NO_EFFECT : CO_DONE;
    }
    for (size_t i = 0; i < spaces.count; i++) {
        const struct pg_space *space = &spaces.items[i];
        const char *args[] = {space->to}, *out = "";
        int status = 0;
        pg_say(checkup, (int)checkup->source_side, CO_INFO, "tablespaces", "",
               "tablespace %s at %s is copied to %s on the target", space->name, space->from, space->to);
        if (pg_machine(call, checkup->target_side, script, args, 1, NULL, &out, &status) != CO_DONE)
            return CO_DONE; /* host_run_failed says why */
        char line[300];
        pg_one_line(line, sizeof line, out);
        int64_t free_kib = pg_int(line, -1);
        if (status != 0)
            pg_say(checkup, (int)checkup->target_side, CO_ERROR, "tablespace_not_usable", remedy,
                   "tablespace %s can't be copied to the target: %s", space->name, line);
        else if (free_kib >= 0 && free_kib * 1024 < space->bytes + space->bytes / 20)
            pg_say(checkup, (int)checkup->target_side, CO_ERROR, "no_disk_space", "Free some, or use a larger disk.",
                   "the target's machine has %lld MiB free in %s; the source's tablespace %s has %lld MiB",
                   (long long)(free_kib / 1024), space->to, space->name, (long long)(space->bytes >> 20));
    }
    return CO_DONE;
}

/* Free space where the copy goes, and whether the machine's data directory is the server's. */
static enum co_result check_disk(struct pg_checkup *checkup)
{
    struct co_call *call = checkup->call;
    if (!will_copy(checkup))
        return CO_DONE;
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, checkup->source, PG_READ,
                                     "SELECT sum(pg_database_size(oid))::bigint + (SELECT coalesce(sum(size), 0)::bigint FROM "
                                     "pg_ls_waldir()) - (SELECT coalesce(sum(pg_tablespace_size(oid)), 0)::bigint FROM "
                                     "pg_tablespace WHERE pg_tablespace_location(oid) LIKE '/%') FROM pg_database",
                                     0, NULL, &rows);
    if (result != CO_DONE)
        return checkup->source->broken ? result : CO_DONE;
    int64_t need = pg_number(rows, 0, 0, 0);
    const char *out = NULL;
    int status = 0;
    result = pg_machine(
        call, checkup->target_side,
        "p=$(dirname \"$d\"); while [ ! -d \"$p\" ]; do p=$(dirname \"$p\"); done; df -Pk \"$p\" | awk 'NR == 2 {print $4}'; "
        "if [ -w \"$(dirname \"$d\")\" ]; then echo writable; fi; id -un\n",
        NULL, 0, NULL, &out, &status);
    if (result != CO_DONE || status != 0) {
        pg_say(checkup, (int)checkup->target_side, CO_ERROR, "host_run_failed",
               "host.run must run the command that follows it as the account that owns the data directory.",
               "commands can't be run on the target's machine: %s",
               result != CO_DONE ? call->err->message : "the command failed");
        return CO_DONE;
    }
    long long free_kib = -1;
    if (sscanf(out, "%lld", &free_kib) == 1 && free_kib >= 0 && free_kib * 1024 < need + need / 20)
        pg_say(checkup, (int)checkup->target_side, CO_ERROR, "no_disk_space",
               "Free some, or use a larger disk: the copy is made beside the old data directory.",
               "the target's machine has %lld MiB free where the copy goes; the source has %lld MiB", free_kib / 1024,
               (long long)(need >> 20));
    if (!strstr(out, "writable"))
        pg_say(checkup, (int)checkup->target_side, CO_ERROR, "parent_not_writable",
               "Let that account own the parent folder of host.data_directory; it must not be a mount point either.",
               "the account of host.run can't make a folder beside the target's data directory");
    return CO_DONE;
}

/* The closed pg_hba.conf is written by the target's server itself. */
static enum co_result check_hba_writable(struct pg_checkup *checkup)
{
    if (checkup->stage != CO_CHECK_CUTOVER || !checkup->target || !checkup->target->superuser)
        return CO_DONE;
    PG_RESULT rows = NULL;
    enum co_result result =
        pg_query(checkup->call, checkup->target, PG_READ, "SELECT current_setting('hba_file')", 0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    PG_TEXT script = {0};
    pg_text_add(&script, "read -r x; f=$(readlink -f ");
    pg_text_shell(&script, pg_value(rows, 0, 0));
    pg_text_add(&script,
                ") && test -w \"$f\" && test -w \"${f%/*}\" && command -v base64 > /dev/null && command -v sync > /dev/null");
    PG_TEXT sql = {0};
    pg_text_add(&sql, "COPY (SELECT '') TO PROGRAM ");
    pg_text_literal(&sql, pg_text_str(&script));
    result = pg_query(checkup->call, checkup->target, PG_READ, pg_text_str(&sql), 0, NULL, NULL);
    if (result == CO_DONE || checkup->target->broken)
        return result;
    pg_say(checkup, (int)checkup->target_side, CO_ERROR, "hba_not_writable",
           "Let the server's account own pg_hba.conf and its folder; coreutils (base64, sync, readlink) must be installed.",
           "the target's server can't replace its own pg_hba.conf, so it can't be closed: %s", checkup->call->err->message);
    return CO_DONE;
}

/* The application's login, as far as a test account can show it, on the side that clients will go to. */
static enum co_result check_login(struct pg_checkup *checkup)
{
    struct co_call *call = checkup->call;
    const char *user = call->host->secret_user(call->ctx, CO_SECRET_PROBE);
    if (checkup->stage != CO_CHECK_CUTOVER || !user || !*user || !checkup->follows)
        return CO_DONE;
    enum co_side sides[] = {checkup->source_side, checkup->target_side};
    for (int i = 0; i < 2; i++) {
        struct co_call there = *call;
        there.side = sides[i];
        struct pg_login login = {.database = pg_url_database(call, sides[i]),
                                 .user = user,
                                 .password = call->host->secret(call->ctx, sides[i], CO_SECRET_PROBE),
                                 .application_name = "changeover probe"};
        PGconn *pg = NULL;
        if (pg_login(&there, &login, &pg) == CO_DONE)
            PQfinish(pg);
        else
            pg_say(checkup, (int)sides[i], CO_ERROR, "probe_login_refused",
                   "Let pg_hba.conf admit it as it admits applications.", "the ordinary account %s can't log in to %s: %s",
                   user, login.database, call->err->message);
    }
    return CO_DONE;
}

enum co_result pg_check_environment(struct pg_checkup *checkup)
{
    check_pooler(checkup, checkup->source, checkup->source_side);
    check_pooler(checkup, checkup->target, checkup->target_side);
    check_machines(checkup);
    enum co_result result = pg_ask(checkup, questions, sizeof questions / sizeof *questions);
    static enum co_result (*const checks[])(struct pg_checkup *) = {check_disk, check_tablespaces, check_hba_writable,
                                                                    check_login};
    for (size_t i = 0; result == CO_DONE && i < sizeof checks / sizeof *checks; i++)
        result = checks[i](checkup);
    return result;
}
