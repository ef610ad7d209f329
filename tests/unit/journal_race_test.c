/* journal_race_test.c - several processes and threads on one journal, and writers that are killed: exactly one
 * wins, and what was answered is there. */
#include "journal_test.h"

#include <pthread.h>
#include <sys/mman.h>

#define RACERS 4
#define ROUNDS 12

static struct shared {
    volatile int ready[RACERS];
    volatile int go;
    int won[RACERS];
    volatile long acknowledged; /* of a writer that is killed */
    volatile int decided;
} * shared;

/* All start at once: each says that it is there and waits for the start. */
static void at_the_line(int racer)
{
    __atomic_store_n(&shared->ready[racer], 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&shared->go, __ATOMIC_SEQ_CST))
        sched_yield();
}

static int race(const struct place *place, int (*fn)(struct co_journal *journal, int racer))
{
    pid_t racers[RACERS];
    int winners = 0;
    memset(shared, 0, sizeof *shared);
    for (int i = 0; i < RACERS; i++) {
        racers[i] = fork();
        if (racers[i] == 0) {
            struct co_journal *journal = open_journal(place, CO_JOURNAL_WRITE);
            at_the_line(i);
            int result = fn(journal, i);
            shared->won[i] = result == 0;
            co_journal_close(journal);
            _exit(result == 0 || result == CO_E_CONFLICT ? 0 : 1);
        }
    }
    for (int i = 0; i < RACERS; i++)
        while (!__atomic_load_n(&shared->ready[i], __ATOMIC_SEQ_CST) && waitpid(racers[i], NULL, WNOHANG) == 0)
            sched_yield();
    __atomic_store_n(&shared->go, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < RACERS; i++) {
        if (wait_child(racers[i]) != 0)
            fail_msg("racer %d failed otherwise than by a conflict", i);
        winners += shared->won[i];
    }
    return winners;
}

static char run_id[16];

static int begin_one(struct co_journal *journal, int racer)
{
    char id[24];
    struct co_error err;
    snprintf(id, sizeof id, "%s-%d", run_id, racer);
    struct co_run_row row = make_run(id), other;
    return co_journal_begin(journal, &row, &other, &err);
}

static int take_one(struct co_journal *journal, int racer)
{
    struct co_error err;
    char actor[16];
    snprintf(actor, sizeof actor, "racer-%d", racer);
    return co_journal_take(journal, run_id, 1, actor, getpid(), &err);
}

static int decide_one(struct co_journal *journal, int racer)
{
    return decide(journal, run_id, 1, racer % 2 ? CO_DECISION_COMMIT : CO_DECISION_UNDO);
}

/* Even ones take the run over, odd ones commit at the old epoch: both can win only in one order. */
static int take_or_commit(struct co_journal *journal, int racer)
{
    return racer % 2 ? decide(journal, run_id, 1, CO_DECISION_COMMIT) : take_one(journal, racer);
}

static void one_begins(void **state)
{
    struct co_error err;
    co_journal_close(open_journal(*state, CO_JOURNAL_WRITE));
    for (int i = 0; i < ROUNDS; i++) {
        snprintf(run_id, sizeof run_id, "r%d", i);
        assert_int_equal(race(*state, begin_one), 1);
        struct co_journal *journal = open_journal(*state, CO_JOURNAL_WRITE);
        struct co_run_row row;
        assert_int_equal(co_journal_unfinished(journal, &row, &err), 0);
        assert_true(shared->won[row.id[strlen(row.id) - 1] - '0']);
        assert_int_equal(co_journal_end(journal, row.id, 1, "refused", 1, -1, -1, &err), 0);
        co_journal_close(journal);
    }
}

static void next_round(const struct place *place, int i)
{
    struct co_error err;
    struct co_run_row row;
    struct co_journal *journal = open_journal(place, CO_JOURNAL_WRITE);
    if (co_journal_unfinished(journal, &row, &err) == 0)
        assert_int_equal(co_journal_end(journal, row.id, row.epoch, "undone", 4, -1, -1, &err), 0);
    snprintf(run_id, sizeof run_id, "r%d", i);
    begin_run(journal, run_id);
    co_journal_close(journal);
}

