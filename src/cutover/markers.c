/* markers.c - the run's mark on both servers: who works here, and the token that its changes are checked against.
 *
 * Invariant: a marker is set, replaced or removed only by compare-and-set on what was read. A marker of
 * another run is replaced only when this journal says that the run has ended.
 */
#include "cutover/run.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static char *marker_info(struct co_lane *lane)
{
    struct co_runner *run = lane->run;
    char since[40];
    co_wall_format(run->row.started_wall_ms, since, sizeof since);
    json_t *notes = co_pair_notes_json(lane->pair);
    if (!notes) /* an empty text would replace the only copy of what an undo puts back */
        return NULL;
    json_t *info =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:o}", "run", run->row.id, "kind", run->row.kind, "operator",
                  run->row.operator_name, "host", run->row.host, "journal", co_journal_path(run->journal), "since", since,
                  "source", co_side_name(run->source), "pid", (json_int_t)run->row.pid, "notes", notes);
    char *text = info ? json_dumps(info, JSON_COMPACT) : NULL;
    json_decref(info);
    return text;
}

/* "<run>:<epoch>" -> is it this run's? */
static bool is_ours(const struct co_runner *run, const char *token)
{
    size_t length = strlen(run->row.id);
    return strncmp(token, run->row.id, length) == 0 && token[length] == ':';
}

/* A marker of a run that this journal has ended may be replaced. */
static bool is_stale(struct co_runner *run, const char *token)
{
    struct co_run_row row;
    CO_AUTOFREE char *id = co_strdup(token);
    if (!id)
        return false;
    char *colon = strrchr(id, ':');
    if (colon)
        *colon = '\0';
    return co_journal_run(run->journal, id, &row, NULL) == 0 && row.ended_wall_ms != 0;
}

static int held_by_other(struct co_lane *lane, enum co_run_role role, const char *token, const char *info, struct co_error *err)
{
    json_t *doc = json_loads(info, 0, NULL);
    const char *who = "?", *host = "?", *since = "?", *journal = "?";
    if (doc)
        json_unpack(doc, "{s?s, s?s, s?s, s?s}", "operator", &who, "host", &host, "since", &since, "journal", &journal);
    co_fail(err, CO_E_CONFLICT, "pair %s: side %s is marked by run %s: %s on %s since %s (journal %s)",
            co_pair_name(lane->pair), co_side_name(co_endpoint_side(lane->main[role])), token, who, host, since, journal);
    co_hint(err,
            "Let that run end, or run `changeover resume` on %s. If that machine is gone for good: "
            "`changeover resume --take-over` here.",
            host);
    json_decref(doc);
    return err->code;
}

/* Each marker that this process has put in place of another, or taken away, stands in the record. */
static void record(struct co_lane *lane, const struct co_endpoint *ep, const char *from, const char *to)
{
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    co_text_add(&text, "side %s: %s -> %s", co_side_name(co_endpoint_side(ep)), from && *from ? from : "none",
                to && *to ? to : "none");
    co_journal_event(lane->run->journal, lane->run->row.id, co_pair_name(lane->pair), "marked", co_text_str(&text), NULL);
}

int co_marker_free(struct co_lane *lane, enum co_run_role role, struct co_error *err)
{
    CO_TEXT_AUTO token = CO_TEXT_INIT;
    CO_TEXT_AUTO info = CO_TEXT_INIT;
    enum co_result got = co_ep_marker_get(lane->main[role], co_now_ns() + CO_CONNECT_NS, &token, &info, err);
    const char *now = co_text_str(&token);
    if (got != CO_DONE)
        return err->code;
    if (!token.bytes || is_ours(lane->run, now) || is_stale(lane->run, now))
        return 0;
    return held_by_other(lane, role, now, co_text_str(&info), err);
}

static int set_marker(struct co_lane *lane, enum co_run_role role, struct co_error *err)
{
    struct co_runner *run = lane->run;
    if (run->source_lost && role == CO_SOURCE)
        return 0;
    CO_TEXT_AUTO token = CO_TEXT_INIT;
    CO_TEXT_AUTO before = CO_TEXT_INIT;
    CO_TEXT_AUTO info_now = CO_TEXT_INIT;
    char *info = marker_info(lane);
    if (!info)
        return co_fail(err, CO_E_NOMEM, "out of memory");
    struct co_endpoint *ep = lane->main[role];
    enum co_result got = co_ep_marker_get(ep, co_now_ns() + CO_CONNECT_NS, &token, &info_now, err);
    if (got == CO_DONE && token.bytes && !is_ours(run, co_text_str(&token)) && !is_stale(run, co_text_str(&token))) {
        free(info);
        return held_by_other(lane, role, co_text_str(&token), co_text_str(&info_now), err);
    }
    co_text_set_str(&before, co_text_str(&token));
    if (got == CO_DONE)
        got =
            co_ep_marker_set(ep, token.bytes ? co_text_str(&token) : NULL, run->token, info, co_now_ns() + CO_CONNECT_NS, err);
    if (got == CO_EFFECT_UNKNOWN) { /* look */
        got = co_ep_marker_get(ep, co_now_ns() + CO_CONNECT_NS, &token, &info_now, err);
        if (got == CO_DONE && strcmp(co_text_str(&token), run->token) != 0) {
            co_fail(err, CO_E_UNREACHABLE, "pair %s: the marker's reply was lost and it isn't there", co_pair_name(lane->pair));
            got = CO_NO_EFFECT;
        }
    }
    free(info);
    if (got == CO_DONE)
        record(lane, ep, co_text_str(&before), run->token);
    return got == CO_DONE ? 0 : err->code;
}

/* The source's marker is the lock of a setup. The target may be no server yet, or one that can't hold a marker before it is
 * set up: what keeps it from being marked is recorded, unless it is another run. */
