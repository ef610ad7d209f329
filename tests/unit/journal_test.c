/* journal_test.c - runs, decisions, record and notes of the journal, and which files it accepts. */
#include "journal_test.h"

#include <sqlite3.h>

/* ---------------------------------------------------------------- runs and decisions */

static void one_run_at_a_time(void **state)
{
    struct co_journal *journal = open_journal(*state, CO_JOURNAL_WRITE);
    struct co_run_row row = make_run("r2"), other;
    struct co_error err;
    assert_int_equal(co_journal_unfinished(journal, &other, &err), CO_E_STATE);
    begin_run(journal, "r1");
    assert_int_equal(co_journal_begin(journal, &row, &other, &err), CO_E_CONFLICT);
    assert_string_equal(other.id, "r1");
    assert_contains(err.message, "r1");
    assert_contains(err.message, "alice");
    assert_contains(err.hint, "resume");
    assert_int_equal(co_journal_unfinished(journal, &other, &err), 0);
    assert_string_equal(other.operator_name, "alice");
    assert_int_equal(other.exit_code, -1);
    assert_int_equal(other.write_pause_ms, -1);
    assert_int_equal(co_journal_end(journal, "r1", 1, "refused", 1, -1, -1, &err), 0);
    assert_int_equal(co_journal_begin(journal, &row, &other, &err), 0);
    assert_int_equal(co_journal_run(journal, NULL, &other, &err), 0);
    assert_string_equal(other.id, "r2");
    assert_int_equal(co_journal_run(journal, "nope", &other, &err), CO_E_STATE);
    co_journal_close(journal);
}

static void a_run_left_unfinished_is_found_again(void **state)
{
    struct co_journal *journal = open_journal(*state, CO_JOURNAL_WRITE);
    struct co_run_row row;
    struct co_error err;
    begin_run(journal, "r1");
    assert_int_equal(co_journal_end(journal, "r1", 1, "unfinished", 5, -1, -1, &err), 0);
    co_journal_close(journal);
    journal = open_journal(*state, CO_JOURNAL_WRITE);
    assert_int_equal(co_journal_unfinished(journal, &row, &err), 0);
    assert_string_equal(row.outcome, "unfinished");
    assert_int_equal(row.exit_code, 5);
    assert_int_equal(co_journal_take(journal, "r1", 1, "tool-2", 77, &err), 0);
    assert_int_equal(decide(journal, "r1", 2, CO_DECISION_UNDO), 0);
    assert_int_equal(co_journal_end(journal, "r1", 2, "undone", 4, 12, 34, &err), 0);
    assert_int_equal(co_journal_run(journal, "r1", &row, &err), 0);
    assert_int_equal(row.write_pause_ms, 12);
    assert_int_equal(row.unavailable_ms, 34);
    assert_true(row.ended_wall_ms >= row.started_wall_ms);
    assert_int_equal(co_journal_end(journal, "r1", 2, "done", 0, 1, 1, &err), CO_E_CONFLICT);
    co_journal_close(journal);
}

/* Every standing decision against every new one. */
static void only_allowed_decisions_are_taken(void **state)
{
    static const bool allowed[4][4] = {
        [CO_DECISION_NONE] = {false, true, true, true},
        [CO_DECISION_DECIDING] = {false, true, true, true},
        [CO_DECISION_COMMIT] = {false, false, true, false},
        [CO_DECISION_UNDO] = {false, false, false, true},
    };
    struct co_journal *journal = open_journal(*state, CO_JOURNAL_WRITE);
    for (int from = 0; from < 4; from++)
        for (int to = 1; to < 4; to++) {
            char id[16];
            struct co_error err;
            enum co_decision stands = CO_DECISION_NONE;
            snprintf(id, sizeof id, "r%d%d", from, to);
            begin_run(journal, id);
            if (from)
                assert_int_equal(decide(journal, id, 1, (enum co_decision)from), 0);
            int result = co_journal_decide(journal, id, 1, (enum co_decision)to, 0, true, &stands, &err);
            assert_int_equal(result, allowed[from][to] ? 0 : CO_E_CONFLICT);
            assert_int_equal(stands, allowed[from][to] ? to : from);
            assert_int_equal(standing_decision(journal, id), stands);
            assert_int_equal(co_journal_end(journal, id, 1, "undone", 4, -1, -1, &err), 0);
            assert_int_equal(decide(journal, id, 1, (enum co_decision)to), CO_E_CONFLICT);
        }
    co_journal_close(journal);
}

