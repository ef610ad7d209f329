/* Positions of MongoDB: form, order, distance. The module's file is compiled in: it needs neither server nor library. */
#include "unit.h"

#include "../../drivers/mongodb/optime.c"

#define SET "f0042dafd8e8d53e22b94d50"
#define OTHER "a0042dafd8e8d53e22b94d50"

static void a_position_has_its_parts(void **state)
{
    (void)state;
    char set[64];
    struct mg_optime at;
    assert_true(mg_position_parse(SET "/3/1795464005.7", set, &at));
    assert_string_equal(set, SET);
    assert_int_equal(at.term, 3);
    assert_int_equal(at.seconds, 1795464005u);
    assert_int_equal(at.increment, 7);
}

static void malformed_text_is_no_position(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "/1/2.3",
                                      SET,
                                      SET "/",
                                      SET "/1",
                                      SET "/1/2",
                                      SET "/1/2.",
                                      SET "/1/2.3 ",
                                      SET "/-1/2.3",
                                      SET "/1/.3",
                                      SET "/1/4294967296.1",
                                      SET "/1/1.4294967296",
                                      SET "/9223372036854775808/1.1",
                                      SET "/1/2.3/4",
                                      SET SET SET "/1/2.3"};
    char set[64];
    struct mg_optime at;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(mg_position_parse(bad[i], set, &at));
        assert_int_equal(mg_compare(bad[i], SET "/1/2.3"), CO_ORDER_UNKNOWN);
        assert_int_equal(mg_compare(SET "/1/2.3", bad[i]), CO_ORDER_UNKNOWN);
    }
    assert_false(mg_position_parse(NULL, set, &at));
}

static void order_follows_terms_and_times(void **state)
{
    (void)state;
    assert_int_equal(mg_compare(SET "/1/100.1", SET "/1/100.1"), CO_ORDER_EQUAL);
    assert_int_equal(mg_compare(SET "/1/100.2", SET "/1/100.1"), CO_ORDER_AHEAD);
    assert_int_equal(mg_compare(SET "/1/101.1", SET "/1/100.9"), CO_ORDER_AHEAD);
    assert_int_equal(mg_compare(SET "/1/99.9", SET "/1/100.1"), CO_ORDER_BEHIND);
    assert_int_equal(mg_compare(SET "/2/100.1", SET "/1/100.1"), CO_ORDER_AHEAD);
    assert_int_equal(mg_compare(SET "/1/100.1", SET "/2/100.2"), CO_ORDER_BEHIND);
}

static void histories_that_parted_are_never_equal(void **state)
{
    (void)state;
    assert_int_equal(mg_compare(OTHER "/1/100.1", SET "/1/100.1"), CO_ORDER_DIVERGED);
    assert_int_equal(mg_compare(SET "/2/99.1", SET "/1/100.1"), CO_ORDER_DIVERGED);  /* written after a rollback */
    assert_int_equal(mg_compare(SET "/1/100.2", SET "/2/100.1"), CO_ORDER_DIVERGED); /* to be rolled back */
}

static void distance_is_known_only_when_there_is_none(void **state)
{
    (void)state;
    struct co_distance distance = {.size = sizeof distance};
    mg_distance(SET "/1/100.1", SET "/1/100.1", &distance);
    assert_int_equal(distance.transactions, 0);
    mg_distance(SET "/1/99.1", SET "/1/100.1", &distance);
    assert_int_equal(distance.transactions, -1);
    assert_int_equal(distance.bytes, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_position_has_its_parts),
        cmocka_unit_test(malformed_text_is_no_position),
        cmocka_unit_test(order_follows_terms_and_times),
        cmocka_unit_test(histories_that_parted_are_never_equal),
        cmocka_unit_test(distance_is_known_only_when_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
