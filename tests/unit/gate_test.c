/* gate_test.c - when the gate opens, fed with samples at made-up times. */
#include "unit.h"

#include "base/clock.h"
#include "lag/lag.h"

#define STEP_MS 100

static struct co_lag_sample sample_at(int64_t at_ms, int64_t lag_ms, int64_t bytes)
{
    struct co_lag_sample sample = {.state = CO_GATE_OPEN,
                                   .lag_ms = lag_ms,
                                   .lag_at_least_ms = -1,
                                   .lag_bytes = bytes,
                                   .lag_transactions = -1,
                                   .taken_ns = at_ms * CO_NS_PER_MS};
    return sample;
}

static struct co_gate *make(int64_t stable_ms)
{
    struct co_pair_config config = {.gate = {.max_ms = 1000, .stable_for_ms = stable_ms}};
    struct co_gate *gate = co_gate_new(&config);
    assert_non_null(gate);
    return gate;
}

static enum co_gate_state feed(struct co_gate *gate, struct co_lag_sample sample)
{
    CO_TEXT_AUTO reason = CO_TEXT_INIT;
    int64_t stable_ms;
    enum co_gate_state state = co_gate_feed(gate, &sample, &stable_ms, &reason);
    if (state != CO_GATE_OPEN && sample.state == CO_GATE_OPEN)
        assert_true(reason.bytes > 0); /* a closed gate says why */
    return state;
}

static void test_opens_after_the_window(void **state)
{
    (void)state;
    struct co_gate *gate = make(1000);
    for (int64_t at = 1000; at < 2000; at += STEP_MS)
        assert_int_equal(feed(gate, sample_at(at, 3, 0)), CO_GATE_CLOSED);
    assert_int_equal(feed(gate, sample_at(2000, 3, 0)), CO_GATE_OPEN);
    co_gate_free(gate);
}

static void test_one_bad_sample_starts_again(void **state)
{
    (void)state;
    struct co_gate *gate = make(1000);
    for (int64_t at = 1000; at <= 1900; at += STEP_MS)
        feed(gate, sample_at(at, 3, 0));
    struct co_lag_sample bad = sample_at(1950, -1, -1);
    bad.state = CO_GATE_UNKNOWN;
    assert_int_equal(feed(gate, bad), CO_GATE_UNKNOWN);
    for (int64_t at = 2000; at < 3000; at += STEP_MS)
        assert_int_equal(feed(gate, sample_at(at, 3, 0)), CO_GATE_CLOSED);
    assert_int_equal(feed(gate, sample_at(3000, 3, 0)), CO_GATE_OPEN);
    co_gate_free(gate);
}

static void test_silence_does_not_count(void **state)
{
    (void)state;
    struct co_gate *gate = make(1000);
    feed(gate, sample_at(1000, 3, 0));
    /* nobody looked for five seconds: what happened there isn't known */
    assert_int_equal(feed(gate, sample_at(6000, 3, 0)), CO_GATE_CLOSED);
    co_gate_free(gate);
}

static void test_growing_lag_stays_closed(void **state)
{
    (void)state;
    struct co_gate *gate = make(1000);
    enum co_gate_state last = CO_GATE_CLOSED;
    /* within the limit of 1000 ms all the time, but 60 ms more with every sample */
    for (int64_t at = 1000, lag = 10; at <= 2400; at += STEP_MS, lag += 60) {
        last = feed(gate, sample_at(at, lag, lag * 1000));
        assert_int_equal(last, CO_GATE_CLOSED);
    }
    co_gate_free(gate);
}

static void test_worst(void **state)
{
    (void)state;
    assert_int_equal(co_gate_worst(CO_GATE_OPEN, CO_GATE_CLOSED), CO_GATE_CLOSED);
    assert_int_equal(co_gate_worst(CO_GATE_UNKNOWN, CO_GATE_BROKEN), CO_GATE_UNKNOWN);
    assert_string_equal(co_gate_name(CO_GATE_BROKEN), "broken");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_opens_after_the_window),
                                       cmocka_unit_test(test_one_bad_sample_starts_again),
                                       cmocka_unit_test(test_silence_does_not_count),
                                       cmocka_unit_test(test_growing_lag_stays_closed), cmocka_unit_test(test_worst)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
