/* endpoint_test.c - the guarded call: a driver that misbehaves in every way never gets past the wrapper, and
 * connections that lead elsewhere are never used. */
#include "dummy_driver.h"

#include <poll.h>
#include <fcntl.h>
#include <pthread.h>

#include "base/fault.h"
#include "base/secret.h"
#include "drivers-host/internal.h"

struct fixture {
    const char *folder;
    struct co_config *config;
    struct co_pair *pair;
    struct co_endpoint *a, *b;
};
static struct fixture fix;

static int64_t soon(void)
{
    return co_deadline_in_ms(10000);
}

static int setup(void **state)
{
    (void)state;
    dummy_reset();
    fix.folder = unit_folder();
    fix.config = dummy_config(fix.folder, "    level: 3\n    flags: [one, two]\n    accept: [old_version]\n", "", "");
    fix.pair = dummy_pair(fix.config);
    fix.a = co_endpoint_new(fix.pair, CO_SIDE_A, CO_CONN_MAIN);
    fix.b = co_endpoint_new(fix.pair, CO_SIDE_B, CO_CONN_MAIN);
    co_pair_set_run(fix.pair, &dummy_run);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    co_endpoint_free(fix.a);
    co_endpoint_free(fix.b);
    co_pair_free(fix.pair);
    assert_int_equal(atomic_load(&dummy.connects), atomic_load(&dummy.disconnects)); /* no connection leaks */
    co_config_free(fix.config);
    unit_remove(fix.folder);
    return 0;
}

static void faults(const char *value)
{
    struct co_error err = {0};
    setenv("CO_TEST_FAULT", value, 1);
    if (co_fault_setup("CO_TEST_FAULT", &err) < 0)
        fail_msg("%s", err.message);
}

static const struct co_step *step(const char *name)
{
    for (size_t i = 0; i < co_pair_step_count(fix.pair); i++)
        if (strcmp(co_pair_step(fix.pair, i)->name, name) == 0)
            return co_pair_step(fix.pair, i);
    fail_msg("no step %s", name);
    return NULL;
}

/* ---------------------------------------------------------------- what goes well */

static void test_position_connects_by_itself(void **state)
{
    (void)state;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    struct co_error err = {0};
    assert_false(co_endpoint_connected(fix.a));
    assert_int_equal(co_ep_position(fix.a, soon(), &text, &err), CO_DONE);
    assert_string_equal(co_text_str(&text), "7");
    assert_true(co_endpoint_connected(fix.a));
    assert_int_equal(co_ep_position(fix.a, soon(), &text, &err), CO_DONE);
    assert_int_equal(atomic_load(&dummy.connects), 1);
}

static enum co_result check_call(const char *what, struct co_call *call, struct dummy_args *args)
{
    (void)args;
    const struct co_host *host = call->host;
    if (strcmp(what, "settings") != 0)
        return DUMMY_GO_ON;
    assert_int_equal(call->side, CO_SIDE_B);
    assert_int_equal(call->role, CO_TARGET);
    assert_non_null(call->conn);
    assert_string_equal(call->run->token, "run-1:1");
    assert_string_equal(call->run->session_name, "changeover:run-1:tool-1");
    assert_string_equal(host->endpoint(call->ctx, CO_SIDE_A)->user, "alice");
    assert_int_equal(host->endpoint(call->ctx, CO_SIDE_B)->port, 99);
    assert_null(host->endpoint(call->ctx, CO_SIDE_LOCAL));
    assert_string_equal(host->option(call->ctx, "mode"), "fast");
    assert_string_equal(host->option(call->ctx, "level"), "3");
    assert_null(host->option(call->ctx, "nosuch"));
    assert_null(host->option(call->ctx, NULL));
    assert_string_equal(host->side_option(call->ctx, CO_SIDE_A, "host.data_directory"), "/var/lib/dummy");
    assert_string_equal(host->argv_option(call->ctx, -1, "flags")[1], "two");
    assert_null(host->argv_option(call->ctx, -1, "level"));
    assert_null(host->argv_option(call->ctx, 7, "flags"));
    assert_string_equal(host->url_param(call->ctx, CO_SIDE_A, "color"), "red");
    assert_null(host->url_param(call->ctx, CO_SIDE_B, "color"));
    assert_null(host->secret(call->ctx, CO_SIDE_A, CO_SECRET_PASSWORD));
    assert_string_equal(host->secret_user(call->ctx, CO_SECRET_PASSWORD), "bob");
    assert_true(host->accepted(call->ctx, "old_version"));
    assert_false(host->accepted(call->ctx, "other"));
    char hex[33];
    host->hash(call->ctx, "", 0, hex);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
    host->mask(call->ctx, "generated-password-1");
    host->trace(call->ctx, "%s", "generated-password-1");
    host->fact(call->ctx, "setting", "conninfo", "password=generated-password-1");
    return CO_DONE;
}

static char fact_value[100];
static void keep_fact(void *arg, const char *group, const char *name, const char *value)
{
    (void)arg;
    (void)group;
    (void)name;
    snprintf(fact_value, sizeof fact_value, "%s", value);
}

static void test_what_a_call_can_ask(void **state)
{
    (void)state;
    dummy.on = check_call;
    struct co_sink sink = {.fact = keep_fact};
    co_endpoint_sink(fix.b, &sink);
    struct co_error err = {0};
    assert_int_equal(co_ep_settings(fix.b, soon(), &err), CO_DONE);
    assert_string_equal(fact_value, "password=***");
}

