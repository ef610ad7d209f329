/* config_test.c - the config: the example of the documentation, every default, every refusal with its line. */
#include "unit.h"

#include "base/secret.h"
#include "config/config.h"

static const char *folder;

static int make_folder(void **state)
{
    (void)state;
    folder = unit_folder();
    setenv("CO_TEST_HOST", "10.1.1.1", 1);
    setenv("CO_TEST_SECRET", "sn3aky-value", 1);
    unsetenv("CO_TEST_UNSET");
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unit_remove(folder);
    return 0;
}

static struct co_config *parse(const char *text)
{
    struct co_config *config = NULL;
    struct co_error err = {0};
    if (co_config_parse("/etc/changeover/shop.yaml", text, strlen(text), false, &config, &err) != 0)
        fail_msg("%s", err.message);
    return config;
}

static void refused(const char *text, const char *message)
{
    struct co_config *config = NULL;
    struct co_error err = {0};
    if (co_config_parse("shop.yaml", text, strlen(text), false, &config, &err) == 0)
        fail_msg("taken: %s", text);
    assert_int_equal(err.code, CO_E_CONFIG);
    assert_contains(err.message, message);
    assert_null(config);
}

static const char example[] =
    "migration: shop\n"
    "journal: state/shop.journal\n"
    "pairs:\n"
    "  - name: orders\n"
    "    engine: postgresql            # comment\n"
    "    mode: physical\n"
    "    fence: soft\n"
    "    a: {url: \"postgresql://postgres@${CO_TEST_HOST}/postgres\", password_file: orders,"
    " tls: {mode: verify, ca: /etc/ssl/db-ca.pem}}\n"
    "    b:\n"
    "      url: \"postgresql://postgres@10.0.0.2/postgres\"\n"
    "      password_env: CO_TEST_SECRET\n"
    "      peer: {address: \"db2.internal:5432\"}\n"
    "      host:\n"
    "        run: [ssh, -o, BatchMode=yes, postgres@10.0.0.2]\n"
    "        data_directory: /var/lib/postgresql/15/main\n"
    "        start: [pg_ctlcluster, \"15\", main, start]\n"
    "    setup: {method: basebackup, replace_b: false}\n"
    "    replication: {user: replicator, password_file: /etc/changeover/replicator}\n"
    "    probe: {user: changeover_probe}\n"
    "    gate: {max_seconds: 0.5, max_bytes: 1MiB, stable_for: 1m, critical_seconds: 60}\n"
    "    drain: {timeout: 2s, on_timeout: refuse}\n"
    "    accept: [a_code, another1]\n"
    "  - name: sessions\n"
    "    engine: redis\n"
    "    a: {url: \"redis://10.0.0.1:6379\"}\n"
    "    b: {url: \"redis://localhost:6379\"}\n"
    "    accept:\n"
    "cutover:\n"
    "  open: after_switch\n"
    "  partial: yes\n"
    "  freeze: []\n"
    "  switch:\n"
    "    - {run: [/usr/local/bin/point-traffic-at, \"{side}\", \"$${HOME}\"], timeout: 90s, retries: 2}\n"
    "  confirm:\n"
    "    - http: {url: \"https://shop.example.com/healthz\", expect: 204, within: 5s}\n"
    "    - run: [true]\n";

