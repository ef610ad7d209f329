/* calls.c - the primitives as the core calls them: each is one guarded call plus the check of what it gave
 * back. Invariant: on CO_DONE every result is complete and in range; otherwise nothing in it may be used. */
#include "drivers-host/internal.h"

#include <string.h>

#include "base/secret.h"

static const char *role_word(const struct co_endpoint *ep)
{
    return co_endpoint_role(ep) == CO_SOURCE ? "source" : "target";
}

/* Fills in what all primitives share; `point` is the caller's buffer. */
#define POINT_BYTES 40
static struct co_op primitive(struct co_endpoint *ep, const char *what, unsigned flags, char point[POINT_BYTES],
                              enum co_result (*fn)(struct co_call *, const struct co_op *))
{
    struct co_op op = {.what = what, .flags = flags, .fn = fn, .driver = ep->pair->driver};
    if (co_fault_armed) {
        size_t bytes = strlen(what);
        const char *role = role_word(ep);
        if (bytes + strlen(role) + 2 <= POINT_BYTES) {
            memcpy(point, what, bytes);
            point[bytes] = '.';
            memcpy(point + bytes + 1, role, strlen(role) + 1);
            op.point = point;
            op.before = "before";
            op.after = "after";
        }
    }
    return op;
}

/* After the fence of a driver that stops its source, these work through the source's host. */
static unsigned offline_flag(struct co_endpoint *ep)
{
    struct co_pair *pair = ep->pair;
    pthread_mutex_lock(&pair->lock);
    bool stops = pair->fence_stops && (pair->has_run || ep->issued);
    pthread_mutex_unlock(&pair->lock);
    return stops && co_endpoint_role(ep) == CO_SOURCE ? CO_OP_OFFLINE : 0;
}

static unsigned marker_flag(struct co_endpoint *ep)
{
    struct co_pair *pair = ep->pair;
    enum co_run_role role = co_endpoint_role(ep);
    pthread_mutex_lock(&pair->lock);
    bool offline = pair->marker_offline[role];
    pthread_mutex_unlock(&pair->lock);
    return offline ? CO_OP_OFFLINE : offline_flag(ep);
}

static int check_text(const struct co_call *call, const struct co_driver *driver, const char *what, const struct co_text *text,
                      bool may_be_empty)
{
    if (text->overflow)
        return co_fail(call->err, CO_E_NOMEM, "the answer of %s is too long or there was no memory for it", what);
    const char *complaint = NULL;
    if (!may_be_empty && text->bytes == 0)
        complaint = "was done and gave nothing";
    else if (text->bytes != strlen(co_text_str(text)))
        complaint = "gave a text with a NUL in it";
    if (!complaint)
        return 0;
    co_fail(call->err, CO_E_INTERNAL, "driver %s broke the contract: %s %s", driver->name, what, complaint);
    co_hint(call->err, "This is a bug in the driver module %s %s; please report it with the output of -vv.", driver->name,
            driver->version);
    return CO_E_INTERNAL;
}

static enum co_result checked(struct co_call *call, const struct co_op *op, enum co_result result, struct co_text *text,
                              bool may_be_empty)
{
    if (result != CO_DONE)
        return result;
    return check_text(call, op->driver, op->what, text, may_be_empty) < 0 ? CO_NO_EFFECT : CO_DONE;
}

static enum co_result out_of_range(struct co_call *call, const struct co_op *op, const char *member, int value)
{
    co_fail(call->err, CO_E_INTERNAL, "driver %s broke the contract: %s set %s to %d", op->driver->name, op->what, member,
            value);
    return CO_NO_EFFECT;
}

static enum co_result absent(struct co_endpoint *ep, const char *what, struct co_error *err)
{
    co_fail(err, CO_E_UNSUPPORTED, "driver %s has no %s", ep->pair->driver->name, what);
    co_error_side(err, ep);
    return CO_NO_EFFECT;
}

/* ---------------------------------------------------------------- connect */