static void a_process_that_was_taken_over_decides_nothing(void **state)
{
    struct co_journal *tool = open_journal(*state, CO_JOURNAL_WRITE);
    struct co_journal *guardian = open_journal(*state, CO_JOURNAL_WRITE);
    struct co_run_row row;
    struct co_error err;
    begin_run(tool, "r1");
    assert_int_equal(co_journal_take(guardian, "r1", 1, "guardian-1", 4711, &err), 0);
    assert_int_equal(co_journal_take(tool, "r1", 1, "tool-1", 1, &err), CO_E_CONFLICT);
    assert_int_equal(decide(tool, "r1", 1, CO_DECISION_COMMIT), CO_E_CONFLICT);
    assert_int_equal(co_journal_opening(tool, "r1", 1, &err), CO_E_CONFLICT);
    assert_int_equal(co_journal_opened(tool, "r1", 1, &err), CO_E_CONFLICT);
    assert_int_equal(co_journal_turn_back(tool, "r1", 1, &err), CO_E_CONFLICT);
    assert_int_equal(co_journal_end(tool, "r1", 1, "done", 0, 0, 0, &err), CO_E_CONFLICT);
    assert_contains(err.message, "guardian-1");
    assert_int_equal(decide(guardian, "r1", 2, CO_DECISION_UNDO), 0);
    assert_int_equal(co_journal_run(tool, "r1", &row, &err), 0);
    assert_int_equal(row.decision, CO_DECISION_UNDO);
    assert_int_equal(row.epoch, 2);
    assert_int_equal(row.pid, 4711);
    co_journal_close(tool);
    co_journal_close(guardian);
}

static void a_late_commit_is_refused(void **state)
{
    struct co_journal *journal = open_journal(*state, CO_JOURNAL_WRITE);
    struct co_error err;
    enum co_decision stands = CO_DECISION_UNDO;
    begin_run(journal, "r1");
    assert_int_equal(co_journal_decide(journal, "r1", 1, CO_DECISION_COMMIT, co_now_ns() - 1, false, &stands, &err),
                     CO_E_TIMEOUT);
    assert_int_equal(stands, CO_DECISION_NONE);
    assert_int_equal(standing_decision(journal, "r1"), CO_DECISION_NONE);
    assert_int_equal(
        co_journal_decide(journal, "r1", 1, CO_DECISION_COMMIT, co_now_ns() + CO_NS_PER_S * 60, false, &stands, &err), 0);
    assert_int_equal(standing_decision(journal, "r1"), CO_DECISION_COMMIT);
    co_journal_close(journal);
}

static void turning_back_ends_with_the_opening(void **state)
{
    struct co_journal *journal = open_journal(*state, CO_JOURNAL_WRITE);
    struct co_run_row row;
    struct co_error err;
    begin_run(journal, "r1");
    assert_int_equal(co_journal_turn_back(journal, "r1", 1, &err), CO_E_CONFLICT);
    assert_int_equal(co_journal_opening(journal, "r1", 1, &err), CO_E_CONFLICT);
    assert_int_equal(decide(journal, "r1", 1, CO_DECISION_COMMIT), 0);
    assert_int_equal(co_journal_turn_back(journal, "r1", 1, &err), 0);
    assert_int_equal(standing_decision(journal, "r1"), CO_DECISION_UNDO);
    assert_int_equal(co_journal_turn_back(journal, "r1", 1, &err), 0);
    assert_int_equal(co_journal_end(journal, "r1", 1, "undone", 4, -1, -1, &err), 0);
    begin_run(journal, "r2");
    assert_int_equal(decide(journal, "r2", 1, CO_DECISION_COMMIT), 0);
    assert_int_equal(co_journal_opening(journal, "r2", 1, &err), 0);
    assert_int_equal(co_journal_opening(journal, "r2", 1, &err), 0);
    assert_int_equal(co_journal_turn_back(journal, "r2", 1, &err), CO_E_CONFLICT);
    assert_int_equal(co_journal_opened(journal, "r2", 1, &err), 0);
    assert_int_equal(co_journal_run(journal, "r2", &row, &err), 0);
    assert_true(row.opening && row.opened && row.decision == CO_DECISION_COMMIT);
    assert_int_equal(co_journal_last_done(journal, &row, &err), CO_E_STATE);
    assert_int_equal(co_journal_end(journal, "r2", 1, "done", 0, 44, 55, &err), 0);
    assert_int_equal(co_journal_last_done(journal, &row, &err), 0);
    assert_string_equal(row.id, "r2");
    /* what moved the primary counts, what followed or set up does not */
    static const struct {
        const char *id, *kind, *last;
    } later[] = {{"r3", "follow_up", "r2"}, {"r4", "setup", "r2"}, {"r5", "rollback_lost", "r5"}, {"r6", "rollback", "r6"}};
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        struct co_run_row run = make_run(later[i].id);
        snprintf(run.kind, sizeof run.kind, "%s", later[i].kind);
        assert_int_equal(co_journal_begin(journal, &run, NULL, &err), 0);
        assert_int_equal(co_journal_end(journal, later[i].id, 1, "done", 0, -1, -1, &err), 0);
        assert_int_equal(co_journal_last_done(journal, &row, &err), 0);
        assert_string_equal(row.id, later[i].last);
    }
    co_journal_close(journal);
}