static void the_example(void **state)
{
    (void)state;
    struct co_config *config = parse(example);
    assert_string_equal(config->migration, "shop");
    assert_string_equal(config->journal, "/etc/changeover/state/shop.journal");
    assert_int_equal(config->pair_count, 2);
    const struct co_pair_config *pair = &config->pairs[0];
    const struct co_side_config *a = &pair->side[CO_SIDE_A], *b = &pair->side[CO_SIDE_B];
    assert_string_equal(pair->name, "orders");
    assert_string_equal(pair->engine, "postgresql");
    assert_int_equal(pair->line, 4);
    assert_string_equal(a->endpoint.address, "10.1.1.1");
    assert_string_equal(a->password_file, "/etc/changeover/orders");
    assert_int_equal(a->endpoint.tls.mode, CO_TLS_VERIFY);
    assert_string_equal(a->endpoint.tls.ca, "/etc/ssl/db-ca.pem");
    assert_string_equal(a->endpoint.peer_address, "10.1.1.1");
    assert_false(a->endpoint.has_host);
    assert_null(a->host_run);
    assert_string_equal(b->password_env, "CO_TEST_SECRET");
    assert_string_equal(b->endpoint.peer_address, "db2.internal");
    assert_int_equal(b->endpoint.peer_port, 5432);
    assert_true(b->endpoint.has_host);
    assert_string_equal(b->host_run[3], "postgres@10.0.0.2");
    assert_null(b->host_run[4]);
    assert_string_equal(co_option_find(&pair->options, "mode")->value, "physical");
    assert_int_equal(co_option_find(&pair->options, "mode")->line, 6);
    assert_string_equal(co_option_find(&pair->options, "setup.method")->value, "basebackup");
    assert_string_equal(co_option_find(&b->options, "host.data_directory")->value, "/var/lib/postgresql/15/main");
    assert_string_equal(co_option_find(&b->options, "host.start")->argv[1], "15");
    assert_null(co_option_find(&b->options, "host.run"));
    assert_string_equal(pair->replication.user, "replicator");
    assert_null(pair->probe.password_file);
    assert_int_equal(pair->gate.max_ms, 500);
    assert_int_equal(pair->gate.max_bytes, 1 << 20);
    assert_int_equal(pair->gate.max_transactions, -1);
    assert_int_equal(pair->gate.stable_for_ms, 60000);
    assert_int_equal(pair->gate.critical_ms, 60000);
    assert_int_equal(pair->drain.timeout_ms, 2000);
    assert_true(pair->drain.refuse);
    assert_string_equal(pair->accept[1], "another1");
    assert_null(pair->accept[2]);
    assert_int_equal(config->pairs[1].side[CO_SIDE_A].endpoint.tls.mode, CO_TLS_VERIFY);
    assert_int_equal(config->pairs[1].side[CO_SIDE_B].endpoint.tls.mode, CO_TLS_OFF);
    assert_true(config->cutover.open_after_switch);
    assert_true(config->cutover.partial);
    assert_int_equal(config->cutover.max_write_pause_ms, 60000);
    assert_int_equal(config->cutover.freeze.count, 0);
    const struct co_hook *hook = &config->cutover.hooks_switch.items[0];
    assert_string_equal(hook->run[1], "{side}");
    assert_string_equal(hook->run[2], "${HOME}");
    assert_int_equal(hook->timeout_ms, 90000);
    assert_int_equal(hook->retries, 2);
    hook = &config->cutover.confirm.items[0];
    assert_string_equal(hook->http_url, "https://shop.example.com/healthz");
    assert_int_equal(hook->http_expect, 204);
    assert_int_equal(hook->timeout_ms, 5000);
    assert_int_equal(config->cutover.confirm.items[1].timeout_ms, 30000);
    assert_int_equal(strlen(config->hash), 32);
    co_config_free(config);
    co_config_free(NULL);
}

static void two_urls_are_enough(void **state)
{
    (void)state;
    struct co_config *config = parse("pairs: [{a: {url: 'redis://a'}, b: {url: 'redis://b'}}]");
    const struct co_pair_config *pair = &config->pairs[0];
    assert_string_equal(config->migration, "shop");
    assert_string_equal(pair->name, "redis");
    assert_string_equal(pair->engine, "redis");
    assert_int_equal(pair->gate.max_ms, 1000);
    assert_int_equal(pair->gate.max_bytes, -1);
    assert_int_equal(pair->gate.stable_for_ms, 10000);
    assert_int_equal(pair->gate.critical_ms, -1);
    assert_int_equal(pair->drain.timeout_ms, 500);
    assert_false(pair->drain.refuse);
    assert_null(pair->accept);
    assert_int_equal(config->cutover.max_write_pause_ms, 5000);
    assert_int_equal(config->cutover.undo_budget_ms, 10000);
    assert_int_equal(config->cutover.reverse_patience_ms, 60000);
    assert_true(pair->max_write_pause_ms <= 0);
    assert_false(config->cutover.open_after_switch);
    assert_false(config->cutover.partial);
    assert_contains(config->journal, "shop.journal");
    co_config_free(config);
}

#define TWO "    a: {url: 'redis://a'}\n    b: {url: 'redis://b'}\n"