static enum co_result connected(struct co_call *call, const struct co_op *op)
{
    (void)call; /* co_call_begin has done it */
    (void)op;
    return CO_DONE;
}

enum co_result co_ep_connect(struct co_endpoint *ep, int64_t deadline_ns, struct co_error *err)
{
    struct co_op op = {.what = "connect", .flags = CO_OP_READS, .fn = connected, .driver = ep->pair->driver};
    return co_op_run(ep, NULL, &op, deadline_ns, err);
}

/* ---------------------------------------------------------------- look */

static bool tristate(enum co_tristate value)
{
    return value == CO_UNKNOWN || value == CO_NO || value == CO_YES;
}

static enum co_result do_identify(struct co_call *call, const struct co_op *op)
{
    struct co_identity_data *data = op->ret[0];
    struct co_identity identity = {.size = sizeof identity,
                                   .product = &data->product,
                                   .version = &data->version,
                                   .instance = &data->instance,
                                   .lineage = &data->lineage,
                                   .incarnation = &data->incarnation,
                                   .accepts_writes = CO_UNKNOWN,
                                   .fenced = CO_UNKNOWN,
                                   .empty = CO_UNKNOWN,
                                   .data_bytes = -1};
    enum co_result result = op->driver->identify(call, &identity);
    result = checked(call, op, result, &data->product, false);
    result = checked(call, op, result, &data->version, false);
    result = checked(call, op, result, &data->instance, false);
    result = checked(call, op, result, &data->lineage, true);
    result = checked(call, op, result, &data->incarnation, true);
    if (result != CO_DONE)
        return result;
    if (identity.role < CO_ROLE_UNKNOWN || identity.role > CO_ROLE_OTHER)
        return out_of_range(call, op, "role", (int)identity.role);
    if (!tristate(identity.accepts_writes))
        return out_of_range(call, op, "accepts_writes", (int)identity.accepts_writes);
    if (!tristate(identity.fenced))
        return out_of_range(call, op, "fenced", (int)identity.fenced);
    if (!tristate(identity.empty))
        return out_of_range(call, op, "empty", (int)identity.empty);
    data->role = identity.role;
    data->accepts_writes = identity.accepts_writes;
    data->fenced = identity.fenced;
    data->empty = identity.empty;
    data->data_bytes = identity.data_bytes < 0 ? -1 : identity.data_bytes;
    return CO_DONE;
}

enum co_result co_ep_identify(struct co_endpoint *ep, int64_t deadline_ns, struct co_identity_data *ret, struct co_error *err)
{
    co_identity_data_done(ret);
    *ret = (struct co_identity_data){.accepts_writes = CO_UNKNOWN, .fenced = CO_UNKNOWN, .empty = CO_UNKNOWN, .data_bytes = -1};
    char point[POINT_BYTES];
    struct co_op op = primitive(ep, "identify", CO_OP_READS, point, do_identify);
    op.ret[0] = ret;
    return co_op_run(ep, NULL, &op, deadline_ns, err);
}

static enum co_result do_capabilities(struct co_call *call, const struct co_op *op)
{
    struct co_capabilities *ret = op->ret[0];
    *ret = (struct co_capabilities){.size = sizeof *ret};
    return op->driver->capabilities(call, ret);
}

enum co_result co_ep_capabilities(struct co_endpoint *ep, int64_t deadline_ns, struct co_capabilities *ret,
                                  struct co_error *err)
{
    char point[POINT_BYTES];
    struct co_op op = primitive(ep, "capabilities", CO_OP_READS, point, do_capabilities);
    op.ret[0] = ret;
    enum co_result result = co_op_run(ep, NULL, &op, deadline_ns, err);
    if (result == CO_DONE && ret->fence_stops)
        co_pair_set_fence_stops(ep->pair, true);
    return result;
}

static enum co_result do_settings(struct co_call *call, const struct co_op *op)
{
    return op->driver->settings(call);
}

enum co_result co_ep_settings(struct co_endpoint *ep, int64_t deadline_ns, struct co_error *err)
{
    char point[POINT_BYTES];
    struct co_op op = primitive(ep, "settings", CO_OP_READS, point, do_settings);
    return co_op_run(ep, NULL, &op, deadline_ns, err);
}

