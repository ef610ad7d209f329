/* secret_test.c - password files with their real modes, and the mask in all the forms a secret takes. */
#include "unit.h"

#include "base/secret.h"

static const char *folder;

static int make_folder(void **state)
{
    (void)state;
    folder = unit_folder();
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unit_remove(folder);
    return 0;
}

static void private_files_are_read(void **state)
{
    (void)state;
    struct co_secret_value *secret = NULL;
    struct co_error err;
    static const mode_t modes[] = {0600, 0400, 0700};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        const char *path = unit_file(folder, "good", "s3cret word \r\nsecond line\n", modes[i]);
        assert_int_equal(co_secret_from_file(path, &secret, &err), 0);
        assert_string_equal(co_secret_str(secret), "s3cret word ");
        co_secret_free(secret);
    }
    assert_int_equal(co_secret_from_file(unit_file(folder, "no-newline", "abc", 0600), &secret, &err), 0);
    assert_string_equal(co_secret_str(secret), "abc");
    co_secret_free(secret);
    co_secret_free(NULL);
    assert_null(co_secret_str(NULL));
}

static void files_that_others_can_use_are_refused(void **state)
{
    (void)state;
    struct co_secret_value *secret = NULL;
    struct co_error err;
    static const mode_t modes[] = {0640, 0604, 0620, 0602, 0666, 0610, 0601};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        const char *path = unit_file(folder, "bad", "file-test-secret\n", modes[i]);
        char mode[8];
        snprintf(mode, sizeof mode, "%04o", (unsigned)modes[i]);
        assert_int_equal(co_secret_from_file(path, &secret, &err), CO_E_CONFIG);
        assert_contains(err.message, mode);
        assert_contains(err.message, path);
        assert_contains(err.hint, "chmod 600");
        assert_lacks(err.message, "file-test-secret");
        assert_null(secret);
    }
}

static void strange_files_are_refused(void **state)
{
    (void)state;
    struct co_secret_value *secret = NULL;
    struct co_error err;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/none", folder);
    assert_int_equal(co_secret_from_file(path, &secret, &err), CO_E_CONFIG);
    assert_contains(err.message, "No such file");
    assert_int_equal(co_secret_from_file(folder, &secret, &err), CO_E_CONFIG);
    assert_contains(err.message, "regular file");
    snprintf(path, sizeof path, "%s/fifo", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(co_secret_from_file(path, &secret, &err), CO_E_CONFIG); /* and doesn't hang */
    assert_int_equal(co_secret_from_file(unit_file(folder, "empty", "", 0600), &secret, &err), CO_E_CONFIG);
    assert_int_equal(co_secret_from_file(unit_file(folder, "blank", "\nabc\n", 0600), &secret, &err), CO_E_CONFIG);
    assert_contains(err.message, "empty");
    char long_line[6000];
    memset(long_line, 'x', sizeof long_line);
    long_line[sizeof long_line - 1] = '\0';
    assert_int_equal(co_secret_from_file(unit_file(folder, "long", long_line, 0600), &secret, &err), CO_E_CONFIG);
    assert_lacks(err.message, "xxxx");
    assert_null(secret);
}

static void environment(void **state)
{
    (void)state;
    struct co_secret_value *secret = NULL;
    struct co_error err;
    unsetenv("CO_TEST_PASSWORD");
    assert_int_equal(co_secret_from_env("CO_TEST_PASSWORD", &secret, &err), CO_E_CONFIG);
    assert_contains(err.message, "CO_TEST_PASSWORD is not set");
    setenv("CO_TEST_PASSWORD", "", 1);
    assert_int_equal(co_secret_from_env("CO_TEST_PASSWORD", &secret, &err), CO_E_CONFIG);
    setenv("CO_TEST_PASSWORD", "from env", 1);
    assert_int_equal(co_secret_from_env("CO_TEST_PASSWORD", &secret, &err), 0);
    assert_string_equal(co_secret_str(secret), "from env");
    co_secret_free(secret);
}

static void masks_every_form(void **state)
{
    (void)state;
    co_mask_add("p@ss'w/o\"r\\d");
    static const char *const forms[] = {
        "p@ss'w/o\"r\\d",         /* plain */
        "p%40ss%27w%2Fo%22r%5Cd", /* URL, upper case */
        "p%40ss%27w%2fo%22r%5cd", /* URL, lower case */
        "p@ss'\\''w/o\"r\\d",     /* shell */
        "p@ss''w/o\"r\\d",        /* SQL */
        "p@ss\\'w/o\"r\\\\d",     /* SQL with backslashes, libpq */
        "p@ss'w/o\\\"r\\\\d",     /* JSON */
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        CO_TEXT_AUTO text = CO_TEXT_INIT;
        co_text_add(&text, "before %s, again [%s]", forms[i], forms[i]);
        co_mask_text(&text);
        assert_string_equal(co_text_str(&text), "before ***, again [***]");
        char buffer[100];
        snprintf(buffer, sizeof buffer, "x%sx%s", forms[i], forms[i]);
        co_mask_buffer(buffer, sizeof buffer);
        assert_string_equal(buffer, "x***x***");
    }
}

static void the_longest_secret_wins(void **state)
{
    (void)state;
    co_mask_add("overlap");
    co_mask_add("overlapping-more");
    co_mask_add("overlap"); /* twice is fine */
    co_mask_add("");
    co_mask_add(NULL);
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    co_text_set_str(&text, "overlapping-more overlapping overlapoverlap");
    co_mask_text(&text);
    assert_string_equal(co_text_str(&text), "*** ***ping ******");
}

static void short_secrets_are_masked_as_words(void **state)
{
    (void)state;
    co_mask_add("qz");
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    co_text_set_str(&text, "qz aqz qzb (qz) qz_x=qz");
    co_mask_text(&text);
    assert_string_equal(co_text_str(&text), "*** aqz qzb (***) qz_x=***");
    char buffer[] = "qz qz";
    co_mask_buffer(buffer, sizeof buffer);
    assert_string_equal(buffer, "** **");
}

static void a_buffer_that_was_cut_shows_no_beginning(void **state)
{
    (void)state;
    co_mask_add("cut-off-secret");
    char buffer[16];
    memcpy(buffer, "login: cut-off-", sizeof buffer); /* what a cut leaves */
    co_mask_buffer(buffer, sizeof buffer);
    assert_string_equal(buffer, "login: ***");
    char unterminated[4] = {'a', 'b', 'c', 'd'};
    co_mask_buffer(unterminated, sizeof unterminated);
    assert_string_equal(unterminated, "abc");
    co_mask_buffer(unterminated, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(private_files_are_read),
        cmocka_unit_test(files_that_others_can_use_are_refused),
        cmocka_unit_test(strange_files_are_refused),
        cmocka_unit_test(environment),
        cmocka_unit_test(masks_every_form),
        cmocka_unit_test(the_longest_secret_wins),
        cmocka_unit_test(short_secrets_are_masked_as_words),
        cmocka_unit_test(a_buffer_that_was_cut_shows_no_beginning),
    };
    return cmocka_run_group_tests_name("secret", tests, make_folder, remove_folder);
}
