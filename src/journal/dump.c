/* dump.c - a run, or the list of runs, as JSON: what report, history and dashboard read.
 *
 * Invariants: one read transaction, so the parts of a dump belong together. Unknown is null, never 0 or "".
 * Every text is masked again: a secret may have become known after it was written.
 */
#include <string.h>

#include "base/clock.h"
#include "base/secret.h"
#include "journal/internal.h"

/* Bytes that aren't UTF-8 (a hook's output, a server's message) become U+FFFD; JSON can't carry them. */
static size_t utf8_length(const unsigned char *at)
{
    if (at[0] < 0x80)
        return 1;
    size_t length = at[0] >= 0xf0 && at[0] < 0xf5 ? 4 : at[0] >= 0xe0 ? 3 : at[0] >= 0xc2 ? 2 : 0;
    if (at[0] >= 0xf5)
        length = 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    bool outside = (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf4 && at[1] > 0x8f);
    return length && (overlong || outside) ? 0 : length;
}

static json_t *text_as_is(const char *string)
{
    CO_TEXT_AUTO clean = CO_TEXT_INIT;
    for (const unsigned char *at = (const unsigned char *)string; *at;) {
        size_t length = utf8_length(at);
        if (length)
            co_text_add_bytes(&clean, (const char *)at, length);
        else
            co_text_add_bytes(&clean, "\xef\xbf\xbd", 3);
        at += length ? length : 1;
    }
    co_mask_text(&clean);
    return clean.overflow ? NULL : json_stringn(co_text_str(&clean), clean.bytes);
}

static json_t *text(const char *string)
{
    return string[0] ? text_as_is(string) : json_null();
}

static json_t *column_text(sqlite3_stmt *statement, int column)
{
    return text(co_sql_text(statement, column));
}

static json_t *column_time(sqlite3_stmt *statement, int column)
{
    char formatted[40];
    int64_t wall_ms = sqlite3_column_int64(statement, column);
    if (wall_ms <= 0)
        return json_null();
    co_wall_format(wall_ms, formatted, sizeof formatted);
    return json_string(formatted);
}

static json_t *known(int64_t value)
{
    return value < 0 ? json_null() : json_integer(value);
}

static json_t *column_bool(sqlite3_stmt *statement, int column)
{
    return json_boolean(sqlite3_column_int(statement, column));
}

static json_t *column_duration(sqlite3_stmt *statement, int begun_column, int ended_column, int64_t unit_ns)
{
    if (sqlite3_column_type(statement, ended_column) == SQLITE_NULL)
        return json_null();
    int64_t ns = sqlite3_column_int64(statement, ended_column) - sqlite3_column_int64(statement, begun_column);
    return ns < 0 ? json_null() : json_integer((ns + unit_ns / 2) / unit_ns); /* negative: another boot's clock */
}

static const char *side_name(int side)
{
    return side == CO_SIDE_A ? "a" : "b";
}

/* Columns as in RUN_COLUMNS of sql.c. */
static json_t *run_json(sqlite3_stmt *statement)
{
    struct co_run_row row;
    co_journal_fill_run(statement, &row);
    return json_pack(
        "{s:o, s:o, s:s, s:s, s:I, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:s, s:b, s:b, s:o, s:o, "
        "s:o, s:o}",
        "id", text(row.id), "kind", text(row.kind), "source", side_name(row.source), "target",
        side_name(row.source == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A), "epoch", (json_int_t)row.epoch, "actor", text(row.actor),
        "pid", (json_int_t)row.pid, "operator", text(row.operator_name), "host", text(row.host), "boot_id", text(row.boot_id),
        "config_hash", text(row.config_hash), "version", text(row.version), "started", column_time(statement, 11),
        "started_wall_ms", (json_int_t)row.started_wall_ms, "ended", column_time(statement, 12), "ended_wall_ms",
        row.ended_wall_ms ? json_integer(row.ended_wall_ms) : json_null(), "decision", co_decision_name(row.decision),
        "opening", (int)row.opening, "opened", (int)row.opened, "outcome", text(row.outcome), "exit_code", known(row.exit_code),
        "write_pause_ms", known(row.write_pause_ms), "unavailable_ms", known(row.unavailable_ms));
}

