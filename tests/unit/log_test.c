/* log_test.c - messages are masked and never block: a pipe that nobody reads drops them and says how many. */
#include "unit.h"

#include <fcntl.h>

#include "base/log.h"
#include "base/secret.h"

static int pipe_fds[2];

/* Standard error becomes a pipe before the first message. */
static int make_pipe(void **state)
{
    (void)state;
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return -1;
    fflush(stderr);
    *state = (void *)(intptr_t)dup(STDERR_FILENO);
    return dup2(pipe_fds[1], STDERR_FILENO) < 0;
}

static int restore(void **state)
{
    return dup2((int)(intptr_t)*state, STDERR_FILENO) < 0;
}

static void says_masked_lines(void **state)
{
    (void)state;
    char got[1024];
    co_log_setup(CO_NORMAL);
    co_mask_add("log-test-secret");
    co_say("hello %s", "log-test-secret");
    co_warn("careful");
    co_complain("it failed");
    co_debug("not shown");
    co_log_status("no terminal, not shown");
    ssize_t bytes = read(pipe_fds[0], got, sizeof got - 1);
    assert_true(bytes > 0);
    got[bytes] = '\0';
    assert_string_equal(got, "hello ***\nwarning: careful\nchangeover: it failed\n");
    co_log_setup(CO_QUIET);
    co_say("not with -q");
    co_complain("but this");
    bytes = read(pipe_fds[0], got, sizeof got - 1);
    got[bytes] = '\0';
    assert_string_equal(got, "changeover: but this\n");
}

static void a_full_pipe_drops_and_counts(void **state)
{
    (void)state;
    char line[1000];
    memset(line, 'x', sizeof line);
    line[sizeof line - 1] = '\0';
    assert_int_equal(co_log_dropped(), 0);
    for (int i = 0; i < 200; i++)
        co_warn("%s", line); /* a pipe holds 64 KiB: this would hang */
    assert_true(co_log_dropped() > 0);
    long before = co_log_dropped();
    char drain[65536];
    assert_true(read(pipe_fds[0], drain, sizeof drain) > 0);
    co_warn("room again");
    assert_int_equal(co_log_dropped(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_masked_lines),
        cmocka_unit_test(a_full_pipe_drops_and_counts),
    };
    return cmocka_run_group_tests_name("log", tests, make_pipe, restore);
}
