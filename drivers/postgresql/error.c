/* error.c - what went wrong, in the contract's words, from what the server or libpq said. */
#include "pg.h"

#include <stdio.h>

enum co_result pg_fail(struct co_call *call, enum co_result result, int code, const char *hint, const char *format, ...)
{
    struct co_error *err = call->err;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    err->code = code;
    err->native[0] = 0;
    snprintf(err->hint, sizeof err->hint, "%s", hint ? hint : "");
    return result;
}

void pg_one_line(char *ret, size_t size, const char *text)
{
    size_t used = 0;
    bool space = false;
    for (const char *at = text; *at && used + 2 < size; at++) {
        if (*at == '\n' || *at == '\r' || *at == '\t' || *at == ' ') {
            space = used > 0;
            continue;
        }
        if (space)
            ret[used++] = ' ';
        space = false;
        ret[used++] = *at;
    }
    ret[used] = 0;
}

int pg_code_of_state(const char *state)
{
    static const struct {
        const char *prefix;
        int code;
    } table[] = {
        {PG_STATE_TOKEN, CO_E_CONFLICT}, {PG_STATE_REFUSE, CO_E_STATE},
        {"08", CO_E_UNREACHABLE},        {"28", CO_E_AUTH},
        {"42501", CO_E_PRIVILEGE},       {"25006", CO_E_REFUSED},
        {"57014", CO_E_TIMEOUT},         {"55P03", CO_E_TIMEOUT},
        {"57P01", CO_E_UNREACHABLE},     {"57P02", CO_E_UNREACHABLE},
        {"57P03", CO_E_UNREACHABLE},     {"57P05", CO_E_UNREACHABLE},
        {"57P04", CO_E_UNREACHABLE},     {"53300", CO_E_UNREACHABLE},
        {"53100", CO_E_SPACE},           {"53200", CO_E_SERVER},
        {"0A000", CO_E_UNSUPPORTED},     {"55000", CO_E_STATE},
        {"38000", CO_E_COMMAND},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (pg_starts(state, table[i].prefix))
            return table[i].code;
    return CO_E_SERVER;
}

bool pg_state_is(const struct co_error *err, const char *sqlstate)
{
    return strcmp(err->native, sqlstate) == 0;
}

void pg_server_error(struct co_call *call, const PGresult *result)
{
    struct co_error *err = call->err;
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
    if (!message)
        message = PQresultErrorMessage(result);
    snprintf(err->native, sizeof err->native, "%s", state ? state : "");
    err->code = state ? pg_code_of_state(state) : CO_E_UNREACHABLE;
    char line[480], more[140];
    pg_one_line(line, sizeof line, message ? message : "no message");
    pg_one_line(more, sizeof more, detail ? detail : "");
    snprintf(err->message, sizeof err->message, "%s%s%s%s", line, *more ? " (" : "", more, *more ? ")" : "");
    if (strcmp(err->native, PG_STATE_TOKEN) == 0)
        snprintf(err->hint, sizeof err->hint, "%s",
                 "Another process took this run over, or another run holds the server; look with `changeover status`.");
    else if (err->code == CO_E_PRIVILEGE)
        snprintf(err->hint, sizeof err->hint, "%s",
                 "Give the tool's account what `changeover init --grants` prints, or use a superuser.");
    else
        pg_one_line(err->hint, sizeof err->hint, hint ? hint : "");
}
