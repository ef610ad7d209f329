/* journal_test.h - what the tests of the journal share: a journal in a folder of its own, and runs in it. */
#ifndef CO_TESTS_JOURNAL_TEST_H
#define CO_TESTS_JOURNAL_TEST_H

#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/secret.h"
#include "journal/journal.h"

struct place {
    char folder[PATH_MAX - 64];
    char path[PATH_MAX];
};

static UNIT_UNUSED int make_place(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    snprintf(place->folder, sizeof place->folder, "%s", unit_folder());
    snprintf(place->path, sizeof place->path, "%s/shop.journal", place->folder);
    *state = place;
    return 0;
}

static UNIT_UNUSED int remove_place(void **state)
{
    struct place *place = *state;
    unit_remove(place->folder);
    free(place);
    return 0;
}

static UNIT_UNUSED struct co_journal *open_journal(const struct place *place, enum co_journal_mode mode)
{
    struct co_journal *journal = NULL;
    struct co_error err = {0};
    if (co_journal_open(place->path, "shop", mode, &journal, &err))
        fail_msg("open: %s (%s)", err.message, err.hint);
    return journal;
}

static UNIT_UNUSED struct co_run_row make_run(const char *id)
{
    struct co_run_row row = {.source = 0, .epoch = 1, .pid = getpid(), .exit_code = -1};
    snprintf(row.id, sizeof row.id, "%s", id);
    snprintf(row.kind, sizeof row.kind, "cutover");
    snprintf(row.actor, sizeof row.actor, "tool-1");
    snprintf(row.operator_name, sizeof row.operator_name, "alice");
    snprintf(row.host, sizeof row.host, "db1.example");
    snprintf(row.boot_id, sizeof row.boot_id, "boot");
    snprintf(row.config_hash, sizeof row.config_hash, "0123");
    snprintf(row.version, sizeof row.version, "0.1.0");
    return row;
}

static UNIT_UNUSED void begin_run(struct co_journal *journal, const char *id)
{
    struct co_run_row row = make_run(id), other;
    struct co_error err = {0};
    if (co_journal_begin(journal, &row, &other, &err))
        fail_msg("begin: %s", err.message);
}

static UNIT_UNUSED enum co_decision standing_decision(struct co_journal *journal, const char *id)
{
    struct co_run_row row;
    struct co_error err = {0};
    if (co_journal_run(journal, id, &row, &err))
        fail_msg("run: %s", err.message);
    return row.decision;
}

static UNIT_UNUSED int decide(struct co_journal *journal, const char *id, int64_t epoch, enum co_decision decision)
{
    struct co_error err = {0};
    return co_journal_decide(journal, id, epoch, decision, 0, false, NULL, &err);
}

/* Waits for a child; its exit status, or 128 + signal. */
static UNIT_UNUSED int wait_child(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#endif