static void refusals_say_where(void **state)
{
    (void)state;
    refused("", "shop.yaml: the file is empty");
    refused("# only a comment\n", "the file is empty");
    refused("- a\n", "shop.yaml:1: expected keys");
    refused("pairs:\n", "shop.yaml:1: pairs: missing: expected a list of pairs");
    refused("pairs: []\n", "shop.yaml:1: pairs: expected at least one pair");
    refused("pairs: {a: 1}\n", "shop.yaml:1: pairs: expected a list of pairs, each with a and b, got a section with keys");
    refused("pairs:\n  - name: x\n    a: {url: 'redis://a'}\n", "shop.yaml:2: pairs[0].b: missing: expected a section");
    refused("pairs:\n  -\n" TWO "    name: x\n    gaet: {}\n    gate: {max_second: 1}\n",
            "shop.yaml:7: pairs[0].gate.max_second: unknown key, expected max_seconds");
    refused("pears: []\n", "shop.yaml:1: pears: unknown key, expected pairs");
    refused("x: 1\n", "shop.yaml:1: x: unknown key, expected one of migration, journal, pairs, cutover");
    refused("pairs:\n  -\n" TWO "    drain: {on_timeout: stop}\n",
            "shop.yaml:5: pairs[0].drain.on_timeout: expected end or refuse, got \"stop\"");
    refused("pairs:\n  -\n" TWO "    gate: {max_seconds: fast}\n",
            "shop.yaml:5: pairs[0].gate.max_seconds: expected a duration");
    refused("pairs:\n  -\n" TWO "    gate: {max_seconds: 0}\n", "more than 0");
    refused("pairs:\n  -\n" TWO "    gate: {max_seconds: 5, critical_seconds: 1}\n",
            "shop.yaml:5: pairs[0]: gate.critical_seconds");
    refused("pairs:\n  -\n" TWO "    gate: 5\n",
            "shop.yaml:5: pairs[0].gate: expected a section with keys, got a single value");
    refused("pairs:\n  -\n" TWO "    name: 'a b'\n", "shop.yaml:5: pairs[0].name: expected a name");
    refused("pairs:\n  -\n" TWO "    accept: [Bad-Code]\n", "shop.yaml:5: pairs[0].accept: expected codes");
    refused("pairs:\n  -\n" TWO "    replication: {password_file: x}\n",
            "shop.yaml:5: pairs[0].replication.user: missing: expected a text");
    refused("pairs:\n  - a: {url: 'redis://a'}\n    b: {url: 'redis://a'}\n", "a and b are the same server");
    refused("pairs:\n  - a: {url: 'redis://a/%zz'}\n    b: {url: 'redis://b'}\n", "shop.yaml:2: pairs[0].a.url: \"%\"");
    refused("pairs:\n  - a: {url: 'redis://a', tls: {cert: x}}\n    b: {url: 'redis://b'}\n", "tls.cert and tls.key");
    refused("pairs:\n  - a: {url: 'redis://a', tls: {mode: off, ca: x}}\n    b: {url: 'redis://b'}\n", "tls.mode is off");
    refused("pairs:\n  - a: {url: 'redis://a', tls: off}\n    b: {url: 'redis://b'}\n", "pairs[0].a.tls: expected a section");
    refused("pairs:\n  - a: {url: 'redis://a', password_file: x, password_env: Y}\n    b: {url: 'redis://b'}\n",
            "expected one source of the password");
    refused(
        "pairs:\n  - {name: x, a: {url: 'r://a'}, b: {url: 'r://b'}}\n  - {name: x, a: {url: 'r://c'}, b: {url: 'r://d'}}\n",
        "shop.yaml:3: pairs[1]: a pair named x is already in line 2");
}

static void refusals_of_hooks_and_yaml(void **state)
{
    (void)state;
    refused("pairs:\n  -\n" TWO "cutover: {switch: [{run: []}]}\n", "cutover.switch[0].run: expected a list that begins");
    refused("pairs:\n  -\n" TWO "cutover: {switch: [{run: 'ls -l'}]}\n", "expected a list of words");
    refused("pairs:\n  -\n" TWO "cutover: {switch: [{}]}\n", "shop.yaml:5: cutover.switch[0]: expected either run or http");
    refused("pairs:\n  -\n" TWO "cutover: {switch: [{run: [x], http: {url: 'http://x'}}]}\n", "expected either run or http");
    refused("pairs:\n  -\n" TWO "cutover: {confirm: [{http: {url: 'http://x'}, timeout: 3s}]}\n", "http.within with http");
    refused("pairs:\n  -\n" TWO "cutover: {confirm: [{http: {url: 'ftp://x'}}]}\n", "http:// or https://");
    refused("pairs:\n  -\n" TWO "cutover: {confirm: [{http: {url: 'http://x', expect: 9}}]}\n", "status from 100 to 599");
    refused("pairs:\n  -\n" TWO "cutover: {confirm: [{run: [x, [y]]}]}\n", "expected a single value in the list, got a list");
    refused("pairs:\n  -\n" TWO "cutover: {open: later}\n", "expected before_switch or after_switch, got \"later\"");
    refused("a: 1\na: 2\n", "shop.yaml:2: a: given twice, first in line 1");
    refused("migration: &x m\njournal: *x\n", "shop.yaml:2: aliases");
    refused("migration: [\n", "shop.yaml:2: not valid YAML");
    refused("\tmigration: x\n", "shop.yaml:1: not valid YAML");
    refused("migration: x\n---\nmigration: y\n", "shop.yaml:2: a second document");
    refused("migration: \xff\n", "UTF-8");
    refused("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", "nested too deeply");
    refused("setup.method: x\n", "is not a key");
}

