/* check.c - pre-flight: the drivers' findings about each pair, and which of them were consented to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cutover/run.h"

struct gather {
    struct co_findings *findings;
    struct co_pair *pair;
    struct co_runner *run;        /* or NULL: not recorded */
    const struct co_error *unmet; /* by side, why it wasn't met; or NULL */
    bool failed;
};

static bool is_accepted(const struct co_pair *pair, const char *code)
{
    char **accept = co_pair_config(pair)->accept;
    for (size_t i = 0; accept && accept[i]; i++)
        if (strcmp(accept[i], code) == 0)
            return true;
    return false;
}

static const char *unmet_code(const struct co_error *err)
{
    return err->code == CO_E_AUTH ? "login_refused" : err->code == CO_E_MISMATCH ? "another_server" : CO_FINDING_UNREACHABLE;
}

static void add(void *arg, const struct co_finding *finding)
{
    struct gather *gather = arg;
    struct co_finding why;
    bool unmet = gather->unmet && finding->side >= 0 && gather->unmet[finding->side].code &&
                 strcmp(finding->code, CO_FINDING_UNREACHABLE) == 0;
    if (unmet) {
        const struct co_error *err = &gather->unmet[finding->side];
        why = *finding;
        why.code = unmet_code(err);
        why.message = err->message;
        why.remedy = err->hint;
        finding = &why;
    }
    struct co_findings *findings = gather->findings;
    struct co_finding_row *rows = realloc(findings->rows, (findings->count + 1) * sizeof *rows);
    if (!rows) {
        gather->failed = true;
        return;
    }
    findings->rows = rows;
    struct co_finding_row *row = &rows[findings->count++];
    *row = (struct co_finding_row){.pair = co_strdup(co_pair_name(gather->pair)),
                                   .side = finding->side,
                                   .code = co_strdup(finding->code),
                                   .message = co_strdup(finding->message),
                                   .remedy = co_strdup(finding->remedy ? finding->remedy : ""),
                                   .severity = finding->severity,
                                   .accepted = is_accepted(gather->pair, finding->code),
                                   .unmet = unmet};
    if (!row->pair || !row->code || !row->message || !row->remedy)
        gather->failed = true;
    else if (gather->run)
        co_journal_finding(gather->run->journal, gather->run->row.id, row->pair,
                           row->side < 0 ? "" : co_side_name((enum co_side)row->side), row->code, (int)row->severity,
                           row->message, row->remedy, row->accepted, NULL);
}

void co_findings_done(struct co_findings *findings)
{
    for (size_t i = 0; i < findings->count; i++) {
        free(findings->rows[i].pair);
        free(findings->rows[i].code);
        free(findings->rows[i].message);
        free(findings->rows[i].remedy);
    }
    free(findings->rows);
    *findings = (struct co_findings){0};
}

/* The core's own findings, the same for every engine. */
static void core_findings(struct gather *gather, struct co_endpoint *target)
{
    struct co_capabilities caps = {.size = sizeof caps};
    struct co_error err = {0};
    const struct co_pair_config *config = co_pair_config(gather->pair);
    for (int side = 0; side < 2; side++) {
        const struct co_endpoint_config *endpoint = &config->side[side].endpoint;
        bool remote = endpoint->address && endpoint->address[0] != '/' && strcmp(endpoint->address, "localhost") != 0 &&
                      strncmp(endpoint->address, "127.", 4) != 0 && strcmp(endpoint->address, "::1") != 0;
        if (remote && endpoint->tls.mode != CO_TLS_VERIFY)
            add(gather, &(struct co_finding){
                            .code = "tls_not_verified",
                            .severity = CO_WARNING,
                            .side = side,
                            .message = "the connection leaves this machine and the server's certificate isn't verified, so "
                                       "passwords and data could be read or changed on the way",
                            .remedy = "tls: {mode: verify, ca: ...} for this side"});
    }
    if (!target || co_ep_capabilities(target, co_now_ns() + CO_CONNECT_NS, &caps, &err) != CO_DONE)
        return;
    if (!caps.reverse)
        add(gather, &(struct co_finding){
                        .code = "no_way_back",
                        .severity = CO_WARNING,
                        .side = -1,
                        .message = "after the cutover the old primary can't follow the new one, so a rollback would lose "
                                   "what was written since",
                        .remedy = "see the engine's page in the documentation for what the way back needs"});
    if (!caps.restart_proof)
        add(gather, &(struct co_finding){.code = "fence_not_restart_proof",
                                         .severity = CO_WARNING,
                                         .side = -1,
                                         .message = "a restart of the server during the cutover would lift its fence",
                                         .remedy = "keep the servers from being restarted during the cutover"});
    if (!caps.promote_closed)
        add(gather,
            &(struct co_finding){.code = "promotes_open",
                                 .severity = CO_WARNING,
                                 .side = -1,
                                 .message = "this server can't be promoted closed: its promotion is the decision, and it takes "
                                            "writes from that moment on",
                                 .remedy = "only one such pair can be in a group"});
}

/* ---------------------------------------------------------------- one server in two places */