static enum co_result do_discover(struct co_call *call, const struct co_op *op)
{
    return op->driver->discover(call);
}

enum co_result co_ep_discover(struct co_endpoint *ep, int64_t deadline_ns, struct co_error *err)
{
    char point[POINT_BYTES];
    struct co_op op = primitive(ep, "discover", CO_OP_READS, point, do_discover);
    return co_op_run(ep, NULL, &op, deadline_ns, err);
}

static enum co_result do_check(struct co_call *call, const struct co_op *op)
{
    return op->driver->check(call, (enum co_check_stage)op->number);
}

enum co_result co_ep_check(struct co_endpoint *ep, struct co_endpoint *other, enum co_check_stage stage, int64_t deadline_ns,
                           struct co_error *err)
{
    char point[POINT_BYTES];
    struct co_op op = primitive(ep, "check", CO_OP_READS, point, do_check);
    op.number = (int)stage;
    return co_op_run(ep, other, &op, deadline_ns, err);
}

/* ---------------------------------------------------------------- follow */

static enum co_result do_position(struct co_call *call, const struct co_op *op)
{
    return checked(call, op, op->driver->position(call, op->ret[0]), op->ret[0], false);
}

static enum co_result do_applied(struct co_call *call, const struct co_op *op)
{
    return checked(call, op, op->driver->applied(call, op->ret[0]), op->ret[0], false);
}

static enum co_result text_call(struct co_endpoint *ep, const char *what, unsigned flags,
                                enum co_result (*fn)(struct co_call *, const struct co_op *), int64_t deadline_ns,
                                struct co_text *ret, struct co_error *err)
{
    char point[POINT_BYTES];
    struct co_op op = primitive(ep, what, flags, point, fn);
    co_text_clear(ret);
    op.ret[0] = ret;
    return co_op_run(ep, NULL, &op, deadline_ns, err);
}

enum co_result co_ep_position(struct co_endpoint *ep, int64_t deadline_ns, struct co_text *ret, struct co_error *err)
{
    return text_call(ep, "position", CO_OP_READS, do_position, deadline_ns, ret, err);
}

enum co_result co_ep_applied(struct co_endpoint *ep, int64_t deadline_ns, struct co_text *ret, struct co_error *err)
{
    return text_call(ep, "applied", CO_OP_READS, do_applied, deadline_ns, ret, err);
}

static enum co_result do_link(struct co_call *call, const struct co_op *op)
{
    struct co_link_data *data = op->ret[0];
    struct co_link link = {
        .size = sizeof link, .reason = &data->reason, .silent_ms = -1, .piled_up_bytes = -1, .faster = &data->faster};
    enum co_result result = checked(call, op, op->driver->link(call, &link), &data->reason, true);
    if (result != CO_DONE)
        return result;
    if (link.state < CO_LINK_RUNNING || link.state > CO_LINK_NONE)
        return out_of_range(call, op, "state", (int)link.state);
    data->state = link.state;
    data->silent_ms = link.silent_ms < 0 ? -1 : link.silent_ms;
    data->piled_up_bytes = link.piled_up_bytes < 0 ? -1 : link.piled_up_bytes;
    co_mask_text(&data->reason);
    co_mask_text(&data->faster);
    return CO_DONE;
}

enum co_result co_ep_link(struct co_endpoint *ep, struct co_endpoint *other, int64_t deadline_ns, struct co_link_data *ret,
                          struct co_error *err)
{
    co_link_data_done(ret);
    *ret = (struct co_link_data){.state = CO_LINK_UNKNOWN, .silent_ms = -1, .piled_up_bytes = -1};
    char point[POINT_BYTES];
    struct co_op op = primitive(ep, "link", CO_OP_READS, point, do_link);
    op.ret[0] = ret;
    enum co_result result = co_op_run(ep, other, &op, deadline_ns, err);
    if (result != CO_DONE)
        ret->state = CO_LINK_UNKNOWN;
    return result;
}

