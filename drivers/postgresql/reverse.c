/* reverse.c - a server is made to follow the other one: the old primary after the commit, or a target whose promotion
 * is taken back.
 *
 * pg_rewind copies the other server's configuration files over this one's, and removes what the other doesn't have. So
 * everything that is this server's own (configuration, certificates, marker, password file) is kept beside the data
 * directory before and put back after. Each call does the next thing that the machine's state asks for; killed at any
 * point it goes on from there. While that folder exists the server is never started: the directory may be half rewound.
 *
 * A server that was stopped cleanly after its last record reached the other one needs no rewind; pg_rewind finds that
 * out itself. */
#include "pg.h"

#include <stdio.h>

const char *pg_run_id(struct co_call *call)
{
    return call->run ? call->run->id : "";
}

const char *pg_other_slot(enum co_side follower)
{
    return follower == CO_SIDE_A ? "changeover_a" : "changeover_b";
}

static const char *account(struct co_call *call, enum co_side other, bool replication)
{
    const char *user = replication ? call->host->secret_user(call->ctx, CO_SECRET_REPLICATION) : NULL;
    return user && *user ? user : call->host->endpoint(call->ctx, other)->user;
}

enum co_result pg_conninfo(struct co_call *call, enum co_side side, bool replication, const char *passfile, struct pg_text *ret)
{
    enum co_side other = pg_other_side(side);
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, other);
    char port[16];
    snprintf(port, sizeof port, "%d", endpoint->peer_port ? endpoint->peer_port : endpoint->port ? endpoint->port : 5432);
    const char *address = endpoint->peer_address ? endpoint->peer_address : endpoint->address;
    pg_text_conninfo(ret, "host", address);
    pg_text_conninfo(ret, "port", port);
    pg_text_conninfo(ret, "user", account(call, other, replication));
    if (replication)
        pg_text_conninfo(ret, "application_name", pg_other_slot(side));
    else
        pg_text_conninfo(ret, "application_name", "changeover");
    pg_text_conninfo(ret, "passfile", passfile);
    /* Streaming needs no database; the worker that synchronises failover slots (17) does. Not ours, which the fence leaves
     * open: that worker's session would be a foreign one there. */
    const struct co_conn *conn = call->conn ? call->conn : call->other;
    if (replication && conn && conn->version >= 170000)
        pg_text_conninfo(ret, "dbname", pg_url_database(call, other));
    if (endpoint->tls.mode == CO_TLS_OFF) {
        pg_text_conninfo(ret, "sslmode", "prefer");
    } else if (endpoint->tls.mode == CO_TLS_VERIFY && endpoint->tls.ca) {
        pg_text_conninfo(ret, "sslmode", "verify-full");
        pg_text_conninfo(ret, "sslrootcert", endpoint->tls.ca);
    } else {
        pg_text_conninfo(ret, "sslmode", "require");
    }
    return ret->failed ? pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory") : CO_DONE;
}

void pg_passfile(struct co_call *call, enum co_side side, bool replication, struct pg_text *ret)
{
    enum co_side other = pg_other_side(side);
    const char *user = replication ? call->host->secret_user(call->ctx, CO_SECRET_REPLICATION) : NULL;
    bool own = user && *user;
    const char *password = call->host->secret(call->ctx, other, own ? CO_SECRET_REPLICATION : CO_SECRET_PASSWORD);
    if (!password)
        return;
    pg_text_add(ret, "*:*:*:*:");
    for (const char *at = password; *at; at++) {
        if (*at == ':' || *at == '\\')
            pg_text_add(ret, "\\");
        pg_text_bytes(ret, at, 1);
    }
    pg_text_add(ret, "\n");
}

enum co_result pg_follower_conninfo(struct co_call *call, enum co_side side, struct pg_text *ret)
{
    const char *data = call->host->side_option(call->ctx, side, "host.data_directory");
    PG_TEXT passfile = {0};
    pg_text_addf(&passfile, "%s/%s", data ? data : "", PG_PASS_FILE);
    PG_TEXT pass = {0};
    pg_passfile(call, side, true, &pass);
    return pg_conninfo(call, side, true, pass.used ? pg_text_str(&passfile) : NULL, ret);
}