static json_t *phase_json(sqlite3_stmt *statement)
{
    int code = sqlite3_column_int(statement, 7);
    json_t *error = json_null();
    if (code != 0)
        error = json_pack("{s:s, s:o, s:o, s:o}", "code", co_error_code_name(code), "native", column_text(statement, 8),
                          "message", column_text(statement, 9), "hint", column_text(statement, 10));
    return json_pack("{s:o, s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:o}", "name", column_text(statement, 1), "actor",
                     column_text(statement, 2), "began", column_time(statement, 3), "began_wall_ms",
                     (json_int_t)sqlite3_column_int64(statement, 3), "began_ns", (json_int_t)sqlite3_column_int64(statement, 4),
                     "ms", column_duration(statement, 4, 5, CO_NS_PER_MS), "us", column_duration(statement, 4, 5, 1000),
                     "outcome", column_text(statement, 6), "error", error);
}

static json_t *step_json(sqlite3_stmt *statement)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:o}", "pair", column_text(statement, 1), "side",
                     column_text(statement, 2), "phase", column_text(statement, 3), "step", column_text(statement, 4), "action",
                     column_text(statement, 5), "statement", column_text(statement, 6), "actor", column_text(statement, 7),
                     "began", column_time(statement, 8), "began_ns", (json_int_t)sqlite3_column_int64(statement, 9), "us",
                     column_duration(statement, 9, 10, 1000), "result", column_text(statement, 11), "detail",
                     column_text(statement, 12));
}

static json_t *position_json(sqlite3_stmt *statement)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "pair", column_text(statement, 0), "side", column_text(statement, 1), "what",
                     column_text(statement, 2), "position", column_text(statement, 3), "at", column_time(statement, 4));
}

static json_t *fact_json(sqlite3_stmt *statement)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "pair", column_text(statement, 0), "side", column_text(statement, 1),
                     "moment", column_text(statement, 2), "group", column_text(statement, 3), "name", column_text(statement, 4),
                     "value", text_as_is(co_sql_text(statement, 5))); /* "" is a value */
}

static json_t *finding_json(sqlite3_stmt *statement)
{
    static const char *const severities[] = {"info", "warning", "error"};
    int severity = sqlite3_column_int(statement, 3);
    return json_pack("{s:o, s:o, s:o, s:s, s:o, s:o, s:o}", "pair", column_text(statement, 0), "side",
                     column_text(statement, 1), "code", column_text(statement, 2), "severity",
                     severities[severity < 0 || severity > 2 ? 2 : severity], "message", column_text(statement, 4), "remedy",
                     column_text(statement, 5), "accepted", column_bool(statement, 6));
}

static json_t *event_json(sqlite3_stmt *statement)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "pair", column_text(statement, 0), "kind", column_text(statement, 1), "text",
                     column_text(statement, 2), "actor", column_text(statement, 3), "at", column_time(statement, 4));
}

static json_t *pair_json(sqlite3_stmt *statement)
{
    return json_pack("{s:o, s:{s:o, s:o}, s:{s:o, s:o}}", "name", column_text(statement, 0), "a", "instance",
                     column_text(statement, 1), "lineage", column_text(statement, 2), "b", "instance",
                     column_text(statement, 3), "lineage", column_text(statement, 4));
}

static int add_rows(struct co_journal *journal, enum co_sql which, const char *run, json_t *array,
                    json_t *(*make)(sqlite3_stmt *statement), struct co_error *err)
{
    sqlite3_stmt *statement;
    int result = co_sql_bind(journal, which, &statement, err, (struct co_bind[]){CO_T(run)}, run ? 1 : 0);
    if (result)
        return result;
    int rc;
    while (!result && (rc = sqlite3_step(statement)) == SQLITE_ROW)
        if (json_array_append_new(array, make(statement)) < 0)
            result = co_fail(err, CO_E_NOMEM, "no memory to read journal %s", journal->path);
    if (!result && rc != SQLITE_DONE)
        result = co_sql_fail(journal, journal->record, rc, "reading a run", err);
    sqlite3_reset(statement);
    return result;
}

