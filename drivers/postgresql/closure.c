/* closure.c - the target is closed, and opened: by a pg_hba.conf of its own.
 *
 * The closed file lets in the tool's account to the tool's database, and the target's own followers; it is in force
 * when a connection made after the write was let in by a server that loaded it since. Replication doesn't carry it, so
 * lifting the source's fence can't open the target, and a restart keeps it. The rules for the tool's account are those
 * of the original, narrowed to one database and one user, in their order.
 *
 * The original is kept beside it under the run's name and put back by rename. Opening on the target also accepts
 * connections to the databases that the source's fence (replicated) shut. While the closure stands, archive_command
 * fails, so that a promotion that is undone leaves no history file in the archive. */
#include "pg.h"

#include <stdio.h>

/* ---------------------------------------------------------------- the closed file */

static void add_word(struct pg_text *text, const char *word)
{
    pg_text_add(text, " ");
    pg_text_ident(text, word); /* pg_hba.conf quotes as SQL identifiers do */
}

static const char rules_sql[] = "SELECT type, database = '{replication}', 'replication' = ANY (database), "
                                "EXISTS (SELECT 1 FROM unnest(user_name) u WHERE u = 'all' OR u = session_user OR (auth_method "
                                "<> 'reject' AND left(u, 1) IN ('+', '/'))), "
                                "address, netmask, auth_method, error, line_number, options, user_name, "
                                "EXISTS (SELECT 1 FROM unnest(user_name) u WHERE left(u, 1) NOT IN ('+', '/')) "
                                "FROM pg_catalog.pg_hba_file_rules ORDER BY %s";

/* "{a,b}" of a text[]: its elements are asked for one by one, so that no array syntax is parsed here. */
static enum co_result elements(struct co_call *call, const char *column, int row, PGresult **ret)
{
    return pg_queryf(call, call->conn, PG_READ, ret,
                     "SELECT e FROM (SELECT %s AS l, row_number() OVER (ORDER BY %s) AS n FROM pg_catalog.pg_hba_file_rules) "
                     "r, unnest(r.l) e "
                     "WHERE r.n = %d + 1",
                     column, call->conn->version >= 160000 ? "rule_number" : "line_number", row);
}

static void add_rule(struct pg_text *file, const PGresult *rules, int row, const char *database, const char *user,
                     const PGresult *options)
{
    pg_text_add(file, pg_value(rules, row, 0));
    pg_text_addf(file, " %s", database);
    if (strcmp(user, "all") == 0)
        pg_text_add(file, " all");
    else
        add_word(file, user);
    if (!PQgetisnull(rules, row, 4)) {
        const char *address = pg_value(rules, row, 4);
        bool keyword = strcmp(address, "all") == 0 || strcmp(address, "samehost") == 0 || strcmp(address, "samenet") == 0;
        if (keyword)
            pg_text_addf(file, " %s", address);
        else
            add_word(file, address);
        if (!PQgetisnull(rules, row, 5))
            pg_text_addf(file, " %s", pg_value(rules, row, 5));
    }
    pg_text_addf(file, " %s", pg_value(rules, row, 6));
    for (int i = 0; options && i < PQntuples(options); i++)
        add_word(file, pg_value(options, i, 0));
    pg_text_add(file, "\n");
}

static enum co_result add_rules(struct co_call *call, const PGresult *rules, struct pg_text *file, int *ret_ours)
{
    for (int i = 0; i < PQntuples(rules); i++) {
        if (!PQgetisnull(rules, i, 7))
            return pg_fail(call, CO_NO_EFFECT, CO_E_CONFIG, "Correct pg_hba.conf on that server.",
                           "pg_hba.conf of the target, line %s: %s", pg_value(rules, i, 8), pg_value(rules, i, 7));
        PG_RESULT options = NULL;
        if (!PQgetisnull(rules, i, 9)) {
            enum co_result result = elements(call, "options", i, &options);
            if (result != CO_DONE)
                return result;
        }
        if (pg_is_true(rules, i, 2)) {
            PG_RESULT users = NULL;
            enum co_result result = elements(call, "user_name", i, &users);
            if (result != CO_DONE)
                return result;
            for (int u = 0; u < PQntuples(users); u++)
                add_rule(file, rules, i, "replication", pg_value(users, u, 0), options);
        }
        if (!pg_is_true(rules, i, 1) && pg_is_true(rules, i, 3)) {
            add_rule(file, rules, i, PG_DATABASE, call->conn->user, options);
            ++*ret_ours;
        }
    }
    return CO_DONE;
}