static void test_roles_follow_the_run(void **state)
{
    (void)state;
    assert_int_equal(co_endpoint_role(fix.a), CO_SOURCE);
    struct co_run back = dummy_run;
    back.id = "run-2";
    back.source = CO_SIDE_B;
    co_pair_set_run(fix.pair, &back);
    assert_int_equal(co_endpoint_role(fix.a), CO_TARGET);
    co_pair_set_run(fix.pair, NULL);
    assert_null(co_pair_run(fix.pair));
    co_pair_set_source(fix.pair, CO_SIDE_A);
    assert_int_equal(co_endpoint_role(fix.a), CO_SOURCE);
}

/* ---------------------------------------------------------------- a driver that breaks the contract */

static enum co_result answer;
static int answer_code;
static const char *answer_message = "because";
static const char *asked;

static enum co_result on_answer(const char *what, struct co_call *call, struct dummy_args *args)
{
    (void)args;
    if (strcmp(what, asked) != 0)
        return DUMMY_GO_ON;
    if (answer_message)
        dummy_fail(call, CO_DONE, answer_code, answer_message);
    call->err->code = answer_code;
    return answer;
}

static enum co_result position_answers(enum co_result result, int code, const char *message, struct co_error *err)
{
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    asked = "position";
    answer = result;
    answer_code = code;
    answer_message = message;
    dummy.on = on_answer;
    *err = (struct co_error){0};
    return co_ep_position(fix.a, soon(), &text, err);
}

static void test_failures_name_pair_side_and_address(void **state)
{
    (void)state;
    struct co_error err;
    assert_int_equal(position_answers(CO_NO_EFFECT, CO_E_BROKEN, "the link is down", &err), CO_NO_EFFECT);
    assert_int_equal(err.code, CO_E_BROKEN);
    assert_contains(err.message, "pair orders, side a (10.0.0.1");
    assert_contains(err.message, "): the link is down");
}

static void test_wrong_results(void **state)
{
    (void)state;
    struct co_error err;
    assert_int_equal(position_answers((enum co_result)17, 0, NULL, &err), CO_NO_EFFECT);
    assert_int_equal(err.code, CO_E_INTERNAL);
    assert_contains(err.message, "answered 17");
    assert_int_equal(position_answers(CO_NO_EFFECT, 0, NULL, &err), CO_NO_EFFECT);
    assert_contains(err.message, "without saying why");
    assert_int_equal(position_answers(CO_NO_EFFECT, CO_E_BROKEN, "", &err), CO_NO_EFFECT);
    assert_contains(err.message, "no message");
    assert_int_equal(err.code, CO_E_INTERNAL);
    assert_int_equal(position_answers(CO_NO_EFFECT, -77, "odd", &err), CO_NO_EFFECT);
    assert_contains(err.message, "unknown code -77");
    assert_int_equal(position_answers(CO_AGAIN, 0, NULL, &err), CO_NO_EFFECT);
    assert_contains(err.message, "called again");
    assert_int_equal(position_answers(CO_EFFECT_UNKNOWN, CO_E_TIMEOUT, "slow", &err), CO_NO_EFFECT); /* it only reads */
    assert_int_equal(err.code, CO_E_TIMEOUT);
    assert_int_equal(position_answers(CO_DONE, 0, NULL, &err), CO_NO_EFFECT);
    assert_contains(err.message, "gave nothing");
}

static void test_an_apply_that_answers_nonsense_is_effect_unknown(void **state)
{
    (void)state;
    struct co_error err = {0};
    asked = "apply";
    answer = (enum co_result) - 3;
    answer_code = 0;
    dummy.on = on_answer;
    assert_int_equal(co_ep_step_apply(fix.a, NULL, step("fence.deny"), soon(), &err), CO_EFFECT_UNKNOWN);
    assert_int_equal(err.code, CO_E_INTERNAL);
}

static void test_a_stale_error_of_a_success_is_dropped(void **state)
{
    (void)state;
    struct co_error err = {0};
    asked = "apply";
    answer = CO_DONE;
    answer_code = CO_E_SERVER;
    answer_message = "left over";
    dummy.on = on_answer;
    assert_int_equal(co_ep_step_apply(fix.a, NULL, step("fence.deny"), soon(), &err), CO_DONE);
    assert_int_equal(err.code, CO_E_NONE);
}

static enum co_result on_odd_text(const char *what, struct co_call *call, struct dummy_args *args)
{
    if (strcmp(what, "position") == 0) {
        call->host->text_set(call->ctx, args->text, "1\0002", 3);
        return CO_DONE;
    }
    if (strcmp(what, "applied") == 0) {
        static char big[70000];
        memset(big, 'x', sizeof big);
        for (int i = 0; i < 70; i++)
            call->host->text_add(call->ctx, args->text, "%.*s", (int)sizeof big, big);
        return CO_DONE;
    }
    if (strcmp(what, "identify") == 0) {
        call->host->text_set(call->ctx, args->identity->product, NULL, 0);
        return CO_DONE;
    }
    if (strcmp(what, "link") == 0) {
        args->link->state = (enum co_link_state)9;
        return CO_DONE;
    }
    if (strcmp(what, "probe") == 0)
        return CO_DONE;
    if (strcmp(what, "drain") == 0) {
        memset(call->err, 'y', sizeof *call->err); /* no NUL anywhere */
        call->err->code = CO_E_SERVER;
        return CO_NO_EFFECT;
    }
    if (strcmp(what, "check") == 0) {
        struct co_finding finding = {.code = NULL, .message = "m"};
        call->host->finding(call->ctx, &finding);
        return CO_DONE;
    }
    return DUMMY_GO_ON;
}

