/* process_test.c - child processes: output, input, deadlines, groups, pipes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/process.h"
#include "base/secret.h"

static struct co_process_spec sh(const char *const *argv)
{
    return (struct co_process_spec){.argv = argv, .wake_fd = -1, .deadline_ns = co_deadline_in_ms(20000)};
}

static void test_output_status_and_input(void **state)
{
    (void)state;
    const char *const argv[] = {"sh", "-c", "cat; echo oops >&2; exit 3", NULL};
    struct co_process_spec spec = sh(argv);
    spec.input = "in\0put";
    spec.input_bytes = 6;
    CO_TEXT_AUTO out = CO_TEXT_INIT;
    CO_TEXT_AUTO err_out = CO_TEXT_INIT;
    struct co_process_result result;
    struct co_error err = {0};
    assert_int_equal(co_process_run(&spec, &out, &err_out, &result, &err), 0);
    assert_true(result.started && result.ended && !result.interrupted && !result.marked);
    assert_int_equal(result.status, 3);
    assert_int_equal(out.bytes, 6);
    assert_memory_equal(out.data, "in\0put", 6);
    assert_string_equal(co_text_str(&err_out), "oops\n");
}

static void test_not_started(void **state)
{
    (void)state;
    const char *const argv[] = {"/nowhere/there is none", NULL};
    struct co_process_spec spec = sh(argv);
    struct co_process_result result;
    struct co_error err = {0};
    assert_int_equal(co_process_run(&spec, NULL, NULL, &result, &err), CO_E_COMMAND);
    assert_false(result.started);
    assert_non_null(strstr(err.message, "/nowhere/there is none"));
    spec.deadline_ns = co_now_ns() - 1;
    const char *const fine[] = {"true", NULL};
    spec.argv = fine;
    assert_int_equal(co_process_run(&spec, NULL, NULL, &result, &err), CO_E_TIMEOUT);
    assert_false(result.started);
}

static void test_signal_is_a_status(void **state)
{
    (void)state;
    const char *const argv[] = {"sh", "-c", "kill -TERM $$", NULL};
    struct co_process_spec spec = sh(argv);
    struct co_process_result result;
    struct co_error err = {0};
    assert_int_equal(co_process_run(&spec, NULL, NULL, &result, &err), 0);
    assert_int_equal(result.status, 128 + SIGTERM);
}

static bool gone(pid_t pid)
{
    int64_t until_ns = co_deadline_in_ms(60000);
    while (co_now_ns() < until_ns) {
        char path[64], state_text[256] = "";
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return true;
        ssize_t bytes = read(fd, state_text, sizeof state_text - 1);
        close(fd);
        const char *paren = bytes > 0 ? strrchr(state_text, ')') : NULL;
        if (!paren || paren[2] == 'Z') /* in a container nobody may reap it */
            return true;
        co_wait_until(co_deadline_in_ms(5), -1);
    }
    return false;
}

static void test_deadline_kills_the_group(void **state)
{
    (void)state;
    const char *const argv[] = {"sh", "-c", "sleep 100 & echo $!; wait", NULL};
    struct co_process_spec spec = sh(argv);
    CO_TEXT_AUTO out = CO_TEXT_INIT;
    for (int64_t ms = 2000; !out.bytes && ms <= 32000; ms *= 4) { /* a machine may take longer to start a shell */
        struct co_process_result result;
        struct co_error err = {0};
        spec.deadline_ns = co_deadline_in_ms(ms);
        assert_int_equal(co_process_run(&spec, &out, NULL, &result, &err), CO_E_TIMEOUT);
        assert_true(result.started && !result.ended);
    }
    assert_true(out.bytes > 0);
    assert_true(gone((pid_t)strtol(co_text_str(&out), NULL, 10)));
}

