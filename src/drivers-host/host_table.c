/* host_table.c - what the core offers to drivers during a call. Invariants: nothing a driver passes in is kept
 * without a copy; everything meant for people is masked before it leaves; a failure that would make a later
 * undo wrong (a note that wasn't kept) fails the call even when the driver ignores it. */
#include "drivers-host/internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"

static struct co_call_state *state_of(void *ctx)
{
    return ctx;
}

static bool is_side(enum co_side side)
{
    return side == CO_SIDE_A || side == CO_SIDE_B;
}

/* ---------------------------------------------------------------- results */

static void host_text_set(void *ctx, struct co_text *text, const char *data, size_t bytes)
{
    (void)ctx;
    if (text)
        co_text_set(text, data ? data : "", data ? bytes : 0);
}

static void host_text_add(void *ctx, struct co_text *text, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void host_text_add(void *ctx, struct co_text *text, const char *format, ...)
{
    (void)ctx;
    if (!text)
        return;
    va_list args;
    va_start(args, format);
    co_text_vadd(text, format, args);
    va_end(args);
}

static const char *masked(struct co_text *text, const char *value)
{
    co_text_set_str(text, value);
    co_mask_text(text);
    return co_text_str(text);
}

static void host_fact(void *ctx, const char *group, const char *name, const char *value)
{
    const struct co_sink *sink = &state_of(ctx)->ep->sink;
    if (!sink->fact || !group || !name)
        return;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    sink->fact(sink->arg, group, name, masked(&text, value));
}

static void host_found(void *ctx, const char *kind, const char *name, const char *run)
{
    const struct co_sink *sink = &state_of(ctx)->ep->sink;
    if (!sink->found || !kind || !name)
        return;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    sink->found(sink->arg, kind, masked(&text, name), run);
}

static void host_finding(void *ctx, const struct co_finding *finding)
{
    struct co_call_state *state = state_of(ctx);
    const struct co_sink *sink = &state->ep->sink;
    if (!finding || !finding->code || !*finding->code) {
        if (state->host_error.code == CO_E_NONE)
            co_breach(&state->host_error, state->pair, "%s reported a finding without a code", state->what);
        return;
    }
    if (!sink->finding)
        return;
    CO_TEXT_AUTO message = CO_TEXT_INIT;
    CO_TEXT_AUTO remedy = CO_TEXT_INIT;
    struct co_finding copy = *finding;
    if ((int)copy.severity < CO_INFO || (int)copy.severity > CO_ERROR)
        copy.severity = CO_ERROR;
    if (copy.side != CO_SIDE_A && copy.side != CO_SIDE_B)
        copy.side = -1;
    copy.message = masked(&message, finding->message);
    copy.remedy = masked(&remedy, finding->remedy);
    sink->finding(sink->arg, &copy);
}

void co_host_progress(void *ctx, const struct co_progress *progress)
{
    const struct co_sink *sink = &state_of(ctx)->ep->sink;
    if (!sink->progress || !progress)
        return;
    CO_TEXT_AUTO what = CO_TEXT_INIT;
    struct co_progress copy = *progress;
    copy.what = masked(&what, progress->what);
    copy.unit = progress->unit ? progress->unit : "";
    copy.done = progress->done < 0 ? -1 : progress->done;
    copy.total = progress->total < 0 ? -1 : progress->total;
    sink->progress(sink->arg, &copy);
}

/* ---------------------------------------------------------------- notes */

static const char *keep(struct co_call_state *state, const char *value)
{
    size_t bytes = strlen(value) + 1;
    struct co_kept_string *kept = malloc(sizeof *kept + bytes);
    if (!kept)
        return NULL;
    memcpy(kept->data, value, bytes);
    kept->next = state->kept;
    state->kept = kept;
    return kept->data;
}

static enum co_side note_side(const struct co_call_state *state, enum co_side side)
{
    return is_side(side) ? side : state->call.side;
}

static const char *host_note_get(void *ctx, enum co_note_scope scope, enum co_side side, const char *key)
{
    struct co_call_state *state = state_of(ctx);
    CO_AUTOFREE char *value = NULL;
    int rc = key ? co_notes_get(state->pair, scope, note_side(state, side), key, &value) : 0;
    const char *kept = value ? keep(state, value) : NULL;
    if ((rc < 0 || (value && !kept)) && state->host_error.code == CO_E_NONE)
        co_fail(&state->host_error, CO_E_NOMEM, "no memory to read the note %s", key);
    return kept;
}

static int host_note_put(void *ctx, enum co_note_scope scope, enum co_side side, const char *key, const char *value)
{
    struct co_call_state *state = state_of(ctx);
    struct co_error err = {0};
    int rc =
        scope == CO_NOTE_RUN || scope == CO_NOTE_PAIR
            ? co_notes_put(state->pair, state->has_run ? state->run.id : NULL, scope, note_side(state, side), key, value, &err)
            : co_breach(&err, state->pair, "%s put a note of scope %d", state->what, (int)scope);
    if (rc < 0) {
        co_debug("%s: %s", state->what, err.message);
        if (state->host_error.code == CO_E_NONE)
            state->host_error = err;
    }
    return rc;
}

/* ---------------------------------------------------------------- configuration */

static const struct co_endpoint_config *host_endpoint(void *ctx, enum co_side side)
{
    return is_side(side) ? &state_of(ctx)->pair->pair_config->side[side].endpoint : NULL;
}

static const struct co_option *find_option(const struct co_call_state *state, enum co_option_scope scope, const char *name)
{
    const struct co_driver *driver = state->pair->driver;
    for (size_t i = 0; name && i < driver->option_count; i++)
        if (driver->options[i].scope == scope && strcmp(driver->options[i].name, name) == 0)
            return &driver->options[i];
    return NULL;
}

static const char *option_value(const struct co_call_state *state, const struct co_option_values *values,
                                enum co_option_scope scope, const char *name)
{
    const struct co_option *option = find_option(state, scope, name);
    if (!option) {
        co_debug("%s asks for the option %s, which its table doesn't have", state->what, name ? name : "(null)");
        return NULL;
    }
    const struct co_option_value *value = co_option_find(values, name);
    return value && value->value ? value->value : option->default_value;
}

static const char *host_option(void *ctx, const char *name)
{
    struct co_call_state *state = state_of(ctx);
    return option_value(state, &state->pair->pair_config->options, CO_OPT_PAIR, name);
}

static const char *host_side_option(void *ctx, enum co_side side, const char *name)
{
    struct co_call_state *state = state_of(ctx);
    return is_side(side) ? option_value(state, &state->pair->pair_config->side[side].options, CO_OPT_SIDE, name) : NULL;
}

static const char *const *host_argv_option(void *ctx, int side, const char *name)
{
    struct co_call_state *state = state_of(ctx);
    bool of_side = side == CO_SIDE_A || side == CO_SIDE_B;
    if (!name || (!of_side && side != -1))
        return NULL;
    const struct co_option_values *values =
        of_side ? &state->pair->pair_config->side[side].options : &state->pair->pair_config->options;
    const struct co_option_value *value = co_option_find(values, name);
    return value ? (const char *const *)value->argv : NULL;
}

static int64_t host_drain_patience_ms(void *ctx, bool *ret_end)
{
    const struct co_pair_config *config = state_of(ctx)->pair->pair_config;
    *ret_end = !config->drain.refuse;
    return config->drain.timeout_ms;
}

static const char *host_url_param(void *ctx, enum co_side side, const char *name)
{
    if (!is_side(side) || !name)
        return NULL;
    char **params = state_of(ctx)->pair->pair_config->side[side].url_params;
    for (; params && params[0] && params[1]; params += 2)
        if (strcmp(params[0], name) == 0)
            return params[1];
    return NULL;
}

static const char *host_secret_user(void *ctx, enum co_secret which)
{
    struct co_call_state *state = state_of(ctx);
    const struct co_pair_config *config = state->pair->pair_config;
    switch (which) {
    case CO_SECRET_PASSWORD:
        return config->side[state->call.side].endpoint.user;
    case CO_SECRET_REPLICATION:
        return config->replication.user;
    case CO_SECRET_PROBE:
        return config->probe.user;
    }
    return NULL;
}

static const char *host_secret(void *ctx, enum co_side side, enum co_secret which)
{
    const struct co_pair_config *config = state_of(ctx)->pair->pair_config;
    const struct co_secret_value *value = NULL;
    if (which == CO_SECRET_PASSWORD && is_side(side))
        value = config->side[side].password;
    else if (which == CO_SECRET_REPLICATION)
        value = config->replication.password;
    else if (which == CO_SECRET_PROBE)
        value = config->probe.password;
    return value ? co_secret_str(value) : NULL;
}

static bool host_accepted(void *ctx, const char *code)
{
    char **accept = state_of(ctx)->pair->pair_config->accept;
    for (; code && accept && *accept; accept++)
        if (strcmp(*accept, code) == 0)
            return true;
    return false;
}

/* ---------------------------------------------------------------- time and waiting */

static int64_t host_now_ns(void *ctx)
{
    (void)ctx;
    return co_now_ns();
}

static int host_wait_fd(void *ctx, int fd, short events, int64_t deadline_ns)
{
    struct co_call_state *state = state_of(ctx);
    deadline_ns = co_min_deadline(deadline_ns, state->deadline_ns); /* whatever the driver asks for */
    for (;;) {
        struct pollfd items[2] = {{.fd = state->ep->wake_fd, .events = POLLIN}, {.fd = fd, .events = events}};
        int64_t left_ns = deadline_ns - co_now_ns();
        if (left_ns < 0)
            left_ns = 0;
        struct timespec timeout = {.tv_sec = (time_t)(left_ns / CO_NS_PER_S), .tv_nsec = (long)(left_ns % CO_NS_PER_S)};
        int count = ppoll(items, 2, &timeout, NULL);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0 || items[0].revents)
            return -1;
        if (items[1].revents)
            return items[1].revents;
        if (left_ns == 0)
            return 0;
    }
}