/* ---------------------------------------------------------------- batches and the log */

static bool count_any(const struct co_lag_row *row, void *arg)
{
    return row && ++*(int *)arg;
}

static void a_batch_is_all_or_nothing(void **state)
{
    struct co_journal *journal = open_journal(*state, CO_JOURNAL_WRITE);
    struct co_error err;
    json_t *dump = NULL;
    begin_run(journal, "r1");
    assert_int_equal(co_journal_batch(journal, true, &err), 0);
    assert_int_equal(co_journal_batch(journal, false, &err), CO_E_INTERNAL);
    for (int i = 0; i < 50; i++)
        assert_int_equal(co_journal_event(journal, "r1", "", "test", "in the batch", &err), 0);
    /* a reader sees none of it before the end */
    struct co_journal *reader = open_journal(*state, CO_JOURNAL_READ);
    assert_int_equal(co_journal_dump(reader, NULL, &dump, &err), 0);
    assert_int_equal(json_array_size(json_object_get(dump, "events")), 1);
    json_decref(dump);
    assert_int_equal(co_journal_batch_end(journal, &err), 0);
    assert_int_equal(co_journal_dump(reader, NULL, &dump, &err), 0);
    assert_int_equal(json_array_size(json_object_get(dump, "events")), 51);
    json_decref(dump);
    co_journal_close(reader);
    assert_int_equal(co_journal_batch_end(journal, &err), 0);
    co_journal_close(journal);
}

static void a_decision_ends_an_open_batch(void **state)
{
    struct co_journal *journal = open_journal(*state, CO_JOURNAL_WRITE);
    struct co_error err;
    begin_run(journal, "r1");
    assert_int_equal(co_journal_batch(journal, false, &err), 0);
    assert_int_equal(co_journal_event(journal, "r1", "", "test", "kept", &err), 0);
    assert_int_equal(decide(journal, "r1", 1, CO_DECISION_UNDO), 0);
    assert_int_equal(co_journal_event(journal, "r1", "", "test", "after", &err), 0);
    assert_int_equal(co_journal_batch_end(journal, &err), 0);
    json_t *dump = NULL;
    assert_int_equal(co_journal_dump(journal, NULL, &dump, &err), 0);
    assert_int_equal(json_array_size(json_object_get(dump, "events")), 4);
    json_decref(dump);
    co_journal_close(journal);
}

static bool log_is_there(const struct place *place)
{
    char wal[PATH_MAX + 8];
    snprintf(wal, sizeof wal, "%s-wal", place->path);
    return access(wal, F_OK) == 0;
}

/* The log of a run that isn't ended stays a log, whoever closes last; afterwards one file is all there is. */
static void the_log_stays_until_the_run_has_ended(void **state)
{
    struct place *place = *state;
    struct co_error err;
    struct co_journal *tool = open_journal(place, CO_JOURNAL_WRITE);
    begin_run(tool, "r1");
    assert_int_equal(co_journal_hold(tool, &err), 0);
    assert_int_equal(co_journal_reserve(tool, &err), 0);
    struct co_journal *guardian = open_journal(place, CO_JOURNAL_WRITE), *bystander = open_journal(place, CO_JOURNAL_WRITE);
    assert_int_equal(co_journal_adopt_lock(guardian, dup(co_journal_lock_fd(tool))), 0);
    /* a bystander's sample isn't worth the write lock now */
    struct co_lag_row sample = {.pair = "p", .direction = "a_to_b", .state = "open"};
    int count = 0;
    assert_int_equal(co_journal_lag(bystander, &sample, &err), 0);
    assert_int_equal(co_journal_lag_each(tool, NULL, 0, count_any, &count, &err), 0);
    assert_int_equal(count, 0);
    assert_int_equal(co_journal_lag(tool, &sample, &err), 0);
    assert_int_equal(co_journal_lag_each(tool, NULL, 0, count_any, &count, &err), 0);
    assert_int_equal(count, 1);
    co_journal_close(tool);
    co_journal_close(guardian);
    co_journal_close(bystander);
    assert_true(log_is_there(place));
    tool = open_journal(place, CO_JOURNAL_WRITE);
    guardian = open_journal(place, CO_JOURNAL_WRITE);
    assert_int_equal(co_journal_take(tool, "r1", 1, "tool-2", 1, &err), 0);
    assert_int_equal(co_journal_end(tool, "r1", 2, "undone", 4, -1, -1, &err), 0);
    co_journal_close(tool);
    co_journal_close(guardian);
    assert_false(log_is_there(place));
}

