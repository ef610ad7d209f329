/* check_surroundings.c - pre-flight: what stands around the servers: managers that act by themselves, managed services, clocks,
 * addresses, programs, disk space. */
#include "check.h"
#include "setup.h"

#include <stdio.h>
#include <stdlib.h>

static void check_managers(struct my_check *c, struct co_conn *conn)
{
    MY_SETS_AUTO sets = {0};
    if (my_check_read(c, conn, "its clients",
                      "SELECT LEFT(GROUP_CONCAT(DISTINCT USER),200) FROM information_schema.PROCESSLIST WHERE USER REGEXP "
                      "'^(orchestrator|orc_|maxscale|mxs|mariadbmon|repman|replication.?manager|proxysql|monitor_proxysql|mha|"
                      "cmon|operator)'",
                      &sets) &&
        my_value(&sets, 0, 0))
        my_find(c, "manager_in_charge", CO_WARNING, (int)conn->side,
                "Pause it (orchestrator: a downtime; MaxScale: passive; operators: their maintenance mode).",
                "somebody who may move primaries by themselves is connected: %s", my_value(&sets, 0, 0));
}

static void check_managed(struct my_check *c, const struct my_sets *vars, enum co_side side)
{
    const char *basedir = my_var(vars, "basedir"), *comment = my_var(vars, "version_comment"),
               *hostname = my_var(vars, "hostname");
    const char *service = basedir && strncmp(basedir, "/rdsdbbin", 9) == 0 ? "Amazon RDS"
                          : my_var(vars, "aurora_version")                 ? "Amazon Aurora"
                          : comment && strstr(comment, "Azure")            ? "Azure Database"
                          : comment && strstr(comment, "Google")           ? "Cloud SQL"
                          : hostname && strstr(hostname, "cloudsql")       ? "Cloud SQL"
                                                                           : NULL;
    if (service)
        my_find(c, "managed_service", CO_ERROR, (int)side,
                "Move it with the service's own means; its SUPER-like rights aren't given to customers.",
                "the server is a managed one (%s): accounts of the service can't be locked and read_only can't be set",
                service);
}

static void check_addresses(struct my_check *c)
{
    for (int side = CO_SIDE_A; side <= CO_SIDE_B; side++) {
        const struct co_endpoint_config *ep = c->call->host->endpoint(c->call->ctx, (enum co_side)side);
        const char *address = ep->peer_address ? ep->peer_address : ep->address;
        if (!address || address[0] == '/')
            my_find(c, "peer_needed", CO_ERROR, side, "Set peer: {address: \"host:port\"} for this side.",
                    "the url is a socket: the other server needs an address to follow this one");
    }
}

static bool read_clock(struct my_check *c, struct co_conn *conn, double *ret_s)
{
    MY_SETS_AUTO sets = {0};
    if (!my_check_read(c, conn, "the clock", "SELECT UNIX_TIMESTAMP(NOW(3))", &sets) || !my_value(&sets, 0, 0))
        return false;
    *ret_s = strtod(my_value(&sets, 0, 0), NULL);
    return true;
}

/* The source's is read before and after the target's, so that an answer that takes long isn't taken for a difference. */
static void check_clocks(struct my_check *c)
{
    double before = 0, t = 0, after = 0;
    if (!c->source || !c->target || !read_clock(c, c->source, &before) || !read_clock(c, c->target, &t) ||
        !read_clock(c, c->source, &after))
        return;
    double apart = t < before ? before - t : t > after ? t - after : 0;
    if (apart > 1.0)
        my_find(c, "clock_difference", CO_WARNING, -1, "Let both machines follow a time server.",
                "the servers' clocks are %.1f s apart: NOW() jumps at the cutover, and events may run twice or not at all",
                apart);
}

static void check_program(struct my_check *c, const char *option, const char *otherwise)
{
    const char *const *argv = c->call->host->argv_option(c->call->ctx, -1, option);
    const char *words[] = {argv && argv[0] ? argv[0] : otherwise, "--version", NULL};
    if (argv && argv[0] && argv[1])
        return; /* a prefix of the user's: its options are their business */
    struct co_command command = {.size = sizeof command, .side = CO_SIDE_LOCAL, .argv = words};
    int status = -1;
    struct co_error err = {0};
    enum co_result r = c->call->host->run(c->call->ctx, &command, c->call->deadline_ns, &status, NULL, NULL, &err);
    if (r != CO_DONE || status != 0)
        my_find(c, "program_missing", CO_ERROR, -1,
                "Install the client programs of the server's version where changeover runs, or name one in the config.",
                "%s can't be run here (%s)", words[0], r == CO_DONE ? "it failed" : err.message);
}

static void check_setup_programs(struct my_check *c)
{
    MY_FOLLOW_AUTO f = {0};
    const char *method = c->call->host->option(c->call->ctx, "setup.method");
    if (c->stage != CO_CHECK_SETUP || !c->target || (method && strcmp(method, "dump") != 0) ||
        !my_following(c, c->target, &f) || f.present)
        return;
    bool mysql = my_is_mysql(c->target);
    const char *limit = my_var(&c->source_vars, "sql_select_limit");
    if (limit && strlen(limit) < 19)
        my_find(c, "sql_select_limit_set", CO_ERROR, (int)c->source_side,
                "SET GLOBAL sql_select_limit=DEFAULT while the copy is made, or use another setup.method.",
                "sql_select_limit is %s on the source: the dump program would stop after so many rows of each table", limit);
    check_program(c, "setup.dump_program", mysql ? "mysqldump" : "mariadb-dump");
    check_program(c, "setup.load_program", mysql ? "mysql" : "mariadb");
}

