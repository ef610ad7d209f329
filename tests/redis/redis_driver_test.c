/* The Redis driver's pure parts. */
#include "rd.h"
#include "unit/unit.h"

#define ID_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define ID_C "cccccccccccccccccccccccccccccccccccccccc"

static const char primary_info[] =
    "# Server\r\nredis_version:7.0.15\r\nrun_id:" ID_C "\r\nconfig_file:/etc/redis/redis.conf\r\n"
    "# Replication\r\nrole:master\r\nconnected_slaves:1\r\nmin_slaves_good_slaves:1\r\n"
    "slave0:ip=::1,port=6380,state=online,offset=790,lag=0\r\nmaster_replid:" ID_A "\r\n"
    "master_replid2:" ID_B "\r\nmaster_repl_offset:790\r\nsecond_repl_offset:501\r\n";

static void info_is_read(void **unused)
{
    struct rd_state state = {.offset = -1};

    (void)unused;
    assert_int_equal(rd_state_parse(&state, primary_info), 0);
    assert_true(state.primary);
    assert_string_equal(state.run_id, ID_C);
    assert_string_equal(state.replid2, ID_B);
    assert_int_equal(state.offset, 790);
    assert_int_equal(state.second_offset, 501);
    assert_string_equal(state.config_file, "/etc/redis/redis.conf");
    assert_int_equal(state.version.compatible, 700);
    rd_state_done(&state);
}

static void what_is_absent_is_unknown(void **unused)
{
    struct rd_state state = {.offset = -1};

    (void)unused;
    assert_int_equal(rd_state_parse(&state, "role:slave\nmaster_repl_offset:12x\n"), 0);
    assert_int_equal(state.offset, -1);
    assert_int_equal(state.applied, -1);
    assert_int_equal(state.apply_errors, -1);
    assert_string_equal(state.replid, "");
    assert_false(rd_state_fenced(&state)); /* CONFIG wasn't seen */
    assert_int_equal(rd_state_accepts_writes(&state), CO_UNKNOWN);
    rd_state_done(&state);
}

static void a_fence_needs_a_max_lag(void **unused)
{
    struct rd_state state = {.config_known = true, .primary = true, .min_replicas = 999, .max_lag = 10, .good_replicas = 2};

    (void)unused;
    assert_true(rd_state_fenced(&state));
    assert_int_equal(rd_state_accepts_writes(&state), CO_NO);
    state.max_lag = 0; /* the server then ignores min-replicas-to-write */
    assert_false(rd_state_fenced(&state));
    assert_int_equal(rd_state_accepts_writes(&state), CO_YES);
}

static void a_writable_replica_accepts_writes(void **unused)
{
    struct rd_state state = {.config_known = true, .primary = false, .read_only = false};

    (void)unused;
    assert_int_equal(rd_state_accepts_writes(&state), CO_YES);
    state.read_only = true;
    assert_int_equal(rd_state_accepts_writes(&state), CO_NO);
}

static void parse_version(const char *info, struct rd_version *ret)
{
    rd_version_parse(info, ret);
}

static void versions_and_data_files(void **unused)
{
    struct rd_version redis62, redis70, redis74, valkey8, valkey9, redis8;

    (void)unused;
    parse_version("redis_version:6.2.16\r\n", &redis62);
    parse_version("redis_version:7.0.15\r\n", &redis70);
    parse_version("redis_version:7.4.1\r\n", &redis74);
    parse_version("redis_version:8.0.2\r\n", &redis8);
    parse_version("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n", &valkey8);
    parse_version("redis_version:7.2.4\r\nvalkey_version:9.0.0\r\n", &valkey9);
    assert_int_equal(valkey8.major, 8);
    assert_int_equal(valkey8.compatible, 702);
    assert_true(rd_version_can_load(&redis62, &redis70));
    assert_false(rd_version_can_load(&redis70, &redis62));
    assert_true(rd_version_can_load(&redis70, &valkey8));
    assert_false(rd_version_can_load(&redis74, &valkey8));
    assert_false(rd_version_can_load(&redis74, &valkey9)); /* 12 is below 80, and still not loadable */
    assert_true(rd_version_can_load(&valkey8, &redis8));
    assert_false(rd_version_can_load(&valkey9, &redis8));
}