static void test_texts_and_values_out_of_range(void **state)
{
    (void)state;
    dummy.on = on_odd_text;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    struct co_error err = {0};
    assert_int_equal(co_ep_position(fix.a, soon(), &text, &err), CO_NO_EFFECT);
    assert_contains(err.message, "NUL");
    assert_int_equal(co_ep_applied(fix.a, soon(), &text, &err), CO_NO_EFFECT);
    assert_int_equal(err.code, CO_E_NOMEM);
    struct co_identity_data identity = {0};
    assert_int_equal(co_ep_identify(fix.a, soon(), &identity, &err), CO_NO_EFFECT);
    assert_int_equal(err.code, CO_E_INTERNAL);
    co_identity_data_done(&identity);
    struct co_link_data link = {0};
    assert_int_equal(co_ep_link(fix.b, fix.a, soon(), &link, &err), CO_NO_EFFECT);
    assert_contains(err.message, "state to 9");
    assert_int_equal(link.state, CO_LINK_UNKNOWN);
    co_link_data_done(&link);
    enum co_presence presence = CO_PRESENT;
    assert_int_equal(co_ep_step_probe(fix.a, NULL, step("fence.deny"), soon(), &presence, &err), CO_NO_EFFECT);
    assert_contains(err.message, "said nothing");
    assert_int_equal(presence, CO_PRESENT); /* untouched */
    assert_int_equal(co_ep_drain(fix.a, false, soon(), &text, &err), CO_NO_EFFECT);
    assert_int_equal(err.code, CO_E_SERVER);
    assert_true(memchr(err.message, 0, sizeof err.message) && memchr(err.hint, 0, sizeof err.hint));
    assert_int_equal(co_ep_check(fix.a, fix.b, CO_CHECK_CUTOVER, soon(), &err), CO_NO_EFFECT);
    assert_contains(err.message, "without a code");
}

static enum co_result on_secret(const char *what, struct co_call *call, struct dummy_args *args)
{
    if (strcmp(what, "describe") == 0) {
        call->host->text_add(call->ctx, args->text, "ALTER USER x PASSWORD 'hunter2hunter2'");
        return CO_DONE;
    }
    if (strcmp(what, "position") == 0)
        return dummy_fail(call, CO_NO_EFFECT, CO_E_AUTH, "login with hunter2hunter2 refused");
    return DUMMY_GO_ON;
}

static void test_secrets_are_masked(void **state)
{
    (void)state;
    co_mask_add("hunter2hunter2");
    dummy.on = on_secret;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    struct co_error err = {0};
    assert_int_equal(co_ep_step_describe(fix.a, NULL, step("fence.deny"), soon(), &text, &err), CO_DONE);
    assert_lacks(co_text_str(&text), "hunter2");
    assert_int_equal(co_ep_position(fix.a, soon(), &text, &err), CO_NO_EFFECT);
    assert_lacks(err.message, "hunter2");
}

/* ---------------------------------------------------------------- deadlines and interruption */

static enum co_result on_wait(const char *what, struct co_call *call, struct dummy_args *args)
{
    (void)args;
    if (strcmp(what, "apply") != 0)
        return DUMMY_GO_ON;
    /* a frozen server: nothing ever comes; the driver even asks to wait longer than it may */
    int ready = call->host->wait_fd(call->ctx, -1, POLLIN, call->deadline_ns + 60 * CO_NS_PER_S);
    if (ready < 0)
        return dummy_fail(call, CO_EFFECT_UNKNOWN, CO_E_INTERRUPTED, "interrupted");
    return dummy_fail(call, CO_EFFECT_UNKNOWN, CO_E_TIMEOUT, "no answer");
}

static void test_a_frozen_server_ends_at_the_deadline(void **state)
{
    (void)state;
    dummy.on = on_wait;
    struct co_error err = {0};
    int64_t began_ns = co_now_ns();
    assert_int_equal(co_ep_step_apply(fix.a, NULL, step("fence.deny"), co_deadline_in_ms(3000), &err), CO_EFFECT_UNKNOWN);
    assert_int_equal(err.code, CO_E_TIMEOUT);
    assert_true(co_now_ns() - began_ns >= 2900 * CO_NS_PER_MS);
}

static enum co_result on_ignore(const char *what, struct co_call *call, struct dummy_args *args)
{
    (void)args;
    if (strcmp(what, "apply") == 0 || strcmp(what, "prepare") == 0) {
        struct pollfd nothing = {.fd = -1};
        while (co_now_ns() < call->deadline_ns + 1100 * CO_NS_PER_MS)
            poll(&nothing, 1, 50);
        return CO_DONE;
    }
    return DUMMY_GO_ON;
}

static void test_a_driver_that_ignores_its_deadline_is_named(void **state)
{
    (void)state;
    dummy.on = on_ignore;
    struct co_error err = {0};
    assert_int_equal(co_ep_connect(fix.a, soon(), &err), CO_DONE);
    assert_int_equal(co_ep_step_apply(fix.a, NULL, step("fence.deny"), co_deadline_in_ms(3000), &err), CO_EFFECT_UNKNOWN);
    assert_int_equal(err.code, CO_E_INTERNAL);
    assert_contains(err.message, "ms after its deadline");
    assert_int_equal(co_ep_prepare(fix.a, co_deadline_in_ms(3000), &err), CO_NO_EFFECT);
    assert_contains(err.message, "ms after its deadline");
}

