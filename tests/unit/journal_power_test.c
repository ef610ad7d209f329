/* journal_power_test.c - what a decision means when the disk fails, is full, or the machine goes down.
 *
 * Each case runs in a child, which the VFS of power.h ends; the parent opens what is left as any next process
 * would. Promise: what was answered with success stands, and once an undo was answered with success nobody
 * ever reads a commit.
 */
#include "journal_test.h"
#include "power.h"

#include <sys/mman.h>

/* What the child was told, seen by the parent. */
static struct told {
    char run[16];
    bool begun, opening, ended;
    int64_t epoch;
    enum co_decision decision;
    int commit_failed, undo_failed, successes;
} * told;

static char left[PATH_MAX]; /* folder with what a crash left */

static void crash(void)
{
    power_leave(left);
    _exit(42);
}

static int in_child(void (*fn)(const struct place *place), const struct place *place)
{
    pid_t pid = fork();
    if (pid == 0) {
        fn(place);
        crash();
    }
    return wait_child(pid);
}

static void open_left(const struct place *place, struct place *ret)
{
    memset(ret, 0, sizeof *ret);
    snprintf(ret->folder, sizeof ret->folder, "%.*s", (int)sizeof ret->folder - 1, left);
    snprintf(ret->path, sizeof ret->path, "%.*s/shop.journal", PATH_MAX - 16, left);
    (void)place;
}

static struct co_journal *open_in_child(const struct place *place)
{
    struct co_journal *journal = NULL;
    struct co_error err;
    /* retried: an injected failure may hit the opening itself */
    for (int i = 0; i < 20; i++)
        if (co_journal_open(place->path, "shop", CO_JOURNAL_WRITE, &journal, &err) == 0)
            return journal;
    crash();
    return NULL;
}

/* ---------------------------------------------------------------- counter-example 11 */

static void commit_fails_then_undo(const struct place *place)
{
    struct co_error err;
    enum co_decision stands;
    power_on(place->path, 1);
    struct co_journal *journal = open_in_child(place);
    begin_run(journal, "r1");
    if (co_journal_reserve(journal, &err))
        _exit(1);
    power.fail_log_syncs = 1;
    if (co_journal_decide(journal, "r1", 1, CO_DECISION_COMMIT, 0, false, &stands, &err) != CO_E_IO)
        _exit(2);
    if (!strstr(err.message, "unknown"))
        _exit(3);
    told->commit_failed = 1;
    if (power.fail_sync_percent == 0 && told->successes == 0)
        return; /* killed before the undo */
    if (co_journal_event(journal, "r1", "", "note", "in between", &err))
        _exit(4);
    if (co_journal_decide(journal, "r1", 1, CO_DECISION_UNDO, 0, true, &stands, &err) || stands != CO_DECISION_UNDO)
        _exit(5);
    told->decision = CO_DECISION_UNDO;
}

static enum co_decision read_left(const struct place *place)
{
    struct place there;
    open_left(place, &there);
    struct co_journal *journal = open_journal(&there, CO_JOURNAL_WRITE);
    enum co_decision decision = standing_decision(journal, "r1");
    co_journal_close(journal);
    return decision;
}

static void after_a_failed_commit_an_undo_stands(void **state)
{
    struct place *place = *state;
    for (int cut = 0; cut < 2; cut++) {
        unlink(place->path);
        co_journal_close(open_journal(place, CO_JOURNAL_WRITE));
        memset(told, 0, sizeof *told);
        told->successes = 1; /* go on to the undo */
        power.power_cut = cut;
        assert_int_equal(in_child(commit_fails_then_undo, place), 42);
        assert_int_equal(read_left(place), CO_DECISION_UNDO);
        char *wal = NULL;
        assert_true(asprintf(&wal, "%s-wal", place->path) > 0);
        unlink(wal);
        free(wal);
    }
}