#define WRITE_PASSFILE                                                                                                         \
    "cat > \"$d/" PG_PASS_FILE ".new\" && mv -f \"$d/" PG_PASS_FILE ".new\" \"$d/" PG_PASS_FILE "\" || exit 1\n"

enum co_result pg_write_passfile(struct co_call *call, enum co_side side)
{
    PG_TEXT pass = {0};
    pg_passfile(call, side, true, &pass);
    return pass.used ? pg_machine(call, side, "guard\n" WRITE_PASSFILE, NULL, 0, pg_text_str(&pass), NULL, NULL) : CO_DONE;
}

/* The password file, postgresql.auto.conf and (with signal) standby.signal of `side` for following the other side. */
enum co_result pg_write_follower_conf(struct co_call *call, enum co_side side, bool signal)
{
    PG_TEXT pass = {0};
    pg_passfile(call, side, true, &pass);
    PG_TEXT conninfo = {0};
    enum co_result result = pg_follower_conninfo(call, side, &conninfo);
    if (result != CO_DONE)
        return result;
    PG_TEXT lines = {0};
    pg_text_conf_line(&lines, "primary_conninfo", pg_text_str(&conninfo));
    pg_text_conf_line(&lines, "primary_slot_name", pg_other_slot(side));
    const char *args[] = {pg_text_str(&lines), pass.used ? "pass" : "", signal ? "signal" : ""};
    if (lines.failed || pass.failed)
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    return pg_machine(call, side,
                      "have || [ ! -f \"$d/" PG_MARKER_FILE "\" ] || guard\n"
                      "if [ -n \"$2\" ]; then\n" WRITE_PASSFILE "fi\n"
                      "f=\"$d/postgresql.auto.conf\"; [ -f \"$f\" ] || : > \"$f\"\n"
                      "{ grep -v -E '^(primary_conninfo|primary_slot_name|recovery_target[a-z_]*|recovery_min_apply_delay)[ "
                      "=]' \"$f\"; printf %s \"$1\"; } > "
                      "\"$f.changeover-new\" && mv -f \"$f.changeover-new\" \"$f\" || exit 1\n"
                      "if [ -n \"$3\" ]; then : > \"$d/standby.signal\" || exit 1; fi; sync \"$f\" \"$d\"\n",
                      args, 3, pg_text_str(&pass), NULL, NULL);
}

/* ---------------------------------------------------------------- rewinding */

/* Shared by the shell functions of the worker. */
#define KEEP                                                                                                                   \
    "each() { for f in \"$1\"/*.conf \"$1\"/*.d \"$1\"/*.crt \"$1\"/*.key \"$1\"/*.pem \"$1\"/*.crl \"$1\"/" PG_PASS_FILE      \
    " \"$1\"/" PG_MARKER_FILE                                                                                                  \
    " \"$1\"/*.changeover-*; do if [ -e \"$f\" ]; then cp -pRP \"$f\" \"$2/\" || return 1; fi; done; }\n"

/* Runs by itself, so that neither the end of a call nor of the tool leaves a half-rewound directory: the next call
 * finds it running, done or failed. $1: connection string, $2: password file or "". */