static int host_interrupted_fd(void *ctx)
{
    return state_of(ctx)->ep->wake_fd;
}

/* ---------------------------------------------------------------- trace, faults, mask, hash */

static void host_trace(void *ctx, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void host_trace(void *ctx, const char *format, ...)
{
    if (co_log_verbosity() < CO_DEBUG)
        return;
    struct co_call_state *state = state_of(ctx);
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    va_list args;
    va_start(args, format);
    co_text_vadd(&text, format, args);
    va_end(args);
    co_debug("%s %s: %s: %s", co_pair_name(state->pair), co_side_name(state->call.side), state->what, co_text_str(&text));
}

static void host_remark(void *ctx, const char *text)
{
    struct co_call_state *state = state_of(ctx);
    if (text && *text && state->has_run && state->pair->journal)
        co_journal_event(state->pair->journal, state->run.id, co_pair_name(state->pair), "remark", text, NULL);
}

static enum co_result host_fault(void *ctx, const char *point)
{
    struct co_call_state *state = state_of(ctx);
    if (!co_fault_armed || !point)
        return CO_DONE;
    switch (co_fault_hit("%s", point)) {
    case CO_FAULT_NONE:
        return CO_DONE;
    case CO_FAULT_ERROR:
        co_fail(state->err, CO_E_SERVER, "fault injected at %s", point);
        return CO_NO_EFFECT;
    case CO_FAULT_LOST:
    case CO_FAULT_LATE:
        co_fail(state->err, CO_E_UNREACHABLE, "fault injected at %s: the reply was lost", point);
        return CO_EFFECT_UNKNOWN;
    }
    return CO_DONE;
}

static void host_mask(void *ctx, const char *secret)
{
    (void)ctx;
    if (secret && *secret)
        co_mask_add(secret);
}

static void host_hash(void *ctx, const void *data, size_t bytes, char *ret)
{
    static const char digits[] = "0123456789abcdef";
    (void)ctx;
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes ? data : "", bytes));
    for (size_t i = 0; i < sizeof canonical.digest; i++) {
        ret[2 * i] = digits[canonical.digest[i] >> 4];
        ret[2 * i + 1] = digits[canonical.digest[i] & 15];
    }
    ret[2 * sizeof canonical.digest] = '\0';
}

