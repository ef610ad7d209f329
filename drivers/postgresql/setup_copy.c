/* setup_copy.c - the target becomes a standby: base backup on its machine, put in place, started.
 *
 * Invariants
 *   - No data directory is deleted. The copy is made beside it (<data>.changeover-copy) while the old server may still
 *     run; then the old one is moved aside to <data>.before-changeover-<run> and the copy takes its place, with
 *     standby.signal in it already, so that it can't start as a primary. Only the copy's own folder is ever wiped.
 *   - The target keeps what is its own: configuration, certificates, wherever they are.
 *   - Tablespaces are copied into folders that are empty (tablespaces.c).
 *   - The copy runs by itself on that machine; a tool that dies leaves it running, and the next setup finds it. One that
 *     died is begun again, and that is said. */
#include "pg.h"

#include <stdio.h>

#include "tablespaces.h"

static bool is_follower(struct co_call *call, bool *ret_primary, enum co_result *ret_result)
{
    *ret_result = CO_DONE;
    *ret_primary = false;
    if (!pg_alive(call->conn))
        return false;
    PG_RESULT rows = NULL;
    *ret_result = pg_query(call, call->conn, PG_READ, "SELECT pg_catalog.pg_is_in_recovery()", 0, NULL, &rows);
    if (pg_gone(call, *ret_result))
        *ret_result = CO_DONE;
    if (!rows)
        return false;
    *ret_primary = !pg_is_true(rows, 0, 0);
    return !*ret_primary && (!call->other || strcmp(call->other->lineage, call->conn->lineage) == 0);
}

struct copy_state {
    char word[16]; /* "none", "running", "dead", "done", "failed" */
    char run[48];  /* which run began it */
    bool cluster;  /* the data directory holds a cluster */
    bool occupied; /* it holds anything */
    bool standby;  /* with standby.signal */
    bool up;
    bool written; /* everything was received: pg_control comes last */
    char system[32];
    char said[300]; /* the end of its log */
};

static const char look_script[] = "c=\"$d.changeover-copy\"; w=none; p=; r=-\n"
                                  "if [ -f \"$c.state\" ]; then read -r w p r < \"$c.state\"; if [ \"$w\" = running ] && ! "
                                  "kill -0 \"$p\" 2>/dev/null; then w=dead; fi; fi\n"
                                  "echo \"copy $w ${r:--}\"\n"
                                  "if [ -f \"$d/PG_VERSION\" ]; then echo cluster; fi\n"
                                  "if [ -n \"$(ls -A \"$d\" 2>/dev/null)\" ]; then echo occupied; fi\n"
                                  "if [ -f \"$d/standby.signal\" ]; then echo standby; fi\n"
                                  "if up; then echo up; fi\n"
                                  "if [ -f \"$c/global/pg_control\" ]; then echo written; fi\n"
                                  "if [ -f \"$d/PG_VERSION\" ]; then tool pg_controldata -D \"$d\" 2>/dev/null | sed -n "
                                  "'s/^Database system identifier: */system /p'; fi\n"
                                  "if [ -f \"$c.log\" ]; then echo \"said $(tail -n 3 \"$c.log\" | tr '\\n' ' ')\"; fi\n";

static enum co_result look(struct co_call *call, struct copy_state *ret)
{
    const char *out = NULL;
    *ret = (struct copy_state){0};
    enum co_result result = pg_machine(call, call->side, look_script, NULL, 0, NULL, &out, NULL);
    if (result != CO_DONE)
        return result == CO_EFFECT_UNKNOWN ? CO_NO_EFFECT : result;
    if (sscanf(out, "copy %15s %47s", ret->word, ret->run) < 1)
        return pg_fail(call, CO_NO_EFFECT, CO_E_COMMAND,
                       "host.run must run the command that follows it, and print nothing of its own.",
                       "the machine's answer makes no sense: %.80s", out);
    ret->cluster = strstr(out, "\ncluster\n") != NULL;
    ret->occupied = strstr(out, "\noccupied\n") != NULL;
    ret->standby = strstr(out, "\nstandby\n") != NULL;
    ret->up = strstr(out, "\nup\n") != NULL;
    ret->written = strstr(out, "\nwritten\n") != NULL;
    const char *at = strstr(out, "\nsystem ");
    if (at)
        sscanf(at, "\nsystem %31s", ret->system);
    at = strstr(out, "\nsaid ");
    if (at)
        pg_one_line(ret->said, sizeof ret->said, at + 6);
    return CO_DONE;
}