static enum co_result closed_file(struct co_call *call, struct pg_text *file)
{
    PG_RESULT rules = NULL;
    enum co_result result =
        pg_queryf(call, call->conn, PG_READ, &rules, rules_sql, call->conn->version >= 160000 ? "rule_number" : "line_number");
    if (result != CO_DONE)
        return result;
    pg_text_addf(file, "%s%s ; the original is beside this file under the run's name.\n", PG_CLOSED_HEAD, pg_run_id(call));
    pg_text_add(file, "# `changeover resume` or `changeover abort` opens the server again; a reload or a restart does not.\n");
    int ours = 0;
    result = add_rules(call, rules, file, &ours);
    if (result != CO_DONE)
        return result;
    if (ours == 0)
        return pg_fail(call, CO_NO_EFFECT, CO_E_CONFIG, "Add a line for the tool's account to pg_hba.conf of the target.",
                       "pg_hba.conf of the target has no rule that lets %s in", call->conn->user);
    return file->failed ? pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory") : CO_DONE;
}

/* ---------------------------------------------------------------- writing it */

/* Run by the server's shell with one line on standard input. $f: the file itself behind any symbolic link. */
static enum co_result find_file(struct co_call *call, struct pg_text *script)
{
    PG_RESULT rows = NULL;
    enum co_result result =
        pg_query(call, call->conn, PG_READ, "SELECT pg_catalog.current_setting('hba_file')", 0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    PG_TEXT name = {0};
    pg_text_shell(&name, pg_value(rows, 0, 0));
    pg_text_addf(script, "IFS= read -r x; f=$(readlink -f %s) || exit 90; IFS= read -r head < \"$f\"; ", pg_text_str(&name));
    return CO_DONE;
}

static enum co_result run_script(struct co_call *call, const char *before, const char *input, const char *script,
                                 const char *after)
{
    PG_TEXT sql = {0};
    pg_text_addf(&sql, "%sCOPY (SELECT ", before);
    pg_text_literal(&sql, input);
    pg_text_add(&sql, ") TO PROGRAM ");
    pg_text_literal(&sql, script);
    pg_text_add(&sql, after);
    if (sql.failed)
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    enum co_result result = pg_guarded(call, call->conn, pg_text_str(&sql), NULL);
    if (result == CO_NO_EFFECT && call->err->code == CO_E_COMMAND) {
        if (strstr(call->err->message, "exit code 91")) {
            call->err->code = CO_E_CONFLICT;
            snprintf(call->err->message, sizeof call->err->message, "pg_hba.conf is the closed one of another run");
            return CO_NO_EFFECT;
        }
        snprintf(call->err->hint, sizeof call->err->hint,
                 "The account of the server must be able to write pg_hba.conf and its folder.");
        return CO_EFFECT_UNKNOWN;
    }
    return result;
}

static enum co_result write_closed(struct co_call *call)
{
    PG_TEXT file = {0};
    enum co_result result = closed_file(call, &file);
    if (result != CO_DONE)
        return result;
    PG_TEXT script = {0};
    result = find_file(call, &script);
    if (result != CO_DONE)
        return result;
    const char *run = pg_run_id(call);
    pg_text_addf(&script,
                 "case \"$head\" in '" PG_CLOSED_HEAD "%s '*) exit 0;; '" PG_CLOSED_HEAD "'*) exit 91;; esac; "
                 "cp -p \"$f\" \"$f.changeover-%s\" && cp -p \"$f\" \"$f.changeover-new\" && printf %%s \"$x\" | base64 -d > "
                 "\"$f.changeover-new\" && "
                 "sync \"$f.changeover-%s\" \"$f.changeover-new\" && mv -f \"$f.changeover-new\" \"$f\" && sync \"${f%%/*}\"",
                 run, run, run);
    PG_TEXT code = {0};
    pg_text_base64(&code, pg_text_str(&file), file.used);
    return run_script(call, "", pg_text_str(&code), pg_text_str(&script), "");
}

/* The file is in force when a server process that was started after the write has loaded it. */
static enum co_result loaded_since(struct co_call *call, const char *moment, bool *ret)
{
    struct co_conn *probe = NULL;
    enum co_result result = pg_connect_to(call, PG_DATABASE, &probe);
    if (result != CO_DONE)
        return result;
    const char *params[] = {moment};
    PG_RESULT rows = NULL;
    result = pg_query(call, probe, PG_READ, "SELECT pg_catalog.pg_conf_load_time() > $1::timestamptz", 1, params, &rows);
    if (result == CO_DONE)
        *ret = pg_is_true(rows, 0, 0);
    pg_disconnect(probe);
    return result;
}

/* Whether pg_hba.conf lets our account into the clients' database again, which the closed one doesn't: a login without
 * a password, ended when the server asks for one (that is after it looked into pg_hba.conf). Cheaper than a session. */
static enum co_result let_in(struct co_call *call, bool *ret)
{
    struct pg_login login = {
        .database = pg_url_database(call, call->side),
        .user = call->conn->user,
        .passfile = "/nonexistent", /* a file that is no plain one would be complained about */
        .application_name = "changeover",
        .address = call->conn->address,
    };
    PGconn *pg = NULL;
    enum co_result result = pg_login(call, &login, &pg);
    *ret = result == CO_DONE || call->err->code == CO_E_AUTH;
    if (result == CO_DONE)
        PQfinish(pg);
    else if (*ret)
        *ret = !pg_state_is(call->err, "28000"); /* else it is still the closed one, or never let us in */
    return result == CO_DONE || call->err->code == CO_E_AUTH ? CO_DONE : result;
}

static enum co_result reload(struct co_call *call)
{
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, call->conn, PG_READ,
                                     "SELECT pg_catalog.clock_timestamp()::text, pg_catalog.pg_reload_conf()", 0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    for (;;) {
        bool loaded = false;
        result = loaded_since(call, pg_value(rows, 0, 0), &loaded);
        if (result != CO_DONE || loaded)
            return result;
        if (call->deadline_ns - call->host->now_ns(call->ctx) < 20 * PG_MS)
            return CO_AGAIN;
        if (!pg_pause(call, call->conn, 2))
            return pg_fail(call, CO_NO_EFFECT, CO_E_INTERRUPTED, "", "interrupted while the server loads pg_hba.conf");
    }
}

/* ---------------------------------------------------------------- warm_up.close */

static enum co_result close_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret,
                         "pg_hba.conf <- rules for the tool's account to database " PG_DATABASE
                         " and for replication only (original kept beside it)\n"
                         "SELECT pg_reload_conf()\nSELECT pg_terminate_backend(pid) <of every other session>\n");
    return CO_DONE;
}

