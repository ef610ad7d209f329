/* check.c - pre-flight: what would go wrong later, each with what to do about it. Read-only. */
#include "check.h"

#include <stdio.h>

void pg_say(struct pg_checkup *checkup, int side, enum co_severity severity, const char *code, const char *remedy,
            const char *format, ...)
{
    va_list args;
    va_start(args, format);
    PG_STRING message = NULL;
    if (vasprintf(&message, format, args) < 0)
        message = NULL;
    va_end(args);
    struct co_finding finding = {
        .code = code, .severity = severity, .side = side, .message = message ? message : format, .remedy = remedy};
    checkup->call->host->finding(checkup->call->ctx, &finding);
}

static enum co_result ask_one(struct pg_checkup *checkup, const struct pg_question *question, struct co_conn *conn,
                              enum co_side side)
{
    if (!conn || conn->version < question->since || (question->before && conn->version >= question->before))
        return CO_DONE;
    PG_RESULT rows = NULL;
    enum co_result result = pg_query(checkup->call, conn, PG_READ, question->sql, 0, NULL, &rows);
    if (result != CO_DONE && conn->broken)
        return result;
    if (result != CO_DONE) {
        pg_say(checkup, (int)side, CO_WARNING, "not_checked", "Run check as an account with pg_monitor, or as a superuser.",
               "%s could not be checked: %s", question->code, checkup->call->err->message);
        return CO_DONE;
    }
    if (PQntuples(rows) == 0 || PQgetisnull(rows, 0, 0))
        return CO_DONE;
    char detail[400];
    pg_one_line(detail, sizeof detail, pg_value(rows, 0, 0));
    const char *hole = strstr(question->message, "%s");
    PG_TEXT text = {0};
    pg_text_bytes(&text, question->message, hole ? (size_t)(hole - question->message) : strlen(question->message));
    if (hole) {
        pg_text_add(&text, detail);
        pg_text_add(&text, hole + 2);
    }
    pg_say(checkup, (int)side, question->severity, question->code, question->remedy, "%s", pg_text_str(&text));
    return CO_DONE;
}

enum co_result pg_ask(struct pg_checkup *checkup, const struct pg_question *questions, size_t count)
{
    unsigned stage = checkup->stage == CO_CHECK_SETUP ? PG_AT_SETUP : PG_AT_CUTOVER;
    enum co_result result = CO_DONE;
    for (size_t i = 0; result == CO_DONE && i < count; i++) {
        if (!(questions[i].stages & stage))
            continue;
        if (questions[i].of & PG_OF_SOURCE)
            result = ask_one(checkup, &questions[i], checkup->source, checkup->source_side);
        if (result == CO_DONE && questions[i].of & PG_OF_TARGET)
            result = ask_one(checkup, &questions[i], checkup->target, checkup->target_side);
    }
    return result;
}

enum co_result pg_check(struct co_call *call, enum co_check_stage stage)
{
    bool source = call->role == CO_SOURCE;
    struct pg_checkup checkup = {
        .call = call,
        .stage = stage,
        .source_side = source ? call->side : pg_other_side(call->side),
        .target_side = source ? pg_other_side(call->side) : call->side,
        .source = source ? call->conn : call->other,
        .target = source ? call->other : call->conn,
    };
    enum co_result result = CO_DONE;
    if (checkup.target) {
        PG_RESULT rows = NULL;
        result = pg_query(call, checkup.target, PG_READ, "SELECT pg_catalog.pg_is_in_recovery()", 0, NULL, &rows);
        checkup.follows = result == CO_DONE && pg_is_true(rows, 0, 0) && checkup.source &&
                          strcmp(checkup.source->lineage, checkup.target->lineage) == 0;
    }
    if (!checkup.source)
        pg_say(&checkup, (int)checkup.source_side, CO_ERROR, CO_FINDING_UNREACHABLE, "See `changeover status` for the reason.",
               "the source was not reached, so nothing of it was checked");
    if (!checkup.target && stage == CO_CHECK_CUTOVER)
        pg_say(&checkup, (int)checkup.target_side, CO_ERROR, CO_FINDING_UNREACHABLE, "See `changeover status` for the reason.",
               "the target was not reached, so nothing of it was checked");
    if (result == CO_DONE)
        result = pg_check_server(&checkup);
    if (result == CO_DONE)
        result = pg_check_pair(&checkup);
    if (result == CO_DONE)
        result = pg_check_environment(&checkup);
    return result;
}