/* ---------------------------------------------------------------- record, notes, dump */

static bool collect(const char *step, void *arg)
{
    co_text_add(arg, "%s;", step);
    return true;
}

static bool collect_note(const char *side, const char *key, const char *value, void *arg)
{
    co_text_add(arg, "%s.%s=%s;", side, key, value);
    return true;
}

static void the_record_comes_back(void **state)
{
    struct co_journal *journal = open_journal(*state, CO_JOURNAL_WRITE);
    struct co_error err, failure;
    int64_t phase = 0, step = 0;
    begin_run(journal, "r1");
    assert_int_equal(co_journal_phase_begin(journal, "r1", "fence", &phase, &err), 0);
    struct co_step_row row = {.pair = "orders",
                              .side = "a",
                              .phase = "fence",
                              .step = "fence.deny",
                              .action = "intent",
                              .statement = "ALTER DATABASE shop"};
    assert_int_equal(co_journal_step_begin(journal, "r1", &row, &step, &err), 0);
    row.step = "fence.sessions";
    assert_int_equal(co_journal_step_begin(journal, "r1", &row, &step, &err), 0);
    row.action = "apply";
    assert_int_equal(co_journal_step_begin(journal, "r1", &row, &step, &err), 0);
    assert_int_equal(co_journal_step_end(journal, step, "done", "2 sessions \xff ended", &err), 0);
    co_fail(&failure, CO_E_TIMEOUT, "too slow");
    assert_int_equal(co_journal_phase_end(journal, phase, "failed", &failure, &err), 0);
    assert_int_equal(co_journal_fact(journal, "r1", "orders", "a", "before", "setting", "wal_level", "logical", &err), 0);
    assert_int_equal(co_journal_fact(journal, "r1", "orders", "a", "before", "setting", "wal_level", "", &err), 0);
    assert_int_equal(co_journal_finding(journal, "r1", "orders", "b", "x", CO_WARNING, "m", "r", true, &err), 0);
    assert_int_equal(co_journal_position(journal, "r1", "orders", "a", "capture", "0/1", &err), 0);
    CO_TEXT_AUTO names = CO_TEXT_INIT;
    assert_int_equal(co_journal_intents(journal, "r1", "orders", collect, &names, &err), 0);
    assert_string_equal(co_text_str(&names), "fence.deny;fence.sessions;");

    json_t *dump = NULL;
    assert_int_equal(co_journal_dump(journal, "r1", &dump, &err), 0);
    const char *outcome, *code, *detail, *value, *severity, *position, *pair;
    json_int_t ms;
    json_t *instance;
    assert_int_equal(
        json_unpack(dump, "{s:[{s:s, s:I, s:{s:s}}], s:[o, o, {s:s}], s:[{s:s}], s:[{s:s}], s:[{s:s}], s:[{s:s, s:{s:o}}]}",
                    "phases", "outcome", &outcome, "ms", &ms, "error", "code", &code, "steps", &instance, &instance, "detail",
                    &detail, "facts", "value", &value, "findings", "severity", &severity, "positions", "position", &position,
                    "pairs", "name", &pair, "a", "instance", &instance),
        0);
    assert_string_equal(outcome, "failed");
    assert_string_equal(code, "timeout");
    assert_string_equal(detail, "2 sessions \xef\xbf\xbd ended");
    assert_string_equal(value, "");
    assert_string_equal(severity, "warning");
    assert_string_equal(position, "0/1");
    assert_string_equal(pair, "orders");
    assert_true(json_is_null(instance));
    json_decref(dump);
    assert_int_equal(co_journal_list_runs(journal, &dump, &err), 0);
    assert_int_equal(json_array_size(dump), 1);
    json_decref(dump);
    assert_int_equal(co_journal_dump(journal, "other", &dump, &err), CO_E_STATE);
    co_journal_close(journal);
}

