/* report_test.c - a report holds what an auditor needs, in every format, and nothing that breaks the format. */
#include "journal_test.h"

#include "report/layout.h"
#include "report/report.h"

static struct co_journal *journal;
static struct co_error err;

static void step(const char *action, const char *name, const char *side, const char *statement, const char *result,
                 const char *detail)
{
    int64_t row = 0;
    struct co_step_row at = {
        .pair = "orders", .side = side, .phase = "fence", .step = name, .action = action, .statement = statement};
    assert_int_equal(co_journal_step_begin(journal, "r1", &at, &row, &err), 0);
    if (result)
        assert_int_equal(co_journal_step_end(journal, row, result, detail, &err), 0);
}

static void phase(const char *name, const char *outcome, const struct co_error *failure)
{
    int64_t row = 0;
    assert_int_equal(co_journal_phase_begin(journal, "r1", name, &row, &err), 0);
    if (outcome)
        assert_int_equal(co_journal_phase_end(journal, row, outcome, failure, &err), 0);
}

static void fact(const char *moment, const char *group, const char *name, const char *value)
{
    assert_int_equal(co_journal_fact(journal, "r1", "orders", "a", moment, group, name, value, &err), 0);
}

static void record(const struct place *place)
{
    struct co_error failure;
    journal = open_journal(place, CO_JOURNAL_WRITE);
    begin_run(journal, "r1");
    phase("check", "done", NULL);
    step("intent", "fence.deny", "a", "", NULL, NULL);
    phase("fence", "done", NULL);
    step("apply", "fence.deny", "a", "ALTER DATABASE \"shop\"\n  ALLOW_CONNECTIONS false", "done", "");
    step("apply", "fence.sessions", "a", "SELECT pg_terminate_backend(...)", "effect_unknown", "server closed the connection");
    step("hook", "hook:switch[0]", "", "/usr/local/bin/point-traffic-at b", "done",
         "moved `web` | \x1b[31mred\x1b[0m <b>&\n```\nend");
    co_fail(&failure, CO_E_TIMEOUT, "b did not catch up in 5 s");
    co_hint(&failure, "Look at the load on b.");
    phase("catch_up", "failed", &failure);
    phase("undo", NULL, NULL);
    fact("before", "version", "server", "15.20");
    fact("after", "version", "server", "15.20");
    fact("before", "setting", "wal_keep_size", "1GB");
    fact("after", "setting", "wal_keep_size", "2GB");
    fact("before", "setting", "only_seen_before", "x");
    assert_int_equal(co_journal_finding(journal, "r1", "orders", "b", "collation_differs", CO_WARNING, "glibc differs",
                                        "REINDEX DATABASE shop", true, &err),
                     0);
    assert_int_equal(co_journal_position(journal, "r1", "orders", "a", "capture", "0/3000148", &err), 0);
    assert_int_equal(co_journal_event(journal, "r1", "", "fault", "operator sent SIGINT", &err), 0);
    assert_int_equal(co_journal_identity_put(journal, "orders", "a", "7:db1", "7311", &err), 0);
    assert_int_equal(decide(journal, "r1", 1, CO_DECISION_UNDO), 0);
    assert_int_equal(co_journal_end(journal, "r1", 1, "undone", 4, 5123, 5200, &err), 0);
}

static int set_up(void **state)
{
    make_place(state);
    record(*state);
    return 0;
}

static int tear_down(void **state)
{
    co_journal_close(journal);
    return remove_place(state);
}

static void json_has_what_scripts_need(void **state)
{
    (void)state;
    json_t *document = NULL;
    const char *schema, *outcome, *primary, *name, *before, *after, *part, *migration;
    int pause, exit_code;
    assert_int_equal(co_report_json(journal, NULL, &document, &err), 0);
    assert_int_equal(json_unpack(document, "{s:s, s:i, s:[], s:s, s:s, s:s, s:{s:i, s:[{s:s}, {s:s}]}, s:[{s:s, s:s, s:s}!]}",
                                 "schema", &schema, "exit_code", &exit_code, "errors", "outcome", &outcome, "primary", &primary,
                                 "migration", &migration, "write_pause", "ms", &pause, "parts", "phase", &part, "phase", &part,
                                 "changes", "name", &name, "before", &before, "after", &after),
                     0);
    assert_string_equal(schema, "changeover.report/1");
    assert_string_equal(outcome, "undone");
    assert_string_equal(primary, "a");
    assert_string_equal(migration, "shop");
    assert_string_equal(part, "catch_up");
    assert_int_equal(pause, 5123);
    assert_string_equal(name, "wal_keep_size");
    assert_string_equal(before, "1GB");
    assert_string_equal(after, "2GB");
    assert_int_equal(json_array_size(json_object_get(document, "changes")), 1);
    json_decref(document);
    assert_int_equal(co_report_json(journal, "none", &document, &err), CO_E_STATE);
}