static struct co_text *host_text_new(void *ctx)
{
    struct co_call_state *state = state_of(ctx);
    struct co_own_text *own = calloc(1, sizeof *own);
    if (!own)
        return NULL;
    own->text.secret = true;
    own->next = state->texts;
    state->texts = own;
    return &own->text;
}

static const char *host_text_get(void *ctx, const struct co_text *text, size_t *ret_bytes)
{
    (void)ctx;
    if (ret_bytes)
        *ret_bytes = text ? text->bytes : 0;
    return text ? co_text_str(text) : "";
}

const struct co_host co_host_table = {
    .size = sizeof(struct co_host),
    .text_set = host_text_set,
    .text_add = host_text_add,
    .fact = host_fact,
    .found = host_found,
    .finding = host_finding,
    .progress = co_host_progress,
    .note_get = host_note_get,
    .note_put = host_note_put,
    .endpoint = host_endpoint,
    .option = host_option,
    .side_option = host_side_option,
    .argv_option = host_argv_option,
    .url_param = host_url_param,
    .secret_user = host_secret_user,
    .secret = host_secret,
    .accepted = host_accepted,
    .now_ns = host_now_ns,
    .wait_fd = host_wait_fd,
    .interrupted_fd = host_interrupted_fd,
    .trace = host_trace,
    .fault = host_fault,
    .mask = host_mask,
    .run = co_host_run,
    .pipe = co_host_pipe,
    .hash = host_hash,
    .http = co_host_http,
    .text_new = host_text_new,
    .text_get = host_text_get,
    .pipe_ticking = co_host_pipe_ticking,
    .drain_patience_ms = host_drain_patience_ms,
    .remark = host_remark,
};