static void test_interrupted(void **state)
{
    (void)state;
    int wake_fd = eventfd(1, EFD_CLOEXEC);
    const char *const argv[] = {"sleep", "100", NULL};
    struct co_process_spec spec = sh(argv);
    spec.wake_fd = wake_fd;
    struct co_process_result result;
    struct co_error err = {0};
    assert_int_equal(co_process_run(&spec, NULL, NULL, &result, &err), CO_E_INTERRUPTED);
    assert_true(result.started && !result.ended && result.interrupted);
    close(wake_fd);
}

static void test_background_process_is_not_waited_for(void **state)
{
    (void)state;
    const char *const argv[] = {"sh", "-c", "sleep 100 & echo $!", NULL};
    struct co_process_spec spec = sh(argv);
    CO_TEXT_AUTO out = CO_TEXT_INIT;
    struct co_process_result result;
    struct co_error err = {0};
    assert_int_equal(co_process_run(&spec, &out, NULL, &result, &err), 0);
    assert_int_equal(result.status, 0);
    pid_t pid = (pid_t)strtol(co_text_str(&out), NULL, 10);
    assert_true(pid > 1);
    assert_int_equal(kill(pid, SIGKILL), 0); /* it lived */
}

static void test_output_is_capped_and_it_is_said(void **state)
{
    (void)state;
    const char *const argv[] = {"sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x", NULL};
    struct co_process_spec spec = sh(argv);
    spec.output_max = 1000;
    CO_TEXT_AUTO out = CO_TEXT_INIT;
    CO_TEXT_AUTO err_out = CO_TEXT_INIT;
    struct co_process_result result;
    struct co_error err = {0};
    assert_int_equal(co_process_run(&spec, &out, &err_out, &result, &err), 0);
    assert_int_equal(out.bytes, 1000);
    assert_non_null(strstr(co_text_str(&err_out), "2999000 more bytes"));
}

static void test_input_that_nobody_reads(void **state)
{
    (void)state;
    const char *const argv[] = {"true", NULL};
    struct co_process_spec spec = sh(argv);
    size_t bytes = 4u << 20;
    char *input = calloc(1, bytes);
    spec.input = input;
    spec.input_bytes = bytes;
    struct co_process_result result;
    struct co_error err = {0};
    assert_int_equal(co_process_run(&spec, NULL, NULL, &result, &err), 0);
    assert_int_equal(result.status, 0);
    free(input);
}

static void test_environment_without_secrets(void **state)
{
    (void)state;
    setenv("ORDERS_PASSWORD", "correct-horse-battery", 1);
    setenv("ORDERS_URL", "postgresql://x:correct-horse-battery@h/", 1);
    setenv("ORDERS_PLAIN", "visible", 1);
    co_mask_add("correct-horse-battery");
    const char *const argv[] = {"env", NULL};
    const char *const extra[] = {"ORDERS_PLAIN=replaced", "CHANGEOVER_SIDE=b", NULL};
    struct co_process_spec spec = sh(argv);
    spec.extra_env = extra;
    CO_TEXT_AUTO out = CO_TEXT_INIT;
    struct co_process_result result;
    struct co_error err = {0};
    assert_int_equal(co_process_run(&spec, &out, NULL, &result, &err), 0);
    assert_null(strstr(co_text_str(&out), "correct-horse"));
    assert_null(strstr(co_text_str(&out), "visible"));
    assert_non_null(strstr(co_text_str(&out), "ORDERS_PLAIN=replaced\n"));
    assert_non_null(strstr(co_text_str(&out), "CHANGEOVER_SIDE=b\n"));
    assert_non_null(strstr(co_text_str(&out), "PATH="));
}

static void test_no_descriptor_is_inherited(void **state)
{
    (void)state;
    int leak = fcntl(1, F_DUPFD, 50); /* as a careless library would */
    const char *const argv[] = {"sh", "-c", "for f in /proc/$$/fd/*; do echo ${f##*/}; done", NULL};
    struct co_process_spec spec = sh(argv);
    CO_TEXT_AUTO out = CO_TEXT_INIT;
    struct co_process_result result;
    struct co_error err = {0};
    assert_int_equal(co_process_run(&spec, &out, NULL, &result, &err), 0);
    assert_null(strstr(co_text_str(&out), "\n5"));
    close(leak);
}