static enum co_result close_probe(struct co_call *call, enum co_presence *ret)
{
    enum pg_closure closure;
    PG_TEXT run = {0};
    enum co_result result = pg_closure_look(call, call->conn, &closure, &run);
    if (result != CO_DONE)
        return result;
    *ret = closure == PG_OPEN ? CO_ABSENT : CO_PARTIAL;
    if (closure != PG_CLOSED || !pg_same(pg_text_str(&run), pg_run_id(call)))
        return CO_DONE;
    PG_TEXT foreign = {0};
    pg_writers_sql(&foreign, call, call->conn);
    PG_RESULT rows = NULL;
    /* Seconds are what the file system shows; the reload that follows the write is never in an earlier one. */
    result = pg_queryf(call, call->conn, PG_READ, &rows,
                       "SELECT (SELECT count(*) FROM %s f), pg_catalog.pg_conf_load_time() >= "
                       "(pg_catalog.pg_stat_file(pg_catalog.current_setting('hba_file'))).change",
                       pg_text_str(&foreign));
    if (result == CO_DONE && pg_number(rows, 0, 0, 1) == 0 && pg_is_true(rows, 0, 1))
        *ret = CO_PRESENT;
    return result;
}

static enum co_result close_apply(struct co_call *call)
{
    free(call->conn->starting);
    call->conn->starting = NULL;
    enum co_result result = write_closed(call);
    if (result == CO_DONE)
        result = reload(call);
    if (result == CO_DONE)
        result = pg_end_foreign(call);
    return result;
}

