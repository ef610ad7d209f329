/* steps.c - whatever changes a server, each as probe, apply and revert.
 *
 * Invariant: a step's apply and revert are one request, which names the run's token, and which the server executes
 * as a whole or not at all; the same request twice is as good as once. What a probe says, the server said.
 */
#include "fake.h"

#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- requests */

static void start(struct fk_buffer *line, const char *verb)
{
    fk_buffer_str(line, verb);
}

static enum co_result change(struct co_call *call, struct fk_buffer *line)
{
    FAKE_ANSWER answer = {0};
    fk_put(line, "token", call->run ? call->run->token : NULL);
    return fake_ask(call, call->conn, line, true, &answer);
}

static enum co_result set_flag(struct co_call *call, const char *verb, bool on)
{
    FAKE_LINE line = {0};
    start(&line, verb);
    fk_put_int(&line, "on", on);
    return change(call, &line);
}

static enum co_result probe_flag(struct co_call *call, const char *key, enum co_presence *ret)
{
    FAKE_ANSWER look = {0};
    enum co_result result = fake_look(call, call->conn, "look", &look);
    if (result == CO_DONE) {
        *ret = fake_flag(&look, key) ? CO_PRESENT : CO_ABSENT;
    }
    return result;
}

static enum co_result say(struct co_call *call, struct co_text *ret, const char *statement)
{
    call->host->text_set(call->ctx, ret, statement, strlen(statement));
    return CO_DONE;
}

/* ---------------------------------------------------------------- setup */

static bool has_slot(struct co_call *call, const struct fake_answer *look)
{
    FAKE_LINE name = {0};
    fk_buffer_str(&name, fake_slot(call));
    fk_buffer_str(&name, ",");
    return strstr(fake_value(look, "slots"), name.data) != NULL;
}

static enum co_result slot_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret, "slot name=%s on=1", fake_slot(call));
    return CO_DONE;
}

static enum co_result slot_probe(struct co_call *call, enum co_presence *ret)
{
    FAKE_ANSWER look = {0};
    enum co_result result = fake_look(call, call->conn, "look", &look);
    if (result == CO_DONE) {
        *ret = has_slot(call, &look) ? CO_PRESENT : CO_ABSENT;
    }
    return result;
}

static enum co_result slot_set(struct co_call *call, bool on)
{
    FAKE_LINE line = {0};
    start(&line, "slot or_none=1");
    fk_put(&line, "name", fake_slot(call));
    fk_put_int(&line, "on", on);
    return change(call, &line);
}

static enum co_result slot_apply(struct co_call *call)
{
    return slot_set(call, true);
}

static enum co_result slot_revert(struct co_call *call)
{
    return slot_set(call, false);
}

/* The request that makes this side follow the other one. */
static void follow_line(struct co_call *call, struct fk_buffer *line, const char *how)
{
    FAKE_LINE peer = {0};
    fake_peer(call, call->side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A, &peer);
    start(line, "follow");
    fk_buffer_str(line, how);
    fk_put(line, "source", peer.data);
    fk_put(line, "slot", fake_slot(call));
    fk_put_int(line, "streaming", fake_variant(call) != FAKE_ROUNDS);
}

static enum co_result follow_describe(struct co_call *call, struct co_text *ret)
{
    FAKE_LINE line = {0};
    follow_line(call, &line, "");
    return say(call, ret, line.data);
}

static bool follows_other(struct co_call *call, const struct fake_answer *look)
{
    FAKE_LINE peer = {0};
    fake_peer(call, call->side == CO_SIDE_A ? CO_SIDE_B : CO_SIDE_A, &peer);
    return strcmp(fake_value(look, "role"), "follower") == 0 && strcmp(fake_value(look, "source"), peer.data) == 0;
}