int co_marker_for_setup(struct co_lane *lane)
{
    struct co_runner *run = lane->run;
    /* a setup that was killed may have left its own marker on a target that doesn't run */
    co_pair_set_marker_offline(lane->pair, CO_TARGET, lane->caps.marker_offline);
    for (int role = 0; role < 2; role++) {
        struct co_error err = {0};
        int failed = set_marker(lane, (enum co_run_role)role, &err);
        if (failed && failed != CO_E_CONFLICT && (role == CO_TARGET || failed == CO_E_STATE)) {
            co_journal_event(run->journal, run->row.id, co_pair_name(lane->pair), "marker", err.message, NULL);
            continue;
        }
        lane->marked = lane->marked || !failed;
        if (failed) {
            lane->error = err;
            return failed;
        }
    }
    return 0;
}

int co_markers_set(struct co_runner *run)
{
    run->marking = true;
    return co_sides_each(run, set_marker);
}

static int update_info(struct co_lane *lane, enum co_run_role role, struct co_error *err)
{
    struct co_runner *run = lane->run;
    if (run->source_lost && role == CO_SOURCE)
        return 0;
    char *info = marker_info(lane);
    if (!info)
        return co_fail(err, CO_E_NOMEM, "out of memory");
    enum co_result got = co_ep_marker_set(lane->main[role], run->token, run->token, info, co_now_ns() + CO_CONNECT_NS, err);
    free(info);
    return got == CO_DONE ? 0 : err->code;
}

int co_markers_update_info(struct co_runner *run)
{
    return co_sides_each(run, update_info);
}

static int remove_marker(struct co_lane *lane, enum co_run_role role, struct co_error *err)
{
    struct co_endpoint *ep = lane->second[role];
    CO_TEXT_AUTO token = CO_TEXT_INIT;
    CO_TEXT_AUTO info = CO_TEXT_INIT;
    enum co_result got = co_ep_marker_get(ep, co_now_ns() + CO_CONNECT_NS, &token, &info, err);
    if (got == CO_DONE && token.bytes && is_ours(lane->run, co_text_str(&token))) {
        got = co_ep_marker_set(ep, co_text_str(&token), NULL, NULL, co_now_ns() + CO_CONNECT_NS, err);
        if (got == CO_DONE)
            record(lane, ep, co_text_str(&token), "");
    }
    return got == CO_DONE ? 0 : err->code;
}

static int remove_source(struct co_lane *lane, enum co_run_role role, struct co_error *err)
{
    return role == CO_SOURCE && !lane->run->source_lost ? remove_marker(lane, role, err) : 0;
}

static int remove_target(struct co_lane *lane, enum co_run_role role, struct co_error *err)
{
    return role == CO_TARGET ? remove_marker(lane, role, err) : 0;
}

void co_markers_remove(struct co_runner *run, enum co_run_role role)
{
    co_sides_each(run, role == CO_SOURCE ? remove_source : remove_target);
}

int co_marker_take(struct co_lane *lane, enum co_run_role role, enum co_when_absent when_absent, bool *ret_absent,
                   int64_t deadline_ns, struct co_error *err)
{
    struct co_runner *run = lane->run;
    struct co_endpoint *ep = lane->second[role];
    CO_TEXT_AUTO token = CO_TEXT_INIT;
    CO_TEXT_AUTO info = CO_TEXT_INIT;
    enum co_result got = co_ep_marker_get(ep, deadline_ns, &token, &info, err);
    if (got != CO_DONE)
        return err->code;
    const char *now = co_text_str(&token);
    if (ret_absent)
        *ret_absent = !token.bytes;
    if (!token.bytes && when_absent == CO_ABSENT_IS_LEFT)
        return 0;
    if (!token.bytes && when_absent == CO_ABSENT_IS_CONFLICT) {
        co_fail(err, CO_E_CONFLICT, "pair %s: the marker of run %s is gone from side %s", co_pair_name(lane->pair), run->row.id,
                co_side_name(co_endpoint_side(ep)));
        co_hint(err,
                "Somebody ended or took over this run from elsewhere: look at both servers with `changeover status` first.");
        return err->code;
    }
    if (token.bytes && !is_ours(run, now) && !(when_absent == CO_ABSENT_IS_SET && is_stale(run, now)))
        return held_by_other(lane, role, now, co_text_str(&info), err);
    if (strcmp(now, run->token) != 0) {
        char *fresh = marker_info(lane);
        if (!fresh)
            return co_fail(err, CO_E_NOMEM, "out of memory");
        got = co_ep_marker_set(ep, token.bytes ? now : NULL, run->token, fresh, deadline_ns, err);
        free(fresh);
        if (got != CO_DONE)
            return err->code;
        record(lane, ep, now, run->token);
    }
    do /* a session that hangs in a statement must be seen gone before anything is changed */
        got = co_ep_end_sessions(ep, run->is_guardian || !run->guardian ? NULL : "guardian-1", deadline_ns, err);
    while (got == CO_AGAIN && co_now_ns() < deadline_ns);
    bool stopped_by_us = role == CO_SOURCE
                             ? lane->caps.fence_stops || (lane->caps.marker_offline && run->row.decision == CO_DECISION_COMMIT)
                             : lane->caps.marker_offline && run->row.decision == CO_DECISION_UNDO;
    if (got != CO_DONE && err->code == CO_E_UNREACHABLE && stopped_by_us) {
        co_error_clear(err); /* the fence, the reverse or an undo has stopped it: there are no sessions */
        return 0;
    }
    if (got == CO_AGAIN)
        return co_fail(err, CO_E_TIMEOUT, "pair %s: sessions of run %s are still there", co_pair_name(lane->pair), run->row.id);
    return got == CO_DONE ? 0 : err->code;
}