static void environment(void **state)
{
    (void)state;
    refused("migration: ${CO_TEST_UNSET}\n", "shop.yaml:1: the environment variable CO_TEST_UNSET is not set");
    refused("migration: ${}\n", "shop.yaml:1: \"${\" must be followed");
    refused("migration: ${A\n", "must be followed");
    struct co_config *config = NULL;
    struct co_error err;
    const char *text = "pairs:\n  -\n" TWO "cutover: {undo_budget: \"${CO_TEST_SECRET}\"}\n";
    assert_int_equal(co_config_parse("s.yaml", text, strlen(text), false, &config, &err), CO_E_CONFIG);
    assert_lacks(err.message, "sn3aky");
    assert_contains(err.message, "${CO_TEST_SECRET}");
    text = "pairs:\n  -\n" TWO "    password: inline-password-1\n";
    assert_int_equal(co_config_parse("s.yaml", text, strlen(text), false, &config, &err), CO_E_CONFIG);
    assert_contains(err.message, "s.yaml:5: pairs[0].password: a password does not stand in the config");
    assert_lacks(err.message, "inline-password-1");
}

static void urls_with_passwords_need_a_private_file(void **state)
{
    (void)state;
    const char *text = "pairs: [{a: {url: 'redis://:in-url-pw@a'}, b: {url: 'redis://b'}}]";
    struct co_config *config = NULL;
    struct co_error err = {0};
    static const mode_t open_modes[] = {0644, 0640, 0604};
    for (size_t i = 0; i < sizeof open_modes / sizeof open_modes[0]; i++) {
        assert_int_equal(co_config_load(unit_file(folder, "c.yaml", text, open_modes[i]), &config, &err), CO_E_CONFIG);
        assert_contains(err.message, "c.yaml:1: pairs[0].a.url: the URL holds a password");
        assert_contains(err.hint, "chmod 600");
        assert_lacks(err.message, "in-url-pw");
    }
    assert_int_equal(co_config_load(unit_file(folder, "c.yaml", text, 0600), &config, &err), 0);
    assert_int_equal(co_config_load_secrets(config, &err), 0);
    assert_string_equal(co_secret_str(config->pairs[0].side[CO_SIDE_A].password), "in-url-pw");
    assert_string_equal(config->pairs[0].side[CO_SIDE_A].endpoint.url, "redis://@a");
    co_config_free(config);
    config = NULL;
    /* from the environment it isn't in the file */
    text = "pairs: [{a: {url: 'redis://:${CO_TEST_SECRET}@a'}, b: {url: 'redis://b'}}]";
    assert_int_equal(co_config_load(unit_file(folder, "c.yaml", text, 0644), &config, &err), 0);
    assert_string_equal(co_secret_str(config->pairs[0].side[CO_SIDE_A].password), "sn3aky-value");
    co_config_free(config);
}

static void files_are_found_and_judged(void **state)
{
    (void)state;
    struct co_config *config = NULL;
    struct co_error err = {0};
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/none.yaml", folder);
    assert_int_equal(co_config_load(path, &config, &err), CO_E_CONFIG);
    assert_contains(err.message, path);
    assert_contains(err.hint, "changeover init");
    assert_int_equal(co_config_load(folder, &config, &err), CO_E_CONFIG);
    const char *text = "pairs: [{a: {url: 'redis://a'}, b: {url: 'redis://b'}}]";
    assert_int_equal(co_config_load(unit_file(folder, "open.yaml", text, 0666), &config, &err), CO_E_CONFIG);
    assert_contains(err.message, "mode 0666");
    setenv("CHANGEOVER_CONFIG", unit_file(folder, "env.yaml", text, 0644), 1);
    assert_int_equal(co_config_load(NULL, &config, &err), 0);
    assert_string_equal(config->migration, "env");
    assert_int_equal(config->path[0], '/');
    co_config_free(config);
    unsetenv("CHANGEOVER_CONFIG");
    unit_file(folder, "changeover.yaml", text, 0644);
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(co_config_load(NULL, &config, &err), 0);
    assert_string_equal(config->migration, "changeover");
    co_config_free(config);
    assert_int_equal(chdir("/"), 0);
}

