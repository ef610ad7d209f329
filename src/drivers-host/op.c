/* op.c - the guarded call: what happens around every piece of driver code. Invariants: whatever a driver
 * answers, the caller gets a consistent result - a failure has a code and a masked message that names pair
 * and side, a success has none, and what may have changed a server is never reported as "no effect" unless the
 * driver said so in time and in order. */
#include "drivers-host/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"

#define LATE_MARGIN_NS (1000 * CO_NS_PER_MS)
#define PUT_OFF_MS 500

int co_breach(struct co_error *err, const struct co_pair *pair, const char *format, ...)
{
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    va_list args;
    va_start(args, format);
    co_text_vadd(&text, format, args);
    va_end(args);
    co_fail(err, CO_E_INTERNAL, "driver %s broke the contract: %s", pair->driver->name, co_text_str(&text));
    co_hint(err, "This is a bug in the driver module %s %s; please report it with the output of -vv.", pair->driver->name,
            pair->driver->version);
    return CO_E_INTERNAL;
}

static enum co_result failure(const struct co_op *op)
{
    return op->flags & CO_OP_READS ? CO_NO_EFFECT : CO_EFFECT_UNKNOWN;
}

/* Fault "error", or a lost reply. */
static enum co_result injected(const struct co_op *op, struct co_error *err, enum co_fault_action action, const char *suffix)
{
    if (action == CO_FAULT_ERROR) {
        co_fail(err, CO_E_SERVER, "fault injected at %s:%s: the call wasn't made", op->point, suffix);
        return CO_NO_EFFECT;
    }
    co_fail(err, action == CO_FAULT_LATE ? CO_E_TIMEOUT : CO_E_UNREACHABLE, "fault injected at %s:%s: the reply was lost",
            op->point, suffix);
    return failure(op);
}

/* Makes the strings of an error proper ones: a driver might have filled them with memcpy. */
static void clean_error(struct co_error *err)
{
    err->native[sizeof err->native - 1] = '\0';
    err->message[sizeof err->message - 1] = '\0';
    err->hint[sizeof err->hint - 1] = '\0';
    co_mask_buffer(err->native, sizeof err->native);
    co_mask_buffer(err->message, sizeof err->message);
    co_mask_buffer(err->hint, sizeof err->hint);
}

static enum co_result judge_failure(struct co_call_state *state, const struct co_op *op, enum co_result result)
{
    struct co_error *err = state->err;
    clean_error(err);
    if (err->code == CO_E_NONE)
        co_breach(err, state->pair, "%s failed without saying why", op->what);
    else if (err->code > 0 || err->code < CO_E_SERVER)
        co_breach(err, state->pair, "%s failed with the unknown code %d: %s", op->what, err->code, err->message);
    else if (!err->message[0])
        co_breach(err, state->pair, "%s failed with code %s and no message", op->what, co_error_code_name(err->code));
    if (result == CO_EFFECT_UNKNOWN && (op->flags & CO_OP_READS))
        return CO_NO_EFFECT; /* it had nothing to change */
    return result;
}

static enum co_result judge(struct co_call_state *state, const struct co_op *op, enum co_result result)
{
    struct co_error *err = state->err;
    int64_t over_ns = co_now_ns() - state->deadline_ns;
    if ((int)result < CO_DONE || (int)result > CO_EFFECT_UNKNOWN) {
        co_breach(err, state->pair, "%s answered %d", op->what, (int)result);
        return failure(op);
    }
    if (over_ns > LATE_MARGIN_NS) {
        co_breach(err, state->pair, "%s returned %lld ms after its deadline (or this process was stopped meanwhile)", op->what,
                  (long long)(over_ns / CO_NS_PER_MS));
        return failure(op);
    }
    if (result == CO_NO_EFFECT || result == CO_EFFECT_UNKNOWN)
        return judge_failure(state, op, result);
    if (result == CO_AGAIN && !(op->flags & CO_OP_AGAIN)) {
        co_breach(err, state->pair, "%s asked to be called again, which it can't be", op->what);
        return failure(op);
    }
    if (state->host_error.code < 0) { /* a driver that went on as if nothing had been */
        *err = state->host_error;
        clean_error(err);
        return failure(op);
    }
    co_error_clear(err);
    return result;
}

/* ---------------------------------------------------------------- calls that a fault puts off */

struct co_late {
    struct co_late *next;
    pthread_t thread;
    struct co_endpoint *ep, *other;
    struct co_run_copy run;
    struct co_op op;
    char *what, *text[3];
    struct co_text scratch[2];
    int64_t budget_ns;
};

static void late_free(struct co_late *late)
{
    co_endpoint_free(late->ep);
    co_endpoint_free(late->other);
    co_run_copy_set(&late->run, NULL);
    for (int i = 0; i < 3; i++)
        free(late->text[i]);
    co_text_done(&late->scratch[0]);
    co_text_done(&late->scratch[1]);
    free(late->what);
    free(late);
}

static void *late_main(void *arg)
{
    struct co_late *late = arg;
    struct co_error err = {0};
    co_wait_until(co_deadline_in_ms(PUT_OFF_MS), -1);
    co_debug("fault: now comes the late %s", late->op.what);
    enum co_result result = co_op_run(late->ep, late->other, &late->op, co_now_ns() + late->budget_ns, &err);
    co_debug("fault: the late %s ended: %s %s", late->op.what, co_result_name(result), err.message);
    co_endpoint_close(late->ep);
    if (late->other)
        co_endpoint_close(late->other);
    return NULL;
}

