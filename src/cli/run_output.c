/* run_output.c - documents and texts of runs (cutover, rollback, resume, abort, setup, detach) and of plans. */
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "cli/internal.h"

static json_t *primary_json(int primary)
{
    return primary < 0 ? json_null() : json_string(primary == CO_SIDE_A ? "a" : "b");
}

static void render_run(const json_t *doc, struct co_text *ret)
{
    char pause[32], unavailable[32];
    const char *outcome = co_get_str(doc, "outcome"), *primary = co_get_str(doc, "primary"), *run = co_get_str(doc, "run");
    if (*outcome == '\0')
        return;
    if (strcmp(outcome, "done") == 0 && *run == '\0') {
        co_text_add(ret, "nothing was to be done\n");
        return;
    }
    co_text_add(ret, "%s", outcome);
    if (*run)
        co_text_add(ret, " (run %s)", run);
    if (*primary)
        co_text_add(ret, "; the primary is %s", primary);
    if (co_get_int(doc, "write_pause_ms") >= 0)
        co_text_add(ret, "; write pause %s", co_format_duration_ms(co_get_int(doc, "write_pause_ms"), pause));
    if (co_get_int(doc, "unavailable_ms") >= 0)
        co_text_add(ret, ", unavailable %s", co_format_duration_ms(co_get_int(doc, "unavailable_ms"), unavailable));
    co_text_add(ret, "\n");
    size_t i;
    json_t *pair;
    json_array_foreach(json_object_get(doc, "pairs"), i, pair)
    {
        if (!*co_get_str(pair, "primary") && co_get_int(doc, "write_pause_ms") < 0)
            continue; /* a run that moves no primary */
        co_text_add(ret, "  %s: primary %s", co_get_str(pair, "name"),
                    *co_get_str(pair, "primary") ? co_get_str(pair, "primary") : "unknown");
        if (co_get_int(pair, "write_pause_ms") >= 0)
            co_text_add(ret, ", write pause %s", co_format_duration_ms(co_get_int(pair, "write_pause_ms"), pause));
        if (co_get_int(pair, "promotion_ms") >= 0)
            co_text_add(ret, " (promotion %s)", co_format_duration_ms(co_get_int(pair, "promotion_ms"), pause));
        if (*co_get_str(pair, "position"))
            co_text_add(ret, ", position %s", co_get_str(pair, "position"));
        co_text_add(ret, "\n");
    }
    if (*co_get_str(doc, "next"))
        co_text_add(ret, "next: %s\n", co_get_str(doc, "next"));
}

/* What people do next; the errors say it where something went wrong. */
static const char *next_of(const struct co_cli *cli, const struct co_run_result *result)
{
    bool done = result->exit_code == CO_EXIT_DONE && result->outcome && strcmp(result->outcome, "done") == 0 && result->run[0];
    switch (result->exit_code) {
    case CO_EXIT_UNDONE:
        return "`changeover report` shows where it ended; mend the cause, then try again";
    case CO_EXIT_FOLLOW_UP:
        return "mend what failed, then `changeover resume`; `changeover status` shows both sides";
    default:
        break;
    }
    if (done && cli->command->id == CO_CMD_SETUP)
        return "`changeover lag --wait`, then `changeover cutover`";
    if (done && result->primary == CO_SIDE_B)
        return "`changeover rollback --check` says whether the way back is open; `changeover detach` ends the migration";
    return NULL;
}

