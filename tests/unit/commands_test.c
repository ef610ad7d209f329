/* commands_test.c - host.run prefixes of every kind: whatever evaluates the words on the way, they arrive byte for
 * byte, and what was started doesn't outlive its connection. */
#include "dummy_driver.h"

#include <fcntl.h>
#include <signal.h>

#include "drivers-host/internal.h"

#define NASTY "a b'c\"d\\e$HOME`id`\n*~#!;&|(h)\t\xc3\xa9 {x} $(id)"

static const char *folder;

struct outcome {
    enum co_result result;
    int status, status2;
    struct co_text out, err_out;
    struct co_error err;
    int64_t progress;
};
static struct outcome outcome;
static const struct co_command *command, *command_to;
static int64_t command_ms;

static enum co_result on_settings(const char *what, struct co_call *call, struct dummy_args *args)
{
    (void)args;
    if (strcmp(what, "settings") != 0)
        return DUMMY_GO_ON;
    if (command_to)
        outcome.result = call->host->pipe(call->ctx, command, command_to, "copying", 100, co_deadline_in_ms(command_ms),
                                          &outcome.status, &outcome.status2, &outcome.err_out, &outcome.err);
    else
        outcome.result = call->host->run(call->ctx, command, co_deadline_in_ms(command_ms), &outcome.status, &outcome.out,
                                         &outcome.err_out, &outcome.err);
    return CO_DONE;
}

static void on_progress(void *arg, const struct co_progress *progress)
{
    (void)arg;
    outcome.progress = progress->done;
}

struct place {
    struct co_config *config;
    struct co_pair *pair;
    struct co_endpoint *ep;
};

/* A pair whose side b has host.run: `words` in YAML. */
static struct place place_with(const char *words)
{
    struct place place;
    char keys[2000] = "";
    if (words)
        snprintf(keys, sizeof keys, "      host: {run: %s}\n", words);
    dummy_reset();
    place.config = dummy_config(folder, "", "", keys);
    place.pair = dummy_pair(place.config);
    place.ep = co_endpoint_new(place.pair, CO_SIDE_B, CO_CONN_MAIN);
    struct co_sink sink = {.progress = on_progress};
    co_endpoint_sink(place.ep, &sink);
    return place;
}

static void place_done(struct place *place)
{
    co_endpoint_free(place->ep);
    co_pair_free(place->pair);
    co_config_free(place->config);
}

static void reset_outcome(void)
{
    co_text_done(&outcome.out);
    co_text_done(&outcome.err_out);
    outcome = (struct outcome){.status = -7, .status2 = -7};
}

static void run(struct place *place, const struct co_command *what, int64_t ms)
{
    reset_outcome();
    command = what;
    command_to = NULL;
    command_ms = ms;
    dummy.on = on_settings;
    struct co_error err = {0};
    assert_int_equal(co_ep_settings(place->ep, co_deadline_in_ms(30000), &err), CO_DONE);
}

static void run_pipe(struct place *place, const struct co_command *from, const struct co_command *to)
{
    reset_outcome();
    command = from;
    command_to = to;
    command_ms = 20000;
    dummy.on = on_settings;
    struct co_error err = {0};
    assert_int_equal(co_ep_settings(place->ep, co_deadline_in_ms(30000), &err), CO_DONE);
}

static struct co_command words(enum co_side side, const char *const *argv)
{
    return (struct co_command){.size = sizeof(struct co_command), .side = side, .argv = argv};
}

/* An executable in the folder; the path is quoted for YAML. */
static const char *script(const char *name, const char *text)
{
    static char yaml[PATH_MAX + 2];
    const char *path = unit_file(folder, name, text, 0700);
    snprintf(yaml, sizeof yaml, "\"%s\"", path);
    return yaml;
}

