/* steps.c - a driver's steps as the core calls them, and the list of all fault points. Invariant: a step is
 * only called on the side of its role, and only within a run when it changes something. */
#include "drivers-host/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"

#define WANTED_CONNECT_MS 5000

static enum co_result misused(struct co_endpoint *ep, const struct co_step *step, const char *complaint, struct co_error *err)
{
    co_fail(err, CO_E_INTERNAL, "step %s %s", step->name, complaint);
    co_error_side(err, ep);
    return CO_NO_EFFECT;
}

static bool has_run(struct co_endpoint *ep)
{
    pthread_mutex_lock(&ep->pair->lock);
    bool has = ep->pair->has_run;
    pthread_mutex_unlock(&ep->pair->lock);
    return has;
}

static unsigned step_flags(const struct co_step *step)
{
    return (step->flags & CO_STEP_BOTH ? CO_OP_OTHER : 0u) | (step->flags & CO_STEP_OFFLINE ? CO_OP_OFFLINE : 0u);
}

static enum co_result run_step(struct co_endpoint *ep, struct co_endpoint *other, struct co_op *op, const char *act,
                               int64_t deadline_ns, struct co_error *err)
{
    if (op->step->role != co_endpoint_role(ep))
        return misused(ep, op->step, "was called on the side of the other role", err);
    CO_AUTOFREE char *what = co_printf("%s %s", op->step->name, act);
    op->what = what ? what : op->step->name;
    op->point = op->step->name;
    op->driver = ep->pair->driver;
    return co_op_run(ep, other, op, deadline_ns, err);
}

bool co_ep_step_wanted(struct co_endpoint *ep, struct co_endpoint *other, const struct co_step *step)
{
    if (!step->wanted)
        return true;
    struct co_error err = {0};
    if (!co_endpoint_usable(ep) && !ep->hold)
        co_ep_connect(ep, co_deadline_in_ms(WANTED_CONNECT_MS), &err); /* a failure leaves conn NULL, which is allowed */
    struct co_call_state state = {
        .ep = ep, .pair = ep->pair, .what = step->name, .deadline_ns = co_deadline_in_ms(WANTED_CONNECT_MS), .err = &err};
    pthread_mutex_lock(&ep->pair->lock);
    state.has_run = ep->pair->has_run;
    co_run_copy_set(&state.run, ep->pair->has_run ? &ep->pair->run.run : NULL);
    pthread_mutex_unlock(&ep->pair->lock);
    state.call = (struct co_call){.size = sizeof state.call,
                                  .host = &co_host_table,
                                  .ctx = &state,
                                  .side = ep->side,
                                  .role = co_endpoint_role(ep),
                                  .conn = co_endpoint_usable(ep) ? ep->conn : NULL,
                                  .other = other && co_endpoint_usable(other) ? other->conn : NULL,
                                  .run = state.run.id ? &state.run.run : NULL,
                                  .deadline_ns = state.deadline_ns,
                                  .err = &err};
    bool wanted = step->wanted(&state.call);
    co_call_end(&state);
    return wanted;
}

static enum co_result do_describe(struct co_call *call, const struct co_op *op)
{
    struct co_text *text = op->ret[0];
    enum co_result result = op->step->describe(call, text);
    if (result != CO_DONE)
        return result;
    if (text->overflow) {
        co_fail(call->err, CO_E_NOMEM, "the description of step %s is too long or there was no memory for it", op->step->name);
        return CO_NO_EFFECT;
    }
    co_mask_text(text);
    return CO_DONE;
}

enum co_result co_ep_step_describe(struct co_endpoint *ep, struct co_endpoint *other, const struct co_step *step,
                                   int64_t deadline_ns, struct co_text *ret, struct co_error *err)
{
    co_text_clear(ret);
    struct co_op op = {.flags = CO_OP_READS | CO_OP_OFFLINE, .fn = do_describe, .step = step, .ret = {ret, NULL}};
    return run_step(ep, other, &op, "describe", deadline_ns, err);
}

static enum co_result do_probe(struct co_call *call, const struct co_op *op)
{
    enum co_presence presence = (enum co_presence) - 1;
    enum co_result result = op->step->probe(call, &presence);
    if (result != CO_DONE)
        return result;
    if ((int)presence < CO_ABSENT || (int)presence > CO_PARTIAL) {
        co_fail(call->err, CO_E_INTERNAL, "driver %s broke the contract: the probe of step %s was done and said nothing",
                op->driver->name, op->step->name);
        return CO_NO_EFFECT;
    }
    *(enum co_presence *)op->ret[0] = presence;
    return CO_DONE;
}

