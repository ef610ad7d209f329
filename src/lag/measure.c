/* measure.c - one lag sample: what the primary had at a time, and when its follower has applied it.
 *
 * Invariants: `open` and a number are given only for a follower that was seen to follow this primary during
 * the sample; a link that doesn't run is broken, what couldn't be asked is unknown, and neither carries a lag
 * of 0. A follower that takes client writes is broken, whatever its position.
 */
#include "lag/lag.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"

#define CALL_NS (3 * CO_NS_PER_S)       /* any one question to a server */
#define LOOK_AGAIN_NS (CO_NS_PER_S / 2) /* while waiting: is the link still there? */
#define POLL_MIN_NS (CO_NS_PER_MS)
#define POLL_MAX_NS (10 * CO_NS_PER_MS)
#define WATCH_WAIT_NS (CO_NS_PER_S / 4) /* watching: a short delay is measured, a longer one remembered */
#define REMEMBERED 1024

struct remembered {
    int64_t at_ns;
    char *position;
};

struct co_lag {
    struct co_pair *pair;
    struct co_endpoint *ep[2]; /* by side */
    int wake_fd;
    bool rounds;
    struct remembered ring[REMEMBERED];
    size_t first, count;
    int64_t reached_ns; /* age is counted from here: the newest position seen applied */
};

int co_lag_new(struct co_pair *pair, struct co_lag **ret, struct co_error *err)
{
    struct co_lag *lag = calloc(1, sizeof *lag);
    if (!lag)
        return co_fail(err, CO_E_NOMEM, "out of memory");
    lag->pair = pair;
    lag->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    lag->ep[CO_SIDE_A] = co_endpoint_new(pair, CO_SIDE_A, CO_CONN_MAIN);
    lag->ep[CO_SIDE_B] = co_endpoint_new(pair, CO_SIDE_B, CO_CONN_MAIN);
    if (lag->wake_fd < 0 || !lag->ep[0] || !lag->ep[1]) {
        co_lag_free(lag);
        return co_fail(err, CO_E_NOMEM, "no memory or no descriptor to measure lag");
    }
    *ret = lag;
    return 0;
}

void co_lag_with_rounds(struct co_lag *lag)
{
    lag->rounds = true;
}

static void forget(struct co_lag *lag)
{
    while (lag->count) {
        free(lag->ring[lag->first].position);
        lag->first = (lag->first + 1) % REMEMBERED;
        lag->count--;
    }
    lag->reached_ns = 0;
}

void co_lag_free(struct co_lag *lag)
{
    if (!lag)
        return;
    forget(lag);
    co_endpoint_free(lag->ep[0]);
    co_endpoint_free(lag->ep[1]);
    if (lag->wake_fd >= 0)
        close(lag->wake_fd);
    free(lag);
}

void co_lag_interrupt(struct co_lag *lag)
{
    uint64_t one = 1;
    if (write(lag->wake_fd, &one, sizeof one) < 0) { /* full: already awake */
    }
    co_endpoint_interrupt(lag->ep[0]);
    co_endpoint_interrupt(lag->ep[1]);
}

static void say(struct co_lag_sample *ret, enum co_gate_state state, const struct co_error *err)
{
    ret->state = state;
    co_text_clear(&ret->reason);
    co_text_add(&ret->reason, "%s", err->message[0] ? err->message : "no reason given");
    if (err->hint[0])
        co_text_add(&ret->reason, ". %s", err->hint);
}

static void begin(struct co_lag *lag, struct co_lag_sample *ret)
{
    *ret = (struct co_lag_sample){.state = CO_GATE_UNKNOWN,
                                  .lag_ms = -1,
                                  .lag_at_least_ms = -1,
                                  .lag_bytes = -1,
                                  .lag_transactions = -1,
                                  .piled_up_bytes = -1,
                                  .taken_ns = co_now_ns(),
                                  .wall_ms = co_wall_ms(),
                                  .primary = co_pair_source(lag->pair)};
}

struct other_look {
    struct co_endpoint *ep;
    struct co_identity_data *id;
    struct co_error err;
    enum co_result got;
};

static void *look_at_other(void *arg)
{
    struct other_look *look = arg;
    look->got = co_ep_identify(look->ep, co_now_ns() + CALL_NS, look->id, &look->err);
    return NULL;
}

/* Who is the primary now? What the journal says, unless both servers say the opposite (a machine without
 * the journal, after a cutover). */