static bool late_prepare(struct co_late *late, struct co_call_state *state, struct co_endpoint *other, const struct co_op *op)
{
    late->op = *op;
    late->op.flags |= CO_OP_NO_FAULT;
    late->what = co_strdup(op->what);
    late->op.what = late->what;
    for (int i = 0; i < 3; i++) {
        late->text[i] = co_strdup(op->text[i]);
        late->op.text[i] = late->text[i];
        if (op->text[i] && !late->text[i])
            return false;
    }
    for (int i = 0; i < 2; i++)
        late->op.ret[i] = op->ret[i] ? &late->scratch[i] : NULL; /* only texts are returned by what changes */
    if (co_run_copy_set(&late->run, state->has_run ? &state->run.run : NULL) < 0)
        return false;
    late->ep = co_endpoint_new(state->pair, state->ep->side, state->ep->purpose);
    if (other)
        late->other = co_endpoint_new(state->pair, other->side, other->purpose);
    if (!late->what || !late->ep || (other && !late->other))
        return false;
    late->ep->issued = &late->run;
    late->ep->issued_role = state->call.role;
    late->ep->hold = true; /* it has this connection and no other */
    if (late->other) {
        late->other->issued = &late->run;
        late->other->issued_role = state->call.role == CO_SOURCE ? CO_TARGET : CO_SOURCE;
    }
    late->budget_ns = state->deadline_ns - co_now_ns();
    return late->budget_ns > 0;
}

/* The call goes on by itself, with the connection it was made on and the token of its time, as a statement
 * does that is still on its way when the client has given it up. */
static void late_start(struct co_call_state *state, struct co_endpoint *other, const struct co_op *op)
{
    struct co_late *late = calloc(1, sizeof *late);
    if (!late || !late_prepare(late, state, other, op)) {
        if (late)
            late_free(late);
        return;
    }
    pthread_mutex_lock(&state->ep->lock);
    late->ep->conn = state->ep->conn;
    state->ep->conn = NULL;
    pthread_mutex_unlock(&state->ep->lock);
    pthread_mutex_lock(&state->pair->lock);
    bool started = pthread_create(&late->thread, NULL, late_main, late) == 0;
    if (started) {
        late->next = state->pair->late;
        state->pair->late = late;
    }
    pthread_mutex_unlock(&state->pair->lock);
    if (!started)
        late_free(late);
}

void co_late_join(struct co_pair *pair)
{
    for (;;) {
        pthread_mutex_lock(&pair->lock);
        struct co_late *late = pair->late;
        if (late)
            pair->late = late->next;
        pthread_mutex_unlock(&pair->lock);
        if (!late)
            return;
        pthread_join(late->thread, NULL);
        late_free(late);
    }
}

/* ---------------------------------------------------------------- the call */

static enum co_result run_with_faults(struct co_call_state *state, struct co_endpoint *other, const struct co_op *op)
{
    bool faults = co_fault_armed && op->point && !(op->flags & CO_OP_NO_FAULT);
    enum co_fault_action action = CO_FAULT_NONE;
    if (faults && op->before)
        action = co_fault_hit("%s:%s", op->point, op->before);
    if (action == CO_FAULT_ERROR)
        return injected(op, state->err, action, op->before);
    if (action == CO_FAULT_LATE) {
        if (!(op->flags & CO_OP_READS))
            late_start(state, other, op);
        co_endpoint_close(state->ep);
        return injected(op, state->err, action, op->before);
    }
    enum co_result result = judge(state, op, op->fn(&state->call, op));
    const char *suffix = op->before;
    if (faults && op->after && action == CO_FAULT_NONE) {
        action = co_fault_hit("%s:%s", op->point, op->after);
        suffix = op->after;
    }
    if (action != CO_FAULT_NONE) { /* the call was made: whatever is asked for, its reply is what can be lost */
        co_endpoint_close(state->ep);
        return injected(op, state->err, CO_FAULT_LOST, suffix);
    }
    return result;
}

enum co_result co_op_run(struct co_endpoint *ep, struct co_endpoint *other, const struct co_op *op, int64_t deadline_ns,
                         struct co_error *err)
{
    struct co_error unwanted;
    if (!err)
        err = &unwanted;
    int64_t began_ns = co_now_ns();
    struct co_call_state state;
    enum co_result result;
    if (co_call_begin(&state, ep, other, op->what, (op->flags & CO_OP_OFFLINE) != 0, deadline_ns, err, &result)) {
        if ((op->flags & CO_OP_OTHER) && !state.call.other) {
            co_fail(err, CO_E_UNREACHABLE, "%s needs both sides, and the other one can't be reached", op->what);
            result = CO_NO_EFFECT;
        } else {
            result = run_with_faults(&state, other, op);
        }
        co_call_end(&state);
    }
    if (result != CO_DONE && result != CO_AGAIN) {
        clean_error(err);
        co_error_side(err, ep);
    }
    if (co_log_verbosity() >= CO_DEBUG)
        co_debug("%s %s: %s -> %s in %.3f ms%s%s", co_pair_name(ep->pair), co_side_name(ep->side), op->what,
                 co_result_name(result), (double)(co_now_ns() - began_ns) / (double)CO_NS_PER_MS, err->code ? ": " : "",
                 err->message);
    return result;
}
