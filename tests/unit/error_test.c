/* error_test.c - co_error: masked before it is cut, whole UTF-8 characters, arguments from the error itself. */
#include "unit.h"

#include "base/error.h"
#include "base/secret.h"

static void sets_and_clears(void **state)
{
    (void)state;
    struct co_error err = {.hint = "old", .native = "old"};
    assert_int_equal(co_fail(&err, CO_E_TIMEOUT, "waited %d ms", 5), CO_E_TIMEOUT);
    assert_int_equal(err.code, CO_E_TIMEOUT);
    assert_string_equal(err.message, "waited 5 ms");
    assert_string_equal(err.hint, "");
    assert_string_equal(err.native, "");
    co_hint(&err, "Wait %s.", "longer");
    co_error_prefix(&err, "pair %s: ", "orders");
    assert_string_equal(err.message, "pair orders: waited 5 ms");
    assert_string_equal(err.hint, "Wait longer.");
    co_fail(&err, CO_E_IO, "again: %s", err.message);
    assert_string_equal(err.message, "again: pair orders: waited 5 ms");
    co_error_clear(&err);
    assert_int_equal(err.code, 0);
    assert_int_equal(co_fail(NULL, CO_E_DATA, "x"), CO_E_DATA);
    co_hint(NULL, "x");
    co_error_prefix(NULL, "x");
    co_error_clear(NULL);
}

static void is_cut_between_characters(void **state)
{
    (void)state;
    struct co_error err;
    char text[2000];
    for (size_t i = 0; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "\xc3\xa9", 3);
    co_fail(&err, CO_E_SERVER, "x%s", text);
    size_t bytes = strlen(err.message);
    assert_true(bytes < sizeof err.message);
    assert_string_equal(err.message + bytes - 3, "...");
    assert_int_equal((unsigned char)err.message[bytes - 4], 0xa9);
}

static void never_ends_in_half_a_secret(void **state)
{
    (void)state;
    struct co_error err;
    char filler[640];
    memset(filler, 'x', sizeof filler);
    filler[sizeof filler - 10] = '\0';
    co_mask_add("error-test-secret-value");
    co_fail(&err, CO_E_SERVER, "%s error-test-secret-value", filler);
    assert_lacks(err.message, "error-test");
    co_fail(&err, CO_E_SERVER, "login with error-test-secret-value failed");
    assert_string_equal(err.message, "login with *** failed");
    co_error_prefix(&err, "error-test-secret-value: ");
    assert_string_equal(err.message, "***: login with *** failed");
}

static void every_code_has_a_name(void **state)
{
    (void)state;
    for (int code = CO_E_SERVER; code <= 0; code++)
        assert_string_not_equal(co_error_code_name(code), "unknown");
    assert_string_equal(co_error_code_name(1), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_and_clears),
        cmocka_unit_test(is_cut_between_characters),
        cmocka_unit_test(never_ends_in_half_a_secret),
        cmocka_unit_test(every_code_has_a_name),
    };
    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