static void password_files_are_judged_with_their_line(void **state)
{
    (void)state;
    struct co_config *config = NULL;
    struct co_error err = {0};
    unit_file(folder, "pw", "the-file-password\n", 0640);
    const char *path = unit_file(folder, "p.yaml",
                                 "pairs:\n  - a: {url: 'redis://a', password_file: pw}\n    b: {url: 'redis://b'}\n"
                                 "    probe: {user: p, password_env: CO_TEST_SECRET}\n",
                                 0644);
    assert_int_equal(co_config_load(path, &config, &err), 0);
    assert_int_equal(co_config_load_secrets(config, &err), CO_E_CONFIG);
    assert_contains(err.message, "p.yaml:2: pairs[0].a.password_file: ");
    assert_contains(err.message, "mode 0640");
    unit_file(folder, "pw", "the-file-password\n", 0600);
    assert_int_equal(co_config_load_secrets(config, &err), 0);
    assert_int_equal(co_config_load_secrets(config, &err), 0); /* twice is fine */
    assert_string_equal(co_secret_str(config->pairs[0].side[CO_SIDE_A].password), "the-file-password");
    assert_string_equal(co_secret_str(config->pairs[0].probe.password), "sn3aky-value");
    assert_null(config->pairs[0].replication.password);
    co_fail(&err, CO_E_IO, "the-file-password sn3aky-value");
    assert_string_equal(err.message, "*** ***");
    co_config_free(config);
}

static const struct co_option options[] = {
    {"mode", CO_OPT_PAIR, CO_OPT_ENUM, "physical|logical", "physical", "Mode."},
    {"setup.method", CO_OPT_PAIR, CO_OPT_STRING, NULL, NULL, "How."},
    {"setup.jobs", CO_OPT_PAIR, CO_OPT_INT, NULL, "2", "Jobs."},
    {"setup.patience", CO_OPT_PAIR, CO_OPT_DURATION_MS, NULL, "1h", "Time."},
    {"setup.rate", CO_OPT_PAIR, CO_OPT_BYTES, NULL, NULL, "Rate."},
    {"setup.replace_b", CO_OPT_PAIR, CO_OPT_BOOL, NULL, "false", "Replace."},
    {"host.data_directory", CO_OPT_SIDE, CO_OPT_STRING, NULL, NULL, "Data."},
    {"host.start", CO_OPT_SIDE, CO_OPT_ARGV, NULL, NULL, "Start."},
};
#define OPTIONS options, sizeof options / sizeof options[0]

static void a_drivers_keys(void **state)
{
    (void)state;
    struct co_config *config = parse("pairs:\n  - a: {url: 'pg://a'}\n    b: {url: 'pg://b', host: {start: [x, y]}}\n"
                                     "    setup: {patience: 2m, rate: 1MiB, replace_b: yes}\n");
    struct co_pair_config *pair = &config->pairs[0];
    struct co_error err;
    for (int i = 0; i < 2; i++) { /* the second time changes nothing */
        assert_int_equal(co_config_check_options(config, pair, OPTIONS, &err), 0);
        assert_string_equal(co_option_find(&pair->options, "mode")->value, "physical");
        assert_string_equal(co_option_find(&pair->options, "setup.patience")->value, "120000");
        assert_string_equal(co_option_find(&pair->options, "setup.rate")->value, "1048576");
        assert_string_equal(co_option_find(&pair->options, "setup.replace_b")->value, "true");
        assert_string_equal(co_option_find(&pair->options, "setup.jobs")->value, "2");
        assert_null(co_option_find(&pair->options, "setup.method"));
        assert_string_equal(co_option_find(&pair->side[CO_SIDE_B].options, "host.start")->argv[1], "y");
    }
    co_config_free(config);
}