static void notes_and_identities(void **state)
{
    struct co_journal *journal = open_journal(*state, CO_JOURNAL_WRITE);
    struct co_error err;
    assert_int_equal(co_journal_note_put(journal, "r1", "p", "a", "k", "v", &err), 0);
    assert_int_equal(co_journal_note_put(journal, "r1", "p", "b", "k", "w", &err), 0);
    assert_int_equal(co_journal_note_put(journal, "", "p", "a", "k", "pair", &err), 0);
    assert_int_equal(co_journal_note_put(journal, "r1", "p", "a", "k", "v2", &err), 0);
    assert_int_equal(co_journal_note_put(journal, "r1", "p", "b", "k", NULL, &err), 0);
    CO_TEXT_AUTO notes = CO_TEXT_INIT;
    assert_int_equal(co_journal_notes(journal, "r1", "p", collect_note, &notes, &err), 0);
    assert_string_equal(co_text_str(&notes), "a.k=v2;");
    co_text_clear(&notes);
    assert_int_equal(co_journal_notes(journal, "", "p", collect_note, &notes, &err), 0);
    assert_string_equal(co_text_str(&notes), "a.k=pair;");
    CO_TEXT_AUTO instance = CO_TEXT_INIT;
    CO_TEXT_AUTO lineage = CO_TEXT_INIT;
    assert_int_equal(co_journal_identity(journal, "p", "a", &instance, &lineage, &err), 0);
    assert_string_equal(co_text_str(&instance), "");
    assert_int_equal(co_journal_identity_put(journal, "p", "a", "i1", "l1", &err), 0);
    assert_int_equal(co_journal_identity_put(journal, "p", "a", "i2", "l1", &err), 0);
    assert_int_equal(co_journal_identity(journal, "p", "a", &instance, &lineage, &err), 0);
    assert_string_equal(co_text_str(&instance), "i2");
    assert_string_equal(co_text_str(&lineage), "l1");
    co_journal_close(journal);
}

static bool count_lag(const struct co_lag_row *row, void *arg)
{
    if (row->lag_ms != -1 || strcmp(row->pair, "p") != 0)
        fail_msg("lag_ms %lld", (long long)row->lag_ms);
    return ++*(int *)arg < 3;
}

static void lag_is_kept_in_order(void **state)
{
    struct co_journal *journal = open_journal(*state, CO_JOURNAL_WRITE);
    struct co_error err;
    struct co_lag_row row = {.pair = "p",
                             .direction = "a_to_b",
                             .state = "open",
                             .lag_ms = -1,
                             .lag_at_least_ms = 5,
                             .lag_bytes = -1,
                             .lag_transactions = -1};
    for (int i = 1; i <= 5; i++) {
        row.wall_ms = i * 1000;
        assert_int_equal(co_journal_lag(journal, &row, &err), 0);
    }
    int count = 0;
    assert_int_equal(co_journal_lag_each(journal, "p", 4000, count_lag, &count, &err), 0);
    assert_int_equal(count, 2);
    count = 0;
    assert_int_equal(co_journal_lag_each(journal, NULL, 0, count_lag, &count, &err), 0);
    assert_int_equal(count, 3); /* fn ended it */
    count = 0;
    assert_int_equal(co_journal_lag_each(journal, "q", 0, count_lag, &count, &err), 0);
    assert_int_equal(count, 0);
    co_journal_close(journal);
}

/* ---------------------------------------------------------------- secrets */

static bool file_contains(const char *path, const char *needle)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    static char content[16 << 20];
    size_t bytes = fread(content, 1, sizeof content, file);
    fclose(file);
    return memmem(content, bytes, needle, strlen(needle)) != NULL;
}

static void no_secret_reaches_the_files(void **state)
{
    struct place *place = *state;
    static char long_text[600 << 10];
    struct co_journal *journal = open_journal(place, CO_JOURNAL_WRITE);
    struct co_error err;
    int64_t row = 0;
    co_mask_add("hunter2secret");
    struct co_run_row run = make_run("r1");
    snprintf(run.operator_name, sizeof run.operator_name, "hunter2secret");
    assert_int_equal(co_journal_begin(journal, &run, NULL, &err), 0);
    struct co_step_row step = {.pair = "hunter2secret",
                               .side = "a",
                               .phase = "p",
                               .step = "s",
                               .action = "apply",
                               .statement = "ALTER USER x PASSWORD 'hunter2secret'"};
    assert_int_equal(co_journal_step_begin(journal, "r1", &step, &row, &err), 0);
    assert_int_equal(co_journal_step_end(journal, row, "done", "said hunter2secret", &err), 0);
    assert_int_equal(co_journal_note_put(journal, "r1", "p", "a", "k", "hunter2secret", &err), 0);
    assert_int_equal(co_journal_fact(journal, "r1", "p", "a", "before", "setting", "n", "hunter2secret", &err), 0);
    /* a secret that lies across the place where a long text is cut */
    memset(long_text, 'x', sizeof long_text - 1);
    memcpy(long_text + (256 << 10) - 5, "hunter2secret", 13);
    memcpy(long_text + (512 << 10) - 5, "hunter2secret", 13);
    assert_int_equal(co_journal_event(journal, "r1", "", "hook", long_text, &err), 0);
    char wal[PATH_MAX + 8];
    snprintf(wal, sizeof wal, "%s-wal", place->path);
    assert_true(file_contains(wal, "ALTER USER x PASSWORD"));
    assert_false(file_contains(wal, "hunter2secret"));
    assert_false(file_contains(wal, "xhunte"));
    co_journal_close(journal);
    assert_true(file_contains(place->path, "ALTER USER x PASSWORD"));
    assert_false(file_contains(place->path, "hunter2secret"));
    assert_false(file_contains(place->path, "xhunte"));
    assert_true(file_contains(place->path, "[cut]"));
}