/* Valkey 9.1: "cluster-announce-ip is too long" */
static void a_marker_goes_where_any_text_is_taken(void **unused)
{
    struct rd_version redis8, valkey8, valkey9;

    (void)unused;
    parse_version("redis_version:8.0.2\r\n", &redis8);
    parse_version("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n", &valkey8);
    parse_version("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\n", &valkey9);
    assert_string_equal(rd_marker_setting(&redis8), "cluster-announce-ip");
    assert_string_equal(rd_marker_setting(&valkey8), "cluster-announce-ip");
    assert_string_equal(rd_marker_setting(&valkey9), "ignore-warnings");
}

static void positions_compare_within_a_history(void **unused)
{
    (void)unused;
    assert_int_equal(rd_compare(ID_A ":10", ID_A ":10"), CO_ORDER_EQUAL);
    assert_int_equal(rd_compare(ID_A ":9", ID_A ":10"), CO_ORDER_BEHIND);
    assert_int_equal(rd_compare(ID_A ":24", ID_A ":10"), CO_ORDER_AHEAD);
    assert_int_equal(rd_compare(ID_A ":24", ID_B ":10"), CO_ORDER_DIVERGED);
    assert_int_equal(rd_compare("", ID_B ":10"), CO_ORDER_UNKNOWN);
    assert_int_equal(rd_compare(ID_A ":-1", ID_A ":10"), CO_ORDER_UNKNOWN);
    assert_int_equal(rd_compare(ID_A ":99999999999999999999", ID_A ":10"), CO_ORDER_UNKNOWN);
}

static void a_promoted_server_contains_its_old_history(void **unused)
{
    (void)unused;
    /* promoted at 500 of A, wrote up to 790 since */
    assert_int_equal(rd_compare(ID_B ":790;" ID_A ":500", ID_A ":500"), CO_ORDER_AHEAD);
    assert_int_equal(rd_compare(ID_B ":500;" ID_A ":500", ID_A ":500"), CO_ORDER_EQUAL);
    /* the old primary went on to 501: it has a byte that the new one lacks */
    assert_int_equal(rd_compare(ID_B ":790;" ID_A ":500", ID_A ":501"), CO_ORDER_DIVERGED);
    assert_int_equal(rd_compare(ID_A ":501", ID_B ":790;" ID_A ":500"), CO_ORDER_DIVERGED);
    assert_int_equal(rd_compare(ID_A ":500", ID_B ":790;" ID_A ":500"), CO_ORDER_BEHIND);
}

static void the_last_write_says_that_nothing_is_lost(void **unused)
{
    (void)unused;
    /* after a restart from the append-only file the replication id is another one */
    assert_int_equal(rd_compare(ID_C ":0;f=run-1:1", ID_A ":500;f=run-1:1"), CO_ORDER_EQUAL);
    assert_int_equal(rd_compare(ID_C ":0;f=run-1:2", ID_A ":500;f=run-1:1"), CO_ORDER_DIVERGED);
    assert_int_equal(rd_compare(ID_C ":0", ID_A ":500;f=run-1:1"), CO_ORDER_DIVERGED);
    /* a snapshot from before the fence: behind by its own offset, whatever else */
    assert_int_equal(rd_compare(ID_C ":400;" ID_A ":400", ID_A ":500;f=run-1:1"), CO_ORDER_DIVERGED);
}

static void distance_is_bytes_or_unknown(void **unused)
{
    struct co_distance distance = {.size = sizeof(distance)};

    (void)unused;
    rd_distance(ID_A ":9", ID_A ":109", &distance);
    assert_int_equal(distance.bytes, 100);
    assert_int_equal(distance.transactions, -1);
    rd_distance(ID_A ":200", ID_A ":109", &distance); /* a ping came in between: never negative */
    assert_int_equal(distance.bytes, 0);
    rd_distance(ID_B ":9", ID_A ":109", &distance);
    assert_int_equal(distance.bytes, -1);
}

static void write_calls_are_summed_by_name(void **unused)
{
    static char *const names[] = {"del", "set", "xgroup|create"};
    static const char info[] = "# Commandstats\r\ncmdstat_set:calls=5,usec=9\r\ncmdstat_get:calls=100,usec=1\r\n"
                               "cmdstat_xgroup|create:calls=2,usec=1,usec_per_call=0.5\r\n";

    (void)unused;
    assert_int_equal(rd_write_calls(info, names, 3), 7);
    assert_int_equal(rd_write_calls("# Commandstats\r\n", names, 3), 0);
    assert_int_equal(rd_write_calls("", names, 3), -1); /* nothing was shown: nothing is proven */
    assert_int_equal(rd_write_calls("# x\ncmdstat_set:calls=99999999999999999999\n", names, 3), -1);
}