static void test_a_deadline_that_has_passed_makes_no_call(void **state)
{
    (void)state;
    struct co_error err = {0};
    assert_int_equal(co_ep_step_apply(fix.a, NULL, step("fence.deny"), co_now_ns() - 1, &err), CO_NO_EFFECT);
    assert_int_equal(err.code, CO_E_TIMEOUT);
    assert_int_equal(atomic_load(&dummy.connects), 0);
    assert_int_equal(atomic_load(&dummy.applies), 0);
}

static void *interrupt_soon(void *arg)
{
    co_wait_until(co_deadline_in_ms(100), -1);
    co_endpoint_interrupt(arg);
    return NULL;
}

static void test_interrupt_from_another_thread(void **state)
{
    (void)state;
    dummy.on = on_wait;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, interrupt_soon, fix.a), 0);
    struct co_error err = {0};
    assert_int_equal(co_ep_step_apply(fix.a, NULL, step("fence.deny"), co_deadline_in_ms(60000), &err), CO_EFFECT_UNKNOWN);
    assert_int_equal(err.code, CO_E_INTERRUPTED);
    pthread_join(thread, NULL);
    dummy.on = NULL;
    assert_int_equal(co_ep_step_apply(fix.a, NULL, step("fence.deny"), soon(), &err), CO_NO_EFFECT); /* sticky */
    assert_int_equal(err.code, CO_E_INTERRUPTED);
    assert_int_equal(atomic_load(&dummy.applies), 0);
    co_endpoint_uninterrupt(fix.a);
    assert_int_equal(co_ep_step_apply(fix.a, NULL, step("fence.deny"), soon(), &err), CO_DONE);
}

/* ---------------------------------------------------------------- connections */

static enum co_result on_break(const char *what, struct co_call *call, struct dummy_args *args)
{
    (void)args;
    if (strcmp(what, "position") != 0)
        return DUMMY_GO_ON;
    atomic_store(&call->conn->broken, true);
    return dummy_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "connection lost");
}

static void test_hold_reconnects_nothing(void **state)
{
    (void)state;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    struct co_error err = {0};
    assert_int_equal(co_ep_connect(fix.a, soon(), &err), CO_DONE);
    co_endpoint_hold(fix.a, true);
    dummy.on = on_break;
    assert_int_equal(co_ep_position(fix.a, soon(), &text, &err), CO_NO_EFFECT);
    assert_false(co_endpoint_connected(fix.a));
    dummy.on = NULL;
    assert_int_equal(co_ep_position(fix.a, soon(), &text, &err), CO_NO_EFFECT);
    assert_int_equal(err.code, CO_E_UNREACHABLE);
    assert_contains(err.message, "was lost");
    assert_int_equal(atomic_load(&dummy.connects), 1);
    co_endpoint_hold(fix.a, false);
    assert_int_equal(co_ep_position(fix.a, soon(), &text, &err), CO_DONE);
    assert_int_equal(atomic_load(&dummy.connects), 2);
}

static void test_a_name_that_leads_elsewhere(void **state)
{
    (void)state;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    struct co_error err = {0};
    co_pair_record_identity(fix.pair, CO_SIDE_A, "iA", "l1");
    co_pair_record_identity(fix.pair, CO_SIDE_B, "iB", "l1");
    assert_int_equal(co_ep_position(fix.a, soon(), &text, &err), CO_DONE);
    co_endpoint_close(fix.a);
    dummy.instance[0] = "iB"; /* the name was re-pointed */
    assert_int_equal(co_ep_position(fix.a, soon(), &text, &err), CO_NO_EFFECT);
    assert_int_equal(err.code, CO_E_MISMATCH);
    assert_contains(err.message, "which is the other side");
    assert_false(co_endpoint_connected(fix.a));
    dummy.instance[0] = "iA";
    dummy.lineage[0] = "l2"; /* initialised anew */
    assert_int_equal(co_ep_connect(fix.a, soon(), &err), CO_NO_EFFECT);
    assert_int_equal(err.code, CO_E_MISMATCH);
    assert_contains(err.message, "lineage l2");
    co_pair_record_identity(fix.pair, CO_SIDE_A, "", "");
    assert_int_equal(co_ep_connect(fix.a, soon(), &err), CO_DONE);
}

static void test_a_fresh_b_may_get_the_lineage_of_a(void **state)
{
    (void)state;
    struct co_error err = {0};
    co_pair_record_identity(fix.pair, CO_SIDE_A, "iA", "l1");
    co_pair_record_identity(fix.pair, CO_SIDE_B, "iB", "");
    dummy.lineage[1] = "l9";
    assert_int_equal(co_ep_connect(fix.b, soon(), &err), CO_NO_EFFECT);
    assert_int_equal(err.code, CO_E_MISMATCH);
    dummy.lineage[1] = "l1";
    assert_int_equal(co_ep_connect(fix.b, soon(), &err), CO_DONE);
    co_endpoint_close(fix.b);
    dummy.lineage[1] = "";
    assert_int_equal(co_ep_connect(fix.b, soon(), &err), CO_DONE);
}

static enum co_result on_connect(const char *what, struct co_call *call, struct dummy_args *args)
{
    (void)call;
    (void)args;
    return strcmp(what, "connect") == 0 ? answer : DUMMY_GO_ON;
}

