/* torture_test.c - every allocation fails once: nothing crashes, nothing leaks, a failure is said, and what was
 * answered with success is complete.
 *
 * Each scenario runs again and again, with the next allocation failing (in turn that one alone, and all from
 * there on). CO_TORTURE_ALL=1 goes through all of them; else at most CASES, spread evenly.
 */
#include "journal_test.h"

#include "alloc.h"
#include "base/parse.h"
#include "config/config.h"
#include "report/report.h"

#define CASES 260

static const struct place *place;
static const char *doing; /* for messages */

/* ---------------------------------------------------------------- scenarios: 0, or the error's code */

static int text_scenario(void)
{
    int result = 0;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    CO_TEXT_AUTO secret = {.secret = true};
    for (int i = 0; i < 40; i++) {
        co_text_add(&text, "line %d of a text that grows\n", i);
        co_text_add_bytes(&secret, "0123456789", 10);
    }
    if (text.overflow || secret.overflow)
        result = CO_E_NOMEM;
    else if (text.bytes != 1150 || secret.bytes != 400)
        fail_msg("texts of %zu and %zu bytes counted as whole", text.bytes, secret.bytes);
    CO_AUTOFREE char *printed = co_printf("%s/%d", "path", 5);
    CO_AUTOFREE char *copy = co_strdup("copy");
    if (!printed || !copy)
        return CO_E_NOMEM;
    co_mask_text(&text);
    return text.overflow ? CO_E_NOMEM : result;
}

static const char config_text[] = "migration: shop\n"
                                  "journal: state/shop.journal\n"
                                  "pairs:\n"
                                  "  - name: orders\n"
                                  "    engine: postgresql\n"
                                  "    mode: physical\n"
                                  "    a: {url: \"postgresql://u@10.0.0.1/db?x=1\", password_env: ORDERS}\n"
                                  "    b:\n"
                                  "      url: \"postgresql://u@10.0.0.2/db\"\n"
                                  "      peer: {address: \"db2:5432\"}\n"
                                  "      host: {run: [ssh, db2], data_directory: /data}\n"
                                  "    replication: {user: r, password_file: /r}\n"
                                  "    gate: {max_seconds: 1, max_bytes: 1MiB, stable_for: 10s}\n"
                                  "    accept: [one, two]\n"
                                  "cutover:\n"
                                  "  max_write_pause: 5s\n"
                                  "  switch:\n"
                                  "    - {run: [point, \"{side}\"], timeout: 30s, retries: 2}\n"
                                  "  confirm:\n"
                                  "    - http: {url: \"https://x/healthz\", expect: 200, within: 30s}\n";

static const struct co_option options[] = {
    {"mode", CO_OPT_PAIR, CO_OPT_ENUM, "physical|logical", "physical", "the mode"},
    {"host.data_directory", CO_OPT_SIDE, CO_OPT_STRING, NULL, NULL, "the folder"},
    {"limit", CO_OPT_PAIR, CO_OPT_BYTES, NULL, "64MiB", "a limit"},
};

static int config_scenario(void)
{
    struct co_config *config = NULL;
    struct co_error err = {0};
    int result = co_config_parse("/etc/changeover/shop.yaml", config_text, strlen(config_text), false, &config, &err);
    if (!result)
        result = co_config_check_options(config, &config->pairs[0], options, sizeof options / sizeof options[0], &err);
    if (!result) {
        const struct co_pair_config *pair = &config->pairs[0];
        const struct co_option_value *limit = co_option_find(&pair->options, "limit");
        bool whole = config->pair_count == 1 && strcmp(pair->side[1].endpoint.peer_address, "db2") == 0 &&
                     strcmp(pair->side[1].host_run[1], "db2") == 0 && pair->accept && pair->accept[1] && !pair->accept[2] &&
                     config->cutover.hooks_switch.count == 1 && config->cutover.confirm.count == 1 && limit && limit->value &&
                     strcmp(limit->value, "67108864") == 0 && strlen(config->hash) == 32;
        if (!whole)
            fail_msg("a config that was taken isn't whole");
    } else if (!err.message[0]) {
        fail_msg("a config was refused without a word (%d)", result);
    }
    co_config_free(config);
    return result;
}

static int journal_life(struct co_journal *journal, struct co_error *err)
{
    int64_t row;
    struct co_run_row run = make_run("r1"), other;
    struct co_error failure = {.code = CO_E_TIMEOUT, .message = "too slow"};
    struct co_step_row step = {
        .pair = "orders", .side = "a", .phase = "fence", .step = "s", .action = "intent", .statement = "ALTER SYSTEM"};
    int result = co_journal_hold(journal, err);
    if (!result)
        result = co_journal_begin(journal, &run, &other, err);
    if (!result)
        result = co_journal_batch(journal, true, err);
    for (int i = 0; !result && i < 5; i++) {
        result = co_journal_step_begin(journal, "r1", &step, &row, err);
        if (!result)
            result = co_journal_note_put(journal, "r1", "orders", "a", "key", "value", err);
    }
    struct co_error batch;
    int ended = co_journal_batch_end(journal, &batch);
    if (!result && ended) {
        *err = batch;
        result = ended;
    }
    if (!result)
        result = co_journal_reserve(journal, err);
    if (!result)
        result = co_journal_phase_begin(journal, "r1", "fence", &row, err);
    if (!result)
        result = co_journal_phase_end(journal, row, "failed", &failure, err);
    step.action = "apply";
    if (!result)
        result = co_journal_step_begin(journal, "r1", &step, &row, err);
    if (!result)
        result = co_journal_fact(journal, "r1", "orders", "a", "before", "version", "server", "15.20", err);
    if (!result)
        result = co_journal_decide(journal, "r1", 1, CO_DECISION_COMMIT, 0, false, NULL, err);
    if (result) { /* as the cutover does it: undo, with retries */
        struct co_error ignored;
        for (int i = 0; i < 3; i++)
            if (co_journal_decide(journal, "r1", 1, CO_DECISION_UNDO, 0, true, NULL, &ignored) == 0)
                break;
        return result;
    }
    return co_journal_end(journal, "r1", 1, "done", 0, 1, 1, err);
}

