/* look.c - everything that only reads: who a server is, what it is set to, how far it is, whether it follows. */
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "position.h"

#define LINK_SILENT_MS 1000 /* ten heartbeats of the server */

static void put(struct co_call *call, struct co_text *text, const char *value)
{
    call->host->text_set(call->ctx, text, value, strlen(value));
}

enum co_result fake_identify(struct co_call *call, struct co_identity *ret)
{
    FAKE_ANSWER look = {0};
    enum co_result result = fake_look(call, call->conn, "look", &look);
    if (result != CO_DONE) {
        return result;
    }
    put(call, ret->product, "fake");
    put(call, ret->version, fake_value(&look, "version"));
    put(call, ret->instance, fake_value(&look, "instance"));
    put(call, ret->lineage, fake_value(&look, "lineage"));
    put(call, ret->incarnation, fake_value(&look, "incarnation"));
    ret->role = strcmp(fake_value(&look, "role"), "primary") == 0 ? CO_ROLE_PRIMARY : CO_ROLE_FOLLOWER;
    ret->accepts_writes = fake_flag(&look, "accepts_writes") ? CO_YES : CO_NO;
    ret->fenced = fake_flag(&look, "fence") || fake_flag(&look, "closure") ? CO_YES : CO_NO;
    ret->empty = fk_get_int(&look.message, "seq", 0) == 0 ? CO_YES : CO_NO;
    ret->data_bytes = fk_get_int(&look.message, "bytes", -1);
    return CO_DONE;
}

enum co_result fake_capabilities(struct co_call *call, struct co_capabilities *ret)
{
    enum fake_variant variant = fake_variant(call);
    ret->promote_closed = variant != FAKE_NOVOTE;
    ret->restart_proof = true;
    ret->rounds = variant == FAKE_ROUNDS;
    ret->reverse = true;
    ret->scope_database = false;
    ret->destroys_on_reverse = false;
    ret->undo_keeps_target = true;
    return CO_DONE;
}

enum co_result fake_settings(struct co_call *call)
{
    static const char *const settings[] = {"fence", "closure", "retired",        "events_off",      "events_ms",
                                           "sync",  "slots",   "apply_delay_ms", "idle_timeout_ms", "source"};
    FAKE_ANSWER look = {0};
    enum co_result result = fake_look(call, call->conn, "look", &look);
    if (result != CO_DONE) {
        return result;
    }
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        call->host->fact(call->ctx, "setting", settings[i], fake_value(&look, settings[i]));
    }
    call->host->fact(call->ctx, "version", "server", fake_value(&look, "version"));
    call->host->fact(call->ctx, "size", "data_bytes", fake_value(&look, "bytes"));
    call->host->fact(call->ctx, "count", "entries", fake_value(&look, "seq"));
    return CO_DONE;
}

enum co_result fake_discover(struct co_call *call)
{
    FAKE_ANSWER look = {0};
    enum co_result result = fake_look(call, call->conn, "look", &look);
    if (result != CO_DONE) {
        return result;
    }
    const char *token = fake_value(&look, "token");
    if (*token) {
        char run[64];
        snprintf(run, sizeof run, "%.*s", (int)strcspn(token, ":"), token);
        call->host->found(call->ctx, "marker", token, run);
    }
    if (fake_flag(&look, "fence")) {
        call->host->found(call->ctx, "fence", "fence", NULL);
    }
    if (fake_flag(&look, "closure")) {
        call->host->found(call->ctx, "closure", "closure", NULL);
    }
    for (const char *at = fake_value(&look, "slots"); *at;) {
        char slot[128];
        size_t bytes = strcspn(at, ",");
        snprintf(slot, sizeof slot, "%.*s", (int)bytes, at);
        call->host->found(call->ctx, "slot", slot, NULL);
        at += bytes + (at[bytes] == ',');
    }
    if (*fake_value(&look, "source")) {
        call->host->found(call->ctx, "replication", fake_value(&look, "source"), NULL);
    }
    return CO_DONE;
}

/* ---------------------------------------------------------------- pre-flight */

static void report(struct co_call *call, const char *code, enum co_severity severity, int side, const char *message,
                   const char *remedy)
{
    struct co_finding finding = {.code = code, .severity = severity, .side = side, .message = message, .remedy = remedy};
    call->host->finding(call->ctx, &finding);
}