static void test_connect_that_gives_nothing(void **state)
{
    (void)state;
    struct co_error err = {0};
    dummy.on = on_connect;
    answer = CO_DONE;
    assert_int_equal(co_ep_connect(fix.a, soon(), &err), CO_NO_EFFECT);
    assert_contains(err.message, "gave no connection");
    answer = CO_NO_EFFECT;
    assert_int_equal(co_ep_connect(fix.a, soon(), &err), CO_NO_EFFECT);
    assert_contains(err.message, "without saying why");
}

static enum co_result on_down(const char *what, struct co_call *call, struct dummy_args *args)
{
    (void)args;
    if (strcmp(what, "connect") == 0)
        return dummy_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "connection refused");
    if (strcmp(what, "drain") == 0 || strcmp(what, "apply") == 0)
        assert_null(call->conn);
    return DUMMY_GO_ON;
}

static enum co_result on_stops(const char *what, struct co_call *call, struct dummy_args *args)
{
    (void)call;
    if (strcmp(what, "capabilities") == 0) {
        args->capabilities->fence_stops = true;
        return CO_DONE;
    }
    return DUMMY_GO_ON;
}

static void test_what_works_while_the_server_is_down(void **state)
{
    (void)state;
    struct co_error err = {0};
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    dummy.on = on_down;
    assert_int_equal(co_ep_step_apply(fix.a, NULL, step("fence.deny"), soon(), &err), CO_NO_EFFECT);
    assert_int_equal(err.code, CO_E_UNREACHABLE);
    assert_int_equal(co_ep_step_apply(fix.a, NULL, step("fence.stop"), soon(), &err), CO_DONE);
    assert_int_equal(co_ep_step_describe(fix.a, NULL, step("fence.deny"), soon(), &text, &err), CO_DONE);
    assert_false(co_ep_step_wanted(fix.b, NULL, step("open.allow")));
    assert_int_equal(co_ep_drain(fix.a, false, soon(), &text, &err), CO_NO_EFFECT);
    dummy.on = on_stops;
    struct co_capabilities capabilities;
    assert_int_equal(co_ep_capabilities(fix.a, soon(), &capabilities, &err), CO_DONE);
    co_endpoint_close(fix.a);
    dummy.on = on_down;
    assert_int_equal(co_ep_drain(fix.a, false, soon(), &text, &err), CO_DONE);
    assert_int_equal(co_ep_drain(fix.b, false, soon(), &text, &err), CO_NO_EFFECT); /* the target isn't stopped */
}

/* ---------------------------------------------------------------- steps */

static void test_steps_need_their_role_and_a_run(void **state)
{
    (void)state;
    struct co_error err = {0};
    assert_int_equal(co_ep_step_apply(fix.b, NULL, step("fence.deny"), soon(), &err), CO_NO_EFFECT);
    assert_int_equal(err.code, CO_E_INTERNAL);
    assert_int_equal(co_ep_step_revert(fix.b, NULL, step("open.allow"), soon(), &err), CO_NO_EFFECT);
    assert_int_equal(err.code, CO_E_UNSUPPORTED);
    co_pair_set_run(fix.pair, NULL);
    assert_int_equal(co_ep_step_apply(fix.a, NULL, step("fence.deny"), soon(), &err), CO_NO_EFFECT);
    assert_contains(err.message, "outside a run");
    assert_int_equal(atomic_load(&dummy.applies), 0);
}

static enum co_result on_both(const char *what, struct co_call *call, struct dummy_args *args)
{
    (void)args;
    if (strcmp(what, "apply") == 0) {
        assert_non_null(call->other);
        assert_int_equal(call->other->side, CO_SIDE_B);
    }
    return DUMMY_GO_ON;
}

static void test_steps_that_need_both_sides(void **state)
{
    (void)state;
    struct co_error err = {0};
    assert_int_equal(co_ep_step_apply(fix.a, NULL, step("reverse.both"), soon(), &err), CO_NO_EFFECT);
    assert_int_equal(err.code, CO_E_UNREACHABLE);
    dummy.on = on_both;
    assert_int_equal(co_ep_step_apply(fix.a, fix.b, step("reverse.both"), soon(), &err), CO_DONE);
}

/* ---------------------------------------------------------------- notes */

static enum co_result on_notes(const char *what, struct co_call *call, struct dummy_args *args)
{
    (void)args;
    const struct co_host *host = call->host;
    if (strcmp(what, "prepare") == 0) {
        assert_int_equal(host->note_put(call->ctx, CO_NOTE_RUN, CO_SIDE_A, "original", "on"), 0);
        assert_int_equal(host->note_put(call->ctx, CO_NOTE_PAIR, CO_SIDE_LOCAL, "slot", "s1"), 0);
        const char *value = host->note_get(call->ctx, CO_NOTE_RUN, CO_SIDE_A, "original");
        host->note_put(call->ctx, CO_NOTE_RUN, CO_SIDE_A, "original", "off");
        assert_string_equal(value, "on"); /* lives until the call ends */
        assert_null(host->note_get(call->ctx, CO_NOTE_RUN, CO_SIDE_B, "original"));
        return CO_DONE;
    }
    if (strcmp(what, "settings") == 0) {
        host->note_put(call->ctx, CO_NOTE_RUN, CO_SIDE_A, "conninfo", "user=x password=hunter3hunter3");
        return CO_DONE; /* ignores that it wasn't kept */
    }
    return DUMMY_GO_ON;
}