static bool any_step(const char *step, void *arg)
{
    ++*(int *)arg;
    return step != NULL;
}

static int journal_scenario(void)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", ".lock"};
    struct co_journal *journal = NULL;
    struct co_error err = {0};
    for (size_t i = 0; i < 4; i++) {
        char name[PATH_MAX + 8];
        snprintf(name, sizeof name, "%s%s", place->path, suffixes[i]);
        unlink(name);
    }
    int result = co_journal_open(place->path, "shop", CO_JOURNAL_WRITE, &journal, &err);
    if (!result)
        result = journal_life(journal, &err);
    int intents = 0;
    if (!result)
        result = co_journal_intents(journal, "r1", "orders", any_step, &intents, &err);
    if (!result && intents != 5)
        fail_msg("%d intents of 5 were read without an error", intents);
    if (result && !err.message[0])
        fail_msg("the journal failed without a word (%d)", result);
    co_journal_close(journal);
    return result;
}

static int report_scenario(void)
{
    struct co_journal *journal = NULL;
    struct co_error err = {0};
    int result = co_journal_open(place->path, "shop", CO_JOURNAL_READ, &journal, &err);
    for (int format = CO_REPORT_TEXT; !result && format <= CO_REPORT_HTML; format++) {
        CO_TEXT_AUTO text = CO_TEXT_INIT;
        result = co_report_render(journal, "r1", (enum co_report_format)format, &text, &err);
        if (!result && (!strstr(co_text_str(&text), "ALTER SYSTEM") || !strstr(co_text_str(&text), "15.20") ||
                        !strstr(co_text_str(&text), "alice") || !strstr(co_text_str(&text), "too slow")))
            fail_msg("format %d is not whole, and no error was said", format);
        if (!result)
            result = co_report_list(journal, (enum co_report_format)format, &text, &err);
    }
    if (result && !err.message[0])
        fail_msg("the report failed without a word (%d)", result);
    co_journal_close(journal);
    return result;
}

/* ---------------------------------------------------------------- the harness */

static void torture(const char *name, int (*scenario)(void))
{
    doing = name;
    alloc_fail_at(0, false);
    assert_int_equal(scenario(), 0); /* warms caches up */
    long live = alloc_live();
    alloc_fail_at(0, false);
    assert_int_equal(scenario(), 0);
    long total = alloc_count();
    assert_int_equal(alloc_live(), live);
    const char *all = getenv("CO_TORTURE_ALL");
    long stride = all && all[0] == '1' ? 1 : total / CASES + 1;
    long refused = 0, cases = 0;
    for (long nth = 1; nth <= total; nth += stride) {
        alloc_fail_at(nth, cases++ % 2);
        int result = scenario();
        bool failed = alloc_stop();
        if (!failed && result)
            fail_msg("%s: refused with %d, though allocation %ld of %ld was never asked for", name, result, nth, total);
        if (alloc_live() != live)
            fail_msg("%s: %ld allocations leak after number %ld of %ld failed", name, alloc_live() - live, nth, total);
        refused += result != 0;
    }
    alloc_fail_at(0, false);
    assert_int_equal(scenario(), 0); /* nothing stays broken */
    print_message("%s: %ld allocations, %ld failed in turn, %ld times it was refused\n", name, total, cases, refused);
    assert_true(refused > 0);
}

static void texts(void **state)
{
    (void)state;
    torture("text", text_scenario);
}

static void configs(void **state)
{
    (void)state;
    torture("config", config_scenario);
}

static void journals(void **state)
{
    (void)state;
    torture("journal", journal_scenario);
}

static void reports(void **state)
{
    (void)state;
    assert_int_equal(journal_scenario(), 0);
    struct co_journal *keeps_shm = open_journal(place, CO_JOURNAL_READ);
    torture("report", report_scenario);
    co_journal_close(keeps_shm);
}

static int set_up(void **state)
{
    /* memory, where there is some: a thousand journals are made */
    if (access("/dev/shm", W_OK) == 0 && !getenv("TMPDIR"))
        setenv("TMPDIR", "/dev/shm", 1);
    make_place(state);
    place = *state;
    return 0;
}

int main(void)
{
    alloc_setup();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),
        cmocka_unit_test(configs),
        cmocka_unit_test(journals),
        cmocka_unit_test(reports),
    };
    return cmocka_run_group_tests(tests, set_up, remove_place);
}