static enum co_result do_wait_applied(struct co_call *call, const struct co_op *op)
{
    return op->driver->wait_applied(call, op->text[0]);
}

enum co_result co_ep_wait_applied(struct co_endpoint *ep, const char *position, int64_t deadline_ns, struct co_error *err)
{
    if (!ep->pair->driver->wait_applied)
        return absent(ep, "wait_applied", err);
    char point[POINT_BYTES];
    struct co_op op = primitive(ep, "wait_applied", CO_OP_READS | CO_OP_AGAIN, point, do_wait_applied);
    op.text[0] = position;
    return co_op_run(ep, NULL, &op, deadline_ns, err);
}

static enum co_result do_round(struct co_call *call, const struct co_op *op)
{
    return op->driver->round(call);
}

enum co_result co_ep_round(struct co_endpoint *ep, struct co_endpoint *other, int64_t deadline_ns, struct co_error *err)
{
    if (!ep->pair->driver->round)
        return absent(ep, "round", err);
    char point[POINT_BYTES];
    struct co_op op = primitive(ep, "round", CO_OP_AGAIN | CO_OP_OTHER, point, do_round);
    return co_op_run(ep, other, &op, deadline_ns, err);
}

/* ---------------------------------------------------------------- marker */

static enum co_result do_marker_get(struct co_call *call, const struct co_op *op)
{
    enum co_result result = op->driver->marker_get(call, op->ret[0], op->ret[1]);
    result = checked(call, op, result, op->ret[0], true);
    return checked(call, op, result, op->ret[1], true);
}

enum co_result co_ep_marker_get(struct co_endpoint *ep, int64_t deadline_ns, struct co_text *ret_token,
                                struct co_text *ret_info, struct co_error *err)
{
    char point[POINT_BYTES];
    CO_TEXT_AUTO unwanted = CO_TEXT_INIT;
    struct co_op op = primitive(ep, "marker_get", CO_OP_READS | marker_flag(ep), point, do_marker_get);
    co_text_clear(ret_token);
    if (ret_info)
        co_text_clear(ret_info);
    op.ret[0] = ret_token;
    op.ret[1] = ret_info ? ret_info : &unwanted;
    return co_op_run(ep, NULL, &op, deadline_ns, err);
}

static enum co_result do_marker_set(struct co_call *call, const struct co_op *op)
{
    return op->driver->marker_set(call, op->text[0], op->text[1], op->text[2]);
}

enum co_result co_ep_marker_set(struct co_endpoint *ep, const char *expected, const char *token, const char *info,
                                int64_t deadline_ns, struct co_error *err)
{
    if (info && strlen(info) > (size_t)256 << 10) {
        co_fail(err, CO_E_INTERNAL, "the marker's text has %zu bytes, at most 256 KiB fit", strlen(info));
        co_error_side(err, ep);
        return CO_NO_EFFECT;
    }
    char point[POINT_BYTES];
    struct co_op op = primitive(ep, "marker_set", marker_flag(ep), point, do_marker_set);
    op.text[0] = expected;
    op.text[1] = token;
    op.text[2] = info ? info : "";
    return co_op_run(ep, NULL, &op, deadline_ns, err);
}

/* ---------------------------------------------------------------- cut over */

static enum co_result do_prepare(struct co_call *call, const struct co_op *op)
{
    return op->driver->prepare(call);
}

enum co_result co_ep_prepare(struct co_endpoint *ep, int64_t deadline_ns, struct co_error *err)
{
    char point[POINT_BYTES];
    struct co_op op = primitive(ep, "prepare", CO_OP_READS | CO_OP_AGAIN, point, do_prepare);
    return co_op_run(ep, NULL, &op, deadline_ns, err);
}

static enum co_result do_drain(struct co_call *call, const struct co_op *op)
{
    struct co_text *remaining = op->ret[0];
    enum co_result result = op->driver->drain(call, op->flag, remaining);
    if (result == CO_DONE || result == CO_AGAIN)
        co_mask_text(remaining);
    return checked(call, op, result, remaining, true);
}