static const char *note(struct co_pair *pair, const char *side, const char *key)
{
    static char value[64];
    json_t *notes = co_pair_notes_json(pair);
    const char *text = json_string_value(json_object_get(json_object_get(notes, side), key));
    snprintf(value, sizeof value, "%s", text ? text : "(none)");
    json_decref(notes);
    return value;
}

static void test_notes(void **state)
{
    (void)state;
    struct co_error err = {0};
    dummy.on = on_notes;
    assert_int_equal(co_ep_prepare(fix.a, soon(), &err), CO_DONE);
    assert_string_equal(note(fix.pair, "a", "original"), "off");
    struct co_run later = dummy_run;
    later.token = "run-1:2";
    co_pair_set_run(fix.pair, &later); /* another epoch of the same run */
    assert_string_equal(note(fix.pair, "a", "original"), "off");
    json_t *notes = co_pair_notes_json(fix.pair);
    later.id = "run-2";
    co_pair_set_run(fix.pair, &later);
    assert_string_equal(note(fix.pair, "a", "original"), "(none)");
    assert_int_equal(co_pair_notes_import(fix.pair, notes, &err), 0);
    assert_string_equal(note(fix.pair, "a", "original"), "off");
    json_decref(notes);
    json_t *wrong = json_pack("{s:{s:i}}", "a", "k", 1);
    assert_int_equal(co_pair_notes_import(fix.pair, wrong, &err), CO_E_DATA);
    json_decref(wrong);
}

static void test_a_note_with_a_secret_fails_the_call(void **state)
{
    (void)state;
    co_mask_add("hunter3hunter3");
    struct co_error err = {0};
    dummy.on = on_notes;
    assert_int_equal(co_ep_settings(fix.a, soon(), &err), CO_NO_EFFECT);
    assert_contains(err.message, "the note conninfo can't be kept");
    assert_string_equal(note(fix.pair, "a", "conninfo"), "(none)");
}