static enum co_result copy_probe(struct co_call *call, enum co_presence *ret)
{
    FAKE_ANSWER look = {0};
    enum co_result result = fake_look(call, call->conn, "look", &look);
    if (result == CO_DONE) {
        bool whole = fake_flag(&look, "synced") || fake_variant(call) == FAKE_ROUNDS;
        *ret = !follows_other(call, &look) ? CO_ABSENT : whole ? CO_PRESENT : CO_PARTIAL;
    }
    return result;
}

static enum co_result copy_apply(struct co_call *call)
{
    FAKE_LINE line = {0};
    FAKE_ANSWER look = {0};
    follow_line(call, &line, " empty=1 or_none=1");
    enum co_result result = change(call, &line);
    if (result != CO_DONE || fake_variant(call) == FAKE_ROUNDS) {
        return result;
    }
    result = fake_look(call, call->conn, "look", &look);
    if (result != CO_DONE || fake_flag(&look, "synced")) {
        return result;
    }
    if (*fake_value(&look, "link_error")) {
        return fake_fail(call, CO_NO_EFFECT, CO_E_BROKEN, fake_value(&look, "link_error"),
                         "See that the target's server can reach the source at its `peer` address.");
    }
    struct co_progress progress = {
        .what = "copy", .done = fk_get_int(&look.message, "received", -1), .total = -1, .unit = "entries"};
    call->host->progress(call->ctx, &progress);
    return CO_AGAIN;
}

static enum co_result unfollow_apply(struct co_call *call)
{
    FAKE_LINE line = {0};
    start(&line, "unfollow or_none=1");
    return change(call, &line);
}

/* ---------------------------------------------------------------- the target is closed */

static enum co_result close_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, "close on=1 token=<token>");
}

static enum co_result close_probe(struct co_call *call, enum co_presence *ret)
{
    return probe_flag(call, "closure", ret);
}

static enum co_result close_apply(struct co_call *call)
{
    return set_flag(call, "close", true);
}

static enum co_result close_revert(struct co_call *call)
{
    return set_flag(call, "close", false); /* refused by a primary: that is what `open` is for */
}

static enum co_result end_clients_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, "end_clients token=<token>");
}

static enum co_result end_clients_probe(struct co_call *call, enum co_presence *ret)
{
    FAKE_ANSWER look = {0};
    enum co_result result = fake_look(call, call->conn, "look", &look);
    if (result == CO_DONE) {
        *ret = fk_get_int(&look.message, "clients", -1) == 0 ? CO_PRESENT : CO_ABSENT;
    }
    return result;
}

static enum co_result end_clients_apply(struct co_call *call)
{
    FAKE_LINE line = {0};
    start(&line, "end_clients");
    return change(call, &line);
}

/* ---------------------------------------------------------------- the fence */

static enum co_result events_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, "events on=1 token=<token>");
}

static enum co_result events_probe(struct co_call *call, enum co_presence *ret)
{
    return probe_flag(call, "events_off", ret);
}

static enum co_result events_apply(struct co_call *call)
{
    return set_flag(call, "events", true);
}

static enum co_result events_revert(struct co_call *call)
{
    const char *original = call->host->note_get(call->ctx, CO_NOTE_RUN, call->side, "events_off");
    return set_flag(call, "events", original && strcmp(original, "1") == 0);
}

static enum co_result fence_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, "fence on=1 token=<token>");
}

static enum co_result fence_probe(struct co_call *call, enum co_presence *ret)
{
    return probe_flag(call, "fence", ret);
}

static enum co_result fence_apply(struct co_call *call)
{
    return set_flag(call, "fence", true);
}

static enum co_result fence_revert(struct co_call *call)
{
    return set_flag(call, "fence", false);
}

static enum co_result retire_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, "retire on=1 token=<token>");
}

static enum co_result retire_probe(struct co_call *call, enum co_presence *ret)
{
    return probe_flag(call, "retired", ret);
}

static enum co_result retire_apply(struct co_call *call)
{
    return set_flag(call, "retire", true);
}

static enum co_result retire_revert(struct co_call *call)
{
    return set_flag(call, "retire", false);
}

