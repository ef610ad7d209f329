/* What is taken from ACL users before 7.0, and given back: the driver's reading of ACL LIST. */
#include "acl_kit.h"
#include "unit/unit.h"

#define HASH "#2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"

static void assert_judged(const char *list, enum rd_rights expected)
{
    struct co_conn conn;

    kit_conn(&conn);
    assert_int_equal(rd_rights_judge(&conn, list), expected);
    kit_done(&conn);
}

static void assert_taken(const char *list, const char *expected)
{
    struct co_conn conn;
    struct rd_state state = {.users = (char *)list};
    char *sent;

    kit_conn(&conn);
    rd_out_take_rights(&conn, &state);
    sent = kit_sent(&conn);
    assert_string_equal(sent, expected);
    assert_false(conn.nomem);
    free(sent);
    kit_done(&conn);
}

static void assert_given(const char *list, const char *expected)
{
    struct co_conn conn;
    struct rd_state state = {.users = (char *)list};
    char *sent;

    kit_conn(&conn);
    rd_out_give_rights(&conn, &state);
    sent = kit_sent(&conn);
    assert_string_equal(sent, expected);
    free(sent);
    kit_done(&conn);
}

static void rules_are_applied_in_their_order(void **unused)
{
    (void)unused;
    assert_judged("user a on ~* +@all\n", RD_RIGHTS_FREE);
    assert_judged("user a on ~* +@all -@write -@scripting\n", RD_RIGHTS_NOBODYS);
    assert_judged("user a on ~* +@all -@write\n", RD_RIGHTS_FREE); /* EVAL is left */
    assert_judged("user a on ~* -@write -@all +@all\n", RD_RIGHTS_FREE);
    assert_judged("user a on ~* -@all +@read\n", RD_RIGHTS_NOBODYS);
    assert_judged("user a on ~* -@all +@hash\n", RD_RIGHTS_FREE);
    assert_judged("user a on ~* -@all +@hash -hset\n", RD_RIGHTS_NOBODYS);
    assert_judged("user a on ~* -@all +SET\n", RD_RIGHTS_FREE);
    assert_judged("user a on ~* -@all +set -set\n", RD_RIGHTS_NOBODYS);
}

static void a_subcommand_that_is_granted_counts_and_one_that_is_taken_leaves_the_rest(void **unused)
{
    (void)unused;
    assert_judged("user a on -@all +script|load\n", RD_RIGHTS_FREE);
    assert_judged("user a on -@all +script -script|load\n", RD_RIGHTS_FREE);
    assert_judged("user a on -@all +config|get +client\n", RD_RIGHTS_NOBODYS);
}

static void a_category_that_is_not_known_is_taken_for_everything(void **unused)
{
    (void)unused;
    assert_judged("user a on -@all +@later\n", RD_RIGHTS_FREE);
    assert_judged("user a on -@all +set -@later\n", RD_RIGHTS_FREE); /* and its taking for nothing */
}

static void users_that_are_off_count_too(void **unused)
{
    (void)unused;
    assert_judged("user a off ~* +@all\n", RD_RIGHTS_FREE); /* an administrator may switch it on, and nothing would be seen */
}

static void what_is_kept_tells_taken_from_nobodys(void **unused)
{
    (void)unused;
    assert_judged("user a on +@all -@write -@scripting\nuser changeover.kept.a off +@all\n", RD_RIGHTS_TAKEN);
    assert_judged("user a on +@all\nuser changeover.kept.a off +@all\n", RD_RIGHTS_PARTLY);
    assert_judged("user a on -@all +get\n", RD_RIGHTS_NOBODYS);
    assert_judged("", RD_RIGHTS_NOBODYS);
    assert_judged(NULL, RD_RIGHTS_UNKNOWN);
    assert_judged("user changeover.kept. on +@all\n", RD_RIGHTS_FREE); /* keeps nobody's */
}

static void where_there_is_no_need_nothing_is_judged(void **unused)
{
    struct co_conn conn;

    (void)unused;
    kit_conn(&conn);
    rd_version_parse("redis_version:7.0.15\r\n", &conn.version);
    assert_int_equal(rd_rights_judge(&conn, "user a on +@all\n"), RD_RIGHTS_NOT_NEEDED);
    rd_version_parse("redis_version:5.0.14\r\n", &conn.version);
    assert_int_equal(rd_rights_judge(&conn, NULL), RD_RIGHTS_NOT_NEEDED);
    kit_done(&conn);
}

static void rules_are_kept_and_taken_and_passwords_stay_where_they_are(void **unused)
{
    (void)unused;
    assert_taken("user app on " HASH " ~a:* &* +@all -@dangerous +config|get\nuser reader on nopass ~* -@all +@read\n",
                 "ACL SETUSER changeover.kept.app reset +@all -@dangerous +config|get\nACL SETUSER app -@write -@scripting\n");
}