static void markers_survive_print_and_parse(void **unused)
{
    struct rd_marker marker = {(char *)"0a1b", (char *)"77", (char *)"run-1:3", (char *)"{\"a\": \"\\\"x\\n y' \xc3\xa9\"}",
                               true};
    RD_MARKER(again);
    char *text = rd_marker_print(&marker);

    (void)unused;
    assert_non_null(text);
    assert_null(strpbrk(text, "\"\\'\n\r")); /* Valkey 8.1 writes such characters unescaped into its config file */
    assert_true(rd_marker_parse(text, &again));
    assert_string_equal(again.instance, "0a1b");
    assert_string_equal(again.lineage, "77");
    assert_string_equal(again.token, "run-1:3");
    assert_string_equal(again.info, marker.info);
    assert_true(again.temporary);
    free(text);
}

#define NOTES                                                                                                                  \
    "{\"core.incarnation\":\"" ID_A "\",\"original.min-replicas-to-write\":\"0\",\"original.min-replicas-max-lag\":\"10\","    \
    "\"original.repl-ping-replica-period\":\"10\",\"original.appendfsync\":\"everysec\",\"closed_before\":\"no\""
#define RUN_INFO                                                                                                               \
    "{\"run\":\"20261125-203904-01ad4cfb\",\"kind\":\"cutover\",\"operator\":\"root\",\"host\":\"db-tools-3.example.com\","    \
    "\"journal\":\"%s\","                                                                                                      \
    "\"since\":\"2026-11-25T20:39:04.216Z\",\"source\":\"a\",\"pid\":12910"
#define RUN_NOTES ",\"notes\":{\"a\":" NOTES "},\"b\":" NOTES ",\"master_before\":\"db-1.example.com 6379\"}}}"

static void short_texts_read_back_as_they_were(void **unused)
{
    static const char *const texts[] = {"",       RUN_INFO RUN_NOTES,         "~",
                                        "~A%41%", "a'b\"c\\d\x01\xc3\xa9 \n", "\",\"kind\":\"cutover\",\"kind\":\""};

    (void)unused;
    for (size_t at = 0; at < sizeof(texts) / sizeof(*texts); at++) {
        char *text = rd_shorten(texts[at]), *again;

        assert_non_null(text);
        assert_null(strpbrk(text, "\"\\ \n"));
        again = rd_lengthen(text, strlen(text));
        assert_string_equal(again, texts[at]);
        free(text);
        free(again);
    }
    assert_null(rd_lengthen("~", 1));
    assert_null(rd_lengthen("~z", 2)); /* a word of a later version */
    assert_null(rd_lengthen("%4", 2));
    assert_null(rd_lengthen("a b", 3));
}

/* The marker with the journal at this path, as a server before 7.0 gets it; returns what the info reads as again. */
static char *short_marker(const char *journal, size_t *ret_bytes)
{
    struct rd_marker marker = {(char *)"536b9a805bc956d6ba100ea6ba564e1d", (char *)"536b9a805bc956d6ba100ea6ba564e1d",
                               (char *)"20261125-203904-01ad4cfb:1", NULL, true};
    RD_MARKER(again);
    RD_TEXT text = NULL;
    char *info;

    assert_true(asprintf(&info, RUN_INFO RUN_NOTES, journal) > 0);
    marker.info = info;
    text = rd_marker_print_short(&marker);
    assert_non_null(text);
    *ret_bytes = strlen(text);
    assert_true(rd_marker_parse(text, &again));
    assert_string_equal(again.token, marker.token);
    assert_string_equal(again.instance, marker.instance);
    free(info);
    return strdup(again.info);
}

static void a_run_fits_into_a_short_config_line(void **unused)
{
    char path[1200];
    size_t bytes;
    char *info = short_marker("/var/lib/changeover/shop.journal", &bytes);

    (void)unused;
    assert_true(bytes < 600);
    assert_non_null(strstr(info, "\"master_before\":\"db-1.example.com 6379\"}}}"));
    free(info);
    memset(path, 'p', sizeof(path));
    path[0] = '/';
    path[350] = '\0';
    info = short_marker(path, &bytes);
    assert_true(bytes < 1000);
    assert_non_null(strstr(info, "notes"));
    free(info);
}

