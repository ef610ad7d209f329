/* cli_test.c - help, manual, completion and config reference agree with the tables and with the files that are kept
 * in the repository; documents hold what they promise; the formats of lag. */
#include "unit.h"

#include "base/secret.h"
#include "cli/internal.h"
#include "config/schema.h"

static void same_as_file(const char *name, const struct co_text *made)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", CO_SOURCE_DIR, name);
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("%s is missing: build the target generate-docs", path);
    size_t capacity = made->bytes + 2;
    char *kept = calloc(1, capacity);
    assert_non_null(kept);
    size_t bytes = fread(kept, 1, capacity - 1, file);
    fclose(file);
    if (bytes != made->bytes || memcmp(kept, co_text_str(made), bytes) != 0)
        fail_msg("%s differs from what the tables say: build the target generate-docs", name);
    free(kept);
}

static void the_kept_files_are_current(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        void (*make)(struct co_text *ret);
    } files[] = {{"docs/man/changeover.1.scd", co_help_manual},
                 {"docs/man/changeover.yaml.5.scd", co_config_manual},
                 {"docs/config.md", co_config_reference},
                 {"packaging/completion/changeover.bash", co_help_completion}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        CO_TEXT_AUTO made = CO_TEXT_INIT;
        files[i].make(&made);
        same_as_file(files[i].file, &made);
    }
}

/* The part of the manual about one command: from its heading to the next. */
static char *manual_part(const struct co_text *manual, const char *command)
{
    CO_AUTOFREE char *heading = co_printf("\n## %s", command);
    const char *start = strstr(co_text_str(manual), heading);
    if (!start)
        fail_msg("the manual has no heading for %s", command);
    const char *end = strstr(start + 1, "\n#");
    char *part = strndup(start, (size_t)(end - start));
    assert_non_null(part);
    return part;
}

static void help_manual_and_completion_agree(void **state)
{
    (void)state;
    CO_TEXT_AUTO usage = CO_TEXT_INIT;
    CO_TEXT_AUTO manual = CO_TEXT_INIT;
    CO_TEXT_AUTO completion = CO_TEXT_INIT;
    co_help_usage(&usage);
    co_help_manual(&manual);
    co_help_completion(&completion);
    for (size_t i = 0; i < co_command_count; i++) {
        const struct co_command_spec *command = &co_commands[i];
        CO_AUTOFREE char *line = co_printf("\n  %s ", command->name);
        if (command->hidden) {
            assert_lacks(usage.data, line);
            continue;
        }
        CO_TEXT_AUTO help = CO_TEXT_INIT;
        co_help_command(command, &help);
        CO_AUTOFREE char *part = manual_part(&manual, command->name);
        assert_contains(usage.data, line);
        assert_contains(completion.data, command->name);
        for (size_t k = 0; k < CO_OPTION_COUNT; k++) {
            const struct co_option_spec *option = &co_options[k];
            CO_AUTOFREE char *word = co_printf("--%s%s", option->name, option->arity == CO_ARITY_OPTIONAL ? "[=" : "");
            bool global = option->commands == CO_ALL_COMMANDS;
            if (global) {
                assert_contains(usage.data, word);
                assert_contains(manual.data, word);
            } else if (co_option_applies(option, command)) {
                assert_contains(help.data, word);
                assert_contains(part, word);
                assert_contains(completion.data, option->name);
            } else {
                CO_AUTOFREE char *exact = co_printf("--%s ", option->name);
                assert_lacks(help.data, exact);
            }
        }
    }
}

static void tables_are_sound(void **state)
{
    (void)state;
    for (size_t i = 0; i < CO_OPTION_COUNT; i++) {
        const struct co_option_spec *option = &co_options[i];
        assert_int_equal(option->id, i);
        assert_non_null(option->help);
        assert_int_equal(option->arity != CO_ARITY_NONE, option->argument != NULL);
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(option->name, co_options[k].name);
            assert_true(!option->letter || option->letter != co_options[k].letter);
        }
    }
    for (size_t i = 0; i < co_command_count; i++) {
        assert_true(co_commands[i].id < 32); /* a bit each */
        assert_ptr_equal(co_command_find(co_commands[i].name), &co_commands[i]);
        if (!co_commands[i].hidden) {
            assert_non_null(co_commands[i].run);
            assert_non_null(co_commands[i].description);
        }
    }
    assert_null(co_command_find("Lag"));
    assert_int_equal(co_exit_specs[0].code, 0);
    for (size_t i = 1; i < co_exit_count; i++)
        assert_true(co_exit_specs[i].code > co_exit_specs[i - 1].code);
}