static void originals_that_are_kept_are_never_replaced(void **unused)
{
    (void)unused;
    /* an administrator gave rights back under the fence: what it has now isn't the original */
    assert_taken("user a on +@all -@write +set\nuser changeover.kept.a off -@all +@hash\n",
                 "ACL SETUSER a -@write -@scripting\n");
    /* those of a user whose name only begins alike don't count */
    assert_taken("user a on -@all +set\nuser changeover.kept.ab off +@all\n",
                 "ACL SETUSER changeover.kept.a reset -@all +set\nACL SETUSER a -@write -@scripting\n");
}

static void rights_are_given_back_and_a_user_that_was_removed_stays_removed(void **unused)
{
    (void)unused;
    assert_given("user a on " HASH " ~* +@all -@write -@scripting\nuser changeover.kept.a off -@all +@hash +get\n",
                 "ACL SETUSER a -@all -@all +@hash +get\nACL DELUSER changeover.kept.a\n");
    assert_given("user changeover.kept.gone off +@all\nuser b on +@all\n", "ACL DELUSER changeover.kept.gone\n");
    assert_given("user b on +@all\n", "");
}

/* Such names are allowed; the rules begin behind them. */
static void a_user_that_is_named_like_a_rule_is_no_rule(void **unused)
{
    (void)unused;
    assert_judged("user +@all on ~* -@all +get\n", RD_RIGHTS_NOBODYS);
    assert_taken("user -@all on " HASH " ~* +@all\n",
                 "ACL SETUSER changeover.kept.-@all reset +@all\nACL SETUSER -@all -@write -@scripting\n");
    assert_taken("user +@all on " HASH " ~* -@all +set\n",
                 "ACL SETUSER changeover.kept.+@all reset -@all +set\nACL SETUSER +@all -@write -@scripting\n");
}

static void lines_that_are_no_users_are_passed_over(void **unused)
{
    (void)unused;
    assert_judged("\n\nuser\nuser \nnonsense +@all\nuser a\n", RD_RIGHTS_NOBODYS);
    assert_taken("user a", "");
    assert_true(rd_rights_is_kept("user changeover.kept.app off -@all"));
    assert_false(rd_rights_is_kept("user changeover on +@all"));
    assert_true(rd_rights_are_kept_for("user changeover.kept.app off -@all\n", "app", 3));
    assert_false(rd_rights_are_kept_for("user changeover.kept.apple off -@all\n", "app", 3));
    assert_false(rd_rights_are_kept_for(NULL, "app", 3));
}

static void no_more_users_than_a_transaction_bears(void **unused)
{
    struct co_conn conn;
    char *list = calloc(1, 40 * (RD_MAX_USERS + 5)), *to = list, *sent;
    struct rd_state state = {.users = list};
    size_t lines = 0;

    (void)unused;
    for (int at = 0; at < RD_MAX_USERS + 5; at++)
        to += sprintf(to, "user u%d on +@all\n", at);
    kit_conn(&conn);
    rd_out_take_rights(&conn, &state);
    sent = kit_sent(&conn);
    for (const char *at = sent; *at; at++)
        lines += *at == '\n';
    assert_int_equal(lines, 2 * RD_MAX_USERS);
    assert_int_equal(rd_rights_judge(&conn, list), RD_RIGHTS_FREE); /* so it isn't taken for a fence */
    free(sent);
    free(list);
    kit_done(&conn);
}

/* ---------------------------------------------------------------- what the journal gets */

static char facts[2000];

static void record_fact(void *ctx, const char *group, const char *name, const char *value)
{
    (void)ctx;
    (void)group;
    (void)snprintf(facts + strlen(facts), sizeof(facts) - strlen(facts), "%s: %s\n", name, value);
}

static void facts_hold_no_passwords_and_no_order_that_changes(void **unused)
{
    struct co_host host = {.fact = record_fact};
    struct co_call call = {.host = &host};
    redisReply *one =
        kit_reply("*3\r\n$31\r\nuser a on #00 >x ~k +@all +z +b\r\n$32\r\nuser changeover.kept.a off -@all\r\n$4\r\nuser\r\n");

    (void)unused;
    facts[0] = '\0';
    rd_rights_facts(&call, one);
    freeReplyObject(one);
    assert_string_equal(facts, "acl user a: on ~k +@all +b +z\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_are_applied_in_their_order),
        cmocka_unit_test(a_subcommand_that_is_granted_counts_and_one_that_is_taken_leaves_the_rest),
        cmocka_unit_test(a_category_that_is_not_known_is_taken_for_everything),
        cmocka_unit_test(users_that_are_off_count_too),
        cmocka_unit_test(what_is_kept_tells_taken_from_nobodys),
        cmocka_unit_test(where_there_is_no_need_nothing_is_judged),
        cmocka_unit_test(rules_are_kept_and_taken_and_passwords_stay_where_they_are),
        cmocka_unit_test(originals_that_are_kept_are_never_replaced),
        cmocka_unit_test(rights_are_given_back_and_a_user_that_was_removed_stays_removed),
        cmocka_unit_test(a_user_that_is_named_like_a_rule_is_no_rule),
        cmocka_unit_test(lines_that_are_no_users_are_passed_over),
        cmocka_unit_test(no_more_users_than_a_transaction_bears),
        cmocka_unit_test(facts_hold_no_passwords_and_no_order_that_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
