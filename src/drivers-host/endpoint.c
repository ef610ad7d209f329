/* endpoint.c - one connection to one side: opened when needed, compared with what is recorded for the side,
 * interrupted from other threads. Invariant: a connection that is kept leads to the recorded instance. */
#include "drivers-host/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <poll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define CONNECT_MAX_NS (10 * CO_NS_PER_S)

struct co_endpoint *co_endpoint_new(struct co_pair *pair, enum co_side side, enum co_conn_purpose purpose)
{
    struct co_endpoint *ep = calloc(1, sizeof *ep);
    if (!ep)
        return NULL;
    ep->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ep->wake_fd < 0) {
        free(ep);
        return NULL;
    }
    pthread_mutex_init(&ep->lock, NULL);
    ep->pair = pair;
    ep->side = side;
    ep->purpose = purpose;
    return ep;
}

void co_endpoint_free(struct co_endpoint *ep)
{
    if (!ep)
        return;
    co_endpoint_close(ep);
    close(ep->wake_fd);
    pthread_mutex_destroy(&ep->lock);
    free(ep);
}

void co_endpoint_hold(struct co_endpoint *ep, bool hold)
{
    ep->hold = hold;
}

void co_endpoint_sink(struct co_endpoint *ep, const struct co_sink *sink)
{
    ep->sink = sink ? *sink : (struct co_sink){0};
}

void co_endpoint_interrupt(struct co_endpoint *ep)
{
    uint64_t one = 1;
    ssize_t bytes;
    do
        bytes = write(ep->wake_fd, &one, sizeof one); /* EAGAIN: the counter is full, so it is readable */
    while (bytes < 0 && errno == EINTR);
    pthread_mutex_lock(&ep->lock);
    if (ep->conn && ep->busy && ep->pair->driver->interrupt)
        ep->pair->driver->interrupt(ep->conn);
    pthread_mutex_unlock(&ep->lock);
}

void co_endpoint_uninterrupt(struct co_endpoint *ep)
{
    uint64_t count;
    ssize_t bytes;
    do
        bytes = read(ep->wake_fd, &count, sizeof count);
    while (bytes < 0 && errno == EINTR);
}

bool co_endpoint_interrupted(const struct co_endpoint *ep)
{
    struct pollfd item = {.fd = ep->wake_fd, .events = POLLIN};
    return poll(&item, 1, 0) > 0;
}

struct co_pair *co_endpoint_pair(struct co_endpoint *ep)
{
    return ep->pair;
}

enum co_side co_endpoint_side(const struct co_endpoint *ep)
{
    return ep->side;
}

enum co_run_role co_endpoint_role(const struct co_endpoint *ep)
{
    if (ep->issued)
        return ep->issued_role;
    return ep->side == co_pair_source(ep->pair) ? CO_SOURCE : CO_TARGET;
}

bool co_endpoint_connected(struct co_endpoint *ep)
{
    return co_endpoint_usable(ep);
}

bool co_endpoint_usable(struct co_endpoint *ep)
{
    return ep->conn && ep->pair->driver->alive(ep->conn);
}

void co_endpoint_close(struct co_endpoint *ep)
{
    pthread_mutex_lock(&ep->lock);
    struct co_conn *conn = ep->conn;
    ep->conn = NULL; /* from here on no interrupt reaches it */
    pthread_mutex_unlock(&ep->lock);
    if (conn)
        ep->pair->driver->disconnect(conn);
}

/* ---------------------------------------------------------------- identity */

static bool lineage_fits(const struct co_pair *pair, enum co_side side, const char *lineage)
{
    const char *recorded = pair->lineage[side];
    if (strcmp(recorded, lineage) == 0)
        return true;
    if (*recorded)
        return false;
    /* An empty server gets a lineage once: by being made a copy of the other side. */
    const char *others = pair->lineage[side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A];
    return !*others || strcmp(others, lineage) == 0;
}