static void a_drivers_keys_refused(void **state)
{
    (void)state;
    static const struct {
        const char *line, *message;
    } cases[] = {
        {"    moed: physical\n", "/etc/changeover/shop.yaml:5: pairs[0].moed: unknown key, expected mode"},
        {"    xyz: {abc: 1}\n", "shop.yaml:5: pairs[0].xyz.abc: unknown key, expected one of mode, setup.method"},
        {"    mode: virtual\n", "shop.yaml:5: pairs[0].mode: expected one of physical|logical, got \"virtual\""},
        {"    mode: [physical]\n", "shop.yaml:5: pairs[0].mode: expected a single value, got a list"},
        {"    setup: {jobs: many}\n", "shop.yaml:5: pairs[0].setup.jobs: expected a whole number"},
        {"    setup: {rate: 1K}\n", "shop.yaml:5: pairs[0].setup.rate: expected a size"},
        {"    host: {start: [x]}\n", "shop.yaml:5: pairs[0].host.start: unknown key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[400];
        snprintf(text, sizeof text, "pairs:\n  -\n%s%s", TWO, cases[i].line);
        struct co_config *config = parse(text);
        struct co_error err;
        assert_int_equal(co_config_check_options(config, &config->pairs[0], OPTIONS, &err), CO_E_CONFIG);
        assert_contains(err.message, cases[i].message);
        co_config_free(config);
    }
    struct co_config *config = parse("pairs:\n  - a: {url: 'r://a', host: {start: x}}\n    b: {url: 'r://b'}\n");
    struct co_error err;
    assert_int_equal(co_config_check_options(config, &config->pairs[0], OPTIONS, &err), CO_E_CONFIG);
    assert_contains(err.message, "shop.yaml:2: pairs[0].a.host.start: expected a list of words");
    co_config_free(config);
}

static void hash_of(const char *text, char ret[33])
{
    struct co_config *config = parse(text);
    memcpy(ret, config->hash, 33);
    co_config_free(config);
}

static void the_hash_binds_servers_pairs_and_modes(void **state)
{
    (void)state;
    char base[33], other[33];
    hash_of("pairs:\n  -\n" TWO "    mode: x\n    fence: soft\n", base);
    static const char *const same[] = {
        "# comment\npairs:\n  -\n" TWO "    fence: soft\n    mode: x\n",
        ("pairs:\n  -\n" TWO "    fence: soft\n    mode: x\n    setup: {method: dump}\n    gate: {max_seconds: 7}\n"
         "cutover: {max_write_pause: 1s, switch: [{run: [x]}]}\n"),
        ("pairs:\n  - a: {url: 'redis://u:${CO_TEST_SECRET}@a'}\n    b: {url: 'redis://b', password_env: X}\n    mode: x\n"
         "    fence: soft\n"),
    };
    static const char *const changed[] = {
        "migration: other\npairs:\n  -\n" TWO "    mode: x\n    fence: soft\n",
        "pairs:\n  -\n" TWO "    mode: y\n    fence: soft\n",
        "pairs:\n  -\n" TWO "    mode: x\n    fence: soft\n    name: z\n",
        "pairs:\n  - a: {url: 'redis://a:1'}\n    b: {url: 'redis://b'}\n    mode: x\n    fence: soft\n",
        "pairs:\n  - a: {url: 'redis://b'}\n    b: {url: 'redis://a'}\n    mode: x\n    fence: soft\n",
        "pairs:\n  -\n" TWO "    mode: x\n    fence: soft\ncutover: {open: after_switch}\n",
    };
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        hash_of(same[i], other);
        assert_string_equal(base, other);
    }
    for (size_t i = 0; i < sizeof changed / sizeof changed[0]; i++) {
        hash_of(changed[i], other);
        assert_string_not_equal(base, other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example),
        cmocka_unit_test(two_urls_are_enough),
        cmocka_unit_test(refusals_say_where),
        cmocka_unit_test(refusals_of_hooks_and_yaml),
        cmocka_unit_test(environment),
        cmocka_unit_test(urls_with_passwords_need_a_private_file),
        cmocka_unit_test(files_are_found_and_judged),
        cmocka_unit_test(password_files_are_judged_with_their_line),
        cmocka_unit_test(a_drivers_keys),
        cmocka_unit_test(a_drivers_keys_refused),
        cmocka_unit_test(the_hash_binds_servers_pairs_and_modes),
    };
    return cmocka_run_group_tests_name("config", tests, make_folder, remove_folder);
}