/* The copy stands where it belongs: a standby of the source's cluster, running or not. */
static bool placed(struct co_call *call, const struct copy_state *state)
{
    return state->cluster && state->standby && (!call->other || strcmp(state->system, call->other->lineage) == 0) &&
           strcmp(state->word, "none") == 0;
}

static bool has_machine(struct co_call *call)
{
    const struct co_endpoint_config *endpoint = call->host->endpoint(call->ctx, call->side);
    return endpoint->has_host && call->host->side_option(call->ctx, call->side, "host.data_directory");
}

static enum co_result no_machine(struct co_call *call)
{
    return pg_fail(call, CO_NO_EFFECT, CO_E_CONFIG,
                   "Configure host.run, host.data_directory, host.start and host.stop of that side; or make it a standby "
                   "yourself (pg_basebackup) and run setup again.",
                   "the target is not a standby of the source, and its machine's `host` is not configured");
}

/* ---------------------------------------------------------------- setup.copy */

static enum co_result copy_describe(struct co_call *call, struct co_text *ret)
{
    const char *data = call->host->side_option(call->ctx, call->side, "host.data_directory");
    PG_TEXT conninfo = {0};
    pg_conninfo(call, call->side, true, NULL, &conninfo);
    PG_SPACES spaces = {0};
    PG_TEXT words = {0};
    if (call->other && pg_spaces_look(call, call->other, call->side, &spaces) != CO_DONE)
        *call->err = (struct co_error){0}; /* the step itself says it */
    for (size_t i = 0; i < spaces.count; i++) {
        pg_text_add(&words, " -T ");
        pg_space_mapping(&spaces.items[i], &words);
    }
    call->host->text_add(call->ctx, ret, "pg_basebackup -D %s.changeover-copy -d \"%s\" -X stream -S %s -c fast%s\n",
                         data ? data : "<data_directory>", pg_text_str(&conninfo), pg_other_slot(call->side),
                         pg_text_str(&words));
    return CO_DONE;
}

static enum co_result copy_probe(struct co_call *call, enum co_presence *ret)
{
    bool primary;
    enum co_result result;
    *ret = CO_ABSENT;
    if (is_follower(call, &primary, &result)) {
        *ret = CO_PRESENT;
        return CO_DONE;
    }
    if (result != CO_DONE || !has_machine(call))
        return result;
    struct copy_state state;
    result = look(call, &state);
    if (result == CO_DONE)
        *ret = strcmp(state.word, "done") == 0 || (!primary && placed(call, &state)) ? CO_PRESENT
               : strcmp(state.word, "running") == 0                                  ? CO_PARTIAL
                                                                                     : CO_ABSENT;
    return result;
}

