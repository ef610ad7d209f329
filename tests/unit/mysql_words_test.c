/* Statements of MariaDB and MySQL by version. The module's file is compiled in: it needs no server. What each version knows
 * is from the reference manuals of MySQL 5.7, 8.0, 8.4 and 9 and from MariaDB's. */
#include "unit.h"

#include "../../drivers/mysql/words.c"

struct spoken {
    unsigned long version;
    const char *status, *log_status, *replica, *change, *source, *reset_log, *slaveside, *pos_wait, *public_key;
    bool persist;
};

static const struct spoken mysql[] = {
    {50709, "SHOW SLAVE STATUS", "SHOW MASTER STATUS", "SLAVE", "CHANGE MASTER TO", "MASTER", "RESET MASTER",
     "DISABLE ON SLAVE", "MASTER_POS_WAIT", "", false},
    {80021, "SHOW SLAVE STATUS", "SHOW MASTER STATUS", "SLAVE", "CHANGE MASTER TO", "MASTER", "RESET MASTER",
     "DISABLE ON SLAVE", "MASTER_POS_WAIT", ",GET_MASTER_PUBLIC_KEY=1", true},
    {80022, "SHOW REPLICA STATUS", "SHOW MASTER STATUS", "REPLICA", "CHANGE MASTER TO", "MASTER", "RESET MASTER",
     "DISABLE ON SLAVE", "MASTER_POS_WAIT", ",GET_MASTER_PUBLIC_KEY=1", true},
    {80023, "SHOW REPLICA STATUS", "SHOW MASTER STATUS", "REPLICA", "CHANGE REPLICATION SOURCE TO", "SOURCE", "RESET MASTER",
     "DISABLE ON SLAVE", "MASTER_POS_WAIT", ",GET_SOURCE_PUBLIC_KEY=1", true},
    {80026, "SHOW REPLICA STATUS", "SHOW MASTER STATUS", "REPLICA", "CHANGE REPLICATION SOURCE TO", "SOURCE", "RESET MASTER",
     "DISABLE ON SLAVE", "SOURCE_POS_WAIT", ",GET_SOURCE_PUBLIC_KEY=1", true},
    {80100, "SHOW REPLICA STATUS", "SHOW MASTER STATUS", "REPLICA", "CHANGE REPLICATION SOURCE TO", "SOURCE", "RESET MASTER",
     "DISABLE ON SLAVE", "SOURCE_POS_WAIT", ",GET_SOURCE_PUBLIC_KEY=1", true},
    {80200, "SHOW REPLICA STATUS", "SHOW BINARY LOG STATUS", "REPLICA", "CHANGE REPLICATION SOURCE TO", "SOURCE",
     "RESET BINARY LOGS AND GTIDS", "DISABLE ON REPLICA", "SOURCE_POS_WAIT", ",GET_SOURCE_PUBLIC_KEY=1", true},
    {80400, "SHOW REPLICA STATUS", "SHOW BINARY LOG STATUS", "REPLICA", "CHANGE REPLICATION SOURCE TO", "SOURCE",
     "RESET BINARY LOGS AND GTIDS", "DISABLE ON REPLICA", "SOURCE_POS_WAIT", ",GET_SOURCE_PUBLIC_KEY=1", true},
    {90704, "SHOW REPLICA STATUS", "SHOW BINARY LOG STATUS", "REPLICA", "CHANGE REPLICATION SOURCE TO", "SOURCE",
     "RESET BINARY LOGS AND GTIDS", "DISABLE ON REPLICA", "SOURCE_POS_WAIT", ",GET_SOURCE_PUBLIC_KEY=1", true},
};

static void speaks(const struct co_conn *conn, const struct spoken *s)
{
    assert_string_equal(my_word_status(conn), s->status);
    assert_string_equal(my_word_log_status(conn), s->log_status);
    assert_string_equal(my_word_replica(conn), s->replica);
    assert_string_equal(my_word_change(conn), s->change);
    assert_string_equal(my_word_source(conn), s->source);
    assert_string_equal(my_word_reset_log(conn), s->reset_log);
    assert_string_equal(my_word_slaveside(conn), s->slaveside);
    assert_string_equal(my_word_pos_wait(conn), s->pos_wait);
    assert_string_equal(my_word_public_key(conn), s->public_key);
    assert_int_equal(my_has_persist(conn), s->persist);
}

static void a_mysql_is_spoken_to_in_the_words_of_its_version(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mysql / sizeof *mysql; i++) {
        struct co_conn conn = {.flavour = MY_MYSQL, .version = mysql[i].version};
        speaks(&conn, &mysql[i]);
    }
}

static void a_mariadb_keeps_the_old_words_whatever_its_number(void **state)
{
    (void)state;
    static const struct spoken words = {
        0,        "SHOW ALL SLAVES STATUS", "SHOW MASTER STATUS", "SLAVE",           "CHANGE MASTER TO",
        "MASTER", "RESET MASTER",           "DISABLE ON SLAVE",   "MASTER_POS_WAIT", "",
        false};
    static const unsigned long versions[] = {100523, 101119, 110405, 110809, 120302};
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        struct co_conn conn = {.flavour = MY_MARIADB, .version = versions[i]};
        speaks(&conn, &words);
    }
}

/* MySQL before 5.7.20 has no transaction_isolation, MySQL 8.0 no tx_isolation, a later MariaDB may drop that too. */
static void a_session_begins_without_a_variable_that_some_version_lacks(void **state)
{
    (void)state;
    static const struct {
        enum my_flavour flavour;
        unsigned long version;
        const char *has, *lacks;
    } cases[] = {
        {MY_MYSQL, 50709, "max_execution_time", "max_statement_time"},
        {MY_MYSQL, 90704, "max_execution_time", "idle_transaction_timeout"},
        {MY_MARIADB, 100523, "idle_transaction_timeout", "max_execution_time"},
        {MY_MARIADB, 120302, "max_statement_time", "max_execution_time"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct co_conn conn = {.flavour = cases[i].flavour, .version = cases[i].version};
        const char *sql = my_word_session(&conn);
        assert_non_null(strstr(sql, cases[i].has));
        assert_null(strstr(sql, cases[i].lacks));
        assert_null(strstr(sql, "tx_isolation"));
        assert_null(strstr(sql, "transaction_isolation"));
        assert_non_null(strstr(sql, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE"));
    }
}

static void a_dump_is_loaded_without_a_variable_that_the_target_lacks(void **state)
{
    (void)state;
    static const struct {
        enum my_flavour flavour;
        unsigned long version;
        bool requires, generates;
    } cases[] = {
        {MY_MYSQL, 50709, false, false},    {MY_MYSQL, 80012, false, false}, {MY_MYSQL, 80013, true, false},
        {MY_MYSQL, 80029, true, false},     {MY_MYSQL, 80030, true, true},   {MY_MYSQL, 90704, true, true},
        {MY_MARIADB, 110809, false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct co_conn conn = {.flavour = cases[i].flavour, .version = cases[i].version};
        const char *option = my_word_load_session(&conn);
        assert_int_equal(strstr(option, "sql_require_primary_key") != NULL, cases[i].requires);
        assert_int_equal(strstr(option, "sql_generate_invisible_primary_key") != NULL, cases[i].generates);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mysql_is_spoken_to_in_the_words_of_its_version),
        cmocka_unit_test(a_mariadb_keeps_the_old_words_whatever_its_number),
        cmocka_unit_test(a_session_begins_without_a_variable_that_some_version_lacks),
        cmocka_unit_test(a_dump_is_loaded_without_a_variable_that_the_target_lacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
