/* run.c - what a cutover calls besides its steps: marker, notes, drain, capture, proof, sessions, a real write. */
#include "fake.h"

#include <stdio.h>
#include <string.h>

#define REPLY_MARGIN_NS INT64_C(20000000) /* of a wait on the server, for its answer to arrive in time */

static void put(struct co_call *call, struct co_text *text, const char *value)
{
    call->host->text_set(call->ctx, text, value, strlen(value));
}

enum co_result fake_marker_get(struct co_call *call, struct co_text *ret_token, struct co_text *ret_info)
{
    FAKE_ANSWER answer = {0};
    enum co_result result = fake_look(call, call->conn, "marker_get", &answer);
    if (result == CO_DONE) {
        put(call, ret_token, fake_value(&answer, "token"));
        put(call, ret_info, fake_value(&answer, "info"));
    }
    return result;
}

enum co_result fake_marker_set(struct co_call *call, const char *expected, const char *token, const char *info)
{
    FAKE_ANSWER answer = {0};
    FAKE_LINE line = {0};
    fk_buffer_str(&line, "marker_set");
    fk_put(&line, "expected", expected);
    fk_put(&line, "token", token);
    fk_put(&line, "info", info);
    return fake_ask(call, call->conn, &line, true, &answer);
}

/* Nothing is slow here; but originals that a revert must put back are noted before anything is changed. */
enum co_result fake_prepare(struct co_call *call)
{
    FAKE_ANSWER look = {0};
    enum co_result result = fake_look(call, call->conn, "look", &look);
    if (result != CO_DONE) {
        return result;
    }
    if (!call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "events_off") &&
        call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, "events_off", fake_value(&look, "events_off")) != 0) {
        return fake_fail(call, CO_NO_EFFECT, CO_E_IO, "the original settings can't be noted", NULL);
    }
    return CO_DONE;
}

enum co_result fake_drain(struct co_call *call, bool end, struct co_text *remaining)
{
    FAKE_ANSWER answer = {0};
    FAKE_LINE line = {0};
    fk_buffer_str(&line, "drain");
    fk_put_int(&line, "end", end);
    fk_put(&line, "token", call->run->token);
    enum co_result result = fake_ask(call, call->conn, &line, end, &answer);
    if (result != CO_DONE) {
        return result;
    }
    const char *who = fake_value(&answer, "remaining");
    put(call, remaining, who);
    return *who ? CO_AGAIN : CO_DONE; /* those that were ended are seen gone by the next call */
}

/* Why the source could still be written to, or NULL. */
static const char *fence_gap(const struct fake_answer *look)
{
    if (strcmp(fake_value(look, "role"), "primary") != 0) {
        return "the source is no primary any more";
    }
    if (!fake_flag(look, "fence")) {
        return "the source's fence isn't there";
    }
    if (!fake_flag(look, "events_off")) {
        return "the source's own events aren't off";
    }
    if (fk_get_int(&look->message, "transactions", -1) != 0) {
        return "the source has transactions in flight";
    }
    return NULL;
}

enum co_result fake_capture(struct co_call *call, struct co_text *ret)
{
    FAKE_ANSWER look = {0};
    enum co_result result = fake_look(call, call->conn, "capture", &look);
    if (result != CO_DONE) {
        return result;
    }
    const char *gap = fence_gap(&look); /* position and fence come in one answer: nothing lies between them */
    if (gap) {
        return fake_fail(call, CO_NO_EFFECT, CO_E_STATE, gap, "The final position can only be read behind a fence.");
    }
    if (call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, "captured_incarnation", fake_value(&look, "incarnation")) !=
        0) {
        return fake_fail(call, CO_NO_EFFECT, CO_E_IO, "what was captured can't be noted", NULL);
    }
    put(call, ret, fake_value(&look, "position"));
    return CO_DONE;
}

static const char *source_doubt(struct co_call *call, const struct fake_answer *look, const char *position)
{
    const char *incarnation = call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "captured_incarnation");
    const char *gap = fence_gap(look);
    if (gap) {
        return gap;
    }
    if (!incarnation || strcmp(incarnation, fake_value(look, "incarnation")) != 0) {
        return "the source was restarted since its final position was read";
    }
    if (fake_compare(fake_value(look, "position"), position) != CO_ORDER_EQUAL) {
        return "the source was written to since its final position was read";
    }
    return NULL;
}

