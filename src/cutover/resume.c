/* resume.c - `resume` and `abort`: finishing or backing out of a run that was left.
 *
 * Invariant: a run that isn't in this journal is neither finished nor undone, unless the operator says
 * --take-over; then its notes come out of the markers.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cutover/run.h"

static enum co_exit say(struct co_run_result *ret, enum co_exit code, const char *outcome, const struct co_error *err)
{
    struct co_error *more = realloc(ret->errors, (ret->error_count + 1) * sizeof *more);
    if (more && err->code) {
        ret->errors = more;
        ret->errors[ret->error_count++] = *err;
    } else if (more) {
        ret->errors = more;
    }
    ret->outcome = outcome;
    return ret->exit_code = code;
}

/* ---------------------------------------------------------------- runs of other machines */

struct foreign {
    bool found;
    struct co_text token, info;
};

/* A run of another journal goes on here with an epoch that no process there gets to. */
#define ADOPTED_EPOCH INT64_C(1000000)
/* In the row's version, from its first record on: the run began in another journal, and its decision stands there. */
#define ADOPTED "adopted "

/* A run that this journal has ended: its marker was left on a server that couldn't be reached at the end. */
static bool is_left_over(struct co_journal *journal, const char *token)
{
    struct co_run_row row;
    CO_AUTOFREE char *id = co_strdup(token);
    char *colon = id ? strrchr(id, ':') : NULL;
    if (!colon)
        return false;
    *colon = '\0';
    return co_journal_run(journal, id, &row, NULL) == 0 && row.ended_wall_ms != 0;
}

/* Is a marker of some run on either server of the pair? With a journal, what its ended runs left is taken away. */
static void look_at_pair(struct co_pair *pair, struct co_journal *journal_or_null, struct foreign *ret)
{
    for (int side = 0; side < 2 && !ret->found; side++) {
        struct co_error err = {0};
        struct co_endpoint *ep = co_endpoint_new(pair, (enum co_side)side, CO_CONN_MAIN);
        if (ep && co_ep_marker_get(ep, co_now_ns() + CO_CONNECT_NS, &ret->token, &ret->info, &err) == CO_DONE &&
            ret->token.bytes) {
            if (journal_or_null && is_left_over(journal_or_null, co_text_str(&ret->token)))
                (void)co_ep_marker_set(ep, co_text_str(&ret->token), NULL, NULL, co_now_ns() + CO_CONNECT_NS, &err);
            else
                ret->found = true;
        }
        co_endpoint_free(ep);
    }
}

static void look_for_marker(struct co_session *session, struct foreign *ret)
{
    for (size_t i = 0; i < session->pair_count && !ret->found; i++)
        look_at_pair(session->pairs[i], session->journal, ret);
}

/* Without what the run noted, an undo would put back guesses. */
static int need_notes(struct co_session *session, struct co_error *err)
{
    int failed = 0;
    for (size_t i = 0; i < session->pair_count && !failed; i++) {
        struct foreign mark = {0};
        look_at_pair(session->pairs[i], NULL, &mark);
        json_t *doc = mark.found ? json_loads(co_text_str(&mark.info), 0, NULL) : NULL;
        const char *host = "another machine", *journal = "its journal";
        if (doc)
            json_unpack(doc, "{s?s, s?s}", "host", &host, "journal", &journal);
        if (mark.found && !json_object_get(doc, "notes")) {
            failed = co_fail(err, CO_E_STATE,
                             "pair %s: run %s can't be taken over: its server had no room for the run's notes, which are only "
                             "in %s on %s",
                             co_pair_name(session->pairs[i]), co_text_str(&mark.token), journal, host);
            co_hint(err,
                    "Run `changeover resume` on %s. If that machine is gone but its disk isn't, put a copy of the journal "
                    "(with its "
                    "-wal file) where this config expects it and run `changeover resume`. If the journal is lost too, the "
                    "engine's page in docs says what to do by hand.",
                    host);
        }
        json_decref(doc);
        co_text_done(&mark.token);
        co_text_done(&mark.info);
    }
    return failed;
}