/* What every working prefix must do. */
static void check_prefix(const char *yaml, unsigned shells, bool watched)
{
    struct place place = place_with(yaml);
    const char *const argv[] = {"sh", "-c",        "cat; printf '%s|' \"$@\"; printf \"$LC_ALL\"; echo e >&2; exit 5",
                                "sh", NASTY,       "",
                                "-n", "two words", NULL};
    struct co_command what = words(CO_SIDE_B, argv);
    if (watched) {
        what.input = "sec\nret";
        what.input_bytes = 7;
    }
    run(&place, &what, 20000);
    if (outcome.result != CO_DONE)
        fail_msg("%s: %s", yaml, outcome.err.message);
    assert_int_equal(outcome.status, 5);
    assert_string_equal(co_text_str(&outcome.out), watched ? "sec\nret" NASTY "||-n|two words|C" : NASTY "||-n|two words|C");
    assert_string_equal(co_text_str(&outcome.err_out), "e\n");
    if (yaml[1] != ']') {
        assert_int_equal(place.pair->host[1].shells, shells);
        assert_int_equal(place.pair->host[1].watched, watched);
    }
    place_done(&place);
}

static void test_prefixes(void **state)
{
    (void)state;
    char yaml[PATH_MAX + 100];
    check_prefix("[]", 0, true);
    check_prefix("[env]", 0, true);
    check_prefix("[nice, -n, \"1\"]", 0, true);
    snprintf(yaml, sizeof yaml, "[%s, host]", script("ssh", "#!/bin/sh\nshift\nexec sh -c \"$*\"\n")); /* as ssh does it */
    check_prefix(yaml, 1, true);
    snprintf(yaml, sizeof yaml, "[%s, host]", script("bash-ssh", "#!/bin/sh\nshift\nexec bash -c \"$*\"\n"));
    check_prefix(yaml, 1, true);
    snprintf(yaml, sizeof yaml, "[%s/ssh, host1, %s/ssh, host2]", folder, folder); /* through a jump host */
    check_prefix(yaml, 2, true);
    snprintf(yaml, sizeof yaml, "[%s/ssh, host1, env, --]", folder); /* ssh host sudo */
    check_prefix(yaml, 1, true);
    snprintf(yaml, sizeof yaml, "[%s, exec, name]", script("docker", "#!/bin/sh\nshift 2\nexec \"$@\" </dev/null\n"));
    check_prefix(yaml, 0, false);
}

static void refused(const char *yaml, int code, const char *why)
{
    struct place place = place_with(yaml);
    const char *const argv[] = {"true", NULL};
    struct co_command what = words(CO_SIDE_B, argv);
    run(&place, &what, 20000);
    assert_int_equal(outcome.result, CO_NO_EFFECT);
    assert_int_equal(outcome.err.code, code);
    assert_contains(outcome.err.message, why);
    place_done(&place);
}

static void test_prefixes_that_cant_work(void **state)
{
    (void)state;
    char yaml[PATH_MAX + 100];
    refused(NULL, CO_E_CONFIG, "no host.run");
    refused("[/nowhere/ssh, host]", CO_E_COMMAND, "can't start /nowhere/ssh");
    refused("[sh, -c, \"echo no route to host >&2; exit 255\"]", CO_E_COMMAND, "no route to host");
    snprintf(yaml, sizeof yaml, "[%s]", script("chatty", "#!/bin/sh\necho Welcome\nexec \"$@\"\n"));
    refused(yaml, CO_E_COMMAND, "Welcome");
    snprintf(yaml, sizeof yaml, "[%s]", script("spaces", "#!/bin/sh\nexec $*\n")); /* splits, doesn't unquote */
    refused(yaml, CO_E_COMMAND, "don't arrive");
}

static void test_input_without_a_way_in(void **state)
{
    (void)state;
    char yaml[PATH_MAX + 100];
    snprintf(yaml, sizeof yaml, "[%s, exec, name]", script("docker", "#!/bin/sh\nshift 2\nexec \"$@\" </dev/null\n"));
    struct place place = place_with(yaml);
    const char *const argv[] = {"cat", NULL};
    struct co_command what = words(CO_SIDE_B, argv);
    what.input = "secret";
    what.input_bytes = 6;
    run(&place, &what, 20000);
    assert_int_equal(outcome.result, CO_NO_EFFECT);
    assert_contains(outcome.err.hint, "-i");
    place_done(&place);
}

static void test_local_side(void **state)
{
    (void)state;
    struct place place = place_with(NULL);
    const char *const argv[] = {"printf", "%s", NASTY, NULL};
    struct co_command what = words(CO_SIDE_LOCAL, argv);
    run(&place, &what, 20000);
    assert_int_equal(outcome.result, CO_DONE);
    assert_string_equal(co_text_str(&outcome.out), NASTY);
    const char *const none[] = {NULL};
    what = words(CO_SIDE_LOCAL, none);
    run(&place, &what, 20000);
    assert_int_equal(outcome.result, CO_NO_EFFECT);
    assert_int_equal(outcome.err.code, CO_E_INTERNAL);
    place_done(&place);
}