static void test_notes_outlive_the_process_in_the_journal(void **state)
{
    (void)state;
    struct co_error err = {0};
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/journal", fix.folder);
    struct co_journal *journal = NULL;
    if (co_journal_open(path, "test", CO_JOURNAL_WRITE, &journal, &err) < 0)
        fail_msg("%s", err.message);
    struct co_run_row row = {.id = "run-1", .kind = "cutover", .epoch = 1, .actor = "tool-1"}, other;
    if (co_journal_begin(journal, &row, &other, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(co_pair_use_journal(fix.pair, journal, "run-1", &err), 0);
    dummy.on = on_notes;
    assert_int_equal(co_ep_prepare(fix.a, soon(), &err), CO_DONE);

    struct co_pair *resumed = dummy_pair(fix.config); /* what resume does */
    assert_int_equal(co_pair_use_journal(resumed, journal, NULL, &err), 0);
    assert_string_equal(note(resumed, "a", "original"), "(none)");
    co_pair_set_run(resumed, &dummy_run);
    assert_string_equal(note(resumed, "a", "original"), "off");
    co_pair_free(resumed);
    assert_int_equal(co_pair_use_journal(fix.pair, NULL, NULL, &err), 0);
    co_journal_close(journal);
}

/* ---------------------------------------------------------------- faults */

static void test_fault_error(void **state)
{
    (void)state;
    struct co_error err = {0};
    faults("fence.deny:before=error");
    assert_int_equal(co_ep_step_apply(fix.a, NULL, step("fence.deny"), soon(), &err), CO_NO_EFFECT);
    assert_int_equal(atomic_load(&dummy.applies), 0);
    assert_contains(err.message, "fault injected at fence.deny:before");
    faults("");
}

static void test_fault_lost(void **state)
{
    (void)state;
    struct co_error err = {0};
    faults("fence.deny:after=lost,fence.deny:revert#2=lost,position.source:before=lost");
    assert_int_equal(co_ep_step_apply(fix.a, NULL, step("fence.deny"), soon(), &err), CO_EFFECT_UNKNOWN);
    assert_int_equal(atomic_load(&dummy.applies), 1);
    assert_int_equal(err.code, CO_E_UNREACHABLE);
    assert_false(co_endpoint_connected(fix.a));
    assert_int_equal(co_ep_step_revert(fix.a, NULL, step("fence.deny"), soon(), &err), CO_DONE);
    assert_int_equal(co_ep_step_revert(fix.a, NULL, step("fence.deny"), soon(), &err), CO_EFFECT_UNKNOWN);
    assert_int_equal(atomic_load(&dummy.reverts), 2);
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    assert_int_equal(co_ep_position(fix.a, soon(), &text, &err), CO_NO_EFFECT);
    faults("");
}

static void test_fault_late_acts_with_the_old_token(void **state)
{
    (void)state;
    struct co_error err = {0};
    faults("fence.deny:before=late");
    assert_int_equal(co_ep_step_apply(fix.a, NULL, step("fence.deny"), soon(), &err), CO_EFFECT_UNKNOWN);
    assert_int_equal(err.code, CO_E_TIMEOUT);
    assert_int_equal(atomic_load(&dummy.applies), 0);
    assert_false(co_endpoint_connected(fix.a)); /* its connection went with the call */
    struct co_run taken = dummy_run;
    taken.token = "run-1:2";
    co_pair_set_run(fix.pair, &taken);
    enum co_presence presence;
    assert_int_equal(co_ep_step_probe(fix.a, NULL, step("fence.deny"), soon(), &presence, &err), CO_DONE);
    assert_int_equal(presence, CO_ABSENT);
    co_late_join(fix.pair); /* as co_pair_free does */
    assert_int_equal(atomic_load(&dummy.applies), 1);
    assert_string_equal(dummy.applied_token, "run-1:1");
    faults("");
}

static void test_fault_connect_and_passings(void **state)
{
    (void)state;
    struct co_error err = {0};
    faults("connect.source:after#1=lost,connect.target:before=error,drain.source:before=delay:1");
    assert_int_equal(co_ep_connect(fix.a, soon(), &err), CO_NO_EFFECT);
    assert_int_equal(err.code, CO_E_UNREACHABLE);
    assert_int_equal(co_ep_connect(fix.a, soon(), &err), CO_DONE);
    assert_int_equal(co_ep_connect(fix.b, soon(), &err), CO_NO_EFFECT);
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    assert_int_equal(co_ep_drain(fix.a, true, soon(), &text, &err), CO_DONE);
    faults("");
}

static void test_a_fault_that_is_met_says_so_and_a_hold_ends(void **state)
{
    (void)state;
    struct co_error err = {0};
    char path[] = "/tmp/changeover-met-XXXXXX", go[sizeof path + 3], said[128] = "", want[128];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    snprintf(go, sizeof go, "%s.go", path);
    int go_fd = open(go, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(go_fd >= 0);
    setenv("CHANGEOVER_FAULT_MET", path, 1);
    faults("connect.source:before#2=hold,connect.target:before#2=error");
    assert_int_equal(co_ep_connect(fix.b, soon(), &err), CO_DONE); /* the first passing: not met */
    assert_int_equal(co_ep_connect(fix.a, soon(), &err), CO_DONE);
    co_endpoint_close(fix.a);
    assert_int_equal(co_ep_connect(fix.a, soon(), &err), CO_DONE);
    assert_true(read(fd, said, sizeof said - 1) > 0);
    snprintf(want, sizeof want, "%ld connect.source:before#2\n", (long)getpid());
    assert_string_equal(said, want);
    faults("");
    unsetenv("CHANGEOVER_FAULT_MET");
    close(fd);
    close(go_fd);
    unlink(path);
    unlink(go);
}

static enum co_result on_own_point(const char *what, struct co_call *call, struct dummy_args *args)
{
    (void)args;
    return strcmp(what, "apply") == 0 ? call->host->fault(call->ctx, "dummy.middle") : DUMMY_GO_ON;
}

static void test_fault_of_the_drivers_own(void **state)
{
    (void)state;
    struct co_error err = {0};
    dummy.on = on_own_point;
    faults("dummy.middle=lost");
    assert_int_equal(co_ep_step_apply(fix.a, NULL, step("fence.deny"), soon(), &err), CO_EFFECT_UNKNOWN);
    assert_contains(err.message, "dummy.middle");
    faults("");
}

static void test_malformed_faults_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"nothing", "=kill", "x=explode", "x=delay:", "x#0=kill", "#1=kill", "a=kill,,b=stop"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct co_error err = {0};
        setenv("CO_TEST_FAULT", wrong[i], 1);
        assert_int_equal(co_fault_setup("CO_TEST_FAULT", &err), CO_E_CONFIG);
        assert_contains(err.message, "CO_TEST_FAULT");
        assert_false(co_fault_armed);
    }
    faults("");
}

struct points {
    char text[16384];
};
static void add_point(const char *point, void *arg)
{
    struct points *points = arg;
    size_t used = strlen(points->text);
    snprintf(points->text + used, sizeof points->text - used, " %s ", point);
}

static void test_the_list_of_points(void **state)
{
    (void)state;
    struct points points = {0};
    co_fault_list(NULL, add_point, &points);
    assert_contains(points.text, " reverse_prepare:begin ");
    assert_contains(points.text, " undo:end ");
    assert_contains(points.text, " probe_write.target:after ");
    assert_contains(points.text, " journal.commit:before ");
    points.text[0] = '\0';
    co_fault_list(fix.pair, add_point, &points);
    assert_contains(points.text, " fence.deny:revert ");
    assert_contains(points.text, " open.allow:after ");
    assert_lacks(points.text, " open.allow:revert ");
    assert_contains(points.text, " dummy.middle ");
}

/* ---------------------------------------------------------------- odds and ends */

static void test_compare_and_distance(void **state)
{
    (void)state;
    assert_int_equal(co_pair_compare(fix.pair, "5", "7"), CO_ORDER_BEHIND);
    assert_int_equal(co_pair_compare(fix.pair, "", "7"), CO_ORDER_UNKNOWN);
    assert_int_equal(co_pair_compare(fix.pair, "7", NULL), CO_ORDER_UNKNOWN);
    struct co_distance distance;
    co_pair_distance(fix.pair, "5", "7", &distance);
    assert_int_equal(distance.transactions, 2);
    assert_int_equal(distance.bytes, -1);
}

static void test_optional_primitives(void **state)
{
    (void)state;
    struct co_error err = {0};
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    assert_int_equal(co_ep_wait_applied(fix.b, "7", soon(), &err), CO_NO_EFFECT);
    assert_int_equal(err.code, CO_E_UNSUPPORTED);
    assert_int_equal(co_ep_round(fix.b, fix.a, soon(), &err), CO_NO_EFFECT);
    assert_int_equal(co_ep_digest(fix.b, "", soon(), &text, &err), CO_DONE);
    assert_string_equal(co_text_str(&text), "cafe");
}

struct crowd {
    atomic_int here, most;
    atomic_int done[8];
};
static void meet(size_t index, void *arg)
{
    struct crowd *crowd = arg;
    int now = atomic_fetch_add(&crowd->here, 1) + 1;
    int64_t until_ns = co_deadline_in_ms(60000);
    while (now < 4 && co_now_ns() < until_ns) { /* only passes when four run at once */
        co_wait_until(co_deadline_in_ms(1), -1);
        now = atomic_load(&crowd->here);
    }
    atomic_fetch_add(&crowd->done[index], 1);
    if (now >= 4)
        atomic_fetch_add(&crowd->most, 1);
}

static void test_crew(void **state)
{
    (void)state;
    struct co_crew *crew = NULL;
    struct co_error err = {0};
    assert_int_equal(co_crew_new(4, &crew, &err), 0);
    for (int round = 0; round < 50; round++) {
        struct crowd crowd = {0};
        co_crew_run(crew, 4, meet, &crowd);
        assert_int_equal(atomic_load(&crowd.most), 4);
        for (int i = 0; i < 4; i++)
            assert_int_equal(atomic_load(&crowd.done[i]), 1);
    }
    struct crowd more = {.here = 4};
    co_crew_run(crew, 7, meet, &more); /* more work than workers */
    for (int i = 0; i < 7; i++)
        assert_int_equal(atomic_load(&more.done[i]), 1);
    co_crew_run(crew, 0, meet, &more);
    co_crew_free(crew);
}

/* Each side keeps a note of its own: of one that both write, neither could say what it reads. */
static enum co_result on_own_note(const char *what, struct co_call *call, struct dummy_args *args)
{
    (void)args;
    const struct co_host *host = call->host;
    if (strcmp(what, "prepare") != 0)
        return DUMMY_GO_ON;
    assert_int_equal(host->note_put(call->ctx, CO_NOTE_RUN, call->side, "original", "on"), 0);
    const char *value = host->note_get(call->ctx, CO_NOTE_RUN, call->side, "original");
    assert_int_equal(host->note_put(call->ctx, CO_NOTE_RUN, call->side, "original", "off"), 0);
    assert_string_equal(value, "on"); /* lives until the call ends */
    return CO_DONE;
}

/* Both sides at work at once, with a third thread that interrupts: what the thread sanitizer looks at. */
static void both_sides(size_t index, void *arg)
{
    (void)arg;
    struct co_error err = {0};
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    struct co_endpoint *ep = index == 0 ? fix.a : fix.b;
    for (int i = 0; i < 200; i++) {
        if (index == 2) {
            co_endpoint_interrupt(fix.a);
            co_endpoint_uninterrupt(fix.a);
            continue;
        }
        co_ep_position(ep, soon(), &text, &err);
        co_ep_prepare(ep, soon(), &err);
        if (i % 20 == 0)
            co_endpoint_close(ep);
    }
}

static void test_threads(void **state)
{
    (void)state;
    struct co_crew *crew = NULL;
    struct co_error err = {0};
    assert_int_equal(co_crew_new(3, &crew, &err), 0);
    dummy.on = on_own_note;
    co_pair_record_identity(fix.pair, CO_SIDE_A, "iA", "l1");
    co_crew_run(crew, 3, both_sides, NULL);
    co_crew_free(crew);
    co_endpoint_uninterrupt(fix.a);
}

int main(void)
{
    struct co_error err = {0};
    if (co_module_register(&dummy_driver, &err) < 0)
        return 1;
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_position_connects_by_itself),
        TEST(test_what_a_call_can_ask),
        TEST(test_roles_follow_the_run),
        TEST(test_failures_name_pair_side_and_address),
        TEST(test_wrong_results),
        TEST(test_an_apply_that_answers_nonsense_is_effect_unknown),
        TEST(test_a_stale_error_of_a_success_is_dropped),
        TEST(test_texts_and_values_out_of_range),
        TEST(test_secrets_are_masked),
        TEST(test_a_frozen_server_ends_at_the_deadline),
        TEST(test_a_driver_that_ignores_its_deadline_is_named),
        TEST(test_a_deadline_that_has_passed_makes_no_call),
        TEST(test_interrupt_from_another_thread),
        TEST(test_hold_reconnects_nothing),
        TEST(test_a_name_that_leads_elsewhere),
        TEST(test_a_fresh_b_may_get_the_lineage_of_a),
        TEST(test_connect_that_gives_nothing),
        TEST(test_what_works_while_the_server_is_down),
        TEST(test_steps_need_their_role_and_a_run),
        TEST(test_steps_that_need_both_sides),
        TEST(test_notes),
        TEST(test_a_note_with_a_secret_fails_the_call),
        TEST(test_notes_outlive_the_process_in_the_journal),
        TEST(test_fault_error),
        TEST(test_fault_lost),
        TEST(test_fault_late_acts_with_the_old_token),
        TEST(test_fault_connect_and_passings),
        TEST(test_a_fault_that_is_met_says_so_and_a_hold_ends),
        TEST(test_fault_of_the_drivers_own),
        TEST(test_malformed_faults_are_refused),
        TEST(test_the_list_of_points),
        TEST(test_compare_and_distance),
        TEST(test_optional_primitives),
        TEST(test_crew),
        TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