static bool look_at_roles(struct co_lag *lag, struct co_lag_sample *ret)
{
    struct co_error err = {0};
    struct co_identity_data id[2] = {0};
    bool good = false;
    enum co_result got[2];
    /* both at once: connecting and logging in is most of what one shot costs */
    struct other_look other = {.ep = lag->ep[1], .id = &id[1]};
    pthread_t thread;
    bool threaded = pthread_create(&thread, NULL, look_at_other, &other) == 0;
    got[0] = co_ep_identify(lag->ep[0], co_now_ns() + CALL_NS, &id[0], &err);
    if (threaded)
        pthread_join(thread, NULL);
    else
        look_at_other(&other);
    got[1] = other.got;
    if (got[0] != CO_DONE || got[1] != CO_DONE) {
        say(ret, CO_GATE_UNKNOWN, got[0] != CO_DONE ? &err : &other.err);
        goto out;
    }
    int source = (int)co_pair_source(lag->pair);
    if (id[source].role == CO_ROLE_FOLLOWER && id[!source].role == CO_ROLE_PRIMARY) {
        co_pair_set_source(lag->pair, (enum co_side) !source);
        forget(lag);
        source = !source;
        ret->primary = (enum co_side)source;
    }
    const char *follower = co_side_name((enum co_side) !source);
    if (id[source].role != CO_ROLE_PRIMARY) {
        co_fail(&err, CO_E_BROKEN, "side %s is not a primary", co_side_name((enum co_side)source));
        say(ret, id[source].role == CO_ROLE_UNKNOWN ? CO_GATE_UNKNOWN : CO_GATE_BROKEN, &err);
    } else if (id[!source].role == CO_ROLE_PRIMARY && id[!source].accepts_writes == CO_YES) {
        co_fail(&err, CO_E_BROKEN, "side %s takes client writes itself instead of following", follower);
        co_hint(&err, "Where it isn't set up yet, `changeover setup` does that; where it was, stop its clients first.");
        say(ret, CO_GATE_BROKEN, &err);
    } else if (id[!source].accepts_writes == CO_YES) {
        co_fail(&err, CO_E_BROKEN, "side %s follows but takes client writes, so its data may have diverged", follower);
        co_hint(&err, "Make it read-only again: `changeover setup` does so.");
        say(ret, CO_GATE_BROKEN, &err);
    } else {
        good = true;
    }
out:
    co_identity_data_done(&id[0]);
    co_identity_data_done(&id[1]);
    return good;
}

static bool look_at_link(struct co_lag *lag, struct co_lag_sample *ret)
{
    struct co_error err = {0};
    struct co_link_data link = {0};
    int source = (int)ret->primary;
    enum co_result got = co_ep_link(lag->ep[!source], lag->ep[source], co_now_ns() + CALL_NS, &link, &err);
    bool good = false;
    if (got != CO_DONE) {
        say(ret, CO_GATE_UNKNOWN, &err);
    } else {
        ret->piled_up_bytes = link.piled_up_bytes;
        co_text_set_str(&ret->faster, co_text_str(&link.faster));
        good = link.state == CO_LINK_RUNNING;
        if (!good) {
            ret->state = link.state == CO_LINK_UNKNOWN ? CO_GATE_UNKNOWN : CO_GATE_BROKEN;
            co_text_set_str(&ret->reason, link.reason.bytes ? co_text_str(&link.reason) : "replication doesn't run");
        }
    }
    co_link_data_done(&link);
    return good;
}

/* Replication doesn't run, so there is no lag; where both sides stand is known all the same, and is what counts when one of
 * them is lost. */
static void note_positions(struct co_lag *lag, struct co_lag_sample *ret)
{
    struct co_error err = {0};
    if (co_ep_position(lag->ep[ret->primary], co_now_ns() + CALL_NS, &ret->primary_position, &err) != CO_DONE)
        co_text_clear(&ret->primary_position);
    if (co_ep_applied(lag->ep[!ret->primary], co_now_ns() + CALL_NS, &ret->applied_position, &err) != CO_DONE)
        co_text_clear(&ret->applied_position);
}

static bool ask_position(struct co_lag *lag, struct co_lag_sample *ret)
{
    struct co_error err = {0};
    if (co_ep_position(lag->ep[ret->primary], co_now_ns() + CALL_NS, &ret->primary_position, &err) == CO_DONE &&
        ret->primary_position.bytes)
        return true;
    if (!err.message[0])
        co_fail(&err, CO_E_STATE, "the primary gave an empty position");
    say(ret, CO_GATE_UNKNOWN, &err);
    return false;
}