static long read_number(const char *name)
{
    char path[PATH_MAX], text[64] = "";
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t bytes = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0)
        close(fd);
    return bytes > 0 ? strtol(text, NULL, 10) : 0;
}

static bool running(long pid)
{
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t bytes = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0)
        close(fd);
    const char *paren = bytes > 0 ? strrchr(text, ')') : NULL;
    return paren && paren[2] != 'Z'; /* in a container nobody may reap orphans */
}

static void ends_with_its_connection(const char *yaml)
{
    struct place place = place_with(yaml);
    const char *const first[] = {"true", NULL};
    struct co_command what = words(CO_SIDE_B, first);
    run(&place, &what, 20000);
    assert_int_equal(outcome.result, CO_DONE);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/pid", folder);
    unlink(path);
    const char *const argv[] = {"sh", "-c", "echo $$ >\"$1\"; exec sleep 300", "sh", path, NULL};
    what = words(CO_SIDE_B, argv);
    long pid = 0;
    for (int64_t ms = 4000; pid <= 1 && ms <= 64000; ms *= 4) { /* a machine may take longer to start three shells */
        run(&place, &what, ms);
        assert_int_equal(outcome.result, CO_EFFECT_UNKNOWN);
        assert_int_equal(outcome.err.code, CO_E_TIMEOUT);
        pid = read_number("pid");
    }
    assert_true(pid > 1);
    int64_t until_ns = co_deadline_in_ms(60000);
    while (running(pid) && co_now_ns() < until_ns)
        co_wait_until(co_deadline_in_ms(10), -1);
    assert_false(running(pid));
    place_done(&place);
}

static void test_a_command_ends_with_its_connection(void **state)
{
    (void)state;
    char yaml[PATH_MAX + 100];
    ends_with_its_connection("[]");
    ends_with_its_connection("[env]");
    /* like sshd: what runs there is in a session of its own, out of reach of a kill */
    snprintf(yaml, sizeof yaml, "[%s, host]", script("far", "#!/bin/sh\nshift\ncat | setsid sh -c \"$*\"\n"));
    ends_with_its_connection(yaml);
}

static void test_a_daemon_that_a_command_starts_lives_on(void **state)
{
    (void)state;
    char yaml[PATH_MAX + 100], path[PATH_MAX];
    snprintf(path, sizeof path, "%s/pid", folder);
    snprintf(yaml, sizeof yaml, "[%s, host]", script("ssh", "#!/bin/sh\nshift\nexec sh -c \"$*\"\n"));
    const char *const prefixes[] = {"[]", "[env]", yaml};
    for (size_t i = 0; i < 3; i++) {
        struct place place = place_with(prefixes[i]);
        const char *const argv[] = {"sh", "-c", "sleep 300 >/dev/null 2>&1 & echo $! >\"$1\"", "sh", path, NULL};
        struct co_command what = words(CO_SIDE_B, argv);
        run(&place, &what, 20000);
        assert_int_equal(outcome.result, CO_DONE);
        assert_int_equal(outcome.status, 0);
        place_done(&place);
        co_wait_until(co_deadline_in_ms(200), -1); /* the watcher has noticed the end by now, or never will */
        long pid = read_number("pid");
        assert_true(running(pid));
        kill((pid_t)pid, SIGKILL);
    }
}

static void test_a_lost_connection_is_effect_unknown(void **state)
{
    (void)state;
    char yaml[PATH_MAX + 100];
    snprintf(yaml, sizeof yaml, "[%s, host]", script("ssh", "#!/bin/sh\nshift\nexec sh -c \"$*\"\n"));
    struct place place = place_with(yaml);
    const char *const argv[] = {"true", NULL};
    struct co_command what = words(CO_SIDE_B, argv);
    run(&place, &what, 20000);
    assert_int_equal(outcome.result, CO_DONE);
    script("ssh", "#!/bin/sh\necho Connection reset by peer >&2\nexit 255\n");
    run(&place, &what, 20000);
    assert_int_equal(outcome.result, CO_EFFECT_UNKNOWN);
    assert_int_equal(outcome.err.code, CO_E_COMMAND);
    assert_contains(outcome.err.message, "Connection reset by peer");
    /* a command's own 255 is a status like any other */
    script("ssh", "#!/bin/sh\nshift\nexec sh -c \"$*\"\n");
    const char *const argv_255[] = {"sh", "-c", "exit 255", NULL};
    what = words(CO_SIDE_B, argv_255);
    run(&place, &what, 20000);
    assert_int_equal(outcome.result, CO_DONE);
    assert_int_equal(outcome.status, 255);
    place_done(&place);
}