static enum co_result compare_identity(struct co_endpoint *ep, const char *instance, const char *lineage, struct co_error *err)
{
    struct co_pair *pair = ep->pair;
    enum co_result result = CO_DONE;
    pthread_mutex_lock(&pair->lock);
    const char *recorded = pair->instance[ep->side];
    const char *others = pair->instance[ep->side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A];
    if (*recorded && strcmp(recorded, instance) != 0) {
        co_fail(err, CO_E_MISMATCH, "the address leads to another server than before: instance %s%s, recorded is %s", instance,
                strcmp(others, instance) == 0 ? ", which is the other side" : "", recorded);
        co_hint(err, "Was the name or address re-pointed? Give an address that always means this server. If the server was "
                     "replaced on purpose, end the migration with `changeover detach` and set it up again.");
        result = CO_NO_EFFECT;
    } else if (!lineage_fits(pair, ep->side, lineage)) {
        co_fail(err, CO_E_MISMATCH, "the server holds other data than before: lineage %s, recorded is %s",
                *lineage ? lineage : "(none)", *pair->lineage[ep->side] ? pair->lineage[ep->side] : "(none)");
        co_hint(err,
                "It was initialised or restored anew. If that was meant, end the migration with `changeover detach` and set "
                "it up again.");
        result = CO_NO_EFFECT;
    }
    pthread_mutex_unlock(&pair->lock);
    return result;
}

static enum co_result check_identity(struct co_call_state *state)
{
    struct co_endpoint *ep = state->ep;
    pthread_mutex_lock(&ep->pair->lock);
    bool anything = *ep->pair->instance[ep->side] || *ep->pair->lineage[ep->side];
    pthread_mutex_unlock(&ep->pair->lock);
    if (!anything)
        return CO_DONE;
    __attribute__((cleanup(co_identity_data_done))) struct co_identity_data data = {0};
    struct co_identity identity = {.size = sizeof identity,
                                   .product = &data.product,
                                   .version = &data.version,
                                   .instance = &data.instance,
                                   .lineage = &data.lineage,
                                   .incarnation = &data.incarnation,
                                   .accepts_writes = CO_UNKNOWN,
                                   .fenced = CO_UNKNOWN,
                                   .empty = CO_UNKNOWN,
                                   .data_bytes = -1};
    struct co_sink sink = ep->sink;
    ep->sink = (struct co_sink){0}; /* nobody asked for these facts */
    enum co_result result = ep->pair->driver->identify(&state->call, &identity);
    ep->sink = sink;
    if (result == CO_DONE && data.instance.bytes == 0)
        co_breach(state->err, ep->pair, "identify() said nothing of the instance");
    else if (result != CO_DONE && state->err->code == CO_E_NONE)
        co_breach(state->err, ep->pair, "identify() failed without saying why");
    else if (result == CO_DONE)
        return compare_identity(ep, co_text_str(&data.instance), co_text_str(&data.lineage), state->err);
    return CO_NO_EFFECT;
}

/* ---------------------------------------------------------------- connecting */

/* A server that doesn't answer is waited for, up to ten seconds: whoever looks on shall see for which. */
static void say_connecting(const struct co_endpoint *ep)
{
    const struct co_pair_config *config = co_pair_config(ep->pair);
    const struct co_endpoint_config *endpoint = &config->side[ep->side].endpoint;
    CO_TEXT_AUTO text = CO_TEXT_INIT;
    co_text_add(&text, "%s, side %s: connecting to %s", co_pair_name(ep->pair), co_side_name(ep->side),
                endpoint->address ? endpoint->address : "the server");
    if (endpoint->port)
        co_text_add(&text, ":%d", endpoint->port);
    co_log_status(co_text_str(&text));
}

