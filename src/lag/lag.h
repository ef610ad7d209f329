/* lag.h - how far the follower is behind, proven: take the primary's position, see how long until the
 * follower has applied it. One clock, no estimate; what can't be measured is unknown, never 0.
 */
#ifndef CO_LAG_LAG_H
#define CO_LAG_LAG_H

#include "drivers-host/pair.h"

enum co_gate_state { CO_GATE_OPEN = 0, CO_GATE_CLOSED = 1, CO_GATE_BROKEN = 2, CO_GATE_UNKNOWN = 3 }; /* = exit codes */
const char *co_gate_name(enum co_gate_state state); /* "open", "closed", "broken", "unknown" */
/* The worst of two: unknown and broken rank over closed, as the exit codes do. */
enum co_gate_state co_gate_worst(enum co_gate_state a, enum co_gate_state b);

struct co_lag_sample {
    enum co_gate_state state;            /* this sample against the limits alone; stable_for is the gate's (below) */
    struct co_text reason;               /* "" when open */
    struct co_text faster;               /* what would make the follower apply faster, or "" */
    int64_t lag_ms;                      /* -1 unknown */
    int64_t lag_at_least_ms;             /* -1; set when the wait ended before the follower got there */
    int64_t lag_bytes, lag_transactions; /* at the moment of the sample; -1 unknown */
    struct co_text primary_position, applied_position;
    int64_t piled_up_bytes; /* -1 */
    int64_t taken_ns, wall_ms;
    enum co_side primary; /* direction: the other side follows */
};
void co_lag_sample_done(struct co_lag_sample *sample);

/* The measuring of one pair; two endpoints of its own. Not thread-safe; one per pair and thread. */
struct co_lag;
int co_lag_new(struct co_pair *pair, struct co_lag **ret, struct co_error *err);
void co_lag_free(struct co_lag *lag);
/* An engine that replicates in rounds gets nowhere by waiting: inside a run each measurement carries its own round
 * out, and the lag is how long that took. */
void co_lag_with_rounds(struct co_lag *lag);
void co_lag_interrupt(struct co_lag *lag); /* from any thread or a signal handler's thread */

/* One shot: one position of the primary, waits at most timeout_ms (-1: the pair's max_ms + 1 s) for it.
 * Always fills *ret. */
void co_lag_measure(struct co_lag *lag, int64_t timeout_ms, struct co_lag_sample *ret);
/* Monitoring: remembers the primary's positions and gives the age of the newest one that the follower has
 * reached. Call it about once an interval; costs two round trips and never waits for replication. */
void co_lag_watch(struct co_lag *lag, struct co_lag_sample *ret);

/* The gate over one pair: open when every sample within stable_for was within the limits, and the follower
 * applies as fast as the primary writes (the distance doesn't grow over the window). */
struct co_gate;
struct co_gate *co_gate_new(const struct co_pair_config *config);
void co_gate_free(struct co_gate *gate);
/* Takes a sample in; returns the gate's state now and, in *ret_stable_ms, for how long it has been good. */
enum co_gate_state co_gate_feed(struct co_gate *gate, const struct co_lag_sample *sample, int64_t *ret_stable_ms,
                                struct co_text *ret_reason);

#endif
