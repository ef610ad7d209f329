/* url_test.c - server URLs: every form that the documentation shows, what is refused, and that no password
 * survives in what may be shown. */
#include "unit.h"

#include "config/url.h"

struct expected {
    const char *text, *url, *scheme, *user, *password, *address;
    int port;
    const char *database;
};

static void same(const char *what, const char *text, const char *got, const char *want)
{
    if ((got == NULL) != (want == NULL) || (got && strcmp(got, want) != 0))
        fail_msg("%s: %s: got \"%s\", expected \"%s\"", text, what, got ? got : "(null)", want ? want : "(null)");
}

static void good_urls(void **state)
{
    (void)state;
    static const struct expected urls[] = {
        {"postgresql://postgres@10.0.0.1/postgres", NULL, "postgresql", "postgres", NULL, "10.0.0.1", 0, "postgres"},
        {"PostgreSQL://h", "postgresql://h", "postgresql", NULL, NULL, "h", 0, NULL},
        {"postgresql://u:p%40ss@h:5433/db", "postgresql://u@h:5433/db", "postgresql", "u", "p@ss", "h", 5433, "db"},
        {"postgresql://u:a:b@h/", "postgresql://u@h/", "postgresql", "u", "a:b", "h", 0, NULL},
        {"postgresql://u:a@b@h/", "postgresql://u@h/", "postgresql", "u", "a@b", "h", 0, NULL},
        {"postgresql://u%20x@[::1]:5432/db%2F1", NULL, "postgresql", "u x", NULL, "::1", 5432, "db/1"},
        {"postgresql://u@[fe80::1%25eth0]/d", NULL, "postgresql", "u", NULL, "fe80::1%eth0", 0, "d"},
        {"postgresql://user@/db?host=/run/postgresql", NULL, "postgresql", "user", NULL, "/run/postgresql", 0, "db"},
        {"postgresql://user@/db?host=/run/pg&port=5544", NULL, "postgresql", "user", NULL, "/run/pg", 5544, "db"},
        {"postgresql://user@%2Frun%2Fpg/db", NULL, "postgresql", "user", NULL, "/run/pg", 0, "db"},
        {"postgresql:///db", NULL, "postgresql", NULL, NULL, NULL, 0, "db"},
        {"mysql://root@localhost/?socket=/run/mysqld/mysqld.sock", NULL, "mysql", "root", NULL, "/run/mysqld/mysqld.sock", 0,
         NULL},
        {"redis://10.0.0.1:6379", NULL, "redis", NULL, NULL, "10.0.0.1", 6379, NULL},
        {"redis://:secretly@h:6379/2", "redis://@h:6379/2", "redis", NULL, "secretly", "h", 6379, "2"},
        {"rediss://acl@h", NULL, "rediss", "acl", NULL, "h", 0, NULL},
        {"unix:///run/redis/redis.sock", NULL, "unix", NULL, NULL, "/run/redis/redis.sock", 0, NULL},
        {"unix://acl:pass%2Fword@/run/redis.sock?db=3", "unix://acl@/run/redis.sock?db=3", "unix", "acl", "pass/word",
         "/run/redis.sock", 0, "3"},
        {"redis+unix:///run/r.sock", NULL, "redis+unix", NULL, NULL, "/run/r.sock", 0, NULL},
        {"mongodb://m@h1:27017,h2:27018/admin?replicaSet=rs0", NULL, "mongodb", "m", NULL, "h1:27017,h2:27018", 0, "admin"},
        {"mongodb+srv://cluster.example.com/x", NULL, "mongodb+srv", NULL, NULL, "cluster.example.com", 0, "x"},
        {"postgresql://u@h/d?password=in+query&application_name=x", "postgresql://u@h/d?application_name=x", "postgresql", "u",
         "in+query", "h", 0, "d"},
        {"fake:///tmp/state", NULL, "fake", NULL, NULL, NULL, 0, "tmp/state"},
    };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        const struct expected *want = &urls[i];
        struct co_url url = {0};
        struct co_error err;
        if (co_url_parse(want->text, &url, &err) != 0)
            fail_msg("%s: %s", want->text, err.message);
        same("url", want->text, url.url, want->url ? want->url : want->text);
        same("scheme", want->text, url.scheme, want->scheme);
        same("user", want->text, url.user, want->user);
        same("password", want->text, co_secret_str(url.password), want->password);
        same("address", want->text, url.address, want->address);
        same("database", want->text, url.database, want->database);
        assert_int_equal(url.port, want->port);
        assert_int_equal(url.has_secret, want->password != NULL);
        co_url_done(&url);
    }
}