static enum co_result connect_now(struct co_call_state *state)
{
    struct co_endpoint *ep = state->ep;
    const struct co_driver *driver = ep->pair->driver;
    const char *role = state->call.role == CO_SOURCE ? "source" : "target";
    enum co_fault_action fault = CO_FAULT("connect.%s:before", role);
    if (fault == CO_FAULT_ERROR || fault == CO_FAULT_LATE) {
        co_fail(state->err, CO_E_UNREACHABLE, "fault injected at connect.%s:before", role);
        return CO_NO_EFFECT;
    }
    struct co_conn *conn = NULL;
    state->call.conn = NULL;
    say_connecting(ep);
    enum co_result result = driver->connect(&state->call, ep->purpose, &conn);
    co_log_status(NULL);
    if (result == CO_DONE && !conn) {
        co_breach(state->err, ep->pair, "connect() was done and gave no connection");
        result = CO_NO_EFFECT;
    } else if (result != CO_DONE) {
        if (conn)
            driver->disconnect(conn);
        conn = NULL;
        if (state->err->code == CO_E_NONE)
            co_breach(state->err, ep->pair, "connect() failed without saying why");
        result = CO_NO_EFFECT;
    }
    if (result != CO_DONE)
        return result;
    co_error_clear(state->err);
    pthread_mutex_lock(&ep->lock);
    ep->conn = conn;
    pthread_mutex_unlock(&ep->lock);
    state->call.conn = conn;
    result = check_identity(state);
    bool lost = fault == CO_FAULT_LOST || CO_FAULT("connect.%s:after", role) != CO_FAULT_NONE;
    if (result == CO_DONE && lost) {
        co_fail(state->err, CO_E_UNREACHABLE, "fault injected at connect.%s: the connection was lost", role);
        result = CO_NO_EFFECT;
    }
    if (result != CO_DONE) {
        state->call.conn = NULL;
        co_endpoint_close(ep);
    } else {
        co_error_clear(state->err);
    }
    return result;
}

/* Which failures to connect mean that the server isn't there, so that what works offline may go ahead. */
static bool is_away(int code)
{
    return code == CO_E_UNREACHABLE || code == CO_E_TIMEOUT || code == CO_E_STATE || code == CO_E_REFUSED ||
           code == CO_E_SERVER;
}

/* What connecting may take of a call's time: half of it, and no more than a while of a call that may take hours. */
static int64_t half_of(int64_t deadline_ns)
{
    int64_t now_ns = co_now_ns();
    int64_t half_ns = deadline_ns <= now_ns ? 0 : (deadline_ns - now_ns) / 2;
    return deadline_ns <= now_ns ? deadline_ns : now_ns + (half_ns < CONNECT_MAX_NS ? half_ns : CONNECT_MAX_NS);
}

static enum co_result ensure_connection(struct co_call_state *state, bool offline, bool connecting)
{
    struct co_endpoint *ep = state->ep;
    if (co_endpoint_usable(ep)) {
        state->call.conn = ep->conn;
        return CO_DONE;
    }
    bool had = ep->conn != NULL;
    co_endpoint_close(ep);
    if (ep->hold && !connecting) {
        if (offline)
            return CO_DONE;
        co_fail(state->err, CO_E_UNREACHABLE, "the connection %s, and none is opened inside the write pause",
                had ? "was lost" : "isn't open");
        return CO_NO_EFFECT;
    }
    int64_t deadline_ns = state->deadline_ns;
    if (offline)
        state->deadline_ns = half_of(deadline_ns);
    state->call.deadline_ns = state->deadline_ns;
    enum co_result result = connect_now(state);
    if (result == CO_DONE && ep->was_connected && state->has_run && ep->pair->journal) {
        CO_TEXT_AUTO text = CO_TEXT_INIT;
        co_text_add(&text, "the connection to side %s was lost and is open again, for %s", co_side_name(ep->side), state->what);
        co_journal_event(ep->pair->journal, state->run.id, co_pair_name(ep->pair), "reconnected", co_text_str(&text), NULL);
    }
    ep->was_connected = ep->was_connected || result == CO_DONE;
    state->deadline_ns = state->call.deadline_ns = deadline_ns;
    if (result != CO_DONE && offline && is_away(state->err->code)) {
        co_debug("%s: goes on without a connection: %s", state->what, state->err->message);
        co_error_clear(state->err);
        return CO_DONE;
    }
    return result;
}

