/* journal_bench.c - what the journal costs in a write pause: a step's begin and end, a note, a decision.
 * Prints microseconds: median, 99th percentile, maximum. Usage: journal_bench [folder] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "journal/journal.h"

#define COUNT 2000

static int64_t taken[COUNT];

static int compare(const void *one, const void *other)
{
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

static void show(const char *what, size_t count)
{
    qsort(taken, count, sizeof taken[0], compare);
    printf("%-28s n=%-5zu median %8.1f us   p99 %8.1f us   max %8.1f us\n", what, count, (double)taken[count / 2] / 1e3,
           (double)taken[count * 99 / 100] / 1e3, (double)taken[count - 1] / 1e3);
}

static void must(int result, const struct co_error *err)
{
    if (result == 0)
        return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

static void begin_a_run(struct co_journal *journal, int number, char id[24])
{
    struct co_error err;
    struct co_run_row row = {.epoch = 1, .pid = getpid()};
    snprintf(id, 24, "bench-%d", number);
    snprintf(row.id, sizeof row.id, "%s", id);
    snprintf(row.kind, sizeof row.kind, "cutover");
    snprintf(row.actor, sizeof row.actor, "tool-1");
    must(co_journal_begin(journal, &row, NULL, &err), &err);
    must(co_journal_reserve(journal, &err), &err);
}

int main(int argc, char **argv)
{
    char folder[512], path[600], id[24];
    struct co_journal *journal = NULL;
    struct co_error err;
    static int64_t begins[COUNT], ends[COUNT];
    snprintf(folder, sizeof folder, "%s/journal-bench-XXXXXX", argc > 1 ? argv[1] : ".");
    if (!mkdtemp(folder))
        return perror("mkdtemp"), 1;
    snprintf(path, sizeof path, "%s/bench.journal", folder);
    int64_t at = co_now_ns();
    must(co_journal_open(path, "bench", CO_JOURNAL_WRITE, &journal, &err), &err);
    printf("%-28s %.1f ms\n", "making and opening", (double)(co_now_ns() - at) / 1e6);

    begin_a_run(journal, 0, id);
    for (int i = 0; i < COUNT / 4; i++) { /* as many as the reserved space holds */
        int64_t row;
        struct co_step_row step = {.pair = "orders",
                                   .side = "a",
                                   .phase = "fence",
                                   .step = "fence.deny_connections",
                                   .action = "apply",
                                   .statement = "ALTER DATABASE \"shop\" WITH ALLOW_CONNECTIONS false"};
        at = co_now_ns();
        must(co_journal_step_begin(journal, id, &step, &row, &err), &err);
        int64_t middle = co_now_ns();
        must(co_journal_step_end(journal, row, "done", "", &err), &err);
        begins[i] = middle - at;
        ends[i] = co_now_ns() - middle;
    }
    memcpy(taken, begins, sizeof taken);
    show("step_begin", COUNT / 4);
    memcpy(taken, ends, sizeof taken);
    show("step_end", COUNT / 4);
    for (int i = 0; i < COUNT / 4; i++) {
        at = co_now_ns();
        must(co_journal_note_put(journal, id, "orders", "a", "captured", i % 2 ? "0/3000148" : "0/3000150", &err), &err);
        taken[i] = co_now_ns() - at;
    }
    show("note_put", COUNT / 4);
    must(co_journal_end(journal, id, 1, "undone", 4, -1, -1, &err), &err);

    for (int i = 0; i < 60; i++) {
        int64_t row;
        struct co_step_row step = {.pair = "orders", .phase = "fence", .step = "s", .action = "apply", .statement = "x"};
        begin_a_run(journal, i + 1, id);
        for (int k = 0; k < 20; k++) /* what the fsync takes along */
            must(co_journal_step_begin(journal, id, &step, &row, &err), &err);
        at = co_now_ns();
        must(co_journal_decide(journal, id, 1, CO_DECISION_COMMIT, 0, false, NULL, &err), &err);
        begins[i] = co_now_ns() - at;
        at = co_now_ns();
        must(co_journal_opening(journal, id, 1, &err), &err);
        ends[i] = co_now_ns() - at;
        must(co_journal_end(journal, id, 1, "done", 0, 1, 1, &err), &err);
    }
    memcpy(taken, begins, sizeof taken);
    show("decide (commit)", 60);
    memcpy(taken, ends, sizeof taken);
    show("opening", 60);
    at = co_now_ns();
    must(co_journal_take(journal, (begin_a_run(journal, 99, id), id), 1, "guardian-1", 1, &err), &err);
    printf("%-28s %.1f ms (with begin and reserve)\n", "take", (double)(co_now_ns() - at) / 1e6);
    co_journal_close(journal);
    static const char *const suffixes[] = {"", "-wal", "-shm", ".lock"};
    for (size_t i = 0; i < 4; i++) {
        char name[700];
        snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        unlink(name);
    }
    rmdir(folder);
    return 0;
}