static enum co_result restore_script(struct co_call *call, struct pg_text *script)
{
    enum co_result result = find_file(call, script);
    /* A file that isn't closed was put there by somebody else since: theirs stays. */
    pg_text_addf(script,
                 "case \"$head\" in '" PG_CLOSED_HEAD
                 "'*) ;; *) exit 0;; esac; b=\"$f.changeover-%s\"; [ -f \"$b\" ] || exit 92; exec mv -f \"$b\" \"$f\"",
                 pg_run_id(call));
    return result;
}

static enum co_result close_revert(struct co_call *call)
{
    enum pg_closure closure;
    enum co_result result = pg_closure_look(call, call->conn, &closure, NULL);
    if (result != CO_DONE || closure == PG_OPEN)
        return result;
    PG_RESULT rows = NULL;
    result = pg_query(call, call->conn, PG_READ, "SELECT pg_catalog.pg_is_in_recovery()", 0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    if (!pg_is_true(rows, 0, 0))
        return pg_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "Run `changeover setup` to make it follow again.",
                       "the server was promoted in a run that was undone; it stays closed");
    result = pg_cancel_promotion(call);
    if (result != CO_DONE)
        return result;
    PG_TEXT script = {0};
    result = restore_script(call, &script);
    if (result != CO_DONE)
        return result;
    result =
        run_script(call,
                   "DO $co$ BEGIN IF NOT pg_catalog.pg_is_in_recovery() THEN RAISE EXCEPTION USING ERRCODE = '" PG_STATE_REFUSE
                   "', MESSAGE = 'the server was promoted in a run that was undone; it stays closed until it is set up again'; "
                   "END IF; END $co$; ",
                   "", pg_text_str(&script), "");
    return result == CO_DONE ? reload(call) : result;
}

const struct co_step pg_step_close = {
    .size = sizeof(struct co_step),
    .name = "warm_up.close",
    .title = "close the target: let nobody in but the tool, and end all sessions",
    .phase = CO_PHASE_WARM_UP,
    .role = CO_TARGET,
    .describe = close_describe,
    .probe = close_probe,
    .apply = close_apply,
    .revert = close_revert,
};

/* ---------------------------------------------------------------- open */

static enum co_result open_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret,
                         "pg_hba.conf <- the original\nSELECT pg_reload_conf()\n"
                         "ALTER DATABASE <each that the fence shut> ALLOW_CONNECTIONS true\n");
    return CO_DONE;
}

static enum co_result open_probe(struct co_call *call, enum co_presence *ret)
{
    enum pg_closure closure;
    enum co_result result = pg_closure_look(call, call->conn, &closure, NULL);
    if (result != CO_DONE)
        return result;
    PG_RESULT rows = NULL;
    result = pg_query(call, call->conn, PG_READ,
                      "SELECT pg_catalog.pg_is_in_recovery(), EXISTS (SELECT 1 FROM changeover.fence)", 0, NULL, &rows);
    if (result != CO_DONE)
        return result;
    bool shut = pg_is_true(rows, 0, 0) || pg_is_true(rows, 0, 1);
    *ret = closure == PG_OPEN ? (shut ? CO_PARTIAL : CO_PRESENT) : shut ? CO_ABSENT : CO_PARTIAL;
    return CO_DONE;
}

static enum co_result open_apply(struct co_call *call)
{
    PG_TEXT script = {0};
    enum co_result result = restore_script(call, &script);
    if (result != CO_DONE)
        return result;
    PG_TEXT after = {0};
    pg_text_addf(&after, "; SELECT pg_catalog.pg_reload_conf(); %s", pg_fence_lift_sql);
    int64_t begun_ns = call->host->now_ns(call->ctx);
    result = run_script(call,
                        "DO $co$ BEGIN IF pg_catalog.pg_is_in_recovery() THEN RAISE EXCEPTION USING ERRCODE = '" PG_STATE_REFUSE
                        "', MESSAGE = 'the server is still a standby'; END IF; END $co$; ",
                        "", pg_text_str(&script), pg_text_str(&after));
    while (result == CO_DONE && call->host->now_ns(call->ctx) - begun_ns < 100 * PG_MS) {
        bool in = false;
        result = let_in(call, &in);
        if (result == CO_DONE && in)
            return CO_DONE;
        if (result == CO_DONE && !pg_pause(call, call->conn, 1))
            return pg_fail(call, CO_EFFECT_UNKNOWN, CO_E_INTERRUPTED, "", "interrupted while the server loads pg_hba.conf");
    }
    return result == CO_DONE ? reload(call) : result == CO_NO_EFFECT ? CO_EFFECT_UNKNOWN : result;
}