/* What setup.method: mariabackup runs on the machines of both, and of which series it is. */
static void check_backup_programs(struct my_check *c)
{
    MY_FOLLOW_AUTO f = {0};
    static const char script[] =
        "for p in mariadb-backup mbstream mariadbd; do command -v $p >/dev/null 2>&1 || echo \"missing $p\"; done\n"
        "mariadb-backup --version 2>&1 | sed -n 's/.*server \\([0-9]*\\.[0-9]*\\)\\..*/series \\1/p'\n";
    if (c->stage != CO_CHECK_SETUP || !my_setup_method_is(c->call, "mariabackup") || !c->source || !c->target ||
        !my_following(c, c->target, &f) || f.present)
        return;
    for (int role = 0; role < 2; role++) {
        enum co_side side = role ? c->target_side : c->source_side;
        const struct co_conn *conn = role ? c->target : c->source;
        struct my_machine machine = {.side = side, .script = script, .data = "/"};
        struct co_call call = *c->call;
        struct co_error err = {0};
        const char *out = NULL;
        call.err = &err;
        if (!c->call->host->endpoint(c->call->ctx, side)->has_host)
            continue; /* setup says what is missing in the config */
        if (my_machine_run(&call, &machine, &out) != CO_DONE) {
            my_find(c, "host_unusable", CO_ERROR, (int)side, "Correct `host` of that side (run, defaults_file).",
                    "no command can be run there: %s", err.message);
            continue;
        }
        const char *missing = strstr(out, "missing "), *series = strstr(out, "series ");
        unsigned major = 0, minor = 0;
        if (missing)
            my_find(c, "backup_program_missing", CO_ERROR, (int)side,
                    "Install mariadb-backup (a package of that name) there, or set host.bin_directory.",
                    "%.*s isn't on that machine, which setup.method: mariabackup needs", (int)strcspn(missing + 8, "\n"),
                    missing + 8);
        else if (series && sscanf(series, "series %u.%u", &major, &minor) == 2 &&
                 major * 10000UL + minor * 100 != conn->version / 100 * 100)
            my_find(c, "backup_version_differs", CO_ERROR, (int)side, "Install the server's own version of it there.",
                    "mariadb-backup is of MariaDB %u.%u, the server is %s", major, minor, conn->version_text);
    }
}

/* `df` on the target's machine, where commands can be run. */
static void check_space(struct my_check *c)
{
    const char *folder = my_var(&c->target_vars, "datadir");
    const struct co_endpoint_config *ep = c->call->host->endpoint(c->call->ctx, c->target_side);
    MY_SETS_AUTO size = {0};
    if (c->stage != CO_CHECK_SETUP || !folder || !c->source)
        return;
    if (!my_check_read(
            c, c->source, "its size",
            "SELECT COALESCE(SUM(DATA_LENGTH+INDEX_LENGTH),0) FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT IN "
            "('mysql','sys','information_schema','performance_schema')",
            &size))
        return;
    int64_t needed = my_int(my_value(&size, 0, 0), 0);
    if (!ep->has_host) {
        my_find(c, "space_unknown", CO_INFO, (int)c->target_side, "Look at `df` there; with host.run the tool can do it.",
                "the target needs room for %lld MiB and as much again for binary logs; how much there is can't be seen",
                (long long)(needed >> 20));
        return;
    }
    const char *words[] = {"df", "-Pk", folder, NULL};
    struct co_command command = {.size = sizeof command, .side = c->target_side, .argv = words};
    int status = -1;
    struct co_error err = {0};
    struct co_text *out = c->call->host->text_new(c->call->ctx);
    enum co_result r = c->call->host->run(c->call->ctx, &command, c->call->deadline_ns, &status, out, NULL, &err);
    const char *text = r == CO_DONE && status == 0 && out ? c->call->host->text_get(c->call->ctx, out, NULL) : NULL;
    const char *line = text ? strchr(text, '\n') : NULL;
    long long free_kib = -1;
    if (line && sscanf(line + 1, "%*s %*s %*s %lld", &free_kib) == 1 && free_kib >= 0 && free_kib < (needed >> 10) * 2)
        my_find(c, "space_scarce", CO_ERROR, (int)c->target_side, "Make room, or choose a larger disk.",
                "%s has %lld MiB free; the data take %lld MiB and binary logs may take as much", folder, free_kib >> 10,
                (long long)(needed >> 20));
}

void my_check_surroundings(struct my_check *c)
{
    check_addresses(c);
    if (c->source) {
        check_managers(c, c->source);
        check_managed(c, &c->source_vars, c->source_side);
    }
    if (c->target) {
        check_managers(c, c->target);
        check_managed(c, &c->target_vars, c->target_side);
    }
    check_clocks(c);
    check_setup_programs(c);
    check_backup_programs(c);
    check_space(c);
}