/* Whether what is there may be moved aside: nothing, an empty cluster, or consent. */
static enum co_result may_replace(struct co_call *call, const struct copy_state *state, bool primary)
{
    const char *option = call->host->option(call->ctx, "setup.replace_b");
    bool consent = option && strcmp(option, "true") == 0;
    static const char hint[] = "Set `setup: {replace_b: true}` if it may go; its data directory is moved aside and kept.";
    if (consent || (!state->occupied && !pg_alive(call->conn)))
        return CO_DONE;
    if (pg_alive(call->conn)) {
        PG_RESULT rows = NULL;
        enum co_result result = pg_query(call, call->conn, PG_READ,
                                         "SELECT (SELECT count(*) FROM pg_catalog.pg_database WHERE datname NOT IN "
                                         "('template0', 'template1', 'postgres')), (SELECT count(*) FROM "
                                         "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE "
                                         "c.relkind IN ('r','p','m') AND n.nspname NOT IN "
                                         "('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'), "
                                         "pg_catalog.current_setting('data_directory')",
                                         0, NULL, &rows);
        if (result != CO_DONE)
            return result;
        if (pg_number(rows, 0, 0, 1) > 0 || pg_number(rows, 0, 1, 1) > 0)
            return pg_fail(call, CO_NO_EFFECT, CO_E_DATA, hint,
                           "the target holds data: %s databases besides the usual ones, %s tables in %s", pg_value(rows, 0, 0),
                           pg_value(rows, 0, 1), call->conn->database);
        if (state->cluster && strcmp(state->system, call->conn->lineage) != 0)
            return pg_fail(call, CO_NO_EFFECT, CO_E_CONFIG, "Correct host.data_directory or host.run of that side.",
                           "host.data_directory is not that of the target's server, which is %s", pg_value(rows, 0, 2));
        if (primary)
            return CO_DONE;
        return pg_fail(call, CO_NO_EFFECT, CO_E_DATA, hint, "the target is a standby of another cluster");
    }
    return pg_fail(call, CO_NO_EFFECT, CO_E_DATA, hint,
                   "the target's data directory holds something, and no server answers that could say whether it is empty");
}

/* Empties the folders of tablespaces that a copy which came to nothing has begun to fill. */
#define CLEAR                                                                                                                  \
    "clear() { [ -f \"$c.spaces\" ] || return 0; while IFS= read -r p; do rm -rf \"$p\"/PG_[0-9]*; done < \"$c.spaces\"; "     \
    "rm -f \"$c.spaces\"; }\n"

/* $1: run, $2: connection string, $3: slot, then words for pg_basebackup */
static const char worker_script[] = CLEAR
    "c=\"$d.changeover-copy\"; r=$1; i=$2; s=$3; shift 3; echo \"running $$ $r\" > \"$c.state\"\n"
    "if tool pg_basebackup -w -D \"$c\" -d \"$i\" -X stream -S \"$s\" -c fast \"$@\" && sync; then w=done; else w=failed; "
    "clear; fi\n"
    "rm -f \"$c.pass\"; echo \"$w 0 $r\" > \"$c.state.new\" && mv -f \"$c.state.new\" \"$c.state\"\n";

/* pg_basebackup of the target's own version, found before there is a cluster that tells it. $7 folders of tablespaces follow,
 * then words for pg_basebackup. */
static const char start_script[] = PG_SPACE_USABLE CLEAR
    "c=\"$d.changeover-copy\"; worker=$1; run=$2; conninfo=$3; slot=$4; pass=$5; v=$6; n=$7; shift 7\n"
    "i=0; for p; do [ $i -lt $n ] || break; i=$((i + 1)); usable \"$p\" || exit 1; done\n"
    "clear; while [ $n -gt 0 ]; do printf '%s\\n' \"$1\" >> \"$c.spaces\" || exit 1; n=$((n - 1)); shift; done\n"
    "if [ -z \"$bin\" ]; then for p in \"/usr/lib/postgresql/$v/bin\" \"/usr/pgsql-$v/bin\"; do if [ -x \"$p/pg_basebackup\" "
    "]; then bin=$p; fi; done; fi\n"
    "rm -rf \"$c\"; rm -f \"$c.state\" \"$c.log\"; : > \"$c.state\" || exit 1\n"
    "if [ -n \"$pass\" ]; then cat > \"$c.pass\" || exit 1; PGPASSFILE=\"$c.pass\"; export PGPASSFILE; fi\n"
    "echo \"running $$ $run\" > \"$c.state\"\n"
    "setsid sh -c \"$worker\" changeover \"$d\" \"$token\" \"$bin\" \"$run\" \"$conninfo\" \"$slot\" \"$@\" < /dev/null > "
    "\"$c.log\" "
    "2>&1 &\n";