static void one_takes_over(void **state)
{
    for (int i = 0; i < ROUNDS; i++) {
        next_round(*state, i);
        assert_int_equal(race(*state, take_one), 1);
    }
}

static void one_decision_stands(void **state)
{
    for (int i = 0; i < ROUNDS; i++) {
        next_round(*state, i);
        /* those who want what stands win too */
        assert_int_equal(race(*state, decide_one), RACERS / 2);
        struct co_journal *journal = open_journal(*state, CO_JOURNAL_WRITE);
        enum co_decision expected = shared->won[1] ? CO_DECISION_COMMIT : CO_DECISION_UNDO;
        assert_int_equal(standing_decision(journal, run_id), expected);
        assert_int_equal(shared->won[0], !shared->won[1]);
        co_journal_close(journal);
    }
}

static void who_was_taken_over_does_not_commit_afterwards(void **state)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct co_run_row row;
        struct co_error err;
        next_round(*state, i);
        race(*state, take_or_commit);
        struct co_journal *journal = open_journal(*state, CO_JOURNAL_WRITE);
        assert_int_equal(co_journal_run(journal, run_id, &row, &err), 0);
        assert_int_equal(row.epoch, 2);
        bool committed = shared->won[1] || shared->won[3];
        assert_int_equal(row.decision, committed ? CO_DECISION_COMMIT : CO_DECISION_NONE);
        assert_int_equal(decide(journal, run_id, 1, CO_DECISION_COMMIT), CO_E_CONFLICT);
        co_journal_close(journal);
    }
}

static int create_one(const struct place *place)
{
    struct co_journal *journal = NULL;
    struct co_error err;
    at_the_line(0);
    int result = co_journal_open(place->path, "shop", CO_JOURNAL_WRITE, &journal, &err);
    if (result)
        fprintf(stderr, "%s\n", err.message);
    co_journal_close(journal);
    return result ? 1 : 0;
}

static void all_may_make_it_at_once(void **state)
{
    const struct place *place = *state;
    for (int round = 0; round < ROUNDS; round++) {
        pid_t makers[RACERS];
        memset(shared, 0, sizeof *shared);
        char wal[PATH_MAX + 8];
        snprintf(wal, sizeof wal, "%s-wal", place->path);
        unlink(place->path);
        unlink(wal); /* two that close at the same moment both leave it */
        for (int i = 0; i < RACERS; i++)
            if ((makers[i] = fork()) == 0)
                _exit(create_one(place));
        __atomic_store_n(&shared->go, 1, __ATOMIC_SEQ_CST);
        for (int i = 0; i < RACERS; i++)
            assert_int_equal(wait_child(makers[i]), 0);
    }
}

/* ---------------------------------------------------------------- kill -9 */

static void write_until_killed(const struct place *place, int round)
{
    struct co_journal *journal = open_journal(place, CO_JOURNAL_WRITE);
    struct co_error err;
    struct co_run_row row;
    if (co_journal_hold(journal, &err))
        _exit(1); /* the last one's lock died with it */
    if (co_journal_unfinished(journal, &row, &err) == 0) {
        if (co_journal_take(journal, row.id, row.epoch, "tool", 1, &err) ||
            decide(journal, row.id, row.epoch + 1, row.decision ? row.decision : CO_DECISION_UNDO) ||
            co_journal_end(journal, row.id, row.epoch + 1, "undone", 4, -1, -1, &err))
            _exit(2);
    }
    snprintf(run_id, sizeof run_id, "k%d", round);
    begin_run(journal, run_id);
    if (round % 2 && co_journal_reserve(journal, &err))
        _exit(3);
    shared->acknowledged = 0;
    shared->decided = 0;
    __atomic_store_n(&shared->go, 1, __ATOMIC_SEQ_CST);
    for (long i = 1;; i++) {
        if (co_journal_event(journal, run_id, "", "count", "an event", &err))
            _exit(4);
        __atomic_store_n(&shared->acknowledged, i, __ATOMIC_SEQ_CST);
        if (i == 200) {
            if (decide(journal, run_id, 1, CO_DECISION_COMMIT))
                _exit(5);
            __atomic_store_n(&shared->decided, 1, __ATOMIC_SEQ_CST);
        }
    }
}