static void check_source(struct co_call *call, const struct fake_answer *source, enum co_side side)
{
    if (strcmp(fake_value(source, "role"), "primary") != 0) {
        report(call, "source_is_follower", CO_ERROR, (int)side, "the source follows another server, so it isn't the primary",
               "Name the primary as this side, or promote it first.");
    } else if (!fake_flag(source, "accepts_writes") && !*fake_value(source, "token")) {
        report(call, "source_refuses_writes", CO_ERROR, (int)side,
               "the source refuses writes and no run says why: somebody else has fenced it", "Lift the fence that isn't ours.");
    }
    if (fk_get_int(&source->message, "events_ms", 0) > 0 && !fake_flag(source, "events_off")) {
        report(call, "events_run", CO_INFO, (int)side, "the server's own events write; they are stopped with the fence", "");
    }
    if (fake_flag(source, "sync")) {
        report(call, "synchronous_follower", CO_WARNING, (int)side,
               "writes wait for a follower: an undo turns that off while no follower is there", "set sync=0");
    }
}

static void check_target_setup(struct co_call *call, const struct fake_answer *source, const struct fake_answer *target,
                               enum co_side side)
{
    bool follower = strcmp(fake_value(target, "role"), "follower") == 0;
    const char *lineage = fake_value(target, "lineage");
    if (!follower && fk_get_int(&target->message, "seq", 0) > 0) {
        report(call, "target_not_empty", CO_ERROR, (int)side, "the target holds data of its own, which setup would replace",
               "Use an empty server.");
    } else if (source && follower && *lineage && strcmp(lineage, fake_value(source, "lineage")) != 0) {
        report(call, "other_lineage", CO_ERROR, (int)side, "the target follows, or followed, another database",
               "Use an empty server.");
    }
}

static void check_target_cutover(struct co_call *call, const struct fake_answer *source, const struct fake_answer *target,
                                 enum co_side side)
{
    FAKE_LINE peer = {0};
    fake_peer(call, fake_side_of(call, CO_SOURCE), &peer);
    if (strcmp(fake_value(target, "role"), "follower") != 0 || strcmp(fake_value(target, "source"), peer.data) != 0) {
        report(call, "target_not_following", CO_ERROR, (int)side, "the target doesn't follow the source",
               "Run `changeover setup`.");
        return;
    }
    if (source && strcmp(fake_value(source, "lineage"), fake_value(target, "lineage")) != 0) {
        report(call, "other_lineage", CO_ERROR, (int)side, "the target holds another database's history",
               "Use an empty server.");
    }
    if (*fake_value(target, "link_error") || *fake_value(target, "apply_error")) {
        const char *error = fake_value(target, *fake_value(target, "apply_error") ? "apply_error" : "link_error");
        char message[300];
        snprintf(message, sizeof message, "replication doesn't run: %.240s", error);
        report(call, "replication_broken", CO_ERROR, (int)side, message, "Repair it; then `changeover lag`.");
    }
    if (fk_get_int(&target->message, "apply_delay_ms", 0) > 0) {
        report(call, "apply_delayed", CO_WARNING, (int)side,
               "the target applies late on purpose, which lengthens the write pause", "set apply_delay_ms=0");
    }
}

enum co_result fake_check(struct co_call *call, enum co_check_stage stage)
{
    FAKE_ANSWER mine = {0};
    FAKE_ANSWER others = {0};
    enum co_side sides[2] = {fake_side_of(call, CO_SOURCE), fake_side_of(call, CO_TARGET)};
    struct co_conn *conns[2] = {call->role == CO_SOURCE ? call->conn : call->other,
                                call->role == CO_SOURCE ? call->other : call->conn};
    struct fake_answer *looks[2] = {&mine, &others};
    for (int i = 0; i < 2; i++) {
        if (!conns[i] || fake_look(call, conns[i], "look", looks[i]) != CO_DONE) {
            report(call, CO_FINDING_UNREACHABLE, CO_ERROR, (int)sides[i], "this side can't be reached, so it wasn't checked",
                   "Start it, or correct its url.");
            looks[i] = NULL;
        }
    }
    if (looks[0]) {
        check_source(call, looks[0], sides[0]);
    }
    if (looks[0] && looks[1] && strcmp(fake_value(looks[0], "instance"), fake_value(looks[1], "instance")) == 0) {
        report(call, "same_server", CO_ERROR, -1, "both urls lead to the same server", "Correct the url of one side.");
        return CO_DONE;
    }
    if (looks[1]) {
        (stage == CO_CHECK_SETUP ? check_target_setup : check_target_cutover)(call, looks[0], looks[1], sides[1]);
    }
    return CO_DONE;
}

/* ---------------------------------------------------------------- positions and the link */

enum co_result fake_position(struct co_call *call, struct co_text *ret)
{
    FAKE_ANSWER look = {0};
    enum co_result result = fake_look(call, call->conn, "position", &look);
    if (result != CO_DONE) {
        return result;
    }
    if (strcmp(fake_value(&look, "role"), "primary") != 0) {
        return fake_fail(call, CO_NO_EFFECT, CO_E_STATE, "the server is a follower: it has no position of its own",
                         "See `changeover status` for who is the primary.");
    }
    put(call, ret, fake_value(&look, "position"));
    return CO_DONE;
}