/* ---------------------------------------------------------------- which files are accepted */

static int try_open(const struct place *place, const char *migration, enum co_journal_mode mode, struct co_error *err)
{
    struct co_journal *journal = NULL;
    int result = co_journal_open(place->path, migration, mode, &journal, err);
    co_journal_close(journal);
    return result;
}

static void files_are_private(void **state)
{
    struct place *place = *state;
    static const char *const suffixes[] = {"", "-wal", "-shm", ".lock"};
    struct co_error err;
    mode_t old = umask(0);
    struct co_journal *journal = open_journal(place, CO_JOURNAL_WRITE);
    assert_int_equal(co_journal_hold(journal, &err), 0);
    umask(old);
    for (size_t i = 0; i < 4; i++) {
        char name[PATH_MAX + 8];
        struct stat info;
        snprintf(name, sizeof name, "%s%s", place->path, suffixes[i]);
        assert_int_equal(stat(name, &info), 0);
        assert_int_equal(info.st_mode & 07777, 0600);
    }
    co_journal_close(journal);
    chmod(place->path, 0640);
    assert_int_equal(try_open(place, "shop", CO_JOURNAL_WRITE, &err), CO_E_PRIVILEGE);
    assert_contains(err.hint, "chmod 600");
    assert_int_equal(try_open(place, "shop", CO_JOURNAL_READ, &err), 0);
    chmod(place->path, 0600);
    chmod(place->folder, 0777);
    assert_int_equal(try_open(place, "shop", CO_JOURNAL_WRITE, &err), CO_E_PRIVILEGE);
    assert_contains(err.message, "writable by everybody");
    chmod(place->folder, 0700);
    if (geteuid() == 0) {
        assert_int_equal(chown(place->path, 65534, 65534), 0);
        assert_int_equal(try_open(place, "shop", CO_JOURNAL_WRITE, &err), CO_E_PRIVILEGE);
        assert_contains(err.message, "65534");
    }
}

static void missing_folders_are_made_private(void **state)
{
    struct place *place = *state;
    struct stat info;
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s/x", place->folder);
    snprintf(place->path, sizeof place->path, "%s/x/y/shop.journal", place->folder);
    co_journal_close(open_journal(place, CO_JOURNAL_WRITE));
    assert_int_equal(stat(folder, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0700);
}

static void a_file_that_is_no_journal_of_this_migration_is_refused(void **state)
{
    struct place *place = *state;
    struct co_error err;
    assert_int_equal(try_open(place, "shop", CO_JOURNAL_READ, &err), CO_E_STATE);
    assert_contains(err.message, "no journal");
    co_journal_close(open_journal(place, CO_JOURNAL_WRITE));
    assert_int_equal(try_open(place, "other", CO_JOURNAL_WRITE, &err), CO_E_MISMATCH);
    assert_contains(err.message, "\"shop\"");
    assert_int_equal(try_open(place, "other", CO_JOURNAL_READ, &err), CO_E_MISMATCH);
    assert_int_equal(try_open(place, NULL, CO_JOURNAL_READ, &err), 0);

    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(place->path, &db), SQLITE_OK);
    sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL);
    sqlite3_close(db);
    assert_int_equal(try_open(place, "shop", CO_JOURNAL_WRITE, &err), CO_E_UNSUPPORTED);
    assert_contains(err.message, "schema 99");
    assert_int_equal(try_open(place, "shop", CO_JOURNAL_READ, &err), CO_E_UNSUPPORTED);
    assert_int_equal(sqlite3_open(place->path, &db), SQLITE_OK);
    sqlite3_exec(db, "PRAGMA user_version = 1; PRAGMA application_id = 5", NULL, NULL, NULL);
    sqlite3_close(db);
    assert_int_equal(try_open(place, "shop", CO_JOURNAL_WRITE, &err), CO_E_STATE);
    assert_contains(err.message, "not a journal");
}

