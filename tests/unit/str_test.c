/* str_test.c - changeover/str.h, the strings of drivers. */
#include "unit.h"

#include "changeover/str.h"

static void test_grows_and_keeps_its_end(void **state)
{
    (void)state;
    CO_STR_AUTO str = {0};
    assert_string_equal(co_str_get(&str), "");
    for (int i = 0; i < 1000; i++)
        co_str_addf(&str, "%d,", i);
    assert_int_equal(str.bytes, strlen(co_str_get(&str)));
    assert_true(co_str_starts(co_str_get(&str), "0,1,2,"));
    co_str_clear(&str);
    co_str_add(&str, NULL);
    co_str_bytes(&str, "a\0b", 3);
    assert_int_equal(str.bytes, 3);
    assert_memory_equal(str.data, "a\0b", 4);
}

static void test_what_does_not_fit_is_seen_once_at_the_end(void **state)
{
    (void)state;
    CO_STR_AUTO str = {0};
    co_str_add(&str, "kept");
    co_str_bytes(&str, "x", CO_STR_MAX);
    assert_true(str.failed);
    assert_string_equal(co_str_get(&str), "");
    co_str_add(&str, "more");
    assert_int_equal(str.bytes, 4);
    co_str_clear(&str);
    co_str_add(&str, "again");
    assert_string_equal(co_str_get(&str), "again");
}

static void test_quotes(void **state)
{
    (void)state;
    CO_STR_AUTO str = {0};
    co_str_quoted(&str, '"', "a\"b");
    co_str_add(&str, " ");
    co_str_quoted(&str, '`', "");
    co_str_add(&str, " ");
    co_str_shell(&str, "it's; rm -rf \"$HOME\"");
    assert_string_equal(co_str_get(&str), "\"a\"\"b\" `` 'it'\\''s; rm -rf \"$HOME\"'");
}

static void test_base64_there_and_back(void **state)
{
    (void)state;
    unsigned char all[256];
    for (unsigned i = 0; i < sizeof all; i++)
        all[i] = (unsigned char)(i * 7);
    for (size_t bytes = 0; bytes <= sizeof all; bytes++) {
        CO_STR_AUTO code = {0}, plain = {0};
        co_str_base64(&code, all, bytes);
        assert_int_equal(code.bytes, (bytes + 2) / 3 * 4);
        assert_true(co_str_unbase64(&plain, co_str_get(&code), code.bytes));
        assert_int_equal(plain.bytes, bytes);
        assert_memory_equal(plain.data ? plain.data : "", all, bytes);
    }
    static const char *const wrong[] = {"abc", "ab=c", "====", "a===", "ab==cdef", "ab c", "ab\n="};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CO_STR_AUTO plain = {0};
        co_str_add(&plain, "x");
        assert_false(co_str_unbase64(&plain, wrong[i], strlen(wrong[i])));
        assert_string_equal(co_str_get(&plain), "x");
    }
}

static void test_numbers(void **state)
{
    (void)state;
    int64_t value = 7;
    assert_true(co_str_int("0", 1, &value) && value == 0);
    assert_true(co_str_int("-9223372036854775808", 20, &value) && value == INT64_MIN);
    assert_true(co_str_int("9223372036854775807", 19, &value) && value == INT64_MAX);
    static const char *const wrong[] = {"", "-", "+1", " 1", "1 ", "9223372036854775808", "-9223372036854775809", "0x1", "1-"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(co_str_int(wrong[i], strlen(wrong[i]), &value));
    assert_true(value == INT64_MAX);
}

static void test_comparing(void **state)
{
    (void)state;
    assert_true(co_str_same(NULL, NULL) && co_str_same("a", "a"));
    assert_false(co_str_same(NULL, "") || co_str_same("a", "b"));
    assert_true(co_str_starts("abc", "ab") && co_str_starts("abc", "") && !co_str_starts("a", "ab"));
    CO_STR_FREE char *copy = co_str_copy("abcdef", 3);
    assert_string_equal(copy, "abc");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows_and_keeps_its_end),
        cmocka_unit_test(test_what_does_not_fit_is_seen_once_at_the_end),
        cmocka_unit_test(test_quotes),
        cmocka_unit_test(test_base64_there_and_back),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_comparing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