static const char worker_script[] =
    KEEP "s=\"$d.changeover-rewind\"; echo \"running $$\" > \"$s.state\"\n"
         "if [ -n \"$2\" ]; then PGPASSFILE=$2; export PGPASSFILE; fi\n"
         /* whoever raises the marker meanwhile is done with it before it is copied, or raises the copy */
         "work() { m=\"$d/" PG_MARKER_FILE ".lock\"\n"
         "if [ ! -f \"$k/complete\" ]; then\n"
         "  until lock \"$m\"; do [ -d \"$d\" ] || return 1; sleep 0.02; done; rm -rf \"$k\"\n"
         "  if mkdir \"$k\" && each \"$d\" \"$k\" && : > \"$k/complete\" && sync \"$k\"; then rmdir \"$m\"; else rmdir \"$m\"; "
         "return 1; fi\n"
         "fi\n"
         "if [ ! -f \"$k/rewound\" ]; then\n"
         "  tool pg_rewind -D \"$d\" --source-server=\"$1 dbname='" PG_DATABASE
         "'\" && : > \"$k/rewound\" && sync \"$k\" || return 1\n"
         "fi\n"
         "until lock \"$k/" PG_MARKER_FILE ".lock\"; do [ -d \"$k\" ] || return 1; sleep 0.02; done\n"
         "rm -f \"$d/tablespace_map\" \"$d/backup_manifest\" \"$d/" PG_MARKER_FILE "\" \"$d/" PG_PASS_FILE "\"\n"
         "each \"$k\" \"$d\"; : > \"$d/standby.signal\" && sync \"$d\" && rm -f \"$k/complete\" && rm -rf \"$k\"\n"
         "}\n"
         "if work \"$1\" \"$2\"; then w=done; else w=failed; fi; rm -f \"$2\"; echo \"$w 0\" > \"$s.state.new\" && mv -f "
         "\"$s.state.new\" \"$s.state\"\n";

static const char rewind_script[] =
    "guard\ns=\"$d.changeover-rewind\"; w=none; p=\n"
    "if [ -f \"$s.state\" ]; then read -r w p < \"$s.state\"; if [ \"$w\" = running ] && ! kill -0 \"$p\" 2>/dev/null; then "
    "w=none; fi; fi\n"
    "case $w in running) echo running; exit 0;; done) rm -f \"$s.state\" \"$s.log\"; echo done; exit 0;; "
    "failed) tail -n 3 \"$s.log\" >&2; rm -f \"$s.state\"; exit 1;; esac\n"
    "[ -n \"$3\" ] || { echo none; exit 0; }\n"
    "up && { echo 'the server runs' >&2; exit 1; }\n"
    "q=; if [ -n \"$2\" ]; then q=\"$s.pass\"; cat > \"$q\" || exit 1; fi\n"
    "echo \"running $$\" > \"$s.state\"\n"
    "setsid sh -c \"$3\" changeover \"$d\" \"$token\" \"$bin\" \"$1\" \"$q\" < /dev/null > \"$s.log\" 2>&1 &\necho running\n";

/* CO_AGAIN while it runs. With `begin` it is started where none runs; without, *ret_none says so. */
static enum co_result rewind_now(struct co_call *call, bool begin, bool *ret_none)
{
    PG_TEXT pass = {0};
    pg_passfile(call, call->side, false, &pass);
    PG_TEXT conninfo = {0};
    enum co_result result = pg_conninfo(call, call->side, false, NULL, &conninfo);
    if (result != CO_DONE)
        return result;
    PG_TEXT worker = {0};
    pg_text_add(&worker, pg_machine_prologue);
    pg_text_add(&worker, worker_script);
    if (worker.failed)
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    const char *args[] = {pg_text_str(&conninfo), pass.used ? "pass" : "", begin ? pg_text_str(&worker) : ""};
    const char *out = NULL;
    result = pg_machine(call, call->side, rewind_script, args, 3, pg_text_str(&pass), &out, NULL);
    if (result == CO_DONE) {
        *ret_none = pg_starts(out, "none");
        return *ret_none || pg_starts(out, "done") ? CO_DONE : CO_AGAIN;
    }
    if (result == CO_EFFECT_UNKNOWN && call->err->code == CO_E_COMMAND)
        snprintf(call->err->hint, sizeof call->err->hint, "%s",
                 "pg_rewind runs on that machine and connects to the other server's peer address as the tool's account, to "
                 "database changeover. "
                 "Mend what it says and run `changeover resume`; or set the side up again.");
    return result;
}

/* pg_rewind before 16 reads the other server's control file, which names the old timeline until its first checkpoint. */
static enum co_result checkpoint_other(struct co_call *call)
{
    return call->other ? pg_query(call, call->other, PG_READ, "CHECKPOINT", 0, NULL, NULL) : CO_DONE;
}

static void show(struct co_call *call, const char *what)
{
    struct co_progress progress = {.what = what, .done = -1, .total = -1, .unit = ""};
    call->host->progress(call->ctx, &progress);
}