/* What the run noted for this pair stands in the pair's own markers. */
static int import_notes(struct co_session *session, struct co_pair *pair, const char *run, struct co_error *err)
{
    struct foreign mark = {0};
    look_at_pair(pair, NULL, &mark);
    json_t *doc = mark.found ? json_loads(co_text_str(&mark.info), 0, NULL) : NULL;
    json_t *notes = json_object_get(doc, "notes");
    int failed = co_pair_use_journal(pair, session->journal, run, err);
    if (!failed && notes)
        failed = co_pair_notes_import(pair, notes, err);
    json_decref(doc);
    co_text_done(&mark.token);
    co_text_done(&mark.info);
    return failed;
}

/* Writes the run of a marker into this journal, so that it can be taken over like one of ours. */
static int adopt(struct co_session *session, const struct foreign *foreign, struct co_run_row *ret, struct co_error *err)
{
    const char *id = NULL, *kind = NULL, *source = NULL;
    json_t *doc = json_loads(co_text_str(&foreign->info), 0, NULL);
    const char *colon = strrchr(co_text_str(&foreign->token), ':');
    int failed = need_notes(session, err);
    if (failed) {
        json_decref(doc);
        return failed;
    }
    if (!doc || !colon || json_unpack(doc, "{s:s, s:s, s:s}", "run", &id, "kind", &kind, "source", &source) != 0)
        failed = co_fail(err, CO_E_STATE, "the marker on the server can't be read: %s", co_text_str(&foreign->token));
    if (!failed) {
        *ret = (struct co_run_row){.epoch = (strtoll(colon + 1, NULL, 10) / ADOPTED_EPOCH + 1) * ADOPTED_EPOCH,
                                   .source = strcmp(source, "b") == 0 ? CO_SIDE_B : CO_SIDE_A,
                                   .pid = getpid(),
                                   .exit_code = -1,
                                   .write_pause_ms = -1,
                                   .unavailable_ms = -1,
                                   .started_wall_ms = co_wall_ms()};
        snprintf(ret->id, sizeof ret->id, "%s", id);
        snprintf(ret->kind, sizeof ret->kind, "%s", kind);
        snprintf(ret->actor, sizeof ret->actor, "taken-over");
        snprintf(ret->config_hash, sizeof ret->config_hash, "%s", session->config->hash);
        snprintf(ret->version, sizeof ret->version, ADOPTED "%.20s", CO_VERSION);
        gethostname(ret->host, sizeof ret->host - 1);
        failed = co_journal_begin(session->journal, ret, NULL, err);
    }
    for (size_t i = 0; i < session->pair_count && !failed; i++)
        failed = import_notes(session, session->pairs[i], ret->id, err);
    json_decref(doc);
    return failed;
}

static enum co_exit foreign_run(struct co_session *session, const struct co_run_options *options, struct co_run_result *ret,
                                struct co_run_row *row, bool *ret_adopted)
{
    struct foreign foreign = {0};
    struct co_error err = {0};
    enum co_exit code = CO_EXIT_DONE;
    *ret_adopted = false;
    look_for_marker(session, &foreign);
    if (foreign.found && options->take_over) {
        if (adopt(session, &foreign, row, &err))
            code = say(ret, CO_EXIT_UNFINISHED, "unfinished", &err);
        else
            *ret_adopted = true;
    } else if (foreign.found) {
        const char *host = "?", *who = "?", *since = "?", *journal = "?";
        json_t *doc = json_loads(co_text_str(&foreign.info), 0, NULL);
        if (doc)
            json_unpack(doc, "{s?s, s?s, s?s, s?s}", "host", &host, "operator", &who, "since", &since, "journal", &journal);
        co_fail(&err, CO_E_CONFLICT, "run %s on the servers isn't in this journal: %s on %s began it at %s (journal %s)",
                co_text_str(&foreign.token), who, host, since, journal);
        co_hint(&err, "Run `changeover resume` on %s. Only if that machine is gone for good: add --take-over here.", host);
        code = say(ret, CO_EXIT_LOCKED, "refused", &err);
        json_decref(doc);
    }
    co_text_done(&foreign.token);
    co_text_done(&foreign.info);
    return code;
}