static void damage_is_named_with_what_to_do(void **state)
{
    struct place *place = *state;
    struct co_error err;
    unit_file(place->folder, "shop.journal", "", 0600);
    assert_int_equal(try_open(place, "shop", CO_JOURNAL_WRITE, &err), CO_E_STATE);
    assert_contains(err.message, "empty");
    unit_file(place->folder, "shop.journal", "this is no database at all, whatever its name says; it is far too short", 0600);
    assert_int_equal(try_open(place, "shop", CO_JOURNAL_WRITE, &err), CO_E_IO);
    assert_contains(err.hint, "damaged");
    assert_int_equal(try_open(place, "shop", CO_JOURNAL_READ, &err), CO_E_IO);
    assert_contains(err.hint, "damaged");
    unlink(place->path);
    co_journal_close(open_journal(place, CO_JOURNAL_WRITE));
    /* a page in the middle: the schema's */
    int fd = open(place->path, O_WRONLY | O_CLOEXEC);
    char garbage[4000];
    memset(garbage, 0x5a, sizeof garbage);
    assert_int_equal(pwrite(fd, garbage, sizeof garbage, 100), sizeof garbage);
    close(fd);
    assert_int_equal(try_open(place, "shop", CO_JOURNAL_WRITE, &err), CO_E_IO);
    assert_contains(err.hint, "damaged");
}

static void a_log_without_its_journal_is_never_replayed_into_a_new_one(void **state)
{
    struct place *place = *state;
    struct co_error err;
    unit_file(place->folder, "shop.journal-wal", "frames of another journal", 0600);
    assert_int_equal(try_open(place, "shop", CO_JOURNAL_WRITE, &err), CO_E_STATE);
    assert_contains(err.message, "is gone");
    assert_int_equal(access(place->path, F_OK), -1);
}

/* Runs this program again (a fork alone would share SQLite's memory) without root's right to write
 * everywhere: its exit status. */
static int as_nobody(const struct place *place, const char *what)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
            _exit(99);
        execl("/proc/self/exe", "journal_test", what, place->path, (char *)NULL);
        _exit(98);
    }
    return wait_child(pid);
}

static int read_one_run(const struct place *place)
{
    struct co_journal *journal = NULL;
    struct co_error err = {0};
    json_t *dump = NULL;
    if (co_journal_open(place->path, "shop", CO_JOURNAL_READ, &journal, &err) || co_journal_dump(journal, NULL, &dump, &err)) {
        fprintf(stderr, "%s (%s)\n", err.message, err.hint);
        return 1;
    }
    int events = (int)json_array_size(json_object_get(dump, "events"));
    json_decref(dump);
    co_journal_close(journal);
    return 100 + events;
}

static int refused_for_writing(const struct place *place)
{
    struct co_error err = {0};
    return try_open(place, "shop", CO_JOURNAL_WRITE, &err) == CO_E_PRIVILEGE ? 0 : 1;
}

static void a_read_only_journal_can_be_read(void **state)
{
    struct place *place = *state;
    char wal[PATH_MAX + 8], shm[PATH_MAX + 8];
    struct co_journal *journal = open_journal(place, CO_JOURNAL_WRITE);
    struct co_error err;
    begin_run(journal, "r1");
    /* in use, -wal and -shm readable, nothing writable */
    snprintf(wal, sizeof wal, "%s-wal", place->path);
    snprintf(shm, sizeof shm, "%s-shm", place->path);
    chmod(place->path, 0444);
    chmod(wal, 0444);
    chmod(shm, 0444);
    chmod(place->folder, 0555);
    assert_int_equal(as_nobody(place, "read"), 101);
    assert_int_equal(co_journal_event(journal, "r1", "", "test", "later", &err), 0);
    assert_int_equal(as_nobody(place, "read"), 102);
    assert_int_equal(as_nobody(place, "write"), 0);
    /* closed: the file alone, in a folder where no -shm can be made */
    chmod(place->folder, 0755);
    co_journal_close(journal);
    assert_int_equal(access(wal, F_OK), -1);
    chmod(place->folder, 0555);
    assert_int_equal(as_nobody(place, "read"), 102);
    chmod(place->folder, 0755);
}

static void copy_file(const char *from, const char *to)
{
    static char content[16 << 20];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ssize_t bytes = read(in, content, sizeof content);
    assert_true(bytes > 0 && write(out, content, (size_t)bytes) == bytes);
    close(in);
    close(out);
}