enum co_result pg_follow_again(struct co_call *call)
{
    if (!pg_machine_ready(call, call->side))
        return pg_fail(call, CO_NO_EFFECT, CO_E_UNSUPPORTED, "Run `changeover setup` for it, or make a new copy by hand.",
                       "the server can't be made a standby again: host.run, data_directory, start and stop of its side are not "
                       "configured");
    struct pg_machine_state state;
    enum co_result result = pg_machine_look(call, call->side, &state);
    if (result != CO_DONE)
        return result;
    if (state.up && state.standby)
        return CO_DONE;
    if (state.up) {
        show(call, "stopping the server that is to follow");
        result = checkpoint_other(call);
        if (result == CO_DONE)
            result = pg_machine_option(call, call->side, "host.stop");
        return result == CO_DONE ? CO_AGAIN : result;
    }
    bool none = false;
    result = rewind_now(call, false, &none);
    if (result == CO_AGAIN)
        show(call, "pg_rewind takes back what only this server has");
    if (result != CO_DONE)
        return result;
    if (!none)
        return CO_AGAIN; /* just finished: look again */
    if (!state.standby || state.half_rewound) {
        if (!state.clean && !state.half_rewound) { /* crashed while it was fenced or closed, which it still is when it runs */
            show(call, "starting the server that crashed, to stop it cleanly");
            result = pg_machine_option(call, call->side, "host.start");
            return result == CO_DONE ? CO_AGAIN : result;
        }
        show(call, "waiting for the new primary's checkpoint");
        result = checkpoint_other(call); /* it may have been down before anybody asked for one */
        if (result == CO_DONE)
            result = rewind_now(call, true, &none);
        return result == CO_DONE ? CO_AGAIN : result;
    }
    show(call, "starting it as a standby");
    result = pg_write_follower_conf(call, call->side, true);
    if (result == CO_DONE)
        result = pg_machine_option(call, call->side, "host.start");
    return result;
}

/* ---------------------------------------------------------------- steps */

static bool reverse_wanted(struct co_call *call)
{
    enum co_side source = call->run ? call->run->source : CO_SIDE_A;
    return pg_machine_ready(call, source);
}

static enum co_result slot_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret, "SELECT pg_create_physical_replication_slot('%s', true)\n",
                         pg_other_slot(pg_other_side(call->side)));
    return CO_DONE;
}

static enum co_result slot_probe(struct co_call *call, enum co_presence *ret)
{
    const char *params[] = {pg_other_slot(pg_other_side(call->side))};
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, call->conn, PG_READ,
                                     "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", 1, params, &rows);
    *ret = result == CO_DONE && PQntuples(rows) > 0 ? CO_PRESENT : CO_ABSENT;
    return result;
}

enum co_result pg_make_slot(struct co_call *call, bool setup)
{
    enum co_presence there = CO_ABSENT;
    enum co_result result = slot_probe(call, &there);
    if (result != CO_DONE || there == CO_PRESENT)
        return result;
    PG_TEXT sql = {0};
    pg_text_addf(&sql, "SELECT pg_catalog.pg_create_physical_replication_slot('%s', true)",
                 pg_other_slot(pg_other_side(call->side)));
    return setup ? pg_guarded_setup(call, call->conn, pg_text_str(&sql), NULL)
                 : pg_guarded(call, call->conn, pg_text_str(&sql), NULL);
}

static enum co_result slot_apply(struct co_call *call)
{
    return pg_make_slot(call, false);
}

const struct co_step pg_step_reverse_slot = {
    .size = sizeof(struct co_step),
    .name = "reverse.slot",
    .title = "a replication slot for the old primary",
    .phase = CO_PHASE_REVERSE,
    .role = CO_TARGET,
    .flags = CO_STEP_NO_WAY_BACK,
    .wanted = reverse_wanted,
    .describe = slot_describe,
    .probe = slot_probe,
    .apply = slot_apply,
};