/* Has the follower applied `want`? Sets applied_position; a position from another history is broken. */
static bool ask_applied(struct co_lag *lag, const char *want, struct co_lag_sample *ret, enum co_order *ret_order)
{
    struct co_error err = {0};
    if (co_ep_applied(lag->ep[!ret->primary], co_now_ns() + CALL_NS, &ret->applied_position, &err) != CO_DONE) {
        say(ret, CO_GATE_UNKNOWN, &err);
        return false;
    }
    *ret_order = co_pair_compare(lag->pair, co_text_str(&ret->applied_position), want);
    if (*ret_order == CO_ORDER_DIVERGED) {
        co_fail(&err, CO_E_DATA, "the follower's history has diverged: it has %s, the primary %s",
                co_text_str(&ret->applied_position), want);
        co_hint(&err, "Set the follower up again with `changeover setup`.");
        say(ret, CO_GATE_BROKEN, &err);
        return false;
    }
    if (*ret_order == CO_ORDER_UNKNOWN) {
        co_fail(&err, CO_E_STATE, "positions can't be compared: %s and %s", co_text_str(&ret->applied_position), want);
        say(ret, CO_GATE_UNKNOWN, &err);
        return false;
    }
    return true;
}

static void fill_distance(struct co_lag *lag, struct co_lag_sample *ret)
{
    struct co_distance distance = {.size = sizeof distance, .bytes = -1, .transactions = -1};
    co_pair_distance(lag->pair, co_text_str(&ret->applied_position), co_text_str(&ret->primary_position), &distance);
    ret->lag_bytes = distance.bytes;
    ret->lag_transactions = distance.transactions;
}

static bool reached(enum co_order order)
{
    return order == CO_ORDER_EQUAL || order == CO_ORDER_AHEAD;
}

/* Waits until the follower has `position`. True: seen applied, or the time is over (order says which). */
static bool wait_for(struct co_lag *lag, int64_t deadline_ns, struct co_lag_sample *ret, enum co_order *order)
{
    bool own_wait = co_pair_driver(lag->pair)->wait_applied != NULL;
    int64_t look_ns = co_now_ns() + LOOK_AGAIN_NS, pause_ns = POLL_MIN_NS;
    const char *want = co_text_str(&ret->primary_position);
    for (;;) {
        int64_t now = co_now_ns();
        if (reached(*order) || now >= deadline_ns)
            return true;
        if (now >= look_ns) {
            if (!look_at_link(lag, ret))
                return false;
            look_ns = co_now_ns() + LOOK_AGAIN_NS;
        }
        struct co_error err = {0};
        struct pollfd wake = {.fd = lag->wake_fd, .events = POLLIN};
        if (poll(&wake, 1, 0) > 0) {
            co_fail(&err, CO_E_INTERRUPTED, "interrupted");
            say(ret, CO_GATE_UNKNOWN, &err);
            return false;
        }
        if (lag->rounds) {
            enum co_result got = co_ep_round(lag->ep[!ret->primary], lag->ep[ret->primary], deadline_ns, &err);
            if (got != CO_DONE && got != CO_AGAIN && err.code != CO_E_TIMEOUT) {
                say(ret, CO_GATE_BROKEN, &err);
                return false;
            }
        } else if (own_wait) {
            enum co_result got = co_ep_wait_applied(lag->ep[!ret->primary], want, co_min_deadline(deadline_ns, look_ns), &err);
            if (got == CO_NO_EFFECT && err.code != CO_E_TIMEOUT && err.code != CO_E_UNSUPPORTED) {
                if (!look_at_link(lag, ret))
                    return false;
            }
        } else {
            co_wait_until(co_min_deadline(deadline_ns, co_now_ns() + pause_ns), lag->wake_fd);
            pause_ns = pause_ns * 2 > POLL_MAX_NS ? POLL_MAX_NS : pause_ns * 2;
        }
        if (!ask_applied(lag, want, ret, order))
            return false;
    }
}

static void judge(struct co_lag *lag, struct co_lag_sample *ret)
{
    const struct co_pair_config *config = co_pair_config(lag->pair);
    int64_t ms = ret->lag_ms >= 0 ? ret->lag_ms : ret->lag_at_least_ms;
    ret->state = CO_GATE_OPEN;
    co_text_clear(&ret->reason);
    if (ret->lag_ms < 0 || ms > config->gate.max_ms) {
        ret->state = CO_GATE_CLOSED;
        co_text_add(&ret->reason, "%s%lld ms behind, the limit is %lld ms", ret->lag_ms < 0 ? "at least " : "", (long long)ms,
                    (long long)config->gate.max_ms);
    } else if (config->gate.max_bytes >= 0 && ret->lag_bytes > config->gate.max_bytes) {
        ret->state = CO_GATE_CLOSED;
        co_text_add(&ret->reason, "%lld bytes behind, the limit is %lld bytes", (long long)ret->lag_bytes,
                    (long long)config->gate.max_bytes);
    } else if (config->gate.max_transactions >= 0 && ret->lag_transactions > config->gate.max_transactions) {
        ret->state = CO_GATE_CLOSED;
        co_text_add(&ret->reason, "%lld transactions behind, the limit is %lld", (long long)ret->lag_transactions,
                    (long long)config->gate.max_transactions);
    }
}