/* ---------------------------------------------------------------- resume, abort */

/* Finds the run that was left, holds the journal for it. 0 and *ret_found, or an exit code in ret. */
static enum co_exit find(struct co_session *session, const struct co_run_options *options, struct co_run_row *row,
                         bool *ret_found, struct co_run_result *ret)
{
    struct co_error err = {0};
    *ret_found = false;
    int failed = co_journal_hold(session->journal, &err);
    if (failed)
        return say(ret, failed == CO_E_CONFLICT ? CO_EXIT_LOCKED : CO_EXIT_UNKNOWN, "refused", &err);
    failed = co_journal_unfinished(session->journal, row, &err);
    if (failed == CO_E_STATE)
        return foreign_run(session, options, ret, row, ret_found);
    if (failed)
        return say(ret, CO_EXIT_INTERNAL, "refused", &err);
    *ret_found = true;
    if (strcmp(row->config_hash, session->config->hash) != 0) {
        co_fail(&err, CO_E_CONFIG, "run %s began with other servers, pairs or modes than %s names now", row->id,
                session->config->path);
        co_hint(&err, "Put them back as they were; passwords, hooks and budgets may change.");
        return say(ret, CO_EXIT_CONFIG, "refused", &err);
    }
    return CO_EXIT_DONE;
}

static bool is_adopted(const struct co_run_row *row)
{
    return strncmp(row->version, ADOPTED, strlen(ADOPTED)) == 0;
}

static int prepare_takeover(struct co_runner *run, const struct co_run_row *row, struct co_error *err)
{
    char actor[25];
    run->rebooted =
        strcmp(run->row.boot_id, row->boot_id) != 0; /* and a run from elsewhere: what it captured isn't known here */
    run->row = *row;
    run->row.pid = getpid();
    run->begun = true;
    run->source_lost = strcmp(row->kind, "rollback_lost") == 0;
    snprintf(run->result->run, sizeof run->result->run, "%s", row->id);
    int failed = co_lanes_open(run, err);
    for (size_t i = 0; i < run->lane_count && !failed; i++)
        failed = is_adopted(row)
                     ? import_notes(run->session, run->lanes[i].pair, row->id, err) /* this process may not be the first */
                     : co_pair_use_journal(run->lanes[i].pair, run->journal, row->id, err);
    snprintf(actor, sizeof actor, "resume-%d", (int)(row->epoch % 1000000) + 1);
    return failed ? failed : co_take_over(run, actor, err);
}

/* ---------------------------------------------------------------- the decision of a run from elsewhere */

/* Revokes whoever worked on the target. No marker: it never was marked, or its run is over; nobody opens it then. */
static int revoke_target(struct co_lane *lane)
{
    bool absent;
    return co_marker_take(lane, CO_TARGET, CO_ABSENT_IS_LEFT, &absent, co_now_ns() + CO_CALL_NS, &lane->error);
}

static int look_at_target(struct co_lane *lane)
{
    struct co_identity_data id = {0};
    enum co_result got = co_ep_identify(lane->second[CO_TARGET], co_now_ns() + CO_CONNECT_NS, &id, &lane->error);
    enum co_tristate accepts_writes = id.accepts_writes;
    co_identity_data_done(&id);
    if (got != CO_DONE)
        return co_lane_fail(lane, got);
    if (accepts_writes == CO_UNKNOWN)
        return co_fail(&lane->error, CO_E_STATE, "pair %s: whether the new primary takes writes can't be seen",
                       co_pair_name(lane->pair));
    lane->opened = accepts_writes == CO_YES;
    return 0;
}