const struct co_step pg_step_open = {
    .size = sizeof(struct co_step),
    .name = "open.clients",
    .title = "let clients in on the new primary",
    .phase = CO_PHASE_OPEN,
    .role = CO_TARGET,
    .flags = CO_STEP_NO_WAY_BACK,
    .describe = open_describe,
    .probe = open_probe,
    .apply = open_apply,
};

/* ---------------------------------------------------------------- the archive */

/* Standing where the archiver looks, and never true: it retries, and nothing leaves the server. */
#define NO_ARCHIVE "false # changeover: nothing is archived until the server is opened"

static bool archive_wanted(struct co_call *call)
{
    if (!call->conn)
        return true;
    PG_RESULT rows = NULL;
    return pg_query(call, call->conn, PG_READ, "SELECT pg_catalog.current_setting('archive_mode') <> 'off'", 0, NULL, &rows) !=
               CO_DONE ||
           pg_is_true(rows, 0, 0);
}

static enum co_result archive_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret, "ALTER SYSTEM SET archive_command = '" NO_ARCHIVE "'\nSELECT pg_reload_conf()\n");
    return CO_DONE;
}

static enum co_result archive_probe(struct co_call *call, enum co_presence *ret)
{
    PG_STRING value = NULL;
    enum co_result result = pg_conf_look(call, "archive_command", &value);
    *ret = value && strcmp(value, NO_ARCHIVE) == 0 ? CO_PRESENT : CO_ABSENT;
    return result;
}

static enum co_result archive_apply(struct co_call *call)
{
    bool library = call->conn->version >= 150000;
    return pg_conf_set(call, "archive_command", NO_ARCHIVE, library ? "archive_library" : NULL, library ? "" : NULL);
}

static enum co_result archive_revert(struct co_call *call)
{
    /* A target that stays closed because its promotion could not be taken back must not archive its branch either. */
    enum pg_closure closure;
    enum co_result result = pg_closure_look(call, call->conn, &closure, NULL);
    if (result != CO_DONE)
        return result;
    if (closure == PG_CLOSED)
        return pg_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "Run `changeover setup` to make it follow again.",
                       "the server is still closed, so it must not archive");
    return pg_conf_restore(call, "archive_command", call->conn->version >= 150000 ? "archive_library" : NULL);
}

const struct co_step pg_step_archive = {
    .size = sizeof(struct co_step),
    .name = "warm_up.archive",
    .title = "hold the target's archiving until it is opened",
    .phase = CO_PHASE_WARM_UP,
    .role = CO_TARGET,
    .wanted = archive_wanted,
    .describe = archive_describe,
    .probe = archive_probe,
    .apply = archive_apply,
    .revert = archive_revert,
};

static enum co_result open_archive_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret, "ALTER SYSTEM SET archive_command = <original>\nSELECT pg_reload_conf()\n");
    return CO_DONE;
}

static enum co_result open_archive_probe(struct co_call *call, enum co_presence *ret)
{
    enum co_result result = archive_probe(call, ret);
    *ret = *ret == CO_PRESENT ? CO_ABSENT : CO_PRESENT;
    return result;
}

const struct co_step pg_step_open_archive = {
    .size = sizeof(struct co_step),
    .name = "open.archive",
    .title = "archive again on the new primary",
    .phase = CO_PHASE_OPEN,
    .role = CO_TARGET,
    .flags = CO_STEP_NO_WAY_BACK,
    .wanted = archive_wanted,
    .describe = open_archive_describe,
    .probe = open_archive_probe,
    .apply = archive_revert,
};