enum co_result co_ep_drain(struct co_endpoint *ep, bool end, int64_t deadline_ns, struct co_text *ret_remaining,
                           struct co_error *err)
{
    char point[POINT_BYTES];
    struct co_op op = primitive(ep, "drain", CO_OP_AGAIN | offline_flag(ep), point, do_drain);
    co_text_clear(ret_remaining);
    op.flag = end;
    op.ret[0] = ret_remaining;
    return co_op_run(ep, NULL, &op, deadline_ns, err);
}

static enum co_result do_capture(struct co_call *call, const struct co_op *op)
{
    return checked(call, op, op->driver->capture(call, op->ret[0]), op->ret[0], false);
}

enum co_result co_ep_capture(struct co_endpoint *ep, int64_t deadline_ns, struct co_text *ret, struct co_error *err)
{
    return text_call(ep, "capture", CO_OP_READS | CO_OP_AGAIN | offline_flag(ep), do_capture, deadline_ns, ret, err);
}

static enum co_result do_proof(struct co_call *call, const struct co_op *op)
{
    return op->driver->proof(call, op->text[0]);
}

enum co_result co_ep_proof(struct co_endpoint *ep, const char *position, int64_t deadline_ns, struct co_error *err)
{
    char point[POINT_BYTES];
    struct co_op op = primitive(ep, "proof", CO_OP_READS | CO_OP_AGAIN | offline_flag(ep), point, do_proof);
    op.text[0] = position;
    return co_op_run(ep, NULL, &op, deadline_ns, err);
}

static enum co_result do_end_sessions(struct co_call *call, const struct co_op *op)
{
    return op->driver->end_sessions(call, op->text[0]);
}

enum co_result co_ep_end_sessions(struct co_endpoint *ep, const char *keep_actor, int64_t deadline_ns, struct co_error *err)
{
    char point[POINT_BYTES];
    struct co_op op = primitive(ep, "end_sessions", CO_OP_AGAIN, point, do_end_sessions);
    op.text[0] = keep_actor;
    return co_op_run(ep, NULL, &op, deadline_ns, err);
}

static enum co_result do_probe_write(struct co_call *call, const struct co_op *op)
{
    return op->driver->probe_write(call);
}

enum co_result co_ep_probe_write(struct co_endpoint *ep, int64_t deadline_ns, struct co_error *err)
{
    char point[POINT_BYTES];
    struct co_op op = primitive(ep, "probe_write", 0, point, do_probe_write);
    return co_op_run(ep, NULL, &op, deadline_ns, err);
}

/* ---------------------------------------------------------------- compare, init */

static enum co_result do_digest(struct co_call *call, const struct co_op *op)
{
    return checked(call, op, op->driver->digest(call, op->text[0], op->ret[0]), op->ret[0], true);
}

enum co_result co_ep_digest(struct co_endpoint *ep, const char *range, int64_t deadline_ns, struct co_text *ret,
                            struct co_error *err)
{
    if (!ep->pair->driver->digest)
        return absent(ep, "digest", err);
    char point[POINT_BYTES];
    struct co_op op = primitive(ep, "digest", CO_OP_READS | CO_OP_AGAIN, point, do_digest);
    co_text_clear(ret);
    op.text[0] = range;
    op.ret[0] = ret;
    return co_op_run(ep, NULL, &op, deadline_ns, err);
}

static enum co_result do_grants(struct co_call *call, const struct co_op *op)
{
    enum co_result result = checked(call, op, op->driver->grants(call, op->ret[0]), op->ret[0], true);
    if (result == CO_DONE)
        co_mask_text(op->ret[0]);
    return result;
}

enum co_result co_ep_grants(struct co_endpoint *ep, int64_t deadline_ns, struct co_text *ret, struct co_error *err)
{
    if (!ep->pair->driver->grants)
        return absent(ep, "grants", err);
    return text_call(ep, "grants", CO_OP_READS | CO_OP_OFFLINE, do_grants, deadline_ns, ret, err);
}