static char *render(enum co_report_format format)
{
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    if (co_report_render(journal, "r1", format, &text, &err))
        fail_msg("render: %s", err.message);
    return co_text_take(&text);
}

static void every_format_tells_everything(void **state)
{
    static const char *const needles[] = {
        "alice",
        "db1.example",
        "undone",
        "5.1 s",
        "ALLOW",
        "CONNECTIONS false",
        "SELECT pg",
        "server closed the connection",
        "b did not catch up in 5 s",
        "Look at the load on b.",
        "15.20",
        "1GB",
        "2GB",
        "differs",
        "collation",
        "REINDEX DATABASE shop",
        "accepted in the config",
        "0/3000148",
        "operator sent SIGINT",
        "point-traffic-at b",
        "7:db1",
        "not seen to end",
        "The old primary takes writes.",
    };
    (void)state;
    for (int format = CO_REPORT_TEXT; format <= CO_REPORT_HTML; format++) {
        if (format == CO_REPORT_JSON)
            continue;
        CO_AUTOFREE char *text = render((enum co_report_format)format);
        for (size_t i = 0; i < sizeof needles / sizeof needles[0]; i++)
            assert_contains(text, needles[i]);
        assert_lacks(text, "\x1b");
    }
}

static void markup_in_values_stays_text(void **state)
{
    (void)state;
    CO_AUTOFREE char *html = render(CO_REPORT_HTML);
    assert_contains(html, "&lt;b&gt;&amp;");
    assert_lacks(html, "<b>");
    CO_AUTOFREE char *markdown = render(CO_REPORT_MARKDOWN);
    assert_contains(markdown, "````\nmoved `web` | ?[31mred"); /* the fence is longer than what is inside */
    CO_AUTOFREE char *json = render(CO_REPORT_JSON);
    json_t *parsed = json_loads(json, 0, NULL);
    assert_non_null(parsed);
    json_decref(parsed);
}

static void a_secret_that_becomes_known_later_is_masked(void **state)
{
    (void)state;
    co_mask_add("point-traffic-at");
    for (int format = CO_REPORT_TEXT; format <= CO_REPORT_HTML; format++) {
        CO_AUTOFREE char *text = render((enum co_report_format)format);
        assert_lacks(text, "point-traffic-at");
    }
}

static void cells_cant_break_a_table(void **state)
{
    (void)state;
    struct co_layout layout;
    CO_TEXT_AUTO out = CO_TEXT_INIT;
    co_layout_begin(&layout, CO_REPORT_MARKDOWN, &out, "t");
    co_layout_table(&layout, 2);
    co_layout_row(&layout, (const char *const[]){"a|b", "line\nbreak"});
    co_layout_row(&layout, (const char *const[]){NULL, "\xc2\x9b"
                                                       "31m"});
    co_layout_table_end(&layout);
    co_layout_end(&layout);
    assert_string_equal(co_text_str(&out), "# t\n\n| a\\|b | line<br>break |\n| --- | --- |\n| - | ?31m |\n\n");
}