/* The reason for the rule: the one who was told "unknown" and died may well have committed. */
static void killed_right_after_a_failed_commit_it_is_unknown(void **state)
{
    struct place *place = *state;
    co_journal_close(open_journal(place, CO_JOURNAL_WRITE));
    power.power_cut = false;
    assert_int_equal(in_child(commit_fails_then_undo, place), 42);
    assert_int_equal(told->commit_failed, 1);
    enum co_decision decision = read_left(place);
    assert_int_equal(decision, CO_DECISION_COMMIT);
    /* who comes next makes it certain before acting on it */
    struct place there;
    struct co_error err;
    open_left(place, &there);
    struct co_journal *journal = open_journal(&there, CO_JOURNAL_WRITE);
    assert_int_equal(co_journal_take(journal, "r1", 1, "tool-2", 2, &err), 0);
    assert_int_equal(decide(journal, "r1", 2, CO_DECISION_UNDO), CO_E_CONFLICT);
    assert_int_equal(decide(journal, "r1", 2, CO_DECISION_COMMIT), 0);
    co_journal_close(journal);
}

/* A commit whose answer is lost, though it is on the disk, is overwritten by its own process only. */
static void a_lost_commit_is_overwritten_by_its_writer_alone(void **state)
{
    struct co_error err;
    enum co_decision stands;
    assert_int_equal(setenv("CHANGEOVER_FAULT", "journal.commit:after=lost", 1), 0);
    assert_int_equal(co_fault_setup("CHANGEOVER_FAULT", &err), 0);
    struct co_journal *tool = open_journal(*state, CO_JOURNAL_WRITE), *other = open_journal(*state, CO_JOURNAL_WRITE);
    begin_run(tool, "r1");
    assert_int_equal(co_journal_decide(tool, "r1", 1, CO_DECISION_COMMIT, 0, false, &stands, &err), CO_E_IO);
    assert_int_equal(standing_decision(other, "r1"), CO_DECISION_COMMIT);
    assert_int_equal(co_journal_decide(other, "r1", 1, CO_DECISION_UNDO, 0, true, &stands, &err), CO_E_CONFLICT);
    assert_int_equal(co_journal_decide(tool, "r1", 1, CO_DECISION_UNDO, 0, false, &stands, &err), CO_E_CONFLICT);
    assert_int_equal(stands, CO_DECISION_COMMIT);
    assert_int_equal(co_journal_decide(tool, "r1", 1, CO_DECISION_UNDO, 0, true, &stands, &err), 0);
    assert_int_equal(standing_decision(other, "r1"), CO_DECISION_UNDO);
    assert_int_equal(co_journal_decide(tool, "r1", 1, CO_DECISION_COMMIT, 0, false, &stands, &err), CO_E_CONFLICT);
    co_journal_close(tool);
    co_journal_close(other);
    unsetenv("CHANGEOVER_FAULT");
    assert_int_equal(co_fault_setup("CHANGEOVER_FAULT", &err), 0);
}

/* ---------------------------------------------------------------- a full disk */

static void write_a_pause(const struct place *place)
{
    struct co_error err;
    power_on(place->path, 1);
    struct co_journal *journal = open_in_child(place);
    begin_run(journal, "r1");
    if (told->successes) { /* reserved beforehand */
        if (co_journal_reserve(journal, &err))
            _exit(1);
        power.log_grows_to = 0;
    } else {
        power.log_grows_to = (sqlite3_int64)64 << 10;
        if (co_journal_reserve(journal, &err) != CO_E_SPACE || !strstr(err.hint, "Free disk space"))
            _exit(2);
        told->undo_failed = 1; /* met before the fence */
        return;
    }
    for (int i = 0; i < 600; i++) {
        int64_t row;
        struct co_step_row step = {.pair = "p",
                                   .side = "a",
                                   .phase = "fence",
                                   .step = "s",
                                   .action = "apply",
                                   .statement = "ALTER SYSTEM SET something = 'that is about this long'"};
        if (co_journal_step_begin(journal, "r1", &step, &row, &err) || co_journal_step_end(journal, row, "done", "", &err))
            _exit(3);
    }
    if (decide(journal, "r1", 1, CO_DECISION_COMMIT) || co_journal_opening(journal, "r1", 1, &err))
        _exit(4);
    told->decision = CO_DECISION_COMMIT;
}

static void a_full_disk_is_met_before_the_fence(void **state)
{
    struct place *place = *state;
    co_journal_close(open_journal(place, CO_JOURNAL_WRITE));
    power.power_cut = false;
    assert_int_equal(in_child(write_a_pause, place), 42);
    assert_int_equal(told->undo_failed, 1);
    assert_int_equal(read_left(place), CO_DECISION_NONE);
}

