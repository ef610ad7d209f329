/* text_test.c - co_text: maximum, overflow that sticks, use after done. */
#include "unit.h"

#include "base/text.h"

static void starts_empty_and_grows(void **state)
{
    (void)state;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    assert_string_equal(co_text_str(&text), "");
    for (int i = 0; i < 1000; i++)
        co_text_add(&text, "%d,", i);
    assert_false(text.overflow);
    assert_int_equal(text.bytes, 3890);
    assert_int_equal(strlen(text.data), text.bytes);
    co_text_set_str(&text, "short");
    assert_string_equal(text.data, "short");
    co_text_set_str(&text, NULL);
    assert_string_equal(text.data, "");
    co_text_done(&text);
    co_text_add(&text, "again");
    assert_string_equal(text.data, "again");
}

static void overflow_leaves_it_as_it_was_and_sticks(void **state)
{
    (void)state;
    struct co_text text = {.max = 10};
    co_text_set_str(&text, "0123456789");
    assert_false(text.overflow);
    co_text_add(&text, "x");
    assert_true(text.overflow);
    assert_string_equal(text.data, "0123456789");
    co_text_set_str(&text, "fits");
    assert_true(text.overflow);
    assert_string_equal(text.data, "fits");
    co_text_set_str(&text, "does not fit");
    assert_string_equal(text.data, "fits");
    assert_null(co_text_take(&text));
    co_text_clear(&text);
    assert_false(text.overflow);
    co_text_add_bytes(&text, "0123456789", 10);
    char *taken = co_text_take(&text);
    assert_string_equal(taken, "0123456789");
    free(taken);
    assert_null(text.data);
    co_text_done(&text);
}

static void may_be_added_to_itself(void **state)
{
    (void)state;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    co_text_set_str(&text, "abcdefghijklmnopqrstuvwxyz012345");
    for (int i = 0; i < 4; i++)
        co_text_add_bytes(&text, text.data, text.bytes);
    assert_int_equal(text.bytes, 32 * 16);
    assert_memory_equal(text.data + 480, "abcdefghijklmnopqrstuvwxyz012345", 33);
    co_text_set(&text, text.data + 1, 3);
    assert_string_equal(text.data, "bcd");
}

static void holds_nul_bytes_and_secrets(void **state)
{
    (void)state;
    struct co_text text = {.secret = true};
    co_text_add_bytes(&text, "a\0b", 3);
    assert_int_equal(text.bytes, 3);
    for (int i = 0; i < 100; i++)
        co_text_add_bytes(&text, "0123456789", 10);
    assert_memory_equal(text.data, "a\0b01", 5);
    co_text_clear(&text);
    assert_int_equal(text.data[500], 0);
    co_text_done(&text);
    co_text_done(NULL);
}

static void printf_and_strdup(void **state)
{
    (void)state;
    CO_AUTOFREE char *text = co_printf("%s-%d", "a", 7);
    assert_string_equal(text, "a-7");
    assert_null(co_strdup(NULL));
    CO_AUTOFREE char *empty = co_printf("%s", "");
    assert_string_equal(empty, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_empty_and_grows), cmocka_unit_test(overflow_leaves_it_as_it_was_and_sticks),
        cmocka_unit_test(may_be_added_to_itself), cmocka_unit_test(holds_nul_bytes_and_secrets),
        cmocka_unit_test(printf_and_strdup),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