static bool same_instance(const struct co_text *a, const struct co_text *b)
{
    return a->bytes && strcmp(co_text_str(a), co_text_str(b)) == 0;
}

static int compare_lanes(const struct co_lane *one, const struct co_lane *other, struct co_error *err)
{
    for (int side = 0; side < 2; side++)
        for (int other_side = 0; other_side < 2; other_side++) {
            if ((one == other && side >= other_side) || !same_instance(&one->instance[side], &other->instance[other_side]))
                continue;
            if (one == other)
                co_fail(err, CO_E_CONFIG, "pair %s: a and b are the same server (%s)", co_pair_name(one->pair),
                        co_text_str(&one->instance[side]));
            else if (!one->caps.scope_database)
                co_fail(err, CO_E_CONFIG, "pairs %s and %s share the server %s, and %s can't fence one alone",
                        co_pair_name(one->pair), co_pair_name(other->pair), co_text_str(&one->instance[side]),
                        co_pair_config(one->pair)->engine);
            else
                continue;
            co_hint(err, "Every pair needs an A and a B of its own: correct the urls.");
            return err->code;
        }
    return 0;
}

int co_compare_instances(struct co_runner *run)
{
    for (size_t i = 0; i < run->lane_count; i++)
        for (size_t k = 0; k <= i; k++) {
            struct co_error err = {0};
            if (!compare_lanes(&run->lanes[k], &run->lanes[i], &err))
                continue;
            co_runner_note(run, &err);
            return err.code;
        }
    return 0;
}

/* ---------------------------------------------------------------- one pair */

/* A look names sides that the drivers need not meet at this stage all the same; another server, or a refused login, is an error
 * in it. What a run does about them is the drivers' to say. */
static void add_unmet(struct gather *gather, bool driver_was_asked)
{
    for (int side = 0; side < 2; side++) {
        const struct co_error *err = &gather->unmet[side];
        bool named = err->code == 0;
        for (size_t i = 0; i < gather->findings->count && !named; i++)
            named = gather->findings->rows[i].unmet && gather->findings->rows[i].side == side &&
                    strcmp(gather->findings->rows[i].pair, co_pair_name(gather->pair)) == 0;
        if (named)
            continue;
        bool may_be_down = driver_was_asked && strcmp(unmet_code(err), CO_FINDING_UNREACHABLE) == 0;
        add(gather,
            &(struct co_finding){
                .code = CO_FINDING_UNREACHABLE, .severity = may_be_down ? CO_WARNING : CO_ERROR, .side = side, .message = ""});
    }
}

/* `unmet`: by side, why it has no connection; or NULL. */
static int check_pair(struct co_pair *pair, struct co_runner *run, struct co_endpoint *source, struct co_endpoint *target,
                      enum co_check_stage stage, const struct co_error *unmet, struct co_findings *findings,
                      struct co_error *err)
{
    struct gather gather = {.findings = findings, .pair = pair, .run = run, .unmet = unmet};
    struct co_sink sink = {.finding = add, .arg = &gather};
    struct co_endpoint *any = source ? source : target;
    int failed = 0;
    if (any) {
        co_endpoint_sink(any, &sink);
        enum co_result got = co_ep_check(any, any == source ? target : NULL, stage, co_now_ns() + CO_CALL_NS, err);
        co_endpoint_sink(any, NULL);
        failed = got == CO_DONE ? 0 : (err->code ? err->code : CO_E_INTERNAL);
    }
    if (!run)
        add_unmet(&gather, any != NULL);
    core_findings(&gather, target);
    if (gather.failed)
        failed = co_fail(err, CO_E_NOMEM, "out of memory for findings");
    return failed;
}

/* A run goes on only when every error was consented to. */
int co_check_refuses(struct co_lane *lane, enum co_check_stage stage, const struct co_error *unmet_or_null)
{
    struct co_findings findings = {0};
    int failed = check_pair(lane->pair, lane->run, lane->main[CO_SOURCE], lane->main[CO_TARGET], stage, unmet_or_null,
                            &findings, &lane->error);
    for (size_t i = 0; i < findings.count && !failed; i++) {
        const struct co_finding_row *row = &findings.rows[i];
        if (row->severity != CO_ERROR || row->accepted)
            continue;
        if (row->unmet) {
            lane->error = unmet_or_null[row->side];
            failed = lane->error.code;
            continue;
        }
        failed = co_fail(&lane->error, CO_E_STATE, "pair %s%s%s: %s [%s]", row->pair, row->side < 0 ? "" : ", side ",
                         row->side < 0 ? "" : co_side_name((enum co_side)row->side), row->message, row->code);
        co_hint(&lane->error, "%s", row->remedy);
    }
    co_findings_done(&findings);
    return failed;
}

/* NULL, and why, where it can't be reached. */
static struct co_endpoint *reach(struct co_pair *pair, enum co_side side, struct co_error unmet[2])
{
    struct co_endpoint *ep = co_endpoint_new(pair, side, CO_CONN_MAIN);
    if (ep && co_ep_connect(ep, co_now_ns() + CO_CONNECT_NS, &unmet[side]) == CO_DONE)
        return ep;
    if (!unmet[side].code)
        co_fail(&unmet[side], CO_E_NOMEM, "no memory for a connection");
    co_endpoint_free(ep);
    return NULL;
}