struct lines {
    int count;
    char last[32];
};

static void on_line(const char *line, void *arg)
{
    struct lines *lines = arg;
    lines->count++;
    snprintf(lines->last, sizeof lines->last, "%.31s", line);
}

static void test_lines_of_standard_error(void **state)
{
    (void)state;
    const char *const argv[] = {"sh", "-c", "printf 'one\\ntwo\\nthree' >&2", NULL};
    struct co_process_spec spec = sh(argv);
    struct lines lines = {0};
    spec.on_output = on_line;
    spec.arg = &lines;
    CO_TEXT_AUTO err_out = CO_TEXT_INIT;
    struct co_process_result result;
    struct co_error err = {0};
    assert_int_equal(co_process_run(&spec, NULL, &err_out, &result, &err), 0);
    assert_int_equal(lines.count, 3);
    assert_string_equal(lines.last, "three");
    assert_string_equal(co_text_str(&err_out), "one\ntwo\nthree");
}

static void test_end_marker_ends_it(void **state)
{
    (void)state;
    const char *const argv[] = {"sh", "-c", "echo all; printf 'note\\n\\nEND 7\\n' >&2; sleep 100", NULL};
    struct co_process_spec spec = sh(argv);
    spec.end_marker = "END";
    CO_TEXT_AUTO out = CO_TEXT_INIT;
    CO_TEXT_AUTO err_out = CO_TEXT_INIT;
    struct co_process_result result;
    struct co_error err = {0};
    assert_int_equal(co_process_run(&spec, &out, &err_out, &result, &err), 0);
    assert_true(result.ended && result.marked);
    assert_int_equal(result.status, 7);
    assert_string_equal(co_text_str(&out), "all\n");
    assert_string_equal(co_text_str(&err_out), "note\n");
}

static void test_kept_input_ends_with_the_command(void **state)
{
    (void)state;
    const char *const argv[] = {"sh", "-c", "head -c 3; exec 3<&0; (cat <&3 >/dev/null; echo never) & exit 4", NULL};
    struct co_process_spec spec = sh(argv);
    spec.input = "abc";
    spec.input_bytes = 3;
    spec.keep_input = true;
    CO_TEXT_AUTO out = CO_TEXT_INIT;
    struct co_process_result result;
    struct co_error err = {0};
    assert_int_equal(co_process_run(&spec, &out, NULL, &result, &err), 0);
    assert_int_equal(result.status, 4);
    assert_string_equal(co_text_str(&out), "abc");
}

/* ---------------------------------------------------------------- pipes */

static void count_bytes(int64_t total, void *arg)
{
    *(int64_t *)arg = total;
}

static void test_pipe_moves_everything(void **state)
{
    (void)state;
    const char *const from_argv[] = {"sh", "-c", "head -c 20000000 /dev/zero; echo from >&2", NULL};
    const char *const to_argv[] = {"sh", "-c", "n=$(wc -c); echo $n >&2; [ $n -eq 20000000 ]", NULL};
    struct co_process_spec from = sh(from_argv), to = sh(to_argv);
    CO_TEXT_AUTO err_out = CO_TEXT_INIT;
    struct co_process_result from_result, to_result;
    struct co_error err = {0};
    int64_t total = 0;
    assert_int_equal(co_process_pipe(&from, &to, count_bytes, &total, &err_out, &from_result, &to_result, &err), 0);
    assert_int_equal(from_result.status, 0);
    assert_int_equal(to_result.status, 0);
    assert_int_equal(total, 20000000);
    assert_string_equal(co_text_str(&err_out), "from\n20000000\n");
}