static void what_does_not_fit_is_left_out_and_never_cut(void **unused)
{
    char path[1200];
    size_t bytes;
    char *info;

    (void)unused;
    memset(path, 'p', sizeof(path));
    path[700] = '\0';
    info = short_marker(path, &bytes); /* who it is, without the notes */
    assert_true(bytes < 1000);
    assert_null(strstr(info, "notes"));
    assert_non_null(strstr(info, "\"host\":\"db-tools-3.example.com\""));
    assert_string_equal(info + strlen(info) - 6, "12910}");
    free(info);
    path[700] = 'p';
    path[1100] = '\0';
    info = short_marker(path, &bytes);
    assert_true(bytes < 200);
    assert_string_equal(info, "");
    free(info);
}

static void somebody_elses_setting_is_not_a_marker(void **unused)
{
    RD_MARKER(marker);

    (void)unused;
    assert_false(rd_marker_parse("10.0.0.7", &marker));
    assert_false(rd_marker_parse("changeover/12 token=x", &marker));
    assert_false(rd_marker_parse("changeover/1 token=x info=###", &marker));
    assert_true(rd_marker_parse("", &marker));
    assert_string_equal(marker.token, "");
}

static int take(const char *bytes, redisReply **ret)
{
    redisReader *reader = rd_reader_new();
    int taken;

    assert_non_null(reader);
    assert_int_equal(redisReaderFeed(reader, bytes, strlen(bytes)), REDIS_OK);
    taken = rd_reader_take(reader, ret);
    redisReaderFree(reader);
    return taken;
}

static void replies_have_limits(void **unused)
{
    redisReply *reply = NULL;

    (void)unused;
    assert_int_equal(take("*2\r\n$3\r\nfoo\r\n:7\r\n", &reply), 1);
    assert_int_equal(reply->elements, 2);
    freeReplyObject(reply);
    assert_int_equal(take("*2\r\n$3\r\nfoo\r\n", &reply), 0);
    assert_int_equal(take("*1000000000\r\n", &reply), -1); /* nothing is allocated for what only was announced */
    assert_int_equal(take("HTTP/1.1 400 Bad Request\r\n", &reply), -1);
}

static void base64_goes_both_ways(void **unused)
{
    (void)unused;
    for (size_t bytes = 0; bytes < 70; bytes++) {
        char data[70], *text, *plain;
        size_t plain_bytes;

        for (size_t at = 0; at < bytes; at++)
            data[at] = (char)(at * 37 + bytes);
        text = rd_base64(data, bytes);
        plain = rd_unbase64(text, strlen(text), &plain_bytes);
        assert_non_null(plain);
        assert_int_equal(plain_bytes, bytes);
        assert_memory_equal(plain, data, bytes);
        free(text);
        free(plain);
    }
    size_t ignored;
    assert_null(rd_unbase64("ab=c", 4, &ignored));
    assert_null(rd_unbase64("abc", 3, &ignored));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(info_is_read),
        cmocka_unit_test(what_is_absent_is_unknown),
        cmocka_unit_test(a_fence_needs_a_max_lag),
        cmocka_unit_test(a_writable_replica_accepts_writes),
        cmocka_unit_test(versions_and_data_files),
        cmocka_unit_test(a_marker_goes_where_any_text_is_taken),
        cmocka_unit_test(positions_compare_within_a_history),
        cmocka_unit_test(a_promoted_server_contains_its_old_history),
        cmocka_unit_test(the_last_write_says_that_nothing_is_lost),
        cmocka_unit_test(distance_is_bytes_or_unknown),
        cmocka_unit_test(write_calls_are_summed_by_name),
        cmocka_unit_test(markers_survive_print_and_parse),
        cmocka_unit_test(short_texts_read_back_as_they_were),
        cmocka_unit_test(a_run_fits_into_a_short_config_line),
        cmocka_unit_test(what_does_not_fit_is_left_out_and_never_cut),
        cmocka_unit_test(somebody_elses_setting_is_not_a_marker),
        cmocka_unit_test(replies_have_limits),
        cmocka_unit_test(base64_goes_both_ways),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
