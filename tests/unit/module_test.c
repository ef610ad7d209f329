/* module_test.c - what the loader refuses, and what it finds. */
#include "dummy_driver.h"

#include "drivers-host/modules.h"

static void refused(const struct co_driver *driver, const char *why)
{
    struct co_error err = {0};
    assert_int_equal(co_module_check(driver, &err), CO_E_UNSUPPORTED);
    assert_contains(err.message, why);
}

static void test_a_proper_driver_passes(void **state)
{
    (void)state;
    struct co_error err = {0};
    assert_int_equal(co_module_check(&dummy_driver, &err), 0);
}

static void test_nothing_and_another_abi(void **state)
{
    (void)state;
    refused(NULL, "returned nothing");
    struct co_driver driver = DUMMY_DRIVER;
    driver.abi = CO_DRIVER_ABI + 1;
    refused(&driver, "ABI 2");
    driver = (struct co_driver)DUMMY_DRIVER;
    driver.size = 40;
    refused(&driver, "40 bytes");
}

static void test_each_required_function(void **state)
{
    (void)state;
#define WITHOUT(member)                                                                                                        \
    do {                                                                                                                       \
        struct co_driver driver = DUMMY_DRIVER;                                                                                \
        driver.member = NULL;                                                                                                  \
        refused(&driver, "required function " #member);                                                                        \
    } while (0)
    WITHOUT(connect);
    WITHOUT(disconnect);
    WITHOUT(alive);
    WITHOUT(identify);
    WITHOUT(capabilities);
    WITHOUT(settings);
    WITHOUT(discover);
    WITHOUT(check);
    WITHOUT(position);
    WITHOUT(applied);
    WITHOUT(compare);
    WITHOUT(distance);
    WITHOUT(link);
    WITHOUT(marker_get);
    WITHOUT(marker_set);
    WITHOUT(prepare);
    WITHOUT(drain);
    WITHOUT(capture);
    WITHOUT(proof);
    WITHOUT(end_sessions);
    WITHOUT(probe_write);
}

static void test_names_and_tables(void **state)
{
    (void)state;
    struct co_driver driver = DUMMY_DRIVER;
    driver.name = "Dummy Driver";
    refused(&driver, "'Dummy Driver'");
    driver = (struct co_driver)DUMMY_DRIVER;
    driver.version = NULL;
    refused(&driver, "version or library");
    driver = (struct co_driver)DUMMY_DRIVER;
    driver.engine_count = 0;
    refused(&driver, "serves no engine");
    driver = (struct co_driver)DUMMY_DRIVER;
    driver.steps = NULL;
    refused(&driver, "lists none");
    struct co_option twice[] = {dummy_options[0], dummy_options[0]};
    driver = (struct co_driver)DUMMY_DRIVER;
    driver.options = twice;
    driver.option_count = 2;
    refused(&driver, "two options named mode");
}

static void step_refused(struct co_step step, const char *why)
{
    struct co_driver driver = DUMMY_DRIVER;
    struct co_step steps[] = {dummy_steps[1], step};
    driver.steps = steps;
    driver.step_count = 2;
    refused(&driver, why);
}

static void test_steps(void **state)
{
    (void)state;
    struct co_step step = dummy_steps[0];
    step.probe = NULL;
    step_refused(step, "an apply and no probe");
    step = dummy_steps[0];
    step.revert = NULL;
    step_refused(step, "CO_STEP_NO_WAY_BACK");
    step = dummy_steps[0];
    step.apply = NULL;
    step_refused(step, "no apply");
    step = dummy_steps[0];
    step.describe = NULL;
    step_refused(step, "describe");
    step = dummy_steps[0];
    step.name = "fence";
    step_refused(step, "'fence'");
    step = dummy_steps[0];
    step.name = NULL;
    step_refused(step, "''");
    step = dummy_steps[0];
    step.title = "";
    step_refused(step, "title");
    step = dummy_steps[0];
    step.phase = (enum co_phase)99;
    step_refused(step, "phase 99");
    step = dummy_steps[0];
    step.size = 8;
    step_refused(step, "impossible size");
    step_refused(dummy_steps[1], "two steps named open.allow");
}

/* A module of an older header knows fewer members; what lies behind its struct is not read. */
static void test_a_shorter_struct_counts_as_null(void **state)
{
    (void)state;
    static struct co_driver driver = DUMMY_DRIVER;
    static const struct co_engine engines[] = {{"older", "older", 1}};
    driver.name = "older";
    driver.engines = engines;
    driver.size = (uint32_t)(offsetof(struct co_driver, probe_write) + sizeof driver.probe_write);
    struct co_error err = {0};
    assert_int_equal(co_module_register(&driver, &err), 0);
    const struct co_module *module = NULL;
    assert_int_equal(co_module_for_engine("older", &module, &err), 0);
    assert_null(module->driver->digest);
    assert_null(module->driver->interrupt);
    assert_non_null(module->driver->probe_write);
    assert_int_equal(module->driver->step_count, dummy_driver.step_count);
    assert_string_equal(module->driver->steps[1].name, "open.allow");
}

static void count_module(const struct co_module *module, const struct co_error *err, void *arg)
{
    int *counts = arg;
    counts[module->driver ? 0 : 1]++;
    if (!module->driver)
        assert_int_equal(err->code, CO_E_UNSUPPORTED);
}

static void test_an_engine_is_served_once(void **state)
{
    (void)state;
    struct co_error err = {0};
    assert_int_equal(co_module_register(&dummy_driver, &err), 0);
    static struct co_driver second = DUMMY_DRIVER;
    second.name = "second";
    assert_int_equal(co_module_register(&second, &err), CO_E_UNSUPPORTED);
    assert_contains(err.message, "already served");
    const struct co_module *module = NULL;
    assert_int_equal(co_module_for_engine("nosuch", &module, &err), CO_E_UNSUPPORTED);
    assert_contains(err.message, "nosuch");
    assert_contains(err.message, "dummy");
    int counts[2] = {0, 0};
    co_modules_each(count_module, counts);
    assert_int_equal(counts[0], 2);
    assert_int_equal(counts[1], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_proper_driver_passes),
        cmocka_unit_test(test_nothing_and_another_abi),
        cmocka_unit_test(test_each_required_function),
        cmocka_unit_test(test_names_and_tables),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_a_shorter_struct_counts_as_null),
        cmocka_unit_test(test_an_engine_is_served_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