void co_cli_run_document(struct co_cli *cli, const struct co_run_result *result)
{
    json_t *phases = json_array(), *pairs = json_array();
    co_json_set(cli->doc, "run", co_json_known(result->run));
    co_json_set(cli->doc, "outcome", co_json_text(result->outcome));
    co_json_set(cli->doc, "primary", primary_json(result->primary));
    co_json_set(cli->doc, "write_pause_ms", co_json_count(result->write_pause_ms));
    co_json_set(cli->doc, "unavailable_ms", co_json_count(result->unavailable_ms));
    for (size_t i = 0; i < result->phase_count; i++) {
        json_t *phase = json_object();
        co_json_set(phase, "name", co_json_text(result->phases[i].name));
        co_json_set(phase, "ms", co_json_count(result->phases[i].ms));
        co_json_set(phase, "us", co_json_count(result->phases[i].us));
        co_json_set(phase, "outcome", co_json_text(result->phases[i].outcome));
        (void)json_array_append_new(phases, phase);
    }
    for (size_t i = 0; i < result->pair_count; i++) {
        const struct co_pair_result *from = &result->pairs[i];
        json_t *pair = json_object();
        co_json_set(pair, "name", co_json_text(from->name));
        co_json_set(pair, "primary", primary_json(from->primary));
        co_json_set(pair, "position", co_json_known(co_text_str(&from->position)));
        co_json_set(pair, "write_pause_ms", co_json_count(from->write_pause_ms));
        co_json_set(pair, "promotion_ms", co_json_count(from->promotion_ms));
        (void)json_array_append_new(pairs, pair);
    }
    co_json_set(cli->doc, "next", co_json_text(next_of(cli, result)));
    co_json_set(cli->doc, "phases", phases);
    co_json_set(cli->doc, "pairs", pairs);
    for (size_t i = 0; i < result->error_count; i++)
        co_cli_error(cli, &result->errors[i]);
    cli->render = render_run;
}

/* ---------------------------------------------------------------- plans */

json_t *co_cli_plan_json(const struct co_plan *plan)
{
    json_t *steps = json_array();
    for (size_t i = 0; i < plan->count; i++) {
        const struct co_plan_step *from = &plan->steps[i];
        json_t *step = json_object(), *statements = json_array();
        for (const char *at = from->statements; at && *at;) {
            size_t bytes = strcspn(at, "\n");
            CO_AUTOFREE char *line = strndup(at, bytes);
            if (line && *line)
                (void)json_array_append_new(statements, co_json_text(line));
            at += bytes + (at[bytes] == '\n');
        }
        co_json_set(step, "phase", co_json_text(from->phase));
        co_json_set(step, "pair", co_json_known(from->pair));
        co_json_set(step, "side", co_json_known(from->side));
        co_json_set(step, "name", co_json_text(from->name));
        co_json_set(step, "title", co_json_text(from->title));
        co_json_set(step, "statements", statements);
        co_json_set(step, "slow", json_boolean(from->slow));
        co_json_set(step, "no_way_back", json_boolean(from->no_way_back));
        (void)json_array_append_new(steps, step);
    }
    return steps;
}

void co_cli_render_plan(const json_t *doc, struct co_text *ret)
{
    const char *phase = "";
    size_t i, k;
    json_t *step, *statement;
    json_array_foreach(json_object_get(doc, "steps"), i, step)
    {
        const char *pair = co_get_str(step, "pair"), *side = co_get_str(step, "side");
        bool changes = json_array_size(json_object_get(step, "statements")) > 0; /* the rest only looks or decides */
        if (strcmp(phase, co_get_str(step, "phase")) != 0) {
            phase = co_get_str(step, "phase");
            co_text_add(ret, "%s\n", phase);
        }
        co_text_add(ret, "  %s%s%s%s%s%s%s\n", pair, *side ? ", side " : "", side, *pair ? ": " : "", co_get_str(step, "title"),
                    co_get_true(step, "slow") ? " (slow)" : "",
                    changes && co_get_true(step, "no_way_back") ? " (no way back)" : "");
        json_array_foreach(json_object_get(step, "statements"), k, statement)
            co_text_add(ret, "      %s\n", json_string_value(statement));
    }
    if (json_array_size(json_object_get(doc, "steps")) == 0)
        co_text_add(ret, "nothing is to be done\n");
}

int co_cli_dry_run(struct co_cli *cli, enum co_plan_kind kind)
{
    struct co_plan plan = {0};
    struct co_error err = {0};
    co_json_set(cli->doc, "dry_run", json_true());
    if (co_plan_make(&cli->session, kind, &plan, &err) != 0)
        return co_cli_error(cli, &err);
    co_json_set(cli->doc, "steps", co_cli_plan_json(&plan));
    co_plan_done(&plan);
    cli->render = co_cli_render_plan;
    return CO_EXIT_DONE;
}