static void a_log_that_cant_be_read_is_not_ignored(void **state)
{
    struct place *place = *state;
    struct place copy;
    char wal[PATH_MAX + 8], copy_wal[PATH_MAX + 8];
    struct co_journal *journal = open_journal(place, CO_JOURNAL_WRITE);
    begin_run(journal, "r1");
    char *folder = NULL, *path = NULL;
    assert_true(asprintf(&folder, "%s/copy", place->folder) > 0 && asprintf(&path, "%s/shop.journal", folder) > 0);
    snprintf(copy.folder, sizeof copy.folder, "%s", folder);
    snprintf(copy.path, sizeof copy.path, "%s", path);
    free(folder);
    free(path);
    assert_int_equal(mkdir(copy.folder, 0755), 0);
    snprintf(wal, sizeof wal, "%s-wal", place->path);
    snprintf(copy_wal, sizeof copy_wal, "%s-wal", copy.path);
    copy_file(place->path, copy.path);
    copy_file(wal, copy_wal);
    chmod(place->folder, 0755);
    chmod(copy.path, 0444);
    chmod(copy_wal, 0444);
    chmod(copy.folder, 0555);
    /* -wal but no -shm, and none can be made: refused, not answered from the old file alone */
    assert_int_equal(as_nobody(&copy, "read"), 1);
    chmod(copy.folder, 0755);
    co_journal_close(journal);
}

/* ---------------------------------------------------------------- the lock */

static void the_lock_is_exclusive_and_inherited(void **state)
{
    struct place *place = *state;
    struct co_error err;
    struct co_journal *tool = open_journal(place, CO_JOURNAL_WRITE);
    struct co_journal *other = open_journal(place, CO_JOURNAL_WRITE);
    struct co_journal *guardian = open_journal(place, CO_JOURNAL_WRITE);
    char pid[32];
    assert_int_equal(co_journal_lock_fd(tool), -1);
    assert_int_equal(co_journal_hold(tool, &err), 0);
    assert_int_equal(co_journal_hold(tool, &err), 0);
    assert_true(fcntl(co_journal_lock_fd(tool), F_GETFD) & FD_CLOEXEC);
    assert_int_equal(co_journal_hold(other, &err), CO_E_CONFLICT);
    snprintf(pid, sizeof pid, "process %d", (int)getpid());
    assert_contains(err.message, pid);
    assert_contains(err.message, "since 20");

    /* a guardian shares it: the tool's end doesn't release it */
    int inherited = dup(co_journal_lock_fd(tool));
    assert_int_equal(co_journal_adopt_lock(guardian, inherited), 0);
    co_journal_close(tool);
    assert_int_equal(co_journal_hold(other, &err), CO_E_CONFLICT);
    assert_contains(err.message, pid);
    co_journal_release(guardian);
    assert_int_equal(co_journal_hold(other, &err), 0);

    /* what isn't the inherited lock isn't adopted */
    char name[PATH_MAX + 8];
    snprintf(name, sizeof name, "%s.lock", place->path);
    int fresh = open(name, O_RDWR | O_CLOEXEC), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(co_journal_adopt_lock(guardian, fresh), CO_E_CONFLICT);
    assert_int_equal(co_journal_adopt_lock(guardian, null), CO_E_STATE);
    close(fresh);
    close(null);
    co_journal_close(other);
    co_journal_close(guardian);
}

int main(int argc, char **argv)
{
    struct place place = {0};
    if (argc == 3) {
        snprintf(place.path, sizeof place.path, "%s", argv[2]);
        return strcmp(argv[1], "read") == 0 ? read_one_run(&place) : refused_for_writing(&place);
    }
#define JOURNAL_TEST(name) cmocka_unit_test_setup_teardown(name, make_place, remove_place)
    const struct CMUnitTest tests[] = {
        JOURNAL_TEST(one_run_at_a_time),
        JOURNAL_TEST(a_run_left_unfinished_is_found_again),
        JOURNAL_TEST(only_allowed_decisions_are_taken),
        JOURNAL_TEST(a_process_that_was_taken_over_decides_nothing),
        JOURNAL_TEST(a_late_commit_is_refused),
        JOURNAL_TEST(turning_back_ends_with_the_opening),
        JOURNAL_TEST(a_batch_is_all_or_nothing),
        JOURNAL_TEST(a_decision_ends_an_open_batch),
        JOURNAL_TEST(the_log_stays_until_the_run_has_ended),
        JOURNAL_TEST(the_record_comes_back),
        JOURNAL_TEST(notes_and_identities),
        JOURNAL_TEST(lag_is_kept_in_order),
        JOURNAL_TEST(no_secret_reaches_the_files),
        JOURNAL_TEST(files_are_private),
        JOURNAL_TEST(missing_folders_are_made_private),
        JOURNAL_TEST(a_file_that_is_no_journal_of_this_migration_is_refused),
        JOURNAL_TEST(damage_is_named_with_what_to_do),
        JOURNAL_TEST(a_log_without_its_journal_is_never_replayed_into_a_new_one),
        JOURNAL_TEST(a_read_only_journal_can_be_read),
        JOURNAL_TEST(a_log_that_cant_be_read_is_not_ignored),
        JOURNAL_TEST(the_lock_is_exclusive_and_inherited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