/* The journal that has the decision isn't here: the servers have to tell. A target that takes writes was opened after a
 * commit, so the run goes forward. When all targets are revoked and none takes writes, no client was ever let in and nobody
 * can open one any more: back. Both need every target to be seen, unless the operator says that they are lost. */
static int decide_adopted(struct co_runner *run, struct co_error *err)
{
    if (run->row.decision != CO_DECISION_NONE || !is_adopted(&run->row) || run->options->b_is_lost)
        return 0;
    int failed = co_lanes_each(run, revoke_target);
    if (!failed)
        failed = co_lanes_each(run, look_at_target);
    if (failed) {
        co_fail(err, failed, "run %s may have opened the new primary, which can't be seen", run->row.id);
        co_hint(
            err,
            "Run `changeover resume` again when it can be reached. If it is gone for good, `changeover abort --b-is-lost` goes "
            "back without it; what it took meanwhile is lost then.");
        return failed;
    }
    bool opened = false;
    for (size_t i = 0; i < run->lane_count; i++)
        opened = opened || run->lanes[i].opened;
    enum co_decision standing;
    failed = co_journal_decide(run->journal, run->row.id, run->row.epoch, opened ? CO_DECISION_COMMIT : CO_DECISION_UNDO, 0,
                               false, &standing, err);
    if (!failed && opened)
        failed = co_journal_opening(run->journal, run->row.id, run->row.epoch, err);
    if (failed)
        return failed;
    run->row.decision = opened ? CO_DECISION_COMMIT : CO_DECISION_UNDO;
    run->row.opening = opened;
    return 0;
}

static enum co_exit left_run(struct co_session *session, const struct co_run_options *options, const struct co_run_row *row,
                             bool back, struct co_run_result *ret)
{
    struct co_runner run;
    struct co_error err = {0};
    if (back && options->forget)
        return co_abandon(session, row, ret);
    if (strcmp(row->kind, "setup") == 0 || strcmp(row->kind, "detach") == 0)
        return back ? co_abandon_steps(session, options, row, ret)
                    : (row->kind[0] == 's' ? co_run_setup(session, options, ret) : co_run_detach(session, options, ret));
    if (back && row->decision == CO_DECISION_COMMIT && !(options->b_is_lost && !row->opening)) {
        co_fail(&err, CO_E_STATE, "run %s is committed: it can only go forward", row->id);
        co_hint(&err, row->opening
                          ? "`changeover resume` finishes it; then `changeover rollback` goes back without loss."
                          : "`changeover resume` finishes it. Nothing was opened yet: if the new server is gone for good, "
                            "`changeover abort --b-is-lost` turns it back.");
        return say(ret, CO_EXIT_UNFINISHED, "unfinished", &err);
    }
    int failed = co_runner_init(&run, session, options, (enum co_side)row->source, row->kind, ret, &err);
    if (!failed)
        failed = prepare_takeover(&run, row, &err);
    if (!failed && strcmp(row->kind, "follow_up") == 0)
        failed = co_follow_up_decide(&run, &err); /* it may have been killed before it had written so */
    if (!failed)
        failed = decide_adopted(&run, &err);
    if (!failed && back && run.row.decision == CO_DECISION_COMMIT && row->decision != CO_DECISION_COMMIT) {
        co_fail(&err, CO_E_STATE, "run %s has opened the new primary: it can only go forward", row->id);
        co_hint(&err, "`changeover resume` finishes it; then `changeover rollback` goes back without loss.");
        failed = err.code;
    }
    if (!failed && back && row->decision == CO_DECISION_COMMIT) {
        failed = co_journal_turn_back(run.journal, row->id, run.row.epoch, &err);
        if (!failed)
            run.row.decision = CO_DECISION_UNDO;
    }
    enum co_exit code;
    if (failed) {
        co_runner_note(&run, &err);
        ret->outcome = "unfinished";
        code = ret->exit_code = failed == CO_E_CONFLICT ? CO_EXIT_LOCKED : CO_EXIT_UNFINISHED;
    } else {
        code = co_settle(&run);
    }
    co_runner_done(&run);
    return code;
}

