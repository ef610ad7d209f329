/* Positions of MariaDB and MySQL: kinds, order, distance. The module's file is compiled in: it needs no server. */
#include "unit.h"

#include "../../drivers/mysql/gtid.c"

#define U1 "3e11fa47-71ca-11e1-9e33-c80aa9429562"
#define U2 "4e11fa47-71ca-11e1-9e33-c80aa9429562"

static void kinds_are_told_apart(void **state)
{
    (void)state;
    assert_int_equal(my_pos_kind(""), MY_POS_EMPTY);
    assert_int_equal(my_pos_kind("none"), MY_POS_EMPTY);
    assert_int_equal(my_pos_kind(NULL), MY_POS_EMPTY);
    assert_int_equal(my_pos_kind("0-1-270"), MY_POS_MARIADB);
    assert_int_equal(my_pos_kind("0-1-270, 1-1-5"), MY_POS_MARIADB);
    assert_int_equal(my_pos_kind(U1 ":1-5"), MY_POS_MYSQL);
    assert_int_equal(my_pos_kind(U1 ":1-5:7,\n" U2 ":1"), MY_POS_MYSQL);
    assert_int_equal(my_pos_kind(U1 ":1-5:tag:1-3"), MY_POS_MYSQL);
    assert_int_equal(my_pos_kind("file:binlog.000012:345"), MY_POS_FILE);
}

static void malformed_text_is_no_position(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "0-1",
        "0-1-",
        "-1-1",
        "0-1-1,",
        "0-1-1 0-1-2",
        "0-1-1,0-1-2",
        "4294967296-1-1",
        "0-1-18446744073709551616",
        "a-b-c",
        U1,
        U1 ":",
        U1 ":0",
        U1 ":5-4",
        U1 ":1-",
        U1 ":1,",
        U1 ":tag",
        U1 ":99999999999999999999",
        "file:",
        "file:x:1",
        "file:x.1",
        "file:x.1:",
        "file:.1:2x",
        "3e11fa47-71ca-11e1-9e33-c80aa942956",
        "nonesuch",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (my_pos_kind(bad[i]) != MY_POS_BAD)
            fail_msg("'%s' counts as a position", bad[i]);
        assert_int_equal(my_pos_compare(bad[i], "0-1-1"), CO_ORDER_UNKNOWN);
        assert_int_equal(my_pos_compare("0-1-1", bad[i]), CO_ORDER_UNKNOWN);
    }
}

static void nothing_is_reached_by_an_empty_position(void **state)
{
    (void)state;
    assert_int_equal(my_pos_compare("0-1-1", ""), CO_ORDER_UNKNOWN);
    assert_int_equal(my_pos_compare("none", "none"), CO_ORDER_UNKNOWN);
    assert_int_equal(my_pos_compare("none", "0-1-1"), CO_ORDER_BEHIND);
    assert_int_equal(my_pos_compare("", U1 ":1"), CO_ORDER_BEHIND);
    assert_int_equal(my_pos_compare("0-1-1", U1 ":1"), CO_ORDER_UNKNOWN);
}

static void mariadb_positions_compare_by_domain(void **state)
{
    (void)state;
    assert_int_equal(my_pos_compare("0-1-5", "0-1-5"), CO_ORDER_EQUAL);
    assert_int_equal(my_pos_compare("0-1-6", "0-1-5"), CO_ORDER_AHEAD);
    assert_int_equal(my_pos_compare("0-2-6", "0-1-5"), CO_ORDER_AHEAD); /* after a cutover another server goes on */
    assert_int_equal(my_pos_compare("0-1-4", "0-1-5"), CO_ORDER_BEHIND);
    assert_int_equal(my_pos_compare("0-2-5", "0-1-5"), CO_ORDER_DIVERGED);
    assert_int_equal(my_pos_compare("1-1-7,0-1-5", "0-1-5,1-1-7"), CO_ORDER_EQUAL);
    assert_int_equal(my_pos_compare("0-1-5,1-1-7", "0-1-5"), CO_ORDER_AHEAD);
    assert_int_equal(my_pos_compare("0-1-5", "0-1-5,1-1-7"), CO_ORDER_BEHIND);
    assert_int_equal(my_pos_compare("0-1-9,1-1-6", "0-1-5,1-1-7"), CO_ORDER_BEHIND);
    assert_int_equal(my_pos_compare("1-1-9", "0-1-5"), CO_ORDER_DIVERGED);
}