static void a_reserved_journal_needs_no_space(void **state)
{
    struct place *place = *state;
    co_journal_close(open_journal(place, CO_JOURNAL_WRITE));
    told->successes = 1;
    power.power_cut = true;
    assert_int_equal(in_child(write_a_pause, place), 42);
    assert_int_equal(read_left(place), CO_DECISION_COMMIT);
}

/* ---------------------------------------------------------------- any failure, any moment */

static void some_records(struct co_journal *journal, unsigned count)
{
    struct co_error err;
    for (unsigned i = 0; i < count; i++) {
        int64_t row;
        struct co_step_row step = {
            .pair = "p", .side = "a", .phase = "fence", .step = "s", .action = "apply", .statement = "a statement"};
        if (co_journal_step_begin(journal, told->run, &step, &row, &err) == 0)
            co_journal_step_end(journal, row, "done", "", &err);
        co_journal_note_put(journal, told->run, "p", "a", "key", i % 2 ? "one" : "other", &err);
    }
}

/* From begin or take to a decision, with retries as a careful caller does them. */
static bool get_hold_of_a_run(struct co_journal *journal)
{
    struct co_run_row row;
    struct co_error err;
    int result = co_journal_unfinished(journal, &row, &err);
    if (result == 0) {
        if (strcmp(told->run, row.id) != 0) { /* its begin was answered with "unknown" */
            struct told found = {.successes = told->successes};
            snprintf(found.run, sizeof found.run, "%.15s", row.id);
            *told = found;
        }
        told->begun = true;
        for (int i = 0; i < 5; i++)
            if (co_journal_take(journal, row.id, row.epoch, "tool-n", 1, &err) == 0) {
                told->epoch = row.epoch + 1;
                return true;
            } else if (co_journal_unfinished(journal, &row, &err)) {
                return false;
            }
        return false;
    }
    if (result != CO_E_STATE)
        return false;
    struct told fresh = {.epoch = 1, .successes = told->successes};
    snprintf(fresh.run, sizeof fresh.run, "r%u", power_random());
    *told = fresh;
    row = make_run(fresh.run);
    if (co_journal_begin(journal, &row, NULL, &err))
        return false;
    told->begun = true;
    return true;
}

static void go_back(struct co_journal *journal)
{
    struct co_error err;
    for (int i = 0; i < 5 && told->decision != CO_DECISION_UNDO; i++)
        if (co_journal_decide(journal, told->run, told->epoch, CO_DECISION_UNDO, 0, true, NULL, &err) == 0)
            told->decision = CO_DECISION_UNDO;
    if (told->decision != CO_DECISION_UNDO)
        return;
    some_records(journal, power_random() % 5);
    if (co_journal_end(journal, told->run, told->epoch, "undone", 4, 1, 1, &err) == 0)
        told->ended = true;
}

static void go_forward(struct co_journal *journal)
{
    struct co_error err;
    if (co_journal_decide(journal, told->run, told->epoch, CO_DECISION_COMMIT, 0, false, NULL, &err)) {
        go_back(journal);
        return;
    }
    told->decision = CO_DECISION_COMMIT;
    some_records(journal, power_random() % 3);
    if (co_journal_opening(journal, told->run, told->epoch, &err))
        return;
    told->opening = true;
    some_records(journal, power_random() % 3);
    if (co_journal_end(journal, told->run, told->epoch, "done", 0, 1, 1, &err) == 0)
        told->ended = true;
}

static void live(const struct place *place)
{
    power_on(place->path, (unsigned long long)told->successes);
    power.crash = crash;
    power.power_cut = power_random() % 3 != 0;
    power.fail_sync_percent = (int)(power_random() % 4) * 15;
    power.crash_in = 1 + power_random() % (power_random() % 2 ? 60 : 400);
    struct co_journal *journal = open_in_child(place);
    for (int i = 0; i < 6; i++) {
        struct co_run_row row;
        struct co_error err;
        if (!get_hold_of_a_run(journal))
            continue;
        if (power_random() % 2)
            co_journal_reserve(journal, &err);
        some_records(journal, power_random() % 8);
        if (power_random() % 4 == 0 && co_journal_batch(journal, power_random() % 2, &err) == 0) {
            some_records(journal, power_random() % 40);
            co_journal_batch_end(journal, &err);
        }
        if (co_journal_run(journal, told->run, &row, &err))
            continue;
        if (row.decision == CO_DECISION_UNDO || (row.decision == CO_DECISION_NONE && power_random() % 3 == 0))
            go_back(journal);
        else
            go_forward(journal);
    }
}