/* ---------------------------------------------------------------- promotion and opening */

static enum co_result promote_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, fake_variant(call) == FAKE_NOVOTE ? "promote open=1 token=<token>" : "promote token=<token>");
}

static enum co_result promote_probe(struct co_call *call, enum co_presence *ret)
{
    FAKE_ANSWER look = {0};
    enum co_result result = fake_look(call, call->conn, "look", &look);
    if (result == CO_DONE) {
        *ret = strcmp(fake_value(&look, "role"), "primary") == 0 ? CO_PRESENT : CO_ABSENT;
    }
    return result;
}

static enum co_result promote_apply(struct co_call *call)
{
    FAKE_LINE line = {0};
    /* From here on proof() wants to see a primary, whatever this request is answered. */
    if (call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, "promotion_sent", "1") != 0) {
        return fake_fail(call, CO_NO_EFFECT, CO_E_IO, "that the promotion is sent can't be noted", NULL);
    }
    start(&line, "promote");
    fk_put_int(&line, "open", fake_variant(call) == FAKE_NOVOTE);
    return change(call, &line);
}

static enum co_result promote_revert(struct co_call *call)
{
    FAKE_LINE line = {0};
    start(&line, "demote");
    enum co_result result = change(call, &line);
    if (result == CO_DONE) {
        (void)call->host->note_put(call->ctx, CO_NOTE_RUN, call->side, "promotion_sent", NULL);
    }
    return result;
}

static enum co_result open_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, "open token=<token>");
}

static enum co_result open_probe(struct co_call *call, enum co_presence *ret)
{
    return probe_flag(call, "accepts_writes", ret);
}

static enum co_result open_apply(struct co_call *call)
{
    FAKE_LINE line = {0};
    start(&line, "open");
    return change(call, &line);
}

/* ---------------------------------------------------------------- the way back */

static enum co_result reverse_describe(struct co_call *call, struct co_text *ret)
{
    FAKE_LINE line = {0};
    follow_line(call, &line, " drop_slot=1");
    fk_buffer_str(&line, " token=<token>");
    return say(call, ret, line.data);
}

static enum co_result reverse_probe(struct co_call *call, enum co_presence *ret)
{
    FAKE_ANSWER look = {0};
    enum co_result result = fake_look(call, call->conn, "look", &look);
    if (result == CO_DONE) {
        *ret = follows_other(call, &look) ? CO_PRESENT : CO_ABSENT;
    }
    return result;
}

/* In one request from a fenced primary to a follower: there is no moment in which neither holds. */
static enum co_result reverse_apply(struct co_call *call)
{
    FAKE_LINE line = {0};
    follow_line(call, &line, " drop_slot=1");
    return change(call, &line);
}

/* ---------------------------------------------------------------- undo */

static enum co_result async_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, "sync on=0 token=<token>");
}

/* Clients' writes wait for a follower: without one they would wait for ever. */
static enum co_result async_probe(struct co_call *call, enum co_presence *ret)
{
    FAKE_ANSWER look = {0};
    enum co_result result = fake_look(call, call->conn, "look", &look);
    if (result == CO_DONE) {
        bool stuck = fake_flag(&look, "sync") && fk_get_int(&look.message, "followers", 0) == 0;
        *ret = stuck ? CO_ABSENT : CO_PRESENT;
    }
    return result;
}

static enum co_result async_apply(struct co_call *call)
{
    return set_flag(call, "sync", false);
}

/* ---------------------------------------------------------------- detach */

static enum co_result unfollow_describe(struct co_call *call, struct co_text *ret)
{
    return say(call, ret, "unfollow");
}

static enum co_result unfollow_probe(struct co_call *call, enum co_presence *ret)
{
    FAKE_ANSWER look = {0};
    enum co_result result = fake_look(call, call->conn, "look", &look);
    if (result == CO_DONE) {
        *ret = *fake_value(&look, "source") ? CO_ABSENT : CO_PRESENT;
    }
    return result;
}