void co_lag_measure(struct co_lag *lag, int64_t timeout_ms, struct co_lag_sample *ret)
{
    begin(lag, ret);
    if (timeout_ms < 0)
        timeout_ms = co_pair_config(lag->pair)->gate.max_ms + 1000;
    if (!look_at_roles(lag, ret))
        return;
    if (!look_at_link(lag, ret)) {
        note_positions(lag, ret);
        return;
    }
    int64_t from_ns = co_now_ns();
    enum co_order order = CO_ORDER_UNKNOWN;
    if (!ask_position(lag, ret) || !ask_applied(lag, co_text_str(&ret->primary_position), ret, &order))
        return;
    fill_distance(lag, ret);
    if (reached(order)) {
        ret->lag_ms = 0; /* it was there when it was first asked */
    } else {
        if (!wait_for(lag, from_ns + timeout_ms * CO_NS_PER_MS, ret, &order))
            return;
        int64_t took_ms = (co_now_ns() - from_ns) / CO_NS_PER_MS;
        *(reached(order) ? &ret->lag_ms : &ret->lag_at_least_ms) = took_ms;
        /* a link that broke at the very end must not give a number */
        if (!reached(order) && !look_at_link(lag, ret)) {
            ret->lag_at_least_ms = took_ms;
            return;
        }
    }
    judge(lag, ret);
}

static void remember(struct co_lag *lag, int64_t at_ns, const char *position)
{
    if (lag->count) {
        struct remembered *last = &lag->ring[(lag->first + lag->count - 1) % REMEMBERED];
        if (co_pair_compare(lag->pair, position, last->position) == CO_ORDER_EQUAL)
            return; /* the older time is the proof of more */
    }
    if (lag->count == REMEMBERED) { /* keep the oldest and thin out: every second one goes */
        size_t kept = 0;
        for (size_t i = 0; i < REMEMBERED; i++) {
            size_t from = (lag->first + i) % REMEMBERED, to = (lag->first + kept) % REMEMBERED;
            if (i % 2) {
                free(lag->ring[from].position);
                lag->ring[from].position = NULL;
            } else {
                if (from != to) {
                    lag->ring[to] = lag->ring[from];
                    lag->ring[from].position = NULL;
                }
                kept++;
            }
        }
        lag->count = kept;
    }
    char *copy = co_strdup(position);
    if (copy)
        lag->ring[(lag->first + lag->count++) % REMEMBERED] = (struct remembered){at_ns, copy};
}

void co_lag_watch(struct co_lag *lag, struct co_lag_sample *ret)
{
    begin(lag, ret);
    bool roles = look_at_roles(lag, ret);
    if (!roles || !look_at_link(lag, ret)) {
        forget(lag);
        if (roles)
            note_positions(lag, ret);
        return;
    }
    int64_t asked_ns = co_now_ns();
    enum co_order order = CO_ORDER_UNKNOWN;
    if (!ask_position(lag, ret) || !ask_applied(lag, co_text_str(&ret->primary_position), ret, &order))
        return;
    fill_distance(lag, ret);
    remember(lag, asked_ns, co_text_str(&ret->primary_position));
    if (!reached(order)) {
        if (!wait_for(lag, asked_ns + WATCH_WAIT_NS, ret, &order))
            return;
        if (reached(order)) {
            forget(lag);
            lag->reached_ns = asked_ns;
            ret->lag_ms = (co_now_ns() - asked_ns) / CO_NS_PER_MS;
            judge(lag, ret);
            return;
        }
    }
    const char *have = co_text_str(&ret->applied_position);
    if (reached(order)) {
        forget(lag);
        lag->reached_ns = asked_ns;
        ret->lag_ms = 0;
    } else {
        while (lag->count && reached(co_pair_compare(lag->pair, have, lag->ring[lag->first].position))) {
            lag->reached_ns = lag->ring[lag->first].at_ns;
            free(lag->ring[lag->first].position);
            lag->first = (lag->first + 1) % REMEMBERED;
            lag->count--;
        }
        int64_t now = co_now_ns();
        if (lag->reached_ns)
            ret->lag_ms = (now - lag->reached_ns) / CO_NS_PER_MS;
        else if (lag->count)
            ret->lag_at_least_ms = (now - lag->ring[lag->first].at_ns) / CO_NS_PER_MS;
    }
    judge(lag, ret);
}