static void check_left(const struct place *there, int seed)
{
    struct co_journal *journal = NULL;
    struct co_error err;
    struct co_run_row row;
    sqlite3 *db = NULL;
    sqlite3_stmt *check = NULL;
    if (co_journal_open(there->path, "shop", CO_JOURNAL_WRITE, &journal, &err))
        fail_msg("seed %d: open: %s", seed, err.message);
    if (told->begun) {
        if (co_journal_run(journal, told->run, &row, &err))
            fail_msg("seed %d: run %s: %s", seed, told->run, err.message);
        bool holds = row.epoch >= told->epoch && (!told->opening || row.opening) && (!told->ended || row.ended_wall_ms) &&
                     (told->decision == CO_DECISION_NONE || row.decision == told->decision);
        if (!holds)
            fail_msg("seed %d: run %s: told epoch %lld decision %d opening %d ended %d, read %lld %d %d %lld", seed, told->run,
                     (long long)told->epoch, told->decision, told->opening, told->ended, (long long)row.epoch, row.decision,
                     row.opening, (long long)row.ended_wall_ms);
    }
    co_journal_close(journal);
    assert_int_equal(sqlite3_open(there->path, &db), SQLITE_OK);
    sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &check, NULL);
    if (sqlite3_step(check) != SQLITE_ROW || strcmp((const char *)sqlite3_column_text(check, 0), "ok") != 0)
        fail_msg("seed %d: damaged: %s", seed, (const char *)sqlite3_column_text(check, 0));
    sqlite3_finalize(check);
    sqlite3_close(db);
}

static void replace(const char *from, const char *to)
{
    if (rename(from, to) < 0 && errno != ENOENT)
        fail_msg("rename %s", from);
}

/* Generations: each begins with what the last crash left. */
static void what_was_answered_stands_after_any_crash(void **state)
{
    struct place *place = *state;
    const char *rounds_text = getenv("CO_POWER_ROUNDS"), *seed_text = getenv("CO_POWER_SEED");
    int rounds = rounds_text ? (int)strtol(rounds_text, NULL, 10) : 60,
        first = seed_text ? (int)strtol(seed_text, NULL, 10) : 1;
    static const char *const suffixes[] = {"", "-wal"};
    struct place there;
    int decided = 0, failed = 0;
    co_journal_close(open_journal(place, CO_JOURNAL_WRITE));
    open_left(place, &there);
    for (int seed = first; seed < first + rounds; seed++) {
        told->successes = seed;
        int status = in_child(live, place);
        if (status != 42)
            fail_msg("seed %d: child ended with %d", seed, status);
        for (int i = 0; i < 2; i++) {
            char from[PATH_MAX + 8], to[PATH_MAX + 8];
            snprintf(from, sizeof from, "%s-shm", i ? place->path : there.path);
            unlink(from);
            snprintf(from, sizeof from, "%s%s", there.path, suffixes[i]);
            snprintf(to, sizeof to, "%s%s", place->path, suffixes[i]);
            unlink(to);
            replace(from, to);
        }
        check_left(place, seed);
        decided += told->decision != CO_DECISION_NONE;
        failed += !told->begun;
    }
    assert_true(decided > rounds / 10); /* else it tests nothing */
    assert_true(failed < rounds / 2);
}

static int set_up(void **state)
{
    make_place(state);
    struct place *place = *state;
    snprintf(left, sizeof left, "%s/left", place->folder);
    mkdir(left, 0700);
    memset(told, 0, sizeof *told);
    return 0;
}

int main(void)
{
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (told == MAP_FAILED)
        return 1;
#define POWER_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, remove_place)
    const struct CMUnitTest tests[] = {
        POWER_TEST(after_a_failed_commit_an_undo_stands),
        POWER_TEST(killed_right_after_a_failed_commit_it_is_unknown),
        POWER_TEST(a_lost_commit_is_overwritten_by_its_writer_alone),
        POWER_TEST(a_full_disk_is_met_before_the_fence),
        POWER_TEST(a_reserved_journal_needs_no_space),
        POWER_TEST(what_was_answered_stands_after_any_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