static enum co_result follow_describe(struct co_call *call, struct co_text *ret)
{
    const char *data = call->host->side_option(call->ctx, call->side, "host.data_directory");
    call->host->text_add(call->ctx, ret,
                         "host.stop\npg_rewind -D %s --source-server=<the new primary> (own configuration kept)\n"
                         "standby.signal, primary_conninfo, primary_slot_name = '%s'\nhost.start\n",
                         data ? data : "<data_directory>", pg_other_slot(call->side));
    return CO_DONE;
}

static enum co_result follow_probe(struct co_call *call, enum co_presence *ret)
{
    *ret = CO_ABSENT;
    if (!pg_alive(call->conn))
        return CO_DONE;
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, call->conn, PG_READ,
                                     "SELECT pg_catalog.pg_is_in_recovery(), EXISTS (SELECT 1 FROM "
                                     "pg_catalog.pg_stat_wal_receiver WHERE status = 'streaming')",
                                     0, NULL, &rows);
    if (result == CO_DONE)
        *ret = !pg_is_true(rows, 0, 0) ? CO_ABSENT : pg_is_true(rows, 0, 1) ? CO_PRESENT : CO_PARTIAL;
    return pg_gone(call, result) ? CO_DONE : result;
}

static enum co_result follow_apply(struct co_call *call)
{
    enum co_presence there = CO_ABSENT;
    enum co_result result = follow_probe(call, &there);
    if (result != CO_DONE)
        return result;
    if (there == CO_PRESENT)
        return CO_DONE;
    if (there == CO_PARTIAL) {
        show(call, "waiting until the old primary receives the new one's log");
        return CO_AGAIN;
    }
    result = pg_follow_again(call);
    return result == CO_DONE ? CO_AGAIN : result;
}

const struct co_step pg_step_follow = {
    .size = sizeof(struct co_step),
    .name = "reverse.follow",
    .title = "make the old primary a standby of the new one",
    .phase = CO_PHASE_REVERSE,
    .role = CO_SOURCE,
    .flags = CO_STEP_NO_WAY_BACK | CO_STEP_SLOW | CO_STEP_BOTH | CO_STEP_OFFLINE,
    .wanted = reverse_wanted,
    .describe = follow_describe,
    .probe = follow_probe,
    .apply = follow_apply,
};

/* ---------------------------------------------------------------- what is left on the old primary */

static enum co_result settings_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret,
                         "ALTER SYSTEM RESET autovacuum (or its original)\nSELECT pg_drop_replication_slot('%s')\n",
                         pg_other_slot(pg_other_side(call->side)));
    return CO_DONE;
}

static enum co_result settings_probe(struct co_call *call, enum co_presence *ret)
{
    enum co_presence slot = CO_ABSENT, vacuum = CO_ABSENT;
    enum co_result result = slot_probe(call, &slot);
    if (result == CO_DONE && pg_step_autovacuum.wanted(call))
        result = pg_step_autovacuum.probe(call, &vacuum);
    *ret = slot == CO_ABSENT && vacuum == CO_ABSENT ? CO_PRESENT : CO_ABSENT;
    return result;
}

/* The slot that the new primary used while it was the standby would keep log here for ever. */
static enum co_result settings_apply(struct co_call *call)
{
    enum co_presence slot = CO_ABSENT;
    enum co_result result = slot_probe(call, &slot);
    if (result == CO_DONE && slot == CO_PRESENT) {
        PG_TEXT sql = {0};
        pg_text_addf(&sql, "SELECT pg_catalog.pg_drop_replication_slot('%s')", pg_other_slot(pg_other_side(call->side)));
        result = pg_guarded(call, call->conn, pg_text_str(&sql), NULL);
    }
    return result == CO_DONE ? pg_conf_restore(call, "autovacuum", NULL) : result;
}

const struct co_step pg_step_follower_settings = {
    .size = sizeof(struct co_step),
    .name = "reverse.settings",
    .title = "put the old primary's settings back",
    .phase = CO_PHASE_REVERSE,
    .role = CO_SOURCE,
    .flags = CO_STEP_NO_WAY_BACK,
    .describe = settings_describe,
    .probe = settings_probe,
    .apply = settings_apply,
};
