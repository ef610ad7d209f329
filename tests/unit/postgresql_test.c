/* The PostgreSQL driver's parts that need no server: positions, timelines, quoting. The module's files are compiled in. */
#include "unit.h"

#include "../../drivers/postgresql/position.c"
#include "../../drivers/postgresql/text.c"

static void positions_are_ordered_within_a_timeline(void **state)
{
    (void)state;
    assert_int_equal(pg_compare("1:0/3000060", "1:0/3000060"), CO_ORDER_EQUAL);
    assert_int_equal(pg_compare("1:0/3000068", "1:0/3000060"), CO_ORDER_AHEAD);
    assert_int_equal(pg_compare("1:0/FFFFFFFF", "1:1/0"), CO_ORDER_BEHIND);
    assert_int_equal(pg_compare("4294967295:FFFFFFFF/FFFFFFFF", "4294967295:0/0"), CO_ORDER_AHEAD);
}

static void another_timeline_never_counts_as_contained(void **state)
{
    (void)state;
    assert_int_equal(pg_compare("1:0/5000000", "2:0/4000000"), CO_ORDER_DIVERGED);
    assert_int_equal(pg_compare("1:0/3000000", "2:0/4000000"), CO_ORDER_BEHIND);
    assert_int_equal(pg_compare("2:0/5000000", "1:0/4000000"), CO_ORDER_UNKNOWN);
    struct co_distance distance = {.size = sizeof distance};
    pg_distance("2:0/5000000", "1:0/6000000", &distance);
    assert_true(distance.bytes == -1);
}

static void malformed_text_is_no_position(void **state)
{
    (void)state;
    static const char *const bad[] = {"",       "0/3000060", "1:0/",  "1:/1",          "x:0/1", "0:0/1",
                                      "1:0/1 ", "1:0/1;",    "1:G/1", "1:0/123456789", "1 0/1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (pg_compare(bad[i], "1:0/1") != CO_ORDER_UNKNOWN || pg_compare("1:0/1", bad[i]) != CO_ORDER_UNKNOWN)
            fail_msg("'%s' counts as a position", bad[i]);
        struct co_distance distance = {.size = sizeof distance};
        pg_distance(bad[i], "1:0/1", &distance);
        assert_true(distance.bytes == -1 && distance.transactions == -1);
    }
    assert_int_equal(pg_compare(NULL, "1:0/1"), CO_ORDER_UNKNOWN);
}

static void distance_is_in_bytes_and_never_negative(void **state)
{
    (void)state;
    struct co_distance distance = {.size = sizeof distance};
    pg_distance("1:0/FFFFFF00", "1:1/100", &distance);
    assert_true(distance.bytes == 0x200);
    pg_distance("1:0/200", "1:0/100", &distance);
    assert_true(distance.bytes == 0);
    assert_true(distance.transactions == -1);
}

static void positions_are_printed_as_they_are_read(void **state)
{
    (void)state;
    struct pg_position position;
    char text[40];
    assert_true(pg_position_parse("17:16/B374D848", &position));
    pg_position_print(&position, text);
    assert_string_equal(text, "17:16/B374D848");
}

static void the_last_line_of_a_history_file_is_the_fork(void **state)
{
    (void)state;
    struct pg_position fork;
    assert_true(pg_fork_point("1\t0/3000148\tno recovery target specified\n\n2\t0/5000000\tbefore 2020\n", &fork));
    assert_int_equal(fork.timeline, 2);
    assert_true(fork.lsn == 0x5000000);
    assert_false(pg_fork_point("", &fork));
    assert_false(pg_fork_point("nonsense\n", &fork));
}

static void values_are_quoted_for_sql(void **state)
{
    (void)state;
    struct pg_text text = {0};
    pg_text_literal(&text, "it's");
    pg_text_add(&text, " ");
    pg_text_literal(&text, "a\\b'c");
    pg_text_add(&text, " ");
    pg_text_literal(&text, NULL);
    pg_text_add(&text, " ");
    pg_text_ident(&text, "we\"ird");
    assert_string_equal(pg_text_str(&text), "'it''s' E'a\\\\b''c' NULL \"we\"\"ird\"");
    pg_text_done(&text);
}

static void values_are_quoted_for_sh_and_configuration(void **state)
{
    (void)state;
    struct pg_text text = {0};
    pg_text_shell(&text, "a b'c $d");
    assert_string_equal(pg_text_str(&text), "'a b'\\''c $d'");
    pg_text_done(&text);
    pg_text_conninfo(&text, "host", "h");
    pg_text_conninfo(&text, "user", NULL);
    pg_text_conninfo(&text, "password", "x'y\\z");
    assert_string_equal(pg_text_str(&text), "host='h' password='x\\'y\\\\z'");
    pg_text_done(&text);
    pg_text_conf_line(&text, "primary_conninfo", "host='h'");
    assert_string_equal(pg_text_str(&text), "primary_conninfo = 'host=''h'''\n");
    pg_text_done(&text);
}

static void base64_is_as_the_rfc_has_it(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct pg_text text = {0};
        pg_text_base64(&text, pairs[i][0], strlen(pairs[i][0]));
        assert_string_equal(pg_text_str(&text), pairs[i][1]);
        pg_text_done(&text);
    }
}

static void a_text_has_a_maximum(void **state)
{
    (void)state;
    struct pg_text text = {0};
    char block[4096];
    memset(block, 'x', sizeof block);
    for (int i = 0; i < 1100 && !text.failed; i++)
        pg_text_bytes(&text, block, sizeof block);
    assert_true(text.failed);
    assert_string_equal(pg_text_str(&text), "");
    pg_text_done(&text);
}

static void integers_are_whole_or_refused(void **state)
{
    (void)state;
    assert_true(pg_int("42", -1) == 42);
    assert_true(pg_int("", -1) == -1);
    assert_true(pg_int("42x", -1) == -1);
    assert_true(pg_int("99999999999999999999", -1) == -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(positions_are_ordered_within_a_timeline),
        cmocka_unit_test(another_timeline_never_counts_as_contained),
        cmocka_unit_test(malformed_text_is_no_position),
        cmocka_unit_test(distance_is_in_bytes_and_never_negative),
        cmocka_unit_test(positions_are_printed_as_they_are_read),
        cmocka_unit_test(the_last_line_of_a_history_file_is_the_fork),
        cmocka_unit_test(values_are_quoted_for_sql),
        cmocka_unit_test(values_are_quoted_for_sh_and_configuration),
        cmocka_unit_test(base64_is_as_the_rfc_has_it),
        cmocka_unit_test(a_text_has_a_maximum),
        cmocka_unit_test(integers_are_whole_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