static enum co_check_stage pick_stage(struct co_endpoint *source, struct co_endpoint *target)
{
    struct co_link_data link = {0};
    struct co_error err = {0};
    enum co_check_stage stage = CO_CHECK_SETUP;
    if (source && target && co_ep_link(target, source, co_now_ns() + CO_CONNECT_NS, &link, &err) == CO_DONE &&
        link.state == CO_LINK_RUNNING)
        stage = CO_CHECK_CUTOVER;
    co_link_data_done(&link);
    return stage;
}

/* What is seen of the pairs is compared as a run would: a lane each, that nothing is done with. */
static void meet(struct co_lane *lane, struct co_pair *pair, struct co_endpoint *source, struct co_endpoint *target)
{
    struct co_endpoint *eps[] = {source, target};
    lane->pair = pair;
    lane->caps.size = sizeof lane->caps;
    for (int i = 0; i < 2; i++) {
        struct co_identity_data id = {0};
        struct co_error err = {0};
        if (!eps[i] || co_ep_identify(eps[i], co_now_ns() + CO_CONNECT_NS, &id, &err) != CO_DONE)
            continue;
        co_text_set_str(&lane->instance[co_endpoint_side(eps[i])], co_text_str(&id.instance));
        (void)co_ep_capabilities(eps[i], co_now_ns() + CO_CONNECT_NS, &lane->caps, &err);
        co_identity_data_done(&id);
    }
}

static void compare_met(struct co_lane *lanes, size_t count, struct co_findings *findings)
{
    for (size_t k = 0; k < count; k++) {
        struct gather gather = {.findings = findings, .pair = lanes[count - 1].pair};
        struct co_error err = {0};
        if (compare_lanes(&lanes[k], &lanes[count - 1], &err))
            add(&gather, &(struct co_finding){.code = k == count - 1 ? "same_server" : "shared_server",
                                              .severity = CO_ERROR,
                                              .side = -1,
                                              .message = err.message,
                                              .remedy = err.hint});
    }
}

/* What stands between the sides may be its doing, and no other run begins before it is over. */
static void find_left_run(const struct co_session *session, struct co_findings *findings)
{
    struct co_run_row row;
    if (!session->journal || session->pair_count == 0 || co_journal_unfinished(session->journal, &row, NULL) != 0)
        return;
    bool alive = co_run_alive(&row);
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    co_text_add(&text,
                alive ? "the %s %s is under way: what is seen here is its doing"
                      : "the %s %s was left in the middle: clients may be refused on both sides until it is over",
                row.kind, row.id);
    struct gather gather = {.findings = findings, .pair = session->pairs[0]};
    add(&gather, &(struct co_finding){.code = alive ? "run_under_way" : "run_unfinished",
                                      .severity = alive ? CO_INFO : CO_ERROR,
                                      .side = -1,
                                      .message = co_text_str(&text),
                                      .remedy = alive ? "`changeover report` shows how far it is."
                                                      : "`changeover resume` finishes it or backs out of it."});
}

enum co_exit co_check(struct co_session *session, enum co_check_stage stage_or_0, bool strict, struct co_findings *ret,
                      struct co_error *err)
{
    *ret = (struct co_findings){0};
    enum co_exit code = CO_EXIT_DONE;
    find_left_run(session, ret);
    struct co_lane *lanes = calloc(session->pair_count ? session->pair_count : 1, sizeof *lanes);
    for (size_t i = 0; i < session->pair_count; i++) {
        struct co_pair *pair = session->pairs[i];
        struct co_error unmet[2] = {{0}, {0}};
        enum co_side source_side = co_pair_source(pair);
        struct co_endpoint *source = reach(pair, source_side, unmet);
        struct co_endpoint *target = reach(pair, co_side_other(source_side), unmet);
        enum co_check_stage stage = stage_or_0 ? stage_or_0 : pick_stage(source, target);
        ret->stage = i == 0 || ret->stage == stage ? stage : (enum co_check_stage)0;
        if (check_pair(pair, NULL, source, target, stage, unmet, ret, err) != 0)
            code = CO_EXIT_UNKNOWN;
        if (lanes) {
            meet(&lanes[i], pair, source, target);
            compare_met(lanes, i + 1, ret);
        }
        co_endpoint_free(source);
        co_endpoint_free(target);
    }
    for (size_t i = 0; lanes && i < session->pair_count; i++) {
        co_text_done(&lanes[i].instance[0]);
        co_text_done(&lanes[i].instance[1]);
    }
    free(lanes);
    for (size_t i = 0; i < ret->count; i++)
        if (ret->rows[i].unmet && ret->rows[i].severity == CO_ERROR) /* accepted or not: nothing is known of that side */
            code = CO_EXIT_UNKNOWN;
    for (size_t i = 0; i < ret->count && code < CO_EXIT_NO; i++)
        if (!ret->rows[i].accepted && (ret->rows[i].severity == CO_ERROR || (strict && ret->rows[i].severity == CO_WARNING)))
            code = CO_EXIT_NO;
    return code;
}
