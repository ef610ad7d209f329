/* check.c - the pre-flight: reads both servers once and lets the rules judge them.
 *
 * Invariant: read-only, and nothing is passed silently: what couldn't be seen is a finding of its own.
 */
#include "facts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void rd_find(struct co_call *call, enum co_severity severity, const struct rd_facts *side, const char *code, const char *remedy,
             const char *format, ...)
{
    RD_TEXT message = NULL;
    struct co_finding finding = {.code = code, .severity = severity, .side = side ? (int)side->side : -1, .remedy = remedy};
    va_list args;

    va_start(args, format);
    if (vasprintf(&message, format, args) < 0)
        message = NULL;
    va_end(args);
    finding.message = message ? message : code;
    call->host->finding(call->ctx, &finding);
}

/* ---------------------------------------------------------------- facts */

void rd_facts_done(struct rd_facts *facts)
{
    rd_state_done(&facts->state);
    rd_replies_done(&facts->replies);
    free(facts->info);
    facts->info = NULL;
}

const char *rd_facts_config(const struct rd_facts *facts, const char *name)
{
    const char *value = rd_config_value(facts->config, name);

    return value ? value : "";
}

int64_t rd_facts_config_int(const struct rd_facts *facts, const char *name, int64_t otherwise)
{
    const char *text = rd_facts_config(facts, name);
    int64_t value;

    return rd_parse_int(text, strlen(text), &value) ? value : otherwise;
}

int64_t rd_facts_calls(const struct rd_facts *facts, const char *command)
{
    RD_TEXT key = NULL;
    const char *value;
    size_t bytes;
    int64_t calls = 0;

    if (asprintf(&key, "cmdstat_%s", command) < 0) {
        key = NULL;
        return 0;
    }
    if (rd_info_get(facts->info, key, &value, &bytes) && rd_field(value, bytes, ',', "calls", &value, &bytes))
        (void)rd_parse_int(value, bytes, &calls);
    return calls;
}

int64_t rd_facts_keys(const struct rd_facts *facts)
{
    int64_t sum = 0;

    for (int database = 0; database < 1024; database++) {
        char key[16];
        const char *value;
        size_t bytes;
        int64_t keys;

        (void)snprintf(key, sizeof(key), "db%d", database);
        if (rd_info_get(facts->info, key, &value, &bytes) && rd_field(value, bytes, ',', "keys", &value, &bytes) &&
            rd_parse_int(value, bytes, &keys))
            sum += keys;
    }
    return sum;
}

static const redisReply *unless_error(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_ERROR ? NULL : reply;
}

static int64_t clock_of(const redisReply *reply)
{
    int64_t seconds, micros;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        !rd_parse_int(rd_text(reply->element[0]), strlen(rd_text(reply->element[0])), &seconds) ||
        !rd_parse_int(rd_text(reply->element[1]), strlen(rd_text(reply->element[1])), &micros))
        return -1;
    return seconds * 1000000 + micros;
}

/* The clock alone and first, so that the round trip is short. */
static enum co_result read_clock(struct co_call *call, struct co_conn *conn, struct rd_facts *ret)
{
    RD_REPLIES(replies);
    enum co_result result;

    ret->asked_ns = call->host->now_ns(call->ctx);
    rd_out(conn, "TIME", NULL);
    result = rd_exchange(call, conn, false, &replies);
    ret->answered_ns = call->host->now_ns(call->ctx);
    ret->clock_us = result == CO_DONE ? clock_of(replies.reply[0]) : -1;
    return result;
}

enum co_result rd_facts_read(struct co_call *call, struct co_conn *conn, enum co_side side, struct rd_facts *ret)
{
    static const char *const sections[] = {"server",      "clients",  "memory",       "persistence", "stats",
                                           "replication", "keyspace", "commandstats", "cluster"};
    const size_t count = sizeof(sections) / sizeof(*sections);
    size_t bytes = 1, used = 0;
    enum co_result result;

    ret->side = side;
    ret->name = side == CO_SIDE_A ? "a" : "b";
    result = rd_look(call, conn, RD_LOOK_ALL, &ret->state);
    if (result == CO_DONE)
        result = read_clock(call, conn, ret);
    if (result != CO_DONE)
        return result;
    for (size_t at = 0; at < count; at++)
        rd_out(conn, "INFO", sections[at], NULL);
    rd_out(conn, "CONFIG", "GET", "*", NULL);
    rd_out(conn, "MODULE", "LIST", NULL);
    rd_out(conn, "ACL", "LIST", NULL);
    rd_out(conn, "CLIENT", "LIST", NULL);
    rd_out(conn, "PUBSUB", "NUMSUB", "__sentinel__:hello", NULL);
    result = rd_exchange(call, conn, false, &ret->replies);
    if (result != CO_DONE)
        return result;
    for (size_t at = 0; at < count; at++)
        bytes += strlen(rd_text(ret->replies.reply[at])) + 1;
    ret->info = malloc(bytes);
    if (!ret->info)
        return rd_fail(call, CO_NO_EFFECT, CO_E_NOMEM, "", "out of memory");
    for (size_t at = 0; at < count; at++) {
        size_t part = strlen(rd_text(ret->replies.reply[at]));

        memcpy(ret->info + used, rd_text(ret->replies.reply[at]), part);
        used += part;
        ret->info[used++] = '\n';
    }
    ret->info[used] = '\0';
    ret->config = unless_error(ret->replies.reply[count]);
    ret->modules = unless_error(ret->replies.reply[count + 1]);
    ret->users = unless_error(ret->replies.reply[count + 2]);
    ret->clients = rd_text(ret->replies.reply[count + 3]);
    ret->sentinels = unless_error(ret->replies.reply[count + 4]);
    ret->reached = true;
    return CO_DONE;
}

/* ---------------------------------------------------------------- the pre-flight */

static void read_side(struct co_call *call, struct co_conn *conn, enum co_side side, struct rd_facts *ret)
{
    struct co_error kept;

    ret->side = side;
    ret->name = side == CO_SIDE_A ? "a" : "b";
    if (conn && rd_facts_read(call, conn, side, ret) == CO_DONE)
        return;
    kept = *call->err;
    memset(call->err, 0, sizeof(*call->err));
    rd_facts_done(ret);
    rd_find(call, CO_ERROR, ret, conn ? "side_unreachable" : CO_FINDING_UNREACHABLE,
            "Make it reachable for the tool; its part of the pre-flight was left out.", "side %s wasn't checked%s%s", ret->name,
            conn ? ": " : ": there is no connection to it", conn ? kept.message : "");
}

enum co_result rd_check(struct co_call *call, enum co_check_stage stage)
{
    struct rd_facts one = {.reached = false}, two = {.reached = false};
    bool is_source = call->role == CO_SOURCE;
    struct rd_facts *source = is_source ? &one : &two, *target = is_source ? &two : &one;

    read_side(call, call->conn, call->side, &one);
    read_side(call, call->other, rd_other_side(call->side), &two);
    if (source->reached)
        rd_check_side(call, stage, source, true);
    if (target->reached)
        rd_check_side(call, stage, target, false);
    if (source->reached && target->reached)
        rd_check_pair(call, stage, source, target);
    rd_facts_done(&one);
    rd_facts_done(&two);
    return CO_DONE;
}