static void mysql_sets_compare_by_content(void **state)
{
    (void)state;
    assert_int_equal(my_pos_compare(U1 ":1-5", U1 ":1-5"), CO_ORDER_EQUAL);
    assert_int_equal(my_pos_compare(U1 ":1-3:4-5", U1 ":1-5"), CO_ORDER_EQUAL);
    assert_int_equal(my_pos_compare("3E11FA47-71CA-11E1-9E33-C80AA9429562:1-5", U1 ":1-5"), CO_ORDER_EQUAL);
    assert_int_equal(my_pos_compare(U1 ":1-6", U1 ":1-5"), CO_ORDER_AHEAD);
    assert_int_equal(my_pos_compare(U1 ":1-5," U2 ":1", U1 ":1-5"), CO_ORDER_AHEAD);
    assert_int_equal(my_pos_compare(U1 ":1-4:6", U1 ":1-5"), CO_ORDER_BEHIND); /* a gap, as parallel appliers leave */
    assert_int_equal(my_pos_compare(U1 ":1-5", U1 ":1-5," U2 ":1"), CO_ORDER_BEHIND);
    assert_int_equal(my_pos_compare(U2 ":1-5", U1 ":1-5"), CO_ORDER_DIVERGED);
    assert_int_equal(my_pos_compare(U1 ":1-5:tag:1-2", U1 ":1-5:tag:1-3"), CO_ORDER_BEHIND);
    assert_int_equal(my_pos_compare(U1 ":1-5:tag:1-3", U1 ":1-5:TAG:1-3"), CO_ORDER_EQUAL);
    assert_int_equal(my_pos_compare(U1 ":1-5", U1 ":tag:1-3"), CO_ORDER_DIVERGED);
}

static int64_t transactions(const char *have, const char *want)
{
    struct co_distance d = {.size = sizeof d};
    my_pos_distance(have, want, &d);
    return d.transactions;
}

static void distance_counts_transactions(void **state)
{
    (void)state;
    assert_int_equal(transactions("0-1-5", "0-1-9"), 4);
    assert_int_equal(transactions("0-1-9", "0-1-5"), 0);
    assert_int_equal(transactions("0-1-5,1-1-1", "0-1-9,1-1-3"), 6);
    assert_int_equal(transactions("none", "0-1-9"), 9);
    assert_int_equal(transactions("0-1-1", "0-1-18446744073709551615"), INT64_MAX);
    assert_int_equal(transactions(U1 ":1-5", U1 ":1-9"), 4);
    assert_int_equal(transactions(U1 ":2-3:7", U1 ":1-9"), 6);
    assert_int_equal(transactions(U1 ":1-9", U1 ":1-5"), 0);
    assert_int_equal(transactions("", U1 ":1-5," U2 ":3-4"), 7);
    assert_int_equal(transactions(U2 ":1-100", U1 ":1-5," U2 ":1-101"), 6);
    assert_int_equal(transactions("0-1-5", U1 ":1"), -1);
    assert_int_equal(transactions("0-1-5", ""), -1);
    assert_int_equal(transactions("junk", "0-1-5"), -1);
}

static void bytes_are_known_within_one_file(void **state)
{
    (void)state;
    struct co_distance d = {.size = sizeof d};
    my_pos_distance("file:b.000001:100", "file:b.000001:350", &d);
    assert_int_equal(d.bytes, 250);
    assert_int_equal(d.transactions, -1);
    my_pos_distance("file:b.000001:100", "file:b.000002:4", &d);
    assert_int_equal(d.bytes, -1);
    assert_int_equal(my_pos_compare("file:b.000009:100", "file:b.000010:4"), CO_ORDER_BEHIND);
    assert_int_equal(my_pos_compare("file:b.000010:4", "file:b.000010:4"), CO_ORDER_EQUAL);
    /* of two servers' logs, or of another name: in no order, however the numbers are */
    assert_int_equal(my_pos_kind("file:" U1 "/b.000002:100"), MY_POS_FILE);
    assert_int_equal(my_pos_compare("file:" U1 "/b.000002:100", "file:" U1 "/b.000001:900"), CO_ORDER_AHEAD);
    assert_int_equal(my_pos_compare("file:" U2 "/b.000002:100", "file:" U1 "/b.000001:900"), CO_ORDER_DIVERGED);
    assert_int_equal(my_pos_compare("file:" U2 "/b.000001:900", "file:" U1 "/b.000001:900"), CO_ORDER_DIVERGED);
    assert_int_equal(my_pos_compare("file:c.000001:900", "file:b.000001:900"), CO_ORDER_DIVERGED);
    my_pos_distance("file:" U2 "/b.000001:100", "file:" U1 "/b.000001:350", &d);
    assert_int_equal(d.bytes, -1);
}

static void a_promoted_server_has_exactly_what_was_captured(void **state)
{
    (void)state;
    assert_true(my_pos_equal_in("0-1-5,7-2-1", "0-1-5"));
    assert_false(my_pos_equal_in("0-2-6", "0-1-5"));
    assert_false(my_pos_equal_in("0-2-5", "0-1-5"));
    assert_false(my_pos_equal_in("", "0-1-5"));
    assert_false(my_pos_equal_in("7-2-1", "0-1-5"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_are_told_apart),
        cmocka_unit_test(malformed_text_is_no_position),
        cmocka_unit_test(nothing_is_reached_by_an_empty_position),
        cmocka_unit_test(mariadb_positions_compare_by_domain),
        cmocka_unit_test(mysql_sets_compare_by_content),
        cmocka_unit_test(distance_counts_transactions),
        cmocka_unit_test(bytes_are_known_within_one_file),
        cmocka_unit_test(a_promoted_server_has_exactly_what_was_captured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
