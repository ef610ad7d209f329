/* parse_test.c - numbers, durations, sizes: what is taken, what is refused, and that the refusal says why. */
#include "unit.h"

#include "base/parse.h"

static void integers(void **state)
{
    (void)state;
    struct co_error err;
    int64_t value = 42;
    assert_int_equal(co_parse_int("0", 0, 10, &value, &err), 0);
    assert_int_equal(value, 0);
    assert_int_equal(co_parse_int("-9223372036854775808", INT64_MIN, INT64_MAX, &value, &err), 0);
    assert_true(value == INT64_MIN);
    assert_int_equal(co_parse_int("9223372036854775807", INT64_MIN, INT64_MAX, &value, &err), 0);
    assert_true(value == INT64_MAX);
    const char *const bad[] = {
        "",   "-", "+1", " 1", "1 ", "0x10", "1.0", "9223372036854775808", "-9223372036854775809", "99999999999999999999999",
        "ten"};
    value = 42;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(co_parse_int(bad[i], INT64_MIN, INT64_MAX, &value, &err), CO_E_CONFIG);
        assert_int_equal(value, 42);
        assert_contains(err.message, "expected a whole number");
    }
    assert_int_equal(co_parse_int("65536", 1, 65535, &value, &err), CO_E_CONFIG);
    assert_string_equal(err.message, "expected a whole number from 1 to 65535, got \"65536\"");
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"500ms", 500}, {"10s", 10000}, {"2m", 120000},   {"1h", 3600000}, {"1.5s", 1500}, {"7", 7000},
                {"0", 0},       {"0.25", 250},  {"1d", 86400000}, {"0.001s", 1},   {"1 s", 1000},  {"0.5m", 30000}};
    struct co_error err;
    int64_t value = -7;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(co_parse_duration_ms(good[i].text, &value, &err), 0);
        assert_int_equal(value, good[i].ms);
    }
    const char *const bad[] = {
        "", "s", "-1s", "1.5", "1.s", ".5s", "1sec", "1m30s", "1.0001s", "0.5ms", "1e3", "9223372036854775807h", "1  s", "nan"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (strcmp(bad[i], "1.5") == 0)
            continue; /* seconds: fine */
        assert_int_equal(co_parse_duration_ms(bad[i], &value, &err), CO_E_CONFIG);
        assert_contains(err.message, bad[i]);
    }
}

static void sizes(void **state)
{
    (void)state;
    struct co_error err;
    int64_t value;
    assert_int_equal(co_parse_bytes("1024", &value, &err), 0);
    assert_int_equal(value, 1024);
    assert_int_equal(co_parse_bytes("64KiB", &value, &err), 0);
    assert_int_equal(value, 65536);
    assert_int_equal(co_parse_bytes("1.5MiB", &value, &err), 0);
    assert_int_equal(value, 1572864);
    assert_int_equal(co_parse_bytes("1GB", &value, &err), 0);
    assert_int_equal(value, 1000000000);
    assert_int_equal(co_parse_bytes("64K", &value, &err), CO_E_CONFIG);
    assert_int_equal(co_parse_bytes("1.5B", &value, &err), CO_E_CONFIG);
    assert_int_equal(co_parse_bytes("9999999TiB", &value, &err), CO_E_CONFIG);
    assert_int_equal(co_parse_bytes("-1", &value, &err), CO_E_CONFIG);
}

static void booleans(void **state)
{
    (void)state;
    struct co_error err;
    bool value = false;
    assert_int_equal(co_parse_bool("Yes", &value, &err), 0);
    assert_true(value);
    assert_int_equal(co_parse_bool("off", &value, &err), 0);
    assert_false(value);
    assert_int_equal(co_parse_bool("1", &value, &err), CO_E_CONFIG);
}

static void shown_for_people(void **state)
{
    (void)state;
    char text[32];
    assert_string_equal(co_format_duration_ms(230, text), "230 ms");
    assert_string_equal(co_format_duration_ms(1500, text), "1.5 s");
    assert_string_equal(co_format_duration_ms(10000, text), "10 s");
    assert_string_equal(co_format_duration_ms(123000, text), "2 m 3 s");
    assert_string_equal(co_format_duration_ms(7320000, text), "2 h 2 m");
    assert_string_equal(co_format_duration_ms(-1, text), "unknown");
    assert_string_equal(co_format_bytes(1023, text), "1023 B");
    assert_string_equal(co_format_bytes(13002342, text), "12.4 MiB");
    assert_string_equal(co_format_bytes(1048575, text), "1.0 MiB");
    assert_string_equal(co_format_bytes(INT64_MAX, text), "8.0 EiB");
    assert_string_equal(co_format_bytes(-1, text), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers), cmocka_unit_test(durations),        cmocka_unit_test(sizes),
        cmocka_unit_test(booleans), cmocka_unit_test(shown_for_people),
    };
    return cmocka_run_group_tests_name("parse", tests, NULL, NULL);
}
