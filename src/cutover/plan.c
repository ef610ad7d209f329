/* plan.c - the list that a run would execute, from the same steps. */
#include <stdlib.h>
#include <string.h>

#include "base/http.h"
#include "cutover/table.h"

void co_plan_done(struct co_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++)
        free(plan->steps[i].statements);
    free(plan->steps);
    *plan = (struct co_plan){0};
}

static int add(struct co_plan *plan, const struct co_plan_step *step, struct co_error *err)
{
    struct co_plan_step *steps = realloc(plan->steps, (plan->count + 1) * sizeof *steps);
    if (!steps)
        return co_fail(err, CO_E_NOMEM, "out of memory");
    plan->steps = steps;
    steps[plan->count++] = *step;
    return 0;
}

static int add_step(struct co_pair *pair, const struct co_step *step, enum co_side source, struct co_endpoint *ep[2],
                    struct co_plan *plan, struct co_error *err)
{
    enum co_side side = step->role == CO_SOURCE ? source : co_side_other(source);
    struct co_endpoint *at = ep[step->role], *other = ep[!step->role];
    if (!at || (!other && (step->flags & CO_STEP_BOTH)))
        return 0; /* that side is lost */
    if (!co_ep_step_wanted(at, other, step))
        return 0;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    if (co_ep_step_describe(at, other, step, co_now_ns() + CO_CALL_NS, &text, err) != CO_DONE)
        return err->code;
    struct co_plan_step row = {.pair = co_pair_name(pair),
                               .side = co_side_name(side),
                               .phase = co_phase_name(step->phase),
                               .name = step->name,
                               .title = step->title,
                               .statements = co_text_take(&text),
                               .slow = (step->flags & CO_STEP_SLOW) != 0,
                               .no_way_back = !step->revert};
    return add(plan, &row, err);
}

static int add_phase(struct co_session *session, enum co_phase phase, struct co_endpoint *(*eps)[2], enum co_side source,
                     struct co_plan *plan, struct co_error *err)
{
    for (size_t i = 0; i < session->pair_count; i++)
        for (size_t s = 0; s < co_pair_step_count(session->pairs[i]); s++) {
            const struct co_step *step = co_pair_step(session->pairs[i], s);
            int failed = step->phase == phase ? add_step(session->pairs[i], step, source, eps[i], plan, err) : 0;
            if (failed)
                return failed;
        }
    return 0;
}

static int add_hooks(const struct co_hooks *hooks, const char *phase, struct co_plan *plan, struct co_error *err)
{
    for (size_t i = 0; i < hooks->count; i++) {
        CO_TEXT_AUTO text = CO_TEXT_INIT;
        for (size_t k = 0; hooks->items[i].run && hooks->items[i].run[k]; k++)
            co_text_add(&text, "%s%s", k ? " " : "", hooks->items[i].run[k]);
        CO_AUTOFREE char *shown = hooks->items[i].http_url ? co_http_shown(hooks->items[i].http_url) : NULL;
        if (shown)
            co_text_add(&text, "GET %s, expect %d", shown, hooks->items[i].http_expect);
        struct co_plan_step row = {.pair = "",
                                   .side = "",
                                   .phase = phase,
                                   .name = "hook",
                                   .title = "hook of the config",
                                   .statements = co_text_take(&text),
                                   .no_way_back = true};
        int failed = add(plan, &row, err);
        if (failed)
            return failed;
    }
    return 0;
}

static int add_table(struct co_session *session, struct co_endpoint *(*eps)[2], enum co_side source, struct co_plan *plan,
                     struct co_error *err)
{
    size_t count;
    const struct co_config *config = session->config;
    const struct co_phase_def *table = co_table(config->cutover.open_after_switch, &count);
    int failed = 0;
    for (size_t i = 0; i < count && !failed; i++) {
        struct co_plan_step row = {.pair = "",
                                   .side = "",
                                   .phase = co_phase_name(table[i].phase),
                                   .name = "phase",
                                   .title = table[i].title,
                                   .no_way_back = table[i].on_failure != CO_FAIL_UNDO};
        failed = add(plan, &row, err);
        if (!failed)
            failed = add_phase(session, table[i].phase, eps, source, plan, err);
        if (!failed && table[i].phase == CO_PHASE_WARM_UP)
            failed = add_hooks(&config->cutover.freeze, "warm_up", plan, err);
        if (!failed && table[i].phase == CO_PHASE_SWITCH)
            failed = add_hooks(&config->cutover.hooks_switch, "switch", plan, err);
        if (!failed && table[i].phase == CO_PHASE_CONFIRM)
            failed = add_hooks(&config->cutover.confirm, "confirm", plan, err);
        if (!failed && table[i].phase == CO_PHASE_CONFIRM)
            failed = add_hooks(&config->cutover.unfreeze, "confirm", plan, err);
    }
    return failed;
}

int co_plan_make(struct co_session *session, enum co_plan_kind kind, struct co_plan *ret, struct co_error *err)
{
    *ret = (struct co_plan){0};
    struct co_endpoint *(*eps)[2] = calloc(session->pair_count ? session->pair_count : 1, sizeof *eps);
    if (!eps)
        return co_fail(err, CO_E_NOMEM, "out of memory");
    enum co_side source = kind == CO_PLAN_ROLLBACK || kind == CO_PLAN_ROLLBACK_LOST ? CO_SIDE_B : CO_SIDE_A;
    if (kind == CO_PLAN_DETACH && session->pair_count)
        source = co_pair_source(session->pairs[0]);
    int failed = 0;
    for (size_t i = 0; i < session->pair_count; i++) {
        co_pair_set_source(session->pairs[i], source);
        for (int role = 0; role < 2; role++) {
            enum co_side side = role == CO_SOURCE ? source : co_side_other(source);
            if (kind == CO_PLAN_ROLLBACK_LOST && role == CO_SOURCE)
                continue;
            eps[i][role] = co_endpoint_new(session->pairs[i], side, CO_CONN_MAIN);
            if (!eps[i][role])
                failed = co_fail(err, CO_E_NOMEM, "out of memory");
        }
    }
    if (!failed && kind == CO_PLAN_SETUP)
        failed = add_phase(session, CO_PHASE_SETUP, eps, source, ret, err);
    else if (!failed && kind == CO_PLAN_DETACH)
        failed = add_phase(session, CO_PHASE_DETACH, eps, source, ret, err);
    else if (!failed)
        failed = add_table(session, eps, source, ret, err);
    for (size_t i = 0; i < session->pair_count; i++) {
        co_endpoint_free(eps[i][0]);
        co_endpoint_free(eps[i][1]);
    }
    free(eps);
    if (failed)
        co_plan_done(ret);
    return failed;
}