static enum co_result drop_slot_describe(struct co_call *call, struct co_text *ret)
{
    call->host->text_add(call->ctx, ret, "slot name=%s on=0", fake_slot(call));
    return CO_DONE;
}

static enum co_result drop_slot_probe(struct co_call *call, enum co_presence *ret)
{
    enum co_presence slot = CO_ABSENT;
    enum co_result result = slot_probe(call, &slot);
    if (result == CO_DONE) {
        *ret = slot == CO_PRESENT ? CO_ABSENT : CO_PRESENT;
    }
    return result;
}

/* ---------------------------------------------------------------- the table */

#define STEP(step_name, step_title, step_phase, step_role, step_flags, functions, step_apply, step_revert)                     \
    {                                                                                                                          \
        .size = sizeof(struct co_step), .name = (step_name), .title = (step_title), .phase = (step_phase),                     \
        .role = (step_role), .flags = (step_flags), .describe = functions##_describe, .probe = functions##_probe,              \
        .apply = (step_apply), .revert = (step_revert)                                                                         \
    }

const struct co_step fake_steps[FAKE_STEP_COUNT] = {
    STEP("setup.slot", "let a follower in", CO_PHASE_SETUP, CO_SOURCE, CO_STEP_KEEPS, slot, slot_apply, slot_revert),
    {.size = sizeof(struct co_step),
     .name = "setup.copy",
     .title = "copy the source and follow it",
     .phase = CO_PHASE_SETUP,
     .role = CO_TARGET,
     .flags = CO_STEP_SLOW | CO_STEP_KEEPS,
     .describe = follow_describe,
     .probe = copy_probe,
     .apply = copy_apply,
     .revert = unfollow_apply},
    STEP("warm_up.close", "refuse clients on the target", CO_PHASE_WARM_UP, CO_TARGET, 0, close, close_apply, close_revert),
    STEP("warm_up.end_clients", "end the clients' sessions on the target", CO_PHASE_WARM_UP, CO_TARGET, CO_STEP_NO_WAY_BACK,
         end_clients, end_clients_apply, NULL),
    STEP("fence.stop_events", "stop the server's own events", CO_PHASE_FENCE, CO_SOURCE, 0, events, events_apply,
         events_revert),
    STEP("fence.refuse_writes", "refuse clients' writes on the source", CO_PHASE_FENCE, CO_SOURCE, 0, fence, fence_apply,
         fence_revert),
    STEP("reverse_prepare.retire", "keep the source from becoming a writable primary again", CO_PHASE_REVERSE_PREPARE,
         CO_SOURCE, 0, retire, retire_apply, retire_revert),
    STEP("promote.primary", "make the target a primary", CO_PHASE_PROMOTE, CO_TARGET, 0, promote, promote_apply,
         promote_revert),
    STEP("open.accept_writes", "accept clients on the target", CO_PHASE_OPEN, CO_TARGET, CO_STEP_NO_WAY_BACK, open, open_apply,
         NULL),
    STEP("reverse.slot", "let the old source follow", CO_PHASE_REVERSE, CO_TARGET, 0, slot, slot_apply, slot_revert),
    STEP("reverse.follow", "make the old source follow the new primary", CO_PHASE_REVERSE, CO_SOURCE, CO_STEP_NO_WAY_BACK,
         reverse, reverse_apply, NULL),
    STEP("undo.async", "let writes not wait for a follower that isn't there", CO_PHASE_UNDO, CO_SOURCE, CO_STEP_NO_WAY_BACK,
         async, async_apply, NULL),
    STEP("detach.unfollow", "stop following", CO_PHASE_DETACH, CO_TARGET, CO_STEP_NO_WAY_BACK, unfollow, unfollow_apply, NULL),
    STEP("detach.slot", "let no follower in", CO_PHASE_DETACH, CO_SOURCE, CO_STEP_NO_WAY_BACK, drop_slot, slot_revert, NULL),
};