#define WORKER_PROLOGUE                                                                                                        \
    "d=$1; bin=$3; shift 3; export LC_ALL=C; umask 077\n"                                                                      \
    "tool() { n=$1; shift; if [ -n \"$bin\" ]; then \"$bin/$n\" \"$@\"; else \"$n\" \"$@\"; fi; }\n"

static enum co_result start_copy(struct co_call *call)
{
    PG_TEXT pass = {0};
    pg_passfile(call, call->side, true, &pass);
    PG_TEXT conninfo = {0};
    enum co_result result = pg_conninfo(call, call->side, true, NULL, &conninfo);
    if (result != CO_DONE)
        return result;
    PG_TEXT worker = {0};
    pg_text_add(&worker, WORKER_PROLOGUE);
    pg_text_add(&worker, worker_script);
    char version[12];
    snprintf(version, sizeof version, "%d", call->other ? call->other->version / 10000 : 0);
    PG_SPACES spaces = {0};
    result = pg_spaces_look(call, call->other, call->side, &spaces);
    if (result != CO_DONE)
        return result;
    char number[12];
    snprintf(number, sizeof number, "%zu", spaces.count);
    const char *args[7 + 3 * PG_SPACES_MAX] = {pg_text_str(&worker),
                                               pg_run_id(call),
                                               pg_text_str(&conninfo),
                                               pg_other_slot(call->side),
                                               pass.used ? "pass" : "",
                                               version,
                                               number};
    size_t count = 7;
    for (size_t i = 0; i < spaces.count; i++)
        args[count++] = spaces.items[i].to;
    PG_TEXT mappings = {0}; /* words, each with its NUL */
    for (size_t i = 0; i < spaces.count; i++) {
        pg_space_mapping(&spaces.items[i], &mappings);
        pg_text_bytes(&mappings, "", 1);
    }
    if (mappings.failed || worker.failed)
        return pg_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    for (const char *word = mappings.data; word && word < mappings.data + mappings.used; word += strlen(word) + 1) {
        args[count++] = "-T";
        args[count++] = word;
    }
    result = pg_machine(call, call->side, start_script, args, count, pg_text_str(&pass), NULL, NULL);
    if (result == CO_EFFECT_UNKNOWN && call->err->code == CO_E_COMMAND && spaces.count > 0)
        snprintf(
            call->err->hint, sizeof call->err->hint, "%s",
            "A tablespace's folder on the target must be empty, and writable for the account of host.run. Empty it, or name "
            "another one: setup: {tablespaces: [/folder/on/a=/folder/on/b]}.");
    return result;
}

/* What the source says of the backup: bytes while it sends files, else what it waits for. */
static void report_progress(struct co_call *call, const struct copy_state *state)
{
    struct co_progress progress = {.what = state->written ? "base backup: writing what was received to disk" : "base backup",
                                   .done = -1,
                                   .total = -1,
                                   .unit = "bytes"};
    PG_RESULT rows = NULL;
    PG_TEXT what = {0};
    struct co_error kept = *call->err;
    const char *params[] = {pg_other_slot(call->side)};
    if (call->other &&
        pg_query(call, call->other, PG_READ,
                 "SELECT p.backup_streamed, p.backup_total, p.phase, p.phase = 'streaming database files' FROM "
                 "pg_catalog.pg_stat_progress_basebackup p JOIN pg_catalog.pg_stat_activity a USING (pid) WHERE "
                 "a.application_name = $1",
                 1, params, &rows) == CO_DONE &&
        PQntuples(rows) > 0) {
        progress.what = "base backup";
        if (pg_is_true(rows, 0, 3)) {
            progress.done = pg_number(rows, 0, 0, -1);
            progress.total = pg_number(rows, 0, 1, -1);
        } else {
            pg_text_addf(&what, "base backup: %s", pg_value(rows, 0, 2));
            progress.what = pg_text_str(&what);
        }
    }
    *call->err = kept;
    call->host->progress(call->ctx, &progress);
}