enum co_result fake_applied(struct co_call *call, struct co_text *ret)
{
    FAKE_ANSWER look = {0};
    enum co_result result = fake_look(call, call->conn, "applied", &look);
    if (result == CO_DONE) {
        put(call, ret, fake_value(&look, "position"));
    }
    return result;
}

/* Two positions on the heap: they carry their whole history. */
struct two_positions {
    struct fk_position have, want;
};

static struct two_positions *parse_two(const char *have, const char *want)
{
    struct two_positions *two = calloc(1, sizeof *two);
    if (two && (!fk_position_parse(have, &two->have) || !fk_position_parse(want, &two->want))) {
        free(two);
        two = NULL;
    }
    return two;
}

enum co_order fake_compare(const char *have, const char *want)
{
    struct two_positions *two = parse_two(have, want);
    enum co_order order = two ? fk_position_compare(&two->have, &two->want) : CO_ORDER_UNKNOWN;
    free(two);
    return order;
}

void fake_distance(const char *have, const char *want, struct co_distance *ret)
{
    struct two_positions *two = parse_two(have, want);
    ret->bytes = ret->transactions = -1;
    if (two && fk_position_compare(&two->have, &two->want) != CO_ORDER_DIVERGED) {
        int64_t behind = two->want.seq - two->have.seq;
        ret->transactions = behind > 0 ? behind : 0;
    }
    free(two);
}

static enum co_result link_is(struct co_call *call, struct co_link *ret, enum co_link_state state, const char *reason)
{
    ret->state = state;
    put(call, ret->reason, reason);
    return CO_DONE;
}

enum co_result fake_link(struct co_call *call, struct co_link *ret)
{
    FAKE_ANSWER look = {0};
    FAKE_ANSWER source = {0};
    enum co_result result = fake_look(call, call->conn, "link", &look);
    if (result != CO_DONE) {
        return result;
    }
    ret->silent_ms = fk_get_int(&look.message, "silent_ms", -1);
    ret->piled_up_bytes = -1;
    const char *state = fake_value(&look, "link");
    if (strcmp(state, "none") == 0) {
        return link_is(call, ret, CO_LINK_NONE, "the server follows nobody");
    }
    if (*fake_value(&look, "apply_error")) {
        return link_is(call, ret, CO_LINK_BROKEN, fake_value(&look, "apply_error"));
    }
    if (fake_flag(&look, "apply_paused")) {
        return link_is(call, ret, CO_LINK_BROKEN, "applying is paused on the follower");
    }
    if (strcmp(state, "down") == 0 || *fake_value(&look, "link_error")) {
        const char *error = fake_value(&look, "link_error");
        return link_is(call, ret, CO_LINK_BROKEN, *error ? error : "the follower isn't connected to its source");
    }
    if (call->other && fake_look(call, call->other, "look", &source) == CO_DONE) {
        const char *followed = fake_value(&look, "source_instance");
        if (*followed && strcmp(followed, fake_value(&source, "instance")) != 0) {
            return link_is(call, ret, CO_LINK_BROKEN, "the follower follows another server than the source");
        }
    }
    if (strcmp(state, "streaming") == 0 && ret->silent_ms > LINK_SILENT_MS) {
        return link_is(call, ret, CO_LINK_UNKNOWN, "the source hasn't answered its follower for more than a second");
    }
    return link_is(call, ret, CO_LINK_RUNNING, "");
}

/* ---------------------------------------------------------------- digests and grants */

#define DIGEST_RANGE 1000

enum co_result fake_digest(struct co_call *call, const char *range, struct co_text *ret)
{
    FAKE_ANSWER answer = {0};
    FAKE_LINE line = {0};
    char digest[33];
    if (!*range) {
        enum co_result result = fake_look(call, call->conn, "look", &answer);
        int64_t last = result == CO_DONE ? fk_get_int(&answer.message, "seq", 0) : 0;
        for (int64_t from = 1; from <= last; from += DIGEST_RANGE) {
            call->host->text_add(call->ctx, ret, "%lld\n", (long long)from);
        }
        return result;
    }
    fk_buffer_str(&line, "entries");
    fk_put(&line, "from", range);
    fk_put_int(&line, "limit", DIGEST_RANGE);
    enum co_result result = fake_ask(call, call->conn, &line, false, &answer);
    if (result == CO_DONE) {
        const char *entries = fake_value(&answer, "entries");
        call->host->hash(call->ctx, entries, strlen(entries), digest);
        put(call, ret, digest);
    }
    return result;
}

enum co_result fake_grants(struct co_call *call, struct co_text *ret)
{
    put(call, ret, "# nothing to grant: the accounts tool, replicator and app exist on every fake server\n");
    return CO_DONE;
}