static void a_killed_writer_loses_nothing_that_was_answered(void **state)
{
    struct place *place = *state;
    co_journal_close(open_journal(place, CO_JOURNAL_WRITE));
    unsigned random = 12345;
    for (int round = 0; round < 25; round++) {
        memset(shared, 0, sizeof *shared);
        pid_t pid = fork();
        if (pid == 0)
            write_until_killed(place, round);
        /* killed after a seeded number of writes: from its very beginning to past the decision */
        random = random * 1103515245 + 12345;
        long target = (long)(random >> 16) % 400;
        while ((!__atomic_load_n(&shared->go, __ATOMIC_SEQ_CST) ||
                __atomic_load_n(&shared->acknowledged, __ATOMIC_SEQ_CST) < target)) {
            int status;
            if (waitpid(pid, &status, WNOHANG) == pid)
                fail_msg("round %d: writer ended with %d", round, WEXITSTATUS(status));
            sched_yield();
        }
        kill(pid, SIGKILL);
        assert_int_equal(wait_child(pid), 128 + SIGKILL);
        long acknowledged = shared->acknowledged;
        struct co_journal *journal = open_journal(place, round % 3 ? CO_JOURNAL_WRITE : CO_JOURNAL_READ);
        struct co_error err;
        json_t *dump = NULL;
        snprintf(run_id, sizeof run_id, "k%d", round);
        assert_int_equal(co_journal_dump(journal, run_id, &dump, &err), 0);
        size_t i;
        json_t *event;
        long counted = 0;
        json_array_foreach(json_object_get(dump, "events"), i, event) counted +=
            strcmp(json_string_value(json_object_get(event, "kind")), "count") == 0;
        assert_true(counted == acknowledged || counted == acknowledged + 1);
        if (shared->decided)
            assert_int_equal(standing_decision(journal, run_id), CO_DECISION_COMMIT);
        json_decref(dump);
        co_journal_close(journal);
    }
}

/* ---------------------------------------------------------------- threads */

static struct co_journal *common;

static void *write_steps(void *arg)
{
    struct co_error err;
    for (int i = 0; i < 100; i++) {
        int64_t row;
        struct co_step_row step = {.pair = arg, .side = "a", .phase = "p", .step = "s", .action = "apply", .statement = "x"};
        if (co_journal_step_begin(common, "r1", &step, &row, &err) || co_journal_step_end(common, row, "done", arg, &err) ||
            co_journal_note_put(common, "r1", arg, "a", "k", "v", &err))
            return (void *)(uintptr_t)1;
    }
    return NULL;
}

static void threads_share_a_journal(void **state)
{
    static char names[RACERS][8];
    pthread_t threads[RACERS];
    struct co_error err;
    common = open_journal(*state, CO_JOURNAL_WRITE);
    begin_run(common, "r1");
    for (int i = 0; i < RACERS; i++) {
        snprintf(names[i], sizeof names[i], "p%d", i);
        assert_int_equal(pthread_create(&threads[i], NULL, write_steps, names[i]), 0);
    }
    assert_int_equal(decide(common, "r1", 1, CO_DECISION_COMMIT), 0);
    for (int i = 0; i < RACERS; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    json_t *dump = NULL, *step;
    size_t i;
    assert_int_equal(co_journal_dump(common, NULL, &dump, &err), 0);
    assert_int_equal(json_array_size(json_object_get(dump, "steps")), RACERS * 100);
    json_array_foreach(json_object_get(dump, "steps"), i, step) /* each end met its own beginning */
        assert_string_equal(json_string_value(json_object_get(step, "pair")),
                            json_string_value(json_object_get(step, "detail")));
    json_decref(dump);
    co_journal_close(common);
}

int main(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
#define RACE_TEST(name) cmocka_unit_test_setup_teardown(name, make_place, remove_place)
    const struct CMUnitTest tests[] = {
        RACE_TEST(one_begins),
        RACE_TEST(one_takes_over),
        RACE_TEST(one_decision_stands),
        RACE_TEST(who_was_taken_over_does_not_commit_afterwards),
        RACE_TEST(all_may_make_it_at_once),
        RACE_TEST(a_killed_writer_loses_nothing_that_was_answered),
        RACE_TEST(threads_share_a_journal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