static enum co_result copy_apply(struct co_call *call)
{
    bool primary;
    enum co_result result;
    if (is_follower(call, &primary, &result))
        return CO_DONE;
    if (result != CO_DONE)
        return result;
    if (!has_machine(call))
        return no_machine(call);
    struct copy_state state;
    result = look(call, &state);
    if (result != CO_DONE || strcmp(state.word, "done") == 0)
        return result;
    if (strcmp(state.word, "running") == 0) {
        report_progress(call, &state);
        return pg_pause(call, call->other, 200)
                   ? CO_AGAIN
                   : pg_fail(call, CO_NO_EFFECT, CO_E_INTERRUPTED, "", "interrupted; the base backup goes on by itself");
    }
    if (strcmp(state.word, "failed") == 0 && strcmp(state.run, pg_run_id(call)) == 0)
        return pg_fail(call, CO_NO_EFFECT, CO_E_COMMAND,
                       "pg_basebackup ran on the target's machine. Its account needs REPLICATION, and the source's pg_hba.conf "
                       "a line: host replication <user> <address of b> scram-sha-256.",
                       "the base backup failed: %s", state.said);
    if (!call->other)
        return pg_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "", "the source can't be reached for the base backup");
    result = may_replace(call, &state, primary);
    if (result != CO_DONE)
        return result;
    result = start_copy(call);
    if (result != CO_DONE)
        return result;
    struct co_progress begins = {
        .what = strcmp(state.word, "none") == 0 ? "base backup" : "the earlier base backup was interrupted; it begins again",
        .done = -1,
        .total = -1,
        .unit = "bytes"};
    call->host->progress(call->ctx, &begins);
    return CO_AGAIN;
}

const struct co_step pg_step_setup_copy = {
    .size = sizeof(struct co_step),
    .name = "setup.copy",
    .title = "a base backup beside the target's data directory",
    .phase = CO_PHASE_SETUP,
    .role = CO_TARGET,
    .flags = CO_STEP_NO_WAY_BACK | CO_STEP_SLOW | CO_STEP_BOTH | CO_STEP_OFFLINE,
    .describe = copy_describe,
    .probe = copy_probe,
    .apply = copy_apply,
};

/* ---------------------------------------------------------------- setup.place */

static enum co_result place_describe(struct co_call *call, struct co_text *ret)
{
    const char *data = call->host->side_option(call->ctx, call->side, "host.data_directory");
    data = data ? data : "<data_directory>";
    call->host->text_add(
        call->ctx, ret,
        "host.stop\nmv %s %s.before-changeover-%s\nmv %s.changeover-copy %s (with the target's own configuration)\n"
        "standby.signal, primary_conninfo, primary_slot_name = '%s'\n",
        data, data, *pg_run_id(call) ? pg_run_id(call) : "<run>", data, data, pg_other_slot(call->side));
    return CO_DONE;
}

static enum co_result place_probe(struct co_call *call, enum co_presence *ret)
{
    bool primary;
    enum co_result result;
    *ret = CO_ABSENT;
    if (is_follower(call, &primary, &result)) {
        *ret = CO_PRESENT;
        return CO_DONE;
    }
    if (result != CO_DONE || !has_machine(call))
        return result;
    struct copy_state state;
    result = look(call, &state);
    if (result == CO_DONE && !primary && placed(call, &state))
        *ret = CO_PRESENT;
    return result;
}

