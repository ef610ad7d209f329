/* lost.c - `rollback --b-is-lost`: what the old primary has, what it lacks, and whether the new one is really gone.
 *
 * Invariant: a new primary that answers isn't lost. Opening the old one beside it would make two that take writes, so the
 * run is refused, whatever the operator said.
 */
#include "cutover/run.h"

#include <stdlib.h>
#include <string.h>

#define SINCE_FOREVER 0

struct last_seen {
    const char *direction;
    struct co_text position;
    int64_t wall_ms;
};

static bool keep_last(const struct co_lag_row *row, void *arg)
{
    struct last_seen *seen = arg;
    if (strcmp(row->direction, seen->direction) == 0 && row->primary_position && row->primary_position[0]) {
        co_text_set_str(&seen->position, row->primary_position);
        seen->wall_ms = row->wall_ms;
    }
    return true;
}

/* What the follower has applied, and the newest position of the primary that was ever recorded. */
void co_lost_look(struct co_session *session, struct co_pair *pair, struct co_lost *ret)
{
    struct co_error err = {0};
    struct co_distance distance = {.size = sizeof distance, .bytes = -1, .transactions = -1};
    enum co_side follower = co_side_other(co_pair_source(pair));
    struct last_seen seen = {.direction = follower == CO_SIDE_A ? "b_to_a" : "a_to_b"};
    *ret = (struct co_lost){.pair = co_pair_name(pair), .missing_bytes = -1, .missing_transactions = -1};
    struct co_endpoint *ep = co_endpoint_new(pair, follower, CO_CONN_MAIN);
    if (!ep || co_ep_applied(ep, co_now_ns() + CO_CONNECT_NS, &ret->applied, &err) != CO_DONE) {
        co_text_clear(&ret->applied);
        co_text_set_str(&ret->reason, err.message);
    }
    co_endpoint_free(ep);
    if (session->journal)
        (void)co_journal_lag_each(session->journal, co_pair_name(pair), SINCE_FOREVER, keep_last, &seen, NULL);
    ret->last_seen_wall_ms = seen.wall_ms;
    if (ret->applied.bytes && seen.position.bytes) {
        enum co_order order = co_pair_compare(pair, co_text_str(&ret->applied), co_text_str(&seen.position));
        if (order == CO_ORDER_EQUAL || order == CO_ORDER_AHEAD)
            distance.bytes = distance.transactions = 0;
        else if (order == CO_ORDER_BEHIND)
            co_pair_distance(pair, co_text_str(&ret->applied), co_text_str(&seen.position), &distance);
        ret->complete = order == CO_ORDER_EQUAL || order == CO_ORDER_AHEAD;
    }
    ret->missing_bytes = distance.bytes;
    ret->missing_transactions = distance.transactions;
    ret->last_seen = seen.position; /* owned by ret from here on */
}

void co_lost_done(struct co_lost *lost)
{
    co_text_done(&lost->applied);
    co_text_done(&lost->last_seen);
    co_text_done(&lost->reason);
}

/* 0: nobody answers there. */
int co_lost_is_gone(struct co_lane *lane, struct co_error *err)
{
    struct co_identity_data id = {0};
    struct co_endpoint *ep = lane->main[CO_SOURCE];
    enum co_result got = co_ep_identify(ep, co_now_ns() + CO_CONNECT_NS, &id, err);
    co_identity_data_done(&id);
    co_endpoint_close(ep);
    if (got != CO_DONE && (err->code == CO_E_UNREACHABLE || err->code == CO_E_TIMEOUT || err->code == CO_E_MISMATCH)) {
        co_journal_event(lane->run->journal, lane->run->row.id, co_pair_name(lane->pair), "lost", err->message, NULL);
        co_error_clear(err);
        return 0;
    }
    const char *side = co_side_name(co_endpoint_side(ep));
    co_fail(err, CO_E_STATE, "pair %s: side %s answers: it isn't lost, and two sides would take writes",
            co_pair_name(lane->pair), side);
    co_hint(err,
            "`changeover rollback` goes back without losing anything. If side %s is to be given up all the same, stop it "
            "first and see to it that it stays off.",
            side);
    return err->code;
}
