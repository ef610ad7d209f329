/* clock_test.c - saturation, formats, waiting that a descriptor ends. No time is asserted. */
#include "unit.h"

#include <sys/eventfd.h>

#include "base/clock.h"

static void deadlines_saturate(void **state)
{
    (void)state;
    assert_true(co_deadline_in_ms(INT64_MAX) == CO_FOREVER);
    assert_true(co_deadline_in_ms(CO_FOREVER / CO_NS_PER_MS) == CO_FOREVER);
    assert_true(co_deadline_in_ms(-5) <= co_now_ns());
    assert_int_equal(co_ms_left(0), 0);
    assert_true(co_ms_left(CO_FOREVER) == INT64_MAX);
    assert_true(co_ms_left(co_now_ns() + CO_NS_PER_S * 1000) > 0);
    assert_true(co_min_deadline(3, CO_FOREVER) == 3);
}

static void wall_time_is_utc(void **state)
{
    (void)state;
    char text[40];
    co_wall_format(INT64_C(1795457677123), text, sizeof text);
    assert_string_equal(text, "2026-11-23T18:14:37.123Z");
    co_wall_format(-1, text, sizeof text);
    assert_string_equal(text, "1969-12-31T23:59:59.999Z");
    co_wall_format(0, text, 5);
    assert_string_equal(text, "1970");
}

static void a_readable_descriptor_ends_the_wait(void **state)
{
    (void)state;
    int fd = eventfd(1, EFD_CLOEXEC);
    co_wait_until(CO_FOREVER, fd); /* would hang for ever */
    close(fd);
    int64_t until = co_now_ns() + CO_NS_PER_MS;
    co_wait_until(until, -1);
    assert_true(co_now_ns() >= until);
    co_wait_until(0, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deadlines_saturate),
        cmocka_unit_test(wall_time_is_utc),
        cmocka_unit_test(a_readable_descriptor_ends_the_wait),
    };
    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