static const char place_script[] = "c=\"$d.changeover-copy\"; run=$1\n"
                                   "[ ! -f \"$d/" PG_MARKER_FILE "\" ] || guard\n"
                                   "up && { echo 'the server still runs' >&2; exit 1; }\n"
                                   "own='*.conf *.d *.crt *.key *.pem *.crl'\n"
                                   "if [ -d \"$c\" ]; then\n"
                                   "  rm -f \"$c\"/changeover.* \"$c\"/*.changeover-* \"$c\"/standby.signal\n"
                                   "  if [ -f \"$d/PG_VERSION\" ]; then\n"
                                   "    if [ -f \"$d/postgresql.conf\" ]; then (cd \"$c\" && rm -rf $own); fi\n"
                                   "    (cd \"$d\" && for f in $own " PG_MARKER_FILE
                                   "; do if [ -e \"$f\" ]; then cp -pRP \"$f\" \"$c/\" || exit 1; fi; done) || exit 1\n"
                                   "  fi\n"
                                   "  : > \"$c/standby.signal\" && sync \"$c\" || exit 1\n"
                                   "  if [ -e \"$d\" ]; then if ! rmdir \"$d\" 2>/dev/null; then mv -T \"$d\" "
                                   "\"$d.before-changeover-$run\" || exit 1; fi; fi\n"
                                   "  mv -T \"$c\" \"$d\" && chmod 700 \"$d\" || exit 1\n"
                                   "fi\n"
                                   "[ -f \"$d/standby.signal\" ] || exit 1\n"
                                   "rm -f \"$c.state\" \"$c.log\" \"$c.pass\" \"$c.spaces\"; sync \"$(dirname \"$d\")\"\n";

static enum co_result place_apply(struct co_call *call)
{
    if (!has_machine(call))
        return no_machine(call);
    struct copy_state state;
    enum co_result result = look(call, &state);
    if (result != CO_DONE)
        return result;
    if (state.up) {
        result = pg_machine_option(call, call->side, "host.stop");
        if (result != CO_DONE)
            return result;
    }
    const char *args[] = {pg_run_id(call)};
    result = pg_machine(call, call->side, place_script, args, 1, NULL, NULL, NULL);
    if (result != CO_DONE) {
        if (result == CO_EFFECT_UNKNOWN && call->err->code == CO_E_COMMAND)
            snprintf(call->err->hint, sizeof call->err->hint, "%s",
                     "The account behind host.run must be able to rename the data directory: its parent folder must be "
                     "writable, and it must not be a mount point.");
        return result;
    }
    return pg_write_follower_conf(call, call->side, true);
}

const struct co_step pg_step_setup_place = {
    .size = sizeof(struct co_step),
    .name = "setup.place",
    .title = "move the old data directory aside and put the copy in its place",
    .phase = CO_PHASE_SETUP,
    .role = CO_TARGET,
    .flags = CO_STEP_NO_WAY_BACK | CO_STEP_SLOW | CO_STEP_BOTH | CO_STEP_OFFLINE,
    .describe = place_describe,
    .probe = place_probe,
    .apply = place_apply,
};

/* ---------------------------------------------------------------- setup.start */

static enum co_result start_describe(struct co_call *call, struct co_text *ret)
{
    const char *const *argv = call->host->argv_option(call->ctx, (int)call->side, "host.start");
    for (size_t i = 0; argv && argv[i]; i++)
        call->host->text_add(call->ctx, ret, "%s%s", i ? " " : "", argv[i]);
    call->host->text_add(call->ctx, ret, "\n");
    return CO_DONE;
}