/* The last run is done, but switch, confirm or reverse failed: those again. */
static enum co_exit follow_up(struct co_session *session, const struct co_run_options *options, const struct co_run_row *last,
                              struct co_run_result *ret)
{
    return co_run_follow_up(session, options, (enum co_side)last->source, ret);
}

/* Is something of the last run left to do? A later run that did it, or set everything up anew, settles that. */
static bool wants_follow_up(struct co_journal *journal)
{
    json_t *runs = NULL, *run;
    size_t i;
    bool wants = false;
    if (co_journal_list_runs(journal, &runs, NULL) != 0)
        return true; /* doing it once more is what it bears */
    json_array_foreach(runs, i, run)
    {
        const char *kind = json_string_value(json_object_get(run, "kind"));
        const char *outcome = json_string_value(json_object_get(run, "outcome"));
        json_int_t code = json_integer_value(json_object_get(run, "exit_code"));
        if (kind && outcome && strcmp(outcome, "done") == 0)
            wants = code == CO_EXIT_FOLLOW_UP;
    }
    json_decref(runs);
    return wants;
}

/* Whoever saw a run die looks for it here: the guardian may have ended it already. */
static void say_last(struct co_journal *journal, struct co_error *err)
{
    json_t *runs = NULL;
    const json_t *last =
        co_journal_list_runs(journal, &runs, NULL) == 0 ? json_array_get(runs, json_array_size(runs) - 1) : NULL;
    if (last)
        co_hint(err,
                "The last run, the %s %s, ended: %s. `changeover report` shows its record, `changeover status` both sides.",
                json_string_value(json_object_get(last, "kind")), json_string_value(json_object_get(last, "id")),
                json_string_value(json_object_get(last, "outcome")));
    json_decref(runs);
}

enum co_exit co_run_resume(struct co_session *session, const struct co_run_options *options, struct co_run_result *ret)
{
    struct co_run_row row, last;
    struct co_error err = {0};
    bool found;
    *ret = (struct co_run_result){.primary = -1, .write_pause_ms = -1, .unavailable_ms = -1};
    enum co_exit code = find(session, options, &row, &found, ret);
    if (code != CO_EXIT_DONE)
        return code;
    if (found)
        return left_run(session, options, &row, false, ret);
    if (co_journal_last_done(session->journal, &last, NULL) == 0 && last.exit_code == CO_EXIT_FOLLOW_UP &&
        wants_follow_up(session->journal))
        return follow_up(session, options, &last, ret);
    if (!options->if_needed) {
        co_fail(&err, CO_E_STATE, "there is nothing to resume: no run was left");
        say_last(session->journal, &err);
    }
    return say(ret, options->if_needed ? CO_EXIT_DONE : CO_EXIT_NO, options->if_needed ? "done" : "refused", &err);
}

enum co_exit co_run_abort(struct co_session *session, const struct co_run_options *options, struct co_run_result *ret)
{
    struct co_run_row row;
    struct co_error err = {0};
    bool found;
    *ret = (struct co_run_result){.primary = -1, .write_pause_ms = -1, .unavailable_ms = -1};
    enum co_exit code = find(session, options, &row, &found, ret);
    if (code != CO_EXIT_DONE)
        return code;
    if (!found) {
        co_fail(&err, CO_E_STATE, "there is nothing to abort: no run was left");
        return say(ret, CO_EXIT_NO, "refused", &err);
    }
    code = left_run(session, options, &row, true, ret);
    return code == CO_EXIT_UNDONE ? (ret->exit_code = CO_EXIT_DONE) : code;
}