static void test_pipe_from_fails(void **state)
{
    (void)state;
    const char *const from_argv[] = {"sh", "-c", "echo half; exit 9", NULL};
    const char *const to_argv[] = {"sh", "-c", "cat >/dev/null; echo complete >&2", NULL};
    struct co_process_spec from = sh(from_argv), to = sh(to_argv);
    CO_TEXT_AUTO err_out = CO_TEXT_INIT;
    struct co_process_result from_result, to_result;
    struct co_error err = {0};
    assert_int_equal(co_process_pipe(&from, &to, NULL, NULL, &err_out, &from_result, &to_result, &err), 0);
    assert_int_equal(from_result.status, 9);
    assert_false(to_result.ended);
    assert_null(strstr(co_text_str(&err_out), "complete"));
}

static void test_pipe_to_fails(void **state)
{
    (void)state;
    const char *const from_argv[] = {"sh", "-c", "exec cat /dev/zero", NULL};
    const char *const to_argv[] = {"sh", "-c", "head -c 10 >/dev/null; echo full >&2; exit 5", NULL};
    struct co_process_spec from = sh(from_argv), to = sh(to_argv);
    CO_TEXT_AUTO err_out = CO_TEXT_INIT;
    struct co_process_result from_result, to_result;
    struct co_error err = {0};
    assert_int_equal(co_process_pipe(&from, &to, NULL, NULL, &err_out, &from_result, &to_result, &err), 0);
    assert_int_equal(to_result.status, 5);
    assert_int_not_equal(from_result.status, 0);
    assert_non_null(strstr(co_text_str(&err_out), "full"));
}

static void test_pipe_deadline(void **state)
{
    (void)state;
    const char *const from_argv[] = {"sh", "-c", "exec cat /dev/zero", NULL};
    const char *const to_argv[] = {"sh", "-c", "exec cat >/dev/null", NULL};
    struct co_process_spec from = sh(from_argv), to = sh(to_argv);
    to.deadline_ns = co_deadline_in_ms(200);
    struct co_process_result from_result, to_result;
    struct co_error err = {0};
    assert_int_equal(co_process_pipe(&from, &to, NULL, NULL, NULL, &from_result, &to_result, &err), CO_E_TIMEOUT);
    assert_false(to_result.ended);
}

static void test_pipe_background_holds_the_output(void **state)
{
    (void)state;
    const char *const from_argv[] = {"sh", "-c", "echo x; sleep 3 & exit 0", NULL};
    const char *const to_argv[] = {"sh", "-c", "read x; [ \"$x\" = x ]", NULL};
    struct co_process_spec from = sh(from_argv), to = sh(to_argv);
    struct co_process_result from_result, to_result;
    struct co_error err = {0};
    assert_int_equal(co_process_pipe(&from, &to, NULL, NULL, NULL, &from_result, &to_result, &err), 0);
    assert_int_equal(from_result.status, 0);
    assert_int_equal(to_result.status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_output_status_and_input),
        cmocka_unit_test(test_not_started),
        cmocka_unit_test(test_signal_is_a_status),
        cmocka_unit_test(test_deadline_kills_the_group),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_background_process_is_not_waited_for),
        cmocka_unit_test(test_output_is_capped_and_it_is_said),
        cmocka_unit_test(test_input_that_nobody_reads),
        cmocka_unit_test(test_environment_without_secrets),
        cmocka_unit_test(test_no_descriptor_is_inherited),
        cmocka_unit_test(test_lines_of_standard_error),
        cmocka_unit_test(test_end_marker_ends_it),
        cmocka_unit_test(test_kept_input_ends_with_the_command),
        cmocka_unit_test(test_pipe_moves_everything),
        cmocka_unit_test(test_pipe_from_fails),
        cmocka_unit_test(test_pipe_to_fails),
        cmocka_unit_test(test_pipe_deadline),
        cmocka_unit_test(test_pipe_background_holds_the_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