static void every_error_has_an_exit_code_of_the_table(void **state)
{
    (void)state;
    for (int code = CO_E_SERVER; code <= 0; code++) {
        bool known = false;
        for (size_t i = 0; i < co_exit_count; i++)
            known |= co_exit_specs[i].code == co_cli_exit_code(code);
        assert_true(known);
    }
    assert_int_equal(co_cli_exit_code(CO_E_CONFIG), 65);
    assert_int_equal(co_cli_exit_code(CO_E_CONFLICT), 75);
    assert_int_equal(co_cli_exit_code(CO_E_UNREACHABLE), 3);
}

static void texts_become_valid_json(void **state)
{
    (void)state;
    co_mask_add("cli-test-secret");
    static const struct {
        const char *in, *out;
    } texts[] = {{"plain", "plain"},
                 {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
                 {"latin \xe9!", "latin \xef\xbf\xbd!"},
                 {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
                 {"cut \xe2\x82", "cut \xef\xbf\xbd\xef\xbf\xbd"},
                 {"with cli-test-secret.", "with ***."}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        json_t *value = co_json_text(texts[i].in);
        assert_string_equal(json_string_value(value), texts[i].out);
        json_decref(value);
    }
    assert_true(json_is_null(co_json_text(NULL)));
    assert_true(json_is_null(co_json_known("")));
    assert_true(json_is_null(co_json_count(-1)));
    assert_true(json_is_null(co_json_tristate(CO_UNKNOWN)));
    assert_true(json_is_false(co_json_tristate(CO_NO)));
}

static json_t *lag_document(void)
{
    json_t *doc = json_object(), *pairs = json_array();
    struct co_lag_sample samples[] = {
        {.state = CO_GATE_OPEN,
         .lag_ms = 12,
         .lag_at_least_ms = -1,
         .lag_bytes = 0,
         .lag_transactions = -1,
         .piled_up_bytes = -1},
        {.state = CO_GATE_CLOSED,
         .lag_ms = 70500,
         .lag_at_least_ms = -1,
         .lag_bytes = -1,
         .lag_transactions = 3,
         .piled_up_bytes = 5,
         .primary = CO_SIDE_B},
        {.state = CO_GATE_UNKNOWN,
         .lag_ms = -1,
         .lag_at_least_ms = -1,
         .lag_bytes = -1,
         .lag_transactions = -1,
         .piled_up_bytes = -1},
    };
    static const char *const names[] = {"orders", "sessions", "a\"b"};
    co_text_set_str(&samples[2].reason, "no | answer\nat all");
    for (size_t i = 0; i < 3; i++)
        (void)json_array_append_new(pairs, co_cli_lag_pair(names[i], &samples[i]));
    co_text_done(&samples[2].reason);
    co_json_set(doc, "migration", json_string("shop"));
    co_json_set(doc, "gate", json_string("unknown"));
    co_json_set(doc, "pairs", pairs);
    return doc;
}

static void unknown_is_never_a_number(void **state)
{
    (void)state;
    json_t *doc = lag_document();
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    co_cli_lag_prometheus(doc, &text);
    assert_contains(text.data, "changeover_lag_seconds{migration=\"shop\",pair=\"orders\",direction=\"a_to_b\"} 0.012\n");
    assert_contains(text.data, "changeover_lag_seconds{migration=\"shop\",pair=\"sessions\",direction=\"b_to_a\"} 70.500\n");
    assert_contains(text.data, "changeover_gate_open{migration=\"shop\",pair=\"a\\\"b\",direction=\"a_to_b\"} 0\n");
    assert_contains(text.data, "changeover_link_up{migration=\"shop\",pair=\"sessions\",direction=\"b_to_a\"} 1\n");
    assert_lacks(text.data, "changeover_lag_seconds{migration=\"shop\",pair=\"a");
    assert_lacks(text.data, "changeover_link_up{migration=\"shop\",pair=\"a");
    assert_lacks(text.data, "-1");
    co_text_clear(&text);
    co_cli_lag_text(doc, &text);
    assert_contains(text.data, "gate unknown\n  orders (a to b): open, lag 12 ms, 0 B\n");
    assert_contains(text.data, "sessions (b to a): closed, lag 1 m 10 s, 3 transactions\n");
    assert_contains(text.data, "unknown, lag unknown: no | answer");
    json_decref(doc);
}

static void nagios_states(void **state)
{
    (void)state;
    struct co_config *config = NULL;
    struct co_error err;
    const char *yaml = "pairs:\n  - {name: orders, a: {url: 'r://a'}, b: {url: 'r://b'}}\n"
                       "  - {name: sessions, a: {url: 'r://c'}, b: {url: 'r://d'}, gate: {critical_seconds: 60}}\n";
    assert_int_equal(co_config_parse("x", yaml, strlen(yaml), false, &config, &err), 0);
    json_t *doc = lag_document(), *pairs = json_object_get(doc, "pairs");
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    assert_int_equal(co_cli_lag_nagios(doc, config, &text), 3);
    assert_contains(text.data, "CHANGEOVER UNKNOWN - orders open, lag 12 ms");
    assert_contains(text.data, "(no   answer at all) | 'orders'=0.012s;1.000;;0 'sessions'=70.500s;1.000;60.000;0\n");
    (void)json_array_remove(pairs, 2);
    co_text_clear(&text);
    assert_int_equal(co_cli_lag_nagios(doc, config, &text), 2); /* past critical_seconds */
    (void)json_object_set_new(json_array_get(pairs, 1), "lag_ms", json_integer(2000));
    assert_int_equal(co_cli_lag_nagios(doc, config, &text), 1);
    (void)json_array_remove(pairs, 1);
    assert_int_equal(co_cli_lag_nagios(doc, config, &text), 0);
    (void)json_array_remove(pairs, 0);
    assert_int_equal(co_cli_lag_nagios(doc, config, &text), 3); /* nothing measured is not OK */
    json_decref(doc);
    co_config_free(config);
}

static void the_template_loads(void **state)
{
    (void)state;
    static const struct co_option options[] = {
        {"mode", CO_OPT_PAIR, CO_OPT_ENUM, "x|y", "x", "Mode."},
        {"setup.method", CO_OPT_PAIR, CO_OPT_STRING, NULL, NULL, "How."},
        {"host.data", CO_OPT_SIDE, CO_OPT_STRING, NULL, NULL, "Where."},
    };
    static const struct co_driver driver = {.name = "x", .options = options, .option_count = 3};
    struct co_template values = {
        .migration = "shop", .pair = "orders", .engine = "x", .driver = &driver, .url = {"x://u@a/d\"q", "x://b?\\=1"}};
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    struct co_config *config = NULL;
    struct co_error err = {0};
    co_config_template(&values, &text);
    if (co_config_parse("/t.yaml", text.data, text.bytes, false, &config, &err) != 0)
        fail_msg("%s", err.message);
    assert_string_equal(config->migration, "shop");
    assert_string_equal(config->pairs[0].name, "orders");
    assert_string_equal(config->pairs[0].side[CO_SIDE_A].endpoint.database, "d\"q");
    co_config_free(config);
    /* every key of the schema is in it */
    for (size_t i = 0; i < co_schema_count; i++) {
        const char *name = strrchr(co_schema[i].name, '.');
        if (co_schema[i].scope != CO_SCHEMA_HOOK && co_schema[i].scope != CO_SCHEMA_ACCOUNT)
            assert_contains(text.data, name ? name + 1 : co_schema[i].name);
    }
    /* and stays good when every comment is taken away: what it shows is what the loader takes */
    CO_TEXT_AUTO bare = CO_TEXT_INIT;
    for (const char *at = text.data; *at;) {
        size_t bytes = strcspn(at, "\n") + 1;
        const char *hash = memchr(at, '#', bytes);
        bool comment = hash && strspn(at, " ") == (size_t)(hash - at);
        bool key = comment && memchr(hash, ':', bytes - (size_t)(hash - at)) && strncmp(hash, "# A ", 4) != 0 &&
                   strncmp(hash, "# Next", 6) != 0;
        if (key && !strstr(hash, "a text") && strncmp(hash, "#   password_env", 16) != 0 && !strstr(hash, "password_env"))
            co_text_add(&bare, "%.*s%.*s", (int)(hash - at), at, (int)(bytes - (size_t)(hash - at) - 2), hash + 2);
        else if (!comment)
            co_text_add_bytes(&bare, at, bytes);
        at += bytes;
    }
    if (co_config_parse("/t.yaml", bare.data, bare.bytes, false, &config, &err) != 0)
        fail_msg("%s\n%s", err.message, bare.data);
    co_config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_kept_files_are_current),
        cmocka_unit_test(help_manual_and_completion_agree),
        cmocka_unit_test(tables_are_sound),
        cmocka_unit_test(every_error_has_an_exit_code_of_the_table),
        cmocka_unit_test(texts_become_valid_json),
        cmocka_unit_test(unknown_is_never_a_number),
        cmocka_unit_test(nagios_states),
        cmocka_unit_test(the_template_loads),
    };
    return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}