enum co_result co_ep_step_probe(struct co_endpoint *ep, struct co_endpoint *other, const struct co_step *step,
                                int64_t deadline_ns, enum co_presence *ret, struct co_error *err)
{
    /* A step that stops or starts its server may be unable to say what is: "again" is for OFFLINE steps. */
    unsigned again = step->flags & CO_STEP_OFFLINE ? CO_OP_AGAIN : 0u;
    struct co_op op = {
        .flags = CO_OP_READS | step_flags(step) | again, .fn = do_probe, .step = step, .before = "probe", .ret = {ret, NULL}};
    return run_step(ep, other, &op, "probe", deadline_ns, err);
}

static enum co_result do_apply(struct co_call *call, const struct co_op *op)
{
    return op->step->apply(call);
}

enum co_result co_ep_step_apply(struct co_endpoint *ep, struct co_endpoint *other, const struct co_step *step,
                                int64_t deadline_ns, struct co_error *err)
{
    if (!has_run(ep))
        return misused(ep, step, "was to be applied outside a run", err);
    struct co_op op = {
        .flags = CO_OP_AGAIN | step_flags(step), .fn = do_apply, .step = step, .before = "before", .after = "after"};
    return run_step(ep, other, &op, "apply", deadline_ns, err);
}

static enum co_result do_revert(struct co_call *call, const struct co_op *op)
{
    return op->step->revert(call);
}

enum co_result co_ep_step_revert(struct co_endpoint *ep, struct co_endpoint *other, const struct co_step *step,
                                 int64_t deadline_ns, struct co_error *err)
{
    if (!has_run(ep))
        return misused(ep, step, "was to be reverted outside a run", err);
    if (!step->revert) {
        co_fail(err, CO_E_UNSUPPORTED, "step %s has no way back", step->name);
        co_error_side(err, ep);
        return CO_NO_EFFECT;
    }
    struct co_op op = {.flags = CO_OP_AGAIN | step_flags(step), .fn = do_revert, .step = step, .before = "revert"};
    return run_step(ep, other, &op, "revert", deadline_ns, err);
}

/* ---------------------------------------------------------------- fault points */

static void say(void (*fn)(const char *point, void *arg), void *arg, const char *a, const char *b, const char *c)
{
    CO_AUTOFREE char *point = co_printf("%s%s%s", a, b, c);
    if (point)
        fn(point, arg);
}

void co_fault_list(struct co_pair *pair, void (*fn)(const char *point, void *arg), void *arg)
{
    static const char *const primitives[] = {
        "connect", "identify",     "capabilities", "settings",     "discover", "check",  "position",
        "applied", "link",         "marker_get",   "marker_set",   "prepare",  "drain",  "capture",
        "proof",   "end_sessions", "probe_write",  "wait_applied", "round",    "digest", "grants"};
    static const char *const decisions[] = {"begin", "take", "undo", "deciding", "commit", "opening", "turn_back", "end"};
    if (!pair) {
        for (int phase = CO_PHASE_LOCK; phase <= CO_PHASE_UNDO; phase++) {
            say(fn, arg, co_phase_name((enum co_phase)phase), ":begin", "");
            say(fn, arg, co_phase_name((enum co_phase)phase), ":end", "");
        }
        for (size_t i = 0; i < sizeof primitives / sizeof *primitives; i++) {
            say(fn, arg, primitives[i], ".source", ":before");
            say(fn, arg, primitives[i], ".source", ":after");
            say(fn, arg, primitives[i], ".target", ":before");
            say(fn, arg, primitives[i], ".target", ":after");
        }
        for (size_t i = 0; i < sizeof decisions / sizeof *decisions; i++) {
            say(fn, arg, "journal.", decisions[i], ":before");
            say(fn, arg, "journal.", decisions[i], ":after");
        }
        fn("guardian.kill", arg);
        return;
    }
    for (size_t i = 0; i < pair->driver->step_count; i++) {
        const struct co_step *step = &pair->driver->steps[i];
        say(fn, arg, step->name, ":before", "");
        say(fn, arg, step->name, ":after", "");
        say(fn, arg, step->name, ":probe", "");
        if (step->revert)
            say(fn, arg, step->name, ":revert", "");
    }
    for (const char *const *point = pair->driver->fault_points; point && *point; point++)
        say(fn, arg, *point, "", "");
}