static void next_fits_the_state(void **state)
{
    static const struct {
        enum co_decision decision;
        bool opening;
        const char *needle;
    } cases[] = {{CO_DECISION_NONE, false, "`changeover abort` to back out"},
                 {CO_DECISION_DECIDING, false, "is asked"},
                 {CO_DECISION_UNDO, false, "go back"},
                 {CO_DECISION_COMMIT, false, "abort --b-is-lost"},
                 {CO_DECISION_COMMIT, true, "may be open already"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char id[16];
        json_t *document = NULL;
        snprintf(id, sizeof id, "n%zu", i);
        begin_run(journal, id);
        if (cases[i].decision)
            assert_int_equal(decide(journal, id, 1, cases[i].decision), 0);
        if (cases[i].opening)
            assert_int_equal(co_journal_opening(journal, id, 1, &err), 0);
        assert_int_equal(co_report_json(journal, id, &document, &err), 0);
        assert_contains(json_string_value(json_object_get(document, "next")), cases[i].needle);
        assert_true(json_is_null(json_object_get(document, "primary")));
        json_decref(document);
        assert_int_equal(co_journal_end(journal, id, 1, "done", 0, -1, -1, &err), 0);
    }
    CO_TEXT_AUTO list = CO_TEXT_INIT;
    assert_int_equal(co_report_list(journal, CO_REPORT_TEXT, &list, &err), 0);
    assert_contains(co_text_str(&list), "undone");
    assert_int_equal(co_report_list(journal, CO_REPORT_JSON, &list, &err), 0);
    assert_contains(co_text_str(&list), "changeover.runs/1");
}

/* An unfinished run whose record shows that all is open has a primary. */
static int count(const char *text, const char *needle)
{
    int found = 0;
    for (const char *at = text; (at = strstr(at, needle)); at++)
        found++;
    return found;
}

/* Hundreds of calls until a server follows are one entry; what wasn't seen to be done is one, too. */
static void repeated_calls_are_one_entry(void **state)
{
    (void)state;
    for (int i = 0; i < 30; i++) {
        step("apply", "reverse.follow", "a", "START REPLICA", i < 29 ? "again" : "done", "");
        step("apply", "reverse.rewind", "b", "REWIND", "again", "");
    }
    CO_AUTOFREE char *text = render(CO_REPORT_TEXT);
    assert_int_equal(count(text, "START REPLICA"), 1);
    assert_contains(text, "reverse.follow: done, the last of 30 calls");
    assert_int_equal(count(text, "REWIND\n"), 1);
    assert_contains(text, "reverse.rewind: again, the last of 30 calls");
}

static void an_opened_run_has_a_primary(void **state)
{
    (void)state;
    json_t *document = NULL;
    begin_run(journal, "o1");
    assert_int_equal(decide(journal, "o1", 1, CO_DECISION_COMMIT), 0);
    assert_int_equal(co_journal_opening(journal, "o1", 1, &err), 0);
    assert_int_equal(co_journal_opened(journal, "o1", 1, &err), 0);
    assert_int_equal(co_journal_end(journal, "o1", 1, "unfinished", 5, 40, -1, &err), 0);
    assert_int_equal(co_report_json(journal, "o1", &document, &err), 0);
    assert_string_equal(json_string_value(json_object_get(document, "outcome")), "unfinished");
    assert_string_equal(json_string_value(json_object_get(document, "primary")), "b");
    assert_contains(json_string_value(json_object_get(document, "next")), "switch, confirm, reverse");
    json_decref(document);
}

static void formats_have_names(void **state)
{
    (void)state;
    enum co_report_format format;
    assert_int_equal(co_report_format_parse("md", &format, &err), 0);
    assert_int_equal(format, CO_REPORT_MARKDOWN);
    assert_int_equal(co_report_format_parse("pdf", &format, &err), CO_E_CONFIG);
    assert_contains(err.message, "markdown");
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--show") == 0) { /* for eyes */
        struct place *place;
        make_place((void **)&place);
        record(place);
        for (int format = CO_REPORT_TEXT; format <= CO_REPORT_HTML; format++) {
            char *text = render((enum co_report_format)format);
            puts(text);
            free(text);
        }
        co_journal_close(journal);
        return remove_place((void **)&place);
    }
#define REPORT_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        REPORT_TEST(json_has_what_scripts_need),
        REPORT_TEST(every_format_tells_everything),
        REPORT_TEST(markup_in_values_stays_text),
        REPORT_TEST(next_fits_the_state),
        REPORT_TEST(repeated_calls_are_one_entry),
        REPORT_TEST(an_opened_run_has_a_primary),
        REPORT_TEST(a_secret_that_becomes_known_later_is_masked),
        cmocka_unit_test(cells_cant_break_a_table),
        cmocka_unit_test(formats_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