static int add_part(struct co_journal *journal, enum co_sql which, const char *run, json_t *document, const char *name,
                    json_t *(*make)(sqlite3_stmt *statement), struct co_error *err)
{
    json_t *array = json_array();
    if (!array || json_object_set_new(document, name, array) < 0)
        return co_fail(err, CO_E_NOMEM, "no memory to read journal %s", journal->path);
    return add_rows(journal, which, run, array, make, err);
}

static json_t *migration_json(sqlite3_stmt *statement)
{
    return column_text(statement, 0);
}

static int add_migration(struct co_journal *journal, json_t *document, struct co_error *err)
{
    json_t *names = json_array();
    if (!names)
        return co_fail(err, CO_E_NOMEM, "no memory to read journal %s", journal->path);
    int result = add_rows(journal, CO_SQL_DUMP_MIGRATION, NULL, names, migration_json, err);
    if (!result && json_object_set(document, "migration", json_array_get(names, 0)) < 0)
        result = co_fail(err, CO_E_NOMEM, "no memory to read journal %s", journal->path);
    json_decref(names);
    return result;
}

static int dump_run(struct co_journal *journal, const char *run_or_null, json_t *document, struct co_error *err)
{
    json_t *runs = json_array();
    if (!runs)
        return co_fail(err, CO_E_NOMEM, "no memory to read journal %s", journal->path);
    int result = add_rows(journal, run_or_null ? CO_SQL_RUN_BY_ID : CO_SQL_RUN_LAST, run_or_null, runs, run_json, err);
    json_t *run = json_array_get(runs, 0);
    if (!result && !run) {
        co_fail(err, CO_E_STATE, "there is no %s in journal %s", run_or_null ? "such run" : "run", journal->path);
        if (run_or_null)
            co_hint(err, "`changeover report --list` names the runs that there are.");
        result = CO_E_STATE;
    }
    if (!result && json_object_set(document, "run", run) < 0)
        result = co_fail(err, CO_E_NOMEM, "no memory to read journal %s", journal->path);
    json_decref(runs);
    if (!result)
        result = add_migration(journal, document, err);
    if (result)
        return result;
    const char *id = json_string_value(json_object_get(json_object_get(document, "run"), "id"));
    static const struct {
        enum co_sql which;
        const char *name;
        json_t *(*make)(sqlite3_stmt *statement);
    } parts[] = {
        {CO_SQL_DUMP_PAIRS, "pairs", pair_json},    {CO_SQL_DUMP_PHASES, "phases", phase_json},
        {CO_SQL_DUMP_STEPS, "steps", step_json},    {CO_SQL_DUMP_POSITIONS, "positions", position_json},
        {CO_SQL_DUMP_FACTS, "facts", fact_json},    {CO_SQL_DUMP_FINDINGS, "findings", finding_json},
        {CO_SQL_DUMP_EVENTS, "events", event_json},
    };
    for (size_t i = 0; !result && i < sizeof parts / sizeof parts[0]; i++)
        result = add_part(journal, parts[i].which, id, document, parts[i].name, parts[i].make, err);
    return result;
}

static int read_all(struct co_journal *journal, bool list, const char *run_or_null, json_t **ret, struct co_error *err)
{
    CO_JOURNAL_LOCKED(journal);
    int result = co_journal_reopen_if_stale(journal, err);
    bool own = !result && sqlite3_get_autocommit(journal->record);
    if (own)
        result = co_sql_exec0(journal, CO_SQL_READ_BEGIN, "reading", err);
    if (result)
        return result;
    json_t *document = list ? json_array() : json_object();
    if (!document)
        result = co_fail(err, CO_E_NOMEM, "no memory to read journal %s", journal->path);
    else
        result = list ? add_rows(journal, CO_SQL_DUMP_RUNS, NULL, document, run_json, err)
                      : dump_run(journal, run_or_null, document, err);
    struct co_error ignored;
    if (own)
        co_sql_exec0(journal, CO_SQL_ROLLBACK, "reading", &ignored);
    if (result) {
        json_decref(document);
        return result;
    }
    *ret = document;
    return 0;
}

int co_journal_dump(struct co_journal *journal, const char *run_or_null, json_t **ret, struct co_error *err)
{
    return read_all(journal, false, run_or_null, ret, err);
}

int co_journal_list_runs(struct co_journal *journal, json_t **ret, struct co_error *err)
{
    return read_all(journal, true, NULL, ret, err);
}