static void test_a_command_that_isnt_there(void **state)
{
    (void)state;
    struct place place = place_with("[]");
    const char *const argv[] = {"no-such-command-here", NULL};
    struct co_command what = words(CO_SIDE_B, argv);
    run(&place, &what, 20000);
    assert_int_equal(outcome.result, CO_DONE);
    assert_int_equal(outcome.status, 127);
    assert_contains(co_text_str(&outcome.err_out), "no-such-command-here");
    place_done(&place);
}

static void test_pipe(void **state)
{
    (void)state;
    char yaml[PATH_MAX + 100];
    snprintf(yaml, sizeof yaml, "[%s, host]", script("ssh", "#!/bin/sh\nshift\nexec sh -c \"$*\"\n"));
    struct place place = place_with(yaml);
    const char *const from_argv[] = {"sh", "-c", "cat; head -c 5000000 /dev/zero", NULL};
    const char *const to_argv[] = {"sh", "-c", "[ $(wc -c) -eq 5000004 ]", NULL};
    struct co_command from = words(CO_SIDE_LOCAL, from_argv), to = words(CO_SIDE_B, to_argv);
    from.input = "head";
    from.input_bytes = 4;
    run_pipe(&place, &from, &to);
    if (outcome.result != CO_DONE)
        fail_msg("%s", outcome.err.message);
    assert_int_equal(outcome.status, 0);
    assert_int_equal(outcome.status2, 0);
    assert_true(outcome.progress > 0);
    from = words(CO_SIDE_B, from_argv);
    to = words(CO_SIDE_LOCAL, to_argv);
    run_pipe(&place, &from, &to);
    assert_int_equal(outcome.result, CO_DONE);
    assert_int_equal(outcome.status, 0);
    assert_int_equal(outcome.status2, 1); /* four bytes fewer */
    const char *const bad_argv[] = {"sh", "-c", "echo half; echo broken >&2; exit 3", NULL};
    const char *const eat_argv[] = {"sh", "-c", "cat >/dev/null; exit 0", NULL};
    from = words(CO_SIDE_B, bad_argv);
    to = words(CO_SIDE_LOCAL, eat_argv);
    run_pipe(&place, &from, &to);
    assert_int_equal(outcome.result, CO_DONE);
    assert_int_equal(outcome.status, 3);
    assert_int_not_equal(outcome.status2, 0);
    assert_contains(co_text_str(&outcome.err_out), "broken");
    assert_lacks(co_text_str(&outcome.err_out), "changeover-end");
    place_done(&place);
}

/* With CO_TEST_HOST_RUN='[ssh, ..., host]' in the environment: the same over a real one. */
static void test_a_real_prefix(void **state)
{
    (void)state;
    const char *yaml = getenv("CO_TEST_HOST_RUN");
    check_prefix(yaml, 1, true);
    ends_with_its_connection(yaml);
}

static int setup(void **state)
{
    (void)state;
    static char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", unit_folder());
    folder = copy;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    reset_outcome();
    unit_remove(folder);
    return 0;
}

int main(void)
{
    struct co_error err = {0};
    if (co_module_register(&dummy_driver, &err) < 0)
        return 1;
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_prefixes),
        TEST(test_prefixes_that_cant_work),
        TEST(test_input_without_a_way_in),
        TEST(test_local_side),
        TEST(test_a_command_ends_with_its_connection),
        TEST(test_a_daemon_that_a_command_starts_lives_on),
        TEST(test_a_lost_connection_is_effect_unknown),
        TEST(test_a_command_that_isnt_there),
        TEST(test_pipe),
    };
    const struct CMUnitTest real[] = {TEST(test_a_real_prefix)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (getenv("CO_TEST_HOST_RUN"))
        failed += cmocka_run_group_tests(real, NULL, NULL);
    return failed;
}