static const char *target_doubt(struct co_call *call, const struct fake_answer *look, const char *position)
{
    bool promoted = strcmp(fake_value(look, "role"), "primary") == 0;
    if (!promoted && call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "promotion_sent")) {
        return "the target isn't a primary, though it was promoted";
    }
    bool opens = promoted && fake_variant(call) == FAKE_NOVOTE; /* it can't be a primary and closed */
    if (!fake_flag(look, "closure") && !opens) {
        return "the target's closure isn't there";
    }
    if (fk_get_int(&look->message, "clients", -1) != 0 && !opens) {
        return "the target has client sessions";
    }
    if (*fake_value(look, "apply_error")) {
        return "the target has an apply error";
    }
    enum co_order order = fake_compare(fake_value(look, "position"), position);
    if (order != CO_ORDER_EQUAL && order != CO_ORDER_AHEAD) {
        return order == CO_ORDER_BEHIND ? "the target hasn't applied the final position"
                                        : "the target's history isn't the source's";
    }
    return NULL;
}

enum co_result fake_proof(struct co_call *call, const char *position)
{
    FAKE_ANSWER look = {0};
    enum co_result result = fake_look(call, call->conn, "proof", &look);
    if (result != CO_DONE) {
        return result;
    }
    const char *doubt = call->role == CO_SOURCE ? source_doubt(call, &look, position) : target_doubt(call, &look, position);
    return doubt ? fake_fail(call, CO_NO_EFFECT, CO_E_STATE, doubt, "The run is undone; start it again.") : CO_DONE;
}

enum co_result fake_end_sessions(struct co_call *call, const char *keep_actor)
{
    FAKE_ANSWER answer = {0};
    FAKE_LINE line = {0};
    fk_buffer_str(&line, "end_sessions");
    fk_put(&line, "run", call->run->id);
    fk_put(&line, "actor", call->run->actor);
    fk_put(&line, "keep", keep_actor);
    return fake_ask(call, call->conn, &line, true, &answer); /* the server answers when they are gone */
}

enum co_result fake_probe_write(struct co_call *call)
{
    FAKE_ANSWER answer = {0};
    FAKE_LINE line = {0};
    struct co_conn *conn = NULL;
    const char *account = call->host->secret_user(call->ctx, CO_SECRET_PROBE);
    enum co_secret which = account ? CO_SECRET_PROBE : CO_SECRET_PASSWORD;
    enum co_result result =
        fake_login(call, account ? account : "tool", call->host->secret(call->ctx, call->side, which), &conn);
    if (result != CO_DONE) {
        return result;
    }
    fk_buffer_str(&line, "write key=changeover_probe");
    fk_put(&line, "value", call->run ? call->run->id : "");
    result = fake_ask(call, conn, &line, true, &answer);
    fake_disconnect(conn);
    return result;
}

enum co_result fake_wait_applied(struct co_call *call, const char *position)
{
    FAKE_ANSWER answer = {0};
    FAKE_LINE line = {0};
    int64_t left_ns = call->deadline_ns - call->host->now_ns(call->ctx) - REPLY_MARGIN_NS;
    fk_buffer_str(&line, "wait");
    fk_put(&line, "position", position);
    fk_put_int(&line, "ms", left_ns > 0 ? left_ns / 1000000 : 0);
    enum co_result result = fake_ask(call, call->conn, &line, false, &answer);
    return result == CO_DONE && !fake_flag(&answer, "reached") ? CO_AGAIN : result;
}

/* One transfer of everything that the source has now. */
enum co_result fake_round(struct co_call *call)
{
    FAKE_ANSWER answer = {0};
    struct co_conn *target = call->role == CO_TARGET ? call->conn : call->other;
    FAKE_LINE line = {0};
    if (!target) {
        return fake_fail(call, CO_NO_EFFECT, CO_E_UNREACHABLE, "a round needs the target", NULL);
    }
    if (!target->round_running) {
        fk_buffer_str(&line, "round");
        enum co_result result = fake_ask(call, target, &line, true, &answer);
        target->round_running = result == CO_DONE;
        return result == CO_DONE ? CO_AGAIN : result;
    }
    enum co_result result = fake_look(call, target, "look", &answer);
    if (result != CO_DONE) {
        return result;
    }
    if (*fake_value(&answer, "link_error")) {
        target->round_running = false;
        return fake_fail(call, CO_NO_EFFECT, CO_E_BROKEN, fake_value(&answer, "link_error"),
                         "See that the target can reach the source.");
    }
    struct co_progress progress = {
        .what = "round", .done = fk_get_int(&answer.message, "received", -1), .total = -1, .unit = "entries"};
    call->host->progress(call->ctx, &progress);
    target->round_running = !fake_flag(&answer, "synced");
    return target->round_running ? CO_AGAIN : CO_DONE;
}