/* Whether the standby has replayed what setup made on the primary. One that is held back on purpose isn't waited for. */
static enum co_result has_replayed(struct co_call *call, bool *ret)
{
    const char *user = call->host->secret_user(call->ctx, CO_SECRET_REPLICATION),
               *probe = call->host->secret_user(call->ctx, CO_SECRET_PROBE);
    const char *params[] = {user && *user ? user : NULL, probe && *probe ? probe : NULL};
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(call, call->conn, PG_READ,
                                     "SELECT (EXISTS (SELECT 1 FROM pg_database WHERE datname = '" PG_DATABASE
                                     "') AND ($1::text IS NULL OR EXISTS (SELECT 1 FROM pg_roles "
                                     "WHERE rolname = $1)) AND ($2::text IS NULL OR EXISTS (SELECT 1 FROM pg_roles WHERE "
                                     "rolname = $2))) OR NOT pg_is_in_recovery() OR "
                                     "current_setting('recovery_min_apply_delay') <> '0' OR CASE WHEN pg_is_in_recovery() THEN "
                                     "pg_is_wal_replay_paused() END",
                                     2, params, &rows);
    *ret = result == CO_DONE && pg_is_true(rows, 0, 0);
    return pg_gone(call, result) ? CO_DONE : result;
}

/* A standby that was told to follow nobody, as detach does. */
static enum co_result follows_nobody(struct co_call *call, bool *ret)
{
    PG_RESULT rows = NULL;
    enum co_result result =
        pg_query(call, call->conn, PG_READ, "SELECT current_setting('primary_conninfo') = ''", 0, NULL, &rows);
    *ret = result == CO_DONE && pg_is_true(rows, 0, 0) && has_machine(call);
    return result;
}

static enum co_result start_probe(struct co_call *call, enum co_presence *ret)
{
    bool primary, replayed = false;
    enum co_result result;
    *ret = CO_ABSENT;
    if (!is_follower(call, &primary, &result))
        return result;
    bool nobody = false;
    result = has_replayed(call, &replayed);
    if (result == CO_DONE && replayed)
        result = follows_nobody(call, &nobody);
    *ret = replayed && !nobody ? CO_PRESENT : CO_PARTIAL;
    return pg_gone(call, result) ? CO_DONE : result;
}

static enum co_result start_apply(struct co_call *call)
{
    bool primary;
    enum co_result result;
    if (is_follower(call, &primary, &result)) {
        bool replayed = false, nobody = false;
        result = follows_nobody(call, &nobody);
        if (result == CO_DONE && nobody) {
            result = pg_write_follower_conf(call, call->side, true);
            if (result == CO_DONE)
                result = pg_guarded_setup(call, call->conn, "SELECT pg_catalog.pg_reload_conf()", NULL);
            return result == CO_DONE ? CO_AGAIN : result;
        }
        if (result == CO_DONE)
            result = has_replayed(call, &replayed);
        if (pg_gone(call, result))
            return CO_AGAIN; /* replay ended our session: it dropped the database, before making it again */
        return result != CO_DONE || replayed ? result : CO_AGAIN;
    }
    if (result != CO_DONE)
        return result;
    if (!has_machine(call))
        return no_machine(call);
    struct copy_state state;
    result = look(call, &state);
    if (result != CO_DONE)
        return result;
    if (!state.standby)
        return pg_fail(call, CO_NO_EFFECT, CO_E_STATE, "Run `changeover setup` again.",
                       "the target's data directory is no standby's");
    if (state.up) {
        struct co_progress progress = {
            .what = "waiting for the standby to accept connections", .done = -1, .total = -1, .unit = ""};
        call->host->progress(call->ctx, &progress);
        return CO_AGAIN;
    }
    result = pg_write_follower_conf(call, call->side, true);
    if (result == CO_DONE)
        result = pg_machine_option(call, call->side, "host.start");
    return result == CO_DONE ? CO_AGAIN : result;
}

const struct co_step pg_step_setup_start = {
    .size = sizeof(struct co_step),
    .name = "setup.start",
    .title = "start the standby and see it replay",
    .phase = CO_PHASE_SETUP,
    .role = CO_TARGET,
    .flags = CO_STEP_NO_WAY_BACK | CO_STEP_SLOW | CO_STEP_BOTH | CO_STEP_OFFLINE,
    .describe = start_describe,
    .probe = start_probe,
    .apply = start_apply,
};