/* The other side is a help, not a condition: whoever needs it says so. */
static void connect_other(struct co_call_state *state, struct co_endpoint *other)
{
    if (!co_endpoint_usable(other) && !other->hold && !co_endpoint_interrupted(other)) {
        struct co_error err = {0};
        if (co_ep_connect(other, half_of(state->deadline_ns), &err) != CO_DONE)
            co_debug("%s: goes on without the other side: %s", state->what, err.message);
    }
    if (co_endpoint_usable(other))
        state->call.other = other->conn;
}

/* ---------------------------------------------------------------- begin and end of a call */

static bool begin_failed(struct co_call_state *state, enum co_result *ret_result)
{
    *ret_result = CO_NO_EFFECT;
    co_call_end(state);
    return false;
}

static int copy_run(struct co_call_state *state)
{
    struct co_pair *pair = state->pair;
    if (state->ep->issued) {
        state->has_run = state->ep->issued->id != NULL;
        return co_run_copy_set(&state->run, state->has_run ? &state->ep->issued->run : NULL);
    }
    pthread_mutex_lock(&pair->lock);
    int rc = pair->notes_error.code;
    if (rc < 0) {
        *state->err = pair->notes_error;
    } else {
        state->has_run = pair->has_run;
        rc = co_run_copy_set(&state->run, pair->has_run ? &pair->run.run : NULL);
        if (rc < 0)
            co_fail(state->err, rc, "no memory for a call");
    }
    pthread_mutex_unlock(&pair->lock);
    return rc;
}

bool co_call_begin(struct co_call_state *state, struct co_endpoint *ep, struct co_endpoint *other, const char *what,
                   bool offline, int64_t deadline_ns, struct co_error *err, enum co_result *ret_result)
{
    *state = (struct co_call_state){.ep = ep, .pair = ep->pair, .what = what, .deadline_ns = deadline_ns, .err = err};
    co_error_clear(err);
    if (copy_run(state) < 0)
        return begin_failed(state, ret_result);
    state->call = (struct co_call){.size = sizeof state->call,
                                   .host = &co_host_table,
                                   .ctx = state,
                                   .side = ep->side,
                                   .role = co_endpoint_role(ep),
                                   .run = state->has_run ? &state->run.run : NULL,
                                   .deadline_ns = deadline_ns,
                                   .err = err};
    if (co_endpoint_interrupted(ep)) {
        co_fail(err, CO_E_INTERRUPTED, "interrupted before it was done");
        return begin_failed(state, ret_result);
    }
    if (deadline_ns <= co_now_ns()) {
        co_fail(err, CO_E_TIMEOUT, "the deadline had passed before it was tried");
        return begin_failed(state, ret_result);
    }
    pthread_mutex_lock(&ep->lock);
    ep->busy = true;
    pthread_mutex_unlock(&ep->lock);
    bool connecting = strcmp(what, "connect") == 0;
    if (ensure_connection(state, offline, connecting) != CO_DONE)
        return begin_failed(state, ret_result);
    if (other)
        connect_other(state, other);
    return true;
}

void co_call_end(struct co_call_state *state)
{
    pthread_mutex_lock(&state->ep->lock);
    state->ep->busy = false;
    pthread_mutex_unlock(&state->ep->lock);
    while (state->kept) {
        struct co_kept_string *gone = state->kept;
        state->kept = gone->next;
        free(gone);
    }
    while (state->texts) {
        struct co_own_text *gone = state->texts;
        state->texts = gone->next;
        co_text_done(&gone->text);
        free(gone);
    }
    co_run_copy_set(&state->run, NULL);
}

void co_error_side(struct co_error *err, const struct co_endpoint *ep)
{
    const struct co_endpoint_config *config = &ep->pair->pair_config->side[ep->side].endpoint;
    if (config->address && *config->address && config->port > 0 && config->address[0] != '/')
        co_error_prefix(err, "pair %s, side %s (%s:%d): ", co_pair_name(ep->pair), co_side_name(ep->side), config->address,
                        config->port);
    else
        co_error_prefix(err, "pair %s, side %s (%s): ", co_pair_name(ep->pair), co_side_name(ep->side),
                        config->address && *config->address ? config->address : "no address");
}
