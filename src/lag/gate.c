/* gate.c - when a pair may be cut over: every sample of the last stable_for was within the limits, and the
 * follower keeps up with the primary.
 *
 * Invariant: one sample that isn't open starts the time again. Between two samples more than half of
 * stable_for apart (at least 3 s) nothing was seen, so they don't connect.
 */
#include "lag/lag.h"

#include <stdlib.h>

#include "base/clock.h"

#define SILENCE_MIN_NS (3 * CO_NS_PER_S)
#define KEPT 240
#define GROWTH_MIN_MS 50

struct kept {
    int64_t lag_ms, distance; /* distance: bytes or else transactions; -1 unknown */
};

struct co_gate {
    int64_t stable_for_ns;
    int64_t max_ms;
    int64_t good_since_ns; /* 0: not good */
    int64_t last_ns;
    struct kept kept[KEPT]; /* since good_since, the newest last; when full every second one goes */
    size_t count;
};

struct co_gate *co_gate_new(const struct co_pair_config *config)
{
    struct co_gate *gate = calloc(1, sizeof *gate);
    if (gate) {
        gate->stable_for_ns = config->gate.stable_for_ms * CO_NS_PER_MS;
        gate->max_ms = config->gate.max_ms;
    }
    return gate;
}

void co_gate_free(struct co_gate *gate)
{
    free(gate);
}

static int64_t distance_of(const struct co_lag_sample *sample)
{
    return sample->lag_bytes >= 0 ? sample->lag_bytes : sample->lag_transactions;
}

static void keep(struct co_gate *gate, const struct co_lag_sample *sample)
{
    if (gate->count == KEPT) {
        for (size_t i = 0; i < KEPT / 2; i++)
            gate->kept[i] = gate->kept[2 * i + 1];
        gate->count = KEPT / 2;
    }
    gate->kept[gate->count++] = (struct kept){sample->lag_ms, distance_of(sample)};
}

static struct kept mean(const struct kept *from, size_t count)
{
    struct kept sum = {0, 0};
    for (size_t i = 0; i < count; i++) {
        sum.lag_ms += from[i].lag_ms;
        sum.distance += from[i].distance;
    }
    return (struct kept){sum.lag_ms / (int64_t)count, sum.distance / (int64_t)count};
}

/* Does the lag grow through the window, in time and in distance? Then the follower applies slower than the
 * primary writes, and a cutover would wait for it with writes refused. */
static bool falls_behind(const struct co_gate *gate)
{
    size_t third = gate->count / 3;
    if (third < 2)
        return false;
    struct kept first = mean(gate->kept, third), last = mean(gate->kept + gate->count - third, third);
    int64_t limit = gate->max_ms / 4 > GROWTH_MIN_MS ? gate->max_ms / 4 : GROWTH_MIN_MS;
    return last.lag_ms - first.lag_ms > limit && (first.distance < 0 || last.distance > first.distance + first.distance / 2);
}

enum co_gate_state co_gate_feed(struct co_gate *gate, const struct co_lag_sample *sample, int64_t *ret_stable_ms,
                                struct co_text *ret_reason)
{
    int64_t silence = gate->stable_for_ns / 2 > SILENCE_MIN_NS ? gate->stable_for_ns / 2 : SILENCE_MIN_NS;
    co_text_clear(ret_reason);
    *ret_stable_ms = 0;
    if (sample->state != CO_GATE_OPEN) {
        gate->good_since_ns = 0;
        gate->last_ns = sample->taken_ns;
        co_text_set_str(ret_reason, co_text_str(&sample->reason));
        return sample->state;
    }
    if (!gate->good_since_ns || sample->taken_ns - gate->last_ns > silence) {
        gate->good_since_ns = sample->taken_ns;
        gate->count = 0;
    }
    gate->last_ns = sample->taken_ns;
    keep(gate, sample);
    int64_t stable_ns = sample->taken_ns - gate->good_since_ns;
    *ret_stable_ms = stable_ns / CO_NS_PER_MS;
    if (stable_ns < gate->stable_for_ns) {
        co_text_add(ret_reason, "within the limits for %lld ms of %lld ms", (long long)*ret_stable_ms,
                    (long long)(gate->stable_for_ns / CO_NS_PER_MS));
        return CO_GATE_CLOSED;
    }
    if (falls_behind(gate)) {
        co_text_set_str(ret_reason, "the follower applies slower than the primary writes: its lag grows");
        gate->good_since_ns = 0; /* it must be seen to hold for a whole window again */
        return CO_GATE_CLOSED;
    }
    return CO_GATE_OPEN;
}