static void bad_urls_are_not_repeated(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } urls[] = {
        {"", "expected a URL"},
        {"10.0.0.1:5432", "expected a URL"},
        {"://h", "expected a URL"},
        {"9x://h", "expected a URL"},
        {"pg://u:geheim!1@h:port/", "expected a port"},
        {"pg://u:geheim!1@h:0/", "expected a port"},
        {"pg://u:geheim!1@h:65536/", "expected a port"},
        {"pg://u:geheim!1@h:/", "expected a port"},
        {"pg://u:geheim!1@:5432/", "expected a host"},
        {"pg://u:geheim!1@::1/", "more than one colon"},
        {"pg://u:geheim!1@[::1/", "closing bracket"},
        {"pg://u:geheim!1@[]/", "IPv6"},
        {"pg://u:geheim!1@[::1]x/", "\":port\""},
        {"pg://u:geheim!1%2@h/", "hexadecimal"},
        {"pg://u:geheim!1%zz@h/", "hexadecimal"},
        {"pg://u:geheim!1%00@h/", "hexadecimal"},
        {"pg://u:gehe/im!1@h/", "@ behind its address"},
        {"pg://u:gehe?im!1@h/", "expected a port"},
        {"pg://u:gehe#im!1@h/", "contains a #"},
        {"pg://u:geheim !1@h/", "space or control"},
        {"pg://u@h/d?geheim!1", "name=value"},
        {"pg://u@h/d?sslmode=disable", "TLS has keys of its own"},
        {"pg://u@h/d?tls=true", "TLS has keys of its own"},
        {"pg://u:geheim!1@h/d?password=geheim!2", "two passwords"},
        {"pg://u@h/d?host=other", "two hosts"},
        {"pg://u@h:1/d?port=2", "two ports"},
        {"unix://host/path", "absolute path"},
        {"unix:", "expected a URL"},
        {"unix://", "absolute path"},
    };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        struct co_url url = {0};
        struct co_error err = {0};
        if (co_url_parse(urls[i].text, &url, &err) == 0)
            fail_msg("%s was taken", urls[i].text);
        assert_int_equal(err.code, CO_E_CONFIG);
        assert_contains(err.message, urls[i].message);
        assert_lacks(err.message, "gehe");
        assert_lacks(err.hint, "gehe");
        assert_null(url.url);
    }
}

static void passwords_are_masked_from_then_on(void **state)
{
    (void)state;
    struct co_url url = {0};
    struct co_error err;
    assert_int_equal(co_url_parse("pg://u:url%2Dtest%2Dpw@h/d?x_token=tok%2Den7", &url, &err), 0);
    co_fail(&err, CO_E_SERVER, "url-test-pw and url%%2Dtest%%2Dpw and tok-en7");
    assert_string_equal(err.message, "*** and *** and ***");
    assert_string_equal(url.params[0], "x_token");
    assert_string_equal(url.params[1], "tok-en7");
    assert_string_equal(url.url, "pg://u@h/d");
    co_url_done(&url);
}

static void what_is_local(void **state)
{
    (void)state;
    static const char *const local[] = {"/run/pg",        "localhost", "LOCALHOST", "127.0.0.1",
                                        "127.9.8.7",      "::1",       "@abstract", "127.0.0.1:1,localhost:2",
                                        "[::1]:1,[::1]:2"};
    static const char *const remote[] = {"10.0.0.1",     "127.example.com", "localhost.example.com", "::2", "db",
                                         "localhost,db", "0.0.0.0"};
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++)
        if (!co_url_is_local(local[i]))
            fail_msg("%s", local[i]);
    for (size_t i = 0; i < sizeof remote / sizeof remote[0]; i++)
        if (co_url_is_local(remote[i]))
            fail_msg("%s", remote[i]);
    assert_true(co_url_is_local(NULL));
}

static void passwords_in_arguments_are_seen(void **state)
{
    (void)state;
    static const char *const with[] = {"postgresql://u:p@h/d",      "redis://:p@h",           "pg://u@h/d?password=x",
                                       "pg://h/d?a=b&auth_token=x", "--a=postgresql://u:p@h", "pg://u:p/q@h",
                                       "unix://u:p@/sock"};
    static const char *const without[] = {"postgresql://u@h/d", "redis://h:6379", "pg://u@h:5432/d?x=y",
                                          "http://[::1]:80/",   "a:b@c",          "pg://u:@h",
                                          "pg://h/d?password="};
    for (size_t i = 0; i < sizeof with / sizeof with[0]; i++)
        if (!co_url_holds_password(with[i]))
            fail_msg("%s", with[i]);
    for (size_t i = 0; i < sizeof without / sizeof without[0]; i++)
        if (co_url_holds_password(without[i]))
            fail_msg("%s", without[i]);
}

static void peers(void **state)
{
    (void)state;
    char *address = NULL;
    int port = 0;
    struct co_error err;
    assert_int_equal(co_url_parse_address("db2.internal:5432", &address, &port, &err), 0);
    assert_string_equal(address, "db2.internal");
    assert_int_equal(port, 5432);
    assert_int_equal(co_url_parse_address("[::1]:80", &address, &port, &err), 0);
    assert_string_equal(address, "::1");
    assert_int_equal(co_url_parse_address("", &address, &port, &err), CO_E_CONFIG);
    assert_int_equal(co_url_parse_address("pg://x", &address, &port, &err), CO_E_CONFIG);
    free(address);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_urls),     cmocka_unit_test(bad_urls_are_not_repeated),
        cmocka_unit_test(what_is_local), cmocka_unit_test(passwords_are_masked_from_then_on),
        cmocka_unit_test(peers),         cmocka_unit_test(passwords_in_arguments_are_seen),
    };
    return cmocka_run_group_tests_name("url", tests, NULL, NULL);
}
